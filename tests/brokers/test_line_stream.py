"""The chunked wire over real sockets: every line whole and once, silence found out, and nothing made of what is broken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from brokers.line_stream import LONGEST_LINE, LineStream, Reply
from brokers.wire import WireClosed
from state.clock import SystemClock

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE_S = 10.0


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


class Peer:
    """One connection whose other side is a script; what was asked is kept."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self.asked = b""
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v3"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            sock, _ = self._listening.accept()
            with sock:
                sock.settimeout(PATIENCE_S)
                while b"\r\n\r\n" not in self.asked:
                    self.asked += sock.recv(4096)
                self._script(sock)

    def close(self) -> None:
        self._listening.close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket], None]], Peer]]:
    made: list[Peer] = []

    def start(script: Callable[[socket.socket], None]) -> Peer:
        made.append(Peer(script))
        return made[-1]

    yield start
    for one in made:
        one.close()


def until_hung_up(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(4096):
            pass


def connected(url: str, heard: Callable[[], None] = lambda: None, clock: Any = None, **more: Any) -> LineStream:
    wire = LineStream(clock or SystemClock(), lambda: True, heard, 0.02, headers={"Authorization": "Bearer t0ken"}, **more)
    wire.open(url)
    wire.send("/accounts/1/pricing/stream?instruments=EUR_USD")
    return wire


def read(wire: LineStream, count: int) -> list[bytes]:
    lines: list[bytes] = []
    for _ in range(2_000):
        if len(lines) == count:
            break
        line = wire.receive()
        if line is not None:
            lines.append(line)
    return lines


def ends(wire: LineStream) -> str:
    with pytest.raises(WireClosed) as raised:
        for _ in range(2_000):
            wire.receive()
    return str(raised.value)


def test_one_request_asks_for_the_stream(peer: Callable[..., Peer]) -> None:
    asked = peer(lambda sock: sock.sendall(HEAD + chunk(b'{"a":1}\n')))
    wire = connected(asked.url)

    lines = read(wire, 1)
    wire.close()

    host = asked.url.removeprefix("http://").removesuffix("/v3")
    assert lines == [b'{"a":1}']
    assert asked.asked.decode().split("\r\n") == [
        "GET /v3/accounts/1/pricing/stream?instruments=EUR_USD HTTP/1.1",
        f"Host: {host}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Authorization: Bearer t0ken",
        "",
        "",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 60, 512])
def test_lines_come_whole_however_the_bytes_are_cut(size: int) -> None:
    lines = [f'{{"n":{n}}}'.encode() for n in range(50)]
    body = b"\r\n".join(lines) + b"\n\n"
    sent = HEAD + b"".join(chunk(body[at : at + 13]) for at in range(0, len(body), 13))

    reply = Reply()
    found = [line for at in range(0, len(sent), size) for line in reply.take(sent[at : at + size])]

    assert (found, reply.inside_a_line, reply.ended) == (lines, False, False)


def test_chunks_may_have_extensions_and_an_end() -> None:
    reply = Reply()

    found = reply.take(HEAD + b"3;x=y\r\na\nb\r\n1\r\n\n\r\n0\r\n\r\n")

    assert (found, reply.ended) == ([b"a", b"b"], True)


def test_a_reply_that_is_not_chunked_is_lines_all_the_same() -> None:
    assert Reply().take(b"HTTP/1.1 200 OK\r\n\r\none\ntwo\nthr") == [b"one", b"two"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}", "refused: HTTP/1.1 401 Unauthorized"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", "refused: HTTP/1.1 302 Found"),
        (b"SSH-2.0-x\r\n\r\n", "refused: SSH-2.0-x"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", "the stream is compressed, which was not asked for"),
        (HEAD + b"xyz\r\n", "broken chunks: a size is no number"),
        (HEAD + b"-1\r\n", "broken chunks: a size is no number"),
        (HEAD + b"1\r\naXX", "broken chunks: no line end after one"),
        (HEAD + b"1" * 2_000, "broken chunks: no size"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "the reply has no end of its headers"),
        (HEAD + chunk(b"a" * (LONGEST_LINE + 1)), f"a line is longer than {LONGEST_LINE} bytes"),
    ],
)
def test_what_is_no_stream_of_lines_ends_the_connection(sent: bytes, said: str) -> None:
    with pytest.raises(WireClosed) as raised:
        Reply().take(sent)
    assert str(raised.value) == said


def test_a_line_cut_short_is_a_disconnect_and_no_data(peer: Callable[..., Peer]) -> None:
    wire = connected(peer(lambda sock: sock.sendall(HEAD + chunk(b'{"a":1}\n{"b":'))).url)

    assert read(wire, 1) == [b'{"a":1}']
    assert ends(wire) == "closed by the server, in the middle of a line"
    wire.close()


def test_an_end_in_good_order_is_an_end(peer: Callable[..., Peer]) -> None:
    wire = connected(peer(lambda sock: sock.sendall(HEAD + chunk(b"one\n") + b"0\r\n\r\n")).url)

    assert read(wire, 1) == [b"one"]
    assert ends(wire) == "ended by the server"
    wire.close()


class Hurried(SystemClock):
    """Each look at the monotonic clock finds it a second further."""

    def __init__(self) -> None:
        self._ms = 0

    def monotonic_ms(self) -> int:
        self._ms += 1_000
        return self._ms


def test_total_silence_is_found_out(peer: Callable[..., Peer]) -> None:
    """FEE-02: nothing closes the path; there is just not a byte any more."""

    def script(sock: socket.socket) -> None:
        sock.sendall(HEAD)
        until_hung_up(sock)

    wire = connected(peer(script).url, clock=Hurried())

    assert ends(wire) == "not a byte for 12 s, not even a heartbeat"
    wire.close()


def test_heartbeats_count_as_heard_even_before_a_line_is_whole(peer: Callable[..., Peer]) -> None:
    """FEE-01."""

    def script(sock: socket.socket) -> None:
        sock.sendall(HEAD)
        for _ in range(40):
            sock.sendall(b"1\r\nx\r\n")
        sock.sendall(chunk(b"\n"))
        until_hung_up(sock)

    heard: list[int] = []
    wire = connected(peer(script).url, heard=lambda: heard.append(1))

    assert read(wire, 1) == [b"x" * 40]
    assert heard
    wire.close()


def test_an_abort_from_another_thread_ends_the_wait(peer: Callable[..., Peer]) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HEAD + chunk(b"one\n"))
        until_hung_up(sock)

    wire = connected(peer(script).url)
    read(wire, 1)

    threading.Thread(target=wire.abort).start()

    assert ends(wire) == "closed by the server"
    wire.close()


def test_the_token_leaves_this_machine_over_tls_only_and_is_in_no_text() -> None:
    with pytest.raises(WireClosed) as raised:
        connected("http://stream.invalid/v3")
    assert "only https" in str(raised.value) and "t0ken" not in str(raised.value)
