"""The machine a simulated process runs on: killed at a seam, stalled, out of disk, with a clock that steps.

A seam lies before and after each commit and each broker call; the process may also die at any other step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ops.requests import StopKind, StopRequest
from simulation.fates import Kind
from simulation.scheduler import Scheduler
from simulation.world import World
from state.journal import Journal, JournalFailed
from state.journal_file import Connection
from state.symbol_state import Work

KINDS = {
    "host.kill": Kind("killed before or after a commit or a broker call", 0.004),
    "host.kill_anywhere": Kind("killed at any step", 0.00008),
    "host.stall": Kind("a thread stands still for up to 2 s at a seam", 0.02),
    "host.disk_full": Kind("commits fail for up to 5 s", 0.01),
    "host.slow_disk": Kind("a commit takes up to a second", 0.03),
    "host.clock_step": Kind("the machine's clock is set, up to 2 s off the true time", 0.01),
    "host.stop": Kind("asked to stop, started again", 0.001),
    "host.flatten": Kind("asked to flatten and stop, started again", 0.0005),
}
RESTS_MS = (200, 15_000)  # between a kill and the next start
LIVES = 6  # kills in one run, and one life to end it in


class Host:
    """One process's machine. `on_step` and `seam` are called on whatever thread runs."""

    def __init__(self, world: World, scheduler: Scheduler, last_life: bool) -> None:
        self._world, self._scheduler, self._last = world, scheduler, last_life
        self._fates = world.fates
        self._full_until_ms = -1
        self._off_ms = 0
        self.watch_seam: Callable[[], None] = lambda: None
        self.ask: Callable[[StopRequest], None] = lambda request: None

    def on_step(self) -> None:
        if not self._last and not self._scheduler.crashed and self._fates.strikes("host.kill_anywhere"):
            self._scheduler.crash()

    def seam(self) -> None:
        """Before and after everything that leaves a mark outside the process."""
        if self._scheduler.crashed:
            return  # unwinding
        self.watch_seam()
        fates = self._fates
        if not self._last:
            if fates.strikes("host.kill"):
                self._scheduler.crash()
            if fates.strikes("host.stop"):
                self.ask(StopRequest(StopKind.PROTECT, "the simulation"))
            if fates.strikes("host.flatten"):
                self.ask(StopRequest(StopKind.FLATTEN, "the simulation"))
        if fates.strikes("host.stall"):
            ms = fates.amount(10, 2_000)
            self._world.troubled(ms)
            self._scheduler.sleep(ms)
        if fates.strikes("host.clock_step"):
            off_ms = fates.amount(-2_000, 2_000)
            self._scheduler.set_clock(off_ms - self._off_ms)
            self._off_ms = off_ms

    def disk(self) -> None:
        """Before a commit. Raises JournalFailed."""
        fates = self._fates
        if fates.strikes("host.slow_disk"):
            ms = fates.amount(10, 1_000)
            self._world.troubled(ms)
            self._scheduler.sleep(ms)
        if fates.strikes("host.disk_full"):
            self._full_until_ms = self._scheduler.mono_ms + fates.amount(100, 5_000)
        if self._scheduler.mono_ms < self._full_until_ms:
            raise JournalFailed("disk full")


class SimJournal(Journal):
    """The real journal on a disk that may fail, with a seam on either side of each commit."""

    def __init__(self, disk: Connection, scheduler: Scheduler, host: Host) -> None:
        super().__init__(disk, Path("simulated"), scheduler, scheduler, created=False)
        self._host = host

    def commit_many(self, works: Sequence[Work]) -> None:
        self._host.seam()
        self._host.disk()
        super().commit_many(works)
        self._host.seam()
