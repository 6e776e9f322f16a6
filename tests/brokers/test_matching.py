"""The matching conventions of data/README.md, each on both sides of the market."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brokers.base import FillRow, OrderRow, PositionRow, Refused, Reported
from brokers.matching import Change, MatchingEngine, NotFound
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

D = Decimal
SBIN = Instrument("SBIN", "NSE", D("0.05"))
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT


def engine(**options: Any) -> MatchingEngine:
    return MatchingEngine({"SBIN": SBIN}, **options)


def order(side: Side, kind: OrderType, qty: str = "5", limit: str | None = None, trigger: str | None = None) -> Order:
    return Order(
        client_id="SBIN-20261120-E0",
        symbol="SBIN",
        purpose=Purpose.ENTRY,
        side=side,
        type=kind,
        qty=D(qty),
        limit_price=None if limit is None else D(limit),
        trigger_price=None if trigger is None else D(trigger),
    )


def play(book: MatchingEngine, *prices: str) -> list[tuple[int, str, str]]:
    """(tick number, quantity, price) of each fill, ticks counted from 1."""
    fills = []
    for number, price in enumerate(prices, start=1):
        for change in book.tick("SBIN", D(price), number * 1000):
            if isinstance(change, FillRow):
                fills.append((number, str(change.qty), str(change.price)))
    return fills


def fill(trade: str, venue_id: str, side: Side, qty: str, price: str, at_ms: int, **more: Any) -> FillRow:
    return FillRow(trade, venue_id, "SBIN", side, D(qty), D(price), at_ms, **more)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_market_order_fills_at_the_next_tick_and_never_at_the_one_before_it(side: Side) -> None:
    book = engine()
    book.tick("SBIN", D("100.00"), 1000)

    venue_id = book.submit(order(side, MARKET), 1000, label="80-20")
    before = book.order(venue_id)
    changes = book.tick("SBIN", D("100.35"), 2000)

    row = OrderRow(
        venue_id="1",
        symbol="SBIN",
        side=side,
        state=Reported.WORKING,
        qty=D(5),
        type=MARKET,
        filled=D(0),
        average=D(0),
        client_id="SBIN-20261120-E0",
        at_ms=1000,
        label="80-20",
    )
    done = OrderRow(
        venue_id="1",
        symbol="SBIN",
        side=side,
        state=Reported.FILLED,
        qty=D(5),
        type=MARKET,
        filled=D(5),
        average=D("100.35"),
        client_id="SBIN-20261120-E0",
        at_ms=1000,
        label="80-20",
    )
    assert before == row
    assert changes == [fill("T1", "1", side, "5", "100.35", 2000), done]
    assert book.tick("SBIN", D("100.40"), 3000) == []


@pytest.mark.parametrize(("side", "fires"), [(SELL, "98.90"), (BUY, "99.10")])
def test_a_stop_fills_at_the_price_of_the_first_tick_at_or_beyond_its_trigger(side: Side, fires: str) -> None:
    far = "101.00" if side is SELL else "97.00"
    beyond, exactly = engine(), engine()
    for book in (beyond, exactly):
        book.submit(order(side, STOP, trigger="99.00"), 0)

    assert play(beyond, far, fires) == [(2, "5", fires)]
    assert play(exactly, far, "99.00") == [(2, "5", "99.00")]


def test_a_stop_limit_that_is_activated_exactly_at_its_limit_fills_there_on_that_tick() -> None:
    for side, far in ((BUY, "730.60"), (SELL, "731.60")):
        book = engine()
        book.submit(order(side, STOP_LIMIT, limit="731.15", trigger="731.15"), 0)

        assert play(book, far, "731.15") == [(2, "5", "731.15")]


def test_a_stop_limit_that_is_jumped_over_rests_and_fills_at_its_limit_when_the_price_comes_back() -> None:
    """ENT-08, PRO-10: the venue's half. It reads as working, unfilled, and no longer waits for its trigger."""
    for side, jump, back in ((BUY, "735.00", "730.90"), (SELL, "727.00", "731.40")):
        book = engine()
        venue_id = book.submit(order(side, STOP_LIMIT, limit="731.15", trigger="731.15"), 0)
        waiting = book.triggered(venue_id)

        changes = book.tick("SBIN", D(jump), 1000)
        resting = book.order(venue_id)

        assert not waiting
        assert book.triggered(venue_id)
        assert resting is not None and (resting.state, resting.filled) == (Reported.WORKING, D(0))
        assert changes == [resting]
        assert play(book, jump, back) == [(2, "5", "731.15")]


