"""`python tasks.py races`: the table of the small models, how many schedules each has, and which of them catches which mutant.

Runs every model in this process and every mutant in one of its own. Imports the product only when a model is to be run: in the
process of a mutant it must be broken before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulation.breakage import install
from simulation.small_mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
MUTANT_S = 300.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tasks.py races", description="Every schedule of the races between two threads.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-mutants", action="store_true", help="only the models, not the machines broken on purpose")
    parser.add_argument("--mutant", choices=[mutant.name for mutant in MUTANTS], help="break the product so, in this process")
    chosen = parser.parse_args(arguments)
    _on_one_core()
    if chosen.mutant is not None:
        print(json.dumps(hunt(chosen.mutant)))
        return 0
    found = every_model(say=None if chosen.json else print)
    found["mutants"] = [] if chosen.no_mutants else [_of_mutant(mutant, None if chosen.json else print) for mutant in MUTANTS]
    found["ok"] = all(row["wrong"] is None for row in found["models"]) and all(row["model"] for row in found["mutants"])
    if chosen.json:
        print(json.dumps(found))
    else:
        speed = f"{found['per_s']} per second, {found['per_cpu_s']} per second of processor"
        print(f"{found['schedules']} schedules, {speed}; {'all is well' if found['ok'] else 'NOT WELL'}")
    return 0 if found["ok"] else 1


def every_model(say: Any = None) -> dict[str, Any]:
    """Each model to its last schedule."""
    from simulation.small_explore import explore
    from simulation.small_models import MODELS
    from state.clock import SystemClock

    clock, rows = SystemClock(), []
    began_ms, began_cpu_s = clock.monotonic_ms(), _cpu_s()
    for model in MODELS:
        done = explore(model)
        kind = "at random" if model.seeds else f"every one with at most {model.preemptions} preemptions"
        rows.append({"model": model.name, "race": model.race, "rows": model.rows, "kind": kind} | done.facts())
        if say is not None:
            say(f"{done.schedules:6}  {model.race:11}  {model.rows:6}  {model.name}: {done.wrong or 'no violation'}", flush=True)
    wall_ms = max(clock.monotonic_ms() - began_ms, 1)
    schedules = sum(row["schedules"] for row in rows)
    speed = {"per_s": schedules * 1000 // wall_ms, "per_cpu_s": int(schedules / max(_cpu_s() - began_cpu_s, 0.001))}
    return {"models": rows, "schedules": schedules, "wall_s": wall_ms / 1000} | speed


def hunt(name: str) -> dict[str, Any]:
    """Break the product in this process, and look for a model that notices: first those of its own rows."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    install(mutant.edits)
    from simulation.small_explore import explore
    from simulation.small_models import MODELS

    own = [model for model in MODELS if model.rows == mutant.rows]
    others = [model for model in MODELS if model.rows != mutant.rows]
    schedules = 0
    for model, preemptions in [*((model, 1) for model in own), *((model, None) for model in (*own, *others))]:
        done = explore(model, preemptions)
        schedules += done.schedules
        if done.wrong is not None:
            return {"model": model.name, "race": model.race, "schedules": schedules, "wrong": done.wrong}
    return {"model": None, "race": None, "schedules": schedules, "wrong": None}


def _of_mutant(mutant: Mutant, say: Any) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, "-m", "simulation.small", "--mutant", mutant.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MUTANT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"mutant {mutant.name!r}: {done.stderr[-2000:]}")
    row = {"mutant": mutant.name, "rows": mutant.rows, **json.loads(done.stdout)}
    if say is not None:
        caught = f"caught by {row['model']!r} after {row['schedules']}: {row['wrong']}" if row["model"] else "NOT CAUGHT"
        say(f"mutant  {mutant.rows:6}  {mutant.name}: {caught}", flush=True)
    return row


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system


def _on_one_core() -> None:
    """Threads that pass one baton are faster there; where the system lets us choose."""
    choose = getattr(os, "sched_setaffinity", None)
    if choose is not None:
        choose(0, {min(os.sched_getaffinity(0))})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
