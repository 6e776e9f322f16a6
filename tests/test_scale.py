"""Numbers: nothing doubled and nothing lost when there is much of it. `bench/scale.py` runs the same at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import scale
from bench.market import Market, as_trip, reference
from bench.rough import ROUGH, Dial
from bench.scale import durable_adds, lost_replies, pending_sweep, round_trips, too_late
from brokers.poller import ASKED_FOR_IN_A_SWEEP
from state.clock import SystemClock
from state.journal import Journal, JournalReader
from state.ledger import Fill, Ledger, TradeIds, trades
from state.orders import Purpose
from tests.harness import Story
from tests.state.builders import BUY, SELL, D


@pytest.mark.parametrize("dial", [Dial(reply_lost=1.0), Dial(arrives_late=1.0)], ids=["UNK-01", "UNK-07"])
def test_every_order_whose_reply_was_lost_is_at_the_venue_once(dial: Dial) -> None:
    """UNK-01, UNK-07: found by its looks, at once or up to 29 s later. A thousand of them in `bench/scale.py`."""
    found = lost_replies(100, 3, dial)

    assert found["orders_decided"] == found["orders_at_venue"] >= 100
    assert (found["doubled"], found["unowned"], found["symbols_not_finished"], found["halted"]) == (0, 0, 0, 0)


def test_orders_that_arrive_after_the_settle_window_stop_their_symbol_and_are_not_sent_again() -> None:
    """UNK-08: whether the venue shows our label or not."""
    found = too_late(12, 3)

    assert found == {"orders": 12, "halted": 12, "told": 12, "doubled": 0, "sent_again": 0}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "poll"])
def test_fast_round_trips_under_faults_are_recorded_once_and_exactly(stream: bool) -> None:
    """FIL-01."""
    found = round_trips(200, 5, stream=stream)

    faultless = ("missing", "extra", "fills_not_learnt", "orders_doubled", "symbols_not_finished", "lock_violations")
    assert {name: found[name] for name in faultless} == dict.fromkeys(faultless, 0)
    assert found["trips"] >= 200
    assert found["applied_lag_ms_by_poll"]["p99"] <= scale.POLL_AIM_MS
    assert not stream or found["applied_lag_ms_by_stream"]["p99"] <= scale.STREAM_AIM_MS


def test_ten_fast_trades_are_ten_trades_even_while_a_read_takes_800_ms() -> None:
    """FIL-01: once 3 to 5 of 10."""
    found = round_trips(5, 1, stream=False, dial=Dial(read_slow=0.5))

    assert (found["trips"], found["missing"], found["extra"]) == (10, 0, 0)


def test_the_trades_read_back_from_the_journal_are_the_venues(tmp_path: Path) -> None:
    """FIL-01, FIL-11: what is on disk, not what was in memory."""
    market = Market(4, 5, ROUGH, 7, stream=True)
    market.play()
    with Journal.open(tmp_path / "journal.db", clock=SystemClock()) as journal:
        session = journal.begin("20261120", mode="practice", account="A", day="2026-11-20").session.id
        journal.commit_many(market.works)
        with JournalReader.open(journal.path) as reader:
            kept = [trade for symbol in market.states for trade in trades(symbol, list(reader.fills(symbol, session)))]

    assert sorted(map(as_trip, kept), key=repr) == sorted(reference(market.venue.engine.fills()), key=repr)


# -- many orders pending ------------------------------------------------------------------------------------------------


def test_a_look_at_a_thousand_pending_orders_takes_three_calls() -> None:
    """CRA-13: at 20 ms each far less than a second."""
    found = pending_sweep(1_000)

    assert (found["pending"], found["answered"], found["calls"]) == (1_000, True, 3)
    assert found["ours_ms"] < 900


def test_orders_that_the_book_does_not_show_are_asked_for_in_turns_and_protection_first() -> None:
    """REC-11: a book that comes back empty does not hold up the sweep, and each order has its turn."""
    symbols = tuple(f"S{number}" for number in range(100))
    story = Story(symbols=symbols)
    for symbol in symbols:
        story.tick("730.65", symbol=symbol, every_ms=0)
    for symbol in symbols[-3:]:
        story.tick("731.15", symbol=symbol, every_ms=0)
    story.poll()
    story.venue.script("orders", *[lambda act: []] * 4)
    asked: list[list[str]] = []
    for _ in range(3):
        before = len(story.venue.calls)
        story.poller.sweep()
        asked.append([client_id for verb, client_id in story.venue.calls[before:] if verb == "order"])

    assert [len(ids) for ids in asked] == [ASKED_FOR_IN_A_SWEEP] * 3
    assert asked[0][:3] == [f"S{number}-20261120-S1" for number in (97, 98, 99)]
    assert len({client_id for ids in asked for client_id in ids}) == 100


def test_one_more_order_costs_the_journal_the_same_early_and_late() -> None:
    """CRA-13, FEATURES 122: bytes and ratio; `bench/scale.py` does it at 10,000 and tells the milliseconds."""
    found = durable_adds(1_500, sample=100)

    assert found["bytes_each"] <= 300
    assert found["growth"] < 3


# -- what makes it cheap ------------------------------------------------------------------------------------------------


def test_trade_ids_are_all_kept_in_few_pieces() -> None:
    """FEATURES 133: one more of 5,000 does not copy 5,000."""
    ids = TradeIds()
    for number in range(5_000):
        ids = ids.with_one_more(f"T{number}")

    assert len(ids) == 5_000 and len(ids.chunks) <= 13
    assert all(f"T{number}" in ids for number in range(5_000)) and "T5000" not in ids
    assert ids.with_one_more("T5000").chunks[0] is ids.chunks[0]


def test_a_whole_trade_book_heard_again_changes_nothing() -> None:
    """FIL-02."""
    book = [_row(number) for number in range(400)]
    ledger = Ledger()
    for fill in book:
        ledger = ledger.add(fill)

    again = ledger
    for fill in reversed(book):
        again = again.add(fill)

    assert again is ledger
    assert (ledger.position, len(ledger.accounts)) == (0, 32)


def _row(number: int) -> Fill:
    purpose, side = ((Purpose.ENTRY, BUY), (Purpose.STOP, SELL))[number % 2]
    return Fill(f"T{number}", f"SBIN-20261120-{purpose.value}{number}", purpose, side, D(5), D("731.15"), number)


def test_an_ended_order_that_the_book_goes_on_showing_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a sweep follows what is live, not what the day has seen."""
    story = Story()
    for _ in range(3):
        story.tick("731.00", "730.65", "731.15", "731.20", "730.15")
        story.polls(1)
    events: list[Any] = []
    state = story.states["SBIN"]
    apply = type(state).apply
    monkeypatch.setattr(type(state), "apply", lambda self, event: (events.append(event), apply(self, event))[1])

    story.poller.sweep()
    quiet = len(events)
    rows = [msgspec.structs.replace(row, filled=D(7)) for row in story.venue.orders()[:1]]
    story.reports.sweep(rows, [], None, story.clock.monotonic_ms())

    assert (len(story.trades), quiet, len(events)) == (3, 0, 1)