def test_a_stop_limit_with_room_fills_at_the_tick_that_activates_it() -> None:
    for side, limit, activates in ((BUY, "731.50", "731.30"), (SELL, "730.80", "731.00")):
        book = engine()
        book.submit(order(side, STOP_LIMIT, limit=limit, trigger="731.15"), 0)

        assert play(book, activates) == [(1, "5", activates)]


def test_a_limit_marketable_at_first_sight_gets_the_tick_and_later_its_own_price() -> None:
    for side, better, worse in ((BUY, "99.50", "100.50"), (SELL, "100.50", "99.50")):
        at_once, later = engine(), engine()
        for book in (at_once, later):
            book.submit(order(side, LIMIT, limit="100.00"), 0)

        assert play(at_once, better) == [(1, "5", better)]
        assert play(later, worse, better) == [(2, "5", "100.00")]


@pytest.mark.parametrize(
    ("side", "old", "new", "price"), [(SELL, "99.00", "99.50", "99.40"), (BUY, "101.00", "100.50", "100.60")]
)
def test_an_amended_trigger_counts_from_the_next_tick(side: Side, old: str, new: str, price: str) -> None:
    book = engine()
    venue_id = book.submit(order(side, STOP, trigger=old), 0)

    before = book.tick("SBIN", D(price), 1000)
    row = book.replace(venue_id, D(5), D(new), None, 1000)

    assert before == []
    assert row == book.order(venue_id) and (row.trigger_price, row.state) == (D(new), Reported.WORKING)
    assert play(book, price) == [(1, "5", price)]


def test_an_amended_limit_is_looked_at_as_if_it_were_new() -> None:
    book = engine()
    venue_id = book.submit(order(BUY, LIMIT, limit="100.00"), 0)

    book.tick("SBIN", D("101.00"), 1000)
    book.replace(venue_id, D(5), None, D("102.00"), 1000)

    assert play(book, "101.00") == [(1, "5", "101.00")]


def test_what_a_tick_has_is_shared_in_time_order() -> None:
    """FIL-10: the average is over all fills."""
    book = engine()
    first, second = (book.submit(order(BUY, MARKET), 0) for _ in range(2))

    three = book.tick("SBIN", D("100.00"), 1000, available=D(3))
    nothing = book.tick("SBIN", D("100.50"), 2000, available=D(0))
    four = book.tick("SBIN", D("101.00"), 3000, available=D(4))

    assert [change for change in three if isinstance(change, FillRow)] == [fill("T1", first, BUY, "3", "100.00", 1000)]
    assert nothing == []
    assert [change for change in four if isinstance(change, FillRow)] == [
        fill("T2", first, BUY, "2", "101.00", 3000),
        fill("T3", second, BUY, "2", "101.00", 3000),
    ]
    assert book.orders()[0].average == D("100.40")
    assert book.orders()[1].filled == D(2)


def test_a_fired_stop_that_filled_in_part_goes_on_at_the_market() -> None:
    book = engine()
    book.submit(order(SELL, STOP, trigger="99.00"), 0)

    book.tick("SBIN", D("99.00"), 1000, available=D(2))

    assert play(book, "99.50") == [(1, "3", "99.50")]


def test_only_whole_lots_fill() -> None:
    book = MatchingEngine({"SBIN": Instrument("SBIN", "NSE", D("0.05"), lot_size=D(2))})
    book.submit(order(BUY, MARKET, qty="6"), 0)

    changes = book.tick("SBIN", D(100), 1000, available=D(5))

    assert changes[0] == fill("T1", "1", BUY, "4", "100", 1000)


def test_a_market_order_without_a_tick_fills_at_the_last_price_and_nothing_else_does() -> None:
    book = engine()
    unknown = book.match_idle("SBIN", 0)
    book.tick("SBIN", D("100.00"), 1000)
    for resting in (order(BUY, LIMIT, limit="101.00"), order(SELL, STOP, trigger="99.00"), order(SELL, MARKET)):
        book.submit(resting, 2000)

    changes = book.match_idle("SBIN", 2500)

    assert unknown == []
    assert [change for change in changes if isinstance(change, FillRow)] == [fill("T1", "3", SELL, "5", "100.00", 2500)]
    assert [row.state for row in book.orders()] == [Reported.WORKING, Reported.WORKING, Reported.FILLED]


