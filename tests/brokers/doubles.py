"""Doubles for desk and poller: a venue that can be told how to fail, a recorder, a listener, a lock that knows its owner.

`Venue` is the real matching engine behind the Broker protocol, with a script of faults per call. It and `Notebook` note whenever
they are called by a thread that holds a symbol's lock.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from brokers.base import Capabilities, FillRow, OrderRow, PositionRow, Refused, Reported, SessionHours, Unanswered, Unavailable
from brokers.matching import MatchingEngine
from state.clock import Clock
from state.instrument import Instrument
from state.journal_file import JournalFailed
from state.orders import Order
from state.symbol_state import SymbolState, Work

STALL_S = 30.0  # no test may wait longer for a stalled call to be let go

Act = Callable[[], Any]
Fault = Callable[[Act], Any]


def refused(reason: str = "no") -> Fault:
    return lambda act: _raise(Refused(reason))


def unreachable(act: Act) -> Any:
    """Nothing was sent."""
    raise Unavailable("connection refused")


def lost(act: Act) -> Any:
    """Sent, never arrived, no answer."""
    raise Unanswered("read timed out")


def done_but_lost(act: Act) -> Any:
    """Carried out; the answer never came."""
    act()
    raise Unanswered("read timed out")


def done_but_garbled(act: Act) -> Any:
    """Carried out; reading the answer raises in our own code."""
    act()
    raise KeyError("orderid")


def only_said(act: Act) -> Any:
    """Answered yes, nothing done."""
    return None


def stalled(let_go: threading.Event, waiting: threading.Event | None = None) -> Fault:
    def fault(act: Act) -> Any:
        if waiting is not None:
            waiting.set()
        if not let_go.wait(STALL_S):
            raise AssertionError("nobody let the stalled call go")
        return act()

    return fault


def ok(act: Act) -> Any:
    return act()


def _raise(error: Exception) -> Any:
    raise error


class OwnedLock:
    """An RLock that knows whether this thread holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = self._lock.acquire(blocking, timeout)
        self._depth += taken
        return taken

    def release(self) -> None:
        self._depth -= 1
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def held(self) -> bool:
        return self._depth > 0 and self._lock._is_owned()  # type: ignore[attr-defined]


class Guard:
    """Which symbol locks exist, and who called from under one."""

    def __init__(self) -> None:
        self._locks: list[OwnedLock] = []
        self.violations: list[str] = []

    def watch(self, states: Iterable[SymbolState]) -> None:
        for state in states:
            lock = OwnedLock()
            state._lock = lock  # type: ignore[assignment]
            self._locks.append(lock)

    def check(self, what: str) -> None:
        if any(lock.held() for lock in self._locks):
            self.violations.append(what)
            raise AssertionError(f"{what} called under a symbol lock")


