"""What the venue shows against what we know, poll by poll, through reports, machine and desk."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from ops.ending import HALTED, exit_code
from state.orders import OrderType, Purpose, Side
from state.reports import PositionRow, Reported
from state.snapshot import Phase
from tests.brokers.doubles import Act, Fault, unreachable
from tests.harness import POLL_MS, Story
from tests.state.builders import BUY, ENTRY, SELL, SYMBOL, D, at, both_sides, order_of


def stop_line(side: Side, qty: int = 5) -> str:
    return f"{side.opposite.value} STOP {qty} @ {at(side, '730.15')}"


def holding(side: Side, **more: Any) -> Story:
    """Long (or short) 5 with a stop, and the account's positions seen once before."""
    story = Story(side, **more)
    story.polls(1)
    story.hold()
    story.polls(1)
    return story


def shows(*rows: PositionRow) -> Fault:
    return lambda act: list(rows)


# -- positions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(), (PositionRow(SYMBOL, D(0)),)], ids=["no row", "row of 0"])
@both_sides
def test_a_position_that_is_gone_for_one_poll_changes_nothing(side: Side, rows: tuple[PositionRow, ...]) -> None:
    """REC-01."""
    story = holding(side)
    story.venue.script("positions", shows(*rows))

    story.polls(1)
    story.tick("731.00", "731.20")
    story.polls(2)

    assert (story.s.position, story.book, story.alarms) == (5 * side.sign, [stop_line(side)], [])
    assert (story.sent("E"), story.s.halted) == ([f"E {side.value} 5"], None)


@both_sides
def test_a_position_that_stays_gone_without_a_fill_halts_and_keeps_the_stop(side: Side) -> None:
    """REC-01, REC-12: DIVERGED, exit code 6 while it lasts; no price is invented and nothing is closed."""
    story = holding(side)
    story.venue.always("positions", shows())

    story.polls(3)

    assert (story.s.position, story.book) == (5 * side.sign, [stop_line(side)])
    assert story.alarms == [f"HALTED: DIVERGED: venue holds 0, our fills say {5 * side.sign}"]
    assert exit_code([story.s], 0) == HALTED
    assert [trade.exit_ms for trade in story.trades] == [None]


@both_sides
def test_a_venue_that_holds_more_than_our_fills_say_is_told(side: Side) -> None:
    """REC-12: 7 against fills of 5."""
    story = holding(side)
    story.venue.always("positions", shows(PositionRow(SYMBOL, D(7) * side.sign)))

    story.polls(3)

    assert story.s.halted == f"DIVERGED: venue holds {7 * side.sign}, our fills say {5 * side.sign}"
    assert (story.book, story.sent("X")) == ([stop_line(side)], [])


@both_sides
def test_a_liquidation_is_booked_at_the_venues_price_and_takes_the_stop_away(side: Side) -> None:
    """REC-12: by the broker's risk desk."""
    story = holding(side)
    story.venue.arrive(order_of(Purpose.EXIT, side.opposite, "5", client_id=""))
    story.silent_tick("730.90")

    story.polls(2)

    [trade] = story.trades
    assert (trade.exit_price, trade.net, trade.source) == (at(side, "730.90"), D("-1.25"), "elsewhere")
    assert (story.s.phase, story.book, story.s.halted) == (Phase.FLAT, [], None)


@both_sides
def test_positions_asked_before_a_fill_and_answered_after_it_are_ignored(side: Side) -> None:
    """REC-04: the answer takes long, and the entry fills meanwhile."""
    story = Story(side)
    story.polls(1)
    story.tick("730.65")

    def slow(act: Act) -> Any:
        rows = act()
        story.clock.advance(800)
        story.report(*story.venue.tick(SYMBOL, ENTRY, story.clock.now_ms()))
        return rows

    story.venue.script("positions", slow, slow)
    story.poll()
    story.poll()

    assert (story.s.position, story.s.disagreements, story.s.halted) == (5 * side.sign, 0, None)
    assert story.book == [stop_line(side)]


