"""HTTP requests that go out at most once and end by their deadline. Owns sockets, time-outs and the split "sent or not sent".

Must never: send a request twice (no retry, no redirect), let a reply dribble past its deadline, read an environment variable per
request, or put a body, a key or a query string into a text. What a reply means is the adapters' business.

How the split is known: our connection class notes the instant before the first byte of a request is handed to the system. An
exception before that is Unavailable, whatever its type; one after it is Unanswered, whatever its type. Exception classes of the
libraries below are not trusted for it (a TLS error can happen on either side of the line).
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import threading
import weakref
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from brokers.base import Unanswered, Unavailable
from state.clock import Clock, SystemClock

MAX_BODY = 16 * 1024 * 1024
KEPT_PREPARED = 64
LONGEST_WAIT_S = 300.0
CHUNK = 64 * 1024
# A connection idle for longer is replaced before use: the usual servers close theirs after 2 s (gunicorn) to 60 s and more (load
# balancers), and a request that crosses such a close on the wire is an unknown outcome. A new one costs 0.1 ms on loopback.
MAX_IDLE_LOOPBACK_MS = 1_500
MAX_IDLE_REMOTE_MS = 20_000
# A server that writes its headers and its body apart waits, under Nagle, for our acknowledgement of the first: 40 ms where the
# system delays it. Linux can be asked not to.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}


class Reply(msgspec.Struct, frozen=True):
    """What came back, whole. Any status: judging it is the adapter's work."""

    status: int
    body: bytes
    elapsed_ms: int
    date: str | None = None  # the server's clock, as its header says it
    retry_after_s: float | None = None
    sent_ms: int = 0  # this machine's wall clock when the request went out


class Transport:
    """Connections to one server. Thread-safe: each thread has its own session, kept alive between its requests.

    `timeout_s` bounds one request in all (name look-up excepted: the system gives no handle on it); `deadline_s` of a call can
    only shorten that. Keys travel in bodies, so plain http is refused for anything but this machine.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float,
        connect_timeout_s: float = 3.0,
        *,
        clock: Clock | None = None,
        max_idle_ms: int | None = None,
        max_body: int = MAX_BODY,
        wall: Clock | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._loopback = _checked_loopback(self._base_url)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._clock: Clock = clock or SystemClock()
        self._wall: Clock = wall or SystemClock()  # a session's own time may be scaled
        self._max_idle_ms = max_idle_ms or (MAX_IDLE_LOOPBACK_MS if self._loopback else MAX_IDLE_REMOTE_MS)
        self._max_body = max_body
        self._local = threading.local()
        self._lock = threading.Lock()  # guards _lines and _closed only
        self._lines: weakref.WeakSet[_Line] = weakref.WeakSet()  # weak: a line dies with its thread
        self._closed = False

    def post(self, path: str, body: bytes, *, read: bool = False, deadline_s: float | None = None) -> Reply:
        return self.send("POST", path, body, read=read, deadline_s=deadline_s)

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        read: bool = False,
        deadline_s: float | None = None,
    ) -> Reply:
        """Once. Raises Unavailable when it was provably not sent, else Unanswered; a failed `read` is Unavailable.

        `headers` go beside our own (JSON in and out) and win over them; what they hold is in no text of ours.
        """
        started_ms = self._clock.monotonic_ms()
        limit_s = self._timeout_s if deadline_s is None else min(deadline_s, self._timeout_s)
        exchange = _Exchange(self._clock, started_ms + int(limit_s * 1000), self._max_idle_ms)
        answered: tuple[int, bytes, Mapping[str, str]] | None = None
        sent_ms, why = self._wall.now_ms(), ""
        try:
            answered = self._exchange(self._line(), exchange, method, path, body, headers)
        except Exception as error:  # once a byte may be out, even a defect of ours must not read as "not sent"
            if not exchange.sent and not isinstance(error, (OSError, HTTPError, Unavailable)):  # requests' errors are OSErrors
                raise
            why = str(error) if isinstance(error, Unavailable) else _cause(error)
        elapsed_ms = self._clock.monotonic_ms() - started_ms
        if answered is not None:
            status, content, told = answered
            return Reply(status, content, elapsed_ms, told.get("Date"), _seconds(told.get("Retry-After")), sent_ms)
        # Raised outside the except block: the library's exception holds the request, and with it the key.
        name = path.partition("?")[0].strip("/")
        if not exchange.sent:
            raise Unavailable(f"{method} {name}: nothing was sent, {why}")
        failed = f"{method} {name}: no usable answer after {elapsed_ms} ms, {why}"
        raise Unavailable(failed) if read else Unanswered(failed)

    def close(self) -> None:
        """Close idle connections and refuse further requests. One under way keeps its time: cutting it would make an unknown."""
        with self._lock:
            self._closed = True
            lines = list(self._lines)
        for line in lines:
            line.session.close()

    def _exchange(
        self, line: _Line, exchange: _Exchange, method: str, path: str, body: bytes, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        left_s = exchange.left_s()
        request = line.request(method, path, body, headers)
        _current.exchange = exchange
        timeout = (min(self._connect_timeout_s, left_s), left_s)
        answer = line.adapter.send(request, stream=True, timeout=timeout, verify=line.verify, proxies=line.proxies)
        whole = False
        try:
            content = self._read(answer)
            whole = True
            return answer.status_code, content, answer.headers
        finally:
            request.body = None
            if not whole:
                answer.close()

    def _read(self, answer: requests.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := answer.raw.read(CHUNK):
            size += len(chunk)
            if size > self._max_body:
                raise _TooLarge(f"the reply is larger than {self._max_body} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _line(self) -> _Line:
        line: _Line | None = getattr(self._local, "line", None)
        if self._closed:
            raise Unavailable("the transport is closed")
        if line is None:
            line = self._local.line = _Line(self._base_url, self._loopback)
            with self._lock:
                self._lines.add(line)
        return line


def _seconds(text: str | None) -> float | None:
    """Retry-After as seconds; its other form, a date, is left to our own back-off."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_WAIT_S) if seconds >= 0 else None


