"""The WebSocket side of the practice venue, in the OpenAlgo dialect (venues/openalgo.md, section 13).

Owns connections, subscriptions and messages. Each client has one bounded queue, so what it gets is in the venue's order; a client
that falls too far behind is cut off rather than served with holes. There is no snapshot on subscribe and no replay, as in the
real thing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from brokers.base import OrderRow
from brokers.practice_reply import BROKER, NO_PRICE
from brokers.practice_rest import kind_word, status_word
from brokers.practice_schema import BadJson, read_message
from brokers.practice_venue import Venue
from brokers.tape import TapeTick
from state.clock import SystemClock
from state.orders import ZERO

ENCODER = msgspec.json.Encoder(decimal_format="number")
MODES = {1: "LTP", 2: "Quote", 3: "Depth"}
_MODE_NUMBERS = {**{word.lower(): number for number, word in MODES.items()}, **{str(number): number for number in MODES}}
_AUTH_TIMEOUT_CODE = 4401
_TOO_SLOW_CODE = 1013

Message = dict[str, Any]


class Stream:
    """All connections. The venue tells it ticks and orders; the socket server gives it connections."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.clients: set[Client] = set()
        self.subscribers: dict[tuple[str, int], set[Client]] = {}  # (symbol, mode)
        self.order_subscribers: set[Client] = set()
        venue.on_tick = self.tell_tick
        venue.on_order = self.tell_order

    async def connect(self, socket: ServerConnection) -> None:
        """One connection, from first byte to last."""
        client = Client(self, socket)
        self.clients.add(client)
        sending = asyncio.create_task(client.send_queued())
        bouncer = asyncio.create_task(client.close_unless_authenticated(self.venue.spec.settings.auth_timeout_s))
        try:
            async for text in socket:
                client.take(text)
        except ConnectionClosed:
            pass  # gone without a goodbye
        finally:
            self.forget(client)
            sending.cancel()
            bouncer.cancel()

    def forget(self, client: Client) -> None:
        self.clients.discard(client)
        self.order_subscribers.discard(client)
        for key in [key for key, clients in self.subscribers.items() if client in clients]:
            self.unsubscribe(client, *key)

    def unsubscribe(self, client: Client, symbol: str, mode: int) -> bool:
        clients = self.subscribers.get((symbol, mode), set())
        if client not in clients:
            return False
        clients.discard(client)
        if not clients:
            del self.subscribers[symbol, mode]
        return True

    def tell_tick(self, tick: TapeTick) -> None:
        for mode in MODES:
            clients = self.subscribers.get((tick.symbol, mode))
            if clients:
                message = ENCODER.encode(self.market_data(tick, mode))
                for client in clients:
                    client.put(message)

    def tell_order(self, row: OrderRow) -> None:
        if self.order_subscribers:
            self.put_update(ENCODER.encode(self.order_update(row)))

    def put_update(self, message: bytes) -> None:
        for client in self.order_subscribers:
            client.put(message)

    def market_data(self, tick: TapeTick, mode: int) -> Message:
        name = {"symbol": tick.symbol, "exchange": self.venue.instruments[tick.symbol].exchange, "mode": mode}
        quote: Message = name | {"ltp": tick.price, "timestamp": tick.at_ms, "ltt": tick.at_ms}
        if mode > 1:
            prices = self.venue.prices[tick.symbol]
            ends = {"open": prices.open, "high": prices.high, "low": prices.low, "close": prices.previous_close}
            quote |= ends | {"volume": prices.volume}
        if mode == 3:
            level = [{"price": tick.price, "quantity": tick.qty or 0, "orders": 1}]
            quote["depth"] = {"buy": level, "sell": level}
        return {"type": "market_data"} | name | {"data": quote, "broker": BROKER}

    def order_update(self, row: OrderRow) -> Message:
        filled = row.filled or ZERO
        average = row.average or NO_PRICE
        return {
            "type": "order_update",
            "user_id": self.venue.spec.account,
            "mode": "analyze",
            "broker": "sandbox",
            "orderid": row.venue_id,
            "symbol": row.symbol,
            "exchange": self.venue.instruments[row.symbol].exchange,
            "action": row.side.value,
            "quantity": row.qty,
            "price": average if filled else row.limit_price or NO_PRICE,  # section 10: a fill overwrites the limit
            "trigger_price": row.trigger_price or NO_PRICE,
            "pricetype": kind_word(row),
            "product": self.venue.spec.settings.product,
            "order_status": status_word(self.venue, row),
            "filled_quantity": filled,
            "pending_quantity": 0,  # always, as on the real stream
            "average_price": average,
            "rejection_reason": row.reason,
        }


