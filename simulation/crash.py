"""The crash matrix: `python -m simulation.crash` kills the real runner at every seam, starts it again, and asks the oracle.

Owns the choice of seams and the table. A run (simulation/crash_one.py) is: a practice venue in a process of its own, which
survives; the runner (simulation/crash_run.py), which kills itself before or after a journal commit or a broker call; the runner
again, until the day has ended; then the venue's truth against journal and report (simulation/oracle.py). Runners that are broken
on purpose (simulation/crash_mutants.py) must be caught. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from ops.table import table
from simulation.crash_day import SCRIPTS
from simulation.crash_mutants import MUTANTS
from simulation.crash_one import RECOVERY_MS, Gate, Outcome, Point, measure, run_point
from simulation.crash_run import KINDS, SIDES, Seam
from state.clock import SystemClock

DEAD_S = (0.0, 0.4, 1.5)  # how long the runner stays dead, in turn: fills come meanwhile
BEYOND = 3  # so many runs in a row that end before their seam: there are no more
MOST = 5_000  # seams; a day has some 350 to 500


# -- many runs -----------------------------------------------------------------------------------------------------------------


def every_point(script: str, run: Callable[[Point], Outcome], jobs: int) -> Iterator[Outcome]:
    """k = 1, 2, … until there are no more seams."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[Outcome]] = deque()
        number = beyond = 0
        while beyond < BEYOND and number < MOST:
            while len(waiting) < 2 * jobs:
                number += 1
                waiting.append(pool.submit(run, Point(str(number), dead_s=DEAD_S[number % len(DEAD_S)], script=script)))
            outcome = waiting.popleft().result()
            beyond = 0 if outcome.killed_at else beyond + 1
            yield outcome
        for future in waiting:
            future.cancel()
        yield from (future.result() for future in waiting if not future.cancelled())


def some_points(points: Sequence[Point], run: Callable[[Point], Outcome], jobs: int) -> Iterator[Outcome]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, points)


def once_more(outcomes: Iterable[Outcome], run: Callable[[Point], Outcome]) -> Iterator[Outcome]:
    """Whatever was only too slow is run again with nothing of ours beside it; that second outcome is the one that counts."""
    late: list[Outcome] = []
    for outcome in outcomes:
        if not outcome.point.mutant and outcome.violations and all(wrong.slow for wrong in outcome.violations):
            late.append(outcome)
        else:
            yield outcome
    for outcome in late:
        yield replace(run(outcome.point), slow_before=outcome.recovery_ms)


def chosen(script: str, seams: Sequence[Seam], count: int, chance: random.Random) -> list[Point]:
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
    return [Point(first, dead_s=DEAD_S[number % len(DEAD_S)], script=script) for number, first in enumerate(firsts)]


def twice(script: str, seams: Sequence[Seam], count: int, chance: random.Random) -> list[Point]:
    """A seam of the day, and one of the recovery that follows."""
    return [
        Point(str(chance.randint(1, len(seams))), str(chance.randint(1, 40)), chance.choice(DEAD_S), script) for _ in range(count)
    ]


def broken_on_purpose() -> list[Point]:
    """A run for each mutant, killed where its defect must show."""
    return [Point(mutant.kill_at, script=mutant.script, mutant=name) for name, mutant in MUTANTS.items()]


# -- words ---------------------------------------------------------------------------------------------------------------------


def tabled(outcomes: Sequence[Outcome]) -> str:
    """A row for each day, kind of seam and side; a second kill counts where the first one was."""
    header = ["day", "seam", "side", "runs", "killed", "recovered", "violations", "slowest recovery", "slowest run"]
    rows = []
    for script in SCRIPTS:
        of_it = [out for out in outcomes if out.point.script == script]
        for kind, side in product(KINDS, SIDES):
            rows.append(_row(script, kind, side, [out for out in of_it if out.killed_at and _at(out) == (kind, side)]))
        rows.append(_row(script, "(day ended before it)", "", [out for out in of_it if not out.killed_at]))
        rows.append(_row(script, "all", "", of_it))
    return table(header, [row for row in rows if row[3] != "0"], right=header[3:])


def _at(outcome: Outcome) -> tuple[str, str]:
    return outcome.killed_at[0].kind, outcome.killed_at[0].side


def _row(script: str, kind: str, side: str, found: list[Outcome]) -> list[str]:
    killed = sum(len(out.killed_at) for out in found)
    recovered = sum(len(out.killed_at) for out in found if not out.violations)
    slowest = max((out.recovery_ms for out in found), default=0)
    longest = max((out.wall_ms for out in found), default=0)
    wrong = sum(len(out.violations) for out in found)
    numbers = [str(number) for number in (len(found), killed, recovered, wrong)]
    return [script, kind, side, *numbers, f"{slowest} ms", f"{longest / 1000:.1f} s"]


def said(outcome: Outcome, kept: bool = True) -> str:
    """One run, as it is told while the matrix goes on."""
    where = " then ".join(f"{seam.number} {seam.kind} {seam.side} ({seam.thread})" for seam in outcome.killed_at)
    mutant, took_s = outcome.point.mutant, outcome.wall_ms / 1000
    who = f"{outcome.point.script}: {mutant}{mutant and ': '}"
    lines = [f"{who}kill at {outcome.point.first}: {where or 'not reached'}, {took_s:.1f} s, recovery {outcome.recovery_ms} ms"]
    word = "caught by" if mutant else "VIOLATION"
    if outcome.slow_before is not None:
        lines.append(f"  alone, after one of {outcome.slow_before} ms beside other runs")
    lines += [f"  {word} {wrong.rule} {wrong.symbol} {wrong.text}" for wrong in outcome.violations]
    return "\n".join(lines + ([f"  kept in {outcome.folder}"] if outcome.folder and kept and not mutant else []))


