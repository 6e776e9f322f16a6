"""First half of a decision: write down the fact an event carries. Consequences are none of its business (`machine.settle`).

Here and only here an entry is granted (`_enter`): one door, and the slot is taken before anybody is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from state.commands import Cancel
from state.draft import Draft, StrategyFailed
from state.events import (
    Accepted,
    Acknowledged,
    Act,
    BarClosed,
    EntriesOff,
    EntriesOn,
    Event,
    FillSeen,
    FlattenAsked,
    ForeignSeen,
    HaltAsked,
    Heartbeat,
    NotSent,
    OrderMissing,
    OrderSeen,
    OrphanSeen,
    PositionSeen,
    ProvedAbsent,
    Restarted,
    ResumeAsked,
    Tick,
    WasQuarantined,
    WasRefused,
    WentUnanswered,
)
from state.ledger import Fill
from state.orders import Order, OrderType, Purpose, Side, Status
from state.reconcile import Finding, Verdict, compare
from state.reports import OrderRow, Reported
from state.rules import READ_AGAIN_MS
from state.snapshot import SLOTS, Snapshot
from state.strategy import Enter, Leave, MoveStop, Pass, Wish

_PROTECTIVE = (OrderType.STOP, OrderType.STOP_LIMIT, None)  # None: the venue's row does not say
KEPT_FOREIGN = 64
KEPT_TRADES = 1_000
DISAGREEMENTS_BELIEVED = 2  # position reports in a row


def record(draft: Draft, event: Event) -> None:
    _RECORDERS[type(event)](draft, event)


# -- prices and time -----------------------------------------------------------------------------------------------------


def _tick(draft: Draft, event: Tick) -> None:
    _watch_the_stop(draft, event.price)
    wish = _consult(draft, event.price, lambda strategy, view: strategy.on_tick(view, event.price))
    if draft.s.halted:
        return  # nobody was asked: whether the trigger still holds is not known
    if not isinstance(wish, Enter) and (draft.s.spent or draft.s.armed) and not draft.s.live_orders():
        draft.set(spent=False, armed=False)  # the trigger has lapsed


def _bar(draft: Draft, event: BarClosed) -> None:
    _consult(draft, event.bar.close, lambda strategy, view: strategy.on_bar(view, event.bar))


def _heartbeat(draft: Draft, event: Heartbeat) -> None:
    since = draft.s.crossed_ms
    if since is not None and draft.mono_ms - since >= draft.rules.unprotected_limit_ms:
        draft.close(f"stop {draft.s.stop_price} passed {draft.mono_ms - since} ms ago and not filled")


def _watch_the_stop(draft: Draft, price: Decimal) -> None:
    """Is price beyond our stop? With nothing resting there we close at once; else the venue gets a moment to do it."""
    s = draft.s
    if not s.position or s.side is None:
        return
    if s.peak is None or (price - s.peak) * s.side.sign > 0:
        draft.set(peak=price)
    if s.stop_price is None or s.closing:
        return
    if (s.stop_price - price) * s.side.sign < 0:
        if s.crossed_ms is not None:
            draft.set(crossed_ms=None)
    elif s.stop is None:
        draft.close(f"price {price} is beyond the stop {s.stop_price} and none rests at the venue")
    elif s.crossed_ms is None:
        draft.set(crossed_ms=draft.mono_ms)


def _consult(draft: Draft, price: Decimal, question: Callable[..., Wish]) -> Wish:
    """Ask the strategy, with `price` the latest it knows of."""
    if draft.s.halted:
        return None
    try:
        wish = draft.ask(question)
        _grant(draft, wish, price)
        return wish
    except StrategyFailed as failure:
        draft.halt(str(failure))
        return None


def _grant(draft: Draft, wish: Wish, price: Decimal) -> None:
    if wish is None:
        return
    if isinstance(wish, Enter):
        _enter(draft, wish)
    elif isinstance(wish, MoveStop):
        _trail(draft, wish, price)
    elif isinstance(wish, Leave):
        if draft.s.position:
            draft.close(wish.why)
    elif isinstance(wish, Pass):
        draft.set(why=wish.why)
    else:
        raise StrategyFailed(f"strategy {draft.rules.strategy.name} returned {wish!r:.80}")


def _enter(draft: Draft, wish: Enter) -> None:
    """The one door: an entry is granted here or nowhere."""
    s, rules = draft.s, draft.rules
    if s.position or s.live_orders() or s.spent:
        return
    for_now = _why_not_now(draft)
    if for_now is not None:
        draft.set(why=for_now, armed=bool(s.blocks) and not s.over)
        return
    instrument = rules.instrument
    if not isinstance(wish.side, Side) or not isinstance(wish.type, OrderType):
        raise StrategyFailed(f"strategy {rules.strategy.name} returned {wish!r:.80}")
    for named in (wish.trigger_price, wish.limit_price):
        if named is not None:
            draft.price(named)
    trigger = None if wish.trigger_price is None else instrument.stop_trigger(wish.side, wish.trigger_price)
    limit = trigger if wish.limit_price == wish.trigger_price else _limit(draft, wish)
    denied = instrument.why_not(rules.qty, limit or trigger) or _why_not_priced(wish.type, trigger, limit)
    if denied is not None:
        draft.set(spent=True, why=f"denied: {denied}")
        return
    draft.set(entries_used=s.entries_used + 1, side=wish.side, armed=False, why=wish.why)
    draft.submit_new(Purpose.ENTRY, wish.type, rules.qty, trigger, limit, wish.why, side=wish.side)
    assert draft.s.entry is not None
    draft.set(trip=draft.s.entry.client_id)


def _limit(draft: Draft, wish: Enter) -> Decimal | None:
    return None if wish.limit_price is None else draft.rules.instrument.limit(wish.side, wish.limit_price)


def _why_not_now(draft: Draft) -> str | None:
    s, rules = draft.s, draft.rules
    if s.over or draft.now_ms >= rules.cutoff_ms:
        return "denied: after the cutoff"
    if draft.now_ms < rules.entry_from_ms:
        return "denied: before the entry window"
    if s.entries_used >= rules.max_entries:
        return f"denied: entries used {s.entries_used} of {rules.max_entries}"
    if s.blocks:
        return f"waiting: {s.blocks[0][1]}"
    return None


def _why_not_priced(type: OrderType, trigger: Decimal | None, limit: Decimal | None) -> str | None:
    if type in (OrderType.STOP, OrderType.STOP_LIMIT) and (trigger is None or trigger <= 0):
        return f"{type.value} order without a trigger price"
    if type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and (limit is None or limit <= 0):
        return f"{type.value} order without a limit price"
    return None


def _trail(draft: Draft, wish: MoveStop, price: Decimal) -> None:
    s, wanted = draft.s, draft.price(wish.price)
    if s.stop_price is None or s.side is None or not s.position or s.closing:
        return
    level = draft.rules.instrument.stop_trigger(s.side.opposite, wanted)
    if (level - s.stop_price) * s.side.sign <= 0:
        return
    if (price - level) * s.side.sign <= 0:
        draft.set(why=f"stop not moved to {level}: price is at {price} already")
        return
    draft.set(stop_price=level, why=wish.why)


# -- answers to what we asked ----------------------------------------------------------------------------------------------


def _accepted(draft: Draft, event: Accepted) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    order = getattr(draft.s, slot)
    if order.venue_id is not None and order.venue_id != event.venue_id:
        _quarantine(draft, slot, f"accepted as {event.venue_id}, but already known as {order.venue_id}")
    elif order.status in (Status.INTENT, Status.UNKNOWN):
        draft.change(slot, status=Status.WORKING, venue_id=event.venue_id, attempts=0, retry_ms=0)
        if slot != "entry":
            draft.query(slot)  # protection and exits are read back at once


def _acknowledged(draft: Draft, event: Acknowledged) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is not None and getattr(draft.s, slot).status in (Status.REPLACING, Status.CANCELLING):
        draft.change(slot)
        draft.query(slot)


def _refused(draft: Draft, event: WasRefused) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    status = getattr(draft.s, slot).status
    if event.act is Act.SUBMIT:
        if status is Status.INTENT:
            _fail(draft, slot, f"refused: {event.reason}")
        else:
            draft.query(slot)  # the venue has shown it already: its book decides, not this answer
    elif status in (Status.REPLACING, Status.CANCELLING):
        draft.try_later(slot)
        draft.change(slot, status=Status.UNKNOWN, asked_qty=None, asked_trigger=None)
        draft.query(slot)  # "cannot cancel, complete" is a fill to look up, never an error to repeat


def _not_sent(draft: Draft, event: NotSent) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    order = getattr(draft.s, slot)
    if event.act is not Act.SUBMIT:
        if order.status in (Status.REPLACING, Status.CANCELLING):
            draft.try_later(slot)
            draft.change(slot, status=Status.WORKING, asked_qty=None, asked_trigger=None)
    elif order.status is not Status.INTENT:
        return
    elif not event.again:
        _let_go(draft, slot, event.reason)
    elif slot == "entry" and order.attempts < draft.rules.max_retries:
        draft.try_later(slot)
    else:
        _fail(draft, slot, f"not sent: {event.reason}")


def _unanswered(draft: Draft, event: WentUnanswered) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    order = getattr(draft.s, slot)
    if order.status is Status.INTENT and event.act is Act.SUBMIT:
        draft.change(slot, status=Status.UNKNOWN, venue_id=event.venue_id)
        draft.alarm(f"{slot} order unanswered ({event.reason}): it may be at the venue, looking for it")
    elif order.status in (Status.REPLACING, Status.CANCELLING):
        draft.try_later(slot)
        draft.change(slot, status=Status.UNKNOWN)
    draft.query(slot)


def _absent(draft: Draft, event: ProvedAbsent) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is not None and getattr(draft.s, slot).status is Status.UNKNOWN:
        _fail(draft, slot, "not sent: nothing of it at the venue after the settle window")
        if slot != "entry":
            draft.set(**{f"{slot}_retry_ms": draft.mono_ms})  # the window was pause enough: what is held waits for no other


def _quarantined(draft: Draft, event: WasQuarantined) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is not None:
        _quarantine(draft, slot, event.reason)
    else:
        _came_after_all(draft, event.client_id, event.reason)


def _came_after_all(draft: Draft, client_id: str, reason: str, venue_id: str | None = None) -> None:
    """The venue shows an order that was held for never sent: whatever follows from that, a person must look first."""
    late = [order for order in draft.s.ended if order.client_id == client_id and order.venue_id is None]
    if late and late[0].status is not Status.QUARANTINED:
        known = replace(late[0], status=Status.QUARANTINED, venue_id=venue_id)
        draft.set(ended=tuple(known if order is late[0] else order for order in draft.s.ended))
        draft.halt(f"QUARANTINED: {reason}, held for never sent")


def _quarantine(draft: Draft, slot: str, reason: str) -> None:
    draft.change(slot, status=Status.QUARANTINED)
    draft.halt(f"{slot} order quarantined: {reason}")


def _let_go(draft: Draft, slot: str, reason: str) -> None:
    """Nobody wants it any more, or we denied it ourselves: no failure, nothing to try again."""
    draft.empty(slot)
    if slot == "entry":
        draft.set(spent=True, why=f"entry not sent: {reason}")


def _fail(draft: Draft, slot: str, reason: str) -> None:
    """An order of ours came to nothing. The slot is free; what follows depends on what it was for."""
    draft.empty(slot)
    if slot == "entry":
        draft.set(spent=True, why=f"entry {reason}")
        return
    draft.place_later(slot)
    if slot == "stop":
        draft.alarm(f"UNPROTECTED: stop {reason}")
    elif slot == "exit":
        draft.alarm(f"exit {reason}; trying again until flat")


# -- what the venue shows ------------------------------------------------------------------------------------------------------


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
    draft.set(ledger=ledger)
    if ledger.position == held:
        return  # the row of an execution that a report had told of
    draft.set(fill_ms=draft.mono_ms, disagreements=0)
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
            _came_after_all(draft, event.client_id, f"venue order {event.row.venue_id} is {event.client_id}", event.row.venue_id)
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
        _fail(draft, slot, word)


def _working(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    row = event.row
    if order.status is Status.CANCELLING:
        if event.asked_ms - order.changed_ms >= READ_AGAIN_MS:
            draft.try_later(slot)
            draft.change(slot, status=Status.WORKING)  # the cancel did not take
    elif order.status is Status.REPLACING:
        _replaced(draft, slot, order, event)
    elif order.status is not Status.QUARANTINED:
        _adopt(draft, slot, order, row)


def _replaced(draft: Draft, slot: str, order: Order, event: OrderSeen) -> None:
    """An acknowledged change is a request accepted; the venue's row is the fact. One more look, then it counts as not moved."""
    row = event.row
    if row.trigger_price == order.asked_trigger and row.qty == order.asked_qty:
        done = {"qty": row.qty, "trigger_price": row.trigger_price, "attempts": 0, "retry_ms": 0}
        draft.change(slot, status=Status.WORKING, asked_qty=None, asked_trigger=None, strikes=0, verified=True, **done)
    elif order.strikes == 0:
        draft.change(slot, strikes=1)
        draft.query(slot)
    else:
        draft.try_later(slot)
        draft.change(slot, status=Status.WORKING, asked_qty=None, asked_trigger=None, strikes=0)
        draft.alarm(f"{slot} was not moved: the venue still shows {row.qty} @ {row.trigger_price}")


