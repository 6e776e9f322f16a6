"""How `doctor` shows what it found: a table for a terminal, JSON for programs. Pure."""

from __future__ import annotations

from ops.doctor import Diagnosis, Grade
from ops.facts_text import to_json
from ops.log import exit_words
from ops.table import table

__all__ = ["doctor_text", "to_json"]
WORDS = {Grade.OK: "ok", Grade.WARNING: "WARNING", Grade.FAIL: "FAIL"}
WIDTH = 130


def doctor_text(found: Diagnosis) -> str:
    rows = []
    for check in found.checks:
        rows.append([WORDS[check.grade], check.name, check.found])
        if check.to_do and check.grade is not Grade.OK:
            rows.append(["", "", f"-> {check.to_do}"])
    return f"{table(('', 'check', 'found'), rows, width=WIDTH)}\n\n{_verdict(found)}"


def _verdict(found: Diagnosis) -> str:
    counts = {grade: sum(check.grade is grade for check in found.checks) for grade in Grade}
    told = f"{len(found.checks)} checks: {counts[Grade.FAIL]} failed, {counts[Grade.WARNING]} to look at"
    return f"{told}; {'nothing stands in the way' if not found.exit_code else exit_words(found.exit_code)}"
