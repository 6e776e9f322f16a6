"""A whole small world around the decision core: one honest venue, one desk, one journal, and every fault the budgets allow.

`fair_steps` and `other_steps` list everything that can happen next. The first fair step that changes anything is what happens
when no further fault strikes, which is how the search knows where each state ends up. The venue is honest: it executes what it
accepted, shows what is true at the time it was asked, and what has not arrived when the settle window ends never will.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from simulation.model_checks import Checks
from simulation.model_core import BEAT, NOW, Cmd, Key, Machine
from simulation.model_rules import ENTER, FURTHER, GAP, LAPSE, LEAVE, LOOSEN, STOP_AT, TRAIL, Rulebook, price
from simulation.model_state import (
    AT,
    BEAT_STEP,
    ENTRY,
    EXIT,
    FAULTS,
    STOP,
    TARGET,
    Broken,
    Call,
    Flight,
    Setting,
    State,
    VenueOrder,
    held,
)

GHOST_BEATS = 2  # an unanswered request may still arrive for so long; the settle window is longer
FLIGHT_BEATS = 2  # a report slower than this has timed out

Step = tuple[tuple[Any, ...], State]


class World:
    def __init__(self, core: SimpleNamespace, setting: Setting) -> None:
        self.setting = setting
        self.machine = Machine(core, setting.book)
        self._sign = -1 if setting.book.short else 1
        self._cutoff = setting.book.cutoff_level
        self.checks = Checks(self.machine, setting)

    def start(self) -> State:
        """Flat, and with the account looked at once: whatever is there beside ours is known from then on."""
        budgets = dict(self.setting.faults)
        left = tuple(budgets.get(fault, 0) for fault in FAULTS)
        empty = State(0, 0, (), (), None, (), (), (), 0, 0, left)
        return self._commit(self._tell(empty, ("position", 0, NOW + 1)))

    # -- everything that can happen --------------------------------------------------------------------------------------

    def other_steps(self, state: State) -> Iterator[Step]:
        """The market, the strategy, people, faults."""
        if self._has(state, "slow") and (state.hand or state.queue or state.call):
            yield ("a heartbeat later, the desk still busy",), self._beat(self._spend(state, "slow"))
        yield from self._fills(state)
        yield from self._prices(state)
        yield from self._desk_faults(state)
        yield from self._venue_faults(state)
        yield from self._pictures(state)
        if self._has(state, "crash"):
            yield ("CRASH and restart",), self._crash(state)

    def fair_steps(self, state: State) -> Iterator[Step]:
        """What happens, in this order, when nothing else does: the first that changes anything is the fair step."""
        yield from self._desk(state)
        yield from self._ghosts(state)
        yield from self._deliver(state)
        yield from self._market_fills(state)
        yield from self._sights(state)
        yield from self._housekeeping(state)
        if not (state.hand or state.queue or state.call):
            yield (BEAT_STEP,), self._beat(state)

    def _tell(self, state: State, key: Key) -> State:
        """The machine hears of an event."""
        decision = self.machine.decide(state.snapshot, state.level, key)
        if decision.snapshot == state.snapshot and not decision.commands and not decision.touched:
            return state
        flights = state.flights
        if flights and decision.touched:
            flights = tuple(f._replace(stale=True) if f.client_id in decision.touched else f for f in flights)
        queue = state.queue + decision.commands if decision.commands else state.queue
        return state._replace(snapshot=decision.snapshot, queue=queue, flights=flights)

    def _has(self, state: State, fault: str) -> bool:
        return state.left[AT[fault]] > 0

    def _spend(self, state: State, fault: str) -> State:
        index = AT[fault]
        left = (*state.left[:index], state.left[index] - 1, *state.left[index + 1 :])
        spent = state._replace(left=left)
        return spent._replace(journal=0) if fault == "crash" and not left[index] else spent

    # -- the desk ----------------------------------------------------------------------------------------------------------

    def _desk(self, state: State) -> Iterator[Step]:
        if state.call is not None:
            if state.call.stage == "sent":
                yield ("the venue gets", state.call.command), self._arrive(state)
            else:
                yield ("its answer comes:", state.call.stage, state.call.command), self._answer(state)
        elif state.hand:
            yield ("the desk carries out", state.hand[0]), self._carry_out(state)
        elif state.queue:
            taken = state._replace(queue=(), hand=tuple(sorted(state.queue, key=_rank)))
            taken = self._commit(taken)
            if self._has(state, "crash"):
                yield ("the desk journals and takes", state.queue), taken
            else:
                yield ("the desk carries out", taken.hand[0]), self._carry_out(taken)

    def _commit(self, state: State) -> State:
        return state._replace(journal=state.snapshot) if self._has(state, "crash") else state

    def _carry_out(self, state: State) -> State:
        command, rest = state.hand[0], state.hand[1:]
        state = state._replace(hand=rest)
        if self.machine.why_not(state.snapshot, state.level, command) is not None:
            if command.kind != "submit":
                return state
            return self._tell(state, ("not sent", command.client_id, "submit", False))
        self.checks.sending(state, command)
        return state._replace(call=Call(command, "sent"))

    def _arrive(self, state: State) -> State:
        assert state.call is not None
        command = state.call.command
        after, done = self._at_venue(state, command)
        venue_id = after.orders[-1].venue_id if command.kind == "submit" else command.venue_id
        return after._replace(call=Call(command, "done" if done else "refused", venue_id))

    def _answer(self, state: State) -> State:
        assert state.call is not None
        command, stage, venue_id = state.call
        state = state._replace(call=None)
        if stage == "refused":
            return self._tell(state, ("refused", command.client_id, command.kind))
        if command.kind == "submit":
            return self._tell(state, ("accepted", command.client_id, venue_id))
        return self._tell(state, ("acknowledged", command.client_id, command.kind))

    def _desk_faults(self, state: State) -> Iterator[Step]:
        call = state.call
        if call is None:
            if state.hand and self._has(state, "deny") and state.hand[0].kind == "submit" and state.hand[0].purpose == ENTRY:
                denied = self._spend(state, "deny")._replace(hand=state.hand[1:])
                yield (
                    ("the desk denies", state.hand[0]),
                    self._tell(denied, ("not sent", state.hand[0].client_id, "submit", False)),
                )
            return
        command = call.command
        quiet = state._replace(call=None)
        if call.stage == "sent":
            for fault, key in (("refuse", ("refused",)), ("unavailable", ("not sent",))):
                if self._has(state, fault):
                    tail = (True,) if key[0] == "not sent" else ()
                    yield (
                        (fault, command),
                        self._tell(self._spend(quiet, fault), (*key, command.client_id, command.kind, *tail)),
                    )
        if self._has(state, "timeout"):
            lost = self._spend(quiet, "timeout")
            if call.stage == "sent":
                lost = lost._replace(ghosts=(*state.ghosts, (command, GHOST_BEATS)))
            yield ("TIME-OUT,", call.stage, command), self._tell(lost, ("unanswered", command.client_id, command.kind))
        if self._has(state, "idle") and call.stage == "sent" and command.kind != "submit":
            lied = self._spend(quiet, "idle")
            yield (
                ("the venue says yes and does nothing:", command),
                self._tell(lied, ("acknowledged", command.client_id, command.kind)),
            )

    def _ghosts(self, state: State) -> Iterator[Step]:
        for index, (command, _) in enumerate(state.ghosts):
            rest = state.ghosts[:index] + state.ghosts[index + 1 :]
            yield ("late, the venue gets", command), self._at_venue(state._replace(ghosts=rest), command)[0]

    # -- the venue -----------------------------------------------------------------------------------------------------------

    def _at_venue(self, state: State, command: Cmd) -> tuple[State, bool]:
        """What a request does when it arrives; false when the venue must refuse it."""
        if command.kind == "submit":
            order = VenueOrder(
                f"V{len(state.orders)}",
                command.client_id,
                command.purpose,
                command.sign,
                command.type,
                command.qty,
                command.trigger,
                (),
                "WORKING",
            )
            return self._mark(state._replace(orders=(*state.orders, order))), True
        for index, order in enumerate(state.orders):
            if order.venue_id == command.venue_id and order.state == "WORKING":
                if command.kind == "cancel":
                    return self._put(state, index, order._replace(state="CANCELLED")), True
                if command.qty > order.filled:
                    return self._mark(self._put(state, index, order._replace(qty=command.qty, trigger=command.trigger))), True
        return state, False

    def _put(self, state: State, index: int, order: VenueOrder) -> State:
        return state._replace(orders=(*state.orders[:index], order, *state.orders[index + 1 :]))

    def _mark(self, state: State) -> State:
        """I6: within a trip the venue's stop never gets worse."""
        if not held(state):
            return state._replace(mark=0)
        best = state.mark
        for order in state.orders:
            if order.purpose == STOP and order.state == "WORKING":
                if best and (order.trigger - best) * self._sign < 0:
                    raise Broken(f"I6 the stop is loosened from {best} to {order.trigger}")
                best = order.trigger
        return state._replace(mark=best)

    def _execute(self, state: State, index: int, qty: int) -> State:
        order = state.orders[index]
        fills = (*order.fills, qty)
        done = order._replace(fills=fills, state="FILLED" if sum(fills) == order.qty else "WORKING")
        return self._mark(self._put(state, index, done))

    def _market_fills(self, state: State) -> Iterator[Step]:
        for index, order in enumerate(state.orders):
            if order.state == "WORKING" and order.type == "MARKET":
                yield ("the market fills all of", order), self._execute(state, index, order.rest)

    def _fills(self, state: State) -> Iterator[Step]:
        for index, order in enumerate(state.orders):
            if order.state != "WORKING":
                continue
            if order.type != "MARKET":
                yield ("the market fills all of", order), self._execute(state, index, order.rest)
            if order.rest > 1:
                yield ("the market fills 1 of", order), self._execute(state, index, 1)

    def _venue_faults(self, state: State) -> Iterator[Step]:
        for index, order in enumerate(state.orders):
            if order.state != "WORKING":
                continue
            if self._has(state, "reject") and not order.fills:
                yield (
                    ("the exchange rejects", order),
                    self._put(self._spend(state, "reject"), index, order._replace(state="REJECTED")),
                )
            if self._has(state, "withdraw"):
                gone = self._put(self._spend(state, "withdraw"), index, order._replace(state="CANCELLED"))
                yield ("somebody cancels", order), gone
            if self._has(state, "tighten") and order.purpose == STOP and self._owner(state, order) is not None:
                moved = order._replace(trigger=price(self.setting.book, STOP_AT + 1))
                if (moved.trigger - order.trigger) * self._sign > 0:
                    yield ("somebody tightens", order), self._mark(self._put(self._spend(state, "tighten"), index, moved))

    # -- what we get to see ----------------------------------------------------------------------------------------------------

    def _owner(self, state: State, order: VenueOrder) -> str | None:
        """Whose order is it, as far as the runner knows?"""
        owner = self.machine.infos[state.snapshot].known.get(order.venue_id)
        if owner is None and self.setting.client_ids and self.machine.snapshots[state.snapshot].slot_of(order.client_id):
            return order.client_id
        return owner

    def _row(self, order: VenueOrder) -> Key:
        filled: int | None = order.filled
        average = _fill_price(self.setting.book, order) if filled else None
        if self.setting.silent_rows and order.state in ("WORKING", "FILLED"):
            filled = average = None
        return order.venue_id, order.sign, order.type, order.qty, order.trigger, order.state, filled, average

    def _sights(self, state: State) -> Iterator[Step]:
        for order in state.orders:
            owner = self._owner(state, order)
            if owner is None:
                continue
            at, sold = _fill_price(self.setting.book, order), 0
            for qty in order.fills:
                sold += qty
                key = ("fill", owner, f"{order.venue_id}.{sold}", order.purpose, order.sign, qty, at)
                yield ("we hear of a fill:", qty, order), self._tell(state, key)
        for order in state.orders:
            owner = self._owner(state, order)
            if owner is not None:
                yield ("we see", order), self._tell(state, ("row", owner, self._row(order), NOW + 1))
        yield from self._resolve(state)
        if self.setting.positions and self._fills_known(state):
            yield ("we see the position", held(state)), self._tell(state, ("position", held(state), NOW + 1))

    def _resolve(self, state: State) -> Iterator[Step]:
        """Orders asked without an answer, looked for in the venue's book."""
        info = self.machine.infos[state.snapshot]
        for client_id, look, over in info.lost:
            if self.setting.client_ids:
                alike = [order for order in state.orders if order.client_id == client_id]
            else:
                alike = [o for o in state.orders if o.venue_id not in info.known and _look(o) == look]
            if len(alike) > 1:
                yield ("two orders look like", client_id), self._tell(state, ("quarantined", client_id))
            elif alike:
                if alike[0].client_id != client_id:
                    raise Broken(f"I3 {alike[0].client_id} is taken for {client_id}")
                yield ("found:", alike[0]), self._tell(state, ("row", client_id, self._row(alike[0]), NOW + 1))
            elif over:
                yield ("after the settle window nothing is there of", client_id), self._tell(state, ("absent", client_id))

    def _fills_known(self, state: State) -> bool:
        """A sweep tells the fills first and the position after them."""
        filled = self.machine.snapshots[state.snapshot].ledger.filled
        owners = [(self._owner(state, order), order) for order in state.orders if order.fills]
        return all(int(filled(owner)) >= order.filled for owner, order in owners if owner is not None)

    def _pictures(self, state: State) -> Iterator[Step]:
        """Reports that are asked now and come later, when the world may have moved on."""
        if not self._has(state, "stale"):
            return
        spent = self._spend(state, "stale")
        for order in state.orders:
            owner = self._owner(state, order)
            if owner is not None:
                flight = Flight("row", owner, self._row(order), 0, False)
                yield ("a report leaves, slowly:", order), spent._replace(flights=(*state.flights, flight))
        sweeping = any(flight.kind == "position" for flight in state.flights)  # by one thread: one at a time
        if self.setting.positions and not sweeping and self._fills_known(state):
            flight = Flight("position", "", held(state), 0, False)
            yield ("a position report leaves, slowly", held(state)), spent._replace(flights=(*state.flights, flight))

    def _deliver(self, state: State) -> Iterator[Step]:
        for index, flight in enumerate(state.flights):
            rest = state._replace(flights=state.flights[:index] + state.flights[index + 1 :])
            asked = NOW + 1 - flight.age * BEAT - (2 if flight.stale else 0)
            key: Key = ("position", flight.content, asked)
            if flight.kind == "row":
                key = ("row", flight.client_id, flight.content, asked)
            yield ("the slow report arrives:", flight), self._tell(rest, key)

    # -- prices, time, people ----------------------------------------------------------------------------------------------------

    def _prices(self, state: State) -> Iterator[Step]:
        book = self.setting.book
        yield ("tick: the strategy wants in",), self._tell(state, ("tick", price(book, ENTER)))
        free = not any(self.setting.faults) or "lapse" not in dict(self.setting.faults)
        if free or self._has(state, "lapse"):
            lapsed = state if free else self._spend(state, "lapse")
            told = self._tell(lapsed, ("tick", price(book, LAPSE)))
            if told is not lapsed:
                yield ("tick: the trigger lapses",), told
        wishes = (("trail", TRAIL), ("further", FURTHER), ("loosen", LOOSEN), ("leave", LEAVE), ("gap", GAP))
        for fault, at in wishes:
            if self._has(state, fault):
                told = self._tell(state, ("tick", price(book, at)))
                if told is not state:
                    yield (f"tick: {fault}",), self._spend(told, fault)
        if self._has(state, "flatten"):
            told = self._tell(state, ("flatten",))
            if told is not state:
                yield ("a person says flatten",), self._spend(told, "flatten")
        if state.level + 1 < self.setting.levels:
            word = "the cutoff passes" if state.level + 1 == self._cutoff else "the entry timeout passes"
            yield (word,), self._tell(state._replace(level=state.level + 1), ("beat",))

    def _housekeeping(self, state: State) -> Iterator[Step]:
        if self.machine.snapshots[state.snapshot].blocks and not self.machine.infos[state.snapshot].lost:
            yield ("recovery is over",), self._tell(state, ("entries on",))
        if not (state.hand or state.queue or state.call) and state.journal != state.snapshot and self._has(state, "crash"):
            yield ("the desk journals",), self._commit(state)

    def _beat(self, state: State) -> State:
        flights = tuple(f._replace(age=f.age + 1) for f in state.flights if f.age < FLIGHT_BEATS)
        ghosts = tuple((command, left - 1) for command, left in state.ghosts if left > 1)
        journal = self.machine.aged(state.journal) if state.journal else 0
        later = state._replace(snapshot=self.machine.aged(state.snapshot), journal=journal, flights=flights, ghosts=ghosts)
        return self._tell(later, ("beat",))

    def _crash(self, state: State) -> State:
        """Memory is gone; what was on its way to the venue is not."""
        ghosts = state.ghosts
        if state.call is not None and state.call.stage == "sent":
            ghosts = (*ghosts, (state.call.command, GHOST_BEATS))
        empty = state._replace(
            snapshot=self.machine.restarted(state.journal), queue=(), hand=(), call=None, ghosts=ghosts, flights=()
        )
        back = self._tell(self._spend(empty, "crash"), ("restarted",))
        return self._tell(back, ("entries off",))


def _look(order: VenueOrder) -> Key:
    return order.sign, order.type, order.qty, order.trigger


def _rank(command: Cmd) -> int:
    return 1 if command.kind == "submit" and command.purpose == ENTRY else 0


def _fill_price(book: Rulebook, order: VenueOrder) -> int:
    if order.purpose == STOP:
        return order.trigger
    return price(book, {ENTRY: 100, TARGET: 108, EXIT: 99}[order.purpose])
