"""The transport over real sockets: once at most, by the deadline, and "nothing was sent" told apart from "no answer"."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokers.base import Unanswered, Unavailable
from brokers.transport import Reply, Transport
from state.clock import SystemClock
from tests.brokers.http_stub import Act, HttpStub, dribble, hang_up, raw, reply, reset, silence

OK = reply(200, {"status": "success"})
CLOCK = SystemClock()


@pytest.fixture
def server() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        yield stub


@pytest.fixture
def transport(server: HttpStub) -> Iterator[Transport]:
    made = Transport(server.url, timeout_s=0.6)
    yield made
    made.close()


def test_a_reply_comes_back_whole_whatever_its_status(server: HttpStub, transport: Transport) -> None:
    server.on("/api", reply(418, b'{"a":1}'))

    answer = transport.post("/api", b'{"b":2}')

    assert (answer.status, answer.body, 0 <= answer.elapsed_ms < 600) == (418, b'{"a":1}', True)
    assert [(seen.path, seen.body, seen.headers["content-type"]) for seen in server.seen] == [
        ("/api", b'{"b":2}', "application/json")
    ]


def test_requests_of_one_thread_share_a_connection_and_those_of_another_do_not(server: HttpStub, transport: Transport) -> None:
    server.on("/api", OK)

    transport.post("/api", b"1")
    transport.post("/api", b"2")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(transport.post, "/api", b"3").result(5)

    assert [seen.connection for seen in server.seen] == [1, 1, 2]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hang_up, id="closes"),
        pytest.param(reset, id="resets"),
        pytest.param(silence, id="stays silent"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{half"), id="truncated"),
        pytest.param(raw(b"SMTP ready\r\n\r\n"), id="not HTTP"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), id="announces much, sends none"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="broken chunk"),
    ],
)
def test_a_request_without_a_usable_answer_is_unanswered_and_went_out_once(
    server: HttpStub, transport: Transport, act: Act
) -> None:
    """UNK-01, NET-06: the venue may have executed it; no layer sends it again."""
    server.on("/api", act)

    with pytest.raises(Unanswered) as caught:
        transport.post("/api", b'{"apikey":"secret"}')

    assert len(server.seen) == 1
    assert "secret" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("act", [hang_up, reset])
def test_a_kept_alive_connection_that_dies_under_the_request_is_not_used_again_for_it(
    server: HttpStub, transport: Transport, act: Act
) -> None:
    """NET-06: requests and urllib3 must not repeat a POST on a stale pooled connection."""
    server.on("/api", OK, act)
    transport.post("/api", b"first")

    with pytest.raises(Unanswered):
        transport.post("/api", b"second")

    assert [(seen.body, seen.connection) for seen in server.seen] == [(b"first", 1), (b"second", 1)]


def test_a_connection_that_the_server_closed_while_idle_is_replaced_before_sending(
    server: HttpStub, transport: Transport
) -> None:
    """NET-06: the close is already here, so a fresh connection is used and nothing becomes unknown."""
    server.on("/api", reply(200, b"{}", close=True), OK)
    transport.post("/api", b"first")
    server.drop_connections()

    answer = transport.post("/api", b"second")

    assert answer.status == 200
    assert [(seen.body, seen.connection) for seen in server.seen] == [(b"first", 1), (b"second", 2)]


def test_a_connection_idle_for_too_long_is_not_trusted(server: HttpStub) -> None:
    """NET-06: the server may be closing it at this very moment."""
    clock = _Ahead()
    transport = Transport(server.url, timeout_s=5, clock=clock, max_idle_ms=1500)
    server.on("/api", OK)

    transport.post("/api", b"1")
    clock.ahead_ms += 1000
    transport.post("/api", b"2")
    clock.ahead_ms += 2000
    transport.post("/api", b"3")

    assert [seen.connection for seen in server.seen] == [1, 1, 2]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"), id="body"),
        pytest.param(dribble(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"), id="header line"),
        pytest.param(dribble(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"), id="headers"),
        pytest.param(dribble(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continue for ever"),
        pytest.param(dribble(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="chunks"),
    ],
)
def test_a_dribbling_reply_is_ended_by_the_total_deadline(server: HttpStub, transport: Transport, act: Act) -> None:
    """NET-06: every recv succeeds within the library's time-out, so only a deadline on the whole can end it."""
    server.on("/api", act)
    started_ms = CLOCK.monotonic_ms()

    with pytest.raises(Unanswered):
        transport.post("/api", b"{}")

    assert 590 <= CLOCK.monotonic_ms() - started_ms < 1500
    assert len(server.seen) == 1


