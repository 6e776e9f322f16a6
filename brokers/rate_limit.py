"""Our own brake before a venue's: a sliding window with an urgent and a normal lane. Owns who may send next, and when.

Must never: let more than `limit` through in any window, refilled or not, or let a poll or an entry go before an exit that waits.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from state.clock import Clock
from state.threads import Event


class Lane(Enum):
    """URGENT: exits, cancels, stops. NORMAL: entries and polls."""

    URGENT = "URGENT"
    NORMAL = "NORMAL"


class RateLimiter:
    """At most `limit` acquisitions in any `per_s` seconds. Thread-safe; first come, first served within a lane.

    The normal lane stops `reserve` short of the limit, so that an exit finds room at once however busy the polls are (NET-02);
    an urgent caller waits for `per_s` at most unless urgent callers alone use up the limit. A plain token bucket with its
    burst would let twice the limit through around a refill (NET-03), hence the time of each acquisition is kept.
    """

    def __init__(self, limit: int, per_s: float, clock: Clock, reserve: int | None = None) -> None:
        if limit < 1 or per_s <= 0:
            raise ValueError(f"a rate of {limit} per {per_s} s lets nothing through")
        reserve = limit // 4 if reserve is None else reserve
        if not 0 <= reserve < limit:
            raise ValueError(f"a reserve of {reserve} leaves the normal lane nothing of {limit}")
        self._clock = clock
        # One more: readings of a millisecond clock that differ by n can lie n - 1 and a bit apart.
        self._window_ms = int(per_s * 1000) + 1
        self._room = {Lane.URGENT: limit, Lane.NORMAL: limit - reserve}
        self._lock = clock.threads.lock()  # guards the two fields below
        self._taken: deque[int] = deque(maxlen=limit)  # monotonic ms, oldest first
        self._queues: dict[Lane, deque[Event]] = {lane: deque() for lane in Lane}

    def acquire(self, lane: Lane, timeout_s: float) -> bool:
        """Wait for a turn, for `timeout_s` at most; false when none came (0: ask without waiting)."""
        turn = self._clock.threads.event()
        with self._lock:
            self._queues[lane].append(turn)
        deadline_ms = self._clock.monotonic_ms() + int(timeout_s * 1000)
        try:
            while (wait_ms := self._try(lane, turn, deadline_ms)) > 0:
                self._clock.wait(turn, (wait_ms + 0.5) / 1000)  # half a ms: a clock that cuts to whole ms must not cut one off
            return wait_ms == 0
        finally:
            self._leave(lane, turn)

    def _try(self, lane: Lane, turn: Event, deadline_ms: int) -> int:
        """0: taken. Above 0: milliseconds to wait before asking again. Below 0: out of time."""
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            turn.clear()
            wait_ms = self._wait_ms(lane, turn, now_ms)
            if wait_ms == 0:
                self._taken.append(now_ms)
                return 0
            left_ms = deadline_ms - now_ms
            if left_ms <= 0:
                return -1
            return left_ms if wait_ms is None else min(wait_ms, left_ms)

    def _wait_ms(self, lane: Lane, turn: Event, now_ms: int) -> int | None:
        """None: until whoever is before us wakes us."""
        if self._queues[lane][0] is not turn or (lane is Lane.NORMAL and self._queues[Lane.URGENT]):
            return None
        while self._taken and now_ms - self._taken[0] >= self._window_ms:
            self._taken.popleft()
        excess = len(self._taken) - self._room[lane]
        return 0 if excess < 0 else self._taken[excess] + self._window_ms - now_ms

    def _leave(self, lane: Lane, turn: Event) -> None:
        with self._lock:
            self._queues[lane].remove(turn)
            for queue in self._queues.values():
                if queue:
                    queue[0].set()