class Request(msgspec.Struct, frozen=True):
    """What was asked for on the command line."""

    days: list[str]
    points: str
    double: int
    mutants: bool
    jobs: int
    seed: int
    recovery_ms: int


def matrix(wanted: Request, kept: Path) -> tuple[dict[str, int], Iterator[Outcome]]:
    """How many seams each day has without a crash, and one outcome after the other."""
    gate, chance = Gate(os.cpu_count() or 1), random.Random(wanted.seed)
    seams = {script: measure(kept, gate, script) for script in wanted.days}

    def run(point: Point) -> Outcome:
        return run_point(point, kept, gate, wanted.recovery_ms)

    def outcomes() -> Iterator[Outcome]:
        for script, passed in seams.items():
            if wanted.points == "all":
                yield from every_point(script, run, wanted.jobs)
            else:
                yield from some_points(chosen(script, passed, int(wanted.points), chance), run, wanted.jobs)
            yield from some_points(twice(script, passed, wanted.double, chance), run, wanted.jobs)
        yield from map(run, broken_on_purpose() if wanted.mutants else [])  # one by one: some only show when it starts in time

    return {script: len(passed) for script, passed in seams.items()}, once_more(outcomes(), run)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.option("--day", "days", multiple=True, type=click.Choice(list(SCRIPTS)), help="Only this day; all of them unless given.")
@click.option("--jobs", default=5, show_default=True, type=click.IntRange(1, 64), help="Runs at one time; each mostly waits.")
@click.option("--points", default="all", show_default=True, help="Every seam of a day, or a selection of so many.")
@click.option(
    "--double", default=20, show_default=True, type=click.IntRange(0), help="Runs a day with a second kill in the recovery."
)
@click.option("--mutants/--no-mutants", default=True, show_default=True, help="Also runners broken on purpose.")
@click.option("--seed", default=7, show_default=True, help="Of what is chosen at random.")
@click.option("--recovery", default=RECOVERY_MS, show_default=True, help="Allowed beyond the settle window, in ms.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Where runs with violations are left.")
def command(as_json: bool, days: tuple[str, ...], points: str, keep: Path | None, recovery: int, **numbers: int) -> None:
    """Kill the runner at its seams, start it again, and ask the venue what truly happened."""
    if points != "all" and not points.isdecimal():
        raise click.BadParameter(f"all, or a number, not {points}", param_hint="--points")
    clock = SystemClock()
    begun_ms = clock.monotonic_ms()
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(prefix="crash-", dir=keep))
    wanted = msgspec.convert({"days": days or tuple(SCRIPTS), "points": points, "recovery_ms": recovery, **numbers}, Request)
    seams, running = matrix(wanted, kept)
    outcomes = []
    for outcome in running:
        outcomes.append(outcome)
        click.echo(said(outcome, kept=keep is not None), err=True)
    found = _summary(outcomes, seams, wanted.seed, (clock.monotonic_ms() - begun_ms) / 1000)
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() if as_json else _told(outcomes, found))
    wrong = bool(found["violations"]) or found["mutants"]["caught"] < found["mutants"]["total"]
    if keep is None:
        shutil.rmtree(kept, ignore_errors=True)
    raise SystemExit(1 if wrong else 0)


def _summary(outcomes: Sequence[Outcome], seams: Mapping[str, int], seed: int, wall_s: float) -> dict[str, Any]:
    real = [out for out in outcomes if not out.point.mutant]
    broken = [out for out in outcomes if out.point.mutant]
    return {
        "seed": seed,
        "seams": seams,
        "runs": len(real),
        "killed": sum(len(out.killed_at) for out in real),
        "killed_twice": sum(len(out.killed_at) == 2 for out in real),
        "repeated_alone": sum(out.slow_before is not None for out in real),
        "recovery_ms": _within([out.recovery_ms for out in real if out.killed_at]),
        "waking_ms": _within([out.waking_ms for out in real if out.killed_at]),
        "violations": [
            {"day": out.point.script, "killed_at": msgspec.to_builtins(out.killed_at), **msgspec.to_builtins(wrong)}
            for out in real
            for wrong in out.violations
        ],
        "mutants": {"total": len(broken), "caught": sum(bool(out.violations) for out in broken)},
        "wall_s": round(wall_s, 1),
    }


def _within(took_ms: Sequence[int]) -> dict[str, int]:
    ordered = sorted(took_ms) or [0]
    return {"half_within": ordered[(len(ordered) - 1) // 2], "slowest": ordered[-1]}


def _told(outcomes: Sequence[Outcome], found: Mapping[str, Any]) -> str:
    lines = [tabled([out for out in outcomes if not out.point.mutant])]
    if found["mutants"]["total"]:
        lines.append("{caught} of {total} runners that are broken on purpose were caught".format(**found["mutants"]))
    within = "half within {half_within} ms, all within {slowest} ms"
    lines.append("recovery, settle window included: " + within.format(**found["recovery_ms"]))
    lines.append("of that until the new process writes its first line: " + within.format(**found["waking_ms"]))
    lines.append(
        "{killed_twice} runs were killed twice, {repeated_alone} were too slow beside others and repeated alone".format(**found)
    )
    return "\n".join([*lines, "{wall_s} s, seed {seed}".format(**found)])


def main(arguments: Sequence[str]) -> int:
    """For tasks.py: the exit code."""
    try:
        command.main(args=list(arguments), prog_name="crash", standalone_mode=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            click.echo(ended.code, err=True)
            return 1
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
