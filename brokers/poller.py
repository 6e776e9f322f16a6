"""The poll thread: every 5 seconds the venue's orders, fills and positions become events; sooner while an order is in question.

Drift-free: a sweep that took long does not move the next one. A failed read makes no event and no conclusion. While a symbol's
ticks are stale its price is asked for here, so that stops are watched by somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from brokers.base import Broker, BrokerError, Fatal, Frugal, PositionRow, Refused, Resolver, Unreadable
from brokers.reports import Reports
from state.clock import Clock
from state.orders import Order, Purpose, Status
from state.snapshot import Snapshot
from state.symbol_state import NEVER_MS, SymbolState

PULSE_S = 0.5
YOUNG_MS = 5_000  # an order that changed since then is looked at in every pulse: it may fill on arrival
LIVE_GAP_MS = 1_000  # orders that rest at the venue: where no stream tells of a fill, this is how late it is heard of
DOUBT_GAP_MS = 2_000  # an old question: looking more often answers it no sooner
ASKED_FOR_IN_A_SWEEP = 40  # orders that the book did not show, each asked for by its id; the others wait their turn
FAILURES_BEARABLE = 3


class PollListener(Protocol):
    """Told after the fact; must not block."""

    def sweeping(self) -> None: ...
    def compared(self, ahead_ms: int | None) -> None: ...
    def swept(self) -> None: ...
    def poll_failed(self, failures: int, reason: str) -> None: ...
    def fatal(self, reason: str) -> None: ...


class Poller:
    """`run` is the body of the thread named "poll"; `sweep` is one round, also called at start and after a reconnect."""

    def __init__(
        self,
        broker: Broker,
        states: Mapping[str, SymbolState],
        reports: Reports,
        clock: Clock,
        listener: PollListener,
        interval_s: float,
        stale: Callable[[], list[str]] = list,
    ) -> None:
        self._broker = broker
        self._states = states
        self._reports = reports
        self._clock = clock
        self._listener = listener
        self._interval_ms = max(int(interval_s * 1000), 1)
        self._stale = stale
        self._stop = clock.threads.event()
        self._wanted = clock.threads.event()
        self._turn: object = None  # of the thread that polls: another one may have to take its place
        self._failures = 0
        self._positions_ms: int | None = None  # when they were last read
        self._unclear = False
        self._asked_ms = clock.monotonic_ms() - int(PULSE_S * 1000)
        self._asked_for: dict[str, int] = {}  # orders the book does not show -> how often they were asked for
        self.alive_ms = clock.monotonic_ms()
        self.sweeps = 0  # whole rounds that were answered

    def run(self) -> None:
        next_ms = self._clock.monotonic_ms() + self._interval_ms
        mine = self._turn = object()
        while not self._stop.is_set() and self._turn is mine:
            self.alive_ms = self._clock.monotonic_ms()
            if self.alive_ms >= next_ms or self._wanted.is_set():
                self._wanted.clear()
                self.sweep()
            elif self.curious():
                self.sweep(positions=any(_is_held_doubtful(state.snapshot) for state in self._states.values()))
            behind_ms = self._clock.monotonic_ms() - next_ms
            if behind_ms >= 0:  # rounds that were missed are not made up for
                next_ms += (behind_ms // self._interval_ms + 1) * self._interval_ms
            pause_ms = min(next_ms - self._clock.monotonic_ms(), int(PULSE_S * 1000))
            self._clock.wait(self._wanted, max(pause_ms, 1) / 1000)

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()

    def soon(self) -> None:
        """Sweep now: after a reconnect, for instance."""
        self._wanted.set()

    def look_soon(self) -> None:
        """Something happened that only the books can tell: look at the next pulse, however many such messages come."""
        self._unclear = True

    def sweep(self, positions: bool = True, source: str = "poll") -> bool:
        """One round. True when the venue answered everything."""
        self._listener.sweeping()
        self._unclear = False
        asked_ms = self._asked_ms = self._clock.monotonic_ms()
        try:
            orders = self._broker.orders()
            fills = self._broker.fills()
        except Unreadable as error:
            self._ask_for_each(source)
            return self._failed(error)
        except BrokerError as error:
            return self._failed(error)
        for order in self._reports.unresolved():
            self._resolve(order)
        held, failure = self._look_further(positions)
        for order in self._in_turn(self._reports.sweep(orders, fills, held, asked_ms, source)):
            self._ask_for(order)
        if failure is not None:
            return self._failed(failure)
        self._failures = 0
        self.sweeps += positions
        self._compare_clocks()
        self._listener.swept()
        return True

    def _ask_for_each(self, source: str) -> None:
        """One book cannot be read, for the row of a stranger perhaps: our own orders are asked for by their ids (FIL-16)."""
        try:
            for fill in self._broker.fills():
                self._reports.fill(fill, source)
        except Unreadable:
            pass  # the trade book it was
        except BrokerError:
            return
        live = (order for state in self._states.values() for order in state.snapshot.live_orders())
        for order in self._in_turn([order for order in live if order.venue_id is not None]):
            self._ask_for(order)

    def _resolve(self, order: Order) -> None:
        """By the venue's own procedure; what it cannot say yet it is asked again in the next round."""
        assert isinstance(self._broker, Resolver)
        asked_ms = self._clock.monotonic_ms()
        try:
            row = self._broker.resolve(order)
        except Refused as error:
            self._reports.doubtful(order, str(error))
        except BrokerError:
            return
        else:
            self._reports.resolved(order, row, asked_ms)

    def _compare_clocks(self) -> None:
        """By answers that have come anyway."""
        ahead_ms = self._broker.skew_ms()
        self._reports.ahead_ms = max(ahead_ms or 0, 0)
        self._listener.compared(ahead_ms)

    def _look_further(self, positions: bool) -> tuple[list[PositionRow] | None, BrokerError | None]:
        """Positions and prices. When they fail, orders and fills are news all the same."""
        held = None
        try:
            positions = positions and self._positions_due()
            held = self._broker.positions() if positions else None
            self._watch_stale()
        except BrokerError as error:
            self._positions_ms = self._positions_ms if held is not None else None  # not read: due at once
            return held, error
        return held, None

    def _positions_due(self) -> bool:
        """In every round, unless the venue affords it less often; what is in doubt is always asked for."""
        now_ms, every_ms = self._clock.monotonic_ms(), int(self._broker.capabilities.positions_every_s * 1000)
        due = self._positions_ms is None or now_ms - self._positions_ms >= every_ms
        if not due and not any(_is_held_doubtful(state.snapshot) for state in self._states.values()):
            return False
        self._positions_ms = now_ms
        return True

    def _in_turn(self, missing: list[Order]) -> list[Order]:
        """As many as a sweep has time for: who has waited longest, of these protection first."""
        asked = {order.client_id: self._asked_for.get(order.client_id, 0) for order in missing}
        missing = sorted(missing, key=lambda order: (asked[order.client_id], order.purpose is Purpose.ENTRY))
        chosen = missing[:ASKED_FOR_IN_A_SWEEP]
        self._asked_for = asked | {order.client_id: asked[order.client_id] + 1 for order in chosen}
        return chosen

    def _ask_for(self, order: Order) -> None:
        """The book did not show it. Absent never means cancelled: its own id is asked for first."""
        asked_ms = self._clock.monotonic_ms()
        try:
            row = self._broker.order(order)
        except BrokerError:
            return
        if row is None:
            self._reports.missing(order, asked_ms)
        else:
            self._reports.order_update(row, asked_ms, "poll")

    def _failed(self, error: BrokerError) -> bool:
        if isinstance(error, Fatal):
            self._listener.fatal(str(error))
        self._failures += 1
        self._listener.poll_failed(self._failures, str(error))
        return False

    def _watch_stale(self) -> None:
        """Prices for the positions whose ticks have stopped."""
        symbols = [symbol for symbol in self._stale() if self._states[symbol].snapshot.position]
        if symbols:
            for symbol, price in self._broker.quotes(symbols).items():
                self._states[symbol].tick(price, self._clock.now_ms())

    def curious(self) -> bool:
        """Is it time to look again before the next round? In every pulse while an order is young; else as its state allows."""
        now_ms = self._clock.monotonic_ms()
        since_ms = now_ms - self._asked_ms
        if since_ms < int(PULSE_S * 1000) or self._failures >= FAILURES_BEARABLE:
            return False  # a venue that answers nobody is asked once in a round
        settle_ms = self._reports.settle_ms
        gap_ms = min((_gap_ms(state.snapshot, now_ms, settle_ms) for state in self._states.values()), default=NEVER_MS)
        in_question = self._unclear or gap_ms == 0
        if not in_question and since_ms < gap_ms:
            return False
        return not isinstance(self._broker, Frugal) or self._broker.affords_a_look(in_question)


def _is_held_doubtful(snapshot: Snapshot) -> bool:
    """The venue has contradicted what we hold, or it is being closed: should somebody else have done so, the exit must know."""
    return snapshot.disagreements == 1 or bool(snapshot.closing and snapshot.position)


def _gap_ms(snapshot: Snapshot, now_ms: int, settle_ms: int) -> int:
    """How often this symbol is to be looked at."""
    if snapshot.disagreements == 1:
        return 0  # a position contradicted once: the second answer decides whether that is believed
    orders = [order for order in snapshot.live_orders() if order.status is not Status.QUARANTINED]
    if any(now_ms - order.changed_ms < YOUNG_MS for order in orders):
        return 0
    nameless = [order for order in orders if order.status is Status.UNKNOWN and order.venue_id is None]
    if any(now_ms - order.changed_ms >= settle_ms for order in nameless):
        return 0  # its window is over: what it was for may stand unprotected until that is known
    if any(order.venue_id is not None for order in orders):
        return LIVE_GAP_MS
    return DOUBT_GAP_MS if orders else NEVER_MS
