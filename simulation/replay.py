"""Recorded days through the real strategies, machine, desk and journal, in virtual time, against the in-process matching engine.

One thread, no sockets, no wall clock: the same tape and config give the same bytes. The order of things at one instant: the
clock (bars, cutoff), then the venue matches the tick, then the runner sees the tick, then the venue's reports, then the desk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path

import msgspec

from brokers.base import Broker, FillRow, OrderRow
from brokers.desk import Desk, DeskListener, Outbox, Recorder
from brokers.paper import Paper
from brokers.reports import Reports
from brokers.tape import Tape, TapeTick, read_tape
from ops.config import Config, calendar_of
from ops.ending import exit_code
from ops.plan import Planned, make_rules, plan_day, symbol_facts
from ops.report import Report, build
from state.clock import VirtualClock
from state.instrument import Instrument
from state.journal import Journal, JournalFailed
from state.rules import Able
from state.session import Calendar, Closed, Session
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work
from strategies import STRATEGIES

ABLE = Able(can_replace=True, native_stops=True, settle_ms=0)  # paper answers everything at once
HEARTBEAT_MS = 5_000


class Day(msgspec.Struct):
    """One replayed session and what is needed to report on it."""

    session: Session
    planned: list[Planned]
    states: dict[str, SymbolState]
    ticks: int


class ClosedDay(msgspec.Struct, frozen=True):
    """The tape has prices on a day that is no session."""

    closed: Closed
    ticks: int


def days_of(config: Config, ticks: Iterable[TapeTick]) -> Iterator[tuple[date, Iterator[TapeTick]]]:
    """The tape by session day of the configured calendar."""
    calendar = calendar_of(config.session)
    yield from groupby(ticks, key=lambda tick: calendar.at(tick.at_ms).day)


class Replay:
    """One day. `run` returns when the tape has ended and everything is as flat as the tape allows."""

    def __init__(
        self,
        config: Config,
        calendar: Calendar,
        session: Session,
        clock: VirtualClock,
        recorder: Recorder,
        listener: DeskListener,
        entry_timeout_ms: int,
    ) -> None:
        self.session = session
        self.clock = clock
        self.planned = plan_day(config, calendar, session.day)
        chosen = {row.symbol: row for row in self.planned if row.why_not is None}
        instruments = {symbol: _instrument(config, symbol) for symbol in chosen}
        self.paper = Paper(instruments, self.clock, config.paper.fee_rate)
        outbox = Outbox()
        midnight_ms = calendar.midnight_ms(session.day)
        self.states = {
            symbol: SymbolState(
                Snapshot(symbol),
                make_rules(config, row, instruments[symbol], session, STRATEGIES, able=ABLE, entry_timeout_ms=entry_timeout_ms),
                outbox,
                self.clock,
                bar_origin_ms=midnight_ms,
                bar_grace_ms=0,
            )
            for symbol, row in chosen.items()
        }
        broker: Broker = self.paper
        self.reports = Reports(self.states, self.clock, settle_window_s=0)
        self.desk = Desk(broker, recorder, self.states, outbox, self.reports, self.clock, listener)
        self._next_beat_ms = session.open_ms

    def run(self, ticks: Iterable[TapeTick]) -> Day:
        count = 0
        for tick in ticks:
            state = self.states.get(tick.symbol)
            if state is None or not self.session.open_ms <= tick.at_ms < self.session.close_ms:
                continue
            count += 1
            self._advance(tick.at_ms)
            rows = self.paper.tick(tick.symbol, tick.price, tick.at_ms, tick.available)
            state.tick(tick.price, tick.at_ms)
            self._report(rows)
        self._finish()
        return Day(self.session, self.planned, self.states, count)

    def _advance(self, now_ms: int) -> None:
        """The clock, beat by beat, up to this tick."""
        while self._next_beat_ms <= now_ms:
            self.clock.advance_to(self._next_beat_ms)
            for state in self.states.values():
                state.heartbeat(self._next_beat_ms, self._next_beat_ms)
            self.desk.drain()
            self._next_beat_ms += HEARTBEAT_MS
        self.clock.advance_to(now_ms)

    def _report(self, rows: list[OrderRow | FillRow]) -> None:
        now_ms = self.clock.monotonic_ms()
        for row in rows:
            if isinstance(row, FillRow):
                self.reports.fill(row, "stream")
            else:
                self.reports.order_update(row, now_ms, "stream")
        self.desk.drain()

    def _finish(self) -> None:
        """No more prices: pass the cutoff, and what waits for the market is filled at the last price."""
        self._advance(max(self.session.cutoff_ms, self.clock.now_ms()))
        for symbol in self.states:
            self._report(self.paper.finish(symbol, self.clock.now_ms()))


def _instrument(config: Config, symbol: str) -> Instrument:
    grid = config.instrument(symbol)
    return Instrument(symbol, config.broker.exchange, grid.tick_size, grid.lot_size)


def broken_lines(tape: Tape) -> list[str]:
    """What is wrong with the files of a tape that has been read to its end, one line for each."""
    return [found.describe() for found in tape.reports if found.bad or found.late]


def replay(
    config: Config,
    paths: Sequence[Path],
    entry_timeout_ms: int,
    journal_dir: Path,
    tell: Callable[[str], object] = lambda text: None,
) -> Iterator[Report | ClosedDay]:
    """Each session day of the tape in turn: its report, or why there was none. TapeError for a file that is no tape.

    `tell` hears of broken lines when the tape has ended.
    """
    calendar = calendar_of(config.session)
    symbols = {row.symbol for strategy in config.strategies for row in strategy.symbols}
    tape = read_tape(paths, symbols)
    for day, ticks in days_of(config, tape):
        session = calendar.on(day)
        if isinstance(session, Closed):
            yield ClosedDay(session, sum(1 for _ in ticks))
            continue
        clock = VirtualClock(session.open_ms)
        with Journal.open(journal_dir / f"{day}.db", clock=clock, wall=clock) as journal:
            journal.begin(f"replay:{day}", mode="replay", account="tape", day=str(day))
            done = Replay(config, calendar, session, clock, journal, Quiet(), entry_timeout_ms).run(ticks)
            code = exit_code([state.snapshot for state in done.states.values()], 0)
            journal.finish(code)
            with journal.reader() as reader:
                yield build(
                    reader=reader,
                    day=day,
                    zone=calendar.zone,
                    mode="replay",
                    exit_code=code,
                    facts=symbol_facts(done.planned, done.states),
                    ticks=done.ticks,
                    faults={},
                )
    for line in broken_lines(tape):
        tell(f"tape {line}")


class Quiet:
    """A DeskListener for replays: nobody is watching, and what would be an alarm in a session ends the replay."""

    def carried_out(self, work: Work) -> None: ...

    def fatal(self, reason: str) -> None:
        raise RuntimeError(reason)

    def defect(self, where: str, error: BaseException) -> None:
        raise error

    def journal(self, failed: str | None) -> None:
        raise JournalFailed(failed or "")
