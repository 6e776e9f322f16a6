"""The practice venue for a config: what it is told to play, and how it is found again. Real processes on 127.0.0.1."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.practice import PracticeVenue, VenueError, attach_venue
from brokers.practice_market import STORIES, PracticeSymbol
from ops.config import Config, calendar_of, load
from simulation import practice_day
from simulation.practice_day import LEAD_MS, forget_venue, practice_venue
from state.session import Session
from strategies import STRATEGIES
from tests import runs

pytestmark = pytest.mark.timeout(60)
D = Decimal
SPEED = 60.0


def config_of(folder: Path, **more: Any) -> Config:
    folder.mkdir(exist_ok=True)
    runs.write_config(folder, {"practice": {"linger": "20s"}}, more, symbols=lambda row: row["symbol"] in ("SBIN", "ITC"))
    return load(folder / "config.yaml", {}, STRATEGIES, STORIES)


def session_of(config: Config) -> Session:
    session = calendar_of(config.session).on(date(2026, 11, 20))
    assert isinstance(session, Session)
    return session


@pytest.fixture
def started() -> Iterator[list[PracticeVenue]]:
    """Every venue put in here is stopped in the end."""
    venues: list[PracticeVenue] = []
    yield venues
    for venue in venues:
        venue.stop()


def test_the_venue_plays_the_configs_symbols_and_begins_a_little_before_the_open(tmp_path: Path) -> None:
    config = config_of(tmp_path, instruments={"ITC": {"tick_size": 0.1, "lot_size": 5}})
    session = session_of(config)

    spec = practice_day._spec(config, session, (), SPEED, "key")

    assert spec.session_start_ms == session.open_ms - int(LEAD_MS * SPEED)
    assert (spec.open_ms, spec.close_ms, spec.speed, spec.settings.linger_s) == (session.open_ms, session.close_ms, SPEED, 20)
    assert [(found.symbol, found.tick_size, found.lot_size) for found in spec.instruments] == [
        ("SBIN", D("0.05"), D(1)),
        ("ITC", D("0.1"), D(5)),
    ]
    assert spec.symbols == [
        PracticeSymbol("SBIN", D("812.4"), D("811.9"), D("0.05"), D(10), D(1), 20, "reentry"),
        PracticeSymbol("ITC", D("418.55"), D("418.05"), D("0.1"), D(20), D(5), 20, "three_losses"),
    ]


@pytest.mark.parametrize(("size", "qty"), [({"notional": 10_000}, 12), ({"risk": 25}, 25), ({"notional": 1}, 1)])
def test_the_made_up_market_reckons_with_what_a_size_in_money_comes_to(tmp_path: Path, size: dict[str, int], qty: int) -> None:
    row = {"symbol": "SBIN", "entry_price": 812.40, **size}
    config = config_of(tmp_path, strategies=[{"name": "breakout", "symbols": [row]}])

    (symbol,) = practice_day._spec(config, session_of(config), (), SPEED, "key").symbols

    assert symbol.qty == qty


def test_with_a_tape_there_is_no_made_up_market(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    spec = practice_day._spec(config, session_of(config), (tmp_path / "a.csv",), SPEED, "key")

    assert (spec.symbols, spec.tape) == ([], [str(tmp_path / "a.csv")])


def test_a_day_of_an_exchange_that_the_dialect_does_not_know_can_be_played(tmp_path: Path) -> None:
    config = config_of(tmp_path, broker={"exchange": "USA"})

    spec = practice_day._spec(config, session_of(config), (), SPEED, "key")

    assert practice_day.venue_exchange(config) == "CRYPTO"
    assert {found.exchange for found in spec.instruments} == {"CRYPTO"}


def test_a_venue_is_found_again_by_the_same_config_and_not_after_it_was_forgotten(
    tmp_path: Path, started: list[PracticeVenue]
) -> None:
    config = config_of(tmp_path)
    session = session_of(config)

    first, key, found = practice_venue(config, session, (), SPEED)
    started.append(first)
    again, same_key, found_again = practice_venue(config, session, (), SPEED)
    first.stop()
    forget_venue(config)
    other, _, found_once_more = practice_venue(config, session, (), SPEED)
    started.append(other)

    assert (found, found_again, found_once_more) == (False, True, False)
    assert (again.account, again.rest_url, same_key) == (first.account, first.rest_url, key)
    assert other.account != first.account, "a new venue is a new account: its journal begins anew"


def test_another_day_stops_the_old_venue_and_starts_its_own(tmp_path: Path, started: list[PracticeVenue]) -> None:
    """It would sit on configured ports, and nobody looks after it."""
    config = config_of(tmp_path)
    session = session_of(config)
    old, key, _ = practice_venue(config, session, (), SPEED)
    started.append(old)

    new, _, found = practice_venue(config, session, (), SPEED * 2)
    started.append(new)

    assert (found, new.account != old.account) == (False, True)
    runs.until(lambda: attach_venue(old.rest_url, key) is None, "the old venue has gone")


def test_a_venue_that_was_killed_is_not_found(tmp_path: Path, started: list[PracticeVenue]) -> None:
    config = config_of(tmp_path)
    session = session_of(config)
    first, _, _ = practice_venue(config, session, (), SPEED)
    first._child.end(0)  # type: ignore[union-attr]

    second, _, found = practice_venue(config, session, (), SPEED)
    started.append(second)

    assert (found, second.account != first.account) == (False, True)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"rest_url": "http://127.0.0.1:1", "ws_url": "", "api_key": "", "plays": ""}', b"\xff"]
)
def test_a_note_that_says_nothing_useful_is_overlooked(tmp_path: Path, started: list[PracticeVenue], text: bytes) -> None:
    config = config_of(tmp_path)
    config.data_dir.mkdir()
    (config.data_dir / "practice.json").write_bytes(text)

    venue, _, found = practice_venue(config, session_of(config), (), SPEED)
    started.append(venue)

    assert not found


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes")
def test_the_note_with_the_key_is_for_its_owner_only(tmp_path: Path, started: list[PracticeVenue]) -> None:
    config = config_of(tmp_path)
    started.append(practice_venue(config, session_of(config), (), SPEED)[0])

    assert os.stat(config.data_dir / "practice.json").st_mode & 0o077 == 0


def test_a_venue_that_cannot_start_says_why(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    with pytest.raises(VenueError, match="missing.csv"):
        practice_venue(config, session_of(config), (tmp_path / "missing.csv",), SPEED)
