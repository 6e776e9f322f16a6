"""What a strategy is: a pure opinion about one symbol. It sees a `View`, returns a wish, and can bypass nothing.

Subclass `Strategy`, give it `Params` and `Setup` (typed, from config.yaml), and answer `on_tick` and `stop_price`. The machine
alone places, protects, limits and closes. A strategy must not do I/O, read a clock or keep state between calls.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from state.instrument import Instrument
from state.orders import OrderType, Side
from state.session import Session


class View(msgspec.Struct, frozen=True):
    """What a strategy may know. `average` fill price of this trip's entry, 0 while flat; `entering` while an entry is live."""

    position: Decimal
    average: Decimal
    side: Side | None
    stop_price: Decimal | None
    peak: Decimal | None
    entries_used: int
    entering: bool
    why: str
    now_ms: int

    @property
    def flat(self) -> bool:
        return not self.position and not self.entering


class Enter(msgspec.Struct, frozen=True):
    """Open a position. `limit_price` and `trigger_price` as the type needs them; the machine rounds them to the grid."""

    side: Side
    type: OrderType
    why: str
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None


class MoveStop(msgspec.Struct, frozen=True):
    """Trail: a level that is not better than the present one is ignored."""

    price: Decimal
    why: str


class Leave(msgspec.Struct, frozen=True):
    """Close the position at market."""

    why: str


class Pass(msgspec.Struct, frozen=True):
    """Do nothing, and say why, for the report."""

    why: str


Wish = Enter | MoveStop | Leave | Pass | None


class Strategy:
    """One instance per symbol and session. Called under the symbol's lock: must return at once.

    `bar_ms` above 0 asks for `on_bar` with every closed bar of that length (aligned to the exchange's midnight).
    """

    name = ""
    bar_ms = 0

    class Params(msgspec.Struct, frozen=True):
        max_entries: int = 1

    class Setup(msgspec.Struct, frozen=True):
        symbol: str

    params: Any  # an instance of this class's own Params
    setup: Any  # and Setup

    def __init__(self, params: Any, setup: Any, instrument: Instrument, session: Session) -> None:
        self.params, self.setup, self.instrument, self.session = params, setup, instrument, session

    def on_tick(self, view: View, price: Decimal) -> Wish:
        """What to do at this price."""
        return None

    def on_bar(self, view: View, bar: Bar) -> Wish:
        """What to do now that this bar has closed."""
        return None

    def stop_price(self, view: View) -> Decimal:
        """Where the protective stop belongs for a position held at `view.average`. Mandatory.

        Asked for the planned price before an entry is granted (one without room for its stop is denied), and again when it fills.
        """
        raise NotImplementedError

    def target_price(self, view: View) -> Decimal | None:
        """Where to take profit, or None for no target."""
        return None

    def quiet(self, view: View) -> tuple[Decimal, Decimal]:
        """Prices strictly between these two cannot change our mind: such ticks are not even shown. None between by default."""
        return Decimal(1), Decimal(0)


class Silenced(Strategy):
    """In the place of a strategy that did not come back: it has no opinion any more, so that nobody waits for it again."""

    def __init__(self, strategy: Strategy) -> None:
        self.name, self.bar_ms = strategy.name, strategy.bar_ms

    def stop_price(self, view: View) -> Decimal:
        raise LookupError("it did not come back when it was asked before")


class Bar(msgspec.Struct, frozen=True):
    """Open, high, low, close of [start_ms, end_ms); `whole` is false when we joined in the middle."""

    start_ms: int
    end_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    whole: bool = True
