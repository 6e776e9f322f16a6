"""Kraken's WebSocket v2 dialects: public trades, and the private channel of our executions (venue sheet, section 11).

Pure but for one injected call, which fetches the token of a private connection. A frame that cannot be read is `Noise`, a
row that says too little of its order is `Incomplete`; neither is ever an exception. Numbers go from text to Decimal.

What the venue does that one would not expect: an answer for each symbol, so that one channel's must not count for another's; a
snapshot of old trades on subscribing; rows that name an order only by its id; "partially_filled" of an order that is full.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from brokers.base import BrokerError, FillRow, OrderRow, Unreadable
from brokers.client_ids import ClientIds
from brokers.dialect import (
    Gap,
    Incomplete,
    LoggedIn,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    Several,
    Snapshot,
    Subscribed,
    Tick,
    Trouble,
    VenueOpen,
)
from brokers.kraken_names import Executions, Names
from brokers.kraken_replies import WITH_LIMIT, WITH_TRIGGER, our_id, side_of
from brokers.kraken_words import kind_of, reported
from brokers.replies import decode, number, printable, quantity
from brokers.transport import is_loopback
from brokers.wire import WireClosed
from state.orders import OrderType, Side

SYMBOLS_PER_FRAME = 100
KEPT_ORDERS = 1_024
NOTHING = Several(())  # heard, and nothing to say about it
MAY_ENTER = "online"


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    price: Decimal
    timestamp: str
    trade_id: int = 0


class _Trades(msgspec.Struct, gc=False):
    channel: Literal["trade"]
    type: str
    data: list[_Trade]


class _RawTrades(msgspec.Struct):
    channel: Literal["trade"]
    type: str
    data: list[msgspec.Raw]


_read_trades = msgspec.json.Decoder(_Trades).decode
_read_raw_trades = msgspec.json.Decoder(_RawTrades).decode
_read_trade = msgspec.json.Decoder(_Trade).decode
_UNREADABLE = (ValueError, RecursionError, ArithmeticError)


class KrakenPrices:
    """The dialect of the public connection: every trade of our pairs is a tick."""

    needs_login = False

    def __init__(self, url: str, names: Names) -> None:
        self.url = _checked(url)
        self._names = names
        self._known = names.symbols

    def hello(self) -> list[str]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        for symbol in symbols:
            self._known.setdefault(self._names.socket(symbol), symbol)
        parts = [symbols[at : at + SYMBOLS_PER_FRAME] for at in range(0, len(symbols), SYMBOLS_PER_FRAME)]
        return [
            _frame("subscribe", number, channel="trade", symbol=[self._names.socket(symbol) for symbol in part], snapshot=True)
            for number, part in enumerate(parts, 1)
        ]

    def subscribe_orders(self) -> list[str]:
        return []

    def receive(self, frame: bytes) -> Message:
        """The hot path is the first few lines: trades decode at once, everything else fails there and is looked at."""
        try:
            told = _read_trades(frame)
        except _UNREADABLE:
            return self._receive_other(frame)
        return self._trades(told.type, told.data)

    def _trades(self, type: str, trades: list[_Trade]) -> Message:
        if type != "update":
            return self._snapshot(trades)
        if len(trades) == 1:
            return self._tick(trades[0])
        return Several(tuple(map(self._tick, trades)))

    def _tick(self, trade: _Trade) -> Tick:
        return Tick(self._known.get(trade.symbol, trade.symbol), trade.price, _epoch_ms(trade.timestamp))

    def _snapshot(self, trades: list[_Trade]) -> Message:
        """The last trades of before we came: the newest is a price to judge by, none of them is a tick."""
        latest = {trade.symbol: trade for trade in sorted(trades, key=lambda trade: trade.trade_id)}
        return Several(tuple(Snapshot(self._known.get(name, name), trade.price) for name, trade in latest.items()))

    def _receive_other(self, frame: bytes) -> Message:
        try:
            told = _read_raw_trades(frame)
        except _UNREADABLE:
            return self._meaning(decode(frame))
        if told.type != "update":
            return Noise("malformed snapshot")
        return Several(tuple(map(self._row, told.data)))

    def _row(self, row: msgspec.Raw) -> Message:
        try:
            return self._tick(_read_trade(row))
        except _UNREADABLE:
            return Noise("malformed tick")

    def _meaning(self, told: dict[str, Any] | None) -> Message:
        common = _common(told)
        if common is not None or told is None:
            return common or Noise("malformed")
        if told.get("method") != "subscribe":
            return Noise("unknown message")
        result, reason = told.get("result"), printable(str(told.get("error") or "refused"))
        if told.get("success") is True:
            about = result if isinstance(result, dict) else {}
            if about.get("channel") != "trade":
                return Noise("answer of another channel")
            return Subscribed((self._ours(about.get("symbol")),), {})
        if told.get("symbol") is None:
            return Trouble(f"a subscription was refused: {reason}")
        return Subscribed((), {self._ours(told["symbol"]): reason})

    def _ours(self, name: object) -> str:
        return self._known.get(str(name), self._names.ours(name))


class _Order(msgspec.Struct):
    """What is known of an order for good, and what the last row said of its prices: rows may name it by its id alone."""

    symbol: str
    side: Side
    qty: Decimal
    type: OrderType | None
    limit: Decimal | None
    trigger: Decimal | None
    client_id: str | None


class KrakenOrders:
    """The dialect of the private connection. `fetch_token` asks over REST, on the thread that reads here."""

    needs_login = True  # in its own way: nothing is asked before the venue has said that it is online

    def __init__(self, url: str, fetch_token: Callable[[], str], names: Names, ids: ClientIds, executions: Executions) -> None:
        self.url = _checked(url)
        self._fetch_token = fetch_token
        self._names, self._ids, self._executions = names, ids, executions
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._sequence: int | None = None
        self._online = False

    def hello(self) -> list[str]:
        self._sequence, self._online = None, False
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        return []

    def subscribe_orders(self) -> list[str]:
        try:
            token = self._fetch_token()
        except BrokerError as error:
            raise WireClosed(f"no token for the private stream: {error}") from None
        wanted = {"snap_orders": True, "snap_trades": True, "order_status": True, "ratecounter": True}
        return [_frame("subscribe", 1, channel="executions", token=token, **wanted)]

    def receive(self, frame: bytes) -> Message:
        told = decode(frame)
        common = _common(told)
        if isinstance(common, VenueOpen) and common.why_not is None and not self._online:
            self._online = True
            return Several((common, LoggedIn()))
        if common is not None or told is None:
            return common or Noise("malformed")
        if told.get("channel") == "executions":
            return self._executed(told)
        if told.get("method") == "subscribe":
            return self._answered(told)
        return Noise("unknown message")

    def _answered(self, told: dict[str, Any]) -> Message:
        if told.get("success") is not True:
            return LoginRefused(printable(str(told.get("error") or "refused")))
        result = told.get("result")
        if not isinstance(result, dict) or result.get("channel") != "executions":
            return Noise("answer of another channel")
        self._executions.want_all()
        return OrdersSubscribed()

    def _executed(self, told: dict[str, Any]) -> Message:
        sequence, rows = told.get("sequence"), told.get("data")
        if not isinstance(sequence, int) or not isinstance(rows, list):
            return Incomplete("an executions message without its number or rows; asking the venue")
        last, self._sequence = self._sequence, sequence
        if last is not None and sequence <= last:
            self._sequence = last
            return Noise("executions heard before")
        if last is not None and sequence != last + 1:
            self._executions.want_all()
            return Gap(f"executions {last + 1} to {sequence - 1} were lost: connecting anew")
        return Several(tuple(message for row in rows for message in self._row(row)))

    def _row(self, row: Any) -> list[Message]:
        """Executions first: whoever reads that an order is filled shall know by what."""
        if not isinstance(row, dict) or not isinstance(row.get("order_id"), str):
            return [Incomplete("a row of the executions names no order; asking the venue")]
        where = f"executions row of {printable(row['order_id'], 40)}"
        try:
            order, whole = self._known(row, where)
            fills = [self._fill(row, where, order)] if row.get("exec_type") == "trade" else []
            for fill in fills:
                self._executions.add(fill)
            return [*fills, *self._order(row, where, order, whole)]
        except Unreadable as wrong:
            return [Incomplete(f"{wrong}; asking the venue")]

    def _known(self, row: dict[str, Any], where: str) -> tuple[_Order, bool]:
        """The order with what this row adds to it, and whether its prices are those of now."""
        known = self._orders.get(row["order_id"])
        trigger, limit = _price(row.get("triggers"), "price", where), _price(row, "limit_price", where)
        changed = row.get("exec_type") in ("amended", "restated")
        if known is None:
            if not all(row.get(key) for key in ("symbol", "side", "order_qty")):
                raise Unreadable(f"schema: {where} does not say of what, which side or how much")
            kind = kind_of(row.get("order_type"), trigger is not None)
            symbol = self._names.symbols.get(str(row["symbol"]), self._names.ours(row["symbol"]))
            client_id = our_id(row.get("cl_ord_id"), self._ids)
            qty, side = quantity(row["order_qty"], f"{where} order_qty"), side_of(row["side"], where)
            known = self._orders[row["order_id"]] = _Order(printable(symbol), side, qty, kind, limit, trigger, client_id)
        else:
            known.qty = quantity(row["order_qty"], f"{where} order_qty") if row.get("order_qty") else known.qty
            known.limit = limit or (None if changed else known.limit)
            known.trigger = trigger or (None if changed else known.trigger)
            known.client_id = known.client_id or our_id(row.get("cl_ord_id"), self._ids)
        self._orders.move_to_end(row["order_id"])
        while len(self._orders) > KEPT_ORDERS:
            self._orders.popitem(last=False)
        lacks_trigger = known.type in WITH_TRIGGER and known.trigger is None
        return known, not lacks_trigger and not (changed and not row.get("order_qty"))

    def _fill(self, row: dict[str, Any], where: str, order: _Order) -> FillRow:
        qty, paid = (quantity(row.get(key), f"{where} {key}") for key in ("last_qty", "last_price"))
        at_ms = _epoch_ms(row.get("timestamp"))
        if not qty or not paid or at_ms is None or not row.get("exec_id"):
            raise Unreadable(f"schema: {where} lacks the id, quantity, price or time of its execution")
        told = row.get("fees")
        fees = [fee for fee in told if isinstance(fee, dict)] if isinstance(told, list) else []
        currencies = {str(fee.get("asset")) for fee in fees}
        if len(currencies) > 1:
            raise Unreadable(f"schema: {where} has fees in {len(currencies)} currencies")
        return FillRow(
            trade_id=str(row["exec_id"]),
            venue_id=row["order_id"],
            symbol=order.symbol,
            side=order.side,
            qty=qty,
            price=paid,
            at_ms=at_ms,
            fee=sum((number(fee.get("qty"), f"{where} fee") for fee in fees), Decimal(0)),
            fee_currency=self._names.asset(currencies.pop()) if currencies else "",
        )

    def _order(self, row: dict[str, Any], where: str, order: _Order, whole: bool) -> list[Message]:
        """Of a trade in a snapshot nothing: it is old, says "filled" whatever came of it, and has no total."""
        filled = None if row.get("cum_qty") is None else quantity(row["cum_qty"], f"{where} cum_qty")
        if row.get("exec_type") == "trade" and filled is None:
            return []
        word = "filled" if row.get("exec_type") == "filled" else row.get("order_status")
        reason = printable(str(row.get("reason") or row.get("cancel_reason") or ""))
        state = reported(word, order.qty, filled, reason)
        if not whole and not state.closed:
            return []  # at which prices it works now, the books tell: an amend of ours is read back at once
        return [
            OrderRow(
                venue_id=row["order_id"],
                symbol=order.symbol,
                side=order.side,
                state=state,
                qty=order.qty,
                type=order.type,
                limit_price=order.limit if order.type in WITH_LIMIT else None,
                trigger_price=order.trigger if order.type in WITH_TRIGGER else None,
                filled=filled,
                average=_price(row, "avg_price", where) if filled else None,
                client_id=order.client_id or our_id(row.get("cl_ord_id"), self._ids),
                reason=reason,
            )
        ]


def _common(told: dict[str, Any] | None) -> Message | None:
    """What both connections hear."""
    if told is None:
        return None
    if told.get("channel") == "heartbeat" or told.get("method") in ("pong", "unsubscribe"):
        return NOTHING
    if told.get("channel") != "status":
        return Trouble(printable(str(told["error"]))) if "error" in told and "method" not in told else None
    rows = told.get("data")
    word = rows[0].get("system") if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None
    return VenueOpen(None if word == MAY_ENTER else f"the venue is in {printable(str(word), 30)}")


def _price(row: Any, key: str, where: str) -> Decimal | None:
    told = row.get(key) if isinstance(row, dict) else None
    return None if told in (None, "") else quantity(told, f"{where} {key}") or None


def _epoch_ms(text: object) -> int | None:
    """An RFC 3339 time; None for anything else."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if found.tzinfo is None else round(found.timestamp() * 1000)


def _frame(method: str, req_id: int, **params: object) -> str:
    return msgspec.json.encode({"method": method, "params": params, "req_id": req_id}).decode()


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"not a WebSocket address: {url}")
    if parts.scheme == "ws" and not is_loopback(parts.hostname):
        raise ValueError(f"{url}: only wss may leave this machine, a token travels in the first message")
    return url
