"""The practice venue over real sockets: the dialect word for word, the order of its stream, its start and its end."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import websocket

from brokers.practice import (
    PracticeSettings,
    PracticeSpec,
    PracticeVenue,
    VenueError,
    attach_venue,
    start_venue,
)
from brokers.practice_market import PracticeSymbol
from brokers.tape import TapeReport
from state.clock import SystemClock
from state.instrument import Instrument

D = Decimal
KEY = "practice-key-1"
OPEN = 1795146300000  # 2026-11-20 09:15 IST
CLOSE = OPEN + 375 * 60_000
SBIN = Instrument("SBIN", "NSE", D("0.05"))
ITC = Instrument("ITC", "NSE", D("0.05"), lot_size=D(5), freeze_qty=D(5000))
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 10.0

pytestmark = pytest.mark.timeout(60)


def spec(**changes: Any) -> PracticeSpec:
    values: dict[str, Any] = {
        "account": f"practice-{uuid.uuid4().hex[:8]}",
        "api_key": KEY,
        "instruments": [SBIN, ITC],
        "session_start_ms": OPEN,
        "open_ms": OPEN,
        "close_ms": CLOSE,
        "rest_port": 0,
        "ws_port": 0,
        "symbols": [PracticeSymbol("SBIN", D("731.15"), D("730.65"), D("0.05"), D(5), story="never")],
    }
    return PracticeSpec(**values | changes)


def tape_of(folder: Path, *rows: tuple[str, str], symbol: str = "SBIN", name: str = "tape.csv") -> str:
    """A tape of (time of day in UTC, price)."""
    lines = [f"2026-11-20T{time}Z,{symbol},NSE,{price},10" for time, price in rows]
    path = folder / name
    path.write_text("\n".join(["ts_utc_iso_ms,symbol,exchange,price,qty", *lines, ""]), encoding="utf-8")
    return str(path)


class Desk:
    """A client of the venue, written without any of our own adapters."""

    def __init__(self, venue: PracticeVenue) -> None:
        self.venue = venue
        self.session = requests.Session()

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        return self.send(path, json.dumps({"apikey": KEY} | body, default=str))

    def send(self, path: str, body: str, content_type: str = "application/json") -> tuple[int, Any]:
        url = f"{self.venue.rest_url}/api/v1/{path}"
        answer = self.session.post(url, data=body.encode(), headers={"Content-Type": content_type}, timeout=WAIT_S)
        return answer.status_code, json.loads(answer.text, parse_float=Decimal)

    def place(self, **changes: Any) -> tuple[int, Any]:
        return self.post("placeorder", **order(**changes))

    def stream(self) -> Listener:
        return Listener(self.venue)


class Listener:
    """One socket; every message it gets is kept in order."""

    def __init__(self, venue: PracticeVenue) -> None:
        self.socket = websocket.create_connection(venue.ws_url, timeout=WAIT_S)

    def ask(self, **message: Any) -> Any:
        self.socket.send(json.dumps(message))
        return self.next()

    def next(self) -> Any:
        return json.loads(self.socket.recv(), parse_float=Decimal)

    def until(self, wanted: Callable[[Any], bool]) -> list[Any]:
        heard = []
        for _ in range(1000):
            heard.append(self.next())
            if wanted(heard[-1]):
                return heard
        raise AssertionError(f"not heard in {len(heard)} messages; last {heard[-1]}")

    def ready(self, *symbols: str, mode: int = 1) -> Listener:
        assert self.ask(action="authenticate", api_key=KEY)["status"] == "success"
        assert self.ask(action="subscribe_orders", request_id="o1")["status"] == "success"
        if symbols:
            named = [{"symbol": symbol, "exchange": "NSE"} for symbol in symbols]
            assert self.ask(action="subscribe", mode=mode, symbols=named)["status"] == "success"
        return self

    def close_code(self) -> tuple[int, str]:
        opcode, data = self.socket.recv_data()
        while opcode != websocket.ABNF.OPCODE_CLOSE:
            opcode, data = self.socket.recv_data()
        return int.from_bytes(data[:2], "big"), data[2:].decode()


def order(**changes: Any) -> dict[str, Any]:
    values = {"strategy": "S1", "exchange": "NSE", "symbol": "SBIN", "product": "MIS", "action": "BUY"}
    return values | {"pricetype": "SL", "quantity": 5, "price": "731.15", "trigger_price": "731.15"} | changes


def update(order_id: str, **changes: Any) -> dict[str, Any]:
    """An order_update of the order that `order()` places."""
    values: dict[str, Any] = {"type": "order_update", "mode": "analyze", "broker": "sandbox", "orderid": order_id}
    values |= {"symbol": "SBIN", "exchange": "NSE", "action": "BUY", "quantity": 5, "price": D("731.15")}
    values |= {"trigger_price": D("731.15"), "pricetype": "SL", "product": "MIS", "order_status": "trigger pending"}
    values |= {"filled_quantity": 0, "pending_quantity": 0, "average_price": 0, "rejection_reason": ""}
    return values | changes


def is_update(status: str) -> Callable[[Any], bool]:
    return lambda message: message.get("type") == "order_update" and message["order_status"] == status


def wait_for(what: Callable[[], bool]) -> None:
    """Wait for a condition of another process, at most WAIT_S."""
    clock, never = SystemClock(), threading.Event()
    end_ms = clock.monotonic_ms() + WAIT_S * 1000
    while not what():
        assert clock.monotonic_ms() < end_ms, "it did not come about"
        clock.wait(never, 0.01)


@pytest.fixture
def launch() -> Iterator[Callable[..., PracticeVenue]]:
    venues: list[PracticeVenue] = []

    def start(**changes: Any) -> PracticeVenue:
        venues.append(start_venue(spec(**changes)))
        return venues[-1]

    yield start
    for venue in venues:
        venue.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[PracticeVenue]:
    """A venue that is not started: its time stands still at the open and nothing trades. For questions that change nothing."""
    venue = start_venue(spec(account="shared", settings=PracticeSettings(holidays=("2026-11-24",))))
    yield venue
    venue.stop()


@pytest.fixture
def desk(shared: PracticeVenue) -> Desk:
    return Desk(shared)


SCHEMA_ERRORS = [
    ({"quantity": None}, "{'quantity': ['Missing data for required field.']}"),
    ({"quantity": 0}, "{'quantity': ['Quantity must be a positive number.']}"),
    ({"quantity": 1.5}, "{'quantity': ['Fractional quantity (1.5) is not allowed for non-crypto exchanges.']}"),
    ({"quantity": "NaN"}, "{'quantity': ['Special numeric values (nan or infinity) are not permitted.']}"),
    ({"quantity": "five"}, "{'quantity': ['Not a valid number.']}"),
    ({"action": "HOLD"}, "{'action': ['Must be one of: BUY, SELL, buy, sell.']}"),
    ({"pricetype": "STOP"}, "{'pricetype': ['Must be one of: MARKET, LIMIT, SL, SL-M.']}"),
    ({"foo": 1}, "{'foo': ['Unknown field.']}"),
]


@pytest.mark.parametrize(("changes", "message"), SCHEMA_ERRORS)
def test_a_wrong_field_is_a_400_in_the_words_of_the_dialect(desk: Desk, changes: dict[str, Any], message: str) -> None:
    body = {name: value for name, value in order(**changes).items() if value is not None}

    assert desk.post("placeorder", **body) == (400, {"message": message, "status": "error"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbol": "NOPE"}, "Symbol NOPE not found on NSE"),
        ({"exchange": "BSE"}, "Symbol SBIN not found on BSE"),
        ({"product": "NRML"}, "NRML product not allowed for NSE equity segment. Use CNC for delivery or MIS for intraday."),
        ({"product": "CNC"}, "CNC orders are not simulated here. Use MIS."),
        ({"trigger_price": 0}, "SL orders require trigger_price"),
        ({"price": 0}, "SL orders require price"),
        ({"pricetype": "LIMIT", "price": 0}, "LIMIT orders require price"),
        ({"price": "731.17"}, "limit price 731.17 is not a multiple of the tick size 0.05"),
        ({"symbol": "ITC", "quantity": 7}, "Quantity must be in multiples of lot size 5"),
        ({"symbol": "ITC", "quantity": 5005}, "quantity 5005 is above the freeze quantity 5000"),
        ({"pricetype": "MARKET"}, "Cannot place MARKET order for SBIN - unable to fetch current price."),
        (
            {"quantity": 1000000},
            "Insufficient funds. Required: ₹146230000.00, Available: ₹10000000, Shortage: ₹136230000.00",
        ),
    ],
)
def test_what_the_sandbox_refuses_is_a_400_and_leaves_no_order(desk: Desk, changes: dict[str, Any], message: str) -> None:
    """ENT-10, ENT-13: the venue's half."""
    assert desk.place(**changes) == (400, {"message": message, "mode": "analyze", "status": "error"})
    assert desk.post("orderbook")[1]["data"]["orders"] == []


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("orderbook", {"apikey": "wrong"}, (403, {"message": "Invalid openalgo apikey", "status": "error"})),
        ("orderbook", {}, (400, {"message": {"apikey": ["Missing data for required field."]}, "status": "error"})),
        ("orderbook", [], (400, {"message": {"_schema": ["Invalid input type."]}, "status": "error"})),
        ("nowhere", {}, (404, {"message": "Not found", "path": "/api/v1/nowhere", "status": "error"})),
        ("cancelallorder", {}, (404, {"message": "Not found", "path": "/api/v1/cancelallorder", "status": "error"})),
    ],
)
def test_errors_before_the_handler(desk: Desk, path: str, body: Any, answer: tuple[int, Any]) -> None:
    assert desk.send(path, json.dumps(body)) == answer


