"""Coins held by a resting stop: cancel it, count what it sold, sell the rest; and a venue that frees them a moment too late."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokers.base import Refused
from state.orders import Order, Side
from state.reports import Reported
from state.snapshot import Phase
from tests.brokers.doubles import Act, Venue, refused
from tests.harness import Story
from tests.state.builders import D, Play, both_sides, sent

NO_FUNDS = "Insufficient balance in source account"
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "poll"])


class Reserving(Venue):
    """What a resting order would sell is reserved, and is freed only `lag_ms` after that order has gone."""

    lag_ms = 0

    def submit(self, order: Order) -> str:
        now_ms = self._clock.now_ms()
        busy = sum((row.qty - (row.filled or D(0)) for row in self.working() if row.side is order.side), D(0))
        busy += sum((left for freed_ms, left in self._freed if freed_ms > now_ms), D(0))
        held = self.net(order.symbol) * -order.side.sign
        if order.purpose.value in "SX" and order.qty > held - busy:
            with self._lock:
                self.calls.append(("submit", order.client_id))
            raise Refused(NO_FUNDS)
        return super().submit(order)

    def cancel(self, order: Order) -> None:
        row = next(row for row in self.working() if row.venue_id == order.venue_id)
        super().cancel(order)
        self._freed.append((self._clock.now_ms() + self.lag_ms, row.qty - (row.filled or D(0))))

    @property
    def _freed(self) -> list[tuple[int, Decimal]]:
        found: list[tuple[int, Decimal]] = self.__dict__.setdefault("freed", [])
        return found


class ReservingStory(Story):
    def _venue(self, **options: object) -> Venue:
        venue = Reserving(self.instruments, self.clock, self.guard)
        venue.lag_ms = int(str(options.get("lag_ms", 0)))
        return venue


@both_ways
@both_sides
def test_the_stop_goes_first_and_what_it_held_is_sold(side: Side, stream: bool) -> None:
    """PRO-20: the exit is not even asked for while the stop holds the coins."""
    story = ReservingStory(side, stream=stream)
    story.hold()

    story.flatten("by hand")
    story.wait(2_000)
    story.tick("731.00")
    story.polls(1)

    tries = [client for verb, client in story.venue.calls if verb == "submit"]
    assert (story.s.phase, story.net, story.book) == (Phase.FLAT, 0, [])
    assert [client.rsplit("-", 1)[1] for client in tries] == ["E0", "S1", "X2"]
    assert story.alarms == []


@both_ways
@both_sides
def test_an_exit_refused_for_funds_is_asked_again_after_a_short_pause_until_they_are_free(side: Side, stream: bool) -> None:
    """PRO-20: freed 1.5 s after the cancel: tries after 0.25, 0.5 and 1 s, each for the same net, one of which is filled."""
    story = ReservingStory(side, stream=stream, venue={"lag_ms": 1_500})
    story.hold()

    story.flatten("by hand")
    story.wait(3_000)
    story.tick("731.00")
    story.polls(1)

    tries = [client.rsplit("-", 1)[1] for verb, client in story.venue.calls if verb == "submit"]
    assert (story.s.phase, story.net, story.sent("X")) == (Phase.FLAT, 0, [f"X {side.opposite.value} 5"])
    assert 2 <= len([name for name in tries if name[0] == "X"]) <= 5
    assert set(story.alarms) == {f"exit refused: {NO_FUNDS}; trying again until flat"}


def test_an_exit_that_is_refused_for_ever_is_never_given_up_and_people_hear_of_it_again_and_again() -> None:
    """PRO-20: back-off 0.25, 0.5, 1, 2, 5, 5, … s; LONG with its slot until flat, never booked as exited."""
    story = Story()
    story.hold()
    story.venue.always("submit", refused(NO_FUNDS))

    story.flatten("by hand")
    story.wait(600_000)
    lasting = (story.s.phase, story.s.position, story.s.unprotected_ms is not None)
    times = [work.event.now_ms for work in story.works if any("submit X" in text for text in sent(list(work.commands)))]
    told = [text for text in story.alarms if NO_FUNDS in text or "UNPROTECTED" in text]
    pauses = [later - now for now, later in zip(times, times[1:], strict=False)]
    story.venue.always("submit", None)
    story.wait(6_000)
    story.tick("731.00")
    story.polls(1)

    assert lasting == (Phase.EXITING, 5, True)
    assert pauses[:5] == [250, 500, 1_000, 2_000, 5_000] and set(pauses[5:]) == {5_000} and len(pauses) > 100
    assert len(told) >= 5
    assert (story.s.phase, story.net, story.sent("X")) == (Phase.FLAT, 0, ["X SELL 5"])


@pytest.mark.parametrize("told", ["trade", "row"])
@both_sides
def test_what_the_stop_sold_before_its_cancel_is_not_sold_again(side: Side, told: str) -> None:
    """PRO-20: the cancel's answer carries 2 executed; the exit is for 3."""
    play = Play(side).hold()
    stop = play.stop
    play.on_flatten()

    if told == "trade":
        play.fill(stop, 2, "730.15")
    commands = play.seen(stop, Reported.CANCELLED, filled=D(2), average=D("730.15"))

    assert (play.s.stop, play.s.position) == (None, 3 * side.sign)
    assert sent(commands) == [f"submit X {side.opposite.value} 3 @ market"]


def test_a_cancel_that_does_not_say_what_was_executed_is_asked_about_before_anything_is_sold() -> None:
    """PRO-20: cancelled, executed volume not told: no exit on a guess; it goes out when the volume is known."""
    play = Play().hold()
    stop = play.stop
    play.on_flatten()

    unsure = play.seen(stop, Reported.CANCELLED, filled=None, average=None) + play.beats(2_000)
    known = play.seen(stop, Reported.CANCELLED, filled=D(4), average=D("730.15"))

    assert sent(unsure) == [] and play.s.stop is None
    assert sent(known) == ["submit X SELL 1 @ market"]


def test_a_refusal_right_after_the_entry_s_fill_is_tried_again_and_the_stop_comes() -> None:
    """PRO-20: the coins that were bought are not yet ours to sell: the stop is refused once and placed 0.25 s later."""
    story = Story()
    late: list[str] = []

    def once(act: Act) -> object:
        late.append("refused")
        raise Refused(NO_FUNDS)

    story.tick("730.65")
    story.venue.script("submit", once)
    story.tick("731.15")
    naked = story.book
    story.wait(250)

    assert (late, naked, story.book) == (["refused"], [], ["SELL STOP 5 @ 730.15"])
    assert story.s.worst_unprotected <= 500
