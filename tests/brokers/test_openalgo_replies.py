"""The classifier, row by row of the venue sheet's section 7, and the doors that numbers, ids and times come through."""

from __future__ import annotations

import re
from decimal import Decimal as D
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from brokers.base import BrokerError, Fatal, Refused, Reported, Unanswered, Unavailable
from brokers.openalgo_replies import RULES, Asked, epoch_ms, failure, message, order_id
from brokers.openalgo_words import STATUS_WORDS, reported
from brokers.replies import decode, number

ERROR = {"status": "error"}
INTERNAL = "Failed to place order due to internal error"
IST = ZoneInfo("Asia/Kolkata")

# status, body, what a placement that gets it means
SECTION_7: list[tuple[int, dict[str, Any] | None, type[BrokerError]]] = [
    (429, {"message": "10 per 1 second"}, Unavailable),
    (429, None, Unavailable),
    (400, {"message": "The browser (or proxy) sent a request that this server could not understand."}, Refused),
    (400, {**ERROR, "message": "{'quantity': ['Missing data for required field.']}"}, Refused),
    (400, {**ERROR, "message": "Insufficient funds. Required: 10, Available: 5"}, Refused),
    (400, {**ERROR, "message": {"exchange": ["Must be one of: NSE"]}}, Refused),
    (400, {**ERROR, "message": "Cannot sell RELIANCE in CNC. No positions.", "orderid": "26112028881015"}, Unanswered),
    (500, {**ERROR, "message": "broker text", "orderid": 26112028881015}, Unanswered),
    (403, {**ERROR, "message": "Invalid openalgo apikey"}, Fatal),
    (403, {**ERROR, "message": "INVALID OPENALGO APIKEY "}, Fatal),
    (403, {**ERROR, "message": "Cancel order operation is not allowed in Semi-Auto mode. ..."}, Fatal),
    (404, {**ERROR, "message": "Not found", "path": "/api/v1/placeorders"}, Fatal),
    (404, {**ERROR, "message": "Broker-specific module not found"}, Fatal),
    (404, {**ERROR, "message": "Order 999 not found"}, Refused),
    (400, {**ERROR, "message": "Cannot cancel order in complete status"}, Refused),
    (400, {**ERROR, "message": "RMS: margin exceeds"}, Refused),
    (422, {**ERROR, "message": "Instrument token invalid"}, Refused),
    (400, {**ERROR, "message": "Invalid symboltoken"}, Refused),
    (400, {**ERROR, "message": "Trading session is closed"}, Refused),
    (401, {**ERROR, "message": "Token is invalid or has expired"}, Fatal),
    (400, {**ERROR, "message": "Invalid session, please log in again"}, Fatal),
    (403, {**ERROR, "message": "IP not whitelisted"}, Fatal),
    (400, {**ERROR, "message": "Order from an unregistered static IP"}, Fatal),
    (400, {**ERROR, "message": "Too many requests"}, Unavailable),
    (403, {**ERROR, "message": "Access denied because of exceeding rate limit"}, Unavailable),
    (400, {**ERROR, "message": "HTTPSConnectionPool: Read timed out."}, Unanswered),
    (408, {**ERROR, "message": "slow"}, Unanswered),
    (400, None, Unanswered),
    (500, {**ERROR, "message": "RMS: blocked for the day"}, Unanswered),
    (500, {**ERROR, "message": INTERNAL}, Unanswered),
    (500, {"message": "An unexpected error occurred in the API endpoint"}, Unanswered),
    (502, None, Unanswered),
    (503, {**ERROR, "message": "rate limit"}, Unanswered),
    (200, {"status": "success"}, Unanswered),
    (200, {"status": "success", "orderid": None}, Unanswered),
    (200, {"status": "success", "orderid": ""}, Unanswered),
    (200, {"orderid": "1"}, Unanswered),
    (200, {**ERROR, "message": "no"}, Unanswered),
    (200, None, Unanswered),
    (200, {"status": "success", "mode": "semi_auto", "pending_order_id": 1}, Unanswered),
    (302, None, Unanswered),
    (0, {}, Unanswered),
]


@pytest.mark.parametrize(("status", "body", "expected"), SECTION_7)
def test_each_row_of_the_error_table(status: int, body: dict[str, Any] | None, expected: type[BrokerError]) -> None:
    """UNK-02, UNK-03, UNK-04, NET-01, NET-04, NET-14"""
    assert type(failure(Asked.PLACE, status, body)) is expected


@pytest.mark.parametrize(("status", "body", "expected"), SECTION_7)
def test_a_read_is_never_unanswered(status: int, body: dict[str, Any] | None, expected: type[BrokerError]) -> None:
    found = failure(Asked.READ, status, {key: word for key, word in body.items() if key != "orderid"} if body else body)

    assert type(found) in (Refused, Unavailable, Fatal)
    assert type(found) is expected or expected is Unanswered


def test_every_rule_is_reached_by_a_row_of_the_table() -> None:
    """A rule that no row of the table reaches is not tested by it."""
    reached = set()
    for status, body, _ in SECTION_7:
        hits = [rule for rule in RULES if rule.low <= status <= rule.high and re.search(rule.text, message(body), re.I)]
        reached.add(hits[0])

    assert [rule for rule in RULES if rule not in reached] == []


