"""What the machine must obey for one symbol in one session: limits, windows, what the venue can do, and the strategy's opinion.

Fixed for the session. Durations in ms; session times in UTC epoch ms.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from state.instrument import Instrument
from state.strategy import Strategy

BACKOFF_MS = (250, 500, 1_000, 2_000, 5_000)  # between asks for the same thing; the last one repeats for ever
STOP_TRIES = 3  # refused stops before the position is flattened instead
STOPPING = "stop"  # the source of an entry block that also takes resting entries back
READ_AGAIN_MS = 2_000  # a cancel not confirmed for so long, with the order still working, did not take


class Rules(msgspec.Struct, frozen=True):
    instrument: Instrument
    strategy: Strategy
    qty: Decimal
    day: str  # "20261120", part of every client order id
    entry_from_ms: int
    cutoff_ms: int
    max_entries: int = 1
    max_retries: int = 3
    entry_timeout_ms: int = 900_000
    order_timeout_ms: int = 60_000
    unprotected_limit_ms: int = 5_000
    can_replace: bool = True


def backoff_ms(failures: int) -> int:
    """Pause after the n-th failure in a row, counted from 1."""
    return BACKOFF_MS[min(max(failures, 1), len(BACKOFF_MS)) - 1]
