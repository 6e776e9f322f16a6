"""The facts of `ops.facts` as tables and sentences for a terminal. Pure; every character is plain ASCII."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec

from ops import report as reports
from ops.facts import OrderFact, PositionFact, StatusFacts, SymbolFact
from ops.report_text import summary, trades_table
from ops.table import table
from ops.words import number, printable


def to_json(facts: object) -> str:
    """Decimals as strings."""
    return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()


def status_text(s: StatusFacts) -> str:
    """Everything `status` knows, as one screen."""
    parts = [s.told]
    if s.symbols:
        parts.append(_symbols_table(s.symbols))
    if s.orders:
        parts.append(orders_text(s.orders))
    if s.counts:
        parts.append("orders   " + ", ".join(f"{count} {name}" for name, count in s.counts.items()))
    if s.alarms:
        shown = [f"{time[11:19]} {symbol:<10} {text}" for time, symbol, text in s.alarms[-10:]]
        parts.append("\n".join([f"alarms ({len(s.alarms)}, newest last)", *(printable(line) for line in shown)]))
    if s.live is not None:
        parts.append("threads  " + ", ".join(f"{name} {word}" for name, word in s.live.threads.items()))
        parts.append("feed     " + ", ".join(f"{name} {count}" for name, count in s.live.feed.items()))
    return "\n\n".join(parts)


def _symbols_table(symbols: Iterable[SymbolFact]) -> str:
    heads = ("symbol", "phase", "position", "average", "stop", "at venue", "last", "entries", "why")
    rows = [
        (
            s.symbol,
            s.phase,
            number(s.position),
            _dash(s.average),
            _dash(s.stop_price),
            _at_venue(s.position, s.stop_working),
            _dash(s.last),
            f"{s.entries_used} of {s.max_entries}" if s.max_entries is not None else str(s.entries_used),
            "; ".join([*s.blocked, s.why] if s.why else s.blocked),
        )
        for s in symbols
    ]
    return table(heads, rows, right=("position", "average", "stop", "last", "entries"))


def _at_venue(position: Decimal, working: bool) -> str:
    return ("yes" if working else "NO") if position else "-"


def orders_text(found: Sequence[OrderFact]) -> str:
    if not found:
        return "No orders."
    heads = ("order", "", "qty", "filled", "price", "status", "age", "urgency", "venue order", "reason")
    rows = [
        (
            o.client_id,
            f"{o.side.lower()} {o.purpose}",
            number(o.qty),
            number(o.filled),
            _dash(o.trigger_price if o.trigger_price is not None else o.limit_price),
            o.status,
            age_text(o.age_ms),
            o.urgency,
            o.venue_id or "-",
            o.reason,
        )
        for o in found
    ]
    return table(heads, rows, right=("qty", "filled", "price", "age"), width=130)


def positions_text(found: Sequence[PositionFact]) -> str:
    if not found:
        return "No positions: everything is flat."
    heads = ("symbol", "position", "average", "last", "open profit", "stop", "stop at venue")
    rows = [
        (
            p.symbol,
            number(p.position),
            _dash(p.average),
            _dash(p.last),
            _dash(p.open_profit),
            _dash(p.stop_price),
            _at_venue(p.position, p.stop_working),
        )
        for p in found
    ]
    return table(heads, rows, right=("position", "average", "last", "open profit", "stop"))


def trades_text(found: Sequence[reports.TradeReport]) -> str:
    return trades_table(found) if found else "No trades."


def report_text(found: reports.Report | None, data_dir: Path, day: date | None = None) -> str:
    if found is None:
        return f"There is no report{f' of {day}' if day else ''} in {data_dir / 'reports'}."
    return summary(found, reports.report_path(data_dir, found.session))


def age_text(age_ms: int) -> str:
    """ "45s", "6m 05s", "2h 03m"."""
    seconds = age_ms // 1000
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    return f"{seconds // 3600}h {seconds // 60 % 60:02}m"


def _dash(value: Decimal | None) -> str:
    return "-" if value is None else number(value)
