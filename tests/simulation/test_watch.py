"""The oracle of simulated runs on days made by hand: each rule is broken, and then something happens that only looks like it.

A day is a real world with a real book in which orders are placed as a runner would; the runner is a stub with a snapshot, but for
the last tests: calm days of the real one, whole and broken.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from brokers.desk import Desk
from ops.config import load
from simulation.fates import Fate, Fates
from simulation.policies import AtRandom, scheduler
from simulation.primitives import SimLock, Task
from simulation.recipe import Recipe
from simulation.run import Outcome, Setting, run, setting
from simulation.scheduler import Scheduler
from simulation.sim_broker import SimBroker
from simulation.watch import Bounds, Watch
from simulation.world import Print, World
from state import machine
from state.commands import Cancel, Replace
from state.draft import Draft
from state.instrument import Instrument
from state.journal_read import OrderRecord
from state.ledger import Fill, Ledger
from state.orders import Order, OrderType, Purpose, Side, Status
from state.reports import Reported
from state.snapshot import Snapshot
from state.symbol_state import Work
from strategies import STRATEGIES

SBIN, TEN, CUTOFF_MS = "SBIN", Decimal(10), 100_000
TYPES = {"E": OrderType.STOP_LIMIT, "S": OrderType.STOP, "T": OrderType.LIMIT, "X": OrderType.MARKET}
BOUNDS = Bounds(
    recovery_ms=0, bare_ms=1_000, calm_bare_ms=300, notice_ms=2_000, flat_ms=3_000, settle_ms=2_000, converge_ms=4_000
)


def order(label: str, qty: int = 10, at: str | None = None, side: Side | None = None) -> Order:
    """E0 buys, all others sell, unless told otherwise. `at`: trigger and limit."""
    price = None if at is None else Decimal(at)
    side = side or (Side.BUY if label[0] == "E" else Side.SELL)
    return Order(f"SBIN-20261120-{label}", SBIN, Purpose(label[0]), side, TYPES[label[0]], Decimal(qty), price, price)


class Day:
    """`calm`: nothing has ever gone wrong; else one fault has struck, of a kind that explains nothing."""

    def __init__(self, calm: bool = False, limit: int = 3) -> None:
        self.world = World({SBIN: Instrument(SBIN, "SIM", Decimal("0.05"))}, [], Fates("x", {}), origin_ms=0, speed=1.0)
        self.world.stream = SimpleNamespace(price=lambda print_: None, update=lambda row: None)
        self.watch = Watch(self.world, {SBIN: limit}, BOUNDS, stop_at_first=False)
        self.scheduler = scheduler(AtRandom("x", 0))
        if not calm:
            self.strikes("reads.twice")
        self.start()
        self.price("100")

    def start(self, **known: Any) -> None:
        """A process begins."""
        rules, lock = SimpleNamespace(cutoff_ms=CUTOFF_MS), SimLock(self.scheduler)
        self.state = SimpleNamespace(snapshot=Snapshot(SBIN, **{"sequence": 99, **known}), rules=rules, _lock=lock)
        self.watch.attach({SBIN: self.state}, self.scheduler)  # type: ignore[dict-item]

    def believes(self, **fields: Any) -> None:
        self.state.snapshot = replace(self.state.snapshot, **fields)
        self.watch.at_seam()

    def strikes(self, kind: str) -> None:
        self.world.fates.struck.append(Fate(kind, 0))

    def place(self, label: str, qty: int = 10, at: str | None = None, side: Side | None = None) -> str:
        return self.world.submit(order(label, qty, at, side))

    def by_hand(self, side: Side, qty: int) -> None:
        """A trade of somebody else, at once."""
        venue_id = self.world.by_hand(Order("", SBIN, Purpose.ENTRY, side, OrderType.MARKET, Decimal(qty)))
        self.world.fill(venue_id, Decimal(qty))

    def price(self, *prices: str) -> None:
        for price in prices:
            self.world._trade(Print(self.world.mono_ms, SBIN, Decimal(price)))

    def wait(self, ms: int) -> None:
        for _ in range(ms // 50):
            self.world.act(self.world.mono_ms + 50)
            self.watch.step()

    def hold(self, stop: str | None = "99") -> str:
        """Long 10 at 100.50, with a stop: its venue order id."""
        self.place("E0", at="100.50")
        self.price("100.50")
        return self.place("S1", at=stop) if stop else ""

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(found.invariant, found.text) for found in self.watch.violations]

    @property
    def broken(self) -> list[str]:
        return [found.invariant for found in self.watch.violations]


@pytest.fixture
def day() -> Day:
    return Day()


def test_a_good_day_has_no_violations(day: Day) -> None:
    stop = day.hold()
    day.world.replace(stop, TEN, Decimal("99.50"), None)
    day.wait(5_000)
    day.price("99.50")
    entry = day.place("E2", at="100.50")
    day.wait(CUTOFF_MS - 5_000)
    day.world.cancel(entry)
    day.wait(5_000)
    day.watch.ended(0)

    assert (day.said, day.watch.trips) == ([], 1)


# -- entries and orders --------------------------------------------------------------------------------------------------------


def test_a_second_entry_beside_the_first_is_found_at_once(day: Day) -> None:
    day.place("E0", at="100.50")
    day.place("E1", at="101")

    text = "two entries at work at one time: SBIN-20261120-E0 (buy 10 @ 100.50), SBIN-20261120-E1 (buy 10 @ 101)"
    assert day.said == [("I1", text)]


def test_an_entry_while_a_position_is_held_is_found_and_a_late_fill_of_the_one_before_is_not() -> None:
    held, late = Day(), Day()
    held.hold()
    held.wait(BOUNDS.notice_ms + 100)
    held.place("E2", at="105")
    late.hold()
    late.wait(BOUNDS.notice_ms - 100)
    late.place("E2", at="105")

    assert (held.said, late.said) == ([("I1", "SBIN-20261120-E2: an entry while 10 are held")], [])


def test_the_same_client_order_id_twice_is_found(day: Day) -> None:
    first = day.place("E0", at="100.50")
    day.world.cancel(first)
    second = day.place("E0", at="100.50")

    assert day.said == [("I3", f"SBIN-20261120-E0 was sent twice: {first} and {second}")]


def test_an_order_that_no_journal_names_is_found_at_the_next_start() -> None:
    """The numbers in client order ids go up: one that the snapshot has not come to yet was never committed."""
    lost, kept, full = Day(), Day(), Day()
    for one in (lost, kept, full):
        one.hold(stop=None)
        one.place("S4", at="99")
        one.watch.killed()
    lost.start(sequence=4)
    kept.start(sequence=5)
    full.strikes("host.disk_full")  # then exits go on, and the kill took what memory had of them
    full.start(sequence=4)

    text = "SBIN-20261120-S4 is at the venue, and the journal that the new process read has no such intent"
    assert (lost.said, kept.said, full.said) == ([("I3", text)], [], [])


def test_an_entry_that_no_journal_names_is_found_whatever_the_disk(day: Day) -> None:
    day.strikes("host.disk_full")
    day.place("E4", at="100.50")
    day.watch.killed()
    day.start(sequence=4)

    assert day.broken == ["I3"]


def test_entries_are_counted_over_restarts() -> None:
    day = Day(limit=2)
    for number in range(3):
        day.world.cancel(day.place(f"E{number}", at="100.50"))
        day.watch.killed()
        day.start()

    assert day.said == [("I7", "SBIN-20261120-E2 is entry number 3, 2 are allowed")]


# -- protection ----------------------------------------------------------------------------------------------------------------


def test_a_position_without_a_stop_is_found_when_the_bound_has_passed(day: Day) -> None:
    day.hold(stop=None)
    day.wait(BOUNDS.bare_ms)
    assert day.said == []
    day.wait(200)

    assert day.said == [("I4", "10 of a position of 10 without a stop or an exit at work, for 1050 ms")]


def test_while_nothing_has_gone_wrong_there_is_less_patience() -> None:
    day = Day(calm=True)
    day.hold(stop=None)
    day.wait(BOUNDS.calm_bare_ms + 200)

    assert day.said == [("I4", "10 of a position of 10 without a stop or an exit at work, for 350 ms")]


def test_a_stop_for_a_part_leaves_the_rest_bare(day: Day) -> None:
    day.hold(stop=None)
    day.place("S1", qty=4, at="99")
    day.wait(BOUNDS.bare_ms + 200)

    assert day.said == [("I4", "6 of a position of 10 without a stop or an exit at work, for 1050 ms")]


def test_an_exit_at_work_protects_and_a_resting_target_does_not() -> None:
    leaving, aiming = Day(), Day()
    for one, label, at in ((leaving, "X1", None), (aiming, "T1", "110")):
        one.hold(stop=None)
        one.place(label, at=at)
        one.wait(BOUNDS.bare_ms + 200)

    assert (leaving.broken, aiming.broken) == ([], ["I4"])


def test_a_bare_position_is_excused_while_a_fault_is_at_work_and_not_longer(day: Day) -> None:
    day.hold(stop=None)
    day.world.troubled(5_000)
    day.wait(5_000 + BOUNDS.bare_ms)
    assert day.said == []
    day.wait(200)

    assert day.broken == ["I4"]


def test_a_bare_position_is_excused_while_no_process_lives(day: Day) -> None:
    day.hold(stop=None)
    day.watch.killed()
    day.world.act(day.world.mono_ms + 60_000)
    day.start()
    day.wait(BOUNDS.bare_ms)
    assert day.said == []
    day.wait(200)

    assert day.broken == ["I4"]


def test_a_process_has_its_recovery_before_it_is_held_to_the_bounds(day: Day) -> None:
    day.watch.bounds = replace(BOUNDS, recovery_ms=5_000)
    day.start()
    day.hold(stop=None)
    day.wait(5_000 + BOUNDS.bare_ms)
    assert day.said == []
    day.wait(200)

    assert day.broken == ["I4"]


def test_a_stop_that_fires_protects_until_it_has_filled_and_one_that_was_jumped_over_does_not() -> None:
    fired, jumped = Day(), Day()
    fired.hold()
    fired.world._trade(Print(0, SBIN, Decimal(99), Decimal(4)))
    jumped.hold(stop=None)
    sent = order("S1", at="99")
    jumped.world.submit(sent, replace(sent, type=OrderType.STOP_LIMIT))  # the gateway made it one
    jumped.price("98")
    for one in (fired, jumped):
        one.wait(BOUNDS.bare_ms + 200)

    assert (fired.broken, jumped.broken) == ([], ["I4"])


def test_two_moments_without_a_stop_are_not_one_long_one(day: Day) -> None:
    stop = day.hold()
    for number in range(2, 8):
        day.world.cancel(stop)
        day.wait(BOUNDS.bare_ms - 200)
        stop = day.place(f"S{number}", at="99")

    assert day.said == []


# -- exits ---------------------------------------------------------------------------------------------------------------------


def test_an_exit_beside_the_stop_is_found_at_once(day: Day) -> None:
    day.hold()
    day.place("X2")

    text = "orders to reduce exceed a position of 10 by 10: SBIN-20261120-S1 (sell 10 @ 99), SBIN-20261120-X2 (sell 10)"
    assert day.said == [("I5", text)]


def test_a_stop_that_fills_in_parts_never_exceeds_the_position(day: Day) -> None:
    day.hold()
    day.world._trade(Print(0, SBIN, Decimal(99), Decimal(4)))
    day.world._trade(Print(0, SBIN, Decimal(99), Decimal(6)))

    assert day.said == []


def test_an_exit_that_turns_the_position_round_is_found(day: Day) -> None:
    day.hold(stop=None)
    day.place("X2", qty=15)
    day.price("101")

    assert day.said[1:] == [("I5", "an exit took the position from 10 to -5")]


def test_an_exit_from_flat_is_found(day: Day) -> None:
    day.place("X1", qty=5)
    day.price("101")

    assert ("I5", "an exit took the position from 0 to -5") in day.said


def test_a_stop_that_turned_the_position_after_a_trade_by_hand_is_excused_until_it_must_have_been_heard_of() -> None:
    soon, late = Day(), Day()
    for one, ms in ((soon, BOUNDS.notice_ms - 100), (late, BOUNDS.notice_ms + 1_000)):
        one.hold()
        one.wait(1_000)
        one.by_hand(Side.SELL, 10)
        one.wait(ms)
        one.price("99")

    assert (soon.broken, late.broken) == ([], ["I5", "I5"])  # left standing, and then it fills


def test_what_others_add_is_theirs_and_taken_from_them_first(day: Day) -> None:
    day.hold()
    day.wait(1_000)
    day.by_hand(Side.BUY, 5)
    day.wait(BOUNDS.notice_ms * 2)
    day.by_hand(Side.SELL, 5)
    day.wait(BOUNDS.notice_ms * 2)

    assert day.said == []


def test_a_target_that_fills_leaves_its_stop_a_moment_to_go() -> None:
    quick, slow = Day(), Day()
    for one, ms in ((quick, 500), (slow, BOUNDS.converge_ms + 1_500)):
        stop = one.hold()
        one.place("T2", at="102")
        one.price("102")
        one.wait(ms)
        one.world.cancel(stop)

    assert (quick.broken, slow.broken) == ([], ["I5", "I9"])


def test_trades_in_the_same_instant_leave_open_whose_closed_whose(day: Day) -> None:
    """The venue's times are all that anybody has."""
    day.hold()
    day.wait(1_000)
    day.by_hand(Side.SELL, 10)
    day.price("99")
    day.wait(BOUNDS.bare_ms + 1_000)

    assert day.said == []


