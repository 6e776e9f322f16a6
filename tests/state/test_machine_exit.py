"""The way out: children first, then what is left, as often as it takes, and never more than is held."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from state.commands import Submit
from state.events import FlattenAsked
from state.machine import why_not_carry_out
from state.orders import OrderType, Side, Status
from state.reports import Reported
from state.snapshot import Phase
from state.strategy import Leave
from tests.brokers.doubles import done_but_lost, lost, ok, refused
from tests.harness import Story
from tests.state.builders import SYMBOL, TEN, D, Plan, Play, at, both_sides, ist, sent, told

CUTOFF = ist("14:45:00")


@both_sides
def test_the_exit_waits_for_the_stop_to_be_gone(side: Side) -> None:
    play = Play(side).hold()
    asked = play.on_flatten()
    waiting = play.beats(1_000)

    gone = play.seen(play.stop, Reported.CANCELLED)

    assert (told(asked), sent(waiting)) == (["cancel S"], [])
    assert sent(gone) == [f"submit X {side.opposite.value} 5 @ market"]
    assert (play.exit.type, play.s.phase) == (OrderType.MARKET, Phase.EXITING)


@both_sides
def test_the_exit_waits_for_the_target_to_be_gone_too(side: Side) -> None:
    play = Play(side, Plan(side, target=at(side, "733.00"))).hold()
    target = play.s.target
    assert target is not None
    play.accepted(target)
    asked = play.on_flatten()

    one_gone = play.seen(play.stop, Reported.CANCELLED)
    both_gone = play.seen(target, Reported.CANCELLED)

    assert (sent(asked), sent(one_gone)) == (["cancel S", "cancel T"], [])
    assert sent(both_gone) == [f"submit X {side.opposite.value} 5 @ market"]


@both_sides
def test_at_the_cutoff_entries_go_and_positions_are_closed(side: Side) -> None:
    """EXI-01: whatever is pending elsewhere goes, the stop is confirmed gone, the rest is sold."""
    story = Story(side, symbols=(SYMBOL, "INFY"))
    story.hold()
    story.tick("730.65", symbol="INFY")
    before = sorted(story.book)

    story.until(CUTOFF)
    asked = [verb for verb, _ in story.venue.calls if verb in ("cancel", "submit")][-3:]
    story.tick("731.00")
    story.wait(5_000)

    assert len(before) == 2
    assert asked == ["cancel", "submit", "cancel"] or asked == ["cancel", "cancel", "submit"]
    assert (story.book, story.net, story.venue.net("INFY")) == ([], 0, 0)
    assert story.sent("X") == [f"X {side.opposite.value} 5"]


@both_sides
def test_the_cutoff_needs_no_tick(side: Side) -> None:
    """EXI-02."""
    story = Story(side, start_ms=ist("14:39:00"))
    story.hold()
    story.clock.advance_to(CUTOFF - 1)
    story.pulse()
    before = story.sent("X")

    story.wait(5_000)

    assert (before, story.sent("X")) == ([], [f"X {side.opposite.value} 5"])


@both_sides
def test_no_entry_leaves_from_the_cutoff_on(side: Side) -> None:
    """EXI-03: armed at 14:44:59."""
    story = Story(side, start_ms=ist("14:44:50"))
    story.until(CUTOFF)

    story.tick("730.65")
    story.until(ist("14:50:00"))
    story.tick("731.00", "730.65")

    assert (story.calls("submit"), story.s.why) == (0, "denied: after the cutoff")


@pytest.mark.parametrize("fills", [False, True])
@both_sides
def test_a_resting_entry_is_cancelled_at_the_cutoff_and_if_it_fills_it_is_closed_once(side: Side, fills: bool) -> None:
    """EXI-03."""
    story = Story(side, start_ms=ist("14:44:50"), stream=False)
    story.tick("730.65")

    def meanwhile(act: Any) -> Any:
        if fills:
            story.silent_tick("731.15")
        return act()

    story.venue.script("cancel", meanwhile)
    story.until(CUTOFF)
    story.wait(2_000)
    story.silent_tick("731.00")
    story.wait(10_000)

    assert (story.book, story.net, story.s.phase) == ([], 0, Phase.FLAT)
    assert story.sent("X") == ([f"X {side.opposite.value} 5"] if fills else [])
    assert story.calls("cancel") == 1


@pytest.mark.parametrize("fault", ["refused", "lost", "rejected later"])
@both_sides
def test_an_exit_that_comes_to_nothing_is_tried_again_until_flat(side: Side, fault: str) -> None:
    """EXI-04: the position stays what it is, with an alarm, and never turns round."""
    story = Story(side, stream=False, start_ms=ist("14:44:00"))
    story.hold()
    if fault != "rejected later":
        story.venue.script("submit", refused("price band") if fault == "refused" else lost)

    story.until(CUTOFF)
    story.wait(250)
    if fault == "rejected later":
        story.venue.end("3", Reported.REJECTED)
    story.wait(1_000)
    unsold = (abs(story.net), story.s.phase)
    story.wait(40_000)
    story.silent_tick("731.00")
    story.wait(10_000)

    assert unsold[0] == 5 and unsold[1] in (Phase.EXITING, Phase.UNKNOWN)
    assert (story.net, story.book, story.s.phase) == (0, [], Phase.FLAT)
    assert len(story.alarms) >= 1
    assert len(story.sent("X")) == (2 if fault == "rejected later" else 1)


@both_sides
def test_a_stop_that_filled_unheard_of_is_found_before_anything_is_sold(side: Side) -> None:
    """EXI-05."""
    story = Story(side, stream=False, start_ms=ist("14:29:00"))
    story.hold()
    story.clock.advance_to(ist("14:30:00"))
    story.silent_tick("730.15")

    story.until(CUTOFF)
    story.wait(1_000)

    trade = story.trades[0]
    assert (story.sent("X"), story.net, story.s.phase) == ([], 0, Phase.FLAT)
    assert (trade.exit_price, trade.exit_ms, trade.exit_order) == (
        at(side, "730.15"),
        ist("14:30:00") + 10,
        "SBIN-20261120-S1",
    )


@both_sides
def test_a_position_turned_round_by_accident_is_closed_by_its_own_size_once(side: Side) -> None:
    """EXI-06: a second stop filled 3."""
    story = Story(side, stream=False)
    story.hold()
    stop = story.s.stop
    assert stop is not None
    story.venue.arrive(replace(stop, qty=D(3)))
    story.reports.bind(SYMBOL, stop.client_id, "3")
    story.silent_tick("730.60")
    story.silent_tick("730.15")

    story.polls(4)
    story.silent_tick("730.60")
    story.polls(2)

    assert (story.sent("X"), story.net, story.book) == ([f"X {side.value} 3"], 0, [])


@both_sides
def test_a_stop_that_fills_in_part_while_it_is_cancelled_leaves_the_rest_to_the_exit(side: Side) -> None:
    """EXI-07."""
    story = Story(side, stream=False)
    story.hold()

    def two_of_five(act: Any) -> Any:
        story.venue.tick(SYMBOL, at(side, "730.15"), story.clock.now_ms(), D(2))
        return act()

    story.venue.script("cancel", two_of_five)
    story.flatten("by hand")
    story.wait(500)
    first = story.sent("X")
    story.venue.tick(SYMBOL, at(side, "730.60"), story.clock.now_ms(), D(2))
    story.venue.end("3", Reported.CANCELLED)
    story.wait(2_000)
    story.silent_tick("730.60")
    story.wait(5_000)

    other = side.opposite.value
    assert (first, story.sent("X")) == ([f"X {other} 3"], [f"X {other} 3", f"X {other} 1"])
    assert (story.net, story.book) == (0, [])


@both_sides
def test_a_start_after_the_cutoff_enters_nothing(side: Side) -> None:
    """EXI-09: flat."""
    story = Story(side, start_ms=CUTOFF + 60_000)

    story.tick("730.65", "731.00", "730.65")

    assert (story.calls("submit"), story.s.why) == (0, "denied: after the cutoff")


@both_sides
def test_a_start_after_the_cutoff_with_a_position_from_a_crash_exits_at_once(side: Side) -> None:
    """EXI-09: long from a crash."""
    story = Story(side, start_ms=ist("14:00:00"))
    story.hold()
    story.clock.advance_to(CUTOFF + 60_000)

    story.restart()
    story.wait(1_000)
    story.tick("731.00")
    story.wait(1_000)

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_the_cutoff_stays_passed_when_the_clock_steps_back(side: Side) -> None:
    """EXI-15."""
    play = Play(side).hold()
    play.mono = CUTOFF - TEN + 60_000
    closing = sent(play.beat())
    play.mono -= 120_000

    play.seen(play.stop, Reported.CANCELLED, asked_ms=play.mono + 120_000)
    play.accepted(play.exit)
    play.fill(play.exit, "5", "731.00")
    play.seen(play.exit, Reported.FILLED)
    at_the_trigger = play.tick("730.65")

    assert (closing, sent(at_the_trigger)) == (["cancel S"], [])
    assert (play.s.over, play.s.phase) == (True, Phase.FLAT)


@both_sides
def test_a_laptop_that_slept_over_the_cutoff_exits_when_it_wakes(side: Side) -> None:
    """EXI-15."""
    story = Story(side, start_ms=ist("14:39:00"))
    story.hold()

    story.clock.advance_to(ist("14:55:00"))
    story.wait(5_000)

    assert story.sent("X") == [f"X {side.opposite.value} 5"]


# -- several reasons at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["stop cutoff hand", "cutoff stop hand", "hand stop cutoff", "hand cutoff stop"])
@both_sides
def test_stop_target_cutoff_and_hand_in_one_instant_make_one_exit(side: Side, order: str) -> None:
    """CON-11."""
    story = Story(side, Plan(side, target=at(side, "733.00")), start_ms=ist("14:44:00"))
    story.hold()
    story.clock.advance_to(CUTOFF - 10)

    for what in order.split():
        if what == "stop":
            story.tick("730.15")
        elif what == "cutoff":
            story.until(CUTOFF)
        else:
            story.flatten("by hand")
    story.tick("731.00")
    story.wait(5_000)

    assert (story.net, story.book, story.s.position) == (0, [], 0)
    assert len(story.sent("X")) == (0 if order.startswith("stop") else 1)


@both_sides
def test_a_leave_of_the_strategy_is_an_exit_and_when_flat_it_is_nothing(side: Side) -> None:
    play = Play(side, Plan(side, {at(side, "732.00"): Leave("enough")}))
    flat = play.tick("732.00")
    play.hold()

    assert (sent(flat), sent(play.tick("732.00")), play.s.closing) == ([], ["cancel S"], "enough")


def test_flatten_of_nothing_is_nothing() -> None:
    play = Play()

    assert (play.on_flatten(), play.s.closing) == ([], None)


@both_sides
def test_an_exit_larger_than_what_is_left_is_taken_back(side: Side) -> None:
    """I5: a late fill of the stop comes while the exit works."""
    play = Play(side).hold()
    stop = play.stop
    play.on_flatten()
    play.seen(play.stop, Reported.CANCELLED)
    play.accepted(play.exit)

    commands = play.fill(stop, "2", "730.15")

    assert sent(commands) == ["cancel X"]
    assert sent(play.seen(play.exit, Reported.CANCELLED)) == [f"submit X {side.opposite.value} 3 @ market"]


@both_sides
def test_an_unanswered_exit_is_not_sent_a_second_time_beside_the_first(side: Side) -> None:
    """UNK-12: it had executed."""
    story = Story(side, stream=False, start_ms=ist("14:44:00"))
    story.hold()
    story.venue.script("submit", done_but_lost)

    story.until(CUTOFF)
    story.silent_tick("731.00")
    story.wait(60_000)

    assert (story.sent("X"), story.net, story.s.phase) == ([f"X {side.opposite.value} 5"], 0, Phase.FLAT)


@both_sides
def test_an_unanswered_exit_that_never_arrived_is_sent_again_only_with_proof(side: Side) -> None:
    """UNK-12: it never arrived."""
    story = Story(side, stream=False, start_ms=ist("14:44:00"))
    story.hold()
    story.venue.script("submit", lost)

    story.until(CUTOFF)
    story.wait(29_000)
    before = (story.calls("submit"), [text.split(":")[0] for text in story.alarms])
    story.wait(7_000)
    story.silent_tick("731.00")
    story.wait(5_000)

    told = ["exit order unanswered (read timed out)", *(f"UNPROTECTED for {lasted} ms" for lasted in (5_000, 10_000, 20_000))]
    assert before == (3, told)  # entry, stop, the exit that was lost; somebody is told for as long as it lasts
    assert (story.sent("X"), story.net) == ([f"X {side.opposite.value} 5"], 0)


def test_a_stop_still_with_the_desk_is_not_sent_once_the_position_is_being_closed() -> None:
    """CON-17."""
    play = Play().enter()
    play.fill(play.entry, "5")
    command = Submit(play.stop)
    play.on(FlattenAsked(reason="by hand", **play.when))

    why = why_not_carry_out(play.s, command, play.rules, TEN)
    commands = play.not_sent(play.stop, why or "", again=False)

    assert why == "closing: by hand"
    assert sent(commands) == ["submit X SELL 5 @ market"]


def test_protection_for_a_position_that_is_gone_or_smaller_does_not_leave() -> None:
    play = Play().enter()
    entry = play.entry
    play.fill(entry, "5")
    command = Submit(play.stop)
    play.fill(play.stop, "2", "730.15")
    smaller = why_not_carry_out(play.s, command, play.rules, TEN)
    play.fill(play.stop, "3", "730.15")

    assert (smaller, why_not_carry_out(play.s, command, play.rules, TEN)) == ("larger than the position", "flat")


@both_sides
def test_an_unreachable_venue_is_asked_for_the_exit_again_and_again(side: Side) -> None:
    play = Play(side).hold()
    play.on_flatten()
    play.seen(play.stop, Reported.CANCELLED)

    tries = []
    for _ in range(8):
        before = play.mono
        play.not_sent(play.exit)
        while play.s.exit is None:
            play.beat(250)
        tries.append(play.mono - before)

    assert tries == [250, 500, 1_000, 2_000, 5_000, 5_000, 5_000, 5_000]
    assert (play.exit.status, play.exit.qty) == (Status.INTENT, D(5))


def test_a_stop_cancelled_in_vain_is_read_again_after_two_seconds() -> None:
    play = Play().hold()
    play.on_flatten()
    play.mono += 1_000
    early = play.seen(play.stop)
    play.mono += 1_000
    play.seen(play.stop)

    later = play.beats(500)

    assert (sent(early), sent(later)) == ([], ["cancel S"])


@both_sides
def test_a_lost_cancel_is_read_back_and_asked_again(side: Side) -> None:
    """UNK-11: a cancel that timed out."""
    story = Story(side)
    story.hold()
    story.venue.script("cancel", lost)

    story.flatten("by hand")
    at_once = (story.sent("X"), len(story.book))
    story.wait(5_000)
    story.tick("731.00")
    story.wait(1_000)

    assert at_once == ([], 1)
    assert (story.net, story.book, story.sent("X"), story.calls("cancel")) == (0, [], [f"X {side.opposite.value} 5"], 2)


@both_sides
def test_an_exit_refused_then_taken_is_one_sale(side: Side) -> None:
    story = Story(side)
    story.venue.script("submit", ok, ok, refused("freeze"), refused("freeze"))
    story.hold()

    story.flatten("by hand")
    story.wait(3_000)
    story.tick("731.00")

    assert (story.net, story.sent("X")) == (0, [f"X {side.opposite.value} 5"])