def test_a_tick_that_was_held_up_does_not_fill_before_the_order_came() -> None:
    book = engine()
    book.submit(order(BUY, MARKET), 5000)

    book.tick("SBIN", D(100), 4000)

    assert [row.at_ms for row in book.fills()] == [5000]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (order(BUY, LIMIT), "LIMIT orders require a limit price"),
        (order(BUY, STOP), "STOP orders require a trigger price"),
        (order(BUY, STOP_LIMIT, limit="100.00"), "STOP_LIMIT orders require a trigger price"),
        (order(BUY, STOP_LIMIT, trigger="100.00"), "STOP_LIMIT orders require a limit price"),
        (order(BUY, LIMIT, limit="100.03"), "limit price 100.03 is not a multiple of the tick size 0.05"),
        (order(SELL, STOP, trigger="99.99"), "trigger price 99.99 is not a multiple of the tick size 0.05"),
        (order(SELL, STOP, trigger="0"), "trigger price 0 is not above 0"),
        (order(BUY, LIMIT, limit="NaN"), "limit price NaN is not above 0"),
        (order(BUY, MARKET, qty="1.5"), "quantity 1.5 is not a multiple of the lot size 1"),
        (order(BUY, MARKET, qty="0"), "quantity 0 is not above 0"),
        (order(BUY, MARKET, qty="NaN"), "quantity NaN is not a number"),
    ],
)
def test_a_wrong_order_is_refused_and_leaves_no_trace(wrong: Order, reason: str) -> None:
    """ENT-10, ENT-13: what is off the grid or against a quantity rule does not get into a book."""
    book = engine()

    with pytest.raises(Refused) as refusal:
        book.submit(wrong, 0)

    assert str(refusal.value) == reason
    assert (book.orders(), book.fills(), book.positions()) == ([], [], [])


def test_an_unknown_symbol_is_refused() -> None:
    with pytest.raises(Refused, match="^Symbol SBIN not found$"):
        MatchingEngine({}).submit(order(BUY, MARKET), 0)


def test_an_engine_without_a_grid_takes_any_price() -> None:
    book = engine(check_grid=False)

    book.submit(order(BUY, LIMIT, limit="1200.03"), 0)

    assert play(book, "1201.00", "1200.01") == [(2, "5", "1200.03")]


@pytest.mark.parametrize(
    ("side", "trigger", "reason"),
    [
        (BUY, "100.00", "trigger price 100.00 is not above the last price 100.00"),
        (SELL, "100.05", "trigger price 100.05 is not below the last price 100.00"),
    ],
)
def test_a_crossed_stop_is_taken_unless_the_venue_is_one_that_refuses_it(side: Side, trigger: str, reason: str) -> None:
    """ENT-14: the venue's half."""
    lenient, strict = engine(), engine(refuse_crossed_stops=True)
    for book in (lenient, strict):
        book.tick("SBIN", D("100.00"), 1000)

    lenient.submit(order(side, STOP, trigger=trigger), 1000)
    with pytest.raises(Refused) as refusal:
        strict.submit(order(side, STOP, trigger=trigger), 1000)

    assert str(refusal.value) == reason
    assert strict.orders() == []
    assert play(lenient, "100.00") == [(1, "5", "100.00")]


def test_a_strict_venue_refuses_an_amend_across_the_market() -> None:
    book = engine(refuse_crossed_stops=True)
    book.tick("SBIN", D("100.00"), 1000)
    venue_id = book.submit(order(SELL, STOP, trigger="99.00"), 1000)

    with pytest.raises(Refused, match="is not below the last price"):
        book.replace(venue_id, D(5), D("100.50"), None, 1000)

    assert [row.trigger_price for row in book.orders()] == [D("99.00")]


