"""Paper trading: the live prices of some feed, fills from the matching engine, in this process. No account is touched.

Also the venue of a replay. The engine sees each tick before the strategies do, so an order fills on the next tick at the
earliest, never on the one that caused it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from brokers.base import Capabilities, FillRow, OrderRow, PositionRow, Refused, SessionHours
from brokers.matching import MatchingEngine
from state.clock import Clock
from state.instrument import Instrument
from state.orders import ZERO, Order


class Paper:
    """A `Broker` whose venue is a MatchingEngine. Thread-safe; answers at once; never Unavailable, never Unanswered."""

    capabilities = Capabilities(client_ids=True, replace=True, native_stops=True, order_stream=True, settle_window_s=0.0)

    def __init__(self, instruments: Mapping[str, Instrument], clock: Clock, fee_rate: Decimal = ZERO) -> None:
        self._instruments = instruments
        self._clock = clock
        self._lock = clock.threads.lock()  # guards the engine
        self._engine = MatchingEngine(instruments, fee_rate=fee_rate)

    def tick(self, symbol: str, price: Decimal, at_ms: int, available: Decimal | None = None) -> list[OrderRow | FillRow]:
        """Match what rests against one price; what that changed, in order."""
        with self._lock:
            return self._engine.tick(symbol, price, at_ms, available)

    def finish(self, symbol: str, at_ms: int) -> list[OrderRow | FillRow]:
        """The prices have ended: what waits for the market is filled at the last one."""
        with self._lock:
            return self._engine.match_idle(symbol, at_ms)

    def check(self) -> str:
        return "paper"

    def submit(self, order: Order) -> str:
        with self._lock:
            return self._engine.submit(order, self._clock.now_ms(), label=order.client_id)

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        with self._lock:
            self._engine.replace(order.venue_id or "", qty, trigger_price, limit_price, self._clock.now_ms())

    def cancel(self, order: Order) -> None:
        with self._lock:
            self._engine.cancel(order.venue_id or "", self._clock.now_ms())

    def order(self, order: Order) -> OrderRow | None:
        with self._lock:
            return self._engine.order(order.venue_id or "")

    def orders(self) -> list[OrderRow]:
        with self._lock:
            return self._engine.orders()

    def fills(self) -> list[FillRow]:
        with self._lock:
            return self._engine.fills()

    def positions(self) -> list[PositionRow]:
        with self._lock:
            return self._engine.positions()

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        with self._lock:
            prices = {symbol: self._engine.last(symbol) for symbol in symbols}
        return {symbol: price for symbol, price in prices.items() if price is not None}

    def instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            raise Refused(f"no instrument {symbol} is configured")
        return self._instruments[symbol]

    def session_hours(self, day: date) -> SessionHours | None:
        return None

    def skew_ms(self) -> int | None:
        return None

    def refused(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        """Nothing is open."""
