"""An entry that would leave no room for its stop is denied before it is sent: asked of the strategy at the planned price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from state.instrument import Instrument
from state.orders import OrderType, Side
from state.snapshot import Phase
from state.strategy import Enter
from tests.harness import Story
from tests.state.builders import BUY, ENTRY, SYMBOL, D, Plan, Play, alarms, at, both_sides, sent

TICK = D("0.05")


@pytest.mark.parametrize("stop", ["731.15", "731.20", "740.00"])
@both_sides
def test_an_entry_whose_stop_has_no_room_is_denied_and_says_why(side: Side, stop: str) -> None:
    """PRO-09."""
    story = Story(side, Plan(side, stop=at(side, stop)))

    story.tick("730.65", "731.15")
    story.polls(2)

    assert (story.calls("submit"), story.s.entries_used, story.s.phase) == (0, 0, Phase.FLAT)
    assert story.s.why == f"denied: stop {at(side, stop)} is not on the losing side of {ENTRY}"
    assert story.alarms == []


@both_sides
def test_one_tick_is_room_enough(side: Side) -> None:
    """PRO-09."""
    story = Story(side, Plan(side, stop=ENTRY - TICK * side.sign))

    story.tick("730.65", "731.15")

    assert (story.sent("E"), story.s.stop_price) == ([f"E {side.value} 5"], ENTRY - TICK * side.sign)


@both_sides
def test_it_is_asked_again_only_after_the_trigger_has_lapsed(side: Side) -> None:
    """PRO-09, ENT-03."""
    plan = Plan(side, stop=ENTRY)
    play = Play(side, plan)
    play.tick("730.65")
    plan.stop = None

    at_once = play.tick("730.60")
    play.tick("731.00")
    anew = play.tick("730.65")

    assert (sent(at_once), sent(anew)) == ([], [f"submit E {side.value} 5 @ {ENTRY}"])


@pytest.mark.parametrize(
    ("type", "trigger", "limit"),
    [
        (OrderType.STOP, "731.15", None),
        (OrderType.STOP_LIMIT, "731.15", "731.40"),
        (OrderType.LIMIT, None, "731.15"),
        (OrderType.MARKET, None, None),
    ],
)
@both_sides
def test_the_price_it_is_asked_for_is_where_the_entry_would_begin_to_fill(
    side: Side, type: OrderType, trigger: str | None, limit: str | None
) -> None:
    """PRO-09: trigger, else limit, else the latest price."""

    def wish() -> Enter:
        prices = {"trigger_price": trigger, "limit_price": limit}
        return Enter(side, type, "now", **{name: at(side, price) for name, price in prices.items() if price is not None})

    verdicts = []
    for stop in (ENTRY, ENTRY - TICK * side.sign):
        play = Play(side, Plan(side, {ENTRY: wish()}, stop=stop))
        verdicts.append(len(sent(play.tick(ENTRY))))

    assert verdicts == [0, 1]


@pytest.mark.parametrize("tick_size", ["0.05", "0.01", "0.10", "0.00001"])
@both_sides
def test_a_level_that_the_grid_takes_away_is_no_level(side: Side, tick_size: str) -> None:
    """PRO-09: 0.1 % away is less than a tick of it, or at nothing at all."""
    size = D(tick_size)
    price = 3 * size
    verdicts = []
    for stop in (price - size / 10 * side.sign, price - size * side.sign, price - 3 * size * side.sign):
        plan = Plan(side, {price: Enter(side, OrderType.LIMIT, "now", limit_price=price)}, stop=stop)
        play = Play(side, plan, instrument=Instrument(SYMBOL, "NSE", size))
        verdicts.append(len(sent(play.tick(price if side is BUY else 2 * ENTRY - price))))

    below = _rounded_away(price, size, side)
    assert verdicts == [below, 1, 0 if side is BUY else 1]


def _rounded_away(price: Decimal, size: Decimal, side: Side) -> int:
    """A tenth of a tick is rounded away from harm: it becomes the entry itself, or a whole tick."""
    level = Instrument(SYMBOL, "NSE", size).stop_trigger(side.opposite, price - size / 10 * side.sign)
    return int((price - level) * side.sign >= size)


@pytest.mark.parametrize("stop", [ValueError("no idea"), "730.15", 730.15, D("NaN"), D("-Infinity")])
@both_sides
def test_a_strategy_that_cannot_say_where_the_stop_goes_is_halted_before_anything_is_sent(side: Side, stop: Any) -> None:
    """PRO-09, CON-14."""
    play = Play(side, Plan(side, stop=stop))

    commands = play.tick("730.65")

    assert (sent(commands), play.s.entry, play.s.entries_used) == ([], None, 0)
    assert play.s.halted is not None and len(alarms(commands)) == 1


@both_sides
def test_the_strategy_is_asked_as_if_it_held_what_it_wants(side: Side) -> None:
    """PRO-09: quantity, side and price of the plan, and nothing of an earlier trip."""
    seen = []

    class Curious(Plan):
        def stop_price(self, view: Any) -> Decimal:
            seen.append((view.position, view.average, view.side, view.stop_price, view.peak))
            return super().stop_price(view)

    play = Play(side, Curious(side))

    play.tick("730.65")

    assert seen == [(5 * side.sign, ENTRY, side, None, None)]
