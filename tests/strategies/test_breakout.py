"""The example of the strategy API, traded through the whole machine."""

from __future__ import annotations

import inspect
from datetime import date

import pytest

from state.orders import OrderType
from state.session import Session
from state.strategy import Enter, View
from strategies import STRATEGIES, Breakout
from tests.harness import Story
from tests.state.builders import BUY, SBIN, D, ist

SESSION = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), ist("14:45:00"), ist("15:30:00"))
FLAT = View(D(0), D(0), None, None, None, 0, False, "", ist("09:30:00"))


def breakout() -> Breakout:
    return Breakout(Breakout.Params(stop_ticks=20), Breakout.Setup("SBIN", D("731.15")), SBIN, SESSION)


@pytest.mark.parametrize(("price", "enters"), [("731.10", False), ("731.15", True), ("731.20", True)])
def test_it_buys_at_market_when_price_reaches_its_level(price: str, enters: bool) -> None:
    wish = breakout().on_tick(FLAT, D(price))

    assert wish == (Enter(BUY, OrderType.MARKET, f"{price} broke 731.15") if enters else None)


def test_it_trades_once_with_a_stop_twenty_ticks_below_its_fill() -> None:
    story = Story(strategy=breakout(), max_entries=1)
    story.tick("731.00", "731.15", "731.25")
    held = (story.s.position, story.book)

    story.tick("730.25", "731.20", "731.00", "731.30")

    assert held == (5, ["SELL STOP 5 @ 730.25"])
    assert (story.net, [trade.net for trade in story.trades]) == (0, [D("-5.00")])
    assert story.s.why == "denied: entries used 1 of 1"


def test_it_is_as_short_as_an_example_should_be() -> None:
    lines = [line for line in inspect.getsource(Breakout).splitlines() if line.strip()]

    assert len(lines) <= 17
    assert STRATEGIES["breakout"] is Breakout
