"""The practice venue for a config: start one, or find again the one that a killed runner left behind.

`data/practice.json` says where it listens. Finding it again is what makes kill -9 and start again work without any account.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from brokers.practice import PracticeSettings, PracticeSpec, PracticeVenue, attach_venue, start_venue
from brokers.practice_fault_kinds import Fault
from brokers.practice_faults import NAMED, load_faults
from brokers.practice_market import PracticeSymbol
from brokers.practice_schema import EXCHANGES
from ops.config import Config
from state.instrument import Instrument
from state.session import Session
from state.sizing import sized

CALM = "calm"
LEAD_MS = 3_000  # session time before the open at which a practice day begins, times its speed


class Found(msgspec.Struct, frozen=True):
    """How to reach a running venue, and what it plays."""

    rest_url: str
    ws_url: str
    api_key: str
    plays: str


def practice_venue(
    config: Config, session: Session, tape: Sequence[Path], speed: float, faults: str = CALM
) -> tuple[PracticeVenue, str, bool]:
    """A venue playing this session, its key, and whether it was there before. VenueError when it cannot be started."""
    note = config.data_dir / "practice.json"
    plays = _plays(config, session, tape, speed, faults)
    old = _read(note)
    running = attach_venue(old.rest_url, old.api_key) if old is not None else None
    if old is not None and running is not None:
        if old.plays == plays:
            return running, old.api_key, True
        running.stop()  # another day: nobody will look after it any more, and it may sit on our ports
    key = secrets.token_hex(16)
    venue = start_venue(_spec(config, session, tape, speed, key, faults))
    _write(note, Found(venue.rest_url, venue.ws_url, key, plays))
    return venue, key, False


def venue_for_a_look(config: Config, session: Session) -> tuple[PracticeVenue, str, bool]:
    """The one that is noted, if it still runs (true); else a calm one, not noted, for the caller to stop."""
    old = _read(config.data_dir / "practice.json")
    running = attach_venue(old.rest_url, old.api_key) if old is not None else None
    if old is not None and running is not None:
        return running, old.api_key, True
    key = secrets.token_hex(16)
    return start_venue(_spec(config, session, (), config.practice.speed, key)), key, False


def forget_venue(config: Config) -> None:
    """The venue has been stopped."""
    (config.data_dir / "practice.json").unlink(missing_ok=True)


def venue_exchange(config: Config) -> str:
    """Under which exchange the venue lists the symbols: its dialect knows Indian ones only, whatever day it plays."""
    return config.broker.exchange if config.broker.exchange in EXCHANGES else "CRYPTO"


def _plays(config: Config, session: Session, tape: Sequence[Path], speed: float, faults: str) -> str:
    """Equal for two runs that want the same practice day."""
    stories = sorted(config.practice.stories.items())
    rows = [(row.symbol, row.size.text, repr(row.setup)) for strategy in config.strategies for row in strategy.symbols]
    return repr(
        (session.day, session.open_ms, session.close_ms, speed, [str(path.resolve()) for path in tape], stories, rows, faults)
    )


def _spec(config: Config, session: Session, tape: Sequence[Path], speed: float, key: str, faults: str = CALM) -> PracticeSpec:
    symbols = {row.symbol: row for strategy in config.strategies for row in strategy.symbols}
    instruments = [_instrument(config, symbol) for symbol in symbols]
    market = (
        []
        if tape
        else [practice_symbol(config, strategy.params, row) for strategy in config.strategies for row in strategy.symbols]
    )
    return PracticeSpec(
        account=f"practice-{secrets.token_hex(4)}",
        api_key=key,
        instruments=instruments,
        session_start_ms=session.open_ms - int(LEAD_MS * speed),
        open_ms=session.open_ms,
        close_ms=session.close_ms,
        speed=speed,
        rest_port=config.practice.rest_port,
        ws_port=config.practice.ws_port,
        symbols=market,
        tape=[str(path) for path in tape],
        settings=PracticeSettings(product=config.broker.product, linger_s=config.practice.linger_ms / 1000),
        faults=list(_script(config, faults)),
        fault_seed=config.practice.seed,
    )


def _script(config: Config, faults: str) -> tuple[Fault, ...]:
    """By name, or from a file beside the config. FaultError lists every mistake in it."""
    if faults in NAMED:
        return NAMED[faults]
    return load_faults(str(config.path.parent / faults))


def _instrument(config: Config, symbol: str) -> Instrument:
    grid = config.instrument(symbol)
    return Instrument(symbol, venue_exchange(config), grid.tick_size, grid.lot_size)


def practice_symbol(config: Config, params: Any, row: Any) -> PracticeSymbol:
    """A setup as the made-up market needs it; a strategy without such prices gets a path around 100."""
    grid, instrument = config.instrument(row.symbol), _instrument(config, row.symbol)
    entry, stop_ticks = getattr(row.setup, "entry_price", Decimal(100)), getattr(params, "stop_ticks", 20)
    expected = sized(row.size, instrument, entry, instrument.ticks(stop_ticks)).qty
    return PracticeSymbol(
        symbol=row.symbol,
        entry_price=entry,
        trigger_price=getattr(row.setup, "trigger_price", entry - grid.tick_size * 10),
        tick_size=grid.tick_size,
        qty=expected or instrument.least,
        lot_size=grid.lot_size,
        stop_ticks=stop_ticks,
        story=config.practice.stories.get(row.symbol, ""),
    )


def _read(path: Path) -> Found | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Found)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, found: Found) -> None:
    """For its owner only: it holds the venue's key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_suffix(".new")
    with open(os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(found))
    os.replace(waiting, path)
