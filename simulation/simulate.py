"""`simulate`: many seeded sessions of the whole runner, or one trace again. Counts, prints, and keeps what broke.

Owns the command; a session is `run`, its seed's meaning `recipe`. Runs in processes of its own: nothing here trades.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from hashlib import sha256
from pathlib import Path

import msgspec

from ops.config import Config
from ops.table import table
from simulation.recipe import Recipe, Trace, recipe
from simulation.run import KINDS, Outcome, Setting, run, setting
from simulation.shrink import shrink
from state.clock import Clock

BATCH = 5  # sessions in one errand of a worker: few, so that `until_s` is kept


class Broken(msgspec.Struct, frozen=True):
    """One violation, as DESIGN, section 10, prints it. `trace`: the file to run again."""

    invariant: str
    seed: str
    step: int
    trace: str
    text: str


class Tally(msgspec.Struct):
    """What was tried and what came of it (DESIGN, section 10, and a little more)."""

    runs: int
    seed: int
    simulated_days: int = 0
    ticks: int = 0
    orders: int = 0
    trips: int = 0
    steps: int = 0
    faults: dict[str, int] = {}
    crashes: int = 0
    violations: list[Broken] = []
    wall_s: float = 0.0
    workers: int = 1
    sessions_per_core_s: float = 0.0
    symbols: int = 0
    hash: str = ""  # of all runs: equal for equal seeds


class Errand(msgspec.Struct, frozen=True):
    """A few runs of one seed, for one worker."""

    seed: int
    first: int
    count: int


_SETTING: Setting | None = None  # of this worker process


def _prepare(load: Callable[[], Config]) -> None:
    global _SETTING
    _SETTING = setting(load())


def _go(errand: Errand) -> list[Outcome]:
    assert _SETTING is not None
    return list(outcomes(_SETTING, errand.seed, range(errand.first, errand.first + errand.count)))


def outcomes(of: Setting, seed: int, numbers: Iterable[int]) -> Iterator[Outcome]:
    """Each run's outcome; a good one without its log and its switches, which only a violation needs."""
    for number in numbers:
        outcome = run(of, recipe(seed, number, KINDS, len(of.symbols)))
        if not outcome.violations:
            outcome = msgspec.structs.replace(outcome, lines=[], switches=(), struck=())
        yield outcome


def simulate(
    load: Callable[[], Config],
    runs: int,
    seed: int,
    jobs: int,
    clock: Clock,
    tell: Callable[[int], None],
    until_s: float | None = None,
) -> tuple[Tally, list[Outcome]]:
    """`load` makes the config in each worker. `until_s`: no new errand is begun after so many seconds."""
    began_ms = clock.monotonic_ms()
    tally, failed, hashes = Tally(runs=runs, seed=seed, workers=jobs), list[Outcome](), dict[int, str]()

    def take(found: list[Outcome]) -> None:
        for outcome in found:
            _count(tally, outcome)
            hashes[int(outcome.recipe.seed.split("/")[1])] = outcome.hash
            if outcome.violations:
                failed.append(outcome)
        tell(tally.simulated_days)

    errands = [Errand(seed, first, min(BATCH, runs - first)) for first in range(0, runs, BATCH)]
    spawned = multiprocessing.get_context("spawn")  # a fork would inherit threads that do not run there
    with ProcessPoolExecutor(jobs, mp_context=spawned, initializer=_prepare, initargs=(load,)) as pool:
        waiting: set[Future[list[Outcome]]] = set()
        while errands or waiting:
            late = until_s is not None and clock.monotonic_ms() - began_ms >= until_s * 1000
            while errands and not late and len(waiting) <= jobs:
                waiting.add(pool.submit(_go, errands.pop(0)))
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                take(future.result())
    tally.wall_s = (clock.monotonic_ms() - began_ms) / 1000
    tally.runs = tally.simulated_days
    tally.hash = sha256("".join(hashes[number] for number in sorted(hashes)).encode()).hexdigest()[:16]
    tally.sessions_per_core_s = round(tally.runs / tally.wall_s / min(jobs, os.cpu_count() or 1), 2) if tally.wall_s else 0.0
    return tally, failed


def _count(tally: Tally, outcome: Outcome) -> None:
    tally.simulated_days += 1
    tally.ticks += outcome.ticks
    tally.orders += outcome.orders
    tally.trips += outcome.trips
    tally.steps += outcome.steps
    tally.crashes += outcome.kills
    tally.faults = dict(sorted((Counter(tally.faults) + Counter(outcome.faults)).items()))


def keep(of: Setting, failed: Outcome, folder: Path, config: Path) -> Broken:
    """Shrink it and write its trace file."""
    trace = msgspec.structs.replace(shrink(of, failed), config=str(config))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{trace.invariant}-{failed.recipe.seed.replace('/', '-')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(trace), indent=1))
    return Broken(trace.invariant, failed.recipe.seed, trace.step, str(path), trace.text)


def again(of: Setting, path: Path) -> tuple[Trace, Outcome]:
    """One trace, step for step. Raises ValueError for what is no trace."""
    try:
        trace = msgspec.json.decode(path.read_bytes(), type=Trace)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is no trace of ours: {error}") from None
    return trace, run(of, trace.recipe)


def words(tally: Tally) -> str:
    """For people."""
    rows = [[kind, str(count), KINDS[kind].words] for kind, count in tally.faults.items()]
    head = (
        f"{tally.runs} sessions of seed {tally.seed} in {tally.wall_s:.1f} s ({tally.sessions_per_core_s} per second and core): "
        f"{tally.ticks} ticks, {tally.orders} orders, {tally.trips} round trips, {tally.crashes} kills, "
        f"{sum(tally.faults.values())} faults of {len(rows)} kinds, {tally.steps} steps"
    )
    lines = [head, table(["fault", "times", "what happens"], rows)] if rows else [head]
    for broken in tally.violations:
        lines.append(f"BROKEN {broken.invariant} (run {broken.seed}, step {broken.step}): {broken.text}")
        lines.append(f"  again: python live_runner.py simulate --replay {broken.trace}")
    if not tally.violations:
        lines.append("no invariant broke")
    return "\n".join(lines)


def told(trace: Trace, outcome: Outcome) -> str:
    """A replayed trace: its log, its accidents, and what it broke."""
    made: Recipe = trace.recipe
    lines = [*outcome.lines, ""]
    lines.append(f"accidents: {', '.join(f'{fate.kind} #{fate.nth}' for fate in outcome.struck) or 'none'}")
    switches = sum(len(steps) for steps in made.switches or ())
    lines.append(f"switches of threads: {switches}; steps: {outcome.steps}; lives: {outcome.lives}; codes: {outcome.codes}")
    for found in outcome.violations:
        lines.append(f"BROKEN {found.invariant} at step {found.step}, {found.mono_ms} ms: {found.symbol} {found.text}")
    if not outcome.violations:
        lines.append(f"nothing broke; the trace was of {trace.invariant}: {trace.text}")
    return "\n".join(lines)
