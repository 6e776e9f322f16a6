"""`python tasks.py mutants`: runners broken on purpose, each through the simulated sessions that `simulate` runs.

A mutant must break an invariant of the oracle within its budget of sessions, in a session that the unbroken runner passes; the
days are busier than those of the shipped config. The
assertions that the runner carries itself (`state.invariants`) are switched off in all of them: the oracle has to see it from
the venue's truth. Each mutant runs in a process of its own; the product is imported there after it was broken, never before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from simulation import sim_mutants_core, sim_mutants_edge
from simulation.breakage import Edit, install
from simulation.sim_mutants_words import Mutant

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
MUTANT_S = 1_800.0
ALL_DAY_MS = 24 * 3_600_000
OFTEN = 10
THROUGHOUT_S = -60
UNCHECKED = Edit(
    "state.symbol_state",
    "            (after, commands), wrong = checked(before, after, commands, self.rules)\n",
    "",
)
MUTANTS: tuple[Mutant, ...] = (*sim_mutants_core.MUTANTS, *sim_mutants_edge.MUTANTS)


class Found(NamedTuple):
    """What became of a mutant. `invariant` None: nothing, it survived all its sessions."""

    mutant: str
    module: str
    invariant: str | None
    text: str
    session: int
    sessions: int
    cpu_s: float

    @property
    def place(self) -> str:
        """Where it was found, for `--unbroken`."""
        return f"{self.session}:{','.join(named(self.mutant).often)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tasks.py mutants", description="Runners broken on purpose, which `simulate` must catch."
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", default=[], help="mutants whose name contains one of these")
    parser.add_argument("--sessions", type=int, help="another budget for each")
    parser.add_argument("--hunt", choices=[mutant.name for mutant in MUTANTS], help="one mutant, in this process")
    parser.add_argument("--unbroken", nargs="*", help="these sessions of the unbroken runner, in this process: 12:cancel.ignored")
    chosen = parser.parse_args(arguments)
    if chosen.hunt is not None:
        print(json.dumps(hunt(named(chosen.hunt), chosen.sessions)._asdict()))
        return 0
    if chosen.unbroken is not None:
        print(json.dumps(broken_anyway(chosen.unbroken)))
        return 0
    tried = [mutant for mutant in MUTANTS if not chosen.only or any(part in mutant.name for part in chosen.only)]
    with ThreadPoolExecutor(max(chosen.jobs, 1)) as pool:
        found = []
        for row in pool.map(partial(hunted, sessions=chosen.sessions), tried):
            found.append(row)
            if not chosen.json:
                print(_words(row), flush=True)
    alike = _in_a_process("--unbroken", *(row.place for row in found if row.invariant is not None))
    return tell(found, alike, chosen.json)


def named(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def hunt(mutant: Mutant, sessions: int | None = None) -> Found:
    """In a process that has not imported the product yet."""
    install((UNCHECKED, *mutant.edits))
    budget = sessions or mutant.sessions
    for number in range(budget):
        violations = _violations(number, mutant.often)
        if violations:
            worst = violations[0]
            text = f"{worst.symbol} {worst.text}".strip()
            return Found(mutant.name, mutant.edits[0].module, worst.invariant, text, number, number + 1, _cpu_s())
    return Found(mutant.name, mutant.edits[0].module, None, "", budget, budget, _cpu_s())


def broken_anyway(places: Sequence[str]) -> list[str]:
    """Sessions in which the unbroken runner breaks something as well: they prove nothing about a mutant."""
    parts = {place: place.partition(":") for place in places}
    return [
        place for place, (number, _, often) in parts.items() if _violations(int(number), tuple(filter(None, often.split(","))))
    ]


def hunted(mutant: Mutant, sessions: int | None = None) -> Found:
    more = () if sessions is None else ("--sessions", str(sessions))
    return Found(**_in_a_process("--hunt", mutant.name, *more))


def tell(found: list[Found], alike: list[str], as_json: bool) -> int:
    """The table, and 1 when one survived."""
    survived = [row.mutant for row in found if row.invariant is None or row.place in alike]
    if as_json:
        rows = [row._asdict() | {"expected": named(row.mutant).expected, "rows": named(row.mutant).rows} for row in found]
        print(json.dumps({"seed": SEED, "mutants": rows, "broken_anyway": alike, "survived": survived}, indent=1))
    else:
        print(f"{len(found) - len(survived)} of {len(found)} mutants caught with seed {SEED}")
        for name in survived:
            print(f"SURVIVED: {name}")
    return 1 if survived else 0


def _words(found: Found) -> str:
    how = "SURVIVED" if found.invariant is None else found.invariant
    return f"{how:8} {found.sessions:5} sessions {found.cpu_s:6.1f} s  {found.module:20} {found.mutant}: {found.text}"


def _in_a_process(*arguments: str) -> Any:
    command = [sys.executable, "-m", "simulation.sim_mutants", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MUTANT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _violations(number: int, often: tuple[str, ...]) -> list[Any]:
    from msgspec.structs import replace

    from simulation.recipe import recipe
    from simulation.run import KINDS, run

    of = _setting()
    made = recipe(SEED, number, KINDS, len(of.symbols))
    if often:
        made = replace(made, rates={kind: min(OFTEN * KINDS[kind].rate, 1.0) for kind in often}, calm_s=THROUGHOUT_S)
    return run(of, made).violations


@cache
def _setting() -> Any:
    from simulation.run import setting

    return setting(busy(ROOT / "config.yaml"))


def busy(path: Path) -> Any:
    """This config, with triggers that count all day and entries that wait as long: some rest when the cutoff comes."""
    from msgspec.structs import replace

    from simulation.command import config_of

    config = config_of(path)
    strategies = (replace(s, params=replace(s.params, trigger_window_ms=ALL_DAY_MS)) for s in config.strategies)
    orders = replace(config.orders, entry_timeout_ms=ALL_DAY_MS)
    return replace(config, strategies=tuple(strategies), orders=orders)


def _cpu_s() -> float:
    used = os.times()
    return round(used.user + used.system, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