def test_a_body_that_is_no_json_or_not_declared_as_such(desk: Desk) -> None:
    broken = {"message": "The browser (or proxy) sent a request that this server could not understand."}
    plain = {"message": "An unexpected error occurred in the API endpoint", "status": "error"}

    assert desk.send("ping", "{") == (400, broken)
    assert desk.send("ping", json.dumps({"apikey": KEY}), "text/plain") == (500, plain)
    assert requests.get(f"{desk.venue.rest_url}/api/v1/ping", timeout=WAIT_S).status_code == 405


MODIFY_FIELDS = "apikey symbol exchange strategy orderid action product pricetype price quantity trigger_price disclosed_quantity"


def test_all_twelve_fields_of_an_amend_are_mandatory(desk: Desk) -> None:
    """PRO-19: the venue's half."""
    missing = {name: ["Missing data for required field."] for name in MODIFY_FIELDS.split()}

    assert desk.send("modifyorder", "{}") == (400, {"message": str(missing), "status": "error"})


def test_the_reads_that_need_no_order(desk: Desk) -> None:
    instrument = {"brexchange": "NSE", "brsymbol": "ITC-EQ", "exchange": "NSE", "expiry": "", "freeze_qty": 5000, "id": 2}
    instrument |= {"instrumenttype": "EQ", "lotsize": 5, "name": "ITC", "strike": D("-1.0"), "symbol": "ITC"}
    instrument |= {"tick_size": D("0.05"), "token": "2"}
    quote = {"ask": D("731.75"), "bid": D("731.75"), "high": 0, "low": 0, "ltp": D("731.75"), "oi": 0, "open": 0}
    quote |= {"prev_close": D("731.75"), "volume": 0}
    itc = {"symbol": "ITC", "exchange": "NSE"}
    sbin = {"symbol": "SBIN", "exchange": "NSE"}
    nope = {"symbol": "NOPE", "exchange": "NSE"}
    where = "Symbol 'NOPE' not found for exchange 'NSE'."
    lost = f"{where} Please verify the symbol name and ensure master contracts are downloaded."
    analyzer = {"analyze_mode": True, "mode": "analyze", "total_logs": 0}

    def ok(**body: Any) -> tuple[int, Any]:
        return 200, body | {"status": "success"}

    assert desk.post("ping") == ok(data={"broker": "practice", "message": "pong"})
    assert desk.post("analyzer") == ok(data=analyzer)
    assert desk.post("symbol", **itc) == ok(data=instrument)
    assert desk.post("symbol", **nope) == (404, {"message": "Symbol NOPE not found in exchange NSE", "status": "error"})
    assert desk.post("search", query="it") == ok(data=[instrument], message="Found 1 matching symbols")
    assert desk.post("search", query="zz") == ok(data=[], message="No matching symbols found")
    assert desk.post("quotes", **sbin) == ok(data=quote)
    assert desk.post("quotes", **nope) == (400, {"message": lost, "status": "error"})
    assert desk.post("multiquotes", symbols=[sbin, nope]) == ok(
        results=[sbin | {"data": quote}, nope | {"error": "Symbol not found"}]
    )
    assert desk.post("quotes/", **sbin | {"exchange": "LSE"})[1]["message"].keys() == {"exchange"}
    assert desk.post("funds") == ok(
        mode="analyze",
        data={"availablecash": 10000000, "collateral": 0, "m2mrealized": 0, "m2munrealized": 0, "utiliseddebits": 0},
    )
    assert desk.post("positionbook") == ok(mode="analyze", data=[], total_pnl=0)
    assert desk.post("openposition", **sbin, strategy="S1", product="MIS") == ok(mode="analyze", quantity=0)


