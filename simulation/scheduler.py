"""Real threads, one baton: whoever holds it runs, everybody else stands still. The clock and thread seams of a simulated run.

Every lock, event, condition and wait of ours is a *step*: there the policy says who goes on. Time is virtual and moves only when
everybody waits. So the same seed and policy make the same run, on every Python and system. Knows nothing of trading.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import ceil
from typing import NoReturn, Protocol

from simulation.primitives import Crashed, SimCondition, SimEvent, SimLock, Task
from state.threads import Event, Threads

OFTEN = 200_000  # steps without the clock moving on: a livelock


class Stuck(Exception):
    """A deadlock or a livelock. The text names who waits for what."""


class Policy(Protocol):
    """`switches`: where it went another way than to go on, step by step."""

    switches: dict[int, str]

    def choose(self, step: int, ready: list[Task], present: Task) -> Task:
        """Who goes on: one of `ready` (two or more). `present` has come here; it is not among them when it waits or has ended."""


class Outside(Protocol):
    """What goes on beside the process: prices, the venue, the network. It acts between steps, when time moves on."""

    def next_ms(self) -> int | None:
        """When it wants to act next, monotonic; None: never again."""

    def act(self, mono_ms: int) -> None:
        """Everything that is due by then."""


class Scheduler:
    """Clock and Threads of one simulated process; `lend` runs a function on some thread. `run` it once."""

    def __init__(
        self,
        policy: Policy,
        lend: Callable[[Callable[[], None]], None],
        *,
        origin_ms: int = 0,
        speed: float = 1.0,
        chance: Callable[[], float] = lambda: 0.5,
        outside: Outside | None = None,
        mono_ms: int = 0,
    ) -> None:
        self.threads: Threads = self
        self.speed, self.lend, self.chance = speed, lend, chance
        self.tasks: list[Task] = []
        self.steps = self._moved_on = 0
        self.crashed = False
        self.stuck: str | None = None
        self.on_step: Callable[[], None] | None = None
        self._policy, self._outside, self.mono_ms, self._origin_ms = policy, outside, mono_ms, origin_ms
        self._ended = threading.Lock()
        self.present = Task(self, "nobody", lambda: None)

    def run(self, body: Callable[[], None]) -> None:
        """`body` on the thread "main". Returns when every thread has ended; they all do when main has, as in a process."""
        self._ended.acquire()
        main = self.present = Task(self, "main", body)
        main.begin()
        main.baton.release()
        self._ended.acquire()
        if self.stuck is not None:
            raise Stuck(self.stuck)
        if main.error is not None:
            raise main.error

    def crash(self) -> NoReturn:
        """kill -9, here and now: every thread unwinds at its next step and does nothing more."""
        self.crashed = True
        raise Crashed

    # -- the seams -----------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._origin_ms + int(self.mono_ms * self.speed)

    def set_clock(self, by_ms: int) -> None:
        """Somebody corrects the machine's clock; monotonic time does not know."""
        self._origin_ms += by_ms

    def monotonic_ms(self) -> int:
        return self.mono_ms

    def wait(self, event: Event, timeout_s: float) -> bool:
        return event.wait(timeout_s)

    def lock(self) -> SimLock:
        return SimLock(self)

    def rlock(self) -> SimLock:
        return SimLock(self, again=True)

    def event(self) -> SimEvent:
        return SimEvent(self)

    def condition(self) -> SimCondition:
        return SimCondition(self)

    def thread(self, name: str, body: Callable[[], None]) -> Task:
        return Task(self, name, body)

    def current(self) -> str:
        return self.present.name

    # -- the baton -----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Somebody else may go on here."""
        self._pass_on(self.present)

    def block(self, on: object, timeout_s: float | None) -> None:
        """Stand still until `wake(on)`, or for so many virtual seconds at most."""
        me = self.present
        me.waits_for = on
        me.until_ms = None if timeout_s is None else self.mono_ms + max(ceil(timeout_s * 1000), 1)
        self._pass_on(me)

    def sleep(self, ms: int) -> None:
        """For what is slow: a venue, a disk, a stalled thread."""
        if ms > 0:
            self.block(self, ms / 1000)

    def wake(self, on: object) -> None:
        for task in self.tasks:
            if task.waits_for is on:
                task.waits_for = task.until_ms = None

    def leave(self, task: Task) -> None:
        """A thread has ended, and with main the process."""
        task.over = True
        self.tasks.remove(task)
        self.wake(task)
        self.crashed = self.crashed or task.name == "main"
        if not self.tasks:
            self._ended.release()
            return
        self.present = self._next(task)
        self.present.baton.release()

    def _pass_on(self, me: Task) -> None:
        if self.crashed:
            raise Crashed
        self.steps += 1
        if self.on_step is not None:
            self.on_step()
        chosen = self._next(me)
        if chosen is not me:
            self.present = chosen
            chosen.baton.release()
            me.baton.acquire()
        if self.crashed:
            raise Crashed

    def _next(self, me: Task) -> Task:
        ready = [task for task in self.tasks if task.waits_for is None]
        while not ready and not self.crashed:
            self._let_time_pass()
            ready = [task for task in self.tasks if task.waits_for is None]
        if not self.crashed and self.steps - self._moved_on > OFTEN:
            self._give_up("livelock")
        if self.crashed:
            return self.tasks[0] if me.over else me  # one after the other unwinds
        return ready[0] if len(ready) == 1 else self._policy.choose(self.steps, ready, me)

    def _let_time_pass(self) -> None:
        ends = [task.until_ms for task in self.tasks if task.until_ms is not None]
        if not ends:
            return self._give_up("deadlock")
        outside_ms = None if self._outside is None else self._outside.next_ms()
        next_ms = min(ends) if outside_ms is None else min(outside_ms, *ends)
        self.mono_ms, self._moved_on = max(self.mono_ms, next_ms), self.steps
        if self._outside is not None:
            self._outside.act(self.mono_ms)
        for task in self.tasks:
            if task.until_ms is not None and task.until_ms <= self.mono_ms:
                task.waits_for = task.until_ms = None
        return None

    def _give_up(self, what: str) -> None:
        waits = "; ".join(f"{task.name} waits for {_words(task.waits_for)}" for task in self.tasks)
        self.stuck, self.crashed = f"{what}: {waits}", True


def _words(waits_for: object | None) -> str:
    holder = getattr(waits_for, "holder", None)
    name = "its turn" if waits_for is None else type(waits_for).__name__
    return f"{name} held by {holder.name}" if holder is not None else name