class Venue:
    """A `Broker`. `script` queues faults per call; every other call is carried out. Rows carry no client ids unless asked to."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        clock: Clock,
        guard: Guard | None = None,
        *,
        client_ids: bool = False,
        settle_window_s: float = 30.0,
        **engine: Any,
    ) -> None:
        self.capabilities = Capabilities(client_ids, True, True, True, settle_window_s)
        self._instruments = instruments
        self._clock = clock
        self._guard = guard or Guard()
        self._lock = threading.Lock()  # guards the engine and the lists
        self.engine = MatchingEngine(instruments, **engine)
        self.calls: list[tuple[str, str]] = []  # verb, client order id
        self.submitted: list[Order] = []  # what reached the book, in order
        self._script: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}

    # -- for the test ----------------------------------------------------------------------------------------------------

    def script(self, verb: str, *faults: Fault) -> None:
        """What happens to the next calls of `verb`, one by one."""
        self._script[verb].extend(faults)

    def always(self, verb: str, fault: Fault | None) -> None:
        """What happens to every further call of `verb` that has no script; None: carried out again."""
        if fault is None:
            self._always.pop(verb, None)
        else:
            self._always[verb] = fault

    def count(self, verb: str) -> int:
        with self._lock:
            return sum(1 for name, _ in self.calls if name == verb)

    def tick(self, symbol: str, price: Decimal, at_ms: int, available: Decimal | None = None) -> list[OrderRow | FillRow]:
        with self._lock:
            changes = self.engine.tick(symbol, price, at_ms, available)
        return [self._as_shown(change) if isinstance(change, OrderRow) else change for change in changes]

    def working(self, symbol: str | None = None) -> list[OrderRow]:
        with self._lock:
            rows = self.engine.orders()
        return [row for row in rows if row.state is Reported.WORKING and symbol in (None, row.symbol)]

    def book(self, symbol: str | None = None) -> list[str]:
        """What works, in words: "SELL STOP 5 @ 730.15"; the quantity is what is left."""
        return [_describe(row) for row in self.working(symbol)]

    def net(self, symbol: str) -> Decimal:
        with self._lock:
            return next((row.qty for row in self.engine.positions() if row.symbol == symbol), Decimal(0))

    def arrive(self, order: Order) -> str:
        """An order whose answer was lost reaches the book after all; or a stranger's order does."""
        with self._lock:
            venue_id = self.engine.submit(order, self._clock.now_ms())
            self.submitted.append(order)
            return venue_id

    def end(self, venue_id: str, state: Reported) -> OrderRow:
        """The venue ends an order by itself: a rejection, an expiry, a cancel by the exchange."""
        with self._lock:
            self.engine._close(self.engine._entries[venue_id], state)
            row = self.engine.order(venue_id)
        assert row is not None
        return self._as_shown(row)

    def forget(self, venue_id: str) -> None:
        """The venue's books no longer show this order at all."""
        with self._lock:
            entry = self.engine._entries.pop(venue_id)
            self.engine._working.get(entry.order.symbol, {}).pop(venue_id, None)

    # -- Broker ----------------------------------------------------------------------------------------------------------

    def check(self) -> str:
        return "double"

    def submit(self, order: Order) -> str:
        venue_id: str = self._call("submit", order.client_id, lambda: self.arrive(order))
        return venue_id

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        def act() -> None:
            with self._lock:
                self.engine.replace(order.venue_id or "", qty, trigger_price, limit_price, self._clock.now_ms())

        self._call("replace", order.client_id, act)

    def cancel(self, order: Order) -> None:
        def act() -> None:
            with self._lock:
                self.engine.cancel(order.venue_id or "", self._clock.now_ms())

        self._call("cancel", order.client_id, act)

    def order(self, order: Order) -> OrderRow | None:
        def act() -> OrderRow | None:
            with self._lock:
                row = self.engine.order(order.venue_id or "")
            return None if row is None else self._as_shown(row)

        row: OrderRow | None = self._call("order", order.client_id, act)
        return row

    def orders(self) -> list[OrderRow]:
        def act() -> list[OrderRow]:
            with self._lock:
                return [self._as_shown(row) for row in self.engine.orders()]

        rows: list[OrderRow] = self._call("orders", "", act)
        return rows

    def fills(self) -> list[FillRow]:
        def act() -> list[FillRow]:
            with self._lock:
                return self.engine.fills()

        rows: list[FillRow] = self._call("fills", "", act)
        return rows

    def positions(self) -> list[PositionRow]:
        def act() -> list[PositionRow]:
            with self._lock:
                return self.engine.positions()

        rows: list[PositionRow] = self._call("positions", "", act)
        return rows

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        def act() -> dict[str, Decimal]:
            with self._lock:
                prices = {symbol: self.engine.last(symbol) for symbol in symbols}
            return {symbol: price for symbol, price in prices.items() if price is not None}

        prices: dict[str, Decimal] = self._call("quotes", "", act)
        return prices

    def instrument(self, symbol: str) -> Instrument:
        return self._instruments[symbol]

    def session_hours(self, day: date) -> SessionHours | None:
        return None

    def skew_ms(self) -> int | None:
        return None

    def refused(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        """Nothing is open."""

    def _call(self, verb: str, client_id: str, act: Act) -> Any:
        self._guard.check(f"broker.{verb}")
        with self._lock:
            self.calls.append((verb, client_id))
            script = self._script[verb]
            fault = script.popleft() if script else self._always.get(verb, ok)
        return fault(act)

    def _as_shown(self, row: OrderRow) -> OrderRow:
        client_id = row.client_id if self.capabilities.client_ids else None
        return msgspec.structs.replace(row, client_id=client_id, label="")


def _describe(row: OrderRow) -> str:
    price = row.trigger_price if row.trigger_price is not None else row.limit_price
    left = row.qty - (row.filled or Decimal(0))
    return f"{row.side.value} {row.type.value if row.type else '?'} {left} @ {'market' if price is None else price}"


class Notebook:
    """A `Recorder` in memory. `fail` makes the next commits fail."""

    def __init__(self, guard: Guard | None = None) -> None:
        self._guard = guard or Guard()
        self.works: list[Work] = []
        self.failing: str | None = None

    def commit_many(self, works: list[Work]) -> None:
        self._guard.check("journal.commit")
        if self.failing is not None:
            raise JournalFailed(self.failing)
        self.works += works


class Listener:
    """Everything desk and poller have to say."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.said: list[str] = []
        self.defects: list[str] = []

    def carried_out(self, work: Work) -> None:
        self.works.append(work)

    def defect(self, where: str, error: BaseException) -> None:
        self.defects.append(f"{where}: {type(error).__name__}: {error}")

    def fatal(self, reason: str) -> None:
        self.said.append(f"fatal: {reason}")

    def journal(self, failed: str | None) -> None:
        self.said.append("journal: written again" if failed is None else f"journal: {failed}")

    def sweeping(self) -> None:
        """A round begins."""

    def compared(self, ahead_ms: int | None) -> None:
        """Our clock and the venue's."""

    def swept(self) -> None:
        self.said.append("swept")

    def poll_failed(self, failures: int, reason: str) -> None:
        self.said.append(f"poll failed {failures}: {reason}")
