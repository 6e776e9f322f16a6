"""The OpenAlgo adapter over a real HTTP server that speaks the sheet's own samples."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from brokers.base import (
    Broker,
    BrokerError,
    Capabilities,
    Fatal,
    FillRow,
    OrderRow,
    PositionRow,
    Refused,
    Reported,
    SessionHours,
    Unanswered,
    Unavailable,
    Unreadable,
)
from brokers.openalgo import OpenAlgo
from state.clock import SystemClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from tests.brokers.http_stub import Act, HttpStub, hang_up, reply

NOW_MS = 1795146000000  # 2026-11-20 09:10 in India
KEY = "k3y-of-the-account"
ENTRY = Order("SBIN-20261120-E0", "SBIN", Purpose.ENTRY, Side.BUY, OrderType.STOP_LIMIT, D(5), D("731.15"), D("731.15"))
STOP = Order("SBIN-20261120-S0", "SBIN", Purpose.STOP, Side.SELL, OrderType.STOP, D("5.0"), None, D("511.950"), venue_id="77")
LIVE_ROW = {
    "action": "SELL",
    "exchange": "NSE",
    "order_status": "trigger pending",
    "orderid": 250408000989443,
    "price": "0.0",
    "pricetype": "SL-M",
    "product": "MIS",
    "quantity": "5",
    "symbol": "SBIN",
    "timestamp": "20-Nov-2026 09:16:36",
    "trigger_price": 511.95,
}
LIVE_TRADE = {
    "action": "BUY",
    "average_price": 730.5,
    "exchange": "NSE",
    "orderid": "1",
    "product": "MIS",
    "quantity": 2.0,
    "symbol": "SBIN",
    "timestamp": "09:16:36",
    "trade_value": 1461.0,
}


def fixed(content: Any, status: int = 200) -> Act:
    return reply(status, content)


def listed(rows: Any, **more: Any) -> Act:
    return reply(200, {"data": rows, "status": "success", **more})


def path(name: str) -> str:
    return f"/api/v1/{name}"


@pytest.fixture
def server() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        yield stub


@pytest.fixture
def broker(server: HttpStub) -> Iterator[OpenAlgo]:
    made = make(server)
    yield made
    made.close()


def make(server: HttpStub, timeout_s: float = 2, **changes: Any) -> OpenAlgo:
    return OpenAlgo(server.url, KEY, "NSE", "MIS", timeout_s, 30, _SessionClock(), **changes)


def test_it_is_a_broker_and_says_what_it_can_do(broker: OpenAlgo) -> None:
    as_broker: Broker = broker

    assert as_broker.capabilities == Capabilities(
        client_ids=False, replace=True, native_stops=True, order_stream=True, settle_window_s=30
    )


# --- placing ---


@pytest.mark.parametrize(
    ("type", "limit_price", "trigger_price", "expected"),
    [
        (OrderType.MARKET, None, None, '"pricetype":"MARKET","quantity":5'),
        (OrderType.LIMIT, D("731.150"), None, '"pricetype":"LIMIT","quantity":5,"price":731.15'),
        (OrderType.STOP, None, D("511.95"), '"pricetype":"SL-M","quantity":5,"trigger_price":511.95'),
        (OrderType.STOP_LIMIT, D("1290"), D("1290.50"), '"pricetype":"SL","quantity":5,"price":1290,"trigger_price":1290.5'),
        (OrderType.LIMIT, D("1.2E+3"), None, '"pricetype":"LIMIT","quantity":5,"price":1200'),
    ],
)
def test_a_placement_carries_exactly_the_documented_fields(
    server: HttpStub, broker: OpenAlgo, type: OrderType, limit_price: D | None, trigger_price: D | None, expected: str
) -> None:
    """PRO-19: unknown fields are refused by the server, and prices go as they stand: 511.95, never 511.95000000000005."""
    server.on(path("placeorder"), fixed({"orderid": "250408000989443", "status": "success"}))
    order = msgspec.structs.replace(ENTRY, type=type, limit_price=limit_price, trigger_price=trigger_price)

    venue_id = broker.submit(order)

    assert venue_id == "250408000989443"
    assert [seen.body.decode() for seen in server.seen] == [
        f'{{"apikey":"{KEY}","strategy":"SBIN-20261120-E0","exchange":"NSE","symbol":"SBIN","product":"MIS","action":"BUY",{expected}}}'
    ]


def test_a_numeric_order_id_equals_its_text(server: HttpStub, broker: OpenAlgo) -> None:
    """NET-14"""
    server.on(path("placeorder"), fixed({"orderid": 250408000989443, "status": "success"}))

    assert broker.submit(ENTRY) == "250408000989443"


def test_a_client_id_too_long_for_a_label_is_left_out(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("placeorder"), fixed({"orderid": "1", "status": "success"}))

    broker.submit(msgspec.structs.replace(ENTRY, client_id="X" * 65))

    assert server.asked(path("placeorder"))[0]["strategy"] == "live_runner"


def test_an_order_without_the_price_its_type_needs_is_not_sent(server: HttpStub, broker: OpenAlgo) -> None:
    with pytest.raises(Refused, match="not sent"):
        broker.submit(msgspec.structs.replace(ENTRY, trigger_price=None))

    assert server.seen == []


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hang_up, id="reply lost"),
        pytest.param(
            fixed({"message": "Failed to place order due to internal error", "status": "error"}, 500), id="internal error"
        ),
        pytest.param(fixed({"status": "success"}), id="no id"),
        pytest.param(fixed({"orderid": None, "status": "success"}), id="null id"),
        pytest.param(fixed({"orderid": {"id": 1}, "status": "success"}), id="odd id"),
        pytest.param(fixed({"orderid": "1"}), id="no status"),
        pytest.param(fixed({"orderid": "1", "status": "success"}, 500), id="success in a 500"),
        pytest.param(fixed("<html>welcome</html>"), id="HTML"),
        pytest.param(fixed('{"orderid": "1", "status": "succ'), id="truncated JSON"),
        pytest.param(fixed(""), id="empty"),
        pytest.param(fixed("[" * 100_000), id="unparsable"),
        pytest.param(fixed("<html>login</html>", 302), id="redirect"),
        pytest.param(fixed({"message": "queued", "mode": "semi_auto", "pending_order_id": 1, "status": "success"}), id="parked"),
        pytest.param(
            fixed({"orderid": "5", "mode": "semi_auto", "pending_order_id": 1, "status": "success"}),
            id="parked with an id of its own",
        ),
    ],
)
def test_a_placement_without_a_usable_answer_is_unknown_and_went_out_once(server: HttpStub, broker: OpenAlgo, act: Act) -> None:
    """UNK-01, UNK-02, UNK-03, UNK-04"""
    server.on(path("placeorder"), act)

    with pytest.raises(Unanswered) as caught:
        broker.submit(ENTRY)

    assert len(server.seen) == 1
    assert KEY not in str(caught.value)


def test_an_error_with_an_order_id_is_tracked(server: HttpStub, broker: OpenAlgo) -> None:
    """UNK-05"""
    server.on(path("placeorder"), fixed({"message": "No holdings", "orderid": "26112028881015", "status": "error"}, 400))

    with pytest.raises(Unanswered) as caught:
        broker.submit(ENTRY)

    assert caught.value.venue_id == "26112028881015"


def test_a_defect_in_reading_the_answer_is_unknown_not_unsent(server: HttpStub) -> None:
    """UNK-04: a reply whose parsing raises."""
    server.on(path("placeorder"), fixed({"orderid": "1", "status": "success"}))
    broker = _Defective(server.url, KEY, "NSE", "MIS", 2, 30, _SessionClock())

    with pytest.raises(Unanswered, match="ZeroDivisionError"):
        broker.submit(ENTRY)


def test_a_server_that_is_not_there_got_nothing() -> None:
    """UNK-06"""
    with HttpStub() as gone:
        broker = make(gone)

    with pytest.raises(Unavailable, match="nothing was sent"):
        broker.submit(ENTRY)


def test_no_text_ever_carries_the_key_even_when_the_server_echoes_it(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("placeorder"), fixed({"message": f"bad key {KEY}\nforged line", "status": "error"}, 400))

    with pytest.raises(Refused) as caught:
        broker.submit(ENTRY)

    assert str(caught.value) == 'placeorder: HTTP 400 "bad key [key]\\nforged line"'


# --- changing ---


def test_a_modify_carries_all_twelve_fields(server: HttpStub, broker: OpenAlgo) -> None:
    """PRO-19"""
    server.on(path("modifyorder"), fixed({"orderid": 77, "status": "success"}))

    broker.replace(STOP, D(3), D("512.05"), None)
    broker.replace(msgspec.structs.replace(ENTRY, venue_id="77"), D(5), None, D("731.2"))

    expected = (
        '{"apikey":"%s","strategy":"SBIN-20261120-%s","orderid":"77","symbol":"SBIN","exchange":"NSE","action":"%s",'
        '"product":"MIS","pricetype":"%s","price":%s,"quantity":%s,"trigger_price":%s,"disclosed_quantity":0}'
    )
    assert [seen.body.decode() for seen in server.seen] == [
        expected % (KEY, "S0", "SELL", "SL-M", "0", "3", "512.05"),
        expected % (KEY, "E0", "BUY", "SL", "731.2", "5", "731.15"),
    ]


def test_a_cancel_carries_its_three_fields(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("cancelorder"), fixed({"message": "Order cancelled successfully", "orderid": "77", "status": "success"}))

    broker.cancel(STOP)

    assert server.asked(path("cancelorder")) == [{"apikey": KEY, "strategy": "SBIN-20261120-S0", "orderid": "77"}]


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (fixed({"message": "Cannot cancel order in complete status", "status": "error"}, 400), Refused),
        (fixed({"message": "Order 77 not found", "status": "error"}, 404), Refused),
        (fixed({"message": "10 per 1 second"}, 429), Unavailable),
        (fixed({"message": "Cancel order operation is not allowed in Semi-Auto mode.", "status": "error"}, 403), Fatal),
        (fixed({"message": "Failed to cancel order due to internal error", "status": "error"}, 500), Unanswered),
        (fixed({"orderid": "78", "status": "success"}), Unanswered),
        (fixed({"status": "success"}), Unanswered),
        (hang_up, Unanswered),
    ],
)
def test_a_cancel_that_did_not_plainly_succeed(server: HttpStub, broker: OpenAlgo, act: Act, expected: type[BrokerError]) -> None:
    """NET-01: a 429 is never read as "cancelled"."""
    server.on(path("cancelorder"), act)

    with pytest.raises(expected):
        broker.cancel(STOP)

    assert len(server.seen) == 1


def test_an_order_whose_id_is_not_known_yet_cannot_be_asked_about(server: HttpStub, broker: OpenAlgo) -> None:
    """Nothing is sent, and it is not "none such" either."""
    for ask in (broker.cancel, broker.order):
        with pytest.raises(Unavailable, match="no venue order id"):
            ask(ENTRY)

    assert server.seen == []


# --- order book ---


def test_a_live_row_without_filled_quantity_says_nothing_of_fills_while_it_works(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("orderbook"), listed({"orders": [LIVE_ROW], "statistics": {}}))

    assert broker.orders() == [
        OrderRow(
            "250408000989443",
            "SBIN",
            Side.SELL,
            Reported.WORKING,
            D(5),
            OrderType.STOP,
            trigger_price=D("511.95"),
            at_ms=1795146396000,
        )
    ]
    assert server.asked(path("tradebook")) == []


def test_an_analyze_row_carries_our_id_and_its_own_fills(server: HttpStub, broker: OpenAlgo) -> None:
    row = {**LIVE_ROW, "pricetype": "SL", "price": 510.0, "order_status": "OPEN", "filled_quantity": 2, "average_price": 510.05}
    row |= {"strategy": "SBIN-20261120-S0", "timestamp": "2026-11-20 09:16:36", "rejection_reason": "slow\nday"}
    server.on(path("orderbook"), listed({"orders": [row]}))

    assert broker.orders() == [
        OrderRow(
            "250408000989443",
            "SBIN",
            Side.SELL,
            Reported.WORKING,
            D(5),
            OrderType.STOP_LIMIT,
            D(510),
            D("511.95"),
            D(2),
            D("510.05"),
            "SBIN-20261120-S0",
            1795146396000,
            "SBIN-20261120-S0",
            "slow\\nday",
        )
    ]


def test_another_programs_label_is_not_taken_for_our_id(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("orderbook"), listed([{**LIVE_ROW, "strategy": "My Strategy"}]))

    [row] = broker.orders()

    assert (row.label, row.client_id) == ("My Strategy", None)


@pytest.mark.parametrize(
    ("status", "trades", "filled", "average"),
    [
        ("complete", [("1", 2, "730.5"), ("2", 9, "1"), ("1", 3, "731")], D(5), D("730.8")),
        ("cancelled", [("1", "3", 731)], D(3), D(731)),
        ("cancelled", [], D(0), None),
        ("expired", [("1", 1, 731)], D(1), D(731)),
        ("rejected", [], D(0), None),
        ("complete", [], None, None),
        ("complete", [("1", 0.0, 0.0)], None, None),
    ],
)
def test_what_a_closed_live_order_filled_is_the_sum_of_its_trades(
    server: HttpStub, broker: OpenAlgo, status: str, trades: list[Any], filled: D | None, average: D | None
) -> None:
    """FIL-09: "complete" without a trade is no fill; an average is weighted, never the first row's."""
    server.on(path("orderbook"), listed({"orders": [{**LIVE_ROW, "orderid": "1", "order_status": status, "average_price": 0.0}]}))
    rows = [{**LIVE_TRADE, "orderid": id, "quantity": quantity, "average_price": price} for id, quantity, price in trades]
    server.on(path("tradebook"), listed(rows))

    [row] = broker.orders()

    assert (row.filled, row.average) == (filled, average)


