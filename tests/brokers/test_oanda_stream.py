"""OANDA's streams: what each line means, and both streams over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from brokers.base import FillRow, OrderRow, Reported
from brokers.channel import Limits
from brokers.client_ids import ClientIds
from brokers.dialect import Incomplete, LoginRefused, Message, Noise, OrdersSubscribed, Several, Subscribed, Tick, Trouble
from brokers.feed import Feed
from brokers.line_stream import LineStream
from brokers.oanda import headers
from brokers.oanda_log import TransactionLog, time_ms
from brokers.oanda_stream import NOTHING, OandaPrices, OandaTransactions
from brokers.spelling import Spelling
from state.clock import SystemClock
from state.orders import OrderType, Side
from state.threads import OS_THREADS
from tests.brokers.oanda_double import ACCOUNT, TOKEN, OandaDouble
from tests.brokers.test_feed import Recorder, until

D = Decimal
PRICES = OandaPrices("https://x/v3", ACCOUNT, Spelling(OS_THREADS))
AT = 1_795_176_000_123


def price(**changes: Any) -> bytes:
    row = {
        "type": "PRICE",
        "instrument": "EUR_USD",
        "time": "2026-11-20T12:00:00.123456789Z",
        "status": "tradeable",
        "tradeable": True,
        "bids": [{"price": "1.09177", "liquidity": 10000000}, {"price": "1.09175", "liquidity": 10000000}],
        "asks": [{"price": "1.09188", "liquidity": 10000000}],
        "closeoutBid": "1.09173",
        "closeoutAsk": "1.09192",
    }
    return json.dumps({key: value for key, value in (row | changes).items() if value is not None}).encode()


def halted(symbol: str = "EUR_USD") -> Message:
    return Several((Subscribed((symbol,), {}), Noise("not tradeable")))


@pytest.mark.parametrize(
    ("frame", "meaning"),
    [
        (price(), Tick("EUR_USD", D("1.09177"), AT)),  # the best bid, not the closeout price
        (price(type=None), Tick("EUR_USD", D("1.09177"), AT)),
        (price(tradeable=None), Tick("EUR_USD", D("1.09177"), AT)),
        (price(status=None, tradeable=None), Tick("EUR_USD", D("1.09177"), AT)),
        (price(time=None), Tick("EUR_USD", D("1.09177"), None)),
        (price(status="non-tradeable", tradeable=False), halted()),
        (price(status="invalid"), halted()),
        (price(status="A word of tomorrow"), halted()),
        (price(bids=[]), halted()),
        (price(bids=[{"price": "NaN"}]), Noise("no price")),
        (price(bids=[{"price": "Infinity"}]), Noise("no price")),
        (price(bids=[{"price": "0"}]), Noise("no price")),
        (price(bids=[{"price": "-1.1"}]), Noise("no price")),
        (price(bids=[{"price": None}]), Noise("of no use")),
        (price(bids=[{"price": True}]), Noise("of no use")),
        (b'{"type":"HEARTBEAT","time":"2026-11-20T12:00:05.327443673Z"}', NOTHING),
        (b'{"type":"X"}', Noise("of no use")),
        (b'{"type":"PRICE","instr', Noise("not JSON")),
        (b"\xff\xfe", Noise("not JSON")),
        (b"[]", Noise("not JSON")),
        (b"[" * 5_000, Noise("not JSON")),
        (
            b'{"errorMessage":"Insufficient authorization to perform request."}',
            LoginRefused("Insufficient authorization to perform request."),
        ),
        (b'{"errorCode":"X","errorMessage":"maintenance"}', Trouble("X maintenance")),
    ],
)
def test_every_line_of_prices_has_its_meaning(frame: bytes, meaning: Message) -> None:
    """FEE-05, FEE-08: prices with nine decimals of a second, halted, without a type, broken."""
    assert PRICES.receive(frame) == meaning


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-20T12:00:00.123456789Z", AT),
        ("2026-11-20T12:00:00.1Z", AT - 23),
        ("2026-11-20T12:00:00Z", AT - 123),
        ("2026-11-20T12:00:00.123456789", 0),
        ("1795176000.123456789", 0),
        (None, 0),
    ],
)
def test_times_have_nine_decimals(text: str | None, ms: int) -> None:
    assert time_ms(text) == ms


def test_one_request_asks_for_all_symbols_and_no_second_one_is_made() -> None:
    dialect = OandaPrices("https://x/v3", ACCOUNT, Spelling(OS_THREADS))

    sent = [
        dialect.hello(),
        dialect.subscribe(["EUR_USD", "USD_JPY"]),
        dialect.subscribe(["USD_JPY"]),
        dialect.subscribe_orders(),
    ]
    again = [dialect.hello(), dialect.subscribe(["EUR_USD"])]

    path = f"/accounts/{ACCOUNT}/pricing/stream"
    assert sent == [[], [f"{path}?instruments=EUR_USD,USD_JPY&snapshot=true"], [], []]
    assert again == [[], [f"{path}?instruments=EUR_USD&snapshot=true"]]


# Transactions


IDS = ClientIds("journal", OS_THREADS)
KEY, CLIENT = IDS.uuid("EUR_USD-20261120-S0"), "EUR_USD-20261120-S0"


def row(id: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": str(id), "batchID": str(id), "type": kind, "time": "2026-11-20T12:00:00.123456789Z", **fields}


def stop_made(id: int = 2, price: str = "1.09000", **more: Any) -> dict[str, Any]:
    extensions = {"id": KEY, "comment": CLIENT}
    return row(id, "STOP_ORDER", instrument="EUR_USD", units="-100", price=price, clientExtensions=extensions) | more


def filled(id: int, order: str, units: str = "-100", **more: Any) -> dict[str, Any]:
    return row(id, "ORDER_FILL", orderID=order, clientOrderID=KEY, instrument="EUR_USD", units=units, fullVWAP="1.08990") | more


def listening(*read: dict[str, Any]) -> OandaTransactions:
    log = TransactionLog(IDS, Spelling(OS_THREADS), OS_THREADS)
    log.load([row(1, "CREATE"), *read], 1)
    return OandaTransactions("https://x/v3", ACCOUNT, log)


def told(dialect: OandaTransactions, *rows: dict[str, Any]) -> list[Message]:
    found: list[Message] = []
    for one in rows:
        message = dialect.receive(json.dumps(one).encode())
        assert isinstance(message, Several) and message.messages[0] == OrdersSubscribed()
        found += message.messages[1:]
    return found


def order_row(**changes: Any) -> OrderRow:
    fields = {"trigger_price": D("1.09000"), "filled": D(0), "reason": ""} | changes
    fields = {"state": Reported.WORKING, "average": None} | fields
    return OrderRow(
        "2", "EUR_USD", Side.SELL, qty=D(100), type=OrderType.STOP, client_id=CLIENT, at_ms=AT, label=CLIENT, **fields
    )


FILL = FillRow("3", "2", "EUR_USD", Side.SELL, D(100), D("1.08990"), AT)


def test_a_fill_tells_the_execution_and_the_order() -> None:
    news = told(listening(stop_made()), filled(3, "2"))

    assert news == [FILL, order_row(state=Reported.FILLED, filled=D(100), average=D("1.08990"))]


def test_a_fill_that_the_poll_has_read_first_is_told_all_the_same() -> None:
    """FEE-04: and counted once, by its id."""
    news = told(listening(stop_made(), filled(3, "2")), filled(3, "2"))

    assert news == [FILL, order_row(state=Reported.FILLED, filled=D(100), average=D("1.08990"))]


def test_a_change_is_told_under_the_first_id() -> None:
    dialect = listening(stop_made())
    cancel = row(3, "ORDER_CANCEL", orderID="2", reason="CLIENT_REQUEST_REPLACED", replacedByOrderID="4")

    news = told(dialect, cancel, stop_made(4, "1.09100", batchID="3", replacesOrderID="2"), filled(5, "4"))

    assert news == [
        order_row(trigger_price=D("1.09100")),
        FillRow("5", "2", "EUR_USD", Side.SELL, D(100), D("1.08990"), AT),
        order_row(trigger_price=D("1.09100"), state=Reported.FILLED, filled=D(100), average=D("1.08990")),
    ]


def test_what_a_partial_fill_means_the_books_tell() -> None:
    """FIL-04: whether the rest goes on stands in the next transaction."""
    news = told(listening(stop_made()), filled(3, "2", "-40"), stop_made(4, batchID="3", units="-60"))

    assert news[1] == Incomplete("order 2 filled in part")
    assert news[2] == order_row(filled=D(40), average=D("1.08990"))


def test_an_order_made_is_told_by_its_answer_not_here() -> None:
    assert told(listening(), stop_made()) == []


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("CLIENT_REQUEST", Reported.CANCELLED),
        ("TIME_IN_FORCE_EXPIRED", Reported.EXPIRED),
        ("LINKED_TRADE_CLOSED", Reported.CANCELLED),
        ("MARKET_HALTED", Reported.CANCELLED),
    ],
)
def test_the_venues_last_words(reason: str, state: Reported) -> None:
    news = told(listening(stop_made()), row(3, "ORDER_CANCEL", orderID="2", reason=reason))

    assert news == [order_row(state=state, reason=reason)]


def test_an_order_made_and_cancelled_in_one_go_is_no_news() -> None:
    """Its own answer says so; it may go out again under the same id."""
    news = told(listening(), stop_made(), row(3, "ORDER_CANCEL", batchID="2", orderID="2", reason="MARKET_HALTED"))

    assert news == []


def test_a_transaction_too_far_sends_us_to_the_books() -> None:
    """FEE-04."""
    dialect = listening(stop_made())

    gap = dialect.receive(json.dumps(filled(4, "2")).encode())

    assert gap == Incomplete("transaction 3 is missing before 4")
    assert told(dialect, row(3, "DAILY_FINANCING"), filled(4, "2"))[0] == FillRow(
        "4", "2", "EUR_USD", Side.SELL, D(100), D("1.08990"), AT
    )


def test_a_heartbeat_that_knows_more_than_we_do_sends_us_to_the_books() -> None:
    dialect = listening(stop_made())

    known = dialect.receive(b'{"type":"HEARTBEAT","lastTransactionID":"2"}')
    ahead = dialect.receive(b'{"type":"HEARTBEAT","lastTransactionID":"10"}')

    assert known == OrdersSubscribed()
    assert ahead == Several((OrdersSubscribed(), Incomplete("transactions were missed: the books will tell them")))


def test_a_margin_closeout_is_told_to_a_person() -> None:
    fill = filled(2, "99", "-100", reason="MARKET_ORDER_MARGIN_CLOSEOUT")

    news = told(listening(), fill)

    assert news[1] == Trouble("margin closeout: the venue has closed -100 EUR_USD")


@pytest.mark.parametrize(
    "line",
    [b"{}", b"null", b'{"type":"ORDER_FILL"}', b'{"type":"HEARTBEAT","lastTransactionID":7}', b'{"type":"ORDER_FILL","id":"x"}'],
)
def test_a_line_that_cannot_be_read_raises_nothing(line: bytes) -> None:
    assert isinstance(listening().receive(line), Noise | Incomplete)


def test_ids_are_numbers_not_words() -> None:
    dialect = listening(*[row(n, "DAILY_FINANCING") for n in range(2, 10)])

    assert told(dialect, stop_made(10), filled(11, "10"))[0] == FillRow(
        "11", "10", "EUR_USD", Side.SELL, D(100), D("1.08990"), AT
    )


# Over real sockets


@pytest.fixture
def double() -> Iterator[OandaDouble]:
    found = OandaDouble(heartbeat_s=0.1).start()
    yield found
    found.stop()


class Running:
    """A feed on a thread, told to a recorder."""

    def __init__(self, dialect: Any, symbols: tuple[str, ...], **limits: Any) -> None:
        self.told = Recorder()
        sinks: dict[str, Callable[[Decimal, int], None]] = {symbol: self.told.sink(symbol) for symbol in symbols}
        wire = partial(LineStream, headers=headers(TOKEN))
        self.feed = Feed(dialect, sinks, self.told, SystemClock(), Limits(**({"turn_ms": 20} | limits)), wire=wire)
        self.thread = threading.Thread(target=self.feed.run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.feed.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_prices_reach_their_symbols_and_a_halt_is_no_tick(double: OandaDouble) -> None:
    double.price("EUR_USD", "1.09177")
    running = Running(OandaPrices(double.stream_url, ACCOUNT, Spelling(OS_THREADS)), ("EUR_USD", "USD_JPY"))
    running.told.wait(1, "connected")
    running.feed.release()
    until(lambda: double.streaming("pricing") == 1)

    double.price("EUR_USD", "1.09180")
    double.halt("EUR_USD")
    double.price("EUR_USD", "1.09999")
    double.price("USD_JPY", "150.123")

    ticks = running.told.wait(2, "tick")
    until(lambda: ("tick", "USD_JPY") in {heard[:2] for heard in running.told.of("tick")})
    assert ticks[-2][1:3] == ("EUR_USD", D("1.09180")) or ticks[-1][1:3] == ("EUR_USD", D("1.09180"))
    assert D("1.09999") not in [heard[2] for heard in running.told.of("tick")]
    running.close()


def test_a_lost_stream_is_made_again_and_heartbeats_keep_a_quiet_one(double: OandaDouble) -> None:
    """FEE-02, FEE-03."""
    log = TransactionLog(IDS, Spelling(OS_THREADS), OS_THREADS)
    log.load(double.transactions, 1)
    running = Running(OandaTransactions(double.stream_url, ACCOUNT, log), (), ping_ms=400, pong_ms=400)
    running.told.wait(1, "connected")
    later = running.feed.alive_ms + 1_000

    until(lambda: running.feed.alive_ms > later)
    assert running.told.of("disconnected") == []
    double.drop_streams("transactions")

    running.told.wait(2, "connected")
    running.close()


def test_a_transaction_lost_on_the_stream_is_asked_for(double: OandaDouble) -> None:
    """FEE-04: by the heartbeat, or by the next one."""
    log = TransactionLog(IDS, Spelling(OS_THREADS), OS_THREADS)
    log.load(list(double.transactions), 1)
    running = Running(OandaTransactions(double.stream_url, ACCOUNT, log), ())
    running.told.wait(1, "connected")
    double.price("EUR_USD", "1.10000")

    with double.lock:
        double.swallow = 2
    double.stranger("EUR_USD", "5")

    running.told.wait(1, "unclear")
    running.close()


def test_a_wrong_token_is_no_stream(double: OandaDouble) -> None:
    wire = LineStream(SystemClock(), lambda: True, lambda: None, 0.02, headers=headers("wrong"))
    wire.open(double.stream_url)
    wire.send(f"/accounts/{ACCOUNT}/transactions/stream")

    with pytest.raises(Exception, match="401"):
        for _ in range(200):
            wire.receive()
    wire.close()
