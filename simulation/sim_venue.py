"""The order desk of the simulated venue: takes orders, changes and cancels to the book, and does with them what venues do.

Owns the faults that happen behind the network: an order that becomes another, ends by itself or fills in pieces, a change or a
cancel that is acknowledged and not done, late, or too late. Everything it does is true: it is in the book.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from msgspec.structs import replace

from brokers.base import BrokerError, Refused, Reported, Unanswered
from simulation.fates import Fates, Kind
from simulation.world import World
from state.orders import ZERO, Order, OrderType, Purpose

KINDS: dict[str, Kind] = {
    "orders.id_in_error": Kind("an error that names the order's id, and the order rests", 0.02),
    "orders.id_rejected": Kind("an error that names the order's id, and the order is rejected", 0.02),
    "orders.rejected_later": Kind("accepted; rejected up to 2 s later, nothing filled", 0.04),
    "orders.ended_by_venue": Kind("cancelled or expired by the venue, up to 20 s later", 0.04),
    "orders.retyped": Kind("a stop becomes a limit order without a trigger, and fills or rests", 0.03),
    "orders.shrunk": Kind("a stop is taken for half of its quantity", 0.03),
    "orders.moved": Kind("a stop is taken up to 10 ticks further away", 0.03),
    "orders.pieces": Kind("fills a little with each trade of the market", 0.08),
    "orders.hidden": Kind("no book shows the order for up to 1.5 s", 0.06),
    "replace.ignored": Kind("acknowledged, never done", 0.08),
    "replace.lags": Kind("acknowledged, done up to 1.5 s later", 0.08),
    "replace.bent": Kind("acknowledged, done up to 3 ticks short of it", 0.04),
    "replace.loses": Kind("the order fills, or a part of it, before the change is looked at", 0.06),
    "cancel.ignored": Kind("acknowledged, never done", 0.08),
    "cancel.lags": Kind("acknowledged, done up to 3 s later", 0.1),
    "cancel.loses": Kind("the order fills, or a part of it, before the cancel is looked at", 0.1),
    "cancel.undone": Kind("BREAKS A PROMISE: cancelled and confirmed, and fills up to 4 s later", 0.006),
}
HIDDEN_MS = 1_500
VITAL = frozenset({Purpose.STOP, Purpose.TARGET, Purpose.EXIT})  # while one of these is in doubt, so is what is held


class OrderDesk:
    """`accept`, `change` and `cancel` raise Refused as the book does; `accept` also Unanswered, with the venue order id."""

    def __init__(self, world: World, fates: Fates) -> None:
        self._world, self._fates = world, fates
        self.altered: dict[str, None] = {}  # client order ids of what is not in the book as it was sent

    # -- orders ----------------------------------------------------------------------------------------------------------------

    def accept(self, order: Order, as_sent: bool = False) -> str:
        world, fates = self._world, self._fates
        booked, fills = (None, True) if as_sent else self._on_the_way(order)
        if booked is not None:
            self.altered[order.client_id] = None
        venue_id = world.submit(order, booked)
        if not fills:
            world.engine.caps[venue_id] = ZERO
        self._doom(order, venue_id)
        if order.qty > self._lot(order) and fates.strikes("orders.pieces"):
            world.engine.shares[venue_id] = self._some(order, order.qty / 2)
            self._hinder(order, 10_000)
        if fates.strikes("orders.hidden"):
            world.hidden[venue_id] = world.mono_ms + fates.amount(100, HIDDEN_MS)
            world.troubled(HIDDEN_MS, order.symbol)
        if fates.strikes("orders.id_in_error"):
            raise Unanswered(f"500 with order id {venue_id}", venue_id)
        if fates.strikes("orders.id_rejected"):
            world.end(venue_id, Reported.REJECTED, "no positions or holdings available")
            raise Unanswered(f"400 with order id {venue_id}", venue_id)
        return venue_id

    def _on_the_way(self, order: Order) -> tuple[Order | None, bool]:
        """What the venue makes of a stop, where that is not what was sent; and whether that may fill."""
        fates, trigger = self._fates, order.trigger_price
        if order.type is not OrderType.STOP or trigger is None:
            return None, True
        if fates.strikes("orders.retyped"):
            self._world.troubled(0)
            return replace(order, type=OrderType.LIMIT, limit_price=trigger, trigger_price=None), bool(fates.amount(0, 1))
        if order.qty > self._lot(order) and fates.strikes("orders.shrunk"):
            self._world.troubled(0)
            return replace(order, qty=self._some(order, order.qty / 2)), True
        if fates.strikes("orders.moved"):
            self._world.troubled(0)
            return replace(order, trigger_price=trigger + order.side.sign * fates.amount(1, 10) * self._tick(order)), True
        return None, True

    def _doom(self, order: Order, venue_id: str) -> None:
        """It will end by itself. What is to be rejected fills nothing before."""
        fates = self._fates
        if fates.strikes("orders.rejected_later"):
            delay_ms = fates.amount(50, 2_000)
            self._world.engine.caps[venue_id] = ZERO
            self._hinder(order, delay_ms)
            self.later(delay_ms, lambda: self._world.end(venue_id, Reported.REJECTED, "rejected by the exchange"))
        elif fates.strikes("orders.ended_by_venue"):
            word = Reported[fates.pick(["CANCELLED", "EXPIRED"])]
            self.later(fates.amount(200, 20_000), lambda: self._world.end(venue_id, word, "by the exchange"))

    # -- changes and cancels ---------------------------------------------------------------------------------------------------

    def change(self, order: Order, qty: Decimal, trigger: Decimal | None, limit: Decimal | None) -> None:
        fates, venue_id = self._fates, order.venue_id or ""
        if fates.strikes("replace.ignored"):
            return self._world.troubled(0)
        if fates.strikes("replace.lags"):
            delay_ms = fates.amount(100, 1_500)
            self._world.troubled(delay_ms, order.symbol)
            was = self._values(venue_id)  # a venue does one change after the other: a newer one takes the place of this
            act = self._world.replace
            return self.later(delay_ms, lambda: self._values(venue_id) == was and act(venue_id, qty, trigger, limit))
        if fates.strikes("replace.loses"):
            self._fill_some(order)
        if trigger is not None and fates.strikes("replace.bent"):
            trigger += order.side.sign * fates.amount(1, 3) * self._tick(order)
            self._world.troubled(0)
        return self._world.replace(venue_id, qty, trigger, limit)

    def cancel(self, order: Order) -> None:
        fates, world, venue_id = self._fates, self._world, order.venue_id or ""
        if fates.strikes("cancel.ignored"):
            return world.troubled(0)
        if fates.strikes("cancel.lags"):
            delay_ms = fates.amount(100, 3_000)
            world.troubled(delay_ms, order.symbol)
            return self.later(delay_ms, lambda: world.cancel(venue_id))
        if fates.strikes("cancel.loses"):
            self._fill_some(order)
        world.cancel(venue_id)
        if fates.strikes("cancel.undone"):
            self.later(fates.amount(300, 4_000), lambda: world.fill(venue_id, order.qty))
        return None

    def later(self, delay_ms: int, act: Callable[[], object]) -> None:
        """Whether or not anybody still listens; what the book refuses then, nobody hears of."""

        def happen() -> None:
            self._world.troubled(0)
            try:
                act()
            except BrokerError:
                return

        self._world.later(delay_ms, happen)

    def _fill_some(self, order: Order) -> None:
        lots = int(order.qty / self._lot(order))
        qty = self._fates.amount(1, max(lots, 1)) * self._lot(order)
        if self._working(order.venue_id or ""):
            self._world.fill(order.venue_id or "", qty)
            self._world.troubled(0)

    def _working(self, venue_id: str) -> bool:
        row = self._world.engine.order(venue_id)
        return row is not None and row.state is Reported.WORKING

    def _values(self, venue_id: str) -> tuple[Decimal, Decimal | None, Decimal | None]:
        row = self._world.row(venue_id)
        if row.state is not Reported.WORKING:
            raise Refused(f"Cannot modify order in {row.state.value.lower()} status")
        return row.qty, row.trigger_price, row.limit_price

    def _hinder(self, order: Order, for_ms: int) -> None:
        if order.purpose in VITAL:
            self._world.troubled(for_ms, order.symbol)

    def _some(self, order: Order, most: Decimal) -> Decimal:
        """A part of its quantity: at least a lot, at most `most`, in whole lots."""
        lot = self._lot(order)
        return max(lot, self._world.instruments[order.symbol].quantity_down(most))

    def _lot(self, order: Order) -> Decimal:
        return self._world.instruments[order.symbol].lot_size

    def _tick(self, order: Order) -> Decimal:
        return self._world.instruments[order.symbol].tick_size
