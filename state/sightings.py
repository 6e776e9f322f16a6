"""Facts of the third kind: what the venue shows of orders, executions and positions, in whatever order and however often.

Evidence of executions goes to the ledger, which decides whether it is new. The venue's row is believed over our own memory, but
not before every execution it implies is known, and never when it was asked for before the last thing we know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from state.answers import came_after_all, fail
from state.commands import Cancel
from state.draft import Draft
from state.events import (
    Event,
    FillSeen,
    ForeignSeen,
    OrderMissing,
    OrderSeen,
    OrphanSeen,
    PositionSeen,
)
from state.ledger import Fill
from state.orders import Order, OrderType, Purpose, Status
from state.reconcile import Finding, Verdict, compare
from state.reports import OrderRow, Reported
from state.rules import READ_AGAIN_MS
from state.snapshot import Snapshot

_PROTECTIVE = (OrderType.STOP, OrderType.STOP_LIMIT, None)  # None: the venue's row does not say
KEPT_FOREIGN = 64
KEPT_TRADES = 1_000
DISAGREEMENTS_BELIEVED = 2  # position reports in a row


def _fill(draft: Draft, event: FillSeen) -> None:
    before = draft.s.ledger
    _take(draft, event.fill)
    slot = draft.s.slot_of(event.fill.client_id)
    if slot is not None and draft.s.ledger is not before and not draft.s.remaining(getattr(draft.s, slot)):
        draft.query(slot)  # filled in full: the venue's last word on it is due


def _take(draft: Draft, fill: Fill) -> None:
    """Evidence of executions: the ledger decides whether it is new; the trip follows the ledger."""
    before, held = draft.s.ledger, draft.s.position
    ledger = before.add(fill)
    if ledger is before:
        return
    draft.book(ledger)
    if ledger.position == before.position:
        return  # the row of an execution that a report had told of
    draft.set(fill_ms=draft.mono_ms, disagreements=0)
    if ledger.filled(fill.client_id) == before.filled(fill.client_id):
        return  # and of the fee that was taken out of it
    if fill.purpose is not Purpose.ENTRY:
        draft.set(reduced=True)
    elif draft.s.trip != fill.client_id and not held:
        draft.set(trip=fill.client_id, side=fill.side, stop_price=None, closing=None, reduced=False)
    _speak_of_surprises(draft, fill)


def _speak_of_surprises(draft: Draft, fill: Fill) -> None:
    order = _known(draft.s, fill.client_id)
    if order is not None and draft.s.ledger.filled(fill.client_id) > order.qty:
        draft.alarm(f"overfill of {fill.client_id}: position {draft.s.position}")
    elif draft.s.slot_of(fill.client_id) is None:
        draft.alarm(f"late fill {fill.side.value} {fill.qty} @ {fill.price} of {fill.client_id}: position {draft.s.position}")


def _order_seen(draft: Draft, event: OrderSeen) -> None:
    fill = _reported(draft.s, event)
    if fill is not None and fill.qty > draft.s.ledger.filled(event.client_id):
        _take(draft, fill)
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        if event.row.state is not Reported.REJECTED:
            came_after_all(draft, event.client_id, f"venue order {event.row.venue_id} is {event.client_id}", event.row.venue_id)
        return
    order = getattr(draft.s, slot)
    if order.venue_id is None:  # kept even when the row ends it: or its late fills are nobody's, and a look-alike takes its row
        order = draft.change(slot, venue_id=event.row.venue_id, changed_ms=order.changed_ms)
    if event.row.state.closed:
        _closed(draft, slot, order, event)
    elif event.asked_ms >= order.changed_ms and event.row.state is Reported.WORKING:
        _working(draft, slot, order, event)


def _known(snapshot: Snapshot, client_id: str) -> Order | None:
    orders = (*snapshot.live_orders(), *snapshot.ended)
    return next((order for order in orders if order.client_id == client_id), None)


def evidence(snapshot: Snapshot, event: Event) -> tuple[Fill, ...]:
    """The executions this event tells of, in the ledger's terms. The journal keeps these."""
    if isinstance(event, FillSeen):
        return (event.fill,)
    if isinstance(event, OrderSeen):
        fill = _reported(snapshot, event)
        return () if fill is None else (fill,)
    if isinstance(event, PositionSeen):
        finding = _believed(snapshot, event)
        return () if finding is None else finding.ours
    return ()


