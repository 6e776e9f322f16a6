"""Fills and protection: from the first unit filled to flat, one stop, for exactly what is held, that only moves our way."""

from __future__ import annotations

import itertools
import random
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from ops.story import lines
from state.events import Act, FillSeen, OrderSeen
from state.instrument import Instrument
from state.ledger import Fill
from state.orders import OrderType, Purpose, Side, Status
from state.reports import Reported
from state.session import Session
from state.snapshot import Phase
from state.strategy import Bar, Leave
from strategies import EightyTwenty
from tests.brokers.doubles import done_but_lost, ok, only_said, refused
from tests.harness import Story
from tests.state.builders import (
    BUY,
    ENTRY,
    SELL,
    TEN,
    D,
    Plan,
    Play,
    alarms,
    at,
    both_sides,
    both_venues,
    ist,
    move,
    sent,
    slot_names,
    told,
)


def stop_line(side: Side, qty: str = "5", level: str = "730.15") -> str:
    return f"{side.opposite.value} STOP {qty} @ {at(side, level)}"


# -- the first stop ----------------------------------------------------------------------------------------------------------


@both_sides
def test_a_fill_is_answered_with_a_stop_in_the_same_decision(side: Side) -> None:
    play = Play(side).enter()

    commands = play.fill(play.entry, "5")

    assert sent(commands) == [f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}"]
    assert (play.s.phase, play.s.stop_price) == (Phase.LONG if side is BUY else Phase.SHORT, at(side, "730.15"))


@both_sides
def test_a_stop_whose_answer_is_late_is_one_stop(side: Side) -> None:
    """PRO-01."""
    story = Story(side)

    def late(act: Any) -> Any:
        venue_id = act()
        for _ in range(120):
            story.clock.advance(10)
            story.states["SBIN"].tick(at(side, "731.20"), story.clock.now_ms())
        story.pulse_state()
        return venue_id

    story.venue.script("submit", ok, late)
    story.tick("730.65", "731.15", "731.20")
    story.polls(2)

    assert (story.sent("S"), story.book) == ([f"S {side.opposite.value} 5"], [stop_line(side)])


@both_sides
def test_the_venues_own_book_shows_the_stop(side: Side) -> None:
    """PRO-02."""
    story = Story(side)

    story.tick("730.65", "731.15")
    story.wait(1_000)

    assert (story.book, story.s.stop is not None and story.s.stop.verified) == ([stop_line(side)], True)


@pytest.mark.parametrize("word", [Reported.CANCELLED, Reported.EXPIRED])
@both_sides
def test_a_stop_the_venue_no_longer_has_is_placed_again_within_that_poll(side: Side, word: Reported) -> None:
    """PRO-03."""
    story = Story(side, stream=False)
    story.tick("730.65", "731.15")
    story.wait(6_000)
    before = story.book

    story.venue.end("2", word)
    story.wait(5_000)

    assert (before, story.book) == ([stop_line(side)], [stop_line(side)])
    assert story.sent("S") == [f"S {side.opposite.value} 5"] * 2
    assert [text.split(":")[0] for text in story.alarms] == ["UNPROTECTED"]


@both_sides
def test_a_stop_that_is_not_in_the_venues_books_at_all_is_looked_for_twice_and_placed_again(side: Side) -> None:
    """PRO-03."""
    story = Story(side, stream=False)
    story.hold()

    story.venue.forget("2")
    story.wait(15_000)

    assert (story.book, story.sent("S")) == ([stop_line(side)], [f"S {side.opposite.value} 5"] * 2)


@both_sides
def test_a_stale_word_about_a_stop_is_looked_at_twice_and_changes_nothing(side: Side) -> None:
    """PRO-03."""
    story = Story(side)
    story.hold()

    story.report(replace(story.venue.working()[0], state=Reported.CANCELLED))
    story.desk.drain()
    story.polls(2)

    assert (story.sent("S"), story.book, story.calls("cancel")) == ([f"S {side.opposite.value} 5"], [stop_line(side)], 0)
    assert story.s.stop is not None and story.s.stop.status is Status.WORKING


