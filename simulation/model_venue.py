"""A whole small world around the decision core: one honest venue, one desk, one journal, and every fault the budgets allow.

`fair_steps` and `other_steps` list everything that can happen next. The first fair step that changes anything is what happens when
no further fault strikes, which is how the search knows where each state ends up. The venue is honest: it executes what it
accepted, shows what is true at the time it was asked, and nothing it did not accept before the settle window is over ever appears.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from simulation.model_core import (
    BEAT,
    ENTER,
    FURTHER,
    GAP,
    LAPSE,
    LEAVE,
    LOOSEN,
    NOW,
    STOP_AT,
    TRAIL,
    Cmd,
    Key,
    Machine,
    Rulebook,
    price,
)

GHOST_BEATS = 2  # an unanswered request may still arrive for so long; the settle window is longer
FLIGHT_BEATS = 2  # a report slower than this has timed out
FAULTS = (
    "crash", "timeout", "refuse", "unavailable", "deny", "reject", "withdraw", "idle", "stale",
    "trail", "further", "loosen", "leave", "gap", "flatten", "tighten", "lapse", "slow",
)  # fmt: skip
AT = {fault: index for index, fault in enumerate(FAULTS)}
BEAT_STEP = "a heartbeat later"
ENTRY, STOP, TARGET, EXIT = "E", "S", "T", "X"


class VenueOrder(NamedTuple):
    venue_id: str
    client_id: str
    purpose: str
    sign: int
    type: str
    qty: int
    trigger: int
    fills: tuple[int, ...]
    state: str  # WORKING, FILLED, CANCELLED, REJECTED

    @property
    def filled(self) -> int:
        return sum(self.fills)

    @property
    def rest(self) -> int:
        return self.qty - self.filled


class Call(NamedTuple):
    """The desk is asking; `stage` is sent, done or refused."""

    command: Cmd
    stage: str
    venue_id: str | None = None


class Flight(NamedTuple):
    """A picture of the venue, taken and not yet delivered. `stale` when the machine changed its mind meanwhile."""

    kind: str  # row, position
    client_id: str
    content: Any
    age: int
    stale: bool


class State(NamedTuple):
    snapshot: int
    journal: int  # the snapshot a crash falls back to; 0 when no crash can come any more
    queue: tuple[Cmd, ...]  # decided, not yet taken by the desk
    hand: tuple[Cmd, ...]  # taken and journaled, not yet carried out
    call: Call | None
    orders: tuple[VenueOrder, ...]
    ghosts: tuple[tuple[Cmd, int], ...]  # unanswered requests that may still arrive, and for how many beats
    flights: tuple[Flight, ...]
    level: int  # session time
    mark: int  # best stop the venue has had since it was last flat; 0 for none
    left: tuple[int, ...]  # faults left, in the order of FAULTS


Step = tuple[tuple[Any, ...], State]


class Setting(NamedTuple):
    """One configuration: what the machine is told, what the venue is like, which faults may strike how often."""

    name: str
    book: Rulebook = Rulebook()
    levels: int = 1
    client_ids: bool = False
    silent_rows: bool = False  # working and complete rows say nothing of fills: only trade rows do (OpenAlgo live)
    positions: bool = False
    late_amends: bool = False  # an unanswered amend may still arrive after the next one; the stop may then step back once
    faults: tuple[tuple[str, int], ...] = ()


class Broken(Exception):
    """An invariant is violated: the message says which."""


class World:
    def __init__(self, core: SimpleNamespace, setting: Setting) -> None:
        self.setting = setting
        self.machine = Machine(core, setting.book)
        self._sign = -1 if setting.book.short else 1
        self._cutoff = setting.book.cutoff_level

    def start(self) -> State:
        budgets = dict(self.setting.faults)
        return State(0, 0, (), (), None, (), (), (), 0, 0, tuple(budgets.get(fault, 0) for fault in FAULTS))

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
        self._check_sending(state, command)
        return state._replace(call=Call(command, "sent"))

    def _check_sending(self, state: State, command: Cmd) -> None:
        if command.kind != "submit":
            if command.venue_id is None and not self.setting.client_ids:
                raise Broken(f"I3 {command.kind} of {command.client_id} without a venue order id")
            return
        if any(order.client_id == command.client_id for order in state.orders) or any(
            ghost.kind == "submit" and ghost.client_id == command.client_id for ghost, _ in state.ghosts
        ):
            raise Broken(f"I3 {command.client_id} is sent a second time")
        if command.purpose == ENTRY and self._cutoff is not None and state.level >= self._cutoff:
            raise Broken("I8 an entry leaves after the cutoff")
        if command.purpose == ENTRY and command.client_id != self.machine.snapshots[state.snapshot].trip:
            raise Broken(f"I3 {command.client_id} leaves under an id that was never granted")
        self._check_committed(state, command)

    def _check_committed(self, state: State, command: Cmd) -> None:
        if self._has(state, "crash"):
            journaled = self.machine.snapshots[state.journal]
            if journaled.slot_of(command.client_id) is None:
                raise Broken(f"I3 {command.client_id} leaves without a journaled intent")

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
            if call.stage == "sent" and (command.kind != "replace" or self.setting.late_amends):
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
                if best and (order.trigger - best) * self._sign < 0 and not self.setting.late_amends:
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
            key = ("position", flight.content, asked)
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
        later = state._replace(
            snapshot=self.machine.aged(state.snapshot), journal=journal, flights=flights, ghosts=ghosts
        )
        return self._tell(later, ("beat",))

    def _crash(self, state: State) -> State:
        """Memory is gone; what was on its way to the venue is not."""
        ghosts = state.ghosts
        if state.call is not None and state.call.stage == "sent" and state.call.command.kind != "replace":
            ghosts = (*ghosts, (state.call.command, GHOST_BEATS))
        empty = state._replace(
            snapshot=self.machine.restarted(state.journal), queue=(), hand=(), call=None, ghosts=ghosts, flights=()
        )
        back = self._tell(self._spend(empty, "crash"), ("restarted",))
        return self._tell(back, ("entries off",))

    # -- what must always hold -------------------------------------------------------------------------------------------------

    def check(self, state: State) -> None:
        """The safety invariants, by the venue's own truth."""
        if self.machine.faults:
            raise Broken(f"I0 {self.machine.faults[0]}")
        if self.machine.snapshots[state.snapshot].halted:
            raise Broken("I2 halted over a disagreement, though the venue is honest")
        live = [order for order in state.orders if order.state == "WORKING"]
        entries = [order for order in state.orders if order.purpose == ENTRY]
        coming = [ghost for ghost, _ in state.ghosts if ghost.kind == "submit" and ghost.purpose == ENTRY]
        if sum(order.state == "WORKING" for order in entries) + len(coming) > 1:
            raise Broken("I1 two live entry orders")
        if len(entries) + len(coming) > self.setting.book.max_entries:
            raise Broken(f"I7 {len(entries) + len(coming)} entries of {self.setting.book.max_entries}")
        position = held(state)
        if position * self._sign > self.setting.book.qty:
            raise Broken(f"I1 holds {position}, meant at most {self.setting.book.qty}")
        self._check_reducing(live, position)

    def _check_reducing(self, live: list[VenueOrder], position: int) -> None:
        """I5: what rests at the venue to reduce the position can never turn it round."""
        target = self.setting.book.target
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

    def check_rest(self, state: State) -> None:
        """What must hold where nothing moves any more: I2, I8, I9, I12."""
        s, position = self.machine.snapshots[state.snapshot], held(state)
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


def held(state: State) -> int:
    return sum(order.sign * sum(order.fills) for order in state.orders if order.fills)


def describe(order: VenueOrder | Cmd) -> str:
    side = "buy" if order.sign > 0 else "sell"
    at = f" @ {order.trigger}" if order.trigger else ""
    if isinstance(order, Cmd):
        return f"{order.kind} {order.client_id} ({side} {order.type} {order.qty}{at})"
    return f"{order.client_id}={order.venue_id} ({side} {order.type} {order.filled}/{order.qty}{at} {order.state})"


def _look(order: VenueOrder) -> Key:
    return order.sign, order.type, order.qty, order.trigger


def _rank(command: Cmd) -> int:
    return 1 if command.kind == "submit" and command.purpose == ENTRY else 0


def _fill_price(book: Rulebook, order: VenueOrder) -> int:
    if order.purpose == STOP:
        return order.trigger
    return price(book, {ENTRY: 100, TARGET: 108, EXIT: 99}[order.purpose])
