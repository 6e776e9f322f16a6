"""Small builders for the tests of the core: one symbol, its rules, a fake strategy; `Play` feeds `decide` event by event.

Prices are written for the long side; `at(side, price)` is their mirror image in the entry price for the short side.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from state.commands import Alarm, Cancel, Command, Query, Replace, Submit
from state.events import (
    Accepted,
    Acknowledged,
    Act,
    BarClosed,
    Event,
    FillSeen,
    FlattenAsked,
    Heartbeat,
    NotSent,
    OrderSeen,
    Tick,
    WasRefused,
    WentUnanswered,
)
from state.instrument import Instrument
from state.ledger import Fill
from state.machine import decide
from state.orders import Order, OrderType, Purpose, Side, Status
from state.reports import OrderRow, Reported
from state.rules import Rules
from state.sizing import fixed
from state.snapshot import SLOT_OF, Snapshot
from state.strategy import Bar, Enter, MoveStop, Strategy, View, Wish

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
both_sides = pytest.mark.parametrize("side", [BUY, SELL], ids=["long", "short"])
both_venues = pytest.mark.parametrize("can_replace", [True, False], ids=["amends", "cancels"])


def ist(text: str) -> int:
    """ "10:00:00" of the test day in India, as UTC epoch ms."""
    hour, minute, second = (int(part) for part in text.split(":"))
    return int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1000) + (hour * 3600 + minute * 60 + second - 19_800) * 1000


TEN = ist("10:00:00")
SYMBOL, DAY = "SBIN", "20261120"
SBIN = Instrument(SYMBOL, "NSE", D("0.05"))
ENTRY, TRIGGER = D("731.15"), D("730.65")
STOP_DISTANCE = D("1.00")  # 20 ticks
BAR_MS = 900_000


def at(side: Side, price: str | Decimal) -> Decimal:
    return D(price) if side is BUY else 2 * ENTRY - D(price)


class Plan(Strategy):
    """Enters whenever flat and price is at or beyond the trigger: only the machine holds it back. `wishes` overrule, by price."""

    name = "plan"

    def __init__(
        self,
        side: Side = BUY,
        wishes: Mapping[Decimal, Any] | None = None,
        *,
        type: OrderType = OrderType.STOP_LIMIT,
        stop: Any = None,
        target: Any = None,
        bar_wish: Any = None,
        bar_ms: int = BAR_MS,
    ) -> None:
        self.side, self.wishes, self.type, self.stop, self.target = side, dict(wishes or {}), type, stop, target
        self.bar_wish, self.bar_ms = bar_wish, bar_ms

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if price in self.wishes:
            wish = self.wishes[price]
            if isinstance(wish, Exception):
                raise wish
            return wish  # type: ignore[no-any-return]
        beyond = (TRIGGER - price if self.side is BUY else price - at(SELL, TRIGGER)) >= 0
        if not view.flat or not beyond:
            return None
        limit = None if self.type in (OrderType.MARKET, OrderType.STOP) else ENTRY
        trigger = None if self.type in (OrderType.MARKET, OrderType.LIMIT) else ENTRY
        return Enter(self.side, self.type, f"trigger touched at {price}", limit_price=limit, trigger_price=trigger)

    def on_bar(self, view: View, bar: Bar) -> Wish:
        return self.bar_wish  # type: ignore[no-any-return]

    def stop_price(self, view: View) -> Decimal:
        if isinstance(self.stop, Exception):
            raise self.stop
        if self.stop is not None:
            return self.stop  # type: ignore[no-any-return]
        assert view.average is not None and view.side is not None
        return view.average - STOP_DISTANCE * view.side.sign

    def target_price(self, view: View) -> Decimal | None:
        return self.target  # type: ignore[no-any-return]


def make_rules(side: Side = BUY, strategy: Strategy | None = None, **changes: Any) -> Rules:
    known: dict[str, Any] = {
        "instrument": SBIN,
        "strategy": strategy or Plan(side),
        "qty": D(5),
        "day": DAY,
        "entry_from_ms": ist("09:16:00"),
        "cutoff_ms": ist("14:45:00"),
        "max_entries": 3,
    }
    found = known | changes
    found.setdefault("size", fixed(found.pop("qty")))
    found.pop("qty", None)
    return Rules(**found)


def move(side: Side, level: str, why: str = "trail") -> MoveStop:
    return MoveStop(at(side, level), why)


class Play:
    """One symbol, event by event. Every call returns the commands that followed; the times are `mono` and TEN + `mono`."""

    def __init__(self, side: Side = BUY, strategy: Strategy | None = None, **rules: Any) -> None:
        self.side = side
        self.rules = make_rules(side, strategy, **rules)
        self.s = Snapshot(SYMBOL)
        self.mono = 1_000
        self.trades = 0

    # -- events ----------------------------------------------------------------------------------------------------------

    @property
    def when(self) -> dict[str, Any]:
        return {"mono_ms": self.mono, "now_ms": TEN + self.mono}

    def on(self, event: Event) -> list[Command]:
        self.s, commands = decide(self.s, event, self.rules)
        return commands

    def tick(self, price: str | Decimal) -> list[Command]:
        return self.on(Tick(price=at(self.side, price), **self.when))

    def bar(self, bar: Bar) -> list[Command]:
        return self.on(BarClosed(bar=bar, **self.when))

    def beat(self, after_ms: int = 0) -> list[Command]:
        self.mono += after_ms
        return self.on(Heartbeat(**self.when))

    def beats(self, total_ms: int, every_ms: int = 250) -> list[Command]:
        """Heartbeats as the clock thread gives them; everything they asked for."""
        return [command for _ in range(total_ms // every_ms) for command in self.beat(every_ms)]

    def accepted(self, order: Order, venue_id: str = "") -> list[Command]:
        return self.on(Accepted(client_id=order.client_id, venue_id=venue_id or f"V-{order.client_id}", **self.when))

    def acknowledged(self, order: Order, act: Act) -> list[Command]:
        return self.on(Acknowledged(client_id=order.client_id, act=act, **self.when))

    def refused(self, order: Order, reason: str = "no", act: Act = Act.SUBMIT) -> list[Command]:
        return self.on(WasRefused(client_id=order.client_id, act=act, reason=reason, **self.when))

    def not_sent(self, order: Order, reason: str = "unreachable", act: Act = Act.SUBMIT, again: bool = True) -> list[Command]:
        return self.on(NotSent(client_id=order.client_id, act=act, reason=reason, again=again, **self.when))

    def unanswered(self, order: Order, act: Act = Act.SUBMIT, venue_id: str | None = None) -> list[Command]:
        return self.on(WentUnanswered(client_id=order.client_id, act=act, reason="timed out", venue_id=venue_id, **self.when))

    def fill(self, order: Order, qty: str | Decimal, price: str | Decimal | None = None, trade_id: str = "") -> list[Command]:
        """A trade row; `price` long-side, by default where the order was meant to trade."""
        self.trades += 1
        meant = order.trigger_price or order.limit_price or ENTRY
        fill = Fill(
            trade_id=trade_id or f"T{self.trades}",
            client_id=order.client_id,
            purpose=order.purpose,
            side=order.side,
            qty=D(qty),
            price=meant if price is None else at(self.side, price),
            at_ms=TEN + self.mono,
            source="stream",
        )
        return self.on(FillSeen(fill=fill, **self.when))

    def seen(self, order: Order, state: Reported = Reported.WORKING, asked_ms: int | None = None, **row: Any) -> list[Command]:
        """The venue's row of this order as it was last asked for, unless `row` says otherwise; filled as our ledger has it."""
        asked = self.mono if asked_ms is None else asked_ms
        seen = OrderSeen(client_id=order.client_id, row=self.row(order, state, **row), asked_ms=asked, **self.when)
        return self.on(seen)

    def row(self, order: Order, state: Reported = Reported.WORKING, **changes: Any) -> OrderRow:
        filled = self.s.ledger.filled(order.client_id)
        known: dict[str, Any] = {
            "venue_id": order.venue_id or f"V-{order.client_id}",
            "symbol": order.symbol,
            "side": order.side,
            "state": state,
            "qty": order.qty if order.asked_qty is None else order.asked_qty,
            "type": order.type,
            "limit_price": order.limit_price,
            "trigger_price": order.trigger_price if order.asked_trigger is None else order.asked_trigger,
            "filled": filled,
            "average": self.s.ledger.average(order.client_id),
        }
        return OrderRow(**(known | changes))

    def on_flatten(self) -> list[Command]:
        return self.on(FlattenAsked(reason="by hand", **self.when))

    # -- short cuts ------------------------------------------------------------------------------------------------------

    @property
    def entry(self) -> Order:
        assert self.s.entry is not None
        return self.s.entry

    @property
    def stop(self) -> Order:
        assert self.s.stop is not None
        return self.s.stop

    @property
    def exit(self) -> Order:
        assert self.s.exit is not None
        return self.s.exit

    def enter(self) -> Play:
        """Armed and resting at the venue."""
        self.tick("730.65")
        self.accepted(self.entry)
        return self

    def hold(self, qty: str = "5") -> Play:
        """In position, `qty` of 5 filled, protected as far as the venue shows."""
        self.enter()
        entry = self.entry
        self.fill(entry, qty)
        if D(qty) == entry.qty:
            self.seen(entry, Reported.FILLED)
        self.accepted(self.stop)
        self.seen(self.stop)
        return self

    def stop_out(self, price: str = "730.15") -> Play:
        stop = self.stop
        self.fill(stop, abs(self.s.position), price)
        self.seen(stop, Reported.FILLED)
        return self


