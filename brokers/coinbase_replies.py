"""Coinbase's shapes: an order of ours as its `order_configuration`, its order and fill rows as ours (venue sheet, 4 and 5).

Pure: values in, values or one of the four errors out. Must never: guess. A row without a field we need is Unreadable, an empty
number is unknown and not zero, and what an order has filled is never worked out of what it has left.

The venue has no stop-market order. A STOP of ours goes out as a stop-limit whose limit is `slippage` beyond its trigger: in
a gap wider than that it rests unfilled, and the machine closes at market (PRO-10).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from brokers.base import BrokerError, Fatal, FillRow, OrderRow, Refused, Unanswered, Unavailable, Unreadable
from brokers.client_ids import ClientIds
from brokers.coinbase_words import Outcome, order_type, outcome, reported
from brokers.replies import field, number, printable, quantity
from brokers.spelling import Spelling
from state.instrument import Instrument
from state.orders import Order, OrderType, Side

KINDS = {
    OrderType.MARKET: "market_market_ioc",
    OrderType.LIMIT: "limit_limit_gtc",
    OrderType.STOP: "stop_limit_stop_limit_gtc",
    OrderType.STOP_LIMIT: "stop_limit_stop_limit_gtc",
}
# A BUY stop fires when the price rises to it. The other way round it would be an if-touched order: a breakout entry inverted.
DIRECTIONS = {Side.BUY: "STOP_DIRECTION_STOP_UP", Side.SELL: "STOP_DIRECTION_STOP_DOWN"}
NOT_APPLICABLE = ("", "REJECT_REASON_UNSPECIFIED")
WITH_TRIGGER = (OrderType.STOP, OrderType.STOP_LIMIT)


# -- ours to theirs --------------------------------------------------------------------------------------------------------------


def plain(value: Decimal | None) -> str:
    """A number in the one spelling that we use: no exponent, no zeros at the end, so that equal orders are equal bytes."""
    if value is None or not value.is_finite() or value <= 0:
        raise Refused(f"an order with the price or quantity {value} was not sent")
    return format(value.normalize(), "f")


def limit_of(order: Order, trigger: Decimal | None, limit: Decimal | None, instrument: Instrument, slippage: Decimal) -> Decimal:
    """The limit price to send: the order's own, or for a STOP the worst price it may be filled at."""
    if order.type is not OrderType.STOP:
        if limit is None:
            raise Refused(f"{order.client_id} has no limit price: it was not sent")
        return limit
    if trigger is None:
        raise Refused(f"{order.client_id} has no trigger price: it was not sent")
    if order.side is Side.BUY:
        return instrument.ceiling(trigger * (1 + slippage))
    return max(instrument.floor(trigger * (1 - slippage)), instrument.tick_size)


def configuration(order: Order, instrument: Instrument, slippage: Decimal) -> dict[str, dict[str, Any]]:
    fields: dict[str, Any] = {"base_size": plain(order.qty)}
    if order.type is not OrderType.MARKET:
        fields["limit_price"] = plain(limit_of(order, order.trigger_price, order.limit_price, instrument, slippage))
    if order.type is OrderType.LIMIT:
        fields["post_only"] = False
    if order.type in WITH_TRIGGER:
        fields["stop_price"] = plain(order.trigger_price)
        fields["stop_direction"] = DIRECTIONS[order.side]
    return {KINDS[order.type]: fields}


def difference(sent: dict[str, Any], row: dict[str, Any], spelling: Spelling) -> str | None:
    """What the venue's order has otherwise than the request with our id said, in words; None when all of it agrees."""
    if row.get("client_order_id") != sent["client_order_id"]:
        return f"it carries the client id {printable(str(row.get('client_order_id')), 60)}"
    if spelling.ours(row.get("product_id")) != spelling.ours(sent["product_id"]):
        return f"product {printable(str(row.get('product_id')), 60)}, not {sent['product_id']}"
    if row.get("side") != sent["side"]:
        return f"side {printable(str(row.get('side')), 30)}, not {sent['side']}"
    (kind, asked), found = next(iter(sent["order_configuration"].items())), row.get("order_configuration")
    fields = found.get(kind) if isinstance(found, dict) else None
    if not isinstance(fields, dict):
        return f"not a {kind} order"
    other = [key for key, value in asked.items() if _other(fields, key, value)]
    wrong = [f"{key} {printable(str(fields.get(key)), 40)}, not {asked[key]}" for key in other]
    return ", ".join(wrong) or None


