"""Everything known about one symbol at one moment, as a frozen value. What follows from it is in `machine`."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import msgspec

from state.ledger import Ledger
from state.orders import ZERO, Order, Purpose, Side, Status

SLOTS = ("entry", "stop", "target", "exit")
SLOT_OF = {Purpose.ENTRY: "entry", Purpose.STOP: "stop", Purpose.TARGET: "target", Purpose.EXIT: "exit"}


class Phase(Enum):
    """For people; derived, never stored."""

    FLAT = "FLAT"
    ARMED = "ARMED"
    ENTERING = "ENTERING"
    LONG = "LONG"
    SHORT = "SHORT"
    EXITING = "EXITING"
    UNKNOWN = "UNKNOWN"
    HALTED = "HALTED"


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Four order slots, at most one live order in each: that *is* the no-duplicate rule.

    Times ending in `_ms` are monotonic unless said otherwise. A *trip* begins with an entry order and ends flat with empty slots.
    """

    symbol: str
    version: int = 0
    entry: Order | None = None
    stop: Order | None = None
    target: Order | None = None
    exit: Order | None = None
    ended: tuple[Order, ...] = ()  # the last few that left a slot: late reports still find them
    ledger: Ledger = Ledger()
    dust: Decimal | None = None  # what of our executions' net quantity no order can sell: no part of the position
    side: Side | None = None  # of this trip
    trip: str | None = None  # client order id of this trip's entry
    reduced: bool = False  # something of this trip was sold off again
    stop_price: Decimal | None = None  # where the stop belongs; within a trip it only moves our way
    target_price: Decimal | None = None
    peak: Decimal | None = None  # best price seen in this trip
    entries_used: int = 0
    sequence: int = 0  # numbers the client order ids
    armed: bool = False  # the trigger has happened, but the entry may not leave yet
    spent: bool = False  # the last entry came to nothing: the trigger must lapse before another
    over: bool = False  # the cutoff has passed; it stays passed whatever the clock says
    closing: str | None = None  # why this position is being closed
    halted: str | None = None  # why entries are off until a person looks
    blocks: tuple[tuple[str, str], ...] = ()  # who forbids entries for now, and why
    stop_failures: int = 0
    stop_retry_ms: int = 0
    exit_failures: int = 0
    exit_retry_ms: int = 0
    target_failures: int = 0
    target_retry_ms: int = 0
    crossed_ms: int | None = None  # since when price has been beyond a stop that has not filled
    unprotected_ms: int | None = None  # since when filled quantity has had no working stop or exit
    worst_unprotected: int = 0  # longest such time, ms
    unprotected_told: int = 0  # how often a person was told of the present one
    fill_ms: int = 0  # when the last fill was learnt
    disagreements: int = 0  # position reports in a row that contradict our fills
    disagreed_ms: int = 0  # when the first of them was asked for
    foreign_qty: Decimal | None = None  # what the venue holds beside ours; None before the first look
    foreign_trades: tuple[str, ...] = ()  # trade ids of others that have been counted
    by_hand: bool = False  # somebody else turned this position round: protect it, do not close it
    foreign: tuple[str, ...] = ()  # venue order ids in this symbol that are not ours
    why: str = ""  # the last reason for trading or not trading

    @property
    def position(self) -> Decimal:
        """Signed, what we hold and can protect and sell."""
        return self.ledger.position - self.dust if self.dust else self.ledger.position

    @property
    def average(self) -> Decimal | None:
        """Average fill price of this trip's entry."""
        return self.ledger.average(self.trip)

    def remaining(self, order: Order) -> Decimal:
        return max(order.qty - self.ledger.filled(order.client_id), ZERO)

    def slot_of(self, client_id: str) -> str | None:
        for slot in SLOTS:
            order = getattr(self, slot)
            if order is not None and order.client_id == client_id:
                return slot
        return None

    def live_orders(self) -> list[Order]:
        return [order for order in (self.entry, self.stop, self.target, self.exit) if order is not None]

    @property
    def phase(self) -> Phase:
        orders = self.live_orders()
        if any(o.status is Status.QUARANTINED or (o.status is Status.UNKNOWN and o.venue_id is None) for o in orders):
            return Phase.UNKNOWN
        if self.position:
            return Phase.EXITING if self.closing else Phase.LONG if self.position > 0 else Phase.SHORT
        if self.halted:
            return Phase.HALTED
        if self.entry:
            return Phase.ENTERING
        return Phase.ARMED if self.armed else Phase.FLAT

    @property
    def in_question(self) -> bool:
        """Some order's fate is not known for certain, or matters at once: ask soon."""
        live = self.live_orders()
        return self.untold or any(o.purpose is Purpose.EXIT or (o.purpose is not Purpose.ENTRY and not o.verified) for o in live)

    @property
    def untold(self) -> bool:
        """An order of ours may have done what we have not heard of: the venue's position cannot be compared with our fills."""
        return any(
            order.status is not Status.WORKING or not self.remaining(order)
            for order in self.live_orders()
            if order.status is not Status.QUARANTINED  # no asking answers that: what it has done, the positions tell
        )
