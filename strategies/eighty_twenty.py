"""80-20: buy the recovery of a stock that opened at the top and closed at the bottom of its range the day before.

Rules (DESIGN, section 10): a setup day opens in the top fifth of its true range and closes in the bottom fifth. Entry = that
day's low, trigger = entry - 10 ticks; both come from the config, as does the setup's date. Within the trigger window a price at
or below the trigger arms the symbol and a buy stop-limit rests at entry. After the fill the stop is the average fill -
`stop_ticks`. A `trail_bar` bar that closes green or flat lifts it to the bar's low - `trail_buffer_ticks`. After an exit a new
trigger is needed.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

import msgspec

from state.instrument import Instrument
from state.orders import OrderType, Side
from state.session import Session
from state.strategy import Bar, Enter, MoveStop, Pass, Strategy, View, Wish

EVER = Decimal("Infinity")
NOTHING = Decimal(0)


class EightyTwenty(Strategy):
    name = "eighty_twenty"

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        stop_ticks: Annotated[int, msgspec.Meta(ge=1)] = 20
        trail_bar_ms: int = 900_000
        trail_buffer_ticks: int = 2
        trigger_window_ms: int = 3_600_000
        max_entries: int = 3

    class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        symbol: str
        entry_price: Decimal
        trigger_price: Decimal
        setup_date: date

    def __init__(self, params: Params, setup: Setup, instrument: Instrument, session: Session) -> None:
        super().__init__(params, setup, instrument, session)
        self.bar_ms = params.trail_bar_ms
        self._window_end_ms = session.open_ms + params.trigger_window_ms

    def on_tick(self, view: View, price: Decimal) -> Wish:
        trigger, entry = self.setup.trigger_price, self.setup.entry_price
        if not view.flat or price > trigger or view.now_ms < self.session.open_ms:
            return None
        if view.now_ms >= self._window_end_ms:
            return None if view.entries_used else Pass(f"trigger {trigger} was touched only after its window")
        why = f"trigger {trigger} touched at {price}"
        return Enter(Side.BUY, OrderType.STOP_LIMIT, why, limit_price=entry, trigger_price=entry)

    def on_bar(self, view: View, bar: Bar) -> Wish:
        if not view.position or not bar.whole or bar.close < bar.open:
            return None
        level = bar.low - self.instrument.ticks(self.params.trail_buffer_ticks)
        return MoveStop(level, f"bar closed at {bar.close}, low {bar.low}")

    def stop_price(self, view: View) -> Decimal:
        return view.average - self.instrument.ticks(self.params.stop_ticks)

    def quiet(self, view: View) -> tuple[Decimal, Decimal]:
        if not view.flat or view.now_ms >= self._window_end_ms and (view.entries_used or "only after" in view.why):
            return NOTHING, EVER
        return self.setup.trigger_price, EVER
