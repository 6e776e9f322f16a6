"""What every decision must keep, checked on its way out of `SymbolState` in production too (DESIGN, section 8).

Pure and cheap: only decisions with commands, or that are worth recording, come here. A broken one costs entries, never
protection: `contained` takes back an entry and a loosened stop, lets everything else through as it was decided, and halts.
Must never be needed: a decision that comes back from here changed is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from state.commands import Alarm, Cancel, Command, Query, Replace, Submit
from state.ledger import Ledger
from state.orders import ZERO, Order, Purpose, Status
from state.rules import Rules
from state.snapshot import SLOT_OF, SLOTS, Snapshot

Decision = tuple[Snapshot, Sequence[Command]]


class InvariantBroken(Exception):
    """A decision of ours broke an invariant. The text names it."""


def checked(before: Snapshot, after: Snapshot, commands: Sequence[Command], rules: Rules) -> tuple[Decision, str | None]:
    """The decision as it may be carried out, and what was wrong with it."""
    try:
        wrong = broken(before, after, commands, rules)
        return ((after, commands) if wrong is None else contained(before, after, commands, wrong)), wrong
    except Exception as error:  # whatever it is, a check must not stand between a position and its protection
        wrong = f"check: {type(error).__name__}: {error}"
        return (replace(after, halted=after.halted or f"invariant {wrong}"), commands), wrong


def broken(before: Snapshot, after: Snapshot, commands: Sequence[Command], rules: Rules) -> str | None:
    """The first invariant that this decision breaks, in words; None when it keeps them all."""
    return (
        _entries_wrong(before, after, commands, rules)
        or _slots_wrong(before, after, commands)
        or _exits_wrong(after, commands, rules)
        or _level_wrong(before, after)
        or _position_wrong(before, after, rules)
    )


# -- I1, I3: one order a slot, each sent once ----------------------------------------------------------------------------------


def _slots_wrong(before: Snapshot, after: Snapshot, commands: Sequence[Command]) -> str | None:
    if after.sequence < before.sequence:
        return f"I3: order numbers went back from {before.sequence} to {after.sequence}"
    new: dict[str, Order] = {}
    for slot in SLOTS:
        was, order = getattr(before, slot), getattr(after, slot)
        if order is was:
            continue
        if was is not None and (order is None or order.client_id != was.client_id) and not _ended(after, was):
            return f"I3: {was.client_id} left its slot without a trace"
        if order is None:
            continue
        if SLOT_OF[order.purpose] != slot or order.symbol != after.symbol:
            return f"I3: {order.client_id} is not an order for the {slot} slot of {after.symbol}"
        if was is None or order.client_id != was.client_id:
            if not before.sequence <= _number(order) < after.sequence:
                return f"I3: {order.client_id} is not a new number ({before.sequence} to {after.sequence - 1} are)"
            new[order.client_id] = order
        elif order.side is not was.side:
            return f"I3: {order.client_id} turned round"
    return _commands_wrong(before, after, commands, new)


def _commands_wrong(before: Snapshot, after: Snapshot, commands: Sequence[Command], new: dict[str, Order]) -> str | None:
    """Each command is about the order in its slot; what is new there is sent, once, and nothing else is."""
    for command in commands:
        if isinstance(command, Alarm | Query) or (isinstance(command, Cancel) and command.orphan):
            continue
        order = command.order
        slot = SLOT_OF[order.purpose]
        held: Order | None = getattr(after, slot)
        if held is None or held.client_id != order.client_id:
            return f"I3: {type(command).__name__.lower()} of {order.client_id}, which is not in its slot"
        if isinstance(command, Submit) and new.pop(order.client_id, None) is None and not _waited(before, order):
            return f"I3: {order.client_id} is sent a second time"
    return f"I3: {next(iter(new))} is in its slot and was not sent" if new else None


def _ended(s: Snapshot, order: Order) -> bool:
    return any(ended.client_id == order.client_id for ended in s.ended)


def _number(order: Order) -> int:
    """Of an id of ours; -1 when it is none for this purpose."""
    letter, digits = order.client_id.rpartition("-")[2][:1], order.client_id.rpartition("-")[2][1:]
    return int(digits) if letter == order.purpose.value and digits.isdigit() else -1


def _waited(before: Snapshot, order: Order) -> bool:
    """It was provably not sent, and waited in its slot for another try."""
    was: Order | None = getattr(before, SLOT_OF[order.purpose])
    return was is not None and was.client_id == order.client_id and was.status is Status.INTENT and was.retry_ms > 0


# -- I1, I7, I8: entries -------------------------------------------------------------------------------------------------------


def _entries_wrong(before: Snapshot, after: Snapshot, commands: Sequence[Command], rules: Rules) -> str | None:
    counted = after.entries_used - before.entries_used
    sent = [command.order for command in commands if isinstance(command, Submit) and command.order.purpose is Purpose.ENTRY]
    if not sent:
        return None if counted == 0 else f"I7: entries used went from {before.entries_used} to {after.entries_used} without one"
    order = sent[0]
    if len(sent) > 1:
        return f"I1: {len(sent)} entry orders in one decision"
    if after.halted is not None or after.over:
        return f"I8: entry {order.client_id} {'after the cutoff' if after.over else 'while halted'}"
    if _off_grid(order, rules):
        return f"I6: entry {order.describe()} is off the tick grid"
    if before.entry is not None and before.entry.client_id == order.client_id:
        return None if counted == 0 else f"I7: a retry of {order.client_id} counts as another entry"
    if before.live_orders() or before.position or after.position:
        return f"I1: entry {order.client_id} beside {_beside(before, after)}"
    if counted != 1 or after.entries_used > rules.max_entries:
        return f"I7: entry {order.client_id} makes {after.entries_used} of {rules.max_entries}, from {before.entries_used}"
    return None


def _beside(before: Snapshot, after: Snapshot) -> str:
    live = [order.client_id for order in before.live_orders()]
    return ", ".join(live) or f"a position of {after.position or before.position}"


# -- I5, I6: what reduces ------------------------------------------------------------------------------------------------------


def _exits_wrong(after: Snapshot, commands: Sequence[Command], rules: Rules) -> str | None:
    for command in commands:
        if not isinstance(command, Submit | Replace):
            continue
        order = command.order
        if order.purpose is Purpose.ENTRY:
            if isinstance(command, Replace):
                return f"I1: {order.client_id} is amended; no entry ever is"
            continue
        wrong = _exit_wrong(after, command, order, rules)
        if wrong is not None:
            return wrong
    return None


def _exit_wrong(after: Snapshot, command: Submit | Replace, order: Order, rules: Rules) -> str | None:
    position, what = after.position, f"{order.purpose.name.lower()} {order.client_id}"
    if position * order.side.sign >= 0:
        return f"I5: {what} is a {order.side.value} while holding {position}"
    amended = isinstance(command, Replace)
    qty = command.qty - after.ledger.filled(order.client_id) if isinstance(command, Replace) else order.qty
    if not ZERO < qty <= abs(position):
        return f"I5: {what} is for {qty} while holding {position}"
    if order.purpose is Purpose.EXIT and (after.stop is not None or after.target is not None):
        return f"I5: {what} on top of {' and '.join(held.client_id for held in (after.stop, after.target) if held is not None)}"
    if order.purpose is not Purpose.STOP:
        return f"I6: {what} is off the tick grid" if not amended and _off_grid(order, rules) else None
    level = command.trigger_price if isinstance(command, Replace) else order.trigger_price
    if level is None or level <= 0 or level != after.stop_price:
        return f"I6: {what} is sent to {level}, the level is {after.stop_price}"
    return f"I6: {what} at {level} is off the tick grid" if not amended and _off_grid(order, rules) else None


def _off_grid(order: Order, rules: Rules) -> bool:
    prices = (order.limit_price, order.trigger_price)
    return any(price is not None and not rules.instrument.on_grid(price) for price in prices)


def _level_wrong(before: Snapshot, after: Snapshot) -> str | None:
    """I6: within a trip the level is never lost and only moves our way; it begins on the losing side."""
    was, level, side = before.stop_price, after.stop_price, after.side
    if level == was or side is None:
        return None
    if was is not None and after.trip == before.trip:
        if level is None:
            return f"I6: the stop level {was} was forgotten"
        return f"I6: the stop was loosened from {was} to {level}" if (level - was) * side.sign < 0 else None
    average = after.average
    if level is not None and (average is None or (average - level) * side.sign <= 0):
        return f"I6: stop {level} is not on the losing side of {average}"
    return None


# -- I2: position --------------------------------------------------------------------------------------------------------------


def _position_wrong(before: Snapshot, after: Snapshot, rules: Rules) -> str | None:
    """Only executions move a position, and none is ever taken back."""
    if after.ledger is before.ledger:
        return None if after.dust == before.dust else f"I2: dust went from {before.dust} to {after.dust} without a fill"
    moved, change = ZERO, after.ledger.position - before.ledger.position
    for account in after.ledger.accounts:
        was = before.ledger.account(account.client_id)
        grown = account.filled - was.filled if was is not None else account.filled
        if grown < 0:
            return f"I2: {account.client_id} has filled less than before"
        moved += grown * account.side.sign
    if change == moved or (rules.instrument.base and len(after.ledger.trade_ids) > len(before.ledger.trade_ids)):
        return None  # a fee taken in the traded thing itself has moved it as well
    return f"I2: the position moved by {change}, its fills by {moved}"


# -- when one is broken --------------------------------------------------------------------------------------------------------


def contained(before: Snapshot, after: Snapshot, commands: Sequence[Command], wrong: str) -> Decision:
    """The decision without what adds risk, and halted. What it learnt stays learnt; what protects goes out as decided (the desk
    asks once more what still stands); what is not sent leaves its order as it was before."""
    reason = f"invariant {wrong}"
    changes: dict[str, Any] = {
        "halted": after.halted or reason,
        "armed": False,
        "entries_used": max(before.entries_used, after.entries_used),
        "sequence": max(before.sequence, after.sequence),
    }
    changes |= _without_the_entry(before, after, commands) | _never_looser(before, after, commands) | _as_filled(before, after)
    for slot in ("stop", "target", "exit"):
        was = getattr(before, slot)
        if was is not None and getattr(after, slot) is None and not _ended(after, was):
            changes[slot] = was  # only the venue ends an order
    kept = [command for command in commands if not _adds_risk(command)]
    return replace(after, **changes), (*kept, *([] if after.halted else [Alarm(f"HALTED: {reason}")]))


def _adds_risk(command: Command) -> bool:
    if not isinstance(command, Submit | Replace):
        return False
    return command.order.purpose is Purpose.ENTRY or (isinstance(command, Replace) and _loosens(command))


def _loosens(command: Replace) -> bool:
    order, level = command.order, command.trigger_price
    if order.purpose is not Purpose.STOP or order.trigger_price is None:
        return False
    return level is None or (level - order.trigger_price) * order.side.sign > 0


def _without_the_entry(before: Snapshot, after: Snapshot, commands: Sequence[Command]) -> dict[str, Any]:
    """Nothing of it was sent: the slot is as it was, and so is the trip that it would have begun."""
    asked = any(isinstance(command, Submit | Replace) and command.order.purpose is Purpose.ENTRY for command in commands)
    entry, was = after.entry, before.entry
    new = entry is not None and (was is None or entry.client_id != was.client_id)
    lost = entry is None and was is not None and not _ended(after, was)
    if not (asked or new or lost):
        return {}
    mine = entry is not None and after.trip == entry.client_id and new
    return {"entry": was} | ({"trip": before.trip, "side": before.side} if mine else {})


def _never_looser(before: Snapshot, after: Snapshot, commands: Sequence[Command]) -> dict[str, Any]:
    """The level stays where it was, and a stop that would have been moved away rests as it did."""
    changes: dict[str, Any] = {}
    was, level, side = before.stop_price, after.stop_price, after.side
    same_trip = was is not None and side is not None and after.trip == before.trip
    if was is not None and side is not None and same_trip and (level is None or (level - was) * side.sign < 0):
        changes["stop_price"] = was
    if after.stop is not None and any(isinstance(command, Replace) and _loosens(command) for command in commands):
        changes["stop"] = replace(after.stop, status=Status.WORKING, asked_qty=None, asked_trigger=None, late_ms=0)
    return changes


def _as_filled(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """A position that moved without any news of a fill has not moved."""
    return {} if _news(before.ledger, after.ledger) else {"ledger": before.ledger, "dust": before.dust}


def _news(before: Ledger, after: Ledger) -> bool:
    return after.accounts != before.accounts or after.trade_ids != before.trade_ids