def test_a_closed_or_unknown_order_can_be_neither_cancelled_nor_amended() -> None:
    book = engine()
    filled, cancelled = (book.submit(order(BUY, MARKET), 0), book.submit(order(SELL, STOP, trigger="1.00"), 0))
    book.tick("SBIN", D(100), 1000)
    book.cancel(cancelled, 1000)

    words = []
    for venue_id in (filled, cancelled, "999"):
        with pytest.raises(Refused) as no_cancel:
            book.cancel(venue_id, 2000)
        with pytest.raises(Refused) as no_amend:
            book.replace(venue_id, D(5), None, None, 2000)
        words += [(refusal.type, str(refusal.value)) for refusal in (no_cancel, no_amend)]

    assert words == [
        (Refused, "Cannot cancel order in complete status"),
        (Refused, "Cannot modify order in complete status"),
        (Refused, "Cannot cancel order in cancelled status"),
        (Refused, "Cannot modify order in cancelled status"),
        (NotFound, "Order 999 not found"),
        (NotFound, "Order 999 not found"),
    ]


def test_a_cancelled_order_keeps_what_it_filled_and_fills_no_more() -> None:
    book = engine()
    venue_id = book.submit(order(BUY, LIMIT, limit="100.00"), 0)
    book.tick("SBIN", D("100.00"), 1000, available=D(3))

    row = book.cancel(venue_id, 2000)

    assert (row.state, row.filled, row.average) == (Reported.CANCELLED, D(3), D("100.00"))
    assert book.tick("SBIN", D("99.00"), 3000) == []
    assert book.positions() == [PositionRow("SBIN", D(3), D("100.00"))]


def test_a_stop_can_grow_and_shrink_but_not_below_what_it_filled() -> None:
    book = engine()
    venue_id = book.submit(order(SELL, STOP, qty="3", trigger="99.00"), 0)
    book.replace(venue_id, D(5), D("99.00"), None, 0)
    book.tick("SBIN", D("99.00"), 1000, available=D(2))

    with pytest.raises(Refused, match="^quantity 2 is not above the 2 already filled$"):
        book.replace(venue_id, D(2), D("99.00"), None, 1000)
    book.replace(venue_id, D(4), D("99.00"), None, 1000)

    assert play(book, "98.00") == [(1, "2", "98.00")]


def test_a_field_that_does_not_belong_to_the_type_is_refused_in_an_amend() -> None:
    book = engine()
    limit = book.submit(order(BUY, LIMIT, limit="100.00"), 0)
    stop = book.submit(order(SELL, STOP, trigger="90.00"), 0)

    with pytest.raises(Refused, match="^LIMIT orders do not accept a trigger price$"):
        book.replace(limit, D(5), D("99.00"), D("100.00"), 0)
    with pytest.raises(Refused, match="^STOP orders do not accept a limit price$"):
        book.replace(stop, D(5), D("90.00"), D("90.00"), 0)


def test_the_position_follows_the_fills_through_zero_and_back() -> None:
    book = engine()
    seen = []
    for side, qty, price in ((BUY, "2", "100"), (BUY, "2", "102"), (SELL, "1", "105"), (SELL, "5", "99"), (BUY, "2", "97")):
        book.submit(order(side, MARKET, qty=qty), 0)
        book.tick("SBIN", D(price), 0)
        seen.append((book.positions()[0].qty, book.positions()[0].average, book.realized("SBIN")))

    assert seen == [
        (D(2), D(100), D(0)),
        (D(4), D(101), D(0)),
        (D(3), D(101), D(4)),
        (D(-2), D(99), D(-2)),
        (D(0), None, D(2)),
    ]


def test_fees_are_a_share_of_the_value_to_the_last_digit() -> None:
    book = engine(fee_rate=D("0.00325"), fee_currency="INR")
    book.submit(order(BUY, MARKET, qty="3"), 0)

    book.tick("SBIN", D("731.15"), 1000)

    assert book.fills() == [fill("T1", "1", BUY, "3", "731.15", 1000, fee=D("7.1287125"), fee_currency="INR")]


def test_equal_days_have_equal_books_and_ids_start_where_they_are_told() -> None:
    def day() -> tuple[list[Change], list[OrderRow]]:
        book = engine(first_id=26112010000001)
        book.submit(order(BUY, STOP_LIMIT, limit="100.00", trigger="100.00"), 0)
        book.submit(order(SELL, MARKET), 0)
        return [*book.tick("SBIN", D("100.00"), 1000), *book.tick("SBIN", D("99.00"), 2000)], book.orders()

    changes, rows = day()

    assert (changes, rows) == day()
    assert [row.venue_id for row in rows] == ["26112010000001", "26112010000002"]
    assert [change.trade_id for change in changes if isinstance(change, FillRow)] == ["T26112010000001", "T26112010000002"]
