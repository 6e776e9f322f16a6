"""The smallest useful strategy, as an example: buy when price trades above a level, risk a fixed number of ticks."""

from decimal import Decimal

import msgspec

from state.orders import OrderType, Side
from state.strategy import Enter, Strategy, View, Wish


class Breakout(Strategy):
    name = "breakout"

    class Params(msgspec.Struct, frozen=True):
        stop_ticks: int = 20
        max_entries: int = 1

    class Setup(msgspec.Struct, frozen=True):
        symbol: str
        entry_price: Decimal

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if view.flat and price >= self.setup.entry_price:
            return Enter(Side.BUY, OrderType.MARKET, f"{price} broke {self.setup.entry_price}")
        return None

    def stop_price(self, view: View) -> Decimal:
        return view.average - self.instrument.ticks(self.params.stop_ticks)
