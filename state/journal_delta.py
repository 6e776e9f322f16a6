"""What a record says: how one decision is written down in a few hundred bytes, and read back to the same value.

Pure. A record holds the event, and what changed since the last committed snapshot of its symbol: short keys, defaults left
out, orders as differences, times relative to the event's. "=" stands for the client order id the record is about, 0 for the
entry order's reason. Fills are kept as the evidence they came from; the ledger is rebuilt from that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import cache
from hashlib import blake2b
from typing import Any, get_type_hints

import msgspec
from msgspec.structs import fields, replace

from state.commands import Alarm, Command
from state.events import Event, FillSeen
from state.ledger import Fill, Ledger
from state.orders import Order
from state.sightings import evidence
from state.snapshot import SLOT_OF, SLOTS, Snapshot
from state.symbol_state import Work

ORDER_CODES = {
    "client_id": "i",
    "purpose": "P",
    "side": "s",
    "type": "t",
    "qty": "q",
    "limit_price": "l",
    "trigger_price": "g",
    "status": "S",
    "venue_id": "v",
    "verified": "y",
    "cancel_asked": "x",
    "asked_qty": "aq",
    "asked_trigger": "ag",
    "attempts": "a",
    "strikes": "k",
    "created_ms": "c",
    "changed_ms": "h",
    "retry_ms": "R",
    "late_ms": "L",
    "repeats": "e",
    "reason": "r",
    "baseline": "b",
}
SNAPSHOT_CODES = {
    "entry": "E",
    "stop": "S",
    "target": "T",
    "exit": "X",
    "ended": "d",
    "side": "s",
    "trip": "t",
    "stop_price": "p",
    "peak": "k",
    "entries_used": "n",
    "sequence": "q",
    "fill_ms": "f",
    "unprotected_ms": "u",
    "why": "w",
}
FILL_CODES = {
    "trade_id": "i",
    "client_id": "o",
    "purpose": "P",
    "side": "s",
    "qty": "q",
    "price": "p",
    "at_ms": "m",
    "fee": "f",
    "fee_currency": "fc",
    "source": "r",
    "cumulative": "c",
    "base_fee": "fb",
}
THIS = "="  # the client order id the record is about
SAME_REASON = 0  # a snapshot's `why` that is the reason of its entry order
_RELATIVE = ("changed_ms", "retry_ms", "late_ms")  # written relative to the event's monotonic time
_DERIVED = ("symbol", "version", "ledger")  # of a snapshot: columns of the record, and the evidence


class Body(msgspec.Struct, omit_defaults=True, frozen=True):
    """The JSON of one record: event, change, fills, whole ledger (only where evidence does not explain it), alarms."""

    e: dict[str, Any] = {}
    c: dict[str, Any] = {}
    f: tuple[dict[str, Any], ...] = ()
    L: Ledger | None = None
    a: tuple[str, ...] = ()


class Context(msgspec.Struct, frozen=True):
    """What the record's columns and its event say already."""

    symbol: str
    client_id: str
    now_ms: int
    mono_ms: int


# -- writing -----------------------------------------------------------------------------------------------------------------


def encode_work(last: Snapshot, work: Work) -> tuple[str, bytes]:
    """The client order id this record is about, and its body. `last` is what the journal holds of the symbol so far."""
    event, client_id = work.event, concerning(work.event, work.commands)
    context = Context(work.after.symbol, client_id, event.now_ms, event.mono_ms)
    same = last.ledger is work.after.ledger or last.ledger == work.after.ledger
    fills = () if same else evidence(work.before, event)
    grown = last.ledger
    for fill in fills:
        grown = grown.add(fill)
    body = Body(
        e=_event(event, told=bool(fills), client_id=client_id),
        c=_change(last, work.after, context),
        f=() if grown is last.ledger else tuple(_shortened(fill, FILL_CODES, client_id) for fill in fills),
        L=None if grown == work.after.ledger else work.after.ledger,
        a=tuple(command.text for command in work.commands if isinstance(command, Alarm)),
    )
    return client_id, _to_json(body)


def concerning(event: Event, commands: tuple[Command, ...]) -> str:
    """The client order id an event is about, else the first one it leads to; "" for none."""
    if isinstance(event, FillSeen):
        return event.fill.client_id
    named = getattr(event, "client_id", None)
    if named is not None:
        return str(named)
    return next((command.order.client_id for command in commands if not isinstance(command, Alarm)), "")


