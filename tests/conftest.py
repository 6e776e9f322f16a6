"""What tests of whole sessions share: one played day, and how its tests stay together when several processes run tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import runs

PLAYED_HOURS = {"open": "09:15:00", "close": "12:00:00", "exit_before_close": "15m"}
PLAYED_SPEED = 450


def pytest_configure(config: pytest.Config) -> None:
    """With xdist: tests of one group go to one process, so that the day is played once, without a word on the command line."""
    config.addinivalue_line("markers", "xdist_group(name): tests that run in one process, one after the other")
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadgroup"
    if getattr(config, "workerinput", {}).get("in_groups"):
        config.option.loadgroup = True  # worker processes read the command line again


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker process what was decided here."""
    node.workerinput["in_groups"] = node.config.option.dist == "loadgroup"


class PlayedDay:
    """A whole practice session of the shipped config, after its end."""

    def __init__(self, folder: Path, code: int, witness: runs.Witness) -> None:
        self.folder, self.code, self.witness = folder, code, witness
        self.report = runs.report(folder)
        self.symbols = runs.by_symbol(self.report)
        self.log = runs.log_lines(folder)
        self.console = runs.console(folder)


@pytest.fixture(scope="session")
def played_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedDay]:
    """The shipped config with a shorter day (165 minutes, in 25 s): long enough for every story to reach its end."""
    folder = tmp_path_factory.mktemp("played-day")
    runs.write_config(folder, {"session": PLAYED_HOURS, "practice": {"speed": PLAYED_SPEED}})
    with runs.session(folder) as running, runs.Witness(folder) as witness:
        code = running.ends(90)
    yield PlayedDay(folder, code, witness)
