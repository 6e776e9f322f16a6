"""Mutants of what decides: `state/` without the journal. One defect each, as SCENARIOS tells them, by exact text.

A row that breaks two places at once says so in its name: there a second line of defence would have made up for the first.
"""

from __future__ import annotations

from simulation.breakage import Edit
from simulation.sim_mutants_words import Mutant

UNANSWERED = "        draft.change(slot, status=Status.UNKNOWN, venue_id=event.venue_id)\n"
ASK_AGAIN = """        draft.change(slot, status=Status.UNKNOWN, asked_qty=None, asked_trigger=None)
        draft.query(slot)"""
BELIEVED_LATER = """    elif s.disagreements == 0:
        draft.set(disagreements=1, disagreed_ms=event.asked_ms)
    elif _believed(s, event) is None:
        return
"""
MISSING_TWICE = """    if order.strikes == 0:
        draft.change(slot, status=Status.UNKNOWN, strikes=1)
    elif event.asked_ms - order.changed_ms >= READ_AGAIN_MS:
"""
BELIEVED_IN = "def _believed(s: Snapshot, event: PositionSeen) -> Finding | None:\n"
FRESH_START = "    draft.set(crossed_ms=None, blocks=(), disagreements=0)\n\n\n_RECORDERS"
NO_GUARD = Edit("state.symbol_state", "        if self._inside:\n", "        if False:\n")
DECIDED = "        after, commands = self._decider(before, event, self.rules)\n"
LET_GO = """        lock = self._lock
        lock.release()
        never = self._clock.threads.event()
        self._clock.wait(never, 0.001)
        lock.acquire()
"""
LOOSENS = Edit(
    "state.wishes",
    "    if (level - s.stop_price) * s.side.sign <= 0:\n        return",
    "    if level == s.stop_price:\n        return",
)

