"""One life of the runner in a simulated world: the real session, built on the scheduler, from its start to its end or its kill.

Builds what `live_runner` builds, from the same parts; only the clock, the threads, the venue, the wire and the disk are ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from brokers.openalgo_stream import OpenAlgoStream
from live_session import SessionRun, until_answered
from ops.config import Config
from ops.facts import LiveStatus
from ops.options import Failure
from ops.requests import StopFlag, StopRequest, SyncAnswer
from ops.words import Line
from simulation.primitives import Crashed
from simulation.scheduler import Scheduler
from simulation.sim_broker import SimBroker
from simulation.sim_stream import EXCHANGE, URL, wires
from simulation.world import World
from state.journal import Journal
from state.journal_file import Connection
from state.session import Calendar, Session
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work

LINES_KEPT = 400


class Day(msgspec.Struct, frozen=True):
    """What every life of one simulated session has in common."""

    config: Config
    calendar: Calendar
    session: Session


class Life(msgspec.Struct):
    """How one life went. `code` None: killed."""

    code: int | None
    began_ms: int
    ended_ms: int
    failure: str | None = None


class SimLog:
    """The log of a life: its last lines, for the telling of a violation."""

    def __init__(self, scheduler: Scheduler, lines: deque[str]) -> None:
        self._scheduler, self.lines = scheduler, lines
        self.defects: list[BaseException] = []
        self.alarms = 0

    def _say(self, level: str, text: str) -> None:
        self.lines.append(f"{self._scheduler.mono_ms:>8} {self._scheduler.current():<7} {level} {text}")

    def info(self, text: str) -> None:
        self._say(" ", text)

    def warning(self, text: str) -> None:
        self._say("!", text)

    def alarm(self, text: str) -> None:
        self.alarms += 1
        self._say("!!", text)

    def defect(self, text: str, error: BaseException) -> None:
        self.defects.append(error)
        self._say("DEFECT", f"{text}: {type(error).__name__}: {error}")

    def story(self, work: Work, lines: Iterable[Line]) -> None:
        for line in lines:
            self._say(" ", f"{line.symbol} {line.change} {line.cause} {line.client_id}")


class SimOperator:
    """Asks to stop when the world's script says so; looks at nothing."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None

    def asks_to_stop(self) -> StopRequest | None:
        request, self.request = self.request, None
        return request

    def ask_about_orders(self, answer: Callable[[str], SyncAnswer]) -> None:
        """Nobody asks."""

    def show(self, live: LiveStatus) -> None:
        """Nobody looks."""

    def gone(self) -> None:
        """Nobody looked."""


class Runner:
    """One process. `states` is there once the session is built, for the oracle."""

    def __init__(self, day: Day, world: World, disk: Connection, scheduler: Scheduler, lines: deque[str]) -> None:
        self._day, self._world, self._disk, self._scheduler = day, world, disk, scheduler
        self.log = SimLog(scheduler, lines)
        self.operator = SimOperator()
        self.states: dict[str, SymbolState] = {}
        self.code: int | None = None
        self.failure: str | None = None

    def live(self) -> Life:
        began_ms = self._scheduler.mono_ms
        if self._disk.in_transaction:
            self._disk.execute("ROLLBACK")  # what a killed process had not committed
        try:
            self._scheduler.run(self._main)
        finally:
            self._world.stream = None
        return Life(self.code, began_ms, self._scheduler.mono_ms, self.failure)

    def _main(self) -> None:
        try:
            self.code = self._session()
        except Failure as failure:
            self.code, self.failure = failure.code, str(failure)

    def _session(self) -> int:
        clock, day = self._scheduler, self._day
        journal = Journal(self._disk, Path("simulated"), clock, clock, created=False)
        resumed = journal.begin("simulated", mode="practice", account="simulated", day=str(day.session.day))
        broker = SimBroker(self._world, clock, self._world.fates)
        flag = StopFlag()
        until_answered(broker.check, clock, self.log, flag, _left_open(resumed.snapshots))
        dialect = OpenAlgoStream(URL, "key", EXCHANGE)
        run = SessionRun(
            day.config,
            broker,
            dialect,
            clock,
            day.calendar,
            day.session,
            journal,
            resumed,
            self.log,
            flag,
            self.operator,
            clock,
            wires(self._world),
        )
        self.states = run.states
        if run.something_to_do() and run.recover(resumed):
            run.trade()
        return run.end()


def _left_open(snapshots: dict[str, Snapshot]) -> bool:
    return any(snapshot.position or snapshot.live_orders() for snapshot in snapshots.values())


__all__ = ["Crashed", "Day", "Life", "Runner"]