def test_the_calendar_of_the_venue(desk: Desk) -> None:
    """EXI-10: the venue's half: a holiday is empty, a Saturday has crypto only."""
    hours = [{"exchange": "NSE", "start_time": OPEN, "end_time": CLOSE}]
    monday = [{"exchange": "NSE", "start_time": OPEN + 3 * 86_400_000, "end_time": CLOSE + 3 * 86_400_000}]
    crypto = [{"exchange": "CRYPTO", "start_time": 1795199400000, "end_time": 1795285799000}]
    closed = {"closed_exchanges": ["NSE"], "date": "2026-11-24", "description": "Holiday"}
    closed |= {"holiday_type": "TRADING_HOLIDAY", "open_exchanges": []}

    timings = {day: desk.post("market/timings", date=f"2026-11-{day}")[1]["data"] for day in (20, 21, 22, 23, 24)}

    assert timings == {20: hours, 21: crypto, 22: [], 23: monday, 24: []}
    assert desk.post("market/holidays", year=2026) == (
        200,
        {"data": [closed], "timezone": "Asia/Kolkata", "year": 2026, "status": "success"},
    )
    assert desk.post("market/timings", date="today")[1] == {"message": {"date": ["Not a valid date."]}, "status": "error"}


def test_the_stream_speaks_the_dialect(desk: Desk) -> None:
    stream = desk.stream()
    unknown = {"symbol": "NOPE", "exchange": "NSE", "status": "error", "broker": "practice"}
    known = {"symbol": "SBIN", "exchange": "NSE", "status": "success", "mode": "LTP", "depth": 5, "broker": "practice"}

    def error(code: str, message: str) -> dict[str, str]:
        return {"status": "error", "code": code, "message": message}

    pong = stream.ask(action="ping", timestamp=123, _pingId=7)
    server_timestamp = pong.pop("server_timestamp")
    assert (pong, server_timestamp > OPEN - 10**12) == (
        {"type": "pong", "status": "success", "client_timestamp": 123, "_pingId": 7},
        True,
    )
    assert stream.ask(action="subscribe", symbols=[]) == error("NOT_AUTHENTICATED", "You must authenticate first")
    assert stream.ask(action="authenticate") == error("AUTHENTICATION_ERROR", "API key is required")
    assert stream.ask(action="authenticate", api_key="no") == error("AUTHENTICATION_ERROR", "Invalid API key")
    assert stream.ask(type="auth", apikey=KEY) == {
        "type": "auth",
        "status": "success",
        "message": "Authentication successful",
        "broker": "practice",
        "user_id": "shared",
        "supported_features": {"ltp": True, "quote": True, "depth": True},
    }
    wanted = [{"symbol": "SBIN", "exchange": "NSE"}, {"symbol": "NOPE", "exchange": "NSE"}, {"symbol": "SBIN"}]
    assert stream.ask(action="subscribe", mode=1, symbols=wanted, request_id="r1") == {
        "type": "subscribe",
        "status": "partial",
        "subscriptions": [known, unknown | {"message": "Symbol NOPE not found for exchange NSE"}],
        "message": "Subscription processing complete",
        "broker": "practice",
        "request_id": "r1",
    }
    assert stream.ask(action="subscribe_orders", request_id="o1") == {
        "type": "subscribe_orders",
        "status": "success",
        "message": "Subscribed to order updates",
        "request_id": "o1",
    }
    assert stream.ask(action="subscribe", mode=9, symbols=wanted)["code"] == "INVALID_MODE"
    assert stream.ask(action="subscribe", mode=1)["code"] == "INVALID_PARAMETERS"
    assert stream.ask(action="dance")["code"] == "INVALID_ACTION"
    stream.socket.send("{")
    assert stream.next()["code"] == "INVALID_JSON"
    quote_mode = stream.ask(action="unsubscribe", symbols=[{"symbol": "SBIN", "exchange": "NSE"}])
    assert (quote_mode["status"], quote_mode["failed"]) == ("error", [{"symbol": "SBIN", "exchange": "NSE", "mode": "Quote"}])
    ltp_mode = stream.ask(action="unsubscribe", symbols=[{"symbol": "SBIN", "exchange": "NSE", "mode": 1}])
    assert (ltp_mode["status"], ltp_mode["successful"]) == ("success", [{"symbol": "SBIN", "exchange": "NSE", "mode": "LTP"}])


