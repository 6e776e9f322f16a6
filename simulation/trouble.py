"""People with a phone: what the account's owner does behind the runner's back, put into the world at seeded times.

Their orders are real ones in the venue's book, and `world.foreign` has each: the runner may look at them and must not touch
them. Looks at the venue's book only, as people do.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from brokers.base import FillRow, OrderRow, Refused, Reported
from brokers.matching import Change
from simulation.fates import Fates, Kind
from simulation.world import World
from state.orders import Order, OrderType, Purpose, Side

KINDS: dict[str, Kind] = {
    "people.close": Kind("somebody closes the position by hand", 0.006),
    "people.halve": Kind("somebody sells half of the position by hand", 0.006),
    "people.reverse": Kind("somebody sells twice the position", 0.003),
    "people.add": Kind("somebody adds as much again and a lot", 0.004),
    "people.order": Kind("somebody has a resting order of their own in our symbol, near or far", 0.006),
    "people.own_stop": Kind("somebody protects our position with a stop of their own", 0.003),
    "people.cancel_stop": Kind("somebody cancels our stop", 0.008),
    "people.cancel_entry": Kind("somebody cancels our entry", 0.008),
    "people.tighten_stop": Kind("somebody moves our stop closer to the market", 0.008),
    "people.loosen_stop": Kind("somebody moves our stop away from the market", 0.004),
}
LOOKS_MS = 1_000  # between two occasions to do something
LEARNT_MS = 12_000  # a trade by hand is told by positions alone, and those twice
LOOSE_TICKS = 5  # from the trigger of their stop to its limit
AWAY = Decimal("0.95")  # of the last price: a buy limit there rests


def schedule(world: World, fates: Fates, until_ms: int) -> None:
    """Every second until then each kind has its chance, where there is something to do it with."""
    people = _People(world, fates)
    world.watchers.append(people)

    def look() -> None:
        people.look()
        if world.mono_ms + LOOKS_MS <= until_ms:
            world.later(LOOKS_MS, look)

    world.at(world.mono_ms + LOOKS_MS, look)


class _People:
    def __init__(self, world: World, fates: Fates) -> None:
        self._world, self._fates = world, fates
        self._trades: tuple[tuple[str, int, int], ...] = (  # of what is held: times so much, divided by so much
            ("people.close", -1, 1),
            ("people.halve", -1, 2),
            ("people.reverse", -2, 1),
            ("people.add", 1, 1),
        )

    def look(self) -> None:
        fates, working = self._fates, self._working()
        held = sorted(row.symbol for row in self._world.engine.positions() if row.qty)
        for kind, times, parts in self._trades:
            if held and fates.strikes(kind):
                self._trade(fates.pick(held), times, parts)
        if fates.strikes("people.order"):
            self._place(fates.pick(sorted(self._world.instruments)))
        if held and fates.strikes("people.own_stop"):
            self._protect(fates.pick(held))
        ours = [row for row in working if row.venue_id in self._world.placed]
        stops = [row for row in ours if self._world.placed[row.venue_id].purpose is Purpose.STOP]
        entries = [row for row in ours if self._world.placed[row.venue_id].purpose is Purpose.ENTRY]
        self._maybe("people.cancel_stop", stops, self._cancel)
        self._maybe("people.cancel_entry", entries, self._cancel)
        self._maybe("people.tighten_stop", stops, lambda row: self._move(row, -row.side.sign))
        self._maybe("people.loosen_stop", stops, lambda row: self._move(row, row.side.sign))

    def placed(self, order: Order, row: OrderRow) -> None:
        """Nobody notices."""

    def changed(self, change: Change) -> None:
        if isinstance(change, FillRow) and change.venue_id in self._world.foreign:
            self._world.troubled(LEARNT_MS, change.symbol)

    def _working(self) -> list[OrderRow]:
        return [row for row in self._world.engine.orders() if row.state is Reported.WORKING]

    def _maybe(self, kind: str, rows: list[OrderRow], act: Callable[[OrderRow], None]) -> None:
        if rows and self._fates.strikes(kind):
            row = rows[self._fates.amount(0, len(rows) - 1)]
            self._world.troubled(0)
            try:
                act(row)
            except Refused:
                return  # another has been faster in the same look

    def _trade(self, symbol: str, times: int, parts: int) -> None:
        """At market, at once, at the last price."""
        instrument, held = self._world.instruments[symbol], self._world.held(symbol)
        qty = max(instrument.quantity_down(abs(held) * abs(times) / parts), instrument.lot_size)
        if times > 0:
            qty += instrument.lot_size  # else it could be taken for an order of ours that has no answer, and nobody could tell
        side = Side.BUY if held * times > 0 else Side.SELL
        venue_id = self._world.by_hand(_order(symbol, side, OrderType.MARKET, qty))
        self._world.fill(venue_id, qty)

    def _place(self, symbol: str) -> None:
        last, instrument = self._world.engine.last(symbol), self._world.instruments[symbol]
        if last is None:
            return
        near = self._fates.amount(0, 1)
        limit = last - self._fates.amount(1, 20) * instrument.tick_size if near else instrument.floor(last * AWAY)
        qty = instrument.lot_size * self._fates.amount(1, 9)
        if limit > 0:
            self._world.by_hand(_order(symbol, Side.BUY, OrderType.LIMIT, qty, limit=limit))

    def _protect(self, symbol: str) -> None:
        """With a limit, which ours have not: a stop like one of ours that is lost could not be told from it by anybody."""
        last, held = self._world.engine.last(symbol), self._world.held(symbol)
        if last is None or not held:
            return
        side = Side.SELL if held > 0 else Side.BUY
        tick = self._world.instruments[symbol].tick_size
        trigger = last + side.sign * self._fates.amount(2, 40) * tick
        limit = trigger + side.sign * LOOSE_TICKS * tick
        if min(trigger, limit) > 0:
            self._world.by_hand(_order(symbol, side, OrderType.STOP_LIMIT, abs(held), limit=limit, trigger=trigger))

    def _cancel(self, row: OrderRow) -> None:
        self._world.cancel(row.venue_id)

    def _move(self, row: OrderRow, sign: int) -> None:
        """A stop, by some ticks, and never across the market. Not one that the gateway has taken for another quantity: with two
        things changed while its answer is missing nobody could tell it from a stranger's, short of asking for ids by name."""
        if row.qty != self._world.placed[row.venue_id].qty:
            return
        last, tick = self._world.engine.last(row.symbol), self._world.instruments[row.symbol].tick_size
        if row.trigger_price is None or last is None:
            return
        trigger = row.trigger_price + sign * self._fates.amount(1, 10) * tick
        if (trigger - last) * row.side.sign > 0:
            self._world.replace(row.venue_id, row.qty, trigger, row.limit_price)


def _order(
    symbol: str, side: Side, kind: OrderType, qty: Decimal, limit: Decimal | None = None, trigger: Decimal | None = None
) -> Order:
    return Order("", symbol, Purpose.ENTRY, side, kind, qty, limit, trigger)
