"""Whatever a simulation must own enters by construction: no module takes time, threads, chance, sockets or disks by itself.

The same list as the linter's (pyproject.toml, TID251), read from there: this test also sees what a `noqa` would hide from it. And
built on a scheduler, the whole core of a session touches not one lock of the operating system.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from brokers.breaker import Breaker
from brokers.crew import Crew, Heart
from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.openalgo_stream import OpenAlgoStream
from brokers.paper import Paper
from brokers.poller import Poller
from brokers.rate_limit import RateLimiter
from brokers.reports import Reports
from brokers.spelling import Spelling
from brokers.switchboard import Switchboard
from simulation.policies import Again, scheduler
from simulation.small_world import rules
from state.clock import Clock, SystemClock
from state.journal import Journal
from state.risk import RiskBudget
from state.session import Session
from state.snapshot import Snapshot
from state.symbol_state import SymbolState
from state.threads import OsThreads
from tests.state.builders import SBIN, SYMBOL, TEN, ist

ROOT = Path(__file__).resolve().parents[1]
RUFF = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
BANNED: dict[str, dict[str, str]] = RUFF["flake8-tidy-imports"]["banned-api"]
FOLDERS = ("state", "strategies", "brokers", "ops", "simulation")


def allowed() -> list[str]:
    """The patterns of files that may do it, one for each way out of the braces."""
    patterns = [pattern for pattern, rules in RUFF["per-file-ignores"].items() if "TID251" in rules]
    return [way for pattern in patterns for way in _without_braces(pattern)]


def _without_braces(pattern: str) -> Iterator[str]:
    if "{" not in pattern:
        yield pattern
        return
    before, rest = pattern.split("{", 1)
    choices, after = rest.split("}", 1)
    for choice in choices.split(","):
        yield from _without_braces(before + choice + after)


def sources() -> list[Path]:
    named = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = sorted([*named, *ROOT.glob("live_*.py")])
    return [path for path in found if not any(fnmatch(path.relative_to(ROOT).as_posix(), pattern) for pattern in allowed())]


def raw(tree: ast.AST) -> list[str]:
    """Every use of something banned, however it is spelled, whatever comment stands beside it."""
    names = {alias.asname or alias.name.split(".")[0]: alias.name for alias in _imported(tree)}
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wrong += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
            wrong.append((node.lineno, node.module or ""))
        elif isinstance(node, ast.Attribute):
            wrong.append((node.lineno, _dotted(node, names)))
    return sorted({f"line {line}: {name}" for line, name in wrong if _banned(name)})


def _imported(tree: ast.AST) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from node.names
        elif isinstance(node, ast.ImportFrom):
            yield from (ast.alias(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names)


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _banned(name: str) -> bool:
    return name in BANNED or any(name.startswith(f"{banned}.") for banned in BANNED if "." not in banned)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_taken_around_the_seams(path: Path) -> None:
    assert raw(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_list_of_exceptions_is_short_and_each_of_its_patterns_is_needed() -> None:
    ours = [pattern for pattern in allowed() if not pattern.startswith(("tests/", "bench/", "docs/"))]

    assert len(ours) <= 20
    for pattern in ours:
        assert any(raw(ast.parse(path.read_text(encoding="utf-8"))) for path in ROOT.glob(pattern)), pattern


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import threading", ["line 1: threading"]),
        ("import time as t", ["line 1: time"]),
        ("from time import monotonic", ["line 1: time", "line 1: time.monotonic"]),
        ("from datetime import datetime\nx = datetime.now()", ["line 2: datetime.datetime.now"]),
        ("import datetime as d\nx = d.datetime.now()", ["line 2: datetime.datetime.now"]),
        ("def f():\n    import random  # noqa: TID251", ["line 2: random"]),
        ("import urllib.request\nimport socketserver", []),
        ("from datetime import datetime\nx = datetime(2026, 11, 20)", []),
        ("clock.time.now", []),
    ],
)
def test_what_the_check_sees_and_what_it_leaves_alone(text: str, found: list[str]) -> None:
    assert raw(ast.parse(text)) == found


# -- the core on a scheduler -----------------------------------------------------------------------------------------------------


class Voice:
    def info(self, text: str) -> None:
        """Not heard here."""

    warning = alarm = info

    def defect(self, text: str, error: BaseException) -> None:
        """Not heard here."""


def core(clock: Clock, folder: Path) -> Crew:
    """All of a session but the session itself, as live_session.py builds it, and what adapters bring along."""
    threads = clock.threads
    outbox = Outbox(threads)
    states = {SYMBOL: SymbolState(Snapshot(SYMBOL), rules(), outbox, clock)}
    broker = Paper({SYMBOL: SBIN}, clock)
    reports = Reports(states, clock, 30.0)
    board = Switchboard(states, clock, Voice(), lambda work: None, reports)
    budget = RiskBudget(states, 1, 1, Decimal(1), threads)
    with closing(Journal.open(folder / "journal.db", clock=clock, wall=clock)) as journal:
        desk = Desk(broker, journal, states, outbox, reports, clock, board, budget.deny, breaker=Breaker(clock))
    feed = Feed(OpenAlgoStream("ws://127.0.0.1:1", "k", "NSE", Spelling(threads)), {SYMBOL: states[SYMBOL].tick}, board, clock)
    poller = Poller(broker, states, reports, clock, board, 5.0)
    RateLimiter(10, 1.0, clock)
    session = Session(date(2026, 11, 20), ist("09:15:00"), TEN, ist("14:45:00"), ist("15:30:00"))
    return Crew(feed, poller, Heart(states, clock, session, board, feed), desk, outbox, 2, board, threads)


@pytest.fixture
def no_os_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(*_: object) -> Any:
        raise AssertionError("the operating system was asked")

    for name in ("lock", "rlock", "event", "condition", "thread"):
        monkeypatch.setattr(OsThreads, name, poisoned)


@pytest.mark.usefixtures("no_os_threads")
def test_a_core_built_on_a_scheduler_takes_no_lock_event_or_thread_from_the_system(tmp_path: Path) -> None:
    built: list[Crew] = []
    s = scheduler(Again({}))

    s.run(lambda: built.append(core(s, tmp_path)))

    assert built[0].threads() == dict.fromkeys(("desk-0", "desk-1", "clock", "poll", "ticks"), "dead")


@pytest.mark.usefixtures("no_os_threads")
def test_a_core_built_on_the_systems_clock_would_be_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the operating system was asked"):
        core(SystemClock(), tmp_path)
