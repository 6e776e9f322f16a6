"""Command line and wiring: build, start, wait, stop, exit code. Nothing else.

`python live_runner.py run`, or any other command with --help. What a session is made of is in ARCHITECTURE.md.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

import click
import filelock
import msgspec

from brokers.base import Broker, BrokerError, Fatal, FillRow, Refused
from brokers.channel import Limits
from brokers.crew import Crew, Heart
from brokers.desk import Desk, Outbox
from brokers.dialect import Dialect
from brokers.feed import Feed
from brokers.paper import Paper
from brokers.poller import Poller
from brokers.practice import PracticeVenue, VenueError
from brokers.practice_faults import FaultError
from brokers.practice_market import STORIES
from brokers.reports import Reports
from brokers.switchboard import Switchboard
from brokers.tape import TapeError, read_tape
from brokers.venues import Account, UnknownVenue, connect
from ops import ending, report, story
from ops.cli import Program, cli, read_config, read_duration, run_command_line, with_config, with_json
from ops.config import Config, Mode, calendar_of, describe, missing_credentials
from ops.config_types import CREDENTIALS
from ops.ending import StopFlag, StopKind, StopRequest
from ops.facts import LivePrice, LiveStatus, live_path, write_live
from ops.log import Log, start_log
from ops.options import Failure, RunOptions, say
from ops.plan import Planned, guard_rules, make_rules, plan_day, symbol_facts
from ops.report_text import summary
from ops.words import clock_text
from simulation.practice_day import forget_venue, practice_venue, venue_exchange
from simulation.replay import ClosedDay, broken_lines, replay
from state.clock import Clock, SystemClock
from state.events import EntriesOff, FlattenAsked, Restarted
from state.instrument import Instrument
from state.journal import Journal, JournalDamaged, JournalError, JournalNewer, Resumed
from state.risk import RiskBudget
from state.rules import STOPPING, Rules
from state.session import Calendar, CalendarError, Closed, Session, hours_differ
from state.snapshot import Snapshot
from state.symbol_state import SymbolState
from strategies import STRATEGIES

T = TypeVar("T")
WATCH_S = 0.5
START_TRIES = 6
REST_UNTIL_CUTOFF_MS = 7 * 86_400_000
SECRET_NAMES = frozenset(name for names in CREDENTIALS.values() for name in names)
SAY_ALIVE_MS = 60_000
STOP_PATIENCE_MS = 10_000
FLATTEN_PATIENCE_MS = 60_000
LAST_LOOKS = 3
CLOSE_PATIENCE_MS = 30_000  # after the close with something still open, in session time ...
CLOSE_PATIENCE_REAL_MS = 5_000  # ... and at least this long in life
RECOVERY_TRIES_S = (0.2, 0.5, 1, 2, 5)
DESKS = 4
SWITCH_INTERVAL_S = 0.0005  # a computing thread gives way sooner (DESIGN, section 12)


class SessionRun:
    """One session of one account: built, recovered, traded, ended. Used by the main thread only."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        dialect: Dialect,
        clock: Clock,
        calendar: Calendar,
        session: Session,
        journal: Journal,
        resumed: Resumed,
        log: Log,
        stop_flag: StopFlag,
    ) -> None:
        self.config, self._broker, self._clock, self.session = config, broker, clock, session
        self._journal, self._log, self._stop_flag = journal, log, stop_flag
        self._unwatched = 0  # symbols with something open that the venue does not know any more
        self.planned = plan_day(config, calendar, session.day)
        instruments = self._instruments(resumed.snapshots)
        self._paper = Paper(instruments, clock, config.paper.fee_rate) if config.mode is Mode.PAPER else None
        self._broker = self._paper or broker
        outbox = Outbox()
        self._outbox = outbox
        midnight_ms = calendar.midnight_ms(session.day)
        self.states = {
            symbol: SymbolState(
                resumed.snapshots.get(symbol, Snapshot(symbol)),
                self._rules(symbol, instrument),
                outbox,
                clock,
                bar_origin_ms=midnight_ms,
                on_defect=self._defect,
            )
            for symbol, instrument in instruments.items()
        }
        window_s = self._broker.capabilities.settle_window_s
        self._reports = Reports(self.states, clock, window_s)
        self.switchboard = Switchboard(self.states, clock, log, lambda work: log.story(work, story.lines(work)), self._reports)
        self.risk = RiskBudget(self.states, config.risk.max_open_positions, config.risk.signal_slots, config.risk.max_daily_loss)
        desk = Desk(self._broker, journal, self.states, outbox, self._reports, clock, self.switchboard, self.risk.deny)
        limits = Limits(age_ms=config.feed.max_age_ms, jump=config.feed.max_jump)
        self.feed = Feed(dialect, self._sinks(), self.switchboard, clock, limits)
        heart = Heart(self.states, clock, session, self.switchboard, self.feed)
        interval_s = max(config.polling.interval_ms / 1000 / clock.speed, 0.25)
        self.poller = Poller(
            self._broker, self.states, self._reports, clock, self.switchboard, interval_s, lambda: self._without_ticks()
        )
        self.switchboard.feed, self.switchboard.poller = self.feed, self.poller
        self._crew = Crew(self.feed, self.poller, heart, desk, outbox, min(DESKS, len(self.states) + 1), self.switchboard)

    # -- building --------------------------------------------------------------------------------------------------------

    def _instruments(self, left_behind: Mapping[str, Snapshot]) -> dict[str, Instrument]:
        """The grid of every symbol that may trade today or that an interrupted session holds, from the venue."""
        wanted = {row.symbol for row in self.planned if row.why_not is None}
        open_still = {symbol for symbol, snapshot in left_behind.items() if not ending.settled(snapshot)}
        wanted |= open_still
        found: dict[str, Instrument] = {}
        for symbol in sorted(wanted):
            try:
                ask = partial(self._broker.instrument, symbol)
                found[symbol] = _answered(ask, self._clock, self._log, self._stop_flag, bool(open_still))
            except Refused as error:
                self._log.warning(f"{symbol}: the venue does not know it: {error}")
                self.planned = [_without(row, symbol, f"unknown to the venue: {error}") for row in self.planned]
                if symbol in open_still:
                    self._unwatched += 1
                    self._log.alarm(f"{symbol}: left open by an interrupted session, and nothing can be done about it from here")
        return found

    def _rules(self, symbol: str, instrument: Instrument) -> Rules:
        can_replace = self._broker.capabilities.replace
        for row in self.planned:
            if row.symbol == symbol and row.why_not is None:
                return make_rules(self.config, row, instrument, self.session, STRATEGIES, can_replace=can_replace)
        self._log.warning(f"{symbol}: left by an interrupted session, not for today: protected, closed at the cutoff")
        return guard_rules(self.config, symbol, instrument.lot_size, instrument, self.session, can_replace)

    def _sinks(self) -> dict[str, Callable[[Decimal, int], object]]:
        if self._paper is None:
            return {symbol: state.tick for symbol, state in self.states.items()}
        return {symbol: self._paper_sink(symbol) for symbol in self.states}

    def _paper_sink(self, symbol: str) -> Callable[[Decimal, int], object]:
        """Paper: the engine sees each live price first, then the symbol, then what the engine made of it."""
        paper, state = self._paper, self.states[symbol]
        assert paper is not None

        def sink(price: Decimal, at_ms: int) -> None:
            rows = paper.tick(symbol, price, at_ms)
            state.tick(price, at_ms)
            for row in rows:
                if isinstance(row, FillRow):
                    self._reports.fill(row, "stream")
                else:
                    self._reports.order_update(row, self._clock.monotonic_ms(), "stream")

        return sink

    def _without_ticks(self) -> list[str]:
        """Symbols whose price the poller must ask for: nothing heard of them for the age limit."""
        if self._crew.no_ticks:
            return list(self.states)
        limit_ms = self.config.feed.max_age_ms
        return [symbol for symbol in self.states if (last := self.feed.last(symbol)) is None or last[2] > limit_ms]

    def _defect(self, symbol: str, error: Exception) -> None:
        self.switchboard.defect(f"a decision on {symbol}", error)

    # -- the session -----------------------------------------------------------------------------------------------------

    def something_to_do(self) -> bool:
        """Say what is not traded and why. False when no setup is good for today and nothing was left open."""
        for row in self.planned:
            if row.why_not is not None:
                self._log.warning(f"{row.symbol} is not traded today: {row.why_not}")
        if not self.states:
            self._log.info("nothing to trade today")
        elif self._clock.now_ms() >= self.session.cutoff_ms:
            self._log.info("the cutoff has passed: no entries today")
        return bool(self.states)

    def recover(self, resumed: Resumed) -> bool:
        """Nothing is believed until the venue has been asked; then protect, then trade. False when stopped meanwhile."""
        self.switchboard.block("recovery", "recovering")
        if resumed.was is not None:
            self._log.info(f"this session was begun before ({resumed.was}): asking the venue about everything it left")
            for state in self.states.values():
                state.apply(Restarted(mono_ms=self._clock.monotonic_ms(), now_ms=self._clock.now_ms()))
            self.switchboard.block("recovery", "recovering")
        self._crew.start_desks()
        tries = 0
        while not self.poller.sweep(source="recovery" if resumed.was is not None else "poll"):
            tries += 1
            self._publish("recovering")
            if (request := self._asked_to_stop(_try_s(tries))) is not None:
                self._stop(request)
                return False
        self._compare_hours()
        self.switchboard.unblock("recovery")
        self._crew.start()
        return True

    def _compare_hours(self) -> None:
        try:
            hours = self._broker.session_hours(self.session.day)
        except BrokerError as error:
            self._log.warning(f"the venue's hours could not be read: {error}")
            return
        if hours is not None and (differ := hours_differ(self.session, hours.open_ms, hours.close_ms)):
            self.switchboard.alarm(f"{differ}: no entries today")
            self.switchboard.block("hours", "our session hours and the venue's differ")

    def trade(self) -> None:
        """Watch until everything is done, the session has ended, or somebody asks to stop."""
        said_ms = self._clock.monotonic_ms()
        while not self._done():
            if (request := self._asked_to_stop(WATCH_S)) is not None:
                self._stop(request)
                return
            mono_ms = self._clock.monotonic_ms()
            self._crew.check(mono_ms)
            self._publish()
            if mono_ms - said_ms >= SAY_ALIVE_MS:
                said_ms = mono_ms
                self._log.info(self._alive())

    def _asked_to_stop(self, within_s: float) -> StopRequest | None:
        """By a signal or by `stop` in another terminal, now or before this much time has passed."""
        return _pause(self._clock, self._stop_flag, within_s) or ending.take_stop_request(self.config.data_dir)

    def _done(self) -> bool:
        """Flat with nothing resting after the cutoff; or long past the close, whatever is left."""
        now_ms = self._clock.now_ms()
        flat = all(ending.settled(state.snapshot) for state in self.states.values()) and self._outbox.idle
        if flat and now_ms >= self.session.cutoff_ms:
            return True
        return now_ms >= self.session.close_ms + max(CLOSE_PATIENCE_MS, int(CLOSE_PATIENCE_REAL_MS * self._clock.speed))

    def _stop(self, request: StopRequest) -> None:
        """Default: entries go, stops stay. Whatever is asked for, it ends in bounded time."""
        self._log.info(f"stopping ({request.kind}), asked by {request.who}")
        self._publish("stopping")
        if request.kind is not StopKind.KEEP:
            self._settle_for(request.kind)
        self._look_once_more()

    def _look_once_more(self) -> None:
        """The exit code says what is true at the venue, not what we remember of it."""
        answered, board = self.poller.sweeps, self.switchboard
        for polls in range(board.polls + 1, board.polls + 1 + LAST_LOOKS):
            self.poller.soon()
            if not self._within(STOP_PATIENCE_MS, lambda wanted=polls: board.polls >= wanted):  # type: ignore[misc]
                break
            if self.poller.sweeps > answered:
                return
        board.answering = False

    def _settle_for(self, kind: StopKind) -> None:
        now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
        for state in self.states.values():
            state.apply(EntriesOff(source=STOPPING, reason="stopping", **now))
            if kind is StopKind.FLATTEN:
                state.apply(FlattenAsked(reason="flatten", **now))
        enough = ending.settled if kind is StopKind.FLATTEN else ending.entries_gone
        patience_ms = FLATTEN_PATIENCE_MS if kind is StopKind.FLATTEN else STOP_PATIENCE_MS
        self._within(patience_ms, lambda: self._outbox.idle and all(enough(state.snapshot) for state in self.states.values()))

    def _within(self, patience_ms: int, come_true: Callable[[], bool]) -> bool:
        until_ms = self._clock.monotonic_ms() + patience_ms
        never = threading.Event()
        while not (done := come_true()) and self._clock.monotonic_ms() < until_ms:
            self._clock.wait(never, 0.05)
        return done

    def end(self) -> int:
        """Stop every thread, close the journal's session, and say how it ended."""
        stuck = self._crew.stop()
        if stuck:
            self._log.alarm(f"threads that did not end in time: {', '.join(stuck)}")
        snapshots = [state.snapshot for state in self.states.values()]
        certain = self.switchboard.answering and self._clock.now_ms() < self.session.close_ms
        code = ending.exit_code(snapshots, self.switchboard.defects, certain)
        if self._unwatched and code == ending.OK:
            code = ending.UNPROTECTED_OR_UNKNOWN
        for line in ending.describe_open(snapshots):
            self._log.warning(line)
        try:
            self._journal.finish(code)
        except JournalError as error:
            self._log.alarm(f"journal: {error}")
        self._broker.close()
        with suppress(OSError):  # held open by a reader: it is history in a few seconds anyway
            live_path(self.config.data_dir).unlink(missing_ok=True)
        return code

    # -- for people ------------------------------------------------------------------------------------------------------

    def _alive(self) -> str:
        counts = self.feed.counts()
        phases: dict[str, int] = {}
        for state in self.states.values():
            phases[state.snapshot.phase.value] = phases.get(state.snapshot.phase.value, 0) + 1
        words = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        return f"alive: {words}; {counts.get('ticks', 0)} ticks, profit {self.risk.profit()}"

    def faults(self) -> dict[str, int]:
        """What went wrong today, by kind, for the report."""
        counted = {name: count for name, count in self.feed.counts().items() if name != "ticks" and count}
        return counted | {"alarms": self.switchboard.faults, "defects": self.switchboard.defects}

    def _publish(self, doing: str = "trading") -> None:
        """data/status.json, for `status` in another terminal."""
        prices = {symbol: LivePrice(last[0], last[2]) for symbol in self.states if (last := self.feed.last(symbol))}
        live = LiveStatus(
            pid=os.getpid(),
            session=str(self.session.day),
            mode=str(self.config.mode),
            wall_ms=SystemClock().now_ms(),
            now_ms=self._clock.now_ms(),
            doing=doing,
            threads=self._crew.threads(),
            feed=self.feed.counts(),
            prices=prices,
            max_entries={symbol: state.rules.max_entries for symbol, state in self.states.items()},
        )
        write_live(live_path(self.config.data_dir), live, SystemClock())


