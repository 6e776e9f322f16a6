"""The Coinbase adapter over real sockets, against a double written from the venue sheet: requests, answers, four outcomes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from brokers.base import Fatal, PositionRow, Refused, Reported, Resolver, Unanswered, Unavailable, Unreadable
from brokers.coinbase import Coinbase
from brokers.rate_limit import Lane
from brokers.venues import Account, connect
from state.clock import VirtualClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from tests.brokers.coinbase_double import (
    BASE,
    KEY_NAME,
    LOST_AFTER,
    LOST_BEFORE,
    SECRET,
    CoinbaseDouble,
    answers,
    late,
    ms,
    no,
    product,
    refusal,
)

D = Decimal
WINDOW_S = 30.0
ENTRY, STOP = "BTC-USD-20261120-E0", "BTC-USD-20261120-S1"
ENTRY_UUID = "17fafb90-2de3-4c72-ab48-ebf7b2f99d15"


@pytest.fixture
def venue() -> Iterator[CoinbaseDouble]:
    with CoinbaseDouble(USD="1000000", BTC="1") as double:
        yield double


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(ms())


def account(venue: CoinbaseDouble, **more: Any) -> Account:
    keys = {"COINBASE_API_KEY": KEY_NAME, "COINBASE_API_SECRET": SECRET.replace("\n", "\\n")}
    known: dict[str, Any] = {
        "broker": "coinbase",
        "rest_url": venue.rest_url,
        "ws_url": venue.ws_url,
        "stream_url": venue.stream_url,
        "exchange": "COINBASE",
        "product": "",
        "timezone": "UTC",
        "timeout_s": 5.0,
        "settle_window_s": WINDOW_S,
        "keys": keys,
        "identity": "journal-1",
    }
    return Account(**(known | more))


@pytest.fixture
def broker(venue: CoinbaseDouble, clock: VirtualClock) -> Iterator[Coinbase]:
    made, _ = connect(account(venue), clock)
    assert isinstance(made, Coinbase)
    made.instrument("BTC-USD")
    yield made
    made.close()


def order(clock: VirtualClock, client_id: str = ENTRY, **more: Any) -> Order:
    known: dict[str, Any] = {"purpose": Purpose.ENTRY, "side": Side.BUY, "type": OrderType.LIMIT, "qty": D("0.01")}
    prices = {"limit_price": D("60000.00"), "created_ms": clock.now_ms()}
    return Order(client_id, "BTC-USD", **(known | prices | more))


def stop(clock: VirtualClock, **more: Any) -> Order:
    known: dict[str, Any] = {"purpose": Purpose.STOP, "side": Side.SELL, "type": OrderType.STOP, "trigger_price": D("59000.00")}
    return order(clock, STOP, **(known | {"limit_price": None} | more))


def placed(broker: Coinbase, made: Order) -> Order:
    return msgspec.structs.replace(made, venue_id=broker.submit(made))


# -- requests, byte for byte -----------------------------------------------------------------------------------------------------


def test_a_limit_order_is_sent_as_documented(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """PRO-19."""
    venue_id = broker.submit(order(clock))

    (seen,) = venue.asked("orders")
    assert (venue_id, seen.method, seen.query) == ("1", "POST", {})
    assert seen.body == (
        b'{"client_order_id":"17fafb90-2de3-4c72-ab48-ebf7b2f99d15","product_id":"BTC-USD","side":"BUY",'
        b'"order_configuration":{"limit_limit_gtc":{"base_size":"0.01","limit_price":"60000","post_only":false}}}'
    )
    assert seen.headers["content-type"] == "application/json"


def test_a_stop_goes_out_as_a_stop_limit_with_the_configured_slippage(venue: CoinbaseDouble, clock: VirtualClock) -> None:
    """PRO-19: SELL stops fire downwards. 2 % beyond 59000 is 57820."""
    broker, _ = connect(account(venue, stop_slippage=D("0.02")), clock)

    broker.submit(stop(clock))

    sent = json.loads(venue.asked("orders")[-1].body)
    assert sent["order_configuration"] == {
        "stop_limit_stop_limit_gtc": {
            "base_size": "0.01",
            "limit_price": "57820",
            "stop_price": "59000",
            "stop_direction": "STOP_DIRECTION_STOP_DOWN",
        }
    }


def test_an_edit_names_price_and_size_and_the_stop_price_with_them(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """Pitfall 6: what is left out of an edit counts as 0. The limit of a stop moves with its trigger."""
    resting, limit = placed(broker, stop(clock)), placed(broker, order(clock, limit_price=D("50000.00")))

    broker.replace(resting, D("0.02"), D("59500.00"), None)
    broker.replace(limit, D("0.03"), None, D("51000.50"))

    assert [seen.body for seen in venue.asked("orders/edit")] == [
        b'{"order_id":"1","price":"56525","size":"0.02","stop_price":"59500"}',
        b'{"order_id":"2","price":"51000.5","size":"0.03"}',
    ]
    rows = [(row.qty, row.trigger_price, row.limit_price) for row in broker.orders()]
    assert rows == [(D("0.02"), D("59500"), D("56525")), (D("0.03"), None, D("51000.5"))]


def test_a_cancel_names_one_venue_order(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    resting = placed(broker, order(clock, limit_price=D("50000.00")))

    broker.cancel(resting)

    assert [seen.body for seen in venue.asked("orders/batch_cancel")] == [b'{"order_ids":["1"]}']
    assert [row.state for row in broker.orders()] == [Reported.CANCELLED]


def test_reads_ask_without_a_body_and_without_a_status_filter(venue: CoinbaseDouble, clock: VirtualClock) -> None:
    """Pitfalls 4 and 11: OPEN would hide PENDING and QUEUED; without a limit there are 49 accounts."""
    clock = VirtualClock(1_795_176_000_000)
    broker, _ = connect(account(venue), clock)

    for read in (broker.orders, broker.fills, broker.positions):
        read()
    broker.quotes(["BTC-USD"])
    broker.order(stop(clock, venue_id="7/8"))

    since = "2026-11-19T12:00:00Z"
    assert [(seen.method, seen.path, seen.query, seen.body) for seen in venue.seen] == [
        ("GET", "orders/historical/batch", {"start_date": [since], "limit": ["250"]}, b""),
        ("GET", "orders/historical/fills", {"start_sequence_timestamp": [since], "limit": ["250"]}, b""),
        ("GET", "accounts", {"limit": ["250"]}, b""),
        ("GET", "products/BTC-USD", {}, b""),
        ("GET", "orders/historical/7%2F8", {}, b""),
    ]


def test_each_request_has_a_token_of_its_own_for_its_path_without_the_query(venue: CoinbaseDouble, broker: Coinbase) -> None:
    """Pitfalls 3 and 18."""
    broker.orders()
    broker.fills()

    uris = [token["claims"]["uri"] for token in venue.tokens]
    assert uris == [
        f"GET {venue.host}{BASE}/{path}" for path in ("products/BTC-USD", "orders/historical/batch", "orders/historical/fills")
    ]
    assert len({token["header"]["nonce"] for token in venue.tokens}) == 3


def test_orders_that_are_pending_are_orders(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """Pitfall 4."""
    broker.submit(order(clock, limit_price=D("50000.00")))
    venue.words["1"] = "QUEUED"

    assert [(row.venue_id, row.state, row.client_id) for row in broker.orders()] == [("1", Reported.WORKING, ENTRY)]


# -- answers to a submit ---------------------------------------------------------------------------------------------------------


def test_success_alone_decides_whatever_stands_beside_it(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """Pitfalls 1 and 2: the double's success carries an `error_response` and UNKNOWN_FAILURE_REASON, as documented."""
    assert broker.submit(order(clock)) == "1"


