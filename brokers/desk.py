"""The order desk: threads that carry out what was decided. Journal first, then the broker, then the outcome as an event.

No state lock is ever held here. One symbol's work is done in order by one thread at a time; other symbols go on beside it.
Exits, stops and cancels go before entries. An entry that nobody wants any more when its turn comes is never sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Protocol, TypeVar

from brokers.base import Broker, BrokerError, Fatal, Frugal, OrderRow, Paced, Refused, Unanswered, Unavailable
from brokers.breaker import Breaker
from brokers.reports import Reports
from state.clock import Clock
from state.commands import Alarm, Cancel, Command, Query, Replace, Submit
from state.events import Accepted, Acknowledged, Act, Event, NotSent, WasRefused, WentUnanswered
from state.journal import JournalFailed
from state.machine import why_not_carry_out
from state.orders import ZERO, Order, Purpose, Side
from state.symbol_state import SymbolState, Work
from state.threads import OS_THREADS, Threads

T = TypeVar("T")
STALE_ENTRY_MS = 10_000  # an entry that waited longer for a desk was decided on a price that is history


class Recorder(Protocol):
    """The journal, as the desk needs it: durable when it returns."""

    def commit_many(self, works: list[Work]) -> None: ...


class DeskListener(Protocol):
    """Told after the fact; must not block."""

    def carried_out(self, work: Work) -> None: ...
    def defect(self, where: str, error: BaseException) -> None: ...
    def fatal(self, reason: str) -> None: ...
    def journal(self, failed: str | None) -> None: ...


class Outbox:
    """Work of many symbols, waiting. `put` never blocks; it may be called under a symbol's lock and calls nobody."""

    def __init__(self, threads: Threads = OS_THREADS) -> None:
        self._ready = threads.condition()  # guards everything below
        self._lanes: dict[str, list[Work]] = {}
        self._busy: set[str] = set()
        self._urgent: deque[str] = deque()
        self._normal: deque[str] = deque()
        self._closed = False

    def put(self, symbol: str, work: Work) -> None:
        with self._ready:
            self._lanes.setdefault(symbol, []).append(work)
            (self._urgent if is_urgent(work) else self._normal).append(symbol)
            self._ready.notify()

    def take(self, timeout_s: float | None) -> tuple[str, list[Work]] | None:
        """All waiting work of one symbol, which stays taken until `done`. None after the time-out or when closed and empty."""
        with self._ready:
            while True:
                symbol = self._next()
                if symbol is not None:
                    self._busy.add(symbol)
                    return symbol, self._lanes.pop(symbol)
                if self._closed or timeout_s == 0 or not self._ready.wait(timeout_s):
                    return None

    def done(self, symbol: str) -> None:
        with self._ready:
            self._busy.discard(symbol)
            if symbol in self._lanes:
                urgent = any(is_urgent(work) for work in self._lanes[symbol])
                (self._urgent if urgent else self._normal).appendleft(symbol)
                self._ready.notify()

    def close(self) -> None:
        """No more waiting: `take` gives out what is left, then None."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    @property
    def idle(self) -> bool:
        with self._ready:
            return not self._lanes and not self._busy

    def depth(self) -> int:
        with self._ready:
            return sum(len(lane) for lane in self._lanes.values())

    def _next(self) -> str | None:
        for queue in (self._urgent, self._normal):
            while queue:
                symbol = queue.popleft()
                if symbol in self._lanes and symbol not in self._busy:
                    return symbol
        return None


def is_urgent(work: Work) -> bool:
    return any(_rank(command) == 0 for command in work.commands)


def _rank(command: Command) -> int:
    """0 reduces or protects, 1 opens, 2 asks or tells."""
    if isinstance(command, Query | Alarm):
        return 2
    if isinstance(command, Submit):
        return 1 if command.order.purpose is Purpose.ENTRY else 0
    return 0


class Desk:
    """Carries out work. `run` is the body of each desk thread; a replay calls `drain` instead and needs no thread."""

    def __init__(
        self,
        broker: Broker,
        recorder: Recorder,
        states: Mapping[str, SymbolState],
        outbox: Outbox,
        reports: Reports,
        clock: Clock,
        listener: DeskListener,
        deny: Callable[[Order], str | None] = lambda order: None,
        tell: Callable[[str], None] = lambda text: None,
        breaker: Breaker | None = None,
    ) -> None:
        self._broker = broker
        self._recorder = recorder
        self._states = states
        self._outbox = outbox
        self._reports = reports
        self._clock = clock
        self._listener = listener
        self._deny = deny
        self._tell_person = tell  # what no symbol's story tells; must not block
        self._breaker = breaker or Breaker(clock)
        self._unwritten_lock = clock.threads.lock()
        self._unwritten: list[Work] = []

    def run(self) -> None:
        while True:
            taken = self._outbox.take(None)
            if taken is None:
                return
            try:
                self._carry_out_all(*taken)
            except Exception as error:  # a defect with one symbol's work must not cost the others their desk
                self._listener.defect(f"the desk, {taken[0]}", error)

    def drain(self) -> None:
        """Carry out everything there is, in this thread."""
        while True:
            taken = self._outbox.take(0)
            if taken is None:
                return
            self._carry_out_all(*taken)

    def write_the_rest(self) -> None:
        """What could not be written goes with the next work; where none comes, somebody calls this now and then."""
        if self._unwritten:
            self._commit([])

    # -- one symbol's work -------------------------------------------------------------------------------------------------

    def _carry_out_all(self, symbol: str, works: list[Work]) -> None:
        try:
            written = self._commit(works)
            loud = [work for work in works if any(isinstance(command, Alarm) for command in work.commands)]
            for work in loud:  # before anything that may take long
                self._listener.carried_out(work)
            commands = [command for work in works for command in work.commands]
            for command in sorted(commands, key=_rank):
                try:
                    self._carry_out(symbol, command, written)
                except Exception as error:  # a defect with one command must not cost the stop behind it
                    self._listener.defect(f"the desk, {symbol} {type(command).__name__}", error)
            for work in works:
                if not any(work is told for told in loud):
                    self._listener.carried_out(work)
        finally:
            self._outbox.done(symbol)

    def _commit(self, works: list[Work]) -> bool:
        """Say it before doing it. What could not be written waits in memory; entries wait with it, protection does not."""
        with self._unwritten_lock:
            batch = [*self._unwritten, *works]
            had_failed = bool(self._unwritten)
            try:
                self._recorder.commit_many(batch)
            except JournalFailed as error:
                self._unwritten = batch
                self._listener.journal(str(error))
                return False
            self._unwritten = []
        if had_failed:
            self._listener.journal(None)
        return True

    def _carry_out(self, symbol: str, command: Command, written: bool) -> None:
        if isinstance(command, Alarm):
            return  # told with the story of its work
        if isinstance(command, Query):
            self._query(symbol, command.order)
        elif isinstance(command, Submit):
            self._submit(symbol, command, written)
        elif isinstance(command, Replace):
            self._ask(symbol, command, Act.REPLACE)
        else:
            self._ask(symbol, command, Act.CANCEL)

    # -- broker calls ------------------------------------------------------------------------------------------------------

    def _submit(self, symbol: str, command: Submit, written: bool) -> None:
        order = command.order
        reason = self._why_not(symbol, command) or self._why_not_enter(order, written)
        if reason is None and order.purpose is Purpose.EXIT and (short := self._venue_holds_less(symbol, order.side, order.qty)):
            self._tell(symbol, NotSent, order, act=Act.SUBMIT, reason=short)
            return
        if reason is not None:
            self._tell(symbol, NotSent, order, act=Act.SUBMIT, reason=reason, again=False)
            return
        try:
            venue_id = self._answered(order, lambda: self._broker.submit(order))
        except Refused as error:
            self._tell(symbol, WasRefused, order, act=Act.SUBMIT, reason=str(error))
        except Unavailable as error:
            self._tell(symbol, NotSent, order, act=Act.SUBMIT, reason=str(error))
        except Fatal as error:
            self._tell(symbol, WasRefused, order, act=Act.SUBMIT, reason=str(error))
            self._listener.fatal(str(error))
        except Unanswered as error:
            early = [] if error.venue_id is None else self._reports.bind(symbol, order.client_id, error.venue_id)
            self._tell(symbol, WentUnanswered, order, act=Act.SUBMIT, reason=str(error), venue_id=error.venue_id)
            self._catch_up(early)
        except Exception as error:  # after the send even a defect of ours does not mean "not sent"
            self._tell(symbol, WentUnanswered, order, act=Act.SUBMIT, reason=f"{type(error).__name__}: {error}")
        else:
            early = self._reports.bind(symbol, order.client_id, venue_id)
            self._tell(symbol, Accepted, order, venue_id=venue_id)
            self._catch_up(early)

    def _catch_up(self, early: list[OrderRow]) -> None:
        """What the stream said of an order before its own answer came."""
        for row in early:
            self._reports.order_update(row, self._clock.monotonic_ms(), "stream")

    def _why_not(self, symbol: str, command: Command) -> str | None:
        state = self._states[symbol]
        return why_not_carry_out(state.snapshot, command, state.rules, self._clock.now_ms())

    def _why_not_enter(self, order: Order, written: bool) -> str | None:
        if order.purpose is not Purpose.ENTRY:
            return None
        if not written:
            return "the journal cannot be written"
        if self._clock.monotonic_ms() - order.changed_ms > STALE_ENTRY_MS:
            return "it waited too long for a desk"
        try:
            denied = self._deny(order)
        except Exception as error:  # a check that fails has not said yes
            self._listener.defect(f"the risk check of {order.client_id}", error)
            return f"the risk check failed: {type(error).__name__}"
        return denied or self._breaker.why_not(order.client_id)  # last: who passes it is sent

    def _why_not_cancel(self, symbol: str, command: Replace | Cancel) -> str | None:
        """The stop goes to make room for an exit. An exit that would be held back is no reason to be without a stop."""
        s = self._states[symbol].snapshot
        if not isinstance(command, Cancel) or command.order.purpose is not Purpose.STOP or not s.closing or not s.position:
            return None
        return self._venue_holds_less(symbol, Side.SELL if s.position > 0 else Side.BUY, abs(s.position))

    def _venue_holds_less(self, symbol: str, side: Side, qty: Decimal) -> str | None:
        """An exit must not turn a position round that somebody else has closed: the venue is asked first.

        A failed read stops no exit, and none waits until the venue affords a read.
        """
        if isinstance(self._broker, Frugal) and not self._broker.affords_a_look(True):
            return None
        name = self._states[symbol].rules.instrument.base if self._broker.capabilities.balances else symbol
        try:
            held = next((row.qty for row in self._broker.positions() if row.symbol == name), ZERO)
        except BrokerError:
            return None
        ours = held - (self._states[symbol].snapshot.foreign_qty or ZERO)
        if ours * side.sign <= -qty:
            return None
        return f"the venue holds only {ours} for an exit of {qty}"

    def _ask(self, symbol: str, command: Replace | Cancel, act: Act) -> None:
        """A change or a cancel of a working order."""
        if self._why_not(symbol, command) is not None:
            return
        order = command.order
        if (reason := self._why_not_cancel(symbol, command)) is not None:
            row = self._query(symbol, order)
            if row is None or not row.filled:  # else it is this very order that has just filled: no difference to tell of
                self._tell(symbol, NotSent, order, act=act, reason=reason)
            return
        try:
            self._answered(order, partial(self._change, command))
        except Refused as error:
            self._tell(symbol, WasRefused, order, act=act, reason=str(error))
        except Unavailable as error:
            self._tell(symbol, NotSent, order, act=act, reason=str(error))
        except Fatal as error:
            self._tell(symbol, NotSent, order, act=act, reason=str(error))
            self._listener.fatal(str(error))
        except Exception as error:
            self._tell(symbol, WentUnanswered, order, act=act, reason=f"{type(error).__name__}: {error}")
        else:
            self._tell(symbol, Acknowledged, order, act=act)

    def _change(self, command: Replace | Cancel) -> None:
        if isinstance(command, Replace):
            self._broker.replace(command.order, command.qty, command.trigger_price, command.limit_price)
        else:
            self._broker.cancel(command.order)

    def _answered(self, order: Order, call: Callable[[], T]) -> T:
        """One order call, whose outcome the breaker counts. Yes and no are answers; silence and defects are not.

        What our own brake held back says nothing about the broker.
        """
        try:
            answer = call()
        except Exception as error:
            if isinstance(error, Refused | Fatal):
                self._count_answer(order)
            elif not isinstance(error, Paced) and self._breaker.failed(order.client_id):
                self._tell_person(f"the broker fails again and again ({error}): no entries until it answers; exits go on")
            raise
        self._count_answer(order)
        return answer

    def _count_answer(self, order: Order) -> None:
        if self._breaker.worked(order.client_id):
            self._tell_person("the broker answers orders again: entries are let through")

    def _query(self, symbol: str, order: Order) -> OrderRow | None:
        """A failed read is no evidence and makes no event; the poller asks again."""
        asked_ms = self._clock.monotonic_ms()
        try:
            row = self._broker.order(order)
        except (Refused, Unavailable, Unanswered):
            return None
        except Fatal as error:
            self._listener.fatal(str(error))
            return None
        if row is not None:
            self._reports.order_update(row, asked_ms, "reply")
        return row

    def _tell(self, symbol: str, event: Callable[..., Event], order: Order, **fields: Any) -> None:
        now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
        self._states[symbol].apply(event(client_id=order.client_id, **fields, **now))
