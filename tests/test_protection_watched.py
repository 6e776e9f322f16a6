"""Venues without a native stop: no stop order is sent, the level is watched here, and nothing is said to rest there."""

from __future__ import annotations

from typing import Any

import pytest

from ops.ending import UNPROTECTED_OR_UNKNOWN, exit_code
from state.events import EntriesOff, EntriesOn, Restarted
from state.orders import Side
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import refused, unreachable
from tests.harness import Story
from tests.state.builders import D, Plan, Play, alarms, at, both_sides, move, sent, slot_names


def holding(side: Side, plan: Plan | None = None) -> Play:
    play = Play(side, plan, native_stops=False).enter()
    entry = play.entry
    play.fill(entry, "5")
    play.seen(entry, Reported.FILLED)
    return play


def off(play: Play, source: str) -> list[Any]:
    return play.on(EntriesOff(source=source, reason=f"{source} is silent", **play.when))


@both_sides
def test_no_stop_order_is_sent_and_the_level_is_known(side: Side) -> None:
    """PRO-16."""
    story = Story(side, native_stops=False)

    story.tick("730.65", "731.15", "731.20")
    story.wait(10_000)

    assert (story.sent(), story.book) == ([f"E {side.value} 5"], [])
    assert (story.s.stop_price, story.s.unprotected_ms, story.alarms) == (at(side, "730.15"), None, [])


@both_sides
def test_one_touch_of_the_level_is_enough_and_only_the_fill_closes_the_position(side: Side) -> None:
    """PRO-16: the price recovers at once; the exit is at the venue before our books say closed."""
    play = holding(side)

    touched = play.tick("730.15")
    play.tick("731.00")
    phase, held = play.s.phase, play.s.position
    play.accepted(play.exit)
    play.fill(play.exit, "5", "730.20")
    play.seen(play.exit, Reported.FILLED)

    assert sent(touched) == [f"submit X {side.opposite.value} 5 @ market"]
    assert (phase, held) == (Phase.EXITING, 5 * side.sign)
    assert (play.s.position, slot_names(play.s)) == (0, [])


@both_sides
def test_a_price_just_short_of_the_level_closes_nothing(side: Side) -> None:
    """PRO-16."""
    play = holding(side)

    assert (sent(play.tick("730.20")), play.s.closing) == ([], None)


@both_sides
def test_the_touch_is_seen_on_the_tick_path_and_by_the_quotes_of_the_poll_path(side: Side) -> None:
    """PRO-16: both come through the same door."""
    story = Story(side, native_stops=False)
    story.tick("730.65", "731.15", "731.20")

    story.states["SBIN"].tick(at(side, "730.10"), story.clock.now_ms())
    story.desk.drain()
    story.tick("730.40")

    assert (story.net, story.sent("X")) == (0, [f"X {side.opposite.value} 5"])


@both_sides
def test_a_refused_exit_is_tried_until_flat_and_counted_as_bare(side: Side) -> None:
    """PRO-16, EXI-04: once the level was touched nothing protects any more until the exit works."""
    story = Story(side, native_stops=False)
    story.tick("730.65", "731.15", "731.20")
    story.venue.script("submit", refused("freeze"), unreachable, refused("freeze"))

    story.tick("730.10")
    story.wait(4_000)
    story.tick("730.40")
    story.wait(250)

    assert (story.net, story.sent("X")) == (0, [f"X {side.opposite.value} 5"])
    assert 0 < story.s.worst_unprotected <= 4_000


@both_sides
def test_the_watched_level_only_moves_our_way_and_sends_nothing(side: Side) -> None:
    """PRO-16, PRO-07."""
    wishes = {at(side, "732.00"): move(side, "730.65"), at(side, "732.05"): move(side, "730.40")}
    play = holding(side, Plan(side, wishes))

    commands = [*play.tick("732.00"), *play.tick("732.05")]
    touched = play.tick("730.65")

    assert (sent(commands), play.s.stop_price) == ([], at(side, "730.65"))
    assert sent(touched) == [f"submit X {side.opposite.value} 5 @ market"]


@pytest.mark.parametrize("source", ["start", "feed"])
@both_sides
def test_without_fresh_ticks_nothing_protects_and_a_person_is_told(side: Side, source: str) -> None:
    """PRO-16, FEE-01: the quotes of each poll still watch, so it is not sold for a feed that hiccups."""
    play = holding(side)

    off(play, source)
    commands = play.beats(21_000)
    bare_ms = play.s.unprotected_ms
    play.on(EntriesOn(source=source, **play.when))

    words = f"no price of the last seconds to watch the level {at(side, '730.15')} by"
    assert alarms(commands) == [f"UNPROTECTED for {ms} ms: {words}" for ms in (5_000, 10_000, 20_000)]
    assert (sent(commands), bare_ms is not None) == ([], True)
    assert (play.s.unprotected_ms, play.s.worst_unprotected) == (None, 21_000)


@both_sides
def test_when_the_polls_are_not_answered_either_nobody_watches_and_the_position_is_closed(side: Side) -> None:
    """PRO-16: within the limit."""
    play = holding(side)

    off(play, "feed")
    off(play, "poll")
    early = play.beats(4_750)
    late = play.beat(250)

    assert sent(early) == []
    assert sent(late) == [f"submit X {side.opposite.value} 5 @ market"]
    assert alarms(late) == ["UNPROTECTED for 5000 ms: closing at market"]


@both_sides
def test_any_other_block_on_entries_says_nothing_about_the_prices(side: Side) -> None:
    """PRO-16."""
    play = holding(side)

    off(play, "poll")
    off(play, "journal")
    commands = play.beats(10_000)

    assert (sent(commands), alarms(commands), play.s.unprotected_ms) == ([], [], None)


@both_sides
def test_a_level_that_was_crossed_while_we_were_dead_closes_at_the_first_price(side: Side) -> None:
    """PRO-16, CRA-04."""
    play = holding(side)
    play.mono = 7
    play.on(Restarted(**play.when))

    crossed = play.tick("729.00")

    assert sent(crossed) == [f"submit X {side.opposite.value} 5 @ market"]
    assert play.s.closing == f"price {at(side, '729.00')} is beyond the stop {at(side, '730.15')} and none rests at the venue"


@both_sides
def test_a_partial_fill_that_is_stopped_out_takes_its_entry_along(side: Side) -> None:
    """PRO-16, PRO-05: 3 of 5."""
    play = Play(side, native_stops=False).enter()
    play.fill(play.entry, "3")

    commands = play.tick("730.15")

    assert sorted(sent(commands)) == ["cancel E", f"submit X {side.opposite.value} 3 @ market"]


def test_left_open_at_the_end_it_is_not_called_protected() -> None:
    """PRO-16, OPS-13: with the runner gone nobody watches the level."""
    play = holding(Side.BUY)

    assert (exit_code([play.s], 0), play.s.position) == (UNPROTECTED_OR_UNKNOWN, D(5))
