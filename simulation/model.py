"""Breadth-first model check of the decision core: every order of events that a configuration allows, each state once.

`python tasks.py model --json`. A state is the machine's snapshot, the venue's truth, everything on its way between the two, and the
faults still to come. Safety is checked in every state; that everything ends well is checked by following from every state the one
path on which no further fault strikes. The first violation found is the shortest: breadth first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, NamedTuple

from simulation.model_core import Cmd, load
from simulation.model_settings import LARGE, SMALL
from simulation.model_venue import Broken, Setting, State, VenueOrder, World, describe

MOST_STATES = 2_000_000
UNPROTECTED_BEATS = 8  # I4: longest way back to protection once the faults are over


class Result(NamedTuple):
    name: str
    states: int
    transitions: int
    depth: int
    violations: list[dict[str, Any]]
    wall_s: float
    exhausted: bool
    unprotected_beats: int = 0


class Search:
    def __init__(self, core: SimpleNamespace, setting: Setting, budget_s: float = 600.0, most: int = MOST_STATES) -> None:
        self.world = World(core, setting)
        self.setting = setting
        self._until = time.monotonic() + budget_s
        self._most = most
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._came: list[tuple[int, Any]] = []  # from which state, by what
        self._fair: list[int] = []
        self.transitions = 0
        self.depth = 0
        self.exhausted = True
        self.worst = 0

    def run(self) -> Result:
        began = time.monotonic()
        try:
            violation = self._search()
            if violation is None and self.exhausted:
                violation = self._follow()
        except _Found as found:
            violation = found.violation
        return Result(
            self.setting.name,
            len(self._states),
            self.transitions,
            self.depth,
            [violation] if violation else [],
            round(time.monotonic() - began, 2),
            self.exhausted,
            self.worst,
        )

    def _add(self, state: State, origin: int, step: Any) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
            self._came.append((origin, step))
            self._fair.append(-1)
            try:
                self.world.check(state)
            except Broken as broken:
                raise _Found(self._violation(str(broken), number)) from None
        return number

    def _search(self) -> dict[str, Any] | None:
        self._add(self.world.start(), -1, ("start",))
        index, layer_ends = 0, 1
        while index < len(self._states):
            if index == layer_ends:
                self.depth += 1
                layer_ends = len(self._states)
                if time.monotonic() > self._until or len(self._states) > self._most:
                    self.exhausted = False
                    return None
            try:
                self._expand(index)
            except Broken as broken:
                return self._violation(str(broken), index)
            index += 1
        return None

    def _expand(self, index: int) -> None:
        state, fair = self._states[index], -1
        for step, after in self.world.steps(state):
            if after is state or after == state:
                continue
            self.transitions += 1
            number = self._add(after, index, step)
            if fair < 0:
                fair = number
        self._fair[index] = fair

    def _follow(self) -> dict[str, Any] | None:
        """From every state along the fair path: it ends, it ends well, and protection is back in time."""
        beats: dict[int, int] = {}  # state -> beats without protection from here on
        for start in range(len(self._states)):
            path, seen, at = [], set(), start
            while at not in beats and not self._at_rest(at):
                if at in seen:
                    return self._violation("I12 never comes to rest", start, path[path.index(at) :])
                seen.add(at)
                path.append(at)
                at = self._fair[at]
            if at not in beats:
                try:
                    self.world.check_rest(self._states[at])
                except Broken as broken:
                    return self._violation(str(broken), start, [*path, at])
                beats[at] = 0
            for one in reversed(path):
                count = beats[self._fair[one]] + (self._is_beat(one) and self.world.unprotected(self._states[one]))
                beats[one] = count
                if count > UNPROTECTED_BEATS:
                    return self._violation(f"I4 unprotected for {count} beats", one, [])
            self.worst = max(self.worst, beats[start])
        return None

    def _at_rest(self, number: int) -> bool:
        """Nothing but faults, prices and people can move it: its first step forward is not one of the fair ones."""
        state = self._states[number]
        return not any(after != state for step, after in self.world.fair_steps(state))

    def _is_beat(self, number: int) -> bool:
        return self._states[number] != self._states[self._fair[number]] and self._came_by_beat(number)

    def _came_by_beat(self, number: int) -> bool:
        state = self._states[number]
        step = next(step for step, after in self.world.fair_steps(state) if after != state)
        return step[0] == "a heartbeat later"

    # -- telling ---------------------------------------------------------------------------------------------------------------

    def _violation(self, text: str, number: int, then: list[int] | None = None) -> dict[str, Any]:
        steps = []
        at = number
        while at >= 0:
            origin, step = self._came[at]
            steps.append(_words(step))
            at = origin
        trace = steps[::-1]
        if then:
            trace.append("-- from here no further fault:")
            for one in then:
                step = next((s for s, after in self.world.fair_steps(self._states[one]) if after != self._states[one]), None)
                if step is not None:
                    trace.append(_words(step))
        return {"configuration": self.setting.name, "invariant": text.split()[0], "text": text, "trace": trace}


class _Found(Exception):
    def __init__(self, violation: dict[str, Any]) -> None:
        super().__init__(violation["text"])
        self.violation = violation


def _words(step: Any) -> str:
    return " ".join(_word(part) for part in step)


def _word(part: Any) -> str:
    if isinstance(part, Cmd | VenueOrder):
        return describe(part)
    if isinstance(part, tuple) and part and isinstance(part[0], Cmd):
        return ", ".join(describe(command) for command in part)
    return str(part)
