"""Coinbase Advanced Trade on 127.0.0.1: REST and WebSocket in the venue's dialect around the one matching engine.

Written from the venue sheet, without a line of the adapter. Tokens are checked with the public key. `fault` queues what happens
to the next calls of a path; `seen` keeps every request. `price` is one trade: it matches, and tells whoever has subscribed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from brokers.base import FillRow, OrderRow, Refused, Reported
from brokers.matching import Change, MatchingEngine
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

D = Decimal
Json = dict[str, Any]
BASE = "/api/v3/brokerage"
KEY_NAME = "organizations/11111111-2222-3333-4444-555555555555/apiKeys/66666666-7777-8888-9999-000000000000"
_KEY = ec.generate_private_key(ec.SECP256R1())
SECRET = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()
WORDS = {
    Reported.WORKING: "OPEN",
    Reported.FILLED: "FILLED",
    Reported.CANCELLED: "CANCELLED",
    Reported.EXPIRED: "EXPIRED",
    Reported.REJECTED: "FAILED",
}
KINDS = {
    "market_market_ioc": OrderType.MARKET,
    "limit_limit_gtc": OrderType.LIMIT,
    "stop_limit_stop_limit_gtc": OrderType.STOP_LIMIT,
}


def product(product_id: str, **more: Any) -> Json:
    base, quote = product_id.split("-")
    return {
        "product_id": product_id,
        "price": "60000.00",
        "base_increment": "0.00000001",
        "price_increment": "0.01",
        "quote_increment": "0.00000001",
        "base_min_size": "0.00000001",
        "base_max_size": "3400",
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_currency_id": base,
        "quote_currency_id": quote,
        "status": "online",
        "trading_disabled": False,
        "is_disabled": False,
        "view_only": False,
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "auction_mode": False,
        "alias": "",
        "alias_to": [],
        "product_type": "SPOT",
    } | more


PRODUCTS = (
    product("BTC-USD", alias_to=["BTC-USDC"]),
    product("BTC-USDC", alias="BTC-USD"),
    product("ETH-USD", price="3000.00"),
)


@dataclass(frozen=True)
class Fault:
    """`acts_after_s`: when the call is carried out (0: at once, None: never). `reply` None: the line is cut instead."""

    acts_after_s: float | None = 0.0
    reply: tuple[int, bytes] | None = None
    honest: bool = False  # answer what there is to answer
    headers: tuple[tuple[str, str], ...] = ()


LOST_BEFORE = Fault(None)
LOST_AFTER = Fault(0.0)
OK = Fault(0.0, honest=True)


def late(seconds: float = float("inf")) -> Fault:
    """No answer, and carried out long after: so many seconds, or when the test says `let_go`."""
    return Fault(seconds)


def answers(status: int, body: Json | str, acts: bool = False, headers: Json | None = None) -> Fault:
    content = body if isinstance(body, str) else json.dumps(body)
    return Fault(0.0 if acts else None, (status, content.encode()), headers=tuple((headers or {}).items()))


def no(reason: str, **more: Any) -> Fault:
    """A refusal, which is HTTP 200."""
    return answers(200, refusal(reason) | more)


def refusal(reason: str, text: str = "no") -> Json:
    told = {"error": reason, "message": text, "error_details": "", "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON"}
    return {"success": False, "failure_reason": "UNKNOWN_FAILURE_REASON", "order_id": "", "error_response": told}


@dataclass(frozen=True)
class Seen:
    method: str
    path: str  # without the base
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One stream connection."""

    line: ServerConnection
    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0
    subscribed: dict[str, set[str]] = field(default_factory=dict)

    def send(self, channel: str, events: list[Json]) -> None:
        with self.lock, suppress(ConnectionClosed):
            frame = {"channel": channel, "timestamp": now(), "sequence_num": self.number, "events": events}
            self.number += 1
            self.line.send(json.dumps(frame))


