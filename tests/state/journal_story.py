"""Stories for the journal's tests: the real machine, a small strategy, and a player that commits whatever would be committed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from state.clock import VirtualClock
from state.events import (
    Accepted,
    Acknowledged,
    Act,
    BarClosed,
    EntriesOff,
    EntriesOn,
    Event,
    FillSeen,
    FlattenAsked,
    HaltAsked,
    Heartbeat,
    NotSent,
    OrderSeen,
    PositionSeen,
    ProvedAbsent,
    Restarted,
    ResumeAsked,
    Tick,
    WasQuarantined,
    WasRefused,
    WentUnanswered,
)
from state.instrument import Instrument
from state.journal import Journal, Resumed
from state.ledger import Fill
from state.machine import decide
from state.orders import Order, OrderType, Purpose, Side
from state.reports import OrderRow, Reported
from state.rules import Rules
from state.sizing import fixed
from state.snapshot import SLOT_OF, SLOTS, Snapshot
from state.strategy import Bar, Enter, MoveStop, Strategy, View, Wish
from state.symbol_state import Work, _worth_recording

DAY_MS = 1_795_132_800_000
OPEN_MS = DAY_MS + 13_500_000
MONO_MS = 86_400_123


class Dip(Strategy):
    """Buys at or below 730.65, aims 5 above, trails 1 below a closed bar's low."""

    name = "dip"

    def __init__(self) -> None:
        """Nothing to be told."""

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if view.flat and price <= Decimal("730.65"):
            level = Decimal("731.15")
            return Enter(Side.BUY, OrderType.STOP_LIMIT, f"trigger 730.65 touched at {price}", level, level)
        return None

    def on_bar(self, view: View, bar: Bar) -> Wish:
        return MoveStop(bar.low - 1, "trail") if view.position else None

    def stop_price(self, view: View) -> Decimal:
        assert view.average is not None
        return view.average - 1

    def target_price(self, view: View) -> Decimal | None:
        assert view.average is not None
        return view.average + 5


def rules_of(symbol: str, **changed: Any) -> Rules:
    tick = Decimal("0.05")
    base: dict[str, Any] = {"max_entries": 50, "entry_from_ms": 0, "cutoff_ms": 1 << 60} | changed
    return Rules(Instrument(symbol, "NSE", tick), Dip(), fixed(Decimal(5)), "20261120", **base)


class Story:
    """One symbol's events through the real machine; what is worth recording goes to `keep`, as SymbolState does it."""

    def __init__(self, symbol: str, keep: Callable[[Work], None], snapshot: Snapshot | None = None, **rules: Any) -> None:
        self.rules = rules_of(symbol, **rules)
        self.keep = keep
        self.snapshot = snapshot or Snapshot(symbol)
        self.kept = self.snapshot  # as last handed on
        self.ms = 0

    def happen(self, event: Event) -> Work | None:
        before = self.snapshot
        self.snapshot, commands = decide(before, event, self.rules)
        if not commands and not _worth_recording(before, self.snapshot):
            return None
        work = Work("ticks", event, before, self.snapshot, tuple(commands))
        self.keep(work)
        self.kept = self.snapshot
        return work

    def times(self, ms: int = 10) -> dict[str, Any]:
        self.ms += ms
        return {"now_ms": OPEN_MS + self.ms, "mono_ms": MONO_MS + self.ms}

    # -- what a day brings ---------------------------------------------------------------------------------------------------

    def tick(self, price: str) -> None:
        self.happen(Tick(price=Decimal(price), **self.times()))

    def accepted(self, slot: str, venue_id: str) -> None:
        self.happen(Accepted(client_id=self.order(slot).client_id, venue_id=venue_id, **self.times()))

    def seen(self, slot: str, state: Reported, filled: str = "0", average: str | None = None, reason: str = "") -> None:
        self.seen_order(self.order(slot), state, filled, average, reason)

    def seen_order(self, order: Order, state: Reported, filled: str, average: str | None, reason: str = "") -> None:
        times = self.times()
        row = OrderRow(
            venue_id=order.venue_id or "v?",
            symbol=order.symbol,
            side=order.side,
            state=state,
            qty=order.asked_qty or order.qty,
            type=order.type,
            trigger_price=order.asked_trigger or order.trigger_price,
            filled=Decimal(filled),
            average=None if average is None else Decimal(average),
            reason=reason,
        )
        self.happen(OrderSeen(client_id=order.client_id, row=row, asked_ms=times["mono_ms"], **times))

    def filled(self, slot: str, trade_id: str, qty: str, price: str) -> None:
        self.filled_order(self.order(slot), trade_id, qty, price)

    def filled_order(self, order: Order, trade_id: str, qty: str, price: str) -> None:
        times = self.times()
        fill = Fill(
            trade_id=trade_id,
            client_id=order.client_id,
            purpose=order.purpose,
            side=order.side,
            qty=Decimal(qty),
            price=Decimal(price),
            at_ms=times["now_ms"],
            fee=Decimal("1.25"),
            source="stream",
        )
        self.happen(FillSeen(fill=fill, **times))

    def order(self, slot: str) -> Order:
        order = getattr(self.snapshot, slot)
        assert isinstance(order, Order), f"no {slot} order"
        return order

    # -- anything may happen -----------------------------------------------------------------------------------------------------

    def chance(self, what: int, which: int, number: int) -> None:
        """One event, plausible or not, chosen by three numbers."""
        orders = [*self.snapshot.live_orders(), *self.snapshot.ended]
        order = orders[which % len(orders)] if orders else None
        times = self.times(1 + number * 97)
        price = Decimal("728") + Decimal(number % 13) / 4
        if order is None or what in (0, 1, 2):
            self.happen(_market(what, price, times))
        else:
            self._about(order, what, number, times)

    def _about(self, order: Order, what: int, number: int, times: dict[str, Any]) -> None:
        act = list(Act)[number % 3]
        about: dict[str, Any] = {"client_id": order.client_id, **times}
        partly, full = str(1 + number % int(order.qty)), str(order.qty)
        if what == 3:
            self.happen(Accepted(venue_id=f"v{number % 3}", **about))
        elif what == 4:
            self.happen(Acknowledged(act=act, **about))
        elif what == 5:
            self.happen(WasRefused(act=act, reason="no: \u20b9 margin", **about))
        elif what == 6:
            self.happen(NotSent(act=act, reason="link down", again=number % 2 == 0, **about))
        elif what == 7:
            self.happen(WentUnanswered(act=act, reason="time-out", **about))
        elif what == 8:
            self.happen((ProvedAbsent(**about), WasQuarantined(reason="two candidates", **about))[number % 2])
        elif what in (9, 10):
            self.filled_order(order, f"t{number % 6}", partly, f"731.{number % 7}0")
        elif what == 11:
            state = list(Reported)[number % 6]
            self.seen_order(order, state, full if state is Reported.FILLED else partly, f"730.{number % 7}5", "because")
        elif what == 12:
            self.seen_order(order, Reported.WORKING, "0", None)
        else:
            self.happen(_people(what, number, times))


