"""Every execution counts once, and a trade says what the venue's fills say: price, fees, time, and how it was learnt."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.base import FillRow
from state.ledger import Fill, Ledger, Trade, trades
from state.orders import OrderType, Purpose, Side
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import Act, refused, unreachable
from tests.harness import POLL_MS, Story
from tests.state.builders import BUY, SYMBOL, TEN, D, Plan, at, both_sides, ist, order_of

HOUR_MS = 3_600_000
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "poll"])


def _row(number: int, client: str, side: Side, qty: str, price: str, at_ms: int, fee: str = "0") -> Fill:
    purpose = Purpose(client.rsplit("-", 1)[-1][0])
    return Fill(f"T{number}", client, purpose, side, D(qty), D(price), at_ms, D(fee), "INR", "poll")


# -- whose price, whose time --------------------------------------------------------------------------------------------


def test_an_exit_found_by_a_poll_has_the_price_and_time_of_its_fill() -> None:
    """FIL-11: feed down, last price elsewhere, the order row without a price: only the trade row is believed."""
    story = Story(strategy=Plan(type=OrderType.MARKET, stop=D("101.00")), stream=False, start_ms=ist("10:00:00"))
    story.tick("730.65")
    story.silent_tick("102.00")
    story.poll()
    story.clock.advance_to(ist("10:00:01") + 190)
    story.silent_tick("101.00")
    story.silent_tick("100.90")
    rows = [replace(row, average=D(0)) for row in story.venue.orders()]
    story.venue.script("orders", lambda act: rows)
    story.clock.advance_to(ist("10:00:04"))

    story.poll()

    [trade] = story.trades
    assert (trade.exit_price, trade.exit_ms, trade.gross, trade.source) == (D("101.00"), ist("10:00:01") + 200, D(-5), "poll")
    assert story.s.phase is Phase.FLAT


@both_ways
@both_sides
def test_every_fill_says_how_it_was_learnt(side: Side, stream: bool) -> None:
    """FIL-11, FEATURES 41."""
    story = Story(side, stream=stream)
    story.hold()
    story.tick("730.15")
    story.polls(1)

    assert {fill.source for fill in story.fills if not fill.cumulative} == {"stream" if stream else "poll"}
    assert [(trade.entry_order, trade.exit_order) for trade in story.trades] == [("SBIN-20261120-E0", "SBIN-20261120-S1")]


def test_a_fill_that_a_restart_finds_is_marked_as_recovered() -> None:
    """CRA-05, FEATURES 41: what happened while nobody was there is booked from the venue's rows."""
    story = Story(stream=False)
    story.hold()
    story.silent_tick("730.15")

    story.restart()

    [trade] = story.trades
    assert (story.s.position, trade.exit_price, story.sent("X")) == (0, D("730.15"), [])


# -- fees ---------------------------------------------------------------------------------------------------------------


@both_ways
@both_sides
def test_net_is_gross_less_the_fees_of_all_fills_to_the_last_digit(side: Side, stream: bool) -> None:
    """FIL-12, in quote currency."""
    story = Story(side, stream=stream, venue={"fee_rate": D("0.00033"), "fee_currency": "INR"})
    story.tick("730.65")
    story.tick("731.15", available=D(2))
    story.tick("731.15", "731.20")
    story.polls(1)
    story.tick("730.10")
    story.polls(1)

    rows = story.venue.fills()
    [trade] = story.trades
    fees = sum((row.fee for row in rows), D(0))
    gross = sum((row.qty * row.price * -row.side.sign for row in rows), D(0))
    assert (len(rows), trade.fees, trade.gross, trade.net) == (3, fees, gross, gross - fees)
    assert story.s.ledger.profit(None) == gross - fees


def test_thirds_cost_no_digit() -> None:
    """FEATURES 42-44: an average that does not end must not leak into the profit."""
    client = "SBIN-20261120-"
    fills = [
        _row(1, f"{client}E0", BUY, "1", "100.05", 1, "0.0123456789"),
        _row(2, f"{client}E0", BUY, "1", "100.10", 2),
        _row(3, f"{client}E0", BUY, "1", "100.10", 3),
        _row(4, f"{client}S1", BUY.opposite, "3", "99.95", 4, "0.0000000001"),
    ]

    [trade] = trades(SYMBOL, fills)

    assert (trade.gross, trade.fees, trade.net) == (D("-0.40"), D("0.0123456790"), D("-0.4123456790"))


# -- whose trip ---------------------------------------------------------------------------------------------------------