def test_a_call_may_shorten_the_deadline_but_not_lengthen_it(server: HttpStub, transport: Transport) -> None:
    server.on("/api", silence)
    spent = []

    for deadline_s in (0.2, 60.0):
        started_ms = CLOCK.monotonic_ms()
        with pytest.raises(Unanswered):
            transport.post("/api", b"{}", deadline_s=deadline_s)
        spent.append(CLOCK.monotonic_ms() - started_ms)

    assert 190 <= spent[0] < 500 <= spent[1] < 1500


def test_a_connection_works_again_after_a_request_on_it_timed_out(server: HttpStub, transport: Transport) -> None:
    """NET-08: the late answer of the first request is never taken for the second's."""
    server.on("/api", OK, silence, reply(200, b"third"))
    transport.post("/api", b"first")
    with pytest.raises(Unanswered):
        transport.post("/api", b"second", deadline_s=0.2)

    answer = transport.post("/api", b"third")

    assert (answer.body, [seen.connection for seen in server.seen]) == (b"third", [1, 1, 2])


def test_a_reply_larger_than_the_limit_is_ended(server: HttpStub) -> None:
    transport = Transport(server.url, timeout_s=5, max_body=100_000)
    server.on("/fits", reply(200, b"x" * 100_000))
    server.on("/large", reply(200, b"x" * 100_001))

    assert len(transport.post("/fits", b"").body) == 100_000
    with pytest.raises(Unanswered, match="larger than 100000 bytes"):
        transport.post("/large", b"")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(server: HttpStub, transport: Transport, status: int) -> None:
    """NET-06: following one would send the order a second time, and the key elsewhere."""
    server.on("/api", reply(status, b"gone", headers=f"Location: {server.url}/elsewhere\r\n"))

    answer = transport.post("/api", b"{}")

    assert (answer.status, answer.body) == (status, b"gone")
    assert [seen.path for seen in server.seen] == ["/api"]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_no_status_makes_a_request_go_out_again(server: HttpStub, transport: Transport, status: int) -> None:
    server.on("/api", reply(status, b"{}", headers="Retry-After: 0\r\n"))

    assert transport.post("/api", b"{}").status == status
    assert len(server.seen) == 1


def test_a_refused_connection_sent_nothing() -> None:
    """UNK-06: the same order may go later under the same id."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(Unavailable, match="nothing was sent"):
        Transport(f"http://127.0.0.1:{port}", timeout_s=2).post("/api", b"{}")


def test_a_name_that_does_not_resolve_sent_nothing() -> None:
    """UNK-06"""
    with pytest.raises(Unavailable, match="nothing was sent"):
        Transport("https://no-such-host.invalid", timeout_s=2).post("/api", b"{}")


def test_a_failed_tls_handshake_sent_nothing(server: HttpStub) -> None:
    """UNK-06: requests has one exception for TLS trouble before and after sending; ours are told apart."""
    with pytest.raises(Unavailable, match="nothing was sent"):
        Transport(f"https://127.0.0.1:{server.port}", timeout_s=1).post("/api", b"{}")

    assert server.seen == []


def test_a_proxy_that_refuses_the_tunnel_got_no_request(server: HttpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNK-06: the CONNECT to the proxy is not our request; the key in the body never left."""
    monkeypatch.setenv("https_proxy", server.url)
    server.on("example.invalid:443", reply(502, b""))

    with pytest.raises(Unavailable, match="nothing was sent"):
        Transport("https://example.invalid", timeout_s=2).post("/api", b"{}")

    assert [(seen.path, seen.body) for seen in server.seen] == [("example.invalid:443", b"")]


