"""`doctor` as a user runs it: its own process, venues over real sockets. It sends no order, and planted keys appear nowhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import live_doctor
from ops.cli import Program
from ops.config import load
from ops.doctor import Diagnosis, Grade
from state.clock import SystemClock
from strategies import STRATEGIES
from tests import runs
from tests.brokers.http_stub import Act, HttpStub, reply
from tests.brokers.kraken_double import KEY, SECRET, KrakenDouble

PLANTED = "pl4nted-k3y-of-nobody"
ALL_DAY = {"calendar": None, "open": "00:00", "close": "24:00", "timezone": "UTC", "weekends": True}
ORDER_PATHS = ("placeorder", "modifyorder", "cancelorder")


def live_config(folder: Path, rest_url: str, *symbols: dict[str, Any], broker: str = "openalgo", **more: Any) -> Path:
    rows = list(symbols) or [{"symbol": "SBIN", "qty": 5, "entry_price": 812.40}]
    changes = {
        "mode": "live",
        "broker": {"name": broker, "rest_url": rest_url, "timeout": "3s", "ws_url": None, "exchange": None, "product": None},
        "session": ALL_DAY | {"exit_before_close": "5m"},
        "strategies": [{"name": "breakout", "symbols": rows}],
    }
    return runs.write_config(folder, changes, more)


def examined(path: Path, **environ: str) -> Diagnosis:
    """In this process, over the same sockets."""
    config = load(path, environ, STRATEGIES)
    return live_doctor.examined(config, environ, Program(STRATEGIES, ()), SystemClock())


def told(found: Diagnosis, name: str) -> list[tuple[str, str]]:
    return [(check.grade.value, check.found) for check in found.checks if check.name == name]


def good(data: Any, headers: str = "") -> Act:
    return reply(200, {"data": data, "status": "success"}, headers)


class OpenAlgoServer(HttpStub):
    """A live OpenAlgo server that knows SBIN; `ahead_s` is how far its clock is off."""

    ahead_s = 0

    def __enter__(self) -> OpenAlgoServer:
        super().__enter__()
        quote = {"symbol": "SBIN", "exchange": "NSE", "data": {"ltp": 812.0}}
        answers: dict[str, Act] = {
            "ping": self._dated,
            "analyzer": good({"mode": "live", "analyze_mode": False}),
            "multiquotes": reply(200, {"results": [quote], "status": "success"}),
            "symbol": good({"symbol": "SBIN", "exchange": "NSE", "tick_size": 0.05, "lotsize": 1, "freeze_qty": 1}),
            "market/timings": good([{"exchange": "NSE", "start_time": 1, "end_time": 2}]),
            "orderbook": good({"orders": []}),
            "tradebook": good([]),
            "positionbook": good([]),
        }
        for name, act in answers.items():
            self.says(name, act)
        return self

    def says(self, name: str, *acts: Act) -> None:
        self.on(f"/api/v1/{name}", *acts)

    def _dated(self, sock: socket.socket, stopping: threading.Event) -> bool:
        date = formatdate(SystemClock().now_ms() // 1000 + self.ahead_s, usegmt=True)
        return good({"message": "pong"}, f"Date: {date}\r\n")(sock, stopping)

    def orders_sent(self) -> list[str]:
        return [seen.path for seen in self.seen if seen.path.rpartition("/")[2] in ORDER_PATHS]


@pytest.fixture
def server() -> Iterator[OpenAlgoServer]:
    with OpenAlgoServer() as running:
        yield running


# -- practice ----------------------------------------------------------------------------------------------------------------


def test_the_shipped_config_is_well_and_the_look_leaves_nothing_behind(tmp_path: Path) -> None:
    path = runs.write_config(tmp_path)

    done = runs.command(tmp_path, "doctor", "--json")

    assert done.code == 0, done
    assert {check["grade"] for check in done.json["checks"]} == {"ok"}
    assert [check["name"] for check in done.json["checks"] if check["name"].startswith("instrument")] == [
        f"instrument {row['symbol']}" for row in runs.shipped()["strategies"][0]["symbols"]
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_beside_a_running_session_it_asks_nobody_and_after_a_kill_it_says_what_was_left(tmp_path: Path) -> None:
    """OPS: the position of a killed session is found at the venue, with its stop, and the venue is not disturbed."""
    runs.write_config(tmp_path, {"practice": {"linger": "60s"}}, symbols=lambda row: row["symbol"] == "ABSLAMC")
    with runs.session(tmp_path) as running:
        running.says("stop working")
        beside = runs.command(tmp_path, "doctor", "--json")
        running.kill()
        venue = runs.VenueBooks(tmp_path)
        before = (venue.pid(), venue.orders())

        after = runs.command(tmp_path, "doctor", "--json")

        assert (venue.pid(), venue.orders()) == before
        said = {check["name"]: (check["grade"], check["found"]) for check in beside.json["checks"]}
        assert said["instance"][0] == "warning" and said["instance"][1].startswith("a session is running (process ")
        assert said["venue"][0] == "warning" and "position" not in said
        said = {check["name"]: (check["grade"], check["found"]) for check in after.json["checks"]}
        assert said["left open"][0] == "warning" and said["left open"][1].startswith(
            "session 2026-11-20: ABSLAMC: position 5, stop "
        )
        assert said["position"] == ("ok", "ABSLAMC 5 (ours): its stop rests at the venue")
        assert (beside.code, after.code) == (0, 0)


# -- live --------------------------------------------------------------------------------------------------------------------


def test_a_live_account_in_order_is_only_read(tmp_path: Path, server: OpenAlgoServer) -> None:
    live_config(tmp_path, server.url)

    done = runs.command(tmp_path, "doctor", env=runs.environment(OPENALGO_API_KEY=PLANTED))

    assert done.code == 0, done
    assert f"{server.url} answers and knows us (live)" in done.out
    assert "no client order ids: an unanswered order is looked for by its looks, for 30 s" in done.out
    assert PLANTED not in done.out + done.err
    assert server.orders_sent() == [] and all(seen.json["apikey"] == PLANTED for seen in server.seen)


def test_a_wrong_key_is_code_3_and_the_key_that_the_venue_sends_back_is_not_shown(tmp_path: Path, server: OpenAlgoServer) -> None:
    """NET-05 NET-08"""
    server.says("ping", reply(403, {"status": "error", "message": f"Invalid openalgo apikey {PLANTED}"}))
    live_config(tmp_path, server.url)
    env = runs.environment(OPENALGO_API_KEY=PLANTED)

    words, facts = runs.command(tmp_path, "doctor", env=env), runs.command(tmp_path, "doctor", "--json", env=env)

    assert (words.code, facts.code, facts.json["exit_code"]) == (3, 3, 3)
    assert "Invalid openalgo apikey" in words.out and "FAIL" in words.out
    assert PLANTED not in words.out + words.err + facts.out + facts.err
    assert {seen.path for seen in server.seen} == {"/api/v1/ping"}


def test_a_key_in_the_book_of_the_venue_is_not_shown_either(tmp_path: Path, server: OpenAlgoServer) -> None:
    """NET-08"""
    row = {"symbol": "SBIN", "exchange": "NSE", "product": "MIS", "action": "BUY", "pricetype": "MARKET", "quantity": 5}
    server.says(
        "orderbook", good({"orders": [row | {"orderid": PLANTED, "order_status": "open", "price": 0, "trigger_price": 0}]})
    )
    live_config(tmp_path, server.url)

    done = runs.command(tmp_path, "doctor", env=runs.environment(OPENALGO_API_KEY=PLANTED))

    assert "SBIN BUY MARKET 5 (***, not ours by the journal)" in " ".join(done.out.split()), done
    assert PLANTED not in done.out + done.err


def test_without_a_key_nobody_is_asked(tmp_path: Path, server: OpenAlgoServer) -> None:
    """NET-05"""
    found = examined(live_config(tmp_path, server.url))

    assert (found.exit_code, server.seen) == (3, [])
    assert told(found, "credentials") == [("fail", "not set: OPENALGO_API_KEY")]
    assert told(found, "venue") == [("warning", "not asked: there are keys missing")]


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (reply(503, "<html><h1>Maintenance</h1></html>"), "connection"),
        (reply(429, {"message": "10 per 1 second"}), "connection"),
        (reply(200, "not json"), "connection"),
    ],
    ids=["maintenance page", "too many", "garbage"],
)
def test_a_venue_that_answers_nonsense_is_a_line(tmp_path: Path, server: OpenAlgoServer, act: Act, name: str) -> None:
    server.says("ping", act)

    found = examined(live_config(tmp_path, server.url), OPENALGO_API_KEY=PLANTED)

    assert [check.name for check in found.checks if check.grade is Grade.FAIL] == [name]
    assert found.exit_code == 2


def test_a_venue_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    found = examined(live_config(tmp_path, f"http://127.0.0.1:{port}"), OPENALGO_API_KEY=PLANTED)

    ((grade, words),) = told(found, "connection")
    assert (grade, found.exit_code) == ("fail", 2) and "nothing was sent" in words


def test_a_venue_in_the_wrong_mode_is_a_line(tmp_path: Path, server: OpenAlgoServer) -> None:
    server.says("analyzer", good({"mode": "analyze", "analyze_mode": True}))

    found = examined(live_config(tmp_path, server.url), OPENALGO_API_KEY=PLANTED)

    assert told(found, "key") == [("fail", "the server is in analyze mode, live was configured")]


@pytest.mark.parametrize("ahead_s", [10, -10])
def test_a_clock_ten_seconds_off_fails(tmp_path: Path, server: OpenAlgoServer, ahead_s: int) -> None:
    """NET-12"""
    server.ahead_s = ahead_s

    found = examined(live_config(tmp_path, server.url), OPENALGO_API_KEY=PLANTED)

    ((grade, words),) = told(found, "clock")
    assert (grade, found.exit_code) == ("fail", 2)
    assert ("behind" if ahead_s > 0 else "ahead of") in words


def test_a_position_without_a_stop_at_the_venue_fails(tmp_path: Path, server: OpenAlgoServer) -> None:
    row = {"symbol": "SBIN", "exchange": "NSE", "product": "MIS", "quantity": 5, "average_price": 812.4}
    server.says("positionbook", good([row]))

    found = examined(live_config(tmp_path, server.url), OPENALGO_API_KEY=PLANTED)

    assert told(found, "position") == [("fail", "SBIN 5 (not ours by the journal) is unprotected: NO STOP rests at the venue")]
    assert (found.exit_code, server.orders_sent()) == (2, [])


@pytest.mark.parametrize("kind", ["symbol", "multiquotes", "market/timings", "orderbook", "positionbook"])
def test_one_book_that_cannot_be_read_is_a_line_and_the_rest_is_looked_at(
    tmp_path: Path, server: OpenAlgoServer, kind: str
) -> None:
    server.says(kind, reply(500, {"status": "error", "message": "broker down"}))

    found = examined(live_config(tmp_path, server.url), OPENALGO_API_KEY=PLANTED)

    assert [check.grade for check in found.checks].count(Grade.FAIL) == 1
    assert told(found, "clock") == [("ok", "with the venue's")]


# -- Kraken ------------------------------------------------------------------------------------------------------------------


def kraken_config(folder: Path, venue: KrakenDouble, **more: Any) -> Path:
    row = {"symbol": "BTC/USD", "notional": 100, "entry_price": 50_000}
    return live_config(folder, venue.rest_url, row, broker="kraken", **more)


def test_a_starter_key_and_a_fast_poll_are_told_and_the_wallet_is_left_alone(tmp_path: Path) -> None:
    with KrakenDouble() as venue:
        venue.price("BTC/USD", "50000")
        path = kraken_config(tmp_path, venue, polling={"interval": "2s"})

        found = examined(path, KRAKEN_API_KEY=KEY, KRAKEN_API_SECRET=SECRET)

        budget = "polling every 2 s costs 1880 calls an hour of 1188 (a Starter key affords one call in each cycle of 5 s)"
        assert told(found, "rate budget") == [("warning", f"{budget}: looks will be left out")]
        ((grade, fits),) = told(found, "instrument BTC/USD")
        assert (grade, fits.rpartition("; ")[2]) == ("ok", "notional 100 fits, 0.00200000 now")
        assert told(found, "position") == [("ok", "of others, left alone: USD")]
        assert (found.exit_code, venue.placed()) == (0, 0)


def test_a_secret_that_is_none_is_told_without_showing_it(tmp_path: Path) -> None:
    with KrakenDouble() as venue:
        kraken_config(tmp_path, venue)
        env = runs.environment(KRAKEN_API_KEY=KEY, KRAKEN_API_SECRET=PLANTED + "!")

        done = runs.command(tmp_path, "doctor", env=env)

        assert done.code == 3, done
        assert "the secret of the Kraken key is not base64" in done.out
        assert PLANTED not in done.out + done.err and venue.calls == []


def test_paper_with_public_prices_needs_no_key(tmp_path: Path) -> None:
    with KrakenDouble() as venue:
        venue.price("BTC/USD", "50000")
        found = examined(kraken_config(tmp_path, venue, mode="paper"))

        assert (found.exit_code, venue.calls) == (0, [])
        assert told(found, "connection") == [("ok", f"{venue.rest_url} answers and knows us (prices only)")]


# -- a config that cannot be used --------------------------------------------------------------------------------------------


def test_every_mistake_in_the_config_is_a_check_of_its_own(tmp_path: Path) -> None:
    """OPS-01"""
    runs.write_config(tmp_path, {"polling": {"interval": "soon"}, "mode": "lively"})

    done = runs.command(tmp_path, "doctor", "--json")

    assert done.code == 2
    assert [(check["name"], check["grade"], check["found"].partition(":")[0]) for check in json.loads(done.out)["checks"]] == [
        ("config", "fail", "mode"),
        ("config", "fail", "polling.interval"),
    ]
