"""How long to wait before each attempt to connect. Pure: told the time, given its randomness; waits for nothing itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

STEPS_MS = (1_000, 2_000, 5_000, 10_000, 30_000, 60_000)


class Backoff:
    """A ladder of waits with jitter, and never more than `most` attempts in `window_ms` however often it is reset."""

    def __init__(
        self,
        chance: Callable[[], float],
        steps_ms: tuple[int, ...] = STEPS_MS,
        jitter: float = 0.2,
        most: int = 20,
        window_ms: int = 600_000,
    ) -> None:
        self._chance = chance
        self._steps_ms = steps_ms
        self._jitter = jitter
        self._window_ms = window_ms
        self._step = 0
        self._attempts: deque[int] = deque(maxlen=most)

    def attempted(self, now_ms: int) -> None:
        self._attempts.append(now_ms)

    def next_wait_ms(self, now_ms: int) -> int:
        spread = 1 - self._jitter + 2 * self._jitter * self._chance()
        wait_ms = round(self._steps_ms[self._step] * spread)
        self._step = min(self._step + 1, len(self._steps_ms) - 1)
        if len(self._attempts) == self._attempts.maxlen:
            wait_ms = max(wait_ms, self._attempts[0] + self._window_ms - now_ms)
        return wait_ms

    def reset(self) -> None:
        self._step = 0
