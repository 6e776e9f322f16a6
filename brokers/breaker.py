"""The circuit breaker: a venue that fails again and again gets no new entries until it has answered once more.

Counts what order calls come to. Never asked about an exit, a stop or a cancel, and never in their way. Closed: entries pass.
Open: none passes. When the recovery time is over one entry passes as a probe; its outcome, or that of any other order call,
closes the breaker or opens it anew. Time comes from the clock seam; nothing here waits or starts a thread.
"""

from __future__ import annotations

from state.clock import Clock

FAILURES = 5  # in a row
RECOVERY_MS = 30_000


class Breaker:
    """Thread-safe. Who was let through by `why_not` must report `worked` or `failed`."""

    def __init__(self, clock: Clock, failures: int = FAILURES, recovery_ms: int = RECOVERY_MS) -> None:
        self._clock = clock
        self._limit = failures
        self._recovery_ms = recovery_ms
        self._lock = clock.threads.lock()  # guards the three below
        self._failed = 0
        self._opened_ms: int | None = None
        self._probe: str | None = None

    def why_not(self, client_id: str) -> str | None:
        """Why this entry may not leave now; None lets it pass, as the one probe where the breaker is open."""
        with self._lock:
            if self._opened_ms is None:
                return None
            failed = f"the broker failed {self._failed} times in a row"
            left_ms = self._opened_ms + self._recovery_ms - self._clock.monotonic_ms()
            if left_ms > 0:
                return f"{failed}: no entries for {-(-left_ms // 1000)} s"
            if self._probe is not None:
                return f"{failed}: {self._probe} goes first, to see whether it answers again"
            self._probe = client_id
            return None

    def worked(self, client_id: str) -> bool:
        """An order call was answered, with yes or no. True when that ended an open breaker."""
        with self._lock:
            was_open = self._opened_ms is not None
            self._failed, self._opened_ms, self._probe = 0, None, None
            return was_open

    def failed(self, client_id: str) -> bool:
        """An order call got no usable answer. True when that opened a closed breaker."""
        with self._lock:
            self._failed += 1
            was_open = self._opened_ms is not None
            if self._probe == client_id:
                self._probe, self._opened_ms = None, self._clock.monotonic_ms()
            elif not was_open and self._failed >= self._limit:
                self._opened_ms = self._clock.monotonic_ms()
            return not was_open and self._opened_ms is not None
