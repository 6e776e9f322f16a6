"""News that lacks what it must say: refused, counted, and the venue asked what it was about. Nothing is booked from a guess."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from brokers.base import Unreadable
from brokers.dialect import Incomplete
from brokers.feed import Feed
from brokers.switchboard import Switchboard
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import Act, Fault, unreachable
from tests.harness import Story


def unreadable(act: Act) -> Any:
    raise Unreadable("schema: order 99 has action 'HOLD'")


class _Voice:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(text)

    warning = alarm = info

    def defect(self, text: str, error: BaseException) -> None:
        raise error


class _Mute:
    """A stream of which every frame is an order update that cannot be used."""

    url, needs_login = "ws://127.0.0.1:1", False

    def hello(self) -> list[str]:
        return []

    def subscribe(self, symbols: object) -> list[str]:
        return []

    def subscribe_orders(self) -> list[str]:
        return []

    def receive(self, frame: bytes) -> Incomplete:
        return Incomplete("an order update lacks its side")


def test_an_incomplete_update_is_counted_and_the_books_are_asked_within_a_pulse() -> None:
    """FIL-16: the fill that it spoke of is seen by the look that follows, long before the next round; a storm is one look."""
    story = Story(stream=False)
    story.hold()
    story.wait(7_000)  # the orders are old, no round is near
    board = Switchboard(story.states, story.clock, _Voice(), lambda work: None, story.reports)
    feed = Feed(_Mute(), {}, board, story.clock)
    board.feed, board.poller = feed, story.poller
    story.silent_tick("730.15")
    story.clock.advance(500)
    before = story.calls("orders")
    calm = story.poller.curious()

    for _ in range(1_000):
        feed.frame(b"{}")
    asks = [story.poller.curious()]
    story.poll(positions=False)
    asks.append(story.poller.curious())

    assert (calm, asks, story.calls("orders") - before) == (False, [True, False], 1)
    assert feed.counts()["refused order updates"] == 1_000
    assert (story.s.phase, story.trades[0].exit_price) == (Phase.FLAT, D("730.15"))


def test_a_complete_order_without_a_price_is_asked_about_until_its_executions_are_known() -> None:
    """FIL-16, FIL-09: filled 5 of 5 with price 0, and a trade row too late: no position at a made-up price, no order given up."""
    story = Story(stream=False)
    story.tick("730.65")
    story.silent_tick("731.15")
    story.venue.script("fills", *[lambda act: []] * 3)
    bare: Fault = lambda act: [msgspec.structs.replace(row, average=None) for row in act()]  # noqa: E731
    story.venue.always("orders", bare)

    story.poll()
    unsure = (story.s.position, story.s.entry is not None)
    story.wait(3_000)

    assert (unsure, story.s.position, story.s.average) == ((0, True), 5, D("731.15"))
    assert story.book == ["SELL STOP 5 @ 730.15"]


@pytest.mark.parametrize("book", ["orders", "fills"])
def test_one_unreadable_row_does_not_make_us_blind_to_our_own_orders(book: str) -> None:
    """FIL-16: while a book cannot be read each of ours is asked for by its id, and the poll counts as failed all the same."""
    story = Story(stream=False)
    story.hold()
    story.venue.always(book, unreadable)
    story.silent_tick("730.15")
    story.polls(2)

    assert (story.s.phase, story.s.position, story.sent("X")) == (Phase.FLAT, 0, [])
    assert story.venue.net("SBIN") == 0
    assert any(text.startswith("poll failed 2: schema") for text in story.listener.said)


def test_an_outage_is_not_taken_for_an_unreadable_book() -> None:
    """REC-03: nobody answers: one call a round, and none per order."""
    story = Story(stream=False)
    story.hold()
    story.venue.always("orders", unreachable)
    asked = story.calls("order")

    story.polls(5)

    assert story.calls("order") == asked
    assert Reported.WORKING in {row.state for row in story.venue.working()}