# -- what came out -----------------------------------------------------------------------------------------------------------


def told(commands: list[Command]) -> list[str]:
    """Commands in a few words: "submit S SELL 5 @ 730.15"."""
    return [_words(command) for command in commands]


def _words(command: Command) -> str:
    if isinstance(command, Submit):
        order = command.order
        price = order.trigger_price or order.limit_price or "market"
        return f"submit {order.purpose.value} {order.side.value} {order.qty} @ {price}"
    if isinstance(command, Replace):
        return f"replace {command.order.purpose.value} {command.qty} @ {command.trigger_price}"
    if isinstance(command, Cancel | Query):
        return f"{type(command).__name__.lower()} {command.order.purpose.value}"
    assert isinstance(command, Alarm)
    return f"alarm: {command.text}"


def sent(commands: list[Command]) -> list[str]:
    """Only what reaches the venue's book."""
    return [_words(command) for command in commands if isinstance(command, Submit | Replace | Cancel)]


def alarms(commands: list[Command]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Alarm)]


def order_of(purpose: Purpose, side: Side, qty: str = "5", **changes: Any) -> Order:
    """An order as the machine makes it, before its first answer."""
    known: dict[str, Any] = {
        "client_id": f"{SYMBOL}-{DAY}-{purpose.value}0",
        "symbol": SYMBOL,
        "purpose": purpose,
        "side": side,
        "type": OrderType.MARKET,
        "qty": D(qty),
        "status": Status.INTENT,
    }
    return Order(**(known | changes))


def slot_names(snapshot: Snapshot) -> list[str]:
    """Which slots are taken."""
    return [SLOT_OF[order.purpose] for order in snapshot.live_orders()]