@pytest.mark.parametrize(("said", "asked"), [(5, 0), (0, 1)])
def test_complete_with_a_filled_quantity_is_believed_and_with_zero_is_looked_at(
    server: HttpStub, broker: OpenAlgo, said: int, asked: int
) -> None:
    """FIL-09"""
    row = {**LIVE_ROW, "order_status": "complete", "filled_quantity": said, "average_price": 511.9}
    server.on(path("orderbook"), listed({"orders": [row]}))
    server.on(path("tradebook"), listed([]))

    [found] = broker.orders()

    assert (found.filled, found.average) == ((D(5), D("511.9")) if said else (None, None))
    assert len(server.asked(path("tradebook"))) == asked


def test_a_tradebook_that_fails_fails_the_book(server: HttpStub, broker: OpenAlgo) -> None:
    """A failed read is never "nothing filled"."""
    server.on(path("orderbook"), listed({"orders": [{**LIVE_ROW, "order_status": "cancelled"}]}))
    server.on(path("tradebook"), fixed({"message": "broker down", "status": "error"}, 500))

    with pytest.raises(Unavailable):
        broker.orders()


@pytest.mark.parametrize(
    "data", ["", None, {}, {"orders": None}, {"orders": ""}, {"message": "failed", "status": "error"}, "none", [[]], [None], 0]
)
@pytest.mark.parametrize("read", ["orders", "fills", "positions"])
def test_a_list_that_is_not_a_list_is_never_taken_for_none(server: HttpStub, broker: OpenAlgo, data: Any, read: str) -> None:
    """REC-14"""
    for name in ("orderbook", "tradebook", "positionbook"):
        server.on(path(name), listed(data))

    with pytest.raises(Unavailable, match="schema"):
        getattr(broker, read)()


