"""A trader's day on OANDA over real sockets: the real desk, poller, reports and streams against the venue's double."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from functools import partial

import pytest

from brokers.channel import Limits
from brokers.client_ids import ClientIds
from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.line_stream import LineStream
from brokers.oanda import Oanda, headers
from brokers.oanda_log import TransactionLog
from brokers.oanda_stream import OandaTransactions
from brokers.poller import Poller
from brokers.reports import Reports
from brokers.spelling import Spelling
from brokers.venues import Account, connect
from state.commands import Alarm
from state.events import FlattenAsked, Restarted
from state.orders import OrderType, Side, Status
from state.rules import Rules
from state.sizing import By, Size
from state.snapshot import Snapshot
from state.strategy import Bar, Enter, MoveStop, Strategy, View, Wish
from state.symbol_state import SymbolState
from state.threads import OS_THREADS
from tests.brokers.doubles import Listener, Notebook
from tests.brokers.oanda_double import ACCOUNT, TOKEN, OandaDouble
from tests.brokers.test_feed import Recorder, until
from tests.brokers.test_oanda import JumpClock

D = Decimal
EUR = "EUR_USD"
HOUR_MS = 3_600_000


class Plan(Strategy):
    """Buys at market at 1.10000 when flat; the stop is a hundredth of a cent away; trails where it is told to."""

    name = "plan"

    def __init__(self, kind: OrderType = OrderType.MARKET) -> None:
        self.kind = kind
        self.trail: dict[Decimal, Decimal] = {}

    def on_tick(self, view: View, price: Decimal) -> Wish:
        if price in self.trail:
            return MoveStop(self.trail[price], "trail")
        if not view.flat or price != D("1.10000"):
            return None
        limit = D("1.09900") if self.kind is OrderType.LIMIT else None
        return Enter(Side.BUY, self.kind, "there", limit_price=limit)

    def on_bar(self, view: View, bar: Bar) -> Wish:
        return None

    def stop_price(self, view: View) -> Decimal:
        return view.average - D("0.00100")


class Day:
    """One symbol; the threads of a session done in turn, but every request on the wire."""

    def __init__(self, double: OandaDouble, kind: OrderType = OrderType.MARKET) -> None:
        self.double, self.clock, self.plan = double, JumpClock(), Plan(kind)
        self.journal, self.listener = Notebook(), Listener()
        self.start(Snapshot(EUR))
        self.poll()

    def start(self, snapshot: Snapshot) -> None:
        ids, spelling = ClientIds("journal", OS_THREADS), Spelling(OS_THREADS)
        self.log = TransactionLog(ids, spelling, OS_THREADS)
        self.broker = Oanda(self.double.rest_url, TOKEN, ACCOUNT, 5.0, 30.0, self.clock, ids, self.log, spelling)
        now_ms = self.clock.now_ms()
        rules = Rules(
            instrument=self.broker.instrument(EUR),
            strategy=self.plan,
            size=Size(By.QTY, D(100)),
            day="20261120",
            entry_from_ms=now_ms - HOUR_MS,
            cutoff_ms=now_ms + 6 * HOUR_MS,
            max_entries=3,
        )
        self.outbox = Outbox()
        self.state = SymbolState(snapshot, rules, self.outbox, self.clock, bar_origin_ms=now_ms - HOUR_MS)
        states = {EUR: self.state}
        self.reports = Reports(states, self.clock, 30.0, by_id=True)
        self.desk = Desk(self.broker, self.journal, states, self.outbox, self.reports, self.clock, self.listener)
        self.poller = Poller(self.broker, states, self.reports, self.clock, self.listener, 5.0)

    def restart(self) -> None:
        """The process dies and comes back with its last committed snapshot, and with nothing else."""
        self.broker.close()
        self.start(self.journal.works[-1].after)
        self.state.apply(Restarted(mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))
        self.desk.drain()
        self.poll()

    def tick(self, *prices: str) -> None:
        for text in prices:
            self.double.price(EUR, text)
            self.state.tick(D(text), self.clock.now_ms())
            self.desk.drain()

    def poll(self, after_ms: int = 0) -> None:
        self.clock.jump(after_ms)
        self.state.heartbeat(self.clock.now_ms(), self.clock.monotonic_ms())
        self.desk.drain()
        self.poller.sweep()
        self.desk.drain()

    def polls(self, count: int, every_ms: int = 3_000) -> None:
        for _ in range(count):
            self.poll(every_ms)

    def flatten(self) -> None:
        self.state.apply(FlattenAsked(reason="enough", mono_ms=self.clock.monotonic_ms(), now_ms=self.clock.now_ms()))
        self.desk.drain()
        self.polls(4)

    @property
    def s(self) -> Snapshot:
        return self.state.snapshot

    @property
    def alarms(self) -> list[str]:
        return [command.text for work in self.journal.works for command in work.commands if isinstance(command, Alarm)]

    def posted(self, purpose: str) -> int:
        return sum(f"-{purpose}".encode() in one.body for one in self.double.requests("POST", "/orders"))


@pytest.fixture
def double() -> Iterator[OandaDouble]:
    found = OandaDouble(heartbeat_s=0.1).start()
    found.price(EUR, "1.09990")
    yield found
    found.stop()


@pytest.fixture
def day(double: OandaDouble) -> Iterator[Day]:
    found = Day(double)
    yield found
    found.broker.close()
    assert found.listener.defects == []


def hold(day: Day) -> None:
    day.tick("1.10000")
    day.polls(2)
    assert day.s.position == 100 and day.s.stop is not None and day.s.stop.verified


def test_entry_stop_trail_exit_flat(day: Day) -> None:
    """PRO-01 on this venue: each step seen in the venue's own book."""
    books = []
    hold(day)
    books.append(day.double.pending())
    day.plan.trail = {D("1.10200"): D("1.10100"), D("1.10300"): D("1.10200")}
    for price in ("1.10200", "1.10300"):
        day.tick(price)
        day.polls(2)
        books.append(day.double.pending())
    day.flatten()

    assert books == [["STOP -100 @ 1.099"], ["STOP -100 @ 1.101"], ["STOP -100 @ 1.102"]]
    assert (day.s.position, day.double.net(EUR), day.double.pending(), day.s.live_orders()) == (0, D(0), [], [])
    assert (day.posted("E"), day.posted("S"), day.posted("X")) == (1, 1, 1)
    assert [one["type"] for one in day.double.transactions if one["type"].endswith("REJECT")] == []
    assert day.s.ledger.position == 0 and not day.s.halted


