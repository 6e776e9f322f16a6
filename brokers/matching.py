"""The one matching engine: an in-memory book of one account that turns orders and ticks into fills.

Used by paper, by the practice venue and by the simulation. Owns orders, fills and positions of its account; ids come from
counters, so equal calls give equal books. Never reads a clock, starts a thread, takes a lock or does I/O: the caller guards it.

How orders match (data/README.md, "80-20 cases"; all mirrored for the other side):
* An order matches from the next tick after its submission on; amended values count from the next tick on.
* MARKET fills at the next tick's price. STOP fills at the price of the first tick at or beyond its trigger.
* STOP_LIMIT is activated by a tick at or beyond its trigger. On that tick it fills at the tick's price if its limit allows; else
  it rests and fills *at its limit* on the first later tick that allows. It stays WORKING meanwhile.
* LIMIT that is marketable on the first tick it sees fills at the tick's price, afterwards at its limit.
* `available` bounds what one tick can fill; orders share it in time order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from brokers.base import FillRow, OrderRow, PositionRow, Refused, Reported
from state.instrument import Instrument
from state.orders import ZERO, Order, OrderType, Side

Change = OrderRow | FillRow

_TAKES_LIMIT = (OrderType.LIMIT, OrderType.STOP_LIMIT)
_TAKES_TRIGGER = (OrderType.STOP, OrderType.STOP_LIMIT)
_STATUS_WORDS = {Reported.FILLED: "complete", Reported.CANCELLED: "cancelled"}


class NotFound(Refused):
    """No order has this venue order id."""


@dataclass(slots=True)
class _Entry:
    """One order in the book."""

    venue_id: str
    order: Order  # as it was submitted
    label: str
    at_ms: int
    qty: Decimal
    trigger: Decimal | None
    limit: Decimal | None
    state: Reported = Reported.WORKING
    filled: Decimal = ZERO
    value: Decimal = ZERO  # sum of quantity times price over the fills
    triggered: bool = False  # a tick has reached the trigger
    fresh: bool = True  # no tick has seen it at its present limit

    def row(self) -> OrderRow:
        order = self.order
        return OrderRow(
            venue_id=self.venue_id,
            symbol=order.symbol,
            side=order.side,
            state=self.state,
            qty=self.qty,
            type=order.type,
            limit_price=self.limit,
            trigger_price=self.trigger,
            filled=self.filled,
            average=self.value / self.filled if self.filled else ZERO,
            client_id=order.client_id or None,
            at_ms=self.at_ms,
            label=self.label,
        )


@dataclass(slots=True)
class _Position:
    qty: Decimal = ZERO  # signed
    average: Decimal = ZERO
    realized: Decimal = ZERO

    def trade(self, signed_qty: Decimal, price: Decimal) -> None:
        if self.qty * signed_qty < 0:
            closed = min(abs(self.qty), abs(signed_qty)).copy_sign(self.qty)
            self.realized += (price - self.average) * closed
            self.qty += signed_qty
            if self.qty * signed_qty > 0:  # it went through zero
                self.average = price
            return
        total = self.qty + signed_qty
        self.average = (self.qty * self.average + signed_qty * price) / total
        self.qty = total


class MatchingEngine:
    """The book. `submit`, `replace` and `cancel` raise Refused with the venue's reason and then have changed nothing.

    Ticks must be real prices (finite, above 0): whoever feeds the engine has gated them.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        *,
        fee_rate: Decimal = ZERO,
        fee_currency: str = "",
        check_grid: bool = True,
        refuse_crossed_stops: bool = False,
        first_id: int = 1,
    ) -> None:
        self._instruments = instruments
        self._fee_rate = fee_rate
        self._fee_currency = fee_currency
        self._check_grid = check_grid
        self._refuse_crossed_stops = refuse_crossed_stops
        self._first_id = first_id
        self._entries: dict[str, _Entry] = {}  # every order of the day, in time order
        self._working: dict[str, dict[str, _Entry]] = {}  # symbol -> the live ones, in time order
        self._fills: list[FillRow] = []
        self._positions: dict[str, _Position] = {}
        self._last: dict[str, Decimal] = {}

    def tick(self, symbol: str, price: Decimal, now_ms: int, available: Decimal | None = None) -> list[Change]:
        """One trade at `price`: what it changed, in order. Each fill is followed by its order's new row."""
        self._last[symbol] = price
        working = self._working.get(symbol)
        if not working:
            return []
        changes: list[Change] = []
        for entry in list(working.values()):
            was_triggered = entry.triggered
            trade_price = _trade_price(entry, price)
            filled = ZERO if trade_price is None else self._take(entry, trade_price, now_ms, available, changes)
            if available is not None:
                available -= filled
            if not filled and entry.triggered and not was_triggered:
                changes.append(entry.row())
        return changes

    def match_idle(self, symbol: str, now_ms: int) -> list[Change]:
        """Fill what waits for the market (MARKET, and what is left of a fired STOP) at the last price, for want of a tick."""
        price = self._last.get(symbol)
        changes: list[Change] = []
        if price is None:
            return changes
        for entry in list(self._working.get(symbol, {}).values()):
            if entry.order.type is OrderType.MARKET or (entry.order.type is OrderType.STOP and entry.triggered):
                self._take(entry, price, now_ms, None, changes)
        return changes

    def submit(self, order: Order, now_ms: int, label: str = "") -> str:
        """Take the order into the book; the venue order id. Prices its type has no use for are dropped."""
        limit = order.limit_price if order.type in _TAKES_LIMIT else None
        trigger = order.trigger_price if order.type in _TAKES_TRIGGER else None
        self._check(order, order.qty, trigger, limit)
        if self._refuse_crossed_stops and trigger is not None:
            self._check_not_crossed(order, trigger)
        venue_id = str(self._first_id + len(self._entries))
        entry = _Entry(venue_id, order, label, now_ms, order.qty, trigger, limit)
        self._entries[venue_id] = entry
        self._working.setdefault(order.symbol, {})[venue_id] = entry
        return venue_id

    def replace(
        self, venue_id: str, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None, now_ms: int
    ) -> OrderRow:
        """Give a working order these values; all of them, as they shall stand. It keeps its place in time."""
        entry = self._find_working(venue_id, "modify")
        kind = entry.order.type
        if trigger_price is not None and kind not in _TAKES_TRIGGER:
            raise Refused(f"{kind.value} orders do not accept a trigger price")
        if limit_price is not None and kind not in _TAKES_LIMIT:
            raise Refused(f"{kind.value} orders do not accept a limit price")
        self._check(entry.order, qty, trigger_price, limit_price)
        if qty <= entry.filled:
            raise Refused(f"quantity {qty} is not above the {entry.filled} already filled")
        if trigger_price is not None and self._refuse_crossed_stops and not entry.triggered:
            self._check_not_crossed(entry.order, trigger_price)
        entry.fresh = entry.fresh or limit_price != entry.limit
        entry.qty, entry.trigger, entry.limit = qty, trigger_price, limit_price
        return entry.row()

    def cancel(self, venue_id: str, now_ms: int) -> OrderRow:
        """End a working order; what it has filled stays filled."""
        entry = self._find_working(venue_id, "cancel")
        self._close(entry, Reported.CANCELLED)
        return entry.row()

    def orders(self) -> list[OrderRow]:
        """Every order ever submitted, oldest first."""
        return [entry.row() for entry in self._entries.values()]

    def order(self, venue_id: str) -> OrderRow | None:
        entry = self._entries.get(venue_id)
        return None if entry is None else entry.row()

    def triggered(self, venue_id: str) -> bool:
        """Whether a tick has reached the order's trigger: what some venues call `open` after `trigger pending`."""
        entry = self._entries.get(venue_id)
        return entry is not None and entry.triggered

    def fills(self) -> list[FillRow]:
        """Every execution, oldest first."""
        return list(self._fills)

    def positions(self) -> list[PositionRow]:
        """One row for every symbol ever traded; flat ones stay, with quantity 0."""
        return [PositionRow(symbol, held.qty, held.average if held.qty else None) for symbol, held in self._positions.items()]

    def realized(self, symbol: str) -> Decimal:
        """Profit of what was closed in this symbol, before fees."""
        held = self._positions.get(symbol)
        return ZERO if held is None else held.realized

    def last(self, symbol: str) -> Decimal | None:
        return self._last.get(symbol)

    def _take(self, entry: _Entry, price: Decimal, now_ms: int, available: Decimal | None, changes: list[Change]) -> Decimal:
        """Fill what can be filled of `entry` at `price`; the quantity that was."""
        qty = entry.qty - entry.filled
        if available is not None and available < qty:
            qty = self._instruments[entry.order.symbol].quantity_down(available)
        if qty <= 0:
            return ZERO
        entry.filled += qty
        entry.value += qty * price
        if entry.filled == entry.qty:
            self._close(entry, Reported.FILLED)
        changes += (self._book_fill(entry, qty, price, now_ms), entry.row())
        return qty

    def _book_fill(self, entry: _Entry, qty: Decimal, price: Decimal, now_ms: int) -> FillRow:
        order = entry.order
        fill = FillRow(
            trade_id=f"T{self._first_id + len(self._fills)}",
            venue_id=entry.venue_id,
            symbol=order.symbol,
            side=order.side,
            qty=qty,
            price=price,
            at_ms=max(now_ms, entry.at_ms),  # a tick that was held up must not look as if it filled before the order came
            fee=qty * price * self._fee_rate,
            fee_currency=self._fee_currency,
        )
        self._fills.append(fill)
        self._positions.setdefault(order.symbol, _Position()).trade(qty * order.side.sign, price)
        return fill

    def _close(self, entry: _Entry, state: Reported) -> None:
        entry.state = state
        working = self._working[entry.order.symbol]
        del working[entry.venue_id]
        if not working:
            del self._working[entry.order.symbol]

    def _find_working(self, venue_id: str, verb: str) -> _Entry:
        entry = self._entries.get(venue_id)
        if entry is None:
            raise NotFound(f"Order {venue_id} not found")
        if entry.state is not Reported.WORKING:
            raise Refused(f"Cannot {verb} order in {_STATUS_WORDS[entry.state]} status")
        return entry

    def _check(self, order: Order, qty: Decimal, trigger: Decimal | None, limit: Decimal | None) -> None:
        instrument = self._instruments.get(order.symbol)
        if instrument is None:
            raise Refused(f"Symbol {order.symbol} not found")
        if order.type in _TAKES_TRIGGER and trigger is None:
            raise Refused(f"{order.type.value} orders require a trigger price")
        if order.type in _TAKES_LIMIT and limit is None:
            raise Refused(f"{order.type.value} orders require a limit price")
        for name, price in (("trigger price", trigger), ("limit price", limit)):
            if price is not None:
                self._check_price(instrument, name, price)
        if not qty.is_finite():
            raise Refused(f"quantity {qty} is not a number")
        why_not = instrument.why_not(qty, limit if limit is not None else trigger)
        if why_not is not None:
            raise Refused(why_not)

    def _check_price(self, instrument: Instrument, name: str, price: Decimal) -> None:
        if not price.is_finite() or price <= 0:
            raise Refused(f"{name} {price} is not above 0")
        if self._check_grid and not instrument.on_grid(price):
            raise Refused(f"{name} {price} is not a multiple of the tick size {instrument.tick_size}")

    def _check_not_crossed(self, order: Order, trigger: Decimal) -> None:
        last = self._last.get(order.symbol)
        if last is not None and _reached(order.side, last, trigger):
            beyond = "above" if order.side is Side.BUY else "below"
            raise Refused(f"trigger price {trigger} is not {beyond} the last price {last}")


def _trade_price(entry: _Entry, price: Decimal) -> Decimal | None:
    """What the order trades at on a tick of `price`, None when it does not; remembers that the trigger was reached."""
    side, kind = entry.order.side, entry.order.type
    first_look, entry.fresh = entry.fresh, False
    if entry.trigger is not None and not entry.triggered:
        if not _reached(side, price, entry.trigger):
            return None
        entry.triggered = first_look = True
    if kind in (OrderType.MARKET, OrderType.STOP):
        return price
    assert entry.limit is not None  # _check has seen to it
    if not _allowed(side, price, entry.limit):
        return None
    return price if first_look else entry.limit


def _reached(side: Side, price: Decimal, trigger: Decimal) -> bool:
    return price >= trigger if side is Side.BUY else price <= trigger


def _allowed(side: Side, price: Decimal, limit: Decimal) -> bool:
    return price <= limit if side is Side.BUY else price >= limit
