"""live_runner.py in a process that counts its seams and kills itself at one of them: `python -m simulation.crash_run`.

A seam lies before and after every journal commit and every broker call. Owns the counting and the kill; everything is wrapped
from outside, so that the product has nothing of this in its path. `--kill-at 17` is the 17th seam of all, `--kill-at
submit:after:2` the second of its kind. Without it nothing is wrapped: an ordinary start, but that the practice venue is left
running at the end, because an oracle has yet to ask it what truly happened.

    python -m simulation.crash_run --seams FILE --kill-at 17 -- run --config config.yaml
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import live_runner
from brokers.base import Broker
from brokers.streams import Streams
from brokers.venues import Account
from simulation.crash_mutants import MUTANTS
from state.clock import Clock
from state.journal import Journal

CALLS = ("submit", "replace", "cancel", "order", "orders", "fills", "positions")
KINDS = ("commit", *CALLS)
SIDES = ("before", "after")
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows any signal sent so is TerminateProcess

T = TypeVar("T")


class Seam(msgspec.Struct, frozen=True):
    """One moment: before or after a commit or a call. `number` counts all of them, `nth` those of this kind and side."""

    number: int
    kind: str
    side: str
    nth: int
    thread: str


class Passed(msgspec.Struct, frozen=True):
    """What the process leaves behind. `killed_at` None: it ended by itself."""

    seams: list[Seam]
    killed_at: Seam | None = None


class Seams:
    """Counts, and kills this process at the one seam that was asked for. Thread-safe."""

    def __init__(self, target: str, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._passed: list[Seam] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._target = parse(target)

    def passed(self, kind: str, side: str) -> None:
        with self._lock:  # held into the grave: no other thread gets past a seam meanwhile
            self._counts[kind, side] += 1
            nth = self._counts[kind, side]
            seam = Seam(len(self._passed) + 1, kind, side, nth, threading.current_thread().name)
            self._passed.append(seam)
            if self._target in (seam.number, (kind, side, nth)):
                self.write(seam)
                os.kill(os.getpid(), KILL)
                threading.Event().wait()  # it comes at once, but not before the next instruction

    def write(self, killed_at: Seam | None = None) -> None:
        self._path.write_bytes(msgspec.json.encode(Passed(self._passed, killed_at)))

    def around(self, kind: str, call: Callable[..., T]) -> Callable[..., T]:
        @wraps(call)
        def seamed(*arguments: Any, **named: Any) -> T:
            self.passed(kind, "before")
            try:
                return call(*arguments, **named)
            finally:
                self.passed(kind, "after")

        return seamed


class SeamedBroker:
    """A broker whose trading calls are seams; everything else is the broker's own."""

    def __init__(self, broker: Broker, seams: Seams) -> None:
        self._broker = broker
        for name in CALLS:
            setattr(self, name, seams.around(name, getattr(broker, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


def parse(target: str) -> int | tuple[str, str, int]:
    """`17` or `submit:after:2`. ValueError for anything else."""
    if target.isdecimal():
        return int(target)
    kind, side, nth = target.split(":")
    if kind not in KINDS or side not in SIDES:
        raise ValueError(f"no such seam: {target}")
    return kind, side, int(nth)


def wrap(seams: Seams) -> None:
    """Journal and broker of the session that this process is about to run."""
    connect = vars(live_runner)["connect"]

    def connected(account: Account, clock: Clock) -> tuple[Broker, Streams]:
        broker, streams = connect(account, clock)
        return SeamedBroker(broker, seams), streams

    setattr(live_runner, "connect", connected)  # noqa: B010
    setattr(Journal, "commit_many", seams.around("commit", Journal.commit_many))  # noqa: B010


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    options = dict(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    setattr(live_runner, "_stop_venue", lambda venue, config: None)  # noqa: B010
    if "--mutant" in options:
        MUTANTS[options["--mutant"]].break_it()
    seams = Seams(options.get("--kill-at", "0"), Path(options["--seams"])) if "--seams" in options else None
    if seams is not None:
        wrap(seams)
    sys.argv = ["live_runner.py", *arguments[split + 1 :]]
    code = live_runner.main()
    if seams is not None:
        seams.write()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
