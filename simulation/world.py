"""Everything outside the simulated process: the market, the venue's book, the network between. It outlives every crash.

Acts only when time moves on (`Outside` of the scheduler) or when the process calls; between two steps of the process nothing
changes. Owns the truth that the oracle judges by: what truly rests, filled and is held. Faults live in whoever carries words
between the two, `sim_broker`, `sim_venue`, `sim_shown` and `sim_stream`, and in `trouble`; the book itself never errs: whatever
is in it has happened, if only because a fault had it happen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

import msgspec

from brokers.base import FillRow, OrderRow, Refused, Reported
from brokers.matching import Change
from brokers.practice_book import BentBook
from simulation.fates import Fates
from state.instrument import Instrument
from state.orders import ZERO, Order


class Print(msgspec.Struct, frozen=True):
    """One trade of the market, `at_ms` in the world's monotonic time. `available`: how much of it an order may have."""

    at_ms: int
    symbol: str
    price: Decimal
    available: Decimal | None = None


class Watcher(Protocol):
    """Sees every change of the truth, at once and in order."""

    def placed(self, order: Order, row: OrderRow) -> None: ...
    def changed(self, change: Change) -> None: ...


class Listening(Protocol):
    """The stream's server side: carries prices and order updates to whoever is connected."""

    def price(self, print_: Print) -> None: ...
    def update(self, change: Change) -> None: ...


class World:
    """`mono_ms` is the world's own time; each process's monotonic clock is set by it. `origin_ms`, `speed` make session time."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        prints: list[Print],
        fates: Fates,
        *,
        origin_ms: int,
        speed: float,
        fee_rate: Decimal = Decimal(0),
    ) -> None:
        self.instruments, self.fates, self.origin_ms, self.speed = instruments, fates, origin_ms, speed
        self.engine = BentBook(instruments, fee_rate=fee_rate, first_id=260000001)
        self.mono_ms = 0
        self.watchers: list[Watcher] = []
        self.stream: Listening | None = None
        self.ticks = 0
        self.placed: dict[str, Order] = {}  # venue order id -> as it was sent
        self.foreign: dict[str, Order] = {}  # venue order id -> as somebody else placed it: never ours to touch
        self.outages: dict[str, int] = {}  # what keeps the venue from serving us -> until when, monotonic
        self.hidden: dict[str, int] = {}  # venue order id -> until when no book shows it, monotonic
        self.history: dict[str, list[tuple[int, OrderRow]]] = {}  # venue order id -> every word on it, and since when, monotonic
        self.troubled_until_ms = 0  # monotonic: until then something is being done to us that no runner could prevent
        self._troubled_in: dict[str, int] = {}  # symbol, "" for all -> the same
        self._numbers = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        for print_ in prints:
            self.at(print_.at_ms, lambda print_=print_: self._trade(print_))  # type: ignore[misc]

    # -- time ----------------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Session time."""
        return self.origin_ms + int(self.mono_ms * self.speed)

    def at(self, mono_ms: int, happen: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (mono_ms, self._numbers, happen))

    def later(self, delay_ms: int, happen: Callable[[], None]) -> None:
        self.at(self.mono_ms + delay_ms, happen)

    def troubled(self, for_ms: int, symbol: str = "") -> None:
        """A fault has just struck whose effect lasts so long, in one symbol or in all: the oracle's patience begins after it."""
        until_ms = self.mono_ms + for_ms
        self.troubled_until_ms = max(self.troubled_until_ms, until_ms)
        self._troubled_in[symbol] = max(self._troubled_in.get(symbol, 0), until_ms)

    def troubled_for(self, symbol: str) -> int:
        """Until when there is trouble that may be one of this symbol's."""
        return max(self._troubled_in.get("", 0), self._troubled_in.get(symbol, 0)) if symbol else self.troubled_until_ms

    def next_ms(self) -> int | None:
        return self._due[0][0] if self._due else None

    def act(self, mono_ms: int) -> None:
        while self._due and self._due[0][0] <= mono_ms:
            at_ms, _, happen = heapq.heappop(self._due)
            self.mono_ms = max(self.mono_ms, at_ms)
            happen()
        self.mono_ms = max(self.mono_ms, mono_ms)

    # -- the book ------------------------------------------------------------------------------------------------------------

    def submit(self, order: Order, booked: Order | None = None) -> str:
        """Raises Refused, as everything here that asks the book. The venue does not learn our client order id.

        `booked`: what the order became on its way, where that is not what was sent.
        """
        venue_id = self.engine.submit(msgspec.structs.replace(booked or order, client_id=""), self.now_ms())
        row = self.engine.order(venue_id)
        assert row is not None
        self.placed[venue_id] = order
        for watcher in self.watchers:
            watcher.placed(order, row)
        self._tell(row)
        return venue_id

    def by_hand(self, order: Order) -> str:
        """An order of somebody else in this account. Watchers hear of it as a change; `foreign` has it by then."""
        venue_id = self.engine.submit(msgspec.structs.replace(order, client_id=""), self.now_ms())
        self.foreign[venue_id] = order
        self._changed([self.row(venue_id)])
        return venue_id

    def replace(self, venue_id: str, qty: Decimal, trigger: Decimal | None, limit: Decimal | None) -> None:
        self._changed([self.engine.replace(venue_id, qty, trigger, limit, self.now_ms())])

    def cancel(self, venue_id: str) -> None:
        self._changed([self.engine.cancel(venue_id, self.now_ms())])

    def end(self, venue_id: str, state: Reported, reason: str) -> bool:
        """The venue ends a working order unasked; False when it has ended already."""
        row = self.engine.end(venue_id, state, reason)
        if row is not None:
            self._changed([row])
        return row is not None

    def fill(self, venue_id: str, qty: Decimal) -> bool:
        """So much of an order, or what is left of it, trades now at its own price, in whatever state it is. False: no price."""
        row, price = self.row(venue_id), self.engine.own_price(venue_id)
        qty = min(qty, row.qty - (row.filled or ZERO))
        if price is None or qty <= 0:
            return False
        self._changed(self.engine.force_fill(venue_id, qty, price, self.now_ms()))
        return True

    def row(self, venue_id: str) -> OrderRow:
        row = self.engine.order(venue_id)
        if row is None:
            raise Refused(f"Order {venue_id} not found")
        return row

    def held(self, symbol: str) -> Decimal:
        """What the account holds of it, ours and theirs."""
        return next((row.qty for row in self.engine.positions() if row.symbol == symbol), ZERO)

    def _trade(self, print_: Print) -> None:
        self.ticks += 1
        changes = self.engine.tick(print_.symbol, print_.price, self.now_ms(), print_.available)
        if self.stream is not None:
            self.stream.price(print_)
        self._changed(changes)

    def _changed(self, changes: list[Change]) -> None:
        for change in changes:
            for watcher in self.watchers:
                watcher.changed(change)
            self._tell(change)

    def _tell(self, change: OrderRow | FillRow) -> None:
        if isinstance(change, OrderRow):
            self.history.setdefault(change.venue_id, []).append((self.mono_ms, change))
        if self.stream is not None:
            self.stream.update(change)
