"""`doctor`: is everything in order for a session? A list of checks, each with what was found and what to do about it.

Owns the checks of this machine, their order, and the exit code. Must never: send an order, write anything that stays, or raise
because of what it finds. The checks of the venue are in doctor_venue.py, the words for the terminal in doctor_text.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import filelock
import msgspec

from ops import ending, facts
from ops.config import Config, ConfigErrors, Mode, calendar_of, missing_credentials
from ops.config_types import CREDENTIALS
from state.clock import Clock
from state.journal import JournalError, JournalReader
from state.snapshot import Snapshot

LITTLE_DISK, NO_DISK = 1_000_000_000, 100_000_000  # bytes


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. `of_credentials`: what fails here fails for the key, not for the setting-up."""

    name: str
    grade: Grade
    found: str
    to_do: str = ""
    of_credentials: bool = False


class Diagnosis(msgspec.Struct, frozen=True):
    """Everything that was looked at, in order; `exit_code` is what the command ends with."""

    config: str
    mode: str
    broker: str
    exit_code: int
    checks: tuple[Check, ...]


class Remembered(msgspec.Struct, frozen=True):
    """What the journal says of its newest session: our orders by the venue's ids, and what each symbol held at last."""

    venue_ids: frozenset[str] = frozenset()
    snapshots: Mapping[str, Snapshot] = {}


def ok(name: str, found: str) -> Check:
    return Check(name, Grade.OK, found)


def warn(name: str, found: str, to_do: str = "") -> Check:
    return Check(name, Grade.WARNING, found, to_do)


def fail(name: str, found: str, to_do: str, of_credentials: bool = False) -> Check:
    return Check(name, Grade.FAIL, found, to_do, of_credentials)


def diagnosis(path: Path, config: Config | None, checks: Sequence[Check]) -> Diagnosis:
    mode, broker = ("", "") if config is None else (str(config.mode), config.broker.name)
    return Diagnosis(str(path), mode, broker, exit_code(checks), tuple(checks))


def exit_code(checks: Sequence[Check]) -> int:
    """0 when nothing fails, 3 when only the key does, else 2."""
    failed = [check for check in checks if check.grade is Grade.FAIL]
    if not failed:
        return ending.OK
    return ending.CREDENTIALS if all(check.of_credentials for check in failed) else ending.CONFIGURATION


def mistaken(path: Path, errors: ConfigErrors) -> list[Check]:
    """A file that cannot be used: each mistake by its path."""
    return [fail("config", f"{where}: {what}" if where else what, f"correct it in {path}") for where, what in errors.errors]


# -- this machine ------------------------------------------------------------------------------------------------------------


def checks_here(config: Config, environ: Mapping[str, str], wall: Clock) -> Iterator[Check]:
    yield _config(config)
    yield from _credentials(config, environ)
    yield _time_zone(config, wall)
    yield _room(config.data_dir)
    yield _writable("data directory", config.data_dir)
    yield _writable("log directory", config.logging.dir)


def _config(config: Config) -> Check:
    rows = [row for strategy in config.strategies for row in strategy.symbols]
    names = ", ".join(strategy.name for strategy in config.strategies)
    found = f"mode {config.mode}, broker {config.broker.name}, {len(rows)} symbols, {names}"
    return ok("config", f"{found}; real money only with --live" if config.mode is Mode.LIVE else found)


def _credentials(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    needed = CREDENTIALS[config.broker.name]
    missing = missing_credentials(config, environ)
    odd = [name for name in needed if (value := environ.get(name, "")) != value.strip() or value[:1] in ("'", '"')]
    if config.mode is Mode.PRACTICE:
        yield ok("credentials", "none needed in practice")
    elif missing:
        to_do = "put them into the environment or into .env beside the config (.env.example shows how)"
        yield fail("credentials", f"not set: {', '.join(missing)}", to_do, of_credentials=True)
    elif odd:
        yield warn("credentials", f"with spaces or quotes around: {', '.join(odd)}", "write the bare key")
    else:
        there = [name for name in needed if environ.get(name)]
        yield ok("credentials", f"set: {', '.join(there)}" if there else "none needed for paper with public prices")


def _time_zone(config: Config, wall: Clock) -> Check:
    zone = calendar_of(config.session).zone
    now = datetime.fromtimestamp(wall.now_ms() / 1000, zone)
    return ok("time zone", f"{zone}, where it is {now:%Y-%m-%d %H:%M:%S} (UTC{now:%z})")


def _room(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(_nearest(folder)).free
    except OSError as error:
        return warn("disk", f"free space of {folder} cannot be read: {error}", "look at the disk")
    found = f"{free / 1e9:.1f} GB free for {folder}"
    if free < NO_DISK:
        return fail("disk", found, "make room: without the journal there are no entries")
    return warn("disk", found, "make room") if free < LITTLE_DISK else ok("disk", found)


def _writable(name: str, folder: Path) -> Check:
    """Tried out where the folder is there; a look creates none."""
    place = _nearest(folder)
    try:
        if place == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise NotADirectoryError(f"{place} cannot hold it")
    except OSError as error:
        return fail(name, f"{folder} cannot be written: {error}", "let this user write there, or name another one in the config")
    return ok(name, str(folder) if place == folder else f"{folder}, to be made at the start")


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)


# -- what earlier sessions left --------------------------------------------------------------------------------------------------


def other_instance(config: Config, wall: Clock) -> tuple[Check, bool]:
    """Is somebody using the data directory at this moment?"""
    live = facts.read_live(facts.live_path(config.data_dir), wall.now_ms())
    if _held(config.data_dir / "lock"):
        who = f"process {live.pid}, {live.doing}" if live else "it has said nothing lately"
        return warn("instance", f"a session is running ({who})", "`status` shows it; a second one would not start"), True
    if (config.data_dir / "lock").exists():
        return ok("instance", "nobody else; a lock file is there and nobody holds it"), False
    return ok("instance", "nobody else"), False


def _held(path: Path) -> bool:
    """By trying: the operating system frees the lock of a process that is gone, whatever file it leaves."""
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False  # not ours to write: said by the check of the data directory
    lock.release()
    return False


def journal(config: Config, running: bool) -> tuple[list[Check], Remembered]:
    """Every session read back along its chain, without writing."""
    path = config.journal.path
    if not path.exists():
        return [ok("journal", f"none yet: {path}")], Remembered()
    try:
        with JournalReader.open(path) as reader:
            sessions = reader.sessions()
            for session in sessions:
                reader.snapshots(session.id)
            ids = frozenset(order.venue_id for order in reader.orders() if order.venue_id is not None)
            known, newest = Remembered(ids, reader.snapshots()), reader.latest()
    except JournalError as error:
        return [fail("journal", str(error), "follow these steps; the venue's own book is the truth")], Remembered()
    checks = [ok("journal", f"{len(sessions)} sessions in {path}, each record follows the one before")]
    open_still = ending.describe_open(known.snapshots.values())
    if newest is not None and open_still and not running:
        to_do = "start the runner: it asks the venue about everything and protects first"
        checks.append(warn("left open", f"session {newest.day}: {'; '.join(open_still)}", to_do))
    return checks, known
