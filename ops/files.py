"""Files that other programs read while we write them: they see the old one or the new one, never a half."""

from __future__ import annotations

import os
from pathlib import Path

from state.clock import Clock

TRIES = 20
PAUSE_S = 0.05


def replace_file(path: Path, content: bytes, clock: Clock, tries: int = TRIES, durable: bool = True) -> None:
    """Write beside it, then put it in place. On Windows a reader may hold the old one open for a moment: tried again.

    `durable`: on the disk before it is in place, at the price of a few milliseconds. Raises OSError when it cannot be done;
    the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _put_in_place(beside, path, clock, tries)
    finally:
        beside.unlink(missing_ok=True)


def _put_in_place(beside: Path, path: Path, clock: Clock, tries: int) -> None:
    for left in range(tries, 0, -1):
        try:
            os.replace(beside, path)
            return
        except PermissionError:
            if left == 1:
                raise
            clock.wait(clock.threads.event(), PAUSE_S)
