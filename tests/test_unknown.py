"""Sent, and no usable answer: what an order turns out to be, and what nobody may do before that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.base import FillRow, Unanswered
from brokers.breaker import FAILURES, RECOVERY_MS, Breaker
from state.clock import SystemClock, VirtualClock
from state.events import ResumeAsked
from state.journal import Journal
from state.orders import Purpose, Side, Status
from state.reports import Reported
from state.risk import RiskBudget
from state.snapshot import Phase
from tests.brokers.doubles import Act, done_but_lost, lost, refused, unreachable
from tests.harness import Story
from tests.state.builders import BUY, ENTRY, SYMBOL, D, Plan, at, both_sides, move, order_of

QUARANTINED = "QUARANTINED: venue order {} {} SBIN-20261120-E0, held for never sent"
both_labels = pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "bare"])


def _given_up(side: Side, labelled: bool) -> tuple[Story, Any]:
    """An entry whose answer never came and that the venue did not show in the whole settle window."""
    story = Story(side, stream=False, venue={"client_ids": labelled})
    story.venue.script("submit", lost)
    story.tick("730.65")
    order = story.s.entry
    story.wait(45_000)
    assert story.s.entry is None and order is not None
    return story, order


@both_labels
def test_the_report_counts_what_came_late_as_quarantined(labelled: bool, tmp_path: Path) -> None:
    """UNK-08."""
    story, order = _given_up(BUY, labelled)
    story.venue.arrive(order)
    story.polls(2)

    with Journal.open(tmp_path / "journal.db", clock=SystemClock()) as journal:
        journal.begin("20261120", mode="practice", account="A", day="2026-11-20")
        journal.commit_many(story.works)
        summary = journal.orders_summary()

    assert summary == {"sent": 1, "refused": 0, "unknown": 0, "quarantined": 1}


@both_labels
@both_sides
def test_an_order_that_appears_after_it_was_held_for_never_sent_halts_its_symbol(side: Side, labelled: bool) -> None:
    """UNK-08."""
    story, order = _given_up(side, labelled)

    story.venue.arrive(order)
    story.polls(2)
    story.tick("731.00", "730.65", "731.00", "730.65")
    story.polls(2)

    words = QUARANTINED.format("1", "is" if labelled else "looks like")
    assert (story.s.halted, f"HALTED: {words}" in story.alarms) == (words, True)
    assert (story.calls("submit"), story.sent()) == (1, [f"E {side.value} 5"])
    assert [(ended.client_id, ended.status) for ended in story.s.ended] == [(order.client_id, Status.QUARANTINED)]


def test_what_came_late_with_our_label_is_taken_back_and_without_it_left_alone() -> None:
    """UNK-08, REC-13, REC-07: only of the first do we know that it is ours."""
    books = []
    for labelled in (True, False):
        story, order = _given_up(BUY, labelled)
        story.venue.arrive(order)
        story.polls(2)
        books.append((story.book, story.calls("cancel")))

    assert books == [([], 1), (["BUY STOP_LIMIT 5 @ 731.15"], 0)]


def test_the_stream_may_be_the_first_to_show_it() -> None:
    """UNK-08."""
    story, order = _given_up(BUY, True)
    venue_id = story.venue.arrive(order)

    story.report(*[row for row in story.venue.orders() if row.venue_id == venue_id])

    assert story.s.halted == QUARANTINED.format("1", "is")


@both_sides
def test_a_late_order_that_fills_is_held_and_protected_all_the_same(side: Side) -> None:
    """UNK-08, FIL-07: halting takes no protection away."""
    story, order = _given_up(side, True)
    story.venue.arrive(order)

    story.silent_tick("731.15")
    story.polls(2)

    assert (story.s.position, story.book) == (5 * side.sign, [f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"])
    assert story.s.halted is not None and story.s.halted.startswith("QUARANTINED")


@both_labels
def test_after_a_person_has_looked_the_same_order_is_no_news(labelled: bool) -> None:
    story, order = _given_up(BUY, labelled)
    story.venue.arrive(order)
    story.polls(2)

    story.states[SYMBOL].apply(ResumeAsked(mono_ms=story.clock.monotonic_ms(), now_ms=story.clock.now_ms()))
    story.polls(3)

    assert (story.s.halted, sum("QUARANTINED" in text for text in story.alarms)) == (None, 1)


@both_labels
def test_a_row_that_says_rejected_is_only_the_refusal_once_more(labelled: bool) -> None:
    """Many brokers list what they refused; that is no late order."""
    story = Story(stream=False, venue={"client_ids": labelled})
    story.venue.script("submit", refused("margin"))
    story.tick("730.65")
    story.venue.arrive(story.s.ended[0])
    story.venue.end("1", Reported.REJECTED)

    story.polls(2)

    assert (story.s.halted, story.alarms) == (None, [])


def test_one_empty_book_at_the_end_of_the_window_proves_nothing() -> None:
    """UNK-07: the order arrives between two looks, and the first of them shows an empty book."""
    story = Story(stream=False)
    story.venue.script("submit", lost)
    story.tick("730.65")
    order = story.s.entry
    assert order is not None
    story.clock.advance(31_000)
    story.poll()
    first = story.s.phase
    story.venue.arrive(order)

    story.poll()

    assert (first, story.s.phase, story.s.halted) == (Phase.UNKNOWN, Phase.ENTERING, None)


@both_sides
def test_executions_of_an_order_that_the_book_does_not_show_are_no_proof_of_absence(side: Side) -> None:
    """UNK-07, UNK-09: nothing like it in the book, but somebody bought as much: a person must look."""
    story = Story(side, stream=False)
    story.venue.script("submit", lost)
    story.tick("730.65")
    fill = FillRow("T77", "77", SYMBOL, side, D(5), ENTRY, story.clock.now_ms() + 1_000)
    story.venue.always("fills", lambda act: [fill])
    story.venue.always("positions", unreachable)

    story.wait(40_000)

    assert story.s.entry is not None and story.s.entry.status is Status.QUARANTINED
    assert story.alarms[-1].endswith("no order like it, but executions of 77, which the book does not show")
    assert story.calls("submit") == 1


def test_executions_on_the_other_side_of_before_or_of_our_own_do_not_hold_up_the_proof() -> None:
    story = Story(stream=False)
    story.hold()
    story.tick("730.15")
    story.polls(1)
    story.venue.script("submit", lost)
    story.tick("731.00", "730.65")
    now_ms = story.clock.now_ms()
    own = [replace(row, at_ms=now_ms) for row in story.venue.fills()]
    other = FillRow("T77", "77", SYMBOL, BUY.opposite, D(5), ENTRY, now_ms)
    before = FillRow("T78", "78", SYMBOL, BUY, D(5), ENTRY, now_ms - 60_000)
    story.venue.always("fills", lambda act: [*own, other, before])
    story.venue.always("positions", unreachable)
    story.venue.always("orders", lambda act: [])

    story.wait(40_000)

    assert (story.s.entry, story.s.why) == (None, "entry not sent: nothing of it at the venue after the settle window")


@both_sides
def test_while_one_symbol_is_unknown_the_others_trail_stop_and_exit(side: Side) -> None:
    """UNK-17: and the budget counts it as if it were filled."""
    wishes = {at(side, "733.00"): move(side, "732.00")}
    story = Story(side, Plan(side, wishes), symbols=(SYMBOL, "INFY", "TCS"))
    for symbol in ("INFY", "TCS"):
        story.tick("730.65", "731.15", "731.20", symbol=symbol)
    story.venue.script("submit", lost)
    story.tick("730.65")

    story.tick("733.00", symbol="INFY")
    story.tick("730.15", symbol="TCS")
    budget = RiskBudget(story.states, 2, 9, D(10_000))

    assert story.s.phase is Phase.UNKNOWN
    assert story.venue.book("INFY") == [f"{side.opposite.value} STOP 5 @ {at(side, '732.00')}"]
    assert (story.venue.net("TCS"), story.venue.book("TCS")) == (0, [])
    assert budget.deny(order_of(Purpose.ENTRY, side, symbol="TCS")) == "risk: 2 of 2 positions are open or being entered"
    assert story.alarms == ["entry order unanswered (read timed out): it may be at the venue, looking for it"]


# -- the circuit breaker ------------------------------------------------------------------------------------------------


def _opened(clock: VirtualClock) -> Breaker:
    breaker = Breaker(clock)
    assert [breaker.failed(f"E{number}") for number in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    return breaker


def test_five_failures_in_a_row_open_the_breaker_and_an_answer_between_them_does_not() -> None:
    """NET-10."""
    clock = VirtualClock()
    breaker = Breaker(clock)
    for number in range(FAILURES - 1):
        breaker.failed(f"E{number}")
    answered = breaker.worked("E4")
    breaker.failed("E5")

    assert (answered, breaker.why_not("E6")) == (False, None)
    assert _opened(clock).why_not("E7") == "the broker failed 5 times in a row: no entries for 30 s"


def test_after_the_recovery_time_one_probe_goes_and_its_outcome_decides() -> None:
    """NET-10."""
    clock = VirtualClock()
    breaker = _opened(clock)
    clock.advance(RECOVERY_MS - 1)
    early = breaker.why_not("A")
    clock.advance(1)

    first, second = breaker.why_not("A"), breaker.why_not("B")
    again = breaker.failed("A")
    shut = breaker.why_not("C")
    clock.advance(RECOVERY_MS)
    third = breaker.why_not("D")
    closed = breaker.worked("D")

    assert early == "the broker failed 5 times in a row: no entries for 1 s"
    assert (first, second) == (None, "the broker failed 5 times in a row: A goes first, to see whether it answers again")
    assert (again, shut) == (False, "the broker failed 6 times in a row: no entries for 30 s")
    assert (third, closed, breaker.why_not("E")) == (None, True, None)


def test_a_failure_of_somebody_else_ends_no_probe() -> None:
    clock = VirtualClock()
    breaker = _opened(clock)
    clock.advance(RECOVERY_MS)
    breaker.why_not("A")

    breaker.failed("SBIN-X9")

    assert breaker.why_not("B") is not None


NAMES = tuple(f"S{number}" for number in range(8))


def _failing(act: Act) -> Any:
    raise Unanswered("502")


@both_sides
def test_with_the_breaker_open_entries_wait_and_exits_stops_and_cancels_pass(side: Side) -> None:
    """NET-10."""
    story = Story(side, symbols=(SYMBOL, *NAMES), stream=False)
    story.hold()
    story.venue.always("submit", _failing)
    for symbol in NAMES[:5]:
        story.tick("730.65", symbol=symbol)
    story.venue.always("submit", None)
    sent = story.calls("submit")

    story.tick("730.65", symbol=NAMES[5])
    entry_sent = story.calls("submit") - sent
    story.venue.always("submit", refused("not now"))
    story.flatten("by hand")
    story.wait(500)

    assert story.told[:1] == ["the broker fails again and again (502): no entries until it answers; exits go on"]
    assert entry_sent == 0
    assert story.states[NAMES[5]].snapshot.why == ("entry not sent: the broker failed 5 times in a row: no entries for 30 s")
    assert (story.calls("cancel"), story.calls("submit") > sent) == (1, True)


def test_one_probe_at_a_time_and_its_answer_lets_the_others_through() -> None:
    """NET-10."""
    story = Story(symbols=NAMES, stream=False)
    story.venue.always("submit", _failing)
    for symbol in NAMES[:5]:
        story.tick("730.65", symbol=symbol)
    story.clock.advance(RECOVERY_MS)
    meanwhile: list[int] = []

    def probe(act: Act) -> Any:
        """While the probe is under way another entry has its turn."""
        story.states[NAMES[6]].tick(D("730.65"), story.clock.now_ms())
        story.desk.drain()
        meanwhile.append(len(story.venue.calls))
        return act()

    story.venue.always("submit", None)
    story.venue.script("submit", probe)
    story.tick("730.65", symbol=NAMES[5])
    story.tick("730.65", symbol=NAMES[7])

    submitted = [order.symbol for order in story.venue.submitted]
    assert (submitted, story.told[-1]) == (
        [NAMES[5], NAMES[7]],
        "the broker answers orders again: entries are let through",
    )
    assert story.states[NAMES[6]].snapshot.why.endswith("S5-20261120-E0 goes first, to see whether it answers again")


def test_lost_answers_to_ten_entries_of_ten_symbols_are_all_found() -> None:
    """UNK-01: what left before the breaker opened is resolved as ever."""
    story = Story(symbols=NAMES, stream=False)
    story.venue.always("submit", done_but_lost)
    for symbol in NAMES:
        story.tick("730.65", symbol=symbol)
    story.polls(1)

    phases = [story.states[symbol].snapshot.phase for symbol in NAMES]
    assert (phases, len(story.venue.submitted)) == ([Phase.ENTERING] * 5 + [Phase.FLAT] * 3, 5)


def test_the_row_of_an_unanswered_order_is_kept_even_when_it_ends_it() -> None:
    """UNK-05, REC-13."""
    story = Story(stream=False)
    story.venue.script("submit", done_but_lost)
    story.tick("730.65")
    story.venue.end("1", Reported.CANCELLED)

    story.polls(1)
    before = replace(story.s)
    story.polls(1)

    assert [(order.client_id, order.venue_id) for order in story.s.ended] == [("SBIN-20261120-E0", "1")]
    assert (story.s.halted, before.halted) == (None, None)
