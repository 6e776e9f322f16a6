"""The broker of a simulated process: the contract of `brokers.base` over the world's book, with the network in between.

Owns the faults of orders and transport: what is refused, lost before or after it was done, late, or told wrongly. Every call
is a seam: it takes time, other threads go on meanwhile, and the process may die before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import TypeVar

from brokers.base import Capabilities, FillRow, OrderRow, PositionRow, Refused, SessionHours
from simulation.fates import Fates
from simulation.scheduler import Scheduler
from simulation.world import World
from state.instrument import Instrument
from state.orders import Order

T = TypeVar("T")
SETTLE_MS = 10_000
THERE_MS, BACK_MS = 20, 20  # a calm network


class SimBroker:
    """A `Broker` without client order ids, like OpenAlgo's: an unanswered order is found by what it looks like."""

    capabilities = Capabilities(
        client_ids=False, replace=True, native_stops=True, oco=False, order_stream=True, settle_window_s=SETTLE_MS / 1000
    )

    def __init__(self, world: World, scheduler: Scheduler, fates: Fates) -> None:
        self._world, self._scheduler, self._fates = world, scheduler, fates

    def check(self) -> str:
        return "analyze"

    def submit(self, order: Order) -> str:
        return self._call("submit", lambda: self._world.submit(order))

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        self._call("replace", lambda: self._world.replace(order.venue_id or "", qty, trigger_price, limit_price))

    def cancel(self, order: Order) -> None:
        self._call("cancel", lambda: self._world.cancel(order.venue_id or ""))

    def order(self, order: Order) -> OrderRow | None:
        return self._call("order", lambda: self._world.engine.order(order.venue_id or ""))

    def orders(self) -> list[OrderRow]:
        return self._call("orders", self._world.engine.orders)

    def fills(self) -> list[FillRow]:
        return self._call("fills", self._world.engine.fills)

    def positions(self) -> list[PositionRow]:
        return self._call("positions", self._world.engine.positions)

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        last = self._world.engine.last
        return self._call("quotes", lambda: {s: price for s in symbols if (price := last(s)) is not None})

    def instrument(self, symbol: str) -> Instrument:
        if symbol not in self._world.instruments:
            raise Refused(f"no instrument {symbol}")
        return self._world.instruments[symbol]

    def session_hours(self, day: date) -> SessionHours | None:
        return None

    def close(self) -> None:
        """Nothing is open."""

    def _call(self, kind: str, act: Callable[[], T]) -> T:
        self._scheduler.sleep(THERE_MS)
        try:
            return act()
        finally:
            self._scheduler.sleep(BACK_MS)
