"""The commands that print facts, and what all commands share: --config, --json, exit codes, errors in one line.

`run` and `replay` belong to live_runner.py, which adds them to this group and says which strategies there are.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec

from ops import ending, facts, facts_text, requests
from ops.config import Config, ConfigErrors, calendar_of, environment, load
from ops.config_fields import duration
from ops.log import redactor
from ops.options import Failure, say, secrets_of
from ops.requests import StopKind, StopRequest, SyncRequest
from state.clock import SystemClock
from state.journal import JournalError, JournalReader

CONFIG = "config.yaml"
SYNC_PATIENCE_MS = 15_000


class Program(msgspec.Struct, frozen=True):
    """What the command line must know of the rest: the strategies and practice stories that a config may name."""

    strategies: Mapping[str, type]
    stories: Collection[str]


LATE: dict[str, str] = {}  # commands whose modules are read when they are asked for: name -> "module:attribute"


class DefaultRun(click.Group):
    """A group in which no command means `run`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATE:
            return super().get_command(ctx, cmd_name)
        module, attribute = LATE[cmd_name].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultRun, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Runs trading strategies live: never two entries, never an unprotected position, never a lost fill.

    Without a command: run. Example: python live_runner.py run --config config.yaml
    """


with_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=CONFIG,
    show_default=True,
    help="Settings.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Facts as JSON instead of tables.")


def read_duration(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Milliseconds of an option like 15m."""
    try:
        return None if value is None else duration()(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_config(ctx: click.Context, path: Path) -> tuple[Config, dict[str, str]]:
    """The config and the environment it is used with; every mistake printed, code 2."""
    program: Program = ctx.obj
    try:
        environ = environment(path.resolve().parent)
        return load(path, environ, program.strategies, program.stories), environ
    except ConfigErrors as errors:
        raise Failure(ending.CONFIGURATION, f"{len(errors.errors)} mistakes in {path}:\n{errors}") from None


def run_command_line(program: Program, arguments: Sequence[str] | None = None) -> int:
    """The whole program: the exit code of the command. Output never fails for want of a character in the code page."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        return cli.main(args=arguments, prog_name="live_runner.py", obj=program, standalone_mode=False) or 0
    except Failure as failure:
        if str(failure):
            say(str(failure), error=failure.code != 0)
        return failure.code
    except click.ClickException as error:
        error.show()
        return ending.CONFIGURATION
    except (click.Abort, KeyboardInterrupt):
        say("interrupted", error=True)
        return ending.CONFIGURATION
    except Exception as error:  # the last line of defence: a code of its own, and everything that is needed to find it
        say("".join(traceback.format_exception(error)), error=True)
        return ending.DEFECT


# -- facts -------------------------------------------------------------------------------------------------------------------


class Source(msgspec.Struct, frozen=True):
    """What every facts command looks at."""

    config: Config
    reader: JournalReader | None
    live: facts.LiveStatus | None
    now_ms: int

    @property
    def zone(self) -> tzinfo:
        return calendar_of(self.config.session).zone


def _facts(ctx: click.Context, path: Path, as_json: bool, ask: Callable[[Source], Any], words: Callable[[Any], str]) -> None:
    """Ask the journal, which another process may be writing at this moment, and show the answer."""
    config, environ = read_config(ctx, path)
    clock = SystemClock()
    live = facts.read_live(facts.live_path(config.data_dir), clock.now_ms())
    try:
        with ExitStack() as held:
            known = config.journal.path.exists()
            reader = held.enter_context(JournalReader.open(config.journal.path)) if known else None
            found = ask(Source(config, reader, live, live.now_ms if live else clock.now_ms()))
    except JournalError as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    say(redactor(secrets_of(environ))(facts_text.to_json(found) if as_json else words(found)))


@cli.command()
@with_config
@with_json
@click.pass_context
def status(ctx: click.Context, config_path: Path, as_json: bool) -> None:
    """The whole picture: each symbol, what rests, why not. Example: live_runner.py status --json"""
    _facts(ctx, config_path, as_json, lambda d: facts.status(d.reader, d.zone, d.now_ms, d.live), facts_text.status_text)


@cli.command()
@with_config
@with_json
@click.pass_context
def orders(ctx: click.Context, config_path: Path, as_json: bool) -> None:
    """Every order of the session with its age and how urgent that is."""
    _facts(ctx, config_path, as_json, lambda d: facts.orders(d.reader, d.zone, d.now_ms, d.live), facts_text.orders_text)


@cli.command()
@with_config
@with_json
@click.pass_context
def positions(ctx: click.Context, config_path: Path, as_json: bool) -> None:
    """What is held, and whether its stop is working at the venue."""
    _facts(ctx, config_path, as_json, lambda d: facts.positions(d.reader, d.live), facts_text.positions_text)


@cli.command()
@with_config
@with_json
@click.pass_context
def trades(ctx: click.Context, config_path: Path, as_json: bool) -> None:
    """Each round trip of the session and what it made."""
    _facts(ctx, config_path, as_json, lambda d: facts.trades(d.reader, d.zone), facts_text.trades_text)


@cli.command()
@with_config
@with_json
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Session date; the newest without it.")
@click.pass_context
def report(ctx: click.Context, config_path: Path, as_json: bool, day: datetime | None) -> None:
    """The end-of-day report. Example: live_runner.py report --date 2026-11-20"""
    config, environ = read_config(ctx, config_path)
    date_wanted = None if day is None else day.date()
    found = facts.report(config.data_dir, date_wanted)
    text = facts_text.to_json(found) if as_json else facts_text.report_text(found, config.data_dir, date_wanted)
    say(redactor(secrets_of(environ))(text))
    if found is None:
        raise Failure(ending.CONFIGURATION, "")


@cli.command()
@with_config
@click.option("--protect", "kind", flag_value="protect", default="protect", help="Entries go, stops stay (the default).")
@click.option("--flatten", "kind", flag_value="flatten", help="Positions are closed first.")
@click.option("--keep", "kind", flag_value="keep", help="Everything stays as it is.")
@click.pass_context
def stop(ctx: click.Context, config_path: Path, kind: str) -> None:
    """Ask the running session to stop. Example: live_runner.py stop --flatten"""
    config, _ = read_config(ctx, config_path)
    live = facts.read_live(facts.live_path(config.data_dir), SystemClock().now_ms())
    if live is None:
        raise Failure(ending.CONFIGURATION, "no running session answers: nothing to stop")
    requests.ask_to_stop(config.data_dir, StopRequest(StopKind(kind), "the command line"))
    say(f"asked the session of {live.session} (process {live.pid}) to stop: {kind}. Its log says when it has.")


@cli.command()
@with_config
@with_json
@click.argument("order_id")
@click.pass_context
def sync(ctx: click.Context, config_path: Path, as_json: bool, order_id: str) -> None:
    """Ask the venue about one order now, and say what that changed. Example: live_runner.py sync SBIN-20261120-E0"""
    config, _ = read_config(ctx, config_path)
    clock = SystemClock()
    if facts.read_live(facts.live_path(config.data_dir), clock.now_ms()) is None:
        raise Failure(ending.CONFIGURATION, "no running session answers: start one, it asks the venue about everything")
    place = requests.ask_to_sync(config.data_dir, SyncRequest(order_id))
    never, until_ms = clock.threads.event(), clock.monotonic_ms() + SYNC_PATIENCE_MS
    while (answer := requests.take_answer(place)) is None and clock.monotonic_ms() < until_ms:
        clock.wait(never, 0.05)
    if answer is None:
        raise Failure(ending.UNPROTECTED_OR_UNKNOWN, "the running session has not answered in time: see its log")
    say(facts_text.to_json(answer) if as_json else answer.text)
    if not answer.known:
        raise Failure(ending.CONFIGURATION, "")
