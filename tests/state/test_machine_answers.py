"""Yes, no, unknown: every answer belongs to one order, and an order is over only when the venue has said so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from state.events import Act, ForeignSeen, PositionSeen, ProvedAbsent, Restarted, WasQuarantined
from state.orders import Purpose, Side, Status
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import done_but_garbled, done_but_lost, lost, unreachable
from tests.harness import Story
from tests.state.builders import BUY, ENTRY, SYMBOL, D, Plan, Play, alarms, at, both_sides, move, order_of, sent, slot_names, told

# -- unknown ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [done_but_lost, done_but_garbled], ids=["UNK-01", "UNK-04"])
@both_sides
def test_an_entry_whose_answer_was_lost_is_found_owned_and_protected(side: Side, fault: Any) -> None:
    """UNK-01, UNK-04: whatever was wrong with the answer, it was sent."""
    story = Story(side, stream=False)
    story.venue.script("submit", fault)

    story.tick("730.65")
    at_once = story.s.phase
    story.silent_tick("731.15")
    story.polls(10)

    assert at_once is Phase.UNKNOWN
    assert story.sent("E") == [f"E {side.value} 5"]
    assert (story.s.position, story.book) == (5 * side.sign, [f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"])


def test_a_thousand_lost_answers_make_a_thousand_orders() -> None:
    """UNK-01."""
    for _ in range(1_000):
        story = Story(stream=False)
        story.venue.script("submit", done_but_lost)
        story.tick("730.65", "730.60")
        story.poll()
        assert (story.calls("submit"), story.book) == (1, ["BUY STOP_LIMIT 5 @ 731.15"])


@both_sides
def test_an_unanswered_entry_whose_id_is_known_is_followed_by_that_id(side: Side) -> None:
    """UNK-05."""
    play = Play(side)
    play.tick("730.65")

    asked = play.unanswered(play.entry, venue_id="V7")
    tracked = (play.entry.status, play.entry.venue_id)
    play.seen(play.entry, Reported.REJECTED)

    assert (told(asked)[-1], tracked) == ("query E", (Status.UNKNOWN, "V7"))
    assert (play.s.entry, play.s.why) == (None, "entry rejected")


@both_sides
def test_what_was_never_sent_is_not_unknown(side: Side) -> None:
    """UNK-06."""
    story = Story(side)
    story.venue.script("submit", unreachable)

    story.tick("730.65")
    waiting = (story.s.phase, story.sent())
    story.wait(1_000)

    assert waiting == (Phase.ENTERING, [])
    assert story.sent() == [f"E {side.value} 5"]


@pytest.mark.parametrize("late_ms", [0, 500, 7_000, 29_000])
@both_sides
def test_an_order_that_arrives_late_is_claimed_and_never_doubled(side: Side, late_ms: int) -> None:
    """UNK-07."""
    story = Story(side, stream=False)
    story.venue.script("submit", lost)
    story.tick("730.65")
    order = story.s.entry
    assert order is not None
    story.venue.script("orders", *[unreachable] * 3)

    story.wait(late_ms)
    unsure = story.s.phase
    story.venue.arrive(order)
    story.wait(5_000)

    assert unsure is Phase.UNKNOWN
    assert (story.s.phase, story.sent(), story.calls("submit")) == (Phase.ENTERING, [f"E {side.value} 5"], 1)
    assert story.s.entry is not None and story.s.entry.venue_id == "1"


@both_sides
def test_an_order_that_is_nowhere_after_the_whole_window_was_not_sent(side: Side) -> None:
    """UNK-07."""
    story = Story(side)
    story.venue.script("submit", lost)
    story.tick("730.65")
    story.wait(29_900)
    before = story.s.phase

    story.wait(5_000)
    story.tick("731.00", "730.65")

    assert (before, story.sent()) == (Phase.UNKNOWN, [f"E {side.value} 5"])
    assert story.calls("submit") == 2


@both_sides
def test_two_look_alikes_are_not_guessed_between(side: Side) -> None:
    """UNK-09."""
    story = Story(side)
    like = order_of(Purpose.ENTRY, side, type=Plan(side).type, limit_price=ENTRY, trigger_price=ENTRY)
    story.venue.arrive(like)
    story.poll()
    baseline = story.s.foreign
    story.venue.script("submit", lost)
    story.tick("730.65")
    story.venue.arrive(like)
    story.venue.arrive(like)

    story.wait(1_000)
    more = [story.tick("731.00"), story.tick("730.65"), story.wait(60_000)]

    assert baseline == ("1",)
    assert story.s.entry is not None and story.s.entry.status is Status.QUARANTINED
    assert "quarantined: venue orders 2, 3 all look like it" in story.alarms[-1]
    assert (len(more), story.calls("submit"), story.calls("cancel")) == (3, 1, 0)


@both_sides
def test_a_row_that_was_there_before_is_no_candidate(side: Side) -> None:
    """UNK-09."""
    story = Story(side)
    like = order_of(Purpose.ENTRY, side, type=Plan(side).type, limit_price=ENTRY, trigger_price=ENTRY)
    story.venue.arrive(like)
    story.poll()
    story.venue.script("submit", done_but_lost)

    story.tick("730.65")
    story.wait(1_000)

    assert story.s.entry is not None and (story.s.entry.venue_id, story.s.entry.status) == ("2", Status.WORKING)


@both_sides
def test_the_stream_resolves_an_unknown_order_before_any_poll(side: Side) -> None:
    """UNK-10: where the venue carries our own ids."""
    story = Story(side, venue={"client_ids": True})
    story.venue.script("submit", done_but_lost)
    story.tick("730.65")
    unsure = story.s.phase
    polls = story.calls("orders")

    story.tick("731.15")
    resolved = (story.s.position, story.calls("orders"))
    late = story.s
    story.states[SYMBOL].apply(
        ProvedAbsent(client_id="SBIN-20261120-E0", mono_ms=story.clock.monotonic_ms(), now_ms=story.clock.now_ms())
    )

    assert (unsure, resolved) == (Phase.UNKNOWN, (5 * side.sign, polls))
    assert story.s is late


@both_sides
def test_equal_intents_are_different_orders(side: Side) -> None:
    """UNK-13: one millisecond or one minute apart."""
    story = Story(side)
    ids = []
    for pause in (1, 60_000, 1):
        story.clock.advance(pause)
        story.tick("730.65", every_ms=1)
        ids.append(story.venue.submitted[-1].client_id)
        story.venue.end(str(len(story.venue.submitted)), Reported.REJECTED)
        story.poll()
        story.tick("731.00", every_ms=1)

    assert ids == [f"SBIN-20261120-E{n}" for n in range(3)]
    assert [order.client_id for order in story.s.ended] == ids


@both_sides
def test_only_the_symbol_in_question_waits(side: Side) -> None:
    """UNK-17."""
    story = Story(side, symbols=(SYMBOL, "INFY", "TCS"))
    for symbol in ("INFY", "TCS"):
        story.tick("730.65", "731.15", "731.20", symbol=symbol)
    story.venue.script("submit", lost)
    story.tick("730.65")

    story.tick("730.15", symbol="TCS")
    story.tick("731.00", "730.65", symbol="TCS")
    story.tick("730.60", "731.00", "730.65")
    phases = {symbol: state.snapshot.phase for symbol, state in story.states.items()}

    held = Phase.LONG if side is BUY else Phase.SHORT
    assert phases == {SYMBOL: Phase.UNKNOWN, "INFY": held, "TCS": Phase.ENTERING}
    assert len(story.alarms) == 1


# -- late and foreign answers ----------------------------------------------------------------------------------------------------


@both_sides
def test_the_answer_to_an_old_cancel_does_not_touch_the_next_entry(side: Side) -> None:
    """CON-01 and CON-10: A ends, B becomes the entry, then A's answers arrive."""
    play = Play(side).enter()
    old = play.entry
    play.mono += 900_000
    play.beat()
    play.seen(play.entry, Reported.CANCELLED)
    play.tick("731.00")
    play.enter()
    mine = play.s

    for late in (
        lambda: play.acknowledged(old, Act.CANCEL),
        lambda: play.refused(old, "already cancelled", Act.CANCEL),
        lambda: play.not_sent(old, act=Act.CANCEL),
        lambda: play.unanswered(old, Act.CANCEL),
        lambda: play.accepted(old, "V99"),
        lambda: play.seen(old, Reported.CANCELLED),
    ):
        assert (late(), play.s) == ([], mine)


