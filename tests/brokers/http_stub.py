"""A real HTTP/1.1 server on 127.0.0.1 that answers from a script, resets, dribbles or stays silent. Owns nothing of ours.

Replies are queued per path with `on(path, ...)`; the last one repeats. Every request it has read in full is kept in `seen`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[socket.socket, threading.Event], bool]  # true: keep the connection


@dataclass(frozen=True)
class Seen:
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reply(status: int, body: bytes | str | dict[str, Any] | list[Any], headers: str = "", close: bool = False) -> Act:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"

    def act(sock: socket.socket, _: threading.Event) -> bool:
        sock.sendall(head.encode() + content)
        return not close

    return act


def raw(content: bytes) -> Act:
    """Send exactly this and close."""

    def act(sock: socket.socket, _: threading.Event) -> bool:
        sock.sendall(content)
        return False

    return act


def hang_up(sock: socket.socket, _: threading.Event) -> bool:
    """Close in good order, without a byte of an answer."""
    return False


def reset(sock: socket.socket, _: threading.Event) -> bool:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def silence(sock: socket.socket, stopping: threading.Event) -> bool:
    stopping.wait(30)
    return False


def dribble(first: bytes, drop: bytes, every_s: float = 0.05) -> Act:
    """`first` at once, then `drop` again and again: each single recv succeeds, and it never ends by itself."""

    def act(sock: socket.socket, stopping: threading.Event) -> bool:
        sock.sendall(first)
        for _ in range(600):
            if stopping.wait(every_s):
                break
            sock.sendall(drop)
        return False

    return act


@dataclass
class HttpStub:
    """Use as a context manager. `seen` grows by one per request read in full, whatever the answer."""

    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> HttpStub:
        self.mine = threading.local()  # `seen`: what the connection of this thread asks just now
        self._scripts: dict[str, list[Act]] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(OSError):  # wakes the accepting thread where closing alone does not
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(5)
        self.drop_connections()

    def on(self, path: str, *acts: Act) -> None:
        self._scripts[path] = list(acts)

    def asked(self, path: str) -> list[Any]:
        """The bodies that came for this path, decoded."""
        return [seen.json for seen in self.seen if seen.path == path]

    def drop_connections(self) -> None:
        with self._lock:
            for sock in self._open:
                with suppress(OSError):  # the other side was first
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._open.clear()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        try:
            with sock, sock.makefile("rb") as stream:
                while self._answer(sock, stream, connection):
                    pass
        except (OSError, ValueError):
            pass  # the client left, or the test is over

    def _answer(self, sock: socket.socket, stream: Any, connection: int) -> bool:
        request = stream.readline().decode().split()
        if not request:
            return False
        headers: dict[str, str] = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        self.mine.seen = Seen(request[1], headers, body, connection)
        with self._lock:
            self.seen.append(self.mine.seen)
            script = self._scripts.get(request[1]) or [
                reply(404, {"message": "Not found", "path": request[1], "status": "error"})
            ]
            act = script.pop(0) if len(script) > 1 else script[0]
        return act(sock, self._stopping)
