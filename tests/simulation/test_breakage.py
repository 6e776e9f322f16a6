"""Breaking a module on purpose: exactly there, only in that process, and never too late or beside the mark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simulation.breakage import Edit, edited, install, source_of

ROOT = Path(__file__).resolve().parents[2]
LOUD = Edit("state.rules", "return True", "return 7  # broken")
PROGRAM = """
from simulation.breakage import Edit, install
install([Edit("state.rules", "<= STOP_TRIES:\\n        return True", "<= STOP_TRIES:\\n        return 'broken'")])
from state import machine, rules
assert machine.STOP_TRIES == rules.STOP_TRIES
print(rules.loud(1), rules.loud(8), rules.__file__)
"""


def test_the_broken_module_is_what_everybody_imports_in_that_process() -> None:
    before = source_of("state.rules").read_bytes()

    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.split() == ["broken", "True", str(source_of("state.rules"))], done.stderr
    assert source_of("state.rules").read_bytes() == before


def test_a_module_that_is_imported_already_cannot_be_broken_any_more() -> None:
    with pytest.raises(ValueError, match=r"^state\.rules is imported already: too late to break it$"):
        import state.rules  # noqa: F401

        install([LOUD])


@pytest.mark.parametrize(("text", "places"), [("a b", 0), ("return True, return True", 2)])
def test_a_text_that_is_not_there_exactly_once_is_an_error(text: str, places: int) -> None:
    with pytest.raises(ValueError, match=f"^state.rules: {places} places read 'return True', a mutant needs exactly one$"):
        edited(text, LOUD)


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^there is no module state\.nothing$"):
        source_of("state.nothing")
