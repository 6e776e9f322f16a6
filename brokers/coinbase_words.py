"""The tables of Coinbase's words: order status, what a failed reply means, reasons of refusals (venue sheet, 4, 6 and 7).

REST adapter and stream both read them here. A status word that is not in the table is UNCLEAR: it is looked at, never taken for
an open order. A reason that is not in a table is a refusal, told word for word.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import msgspec

from brokers.base import Reported
from state.orders import OrderType

STATUS_WORDS: dict[str, Reported] = {
    "PENDING": Reported.WORKING,
    "QUEUED": Reported.WORKING,
    "OPEN": Reported.WORKING,  # also when partly filled: there is no word for that
    "FILLED": Reported.FILLED,
    "CANCEL_QUEUED": Reported.WORKING,  # it may still fill
    "EDIT_QUEUED": Reported.WORKING,  # at the old values or the new ones
    "CANCELLED": Reported.CANCELLED,  # may carry fills, as a market order that ran out of book does
    "EXPIRED": Reported.EXPIRED,  # may carry fills
    "FAILED": Reported.REJECTED,
    "UNKNOWN_ORDER_STATUS": Reported.UNCLEAR,
}
# "LIMIT" over REST is "Limit" on the stream.
TYPE_WORDS = {"MARKET": OrderType.MARKET, "LIMIT": OrderType.LIMIT, "STOP_LIMIT": OrderType.STOP_LIMIT}


def reported(word: object) -> Reported:
    return STATUS_WORDS.get(str(word).strip().upper(), Reported.UNCLEAR)


def order_type(word: object) -> OrderType | None:
    return TYPE_WORDS.get(str(word).strip().upper().replace(" ", "_"))


class Outcome(Enum):
    """What a reply that is not a success means. TOKEN: a bad token, or a clock that is off."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    FATAL = "fatal"
    TOKEN = "token"


class Rule(msgspec.Struct, frozen=True):
    """One row of section 7: of a reply with a status from `low` to `high` whose text matches, the outcome."""

    low: int
    high: int
    text: str
    outcome: Outcome
    hint: str = ""
    plain: bool = False  # believed without a JSON body too


# The first match wins.
RULES = (
    Rule(401, 401, "", Outcome.TOKEN, "the key is wrong, or this machine's clock", plain=True),
    Rule(429, 429, "", Outcome.UNAVAILABLE, "the venue's rate limit", plain=True),
    Rule(403, 403, "", Outcome.FATAL, "the key lacks a permission, or this address is not allowed"),
    Rule(
        400,
        400,
        "account is not available",
        Outcome.FATAL,
        "the key is of another portfolio, or there is no wallet in that currency, or it may not be traded here",
    ),
    Rule(400, 499, "proof_token_required", Outcome.FATAL, "this account asks for a second factor"),
    Rule(408, 408, "", Outcome.UNANSWERED),
    Rule(400, 499, "", Outcome.REFUSED),
    Rule(0, 999, "", Outcome.UNANSWERED),  # 3xx, 5xx, and a 200 that lacks what a 200 must carry
)


def outcome(status: int, text: str, readable: bool) -> tuple[Outcome, str]:
    """The one classifier of a reply that is not a success. Unlisted is "may have happened"."""
    for rule in RULES:
        if rule.low <= status <= rule.high and re.search(rule.text, text, re.IGNORECASE) and (readable or rule.plain):
            return rule.outcome, rule.hint
    return Outcome.UNANSWERED, "not JSON"  # some proxy's page: whether the venue saw the request is not known


# Of a create with `success:false`. All the others are plain refusals.
UNCERTAIN_REASONS = frozenset(
    {"", "COMMANDER_REJECTED_NEW_ORDER"}
)  # "": every field says UNKNOWN_...; to be confirmed by looking
EXISTS_ALREADY = frozenset({"DUPLICATE_CLIENT_ORDER_ID"})
# Of a cancel with `success:false`: it is under way already.
CANCEL_UNDER_WAY = frozenset({"DUPLICATE_CANCEL_REQUEST"})


def create_reason(body: dict[str, Any]) -> tuple[str, str]:
    """Why a create was refused: the first reason that says something, and the venue's sentence. "" where none does."""
    told = body.get("error_response")
    told = told if isinstance(told, dict) else {}
    words = [told.get(key) for key in ("error", "new_order_failure_reason", "preview_failure_reason")]
    reason = next((word for word in (*words, body.get("failure_reason")) if says_something(word)), "")
    return str(reason), str(told.get("message") or told.get("error_details") or "")


def says_something(word: object) -> bool:
    return isinstance(word, str) and bool(word) and not word.startswith("UNKNOWN_")
