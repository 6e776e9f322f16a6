"""One practice day with its venue, on which the runner is killed and started again until the day has ended; then it is judged.

Owns the processes of that day, the times of their lives and the gate that they start through. What is right is the oracle's
business (simulation/oracle.py), where to kill the matrix's (simulation/crash.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from brokers.practice import VenueError
from brokers.practice_truth import Truth
from simulation import crash_day, oracle
from simulation.crash_run import Passed, Seam
from simulation.oracle import Bounds, Life, Violation
from simulation.oracle_told import told_by
from state.clock import SystemClock
from state.journal import JournalError

ROOT = Path(__file__).resolve().parents[1]
RECOVERY_MS, WAKING_MS = 2_000, 500  # beyond the settle window; of that until the process writes its first line
NOTICE_MS = 3 * crash_day.POLL_MS + 1_000  # of a trade by hand: two polls agree, after the last fill of ours; then it is acted on
BARE_MS = 2_000  # from a fill to its stop while a runner is alive: milliseconds in life, more on a machine that runs many at once
LOOK_S = 0.1
PATIENCE_MS = 120_000  # for one start, from its first to its last instruction
LINE = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) ")
RECOVERED = re.compile(LINE.pattern + ".*entries on again after: recovering")


class Point(msgspec.Struct, frozen=True):
    """Where to kill: the first start, and the second one if there is a `second`. As simulation/crash_run.py reads them.

    `dead_s`: real time that passes before each next start, in which the market goes on.
    """

    first: str
    second: str | None = None
    dead_s: float = 0
    script: str = "calm"  # of crash_day.SCRIPTS
    mutant: str = ""  # how the runner is broken on purpose


class Outcome(msgspec.Struct, frozen=True):
    """`killed_at`: the seams that were reached. `recovery_ms`: the longest recovery; `waking_ms`: the longest that a new process
    took until its first line. `folder`: kept when something is wrong. `slow_before`: the recovery of this point when it ran
    beside others and was too slow.
    """

    point: Point
    killed_at: list[Seam]
    starts: int
    recovery_ms: int
    waking_ms: int
    wall_ms: int
    violations: list[Violation]
    folder: str = ""
    slow_before: int | None = None


class Gate:
    """Lets so many processes start at one time, restarts before new days: the runner is measured, not a crowded machine."""

    def __init__(self, places: int) -> None:
        self._changed = threading.Condition()
        self._free = places
        self._restarts = 0  # waiting

    @contextmanager
    def starting(self, restart: bool) -> Iterator[Callable[[], None]]:
        """A place, until what it gives out is called or the block ends."""
        given_back = threading.Lock()

        def started() -> None:
            if given_back.acquire(blocking=False):
                with self._changed:
                    self._free += 1
                    self._changed.notify_all()

        self._enter(restart)
        try:
            yield started
        finally:
            started()

    def _enter(self, restart: bool) -> None:
        with self._changed:
            self._restarts += restart
            self._changed.wait_for(lambda: self._free > 0 and (restart or not self._restarts))
            self._free -= 1
            self._restarts -= restart


# -- one run -------------------------------------------------------------------------------------------------------------------


class Day:
    """One practice day with its venue, in a folder of its own, through as many starts of the runner as it takes."""

    def __init__(self, folder: Path, gate: Gate, script: str) -> None:
        self.folder = folder
        self._gate = gate
        self._config = crash_day.write(folder, crash_day.SCRIPTS[script])
        self._clock = SystemClock()
        with gate.starting(restart=False):
            self._venue = crash_day.start_venue(self._config)
        self.lives: list[Life] = []
        self.said: list[int] = []  # lines in the log before each start
        self.passed: list[Passed] = []
        self.code: int | None = None

    def start(self, kill_at: str | None, mutant: str = "") -> Passed:
        """One start of the runner, to its end or to the seam."""
        seams = self.folder / f"seams-{len(self.lives) + 1}.json"
        line = [sys.executable, "-m", "simulation.crash_run"]
        if kill_at is not None:
            line += ["--seams", str(seams), "--kill-at", kill_at]
        if mutant:
            line += ["--mutant", mutant]
        self.said.append(len(self._log()))
        with self._gate.starting(restart=bool(self.lives)) as started:
            started_ms = self._clock.monotonic_ms()
            self.code = self._run([*line, "--", *crash_day.arguments(self._config)], started)
        passed = msgspec.json.decode(seams.read_bytes(), type=Passed) if seams.exists() else Passed([])
        self.lives.append(Life(started_ms, self._clock.monotonic_ms(), None, passed.killed_at is not None))
        self.passed.append(passed)
        return passed

    def _run(self, line: list[str], started: Callable[[], None]) -> int | None:
        """The exit code; None for a process that had to be ended."""
        until_ms = self._clock.monotonic_ms() + PATIENCE_MS
        with (self.folder / "console.txt").open("ab") as console:
            process = subprocess.Popen(line, cwd=ROOT, stdout=console, stderr=subprocess.STDOUT)
            while self._clock.monotonic_ms() < until_ms:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(LOOK_S)
                if _time_of(RECOVERED, self._log()[self.said[-1] :]) is not None:
                    started()
            process.kill()
            process.wait()
            return None

    def judged(self, recovery_ms: int = RECOVERY_MS) -> tuple[list[Violation], int]:
        """What is wrong with the day, and its longest recovery in ms."""
        wrong = [] if self.code == 0 else [Violation("exit", "", f"the last start ended with {self.code}, not 0")]
        try:
            truth = self._venue.truth()
            self._tell_times(truth)
            data = self.folder / "data"
            told = told_by(data / "journal.db", data / "reports" / f"{crash_day.DATE}.json")
        except (OSError, VenueError, JournalError, msgspec.MsgspecError) as error:
            return [*wrong, Violation("oracle", "", f"cannot be judged: {error}")], 0
        bounds = Bounds(recovery_ms + crash_day.SETTLE_MS, WAKING_MS, BARE_MS, NOTICE_MS)
        return [*wrong, *oracle.judge(truth, told, self.lives, bounds)], oracle.recovery_ms(truth, self.lives)

    def _tell_times(self, truth: Truth) -> None:
        """When each start was awake and when it had recovered, by its log."""
        lines = self._log()
        for number, first in enumerate(self.said):
            own = lines[first : (*self.said, None)[number + 1]]
            awake_ms, recovered_ms = (_real_ms(truth, _time_of(pattern, own)) for pattern in (LINE, RECOVERED))
            self.lives[number] = msgspec.structs.replace(self.lives[number], awake_ms=awake_ms, recovered_ms=recovered_ms)

    def _log(self) -> list[str]:
        path = self.folder / "logs" / f"live-{crash_day.DATE}.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def __enter__(self) -> Day:
        return self

    def __exit__(self, *_: object) -> None:
        self._venue.stop()


def _time_of(pattern: re.Pattern[str], lines: Iterable[str]) -> str | None:
    """The time of the first line that is like this."""
    return next((match[1] for match in map(pattern.match, lines) if match), None)


def _real_ms(truth: Truth, said: str | None) -> int | None:
    """The log tells session time, which the venue's clock turns into real time."""
    if said is None:
        return None
    at_ms = datetime.fromisoformat(f"{crash_day.DATE}T{said}+05:30").timestamp() * 1000
    return truth.real_ms - round((truth.at_ms - at_ms) / truth.speed)


