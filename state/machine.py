"""The decision core: `decide(snapshot, event, rules) -> (snapshot, commands)`. Pure: no I/O, clock, lock or log.

Always two steps. `record` writes down the fact an event carries (state/record.py). `settle` then brings our orders in line
with the position we now know we hold; it is the only place that protects, resizes, trails, cancels and exits, so nothing of
that can be forgotten on one path: there is one path. Settling a settled snapshot does nothing.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from state.commands import Cancel, Command, Replace, Submit
from state.draft import Draft, StrategyFailed
from state.events import Event
from state.levels import stop_level, why_no_room
from state.orders import Order, OrderType, Purpose, Side, Status
from state.record import record
from state.rules import NO_ANSWER, NO_TICKS, STOP_TRIES, STOPPING, Rules
from state.snapshot import SLOT_OF, Snapshot


def decide(snapshot: Snapshot, event: Event, rules: Rules) -> tuple[Snapshot, list[Command]]:
    """What is true after this event, and what to do about it. The same snapshot object when nothing changed."""
    draft = Draft(snapshot, rules, event.now_ms, event.mono_ms)
    record(draft, event)
    settle(draft)
    if draft.s == snapshot:
        return snapshot, draft.commands
    return replace(draft.s, version=snapshot.version + 1), draft.commands


def settle(draft: Draft) -> None:
    """Orders follow the position."""
    _pass_the_cutoff(draft)
    if draft.s.position:
        _settle_position(draft)
    _time_the_unprotected(draft)
    _settle_entry(draft)  # after all that may decide to close: then the entry goes too
    if not draft.s.position:
        _settle_flat(draft)


def _pass_the_cutoff(draft: Draft) -> None:
    if draft.now_ms >= draft.rules.cutoff_ms and not draft.s.over:
        draft.set(over=True, armed=False)
    if draft.s.over and draft.s.position and not draft.s.closing:
        draft.set(closing="cutoff")


# -- entry ---------------------------------------------------------------------------------------------------------------


def _settle_entry(draft: Draft) -> None:
    order = draft.s.entry
    if order is None:
        return
    reason = _why_withdraw(draft, order)
    waiting = order.status is Status.INTENT and order.retry_ms > 0  # not sent, not with the desk: here for its next try
    if reason and waiting:
        draft.empty("entry")
        draft.set(spent=True, why=f"entry not sent: {reason}")
    elif reason:
        cancel(draft, "entry", reason)
    elif waiting and draft.mono_ms >= order.retry_ms:
        draft.submit(replace(order, retry_ms=0, changed_ms=draft.mono_ms))


def _why_withdraw(draft: Draft, order: Order) -> str | None:
    s = draft.s
    if s.over:
        return "cutoff"
    if s.halted:
        return f"halted: {s.halted}"
    if s.closing or s.reduced:
        return s.closing or "position reduced"
    for source, reason in s.blocks:
        if source == STOPPING:
            return reason
    if s.position and s.trip != order.client_id:
        return "position from an earlier entry"
    if draft.now_ms - order.created_ms >= draft.rules.entry_timeout_ms:
        return "entry timeout"
    return None


# -- flat ----------------------------------------------------------------------------------------------------------------


def _settle_flat(draft: Draft) -> None:
    """Nothing is held: nothing may be left resting that would sell it, and with empty slots the trip is over."""
    for slot in ("stop", "target", "exit"):
        cancel(draft, slot, "flat")
    if not draft.s.live_orders():
        _end_the_trip(draft)


def _end_the_trip(draft: Draft) -> None:
    draft.set(
        side=None,
        trip=None,
        reduced=False,
        by_hand=False,
        stop_price=None,
        target_price=None,
        peak=None,
        closing=None,
        stop_failures=0,
        stop_retry_ms=0,
        exit_failures=0,
        exit_retry_ms=0,
        target_failures=0,
        target_retry_ms=0,
        crossed_ms=None,
    )


# -- holding a position ----------------------------------------------------------------------------------------------------


def _settle_position(draft: Draft) -> None:
    _know_the_levels(draft)
    if draft.s.closing:
        _close_out(draft)
    else:
        _protect(draft)
        if draft.s.closing:
            _close_out(draft)


def _know_the_levels(draft: Draft) -> None:
    """A position on the side we meant has a stop level; any other is closed."""
    s = draft.s
    if s.closing:
        return
    if s.side is None or s.position * s.side.sign < 0:
        draft.close("position on the wrong side")
    elif s.stop_price is None and s.average is None:
        draft.close("position that no entry explains")
    elif s.stop_price is None:
        _set_levels(draft)


def _set_levels(draft: Draft) -> None:
    s, instrument, view = draft.s, draft.rules.instrument, draft.view()
    assert s.side is not None and s.average is not None
    try:
        level = stop_level(draft, view, mirrored=s.by_hand)
        target = draft.ask(lambda strategy, view: strategy.target_price(view))
        target = None if target is None else instrument.limit(s.side.opposite, draft.price(target))
    except StrategyFailed as failure:
        draft.halt(str(failure))
        draft.close("the strategy gave no stop")
        return
    no_room = why_no_room(draft, view, level)
    if no_room is not None:
        draft.close(no_room)
        return
    draft.set(stop_price=level, target_price=target)


def _protect(draft: Draft) -> None:
    """One stop, for exactly what is held, at the level that only moves our way; then the target.

    Without native stops none is sent: `wishes` closes at the first price that touches the level.
    """
    order, s = draft.s.stop, draft.s
    if order is not None and order.side is not _exit_side(s):
        cancel(draft, "stop", "wrong side")
    elif order is not None:
        _resize(draft, "stop", order, s.stop_price)
    elif s.stop_failures >= STOP_TRIES:
        draft.close(f"stop refused {s.stop_failures} times")
        return
    elif draft.rules.native_stops and draft.mono_ms >= s.stop_retry_ms:
        draft.submit_new(Purpose.STOP, OrderType.STOP, abs(s.position), trigger=s.stop_price, reason="protect the position")
    if s.target_price is not None:
        _aim(draft)


def _aim(draft: Draft) -> None:
    s = draft.s
    if s.target is not None:
        _resize(draft, "target", s.target, s.target.trigger_price)
    elif draft.mono_ms >= s.target_retry_ms and s.target_failures < STOP_TRIES:
        draft.submit_new(Purpose.TARGET, OrderType.LIMIT, abs(s.position), limit=s.target_price, reason="take profit")


def _resize(draft: Draft, slot: str, order: Order, level: Decimal | None) -> None:
    """The order covers what is held, at its level: by amending where the venue can, else by a new one after the old has gone.

    While an amend has no answer there is no second one, which the first could undo when it lands late. Meanwhile the order rests
    at its old level or the new one. Should it have the wrong quantity as well, it is cancelled: what is gone cannot be amended.
    """
    wanted = draft.s.ledger.filled(order.client_id) + abs(draft.s.position)
    if order.qty == wanted and order.trigger_price == level:
        return
    if order.status is not Status.WORKING or not order.verified or draft.mono_ms < order.retry_ms:
        return  # one question at a time
    if order.late_ms and (order.asked_qty is None or order.qty == wanted):
        return
    if draft.rules.can_replace and not order.late_ms:
        draft.replace(slot, wanted, level)
    else:
        cancel(draft, slot, "to be replaced")


def _close_out(draft: Draft) -> None:
    """Stop and target go first and are confirmed gone; then what is left is sold, never more than is held."""
    for slot in ("stop", "target"):
        cancel(draft, slot, f"closing: {draft.s.closing}")
    s = draft.s
    if s.stop is not None or s.target is not None:
        return
    if s.exit is None:
        if draft.mono_ms >= s.exit_retry_ms and not _entry_may_explain(s):
            draft.submit_new(Purpose.EXIT, OrderType.MARKET, abs(s.position), reason=s.closing or "")
    elif s.remaining(s.exit) > abs(s.position) or s.exit.side is not _exit_side(s):
        cancel(draft, "exit", "larger than the position")
    elif s.exit.status is Status.WORKING and draft.mono_ms - s.exit.changed_ms >= draft.rules.order_timeout_ms:
        cancel(draft, "exit", "order timeout")  # what it filled stays; what is left goes out anew


def _entry_may_explain(s: Snapshot) -> bool:
    """More left than came in while the entry's last word is still to come: the missing fills are its own; it is asked first."""
    return (
        s.entry is not None and s.entry.status is not Status.QUARANTINED and s.side is not None and s.position * s.side.sign < 0
    )


