"""Whole sessions against a practice venue that misbehaves: how they are played, and what the venue and the runner say of them.

A session is the real thing: `live_runner.py run --faults …` in a process of its own, over HTTP and WebSocket. Only two things are
changed from outside: the day begins sooner, and the venue is left running, because it has yet to be asked what truly happened.

A day lasts a few real seconds. On the lively one four symbols go through everything an order can:

  SBIN   fills, is trailed up several times, and the trailed stop ends it
  ITC    is trailed and stopped out, and its second entry is taken back after the entry timeout
  TECHM  is stopped out, enters again, and is closed by the cutoff
  WIPRO  arms, rests, and its entry is taken back after the entry timeout

On the steady one all four enter, hold, and are closed by the cutoff: an entry, a stop and an exit each. An entry that comes to
nothing in the first seconds finds a new trigger in time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import filelock
import msgspec
import yaml

import live_runner
from brokers.practice import PracticeVenue, attach_venue
from brokers.practice_truth import Truth
from simulation import practice_day
from simulation.oracle import Life, Told
from simulation.oracle_told import told_by
from state.clock import SystemClock
from tests import runs

SPEED = 20  # a real second is twenty of the session
LEAD_MS = 1_500  # real time from the start of the venue's clock to the open
SETTLE_MS, REQUEST_MS, POLL_MS, LIMIT_MS = 2_500, 1_000, 1_000, 2_000  # real time
AT_ONCE = 4  # sessions beside each other, in each test process: they mostly wait
TICK = Decimal("0.05")
ENTRIES = {"SBIN": "812.40", "ITC": "418.55", "TECHM": "1466.85", "WIPRO": "248.70"}
QTY = 10

Turn = tuple[float, int]  # from so many real seconds after the open, so many ticks above the entry
Turns = dict[str, list[Turn]]


class Day(msgspec.Struct, frozen=True):
    """What the market does. Times are real seconds after the open; `patience_s`: from the cutoff to the close."""

    turns: Turns
    cutoff_s: float
    trail_bar: str
    entry_timeout: str
    patience_s: float = 12.0


_UP = [(1.8 + step / 10, 3 * step) for step in range(20)]
LIVELY = Day(
    turns={
        "SBIN": [(0, 12), (0.4, -12), (1.0, 0), *_UP, (4.2, 5)],
        "ITC": [(0, 12), (0.6, -12), (1.2, 0), (2.8, -25), (3.6, -5)],
        "TECHM": [(0, 12), (0.5, -12), (1.1, 0), (2.0, -25), (2.8, 0), (3.2, 3)],
        "WIPRO": [(0, 12), (0.5, -12), (1.0, -5)],
    },
    cutoff_s=6.0,
    trail_bar="10s",
    entry_timeout="25s",
)
FILLED_S = 5.2  # of the steady day: when entries fill
_STEADY = [(0, 12), (0.4, -12), (4.2, -5), (4.7, -12), (FILLED_S, 0), (5.7, 3)]
STEADY = Day(turns=dict.fromkeys(ENTRIES, _STEADY), cutoff_s=9.5, trail_bar="30m", entry_timeout="15m")


class Script(msgspec.Struct, frozen=True):
    """What to play: the shipped script of that name, or one of our own (`faults`, as a user's file has them)."""

    name: str
    day: Day = STEADY
    faults: Sequence[dict[str, Any]] = ()
    seed: int = 7
    changes: dict[str, Any] = {}

    @property
    def argument(self) -> str:
        return "faults.yaml" if self.faults else self.name.partition("+")[0]


class Played(msgspec.Struct, frozen=True):
    """A session after its end."""

    script: str
    code: int
    life: Life
    truth: Truth
    folder: str

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def told(self) -> Told:
        return told_by(self.path / "data" / "journal.db", self.path / "data" / "reports" / f"{runs.DAY}.json")

    @property
    def log(self) -> list[str]:
        return runs.log_lines(self.path)

    def says(self, *texts: str) -> bool:
        """One line of the log has all of these."""
        return any(all(text in line for text in texts) for line in self.log)


# -- playing -------------------------------------------------------------------------------------------------------------------


class Stage:
    """Plays scripts in one folder, each once, whichever test process comes to it first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stage")
        self._closing = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, scripts: Iterable[Script]) -> None:
        """Start on these, in this order, without waiting for them."""
        for script in scripts:
            self._pool.submit(self._play_if_free, script)

    def played(self, script: Script) -> Played:
        with self._lock(script, runs.WAIT_S * 4):
            return self._once(script)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)

    def _play_if_free(self, script: Script) -> None:
        if self._closing.is_set():
            return
        try:
            with self._lock(script, 0):
                self._once(script)
        except filelock.Timeout:
            pass  # another process is at it

    def _once(self, script: Script) -> Played:
        done = self._folder / f"{script.name}.json"
        if not done.exists():
            waiting = done.with_suffix(".new")
            waiting.write_bytes(msgspec.json.encode(play(self._folder / script.name, script)))
            os.replace(waiting, done)
        return msgspec.json.decode(done.read_bytes(), type=Played)

    def _lock(self, script: Script, timeout_s: float) -> filelock.BaseFileLock:
        return filelock.FileLock(self._folder / f"{script.name}.lock", timeout=timeout_s, thread_local=False)


def play(folder: Path, script: Script) -> Played:
    folder.mkdir(parents=True, exist_ok=True)
    write_day(folder, script)
    clock = SystemClock()
    started_ms = clock.monotonic_ms()
    try:
        code = run(folder, script)
        life = Life(started_ms, clock.monotonic_ms())
        truth = _venue(folder).truth()
    finally:
        runs.stop_venue(folder)
    return Played(script.name, code, life, truth, str(folder))


def run(folder: Path, script: Script) -> int:
    line = [sys.executable, "-m", "tests.fault_runs", "run", "--config", str(folder / "config.yaml")]
    line += ["--tape", str(folder / "day.csv"), "--faults", script.argument]
    env = runs.environment(PYTHONPATH=str(runs.ROOT))
    with (folder / "console.txt").open("wb") as output:
        deadline_s = LEAD_MS / 1000 + script.day.cutoff_s + script.day.patience_s + runs.WAIT_S
        return subprocess.run(line, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT, timeout=deadline_s).returncode


def _venue(folder: Path) -> PracticeVenue:
    books = runs.VenueBooks(folder)
    venue = attach_venue(books.rest_url, books._key)
    assert venue is not None, runs.console(folder)
    return venue


# -- the day -------------------------------------------------------------------------------------------------------------------


def write_day(folder: Path, script: Script) -> None:
    """Config, tape and fault script."""
    day = script.day
    close_s = day.cutoff_s + day.patience_s
    hours = {"calendar": None, "timezone": "Asia/Kolkata", "open": _time(0), "close": _time(close_s)}
    hours |= {"entry_delay": "1s", "exit_before_close": f"{round(day.patience_s * SPEED)}s"}
    params = {"stop_ticks": 20, "trail_bar": day.trail_bar, "trail_buffer_ticks": 2, "trigger_window": "60m", "max_entries": 3}
    strategy = {"name": "eighty_twenty", "params": params, "symbols": [_setup(symbol) for symbol in ENTRIES]}
    runs.write_config(
        folder,
        {"broker": {"timeout": f"{REQUEST_MS}ms", "settle_window": f"{SETTLE_MS}ms"}, "session": hours},
        {"polling": {"interval": f"{POLL_MS * SPEED}ms"}, "orders": {"entry_timeout": day.entry_timeout}},
        {"risk": {"unprotected_limit": f"{LIMIT_MS}ms"}, "practice": {"speed": SPEED, "linger": "30s", "seed": script.seed}},
        {"strategies": [strategy]},
        script.changes,
    )
    paths = {symbol: [(_time(at_s), str(_price(symbol, up))) for at_s, up in turns] for symbol, turns in day.turns.items()}
    runs.write_tape(folder / "day.csv", paths, _time(close_s))
    (folder / "faults.yaml").write_text(yaml.safe_dump(list(script.faults)), encoding="utf-8")


def _setup(symbol: str) -> dict[str, Any]:
    prices = {"entry_price": float(ENTRIES[symbol]), "trigger_price": float(_price(symbol, -10))}  # their text is what is read
    return {"symbol": symbol, "qty": QTY, "setup_date": "2026-11-19", **prices}


def _price(symbol: str, ticks: int) -> Decimal:
    return Decimal(ENTRIES[symbol]) + ticks * TICK


def _time(real_s: float) -> str:
    """The exchange's time so many real seconds after the open."""
    second = runs.seconds("09:15:00") + round(real_s * SPEED)
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def main() -> int:
    practice_day.LEAD_MS = LEAD_MS
    setattr(live_runner, "_stop_venue", lambda venue, config: None)  # noqa: B010
    return live_runner.main()


if __name__ == "__main__":
    sys.exit(main())