MUTANTS: tuple[Mutant, ...] = (
    # -- entries
    Mutant(
        "the trigger does not see an entry under way, and the strategy is not told of it either",
        "ENT-01 CON-03",
        (
            Edit("state.wishes", "if s.position or s.live_orders() or s.spent:", "if s.position or s.spent:"),
            Edit("state.draft", "entering=s.entry is not None,", "entering=False,"),
        ),
        ("I1", "I3"),
    ),
    Mutant(
        "an entry is granted while one is unknown, and the strategy does not know of that one",
        "UNK-01",
        (
            Edit(
                "state.wishes",
                "if s.position or s.live_orders() or s.spent:",
                "if s.position or s.spent or any(o.status.value != 'UNKNOWN' for o in s.live_orders()):",
            ),
            Edit(
                "state.draft",
                "entering=s.entry is not None,",
                "entering=s.entry is not None and s.entry.status is not Status.UNKNOWN,",
            ),
        ),
        ("I12", "I1", "I3"),
    ),
    Mutant(
        "entries used are not counted",
        "ENT-02",
        (Edit("state.wishes", "entries_used=s.entries_used + 1", "entries_used=s.entries_used"),),
        ("I7",),
    ),
    Mutant(
        "one entry more than allowed",
        "ENT-02",
        (Edit("state.wishes", "if s.entries_used >= rules.max_entries:", "if s.entries_used > rules.max_entries:"),),
        ("I7",),
    ),
    Mutant(
        "a resting entry survives the cutoff",
        "EXI-03",
        (Edit("state.machine", '    if s.over:\n        return "cutoff"\n    if s.halted', "    if s.halted"),),
        ("I9",),
    ),
    Mutant(
        "an entry without an answer is sent again under its old id",
        "CON-09",
        (Edit("state.answers", UNANSWERED, "        draft.try_later(slot)\n"),),
        ("I12", "I3", "I1"),
    ),
    Mutant(
        "a time-out frees the slot",
        "UNK-01 UNK-04",
        (Edit("state.answers", UNANSWERED, "        draft.empty(slot)\n        return\n"),),
        ("I5", "I1", "I4"),
    ),
    # -- fills
    Mutant(
        "an execution heard twice counts twice, in the ledger and before it",
        "FIL-02",
        (
            Edit("state.ledger", " or fill.trade_id in self.trade_ids:", ":"),
            Edit("brokers.reports", "if row.trade_id in state.snapshot.ledger.trade_ids:", "if False:"),
        ),
        ("I5", "I2"),
    ),
    Mutant(
        "fills that come after an order has ended are ignored, and it ends before they are known",
        "FIL-05 FIL-07",
        (
            Edit("state.sightings", "if expected is None or filled < expected:", "if False:"),
            Edit(
                "state.sightings",
                "    _take(draft, event.fill)\n    slot = ",
                "    if draft.s.slot_of(event.fill.client_id) is not None:\n        _take(draft, event.fill)\n    slot = ",
            ),
            Edit(
                "state.sightings",
                "    if fill is not None and fill.qty > draft.s.ledger.filled(event.client_id):\n",
                "    if fill is not None and draft.s.slot_of(event.client_id) is not None:\n",
            ),
        ),
        ("I2", "I4", "I5"),
    ),
    Mutant(
        "partial fills wait for the whole entry",
        "PRO-05",
        (
            Edit(
                "state.machine",
                "    if draft.s.position:\n        _settle_position(draft)",
                "    if draft.s.position and draft.s.entry is None:\n        _settle_position(draft)",
            ),
        ),
        ("I4",),
    ),
    # -- protection
    Mutant(
        "the stop is not resized when more has filled",
        "PRO-05",
        (Edit("state.machine", "if order.qty == wanted and order.trigger_price == level:", "if order.trigger_price == level:"),),
        ("I4", "I5"),
    ),
    Mutant(
        "a stop that failed is not placed again, and nobody counts how long that lasts",
        "PRO-04",
        (
            Edit(
                "state.machine",
                "elif draft.rules.native_stops and draft.mono_ms >= s.stop_retry_ms:",
                "elif draft.rules.native_stops and not s.stop_failures:",
            ),
            Edit("state.machine", "    if lasted < limit_ms * _patience(s.unprotected_told):", "    if True:"),
        ),
        ("I4",),
    ),
    Mutant(
        "a trailed stop is logged and never reaches the venue",
        "PRO-06",
        (Edit("state.draft", "        self.commands.append(Replace(order, qty, trigger, order.limit_price))\n", ""),),
        ("I5", "I12", "I4"),
    ),
    Mutant("the trail may loosen", "PRO-07", (LOOSENS,), ("I6",)),
    Mutant(
        "a second amend does not wait for the answer to the first",
        "UNK-11 CON-08",
        (
            Edit("state.machine", "if order.status is not Status.WORKING or not order.verified or", "if"),
            Edit("state.machine", "    if order.late_ms and (", "    if False and ("),
            Edit("state.machine", "    if draft.rules.can_replace and not order.late_ms:", "    if draft.rules.can_replace:"),
        ),
        ("I6", "I4"),
    ),
    Mutant(
        "what the stop rests as is not read back",
        "PRO-13",
        (
            Edit(
                "state.sightings",
                'if row.side is not order.side or (slot == "stop" and row.type not in _PROTECTIVE):',
                "if row.side is not order.side:",
            ),
        ),
        ("I4",),
        300,
        ("orders.retyped",),
    ),
    Mutant(
        "the quantity that the stop rests with is not read back",
        "PRO-13",
        (Edit("state.sightings", 'changed: dict[str, Any] = {"qty": row.qty,', 'changed: dict[str, Any] = {"qty": order.qty,'),),
        ("I4",),
        300,
        ("orders.shrunk",),
    ),
    Mutant(
        "the level that the stop rests at is not read back",
        "PRO-08",
        (Edit("state.sightings", '"trigger_price": row.trigger_price or order.trigger_price, "verified"', '"verified"'),),
        ("I6",),
    ),
    # -- exits
    Mutant(
        "the exit does not wait for the stop to be gone",
        "CON-05",
        (Edit("state.machine", "    if s.stop is not None or s.target is not None:\n", "    if s.target is not None:\n"),),
        ("I5",),
    ),
    Mutant(
        "the exit is as large as what was bought, not as what is left of it",
        "EXI-07",
        (
            Edit(
                "state.machine",
                "OrderType.MARKET, abs(s.position), reason=",
                'OrderType.MARKET, s.ledger.filled(s.trip or "") or abs(s.position), reason=',
            ),
            Edit("state.machine", "    if order.qty > abs(s.position):\n", "    if False:\n"),
            Edit("brokers.desk", "        if ours * side.sign <= -qty:\n", "        if True:\n"),
        ),
        ("I5",),
    ),
    Mutant(
        "a refused exit gives up",
        "PRO-18 EXI-04",
        (Edit("state.machine", "if draft.mono_ms >= s.exit_retry_ms and", "if not s.exit_failures and"),),
        ("I4", "I8", "I12"),
    ),
    Mutant(
        "a refused cancel counts as gone",
        "PRO-12 ENT-09",
        (Edit("state.answers", ASK_AGAIN, "        draft.empty(slot)"),),
        ("I5", "I9"),
    ),
    Mutant(
        "a cancel that did not take is never asked again",
        "EXI-04",
        (Edit("state.sightings", "draft.change(slot, status=Status.WORKING)  # the cancel did not take", "pass"),),
        ("I12", "I8", "I9"),
        300,
        ("cancel.ignored",),
    ),
    Mutant(
        "the stop stays when flat",
        "PRO-14",
        (
            Edit(
                "state.machine",
                'for slot in ("stop", "target", "exit"):\n        cancel(',
                'for slot in ("target",):\n        cancel(',
            ),
        ),
        ("I9", "I5"),
    ),
    Mutant(
        "the cutoff closes nothing",
        "EXI-01",
        (
            Edit(
                "state.machine",
                "    if draft.s.over and draft.s.position and not draft.s.closing:\n",
                "    if False:\n",
            ),
        ),
        ("I8",),
    ),
    Mutant(
        "the cutoff comes with a tick only",
        "EXI-02",
        (
            Edit(
                "state.machine",
                "    draft = Draft(snapshot, rules, event.now_ms, event.mono_ms)\n",
                "    ticks = type(event).__name__ == 'Tick'\n"
                "    now_ms = event.now_ms if ticks else min(event.now_ms, rules.cutoff_ms - 1)\n"
                "    draft = Draft(snapshot, rules, now_ms, event.mono_ms)\n",
            ),
        ),
        ("I8", "I9"),
        300,
        ("feed.silent",),
    ),
    # -- what the venue shows
    Mutant(
        "positions are believed at once, and also those asked for before the last fill",
        "REC-01 REC-04",
        (
            Edit("state.sightings", BELIEVED_LATER, ""),
            Edit(
                "state.sightings", "    return event.asked_ms < max(s.fill_ms, changed_ms) or s.untold", "    return False"
            ),
        ),
        ("I12",),
    ),
    Mutant(
        "an order that one answer does not show has ended",
        "PRO-03 REC-11",
        (Edit("state.sightings", MISSING_TWICE, "    if True:\n"),),
        ("I5", "I1"),
    ),
    Mutant(
        "a trade by hand that closed ours is not booked",
        "REC-05",
        (
            Edit(
                "state.sightings",
                "    for fill in finding.ours:\n        draft.book(draft.s.ledger.add(fill))\n",
                "    for fill in finding.ours:\n",
            ),
        ),
        ("I5", "I9", "I8"),
    ),
    # -- the symbol's door
    Mutant(
        "the lock is let go while a decision is made",
        "CON-02 CON-07",
        (NO_GUARD, Edit("state.symbol_state", DECIDED, DECIDED + LET_GO)),
        ("I4", "I3", "I1", "I5", "I12", "defect"),
    ),
    Mutant(
        "only decisions with something to do are journaled",
        "CRA-01 FIL-01",
        (Edit("state.symbol_state", "if commands or _worth_recording(before, after):", "if commands:"),),
        ("I2", "I3"),
    ),
    # -- a restart
    Mutant(
        "a restart takes every order for what it was",
        "CRA-01 CRA-03",
        (Edit("state.record", "    Restarted: _restarted,\n", "    Restarted: lambda draft, event: None,\n"),),
        ("I12", "I4"),
    ),
    Mutant(
        "a restart takes what was about to be sent for not sent",
        "CRA-01",
        (
            Edit(
                "state.record",
                "if order.status is Status.INTENT and order.retry_ms:",
                "if order.status is Status.INTENT:",
            ),
        ),
        ("I12", "I5", "I9", "I1"),
    ),
    Mutant(
        "a restart forgets the level of the stop, and does not take it from what rests either",
        "CRA-03 CRA-04",
        (
            Edit("state.record", FRESH_START, FRESH_START.replace("crossed_ms=None", "crossed_ms=None, stop_price=None")),
            Edit("state.sightings", "    if (row.trigger_price - s.stop_price) * s.side.sign > 0:\n", "    if False:\n"),
        ),
        ("I6",),
    ),
    Mutant(
        "a restart forgets the entries used",
        "CRA-03 ENT-02",
        (Edit("state.record", FRESH_START, FRESH_START.replace("crossed_ms=None", "crossed_ms=None, entries_used=0")),),
        ("I7",),
    ),
)