def run_point(point: Point, kept: Path, gate: Gate, recovery_ms: int = RECOVERY_MS) -> Outcome:
    """Kill there, start again, judge. The folder of a run with violations is left in `kept`."""
    clock = SystemClock()
    begun_ms = clock.monotonic_ms()
    folder = Path(tempfile.mkdtemp(prefix=f"{point.first}-".replace(":", "-"), dir=kept))
    with Day(folder, gate, point.script) as day:
        kills = [point.first, None] if point.second is None else [point.first, point.second, None]
        while day.start(kills.pop(0), point.mutant).killed_at is not None:
            clock.wait(threading.Event(), point.dead_s)
        violations, slowest_ms = day.judged(recovery_ms)
    if not violations:
        shutil.rmtree(folder, ignore_errors=True)
    killed_at = [passed.killed_at for passed in day.passed if passed.killed_at is not None]
    waking_ms = max((life.awake_ms - life.started_ms for life in day.lives[1:] if life.awake_ms is not None), default=0)
    took_ms = clock.monotonic_ms() - begun_ms
    return Outcome(
        point, killed_at, len(day.lives), slowest_ms, waking_ms, took_ms, violations, str(folder) if violations else ""
    )


def measure(kept: Path, gate: Gate, script: str) -> list[Seam]:
    """The seams of a day without a crash, which must be a good one itself."""
    folder = Path(tempfile.mkdtemp(prefix=f"{script}-", dir=kept))
    with Day(folder, gate, script) as day:
        seams = day.start("0").seams
        violations, _ = day.judged()
    if violations:
        raise SystemExit(f"the {script} day is wrong without any crash ({folder}):\n" + "\n".join(map(str, violations)))
    return seams
