"""A test as a story: the real SymbolState, Outbox, Desk, Reports and Poller on a virtual clock, against a scriptable venue.

No threads: `tick` and `wait` do in one thread what the threads of a session do, in the order a replay does it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from brokers.base import FillRow, OrderRow
from brokers.breaker import Breaker
from brokers.desk import Desk, Outbox
from brokers.poller import Poller
from brokers.reports import Reports
from state.clock import VirtualClock
from state.commands import Alarm
from state.events import FlattenAsked, Restarted
from state.instrument import Instrument
from state.ledger import Fill, Trade, trades
from state.orders import Side
from state.rules import Rules
from state.sightings import evidence
from state.snapshot import Snapshot
from state.strategy import Strategy
from state.symbol_state import SymbolState, Work
from tests.brokers.doubles import Guard, Listener, Notebook, Venue
from tests.state.builders import BUY, SBIN, SYMBOL, TEN, at, make_rules

PULSE_MS = 250
POLL_MS = 5_000


class Story:
    """One or more symbols of one account. Prices are written for the long side (`builders.at`)."""

    def __init__(
        self,
        side: Side = BUY,
        strategy: Strategy | None = None,
        *,
        symbols: tuple[str, ...] = (SYMBOL,),
        stream: bool = True,
        venue: dict[str, Any] | None = None,
        deny: Any = None,
        breaker: Breaker | None = None,
        start_ms: int = TEN,
        **rules: Any,
    ) -> None:
        self.side = side
        self.stream = stream
        self.clock = VirtualClock(start_ms)
        self.guard = Guard()
        self.instruments = {symbol: Instrument(symbol, "NSE", SBIN.tick_size) for symbol in symbols}
        self.venue = self._venue(**(venue or {}))
        self.journal = Notebook(self.guard)
        self.listener = Listener()
        self.rules: dict[str, Rules] = {
            symbol: make_rules(side, strategy, **({"instrument": self.instruments[symbol]} | rules)) for symbol in symbols
        }
        self._more: dict[str, Any] = {} if deny is None else {"deny": deny}
        if breaker is not None:
            self._more["breaker"] = breaker
        self.told: list[str] = []  # by the desk, to a person
        self._build({symbol: Snapshot(symbol) for symbol in symbols})

    def _venue(self, **options: Any) -> Venue:
        return Venue(self.instruments, self.clock, self.guard, **options)

    def _build(self, snapshots: dict[str, Snapshot]) -> None:
        self.outbox = Outbox()
        self.states = {
            symbol: SymbolState(snapshot, self.rules[symbol], self.outbox, self.clock, bar_origin_ms=TEN)
            for symbol, snapshot in snapshots.items()
        }
        self.guard.watch(self.states.values())
        self.reports = Reports(self.states, self.clock, self.venue.capabilities.settle_window_s)
        self.desk = Desk(
            self.venue,
            self.journal,
            self.states,
            self.outbox,
            self.reports,
            self.clock,
            self.listener,
            tell=self.told.append,
            **self._more,
        )
        self.poller = Poller(self.venue, self.states, self.reports, self.clock, self.listener, POLL_MS / 1000)
        self._polled_ms = self.clock.monotonic_ms()

    # -- what happens ------------------------------------------------------------------------------------------------------

    def tick(self, *prices: str, symbol: str = SYMBOL, available: Decimal | None = None, every_ms: int = 10) -> None:
        """Trades at these prices: the venue matches, we see the price, its reports come, the desk acts."""
        for text in prices:
            self.clock.advance(every_ms)
            price = at(self.side, text)
            rows = self.venue.tick(symbol, price, self.clock.now_ms(), available)
            self.states[symbol].tick(price, self.clock.now_ms())
            if self.stream:
                self.report(*rows)
            self.desk.drain()

    def silent_tick(self, *prices: str, symbol: str = SYMBOL) -> None:
        """Trades at the venue that we hear nothing of: our feed is down."""
        for text in prices:
            self.clock.advance(10)
            self.venue.tick(symbol, at(self.side, text), self.clock.now_ms())

    def report(self, *rows: OrderRow | FillRow) -> None:
        for row in rows:
            if isinstance(row, FillRow):
                self.reports.fill(row, "stream")
            else:
                self.reports.order_update(row, self.clock.monotonic_ms(), "stream")

    def wait(self, ms: int) -> None:
        """Heartbeats and polls, as their threads would."""
        end_ms = self.clock.now_ms() + ms
        while self.clock.now_ms() < end_ms:
            self.clock.advance(min(PULSE_MS, end_ms - self.clock.now_ms()))
            self.pulse()

    def pulse(self) -> None:
        now_ms = self.clock.now_ms()
        self.pulse_state()
        self.desk.drain()
        since_ms = now_ms - self._polled_ms
        if since_ms >= POLL_MS or self.poller.curious():
            self.poll(positions=since_ms >= POLL_MS)

    def pulse_state(self) -> None:
        """A heartbeat while the desk is busy."""
        for state in self.states.values():
            state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())

    def poll(self, positions: bool = True) -> None:
        if positions:
            self._polled_ms = self.clock.now_ms()
        self.poller.sweep(positions=positions)
        self.desk.drain()

    def polls(self, count: int) -> None:
        for _ in range(count):
            self.wait(POLL_MS)

    def until(self, text_ms: int) -> None:
        """Nothing but time, up to this session time."""
        self.clock.advance_to(text_ms)
        self.pulse()

    def restart(self) -> None:
        """The process dies and comes back with its last committed snapshots."""
        last = {work.after.symbol: work.after for work in self.journal.works}
        self._build({symbol: last.get(symbol, Snapshot(symbol)) for symbol in self.states})
        for state in self.states.values():
            state.apply(Restarted(mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))
        self.desk.drain()
        self.poll()

    def flatten(self, reason: str) -> None:
        for state in self.states.values():
            state.apply(FlattenAsked(reason=reason, mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))
        self.desk.drain()

    def hold(self) -> None:
        """In position at the entry price, with the stop working and read back."""
        self.tick("730.65", "731.15", "731.20")
        if not self.stream:
            self.poll()
        assert self.s.stop is not None and self.s.stop.verified

    # -- what is true ------------------------------------------------------------------------------------------------------

    @property
    def s(self) -> Snapshot:
        return self.states[SYMBOL].snapshot

    @property
    def in_question(self) -> bool:
        return any(state.snapshot.in_question for state in self.states.values())

    @property
    def book(self) -> list[str]:
        return self.venue.book()

    @property
    def net(self) -> Decimal:
        return self.venue.net(SYMBOL)

    def sent(self, purpose: str = "") -> list[str]:
        """What reached the venue's book, in words: "E BUY 5"."""
        orders = [order for order in self.venue.submitted if purpose in order.purpose.value]
        return [f"{order.purpose.value} {order.side.value} {order.qty}" for order in orders]

    def calls(self, verb: str) -> int:
        return self.venue.count(verb)

    @property
    def works(self) -> list[Work]:
        return self.journal.works

    @property
    def alarms(self) -> list[str]:
        return [command.text for work in self.works for command in work.commands if isinstance(command, Alarm)]

    @property
    def fills(self) -> list[Fill]:
        found = [fill for work in self.works for fill in evidence(work.before, work.event)]
        return [fill for fill in found if fill is not None]

    @property
    def trades(self) -> list[Trade]:
        return trades(SYMBOL, self.fills)
