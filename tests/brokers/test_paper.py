"""Paper trading: a broker in this process. Its matching is tested in test_matching; here is what makes it a broker."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from brokers.base import FillRow, OrderRow, PositionRow, Refused, Reported
from brokers.paper import Paper
from state.clock import VirtualClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

D = Decimal
SBIN = Instrument("SBIN", "NSE", D("0.05"))
NAME = "SBIN-20261120-E0"


def order(type: OrderType = OrderType.MARKET, side: Side = Side.BUY, **prices: Decimal) -> Order:
    return Order(client_id=NAME, symbol="SBIN", purpose=Purpose.ENTRY, side=side, type=type, qty=D(5), **prices)


@pytest.fixture
def paper() -> Paper:
    return Paper({"SBIN": SBIN}, VirtualClock(1_000), fee_rate=D("0.001"))


def known(paper: Paper, sent: Order) -> Order:
    """The order as the desk knows it once it has been accepted."""
    return msgspec.structs.replace(sent, venue_id=paper.submit(sent))


def test_an_order_fills_on_a_later_price_and_its_reports_come_in_order(paper: Paper) -> None:
    paper.tick("SBIN", D("731.00"), 1_000)
    sent = known(paper, order())

    assert paper.positions() == []
    fill, row = sorted(paper.tick("SBIN", D("731.20"), 2_000), key=lambda change: isinstance(change, OrderRow))

    assert isinstance(fill, FillRow) and isinstance(row, OrderRow)
    assert (fill.venue_id, fill.qty, fill.price, fill.fee, fill.at_ms) == (sent.venue_id, D(5), D("731.20"), D("3.656000"), 2_000)
    assert (row.state, row.filled, row.average) == (Reported.FILLED, D(5), D("731.20"))
    assert paper.positions() == [PositionRow("SBIN", D(5), D("731.20"))]
    assert paper.fills() == [fill]


def test_the_client_order_id_is_shown_with_the_order(paper: Paper) -> None:
    paper.submit(order())

    assert [(row.label or row.client_id) for row in paper.orders()] == [NAME]
    assert paper.capabilities.client_ids


def test_a_stop_is_amended_and_cancelled_in_place(paper: Paper) -> None:
    stop = known(paper, order(OrderType.STOP, Side.SELL, trigger_price=D("730.15")))

    paper.replace(stop, D(4), D("730.50"), None)
    amended = paper.order(stop)
    paper.cancel(stop)
    gone = paper.order(stop)

    assert amended is not None and gone is not None
    assert (amended.qty, amended.trigger_price, amended.state) == (D(4), D("730.50"), Reported.WORKING)
    assert gone.state is Reported.CANCELLED


def test_an_ended_or_unknown_order_cannot_be_cancelled(paper: Paper) -> None:
    stop = known(paper, order(OrderType.STOP, Side.SELL, trigger_price=D("730.15")))
    paper.cancel(stop)

    for wrong in (stop, order()):
        with pytest.raises(Refused):
            paper.cancel(wrong)
    assert paper.order(order()) is None


def test_when_prices_end_what_waits_for_the_market_fills_at_the_last_one(paper: Paper) -> None:
    paper.tick("SBIN", D("731.00"), 1_000)
    paper.submit(order())

    paper.finish("SBIN", 3_000)

    assert [(row.price, row.at_ms) for row in paper.fills()] == [(D("731.00"), 3_000)]


def test_quotes_are_the_last_prices_and_nothing_where_there_was_none(paper: Paper) -> None:
    before = paper.quotes(["SBIN"])
    paper.tick("SBIN", D("731.00"), 1_000)

    assert (before, paper.quotes(["SBIN"])) == ({}, {"SBIN": D("731.00")})


def test_only_configured_instruments_are_known(paper: Paper) -> None:
    assert paper.instrument("SBIN") is SBIN
    with pytest.raises(Refused, match="no instrument ITC is configured"):
        paper.instrument("ITC")


def test_a_price_off_the_grid_is_refused(paper: Paper) -> None:
    with pytest.raises(Refused):
        paper.submit(order(OrderType.LIMIT, limit_price=D("731.02")))
