"""Replays: the recorded days against the case file, and small tapes of our own, so that it is tested without the recordings."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from ops.config import load
from ops.report import Report
from simulation import cases
from simulation.replay import ClosedDay, replay
from strategies import STRATEGIES
from tests import runs

REST_MS = 7 * 86_400_000
SBIN = {"symbol": "SBIN", "qty": 10, "entry_price": 812.40, "trigger_price": 811.90, "setup_date": "2026-11-19"}
Turns = list[tuple[str, str]]


def known_cases() -> list[cases.Case]:
    try:
        return cases.read_cases()
    except OSError:
        return []


# -- recorded days -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not known_cases(), reason="the recorded data (../shared/data) is not here")
@pytest.mark.parametrize("case", known_cases(), ids=lambda case: case.name)
def test_a_recorded_day_gives_exactly_the_trades_of_the_case_file(case: cases.Case, tmp_path: Path) -> None:
    """Fills, stop paths, exits, reasons and times; twice, with the same bytes."""
    config = load(cases.write_config(tmp_path, [case]), {}, STRATEGIES)

    first, second = (list(replay(config, [case.tape], REST_MS, folder(tmp_path, name))) for name in ("first", "second"))

    told = msgspec.to_builtins(first[0])
    assert cases.differ(case, told, [cases.reported(trade) for trade in told["trades"]]) == []
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


def folder(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


# -- small tapes ---------------------------------------------------------------------------------------------------------------


Play = Callable[..., Report]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Replay one tape of SBIN, from 09:15 to the end of its last turn; cutoff 10:30, close 11:15."""

    def played(turns: Turns, end: str, entry_timeout_ms: int = REST_MS, **params: Any) -> Report:
        return one(days(tmp_path, {"SBIN": turns}, end, entry_timeout_ms, params))

    return played


def days(
    parent: Path,
    paths: dict[str, Turns],
    end: str,
    entry_timeout_ms: int = REST_MS,
    params: Any = None,
    row: dict[str, Any] = SBIN,
) -> list[Any]:
    rows = [row | {"symbol": symbol} for symbol in paths]
    runs.write_config(
        parent,
        {"session": {"calendar": None, "open": "09:15:00", "close": "11:15:00"}},
        {"strategies": [{"name": "eighty_twenty", "params": params or {}, "symbols": rows}]},
    )
    tape = runs.write_tape(parent / "day.csv", paths, end)
    config = load(parent / "config.yaml", {}, STRATEGIES)
    with TemporaryDirectory() as journals:
        return list(replay(config, [tape], entry_timeout_ms, Path(journals)))


def one(found: list[Any]) -> Report:
    (report,) = found
    assert isinstance(report, Report)
    return report


def trades(report: Report) -> list[tuple[str, str, str, str | None, str]]:
    return [
        (row.entry_time[11:19], row.entry_price, (row.exit_time or "")[11:19], row.exit_price, row.reason)
        for row in report.trades
    ]


def levels(report: Report) -> list[tuple[str, Decimal]]:
    return [(at[11:19], Decimal(level)) for at, level in report.trades[0].stop_path]


def why(report: Report) -> str:
    return report.symbols[0].why


ARM = [("09:15:00", "813.00"), ("09:20:00", "811.90")]


def test_an_order_fills_on_a_later_tick_than_the_one_that_caused_it(play: Play) -> None:
    report = play([*ARM, ("09:20:01", "812.40"), ("09:25:00", "811.00")], "09:26:00")

    assert trades(report) == [("09:20:01", "812.40", "09:25:00", "811.00", "stop")]
    assert levels(report) == [("09:20:01", Decimal("811.40"))]


@pytest.mark.parametrize(("size", "qty"), [({"notional": 10_000}, "12"), ({"risk": 500}, "500")])
def test_a_size_in_money_trades_the_quantity_it_comes_to(tmp_path: Path, size: dict[str, int], qty: str) -> None:
    """ENT-12: 12 x 812.40 is 9,748.80; a stop 20 ticks away loses 1.00 a unit."""
    row = {name: value for name, value in SBIN.items() if name != "qty"} | size

    report = one(days(tmp_path, {"SBIN": [*ARM, ("09:20:01", "812.40"), ("09:25:00", "811.00")]}, "09:26:00", row=row))

    assert trades(report) == [("09:20:01", "812.40", "09:25:00", "811.00", "stop")]
    assert [trade.qty for trade in report.trades] == [qty]


def test_a_leap_over_the_limit_rests_until_the_price_comes_back(play: Play) -> None:
    """ENT-08: it is not chased; it fills at its limit."""
    report = play([*ARM, ("09:21:00", "815.00"), ("09:30:00", "812.30"), ("09:31:00", "811.35")], "09:32:00")

    assert trades(report) == [("09:30:00", "812.40", "09:31:00", "811.35", "stop")]


