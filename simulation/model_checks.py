"""The promises, judged by the venue's own truth: what must hold in every state, when something is sent, and at rest."""

from __future__ import annotations

from typing import Any

from simulation.model_core import Cmd, Machine
from simulation.model_state import AT, ENTRY, EXIT, STOP, Broken, Setting, State, VenueOrder, describe, held


class Checks:
    """Each method raises `Broken` with the invariant of DESIGN section 8 that does not hold."""

    def __init__(self, machine: Machine, setting: Setting) -> None:
        self._machine, self._setting = machine, setting
        self._sign = -1 if setting.book.short else 1
        self._cutoff = setting.book.cutoff_level

    def everywhere(self, state: State) -> None:
        """The safety invariants, by the venue's own truth."""
        if self._machine.faults:
            raise Broken(f"I0 {self._machine.faults[0]}")
        if self._machine.snapshots[state.snapshot].halted:
            raise Broken("I2 halted over a disagreement, though the venue is honest")
        live = [order for order in state.orders if order.state == "WORKING"]
        entries = [order for order in state.orders if order.purpose == ENTRY]
        coming = [ghost for ghost, _ in state.ghosts if ghost.kind == "submit" and ghost.purpose == ENTRY]
        if sum(order.state == "WORKING" for order in entries) + len(coming) > 1:
            raise Broken("I1 two live entry orders")
        if len(entries) + len(coming) > self._setting.book.max_entries:
            raise Broken(f"I7 {len(entries) + len(coming)} entries of {self._setting.book.max_entries}")
        position = held(state)
        if position * self._sign > self._setting.book.qty:
            raise Broken(f"I1 holds {position}, meant at most {self._setting.book.qty}")
        self._check_reducing(live, position)

    def _check_reducing(self, live: list[VenueOrder], position: int) -> None:
        """I5: what rests at the venue to reduce the position can never turn it round."""
        target = self._setting.book.target
        reducing = [order for order in live if order.purpose == EXIT or (order.purpose == STOP and not target)]
        if not reducing:
            return
        if any(order.sign * position >= 0 for order in reducing):
            raise Broken(f"I5 {' and '.join(map(describe, reducing))} at the venue while holding {position}")
        if sum(order.rest for order in reducing) > abs(position):
            raise Broken(f"I5 {' and '.join(map(describe, reducing))} exceed the position {position}")

    def unprotected(self, state: State) -> bool:
        position = held(state)
        if not position:
            return False
        cover = [o for o in state.orders if o.state == "WORKING" and o.purpose in (STOP, EXIT) and o.sign * position < 0]
        return sum(order.rest for order in cover) < abs(position)

    def at_rest(self, state: State) -> None:
        """What must hold where nothing moves any more: I2, I8, I9, I12."""
        s, position = self._machine.snapshots[state.snapshot], held(state)
        if int(s.position) != position:
            raise Broken(f"I2 at rest the ledger says {s.position}, the venue {position}")
        statuses = {order.status.name for order in s.live_orders()}
        if "QUARANTINED" in statuses:
            raise Broken("I12 an order was quarantined though the venue is honest")
        if statuses - {"WORKING"}:
            raise Broken(f"I12 at rest with orders {sorted(statuses)}")
        if state.queue or state.hand or state.call:
            raise Broken("I12 at rest with work undone")
        live = {order.venue_id: order for order in state.orders if order.state == "WORKING"}
        mine = {order.venue_id: order for order in s.live_orders()}
        if live.keys() != mine.keys():
            raise Broken(f"I9 the venue has {sorted(map(describe, live.values()))}, we know {sorted(map(str, mine))}")
        self._check_cover(state, s, position, list(live.values()))

    def _check_cover(self, state: State, s: Any, position: int, live: list[VenueOrder]) -> None:
        if self._cutoff is not None and state.level >= self._cutoff and (position or live):
            raise Broken(f"I8 after the cutoff: position {position}, {len(live)} orders")
        if not position:
            if any(order.purpose != ENTRY for order in live):
                raise Broken("I9 flat, and an order still rests")
            return
        if s.closing:
            raise Broken(f"I12 at rest while closing {position}")
        stops = [order for order in live if order.purpose == STOP]
        if [(o.rest, o.trigger, o.sign * position < 0) for o in stops] != [(abs(position), int(s.stop_price), True)]:
            raise Broken(f"I4 position {position} at rest with stops {[describe(o) for o in stops]}, level {s.stop_price}")

    def sending(self, state: State, command: Cmd) -> None:
        if command.kind != "submit":
            if command.venue_id is None and not self._setting.client_ids:
                raise Broken(f"I3 {command.kind} of {command.client_id} without a venue order id")
            return
        if any(order.client_id == command.client_id for order in state.orders) or any(
            ghost.kind == "submit" and ghost.client_id == command.client_id for ghost, _ in state.ghosts
        ):
            raise Broken(f"I3 {command.client_id} is sent a second time")
        if command.purpose == ENTRY and self._cutoff is not None and state.level >= self._cutoff:
            raise Broken("I8 an entry leaves after the cutoff")
        if command.purpose == ENTRY and command.client_id != self._machine.snapshots[state.snapshot].trip:
            raise Broken(f"I3 {command.client_id} leaves under an id that was never granted")
        self._check_committed(state, command)

    def _check_committed(self, state: State, command: Cmd) -> None:
        if state.left[AT["crash"]]:
            journaled = self._machine.snapshots[state.journal]
            if journaled.slot_of(command.client_id) is None:
                raise Broken(f"I3 {command.client_id} leaves without a journaled intent")
