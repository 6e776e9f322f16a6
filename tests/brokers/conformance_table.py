"""The table adapter × behaviour: run the conformance suite, print what came out, and write docs/conformance.md.

`python tasks.py conformance`. A cell is ok, n/a with its reason, or FAILED; the reasons stand below the table.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.brokers.conformance import BROKERS, NOT_HERE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
SUITE = "tests/brokers/test_conformance.py"
QUIET = ("-q", "--no-header", "-n", "auto", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
OK, FAILED = "ok", "FAILED"
_NODE = re.compile(r"::(test_\w+)\[(?P<params>[^\]]*)\]")
Cells = dict[str, dict[str, str]]  # behaviour -> broker -> cell

HEAD = """# What every broker does

Made by `python tasks.py conformance`; the rows are the names of the tests in `tests/brokers/test_conformance.py`. Each is asked
of every adapter over real sockets, against a venue of its own on this machine: *practice* is the OpenAlgo adapter and our
practice venue, *openalgo* the same in live mode, *kraken*, *coinbase* and *oanda* are doubles written from the venues'
documentation, *paper* fills in this process. `test_conformance_story.py` trades the same day on all six and compares the trades.
"""


class Collector:
    """A pytest plug-in: what became of each behaviour at each broker. Of several variants of one the worst counts."""

    def __init__(self) -> None:
        self.cells: Cells = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown" and report.passed:
            return
        found = _NODE.search(report.nodeid)
        broker = next((part for part in found["params"].split("-") if part in BROKERS), None) if found else None
        if found is None or broker is None:
            return
        row = self.cells[found[1]]
        if report.skipped:
            row.setdefault(broker, str(report.longrepr[2]).removeprefix("Skipped: "))  # type: ignore[index]
        elif report.failed:
            row[broker] = FAILED
        elif report.when == "call":
            row.setdefault(broker, OK)


def words(name: str) -> str:
    """test_a_wrong_key_is_fatal -> A wrong key is fatal"""
    return name.removeprefix("test_").replace("_", " ").capitalize()


def page(cells: Cells) -> str:
    """The document."""
    reasons: dict[str, int] = {}
    lines = [f"| behaviour | {' | '.join(BROKERS)} |", "|---" * (len(BROKERS) + 1) + "|"]
    for name, row in cells.items():
        shown = [_cell(row.get(broker, "not run"), reasons) for broker in BROKERS]
        lines.append(f"| {words(name)} | {' | '.join(shown)} |")
    notes = [f"{number}. {reason.removeprefix('n/a: ')}" for reason, number in reasons.items()]
    return "\n".join([HEAD, f"{len(cells)} behaviours.", "", *lines, "", "Not applicable, because:", "", *notes, ""])


def _cell(told: str, reasons: dict[str, int]) -> str:
    return f"n/a ({reasons.setdefault(told, len(reasons) + 1)})" if told.startswith("n/a") else told


def table(cells: Cells) -> str:
    """For a terminal."""
    wide = max(len(words(name)) for name in cells)
    lines = [f"{'':{wide}}  " + "".join(f"{broker:10}" for broker in BROKERS)]
    for name, row in cells.items():
        lines.append(
            f"{words(name):{wide}}  " + "".join(f"{row.get(broker, 'not run').partition(':')[0]:10}" for broker in BROKERS)
        )
    reasons = {(broker, why) for broker, known in NOT_HERE.items() for why in known.values()}
    return "\n".join([*lines, "", *(f"n/a {broker}: {why}" for broker, why in sorted(reasons))])


def names(document: str) -> list[str]:
    """The behaviours that a document has rows for."""
    rows = re.findall(r"^\| ([^|]+?) \| .*$", document, re.MULTILINE)
    return [row for row in rows if row != "behaviour"]


def main(arguments: list[str]) -> int:
    collector = Collector()
    code = pytest.main([f"{SUITE}::TestEveryBroker", *QUIET, *arguments], plugins=[collector])
    cells = in_order(collector.cells)
    print(table(cells))
    if not arguments:
        PAGE.write_text(page(cells), encoding="utf-8", newline="\n")
        print(f"\n{len(cells)} behaviours of {len(BROKERS)} brokers: {PAGE.relative_to(PAGE.parents[1])}")
    return int(code)


def in_order(cells: Cells) -> Cells:
    """As they stand in the suite, whichever process ran them first."""
    text = (PAGE.parents[1] / SUITE).read_text(encoding="utf-8")
    return dict(sorted(cells.items(), key=lambda cell: text.index(f"def {cell[0]}(")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
