"""Breadth-first model check of the decision core: every order of events that a configuration allows, each state once.

`python tasks.py model --json`. A state is the machine's snapshot, the venue's truth, everything on its way between the two, and
the faults still to come. Safety is checked in every state. That everything ends well is checked by following, from every state,
the one path on which no further fault strikes. The first violation found is the shortest: breadth first.
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

from simulation.model_core import Cmd
from simulation.model_load import load
from simulation.model_settings import ALL, LARGE, SMALL
from simulation.model_state import BEAT_STEP, Broken, Setting, State, VenueOrder, describe
from simulation.model_venue import World
from simulation.mutants import MUTANTS

NOWHERE = -1
FIRST_FOLLOW = 500  # states
REST_BEATS = 12  # I12: longest way to rest once the faults are over
UNPROTECTED_BEATS = 6  # I4: longest way back to protection once the faults are over (the settle window is half of it)
CALM_BEATS = 1  # and when there never was one


class Result(NamedTuple):
    name: str
    states: int
    transitions: int
    depth: int
    violations: list[dict[str, Any]]
    wall_s: float
    exhausted: bool
    rest_beats: int = 0
    unprotected_beats: int = 0


class Search:
    def __init__(self, core: SimpleNamespace, setting: Setting, budget_s: float = 600.0) -> None:
        self.world = World(core, setting)
        self.setting = setting
        self._until = time.monotonic() + budget_s
        self._calm = self.world.start().left
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._came: list[tuple[int, Any]] = []  # from which state, by what
        self._fair: list[int] = []  # of expanded states: where the fair step leads
        self._beat: list[bool] = []  # ... and whether that takes a heartbeat
        self._ends: dict[int, tuple[int, int]] = {}  # beats from here to rest, and how many of them unprotected
        self.transitions = self.depth = self.beats = self.unprotected = 0
        self.exhausted = True

    def run(self) -> Result:
        began = time.monotonic()
        try:
            self._search()
            self._follow()
            violations = []
        except _Found as found:
            violations = [found.violation]
        wall_s = round(time.monotonic() - began, 2)
        count = len(self._states)
        return Result(
            self.setting.name,
            count,
            self.transitions,
            self.depth,
            violations,
            wall_s,
            self.exhausted,
            self.beats,
            self.unprotected,
        )

    def _search(self) -> None:
        """Layer by layer. Where the states found so far end up is looked at each time their number has doubled."""
        self._add(self.world.start(), -1, ("start",))
        layer_ends, follow_at = 1, FIRST_FOLLOW
        while len(self._fair) < len(self._states):
            if len(self._fair) == layer_ends:
                self.depth += 1
                layer_ends = len(self._states)
                if len(self._fair) >= follow_at:
                    self._follow()
                    follow_at = 2 * len(self._fair)
                if time.monotonic() > self._until:
                    self.exhausted = False
                    return
            self._expand(len(self._fair))

    def _expand(self, index: int) -> None:
        state, fair, is_beat = self._states[index], NOWHERE, False
        try:
            for step, after in self.world.fair_steps(state):
                if after != state:
                    number = self._add(after, index, step)
                    if fair == NOWHERE:
                        fair, is_beat = number, step[0] == BEAT_STEP
            for step, after in self.world.other_steps(state):
                if after != state:
                    self._add(after, index, step)
        except Broken as broken:
            raise _Found(self._violation(str(broken), index)) from None
        self._fair.append(fair)
        self._beat.append(is_beat)

    def _add(self, state: State, origin: int, step: Any) -> int:
        self.transitions += 1
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
            self._came.append((origin, step))
            try:
                self.world.checks.everywhere(state)
            except Broken as broken:
                raise _Found(self._violation(str(broken), number)) from None
        return number

    # -- where it all ends -------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """From every state on along the fair steps: they end, they end well, and in time."""
        for start in range(len(self._fair)):
            path: list[int] = []
            seen, at = set(), start
            while at < len(self._fair) and at not in self._ends and self._fair[at] != NOWHERE:
                if at in seen:
                    raise _Found(self._violation("I12 never comes to rest", start, path))
                seen.add(at)
                path.append(at)
                at = self._fair[at]
            if at >= len(self._fair):
                continue  # not that far yet
            if at not in self._ends:
                self._rest(start, path, at)
            for one in reversed(path):
                self._measure(one)

    def _rest(self, start: int, path: list[int], at: int) -> None:
        try:
            self.world.checks.at_rest(self._states[at])
        except Broken as broken:
            raise _Found(self._violation(str(broken), start, path)) from None
        self._ends[at] = (0, 0)

    def _measure(self, number: int) -> None:
        """Beats until rest, and beats without protection on the way."""
        beats, bare = self._ends[self._fair[number]]
        if self._beat[number]:
            beats, bare = beats + 1, bare + self.world.checks.unprotected(self._states[number])
        self._ends[number] = (beats, bare)
        self.beats, self.unprotected = max(self.beats, beats), max(self.unprotected, bare)
        if beats > REST_BEATS:
            raise _Found(self._violation(f"I12 takes {beats} beats to come to rest", number, self._way(number)))
        if bare > (CALM_BEATS if self._states[number].left == self._calm else UNPROTECTED_BEATS):
            raise _Found(self._violation(f"I4 unprotected for {bare} beats", number, self._way(number)))

    def _way(self, number: int) -> list[int]:
        way = []
        while self._fair[number] != NOWHERE:
            way.append(number)
            number = self._fair[number]
        return way

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


# -- all of it -----------------------------------------------------------------------------------------------------------------


def check(name: str, mutant: str | None = None, budget_s: float = 600.0) -> Result:
    """One configuration, against the real core or a broken one. Top level, so that another process can be asked."""
    setting = next(setting for setting in ALL if setting.name == name)
    return Search(_core(mutant), setting, budget_s).run()


def _core(mutant: str | None) -> SimpleNamespace:
    if mutant is None:
        return load()
    broken = next(one for one in MUTANTS if one.name == mutant)
    return load({broken.module: [(broken.old, broken.new)]})


def hunt(mutant: str, budget_s: float = 60.0) -> dict[str, Any]:
    """Look for a violation of a broken machine where it is likeliest."""
    broken = next(one for one in MUTANTS if one.name == mutant)
    for name in broken.settings:
        result = check(name, mutant, budget_s)
        if result.violations:
            found = result.violations[0]
            by = {"configuration": name, "states": result.states, "steps": len(found["trace"]) - 1, "by": found["text"]}
            return {"name": mutant, "caught": True, **by}
    return {"name": mutant, "caught": False}


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    began = time.monotonic()
    sizes = {"small": SMALL, "large": LARGE, "all": ALL}
    names = [setting.name for setting in sizes[options.size] if options.only in (None, setting.name)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        hunted = pool.map(hunt, [mutant.name for mutant in MUTANTS]) if options.mutants else ()
        results = list(pool.map(check, names, [None] * len(names), [options.budget_s] * len(names)))
        table = list(hunted)
    report = _report(results, table, time.monotonic() - began)
    print(json.dumps(report, indent=1) if options.json else _told(report))
    survived = len(table) - report["mutants"]["caught"]
    return 1 if report["violations"] or survived else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tasks.py model", description="Model check of the decision core.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--size", choices=("small", "large", "all"), default="all")
    parser.add_argument("--only", metavar="NAME", help="just this configuration")
    parser.add_argument("--mutants", action=argparse.BooleanOptionalAction, default=True, help="also hunt the broken machines")
    parser.add_argument("--budget-s", type=float, default=600.0, help="seconds for one configuration; what is cut off is told")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    return parser.parse_args(argv)


def _report(results: list[Result], table: list[dict[str, Any]], wall_s: float) -> dict[str, Any]:
    return {
        "states": sum(result.states for result in results),
        "configurations": [result._asdict() | {"violations": len(result.violations)} for result in results],
        "violations": [violation for result in results for violation in result.violations],
        "mutants": {"total": len(table), "caught": sum(one["caught"] for one in table), "table": table},
        "wall_s": round(wall_s, 1),
    }


def _told(report: dict[str, Any]) -> str:
    lines = []
    for one in report["configurations"]:
        cut = "" if one["exhausted"] or one["violations"] else "  CUT OFF: not every state was seen"
        lines.append(f"{one['states']:>9,} states {one['depth']:>3} deep {one['wall_s']:>7.1f} s  {one['name']}{cut}")
    for violation in report["violations"]:
        lines += ["", f"VIOLATION in {violation['configuration']}: {violation['text']}", *(f"  {x}" for x in violation["trace"])]
    for one in report["mutants"]["table"]:
        lines.append(
            f"{'caught  ' if one['caught'] else 'SURVIVED'}  {one['name']}" + (f": {one['by']}" if one["caught"] else "")
        )
    lines.append(
        f"{report['states']:,} states, {len(report['violations'])} violations, mutants caught {report['mutants']['caught']}"
        f" of {report['mutants']['total']}, {report['wall_s']} s"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
