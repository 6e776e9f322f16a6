"""The import arrows of the design, read from the source; and who may look at a clock, a file or a lock."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("state", "strategies", "brokers", "ops", "simulation", "live_runner", "tests", "tasks", "bench")
MAY_IMPORT = {
    "state": {"state"},
    "strategies": {"state", "strategies"},
    "brokers": {"state", "brokers"},
    "ops": {"state", "ops"},
}
ALSO = {"state": {"msgspec"}, "strategies": {"msgspec"}}  # beyond the standard library; None: anything
PURE = (
    "machine",
    "record",
    "wishes",
    "answers",
    "sightings",
    "reconcile",
    "draft",
    "levels",
    "invariants",
    "ledger",
    "snapshot",
    "rules",
    "sizing",
    "orders",
    "instrument",
    "events",
    "commands",
    "reports",
)
IMPURE_MODULES = {"time", "datetime", "threading", "logging", "os", "pathlib", "io", "sqlite3", "queue", "random", "asyncio"}
IMPURE_CALLS = {"open", "print", "input", "now_ms", "monotonic_ms", "wait", "acquire", "sleep"}
CLOCK_CALLS = {
    ("time", "sleep"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("time", "monotonic_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module, with its line, wherever in the file it is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level + (node.module or ""), node.lineno)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def forbidden_imports(package: str, tree: ast.AST) -> list[str]:
    wrong = []
    for name, line in imports(tree):
        top = name.split(".")[0]
        if top in OURS:
            if top not in MAY_IMPORT[package]:
                wrong.append(f"line {line}: {name}")
        elif not top:
            wrong.append(f"line {line}: relative import")
        elif package in ALSO and top not in sys.stdlib_module_names and top not in ALSO[package]:
            wrong.append(f"line {line}: {name} is neither ours nor of the standard library")
    return wrong


def clock_calls(tree: ast.AST) -> list[str]:
    """Uses of the machine's own clock that go around the seam."""
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            wrong.append(f"line {node.lineno}: from time import")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in CLOCK_CALLS:
                wrong.append(f"line {node.lineno}: {owner}.{node.attr}")
    return wrong


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_its_arrow_allows(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found for path in sources(package) if (found := forbidden_imports(package, parsed(path)))
    }

    assert sources(package)
    assert wrong == {}


@pytest.mark.parametrize("package", ["state", "brokers", "strategies", "ops"])
def test_time_comes_from_the_seam_alone(package: str) -> None:
    seam = ROOT / "state" / "clock.py"
    wrong = {
        str(path.relative_to(ROOT)): found for path in sources(package) if path != seam and (found := clock_calls(parsed(path)))
    }

    assert wrong == {}


@pytest.mark.parametrize("name", PURE)
def test_the_decision_core_touches_no_clock_file_log_or_lock(name: str) -> None:
    tree = parsed(ROOT / "state" / f"{name}.py")

    assert [found for found in imports(tree) if found[0].split(".")[0] in IMPURE_MODULES] == []
    called = {
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    assert called & IMPURE_CALLS == set()


@pytest.mark.parametrize("package", ["state", "brokers", "strategies", "ops", "simulation"])
def test_every_module_says_what_it_owns(package: str) -> None:
    silent = [path.name for path in sources(package) if path.stat().st_size and not ast.get_docstring(parsed(path))]

    assert silent == []


# -- the checks themselves catch what they are for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("state", "from brokers.base import Broker"),
        ("state", "import requests"),
        ("state", "def f():\n    from ops.config import Config"),
        ("ops", "import brokers.desk"),
        ("brokers", "from strategies import STRATEGIES"),
        ("strategies", "import simulation.replay"),
        ("strategies", "from . import eighty_twenty"),
    ],
)
def test_a_forbidden_import_is_found(package: str, code: str) -> None:
    assert len(forbidden_imports(package, ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(1)",
        "from time import monotonic",
        "datetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "date.today()",
    ],
)
def test_a_raw_clock_is_found(code: str) -> None:
    assert len(clock_calls(ast.parse(code))) == 1
