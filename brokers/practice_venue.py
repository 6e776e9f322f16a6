"""The practice venue itself: one account, its matching engine, its session clock and the market that plays against it.

Owns what is true at the venue. Knows no HTTP, no WebSocket and no dialect: those are practice_rest.py and practice_stream.py.
Only the event loop of the server's process calls it, so there is no lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from zlib import crc32

from brokers.base import FillRow, OrderRow, PositionRow, Refused
from brokers.matching import Change, MatchingEngine
from brokers.practice import PracticeSpec
from brokers.practice_market import previous_close
from brokers.practice_truth import API, Record, Truth
from brokers.tape import TapeReport, TapeTick
from state.clock import ScaledClock, SystemClock
from state.instrument import Instrument
from state.orders import ZERO, Order, OrderType

IST = timezone(timedelta(hours=5, minutes=30))  # the dialect's times, whatever the market


@dataclass(slots=True)
class DayPrices:
    """What a quote shows beside the last price."""

    previous_close: Decimal = ZERO
    open: Decimal = ZERO
    high: Decimal = ZERO
    low: Decimal = ZERO
    last: Decimal = ZERO
    volume: Decimal = ZERO

    def take(self, tick: TapeTick) -> None:
        self.last = tick.price
        self.open = self.open or tick.price
        self.high = max(self.high, tick.price)
        self.low = min(self.low or tick.price, tick.price)
        self.volume += tick.qty or ZERO


class Venue:
    """`on_tick` and `on_order` are told what happened, in the venue's order: a tick matches first, then it is told, then the
    orders it changed. `shown_…` is what the books answer: here the truth."""

    BOOK = MatchingEngine

    def __init__(self, spec: PracticeSpec, ticks: Iterable[TapeTick], reports: list[TapeReport]) -> None:
        self.spec = spec
        self.instruments = {instrument.symbol: instrument for instrument in spec.instruments}
        self.record = Record()
        self.engine = self.BOOK(
            self.instruments,
            check_grid=spec.settings.check_grid,
            refuse_crossed_stops=spec.settings.refuse_crossed_stops,
            first_id=_first_id(spec),
        )
        self.prices = {symbol: DayPrices() for symbol in self.instruments}
        for symbol in spec.symbols:
            self.prices[symbol.symbol].previous_close = previous_close(symbol)
        self.reports = reports
        self.on_tick: Callable[[TapeTick], None] = lambda tick: None
        self.on_order: Callable[[OrderRow], None] = lambda row: None
        self.anchor_ms = spec.anchor_ms
        self.finished = False
        self.played = 0
        self.skipped = 0
        self.stopping = asyncio.Event()
        self._ticks = ticks
        self._started = asyncio.Event()
        self._clock: ScaledClock | None = None
        if spec.anchor_ms is not None:
            self._set_clock(spec.anchor_ms)

    def now_ms(self) -> int:
        """Session time. It stands still until the venue is started."""
        start_ms = self.spec.session_start_ms
        return start_ms if self._clock is None else max(start_ms, self._clock.now_ms())

    def start(self, delay_ms: int) -> None:
        """Fix the anchor, once: a second call changes nothing."""
        if self.anchor_ms is None:
            self._set_clock(SystemClock().now_ms() + delay_ms)

    def submit(self, order: Order, label: str) -> str:
        """Take an order; its update is told before this returns, as the dialect's servers do. Raises Refused."""
        try:
            venue_id = self._accept(order, label)
        except Refused:
            self.record.request(self.now_ms(), label, order.symbol, order.side, None)
            raise
        self.record.request(self.now_ms(), label, order.symbol, order.side, venue_id)
        self._tell(self._row(venue_id))
        if order.type is OrderType.MARKET:
            self._match_idle_later(order.symbol, venue_id)
        return venue_id

    def _accept(self, order: Order, label: str) -> str:
        if order.type is OrderType.MARKET and self.engine.last(order.symbol) is None:
            raise Refused(f"Cannot place MARKET order for {order.symbol} - unable to fetch current price.")
        self._check_funds(order)
        return self.engine.submit(order, self.now_ms(), label)

    def cancel(self, venue_id: str) -> None:
        self._tell(self.engine.cancel(venue_id, self.now_ms()))

    def replace(self, venue_id: str, qty: Decimal, trigger: Decimal | None, limit: Decimal | None) -> None:
        """Amend; told to nobody, as the dialect's servers do."""
        self._write(self.engine.replace(venue_id, qty, trigger, limit, self.now_ms()))

    def tick(self, tick: TapeTick) -> None:
        changes = self.engine.tick(tick.symbol, tick.price, tick.at_ms, tick.available)
        self.prices[tick.symbol].take(tick)
        self.played += 1
        self.on_tick(tick)
        if changes:
            self._tell_all(changes)

    async def play(self) -> None:
        """Release every tick when its session time has come, then be finished."""
        await self._started.wait()
        assert self._clock is not None
        for tick in self._ticks:
            if tick.at_ms < self.spec.session_start_ms or tick.symbol not in self.instruments:
                self.skipped += 1
                continue
            ahead_ms = tick.at_ms - self._clock.now_ms()
            # Also when behind: requests must get their turn between any two ticks.
            await asyncio.sleep(max(ahead_ms, 0) / 1000 / self.spec.speed)
            self.tick(tick)
        self.finished = True

    def available_funds(self) -> tuple[Decimal, Decimal]:
        """(free cash, margin in use). Positions count at their average price over the leverage."""
        used = sum((abs(row.qty) * row.average for row in self.engine.positions() if row.average is not None), ZERO)
        realized = sum((self.engine.realized(symbol) for symbol in self.instruments), ZERO)
        margin = used / self.spec.settings.leverage
        return self.spec.settings.capital + realized - margin, margin

    def instrument(self, symbol: str, exchange: str) -> Instrument | None:
        found = self.instruments.get(symbol)
        return found if found is not None and found.exchange == exchange else None

    def held(self, symbol: str) -> Decimal:
        return next((row.qty for row in self.engine.positions() if row.symbol == symbol), ZERO)

    def shown_orders(self) -> list[OrderRow]:
        return self.engine.orders()

    def shown_order(self, venue_id: str) -> OrderRow | None:
        return self.engine.order(venue_id)

    def shown_fills(self) -> list[FillRow]:
        return self.engine.fills()

    def shown_positions(self, path: str) -> list[PositionRow]:
        return self.engine.positions()

    def waits(self, row: OrderRow) -> bool:
        """It has a trigger, and no tick has reached it."""
        return row.trigger_price is not None and not self.engine.triggered(row.venue_id)

    def truth(self) -> Truth:
        """What really happened here, for an oracle outside."""
        money = {row.symbol: (row.average, self.engine.realized(row.symbol)) for row in self.engine.positions()}
        return self.record.truth(self.spec.account, self.now_ms(), self.spec.open_ms, self.spec.speed, money)

    def _check_funds(self, order: Order) -> None:
        price = order.limit_price or order.trigger_price or self.engine.last(order.symbol)
        grown = abs(self.held(order.symbol) + order.qty * order.side.sign) - abs(self.held(order.symbol))
        if price is None or grown <= 0:
            return
        free, _ = self.available_funds()
        required = grown * price / self.spec.settings.leverage
        if required > free:
            raise Refused(f"Insufficient funds. Required: ₹{required}, Available: ₹{free}, Shortage: ₹{required - free}")

    def _match_idle_later(self, symbol: str, venue_id: str) -> None:
        asyncio.get_running_loop().call_later(self.spec.settings.idle_fill_s, self._match_idle, symbol, venue_id)

    def _match_idle(self, symbol: str, venue_id: str) -> None:
        row = self.engine.order(venue_id)
        if row is not None and not row.state.closed:
            self._tell_all(self.engine.match_idle(symbol, self.now_ms()))

    def _tell_all(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, OrderRow):
                self._tell(change)
            else:
                self.record.fill(change)

    def _tell(self, row: OrderRow) -> None:
        self._write(row)
        self.on_order(row)

    def _write(self, row: OrderRow, origin: str = API) -> None:
        waits = row.trigger_price is not None and not self.engine.triggered(row.venue_id)
        self.record.order(row, self.now_ms(), waits, origin)

    def _row(self, venue_id: str) -> OrderRow:
        row = self.engine.order(venue_id)
        assert row is not None
        return row

    def _set_clock(self, anchor_ms: int) -> None:
        self.anchor_ms = anchor_ms
        self._clock = ScaledClock(self.spec.session_start_ms, anchor_ms, self.spec.speed)
        self._started.set()


def _first_id(spec: PracticeSpec) -> int:
    """Order ids look like the dialect's, yymmdd and eight digits, and differ between accounts."""
    day = datetime.fromtimestamp(spec.session_start_ms / 1000, IST)
    return int(f"{day:%y%m%d}{10_000_000 + crc32(spec.account.encode()) % 80_000_000}")
