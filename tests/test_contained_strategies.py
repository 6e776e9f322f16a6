"""A strategy that does not come back, on real threads: it keeps one thread and loses its symbol; nobody else waits for it.

Each test holds two positions, SBIN whose strategy gets stuck and HDFC whose strategy is well, and then the cutoff comes: both
positions must be sold at the venue while the strategy of SBIN is still inside its own code.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from brokers.base import FillRow
from brokers.crew import Crew, Heart
from brokers.desk import Desk, Outbox
from brokers.poller import Poller
from brokers.reports import Reports
from state import symbol_state
from state.clock import SystemClock, VirtualClock
from state.commands import Alarm
from state.events import EntriesOff, FillSeen, FlattenAsked
from state.instrument import Instrument
from state.ledger import Fill
from state.orders import Purpose
from state.session import Session
from state.snapshot import Snapshot
from state.strategy import Bar, View, Wish
from state.symbol_state import SymbolState
from tests.brokers.doubles import Guard, Listener, Notebook, Venue
from tests.brokers.test_crew import Board
from tests.state.builders import BUY, ENTRY, SBIN, TEN, D, Plan, ist, make_rules, sent
from tests.state.test_symbol_state import Box

DEADLINE_S = 30.0
CUTOFF_MS = ist("14:45:00")
STUCK, WELL = "SBIN", "HDFC"
REASON = "strategy plan has not come back for 2 s: it is not asked again in this session"


class Stuck(Plan):
    """Comes back only when it is let go, once it is asked by a thread of this name."""

    def __init__(self, **more: Any) -> None:
        super().__init__(BUY, **more)
        self.on = ""
        self.inside, self.let_go = threading.Event(), threading.Event()
        self.asked = 0

    def _think(self) -> None:
        self.asked += 1
        if self.on and threading.current_thread().name.startswith(self.on):
            self.inside.set()
            assert self.let_go.wait(DEADLINE_S), "nobody let the strategy go"

    def on_tick(self, view: View, price: Decimal) -> Wish:
        self._think()
        return super().on_tick(view, price)

    def on_bar(self, view: View, bar: Bar) -> Wish:
        self._think()
        return super().on_bar(view, bar)

    def stop_price(self, view: View) -> Decimal:
        self._think()
        return super().stop_price(view)

    def quiet(self, view: View) -> tuple[Decimal, Decimal]:
        self._think()
        return super().quiet(view)


def until(come_true: Callable[[], bool], what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    never = threading.Event()
    while not come_true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        meanwhile()
        never.wait(0.01)


def aside(name: str, act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, name=name, daemon=True)
    thread.start()
    return thread


# -- one symbol, time by hand ----------------------------------------------------------------------------------------------


class Alone:
    """One symbol whose strategy will get stuck on the thread "ticks"."""

    def __init__(self, **more: Any) -> None:
        self.strategy = Stuck(**more)
        self.clock, self.box = VirtualClock(TEN), Box()
        rules = make_rules(BUY, self.strategy, cutoff_ms=CUTOFF_MS)
        self.state = SymbolState(Snapshot(STUCK), rules, self.box, self.clock, bar_origin_ms=TEN)

    def enters(self) -> None:
        self.state.tick(D("730.65"), TEN)

    def fill(self) -> FillSeen:
        entry = self.state.snapshot.entry
        assert entry is not None
        fill = Fill("T1", entry.client_id, Purpose.ENTRY, BUY, entry.qty, ENTRY, TEN)
        return FillSeen(fill=fill, mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms())

    def stuck(self, act: Callable[[], object]) -> threading.Thread:
        """The tick thread does this and does not come back."""
        self.strategy.on = "ticks"
        thread = aside("ticks", act)
        assert self.strategy.inside.wait(DEADLINE_S)
        return thread

    def waited_for(self, ms: int = 2_000) -> None:
        self.state.watch()
        self.clock.advance(ms)
        self.state.watch()

    def let_go(self, thread: threading.Thread) -> None:
        self.strategy.let_go.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()

    @property
    def sent(self) -> list[str]:
        return [word for work in self.box.works for word in sent(list(work.commands))]

    @property
    def alarms(self) -> list[str]:
        return [c.text for work in self.box.works for c in work.commands if isinstance(c, Alarm)]


@pytest.fixture
def alone() -> Iterator[Alone]:
    one = Alone()
    yield one
    one.strategy.let_go.set()


def test_a_strategy_that_thinks_for_a_moment_is_left_alone(alone: Alone) -> None:
    thread = alone.stuck(alone.enters)

    alone.waited_for(1_999)
    alone.let_go(thread)

    assert (alone.state.snapshot.halted, alone.state.kept, alone.sent) == (None, None, ["submit E BUY 5 @ 731.15"])


def test_two_looks_at_different_decisions_are_no_reason(alone: Alone) -> None:
    alone.state.watch()
    alone.clock.advance(2_000)
    thread = alone.stuck(alone.enters)

    alone.state.watch()

    assert alone.state.snapshot.halted is None
    alone.let_go(thread)


def test_a_strategy_that_does_not_come_back_loses_its_symbol(alone: Alone) -> None:
    """CON-14: halted, told, and the entry it then wishes for is not made."""
    thread = alone.stuck(alone.enters)

    alone.waited_for()
    halted, kept = alone.state.snapshot.halted, alone.state.kept
    asked = alone.strategy.asked
    alone.let_go(thread)
    alone.enters()

    assert (halted, kept) == (REASON, "ticks")
    assert alone.alarms == [f"HALTED: {REASON}"]
    assert (alone.sent, alone.state.kept) == ([], None)
    assert alone.strategy.asked == asked, "nobody asks it again"


def test_the_fill_that_it_was_asked_about_is_not_lost(alone: Alone) -> None:
    """CON-14: without a stop from its strategy the position is closed."""
    alone.enters()
    thread = alone.stuck(lambda: alone.state.apply(alone.fill()))
    before = alone.state.snapshot.position

    alone.waited_for()

    assert (before, alone.state.snapshot.position) == (D(0), D(5))
    assert (alone.state.snapshot.closing, alone.sent[-1]) == ("the strategy gave no stop", "submit X SELL 5 @ market")
    alone.let_go(thread)
    assert (alone.state.snapshot.position, len(alone.sent)) == (D(5), 2), "and it is not booked twice"


def test_whoever_waits_for_the_symbol_goes_on_without_the_strategy(alone: Alone) -> None:
    """The waiting thread itself looks after it: no watchman is needed."""
    thread = alone.stuck(alone.enters)
    now = {"mono_ms": TEN, "now_ms": TEN}

    waiting = aside("main", lambda: alone.state.apply(EntriesOff(source="stop", reason="stopping", **now)))
    until(lambda: not waiting.is_alive(), "the event was taken", lambda: alone.clock.advance(100))

    assert alone.state.snapshot.blocks == (("stop", "stopping"),)
    assert alone.state.snapshot.halted == REASON
    alone.let_go(thread)


def test_a_lock_that_was_left_behind_lets_nobody_in(alone: Alone) -> None:
    """Taken in the moment in which it was replaced: it is given back, and the new one is asked for."""
    state, fresh, done = alone.state, alone.clock.threads.rlock(), list[str]()

    class Left:
        """Is replaced while somebody waits for it."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            state._lock = fresh
            return True

        def release(self) -> None:
            done.append(f"given back with {len(alone.box.works)} decisions made")

    state._lock = Left()  # type: ignore[assignment]
    alone.enters()

    assert done == ["given back with 0 decisions made"]
    assert len(alone.box.works) == 1


