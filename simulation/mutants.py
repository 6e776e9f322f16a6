"""Deliberately broken machines: one rule taken out at a time, by exact text, from the source of the decision core.

A check that lets one of these pass proves nothing. Each text must occur exactly once in its module, so that a mutant can neither
miss its target nor rot unseen (`model_core.load` refuses otherwise). The broken modules are compiled beside the real ones.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    module: str  # of state/
    old: str
    new: str
    settings: tuple[str, ...]  # where it is looked for first


UNANSWERED = """    if order.status is Status.INTENT and event.act is Act.SUBMIT:
        draft.change("""
ASK_AGAIN = """        draft.change(slot, status=Status.UNKNOWN, asked_qty=None, asked_trigger=None)
        draft.query(slot)"""
BELIEVED_LATER = """    elif s.disagreements == 0:
        draft.set(disagreements=1, disagreed_ms=event.asked_ms)
    elif _believed(s, event) is None:
        return
"""
CUTOFF = """    if draft.s.over and draft.s.position and not draft.s.closing:
        draft.set("""
ONE_AMEND = """    if order.late_ms and (order.asked_qty is None or order.qty == wanted):
        return
    if draft.rules.can_replace and not order.late_ms:
"""
FREED = """    if order.status is Status.INTENT and event.act is Act.SUBMIT:
        draft.empty(slot)
        return
    if order.status is Status.INTENT and event.act is Act.SUBMIT:
        draft.change("""

MUTANTS: tuple[Mutant, ...] = (
    Mutant("a slot is freed by a time-out", "answers", UNANSWERED, FREED, ("long, one time-out",)),
    Mutant(
        "a second entry while the first is unknown",
        "wishes",
        "if s.position or s.live_orders() or s.spent:",
        "if s.position or any(o.status.name != 'UNKNOWN' for o in s.live_orders()):",
        ("long, two entries, time-out",),
    ),
    Mutant(
        "the exit does not wait for the stop to be gone",
        "machine",
        "if s.stop is not None or s.target is not None:",
        "if s.target is not None:",
        ("long, yes without effect",),
    ),
    Mutant(
        "the stop is not resized on a later partial fill",
        "machine",
        "if order.qty == wanted and order.trigger_price == level:",
        "if order.trigger_price == level:",
        ("long, partial fills",),
    ),
    Mutant(
        "the trail may loosen",
        "wishes",
        "    if (level - s.stop_price) * s.side.sign <= 0:\n        return",
        "    if level == s.stop_price:\n        return",
        ("short, trail",),
    ),
    Mutant("a fill heard twice counts twice", "ledger", " or fill.trade_id in self.trade_ids:", ":", ("short, crash",)),
    Mutant(
        "closed is believed before its fills are known",
        "sightings",
        "if expected is None or filled < expected:",
        "if False:",
        ("long, silent rows",),
    ),
    Mutant(
        "the answer to an old order clears the newer slot",
        "snapshot",
        "if order is not None and order.client_id == client_id:",
        "if order is not None and order.client_id[:-1] == client_id[:-1]:",
        ("long, two refusals", "long, somebody cancels"),
    ),
    Mutant(
        "a refused exit gives up",
        "machine",
        "if draft.mono_ms >= s.exit_retry_ms and",
        "if not s.exit_failures and",
        ("long, two refusals",),
    ),
    Mutant("the cutoff is forgotten", "machine", CUTOFF, CUTOFF.replace("if ", "if False and "), ("long, cutoff",)),
    Mutant(
        "a restart takes INTENT for not sent",
        "record",
        "if order.status is Status.INTENT and order.retry_ms:",
        "if order.status is Status.INTENT:",
        ("short, crash",),
    ),
    Mutant(
        "a retry takes a fresh id",
        "machine",
        "draft.submit(replace(order, retry_ms=0, changed_ms=draft.mono_ms))",
        'draft.submit(replace(order, retry_ms=0, changed_ms=draft.mono_ms, client_id=order.client_id + "r"))',
        ("long, unavailable",),
    ),
    Mutant(
        "entries used are not counted",
        "wishes",
        "entries_used=s.entries_used + 1",
        "entries_used=s.entries_used",
        ("short, crash",),
    ),
    Mutant(
        "one position report that contradicts us is believed",
        "sightings",
        BELIEVED_LATER,
        "",
        ("long, slow position reports",),
    ),
    Mutant(
        "partial fills wait for the whole entry",
        "machine",
        "    if draft.s.position:\n        _settle_position(draft)",
        "    if draft.s.position and draft.s.entry is None:\n        _settle_position(draft)",
        ("long, partial fills",),
    ),
    Mutant(
        "the stop stays when flat",
        "machine",
        'for slot in ("stop", "target", "exit"):\n        cancel(',
        'for slot in ("target", "exit"):\n        cancel(',
        ("long, target",),
    ),
    Mutant(
        "a cancel that did not take is never asked again",
        "sightings",
        "draft.change(slot, status=Status.WORKING)  # the cancel did not take",
        "pass",
        ("long, yes without effect",),
    ),
    Mutant("a refused cancel counts as gone", "answers", ASK_AGAIN, "        draft.empty(slot)", ("long, two refusals",)),
    Mutant(
        "a resting entry survives the cutoff",
        "machine",
        '    if s.over:\n        return "cutoff"\n    if s.halted',
        "    if s.halted",
        ("long, cutoff",),
    ),
    Mutant(
        "the desk does not ask again before it sends",
        "machine",
        "    if s.over or now_ms >= rules.cutoff_ms:\n        return",
        "    if False:\n        return",
        ("short, cutoff while the desk is slow",),
    ),
    Mutant(
        "a restart believes that a cancel is still on its way",
        "record",
        "if order is None or order.status is Status.QUARANTINED:",
        "if order is None or order.status in (Status.QUARANTINED, Status.CANCELLING):",
        ("short, crash", "short, crash, leave"),
    ),
    Mutant(
        "a row that ends an unanswered order leaves no trace of its id",
        "sightings",
        "    if order.venue_id is None:  #",
        "    if False:  #",
        ("long, silent rows",),
    ),
    Mutant(
        "a second amend while the first has no answer",
        "machine",
        ONE_AMEND,
        "    if draft.rules.can_replace:\n",
        ("short, late amend",),
    ),
    Mutant(
        "an amend that is not seen done at the first look was not done",
        "sightings",
        "if over or (_as_asked(order, event.row) and not order.repeats):",
        "if True:",
        ("short, late amend",),
    ),
    Mutant(
        "an amend counts as not done before its answer has come",
        "sightings",
        "    elif order.late_ms and not order.repeats:\n        return  #",
        "    elif False:\n        return  #",
        ("short, late amend",),
    ),
    Mutant(
        "a restart forgets an amend that may still land",
        "record",
        "late = order.late_ms > 0 and",
        "late = False and",
        ("long, late amend, crash",),
    ),
)