def _adopt(draft: Draft, slot: str, order: Order, row: OrderRow) -> None:
    """It works. Is it what we asked for? A stop that is not must go; one that a person tightened is theirs to tighten."""
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
        draft.set(stop_failures=0)
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
    finding = compare(s.position, s.foreign_qty, event.qty, _news(s, event), event.own)
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
    return event.asked_ms < max(s.fill_ms, changed_ms) or s.in_question


def _news(s: Snapshot, event: PositionSeen) -> tuple[Fill, ...]:
    return tuple(fill for fill in event.strangers if fill.trade_id not in s.foreign_trades)


def _believed(s: Snapshot, event: PositionSeen) -> Finding | None:
    """What a second disagreement in a row comes to; None for a first one, a stale one, or none at all."""
    if _too_early(s, event) or s.foreign_qty is None:
        return None
    if s.disagreements == 0:
        return None
    finding = compare(s.position, s.foreign_qty, event.qty, _news(s, event), event.own)
    explained = finding.verdict in (Verdict.MISSING, Verdict.FOREIGN)  # by trade rows, which no lagging answer makes up
    return finding if explained or event.asked_ms - s.disagreed_ms >= READ_AGAIN_MS else None


def _meet_the_foreign(draft: Draft, event: PositionSeen) -> None:
    """The first look of a session: whatever is there beside ours belongs to somebody else."""
    s = draft.s
    theirs = event.qty - s.position
    draft.set(foreign_qty=theirs, foreign_trades=_counted(s, event.strangers))
    if theirs:
        draft.alarm(f"FOREIGN: the venue holds {theirs} of it that is not ours: left alone")