def test_a_heartbeat_passes_over_a_symbol_that_somebody_is_inside_of(alone: Alone) -> None:
    thread = alone.stuck(alone.enters)

    alone.state.heartbeat(TEN, TEN)

    assert (alone.state.snapshot, alone.box.works) == (Snapshot(STUCK), [])
    alone.let_go(thread)


def test_the_cutoff_of_its_own_symbol_comes_all_the_same(alone: Alone) -> None:
    """EXI-02 and CON-14: nobody has its old lock; the exit goes out while the strategy is still thinking."""
    alone.enters()
    alone.state.apply(alone.fill())
    thread = alone.stuck(lambda: alone.state.tick(D("731.20"), TEN + 1_000))

    alone.waited_for()
    alone.state.heartbeat(CUTOFF_MS, alone.clock.monotonic_ms())

    assert alone.state.snapshot.closing == "cutoff"
    assert thread.is_alive()
    alone.let_go(thread)


# -- a session's threads ---------------------------------------------------------------------------------------------------


class HandClock(SystemClock):
    """Session time by hand; the machine's own monotonic time."""

    def __init__(self) -> None:
        self.session_ms = TEN

    def now_ms(self) -> int:
        return self.session_ms


class Ticker:
    """The feed's place: a thread "ticks" that hands on what it is given."""

    def __init__(self, states: dict[str, SymbolState], clock: HandClock) -> None:
        self._states, self._clock = states, clock
        self.given: queue.SimpleQueue[tuple[str, Decimal] | None] = queue.SimpleQueue()
        self.heard: list[str] = []

    @property
    def alive_ms(self) -> int:
        return self._clock.monotonic_ms()

    def run(self) -> None:
        while (tick := self.given.get()) is not None:
            self._states[tick[0]].tick(tick[1], self._clock.now_ms())
            self.heard.append(tick[0])

    def check(self, now_mono_ms: int, market_open: bool) -> list[str]:
        return []

    def stop(self) -> None:
        self.given.put(None)


