"""Runners broken on purpose: each text is there once, and the simulated sessions see what it does.

Here a few are hunted, those that show at once; `python tasks.py mutants` hunts them all.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from simulation.breakage import edited, source_of
from simulation.sim_mutants import MUTANTS, UNCHECKED, Found, broken_anyway, hunted, named, tell
from simulation.sim_mutants_words import Mutant

SCENARIO = re.compile(r"(ENT|UNK|FIL|PRO|EXI|REC|CRA|FEE|NET|CON|RIS|OPS)-\d\d")
SESSIONS = 25
AT_ONCE = (
    "the trigger does not see an entry under way, and the strategy is not told of it either",
    "a time-out frees the slot",
    "the trail may loosen",
    "the desk repeats an order that got no answer",
    "the broker is called under the symbol's lock",
    "a start looks at no journal",
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_what_a_mutant_breaks_is_there_exactly_once(mutant: Mutant) -> None:
    texts: dict[str, str] = {}
    for edit in (UNCHECKED, *mutant.edits):
        text = texts.get(edit.module) or source_of(edit.module).read_text(encoding="utf-8")
        texts[edit.module] = edited(text, edit)

    for module, text in texts.items():
        compile(text, module, "exec")


def test_the_mutants_are_many_and_each_says_what_it_breaks() -> None:
    assert len(MUTANTS) >= 30
    assert [name for name, times in Counter(mutant.name for mutant in MUTANTS).items() if times > 1] == []
    assert [mutant.name for mutant in MUTANTS if not all(map(SCENARIO.fullmatch, mutant.rows.split()))] == []
    assert [mutant.name for mutant in MUTANTS if not mutant.expected] == []


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_broken_runner_is_seen_within_a_few_sessions(name: str) -> None:
    """CON-03, UNK-01, PRO-07, NET-06, CON-12, CRA-03: the session that shows it is one that the unbroken runner passes."""
    found = hunted(named(name), SESSIONS)

    assert found.invariant in named(name).expected, found
    assert broken_anyway([found.place]) == []


def test_a_survivor_makes_the_command_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one whose session is broken without it."""
    caught, missed = MUTANTS[0].name, MUTANTS[1].name
    found = [Found(caught, "state.wishes", "I1", "two", 3, 4, 1.0), Found(missed, "state.wishes", None, "", 300, 300, 9.0)]

    codes = tell(found, [], False), tell(found[:1], ["3:"], True), tell(found[:1], [], True)

    assert codes == (1, 1, 0)
    assert f"SURVIVED: {missed}\n" in capsys.readouterr().out
