"""80-20, exactly as the rules have it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from state.orders import OrderType
from state.session import Session
from state.strategy import Bar, Enter, MoveStop, Pass, View
from strategies import STRATEGIES, EightyTwenty
from tests.state.builders import BUY, ENTRY, SBIN, TRIGGER, D, ist

SESSION = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), ist("14:45:00"), ist("15:30:00"))
SETUP = EightyTwenty.Setup("SBIN", ENTRY, TRIGGER, date(2026, 11, 19))
RULES = EightyTwenty(EightyTwenty.Params(), SETUP, SBIN, SESSION)
FLAT = View(D(0), D(0), None, None, None, 0, False, "", ist("09:30:00"))
LONG = View(D(5), D("731.15"), BUY, D("730.15"), D("731.30"), 1, False, "", ist("09:30:00"))


def view(base: View, **changes: Any) -> View:
    return replace(base, **changes)


def bar(open_: str, low: str, close: str, whole: bool = True) -> Bar:
    return Bar(ist("09:30:00"), ist("09:45:00"), D(open_), D("740.00"), D(low), D(close), whole)


@pytest.mark.parametrize("price", ["730.65", "730.60", "700.00"])
def test_a_price_at_or_below_the_trigger_asks_for_a_stop_limit_at_the_entry(price: str) -> None:
    wish = RULES.on_tick(FLAT, D(price))

    assert wish == Enter(BUY, OrderType.STOP_LIMIT, f"trigger 730.65 touched at {price}", ENTRY, ENTRY)


@pytest.mark.parametrize("price", ["730.70", "731.15", "735.00"])
def test_a_price_above_the_trigger_asks_for_nothing(price: str) -> None:
    assert RULES.on_tick(FLAT, D(price)) is None


@pytest.mark.parametrize("base", [LONG, view(FLAT, entering=True)])
def test_in_position_or_on_the_way_in_the_trigger_means_nothing(base: View) -> None:
    assert RULES.on_tick(base, D("730.00")) is None


def test_before_the_open_nothing_happens() -> None:
    assert RULES.on_tick(view(FLAT, now_ms=ist("09:14:59")), D("730.00")) is None


def test_the_last_moment_of_the_window_counts_and_the_end_does_not() -> None:
    """ENT-06."""
    inside = RULES.on_tick(view(FLAT, now_ms=ist("10:15:00") - 1), D("730.00"))
    after = RULES.on_tick(view(FLAT, now_ms=ist("10:15:00")), D("730.00"))
    after_a_trade = RULES.on_tick(view(FLAT, now_ms=ist("10:15:00"), entries_used=1), D("730.00"))

    assert isinstance(inside, Enter)
    assert (after, after_a_trade) == (Pass("trigger 730.65 was touched only after its window"), None)


def test_the_stop_is_twenty_ticks_below_the_average_fill() -> None:
    assert RULES.stop_price(LONG) == D("730.15")
    assert RULES.target_price(LONG) is None


@pytest.mark.parametrize(("open_", "close"), [("732.00", "733.00"), ("732.00", "732.00")], ids=["green", "flat"])
def test_a_green_or_flat_bar_lifts_the_stop_to_two_ticks_below_its_low(open_: str, close: str) -> None:
    """PRO-06."""
    wish = RULES.on_bar(LONG, bar(open_, "731.50", close))

    assert wish == MoveStop(D("731.40"), f"bar closed at {close}, low 731.50")


@pytest.mark.parametrize(
    ("base", "closed"),
    [
        (LONG, bar("733.00", "731.50", "732.95")),
        (LONG, bar("732.00", "731.50", "733.00", whole=False)),
        (FLAT, bar("732.00", "731.50", "733.00")),
    ],
    ids=["red", "joined in the middle", "flat"],
)
def test_other_bars_move_nothing(base: View, closed: Bar) -> None:
    assert RULES.on_bar(base, closed) is None


def test_every_number_is_configurable() -> None:
    params = EightyTwenty.Params(
        stop_ticks=10, trail_bar_ms=300_000, trail_buffer_ticks=1, trigger_window_ms=60_000, max_entries=1
    )
    other = EightyTwenty(params, SETUP, SBIN, SESSION)

    assert (other.bar_ms, other.stop_price(LONG)) == (300_000, D("730.65"))
    assert other.on_bar(LONG, bar("732.00", "731.50", "732.00")) == MoveStop(D("731.45"), "bar closed at 732.00, low 731.50")
    assert isinstance(other.on_tick(view(FLAT, now_ms=ist("09:16:00")), D("730.00")), Pass)


def _silent(base: View, price: Decimal) -> bool:
    low, high = RULES.quiet(base)
    return low < price < high


@pytest.mark.parametrize(
    "base",
    [
        FLAT,
        LONG,
        view(FLAT, entering=True),
        view(FLAT, entries_used=2),
        view(FLAT, now_ms=ist("10:30:00")),
        view(FLAT, now_ms=ist("10:30:00"), entries_used=1),
        view(FLAT, now_ms=ist("10:30:00"), why="trigger 730.65 was touched only after its window"),
    ],
)
def test_where_it_calls_itself_quiet_no_price_would_change_its_mind(base: View) -> None:
    for price in (D("700.00"), D("730.60"), D("730.65"), D("730.70"), D("731.15"), D("800.00")):
        wish = RULES.on_tick(base, price)
        if _silent(base, price):
            assert wish is None or (isinstance(wish, Pass) and wish.why == base.why)


def test_it_is_registered_by_name() -> None:
    assert STRATEGIES[EightyTwenty.name] is EightyTwenty
