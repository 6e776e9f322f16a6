"""The races of CON-01 … CON-12 and CON-17 over the real symbol, desk and poller: none goes wrong, every old mistake is seen.

Here each model is run with one preemption; `python tasks.py races` runs every schedule with two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from simulation.breakage import Edit, edited, source_of
from simulation.policies import Again, AtRandom
from simulation.small_explore import explore, race
from simulation.small_models import MODELS, STARTS, Model, one_entry
from simulation.small_mutants import MUTANTS, Mutant
from simulation.small_world import Small, World
from state.strategy import Enter, View

ROOT = Path(__file__).resolve().parents[2]
TEN = {f"CON-{n:02}" for n in range(1, 11)}
RACES = {"tick x poll", "tick x desk", "poll x desk", "stop x tick", "stop x poll", "stop x desk"}
BUDGET = 5_000  # schedules until a mutant must have been seen


def named(name: str) -> Model:
    return next(model for model in MODELS if model.name == name)


@pytest.mark.parametrize("model", MODELS, ids=[f"{model.rows}: {model.name}" for model in MODELS])
def test_no_schedule_of_a_race_breaks_an_invariant(model: Model) -> None:
    """CON-01 … CON-11, CON-17."""
    found = explore(model, preemptions=1)

    assert found.wrong is None, found.switches
    assert found.schedules > 5


def test_each_of_the_ten_races_has_a_model_and_a_broken_version() -> None:
    assert {model.rows for model in MODELS} >= TEN
    assert {mutant.rows for mutant in MUTANTS} >= TEN
    assert {model.race for model in MODELS} >= {
        "tick x poll",
        "tick x desk",
        "poll x desk",
        "stop x tick",
        "stop x poll",
        "stop x desk",
    }
    assert {model.start for model in MODELS} <= STARTS.keys()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{mutant.rows}: {mutant.name}" for mutant in MUTANTS])
def test_a_race_as_it_once_was_is_seen_by_a_model(mutant: Mutant) -> None:
    """CON-01 … CON-12, CON-17: the broken version that the row describes."""
    command = [sys.executable, "-m", "simulation.small", "--mutant", mutant.name]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] is not None
    assert found["schedules"] <= BUDGET


@pytest.mark.parametrize("edit", sorted({edit for mutant in MUTANTS for edit in mutant.edits}))
def test_what_a_mutant_breaks_is_still_there(edit: Edit) -> None:
    assert edited(source_of(edit.module).read_text(encoding="utf-8"), edit)


def test_a_schedule_that_went_wrong_can_be_run_again() -> None:
    """A model that expects what is not so: its trace shows the same again, and the plain run does not."""

    def never_filled_first(world: World) -> list[str]:
        return ["the fill came before the cancel"] if world.venue.net() else []

    model = named("the entry fills while its cancel is in flight")._replace(expect=never_filled_first)

    found = explore(model)

    assert found.wrong == "the fill came before the cancel"
    assert race(model, Again(found.switches)) == [found.wrong]


def test_eight_threads_make_one_entry_in_two_hundred_random_schedules() -> None:
    """CON-07."""
    model = named("eight threads ask for the entry")

    found = explore(model)

    assert (found.schedules, found.wrong, len(model.threads)) == (200, None, 8)
    assert model.expect is one_entry


def test_a_broker_call_or_a_commit_under_a_symbol_lock_would_be_seen() -> None:
    """CON-12."""
    model = named("three ticks ask for the entry while it is placed")

    def careless(world: World) -> None:
        with world.state._lock:
            world.sweep()
            world.desk()

    wrong = race(model._replace(threads={"tick": (careless,)}, expect=lambda world: ()), AtRandom("7", 0.5))

    assert set(wrong) == {"I10 a read under the symbol's lock"}


def test_the_strategy_wants_in_while_its_entry_is_under_way() -> None:
    """Or its own restraint would hide that nothing holds it back."""
    view = View(
        position=Decimal(0),
        average=Decimal(0),
        side=None,
        stop_price=None,
        peak=None,
        entries_used=1,
        entering=True,
        why="",
        now_ms=0,
    )

    assert isinstance(Small().on_tick(view, Decimal(100)), Enter)


def test_the_benchmark_runs_to_its_end_and_says_how_fast_each_race_is() -> None:
    command = [sys.executable, str(ROOT / "bench" / "schedules.py"), "--json", "--seconds", "0.2"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode in (0, 1), done.stderr  # how fast it is here is not a matter for tests
    found = json.loads(done.stdout)
    assert set(found["schedules_per_s"]) == {model.race for model in MODELS if not model.seeds}
    assert found["ok"] is (done.returncode == 0) is (found["all_per_s"] >= found["aim"])