def _counted(s: Snapshot, fills: tuple[Fill, ...]) -> tuple[str, ...]:
    new = (fill.trade_id for fill in fills if fill.trade_id not in s.foreign_trades)
    return (*s.foreign_trades, *new)[-KEPT_TRADES:]


def _believe(draft: Draft, finding: Finding) -> None:
    """Others traded: what closed ours is booked like any fill, and protection follows the position."""
    for fill in finding.ours:
        draft.set(ledger=draft.s.ledger.add(fill), fill_ms=draft.mono_ms, reduced=True)
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
        _fail(draft, slot, "gone from the venue's books")


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


# -- people and housekeeping --------------------------------------------------------------------------------------------------


def _entries_off(draft: Draft, event: EntriesOff) -> None:
    others = tuple(block for block in draft.s.blocks if block[0] != event.source)
    draft.set(blocks=tuple(sorted((*others, (event.source, event.reason)))))


def _entries_on(draft: Draft, event: EntriesOn) -> None:
    draft.set(blocks=tuple(block for block in draft.s.blocks if block[0] != event.source))


def _flatten(draft: Draft, event: FlattenAsked) -> None:
    if draft.s.position or draft.s.entry is not None:
        draft.close(event.reason)


def _halt(draft: Draft, event: HaltAsked) -> None:
    draft.halt(event.reason)


