"""How many schedules of a two-thread model one core runs in a second, and how many steps the scheduler alone.

  python bench/schedules.py [--json] [--seconds S]

The models are those of `python tasks.py races`; each is run again and again for its share of the time. The aim is 1,000 schedules
per second on a quiet machine. Exit code 1 when it was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simulation.policies import Again, every_way, scheduler
from simulation.small_explore import race
from simulation.small_models import MODELS

AIM = 1_000
STEPS = 20_000


def steps_per_s() -> float:
    """Two threads that hand the baton to each other at every step."""
    s = scheduler(Again({step: ("a", "b")[step % 2] for step in range(2 * STEPS)}))

    def body() -> None:
        for _ in range(STEPS):
            s.step()

    def main() -> None:
        threads = [s.thread(name, body) for name in "ab"]
        for thread in threads:
            thread.begin()
        for thread in threads:
            thread.join()

    began = time.perf_counter()
    s.run(main)
    return s.steps / (time.perf_counter() - began)


def schedules_per_s(seconds: float) -> dict[str, float]:
    """By race, its models in turn."""
    rates: dict[str, list[float]] = {}
    models = [model for model in MODELS if not model.seeds]
    for model in models:
        race(model, Again({}))  # the start is played once
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds / len(models):
            for policy in every_way(model.preemptions):
                race(model, policy)
                done += 1
                if time.perf_counter() - began >= seconds / len(models):
                    break
        rates.setdefault(model.race, []).append(done / took)
    return {name: len(found) / sum(1 / rate for rate in found) for name, found in rates.items()}  # as if each ran as often


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rates = schedules_per_s(chosen.seconds)
    per_s = len(rates) / sum(1 / rate for rate in rates.values())
    found = {
        "schedules_per_s": {name: round(rate) for name, rate in rates.items()},
        "all_per_s": round(per_s),
        "steps_per_s": round(steps_per_s()),
        "aim": AIM,
        "ok": per_s >= AIM,
    }
    print(json.dumps(found) if chosen.json else "\n".join(f"{name:16} {value}" for name, value in found.items()))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
