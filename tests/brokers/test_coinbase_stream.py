"""Coinbase's stream dialects: frames in, messages out; numbers that must follow one another; two names for one book."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from brokers.base import OrderRow, Reported
from brokers.client_ids import ClientIds
from brokers.coinbase_stream import CoinbaseOrders, CoinbasePrices
from brokers.dialect import (
    Gap,
    Incomplete,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    Several,
    Snapshot,
    Subscribed,
    Tick,
    Trouble,
)
from brokers.spelling import Spelling
from state.orders import OrderType, Side
from state.threads import OS_THREADS

D = Decimal
URL = "wss://advanced-trade-ws.example"
AT, AT_MS = "2026-04-07T14:30:03.250000Z", 1_775_572_203_250
OURS = "BTC-USD-20261120-E0"


def names(*pairs: tuple[str, str]) -> Spelling:
    made = Spelling(OS_THREADS)
    for symbol, alias in pairs:
        made.add(symbol, alias)
    return made


def prices(*symbols: str, spelling: Spelling | None = None) -> CoinbasePrices:
    dialect = CoinbasePrices(URL, spelling or names(), lambda: "a token")
    dialect.hello()
    dialect.subscribe(symbols or ("BTC-USD", "ETH-USD"))
    return dialect


def orders() -> tuple[CoinbaseOrders, str]:
    ids = ClientIds("journal-1", OS_THREADS)
    spelling = names(("BTC-USD", "BTC-USDC"))
    dialect = CoinbaseOrders(URL, spelling, ids, lambda: "a token")
    dialect.hello()
    return dialect, ids.uuid(OURS)


def frame(channel: str, events: list[Any], number: Any = 1, **more: Any) -> bytes:
    told = {"channel": channel, "client_id": "", "timestamp": AT, "sequence_num": number, "events": events}
    return json.dumps(told | more).encode()


def ticker(price: Any, product: str = "BTC-USD", kind: str = "update") -> dict[str, Any]:
    return {
        "type": kind,
        "tickers": [{"type": "ticker", "product_id": product, "price": price, "best_bid": "1", "best_ask": "2"}],
    }


# -- what is sent ----------------------------------------------------------------------------------------------------------------


def test_heartbeats_come_first_and_each_channel_has_a_message_and_a_token_of_its_own() -> None:
    """Pitfall 12; the first subscription is due within 5 s of connecting."""
    tokens = iter(("t1", "t2", "t3"))
    dialect = CoinbasePrices(URL, names(), lambda: next(tokens))

    sent = [*dialect.hello(), *dialect.subscribe(["BTC-USD", "ETH-USD"]), *dialect.subscribe_orders()]

    assert sent == [
        '{"type":"subscribe","channel":"heartbeats","jwt":"t1"}',
        '{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channel":"ticker","jwt":"t2"}',
    ]


def test_orders_are_asked_for_on_their_own_connection_for_all_products() -> None:
    dialect, _ = orders()

    assert [*dialect.hello(), *dialect.subscribe([]), *dialect.subscribe_orders()] == [
        '{"type":"subscribe","channel":"heartbeats","jwt":"a token"}',
        '{"type":"subscribe","channel":"user","jwt":"a token"}',
    ]


def test_without_a_key_prices_are_asked_for_without_a_token() -> None:
    dialect = CoinbasePrices(URL, names())

    assert [*dialect.hello(), *dialect.subscribe(["BTC-USD"])] == [
        '{"type":"subscribe","channel":"heartbeats"}',
        '{"type":"subscribe","product_ids":["BTC-USD"],"channel":"ticker"}',
    ]


def test_many_products_are_asked_for_a_hundred_at_a_time() -> None:
    sent = prices().subscribe([f"C{n}-USD" for n in range(250)])

    assert [len(json.loads(text)["product_ids"]) for text in sent] == [100, 100, 50]


@pytest.mark.parametrize("url", ["https://x", "ws://stream.example", "wss://", "x"])
def test_only_wss_may_leave_this_machine(url: str) -> None:
    with pytest.raises(ValueError):
        CoinbasePrices(url, names())


# -- prices ----------------------------------------------------------------------------------------------------------------------


def test_a_ticker_is_a_tick_at_the_frames_time() -> None:
    assert prices().receive(frame("ticker", [ticker("68900.50")])) == Tick("BTC-USD", D("68900.50"), AT_MS)


def test_the_snapshot_after_subscribing_is_no_tick() -> None:
    """FEE-13."""
    assert prices().receive(frame("ticker", [ticker("68900.50", kind="snapshot")])) == Snapshot("BTC-USD", D("68900.50"))


def test_several_events_in_one_frame_all_count() -> None:
    told = prices().receive(frame("ticker", [ticker("1"), ticker("2", "ETH-USD")]))

    assert told == Several((Tick("BTC-USD", D(1), AT_MS), Tick("ETH-USD", D(2), AT_MS)))


@pytest.mark.parametrize("bad", ["", None, True, "abc", [1]])
def test_one_bad_price_in_a_frame_costs_only_itself(bad: Any) -> None:
    """FEE-05, FEE-08."""
    told = prices().receive(frame("ticker", [ticker("1"), ticker(bad), ticker("2", "ETH-USD")]))

    assert told == Several((Tick("BTC-USD", D(1), AT_MS), Noise("malformed tick"), Tick("ETH-USD", D(2), AT_MS)))


def test_empty_frames_and_tickers_without_a_product_are_nothing() -> None:
    dialect = prices()

    told = [
        dialect.receive(frame("ticker", events, n)) for n, events in enumerate(([ticker("1", "")], [], [{"type": "update"}]), 1)
    ]

    assert told == [Noise("no product"), Noise("nothing in it"), Noise("nothing in it")]


def test_a_frame_without_a_time_gives_a_tick_without_one() -> None:
    told = prices().receive(frame("ticker", [ticker("1")], timestamp="now"))

    assert told == Tick("BTC-USD", D(1), None)


ALIASES = {
    "one of them": ([("BTC-USDC", "BTC-USD")], ("BTC-USDC",)),
    "both": ([("BTC-USDC", "BTC-USD"), ("BTC-USD", "BTC-USDC")], ("BTC-USD", "BTC-USDC")),
    "the other": ([("BTC-USD", "BTC-USDC")], ("BTC-USD",)),
}


@pytest.mark.parametrize("name", ALIASES)
def test_a_price_of_the_book_is_the_price_of_each_of_its_names(name: str) -> None:
    """REC-10, pitfall 9: BTC-USDC is subscribed, the ticks say BTC-USD."""
    pairs, symbols = ALIASES[name]
    dialect = prices(*symbols, spelling=names(*pairs))

    told = [
        dialect.receive(frame("ticker", [ticker("1")], 1)),
        dialect.receive(frame("subscriptions", [{"subscriptions": {"ticker": ["BTC-USD"], "heartbeats": ["heartbeats"]}}], 2)),
    ]

    ticks = tuple(Tick(symbol, D(1), AT_MS) for symbol in symbols)
    assert told == [ticks[0] if len(ticks) == 1 else Several(ticks), Subscribed(symbols, {})]


def test_the_cumulative_acknowledgement_confirms_what_it_lists() -> None:
    """FEE-09."""
    answer = [{"subscriptions": {"ticker": ["ETH-USD", "BTC-USD"], "heartbeats": ["heartbeats"]}}]

    dialect = prices()
    told = [
        dialect.receive(frame("subscriptions", answer)),
        dialect.receive(frame("subscriptions", [{"subscriptions": {"heartbeats": ["heartbeats"]}}], 2)),
    ]

    assert told == [Subscribed(("ETH-USD", "BTC-USD"), {}), Subscribed((), {})]


# -- numbers ---------------------------------------------------------------------------------------------------------------------


def beat(number: Any) -> bytes:
    return frame("heartbeats", [{"current_time": AT, "heartbeat_counter": "7"}], number)


def test_numbers_count_over_all_channels_of_a_connection() -> None:
    """FEE-04: ticks, acknowledgements and heartbeats share them; the first may be any."""
    dialect = prices()
    frames = [
        beat(5),
        frame("ticker", [ticker("1")], 6),
        frame("subscriptions", [], 7),
        beat(8),
        frame("ticker", [ticker("2")], 9),
    ]

    told = [type(dialect.receive(each)) for each in frames]

    assert told == [Noise, Tick, Subscribed, Noise, Tick]


def test_a_gap_gives_the_connection_up_whatever_frame_shows_it() -> None:
    """FEE-04."""
    told: list[Message] = []
    for late in (beat(9), frame("ticker", [ticker("1")], 9), frame("l2_data", [], 9)):
        dialect = prices()
        dialect.receive(beat(5))
        told.append(dialect.receive(late))

    assert told == [Gap("frames 6 to 8 of the venue's stream are missing")] * 3


def test_what_comes_again_changes_nothing() -> None:
    """FEE-04."""
    dialect = prices()
    for number in (5, 6):
        dialect.receive(beat(number))

    told = [dialect.receive(frame("ticker", [ticker("1")], number)) for number in (6, 5, 7)]

    assert told == [Noise("old sequence number"), Noise("old sequence number"), Tick("BTC-USD", D(1), AT_MS)]


def test_a_new_connection_counts_anew() -> None:
    dialect = prices()
    dialect.receive(beat(500))

    dialect.hello()

    assert dialect.receive(beat(0)) == Noise("heartbeat")


# -- errors ----------------------------------------------------------------------------------------------------------------------

OTHERS = [
    (b'{"type":"error","message":"authentication failure"}', LoginRefused("authentication failure")),
    (b'{"type":"error","message":"subscribe or unsubscribe required"}', Trouble("subscribe or unsubscribe required")),
    (b'{"type":"error"}', Trouble("no reason given")),
    (b'{"type":"news"}', Noise("unknown type")),
    (b"{}", Noise("unknown type")),
    (b"", Noise("malformed")),
    (b"[1,2]", Noise("malformed")),
    (b"\xff\xfe", Noise("malformed")),
    (b'{"channel":"ticker","sequence_num":"x"}', Noise("malformed")),
    (b"[" * 100_000, Noise("malformed")),
    (frame("l2_data", [{"type": "snapshot"}]), Noise("unknown channel")),
]


@pytest.mark.parametrize(("text", "told"), OTHERS)
def test_everything_else_is_said_or_counted_and_never_raises(text: bytes, told: Message) -> None:
    """FEE-08."""
    assert (prices().receive(text), orders()[0].receive(text)) == (told, told)


# -- orders ----------------------------------------------------------------------------------------------------------------------


def update(uuid: str = "u", **more: Any) -> dict[str, Any]:
    return {
        "order_id": "a1b2",
        "client_order_id": uuid,
        "product_id": "BTC-USD",
        "order_side": "BUY",
        "order_type": "Limit",
        "status": "OPEN",
        "cumulative_quantity": "0.004",
        "leaves_quantity": "0.006",
        "avg_price": "68900",
        "filled_value": "",
        "total_fees": "1.6",
        "limit_price": "68900",
        "stop_price": "",
        "cancel_reason": "",
        "reject_reason": "",
        "creation_time": AT,
        "post_only": "false",
    } | more


def said(**more: Any) -> Message:
    dialect, uuid = orders()
    return dialect.receive(frame("user", [{"type": "update", "orders": [update(uuid, **more)]}]))


ROW = OrderRow(
    venue_id="a1b2",
    symbol="BTC-USD",
    side=Side.BUY,
    state=Reported.WORKING,
    qty=D("0.010"),
    type=OrderType.LIMIT,
    limit_price=D("68900"),
    filled=D("0.004"),
    average=D("68900"),
    client_id=OURS,
    at_ms=AT_MS,
    label=ClientIds("journal-1", OS_THREADS).uuid(OURS),
)


def changed(**more: Any) -> OrderRow:
    return OrderRow(**({name: getattr(ROW, name) for name in ROW.__struct_fields__} | more))


def test_an_update_is_a_row_with_what_it_filled_so_far() -> None:
    """UNK-10: our own id is known again in it."""
    assert said() == ROW


def test_of_a_cancelled_order_the_filled_quantity_is_the_cumulative_one() -> None:
    """FIL-16, pitfall 7: `leaves_quantity` is 0 in every terminal state."""
    told = said(status="CANCELLED", leaves_quantity="0", cancel_reason="User requested cancel")

    assert told == changed(state=Reported.CANCELLED, qty=D("0.004"), reason="User requested cancel")


def test_a_stop_is_a_stop_limit_here() -> None:
    told = said(order_type="Stop Limit", stop_price="68000", limit_price="64600", cumulative_quantity="0", avg_price="0")

    stop = {"type": OrderType.STOP_LIMIT, "trigger_price": D("68000"), "limit_price": D("64600"), "qty": D("0.006")}
    assert told == changed(**stop, filled=D(0), average=None)


def test_missing_prices_are_none() -> None:
    told = said(limit_price="", order_type="Market", stop_price=None, avg_price="68900.12")

    assert told == changed(type=OrderType.MARKET, limit_price=None, average=D("68900.12"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_side": ""},
        {"order_id": None},
        {"cumulative_quantity": ""},
        {"cumulative_quantity": "NaN"},
        {"leaves_quantity": ""},
        {"leaves_quantity": "0"},
        {"avg_price": "0"},
        {"avg_price": "-1"},
    ],
)
def test_an_update_that_lacks_something_is_not_used_and_the_venue_is_asked(wrong: dict[str, Any]) -> None:
    """FIL-16."""
    assert said(**wrong) == Incomplete("an order update lacks its side, quantity, price or more; asking the venue")


def test_an_unknown_status_word_is_unclear() -> None:
    assert said(status="NEW_WORD") == changed(state=Reported.UNCLEAR)


def test_a_snapshot_of_open_orders_is_their_rows_and_an_empty_one_is_nothing() -> None:
    dialect, uuid = orders()

    rows = dialect.receive(frame("user", [{"type": "snapshot", "orders": [update(uuid), update("stranger", order_id="c3")]}]))
    none = dialect.receive(frame("user", [{"type": "snapshot", "orders": []}], 2))

    assert rows == Several((ROW, changed(venue_id="c3", client_id=None, label="stranger")))
    assert none == Noise("nothing in it")


def test_an_event_that_cannot_be_read_costs_only_itself() -> None:
    dialect, uuid = orders()

    told = dialect.receive(frame("user", [{"orders": "x"}, {"type": "update", "orders": [update(uuid)]}]))

    assert told == Several((Incomplete("an event of our orders cannot be read; asking the venue"), ROW))


def test_the_user_channel_is_confirmed_by_its_own_name() -> None:
    dialect, _ = orders()

    told = [
        dialect.receive(frame("subscriptions", [{"subscriptions": listed}], n))
        for n, listed in enumerate(({"heartbeats": ["heartbeats"]}, {"heartbeats": ["heartbeats"], "user": ["p"]}), 1)
    ]

    assert told == [Noise("subscriptions"), OrdersSubscribed()]


def test_prices_are_exact_and_never_floats() -> None:
    """FEE-05."""
    told = [prices().receive(frame("ticker", [ticker(text)])) for text in ("7.3115e2", "5.1e-05", "0.00000001", "NaN")]

    assert [str(tick.price) for tick in told if isinstance(tick, Tick)] == ["731.15", "0.000051", "1E-8", "NaN"]
