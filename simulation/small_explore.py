"""Runs a small model: every schedule with at most two preemptions, each from the same start to rest.

Decides who goes on and counts; what is right is the business of the world and the models.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from simulation.policies import Again, AtRandom, every_way, scheduler
from simulation.scheduler import Policy, Stuck
from simulation.small_models import STARTS, Model
from simulation.small_venue import SYMBOL
from simulation.small_world import Start, World, rules
from state.snapshot import Snapshot


class Explored(NamedTuple):
    """`switches`: the first schedule that went wrong, to be run again with `race(model, Again(switches))`."""

    model: str
    schedules: int
    wrong: str | None
    switches: dict[int, str]

    def facts(self) -> dict[str, Any]:
        return {"schedules": self.schedules, "wrong": self.wrong, "switches": self.switches}


def explore(model: Model, preemptions: int | None = None) -> Explored:
    """Every schedule with so many preemptions (by default as many as the model says), until one goes wrong."""
    tried = 0
    for policy in _policies(model, model.preemptions if preemptions is None else preemptions):
        tried += 1
        wrong = race(model, policy)
        if wrong:
            return Explored(model.name, tried, wrong[0], dict(policy.switches))
    return Explored(model.name, tried, None, {})


def _policies(model: Model, preemptions: int) -> Iterator[Policy]:
    if not model.seeds:
        return every_way(preemptions)
    return (AtRandom(str(seed), 0.2) for seed in range(model.seeds))


def race(model: Model, policy: Policy) -> list[str]:
    """One schedule, to the end; what was wrong with it."""
    start = _start(model.start, model.max_entries, model.can_replace)
    s = scheduler(policy)
    wrong = list(start.wrong)

    def main() -> None:
        world = World(s, start, rules(model.max_entries, model.can_replace), wrong)
        world.race(model.threads)
        world.settle()
        world.judge()
        wrong.extend(model.expect(world))

    try:
        s.run(main)
    except Stuck as stuck:
        wrong.append(str(stuck))
    return wrong


@cache
def _start(name: str, max_entries: int, can_replace: bool) -> Start:
    """Played once; each schedule takes it from here."""
    s = scheduler(Again({}))
    found: list[Start] = []

    def main() -> None:
        world = World(s, Start(Snapshot(SYMBOL)), rules(max_entries, can_replace), [])
        for operation in STARTS[name]:
            operation(world)
        found.append(world.as_start())

    s.run(main)
    return found[0]