@pytest.mark.parametrize("filled", ["5", "4"])
@both_sides
def test_a_stop_refused_again_and_again_ends_in_a_market_exit(side: Side, filled: str) -> None:
    """PRO-04."""
    story = Story(side, stream=False)
    story.venue.script("submit", ok, *[refused("price band")] * 3)
    story.tick("730.65")
    story.tick("731.15", available=D(filled))
    if filled == "4":
        story.venue.end("1", Reported.CANCELLED)
    story.poll()
    since = story.clock.now_ms()
    first_alarm = story.alarms

    while not story.sent("X") and story.clock.now_ms() - since < 10_000:
        story.wait(250)
    took = story.clock.now_ms() - since
    story.tick("731.20")
    story.wait(5_000)

    other = side.opposite.value
    assert first_alarm == ["UNPROTECTED: stop refused: price band"]
    assert took <= 5_000
    assert (story.sent("X"), story.net, story.book) == ([f"X {other} {filled}"], 0, [])
    assert len(story.alarms) == 3
    assert 0 < story.s.worst_unprotected <= 5_000


@both_sides
def test_no_stop_for_the_whole_limit_closes_the_position(side: Side) -> None:
    """PRO-04: a stop that is accepted and never shown, then gone."""
    play = Play(side).enter()
    play.fill(play.entry, "5")
    play.seen(play.entry, Reported.FILLED)

    play.mono += 2_400  # each answer takes so long that a third try would be beyond the limit
    play.refused(play.stop)
    again = play.beat(250)
    play.mono += 2_400
    at_the_limit = play.refused(play.stop)

    assert sent(again) == [f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}"]
    assert sent(at_the_limit) == [f"submit X {side.opposite.value} 5 @ market"]
    assert alarms(at_the_limit) == ["UNPROTECTED: stop refused: no", "UNPROTECTED for 5050 ms: closing at market"]


@both_sides
def test_a_stop_the_venue_does_not_know_how_to_answer_for_is_neither_doubled_nor_left(side: Side) -> None:
    """UNK-11: while a stop is in question nothing is sent beside it."""
    play = Play(side).enter()
    play.fill(play.entry, "5")
    play.unanswered(play.stop)

    commands = play.beats(10_000)

    assert (sent(commands), play.stop.status) == ([], Status.UNKNOWN)


@both_venues
@both_sides
def test_the_stop_grows_with_the_fills(side: Side, can_replace: bool) -> None:
    """PRO-05."""
    story = Story(side, can_replace=can_replace)
    story.tick("730.65")
    story.tick("731.15", available=D(3))
    story.wait(1_000)
    first = story.book

    story.wait(600_000)
    story.tick("731.15", available=D(2))
    story.wait(5_000)

    assert first == [f"{side.value} STOP_LIMIT 2 @ 731.15", stop_line(side, "3")]
    assert story.book == [stop_line(side)]
    assert (story.calls("replace"), len(story.sent("S"))) == ((1, 1) if can_replace else (0, 2))


@both_sides
def test_when_the_rest_of_the_entry_is_cancelled_stop_and_exit_are_for_what_was_filled(side: Side) -> None:
    """PRO-05."""
    story = Story(side)
    story.tick("730.65")
    story.tick("731.15", available=D(3))
    story.wait(900_000)
    resting = story.book

    story.flatten("by hand")
    story.wait(1_000)
    story.tick("731.20")
    story.wait(5_000)

    assert (resting, story.sent("X"), story.net, story.book) == (
        [stop_line(side, "3")],
        [f"X {side.opposite.value} 3"],
        0,
        [],
    )


@both_sides
def test_a_position_that_was_reduced_is_not_added_to(side: Side) -> None:
    """The rest of the entry goes when its stop has begun to fill."""
    play = Play(side).hold("3")

    commands = play.fill(play.stop, "1")

    assert sent(commands) == ["cancel E"]
    assert play.s.position == 2 * side.sign


# -- the trail ----------------------------------------------------------------------------------------------------------------


def _trailing() -> EightyTwenty:
    session = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), cutoff_ms=ist("14:45:00"), close_ms=ist("15:30:00"))
    setup = EightyTwenty.Setup("SBIN", D("1093.50"), D("1093.00"), date(2026, 11, 19))
    params = EightyTwenty.Params(trigger_window_ms=3_600_000)
    return EightyTwenty(params, setup, Instrument("SBIN", "NSE", D("0.05")), session)


