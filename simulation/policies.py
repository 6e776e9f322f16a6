"""Who goes on at a step: at random, by priorities, as a trace says, or every way there is with few preemptions.

Each remembers in `switches` where it went another way than plain: plain is to go on, and when one cannot, the first in line.
That is what a trace keeps of a schedule, and what shrinking takes from it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from random import Random

from simulation.primitives import Task
from simulation.scheduler import Policy, Scheduler


def plain(ready: list[Task], present: Task) -> Task:
    return present if present in ready else ready[0]


class AtRandom:
    """Another thread with probability `often` at each step."""

    def __init__(self, seed: str, often: float) -> None:
        self._random, self._often = Random(seed).random, often
        self.switches: dict[int, str] = {}

    def choose(self, step: int, ready: list[Task], present: Task) -> Task:
        usual = plain(ready, present)
        if self._random() >= self._often:
            return usual
        chosen = ready[int(self._random() * len(ready))]
        if chosen is not usual:
            self.switches[step] = chosen.name
        return chosen


class Pct:
    """Priorities drawn once, lowered at a few steps: finds bugs of small depth with known odds (Burckhardt et al., 2010)."""

    def __init__(self, seed: str, depth: int, length: int) -> None:
        self._random = Random(seed).random
        self._changes = {int(self._random() * length): -1 - n for n in range(depth)}
        self._priority: dict[Task, float] = {}
        self.switches: dict[int, str] = {}

    def choose(self, step: int, ready: list[Task], present: Task) -> Task:
        for task in ready:
            if task not in self._priority:
                self._priority[task] = self._random()
        if self._changes and step >= min(self._changes):
            self._priority[present] = self._changes.pop(min(self._changes))
        chosen = max(ready, key=self._priority.__getitem__)
        if chosen is not plain(ready, present):
            self.switches[step] = chosen.name
        return chosen


class Again:
    """As a trace says. A thread that is not ready there is passed over, so that a shortened trace still runs."""

    def __init__(self, switches: Mapping[int, str]) -> None:
        self.switches = dict(switches)

    def choose(self, step: int, ready: list[Task], present: Task) -> Task:
        name = self.switches.get(step)
        return next((task for task in ready if task.name == name), None) or plain(ready, present)


class _Guided:
    """Follows `path` (an index at each choice), then goes plainly on; remembers how many ways each choice had."""

    def __init__(self, path: list[int]) -> None:
        self._path = path
        self.taken: list[tuple[int, int, bool]] = []  # way, how many ways, does another way preempt
        self.switches: dict[int, str] = {}

    def choose(self, step: int, ready: list[Task], present: Task) -> Task:
        preempts = present in ready
        usual = present if preempts else ready[0]
        way = self._path[len(self.taken)] if len(self.taken) < len(self._path) else 0
        self.taken.append((way, len(ready), preempts))
        if not way:
            return usual
        chosen = [task for task in ready if task is not usual][way - 1]
        self.switches[step] = chosen.name
        return chosen


def every_way(preemptions: int) -> Iterator[Policy]:
    """Each schedule with at most so many preemptions, once; the caller runs each before asking for the next (Musuvathi, 2007)."""
    path: list[int] = []
    while True:
        guided = _Guided(path)
        yield guided
        taken = guided.taken
        spent = sum(1 for way, _, preempts in taken if way and preempts)
        while taken:
            way, ways, preempts = taken.pop()
            spent -= bool(way and preempts)
            if way + 1 < ways and (not preempts or spent < preemptions):
                path = [taken_way for taken_way, _, _ in taken] + [way + 1]
                break
        else:
            return


class Hands:
    """Threads that are used again and again: starting one costs more than a whole small schedule."""

    def __init__(self) -> None:
        self._idle: deque[_Hand] = deque()

    def lend(self, body: Callable[[], None]) -> None:
        hand = self._idle.pop() if self._idle else _Hand(self._idle)
        hand.do(body)


class _Hand:
    def __init__(self, idle: deque[_Hand]) -> None:
        self._idle = idle
        self._go = threading.Lock()
        self._go.acquire()
        self._body: Callable[[], None] = lambda: None
        threading.Thread(target=self._run, daemon=True).start()

    def do(self, body: Callable[[], None]) -> None:
        self._body = body
        self._go.release()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            self._body()
            self._idle.append(self)


HANDS = Hands()


def scheduler(policy: Policy, **options: float) -> Scheduler:
    """One that borrows the threads of this process."""
    return Scheduler(policy, HANDS.lend, **options)  # type: ignore[arg-type]
