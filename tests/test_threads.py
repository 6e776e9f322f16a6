"""Real threads on one symbol: ticks at the trigger, heartbeats, fills and polls at once, through a venue that answers slowly.

What must hold in every run, checked in the venue's own book: never two entries, never two live stops, never an exit beyond the
position, no broker call and no commit under a symbol's lock.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brokers.base import FillRow, OrderRow
from brokers.desk import Desk, Outbox
from brokers.reports import Reports
from state.clock import VirtualClock
from state.events import FlattenAsked
from state.instrument import Instrument
from state.orders import Purpose, Side
from state.snapshot import Snapshot
from state.strategy import Enter
from state.symbol_state import SymbolState
from tests.brokers.doubles import Act, Guard, Listener, Notebook, Venue, stalled
from tests.state.builders import BUY, ENTRY, SBIN, SYMBOL, TEN, D, Plan, at, both_sides, make_rules

RUNS = 200
DESKS = 3
DEADLINE_S = 20.0
PRICES = ("730.65", "730.60", "731.15", "731.20")


class Hammered:
    """One symbol, real desk threads, and a venue whose book is checked after everything that happens to it."""

    def __init__(self, side: Side = BUY, symbols: tuple[str, ...] = (SYMBOL,)) -> None:
        self.side = side
        self.clock = VirtualClock(TEN)
        self.guard = Guard()
        instruments = {symbol: Instrument(symbol, "NSE", SBIN.tick_size) for symbol in symbols}
        self.venue = Venue(instruments, self.clock, self.guard)
        self.journal = Notebook(self.guard)
        self.listener = Listener()
        self.outbox = Outbox()
        wishes = {at(side, price): Enter(side, Plan(side).type, "again", ENTRY, ENTRY) for price in PRICES}
        self.states = {
            symbol: SymbolState(
                Snapshot(symbol), make_rules(side, Plan(side, wishes), instrument=instruments[symbol]), self.outbox, self.clock
            )
            for symbol in symbols
        }
        self.guard.watch(self.states.values())
        self.reports = Reports(self.states, self.clock, 30.0)
        self.desk = Desk(self.venue, self.journal, self.states, self.outbox, self.reports, self.clock, self.listener)
        self.desks = [threading.Thread(target=self.desk.run, name=f"desk-{n}", daemon=True) for n in range(DESKS)]
        self.errors: list[BaseException] = []

    def __enter__(self) -> Hammered:
        for thread in self.desks:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.close()
        for thread in self.desks:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in self.desks)

    @property
    def state(self) -> SymbolState:
        return self.states[SYMBOL]

    # -- one thread's work -------------------------------------------------------------------------------------------------

    def ticks(self) -> None:
        for price in ("730.65", "730.60") * 4:
            self.state.tick(at(self.side, price), self.clock.now_ms())

    def heartbeats(self) -> None:
        for _ in range(8):
            self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())

    def polls(self) -> None:
        for _ in range(3):
            asked_ms = self.clock.monotonic_ms()
            orders, fills = self.venue.orders(), self.venue.fills()
            self.reports.sweep(orders, fills, None, asked_ms)

    def trades(self) -> None:
        """The venue trades at the entry price, as a stream reports it."""
        for _ in range(4):
            self.stream(self.venue.tick(SYMBOL, ENTRY, self.clock.now_ms(), D(2)))

    def part_of_the_stop(self) -> None:
        self.stream(self.venue.tick(SYMBOL, at(self.side, "730.15"), self.clock.now_ms(), D(2)))

    def at_the_stop(self) -> None:
        self.state.tick(at(self.side, "730.15"), self.clock.now_ms())

    def flatten(self) -> None:
        now = {"mono_ms": self.clock.monotonic_ms(), "now_ms": self.clock.now_ms()}
        self.state.apply(FlattenAsked(reason="by hand", **now))

    def stream(self, rows: list[OrderRow | FillRow]) -> None:
        for row in rows:
            if isinstance(row, FillRow):
                self.reports.fill(row, "stream")
            else:
                self.reports.order_update(row, self.clock.monotonic_ms(), "stream")

    def together(self, *bodies: Callable[[], None]) -> None:
        """Each in a thread of its own, let go at the same moment."""
        barrier = threading.Barrier(len(bodies))

        def run(body: Callable[[], None]) -> None:
            try:
                barrier.wait(DEADLINE_S)
                body()
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in threads)

    def settle(self) -> None:
        """Desks done, everything read."""
        pause = threading.Event()
        for _ in range(2_000):
            if self.outbox.idle:
                self.polls()
                if self.outbox.idle and not any(state.snapshot.in_question for state in self.states.values()):
                    return
                self.clock.advance(250)
                self.heartbeats()
            pause.wait(0.001)
        raise AssertionError(f"never settled: {self.state.snapshot}")

    def settle_quietly(self) -> None:
        """Like `settle`, where an exit may still be waiting for a price."""
        _until(lambda: self.outbox.idle)
        self.polls()
        self.clock.advance(1_000)
        self.heartbeats()
        _until(lambda: self.outbox.idle)

    def live(self, purpose: Purpose) -> int:
        rows = {row.venue_id for row in self.venue.working(SYMBOL)}
        ids = [str(number) for number, order in enumerate(self.venue.submitted, start=1) if order.purpose is purpose]
        return sum(1 for venue_id in ids if venue_id in rows)

    def ever(self, purpose: Purpose) -> int:
        return sum(1 for order in self.venue.submitted if order.purpose is purpose)


def slow(answer: threading.Event) -> Callable[[Act], Any]:
    """The answer comes only when another thread has been at the state again: the slowness that matters, without the wait."""

    def fault(act: Act) -> Any:
        venue_id = act()
        answer.wait(DEADLINE_S)
        return venue_id

    return fault


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns often, so that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.00002)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@both_sides
def test_eight_threads_two_hundred_times_make_one_entry_one_stop_and_no_exit_too_many(side: Side) -> None:
    """CON-07, CON-12."""
    for _ in range(RUNS // 2):
        with Hammered(side) as run:
            answered = threading.Event()
            run.venue.script("submit", slow(answered))

            def last(run: Hammered = run, answered: threading.Event = answered) -> None:
                run.ticks()
                answered.set()  # the broker answers while the others are still at it
                run.ticks()

            run.together(run.ticks, run.ticks, run.ticks, run.heartbeats, run.polls, run.trades, run.trades, last)
            run.settle()
            first = (run.ever(Purpose.ENTRY), run.live(Purpose.STOP))

            run.together(run.part_of_the_stop, run.flatten, run.at_the_stop, run.heartbeats, run.polls)
            for _ in range(3):
                run.stream(run.venue.tick(SYMBOL, at(side, "730.70"), run.clock.now_ms()))
                run.settle_quietly()

            assert run.errors == []
            assert run.guard.violations == []
            assert first[0] == 1 and first[1] <= 1
            assert run.live(Purpose.STOP) <= 1
            assert run.venue.net(SYMBOL) * side.sign >= 0
            assert run.state.snapshot.position == run.venue.net(SYMBOL)
            assert run.listener.defects == []


@pytest.mark.parametrize("stalled_verb", ["submit", "cancel"])
def test_a_stalled_call_for_one_symbol_delays_no_other_symbols_decision(stalled_verb: str) -> None:
    """NET-07, I10: the other symbol enters and is protected while the first waits for its answer; no clock moves meanwhile."""
    with Hammered(symbols=(SYMBOL, "INFY")) as run:
        let_go, waiting = threading.Event(), threading.Event()
        if stalled_verb == "cancel":
            run.state.tick(D("730.65"), run.clock.now_ms())
            run.settle()
        run.venue.script(stalled_verb, stalled(let_go, waiting))
        if stalled_verb == "submit":
            run.state.tick(D("730.65"), run.clock.now_ms())
        else:
            run.flatten()
        assert waiting.wait(DEADLINE_S)

        before_ms = run.clock.monotonic_ms()
        run.states["INFY"].tick(D("730.65"), run.clock.now_ms())
        _until(lambda: run.venue.book("INFY") == ["BUY STOP_LIMIT 5 @ 731.15"])
        _until(lambda: run.states["INFY"].snapshot.entry is not None and run.states["INFY"].snapshot.entry.venue_id is not None)
        run.stream(run.venue.tick("INFY", ENTRY, run.clock.now_ms()))
        _until(lambda: run.venue.book("INFY") == ["SELL STOP 5 @ 730.15"])
        run.state.tick(D("730.60"), run.clock.now_ms())  # the stalled symbol itself still hears its ticks
        took_ms = run.clock.monotonic_ms() - before_ms
        still_waiting = not let_go.is_set()
        run.clock.advance(30_000)
        let_go.set()
        _until(lambda: run.outbox.idle)

        assert (took_ms, still_waiting) == (0, True)
        assert run.ever(Purpose.ENTRY) == 2
        assert run.guard.violations == []


def test_coming_back_into_a_symbol_from_inside_is_refused() -> None:
    """CON-12: an RLock alone would let it pass."""
    run = Hammered()
    seen: list[BaseException] = []

    class Nosy(Outbox):
        def put(self, symbol: str, work: Any) -> None:
            try:
                run.state.tick(D("730.00"), TEN)
            except RuntimeError as error:
                seen.append(error)

    run.state._outbox = Nosy()
    run.state.tick(D("730.65"), TEN)

    assert [type(error).__name__ for error in seen] == ["Reentered"]


def _until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE_S * 1000)):
        if true():
            return
        pause.wait(0.001)
    raise AssertionError("it never happened")
