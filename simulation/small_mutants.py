"""The races of SCENARIOS CON as they once were: for each row the broken version it describes, which a small model must catch.

Each breaks the one mechanism that makes its race impossible; where two guard the same thing, both. Exact texts, see `breakage`.
"""

from __future__ import annotations

from typing import NamedTuple

from simulation.breakage import Edit


class Mutant(NamedTuple):
    name: str
    rows: str  # of SCENARIOS
    edits: tuple[Edit, ...]


NO_GUARD = Edit("state.symbol_state", "        if self._inside:\n", "        if False:\n")
LOCK_LET_GO = "        self._lock.__exit__(None, None, None)\n        self._lock.__enter__()\n"
DECIDED = "        after, commands = self._decider(before, event, self.rules)\n"
TAKEN = "            self.snapshot = after\n            self._outbox"
LOOKED = "        if after is not before or event.now_ms >= self._wake_ms:\n"
ACKNOWLEDGED = "def _acknowledged(draft: Draft, event: Acknowledged) -> None:\n"
UNANSWERED = "        draft.change(slot, status=Status.UNKNOWN, venue_id=event.venue_id)\n"
STILL_RESTING = "    if s.stop is not None or s.target is not None:\n"
ASKED_AGAIN = "    if isinstance(command, Cancel) and command.orphan:\n"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "the answer to a cancel empties the entry slot, whoever is in it",
        "CON-01",
        (
            Edit(
                "state.answers",
                ACKNOWLEDGED,
                ACKNOWLEDGED + '    if event.act is Act.CANCEL and draft.s.entry is not None:\n        draft.empty("entry")\n',
            ),
        ),
    ),
    Mutant(
        "a level computed without the lock is stored with it",
        "CON-02",
        (NO_GUARD, Edit("state.symbol_state", DECIDED, DECIDED + LOCK_LET_GO)),
    ),
    Mutant(
        "the first trigger does not look whether an entry is under way",
        "CON-03",
        (Edit("state.wishes", "if s.position or s.live_orders() or s.spent:", "if s.position or s.spent:"),),
    ),
    Mutant(
        "an entry that failed leaves its symbol armed",
        "CON-03",
        (Edit("state.answers", 'draft.set(spent=True, why=f"entry {reason}")', 'draft.set(armed=True, why=f"entry {reason}")'),),
    ),
    Mutant(
        "an entry that waits for its retry does not hold its slot",
        "CON-04",
        (
            Edit(
                "state.wishes",
                "if s.position or s.live_orders() or s.spent:",
                "if s.position or any(not order.retry_ms for order in s.live_orders()) or s.spent:",
            ),
        ),
    ),
    Mutant(
        "the exit at the cutoff does not wait for the stop to be gone",
        "CON-05",
        (Edit("state.machine", STILL_RESTING, "    if s.target is not None:\n"),),
    ),
    Mutant(
        "the emergency exit does not see a stop that is being placed",
        "CON-06",
        (Edit("state.machine", STILL_RESTING, '    if s.stop is not None and s.stop.status.value != "INTENT":\n'),),
    ),
    Mutant(
        "the emergency is told on every tick",
        "CON-06",
        (Edit("state.machine", "draft.set(unprotected_told=s.unprotected_told + 1)", "pass"),),
    ),
    Mutant(
        "the slot is taken after the lock was let go",
        "CON-07",
        (
            NO_GUARD,
            Edit("state.symbol_state", TAKEN, "            self._outbox"),
            Edit("state.symbol_state", LOOKED, LOCK_LET_GO + "        self.snapshot = after\n" + LOOKED),
        ),
    ),
    Mutant(
        "a second amend does not wait for the answer to the first",
        "CON-08",
        (
            Edit("state.machine", "if order.status is not Status.WORKING or not order.verified or", "if"),
            Edit("state.machine", "    if order.late_ms and (", "    if False and ("),
            Edit("state.machine", "    if draft.rules.can_replace and not order.late_ms:", "    if draft.rules.can_replace:"),
        ),
    ),
    Mutant(
        "the desk amends what was decided, whatever has happened since",
        "CON-08",
        (
            Edit(
                "state.machine",
                ASKED_AGAIN,
                ASKED_AGAIN.replace("if ", "if isinstance(command, Replace) or "),
            ),
        ),
    ),
    Mutant(
        "a retry is made of an entry that got no answer",
        "CON-09",
        (Edit("state.answers", UNANSWERED, "        draft.try_later(slot)\n"),),
    ),
    Mutant(
        "a late answer is applied to the order of that kind that is current",
        "CON-10",
        (
            Edit(
                "state.snapshot",
                "if order is not None and order.client_id == client_id:",
                "if order is not None and order.client_id[:-1] == client_id[:-1]:",
            ),
        ),
    ),
    Mutant(
        "every reason to leave sends an exit of its own",
        "CON-11",
        (Edit("state.machine", "    if s.exit is None:\n", "    if True:\n"),),
    ),
    Mutant(
        "the desk does not ask again before it enters",
        "CON-17",
        (Edit("state.machine", "    if s.blocks:\n        return s.blocks[0][1]\n    return s.halted\n", "    return None\n"),),
    ),
    Mutant(
        "two desks work for one symbol at a time",
        "CON-17",
        (Edit("brokers.desk", "if symbol in self._lanes and symbol not in self._busy:", "if symbol in self._lanes:"),),
    ),
    Mutant(
        "a cancel is sent under the symbol's lock",
        "CON-12",
        (
            Edit(
                "brokers.desk",
                "        order = command.order\n        if (reason := self._why_not_cancel(symbol, command)) is not None:\n",
                "        order = command.order\n        with self._states[symbol]._lock:\n            self._broker.orders()\n"
                "        if (reason := self._why_not_cancel(symbol, command)) is not None:\n",
            ),
        ),
    ),
    Mutant(
        "what was decided is carried out without being journaled",
        "CON-12",
        (
            Edit(
                "brokers.desk",
                "            written = self._commit(works)\n",
                "            written = self._commit(works[:0])\n",
            ),
        ),
    ),
)
