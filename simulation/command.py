"""`live_runner.py simulate`: what it takes on the command line and what it prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import msgspec

from ops import ending
from ops.cli import read_config, with_config, with_json
from ops.config import Config, environment, load
from ops.options import Failure, say
from simulation import simulate
from simulation.run import Setting, setting
from state.clock import SystemClock
from state.session import CalendarError
from strategies import STRATEGIES

PROGRESS_EVERY = 20


def config_of(path: Path) -> Config:
    """In a worker of its own, from the same file."""
    return load(path, environment(path.resolve().parent), STRATEGIES)


@click.command("simulate")
@with_config
@with_json
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1), help="Sessions to simulate.")
@click.option("--seed", default=7, show_default=True, type=int, help="The same seed gives the same sessions.")
@click.option("--jobs", type=click.IntRange(1), help="Processes to share the work.  [default: one for each core]")
@click.option("--for", "for_s", type=click.FloatRange(1), help="Begin no more sessions after so many seconds.")
@click.option(
    "--replay",
    "trace",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Run the trace of a violation again, step for step, and show its log.",
)
@click.pass_context
def simulate_command(
    ctx: click.Context,
    config_path: Path,
    as_json: bool,
    runs: int,
    seed: int,
    jobs: int | None,
    for_s: float | None,
    trace: Path | None,
) -> int:
    """The whole runner through simulated trading days: hostile venue, hostile network, kills, every order of its threads.

    Uses the symbols and strategies of the config, your own included. Exits 1 when an invariant broke.

    Example: live_runner.py simulate --runs 1000 --seed 7
    """
    config, _ = read_config(ctx, config_path)
    try:
        of = setting(config)
        if trace is not None:
            return _again(of, trace, as_json)
    except (ValueError, CalendarError) as error:
        raise Failure(ending.CONFIGURATION, str(error)) from None
    workers = jobs or os.cpu_count() or 1
    tally, failed = simulate.simulate(partial(config_of, config_path), runs, seed, workers, SystemClock(), _progress(runs), for_s)
    tally.symbols = len(of.symbols)
    folder = config.data_dir / "traces"
    tally.violations = [simulate.keep(of, outcome, folder, config_path) for outcome in failed]
    say(msgspec.json.format(msgspec.json.encode(tally), indent=1).decode() if as_json else simulate.words(tally))
    return 1 if tally.violations else ending.OK


def _again(of: Setting, path: Path, as_json: bool) -> int:
    trace, outcome = simulate.again(of, path)
    broken = [msgspec.to_builtins(found) for found in outcome.violations]
    if as_json:
        facts = {"trace": str(path), "steps": outcome.steps, "hash": outcome.hash, "violations": broken}
        say(msgspec.json.format(msgspec.json.encode(facts), indent=1).decode())
    else:
        say(simulate.told(trace, outcome))
    return 1 if broken else ending.OK


def _progress(runs: int) -> Callable[[int], None]:
    """On a terminal, to the side of what is printed in the end."""
    if not sys.stderr.isatty():
        return lambda done: None

    def tell(done: int) -> None:
        end = "\n" if done >= runs else ""
        sys.stderr.write(f"\r{done} of {runs} sessions{end}")
        sys.stderr.flush()

    return tell
