"""Exits that cannot go: the stop stays for as long as the exit would be held back, every try is sized to what is held, and the
telling never falls silent."""

from __future__ import annotations

from msgspec.structs import replace

from ops.ending import HALTED, UNPROTECTED_OR_UNKNOWN, exit_code
from ops.story import lines
from state.orders import OrderType, Purpose, Side, Status
from state.reports import PositionRow, Reported
from state.rules import loud
from tests.brokers.doubles import Fault, lost, ok, refused
from tests.harness import Story
from tests.state.builders import SYMBOL, D, Play, alarms, at, both_sides, ist, order_of, sent

CUTOFF = ist("14:45:00")


def shows(qty: int) -> Fault:
    return lambda act: [PositionRow(SYMBOL, D(qty))]


def stop_line(side: Side) -> str:
    return f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"


def holding(side: Side) -> Story:
    story = Story(side, start_ms=ist("14:44:00"))
    story.polls(1)
    story.hold()
    story.polls(1)
    return story


# -- the venue's position book denies what we hold ---------------------------------------------------------------------------


@both_sides
def test_while_the_positions_deny_what_we_hold_the_stop_is_not_given_up_for_an_exit(side: Side) -> None:
    """REC-12, EXI-04: DIVERGED at the cutoff; the exit would be held back, so the stop rests on."""
    story = holding(side)
    story.venue.always("positions", shows(0))
    story.polls(2)

    story.until(CUTOFF)
    story.wait(60_000)

    assert (story.book, story.calls("cancel"), story.sent("X")) == ([stop_line(side)], 0, [])
    assert (story.s.position, story.s.closing, story.s.unprotected_ms) == (5 * side.sign, "cutoff", None)
    assert exit_code([story.s], 0) == HALTED


@both_sides
def test_an_exit_held_back_by_the_positions_is_told_again_and_again_but_not_with_every_try(side: Side) -> None:
    """REC-12, PRO-18."""
    story = holding(side)
    story.venue.always("positions", shows(0))
    story.until(CUTOFF)
    story.wait(120_000)

    waits = [text for text in story.alarms if text.startswith("closing (cutoff)")]
    words = "closing (cutoff): the exit waits and the stop stays: the venue holds only 0 for an exit of 5"
    tries = story.calls("positions")
    assert waits == [words] * 6  # tries 1, 2, 3, 4, 8 and 16
    assert tries > 40  # its own and those of the polls


@both_sides
def test_a_book_that_lags_at_the_cutoff_costs_a_moment_and_not_the_stop(side: Side) -> None:
    """REC-01, EXI-01: one answer that knows nothing of the position yet."""
    story = holding(side)
    story.venue.script("positions", shows(0))

    story.until(CUTOFF)
    first = (story.book, story.calls("cancel"))
    story.wait(1_000)
    story.tick("731.00")
    story.wait(1_000)

    assert first == ([stop_line(side)], 0)
    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_a_stop_that_fills_as_the_cutoff_comes_is_no_difference_that_a_person_is_told_of(side: Side) -> None:
    """EXI-04, CON-05: found by the two-thread models; the fill is heard of after the venue's positions."""
    story = holding(side)
    before = len(story.alarms)
    story.silent_tick("730.15")  # the stop fills, and nobody has heard of it

    story.until(CUTOFF)
    story.wait(2_000)

    assert (story.net, story.book, story.sent("X"), story.s.position) == (0, [], [], 0)
    assert story.alarms[before:] == []


@both_sides
def test_as_soon_as_the_positions_agree_again_the_exit_goes(side: Side) -> None:
    """REC-12, EXI-04: within the pause between two tries; that a person must look stays true."""
    story = holding(side)
    story.venue.always("positions", shows(0))
    story.until(CUTOFF)
    story.wait(60_000)

    story.venue.always("positions", None)
    story.wait(6_000)
    story.tick("731.00")
    story.wait(1_000)

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])
    assert story.s.halted is not None and story.s.halted.startswith("DIVERGED")


