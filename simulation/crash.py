"""The crash matrix: `python -m simulation.crash` kills the real runner at every seam, starts it again, and asks the oracle.

Owns the choice of seams, the starts and the table. A run is: a practice venue in a process of its own, which survives; the runner
(simulation/crash_run.py), which kills itself before or after a journal commit or a broker call; the runner again, until the day
has ended; then the venue's truth against journal and report (simulation/oracle.py). Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import product
from pathlib import Path

import click
import msgspec

from brokers.practice import VenueError
from brokers.practice_truth import Truth
from ops.table import table
from simulation import crash_day, oracle
from simulation.crash_run import KINDS, SIDES, Passed, Seam
from simulation.oracle import Bounds, Life, Violation
from state.clock import SystemClock
from state.journal import JournalError

ROOT = Path(__file__).resolve().parents[1]
RECOVERY_MS = 2_000  # beyond the settle window
BARE_MS = 2_000  # from a fill to its stop while a runner is alive: milliseconds in life, more on a machine that runs many at once
DEAD_S = (0.0, 0.4, 1.5)  # how long the runner stays dead, in turn: fills come meanwhile
BEYOND = 3  # so many runs in a row that end before their seam: there are no more
MOST = 5_000  # seams; a day has some 330
LOOK_S = 0.1
PATIENCE_MS = 120_000  # for one start, from its first to its last instruction
RECOVERED = re.compile(r"(\d\d:\d\d:\d\d\.\d{3}) .*entries on again after: recovering")


class Point(msgspec.Struct, frozen=True):
    """Where to kill: the first start, and the second one if there is a `second`. As simulation/crash_run.py reads them.

    `dead_s`: real time that passes before each next start, in which the market goes on.
    """

    first: str
    second: str | None = None
    dead_s: float = 0
    mutant: str = ""  # how the runner is broken on purpose


class Outcome(msgspec.Struct, frozen=True):
    """`killed_at`: the seams that were reached. `recovery_ms`: the longest recovery. `folder`: kept when something is wrong."""

    point: Point
    killed_at: list[Seam]
    starts: int
    recovery_ms: int
    wall_ms: int
    violations: list[Violation]
    folder: str = ""


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

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.folder = folder
        self._gate = gate
        self._config = crash_day.write(folder)
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
                if self._recovered_line(self._log()[self.said[-1] :]) is not None:
                    started()
            process.kill()
            process.wait()
            return None

    def judged(self, recovery_ms: int = RECOVERY_MS) -> tuple[list[Violation], int]:
        """What is wrong with the day, and its longest recovery in ms."""
        wrong = [] if self.code == 0 else [Violation("exit", "", f"the last start ended with {self.code}, not 0")]
        try:
            truth = self._venue.truth()
            self._recovered(truth)
            data = self.folder / "data"
            told = oracle.told_by(data / "journal.db", data / "reports" / f"{crash_day.DAY}.json")
        except (OSError, VenueError, JournalError, msgspec.MsgspecError) as error:
            return [*wrong, Violation("oracle", "", f"cannot be judged: {error}")], 0
        bounds = Bounds(recovery_ms + crash_day.SETTLE_MS, BARE_MS)
        return [*wrong, *oracle.judge(truth, told, self.lives, bounds)], oracle.recovery_ms(truth, self.lives)

    def _recovered(self, truth: Truth) -> None:
        """When each start had recovered, by its log: session time, which the venue's clock turns into real time."""
        lines = self._log()
        for number, first in enumerate(self.said):
            said = self._recovered_line(lines[first : (*self.said, None)[number + 1]])
            if said is not None:
                at = datetime.fromisoformat(f"{crash_day.DAY}T{said}+05:30").timestamp() * 1000
                real_ms = truth.real_ms - round((truth.at_ms - at) / truth.speed)
                self.lives[number] = msgspec.structs.replace(self.lives[number], recovered_ms=real_ms)

    @staticmethod
    def _recovered_line(lines: Iterable[str]) -> str | None:
        """The time at which the log says so, if it does."""
        return next((match[1] for match in map(RECOVERED.match, lines) if match), None)

    def _log(self) -> list[str]:
        path = self.folder / "logs" / f"live-{crash_day.DAY}.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def __enter__(self) -> Day:
        return self

    def __exit__(self, *_: object) -> None:
        self._venue.stop()


