"""The threads of a session with real threads: who died or hangs costs entries, never protection; and the order of their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

from brokers import crew as crews
from brokers.crew import STUCK_MS, Crew, Heart
from state.clock import VirtualClock
from state.session import Session
from tests.brokers.doubles import STALL_S
from tests.state.builders import TEN, ist


class Body:
    """The body of a thread that does what the test says. `alive_ms` is its last sign of life."""

    def __init__(self, ended: list[str], name: str, alive_ms: int) -> None:
        self.name, self.alive_ms = name, alive_ms
        self._ended = ended
        self._end = threading.Event()
        self._error: BaseException | None = None
        self.ended = threading.Event()
        self.stopped = 0

    def run(self) -> None:
        try:
            if not self._end.wait(STALL_S):
                raise AssertionError("nobody ended this thread")
            if self._error is not None:
                raise self._error
        finally:
            self._ended.append(self.name)
            self.ended.set()

    def stop(self) -> None:
        self.stopped += 1
        self._end.set()

    def die(self, error: BaseException) -> None:
        self._error = error
        self._end.set()

    close = stop


class HeartBody(Body):
    beats = 0

    def beat(self) -> None:
        self.beats += 1

    def watch(self) -> dict[str, str]:
        return {}


class Board:
    """What a Switchboard is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.blocks: dict[str, str] = {}
        self.defects: list[str] = []

    def alarm(self, text: str) -> None:
        self.said.append(text)

    def defect(self, where: str, error: BaseException) -> None:
        self.defects.append(f"{where}: {error}")

    def block(self, source: str, reason: str) -> None:
        self.blocks[source] = reason

    def unblock(self, source: str) -> None:
        self.blocks.pop(source, None)


class Shift:
    """A crew of doubles, begun at monotonic time 0."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.feed, self.poller = Body(self.ended, "ticks", 0), Body(self.ended, "poll", 0)
        self.heart = HeartBody(self.ended, "clock", 0)
        self.desk = Body(self.ended, "desk-0", 0)
        self.board = Board()
        parts: Any = (self.feed, self.poller, self.heart, self.desk, self.desk, 1, self.board)
        self.crew = Crew(*parts)
        self.crew.start_desks()
        self.crew.start()

    def ends(self, body: Body, error: BaseException | None = None) -> None:
        """The thread of this body is gone before this returns."""
        body.die(error or RuntimeError("broken"))
        assert body.ended.wait(STALL_S)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == body.name] or [None]
        if thread is not None:
            thread.join(STALL_S)


@pytest.fixture
def shift() -> Iterator[Shift]:
    shift = Shift()
    yield shift
    for body in (shift.feed, shift.poller, shift.heart, shift.desk):
        body.stop()
    assert shift.crew.stop() == []


def test_threads_carry_the_names_that_the_log_shows(shift: Shift) -> None:
    assert shift.crew.threads() == {"desk-0": "alive", "clock": "alive", "poll": "alive", "ticks": "alive"}


def test_while_all_work_nothing_is_said_and_nothing_blocked(shift: Shift) -> None:
    shift.crew.check(STUCK_MS)

    assert (shift.board.said, shift.board.blocks, shift.crew.no_ticks) == ([], {}, False)


def test_a_dead_tick_thread_costs_entries_and_is_spoken_of_once(shift: Shift) -> None:
    """OPS-05"""
    shift.ends(shift.feed)

    for _ in range(3):
        shift.crew.check(0)

    assert shift.board.defects == ["the ticks thread: broken"]
    assert shift.board.said == ["the ticks thread died: no entries; the other threads go on protecting"]
    assert shift.board.blocks == {"watchdog": "the ticks thread is not working"}
    assert shift.crew.no_ticks, "prices must be asked for instead"
    assert shift.crew.threads()["poll"] == "alive"


@pytest.mark.parametrize("name", ["feed", "poller", "heart"])
def test_a_thread_that_hangs_costs_entries_until_it_moves_again(shift: Shift, name: str) -> None:
    body = getattr(shift, name)
    others = {shift.feed, shift.poller, shift.heart} - {body}
    for other in others:
        other.alive_ms = STUCK_MS + 1_000

    shift.crew.check(STUCK_MS + 1_000)
    hung = (list(shift.board.said), dict(shift.board.blocks))
    body.alive_ms = STUCK_MS + 1_000
    shift.crew.check(STUCK_MS + 1_000)

    assert hung[0] == [f"the {body.name} thread has not moved for 16 s: no entries; the other threads go on protecting"]
    assert hung[1] == {"watchdog": f"the {body.name} thread is not working"}
    assert shift.board.blocks == {}
    assert not shift.crew.no_ticks


def test_a_slow_thread_is_not_called_hung_at_the_limit_itself(shift: Shift) -> None:
    shift.crew.check(STUCK_MS)

    assert shift.board.said == []


def test_a_dead_clock_is_replaced_by_whoever_looks_after_the_threads(shift: Shift) -> None:
    """EXI-02: the cutoff must come."""
    shift.crew.check(0)
    before = shift.heart.beats
    shift.ends(shift.heart)

    shift.crew.check(0)
    shift.crew.check(0)

    assert (before, shift.heart.beats) == (0, 2)


def test_a_clock_that_only_hangs_is_not_beaten_for(shift: Shift) -> None:
    """It holds a symbol's lock, perhaps: the main thread must not wait for it too."""
    shift.crew.check(STUCK_MS + 1_000)

    assert shift.heart.beats == 0


