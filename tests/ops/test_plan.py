"""What there is to do on one day, and the rules that each symbol must obey on it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ops.config import Config, calendar_of, load
from ops.plan import guard_rules, make_rules, plan_day, symbol_facts
from ops.report import SymbolFacts
from state.clock import VirtualClock
from state.instrument import Instrument
from state.rules import Able
from state.session import Session
from state.sizing import fixed
from state.snapshot import Snapshot
from state.strategy import View
from state.symbol_state import SymbolState
from strategies import STRATEGIES
from tests import runs

D = Decimal
SBIN = Instrument("SBIN", "NSE", D("0.05"))
ABLE = Able(can_replace=True, native_stops=True, settle_ms=30_000)


def config_of(folder: Path, *dates: str, **more: Any) -> Config:
    """SBIN, ITC, INFY … with these setup dates."""
    names = ["SBIN", "ITC", "INFY"]
    rows = [
        {"symbol": name, "qty": 5, "entry_price": 731.15, "trigger_price": 730.65, "setup_date": day}
        for name, day in zip(names, dates, strict=False)
    ]
    runs.write_config(folder, {"strategies": [{"name": "eighty_twenty", "symbols": rows}]}, more)
    return load(folder / "config.yaml", {}, STRATEGIES)


def why_not(config: Config, day: str) -> dict[str, str | None]:
    return {row.symbol: row.why_not for row in plan_day(config, calendar_of(config.session), date.fromisoformat(day))}


def test_a_setup_is_good_for_the_next_trading_day_only(tmp_path: Path) -> None:
    """ENT-11: Thursday's, Friday's and Monday's setups; Tuesday 2026-11-24 is a holiday."""
    config = config_of(tmp_path, "2026-11-19", "2026-11-20", "2026-11-23")
    late = "setup of {} is good for {} only, not for {}".format

    assert why_not(config, "2026-11-23") == {
        "SBIN": late("2026-11-19", "2026-11-20", "2026-11-23"),
        "ITC": None,
        "INFY": late("2026-11-23", "2026-11-25", "2026-11-23"),
    }
    assert why_not(config, "2026-11-25") == {
        "SBIN": late("2026-11-19", "2026-11-20", "2026-11-25"),
        "ITC": late("2026-11-20", "2026-11-23", "2026-11-25"),
        "INFY": None,
    }


def test_a_year_that_the_calendar_does_not_know_allows_no_setup(tmp_path: Path) -> None:
    """EXI-13"""
    config = config_of(tmp_path, "2027-03-01", session={"open": None, "close": None}, practice={"day": "2026-11-20"})

    assert "no trading day after 2027-03-01" in str(why_not(config, "2027-03-02")["SBIN"])


def session_of(config: Config, day: str = "2026-11-20") -> Session:
    session = calendar_of(config.session).on(date.fromisoformat(day))
    assert isinstance(session, Session)
    return session


def test_the_rules_are_the_configs_and_the_sessions(tmp_path: Path) -> None:
    more = {"orders": {"timeout": "30s", "entry_timeout": "5m", "max_retries": 2}, "risk": {"unprotected_limit": "4s"}}
    config = config_of(tmp_path, "2026-11-19", **more)
    session = session_of(config)
    (planned,) = plan_day(config, calendar_of(config.session), session.day)

    rules = make_rules(config, planned, SBIN, session, STRATEGIES, able=replace(ABLE, can_replace=False, settle_ms=31_000))

    assert (rules.instrument, rules.size, rules.day, rules.max_entries) == (SBIN, fixed(D(5)), "20261120", 3)
    assert (rules.can_replace, rules.native_stops, rules.settle_ms) == (False, True, 31_000)
    assert (rules.entry_from_ms, rules.cutoff_ms) == (session.entry_from_ms, session.cutoff_ms)
    assert (rules.entry_timeout_ms, rules.order_timeout_ms, rules.max_retries) == (300_000, 30_000, 2)
    assert rules.unprotected_limit_ms == 4_000
    assert rules.strategy.name == "eighty_twenty"


def test_a_replay_may_have_another_entry_timeout(tmp_path: Path) -> None:
    config = config_of(tmp_path, "2026-11-19")
    session = session_of(config)
    (planned,) = plan_day(config, calendar_of(config.session), session.day)

    rules = make_rules(config, planned, SBIN, session, STRATEGIES, able=ABLE, entry_timeout_ms=7)

    assert rules.entry_timeout_ms == 7


def test_what_an_earlier_config_left_behind_is_guarded_and_never_entered(tmp_path: Path) -> None:
    """CRA-11"""
    config = config_of(tmp_path, "2026-11-19")
    session = session_of(config)

    rules = guard_rules(config, "TECHM", SBIN, session, ABLE)

    assert (rules.max_entries, rules.cutoff_ms, rules.settle_ms) == (0, session.cutoff_ms, 30_000)
    with pytest.raises(LookupError):
        rules.strategy.stop_price(VIEW)


def test_the_facts_for_the_report_have_what_was_seen_and_what_was_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, "2026-11-19", "2026-11-18", "2026-11-19")
    session = session_of(config)
    planned = plan_day(config, calendar_of(config.session), session.day)
    clock = VirtualClock(session.open_ms)
    state = SymbolState(Snapshot("SBIN"), make_rules(config, planned[0], SBIN, session, STRATEGIES, able=ABLE), Silent(), clock)
    state.tick(D("732.00"), session.open_ms)
    state.tick(D("733.00"), session.open_ms + 1)

    assert symbol_facts(planned, {"SBIN": state}) == [
        SymbolFacts("SBIN", "eighty_twenty", 3, None, D("730.65"), D("732.00"), D("733.00")),
        SymbolFacts("ITC", "eighty_twenty", 3, planned[1].why_not, D("730.65"), None, None),
        SymbolFacts("INFY", "eighty_twenty", 3, None, D("730.65"), None, None),
    ]


VIEW = View(
    position=D(5),
    average=D("731.15"),
    side=None,
    stop_price=None,
    peak=None,
    entries_used=0,
    entering=False,
    why="",
    now_ms=0,
)


class Silent:
    """An outbox that nobody empties."""

    def put(self, symbol: str, work: object) -> None: ...
