"""What a day made, to the last digit: fees in either currency, dust, and accounts whose orders are sized or levered otherwise."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.base import FillRow, OrderRow, PositionRow, Refused
from ops.report import Report, SymbolFacts, build
from state.clock import VirtualClock
from state.events import FillSeen, OrderSeen
from state.instrument import Instrument
from state.journal import Journal
from state.ledger import Fill, Ledger, trades
from state.orders import Order, OrderType, Purpose, Side
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import Venue
from tests.harness import Story
from tests.ops.driven import DAY, IST
from tests.state.builders import BUY, SELL, SYMBOL, TEN, D, Plan, Play, both_sides

SPOT = Instrument(SYMBOL, "SPOT", D("0.05"), D("0.001"), min_qty=D("0.004"), base="BTC", quote="USD")
RATE = D("0.0016")


class SpotVenue(Venue):
    """A purchase is charged in what was bought, a sale in money; nothing can be sold that is not held."""

    def positions(self) -> list[PositionRow]:
        fees = sum((row.fee for row in self.fills() if row.side is BUY), D(0))
        return [msgspec.structs.replace(row, qty=row.qty - fees) for row in super().positions()]

    def fills(self) -> list[FillRow]:
        return [_charged(row) for row in super().fills()]

    def tick(self, symbol: str, price: Decimal, at_ms: int, available: Decimal | None = None) -> list[OrderRow | FillRow]:
        rows = super().tick(symbol, price, at_ms, available)
        return [_charged(row) if isinstance(row, FillRow) else row for row in rows]

    def submit(self, order: Order) -> str:
        held = sum((row.qty for row in self.positions()), D(0))
        if order.side is SELL and order.qty > held:
            raise Refused("Insufficient funds")
        if order.qty < SPOT.min_qty or order.qty % SPOT.lot_size:
            raise Refused("invalid volume")
        return super().submit(order)


def _charged(row: FillRow) -> FillRow:
    if row.side is BUY:
        return msgspec.structs.replace(row, fee=row.qty * RATE, fee_currency="BTC")
    return msgspec.structs.replace(row, fee=row.qty * row.price * RATE, fee_currency="usd")


class SpotStory(Story):
    def _venue(self, **options: Any) -> Venue:
        self.instruments = {SYMBOL: SPOT}
        return SpotVenue(self.instruments, self.clock, self.guard, **options)


def report_of(story: Story, place: Path) -> Report:
    clock = VirtualClock(TEN)
    with Journal.open(place / "journal.db", clock=clock, wall=clock) as journal:
        journal.begin("day", mode="practice", account="spot", day="2026-11-20")
        journal.commit_many(story.works)
        with journal.reader() as reader:
            facts = [SymbolFacts(SYMBOL, "plan", 3)]
            return build(reader=reader, day=DAY, zone=IST, mode="practice", exit_code=0, facts=facts, ticks=0, faults={})


# -- a fee in what was bought ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "poll"])
def test_what_came_in_is_protected_and_sold_and_the_rest_is_dust(stream: bool, tmp_path: Path) -> None:
    """FIL-12: 1 bought at 731.15 brings 0.9984; 0.998 of it can be sold, and 0.0004 is named dust and left."""
    story = SpotStory(qty=D(1), stream=stream, max_entries=1)
    story.tick("730.65", "731.15")
    story.polls(1)
    protected = story.book

    story.tick("730.15", "730.10")
    story.polls(12)

    fees = D("0.0016") * D("731.15") + D("0.998") * D("730.15") * RATE
    gross = D("0.998") * (D("730.15") - D("731.15"))
    assert protected == ["SELL STOP 0.9980 @ 730.15"]
    assert (story.s.phase, story.s.dust, story.book, story.sent()) == (
        Phase.FLAT,
        D("0.0004"),
        [],
        ["E BUY 1", "S SELL 0.9980"],
    )
    assert not any("DIVERGED" in text or "late fill" in text for text in story.alarms)
    report = report_of(story, tmp_path)
    [trade] = report.trades
    assert (trade.qty, trade.dust, trade.reason) == ("0.9984", "0.0004", "stop")
    assert [D(x) for x in (trade.gross, trade.fees, trade.net)] == [round(x, 8) for x in (gross, fees, gross - fees)]
    assert report.symbols[0].why == "1 trade, entries used 1 of 3; dust 0.0004 left, too little to be sold"


def test_dust_is_no_position_and_holds_up_no_other_trip(tmp_path: Path) -> None:
    """FIL-12: the next trip takes the dust along, and once it is enough for a lot it is sold with the rest."""
    story = SpotStory(qty=D(1))
    for _ in range(3):
        story.tick("730.65", "731.15")
        story.polls(1)
        story.tick("730.15", "735.00")
        story.polls(2)

    report = report_of(story, tmp_path)
    assert story.sent() == ["E BUY 1", "S SELL 0.9980", "E BUY 1", "S SELL 0.9980", "E BUY 1", "S SELL 0.9990"]
    assert (story.s.dust, [row.dust for row in report.trades]) == (D("0.0002"), ["0.0004", "0.0008", "0.0002"])
    assert sum(D(row.net) for row in report.trades) == round(story.s.ledger.cash + D("0.0002") * D("731.15"), 8)


def test_a_position_below_the_smallest_order_is_dust_at_once() -> None:
    """FIL-12: an entry that fills 0.003 of 1 and is cancelled leaves nothing that could be protected, and no loop that tries."""
    play = Play(instrument=SPOT, qty=D(1)).enter()
    entry = play.entry

    play.fill(entry, "0.003")
    commands = play.seen(entry, Reported.CANCELLED) + play.beats(30_000)

    assert (play.s.position, play.s.dust, play.s.live_orders(), commands) == (0, D("0.003"), [], [])


def test_a_fee_told_after_the_report_makes_the_stop_smaller() -> None:
    """FIL-12: a cumulative report knows no fee; the trade row that brings it is no new execution, and no late one."""
    play = Play(instrument=SPOT, qty=D(1)).enter()
    entry = play.entry
    play.seen(entry, Reported.FILLED, filled=D(1), average=D("731.15"))
    stop = play.stop
    play.accepted(stop)
    play.seen(stop)

    fill = Fill("T1", entry.client_id, Purpose.ENTRY, BUY, D(1), D("731.15"), TEN, base_fee=D("0.0016"), source="poll")
    commands = play.on(FillSeen(fill=fill, **play.when))

    assert (stop.qty, play.s.position, play.s.reduced) == (1, D("0.998"), False)
    assert [(type(c).__name__, getattr(c, "qty", None)) for c in commands] == [("Replace", D("0.998"))]


def test_a_fee_in_a_third_currency_is_told_and_not_taken_for_money(caplog: pytest.LogCaptureFixture) -> None:
    """FIL-12: 0.5 points of a fee scheme are not 0.5 dollars."""
    story = SpotStory(qty=D(1))
    story.venue.script("submit")
    points = FillRow("T9", "100", SYMBOL, BUY, D(1), D("731.15"), TEN, D("0.5"), "KFEE")
    story.tick("730.65")
    assert story.s.entry is not None and story.s.entry.venue_id is not None
    story.report(msgspec.structs.replace(points, venue_id=story.s.entry.venue_id))

    assert story.s.ledger.cash == D("-731.15")
    assert [record.getMessage() for record in caplog.records] == ["trade T9: its fee of 0.5 KFEE is not in the profit"]


FEES = st.tuples(st.integers(0, 30), st.sampled_from(["base", "quote"]))
TRIP = st.tuples(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9_999), FEES), min_size=1, max_size=3), FEES)


@given(days=st.lists(TRIP, min_size=1, max_size=4), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=3000, deadline=None)
def test_the_nets_of_all_trips_are_the_money_that_came_in(days: list[Any], shuffle: Any) -> None:
    """FIL-12: net = gross − fees; their sum is cash plus dust at cost; position = executions − base fees: to the last digit."""
    fills: list[Fill] = []
    dusts: set[Decimal] = set()
    ledger, bought = Ledger(), D(0)
    for trip, (entries, fee) in enumerate(days):
        rows = [(BUY, D(qty) / 100, D(price) / 100, cost) for qty, price, cost in entries]
        for side, qty, price, cost in [*rows, (SELL, None, D("50.05"), fee)]:
            if qty is None:
                qty = SPOT.quantity_down(ledger.position - (D(cost[0]) / 10_000 if cost[1] == "base" else 0))
                if qty < SPOT.least:
                    continue
            amount = min(D(cost[0]) / 10_000, qty / 2)
            base, quote = (amount, D(0)) if cost[1] == "base" else (D(0), amount)
            letter = "E" if side is BUY else "X"
            client = f"{SYMBOL}-{DAY:%Y%m%d}-{letter}{2 * trip + (side is SELL)}"
            count = len(fills)
            fill = Fill(f"T{count}", client, Purpose(letter), side, qty, price, TEN + count, quote, base_fee=base)
            fills.append(fill)
            ledger = ledger.add(fill)
            bought = price if side is BUY else bought
        if ledger.position == SPOT.dust(ledger.position):
            dusts.add(ledger.position)

    again = shuffle.sample(fills * 2, len(fills) * 2)
    found = trades(SYMBOL, again, dusts)

    moved = sum((fill.qty * fill.side.sign - fill.base_fee for fill in fills), D(0))
    spent = sum((-fill.qty * fill.price * fill.side.sign - fill.fee for fill in fills), D(0))
    assert (ledger.position, ledger.cash) == (moved, spent)
    assert sum((fill.all_fees for fill in fills), D(0)) == sum((trade.fees for trade in found), D(0))
    if ledger.position in (dusts | {D(0)}) and found[-1].exit_ms is not None:
        assert sum((trade.net for trade in found), D(0)) == spent + ledger.position * bought


# -- sized in money, and levered -------------------------------------------------------------------------------------------


@given(
    quantities=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    moves=st.lists(st.integers(-500, 500), min_size=4, max_size=4),
    leverage=st.sampled_from([1, 5, 50]),
    in_quote=st.booleans(),
)
@settings(max_examples=3000, deadline=None)
def test_quantity_and_profit_come_from_the_fills_whatever_the_order_row_is_sized_in(
    quantities: list[int], moves: list[int], leverage: int, in_quote: bool
) -> None:
    """FIL-14: a venue that shows an order in quote money, or ours times the leverage, changes no quantity and no profit."""
    play = Play(strategy=Plan(type=OrderType.MARKET), instrument=SPOT, qty=D(sum(quantities)) / 100)
    play.tick("730.65")
    entry = play.entry
    play.accepted(entry)
    shown = entry.qty * (D("731.15") if in_quote else 1) * leverage
    prices = [D("731.15") + D(move) / 100 for move in moves]
    paid = done = D(0)

    for qty, price in zip(quantities, prices, strict=False):
        play.fill(entry, D(qty) / 100, price)
        paid, done = paid + D(qty) / 100 * price, done + D(qty) / 100
        play.seen(entry, qty=shown, filled=done, average=paid / done)
    play.seen(entry, Reported.FILLED, qty=shown, filled=done, average=paid / done)

    assert (play.s.entry, play.s.position, play.s.ledger.cash) == (None, entry.qty, -paid)
    assert play.s.ledger.profit(D(740)) == D(740) * entry.qty - paid


@both_sides
@pytest.mark.parametrize("leverage", [1, 5])
@pytest.mark.parametrize("in_quote", [False, True], ids=["base", "quote"])
def test_a_report_is_the_same_for_either_flag_and_any_leverage(side: Side, leverage: int, in_quote: bool, tmp_path: Path) -> None:
    """FIL-14: the whole way, from the venue's rows to the report in a file (once 3,760 times wrong)."""

    class Levered(Venue):
        def orders(self) -> list[OrderRow]:
            return [self._sized(row) for row in super().orders()]

        def order(self, order: Order) -> OrderRow | None:
            row = super().order(order)
            return None if row is None else self._sized(row)

        def _sized(self, row: OrderRow) -> OrderRow:
            if Purpose.ENTRY.value not in (row.client_id or "-E"):
                return row
            return msgspec.structs.replace(row, qty=row.qty * leverage * (D("731.15") if in_quote else 1))

    class LeveredStory(Story):
        def _venue(self, **options: Any) -> Venue:
            return Levered(self.instruments, self.clock, self.guard, client_ids=True, **options)

    story = LeveredStory(side, stream=False, max_entries=1)
    story.tick("730.65", "731.15")
    story.polls(1)
    story.tick("730.15")
    story.polls(2)

    [trade] = report_of(story, tmp_path).trades
    assert (trade.qty, D(trade.gross), D(trade.net), story.s.phase) == ("5", D("-5.00"), D("-5.00"), Phase.FLAT)
    assert story.sent() == [f"E {side.value} 5", f"S {side.opposite.value} 5"]


def test_an_entry_row_in_quote_money_is_no_fill_of_so_much() -> None:
    """FIL-14: "complete", 3,655.75 of 3,655.75 in money, no cumulative quantity: executions are asked for, none is made up."""
    play = Play(strategy=Plan(type=OrderType.MARKET), instrument=SPOT).enter()
    row = play.row(play.entry, Reported.FILLED, qty=D("3655.75"), filled=None, average=None)

    play.on(OrderSeen(client_id=play.entry.client_id, row=row, asked_ms=play.mono, **play.when))

    assert (play.s.position, play.s.entry is not None) == (0, True)
