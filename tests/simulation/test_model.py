"""The model check on its small configurations, and whether it would notice: every deliberately broken machine must be caught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import state
from simulation.model import Search, hunt, main
from simulation.model_core import NOW, Key, Machine
from simulation.model_load import load
from simulation.model_rules import ENTER, Rulebook
from simulation.model_settings import ALL, SMALL
from simulation.model_state import Setting
from simulation.mutants import MUTANTS, Mutant
from state.orders import Order
from state.snapshot import Snapshot

BUDGET_S = 60.0


@pytest.mark.parametrize("setting", SMALL, ids=lambda setting: setting.name)
def test_no_order_of_events_breaks_a_promise(setting: Setting) -> None:
    """UNK-01, UNK-07, UNK-12, PRO-03, PRO-04, PRO-12, EXI-03, EXI-04: every interleaving of a small world."""
    result = Search(load(), setting, BUDGET_S).run()

    assert (result.violations, result.exhausted) == ([], True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_machine_is_caught(mutant: Mutant) -> None:
    assert hunt(mutant.name, BUDGET_S)["caught"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_exactly_one_place(mutant: Mutant) -> None:
    text = (Path(state.__file__).parent / f"{mutant.module}.py").read_text(encoding="utf-8")

    assert (text.count(mutant.old), mutant.new == mutant.old) == (1, False)


def test_a_mutant_that_misses_its_target_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places read"):
        load({"machine": [("this text is nowhere in it", "")]})


def test_loading_a_broken_machine_leaves_the_real_one_alone() -> None:
    mutant = MUTANTS[0]
    real = load()

    broken = load({mutant.module: [(mutant.old, mutant.new)]})

    assert broken.machine is not real.machine
    assert load().machine is real.machine


def both_sides_sold_while_the_entry_is_in_question(machine: Machine) -> int:
    """Entry 2, the second fill not heard of; stop and target, 1 each, both filled: the ledger says -1, the venue 0."""
    story: tuple[Key, ...] = (
        ("tick", ENTER),
        ("accepted", "A-d-E0", "V0"),
        ("fill", "A-d-E0", "V0.1", "E", 1, 1, 100),
        ("accepted", "A-d-S1", "V1"),
        ("accepted", "A-d-T2", "V2"),
        ("row", "A-d-S1", ("V1", -1, "STOP", 1, 96, "FILLED", 1, 96), NOW + 1),
        ("refused", "A-d-E0", "cancel"),
        ("row", "A-d-T2", ("V2", -1, "LIMIT", 1, 0, "FILLED", 1, 108), NOW + 1),
    )
    number = 0
    for key in story:
        number = machine.decide(number, 0, key).snapshot
    assert machine.infos[number].position == -1
    return number


def test_what_is_missing_may_be_the_entrys_own_fill_so_nothing_is_bought_back_yet() -> None:
    """PRO-14, ENT-09: found by the model with target and partial fills; the exit bought into a position that was flat."""
    machine = Machine(load(), Rulebook(qty=2, target=True))
    number = both_sides_sold_while_the_entry_is_in_question(machine)

    waiting = machine.decide(number, 0, ("beat",))
    told = machine.decide(number, 0, ("row", "A-d-E0", ("V0", 1, "STOP_LIMIT", 2, 101, "FILLED", 2, 100), NOW + 1))

    snapshot = machine.snapshots[told.snapshot]
    assert (waiting.commands, told.commands, snapshot.position, snapshot.live_orders()) == ((), (), 0, [])


def test_what_was_sold_twice_is_bought_back_once_the_entry_has_said_its_last_word() -> None:
    """PRO-14: stop and target both filled and the entry did not; one compensating order."""
    machine = Machine(load(), Rulebook(qty=2, target=True))
    number = both_sides_sold_while_the_entry_is_in_question(machine)

    told = machine.decide(number, 0, ("row", "A-d-E0", ("V0", 1, "STOP_LIMIT", 2, 101, "CANCELLED", 1, 100), NOW + 1))

    assert [command[:6] for command in told.commands] == [("submit", "A-d-X3", "X", 1, "MARKET", 1)]


def test_the_normal_form_knows_every_time_in_a_snapshot() -> None:
    times = {field for field in Snapshot.__struct_fields__ if field.endswith("_ms")}

    retries = {"stop_retry_ms", "exit_retry_ms", "target_retry_ms"}
    assert times == retries | {"crossed_ms", "unprotected_ms", "fill_ms", "disagreed_ms"}
    assert {field for field in Order.__struct_fields__ if field.endswith("_ms")} == {
        "created_ms",
        "changed_ms",
        "retry_ms",
        "late_ms",
    }


def test_every_configuration_has_its_own_name() -> None:
    assert len({setting.name for setting in ALL}) == len(ALL)


def test_the_same_configuration_is_searched_the_same_way_twice() -> None:
    first, second = (Search(load(), SMALL[0], BUDGET_S).run() for _ in range(2))

    assert first._replace(wall_s=0) == second._replace(wall_s=0)


def test_a_search_that_was_cut_off_says_so() -> None:
    assert not Search(load(), SMALL[0], budget_s=0).run().exhausted


def test_a_violation_is_told_as_the_shortest_story() -> None:
    """ENT-01: the second entry while the first is in question, told step by step."""
    mutant = next(one for one in MUTANTS if one.name == "a second entry while the first is unknown")
    setting = next(one for one in ALL if one.name == mutant.settings[0])

    result = Search(load({mutant.module: [(mutant.old, mutant.new)]}), setting, BUDGET_S).run()

    words = "I0 ('tick', 101) broke I1: entry A-d-E1 beside A-d-E0"  # the runner's own check speaks first
    assert [violation["text"] for violation in result.violations] == [words]
    assert result.violations[0]["trace"][:2] == ["start", "tick: the strategy wants in"]
    assert len(result.violations[0]["trace"]) == 5


def test_the_command_prints_what_was_checked_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    name = SMALL[0].name

    code = main(["--json", "--size", "small", "--only", name, "--no-mutants", "--processes", "1"])

    report = json.loads(capsys.readouterr().out)
    assert (code, report["violations"], report["mutants"]) == (0, [], {"total": 0, "caught": 0, "table": []})
    assert [(one["name"], one["violations"], one["exhausted"]) for one in report["configurations"]] == [(name, 0, True)]
    assert report["states"] == report["configurations"][0]["states"] > 1_000
