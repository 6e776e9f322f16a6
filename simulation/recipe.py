"""What one simulated session is made of: everything follows from its seed, and a trace is one with its accidents written out.

Pure. Moods are swizzled: some runs are calm, most have a handful of faults, some have nearly all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from simulation.fates import Fate, Kind, seeded
from simulation.policies import Again, AtRandom, Pct
from simulation.scheduler import Policy

CALM, MIXED, HELL = "calm", "mixed", "hell"
STEPS_EXPECTED = 8_000  # of one life, for the change points of a priority schedule


class Recipe(msgspec.Struct, frozen=True):
    """`accidents` and `switches` None: as the seed says; else these only (`switches`: life by life, step -> thread).

    `calm_s`: so long before the cutoff, in virtual time, the last fault has been; below 0: faults go on through the cutoff.
    `preemption` 0: priorities (PCT), else the probability of a switch at each step. `most_open`: positions at one time, where not
    as many as the config allows.
    """

    seed: str
    mood: str
    rates: Mapping[str, float]
    preemption: float
    symbols: int
    calm_s: int
    accidents: tuple[Fate, ...] | None = None
    switches: tuple[dict[int, str], ...] | None = None
    most_open: int | None = None


class Trace(msgspec.Struct, frozen=True):
    """A file: one failing run, to be run again step for step. `config` in the words of config.yaml where it was not ours."""

    invariant: str
    text: str
    step: int
    recipe: Recipe
    config: str | None = None


def recipe(seed: int, number: int, kinds: Mapping[str, Kind], symbols: int) -> Recipe:
    """The n-th run of a seed."""
    name = f"{seed}/{number}"
    chance = seeded(f"{name}/recipe")
    draw = chance()
    mood = CALM if draw < 0.1 else HELL if draw > 0.85 else MIXED
    rates = {kind: _rate(mood, kinds[kind].rate, chance) for kind in sorted(kinds)}
    return Recipe(
        seed=name,
        mood=mood,
        rates={kind: rate for kind, rate in rates.items() if rate},
        preemption=(0.0, 0.01, 0.05, 0.3)[int(chance() * 4)],
        symbols=1 + int(chance() * symbols),
        calm_s=-60 if chance() < 0.2 else 12,
        most_open=1 + int(chance() * 3) if chance() < 0.3 else None,
    )


def _rate(mood: str, usual: float, chance: object) -> float:
    assert callable(chance)
    draw, strength = chance(), chance()
    if mood == CALM or (mood == MIXED and draw > 0.2):
        return 0.0
    return float(min(usual * (0.3 + 2.7 * strength), 1.0))


def policy(of: Recipe, life: int) -> Policy:
    """Who goes on, in the n-th life of a run."""
    if of.switches is not None:
        return Again(of.switches[life] if life < len(of.switches) else {})
    seed = f"{of.seed}/schedule/{life}"
    return AtRandom(seed, of.preemption) if of.preemption else Pct(seed, 6, STEPS_EXPECTED)
