"""The tick thread over real sockets: what reaches a sink, what does not, and what is said when the stream misbehaves."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from brokers.backoff import Backoff
from brokers.base import FillRow, OrderRow, Reported
from brokers.channel import Limits, Missed
from brokers.dialect import Several, Snapshot
from brokers.feed import Feed
from brokers.openalgo_stream import OpenAlgoStream
from brokers.wire import Wire, WireClosed
from state.clock import Clock, ScaledClock, SystemClock
from state.orders import Side
from state.threads import OsThreads
from tests.brokers.ws_stub import RawStub, StreamStub, market_data, raw_frame, subscribed, swallow

D = Decimal
SYMBOLS = ("SBIN", "INFY")
PATIENCE_S = 10.0
LOGIN = raw_frame(b'{"type":"auth","status":"success"}') + raw_frame(b'{"type":"subscribe_orders","status":"success"}')
Heard = tuple[Any, ...]


class Recorder:
    """Listener and sinks in one: everything that was told, in order, as tuples."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._news = threading.Condition()

    def sink(self, symbol: str) -> Callable[[Decimal, int], None]:
        return lambda price, at_ms: self._hear("tick", symbol, price, at_ms)

    def order_update(self, row: OrderRow) -> None:
        self._hear("order", row)

    def fill(self, row: FillRow) -> None:
        self._hear("fill", row)

    def venue_open(self, why_not: str | None) -> None:
        self._hear("open", why_not)

    def order_unclear(self) -> None:
        self._hear("unclear")

    def connected(self) -> None:
        self._hear("connected")

    def disconnected(self, reason: str) -> None:
        self._hear("disconnected", reason)

    def entries_off(self, symbol: str, reason: str) -> None:
        self._hear("off", symbol, reason)

    def entries_on(self, symbol: str) -> None:
        self._hear("on", symbol)

    def missed(self, symbol: str, missed: Missed) -> None:
        self._hear("missed", symbol, missed)

    def alarm(self, text: str) -> None:
        self._hear("alarm", text)

    def of(self, *kinds: str) -> list[Heard]:
        with self._news:
            return [heard for heard in self.heard if heard[0] in kinds]

    def ticks(self) -> list[tuple[str, str]]:
        return [(symbol, str(price)) for _, symbol, price, _ in self.of("tick")]

    def wait(self, count: int, *kinds: str) -> list[Heard]:
        """The first `count` things heard of these kinds, as soon as there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: sum(heard[0] in kinds for heard in self.heard) >= count, PATIENCE_S), self.heard
        return self.of(*kinds)[:count]

    def _hear(self, *heard: Any) -> None:
        with self._news:
            self.heard.append(heard)
            self._news.notify_all()


class EvenThreads(OsThreads):
    """Jitter in the middle, always."""

    def chance(self) -> float:
        return 0.5


class HurriedClock(SystemClock):
    """Waits take no time, yet the monotonic clock shows them as passed."""

    threads = EvenThreads()

    def __init__(self) -> None:
        self._ahead_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self._ahead_ms

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self._ahead_ms += round(timeout_s * 1000)
        return event.is_set()


class Rig:
    """A running feed and what it tells."""

    def __init__(self, url: str, clock: Clock | None = None, symbols: tuple[str, ...] = SYMBOLS, **options: Any) -> None:
        self.told = Recorder()
        self.clock = clock or SystemClock()
        sinks = {symbol: self.told.sink(symbol) for symbol in symbols} | options.pop("sinks", {})
        limits = Limits(**({"turn_ms": 20} | options.pop("limits", {})))
        stream = options.pop("dialect", None) or OpenAlgoStream(url, "k", "NSE")
        self.feed = Feed(stream, sinks, self.told, self.clock, limits, **options)
        self.thread = threading.Thread(target=self.feed.run, name="ticks", daemon=True)
        self.thread.start()

    def ready(self) -> Rig:
        self.told.wait(1, "connected")
        self.feed.release()
        return self

    def count(self, name: str, least: int) -> int:
        until(lambda: self.feed.counts().get(name, 0) >= least)
        return self.feed.counts()[name]

    def now(self) -> int:
        return self.clock.now_ms()

    def close(self) -> None:
        self.feed.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.005)


Start = Callable[..., Rig]


@pytest.fixture
def venue() -> Iterator[StreamStub]:
    stub = StreamStub()
    yield stub
    stub.close()


@pytest.fixture
def start() -> Iterator[Start]:
    rigs: list[Rig] = []

    def begin(url: str, **options: Any) -> Rig:
        rigs.append(Rig(url, **options))
        return rigs[-1]

    yield begin
    for rig in rigs:
        rig.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., RawStub]]:
    stubs: list[RawStub] = []

    def begin(script: Callable[[socket.socket], None], **options: Any) -> RawStub:
        stubs.append(RawStub(script, **options))
        return stubs[-1]

    yield begin
    for stub in stubs:
        stub.close()


# Login, hold and release


def test_after_the_login_everything_is_subscribed_and_a_tick_turns_the_entries_on(venue: StreamStub, start: Start) -> None:
    rig = start(venue.url).ready()
    at_ms = rig.now()

    venue.send(market_data("SBIN", "731.15", at_ms), market_data("SBIN", "731.20", at_ms))

    rig.told.wait(2, "tick")
    assert venue.actions() == ["authenticate", "subscribe", "subscribe_orders"]
    assert rig.told.heard == [
        ("off", "SBIN", "no tick yet"),
        ("off", "INFY", "no tick yet"),
        ("connected",),
        ("on", "SBIN"),
        ("tick", "SBIN", D("731.15"), at_ms),
        ("tick", "SBIN", D("731.20"), at_ms),
    ]
    assert rig.feed.last("INFY") is None
    price, told_ms, age_ms = rig.feed.last("SBIN") or (D(0), 0, -1)
    assert (price, told_ms) == (D("731.20"), at_ms)
    assert 0 <= age_ms < PATIENCE_S * 1000


def test_nothing_is_subscribed_before_the_login_is_answered(venue: StreamStub, start: Start) -> None:
    venue.replies["authenticate"] = lambda _: []

    rig = start(venue.url, limits={"login_ms": 100})

    assert rig.told.wait(1, "disconnected") == [("disconnected", "no answer to the login in 100 ms")]
    assert set(venue.actions()) == {"authenticate"}


def test_a_refused_login_is_told_with_its_reason_and_tried_again_later(venue: StreamStub, start: Start) -> None:
    refusal = {"status": "error", "code": "AUTHENTICATION_ERROR", "message": "Invalid API key"}
    venue.replies["authenticate"] = lambda _: [refusal]

    rig = start(venue.url, clock=HurriedClock())

    assert rig.told.wait(2, "disconnected") == [("disconnected", "login refused: Invalid API key")] * 2
    assert rig.told.of("alarm") == [("alarm", "feed: login refused: Invalid API key")]


def test_ticks_are_held_until_orders_and_positions_have_been_read(venue: StreamStub, start: Start) -> None:
    """FEE-03, the feed's part: remembered, not delivered, and told as missed before the first tick that decides."""
    rig = start(venue.url)
    rig.told.wait(1, "connected")
    at_ms = rig.now()
    venue.send(*(market_data("SBIN", price, at_ms) for price in ("731", "729", "733", "730")))
    rig.count("held", 4)
    held = list(rig.told.heard)

    rig.feed.release()
    venue.send(market_data("SBIN", "732", at_ms))

    rig.told.wait(1, "tick")
    assert [kind for kind, *_ in held] == ["off", "off", "connected"]
    assert rig.told.heard[3:] == [
        ("on", "SBIN"),
        ("missed", "SBIN", Missed(D(729), D(733), D(730), at_ms, 4)),
        ("tick", "SBIN", D(732), at_ms),
    ]


