"""How far this machine's clock is off the venue's, as far as the venue's answers prove it.

Each answer that carries the venue's time bounds the difference: that time was read after our question left and before its answer
came, and it is cut to the second. Bounds of several answers are narrowed to what they have in common; when they have nothing in
common somebody has set a clock, and only the newest counts. Thread-safe; keeps no history.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from state.threads import Threads

RESOLUTION_MS = 999  # an HTTP date says the second that has begun


class Skew:
    """Ahead is positive: our clock says a later time than the venue's."""

    def __init__(self, threads: Threads) -> None:
        self._lock = threads.lock()  # guards the bounds
        self._least: int | None = None
        self._most = 0

    def heard(self, date: str | None, sent_ms: int, came_ms: int) -> None:
        """The venue's date in the answer to a question that was under way between these two wall-clock times of ours."""
        venue_ms = date_ms(date)
        if venue_ms is None:
            return
        least, most = sent_ms - venue_ms - RESOLUTION_MS, came_ms - venue_ms
        with self._lock:
            if self._least is not None and least <= self._most and most >= self._least:
                least, most = max(least, self._least), min(most, self._most)
            self._least, self._most = least, most

    def ahead_ms(self) -> int | None:
        """The smallest difference that is proven, 0 when there may be none; None before the venue has told its time."""
        with self._lock:
            if self._least is None:
                return None
            return self._least if self._least > 0 else min(self._most, 0)


def date_ms(text: str | None) -> int | None:
    """An HTTP date as UTC epoch ms; None for anything that is not one."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(found.timestamp()) * 1000
