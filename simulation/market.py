"""A made-up market for a simulated session: lively price paths around the levels that a strategy waits for.

Owns the prices and their times. Equal seeds give equal prints on every Python and system. Knows no order and no runner: what
could happen to a position is arranged by where the path goes, in ticks from the interesting level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from random import Random

import msgspec

from simulation.world import Print
from state.instrument import Instrument

OPENING = 0.13  # share of the session in which the opening is played: inside the trigger window of 80-20 ...
OPENING_PRINTS = 0.45  # ... and its share of the prints
ARMS = 0.95  # how often the opening reaches an entry
RISES = 0.4  # how often the last of these is the beginning of a day that goes up to the close
FAR = 160  # ticks from the level at which a trend turns back
LARGEST_STEP = Decimal("0.1")  # of the level, but for what is wild: the feed believes less than twice of it
QUIET_END = 0.3  # share of the prints before the close without a halt: exits can fill
DECIDING = (0, -10, 10, -20, 20, -30, -1, 1, -11, -21)  # ticks from the level where triggers, entries and stops use to lie


class Step(msgspec.Struct, frozen=True):
    """One print to come: how long after the one before (about 1000 as a rule), where, how many lots an order may have of it."""

    wait: int  # whole: the sum of floats is not the same on every Python
    offset: int
    lots: int | None = None


class Path:
    """The path of one symbol as it is drawn. `at`: where it is, in ticks from the level."""

    def __init__(self, seed: str, at: int, lowest: int, largest_step: int, wild_step: int) -> None:
        self._random = Random(seed).random
        self.at, self._lowest, self._largest, self._wild = at, lowest, largest_step, wild_step
        self.steps: list[Step] = []

    def between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def go(self, offset: int, wait: float = 1.0, lots: int | None = None) -> None:
        """The next print is there, or as far on the way as one step may lead."""
        step = max(-self._largest, min(self._largest, offset - self.at))
        self._print(self.at + step, wait, lots)

    def jump_wildly(self, up: bool) -> None:
        self._print(self.at + (self._wild if up else -self._wild), 1.0, None)

    def walk(self, to: int, prints: int, wait: float = 1.0) -> None:
        """There in so many prints; the last one is exact."""
        start = self.at
        for nth in range(1, prints):
            self.go(start + (to - start) * nth // prints + self.between(-1, 1), wait)
        self.go(to, wait)

    def _print(self, offset: int, wait: float, lots: int | None) -> None:
        self.at = max(offset, self._lowest)
        self.steps.append(Step(int(wait * (400 + 1200 * self._random())), self.at, lots))


Listed = tuple[Decimal, Decimal | None, Instrument]  # where a symbol starts, the level that matters, its grid


def prints(symbols: Mapping[str, Listed], seed: str, length_ms: int, per_symbol: int, start_ms: int = 0) -> list[Print]:
    """So many of each symbol, merged by time: from `start_ms` of the world's time to the close `length_ms` later.

    Steps are bounded far below what the feed takes for an error, but for the rare wild regime.
    """
    made: list[Print] = []
    for symbol, (start, level, instrument) in symbols.items():
        anchor = max(instrument.floor(start if level is None else level), instrument.tick_size)
        path = _path(f"{seed}/{symbol}", start, anchor, instrument)
        opening = _draw(path, per_symbol)
        times = _times(path.steps[:per_symbol], opening, length_ms)
        for step, at_ms in zip(path.steps, times, strict=False):
            available = None if step.lots is None else instrument.lot_size * step.lots
            made.append(Print(start_ms + at_ms, symbol, anchor + instrument.ticks(step.offset), available))
    return sorted(made, key=lambda print_: (print_.at_ms, print_.symbol))


def _path(seed: str, start: Decimal, anchor: Decimal, instrument: Instrument) -> Path:
    tick = instrument.tick_size
    return Path(
        seed,
        at=int((instrument.floor(start) - anchor) / tick),
        lowest=1 - int(anchor / tick),
        largest_step=max(1, int(anchor * LARGEST_STEP / tick)),
        wild_step=int(anchor * Decimal("0.3") / tick),
    )


def _draw(path: Path, prints_: int) -> int:
    """Fills `path.steps`; the number of steps that are the opening."""
    rises = path.chance(RISES)
    opening = int(prints_ * (OPENING_PRINTS * 0.6 if rises else OPENING_PRINTS))
    _open(path, opening)
    last_halt = prints_ - int(prints_ * QUIET_END)
    if rises:
        _arm(path)
        opening = len(path.steps)
        _rise(path, prints_)
    while len(path.steps) < prints_:
        regime = _pick(path, REGIMES)
        if len(path.steps) < last_halt or regime not in (_halt, _wild):
            regime(path)
    return opening


def _times(steps: list[Step], opening: int, length_ms: int) -> list[int]:
    """When each step is printed: the opening in its share of the session, the rest in the rest, the last one at the close."""
    opening_ms = int(length_ms * OPENING)
    return _spread(steps[:opening], 0, opening_ms) + _spread(steps[opening:], opening_ms, length_ms)


def _spread(steps: list[Step], from_ms: int, until_ms: int) -> list[int]:
    whole, passed, times = sum(step.wait for step in steps), 0, list[int]()
    for step in steps:
        passed += step.wait
        times.append(from_ms + (until_ms - from_ms) * passed // whole)
    return times


# -- what markets do -----------------------------------------------------------------------------------------------------------


def _open(path: Path, prints_: int) -> None:
    """The auction, then in most sessions to a trigger, to an entry, to where it ends, and again."""
    if path.chance(0.5):
        path.go(path.at + path.between(-40, 40))
    path.walk(path.at + path.between(-5, 5), path.between(3, 6))
    path.walk(path.between(-4, 4), path.between(1, 4))
    lively = path.chance(ARMS)
    while lively and len(path.steps) < prints_:
        _arm(path)
        _pick(path, AFTER_ENTRY)(path)


def _arm(path: Path) -> None:
    """Below each level at which one could wait to buy, and back above."""
    path.walk(path.between(-14, -10), path.between(1, 3))
    path.go(path.at + path.between(-1, 1), wait=0.6)
    path.walk(path.between(0, 2), path.between(1, 3), wait=0.6)
    path.walk(path.between(10, 14), path.between(1, 3), wait=0.6)


def _lose(path: Path) -> None:
    """Down to where a stop lies, in a few steps or in one."""
    path.walk(path.between(-45, -20), path.between(1, 4))


def _rise(path: Path, prints_: int) -> None:
    """So steadily that no trailed stop is reached: something is still held at the cutoff, if nothing breaks in."""
    while len(path.steps) < prints_ and not path.chance(0.005):
        path.go(path.at + path.between(0, 2), lots=path.between(0, 3) if path.chance(0.05) else None)


def _climb(path: Path) -> None:
    """Fast, so that stops are trailed."""
    for _ in range(path.between(8, 20)):
        path.go(path.at + path.between(-1, 6))


def _trend(path: Path) -> None:
    up = path.at < -FAR or (path.at <= FAR and path.chance(0.55))
    for _ in range(path.between(6, 25)):
        path.go(path.at + path.between(-1, 4) * (1 if up else -1))


def _chop(path: Path) -> None:
    """To and fro across the level."""
    for _ in range(path.between(6, 20)):
        path.go(path.at - path.at // 6 + path.between(-6, 6))


def _drift(path: Path) -> None:
    """Hardly anything happens, and slowly."""
    up = path.chance(0.5)
    for _ in range(path.between(4, 12)):
        path.go(path.at + (1 if up else -1) * path.between(0, 1), wait=1.6)


def _ties(path: Path) -> None:
    """Turns exactly where something is decided, and prints the same price again."""
    for _ in range(path.between(3, 8)):
        offset = DECIDING[path.between(0, len(DECIDING) - 1)]
        for _ in range(path.between(1, 3)):
            path.go(offset, wait=0.6)


def _gap(path: Path) -> None:
    """At once far away, as a rule through a stop."""
    path.go(path.at + (path.between(-80, -22) if path.chance(0.7) else path.between(22, 80)))
    for _ in range(path.between(1, 5)):
        path.go(path.at + path.between(-2, 2))


def _halt(path: Path) -> None:
    """No trade for a while, then somewhere else."""
    path.go(path.at + path.between(-60, 40), wait=float(path.between(3, 10)))


def _spike(path: Path) -> None:
    """One print far off that was real, and back."""
    was = path.at
    path.go(was + path.between(30, 120) * (1 if path.chance(0.4) else -1), wait=0.3)
    path.go(was + path.between(-2, 2), wait=0.3)


def _thin(path: Path) -> None:
    """Little can be had at each price; sometimes nothing."""
    for _ in range(path.between(4, 14)):
        path.go(path.at - path.at // 10 + path.between(-4, 4), lots=path.between(0, 4))


def _wild(path: Path) -> None:
    """A move that must be confirmed before it is believed. It is the market, for a while."""
    up = path.chance(0.5)
    path.jump_wildly(up)
    for _ in range(path.between(2, 6)):
        path.go(path.at + path.between(-3, 3))
    path.jump_wildly(not up)


Regime = Callable[[Path], None]
REGIMES: dict[Regime, int] = {
    _trend: 20,
    _chop: 20,
    _arm: 14,
    _ties: 14,
    _gap: 8,
    _drift: 6,
    _thin: 8,
    _spike: 6,
    _halt: 8,
    _wild: 1,
}
AFTER_ENTRY: dict[Regime, int] = {_lose: 30, _gap: 10, _chop: 15, _ties: 15, _thin: 10, _climb: 20, _spike: 5, _halt: 4}


def _pick(path: Path, weights: Mapping[Regime, int]) -> Regime:
    left = path.between(1, sum(weights.values()))
    for regime, weight in weights.items():
        left -= weight
        if left <= 0:
            return regime
    raise AssertionError("the weights sum up")
