"""Whole trades on Kraken's own wire: the real feeds, poller, desk and machine against the double, over sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.channel import Limits
from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.poller import Poller
from brokers.reports import Reports
from brokers.switchboard import OrderNews, Switchboard
from brokers.venues import Account, connect
from state.clock import SystemClock
from state.commands import Alarm
from state.events import FlattenAsked
from state.orders import OrderType, Side, Status
from state.rules import Rules
from state.sizing import fixed
from state.snapshot import Snapshot
from state.strategy import Enter, MoveStop, Strategy, View, Wish
from state.symbol_state import SymbolState, Work
from tests.brokers.kraken_double import KEY, SECRET, KrakenDouble
from tests.state.builders import D

SYMBOL = "BTC/USD"
HOUR_MS = 3_600_000
PATIENCE_S = 20.0


class Climb(Strategy):
    """Buys once above 50,000, trails 1,000 behind every price above 51,000."""

    name = "climb"

    def __init__(self, type: OrderType = OrderType.MARKET) -> None:
        self.type = type

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if view.flat and not view.entries_used and price >= D(50_000):
            limit = D(50_500) if self.type is OrderType.LIMIT else None
            return Enter(Side.BUY, self.type, f"{price} is high", limit_price=limit)
        return MoveStop(price - 1_000, "higher") if view.position and price >= D(51_000) else None

    def stop_price(self, view: View) -> Decimal:
        return view.average - 1_000


class Told:
    """The log and the journal."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.lines: list[str] = []

    def commit_many(self, works: list[Work]) -> None:
        self.works.extend(works)

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = alarm = info

    def defect(self, text: str, error: BaseException) -> None:
        self.lines.append(f"DEFECT {text}: {error!r}")


class Session:
    """One symbol traded live: six threads, two WebSockets, REST."""

    def __init__(self, venue: KrakenDouble, strategy: Strategy, snapshot: Snapshot | None = None, poll_s: float = 1.0) -> None:
        self.venue, self.told = venue, Told()
        self.clock = SystemClock()
        keys = {"KRAKEN_API_KEY": KEY, "KRAKEN_API_SECRET": SECRET}
        account = Account(
            "kraken", venue.rest_url, venue.ws_url, "KRAKEN", "", "UTC", 5.0, 10.0, keys, venue.stream_url, "journal"
        )
        self.broker, streams = connect(account, self.clock)
        assert streams.orders is not None
        instrument = self.broker.instrument(SYMBOL)
        now_ms = self.clock.now_ms()
        rules = Rules(
            instrument=instrument,
            strategy=strategy,
            size=fixed(D("0.01")),
            day="20261120",
            entry_from_ms=now_ms - HOUR_MS,
            cutoff_ms=now_ms + HOUR_MS,
            max_entries=1,
            settle_ms=10_000,
        )
        self.outbox = Outbox(self.clock.threads)
        self.state = SymbolState(snapshot or Snapshot(SYMBOL), rules, self.outbox, self.clock)
        states = {SYMBOL: self.state}
        self.reports = Reports(states, self.clock, 10.0, by_id=True, balances=True)
        board = self.board = Switchboard(states, self.clock, self.told, lambda work: None, self.reports)
        self.desk = Desk(self.broker, self.told, states, self.outbox, self.reports, self.clock, board)
        limits = Limits(turn_ms=50)
        self.feed = Feed(streams.prices, {SYMBOL: self.state.tick}, board, self.clock, limits)
        self.orders = Feed(streams.orders, {}, OrderNews(board), self.clock, limits)
        self.poller = Poller(self.broker, states, self.reports, self.clock, board, poll_s)
        board.feed, board.poller = self.feed, self.poller
        self._over = threading.Event()

    def start(self, private: bool = True) -> None:
        assert self.poller.sweep()
        bodies: list[Callable[[], None]] = [self.desk.run, self.desk.run, self.feed.run, self.poller.run, self._beat]
        bodies += [self.orders.run] if private else []
        self._threads = [threading.Thread(target=body, daemon=True) for body in bodies]
        for thread in self._threads:
            thread.start()
        self.wait(lambda: self.venue.public and SYMBOL in self.venue.public[-1].symbols)
        self.wait(lambda: not self.feed._path.holding)
        if private:
            self.wait(lambda: self.venue.private and self.venue.private[-1].subscribed)

    def _beat(self) -> None:
        while not self._over.wait(0.05):
            self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())

    def stop(self) -> None:
        self._over.set()
        for part in (self.feed, self.orders, self.poller):
            part.stop()
        self.outbox.close()
        for thread in self._threads:
            thread.join(5)
        self.broker.close()

    @property
    def s(self) -> Snapshot:
        return self.state.snapshot

    def wait(self, come_true: Callable[[], Any]) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not come_true():
            assert time.monotonic() < until_s, (self.s, self.venue.book(), self.told.lines[-20:])
            time.sleep(0.01)

    def protected(self) -> bool:
        stop = self.s.stop
        return stop is not None and stop.verified and stop.status is Status.WORKING

    def flatten(self) -> None:
        self.state.apply(FlattenAsked(reason="by hand", mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))

    @property
    def alarms(self) -> list[str]:
        return [command.text for work in self.told.works for command in work.commands if isinstance(command, Alarm)]


@pytest.fixture
def venue() -> Iterator[KrakenDouble]:
    with KrakenDouble() as double:
        double.price("XBTUSD", "49990")
        yield double


@contextmanager
def session(venue: KrakenDouble, strategy: Strategy | None = None, private: bool = True, **more: Any) -> Iterator[Session]:
    made = Session(venue, strategy or Climb(), **more)
    made.start(private)
    try:
        yield made
    finally:
        made.stop()


