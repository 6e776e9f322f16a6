"""Every accident of a simulated run: asked at each opportunity, answered from the seed, remembered when the answer was yes.

Each kind has a stream of its own, and what an accident looks like depends only on its kind and number. So taking one accident
out of a trace leaves all others as they were. Knows nothing of what the kinds mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

import msgspec


def seeded(name: str) -> Callable[[], float]:
    """Numbers from 0 to below 1, the same for the same name on every Python and system."""
    return Random(name).random


class Fate(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One accident: the n-th opportunity of its kind, counted from 0."""

    kind: str
    nth: int


class Kind(msgspec.Struct, frozen=True):
    """`words`: what happens, for people. `rate`: how probable it usually is at each opportunity."""

    words: str
    rate: float


class Fates:
    """`rates`: kind -> probability at each opportunity; kinds not named never strike. `only`: of a trace, what may strike."""

    def __init__(self, seed: str, rates: Mapping[str, float], only: frozenset[Fate] | None = None) -> None:
        self._seed, self._rates, self._only = seed, rates, only
        self._streams = {kind: Random(f"{seed}/{kind}").random for kind in sorted(rates)}
        self._asked: Counter[str] = Counter()
        self._sizes: Random = Random(0)
        self.struck: list[Fate] = []
        self.over = False  # the last fault has been: from now on all goes well

    def strikes(self, kind: str) -> bool:
        """Does it happen, here and now?"""
        rate = self._rates.get(kind)
        if not rate or self.over:
            return False
        nth = self._asked[kind]
        self._asked[kind] = nth + 1
        if self._streams[kind]() >= rate:
            return False
        fate = Fate(kind, nth)
        if self._only is not None and fate not in self._only:
            return False
        self.struck.append(fate)
        self._sizes = Random(f"{self._seed}/{kind}/{nth}")
        return True

    def amount(self, low: int, high: int) -> int:
        """How much, of what has just struck: from `low` to `high`, both possible."""
        return low + int(self._sizes.random() * (high - low + 1))

    def pick(self, choices: list[str]) -> str:
        """Which, of what has just struck."""
        return choices[self.amount(0, len(choices) - 1)]

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(fate.kind for fate in self.struck).items()))
