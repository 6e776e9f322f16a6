"""The poll thread: on its beat, sooner while something is in question, and never believing what it could not read."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from brokers.base import Fatal
from brokers.poller import Poller
from state.clock import VirtualClock
from state.events import FlattenAsked
from tests.brokers.doubles import Act, lost, unreachable
from tests.harness import Story
from tests.state.builders import SYMBOL, TEN, D


class Metronome(VirtualClock):
    """A clock whose waits pass at once, until `end_ms`; it stops the poller then."""

    def __init__(self, story: Story, end_ms: int) -> None:
        super().__init__(TEN)
        self._story = story
        self._end_ms = end_ms
        self.poller: Poller | None = None

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.advance(round(timeout_s * 1000))
        self._story.clock.advance_to(self.now_ms())
        if self.now_ms() >= self._end_ms and self.poller is not None:
            self.poller.stop()
        return event.is_set()


def run(story: Story, seconds: int, **more: Any) -> list[int]:
    """When each sweep asked for the orders, in ms after the start."""
    clock = Metronome(story, TEN + seconds * 1000)
    asked: list[int] = []
    fill = story.venue.orders

    def noted() -> Any:
        asked.append(clock.now_ms() - TEN)
        clock.advance(more.get("takes_ms", 0))
        return fill()

    story.venue.orders = noted  # type: ignore[method-assign]
    poller = Poller(story.venue, story.states, story.reports, clock, story.listener, 5.0, more.get("stale", list))
    clock.poller = poller
    poller.run()
    return asked


def test_sweeps_come_every_five_seconds() -> None:
    assert run(Story(), 20) == [5_000, 10_000, 15_000]


def test_a_slow_sweep_does_not_move_the_next_ones_and_missed_ones_are_not_made_up() -> None:
    assert run(Story(), 26, takes_ms=800) == [5_000, 10_000, 15_000, 20_000, 25_000]
    assert run(Story(), 40, takes_ms=7_000) == [5_000, 15_000, 25_000, 35_000]


def test_while_an_order_is_in_question_looks_are_quick_and_then_rarer() -> None:
    story = Story()
    story.venue.script("submit", lost)
    story.tick("730.65")

    asked = run(story, 15)

    young = [ms for ms in asked if ms < 5_000]
    old = [ms for ms in asked if ms >= 5_500]
    assert young[:3] == [0, 500, 1_000] and len(young) == 10
    assert len(old) <= 7


def test_somebody_may_ask_for_a_sweep_now() -> None:
    story = Story()
    clock = Metronome(story, TEN + 1_000)
    poller = Poller(story.venue, story.states, story.reports, clock, story.listener, 5.0)
    clock.poller = poller
    poller.soon()

    poller.run()

    assert (poller.sweeps, story.listener.said) == (1, ["swept"])


def test_a_failed_read_makes_no_event_and_no_conclusion() -> None:
    """REC-03."""
    story = Story()
    story.tick("730.65")
    before = story.s
    story.venue.always("orders", unreachable)

    answers = [story.poller.sweep() for _ in range(3)]

    assert (answers, story.s is before, story.poller.sweeps) == ([False] * 3, True, 0)
    assert story.listener.said == [f"poll failed {n}: connection refused" for n in (1, 2, 3)]


@pytest.mark.parametrize("verb", ["positions", "quotes"])
def test_when_positions_or_prices_fail_orders_and_fills_are_news_all_the_same(verb: str) -> None:
    """REC-03, FIL-01: an hour without them must not cost a fill."""
    story = Story(stream=False)
    story.hold()
    story.silent_tick("730.15")
    story.venue.always(verb, unreachable)
    story.poller._stale = lambda: [SYMBOL]

    answered = story.poller.sweep()

    assert (answered, story.s.position) == (False, 0)
    assert story.listener.said[-1] == "poll failed 1: connection refused"


def test_a_success_forgets_the_failures() -> None:
    story = Story()
    story.venue.script("fills", unreachable)

    first, second = story.poller.sweep(), story.poller.sweep()
    story.venue.script("fills", unreachable)
    story.poller.sweep()

    assert (first, second) == (False, True)
    assert story.listener.said == ["poll failed 1: connection refused", "swept", "poll failed 1: connection refused"]


def test_a_fatal_answer_is_told_as_such() -> None:
    def fatal(act: Act) -> Any:
        raise Fatal("invalid apikey")

    story = Story()
    story.venue.script("orders", fatal)

    assert story.poller.sweep() is False
    assert story.listener.said == ["fatal: invalid apikey", "poll failed 1: invalid apikey"]


def test_positions_whose_ticks_are_stale_are_watched_here() -> None:
    """A stop that the venue did not fire is still seen: price comes from the poll."""
    story = Story(symbols=(SYMBOL, "INFY"))
    story.hold()
    story.venue.engine._last[SYMBOL] = D("730.10")
    story.poller._stale = lambda: [SYMBOL, "INFY"]

    story.poller.sweep()

    assert story.s.crossed_ms is not None
    assert story.states["INFY"].last is None


def test_nothing_stale_and_nothing_held_asks_for_no_price() -> None:
    story = Story()
    story.poller._stale = lambda: [SYMBOL]

    story.poller.sweep()

    assert story.calls("quotes") == 0


def test_while_a_position_is_being_closed_each_look_asks_for_positions_too() -> None:
    """REC-06: should somebody else have closed it, the exit must know."""
    story = Story()
    story.tick("730.65", "731.15", "731.20")
    story.wait(6_000)
    calm = story.calls("positions")
    run(story, 4)
    held = story.calls("positions") - calm
    story.states[SYMBOL].apply(FlattenAsked(reason="flatten", mono_ms=story.clock.monotonic_ms(), now_ms=story.clock.now_ms()))

    run(story, 4)

    assert (held, story.s.closing) == (0, "flatten")
    assert story.calls("positions") - calm >= 4