def test_a_green_bar_lifts_the_venues_trigger_and_one_line_says_so_after_it_was_read_back() -> None:
    """PRO-06 and PRO-17: the bar is closed by the clock, for want of a tick."""
    story = Story(strategy=_trailing())
    story.tick("1093.00", "1093.50", "1094.00")
    first = story.book
    story.until(ist("10:14:00"))
    story.tick("1093.60")
    story.clock.advance_to(ist("10:14:59"))
    story.pulse()
    forming = story.book

    story.wait(5_000)

    assert (first, forming) == (["SELL STOP 5 @ 1092.50"], ["SELL STOP 5 @ 1092.50"])
    assert (story.book, story.calls("replace")) == (["SELL STOP 5 @ 1092.90"], 1)
    works = [work for work in story.works if any(line.change == "stop moved" for line in lines(work))]
    assert len(works) == 1
    after = works[0].after
    assert after.stop is not None and (after.stop.trigger_price, after.stop.verified) == (D("1092.90"), True)


def test_no_bar_is_closed_twice_by_a_straggler() -> None:
    """PRO-17: a late tick of a bar that the clock has closed is no bar of its own."""
    story = Story(strategy=_trailing())
    story.tick("1093.00", "1093.50", "1094.00")
    story.until(ist("10:15:03"))
    lifted = story.book
    story.states["SBIN"].tick(D("1094.00"), ist("10:14:59"))
    story.desk.drain()
    story.tick("1093.90")
    story.wait(5_000)

    assert (lifted, story.book) == (["SELL STOP 5 @ 1092.90"], ["SELL STOP 5 @ 1092.90"])


@pytest.mark.parametrize("level", ["730.10", "730.15"])
@both_sides
def test_a_stop_never_loosens_and_an_unchanged_level_sends_nothing(side: Side, level: str) -> None:
    """PRO-07."""
    play = Play(side, Plan(side, {at(side, "732.00"): move(side, level)})).hold()
    why = play.s.why

    assert (play.tick("732.00"), play.s.stop_price, play.s.why) == ([], at(side, "730.15"), why)


@both_sides
def test_a_person_who_tightens_the_stop_is_followed_and_not_loosened_again(side: Side) -> None:
    """PRO-07."""
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.40")}))
    story.hold()
    story.venue.engine.replace("2", D(5), at(side, "730.65"), None, story.clock.now_ms())

    story.polls(1)
    story.tick("732.00")
    story.polls(1)

    assert (story.s.stop_price, story.calls("replace")) == (at(side, "730.65"), 0)
    assert story.book == [stop_line(side, level="730.65")]


def test_a_red_bar_and_a_bar_joined_in_the_middle_do_not_trail() -> None:
    """PRO-07."""
    strategy = _trailing()
    play = Play(strategy=strategy)
    play.tick("1093.00")
    play.accepted(play.entry)
    play.fill(play.entry, "5", "1093.50")
    prices = {"open": D("1094"), "high": D("1095"), "low": D("1093.80"), "close": D("1093.90")}
    red = Bar(start_ms=TEN, end_ms=TEN + 900_000, **prices)
    joined = replace(red, close=D("1094.50"), whole=False)

    assert (sent(play.bar(red)), sent(play.bar(joined)), play.s.stop_price) == ([], [], D("1092.50"))


@both_sides
def test_an_amend_that_did_not_take_is_read_once_more_and_asked_again(side: Side) -> None:
    """PRO-08."""
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.65")}))
    story.hold()
    story.venue.script("replace", only_said)

    story.tick("732.00")
    meanwhile = story.book
    resting = story.s.stop
    story.wait(5_000)

    assert meanwhile == [stop_line(side)]
    assert resting is not None and resting.trigger_price == at(side, "730.15")
    assert (story.book, story.calls("replace")) == ([stop_line(side, level="730.65")], 2)
    assert len(story.alarms) == 1 and "was not moved: the venue still shows" in story.alarms[0]


