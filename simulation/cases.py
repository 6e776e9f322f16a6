"""The recorded 80-20 days of ../shared/data against what a correct runner does on them: `python tasks.py cases [--sockets]`.

Owns the comparison. Each clean case is replayed twice, in two processes with different hash seeds: fills, stop paths, exits and
reasons must be exactly those of the case file, and both outputs the same bytes. With --sockets the cases that no convention can
change (`sensitive_to` empty) are also run through the practice venue, faster than life; there a price or time may differ by what
passes during one order's round trip: from 2 s of the tape before the expected time to half a second of life after it.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import click
import msgspec

from brokers.tape import read_tape
from ops.table import table
from state.clock import SystemClock

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
EARLY_MS = 2_000  # of the tape, before the expected time
LATE_REAL_S = 0.5  # of life, after it
QTY = 10
NSE_HOLIDAYS = ("2021-04-02", "2021-04-14", "2021-04-21", "2021-05-13")  # README of the data
RUN_LIMIT_S = 3600.0

Level: TypeAlias = tuple[int, Decimal]


class Trip(msgspec.Struct, frozen=True):
    """One round trip. Times are epoch milliseconds."""

    fill_ms: int
    fill: Decimal
    stops: tuple[Level, ...]
    exit_ms: int
    exit: Decimal
    reason: str


class Case(msgspec.Struct, frozen=True):
    """One row of the case file, with what its exchange's hours are."""

    name: str
    exchange: str
    symbol: str
    day: str
    setup_date: str
    entry: str
    trigger: str
    tick_size: str
    tape: Path
    outcome: str
    sensitive_to: str
    timezone: str
    open: str
    close: str
    trips: tuple[Trip, ...]


class Checked(msgspec.Struct, frozen=True):
    """What came of one case. No differences: all is as expected."""

    case: str
    outcome: str
    trades: int
    differences: tuple[str, ...]
    seconds: float


# -- the case file -------------------------------------------------------------------------------------------------------------


def read_cases(data: Path = DATA) -> list[Case]:
    """The clean cases, in the order of the file. OSError where the data is not there."""
    with (data / "instruments.csv").open(encoding="utf-8", newline="") as file:
        instruments = {(row["exchange"], row["symbol"]): row for row in csv.DictReader(file)}
    with (data / "eighty_twenty_cases.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["clean"] == "yes"]
    return [_case(row, instruments[row["exchange"], row["symbol"]], data) for row in rows]


def _case(row: dict[str, str], instrument: dict[str, str], data: Path) -> Case:
    return Case(
        name=row["case"],
        exchange=row["exchange"],
        symbol=row["symbol"],
        day=row["next_session"],
        setup_date=row["setup_date"],
        entry=row["entry"],
        trigger=row["trigger"],
        tick_size=row["tick_size"],
        tape=data / row["tape"],
        outcome=row["outcome"],
        sensitive_to=row["sensitive_to"],
        timezone=instrument["timezone"],
        open=instrument["session_open"],
        close=instrument["session_close"],
        trips=tuple(map(_expected, json.loads(row["trades_json"]))),
    )


def _expected(trade: dict[str, Any]) -> Trip:
    stops = tuple((_ms(at), Decimal(level)) for at, level in trade["stops"])
    fill, exit = Decimal(trade["fill"]), Decimal(trade["exit"])
    return Trip(_ms(trade["fill_ts"]), fill, stops, _ms(trade["exit_ts"]), exit, trade["reason"])


def reported(trade: dict[str, Any]) -> Trip:
    """A trade of our report. One that is still open has no exit and is a difference by itself."""
    stops = tuple((_ms(at), Decimal(level)) for at, level in trade["stop_path"])
    exit_ms = _ms(trade["exit_time"]) if trade["exit_time"] else 0
    exit = Decimal(trade["exit_price"] or 0)
    return Trip(_ms(trade["entry_time"]), Decimal(trade["entry_price"]), stops, exit_ms, exit, trade["reason"])


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


# -- config --------------------------------------------------------------------------------------------------------------------


def write_config(folder: Path, cases: Sequence[Case]) -> Path:
    """The conventions of the case file for cases of one exchange and day. An entry rests until the cutoff."""
    first = cases[0]
    weekends = first.close == "24:00"
    holidays = ", ".join(NSE_HOLIDAYS) if first.exchange == "NSE" else ""
    grids = [f"  {case.symbol}: {{tick_size: {case.tick_size}, lot_size: 1}}" for case in cases]
    rows = [
        f"      - {{symbol: {case.symbol}, qty: {QTY}, entry_price: {case.entry}, trigger_price: {case.trigger}, "
        f"setup_date: {case.setup_date}}}"
        for case in cases
    ]
    lines = [
        "mode: practice",
        f"broker: {{name: openalgo, exchange: {first.exchange}}}",
        f'session: {{timezone: {first.timezone}, open: "{first.open}:00", close: "{_close(first.close)}", entry_delay: 1m,',
        f"  exit_before_close: 45m, holidays: [{holidays}], weekends: {str(weekends).lower()}}}",
        "orders: {entry_timeout: 24h}",
        "risk: {max_open_positions: 50, signal_slots: 50}",
        "control: {port: 0}",
        "practice: {linger: 5s}",
        "instruments:",
        *grids,
        "strategies:",
        "  - name: eighty_twenty",
        "    params: {stop_ticks: 20, trail_bar: 15m, trail_buffer_ticks: 2, trigger_window: 60m, max_entries: 3}",
        "    symbols:",
        *rows,
    ]
    path = folder / "config.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _close(text: str) -> str:
    return text if text == "24:00" else f"{text}:00"


# -- replay --------------------------------------------------------------------------------------------------------------------


def check_replay(case: Case) -> Checked:
    """Twice through `replay`; exactly the trips of the case, and the same bytes both times."""
    clock = SystemClock()
    began_ms = clock.monotonic_ms()
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), [case])
        outputs = [_runner("replay", config, ["--tape", str(case.tape), "--json"], seed) for seed in (1, 2)]
    trades, differences = 0, [words for words, _ in outputs if words]
    if not differences:
        (report,) = json.loads(outputs[0][1])
        trips = [reported(trade) for trade in report["trades"]]
        trades, differences = len(trips), differ(case, report, trips)
        if outputs[0][1] != outputs[1][1]:
            differences.append("two replays gave different bytes")
    return Checked(case.name, case.outcome, trades, tuple(differences), (clock.monotonic_ms() - began_ms) / 1000)


