"""One symbol with its desk, reports and poller on a scheduler, before a venue in memory: the world the small models race in.

All but the venue and the strategy is the product's own. The world is what the operations of the threads act on; what a model may
not do to it is written down in `wrong`. Judges by the venue's truth. Knows nothing of models, policies or mutants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from brokers.desk import Desk, Outbox
from brokers.poller import Poller
from brokers.reports import Reports
from simulation.scheduler import Scheduler
from simulation.small_venue import DAY, INSTRUMENT, SYMBOL, Book, SmallVenue
from state.commands import Alarm, Submit
from state.events import EntriesOff, EntriesOn, FlattenAsked, HaltAsked
from state.orders import ZERO, OrderType, Side, Status
from state.risk import RiskBudget
from state.rules import STOPPING, Rules
from state.sizing import fixed
from state.snapshot import Snapshot
from state.strategy import Enter, MoveStop, Strategy, View, Wish
from state.symbol_state import SymbolState, Work

Operation = Callable[["World"], object]
TRIGGER, ENTRY, DISTANCE, EVER = Decimal(100), Decimal(110), Decimal(5), Decimal("Infinity")
CUTOFF_MS = 1_000_000
ENTRY_TIMEOUT_MS = 100_000
PAUSES_MS = (0, 0, 0, 300, 600, 1_200, 2_500, 2_500, 2_500, 2_500, 5_000, 5_000)  # between looks, until all has come to rest


class Small(Strategy):
    """80-20 in small: the trigger arms, a stop-limit rests at the entry, the stop follows every better price.

    Wants in again at every price below the trigger, entering or not: only the machine holds it back.
    """

    name = "small"

    def __init__(self) -> None:
        """Needs no parameters."""

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if not view.position and price <= TRIGGER:
            return Enter(Side.BUY, OrderType.STOP_LIMIT, "trigger", limit_price=ENTRY, trigger_price=ENTRY)
        if view.position and price > view.average:
            return MoveStop(price - DISTANCE, "trail")
        return None

    def stop_price(self, view: View) -> Decimal:
        return view.average - DISTANCE

    def quiet(self, view: View) -> tuple[Decimal, Decimal]:
        return (TRIGGER, EVER) if not view.position else (Decimal(1), ZERO)


STRATEGY = Small()


def rules(max_entries: int = 3, can_replace: bool = True) -> Rules:
    return Rules(
        instrument=INSTRUMENT,
        strategy=STRATEGY,
        size=fixed(Decimal(5)),
        day=DAY,
        entry_from_ms=0,
        cutoff_ms=CUTOFF_MS,
        max_entries=max_entries,
        entry_timeout_ms=ENTRY_TIMEOUT_MS,
        can_replace=can_replace,
        settle_ms=2_000,
    )


class Start(NamedTuple):
    """Where the threads of a model set out from."""

    snapshot: Snapshot
    works: tuple[Work, ...] = ()  # decided, not yet taken by a desk
    book: Book = Book()
    mono_ms: int = 0
    wrong: tuple[str, ...] = ()  # what went wrong on the way


class World:
    """Built on the main thread of its scheduler. Desk, poller and recorder speak to it: it is their listener as well."""

    def __init__(self, clock: Scheduler, start: Start, rules: Rules, wrong: list[str]) -> None:
        clock.mono_ms = start.mono_ms
        self.clock = clock
        self.wrong = wrong
        self.alarms: list[str] = []
        self._committed = 0  # version of the last snapshot journaled
        self.outbox = Outbox(clock)
        self.state = SymbolState(start.snapshot, rules, self.outbox, clock, on_defect=self.defect)
        self._states = {SYMBOL: self.state}
        self.venue = SmallVenue(clock, self.state, self.wrong, start.book)
        self.reports = Reports(self._states, clock, self.venue.capabilities.settle_window_s)
        self.risk = RiskBudget(self._states, 1, 1, Decimal(1_000_000), clock)
        self._desk = Desk(
            self.venue, self, self._states, self.outbox, self.reports, clock, self, self.risk.deny, self.alarms.append
        )
        self._poller = Poller(self.venue, self._states, self.reports, clock, self, 5.0)
        for work in start.works:
            self.outbox.put(SYMBOL, work)

    def as_start(self) -> Start:
        """As things stand, for other worlds to begin with. Takes the waiting work with it."""
        taken = self.outbox.take(0)
        works = () if taken is None else tuple(taken[1])
        return Start(self.state.snapshot, works, self.venue.book(), self.clock.mono_ms, tuple(self.wrong))

    # -- what threads do -----------------------------------------------------------------------------------------------------

    def tick(self, price: int) -> None:
        """A price reaches us; nothing has traded at it."""
        self.state.tick(Decimal(price), self.clock.now_ms())

    def hear(self) -> None:
        """What the venue has said on the stream."""
        while self.venue.news:
            self.reports.order_update(self.venue.news.pop(0), self.clock.monotonic_ms(), "stream")

    def desk(self) -> None:
        self._desk.drain()

    def sweep(self) -> None:
        self._poller.sweep()

    def beat(self, after_ms: int = 0) -> None:
        """So much time has passed, and the clock thread says so."""
        self.clock.mono_ms += after_ms
        self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())

    def cutoff(self) -> None:
        self.state.heartbeat(CUTOFF_MS, self.clock.monotonic_ms())

    def stop(self) -> None:
        """`stop` of the command line: resting entries go, stops stay."""
        self.entries_off(STOPPING)

    def entries_off(self, source: str) -> None:
        self.state.apply(EntriesOff(source=source, reason=source, **self._now()))

    def entries_on(self, source: str) -> None:
        self.state.apply(EntriesOn(source=source, **self._now()))

    def flatten(self) -> None:
        self.state.apply(FlattenAsked(reason="flatten", **self._now()))

    def halt(self) -> None:
        self.state.apply(HaltAsked(reason="somebody says so", **self._now()))

    def _now(self) -> dict[str, int]:
        return {"mono_ms": self.clock.monotonic_ms(), "now_ms": self.clock.now_ms()}

    # -- the race --------------------------------------------------------------------------------------------------------------

    def race(self, threads: Mapping[str, Sequence[Operation]]) -> None:
        """Each thread does its operations in order, all at once; returns when the last has ended."""
        clock, running = self.clock, set(threads)

        def body(name: str) -> None:
            try:
                for operation in threads[name]:
                    clock.step()
                    operation(self)
            except Exception as error:
                self.wrong.append(f"the {name} thread died: {type(error).__name__}: {error}")
            running.discard(name)
            if not running:
                clock.wake(self)

        for name in threads:
            clock.thread(name, partial(body, name)).begin()
        clock.block(self, None)

    # -- afterwards ------------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The venue and we talk until nothing is open any more; that must not take long."""
        for pause_ms in PAUSES_MS:
            if pause_ms:
                self.beat(pause_ms)
                self.venue.match_idle()
            self.desk()
            self.hear()
            self.sweep()
            if self._at_rest():
                return
        self.wrong.append(f"I12 does not come to rest: {self.state.snapshot.live_orders()}")

    def _at_rest(self) -> bool:
        s = self.state.snapshot
        waits = s.in_question or s.closing or s.crossed_ms is not None or s.disagreements
        bare = s.position and (s.stop is None or s.stop.trigger_price != s.stop_price)
        return not waits and not bare and self.outbox.idle and not self.venue.news

    def judge(self) -> None:
        """What must hold when all is quiet."""
        self.wrong += self._differences()

    def _differences(self) -> Iterator[str]:
        s, venue = self.state.snapshot, self.venue
        net = venue.net()
        if s.position != net:
            yield f"I2 we hold {s.position}, the venue says {net}"
        ours = {order.venue_id for order in s.live_orders() if order.status is Status.WORKING}
        theirs = {row.venue_id for row in venue.working()}
        if ours != theirs:
            yield f"I9 at work at the venue: {sorted(theirs)}; in our slots: {sorted(map(str, ours))}"
        if net and (s.stop is None or s.stop.trigger_price != s.stop_price or s.stop.qty != net):
            yield f"I4 {net} held, the stop is {s.stop}"
        if not net and s.stop_price is not None:
            yield f"I6 flat, with a stop price of {s.stop_price}"
        if len(venue.entries) > s.entries_used:
            yield f"I7 {len(venue.entries)} entries were sent, {s.entries_used} counted"

    # -- Recorder, DeskListener, PollListener ------------------------------------------------------------------------------------

    def commit_many(self, works: list[Work]) -> None:
        self.venue.refuse_under_a_lock("commit")
        self.clock.step()
        for order in (command.order for work in works for command in work.commands if isinstance(command, Submit)):
            self.venue.turn_has_come(order)
        for work in works:
            if work.before.version < self._committed:
                self.wrong.append(f"I3 journaled out of order: version {work.before.version} after {self._committed}")
            self._committed = work.after.version

    def carried_out(self, work: Work) -> None:
        self.alarms += [command.text for command in work.commands if isinstance(command, Alarm)]

    def defect(self, where: str, error: BaseException) -> None:
        self.wrong.append(f"defect in {where}: {type(error).__name__}: {error}")

    def fatal(self, reason: str) -> None:
        self.wrong.append(f"fatal: {reason}")

    def journal(self, failed: str | None) -> None:
        """Never fails here."""

    def sweeping(self) -> None:
        """Nobody counts."""

    def swept(self) -> None:
        """Nobody counts."""

    def compared(self, ahead_ms: int | None) -> None:
        """This venue tells no time."""

    def poll_failed(self, failures: int, reason: str) -> None:
        self.wrong.append(f"poll failed: {reason}")