@pytest.mark.parametrize(
    "act", [hang_up, fixed("<html>"), fixed({"status": "error", "data": []}), fixed({"data": []}), fixed([])]
)
def test_a_failed_read_is_never_empty(server: HttpStub, broker: OpenAlgo, act: Act) -> None:
    """REC-14, NET-13"""
    for name in ("orderbook", "tradebook", "positionbook"):
        server.on(path(name), act)

    for read in (broker.orders, broker.fills, broker.positions):
        with pytest.raises(Unavailable):
            read()


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": "NaN"},
        {"quantity": None},
        {"quantity": -5},
        {"price": "NaN", "pricetype": "SL"},
        {"trigger_price": "Infinity"},
        {"filled_quantity": "nan"},
        {"action": "HOLD"},
        {"orderid": None},
        {"orderid": ""},
    ],
)
def test_an_order_row_that_cannot_be_read_fails_the_book_loudly(
    server: HttpStub, broker: OpenAlgo, change: dict[str, Any]
) -> None:
    """REC-14: leaving it out would lose sight of an order."""
    server.on(path("orderbook"), listed([{**LIVE_ROW, **change}]))

    with pytest.raises(Unavailable, match="schema"):
        broker.orders()


def test_a_row_without_a_quantity_is_a_schema_error(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("orderbook"), listed([{key: word for key, word in LIVE_ROW.items() if key != "quantity"}]))

    with pytest.raises(Unavailable, match="schema: order 250408000989443 has no 'quantity'"):
        broker.orders()


