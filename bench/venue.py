"""The venue of the latency benchmark: OpenAlgo's REST and tick stream over loopback, with a stop-watch and nothing else.

A process of its own (`python bench/venue.py SYMBOL…`): prints its two ports as JSON and serves until its standard input closes.
All the time it sends a quiet price every few milliseconds, so that the runner's feed is never idle. Each line on standard input
asks for one measurement and is answered by one line of JSON:

    tick SYMBOL    send the price that makes SYMBOL enter: {"sent_ns", "arrived_ns", "body"}; the order is then rejected
    first SYMBOL   the same, sending that price until it is acted upon: a feed that has just connected holds its ticks
    post           wait for an order that somebody else posts: {"arrived_ns"}, after a line that says it may come

Times are `time.perf_counter_ns`: of the tick just before its frame is given to the socket, of an order when its last byte has
been read. An order that nobody has asked for is refused and counted in each answer.
"""

from __future__ import annotations

import json
import logging
import queue
import socket
import struct
import sys
import threading
import time
from itertools import cycle
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

TRIGGER, ENTRY, QUIET = "1000.00", "1000.50", ("1001.00", "1001.05", "1001.10")
QUIET_EVERY_S = 0.005
AGAIN_S = 0.01
ANSWER_S = 20.0  # longest wait for an order
REJECT_AFTER_S = 0.003  # the runner has read the answer to its order by then
READ_BYTES = 65_536
OK = {"status": "success"}


class Arrival:
    """One order as it came in."""

    def __init__(self, body: bytes, arrived_ns: int, venue_id: str) -> None:
        self.body, self.arrived_ns, self.venue_id = body, arrived_ns, venue_id