@both_sides
def test_a_venue_that_holds_more_than_ours_holds_up_no_exit(side: Side) -> None:
    """REC-12: 7 against fills of 5; ours is sold, theirs is left."""
    story = holding(side)
    story.venue.always("positions", shows(7 * side.sign))
    story.polls(2)

    story.until(CUTOFF)
    story.tick("731.00")

    assert (story.s.position, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_positions_that_cannot_be_read_hold_up_no_exit(side: Side) -> None:
    """REC-03."""
    story = holding(side)
    story.venue.always("positions", refused("maintenance"))

    story.until(CUTOFF)
    story.tick("731.00")

    assert (story.net, story.book) == (0, [])


# -- nothing is accepted any more ----------------------------------------------------------------------------------------------


@both_sides
def test_stop_and_exit_refused_for_ever_stays_open_and_is_told_for_ever(side: Side) -> None:
    """PRO-18: price band; 30 min."""
    story = Story(side)
    story.venue.script("submit", ok)
    story.venue.always("submit", refused("price band"))
    story.tick("730.65", "731.15")

    story.wait(1_800_000)

    stops = [work.after.stop for work in story.works if work.after.stop is not None]
    tries = story.calls("submit") - 1
    told = [text for text in story.alarms if text.startswith("exit refused")]
    assert (story.s.position, story.net, story.s.closing) == (5 * side.sign, 5 * side.sign, "stop refused 3 times")
    assert len({stop.client_id for stop in stops}) == 3
    assert 340 < tries < 380 and len(told) == 12  # 1, 2, 3, 4, 8, ... 64, then every 64th
    assert [trade.exit_ms for trade in story.trades] == [None]
    assert exit_code([story.s], 0) == UNPROTECTED_OR_UNKNOWN


@both_sides
def test_stops_that_are_shown_at_work_and_then_rejected_end_in_an_exit_all_the_same(side: Side) -> None:
    """PRO-18, PRO-04: the broker takes them, the exchange does not; each was seen working for a moment."""
    play = Play(side).enter()
    play.fill(play.entry, "5")
    play.seen(play.entry, Reported.FILLED)
    for _ in range(2):
        play.accepted(play.stop)
        play.seen(play.stop)
        play.seen(play.stop, Reported.REJECTED)
        play.beat(500)
    play.accepted(play.stop)
    play.seen(play.stop)

    third = play.seen(play.stop, Reported.REJECTED)

    assert sent(third) == [f"submit X {side.opposite.value} 5 @ market"]


@both_sides
def test_a_stop_that_has_lasted_makes_the_failures_before_it_forgotten(side: Side) -> None:
    """PRO-04: two refused, one that works for 2 s and is then rejected: one more is tried."""
    play = Play(side).enter()
    play.fill(play.entry, "5")
    play.seen(play.entry, Reported.FILLED)
    for pause in (250, 500):
        play.refused(play.stop)
        play.beat(pause)
    play.accepted(play.stop)
    play.seen(play.stop)
    play.mono += 2_000
    play.seen(play.stop)

    play.seen(play.stop, Reported.REJECTED)
    again = play.beat(250)

    assert (sent(again), play.s.closing) == ([f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}"], None)


@both_sides
def test_how_long_nothing_has_protected_is_told_at_growing_pauses(side: Side) -> None:
    """PRO-18, PRO-04: never silent for longer than about five minutes."""
    story = Story(side)
    story.venue.script("submit", ok)
    story.venue.always("submit", refused("price band"))
    story.tick("730.65", "731.15")

    story.wait(1_000_000)

    seconds = [int(text.split()[2]) // 1000 for text in story.alarms if text.startswith("UNPROTECTED for")]
    assert seconds == [5, 10, 20, 40, 80, 160, 320, 640, 960]


@both_sides
def test_an_exit_that_was_refused_for_long_goes_when_it_may_and_is_sized_to_what_is_held(side: Side) -> None:
    """PRO-18: the band opens after ten minutes; a person has sold 2 meanwhile."""
    story = Story(side)
    story.polls(1)
    story.venue.script("submit", ok)
    story.venue.always("submit", refused("price band"))
    story.tick("730.65", "731.15")
    story.wait(600_000)

    story.venue.arrive(order_of(Purpose.EXIT, side.opposite, "2", client_id=""))
    story.silent_tick("731.15")
    story.wait(11_000)
    story.venue.always("submit", None)
    story.wait(6_000)
    story.tick("731.15")
    story.wait(1_000)

    assert (story.net, story.s.position, story.book) == (0, 0, [])
    assert story.sent("X")[-1] == f"X {side.opposite.value} 3"


# -- a stop that could not be told apart -----------------------------------------------------------------------------------------


def _twins(side: Side) -> tuple[Story, list[str]]:
    """The stop's answer is lost, and the venue's book shows two that could be it: one of them is a person's."""
    story = Story(side, start_ms=ist("14:43:00"))
    story.polls(1)
    story.venue.script("submit", ok, lost)
    story.tick("730.65", "731.15")
    stop = story.s.stop
    assert stop is not None
    twins = [story.venue.arrive(replace(stop, client_id="")) for _ in range(2)]
    story.polls(1)
    assert story.s.stop is not None and story.s.stop.status is Status.QUARANTINED
    return story, twins


@both_sides
def test_while_a_stop_that_could_be_ours_rests_nothing_is_sold_beside_it(side: Side) -> None:
    """UNK-09, UNK-11: at the cutoff; a person is told what to do, again and again."""
    story, _ = _twins(side)

    story.until(CUTOFF)
    story.wait(120_000)

    name = f"{side.opposite.value.lower()} stop 5 @ {at(side, '730.15')}"
    words = f"{name} may be at the venue: cancel by hand what looks like it, then this goes on by itself"
    told = [text.split(": ", 1)[1] for text in story.alarms if text.startswith("UNPROTECTED for")]
    assert (len(story.book), story.sent("X"), set(told)) == (2, [], {words})
    assert len(told) >= 4


@both_sides
def test_once_nothing_that_could_be_the_stop_works_any_more_the_exit_goes(side: Side) -> None:
    """UNK-09, EXI-04: a person has cancelled both; after the settle window and two looks."""
    story, twins = _twins(side)
    story.until(CUTOFF)
    story.wait(60_000)
    for venue_id in twins:
        story.venue.end(venue_id, Reported.CANCELLED)

    story.wait(11_000)
    story.silent_tick("731.00")
    story.polls(2)

    assert (story.net, story.s.position, story.book, story.sent("X")) == (0, 0, [], [f"X {side.opposite.value} 5"])
    assert story.s.halted is not None and "quarantined" in story.s.halted
    told = [str(line) for work in story.works for line in lines(work)]
    assert len([line for line in told if "nothing that could be it works at the venue any more" in line]) == 2  # alarm, end


@both_sides
def test_one_of_two_that_could_be_the_stop_is_enough_to_wait(side: Side) -> None:
    """UNK-09."""
    story, twins = _twins(side)
    story.until(CUTOFF)
    story.venue.end(twins[0], Reported.CANCELLED)

    story.wait(90_000)

    assert (story.sent("X"), story.s.stop is not None and story.s.stop.status) == ([], Status.QUARANTINED)


@both_sides
def test_before_the_cutoff_a_new_stop_takes_the_place_of_the_one_that_is_gone(side: Side) -> None:
    """UNK-09, PRO-03."""
    story, twins = _twins(side)
    for venue_id in twins:
        story.venue.end(venue_id, Reported.CANCELLED)

    story.wait(45_000)

    assert (story.book, story.s.stop is not None and story.s.stop.verified) == ([stop_line(side)], True)


@both_sides
def test_a_stop_that_could_be_ours_and_fired_is_found_in_the_positions_and_nothing_is_sold_twice(side: Side) -> None:
    """UNK-09, EXI-05: one of the two fires, the other is cancelled by its owner."""
    story, twins = _twins(side)
    story.until(CUTOFF)
    story.venue.end(twins[1], Reported.CANCELLED)

    story.silent_tick("730.10")
    story.wait(60_000)

    assert (story.net, story.s.position, story.book, story.sent("X")) == (0, 0, [], [])


# -- let go, and wanted again -------------------------------------------------------------------------------------------------


@both_sides
def test_an_exit_that_we_let_go_ourselves_is_not_asked_for_again_at_once(side: Side) -> None:
    """CON-17: nor does it count as a failure."""
    play = Play(side).hold()
    play.on_flatten()
    play.seen(play.stop, Reported.CANCELLED)

    let_go = play.not_sent(play.exit, "denied", again=False)
    at_once = play.beat()
    later = play.beat(250)

    assert (sent(let_go), sent(at_once), sent(later)) == ([], [], [f"submit X {side.opposite.value} 5 @ market"])
    assert (alarms([*let_go, *at_once, *later]), play.s.exit_failures) == ([], 0)
    assert play.exit.type is OrderType.MARKET


def test_the_pauses_and_the_telling_of_what_fails_for_ever() -> None:
    """PRO-18."""
    assert [times for times in range(1, 260) if loud(times)] == [1, 2, 3, 4, 8, 16, 32, 64, 128, 192, 256]
