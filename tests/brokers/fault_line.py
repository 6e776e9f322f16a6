"""The line between an adapter and its venue: an HTTP proxy on 127.0.0.1 that loses, delays and spoils what goes over it.

Knows no dialect: `name` says which call a request is. Whatever venue stands behind it, a fault is the same fault. `seen` keeps
every request that came, in order.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Asked:
    """One request."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Fault:
    """What becomes of one request. `arrives`: the venue gets it. `reply`: what is answered; None: the connection is cut.
    `kept`: it reaches the venue when the test says `deliver`."""

    arrives: bool = False
    reply: tuple[int, bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    kept: bool = False
    echoes: bool = False  # "%s" in the reply becomes what was asked, headers and all


LOST_BEFORE = Fault()
LOST_AFTER = Fault(arrives=True)
KEPT = Fault(kept=True)


def answer(status: int, body: bytes | str, arrives: bool = False, **headers: str) -> Fault:
    content = body if isinstance(body, bytes) else body.encode()
    return Fault(arrives, (status, content), {name.replace("_", "-"): value for name, value in headers.items()})


class FaultLine:
    """`url` in front of the venue at `venue_url`, its path included. Thread-safe."""

    def __init__(
        self, venue_url: str, name: Callable[[str, str, bytes], str], reword: Callable[[str, bytes], bytes] | None = None
    ) -> None:
        parts = urlsplit(venue_url)
        self._venue, self._name, self._reword = parts.netloc, name, reword
        self._lock = threading.Lock()  # guards everything below
        self.seen: list[Asked] = []
        self.kept: list[Asked] = []
        self.silence: threading.Event | None = None  # nothing is answered until it is set
        self.behind_s: int | None = None  # how far its clock is behind this machine's, as its answers say it
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.line = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}{parts.path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)

    def fault(self, name: str, *faults: Fault) -> None:
        """What becomes of the next requests of this name, one by one."""
        with self._lock:
            self._next[name].extend(faults)

    def always(self, name: str, fault: Fault) -> None:
        """What becomes of all of them. The name "*": of every request that has no fault of its own."""
        with self._lock:
            self._always[name] = fault

    def well(self) -> None:
        with self._lock:
            self._next.clear()
            self._always.clear()

    def sent(self, name: str) -> list[Asked]:
        with self._lock:
            return [asked for asked in self.seen if asked.name == name]

    def deliver(self) -> None:
        """What was kept reaches the venue now; nobody hears its answer."""
        with self._lock:
            kept, self.kept = self.kept, []
        for asked in kept:
            self.forward(asked)

    def forward(self, asked: Asked) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(self._venue, timeout=PATIENCE_S)
        try:
            dropped = ("host", "content-length", "connection", "accept-encoding")
            headers = {name: value for name, value in asked.headers.items() if name not in dropped}
            connection.request(asked.method, asked.path, asked.body, headers)
            told = connection.getresponse()
            body = told.read()
            if self._reword is not None:
                body = self._reword(asked.path, body)
            return told.status, body, {name.lower(): value for name, value in told.getheaders()}
        finally:
            connection.close()

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]] | None:
        """None: the line is cut."""
        asked = Asked(self._name(method, path, body), method, path, headers, body)
        with self._lock:
            self.seen.append(asked)
            waiting = self._next[asked.name]
            fault = waiting.popleft() if waiting else self._always.get(asked.name, self._always.get("*"))
            if fault is not None and fault.kept:
                self.kept.append(asked)
        if self.silence is not None:
            self.silence.wait(PATIENCE_S)
            return None
        if fault is None:
            return self._passed_on(asked)
        if fault.arrives:
            self._passed_on(asked)
        if fault.reply is None:
            return None
        status, content = fault.reply
        return status, content.replace(b"%s", _told_back(asked)) if fault.echoes else content, dict(fault.headers)

    def _passed_on(self, asked: Asked) -> tuple[int, bytes, dict[str, str]] | None:
        try:
            status, body, told = self.forward(asked)
        except (OSError, http.client.HTTPException):
            return None
        headers = {"Content-Type": told.get("content-type", "application/json")}
        if "date" in told:
            headers["Date"] = told["date"] if self.behind_s is None else self._behind(self.behind_s)
        return status, body, headers

    @staticmethod
    def _behind(seconds: int) -> str:
        return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)


def _told_back(asked: Asked) -> bytes:
    """The whole request as it can stand in a JSON text."""
    return json.dumps(f"{asked.path} {asked.headers} {asked.body.decode()}").encode()[1:-1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    line: FaultLine

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up has hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65_536
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = self.server.line.take(self.command, self.path, headers, body)
        if told is None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content, headers = told
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    do_POST = do_PUT = do_GET

    def handle(self) -> None:
        with suppress(OSError):  # the client left
            super().handle()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
