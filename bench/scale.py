"""Nothing doubled, nothing lost, at scale: lost replies, late accepts, fast round trips under faults, pending orders.

    python bench/scale.py [--json] [--trips 10000] [--orders 1000] [--seed 1]

The whole pipeline of a session (SymbolState, Outbox, Desk, Reports, Poller) trades against the matching engine in virtual time,
with seeded faults; what was recorded is compared with a ledger that is made from the venue's own fills and shares no code with
ours. Lags are virtual: from the moment at which the venue first tells of a fill until it was applied, and until it was journaled.
Only the wall times and the durable commits are this machine's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from brokers.base import FillRow, OrderRow, Refused, Unanswered, Unavailable  # noqa: E402
from brokers.breaker import Breaker  # noqa: E402
from brokers.desk import Outbox  # noqa: E402
from brokers.poller import PULSE_S  # noqa: E402
from state.clock import SystemClock, VirtualClock  # noqa: E402
from state.journal import Journal  # noqa: E402
from state.ledger import Fill, Trade, trades  # noqa: E402
from state.orders import Order, OrderType, Side  # noqa: E402
from state.reports import Reported  # noqa: E402
from state.sightings import evidence  # noqa: E402
from state.symbol_state import SymbolState, Work  # noqa: E402
from tests.brokers.doubles import Venue  # noqa: E402
from tests.harness import POLL_MS, PULSE_MS, Story  # noqa: E402
from tests.state.builders import BUY, SELL, TEN, Plan, at, make_rules  # noqa: E402

D = Decimal
DESKS = 4
SLOW_READ_MS = 800
STREAM_AIM_MS = 250
POLL_AIM_MS = 2_000
TRIPS_OF_A_SYMBOL = 20
SETTLE_MS = 30_000
LONGEST_MS = 4 * 3_600_000  # virtual: no run may take longer
Trip = tuple[str, Side, Decimal, Decimal, Decimal | None, Decimal, Decimal]


@dataclass(frozen=True)
class Dial:
    """How often what goes wrong, of 1. `late` is what an unanswered order call may take to arrive, ms."""

    reply_lost: float = 0.0  # carried out, no answer
    arrives_late: float = 0.0  # no answer, carried out later
    never_arrives: float = 0.0
    reply_slow: float = 0.0
    refused: float = 0.0
    unreachable: float = 0.0
    read_fails: float = 0.0
    read_slow: float = 0.0
    update_missing: float = 0.0
    update_twice: float = 0.0
    update_late: float = 0.0
    partial: float = 0.0
    row_lag_ms: int = 0  # how much the trade book may be behind
    late_ms: tuple[int, int] = (0, 29_000)


ROUGH = Dial(
    reply_lost=0.02,
    arrives_late=0.002,
    never_arrives=0.002,
    reply_slow=0.01,
    refused=0.005,
    unreachable=0.01,
    read_fails=0.03,
    read_slow=0.03,
    update_missing=0.05,
    update_twice=0.05,
    update_late=0.10,
    partial=0.3,
    row_lag_ms=1_500,
)


class World:
    """Virtual time: things that happen at their moment, also while somebody waits for an answer."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._coming: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, ms: int, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._coming, (self._clock.now_ms() + ms, self._number, act))

    def pass_time(self, ms: int) -> None:
        end_ms = self._clock.now_ms() + ms
        while self._coming and self._coming[0][0] <= end_ms:
            self.step()
        self._clock.advance_to(end_ms)

    def step(self) -> bool:
        if not self._coming:
            return False
        at_ms, _, act = heapq.heappop(self._coming)
        self._clock.advance_to(at_ms)
        act()
        return True


def tells_fills(symbol: str) -> bool:
    """Every other symbol is listed as some brokers do: what has filled is only in the trade book."""
    return bool(int(symbol[1:]) % 4 < 2)


