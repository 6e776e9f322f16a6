"""An amend without an answer may land late: until the settle window is over the stop has two possible levels, and no third."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.base import Unanswered
from state.commands import Replace
from state.events import Act, Restarted
from state.journal_delta import apply_body, context_of, decode_body, encode_work
from state.machine import why_not_carry_out
from state.orders import Side, Status
from state.reports import Reported
from state.snapshot import Snapshot
from tests.brokers.doubles import done_but_lost, lost
from tests.harness import Story
from tests.state.builders import BUY, SYMBOL, TEN, D, Plan, Play, alarms, at, both_sides, move, sent

WINDOW_MS = 30_000
LEVELS = (("732.00", "730.50"), ("733.00", "731.50"))


class Late:
    """A request that goes out, whose answer is lost, and that the venue carries out when told to."""

    def __init__(self) -> None:
        self._act: Callable[[], Any] | None = None

    def __call__(self, act: Callable[[], Any]) -> Any:
        self._act = act
        raise Unanswered("read timed out")

    def lands(self) -> None:
        assert self._act is not None
        self._act()


def plan(side: Side) -> Plan:
    return Plan(side, {at(side, price): move(side, level) for price, level in LEVELS})


def held(side: Side) -> Story:
    story = Story(side, plan(side))
    story.hold()
    return story


def line(side: Side, level: str, qty: int = 5) -> str:
    return f"{side.opposite.value} STOP {qty} @ {at(side, level)}"


@both_sides
def test_while_an_amend_has_no_answer_there_is_no_second_one_and_nothing_else_beside_it(side: Side) -> None:
    """UNK-11: the stop counts as working at the level that rests, and protects there."""
    story = held(side)
    story.venue.script("replace", lost)

    story.tick("732.00", "733.00")
    story.wait(WINDOW_MS - 1_000)

    assert (story.calls("replace"), story.calls("cancel"), story.sent("S"), story.sent("X")) == (1, 0, ["S " + _five(side)], [])
    assert (story.book, story.s.stop_price) == ([line(side, "730.15")], at(side, "731.50"))
    assert story.s.stop is not None and (story.s.stop.status, story.s.stop.verified) == (Status.WORKING, True)
    assert (story.s.unprotected_ms, story.alarms) == (None, [])


def _five(side: Side) -> str:
    return f"{side.opposite.value} 5"


@both_sides
def test_after_the_window_the_stop_is_read_back_and_amended_to_where_it_belongs(side: Side) -> None:
    """UNK-11."""
    story = held(side)
    story.venue.script("replace", lost)
    story.tick("732.00", "733.00")

    story.wait(WINDOW_MS + 6_000)

    assert (story.book, story.calls("replace")) == ([line(side, "731.50")], 2)


@both_sides
def test_an_amend_that_lands_late_never_undoes_a_newer_one(side: Side) -> None:
    """UNK-11: it lands after 20 s, is seen, and only then the next one leaves."""
    story, late = held(side), Late()
    story.venue.script("replace", late)
    story.tick("732.00", "733.00")
    story.wait(20_000)
    before = story.book

    late.lands()
    landed = story.book
    story.wait(6_000)

    assert (before, landed, story.book) == ([line(side, "730.15")], [line(side, "730.50")], [line(side, "731.50")])


@both_sides
def test_an_amend_that_is_seen_done_is_no_longer_in_question(side: Side) -> None:
    """UNK-11: read-back proves which it is; the next trail does not wait for the window."""
    story = held(side)
    story.venue.script("replace", done_but_lost)

    story.tick("732.00")
    story.wait(1_000)
    story.tick("733.00")
    story.wait(1_000)

    assert (story.book, story.calls("replace")) == ([line(side, "731.50")], 2)


@both_sides
def test_the_old_level_in_the_book_proves_nothing_before_the_answer_has_come(side: Side) -> None:
    """UNK-11, PRO-08: the desk is still waiting for the venue."""
    play = Play(side, plan(side)).hold()
    before = play.stop
    play.tick("732.00")

    looks = [command for _ in range(4) for command in play.seen(before, asked_ms=play.mono + 1)]

    assert (sent(looks), alarms(looks), play.stop.status) == ([], [], Status.REPLACING)


@both_sides
def test_while_in_question_the_stop_of_the_wrong_size_is_replaced_and_not_amended(side: Side) -> None:
    """UNK-11, PRO-05: what is gone cannot be amended late."""
    story, late = Story(side), Late()
    story.tick("730.65")
    story.tick("731.15", available=D(2))
    story.wait(1_000)
    story.venue.script("replace", late)

    story.tick("731.15", available=D(3))
    story.wait(3_000)

    assert (story.book, story.sent("S")) == ([line(side, "730.15")], [f"S {side.opposite.value} {n}" for n in (2, 5)])
    assert (story.calls("replace"), story.s.worst_unprotected < 5_000) == (1, True)


@both_sides
def test_an_exit_does_not_wait_for_an_amend_in_question(side: Side) -> None:
    """UNK-11: the stop is cancelled, seen gone, and then what is held is sold, once."""
    story, late = held(side), Late()
    story.venue.script("replace", late)
    story.tick("732.00")
    story.wait(2_000)

    story.flatten("by hand")
    story.tick("732.00")
    story.wait(1_000)

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_a_price_beyond_the_level_it_should_have_is_not_waited_out(side: Side) -> None:
    """UNK-11, PRO-10: the old level still rests below; the position is closed within the limit all the same."""
    story = held(side)
    story.venue.script("replace", lost)
    story.tick("732.00")
    story.wait(1_000)

    story.tick("730.40")
    story.wait(6_000)
    story.tick("730.40")

    assert (story.net, story.book, story.sent("X")) == (0, [], [f"X {side.opposite.value} 5"])


@both_sides
def test_a_restart_does_not_forget_that_an_amend_may_still_land(side: Side) -> None:
    """UNK-11, CRA-02: killed while the venue had not answered."""
    play = Play(side, plan(side)).hold()
    play.tick("732.00")
    before = replace(play.stop, asked_qty=None, asked_trigger=None)

    play.mono = 7  # another process, another monotonic clock
    play.on(Restarted(**play.when))
    at_once = play.seen(before)
    play.mono += WINDOW_MS
    after = play.seen(before)

    assert sent(at_once) == []
    assert sent(after) == [f"replace S 5 @ {at(side, '730.50')}"]


@pytest.mark.parametrize("answer", ["acknowledged", "refused", "not sent"])
@both_sides
def test_an_amend_with_an_answer_holds_up_nothing(side: Side, answer: str) -> None:
    """PRO-08."""
    play = Play(side, plan(side)).hold()
    before = play.stop
    play.tick("732.00")
    asked = play.stop
    if answer == "acknowledged":
        play.acknowledged(asked, Act.REPLACE)
    elif answer == "refused":
        play.refused(asked, act=Act.REPLACE)
    else:
        play.not_sent(asked, act=Act.REPLACE)

    again = [command for _ in range(3) for command in (*play.beat(300), *play.seen(before))]

    assert (play.stop.late_ms > 0, sent(again)) == (True, [f"replace S 5 @ {at(side, '730.50')}"])


def test_an_amend_that_filled_meanwhile_asks_nothing_more() -> None:
    """UNK-11, PRO-12."""
    play = Play(BUY, plan(BUY)).hold()
    play.tick("732.00")
    play.unanswered(play.stop, Act.REPLACE)
    stop = play.stop

    commands = [*play.fill(stop, "5", "730.15"), *play.seen(stop, Reported.FILLED)]

    assert (sent(commands), play.s.position, play.s.live_orders()) == ([], 0, [])


def test_a_change_whose_values_are_no_longer_asked_for_is_not_carried_out() -> None:
    """CON-08: it waited with the desk while the level moved on."""
    play = Play(BUY, plan(BUY)).hold()
    [command] = play.tick("732.00")
    assert isinstance(command, Replace)

    verdicts = [
        why_not_carry_out(play.s, changed, play.rules, TEN)
        for changed in (command, replace(command, trigger_price=D("730.45")), replace(command, qty=D(4)))
    ]

    assert verdicts == [None, *["the change is no longer wanted"] * 2]


@both_sides
def test_the_journal_gives_an_amend_in_question_back_as_it_was(side: Side) -> None:
    """UNK-11, CRA-09: level, asked values and the end of the window, through records and back."""
    story = held(side)
    story.venue.script("replace", lost)
    story.tick("732.00")
    story.wait(1_000)

    read = Snapshot(SYMBOL)
    for work in story.works:
        client_id, raw = encode_work(read, work)
        body = decode_body(raw)
        read = apply_body(read, work.after.version, body, context_of(SYMBOL, client_id, work.event.now_ms, body))

    assert read == story.works[-1].after
    assert read.stop is not None and (read.stop.asked_trigger, read.stop.late_ms > 0) == (at(side, "730.50"), True)