@pytest.mark.parametrize("tick", ["0.05", "0.01", "0.10", "0.00001"])
@both_sides
def test_ten_thousand_levels_are_all_on_the_grid_and_never_closer_to_the_market(side: Side, tick: str) -> None:
    instrument, dice = Instrument("SBIN", "NSE", D(tick)), random.Random(9)
    for _ in range(10_000):
        level = D(repr(dice.uniform(0.001, 2000)))
        trigger = instrument.stop_trigger(side.opposite, level)
        assert instrument.on_grid(trigger)
        assert 0 <= (level - trigger) * side.sign < instrument.tick_size
    assert Instrument("SBIN", "NSE", D("0.05")).stop_trigger(SELL, D("511.95000000000005")) == D("511.95")


@both_sides
def test_a_stop_limit_that_price_gapped_over_is_escalated_once(side: Side) -> None:
    """PRO-10: the gateway made a stop-limit of our stop."""
    play = Play(side).hold()
    level = at(side, "730.15")
    play.seen(play.stop, type=OrderType.STOP_LIMIT, limit_price=level)
    play.mono += 1_000
    gap = play.tick("720.00")

    asked = play.beats(5_000)
    play.seen(play.stop, type=OrderType.STOP_LIMIT, limit_price=level, state=Reported.CANCELLED)
    exit_order = play.exit
    more = play.beats(5_000)
    play.accepted(exit_order)
    play.fill(exit_order, "5", "720.00")
    play.seen(exit_order, Reported.FILLED)

    assert (sent(gap), sent(asked), sent(more)) == ([], ["cancel S"], [])
    assert (exit_order.type, exit_order.side, exit_order.qty) == (OrderType.MARKET, side.opposite, D(5))
    assert (play.s.position, play.s.phase) == (0, Phase.FLAT)


@both_sides
def test_price_that_comes_back_before_the_limit_calls_the_escalation_off(side: Side) -> None:
    play = Play(side).hold()
    play.tick("730.00")
    play.beats(4_000)
    play.tick("731.00")

    assert (sent(play.beats(5_000)), play.s.closing) == ([], None)


@pytest.mark.parametrize("answer", ["already complete", "not found"])
@pytest.mark.parametrize("verb", ["replace", "cancel"])
@both_sides
def test_a_stop_that_fills_while_it_is_changed_is_the_exit(side: Side, verb: str, answer: str) -> None:
    """PRO-12 and CON-05."""
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.65"), at(side, "732.05"): Leave("enough")}), stream=False)
    story.tick("730.65", "731.15")
    story.wait(6_000)

    def fills_meanwhile(act: Any) -> Any:
        story.silent_tick("730.15")
        return refused(answer)(act)

    story.venue.script(verb, fills_meanwhile)
    story.tick("732.00" if verb == "replace" else "732.05")
    story.wait(30_000)

    assert (story.net, story.s.phase, story.book) == (0, Phase.FLAT, [])
    assert (story.sent("S"), story.sent("X")) == ([f"S {side.opposite.value} 5"], [])
    assert story.calls("cancel") == (1 if verb == "cancel" else 0)


@both_sides
def test_a_gateway_that_turns_the_stop_into_a_limit_is_found_out(side: Side) -> None:
    """PRO-13: it rests as a limit, three times; then the position is closed."""
    story = Story(side, stream=False)

    def as_a_limit(act: Any) -> Any:
        order = story.s.stop
        assert order is not None
        return story.venue.arrive(replace(order, type=OrderType.LIMIT, limit_price=at(side, "735.00"), trigger_price=None))

    story.venue.script("submit", ok, *[as_a_limit] * 3)
    story.tick("730.65")
    story.tick("731.15")
    story.poll()
    since = story.clock.now_ms()
    found = len(story.alarms)

    while story.s.closing is None and story.clock.now_ms() - since < 10_000:
        story.wait(250)
    took = story.clock.now_ms() - since
    story.wait(1_000)
    story.tick("731.20")
    story.wait(5_000)

    assert (found, took <= 5_000) == (1, True)
    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_a_limit_that_was_meant_as_a_stop_and_filled_at_once_makes_us_flat(side: Side) -> None:
    """PRO-13: `complete` within a second; the fills decide the position."""
    story = Story(side)

    def as_a_limit(act: Any) -> Any:
        order = story.s.stop
        assert order is not None
        return story.venue.arrive(replace(order, type=OrderType.LIMIT, limit_price=order.trigger_price, trigger_price=None))

    story.venue.script("submit", ok, as_a_limit)
    story.venue.script("cancel", only_said)
    story.tick("730.65", "731.15", "731.20")
    story.wait(5_000)

    assert (story.net, story.s.position, story.sent("X"), story.book) == (0, 0, [], [])
    assert len(story.alarms) == 1 and "not as asked" in story.alarms[0]