def test_a_dead_desk_costs_entries(shift: Shift) -> None:
    shift.ends(shift.desk)

    shift.crew.check(0)

    assert shift.board.blocks == {"watchdog": "the desk-0 thread is not working"}


def test_several_lost_threads_are_named_together(shift: Shift) -> None:
    shift.ends(shift.feed)
    shift.ends(shift.poller)

    shift.crew.check(0)

    assert shift.board.blocks == {"watchdog": "the poll, ticks thread is not working"}
    assert len(shift.board.said) == 2


def test_the_desks_end_last_so_that_what_is_decided_is_carried_out(shift: Shift) -> None:
    assert shift.crew.stop() == []

    assert shift.ended[-1] == "desk-0"
    assert sorted(shift.ended) == ["clock", "desk-0", "poll", "ticks"]


def test_a_thread_that_does_not_end_is_named_and_not_waited_for_for_ever(shift: Shift, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "JOIN_S", 0.05)
    monkeypatch.setattr(shift.poller, "stop", lambda: None)

    assert shift.crew.stop() == ["poll"]
    monkeypatch.undo()


def test_a_crew_that_was_never_started_can_be_stopped() -> None:
    ended: list[str] = []
    body = HeartBody(ended, "x", 0)
    parts: Any = (None, body, body, body, body, 2, Board())

    assert Crew(*parts).stop() == []


# -- the clock thread ----------------------------------------------------------------------------------------------------------


class State:
    """One symbol that hears the heart."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[tuple[int, int]] = []
        self._error = error

    def heartbeat(self, now_ms: int, mono_ms: int) -> None:
        if self._error is not None:
            raise self._error
        self.heard.append((now_ms, mono_ms))


class CheckedFeed:
    def __init__(self) -> None:
        self.checks: list[tuple[int, bool]] = []

    def check(self, mono_ms: int, open: bool) -> None:
        self.checks.append((mono_ms, open))


def heart_of(states: dict[str, State], clock: VirtualClock, feed: CheckedFeed | None = None) -> tuple[Heart, Board]:
    session = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), ist("14:45:00"), ist("15:30:00"))
    board = Board()
    parts: Any = (states, clock, session, board, feed)
    return Heart(*parts), board


def test_every_symbol_hears_the_time_although_one_of_them_is_broken() -> None:
    clock = VirtualClock(TEN)
    states = {"A": State(), "B": State(ValueError("no")), "C": State()}
    heart, board = heart_of(states, clock)

    heart.beat()

    assert (states["A"].heard, states["C"].heard) == ([(TEN, TEN)], [(TEN, TEN)])
    assert board.defects == ["the heartbeat of B: no"]
    assert heart.alive_ms == TEN


@pytest.mark.parametrize(("time", "open"), [("09:14:59", False), ("09:15:00", True), ("15:29:59", True), ("15:30:00", False)])
def test_the_feed_is_checked_for_age_only_while_the_market_is_open(time: str, open: bool) -> None:
    """FEE-01"""
    feed = CheckedFeed()
    heart, _ = heart_of({}, VirtualClock(ist(time)), feed)

    heart.beat()

    assert feed.checks == [(ist(time), open)]


def test_the_heart_beats_four_times_a_second_until_it_is_stopped() -> None:
    clock = VirtualClock(TEN)
    state = State()
    heart, _ = heart_of({"A": state}, clock)
    later: Callable[[int, int], None] = state.heartbeat

    def stopping(now_ms: int, mono_ms: int) -> None:
        later(now_ms, mono_ms)
        if len(state.heard) == 4:
            heart.stop()

    state.heartbeat = stopping  # type: ignore[method-assign]
    heart.run()

    assert [now_ms - TEN for now_ms, _ in state.heard] == [0, 250, 500, 750]
