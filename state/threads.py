"""The thread seam: locks, events, threads and jitter come from here, so that a simulation can own every interleaving.

A `Clock` carries its `Threads`, because who owns the waiting must own both. Nothing here decides anything; `OS_THREADS` is the
operating system's own. Code of ours never names `threading` (a lint rule and tests/test_seams.py see to it).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Lock(Protocol):
    """To be used with `with`; `acquire` where a thread must not wait for ever (`timeout` in real seconds, below 0: for ever)."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


class Event(Protocol):
    """A flag. Threads of ours wait for it with `Clock.wait`; `wait`, in real seconds, is what the machine's clock does then."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Condition(Lock, Protocol):
    """`wait` and `notify` with its lock held. `wait` is false when the time (real seconds; None: for ever) ran out."""

    def wait(self, timeout: float | None = None) -> bool: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...


class Thread(Protocol):
    """Not running before `start`. `join` waits for its end, for so many real seconds at most."""

    name: str

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


class Threads(Protocol):
    """Makes what threads need to live together. Thread-safe."""

    def lock(self) -> Lock: ...
    def rlock(self) -> Lock: ...
    def event(self) -> Event: ...
    def condition(self) -> Condition:
        """With a lock of its own."""

    def thread(self, name: str, body: Callable[[], None]) -> Thread:
        """A daemon: what it does is safe to be cut off at any line."""

    def current(self) -> str:
        """The name of the calling thread."""

    def chance(self) -> float:
        """From 0 to below 1, for jitter: nothing that matters is decided by it."""


class OsThreads:
    """The operating system's own."""

    def lock(self) -> Lock:
        return threading.Lock()

    def rlock(self) -> Lock:
        return threading.RLock()

    def event(self) -> Event:
        return threading.Event()

    def condition(self) -> Condition:
        return threading.Condition(threading.Lock())

    def thread(self, name: str, body: Callable[[], None]) -> Thread:
        return threading.Thread(target=body, name=name, daemon=True)

    def current(self) -> str:
        return threading.current_thread().name

    def chance(self) -> float:
        return random.random()


OS_THREADS = OsThreads()