def test_the_life_of_an_order_word_for_word(launch: Callable[..., PracticeVenue], tmp_path: Path) -> None:
    """From trigger pending to complete: the update comes before the reply, the tick before the updates it caused."""
    rows = [("03:45:10.000", "731.00"), ("03:45:20.000", "735.00"), ("03:45:30.000", "731.05"), ("03:45:30.500", "731.30")]
    venue = launch(symbols=[], tape=[tape_of(tmp_path, *rows)], speed=20)
    desk, stream = Desk(venue), Desk(venue).stream().ready("SBIN")

    status, placed = desk.place()
    order_id = placed["orderid"]
    pending = stream.next()
    venue.start()
    heard = stream.until(is_update("complete"))
    wait_for(lambda: venue.clock().finished)

    who = {"user_id": venue.account}
    assert (status, placed) == (200, {"mode": "analyze", "orderid": order_id, "status": "success"})
    assert order_id.startswith("261120") and len(order_id) == 14
    assert pending == update(order_id) | who
    name = {"symbol": "SBIN", "exchange": "NSE", "mode": 1}

    def tick(price: str, at_ms: int) -> dict[str, Any]:
        data = name | {"ltp": D(price), "timestamp": at_ms, "ltt": at_ms}
        return {"type": "market_data"} | name | {"data": data, "broker": "practice"}

    assert heard == [
        tick("731.00", OPEN + 10_000),
        tick("735.00", OPEN + 20_000),
        update(order_id, order_status="open") | who,
        tick("731.05", OPEN + 30_000),
        update(order_id, order_status="complete", filled_quantity=5, average_price=D("731.15")) | who,
    ]
    row = {"action": "BUY", "average_price": D("731.15"), "exchange": "NSE", "filled_quantity": 5, "order_status": "complete"}
    row |= {"orderid": order_id, "pending_quantity": 0, "price": D("731.15"), "product": "MIS", "quantity": 5, "strategy": "S1"}
    row |= {"symbol": "SBIN", "timestamp": "2026-11-20 09:15:00", "trigger_price": D("731.15")}
    statistics = {"total_buy_orders": 1, "total_completed_orders": 1, "total_open_orders": 0, "total_rejected_orders": 0}
    statistics |= {"total_sell_orders": 0, "total_trigger_pending_orders": 0}
    assert desk.post("orderbook")[1] == {
        "data": {"orders": [row | {"pricetype": "SL", "rejection_reason": ""}], "statistics": statistics},
        "mode": "analyze",
        "status": "success",
    }
    assert desk.post("orderstatus", strategy="S1", orderid=order_id)[1]["data"] == row | {"price_type": "SL"}
    trade = {"action": "BUY", "average_price": D("731.15"), "exchange": "NSE", "orderid": order_id, "price": D("731.15")}
    trade |= {"product": "MIS", "quantity": 5, "strategy": "S1", "symbol": "SBIN", "timestamp": "2026-11-20 09:15:30"}
    trade |= {"trade_value": D("3655.75"), "tradeid": f"TRADE-20261120-091530-T{order_id}"}
    assert desk.post("tradebook")[1] == {"data": [trade], "mode": "analyze", "status": "success"}
    held = {"average_price": D("731.15"), "exchange": "NSE", "lot_size": 1, "ltp": D("731.30"), "pnl": D("0.75")}
    held |= {"pnlpercent": D("0.02"), "product": "MIS", "quantity": 5, "symbol": "SBIN", "today_realized_pnl": 0}
    held |= {"total_pnl_today": D("0.75"), "unrealized_pnl": D("0.75")}
    assert desk.post("positionbook")[1] == {
        "data": [held],
        "mode": "analyze",
        "status": "success",
        "total_pnl": D("0.75"),
    }