def _exit_side(s: Snapshot) -> Side:
    return Side.SELL if s.position > 0 else Side.BUY


# -- the desk asks again ---------------------------------------------------------------------------------------------------


def why_not_carry_out(s: Snapshot, command: Command, rules: Rules, now_ms: int) -> str | None:
    """Why this command, decided a while ago, must not be carried out any more; None when it still stands."""
    if not isinstance(command, Submit | Replace | Cancel):
        return None
    if isinstance(command, Cancel) and command.orphan:
        return None
    order = getattr(s, SLOT_OF[command.order.purpose])
    if order is None or order.client_id != command.order.client_id:
        return "its slot has moved on"
    if isinstance(command, Cancel):
        return None if order.status is Status.CANCELLING else "the cancel is no longer wanted"
    if isinstance(command, Replace):
        wanted = (Status.REPLACING, command.qty, command.trigger_price)
        return None if (order.status, order.asked_qty, order.asked_trigger) == wanted else "the change is no longer wanted"
    if order.status is not Status.INTENT:
        return "already answered"
    if order.purpose is Purpose.ENTRY:
        return _why_not_enter_now(s, order, rules, now_ms)
    if not s.position or order.side is not _exit_side(s):
        return "flat"
    if order.qty > abs(s.position):
        return "larger than the position"
    return f"closing: {s.closing}" if s.closing and order.purpose is not Purpose.EXIT else None


