"""Command line and wiring: build, start, wait, stop, exit code. Nothing else.

`python live_runner.py run`, or any other command with --help. What a session is made of is in ARCHITECTURE.md.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import FrameType

import click
import filelock
import msgspec

from brokers.base import Broker
from brokers.practice import PracticeVenue, VenueError
from brokers.practice_faults import FaultError
from brokers.practice_market import STORIES
from brokers.streams import Streams
from brokers.tape import TapeError, read_tape
from brokers.venues import Account, UnknownVenue, connect
from live_account import account_of, practice_account
from live_session import SessionRun, until_answered
from ops import ending, report, requests
from ops.cli import LATE, Program, cli, read_config, read_duration, run_command_line, with_config, with_json
from ops.config import Config, Mode, calendar_of, describe, missing_credentials
from ops.log import Log, start_log
from ops.operator import AtTheFiles
from ops.options import Failure, RunOptions, say, secrets_of
from ops.plan import symbol_facts
from ops.report_text import summary
from ops.requests import StopFlag, StopKind, StopRequest
from ops.words import clock_text
from simulation.practice_day import forget_venue, practice_venue
from simulation.replay import ClosedDay, broken_lines, replay
from state.clock import Clock, SystemClock
from state.journal import Journal, JournalDamaged, JournalError, JournalNewer, Resumed
from state.session import Calendar, CalendarError, Closed, Session
from strategies import STRATEGIES

REST_UNTIL_CUTOFF_MS = 7 * 86_400_000
SWITCH_INTERVAL_S = 0.0005  # a computing thread gives way sooner (DESIGN, section 12)


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
        requests.take_stop_request(config.data_dir)  # meant for a session that has ended since
        calendar = calendar_of(config.session)
        if config.mode is Mode.PRACTICE:
            return _practice(options, calendar, held, stop_flag)
        clock = SystemClock()
        session = _session(calendar, clock.now_ms())
        return _session_of(Start(options, calendar, session, clock, account_of(config, options.environ), held, stop_flag))


def _last_words(options: RunOptions, text: str, code: int) -> None:
    """A start that came to nothing is in the log too: a scheduled task has no other witness."""
    config = options.config
    calendar, clock = calendar_of(config.session), SystemClock()
    day = config.practice.day if config.mode is Mode.PRACTICE else calendar.at(clock.now_ms()).day
    to = config.logging
    log = start_log(to.dir, day, to.level, to.format, False, clock, calendar.zone, secrets_of(options.environ))
    _say_why(log, text, code)
    log.close(code)


def _say_why(log: Log, text: str, code: int) -> None:
    for line in text.splitlines():
        if code == ending.OK:
            log.info(line)
        else:
            log.alarm(line)


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
    account = practice_account(config, options.environ, venue, key)
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
        secrets_of(account.keys),
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
    session, was_killed = start.session, resumed.was == "running"  # killed while flat: its report has yet to be written
    if start.clock.now_ms() >= session.close_ms and not left_open and not was_killed:
        closed = clock_text(session.close_ms, start.calendar.zone)
        raise Failure(ending.OK, f"the session of {session.day} closed at {closed[:8]}: nothing to do")
    account = msgspec.structs.replace(start.account, identity=journal.identity())
    broker, streams = _connect(account, start.clock)
    until_answered(broker.check, start.clock, log, start.stop_flag, left_open)
    wall = SystemClock()
    return SessionRun(
        start.options.config,
        broker,
        streams,
        start.clock,
        start.calendar,
        session,
        journal,
        resumed,
        log,
        start.stop_flag,
        AtTheFiles(start.options.config.data_dir, wall),
        wall,
    )


def _ended(start: Start, session_run: SessionRun, journal: Journal, log: Log) -> int:
    code = session_run.end()
    try:
        path = _report(session_run, journal, start.calendar, code, log.redact)
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


def _report(session_run: SessionRun, journal: Journal, calendar: Calendar, code: int, redact: Callable[[str], str]) -> Path:
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
    return report.write(config.data_dir, built, SystemClock(), redact)


def _journal(config: Config, clock: Clock) -> Journal:
    try:
        return Journal.open(config.journal.path, clock=clock)
    except JournalNewer as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    except JournalDamaged as error:
        raise Failure(ending.HALTED, str(error)) from None
    except JournalError as error:
        raise Failure(ending.CONFIGURATION, f"journal: {error}") from None


def _connect(account: Account, clock: Clock) -> tuple[Broker, Streams]:
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


LATE["doctor"] = "live_doctor:doctor_command"
LATE["simulate"] = "simulation.command:simulate_command"  # its modules would double the time of every start


def main() -> int:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return run_command_line(Program(STRATEGIES, STORIES))


if __name__ == "__main__":
    sys.exit(main())