def test_no_time_left_sends_nothing(server: HttpStub, transport: Transport) -> None:
    server.on("/api", OK)
    transport.post("/api", b"warm")

    with pytest.raises(Unavailable, match="nothing was sent"):
        transport.post("/api", b"late", deadline_s=-1)

    assert [seen.body for seen in server.seen] == [b"warm"]


@pytest.mark.parametrize("act", [hang_up, silence])
def test_a_failed_read_is_unavailable_never_unanswered(server: HttpStub, transport: Transport, act: Act) -> None:
    server.on("/api", act)

    with pytest.raises(Unavailable):
        transport.post("/api", b"{}", read=True, deadline_s=0.3)


def test_a_defect_after_the_send_does_not_read_as_not_sent(server: HttpStub) -> None:
    """UNK-04: an exception of our own after the first byte left is still "may have happened"."""
    server.on("/api", OK)
    transport = _Defective(server.url, timeout_s=2)

    with pytest.raises(Unanswered, match="ZeroDivisionError"):
        transport.post("/api", b"{}")


def test_a_closed_transport_refuses_and_has_closed_its_idle_connections(server: HttpStub, transport: Transport) -> None:
    server.on("/api", OK)
    transport.post("/api", b"1")

    transport.close()

    with pytest.raises(Unavailable, match="closed"):
        transport.post("/api", b"2")
    assert [seen.body for seen in server.seen] == [b"1"]


def test_closing_leaves_a_request_under_way_its_time(server: HttpStub) -> None:
    transport = Transport(server.url, timeout_s=5)
    answering = threading.Event()

    def held(sock: socket.socket, stopping: threading.Event) -> bool:
        answering.wait(5)
        return reply(200, b"done")(sock, stopping)

    server.on("/api", held)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(transport.post, "/api", b"1")
        _until(lambda: len(server.seen) == 1)
        transport.close()
        answering.set()

        answer: Reply = under_way.result(5)

    assert answer.body == b"done"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://10.0.0.5:5000",
        "ftp://127.0.0.1",
        "127.0.0.1:5000",
        "http://me:pw@127.0.0.1",
        "http://127.0.0.1/?key=1",
    ],
)
def test_an_address_that_would_leak_keys_or_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Transport(url, timeout_s=1)

    assert "pw" not in str(caught.value) and "key=1" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://localhost:5000/", "http://[::1]:5000", "https://example.com"])
def test_this_machine_and_https_are_accepted(url: str) -> None:
    Transport(url, timeout_s=1).close()


def test_proxies_of_the_environment_are_not_used_for_this_machine(server: HttpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.on("/api", OK)

    assert Transport(server.url, timeout_s=2).post("/api", b"{}").status == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the system offers no way to hurry an acknowledgement")
def test_a_server_that_writes_headers_and_body_apart_costs_no_delayed_acknowledgement(server: HttpStub) -> None:
    """Under Nagle such a server waits 40 ms for the first part's acknowledgement."""
    transport = Transport(server.url, timeout_s=5)

    def in_two_parts(sock: socket.socket, _: threading.Event) -> bool:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        sock.sendall(b"{}")
        return True

    server.on("/api", in_two_parts)

    elapsed = sorted(transport.post("/api", b"{}").elapsed_ms for _ in range(11))

    assert elapsed[5] < 30


def test_a_thousand_ids_from_eight_threads_each_get_their_own_answer(server: HttpStub) -> None:
    """NET-08: 1,000 ids, no mix-up, each sent once."""
    transport = Transport(server.url, timeout_s=10)
    for number in range(1000):
        server.on(f"/{number}", reply(200, str(number)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: transport.post(f"/{number}", b"").body, range(1000)))

    assert answers == [str(number).encode() for number in range(1000)]
    assert sorted(int(seen.path[1:]) for seen in server.seen) == list(range(1000))


class _Ahead(SystemClock):
    ahead_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.ahead_ms


class _Defective(Transport):
    def _read(self, answer: object) -> bytes:
        return b"x" * (1 // 0)


def _until(true: Callable[[], bool]) -> None:
    """Wait on a condition, for five seconds at most."""
    deadline_ms = CLOCK.monotonic_ms() + 5000
    pause = threading.Event()
    while not true():
        assert CLOCK.monotonic_ms() < deadline_ms, "it did not happen"
        CLOCK.wait(pause, 0.005)
