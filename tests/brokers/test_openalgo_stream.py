"""OpenAlgo's stream dialect: frames to send, and what every kind of received frame means."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from brokers.base import OrderRow, Reported
from brokers.dialect import (
    Incomplete,
    LoggedIn,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    OrdersUnsupported,
    Several,
    Subscribed,
    Tick,
    Trouble,
)
from brokers.openalgo_stream import OpenAlgoStream
from brokers.openalgo_words import STATUS_WORDS, reported
from state.orders import OrderType, Side

D = Decimal
AT_MS = 1_795_175_281_009
stream = OpenAlgoStream("ws://127.0.0.1:8765", "the-key", "NSE")


def tick_frame(ltp: str, rest: str = f',"timestamp":{AT_MS}', symbol: str = "SBIN", exchange: str = "NSE") -> bytes:
    return f'{{"type":"market_data","symbol":"{symbol}","exchange":"{exchange}","mode":1,"data":{{"ltp":{ltp}{rest}}}}}'.encode()


def receive(**fields: Any) -> Message:
    return stream.receive(json.dumps(fields).encode())


def order_update(**changes: Any) -> Message:
    """The example of the venue's documentation, changed."""
    example = {
        "type": "order_update", "user_id": "u1", "mode": "analyze", "broker": "sandbox", "orderid": "26112002782947",
        "symbol": "RELIANCE", "exchange": "NSE", "action": "BUY", "quantity": 5, "price": 1305.0, "trigger_price": 1304.5,
        "pricetype": "SL", "product": "MIS", "order_status": "trigger pending", "filled_quantity": 0, "pending_quantity": 0,
        "average_price": 0.0, "rejection_reason": "",
    }  # fmt: skip
    return receive(**(example | changes))


def row(**changes: Any) -> OrderRow:
    fields: dict[str, Any] = {
        "venue_id": "26112002782947", "symbol": "RELIANCE", "side": Side.BUY, "state": Reported.WORKING, "qty": D(5),
        "type": OrderType.STOP_LIMIT, "limit_price": D("1305.0"), "trigger_price": D("1304.5"), "filled": D(0),
    }  # fmt: skip
    return OrderRow(**(fields | changes))


def test_the_frames_sent_are_those_of_the_venue() -> None:
    sent = [json.loads(frame) for frame in (*stream.hello(), *stream.subscribe(["SBIN", "M&M"]), *stream.subscribe_orders())]

    assert sent == [
        {"action": "authenticate", "api_key": "the-key"},
        {
            "action": "subscribe",
            "mode": 1,
            "symbols": [{"symbol": "SBIN", "exchange": "NSE"}, {"symbol": "M&M", "exchange": "NSE"}],
            "request_id": "t0",
        },
        {"action": "subscribe_orders", "request_id": "o1"},
    ]


def test_thousands_of_symbols_are_asked_for_in_parts() -> None:
    symbols = [f"S{number}" for number in range(1201)]

    parts = [[line["symbol"] for line in json.loads(frame)["symbols"]] for frame in stream.subscribe(symbols)]

    assert [len(part) for part in parts] == [500, 500, 201]
    assert [symbol for part in parts for symbol in part] == symbols


def test_the_key_never_leaves_the_machine_unencrypted() -> None:
    assert OpenAlgoStream("wss://example.org/ws", "k", "NSE").url == "wss://example.org/ws"
    for url in ("ws://example.org:8765", "http://127.0.0.1:8765", "127.0.0.1:8765"):
        with pytest.raises(ValueError):
            OpenAlgoStream(url, "k", "NSE")


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("731.15", "731.15"),
        ('"731.15"', "731.15"),
        ("7.3115e2", "731.15"),
        ("5.1e-05", "0.000051"),
        ("1300", "1300"),
        ("511.95000000000005", "511.95000000000005"),
    ],
)
def test_a_price_becomes_exactly_the_decimal_that_was_written(written: str, price: str) -> None:
    """FEE-05"""
    assert stream.receive(tick_frame(written)) == Tick("SBIN", D(price), AT_MS)


def test_a_symbol_that_is_not_utf_8_is_noise() -> None:
    """FEE-08"""
    assert stream.receive(b'{"type":"market_data","symbol":"\xff","exchange":"NSE","data":{"ltp":1}}') == Noise("malformed tick")