@both_sides
def test_a_fill_of_the_old_entry_is_protected_and_the_new_entry_taken_back(side: Side) -> None:
    """CON-01."""
    play = Play(side).enter()
    old = play.entry
    play.mono += 900_000
    play.beat()
    play.seen(play.entry, Reported.CANCELLED)
    play.tick("731.00")
    play.enter()

    commands = play.fill(old, "5")

    assert sent(commands) == [f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}", "cancel E"]
    assert (play.s.trip, play.s.entries_used) == (old.client_id, 2)


@both_sides
def test_a_trail_computed_for_a_position_that_is_gone_stores_and_sends_nothing(side: Side) -> None:
    """CON-02."""
    play = Play(side, Plan(side, {at(side, "732.00"): move(side, "731.00")})).hold().stop_out()

    assert (sent(play.tick("732.00")), play.s.stop_price) == ([], None)


@both_sides
def test_a_trail_while_an_amend_is_in_flight_waits_for_it_and_the_latest_level_wins(side: Side) -> None:
    """CON-08."""
    levels = {
        at(side, price): move(side, level) for price, level in (("732.00", "730.50"), ("732.05", "730.60"), ("732.10", "730.55"))
    }
    play = Play(side, Plan(side, levels)).hold()

    first = play.tick("732.00")
    meanwhile = [*play.tick("732.05"), *play.tick("732.10")]
    asked = play.stop
    shown = play.seen(asked)
    then = play.acknowledged(asked, Act.REPLACE)

    assert (sent(first), sent(meanwhile), sent(shown)) == ([f"replace S 5 @ {at(side, '730.50')}"], [], [])
    assert sent(then) == [f"replace S 5 @ {at(side, '730.60')}"]