def test_amend_and_cancel_and_what_they_say_when_it_is_too_late(launch: Callable[..., PracticeVenue]) -> None:
    desk = Desk(launch())
    stream = desk.stream().ready()
    order_id = desk.place(pricetype="SL-M", price=0, action="SELL", trigger_price="700.05")[1]["orderid"]
    stream.next()
    amend = order(orderid=order_id, pricetype="SL-M", price=0, action="SELL", trigger_price="701.10", quantity=3)
    amend["disclosed_quantity"] = 0

    modified = desk.post("modifyorder", **amend)
    foreign_field = desk.post("modifyorder", **amend | {"price": 701})
    shown = desk.post("orderstatus", strategy="S1", orderid=order_id)[1]["data"]
    cancelled = desk.post("cancelorder", strategy="S1", orderid=order_id)
    again = desk.post("cancelorder", strategy="S1", orderid=order_id)
    too_late = desk.post("modifyorder", **amend)
    unknown = [desk.post("cancelorder", strategy="S1", orderid=999), desk.post("orderstatus", strategy="S1", orderid="nope")]

    def says(message: str, status: str = "success", **more: str) -> dict[str, str]:
        return {"message": message, "mode": "analyze", "status": status} | more

    assert modified == (200, says("Order modified successfully", orderid=order_id))
    assert foreign_field == (400, says("SL-M orders do not accept a price", "error"))
    assert (shown["trigger_price"], shown["quantity"], shown["order_status"]) == (D("701.10"), 3, "trigger pending")
    assert cancelled == (200, says("Order cancelled successfully", orderid=order_id))
    assert again == (400, says("Cannot cancel order in cancelled status", "error"))
    assert too_late == (400, says("Cannot modify order in cancelled status", "error"))
    assert unknown == [(404, says("Order 999 not found", "error")), (404, says("Order nope not found", "error"))]
    heard = stream.next()  # of the cancel: an amend is told to nobody
    assert (heard["order_status"], heard["quantity"], heard["trigger_price"]) == ("cancelled", 3, D("701.10"))


