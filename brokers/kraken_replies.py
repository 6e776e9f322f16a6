"""What Kraken's REST replies mean: results and errors, order and trade rows, pairs (venue sheet, sections 4, 5, 7 and 9).

Pure: bytes and values in, values or one of the four errors out. HTTP 200 carries errors; the status decides nothing but that the
request had trouble on its way. Must never: guess. A row without a field we need is Unreadable.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any

from brokers.base import BrokerError, Fatal, FillRow, OrderRow, Refused, Unanswered, Unavailable, Unreadable
from brokers.client_ids import ClientIds
from brokers.kraken_names import Names
from brokers.kraken_words import Outcome, kind_of, outcome, reported
from brokers.replies import decode, field, number, printable, quantity
from brokers.transport import Reply
from state.instrument import Instrument
from state.orders import Order, OrderType, Side

WITH_TRIGGER = (OrderType.STOP, OrderType.STOP_LIMIT)
WITH_LIMIT = (OrderType.LIMIT, OrderType.STOP_LIMIT)
ORDER_SIDE = {"buy": Side.BUY, "sell": Side.SELL}


class Asked(Enum):
    """What kind of call it was: a failed read is never an unknown outcome."""

    ORDER = "order"  # place, amend, cancel
    READ = "read"


class ExistsAlready(Refused):
    """An order with our id is open: proof that an earlier request arrived."""


class Failure:
    """What a reply that is no result means: the outcome by the table, and the error to raise."""

    def __init__(self, asked: Asked, path: str, reply: Reply) -> None:
        texts = errors(decode(reply.body))
        found = [outcome(text) for text in texts]
        self.text = "; ".join(texts)
        self.outcome = _worst(found, reply.status)
        said = f'"{self.text}"' if self.text else "no result and no error that could be read"
        self.error = _error(asked, self.outcome, f"{path}: HTTP {reply.status} {said}", reply.retry_after_s)


def errors(body: dict[str, Any] | None) -> list[str]:
    """The error texts of a reply; one that begins with W is a warning and the request went through."""
    told = [] if body is None else body.get("error")
    texts = told if isinstance(told, list) else [told]
    return [printable(str(text)) for text in texts if text and not str(text).startswith("W")]


def _worst(found: list[Outcome], status: int) -> Outcome:
    """Of several texts the one that leaves more open. A reply of some proxy on the way says nothing of the request."""
    if status == 429 and not found:
        return Outcome.TOO_FAST
    if not found or status >= 500 or Outcome.UNANSWERED in found:
        return Outcome.UNANSWERED
    return found[0]


def _error(asked: Asked, found: Outcome, words: str, retry_after_s: float | None) -> BrokerError:
    match found:
        case Outcome.FATAL | Outcome.LOCKED_OUT:
            return Fatal(words)
        case Outcome.EXISTS:
            return ExistsAlready(words)
        case Outcome.REFUSED | Outcome.GONE:
            return Refused(words)
        case Outcome.UNANSWERED if asked is Asked.ORDER:
            return Unanswered(words)
        case _:
            return Unavailable(words, retry_after_s)


def result(reply: Reply) -> Any:
    """What the reply brings, None where it is no success."""
    body = decode(reply.body)
    if reply.status != 200 or body is None or "error" not in body or errors(body):
        return None
    return body.get("result")


def rows_of(found: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise Unreadable(f"schema: {where} is {printable(repr(found), 40)}, not rows by their ids")
    return found


# -- rows ------------------------------------------------------------------------------------------------------------------------


def order_row(venue_id: str, row: dict[str, Any], names: Names, ids: ClientIds) -> OrderRow:
    where = f"order {printable(venue_id, 40)}"
    about = field(row, "descr", where)
    if not isinstance(about, dict):
        raise Unreadable(f"schema: {where} has no description")
    qty, filled = quantity(field(row, "vol", where), f"{where} vol"), quantity(field(row, "vol_exec", where), f"{where} vol_exec")
    told_reason = row.get("reason")
    reason = "" if told_reason in (None, "None") else printable(str(told_reason))
    stopped = _price(row, "stopprice", where) is not None or any(word in str(row.get("misc")) for word in ("stopped", "touched"))
    kind = kind_of(field(about, "ordertype", where), stopped)
    first, second = _price(about, "price", where), _price(about, "price2", where)
    return OrderRow(
        venue_id=venue_id,
        symbol=printable(names.ours(field(about, "pair", where))),
        side=side_of(field(about, "type", where), where),
        state=reported(field(row, "status", where), qty, filled, reason),
        qty=qty,
        type=kind,
        limit_price=second if kind is OrderType.STOP_LIMIT else first if kind is OrderType.LIMIT else None,
        trigger_price=first if kind in WITH_TRIGGER else None,
        filled=filled,
        average=_price(row, "price", where) if filled else None,
        client_id=our_id(row.get("cl_ord_id"), ids),
        at_ms=_seconds(row.get("opentm"), f"{where} opentm"),
        reason=reason,
    )


def fill_row(trade_id: str, row: dict[str, Any], names: Names, quote: str) -> FillRow:
    """One row of the trade history. Its fee is in the quote currency, which we ask for with each order."""
    where = f"trade {printable(trade_id, 40)}"
    qty, paid = (quantity(field(row, key, where), f"{where} {key}") for key in ("vol", "price"))
    at_ms = _seconds(field(row, "time", where), f"{where} time")
    if not qty or not paid or at_ms is None:
        raise Unreadable(f"schema: {where} has no quantity, price or time")
    return FillRow(
        trade_id=trade_id,
        venue_id=str(field(row, "ordertxid", where)),
        symbol=printable(names.ours(field(row, "pair", where))),
        side=side_of(field(row, "type", where), where),
        qty=qty,
        price=paid,
        at_ms=at_ms,
        fee=number(row.get("fee", "0"), f"{where} fee"),
        fee_currency=quote,
    )


def instrument_of(symbol: str, exchange: str, found: Any, names: Names) -> Instrument:
    rows = rows_of(found, f"pair {symbol}")
    if len(rows) != 1:
        raise Refused(f"{symbol} names {len(rows)} pairs")
    (pair_id, row), where = next(iter(rows.items())), f"pair {symbol}"
    told = [str(field(row, key, where)) for key in ("altname", "wsname", "base", "quote")]
    if "/" not in told[1]:
        raise Unreadable(f"schema: {where} has the socket name {printable(told[1], 40)}")
    base, quote = names.add(symbol, pair_id, *told)
    tick = _price(row, "tick_size", where) or _step(row, "pair_decimals", where)
    return Instrument(
        symbol,
        exchange,
        tick,
        _step(row, "lot_decimals", where),
        min_qty=_price(row, "ordermin", where) or Decimal(0),
        min_notional=_price(row, "costmin", where) or Decimal(0),
        base=base,
        quote=quote,
    )


def differs(order: Order, row: OrderRow) -> str:
    """How what the venue has under our id is not what we asked for; empty when it is."""
    pairs = {
        "symbol": (order.symbol, row.symbol),
        "side": (order.side, row.side),
        "quantity": (order.qty, row.qty),
        "type": (order.type, row.type),
        "trigger": (order.trigger_price if order.type in WITH_TRIGGER else None, row.trigger_price),
        "limit": (order.limit_price if order.type in WITH_LIMIT else None, row.limit_price),
    }
    return ", ".join(f"{name} {theirs} for {asked}" for name, (asked, theirs) in pairs.items() if asked != theirs)


def our_id(told: object, ids: ClientIds) -> str | None:
    """Behind a `cl_ord_id`, with its dashes or without."""
    text = str(told or "").replace("-", "").lower()
    return ids.ours("-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))) if len(text) == 32 else None


def side_of(word: object, where: str) -> Side:
    found = ORDER_SIDE.get(str(word).strip().lower())
    if found is None:
        raise Unreadable(f"schema: {where} has the side {printable(repr(word), 30)}")
    return found


def plain(value: Decimal | None) -> str:
    """A number as the venue takes it: never an exponent."""
    if value is None or not value.is_finite() or value <= 0:
        raise Refused(f"an order with the price or quantity {value} was not sent")
    return format(value.normalize(), "f")


def _price(row: dict[str, Any], key: str, where: str) -> Decimal | None:
    """None where the row says nothing or 0."""
    told = row.get(key)
    return None if told in (None, "") else quantity(told, f"{where} {key}") or None


def _seconds(told: object, where: str) -> int | None:
    """Unix seconds, a number or a string, as milliseconds."""
    return None if told in (None, "") else int(number(told, where) * 1000)


def _step(row: dict[str, Any], key: str, where: str) -> Decimal:
    decimals = int(number(field(row, key, where), f"{where} {key}"))
    if not 0 <= decimals <= 18:
        raise Unreadable(f"schema: {where} has {key} {decimals}")
    return Decimal(1).scaleb(-decimals)
