"""What the scheduler hands out: threads, locks, events and conditions that stand still until it says so. Decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import ceil
from types import TracebackType
from typing import Protocol


class Crashed(BaseException):
    """The process is gone: unwinds a thread. Not an Exception, so that nothing of ours catches it."""


class Owner(Protocol):
    """The scheduler, as these need it."""

    tasks: list[Task]
    present: Task
    crashed: bool
    mono_ms: int
    lend: Callable[[Callable[[], None]], None]

    def step(self) -> None: ...
    def block(self, on: object, timeout_s: float | None) -> None: ...
    def wake(self, on: object) -> None: ...
    def leave(self, task: Task) -> None: ...


class Task:
    """One thread. It may go on when `waits_for` is None."""

    def __init__(self, owner: Owner, name: str, body: Callable[[], None]) -> None:
        self.name, self._body, self._owner = name, body, owner
        self.baton = threading.Lock()
        self.baton.acquire()
        self.waits_for: object | None = None
        self.until_ms: int | None = None  # when the wait ends by itself, monotonic
        self.started = self.over = False
        self.error: BaseException | None = None

    def start(self) -> None:
        self.begin()
        self._owner.step()

    def begin(self) -> None:
        self.started = True
        self._owner.tasks.append(self)
        self._owner.lend(self._run)

    def join(self, timeout: float | None = None) -> None:
        if not self.over:
            self._owner.block(self, timeout)

    def is_alive(self) -> bool:
        return self.started and not self.over

    def _run(self) -> None:
        self.baton.acquire()  # ours for the first time
        try:
            if not self._owner.crashed:
                self._body()
        except Crashed:
            pass
        except BaseException as error:
            self.error = error
        self._owner.leave(self)


class SimLock:
    """A lock, or with `again` one that its holder may take again. Taking it is a step."""

    def __init__(self, owner: Owner, again: bool = False) -> None:
        self._owner, self._again, self._depth = owner, again, 0
        self.holder: Task | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        owner = self._owner
        owner.step()
        until_ms = None if timeout < 0 else owner.mono_ms + ceil(timeout * 1000)
        while self.holder is not None and not (self._again and self.holder is owner.present):
            if not blocking or (until_ms is not None and owner.mono_ms >= until_ms):
                return False
            owner.block(self, None if until_ms is None else (until_ms - owner.mono_ms) / 1000)
        self.holder = owner.present
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self.holder = None
            self._owner.wake(self)

    def __enter__(self) -> object:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> object:
        self.release()
        return None


class SimEvent:
    """A flag. Setting it is a step, and so is waiting."""

    def __init__(self, owner: Owner) -> None:
        self._owner, self._set = owner, False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._owner.wake(self)
        self._owner.step()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._owner.block(self, timeout)
        return self._set


class SimCondition(SimLock):
    """`wait` gives the lock away and takes it again: two steps."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._waiting: list[object] = []

    def wait(self, timeout: float | None = None) -> bool:
        ticket = object()
        self._waiting.append(ticket)
        self.release()
        self._owner.block(ticket, timeout)
        told = ticket not in self._waiting
        if not told:
            self._waiting.remove(ticket)
        self.acquire()
        return told

    def notify(self, n: int = 1) -> None:
        for ticket in self._waiting[:n]:
            self._owner.wake(ticket)
        del self._waiting[:n]

    def notify_all(self) -> None:
        self.notify(len(self._waiting))