def test_after_a_reconnect_the_ticks_are_held_again_and_an_old_release_does_not_count(venue: StreamStub, start: Start) -> None:
    """FEE-03: the poller began to read before the connection was lost, so what it read is old."""
    rig = start(venue.url, clock=HurriedClock()).ready()
    at_ms = rig.now()
    venue.send(market_data("SBIN", "731", at_ms))
    rig.told.wait(1, "tick")
    old = rig.feed.connection
    venue.hang_up()
    rig.told.wait(2, "connected")

    rig.feed.release(old)
    venue.send(market_data("SBIN", "700", at_ms))
    rig.count("held", 1)
    rig.feed.release(rig.feed.connection)
    venue.send(market_data("SBIN", "701", at_ms))

    rig.told.wait(2, "tick")
    assert rig.told.ticks() == [("SBIN", "731"), ("SBIN", "701")]
    assert [heard for heard in rig.told.of("on", "off") if heard[1] == "SBIN"][2] == (
        "off",
        "SBIN",
        "feed down: connection lost: Connection to remote host was lost.",
    )
    assert venue.actions() == ["authenticate", "subscribe", "subscribe_orders"] * 2
    assert rig.feed.counts()["reconnects"] == 1


def test_order_updates_are_delivered_while_ticks_are_held(venue: StreamStub, start: Start) -> None:
    """FEE-12, FEE-04: twice the same and out of order, they are passed on as they come; they are cumulative."""
    rig = start(venue.url)
    rig.told.wait(1, "connected")
    update = {"type": "order_update", "orderid": "7", "symbol": "SBIN", "exchange": "NSE", "action": "BUY", "quantity": 5}
    filled = json.dumps(update | {"order_status": "complete", "filled_quantity": 5, "average_price": 731.15})

    venue.send(filled, filled, json.dumps(update | {"order_status": "open", "filled_quantity": 0}))

    done = OrderRow("7", "SBIN", Side.BUY, Reported.FILLED, D(5), filled=D(5), average=D("731.15"))
    resting = OrderRow("7", "SBIN", Side.BUY, Reported.WORKING, D(5), filled=D(0))
    assert rig.told.wait(3, "order") == [("order", done), ("order", done), ("order", resting)]