@both_sides
def test_a_stop_that_filled_is_not_amended(side: Side) -> None:
    """CON-08."""
    play = Play(side, Plan(side, {at(side, "732.00"): move(side, "730.50")})).hold()
    play.fill(play.stop, "5", "730.15")

    assert (sent(play.tick("732.00")), slot_names(play.s)) == ([], ["stop"])


@both_sides
def test_the_fill_the_trigger_and_a_retry_in_any_order_make_one_entry(side: Side) -> None:
    """CON-04 and CON-09."""
    for order in (("tick", "retry", "fill"), ("retry", "tick", "fill"), ("fill", "tick", "retry"), ("tick", "fill", "retry")):
        play = Play(side)
        play.tick("730.65")
        entry = play.entry
        play.not_sent(entry)
        steps = {
            "tick": lambda play=play: play.tick("730.60"),
            "retry": lambda play=play: play.beat(250),
            "fill": lambda play=play, entry=entry: play.fill(entry, "5"),
        }
        commands = [command for step in order for command in steps[step]()]

        entries = [text for text in sent(commands) if text.startswith("submit E")]
        assert (len(entries) <= 1, play.s.entries_used) == (True, 1)
        assert play.s.position == 5 * side.sign


@both_sides
def test_two_paths_that_miss_the_stop_place_one(side: Side) -> None:
    """CON-06: the poll and a tick find the position without a stop in the same moment."""
    play = Play(side).hold()
    stop = play.stop
    first = play.seen(stop, Reported.EXPIRED)
    paths = [*play.tick("731.00"), *play.beat(250), *play.tick("731.00"), *play.beat(0)]

    assert (sent(first), len(alarms(first))) == ([], 1)
    assert (sent(paths), alarms(paths)) == ([f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}"], [])


def test_an_entry_whose_placing_fails_does_not_leave_the_symbol_armed_for_ever() -> None:
    """CON-03."""
    play = Play()
    play.tick("730.65")
    play.refused(play.entry)
    play.tick("731.00")

    assert (play.s.phase, sent(play.tick("730.65"))) == (Phase.FLAT, ["submit E BUY 5 @ 731.15"])


# -- answers that contradict ---------------------------------------------------------------------------------


@both_sides
def test_one_order_accepted_under_two_ids_is_for_a_person(side: Side) -> None:
    play = Play(side).enter()

    commands = play.accepted(play.entry, "V2")

    assert play.entry.status is Status.QUARANTINED
    assert alarms(commands) == [
        "HALTED: entry order quarantined: accepted as V2, but already known as V-SBIN-20261120-E0",
    ]


def test_the_same_acceptance_twice_changes_nothing() -> None:
    play = Play().enter()
    before = play.s

    assert (play.accepted(play.entry), play.s is before) == ([], True)


def test_quarantine_ends_with_the_venues_last_word() -> None:
    play = Play().enter()
    play.on(WasQuarantined(client_id=play.entry.client_id, reason="two alike", **play.when))
    in_doubt = (play.s.phase, sent(play.seen(play.entry)), play.entry.status)

    play.seen(play.entry, Reported.CANCELLED)

    assert in_doubt == (Phase.UNKNOWN, [], Status.QUARANTINED)
    assert (play.s.entry, play.s.phase) == (None, Phase.HALTED)


def test_an_answer_about_a_question_nobody_asked_changes_nothing() -> None:
    play = Play().hold()
    before = play.s

    for answer in (
        play.acknowledged(play.stop, Act.REPLACE),
        play.refused(play.stop, act=Act.CANCEL),
        play.not_sent(play.stop, act=Act.REPLACE),
        play.not_sent(play.stop),
    ):
        assert answer == []
    assert play.s == before


def test_a_row_asked_for_before_our_last_change_proves_nothing() -> None:
    play = Play().hold()
    play.mono += 10_000
    play.on_flatten()

    assert (play.seen(play.stop, asked_ms=play.mono - 5_000), play.stop.status) == ([], Status.CANCELLING)


def test_a_row_asked_for_before_an_amend_does_not_say_that_it_failed() -> None:
    play = Play(strategy=Plan(wishes={D("732.00"): move(BUY, "730.65")})).hold()
    asked_ms = play.mono
    play.mono += 100
    play.tick("732.00")
    before = play.s

    commands = play.seen(play.stop, asked_ms=asked_ms, trigger_price=D("730.15"))

    assert (commands, play.s is before) == ([], True)


@both_sides
def test_flat_by_the_fills_is_not_free_before_the_venue_has_closed_the_stop(side: Side) -> None:
    """CON-04: a slot is left only with proof."""
    play = Play(side).hold()
    stop = play.stop
    play.fill(stop, "5", "730.15")

    early = play.tick("730.10")
    play.seen(stop, Reported.FILLED)

    assert (sent(early), play.s.entries_used) == ([], 1)
    assert sent(play.tick("730.10")) == [f"submit E {side.value} 5 @ 731.15"]


def test_an_unclear_word_changes_nothing() -> None:
    play = Play().hold()
    before = play.s

    assert (play.seen(play.stop, Reported.UNCLEAR), play.s is before) == ([], True)


def test_an_event_about_an_order_we_never_had_changes_nothing() -> None:
    play = Play()
    stranger = order_of(Purpose.ENTRY, BUY, client_id="SBIN-20261120-E99")

    for commands in (
        play.seen(stranger),
        play.refused(stranger),
        play.not_sent(stranger),
        play.unanswered(stranger),
        play.on(ProvedAbsent(client_id=stranger.client_id, **play.when)),
        play.on(WasQuarantined(client_id=stranger.client_id, reason="", **play.when)),
    ):
        assert commands == []
    assert play.s.version == 0


# -- what the venue holds ------------------------------------------------------------------------------------


def _position(play: Play, qty: str, asked_ms: int | None = None) -> list[Any]:
    return play.on(PositionSeen(qty=D(qty), asked_ms=play.mono if asked_ms is None else asked_ms, **play.when))


def test_a_disagreement_about_the_position_is_believed_the_second_time_and_told_once() -> None:
    play = Play()
    _position(play, "0")
    play.hold()
    play.mono += 10

    first = _position(play, "0")
    at_once = _position(play, "0")
    play.mono += 2_000
    second, third = (_position(play, "0") for _ in range(2))

    assert (first, at_once, third) == ([], [], [])
    assert told(second) == ["alarm: HALTED: DIVERGED: venue holds 0, our fills say 5"]
    assert (play.s.position, slot_names(play.s)) == (5, ["stop"])


def test_agreement_forgets_a_single_disagreement() -> None:
    play = Play()
    _position(play, "0")
    play.hold()
    play.mono += 10
    _position(play, "0")
    _position(play, "5")
    _position(play, "0")

    assert (play.s.disagreements, play.s.halted) == (1, None)


def test_a_position_asked_for_before_the_last_fill_is_no_news() -> None:
    play = Play().hold()
    play.mono += 10
    _position(play, "0", asked_ms=play.s.fill_ms - 1)

    assert play.s.disagreements == 0


def test_foreign_orders_are_remembered_once() -> None:
    play = Play()
    play.on(ForeignSeen(venue_ids=("F1", "F2"), **play.when))
    play.on(ForeignSeen(venue_ids=("F2", "F3"), **play.when))

    assert play.s.foreign == ("F1", "F2", "F3")
    play.tick("730.65")
    assert play.entry.baseline == ("F1", "F2", "F3")


# -- after a crash -------------------------------------------------------------------------------------------


@both_sides
def test_a_restart_makes_every_live_order_unknown_and_asks_about_it(side: Side) -> None:
    play = Play(side).hold()
    play.mono = 7

    commands = play.on(Restarted(**play.when))

    assert (told(commands), play.stop.status, play.stop.verified) == (["query S"], Status.UNKNOWN, False)
    play.mono += 1
    play.seen(play.stop)
    assert (play.stop.status, play.stop.verified, play.s.unprotected_ms) == (Status.WORKING, True, None)


def test_a_restart_drops_an_entry_that_was_waiting_to_be_sent() -> None:
    play = Play()
    play.tick("730.65")
    play.not_sent(play.entry)

    play.on(Restarted(**play.when))

    assert (play.s.entry, play.s.entries_used, play.s.blocks) == (None, 1, ())
    assert play.s.why == "entry not sent: interrupted while it waited"


def test_a_restart_leaves_a_quarantined_order_to_the_person() -> None:
    play = Play().enter()
    play.on(WasQuarantined(client_id=play.entry.client_id, reason="two alike", **play.when))

    play.on(Restarted(**play.when))

    assert play.entry.status is Status.QUARANTINED


def test_version_counts_the_changes() -> None:
    play = Play()
    play.tick("731.00")
    nothing = play.s.version
    play.tick("730.65")

    assert (nothing, play.s.version) == (0, 1)
    assert replace(play.s, version=0) != play.s


# -- what others do in our symbols -----------------------------------------------------------------------------------------


def _by_hand(story: Story, side: Side, qty: str) -> None:
    """Somebody trades the symbol in this account, at market, while our feed hears nothing of it."""
    story.venue.arrive(order_of(Purpose.EXIT, side, qty, client_id=""))
    story.silent_tick("731.20")


@both_sides
def test_what_a_person_sells_of_ours_makes_the_stop_smaller_and_then_ends_the_trade(side: Side) -> None:
    """REC-05."""
    story = Story(side)
    story.polls(1)
    story.hold()

    _by_hand(story, side.opposite, "2")
    story.polls(2)
    smaller = story.book
    _by_hand(story, side.opposite, "3")
    story.polls(2)

    assert smaller == [f"{side.opposite.value} STOP 3 @ {at(side, '730.15')}"]
    assert (story.net, story.book, story.s.phase, story.sent("X")) == (
        0,
        [],
        Phase.FLAT,
        [f"X {side.opposite.value} {n}" for n in (2, 3)],
    )
    assert any("closed elsewhere" in text for text in story.alarms)


@both_sides
def test_a_position_turned_round_by_hand_is_protected_on_its_new_side_and_halted(side: Side) -> None:
    """REC-06."""
    story = Story(side)
    story.polls(1)
    story.hold()

    _by_hand(story, side.opposite, "10")
    story.polls(3)

    assert (story.net, story.s.position) == (-5 * side.sign, -5 * side.sign)
    assert story.book == [f"{side.value} STOP 5 @ {at(side, '732.20')}"]
    assert story.s.halted is not None


@both_sides
def test_what_a_person_adds_is_theirs(side: Side) -> None:
    """REC-08."""
    story = Story(side)
    story.polls(1)
    story.hold()

    _by_hand(story, side, "10")
    story.polls(3)

    assert (story.s.position, story.book) == (5 * side.sign, [f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"])
    assert (story.s.halted is not None, len(story.alarms)) == (True, 1)


def test_what_is_there_at_the_first_look_is_somebody_elses() -> None:
    """REC-07: left alone, and told."""
    story = Story()
    _by_hand(story, BUY, "3")

    story.polls(3)
    story.hold()
    story.polls(3)
    story.flatten("by hand")
    story.tick("731.00")
    story.polls(3)

    assert (story.net, story.s.position, story.s.halted) == (3, 0, None)
    assert story.alarms == ["FOREIGN: the venue holds 3 of it that is not ours: left alone"]


def test_an_order_of_ours_that_appears_after_it_was_given_up_is_cancelled() -> None:
    """REC-13: an entry that no slot holds any more."""
    story = Story(venue={"client_ids": True})
    story.venue.script("submit", lost)
    story.tick("730.65")
    order = story.s.entry
    assert order is not None
    story.wait(36_000)
    given_up = (story.s.entry, story.calls("submit"))

    story.venue.arrive(order)
    story.polls(2)

    assert given_up == (None, 1)
    assert (story.book, story.calls("cancel"), story.calls("submit")) == ([], 1, 1)
    assert story.alarms[-1] == "ORPHAN: buy stop 5 @ 731.15 works at the venue and nothing here wants it: cancelling"
