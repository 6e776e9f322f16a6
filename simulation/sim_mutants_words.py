"""What a mutant of the whole simulation is."""

from __future__ import annotations

from typing import NamedTuple

from simulation.breakage import Edit


class Mutant(NamedTuple):
    """`rows` of SCENARIOS; `expected`: the invariants one of which must break within `sessions`.

    `often`: what it takes is rare, so these kinds of faults strike ten times as often as usual in its sessions, and no others.
    """

    name: str
    rows: str
    edits: tuple[Edit, ...]
    expected: tuple[str, ...]
    sessions: int = 300
    often: tuple[str, ...] = ()
