"""What a user may do wrong, or find broken: each has its own words and its own exit code, and the log's last line says it too."""

from __future__ import annotations

import gzip
import http.server
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.practice import PracticeSettings, PracticeSpec, PracticeVenue, start_venue
from brokers.practice_market import PracticeSymbol
from state.instrument import Instrument
from tests import runs

pytestmark = pytest.mark.timeout(120)

KEY = "the-key-of-this-test"
SBIN = {"symbol": "SBIN", "qty": 10, "entry_price": 812.40, "trigger_price": 811.90, "setup_date": "2026-11-19"}


def only(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"strategies": [{"name": "eighty_twenty", "symbols": list(rows)}]}


def said(done: runs.Done) -> list[str]:
    return [line for line in done.err.splitlines() if line]


def last_log_line(folder: Path, day: str = runs.DAY) -> str:
    return runs.log_lines(folder, day)[-1]


def now_zone() -> str:
    """A zone in which it is about noon now: no test runs into midnight."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "UTC"


def now_at(hours: float) -> str:
    """The time of day in that zone, so many hours from now."""
    now = datetime.now(UTC)
    second = int((12 + hours) * 3600) + now.minute * 60 + now.second
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def today(days: int = 0) -> str:
    """The date in that zone, where it is noon: so it is the date in UTC. Or so many days from it."""
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def hours_around_now(opened: float, closes: float, **more: Any) -> dict[str, Any]:
    """A session of today, in life's own time, that opened and closes so many hours before and after now."""
    hours = {"calendar": None, "timezone": now_zone(), "open": now_at(-opened), "close": now_at(closes), "weekends": True}
    return {"session": hours | {"holidays": []} | more}


@contextmanager
def venue_of_today() -> Iterator[PracticeVenue]:
    """A practice venue at life's own speed, as an OpenAlgo server for paper and live mode."""
    now_ms = int(datetime.now(UTC).timestamp()) * 1000
    symbol = PracticeSymbol("SBIN", Decimal("812.40"), Decimal("811.90"), Decimal("0.05"), Decimal(10), story="never")
    spec = PracticeSpec(
        account="practice-bad-input",
        api_key=KEY,
        instruments=[Instrument("SBIN", "NSE", Decimal("0.05"))],
        session_start_ms=now_ms,
        open_ms=now_ms,
        close_ms=now_ms + 3_600_000,
        rest_port=0,
        ws_port=0,
        symbols=[symbol],
        settings=PracticeSettings(linger_s=20),
    )
    venue = start_venue(spec)
    try:
        venue.start()
        yield venue
    finally:
        venue.stop()


def at(venue: PracticeVenue) -> dict[str, Any]:
    return {"broker": {"rest_url": venue.rest_url, "ws_url": venue.ws_url}}


# -- the config ----------------------------------------------------------------------------------------------------------------


def test_five_mistakes_are_five_messages_with_their_paths_and_nothing_is_started(tmp_path: Path) -> None:
    """OPS-01"""
    mistakes = {"brokr": {"name": "x"}, "session": {"open": "9.15", "close": "15:30:00"}}
    rows = [SBIN | {"qty": 0}, SBIN | {"symbol": "ITC", "qty": -5}, SBIN | {"symbol": "INFY", "qty": "5.5"}]
    runs.write_config(tmp_path, mistakes, only(*rows))

    done = runs.command(tmp_path, "run")

    assert done.code == 2
    assert said(done)[0].startswith("5 mistakes in ")
    assert [line.partition(":")[0] for line in said(done)[1:]] == [
        "session.open",
        "strategies[0].symbols[0].qty",
        "strategies[0].symbols[1].qty",
        "strategies[0].symbols[2].qty",
        "brokr",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"], "no data, no log, no venue"


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = runs.command(tmp_path, "run")

    assert done.code == 2
    assert "config.yaml" in done.err


@pytest.mark.parametrize(
    ("mode", "arguments", "words"),
    [
        ("practice", ["--live"], "--live was given, but the config says mode: practice"),
        ("live", [], "the config says mode: live; to trade real money, say --live as well"),
        ("paper", ["--tape", "day.csv"], "--tape plays recorded prices: it needs mode: practice"),
    ],
)
def test_real_money_needs_the_file_and_the_line_to_agree(tmp_path: Path, mode: str, arguments: list[str], words: str) -> None:
    """OPS-02"""
    runs.write_config(tmp_path, {"mode": mode}, hours_around_now(1, 1))

    done = runs.command(tmp_path, "run", *arguments)

    assert (done.code, said(done)) == (2, [words])
    assert "exit 2: configuration" in last_log_line(tmp_path, runs.DAY if mode == "practice" else today())


def test_missing_keys_are_code_3_and_named(tmp_path: Path) -> None:
    """OPS-02"""
    runs.write_config(tmp_path, {"mode": "live"}, hours_around_now(1, 1))

    done = runs.command(tmp_path, "run", "--live")

    assert (done.code, said(done)) == (3, ["not set in the environment or .env: OPENALGO_API_KEY"])
    assert last_log_line(tmp_path, today()).endswith("exit 3: credentials")


def test_a_key_that_the_broker_refuses_is_code_3_and_never_shown(tmp_path: Path) -> None:
    with venue_of_today() as venue:
        runs.write_config(tmp_path, {"mode": "paper"}, at(venue), hours_around_now(1, 2), only(SBIN | {"setup_date": today(-1)}))
        done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY="a-wrong-key-of-ours"))

    assert done.code == 3
    assert "the broker refuses us" in done.err
    assert last_log_line(tmp_path, today()).endswith("exit 3: credentials")
    assert "a-wrong-key-of-ours" not in "\n".join([*runs.log_lines(tmp_path, today()), done.out, done.err])


