"""Sizes: money becomes a quantity when the entry is granted, and never buys or risks more than was said."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.story import lines
from state.events import EntriesOff, Tick
from state.instrument import Instrument
from state.orders import OrderType, Side
from state.reports import Reported
from state.sizing import By, Size, Sized, dearest, fixed, sized
from state.strategy import Enter
from state.symbol_state import Work
from tests.state.builders import BUY, ENTRY, SBIN, SELL, SYMBOL, TRIGGER, D, Plan, Play, at, both_sides

BTC = Instrument("BTC-USD", "COINBASE", D("0.01"), D("0.00000001"))
NO_LOSS = D(0)


def notional(amount: str) -> Size:
    return Size(By.NOTIONAL, D(amount))


def risk(amount: str) -> Size:
    return Size(By.RISK, D(amount))


def grid(**changes: Any) -> Instrument:
    return Instrument("X", "Y", D("0.05"), **{name: D(value) for name, value in changes.items()})


# -- the arithmetic ------------------------------------------------------------------------------------------------------------


def test_a_hundred_in_quote_money_buys_the_base_it_pays_for() -> None:
    """ENT-12: 0.00222222 of a coin, never 100 of them."""
    assert sized(notional("100"), BTC, D(45_000), NO_LOSS) == Sized(D("0.00222222"), "notional 100 at 45000")


def test_a_quantity_is_what_it_says() -> None:
    assert sized(fixed(D(5)), SBIN, D(45_000), NO_LOSS) == Sized(D(5))


def test_a_risk_is_divided_by_what_a_unit_loses_at_its_stop() -> None:
    assert sized(risk("500"), SBIN, D("731.15"), D("1.05")) == Sized(D(476), "risk 500, 1.05 a unit")


@pytest.mark.parametrize(
    ("size", "instrument", "found"),
    [
        (notional("100"), grid(), Sized(D(0), why_not="notional 100 at 250 buys 0.4 of a lot")),
        (notional("249.999"), grid(), Sized(D(0), why_not="notional 249.999 at 250 buys 0.99 of a lot")),
        (notional("250"), grid(), Sized(D(1), "notional 250 at 250")),
        (notional("1999"), grid(lot_size="3"), Sized(D(6), "notional 1999 at 250")),
        (notional("600"), grid(min_qty="3"), Sized(D(0), why_not="notional 600 at 250 buys 2, less than the minimum 3")),
        (notional("9000"), grid(freeze_qty="20"), Sized(D(20), "notional 9000 at 250, cut to the freeze quantity")),
        (
            notional("9000"),
            grid(freeze_qty="20", lot_size="3"),
            Sized(D(18), "notional 9000 at 250, cut to the freeze quantity"),
        ),
        (risk("1"), grid(), Sized(D(0), why_not="risk 1, 2 a unit buys 0.5 of a lot")),
    ],
)
def test_lots_minimum_and_freeze_are_kept_and_what_is_left_out_is_named(size: Size, instrument: Instrument, found: Sized) -> None:
    assert sized(size, instrument, D(250), D(2)) == found


def test_a_unit_that_is_worth_nothing_has_no_size() -> None:
    assert sized(risk("500"), SBIN, D(100), D(0)).why_not == "risk 500 has no size where a unit is worth 0"


def test_a_product_that_is_rounded_on_the_way_buys_no_lot_more() -> None:
    """In 28 digits a lot costs exactly the money there is; in truth a little more."""
    unit = D("1.000000000000000000000000001")
    money = D("1.000000000000000000000000002")

    assert sized(Size(By.NOTIONAL, money), grid(lot_size=str(unit)), unit, NO_LOSS).qty == 0


@given(
    amount=st.decimals("0.01", "1000000", places=2),
    price=st.decimals("0.00001", "90000", places=5),
    lot=st.sampled_from(["0.00000001", "0.001", "0.3", "1", "75"]),
)
def test_it_never_costs_more_than_was_said_and_one_more_lot_would(amount: Decimal, price: Decimal, lot: str) -> None:
    """ENT-12"""
    found = sized(Size(By.NOTIONAL, amount), grid(lot_size=lot), price, NO_LOSS)

    assert found.qty % D(lot) == 0
    assert Fraction(found.qty) * Fraction(price) <= Fraction(amount) < Fraction(found.qty + D(lot)) * Fraction(price)


@pytest.mark.parametrize(
    ("side", "trigger", "limit", "worth"),
    [
        (BUY, None, None, "100"),
        (SELL, None, None, "100"),
        (BUY, None, "98", "98"),
        (BUY, None, "103", "103"),
        (SELL, None, "103", "103"),
        (SELL, None, "98", "100"),
        (BUY, "105", None, "105"),
        (BUY, "105", "106", "106"),
        (SELL, "95", "94", "95"),
    ],
)
def test_the_dearest_price_of_an_entry_is_the_one_it_is_measured_by(
    side: Side, trigger: str | None, limit: str | None, worth: str
) -> None:
    assert dearest(side, D(100), None if trigger is None else D(trigger), None if limit is None else D(limit)) == D(worth)


# -- in the one door --------------------------------------------------------------------------------------------------------


@both_sides
def test_the_entry_is_sized_by_the_price_it_is_planned_at(side: Side) -> None:
    play = Play(side, size=notional("5000"))

    play.tick("730.65")

    assert play.entry.qty == D(6)  # 6 x 731.15 = 4386.90
    assert play.entry.reason.endswith(", notional 5000 at 731.15")


@both_sides
def test_the_entry_risks_what_was_said_between_its_price_and_the_strategys_stop(side: Side) -> None:
    play = Play(side, Plan(side, stop=at(side, "728.15")), size=risk("500"))

    play.tick("730.65")

    assert (play.entry.qty, play.entry.reason.partition(", ")[2]) == (D(166), "risk 500, 3.00 a unit")


def test_a_market_entry_is_sized_by_the_price_that_has_just_come() -> None:
    """ENT-12"""
    wish = Enter(BUY, OrderType.MARKET, "45000 broke 44000")
    play = Play(BUY, Plan(BUY, {D(45_000): wish}), instrument=BTC, size=notional("100"))

    play.tick("45000")

    assert (play.entry.qty, play.entry.reason) == (D("0.00222222"), "45000 broke 44000, notional 100 at 45000")


def test_without_a_fresh_price_there_is_no_order() -> None:
    """ENT-12"""
    play = Play(BUY, size=notional("5000"))
    play.on(EntriesOff(source="feed", reason="no fresh price", **play.when))

    commands = play.tick("730.65")

    assert (commands, play.s.entry, play.s.why) == ([], None, "waiting: no fresh price")


def test_what_does_not_buy_a_lot_is_denied_and_says_so() -> None:
    play = Play(BUY, size=notional("100"))

    commands = play.tick("730.65")

    assert (commands, play.s.entries_used) == ([], 0)
    assert play.s.why == "denied: notional 100 at 731.15 buys 0.13 of a lot"


def test_what_is_below_the_venues_least_value_is_denied() -> None:
    play = Play(BUY, instrument=Instrument(SYMBOL, "NSE", D("0.05"), min_notional=D(5_000)), size=notional("5000"))

    play.tick("730.65")

    assert play.s.why == "denied: value 4386.90 is below the minimum 5000"


@pytest.mark.parametrize("size", [notional("5000"), risk("500")])
def test_a_stop_without_room_is_denied_whatever_the_size(size: Size) -> None:
    play = Play(BUY, Plan(BUY, stop=ENTRY + 1), size=size)

    commands = play.tick("730.65")

    assert (commands, play.s.entry) == ([], None)
    assert play.s.why == "denied: stop 732.15 is not on the losing side of 731.15"


def test_a_reentry_is_sized_anew_and_the_order_before_keeps_its_own_quantity() -> None:
    wishes = {D(price): Enter(BUY, OrderType.MARKET, price) for price in ("100", "200")}
    play = Play(BUY, Plan(BUY, wishes), size=notional("1000"))
    play.tick("100")
    first = play.entry
    play.accepted(first)
    play.tick("200")
    play.fill(first, first.qty, "100")
    play.seen(first, Reported.FILLED)
    play.accepted(play.stop)
    play.seen(play.stop)
    play.stop_out("99")

    play.tick("200")

    assert (first.qty, play.entry.client_id, play.entry.qty) == (D(10), "SBIN-20261120-E2", D(5))


def test_the_log_line_shows_the_size_and_where_it_came_from() -> None:
    play = Play(BUY, size=notional("5000"))
    before = play.s
    commands = play.tick("730.65")

    (line,) = lines(Work("ticks", Tick(price=TRIGGER, **play.when), before, play.s, tuple(commands)))

    assert (line.change, line.cause) == (
        "FLAT -> ENTERING",
        "trigger touched at 730.65, notional 5000 at 731.15, buy stop 6 @ 731.15",
    )
