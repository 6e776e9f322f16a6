"""What tests of whole sessions share: one played day, played once even when several processes run tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import filelock
import pytest

from tests import runs

PLAYED_HOURS = {"open": "09:15:00", "close": "12:00:00", "exit_before_close": "15m"}
PLAYED_SPEED = 450


class PlayedDay:
    """A whole practice session of the shipped config, after its end."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "played.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.code: int = facts["code"]
        self.witness = runs.Seen(facts["books"], facts["last_words"])
        self.report = runs.report(folder)
        self.symbols = runs.by_symbol(self.report)
        self.log = runs.log_lines(folder)
        self.console = runs.console(folder)


@pytest.fixture(scope="session")
def played_day(tmp_path_factory: pytest.TempPathFactory) -> PlayedDay:
    """The shipped config with a shorter day (165 minutes, in 25 s): long enough for every story to reach its end."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "played-day"
    with filelock.FileLock(folder.with_suffix(".lock"), timeout=150):
        if not (folder / "played.json").exists():
            folder.mkdir()
            play(folder)
    return PlayedDay(folder)


def play(folder: Path) -> None:
    runs.write_config(folder, {"session": PLAYED_HOURS, "practice": {"speed": PLAYED_SPEED}})
    with runs.session(folder) as running, runs.Witness(folder) as witness:
        code = running.ends(120)
    facts = {"code": code, "books": witness.seen.books, "last_words": witness.seen.last_words}
    (folder / "played.json").write_text(json.dumps(facts, default=str), encoding="utf-8")