def _other(fields: dict[str, Any], key: str, value: Any) -> bool:
    """Numbers are compared as numbers: "0.010" is "0.01"."""
    there = fields.get(key)
    if not isinstance(value, str) or key == "stop_direction":
        return bool(there != value)
    try:
        return number(there, key) != Decimal(value)
    except Unreadable:
        return True


# -- theirs to ours --------------------------------------------------------------------------------------------------------------


def known(row: dict[str, Any], key: str, where: str) -> Decimal | None:
    """A quantity or price of 0 or more; None where the row says nothing, which "" is too."""
    value = row.get(key)
    return None if value is None or value == "" else quantity(value, f"{where} {key}")


def order_id(row: dict[str, Any], key: str = "order_id") -> str | None:
    found = row.get(key)
    return printable(found, 100) if isinstance(found, str) and found else None


def side(word: object, where: str) -> Side:
    if word not in ("BUY", "SELL"):
        raise Unreadable(f"schema: {where} has side {printable(str(word), 30)!r}")
    return Side(word)


def order_row(row: dict[str, Any], spelling: Spelling, ids: ClientIds) -> OrderRow:
    """One order of `historical`, ours or not."""
    venue_id = order_id(row)
    if venue_id is None:
        raise Unreadable("schema: an order row has no order id")
    where = f"order {venue_id}"
    kind, fields = _configured(row, where)
    filled = known(row, "filled_size", where)
    size = known(fields, "base_size", where)
    average = known(row, "average_filled_price", where)
    return OrderRow(
        venue_id=venue_id,
        symbol=printable(spelling.ours(row.get("product_id"))),
        side=side(row.get("side"), where),
        state=reported(field(row, "status", where)),
        qty=size if size is not None else filled or Decimal(0),  # an order by quote amount says no size: never one of ours
        type=kind,
        limit_price=known(fields, "limit_price", where) or None,
        trigger_price=known(fields, "stop_price", where) or None,
        filled=filled,
        average=average or None if filled else None,
        client_id=ids.ours(row.get("client_order_id")),
        at_ms=epoch_ms(row.get("created_time")),
        label=printable(str(row.get("client_order_id") or ""), 100),
        reason=told_reason(row, "reject_reason", "reject_message", "cancel_message"),
    )


def told_reason(row: dict[str, Any], *keys: str) -> str:
    words = (str(row.get(key) or "") for key in keys)
    return printable(" ".join(word for word in words if word not in NOT_APPLICABLE))


def _configured(row: dict[str, Any], where: str) -> tuple[OrderType | None, dict[str, Any]]:
    """The one configuration of the order. A kind that we do not send has no type of ours."""
    told = field(row, "order_configuration", where)
    kinds = [(name, fields) for name, fields in told.items() if isinstance(fields, dict)] if isinstance(told, dict) else []
    if len(kinds) != 1:
        raise Unreadable(f"schema: {where} has {len(kinds)} configurations")
    name, fields = kinds[0]
    return order_type(name.split("_")[0] if not name.startswith("stop_limit") else "STOP_LIMIT"), fields


