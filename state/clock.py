"""The clock seam: every thread takes its time from one of these, so that tests and replays can own it.

Two times, never mixed. *Session time* (`now_ms`) is UTC epoch milliseconds as the market sees it: windows, bars, cutoffs.
*Monotonic time* (`monotonic_ms`) never steps: ages, time-outs, retries. In a practice session played faster than life only
session time is scaled; a request still gets its ten real seconds.
"""

from __future__ import annotations

import time
from typing import Protocol

from state.threads import OS_THREADS, Event, Threads


class Clock(Protocol):
    """Thread-safe. `wait` is the only way any thread of ours sleeps."""

    speed: float
    threads: Threads  # whose locks, events and threads go with this time

    def now_ms(self) -> int:
        """Session time, UTC epoch milliseconds."""

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary start; never goes back."""

    def wait(self, event: Event, timeout_s: float) -> bool:
        """Sleep until `event` is set or `timeout_s` monotonic seconds have passed; true when it was set."""


class SystemClock:
    """The machine's own clocks."""

    speed = 1.0
    threads: Threads = OS_THREADS

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wait(self, event: Event, timeout_s: float) -> bool:
        return event.wait(timeout_s)


class ScaledClock(SystemClock):
    """Session time that runs `speed` times as fast as the machine's, for practice sessions and tapes.

    `session_start_ms` is the session time at the instant when the machine's wall clock read `anchor_ms`. The practice venue
    and the runner, two processes on one machine, build theirs from the same three numbers.
    """

    def __init__(self, session_start_ms: int, anchor_ms: int, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self.session_start_ms = session_start_ms
        self.anchor_ms = anchor_ms
        elapsed_ms = time.time_ns() / 1e6 - anchor_ms
        self._origin_ns = time.monotonic_ns() - int(elapsed_ms * 1e6)

    def now_ms(self) -> int:
        return self.session_start_ms + int((time.monotonic_ns() - self._origin_ns) * self.speed / 1e6)


class VirtualClock:
    """A clock that moves only when told to: replays and tests. `wait` never blocks; it moves the clock."""

    speed = 1.0
    threads: Threads = OS_THREADS

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms

    def advance_to(self, now_ms: int) -> None:
        """Never backwards: an earlier time changes nothing."""
        self._now_ms = max(self._now_ms, now_ms)

    def wait(self, event: Event, timeout_s: float) -> bool:
        if not event.is_set():
            self.advance(int(timeout_s * 1000))
        return event.is_set()