# --- one order ---


@pytest.mark.parametrize("key", ["price_type", "pricetype"])
def test_one_order_is_read_in_either_spelling_of_its_type(server: HttpStub, broker: OpenAlgo, key: str) -> None:
    row = {word: said for word, said in LIVE_ROW.items() if word != "pricetype"} | {
        key: "MARKET",
        "price": 1300.0,
        "orderid": "77",
    }
    server.on(path("orderstatus"), listed({**row, "order_status": "complete", "trigger_price": 0.0, "average_price": 1299.0}))
    server.on(path("tradebook"), listed([{**LIVE_TRADE, "orderid": 77, "quantity": "5", "average_price": "1300.20"}]))

    found = broker.order(STOP)

    assert found == OrderRow(
        "77", "SBIN", Side.SELL, Reported.FILLED, D(5), OrderType.MARKET, filled=D(5), average=D("1300.20"), at_ms=1795146396000
    )
    assert server.asked(path("orderstatus")) == [{"apikey": KEY, "strategy": "SBIN-20261120-S0", "orderid": "77"}]


def test_only_the_venues_own_not_found_means_none(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(
        path("orderstatus"),
        fixed({"message": "Order 77 not found", "status": "error"}, 404),
        fixed({"message": "Not found", "path": "/", "status": "error"}, 404),
        fixed("<html>not found</html>", 404),
        fixed({"data": None, "status": "success"}),
    )

    assert broker.order(STOP) is None
    for expected in (Fatal, Unavailable, Unavailable):
        with pytest.raises(expected):
            broker.order(STOP)


# --- fills ---


def test_fills_without_trade_ids_get_stable_ones_from_their_own_facts(server: HttpStub, broker: OpenAlgo) -> None:
    """The same execution has the same id at every poll, in any order and spelling; equal executions stay two."""
    other = {**LIVE_TRADE, "quantity": 1}
    server.on(
        path("tradebook"),
        listed([LIVE_TRADE, other]),
        listed({"trades": [{**LIVE_TRADE, "quantity": "2", "average_price": "730.50"}, other, LIVE_TRADE]}),
    )

    first, second = broker.fills(), broker.fills()

    assert first == [
        FillRow("1/09:16:36/2@730.5/1", "1", "SBIN", Side.BUY, D(2), D("730.5"), 1795146396000),
        FillRow("1/09:16:36/1@730.5/1", "1", "SBIN", Side.BUY, D(1), D("730.5"), 1795146396000),
    ]
    assert [fill.trade_id for fill in second] == ["1/09:16:36/2@730.5/1", "1/09:16:36/1@730.5/1", "1/09:16:36/2@730.5/2"]


def test_a_trade_id_of_the_venue_is_used(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(
        path("tradebook"), listed([{**LIVE_TRADE, "tradeid": "TRADE-1", "price": 730.5, "timestamp": "2026-11-20 09:16:36"}])
    )

    assert broker.fills() == [FillRow("TRADE-1", "1", "SBIN", Side.BUY, D(2), D("730.5"), 1795146396000)]


def test_a_fill_whose_time_cannot_be_read_still_counts(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("tradebook"), listed([{**LIVE_TRADE, "timestamp": "just now"}]))

    assert [(fill.qty, fill.at_ms) for fill in broker.fills()] == [(D(2), NOW_MS)]


def test_a_row_of_quantity_zero_is_no_fill_and_says_so(
    server: HttpStub, broker: OpenAlgo, caplog: pytest.LogCaptureFixture
) -> None:
    server.on(path("tradebook"), listed([{**LIVE_TRADE, "quantity": 0.0}]))

    with caplog.at_level(logging.WARNING):
        assert broker.fills() == []

    assert "quantity 0" in caplog.text


@pytest.mark.parametrize(
    "lack",
    [{"average_price": "NaN"}, {"average_price": 0}, {"average_price": None}, {"average_price": ""}, {"average_price": -1},
     {"action": None}, {"action": "HOLD"}, {"quantity": None}, {"quantity": "x"}],
)  # fmt: skip
def test_an_execution_without_side_price_or_quantity_is_refused_and_its_order_stays_open(
    server: HttpStub, broker: OpenAlgo, caplog: pytest.LogCaptureFixture, lack: dict[str, Any]
) -> None:
    """FIL-16: told and counted once; the others count; what its own order has filled is not known, so that it is asked again."""
    done = {**LIVE_ROW, "order_status": "cancelled"}
    server.on(path("orderbook"), listed([{**done, "orderid": "1"}, {**done, "orderid": "2"}]))
    server.on(path("tradebook"), listed([{**LIVE_TRADE, "orderid": "2"}, {**LIVE_TRADE, **lack}, LIVE_TRADE]))

    with caplog.at_level(logging.WARNING):
        fills = [broker.fills(), broker.fills()][1]
    rows = broker.orders()

    assert [(fill.venue_id, fill.qty) for fill in fills] == [("2", D(2)), ("1", D(2))]
    assert [(row.venue_id, row.state, row.filled) for row in rows] == [
        ("1", Reported.CANCELLED, None),
        ("2", Reported.CANCELLED, D(2)),
    ]
    assert (broker.refused(), len(caplog.records)) == ({"refused rows": 1}, 1)


def test_a_tradebook_whose_rows_name_no_order_fails_the_read(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("tradebook"), listed([{**LIVE_TRADE, "orderid": None}]))

    with pytest.raises(Unreadable, match="schema"):
        broker.fills()


# --- positions ---


def position(**changes: Any) -> dict[str, Any]:
    row = {"average_price": "1300.00", "exchange": "NSE", "product": "MIS", "quantity": 5, "symbol": "SBIN"}
    return {key: word for key, word in (row | changes).items() if word != "absent"}


@pytest.mark.parametrize(("sent", "held"), [(5, D(5)), ("5", D(5)), (5.0, D(5)), ("-104", D(-104)), (-3, D(-3))])
def test_a_position_is_the_same_number_in_any_spelling(server: HttpStub, broker: OpenAlgo, sent: object, held: D) -> None:
    """REC-02"""
    server.on(path("positionbook"), listed([position(quantity=sent)]))

    assert broker.positions() == [PositionRow("SBIN", held, D(1300))]


def test_a_position_row_without_quantity_is_a_schema_error_never_zero(server: HttpStub, broker: OpenAlgo) -> None:
    """REC-02: reading `netqty` for `quantity` saw 0 for ever and tripled a position."""
    server.on(path("positionbook"), listed([position(quantity="absent", netqty=5)]))

    with pytest.raises(Unavailable, match="schema: position SBIN has no 'quantity'"):
        broker.positions()


def test_only_our_exchange_and_product_count_and_a_row_of_zero_is_flat(server: HttpStub, broker: OpenAlgo) -> None:
    """REC-09"""
    rows = [position(quantity=0), position(product="CNC", quantity=20), position(), position(exchange="BSE", quantity=7)]
    server.on(path("positionbook"), listed([*rows, position(symbol="TCS", quantity=0, average_price=0.0)]))

    assert broker.positions() == [PositionRow("SBIN", D(5), D(1300)), PositionRow("TCS", D(0))]


def test_a_position_that_has_lost_its_symbol_is_not_left_out(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("positionbook"), listed([position(symbol=None)]), listed([position(symbol=None, quantity=0)]))

    with pytest.raises(Unavailable, match="without a symbol"):
        broker.positions()
    assert broker.positions() == []


# --- mode ---


@pytest.mark.parametrize(("expected", "said"), [("live", {"mode": "analyze"}), ("analyze", {}), ("analyze", {"mode": "live"})])
def test_a_reply_in_the_other_mode_halts(server: HttpStub, expected: Any, said: dict[str, str]) -> None:
    """REC-14: sandbox and live are never mixed."""
    broker = make(server, expect_mode=expected)
    for name in ("orderbook", "tradebook", "positionbook"):
        server.on(path(name), listed([], **said))
    server.on(path("cancelorder"), fixed({"orderid": "77", "status": "success", **said}))

    for call in (broker.orders, broker.fills, broker.positions, lambda: broker.cancel(STOP)):
        with pytest.raises(Fatal, match="mode"):
            call()


@pytest.mark.parametrize(
    ("expected", "said"), [("live", {}), ("analyze", {"mode": "analyze"}), (None, {}), (None, {"mode": "analyze"})]
)
def test_a_reply_in_the_expected_mode_passes(server: HttpStub, expected: Any, said: dict[str, str]) -> None:
    broker = make(server, expect_mode=expected)
    server.on(path("orderbook"), listed([], **said))
    server.on(path("placeorder"), fixed({"orderid": "1", "status": "success", **said}))

    assert (broker.orders(), broker.submit(ENTRY)) == ([], "1")


def test_an_order_accepted_in_the_other_mode_is_unknown_with_its_id(server: HttpStub) -> None:
    """REC-14: it exists; Fatal would say that it does not."""
    broker = make(server, expect_mode="analyze")
    server.on(path("placeorder"), fixed({"orderid": "1", "status": "success"}))

    with pytest.raises(Unanswered, match="live mode") as caught:
        broker.submit(ENTRY)

    assert caught.value.venue_id == "1"


def test_an_order_refused_in_the_other_mode_halts(server: HttpStub) -> None:
    """REC-14"""
    server.on(path("placeorder"), fixed({"message": "Symbol not found", "mode": "analyze", "status": "error"}, 400))

    with pytest.raises(Fatal, match="analyze mode"):
        make(server, expect_mode="live").submit(ENTRY)


def test_the_check_at_the_start_tells_the_mode(server: HttpStub) -> None:
    server.on(path("ping"), listed({"broker": "zerodha", "message": "pong"}))
    server.on(path("analyzer"), listed({"analyze_mode": True, "mode": "analyze", "total_logs": 0}, mode="analyze"))

    assert make(server, expect_mode="analyze").check() == "analyze"
    with pytest.raises(Fatal, match="analyze mode"):
        make(server, expect_mode="live").check()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (fixed({"message": "Invalid openalgo apikey", "status": "error"}, 403), Fatal),
        (fixed("<html>forbidden</html>", 403), Fatal),
        (fixed({"message": "Not found", "path": "/", "status": "error"}, 404), Fatal),
        (fixed({"message": "starting"}, 503), Unavailable),
        (hang_up, Unavailable),
    ],
)
def test_the_check_at_the_start_fails_with_its_cause(
    server: HttpStub, broker: OpenAlgo, act: Act, expected: type[BrokerError]
) -> None:
    """NET-05"""
    server.on(path("ping"), act)

    with pytest.raises(expected, match="ping"):
        broker.check()


