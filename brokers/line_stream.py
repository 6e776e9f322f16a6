"""One stream of lines over HTTP for one reading thread: a GET whose answer never ends, chunk after chunk (OANDA).

It dials, secures and aborts as `Wire` does, and is used in its place. What is sent is the request's target, once in a
connection; what is received is a line. Lines that keep a stream alive count as heard like any other: when no byte at all has
come for `silence_s`, the path is dead. A line that the end of the stream cuts short is dropped, never handed on.

It never reconnects, never decodes a line and never puts a header into a text: they hold the token.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from brokers.transport import is_loopback
from brokers.wire import READ_BYTES, Wire, WireClosed
from state.clock import Clock

SILENCE_S = 12.0  # more than two of the venue's 5 s heartbeats
LONGEST_HEAD = 65_536
LONGEST_LINE = 1_048_576
LONGEST_SIZE_LINE = 1_024  # the size of a chunk and its extensions
CRLF = b"\r\n"
SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class LineStream(Wire):
    """`open`, `receive`, `send`, `ping` and `close` belong to one thread; `abort` may be called by any."""

    def __init__(
        self,
        clock: Clock,
        going: Callable[[], bool],
        heard: Callable[[], None],
        turn_s: float = 0.5,
        *,
        headers: Mapping[str, str],
        silence_s: float = SILENCE_S,
    ) -> None:
        super().__init__(clock, going, heard, turn_s)
        self._headers = headers
        self._silence_ms = int(silence_s * 1000)
        self._base = ""
        self._host = ""
        self._heard_ms = 0
        self._reply = Reply()
        self._lines: deque[bytes] = deque()

    def _open(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("only https may leave this machine: the token travels in the request")
        self._base, self._host = parts.path.rstrip("/"), parts.netloc
        self._secured(url)
        self._heard_ms = self._clock.monotonic_ms()

    def send(self, text: str) -> None:
        """Ask for the stream of this target."""
        head = {"Host": self._host, "Accept": "application/json", "Accept-Encoding": "identity", **self._headers}
        lines = [f"GET {self._base}{text} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        sock = self._socket
        assert sock is not None, "open comes first"

        def act() -> None:
            sock.settimeout(self._answer_s)
            sock.sendall("\r\n".join(lines).encode("latin-1"))

        self._send(act)

    def ping(self) -> None:
        """There is none: the server's heartbeats come by themselves, and silence is counted here."""

    def receive(self) -> bytes | None:
        """The next line; None when none was completed within `turn_s`."""
        if not self._lines:
            self._read()
        return self._lines.popleft() if self._lines else None

    def _read(self) -> None:
        sock = self._socket
        assert sock is not None, "open comes first"
        if self._reply.ended:
            raise WireClosed("ended by the server")
        try:
            sock.settimeout(self._turn_s)
            received = sock.recv(READ_BYTES)
        except TimeoutError:
            return self._stay_awake()
        except (OSError, ValueError) as error:
            raise WireClosed(f"connection lost: {type(error).__name__}") from error
        if not received:
            raise WireClosed("closed by the server" + (", in the middle of a line" if self._reply.inside_a_line else ""))
        self._heard_ms = self._clock.monotonic_ms()
        self._heard()
        self._lines.extend(self._reply.take(received))

    def _stay_awake(self) -> None:
        silent_ms = self._clock.monotonic_ms() - self._heard_ms
        if silent_ms >= self._silence_ms:
            raise WireClosed(f"not a byte for {silent_ms // 1000} s, not even a heartbeat")


class Reply:
    """The bytes of one HTTP/1.1 reply in, its whole lines out. Pure. Raises WireClosed for what is no stream of lines."""

    def __init__(self) -> None:
        self.ended = False
        self._head_read = False
        self._chunked = False
        self._raw = b""
        self._line = b""  # the beginning of one that is not complete
        self._left = 0  # of the present chunk
        self._close_chunk = False  # its line end is still to come

    @property
    def inside_a_line(self) -> bool:
        return bool(self._line)

    def take(self, received: bytes) -> list[bytes]:
        self._raw += received
        if not self._head_read and not self._read_head():
            return []
        if not self._chunked:
            body, self._raw = self._raw, b""
        else:
            body = self._from_chunks()
        *lines, self._line = (self._line + body).split(b"\n")
        if len(self._line) > LONGEST_LINE:
            raise WireClosed(f"a line is longer than {LONGEST_LINE} bytes")
        return [line for line in (line.rstrip(b"\r") for line in lines) if line]

    def _read_head(self) -> bool:
        head, end, rest = self._raw.partition(CRLF + CRLF)
        if not end:
            if len(head) > LONGEST_HEAD:
                raise WireClosed("the reply has no end of its headers")
            return False
        first, *fields = head.split(CRLF)
        version, _, status = first.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not status.startswith(b"200"):
            raise WireClosed(f"refused: {_words(first)}")
        told = {name.strip().lower(): value.strip().lower() for name, _, value in (field.partition(b":") for field in fields)}
        if told.get(b"content-encoding", b"identity") != b"identity":
            raise WireClosed("the stream is compressed, which was not asked for")
        self._chunked = told.get(b"transfer-encoding", b"") == b"chunked"
        self._raw, self._head_read = rest, True
        return True

    def _from_chunks(self) -> bytes:
        parts: list[bytes] = []
        raw, at = self._raw, 0
        while not self.ended:
            if self._left:
                part = raw[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._close_chunk = True
            if self._close_chunk:
                if len(raw) - at < len(CRLF):
                    break
                if raw[at : at + 2] != CRLF:
                    raise WireClosed("broken chunks: no line end after one")
                at += 2
                self._close_chunk = False
            end = raw.find(CRLF, at)
            if end < 0:
                if len(raw) - at > LONGEST_SIZE_LINE:
                    raise WireClosed("broken chunks: no size")
                break
            self._left, at = _size(raw[at:end]), end + 2
            self.ended = self._left == 0
        self._raw = raw[at:]
        return b"".join(parts)


def _size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    if SIZE.fullmatch(text) is None:
        raise WireClosed("broken chunks: a size is no number")
    return int(text, 16)


def _words(text: bytes) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:200].decode("latin-1"))
