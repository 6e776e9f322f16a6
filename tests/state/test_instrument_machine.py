"""Rounding, as laws: for every tick, lot and price, each method goes its own way, to the grid, less than a step, once."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from state.instrument import Instrument
from state.orders import Side
from tests.machines import play

STEPS = st.one_of(
    st.sampled_from([Decimal(step) for step in ("0.05", "0.01", "0.0025", "1", "5", "0.00000001")]),
    st.integers(1, 10_000).map(lambda units: Decimal(units) / 10_000),
)
NUMBERS = st.decimals(Decimal("0.0001"), Decimal(1_000_000), places=6)
SIDES = st.sampled_from(Side)


def made(tick: Decimal, lot: Decimal = Decimal(1), least: Decimal = Decimal(0)) -> Instrument:
    return Instrument("SBIN", "NSE", tick, lot_size=lot, min_qty=least)


@play(150)
@given(tick=STEPS, price=NUMBERS, side=SIDES)
def test_a_price_is_rounded_away_from_harm_to_the_grid_by_less_than_a_tick_and_only_once(
    tick: Decimal, price: Decimal, side: Side
) -> None:
    instrument = made(tick)
    trigger, limit = instrument.stop_trigger(side, price), instrument.limit(side, price)

    assert (trigger - price) * side.sign >= 0, "a stop never fires before it was asked to"
    assert (limit - price) * side.sign <= 0, "a limit never pays more"
    for rounded in (trigger, limit, instrument.floor(price), instrument.ceiling(price)):
        assert instrument.on_grid(rounded) and abs(rounded - price) < tick
        assert {instrument.floor(rounded), instrument.ceiling(rounded)} == {rounded}


@play(150)
@given(tick=STEPS, lower=NUMBERS, higher=NUMBERS, side=SIDES)
def test_rounding_keeps_the_order_of_prices(tick: Decimal, lower: Decimal, higher: Decimal, side: Side) -> None:
    instrument = made(tick)
    low, high = sorted((lower, higher))

    assert instrument.stop_trigger(side, low) <= instrument.stop_trigger(side, high)
    assert instrument.limit(side, low) <= instrument.limit(side, high)


@play(150)
@given(lot=STEPS, held=NUMBERS, least=st.one_of(st.just(Decimal(0)), NUMBERS), side=SIDES)
def test_what_is_held_is_dust_and_an_order_that_may_be_sent(lot: Decimal, held: Decimal, least: Decimal, side: Side) -> None:
    """Nothing is lost between the two, and the dust alone can never be sold."""
    instrument = made(Decimal("0.05"), lot, least)
    position = held * side.sign
    dust = instrument.dust(position)
    sellable = abs(position - dust)

    assert dust * side.sign >= 0 and abs(dust) <= held
    assert sellable == 0 or instrument.why_not(sellable) is None
    assert abs(dust) < lot or instrument.why_not(abs(dust)) is not None or abs(dust) < instrument.least
    assert instrument.dust(position - dust) == 0


@play(150)
@given(lot=STEPS, quantity=NUMBERS)
def test_a_quantity_is_never_rounded_up(lot: Decimal, quantity: Decimal) -> None:
    rounded = made(Decimal("0.05"), lot).quantity_down(quantity)

    assert 0 <= quantity - rounded < lot
    assert rounded % lot == 0


@play(150)
@given(tick=STEPS, price=NUMBERS)
def test_spelling_changes_no_value(tick: Decimal, price: Decimal) -> None:
    instrument = made(tick)
    spelled = instrument.spelled(price)

    assert spelled == price
    assert not instrument.on_grid(price) or spelled is not None and spelled.as_tuple().exponent == tick.as_tuple().exponent
