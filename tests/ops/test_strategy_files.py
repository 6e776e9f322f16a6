"""A strategy of the user's own, named by its file: how it is found, what is wrong with it in words, and that it trades."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ops.config import Config, ConfigErrors, describe, load
from ops.report import Report
from simulation.replay import replay
from state.strategy import Strategy
from strategies import STRATEGIES
from tests import runs

MINE = '''"""Buys strength."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from state.orders import OrderType, Side
from state.strategy import Enter, Strategy, View, Wish


class Strength(Strategy):
    class Params(msgspec.Struct, frozen=True):
        stop_ticks: int = 20
        pause_ms: int = 60_000
        max_entries: int = 1

        def __post_init__(self) -> None:
            if self.stop_ticks == 13:
                raise ValueError("stop_ticks: not 13")

    class Setup(msgspec.Struct, frozen=True):
        symbol: str
        qty: Decimal
        entry_price: Decimal

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if view.flat and price >= self.setup.entry_price:
            return Enter(Side.BUY, OrderType.MARKET, f"{price} broke {self.setup.entry_price}")
        return None

    def stop_price(self, view: View) -> Decimal:
        return view.average - self.instrument.ticks(self.params.stop_ticks)
'''
ROW = {"symbol": "SBIN", "qty": 10, "entry_price": 812.40}
HOURS = {"calendar": None, "open": "09:15:00", "close": "09:45:00", "exit_before_close": "15m"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A config that names a class in a file beside it, and the file."""

    def written(
        text: str | None = MINE, name: str = "mine.py:Strength", params: Any = None, row: Any = None, file: str = "mine.py"
    ) -> Path:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        if text is not None:
            (tmp_path / file).write_text(text, encoding="utf-8")
        strategy = {"name": name, "params": params or {}, "symbols": [row or ROW]}
        changes = {"session": HOURS, "strategies": [strategy], "practice": {"day": "2026-11-20", "speed": 300}}
        return runs.write_config(tmp_path, changes)

    return written


def read(path: Path) -> Config:
    return load(path, {}, STRATEGIES)


def errors(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(path)
    return [f"{where}: {what}" for where, what in caught.value.errors]


# -- what is right ---------------------------------------------------------------------------------------------------------


def test_a_class_in_a_file_beside_the_config_is_a_strategy_like_any_other(write: Write) -> None:
    """Params and setup are read by the types it declares; numbers are exact."""
    (strategy,) = read(write(params={"stop_ticks": 7, "pause": "5s", "max_entries": 2})).strategies
    cls: Any = strategy.own

    assert issubclass(cls, Strategy) and (cls.__name__, cls.name) == ("Strength", "Strength")
    assert strategy.name == "mine.py:Strength"
    assert (strategy.params, strategy.max_entries) == (cls.Params(7, 5_000, 2), 2)
    assert strategy.symbols[0].setup == cls.Setup("SBIN", Decimal(10), Decimal("812.4"))


def test_a_file_may_lie_in_a_folder_of_its_own(write: Write) -> None:
    assert read(write(name="my own/mine.py:Strength", file="my own/mine.py")).strategies[0].own is not None


def test_a_file_is_loaded_once(write: Write, tmp_path: Path) -> None:
    counted = "from pathlib import Path\n\nwith (Path(__file__).parent / 'loaded').open('a') as file:\n    file.write('x')\n"
    path = write(f"{MINE}\n\n{counted}")
    first, second = read(path), read(path)

    assert (tmp_path / "loaded").read_text() == "x"
    assert first == second


def test_the_strategies_that_come_with_the_program_are_still_named_by_their_names(write: Write) -> None:
    (strategy,) = read(write(name="breakout")).strategies

    assert (strategy.name, strategy.own) == ("breakout", None)


def test_the_config_is_described_with_it(write: Write) -> None:
    assert any("mine.py:Strength" in line for line in describe(read(write())))


# -- what is wrong, by path ------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(write: Write, tmp_path: Path) -> None:
    assert errors(write(text=None)) == [f"strategies[0].name: there is no file {tmp_path.resolve() / 'mine.py'}"]


def test_a_class_that_is_not_there(write: Write) -> None:
    assert errors(write(name="mine.py:Strenght")) == [
        "strategies[0].name: mine.py has no class Strenght: it has Strength (did you mean 'Strength'?)"
    ]
    assert errors(write(name="mine.py:")) == ["strategies[0].name: mine.py has no class named after the colon: it has Strength"]


def test_a_file_without_any_strategy(write: Write) -> None:
    assert errors(write("x = 1\n")) == [
        "strategies[0].name: mine.py has no class Strength: it has no class made of state.strategy.Strategy"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Strength(:\n", "line 1: SyntaxError: "),
        ("\n\nimport nothing_of_that_name\n", "line 3: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = 1\nx = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_where(write: Write, text: str, words: str) -> None:
    """And leaves nothing behind that a second try would take for loaded."""
    for _ in range(2):
        (error,) = errors(write(text))
        assert error.startswith(f"strategies[0].name: mine.py cannot be loaded: {words}")
    assert not any("mine.py" in name for name in sys.modules if str(write(text).parent) in name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Strength = 1\n", "Strength in mine.py is not a class"),
        (
            "class Strength:\n    def on_tick(self, view, price): ...\n",
            "Strength in mine.py has no on_bar, no stop_price, no target_price, no quiet: write class Strength(Strategy), with"
            " Strategy from state.strategy",
        ),
        (
            "from state.strategy import Strategy\nclass Strength(Strategy):\n    def on_tick(self, view, price): ...\n",
            "Strength in mine.py has no stop_price",
        ),
        (
            MINE.replace("        stop_ticks: int = 20\n", "        stop_ticks: float = 20\n"),
            "Strength.Params: config.yaml cannot give the field stop_ticks: <class 'float'>",
        ),
        (
            MINE.replace("    class Setup(msgspec.Struct, frozen=True):", "    class Setup:"),
            "Strength.Setup in mine.py must be a class of typed fields: class Setup(msgspec.Struct, frozen=True)",
        ),
    ],
)
def test_a_class_that_cannot_trade_is_told_what_it_lacks(write: Write, text: str, words: str) -> None:
    assert errors(write(text)) == [f"strategies[0].name: {words}"]


def test_its_params_and_rows_are_checked_like_those_of_any_other(write: Write) -> None:
    path = write(params={"stop_ticks": -1, "paws": "5s"}, row={"symbol": "SBIN", "qty": 10})

    assert errors(path) == [
        "strategies[0].params.stop_ticks: must be a whole number of at least 0, not -1",
        "strategies[0].params.paws: unknown key (did you mean 'pause'?)",
        "strategies[0].symbols[0].entry_price: is missing",
    ]
    assert errors(write(params={"stop_ticks": 13})) == ["strategies[0].params: stop_ticks: not 13"]


# -- and it trades ---------------------------------------------------------------------------------------------------------

TURNS = {"SBIN": [("09:15:00", "811.00"), ("09:20:00", "812.50"), ("09:25:00", "811.00")]}


def test_a_recorded_day_is_replayed_with_it(write: Write, tmp_path: Path) -> None:
    path = write()
    tape = runs.write_tape(tmp_path / "day.csv", TURNS, "09:40:00")

    (report,) = replay(read(path), [tape], 900_000, tmp_path)

    assert isinstance(report, Report)
    assert [(row.side, row.entry_price, row.exit_price, row.reason) for row in report.trades] == [
        ("BUY", "812.50", "811.00", "stop")
    ]
    assert report.symbols[0].strategy == "mine.py:Strength"


@pytest.mark.timeout(120)
def test_a_session_is_run_with_it(write: Write, tmp_path: Path) -> None:
    """A process of its own, before the practice venue, prices from a tape."""
    write()
    tape = runs.write_tape(tmp_path / "day.csv", TURNS, "09:44:00")

    with runs.session(tmp_path, "--tape", str(tape)) as running:
        code = running.ends(90)

    report = runs.report(tmp_path)
    assert code == 0
    assert [(row["side"], row["entry_price"], row["reason"]) for row in report["trades"]] == [("BUY", "812.50", "stop")]


@pytest.mark.timeout(120)
def test_a_strategy_that_cannot_be_made_costs_its_symbol_only(write: Write, tmp_path: Path) -> None:
    """CON-14: raises in its constructor, where no config can see it."""
    broken = MINE.replace("    def on_tick", "    def __init__(self, *parts) -> None:\n        self.x = 1 / 0\n\n    def on_tick")
    write(broken)
    tape = runs.write_tape(tmp_path / "day.csv", TURNS, "09:44:00")

    with runs.session(tmp_path, "--tape", str(tape)) as running:
        code = running.ends(90)

    why = "its strategy cannot be made: ZeroDivisionError: division by zero"
    assert code == 0
    assert [row["why"] for row in runs.report(tmp_path)["symbols"]] == [why]
    assert any(f"SBIN: {why}" in line for line in runs.log_lines(tmp_path))
