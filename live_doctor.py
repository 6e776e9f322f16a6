"""`live_runner.py doctor`: connects what is to be examined, hands it to ops/doctor*.py. Sends no order, leaves nothing behind.

A practice venue that a killed session left is looked at as it is; without one a venue is started for the look and stopped again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import click

from brokers.base import Broker, BrokerError, Budgeted, Fatal
from brokers.practice import VenueError
from brokers.practice_faults import FaultError
from brokers.venues import Account, UnknownVenue, connect
from live_account import account_of, practice_account
from ops import doctor
from ops.cli import Program, with_config, with_json
from ops.config import Config, ConfigErrors, Mode, calendar_of, environment, load, missing_credentials
from ops.doctor import Check, Diagnosis, Remembered
from ops.doctor_text import doctor_text, to_json
from ops.doctor_venue import Connected, Examination
from ops.log import redactor
from ops.options import say, secrets_of
from simulation.practice_day import venue_for_a_look
from state.clock import Clock, SystemClock
from state.session import Closed


class NoVenue(Exception):
    """It cannot even be asked; `check` says why."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.found)
        self.check = check


class Warned(logging.Handler):
    """What the adapters warn of while they are asked: a permission too many, a maintenance, a symbol in auction."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self.texts:
            self.texts.append(text)


@click.command("doctor")
@with_config
@with_json
@click.pass_context
def doctor_command(ctx: click.Context, config_path: Path, as_json: bool) -> int:
    """Is everything in order for a session? Reads only. Exits 0, 2 (something fails) or 3 (only the key does).

    Example: live_runner.py doctor --json
    """
    program: Program = ctx.obj
    environ: dict[str, str] = {}
    try:
        environ = environment(config_path.resolve().parent)
        config = load(config_path, environ, program.strategies, program.stories)
    except ConfigErrors as errors:
        found = doctor.diagnosis(config_path, None, doctor.mistaken(config_path, errors))
    else:
        found = examined(config, environ, program, SystemClock())
    say(redactor(secrets_of(environ))(to_json(found) if as_json else doctor_text(found)))
    return found.exit_code


def examined(config: Config, environ: Mapping[str, str], program: Program, wall: Clock) -> Diagnosis:
    checks = list(doctor.checks_here(config, environ, wall))
    instance, running = doctor.other_instance(config, wall)
    journaled, known = doctor.journal(config, running)
    checks += [instance, *journaled]
    if running:
        text = "not asked: the running session uses its key, and a second user takes turns and nonces from it"
        checks.append(doctor.warn("venue", text, "`status` and `positions` show what it knows"))
    elif missing_credentials(config, environ):
        checks.append(doctor.warn("venue", "not asked: there are keys missing"))
    else:
        checks += _at_the_venue(config, environ, program, wall, known)
    return doctor.diagnosis(config.path, config, checks)


def _at_the_venue(
    config: Config, environ: Mapping[str, str], program: Program, wall: Clock, known: Remembered
) -> Iterator[Check]:
    calendar = calendar_of(config.session)
    day = config.practice.day if config.mode is Mode.PRACTICE else calendar.at(wall.now_ms()).day
    try:
        with _warnings() as warned, _venue(config, environ, day, wall, warned) as connected:
            yield from Examination(config, calendar, day, connected, program.strategies, known).checks()
    except NoVenue as none:
        yield none.check


@contextmanager
def _warnings() -> Iterator[Warned]:
    warned, logger = Warned(), logging.getLogger("brokers")
    logger.addHandler(warned)
    logger.propagate = False
    try:
        yield warned
    finally:
        logger.propagate = True
        logger.removeHandler(warned)


@contextmanager
def _venue(config: Config, environ: Mapping[str, str], day: date, wall: Clock, warned: Warned) -> Iterator[Connected]:
    if config.mode is not Mode.PRACTICE:
        account = account_of(config, environ)
        with _broker(account, wall) as broker:
            yield _connected(broker, account.rest_url, wall, warned, paper=config.mode is Mode.PAPER)
        return
    session = calendar_of(config.session).on(day)
    if isinstance(session, Closed):
        raise NoVenue(doctor.fail("session", f"none on {day}: {session.reason}", "name another practice.day"))
    try:
        venue, key, found = venue_for_a_look(config, session)
    except (VenueError, FaultError) as error:
        raise NoVenue(doctor.fail("practice venue", str(error), "see practice.rest_port, ws_port and faults")) from None
    try:
        clock = (venue.clock() if found else venue.start()).scaled()
        with _broker(practice_account(config, environ, venue, key), clock) as broker:
            where = f"the practice venue {'that is there' if found else 'started for this look'}"
            yield _connected(broker, where, clock, warned, speed=clock.speed)
    except VenueError as error:
        raise NoVenue(
            doctor.fail("practice venue", str(error), "start the runner: it finds the venue or makes a new one")
        ) from None
    finally:
        if not found:
            venue.stop()


@contextmanager
def _broker(account: Account, clock: Clock) -> Iterator[Broker]:
    try:
        broker, _ = connect(account, clock)
    except UnknownVenue as error:
        raise NoVenue(doctor.fail("connection", str(error), "name another broker")) from None
    except ValueError as error:  # a key that cannot be one
        raise NoVenue(doctor.fail("key", str(error), "copy it once more", of_credentials=True)) from None
    try:
        yield broker
    finally:
        broker.close()


def _connected(broker: Broker, where: str, clock: Clock, warned: Warned, paper: bool = False, speed: float = 1.0) -> Connected:
    budget = broker.budget if isinstance(broker, Budgeted) else None
    return Connected(broker, where, clock, BrokerError, Fatal, lambda: warned.texts, budget, paper, speed)
