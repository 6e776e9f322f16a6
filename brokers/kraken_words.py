"""Kraken's words and ours: status words, order kinds and error texts, each in one table (venue sheet, sections 6 and 7).

A status word that is not in the table is UNCLEAR; an error text that is not there is looked at by its category. Pure.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum

from brokers.base import Reported
from state.orders import OrderType

STATUS_WORDS: dict[str, Reported] = {
    # REST `status`
    "pending": Reported.WORKING,
    "open": Reported.WORKING,
    "closed": Reported.FILLED,
    "canceled": Reported.CANCELLED,  # may carry fills
    "expired": Reported.EXPIRED,  # may carry fills
    # socket `order_status`
    "pending_new": Reported.WORKING,
    "new": Reported.WORKING,
    "partially_filled": Reported.WORKING,  # also said of an order that has filled in full: its quantities decide
    "filled": Reported.FILLED,
}
ASKED_FOR = ("user requested", "user canceled", "user cancelled")  # reasons of a cancel that are no rejection

KINDS = {
    OrderType.MARKET: "market",
    OrderType.LIMIT: "limit",
    OrderType.STOP: "stop-loss",
    OrderType.STOP_LIMIT: "stop-loss-limit",
}
TYPE_OF = {word: kind for kind, word in KINDS.items()} | {"iceberg": OrderType.LIMIT}
_ONCE_FIRED = {OrderType.MARKET: OrderType.STOP, OrderType.LIMIT: OrderType.STOP_LIMIT}


def reported(word: object, qty: Decimal, filled: Decimal | None, reason: str) -> Reported:
    """What a row says of its order: the quantities before the word."""
    state = STATUS_WORDS.get(str(word).strip().lower(), Reported.UNCLEAR)
    if state is Reported.WORKING and filled is not None and filled >= qty:
        return Reported.FILLED
    if state is Reported.CANCELLED and not filled and reason and not reason.strip().lower().startswith(ASKED_FOR):
        return Reported.REJECTED
    return state


def kind_of(word: object, has_trigger: bool) -> OrderType | None:
    """A stop that has fired may be shown as the market or limit order it became: it is the stop it was."""
    kind = TYPE_OF.get(str(word).strip().lower())
    return _ONCE_FIRED.get(kind, kind) if has_trigger and kind is not None else kind


class Outcome(Enum):
    """What an error text means. The last five have consequences of their own beside one of the four errors."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    FATAL = "fatal"
    LOCKED_OUT = "locked out"  # fatal for minutes; every attempt makes it longer
    NONCE = "nonce"  # not carried out; twice in a row somebody else uses the key
    TOO_FAST = "too fast"  # not carried out; the venue's counter is full
    EXISTS = "exists"  # refused, for an order with our id is there
    GONE = "gone"  # the order to change is over


# Texts by their beginning, blanks taken out: the first that fits.
ERRORS: tuple[tuple[str, Outcome], ...] = (
    ("EAPI:Invalid key", Outcome.FATAL),
    ("EAPI:Invalid signature", Outcome.FATAL),
    ("EGeneral:Permission denied", Outcome.FATAL),
    ("EAccount:Invalid permissions", Outcome.FATAL),
    ("EAuth:Account temporary disabled", Outcome.FATAL),
    ("EAuth:Account unconfirmed", Outcome.FATAL),
    ("EAPI:Feature disabled", Outcome.FATAL),
    ("ETrade:User Locked", Outcome.FATAL),
    ("EGeneral:Temporary lockout", Outcome.LOCKED_OUT),
    ("EAPI:Invalid nonce", Outcome.NONCE),
    ("EAPI:Rate limit exceeded", Outcome.TOO_FAST),
    ("EGeneral:Too many requests", Outcome.TOO_FAST),
    ("EAuth:Rate limit exceeded", Outcome.TOO_FAST),
    ("EService:Throttled", Outcome.TOO_FAST),
    ("EOrder:Rate limit exceeded", Outcome.UNAVAILABLE),
    ("EOrder:Domain rate limit exceeded", Outcome.UNAVAILABLE),
    ("EService:Market in cancel_only mode", Outcome.UNAVAILABLE),
    ("EService:Market in post_only mode", Outcome.UNAVAILABLE),
    ("EService:Deadline elapsed", Outcome.UNAVAILABLE),
    ("EOrder:Insufficient funds", Outcome.REFUSED),
    ("EOrder:Order minimum not met", Outcome.REFUSED),
    ("EOrder:Cost minimum not met", Outcome.REFUSED),
    ("EOrder:Tick size check failed", Outcome.REFUSED),
    ("EOrder:Invalid price", Outcome.REFUSED),
    ("EOrder:Invalid limit price", Outcome.REFUSED),
    ("EOrder:Orders limit exceeded", Outcome.REFUSED),
    ("EOrder:Scheduled orders limit exceeded", Outcome.REFUSED),
    ("EOrder:Post only order", Outcome.REFUSED),
    ("EOrder:Margin allowance exceeded", Outcome.REFUSED),
    ("EOrder:Insufficient margin", Outcome.REFUSED),
    ("EOrder:Margin level too low", Outcome.REFUSED),
    ("EOrder:Positions limit exceeded", Outcome.REFUSED),
    ("EOrder:Reduce only:No position exists", Outcome.REFUSED),
    ("EQuery:Unknown asset pair", Outcome.REFUSED),
    ("EGeneral:Invalid arguments:cl_ord_id not unique", Outcome.EXISTS),
    ("EGeneral:Invalid arguments", Outcome.REFUSED),
    ("EOrder:Unknown order", Outcome.GONE),
    ("EOrder:Invalid order", Outcome.GONE),
    ("EService:Unavailable", Outcome.UNANSWERED),
    ("EService:Busy", Outcome.UNANSWERED),
    ("EGeneral:Internal error", Outcome.UNANSWERED),
)


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text).lower()


_BY_BEGINNING = tuple((_bare(text), outcome) for text, outcome in ERRORS)


def outcome(text: str) -> Outcome:
    """Unlisted: a word of the order engine is a no; of any other we do not know whether it happened."""
    bare = _bare(text)
    for beginning, found in _BY_BEGINNING:
        if bare.startswith(beginning):
            return found
    return Outcome.REFUSED if bare.startswith("eorder:") else Outcome.UNANSWERED
