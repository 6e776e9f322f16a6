"""A market of many symbols that goes through round trips as fast as the venue lets it, and what its fills truly came to.

The whole pipeline of a session (SymbolState, Outbox, Desk, Reports, Poller) trades in virtual time. Owns the day and the lags of
each fill; `reference` adds the venue's own fills up and shares no code with the runner's ledger.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from bench.rough import D, Dial, RoughVenue, World
from brokers.base import FillRow, OrderRow
from brokers.breaker import Breaker
from brokers.desk import Outbox
from brokers.poller import PULSE_S
from state.ledger import Fill, Trade, trades
from state.orders import OrderType, Side
from state.sightings import evidence
from state.symbol_state import Work
from tests.brokers.doubles import Venue
from tests.harness import POLL_MS, PULSE_MS, Story
from tests.state.builders import BUY, SELL, TEN, Plan, at, make_rules

DESKS = 4
LONGEST_MS = 4 * 3_600_000  # virtual: no run may take longer
Trip = tuple[str, Side, Decimal, Decimal, Decimal | None, Decimal, Decimal]


class Tape(Outbox):
    """Notes when work was decided: the fills that it tells of are applied then."""

    def __init__(self, noted: Callable[[Work], None]) -> None:
        super().__init__()
        self._noted = noted

    def put(self, symbol: str, work: Work) -> None:
        super().put(symbol, work)
        if work.after.ledger is not work.before.ledger:
            self._noted(work)


class Market(Story):
    """Many symbols, half of them short, each going through `trips` round trips as fast as the venue lets it."""

    def __init__(self, symbols: int, trips: int, dial: Dial, seed: int, *, stream: bool, breaker: Breaker | None = None) -> None:
        self.rng = random.Random(seed)
        self.dial, self.trips_wanted = dial, trips
        names = tuple(f"S{number}" for number in range(symbols))
        self.sides = {name: (BUY, SELL)[number % 2] for number, name in enumerate(names)}
        self.applied: dict[str, tuple[int, str]] = {}  # trade id -> lag, how it was learnt
        self.journaled: dict[str, int] = {}
        self.missed_updates: set[str] = set()
        self.closed_trips: Counter[str] = Counter()
        self._polling, self._drains, self._polled_at, self._over = False, 0, TEN, False
        super().__init__(symbols=names, stream=stream, venue={"client_ids": stream}, breaker=breaker)

    def _venue(self, **options: Any) -> Venue:
        venue = RoughVenue(self.instruments, self.clock, self.guard, **options)
        venue.world, venue.rng, venue.dial = World(self.clock), self.rng, self.dial
        return venue

    def _build(self, snapshots: Any) -> None:
        for symbol, side in self.sides.items():
            plan = Plan(side, type=OrderType.STOP)
            more: dict[str, Any] = {"max_entries": 1_000_000, "cutoff_ms": 1 << 60}
            self.rules[symbol] = make_rules(side, plan, instrument=self.instruments[symbol], **more)
        super()._build(snapshots)
        self.outbox = Tape(self._note_applied)
        self.desk._outbox = self.outbox
        for state in self.states.values():
            state._outbox = self.outbox
        commit = self.journal.commit_many

        def commit_and_note(works: list[Work]) -> None:
            commit(works)
            for work in works:
                if work.after.ledger is not work.before.ledger:
                    self._note_journaled(work)

        self.journal.commit_many = commit_and_note  # type: ignore[method-assign]

    # -- lags ------------------------------------------------------------------------------------------------------------

    @property
    def rough(self) -> RoughVenue:
        assert isinstance(self.venue, RoughVenue)
        return self.venue

    def _note_applied(self, work: Work) -> None:
        for fill in evidence(work.before, work.event):
            waiting, filled = self.rough.unlearnt[fill.client_id], work.after.ledger.filled(fill.client_id)
            while waiting and waiting[0][0] <= filled:
                _, at_ms, trade_id = waiting.popleft()
                told = fill.source if trade_id not in self.missed_updates else "recovered"
                self.applied[trade_id] = (self.clock.now_ms() - at_ms, told)
                self._to_journal.setdefault(id(work), []).append((trade_id, at_ms))

    def _note_journaled(self, work: Work) -> None:
        for trade_id, at_ms in self._to_journal.pop(id(work), ()):
            self.journaled[trade_id] = self.clock.now_ms() - at_ms

    # -- the day -----------------------------------------------------------------------------------------------------------

    def play(self) -> None:
        self._to_journal: dict[int, list[tuple[str, int]]] = {}
        self._open = set(self.states)
        self._poll(positions=True)
        for symbol in self.states:
            self.world.after(self.rng.randint(0, 400), lambda symbol=symbol: self._trade(symbol))  # type: ignore[misc]
        self.world.after(PULSE_MS, self._pulse)
        while self._open and self.clock.now_ms() - TEN < LONGEST_MS:
            self.world.step()
        self.world.pass_time(4 * POLL_MS)  # the trade book tells of the last fills
        self._over = True

    @property
    def world(self) -> World:
        return self.rough.world

    def _trade(self, symbol: str) -> None:
        """One print, chosen by what the venue holds: the next stage of the trip, or a price at which nothing happens."""
        side, engine = self.sides[symbol], self.venue.engine
        held = engine._positions.get(symbol)
        before = held.qty if held else D(0)
        resting = list(engine._working.get(symbol, {}).values())
        entering = any(entry.order.side is side for entry in resting)
        snapshot = self.states[symbol].snapshot
        done = self.closed_trips[symbol] >= self.trips_wanted
        if done and not (before or resting or snapshot.position or snapshot.live_orders()):
            self._open.discard(symbol)
            return
        idle = not before and not resting
        step = D("0.05") * self.rng.randint(0, 5)
        price = at(side, D("731.15") + step if entering else D("731.00"))
        if before:
            stop = next((entry.trigger for entry in resting if entry.order.side is not side), None)
            price = (at(side, "730.10") if stop is None else stop) - step * side.sign
        elif idle and not done and not snapshot.live_orders() and self.rng.random() < 0.7:
            price = at(side, "730.65")
        available = D(self.rng.randint(1, 3)) if self.rng.random() < self.dial.partial else None
        self._print(symbol, price, available)
        after = engine._positions[symbol].qty if symbol in engine._positions else D(0)
        self.closed_trips[symbol] += bool(before) and not after
        opened = bool(after) and not before
        waiting = idle and bool(snapshot.live_orders())
        pause = self.rng.randint(0, 500) if opened else 500 if waiting else self.rng.randint(1, 60)
        self.world.after(pause, lambda: self._trade(symbol))

    def _print(self, symbol: str, price: Decimal, available: Decimal | None) -> None:
        now_ms = self.clock.now_ms()
        rows = self.venue.tick(symbol, price, now_ms, available)
        self.rough.traded(rows)
        self.states[symbol].tick(price, now_ms)
        if self.stream:
            self._send(rows)
        self._drain()

    def _send(self, rows: list[OrderRow | FillRow]) -> None:
        """Order updates, as cumulative reports: late, twice, out of order or not at all."""
        rng, dial, news = self.rng, self.dial, ""
        for row in rows:
            if isinstance(row, FillRow):
                news = row.trade_id
            elif rng.random() < dial.update_missing:
                self.missed_updates.add(news)
            else:
                for _ in range(1 + (rng.random() < dial.update_twice)):
                    late_ms = rng.randint(0, 180) if rng.random() < dial.update_late else 0
                    self.world.after(rng.randint(2, 50) + late_ms, lambda row=row: self._hear(row))  # type: ignore[misc]

    def _hear(self, row: OrderRow) -> None:
        self.report(row)
        self._drain()

    def _drain(self) -> None:
        """As many desk threads as a session has: one may be waiting for an answer while others go on."""
        if self._drains < DESKS:
            self._drains += 1
            try:
                self.desk.drain()
            finally:
                self._drains -= 1

    def _pulse(self) -> None:
        if not self._over:
            self.world.after(PULSE_MS, self._pulse)
        self.pulse_state()
        self._drain()
        if not self._polling and (self.clock.now_ms() - TEN) % int(PULSE_S * 1000) < PULSE_MS:
            round_due = self.clock.now_ms() - self._polled_at >= POLL_MS
            if round_due or self.poller.curious():
                self._poll(positions=round_due)

    def _poll(self, positions: bool) -> None:
        self._polling = True
        if positions:
            self._polled_at = self.clock.now_ms()
        self.poller.sweep(positions=positions)
        self._polling = False
        self._drain()

    # -- what came of it -----------------------------------------------------------------------------------------------------

    def recorded(self) -> list[Trade]:
        found: defaultdict[str, list[Fill]] = defaultdict(list)
        for work in self.works:
            found[work.after.symbol] += evidence(work.before, work.event)
        return [trade for symbol, fills in found.items() for trade in trades(symbol, fills)]

    def doubled(self) -> int:
        """Orders that reached the venue more than once."""
        counts = Counter(order.client_id for order in self.venue.submitted)
        return sum(count - 1 for count in counts.values())

    def unowned(self) -> int:
        """Orders at the venue that were never claimed."""
        return len(self.venue.engine._entries) - len(self.reports._ours)

    def lags(self, source: str) -> list[int]:
        return [lag for lag, told in self.applied.values() if told == source]


def reference(fills: list[FillRow]) -> Iterator[Trip]:
    """Round trips, flat to flat, from the venue's own fills as they happened. Shares nothing with our ledger."""
    books: dict[str, list[FillRow]] = defaultdict(list)
    for fill in fills:
        book = books[fill.symbol]
        book.append(fill)
        if not sum(row.qty if row.side is BUY else -row.qty for row in book):
            side = book[0].side
            opening = [(row.qty, row.price) for row in book if row.side is side]
            closing = [(row.qty, row.price) for row in book if row.side is not side]
            qty = sum((q for q, _ in opening), D(0))
            paid, got = (sum((q * p for q, p in part), D(0)) for part in (opening, closing))
            gross = got - paid if side is BUY else paid - got
            yield fill.symbol, side, qty, paid / qty, got / qty, gross, sum((row.fee for row in book), D(0))
            book.clear()
    for symbol, book in books.items():
        if book:
            yield symbol, book[0].side, D(-1), D(-1), None, D(0), D(0)  # still open: equals nothing of ours


def as_trip(trade: Trade) -> Trip:
    return trade.symbol, trade.side, trade.qty, trade.entry_price, trade.exit_price, trade.gross, trade.fees


def lives(fills: list[FillRow]) -> list[int]:
    """How long each position was open at the venue."""
    found, since = list[int](), dict[str, int]()
    net: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in fills:
        if not net[fill.symbol]:
            since[fill.symbol] = fill.at_ms
        net[fill.symbol] += fill.qty * fill.side.sign
        if not net[fill.symbol]:
            found.append(fill.at_ms - since[fill.symbol])
    return found