def _why_not_enter_now(s: Snapshot, order: Order, rules: Rules, now_ms: int) -> str | None:
    if s.over or now_ms >= rules.cutoff_ms:
        return "cutoff"
    if s.position:
        return "a position is held"
    if s.closing:
        return f"closing: {s.closing}"
    if s.blocks:
        return s.blocks[0][1]
    return s.halted


# -- shared ----------------------------------------------------------------------------------------------------------------


def cancel(draft: Draft, slot: str, reason: str) -> None:
    """Ask once; the slot stays taken until the venue's own word empties it. What has filled in full is not asked for."""
    order = getattr(draft.s, slot)
    if order is None or order.status is not Status.WORKING or not draft.s.remaining(order):
        return
    if draft.mono_ms >= order.retry_ms or not order.cancel_asked:  # the pause after a failed amend holds up no cancel
        draft.cancel(slot, reason)


def _time_the_unprotected(draft: Draft) -> None:
    """How long what is held has been without protection: measured, told for as long as it lasts, ended at the limit if it may."""
    s, limit_ms = draft.s, draft.rules.unprotected_limit_ms
    if not s.position or _protected(s, draft.rules):
        if s.unprotected_ms is not None:
            worst = max(s.worst_unprotected, draft.mono_ms - s.unprotected_ms)
            draft.set(unprotected_ms=None, unprotected_told=0, worst_unprotected=worst)
        return
    if s.unprotected_ms is None:
        draft.set(unprotected_ms=draft.mono_ms)
        return
    lasted = draft.mono_ms - s.unprotected_ms
    if lasted < limit_ms * _patience(s.unprotected_told):
        return
    draft.set(unprotected_told=s.unprotected_told + 1)
    if s.closing or not _may_flatten(s, draft.rules):
        draft.alarm(f"UNPROTECTED for {lasted} ms: {_why_bare(s)}")
        return
    draft.close(f"unprotected for {lasted} ms")
    draft.alarm(f"UNPROTECTED for {lasted} ms: closing at market")
    _close_out(draft)


def _patience(told: int) -> int:
    """In limits, until a person is told again: 1, 2, 4, ... 64, then every 64."""
    return 1 << told if told <= 6 else 64 * (told - 5)


def _why_bare(s: Snapshot) -> str:
    """What stands in the way, and what a person can do about it."""
    for order in (s.stop, s.target, s.exit):
        if order is not None and order.status is Status.QUARANTINED:
            return f"{order.describe()} may be at the venue: cancel by hand what looks like it, then this goes on by itself"
    if s.exit_failures and s.closing:
        return f"{s.exit_failures} exits came to nothing; trying again until flat"
    if s.closing:
        return f"closing ({s.closing})"
    if s.stop is None:
        return f"no price of the last seconds to watch the level {s.stop_price} by"
    return f"{s.stop.describe()} is {s.stop.status.value}"


def _protected(s: Snapshot, rules: Rules) -> bool:
    """The venue's book shows a stop for all we hold, or an exit for it is working.

    Without native stops nothing rests there: fresh ticks are the protection, for as long as they come.
    """
    held = abs(s.position)
    if not rules.native_stops and not s.closing:
        return not any(source in NO_TICKS for source, _ in s.blocks)
    if s.stop is not None and s.stop.verified and s.stop.status in (Status.WORKING, Status.REPLACING):
        return s.remaining(s.stop) >= held
    return s.exit is not None and s.exit.status is Status.WORKING and s.remaining(s.exit) >= held


def _may_flatten(s: Snapshot, rules: Rules) -> bool:
    """Nothing is on its way that may yet protect: an order in question can neither be doubled nor cancelled.

    Without native stops the quotes of each poll watch the level while the ticks are stale: too slow to call it protected, too
    good to sell for nothing. When they fail as well, nobody watches any more.
    """
    if not rules.native_stops:
        return any(source == NO_ANSWER for source, _ in s.blocks)
    return s.stop is None or (s.stop.status is Status.WORKING and s.stop.verified)