def test_the_stop_is_never_away_while_it_is_moved(day: Day) -> None:
    """A replacement is one request: the cancel and the new order have one batch."""
    hold(day)
    day.plan.trail = {D("1.10200"): D("1.10100")}
    day.tick("1.10200")

    cancel = day.double.of_type("ORDER_CANCEL")[-1]
    made = day.double.of_type("STOP_ORDER")[-1]
    assert (cancel["replacedByOrderID"], cancel["batchID"]) == (made["id"], made["batchID"])


def test_a_trailed_stop_that_fires_is_ours(day: Day) -> None:
    hold(day)
    day.plan.trail = {D("1.10200"): D("1.10100")}
    day.tick("1.10200")
    day.polls(2)

    day.double.price(EUR, "1.10090")
    day.polls(2)

    assert (day.s.position, day.s.stop, day.double.net(EUR)) == (0, None, D(0))


def test_a_day_goes_on_after_a_restart_with_a_trailed_stop(day: Day) -> None:
    """The journal knows the first id; the venue's log leads from it to the present one."""
    hold(day)
    day.plan.trail = {D("1.10200"): D("1.10100"), D("1.10300"): D("1.10200")}
    day.tick("1.10200")
    day.polls(2)
    first = day.s.stop.venue_id if day.s.stop else None

    day.restart()
    day.polls(2)
    day.tick("1.10300")
    day.polls(2)
    day.flatten()

    assert first is not None
    assert day.double.of_type("STOP_ORDER")[-1]["price"] == "1.102"
    assert (day.s.position, day.double.net(EUR), day.double.pending()) == (0, D(0), [])
    assert (day.posted("E"), day.posted("S"), day.posted("X")) == (1, 1, 1)


@pytest.mark.parametrize("kind", ["lost_after", "garbage"])
def test_an_entry_that_filled_without_an_answer_is_found_and_protected(day: Day, kind: str) -> None:
    """UNK-01, UNK-16: one entry at the venue after ten polls."""
    day.double.fail("create", kind)
    day.tick("1.10000")
    assert day.s.entry is not None and day.s.entry.status is Status.UNKNOWN

    day.polls(10)

    assert (day.s.position, day.double.net(EUR), day.posted("E")) == (100, D(100), 1)
    assert day.double.pending() == ["STOP -100 @ 1.099"]


def test_an_entry_that_never_arrived_is_let_go_after_the_window(day: Day) -> None:
    """UNK-07, UNK-16."""
    day.double.fail("create", "lost_before")
    day.tick("1.10000")

    day.polls(8)
    waiting = day.s.entry
    day.polls(4)

    assert waiting is not None and waiting.status is Status.UNKNOWN
    assert (day.s.entry, day.double.net(EUR), day.posted("E")) == (None, D(0), 1)


def test_an_entry_that_arrives_long_after_is_found_and_protected(day: Day) -> None:
    """UNK-07."""
    day.double.fail("create", "late")
    day.tick("1.10000")
    day.polls(8)

    day.double.arrive()
    day.polls(3)

    assert (day.s.position, day.double.net(EUR), day.posted("E")) == (100, D(100), 1)
    assert day.double.pending() == ["STOP -100 @ 1.099"]


