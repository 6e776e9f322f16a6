"""One life of the runner in a simulated world: the real session, built on the scheduler, from its start to its end or its kill.

Builds what `live_runner` builds, from the same parts; only the clock, the threads, the venue, the wire and the disk are ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import msgspec

from brokers.base import Broker
from brokers.openalgo_stream import OpenAlgoStream
from brokers.streams import Streams
from live_session import SessionRun, until_answered
from ops import ending
from ops.config import Config
from ops.facts import LiveStatus
from ops.options import Failure
from ops.requests import StopFlag, StopRequest, SyncAnswer
from ops.words import Line
from simulation.host import Host, SimJournal
from simulation.scheduler import Scheduler
from simulation.sim_broker import SimBroker
from simulation.sim_stream import EXCHANGE, URL, wires
from simulation.world import World
from state.journal_file import Connection
from state.session import Calendar, Session
from state.symbol_state import SymbolState, Work

T = TypeVar("T")
CALLS = ("check", "submit", "replace", "cancel", "order", "orders", "fills", "positions", "quotes")


class Day(msgspec.Struct, frozen=True):
    """What every life of one simulated session has in common."""

    config: Config
    calendar: Calendar
    session: Session


class SimLog:
    """The log of a life: its last lines, for the telling of a violation."""

    def __init__(self, scheduler: Scheduler, lines: deque[str]) -> None:
        self._scheduler, self.lines = scheduler, lines
        self.defects: list[str] = []
        self.alarms: list[str] = []

    def _say(self, level: str, text: str) -> None:
        self.lines.append(f"{self._scheduler.mono_ms:>8} {self._scheduler.current():<7} {level} {text}")

    def info(self, text: str) -> None:
        self._say("  ", text)

    def warning(self, text: str) -> None:
        self._say("! ", text)

    def alarm(self, text: str) -> None:
        self.alarms.append(text)
        self._say("!!", text)

    def defect(self, text: str, error: BaseException) -> None:
        self.defects.append(f"{text}: {type(error).__name__}: {error}")
        self._say("!!", f"DEFECT {self.defects[-1]}")

    def story(self, work: Work, lines: Iterable[Line]) -> None:
        for line in lines:
            if line.level == "ERROR":
                self.alarms.append(f"{line.symbol} {line.change} {line.cause}")
            self._say("  ", f"{line.symbol} {line.change} {line.cause} {line.client_id}")


class SimOperator:
    """Asks to stop when the world says so; looks at nothing."""

    def __init__(self) -> None:
        self._request: StopRequest | None = None

    def ask(self, request: StopRequest) -> None:
        self._request = request

    def asks_to_stop(self) -> StopRequest | None:
        request, self._request = self._request, None
        return request

    def ask_about_orders(self, answer: Callable[[str], SyncAnswer]) -> None:
        """Nobody asks."""

    def show(self, live: LiveStatus) -> None:
        """Nobody looks."""

    def gone(self) -> None:
        """Nobody looked."""


class _Seamed:
    """A broker with a seam on either side of each call."""

    def __init__(self, broker: SimBroker, seam: Callable[[], None]) -> None:
        self._broker = broker
        for name in CALLS:
            setattr(self, name, _between(getattr(broker, name), seam))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


def _between(call: Callable[..., T], seam: Callable[[], None]) -> Callable[..., T]:
    @wraps(call)
    def seamed(*arguments: Any, **named: Any) -> T:
        seam()
        try:
            return call(*arguments, **named)
        finally:
            seam()

    return seamed


class Runner:
    """One process. `built` is told the states once the session stands, for the oracle."""

    def __init__(
        self,
        day: Day,
        world: World,
        disk: Connection,
        scheduler: Scheduler,
        host: Host,
        lines: deque[str],
        built: Callable[[SessionRun], None],
    ) -> None:
        self._day, self._world, self._disk, self._scheduler, self._host = day, world, disk, scheduler, host
        self._built = built
        self.log = SimLog(scheduler, lines)
        self.operator = SimOperator()
        host.ask = self.operator.ask
        self.states: dict[str, SymbolState] = {}
        self.code: int | None = None  # None: killed
        self.words = ""

    def live(self) -> None:
        """Raises Stuck, and whatever escapes the main thread."""
        if self._disk.in_transaction:
            self._disk.execute("ROLLBACK")  # what a killed process had not committed
        try:
            self._scheduler.run(self._main)
        finally:
            self._world.stream = None

    def _main(self) -> None:
        try:
            self.code = self._session()
        except Failure as failure:
            self.code, self.words = failure.code, str(failure)

    def _session(self) -> int:
        clock, day = self._scheduler, self._day
        journal = SimJournal(self._disk, clock, self._host)
        resumed = journal.begin("simulated", mode="practice", account="simulated", day=str(day.session.day))
        left_open = any(not ending.settled(snapshot) for snapshot in resumed.snapshots.values())
        if clock.now_ms() >= day.session.close_ms and not left_open:
            return ending.OK
        broker: Broker = _Seamed(SimBroker(self._world, clock, self._world.fates), self._host.seam)
        flag = StopFlag()
        until_answered(broker.check, clock, self.log, flag, left_open)
        run = SessionRun(
            day.config,
            broker,
            Streams(OpenAlgoStream(URL, "key", EXCHANGE), prices_wire=wires(self._world)),
            clock,
            day.calendar,
            day.session,
            journal,
            resumed,
            self.log,
            flag,
            self.operator,
            clock,
        )
        self.states = run.states
        self._built(run)
        if run.something_to_do() and run.recover(resumed):
            run.trade()
        return run.end()
