"""What a venue shows us: rows of its order book, trade book and position book, in one shape for every venue.

Adapters make these; the machine and reconciliation read them. A field that a venue does not fill is None, never a default.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import msgspec

from state.orders import OrderType, Side


class Reported(Enum):
    """What a venue says of an order. UNCLEAR is any word that is not in the adapter's table: look, never default."""

    WORKING = "WORKING"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNCLEAR = "UNCLEAR"

    @property
    def closed(self) -> bool:
        return self not in (Reported.WORKING, Reported.UNCLEAR)


class OrderRow(msgspec.Struct, frozen=True):
    """One order as the venue shows it, ours or not.

    `filled` is cumulative; None means this venue or message does not say (never 0 by default). `average` likewise. `at_ms` is
    the venue's time of placing where it says one.
    """

    venue_id: str
    symbol: str
    side: Side
    state: Reported
    qty: Decimal
    type: OrderType | None = None
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    filled: Decimal | None = None
    average: Decimal | None = None
    client_id: str | None = None
    at_ms: int | None = None
    label: str = ""
    reason: str = ""


class FillRow(msgspec.Struct, frozen=True):
    """One execution as the venue shows it. `trade_id` is unique within the account and day (made by the adapter, from the row's
    own facts, where the venue has none). `fee` in `fee_currency`; 0 where the venue reports none."""

    trade_id: str
    venue_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    at_ms: int
    fee: Decimal = Decimal(0)
    fee_currency: str = ""


class PositionRow(msgspec.Struct, frozen=True):
    """Net quantity of one symbol in our product; signed. A flat row is a fact, a missing row is 0."""

    symbol: str
    qty: Decimal
    average: Decimal | None = None