# -- the target beside the stop -------------------------------------------------------------------------------------------------


def _with_target(side: Side, **more: Any) -> Story:
    story = Story(side, Plan(side, {at(side, "732.05"): Leave("enough")}, target=at(side, "733.00")), **more)
    story.hold()
    assert story.book == [stop_line(side), f"{side.opposite.value} LIMIT 5 @ {at(side, '733.00')}"]
    return story


@pytest.mark.parametrize("price", ["730.15", "733.00"])
@both_sides
def test_when_stop_or_target_fills_the_other_goes(side: Side, price: str) -> None:
    """PRO-14."""
    story = _with_target(side)

    story.tick(price)
    story.wait(1_000)

    assert (story.net, story.book, story.sent("X"), story.calls("cancel")) == (0, [], [], 1)


@both_sides
def test_a_spike_that_fills_stop_and_target_is_compensated_once(side: Side) -> None:
    """PRO-14."""
    story = _with_target(side, stream=False)
    story.silent_tick("730.15", "733.00")
    turned_round = story.net

    story.polls(2)
    story.tick("731.00")
    story.polls(2)

    assert (turned_round, story.sent("X")) == (-5 * side.sign, [f"X {side.value} 5"])
    assert (story.net, story.s.position, story.book) == (0, 0, [])


@pytest.mark.parametrize("how", ["cutoff", "by hand", "strategy"])
@both_sides
def test_a_closed_position_leaves_no_children(side: Side, how: str) -> None:
    """PRO-14."""
    story = _with_target(side)

    if how == "cutoff":
        story.until(ist("14:45:00"))
    elif how == "by hand":
        story.flatten("by hand")
    else:
        story.tick("732.05")
    story.wait(1_000)
    story.tick("731.00")
    story.wait(5_000)

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_a_target_filled_in_part_makes_the_stop_smaller(side: Side) -> None:
    story = _with_target(side)

    story.tick("733.00", available=D(2))
    story.wait(5_000)

    assert story.book == [stop_line(side, "3"), f"{side.opposite.value} LIMIT 3 @ {at(side, '733.00')}"]


@both_sides
def test_a_target_refused_three_times_is_given_up_and_the_stop_stays(side: Side) -> None:
    story = Story(side, Plan(side, target=at(side, "733.00")))
    story.venue.script("submit", ok, ok, *[refused("no")] * 9)
    story.tick("730.65", "731.15", "731.20")
    story.wait(60_000)

    assert (story.book, story.calls("submit"), story.s.closing) == ([stop_line(side)], 5, None)


# -- levels that make no sense -------------------------------------------------------------------------------


@both_sides
def test_a_trail_beyond_the_market_is_refused_here(side: Side) -> None:
    """PRO-15."""
    play = Play(side, Plan(side, {at(side, "732.00"): move(side, "732.00")})).hold()

    commands = play.tick("732.00")

    assert (commands, play.s.stop_price) == ([], at(side, "730.15"))
    assert play.s.why == f"stop not moved to {at(side, '732.00')}: price is at {at(side, '732.00')} already"


@both_sides
def test_a_level_that_price_has_crossed_is_an_exit_at_once(side: Side) -> None:
    """PRO-15."""
    story = Story(side, venue={"refuse_crossed_stops": True})

    def crossed_meanwhile(act: Any) -> Any:
        story.silent_tick("729.00")
        return act()

    story.venue.script("submit", ok, crossed_meanwhile)
    story.tick("730.65", "731.15", "729.00")
    at_once = story.sent("X")
    closing = story.s.closing
    story.tick("729.00")

    crossed, level = at(side, "729.00"), at(side, "730.15")
    assert at_once == [f"X {side.opposite.value} 5"]
    assert closing == f"price {crossed} is beyond the stop {level} and none rests at the venue"
    assert story.net == 0