# Prices and times


def test_what_is_no_price_reaches_no_sink_and_the_thread_goes_on(venue: StreamStub, start: Start) -> None:
    """FEE-05"""
    rig = start(venue.url).ready()
    at_ms = rig.now()
    wrong = ["NaN", '"NaN"', "Infinity", '"Infinity"', "0", "-1", "null", "true", "1e400"]

    venue.send(*(market_data("SBIN", price, at_ms) for price in [*wrong, '"731.15"', "7.3115e2", "7.3120e2"]))

    rig.told.wait(3, "tick")
    assert rig.told.ticks() == [("SBIN", "731.15"), ("SBIN", "731.15"), ("SBIN", "731.20")]
    refused = {name: count for name, count in rig.feed.counts().items() if ": " in name}
    assert refused == {
        "refused: not a number": 2,
        "refused: zero or negative": 2,
        "refused: absurd size": 1,
        "noise: malformed": 2,
        "noise: malformed tick": 2,
    }


def test_one_print_ten_times_off_is_kept_from_the_sink_until_a_quote_or_a_second_print(venue: StreamStub, start: Start) -> None:
    """FEE-06"""
    rig = start(venue.url, references={"INFY": D(1400)}).ready()
    at_ms = rig.now()
    venue.send(*(market_data("SBIN", price, at_ms) for price in ("731", "7310", "732")))
    venue.send(market_data("INFY", "1000", at_ms))
    rig.count("refused: jump, held until confirmed", 2)
    rig.feed.quoted("INFY", D(1001))

    venue.send(market_data("INFY", "1000", at_ms), market_data("SBIN", "900", at_ms), market_data("SBIN", "901", at_ms))

    rig.told.wait(4, "tick")
    assert rig.told.ticks() == [("SBIN", "731"), ("SBIN", "732"), ("INFY", "1000"), ("SBIN", "901")]


def test_old_ticks_change_nothing_and_seconds_and_milliseconds_are_one_instant(venue: StreamStub, start: Start) -> None:
    """FEE-07, FEE-04"""
    rig = start(venue.url).ready()
    second = rig.now() // 1000

    venue.send(
        market_data("SBIN", "731", second * 1000),
        market_data("SBIN", "732", second - 1),
        market_data("SBIN", "733", second),
        market_data("SBIN", "733", second),
    )

    rig.told.wait(3, "tick")
    assert [heard[2:] for heard in rig.told.of("tick")] == [
        (D(731), second * 1000),
        (D(733), second * 1000),
        (D(733), second * 1000),
    ]
    assert rig.feed.counts()["refused: older than the last"] == 1


def test_a_tick_without_a_time_is_used_only_in_a_feed_declared_untimed(venue: StreamStub, start: Start) -> None:
    """FEE-07"""
    timed, untimed = start(venue.url).ready(), start(venue.url, limits={"untimed": True}).ready()
    until(lambda: len(venue.peers) == 2)
    before_ms = untimed.now()

    for peer in venue.peers:
        peer.send(market_data("SBIN", "731", "null"))
        peer.send(market_data("SBIN", "732", '"13:58:03"'.replace('"', "")))

    untimed.told.wait(2, "tick")
    timed.count("refused: no time", 2)
    assert untimed.told.ticks() == [("SBIN", "731"), ("SBIN", "732")]
    assert all(before_ms <= heard[3] <= untimed.now() for heard in untimed.told.of("tick"))
    assert timed.told.of("tick", "on", "alarm") == [
        ("alarm", "feed: ticks come without a time and the feed is not declared untimed: they are not used")
    ]


