"""The desk: journal first, then the broker, then the outcome; exits before entries; nobody waits for another symbol."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.base import Fatal, Unanswered
from brokers.desk import STALE_ENTRY_MS, Outbox, is_urgent
from state.commands import Alarm, Cancel, Command, Query, Submit
from state.events import FlattenAsked, HaltAsked, Heartbeat, NotSent
from state.orders import Purpose, Side, Status
from state.reports import Reported
from state.risk import RiskBudget
from state.snapshot import Phase, Snapshot
from state.symbol_state import Work
from tests.brokers.doubles import Act, done_but_lost, lost, ok, refused, unreachable
from tests.harness import Story
from tests.state.builders import BUY, ENTRY, SYMBOL, D, Plan, at, both_sides, move, order_of

SETTLED_MS = 36_000  # the settle window, and the poll after it


def work(*commands: Command, symbol: str = SYMBOL) -> Work:
    nothing = Snapshot(symbol)
    return Work("ticks", Heartbeat(mono_ms=0, now_ms=0), nothing, nothing, commands)


def entry(symbol: str = SYMBOL) -> Work:
    return work(Submit(order_of(Purpose.ENTRY, BUY, symbol=symbol)), symbol=symbol)


def exit_(symbol: str = SYMBOL) -> Work:
    return work(Submit(order_of(Purpose.EXIT, BUY, symbol=symbol)), symbol=symbol)


# -- the outbox ----------------------------------------------------------------------------------------------


def test_exits_overtake_entries_and_keep_their_own_order() -> None:
    """CON-17."""
    outbox = Outbox()
    for symbol, make in (("A", entry), ("B", exit_), ("C", entry), ("D", exit_)):
        outbox.put(symbol, make(symbol))

    order = []
    while (taken := outbox.take(0)) is not None:
        order.append(taken[0])
        outbox.done(taken[0])

    assert order == ["B", "D", "A", "C"]


def test_work_of_one_symbol_is_taken_together_and_by_one_desk_at_a_time() -> None:
    outbox = Outbox()
    first, second, third = entry(), exit_(), entry()
    outbox.put(SYMBOL, first)
    outbox.put(SYMBOL, second)

    taken = outbox.take(0)
    outbox.put(SYMBOL, third)
    while_busy, depth, idle = outbox.take(0), outbox.depth(), outbox.idle
    outbox.done(SYMBOL)

    assert (taken, while_busy, depth, idle) == ((SYMBOL, [first, second]), None, 1, False)
    assert outbox.take(0) == (SYMBOL, [third])
    outbox.done(SYMBOL)
    assert outbox.idle


def test_what_came_while_its_symbol_was_busy_goes_first_when_it_is_urgent() -> None:
    outbox = Outbox()
    outbox.put("A", entry("A"))
    outbox.take(0)
    outbox.put("B", entry("B"))
    outbox.put("A", exit_("A"))
    outbox.done("A")

    taken = outbox.take(0)

    assert taken is not None and taken[0] == "A"


def test_a_closed_outbox_gives_out_what_is_left_and_then_nothing() -> None:
    outbox = Outbox()
    outbox.put("A", entry("A"))
    outbox.close()

    first = outbox.take(None)

    assert first is not None and first[0] == "A"
    assert outbox.take(None) is None


def test_taking_waits_no_longer_than_it_was_told() -> None:
    assert Outbox().take(0.001) is None


def test_what_protects_or_reduces_goes_before_questions() -> None:
    story = Story()
    story.hold()
    stop = story.s.stop
    assert stop is not None
    begun = len(story.venue.calls)
    story.outbox.put(SYMBOL, work(Query(stop)))

    story.flatten("by hand")

    assert [verb for verb, _ in story.venue.calls[begun:]][:3] == ["positions", "cancel", "order"]


@pytest.mark.parametrize(
    ("command", "urgent"),
    [
        (Submit(order_of(Purpose.ENTRY, BUY)), False),
        (Submit(order_of(Purpose.STOP, BUY)), True),
        (Submit(order_of(Purpose.EXIT, BUY)), True),
        (Cancel(order_of(Purpose.ENTRY, BUY)), True),
        (Query(order_of(Purpose.STOP, BUY)), False),
        (Alarm("loud"), False),
    ],
)
def test_what_protects_or_reduces_is_urgent(command: Command, urgent: bool) -> None:
    assert is_urgent(work(command)) is urgent


# -- say it before you do it -----------------------------------------------------------------------------------------------------


def test_the_intent_is_written_before_the_call_and_the_outcome_after_it() -> None:
    story = Story()
    written: list[int] = []

    def counted(act: Act) -> Any:
        written.append(len(story.works))
        return act()

    story.venue.script("submit", counted)
    story.tick("730.65")

    assert written == [1]
    assert [type(work.event).__name__ for work in story.works] == ["Tick", "Accepted"]


def test_when_the_journal_cannot_be_written_entries_wait_and_protection_does_not() -> None:
    """CRA-08: the works are kept in memory and written when it works again."""
    story = Story()
    story.tick("730.65")
    story.journal.failing = "disk full"
    story.tick("731.15")
    protected = story.book
    kept = len(story.works)
    story.journal.failing = None
    story.tick("730.15", "731.00")
    story.wait(5_000)

    assert (protected, kept) == (["SELL STOP 5 @ 730.15"], 2)
    assert story.listener.said[0] == "journal: disk full" and "journal: written again" in story.listener.said
    written = [work.after.version for work in story.works]
    assert written == sorted(written) and len(story.works) > 5


def test_what_could_not_be_written_does_not_wait_for_the_next_decision() -> None:
    """CRA-08: once space returns; found by the simulation, seed 7/195: entries stayed off in a quiet market."""
    story = Story()
    story.journal.failing = "disk full"
    story.tick("730.65")
    story.desk.write_the_rest()
    still = list(story.listener.said)
    story.journal.failing = None
    story.desk.write_the_rest()
    story.desk.write_the_rest()

    assert (still[-1], story.listener.said[-1]) == ("journal: disk full", "journal: written again")
    assert [type(work.event).__name__ for work in story.works][:1] == ["Tick"]


def test_an_entry_does_not_leave_while_the_journal_cannot_be_written() -> None:
    """CRA-08"""
    story = Story()
    story.journal.failing = "disk full"

    story.tick("730.65")

    assert (story.calls("submit"), story.s.why) == (0, "entry not sent: the journal cannot be written")


def test_no_call_and_no_commit_happens_under_a_symbols_lock() -> None:
    """CON-12: the doubles would have noted it; they do when it is done on purpose."""
    story = Story()
    story.hold()
    story.tick("730.15")
    story.wait(5_000)
    honest = list(story.guard.violations)

    with story.states[SYMBOL]._lock, pytest.raises(AssertionError, match=r"broker.orders called under a symbol lock"):
        story.venue.orders()
    with story.states[SYMBOL]._lock, pytest.raises(AssertionError, match=r"journal.commit called under a symbol lock"):
        story.journal.commit_many([])

    assert honest == []


# -- who is asked before an entry leaves ---------------------------------------------------------------------


def test_an_entry_that_waited_too_long_for_a_desk_is_not_sent_and_its_place_is_free() -> None:
    """CON-17."""
    story = Story(symbols=(SYMBOL, "INFY"))
    budget = RiskBudget(story.states, 1, 1, D(1000))
    story.desk._deny = budget.deny
    story.clock.advance(10)
    story.venue.tick(SYMBOL, D("730.65"), story.clock.now_ms())
    story.states[SYMBOL].tick(D("730.65"), story.clock.now_ms())
    story.clock.advance(STALE_ENTRY_MS + 10_000)

    story.desk.drain()
    story.tick("730.65", symbol="INFY")

    assert story.s.why == "entry not sent: it waited too long for a desk"
    assert [order.symbol for order in story.venue.submitted] == ["INFY"]


@pytest.mark.parametrize("what", ["halt", "flatten", "cutoff"])
def test_an_entry_overtaken_by_events_ends_not_sent(what: str) -> None:
    """CON-17."""
    story = Story()
    story.clock.advance(10)
    story.states[SYMBOL].tick(D("730.65"), story.clock.now_ms())
    now = {"mono_ms": story.clock.monotonic_ms(), "now_ms": story.clock.now_ms()}
    if what == "halt":
        story.states[SYMBOL].apply(HaltAsked(reason="by hand", **now))
    elif what == "flatten":
        story.states[SYMBOL].apply(FlattenAsked(reason="by hand", **now))
    else:
        story.clock.advance_to(story.rules[SYMBOL].cutoff_ms)

    story.desk.drain()

    assert (story.calls("submit"), story.s.entry, story.s.entries_used) == (0, None, 1)
    assert isinstance(story.works[-1].event, NotSent)


def test_risk_says_no_and_the_strategy_hears_why() -> None:
    story = Story(deny=lambda order: "risk: enough for today")

    story.tick("730.65")

    assert (story.calls("submit"), story.s.why) == (0, "entry not sent: risk: enough for today")


def test_a_risk_check_that_fails_has_not_said_yes() -> None:
    """RIS-06."""

    def broken(order: Any) -> str | None:
        raise ZeroDivisionError("no price")

    story = Story(deny=broken)
    story.tick("730.65")

    assert (story.calls("submit"), story.s.why) == (0, "entry not sent: the risk check failed: ZeroDivisionError")
    assert story.listener.defects == ["the risk check of SBIN-20261120-E0: ZeroDivisionError: no price"]


def test_nobody_asks_risk_about_an_exit() -> None:
    asked: list[str] = []

    def deny(order: Any) -> str | None:
        asked.append(order.purpose.value)
        return None

    story = Story(deny=deny)
    story.hold()
    story.flatten("by hand")
    story.tick("731.00")

    assert asked == ["E"]


# -- the four answers ----------------------------------------------------------------------------------------


def test_a_fatal_answer_to_an_entry_is_a_refusal_and_loud() -> None:
    def fatal(act: Act) -> Any:
        raise Fatal("invalid apikey")

    story = Story()
    story.venue.script("submit", fatal)
    story.tick("730.65")

    assert (story.s.why, story.listener.said) == ("entry refused: invalid apikey", ["fatal: invalid apikey"])


@pytest.mark.parametrize("verb", ["cancel", "replace", "order"])
def test_a_fatal_answer_to_anything_else_is_loud_and_it_is_asked_again(verb: str) -> None:
    def fatal(act: Act) -> Any:
        raise Fatal("invalid apikey")

    story = Story(strategy=Plan(wishes={D("732.00"): move(BUY, "730.65")}))
    if verb == "order":
        story.venue.script("order", fatal)
    else:
        story.venue.script(verb, fatal)
    story.hold() if verb != "order" else story.tick("730.65", "731.15")
    if verb == "replace":
        story.tick("732.00")
    elif verb == "cancel":
        story.flatten("by hand")
    story.wait(6_000)
    story.tick("731.00")
    story.wait(1_000)

    assert "fatal: invalid apikey" in story.listener.said
    expected = {"cancel": [], "replace": ["SELL STOP 5 @ 730.65"], "order": ["SELL STOP 5 @ 730.15"]}
    assert story.book == expected[verb]


@pytest.mark.parametrize("fault", [unreachable, lost, refused("busy")])
def test_a_query_that_fails_is_no_evidence(fault: Any) -> None:
    story = Story()
    story.venue.script("order", ok, fault)

    story.tick("730.65", "731.15")
    meanwhile = story.s.stop
    story.wait(1_000)

    assert meanwhile is not None and (meanwhile.status, meanwhile.verified) == (Status.WORKING, False)
    assert story.s.stop is not None and story.s.stop.verified


@pytest.mark.parametrize("fault", [unreachable, lost, done_but_lost, refused("busy")])
@both_sides
def test_an_amend_that_fails_one_way_or_another_arrives_in_the_end(side: Side, fault: Any) -> None:
    story = Story(side, Plan(side, {at(side, "732.00"): move(side, "730.65")}))
    story.hold()
    story.venue.script("replace", fault)

    story.tick("732.00")
    story.wait(SETTLED_MS if fault is lost else 6_000)

    assert story.book == [f"{side.opposite.value} STOP 5 @ {at(side, '730.65')}"]


def test_an_id_that_came_with_an_unusable_answer_catches_up_with_what_the_stream_said() -> None:
    """UNK-05."""
    story = Story()

    def named_but_unanswered(act: Act) -> Any:
        venue_id = act()
        story.report(*story.venue.tick(SYMBOL, ENTRY, story.clock.now_ms()))
        raise Unanswered("400 with an order id", venue_id=venue_id)

    story.venue.script("submit", named_but_unanswered)
    story.tick("730.65")

    assert (story.s.position, story.s.phase) == (5, Phase.LONG)


def test_a_defect_in_one_symbols_work_costs_no_other_symbol_its_desk() -> None:
    story = Story(symbols=(SYMBOL, "INFY"))
    told = story.listener.carried_out

    def broken(work: Work) -> None:
        if work.after.symbol == SYMBOL:
            raise RuntimeError("boom")
        told(work)

    story.listener.carried_out = broken  # type: ignore[method-assign]
    desk = threading.Thread(target=story.desk.run, daemon=True)
    for symbol in (SYMBOL, "INFY"):
        story.states[symbol].tick(D("730.65"), story.clock.now_ms())
    story.outbox.close()
    desk.start()
    desk.join(10)

    assert not desk.is_alive()
    assert {order.symbol for order in story.venue.submitted} == {SYMBOL, "INFY"}
    assert all(text == "the desk, SBIN: RuntimeError: boom" for text in story.listener.defects) and story.listener.defects


def test_a_loud_line_is_told_before_a_slow_call_begins() -> None:
    story = Story()
    loud: list[int] = []

    def late(act: Act) -> Any:
        loud.append(sum(1 for w in story.listener.works if any(isinstance(c, Alarm) for c in w.commands)))
        return act()

    story.venue.script("submit", ok, refused("band"), late)
    story.tick("730.65", "731.15")
    story.wait(1_000)

    assert loud == [1]


def test_an_early_row_is_not_taken_for_another_orders() -> None:
    """CON-10."""
    story = Story()
    story.tick("730.65")
    before = story.s
    row = replace(story.venue.working()[0], venue_id="777", client_id=None, state=Reported.CANCELLED)

    story.report(row)
    story.desk.drain()

    assert story.s is before
