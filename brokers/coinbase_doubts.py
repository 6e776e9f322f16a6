"""Submits without an answer: when each may be sent again, and when nothing found means nothing there (venue sheet, section 8).

Owns a bounded memory of questions, never of an order's state. A process that was restarted begins its questions anew: it then
waits a whole window before it believes that an order is not there.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from brokers.base import Refused, Unavailable
from state.clock import Clock

SEND_AGAIN_MS = (1_500, 4_000, 10_000)  # after the send before; no more than these
LOOK_EVERY_MS = 1_000
LOOKS_APART_MS = 2_000  # one empty answer proves nothing
KEPT = 512


@dataclass(slots=True)
class Doubt:
    """One submit whose outcome is not known. Times are monotonic. Only the poll thread changes it once it is there."""

    sent_ms: int  # the last time that it went out, for all we know
    look_ms: int
    exists: bool = False  # the venue says that there is an order with this id
    look_only: bool = False  # it was refused, as it seems: sending it again could make what was refused
    sends: int = 0  # again
    venue_id: str | None = None  # of the order that the venue gave back
    absent_ms: int | None = None  # when it was first not there although its window was over


class Doubts:
    """Thread-safe."""

    def __init__(self, clock: Clock, settle_window_s: float) -> None:
        self._clock = clock
        self._settle_ms = int(settle_window_s * 1000)
        self._lock = clock.threads.lock()  # guards the row below
        self._doubts: OrderedDict[str, Doubt] = OrderedDict()

    def begin(self, uuid: str, exists: bool = False, look_only: bool = False) -> Doubt:
        """Sent just now, and no usable answer; of what the venue has said of it before, nothing is forgotten."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            doubt = self._doubts.setdefault(uuid, Doubt(now_ms, now_ms + SEND_AGAIN_MS[0]))
            doubt.exists, doubt.look_only = doubt.exists or exists, doubt.look_only or look_only
            while len(self._doubts) > KEPT:
                self._doubts.popitem(last=False)
            return doubt

    def take_turn(self, uuid: str) -> Doubt:
        """Unavailable while it is too early to ask."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            doubt = self._doubts.get(uuid)
        doubt = doubt or self.begin(uuid)
        if now_ms < doubt.look_ms:
            raise Unavailable(f"not to be asked for yet, in {doubt.look_ms - now_ms} ms")
        doubt.look_ms = now_ms + LOOK_EVERY_MS
        return doubt

    def may_send_again(self, doubt: Doubt, age_ms: int) -> bool:
        """Only while it is fresh: how long the venue remembers an id nobody knows, and what was wanted then is not wanted now."""
        if doubt.exists or doubt.look_only or doubt.sends >= len(SEND_AGAIN_MS) or not 0 <= age_ms < self._settle_ms:
            return False
        return self._clock.monotonic_ms() - doubt.sent_ms >= SEND_AGAIN_MS[doubt.sends]

    def sending(self, doubt: Doubt) -> None:
        doubt.sends += 1
        doubt.sent_ms = self._clock.monotonic_ms()
        doubt.absent_ms = None

    def absent(self, uuid: str, doubt: Doubt) -> None:
        """Looked for and not there. Returns when that is proof; else Unavailable, or Refused where it must be there."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - doubt.sent_ms < self._settle_ms:
            raise Unavailable("not there yet, and its window is not over")
        if doubt.exists:
            raise Refused("the venue says that an order with this id exists, and does not show it")
        if doubt.absent_ms is None:
            doubt.absent_ms = now_ms
        if now_ms - doubt.absent_ms < LOOKS_APART_MS:
            raise Unavailable("not there: one more look")
        self.end(uuid)

    def end(self, uuid: str) -> None:
        with self._lock:
            self._doubts.pop(uuid, None)
