"""Coinbase's WebSocket dialects: prices (`ticker`), and on a second connection our orders (`user`) (venue sheet, section 11).

Both are pure but for one number, the `sequence_num` of the connection's last frame: it counts over all channels, so a gap means
that something was lost, and the connection is given up. A frame that cannot be read is `Noise`, never an exception.

What the venue does that one would not expect: a connection that does not subscribe to `heartbeats` is closed when it is quiet;
errors have no `channel`; a subscription to an alias is answered and fed under the other name; what an order has filled is told
cumulatively, and `leaves_quantity` is 0 once it has ended, however little it filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from brokers.base import OrderRow, Unreadable
from brokers.client_ids import ClientIds
from brokers.coinbase_replies import epoch_ms, known, order_id, side, told_reason
from brokers.coinbase_words import order_type, reported
from brokers.dialect import (
    Gap,
    Incomplete,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    Several,
    Snapshot,
    Subscribed,
    Tick,
    Trouble,
)
from brokers.replies import field, printable, quantity
from brokers.spelling import Spelling
from brokers.transport import is_loopback
from state.orders import OrderType

PRODUCTS_PER_FRAME = 100
_UNREADABLE = (ValueError, RecursionError, ArithmeticError)  # every msgspec error and a broken UTF-8 text are ValueErrors
Token = Callable[[], str]


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    price: Decimal


class _TickerEvent(msgspec.Struct, gc=False):
    type: str
    tickers: list[_Ticker]


class _TickerFrame(msgspec.Struct, gc=False):
    channel: Literal["ticker"]
    timestamp: str
    sequence_num: int
    events: list[_TickerEvent]


class _RawTickerEvent(msgspec.Struct):
    type: str = ""
    tickers: list[msgspec.Raw] = []


class _Head(msgspec.Struct):
    channel: str = ""
    sequence_num: int | None = None
    timestamp: str = ""
    type: str = ""
    message: Any = ""
    events: list[msgspec.Raw] = []


class _Acknowledged(msgspec.Struct):
    subscriptions: dict[str, list[str]] = {}


class _UserEvent(msgspec.Struct):
    orders: list[dict[str, Any]] = []


_read_ticks = msgspec.json.Decoder(_TickerFrame).decode
_read_head = msgspec.json.Decoder(_Head).decode
_read_raw_tickers = msgspec.json.Decoder(_RawTickerEvent).decode
_read_ticker = msgspec.json.Decoder(_Ticker).decode
_read_acknowledged = msgspec.json.Decoder(_Acknowledged).decode
_read_user = msgspec.json.Decoder(_UserEvent, float_hook=Decimal).decode


class _Connection:
    """What both connections have in common: heartbeats, numbered frames, errors."""

    needs_login = False

    def __init__(self, url: str, token: Token | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"not a WebSocket address: {url}")
        if parts.scheme == "ws" and not is_loopback(parts.hostname):
            raise ValueError(f"{url}: only wss may leave this machine, a token travels in every subscription")
        self.url = url
        self._token = token
        self._last: int | None = None  # sequence number of the connection's last frame

    def hello(self) -> list[str]:
        """The first subscription is due within 5 s, and without this one a quiet connection is closed."""
        self._last = None
        return [self._frame("heartbeats")]

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        return []

    def subscribe_orders(self) -> list[str]:
        return []

    def receive(self, frame: bytes) -> Message:
        try:
            head = _read_head(frame)
        except _UNREADABLE:
            return Noise("malformed")  # should it have been a numbered one, the next number tells
        return self._missed(head.sequence_num) or self._meaning(head)

    def _missed(self, number: int | None) -> Message | None:
        """None: the frame is the next one."""
        last = self._last
        if number is None:  # an error has none
            return None
        if last is not None and number <= last:
            return Noise("old sequence number")
        self._last = number
        if last is not None and number != last + 1:
            return Gap(f"frames {last + 1} to {number - 1} of the venue's stream are missing")
        return None

    def _meaning(self, head: _Head) -> Message:
        if head.channel == "heartbeats":
            return Noise("heartbeat")
        if head.channel:
            return self._other(head)
        if head.type != "error":
            return Noise("unknown type")
        reason = printable(str(head.message)) or "no reason given"
        return LoginRefused(reason) if "authentication" in reason.lower() else Trouble(reason)

    def _other(self, head: _Head) -> Message:
        return Noise("unknown channel")

    def _frame(self, channel: str, product_ids: Sequence[str] = ()) -> str:
        """One channel per message; each message with a token of its own."""
        fields: dict[str, object] = {"type": "subscribe"}
        if product_ids:
            fields["product_ids"] = list(product_ids)
        fields["channel"] = channel
        if self._token is not None:
            fields["jwt"] = self._token()
        return msgspec.json.encode(fields).decode()


class CoinbasePrices(_Connection):
    """Prices of the last trades. They need no key: without one no token is sent."""

    def __init__(self, url: str, spelling: Spelling, token: Token | None = None) -> None:
        super().__init__(url, token)
        self._spelling = spelling
        self._meant: dict[str, tuple[str, ...]] = {}  # product of a frame -> ours, as far as looked up since subscribing

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        for symbol in symbols:
            self._spelling.add(symbol)
        self._meant.clear()
        parts = [symbols[at : at + PRODUCTS_PER_FRAME] for at in range(0, len(symbols), PRODUCTS_PER_FRAME)]
        return [self._frame("ticker", part) for part in parts]

    def receive(self, frame: bytes) -> Message:
        """The hot path: a frame of tickers decodes at once, everything else fails there and is looked at."""
        try:
            told = _read_ticks(frame)
        except _UNREADABLE:
            return super().receive(frame)
        missed = self._missed(told.sequence_num)
        if missed is not None:
            return missed
        at_ms, messages = epoch_ms(told.timestamp), []
        for event in told.events:
            for ticker in event.tickers:
                messages += self._ticks(ticker, event.type, at_ms)
        return _one(messages)

    def _ticks(self, ticker: _Ticker, kind: str, at_ms: int | None) -> list[Message]:
        """One book may have two names, and both be traded (REC-10). A snapshot is a trade of before we came (FEE-13)."""
        if not ticker.product_id:
            return [Noise("no product")]  # empty frames occur
        symbols = self._meant.get(ticker.product_id) or self._look_up(ticker.product_id)
        if kind == "snapshot":
            return [Snapshot(symbol, ticker.price) for symbol in symbols]
        return [Tick(symbol, ticker.price, at_ms) for symbol in symbols]

    def _look_up(self, product: str) -> tuple[str, ...]:
        symbols = self._spelling.meant(product)
        if not symbols:
            return (product,)  # nobody's: the feed counts it
        self._meant[product] = symbols
        return symbols

    def _other(self, head: _Head) -> Message:
        if head.channel == "subscriptions":
            return self._acknowledged(head)
        if head.channel != "ticker":
            return Noise("unknown channel")
        messages: list[Message] = []
        for raw in head.events:
            try:
                event = _read_raw_tickers(raw)
            except _UNREADABLE:
                messages.append(Noise("malformed tick"))
                continue
            for part in event.tickers:
                messages += self._one_ticker(part, event.type, epoch_ms(head.timestamp))
        return _one(messages)

    def _one_ticker(self, raw: msgspec.Raw, kind: str, at_ms: int | None) -> list[Message]:
        """Of a frame in which one of the tickers cannot be read, the others count (FEE-08)."""
        try:
            return self._ticks(_read_ticker(raw), kind, at_ms)
        except _UNREADABLE:
            return [Noise("malformed tick")]

    def _acknowledged(self, head: _Head) -> Message:
        """Every answer lists all subscriptions so far. What is not in it is unanswered."""
        told = [name for raw in head.events for name in _listed(raw, "ticker") or ()]
        symbols = [symbol for name in told for symbol in self._spelling.meant(name)]
        return Subscribed(tuple(dict.fromkeys(symbols)), {})


class CoinbaseOrders(_Connection):
    """What becomes of our orders, and of everybody else's in this account."""

    def __init__(self, url: str, spelling: Spelling, ids: ClientIds, token: Token | None) -> None:
        super().__init__(url, token)
        self._spelling = spelling
        self._ids = ids

    def subscribe_orders(self) -> list[str]:
        return [self._frame("user")]

    def _other(self, head: _Head) -> Message:
        if head.channel == "subscriptions":
            found = any(_listed(raw, "user") is not None for raw in head.events)
            return OrdersSubscribed() if found else Noise("subscriptions")
        if head.channel != "user":
            return Noise("unknown channel")
        messages: list[Message] = []
        for raw in head.events:
            try:
                messages += [self._order(row) for row in _read_user(raw).orders]
            except _UNREADABLE:
                messages.append(Incomplete("an event of our orders cannot be read; asking the venue"))
        return _one(messages)

    def _order(self, row: dict[str, Any]) -> Message:
        try:
            return self._row(row)
        except (Unreadable, *_UNREADABLE):
            return Incomplete("an order update lacks its side, quantity, price or more; asking the venue")

    def _row(self, row: dict[str, Any]) -> OrderRow:
        venue_id = order_id(row) or ""
        if not venue_id:
            raise Unreadable("schema: an order update has no order id")
        where = f"order {venue_id}"
        state, kind = reported(field(row, "status", where)), order_type(row.get("order_type"))
        filled = quantity(field(row, "cumulative_quantity", where), where)
        leaves = known(row, "leaves_quantity", where)
        average = known(row, "avg_price", where)
        if (filled and not average) or (not state.closed and not leaves):
            raise Unreadable(f"schema: {where} lacks its price or what is left of it")
        return OrderRow(
            venue_id=venue_id,
            symbol=printable(self._spelling.ours(row.get("product_id"))),
            side=side(row.get("order_side"), where),
            state=state,
            qty=filled + (leaves or Decimal(0)),  # of one that has ended: what it filled, for its size is told no more
            type=kind,
            limit_price=None if kind is OrderType.MARKET else known(row, "limit_price", where) or None,
            trigger_price=known(row, "stop_price", where) or None,
            filled=filled,
            average=average if filled else None,
            client_id=self._ids.ours(row.get("client_order_id")),
            at_ms=epoch_ms(row.get("creation_time")),
            label=printable(str(row.get("client_order_id") or ""), 100),
            reason=told_reason(row, "reject_reason", "cancel_reason"),
        )


def _listed(raw: msgspec.Raw, channel: str) -> list[str] | None:
    """The products of a channel that an acknowledgement names; None when it does not name the channel."""
    try:
        return _read_acknowledged(raw).subscriptions.get(channel)
    except _UNREADABLE:
        return None


def _one(messages: list[Message]) -> Message:
    if len(messages) == 1:
        return messages[0]
    return Several(tuple(messages)) if messages else Noise("nothing in it")
