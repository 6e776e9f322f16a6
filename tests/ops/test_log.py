"""The log with real files and its real threads: one line for one line, no secrets, and nobody waits for it."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ops.log import DayFile, Log, exit_words, redactor, start_log
from ops.words import Line
from state.clock import VirtualClock

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 11, 20)
NINE_MS = int(datetime(2026, 11, 20, 9, tzinfo=IST).timestamp()) * 1000
KEY = "k3y+Planted/5ecret=="


class Logs:
    """Starts logs in one folder and closes whatever a test left open."""

    def __init__(self, dir: Path) -> None:
        self.dir = dir
        self.clock = VirtualClock(NINE_MS)
        self.open: list[Log] = []

    def start(self, format: str = "text", console: Any = False, **options: Any) -> Log:
        chosen = {"level": "INFO", "secrets": [KEY], "symbols": ["SBIN"]} | options
        log = start_log(self.dir, DAY, format=format, console=console, clock=self.clock, zone=IST, **chosen)
        self.open.append(log)
        return log

    def lines(self) -> list[str]:
        return (self.dir / f"live-{DAY}.log").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    logs = Logs(tmp_path / "logs")
    yield logs
    for log in logs.open:
        log.close()


class StuckConsole(io.StringIO):
    """A console in which somebody is selecting text: a write does not come back until `released`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait(30)
        return super().write(text)


def wait_until(condition: Any) -> None:
    deadline, pause = time.monotonic() + 10, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        pause.wait(0.005)


def story_line(cause: str, client_id: str = "SBIN-20261120-E0", level: str = "INFO") -> Line:
    return Line(NINE_MS + 114, "desk-1", "SBIN", "accepted", cause, client_id, level)


def test_lines_stand_in_the_days_file_with_time_thread_symbol_and_id(logs: Logs) -> None:
    log = logs.start()

    log.info("heartbeat: 8 symbols, 0 positions", thread="main")
    log.story(None, [story_line("venue order 250611000012, 277 ms")])  # type: ignore[arg-type]
    log.alarm("the tick thread is dead", thread="main")
    assert log.close(0)

    accepted = "09:00:00.114 desk-1  SBIN    accepted             venue order 250611000012, 277 ms"
    assert logs.lines() == [
        "09:00:00.000 main    -       heartbeat: 8 symbols, 0 positions",
        f"{accepted}                            SBIN-20261120-E0",
        "09:00:00.000 main    -       ALARM                the tick thread is dead",
        "09:00:00.000 main    -       exit 0: session done, flat",
    ]
    assert log.path == logs.dir / "live-2026-11-20.log"


def test_the_same_day_is_appended_to_and_midnight_changes_no_file(logs: Logs) -> None:
    """OPS-10: a session over midnight goes on in the file of its session day; nothing is renamed."""
    log = logs.start()
    log.info("before", thread="main")
    logs.clock.advance(16 * 3_600_000)
    log.info("after midnight", thread="main")
    log.close()

    again = logs.start()
    again.info("second start", thread="main")
    again.close()

    assert [line.split("-  ")[1].strip() for line in logs.lines()] == ["before", "after midnight", "second start"]
    assert os.listdir(logs.dir) == ["live-2026-11-20.log"]