class Client:
    """One connection: what it said, and what it is still to be told."""

    def __init__(self, stream: Stream, socket: ServerConnection) -> None:
        self._stream = stream
        self.socket = socket
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(stream.venue.spec.settings.stream_queue)
        self._authenticated = False
        self._closing: asyncio.Task[None] | None = None
        self._actions: dict[str, Callable[[Message], None]] = {
            "authenticate": self._authenticate,
            "auth": self._authenticate,
            "ping": self._ping,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "unsubscribe_all": self._unsubscribe_all,
            "subscribe_orders": self._subscribe_orders,
            "unsubscribe_orders": self._unsubscribe_orders,
            "get_broker_info": self._broker_info,
            "get_supported_brokers": self._supported_brokers,
        }

    def put(self, message: bytes) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.close(_TOO_SLOW_CODE, "too slow")

    async def send_queued(self) -> None:
        try:
            while True:
                await self.socket.send((await self._queue.get()).decode())
        except ConnectionClosed:
            pass  # the reader sees it too and forgets this client

    async def close_unless_authenticated(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)
        if not self._authenticated:
            await self.socket.close(_AUTH_TIMEOUT_CODE, "auth timeout")

    def take(self, text: str | bytes) -> None:
        """Answer one message."""
        try:
            message = read_message(text)
        except BadJson:
            message = None
        if not isinstance(message, dict):
            self._fail("INVALID_JSON", "Invalid JSON message")
            return
        action = message.get("action") or message.get("type")
        carry_out = self._actions.get(action) if isinstance(action, str) else None
        if carry_out is None:
            self._fail("INVALID_ACTION", f"Invalid action: {action}")
        elif not self._authenticated and carry_out not in (self._authenticate, self._ping):
            self._fail("NOT_AUTHENTICATED", "You must authenticate first")
        else:
            carry_out(message)

    def _authenticate(self, message: Message) -> None:
        key = message.get("api_key") or message.get("apikey")
        if not key:
            self._fail("AUTHENTICATION_ERROR", "API key is required")
            return
        if not secrets.compare_digest(str(key).encode(), self._stream.venue.spec.api_key.encode()):
            self._fail("AUTHENTICATION_ERROR", "Invalid API key")
            return
        self._authenticated = True
        who = {"broker": BROKER, "user_id": self._stream.venue.spec.account}
        features = {"supported_features": {"ltp": True, "quote": True, "depth": True}}
        self._tell({"type": "auth", "status": "success", "message": "Authentication successful"} | who | features)

    def _subscribe(self, message: Message) -> None:
        mode = _MODE_NUMBERS.get(str(message.get("mode", 2)).lower())
        if mode is None:
            self._fail("INVALID_MODE", f"Invalid mode: {message.get('mode')}")
            return
        wanted = _named(message)
        if wanted is None:
            self._fail("INVALID_PARAMETERS", "Symbols list is required")
            return
        depth = message.get("depth", 5)
        answers = [self._subscribe_one(symbol, exchange, mode, depth) for symbol, exchange, _ in wanted]
        status = "success" if all(answer["status"] == "success" for answer in answers) else "partial"
        reply = {"type": "subscribe", "status": status, "subscriptions": answers}
        self._tell(reply | {"message": "Subscription processing complete", "broker": BROKER}, message)

    def _subscribe_one(self, symbol: str, exchange: str, mode: int, depth: Any) -> Message:
        name = {"symbol": symbol, "exchange": exchange}
        if self._stream.venue.instrument(symbol, exchange) is None:
            why = f"Symbol {symbol} not found for exchange {exchange}"
            return name | {"status": "error", "message": why, "broker": BROKER}
        self._stream.subscribers.setdefault((symbol, mode), set()).add(self)
        return name | {"status": "success", "mode": MODES[mode], "depth": depth, "broker": BROKER}

    def _unsubscribe(self, message: Message) -> None:
        wanted = _named(message)
        if wanted is None:
            self._fail("INVALID_PARAMETERS", "Symbols list is required")
            return
        done: list[Message] = []
        failed: list[Message] = []
        for symbol, exchange, word in wanted:
            mode = _MODE_NUMBERS.get(str(word or message.get("mode", 2)).lower(), 0)
            known = self._stream.venue.instrument(symbol, exchange) is not None
            ended = known and self._stream.unsubscribe(self, symbol, mode)
            (done if ended else failed).append({"symbol": symbol, "exchange": exchange, "mode": MODES.get(mode, str(word))})
        status = "success" if not failed else "partial" if done else "error"
        reply = {"type": "unsubscribe", "status": status, "successful": done, "failed": failed}
        self._tell(reply | {"message": "Unsubscription processing complete", "broker": BROKER}, message)

    def _unsubscribe_all(self, message: Message) -> None:
        ours = [key for key, clients in self._stream.subscribers.items() if self in clients]
        for key in ours:
            self._stream.unsubscribe(self, *key)
        self._tell({"type": "unsubscribe_all", "status": "success", "message": f"Unsubscribed from {len(ours)} symbols"}, message)

    def _subscribe_orders(self, message: Message) -> None:
        self._stream.order_subscribers.add(self)
        self._tell({"type": "subscribe_orders", "status": "success", "message": "Subscribed to order updates"}, message)

    def _unsubscribe_orders(self, message: Message) -> None:
        self._stream.order_subscribers.discard(self)
        self._tell({"type": "unsubscribe_orders", "status": "success", "message": "Unsubscribed from order updates"}, message)

    def _ping(self, message: Message) -> None:
        times = {"server_timestamp": SystemClock().now_ms(), "client_timestamp": message.get("timestamp")}
        self._tell({"type": "pong", "status": "success"} | times | {"_pingId": message.get("_pingId")})

    def _broker_info(self, message: Message) -> None:
        self._tell({"type": "broker_info", "status": "success", "broker": BROKER, "adapter_status": "connected"}, message)

    def _supported_brokers(self, message: Message) -> None:
        self._tell({"type": "supported_brokers", "status": "success", "brokers": [BROKER], "count": 1}, message)

    def _tell(self, reply: Message, request: Message | None = None) -> None:
        if request is not None and "request_id" in request:
            reply["request_id"] = request["request_id"]
        self.put(ENCODER.encode(reply))

    def _fail(self, code: str, reason: str) -> None:
        self._tell({"status": "error", "code": code, "message": reason})

    def close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self.socket.close(code, reason))


def _named(message: Message) -> list[tuple[str, str, Any]] | None:
    """(symbol, exchange, mode) of each entry; entries without a name are skipped in silence, as the real server does."""
    symbols = message.get("symbols")
    if symbols is None and message.get("symbol"):
        symbols = [message]
    if not isinstance(symbols, list) or not symbols:
        return None
    named = [item for item in symbols if isinstance(item, dict)]
    return [
        (item["symbol"], item["exchange"], item.get("mode"))
        for item in named
        if isinstance(item.get("symbol"), str) and isinstance(item.get("exchange"), str)
    ]