def test_a_trade_from_entry_to_flat(venue: KrakenDouble) -> None:
    """Entry, stop, trail, exit: the stop goes and is confirmed gone before anything is sold (PRO-20), for nothing is reserved."""
    with session(venue) as run:
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)
        first = venue.book()
        venue.price("XBTUSD", "51200")
        run.wait(lambda: venue.book() == ["sell stop-loss 0.01 @ 50200"])
        run.wait(run.protected)
        run.flatten()
        run.wait(lambda: not run.s.position and not run.s.live_orders())

        names = [call.name for call in venue.calls if call.name in ("AddOrder", "AmendOrder", "CancelOrder")]
        assert first == ["sell stop-loss 0.01 @ 49000"]
        assert names == ["AddOrder", "AddOrder", "AmendOrder", "CancelOrder", "AddOrder"]
        assert venue.balances["XXBT"] == 0
        run.wait(lambda: run.s.ledger.cash == D("12") - D("4.048"))
        assert (run.alarms, venue.lockouts, run.board.defects) == ([], 0, 0)


def test_a_trail_that_wants_every_price_is_sent_once(venue: KrakenDouble) -> None:
    """NET-11: the next one 15 s later; the breaker does not count our own brake against the venue."""
    with session(venue) as run:
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)
        for price in range(51_000, 51_400, 20):
            venue.price("XBTUSD", str(price))
            run.wait(lambda price=price: run.s.stop_price == D(price - 1_000))  # type: ignore[misc]
        run.wait(run.protected)

        assert len(venue.named("AmendOrder")) == 1
        assert run.desk._breaker.why_not("x") is None


def test_a_stop_that_fires_leaves_nothing_behind(venue: KrakenDouble) -> None:
    """FIL-16: its execution is called "partially_filled" though it is all of it."""
    with session(venue) as run:
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)
        venue.price("XBTUSD", "48990")
        run.wait(lambda: not run.s.position and not run.s.live_orders())

        assert (venue.book(), venue.balances["XXBT"], venue.placed()) == ([], D(0), 2)


@pytest.mark.parametrize("private", [True, False], ids=["stream", "polls alone"])
def test_an_entry_whose_answer_is_lost_is_found_and_protected(venue: KrakenDouble, private: bool) -> None:
    """UNK-01, UNK-14: one order, whatever tells of it first."""
    with session(venue, private=private) as run:
        venue.faults["AddOrder"].append("lose_after")
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)

        assert (venue.placed(), len(venue.named("AddOrder"))) == (2, 2)
        assert venue.book() == ["sell stop-loss 0.01 @ 49000"]


def test_an_entry_that_never_arrived_is_proved_absent_and_not_before(venue: KrakenDouble) -> None:
    """UNK-14."""
    with session(venue) as run:
        began_s = time.monotonic()
        venue.faults["AddOrder"].append("lose_before")
        venue.price("XBTUSD", "50000")
        run.wait(lambda: run.s.entry is None and run.s.ended)

        assert time.monotonic() - began_s >= 6.5
        assert (venue.placed(), run.s.entries_used, run.s.halted) == (0, 1, None)


def test_an_entry_that_arrives_late_but_in_time_is_ours(venue: KrakenDouble) -> None:
    """UNK-07."""
    with session(venue) as run:
        venue.faults["AddOrder"].append("keep")
        venue.price("XBTUSD", "50000")
        run.wait(lambda: run.s.entry is not None and run.s.entry.status is Status.UNKNOWN)
        venue.deliver()
        run.wait(run.protected)

        assert venue.placed() == 2


def test_after_a_gap_in_the_numbers_the_executions_are_asked_for(venue: KrakenDouble) -> None:
    """FEE-04: reconnected with a new token, nothing missed and nothing doubled."""
    with session(venue) as run:
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)
        venue.lose_a_number()
        venue.price("XBTUSD", "48990")
        run.wait(lambda: not run.s.position and not run.s.live_orders())
        run.wait(lambda: len(venue.private) == 2 and venue.private[-1].subscribed)

        assert len(venue.tokens) == 2
        run.wait(lambda: run.s.ledger.cash == D("-10.1") - D("3.9596"))


def test_maintenance_blocks_entries_until_it_is_over(venue: KrakenDouble) -> None:
    """Pitfall 12."""
    with session(venue) as run:
        venue.status("maintenance")
        run.wait(lambda: any(block[0] == "venue" for block in run.s.blocks))
        venue.price("XBTUSD", "50010")
        run.wait(lambda: run.state.last == D("50010"))
        during = venue.placed()
        venue.status("online")
        run.wait(lambda: not run.s.blocks)
        venue.price("XBTUSD", "50000")
        run.wait(run.protected)

        assert during == 0


def test_a_restart_finds_its_entry_by_its_id(venue: KrakenDouble) -> None:
    """The answer was lost and the process died: the journal's identity and the order's own id find it again."""
    with session(venue, Climb(OrderType.LIMIT), private=False) as run:
        venue.faults["AddOrder"].append("lose_after")
        venue.send_executions = False
        venue.faults["OpenOrders"].extend(["lose_before"] * 3)
        venue.price("XBTUSD", "50600")
        run.wait(lambda: run.s.entry is not None and run.s.entry.status is Status.UNKNOWN)
        left = replace(run.s, blocks=())
    venue.faults.clear()
    with session(venue, Climb(OrderType.LIMIT), snapshot=left) as again:
        again.wait(lambda: again.s.entry is not None and again.s.entry.venue_id is not None or again.s.position)

        assert venue.placed() == len(venue.named("AddOrder"))
        assert again.s.halted is None
