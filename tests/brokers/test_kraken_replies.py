"""Kraken's words, texts and rows, one by one as the venue sheet lists them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from brokers.base import Fatal, FillRow, OrderRow, Refused, Reported, Unanswered, Unavailable, Unreadable
from brokers.client_ids import ClientIds
from brokers.kraken_key import sign
from brokers.kraken_names import Names
from brokers.kraken_replies import Asked, ExistsAlready, Failure, differs, fill_row, instrument_of, order_row, plain, result
from brokers.kraken_words import ERRORS, STATUS_WORDS, Outcome, kind_of, outcome, reported
from brokers.replies import decode
from brokers.transport import Reply
from state.clock import VirtualClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from state.threads import OS_THREADS
from tests.state.builders import D


def test_the_published_signing_vector() -> None:
    secret = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    body = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"

    signed = sign(base64.b64decode(secret), "/0/private/AddOrder", "1616492376594", body)

    assert signed == "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


# -- words -----------------------------------------------------------------------------------------------------------------------

WORDS = {
    "pending": Reported.WORKING,
    "open": Reported.WORKING,
    "closed": Reported.FILLED,
    "canceled": Reported.CANCELLED,
    "expired": Reported.EXPIRED,
    "pending_new": Reported.WORKING,
    "new": Reported.WORKING,
    "partially_filled": Reported.WORKING,
    "filled": Reported.FILLED,
}


def test_every_status_word_and_no_other() -> None:
    """NET-14: in any case and with blanks; an unlisted one is looked at."""
    one, half = D(1), D("0.5")

    assert {word: reported(f" {word.upper()} ", one, half, "") for word in WORDS} == WORDS
    assert set(STATUS_WORDS) == set(WORDS)
    assert reported("resting", one, half, "") is Reported.UNCLEAR


@pytest.mark.parametrize("word", ["open", "partially_filled", "new"])
def test_filled_is_what_the_quantities_say(word: str) -> None:
    """FIL-16."""
    assert reported(word, D("1.5"), D("1.50"), "") is Reported.FILLED


def test_a_cancel_that_nobody_asked_for_and_that_filled_nothing_is_a_rejection() -> None:
    words = [reported("canceled", D(1), D(filled), reason) for filled, reason in (("0", "Insufficient funds"), ("0.5", "x"))]

    assert words == [Reported.REJECTED, Reported.CANCELLED]
    assert reported("canceled", D(1), D(0), "User requested") is Reported.CANCELLED


def test_a_stop_that_has_fired_is_still_a_stop() -> None:
    assert [kind_of(word, True) for word in ("market", "limit", "stop-loss", "stop-loss-limit")] == [
        OrderType.STOP,
        OrderType.STOP_LIMIT,
        OrderType.STOP,
        OrderType.STOP_LIMIT,
    ]
    assert [kind_of(word, False) for word in ("market", "Limit", "settle-position")] == [OrderType.MARKET, OrderType.LIMIT, None]


# -- errors ----------------------------------------------------------------------------------------------------------------------

BY_OUTCOME: dict[Outcome, tuple[type[Exception], type[Exception]]] = {  # of an order call, of a read
    Outcome.REFUSED: (Refused, Refused),
    Outcome.UNAVAILABLE: (Unavailable, Unavailable),
    Outcome.UNANSWERED: (Unanswered, Unavailable),
    Outcome.FATAL: (Fatal, Fatal),
    Outcome.LOCKED_OUT: (Fatal, Fatal),
    Outcome.NONCE: (Unavailable, Unavailable),
    Outcome.TOO_FAST: (Unavailable, Unavailable),
    Outcome.EXISTS: (ExistsAlready, ExistsAlready),
    Outcome.GONE: (Refused, Refused),
}
SHEET = {  # section 7, row by row
    Outcome.FATAL: "EAPI:Invalid key|EAPI:Invalid signature|EGeneral:Permission denied|EAccount:Invalid permissions|EAuth:Account"
    " temporary disabled|EAuth:Account unconfirmed|EAPI:Feature disabled|ETrade:User Locked",
    Outcome.LOCKED_OUT: "EGeneral:Temporary lockout",
    Outcome.NONCE: "EAPI:Invalid nonce",
    Outcome.TOO_FAST: "EAPI:Rate limit exceeded|EGeneral:Too many requests|EAuth:Rate limit exceeded|EService: Throttled: 17628",
    Outcome.UNAVAILABLE: "EOrder:Rate limit exceeded|EOrder:Domain rate limit exceeded|EService:Market in cancel_only mode|"
    "EService:Market in post_only mode|EService:Deadline elapsed",
    Outcome.REFUSED: "EOrder:Insufficient funds|EOrder:Order minimum not met|EOrder:Cost minimum not met|EOrder:Tick size check"
    " failed|EOrder:Invalid price|EOrder:Invalid limit price|EOrder:Orders limit exceeded|EOrder:Scheduled orders limit exceeded|"
    "EOrder:Post only order|EOrder:Margin allowance exceeded|EOrder:Insufficient margin|EOrder:Margin level too low|"
    "EOrder:Positions limit exceeded|EOrder:Reduce only:No position exists|EQuery:Unknown asset pair|EGeneral:Invalid arguments|"
    "EGeneral:Invalid arguments:volume|EOrder:a text that nobody has listed",
    Outcome.EXISTS: "EGeneral:Invalid arguments:cl_ord_id not unique",
    Outcome.GONE: "EOrder:Unknown order|EOrder:Invalid order",
    Outcome.UNANSWERED: "EService:Unavailable|EService:Busy|EGeneral:Internal error|EGeneral:Internal error:17|EFuture:news",
}
TEXTS = [(text, found) for found, texts in SHEET.items() for text in texts.split("|")]


def reply(status: int, body: Any) -> Reply:
    return Reply(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 1)


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_every_error_text(text: str, expected: Outcome) -> None:
    """NET-13, NET-14: HTTP 200 that carries an error; by its beginning, whatever the blanks and the case."""
    place, read = (Failure(asked, "AddOrder", reply(200, {"error": [text]})).error for asked in (Asked.ORDER, Asked.READ))

    assert outcome(text.replace(":", ":  ").upper()) is outcome(text) is expected
    assert (type(place), type(read)) == BY_OUTCOME[expected]


def test_the_table_has_no_row_that_the_sheet_has_not() -> None:
    said = [text.replace(" ", "").lower() for text, _ in TEXTS]

    assert [row for row, _ in ERRORS if not any(text.startswith(row.replace(" ", "").lower()) for text in said)] == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (520, b"<html>error</html>"),
        (500, {"error": ["EOrder:Insufficient funds"]}),
        (200, b"<html>maintenance</html>"),
        (200, b""),
        (200, b'{"error":[],"resu'),
        (403, b"denied"),
    ],
)
def test_a_reply_that_cannot_be_used_leaves_an_order_unknown_and_a_read_unread(status: int, body: Any) -> None:
    """UNK-02, UNK-04, NET-13."""
    errors = [type(Failure(asked, "x", reply(status, body)).error) for asked in (Asked.ORDER, Asked.READ)]

    assert errors == [Unanswered, Unavailable]


def test_429_without_words_was_not_carried_out() -> None:
    """NET-01."""
    assert type(Failure(Asked.ORDER, "x", reply(429, b"slow down")).error) is Unavailable


def test_of_several_errors_the_one_that_leaves_more_open_counts() -> None:
    told = Failure(Asked.ORDER, "x", reply(200, {"error": ["EOrder:Insufficient funds", "EService:Busy"]}))

    assert type(told.error) is Unanswered


def test_a_warning_went_through() -> None:
    assert result(reply(200, {"error": ["WOrder:something"], "result": {"txid": ["O1"]}})) == {"txid": ["O1"]}


# -- rows ------------------------------------------------------------------------------------------------------------------------

ORDER: dict[str, Any] = {
    "refid": None,
    "userref": 0,
    "status": "open",
    "reason": None,
    "opentm": 1688665496.7808,
    "starttm": 0,
    "expiretm": 0,
    "descr": {
        "pair": "XBTUSD",
        "type": "sell",
        "ordertype": "stop-loss-limit",
        "price": "36000.0",
        "price2": "35900.0",
        "leverage": "none",
        "order": "...",
        "close": "",
    },
    "vol": "1.25000000",
    "vol_exec": "0.50000000",
    "cost": "18000.0",
    "fee": "28.8",
    "price": "36000.0",
    "stopprice": "36000.0",
    "limitprice": "35900.0",
    "misc": "touched",
    "oflags": "fciq",
    "trades": ["TZX2WP-XSEOP-FP7WYR"],
}
PAIR = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "base": "XXBT",
    "quote": "ZUSD",
    "pair_decimals": 1,
    "tick_size": "0.1",
    "lot_decimals": 8,
    "ordermin": "0.0001",
    "costmin": "0.5",
}


def book() -> tuple[Names, ClientIds]:
    names, ids = Names(VirtualClock()), ClientIds("journal", OS_THREADS)
    instrument_of("BTC/USD", "KRAKEN", {"XXBTZUSD": PAIR}, names)
    return names, ids


def decoded(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = decode(json.dumps(row | changes).encode())
    assert found is not None
    return found


def test_the_order_of_the_sheet() -> None:
    """The trigger is in `price`, the limit in `price2`; the average is `price` outside of the description."""
    names, ids = book()
    ours = ids.uuid("BTC/USD-20261120-S1").replace("-", "")

    row = order_row("OBCMZD-JIEE7-77TH3F", decoded(ORDER, cl_ord_id=ours), names, ids)

    assert row == OrderRow(
        venue_id="OBCMZD-JIEE7-77TH3F",
        symbol="BTC/USD",
        side=Side.SELL,
        state=Reported.WORKING,
        qty=D("1.25"),
        type=OrderType.STOP_LIMIT,
        limit_price=D("35900.0"),
        trigger_price=D("36000.0"),
        filled=D("0.5"),
        average=D("36000.0"),
        client_id="BTC/USD-20261120-S1",
        at_ms=1688665496780,
    )


def test_numbers_may_be_strings_and_nothing_may_be_the_string_none() -> None:
    names, ids = book()
    strings = decoded(
        ORDER, opentm="1688665496.7808", userref="0", refid="None", vol=1.25, reason="None", vol_exec="0", price="0.00000"
    )

    row = order_row("O1", strings, names, ids)

    assert (row.at_ms, row.qty, row.reason, row.filled, row.average) == (1688665496780, D("1.25"), "", D(0), None)


@pytest.mark.parametrize("gone", ["vol", "vol_exec", "status", "descr"])
def test_an_order_without_what_we_need_is_unreadable(gone: str) -> None:
    names, ids = book()

    with pytest.raises(Unreadable):
        order_row("O1", {key: value for key, value in decoded(ORDER).items() if key != gone}, names, ids)


@pytest.mark.parametrize("number", ["NaN", "Infinity", None, True, "-1", "many"])
def test_a_quantity_that_is_no_number_is_unreadable(number: Any) -> None:
    names, ids = book()

    with pytest.raises(Unreadable):
        order_row("O1", decoded(ORDER, vol=number), names, ids)


def test_an_execution_of_the_trade_history() -> None:
    names, _ = book()
    told = {
        "ordertxid": "O1",
        "pair": "XXBTZUSD",
        "time": 1688667796.8802,
        "type": "buy",
        "price": "30010.00000",
        "fee": "0.60020",
        "vol": "0.00200000",
        "trade_id": 93748276,
    }

    fill = fill_row("THVRQM-33VKH-UCI7BS", decoded(told), names, "USD")

    assert fill == FillRow(
        "THVRQM-33VKH-UCI7BS", "O1", "BTC/USD", Side.BUY, D("0.002"), D("30010"), 1688667796880, D("0.6002"), "USD"
    )


def test_a_pair_with_its_grid_its_least_sizes_and_its_names() -> None:
    names = Names(VirtualClock())

    found = instrument_of("BTC-USD", "KRAKEN", {"XXBTZUSD": PAIR}, names)

    assert found == Instrument(
        "BTC-USD", "KRAKEN", D("0.1"), D("1E-8"), min_qty=D("0.0001"), min_notional=D("0.5"), base="BTC", quote="USD"
    )
    assert {names.ours(name) for name in ("XBTUSD", "XXBTZUSD", "XBT/USD", "BTC/USD", "BTC-USD")} == {"BTC-USD"}
    assert (names.rest("BTC-USD"), names.socket("BTC-USD"), names.asset("XXBT"), names.asset("ZUSD")) == (
        "XBTUSD",
        "BTC/USD",
        "BTC",
        "USD",
    )


@pytest.mark.parametrize(
    ("symbol", "rest", "socket"),
    [
        ("BTC/USD", "XBTUSD", "BTC/USD"),
        ("XBT/EUR", "XBTEUR", "BTC/EUR"),
        ("doge-usd", "XDGUSD", "DOGE/USD"),
        ("ETH/BTC", "ETHXBT", "ETH/BTC"),
    ],
)
def test_names_before_the_venue_has_told_them(symbol: str, rest: str, socket: str) -> None:
    names = Names(VirtualClock())

    assert (names.rest(symbol), names.socket(symbol)) == (rest, socket)


def test_a_tick_size_that_is_not_told_follows_from_the_decimals() -> None:
    told = {key: value for key, value in PAIR.items() if key != "tick_size"}

    assert instrument_of("BTC/USD", "KRAKEN", {"XXBTZUSD": told}, Names(VirtualClock())).tick_size == D("0.1")


def test_what_is_there_under_our_id_is_compared_in_every_point() -> None:
    names, ids = book()
    row = order_row("O1", decoded(ORDER), names, ids)
    order = Order("c", "BTC/USD", Purpose.STOP, Side.SELL, OrderType.STOP_LIMIT, D("1.25"), D("35900"), D("36000"))
    other = Order("c", "BTC/USD", Purpose.STOP, Side.BUY, OrderType.STOP_LIMIT, D("1.3"), D("35900"), D("36000"))

    assert (differs(order, row), differs(other, row)) == ("", "side Side.SELL for Side.BUY, quantity 1.25000000 for 1.3")


def test_numbers_go_out_without_an_exponent() -> None:
    assert [plain(D(text)) for text in ("1E-8", "5.10", "1E+2")] == ["0.00000001", "5.1", "100"]
    for nonsense in ("NaN", "0", "-1", "Infinity"):
        with pytest.raises(Refused):
            plain(D(nonsense))
