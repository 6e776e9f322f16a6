"""What `status`, `orders`, `positions`, `trades` and `report` say: facts from the journal.

Reads only, so it works beside a running session and after it. Asks no venue: what a running session knows beyond the journal
(last prices, threads, feed) it leaves every second in a small file, `LiveStatus`. Tables of them are in `ops.facts_text`.
"""

from __future__ import annotations

from datetime import date, tzinfo
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from ops import report as reports
from ops.files import replace_file
from ops.log import exit_words
from ops.words import iso_text, printable
from state.clock import Clock
from state.journal_file import SessionInfo
from state.journal_read import JournalReader, OrderRecord
from state.orders import Order, Purpose, Status
from state.snapshot import Snapshot

FRESH_MS, NORMAL_MS, WARNING_MS = 120_000, 300_000, 600_000  # an order's age up to which it is fresh, normal, a warning
LIVE_MS = 10_000  # a status file older than this is history
NO_SESSION = "No session has been recorded yet: start one with `run`."


class Urgency(StrEnum):
    """How long an order has been waiting for its end. A stop or target that rests as asked waits for nothing."""

    RESTING = "resting"
    FRESH = "fresh"
    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


class LivePrice(msgspec.Struct, frozen=True):
    last: Decimal
    age_ms: int


class LiveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a running session says of itself, each second, in data/status.json.

    `wall_ms` is the machine's time of writing, `now_ms` session time at that moment. `threads`: name to what it is doing, in a
    word. `feed`: counts by name (ticks, refused, reconnects, …). `max_entries`: by symbol.
    """

    pid: int
    session: str
    mode: str
    wall_ms: int
    now_ms: int
    doing: str = "trading"
    threads: dict[str, str] = {}
    feed: dict[str, int] = {}
    prices: dict[str, LivePrice] = {}
    max_entries: dict[str, int] = {}


class OrderFact(msgspec.Struct, frozen=True, kw_only=True):
    """One order of ours. `age_ms` from the decision to its end, or to now. `urgency` empty once it has ended."""

    symbol: str
    client_id: str
    venue_id: str | None
    purpose: str
    side: str
    type: str
    qty: Decimal
    filled: Decimal
    limit_price: Decimal | None
    trigger_price: Decimal | None
    average: Decimal | None
    status: str
    ended: bool
    age_ms: int
    urgency: str
    reason: str
    intended: str


class PositionFact(msgspec.Struct, frozen=True, kw_only=True):
    """`stop_working`: the venue's own book has shown a stop for all of it."""

    symbol: str
    position: Decimal
    average: Decimal | None
    stop_price: Decimal | None
    stop_working: bool
    last: Decimal | None = None
    open_profit: Decimal | None = None