def test_an_error_that_carries_an_order_id_hands_it_on() -> None:
    """UNK-05: tracked until its state is read."""
    found = failure(Asked.PLACE, 400, {**ERROR, "message": "No holdings", "orderid": 26112028881015})

    assert isinstance(found, Unanswered)
    assert (found.venue_id, str(found)) == ("26112028881015", 'HTTP 400 "No holdings", yet with order id 26112028881015')


def test_a_cancel_that_names_its_own_order_is_refused_not_unknown() -> None:
    found = failure(Asked.CHANGE, 400, {**ERROR, "message": "Cannot cancel order in complete status", "orderid": "1"})

    assert type(found) is Refused


def test_an_order_parked_for_approval_says_so() -> None:
    """UNK-03"""
    body = {"message": "Order queued", "mode": "semi_auto", "pending_order_id": 1, "status": "success"}

    assert "may be waiting for a person's approval" in str(failure(Asked.PLACE, 200, body))


def test_a_rate_limit_says_nothing_of_when() -> None:
    """NET-01: the back-off is our own."""
    found = failure(Asked.CHANGE, 429, {"message": "10 per 1 second"})

    assert isinstance(found, Unavailable)
    assert found.retry_after_s is None


def test_a_server_text_cannot_forge_a_log_line() -> None:
    assert message({"message": "no\n09:15:00 desk filled\u2028\x1b[0m"}) == "no\\n09:15:00 desk filled\\u2028\\x1b[0m"
    assert len(message({"message": "x" * 5000})) == 300


@pytest.mark.parametrize("word", list(STATUS_WORDS))
def test_each_status_word_reads_the_same_in_any_spelling(word: str) -> None:
    """NET-14"""
    spellings = {word, word.upper(), word.title(), word.replace(" ", "_"), f"  {word} "}

    assert {reported(spelling) for spelling in spellings} == {STATUS_WORDS[word]}


def test_the_status_table_is_the_sheets() -> None:
    working = "open|trigger pending|pending|transit|open pending|validation pending|put order req received|modify pending"
    working += "|cancel pending|amo req received|modified"
    closed = {
        "complete": "FILLED",
        "rejected": "REJECTED",
        "cancelled": "CANCELLED",
        "canceled": "CANCELLED",
        "expired": "EXPIRED",
    }

    assert {word: reported(word).name for word in STATUS_WORDS} == {
        **dict.fromkeys(working.split("|"), "WORKING"),
        **closed,
        "unknown": "UNCLEAR",
    }


@pytest.mark.parametrize("word", ["", None, "unknown", "opened", "INVALID", "completed?", 5])
def test_an_unlisted_status_is_unclear_never_working(word: object) -> None:
    """NET-14"""
    assert reported(word) is Reported.UNCLEAR


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b"5", "5"), (b'"5"', "5"), (b"5.0", "5"), (b'"-104"', "-104"), (b"511.95", "511.95"), (b'" 5 "', "5"), (b"0.05", "0.05")],
)
def test_a_number_is_the_same_in_any_spelling(sent: bytes, read: str) -> None:
    """REC-02"""
    body = decode(b'{"n":' + sent + b"}")

    assert body is not None and number(body["n"], "n") == D(read)


@pytest.mark.parametrize(
    "sent", ['"NaN"', '"Infinity"', "null", '""', '"five"', "true", "[]", "{}", "1e400", '"1e-99"', '"5.5.5"']
)
def test_what_is_not_a_number_is_refused_at_the_door(sent: str) -> None:
    body = decode(f'{{"n":{sent}}}'.encode())

    assert body is not None
    with pytest.raises(Unavailable, match="schema: n is"):
        number(body["n"], "n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(250408000989443, "250408000989443"), ("250408000989443", "250408000989443"), (D("7.0"), "7"), (" 7 ", "7")],
)
def test_order_ids_are_equal_as_text(value: object, expected: str) -> None:
    """NET-14"""
    assert order_id(value) == expected


@pytest.mark.parametrize("value", [None, "", "None", "null", True, {}, [], D("1.5"), D("NaN")])
def test_what_is_no_order_id_is_none(value: object) -> None:
    """UNK-04: success with a null id is not a success."""
    assert order_id(value) is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"a":', b"[]", b"null", b"[" * 100_000, b"\xff", b'{"a":1e9999999999999999999}', b"NaN"]
)
def test_a_body_that_is_no_object_is_none_and_never_raises(body: bytes) -> None:
    """UNK-04"""
    assert decode(body) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20 17:16:36", 1795175196000),
        ("20-Nov-2026 17:16:36", 1795175196000),
        ("20-NOV-2026 17:16:36", 1795175196000),
        ("17:16:36", 1795175196000),
        ("08-Apr-2025 13:58:03", 1744100883000),
        ("2026-13-20 17:16:36", None),
        ("20-Foo-2026 17:16:36", None),
        ("25:00:00", None),
        ("soon", None),
        (None, None),
    ],
)
def test_row_times_are_indian_and_a_bare_time_is_todays(text: str | None, expected: int | None) -> None:
    assert epoch_ms(text, IST, now_ms=1795146000000) == expected
