"""How much an entry is for: a fixed quantity, or money that becomes one when the entry is granted, at the price of that moment.

Pure. Owns the way from money to a quantity. Must never round up: what is bought costs or risks no more than was said.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal
from enum import Enum
from fractions import Fraction

import msgspec

from state.instrument import Instrument
from state.orders import ZERO, Side

SHARE = Context(prec=2, rounding=ROUND_FLOOR)  # "0.4 of a lot"


class By(Enum):
    """The keys of a symbol's row in config.yaml, one of which it has."""

    QTY = "qty"
    NOTIONAL = "notional"
    RISK = "risk"


class Size(msgspec.Struct, frozen=True):
    """`qty`: units of the base. `notional`: what they cost; `risk`: what they lose at their stop, both in quote currency."""

    by: By
    amount: Decimal

    @property
    def text(self) -> str:
        return f"{self.by.value} {self.amount:f}"


class Sized(msgspec.Struct, frozen=True):
    """`how` the money became this quantity, in words, or why it did not."""

    qty: Decimal
    how: str = ""
    why_not: str | None = None


def fixed(qty: Decimal) -> Size:
    return Size(By.QTY, qty)


def dearest(side: Side, price: Decimal, trigger: Decimal | None, limit: Decimal | None) -> Decimal:
    """The most that a unit is worth in an entry at these prices, as far as they bind it. `price`: the latest."""
    if trigger is not None:
        return max(trigger, limit or trigger)
    if limit is None:
        return price
    return limit if side is Side.BUY else max(limit, price)  # sold for more than was asked, where the market pays more


def sized(size: Size, instrument: Instrument, price: Decimal, loss: Decimal) -> Sized:
    """The quantity for an entry in which a unit costs `price` and loses `loss` at its stop (before fees and slippage).

    Down to whole lots, and to the freeze quantity. Exact: a quotient that was rounded first could end one lot too high.
    """
    if size.by is By.QTY:
        return Sized(size.amount)
    unit = price if size.by is By.NOTIONAL else loss
    if unit <= 0:
        return Sized(ZERO, why_not=f"{size.text} has no size where a unit is worth {unit:f}")
    how = f"{size.text} at {price:f}" if size.by is By.NOTIONAL else f"{size.text}, {loss:f} a unit"
    lots = int(Fraction(size.amount) / (Fraction(unit) * Fraction(instrument.lot_size)))
    qty = instrument.lot_size * lots
    if not lots:
        share = SHARE.divide(size.amount, unit * instrument.lot_size)
        return Sized(ZERO, why_not=f"{how} buys {share:f} of a lot")
    if qty < instrument.least:
        return Sized(ZERO, why_not=f"{how} buys {qty:f}, less than the minimum {instrument.least:f}")
    if instrument.freeze_qty is not None and qty > instrument.freeze_qty:
        return Sized(instrument.quantity_down(instrument.freeze_qty), f"{how}, cut to the freeze quantity")
    return Sized(qty, how)
