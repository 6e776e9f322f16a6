"""One WebSocket connection for one reading thread: websocket-client does the handshake and the framing.

Two things differ from the library's defaults. Bytes are read from the socket 64 KB at a time, because its many small `recv`
calls are most of its cost; and the TCP connection is dialled here, so that `abort` from another thread ends any wait within
a second (only a name lookup cannot be cut short). Proxies of the environment are not used: a feed goes straight.

It never reconnects, never decodes and never says what a frame means. Every failure is `WireClosed` with words for people.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import websocket

from state.clock import Clock

READ_BYTES = 16_384  # also the largest TLS record; more only washes the caches out
DIAL_SLICE_S = 0.2
IN_PROGRESS = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)})
TEXT, BINARY, CLOSE = websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CLOSE


class WireClosed(Exception):
    """The connection could not be made, or has ended. The text says why."""


class Wire:
    """`open`, `receive`, `send`, `ping` and `close` belong to one thread; `abort` may be called by any.

    `going` is asked while dialling, at least five times a second; false ends the attempt. `heard` is called after each read
    from the socket, before its frames are returned. `turn_s` is the longest that `receive` waits.
    """

    def __init__(
        self,
        clock: Clock,
        going: Callable[[], bool],
        heard: Callable[[], None],
        turn_s: float = 0.5,
        dial_s: float = 10.0,
        answer_s: float = 4.0,
    ) -> None:
        self._clock = clock
        self._going = going
        self._heard = heard
        self._turn_s = turn_s
        self._dial_s = dial_s
        self._answer_s = answer_s
        self._ws = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
        self._socket: socket.socket | None = None
        self._receive_frame = self._ws.recv_data_frame

    def open(self, url: str) -> None:
        try:
            self._open(url)
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise WireClosed(f"cannot connect to {url}: {_words(error)}") from error

    def receive(self) -> bytes | None:
        """The next message, whole; None when nothing came for `turn_s`, or only a ping or a pong."""
        try:
            opcode, frame = self._receive_frame(True)
        except websocket.WebSocketTimeoutException:
            return None
        except (OSError, ValueError, struct.error, websocket.WebSocketException) as error:
            raise WireClosed(f"connection lost: {_words(error)}") from error
        if opcode in (TEXT, BINARY):
            data: bytes = frame.data
            return data
        if opcode == CLOSE:
            raise WireClosed(f"closed by the server: {_close_words(frame.data)}")
        return None

    def send(self, text: str) -> None:
        self._send(lambda: self._ws.send(text))

    def ping(self) -> None:
        self._send(self._ws.ping)

    def close(self) -> None:
        """At once, without waiting for the other side."""
        self.abort()
        self._ws.shutdown()  # type: ignore[no-untyped-call]
        if self._socket is not None:
            self._socket.close()

    def abort(self) -> None:
        """Wakes up a thread that waits in `open` or `receive`."""
        sock = self._socket
        if sock is not None:
            with suppress(OSError):  # never connected, or closed already: nobody waits there
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's: that takes the TLS layer from under a reader

    def _open(self, url: str) -> None:
        self._ws.settimeout(self._answer_s)
        self._ws.connect(url, socket=_BufferedSocket(self._secured(url), self._heard), redirect_limit=0)  # type: ignore[no-untyped-call]
        self._ws.settimeout(self._turn_s)

    def _secured(self, url: str) -> socket.socket:
        """A connection to the server of this address, with TLS where it asks for that."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme in ("wss", "https")
        self._socket = self._dial(host, parts.port or (443 if secure else 80))
        self._go_on()
        self._socket.settimeout(self._answer_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            tls = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket = tls
            self._go_on()
            tls.do_handshake()
        return self._socket

    def _go_on(self) -> None:
        """An `abort` that came before there was a socket to shut down is noticed here."""
        if not self._going():
            raise OSError("stopping")

    def _dial(self, host: str, port: int) -> socket.socket:
        failure = OSError(f"no address for {host}")
        for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, proto)
            try:
                self._connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _connect(self, sock: socket.socket, address: tuple[object, ...]) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in IN_PROGRESS:
            raise OSError(code, os.strerror(code))
        deadline_ms = self._clock.monotonic_ms() + self._dial_s * 1000
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            while not selector.select(DIAL_SLICE_S):
                self._go_on()
                if self._clock.monotonic_ms() > deadline_ms:
                    raise TimeoutError("no answer")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _send(self, act: Callable[[], object]) -> None:
        """A send that times out half-way leaves the stream unusable, so it gets longer than a read and its failure is final."""
        try:
            self._ws.settimeout(self._answer_s)
            act()
            self._ws.settimeout(self._turn_s)
        except (OSError, websocket.WebSocketException) as error:
            raise WireClosed(f"cannot send: {_words(error)}") from error


class _BufferedSocket:
    """What the library needs of a socket, read 64 KB at a time."""

    def __init__(self, sock: socket.socket, heard: Callable[[], None]) -> None:
        self._sock = sock
        self._heard = heard
        self._chunk = b""
        self._at = 0
        self.fileno, self.gettimeout, self.settimeout = sock.fileno, sock.gettimeout, sock.settimeout
        self.shutdown, self.close = sock.shutdown, sock.close
        self._closed = False  # the library looks at it; closing twice is harmless

    def recv(self, wanted: int) -> bytes:
        """At least one byte and at most `wanted`; none at the end of the stream."""
        start = self._at
        if start == len(self._chunk):
            self._chunk, self._at = b"", 0
            self._chunk, start = self._sock.recv(READ_BYTES), 0
            self._heard()
        self._at = end = start + wanted
        if end > len(self._chunk):
            self._at = len(self._chunk)
        return self._chunk[start:end]

    def send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except TimeoutError as error:  # must not look like a read that has to wait
            raise ConnectionAbortedError("the other side takes no bytes") from error


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _close_words(data: bytes) -> str:
    if len(data) < 2:
        return "no reason given"
    text = f"{struct.unpack('!H', data[:2])[0]} {data[2:].decode('utf-8', 'replace')}"
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