def test_a_key_that_stops_working_is_fatal_on_every_call(server: HttpStub, broker: OpenAlgo) -> None:
    """NET-04"""
    for name in ("orderbook", "placeorder", "cancelorder", "orderstatus"):
        server.on(path(name), fixed({"message": "Invalid openalgo apikey", "status": "error"}, 403))

    for call in (broker.orders, lambda: broker.submit(ENTRY), lambda: broker.cancel(STOP), lambda: broker.order(STOP)):
        with pytest.raises(Fatal, match="broker session has expired"):
            call()


# --- market facts ---


def test_quotes_are_asked_in_one_call_and_zero_is_no_price(server: HttpStub, broker: OpenAlgo) -> None:
    rows = [{"symbol": "SBIN", "exchange": "NSE", "data": {"ltp": 730.55, "bid": 730.5}}, {"symbol": "TCS", "data": {"ltp": 0}}]
    server.on(path("multiquotes"), fixed({"results": [*rows, {"symbol": "NOPE", "error": "unknown"}], "status": "success"}))

    assert broker.quotes(["SBIN", "TCS", "NOPE"]) == {"SBIN": D("730.55")}
    assert broker.quotes([]) == {}
    assert [body["symbols"] for body in server.asked(path("multiquotes"))] == [
        [{"symbol": symbol, "exchange": "NSE"} for symbol in ("SBIN", "TCS", "NOPE")]
    ]


