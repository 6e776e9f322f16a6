"""Makes a failing run small before a person sees it: fewer accidents, fewer switches of threads, the same invariant broken.

Delta debugging (Zeller, 2002) over both lists. What remains is all that matters: without any one of it the run is good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from simulation.recipe import Recipe, Trace
from simulation.run import Outcome, Setting, run

T = TypeVar("T")
TRIES = 400  # runs spent on one failure


class _Shrinker:
    def __init__(self, of: Setting, invariant: str, tries: int) -> None:
        self._of, self._invariant, self._left = of, invariant, tries
        self.best: Outcome | None = None

    def fails(self, recipe: Recipe) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        outcome = run(self._of, recipe)
        failed = bool(outcome.violations) and outcome.violations[0].invariant == self._invariant
        if failed:
            self.best = outcome
        return failed


def shrink(of: Setting, failed: Outcome, tries: int = TRIES) -> Trace:
    """The smallest run found that breaks the same invariant. It is `failed` itself where nothing could be taken away."""
    first = failed.violations[0]
    shrinker = _Shrinker(of, first.invariant, tries)
    recipe = msgspec.structs.replace(failed.recipe, accidents=failed.struck, switches=failed.switches)
    if not shrinker.fails(recipe):
        return Trace(first.invariant, f"{first.symbol} {first.text}".strip(), first.step, failed.recipe)
    plainly = msgspec.structs.replace(recipe, switches=())
    recipe = plainly if shrinker.fails(plainly) else recipe

    def with_accidents(accidents: Sequence[object]) -> Recipe:
        return msgspec.structs.replace(recipe, accidents=tuple(accidents))

    accidents = fewest(list(recipe.accidents or ()), lambda part: shrinker.fails(with_accidents(part)))
    recipe = with_accidents(accidents)
    switches = [(life, step, name) for life, steps in enumerate(recipe.switches or ()) for step, name in steps.items()]
    lives = len(recipe.switches or ())

    def with_switches(part: Sequence[tuple[int, int, str]]) -> Recipe:
        by_life = tuple({step: name for life, step, name in part if life == number} for number in range(lives))
        return msgspec.structs.replace(recipe, switches=by_life)

    recipe = with_switches(fewest(switches, lambda part: shrinker.fails(with_switches(part))))
    assert shrinker.best is not None
    worst = shrinker.best.violations[0]
    return Trace(worst.invariant, f"{worst.symbol} {worst.text}".strip(), worst.step, recipe)


def fewest(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """A part of `items` that still fails and of which nothing can be left out, as far as `fails` is willing to try."""
    if not items or fails([]):
        return []
    chunk = max(len(items) // 2, 1)
    while True:
        at = 0
        while at < len(items):
            without = items[:at] + items[at + chunk :]
            if without and fails(without):
                items = without
            else:
                at += chunk
        if chunk == 1:
            return items
        chunk = max(chunk // 2, 1)
