"""The matching engine with a hand in it: the practice venue's book when a fault script bends how orders fill and end.

Owns what no honest book does: caps on fills, orders that end by themselves, fills out of nowhere. Used only with a script.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from brokers.base import OrderRow, Refused, Reported
from brokers.matching import Change, MatchingEngine, NotFound, _Entry
from state.orders import ZERO, OrderType


class BentBook(MatchingEngine):
    """`caps`: venue order id to the most it may have filled for now. `shares`: … to the most of one fill."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.caps: dict[str, Decimal] = {}
        self.shares: dict[str, Decimal] = {}
        self._reasons: dict[str, str] = {}

    def order(self, venue_id: str) -> OrderRow | None:
        row = super().order(venue_id)
        return None if row is None else self._with_reason(row)

    def orders(self) -> list[OrderRow]:
        return [self._with_reason(row) for row in super().orders()]

    def working(self, venue_id: str) -> OrderRow | None:
        row = self.order(venue_id)
        return row if row is not None and row.state is Reported.WORKING else None

    def force_fill(self, venue_id: str, qty: Decimal, price: Decimal, now_ms: int) -> list[Change]:
        """An execution whatever the market and whatever the order's state; it may go beyond what was ordered."""
        entry = self._entries[venue_id]
        entry.filled += qty
        entry.value += qty * price
        if entry.filled >= entry.qty:
            if entry.state is Reported.WORKING:
                self._close(entry, Reported.FILLED)
            entry.state = Reported.FILLED
        return [self._book_fill(entry, qty, price, now_ms), entry.row()]

    def own_price(self, venue_id: str) -> Decimal | None:
        """What an execution of this order would plausibly cost: its limit, its trigger, else the last price."""
        entry = self._entries[venue_id]
        last = self._last.get(entry.order.symbol)
        if entry.order.type is OrderType.MARKET:
            return last
        return entry.limit or entry.trigger or last

    def end(self, venue_id: str, state: Reported, reason: str) -> OrderRow | None:
        """The venue ends a working order; None when it has ended already."""
        entry = self._entries[venue_id]
        if entry.state is not Reported.WORKING:
            return None
        if reason:
            self._reasons[venue_id] = reason
        self._close(entry, state)
        return self._with_reason(entry.row())

    def _with_reason(self, row: OrderRow) -> OrderRow:
        reason = self._reasons.get(row.venue_id)
        return row if reason is None else replace(row, reason=reason)

    def _take(self, entry: _Entry, price: Decimal, now_ms: int, available: Decimal | None, changes: list[Change]) -> Decimal:
        cap, share = self.caps.get(entry.venue_id), self.shares.get(entry.venue_id)
        bounds = [
            bound for bound in (available, share, None if cap is None else max(cap - entry.filled, ZERO)) if bound is not None
        ]
        return super()._take(entry, price, now_ms, min(bounds, default=None), changes)

    def _find_working(self, venue_id: str, verb: str) -> _Entry:
        entry = self._entries.get(venue_id)
        if entry is None:
            raise NotFound(f"Order {venue_id} not found")
        if entry.state in (Reported.REJECTED, Reported.EXPIRED):
            raise Refused(f"Cannot {verb} order in {entry.state.value.lower()} status")
        return super()._find_working(venue_id, verb)