def test_reduced_closed_and_reopened_within_one_poll_are_two_trips() -> None:
    """FIL-13: and an entry alone is no outcome."""
    day = "SBIN-20261120-"
    fills = [
        _row(1, f"{day}E0", BUY, "1.0", "100", TEN),
        _row(2, f"{day}S1", BUY.opposite, "0.4", "101", TEN),
        _row(3, f"{day}X2", BUY.opposite, "0.6", "102", TEN),
        _row(4, f"{day}E3", BUY, "1.0", "103", TEN),
    ]

    done, still = trades(SYMBOL, fills)

    assert done == Trade(SYMBOL, BUY, D("1.0"), D(100), D("101.6"), TEN, TEN, D("1.60"), D(0), f"{day}E0", f"{day}X2", "poll")
    assert (still.entry_order, still.exit_ms, still.exit_price) == (f"{day}E3", None, None)


@pytest.mark.parametrize("seconds", [False, True], ids=["ms", "whole-seconds"])
def test_a_thousand_trips_heard_in_any_order_keep_their_own_rows_and_orders(seconds: bool) -> None:
    """FIL-13: once 28 % had lost their decision. Some venues tell a trade's time only to the second."""
    rng = random.Random(13)
    fills: list[Fill] = []
    for number in range(1_000):
        entry, stop = f"SBIN-20261120-E{2 * number}", f"SBIN-20261120-S{2 * number + 1}"
        start_ms = TEN + number * 400
        at_ms = [start_ms, start_ms, start_ms + rng.randint(0, 300)]
        at_ms = [ms - ms % 1_000 for ms in at_ms] if seconds else at_ms
        price = f"{100 + number}"
        fills += [
            _row(3 * number, entry, BUY, "2", price, at_ms[0]),
            _row(3 * number + 1, entry, BUY, "3", price, at_ms[1]),
            _row(3 * number + 2, stop, BUY.opposite, "5", str(Decimal(price) - 1), at_ms[2]),
        ]
    heard = [*fills, *fills]
    rng.shuffle(heard)

    found = trades(SYMBOL, heard)

    assert [(t.qty, t.entry_price, t.exit_price, t.entry_order, t.exit_order) for t in found] == [
        (D(5), D(100 + n), D(99 + n), f"SBIN-20261120-E{2 * n}", f"SBIN-20261120-S{2 * n + 1}") for n in range(1_000)
    ]


def test_a_stop_that_fills_in_the_millisecond_of_the_entry_is_its_exit() -> None:
    """FIL-01, FIL-02: whichever was heard of first."""
    entry = _row(1, "SBIN-20261120-E0", BUY, "5", "100", TEN)
    stop = _row(2, "SBIN-20261120-S1", BUY.opposite, "5", "99", TEN)
    later = replace(entry, client_id="SBIN-20261120-E4")
    elsewhere = replace(stop, client_id="SBIN-elsewhere-X1")

    found = [trades(SYMBOL, fills) for fills in ([stop, entry], [entry, stop], [elsewhere, later])]

    assert [[(t.side, t.gross) for t in each] for each in found] == [[(BUY, D(-5))]] * 3


# -- heard before, after, twice -----------------------------------------------------------------------------------------


@both_sides
def test_stream_poll_and_a_restart_tell_of_one_fill_once(side: Side) -> None:
    """FIL-02."""
    story = Story(side)
    story.hold()
    story.polls(2)
    story.restart()
    story.polls(2)
    story.tick("730.15")
    story.polls(2)

    assert [(trade.qty, trade.exit_ms is not None) for trade in story.trades] == [(D(5), True)]
    assert (story.s.entries_used, story.sent()) == (1, [f"E {side.value} 5", f"S {side.opposite.value} 5"])


@both_ways
@both_sides
def test_a_cancelled_rest_is_one_trade_of_what_was_filled(side: Side, stream: bool) -> None:
    """FIL-05: over the whole way, with the cancel's report before the fill's where the poll brings both."""
    story = Story(side, stream=stream, qty=D(10), entry_timeout_ms=60_000)
    story.tick("730.65")
    story.tick("731.15", available=D(4))

    story.wait(70_000)
    stopped = (story.s.position, story.s.average, story.s.entry, story.book)
    story.tick("730.10")
    story.polls(1)

    assert stopped == (4 * side.sign, D("731.15"), None, [f"{side.opposite.value} STOP 4 @ {at(side, '730.15')}"])
    assert [(trade.qty, trade.entry_price) for trade in story.trades] == [(D(4), D("731.15"))]


