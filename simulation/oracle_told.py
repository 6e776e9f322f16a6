"""What the runner says of its day, for the oracle: read from its journal and its report, never asked of the runner."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from ops.report import Report
from simulation.oracle import Told
from simulation.oracle_trips import Trip
from state.journal_read import JournalReader
from state.ledger import settled_fills


def told_by(journal: Path, report: Path) -> Told:
    """From the newest session in the journal and its report. JournalError, OSError or msgspec.MsgspecError when unreadable."""
    written = msgspec.json.decode(report.read_bytes(), type=Report)
    with JournalReader.open(journal) as reader:
        return Told(
            orders=reader.orders(),
            fills={symbol: settled_fills(reader.fills(symbol)) for symbol in reader.symbols()},
            snapshots=reader.snapshots(),
            trips=[
                Trip(
                    trade.symbol,
                    trade.side,
                    Decimal(trade.qty),
                    Decimal(trade.entry_price).normalize(),
                    None if trade.exit_price is None else Decimal(trade.exit_price).normalize(),
                    trade.entry_order,
                    trade.exit_order,
                )
                for trade in written.trades
            ],
            max_entries={row.symbol: row.max_entries for row in written.symbols if row.max_entries},
        )
