"""The first moments of a live session, in this process: adapter, poller, switchboard and log as wired, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest

from brokers.openalgo import OpenAlgo
from brokers.openalgo_stream import OpenAlgoStream
from brokers.streams import Streams
from live_session import SessionRun
from ops.config import calendar_of, load
from ops.log import start_log
from ops.operator import AtTheFiles
from ops.requests import StopFlag
from state.clock import ScaledClock, SystemClock
from state.journal import Journal
from state.session import Session
from strategies import STRATEGIES
from tests.brokers.http_stub import Act, HttpStub, reply
from tests.state.builders import TEN

KEY = "k3y-of-the-account"
CONFIG = """
mode: live
broker: {{rest_url: "{rest}", ws_url: "ws://127.0.0.1:9"}}
strategies:
  - name: eighty_twenty
    symbols:
      - {{symbol: SBIN, qty: 5, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}}
"""
INSTRUMENT = {"symbol": "SBIN", "exchange": "NSE", "tick_size": 0.05, "lotsize": 1, "brsymbol": "SBIN-EQ", "token": "3045"}
HOURS = [{"exchange": "NSE", "start_time": 1795146300000, "end_time": 1795168800000}]
EMPTY = ("orderbook", "tradebook", "positionbook")


def says(data: object, ahead_ms: int) -> Act:
    def act(sock: socket.socket, stopping: threading.Event) -> bool:
        date = formatdate((SystemClock().now_ms() + ahead_ms) // 1000, usegmt=True)
        return reply(200, {"data": data, "status": "success"}, f"Date: {date}\r\n")(sock, stopping)

    return act


@pytest.fixture
def server() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        yield stub


def started(server: HttpStub, folder: Path, ahead_ms: int = 0, order_stream: bool = True) -> tuple[list[str], list[str]]:
    """Entry blocks after the recovery, and the log, of a session that begins at ten o'clock and ends at once."""
    for name, data in (("symbol", INSTRUMENT), ("market/timings", HOURS), *((name, []) for name in EMPTY)):
        server.on(f"/api/v1/{name}", says(data, ahead_ms))
    (folder / "config.yaml").write_text(CONFIG.format(rest=server.url), encoding="utf-8")
    config = load(folder / "config.yaml", {"OPENALGO_API_KEY": KEY}, STRATEGIES)
    wall = SystemClock()
    clock = ScaledClock(TEN, wall.now_ms(), 1.0)
    calendar = calendar_of(config.session)
    session = calendar.at(clock.now_ms())
    assert isinstance(session, Session)
    broker = OpenAlgo(server.url, KEY, "NSE", "MIS", 5, 30, clock)
    broker.capabilities = msgspec.structs.replace(broker.capabilities, order_stream=order_stream)
    log = start_log(folder, session.day, "INFO", "text", False, clock, calendar.zone, [KEY])
    with Journal.open(folder / "journal.db", clock=clock) as journal:
        resumed = journal.begin("live", mode="live", account="a", day=str(session.day))
        dialect = OpenAlgoStream("ws://127.0.0.1:9", KEY, "NSE")
        operator = AtTheFiles(config.data_dir, wall)
        config.data_dir.mkdir(exist_ok=True)
        run = SessionRun(
            config, broker, Streams(dialect), clock, calendar, session, journal, resumed, log, StopFlag(), operator, wall
        )
        assert run.recover(resumed)
        blocks = [source for source, _ in run.states["SBIN"].snapshot.blocks]
        run.end()
    log.close(0)
    return blocks, log.path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(("ahead_ms", "words"), [(10_000, "behind"), (-10_000, "ahead of")])
def test_with_the_clock_ten_seconds_off_a_live_session_starts_without_entries_and_says_why(
    server: HttpStub, tmp_path: Path, ahead_ms: int, words: str
) -> None:
    """NET-12: compared before the recovery is over, by the answers it needs anyway."""
    blocks, lines = started(server, tmp_path, ahead_ms)

    told = [line for line in lines if "this machine's clock is at least" in line]
    assert "clock" in blocks
    assert len(told) == 1 and f"s {words} the venue's: no entries until it is set; protection goes on" in told[0]


def test_with_the_clock_right_nothing_is_said_of_it(server: HttpStub, tmp_path: Path) -> None:
    blocks, lines = started(server, tmp_path)

    assert "clock" not in blocks and not [line for line in lines if "machine's clock" in line]


@pytest.mark.parametrize("order_stream", [True, False])
def test_a_venue_without_an_order_stream_is_said_to_be_polled(server: HttpStub, tmp_path: Path, order_stream: bool) -> None:
    """FEE-14: polling takes the orders over, and says so."""
    _, lines = started(server, tmp_path, order_stream=order_stream)

    told = [line for line in lines if "the venue tells nothing of orders by itself: polling takes them over" in line]
    assert len(told) == (0 if order_stream else 1)
