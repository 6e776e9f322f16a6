"""The report as it is printed at the end of a session and by `report`. Pure; every character is plain ASCII."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from ops.report import Report, TradeReport
from ops.table import WIDTH, table
from ops.words import signed


def summary(report: Report, report_file: Path | str = "", log_file: Path | str = "", width: int = WIDTH) -> str:
    """What is printed at the end of a session: trades and reasons per symbol, totals, where to read on."""
    parts = [f"Session {report.session}, {report.mode}: {report.exit_words}", _trades_table(report, width)]
    parts += [_symbols_table(report, width), _totals(report)]
    files = [f"{name}  {path}" for name, path in (("report", report_file), ("log   ", log_file)) if path]
    return "\n\n".join([*parts, *(["\n".join(files)] if files else [])])


def _symbols_table(report: Report, width: int) -> str:
    heads = ("symbol", "strategy", "trades", "profit", "fees", "why")
    rows = [(s.symbol, s.strategy, str(s.exits), signed(Decimal(s.realized_pnl)), s.fees, s.why) for s in report.symbols]
    return table(heads, rows, right=("trades", "profit", "fees"), width=width)


def _trades_table(report: Report, width: int) -> str:
    if not report.trades:
        return "No trades."
    return trades_table(report.trades, width)


def trades_table(trades: Sequence[TradeReport], width: int = WIDTH) -> str:
    heads = ("symbol", "side", "qty", "in", "entry", "out", "exit", "net", "reason")
    rows = [
        (t.symbol, t.side, t.qty, _clock(t.entry_time), t.entry_price, _clock(t.exit_time), t.exit_price or "-", t.net, t.reason)
        for t in trades
    ]
    return table(heads, rows, right=("qty", "entry", "exit", "net"), width=width)


def _clock(iso: str | None) -> str:
    return iso[11:19] if iso else "-"


def _totals(report: Report) -> str:
    trips = sum(symbol.exits for symbol in report.symbols)
    worst = max((symbol.max_unprotected_ms for symbol in report.symbols), default=0)
    orders = ", ".join(f"{count} {name}" for name, count in report.orders.items())
    faults = ", ".join(f"{name} {count}" for name, count in report.faults.items() if count) or "none"
    return "\n".join(
        [
            f"total   {trips} trades, {signed(Decimal(report.realized_pnl))} after fees of {report.fees}",
            f"orders  {orders}; longest without a working stop {worst} ms",
            f"feed    {report.ticks} ticks; faults: {faults}; alarms: {len(report.alarms)}",
        ]
    )