@both_sides
def test_complete_without_a_trade_row_is_asked_again_until_one_agrees(side: Side) -> None:
    """FIL-09: over the polls."""
    story = Story(side, stream=False)
    story.tick("730.65")
    story.silent_tick("731.15")
    told = [replace(row, filled=None, average=D(0)) for row in story.venue.orders()]
    story.venue.always("orders", lambda act: told)
    story.venue.always("order", lambda act: told[0])
    story.venue.always("fills", lambda act: [])

    story.wait(4_000)
    unsure = (story.s.position, story.s.phase, story.calls("fills") >= 4)
    story.venue.always("fills", None)
    story.wait(500)

    assert unsure == (0, Phase.ENTERING, True)
    assert story.s.position == 5 * side.sign


@both_sides
def test_a_fill_of_more_than_was_ordered_is_protected_in_full(side: Side) -> None:
    """FIL-08: 6 filled of 5, through reports, machine and desk."""
    story = Story(side, stream=False)
    story.tick("730.65")
    story.silent_tick("731.15")
    more = FillRow("T9", "1", SYMBOL, side, D(1), D("731.15"), story.clock.now_ms())
    story.venue.always("fills", lambda act: [*act(), more])
    story.venue.always("positions", unreachable)

    story.wait(3_000)

    assert (story.s.position, story.book) == (6 * side.sign, [f"{side.opposite.value} STOP 6 @ {at(side, '730.15')}"])
    assert any(text.startswith("overfill of SBIN-20261120-E0") for text in story.alarms)


# -- time ---------------------------------------------------------------------------------------------------------------


