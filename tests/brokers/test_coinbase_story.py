"""Coinbase from the first tick to flat: the real Desk, Poller, Reports and Feed over real sockets, against the double.

`Rig` does in one thread what the threads of a session do, on a clock that moves when told to; `Live` is the threads themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from brokers.base import Reported, Resolver
from brokers.channel import Limits
from brokers.coinbase import Coinbase
from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.poller import Poller
from brokers.reports import Reports
from brokers.switchboard import OrderNews, Switchboard
from brokers.venues import Account, connect
from state.clock import Clock, SystemClock, VirtualClock
from state.events import FlattenAsked
from state.orders import OrderType, Status
from state.snapshot import Phase, Snapshot
from state.symbol_state import SymbolState
from tests.brokers.coinbase_double import (
    KEY_NAME,
    LOST_AFTER,
    LOST_BEFORE,
    SECRET,
    CoinbaseDouble,
    answers,
    late,
    ms,
    no,
    product,
)
from tests.brokers.doubles import Listener, Notebook
from tests.brokers.test_switchboard import Voice
from tests.state.builders import BUY, Plan, make_rules, move

D = Decimal
COIN = "ETH-USD"
PRODUCTS = (product(COIN, price="732.00", price_increment="0.05", base_increment="0.001", base_min_size="0.001"),)
WINDOW_S = 20.0
PATIENCE_S = 20.0
QTY = D(5)


@pytest.fixture
def venue() -> Iterator[CoinbaseDouble]:
    with CoinbaseDouble(PRODUCTS, USD="1000000", ETH="3") as double:  # 3 of it are somebody else's
        yield double


def account(venue: CoinbaseDouble) -> Account:
    keys = {"COINBASE_API_KEY": KEY_NAME, "COINBASE_API_SECRET": SECRET}
    where = {"rest_url": venue.rest_url, "ws_url": venue.ws_url, "stream_url": venue.stream_url, "exchange": "COINBASE"}
    more: dict[str, Any] = {"timeout_s": 5.0, "settle_window_s": WINDOW_S, "keys": keys, "identity": "journal-1", **where}
    return Account(broker="coinbase", product="", timezone="UTC", **more)


class Rig:
    """One symbol of one account. `venue` and runner are apart: what the runner knows it has read from a socket."""

    def __init__(self, venue: CoinbaseDouble, clock: Clock, **rules: Any) -> None:
        self.venue, self.clock = venue, clock
        broker, self.streams = connect(account(venue), clock)
        assert isinstance(broker, Coinbase) and isinstance(broker, Resolver)
        self.broker = broker
        known: dict[str, Any] = {"entry_from_ms": 0, "cutoff_ms": 1 << 60, "settle_ms": int(WINDOW_S * 1000)}
        made = make_rules(BUY, **(known | {"instrument": broker.instrument(COIN)} | rules))
        self.outbox = Outbox()
        self.state = SymbolState(Snapshot(COIN), made, self.outbox, clock)
        states = {COIN: self.state}
        self.reports = Reports(states, clock, WINDOW_S, by_id=True, balances=True)
        self.journal, self.listener, self.told = Notebook(), Listener(), list[str]()
        self.voice = Voice()
        self.switchboard = Switchboard(states, clock, self.voice, lambda work: None, self.reports)
        self.desk = Desk(broker, self.journal, states, self.outbox, self.reports, clock, self.listener, tell=self.told.append)
        self.poller = Poller(broker, states, self.reports, clock, self.switchboard, 5.0)
        self.switchboard.poller = self.poller
        self._polled_ms = clock.monotonic_ms()

    @property
    def s(self) -> Snapshot:
        return self.state.snapshot

    @property
    def ours(self) -> Decimal:
        """What the account holds, less what was there before."""
        return self.venue.balances["ETH"] - D(3)

    def sent(self, type: OrderType | None = None) -> list[tuple[str, Decimal]]:
        rows = self.venue.engine.orders()
        return [(row.side.value, row.qty) for row in rows if type in (None, row.type)]

    def tick(self, *prices: str) -> None:
        """A trade at the venue that we hear of; its reports we only get by asking."""
        for price in prices:
            self.venue.price(COIN, price)
            assert isinstance(self.clock, VirtualClock)
            self.clock.advance(10)
            self.state.tick(D(price), self.clock.now_ms())
            self.desk.drain()

    def wait(self, seconds: float) -> None:
        """Heartbeats and polls, as their threads would."""
        assert isinstance(self.clock, VirtualClock)
        for _ in range(int(seconds * 4)):
            self.clock.advance(250)
            self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())
            self.desk.drain()
            due = self.clock.monotonic_ms() - self._polled_ms >= 5_000
            if due:
                self._polled_ms = self.clock.monotonic_ms()
            if due or self.poller.curious():
                self.poller.sweep(positions=due)
                self.desk.drain()

    def flatten(self) -> None:
        self.state.apply(FlattenAsked(reason="cutoff", mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))


@pytest.fixture
def rig(venue: CoinbaseDouble) -> Rig:
    made = Rig(venue, VirtualClock(ms()))
    made.poller.sweep()
    return made


def hold(rig: Rig) -> None:
    """In position, with the stop at work and read back."""
    rig.tick("730.65", "731.15", "731.20")
    rig.wait(2)
    assert rig.s.stop is not None and rig.s.stop.verified and rig.s.position == QTY


# -- a day without faults --------------------------------------------------------------------------------------------------------


def test_entry_stop_trail_and_exit_end_flat_with_the_fees_in_the_books(venue: CoinbaseDouble) -> None:
    rig = Rig(venue, VirtualClock(ms()), strategy=Plan(BUY, {D("735.00"): move(BUY, "733.00")}))
    rig.poller.sweep()
    hold(rig)
    resting = [(row.trigger_price, row.limit_price, row.qty) for row in venue.working()]

    rig.tick("735.00")
    rig.wait(2)
    trailed = [(row.venue_id, row.trigger_price, row.limit_price) for row in venue.working()]
    rig.flatten()
    rig.wait(3)
    venue.price(COIN, "735.00")
    rig.wait(3)

    assert resting == [(D("730.15"), D("693.60"), QTY)]  # 693.6425 outwards
    assert trailed == [("2", D("733.00"), D("696.35"))]  # the same order, its limit moved with it
    assert (rig.s.phase, rig.ours, venue.working()) == (Phase.FLAT, D(0), [])
    assert [row.fee for row in venue.engine.fills()] == [D("731.15") * 5 * D("0.006"), D("735.00") * 5 * D("0.006")]
    assert rig.s.ledger.cash == (D("735.00") - D("731.15")) * 5 - (D("735.00") + D("731.15")) * 5 * D("0.006")


def test_a_stop_that_fires_ends_flat(rig: Rig, venue: CoinbaseDouble) -> None:
    hold(rig)

    rig.tick("730.15", "730.10")
    rig.wait(3)

    assert (rig.s.phase, rig.ours, rig.sent(OrderType.MARKET)) == (Phase.FLAT, D(0), [])


def test_a_stop_that_the_price_jumped_is_escalated_to_market(rig: Rig, venue: CoinbaseDouble) -> None:
    """PRO-10, pitfall 15: the gap goes below trigger and limit; the stop reads OPEN, unfilled. Closed at market, once."""
    hold(rig)

    venue.price(COIN, "600.00")
    rig.state.tick(D("600.00"), rig.clock.now_ms())  # a second price confirms the jump to the feed's gate in life
    rig.desk.drain()
    rig.wait(5)

    assert (rig.ours, rig.sent(OrderType.MARKET)) == (D(0), [("SELL", QTY)])
    assert [row.state for row in venue.engine.orders()] == [Reported.FILLED, Reported.CANCELLED, Reported.FILLED]


def test_an_exit_waits_for_the_stop_that_holds_the_coins(rig: Rig, venue: CoinbaseDouble) -> None:
    """PRO-20, pitfall 14: the venue refuses a second sell; the stop goes first, then the rest is sold."""
    venue.balances["ETH"] = D(0)
    rig = Rig(venue, VirtualClock(ms()))
    rig.poller.sweep()
    rig.tick("730.65", "731.15", "731.20")
    rig.wait(2)

    rig.flatten()
    rig.wait(3)

    paths = [seen.path for seen in venue.seen if seen.method == "POST"]
    assert paths == ["orders", "orders", "orders/batch_cancel", "orders"]
    assert (venue.balances["ETH"], rig.s.phase) == (D(0), Phase.FLAT)


def test_an_exit_refused_for_funds_goes_out_again(rig: Rig, venue: CoinbaseDouble) -> None:
    """PRO-20: the coins of the cancelled stop are free a moment later."""
    hold(rig)
    venue.fault("orders", no("INSUFFICIENT_FUND"), no("INSUFFICIENT_FUND"))

    rig.flatten()
    rig.wait(6)

    assert (rig.ours, rig.s.phase, rig.sent(OrderType.MARKET)) == (D(0), Phase.FLAT, [("SELL", QTY)])


def test_what_somebody_else_holds_is_left_alone(rig: Rig, venue: CoinbaseDouble) -> None:
    """REC-15: 3 of the coin were there before and are there afterwards; the balance of 8 is no disagreement."""
    hold(rig)
    rig.wait(12)
    held = venue.balances["ETH"], rig.s.halted

    rig.flatten()
    rig.wait(4)

    assert (held, venue.balances["ETH"], rig.s.halted) == ((D(8), None), D(3), None)


# -- unknown outcomes ------------------------------------------------------------------------------------------------------------

LOST = {
    "before accepting": LOST_BEFORE,
    "after accepting": LOST_AFTER,
    "500 after accepting": answers(500, {"error": "x"}, acts=True),
}


@pytest.mark.parametrize("name", LOST)
def test_an_entry_whose_answer_is_lost_is_one_order_owned_and_protected(name: str, rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-01, UNK-02, UNK-15."""
    venue.fault("orders", LOST[name])

    rig.tick("730.65")
    at_once = None if rig.s.entry is None else rig.s.entry.status
    rig.wait(4)
    rig.tick("731.15")
    rig.wait(4)

    assert at_once is Status.UNKNOWN
    assert [row.side.value for row in venue.engine.orders()] == ["BUY", "SELL"]
    assert (rig.s.position, [(row.side.value, row.qty) for row in venue.working()]) == (QTY, [("SELL", QTY)])