def _resume(draft: Draft, event: ResumeAsked) -> None:
    draft.set(halted=None, disagreements=0)


def _restarted(draft: Draft, event: Restarted) -> None:
    """Nothing is certain about an order that was live: the venue is asked about each before anything else."""
    for slot in SLOTS:
        order = getattr(draft.s, slot)
        if order is None or order.status is Status.QUARANTINED:
            continue
        if order.status is Status.INTENT and order.retry_ms:
            _fail(draft, slot, "not sent: interrupted while it waited")
        else:
            asked = {"asked_qty": None, "asked_trigger": None, "retry_ms": 0, "strikes": 0, "attempts": 0}
            draft.change(slot, status=Status.UNKNOWN, verified=False, **asked)
            draft.query(slot)
    unprotected = draft.mono_ms if draft.s.unprotected_ms is not None else None
    draft.set(stop_retry_ms=0, exit_retry_ms=0, target_retry_ms=0, fill_ms=draft.mono_ms, unprotected_ms=unprotected)
    draft.set(crossed_ms=None, blocks=(), disagreements=0)


_RECORDERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    Tick: _tick,
    BarClosed: _bar,
    Heartbeat: _heartbeat,
    Accepted: _accepted,
    Acknowledged: _acknowledged,
    WasRefused: _refused,
    NotSent: _not_sent,
    WentUnanswered: _unanswered,
    OrderSeen: _order_seen,
    FillSeen: _fill,
    ProvedAbsent: _absent,
    WasQuarantined: _quarantined,
    ForeignSeen: _foreign_seen,
    OrderMissing: _missing,
    OrphanSeen: _orphan,
    PositionSeen: _position_seen,
    EntriesOff: _entries_off,
    EntriesOn: _entries_on,
    FlattenAsked: _flatten,
    HaltAsked: _halt,
    ResumeAsked: _resume,
    Restarted: _restarted,
}
