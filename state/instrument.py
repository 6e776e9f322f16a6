"""What can be traded and on which grid. Owns every rounding of a price or a quantity; nothing else rounds.

Each rounding says its direction in its name or its docstring. The rule (DESIGN, section 4): away from harm.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from state.orders import Side


class Instrument(msgspec.Struct, frozen=True):
    """One tradable symbol. Prices in quote currency, quantities in units of the base.

    `freeze_qty` None means the venue does not say (OpenAlgo sends 1 for that, venues/openalgo.md section 11). `base` and `quote`
    name the two currencies of a pair, where a fee may be taken in either.
    """

    symbol: str
    exchange: str
    tick_size: Decimal
    lot_size: Decimal = Decimal(1)
    min_qty: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    freeze_qty: Decimal | None = None
    base: str = ""
    quote: str = ""

    def __post_init__(self) -> None:
        for name in ("tick_size", "lot_size"):
            value = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise ValueError(f"{self.symbol}: {name} must be above 0, not {value}")

    def on_grid(self, price: Decimal) -> bool:
        return price % self.tick_size == 0

    def spelled(self, price: Decimal | None) -> Decimal | None:
        """The same value with the tick's decimals, as people expect it (1512.3 -> 1512.30); off the grid as it came."""
        if price is None or not self.on_grid(price):
            return price
        return price.quantize(self.tick_size)

    def floor(self, price: Decimal) -> Decimal:
        """Down to the tick grid."""
        return self._step(price, self.tick_size, ROUND_FLOOR)

    def ceiling(self, price: Decimal) -> Decimal:
        """Up to the tick grid."""
        return self._step(price, self.tick_size, ROUND_CEILING)

    def stop_trigger(self, side: Side, price: Decimal) -> Decimal:
        """Trigger of a stop order: away from the market, so that rounding never fires it earlier than was asked."""
        return self.ceiling(price) if side is Side.BUY else self.floor(price)

    def limit(self, side: Side, price: Decimal) -> Decimal:
        """A limit price: never pay more, never sell for less than was asked."""
        return self.floor(price) if side is Side.BUY else self.ceiling(price)

    def quantity_down(self, quantity: Decimal) -> Decimal:
        """Down to whole lots: exposure is never rounded up."""
        return self._step(quantity, self.lot_size, ROUND_FLOOR)

    @property
    def least(self) -> Decimal:
        """The smallest quantity an order can have."""
        return max(self.lot_size, self._step(self.min_qty, self.lot_size, ROUND_CEILING))

    def dust(self, position: Decimal) -> Decimal:
        """What of this position no order can move, signed: all of it below the smallest order, else what is less than a lot."""
        held = abs(position)
        rest = held if held < self.least else held - self.quantity_down(held)
        return rest.copy_sign(position) if rest else Decimal(0)

    def charged(self, fee: Decimal, currency: str) -> tuple[Decimal, Decimal] | None:
        """A fee as (quote, base) amounts: the second has left the quantity itself. None for a third currency, worth we know
        not what. A currency that is not named is the quote's."""
        name = currency.strip().upper()
        if name and name == self.base.upper():
            return Decimal(0), fee
        return (fee, Decimal(0)) if not name or not self.quote or name == self.quote.upper() else None

    def ticks(self, count: int) -> Decimal:
        return self.tick_size * count

    def why_not(self, quantity: Decimal, price: Decimal | None = None) -> str | None:
        """The rule that forbids this quantity (at this price, where known), in words; None when it is fine."""
        if quantity <= 0:
            return f"quantity {quantity} is not above 0"
        if quantity % self.lot_size:
            return f"quantity {quantity} is not a multiple of the lot size {self.lot_size}"
        if quantity < self.min_qty:
            return f"quantity {quantity} is below the minimum {self.min_qty}"
        if self.freeze_qty is not None and quantity > self.freeze_qty:
            return f"quantity {quantity} is above the freeze quantity {self.freeze_qty}"
        if price is not None and quantity * price < self.min_notional:
            return f"value {quantity * price} is below the minimum {self.min_notional}"
        return None

    @staticmethod
    def _step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
        return (value / step).to_integral_value(rounding=rounding) * step
