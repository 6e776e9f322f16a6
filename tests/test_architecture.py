"""ARCHITECTURE.md says what the machine does."""

from pathlib import Path

from simulation.transitions import tables

TEXT = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_transition_table_is_the_one_the_machine_makes() -> None:
    held = TEXT.split("<!-- transitions -->")[1].split("<!-- /transitions -->")[0]

    assert held.strip() == tables().strip(), "python -m simulation.transitions prints the present one"