def test_trades_by_hand_that_undo_each_other_unseen_leave_no_trace(day: Day) -> None:
    """Sold 5 of ours and bought 5: the account holds what it held, and the exit of 10 is right."""
    stop = day.hold()
    day.wait(1_000)
    day.by_hand(Side.SELL, 5)
    day.by_hand(Side.BUY, 5)
    day.world.cancel(stop)
    day.place("X2")
    day.wait(BOUNDS.notice_ms + 500)
    day.price("101")

    assert (day.said, day.world.held(SBIN)) == ([], Decimal(0))


def test_where_a_venue_breaks_the_assumption_it_must_end_or_be_told() -> None:
    lasting, told_ = Day(), Day()
    for one in (lasting, told_):
        one.strikes("orders.beyond_window")
        one.hold()
        one.place("S2", at="99")
    assert (lasting.said, told_.said) == ([], [])
    told_.believes(halted="QUARANTINED")
    for one in (lasting, told_):
        one.wait(BOUNDS.notice_ms + 1_000)

    assert (lasting.broken, told_.broken) == (["I5"], [])


# -- stops ---------------------------------------------------------------------------------------------------------------------


def test_a_loosened_stop_is_found_by_what_stands() -> None:
    day = Day(calm=True)
    stop = day.hold()
    day.world.replace(stop, TEN, Decimal("98.95"), None)

    assert day.said == [("I6", "the stop was loosened from 99 to 98.95 (SBIN-20261120-S1)")]