def fill_row(row: dict[str, Any], spelling: Spelling) -> FillRow:
    """One execution. Its size may be told in quote currency; its fee is in the quote currency of the product."""
    trade_id, venue_id = order_id(row, "entry_id"), order_id(row)
    if trade_id is None or venue_id is None:
        raise Unreadable("schema: a fill has no entry id or no order id")
    where = f"fill {trade_id}"
    price = quantity(field(row, "price", where), f"{where} price")
    size = quantity(field(row, "size", where), f"{where} size")
    if not price or not size:
        raise Unreadable(f"schema: {where} has size {size} at price {price}")
    at_ms = epoch_ms(row.get("trade_time"))
    if at_ms is None:
        raise Unreadable(f"schema: {where} has no time")
    symbol = printable(spelling.ours(row.get("product_id")))
    return FillRow(
        trade_id=trade_id,
        venue_id=venue_id,
        symbol=symbol,
        side=side(row.get("side"), where),
        qty=size / price if row.get("size_in_quote") is True else size,
        price=price,
        at_ms=at_ms,
        fee=known(row, "commission", where) or Decimal(0),
        fee_currency=symbol.rpartition("-")[2],
    )


def executions(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The executions that stand; and what the venue has taken back, as (what a person must know, entry id)."""
    others = [row for row in rows if row.get("trade_type", "FILL") != "FILL"]
    undone = [_facts(row) for row in others if row.get("trade_type") == "REVERSAL"]
    kept: list[dict[str, Any]] = []
    for row in rows:
        if _facts(row) in undone and row not in others:
            undone.remove(_facts(row))
        elif row not in others:
            kept.append(row)
    return kept, [(_told_back(row), str(row.get("entry_id"))) for row in others]


def _facts(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row.get(key) for key in ("order_id", "trade_id", "price", "size"))


def _told_back(row: dict[str, Any]) -> str:
    kind, size, price, of = (printable(str(row.get(key)), 60) for key in ("trade_type", "size", "price", "order_id"))
    return f"{kind} of {size} @ {price} of venue order {of}: it does not count, look at the account"


def instrument(row: dict[str, Any], symbol: str, exchange: str) -> Instrument:
    """The grid of a product. `quote_increment` is not the tick."""
    lot, tick = known(row, "base_increment", symbol), known(row, "price_increment", symbol)
    if not lot or not tick:  # a default here would round every stop wrongly
        raise Refused(f"{symbol} has no {'price_increment' if lot else 'base_increment'}: it cannot be traded")
    base, _, quote = symbol.partition("-")
    return Instrument(
        symbol,
        exchange,
        tick,
        lot,
        min_qty=known(row, "base_min_size", symbol) or Decimal(0),
        min_notional=known(row, "quote_min_size", symbol) or Decimal(0),
        freeze_qty=known(row, "base_max_size", symbol) or None,
        base=str(row.get("base_currency_id") or base),
        quote=str(row.get("quote_currency_id") or quote),
    )


def epoch_ms(text: object) -> int | None:
    """An RFC 3339 time as UTC epoch milliseconds; None for anything else."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int(found.timestamp() * 1000) if found.tzinfo is not None and found.year >= 2000 else None


# -- errors ----------------------------------------------------------------------------------------------------------------------


class BadToken(Exception):
    """401: what follows depends on what was asked, and how often this came."""


def failure(status: int, body: dict[str, Any] | None, read: bool) -> BrokerError | BadToken:
    """What a reply that is not a success means; a failed read never "may have happened"."""
    text = message(body)
    found, hint = outcome(status, text, body is not None)
    said = f'HTTP {status} "{text}"' if text else f"HTTP {status} without a readable message"
    words = f"{said}: {hint}" if hint else said
    if found is Outcome.TOKEN:
        return BadToken(words)
    if found is Outcome.FATAL:
        return Fatal(words)
    if found is Outcome.REFUSED:
        return Refused(words)
    return Unanswered(words) if found is Outcome.UNANSWERED and not read else Unavailable(words)


def message(body: dict[str, Any] | None) -> str:
    """All that an error body says, on one line."""
    said = {} if body is None else body
    words = [said.get(key) for key in ("error", "error_details", "message", "errors")]
    texts = [word if isinstance(word, str) else msgspec.json.encode(word).decode() for word in words if word]
    return printable(" ".join(dict.fromkeys(texts)))
