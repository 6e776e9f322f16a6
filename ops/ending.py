"""When a session is over, and what the exit code says about how it ended (DESIGN, section 10). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from state.orders import Status
from state.snapshot import Phase, Snapshot

OK, CONFIGURATION, CREDENTIALS, OTHER_INSTANCE = 0, 2, 3, 4
PROTECTED_OPEN, HALTED, UNPROTECTED_OR_UNKNOWN, DEFECT = 5, 6, 7, 70


def settled(snapshot: Snapshot) -> bool:
    """Nothing held, nothing resting: there is nothing left to do for this symbol."""
    return not snapshot.position and not snapshot.live_orders()


def entries_gone(snapshot: Snapshot) -> bool:
    """What a protecting stop waits for: no entry may still fill, and what is held is protected."""
    return snapshot.entry is None and snapshot.unprotected_ms is None and not snapshot.in_question


def exit_code(snapshots: Iterable[Snapshot], defects: int, certain: bool = True) -> int:
    """The worst that is true of any symbol. Not `certain`: the venue is silent or closed, so what should rest there may not."""
    codes = [_code(snapshot, certain) for snapshot in snapshots]
    return DEFECT if defects else max(codes, default=OK)


def _code(s: Snapshot, certain: bool) -> int:
    if not certain and not settled(s):
        return UNPROTECTED_OR_UNKNOWN
    if s.phase is Phase.UNKNOWN or any(order.status is Status.QUARANTINED for order in s.live_orders()):
        return UNPROTECTED_OR_UNKNOWN
    if s.position and (s.unprotected_ms is not None or s.stop is None):
        return UNPROTECTED_OR_UNKNOWN
    if s.entry is not None:
        return UNPROTECTED_OR_UNKNOWN  # left resting, it may fill with nobody there to protect it
    if s.halted and s.disagreements:
        return HALTED
    return PROTECTED_OPEN if s.position else OK


def describe_open(snapshots: Iterable[Snapshot]) -> list[str]:
    """One line for everything that is not settled, for the last lines of the log."""
    lines = []
    for s in snapshots:
        if s.position:
            stop = f"stop {s.stop.trigger_price} is working" if s.stop and s.stop.verified else "NO STOP is working"
            lines.append(f"{s.symbol}: position {s.position}, {stop}")
        elif s.live_orders():
            lines.append(f"{s.symbol}: " + ", ".join(f"{o.describe()} is {o.status.value}" for o in s.live_orders()))
    return lines


def describe_order(s: Snapshot, client_id: str) -> str:
    """What is believed of one order, in a few words."""
    filled = s.ledger.filled(client_id)
    for order in s.live_orders():
        if order.client_id == client_id:
            return f"{order.status.value}, {order.describe()}, {filled} filled"
    return f"ended, {filled} filled"