SYMBOL = {"exchange": "NSE", "freeze_qty": 1, "lotsize": 1, "symbol": "SBIN", "tick_size": 0.05, "token": "2885"}


def test_an_instrument_has_the_servers_tick_and_a_freeze_of_1_means_unknown(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("symbol"), listed(SYMBOL), listed({**SYMBOL, "freeze_qty": 1800, "lotsize": 65}))

    assert broker.instrument("SBIN") == Instrument("SBIN", "NSE", D("0.05"), D(1), min_qty=D(1))
    assert broker.instrument("SBIN") == Instrument("SBIN", "NSE", D("0.05"), D(65), min_qty=D(65), freeze_qty=D(1800))


@pytest.mark.parametrize("change", [{"tick_size": 0}, {"tick_size": None}, {"lotsize": None}])
def test_an_instrument_without_a_tick_is_refused_not_given_a_default(
    server: HttpStub, broker: OpenAlgo, change: dict[str, Any]
) -> None:
    server.on(path("symbol"), listed({**SYMBOL, **change}))

    with pytest.raises(Refused, match="cannot be traded"):
        broker.instrument("SBIN")


def test_an_unknown_symbol_is_refused_in_the_servers_words(server: HttpStub, broker: OpenAlgo) -> None:
    server.on(path("symbol"), fixed({"message": "Symbol NOPE not found in exchange NSE", "status": "error"}, 404))

    with pytest.raises(Refused, match="Symbol NOPE not found"):
        broker.instrument("NOPE")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [("MCX", 1795145400000, 1795199100000), ("NSE", 1795146300000, 1795168800000)],
            SessionHours(1795146300000, 1795168800000),
        ),
        ([("CRYPTO", 1795132800000, 1795219200000)], SessionHours(None, None)),
        ([], SessionHours(None, None)),
        ([("NSE", 1795166100000, 1795188600000)], None),  # 09:15 UTC: the server's clock is not Indian
        ([("NSE", 1795059900000, 1795082400000)], None),  # another day
        ([("NSE", 1795146300000, 1795146300000)], None),
    ],
)
def test_the_venues_hours_are_believed_only_where_they_are_indian(
    server: HttpStub, broker: OpenAlgo, rows: list[tuple[str, int, int]], expected: SessionHours | None
) -> None:
    server.on(
        path("market/timings"), listed([{"exchange": name, "start_time": start, "end_time": end} for name, start, end in rows])
    )

    assert broker.session_hours(date(2026, 11, 20)) == expected
    assert server.asked(path("market/timings")) == [{"apikey": KEY, "date": "2026-11-20"}]