def differ(case: Case, report: dict[str, Any], trips: Sequence[Trip]) -> list[str]:
    """In words, everything that is not exactly as the case says."""
    found = [] if report["session"] == case.day else [f"session {report['session']}, expected {case.day}"]
    found += differ_in_kind(case, report)
    if len(trips) != len(case.trips):
        found.append(f"{len(trips)} trades, expected {len(case.trips)}")
    for number, (got, want) in enumerate(zip(trips, case.trips, strict=False), 1):
        for name in Trip.__struct_fields__:
            if getattr(got, name) != getattr(want, name):
                found.append(f"trade {number} {name}: {getattr(got, name)}, expected {getattr(want, name)}")
    return found


def differ_in_kind(case: Case, report: dict[str, Any]) -> list[str]:
    """No trade may have many reasons: the symbol was watched, and it armed exactly where the case says that it did."""
    row = next((row for row in report["symbols"] if row["symbol"] == case.symbol), None)
    if row is None or row["low"] is None:
        return [f"it was not watched: {row['why'] if row else 'not in the report'}"]
    armed = bool(case.trips) or case.outcome == "armed_not_filled"
    if bool(row["entries"]) is not armed:
        return [f"{row['entries']} entries, outcome {case.outcome} ({row['why']})"]
    return []


def _runner(command: str, config: Path, arguments: Sequence[str], seed: int = 0) -> tuple[str, bytes]:
    """What went wrong (empty: nothing), and the output."""
    line = [sys.executable, str(ROOT / "live_runner.py"), command, "--config", str(config), *arguments]
    environ = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(line, cwd=config.parent, env=environ, capture_output=True, timeout=RUN_LIMIT_S, check=False)
    last = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-1:]
    return (f"{command} ended with {done.returncode}: {' '.join(last)}" if done.returncode else ""), done.stdout


# -- sockets -------------------------------------------------------------------------------------------------------------------