@both_sides
def test_an_order_of_yesterday_is_followed_through_an_outage_and_fills_once(side: Side) -> None:
    """FIL-15, FEATURES 31 and 32: 25 hours at rest, one hour of polls without an answer."""
    story = Story(side, stream=False, entry_timeout_ms=100 * HOUR_MS, cutoff_ms=TEN + 100 * HOUR_MS)
    story.tick("730.65")
    for _ in range(25 * 60):
        story.clock.advance(60_000)
        story.pulse()
    for verb in ("orders", "fills", "positions", "order"):
        story.venue.always(verb, unreachable)
    story.wait(5_000)
    asked = len(story.venue.calls)
    for _ in range(2 * 3_600):
        story.clock.advance(500)
        story.pulse()
    asked = len(story.venue.calls) - asked
    story.silent_tick("731.15")
    for verb in ("orders", "fills", "positions", "order"):
        story.venue.always(verb, None)

    story.wait(POLL_MS)
    held = (story.s.position, story.book)
    story.silent_tick("730.15")
    story.wait(POLL_MS)

    assert asked <= HOUR_MS // POLL_MS + 1
    assert held == (5 * side.sign, [f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"])
    assert [(trade.qty, trade.exit_ms is not None) for trade in story.trades] == [(D(5), True)]
    assert story.sent("E") == [f"E {side.value} 5"]


@both_sides
def test_a_fill_one_second_after_placing_is_seen_within_one_and_a_half(side: Side) -> None:
    """NET-09, FEATURES 22 and 36: stream silent; every look is a request of its own."""
    story = Story(side, Plan(side, type=OrderType.MARKET), stream=False)
    story.tick("730.65")
    placed_ms = story.clock.now_ms()
    looked = story.calls("orders")
    story.wait(990)
    story.silent_tick("730.70")

    while not story.s.position and story.clock.now_ms() - placed_ms < 10_000:
        story.wait(250)

    assert story.clock.now_ms() - placed_ms <= 1_500
    assert story.calls("orders") - looked == 3


@both_sides
def test_a_resting_order_is_looked_at_every_second_and_a_quiet_symbol_every_round(side: Side) -> None:
    """FEATURES 24 and 25: what fills between two rounds is not heard of seconds later."""
    story = Story(side, stream=False)
    story.polls(4)
    quiet = story.calls("orders")
    story.hold()
    story.wait(20_000)
    looked = story.calls("orders")

    story.wait(10_000)

    assert quiet == 4
    assert 9 <= story.calls("orders") - looked <= 11


# -- the broker closes beside us ----------------------------------------------------------------------------------------


@both_sides
def test_the_brokers_square_off_and_our_exit_leave_nothing_open(side: Side) -> None:
    """EXI-08: our exit is refused again and again while the broker closes the position itself."""
    story = Story(side)
    story.polls(1)
    story.hold()
    story.venue.always("submit", refused("square-off under way"))
    story.flatten("cutoff")
    story.wait(3_000)
    story.venue.always("submit", None)
    story.venue.arrive(order_of(Purpose.EXIT, side.opposite, "5", client_id=""))
    story.silent_tick("731.00")

    story.wait(40_000)

    assert (story.net, story.s.position, story.book) == (0, 0, [])
    [trade] = story.trades
    assert (trade.exit_price, trade.source, trade.net) == (at(side, "731.00"), "elsewhere", D("-0.75"))


def _both_close(side: Side, broker_first: bool) -> Story:
    """The broker's square-off and our exit are both in the book when the price comes that fills them."""
    story = Story(side)
    story.polls(1)
    story.hold()
    square_off = order_of(Purpose.EXIT, side.opposite, "5", client_id="")
    if broker_first:
        story.venue.arrive(square_off)
        story.flatten("cutoff")
    else:
        story.flatten("cutoff")
        story.venue.arrive(square_off)
    story.silent_tick("731.00")
    assert story.net == -5 * side.sign
    for _ in range(6):
        story.wait(POLL_MS)
        story.silent_tick("731.00")
    story.wait(POLL_MS)
    return story


@both_sides
def test_when_both_the_broker_and_our_exit_filled_one_order_covers(side: Side) -> None:
    """EXI-08: theirs filled first, so it closed our position and our exit turned it round."""
    story = _both_close(side, broker_first=True)

    assert (story.net, story.s.position, story.book) == (0, 0, [])
    assert story.sent("X") == [f"X {side.opposite.value} 5", f"X {side.opposite.value} 5", f"X {side.value} 5"]
    assert sum(fill.qty for fill in story.fills if fill.source == "elsewhere") == 5


@both_sides
def test_what_others_do_after_our_exit_has_filled_is_theirs_and_told(side: Side) -> None:
    """EXI-08, REC-07: ours is flat, so what they opened is not ours to close; entries stop and a person is told."""
    story = _both_close(side, broker_first=False)

    assert (story.net, story.s.position, story.s.foreign_qty) == (-5 * side.sign, 0, -5 * side.sign)
    assert story.alarms[-1] == f"HALTED: FOREIGN: others hold {-5 * side.sign} of it in this account"


# -- the cancel of a stop meets a limit ---------------------------------------------------------------------------------


@both_sides
def test_a_throttled_cancel_of_a_stop_is_tried_again_later_and_later(side: Side) -> None:
    """NET-01: the stop counts as working all the while, and nothing is sold on top of it."""
    story = Story(side)
    story.hold()
    times: list[int] = []

    def throttled(act: Act) -> Any:
        times.append(story.clock.now_ms())
        return unreachable(act)

    story.venue.script("cancel", *[throttled] * 4)
    story.flatten("by hand")
    story.wait(3_000)
    meanwhile = (story.book, story.sent("X"))
    story.wait(3_000)
    story.tick("731.20")
    story.polls(1)

    pauses = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert meanwhile == ([f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"], [])
    assert pauses == sorted(pauses) and pauses[0] < pauses[-1]
    assert (story.net, story.sent("X")) == (0, [f"X {side.opposite.value} 5"])


def test_a_long_ledger_equals_the_sum_of_its_rows() -> None:
    """FEATURES 45: 10,000 random fills of one symbol, against plain arithmetic."""
    rng, ledger = random.Random(45), Ledger()
    position = cash = D(0)
    for number in range(10_000):
        side = rng.choice((BUY, BUY.opposite))
        qty, price, fee = D(rng.randint(1, 9)), D(rng.randint(14_000, 15_000)) * D("0.05"), D(rng.randint(0, 99)) / 1_000
        client = f"SBIN-20261120-E{number // 3}" if side is BUY else f"SBIN-20261120-X{number // 3}"
        purpose = Purpose.ENTRY if side is BUY else Purpose.EXIT
        fill = Fill(f"T{number}", client, purpose, side, qty, price, number, fee)
        position, cash = position + qty * side.sign, cash - qty * price * side.sign - fee
        ledger = ledger.add(fill)

    assert (ledger.position, ledger.cash) == (position, cash)


def test_no_row_of_an_old_order_is_counted_again_after_the_order_was_forgotten() -> None:
    """FIL-02: the whole trade book is read at every poll, all day."""
    story = Story(stream=False, max_entries=40)
    for _ in range(40):
        story.tick("731.00", "730.65")
        story.silent_tick("731.15")
        story.wait(500)
        story.tick("730.15")
        story.wait(1_000)

    story.polls(2)

    assert [(trade.qty, trade.gross) for trade in story.trades] == [(D(5), D("-5.00"))] * 40
    assert (story.s.position, story.s.halted) == (0, None)
    assert [row.state for row in story.venue.orders()] == [Reported.FILLED] * 80
