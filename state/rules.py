"""What the machine must obey for one symbol in one session: limits, windows, what the venue can do, and the strategy's opinion.

Fixed for the session. Durations in ms; session times in UTC epoch ms.
"""

from __future__ import annotations

import msgspec

from state.instrument import Instrument
from state.sizing import Size
from state.strategy import Strategy

BACKOFF_MS = (250, 500, 1_000, 2_000, 5_000)  # between asks for the same thing; the last one repeats for ever
STOP_TRIES = 3  # refused stops before the position is flattened instead
STOPPING = "stop"  # the source of an entry block that also takes resting entries back
NO_TICKS = ("start", "feed")  # the sources of the blocks that say: no fresh ticks
NO_ANSWER = "poll"  # ... and of the one that says: the broker answers no polls, so there are no quotes either
READ_AGAIN_MS = 2_000  # a cancel not confirmed for so long, with the order still working, did not take


class Able(msgspec.Struct, frozen=True):
    """What the venue can do, as far as a decision depends on it. `settle_ms`: how long an unanswered request may still land."""

    can_replace: bool
    native_stops: bool
    settle_ms: int


class Rules(msgspec.Struct, frozen=True):
    instrument: Instrument
    strategy: Strategy
    size: Size
    day: str  # "20261120", part of every client order id
    entry_from_ms: int
    cutoff_ms: int
    max_entries: int = 1
    max_retries: int = 3
    entry_timeout_ms: int = 900_000
    order_timeout_ms: int = 60_000
    unprotected_limit_ms: int = 5_000
    can_replace: bool = True
    native_stops: bool = True  # else no stop rests at the venue: the level is watched here, tick by tick
    settle_ms: int = 30_000  # how long an unanswered request may still take effect


def backoff_ms(failures: int) -> int:
    """Pause after the n-th failure in a row, counted from 1."""
    return BACKOFF_MS[min(max(failures, 1), len(BACKOFF_MS)) - 1]


def loud(times: int) -> bool:
    """Is what happened for the n-th time in a row told again? 1, 2, 3, 4, 8, ... 64, then every 64th: it never falls silent."""
    if times <= STOP_TRIES:
        return True
    return times % 64 == 0 if times > 64 else times & (times - 1) == 0