def run_point(point: Point, kept: Path, gate: Gate, recovery_ms: int = RECOVERY_MS) -> Outcome:
    """Kill there, start again, judge. The folder of a run with violations is left in `kept`."""
    clock = SystemClock()
    begun_ms = clock.monotonic_ms()
    folder = Path(tempfile.mkdtemp(prefix=f"{point.first}-".replace(":", "-"), dir=kept))
    with Day(folder, gate) as day:
        kills = [point.first, None] if point.second is None else [point.first, point.second, None]
        while day.start(kills.pop(0), point.mutant).killed_at is not None:
            clock.wait(threading.Event(), point.dead_s)
        violations, slowest_ms = day.judged(recovery_ms)
    if not violations:
        shutil.rmtree(folder, ignore_errors=True)
    killed_at = [passed.killed_at for passed in day.passed if passed.killed_at is not None]
    took_ms = clock.monotonic_ms() - begun_ms
    return Outcome(point, killed_at, len(day.lives), slowest_ms, took_ms, violations, str(folder) if violations else "")


def measure(kept: Path, gate: Gate) -> list[Seam]:
    """The seams of a day without a crash, which must be a good one itself."""
    folder = Path(tempfile.mkdtemp(prefix="measured-", dir=kept))
    with Day(folder, gate) as day:
        seams = day.start("0").seams
        violations, _ = day.judged()
    if violations:
        raise SystemExit(f"the day is wrong without any crash ({folder}):\n" + "\n".join(map(str, violations)))
    return seams


# -- many runs -----------------------------------------------------------------------------------------------------------------