def by_day(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Cases that one session can play together: one exchange, one day, no symbol twice, each with its own tape."""
    key = lambda case: (case.exchange, case.day)  # noqa: E731 - used twice
    for _, same_day in groupby(sorted(cases, key=key), key=key):
        runs: list[list[Case]] = []
        for case in same_day:
            room = next((run for run in runs if case.symbol not in {other.symbol for other in run}), None)
            if room is None:
                runs.append([case])
            else:
                room.append(case)
        yield from runs


def check_sockets(cases: Sequence[Case], speed: float) -> list[Checked]:
    """One session of the whole program on the tapes of these cases."""
    clock = SystemClock()
    began_ms = clock.monotonic_ms()
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), cases)
        tapes = [word for case in cases for word in ("--tape", str(case.tape))]
        failed, _ = _runner("run", config, [*tapes, "--speed", f"{speed:g}"])
        path = Path(folder) / "data" / "reports" / f"{cases[0].day}.json"
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"symbols": [], "trades": []}
    seconds = (clock.monotonic_ms() - began_ms) / 1000
    return [_compared(case, report, failed, speed, seconds) for case in cases]


def _compared(case: Case, report: dict[str, Any], failed: str, speed: float, seconds: float) -> Checked:
    trips = [reported(trade) for trade in report["trades"] if trade["symbol"] == case.symbol]
    differences = [*([failed] if failed else []), *differ_in_kind(case, report)]
    if len(trips) != len(case.trips):
        differences.append(f"{len(trips)} trades, expected {len(case.trips)}")
    late_ms = int(LATE_REAL_S * speed * 1000)
    for number, (got, want) in enumerate(zip(trips, case.trips, strict=False), 1):
        differences += [f"trade {number} {words}" for words in differ_by_more(case, got, want, late_ms)]
    return Checked(case.name, case.outcome, len(trips), tuple(differences), seconds)


def differ_by_more(case: Case, got: Trip, want: Trip, late_ms: int) -> list[str]:
    """What cannot be explained by an order's way there and back."""
    found = []
    if got.reason != want.reason:
        found.append(f"reason: {got.reason}, expected {want.reason}")
    if got.fill != want.fill:
        found.append(f"fill: {got.fill}, expected {want.fill}")
    for name, at_ms, expected_ms in (("fill_ms", got.fill_ms, want.fill_ms), ("exit_ms", got.exit_ms, want.exit_ms)):
        if not expected_ms - EARLY_MS <= at_ms <= expected_ms + late_ms:
            found.append(f"{name}: {at_ms - expected_ms:+} ms, allowed -{EARLY_MS} to +{late_ms}")
    low, high = _range(case, want.exit_ms - EARLY_MS, want.exit_ms + late_ms)
    if not low <= got.exit <= high:
        found.append(f"exit: {got.exit}, expected {want.exit}, allowed {low} to {high}")
    return found


def _range(case: Case, from_ms: int, to_ms: int) -> tuple[Decimal, Decimal]:
    prices = [tick.price for tick in read_tape([case.tape], {case.symbol}) if from_ms <= tick.at_ms <= to_ms]
    return (min(prices), max(prices)) if prices else (Decimal(0), Decimal(0))


# -- command line --------------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
@click.option("--sockets", is_flag=True, help="Also over sockets, through the practice venue, faster than life.")
@click.option("--speed", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Session seconds in a real one.")
@click.option("--case", "names", multiple=True, help="Only cases whose name contains this.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at one time (replays: one per core; sessions: 6).")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, help="Where the recorded data lies.")
def command(as_json: bool, sockets: bool, speed: float, names: tuple[str, ...], jobs: int | None, data: Path) -> int:
    """Recorded 80-20 days against what a correct runner does on them."""
    clock = SystemClock()
    began_ms = clock.monotonic_ms()
    try:
        cases = [case for case in read_cases(data) if not names or any(name in case.name for name in names)]
    except OSError as error:
        click.echo(f"the recorded data is not there: {error}", err=True)
        return 2
    if not cases:
        click.echo("no clean case has such a name", err=True)
        return 2
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        replayed = list(pool.map(check_replay, cases))
    run: list[Checked] = []
    if sockets:
        days = list(by_day(case for case in cases if not case.sensitive_to))
        with ThreadPoolExecutor(jobs or 6) as pool:
            run = [checked for several in pool.map(lambda day: check_sockets(day, speed), days) for checked in several]
    bad = sum(bool(checked.differences) for checked in (*replayed, *run))
    seconds = (clock.monotonic_ms() - began_ms) / 1000
    if as_json:
        facts = {"replay": replayed, "sockets": run, "speed": speed, "tolerance": _tolerance(speed), "different": bad}
        click.echo(msgspec.json.format(msgspec.json.encode(facts | {"wall_s": seconds}), indent=1).decode())
    else:
        click.echo(_told("replay, exact, twice", replayed))
        if sockets:
            click.echo(_told(f"sockets, {speed:g} times as fast as life; {_tolerance(speed)}", run))
        click.echo(f"{len(replayed)} cases replayed, {len(run)} run over sockets, {bad} different, {seconds:.0f} s")
    return 1 if bad else 0


def _tolerance(speed: float) -> str:
    return f"prices and times from {EARLY_MS / 1000:g} s before to {LATE_REAL_S * speed:g} s after the expected time"


def _told(title: str, checked: Sequence[Checked]) -> str:
    rows = [
        [one.case, one.outcome, str(one.trades), f"{one.seconds:.1f}", "differs" if one.differences else "ok"] for one in checked
    ]
    more = [f"  {one.case}: {words}" for one in checked for words in one.differences]
    return "\n".join([title, table(["case", "outcome", "trades", "s", ""], rows), *more, ""])


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 all as expected, 1 differences, 2 nothing to compare."""
    try:
        return int(command.main(args=list(arguments), prog_name="tasks.py cases", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return 2