# --- limits ---


def test_an_exit_overtakes_a_throttled_queue_and_every_order_is_carried_out_once_and_answered_with_its_own_id(
    server: HttpStub,
) -> None:
    """NET-08: eight entries wait for their turn at 4 a second; each gets the id of its own order."""

    def answer(sock: socket.socket, stopping: threading.Event) -> bool:
        label = server.mine.seen.json["strategy"]
        return fixed({"orderid": f"V-{label}", "status": "success"})(sock, stopping)

    server.on(path("placeorder"), answer)
    broker = make(server, timeout_s=20, orders_per_s=4)
    names = [f"SBIN-20261120-E{number}" for number in range(8)]
    orders = [msgspec.structs.replace(ENTRY, client_id=name) for name in names]
    leave = msgspec.structs.replace(STOP, client_id="SBIN-20261120-X9", purpose=Purpose.EXIT, type=OrderType.MARKET)
    with ThreadPoolExecutor(9) as pool:
        entries = [pool.submit(broker.submit, order) for order in orders]
        until_ms = broker._clock.monotonic_ms() + 10_000
        while not server.seen and broker._clock.monotonic_ms() < until_ms:
            broker._clock.wait(threading.Event(), 0.01)
        exit_id = pool.submit(broker.submit, leave).result(20)
        done_before = sum(entry.done() for entry in entries)
        ids = [entry.result(20) for entry in entries]

    sent = [body["strategy"] for body in server.asked(path("placeorder"))]
    assert (exit_id, ids) == ("V-SBIN-20261120-X9", [f"V-{name}" for name in names])
    assert sorted(sent) == sorted([*names, "SBIN-20261120-X9"]) and done_before < 8


def test_exits_go_at_once_when_entries_have_used_up_their_turns(server: HttpStub) -> None:
    """NET-02: and what got no turn was provably not sent."""
    broker = make(server, timeout_s=0.4)
    server.on(path("placeorder"), fixed({"orderid": "1", "status": "success"}))

    for _ in range(6):
        broker.submit(ENTRY)
    with pytest.raises(Unavailable, match="nothing was sent"):
        broker.submit(ENTRY)
    broker.submit(STOP)

    assert [body["strategy"] for body in server.asked(path("placeorder"))] == ["SBIN-20261120-E0"] * 6 + ["SBIN-20261120-S0"]


class _SessionClock(SystemClock):
    """Session time stands still at the session's start; monotonic time is real."""

    def now_ms(self) -> int:
        return NOW_MS


class _Defective(OpenAlgo):
    def _placed(self, *_: object) -> str:
        return str(1 // 0)
