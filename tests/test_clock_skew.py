"""This machine's clock against the venue's: what is proven, what it costs, and what it never touches. Over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from brokers.openalgo import OpenAlgo
from brokers.poller import Poller
from brokers.reports import looks_like
from brokers.skew import Skew, date_ms
from brokers.switchboard import SKEW_LIMIT_MS, Switchboard
from brokers.transport import Transport
from state.clock import ScaledClock, SystemClock, VirtualClock
from state.orders import Purpose, Status
from state.reports import OrderRow, Reported
from state.threads import OS_THREADS
from tests.brokers.doubles import done_but_lost
from tests.brokers.http_stub import HttpStub, reply
from tests.harness import Story
from tests.state.builders import BUY, SYMBOL, TEN, D, order_of

POSITIONS = "/api/v1/positionbook"
BOUND_MS = 1_500  # the resolution of a Date, and half a second of round trip on a busy machine


class Server(HttpStub):
    """Its clock is `ahead_ms` ahead of this machine's."""

    ahead_ms = 0
    says_date = True

    def __enter__(self) -> Server:
        super().__enter__()
        self.on(POSITIONS, self._positions)
        return self

    def _positions(self, sock: socket.socket, stopping: threading.Event) -> bool:
        date = formatdate((SystemClock().now_ms() + self.ahead_ms) // 1000, usegmt=True)
        header = f"Date: {date}\r\n" if self.says_date else ""
        return reply(200, {"data": [], "status": "success"}, header)(sock, stopping)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def adapter(server: HttpStub, clock: SystemClock | VirtualClock | None = None, **more: Any) -> OpenAlgo:
    return OpenAlgo(server.url, "key", "NSE", "MIS", 5, 30, clock or SystemClock(), **more)


# -- what is proven --------------------------------------------------------------------------------------------------------------


@given(
    ahead_ms=st.integers(-20_000, 20_000),
    questions=st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 700), st.integers(0, 700)), min_size=1, max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_no_more_is_said_than_is_proven_and_at_most_a_second_and_a_round_trip_less(
    ahead_ms: int, questions: list[tuple[int, int, int]]
) -> None:
    """NET-12: for any skew, latency and moment within a second."""
    skew, now_ms, best = Skew(OS_THREADS), TEN, 10_000
    for pause_ms, there_ms, back_ms in questions:
        now_ms += pause_ms
        said_ms = (now_ms + there_ms - ahead_ms) // 1000 * 1000
        skew.heard(formatdate(said_ms // 1000, usegmt=True), now_ms, now_ms + there_ms + back_ms)
        now_ms += there_ms + back_ms
        best = min(best, there_ms + back_ms)

    proven = skew.ahead_ms()

    assert proven is not None and abs(proven) <= abs(ahead_ms) and proven * ahead_ms >= 0
    assert abs(ahead_ms) - abs(proven) <= 1_000 + best


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-11-20T09:16:36", "Fri, 99 Nov 2026 09:10:00 GMT", "\ud800"])
def test_a_date_that_is_none_says_nothing(text: str | None) -> None:
    skew = Skew(OS_THREADS)
    skew.heard(text, TEN, TEN)

    assert (date_ms(text), skew.ahead_ms()) == (None, None)


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    """NET-12: bounds that contradict each other are no reason to keep the old ones."""
    skew = Skew(OS_THREADS)
    skew.heard(formatdate(TEN // 1000, usegmt=True), TEN + 12_000, TEN + 12_010)
    before = skew.ahead_ms()
    skew.heard(formatdate(TEN // 1000 + 60, usegmt=True), TEN + 60_100, TEN + 60_110)

    assert (before, skew.ahead_ms()) == (11_001, 0)


@pytest.mark.parametrize(("venue_ahead_ms", "sign"), [(10_000, -1), (-10_000, 1)])
def test_the_difference_is_read_from_answers_that_come_anyway(server: Server, venue_ahead_ms: int, sign: int) -> None:
    """NET-12: from the Date header, in the adapter's own requests."""
    broker = adapter(server)
    unasked = broker.skew_ms()
    server.ahead_ms = venue_ahead_ms

    broker.positions()
    proven = broker.skew_ms()
    broker.close()

    assert unasked is None and proven is not None
    assert 10_000 - BOUND_MS <= proven * sign <= 10_000
    assert len(server.seen) == 1


def test_a_server_that_tells_no_time_leaves_it_unknown(server: Server) -> None:
    server.says_date = False
    broker = adapter(server)
    broker.positions()

    assert broker.skew_ms() is None


@pytest.mark.parametrize("speed", [0.5, 1.0, 240.0])
def test_session_time_that_runs_faster_than_life_is_no_skew(server: Server, speed: float) -> None:
    """NET-12: in practice it is the machine's wall clock that is compared, not the session's."""
    clock = ScaledClock(TEN, SystemClock().now_ms() - 3_600_000, speed)
    broker = adapter(server, clock)
    broker.positions()

    assert abs(broker.skew_ms() or 0) <= BOUND_MS - 1_000
    assert abs(clock.now_ms() - SystemClock().now_ms()) > 3_600_000


# -- what follows ----------------------------------------------------------------------------------------------------------------


class _Voice:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(f"info: {text}")

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")

    def alarm(self, text: str) -> None:
        self.said.append(f"ALARM: {text}")

    def defect(self, text: str, error: BaseException) -> None:
        raise error


class _Account:
    """A story whose positions come from the server, through the adapter that trades, and whose listener is the session's own."""

    def __init__(self, server: Server) -> None:
        self.broker = adapter(server, transport=Transport(server.url, 5))
        self.story = Story(stream=False, max_entries=3)
        self.voice = _Voice()
        story = self.story
        self.board = Switchboard(story.states, story.clock, self.voice, lambda work: None, story.reports)
        story.venue.always("positions", lambda act: (self.broker.positions(), act())[1])
        setattr(story.venue, "skew_ms", self.broker.skew_ms)  # noqa: B010
        self._connect()

    def _connect(self) -> None:
        story = self.story
        story.poller = Poller(story.venue, story.states, story.reports, story.clock, self.board, 5)

    @property
    def blocks(self) -> list[str]:
        return [source for source, _ in self.story.s.blocks]


def test_at_the_start_a_clock_ten_seconds_off_means_no_entries_and_one_clear_line(server: Server) -> None:
    """NET-12: the sweep of the recovery, before anything may trade, has compared the clocks."""
    server.ahead_ms = 10_000
    account = _Account(server)
    story = account.story

    story.poll()
    story.tick("730.65", "731.15")
    story.polls(3)

    lines = [line for line in account.voice.said if "clock" in line]
    assert (account.blocks, story.sent()) == (["clock"], [])
    assert len(lines) == 2 and lines[1] == "info: entries off: this machine's clock and the venue's differ"
    assert lines[0].startswith("ALARM: this machine's clock is at least ") and "s behind the venue's: no entries" in lines[0]


def test_a_clock_that_goes_off_in_mid_session_costs_entries_and_nothing_else_and_is_cured(server: Server) -> None:
    """NET-12: a stop goes on protecting, an exit goes out; when the clock is set entries are on again, and the trigger counts."""
    account = _Account(server)
    story = account.story
    story.tick("730.65", "731.15")
    story.polls(1)
    server.ahead_ms = -10_000

    story.polls(1)
    off = (account.blocks, story.book)
    story.tick("730.15")
    story.polls(1)
    story.tick("731.00", "730.65")
    while_off = (story.sent(), story.s.phase.value)
    server.ahead_ms = 0
    story.polls(1)
    story.tick("730.65")

    assert off == (["clock"], ["SELL STOP 5 @ 730.15"])
    assert while_off == (["E BUY 5", "S SELL 5"], "ARMED")
    assert (account.blocks, story.sent()) == ([], ["E BUY 5", "S SELL 5", "E BUY 5"])
    assert [line.partition(":")[0] for line in account.voice.said if "clock" in line] == ["ALARM", "info", "info"]
    assert "ahead of the venue's" in next(line for line in account.voice.said if line.startswith("ALARM"))


@pytest.mark.parametrize("ahead_ms", [-1_900, 0, 1_900])
def test_what_may_be_a_matter_of_resolution_costs_nothing(server: Server, ahead_ms: int) -> None:
    """NET-12: two seconds are the limit, and a Date is cut to the second."""
    server.ahead_ms = ahead_ms
    account = _Account(server)
    account.story.polls(4)

    assert account.blocks == []


@pytest.mark.parametrize(("ahead_ms", "blocked"), [(None, []), (2_000, []), (2_001, ["clock"]), (-2_001, ["clock"]), (0, [])])
def test_beyond_two_seconds_is_off(server: Server, ahead_ms: int | None, blocked: list[str]) -> None:
    account = _Account(server)

    account.board.compared(ahead_ms)

    assert (account.blocks, SKEW_LIMIT_MS) == (blocked, 2_000)


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_a_clock_that_is_set_during_a_request_ends_no_time_out_and_moves_no_bound(server: Server, jump_ms: int) -> None:
    """NET-12: a request's age is monotonic; an hour forward is no time-out, and the round trip is no hour long."""

    class Jumping(SystemClock):
        off_ms = 0

        def now_ms(self) -> int:
            return super().now_ms() + self.off_ms

    clock = Jumping()
    broker = adapter(server, clock, transport=Transport(server.url, 1.0, clock=clock, wall=clock))

    def answer(sock: socket.socket, stopping: threading.Event) -> bool:
        clock.off_ms = jump_ms
        return server._positions(sock, stopping)

    server.on(POSITIONS, answer)
    first = (broker.positions(), broker.skew_ms())
    broker.positions()

    assert first[0] == [] and abs(first[1] or 0) <= BOUND_MS - 1_000
    assert abs(jump_ms) - BOUND_MS <= abs(broker.skew_ms() or 0) <= abs(jump_ms)


# -- an unanswered order found all the same --------------------------------------------------------------------------------------


def test_a_venue_whose_clock_is_behind_still_shows_our_unanswered_order() -> None:
    """NET-12, UNK-01: its row seems to be 9 s older than our question; with the clocks compared it is ours, and sent once."""
    order = order_of(Purpose.ENTRY, BUY, created_ms=TEN, status=Status.UNKNOWN)
    row = OrderRow("9", SYMBOL, BUY, Reported.WORKING, D(5), order.type, at_ms=TEN - 9_000)

    assert [looks_like(order, row, ahead_ms) for ahead_ms in (0, 3_000, 9_000)] == [False, False, True]


def test_with_clocks_compared_a_lost_stop_is_claimed_and_not_placed_twice(server: Server) -> None:
    """NET-12: our clock is 10 s ahead, the stop's reply is lost: one stop at the venue after the settle window."""
    server.ahead_ms = -10_000
    account = _Account(server)
    story = account.story
    story.tick("730.65", "731.15")
    story.venue.always("orders", lambda act: [replace(row, at_ms=(row.at_ms or 0) - 9_000) for row in act()])
    story.venue.script("submit", done_but_lost)
    story.poll()
    unsure = story.s.stop
    story.polls(12)

    assert unsure is not None and unsure.status is Status.UNKNOWN
    assert (story.sent("S"), story.book) == (["S SELL 5"], ["SELL STOP 5 @ 730.15"])