def test_a_tick_from_the_future_is_taken_as_of_now(venue: StreamStub, start: Start) -> None:
    """FEE-07: it must not make the ticks after it look old for ever."""
    rig = start(venue.url).ready()
    before_ms = rig.now()

    venue.send(market_data("SBIN", "731", before_ms + 60_000))
    rig.told.wait(1, "tick")
    venue.send(market_data("SBIN", "732", rig.now()))

    rig.told.wait(2, "tick")
    assert [heard[2] for heard in rig.told.of("tick")] == [D(731), D(732)]
    assert all(before_ms <= heard[3] <= rig.now() for heard in rig.told.of("tick"))
    assert rig.feed.counts()["future"] == 1
    assert re.fullmatch(
        r"feed: SBIN has a tick \d+ ms in the future: is this machine's clock right\?", rig.told.of("alarm")[0][1]
    )


def test_a_late_tick_decides_nothing_but_its_high_and_low_are_kept(venue: StreamStub, start: Start) -> None:
    """FEE-12"""
    rig = start(venue.url).ready()
    late_ms = rig.now() - 20_000
    venue.send(*(market_data("SBIN", price, late_ms + step) for step, price in enumerate(("731", "725", "735", "730"))))
    rig.count("late", 4)
    latest = (rig.feed.last("SBIN") or (None,))[0]
    at_ms = rig.now()

    venue.send(market_data("SBIN", "732", at_ms))

    rig.told.wait(1, "tick")
    assert latest == D(730)
    assert rig.told.heard[3:] == [
        ("on", "SBIN"),
        ("missed", "SBIN", Missed(D(725), D(735), D(730), late_ms + 3, 4)),
        ("tick", "SBIN", D(732), at_ms),
    ]


def test_late_is_measured_at_the_speed_of_the_session(venue: StreamStub, start: Start) -> None:
    """A practice session sixty times as fast as life: 20 s of it are a third of a second."""
    now_ms = SystemClock().now_ms()
    rig = start(venue.url, clock=ScaledClock(now_ms, now_ms, 60.0)).ready()

    venue.send(market_data("SBIN", "731", rig.now() - 20_000))

    assert rig.told.wait(1, "tick")[0][2] == D(731)


def test_a_slow_sink_makes_the_ticks_behind_it_late_not_queued(venue: StreamStub, start: Start) -> None:
    """FEE-12: a burst behind a slow consumer; the last price wins, nothing is decided on what has become old."""
    taken, pause = [], threading.Event()

    def slow(price: Decimal, at_ms: int) -> None:
        taken.append(price)
        pause.wait(0.02)

    rig = start(venue.url, sinks={"SBIN": slow}, limits={"late_ms": 100}).ready()
    at_ms = rig.now()

    venue.send(*(market_data("SBIN", str(700 + step / 100), at_ms) for step in range(300)))

    until(lambda: (rig.feed.last("SBIN") or (None,))[0] == D("702.99"))
    assert 0 < len(taken) < 60
    assert rig.feed.counts()["late"] == 300 - len(taken)


# Frames


def test_every_bad_frame_is_counted_and_every_good_one_used(venue: StreamStub, start: Start) -> None:
    """FEE-08"""
    rig = start(venue.url).ready()
    at_ms = rig.now()
    good = [market_data("SBIN", "731", at_ms), market_data("INFY", "1400", at_ms)]

    venue.send(
        "{", "", "[]", '{"type":"news"}', market_data("TCS", "1", at_ms), market_data("", "1", at_ms),
        market_data("SBIN", "1", at_ms, exchange="BSE"), good[0], f"[{good[0]},{good[1]}]",
    )  # fmt: skip

    rig.told.wait(3, "tick")
    assert rig.told.ticks() == [("SBIN", "731"), ("SBIN", "731"), ("INFY", "1400")]
    assert {name: count for name, count in rig.feed.counts().items() if name.startswith("noise")} == {
        "noise: malformed": 2,
        "noise: unknown type": 1,
        "noise: unknown symbol": 2,
        "noise: other exchange": 1,
    }


def test_fragments_pings_and_dribbled_bytes_are_read_as_the_protocol_says(raw: Callable[..., RawStub], start: Start) -> None:
    """FEE-08: one message in three frames with a ping between them, the bytes arriving a few at a time with pauses."""
    answers: list[bytes] = []
    text = market_data("SBIN", "731.15", SystemClock().now_ms()).encode()

    def script(sock: socket.socket) -> None:
        sock.sendall(LOGIN)
        pieces = (
            raw_frame(text[:50], 1, False) + raw_frame(text[50:90], 0, False) + raw_frame(b"hello", 9) + raw_frame(text[90:], 0)
        )
        for at in range(0, len(pieces), 40):
            sock.sendall(pieces[at : at + 40])
            threading.Event().wait(0.05)  # longer than a turn: the read times out in the middle of a frame
        while part := sock.recv(4096):
            answers.append(part)

    rig = start(raw(script).url).ready()

    rig.told.wait(1, "tick")
    assert rig.told.ticks() == [("SBIN", "731.15")]
    until(lambda: b"\x8a\x85" in b"".join(answers))  # a masked pong of five bytes
    assert len(rig.told.of("connected")) == 1