def test_an_entry_fills_in_parts_and_every_part_is_told(launch: Callable[..., PracticeVenue]) -> None:
    """PRO-05, FIL-02: the venue's half."""
    partial = PracticeSymbol("SBIN", D("731.15"), D("730.65"), D("0.05"), D(5), story="partial")
    venue = launch(symbols=[partial], speed=600)
    desk = Desk(venue)
    stream = desk.stream().ready()
    venue.start()
    wait_for(lambda: venue.clock().ticks > 110)  # after the start of the path, which is above the entry

    order_id = desk.place()[1]["orderid"]
    first = stream.until(lambda message: message.get("filled_quantity", 0) > 0)[-1]
    book_then = desk.post("orderstatus", strategy="S1", orderid=order_id)[1]["data"]
    last = stream.until(is_update("complete"))[-1]
    trades = desk.post("tradebook")[1]["data"]

    assert (first["order_status"], first["filled_quantity"], first["pending_quantity"]) == ("open", 2, 0)
    assert (book_then["order_status"], book_then["filled_quantity"], book_then["pending_quantity"]) == ("open", 2, 3)
    assert (last["filled_quantity"], last["average_price"]) == (5, D("731.15"))
    assert [row["quantity"] for row in trades] == [3, 2]
    assert len({row["tradeid"] for row in trades}) == 2


def test_a_market_order_without_a_tick_fills_at_the_last_price_soon_after(
    launch: Callable[..., PracticeVenue], tmp_path: Path
) -> None:
    tape = tape_of(tmp_path, ("03:45:01", "100.00"), ("08:00:00", "200.00"))
    venue = launch(symbols=[], tape=[tape], settings=PracticeSettings(idle_fill_s=0.1))
    desk, stream = Desk(venue), Desk(venue).stream().ready("SBIN")
    venue.start()
    stream.next()

    desk.place(pricetype="MARKET", price=0, trigger_price=0)
    heard = stream.until(is_update("complete"))

    assert [message["order_status"] for message in heard] == ["open", "complete"]
    assert (heard[-1]["average_price"], heard[-1]["price"]) == (100, 100)


