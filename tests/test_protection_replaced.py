"""Trailing where the venue cannot amend: the old stop is cancelled, and what follows is protected or flat within the limit.

One slot holds one order, so the new stop is placed when the old one is gone: the gap is measured, bounded, and told.
"""

from __future__ import annotations

import pytest

from state.events import Restarted
from state.orders import Side, Status
from state.reports import Reported
from tests.brokers.doubles import Act, Fault, done_but_lost, lost, refused, unreachable
from tests.harness import Story
from tests.state.builders import Plan, Play, at, both_sides, move, sent

LIMIT_MS = 5_000


def plan(side: Side) -> Plan:
    return Plan(side, {at(side, "732.00"): move(side, "730.65")})


def held(side: Side) -> Story:
    story = Story(side, plan(side), can_replace=False)
    story.hold()
    return story


def line(side: Side, level: str = "730.65") -> str:
    return f"{side.opposite.value} STOP 5 @ {at(side, level)}"


@both_sides
def test_the_old_stop_is_gone_before_the_new_one_is_placed_and_the_gap_is_measured(side: Side) -> None:
    """PRO-11: never two, and how long there was none."""
    play = Play(side, plan(side), can_replace=False).hold()

    cancelled = play.tick("732.00")
    play.mono += 40
    placed = play.seen(play.stop, Reported.CANCELLED)
    play.mono += 60
    play.accepted(play.stop)
    play.mono += 20
    play.seen(play.stop)

    assert (sent(cancelled), sent(placed)) == (["cancel S"], [f"submit S {side.opposite.value} 5 @ {at(side, '730.65')}"])
    assert (play.s.unprotected_ms, play.s.worst_unprotected) == (None, 120)


@pytest.mark.parametrize("fault", [refused("busy"), unreachable], ids=["refused", "not sent"])
@both_sides
def test_a_new_stop_that_fails_once_the_old_one_is_gone_is_tried_again_at_once(side: Side, fault: Fault) -> None:
    """PRO-11."""
    story = held(side)
    story.venue.script("submit", fault)

    story.tick("732.00")
    bare = story.book
    story.wait(500)

    assert (bare, story.book, story.sent("X")) == ([], [line(side)], [])
    assert 0 < story.s.worst_unprotected <= 500
    assert [text.split(":")[0] for text in story.alarms] == ["UNPROTECTED"]


@both_sides
def test_a_new_stop_refused_again_and_again_ends_flat_within_the_limit(side: Side) -> None:
    """PRO-11: and how long nothing protected is kept for the report."""
    story = held(side)
    story.venue.script("submit", *[refused("price band")] * 3)

    story.tick("732.00")
    since_ms = story.clock.monotonic_ms()
    while not story.sent("X") and story.clock.monotonic_ms() - since_ms < 2 * LIMIT_MS:
        story.wait(250)
    took_ms = story.clock.monotonic_ms() - since_ms
    story.tick("732.00")
    story.wait(1_000)

    assert took_ms <= LIMIT_MS
    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])
    assert 0 < story.s.worst_unprotected <= LIMIT_MS


@pytest.mark.parametrize("fault", [lost, done_but_lost], ids=["lost", "done"])
@both_sides
def test_a_cancel_without_an_answer_is_read_back_and_never_makes_two_stops(side: Side, fault: Fault) -> None:
    """PRO-11, UNK-11."""
    story = held(side)
    story.venue.script("cancel", fault)

    story.tick("732.00")
    books = []
    for _ in range(40):
        story.wait(250)
        books.append(len(story.book))

    assert (max(books), story.book) == (1, [line(side)])
    assert story.sent("S") == [f"S {side.opposite.value} 5"] * 2


@both_sides
def test_a_process_that_dies_between_protects_first_when_it_is_back(side: Side) -> None:
    """PRO-11, CRA-03: the old one is cancelled and the new one has not left; the level comes from the journal."""
    story = held(side)
    story.venue.script("submit", _dead)
    with pytest.raises(Dead):
        story.tick("732.00")
    bare = story.book

    story.clock.advance(60_000)
    begun = len(story.venue.calls)
    story.restart()
    story.wait(31_000)

    reads = {"order", "orders", "fills", "positions"}
    acts = [verb for verb, _ in story.venue.calls[begun:] if verb not in reads]
    assert (bare, story.book, acts) == ([], [line(side)], ["submit"])
    assert (story.s.stop_price, story.sent("E")) == (at(side, "730.65"), [f"E {side.value} 5"])


@both_sides
def test_killed_after_the_cancel_was_sent_it_asks_and_then_places_the_stop_at_once(side: Side) -> None:
    """PRO-11, CRA-02: the journal knows the cancel; what became of it, the venue says."""
    play = Play(side, plan(side), can_replace=False).hold()
    play.tick("732.00")
    old = play.stop

    play.mono = 7
    asked = play.on(Restarted(**play.when))
    placed = play.seen(old, Reported.CANCELLED)

    assert (sent(asked), old.status) == ([], Status.CANCELLING)
    assert sent(placed) == [f"submit S {side.opposite.value} 5 @ {at(side, '730.65')}"]


class Dead(BaseException):
    """The process ends here."""


def _dead(act: Act) -> object:
    raise Dead