def test_a_snapshot_is_not_a_tick(venue: StreamStub, start: Start) -> None:
    """FEE-13: other venues send the last trades on subscribing; no sink sees them, but they confirm a jump as a quote does."""

    class Snapping(OpenAlgoStream):
        def receive(self, frame: bytes) -> Any:
            if frame == b"snapshot":
                return Several((Snapshot("SBIN", D(500)), Snapshot("OTHER", D(1))))
            return super().receive(frame)

    rig = start(venue.url, dialect=Snapping(venue.url, "k", "NSE"), references={"SBIN": D(731)}).ready()
    at_ms = rig.now()

    venue.send("snapshot", market_data("SBIN", "501", at_ms))

    assert rig.told.wait(1, "tick") == [("tick", "SBIN", D(501), at_ms)]
    assert rig.feed.counts()["snapshots"] == 2


# Subscriptions


def test_symbols_that_are_not_confirmed_are_named_and_asked_for_again(venue: StreamStub, start: Start) -> None:
    """FEE-09: a hundred symbols, the answer shuffled and without one, one refused; the missing one is confirmed later."""
    symbols = tuple(f"S{number}" for number in range(100))
    asked: list[list[str]] = []

    def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append([line["symbol"] for line in request["symbols"]])
        lines = [line | {"status": "success"} for line in reversed(request["symbols"]) if line["symbol"] != "S17"]
        if len(asked) > 1:
            lines.append({"symbol": "S17", "exchange": "NSE", "status": "success"})
        for line in lines:
            if line["symbol"] == "S3":
                line |= {"status": "error", "message": "not found"}
        return [subscribed(lines[:50]), subscribed(lines[50:])]

    venue.replies["subscribe"] = answer

    rig = start(venue.url, symbols=symbols, limits={"ack_ms": 300}).ready()

    assert rig.told.wait(2, "alarm") == [
        ("alarm", "feed: not subscribed, asking again for: S3 (not found), S17 (no answer)"),
        ("alarm", "feed: not subscribed, given up on: S3 (not found)"),
    ]
    assert asked == [list(symbols), ["S3", "S17"], ["S3"]]


def test_a_symbol_that_loses_its_confirmation_has_its_entries_off_until_it_ticks(venue: StreamStub, start: Start) -> None:
    """FEE-09"""
    lines = [{"symbol": "INFY", "exchange": "NSE", "status": "error", "message": "not now"}]
    venue.replies["subscribe"] = lambda _: [subscribed(lines)]
    rig = start(venue.url, limits={"ack_ms": 300}).ready()
    venue.send(market_data("SBIN", "731", rig.now()))

    assert rig.told.wait(1, "alarm") == [("alarm", "feed: not subscribed, asking again for: INFY (not now)")]
    assert rig.told.of("on") == [("on", "SBIN")]
    venue.send(market_data("INFY", "1400", rig.now()))
    assert rig.told.wait(2, "on") == [("on", "SBIN"), ("on", "INFY")]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ([{"status": "error", "code": "INVALID_ACTION", "message": "Invalid action"}], "Invalid action"),
        ([], "no answer"),
    ],
)
def test_without_an_order_stream_the_feed_says_so_and_goes_on(
    venue: StreamStub, start: Start, reply: list[dict[str, Any]], reason: str
) -> None:
    """FEE-14"""
    venue.replies["subscribe_orders"] = lambda _: reply

    rig = start(venue.url, limits={"ack_ms": 300}).ready()
    venue.send(market_data("SBIN", "731", rig.now()))

    rig.told.wait(1, "tick")
    assert rig.told.of("alarm") == [("alarm", f"feed: no order updates ({reason}): orders are known from polling only")]


# Silence