def _reported(snapshot: Snapshot, event: OrderSeen) -> Fill | None:
    """A cumulative report; without a price the trade rows must tell."""
    order, row = _known(snapshot, event.client_id), event.row
    if order is None or not row.filled or not row.average:
        return None
    return Fill(
        trade_id=f"{order.client_id}/{row.filled}",
        client_id=order.client_id,
        purpose=order.purpose,
        side=order.side,
        qty=row.filled,
        price=row.average,
        at_ms=event.now_ms,
        source=event.source,
        cumulative=True,
    )


def _closed(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    """The venue's last word, believed once every execution it implies is known; a vanished stop is looked at twice."""
    row, filled = event.row, draft.s.ledger.filled(order.client_id)
    expected = (row.filled or row.qty) if row.state is Reported.FILLED else row.filled  # "complete" with 0 filled: all of it
    if expected is None or filled < expected:
        _ask_again(draft, slot, event)
    elif _surprising(order, row) and (order.strikes == 0 or event.asked_ms < order.changed_ms or event.source == "stream"):
        if order.strikes == 0:
            draft.change(slot, status=Status.UNKNOWN, strikes=1, venue_id=order.venue_id or row.venue_id)
        draft.query(slot)
    else:
        _end(draft, slot, order, row)


def _ask_again(draft: Draft, slot: str, event: OrderSeen) -> None:
    order = getattr(draft.s, slot)
    if order.status is not Status.UNKNOWN:
        draft.change(slot, status=Status.UNKNOWN, venue_id=order.venue_id or event.row.venue_id)


def _surprising(order: Order, row: OrderRow) -> bool:
    return order.purpose is Purpose.STOP and row.state is Reported.CANCELLED and not order.cancel_asked


def _end(draft: Draft, slot: str, order: Order, row: OrderRow) -> None:
    word = row.state.value.lower() + (f": {row.reason}" if row.reason else "")
    filled = draft.s.ledger.filled(order.client_id)
    wanted = order.cancel_asked
    if row.state is Reported.FILLED or wanted or filled:
        draft.empty(slot)
        if slot == "entry" and not filled:
            draft.set(spent=True, why=f"entry {word} ({order.reason})")
        elif row.state is not Reported.FILLED and not wanted and slot != "entry":
            draft.place_later(slot)
    else:
        fail(draft, slot, word)


def _working(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    order = _landed_or_never(draft, slot, order, event)
    if order.status is Status.CANCELLING:
        if event.asked_ms - order.changed_ms >= READ_AGAIN_MS:
            draft.try_later(slot)
            draft.change(slot, status=Status.WORKING)  # the cancel did not take
    elif order.status is Status.REPLACING:
        _replaced(draft, slot, order, event)
    elif order.status is not Status.QUARANTINED:
        _adopt(draft, slot, order, event)


def _landed_or_never(draft: Draft, slot: str, order: Order, event: OrderSeen) -> Order:
    """An amend without an answer: this row proves that it was done, or was asked for when it could not be done any more.

    Where it repeats one that was acknowledged and not done, either may be what this row shows: only time ends that.
    """
    if not order.late_ms:
        return order
    over = event.asked_ms >= order.late_ms
    if order.status is Status.REPLACING:  # the desk has not heard yet
        return draft.change(slot, late_ms=0, changed_ms=order.changed_ms) if over else order
    if over or (_as_asked(order, event.row) and not order.repeats):
        return draft.change(slot, late_ms=0, asked_qty=None, asked_trigger=None, changed_ms=order.changed_ms)
    return order


def _as_asked(order: Order, row: OrderRow) -> bool:
    return row.trigger_price == order.asked_trigger and row.qty == order.asked_qty


def _replaced(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    """An acknowledged change is a request accepted; the venue's row is the fact. One more look, then it counts as not moved."""
    row = event.row
    if _as_asked(order, row):
        done = {"qty": row.qty, "trigger_price": row.trigger_price, "attempts": 0, "retry_ms": 0}
        draft.change(slot, status=Status.WORKING, asked_qty=None, asked_trigger=None, strikes=0, verified=True, **done)
    elif order.late_ms and not order.repeats:
        return  # not answered yet: the old values prove nothing
    elif order.strikes == 0:
        draft.change(slot, strikes=1)
        draft.query(slot)
    else:
        draft.try_later(slot)
        draft.change(slot, status=Status.WORKING, asked_qty=None, asked_trigger=None, strikes=0)
        draft.alarm(f"{slot} was not moved: the venue still shows {row.qty} @ {row.trigger_price}")


def _adopt(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    """It works. Is it what we asked for? A stop that is not must go; one that a person tightened is theirs to tighten."""
    row = event.row
    was = {"status": Status.WORKING, "venue_id": order.venue_id or row.venue_id, "strikes": 0}
    if slot == "entry":
        if order.status is not Status.WORKING:
            draft.change(slot, **was)
        return
    if row.side is not order.side or (slot == "stop" and row.type not in _PROTECTIVE):
        draft.change(slot, **was, verified=False)
        if slot == "stop":
            draft.place_later(slot)  # one more try that failed: after a few the position is closed instead
        draft.alarm(f"{slot} rests as {row.side.value} {row.type and row.type.value}, not as asked: removing it")
        draft.cancel(slot, "not what was asked")
        return
    changed: dict[str, Any] = {"qty": row.qty, "trigger_price": row.trigger_price or order.trigger_price, "verified": True}
    if any(getattr(order, name) != value for name, value in (was | changed).items()):
        draft.change(slot, **was, **changed)
    if slot == "stop":
        if event.asked_ms - order.changed_ms >= READ_AGAIN_MS:
            draft.set(stop_failures=0)  # it has lasted: some venues show an order at work before they reject it
        _follow_a_tightened_stop(draft, row)


def _follow_a_tightened_stop(draft: Draft, row: OrderRow) -> None:
    s = draft.s
    if s.side is None or s.stop_price is None or row.trigger_price is None:
        return
    if (row.trigger_price - s.stop_price) * s.side.sign > 0:
        draft.set(stop_price=row.trigger_price, why=f"stop was tightened to {row.trigger_price} elsewhere")


def _position_seen(draft: Draft, event: PositionSeen) -> None:
    """Our fills say what is ours. A venue that says otherwise twice, with nothing of ours in question, is believed or told."""
    s = draft.s
    if _too_early(s, event):
        return
    if s.foreign_qty is None:
        _meet_the_foreign(draft, event)
        return
    finding = compare(s.ledger.position, s.foreign_qty, event.qty, _news(s, event), event.own)
    if finding.verdict is Verdict.MATCH:
        if s.disagreements or _news(s, event):
            draft.set(disagreements=0, foreign_trades=_counted(s, event.strangers))
    elif s.disagreements == 0:
        draft.set(disagreements=1, disagreed_ms=event.asked_ms)
    elif _believed(s, event) is None:
        return
    elif finding.verdict is Verdict.DIVERGED:
        draft.set(disagreements=DISAGREEMENTS_BELIEVED)
        draft.halt(f"{finding.verdict.value}: {finding.text}")
    else:
        draft.set(disagreements=0, foreign_trades=_counted(s, event.strangers), foreign_qty=finding.foreign_qty)
        _believe(draft, finding)


def _too_early(s: Snapshot, event: PositionSeen) -> bool:
    """Asked before the last thing that we know happened, or while something of ours is still to be told."""
    changed_ms = max((order.changed_ms for order in s.live_orders()), default=0)
    return event.asked_ms < max(s.fill_ms, changed_ms) or s.untold


def _news(s: Snapshot, event: PositionSeen) -> tuple[Fill, ...]:
    return tuple(fill for fill in event.strangers if fill.trade_id not in s.foreign_trades)


def _believed(s: Snapshot, event: PositionSeen) -> Finding | None:
    """What a second disagreement in a row comes to; None for a first one, a stale one, or none at all."""
    if _too_early(s, event) or s.foreign_qty is None:
        return None
    if s.disagreements == 0:
        return None
    finding = compare(s.ledger.position, s.foreign_qty, event.qty, _news(s, event), event.own)
    explained = finding.verdict in (Verdict.MISSING, Verdict.FOREIGN)  # by trade rows, which no lagging answer makes up
    return finding if explained or event.asked_ms - s.disagreed_ms >= READ_AGAIN_MS else None


def _meet_the_foreign(draft: Draft, event: PositionSeen) -> None:
    """The first look of a session: whatever is there beside ours belongs to somebody else."""
    s = draft.s
    theirs = event.qty - s.ledger.position
    draft.set(foreign_qty=theirs, foreign_trades=_counted(s, event.strangers))
    if theirs:
        draft.alarm(f"FOREIGN: the venue holds {theirs} of it that is not ours: left alone")


def _counted(s: Snapshot, fills: tuple[Fill, ...]) -> tuple[str, ...]:
    new = (fill.trade_id for fill in fills if fill.trade_id not in s.foreign_trades)
    return (*s.foreign_trades, *new)[-KEPT_TRADES:]


def _believe(draft: Draft, finding: Finding) -> None:
    """Others traded: what closed ours is booked like any fill, and protection follows the position."""
    for fill in finding.ours:
        draft.book(draft.s.ledger.add(fill))
        draft.set(fill_ms=draft.mono_ms, reduced=True)
    s = draft.s
    if finding.ours:
        draft.alarm(f"{finding.verdict.value}: {finding.text}")
    if finding.turned and s.side is not None and s.position * s.side.sign < 0:
        side = s.side.opposite
        draft.set(side=side, trip=finding.ours[-1].client_id, stop_price=None, closing=None, reduced=False, by_hand=True)
        draft.halt(f"position was turned round elsewhere: now {s.position}")
    if finding.verdict is Verdict.FOREIGN:
        draft.halt(f"{finding.verdict.value}: {finding.text}")


def _missing(draft: Draft, event: OrderMissing) -> None:
    """Not in the venue's books at all. Told so twice, some time apart, it has ended."""
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    order = getattr(draft.s, slot)
    if order.venue_id is None or event.asked_ms < order.changed_ms:
        return
    if order.strikes == 0:
        draft.change(slot, status=Status.UNKNOWN, strikes=1)
    elif event.asked_ms - order.changed_ms >= READ_AGAIN_MS:
        draft.alarm(f"{slot} order {order.venue_id} is gone from the venue's books")
        fail(draft, slot, "gone from the venue's books")


def _orphan(draft: Draft, event: OrphanSeen) -> None:
    if draft.s.ledger.filled(event.order.client_id) >= event.order.qty:
        return  # it has filled in full: the book that shows it at work is an old one
    if draft.s.slot_of(event.order.client_id) is None:
        ended = next((order for order in draft.s.ended if order.client_id == event.order.client_id), None)
        if ended is None or event.asked_ms > ended.changed_ms:
            draft.alarm(f"ORPHAN: {event.order.describe()} works at the venue and nothing here wants it: cancelling")
            draft.commands.append(Cancel(event.order, orphan=True))


def _foreign_seen(draft: Draft, event: ForeignSeen) -> None:
    new = tuple(venue_id for venue_id in event.venue_ids if venue_id not in draft.s.foreign)
    draft.set(foreign=(*draft.s.foreign, *new)[-KEPT_FOREIGN:])


RECORDERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    OrderSeen: _order_seen,
    FillSeen: _fill,
    ForeignSeen: _foreign_seen,
    OrderMissing: _missing,
    OrphanSeen: _orphan,
    PositionSeen: _position_seen,
}
