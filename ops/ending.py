"""When a session is over, and what the exit code says about how it ended (DESIGN, section 10). Pure, but for the stop request
file, by which another process asks the runner to stop.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

from state.orders import Status
from state.snapshot import Phase, Snapshot

OK, CONFIGURATION, CREDENTIALS, OTHER_INSTANCE = 0, 2, 3, 4
PROTECTED_OPEN, HALTED, UNPROTECTED_OR_UNKNOWN, DEFECT = 5, 6, 7, 70


class StopKind(StrEnum):
    PROTECT = "protect"  # entries are taken back, stops stay
    FLATTEN = "flatten"  # and positions are closed first
    KEEP = "keep"  # everything stays as it is


class StopRequest(msgspec.Struct, frozen=True):
    kind: StopKind
    who: str


class StopFlag:
    """What a signal handler may do: set one attribute. Not an Event, whose lock the interrupted main thread may hold."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None

    def ask(self, request: StopRequest) -> None:
        self.request = request


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


# -- asking a running process to stop ----------------------------------------------------------------------------------------


def _request_path(data_dir: Path) -> Path:
    return data_dir / "stop.request"


def ask_to_stop(data_dir: Path, request: StopRequest) -> None:
    """Leave the request where the runner looks for it twice a second."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = _request_path(data_dir)
    waiting = path.with_suffix(f".{os.getpid()}")
    waiting.write_bytes(msgspec.json.encode(request))
    os.replace(waiting, path)


def take_stop_request(data_dir: Path) -> StopRequest | None:
    """The request, once; None when there is none. What cannot be read is taken for the careful kind."""
    path = _request_path(data_dir)
    try:
        raw = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    try:
        return msgspec.json.decode(raw, type=StopRequest)
    except msgspec.MsgspecError:
        return StopRequest(StopKind.PROTECT, "unreadable request")
