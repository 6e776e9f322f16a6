"""A state of the model check: the machine's snapshot, the venue's truth, what is on its way, and the faults still to come."""

from __future__ import annotations

from typing import Any, NamedTuple

from simulation.model_core import Cmd
from simulation.model_rules import Rulebook

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


class Setting(NamedTuple):
    """One configuration: what the machine is told, what the venue is like, which faults may strike how often."""

    name: str
    book: Rulebook = Rulebook()
    levels: int = 1
    client_ids: bool = False
    silent_rows: bool = False  # working and complete rows say nothing of fills: only trade rows do (OpenAlgo live)
    positions: bool = False
    faults: tuple[tuple[str, int], ...] = ()


class Broken(Exception):
    """An invariant is violated: the message says which."""


def held(state: State) -> int:
    return sum(order.sign * sum(order.fills) for order in state.orders if order.fills)


def describe(order: VenueOrder | Cmd) -> str:
    side = "buy" if order.sign > 0 else "sell"
    at = f" @ {order.trigger}" if order.trigger else ""
    if isinstance(order, Cmd):
        return f"{order.kind} {order.client_id} ({side} {order.type} {order.qty}{at})"
    return f"{order.client_id}={order.venue_id} ({side} {order.type} {order.filled}/{order.qty}{at} {order.state})"