def test_a_live_start_at_a_server_in_sandbox_mode_is_refused(tmp_path: Path) -> None:
    """OPS-02: the other way round too, nothing is ordered."""
    with venue_of_today() as venue:
        runs.write_config(tmp_path, {"mode": "live"}, at(venue), hours_around_now(1, 2), only(SBIN | {"setup_date": today(-1)}))
        done = runs.command(tmp_path, "run", "--live", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert (done.code, "the server is in analyze mode, live was configured" in done.err) == (3, True)


def test_an_unknown_option_is_code_2(tmp_path: Path) -> None:
    runs.write_config(tmp_path)

    assert runs.command(tmp_path, "run", "--fast").code == 2
    assert runs.command(tmp_path, "run", "day.csv").code == 2


# -- the venue -----------------------------------------------------------------------------------------------------------------


class Garbage(http.server.BaseHTTPRequestHandler):
    """Answers everything, and nothing that can be used. The list is told in turn, the last of it for ever."""

    good: dict[str, bytes] = {}
    answers: list[tuple[int, bytes]] = []
    asked: list[str] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        status, body = (200, self.good[name]) if name in self.good else self.answers.pop(0) if self.answers else (200, b"<html>")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def server_of(good: dict[str, bytes], answers: list[tuple[int, bytes]]) -> Iterator[tuple[str, type[Garbage]]]:
    handler = type("Told", (Garbage,), {"good": good, "answers": list(answers), "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()


GARBAGE = [
    (200, b"<html><body>please log in</body></html>"),
    (200, b'{"status": "success", "da'),
    (200, b"[]"),
    (200, b""),
    (500, b"Internal Server Error"),
    (200, b"\xff\xfe\x00"),
]


@pytest.mark.parametrize("known", [[], ["ping", "analyzer"]])
def test_a_venue_that_answers_garbage_is_given_up_on_with_code_2(tmp_path: Path, known: list[str]) -> None:
    """At the first question, and later when it is asked for the grid of a symbol: six tries, then an end."""
    good = {"ping": b'{"status":"success","data":{}}', "analyzer": b'{"status":"success","data":{"mode":"live"}}'}
    with server_of({name: good[name] for name in known}, GARBAGE) as (url, handler):
        broker = {"broker": {"rest_url": url, "ws_url": url.replace("http", "ws"), "timeout": "2s", "settle_window": "4s"}}
        runs.write_config(tmp_path, {"mode": "paper"}, broker, hours_around_now(1, 2), only(SBIN | {"setup_date": today(-1)}))
        done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert done.code == 2, done
    assert said(done)[-1].startswith("the broker does not answer: ")
    assert last_log_line(tmp_path, today()).endswith("exit 2: configuration")
    assert sum("the broker does not answer (" in line for line in runs.log_lines(tmp_path, today())) == 6
    assert "placeorder" not in handler.asked


def test_a_port_in_use_for_the_practice_venue_is_code_2_and_named(tmp_path: Path) -> None:
    """OPS-05"""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        runs.write_config(tmp_path, {"practice": {"rest_port": port}})
        done = runs.command(tmp_path, "run")

    assert done.code == 2
    assert f"REST port {port} on 127.0.0.1 cannot be used" in done.err
    assert last_log_line(tmp_path).endswith("exit 2: configuration")


# -- the calendar --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "reason"),
    [("2026-11-24", "no session on 2026-11-24: holiday"), ("2026-11-21", "no session on 2026-11-21: weekend: Saturday")],
)
def test_a_holiday_and_a_weekend_end_with_0_and_the_log_says_why(tmp_path: Path, day: str, reason: str) -> None:
    """EXI-10"""
    runs.write_config(tmp_path, {"practice": {"day": day}})

    done = runs.command(tmp_path, "run")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(reason)
    first, last = runs.log_lines(tmp_path, day)
    assert reason in first and last.endswith("exit 0: session done, flat")


def test_after_the_close_there_is_nothing_to_do(tmp_path: Path) -> None:
    runs.write_config(tmp_path, {"mode": "paper"}, hours_around_now(3, -1))

    done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert (done.code, done.err) == (0, "")
    assert f"the session of {today()} closed at {now_at(-1)[:5]}" in done.out
    assert last_log_line(tmp_path, today()).endswith("exit 0: session done, flat")


def test_a_holiday_of_the_config_is_kept_in_paper_mode_too(tmp_path: Path) -> None:
    runs.write_config(tmp_path, {"mode": "paper"}, hours_around_now(1, 2, holidays=[today()]))

    done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert done.code == 0
    assert f"no session on {today()}: holiday" in done.out


def test_setups_of_another_day_are_refused_by_symbol_and_date(tmp_path: Path) -> None:
    """ENT-11: nothing to trade, code 0, and the report says which and why."""
    rows = [SBIN | {"setup_date": "2026-11-18"}, SBIN | {"symbol": "ITC", "setup_date": "2026-11-20"}]
    runs.write_config(tmp_path, only(*rows), {"practice": {"day": runs.DAY}})

    done = runs.command(tmp_path, "run")

    assert done.code == 0, done
    assert {symbol: row["why"] for symbol, row in runs.by_symbol(runs.report(tmp_path)).items()} == {
        "SBIN": "setup of 2026-11-18 is good for 2026-11-19 only, not for 2026-11-20",
        "ITC": "setup of 2026-11-20 is good for 2026-11-23 only, not for 2026-11-20",
    }
    lines = "\n".join(runs.log_lines(tmp_path))
    assert "SBIN is not traded today: setup of 2026-11-18 is good for 2026-11-19 only" in lines
    assert "nothing to trade today" in lines


def test_started_between_cutoff_and_close_in_lifes_own_time(tmp_path: Path) -> None:
    """EXI-09: flat, so code 0 at once, and why."""
    with venue_of_today() as venue:
        hours = hours_around_now(2, 1, exit_before_close="90m")
        runs.write_config(tmp_path, {"mode": "paper"}, at(venue), hours, only(SBIN | {"setup_date": today(-1)}))
        done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert done.code == 0, done
    assert "the cutoff has passed: no entries today" in done.out


# -- tapes ---------------------------------------------------------------------------------------------------------------------


def test_broken_lines_of_a_tape_are_counted_and_the_rest_is_played(tmp_path: Path) -> None:
    runs.write_config(tmp_path, only(SBIN))
    broken = ["2026-11-20T10:00:00.000Z,SBIN,NSE,cheap,1", "half a li", "2026-11-20T03:45:00.000Z,SBIN,NSE,1.00,1"]
    tape = runs.write_tape(tmp_path / "day.csv", {"SBIN": [("09:15:00", "813.00")]}, "09:16:00", broken)

    done = runs.command(tmp_path, "replay", "--tape", str(tape), "--json")

    assert (done.code, done.json[0]["ticks"]) == (0, 60)
    assert said(done) == [
        "tape day.csv: 60 rows, 2 bad, 1 late; line 62: price 'cheap' is not a plain number; line 63: 1 fields instead of 5"
    ]


@pytest.mark.parametrize("command", ["run", "replay"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dear diary,\n", "is no tape: its first line must be"),
        (gzip.compress(b"ts_utc_iso_ms,symbol,exchange,price,qty\n" * 50, mtime=0)[:30], "cannot be read"),
        (b"ts_utc_iso_ms,symbol,exchange,price,qty\nno row,at all\n", "no good row"),
        (None, "cannot be read"),
    ],
    ids=["text", "torn archive", "no good row", "not there"],
)
def test_a_file_that_is_no_tape_is_code_2_and_named(tmp_path: Path, command: str, content: bytes | None, words: str) -> None:
    runs.write_config(tmp_path, only(SBIN))
    tape = tmp_path / "diary.csv"
    if content is not None:
        tape.write_bytes(content)

    done = runs.command(tmp_path, command, "--tape", str(tape))

    assert done.code == 2, done
    assert "diary.csv" in done.err and words in done.err
    if command == "run":
        assert last_log_line(tmp_path).endswith("exit 2: configuration")


def test_a_tape_of_another_symbol_or_of_two_days_cannot_be_run(tmp_path: Path) -> None:
    runs.write_config(tmp_path, only(SBIN))
    other = runs.write_tape(tmp_path / "other.csv", {"TECHM": [("09:15:00", "813.00")]}, "09:16:00")
    first = runs.write_tape(tmp_path / "first.csv", {"SBIN": [("09:15:00", "813.00")]}, "09:16:00")
    second = runs.write_tape(tmp_path / "second.csv", {"SBIN": [("09:15:00", "813.00")]}, "09:16:00", day="2026-11-23")

    nothing = runs.command(tmp_path, "run", "--tape", str(other))
    two = runs.command(tmp_path, "run", "--tape", str(first), "--tape", str(second))

    assert (nothing.code, two.code) == (2, 2)
    assert "the tape holds no price of a configured symbol" in nothing.err
    assert "the tape holds 2 days: 2026-11-20, 2026-11-23 (replay takes several)" in two.err


# -- the journal ---------------------------------------------------------------------------------------------------------------


def flat_session(folder: Path) -> runs.Running:
    """A session that has already recorded something, and holds nothing."""
    runs.write_config(
        folder,
        only(SBIN),
        {"session": {"open": "09:15:00", "close": "15:30:00", "exit_before_close": "8m"}, "practice": {"speed": 60}},
    )
    running = runs.Running(folder)
    running.says("feed connected")
    return running


def change(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "data" / "journal.db", isolation_level=None)
    try:
        connection.execute(statement)
    finally:
        connection.close()


def test_a_torn_journal_is_mended_and_a_damaged_one_stops_the_start(tmp_path: Path) -> None:
    """CRA-07: damage inside is code 6 with the steps; a torn tail is set aside, said, and the venue asked."""
    with flat_session(tmp_path) as running:
        running.kill()
        journal = tmp_path / "data" / "journal.db"
        sound = tmp_path / "sound"
        shutil.copytree(journal.parent, sound)
        change(tmp_path, "UPDATE records SET body = replace(body, ':', ';') WHERE id = (SELECT min(id) + 1 FROM records)")

        refused = runs.command(tmp_path, "run")
        assert refused.code == 6
        assert "is damaged" in refused.err and "What to do: 1. look at your orders and positions at the broker" in refused.err
        assert last_log_line(tmp_path).endswith("exit 6: halted on disagreement")

        for path in sound.glob("journal.db*"):
            shutil.copy(path, journal.parent / path.name)
        change(tmp_path, "UPDATE records SET body = '{' WHERE id = (SELECT max(id) FROM records)")
        first = len(runs.log_lines(tmp_path))
        with runs.Running(tmp_path) as again:
            again.says(
                "journal: the last 1 record(s) of session 1 were damaged: set aside in journal.db.damaged-1.json", after=first
            )
            again.says("feed connected", after=first)
            runs.ctrl_c(again)
            assert again.ends() == 0


def test_a_file_that_is_no_journal_is_never_replaced(tmp_path: Path) -> None:
    """CRA-07"""
    runs.write_config(tmp_path, only(SBIN))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").write_bytes(b"my novel, chapter one" * 100)

    done = runs.command(tmp_path, "run")

    assert (done.code, "is damaged" in done.err) == (6, True)
    assert (tmp_path / "data" / "journal.db").read_bytes().startswith(b"my novel")
    runs.stop_venue(tmp_path)


def test_a_journal_of_another_mode_is_refused(tmp_path: Path) -> None:
    """OPS-12"""
    with flat_session(tmp_path) as running:
        runs.ctrl_c(running)
        assert running.ends() == 0
    for path in (tmp_path / "data").glob("journal.db*"):
        shutil.copy(path, path.with_name(path.name.replace("journal", "journal-paper")))
    with venue_of_today() as venue:
        runs.write_config(tmp_path, {"mode": "paper"}, at(venue), hours_around_now(1, 2), only(SBIN | {"setup_date": today(-1)}))
        done = runs.command(tmp_path, "run", env=runs.environment(OPENALGO_API_KEY=KEY))

    assert (done.code, "belongs to practice sessions and this one is paper" in done.err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="chmod does not forbid writing there")
def test_a_log_that_cannot_be_written_is_said_on_the_console_and_stops_nothing(tmp_path: Path) -> None:
    """OPS-10"""
    runs.write_config(tmp_path, only(SBIN | {"setup_date": "2026-11-18"}), {"practice": {"day": runs.DAY}})
    (tmp_path / "logs").write_text("a file where the folder should be", encoding="utf-8")

    done = runs.command(tmp_path, "run")

    assert done.code == 0, done
    assert "cannot be written" in done.out and "exit 0: session done, flat" in done.out
