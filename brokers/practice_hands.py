"""The user of the practice venue, who trades by phone behind the runner's back: closes, reduces, adds, reverses, places orders.

Owns what the user does and when. Their orders are real ones in the venue's book, with the label `phone`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.base import OrderRow, Refused
from brokers.practice_dial import Hit, Occasion
from brokers.practice_fault_kinds import Where
from state.orders import ZERO, Order, OrderType, Purpose, Side

if TYPE_CHECKING:
    from brokers.practice_bent_venue import BentVenue

_AWAY = Decimal("0.95")  # of the last price: a buy limit there rests


class Hands:
    def __init__(self, venue: BentVenue) -> None:
        self._venue = venue
        self._dial = venue.dial
        self._timed = any(fault.from_ms is not None for fault in self._dial.faults(Where.HAND))
        self._not_begun: set[str] = set(venue.instruments) if self._dial.has(Where.START) else set()
        self._deeds: dict[str, Callable[[Hit, str], str]] = {
            "manual_close": self._close,
            "manual_reduce": self._reduce,
            "manual_add": self._add,
            "manual_reverse": self._reverse,
            "manual_order": self._place,
        }

    def before_the_start(self) -> None:
        """What is there before anybody trades. A symbol without a known price waits for its first tick."""
        for symbol in sorted(self._not_begun):
            self._begin(symbol)

    def after_fill(self, row: OrderRow) -> None:
        """Told of each fill of an order that came as a request."""
        if self._dial.has(Where.HAND) and self._venue.held(row.symbol):
            self._act(Occasion("", row.symbol, row.side.value, row.label))

    def on_tick(self, symbol: str) -> None:
        if symbol in self._not_begun:
            self._begin(symbol)
        if self._timed and self._venue.held(symbol) and self._dial.opened(Where.HAND, symbol):
            self._act(Occasion("", symbol))

    def _begin(self, symbol: str) -> None:
        venue = self._venue
        known = venue.book.last(symbol) or venue.prices[symbol].previous_close
        if not known and not all(fault.price for fault in self._dial.faults(Where.START)):
            return
        self._not_begun.discard(symbol)
        for hit in self._dial.strikes(Where.START, Occasion("", symbol)):
            qty = hit.fault.qty or venue.instruments[symbol].lot_size
            if hit.fault.kind == "foreign_order":
                self._say(hit, self._resting(symbol, qty, hit.fault.price or self._away(symbol, known)))
            else:
                self._say(hit, self._trade(symbol, qty, hit.fault.price or known))

    def _act(self, occasion: Occasion) -> None:
        for hit in self._dial.strikes(Where.HAND, occasion):
            self._venue.later(hit.fault.delay_s, lambda hit=hit: self._do(hit, occasion.symbol))  # type: ignore[misc]

    def _do(self, hit: Hit, symbol: str) -> None:
        try:
            self._say(hit, self._deeds[hit.fault.kind](hit, symbol))
        except Refused as refusal:
            self._say(hit, f"refused: {refusal}")

    def _say(self, hit: Hit, what: str) -> None:
        """Told when it is done, at the time it is done; nothing to do is as if the fault had not struck."""
        if not what:
            self._dial.withdraw(hit)
            return
        hit.strike.at_ms = self._venue.now_ms()
        self._dial.note(hit, what)

    def _close(self, hit: Hit, symbol: str) -> str:
        return self._trade(symbol, -self._venue.held(symbol))

    def _reduce(self, hit: Hit, symbol: str) -> str:
        held = self._venue.held(symbol)
        instrument = self._venue.instruments[symbol]
        half = max(instrument.quantity_down(abs(held) / 2), instrument.lot_size)
        return self._trade(symbol, -min(hit.fault.qty or half, abs(held)).copy_sign(held))

    def _add(self, hit: Hit, symbol: str) -> str:
        held = self._venue.held(symbol)
        return self._trade(symbol, (hit.fault.qty or abs(held)).copy_sign(held)) if held else ""

    def _reverse(self, hit: Hit, symbol: str) -> str:
        held = self._venue.held(symbol)
        return self._trade(symbol, -(hit.fault.qty or 2 * abs(held)).copy_sign(held)) if held else ""

    def _place(self, hit: Hit, symbol: str) -> str:
        last = self._venue.book.last(symbol) or ZERO
        qty = hit.fault.qty or self._venue.instruments[symbol].lot_size
        return self._resting(symbol, qty, hit.fault.price or self._away(symbol, last))

    def _away(self, symbol: str, price: Decimal) -> Decimal:
        return self._venue.instruments[symbol].floor(price * _AWAY)

    def _trade(self, symbol: str, signed_qty: Decimal, price: Decimal | None = None) -> str:
        if not signed_qty:
            return ""
        average = next((row.average for row in self._venue.book.positions() if row.symbol == symbol), None)
        price = price or self._venue.book.last(symbol) or average
        side = Side.BUY if signed_qty > 0 else Side.SELL
        venue_id = self._venue.take_by_hand(_order(symbol, side, abs(signed_qty), None), price)
        return f"{venue_id} {side.value} {abs(signed_qty)} @ {price}"

    def _resting(self, symbol: str, qty: Decimal, price: Decimal) -> str:
        venue_id = self._venue.take_by_hand(_order(symbol, Side.BUY, qty, price), None)
        return f"{venue_id} BUY {qty} limit {price}"


def _order(symbol: str, side: Side, qty: Decimal, limit: Decimal | None) -> Order:
    kind = OrderType.MARKET if limit is None else OrderType.LIMIT
    return Order("", symbol, Purpose.ENTRY, side, kind, qty, limit)
