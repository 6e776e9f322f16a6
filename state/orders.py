"""Orders as values: what we asked a venue for and how far that has come. Nothing here changes; a change is a new value."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import msgspec

ZERO = Decimal(0)


class Side(Enum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(Enum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"  # a market order once the trigger trades (SL-M)
    STOP_LIMIT = "STOP_LIMIT"  # a limit order once the trigger trades (SL)


class Purpose(Enum):
    """Which slot an order fills. The value is the letter in the client order id."""

    ENTRY = "E"
    STOP = "S"
    TARGET = "T"
    EXIT = "X"


class Status(Enum):
    """How far an order of ours has come, as far as we can know. An ended order has no status: its slot is empty."""

    INTENT = "INTENT"  # decided, not yet answered
    WORKING = "WORKING"  # live at the venue
    REPLACING = "REPLACING"  # an amend was decided; the order is live at the old or the new values
    CANCELLING = "CANCELLING"  # a cancel was decided; the order may still fill
    UNKNOWN = "UNKNOWN"  # asked, no usable answer: only the venue's word leads out of here
    QUARANTINED = "QUARANTINED"  # could not be resolved: a person must look


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order of ours. Prices on the tick grid; quantities above 0.

    `created_ms` is session time. `changed_ms`, `retry_ms` and `late_ms` are monotonic: when we last changed our mind about this
    order, before when nothing is to be asked for it again, and until when an amend without an answer may still land.
    """

    client_id: str
    symbol: str
    purpose: Purpose
    side: Side
    type: OrderType
    qty: Decimal
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    status: Status = Status.INTENT
    venue_id: str | None = None
    verified: bool = False  # the venue's own book has shown it as we asked for it
    cancel_asked: bool = False
    asked_qty: Decimal | None = None  # of an amend that nobody has seen done: what we asked for
    asked_trigger: Decimal | None = None
    attempts: int = 0  # failed asks in a row
    strikes: int = 0  # answers in a row that disagree with what we believe
    created_ms: int = 0
    changed_ms: int = 0
    retry_ms: int = 0
    late_ms: int = 0  # an amend has no answer: until then it may still land (0: none is out)
    repeats: bool = False  # that amend asks again for what was acknowledged and not done: either of the two may be what lands
    reason: str = ""
    baseline: tuple[str, ...] = ()  # foreign venue order ids that already rested when this was decided

    def describe(self) -> str:
        """The order as a trader says it: "buy stop 5 @ 731.15"."""
        words = {OrderType.MARKET: "market", OrderType.LIMIT: "limit", OrderType.STOP: "stop", OrderType.STOP_LIMIT: "stop"}
        price = self.trigger_price if self.trigger_price is not None else self.limit_price
        at = "" if price is None else f" @ {price}"
        return f"{self.side.value.lower()} {words[self.type]} {self.qty}{at}"