def test_a_silent_symbol_goes_stale_in_an_open_market_and_recovers_alone(venue: StreamStub, start: Start) -> None:
    """FEE-01"""
    rig = start(venue.url).ready()
    venue.send(market_data("SBIN", "731", rig.now()), market_data("INFY", "1400", rig.now()))
    rig.told.wait(2, "tick")
    mono_ms = rig.clock.monotonic_ms()
    rig.feed.check(mono_ms, True)

    quiet = rig.feed.check(mono_ms + 59_000, True)
    stale = rig.feed.check(mono_ms + 61_000, True)
    again = rig.feed.check(mono_ms + 66_000, True)
    venue.send(market_data("SBIN", "732", rig.now()))

    rig.told.wait(3, "tick")
    assert (quiet, stale, again) == ([], ["SBIN", "INFY"], [])
    assert rig.told.of("alarm") == [("alarm", "feed: stale, no tick on time for 60 s: SBIN, INFY")]
    assert [heard for heard in rig.told.of("on", "off") if heard[1] == "SBIN"] == [
        ("off", "SBIN", "no tick yet"),
        ("on", "SBIN"),
        ("off", "SBIN", "no tick on time for 61 s"),
        ("on", "SBIN"),
    ]
    assert rig.told.heard[-2][0] == "on" and rig.told.heard[-1][0] == "tick", "the tick that cures may already decide"
    assert len(rig.told.of("connected")) == 1


def test_a_closed_market_is_silent_without_any_consequence(venue: StreamStub, start: Start) -> None:
    """FEE-01: and when it opens the age counts from the open."""
    rig = start(venue.url).ready()
    mono_ms = rig.clock.monotonic_ms()

    closed = [rig.feed.check(mono_ms + hour * 3_600_000, False) for hour in range(10)]
    opening = [rig.feed.check(mono_ms + 36_000_000 + second * 1000, True) for second in (0, 59)]

    assert closed + opening == [[]] * 12
    assert rig.told.of("alarm", "disconnected") == []


def test_ticks_before_the_open_do_not_count_as_the_sessions_first(venue: StreamStub, start: Start) -> None:
    """FEE-10: prices of the pre-open auction come, then nothing."""
    rig = start(venue.url).ready()
    venue.send(market_data("SBIN", "731", rig.now()))
    rig.told.wait(1, "tick")
    mono_ms = rig.clock.monotonic_ms()
    rig.feed.check(mono_ms, False)

    rig.feed.check(mono_ms + 1000, True)
    rig.feed.check(mono_ms + 61_000, True)

    reason = "connected and subscribed, but no tick in 60 s of open market"
    assert rig.told.wait(1, "disconnected") == [("disconnected", reason)]


def test_without_a_first_tick_after_the_open_it_logs_in_again_a_few_times(venue: StreamStub, start: Start) -> None:
    """FEE-10: connected, logged in, subscribed, mute. No storm: three times, then only stale."""
    rig = start(venue.url, clock=HurriedClock())
    for number in range(1, 4):
        rig.told.wait(number, "connected")
        mono_ms = rig.clock.monotonic_ms()
        rig.feed.check(mono_ms, True)
        rig.feed.check(mono_ms + 60_000, True)
        rig.told.wait(number, "disconnected")
    rig.told.wait(4, "connected")
    mono_ms = rig.clock.monotonic_ms()
    rig.feed.check(mono_ms, True)
    rig.feed.check(mono_ms + 600_000, True)

    reason = "connected and subscribed, but no tick in 60 s of open market"
    assert rig.told.of("disconnected") == [("disconnected", reason)] * 3
    logins = [text for _, text in rig.told.of("alarm") if "logging in" in text]
    assert logins == [f"feed: {reason}; logging in again (has the broker's own session expired?)"] * 3
    assert rig.told.of("tick", "on") == []
    assert venue.actions().count("authenticate") == 4


def test_a_path_that_dies_without_a_close_is_left_within_two_ping_intervals(raw: Callable[..., RawStub], start: Start) -> None:
    """FEE-02"""
    pinged = []

    def script(sock: socket.socket) -> None:
        sock.sendall(LOGIN)
        while part := sock.recv(4096):
            pinged.append(part[:1] == b"\x89")

    began = time.monotonic()
    rig = start(raw(script).url, limits={"ping_ms": 300, "pong_ms": 150})

    told = rig.told.wait(1, "disconnected")
    assert told == [("disconnected", "nothing heard for 0 s, not even an answer to a ping")]
    assert 0.4 < time.monotonic() - began < 0.3 * 2 + 1
    assert pinged.count(True) == 1


def test_a_quiet_path_that_answers_pings_is_kept(venue: StreamStub, start: Start) -> None:
    """FEE-01, FEE-02: the library on the other side answers by itself."""
    rig = start(venue.url, limits={"ping_ms": 50, "pong_ms": 100}).ready()
    later = rig.clock.monotonic_ms() + 500

    until(lambda: rig.feed.alive_ms > later)

    assert rig.told.of("disconnected") == []


# Reconnecting


