"""What OpenAlgo's REST replies mean: its errors, numbers, times, order and trade rows (venue sheet, sections 5 to 7).

Pure: bytes and values in, values or one of the four errors out. Status words live in openalgo_words. Must never: guess. A row
without the field we need is an error, and a number that is not one is refused at the door.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from brokers.base import BrokerError, Fatal, FillRow, OrderRow, Refused, Reported, Unanswered, Unavailable, Unreadable
from brokers.openalgo_words import reported
from brokers.replies import field, printable, quantity
from state.orders import ZERO, OrderType, Side

PRICE_TYPE = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT", OrderType.STOP: "SL-M", OrderType.STOP_LIMIT: "SL"}
TYPE_OF = {word: type for type, word in PRICE_TYPE.items()}
CLIENT_ID = re.compile(r"^[A-Z0-9&_-]+-\d{8}-[ESTX]\d+$")


class Asked(Enum):
    """What kind of call failed: a failed read is never an unknown outcome; only a placement can leave a new order behind."""

    PLACE = "place"
    CHANGE = "change"  # modify, cancel
    READ = "read"


class Outcome(Enum):
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    FATAL = "fatal"


class Rule(msgspec.Struct, frozen=True):
    """One row of section 7: of a JSON reply with a status from `low` to `high` whose text matches, the outcome."""

    low: int
    high: int
    text: str
    outcome: Outcome
    hint: str = ""


_LOGIN = (
    r"invalid (openalgo )?api ?key|unauthori[sz]ed|not whitelisted|static ip"
    r"|\b(token|session)\b.*\b(invalid|expired|incorrect|missing|revoked|required|wrong|log ?in|logged)"
    r"|\b(invalid|expired|incorrect|missing|revoked|wrong)\b.*\b(token|session)\b"
)
_RATE = r"rate.?limit|too many (requests|orders)|throttl|rate (was |is )?exceeded|requests? per|per (1 )?second"

# The first match wins.
RULES = (
    Rule(429, 429, "", Outcome.UNAVAILABLE, "the server's rate limit"),
    Rule(403, 403, "semi-auto mode", Outcome.FATAL, "the server is in semi-auto mode"),
    Rule(
        404,
        404,
        "^not found$|requested url was not found|broker-specific module not found",
        Outcome.FATAL,
        "wrong address or set-up",
    ),
    Rule(408, 408, "", Outcome.UNANSWERED),
    Rule(400, 499, _LOGIN, Outcome.FATAL, "the key is wrong or the broker session has expired"),
    Rule(400, 499, _RATE, Outcome.UNAVAILABLE, "the broker's rate limit"),
    Rule(400, 499, "timed? ?out", Outcome.UNANSWERED, "the server lost the broker's answer"),
    Rule(400, 499, "", Outcome.REFUSED),
    Rule(0, 999, "", Outcome.UNANSWERED),  # 3xx, 5xx, and a 200 that lacks what a 200 must carry
)
_COMPILED = tuple((rule, re.compile(rule.text, re.IGNORECASE | re.DOTALL)) for rule in RULES)
# Not credentials: brokers call an instrument's number its token, and speak of trading sessions.
_OTHER_TOKENS = re.compile(r"(instrument|symbol|scrip|exchange|trading|market)[ _-]?(token|session)", re.IGNORECASE)


def failure(asked: Asked, status: int, body: dict[str, Any] | None) -> BrokerError:
    """The one classifier: what a reply that is not a success means for what was asked. Unlisted is "may have happened"."""
    text = message(body)
    said = f'HTTP {status} "{text}"' if text else f"HTTP {status} without a readable message"
    venue = None if body is None else order_id(body.get("orderid"))
    if asked is Asked.PLACE and venue is not None:
        return Unanswered(f"{said}, yet with order id {venue}", venue)
    if body is not None and status < 300 and ("pending_order_id" in body or body.get("mode") == "semi_auto"):
        return _error(asked, Outcome.UNANSWERED, f"{said}: it may be waiting for a person's approval in the Action Center")
    outcome, hint = _classified(status, text, readable=body is not None)
    return _error(asked, outcome, f"{said}: {hint}" if hint else said)


def _classified(status: int, text: str, readable: bool) -> tuple[Outcome, str]:
    if not readable and status != 429:
        return Outcome.UNANSWERED, "not JSON"  # some proxy's page: whether the server saw the request is not known
    plain = _OTHER_TOKENS.sub(" ", text)
    for rule, pattern in _COMPILED:
        if rule.low <= status <= rule.high and pattern.search(plain):
            return rule.outcome, rule.hint
    return Outcome.UNANSWERED, "not a status of HTTP"


def _error(asked: Asked, outcome: Outcome, words: str) -> BrokerError:
    if outcome is Outcome.FATAL:
        return Fatal(words)
    if outcome is Outcome.REFUSED:
        return Refused(words)
    if outcome is Outcome.UNANSWERED and asked is not Asked.READ:
        return Unanswered(words)
    return Unavailable(words)


def message(body: dict[str, Any] | None) -> str:
    """The server's text on one line; data endpoints send an object where order endpoints send a string."""
    said = "" if body is None else body.get("message", "")
    return printable(said if isinstance(said, str) else msgspec.json.encode(said).decode())


def order_id(value: object) -> str | None:
    """Numeric and string ids are equal as text. None, empty and anything else is no id."""
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = printable(str(value).strip())
    return None if text.lower() in ("", "none", "null") else text


def price(row: dict[str, Any], key: str, where: str) -> Decimal | None:
    """A price above 0, or None where the row says nothing or 0. A negative or unreadable one is refused."""
    value = row.get(key)
    return None if value is None or value == "" else quantity(value, f"{where} {key}") or None


