"""`simulate` as a user has it: what it prints, that a seed means the same everywhere, and that no invariant breaks.

Real processes, as the command starts them. What the sessions are made of is tested beside each of its parts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ops.config import Config
from simulation import simulate
from simulation.command import config_of
from simulation.recipe import Recipe, recipe
from simulation.run import KINDS, LIVES, Outcome, Setting, run, setting
from simulation.sim_mutants import busy
from simulation.simulate import Tally, again, words
from state.clock import SystemClock
from tests.runs import write_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config.yaml"
TRACES = sorted((ROOT / "tests" / "traces").glob("*.json"))
FIXED_SEEDS = (7, 11, 4711)
BUSY = "busy"  # traces whose names begin so are of the busier days
BUDGET_S = 60.0  # for all seeds together, the fresh one among them
KEYS = {"runs", "seed", "simulated_days", "ticks", "orders", "faults", "crashes", "violations", "wall_s"}  # DESIGN, section 10
OURS = {"trips", "steps", "workers", "sessions_per_core_s", "symbols", "hash"}
PROCESS_S = 100.0


@pytest.fixture(scope="module")
def shipped() -> Setting:
    return setting(config_of(CONFIG))


def simulated(*arguments: str, python: str = sys.executable, code: int = 0, **environment: str) -> Any:
    """What `simulate ... --json` printed, by the command line itself."""
    command = [python, str(ROOT / "live_runner.py"), "simulate", "--json", *arguments]
    into = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=into, capture_output=True, text=True, timeout=PROCESS_S, check=False)
    assert done.returncode == code, done.stderr or done.stdout
    return json.loads(done.stdout)


def calm(symbols: int = 2, seed: str = "7/calm") -> Recipe:
    return Recipe(seed, "calm", {}, 0.01, symbols, 12)


# -- no invariant breaks ---------------------------------------------------------------------------------------------------------


def test_no_invariant_breaks_within_a_minute_of_fixed_seeds_and_a_fresh_one(capsys: pytest.CaptureFixture[str]) -> None:
    """CRA-02, UNK-07, FIL-01, CON-12 and whatever nobody has thought of: the fresh seed is printed, to be had again."""
    fresh = int(datetime.now(UTC).strftime("%Y%m%d%H%M%S"))
    with capsys.disabled():
        print(f"\nfresh seed of simulate: {fresh}")
    seeds = (*FIXED_SEEDS, fresh)
    jobs = min(os.cpu_count() or 1, 2)

    loads = (config_of, busy, config_of, busy)

    found = [_within(BUDGET_S / len(seeds), seed, jobs, partial(load, CONFIG)) for seed, load in zip(seeds, loads, strict=True)]

    for tally, failed in found:
        said = "".join(f"\n  run {one.recipe.seed}: {one.violations[0]}" for one in failed)
        assert not failed, f"seed {tally.seed} breaks something in its first {tally.runs} sessions:{said}"
    assert min(tally.runs for tally, _ in found) >= 1
    assert sum(tally.trips for tally, _ in found) > 0


def _within(budget_s: float, seed: int, jobs: int, load: Callable[[], Config]) -> tuple[Tally, list[Outcome]]:
    """As many sessions as there is time for."""
    return simulate.simulate(load, 2_000, seed, jobs, SystemClock(), lambda done: None, budget_s)


@pytest.mark.parametrize("path", TRACES, ids=[path.stem for path in TRACES])
def test_what_once_broke_an_invariant_does_so_no_more(shipped: Setting, path: Path) -> None:
    """Each file is the shrunk trace of a violation that was found and then made impossible."""
    trace, outcome = again(setting(busy(CONFIG)) if path.stem.startswith(BUSY) else shipped, path)

    assert outcome.violations == [], trace.text


# -- the same seed ---------------------------------------------------------------------------------------------------------------


def told(facts: Any) -> Any:
    """All but how long it took."""
    return {key: value for key, value in facts.items() if key not in ("wall_s", "sessions_per_core_s", "workers")}


def test_the_same_seed_gives_the_same_sessions_in_every_process() -> None:
    """However many share the work, and whatever the hash seed of each."""
    one = simulated("--runs", "21", "--seed", "11", "--jobs", "1", PYTHONHASHSEED="1")
    other = simulated("--runs", "21", "--seed", "11", "--jobs", "2", PYTHONHASHSEED="2")

    assert told(one) == told(other)
    assert len(one["hash"]) == 16


def other_pythons() -> Iterator[str]:
    """Another version from 3.11 on, with what we depend on."""
    beside = Path(sys.base_prefix).parent
    for minor in (minor for minor in range(11, 20) if minor != sys.version_info.minor):
        name = f"python3.{minor}"
        found = [os.environ.get("OTHER_PYTHON"), shutil.which(name), *map(str, sorted(beside.glob(f"*/bin/{name}")))]
        for path in filter(None, found):
            ready = subprocess.run([path, "-c", "import live_runner"], cwd=ROOT, capture_output=True, timeout=30, check=False)
            if ready.returncode == 0:
                yield path


def test_the_same_seed_gives_the_same_sessions_on_another_python() -> None:
    other = next(other_pythons(), None)
    if other is None:
        pytest.skip("no second Python from 3.11 on has our dependencies here (OTHER_PYTHON may name one)")

    arguments = ("--runs", "6", "--seed", "11", "--jobs", "1")

    assert told(simulated(*arguments, python=other)) == told(simulated(*arguments))


def test_another_seed_gives_other_sessions(shipped: Setting) -> None:
    hashes = {run(shipped, recipe(seed, 0, KINDS, 2)).hash for seed in range(4)}

    assert len(hashes) == 4


# -- what is printed -------------------------------------------------------------------------------------------------------------


def test_json_has_the_keys_that_others_rely_on() -> None:
    """DESIGN, section 10, and a few of ours beside them."""
    facts = simulated("--runs", "3", "--seed", "11", "--jobs", "1")

    assert set(facts) == KEYS | OURS
    assert (facts["runs"], facts["seed"], facts["simulated_days"], facts["violations"]) == (3, 11, 3, [])
    assert all(KINDS[kind] and count > 0 for kind, count in facts["faults"].items())
    assert facts["ticks"] > 100 and facts["orders"] > 0


def test_people_are_told_what_was_tried_and_what_each_fault_means() -> None:
    tally = Tally(runs=2, seed=7, simulated_days=2, faults={"orders.lost_back": 3}, crashes=1, wall_s=0.5)

    lines = words(tally).splitlines()

    assert lines[0].startswith("2 sessions of seed 7 in 0.5 s") and "1 kills, 3 faults of 1 kinds" in lines[0]
    assert "orders.lost_back" in words(tally) and KINDS["orders.lost_back"].words in words(tally)
    assert lines[-1] == "no invariant broke"


# -- a violation -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `simulate` makes of a runner whose retries of an unanswered order are real orders."""
    folder = tmp_path_factory.mktemp("traces")
    command = [sys.executable, "-m", "tests.simulation.broken_simulate", BROKEN, str(CONFIG), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


BROKEN = "the desk repeats an order that got no answer"


def test_a_kept_trace_breaks_the_same_invariant_step_for_step(found: Any) -> None:
    """NET-06: the same violation at the same step, as often as it is run."""
    first, second = found["broken"][1:]

    assert first == second and found["hashes"][0] == found["hashes"][1]
    assert (first["invariant"], first["step"]) == (found["kept"]["invariant"], found["kept"]["step"])
    assert first["invariant"] == "I3" and "was sent twice" in first["text"]


def test_what_is_kept_is_smaller_and_nothing_of_it_can_be_left_out(found: Any) -> None:
    (many, few), (switched, left) = found["accidents"], found["switches"]

    assert 0 < few < many and left <= switched
    assert all(invariants != ["I3"] for invariants in found["without_one"])


def test_the_runner_that_is_not_broken_passes_the_same_trace(found: Any) -> None:
    """`simulate --replay FILE`, as the message of a violation says it; exit code 0 once the defect is gone."""
    facts = simulated("--replay", found["kept"]["trace"])

    assert (facts["trace"], facts["violations"]) == (found["kept"]["trace"], [])


def test_a_file_that_is_no_trace_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"invariant": 1}', encoding="utf-8")
    command = [sys.executable, str(ROOT / "live_runner.py"), "simulate", "--replay", str(path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_S, check=False)

    assert (done.returncode, "is no trace of ours" in done.stdout + done.stderr) == (2, True)


# -- the user's own strategy -----------------------------------------------------------------------------------------------------

OWN = '''"""Buys strength, as somebody would write it at home."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from state.orders import OrderType, Side
from state.strategy import Enter, Strategy, View, Wish


class Strength(Strategy):
    class Params(msgspec.Struct, frozen=True):
        stop_ticks: int = 20
        max_entries: int = 2

    class Setup(msgspec.Struct, frozen=True):
        symbol: str
        qty: Decimal
        entry_price: Decimal

    def on_tick(self, view: View, price: Decimal) -> Wish:
        {on_tick}

    def stop_price(self, view: View) -> Decimal:
        {stop_price}
'''
ENTERS = (
    """return Enter(Side.BUY, OrderType.MARKET, f"{price} is high") if view.flat and price >= self.setup.entry_price else None"""
)
STOPS = "return view.average - self.instrument.ticks(self.params.stop_ticks)"
SYMBOLS = [{"symbol": "SBIN", "qty": 10, "entry_price": 812.40}, {"symbol": "ITC", "qty": 20, "entry_price": 418.55}]


def own(folder: Path, on_tick: str = ENTERS, stop_price: str = STOPS) -> Path:
    """A config that names a strategy in a file beside it, for SBIN; ITC has one of ours."""
    text = OWN.replace("{on_tick}", on_tick).replace("{stop_price}", stop_price)
    (folder / "mine.py").write_text(text, encoding="utf-8")
    mine = {"name": "mine.py:Strength", "params": {}, "symbols": SYMBOLS[:1]}
    ours = {"name": "breakout", "params": {}, "symbols": SYMBOLS[1:]}
    return write_config(folder, {"strategies": [mine, ours], "practice": {"day": "2026-11-20"}})


def test_a_strategy_in_a_file_of_the_users_own_is_simulated(tmp_path: Path) -> None:
    """By naming it in the config; its orders are in the sessions, under kills and faults too."""
    of = setting(config_of(own(tmp_path)))

    outcome = run(of, calm())
    facts = simulated("--config", str(own(tmp_path)), "--runs", "6", "--seed", "11", "--jobs", "1")

    assert outcome.violations == []
    assert any("SBIN" in line and "is high" in line for line in outcome.lines)
    assert (facts["violations"], facts["symbols"], facts["orders"] > 0) == ([], 2, True)


@pytest.mark.parametrize(
    ("on_tick", "stop_price", "reason"),
    [
        ("raise ZeroDivisionError('by zero')", STOPS, "strategy Strength raised ZeroDivisionError: by zero"),
        ("return 'buy'", STOPS, "strategy Strength returned 'buy'"),
        ("return Enter(Side.BUY, OrderType.LIMIT, 'now', limit_price=1.5)", STOPS, "strategy Strength named 1.5 as a price"),
        (ENTERS, "return Decimal('NaN')", "strategy Strength named Decimal('NaN') as a price"),
    ],
    ids=["raises", "nonsense", "a float", "no stop"],
)
def test_a_strategy_that_fails_loses_its_symbol_and_nothing_else(
    tmp_path: Path, on_tick: str, stop_price: str, reason: str
) -> None:
    """CON-14: its symbol halts and says why; the other one trades; no invariant breaks, on a calm day nor under faults."""
    of = setting(config_of(own(tmp_path, on_tick, stop_price)))

    outcome = run(of, calm())
    hostile = [run(of, recipe(7, number, KINDS, 2)) for number in range(12)]

    assert [outcome.violations, *(one.violations for one in hostile)] == [[]] * 13
    assert any("SBIN" in line and f"HALTED: {reason}" in line for line in outcome.lines), outcome.lines
    assert any("ITC" in line and "LONG" in line for line in outcome.lines)
    assert not any("SBIN" in line and "LONG" in line for line in outcome.lines)


def test_lives_end() -> None:
    """A run is bounded: so many kills, and one life more."""
    outcome = run(setting(config_of(CONFIG)), Recipe("kills", "mixed", {"host.kill": 0.5}, 0.0, 2, 12))

    assert (outcome.lives, outcome.kills, outcome.violations) == (LIVES, LIVES - 1, [])
