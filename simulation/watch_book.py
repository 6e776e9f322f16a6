"""One symbol as it truly stands at the venue: what of it is ours, what of ours rests there, and what that leaves bare.

Owns the arithmetic of the oracle, fed with the world's changes in their order. Judges nothing, and never asks the runner.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from state.orders import ZERO, OrderType, Purpose, Side
from state.reports import FillRow, OrderRow, Reported

_AT_MARKET = (OrderType.MARKET, OrderType.STOP)
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class Resting(msgspec.Struct, frozen=True):
    """One working order of ours. `waits`: it has a trigger that no tick has reached."""

    client_id: str
    purpose: Purpose
    row: OrderRow
    waits: bool

    @property
    def left(self) -> Decimal:
        return self.row.qty - (self.row.filled or ZERO)

    @property
    def reduces(self) -> bool:
        """A stop or an exit. A resting limit is neither, whatever it was sent as: it protects nothing and may never trade."""
        if self.purpose is Purpose.ENTRY:
            return False
        stands = self.row.type in _STOPS and self.waits
        return stands or self.row.type in _AT_MARKET or self.purpose is Purpose.EXIT

    def describe(self) -> str:
        price = self.row.trigger_price if self.row.trigger_price is not None else self.row.limit_price
        return f"{self.client_id} ({self.row.side.value.lower()} {self.left}{'' if price is None else f' @ {price}'})"


class Moved(msgspec.Struct, frozen=True):
    """A fill and what it did to our part of the position. `by` None: a trade of somebody else."""

    before: Decimal
    after: Decimal
    by: Purpose | None

    @property
    def turned(self) -> bool:
        """It took us through zero, or from zero to somewhere."""
        return self.before * self.after < 0 or not self.before


class Book:
    """`ours`: fills of our orders. A trade by hand against it takes first from what others hold (`theirs`), then from ours, also
    through zero; one that adds is theirs. So has `state.reconcile` it; here it is added up once more, apart from that."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.ours = self.theirs = ZERO
        self.trips = self.entries = 0
        self.changed_ms = 0  # when anything of ours changed last
        self.opened_ms = 0  # when `ours` left zero last
        self.tied = False  # somebody else and we traded in the same instant: nobody can tell whose trade closed whose
        self._traded_ms: dict[bool, int] = {}  # ours or theirs -> venue time of the last fill
        self.level: Decimal | None = None  # the tightest trigger that stood in this trip
        self.resting: dict[str, Resting] = {}  # ours, by venue order id

    # -- what happens ----------------------------------------------------------------------------------------------------------

    def rests(self, client_id: str, purpose: Purpose, row: OrderRow, waits: bool, mono_ms: int) -> None:
        """An order of ours is new or has changed."""
        self.changed_ms = mono_ms
        if row.state is Reported.WORKING:
            self.resting[row.venue_id] = Resting(client_id, purpose, row, waits)
        else:
            self.resting.pop(row.venue_id, None)

    def filled(self, fill: FillRow, by: Purpose | None, mono_ms: int) -> Moved:
        before, traded = self.ours, fill.qty * fill.side.sign
        self._traded_ms[by is not None] = fill.at_ms
        self.tied = self.tied or self._traded_ms.get(by is None) == fill.at_ms
        if by is None:
            traded = self._share_of(traded)
        self._move(traded, mono_ms)
        return Moved(before, self.ours, by)

    def _share_of(self, traded: Decimal) -> Decimal:
        """What of a trade of somebody else counts for ours."""
        if self.theirs * traded < 0:
            own = min(abs(self.theirs), abs(traded)).copy_sign(traded)
            self.theirs += own
            traded -= own
        if self.ours * traded < 0:
            return traded
        self.theirs += traded
        return ZERO

    def _move(self, traded: Decimal, mono_ms: int) -> None:
        before = self.ours
        self.ours += traded
        if before == self.ours:
            return
        self.changed_ms = mono_ms
        if before * self.ours <= 0:  # a trip has ended or begun, or both
            self.level = None
            self.opened_ms = mono_ms
            self.trips += bool(before)

    def tightened(self, row: OrderRow) -> bool:
        """Takes note of where a stop stands. False: looser than one that stood in this trip before."""
        level, trigger = self.level, row.trigger_price
        assert trigger is not None
        if row.side is not self.reducing_side:
            return True  # of a position that is no more
        if level is not None and looser(row.side, trigger, level):
            return False
        self.level = trigger
        return True

    # -- what follows ----------------------------------------------------------------------------------------------------------

    @property
    def entry_orders(self) -> list[Resting]:
        return [order for order in self.resting.values() if order.purpose is Purpose.ENTRY]

    @property
    def reducing_side(self) -> Side | None:
        return None if not self.ours else Side.SELL if self.ours > 0 else Side.BUY

    @property
    def bare(self) -> Decimal:
        """How much of ours neither a stop nor an exit covers."""
        side = self.reducing_side
        return ZERO if side is None else max(abs(self.ours) - self._reducing(side), ZERO)

    @property
    def leaving(self) -> bool:
        """An exit for all of it is at work: how fast that fills is the market's business."""
        exits = (
            order for order in self.resting.values() if order.purpose is Purpose.EXIT and order.row.side is self.reducing_side
        )
        return sum((order.left for order in exits), ZERO) >= abs(self.ours)

    @property
    def beyond(self) -> Decimal:
        """By how much what would reduce the position exceeds it."""
        if not self.resting:
            return ZERO
        selling = self._reducing(Side.SELL) - max(self.ours, ZERO)
        buying = self._reducing(Side.BUY) - max(-self.ours, ZERO)
        return max(selling, buying, ZERO)

    def _reducing(self, side: Side) -> Decimal:
        return sum((order.left for order in self.resting.values() if order.reduces and order.row.side is side), ZERO)

    def loose_stops(self) -> Iterator[Resting]:
        """Stops that stand looser than one of this trip has stood."""
        for order in self.resting.values():
            trigger = order.row.trigger_price
            if order.purpose is not Purpose.STOP or trigger is None or self.level is None:
                continue
            if order.row.side is self.reducing_side and looser(order.row.side, trigger, self.level):
                yield order


def looser(side: Side, trigger: Decimal, level: Decimal) -> bool:
    """Would a stop on this side at `trigger` give more away than one at `level`?"""
    return (trigger - level) * side.sign > 0