class RoughVenue(Venue):
    """The matching engine behind a connection that does what its dial says."""

    dial = Dial()
    world: World
    rng: random.Random

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, fee_rate=D("0.0003"), fee_currency="INR", **options)
        self.seen_from_ms: dict[str, int] = {}
        self._held_up = False
        self._kept_orders: dict[str, OrderRow] = {}
        self.unlearnt: defaultdict[str, deque[tuple[Decimal, int, str]]] = defaultdict(deque)
        self._filled: defaultdict[str, Decimal] = defaultdict(Decimal)

    def traded(self, rows: list[OrderRow | FillRow]) -> None:
        """Note when each fill happened and when the trade book will show it."""
        for row in rows:
            if isinstance(row, FillRow):
                client_id = self.engine._entries[row.venue_id].order.client_id
                self._filled[client_id] += row.qty
                self.seen_from_ms[row.trade_id] = row.at_ms + self.rng.randint(0, self.dial.row_lag_ms)
                by_poll_only = not self.capabilities.client_ids and not tells_fills(row.symbol)
                told_ms = self.seen_from_ms[row.trade_id] if by_poll_only else row.at_ms
                self.unlearnt[client_id].append((self._filled[client_id], told_ms, row.trade_id))

    def orders(self) -> list[OrderRow]:
        return self._call("orders", "", self._all_orders)  # type: ignore[no-any-return]

    def _all_orders(self) -> list[OrderRow]:
        found = []
        for venue_id, entry in self.engine._entries.items():
            row = self._kept_orders.get(venue_id)
            if row is None:
                row = self._as_listed(entry.row())
                if row.state.closed:
                    self._kept_orders[venue_id] = row
            found.append(row)
        return found

    def _as_listed(self, row: OrderRow) -> OrderRow:
        shown = self._as_shown(row)
        told = shown.state is Reported.CANCELLED or tells_fills(row.symbol)
        return shown if told else msgspec.structs.replace(shown, filled=None, average=None)

    def fills(self) -> list[FillRow]:
        return self._call("fills", "", self._all_fills)  # type: ignore[no-any-return]

    def _all_fills(self) -> list[FillRow]:
        """Late, and with times that only tell the second."""
        now_ms = self._clock.now_ms()
        shown = (fill for fill in self.engine._fills if self.seen_from_ms[fill.trade_id] <= now_ms)
        return [msgspec.structs.replace(fill, at_ms=fill.at_ms - fill.at_ms % 1_000) for fill in shown]

    def _call(self, verb: str, client_id: str, act: Callable[[], Any]) -> Any:
        self._guard.check(f"broker.{verb}")
        self.calls.append((verb, client_id))
        if verb in ("submit", "replace", "cancel"):
            return self._order_call(verb, act)
        lot = self.rng.random()
        if lot < self.dial.read_fails:
            raise Unavailable("the venue is busy")
        rows = act()
        if lot < self.dial.read_fails + self.dial.read_slow:
            self._hold_up(SLOW_READ_MS)  # what was asked is old when it comes
        return rows

    def _hold_up(self, ms: int) -> None:
        """Time passes while this thread waits. One wait at a time: on this one stack a second would make the first longer."""
        if not self._held_up:
            self._held_up = True
            self.world.pass_time(ms)
            self._held_up = False

    def _order_call(self, verb: str, act: Callable[[], Any]) -> Any:
        dial, lot = self.dial, self.rng.random()
        for chance, fault in (
            (dial.reply_lost, self._lose_reply),
            (dial.arrives_late if verb == "submit" else 0, self._arrive_late),
            (dial.never_arrives, _lose),
            (dial.reply_slow, self._reply_slowly),
            (dial.refused, _refuse),
            (dial.unreachable, _turn_away),
        ):
            if lot < chance:
                return fault(act)
            lot -= chance
        return act()

    def _lose_reply(self, act: Callable[[], Any]) -> Any:
        act()
        raise Unanswered("read timed out")

    def _arrive_late(self, act: Callable[[], Any]) -> Any:
        self.world.after(self.rng.randint(*self.dial.late_ms), lambda: _ignore(act()))
        raise Unanswered("read timed out")

    def _reply_slowly(self, act: Callable[[], Any]) -> Any:
        answer = act()
        self._hold_up(self.rng.randint(100, 1_500))
        return answer


def _ignore(answer: Any) -> None:
    """Nobody hears it."""


def _lose(act: Callable[[], Any]) -> Any:
    raise Unanswered("connection reset")


def _refuse(act: Callable[[], Any]) -> Any:
    raise Refused("no")


def _turn_away(act: Callable[[], Any]) -> Any:
    raise Unavailable("429")


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