@pytest.mark.parametrize("written", ["null", "true", "NaN", "Infinity", '"x"', "[]", "{}", '""'])
def test_what_is_no_price_is_noise(written: str) -> None:
    """FEE-05"""
    assert stream.receive(tick_frame(written)) in (Noise("malformed tick"), Noise("malformed"))


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-1", "0", "1e400"])
def test_a_quoted_oddity_is_left_to_the_gate(written: str) -> None:
    """FEE-05"""
    tick = stream.receive(tick_frame(f'"{written}"'))

    assert isinstance(tick, Tick)
    assert str(tick.price) == str(D(written))


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        (f',"timestamp":{AT_MS}', AT_MS),
        (',"timestamp":1795175281', 1_795_175_281_000),
        (',"timestamp":1795175281.009', AT_MS),
        (f',"timestamp":"{AT_MS}"', AT_MS),
        (',"timestamp":"13:58:03"', None),
        (',"timestamp":null', None),
        (',"timestamp":0', None),
        (',"timestamp":-5', None),
        ("", None),
    ],
)
def test_seconds_and_milliseconds_give_one_instant_and_no_time_is_none(timestamp: str, at_ms: int | None) -> None:
    """FEE-07"""
    assert stream.receive(tick_frame("731.15", timestamp)) == Tick("SBIN", D("731.15"), at_ms)


def test_a_tick_of_another_exchange_is_noise_and_the_symbol_is_left_as_written() -> None:
    """FEE-08: of what nobody of ours asked for; what is ours has one name (test_spelling.py)."""
    assert stream.receive(tick_frame("1", exchange="BSE")) == Noise("other exchange")
    assert stream.receive(tick_frame("1", symbol="tcs")) == Tick("tcs", D(1), AT_MS)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"{", b"null", b"17", b"\xff\xfe", b"<html>", b'{"type":"market_data"', b"[", b"[" * 100_000,
        b'{"type":17}', b'{"a":' * 50_000,
    ],
)  # fmt: skip
def test_garbage_is_noise_and_never_an_exception(frame: bytes) -> None:
    """FEE-08"""
    assert stream.receive(frame) == Noise("malformed")


def test_an_unknown_type_is_noise_under_one_name() -> None:
    """FEE-08: the reason is a counter's name, so it must not grow with what the venue sends."""
    assert [receive(type="pong"), receive(type="news", text="x"), receive(), receive(type="")] == [Noise("unknown type")] * 4


def test_several_messages_in_one_frame_are_all_used() -> None:
    """FEE-08"""
    frame = b"[" + tick_frame("1") + b',{"type":"news"},' + tick_frame("2") + b"]"

    assert stream.receive(frame) == Several((Tick("SBIN", D(1), AT_MS), Noise("unknown type"), Tick("SBIN", D(2), AT_MS)))


def test_the_login_is_answered_by_yes_or_by_a_reason() -> None:
    assert receive(type="auth", status="success", message="Authentication successful") == LoggedIn()
    assert receive(type="auth", status="error", message="Invalid API key") == LoginRefused("Invalid API key")
    assert receive(status="error", code="AUTHENTICATION_ERROR", message="Invalid API key") == LoginRefused("Invalid API key")
    assert receive(status="error", code="NOT_AUTHENTICATED", message="log in first") == LoginRefused("log in first")


def test_a_partial_subscription_is_read_symbol_by_symbol() -> None:
    """FEE-09: the word "partial" says nothing, an entry without a symbol nothing either."""
    answer = receive(
        type="subscribe",
        status="partial",
        subscriptions=[
            {"symbol": "RELIANCE", "exchange": "NSE", "status": "success", "mode": "LTP"},
            {"symbol": "SBIN", "exchange": "NSE", "status": "success", "mode": 1},
            {"symbol": "NOPE", "exchange": "NSE", "status": "error", "message": "Symbol NOPE not found for exchange NSE"},
            {"symbol": "INFY", "exchange": "BSE", "status": "success"},
            {"exchange": "NSE", "status": "success"},
        ],
    )

    assert answer == Subscribed(("RELIANCE", "SBIN"), {"NOPE": "Symbol NOPE not found for exchange NSE"})