class Floor:
    """Two symbols of one account with all the threads of a session, before a venue in memory."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.strategies: dict[str, Stuck] = {STUCK: Stuck(), WELL: Stuck()}
        instruments = {symbol: Instrument(symbol, "NSE", SBIN.tick_size) for symbol in self.strategies}
        self.guard = Guard()
        self.venue = Venue(instruments, self.clock, self.guard)
        self.journal, self.listener, self.board = Notebook(self.guard), Listener(), Board()
        self.outbox = Outbox()
        self.states = {symbol: self._state(symbol, instruments[symbol]) for symbol in self.strategies}
        self.guard.watch(self.states.values())
        self.reports = Reports(self.states, self.clock, 30.0)
        self.desk = Desk(self.venue, self.journal, self.states, self.outbox, self.reports, self.clock, self.listener)
        self.stale: list[str] = []
        self.poller = Poller(
            self.venue, self.states, self.reports, self.clock, self.listener, 1.0, lambda: self.stale or self._unpriced()
        )
        self.ticker = Ticker(self.states, self.clock)
        session = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), CUTOFF_MS, ist("15:30:00"))
        board: Any = self.board
        feed: Any = self.ticker
        self.heart = Heart(self.states, self.clock, session, board, feed)
        self.crew = Crew(feed, self.poller, self.heart, self.desk, self.outbox, 2, board)
        for symbol in self.states:
            self._hold(symbol)

    def _state(self, symbol: str, instrument: Instrument) -> SymbolState:
        rules = make_rules(BUY, self.strategies[symbol], instrument=instrument, cutoff_ms=CUTOFF_MS)
        return SymbolState(Snapshot(symbol), rules, self.outbox, self.clock, bar_origin_ms=TEN)

    def _unpriced(self) -> list[str]:
        return list(self.states) if self.crew.no_ticks else []

    def _hold(self, symbol: str) -> None:
        """In position and protected, before any thread has begun."""
        for price in ("730.65", "731.15", "731.20"):
            rows = self.venue.tick(symbol, D(price), self.clock.now_ms())
            self.states[symbol].tick(D(price), self.clock.now_ms())
            for row in rows:
                if isinstance(row, FillRow):
                    self.reports.fill(row, "stream")
                else:
                    self.reports.order_update(row, self.clock.monotonic_ms(), "stream")
            self.desk.drain()
        self.poller.sweep()
        self.desk.drain()
        stop = self.states[symbol].snapshot.stop
        assert stop is not None and stop.verified

    def begin(self) -> None:
        self.crew.start_desks()
        self.crew.start()

    def look(self) -> None:
        """The market goes on, and the main thread looks after the others."""
        for symbol in self.states:
            self.venue.tick(symbol, D("731.20"), self.clock.now_ms())
        self.crew.check(self.clock.monotonic_ms())

    def until(self, come_true: Callable[[], bool], what: str) -> None:
        until(come_true, what, self.look)

    def gets_stuck(self, name: str) -> None:
        """The strategy of SBIN, on the thread of this name."""
        strategy = self.strategies[STUCK]
        strategy.on = name
        provoke = {"ticks": self._by_a_tick, "clock": self._by_a_bar, "poll": self._by_a_quote, "desk": self._by_an_answer}
        provoke[name]()
        self.until(strategy.inside.is_set, f"the strategy is asked on the {name} thread")

    def _by_a_tick(self) -> None:
        self.ticker.given.put((STUCK, D("731.25")))

    def _by_a_bar(self) -> None:
        self.clock.session_ms = ist("10:15:03")

    def _by_a_quote(self) -> None:
        self.stale = [STUCK]

    def _by_an_answer(self) -> None:
        """A cancel is asked for; its answer changes the snapshot, and the strategy is asked for quiet prices."""
        now = {"mono_ms": self.clock.monotonic_ms(), "now_ms": self.clock.now_ms()}
        self.states[STUCK].apply(FlattenAsked(reason="by hand", **now))

    def net(self) -> dict[str, Decimal]:
        return {symbol: self.venue.net(symbol) for symbol in self.states}

    def ends(self) -> list[str]:
        for strategy in self.strategies.values():
            strategy.let_go.set()
        return self.crew.stop()


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Floor]:
    monkeypatch.setattr(symbol_state, "PATIENCE_MS", 400)
    floor = Floor()
    floor.begin()
    yield floor
    until(lambda: floor.ends() == [], "every thread has ended")
    assert floor.guard.violations == []


@pytest.mark.parametrize("name", ["ticks", "clock", "poll", "desk"])
def test_whichever_thread_a_strategy_keeps_both_positions_are_closed_by_the_cutoff(floor: Floor, name: str) -> None:
    """CON-14, EXI-02."""
    floor.gets_stuck(name)
    floor.clock.session_ms = CUTOFF_MS

    floor.until(lambda: floor.net() == {STUCK: D(0), WELL: D(0)}, "both positions are sold")

    assert floor.strategies[STUCK].inside.is_set() and not floor.strategies[STUCK].let_go.is_set()
    assert (floor.states[STUCK].snapshot.halted or "").startswith("strategy plan has not come back")
    assert floor.states[WELL].snapshot.halted is None
    kept = floor.states[STUCK].kept or ""
    assert kept.startswith(name)
    assert any(f"the {kept} thread is kept by the strategy of SBIN" in text or name == "ticks" for text in floor.board.said)


def test_the_cutoff_of_the_others_does_not_wait_for_the_strategy_to_be_given_up(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-14: no delay, not even of the patience that the strategy has."""
    monkeypatch.setattr(symbol_state, "PATIENCE_MS", 1_000_000)
    floor.gets_stuck("ticks")
    floor.clock.session_ms = CUTOFF_MS

    floor.until(lambda: floor.net()[WELL] == 0, "the other position is sold")

    assert (floor.net()[STUCK], floor.states[STUCK].snapshot.halted) == (D(5), None)