def every_point(run: Callable[[Point], Outcome], jobs: int) -> Iterator[Outcome]:
    """k = 1, 2, … until there are no more seams."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[Outcome]] = deque()
        number = beyond = 0
        while beyond < BEYOND and number < MOST:
            while len(waiting) < 2 * jobs:
                number += 1
                waiting.append(pool.submit(run, Point(str(number), dead_s=DEAD_S[number % len(DEAD_S)])))
            outcome = waiting.popleft().result()
            beyond = 0 if outcome.killed_at else beyond + 1
            yield outcome
        for future in waiting:
            future.cancel()
        yield from (future.result() for future in waiting if not future.cancelled())


def some_points(points: Sequence[Point], run: Callable[[Point], Outcome], jobs: int) -> Iterator[Outcome]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, points)


def chosen(seams: Sequence[Seam], count: int, chance: random.Random) -> list[Point]:
    """The first and the last of each kind and side, then the second and the last but one, and so on; the last one at random."""
    most = Counter((seam.kind, seam.side) for seam in seams)
    points: dict[str, None] = {}  # in their order, each once
    for depth in range(max(most.values(), default=0)):
        for last in (False, True):
            for kind, side in product(KINDS, SIDES):
                total = most[kind, side]
                if total > depth:
                    points[f"{kind}:{side}:{total - depth if last else depth + 1}"] = None
    firsts = [*list(points)[: max(count - 1, 0)], str(chance.randint(1, max(len(seams), 1)))]
    return [Point(first, dead_s=DEAD_S[number % len(DEAD_S)]) for number, first in enumerate(firsts)]


def twice(seams: Sequence[Seam], count: int, chance: random.Random) -> list[Point]:
    """A seam of the day, and one of the recovery that follows."""
    return [Point(str(chance.randint(1, len(seams))), str(chance.randint(1, 40)), chance.choice(DEAD_S)) for _ in range(count)]


# -- words ---------------------------------------------------------------------------------------------------------------------


def tabled(outcomes: Sequence[Outcome]) -> str:
    """A row for each kind of seam and side; a second kill counts where the first one was."""
    header = ["seam", "side", "runs", "killed", "recovered", "violations", "slowest recovery", "slowest run"]
    rows = []
    for kind in KINDS:
        for side in SIDES:
            rows.append(_row(kind, side, [out for out in outcomes if out.killed_at and _at(out) == (kind, side)]))
    rows.append(_row("(day ended before it)", "", [out for out in outcomes if not out.killed_at]))
    rows.append(_row("all", "", list(outcomes)))
    return table(header, [row for row in rows if row[2] != "0"], right=header[2:])


def _at(outcome: Outcome) -> tuple[str, str]:
    return outcome.killed_at[0].kind, outcome.killed_at[0].side


def _row(kind: str, side: str, found: list[Outcome]) -> list[str]:
    killed = sum(len(out.killed_at) for out in found)
    recovered = sum(len(out.killed_at) for out in found if not out.violations)
    slowest = max((out.recovery_ms for out in found), default=0)
    longest = max((out.wall_ms for out in found), default=0)
    wrong = sum(len(out.violations) for out in found)
    return [kind, side, str(len(found)), str(killed), str(recovered), str(wrong), f"{slowest} ms", f"{longest / 1000:.1f} s"]


def _said(outcome: Outcome) -> str:
    where = " then ".join(f"{seam.number} {seam.kind} {seam.side} ({seam.thread})" for seam in outcome.killed_at)
    lines = [f"kill at {outcome.point.first}: {where or 'not reached'}, {outcome.wall_ms / 1000:.1f} s"]
    lines += [f"  VIOLATION {wrong.rule} {wrong.symbol} {wrong.text}" for wrong in outcome.violations]
    return "\n".join(lines + ([f"  kept in {outcome.folder}"] if outcome.folder else []))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.option("--jobs", default=5, show_default=True, type=click.IntRange(1, 64), help="Days at one time; each mostly waits.")
@click.option("--points", default="all", show_default=True, help="Every seam, or a selection of so many.")
@click.option("--double", default=20, show_default=True, type=click.IntRange(0), help="Runs with a second kill in the recovery.")
@click.option("--seed", default=7, show_default=True, help="Of what is chosen at random.")
@click.option("--recovery", default=RECOVERY_MS, show_default=True, help="Allowed beyond the settle window, in ms.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Where runs with violations are left.")
def command(as_json: bool, jobs: int, points: str, double: int, seed: int, recovery: int, keep: Path | None) -> None:
    """Kill the runner at its seams, start it again, and ask the venue what truly happened."""
    clock = SystemClock()
    begun_ms, chance = clock.monotonic_ms(), random.Random(seed)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(prefix="crash-", dir=keep))
    gate = Gate(os.cpu_count() or 1)
    seams = measure(kept, gate)

    def run(point: Point) -> Outcome:
        return run_point(point, kept, gate, recovery)

    def runs() -> Iterator[Outcome]:
        yield from every_point(run, jobs) if points == "all" else some_points(chosen(seams, int(points), chance), run, jobs)
        yield from some_points(twice(seams, double, chance), run, jobs)

    outcomes = []
    for outcome in runs():
        outcomes.append(outcome)
        click.echo(_said(outcome), err=True)
    wall_s = (clock.monotonic_ms() - begun_ms) / 1000
    click.echo(_summary(outcomes, len(seams), seed, wall_s) if as_json else f"{tabled(outcomes)}\n{wall_s:.0f} s, seed {seed}")
    wrong = any(out.violations for out in outcomes)
    if not wrong:
        shutil.rmtree(kept, ignore_errors=True)
    raise SystemExit(1 if wrong else 0)


def _summary(outcomes: Sequence[Outcome], seams: int, seed: int, wall_s: float) -> str:
    found = {
        "seed": seed,
        "seams": seams,
        "runs": len(outcomes),
        "killed": sum(len(out.killed_at) for out in outcomes),
        "killed_twice": sum(len(out.killed_at) == 2 for out in outcomes),
        "recovery_ms": max((out.recovery_ms for out in outcomes), default=0),
        "violations": [
            {"killed_at": [msgspec.to_builtins(seam) for seam in out.killed_at], **msgspec.to_builtins(wrong)}
            for out in outcomes
            for wrong in out.violations
        ],
        "wall_s": round(wall_s, 1),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode()


def main(arguments: Sequence[str]) -> int:
    """For tasks.py: the exit code."""
    try:
        command.main(args=list(arguments), prog_name="crash", standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
