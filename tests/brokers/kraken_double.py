"""Kraken on 127.0.0.1: its REST and WebSocket v2 dialects around the matching engine, written from the venue sheet.

Knows nothing of the adapter. `start`, `stop`, `rest_url`, `ws_url`, `stream_url`, `price(pair, price)`; `faults[name]` says what
goes wrong with the next calls of one name, `calls` keeps every private request that came. With a `clock` of its own and `answer`
it can be asked without a socket.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from brokers.base import FillRow, OrderRow, Refused, Reported
from brokers.matching import MatchingEngine, NotFound
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

logging.getLogger("websockets").setLevel(logging.CRITICAL)
D = Decimal
KEY = "public-key-of-the-double"
SECRET = base64.b64encode(b"a secret that never leaves this machine").decode()
KINDS = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop-loss": OrderType.STOP,
    "stop-loss-limit": OrderType.STOP_LIMIT,
}
WORDS = {kind: word for word, kind in KINDS.items()}
REST_WORD = {Reported.WORKING: "open", Reported.FILLED: "closed", Reported.CANCELLED: "canceled", Reported.EXPIRED: "expired"}
COSTS = {"TradesHistory": 2, "AddOrder": 0, "AmendOrder": 0, "CancelOrder": 0}
LOST = object()  # the connection ends without an answer


class Pair(NamedTuple):
    id: str
    altname: str
    wsname: str
    socket: str
    base: str
    quote: str
    instrument: Instrument

    def described(self) -> dict[str, Any]:
        grid = self.instrument
        return {
            "altname": self.altname,
            "wsname": self.wsname,
            "aclass_base": "currency",
            "base": self.base,
            "aclass_quote": "currency",
            "quote": self.quote,
            "pair_decimals": -int(grid.tick_size.as_tuple().exponent),
            "lot_decimals": 8,
            "lot_multiplier": 1,
            "cost_decimals": 5,
            "ordermin": str(grid.min_qty),
            "costmin": str(grid.min_notional),
            "tick_size": str(grid.tick_size),
            "status": "online",
            "fees": [[0, "0.40"]],
            "fees_maker": [[0, "0.25"]],
        }


def pair(id: str, altname: str, wsname: str, base: str, quote: str, tick: str, least: str) -> Pair:
    new = wsname.replace("XBT", "BTC").replace("XDG", "DOGE")
    return Pair(id, altname, wsname, new, base, quote, Instrument(altname, "", D(tick), D("1e-8"), D(least), D("0.5")))


PAIRS = (
    pair("XXBTZUSD", "XBTUSD", "XBT/USD", "XXBT", "ZUSD", "0.1", "0.0001"),
    pair("XETHZUSD", "ETHUSD", "ETH/USD", "XETH", "ZUSD", "0.01", "0.002"),
    pair("SOLUSD", "SOLUSD", "SOL/USD", "SOL", "ZUSD", "0.01", "0.02"),
    pair("XDGUSD", "XDGUSD", "XDG/USD", "XXDG", "ZUSD", "0.0000001", "20"),
)


class Call(NamedTuple):
    name: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class KrakenDouble:
    """A context manager, or `start` and `stop`. Faults of a name: "lose_before", "lose_after", "keep", ("error", text),
    ("reply", status, body). "keep" loses the connection and holds the request back until `deliver`."""

    def __init__(self, clock: Any = None, *, enforce_limits: bool = True) -> None:
        self.clock = clock or WallClock()
        self.lock = threading.RLock()
        self.engine = MatchingEngine({p.altname: p.instrument for p in PAIRS}, fee_rate=D("0.004"), fee_currency="USD")
        self.balances: dict[str, Decimal] = defaultdict(Decimal, {"ZUSD": D(1_000_000), "XXBT.F": D("7")})
        self.faults: defaultdict[str, deque[Any]] = defaultdict(deque)
        self.calls: list[Call] = []
        self.kept: list[Call] = []
        self.lockouts = 0
        self.system = "online"
        self.skew_ms = 0  # of the venue's clock
        self.send_executions = True
        self._enforce = enforce_limits
        self._nonce = 0
        self._level, self._level_ms = D(0), self.now_ms()
        self._engine_levels: dict[str, tuple[Decimal, int]] = {}
        self._client_ids: dict[str, str] = {}  # txid -> cl_ord_id
        self._newest: dict[str, str] = {}  # cl_ord_id -> the engine's id of its last order
        self._told = 0
        self.tokens: list[str] = []
        self.public: list[_Peer] = []
        self.private: list[_Peer] = []

    # -- life --------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> KrakenDouble:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> KrakenDouble:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._sockets = [
            serve(make, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2)
            for make in (self._serve_public, self._serve_private)
        ]
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True),
            *(threading.Thread(target=s.serve_forever, daemon=True) for s in self._sockets),
        ]
        for thread in self._threads:
            thread.start()
        self.rest_url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.ws_url, self.stream_url = (f"ws://127.0.0.1:{s.socket.getsockname()[1]}" for s in self._sockets)
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for server in self._sockets:
            server.shutdown()
        self.drop_streams()
        for thread in self._threads:
            thread.join(5)

    def drop_streams(self) -> None:
        for peer in (*self.public, *self.private):
            peer.connection.close_socket()

    # -- the market --------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return int(self.clock.now_ms()) + getattr(self, "skew_ms", 0)

    def price(self, name: str, price: Decimal | str, available: Decimal | None = None) -> None:
        """One trade of the market: it matches what rests, and everybody hears of it."""
        with self.lock:
            found = self.pair(name)
            changes = self.engine.tick(found.altname, D(price), self.now_ms(), available)
            self._tell_trade(found, D(price))
            self._settle(changes)

    def pair(self, name: str) -> Pair:
        return next(p for p in PAIRS if name in (p.id, p.altname, p.wsname, p.socket))

    def book(self) -> list[str]:
        """What works, in words: "sell stop-loss 0.01 @ 49900"."""
        rows = [row for row in self.engine.orders() if row.state is Reported.WORKING]
        return [f"{r.side.value.lower()} {WORDS[r.type or OrderType.MARKET]} {r.qty} @ {_at(r)}" for r in rows]

    def placed(self) -> int:
        return len(self.engine.orders())

    def named(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def deliver(self) -> list[Any]:
        """Requests that were held back reach the engine now; it refuses what is past its deadline."""
        kept, self.kept = self.kept, []
        with self.lock:
            return [self._private_result(call.name, call.fields) for call in kept]

    def status(self, word: str) -> None:
        with self.lock:
            self.system = word
            for peer in (*self.public, *self.private):
                peer.send(self._status())

    def lose_a_number(self) -> None:
        """One message of every private connection is lost on its way."""
        for peer in self.private:
            peer.sequence += 1

    # -- REST --------------------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | object:
        parts = urlsplit(target)
        name = parts.path.rpartition("/")[2]
        with self.lock:
            fault = self.faults[name].popleft() if self.faults[name] else None
            call = Call(name, headers, body)
            if method == "POST":
                self.calls.append(call)
            if fault == "lose_before":
                return LOST
            if fault == "keep":
                self.kept.append(call)
                return LOST
            if isinstance(fault, tuple) and fault[0] == "reply":
                return fault[1], fault[2]
            if isinstance(fault, tuple):
                told: dict[str, Any] = {"error": [fault[1]]}
            elif parts.path.startswith("/0/public/") and method == "GET":
                told = self._public(name, dict(parse_qsl(parts.query)))
            else:
                told = self._why_not(parts.path, headers, body, name) or self._private_result(name, call.fields)
            return LOST if fault == "lose_after" else (200, json.dumps(told).encode())

    def _why_not(self, path: str, headers: dict[str, str], body: bytes, name: str) -> dict[str, Any] | None:
        fields = dict(parse_qsl(body.decode()))
        digest = hashlib.sha256(fields.get("nonce", "").encode() + body).digest()
        signature = hmac.new(base64.b64decode(SECRET), path.encode() + digest, hashlib.sha512).digest()
        if headers.get("api-key") != KEY:
            return {"error": ["EAPI:Invalid key"]}
        if headers.get("api-sign") != base64.b64encode(signature).decode():
            return {"error": ["EAPI:Invalid signature"]}
        nonce = int(fields["nonce"])
        if nonce <= self._nonce:
            self.lockouts += 1
            return {"error": ["EAPI:Invalid nonce"]}
        self._nonce = nonce
        return {"error": ["EAPI:Rate limit exceeded"]} if self._over(COSTS.get(name, 1)) else None

    def _over(self, cost: int) -> bool:
        """The counter of a Starter key: 15 at most, less by 0.33 in a second."""
        now_ms = self.now_ms()
        self._level = max(D(0), self._level - D("0.00033") * (now_ms - self._level_ms)) + cost
        self._level_ms = now_ms
        if self._enforce and cost and self._level > 15:
            self.lockouts += 1
            return True
        return False

    def _engine_over(self, altname: str, points: int) -> bool:
        level, since_ms = self._engine_levels.get(altname, (D(0), self.now_ms()))
        level = max(D(0), level - D(self.now_ms() - since_ms) / 1000) + points
        self._engine_levels[altname] = (level, self.now_ms())
        return self._enforce and level > 60

    def _public(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        if name == "Time":
            now_s = self.now_ms() // 1000
            return _ok({"unixtime": now_s, "rfc1123": formatdate(now_s)})
        if name == "SystemStatus":
            return _ok({"status": self.system, "timestamp": _iso(self.now_ms())})
        wanted = query["pair"].split(",")
        found = [p for p in PAIRS if {p.id, p.altname, p.wsname} & set(wanted)]
        if len(found) != len(wanted):
            return {"error": ["EQuery:Unknown asset pair"]}
        if name == "AssetPairs":
            return _ok({p.id: p.described() for p in found})
        last = {p.id: self.engine.last(p.altname) for p in found}
        return _ok({id: {"c": [str(price), "0.1"], "o": str(price)} for id, price in last.items() if price is not None})

    def _private_result(self, name: str, fields: dict[str, str]) -> dict[str, Any]:
        return getattr(self, f"_{name}")(fields)  # type: ignore[no-any-return]

    def _AddOrder(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        altname, now_ms = fields["pair"], self.now_ms()
        if all(altname not in (p.id, p.altname, p.wsname) for p in PAIRS):
            return {"error": ["EQuery:Unknown asset pair"]}
        if self._engine_over(altname, 1):
            return {"error": ["EOrder:Rate limit exceeded"]}
        if "deadline" in fields:
            left_ms = _ms(fields["deadline"]) - now_ms
            if left_ms > 60_000:
                return {"error": ["EGeneral:Invalid arguments:deadline"]}
            if left_ms < 0:
                return {"error": ["EService:Deadline elapsed"]}
        mine = fields.get("cl_ord_id", "")
        last = self.engine.order(self._newest.get(mine, ""))
        if last is not None and last.state is Reported.WORKING:
            return {"error": ["EGeneral:Invalid arguments:cl_ord_id not unique"]}
        kind, qty = KINDS[fields["ordertype"]], D(fields["volume"])
        stop = kind in (OrderType.STOP, OrderType.STOP_LIMIT)
        limit = fields.get("price2" if stop else "price")
        side = Side(fields["type"].upper())
        known = self.pair(altname)
        if kind is OrderType.MARKET and side is Side.SELL and self.balances[known.base] < qty:
            return {"error": ["EOrder:Insufficient funds"]}
        order = Order(
            client_id=mine,
            symbol=altname,
            purpose=Purpose.ENTRY,
            side=side,
            type=kind,
            qty=qty,
            limit_price=D(limit) if limit and kind is not OrderType.STOP else None,
            trigger_price=D(fields["price"]) if stop else None,
        )
        try:
            txid = order_id(self.engine.submit(order, now_ms))
        except Refused:
            return {"error": ["EOrder:Order minimum not met" if qty < known.instrument.min_qty else "EOrder:Invalid price"]}
        self._client_ids[txid], self._newest[mine] = mine, _number(txid)
        self._tell_order(txid, "pending_new")
        self._tell_order(txid, "new", bare=True)
        self._settle(self.engine.match_idle(altname, now_ms))
        return _ok({"descr": {"order": f"{fields['type']} {qty} {altname} @ {fields['ordertype']}"}, "txid": [txid]})

    def _AmendOrder(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        row = self.engine.order(_number(fields["txid"]))
        if row is None or row.state is not Reported.WORKING:
            return {"error": ["EOrder:Unknown order"]}
        if self._engine_over(row.symbol, 1):
            return {"error": ["EOrder:Rate limit exceeded"]}
        if "deadline" in fields and _ms(fields["deadline"]) < self.now_ms():
            return {"error": ["EService:Deadline elapsed"]}
        if "limit_price" in fields and row.type is OrderType.STOP:
            return {"error": ["EOrder:Invalid limit price"]}
        new = [
            D(fields[key]) if key in fields else old
            for key, old in (("order_qty", row.qty), ("trigger_price", row.trigger_price), ("limit_price", row.limit_price))
        ]
        try:
            self.engine.replace(row.venue_id, new[0] or row.qty, new[1], new[2], self.now_ms())
        except Refused:
            return {"error": ["EOrder:Invalid price"]}
        self._tell_order(fields["txid"], "amended", bare=True)
        return _ok({"amend_id": "TAMEND-00000-000001"})

    def _CancelOrder(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        try:
            self.engine.cancel(_number(fields["txid"]), self.now_ms())
        except NotFound:
            return {"error": ["EOrder:Invalid order"]}
        except Refused:
            return {"error": ["EOrder:Unknown order"]}
        self._tell_order(fields["txid"], "canceled", bare=True)
        return _ok({"count": 1})

    def _OpenOrders(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        return _ok({"open": self._orders(fields, lambda row: row.state is Reported.WORKING)})

    def _ClosedOrders(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        found = self._orders(fields, lambda row: row.state is not Reported.WORKING)
        return _ok({"closed": found, "count": len(found)})

    def _QueryOrders(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        ids = fields["txid"].split(",")
        assert len(ids) <= 50
        rows = {id: self.engine.order(_number(id)) for id in ids}
        return _ok({id: self._described(row) for id, row in rows.items() if row is not None})

    def _orders(self, fields: dict[str, str], wanted: Any) -> dict[str, Any]:
        rows = {order_id(row.venue_id): row for row in self.engine.orders() if wanted(row)}
        mine = fields.get("cl_ord_id")
        return {id: self._described(row) for id, row in rows.items() if mine is None or self._client_ids.get(id) == mine}

    def _TradesHistory(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        found = [fill for fill in self.engine.fills() if fill.at_ms > int(fields["start"]) * 1000][::-1]
        page = found[int(fields.get("ofs", 0)) :][:50]
        return _ok({"trades": {_trade(fill.trade_id): self._trade_row(fill) for fill in page}, "count": len(found)})

    def _Balance(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        return _ok({code: f"{amount:f}" for code, amount in self.balances.items()})

    def _GetWebSocketsToken(self, fields: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        return _ok({"token": self.tokens[-1], "expires": 900})

    def _described(self, row: OrderRow) -> dict[str, Any]:
        stop = row.trigger_price is not None
        fired = stop and self.engine.triggered(row.venue_id)
        txid = order_id(row.venue_id)
        told = {
            "refid": "None",
            "userref": "0",
            "status": REST_WORD[row.state],
            "reason": "User requested" if row.state is Reported.CANCELLED else None,
            "opentm": (row.at_ms or 0) / 1000,
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": row.symbol,
                "type": row.side.value.lower(),
                "ordertype": WORDS[row.type or OrderType.MARKET],
                "price": str(row.trigger_price if stop else row.limit_price or "0"),
                "price2": str(row.limit_price) if stop and row.limit_price is not None else "0",
                "leverage": "none",
                "order": "...",
                "close": "",
            },
            "vol": f"{row.qty:.8f}",
            "vol_exec": f"{row.filled:.8f}",
            "cost": str((row.average or 0) * (row.filled or 0)),
            "fee": "0.0",
            "price": str(row.average) if row.filled else "0.00000",
            "stopprice": "0.00000",
            "limitprice": "0.00000",
            "misc": "touched" if fired else "",
            "oflags": "fciq",
        }
        return told | ({"cl_ord_id": self._client_ids[txid]} if self._client_ids.get(txid) else {})

    def _trade_row(self, fill: FillRow) -> dict[str, Any]:
        return {
            "ordertxid": order_id(fill.venue_id),
            "postxid": "TKH2SE-M7IF5-CFI7LT",
            "pair": self.pair(fill.symbol).id,
            "time": fill.at_ms / 1000,
            "type": fill.side.value.lower(),
            "ordertype": "market",
            "price": str(fill.price),
            "cost": str(fill.price * fill.qty),
            "fee": str(fill.fee),
            "vol": f"{fill.qty:.8f}",
            "margin": "0.00000",
            "misc": "",
            "trade_id": int(fill.trade_id[1:]),
            "maker": False,
        }

    # -- streams -----------------------------------------------------------------------------------------------------------

    def _settle(self, changes: list[OrderRow | FillRow]) -> None:
        for change in changes:
            if isinstance(change, FillRow):
                known = self.pair(change.symbol)
                self.balances[known.base] += change.qty * change.side.sign
                self.balances[known.quote] -= change.qty * change.price * change.side.sign + change.fee
                self._tell_fill(change)
            elif change.state is Reported.FILLED:
                self._tell_order(order_id(change.venue_id), "filled", bare=True)

    def _tell_fill(self, fill: FillRow) -> None:
        """With the trap: an order that is full may be called "partially_filled" here."""
        row = self.engine.order(fill.venue_id)
        assert row is not None and row.filled is not None
        told = {
            "order_id": order_id(fill.venue_id),
            "exec_id": _trade(fill.trade_id),
            "exec_type": "trade",
            "trade_id": int(fill.trade_id[1:]),
            "symbol": self.pair(fill.symbol).socket,
            "side": fill.side.value.lower(),
            "last_qty": fill.qty,
            "last_price": fill.price,
            "liquidity_ind": "t",
            "cost": fill.price * fill.qty,
            "cum_qty": row.filled,
            "cum_cost": row.filled * (row.average or 0),
            "avg_price": row.average,
            "order_qty": row.qty,
            "order_status": "partially_filled",
            "order_type": WORDS[row.type or OrderType.MARKET],
            "fees": [{"asset": "USD", "qty": fill.fee}],
            "fee_usd_equiv": 0,
            "timestamp": _iso(fill.at_ms),
        }
        self.tell([told])

    def _tell_order(self, txid: str, exec_type: str, bare: bool = False) -> None:
        row = self.engine.order(_number(txid))
        assert row is not None
        told: dict[str, Any] = {"order_id": txid, "exec_type": exec_type, "timestamp": _iso(self.now_ms())}
        told["order_status"] = exec_type if exec_type != "amended" else "new"
        if exec_type in ("canceled", "filled"):
            told |= {"cum_qty": row.filled, "cum_cost": (row.filled or 0) * (row.average or 0), "avg_price": row.average or 0}
        if exec_type == "canceled":
            told |= {"cancel_reason": "User requested", "reason": "User requested"}
        if not bare:
            told |= self._whole(row)
        self.tell([told])

    def _whole(self, row: OrderRow) -> dict[str, Any]:
        told: dict[str, Any] = {
            "symbol": self.pair(row.symbol).socket,
            "side": row.side.value.lower(),
            "order_qty": row.qty,
            "order_type": WORDS[row.type or OrderType.MARKET],
            "order_userref": 0,
            "cum_cost": 0,
            "time_in_force": "GTC",
            "fee_ccy_pref": "fciq",
        }
        if row.trigger_price is not None:
            told["triggers"] = {"price": row.trigger_price, "price_type": "static", "reference": "last", "status": "untriggered"}
        if row.limit_price is not None:
            told["limit_price"] = row.limit_price
        mine = self._client_ids.get(order_id(row.venue_id))
        return told | ({"cl_ord_id": mine} if mine else {})

    def tell(self, rows: list[dict[str, Any]], type: str = "update") -> None:
        for peer in self.private:
            if peer.subscribed and self.send_executions:
                peer.sequence += 1
                peer.send({"channel": "executions", "type": type, "data": rows, "sequence": peer.sequence})

    def _tell_trade(self, found: Pair, price: Decimal) -> None:
        self._told += 1
        row = {
            "symbol": found.socket,
            "side": "buy",
            "price": price,
            "qty": D("0.1"),
            "ord_type": "market",
            "trade_id": self._told,
            "timestamp": _iso(self.now_ms()),
        }
        for peer in self.public:
            if found.socket in peer.symbols:
                peer.send({"channel": "trade", "type": "update", "data": [row]})

    def _status(self) -> dict[str, Any]:
        about = {"api_version": "v2", "connection_id": 12393906104898154338, "system": self.system, "version": "2.0.4"}
        return {"channel": "status", "type": "update", "data": [about]}

    def _serve_public(self, connection: ServerConnection) -> None:
        peer = _Peer(connection)
        with self.lock:
            self.public.append(peer)
            peer.send(self._status())
        for asked in peer.requests():
            params = asked["params"]
            for name in params["symbol"]:
                with self.lock:
                    self._subscribe(peer, name, params, asked.get("req_id"))

    def _subscribe(self, peer: _Peer, name: str, params: dict[str, Any], req_id: Any) -> None:
        found = next((p for p in PAIRS if p.socket == name), None)
        if found is None:
            peer.send({"method": "subscribe", "error": f"Currency pair not supported {name}", "success": False, "symbol": name})
            return
        about = {"channel": params["channel"], "symbol": name, "snapshot": params.get("snapshot", False), "warnings": []}
        peer.send({"method": "subscribe", "result": about, "success": True, "req_id": req_id})
        last = self.engine.last(found.altname)
        if last is not None and params.get("snapshot"):
            row = {"symbol": name, "side": "sell", "price": last, "qty": D(1), "ord_type": "limit", "trade_id": self._told}
            old = row | {"timestamp": _iso(self.now_ms() - 60_000)}
            peer.send({"channel": "trade", "type": "snapshot", "data": [old]})
        peer.symbols.add(name)

    def _serve_private(self, connection: ServerConnection) -> None:
        peer = _Peer(connection)
        with self.lock:
            self.private.append(peer)
            peer.send(self._status())
        for asked in peer.requests():
            with self.lock:
                if asked["params"].get("token") not in self.tokens[-1:]:
                    peer.send({"method": "subscribe", "error": "ESession:Invalid session", "success": False, "req_id": 1})
                    continue
                about = {"channel": "executions", "maxratecount": 60, "snap_orders": True, "snap_trades": True, "warnings": []}
                peer.send({"method": "subscribe", "result": about, "success": True, "req_id": asked.get("req_id")})
                peer.subscribed = True
                peer.sequence += 1
                peer.send({"channel": "executions", "type": "snapshot", "data": self._snapshot(), "sequence": peer.sequence})

    def _snapshot(self) -> list[dict[str, Any]]:
        """What rests, and the last fills: each "filled", none with a total."""
        rows = [row for row in self.engine.orders() if row.state is Reported.WORKING]
        orders = [
            self._whole(row)
            | {"order_id": order_id(row.venue_id), "exec_type": "new", "order_status": "new", "cum_qty": row.filled}
            for row in rows
        ]
        fills = [
            {
                "order_id": order_id(fill.venue_id),
                "exec_id": _trade(fill.trade_id),
                "exec_type": "trade",
                "order_status": "filled",
                "symbol": self.pair(fill.symbol).socket,
                "side": fill.side.value.lower(),
                "order_qty": fill.qty,
                "order_type": "market",
                "last_qty": fill.qty,
                "last_price": fill.price,
                "fees": [{"asset": "USD", "qty": fill.fee}],
                "timestamp": _iso(fill.at_ms),
            }
            for fill in self.engine.fills()[-50:]
        ]
        return [*orders, *fills]


class _Peer:
    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.symbols: set[str] = set()
        self.subscribed = False
        self.sequence = 0
        self.received: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        with suppress(ConnectionClosed, OSError):
            self.connection.send(_json(message))

    def requests(self) -> Any:
        with suppress(ConnectionClosed, OSError):
            for text in self.connection:
                self.received.append(json.loads(text))
                if self.received[-1]["method"] == "subscribe":
                    yield self.received[-1]


def _handler(double: KrakenDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 65_536

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = double.answer(self.command, self.path, headers, body)
            if told is LOST:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            status, content = told  # type: ignore[misc]
            self.send_response_only(status)
            self.send_header("Date", formatdate(double.now_ms() // 1000, usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST  # noqa: N815

        def handle(self) -> None:
            with suppress(OSError):  # the client left
                super().handle()

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    return Handler


def counted(calls: list[Call]) -> Counter[str]:
    return Counter(call.name for call in calls)


def _ok(result: Any) -> dict[str, Any]:
    return {"error": [], "result": result}


def _json(message: dict[str, Any]) -> str:
    """Decimals as JSON numbers, digit by digit, as the venue sends them."""
    marks: list[str] = []

    def mark(value: Any) -> str:
        marks.append(str(value))
        return f"@@{len(marks) - 1}@@"

    text = json.dumps(message, default=mark)
    for place, number in enumerate(marks):
        text = text.replace(f'"@@{place}@@"', number)
    return text


def order_id(venue_id: str) -> str:
    return f"O{int(venue_id):05d}-DOUBL-EKRAKN"


def _number(txid: str) -> str:
    return str(int(txid[1:6])) if txid[1:6].isdigit() else txid


def _trade(trade_id: str) -> str:
    return f"T{int(trade_id[1:]):05d}-DOUBL-EKRAKN"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _at(row: OrderRow) -> Decimal | None:
    return row.trigger_price if row.trigger_price is not None else row.limit_price