def quantiles(values: list[Any]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)],
        "max": ordered[-1],
    }


# -- the measurements ---------------------------------------------------------------------------------------------------


def round_trips(trips: int, seed: int, *, stream: bool, dial: Dial = ROUGH) -> dict[str, Any]:
    """Fast trades under faults: each recorded once, to the last digit, and how soon."""
    started = time.perf_counter()
    market = Market(max(trips // TRIPS_OF_A_SYMBOL, 2), min(trips, TRIPS_OF_A_SYMBOL), dial, seed, stream=stream)
    market.play()
    truth = Counter(reference(market.venue.engine.fills()))
    ours = Counter(as_trip(trade) for trade in market.recorded())
    unlearnt = sum(len(waiting) for waiting in market.rough.unlearnt.values())
    by_stream, others = market.lags("stream"), [lag for lag, told in market.applied.values() if told != "stream"]
    return {
        "trips": sum(truth.values()),
        "missing": sum((truth - ours).values()),
        "extra": sum((ours - truth).values()),
        "fills": len(market.venue.engine.fills()),
        "fills_not_learnt": unlearnt,
        "orders": len(market.venue.submitted),
        "orders_doubled": market.doubled(),
        "orders_unowned": market.unowned(),
        "symbols_not_finished": len(market._open),
        "lock_violations": len(market.guard.violations),
        "applied_lag_ms_by_stream": quantiles(by_stream),
        "applied_lag_ms_by_poll": quantiles(others),
        "journaled_lag_ms": quantiles(list(market.journaled.values())),
        "life_ms": quantiles(lives(market.venue.engine.fills())),
        "virtual_s": (market.clock.now_ms() - TEN) // 1000,
        "wall_s": round(time.perf_counter() - started, 1),
    }


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


def lost_replies(orders: int, seed: int, dial: Dial | None = None) -> dict[str, Any]:
    """Every reply to a new order is lost: as many orders at the venue as were decided, all of them found by their looks."""
    started = time.perf_counter()
    symbols = max(orders // 20, 1)
    dial = dial or Dial(reply_lost=1.0)
    market = Market(symbols, orders // symbols // 2, dial, seed, stream=False, breaker=Breaker(VirtualClock(), failures=1 << 30))
    market.play()
    intents = {work_order(work).client_id for work in market.works if work_order(work) is not None}  # type: ignore[union-attr]
    return {
        "orders_decided": len(intents),
        "orders_at_venue": len(market.venue.submitted),
        "doubled": market.doubled(),
        "unowned": market.unowned(),
        "symbols_not_finished": len(market._open),
        "halted": sum(state.snapshot.halted is not None for state in market.states.values()),
        "virtual_s": (market.clock.now_ms() - TEN) // 1000,
        "wall_s": round(time.perf_counter() - started, 1),
    }


def work_order(work: Work) -> Order | None:
    """The order that this decision asked for anew."""
    known = {order.client_id for order in work.before.live_orders()}
    return next((order for order in work.after.live_orders() if order.client_id not in known), None)


def too_late(orders: int, seed: int) -> dict[str, Any]:
    """Orders that arrive after the settle window: each symbol halts, and nothing is sent again."""
    rng = random.Random(seed)
    doubled = halted = sent_after = told = 0
    for number in range(orders):
        story = Story((BUY, SELL)[number % 2], stream=False, venue={"client_ids": bool(number % 4 < 2)})
        story.venue.script("submit", _lose)
        story.tick("730.65")
        order = story.s.entry
        assert order is not None
        story.wait(SETTLE_MS + rng.randint(5_000, 90_000))
        story.venue.arrive(order)
        story.polls(2)
        sent = story.calls("submit")
        story.tick("731.00", "730.65", "731.00", "730.65")
        sent_after += story.calls("submit") - sent
        doubled += len(story.venue.submitted) - 1
        halted += (story.s.halted or "").startswith("QUARANTINED")
        told += any("QUARANTINED" in text for text in story.alarms)
    return {"orders": orders, "halted": halted, "told": told, "doubled": doubled, "sent_again": sent_after}


def pending_sweep(orders: int, call_ms: int = 20) -> dict[str, Any]:
    """One look at so many resting orders: calls, and time with each call answered in `call_ms`."""
    story = Story(symbols=tuple(f"S{number}" for number in range(orders)))
    for symbol in story.states:
        story.tick("730.65", symbol=symbol, every_ms=0)
    story.poll()
    story.clock.advance(POLL_MS)
    before = len(story.venue.calls)
    started = time.perf_counter()
    answered = story.poller.sweep()
    ours_ms = (time.perf_counter() - started) * 1000
    calls = len(story.venue.calls) - before
    return {
        "pending": len(story.venue.working()),
        "answered": answered,
        "calls": calls,
        "ours_ms": round(ours_ms, 1),
        "sweep_ms": round(ours_ms + calls * call_ms, 1),
    }


def durable_adds(pending: int, sample: int = 300) -> dict[str, Any]:
    """What it costs to write one more entry down, early and with `pending` of them: bytes, and ms on this machine's disk."""
    works: list[Work] = []

    class Pile:
        def put(self, symbol: str, work: Work) -> None:
            works.append(work)

    clock = VirtualClock(TEN)
    story = Story()
    for number in range(pending + sample):
        symbol = f"S{number}"
        rules = make_rules(instrument=msgspec.structs.replace(story.instruments["SBIN"], symbol=symbol))
        state = SymbolState(msgspec.structs.replace(story.s, symbol=symbol), rules, Pile(), clock)
        state.tick(D("730.65"), TEN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with Journal.open(path, clock=SystemClock()) as journal:
            journal.begin("20261120", mode="practice", account="A", day="2026-11-20")
            early = _timed(journal, works[:sample])
            journal.commit_many(works[sample:pending])
            size = _bytes(journal)
            late = _timed(journal, works[pending:])
            grown = (_bytes(journal) - size) / sample
    return {
        "pending": pending,
        "bytes_each": round(grown),
        "first_ms": quantiles(early),
        "at_pending_ms": quantiles(late),
        "growth": round(sorted(late)[sample // 2] / sorted(early)[sample // 2], 2),
    }


def _timed(journal: Journal, works: list[Work]) -> list[float]:
    times = []
    for work in works:
        started = time.perf_counter()
        journal.commit(work)
        times.append(round((time.perf_counter() - started) * 1000, 3))
    return times


def _bytes(journal: Journal) -> int:
    """Of all records' bodies."""
    found: int = journal._connection.execute("select coalesce(sum(length(body)), 0) from records").fetchone()[0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trips", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    found = {
        "seed": args.seed,
        "lost_replies": lost_replies(args.orders, args.seed),
        "late_accepts": lost_replies(args.orders, args.seed, Dial(arrives_late=1.0)),
        "too_late": too_late(max(args.orders // 10, 4), args.seed),
        "trips_by_stream": round_trips(args.trips, args.seed, stream=True),
        "trips_by_poll": round_trips(args.trips, args.seed, stream=False),
        "pending_sweep": pending_sweep(args.orders),
        "durable_adds": durable_adds(args.orders * 10),
    }
    found["ok"] = ok(found)
    print(json.dumps(found, indent=None if args.json else 2))
    return 0 if found["ok"] else 1


def ok(found: dict[str, Any]) -> bool:
    lost, late, beyond = found["lost_replies"], found["late_accepts"], found["too_late"]
    trips = (found["trips_by_stream"], found["trips_by_poll"])
    exact = all(
        not any(run[name] for name in ("missing", "extra", "fills_not_learnt", "orders_doubled", "symbols_not_finished"))
        for run in trips
    )
    return (
        all(run["orders_decided"] == run["orders_at_venue"] and not run["doubled"] and not run["unowned"] for run in (lost, late))
        and beyond["halted"] == beyond["orders"]
        and not beyond["doubled"]
        and not beyond["sent_again"]
        and exact
        and trips[0]["applied_lag_ms_by_stream"]["p99"] <= STREAM_AIM_MS
        and all(run["applied_lag_ms_by_poll"]["p99"] <= POLL_AIM_MS for run in trips)
        and found["pending_sweep"]["sweep_ms"] <= 1_000
        and found["durable_adds"]["at_pending_ms"]["p99"] <= 5
    )


if __name__ == "__main__":
    sys.exit(main())
