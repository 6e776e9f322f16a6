"""Kraken's streams, frame by frame: what is a tick, what an execution, and what is only worth asking about."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from brokers.base import FillRow, OrderRow, Reported, Unavailable
from brokers.client_ids import ClientIds
from brokers.dialect import (
    Gap,
    Incomplete,
    LoggedIn,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    Several,
    Snapshot,
    Subscribed,
    Tick,
    VenueOpen,
)
from brokers.kraken_names import Executions, Names
from brokers.kraken_stream import NOTHING, KrakenOrders, KrakenPrices
from brokers.wire import WireClosed
from state.clock import VirtualClock
from state.orders import OrderType, Side
from state.threads import OS_THREADS
from tests.state.builders import D

AT = "2026-05-18T12:01:56.165888Z"
AT_MS = 1779105716166


def prices() -> KrakenPrices:
    names = Names(VirtualClock())
    names.add("BTC/USD", "XXBTZUSD", "XBTUSD", "XBT/USD", "XXBT", "ZUSD")
    found = KrakenPrices("wss://ws.example/v2", names)
    found.subscribe(["BTC/USD", "ETH/USD"])
    return found


def trade(symbol: str = "BTC/USD", price: Any = "69000.1", number: int = 1, at: str = AT) -> str:
    kind = '"side":"buy","qty":0.01,"ord_type":"market"'
    return f'{{"symbol":"{symbol}",{kind},"price":{price},"trade_id":{number},"timestamp":"{at}"}}'


def trades(*rows: str, type: str = "update") -> bytes:
    return f'{{"channel":"trade","type":"{type}","data":[{",".join(rows)}]}}'.encode()


# -- prices ----------------------------------------------------------------------------------------------------------------------


def test_the_subscription_of_the_sheet() -> None:
    asked = prices().subscribe(["BTC/USD", "ETH/USD"])

    assert [json.loads(frame) for frame in asked] == [
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": True},
            "req_id": 1,
        }
    ]


def test_each_trade_is_a_tick_with_every_digit() -> None:
    """FEE-05: an exponent is a number like any other."""
    told = [prices().receive(trades(trade(price=text))) for text in ("69000.10", "5.1e-05")]

    assert told == [Tick("BTC/USD", D("69000.10"), AT_MS), Tick("BTC/USD", D("0.000051"), AT_MS)]


def test_a_burst_in_one_frame_is_all_of_its_trades_in_order() -> None:
    """FEE-08."""
    told = prices().receive(trades(trade(price="1.1"), trade("ETH/USD", "2.2", 2), trade(price="1.2", number=3)))

    assert told == Several((Tick("BTC/USD", D("1.1"), AT_MS), Tick("ETH/USD", D("2.2"), AT_MS), Tick("BTC/USD", D("1.2"), AT_MS)))


def test_the_snapshot_of_old_trades_is_no_tick() -> None:
    """FEE-13."""
    told = prices().receive(trades(trade(price="2", number=9), trade(price="1", number=8), type="snapshot"))

    assert told == Several((Snapshot("BTC/USD", D("2")),))


def test_a_row_that_is_none_costs_the_others_nothing() -> None:
    """FEE-05, FEE-08."""
    told = prices().receive(trades(trade(price="null"), trade(price="7")))

    assert told == Several((Noise("malformed tick"), Tick("BTC/USD", D("7"), AT_MS)))


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"channel":"trade"}', b'{"channel":5}', b"{}" * 3])
def test_nonsense_is_noise(frame: bytes) -> None:
    assert isinstance(prices().receive(frame), Noise)


def answer(channel: str, symbol: str, **changes: Any) -> bytes:
    about = {"channel": channel, "symbol": symbol, "snapshot": True, "warnings": []}
    told = {"method": "subscribe", "result": about, "success": True, "time_in": "...", "time_out": "...", "req_id": 1}
    return json.dumps(told | changes).encode()


def test_an_answer_counts_for_its_symbol_and_its_channel_only() -> None:
    """FEE-09."""
    said = prices()
    refused = {"method": "subscribe", "error": "Currency pair not supported X/Y", "success": False, "symbol": "X/Y", "req_id": 1}

    told = [
        said.receive(frame) for frame in (answer("trade", "BTC/USD"), answer("ticker", "BTC/USD"), json.dumps(refused).encode())
    ]

    assert told == [
        Subscribed(("BTC/USD",), {}),
        Noise("answer of another channel"),
        Subscribed((), {"X/Y": "Currency pair not supported X/Y"}),
    ]


def status(word: str) -> bytes:
    about = {"api_version": "v2", "connection_id": 12393906104898154338, "system": word, "version": "2.0.4"}
    return json.dumps({"channel": "status", "type": "update", "data": [about]}).encode()


def test_what_the_venue_says_of_itself() -> None:
    said = prices()

    told = [said.receive(status(word)) for word in ("online", "maintenance", "cancel_only", "post_only")]

    assert told == [
        VenueOpen(),
        *(VenueOpen(f"the venue is in '{word}'".replace("'", "")) for word in ("maintenance", "cancel_only", "post_only")),
    ]


def test_heartbeats_and_pongs_say_nothing() -> None:
    assert [prices().receive(frame) for frame in (b'{"channel":"heartbeat"}', b'{"method":"pong","req_id":3}')] == [NOTHING] * 2


def test_only_tls_leaves_this_machine() -> None:
    with pytest.raises(ValueError, match="only wss"):
        KrakenPrices("ws://ws.example/v2", Names(VirtualClock()))


# -- executions ------------------------------------------------------------------------------------------------------------------

PENDING = {
    "order_id": "AHOJQ8-1E72C-8M2VQH",
    "symbol": "ADX/USD",
    "order_qty": 81.36256082,
    "cum_cost": 0,
    "time_in_force": "GTC",
    "exec_type": "pending_new",
    "side": "sell",
    "order_type": "stop-loss-limit",
    "order_userref": 0,
    "limit_price_type": "static",
    "triggers": {"price": 0.2, "price_type": "static", "reference": "last", "status": "untriggered"},
    "limit_price": 0.2,
    "order_status": "pending_new",
    "fee_ccy_pref": "fciq",
    "timestamp": AT,
}
TRADE = {
    "order_id": "AHOJQ8-1E72C-8M2VQH",
    "exec_id": "TJE7HC-DKBTI-5BFVKE",
    "exec_type": "trade",
    "trade_id": 365573,
    "symbol": "ADX/USD",
    "side": "sell",
    "last_qty": 81.36256082,
    "last_price": 0.199,
    "liquidity_ind": "t",
    "cost": 16.19,
    "cum_qty": 81.36256082,
    "cum_cost": 16.19,
    "avg_price": 0.199,
    "order_qty": 81.36256082,
    "order_status": "partially_filled",
    "order_type": "limit",
    "fees": [{"asset": "USD", "qty": 0.064}],
    "fee_usd_equiv": 0.064,
    "timestamp": AT,
}
CANCELED = {
    "timestamp": AT,
    "order_status": "canceled",
    "exec_type": "canceled",
    "cum_qty": 0.0,
    "cum_cost": 0.0,
    "avg_price": 0.0,
    "order_userref": 0,
    "cancel_reason": "User requested",
    "reason": "User requested",
    "order_id": "AHOJQ8-1E72C-8M2VQH",
}
FILL = FillRow(
    "TJE7HC-DKBTI-5BFVKE",
    "AHOJQ8-1E72C-8M2VQH",
    "ADX/USD",
    Side.SELL,
    D("81.36256082"),
    D("0.199"),
    AT_MS,
    D("0.064"),
    "USD",
)
ROW = OrderRow(
    venue_id="AHOJQ8-1E72C-8M2VQH",
    symbol="ADX/USD",
    side=Side.SELL,
    state=Reported.WORKING,
    qty=D("81.36256082"),
    type=OrderType.STOP_LIMIT,
    limit_price=D("0.2"),
    trigger_price=D("0.2"),
)


class Private:
    """The private dialect with its numbers counted up."""

    def __init__(self, token: Any = lambda: "T") -> None:
        self.clock = VirtualClock()
        self.ids = ClientIds("journal", OS_THREADS)
        self.executions = Executions(self.clock)
        names = Names(self.clock)
        names.add("ADX/USD", "ADXUSD", "ADXUSD", "ADX/USD", "ADX", "ZUSD")
        self.dialect = KrakenOrders("wss://ws.example/v2", token, names, self.ids, self.executions)
        self.dialect.hello()
        self.sequence = 119

    def hear(self, *rows: Any, skip: int = 0) -> list[Message]:
        self.sequence += 1 + skip
        told = {"channel": "executions", "type": "update", "data": list(rows), "sequence": self.sequence}
        message = self.dialect.receive(json.dumps(told).encode())
        return list(message.messages) if isinstance(message, Several) else [message]


def changed(row: OrderRow, **changes: Any) -> OrderRow:
    return msgspec.structs.replace(row, **changes)


def test_nothing_is_asked_before_the_venue_is_online_and_then_with_a_token() -> None:
    private = Private(lambda: "a token")

    told = [private.dialect.receive(status(word)) for word in ("maintenance", "online")]
    asked = [json.loads(frame) for frame in private.dialect.subscribe_orders()]

    assert told == [VenueOpen("the venue is in maintenance"), Several((VenueOpen(), LoggedIn()))]
    assert asked == [
        {
            "method": "subscribe",
            "params": {
                "channel": "executions",
                "token": "a token",
                "snap_orders": True,
                "snap_trades": True,
                "order_status": True,
                "ratecounter": True,
            },
            "req_id": 1,
        }
    ]


def test_without_a_token_the_connection_ends_and_says_why() -> None:
    def none() -> str:
        raise Unavailable("the venue is away")

    with pytest.raises(WireClosed, match="no token for the private stream: the venue is away"):
        Private(none).dialect.subscribe_orders()


def test_a_dead_token_ends_the_connection_and_a_good_one_has_the_books_asked() -> None:
    private = Private()
    private.executions.asked()
    dead = {"method": "subscribe", "error": "ESession:Invalid session", "success": False, "req_id": 1}
    good = {"method": "subscribe", "result": {"channel": "executions", "maxratecount": 60}, "success": True, "req_id": 1}

    first, before = private.dialect.receive(json.dumps(dead).encode()), private.executions.due()
    second, after = private.dialect.receive(json.dumps(good).encode()), private.executions.due()

    assert (first, before, second, after) == (LoginRefused("ESession:Invalid session"), False, OrdersSubscribed(), True)


def test_a_new_stop_and_the_order_it_is_of() -> None:
    private = Private()
    ours = private.ids.uuid("ADX/USD-20260518-S3").replace("-", "")

    assert private.hear(PENDING | {"cl_ord_id": ours}) == [changed(ROW, client_id="ADX/USD-20260518-S3")]


def test_partially_filled_with_the_whole_quantity_is_filled() -> None:
    """FIL-16: and the order that fired is still the stop it was."""
    private = Private()
    private.hear(PENDING)

    told = private.hear(TRADE)

    assert told == [FILL, changed(ROW, state=Reported.FILLED, filled=D("81.36256082"), average=D("0.199"))]
    assert private.executions.rows() == [FILL]


def test_rows_with_an_id_alone_are_joined() -> None:
    private = Private()
    private.hear(PENDING)

    told = private.hear({"order_id": PENDING["order_id"], "exec_type": "new", "order_status": "new", "timestamp": AT}, CANCELED)

    assert told == [ROW, changed(ROW, state=Reported.CANCELLED, filled=D(0), reason="User requested")]


def test_a_row_of_an_order_that_nobody_knows_is_asked_about() -> None:
    """FIL-16."""
    told = Private().hear(CANCELED)

    assert [type(message) for message in told] == [Incomplete]


def test_an_amend_that_does_not_say_its_prices_is_no_word_about_them_and_the_old_ones_are_forgotten() -> None:
    private = Private()
    private.hear(PENDING)

    bare = private.hear({"order_id": PENDING["order_id"], "exec_type": "amended", "order_status": "new", "timestamp": AT})
    later = private.hear({"order_id": PENDING["order_id"], "exec_type": "status", "order_status": "new", "timestamp": AT})
    whole = private.hear(
        PENDING | {"exec_type": "amended", "order_status": "new", "triggers": {"price": 0.25}, "limit_price": 0.24}
    )

    assert bare + later == []
    assert whole == [changed(ROW, trigger_price=D("0.25"), limit_price=D("0.24"))]


def test_a_trade_of_the_snapshot_is_an_execution_and_nothing_more() -> None:
    """It says "filled" whatever came of the order, and has no total."""
    old = {key: value for key, value in TRADE.items() if key not in ("cum_qty", "cum_cost", "avg_price")} | {
        "order_status": "filled"
    }

    assert Private().hear(old) == [FILL]


def test_one_execution_told_twice_is_kept_once() -> None:
    """FIL-02."""
    private = Private()

    private.hear(TRADE)
    private.hear(TRADE)

    assert private.executions.rows() == [FILL]


def test_a_gap_in_the_numbers_ends_the_connection_and_has_the_trades_asked() -> None:
    """FEE-04."""
    private = Private()
    private.hear(PENDING)
    private.executions.asked()

    told = private.hear(TRADE, skip=2)

    assert told == [Gap("executions 121 to 122 were lost: connecting anew")]
    assert private.executions.due()


def test_what_was_heard_before_changes_nothing() -> None:
    """FEE-04."""
    private = Private()
    private.hear(PENDING)
    private.sequence -= 1

    assert private.hear(CANCELED) == [Noise("executions heard before")]
    assert private.hear(TRADE)[0] == FILL


def test_a_new_connection_counts_anew() -> None:
    private = Private()
    private.hear(PENDING)
    private.dialect.hello()
    private.sequence = 0

    assert private.hear(TRADE)[0] == FILL


def test_one_frame_with_rows_of_several_orders() -> None:
    told = Private().hear(PENDING, TRADE | {"order_id": "O2"}, CANCELED | {"order_id": "O3"}, "nonsense")

    assert [type(message) for message in told] == [OrderRow, FillRow, OrderRow, Incomplete, Incomplete]


@pytest.mark.parametrize("lacking", ["exec_id", "last_price", "last_qty", "timestamp"])
def test_an_execution_that_lacks_something_is_asked_about(lacking: str) -> None:
    """FIL-16."""
    told = Private().hear({key: value for key, value in TRADE.items() if key != lacking})

    assert [type(message) for message in told] == [Incomplete]