def test_the_stop_trails_behind_green_bars_only_and_only_upward(play: Play) -> None:
    """PRO-06, PRO-07: bars of 09:30 and 10:00 are green, the one of 09:45 is red."""
    turns = [
        *ARM,
        ("09:21:00", "812.40"),
        ("09:24:00", "813.00"),
        ("09:30:00", "814.00"),
        ("09:40:00", "813.50"),
        ("09:46:00", "814.50"),
    ]
    report = play([*turns, ("10:05:00", "813.00")], "10:06:00")

    assert levels(report) == [("09:21:00", Decimal("811.40")), ("09:30:00", Decimal("811.80")), ("10:00:00", Decimal("813.40"))]
    assert trades(report) == [("09:21:00", "812.40", "10:05:00", "813.00", "trail")]


def test_after_a_stop_a_new_trigger_is_needed_and_three_entries_are_all(play: Play) -> None:
    """ENT-02, ENT-07"""
    trip = [("09:{0}:10", "811.90"), ("09:{0}:20", "812.40"), ("09:{0}:40", "811.40"), ("09:{0}:50", "813.00")]
    turns = [(time.format(minute), price) for minute in (20, 25, 30, 35) for time, price in trip]
    report = play([("09:15:00", "813.00"), *turns], "09:40:00")

    assert [row[4] for row in trades(report)] == ["stop"] * 3
    assert why(report) == "3 trades, entries used 3 of 3"


@pytest.mark.parametrize(
    ("touch", "enters"),
    [("09:15:30", False), ("09:16:00", True), ("10:14:59", True), ("10:15:00", False)],
)
def test_the_trigger_counts_inside_its_window_only(play: Play, touch: str, enters: bool) -> None:
    """ENT-06: no entries in the first minute, none from an hour after the open."""
    back = {"09:15:30": "09:15:31", "09:16:00": "09:16:01", "10:14:59": "10:15:00", "10:15:00": "10:15:01"}[touch]
    report = play([("09:15:00", "813.00"), (touch, "811.90"), (back, "812.00")], "10:16:00")

    assert report.symbols[0].entries == (1 if enters else 0)


def test_at_the_cutoff_the_entry_goes_and_the_position_is_sold_by_the_clock(tmp_path: Path) -> None:
    """EXI-01, EXI-03: SBIN is held, ITC's entry rests."""
    paths = {"SBIN": [*ARM, ("09:21:00", "812.40")], "ITC": [*ARM, ("09:21:00", "812.00")]}
    report = one(days(tmp_path, paths, "10:40:00"))

    assert trades(report) == [("09:21:00", "812.40", "10:30:00", "812.40", "cutoff")]
    assert [row.why for row in report.symbols] == [
        "1 trade, entries used 1 of 3",
        "no trade, entries used 1 of 3; entry cancelled (cutoff)",
    ]


def test_a_tape_that_ends_early_is_closed_at_its_last_price(play: Play) -> None:
    report = play([*ARM, ("09:21:00", "812.40"), ("09:22:00", "812.55")], "09:30:00")

    assert [row[3:] for row in trades(report)] == [("812.55", "cutoff")]
    assert report.exit_code == 0


def test_the_entry_timeout_is_the_commands_not_the_configs(play: Play) -> None:
    """`replay --entry-timeout 10m`: withdrawn after ten minutes, else it would have filled."""
    turns = [*ARM, ("09:21:00", "812.00"), ("09:35:00", "812.40")]

    assert trades(play(turns, "09:36:00", entry_timeout_ms=600_000)) == []
    assert len(trades(play(turns, "09:36:00"))) == 1


def test_a_day_without_a_session_is_told_and_others_are_played(tmp_path: Path) -> None:
    """2026-11-24 is a holiday of XNSE."""
    runs.write_config(tmp_path, {"strategies": [{"name": "eighty_twenty", "symbols": [SBIN]}]})
    config = load(tmp_path / "config.yaml", {}, STRATEGIES)
    tapes = [
        runs.write_tape(tmp_path / f"{day}.csv", {"SBIN": [("09:15:00", "813.00")]}, "09:16:00", day=day)
        for day in ("2026-11-23", "2026-11-24")
    ]

    first, second = replay(config, tapes, REST_MS, tmp_path)

    assert (
        isinstance(first, Report)
        and first.symbols[0].why == "setup of 2026-11-19 is good for 2026-11-20 only, not for 2026-11-23"
    )
    assert isinstance(second, ClosedDay) and (str(second.closed.day), second.ticks) == ("2026-11-24", 60)


def test_prices_outside_the_session_are_not_played(play: Play) -> None:
    report = play([("09:14:00", "811.00"), *ARM], "09:21:00")

    assert report.ticks == 360
    assert report.symbols[0].low == "811.90"


def test_the_command_prints_the_same_day_in_words_and_in_json(tmp_path: Path) -> None:
    days(tmp_path, {"SBIN": [*ARM, ("09:20:01", "812.40"), ("09:25:00", "811.00")]}, "09:26:00")
    tape = str(tmp_path / "day.csv")

    first = runs.command(tmp_path, "replay", "--tape", tape, "--json", env=runs.environment(PYTHONHASHSEED="1"))
    second = runs.command(tmp_path, "replay", tape, "--json", "--tape", tape, env=runs.environment(PYTHONHASHSEED="2"))
    words = runs.command(tmp_path, "replay", "--tape", tape)

    assert (first.code, words.code) == (0, 0)
    assert [row["reason"] for row in first.json[0]["trades"]] == ["stop"]
    assert second.code == 0
    assert "SBIN" in words.out and "811.00" in words.out
