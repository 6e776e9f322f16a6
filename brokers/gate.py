"""The price gate: one per symbol, in front of everything that decides on prices. Pure and cheap; owns no clock and no lock.

It refuses what is no price at all (FEE-05) and what is older than what we have (FEE-07), and holds back one wild print until a
second one, or a quote, says the same (FEE-06). A held print causes nothing. It must never refuse for ever: two prints that
agree are the market, however far it has gone.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import Enum

LARGEST = Decimal("1e12")
SMALLEST = Decimal("1e-12")
ONE = Decimal(1)


class Refusal(Enum):
    """Why a price was not let through. The value is for people and for counters."""

    OFF_TYPE = "not a Decimal"
    NOT_FINITE = "not a number"
    NOT_POSITIVE = "zero or negative"
    ABSURD = "absurd size"
    OLD = "older than the last"
    HELD = "jump, held until confirmed"


class PriceGate:
    """Used by the tick thread alone, except `quote`, a single attribute that another thread may set.

    `jump` is the largest believable step from the last accepted price, as a fraction of it. `band` is the day's price band
    where it is known. `reference` is the last known price of before; without one the first price is believed.
    """

    __slots__ = ("_band", "_high", "_inner", "_jump", "_low", "_near", "at_ms", "held", "held_ms", "price", "quote", "refused")

    def __init__(
        self, reference: Decimal | None = None, jump: Decimal = Decimal("0.2"), band: tuple[Decimal, Decimal] | None = None
    ) -> None:
        if not 0 < jump < 1:
            raise ValueError(f"jump must be between 0 and 1, not {jump}")
        self._jump = jump
        self._near = jump / 4
        self._inner = jump / (2 + jump)  # two prices this near one anchor are within `jump` of each other
        self._band = band
        self.price: Decimal | None = None
        self.at_ms = 0
        self.held: Decimal | None = None
        self.held_ms = 0
        self.quote: Decimal | None = None
        self.refused: dict[Refusal, int] = {}
        self._low, self._high = ONE, -ONE  # nothing lies between: the first price is looked at closely
        if reference is not None:
            self._accept(reference, 0)

    def refer(self, price: Decimal) -> None:
        """A last known price that came after all; to be given before the first tick."""
        if self.price is None:
            self._accept(price, 0)

    def judge(self, price: Decimal, at_ms: int) -> Refusal | None:
        """None when the price may be used; it is then the last accepted one. Nearly every call ends in the first test."""
        try:
            if type(price) is Decimal and self._low <= price <= self._high and at_ms >= self.at_ms:
                self.price = price
                self.at_ms = at_ms
                if self.held is not None:
                    self.held = None
                return None
        except InvalidOperation:  # a NaN has no order
            pass
        refusal = self._judge_closely(price, at_ms)
        if refusal is None:
            self._accept(price, at_ms)
        else:
            self.refused[refusal] = self.refused.get(refusal, 0) + 1
        return refusal

    def _judge_closely(self, price: Decimal, at_ms: int) -> Refusal | None:
        if type(price) is not Decimal:
            return Refusal.OFF_TYPE
        if not price.is_finite():
            return Refusal.NOT_FINITE
        if price <= 0:
            return Refusal.NOT_POSITIVE
        if not SMALLEST <= price <= LARGEST:
            return Refusal.ABSURD
        if at_ms < self.at_ms:
            return Refusal.OLD
        if self._is_believable(price) or self._is_confirmed(price, at_ms):
            return None
        self.held, self.held_ms = price, at_ms
        return Refusal.HELD

    def _is_believable(self, price: Decimal) -> bool:
        if self.price is None:
            return self._in_band(price)
        near = abs(price - self.price) <= self._jump * self.price
        return near and (self._in_band(price) or not self._in_band(self.price))

    def _is_confirmed(self, price: Decimal, at_ms: int) -> bool:
        """By a quote, or by the print before. The same print heard twice (same price, same time) confirms nothing."""
        repeated = price == self.held and at_ms == self.held_ms
        return self._agree(price, self.quote) or (not repeated and self._agree(price, self.held))

    def _agree(self, price: Decimal, other: Decimal | None) -> bool:
        return other is not None and abs(price - other) <= self._near * other

    def _in_band(self, price: Decimal) -> bool:
        return self._band is None or self._band[0] <= price <= self._band[1]

    def _accept(self, price: Decimal, at_ms: int) -> None:
        self.price, self.at_ms, self.held = price, at_ms, None
        self._low, self._high = price * (ONE - self._inner), price * (ONE + self._inner)
        if self._band is not None:
            self._low, self._high = max(self._low, self._band[0]), min(self._high, self._band[1])
