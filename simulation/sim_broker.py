"""The broker of a simulated process: the contract of `brokers.base` over the simulated venue, with the network in between.

Owns the faults of the way there and back and of a venue that serves nobody. Every call is a seam: it takes time, other threads
go on meanwhile, and the process may die before or after it. What outlives the process is in the world.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from typing import TypeVar

from brokers.base import (
    BrokerError,
    Capabilities,
    Fatal,
    FillRow,
    OrderRow,
    PositionRow,
    Refused,
    SessionHours,
    Unanswered,
    Unavailable,
    Unreadable,
)
from simulation import sim_shown, sim_venue
from simulation.fates import Fates, Kind
from simulation.scheduler import Scheduler
from simulation.sim_shown import Shown
from simulation.sim_venue import VITAL, OrderDesk
from simulation.world import World
from state.instrument import Instrument
from state.orders import Order

T = TypeVar("T")
SETTLE_MS = 10_000
THERE_MS, BACK_MS = 20, 20  # a calm network
SLOW_MS = (200, 4_000)
SILENCE_MS = (20, 3_000)  # until a call without an answer is given up
LATE_MS = (100, 6_500)  # from then on; with what the books hide and hold back it is seen within the settle window
BEYOND_MS = (SETTLE_MS + 2_000, SETTLE_MS + 20_000)
POLL_MS = 5_000  # after a read that failed the venue is asked again within so long

_CALLS = {"orders": ("an order", 1), "replace": ("a change", 2), "cancel": ("a cancel", 2)}  # the rarer, the likelier
_TRANSPORT = {
    "refused": ("{0} is refused without need", 0.03),
    "unavailable": ("{0} never leaves: no connection", 0.03),
    "throttled": ("{0} is answered 429 and not looked at", 0.03),
    "slow_there": ("{0} is up to 4 s on its way", 0.05),
    "slow_back": ("the reply to {0} takes up to 4 s, and what it caused comes first", 0.05),
    "lost_there": ("{0} is lost on its way: no answer", 0.04),
    "lost_back": ("{0} is done: no answer", 0.05),
    "late": ("no answer to {0}, and it is done up to 6.5 s after that", 0.04),
}
_OUTAGES = {
    "venue.expired": (Kind("the broker session has expired: everything is refused for up to 8 s", 0.0004), 8_000),
    "venue.maintenance": (Kind("nothing is looked at for up to 8 s", 0.0006), 8_000),
    "venue.limited": (Kind("every request is answered 429 for up to 3 s", 0.001), 3_000),
    "venue.busy": (Kind("every request takes a second longer for up to 10 s", 0.0008), 10_000),
}
KINDS: dict[str, Kind] = {
    **{
        f"{call}.{what}": Kind(words.format(name), rate * factor)
        for call, (name, factor) in _CALLS.items()
        for what, (words, rate) in _TRANSPORT.items()
    },
    "orders.beyond_window": Kind("BREAKS THE ASSUMPTION: no answer, accepted after the settle window", 0.004),
    **sim_venue.KINDS,
    "reads.orders_fail": Kind("the order book is not answered", 0.02),
    "reads.order_fail": Kind("the question for one order is not answered", 0.04),
    "reads.fills_fail": Kind("the trade book is not answered", 0.02),
    "reads.positions_fail": Kind("the position book is not answered", 0.02),
    "reads.quotes_fail": Kind("quotes are not answered", 0.05),
    "reads.unreadable": Kind("an answer nobody can read", 0.01),
    "reads.slow": Kind("a read takes up to 4 s, the truth it tells is as old as that or not", 0.015),
    **sim_shown.KINDS,
    **{name: kind for name, (kind, _) in _OUTAGES.items()},
}


class SimBroker:
    """A `Broker` without client order ids, like OpenAlgo's: an unanswered order is found by what it looks like."""

    capabilities = Capabilities(
        client_ids=False, replace=True, native_stops=True, order_stream=True, settle_window_s=SETTLE_MS / 1000
    )

    def __init__(self, world: World, scheduler: Scheduler, fates: Fates) -> None:
        self._world, self._scheduler, self._fates = world, scheduler, fates
        self._desk, self._shown = OrderDesk(world, fates), Shown(world, fates)

    def check(self) -> str:
        self._world.outages.pop("venue.expired", None)  # whoever starts the runner has logged in before
        self._scheduler.sleep(THERE_MS)
        self._be_served()
        return "analyze"

    def submit(self, order: Order) -> str:
        return self._order_call("orders", order, lambda: self._desk.accept(order))

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        self._order_call("replace", order, lambda: self._desk.change(order, qty, trigger_price, limit_price))

    def cancel(self, order: Order) -> None:
        self._order_call("cancel", order, lambda: self._desk.cancel(order))

    def order(self, order: Order) -> OrderRow | None:
        return self._read("order", lambda: self._shown.order(order.venue_id or ""))

    def orders(self) -> list[OrderRow]:
        return self._read("orders", self._shown.orders)

    def fills(self) -> list[FillRow]:
        return self._read("fills", self._shown.fills)

    def positions(self) -> list[PositionRow]:
        return self._read("positions", self._shown.positions)

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        last = self._world.engine.last
        return self._read("quotes", lambda: {s: price for s in symbols if (price := last(s)) is not None})

    def instrument(self, symbol: str) -> Instrument:
        if symbol not in self._world.instruments:
            raise Refused(f"no instrument {symbol}")
        return self._world.instruments[symbol]

    def session_hours(self, day: date) -> SessionHours | None:
        return None

    def skew_ms(self) -> int | None:
        return None

    def refused(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        """Nothing is open."""

    # -- there and back --------------------------------------------------------------------------------------------------------

    def _order_call(self, call: str, order: Order, act: Callable[[], T]) -> T:
        fates = self._fates
        self._wait(THERE_MS, f"{call}.slow_there")
        self._ask_the_door()
        if fates.strikes(f"{call}.unavailable"):
            raise Unavailable("connection refused")
        if fates.strikes(f"{call}.throttled"):
            raise Unavailable("429 too many requests", fates.amount(0, 2) or None)
        if fates.strikes(f"{call}.refused"):
            raise Refused(fates.pick(["margin", "risk desk", "market protection"]))
        if fates.strikes(f"{call}.lost_there"):
            self._be_silent(order, SETTLE_MS)
        for kind, (least_ms, most_ms) in ((f"{call}.late", LATE_MS), (f"{call}.beyond_window", BEYOND_MS)):
            if fates.strikes(kind):
                silence_ms, late_ms = fates.amount(*SILENCE_MS), fates.amount(least_ms, most_ms)
                as_sent = kind.endswith("beyond_window")  # one promise broken is enough for one order
                self._desk.later(
                    silence_ms + late_ms,
                    (lambda: self._desk.accept(order, as_sent=True)) if as_sent else partial(self._act_late, order, act),
                )
                self._be_silent(order, late_ms, silence_ms)
        try:
            return act()
        finally:
            if fates.strikes(f"{call}.lost_back"):
                self._be_silent(order, self._doubt_ms(order))
            self._wait(BACK_MS, f"{call}.slow_back")

    def _act_late(self, order: Order, act: Callable[[], T]) -> T:
        try:
            return act()
        finally:
            self._world.troubled(self._doubt_ms(order), order.symbol)

    def _doubt_ms(self, order: Order) -> int:
        """How long an order without an answer is looked for, once it is in the book: not at all if it looks like itself."""
        return SETTLE_MS if order.client_id in self._desk.altered else 0

    def _be_silent(self, order: Order, effect_ms: int, silence_ms: int | None = None) -> None:
        """No answer. `effect_ms`: how long nobody can know what has become of it."""
        silence_ms = self._fates.amount(*SILENCE_MS) if silence_ms is None else silence_ms
        self._world.troubled(silence_ms)
        self._world.troubled(silence_ms + (effect_ms if order.purpose in VITAL else 0), order.symbol)
        self._scheduler.sleep(silence_ms)
        raise Unanswered("no answer")

    def _read(self, what: str, look: Callable[[], T]) -> T:
        fates = self._fates
        slow_ms = fates.amount(*SLOW_MS) if fates.strikes("reads.slow") else 0
        late_ms = slow_ms if slow_ms and fates.amount(0, 1) else 0
        if slow_ms:
            self._world.troubled(slow_ms)
        self._scheduler.sleep(THERE_MS + slow_ms - late_ms)
        self._ask_the_door()
        try:
            if fates.strikes(f"reads.{what}_fail"):
                raise Unavailable("503")
            if fates.strikes("reads.unreadable"):
                raise Unreadable("an answer in HTML")
            answer = look()
        except BrokerError:
            self._world.troubled(POLL_MS)
            raise
        finally:
            self._scheduler.sleep(BACK_MS + late_ms)
        return answer

    def _wait(self, usual_ms: int, kind: str) -> None:
        slow_ms = self._fates.amount(*SLOW_MS) if self._fates.strikes(kind) else 0
        if slow_ms:
            self._world.troubled(slow_ms)
        self._scheduler.sleep(usual_ms + slow_ms)

    def _ask_the_door(self) -> None:
        world = self._world
        for kind, (_, most_ms) in _OUTAGES.items():
            if self._fates.strikes(kind):
                lasts_ms = self._fates.amount(300, most_ms)
                world.outages[kind] = world.mono_ms + lasts_ms
                world.troubled(lasts_ms)
        if world.outages:
            self._be_served()

    def _be_served(self) -> None:
        world, outages = self._world, self._world.outages
        for kind in [kind for kind, until_ms in outages.items() if world.mono_ms >= until_ms]:
            del outages[kind]
        if "venue.expired" in outages:
            raise Fatal("the broker session has expired")
        if "venue.maintenance" in outages:
            raise Unavailable("maintenance")
        if "venue.limited" in outages:
            raise Unavailable("429 too many requests", 1.0 if outages["venue.limited"] % 2 else None)
        if "venue.busy" in outages:
            self._scheduler.sleep(1_000)