def _without(row: Planned, symbol: str, why_not: str) -> Planned:
    return msgspec.structs.replace(row, why_not=why_not) if row.symbol == symbol and row.why_not is None else row


# -- run ---------------------------------------------------------------------------------------------------------------------


def run(options: RunOptions) -> int:
    """The `run` command: the exit code of one session. Failure carries the code and the words of what stopped the start."""
    stop_flag = StopFlag()
    _on_signals(stop_flag)
    try:
        return _run(options, stop_flag)
    except Failure as failure:
        if not failure.logged:
            _last_words(options, str(failure), failure.code)
        raise


def _run(options: RunOptions, stop_flag: StopFlag) -> int:
    config = options.config
    _arm(options)
    with ExitStack() as held:
        held.enter_context(_only_instance(config))
        ending.take_stop_request(config.data_dir)  # meant for a session that has ended since
        calendar = calendar_of(config.session)
        if config.mode is Mode.PRACTICE:
            return _practice(options, calendar, held, stop_flag)
        clock = SystemClock()
        session = _session(calendar, clock.now_ms())
        return _session_of(Start(options, calendar, session, clock, _account(options), held, stop_flag))


def _last_words(options: RunOptions, text: str, code: int) -> None:
    """A start that came to nothing is in the log too: a scheduled task has no other witness."""
    config = options.config
    calendar, clock = calendar_of(config.session), SystemClock()
    day = config.practice.day if config.mode is Mode.PRACTICE else calendar.at(clock.now_ms()).day
    to = config.logging
    log = start_log(to.dir, day, to.level, to.format, False, clock, calendar.zone, _secrets(options.environ))
    _say_why(log, text, code)
    log.close(code)


