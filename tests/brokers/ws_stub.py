"""A venue's WebSocket on 127.0.0.1 for tests: real sockets, answers as OpenAlgo does, and whatever misbehaviour a test asks for.

`StreamStub` speaks the protocol through a real server library; a test changes its replies. `RawStub` shakes hands and then
leaves the bare socket to the test, for what no proper server would do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
logging.getLogger("websockets").setLevel(logging.CRITICAL)
Json = dict[str, Any]


def market_data(symbol: str, price: object, at_ms: object, exchange: str = "NSE") -> str:
    data = json.dumps({"ltp": "PRICE", "timestamp": at_ms}).replace('"PRICE"', str(price))
    return f'{{"type":"market_data","symbol":"{symbol}","exchange":"{exchange}","mode":1,"data":{data},"broker":"stub"}}'


class StreamStub:
    """`replies` maps an action to a function from the request to the texts to send back; `received` keeps every request."""

    def __init__(self) -> None:
        self.replies: dict[str, Callable[[Json], list[Json]]] = {
            "authenticate": lambda _: [{"type": "auth", "status": "success", "message": "Authentication successful"}],
            "subscribe": lambda asked: [subscribed([line | {"status": "success"} for line in asked["symbols"]])],
            "subscribe_orders": lambda _: [{"type": "subscribe_orders", "status": "success", "message": "Subscribed"}],
        }
        self.received: list[Json] = []
        self.peers: list[ServerConnection] = []
        self._server = serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def send(self, *texts: str) -> None:
        """To the newest connection."""
        for text in texts:
            self.peers[-1].send(text)

    def hang_up(self) -> None:
        self.peers[-1].close_socket()

    def actions(self) -> list[str]:
        return [request["action"] for request in list(self.received)]

    def close(self) -> None:
        self._server.shutdown()
        for peer in self.peers:
            peer.close_socket()
        self._thread.join(5)

    def _serve(self, peer: ServerConnection) -> None:
        self.peers.append(peer)
        try:
            for text in peer:
                request = json.loads(text)
                self.received.append(request)
                for reply in self.replies[request["action"]](request):
                    peer.send(json.dumps(reply))
        except (ConnectionClosed, OSError):
            pass  # the feed went away


def subscribed(lines: list[Json]) -> Json:
    status = "success" if all(line["status"] == "success" for line in lines) else "partial"
    return {"type": "subscribe", "status": status, "subscriptions": lines, "message": "Subscription processing complete"}


class RawStub:
    """Accepts, shakes hands if `handshake`, then runs `script(socket)`, one connection after the other; closes what is left."""

    def __init__(self, script: Callable[[socket.socket], None], handshake: bool = True) -> None:
        self._script = script
        self._handshake = handshake
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.accepted = 0
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(sock)
            try:
                if self._handshake:
                    shake_hands(sock)
                self._script(sock)
            except OSError:
                pass  # the feed went away


def shake_hands(sock: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = sock.recv(4096)
        if not part:
            raise ConnectionError("gone")
        head += part
    key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


def raw_frame(payload: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    return bytes((first, 126)) + struct.pack("!H", len(payload)) + payload


def swallow(sock: socket.socket) -> None:
    """Reads and says nothing until the other side goes."""
    while sock.recv(65_536):
        pass