@pytest.mark.parametrize("reason", ["INSUFFICIENT_FUND", "INVALID_PRICE_PRECISION", "ORDER_ENTRY_DISABLED", "A_NEW_REASON"])
def test_a_refusal_is_http_200(reason: str, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """NET-13: Refused, told word for word, a reason that nobody listed too."""
    venue.fault("orders", no(reason))

    with pytest.raises(Refused, match=f"^orders: {reason} no$"):
        broker.submit(order(clock))


def test_a_sell_of_what_a_resting_sell_holds_is_refused_for_funds(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """PRO-20, pitfall 14."""
    resting = placed(broker, stop(clock, qty=D(1)))
    sale = order(clock, "BTC-USD-20261120-X2", side=Side.SELL, type=OrderType.MARKET, limit_price=None, qty=D(1))
    with pytest.raises(Refused, match="INSUFFICIENT_FUND"):
        broker.submit(sale)

    broker.cancel(resting)

    assert broker.submit(sale) == "2"


UNUSABLE = {
    "lost before": LOST_BEFORE,
    "lost after": LOST_AFTER,
    "html": answers(200, "<html>maintenance</html>"),
    "cut short": answers(200, '{"success":tr'),
    "empty": answers(200, ""),
    "no success": answers(200, {"order_id": "9"}),
    "success as a word": answers(200, {"success": "true", "success_response": {"order_id": "9"}}),
    "no id": answers(200, {"success": True, "success_response": {}}, acts=True),
    "an id that is none": answers(200, {"success": True, "success_response": {"order_id": 0}}),
    "of another order": answers(200, {"success": True, "success_response": {"order_id": "9", "client_order_id": "x"}}),
    "500": answers(500, {"error": "INTERNAL"}, acts=True),
    "502 page": answers(502, "<html>bad gateway</html>"),
    "503": answers(503, {"message": "unavailable"}),
    "no reason": no("UNKNOWN_FAILURE_REASON"),
    "commander": no("COMMANDER_REJECTED_NEW_ORDER"),
    "duplicate": no("DUPLICATE_CLIENT_ORDER_ID"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_answer_that_says_nothing_leaves_it_open_and_nothing_is_sent_twice(
    name: str, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-02, UNK-03, UNK-04."""
    venue.fault("orders", UNUSABLE[name])

    with pytest.raises(Unanswered):
        broker.submit(order(clock))

    assert len(venue.asked("orders")) == 1


def test_a_defect_of_ours_after_the_send_does_not_mean_not_sent(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNK-04."""
    monkeypatch.setattr(Coinbase, "_placed", lambda *_: 1 / 0)

    with pytest.raises(Unanswered, match="the reply could not be used, ZeroDivisionError"):
        broker.submit(order(clock))


def test_nothing_is_open_when_nobody_listens(clock: VirtualClock) -> None:
    """UNK-06."""
    with CoinbaseDouble() as gone:
        made, _ = connect(account(gone), clock)
        made.instrument("BTC-USD")
    made.close()
    broker, _ = connect(account(gone), clock)
    assert isinstance(broker, Coinbase)
    broker._instruments["BTC-USD"] = Instrument("BTC-USD", "COINBASE", D("0.01"), D("1E-8"))

    with pytest.raises(Unavailable) as failed:
        broker.submit(order(clock))

    assert not isinstance(failed.value, Unanswered)


def test_429_was_not_carried_out_and_may_say_how_long_to_wait(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """NET-01."""
    limited = {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
    venue.fault("orders", answers(429, limited), answers(429, limited, headers={"Retry-After": "7"}), answers(429, "slow down"))

    waits = []
    for _ in range(3):
        with pytest.raises(Unavailable) as failed:
            broker.submit(order(clock))
        waits.append(failed.value.retry_after_s)

    assert waits == [None, 7.0, None]


FATAL = {
    "another portfolio": answers(400, {"error": "INVALID_ARGUMENT", "error_details": "account is not available", "message": "x"}),
    "no permission": answers(403, {"error": "PERMISSION_DENIED", "error_details": "Missing required scopes"}),
    "second factor": answers(400, {"error": "proof_token_required"}),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_no_retry_can_cure_is_fatal(name: str, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """NET-05."""
    venue.fault("orders", FATAL[name])

    with pytest.raises(Fatal):
        broker.submit(order(clock))


def test_a_bad_token_on_an_order_is_tried_later_once_and_then_fatal(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """NET-04: a good answer in between forgives the first."""
    bad = answers(401, "Unauthorized")
    outcomes: list[type] = []
    venue.fault("orders", bad, no("INVALID_SIDE"), bad, bad)
    for _ in range(4):
        with pytest.raises((Unavailable, Refused, Fatal)) as failed:
            broker.submit(order(clock))
        outcomes.append(type(failed.value))

    assert outcomes == [Unavailable, Refused, Unavailable, Fatal]


def test_a_read_with_a_bad_token_is_asked_once_more_and_then_fatal(venue: CoinbaseDouble, broker: Coinbase) -> None:
    """NET-04."""
    bad = answers(401, "Unauthorized")
    venue.fault("accounts", bad)
    assert [row.symbol for row in broker.positions()] == ["USD", "BTC"]

    venue.fault("accounts", bad, bad)
    with pytest.raises(Fatal, match="the key is wrong, or this machine's clock"):
        broker.positions()

    assert len(venue.asked("accounts")) == 4


# -- changes ---------------------------------------------------------------------------------------------------------------------

CANCELS = ["UNKNOWN_CANCEL_ORDER", "INVALID_CANCEL_REQUEST", "COMMANDER_REJECTED_CANCEL_ORDER", "INVALID_CANCEL_PRODUCT_ID"]
CANCELS += [
    "NOT_ALLOWED_TO_CANCEL",
    "ORDER_IS_FULLY_FILLED",
    "ORDER_IS_BEING_REPLACED",
    "INVALID_CANCEL_FCM_TRADING_SESSION",
    "NEW_ONE",
]


def cancelled(reason: str, success: Any = False) -> dict[str, Any]:
    return {"results": [{"success": success, "failure_reason": reason, "order_id": "1"}]}


@pytest.mark.parametrize("reason", CANCELS)
def test_a_cancel_that_is_refused_says_why(reason: str, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """NET-13: HTTP 200 again."""
    venue.fault("orders/batch_cancel", answers(200, cancelled(reason)))

    with pytest.raises(Refused, match=f"orders/batch_cancel: {reason}"):
        broker.cancel(order(clock, venue_id="1"))


def test_a_cancel_that_is_under_way_already_is_a_cancel(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    venue.fault("orders/batch_cancel", answers(200, cancelled("DUPLICATE_CANCEL_REQUEST")))

    broker.cancel(order(clock, venue_id="1"))

    assert len(venue.asked("orders/batch_cancel")) == 1


OPEN_CHANGES = [
    LOST_BEFORE,
    LOST_AFTER,
    answers(200, {}),
    answers(200, {"results": []}),
    answers(200, {"results": [{"order_id": "2", "success": True}]}),
    answers(200, {"results": [{"order_id": "1"}]}),
    answers(500, {}),
    answers(200, "<html>"),
]


@pytest.mark.parametrize("fault", OPEN_CHANGES)
def test_a_change_without_a_usable_answer_may_have_happened(
    fault: Any, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-11."""
    venue.fault("orders/batch_cancel", fault)
    venue.fault("orders/edit", fault)
    for change in (broker.cancel, lambda made: broker.replace(made, D(1), None, D(5))):
        with pytest.raises(Unanswered):
            change(order(clock, venue_id="1"))


def test_an_edit_that_is_refused_says_why(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    with pytest.raises(Refused, match="orders/edit: ORDER_NOT_FOUND"):
        broker.replace(order(clock, venue_id="77"), D(1), None, D(5))


def test_without_a_venue_id_nothing_is_asked(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    for ask in (broker.cancel, broker.order, lambda made: broker.replace(made, D(1), None, D(5))):
        with pytest.raises(Unavailable, match="has no venue order id yet"):
            ask(order(clock))

    assert [seen.path for seen in venue.seen] == ["products/BTC-USD"]


# -- reads -----------------------------------------------------------------------------------------------------------------------


def test_an_order_is_asked_for_by_its_venue_id_or_is_not_there(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    resting = placed(broker, order(clock, limit_price=D("50000.00")))

    row, none = broker.order(resting), broker.order(msgspec.structs.replace(resting, venue_id="77"))

    assert row is not None and (row.venue_id, row.client_id, row.state, none) == ("1", ENTRY, Reported.WORKING, None)


def test_our_own_id_is_known_again_after_a_restart(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    resting = placed(broker, order(clock, limit_price=D("50000.00")))
    again, _ = connect(account(venue), clock)

    before = again.orders()[0].client_id
    row = again.order(resting)

    assert row is not None and (before, row.client_id, again.orders()[0].client_id) == (None, ENTRY, ENTRY)


BROKEN = {
    "html": (answers(200, "<html>maintenance</html>"), Unreadable),
    "500": (answers(500, {"message": "x"}), Unavailable),
    "maintenance page": (answers(503, "<html>"), Unavailable),
    "lost": (LOST_BEFORE, Unavailable),
    "429": (answers(429, "x"), Unavailable),
    "a list that is none": (answers(200, {"orders": None, "fills": "", "accounts": {}}), Unreadable),
    "rows that are none": (answers(200, {"orders": [1], "fills": [None], "accounts": ["x"]}), Unreadable),
    "nothing at all": (answers(200, {}), Unreadable),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_failed_read_is_never_an_empty_one(name: str, venue: CoinbaseDouble, broker: Coinbase) -> None:
    """NET-13, REC-14."""
    fault, error = BROKEN[name]
    for path, ask in (
        ("orders/historical/batch", broker.orders),
        ("orders/historical/fills", broker.fills),
        ("accounts", broker.positions),
    ):
        venue.fault(path, fault)
        with pytest.raises(Unavailable) as failed:
            ask()
        assert type(failed.value) is error


def test_books_are_read_to_their_last_page(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """Pitfall 11."""
    venue.page = 3
    for n in range(8):
        broker.submit(order(clock, f"BTC-USD-20261120-E{n}", limit_price=None, type=OrderType.MARKET))
    venue.price("BTC-USD", "60000.00")
    venue.balances |= {f"C{n}": D(n) for n in range(5)}

    found = len(broker.orders()), len(broker.fills()), len(broker.positions())

    assert found == (8, 8, 7)
    assert [len(venue.asked(path)) for path in ("orders/historical/batch", "orders/historical/fills", "accounts")] == [3, 3, 3]


def test_a_book_without_an_end_is_no_book(venue: CoinbaseDouble, broker: Coinbase) -> None:
    venue.fault("accounts", *[answers(200, {"accounts": [], "cursor": "x", "has_next": True})])
    assert broker.positions() == []  # an empty page is the last one, whatever it says

    row = {"currency": "A", "available_balance": {"value": "1"}, "hold": {"value": "0"}}
    venue.fault("accounts", *[answers(200, {"accounts": [row], "cursor": "x", "has_next": True})] * 20)
    with pytest.raises(Unavailable, match="more than 20 pages"):
        broker.positions()


def test_balances_are_what_is_free_and_what_is_held_by_currency(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    broker.submit(stop(clock, qty=D("0.4")))

    assert (broker.capabilities.balances, broker.positions()) == (
        True,
        [PositionRow("USD", D(1000000)), PositionRow("BTC", D(1))],
    )


def test_an_account_that_cannot_be_read_is_not_left_out(venue: CoinbaseDouble, broker: Coinbase) -> None:
    for row in (
        {"currency": "BTC", "available_balance": {"value": "1"}},
        {"available_balance": {"value": "1"}, "hold": {"value": "0"}},
    ):
        venue.fault("accounts", answers(200, {"accounts": [row], "has_next": False}))
        with pytest.raises(Unreadable, match="schema: account of"):
            broker.positions()


def test_a_row_of_a_stranger_that_cannot_be_used_costs_only_itself(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """FIL-16: counted, told once."""
    broker.submit(order(clock, limit_price=D("50000.00")))
    good = venue.order_row(venue.working()[0])
    venue.fault("orders/historical/batch", *[answers(200, {"orders": [{"order_id": "x", "side": "?"}, good]})] * 2)
    venue.more_fills = [{"entry_id": "e9", "order_id": "x"}]

    with caplog.at_level(logging.WARNING):
        found = [[row.venue_id for row in broker.orders()] for _ in range(2)], broker.fills()

    assert (found, broker.refused(), len(caplog.records)) == (([["1"], ["1"]], []), {"refused rows": 2}, 2)


def test_an_execution_that_is_taken_back_does_not_count_and_is_told(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    broker.submit(order(clock, type=OrderType.MARKET, limit_price=None))
    venue.price("BTC-USD", "60000.00")
    venue.more_fills = [venue.fill_rows()[0] | {"entry_id": "e9", "trade_type": "REVERSAL"}]

    with caplog.at_level(logging.WARNING):
        fills = broker.fills()

    assert (fills, broker.refused()) == ([], {"refused rows": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "REVERSAL of 0.01 @ 60000.00 of venue order 1: it does not count, look at the account"
    ]


@pytest.mark.parametrize("flag", ["is_disabled", "trading_disabled", "view_only"])
def test_a_product_that_is_not_traded_any_more_is_refused_by_name(flag: str, clock: VirtualClock) -> None:
    with CoinbaseDouble((product("BTC-USD", **{flag: True}), product("OLD-USD", status="delisted"))) as venue:
        broker, _ = connect(account(venue), clock)
        for symbol, why in (("BTC-USD", flag), ("OLD-USD", "delisted"), ("NO-SUCH", "valid product_id is required")):
            with pytest.raises(Refused, match=why):
                broker.instrument(symbol)


def test_a_product_that_is_closed_for_a_while_is_told_and_kept(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """What is held in it must stay watched."""
    with CoinbaseDouble((product("BTC-USD", cancel_only=True),)) as venue, caplog.at_level(logging.WARNING):
        broker, _ = connect(account(venue), clock)
        found = broker.instrument("BTC-USD")

    assert found.tick_size == D("0.01")
    assert "BTC-USD is cancel_only for now: the venue refuses other orders until that has passed" in caplog.messages


# -- the first call --------------------------------------------------------------------------------------------------------------


def test_a_key_that_may_trade_passes(venue: CoinbaseDouble, broker: Coinbase) -> None:
    assert broker.check() == "live"


@pytest.mark.parametrize("missing", ["can_view", "can_trade"])
def test_a_key_without_a_permission_is_fatal_at_the_start(missing: str, venue: CoinbaseDouble, broker: Coinbase) -> None:
    """NET-05."""
    venue.permissions[missing] = False

    with pytest.raises(Fatal, match=f"the key has not the permission {missing}"):
        broker.check()


def test_a_key_that_may_transfer_is_warned_of(venue: CoinbaseDouble, broker: Coinbase, caplog: pytest.LogCaptureFixture) -> None:
    venue.permissions["can_transfer"] = True

    with caplog.at_level(logging.WARNING):
        broker.check()

    assert "the key may transfer money out of the account: trading needs no such permission" in caplog.messages


def test_a_wrong_key_is_fatal_at_the_start(venue: CoinbaseDouble, broker: Coinbase) -> None:
    """NET-05."""
    venue.tokens_valid = False

    with pytest.raises(Fatal, match="^key_permissions: HTTP 401"):
        broker.check()


def test_without_a_key_prices_and_instruments_are_public_and_orders_are_not(venue: CoinbaseDouble, clock: VirtualClock) -> None:
    broker, streams = connect(account(venue, keys={}), clock)

    found = broker.check(), broker.instrument("BTC-USD").tick_size, broker.quotes(["BTC-USD"]), streams.orders
    with pytest.raises(Fatal, match="there is no key for orders"):
        broker.submit(order(clock))

    assert found == ("prices only", D("0.01"), {"BTC-USD": D("60000.00")}, None)
    assert all("authorization" not in seen.headers for seen in venue.seen)
    assert [seen.path for seen in venue.seen] == ["time", "market/products/BTC-USD", "market/products/BTC-USD"]


@pytest.mark.parametrize("ahead_s", [10, -600])
def test_a_clock_that_is_off_is_told_and_tokens_are_made_by_the_venues_time(
    ahead_s: int, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """The answer to the first, refused token says what time it is; with it the same read passes, and protection can go on."""
    venue.behind_ms = ahead_s * 1000
    broker, _ = connect(account(venue), clock)  # type: ignore[assignment]

    assert (broker.check(), len(venue.asked("key_permissions"))) == ("live", 2)
    assert abs((broker.skew_ms() or 0) - ahead_s * 1000) <= 1_100
    assert broker.submit(order(clock)) == "1"


def test_nothing_secret_is_in_any_error(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    texts = []
    for fault in (LOST_AFTER, answers(500, {"error": "x"}), no("Y"), answers(401, "Unauthorized"), answers(200, "<html>")):
        venue.fault("orders", fault)
        with pytest.raises(Exception) as failed:
            broker.submit(order(clock))
        texts.append(repr(failed.value) + str(failed.value.__cause__) + str(failed.value.__context__))

    secrets = [line for line in SECRET.split("\n") if line and "-----" not in line] + ["Bearer", "eyJ", KEY_NAME]
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


# -- our own brake ---------------------------------------------------------------------------------------------------------------


def test_polls_never_use_up_the_room_of_exits(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """NET-02: of the hour's requests a part is kept for exits; an exit goes out while polls are held back."""
    hour = broker._brakes[1]
    while hour.acquire(Lane.NORMAL, 0):
        clock.advance(100)
    held_back_ms = clock.monotonic_ms()
    with pytest.raises(Unavailable, match="no turn under our own rate limit"):
        broker.orders()
    clock.advance_to(held_back_ms)

    asked_ms = clock.monotonic_ms()
    placed(broker, stop(clock))

    assert clock.monotonic_ms() - asked_ms < 1_000


def test_a_look_at_what_is_not_in_question_is_afforded_every_two_seconds(broker: Coinbase, clock: VirtualClock) -> None:
    before = broker.affords_a_look(False)
    broker.orders()

    answers = [broker.affords_a_look(False), broker.affords_a_look(True)]
    clock.advance(2_000)

    assert (before, answers, broker.affords_a_look(False)) == (True, [False, True], True)


# -- resolving -------------------------------------------------------------------------------------------------------------------


def unanswered(venue: CoinbaseDouble, broker: Coinbase, made: Order, fault: Any) -> None:
    venue.fault("orders", fault)
    with pytest.raises(Unanswered):
        broker.submit(made)


def resolved(broker: Coinbase, clock: VirtualClock, made: Order, seconds: float = 90.0) -> Any:
    """What it comes to, asked as the poller asks; and after how many seconds."""
    assert isinstance(broker, Resolver)
    began_ms = clock.monotonic_ms()
    while clock.monotonic_ms() - began_ms < seconds * 1000:
        try:
            row = broker.resolve(made)
        except Unavailable:
            clock.advance(500)
        except Refused as wrong:
            return str(wrong)
        else:
            return (row.venue_id if row else None), (clock.monotonic_ms() - began_ms) / 1000
    return "not resolved"


def test_an_order_whose_answer_was_lost_comes_back_for_the_same_body(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-15: the byte-identical body again, after a second or two; one order."""
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)

    assert resolved(broker, clock, made) == ("1", 1.5)
    first, second = venue.asked("orders")
    assert (first.body == second.body, first.headers["authorization"] == second.headers["authorization"]) == (True, False)
    assert venue.created() == 1


def test_the_time_before_the_repeat_counts_from_the_send(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)
    clock.advance(1_500)

    assert resolved(broker, clock, made) == ("1", 0.0)


def test_an_order_that_never_arrived_arrives_with_the_repeat(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-15."""
    made = order(clock)
    unanswered(venue, broker, made, LOST_BEFORE)

    assert (resolved(broker, clock, made), venue.created()) == (("1", 1.5), 1)


def test_an_order_that_arrives_after_its_repeat_is_one_order(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-07: the late one carries the same id."""
    made = order(clock)
    unanswered(venue, broker, made, late())

    found = resolved(broker, clock, made)
    venue.let_go()

    assert (found, venue.created()) == (("1", 1.5), 1)


def test_what_was_accepted_by_the_repeat_and_is_not_shown_yet_is_waited_for(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)
    gone = answers(404, {"error": "NOT_FOUND", "message": "order with this orderID was not found"})
    venue.fault("orders/historical/1", gone, gone)

    assert (resolved(broker, clock, made), len(venue.asked("orders"))) == (("1", 3.5), 2)


def test_a_no_on_the_repeat_proves_nothing_and_the_order_is_found_in_the_list(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-15: the first one holds the funds, which is why the second is refused."""
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)
    venue.fault("orders", no("INSUFFICIENT_FUND"))

    assert (resolved(broker, clock, made), len(venue.asked("orders"))) == (("1", 1.5), 2)


def test_what_is_nowhere_after_the_whole_window_was_never_sent(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-07, UNK-15: three repeats, each refused; absence counts one window after the last of them, seen twice."""
    made = order(clock)
    unanswered(venue, broker, made, LOST_BEFORE)
    venue.fault("orders", *[no("INSUFFICIENT_FUND")] * 3)

    venue_id, seconds = resolved(broker, clock, made)

    assert (venue_id, venue.created(), len(venue.asked("orders"))) == (None, 0, 4)
    assert seconds >= 1.5 + 4 + 10 + WINDOW_S + 2


def test_while_nothing_is_answered_nothing_is_concluded(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """REC-03: no lookup works for two minutes; then the order is there."""
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)
    venue.fault("orders", *[LOST_BEFORE] * 3)
    venue.fault("orders/historical/batch", *[answers(503, "<html>")] * 60)

    assert resolved(broker, clock, made, 120)[0] == "1"


@pytest.mark.parametrize("reason", ["COMMANDER_REJECTED_NEW_ORDER", "UNKNOWN_FAILURE_REASON"])
def test_an_uncertain_no_is_looked_for_and_never_sent_again(
    reason: str, venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    made = order(clock)
    unanswered(venue, broker, made, no(reason))

    found = resolved(broker, clock, made)

    assert (found[0], len(venue.asked("orders")), found[1] >= WINDOW_S + 2) == (None, 1, True)


def test_an_uncertain_no_of_an_order_that_is_there_is_found(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    made = order(clock)
    unanswered(venue, broker, made, answers(200, refusal("COMMANDER_REJECTED_NEW_ORDER"), acts=True))

    assert resolved(broker, clock, made) == ("1", 1.5)


def test_an_id_that_the_venue_knows_is_looked_up_and_never_held_for_not_sent(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    made = order(clock)
    unanswered(venue, broker, made, no("DUPLICATE_CLIENT_ORDER_ID"))

    found = resolved(broker, clock, made)

    assert (found, len(venue.asked("orders"))) == ("the venue says that an order with this id exists, and does not show it", 1)


def test_an_order_with_our_id_that_is_not_what_we_asked_for_is_not_taken(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """UNK-15: compared field by field."""
    made = order(clock)
    venue.create({"client_order_id": ENTRY_UUID, "product_id": "BTC-USD", "side": "BUY", "order_configuration": _limit("0.02")})
    unanswered(venue, broker, made, LOST_BEFORE)

    told = resolved(broker, clock, made)

    assert told == f"venue order 1 has the id of {ENTRY}, but base_size 0.02, not 0.01"


def _limit(size: str) -> dict[str, Any]:
    return {"limit_limit_gtc": {"base_size": size, "limit_price": "60000", "post_only": False}}


def test_after_a_restart_the_question_is_asked_anew_with_the_same_body(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    made = order(clock)
    unanswered(venue, broker, made, LOST_AFTER)
    again, _ = connect(account(venue), clock)
    assert isinstance(again, Coinbase)

    found = resolved(again, clock, made)

    first, second = venue.asked("orders")
    assert (found, first.body == second.body) == (("1", 1.5), True)


def test_an_old_question_is_looked_up_and_never_sent_again(venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock) -> None:
    """Nobody knows how long the venue remembers an id, and an old entry is not wanted any more."""
    made = order(clock, created_ms=clock.now_ms() - 3_600_000)

    found = resolved(broker, clock, made)

    assert (found[0], found[1] >= WINDOW_S + 2, venue.asked("orders")) == (None, True, [])


def test_an_order_under_the_other_name_of_its_product_is_the_same_order(
    venue: CoinbaseDouble, broker: Coinbase, clock: VirtualClock
) -> None:
    """REC-10."""
    broker.instrument("BTC-USDC")
    made = msgspec.structs.replace(order(clock), symbol="BTC-USDC")
    unanswered(venue, broker, made, LOST_AFTER)

    assert resolved(broker, clock, made) == ("1", 1.5)