def test_an_entry_that_is_accepted_long_after_is_one_order_all_the_same(rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-07: the repeat was carried out meanwhile; what comes late has the same id."""
    venue.fault("orders", late())

    rig.tick("730.65")
    rig.wait(4)
    rig.tick("731.15")
    venue.let_go()
    rig.wait(10)

    assert [row.side.value for row in venue.engine.orders()] == ["BUY", "SELL"]
    assert (rig.s.position, rig.s.halted) == (QTY, None)


def test_repeats_that_are_lost_too_end_with_the_late_order_found(rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-07: nothing answers orders for 15 s; then the first one arrives."""
    venue.fault("orders", late(), *[LOST_BEFORE] * 3)

    rig.tick("730.65")
    rig.wait(18)
    unknown = None if rig.s.entry is None else rig.s.entry.status
    venue.let_go()
    rig.wait(5)

    assert (unknown, rig.s.entry and rig.s.entry.status, len(venue.engine.orders())) == (Status.UNKNOWN, Status.WORKING, 1)


def test_an_entry_that_is_refused_on_every_repeat_was_never_sent(rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-07: not before a whole window after the last repeat; then the symbol is free again."""
    venue.fault("orders", LOST_BEFORE, *[no("INSUFFICIENT_FUND")] * 3)

    rig.tick("730.65")
    rig.wait(1.5 + 4 + 10 + WINDOW_S - 1)
    before = None if rig.s.entry is None else rig.s.entry.status
    rig.wait(15)

    assert (before, rig.s.entry, venue.engine.orders(), rig.s.halted) == (Status.UNKNOWN, None, [], None)


def test_a_stop_whose_answer_is_lost_is_one_stop(rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-01: for a stop."""
    rig.tick("730.65")
    venue.fault("orders", LOST_AFTER)

    rig.tick("731.15", "731.20")
    rig.wait(6)

    assert [(row.side.value, row.qty) for row in venue.working()] == [("SELL", QTY)]
    assert rig.s.stop is not None and (rig.s.stop.status, rig.s.stop.verified) == (Status.WORKING, True)


@pytest.mark.parametrize("name", LOST)
def test_an_exit_whose_answer_is_lost_sells_once(name: str, rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-12."""
    hold(rig)
    venue.fault("orders", LOST[name])

    rig.flatten()
    rig.wait(8)

    assert (rig.ours, rig.sent(OrderType.MARKET), rig.s.phase) == (D(0), [("SELL", QTY)], Phase.FLAT)


@pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=["before", "after"])
def test_a_trail_whose_answer_is_lost_is_read_back(fault: Any, venue: CoinbaseDouble) -> None:
    """UNK-11."""
    rig = Rig(venue, VirtualClock(ms()), strategy=Plan(BUY, {D("735.00"): move(BUY, "733.00")}))
    rig.poller.sweep()
    hold(rig)
    venue.fault("orders/edit", fault)

    rig.tick("735.00")
    rig.wait(WINDOW_S + 10)

    assert [(row.trigger_price, row.qty) for row in venue.working()] == [(D("733.00"), QTY)]
    assert rig.s.stop is not None and rig.s.stop.trigger_price == D("733.00")


def test_an_order_with_our_id_that_is_another_one_is_quarantined(rig: Rig, venue: CoinbaseDouble) -> None:
    """UNK-15: a difference is for a person."""
    venue.fault("orders", LOST_AFTER)
    rig.tick("730.65")
    sent = venue._sent["1"]
    venue.engine.replace("1", D(4), D("731.15"), D("731.15"), ms())
    assert sent["order_configuration"]["stop_limit_stop_limit_gtc"]["base_size"] == "5"
    venue.hidden.add("1")  # the listing lags behind

    rig.wait(4)

    assert rig.s.entry is not None and rig.s.entry.status is Status.QUARANTINED
    assert rig.s.halted is not None and "base_size 4, not 5" in rig.s.halted


# -- the threads -----------------------------------------------------------------------------------------------------------------


class Live(Rig):
    """The threads of a session, and its two connections."""

    def __enter__(self) -> Live:
        limits = Limits(ping_ms=self.streams.ping_ms, pong_ms=self.streams.pong_ms)
        assert self.streams.orders is not None
        self.feed = Feed(self.streams.prices, {COIN: self.state.tick}, self.switchboard, self.clock, limits)
        self.orders_feed = Feed(self.streams.orders, {}, OrderNews(self.switchboard), self.clock, limits)
        self.switchboard.feed = self.feed
        bodies = (self.feed.run, self.orders_feed.run, self.poller.run, self.desk.run, self.desk.run)
        self.threads = [threading.Thread(target=body, daemon=True) for body in bodies]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for stop in (self.feed.stop, self.orders_feed.stop, self.poller.stop, self.outbox.close):
            stop()
        for thread in self.threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in self.threads)

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (what, self.s, self.voice.said, self.listener.said)
            threading.Event().wait(0.01)
            self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())

    def released(self) -> None:
        """Both connections are up, and the first tick after the books have been read comes through."""

        def ticking() -> bool:
            self.venue.price(COIN, "732.00")
            return self.feed.counts().get("ticks", 0) > 2 and not self.s.blocks and bool(self.venue._subscribers("user"))

        self.until(ticking, "ticks are delivered")


def test_a_whole_trip_through_the_threads_over_both_streams(venue: CoinbaseDouble) -> None:
    """FEE-03, UNK-10: prices from one connection, fills and statuses from the other."""
    with Live(venue, SystemClock(), strategy=Plan(BUY, {D("735.00"): move(BUY, "733.00")})) as live:
        live.released()
        venue.price(COIN, "730.65")
        live.until(lambda: len(venue.working()) == 1, "the entry rests")
        venue.price(COIN, "731.15")
        live.until(lambda: live.s.stop is not None and live.s.stop.verified, "the stop rests")
        venue.price(COIN, "735.00")
        live.until(lambda: live.s.stop is not None and live.s.stop.trigger_price == D("733.00"), "the stop is trailed")
        venue.price(COIN, "733.00")
        live.until(lambda: live.s.phase is Phase.FLAT and not live.s.position, "flat")

    words = [(row.side.value, row.type.value if row.type else "", row.state.value) for row in venue.engine.orders()]
    assert words == [("BUY", "STOP_LIMIT", "FILLED"), ("SELL", "STOP_LIMIT", "FILLED")]
    assert (live.ours, live.listener.defects, live.feed.counts().get("faults", 0)) == (D(0), [], 0)


def test_the_stream_tells_of_a_lost_submit_before_any_poll(venue: CoinbaseDouble) -> None:
    """UNK-10: no read is answered and every repeat is lost."""
    with Live(venue, SystemClock()) as live:
        live.released()
        venue.fault("orders/historical/batch", *[answers(503, "<html>")] * 100)
        venue.fault("orders", LOST_AFTER, *[LOST_BEFORE] * 3)
        venue.price(COIN, "730.65")
        live.until(lambda: live.s.entry is not None and live.s.entry.status is Status.WORKING, "found")

    assert [row.state for row in venue.engine.orders()] == [Reported.WORKING]


def test_a_gap_in_the_numbers_is_a_new_connection_and_the_books_are_read(venue: CoinbaseDouble) -> None:
    """FEE-04: an execution is lost with a frame; nothing is missed, nothing is doubled."""
    with Live(venue, SystemClock()) as live:
        live.released()
        venue.price(COIN, "730.65")
        live.until(lambda: live.s.entry is not None and live.s.entry.venue_id, "the entry rests")
        venue.lose_a_frame()
        live.until(lambda: live.orders_feed.counts().get("gaps", 0) == 1, "the gap is seen")
        with venue._lock:
            venue._booked(venue.engine.tick(COIN, D("731.15"), ms()))  # while nobody listens
        live.until(lambda: live.s.position == QTY and live.s.stop is not None and live.s.stop.verified, "held and protected")

    assert [row.side.value for row in venue.engine.orders()] == ["BUY", "SELL"]
    assert live.feed.counts()["gaps"] == 1


def test_streams_that_are_cut_come_back_and_the_stop_that_filled_meanwhile_is_known(venue: CoinbaseDouble) -> None:
    """FEE-03."""
    with Live(venue, SystemClock()) as live:
        live.released()
        venue.price(COIN, "730.65")
        live.until(lambda: len(venue.working()) == 1, "the entry rests")
        venue.price(COIN, "731.15")
        live.until(lambda: live.s.stop is not None and live.s.stop.verified, "the stop rests")
        venue.drop()
        with venue._lock:
            venue._booked(venue.engine.tick(COIN, D("730.10"), ms()))
        live.until(lambda: live.s.phase is Phase.FLAT and not live.s.position, "flat")

    assert (live.ours, [row.side.value for row in venue.engine.orders()]) == (D(0), ["BUY", "SELL"])


def test_a_connection_without_heartbeats_is_dead_in_five_seconds(venue: CoinbaseDouble) -> None:
    """FEE-02, section 11.2."""
    _, streams = connect(account(venue), SystemClock())

    assert streams.ping_ms + streams.pong_ms == 5_000


def test_a_login_that_is_refused_is_told_and_polling_goes_on(venue: CoinbaseDouble) -> None:
    with Live(venue, SystemClock()) as live:
        live.released()
        venue.tokens_valid = False
        venue.drop()
        live.until(lambda: any("login refused" in text for _, text in live.voice.said), "told")
        venue.tokens_valid = True
        live.until(lambda: bool(venue._subscribers("user")), "back again")