def test_numbers_arrive_to_the_last_digit(launch: Callable[..., PracticeVenue], tmp_path: Path) -> None:
    """A price that no float can hold passes the venue unchanged."""
    price = "0.12345678901234567890"
    coin = Instrument("COIN", "CRYPTO", D("0.00000000000000000001"), lot_size=D("0.00000001"))
    folder = tape_of(tmp_path, ("03:45:01", price), symbol="COIN")
    venue = launch(symbols=[], tape=[folder], instruments=[coin])
    desk, stream = Desk(venue), Desk(venue).stream()
    stream.ask(action="authenticate", api_key=KEY)
    stream.ask(action="subscribe", mode="Depth", symbols=[{"symbol": "COIN", "exchange": "CRYPTO"}])
    venue.start()

    heard = stream.next()
    body = order(symbol="COIN", exchange="CRYPTO", pricetype="LIMIT", trigger_price=0)
    text = json.dumps({"apikey": KEY} | body | {"quantity": "0.00222222", "price": 0}).replace('"price": 0', f'"price": {price}')
    order_id = desk.send("placeorder", text)[1]["orderid"]
    shown = desk.post("orderstatus", strategy="S1", orderid=order_id)[1]["data"]

    level = [{"price": D(price), "quantity": 10, "orders": 1}]
    assert (heard["data"]["ltp"], heard["data"]["depth"]) == (D(price), {"buy": level, "sell": level})
    assert (shown["price"], shown["quantity"]) == (D(price), D("0.00222222"))


def test_who_does_not_authenticate_is_shown_the_door(launch: Callable[..., PracticeVenue]) -> None:
    venue = launch(settings=PracticeSettings(auth_timeout_s=0.2))
    known, stranger = Listener(venue), Listener(venue)
    known.ask(action="authenticate", api_key=KEY)

    code = stranger.close_code()

    assert code == (4401, "auth timeout")
    assert known.ask(action="ping")["type"] == "pong"


