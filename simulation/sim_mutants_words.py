"""What a mutant of the whole simulation is."""

from __future__ import annotations

from typing import NamedTuple

from simulation.breakage import Edit


class Mutant(NamedTuple):
    """`rows` of SCENARIOS; `expected`: the invariants one of which must break within `sessions`."""

    name: str
    rows: str
    edits: tuple[Edit, ...]
    expected: tuple[str, ...]
    sessions: int = 300