def test_an_older_server_knows_no_order_stream() -> None:
    """FEE-14"""
    assert receive(type="subscribe_orders", status="success", message="Subscribed") == OrdersSubscribed()
    assert receive(type="subscribe_orders", status="error", message="not for this broker") == OrdersUnsupported(
        "not for this broker"
    )
    assert receive(status="error", code="INVALID_ACTION", message="Invalid action") == OrdersUnsupported("Invalid action")


def test_trouble_at_the_broker_is_told_on_one_line() -> None:
    assert receive(status="error", code="BROKER_INIT_ERROR", message="no\nfeed") == Trouble("BROKER_INIT_ERROR: no feed")
    assert receive(status="error", message={"a": 1}) == Trouble("{'a': 1}")


def test_a_resting_stop_limit_order_is_read_whole() -> None:
    assert order_update() == row()
    assert order_update(orderid=26112002782947) == row()


def test_a_limit_price_is_never_read_from_a_fill() -> None:
    """The venue overwrites `price` with the fill price, section 10 of its reference."""
    filled = {"order_status": "complete", "filled_quantity": 5, "average_price": 1304.6, "price": 1304.6}
    part = {"order_status": "open", "filled_quantity": 2, "average_price": 1304.6, "price": 1304.6}

    assert order_update(**filled) == row(state=Reported.FILLED, filled=D(5), average=D("1304.6"), limit_price=None)
    assert order_update(**part) == row(filled=D(2), average=D("1304.6"), limit_price=None)


def test_prices_that_do_not_belong_to_the_type_are_none() -> None:
    market = order_update(pricetype="MARKET", price=0, trigger_price=0.0)
    stop = order_update(pricetype="SL-M", price=1304.5, action="sell")

    assert market == row(type=OrderType.MARKET, limit_price=None, trigger_price=None)
    assert stop == row(type=OrderType.STOP, limit_price=None, side=Side.SELL)


def test_what_an_update_does_not_say_is_none_and_never_zero() -> None:
    update = {"type": "order_update", "orderid": "1", "symbol": "SBIN", "exchange": "NSE", "action": "BUY", "quantity": 5}

    assert receive(**update, order_status="complete") == OrderRow("1", "SBIN", Side.BUY, Reported.FILLED, D(5))


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": 0}, {"quantity": -5}, {"quantity": "NaN"}, {"quantity": None}, {"filled_quantity": -1}, {"action": "HOLD"},
        {"average_price": "Infinity"}, {"orderid": None}, {"symbol": None}, {"price": "x"}, {"action": None}, {"action": ""},
        {"filled_quantity": 2, "average_price": 0}, {"filled_quantity": 5, "average_price": None, "order_status": "complete"},
    ],
)  # fmt: skip
def test_an_order_update_that_cannot_be_read_is_told_not_dropped(changes: dict[str, Any]) -> None:
    """FIL-16, FEE-12: order events are never silently lost, and one that lacks its side or price is none to act on."""
    assert order_update(**changes) == Incomplete("an order update lacks its side, quantity, price or more; asking the venue")


@pytest.mark.parametrize(("pending", "filled"), [(0, 3), (5, 3), (2, 0), (0, None)])
def test_filled_comes_from_the_cumulative_quantity_alone(pending: int, filled: int | None) -> None:
    """FIL-16: a pending quantity of 0, or a word like "cancelled", says nothing of what was filled."""
    news = order_update(pending_quantity=pending, filled_quantity=filled, average_price=1305.0, order_status="cancelled")

    assert isinstance(news, OrderRow)
    assert (news.state, news.qty, news.filled) == (Reported.CANCELLED, D(5), None if filled is None else D(filled))


def test_an_order_at_another_exchange_is_noise() -> None:
    assert order_update(exchange="BSE") == Noise("order at another exchange")


def test_a_rejection_brings_its_reason() -> None:
    update = order_update(order_status="rejected", rejection_reason="no\tfunds", price=0)

    assert update == row(state=Reported.REJECTED, limit_price=None, reason="no funds")


@pytest.mark.parametrize(("word", "meaning"), STATUS_WORDS.items())
def test_every_status_word_has_its_meaning_however_it_is_spelled(word: str, meaning: Reported) -> None:
    assert {reported(word), reported(f" {word.upper().replace(' ', '_')} ")} == {meaning}


def test_a_word_that_is_not_in_the_table_is_unclear() -> None:
    assert {reported(word) for word in ("", None, "filled", "opened", 17, "unknown")} == {Reported.UNCLEAR}