def test_a_limited_venue_answers_429_and_closes_the_connection(launch: Callable[..., PracticeVenue]) -> None:
    desk = Desk(launch(settings=PracticeSettings(orders_per_s=2)))
    url = f"{desk.venue.rest_url}/api/v1/cancelorder"

    body = {"apikey": KEY, "strategy": "S1", "orderid": "1"}
    answers = [desk.session.post(url, json=body, timeout=WAIT_S) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert (answers[-1].json(), answers[-1].headers["connection"]) == ({"message": "2 per 1 second"}, "close")
    assert desk.post("ping")[0] == 200


def test_an_answer_is_not_held_back_by_nagles_algorithm(desk: Desk) -> None:
    """It costs 40 ms on every answer but the first few; the middle one of many says whether it is on."""
    clock, took_ms = SystemClock(), []
    for _ in range(30):
        start_ms = clock.monotonic_ms()
        desk.post("ping")
        took_ms.append(clock.monotonic_ms() - start_ms)

    assert sorted(took_ms)[len(took_ms) // 2] < 30


def test_the_anchor_is_fixed_once_and_both_sides_tell_the_same_time(launch: Callable[..., PracticeVenue]) -> None:
    venue = launch(speed=60)
    before = venue.clock()
    with pytest.raises(VenueError, match="has not been started"):
        before.scaled()

    first = venue.start(delay_ms=50)
    second = venue.start(delay_ms=99_999)
    ours = first.scaled()
    wait_for(lambda: venue.clock().ticks > 0)
    stream = Desk(venue).stream().ready("SBIN")
    tick_ms = stream.next()["data"]["timestamp"]
    now_ms = ours.now_ms()

    assert (before.anchor_ms, before.ticks) == (None, 0)
    assert (second.anchor_ms, second.session_start_ms, second.speed) == (first.anchor_ms, OPEN, 60)
    assert 0 <= now_ms - tick_ms < 60_000  # one real second


def test_a_restarted_runner_finds_the_venue_it_left(launch: Callable[..., PracticeVenue]) -> None:
    venue = launch()
    order_id = Desk(venue).place()[1]["orderid"]

    found = attach_venue(venue.rest_url, KEY)
    stranger = attach_venue(venue.rest_url, "another key")
    venue.stop()
    gone = attach_venue(venue.rest_url, KEY)

    assert found is not None
    assert (found.account, found.pid, found.ws_url) == (venue.account, venue.pid, venue.ws_url)
    assert order_id.startswith("261120")
    assert (stranger, gone) == (None, None)


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(VenueError) as error:
            start_venue(spec(ws_port=port))

    assert str(error.value).startswith(f"the practice venue cannot start: WebSocket port {port} on 127.0.0.1 cannot be used: ")
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_a_specification_or_tape_that_is_wrong_ends_the_process_with_code_2(tmp_path: Path) -> None:
    bad_tape = tmp_path / "bad.csv"
    bad_tape.write_text("time,price\n", encoding="utf-8")
    texts = [b"{}", msgspec.json.encode(spec(symbols=[], tape=[str(bad_tape)]))]

    ended = [
        subprocess.run([sys.executable, "-m", "brokers.practice_server"], input=text, capture_output=True, cwd=ROOT, timeout=30)
        for text in texts
    ]

    assert [run.returncode for run in ended] == [2, 2]
    assert [run.stdout for run in ended] == [b"", b""]
    assert ended[0].stderr.startswith(b"the practice venue's specification is wrong: Object missing required field")
    assert ended[1].stderr.startswith(f"the practice venue cannot start: {bad_tape}: is no tape".encode())


def test_a_venue_left_alone_ends_by_itself_and_one_with_a_listener_does_not(launch: Callable[..., PracticeVenue]) -> None:
    settings = PracticeSettings(linger_s=0.3)
    kept = launch(settings=settings)
    stream = kept_stream = Listener(kept)
    alone = subprocess.run(
        [sys.executable, "-m", "brokers.practice_server"],
        input=msgspec.json.encode(spec(settings=settings)),
        capture_output=True,
        cwd=ROOT,
        timeout=30,
    )

    assert (alone.returncode, alone.stderr) == (0, b"")
    assert json.loads(alone.stdout).keys() == {"rest_port", "ws_port", "account", "pid"}
    assert kept_stream.ask(action="ping")["type"] == "pong"
    stream.socket.close()
    wait_for(lambda: attach_port_is_free(kept))


def attach_port_is_free(venue: PracticeVenue) -> bool:
    """Whether nobody listens any more. Asks without a request, which would keep the venue alive."""
    host, _, port = venue.rest_url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_a_tape_plays_from_the_start_of_the_session_and_its_broken_lines_are_told(
    launch: Callable[..., PracticeVenue], tmp_path: Path
) -> None:
    good = tape_of(tmp_path, ("03:44:59", "100.00"), ("03:45:01", "100.05"), ("03:45:02", "100.10"))
    with open(good, "a", encoding="utf-8") as file:
        file.write("2026-11-20T03:45:03Z,SBIN,NSE,NaN,1\n2026-11-20T03:45:04Z,OTHER,NSE,5,1\n")
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(Path(good).read_bytes()))
    venue = launch(symbols=[], tape=[str(packed)], speed=100)
    stream = Desk(venue).stream().ready("SBIN")

    venue.start()
    prices = [stream.next()["data"]["ltp"] for _ in range(2)]
    wait_for(lambda: venue.clock().finished)
    clock = venue.clock()

    reports = [TapeReport("packed.csv.gz", rows=4, bad=1, examples=[(5, "price 'NaN' is not a plain number")])]
    assert prices == [D("100.05"), D("100.10")]
    assert (clock.ticks, clock.skipped, clock.tape) == (2, 1, reports)
    wait_for(lambda: venue.complaints() == [f"tape {reports[0].describe()}"])


def test_a_specification_says_what_it_lacks() -> None:
    for changes, reason in (
        ({"symbols": []}, "needs either symbols or a tape"),
        ({"tape": ["x.csv"]}, "needs either symbols or a tape"),
        ({"api_key": ""}, "needs an account and an api key"),
        ({"speed": 0.0}, "speed must be above 0"),
        ({"instruments": [ITC]}, "no instrument for SBIN"),
    ):
        with pytest.raises(ValueError, match=reason):
            spec(**changes)


def test_the_runner_does_not_load_the_servers_libraries() -> None:
    code = (
        "import sys, brokers.practice; print([m for m in sys.modules if m in ('starlette', 'uvicorn', 'websockets', 'asyncio')])"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=30, check=True).stdout

    assert said.strip() == b"[]"