def test_while_the_ticks_are_kept_prices_are_asked_for_instead(floor: Floor) -> None:
    """The stop of the other symbol is watched by quotes, and entries are off everywhere."""
    floor.gets_stuck("ticks")
    floor.until(lambda: floor.crew.no_ticks, "the ticks are known to be kept")
    asked = floor.strategies[WELL].asked

    floor.until(lambda: floor.strategies[WELL].asked > asked, "the other strategy sees a quote")

    assert floor.board.blocks == {"watchdog": "the ticks thread is not working"}
    words = "the ticks thread is kept by the strategy of SBIN: no entries; the other threads go on protecting"
    assert floor.board.said == [words]


def test_ticks_go_on_for_the_others_when_the_strategy_has_come_back(floor: Floor) -> None:
    floor.gets_stuck("ticks")
    floor.until(lambda: floor.crew.no_ticks, "the ticks are known to be kept")

    floor.strategies[STUCK].let_go.set()
    floor.ticker.given.put((WELL, D("731.30")))
    floor.until(lambda: WELL in floor.ticker.heard, "the next tick is heard")
    floor.until(lambda: not floor.crew.no_ticks, "the ticks are back")

    assert floor.board.blocks == {}
    assert (floor.states[STUCK].snapshot.halted or "").startswith("strategy plan has not come back")


def test_a_strategy_that_never_comes_back_does_not_hold_up_the_end(floor: Floor) -> None:
    """CON-16: what it keeps is named."""
    floor.gets_stuck("clock")
    floor.until(lambda: len(floor.board.said) > 0, "the clock has been relieved")

    assert floor.crew.stop() == ["clock"]


def test_a_thread_that_comes_back_late_finds_its_place_taken_and_ends(floor: Floor) -> None:
    floor.gets_stuck("clock")
    floor.until(lambda: len(floor.board.said) > 0, "the clock has been relieved")

    floor.strategies[STUCK].let_go.set()

    clocks = lambda: [thread for thread in threading.enumerate() if thread.name == "clock"]  # noqa: E731
    floor.until(lambda: len(clocks()) == 1, "one clock is left")