@pytest.mark.parametrize("stop", ["731.15", "731.20", "740.00"])
@both_sides
def test_a_first_stop_on_the_wrong_side_of_the_entry_closes_the_position(side: Side, stop: str) -> None:
    """PRO-15: the strategy changed its mind after the entry was granted."""
    plan = Plan(side)
    play = Play(side, plan).enter()
    plan.stop = at(side, stop)

    commands = play.fill(play.entry, "5")

    assert sent(commands) == [f"submit X {side.opposite.value} 5 @ market"]
    assert play.s.closing == f"stop {at(side, stop)} is not on the losing side of {ENTRY}"


def test_a_stop_at_nothing_closes_the_position() -> None:
    plan = Plan()
    play = Play(strategy=plan).enter()
    plan.stop = D("-1")

    assert sent(play.fill(play.entry, "5")) == ["submit X SELL 5 @ market"]


@pytest.mark.parametrize("stop", [ValueError("no idea"), "730.15", 730.15, D("NaN"), D("-Infinity")])
@both_sides
def test_a_strategy_that_cannot_say_where_the_stop_goes_is_halted_and_its_position_closed(side: Side, stop: Any) -> None:
    """CON-14: the fill is never lost over it."""
    plan = Plan(side)
    play = Play(side, plan).enter()
    plan.stop = stop

    commands = play.fill(play.entry, "5")

    assert (play.s.position, play.s.closing) == (5 * side.sign, "the strategy gave no stop")
    assert play.s.halted is not None and len(alarms(commands)) == 1
    assert sent(commands) == [f"submit X {side.opposite.value} 5 @ market"]


@both_sides
def test_a_target_that_is_no_price_closes_the_position_too(side: Side) -> None:
    """CON-14."""
    play = Play(side, Plan(side, target=D("NaN"))).enter()

    assert sent(play.fill(play.entry, "5")) == [f"submit X {side.opposite.value} 5 @ market"]


@pytest.mark.parametrize("wish", [move(BUY, "NaN"), RuntimeError("boom"), 7])
@both_sides
def test_nonsense_in_position_halts_the_symbol_and_the_stop_stays(side: Side, wish: Any) -> None:
    """CON-14: halted, and still protected."""
    play = Play(side, Plan(side, {at(side, "732.00"): wish})).hold()

    commands = [*play.tick("732.00"), *play.tick("732.00")]

    assert (len(alarms(commands)), sent(commands), slot_names(play.s)) == (1, [], ["stop"])
    assert play.s.halted is not None


# -- fills ---------------------------------------------------------------------------------------------------


def _evidence(play: Play) -> list[Any]:
    """Everything one can hear of an entry of 5 filled 2 + 3: two trade rows, cumulative reports of 2, 5 and a late 3."""
    entry, when = play.entry, play.when
    fill = Fill("T1", entry.client_id, Purpose.ENTRY, entry.side, D(2), ENTRY, TEN, source="poll")
    rows = [FillSeen(fill=f, **when) for f in (fill, replace(fill, trade_id="T2", qty=D(3)))]
    reports = [
        OrderSeen(client_id=entry.client_id, row=play.row(entry, filled=D(n), average=ENTRY), asked_ms=play.mono, **when)
        for n in (2, 5, 3)
    ]
    return rows + reports


@both_sides
def test_one_fill_heard_in_any_order_and_number_counts_once(side: Side) -> None:
    """FIL-02."""
    for order in itertools.permutations(range(5)):
        play = Play(side).enter()
        evidence = _evidence(play)

        commands = [command for i in (*order, *order) for command in play.on(evidence[i])]

        assert (play.s.position, play.s.entries_used) == (5 * side.sign, 1)
        assert len([text for text in sent(commands) if text.startswith("submit")]) == 1


@both_sides
def test_a_fill_before_the_answer_to_our_own_order_is_held_and_matched(side: Side) -> None:
    """FIL-03."""
    story = Story(side)

    def fills_first(act: Any) -> Any:
        venue_id = act()
        story.report(*story.venue.tick("SBIN", ENTRY, story.clock.now_ms()))
        story.clock.advance(15)
        return venue_id

    story.venue.script("submit", fills_first)
    story.tick("730.65")
    at_once = (story.s.position, story.book)
    story.polls(2)

    assert at_once == (5 * side.sign, [stop_line(side)])
    assert (story.s.position, story.book) == at_once
    assert [(trade.qty, trade.entry_order) for trade in story.trades] == [(D(5), "SBIN-20261120-E0")]


