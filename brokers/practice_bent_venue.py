"""The practice venue with a fault script: orders that do not do as they were told, and books that lag.

Owns the faults of the book; those of the way there and back are in practice_seam.py, of the stream in practice_bent_stream.py, of
the user in practice_hands.py. What it bends is what happens or what is shown: the record of the truth stays exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal

from msgspec.structs import replace

from brokers.base import FillRow, OrderRow, PositionRow, Refused, Reported
from brokers.matching import Change
from brokers.practice import PracticeSpec
from brokers.practice_book import BentBook
from brokers.practice_dial import Dial, Hit, Occasion
from brokers.practice_fault_kinds import PLACE, Where
from brokers.practice_hands import Hands
from brokers.practice_truth import API, TrueFill, Version
from brokers.practice_venue import Venue
from brokers.tape import TapeReport, TapeTick
from state.orders import ZERO, Order, OrderType, Side

_LAST_WORDS = {"rejected": Reported.REJECTED, "cancelled": Reported.CANCELLED, "expired": Reported.EXPIRED}


class StaleRow(OrderRow, frozen=True):
    """An order as it was: whether it waited for its trigger is not in the book any more."""

    waited: bool = False


class BentVenue(Venue):
    """A venue with a dial. `later` is how its faults wait: real seconds, on the event loop."""

    BOOK = BentBook

    def __init__(self, spec: PracticeSpec, ticks: Iterable[TapeTick], reports: list[TapeReport]) -> None:
        super().__init__(spec, ticks, reports)
        assert isinstance(self.engine, BentBook)
        self.book = self.engine
        self.dial = Dial(spec.faults, spec.fault_seed, spec.open_ms, self.now_ms, self.record)
        self._gaps: dict[str, float] = {}  # venue order id to the seconds between two of its fills
        self._lags: dict[str, float] = {}  # … to when its trades are shown (loop time)
        self._overfilled: set[str] = set()
        self._seen: dict[str, tuple[int, int]] = {}  # what the last honest answer of a path knew
        self._hands = Hands(self)
        self._hands.before_the_start()

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, act)
        else:
            act()

    def submit(self, order: Order, label: str) -> str:
        occasion = Occasion(PLACE, order.symbol, order.side.value, label)
        retyped = self.dial.strike(Where.RETYPE, occasion) if order.type is OrderType.STOP else None
        if retyped is not None:
            order = replace(order, type=OrderType.LIMIT, limit_price=order.trigger_price, trigger_price=None)
        hits = self.dial.strikes(Where.ACCEPT, occasion)
        try:
            venue_id = super().submit(order, label)
        except Refused:
            for hit in (retyped, *hits):
                if hit is not None:
                    self.dial.withdraw(hit)
            raise
        if retyped is not None:
            self._retype(retyped, venue_id)
        for hit in hits:
            (self._share if hit.fault.kind == "partial_fills" else self._doom)(hit, venue_id)
        return venue_id

    def tick(self, tick: TapeTick) -> None:
        super().tick(tick)
        self._hands.on_tick(tick.symbol)

    def force_fill(self, venue_id: str, qty: Decimal | None = None) -> bool:
        """Fill an order out of nowhere, all of it unless told how much; false where no price is known or nothing is left."""
        row, price = self._row(venue_id), self.book.own_price(venue_id)
        left = row.qty - (row.filled or ZERO)
        qty = left if qty is None else min(qty, left)
        if price is None or qty <= 0:
            return False
        self._tell_all(self.book.force_fill(venue_id, qty, price, self.now_ms()))
        return True

    def take_by_hand(self, order: Order, price: Decimal | None) -> str:
        """An order of the user's, past every check of ours; filled at `price` where one is given."""
        venue_id = self.book.submit(order, self.now_ms(), "phone")
        self._write(self._row(venue_id), "hand")
        self.on_order(self._row(venue_id))
        if price is not None:
            self._tell_all(self.book.force_fill(venue_id, order.qty, price, self.now_ms()))
        return venue_id

    def end(self, venue_id: str, state: Reported, reason: str) -> bool:
        row = self.book.end(venue_id, state, reason)
        if row is not None:
            self._tell(row)
        return row is not None

    # Orders

    def _retype(self, hit: Hit, venue_id: str) -> None:
        if hit.fault.word == "rests":
            self.book.caps[venue_id] = ZERO
        self.dial.note(hit, f"{venue_id} SL-M became LIMIT and {hit.fault.word}")

    def _share(self, hit: Hit, venue_id: str) -> None:
        fault = hit.fault
        assert fault.qty is not None
        self.book.shares[venue_id] = fault.qty
        if fault.delay_s:
            self._gaps[venue_id] = fault.delay_s
        self.dial.note(hit, f"{venue_id} by {fault.qty}")

    def _doom(self, hit: Hit, venue_id: str) -> None:
        fault = hit.fault
        self.book.caps[venue_id] = fault.qty or ZERO
        self._gaps.pop(venue_id, None)
        reason = fault.reason or f"{fault.word.capitalize()} by the exchange"
        self.dial.note(hit, f"{venue_id} will be {fault.word}")
        self.later(fault.delay_s, lambda: void(self.end(venue_id, _LAST_WORDS[fault.word], reason)))

    def _tell_all(self, changes: list[Change]) -> None:
        super()._tell_all(changes)
        for change in changes:
            if isinstance(change, FillRow):
                self._after_fill(change)

    def _after_fill(self, fill: FillRow) -> None:
        row, order = self._row(fill.venue_id), self.record.known(fill.venue_id)
        if order.origin != API:
            return
        if row.state is Reported.WORKING:
            self._go_on_filling(row)
        elif row.state is Reported.FILLED and fill.venue_id not in self._overfilled:
            self._overfill(row, fill)
        self._hands.after_fill(row)

    def _go_on_filling(self, row: OrderRow) -> None:
        gap_s = self._gaps.get(row.venue_id)
        if gap_s is not None:
            self.book.caps[row.venue_id] = row.filled or ZERO
            self.later(gap_s, lambda: self._open_again(row))
        elif row.type is OrderType.MARKET:
            self._match_idle_later(row.symbol, row.venue_id)

    def _open_again(self, row: OrderRow) -> None:
        self.book.caps.pop(row.venue_id, None)
        if row.type is OrderType.MARKET:
            self._match_idle(row.symbol, row.venue_id)

    def _overfill(self, row: OrderRow, fill: FillRow) -> None:
        hit = self.dial.strike(Where.OVERFILL, _occasion(PLACE, row))
        if hit is not None:
            self._overfilled.add(row.venue_id)
            qty = hit.fault.qty or self.instruments[row.symbol].lot_size
            self.dial.note(hit, f"{row.venue_id} {qty} more than {row.qty}")
            self._tell_all(self.book.force_fill(row.venue_id, qty, fill.price, self.now_ms()))

    def _tell(self, row: OrderRow) -> None:
        self._write(row)
        if row.state is Reported.FILLED and row.venue_id not in self._lags:
            hit = self.dial.strike(Where.LAG, _occasion(PLACE, row))
            if hit is not None:
                self._lags[row.venue_id] = asyncio.get_running_loop().time() + hit.fault.lasts_s
                self.dial.note(hit, f"{row.venue_id} without a trade row")
        self.on_order(self._lagged(row))

    # What the books show

    def shown_orders(self) -> list[OrderRow]:
        return self._stale_orders("orderbook", "orderbook", [self._lagged(row) for row in self.book.orders()])

    def shown_order(self, venue_id: str) -> OrderRow | None:
        row = self.book.order(venue_id)
        return None if row is None else self._stale_orders("orderstatus", venue_id, [self._lagged(row)])[0]

    def shown_fills(self) -> list[FillRow]:
        return [fill for fill in self.book.fills() if not self._is_lagging(fill.venue_id)]

    def shown_positions(self, path: str) -> list[PositionRow]:
        rows = self.book.positions()
        held = [row for row in rows if row.qty]
        struck = self.dial.strike_rows(Where.POSITIONS, "empty_positions", [Occasion(path, row.symbol) for row in held])
        if struck is not None:
            hit, places = struck
            hidden = {held[place].symbol for place in places}
            self.dial.note(hit, f"{hit.fault.word}: {', '.join(sorted(hidden))}")
            if hit.fault.word == "empty":
                return [row for row in rows if row.symbol not in hidden]
            return [PositionRow(row.symbol, ZERO, None) if row.symbol in hidden else row for row in rows]
        return self._stale_positions(path, rows)

    def waits(self, row: OrderRow) -> bool:
        return row.waited if isinstance(row, StaleRow) else super().waits(row)

    def _stale_orders(self, path: str, key: str, rows: list[OrderRow]) -> list[OrderRow]:
        if not self.dial.has(Where.ORDERS):
            return rows
        changed = self.record.changed_since(self._seen.get(key, (0, 0))[0])
        news = [row for row in rows if row.venue_id in changed and len(self.record.known(row.venue_id).history) > 1]
        struck = self.dial.strike_rows(Where.ORDERS, "stale_orders", [_occasion(path, row) for row in news])
        if struck is None:
            self._seen[key] = self.record.marks
            return rows
        hit, places = struck
        old = {news[place].venue_id for place in places}
        self.dial.note(hit, f"{', '.join(sorted(old))} as before the last change")
        return [self._before(row) if row.venue_id in old else row for row in rows]

    def _before(self, row: OrderRow) -> StaleRow:
        version: Version = self.record.known(row.venue_id).history[-2]
        return StaleRow(
            venue_id=row.venue_id,
            symbol=row.symbol,
            side=row.side,
            state=version.state,
            qty=version.qty,
            type=version.type,
            limit_price=version.limit_price,
            trigger_price=version.trigger_price,
            filled=version.filled,
            average=row.average if version.filled else ZERO,
            at_ms=row.at_ms,
            label=row.label,
            waited=version.waits,
        )

    def _stale_positions(self, path: str, rows: list[PositionRow]) -> list[PositionRow]:
        if not self.dial.has(Where.POSITIONS):
            return rows
        traded = self.record.filled_since(self._seen.get(path, (0, 0))[1])
        news = [row for row in rows if row.symbol in traded]
        struck = self.dial.strike_rows(Where.POSITIONS, "stale_positions", [Occasion(path, row.symbol) for row in news])
        if struck is None:
            self._seen[path] = self.record.marks
            return rows
        hit, places = struck
        old = {news[place].symbol for place in places}
        self.dial.note(hit, f"{', '.join(sorted(old))} as before the last fill")
        return [_before_fill(row, traded[row.symbol]) if row.symbol in old else row for row in rows]

    def _lagged(self, row: OrderRow) -> OrderRow:
        """Complete, with nothing to show for it."""
        return replace(row, filled=ZERO, average=ZERO) if self._is_lagging(row.venue_id) else row

    def _is_lagging(self, venue_id: str) -> bool:
        until_s = self._lags.get(venue_id)
        return until_s is not None and asyncio.get_running_loop().time() < until_s


def _before_fill(row: PositionRow, fill: TrueFill) -> PositionRow:
    qty = row.qty - fill.qty * (1 if fill.side is Side.BUY else -1)
    return PositionRow(row.symbol, qty, (row.average or fill.price) if qty else None)


def _occasion(path: str, row: OrderRow) -> Occasion:
    return Occasion(path, row.symbol, row.side.value, row.label)


def void(answer: object) -> None:
    """For a callback whose answer nobody wants."""
