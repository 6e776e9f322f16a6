"""The account's transactions as one log: what is shown, for how long, and what is never concluded from it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

import brokers.oanda_log as oanda_log
from brokers.base import FillRow, Reported, Unreadable
from brokers.client_ids import ClientIds
from brokers.oanda_log import TransactionLog
from brokers.spelling import Spelling
from state.orders import OrderType, Side
from state.threads import OS_THREADS

D = Decimal
NOON = "2026-11-20T12:00:00.000000000Z"
TOMORROW = "2026-11-21T12:00:00.000000001Z"
LATER = "2026-11-21T12:00:00.001000000Z"


def row(id: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": str(id), "batchID": str(id), "type": kind, "time": NOON} | fields


def made(id: int, **fields: Any) -> dict[str, Any]:
    return row(id, "LIMIT_ORDER", instrument="EUR_USD", units="100", price="1.09") | fields


def filled(id: int, order: int, **fields: Any) -> dict[str, Any]:
    return row(id, "ORDER_FILL", orderID=str(order), instrument="EUR_USD", units="100", fullVWAP="1.09") | fields


def reading(*rows: dict[str, Any]) -> TransactionLog:
    log = TransactionLog(ClientIds("journal", OS_THREADS), Spelling(OS_THREADS), OS_THREADS)
    log.load([row(1, "CREATE"), *rows], 1)
    return log


def states(log: TransactionLog) -> list[tuple[str, Reported]]:
    return [(found.venue_id, found.state) for found in log.rows()]


def test_each_transaction_counts_once_whoever_brings_it() -> None:
    log = reading(made(2))

    log.take([made(2), filled(3, 2)])
    log.take([filled(3, 2)])

    assert (states(log), len(log.fills()), log.last) == ([("2", Reported.FILLED)], 1, 3)


def test_nothing_is_taken_behind_a_gap() -> None:
    """FEE-04."""
    log = reading(made(2))

    with pytest.raises(Unreadable, match="transaction 3 is missing before 4"):
        log.take([filled(4, 2)])

    assert (states(log), log.last) == ([("2", Reported.WORKING)], 2)


def test_ended_orders_are_shown_for_a_day_and_working_ones_for_ever() -> None:
    log = reading(made(2), filled(3, 2), made(4), row(5, "DAILY_FINANCING", time=TOMORROW))
    at_first = (states(log), len(log.fills()))

    log.take([row(6, "DAILY_FINANCING", time=LATER)])

    assert at_first == ([("2", Reported.FILLED), ("4", Reported.WORKING)], 1)
    assert (states(log), log.fills()) == ([("4", Reported.WORKING)], [])
    assert log.row("2") is not None


def test_room_is_made_by_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oanda_log, "KEPT_CHAINS", 2)

    log = reading(made(2), made(3), filled(4, 3), made(5))

    assert (states(log), log.forgotten, log.row("3")) == ([("2", Reported.WORKING), ("5", Reported.WORKING)], 3, None)


def test_a_stop_trailed_a_thousand_times_keeps_its_id_and_little_else() -> None:
    log = reading(made(2, type="STOP_ORDER"))
    for n in range(1_000):
        old, new = 2 if n == 0 else 2 * n + 2, 2 * n + 4
        cancel = row(new - 1, "ORDER_CANCEL", orderID=str(old), reason="CLIENT_REQUEST_REPLACED", replacedByOrderID=str(new))
        log.take([cancel, made(new, type="STOP_ORDER", price=f"1.{n:05d}", replacesOrderID=str(old), batchID=str(new - 1))])

    found = log.row("2")

    assert found is not None
    assert (found.trigger_price, found.type, log.link("2")) == (D("1.00999"), OrderType.STOP, ("2002", D(0)))
    assert len(log._of) <= 2 * oanda_log.KEPT_LINKS


@pytest.mark.parametrize(
    ("fill", "price"),
    [
        ({"fullVWAP": "1.091", "price": "1.092", "tradeOpened": {"units": "100", "price": "1.093"}}, "1.091"),
        ({"fullVWAP": None, "price": "1.092", "tradeOpened": {"units": "100", "price": "1.093"}}, "1.093"),
        ({"fullVWAP": None, "price": "1.092", "tradeOpened": {"units": "100"}}, "1.092"),
    ],
)
def test_the_price_of_a_fill(fill: dict[str, Any], price: str) -> None:
    assert reading(made(2), filled(3, 2, **fill)).fills()[0].price == D(price)


def test_a_fill_is_what_it_moved() -> None:
    """14 trades closed and one opened are one execution of their sum."""
    closed = [{"tradeID": str(n), "units": "5"} for n in range(14)]
    fill = filled(3, 2, units="100", tradesClosed=closed, tradeReduced={"units": "10"}, tradeOpened={"units": "20"})

    assert reading(made(2), fill).fills()[0].qty == D(100)


def test_a_fee_is_commission_and_guarantee_and_financing_is_none() -> None:
    log = TransactionLog(ClientIds("journal", OS_THREADS), Spelling(OS_THREADS), OS_THREADS)
    log.currency = "USD"
    fees = {"commission": "0.20", "guaranteedExecutionFee": "0.05", "financing": "-3", "halfSpreadCost": "9"}

    log.load([made(1), filled(2, 1, **fees)], 1)

    assert (log.fills()[0].fee, log.fills()[0].fee_currency) == (D("0.25"), "USD")


@pytest.mark.parametrize(
    "bad",
    [
        {"units": "NaN"},
        {"units": "1e400"},
        {"units": None},
        {"fullVWAP": "Infinity"},
        {"fullVWAP": "-1"},
        {"fullVWAP": None},
        {"commission": "much"},
        {"tradesClosed": [{"units": "x"}]},
    ],
)
def test_a_fill_that_cannot_be_read_makes_its_order_unclear_and_hides_no_later_one(bad: dict[str, Any]) -> None:
    """FIL-16."""
    log = reading(made(2), filled(3, 2, **bad), made(4), filled(5, 4))

    assert states(log) == [("2", Reported.UNCLEAR), ("4", Reported.FILLED)]
    assert ([fill.venue_id for fill in log.fills()], log.unusable) == (["4"], 1)


def test_an_order_attached_to_a_trade_is_no_row_but_its_fill_is_one() -> None:
    """A native stop of somebody's fires: an execution without a request of ours."""
    attached = row(2, "STOP_LOSS_ORDER", tradeID="7", price="1.08")

    log = reading(attached, filled(3, 2, units="-100"))

    assert log.rows() == []
    assert log.fills() == [FillRow("3", "2", "EUR_USD", Side.SELL, D(100), D("1.09"), 1_795_176_000_000)]


def test_a_refused_change_leaves_its_order_as_it_was() -> None:
    reject = row(3, "LIMIT_ORDER_REJECT", instrument="EUR_USD", units="100", rejectReason="X", intendedReplacesOrderID="2")

    log = reading(made(2), reject)

    assert (states(log), log.row("3")) == ([("2", Reported.WORKING)], None)
