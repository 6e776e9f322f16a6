"""One symbol of the 80-20 strategy, driven by hand through the real SymbolState and machine, for the tests of `ops`."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from ops.story import lines
from ops.words import render
from state.clock import VirtualClock
from state.events import Accepted, Event, FillSeen, OrderSeen
from state.instrument import Instrument
from state.ledger import Fill
from state.orders import Order
from state.reports import OrderRow, Reported
from state.rules import Rules
from state.session import Session
from state.sizing import fixed
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work
from strategies.eighty_twenty import EightyTwenty

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 11, 20)
D = Decimal


def at(text: str) -> int:
    """Epoch ms of a time of the session day, like "09:31:02.114"."""
    moment = datetime.fromisoformat(f"{DAY}T{text}").replace(tzinfo=IST)
    return (moment - datetime.fromtimestamp(0, IST)) // timedelta(milliseconds=1)


class FakeOutbox:
    def __init__(self) -> None:
        self.works: list[Work] = []

    def put(self, symbol: str, work: Work) -> None:
        self.works.append(msgspec.structs.replace(work, thread="ticks"))


class Trading:
    """One symbol, driven by hand; `told` gives the lines since the last call."""

    def __init__(
        self, max_entries: int = 3, can_replace: bool = True, symbol: str = "SBIN", clock: VirtualClock | None = None
    ) -> None:
        self.symbol = symbol
        self.clock = clock or VirtualClock(at("09:15:00"))
        instrument = Instrument(symbol, "NSE", D("0.05"))
        session = Session(DAY, at("09:15:00"), at("09:16:00"), at("14:45:00"), at("15:30:00"))
        setup = EightyTwenty.Setup(symbol, D("731.15"), D("730.65"), date(2026, 11, 19))
        strategy = EightyTwenty(EightyTwenty.Params(max_entries=max_entries), setup, instrument, session)
        rules = Rules(
            instrument,
            strategy,
            fixed(D(5)),
            "20261120",
            session.entry_from_ms,
            session.cutoff_ms,
            max_entries,
            can_replace=can_replace,
        )
        self.outbox = FakeOutbox()
        self.state = SymbolState(Snapshot(symbol), rules, self.outbox, self.clock, bar_origin_ms=at("00:00:00"))
        self.trade_ids = 0
        self._told = 0

    @property
    def now(self) -> Snapshot:
        return self.state.snapshot

    def id(self, slot: str) -> str:
        """Client order id of the order in this slot."""
        order = getattr(self.now, slot)
        assert order is not None, f"no {slot} order"
        return str(order.client_id)

    def tick(self, time: str, price: str) -> None:
        self.clock.advance_to(at(time))
        self.state.tick(D(price), at(time))

    def beat(self, time: str) -> None:
        self.clock.advance_to(at(time))
        self.state.heartbeat(at(time), at(time))

    def apply(self, event: type[Event], after_ms: int = 0, **fields: Any) -> None:
        self.clock.advance(after_ms)
        self.state.apply(event(now_ms=self.clock.now_ms(), mono_ms=self.clock.monotonic_ms(), **fields))

    def accept(self, order: Order | None, venue_id: str, after_ms: int = 0) -> None:
        assert order is not None
        self.apply(Accepted, after_ms, client_id=order.client_id, venue_id=venue_id)

    def seen(self, order: Order | None, state: Reported = Reported.WORKING, after_ms: int = 0, **row: Any) -> None:
        assert order is not None
        fields = {"type": order.type, "trigger_price": order.trigger_price, "qty": order.qty} | row
        shown = OrderRow(venue_id=order.venue_id or "77", symbol=self.symbol, side=order.side, state=state, **fields)
        asked_ms = self.clock.monotonic_ms() + after_ms
        self.apply(OrderSeen, after_ms, client_id=order.client_id, row=shown, asked_ms=asked_ms)

    def fill(self, order: Order | None, qty: str, price: str, after_ms: int = 0, fee: str = "0") -> None:
        assert order is not None
        self.trade_ids += 1
        trade_id, now = f"{self.symbol}-T{self.trade_ids}", self.clock.now_ms() + after_ms
        row = Fill(trade_id, order.client_id, order.purpose, order.side, D(qty), D(price), now, D(fee), "INR", source="stream")
        self.apply(FillSeen, after_ms, fill=row)

    def told(self) -> list[str]:
        works, self._told = self.outbox.works[self._told :], len(self.outbox.works)
        return [render(line, IST, symbol_width=4) for work in works for line in lines(work)]

    def changes(self) -> list[tuple[str, str]]:
        works, self._told = self.outbox.works[self._told :], len(self.outbox.works)
        return [(line.change, line.cause) for work in works for line in lines(work)]

    def enter(self) -> None:
        self.tick("09:31:02.114", "730.60")
        self.accept(self.now.entry, "250611000012", 277)

    def go_long(self) -> None:
        self.enter()
        self.fill(self.now.entry, "5", "731.15", 1000)
        self.seen(self.now.entry, Reported.FILLED, filled=D(5), average=D("731.15"))
        self.accept(self.now.stop, "250611000013", 200)
        self.seen(self.now.stop, after_ms=40)
        self.changes()
