"""A restart after a busy day: orders that ended long ago are still ours, though a snapshot keeps only the last few of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.base import FillRow, PositionRow
from brokers.reports import Reports
from state.clock import VirtualClock
from state.draft import KEPT_ENDED
from state.ledger import Fill, Ledger
from state.orders import Purpose
from state.reports import Reported
from state.snapshot import Snapshot
from state.symbol_state import SymbolState
from tests.state.builders import BUY, ENTRY, SELL, SYMBOL, TEN, D, Plan, make_rules
from tests.state.journal_story import Story, open_journal
from tests.state.test_symbol_state import Box

BOUGHT = FillRow("T1", "101", SYMBOL, BUY, D(5), ENTRY, TEN)
SOLD = FillRow("T2", "102", SYMBOL, SELL, D(5), ENTRY, TEN + 60_000)
KNOWN = {"101": (SYMBOL, f"{SYMBOL}-20261120-E0"), "102": (SYMBOL, f"{SYMBOL}-20261120-X9"), "103": ("GONE", "GONE-20261120-E0")}


def test_the_journal_gives_back_the_venue_ids_of_every_order_of_the_session(tmp_path: Path) -> None:
    """CRA-03."""
    path, many = tmp_path / "journal.db", KEPT_ENDED + 4
    journal, _ = open_journal(path)
    story = Story(SYMBOL, journal.commit)
    for number in range(many):
        story.tick("730.60")
        story.accepted("entry", f"v{number}")
        story.seen("entry", Reported.CANCELLED)
        story.tick("731.00")
    journal.close()

    journal, resumed = open_journal(path)
    journal.close()

    assert len(resumed.snapshots[SYMBOL].ended) == KEPT_ENDED
    assert resumed.known == {f"v{number}": (SYMBOL, f"{SYMBOL}-20261120-E{number}") for number in range(many)}


@pytest.mark.parametrize("booked", [("T1", "T2"), ("T2",)], ids=["known by their rows", "one known by a report"])
def test_a_restart_takes_the_executions_of_an_order_that_ended_long_ago_for_ours(booked: tuple[str, ...]) -> None:
    """REC-08, CRA-03: they were once held for trades by hand, and the symbol was halted as DIVERGED with all at zero."""
    state, clock = SymbolState(_after_a_trip(booked), make_rules(Plan()), Box(), VirtualClock(TEN)), VirtualClock(TEN)
    reports = Reports({SYMBOL: state}, clock, 30.0, known=KNOWN)

    for _ in range(3):
        clock.advance(5_000)
        reports.sweep([], [BOUGHT, SOLD], [PositionRow(SYMBOL, D(0))], clock.monotonic_ms())

    s = state.snapshot
    assert (s.halted, s.position, s.foreign_trades, s.disagreements) == (None, D(0), (), 0)
    assert all(trade_id in s.ledger.trade_ids for trade_id in ("T1", "T2"))


def _after_a_trip(booked: tuple[str, ...]) -> Snapshot:
    ledger = Ledger()
    for row, purpose in ((BOUGHT, Purpose.ENTRY), (SOLD, Purpose.EXIT)):
        client_id = KNOWN[row.venue_id][1]
        fill = Fill(row.trade_id, client_id, purpose, row.side, row.qty, row.price, row.at_ms)
        ledger = ledger.add(fill if row.trade_id in booked else _as_report(fill))
    return Snapshot(SYMBOL, sequence=10, ledger=ledger, foreign_qty=D(0))


def _as_report(fill: Fill) -> Fill:
    told = (f"{fill.client_id}/{fill.qty}", fill.client_id, fill.purpose, fill.side, fill.qty, fill.price, fill.at_ms)
    return Fill(*told, cumulative=True)
