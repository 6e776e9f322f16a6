"""What the simulated venue's books show: the truth, as of a while ago, with something missing, twice, or in unclear words.

Owns the faults of an answer that comes. What has happened is in the world and stays as it is; an order that the venue has taken
is shown within the settle window, whatever is held back here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from msgspec.structs import replace

from brokers.base import FillRow, OrderRow, PositionRow, Reported
from simulation.fates import Fates, Kind
from simulation.world import World
from state.orders import ZERO

T = TypeVar("T")
KINDS: dict[str, Kind] = {
    "reads.stale_orders": Kind("the order book as of up to 1.5 s ago", 0.02),
    "reads.stale_order": Kind("one order as of up to 1.5 s ago", 0.02),
    "reads.stale_fills": Kind("the trade book as of up to 3 s ago", 0.02),
    "reads.stale_positions": Kind("the position book as of up to 3 s ago", 0.02),
    "reads.no_order": Kind("asked for by its id, an order of the last 1.5 s is not known", 0.05),
    "reads.no_positions": Kind("the position book is empty", 0.02),
    "reads.zero_positions": Kind("the position book shows 0 of everything", 0.02),
    "reads.unclear": Kind("one order's status is a word that we do not know", 0.02),
    "reads.untold": Kind("the order book tells no filled quantities", 0.02),
    "reads.complete_empty": Kind("complete orders with 0 filled at 0", 0.02),
    "reads.wrong_complete": Kind("a working order shows the word of the row before: complete, at 0", 0.01),
    "reads.twice": Kind("every row of a book twice", 0.01),
    "reads.reversed": Kind("a book in the opposite order", 0.01),
}
STALE_MS = 1_500
LAG_MS = 3_000


class Shown:
    """The venue's answers to reads, as they leave it."""

    def __init__(self, world: World, fates: Fates) -> None:
        self._world, self._fates = world, fates

    def orders(self) -> list[OrderRow]:
        fates = self._fates
        rows = [
            row for row in self._orders_as_of(self._since("reads.stale_orders", STALE_MS)) if not self._is_hidden(row.venue_id)
        ]
        if rows and fates.strikes("reads.unclear"):
            nth = fates.amount(0, len(rows) - 1)
            rows[nth] = replace(rows[nth], state=Reported.UNCLEAR)
        if fates.strikes("reads.untold"):
            rows = [replace(row, filled=None, average=None) for row in rows]
        if fates.strikes("reads.complete_empty"):
            rows = [_empty(row) if row.state is Reported.FILLED else row for row in rows]
        working = [nth for nth, row in enumerate(rows) if row.state is Reported.WORKING]
        if working and fates.strikes("reads.wrong_complete"):
            nth = working[fates.amount(0, len(working) - 1)]
            rows[nth] = replace(rows[nth], state=Reported.FILLED, filled=None, average=ZERO)
        return self._listed(rows)

    def order(self, venue_id: str) -> OrderRow | None:
        history, fates = self._world.history.get(venue_id), self._fates
        if history is None or self._is_hidden(venue_id):
            return None
        young = self._world.mono_ms - history[0][0] <= STALE_MS
        if young and fates.strikes("reads.no_order"):
            self._world.troubled(0)
            return None
        row = _as_of(history, self._since("reads.stale_order", STALE_MS))
        if row is not None and fates.strikes("reads.unclear"):
            return replace(row, state=Reported.UNCLEAR)
        return row

    def fills(self) -> list[FillRow]:
        rows, since_ms = self._world.engine.fills(), self._since("reads.stale_fills", LAG_MS)
        return self._listed(rows if since_ms is None else [row for row in rows if row.at_ms <= self._session_ms(since_ms)])

    def positions(self) -> list[PositionRow]:
        fates = self._fates
        if fates.strikes("reads.no_positions"):
            return []
        rows, since_ms = self._world.engine.positions(), self._since("reads.stale_positions", LAG_MS)
        if since_ms is not None:
            rows = [PositionRow(row.symbol, row.qty - self._traded_after(row.symbol, since_ms)) for row in rows]
        if fates.strikes("reads.zero_positions"):
            rows = [PositionRow(row.symbol, ZERO) for row in rows]
        return rows

    def _since(self, kind: str, most_ms: int) -> int | None:
        """None: as of now."""
        if not self._fates.strikes(kind):
            return None
        age_ms = self._fates.amount(50, most_ms)
        self._world.troubled(0)
        return self._world.mono_ms - age_ms

    def _orders_as_of(self, mono_ms: int | None) -> list[OrderRow]:
        if mono_ms is None:
            return self._world.engine.orders()
        rows = (_as_of(history, mono_ms) for history in self._world.history.values())
        return [row for row in rows if row is not None]

    def _is_hidden(self, venue_id: str) -> bool:
        return self._world.mono_ms < self._world.hidden.get(venue_id, 0)

    def _session_ms(self, mono_ms: int) -> int:
        return self._world.origin_ms + int(mono_ms * self._world.speed)

    def _traded_after(self, symbol: str, mono_ms: int) -> Decimal:
        fills = [fill for fill in self._world.engine.fills() if fill.symbol == symbol]
        return sum((fill.qty * fill.side.sign for fill in fills if fill.at_ms > self._session_ms(mono_ms)), ZERO)

    def _listed(self, rows: list[T]) -> list[T]:
        if self._fates.strikes("reads.reversed"):
            rows = rows[::-1]
        return rows + rows if self._fates.strikes("reads.twice") else rows


def _as_of(history: list[tuple[int, OrderRow]], mono_ms: int | None) -> OrderRow | None:
    """What was said of it then; None before it was there."""
    if mono_ms is None:
        return history[-1][1]
    return next((row for since_ms, row in reversed(history) if since_ms <= mono_ms), None)


def _empty(row: OrderRow) -> OrderRow:
    return replace(row, filled=ZERO, average=ZERO)
