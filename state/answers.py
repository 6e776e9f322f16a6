"""Facts of the second kind: what the venue answered to what we asked, or that it did not.

A slot empties only with proof: refused, provably not sent, or the venue's own last word (`sightings`). No answer proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from state.draft import Draft
from state.events import (
    Accepted,
    Acknowledged,
    Act,
    Event,
    NotSent,
    ProvedAbsent,
    WasQuarantined,
    WasRefused,
    WentUnanswered,
)
from state.orders import Status
from state.rules import backoff_ms, loud

_LOOKED_FOR = {
    Status.UNKNOWN: "not sent: nothing of it at the venue after the settle window",
    Status.QUARANTINED: "gone: nothing that could be it works at the venue any more",
}


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
    if slot is None:
        return
    _answered(draft, slot, event.act)
    if getattr(draft.s, slot).status in (Status.REPLACING, Status.CANCELLING):
        draft.change(slot)
        draft.query(slot)


def _answered(draft: Draft, slot: str, act: Act) -> None:
    """An amend that has its answer cannot land later; of two alike nobody knows which was answered."""
    order = getattr(draft.s, slot)
    if act is Act.REPLACE and order.late_ms and not order.repeats:
        draft.change(slot, late_ms=0, changed_ms=order.changed_ms)


def _refused(draft: Draft, event: WasRefused) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    _answered(draft, slot, event.act)
    status = getattr(draft.s, slot).status
    if event.act is Act.SUBMIT:
        if status is Status.INTENT:
            fail(draft, slot, f"refused: {event.reason}")
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
    _answered(draft, slot, event.act)
    order = getattr(draft.s, slot)
    if event.act is not Act.SUBMIT:
        if order.status in (Status.REPLACING, Status.CANCELLING):
            _stays(draft, slot, event)
    elif order.status is not Status.INTENT:
        return
    elif not event.again:
        _let_go(draft, slot, event.reason)
    elif slot == "entry" and order.attempts < draft.rules.max_retries:
        draft.try_later(slot)
    else:
        fail(draft, slot, f"not sent: {event.reason}")


def _stays(draft: Draft, slot: str, event: NotSent) -> None:
    """The order rests as before; a person is told when that holds up an exit."""
    draft.try_later(slot)
    order = draft.change(slot, status=Status.WORKING)
    if event.act is Act.REPLACE:
        draft.change(slot, asked_qty=None, asked_trigger=None)
    elif draft.s.position and draft.s.closing and loud(order.attempts):
        draft.alarm(f"closing ({draft.s.closing}): the exit waits and the {slot} stays: {event.reason}")


def _unanswered(draft: Draft, event: WentUnanswered) -> None:
    """An amend without an answer may land until the settle window is over, unless the venue has shown it done already."""
    slot = draft.s.slot_of(event.client_id)
    if slot is None:
        return
    if event.act is Act.REPLACE:
        missing = getattr(draft.s, slot).asked_qty is not None or getattr(draft.s, slot).repeats
        draft.change(slot, late_ms=draft.mono_ms + draft.rules.settle_ms if missing else 0)
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
    status = None if slot is None else getattr(draft.s, slot).status
    if slot is None or status not in _LOOKED_FOR:
        return
    fail(draft, slot, _LOOKED_FOR[status])
    if slot != "entry":
        draft.set(**{f"{slot}_retry_ms": draft.mono_ms})  # the window was pause enough: what is held waits for no other


def _quarantined(draft: Draft, event: WasQuarantined) -> None:
    slot = draft.s.slot_of(event.client_id)
    if slot is not None:
        _quarantine(draft, slot, event.reason)
    else:
        came_after_all(draft, event.client_id, event.reason)


def came_after_all(draft: Draft, client_id: str, reason: str, venue_id: str | None = None) -> None:
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
    """Nobody wants it any more, or we denied it ourselves: no failure. If it is wanted again, then after a pause."""
    draft.empty(slot)
    if slot == "entry":
        draft.set(spent=True, why=f"entry not sent: {reason}")
    else:
        draft.set(**{f"{slot}_retry_ms": draft.mono_ms + backoff_ms(getattr(draft.s, f"{slot}_failures"))})


def fail(draft: Draft, slot: str, reason: str) -> None:
    """An order of ours came to nothing. The slot is free; what follows depends on what it was for."""
    draft.empty(slot)
    if slot == "entry":
        draft.set(spent=True, why=f"entry {reason}")
        return
    draft.place_later(slot)
    if not loud(getattr(draft.s, f"{slot}_failures")):
        return
    if slot == "stop":
        draft.alarm(f"UNPROTECTED: stop {reason}")
    elif slot == "exit":
        draft.alarm(f"exit {reason}; trying again until flat")


RECORDERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    Accepted: _accepted,
    Acknowledged: _acknowledged,
    WasRefused: _refused,
    NotSent: _not_sent,
    WentUnanswered: _unanswered,
    ProvedAbsent: _absent,
    WasQuarantined: _quarantined,
}
