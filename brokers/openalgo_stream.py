"""OpenAlgo's WebSocket dialect: frames to send, and the meaning of frames received (venues reference, section 13).

Pure: no socket, clock or lock. It decides nothing and remembers nothing; a frame it cannot read is `Noise`, never an exception.
Prices and quantities are decoded from the text of the frame straight into `Decimal`.

What the venue does that one would not expect: errors carry no `type`; a subscription answers "partial" even when all of it
failed; ticks may have a time in seconds or none; order updates have no time and, once filled, overwrite the limit price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from brokers.base import OrderRow, Reported
from brokers.dialect import (
    Incomplete,
    LoggedIn,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    OrdersUnsupported,
    Several,
    Subscribed,
    Tick,
    Trouble,
)
from brokers.openalgo_words import reported
from brokers.spelling import Spelling
from state.orders import OrderType, Side
from state.threads import OS_THREADS

LTP = 1  # subscription mode: last traded price only
SYMBOLS_PER_FRAME = 500  # 5,000 in one frame come near the usual 1 MB limit of a server
SECONDS_BELOW = 100_000_000_000  # as milliseconds this is 1973, as seconds the year 5138
LOGIN_ERRORS = frozenset({"AUTHENTICATION_ERROR", "NOT_AUTHENTICATED"})
ORDER_TYPES = {"MARKET": OrderType.MARKET, "LIMIT": OrderType.LIMIT, "SL": OrderType.STOP_LIMIT, "SL-M": OrderType.STOP}
WITH_LIMIT = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
WITH_TRIGGER = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})


class _Quote(msgspec.Struct, gc=False):
    ltp: Decimal
    timestamp: int | float | str | None = None


class _MarketData(msgspec.Struct, gc=False):
    type: Literal["market_data"]
    symbol: str
    exchange: str
    data: _Quote


class _Head(msgspec.Struct):
    """What every other message has, or lacks."""

    type: str = ""
    status: str = ""
    code: str = ""
    message: Any = ""


class _Line(msgspec.Struct):
    symbol: str | None = None
    exchange: str | None = None
    status: str = ""
    message: Any = ""


class _Subscribed(msgspec.Struct):
    subscriptions: list[_Line]


class _OrderUpdate(msgspec.Struct):
    orderid: str | int
    symbol: str
    exchange: str
    action: str
    quantity: Decimal
    order_status: str
    pricetype: str = ""
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    filled_quantity: Decimal | None = None
    average_price: Decimal | None = None
    rejection_reason: str | None = None


_read_tick = msgspec.json.Decoder(_MarketData).decode
_read_head = msgspec.json.Decoder(_Head).decode
_read_subscribed = msgspec.json.Decoder(_Subscribed).decode
_read_order = msgspec.json.Decoder(_OrderUpdate).decode
_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (ValueError, RecursionError)  # every msgspec error and a broken UTF-8 text are ValueErrors


class OpenAlgoStream:
    """The dialect of one server and one exchange. The key goes into the login frame and nowhere else."""

    needs_login = True

    def __init__(self, url: str, api_key: str, exchange: str, spelling: Spelling | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"not a WebSocket address: {url}")
        if parts.scheme == "ws" and not _is_loopback(parts.hostname):
            raise ValueError(f"{url}: only wss may leave this machine, the key travels in the first message")
        self.url = url
        self._api_key = api_key
        self._exchange = exchange
        self._spelling = spelling or Spelling(OS_THREADS)
        self._known = self._spelling.known

    def hello(self) -> list[str]:
        return [_frame(action="authenticate", api_key=self._api_key)]

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        for symbol in symbols:
            self._spelling.add(symbol)
        parts = [symbols[at : at + SYMBOLS_PER_FRAME] for at in range(0, len(symbols), SYMBOLS_PER_FRAME)]
        return [
            _frame(
                action="subscribe",
                mode=LTP,
                symbols=[{"symbol": symbol, "exchange": self._exchange} for symbol in part],
                request_id=f"t{number}",
            )
            for number, part in enumerate(parts)
        ]

    def subscribe_orders(self) -> list[str]:
        return [_frame(action="subscribe_orders", request_id="o1")]

    def receive(self, frame: bytes) -> Message:
        """The hot path is the first few lines: a tick decodes at once, everything else fails there and is looked at."""
        try:
            tick = _read_tick(frame)
        except _UNREADABLE:
            return self._receive_other(frame)
        symbol = self._known.get(tick.symbol)
        if symbol is None or tick.exchange != self._exchange:
            if tick.exchange.strip().upper() != self._exchange:
                return Noise("other exchange")
            symbol = self._spelling.ours(tick.symbol)
        at = tick.data.timestamp
        return Tick(symbol, tick.data.ltp, at if type(at) is int and at > SECONDS_BELOW else _epoch_ms(at))

    def _receive_other(self, frame: bytes) -> Message:
        try:
            if frame.lstrip()[:1] == b"[":
                return Several(tuple(self.receive(bytes(part)) for part in _read_array(frame)))
            return self._meaning(_read_head(frame), frame)
        except _UNREADABLE:
            return Noise("malformed")

    def _meaning(self, head: _Head, frame: bytes) -> Message:
        ok, reason = head.status == "success", _text(head.message) or head.code or "no reason given"
        match head.type:
            case "order_update":
                return self._order(frame)
            case "auth":
                return LoggedIn() if ok else LoginRefused(reason)
            case "subscribe":
                return self._subscribed(_read_subscribed(frame).subscriptions)
            case "subscribe_orders":
                return OrdersSubscribed() if ok else OrdersUnsupported(reason)
            case "market_data":
                return Noise("malformed tick")
            case "" if head.status == "error":
                return _error(head.code, reason)
            case _:
                return Noise("unknown type")

    def _subscribed(self, lines: Iterable[_Line]) -> Subscribed:
        ours = [(self._spelling.ours(line.symbol), line) for line in lines if self._is_ours(line.exchange)]
        return Subscribed(
            ok=tuple(symbol for symbol, line in ours if symbol and line.status == "success"),
            failed={symbol: _text(line.message) or "refused" for symbol, line in ours if symbol and line.status != "success"},
        )

    def _is_ours(self, exchange: str | None) -> bool:
        return exchange is not None and exchange.strip().upper() == self._exchange

    def _order(self, frame: bytes) -> Message:
        try:
            update = _read_order(frame)
            return self._row(update) if self._is_ours(update.exchange) else Noise("order at another exchange")
        except _UNREADABLE:
            return Incomplete("an order update lacks its side, quantity, price or more; asking the venue")

    def _row(self, update: _OrderUpdate) -> OrderRow:
        numbers = (update.quantity, update.price, update.trigger_price, update.filled_quantity, update.average_price)
        if not all(number is None or (number.is_finite() and number >= 0) for number in numbers) or not update.quantity:
            raise ValueError("a quantity or price that is none")
        if update.filled_quantity and not update.average_price:
            raise ValueError("an execution without a price")
        state, kind = reported(update.order_status), ORDER_TYPES.get(update.pricetype.strip().upper())
        limit_is_told = kind in WITH_LIMIT and state is Reported.WORKING and not update.filled_quantity
        return OrderRow(
            venue_id=str(update.orderid),
            symbol=self._spelling.ours(update.symbol),
            side=Side(update.action.strip().upper()),
            state=state,
            qty=update.quantity,
            type=kind,
            limit_price=update.price or None if limit_is_told else None,  # a fill overwrites it (section 10)
            trigger_price=update.trigger_price or None if kind in WITH_TRIGGER else None,
            filled=update.filled_quantity,
            average=update.average_price or None,
            reason=_text(update.rejection_reason),
        )


def _epoch_ms(value: int | float | str | None) -> int | None:
    """Seconds and milliseconds give one instant; text, zero and nonsense are no time at all. A float is fine for a time."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if value is None or not 0 < value < 1e18:
        return None
    return round(value * 1000) if value < SECONDS_BELOW else round(value)


def _error(code: str, reason: str) -> Message:
    if code in LOGIN_ERRORS:
        return LoginRefused(reason)
    if code == "INVALID_ACTION":  # of what we send only subscribe_orders is younger than some servers
        return OrdersUnsupported(reason)
    return Trouble(f"{code}: {reason}" if code else reason)


def _text(value: object) -> str:
    """A venue's free text, safe to log on one line."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]


def _frame(**fields: object) -> str:
    return msgspec.json.encode(fields).decode()


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
