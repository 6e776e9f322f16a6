"""What a venue with few calls to spare asks of poller, desk and switchboard: fewer looks, no alarm for our own brake."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from brokers.base import Paced
from brokers.switchboard import OrderNews, Switchboard
from tests.brokers.doubles import Act, Venue, unreachable
from tests.harness import Story


class Poor(Venue):
    """A venue that affords a look only when something is in question."""

    asked: list[bool]

    def affords_a_look(self, in_question: bool) -> bool:
        self.asked.append(in_question)
        return in_question


class PoorStory(Story):
    def _venue(self, **options: Any) -> Venue:
        venue = Poor(self.instruments, self.clock, self.guard, **options)
        venue.asked = []
        venue.capabilities = replace(venue.capabilities, balances=False, positions_every_s=45)
        return venue


def paced(act: Act) -> Any:
    raise Paced("our own brake")


def test_a_resting_order_is_looked_at_in_the_regular_rounds_only() -> None:
    """NET-11."""
    story, rich = PoorStory(), Story()
    for one in (story, rich):
        one.hold()
        one.wait(6_000)
    before, before_rich = story.calls("orders"), rich.calls("orders")

    for one in (story, rich):
        one.wait(20_000)

    assert (story.calls("orders") - before, rich.calls("orders") - before_rich) == (4, 20)


def test_an_order_in_question_is_looked_at_at_once() -> None:
    story = PoorStory()
    story.venue.script("submit", unreachable)
    story.tick("730.65")

    story.wait(3_000)

    assert True in story.venue.asked  # type: ignore[attr-defined]
    assert story.calls("orders") >= 4


def test_positions_are_read_as_often_as_the_venue_affords_and_at_once_after_a_failure() -> None:
    story = PoorStory()
    story.poll()
    first = story.calls("positions")
    story.polls(8)
    calm = story.calls("positions")
    story.polls(1)
    story.venue.script("positions", unreachable)
    story.polls(9)
    failed = story.calls("positions")
    story.polls(1)

    assert (first, calm, failed, story.calls("positions")) == (1, 1, 3, 4)


def test_a_position_that_is_being_closed_is_read_in_every_look() -> None:
    """REC-06."""
    story = PoorStory()
    story.hold()
    story.polls(2)
    story.poller.sweep()
    calm = story.calls("positions")
    story.venue.always("submit", unreachable)
    story.flatten("by hand")
    by_the_desk = story.calls("positions")

    for _ in range(3):
        story.poller.sweep()

    assert (calm, story.calls("positions") - by_the_desk) == (1, 3)


def test_an_exit_does_not_wait_until_a_read_is_afforded() -> None:
    """NET-02: what is held is asked for where that costs no time, for the exit must not wait behind the polls."""
    story = PoorStory()
    story.hold()
    before = story.calls("positions")
    story.venue.affords_a_look = lambda in_question: False  # type: ignore[attr-defined]

    story.flatten("by hand")

    assert story.calls("positions") == before
    assert story.venue.calls[-1][0] != "positions" and story.calls("cancel") == 1


def test_our_own_brake_does_not_open_the_breaker() -> None:
    """NET-10, NET-11."""
    story = Story()
    story.hold()
    story.venue.always("submit", paced)
    story.flatten("by hand")
    story.wait(120_000)

    braked = list(story.told)
    story.venue.always("submit", unreachable)
    story.wait(120_000)

    assert (braked, [text.partition(" (")[0] for text in story.told]) == ([], ["the broker fails again and again"])


def test_the_venues_own_word_takes_entries_off_and_on_again() -> None:
    """By either connection; what is already held is not touched."""
    story = Story()

    class Silent:
        def info(self, text: str) -> None: ...

        warning = alarm = info

    board = Switchboard(story.states, story.clock, Silent(), lambda work: None, story.reports)  # type: ignore[arg-type]
    OrderNews(board).venue_open("the venue is in maintenance")
    off = story.s.blocks
    board.venue_open(None)

    assert (off, story.s.blocks) == ((("venue", "the venue is in maintenance"),), ())
