"""The grid: every rounding has a direction, and says which."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.instrument import Instrument
from state.orders import Side
from tests.state.builders import BUY, SBIN, SELL, D, both_sides

prices = st.decimals(min_value=D("0.00001"), max_value=D("1000000"), places=8)
tick_sizes = st.sampled_from([D("0.05"), D("0.01"), D("0.10"), D("0.00001"), D("1"), D("2.5")])


@given(prices, tick_sizes)
def test_rounded_prices_lie_on_the_grid_less_than_a_tick_away(price: Decimal, tick: Decimal) -> None:
    instrument = Instrument("X", "Y", tick)
    down, up = instrument.floor(price), instrument.ceiling(price)

    assert instrument.on_grid(down) and instrument.on_grid(up)
    assert down <= price <= up and up - down in (0, tick)
    assert (up == down) == instrument.on_grid(price)


@pytest.mark.parametrize(("side", "stop", "limit"), [(BUY, "731.20", "731.15"), (SELL, "731.15", "731.20")], ids=["buy", "sell"])
def test_stops_round_away_from_the_market_and_limits_away_from_a_worse_price(side: Side, stop: str, limit: str) -> None:
    assert (SBIN.stop_trigger(side, D("731.17")), SBIN.limit(side, D("731.17"))) == (D(stop), D(limit))


@both_sides
def test_a_price_on_the_grid_stays(side: Side) -> None:
    assert (SBIN.stop_trigger(side, D("731.15")), SBIN.limit(side, D("731.15"))) == (D("731.15"), D("731.15"))


def test_quantities_are_rounded_down_to_whole_lots() -> None:
    lots = Instrument("X", "Y", D("0.05"), lot_size=D("0.00000001"))

    assert lots.quantity_down(D("0.002222229")) == D("0.00222222")
    assert SBIN.quantity_down(D("5.9")) == 5


def test_ticks_are_counted_in_tick_sizes() -> None:
    assert (SBIN.ticks(20), SBIN.ticks(0)) == (D("1.00"), 0)


@pytest.mark.parametrize(
    ("qty", "price", "why"),
    [
        ("10", "100", None),
        ("10", None, None),
        ("0", "100", "quantity 0 is not above 0"),
        ("-10", "100", "quantity -10 is not above 0"),
        ("15", "100", "quantity 15 is not a multiple of the lot size 10"),
        ("10", "1", "value 10 is below the minimum 500"),
        ("100", "100", None),
        ("110", "100", "quantity 110 is above the freeze quantity 100"),
    ],
)
def test_a_forbidden_quantity_names_its_rule(qty: str, price: str | None, why: str | None) -> None:
    """ENT-13."""
    instrument = Instrument("X", "Y", D("0.05"), D(10), min_qty=D(10), min_notional=D(500), freeze_qty=D(100))

    assert instrument.why_not(D(qty), None if price is None else D(price)) == why


def test_a_quantity_below_the_minimum_is_never_rounded_up() -> None:
    """ENT-13."""
    instrument = Instrument("X", "Y", D("0.05"), min_qty=D(6))

    assert instrument.why_not(D(5)) == "quantity 5 is below the minimum 6"


@pytest.mark.parametrize("field", ["tick_size", "lot_size"])
@pytest.mark.parametrize("value", ["0", "-0.05", "NaN", "Infinity"])
def test_a_grid_without_steps_is_refused(field: str, value: str) -> None:
    sizes = {"tick_size": D("0.05"), "lot_size": D(1)} | {field: D(value)}

    with pytest.raises(ValueError, match=f"X: {field} must be above 0"):
        Instrument("X", "Y", **sizes)