def test_a_server_that_closes_at_once_is_tried_at_most_twenty_times_in_ten_minutes(
    raw: Callable[..., RawStub], start: Start
) -> None:
    """FEE-14"""
    clock = HurriedClock()
    attempts: list[int] = []

    def script(sock: socket.socket) -> None:
        attempts.append(clock.monotonic_ms())
        sock.close()

    rig = start(raw(script).url, clock=clock)

    until(lambda: len(attempts) >= 45)

    waits_s = [round((later - earlier) / 1000) for earlier, later in pairwise(attempts)]
    assert waits_s[:8] == [1, 2, 5, 10, 30, 60, 60, 60]
    assert min(later - earlier for earlier, later in zip(attempts, attempts[20:], strict=False)) > 599_000
    assert rig.told.of("on", "tick", "connected") == []
    assert [heard[:2] for heard in rig.told.of("off")] == [("off", "SBIN"), ("off", "INFY")]


def test_the_back_off_climbs_its_ladder_with_jitter() -> None:
    """FEE-14"""
    steps, low, high = Backoff(lambda: 0.5), Backoff(lambda: 0.0), Backoff(lambda: 1.0)

    assert [steps.next_wait_ms(0) for _ in range(8)] == [1000, 2000, 5000, 10_000, 30_000, 60_000, 60_000, 60_000]
    assert [low.next_wait_ms(0), high.next_wait_ms(0)] == [800, 1200]
    steps.reset()
    assert steps.next_wait_ms(0) == 1000


def test_twenty_attempts_in_ten_minutes_are_the_most_however_often_the_ladder_starts_anew() -> None:
    """FEE-14: connections that last just long enough to count as stable."""
    backoff, now_ms, attempts = Backoff(lambda: 0.5), 0, []
    while now_ms < 3_600_000:
        attempts.append(now_ms)
        backoff.attempted(now_ms)
        backoff.reset()
        now_ms += backoff.next_wait_ms(now_ms)

    assert all(later - earlier >= 600_000 for earlier, later in zip(attempts, attempts[20:], strict=False))
    assert len(attempts) == 120


def test_a_connection_that_was_stable_starts_the_ladder_anew(venue: StreamStub, start: Start) -> None:
    clock = HurriedClock()
    rig = start(venue.url, clock=clock, limits={"stable_ms": 0})
    for number in range(1, 4):
        rig.told.wait(number, "connected")
        rig.feed.release()
        venue.send(market_data("SBIN", "731", rig.now()))
        rig.told.wait(number, "tick")
        waited_ms = clock._ahead_ms
        venue.hang_up()
        rig.told.wait(number, "disconnected")
        until(lambda before=waited_ms: clock._ahead_ms > before)  # type: ignore[misc]

    rig.told.wait(4, "connected")
    assert clock._ahead_ms == 3000


def test_the_first_connect_fails_and_a_later_one_works(start: Start) -> None:
    """FEE-14"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rig = start(f"ws://127.0.0.1:{port}", clock=HurriedClock())

    reason = rig.told.wait(1, "disconnected")[0][1]

    assert reason.startswith(f"cannot connect to ws://127.0.0.1:{port}: ")
    assert rig.feed.counts()["reconnects"] == 0


def test_a_close_with_a_reason_is_told_in_its_words(raw: Callable[..., RawStub], start: Start) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(raw_frame((4401).to_bytes(2, "big") + b"auth timeout", 8))
        swallow(sock)

    rig = start(raw(script).url)

    assert rig.told.wait(1, "disconnected") == [("disconnected", "closed by the server: 4401 auth timeout")]


# Faults and the end


def test_a_sink_that_raises_halts_its_symbol_and_no_other(venue: StreamStub, start: Start) -> None:
    """FEE-11: counted each time, told each time until the symbol's entries are off; its later ticks still reach it."""
    calls: list[Decimal] = []

    def broken(price: Decimal, at_ms: int) -> None:
        calls.append(price)
        if price != D(703):
            raise ZeroDivisionError("no")

    rig = start(venue.url, sinks={"SBIN": broken}).ready()
    at_ms = rig.now()

    venue.send(*(market_data("SBIN", str(700 + step), at_ms) for step in range(9)), market_data("INFY", "1400", at_ms))

    rig.told.wait(1, "tick")
    assert rig.told.ticks() == [("INFY", "1400")]
    assert calls == [D(700 + step) for step in range(9)]
    assert rig.feed.counts()["faults"] == 8
    assert rig.told.of("alarm") == [("alarm", "SBIN: a tick could not be handled: ZeroDivisionError: no")] * 6
    assert [heard for heard in rig.told.of("on", "off") if heard[1] == "SBIN"] == [
        ("off", "SBIN", "no tick yet"),
        ("on", "SBIN"),
        ("off", "SBIN", "3 ticks in a row could not be handled"),
    ]