def _market(what: int, price: Decimal, times: dict[str, Any]) -> Event:
    if what == 0:
        return Heartbeat(**times)
    if what == 1:
        start = times["now_ms"] - 1_000
        return BarClosed(
            bar=Bar(start_ms=start, end_ms=times["now_ms"], open=price, high=price + 1, low=price, close=price), **times
        )
    return Tick(price=price, **times)


def _people(what: int, number: int, times: dict[str, Any]) -> Event:
    choices: list[Event] = [
        EntriesOff(source="feed", reason="stale", **times),
        EntriesOn(source="feed", **times),
        FlattenAsked(reason="asked", **times),
        HaltAsked(reason="asked", **times),
        ResumeAsked(**times),
        Restarted(**times),
        PositionSeen(qty=Decimal(number % 7), asked_ms=times["mono_ms"], **times),
    ]
    return choices[(what + number) % len(choices)]


def open_journal(path: Path, key: str = "practice:A1:20261120", **kwargs: Any) -> tuple[Journal, Resumed]:
    clock = VirtualClock(OPEN_MS)
    journal = Journal.open(path, clock=clock, wall=clock, **kwargs)
    mode, account, day = key.split(":")
    return journal, journal.begin(key, mode=mode, account=account, day=day)


def buy(story: Story) -> None:
    """Long 5, protected by a working stop and with a working target."""
    story.tick("730.60")
    story.accepted("entry", "250611000012")
    story.filled("entry", f"B{story.ms}", "2", "731.15")
    story.filled("entry", f"B{story.ms}", "3", "731.20")
    story.seen("entry", Reported.FILLED, "5", "731.18")
    for slot, venue_id in (("stop", "250611000013"), ("target", "250611000014")):
        story.accepted(slot, venue_id)
        story.seen(slot, Reported.WORKING)
        if story.order(slot).asked_qty:
            story.seen(slot, Reported.WORKING)


def stopped_out(story: Story) -> None:
    """From `buy` to flat, by the stop."""
    story.filled("stop", f"S{story.ms}", "5", "730.15")
    story.seen("stop", Reported.FILLED, "5", "730.15")
    story.seen("target", Reported.CANCELLED)


__all__ = ["MONO_MS", "OPEN_MS", "SLOTS", "SLOT_OF", "Purpose", "Story", "buy", "open_journal", "rules_of", "stopped_out"]
