"""What happened, in the past tense: the only things that change a snapshot. Events are facts; they ask for nothing.

`mono_ms` is monotonic (ages, retries), `now_ms` is session time (windows, cutoff). A tick's `at_ms` is the venue's time.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import msgspec

from state.ledger import Fill
from state.orders import Order
from state.reports import OrderRow
from state.strategy import Bar


class Act(Enum):
    """What was asked of the venue when an answer came, or did not."""

    SUBMIT = "submit"
    REPLACE = "replace"
    CANCEL = "cancel"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    mono_ms: int
    now_ms: int


class Tick(Event, frozen=True, kw_only=True):
    """A price that may matter. `now_ms` is the venue's time of the print."""

    price: Decimal


class BarClosed(Event, frozen=True, kw_only=True):
    bar: Bar


class Heartbeat(Event, frozen=True, kw_only=True):
    """Time has passed."""


class Accepted(Event, frozen=True, kw_only=True):
    client_id: str
    venue_id: str


class Acknowledged(Event, frozen=True, kw_only=True):
    """A replace or a cancel was answered yes: asked for, not yet a fact."""

    client_id: str
    act: Act


class WasRefused(Event, frozen=True, kw_only=True):
    client_id: str
    act: Act
    reason: str


class NotSent(Event, frozen=True, kw_only=True):
    """Provably nothing left. `again` is false when nobody wants it any more or somebody of ours denied it."""

    client_id: str
    act: Act
    reason: str
    again: bool = True


class WentUnanswered(Event, frozen=True, kw_only=True):
    client_id: str
    act: Act
    reason: str
    venue_id: str | None = None


class OrderSeen(Event, frozen=True, kw_only=True):
    """The venue's row of an order of ours. `asked_ms`: monotonic time at which the question left (or the message came)."""

    client_id: str
    row: OrderRow
    asked_ms: int
    source: str = "poll"


class FillSeen(Event, frozen=True, kw_only=True):
    fill: Fill


class ProvedAbsent(Event, frozen=True, kw_only=True):
    """An unanswered order did not reach the venue: its settle window is over and nothing of it is there."""

    client_id: str


class WasQuarantined(Event, frozen=True, kw_only=True):
    """What an unanswered order became cannot be told: a person must look."""

    client_id: str
    reason: str


class PositionSeen(Event, frozen=True, kw_only=True):
    """The venue's net quantity, and every execution in the symbol that no order of ours explains, oldest first.

    `own`: (venue's time, signed quantity) of our executions after the first of theirs that was not counted yet.
    """

    qty: Decimal
    asked_ms: int
    strangers: tuple[Fill, ...] = ()
    own: tuple[tuple[int, Decimal], ...] = ()


class OrderMissing(Event, frozen=True, kw_only=True):
    """Asked for by its id, the venue says that it knows no such order."""

    client_id: str
    asked_ms: int


class OrphanSeen(Event, frozen=True, kw_only=True):
    """An order of ours works at the venue that no slot holds."""

    order: Order
    asked_ms: int


class ForeignSeen(Event, frozen=True, kw_only=True):
    """Orders in this symbol that are not ours rest at the venue: none of them can be taken for one we send from now on."""

    venue_ids: tuple[str, ...]


class EntriesOff(Event, frozen=True, kw_only=True):
    """Somebody forbids new entries until they take it back: stale feed, journal, watchdog, recovery."""

    source: str
    reason: str


class EntriesOn(Event, frozen=True, kw_only=True):
    source: str


class FlattenAsked(Event, frozen=True, kw_only=True):
    reason: str


class HaltAsked(Event, frozen=True, kw_only=True):
    reason: str


class ResumeAsked(Event, frozen=True, kw_only=True):
    """A person has looked."""


class Restarted(Event, frozen=True, kw_only=True):
    """The process that decided all this is gone; monotonic times mean nothing any more."""