def _say_why(log: Log, text: str, code: int) -> None:
    for line in text.splitlines():
        if code == ending.OK:
            log.info(line)
        else:
            log.alarm(line)


def _secrets(environ: Mapping[str, str]) -> list[str]:
    return [value for name, value in environ.items() if name in SECRET_NAMES]


def _arm(options: RunOptions) -> None:
    """Real money only with `mode: live`, `--live` and the keys."""
    if options.live and options.config.mode is not Mode.LIVE:
        raise Failure(ending.CONFIGURATION, f"--live was given, but the config says mode: {options.config.mode}")
    if options.config.mode is Mode.LIVE and not options.live:
        raise Failure(ending.CONFIGURATION, "the config says mode: live; to trade real money, say --live as well")
    if options.tape and options.config.mode is not Mode.PRACTICE:
        raise Failure(ending.CONFIGURATION, "--tape plays recorded prices: it needs mode: practice")
    missing = missing_credentials(options.config, options.environ)
    if missing:
        raise Failure(ending.CREDENTIALS, f"not set in the environment or .env: {', '.join(missing)}")


def _only_instance(config: Config) -> filelock.BaseFileLock:
    config.data_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(config.data_dir / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise Failure(ending.OTHER_INSTANCE, f"another runner is using {config.data_dir}: stop it first") from None
    return lock


def _session(calendar: Calendar, now_ms: int) -> Session:
    session = calendar.at(now_ms)
    if isinstance(session, Closed):
        raise Failure(ending.OK, f"no session on {session.day}: {session.reason}")
    return session


def _account(options: RunOptions) -> Account:
    broker = options.config.broker
    return Account(
        broker=broker.name,
        rest_url=broker.rest_url,
        ws_url=broker.ws_url,
        exchange=broker.exchange,
        product=broker.product,
        timezone=options.config.session.timezone,
        timeout_s=broker.timeout_ms / 1000,
        settle_window_s=broker.settle_window_ms / 1000,
        keys=options.environ,
        expect_mode={Mode.LIVE: "live", Mode.PRACTICE: "analyze"}.get(options.config.mode),  # type: ignore[arg-type]
    )


def _practice(options: RunOptions, calendar: Calendar, held: ExitStack, stop_flag: StopFlag) -> int:
    """Our own venue on this machine, started for this session or found again after a kill."""
    config = options.config
    day, complaints = _day_on(options.tape, config, calendar) if options.tape else (config.practice.day, [])
    session = calendar.on(day)
    if isinstance(session, Closed):
        raise Failure(ending.OK, f"no session on {session.day}: {session.reason}")
    speed = options.speed or config.practice.speed
    try:
        venue, key, found = practice_venue(config, session, options.tape, speed, options.faults or config.practice.faults)
        clock = venue.start().scaled()
    except (VenueError, TapeError, FaultError) as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    where = {"rest_url": venue.rest_url, "ws_url": venue.ws_url, "exchange": venue_exchange(config)}
    account = msgspec.structs.replace(_account(options), broker="openalgo", keys={"OPENALGO_API_KEY": key}, **where)
    try:
        code = _session_of(Start(options, calendar, session, clock, account, held, stop_flag, venue, found, complaints))
    except Failure as failure:
        if failure.code == ending.OK or not found:  # one that was there before may hold something
            _stop_venue(venue, config)
        raise
    if code == ending.OK:
        _stop_venue(venue, config)
    return code


def _stop_venue(venue: PracticeVenue, config: Config) -> None:
    venue.stop()
    forget_venue(config)


def _day_on(paths: tuple[Path, ...], config: Config, calendar: Calendar) -> tuple[date, list[str]]:
    """The one day that a tape of configured symbols holds, and what is wrong with its lines."""
    symbols = {row.symbol for strategy in config.strategies for row in strategy.symbols}
    try:
        tape = read_tape(paths, symbols)
        days = {calendar.at(tick.at_ms).day for tick in tape}
    except TapeError as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    if len(days) != 1:
        held = f"{len(days)} days: {', '.join(map(str, sorted(days)))}" if days else "no price of a configured symbol"
        raise Failure(ending.CONFIGURATION, f"a session plays one day, the tape holds {held} (replay takes several)")
    return days.pop(), broken_lines(tape)


@dataclass(frozen=True)
class Start:
    """What one session is started with. `held` is undone in the end, whatever happens."""

    options: RunOptions
    calendar: Calendar
    session: Session
    clock: Clock
    account: Account
    held: ExitStack
    stop_flag: StopFlag
    venue: PracticeVenue | None = None
    found: bool = False
    complaints: Sequence[str] = ()

    @property
    def account_name(self) -> str:
        account = self.account
        return self.venue.account if self.venue is not None else f"{account.broker}:{account.exchange}:{account.product}"


def _session_of(start: Start) -> int:
    """One session with its log, whose last line says the exit code whatever happens."""
    config, account = start.options.config, start.account
    log = start_log(
        config.logging.dir,
        start.session.day,
        config.logging.level,
        config.logging.format,
        True,
        start.clock,
        start.calendar.zone,
        _secrets(account.keys),
        [row.symbol for strategy in config.strategies for row in strategy.symbols],
    )
    start.held.callback(log.close)
    try:
        _introduce(start, log)
        return _journaled_session(start, log)
    except Failure as failure:
        failure.logged = True
        _say_why(log, str(failure), failure.code)
        log.close(failure.code)
        raise
    except Exception as error:
        log.defect("defect", error)
        log.close(ending.DEFECT)
        raise


def _introduce(start: Start, log: Log) -> None:
    for line in describe(start.options.config):
        log.info(line)
    if start.venue is not None:
        word = "found again" if start.found else "started"
        log.info(f"practice venue of {start.session.day} {word}, {start.clock.speed:g} times as fast as life")
    for complaint in start.complaints:
        log.warning(f"tape {complaint}")


def _journaled_session(start: Start, log: Log) -> int:
    config, session = start.options.config, start.session
    journal = _journal(config, start.clock)
    start.held.callback(journal.close)
    key = f"{config.mode}:{start.account_name}:{session.day}"
    resumed = _begin(journal, key, mode=str(config.mode), account=start.account_name, day=str(session.day))
    if resumed.repaired:
        log.alarm(f"journal: {resumed.repaired}")
    for other in resumed.interrupted:
        log.warning(f"session {other.key} was interrupted and is not continued: look at its orders and positions at the venue")
    left_open = any(not ending.settled(snapshot) for snapshot in resumed.snapshots.values())
    try:
        session_run = _connected(start, journal, resumed, left_open, log)
    except Failure as failure:
        if not left_open:
            with suppress(JournalError):  # nothing was done in it
                journal.finish(failure.code)
        raise
    if session_run.something_to_do() and session_run.recover(resumed):
        session_run.trade()
    return _ended(start, session_run, journal, log)


def _connected(start: Start, journal: Journal, resumed: Resumed, left_open: bool, log: Log) -> SessionRun:
    """The session, built, once the venue answers and knows us."""
    session = start.session
    if start.clock.now_ms() >= session.close_ms and not left_open:
        closed = clock_text(session.close_ms, start.calendar.zone)
        raise Failure(ending.OK, f"the session of {session.day} closed at {closed[:8]}: nothing to do")
    broker, dialect = _connect(start.account, start.clock)
    _answered(broker.check, start.clock, log, start.stop_flag, left_open)
    return SessionRun(
        start.options.config,
        broker,
        dialect,
        start.clock,
        start.calendar,
        session,
        journal,
        resumed,
        log,
        start.stop_flag,
    )


def _ended(start: Start, session_run: SessionRun, journal: Journal, log: Log) -> int:
    code = session_run.end()
    try:
        path = _report(session_run, journal, start.calendar, code)
        written = report.read(path)
    except (OSError, JournalError) as error:
        log.alarm(f"no report could be written: {error}")
        written = None
    else:
        log.info(f"report {path}")
    log.close(code)
    if written is not None:
        say(summary(written, path, log.path))
    return code


def _begin(journal: Journal, key: str, **facts: str) -> Resumed:
    try:
        return journal.begin(key, **facts)
    except JournalDamaged as error:
        raise Failure(ending.HALTED, str(error)) from None
    except JournalError as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None


def _answered(call: Callable[[], T], clock: Clock, log: Log, stop_flag: StopFlag, left_open: bool) -> T:
    """Ask until the venue answers. With nothing left open there is an end to the patience; else only a person ends it."""
    tries = 0
    while True:
        try:
            return call()
        except Fatal as error:
            raise Failure(ending.CREDENTIALS, f"the broker refuses us: {error}") from None
        except Refused:
            raise
        except BrokerError as error:
            tries += 1
            log.warning(f"the broker does not answer ({tries}): {error}")
            if tries >= START_TRIES and not left_open:
                raise Failure(ending.CONFIGURATION, f"the broker does not answer: {error}") from None
        if (request := _pause(clock, stop_flag, _try_s(tries))) is not None:
            code = ending.UNPROTECTED_OR_UNKNOWN if left_open else ending.OK
            raise Failure(code, f"stopped by {request.who} before the broker had answered")


def _try_s(tries: int) -> float:
    return RECOVERY_TRIES_S[min(tries, len(RECOVERY_TRIES_S)) - 1]


def _pause(clock: Clock, stop_flag: StopFlag, seconds: float) -> StopRequest | None:
    """Let time pass on the main thread, in pieces, for a signal handler can only set a flag."""
    never = threading.Event()
    until_ms = clock.monotonic_ms() + int(seconds * 1000)
    while stop_flag.request is None and (left_ms := until_ms - clock.monotonic_ms()) > 0:
        clock.wait(never, min(left_ms / 1000, WATCH_S))
    return stop_flag.request


def _report(session_run: SessionRun, journal: Journal, calendar: Calendar, code: int) -> Path:
    config, feed = session_run.config, session_run.feed
    with journal.reader() as reader:
        built = report.build(
            reader=reader,
            day=session_run.session.day,
            zone=calendar.zone,
            mode=str(config.mode),
            exit_code=code,
            facts=symbol_facts(session_run.planned, session_run.states),
            ticks=feed.counts().get("ticks", 0),
            faults=session_run.faults(),
        )
    return report.write(config.data_dir, built, SystemClock())


def _journal(config: Config, clock: Clock) -> Journal:
    try:
        return Journal.open(config.journal.path, clock=clock)
    except JournalNewer as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    except JournalDamaged as error:
        raise Failure(ending.HALTED, str(error)) from None
    except JournalError as error:
        raise Failure(ending.CONFIGURATION, f"journal: {error}") from None


def _connect(account: Account, clock: Clock) -> tuple[Broker, Dialect]:
    try:
        return connect(account, clock)
    except (UnknownVenue, ValueError) as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None


def _on_signals(stop_flag: StopFlag) -> None:
    """Handlers only set a flag; the main thread does the rest."""

    def stop(number: int, frame: FrameType | None) -> None:
        stop_flag.ask(StopRequest(StopKind.PROTECT, signal.Signals(number).name))

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # SIGBREAK is Ctrl+Break, on Windows only
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


# -- command line ------------------------------------------------------------------------------------------------------------


@cli.command("run")
@with_config
@click.option("--live", is_flag=True, help="Trade real money (with mode: live in the config and the keys in the environment).")
@click.option("--tape", multiple=True, type=click.Path(path_type=Path, dir_okay=False), help="Recorded day to play (practice).")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Session seconds in one real second (practice).")
@click.option("--faults", default="", help="What goes wrong at the practice venue: calm, hell, lost_reply, ... or a file.")
@click.argument("more_tape", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def run_command(
    ctx: click.Context,
    config_path: Path,
    live: bool,
    tape: tuple[Path, ...],
    speed: float | None,
    faults: str,
    more_tape: tuple[Path, ...],
) -> int:
    """One trading session, from recovery to flat (the default command).

    Example: live_runner.py run --tape SBIN_2021-04-06.csv.gz --speed 60
    """
    config, environ = read_config(ctx, config_path)
    if more_tape and not tape:
        raise click.UsageError(f"unexpected argument {more_tape[0]}")
    return run(RunOptions(config, environ, live, (*tape, *more_tape), speed, faults))


@cli.command("replay")
@with_config
@with_json
@click.option("--tape", multiple=True, required=True, type=click.Path(path_type=Path, dir_okay=False), help="Recorded day.")
@click.option("--entry-timeout", callback=read_duration, help="Cancel entries that rest so long, e.g. 15m; else at the cutoff.")
@click.argument("more_tape", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def replay_command(
    ctx: click.Context,
    config_path: Path,
    as_json: bool,
    tape: tuple[Path, ...],
    entry_timeout: int | None,
    more_tape: tuple[Path, ...],
) -> int:
    """Recorded days through the same strategies, machine, desk and journal, in virtual time.

    Follows the conventions of recorded cases: an entry rests until the cutoff, whatever orders.entry_timeout says for `run`.

    Example: live_runner.py replay --tape SBIN_2021-04-06.csv.gz --json
    """
    config, _ = read_config(ctx, config_path)
    timeout_ms = REST_UNTIL_CUTOFF_MS if entry_timeout is None else entry_timeout
    days: list[object] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for day in replay(config, (*tape, *more_tape), timeout_ms, Path(folder), lambda text: say(text, error=True)):
                if isinstance(day, ClosedDay):
                    say(f"{day.closed.day}: no session ({day.closed.reason}), {day.ticks} ticks not used", error=True)
                    continue
                days.append(day)
                if not as_json:
                    say(summary(day))
    except (TapeError, CalendarError) as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(days), indent=1).decode())
    return ending.OK


def main() -> int:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return run_command_line(Program(STRATEGIES, STORIES))


if __name__ == "__main__":
    sys.exit(main())