def test_an_entry_that_arrives_after_it_was_given_up_stops_everything(day: Day) -> None:
    """UNK-08: told, halted, never sent again."""
    day.double.fail("create", "late")
    day.tick("1.10000")
    day.polls(14)
    assert day.s.entry is None

    day.double.arrive()
    day.polls(4)

    assert day.s.halted
    assert any("held for never sent" in text for text in day.alarms)
    assert day.posted("E") == 1


def test_a_restart_in_the_middle_of_an_unanswered_entry(day: Day) -> None:
    """UNK-16: nothing of the venue's ids was stored."""
    day.double.fail("create", "lost_after")
    day.tick("1.10000")

    day.restart()
    day.polls(3)

    assert (day.s.position, day.double.net(EUR), day.posted("E")) == (100, D(100), 1)
    assert day.double.pending() == ["STOP -100 @ 1.099"]


@pytest.mark.parametrize("kind", ["lost_after", "lost_before"])
def test_a_change_without_an_answer_is_read_back(day: Day, kind: str) -> None:
    """UNK-11: the order works at one level or the other; nothing is doubled."""
    hold(day)
    day.plan.trail = {D("1.10200"): D("1.10100")}
    day.double.fail("replace", kind)
    day.tick("1.10200")

    day.polls(14)

    assert day.double.pending() == ["STOP -100 @ 1.101"]
    assert (day.s.position, day.posted("S")) == (100, 1)


@pytest.mark.parametrize("kind", ["lost_after", "lost_before", "late"])
def test_an_exit_without_an_answer_never_turns_the_position_round(day: Day, kind: str) -> None:
    """UNK-12."""
    hold(day)
    day.double.fail("create", kind)
    day.flatten()
    nets = [day.double.net(EUR)]

    for _ in range(14):
        day.poll(3_000)
        nets.append(day.double.net(EUR))
    day.double.arrive()
    day.polls(3)

    assert min(nets) >= 0
    assert (day.double.net(EUR), day.s.position) == (0, 0)


def test_a_halted_stop_is_placed_when_the_market_takes_it(day: Day) -> None:
    day.double.fail("create", "pass", "cancelled", "cancelled")
    day.tick("1.10000")
    assert day.s.position in (0, 100)

    day.polls(6)

    assert (day.s.position, day.double.pending()) == (100, ["STOP -100 @ 1.099"])


def test_a_limit_entry_that_fills_in_parts_is_protected_as_it_grows(double: OandaDouble) -> None:
    """FIL-04, PRO-02: the rest goes on under another id at the venue."""
    day = Day(double, OrderType.LIMIT)
    day.tick("1.10000")
    day.polls(2)

    double.price(EUR, "1.09900", available="40")
    day.polls(3)
    part = (day.s.position, double.pending())
    double.price(EUR, "1.09899")
    day.polls(3)

    assert part == (40, ["LIMIT 60 @ 1.099", "STOP -40 @ 1.098"])
    assert (day.s.position, double.net(EUR), double.pending()) == (100, D(100), ["STOP -100 @ 1.098"])
    day.broker.close()


def test_somebody_elses_trades_stay_somebody_elses(double: OandaDouble) -> None:
    """REC-09: the account nets, and what was there before us is there after us."""
    double.stranger(EUR, "30")
    day = Day(double)
    hold(day)

    day.flatten()

    assert (double.net(EUR), day.s.position, double.pending()) == (D(30), 0, [])
    day.broker.close()


def test_the_transaction_stream_tells_of_a_stop_before_any_poll(day: Day) -> None:
    hold(day)
    told = Recorder()
    feed = Feed(
        OandaTransactions(day.double.stream_url, ACCOUNT, day.log),
        {},
        told,
        day.clock,
        Limits(turn_ms=20),
        wire=partial(LineStream, headers=headers(TOKEN)),
    )
    thread = threading.Thread(target=feed.run, daemon=True)
    thread.start()
    told.wait(1, "connected")
    until(lambda: day.double.streaming("transactions") == 1)

    day.double.price(EUR, "1.09890")
    (_, fill), (_, row) = told.wait(1, "fill")[0], told.wait(1, "order")[0]
    day.reports.fill(fill, "stream")
    day.reports.order_update(row, day.clock.monotonic_ms(), "stream")
    day.desk.drain()

    assert (day.s.position, day.s.stop) == (0, None)
    feed.stop()
    thread.join(10)


def test_the_adapter_is_found_by_its_name(double: OandaDouble) -> None:
    account = Account(
        broker="oanda",
        rest_url=double.rest_url,
        ws_url=double.stream_url,
        exchange="OANDA",
        product="CASH",
        timezone="UTC",
        timeout_s=5.0,
        settle_window_s=30.0,
        keys={"OANDA_API_TOKEN": TOKEN, "OANDA_ACCOUNT_ID": ACCOUNT},
        identity="journal",
    )

    broker, streams = connect(account, JumpClock())

    assert broker.check() == "practice"
    assert (streams.prices.url, streams.orders is not None) == (double.stream_url, True)
    broker.close()