class CoinbaseDouble:
    def __init__(self, products: tuple[Json, ...] = PRODUCTS, fee_rate: str = "0.006", **balances: str) -> None:
        self.products = {row["product_id"]: dict(row) for row in products}
        grid = {
            name: Instrument(name, "COINBASE", D(row["price_increment"]), D(row["base_increment"]), D(row["base_min_size"]))
            for name, row in self.products.items()
        }
        self.engine = MatchingEngine(grid, fee_rate=D(fee_rate))
        self.balances: dict[str, Decimal] = {name: D(value) for name, value in (balances or {"USD": "1000000"}).items()}
        self.permissions: Json = {
            "can_view": True,
            "can_trade": True,
            "can_transfer": False,
            "portfolio_uuid": "p",
            "portfolio_type": "DEFAULT",
        }
        self.tokens_valid = True  # False: every token is refused
        self.behind_ms = 0  # how far the venue's clock is behind this machine's
        self.holds = True  # what a resting sell would sell cannot be sold twice
        self.heartbeat_s = 0.2
        self.page = 1_000
        self.words: dict[str, str] = {}  # order id -> the status word shown instead
        self.hidden: set[str] = set()  # order ids that the listing does not show
        self.more_fills: list[Json] = []
        self.tokens: list[Json] = []  # header and claims of each accepted one
        self.seen: list[Seen] = []
        self.said: list[Json] = []  # what streams were asked
        self.peers: list[Peer] = []
        self.fills_shown = True
        self._by_client: dict[str, str] = {}
        self._sent: dict[str, Json] = {}  # order id -> its request
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._lock = threading.RLock()  # guards everything above
        self._timers: list[threading.Timer] = []
        self._held: list[Seen] = []
        self._stopping = threading.Event()

    # -- for tests -------------------------------------------------------------------------------------------------------

    def start(self) -> CoinbaseDouble:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._ws = serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2)
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self._ws.serve_forever, daemon=True),
            threading.Thread(target=self._beat, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.host = f"127.0.0.1:{self._http.server_address[1]}"
        self.rest_url = f"http://{self.host}{BASE}"
        self.ws_url = self.stream_url = f"ws://127.0.0.1:{self._ws.socket.getsockname()[1]}"
        return self

    def stop(self) -> None:
        self._stopping.set()
        for timer in self._timers:
            timer.cancel()
        self.drop()
        self._http.shutdown()
        self._http.server_close()
        self._ws.shutdown()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> CoinbaseDouble:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault(self, path: str, *faults: Fault) -> None:
        """What happens to the next calls of this path (without the base), one by one."""
        with self._lock:
            self._faults[path].extend(faults)

    def let_go(self) -> None:
        """What was held up is carried out now."""
        while self._held:
            self._route(self._held.pop(0))

    def price(self, product_id: str, price: str, available: str | None = None) -> None:
        """One trade of this product."""
        with self._lock:
            self.products[product_id]["price"] = price
            changes = self.engine.tick(product_id, D(price), ms(), None if available is None else D(available))
            self._booked(changes)
        self.tell_price(product_id, price)
        self.tell_orders(changes)

    def tell_price(self, product_id: str, price: object, kind: str = "update") -> None:
        """An alias is told under the name of the book."""
        label = self.products[product_id]["alias"] or product_id
        names = {label, *self.products[label]["alias_to"]}
        ticker = {"type": "ticker", "product_id": label, "price": price, "best_bid": price, "best_ask": price}
        for peer in self._subscribers("ticker"):
            if names & peer.subscribed["ticker"]:
                peer.send("ticker", [{"type": kind, "tickers": [ticker]}])

    def tell_orders(self, changes: list[Change]) -> None:
        rows = [self.user_row(change) for change in changes if isinstance(change, OrderRow)]
        for peer in self._subscribers("user"):
            if rows:
                peer.send("user", [{"type": "update", "orders": rows}])

    def lose_a_frame(self) -> None:
        """The next number is missing on every connection."""
        for peer in self.peers:
            with peer.lock:
                peer.number += 1

    def drop(self) -> None:
        """Cut every stream."""
        for peer in list(self.peers):
            peer.line.close_socket()

    def asked(self, path: str) -> list[Seen]:
        with self._lock:
            return [seen for seen in self.seen if seen.path == path]

    def working(self) -> list[OrderRow]:
        with self._lock:
            return [row for row in self.engine.orders() if row.state is Reported.WORKING]

    def created(self) -> int:
        with self._lock:
            return len(self.engine.orders())

    # -- orders ----------------------------------------------------------------------------------------------------------

    def create(self, asked: Json) -> Json:
        with self._lock:
            client = asked["client_order_id"]
            if client not in self._by_client:
                why_not = self._why_not(asked)
                if why_not is not None:
                    return refusal(why_not)
                self._take(asked)
            venue_id = self._by_client[client]
            first = self._sent[venue_id]
            told = {
                "order_id": venue_id,
                "product_id": first["product_id"],
                "side": first["side"],
                "client_order_id": client,
                "attached_order_id": "",
            }
            # The misleading spare parts of the documentation's own example.
            return {
                "success": True,
                "failure_reason": "UNKNOWN_FAILURE_REASON",
                "success_response": told,
                "error_response": {"error": "UNKNOWN_FAILURE_REASON", "message": ""},
                "order_configuration": first["order_configuration"],
            }

    def _take(self, asked: Json) -> None:
        ((kind, fields),) = asked["order_configuration"].items()
        order = Order(
            client_id=asked["client_order_id"],
            symbol=asked["product_id"],
            purpose=Purpose.ENTRY,
            side=Side(asked["side"]),
            type=KINDS[kind],
            qty=D(fields["base_size"]),
            limit_price=D(fields["limit_price"]) if "limit_price" in fields else None,
            trigger_price=D(fields["stop_price"]) if "stop_price" in fields else None,
        )
        venue_id = self.engine.submit(order, ms())
        self._by_client[order.client_id], self._sent[venue_id] = venue_id, json.loads(json.dumps(asked))
        row = self.engine.order(venue_id)
        changes = self.engine.match_idle(order.symbol, ms()) if order.type is OrderType.MARKET else []
        self._booked(changes)
        self.tell_orders([row, *changes] if row is not None else changes)

    def _why_not(self, asked: Json) -> str | None:
        ((kind, fields),) = asked["order_configuration"].items()
        if asked["product_id"] not in self.products:
            return "INVALID_PRODUCT_ID"
        if D(fields["base_size"]) < D(self.products[asked["product_id"]]["base_min_size"]):
            return "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"
        if kind.startswith("stop"):
            up = {"BUY": "STOP_DIRECTION_STOP_UP", "SELL": "STOP_DIRECTION_STOP_DOWN"}[asked["side"]]
            if fields["stop_direction"] != up:
                return "INVALID_STOP_DIRECTION"
        for key in ("limit_price", "stop_price"):
            if key in fields and D(fields[key]) % D(self.products[asked["product_id"]]["price_increment"]):
                return "INVALID_PRICE_PRECISION"
        base = self.products[asked["product_id"]]["base_currency_id"]
        short = asked["side"] == "SELL" and D(fields["base_size"]) > self.balances.get(base, D(0)) - self.held(base)
        return "INSUFFICIENT_FUND" if short and self.holds else None

    def held(self, currency: str) -> Decimal:
        """What working sells would sell."""
        sells = [row for row in self.engine.orders() if row.state is Reported.WORKING and row.side is Side.SELL]
        mine = [row for row in sells if self.products[row.symbol]["base_currency_id"] == currency]
        return sum((row.qty - (row.filled or D(0)) for row in mine), D(0))

    def _booked(self, changes: list[Change]) -> None:
        for fill in changes:
            if isinstance(fill, FillRow):
                row = self.products[fill.symbol]
                base, quote = row["base_currency_id"], row["quote_currency_id"]
                self.balances[base] = self.balances.get(base, D(0)) + fill.qty * fill.side.sign
                self.balances[quote] = self.balances.get(quote, D(0)) - fill.qty * fill.price * fill.side.sign - fill.fee

    def cancel(self, asked: Json) -> Json:
        results = []
        for venue_id in asked["order_ids"]:
            with self._lock:
                row, reason = self.engine.order(venue_id), "UNKNOWN_CANCEL_FAILURE_REASON"
                if row is None:
                    reason = "UNKNOWN_CANCEL_ORDER"
                elif row.state is Reported.FILLED:
                    reason = "ORDER_IS_FULLY_FILLED"
                elif row.state is not Reported.WORKING:
                    reason = "DUPLICATE_CANCEL_REQUEST"
                else:
                    self.tell_orders([self.engine.cancel(venue_id, ms())])
            done = reason == "UNKNOWN_CANCEL_FAILURE_REASON"
            results.append({"success": done, "failure_reason": reason, "order_id": venue_id})
        return {"results": results}

    def edit(self, asked: Json) -> Json:
        with self._lock:
            row = self.engine.order(asked["order_id"])
            if row is None or row.state is not Reported.WORKING:
                return _not_edited("ORDER_NOT_FOUND")
            size, filled = D(asked.get("size", "0")), row.filled or D(0)
            if size <= filled:
                return _not_edited("INVALID_EDITED_SIZE" if "size" not in asked else "CANNOT_EDIT_TO_BELOW_FILLED_SIZE")
            trigger = D(asked["stop_price"]) if "stop_price" in asked else row.trigger_price
            try:
                changed = self.engine.replace(asked["order_id"], size, trigger, D(asked["price"]), ms())
            except Refused as wrong:
                return _not_edited(str(wrong))
            self.tell_orders([changed])
            return {"success": True}

    # -- rows ------------------------------------------------------------------------------------------------------------

    def order_row(self, row: OrderRow) -> Json:
        first, filled = self._sent[row.venue_id], row.filled or D(0)
        ((kind, fields),) = first["order_configuration"].items()
        fields = dict(fields) | {"base_size": text(row.qty)}
        if row.limit_price is not None:
            fields["limit_price"] = text(row.limit_price)
        if row.trigger_price is not None:
            fields["stop_price"] = text(row.trigger_price)
        fees = sum((fill.fee for fill in self.engine.fills() if fill.venue_id == row.venue_id), D(0))
        return {
            "order_id": row.venue_id,
            "client_order_id": first["client_order_id"],
            "product_id": row.symbol,
            "side": row.side.value,
            "status": self.words.get(row.venue_id, WORDS[row.state]),
            "order_configuration": {kind: fields},
            "time_in_force": "GOOD_UNTIL_CANCELLED",
            "created_time": stamp(row.at_ms or 0),
            "filled_size": text(filled),
            "average_filled_price": text(row.average or D(0)),
            "filled_value": text(filled * (row.average or D(0))),
            "fee": "",
            "total_fees": text(fees),
            "size_in_quote": False,
            "pending_cancel": False,
            "trigger_status": "INVALID_ORDER_TYPE",
            "order_type": (row.type or OrderType.LIMIT).value,
            "reject_reason": "REJECT_REASON_UNSPECIFIED",
            "reject_message": "",
            "cancel_message": "",
            "edit_history": [],
            "order_placement_source": "RETAIL_ADVANCED",
        }

    def user_row(self, row: OrderRow) -> Json:
        with self._lock:
            filled = row.filled or D(0)
            return {
                "order_id": row.venue_id,
                "client_order_id": self._sent[row.venue_id]["client_order_id"],
                "product_id": row.symbol,
                "order_side": row.side.value,
                "order_type": {OrderType.STOP_LIMIT: "Stop Limit"}.get(
                    row.type or OrderType.LIMIT, str(row.type and row.type.value.title())
                ),
                "status": WORDS[row.state],
                "cumulative_quantity": text(filled),
                "leaves_quantity": text(row.qty - filled) if row.state is Reported.WORKING else "0",
                "avg_price": text(row.average or D(0)),
                "filled_value": "",
                "total_fees": "0",
                "limit_price": "" if row.limit_price is None else text(row.limit_price),
                "stop_price": "" if row.trigger_price is None else text(row.trigger_price),
                "cancel_reason": "",
                "reject_reason": "REJECT_REASON_UNSPECIFIED",
                "creation_time": stamp(row.at_ms or 0),
                "product_type": "SPOT",
                "post_only": "false",
            }

    def fill_rows(self) -> list[Json]:
        rows = [
            {
                "entry_id": f"entry-{fill.trade_id}",
                "trade_id": fill.trade_id,
                "order_id": fill.venue_id,
                "trade_time": stamp(fill.at_ms),
                "trade_type": "FILL",
                "price": text(fill.price),
                "size": text(fill.qty),
                "commission": text(fill.fee),
                "product_id": fill.symbol,
                "sequence_timestamp": stamp(fill.at_ms),
                "liquidity_indicator": "TAKER",
                "size_in_quote": False,
                "side": fill.side.value,
            }
            for fill in self.engine.fills()
        ]
        return [*rows, *self.more_fills] if self.fills_shown else list(self.more_fills)

    def accounts(self) -> list[Json]:
        found = []
        for name, total in self.balances.items():
            held = self.held(name)
            amounts = {"available_balance": total - held, "hold": held}
            found.append(
                {"uuid": name, "currency": name} | {key: {"value": text(v), "currency": name} for key, v in amounts.items()}
            )
        return found

    # -- REST ------------------------------------------------------------------------------------------------------------

    def answer(self, seen: Seen) -> tuple[int, bytes, tuple[tuple[str, str], ...]] | None:
        """None: the line is cut."""
        with self._lock:
            self.seen.append(seen)
            faults = self._faults.get(seen.path)
            fault = faults.popleft() if faults else OK
        if not seen.path.startswith("market/") and seen.path != "time" and not self._known(seen):
            return 401, b"Unauthorized", ()
        said: tuple[int, Json] = (500, {})
        if fault.acts_after_s == float("inf"):
            self._held.append(seen)
        elif fault.acts_after_s:
            timer = threading.Timer(fault.acts_after_s, self._route, [seen])
            self._timers.append(timer)
            timer.start()
        elif fault.acts_after_s is not None:
            said = self._route(seen)
        if fault.honest:
            return said[0], json.dumps(said[1]).encode(), ()
        return None if fault.reply is None else (*fault.reply, fault.headers)

    def _known(self, seen: Seen) -> bool:
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        return self.token_is_good(token, f"{seen.method} {self.host}{BASE}/{seen.path}")

    def token_is_good(self, token: str, uri: str | None) -> bool:
        try:
            options: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False}
            claims = jwt.decode(token, _KEY.public_key(), ["ES256"], options=options)
        except jwt.PyJWTError:
            return False
        header = jwt.get_unverified_header(token)
        fresh = all(header != known["header"] for known in self.tokens)  # a nonce comes once
        now_s = (ms() - self.behind_ms) / 1000
        good = claims["nbf"] - 2 <= now_s < claims["exp"] and claims.get("uri") == uri
        good = good and claims["sub"] == header["kid"] == KEY_NAME and claims["exp"] - claims["nbf"] == 120
        if good and fresh and self.tokens_valid:
            self.tokens.append({"header": header, "claims": claims})
            return True
        return False

    def _route(self, seen: Seen) -> tuple[int, Json]:
        posts: dict[str, Callable[[Json], Json]] = {
            "orders": self.create,
            "orders/batch_cancel": self.cancel,
            "orders/edit": self.edit,
        }
        if seen.method == "POST":
            return 200, posts[seen.path](json.loads(seen.body))
        with self._lock:
            return self._get(seen)

    def _get(self, seen: Seen) -> tuple[int, Json]:
        path = seen.path.removeprefix("market/")
        if path == "time":
            return 200, {"iso": now(), "epochSeconds": str(ms() // 1000), "epochMillis": str(ms())}
        if path == "key_permissions":
            return 200, self.permissions
        if path.startswith("products/"):
            row = self.products.get(path.removeprefix("products/"))
            return (200, row) if row else (404, {"error": "NOT_FOUND", "message": "valid product_id is required"})
        if path == "accounts":
            return 200, self._paged("accounts", self.accounts(), seen.query, 49)
        if path == "orders/historical/fills":
            return 200, self._paged("fills", self.fill_rows(), seen.query, 100)
        rows = [self.order_row(row) for row in self.engine.orders()]
        if path == "orders/historical/batch":
            statuses = seen.query.get("order_status")
            since = seen.query.get("start_date", [""])[0]
            rows = [row for row in rows if row["order_id"] not in self.hidden and row["created_time"] >= since]
            rows = [row for row in rows if not statuses or row["status"] in statuses]
            return 200, self._paged("orders", rows, seen.query, 100)
        one = [row for row in rows if row["order_id"] == path.removeprefix("orders/historical/")]
        return (
            (200, {"order": one[0]}) if one else (404, {"error": "NOT_FOUND", "message": "order with this orderID was not found"})
        )

    def _paged(self, key: str, rows: list[Json], query: dict[str, list[str]], default: int) -> Json:
        size = min(int(query.get("limit", [str(default)])[0]), self.page)
        start = int(query.get("cursor", ["0"])[0])
        more = start + size < len(rows)
        found = {key: rows[start : start + size], "cursor": str(start + size) if more else ""}
        return found if key == "fills" else found | {"has_next": more}

    # -- streams ---------------------------------------------------------------------------------------------------------

    def _serve(self, line: ServerConnection) -> None:
        peer = Peer(line)
        with self._lock:
            self.peers.append(peer)
        try:
            for message in line:
                asked = json.loads(message)
                self.said.append(asked)
                self._subscribe(peer, asked)
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                self.peers.remove(peer)

    def _subscribe(self, peer: Peer, asked: Json) -> None:
        channel, token = asked["channel"], asked.get("jwt")
        must = channel == "user" or token is not None
        if channel not in ("heartbeats", "ticker", "user") or (must and not self.token_is_good(str(token), None)):
            peer.line.send(json.dumps({"type": "error", "message": "authentication failure"}))
            return
        peer.subscribed.setdefault(channel, set()).update(asked.get("product_ids", []))
        listed = {name: sorted(products) or [name] for name, products in peer.subscribed.items()}
        peer.send("subscriptions", [{"subscriptions": listed}])
        if channel == "user":
            peer.send("user", [{"type": "snapshot", "orders": [self.user_row(row) for row in self.working()]}])
        if channel == "ticker":
            for name in asked["product_ids"]:
                if name in self.products:
                    self._snapshot(peer, name)

    def _snapshot(self, peer: Peer, name: str) -> None:
        label = self.products[name]["alias"] or name
        ticker = {"type": "ticker", "product_id": label, "price": self.products[name]["price"]}
        peer.send("ticker", [{"type": "snapshot", "tickers": [ticker]}])

    def _subscribers(self, channel: str) -> list[Peer]:
        with self._lock:
            return [peer for peer in self.peers if channel in peer.subscribed]

    def _beat(self) -> None:
        count = 0
        while not self._stopping.wait(self.heartbeat_s):
            count += 1
            for peer in self._subscribers("heartbeats"):
                peer.send("heartbeats", [{"current_time": now(), "heartbeat_counter": count}])


def _not_edited(reason: str) -> Json:
    return {
        "success": False,
        "errors": [{"edit_failure_reason": reason, "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON"}],
    }


def _handler(double: CoinbaseDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def _serve(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = parts.path.removeprefix(f"{BASE}/")
            said = double.answer(Seen(method, path, parse_qs(parts.query), headers, body))
            if said is None:
                self.close_connection = True
                return
            status, content, more = said
            self.send_response(status)
            for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(content))), *more):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int(ms() - double.behind_ms) // 1000)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def ms() -> int:
    return time.time_ns() // 1_000_000


def now() -> str:
    return stamp(ms())


def stamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text(value: Decimal) -> str:
    return format(value, "f")
