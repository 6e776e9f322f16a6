"""The fault dial: decides which fault strikes at which occasion, and writes each strike down.

Owns counters, seeded chances and windows; carries nothing out. One thread: the venue's event loop. Equal scripts, seeds and
occasions strike alike: every fault draws from its own generator, once per occasion that fits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from brokers.practice_fault_kinds import Fault, Where
from brokers.practice_truth import Record, Strike, purpose_of
from state.clock import SystemClock

_LASTING = (Where.REQUEST, Where.UPDATE, Where.PRICE)  # elsewhere `lasts` is a matter of the fault itself


class Occasion(NamedTuple):
    """What a fault's filters look at. Empty where the moment does not say."""

    path: str
    symbol: str = ""
    side: str = ""
    label: str = ""
    detail: str = ""


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    chance: Random
    seen: int = 0
    struck: int = 0
    until_ms: int = -1  # monotonic: it still lasts
    symbols_timed: set[str] = field(default_factory=set)


class Hit(NamedTuple):
    """A fault that strikes now."""

    fault: Fault
    strike: Strike
    armed: _Armed


class Dial:
    """`now_ms` is session time; `open_ms` the open that windows count from."""

    def __init__(self, faults: Iterable[Fault], seed: int, open_ms: int, now_ms: Callable[[], int], record: Record) -> None:
        self._open_ms = open_ms
        self._now_ms = now_ms
        self._record = record
        self._clock = SystemClock()
        self._armed: dict[Where, list[_Armed]] = {}
        self._just_lied: set[tuple[Where, str]] = set()
        for index, fault in enumerate(faults):
            armed = _Armed(fault, Random(f"{seed}/{fault.seed}/{index}"))
            self._armed.setdefault(fault.rule.where, []).append(armed)

    def has(self, where: Where) -> bool:
        return where in self._armed

    def faults(self, where: Where) -> list[Fault]:
        return [armed.fault for armed in self._armed.get(where, ())]

    def strike(self, where: Where, occasion: Occasion, kind: str = "") -> Hit | None:
        """The one fault that strikes here; the script's order decides between several."""
        ready = self._ready(where, occasion, kind)
        return self._hit(ready[0], occasion) if ready else None

    def strikes(self, where: Where, occasion: Occasion) -> list[Hit]:
        """All that strike here, for moments that take several."""
        return [self._hit(armed, occasion) for armed in self._ready(where, occasion, "")]

    def strike_rows(self, where: Where, kind: str, rows: Sequence[Occasion]) -> tuple[Hit, list[int]] | None:
        """For an answer of many rows, which is one occasion: the fault and the places of the rows it fits.

        A fault left to chance never lies twice running: a lie told twice is not to be told from the truth.
        """
        just_lied = (where, kind) in self._just_lied
        self._just_lied.discard((where, kind))
        for armed in self._armed.get(where, ()):
            if armed.fault.kind == kind:
                fitting = [place for place, row in enumerate(rows) if self._fits(armed.fault, row)]
                if fitting and self._due(armed) and not (just_lied and armed.fault.probability is not None):
                    self._just_lied.add((where, kind))
                    return self._hit(armed, rows[fitting[0]]), fitting
        return None

    def opened(self, where: Where, symbol: str) -> bool:
        """Whether a fault with a window waits for its first moment in this symbol, which is now; true once per window."""
        found = False
        for armed in self._armed.get(where, ()):
            fault = armed.fault
            wanted = fault.from_ms is not None and fault.symbol in ("", symbol) and symbol not in armed.symbols_timed
            if wanted and self._in_window(fault):
                armed.symbols_timed.add(symbol)
                found = True
        return found

    def withdraw(self, hit: Hit) -> None:
        """There was nothing to strike: as if it had not."""
        hit.armed.struck -= 1
        self._record.withdraw(hit.strike)

    def note(self, hit: Hit, detail: str) -> None:
        """Say what it did."""
        hit.strike.detail = detail

    def _ready(self, where: Where, occasion: Occasion, kind: str) -> list[_Armed]:
        ready = []
        for armed in self._armed.get(where, ()):
            if kind in ("", armed.fault.kind) and self._fits(armed.fault, occasion) and self._due(armed):
                ready.append(armed)
        return ready

    def _fits(self, fault: Fault, occasion: Occasion) -> bool:
        return (
            (not fault.paths or not occasion.path or occasion.path in fault.paths)
            and fault.symbol in ("", occasion.symbol)
            and fault.side in ("", occasion.side)
            and fault.purpose in ("", purpose_of(occasion.label))
            and self._in_window(fault)
        )

    def _in_window(self, fault: Fault) -> bool:
        at_ms = self._now_ms() - self._open_ms
        return (fault.from_ms is None or at_ms >= fault.from_ms) and (fault.until_ms is None or at_ms < fault.until_ms)

    def _due(self, armed: _Armed) -> bool:
        fault = armed.fault
        if self._clock.monotonic_ms() < armed.until_ms:
            return True
        armed.seen += 1
        chance = fault.probability is None or armed.chance.random() < fault.probability  # drawn always: the order must not matter
        return chance and armed.seen >= fault.nth and (fault.most == 0 or armed.struck < fault.most)

    def _hit(self, armed: _Armed, occasion: Occasion) -> Hit:
        fault, now_ms = armed.fault, self._clock.monotonic_ms()
        if now_ms >= armed.until_ms:
            armed.struck += 1
            if fault.rule.where in _LASTING:
                armed.until_ms = now_ms + int(fault.lasts_s * 1000)
        strike = Strike(fault.kind, self._now_ms(), occasion.path, occasion.symbol, occasion.detail, label=occasion.label)
        self._record.strike(strike)
        return Hit(fault, strike, armed)
