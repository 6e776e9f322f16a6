"""Rows become events of the right order, and of no other."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from brokers.base import FillRow, OrderRow
from brokers.reports import KEPT_EARLY_ROWS, KEPT_PER_ORDER, Reports, looks_like
from state.orders import OrderType, Purpose, Status
from state.reports import Reported
from tests.brokers.doubles import done_but_lost, lost, ok
from tests.harness import Story
from tests.state.builders import BUY, ENTRY, SELL, SYMBOL, TEN, D, order_of

ORDER = order_of(Purpose.ENTRY, BUY, type=OrderType.STOP_LIMIT, limit_price=ENTRY, trigger_price=ENTRY, created_ms=TEN)
ROW = OrderRow("7", SYMBOL, BUY, Reported.WORKING, D(5), OrderType.STOP_LIMIT, ENTRY, ENTRY, D(0), D(0), None, TEN)


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"type": None, "limit_price": None, "trigger_price": None, "at_ms": None}, True),
        ({"at_ms": TEN - 5_000}, True),
        ({"at_ms": TEN - 5_001}, False),
        ({"side": SELL}, False),
        ({"qty": D(6)}, False),
        ({"type": OrderType.LIMIT}, False),
        ({"trigger_price": D("731.20")}, False),
        ({"limit_price": D("731.20")}, False),
        ({"client_id": "SBIN-20261120-E0"}, True),
        ({"client_id": "SBIN-20261120-E1"}, False),
        ({"venue_id": "3"}, False),
    ],
)
def test_a_look_alike_agrees_in_everything_its_row_says(change: dict[str, Any], alike: bool) -> None:
    """UNK-09."""
    order = replace(ORDER, baseline=("3",))

    assert looks_like(order, replace(ROW, **change)) is alike


def test_a_row_of_another_symbol_or_of_nobody_changes_nothing() -> None:
    story = Story()
    story.tick("730.65")
    before = story.s

    story.report(replace(ROW, symbol="INFY", venue_id="99"), replace(ROW, venue_id="98"))

    assert story.s is before


def test_rows_that_come_before_the_answer_are_given_to_it_once() -> None:
    """FIL-03."""
    story = Story()
    for filled in range(KEPT_PER_ORDER + 3):
        story.report(replace(ROW, filled=D(filled)))

    rows = story.reports.bind(SYMBOL, "SBIN-20261120-E0", "7")

    assert [row.filled for row in rows] == [D(n) for n in range(3, KEPT_PER_ORDER + 3)]
    assert story.reports.bind(SYMBOL, "SBIN-20261120-E0", "7") == []


def test_early_rows_are_kept_for_a_bounded_number_of_orders() -> None:
    story = Story()
    for number in range(KEPT_EARLY_ROWS + 1):
        story.report(replace(ROW, venue_id=str(number)))

    assert story.reports.bind(SYMBOL, "A", "0") == []
    assert len(story.reports.bind(SYMBOL, "B", "1")) == 1


def test_a_fill_of_nobodys_order_is_nobodys_fill() -> None:
    story = Story()
    story.tick("730.65")

    story.reports.fill(FillRow("T9", "999", SYMBOL, BUY, D(5), ENTRY, TEN), "stream")

    assert story.s.position == 0


def test_after_a_restart_the_orders_of_the_journal_are_ours_again() -> None:
    story = Story(stream=False)
    story.tick("730.65")
    story.restart()

    reports = Reports(story.states, story.clock, 30.0)
    reports.fill(FillRow("T1", "1", SYMBOL, BUY, D(5), ENTRY, TEN), "recovery")

    assert (story.s.position, story.fills) == (5, [])
    story.desk.drain()
    assert [(fill.source, fill.client_id) for fill in story.fills] == [("recovery", "SBIN-20261120-E0")]


def test_foreign_orders_of_the_first_poll_are_no_candidates_later() -> None:
    story = Story()
    story.venue.arrive(replace(ORDER, qty=D(9)))

    story.poll()
    story.poll()

    assert story.s.foreign == ("1",)


def test_an_order_is_found_by_our_own_id_where_the_venue_carries_it() -> None:
    story = Story(venue={"client_ids": True})
    story.states[SYMBOL].tick(D("730.65"), story.clock.now_ms())
    entry = story.s.entry
    assert entry is not None

    story.report(replace(ROW, venue_id="42", client_id=entry.client_id))
    story.report(replace(ROW, venue_id="43", client_id="SBIN-20261120-E77"))

    assert story.s.entry is not None and story.s.entry.venue_id == "42"


def test_a_page_that_was_read_twice_shows_no_second_order() -> None:
    """UNK-09."""
    story = Story(stream=False)
    story.venue.script("submit", done_but_lost)
    story.tick("730.65")

    story.reports.sweep(story.venue.orders() * 2, [], None, story.clock.monotonic_ms())

    assert story.s.entry is not None and (story.s.entry.venue_id, story.s.entry.status) == ("1", Status.WORKING)


def long_with_a_lost_stop(**change: Any) -> Story:
    """Long 5; the reply to the stop was lost, and after that an order of this kind shows in the book."""
    story = Story()
    story.venue.script("submit", ok, lost)
    story.tick("730.65", "731.15")
    stop = story.s.stop
    assert stop is not None
    story.venue.arrive(replace(stop, **change))
    return story


@pytest.mark.parametrize(
    "change",
    [
        {"type": OrderType.LIMIT, "limit_price": D("800.00"), "trigger_price": None},
        {"qty": D(2)},
        {"trigger_price": D("730.00")},
    ],
    ids=["type", "quantity", "trigger"],
)
def test_a_stop_that_may_have_been_changed_on_its_way_is_not_doubled(change: dict[str, Any]) -> None:
    """UNK-09, PRO-13: a person must look; when what looks like it has gone, protection goes on."""
    story = long_with_a_lost_stop(**change)

    story.wait(35_000)
    told, before = story.alarms, story.sent("S")
    status = story.s.stop and story.s.stop.status
    story.venue.end("2", Reported.CANCELLED)
    story.wait(70_000)

    reason = "no order like it, but venue order 2 came since: ours, changed on its way?"
    assert status is Status.QUARANTINED
    assert any(reason in text for text in told) and len(before) == 1
    assert story.book == ["SELL STOP 5 @ 730.15"]


@pytest.mark.parametrize(
    "change",
    [{"side": BUY, "trigger_price": D("800.00")}, {"qty": D(2), "trigger_price": D("730.00")}],
    ids=["side", "quantity and trigger"],
)
def test_an_order_of_somebody_else_holds_up_no_protection(change: dict[str, Any]) -> None:
    story = long_with_a_lost_stop(**change)

    story.wait(35_000)

    assert "SELL STOP 5 @ 730.15" in story.book


def test_what_an_order_in_quarantine_has_sold_is_told_by_the_positions() -> None:
    """REC-05: what is protected afterwards is what is left."""
    story = long_with_a_lost_stop(qty=D(2))
    story.wait(35_000)

    story.silent_tick("730.10")
    story.wait(70_000)

    assert (story.s.position, story.net) == (D(3), D(3))
    assert story.book == ["SELL STOP 3 @ 730.15"]
