"""The transition table of an order, made by asking the real machine; ARCHITECTURE.md holds a copy that a test keeps fresh.

`python -m simulation.transitions` prints it. Each cell: the status after the event, "gone" when the slot is empty, and what is
asked of the venue because of it.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from state.commands import Alarm, Command
from state.events import (
    Accepted,
    Acknowledged,
    Act,
    Event,
    NotSent,
    OrderSeen,
    ProvedAbsent,
    Restarted,
    WasQuarantined,
    WasRefused,
    WentUnanswered,
)
from state.instrument import Instrument
from state.ledger import Fill, Ledger
from state.machine import decide
from state.orders import Order, OrderType, Purpose, Side, Status
from state.reports import OrderRow, Reported
from state.rules import Rules
from state.sizing import fixed
from state.snapshot import Snapshot
from state.strategy import Strategy, View

NOW: dict[str, Any] = {"now_ms": 10_000, "mono_ms": 10_000}
LEVEL = Decimal(98)


class Holder(Strategy):
    """Wants nothing but its stop."""

    name = "holder"

    def stop_price(self, view: View) -> Decimal:
        return LEVEL


def _rules() -> Rules:
    instrument = Instrument("SYM", "NSE", Decimal("0.05"))
    strategy = Holder(Holder.Params(), Holder.Setup("SYM"), instrument, None)  # type: ignore[arg-type]
    return Rules(instrument, strategy, fixed(Decimal(5)), "20261120", entry_from_ms=0, cutoff_ms=10**9, max_entries=3)


def _order(purpose: Purpose, status: Status) -> Order:
    entry = purpose is Purpose.ENTRY
    asked: dict[str, Any] = {"asked_qty": Decimal(5), "asked_trigger": Decimal(99)} if status is Status.REPLACING else {}
    return Order(
        client_id=f"SYM-20261120-{purpose.value}0",
        symbol="SYM",
        purpose=purpose,
        side=Side.BUY if entry else Side.SELL,
        type=OrderType.STOP_LIMIT if entry else OrderType.STOP,
        qty=Decimal(5),
        limit_price=Decimal(100) if entry else None,
        trigger_price=Decimal(100) if entry else LEVEL,
        status=status,
        venue_id=None if status is Status.INTENT else "V1",
        verified=status is not Status.INTENT,
        cancel_asked=status is Status.CANCELLING,
        created_ms=9_000,
        changed_ms=7_000,
        **asked,
    )


def _snapshot(purpose: Purpose, status: Status) -> Snapshot:
    order = _order(purpose, status)
    if purpose is Purpose.ENTRY:
        return Snapshot("SYM", entry=order, side=Side.BUY, trip=order.client_id, entries_used=1, sequence=1)
    bought = Fill("T0", "SYM-20261120-E0", Purpose.ENTRY, Side.BUY, Decimal(5), Decimal(100), 8_000)
    level = Decimal(99) if status is Status.REPLACING else LEVEL
    held = {"ledger": Ledger().add(bought), "side": Side.BUY, "trip": bought.client_id, "stop_price": level, "sequence": 2}
    closing = "leave" if status is Status.CANCELLING else None
    return Snapshot("SYM", stop=order, entries_used=1, closing=closing, **held)  # type: ignore[arg-type]


def _row(order: Order, state: Reported, asked: bool = False) -> OrderRow:
    trigger = order.asked_trigger if asked and order.asked_trigger else order.trigger_price
    filled = order.qty if state is Reported.FILLED else Decimal(0)
    average = order.trigger_price if state is Reported.FILLED else None
    return OrderRow("V1", "SYM", order.side, state, order.qty, order.type, order.limit_price, trigger, filled, average)


def _seen(state: Reported, asked: bool = False) -> Callable[[Order], Event]:
    return lambda order: OrderSeen(client_id=order.client_id, row=_row(order, state, asked), asked_ms=10_000, **NOW)


def _act(order: Order) -> Act:
    return {Status.REPLACING: Act.REPLACE, Status.CANCELLING: Act.CANCEL}.get(order.status, Act.SUBMIT)


EVENTS: dict[str, Callable[[Order], Event]] = {
    "accepted": lambda order: Accepted(client_id=order.client_id, venue_id="V1", **NOW),
    "acknowledged": lambda order: Acknowledged(client_id=order.client_id, act=_act(order), **NOW),
    "refused": lambda order: WasRefused(client_id=order.client_id, act=_act(order), reason="no", **NOW),
    "nothing was sent": lambda order: NotSent(client_id=order.client_id, act=_act(order), reason="down", **NOW),
    "no answer": lambda order: WentUnanswered(client_id=order.client_id, act=_act(order), reason="time-out", **NOW),
    "seen working, as before": _seen(Reported.WORKING),
    "seen working, as asked": _seen(Reported.WORKING, asked=True),
    "seen filled": _seen(Reported.FILLED),
    "seen cancelled": _seen(Reported.CANCELLED),
    "seen rejected": _seen(Reported.REJECTED),
    "seen, word unclear": _seen(Reported.UNCLEAR),
    "settle window over, nothing there": lambda order: ProvedAbsent(client_id=order.client_id, **NOW),
    "several look like it": lambda order: WasQuarantined(client_id=order.client_id, reason="two", **NOW),
    "process restarted": lambda order: Restarted(**NOW),
}
STATUSES = (Status.INTENT, Status.WORKING, Status.REPLACING, Status.CANCELLING, Status.UNKNOWN)


def _cell(purpose: Purpose, status: Status, event: Callable[[Order], Event]) -> str:
    before = _snapshot(purpose, status)
    slot = "entry" if purpose is Purpose.ENTRY else "stop"
    order = getattr(before, slot)
    after, commands = decide(before, event(order), _rules())
    now = getattr(after, slot)
    if now is None:
        word = "gone"
    elif now.client_id != order.client_id:
        word = "gone, new one"
    else:
        word = "." if now == order else now.status.value
    return word + "".join(f", {_told(command)}" for command in commands)


def _told(command: Command) -> str:
    if isinstance(command, Alarm):
        return "alarm"
    if type(command).__name__ == "Query":
        return "ask"
    purpose = command.order.purpose.name.lower()
    return f"{type(command).__name__.lower()} {purpose}"


def table(purpose: Purpose) -> str:
    """One Markdown table: an event per row, a status per column."""
    heads = [status.value for status in STATUSES]
    lines = ["| event | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name, event in EVENTS.items():
        cells = [_cell(purpose, status, event) for status in STATUSES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables() -> str:
    """What ARCHITECTURE.md holds between its two marks."""
    return f"**Protective stop, position held**\n\n{table(Purpose.STOP)}\n\n**Entry, nothing filled**\n\n{table(Purpose.ENTRY)}\n"


if __name__ == "__main__":
    print(tables())