@both_sides
def test_an_hour_without_positions_is_no_news_and_exits_go_on(side: Side) -> None:
    """REC-03: one question in each round."""
    story = holding(side)
    story.venue.always("positions", unreachable)
    before, asked = story.s, story.calls("positions")
    for _ in range(3_600_000 // POLL_MS):
        story.clock.advance(POLL_MS)
        story.pulse()
    still = (story.s.position, story.s.halted, story.s.ledger is before.ledger)
    questions = story.calls("positions") - asked

    exits = story.calls("submit")
    story.flatten("by hand")
    story.wait(1_000)
    story.tick("731.00")

    assert still == (5 * side.sign, None, True)
    assert questions <= 3_600_000 // POLL_MS + 1
    assert (story.net, story.calls("submit") - exits) == (0, 1)


def test_a_venue_that_answers_nothing_is_asked_once_in_each_round() -> None:
    """REC-03, FEATURES 32: once 28,000 calls in 0.2 s."""
    story = Story(stream=False)
    story.tick("730.65")
    for verb in ("orders", "fills", "positions"):
        story.venue.always(verb, unreachable)
    story.wait(10_000)
    asked = len(story.venue.calls)

    story.wait(100_000)

    assert len(story.venue.calls) - asked == 20
    assert (story.s.phase, story.book) == (Phase.ENTERING, ["BUY STOP_LIMIT 5 @ 731.15"])


# -- orders -------------------------------------------------------------------------------------------------------------


@both_sides
def test_orders_that_flicker_out_of_the_book_are_asked_for_and_never_lost(side: Side) -> None:
    """REC-11: 2,000 looks, each of which may miss any row."""
    rng = random.Random(11)
    story = holding(side)
    story.venue.always("orders", lambda act: [row for row in act() if rng.random() < 0.5])
    asked = story.calls("order")

    for _ in range(2_000):
        story.clock.advance(500)
        story.poll(positions=False)

    assert story.calls("order") - asked > 500
    assert (story.s.position, story.book, story.calls("submit")) == (5 * side.sign, [stop_line(side)], 2)
    assert story.s.stop is not None and story.alarms == []


@both_sides
def test_an_order_that_filled_while_the_book_did_not_show_it_is_found_by_its_id(side: Side) -> None:
    """REC-11: absent means neither cancelled nor unfilled."""
    story = holding(side, stream=False)
    story.venue.always("orders", lambda act: [])
    story.venue.always("fills", lambda act: [])
    story.silent_tick("730.15")

    story.wait(POLL_MS)

    assert (story.s.position, story.s.phase, story.sent("X")) == (0, Phase.FLAT, [])


@both_sides
def test_a_stop_that_the_venue_does_not_know_any_more_is_placed_again_once(side: Side) -> None:
    """REC-11, PRO-03: gone when asked for by its own id, twice."""
    story = holding(side)
    assert story.s.stop is not None and story.s.stop.venue_id is not None
    story.venue.forget(story.s.stop.venue_id)

    story.wait(10_000)

    assert story.book == [stop_line(side)]
    assert story.sent("S") == [f"S {side.opposite.value} 5"] * 2
    assert any("is gone from the venue's books" in text for text in story.alarms)


@both_sides
def test_one_answer_that_knows_no_such_order_ends_nothing(side: Side) -> None:
    """REC-11: two of them, some time apart, are needed."""
    story = holding(side)
    story.venue.script("orders", lambda act: [])
    story.venue.script("order", lambda act: None)
    story.clock.advance(POLL_MS)

    story.poll()
    story.wait(10_000)

    assert (story.book, story.sent("S"), story.alarms) == ([stop_line(side)], [f"S {side.opposite.value} 5"], [])


@both_sides
def test_a_second_stop_that_no_slot_holds_is_cancelled_and_the_first_stays(side: Side) -> None:
    """REC-13."""
    story = holding(side, venue={"client_ids": True})
    first = story.s.stop
    assert first is not None
    story.venue.end(first.venue_id or "", Reported.EXPIRED)
    story.polls(1)
    story.venue.arrive(replace(first, venue_id=None))

    story.polls(2)

    assert story.book == [stop_line(side)]
    assert sum(text.startswith("ORPHAN") for text in story.alarms) == 1
    assert story.s.stop is not None and story.s.stop.client_id != first.client_id


@both_sides
def test_the_orders_and_positions_of_others_are_never_touched(side: Side) -> None:
    """REC-07: through start, a round trip, flatten and an end."""
    story = Story(side)
    resting = order_of(Purpose.TARGET, side.opposite, "9", client_id="", limit_price=at(side, "790.00"), type=OrderType.LIMIT)
    story.venue.arrive(resting)
    story.venue.arrive(order_of(Purpose.ENTRY, side, "3", client_id=""))
    story.silent_tick("731.00")
    story.polls(1)

    story.hold()
    story.polls(2)
    story.flatten("by hand")
    story.tick("731.00")
    story.polls(2)
    story.restart()
    story.polls(2)

    assert (story.net, story.s.position) == (3 * side.sign, 0)
    assert story.book == [f"{side.opposite.value} LIMIT 9 @ {at(side, '790.00')}"]
    assert {client_id for verb, client_id in story.venue.calls if verb in ("cancel", "replace")} == {"SBIN-20261120-S1"}


@pytest.mark.parametrize(
    ("qty", "then"),
    [("5", ([], Phase.FLAT)), ("2", (3, None))],
    ids=["all of it", "a part"],
)
@both_sides
def test_what_a_person_closes_is_followed_within_two_polls(side: Side, qty: str, then: Any) -> None:
    """REC-05: and our own exits stay what they were: none."""
    story = holding(side)
    story.venue.arrive(order_of(Purpose.EXIT, side.opposite, qty, client_id=""))
    story.silent_tick("731.20")

    story.wait(2 * POLL_MS)

    ours = [order for order in story.venue.submitted if order.purpose is Purpose.EXIT and order.client_id]
    assert ours == []
    if qty == "5":
        assert (story.book, story.s.phase) == then
    else:
        assert story.book == [stop_line(side, then[0])]


def test_a_short_position_made_by_a_person_in_a_flat_symbol_is_theirs() -> None:
    """REC-07, REC-08: told, entries off, nothing closed."""
    story = Story()
    story.polls(1)
    story.venue.arrive(order_of(Purpose.ENTRY, SELL, "4", client_id=""))
    story.silent_tick("731.00")

    story.polls(3)
    story.tick("730.65")

    assert (story.net, story.sent("E")[1:], story.s.position) == (-4, [], 0)
    assert story.s.halted == "FOREIGN: others hold -4 of it in this account"
    assert story.side is BUY
