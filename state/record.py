"""First half of a decision: write down the fact an event carries. Consequences are none of its business (`machine.settle`).

One recorder per kind of event: prices and time in `wishes`, answers in `answers`, what the venue shows in `sightings`, and what
people and the process itself do, here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from state import answers, sightings, wishes
from state.answers import fail
from state.draft import Draft
from state.events import (
    EntriesOff,
    EntriesOn,
    Event,
    FlattenAsked,
    HaltAsked,
    Restarted,
    ResumeAsked,
)
from state.orders import Status
from state.snapshot import SLOTS

_NOTHING_ASKED: dict[str, Any] = {"late_ms": 0, "asked_qty": None, "asked_trigger": None}


def record(draft: Draft, event: Event) -> None:
    _RECORDERS[type(event)](draft, event)


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
            fail(draft, slot, "not sent: interrupted while it waited")
        else:
            late = order.late_ms > 0 and order.asked_qty is not None  # an amend that nobody has seen done: it may still land
            asked = {"late_ms": draft.mono_ms + draft.rules.settle_ms} if late else _NOTHING_ASKED
            draft.change(slot, status=Status.UNKNOWN, verified=False, retry_ms=0, strikes=0, attempts=0, **asked)
            draft.query(slot)
    unprotected = draft.mono_ms if draft.s.unprotected_ms is not None else None
    draft.set(stop_retry_ms=0, exit_retry_ms=0, target_retry_ms=0, fill_ms=draft.mono_ms, unprotected_ms=unprotected)
    draft.set(crossed_ms=None, blocks=(), disagreements=0)


_RECORDERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    **wishes.RECORDERS,
    **answers.RECORDERS,
    **sightings.RECORDERS,
    EntriesOff: _entries_off,
    EntriesOn: _entries_on,
    FlattenAsked: _flatten,
    HaltAsked: _halt,
    ResumeAsked: _resume,
    Restarted: _restarted,
}