def test_a_loosened_stop_is_found_by_what_was_asked(day: Day) -> None:
    """Also when the venue says yes and does nothing."""
    day.believes(trip="E0", stop=order("S1", at="99"))
    stop = replace(order("S1", at="99"), status=Status.WORKING)
    day.believes(stop=replace(stop, status=Status.REPLACING, asked_trigger=Decimal("99.50")))
    day.believes(stop=replace(stop, trigger_price=Decimal("99.50")))
    day.believes(stop=replace(stop, status=Status.REPLACING, asked_trigger=Decimal("99.45")))

    assert day.said == [("I6", "SBIN-20261120-S1: a stop was asked for at 99.45, after 99.50 in the same trip")]


def test_a_refused_amend_and_another_trip_may_stand_lower(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99"))
    stop = replace(order("S1", at="99"), status=Status.WORKING)
    day.believes(stop=replace(stop, status=Status.REPLACING, asked_trigger=Decimal("99.50")))
    day.believes(stop=replace(stop, retry_ms=1))  # no: it stands where it stood
    day.believes(trip=None, stop=None)
    day.believes(trip="E2", stop=order("S3", at="97"))

    assert day.said == []


def test_a_stop_off_the_grid_is_found(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99.01"))

    assert day.said == [("I6", "SBIN-20261120-S1: a stop was asked for at 99.01, which is off the grid")]


def test_a_stop_on_the_wrong_side_is_found(day: Day) -> None:
    day.hold(stop=None)
    day.place("S1", at="102", side=Side.BUY)

    assert ("I6", "SBIN-20261120-S1: a BUY stop for a position of 10") in day.said


def test_a_stop_asked_for_on_the_wrong_side_is_found(day: Day) -> None:
    day.believes(trip="E0", ledger=Ledger(position=TEN), stop=order("S1", at="102", side=Side.BUY))

    assert day.said == [("I6", "SBIN-20261120-S1: a BUY stop for a position of 10")]


def test_what_a_killed_process_had_only_decided_was_never_asked_for(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99"))
    stop = replace(order("S1", at="99"), status=Status.REPLACING)
    day.believes(stop=replace(stop, asked_trigger=Decimal("99.50")))
    day.watch.killed()
    day.start()
    day.believes(trip="E0", stop=replace(stop, asked_trigger=Decimal("99.40")))

    assert day.said == []


def test_a_stop_of_a_position_that_somebody_turned_is_measured_afresh(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99"))
    old = day.hold()
    day.wait(1_000)
    day.by_hand(Side.SELL, 20)
    day.world.replace(old, Decimal(9), Decimal(99), None)
    day.world.cancel(old)
    day.believes(ledger=Ledger(position=-TEN), stop=order("S2", at="102", side=Side.BUY))
    day.place("S2", at="102", side=Side.BUY)

    assert day.said == []


def test_an_old_amend_that_lands_after_a_newer_one_is_found(day: Day) -> None:
    """UNK-11: both levels were asked for, the second is the one that counts."""
    held = day.hold()
    day.believes(trip="E0", stop=order("S1", at="99"))
    stop = replace(order("S1", at="99"), status=Status.REPLACING)
    for level in ("99.50", "99.80"):
        day.believes(stop=replace(stop, asked_trigger=Decimal(level)))
    for level in ("99.80", "99.50"):
        day.world.replace(held, TEN, Decimal(level), None)

    assert day.said == [("I6", "the stop was loosened from 99.80 to 99.50 (SBIN-20261120-S1)")]


def test_a_stop_that_somebody_else_loosens_is_to_be_put_back() -> None:
    repaired, left = Day(), Day()
    for one, ms in ((repaired, 500), (left, BOUNDS.notice_ms + 1_000)):
        one.believes(trip="E0", stop=order("S1", at="99"))
        stop = one.hold()
        one.strikes("people.loosen_stop")
        one.world.replace(stop, TEN, Decimal("98"), None)
        one.wait(ms)
        one.world.replace(stop, TEN, Decimal("99"), None)

    assert (repaired.broken, left.broken) == ([], ["I6"])


def test_a_stop_that_somebody_loosens_to_a_level_of_before_was_not_asked_to(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99"))
    day.believes(stop=replace(order("S1", at="99"), status=Status.REPLACING, asked_trigger=Decimal("99.50")))
    stop = day.hold()
    day.strikes("people.loosen_stop")
    for level in ("99.50", "99", "99.50"):
        day.world.replace(stop, TEN, Decimal(level), None)
    day.wait(BOUNDS.notice_ms * 2)

    assert day.said == []


def test_a_stop_that_somebody_tightened_may_be_put_back_where_it_belongs(day: Day) -> None:
    day.believes(trip="E0", stop=order("S1", at="99"))
    stop = day.hold()
    day.strikes("people.tighten_stop")
    day.world.replace(stop, TEN, Decimal("99.75"), None)
    day.world.replace(stop, TEN, Decimal("99"), None)
    day.wait(BOUNDS.notice_ms * 2)

    assert day.said == []


# -- the end of the day --------------------------------------------------------------------------------------------------------


def test_a_position_past_the_cutoff_must_be_told() -> None:
    silent, told, honest = Day(), Day(), Day()
    for one in (silent, told, honest):
        one.hold()
        one.wait(CUTOFF_MS + BOUNDS.flat_ms + 1_000)
        one.price("99")
    silent.watch.ended(0)
    told.watch.ended(0, ["SBIN exit rejected: trying again until flat"])
    honest.watch.ended(7)

    text = "held past the cutoff and its bound, and neither an alarm nor the exit code says so"
    assert (silent.said, told.said, honest.said) == ([("I8", text)], [], [])


def test_a_position_that_is_closed_soon_after_the_cutoff_is_good(day: Day) -> None:
    day.hold()
    day.wait(CUTOFF_MS + BOUNDS.flat_ms - 1_000)
    day.price("99")
    day.watch.ended(0)

    assert day.said == []


def test_exit_codes_are_promises() -> None:
    flat, protected, bare, entering = Day(), Day(), Day(), Day()
    for one in (flat, protected):
        one.hold()
    bare.watch.killed()
    bare.hold(stop=None)
    entering.place("E0", at="105")
    for one in (flat, protected, bare, entering):
        one.wait(BOUNDS.notice_ms + 100)
    flat.watch.ended(0)
    for one in (protected, bare, entering):
        one.watch.ended(5)

    assert flat.said == [
        ("I8", "exit code 0, and 10 are held"),
        ("I9", "exit code 0, and SBIN-20261120-S1 (sell 10 @ 99) still rests"),
    ]
    assert protected.said == []
    assert bare.said[-1] == ("I4", "exit code 5, and 10 of 10 are not protected")
    assert entering.said == [("I9", "exit code 5, and SBIN-20261120-E0 (buy 10 @ 105) still rests")]


def test_what_happened_in_the_last_moments_breaks_no_promise(day: Day) -> None:
    day.wait(20_000)
    day.hold()
    day.wait(BOUNDS.notice_ms - 100)
    day.watch.ended(0)

    assert day.said == []


def test_an_orphan_is_found_and_a_moment_of_one_is_not() -> None:
    short, long = Day(), Day()
    for one, ms in ((short, BOUNDS.converge_ms - 1_000), (long, BOUNDS.converge_ms + 1_000)):
        target = one.place("T0", at="110")
        one.wait(ms)
        one.world.cancel(target)

    assert (short.broken, long.broken) == ([], ["I9"])


def test_an_entry_that_rests_on_after_the_cutoff_is_found(day: Day) -> None:
    day.place("E0", at="105")
    day.wait(CUTOFF_MS)
    assert day.said == []
    day.wait(BOUNDS.converge_ms + 1_000)

    assert day.broken == ["I9"]


# -- threads -------------------------------------------------------------------------------------------------------------------


def test_a_call_under_a_symbols_lock_is_found(day: Day) -> None:
    lock: SimLock = day.state._lock
    day.watch.at_seam()
    lock.holder = Task(day.scheduler, "clock", lambda: None)  # somebody else holds it: that is no concern of the caller
    day.watch.at_seam()
    assert day.said == []
    lock.holder = day.scheduler.present
    day.watch.at_seam()
    day.watch.at_seam()

    assert day.said == [("I10", "nobody calls the broker or commits while it holds a symbol's lock")]


def test_ticks_that_wait_while_time_moves_on_are_found(day: Day) -> None:
    ticks, desk = (Task(day.scheduler, name, lambda: None) for name in ("ticks", "desk-1"))
    day.scheduler.tasks += [ticks, desk]
    lock = SimLock(day.scheduler)
    ticks.waits_for = day.scheduler  # for the next frame
    day.wait(1_000)
    ticks.waits_for, lock.holder = lock, desk
    day.world.troubled(1_000)  # a stalled thread may hold what it holds
    day.wait(1_000)
    assert day.said == []
    day.wait(500)

    assert day.said == [("I10", "ticks wait for a lock while desk-1, who holds it, waits too")]


# -- others --------------------------------------------------------------------------------------------------------------------


def test_an_order_of_somebody_else_that_we_change_or_cancel_is_found() -> None:
    theirs = Order("", SBIN, Purpose.ENTRY, Side.BUY, OrderType.LIMIT, TEN, Decimal(90))
    for touch, word in (
        (lambda world, id: world.cancel(id), "cancelled"),
        (lambda world, id: world.replace(id, TEN, None, Decimal(91)), "changed"),
    ):
        day = Day()
        venue_id = day.world.by_hand(theirs)
        touch(day.world, venue_id)

        assert day.said == [("I11", f"order {venue_id} of somebody else was {word}")]


def test_somebody_may_cancel_their_own_order(day: Day) -> None:
    """They do it while the process waits."""
    venue_id = day.world.by_hand(Order("", SBIN, Purpose.ENTRY, Side.BUY, OrderType.LIMIT, TEN, Decimal(90)))
    day.scheduler.present.waits_for = day.scheduler
    day.world.cancel(venue_id)

    assert day.said == []


# -- convergence ---------------------------------------------------------------------------------------------------------------


def test_an_order_in_question_for_ever_is_found_after_the_last_fault(day: Day) -> None:
    day.believes(stop=replace(order("S1", at="99"), status=Status.UNKNOWN))
    day.wait(4_000)
    day.strikes("reads.twice")
    day.wait(BOUNDS.settle_ms + BOUNDS.converge_ms)
    assert day.said == []
    day.wait(2_000)

    assert [(found.invariant, found.text.split(",")[0]) for found in day.watch.violations] == [
        ("I12", "SBIN-20261120-S1 is UNKNOWN")
    ]


def test_what_waits_for_a_person_need_not_converge(day: Day) -> None:
    day.believes(stop=replace(order("S1", at="99"), status=Status.QUARANTINED), blocks=(("stop", "stopping"), ("poll", "x")))
    day.wait(60_000)

    assert day.said == []


def test_a_position_that_the_venue_contradicts_is_for_a_person(day: Day) -> None:
    day.believes(exit=replace(order("X1"), status=Status.INTENT), disagreements=2)
    day.wait(60_000)

    assert day.said == []


def test_entries_that_stay_off_are_found(day: Day) -> None:
    day.believes(blocks=(("journal", "the journal cannot be written"),))
    day.wait(BOUNDS.settle_ms + BOUNDS.converge_ms + 2_000)

    assert day.broken == ["I12"]


def test_a_feed_that_never_comes_back_is_found() -> None:
    lost, back = Day(), Day()
    back_again, lost.world.stream, back.world.stream = back.world.stream, None, None
    back.wait(BOUNDS.feed_ms - 1_000)
    back.world.stream = back_again
    for one in (lost, back):
        one.wait(BOUNDS.feed_ms + 2_000 - (BOUNDS.feed_ms if one is back else 0))

    assert (lost.broken, back.broken) == (["I12"], [])


# -- the seams -----------------------------------------------------------------------------------------------------------------


def test_the_first_violation_stops_the_run_at_the_next_step() -> None:
    day = Day()
    watch = Watch(day.world, {SBIN: 3}, BOUNDS)
    crashed: list[bool] = []

    def body() -> None:
        watch.attach({}, running)
        running.on_step = watch.step
        watch.broken("I1", SBIN, "made up")
        crashed.append(running.crashed)
        running.step()
        crashed.append(running.crashed)

    running: Scheduler = scheduler(AtRandom("x", 0))
    running.run(body)

    assert (crashed, running.crashed) == ([False], True)


# -- the runner's own words ----------------------------------------------------------------------------------------------------


class Written:
    """A journal: what it says of the orders, and the fills of each, and the position that follows."""

    def __init__(self, *records: OrderRecord, fills: list[Fill] | None = None, position: int = 0) -> None:
        self._records, self._fills = list(records), fills or []
        self._snapshot = Snapshot(SBIN, ledger=Ledger(position=Decimal(position)))

    def orders(self) -> list[OrderRecord]:
        return self._records

    def symbols(self) -> list[str]:
        return [SBIN]

    def fills(self, symbol: str) -> list[Fill]:
        return self._fills

    def snapshots(self) -> dict[str, Snapshot]:
        return {SBIN: self._snapshot}


def record(label: str, status: str, venue_id: str | None, ended: bool = True) -> OrderRecord:
    return OrderRecord(replace(order(label), venue_id=venue_id), ended, status, "", 0)


def fill(label: str, qty: int, price: str) -> Fill:
    purpose, side = Purpose(label[0]), Side.BUY if label[0] == "E" else Side.SELL
    return Fill(label, f"SBIN-20261120-{label}", purpose, side, Decimal(qty), Decimal(price), 0)


def told(day: Day, written: Written, code: int = 0, quiet_ms: int = 20_000) -> list[tuple[str, str]]:
    day.wait(quiet_ms)
    day.watch.ended(code)
    day.watch.finish(written)  # type: ignore[arg-type]
    return day.said


def round_trip() -> tuple[Day, str, str]:
    day = Day()
    entry = day.place("E0", at="100.50")
    day.price("100.50")
    stop = day.place("S1", at="99")
    day.price("99")
    return day, entry, stop


def test_a_journal_that_tells_what_happened_is_good() -> None:
    day, entry, stop = round_trip()
    fills = [fill("E0", 10, "100.50"), fill("S1", 10, "99")]

    assert told(day, Written(record("E0", "FILLED", entry), record("S1", "FILLED", stop), fills=fills)) == []


def test_a_lost_fill_is_found() -> None:
    day, entry, stop = round_trip()
    written = Written(record("E0", "FILLED", entry), record("S1", "FILLED", stop), fills=[fill("E0", 10, "100.50")], position=10)

    assert told(day, written) == [
        ("I2", "SBIN-20261120-S1 filled -10 for 990 at the venue, nothing in the journal"),
        ("I2", "the venue holds 0 of ours, the journal says 10"),
    ]


def test_an_order_without_an_intent_and_an_intent_without_an_end_are_found() -> None:
    day = Day()
    ids = [day.place(f"E{number}", at="100.50") for number in range(2) if not day.world.cancel(day.place(f"X{number}"))]
    for venue_id in ids:
        day.world.cancel(venue_id)
    day.watch.violations.clear()

    said = told(day, Written(record("E0", "CANCELLED", ids[0]), record("E1", "UNKNOWN", ids[1], ended=False)))

    assert [text for _, text in said if "-X" not in text] == ["SBIN-20261120-E1 is still UNKNOWN in the journal"]
    assert sum("has no journaled intent" in text for _, text in said) == 2


def test_a_quarantined_intent_leaves_its_symbol_to_a_person() -> None:
    day, entry, _ = round_trip()
    written = Written(record("E0", "FILLED", entry), record("S1", "QUARANTINED", None, ended=False), position=10)

    assert told(day, written, code=7) == []


def test_with_other_codes_than_0_the_words_count_only_after_a_peace() -> None:
    day, entry, stop = round_trip()
    written = Written(record("E0", "FILLED", entry), record("S1", "UNKNOWN", stop, ended=False))

    assert told(day, written, code=7, quiet_ms=BOUNDS.settle_ms + BOUNDS.converge_ms - 1_000) == []


def test_a_venue_that_calls_expired_cancelled_is_believed() -> None:
    day = Day()
    entry = day.place("E0", at="105")
    day.world.end(entry, Reported.EXPIRED, "")

    assert told(day, Written(record("E0", "CANCELLED", entry))) == []


def test_an_order_held_for_absent_that_was_there_is_found_unless_the_venue_had_made_another_of_it() -> None:
    same, other = Day(), Day()
    sent, said = order("S1", at="99"), []
    for one, booked in ((same, sent), (other, replace(sent, trigger_price=Decimal("98.90")))):
        one.world.cancel(one.world.submit(sent, booked))
        one.watch.violations.clear()
        said.append([text.split(",")[1] for _, text in told(one, Written(record("S1", "ABSENT", None)))])

    assert said == [[" the journal says None (ABSENT)"], []]


def test_what_happened_in_the_last_moments_need_not_be_written() -> None:
    day = Day()
    day.wait(20_000)
    day.hold()
    day.price("99")

    assert told(day, Written(), quiet_ms=100) == []


def test_a_protected_position_may_be_left_before_the_cutoff_and_not_after() -> None:
    before, after = Day(), Day()
    days = []
    for one, ms in ((before, 20_000), (after, CUTOFF_MS)):
        entry = one.place("E0", at="100.50")
        one.price("100.50")
        stop = one.place("S1", at="99")
        records = record("E0", "FILLED", entry), record("S1", "WORKING", stop, ended=False)
        days.append(told(one, Written(*records, fills=[fill("E0", 10, "100.50")], position=10), 5, ms))

    assert days == [[], [("I12", f"exit code 5 after {CUTOFF_MS - 50} ms in which nothing went wrong")]]


def test_with_others_in_the_account_a_session_may_end_halted() -> None:
    day = Day()
    day.by_hand(Side.BUY, 5)

    assert told(day, Written(), code=6) == []


def test_an_exit_code_that_gives_up_after_a_peace_is_found() -> None:
    day = Day()

    assert told(day, Written(), code=7, quiet_ms=20_000) == [("I12", "exit code 7 after 19950 ms in which nothing went wrong")]


# -- the real runner -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def practice() -> Setting:
    return setting(load(Path(__file__).parents[2] / "config.yaml", {}, STRATEGIES))


def calm(practice: Setting, number: int) -> Outcome:
    return run(practice, Recipe(f"watch/{number}", "calm", {}, (0.0, 0.05)[number % 2], 5, 12))


def first_broken(practice: Setting, most: int = 12) -> str:
    """The invariant that the first of a few calm days finds broken; empty when none is."""
    return next((found[0].invariant for n in range(most) if (found := calm(practice, n).violations)), "")


def test_calm_days_of_the_real_runner_break_nothing(practice: Setting) -> None:
    days = [calm(practice, number) for number in range(6)]

    assert [day.violations for day in days] == [[]] * 6
    assert sum(day.trips for day in days) > 10  # and there was something to break


def test_a_runner_that_sends_twice_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = SimBroker.submit
    monkeypatch.setattr(SimBroker, "submit", lambda self, order: submit(self, order) and submit(self, order))

    assert first_broken(practice) == "I3"


def test_a_runner_that_forgets_the_stop_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_protect", lambda draft: None)

    assert first_broken(practice) == "I4"


def test_a_runner_that_exits_beside_its_stop_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def close_out(draft: Draft) -> None:
        if draft.s.exit is None:
            draft.submit_new(Purpose.EXIT, OrderType.MARKET, abs(draft.s.position), reason="at once")

    monkeypatch.setattr(machine, "_close_out", close_out)

    assert first_broken(practice) == "I5"


def test_a_runner_that_loosens_its_stop_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def loosened(self: Desk, command: Replace | Cancel) -> None:
        if isinstance(command, Cancel):
            return self._broker.cancel(command.order)
        assert command.trigger_price is not None
        return self._broker.replace(command.order, command.qty, command.trigger_price - 50, None)

    monkeypatch.setattr(Desk, "_change", loosened)

    assert first_broken(practice) == "I6"


def test_a_runner_that_calls_under_the_lock_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = Desk._submit

    def under_the_lock(self: Desk, symbol: str, *more: Any) -> None:
        with self._states[symbol]._lock:
            carry_out(self, symbol, *more)

    monkeypatch.setattr(Desk, "_submit", under_the_lock)

    assert first_broken(practice) == "I10"


def test_a_runner_that_holds_up_the_ticks_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """One lock for all, held over the journal's commit, which here takes its time."""
    commit, take_its_time = Desk._commit, SimBroker.positions

    def slow(self: Desk, works: list[Work]) -> bool:
        with self._outbox._ready:
            take_its_time(self._broker._broker)  # type: ignore[attr-defined]
            return commit(self, works)

    monkeypatch.setattr(Desk, "_commit", slow)

    assert first_broken(practice) == "I10"


def test_a_runner_that_forgets_a_fill_is_found(practice: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Ledger.add
    monkeypatch.setattr(Ledger, "add", lambda self, fill: self if fill.purpose is Purpose.ENTRY else add(self, fill))

    assert first_broken(practice) in ("I4", "I12", "I2")
