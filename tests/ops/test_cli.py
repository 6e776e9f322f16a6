"""The command line as a user types it: help, defaults, and codes; what the commands tell is in test_facts and test_run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from ops import cli, ending, requests
from ops.cli import Program, run_command_line
from ops.facts import LiveStatus, live_path, write_live
from ops.options import Failure
from state.clock import SystemClock
from state.commands import Alarm
from state.events import HaltAsked
from state.journal import Journal
from state.snapshot import Snapshot
from state.symbol_state import Work
from strategies import STRATEGIES
from tests import runs

PROGRAM = Program(STRATEGIES, ())


def typed(*arguments: str) -> int:
    return run_command_line(PROGRAM, arguments)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped config, in a folder of its own where the commands are typed."""
    monkeypatch.chdir(tmp_path)
    return runs.write_config(tmp_path)


@pytest.fixture
def a_command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds one command that does what the test says, for this test only."""

    def added(name: str, body: Any) -> None:
        monkeypatch.setitem(cli.cli.commands, name, click.Command(name, callback=body))

    return added


@pytest.mark.parametrize("command", ["status", "orders", "positions", "trades"])
def test_before_any_session_there_is_nothing_to_tell_and_that_is_no_error(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = typed(command), typed(command, "--json", "--config", str(config))

    assert codes == (0, 0)
    assert capsys.readouterr().out.strip()
    assert not (config.parent / "data").exists(), "looking changes nothing"


def test_a_report_that_is_not_there_is_code_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("report", "--date", "2026-01-02") == 2
    assert "2026-01-02" in capsys.readouterr().out


def test_a_wrong_date_or_command_or_config_is_code_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (typed("report", "--date", "tomorrow"), typed("fly"), typed("status", "--config", "elsewhere.yaml")) == (2, 2, 2)
    assert "No such command 'fly'" in capsys.readouterr().err


def test_stop_asks_a_running_session_only(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, clock = config.parent / "data", SystemClock()
    nobody = typed("stop")
    data.mkdir()
    live = LiveStatus(pid=1, session="2026-11-20", mode="practice", wall_ms=clock.now_ms(), now_ms=0)
    assert write_live(live_path(data), live, clock)

    codes = typed("stop", "--flatten")

    assert (nobody, codes) == (2, 0)
    assert requests.take_stop_request(data) == requests.StopRequest(requests.StopKind.FLATTEN, "the command line")
    assert "no running session answers: nothing to stop" in capsys.readouterr().err


def test_nothing_typed_means_run(a_command: Any) -> None:
    asked: list[str] = []
    a_command("run", lambda: asked.append("run"))

    assert typed() == 0
    assert asked == ["run"]


def test_the_code_of_a_command_is_the_code_of_the_program(a_command: Any) -> None:
    a_command("run", lambda: 5)

    assert typed("run") == 5


def test_a_failure_carries_its_code_and_words(a_command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise Failure(ending.CREDENTIALS, "no key")

    a_command("run", fails)

    assert typed("run") == 3
    assert capsys.readouterr().err == "no key\n"


def test_an_end_with_code_0_is_no_error(a_command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def holiday() -> None:
        raise Failure(ending.OK, "no session today")

    a_command("run", holiday)

    assert typed("run") == 0
    assert capsys.readouterr() == ("no session today\n", "")


def test_a_defect_is_code_70_with_its_trace(a_command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("ours")

    a_command("run", broken)

    assert typed("run") == 70
    assert capsys.readouterr().err.rstrip().endswith("ZeroDivisionError: ours")


def test_an_interrupted_command_is_no_traceback(a_command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    a_command("run", interrupted)

    assert typed("run") == 2
    assert capsys.readouterr().err.strip() == "interrupted"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("--help") == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in ("status", "orders", "positions", "trades", "report", "stop"))


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_no_facts_show_a_key_that_a_venue_has_sent_back(
    config: Path, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-09: a refusal that quotes the key lies in the journal; nobody is shown it."""
    monkeypatch.setenv("OPENALGO_API_KEY", "planted-key-4711")
    clock, before = SystemClock(), Snapshot("SBIN")
    after = msgspec.structs.replace(before, version=1, halted="refused for planted-key-4711")
    event = HaltAsked(reason="refused for planted-key-4711", mono_ms=1, now_ms=clock.now_ms())
    with Journal.open(config.parent / "data" / "journal.db", clock=clock) as journal:
        journal.begin("practice:a:2026-11-20", mode="practice", account="a", day="2026-11-20")
        journal.commit(Work("main", event, before, after, (Alarm("HALTED: refused for planted-key-4711"),)))

    assert typed("status", *more) == 0
    shown = capsys.readouterr().out
    assert "refused for ***" in shown
    assert "planted-key-4711" not in shown