class SymbolFact(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    phase: str
    position: Decimal
    average: Decimal | None
    stop_price: Decimal | None
    stop_working: bool
    entries_used: int
    max_entries: int | None
    live_orders: list[str]
    why: str
    blocked: list[str]
    last: Decimal | None
    last_age_ms: int | None


class StatusFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture. `told` is the first sentence for a person. `pending`: orders by urgency."""

    told: str
    session: str | None = None
    mode: str | None = None
    state: str = "none"
    exit_code: int | None = None
    exit_words: str = ""
    symbols: list[SymbolFact] = []
    orders: list[OrderFact] = []
    pending: dict[str, int] = {}
    counts: dict[str, int] = {}
    alarms: list[tuple[str, str, str]] = []
    live: LiveStatus | None = None


# -- the five questions --------------------------------------------------------------------------------------------------------


def status(reader: JournalReader | None, zone: tzinfo, now_ms: int, live: LiveStatus | None = None) -> StatusFacts:
    """`now_ms`: session time as well as it is known; `live`, when there is one, knows better. `reader` None: no journal yet."""
    found = reader.latest() if reader is not None else None
    if reader is None or found is None:
        return StatusFacts(told=NO_SESSION, live=live)
    live = live if live is not None and live.session == found.day and found.state == "running" else None
    waiting = [order for order in orders(reader, zone, now_ms, live) if not order.ended]
    pending = {urgency.value: sum(order.urgency == urgency for order in waiting) for urgency in Urgency}
    return StatusFacts(
        told=_told(found, live),
        session=found.day,
        mode=found.mode,
        state=found.state,
        exit_code=found.exit_code,
        exit_words="" if found.exit_code is None else exit_words(found.exit_code),
        symbols=[_symbol(snapshot, live) for snapshot in reader.snapshots(found.id).values()],
        orders=waiting,
        pending=pending,
        counts=reader.orders_summary(found.id),
        alarms=[(iso_text(alarm.now_ms, zone), alarm.symbol, printable(alarm.text)) for alarm in reader.alarms(found.id)],
        live=live,
    )


def orders(reader: JournalReader | None, zone: tzinfo, now_ms: int, live: LiveStatus | None = None) -> list[OrderFact]:
    """Every order of the newest session, each with its reason in words."""
    found = reader.latest() if reader is not None else None
    if reader is None or found is None:
        return []
    now_ms = _session_now(found, now_ms, live)
    return [_order(record, zone, now_ms) for record in reader.orders(found.id)]


def positions(reader: JournalReader | None, live: LiveStatus | None = None) -> list[PositionFact]:
    """What is held, by our own fills, in the newest session."""
    snapshots = reader.snapshots().values() if reader is not None else ()
    return [_position(snapshot, live) for snapshot in snapshots if snapshot.position]


def trades(reader: JournalReader | None, zone: tzinfo) -> list[reports.TradeReport]:
    """Round trips of the newest session in the order they began, the open ones too."""
    if reader is None:
        return []
    records = {order.client_id: order for order in reader.orders()}
    paths = reports.stop_paths(reader.records(None, reports.ALL_RECORDS))
    rows = [
        reports.trade_row(trade, records, paths.get(symbol, reports.StopPath()), zone)
        for symbol in reader.symbols()
        for trade in reader.trades(symbol)
    ]
    return sorted(rows, key=lambda row: row.entry_time)


def report(data_dir: Path, day: date | None = None) -> reports.Report | None:
    """The report of that day, or the newest there is; None when there is none."""
    if day is not None:
        return reports.read(reports.report_path(data_dir, day))
    found = sorted((data_dir / "reports").glob("[0-9]*-[0-9]*-[0-9]*.json"))
    return reports.read(found[-1]) if found else None


# -- from journal to facts -----------------------------------------------------------------------------------------------------


def urgency(order: Order, age_ms: int) -> Urgency:
    """fresh under 2 minutes, normal, warning over 5, critical over 10."""
    if order.purpose in (Purpose.STOP, Purpose.TARGET) and order.status is Status.WORKING and order.verified:
        return Urgency.RESTING
    if age_ms < FRESH_MS:
        return Urgency.FRESH
    if age_ms <= NORMAL_MS:
        return Urgency.NORMAL
    return Urgency.WARNING if age_ms <= WARNING_MS else Urgency.CRITICAL


def _session_now(found: SessionInfo, now_ms: int, live: LiveStatus | None) -> int:
    if live is not None:
        return live.now_ms
    return now_ms if found.ended_ms is None else found.ended_ms


def _order(record: OrderRecord, zone: tzinfo, now_ms: int) -> OrderFact:
    order = record.order
    until_ms = now_ms if record.ended_ms is None else record.ended_ms
    age_ms = max(until_ms - record.intended_ms, 0)
    return OrderFact(
        symbol=order.symbol,
        client_id=order.client_id,
        venue_id=order.venue_id,
        purpose=order.purpose.name.lower(),
        side=order.side.value,
        type=order.type.value,
        qty=order.qty,
        filled=record.filled,
        limit_price=order.limit_price,
        trigger_price=order.trigger_price,
        average=record.average,
        status=record.status,
        ended=record.ended,
        age_ms=age_ms,
        urgency="" if record.ended else urgency(order, age_ms).value,
        reason=printable(record.reason),
        intended=iso_text(record.intended_ms, zone),
    )


def _stop_working(s: Snapshot) -> bool:
    stop = s.stop
    return stop is not None and stop.verified and stop.status is Status.WORKING and s.remaining(stop) >= abs(s.position)


def _position(s: Snapshot, live: LiveStatus | None) -> PositionFact:
    price = live.prices.get(s.symbol) if live else None
    profit = None if price is None or s.average is None else (price.last - s.average) * s.position
    return PositionFact(
        symbol=s.symbol,
        position=s.position,
        average=s.average,
        stop_price=_stop_level(s),
        stop_working=_stop_working(s),
        last=price.last if price else None,
        open_profit=profit,
    )


def _stop_level(s: Snapshot) -> Decimal | None:
    """Where the stop is at the venue; while none is there, where it belongs."""
    return s.stop.trigger_price if s.stop is not None else s.stop_price


def _symbol(s: Snapshot, live: LiveStatus | None) -> SymbolFact:
    price = live.prices.get(s.symbol) if live else None
    return SymbolFact(
        symbol=s.symbol,
        phase=s.phase.value,
        position=s.position,
        average=s.average,
        stop_price=_stop_level(s),
        stop_working=_stop_working(s),
        entries_used=s.entries_used,
        max_entries=live.max_entries.get(s.symbol) if live else None,
        live_orders=[order.client_id for order in s.live_orders()],
        why=printable(s.why),
        blocked=_blocked(s),
        last=price.last if price else None,
        last_age_ms=price.age_ms if price else None,
    )


def _blocked(s: Snapshot) -> list[str]:
    """Everything that forbids an entry now, for whatever reason."""
    found = [f"HALTED: {s.halted}"] if s.halted else []
    found += [f"{source}: {reason}" for source, reason in s.blocks]
    found += [f"closing: {s.closing}"] if s.closing else []
    found += ["past the cutoff"] if s.over else []
    return [printable(text) for text in found]


def _told(found: SessionInfo, live: LiveStatus | None) -> str:
    name = f"Session {found.day} ({found.mode})"
    if found.state == "finished" and found.exit_code is not None:
        return f"{name} has ended, {exit_words(found.exit_code)}."
    if found.state != "running":
        return f"{name} was interrupted: nobody has looked after its orders since."
    if live is not None:
        return f"{name} is running (process {live.pid}, {live.doing})."
    return f"{name} was running, but nothing has been heard of it for {LIVE_MS // 1000} s: is its process alive?"


# -- the status file -------------------------------------------------------------------------------------------------------------


def write_live(path: Path, live: LiveStatus, clock: Clock) -> bool:
    """False when it could not be put in place this time (disk full, held open): the next second tries again."""
    try:
        replace_file(path, msgspec.json.encode(live), clock, tries=1, durable=False)
    except OSError:
        return False
    return True


def read_live(path: Path, wall_ms: int) -> LiveStatus | None:
    """What a running session last said; None when it is not there, not readable, or older than LIVE_MS."""
    try:
        live = msgspec.json.decode(path.read_bytes(), type=LiveStatus)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return live if abs(wall_ms - live.wall_ms) <= LIVE_MS else None


def live_path(data_dir: Path) -> Path:
    return data_dir / "status.json"