def test_a_tail_that_holds_the_file_open_sees_every_line(logs: Logs) -> None:
    """OPS-10"""
    log = logs.start()
    log.info("one", thread="main")
    wait_until(lambda: log.path.exists() and log.path.stat().st_size)

    with log.path.open(encoding="utf-8") as tail:
        log.info("two", thread="main")
        log.close()
        seen = tail.read().splitlines()

    assert [line.rsplit(" ", 1)[1] for line in seen] == ["one", "two"]


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_venues_text_cannot_forge_a_line(logs: Logs, format: str) -> None:
    """OPS-09"""
    forged = "no funds\n09:31:03.000 desk-1  SBIN  ENTERING -> LONG\x1b[2J\r\u2028x\u202ey"
    log = logs.start(format)

    log.story(None, [story_line(forged, client_id="E0\nE1")])  # type: ignore[arg-type]
    log.info(forged, thread="a\nb")
    log.close()

    raw = log.path.read_bytes()
    assert raw.count(b"\n") == 2
    assert not any(bad in raw for bad in (b"\x1b", b"\r", "\u2028".encode(), "\u202e".encode()))
    assert b"no funds\\n09:31:03.000" in raw.replace(b"\\\\n", b"\\n")


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_planted_key_is_found_anywhere(logs: Logs, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-09: in texts, in addresses, in exceptions, in what libraries log, on the console."""
    log = logs.start(format, console=True)
    url = "http://127.0.0.1/x?apikey=k3y%2BPlanted%2F5ecret%3D%3D"

    log.info(f"key {KEY}", thread="main")
    log.story(None, [story_line(f"refused for {url}")])  # type: ignore[arg-type]
    try:
        raise ConnectionError(f"cannot reach {url} with {KEY!r}")
    except ConnectionError as error:
        log.defect("poll", error)
        logging.getLogger("urllib3.connectionpool").warning("Retrying %s", url, exc_info=True)
    log.close()

    everything = log.path.read_text(encoding="utf-8") + capsys.readouterr().out
    assert "Planted" not in everything
    assert everything.count("***") >= 10
    assert "ConnectionError" in everything


def test_json_lines_have_the_same_fields(logs: Logs) -> None:
    log = logs.start("json")

    log.story(None, [story_line("venue order 12")])  # type: ignore[arg-type]
    log.close()

    assert [json.loads(line) for line in logs.lines()] == [
        {
            "time": "2026-11-20T09:00:00.114+05:30",
            "thread": "desk-1",
            "symbol": "SBIN",
            "change": "accepted",
            "cause": "venue order 12",
            "client_id": "SBIN-20261120-E0",
            "level": "INFO",
        }
    ]


def test_the_console_of_an_old_windows_can_print_everything(logs: Logs) -> None:
    """OPS-10: code page 1252."""
    raw = io.BytesIO()
    log = logs.start(console=io.TextIOWrapper(raw, encoding="cp1252"))

    log.info("loss ₹ 5,000 → entries off", thread="main")
    log.close()

    assert raw.getvalue().splitlines() == [b"09:00:00.000 main    -       loss \\u20b9 5,000 \\u2192 entries off"]
    assert "loss ₹ 5,000 → entries off" in logs.lines()[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_disturbs_nobody_and_is_said_once(logs: Logs) -> None:
    """OPS-10: ENOSPC from a real device."""
    logs.dir.mkdir()
    (logs.dir / "live-2026-11-20.log").symlink_to("/dev/full")
    console = io.StringIO()
    log = logs.start(console=console)

    for number in range(5):
        log.info(f"line {number}", thread="main")
    assert log.close(0)

    shown = console.getvalue().splitlines()
    assert log.lost == 6
    warning = f"the log file {log.path} cannot be written (No space left on device); trading goes on, lines are lost"
    assert [line for line in shown if "cannot be written" in line] == [f"09:00:00.000 log     -       {warning}"]
    assert shown[-1].endswith("exit 0: session done, flat")


def test_a_log_that_cannot_be_opened_is_written_again_as_soon_as_it_can(logs: Logs) -> None:
    """OPS-10: the folder of the log is a file."""
    logs.dir.write_text("in the way")
    log = logs.start(console=False)
    log.info("lost", thread="main")
    wait_until(lambda: log.lost == 1)

    logs.dir.unlink()
    log.info("kept", thread="main")
    log.close()

    assert [line.split("-  ", 1)[1].strip() for line in logs.lines()] == [
        "kept",
        "the log file can be written again, 1 lines are missing so far",
    ]


def test_a_line_the_disk_tore_does_not_swallow_the_next(tmp_path: Path) -> None:
    """OPS-10: a full disk takes a part of a line."""
    file = DayFile(tmp_path / "x.log")
    file.write("first")
    real = file._file

    class Tearing:
        def write(self, line: bytes) -> int:
            assert real is not None
            file._file = real
            return real.write(line[:3])

    file._file = Tearing()  # type: ignore[assignment]
    file.write("second")
    file.write("third")
    file.close()

    assert (tmp_path / "x.log").read_text() == "first\nsec\nthird\n"
    assert (file.unwritten, file.failed) == (1, "")


def test_a_console_that_stands_still_stops_neither_the_file_nor_the_caller(logs: Logs) -> None:
    console = StuckConsole()
    log = logs.start(console=console)

    for number in range(3000):
        log.info(f"line {number}", thread="main")
    wait_until(lambda: log.path.exists() and len(logs.lines()) == 3000)
    assert not log.close(0, timeout_s=0.1)

    assert logs.lines()[-1].endswith("exit 0: session done, flat")
    console.released.set()
    wait_until(lambda: "lines not shown here" in console.getvalue())
    assert log.close()


def test_a_console_that_is_gone_changes_nothing(logs: Logs) -> None:
    console = io.StringIO()
    console.close()
    log = logs.start(console=console)

    log.info("kept", thread="main")

    assert log.close()
    assert len(logs.lines()) == 1


def test_a_queue_that_is_full_drops_ordinary_lines_counts_them_and_keeps_alarms(logs: Logs, tmp_path: Path) -> None:
    """The writer is held at a pipe nobody reads, so the queue fills; no caller waits."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    logs.dir.mkdir()
    pipe = logs.dir / "live-2026-11-20.log"
    os.mkfifo(pipe)
    log = logs.start(queue_lines=10)
    log.info("taken by the writer, who now waits for a reader", thread="main")
    wait_until(log._lines.empty)

    for number in range(30):
        log.info(f"line {number}", thread="main")
    log.alarm("UNPROTECTED", thread="main")
    assert log.lost == 20

    with pipe.open(encoding="utf-8") as reader:
        log.close(timeout_s=0)
        told = reader.read().splitlines()

    kept = [line.split("-  ", 1)[1].strip() for line in told]
    assert kept[1] == "20 lines were dropped here: the log could not keep up"
    assert kept[2:12] == [f"line {number}" for number in range(10)]
    assert kept[12].split() == ["ALARM", "UNPROTECTED"]


def test_many_threads_write_whole_lines_each_in_its_own_order(logs: Logs) -> None:
    log = logs.start(queue_lines=100_000)

    def write(name: str) -> None:
        for number in range(500):
            log.info(f"{name} {number:03}", thread=name)

    threads = [threading.Thread(target=write, args=(f"t{index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()

    told = [tuple(line.split()[-2:]) for line in logs.lines()]
    for index in range(6):
        assert [number for name, number in told if name == f"t{index}"] == [f"{number:03}" for number in range(500)]
    assert len(told) == 3000


def test_the_level_holds_back_what_is_below_it(logs: Logs) -> None:
    log = logs.start(level="WARNING")

    log.debug("no", thread="main")
    log.info("no", thread="main")
    log.warning("yes", thread="main")
    log.close()

    assert [line.rsplit(" ", 1)[1] for line in logs.lines()] == ["yes"]


def test_a_librarys_record_that_cannot_be_put_into_words_is_named_not_printed(logs: Logs) -> None:
    log = logs.start()

    log._libraries.handle(logging.LogRecord("websocket", logging.ERROR, "", 0, "%d bytes", (KEY,), None))
    log.close()

    assert [line.split("-  ", 1)[1].strip() for line in logs.lines()] == [
        "websocket: a log record that cannot be put into words (TypeError)"
    ]


def test_the_exit_code_is_the_last_line_whatever_is_said_after_it(logs: Logs) -> None:
    log = logs.start()

    log.close(5)
    log.info("too late", thread="main")
    logging.getLogger("late").warning("too late")

    assert [line.split("-  ", 1)[1].strip() for line in logs.lines()] == ["exit 5: stopped with a protected position open"]
    assert log.lost == 1


def test_the_writer_is_a_thread_called_log_and_is_gone_after_close(logs: Logs) -> None:
    log = logs.start()
    assert "log" in [thread.name for thread in threading.enumerate()]

    log.close()

    assert "log" not in [thread.name for thread in threading.enumerate()]


def test_every_exit_code_of_the_design_has_its_words() -> None:
    assert [exit_words(code) for code in (0, 2, 3, 4, 5, 6, 7, 70, 99)] == [
        "exit 0: session done, flat",
        "exit 2: configuration",
        "exit 3: credentials",
        "exit 4: another instance holds the account",
        "exit 5: stopped with a protected position open",
        "exit 6: halted on disagreement",
        "exit 7: stopped with something unprotected or unknown",
        "exit 70: defect",
        "exit 99: unlisted code",
    ]


def test_the_redactor_knows_the_spellings_of_a_secret() -> None:
    """OPS-09"""
    redact = redactor([KEY, "", "abc", 'quo"te\\d', "two words"])

    spellings = [
        KEY,
        "k3y%2BPlanted%2F5ecret%3D%3D",
        "k3y%2BPlanted/5ecret%3D%3D",
        'quo"te\\d',
        'quo\\"te\\\\d',
        "two+words",
        "abc",
    ]
    assert [redact(f"a{text}b") for text in spellings] == ["a***b"] * 6 + ["aabcb"]