class Books:
    """What the REST side shows: the newest order of each symbol, all of them rejected; no trade, no position."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._rows: dict[str, dict[str, Any]] = {}
        self._number = 0

    def take(self, order: dict[str, Any]) -> str:
        with self._lock:
            self._number += 1
            venue_id = f"2611200{self._number:07}"
            self._rows[order["symbol"]] = {
                **{
                    name: order[name] for name in ("symbol", "exchange", "action", "quantity", "product", "pricetype", "strategy")
                },
                "price": order.get("price", 0),
                "trigger_price": order.get("trigger_price", 0),
                "orderid": venue_id,
                "order_status": "open",
                "filled_quantity": 0,
                "average_price": 0,
                "rejection_reason": "",
            }
            return venue_id

    def reject(self, venue_id: str) -> dict[str, Any]:
        with self._lock:
            row = next(row for row in self._rows.values() if row["orderid"] == venue_id)
            row |= {"order_status": "rejected", "rejection_reason": "the benchmark rejects every order"}
            return dict(row)

    def orders(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._rows.values())

    def order(self, venue_id: str) -> dict[str, Any] | None:
        with self._lock:
            return next((row for row in self._rows.values() if row["orderid"] == venue_id), None)


class Rest:
    """Keep-alive HTTP, one thread per connection. No framework: what it costs would be in every number."""

    def __init__(self, books: Books, arrivals: queue.SimpleQueue[Arrival]) -> None:
        self._books = books
        self._arrivals = arrivals
        self.wanted = False  # somebody waits for an order; the next one that comes is it
        self.unwanted = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        waiting = b""
        with connection:
            while True:
                try:
                    request = _request(connection, waiting)
                    if request is None:
                        return
                    path, body, waiting, arrived_ns = request
                    connection.sendall(self._answer(path, body, arrived_ns))
                except OSError:
                    return  # the client has gone

    def _answer(self, path: str, body: bytes, arrived_ns: int) -> bytes:
        status, answer = self._reply(path.rpartition("/")[2], body, arrived_ns)
        text = json.dumps(answer).encode()
        return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text

    def _reply(self, name: str, body: bytes, arrived_ns: int) -> tuple[str, dict[str, Any]]:
        if name == "placeorder":
            return self._place(body, arrived_ns)
        asked = json.loads(body)
        found: Any = []
        match name:
            case "analyzer":
                found = {"mode": "live", "analyze_mode": False}
            case "symbol":
                found = {"symbol": asked["symbol"], "exchange": "NSE", "tick_size": 0.05, "lotsize": 1}
            case "orderbook":
                found = {"orders": self._books.orders(), "statistics": {}}
            case "orderstatus":
                found = self._books.order(asked["orderid"]) or {}
            case "timings":
                found = [{"exchange": "NSE", "start_time": 0, "end_time": 0}]  # no opinion
        return "200 OK", OK | {"data": found}

    def _place(self, body: bytes, arrived_ns: int) -> tuple[str, dict[str, Any]]:
        if not self.wanted:
            self.unwanted += 1
            return "400 BAD REQUEST", {"status": "error", "message": "nobody asked for an order now"}
        self.wanted = False
        venue_id = self._books.take(json.loads(body))
        self._arrivals.put(Arrival(body, arrived_ns, venue_id))
        return "200 OK", OK | {"orderid": venue_id}


def _request(connection: socket.socket, waiting: bytes) -> tuple[str, bytes, bytes, int] | None:
    """Path, body, what came after it, and when its last byte was there; None at the end of the connection."""
    while b"\r\n\r\n" not in waiting:
        more = connection.recv(READ_BYTES)
        if not more:
            return None
        waiting += more
    head, _, rest = waiting.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    while len(rest) < length:
        more = connection.recv(READ_BYTES)
        if not more:
            return None
        rest += more
    arrived_ns = time.perf_counter_ns()
    return lines[0].split(" ")[1], rest[:length], rest[length:], arrived_ns


class Stream:
    """The WebSocket side, for one client: login and subscription by the library, then frames made by hand."""

    def __init__(self, symbols: list[str]) -> None:
        self._symbols = symbols
        self._lock = threading.Lock()  # one frame at a time
        self._client: socket.socket | None = None
        self.subscribed = threading.Event()

    def session(self, connection: ServerConnection) -> None:
        try:
            for message in connection:
                self._take(connection, json.loads(message))
        except (ConnectionClosed, OSError):
            pass  # the runner has stopped

    def _take(self, connection: ServerConnection, asked: dict[str, Any]) -> None:
        match asked["action"]:
            case "authenticate":
                connection.send('{"type":"auth","status":"success","message":"Authentication successful"}')
            case "subscribe":
                lines = [line | OK for line in asked["symbols"]]
                connection.send(json.dumps({"type": "subscribe", "status": "success", "subscriptions": lines}))
            case "subscribe_orders":
                connection.send('{"type":"subscribe_orders","status":"success","message":"Subscribed to order updates"}')
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._client = connection.socket
                self.subscribed.set()

    def price(self, symbol: str, price: str) -> int:
        """Send one tick; the time just before."""
        at_ms = time.time_ns() // 1_000_000
        data = f'{{"ltp":{price},"timestamp":{at_ms}}}'
        text = f'{{"type":"market_data","symbol":"{symbol}","exchange":"NSE","mode":1,"data":{data},"broker":"bench"}}'
        return self._send(text.encode())

    def order_update(self, row: dict[str, Any]) -> None:
        self._send(json.dumps({"type": "order_update", **row}).encode())

    def quiet(self) -> None:
        """Body of a thread: prices at which nothing happens, every symbol in turn."""
        self.subscribed.wait()
        never = threading.Event()
        for symbol, price in zip(cycle(self._symbols), cycle(QUIET), strict=False):
            try:
                self.price(symbol, price)
            except OSError:
                return
            never.wait(QUIET_EVERY_S)

    def _send(self, text: bytes) -> int:
        header = bytes((0x81, len(text))) if len(text) < 126 else b"\x81\x7e" + struct.pack("!H", len(text))
        with self._lock:
            assert self._client is not None
            sent_ns = time.perf_counter_ns()
            self._client.sendall(header + text)
            return sent_ns


class Venue:
    def __init__(self, symbols: list[str]) -> None:
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._books = Books()
        self._rest = Rest(self._books, self._arrivals)
        self._stream = Stream(symbols)
        self._sockets = _quietly(self._stream)

    def run(self) -> None:
        for body in (self._rest.run, self._sockets.serve_forever, self._stream.quiet):
            threading.Thread(target=body, daemon=True).start()
        _say(rest=self._rest.port, ws=self._sockets.socket.getsockname()[1])
        for line in sys.stdin:
            asked, _, symbol = line.strip().partition(" ")
            if asked == "post":
                self._post()
            else:
                self._tick(symbol, AGAIN_S if asked == "first" else ANSWER_S)

    def _tick(self, symbol: str, again_s: float) -> None:
        self._stream.subscribed.wait(ANSWER_S)
        self._rest.wanted, arrival, tries = True, None, 0
        while arrival is None and tries * again_s < ANSWER_S:
            sent_ns = self._stream.price(symbol, TRIGGER)
            arrival, tries = self._next(again_s), tries + 1
        if arrival is None:
            raise SystemExit(f"no order arrived within {ANSWER_S:g} s")
        threading.Event().wait(REJECT_AFTER_S)
        self._stream.order_update(self._books.reject(arrival.venue_id))
        self._stream.price(symbol, QUIET[0])
        self._say(sent_ns=sent_ns, arrived_ns=arrival.arrived_ns, body=arrival.body.decode())

    def _post(self) -> None:
        self._rest.wanted = True
        self._say(ready=True)
        arrival = self._next(ANSWER_S)
        if arrival is None:
            raise SystemExit(f"no post arrived within {ANSWER_S:g} s")
        self._books.reject(arrival.venue_id)
        self._say(arrived_ns=arrival.arrived_ns)

    def _next(self, timeout_s: float) -> Arrival | None:
        try:
            return self._arrivals.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _say(self, **facts: object) -> None:
        _say(**facts, unwanted=self._rest.unwanted)


def _quietly(stream: Stream) -> Server:
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    return serve(stream.session, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1)


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    Venue(sys.argv[1:]).run()