def test_faults_with_good_ticks_between_them_halt_nothing(venue: StreamStub, start: Start) -> None:
    """FEE-11: only so many in a row do."""

    def moody(price: Decimal, at_ms: int) -> None:
        if price != D(702):
            raise ZeroDivisionError("no")

    rig = start(venue.url, sinks={"SBIN": moody}).ready()

    venue.send(*(market_data("SBIN", str(700 + step), rig.now()) for step in range(5)))

    rig.count("faults", 4)
    assert [heard for heard in rig.told.of("on", "off") if heard[1] == "SBIN"] == [("off", "SBIN", "no tick yet"), ("on", "SBIN")]


def test_a_listener_that_raises_on_an_order_update_is_told_and_the_thread_goes_on(venue: StreamStub, start: Start) -> None:
    """FEE-11"""
    rig = start(venue.url).ready()
    update = {"type": "order_update", "orderid": "7", "symbol": "SBIN", "exchange": "NSE", "action": "BUY", "quantity": 5}

    def broken(row: OrderRow) -> None:
        raise KeyError("no such order")

    rig.feed._meanings[OrderRow] = broken
    venue.send(json.dumps(update | {"order_status": "open"}), market_data("SBIN", "731", rig.now()))

    rig.told.wait(1, "tick")
    assert rig.told.of("alarm") == [("alarm", "feed: OrderRow could not be handled: KeyError: 'no such order'")]


def test_a_hung_sink_shows_in_the_sign_of_life(venue: StreamStub, start: Start) -> None:
    """CON-13: the watchdog's evidence. An idle feed keeps showing that it lives."""
    inside, go = threading.Event(), threading.Event()

    def hangs(price: Decimal, at_ms: int) -> None:
        inside.set()
        go.wait(PATIENCE_S)

    rig = start(venue.url, sinks={"SBIN": hangs}).ready()
    idle_ms = rig.clock.monotonic_ms() + 100
    until(lambda: rig.feed.alive_ms > idle_ms)
    venue.send(market_data("SBIN", "731", rig.now()))
    assert inside.wait(PATIENCE_S)
    hung_ms = rig.feed.alive_ms
    until(lambda: rig.clock.monotonic_ms() > hung_ms + 200)

    assert rig.feed.alive_ms == hung_ms
    go.set()
    until(lambda: rig.feed.alive_ms > hung_ms)


def flooding(sock: socket.socket) -> None:
    sock.sendall(LOGIN)
    while True:
        sock.sendall(raw_frame(b"{}") * 1000)


def only_pings(sock: socket.socket) -> None:
    while True:
        sock.sendall(raw_frame(b"", 9))
        threading.Event().wait(0.001)


@pytest.mark.parametrize(
    ("script", "handshake"),
    [(swallow, True), (flooding, True), (only_pings, True), (swallow, False)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_stop_ends_the_thread_within_a_second_whatever_it_waits_for(
    raw: Callable[..., RawStub], script: Callable[[socket.socket], None], handshake: bool
) -> None:
    """CON-16: idle, flooded, pinged without pause, or in the middle of a handshake that never ends."""
    stub = raw(script, handshake=handshake)
    rig = Rig(stub.url, limits={"turn_ms": 500})
    until(lambda: stub.accepted == 1)
    began = time.monotonic()

    rig.close()

    assert time.monotonic() - began < 2
    assert rig.told.of("disconnected") == []


def test_stop_ends_a_back_off_at_once(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rig = Rig(f"ws://127.0.0.1:{port}")
    rig.told.wait(2, "disconnected")
    began = time.monotonic()

    rig.close()

    assert time.monotonic() - began < 1.0


def test_stop_is_noticed_even_where_the_connection_cannot_be_woken_up(raw: Callable[..., RawStub]) -> None:
    """CON-16: a system whose sockets do not wake up on a shutdown."""

    def script(sock: socket.socket) -> None:
        sock.sendall(LOGIN)
        swallow(sock)

    rig = Rig(raw(script).url).ready()
    assert rig.feed._connection is not None
    rig.feed._connection.wire.abort = lambda: None  # type: ignore[method-assign]

    rig.close()


def test_a_stop_before_there_is_a_socket_ends_the_attempt(raw: Callable[..., RawStub]) -> None:
    """CON-16: otherwise a server that never answers the handshake would hold the thread for seconds."""
    stub = raw(swallow, handshake=False)
    wire = Wire(SystemClock(), going=lambda: False, heard=lambda: None, answer_s=PATIENCE_S)

    with pytest.raises(WireClosed, match="stopping"):
        wire.open(stub.url)
    wire.close()
