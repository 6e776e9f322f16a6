"""Coinbase's words and shapes, without a socket: every row of its tables, our orders as it wants them, its rows as ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brokers.base import Fatal, FillRow, OrderRow, Refused, Reported, Unanswered, Unavailable, Unreadable
from brokers.client_ids import KEPT, ClientIds
from brokers.coinbase_replies import (
    BadToken,
    configuration,
    difference,
    epoch_ms,
    executions,
    failure,
    fill_row,
    instrument,
    order_row,
    plain,
)
from brokers.coinbase_words import STATUS_WORDS, create_reason, order_type, reported
from brokers.spelling import Spelling
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from state.threads import OS_THREADS
from tests.brokers.coinbase_double import product

D = Decimal
SLIPPAGE = D("0.05")
BTC = Instrument("BTC-USD", "COINBASE", D("0.01"), D("0.00000001"))
OURS = "BTC-USD-20261120-E0"


def order(type: OrderType, side: Side = Side.BUY, **more: Any) -> Order:
    known: dict[str, Any] = {"limit_price": D("60000.00"), "trigger_price": D("59990.00")}
    return Order(OURS, "BTC-USD", Purpose.ENTRY, side, type, D("0.0100"), **(known | more))


def ids() -> ClientIds:
    return ClientIds("journal-1", OS_THREADS)


def spelling(*symbols: str) -> Spelling:
    made = Spelling(OS_THREADS)
    for symbol in symbols or ("BTC-USD",):
        made.add(symbol)
    return made


# -- words -----------------------------------------------------------------------------------------------------------------------

WORDS = {
    "PENDING": Reported.WORKING,
    "QUEUED": Reported.WORKING,
    "OPEN": Reported.WORKING,
    "CANCEL_QUEUED": Reported.WORKING,
    "EDIT_QUEUED": Reported.WORKING,
    "FILLED": Reported.FILLED,
    "CANCELLED": Reported.CANCELLED,
    "EXPIRED": Reported.EXPIRED,
    "FAILED": Reported.REJECTED,
    "UNKNOWN_ORDER_STATUS": Reported.UNCLEAR,
}


def test_every_status_word_has_its_meaning_and_there_are_no_others() -> None:
    assert WORDS == STATUS_WORDS
    assert {word: reported(word) for word in WORDS} == WORDS


@pytest.mark.parametrize("word", ["", "DONE", "CANCELED_BY_VENUE", None, 7, "OPENED"])
def test_a_word_that_nobody_listed_is_looked_at_and_never_open(word: object) -> None:
    assert reported(word) is Reported.UNCLEAR


def test_the_type_is_spelled_in_two_ways() -> None:
    words = ("LIMIT", "Limit", "MARKET", "Market", "STOP_LIMIT", "Stop Limit", "BRACKET", "")

    types = [OrderType.LIMIT] * 2 + [OrderType.MARKET] * 2 + [OrderType.STOP_LIMIT] * 2 + [None] * 2
    assert [order_type(word) for word in words] == types


NOT_AVAILABLE = "account is not available"
ERRORS: list[tuple[int, Any, type, type]] = [
    # status, body (None: not JSON), of an order call, of a read
    (400, {"error": "INVALID_ARGUMENT", "error_details": NOT_AVAILABLE, "message": NOT_AVAILABLE}, Fatal, Fatal),
    (400, {"error": "INVALID_ARGUMENT", "message": "bad size"}, Refused, Refused),
    (400, {"error": "proof_token_required"}, Fatal, Fatal),
    (400, None, Unanswered, Unavailable),
    (401, {"error": "unauthorized"}, BadToken, BadToken),
    (401, None, BadToken, BadToken),
    (403, {"error": "PERMISSION_DENIED", "error_details": "Missing required scopes"}, Fatal, Fatal),
    (403, None, Unanswered, Unavailable),
    (404, {"error": "NOT_FOUND", "message": "order with this orderID was not found"}, Refused, Refused),
    (408, {}, Unanswered, Unavailable),
    (422, {"message": "no"}, Refused, Refused),
    (429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, Unavailable, Unavailable),
    (429, None, Unavailable, Unavailable),
    (500, {"error": "INTERNAL"}, Unanswered, Unavailable),
    (502, None, Unanswered, Unavailable),
    (503, {"message": "maintenance"}, Unanswered, Unavailable),
    (302, None, Unanswered, Unavailable),
    (200, None, Unanswered, Unavailable),
]


@pytest.mark.parametrize(("status", "body", "on_order", "on_read"), ERRORS)
def test_every_failed_reply_has_its_outcome(status: int, body: Any, on_order: type, on_read: type) -> None:
    """NET-13, UNK-02: a failed read never "may have happened"; an order call whose answer says nothing always may."""
    assert [type(failure(status, body, read)) for read in (False, True)] == [on_order, on_read]


def test_what_the_venue_says_of_an_error_is_told_on_one_line() -> None:
    told = failure(400, {"error": "BAD\nLINE", "message": "size too small", "error_details": "size too small"}, read=False)

    assert str(told) == 'HTTP 400 "BAD\\nLINE size too small"'


REASONS: list[tuple[dict[str, Any], tuple[str, str]]] = [
    (
        {"error_response": {"error": "INSUFFICIENT_FUND", "message": "Insufficient balance"}},
        ("INSUFFICIENT_FUND", "Insufficient balance"),
    ),
    (
        {"error_response": {"error": "UNKNOWN_FAILURE_REASON", "preview_failure_reason": "PREVIEW_INVALID_STOP_PRICE"}},
        ("PREVIEW_INVALID_STOP_PRICE", ""),
    ),
    (
        {
            "error_response": {
                "error": "UNKNOWN_FAILURE_REASON",
                "new_order_failure_reason": "INVALID_SIDE",
                "preview_failure_reason": "X",
            }
        },
        ("INVALID_SIDE", ""),
    ),
    ({"failure_reason": "INVALID_NO_LIQUIDITY"}, ("INVALID_NO_LIQUIDITY", "")),
    ({"failure_reason": "UNKNOWN_FAILURE_REASON", "error_response": {"error_details": "eh"}}, ("", "eh")),
    ({"error_response": None}, ("", "")),
]


@pytest.mark.parametrize(("body", "told"), REASONS)
def test_the_reason_is_the_first_one_that_says_something(body: dict[str, Any], told: tuple[str, str]) -> None:
    assert create_reason(body) == told


# -- ours to theirs --------------------------------------------------------------------------------------------------------------


GOLDEN = {
    (OrderType.MARKET, Side.BUY): {"market_market_ioc": {"base_size": "0.01"}},
    (OrderType.MARKET, Side.SELL): {"market_market_ioc": {"base_size": "0.01"}},
    (OrderType.LIMIT, Side.BUY): {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "60000", "post_only": False}},
    (OrderType.LIMIT, Side.SELL): {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "60000", "post_only": False}},
    (OrderType.STOP_LIMIT, Side.BUY): {
        "stop_limit_stop_limit_gtc": {
            "base_size": "0.01",
            "limit_price": "60000",
            "stop_price": "59990",
            "stop_direction": "STOP_DIRECTION_STOP_UP",
        }
    },
    (OrderType.STOP_LIMIT, Side.SELL): {
        "stop_limit_stop_limit_gtc": {
            "base_size": "0.01",
            "limit_price": "60000",
            "stop_price": "59990",
            "stop_direction": "STOP_DIRECTION_STOP_DOWN",
        }
    },
    (OrderType.STOP, Side.BUY): {
        "stop_limit_stop_limit_gtc": {
            "base_size": "0.01",
            "limit_price": "62989.5",
            "stop_price": "59990",
            "stop_direction": "STOP_DIRECTION_STOP_UP",
        }
    },
    (OrderType.STOP, Side.SELL): {
        "stop_limit_stop_limit_gtc": {
            "base_size": "0.01",
            "limit_price": "56990.5",
            "stop_price": "59990",
            "stop_direction": "STOP_DIRECTION_STOP_DOWN",
        }
    },
}


@pytest.mark.parametrize(("type", "side"), GOLDEN)
def test_each_order_type_goes_out_as_the_venue_has_it(type: OrderType, side: Side) -> None:
    """PRO-19: a BUY stop fires when the price rises, a SELL stop when it falls; a stop is a stop-limit with room to fill."""
    assert configuration(order(type, side), BTC, SLIPPAGE) == GOLDEN[type, side]


def test_the_room_of_a_stop_is_rounded_outwards_and_never_reaches_zero() -> None:
    prices = [
        configuration(order(OrderType.STOP, side, trigger_price=D(trigger)), BTC, D(part))["stop_limit_stop_limit_gtc"][
            "limit_price"
        ]
        for side, trigger, part in ((Side.SELL, "33.33", "0.05"), (Side.BUY, "33.33", "0.05"), (Side.SELL, "0.01", "0.99"))
    ]

    assert prices == ["31.66", "35", "0.01"]  # 31.6635, 34.9965, 0.0001


@pytest.mark.parametrize(
    ("value", "text"), [("60000.00", "60000"), ("1E+2", "100"), ("0.00000001", "0.00000001"), ("0.10", "0.1")]
)
def test_equal_numbers_are_equal_bytes_without_an_exponent(value: str, text: str) -> None:
    assert plain(D(value)) == text


@pytest.mark.parametrize("value", [None, D("NaN"), D("Infinity"), D(0), D(-1)])
def test_what_is_no_price_is_never_sent(value: Decimal | None) -> None:
    with pytest.raises(Refused, match="was not sent"):
        plain(value)


def test_a_limit_order_without_a_limit_and_a_stop_without_a_trigger_are_not_sent() -> None:
    for made in (order(OrderType.LIMIT, limit_price=None), order(OrderType.STOP, trigger_price=None)):
        with pytest.raises(Refused, match=f"{OURS} has no"):
            configuration(made, BTC, SLIPPAGE)


# -- ids -------------------------------------------------------------------------------------------------------------------------


def test_our_id_becomes_the_same_uuid_after_every_restart_and_another_one_in_another_journal() -> None:
    first, again, other = (ClientIds(name, OS_THREADS).uuid(OURS) for name in ("journal-1", "journal-1", "journal-2"))

    assert (first, first == again, first == other) == ("17fafb90-2de3-4c72-ab48-ebf7b2f99d15", True, False)
    assert first[14] == "4" and first[19] in "89ab"


def test_a_uuid_is_known_again_while_it_is_remembered() -> None:
    made = ids()
    first = made.uuid(OURS)
    assert (made.ours(first), made.ours("stranger"), made.ours(None)) == (OURS, None, None)

    for n in range(KEPT):
        made.uuid(f"X{n}")

    assert made.ours(first) is None


# -- theirs to ours --------------------------------------------------------------------------------------------------------------


def raw_order(**more: Any) -> dict[str, Any]:
    return {
        "order_id": "8d7a",
        "client_order_id": ids().uuid(OURS),
        "product_id": "BTC-USD",
        "side": "BUY",
        "status": "OPEN",
        "order_configuration": {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "60000.00", "post_only": False}},
        "created_time": "2026-11-20T12:00:00.1Z",
        "filled_size": "0.005",
        "average_filled_price": "60000",
        "fee": "",
        "total_fees": "1.80",
        "trigger_status": "INVALID_ORDER_TYPE",
        "reject_reason": "REJECT_REASON_UNSPECIFIED",
        "reject_message": "",
        "cancel_message": "",
    } | more


def read(**more: Any) -> OrderRow:
    known = ids()
    known.uuid(OURS)
    return order_row(raw_order(**more), spelling(), known)


def test_an_order_row_says_what_the_venue_says() -> None:
    assert read() == OrderRow(
        venue_id="8d7a",
        symbol="BTC-USD",
        side=Side.BUY,
        state=Reported.WORKING,
        qty=D("0.01"),
        type=OrderType.LIMIT,
        limit_price=D("60000.00"),
        filled=D("0.005"),
        average=D("60000"),
        client_id=OURS,
        at_ms=1_795_176_000_100,
        label=ids().uuid(OURS),
    )


def test_an_empty_number_is_unknown_and_not_zero() -> None:
    rows = [read(filled_size=filled, average_filled_price=average) for filled, average in (("", ""), ("0", "0"), ("0.01", ""))]

    assert [(row.filled, row.average) for row in rows] == [(None, None), (D(0), None), (D("0.01"), None)]


def test_an_order_that_ran_out_of_book_keeps_what_it_filled() -> None:
    """Pitfall 16."""
    row = read(status="CANCELLED", cancel_message="out of book", order_configuration={"market_market_ioc": {"base_size": "0.01"}})

    told = (row.state, row.type, row.qty, row.filled, row.limit_price, row.reason)
    assert told == (Reported.CANCELLED, OrderType.MARKET, D("0.01"), D("0.005"), None, "out of book")


def test_why_an_order_failed_is_told() -> None:
    row = read(status="FAILED", reject_reason="INVALID_NO_LIQUIDITY", reject_message="no\nliquidity", filled_size="0")

    assert (row.state, row.reason) == (Reported.REJECTED, "INVALID_NO_LIQUIDITY no\\nliquidity")


def test_a_strangers_bracket_and_market_buy_by_amount_are_rows_too() -> None:
    bracket = read(
        order_configuration={"trigger_bracket_gtc": {"base_size": "1", "limit_price": "70000", "stop_trigger_price": "5"}}
    )
    market = read(order_configuration={"market_market_ioc": {"quote_size": "300"}}, size_in_quote=True)

    assert (bracket.type, bracket.qty, market.type, market.qty) == (None, D(1), OrderType.MARKET, D("0.005"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_id": ""},
        {"side": "LONG"},
        {"order_configuration": {}},
        {"order_configuration": None},
        {"filled_size": "NaN"},
        {"filled_size": "-1"},
        {"filled_size": "1e400"},
        {"average_filled_price": True},
    ],
)
def test_a_row_that_cannot_be_used_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read(**wrong)


def test_a_row_without_a_status_is_unreadable() -> None:
    row = raw_order()
    del row["status"]
    with pytest.raises(Unreadable, match="no 'status'"):
        order_row(row, spelling(), ids())


def raw_fill(**more: Any) -> dict[str, Any]:
    return {
        "entry_id": "e1",
        "trade_id": "t1",
        "order_id": "8d7a",
        "trade_time": "2026-11-20T12:00:01.5Z",
        "trade_type": "FILL",
        "price": "60000",
        "size": "0.01",
        "commission": "3.6",
        "product_id": "BTC-USD",
        "sequence_timestamp": "2026-11-20T12:00:01.6Z",
        "size_in_quote": False,
        "side": "BUY",
    } | more


FILL = FillRow("e1", "8d7a", "BTC-USD", Side.BUY, D("0.01"), D("60000"), 1_795_176_001_500, D("3.6"), "USD")


def test_a_fill_is_known_by_its_entry_id_and_may_be_sized_in_quote_currency() -> None:
    in_quote = fill_row(raw_fill(size="600", size_in_quote=True), spelling())

    assert (fill_row(raw_fill(), spelling()), in_quote) == (FILL, FILL)


def test_a_fill_under_the_other_name_of_our_product_is_ours_and_paid_in_our_quote() -> None:
    """REC-10."""
    names = Spelling(OS_THREADS)
    names.add("BTC-USDC", "BTC-USD")

    row = fill_row(raw_fill(), names)

    assert (row.symbol, row.fee_currency) == ("BTC-USDC", "USDC")


@pytest.mark.parametrize(
    "wrong", [{"entry_id": ""}, {"price": "0"}, {"size": ""}, {"trade_time": "soon"}, {"side": None}, {"size": "x"}]
)
def test_a_fill_that_cannot_be_used_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        fill_row(raw_fill(**wrong), spelling())


def test_what_the_venue_takes_back_takes_its_execution_with_it_and_is_told() -> None:
    kept_one, back = raw_fill(entry_id="e0", size="0.02"), raw_fill(entry_id="e2", trade_type="REVERSAL")
    corrected = raw_fill(entry_id="e3", trade_type="CORRECTION", size="0.5")

    kept, told = executions([kept_one, raw_fill(), back, corrected])

    assert kept == [kept_one]
    assert told == [
        ("REVERSAL of 0.01 @ 60000 of venue order 8d7a: it does not count, look at the account", "e2"),
        ("CORRECTION of 0.5 @ 60000 of venue order 8d7a: it does not count, look at the account", "e3"),
    ]


def test_the_tick_is_the_price_increment_and_nothing_else() -> None:
    """Pitfall 10."""
    assert instrument(product("BTC-USD"), "BTC-USD", "COINBASE") == Instrument(
        "BTC-USD", "COINBASE", D("0.01"), D("1E-8"), D("1E-8"), D(1), D(3400), "BTC", "USD"
    )


@pytest.mark.parametrize("missing", ["base_increment", "price_increment"])
def test_a_product_without_a_grid_cannot_be_traded(missing: str) -> None:
    with pytest.raises(Refused, match=f"BTC-USD has no {missing}"):
        instrument(product("BTC-USD", **{missing: ""}), "BTC-USD", "COINBASE")


TIMES = [
    ("2026-11-20T12:00:00.1Z", 1_795_176_000_100),
    ("2026-11-20T12:00:00Z", 1_795_176_000_000),
    ("2026-11-20T12:00:00.123456789Z", 1_795_176_000_123),
    ("2026-11-20T13:00:00+01:00", 1_795_176_000_000),
    ("2026-11-20T12:00:00", None),
    ("0001-01-01T00:00:00Z", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("text", "at_ms"), TIMES)
def test_times_are_read_to_the_millisecond_or_not_at_all(text: object, at_ms: int | None) -> None:
    assert epoch_ms(text) == at_ms


# -- the same order? -------------------------------------------------------------------------------------------------------------

STOP = {"base_size": "0.01", "limit_price": "56990.5", "stop_price": "59990", "stop_direction": "STOP_DIRECTION_STOP_DOWN"}
SENT = {
    "client_order_id": "u1",
    "product_id": "BTC-USD",
    "side": "SELL",
    "order_configuration": {"stop_limit_stop_limit_gtc": STOP},
}


def compared(**more: Any) -> str | None:
    return difference(SENT, SENT | {"order_id": "8d7a"} | more, spelling())


def with_stop(**more: Any) -> dict[str, Any]:
    return {"stop_limit_stop_limit_gtc": STOP | more}


def test_the_same_order_is_the_same_in_whatever_digits() -> None:
    assert compared() is None
    assert compared(order_configuration=with_stop(base_size="0.01000", limit_price="56990.50", extra="x")) is None


DIFFERENCES = [
    ({"client_order_id": "u2"}, "it carries the client id u2"),
    ({"product_id": "ETH-USD"}, "product ETH-USD, not BTC-USD"),
    ({"side": "BUY"}, "side BUY, not SELL"),
    ({"order_configuration": {"limit_limit_gtc": STOP}}, "not a stop_limit_stop_limit_gtc order"),
    ({"order_configuration": with_stop(base_size="0.02")}, "base_size 0.02, not 0.01"),
    ({"order_configuration": with_stop(limit_price="1")}, "limit_price 1, not 56990.5"),
    ({"order_configuration": with_stop(stop_price="")}, "stop_price , not 59990"),
    (
        {"order_configuration": with_stop(stop_direction="STOP_DIRECTION_STOP_UP")},
        "stop_direction STOP_DIRECTION_STOP_UP, not STOP_DIRECTION_STOP_DOWN",
    ),
]


@pytest.mark.parametrize(("more", "told"), DIFFERENCES)
def test_any_field_that_differs_is_named(more: dict[str, Any], told: str) -> None:
    """UNK-15."""
    assert compared(**more) == told