def side(row: dict[str, Any], where: str) -> Side:
    word = str(row.get("action", "")).strip().upper()
    if word not in ("BUY", "SELL"):
        raise Unreadable(f"schema: {where} has action {printable(word, 30)!r}")
    return Side(word)


def venue_id(row: dict[str, Any], where: str) -> str:
    found = order_id(row.get("orderid"))
    if found is None:
        raise Unreadable(f"schema: {where} has no order id")
    return found


def order_row(row: dict[str, Any], zone: tzinfo, now_ms: int) -> OrderRow:
    """One row of orderbook or orderstatus as it stands, `filled` only where the row itself says it."""
    venue = venue_id(row, "an order row")
    where = f"order {venue}"
    type = TYPE_OF.get(str(row.get("pricetype") or row.get("price_type") or "").strip().upper())
    said = row.get("filled_quantity")
    filled = None if said is None or said == "" else quantity(said, f"{where} filled_quantity")
    label = printable(str(row.get("strategy") or ""))
    return OrderRow(
        venue_id=venue,
        symbol=printable(str(row.get("symbol") or "")),  # null while the symbol is missing from the server's master contract
        side=side(row, where),
        state=reported(row.get("order_status")),
        qty=quantity(field(row, "quantity", where), f"{where} quantity"),
        type=type,
        # A MARKET row's price is its fill price, or 0.
        limit_price=None if type in (OrderType.MARKET, OrderType.STOP) else price(row, "price", where),
        trigger_price=price(row, "trigger_price", where),
        filled=filled,
        average=price(row, "average_price", where) if filled else None,
        client_id=label if CLIENT_ID.match(label) else None,
        at_ms=epoch_ms(row.get("timestamp"), zone, now_ms),
        label=label,
        reason=printable(str(row.get("rejection_reason") or "")),
    )


_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: i for i, name in enumerate(_NAMES, 1)}
_TIME = r"(?P<h>\d{1,2}):(?P<m>\d{2}):(?P<s>\d{2})(?:\.\d+)?$"
_ISO = re.compile(r"^(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})[ T]" + _TIME)
_NAMED = re.compile(r"^(?P<day>\d{1,2})-(?P<month>[A-Za-z]{3})-(?P<year>\d{4}) " + _TIME)
_TIME_ONLY = re.compile("^" + _TIME)


def epoch_ms(value: object, zone: tzinfo, now_ms: int) -> int | None:
    """A row's time; "13:58:03" means today's session. None for anything that is not one of the three known forms."""
    text = str(value or "").strip()
    match = _ISO.match(text) or _NAMED.match(text) or _TIME_ONLY.match(text)
    if match is None:
        return None
    part = match.groupdict()
    today = datetime.fromtimestamp(now_ms / 1000, zone)
    word = part.get("month", str(today.month))
    month = int(word) if word.isdigit() else _MONTHS.get(word.lower(), 0)  # not strptime: %b depends on the system's language
    try:
        year, day = int(part.get("year", today.year)), int(part.get("day", today.day))
        when = datetime(year, month, day, int(part["h"]), int(part["m"]), int(part["s"]), tzinfo=zone)
    except ValueError:
        return None
    return int(when.timestamp()) * 1000


def fill_row(
    venue: str, symbol: str, row: dict[str, Any], zone: tzinfo, now_ms: int, seen: Counter[tuple[object, ...]]
) -> FillRow | None:
    """One row of the tradebook; None for one of quantity 0. `seen` counts equal rows without a trade id, over one book."""
    where = f"trade of order {venue}"
    qty = quantity(field(row, "quantity", where), f"{where} quantity")
    if qty == 0:
        return None
    paid = price(row, "average_price", where) or price(row, "price", where)
    if paid is None:
        raise Unreadable(f"schema: {where} has no price")
    stamp = printable(str(row.get("timestamp") or ""), 40)
    at_ms = epoch_ms(stamp, zone, now_ms)
    trade = order_id(row.get("tradeid"))
    if trade is None:
        facts = (venue, stamp, qty, paid)
        seen[facts] += 1  # equal rows are told apart by their count: the same ids at every poll, in any order
        trade = f"{venue}/{stamp}/{plain(qty)}@{plain(paid)}/{seen[facts]}"
    when_ms = now_ms if at_ms is None else at_ms  # the time is for people; the fill counts without it
    return FillRow(trade, venue, symbol, side(row, where), qty, paid, when_ms)


def needs_trades(row: OrderRow) -> bool:
    """A closed order whose row is silent; or "complete" with nothing filled, which some broker mappings make up (FIL-09)."""
    return row.state.closed and (row.filled is None or (row.state is Reported.FILLED and row.filled == 0))


def filled_from(row: OrderRow, trades: list[FillRow], incomplete: set[str]) -> OrderRow:
    """The order with what the tradebook says of it. Of the orders in `incomplete` it does not say all."""
    own = [trade for trade in trades if trade.venue_id == row.venue_id]
    filled = sum((trade.qty for trade in own), ZERO)
    if row.venue_id in incomplete:
        return msgspec.structs.replace(row, filled=None, average=None)
    if not filled:
        return msgspec.structs.replace(row, filled=None if row.state is Reported.FILLED else ZERO, average=None)
    value = sum((trade.qty * trade.price for trade in own), ZERO)
    return msgspec.structs.replace(row, filled=filled, average=value / filled)


def plain(value: Decimal | None) -> Decimal | int:
    """A number as JSON should carry it: 511.95 as it stands, whole ones as integers, never 5E+2."""
    if value is None or not value.is_finite():
        raise Refused(f"an order with the price or quantity {value} was not sent")
    return int(value) if value == value.to_integral_value() else Decimal(format(value.normalize(), "f"))