def _to_json(body: Body) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a character in a venue's text: no reason to lose the record
        return json.dumps(msgspec.to_builtins(body)).encode("ascii")


def _event(event: Event, *, told: bool, client_id: str) -> dict[str, Any]:
    """The event without what the columns or (`told`) the fill evidence say already."""
    skipped = {"now_ms", "mono_ms"} | ({"fill", "strangers"} if told else set())
    out = {"m": event.mono_ms} | _compact(event, skipped)
    if out.get("client_id") == client_id:
        del out["client_id"]
    return out


def _compact(value: msgspec.Struct, skipped: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, default in _defaults_of(type(value)):
        item = getattr(value, name)
        if name in skipped or item is None or item == default:
            continue
        out[name] = _compact(item, set()) if isinstance(item, msgspec.Struct) else item
    return out


@cache
def _defaults_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Once per type: `fields` compiles its annotations anew each time, 0.2 ms between a decision and its order."""
    return tuple((field.name, field.default) for field in fields(kind))


def _shortened(value: msgspec.Struct, codes: Mapping[str, str], client_id: str) -> dict[str, Any]:
    out = {codes.get(name, name): item for name, item in _compact(value, set()).items()}
    if out.get(codes["client_id"]) == client_id:
        out[codes["client_id"]] = THIS
    return out


def _change(last: Snapshot, after: Snapshot, context: Context) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in _SNAPSHOT_FIELDS:
        old, new = getattr(last, name), getattr(after, name)
        if old is new or old == new:
            continue
        code = SNAPSHOT_CODES.get(name, name)
        if name in SLOTS:
            out[code] = None if new is None else _order(old, new, context)
        elif name == "ended":
            out[code] = _ended(last, new, context)
        elif name == "why" and after.entry is not None and after.entry.reason == new:
            out[code] = SAME_REASON
        else:
            out[code] = THIS if name == "trip" and new == context.client_id else new
    return out


def _order(old: Order | None, new: Order, context: Context) -> dict[str, Any]:
    """What changed of the same order, or a whole new one (then with its client order id)."""
    if old is not None and old.client_id == new.client_id:
        changed = {name: getattr(new, name) for name in _ORDER_FIELDS if getattr(new, name) != getattr(old, name)}
    else:
        changed = {name: getattr(new, name) for name in _ORDER_FIELDS if getattr(new, name) != _ORDER_DEFAULTS.get(name)}
        changed |= {"created_ms": new.created_ms - context.now_ms, "changed_ms": new.changed_ms, "retry_ms": new.retry_ms}
        changed = {name: value for name, value in changed.items() if value or name not in ("created_ms", "retry_ms")}
        changed["client_id"] = THIS if new.client_id == context.client_id else new.client_id
        if new.symbol == context.symbol:
            del changed["symbol"]
    for name in _RELATIVE:
        if changed.get(name):
            changed[name] -= context.mono_ms
        elif name in changed:
            changed[name] = None  # 0: not a time at all
    return {ORDER_CODES.get(name, name): value for name, value in changed.items()}


def _ended(last: Snapshot, new: tuple[Order, ...], context: Context) -> list[Any]:
    """[how many of the old ones stay, the new ones…]; an order that left its slot is [slot, what changed on the way out]."""
    for count in range(min(len(last.ended), len(new)), -1, -1):
        if count == 0 or last.ended[-count:] == new[:count]:
            break
    return [count, *(_ended_order(last, order, context) for order in new[count:])]


def _ended_order(last: Snapshot, order: Order, context: Context) -> Any:
    slot = SLOT_OF[order.purpose]
    old = getattr(last, slot)
    known = old is not None and old.client_id == order.client_id
    change = _order(old, order, context)
    return [SNAPSHOT_CODES[slot], change] if known else change


# -- reading -----------------------------------------------------------------------------------------------------------------


def decode_body(raw: bytes) -> Body:
    try:
        return msgspec.json.decode(raw, type=Body)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(raw), Body)


def context_of(symbol: str, client_id: str, now_ms: int, body: Body) -> Context:
    return Context(symbol, client_id, now_ms, body.e["m"])


def fills_of(body: Body, context: Context) -> tuple[Fill, ...]:
    return tuple(_to_fill(raw, context) for raw in body.f)


def _to_fill(raw: Mapping[str, Any], context: Context) -> Fill:
    values = {_NAME_OF_FILL.get(code, code): value for code, value in raw.items()}
    if values["client_id"] == THIS:
        values["client_id"] = context.client_id
    return msgspec.convert(values, Fill)


def apply_body(last: Snapshot, version: int, body: Body, context: Context) -> Snapshot:
    """The snapshot this record led to: equal to the one that was committed."""
    values: dict[str, Any] = {"version": version}
    for code, raw in body.c.items():
        name = _NAME_OF_SNAPSHOT.get(code, code)
        if name in SLOTS:
            values[name] = None if raw is None else _to_order(getattr(last, name), raw, context)
        elif name == "ended":
            values[name] = _to_ended(last, raw, context)
        elif name == "trip" and raw == THIS:
            values[name] = context.client_id
        elif name == "why" and raw == SAME_REASON:
            values[name] = _reason_of(values.get("entry", last.entry))
        else:
            values[name] = msgspec.convert(raw, _SNAPSHOT_TYPES[name])
    ledger = last.ledger if body.L is None else body.L
    if body.L is None:
        for fill in fills_of(body, context):
            ledger = ledger.add(fill)
    values["ledger"] = ledger
    return replace(last, **values)


def _reason_of(entry: Order | None) -> str:
    if entry is None:
        raise ValueError("the reason of an entry that is not there")
    return entry.reason


def _to_order(old: Order | None, raw: Mapping[str, Any], context: Context) -> Order:
    values: dict[str, Any] = {}
    for code, value in raw.items():
        name = _NAME_OF_ORDER.get(code, code)
        if name in _RELATIVE:
            values[name] = 0 if value is None else value + context.mono_ms
        else:
            values[name] = msgspec.convert(value, _ORDER_TYPES[name])
    if "client_id" not in values:
        assert old is not None
        return replace(old, **values)
    if values["client_id"] == THIS:
        values["client_id"] = context.client_id
    created_ms = context.now_ms + values.pop("created_ms", 0)
    return Order(**({"symbol": context.symbol, "created_ms": created_ms} | values))


def _to_ended(last: Snapshot, raw: list[Any], context: Context) -> tuple[Order, ...]:
    count, *added = raw
    kept = last.ended[-count:] if count else ()
    return (*kept, *(_to_ended_order(last, item, context) for item in added))


def _to_ended_order(last: Snapshot, item: Any, context: Context) -> Order:
    if isinstance(item, list):
        return _to_order(getattr(last, _NAME_OF_SNAPSHOT[item[0]]), item[1], context)
    return _to_order(None, item, context)


def spelled_out(body: Body) -> dict[str, Any]:
    """The change with its full names, for people."""
    out: dict[str, Any] = {}
    for code, value in body.c.items():
        name = _NAME_OF_SNAPSHOT.get(code, code)
        if name in SLOTS and value is not None:
            value = {_NAME_OF_ORDER.get(key, key): item for key, item in value.items()}
        out[name] = value
    return out


# -- state hash --------------------------------------------------------------------------------------------------------------


def state_hash(snapshots: Mapping[str, Snapshot]) -> str:
    """Equal exactly when the snapshots are equal, whatever order or number format they came in."""
    plain = msgspec.to_builtins(dict(snapshots), builtin_types=(Decimal,), order="deterministic")
    return blake2b(json.dumps(_plain(plain), sort_keys=True).encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if value == 0 else text
    return value.value if isinstance(value, Enum) else value


_SNAPSHOT_FIELDS = tuple(name for name in Snapshot.__struct_fields__ if name not in _DERIVED)
_SNAPSHOT_TYPES = get_type_hints(Snapshot)
_ORDER_FIELDS = Order.__struct_fields__
_ORDER_TYPES = get_type_hints(Order)
_ORDER_DEFAULTS = {field.name: field.default for field in fields(Order) if not field.required}
_NAME_OF_ORDER = {code: name for name, code in ORDER_CODES.items()}
_NAME_OF_SNAPSHOT = {code: name for name, code in SNAPSHOT_CODES.items()}
_NAME_OF_FILL = {code: name for name, code in FILL_CODES.items()}
