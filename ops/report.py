"""The end-of-day report: what was traded, what it made, and why each symbol did or did not trade (DESIGN, section 10).

Pure but for `write` and `read`. Everything comes from the journal and from plain facts handed in; nothing is counted twice.
Money and prices are strings, times ISO 8601 in the session's zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ops.files import replace_file
from ops.log import exit_words
from ops.story import held
from ops.words import iso_text, money, number, printable
from state.clock import Clock
from state.journal_read import JournalReader, OrderRecord, Record
from state.ledger import ELSEWHERE, Trade
from state.orders import ZERO, Purpose
from state.snapshot import Snapshot

ALL_RECORDS = 10_000_000
_FINEST = Decimal("0.00000001")


class SymbolFacts(msgspec.Struct, frozen=True):
    """What the journal does not know of a symbol. `why_not`: its setup may not trade on this day. `trigger`: the price at or
    below which it would have armed, where its strategy has one. `low`, `high`: of the prices seen, None before any."""

    symbol: str
    strategy: str
    max_entries: int
    why_not: str | None = None
    trigger: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None


class SymbolReport(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` counts intents, `exits` closed trades. `realized_pnl` is after fees, `gross` before."""

    symbol: str
    strategy: str
    entries: int
    exits: int
    realized_pnl: str
    fees: str
    max_unprotected_ms: int
    why: str
    max_entries: int
    gross: str
    position: str
    stop_path: list[tuple[str, str]]
    low: str | None
    high: str | None
    dust: str = "0"  # held beside the position: too little for an order


class TradeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One round trip; open ones have no exit and the reason "open". `source`: how its last fill was learnt."""

    symbol: str
    side: str
    qty: str
    entry_price: str
    exit_price: str | None
    entry_time: str
    exit_time: str | None
    gross: str
    fees: str
    net: str
    reason: str
    entry_order: str
    exit_order: str
    source: str
    stop_path: list[tuple[str, str]]
    dust: str = "0"  # what was left of `qty`, too little to be sold


class Report(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    mode: str
    exit_code: int
    symbols: list[SymbolReport]
    trades: list[TradeReport]
    orders: dict[str, int]
    ticks: int
    faults: dict[str, int]
    exit_words: str
    realized_pnl: str
    fees: str
    alarms: list[tuple[str, str, str]]


class StopLevel(msgspec.Struct, frozen=True):
    """A level of the protective stop as the venue showed it, in the trip that began with this entry order."""

    trip: str
    client_id: str
    at_ms: int
    price: Decimal


class StopPath(msgspec.Struct, frozen=True):
    """`levels`: what the venue showed. `first`: per trip, the level that was asked for first. `reasons`: per exit order, what
    it was decided for (the order itself keeps the last reason for asking anything, a cancel for instance)."""

    levels: tuple[StopLevel, ...] = ()
    first: Mapping[str, Decimal] = {}
    reasons: Mapping[str, str] = {}

    def of(self, trip: str) -> list[StopLevel]:
        return [level for level in self.levels if level.trip == trip]


def build(
    *,
    reader: JournalReader,
    day: date,
    zone: tzinfo,
    mode: str,
    exit_code: int,
    facts: Sequence[SymbolFacts],
    ticks: int,
    faults: Mapping[str, int],
    session: int | None = None,
) -> Report:
    """The report of one journaled session (the newest one without `session`). Symbols in the order of `facts`."""
    snapshots = reader.snapshots(session)
    records = {order.client_id: order for order in reader.orders(session)}
    paths = stop_paths(reader.records(None, ALL_RECORDS, session))
    symbols: list[SymbolReport] = []
    rows: list[TradeReport] = []
    for fact in _with_unplanned(facts, snapshots):
        path = paths.get(fact.symbol, StopPath())
        trades = reader.trades(fact.symbol, session)
        symbols.append(_symbol(fact, snapshots.get(fact.symbol) or Snapshot(fact.symbol), trades, path, zone))
        rows += [trade_row(trade, records, path, zone) for trade in trades]
    return Report(
        session=day.isoformat(),
        mode=mode,
        exit_code=exit_code,
        symbols=symbols,
        trades=sorted(rows, key=lambda row: row.entry_time),
        orders=reader.orders_summary(session),
        ticks=ticks,
        faults=dict(faults),
        exit_words=exit_words(exit_code),
        realized_pnl=money(sum((Decimal(symbol.realized_pnl) for symbol in symbols), ZERO)),
        fees=money(sum((Decimal(symbol.fees) for symbol in symbols), ZERO)),
        alarms=[(iso_text(a.now_ms, zone), a.symbol, printable(a.text)) for a in reader.alarms(session)],
    )


def _with_unplanned(facts: Sequence[SymbolFacts], snapshots: Mapping[str, Snapshot]) -> list[SymbolFacts]:
    """A symbol that the journal knows is never left out, whatever the configuration says by now."""
    planned = {fact.symbol for fact in facts}
    return [*facts, *(SymbolFacts(symbol, "", 0) for symbol in snapshots if symbol not in planned)]


def _symbol(fact: SymbolFacts, s: Snapshot, trades: Sequence[Trade], path: StopPath, zone: tzinfo) -> SymbolReport:
    gross = sum((_fine(trade.gross) for trade in trades), ZERO)
    fees = sum((_fine(trade.fees) for trade in trades), ZERO)
    return SymbolReport(
        symbol=fact.symbol,
        strategy=fact.strategy,
        entries=s.entries_used,
        exits=sum(trade.exit_ms is not None for trade in trades),
        realized_pnl=money(gross - fees),
        fees=money(fees),
        max_unprotected_ms=s.worst_unprotected,
        why=printable(why(fact, s, trades)),
        max_entries=fact.max_entries,
        gross=money(gross),
        position=number(s.position),
        stop_path=_levels(path.levels, zone),
        low=None if fact.low is None else number(fact.low),
        high=None if fact.high is None else number(fact.high),
        dust=number(s.dust or ZERO),
    )


def why(fact: SymbolFacts, s: Snapshot, trades: Sequence[Trade]) -> str:
    """Why this symbol traded as often as it did, or not at all."""
    words = [_why_traded(fact, s, trades)]
    if s.position:
        words.append(f"still {held(s)}")
    if s.dust:
        words.append(f"dust {number(s.dust)} left, too little to be sold")
    if s.halted:
        words.append(f"HALTED: {s.halted}")
    return "; ".join(words)


def _why_traded(fact: SymbolFacts, s: Snapshot, trades: Sequence[Trade]) -> str:
    used = f"entries used {s.entries_used} of {fact.max_entries}" if fact.max_entries else f"entries used {s.entries_used}"
    if trades:
        last = f"; last: {s.why}" if s.why.startswith("entry ") else ""
        return f"{len(trades)} trade{'s' if len(trades) > 1 else ''}, {used}{last}"
    if s.entries_used:
        return f"no trade, {used}; {s.why}" if s.why else f"no trade, {used}"
    return fact.why_not or s.why or _nothing_happened(fact)


def _nothing_happened(fact: SymbolFacts) -> str:
    if fact.low is None or fact.high is None:
        return "no price was received"
    if fact.trigger is not None and fact.low > fact.trigger:
        return f"no price at or below trigger {number(fact.trigger)} (low {number(fact.low)})"
    return f"no entry was wanted (low {number(fact.low)}, high {number(fact.high)})"


# -- trades and stops --------------------------------------------------------------------------------------------------------


def trade_row(trade: Trade, records: Mapping[str, OrderRecord], path: StopPath, zone: tzinfo) -> TradeReport:
    gross, fees = _fine(trade.gross), _fine(trade.fees)
    return TradeReport(
        symbol=trade.symbol,
        side=trade.side.value,
        qty=number(trade.qty),
        entry_price=number(trade.entry_price),
        exit_price=None if trade.exit_price is None else number(trade.exit_price),
        entry_time=iso_text(trade.entry_ms, zone),
        exit_time=None if trade.exit_ms is None else iso_text(trade.exit_ms, zone),
        gross=money(gross),
        fees=money(fees),
        net=money(gross - fees),
        reason=printable(exit_reason(trade, records, path)),
        entry_order=trade.entry_order,
        exit_order=trade.exit_order,
        source=trade.source,
        stop_path=_levels(path.of(trade.entry_order), zone),
        dust=number(trade.dust),
    )


def exit_reason(trade: Trade, records: Mapping[str, OrderRecord], path: StopPath) -> str:
    """stop, trail (the stop that filled had been moved), target, or the reason of the exit order: cutoff, flatten, …"""
    record = records.get(trade.exit_order)
    if trade.exit_ms is None:
        return "open"
    if record is None:
        return "closed elsewhere" if ELSEWHERE in trade.exit_order else "unknown order"
    order = record.order
    if order.purpose is Purpose.STOP:
        return "stop" if order.trigger_price == path.first.get(trade.entry_order, order.trigger_price) else "trail"
    return "target" if order.purpose is Purpose.TARGET else path.reasons.get(order.client_id, order.reason)


def stop_paths(records: Iterable[Record]) -> dict[str, StopPath]:
    """Of every symbol that the records speak of."""
    by_symbol: dict[str, list[Record]] = {}
    for record in records:
        by_symbol.setdefault(record.symbol, []).append(record)
    return {symbol: stop_path(found) for symbol, found in by_symbol.items()}


def stop_path(records: Iterable[Record]) -> StopPath:
    """Where the stop of one symbol has been, and why it was closed out, read from its records in their order."""
    levels: list[StopLevel] = []
    first: dict[str, Decimal] = {}
    reasons: dict[str, str] = {}
    trip, stop = "", dict[str, Any]()
    for record in records:
        change = record.change
        trip = _spelled(change["trip"], record) if "trip" in change else trip
        exit = change.get("exit") or {}
        if "client_id" in exit:
            reasons[_spelled(exit["client_id"], record)] = str(exit.get("reason", ""))
        if "stop" in change:
            stop = _follow(stop, change["stop"], record)
            _note(stop, trip, record.now_ms, levels, first)
    return StopPath(tuple(levels), first, reasons)


def _follow(stop: dict[str, Any], news: dict[str, Any] | None, record: Record) -> dict[str, Any]:
    """The stop order after this record: gone, a new one, or changed in part."""
    if news is None:
        return {}
    return news | {"client_id": _spelled(news["client_id"], record)} if "client_id" in news else stop | news


def _note(stop: dict[str, Any], trip: str, at_ms: int, levels: list[StopLevel], first: dict[str, Decimal]) -> None:
    if not trip or stop.get("trigger_price") is None:
        return
    price = Decimal(str(stop["trigger_price"]))
    first.setdefault(trip, price)
    if stop.get("verified") and not (levels and (levels[-1].trip, levels[-1].price) == (trip, price)):
        levels.append(StopLevel(trip, stop["client_id"], at_ms, price))


def _spelled(value: object, record: Record) -> str:
    """In a record "=" stands for the order it is about."""
    return record.client_id if value == "=" else str(value or "")


def _levels(levels: Iterable[StopLevel], zone: tzinfo) -> list[tuple[str, str]]:
    return [(iso_text(level.at_ms, zone), number(level.price)) for level in levels]


def _fine(value: Decimal) -> Decimal:
    """To 1e-8, so that what is printed adds up exactly."""
    return value.quantize(_FINEST)


# -- the file ----------------------------------------------------------------------------------------------------------------


def report_path(data_dir: Path, day: date | str) -> Path:
    return data_dir / "reports" / f"{day}.json"


def encode(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def write(data_dir: Path, report: Report, clock: Clock, redact: Callable[[str], str] = str) -> Path:
    """Put the report in place, whole or not at all; `redact` takes secrets out (`ops.log.redactor`). Raises OSError."""
    path = report_path(data_dir, report.session)
    replace_file(path, redact(encode(report).decode()).encode(), clock)
    return path


def read(path: Path) -> Report | None:
    """None when there is none. msgspec.DecodeError when the file is not a report."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        return None