@both_sides
def test_partial_then_complete_is_one_position_at_the_average(side: Side) -> None:
    """FIL-04."""
    play = Play(side, qty=D(10)).enter()
    play.fill(play.entry, "4", "731.00")

    play.seen(play.entry, Reported.FILLED, filled=D(10), average=at(side, "731.30"))

    assert (play.s.position, play.s.average) == (10 * side.sign, at(side, "731.30"))
    assert play.s.entry is None


@pytest.mark.parametrize("cancel_first", [True, False])
@both_sides
def test_a_cancelled_rest_leaves_the_part_that_filled(side: Side, cancel_first: bool) -> None:
    """FIL-05."""
    play = Play(side, qty=D(10)).enter()
    entry = play.entry
    play.mono += 900_000
    asked = sent(play.beat())
    play.mono += 10

    if cancel_first:
        play.seen(entry, Reported.CANCELLED, filled=D(4), average=at(side, "731.10"))
        play.fill(entry, "4", "731.10")
    else:
        play.fill(entry, "4", "731.10")
        play.seen(entry, Reported.CANCELLED)

    assert asked == ["cancel E"]
    assert (play.s.position, play.s.average, play.s.entry) == (4 * side.sign, at(side, "731.10"), None)
    assert (play.stop.qty, play.s.ledger.filled(entry.client_id)) == (D(4), D(4))


@pytest.mark.parametrize("filled", ["0", "2"])
@pytest.mark.parametrize("word", [Reported.CANCELLED, Reported.EXPIRED, Reported.REJECTED])
@both_sides
def test_the_last_word_ends_the_order_once_and_its_fill_is_protected(side: Side, word: Reported, filled: str) -> None:
    """FIL-06."""
    play = Play(side).enter()
    entry = play.entry

    first = play.seen(entry, word, filled=D(filled), average=ENTRY if D(filled) else None)
    again = play.seen(entry, word, filled=D(filled), average=ENTRY if D(filled) else None)

    assert (play.s.position, play.s.entry, len(play.s.ended)) == (D(filled) * side.sign, None, 1)
    assert sent(first) == ([f"submit S {side.opposite.value} 2 @ {at(side, '730.15')}"] if D(filled) else [])
    assert again == []


@both_sides
def test_a_fill_after_a_confirmed_cancel_is_protected_at_once_with_one_loud_line(side: Side) -> None:
    """FIL-07."""
    play = Play(side).enter()
    entry = play.entry
    play.mono += 900_000
    play.beat()
    play.seen(play.entry, Reported.CANCELLED)
    believed = play.s.phase
    play.mono += 3_000

    commands = play.fill(entry, "5")
    more = play.seen(entry, Reported.CANCELLED, filled=D(5), average=ENTRY)

    assert (believed, play.s.position, play.s.entries_used) == (Phase.FLAT, 5 * side.sign, 1)
    assert sent(commands) == [f"submit S {side.opposite.value} 5 @ {at(side, '730.15')}"]
    assert (len(alarms(commands)), alarms(more)) == (1, [])


@both_sides
def test_more_filled_than_asked_for_is_held_protected_and_closed_in_full(side: Side) -> None:
    """FIL-08."""
    play = Play(side).enter()
    entry = play.entry

    commands = [*play.fill(entry, "5"), *play.fill(entry, "1")]
    play.seen(entry, Reported.FILLED)
    play.accepted(play.stop)
    resized = play.seen(play.stop)
    play.seen(play.stop)
    play.on_flatten()
    play.seen(play.stop, Reported.CANCELLED)

    assert (play.s.position, alarms(commands)) == (6 * side.sign, [f"overfill of {entry.client_id}: position {6 * side.sign}"])
    assert (sent(resized), play.exit.qty) == ([f"replace S 6 @ {at(side, '730.15')}"], D(6))