class _Line:
    """One thread's session, with all that requests would work out per request worked out once."""

    def __init__(self, base_url: str, loopback: bool) -> None:
        self._base_url = base_url
        self.session = requests.Session()
        self.session.trust_env = not loopback
        self.session.max_redirects = 0
        self.adapter = _OnceAdapter()
        self.session.mount(base_url, self.adapter)
        settings = self.session.merge_environment_settings(base_url, {}, True, None, None)
        self.proxies = cast("dict[str, str]", settings["proxies"] or {})
        self.verify: bool | str = True if settings["verify"] is None else settings["verify"]
        self._prepared: dict[tuple[str, str], requests.PreparedRequest] = {}

    def request(self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None) -> requests.PreparedRequest:
        prepared = self._prepared.get((method, path))
        if prepared is None:
            # Prepared bare, not through the session: no cookies, no netrc, no environment.
            prepared = requests.Request(method, f"{self._base_url}/{path.lstrip('/')}", headers=HEADERS).prepare()
            if "?" not in path and len(self._prepared) < KEPT_PREPARED:
                self._prepared[method, path] = prepared
        if headers:
            prepared = prepared.copy()
            prepared.headers.update(headers)
        if body or method != "GET":
            prepared.body = body
            prepared.headers["Content-Length"] = str(len(body))
        return prepared


class _OnceAdapter(HTTPAdapter):
    """requests' adapter with our connections and without any retry. It follows no redirect: that is Session.send's work."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=Retry(0, read=False, redirect=False, status=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Exchange:
    """One request under way on this thread: its deadline, and whether its first byte may have left."""

    __slots__ = ("clock", "deadline_ms", "max_idle_ms", "sent")

    def __init__(self, clock: Clock, deadline_ms: int, max_idle_ms: int) -> None:
        self.clock = clock
        self.deadline_ms = deadline_ms
        self.max_idle_ms = max_idle_ms
        self.sent = False

    def left_s(self) -> float:
        """Seconds to the deadline; raises when there are none."""
        left_ms = self.deadline_ms - self.clock.monotonic_ms()
        if left_ms <= 0:
            raise TimeoutError("the total deadline passed")
        return left_ms / 1000


class _Current(threading.local):
    exchange: _Exchange


_current = _Current()  # the way from post() to our connection class, below two libraries


class _TooLarge(OSError):
    pass


class _DeadlineResponse(http.client.HTTPResponse):
    """http.client's response, status line, headers and body alike read through the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock, _current.exchange))


class _DeadlineReader(io.RawIOBase):
    """Gives each recv the time that is left of the whole, where the libraries give each recv the whole time again."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, exchange: _Exchange) -> None:
        self._raw = raw
        self._sock = sock
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._exchange.left_s())
        if QUICK_ACK is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)  # not lasting: the kernel falls back by itself
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Watched(HTTPConnection):
    """A connection that notes the first byte sent and reads under the total deadline. TCP_NODELAY is urllib3's default."""

    response_class = _DeadlineResponse
    _connecting = False
    last_used_ms = 0

    def connect(self) -> None:
        self._connecting = True
        try:
            super().connect()
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        exchange = _current.exchange
        left_s = exchange.left_s()  # before the flag: with no time left nothing is sent
        if not self._connecting:  # a proxy's CONNECT is not our request
            exchange.sent = True
            self.last_used_ms = exchange.clock.monotonic_ms()
        self.sock.settimeout(left_s)
        super().send(data)


class _WatchedTls(_Watched, HTTPSConnection):
    pass


class _FreshPool(HTTPConnectionPool):
    """Hands out no connection that has been idle long enough for the server to be closing it this moment."""

    ConnectionCls = _Watched

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # closes the ones that are readable, that is: closed by the server
        exchange = _current.exchange
        if isinstance(connection, _Watched) and exchange.clock.monotonic_ms() - connection.last_used_ms > exchange.max_idle_ms:
            connection.close()
        return connection


class _FreshPoolTls(_FreshPool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _FreshPool, "https": _FreshPoolTls}


def _checked_loopback(base_url: str) -> bool:
    """True for this machine. Raises ValueError for a URL that is not one, or that would carry keys in clear over a network."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("the server's address must look like https://host:port, without user, query or fragment")
    loopback = is_loopback(parts.hostname)
    if parts.scheme == "http" and not loopback:
        raise ValueError(f"{parts.hostname} is not this machine: keys travel in requests, so it must be https")
    return loopback


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _cause(error: BaseException) -> str:
    """The deepest cause in words. Never `str(error)` of a library: those quote addresses with their query strings."""
    found: BaseException = error
    for _ in range(12):
        inner = getattr(found, "reason", None) or found.__cause__ or found.__context__
        if not isinstance(inner, BaseException):
            inner = next((part for part in found.args if isinstance(part, BaseException)), None)
        if inner is None:
            break
        found = inner
    words = str(found) if isinstance(found, (_TooLarge, TimeoutError)) else getattr(found, "strerror", None)
    return "".join(c for c in f"{type(found).__name__} {words or ''}".strip() if c.isprintable())
