"""OANDA's words and what they mean for us: transaction types, cancel reasons, reject reasons, HTTP statuses (sheet, 6 and 9).

Pure. One table of reasons: a refusal and a cancel at creation use the same vocabulary. A word that is not in the table is
Refused with the word in the text, except those that speak of a locked or inactive account: after them nothing works.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from brokers.base import BrokerError, Fatal, Refused, Unanswered, Unavailable
from brokers.replies import decode, printable
from state.orders import OrderType

# Transactions that make an order, and the type of ours it is. None: a kind that we never place.
CREATES: dict[str, OrderType | None] = {
    "MARKET_ORDER": OrderType.MARKET,
    "LIMIT_ORDER": OrderType.LIMIT,
    "STOP_ORDER": OrderType.STOP,  # with a priceBound: STOP_LIMIT
    "MARKET_IF_TOUCHED_ORDER": None,
    "FIXED_PRICE_ORDER": None,
    "TAKE_PROFIT_ORDER": None,
    "STOP_LOSS_ORDER": None,
    "GUARANTEED_STOP_LOSS_ORDER": None,
    "TRAILING_STOP_LOSS_ORDER": None,
}
TYPE_WORD = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP: "STOP",
    OrderType.STOP_LIMIT: "STOP",
}
REPLACED = "CLIENT_REQUEST_REPLACED"
EXPIRED = "TIME_IN_FORCE_EXPIRED"
MARGIN_CLOSEOUT = "MARKET_ORDER_MARGIN_CLOSEOUT"


class Outcome(Enum):
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    FATAL = "fatal"


REASONS: dict[str, Outcome] = {
    # Nothing was executed, and the same may go later.
    "MARKET_HALTED": Outcome.UNAVAILABLE,
    "INSTRUMENT_BID_HALTED": Outcome.UNAVAILABLE,
    "INSTRUMENT_ASK_HALTED": Outcome.UNAVAILABLE,
    "INSUFFICIENT_LIQUIDITY": Outcome.UNAVAILABLE,
    # The account: a person has to see to it.
    "ACCOUNT_LOCKED": Outcome.FATAL,
    "ACCOUNT_NOT_ACTIVE": Outcome.FATAL,
    "ACCOUNT_NEW_POSITIONS_LOCKED": Outcome.FATAL,
    "ACCOUNT_ORDER_CREATION_LOCKED": Outcome.FATAL,
    "ACCOUNT_ORDER_FILL_LOCKED": Outcome.FATAL,
    "MIGRATION": Outcome.FATAL,
    # To be confirmed by the transactions.
    "INTERNAL_SERVER_ERROR": Outcome.UNANSWERED,
    "CLIENT_ORDER_ID_ALREADY_EXISTS": Outcome.UNANSWERED,  # proof that a pending order carries our id: which, they tell
}
STATUSES: dict[int, Outcome] = {
    400: Outcome.REFUSED,
    401: Outcome.FATAL,
    403: Outcome.FATAL,
    404: Outcome.REFUSED,  # of an order that we manage: gone. On a create it is the account: see `failure`
    405: Outcome.REFUSED,
    416: Outcome.FATAL,  # our transaction id is ahead of the account's: another account or environment
    429: Outcome.UNAVAILABLE,
}
_ERRORS: dict[Outcome, type[BrokerError]] = {
    Outcome.REFUSED: Refused,
    Outcome.UNAVAILABLE: Unavailable,
    Outcome.UNANSWERED: Unanswered,
    Outcome.FATAL: Fatal,
}


class Asked(Enum):
    CREATE = "create"
    CHANGE = "change"
    READ = "read"


def meaning(reason: str) -> Outcome:
    if reason in REASONS:
        return REASONS[reason]
    return Outcome.FATAL if "LOCKED" in reason or "NOT_ACTIVE" in reason else Outcome.REFUSED


def by_reason(reason: object, said: str) -> BrokerError:
    """What a reject or a cancel at creation comes to."""
    word = printable(str(reason), 80)
    return _ERRORS[meaning(word)](f"{said}: {word}")


def failure(asked: Asked, status: int, body: bytes) -> BrokerError:
    """What a reply that is not a success means for what was asked. Unlisted is "may have happened"."""
    found = decode(body)
    reason = None if found is None else found.get("errorCode")
    words = printable(str((found or {}).get("errorMessage", "without a readable message")))
    said = f"HTTP {status} {words}"
    if status == 400 and isinstance(reason, str) and reason and not reason.startswith("oanda::"):
        error = by_reason(reason, said)
    elif found is None and status in (400, 404, 405, 416):
        error = Unanswered(f"{said}: not JSON")  # some proxy's page: whether the venue saw the request is not known
    elif status == 404 and asked is Asked.CREATE:
        error = Fatal(f"{said}: there is no such account")
    else:
        error = _ERRORS[STATUSES.get(status, Outcome.UNANSWERED)](said)
    if isinstance(error, Unanswered) and asked is Asked.READ:
        return Unavailable(str(error))
    return error


def text(found: dict[str, Any], key: str) -> str:
    """A word of a transaction; "" where it has none."""
    value = found.get(key)
    return printable(value, 160) if isinstance(value, str) else ""