@both_sides
def test_complete_without_a_price_or_a_trade_is_no_fill_yet(side: Side) -> None:
    """FIL-09."""
    play = Play(side).enter()
    entry = play.entry

    play.seen(entry, Reported.FILLED, filled=D(5), average=D(0))
    play.seen(entry, Reported.FILLED, filled=None, average=None)
    unsure = (play.s.position, play.entry.status, play.s.in_question)
    play.fill(entry, "5")
    play.seen(entry, Reported.FILLED, filled=D(5), average=D(0))

    assert unsure == (0, Status.UNKNOWN, True)
    assert (play.s.position, play.s.entry) == (5 * side.sign, None)


@both_sides
def test_the_average_is_that_of_all_fills_and_the_stop_follows_it(side: Side) -> None:
    """FIL-10."""
    strategy = Plan(side, {at(side, "732.00"): Leave("enough")})
    play = Play(side, strategy).enter()
    entry = play.entry
    prices = [D("100"), D("101")] if side is BUY else [D("101"), D("100")]
    for qty, price in zip((D(3), D(2)), prices, strict=True):
        fill = Fill(f"F{qty}", entry.client_id, Purpose.ENTRY, side, qty, price, TEN)
        play.on(FillSeen(fill=fill, **play.when))

    average = D("100.40") if side is BUY else D("100.60")
    assert (play.s.average, play.s.ledger.profit(D("100.40"))) == (average, 0 if side is BUY else D("1.00"))


def test_the_stop_of_a_fill_at_one_price_is_set_from_the_fill_not_the_plan() -> None:
    """FIL-10."""
    play = Play().enter()

    play.fill(play.entry, "5", "731.10")

    assert play.s.stop_price == D("730.10")


# -- positions nobody meant ----------------------------------------------------------------------------------


@both_sides
def test_a_late_fill_of_an_old_exit_is_closed_again_and_the_new_entry_taken_back(side: Side) -> None:
    """A fill nobody can place is recorded, and closed: it never stops the machine."""
    play = Play(side)
    other = Play(side.opposite, Plan(side.opposite)).hold()
    stop = other.stop  # an order that would add to a position on `side`
    play.enter()

    commands = play.fill(replace(stop, client_id="SBIN-20261120-S9"), "3", "731.00")

    assert (play.s.position, play.s.closing) == (3 * side.sign, "position that no entry explains")
    assert sent(commands) == [f"submit X {side.opposite.value} 3 @ market", "cancel E"]


@both_sides
def test_an_amend_that_is_refused_for_ever_leaves_the_old_stop_working(side: Side) -> None:
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.65")}))
    story.hold()
    story.venue.always("replace", refused("too many modifications"))

    story.tick("732.00")
    story.wait(60_000)

    assert (story.book, story.s.closing) == ([stop_line(side)], None)
    assert story.calls("replace") <= 2 + 60_000 // 5_000 + 4


@both_sides
def test_a_stop_that_cannot_grow_closes_the_position(side: Side) -> None:
    story = Story(side)
    story.venue.always("replace", refused("no"))
    story.tick("730.65")
    story.tick("731.15", available=D(3))
    story.tick("731.15", available=D(2))

    story.wait(6_000)
    story.tick("731.20")
    story.wait(5_000)

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_an_amend_whose_answer_was_lost_is_read_back_before_anything_else(side: Side) -> None:
    """UNK-11."""
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.65")}))
    story.hold()
    story.venue.script("replace", done_but_lost)

    story.tick("732.00")
    story.wait(10_000)

    assert (story.book, story.calls("replace"), story.sent("X")) == ([stop_line(side, level="730.65")], 1, [])
    assert story.s.stop is not None and story.s.stop.trigger_price == at(side, "730.65")


def test_the_worst_unprotected_time_is_kept() -> None:
    play = Play().enter()
    play.fill(play.entry, "5")
    play.mono += 1_200
    play.accepted(play.stop)
    play.mono += 100
    play.seen(play.stop)
    play.beats(2_000)

    assert (play.s.worst_unprotected, play.s.unprotected_ms) == (1_300, None)


def test_acknowledging_a_change_is_not_yet_the_change() -> None:
    play = Play(strategy=Plan(wishes={D("732.00"): move(BUY, "730.65")})).hold()
    play.tick("732.00")

    commands = play.acknowledged(play.stop, Act.REPLACE)

    assert (told(commands), play.stop.status, play.stop.trigger_price) == (["query S"], Status.REPLACING, Decimal("730.15"))
