"""The oracle on days made by hand: a good one passes, and each rule is broken once, alone, to see that it speaks.

The good day: SBIN is bought at 812.40, has its stop 10 ms later, is stopped out at 811.30; the next entry is cancelled. In its
middle, from 2,400 to 2,600, the runner was killed, and had recovered at 2,800.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from brokers.practice_truth import API, HAND, Point, TrueFill, TrueOrder, TruePosition, Truth, Version
from simulation import oracle
from simulation.oracle import Bounds, Life, Told, Violation
from simulation.oracle_trips import Trip, round_trips
from state.journal_read import OrderRecord
from state.ledger import Fill, Ledger
from state.orders import ZERO, Order, OrderType, Purpose, Side
from state.reports import Reported
from state.snapshot import Snapshot

E0, S1, E2 = "SBIN-20261120-E0", "SBIN-20261120-S1", "SBIN-20261120-E2"
TEN = Decimal(10)
BOUNDS = Bounds(recovery_ms=500, waking_ms=200, bare_ms=100, notice_ms=300)
LIVES = (Life(500, 2_400, 700, killed=True), Life(2_600, 5_000, 2_800))
TYPES = {"E": OrderType.STOP_LIMIT, "S": OrderType.STOP, "X": OrderType.MARKET}
PURPOSES = {purpose.value: purpose for purpose in Purpose}


def point(at_ms: int, ours: int = 0, stop: int = 0, exit: int = 0, entries: int = 0) -> Point:
    held, stops, exits = Decimal(ours), Decimal(stop), Decimal(exit)
    return Point(at_ms, at_ms, held, held, ZERO, stops, ZERO, exits, entries)


def true_order(
    venue_id: str, label: str, *story: tuple[int, Reported, int], trigger: str | None = None, origin: str = API
) -> TrueOrder:
    """Its versions as (time, state, filled)."""
    letter = label.rsplit("-", 1)[1][0]
    price = None if trigger is None else Decimal(trigger)
    history = [
        Version(at_ms, at_ms, state, TYPES[letter], TEN, Decimal(filled), None, price, state is Reported.WORKING)
        for at_ms, state, filled in story
    ]
    side = Side.BUY if letter == "E" else Side.SELL
    return TrueOrder(venue_id, "SBIN", side, label, letter, origin, history)


def true_fill(trade_id: str, venue_id: str, label: str, price: str, at_ms: int, qty: int = 10) -> TrueFill:
    side = Side.BUY if "-E" in label else Side.SELL
    return TrueFill(trade_id, venue_id, "SBIN", side, Decimal(qty), Decimal(price), at_ms, at_ms, label, label[-2], API)


def intent(client_id: str, venue_id: str | None, status: str, ended: bool = True) -> OrderRecord:
    letter = client_id.rsplit("-", 1)[1][0]
    side = Side.BUY if letter == "E" else Side.SELL
    order = Order(client_id, "SBIN", PURPOSES[letter], side, TYPES[letter], TEN, venue_id=venue_id)
    return OrderRecord(order, ended, status, "", 1_000)


def journaled(trade_id: str, client_id: str, price: str, qty: int = 10) -> Fill:
    side = Side.BUY if "-E" in client_id else Side.SELL
    return Fill(trade_id, client_id, PURPOSES[client_id[-2]], side, Decimal(qty), Decimal(price), 0)


def truth() -> Truth:
    working, filled = Reported.WORKING, Reported.FILLED
    orders = [
        true_order("1", E0, (1_000, working, 0), (2_000, filled, 10), trigger="812.40"),
        true_order("2", S1, (2_010, working, 0), (3_000, filled, 10), trigger="811.40"),
        true_order("3", E2, (3_100, working, 0), (4_000, Reported.CANCELLED, 0), trigger="812.40"),
    ]
    fills = [true_fill("t1", "1", E0, "812.40", 2_000), true_fill("t2", "2", S1, "811.30", 3_000)]
    line = [
        point(1_000, entries=1),
        point(2_000, 10),
        point(2_010, 10, stop=10),
        point(3_000),
        point(3_100, entries=1),
        point(4_000),
    ]
    position = TruePosition("SBIN", ZERO, ZERO, None, Decimal("-11.00"))
    return Truth("practice", 5_000, 5_000, 0, 1.0, orders, fills, [position], {"SBIN": line}, [], [])


def told() -> Told:
    return Told(
        orders=[intent(E0, "1", "FILLED"), intent(S1, "2", "FILLED"), intent(E2, "3", "CANCELLED")],
        fills={"SBIN": [journaled("t1", E0, "812.40"), journaled("t2", S1, "811.30")]},
        snapshots={"SBIN": Snapshot("SBIN")},
        trips=[Trip("SBIN", "BUY", TEN, Decimal("812.4"), Decimal("811.3"), E0, S1)],
        max_entries={"SBIN": 2},
    )


def judged(true: Truth | None = None, said: Told | None = None, lives: tuple[Life, ...] = LIVES) -> list[Violation]:
    return oracle.judge(true or truth(), said or told(), lives, BOUNDS)


def line(*points: Point) -> Truth:
    """The good day, with another time line."""
    return replace(truth(), timeline={"SBIN": list(points)})


def test_a_good_day_has_no_violation() -> None:
    assert judged() == []


def test_two_entries_at_work_at_one_time() -> None:
    broken = line(point(1_000, entries=1), point(1_001, entries=2), point(1_002, entries=0))

    assert judged(broken) == [Violation("I1", "SBIN", "2 entries at work at one time")]


def test_more_entries_than_allowed() -> None:
    assert judged(said=replace(told(), max_entries={"SBIN": 1})) == [
        Violation("I7", "SBIN", "2 entry orders at the venue, 1 are allowed")
    ]


def test_one_client_id_twice_at_the_venue() -> None:
    twice = true_order("9", E2, (3_200, Reported.WORKING, 0), (3_300, Reported.REJECTED, 0))

    assert judged(replace(truth(), orders=[*truth().orders, twice]), replace(told(), max_entries={})) == [
        Violation("I3", "SBIN", f"{E2} is at the venue 2 times: 3, 9"),
        Violation("I3", "SBIN", f"{E2} is venue order 9, the journal says 3 (CANCELLED)"),
    ]


def test_an_order_at_the_venue_that_no_intent_explains() -> None:
    nobodys = true_order("9", "SBIN-20261120-S7", (3_200, Reported.WORKING, 0), (3_300, Reported.REJECTED, 0))

    assert judged(replace(truth(), orders=[*truth().orders, nobodys])) == [
        Violation("I3", "SBIN", "venue order 9 (SBIN-20261120-S7) has no journaled intent")
    ]


def test_an_order_that_the_journal_holds_for_never_sent() -> None:
    """CRA-06: absent by the journal, there by the venue."""
    orders = [*told().orders[:2], intent(E2, None, "ABSENT")]

    assert judged(said=replace(told(), orders=orders)) == [
        Violation("I3", "SBIN", f"{E2} is venue order 3, the journal says None (ABSENT)")
    ]


def test_two_intents_that_claim_one_venue_order() -> None:
    orders = [*told().orders, intent("SBIN-20261120-E3", "3", "CANCELLED")]

    assert judged(said=replace(told(), orders=orders)) == [Violation("I3", "", "venue order 3 is claimed by 2 intents")]


def test_an_accepted_order_that_the_venue_does_not_have() -> None:
    orders = [*told().orders, intent("SBIN-20261120-X3", "77", "FILLED")]

    assert judged(said=replace(told(), orders=orders)) == [Violation("I3", "SBIN", "SBIN-20261120-X3: the venue has no order 77")]


def test_an_order_left_in_doubt_at_the_end() -> None:
    orders = [*told().orders[:2], intent(E2, "3", "UNKNOWN", ended=False)]

    assert judged(said=replace(told(), orders=orders)) == [Violation("I3", "SBIN", f"{E2} is still UNKNOWN in the journal")]


def test_an_end_that_was_another_at_the_venue() -> None:
    orders = [*told().orders[:2], intent(E2, "3", "EXPIRED")]

    assert judged(said=replace(told(), orders=orders)) == [
        Violation("I3", "SBIN", f"{E2}: the journal says EXPIRED, at the venue it ended CANCELLED")
    ]


def test_a_lost_fill() -> None:
    position = Ledger().add(journaled("t1", E0, "812.40"))
    said = replace(told(), fills={"SBIN": [journaled("t1", E0, "812.40")]}, snapshots={"SBIN": Snapshot("SBIN", ledger=position)})

    assert judged(said=said) == [
        Violation("I2", "SBIN", f"{S1} filled -10 for 8113 at the venue, nothing in the journal"),
        Violation("I2", "SBIN", "the venue holds 0 of ours, the journal says 10"),
    ]


def test_a_fill_counted_twice() -> None:
    fills = [*told().fills["SBIN"], journaled("t1 again", E0, "812.40")]

    assert judged(said=replace(told(), fills={"SBIN": fills})) == [
        Violation("I2", "SBIN", f"{E0} filled 10 for 8124 at the venue, 20 for 16248 in the journal")
    ]


def test_a_fill_at_another_price() -> None:
    fills = [journaled("t1", E0, "812.45"), told().fills["SBIN"][1]]

    assert [wrong.rule for wrong in judged(said=replace(told(), fills={"SBIN": fills}))] == ["I2"]


def test_an_invented_fill() -> None:
    fills = [*told().fills["SBIN"], journaled("t3", E2, "812.40", 1)]

    assert judged(said=replace(told(), fills={"SBIN": fills})) == [
        Violation("I2", "SBIN", f"{E2} filled nothing at the venue, 1 for 812.4 in the journal")
    ]


def test_an_exit_that_turns_the_position_round() -> None:
    broken = line(point(2_000, 10), point(2_010, 10, stop=10), point(3_000, -10), point(3_001))

    assert judged(broken) == [Violation("I5", "SBIN", "the position went from 10 to -10")]


def test_a_stop_and_an_exit_for_the_same_quantity() -> None:
    broken = line(point(2_000, 10, stop=10), point(2_010, 10, stop=10, exit=10), point(3_000))

    assert judged(broken) == [Violation("I5", "SBIN", "orders to reduce exceeded a position of 10 by 10 at 2010")]


def by_hand(at_ms: int, qty: int) -> TrueFill:
    return TrueFill("t8", "8", "SBIN", Side.SELL, Decimal(qty), Decimal("812.00"), at_ms, at_ms, "phone", "", HAND)


HEARD_MS = 3_200  # of a trade at 2,200: 200 ms of the first start, and 100 after the second has had its time to recover


@pytest.mark.parametrize(("until_ms", "wrong"), [(HEARD_MS, 0), (HEARD_MS + 1, 1)])
def test_a_stop_may_be_larger_than_the_position_until_a_trade_by_hand_is_heard_of(until_ms: int, wrong: int) -> None:
    """REC-05, REC-06."""
    points = (point(2_000, 10, stop=10), point(2_200, 5, stop=10), point(until_ms, 5, stop=5))
    true = replace(line(*points), fills=[*truth().fills, by_hand(2_200, 5)])
    text = "orders to reduce exceeded a position of 5 by 5 at 2200"

    assert oracle.exits_within_position(true, LIVES, BOUNDS) == [Violation("I5", "SBIN", text, slow=True)] * wrong


@pytest.mark.parametrize(("fired_ms", "covered_ms", "over_ms"), [(2_250, 3_200, 0), (2_250, 3_201, 1), (3_300, 3_401, 1)])
def test_what_a_stop_opens_that_fired_after_a_trade_by_hand_is_to_be_closed_once_it_is_heard_of(
    fired_ms: int, covered_ms: int, over_ms: int
) -> None:
    """EXI-06: while nobody has heard of it, and moments longer."""
    points = (point(2_000, 10, stop=10), point(2_200, 0, stop=10), point(fired_ms, -10), point(covered_ms))
    true = replace(line(*points), fills=[*truth().fills, by_hand(2_200, 10)])
    alive_ms = covered_ms - max(fired_ms, LIVES[1].started_ms)
    text = f"10 without a stop for {alive_ms} ms of start 2, {over_ms} too long"

    assert oracle.protected(true, LIVES, BOUNDS) == [Violation("I4", "SBIN", text, slow=True)] * bool(over_ms)


def test_round_trips_count_what_the_user_traded_against_ours_and_nothing_else_of_theirs() -> None:
    """REC-05, REC-06, REC-08: what they add is theirs and sold first; a reversal ends one trip of ours and begins another."""
    entry = truth().fills[0]
    added = replace(by_hand(2_100, 4), side=Side.BUY)
    theirs = "SBIN-elsewhere-X8"

    assert round_trips([entry, by_hand(2_200, 10)]) == [
        Trip("SBIN", "BUY", TEN, Decimal("812.4"), Decimal("812"), E0, theirs),
    ]
    assert round_trips([entry, added, by_hand(2_200, 4), truth().fills[1]]) == told().trips
    assert round_trips([entry, added, by_hand(2_200, 24)]) == [
        Trip("SBIN", "BUY", TEN, Decimal("812.4"), Decimal("812"), E0, theirs),
        Trip("SBIN", "SELL", TEN, Decimal("812"), None, theirs, ""),
    ]


def test_a_stop_that_was_loosened_by_a_restart() -> None:
    """CRA-03, CRA-04: the level comes from the journal, never from the price of the moment."""
    first = true_order("2", S1, (2_010, Reported.WORKING, 0), (2_020, Reported.CANCELLED, 0), trigger="811.40")
    looser = true_order("4", "SBIN-20261120-S3", (2_030, Reported.WORKING, 0), (3_000, Reported.FILLED, 10), trigger="811.00")
    true = replace(truth(), orders=[truth().orders[0], first, looser])

    assert Violation("I6", "SBIN", "the stop was loosened from 811.40 to 811.00") in judged(true)


def test_a_stop_of_a_short_position_is_loosened_upwards() -> None:
    first = true_order("2", S1, (2_010, Reported.WORKING, 0), (2_020, Reported.CANCELLED, 0), trigger="813.40")
    for trigger, wrong in (("813.00", []), ("814.00", [Violation("I6", "SBIN", "the stop was loosened from 813.40 to 814.00")])):
        later = true_order("4", "SBIN-20261120-S3", (2_030, Reported.WORKING, 0), trigger=trigger)
        first.side = later.side = Side.BUY

        assert oracle.stops_never_loosen(replace(truth(), orders=[first, later])) == wrong


def test_a_lower_stop_of_the_next_trip_is_no_violation() -> None:
    orders = [
        true_order("2", S1, (2_010, Reported.WORKING, 0), (3_000, Reported.FILLED, 10), trigger="811.40"),
        true_order("4", "SBIN-20261120-S3", (4_500, Reported.WORKING, 0), (4_600, Reported.CANCELLED, 0), trigger="811.00"),
    ]

    assert oracle.stops_never_loosen(replace(truth(), orders=orders)) == []


def test_something_held_and_something_resting_at_the_end() -> None:
    """I8 and I9."""
    orphan = true_order("3", E2, (3_100, Reported.WORKING, 0), trigger="812.40")
    held = TruePosition("SBIN", TEN, TEN, Decimal("812.40"), ZERO)
    true = replace(truth(), orders=[*truth().orders[:2], orphan], positions=[held])

    wrong = judged(true)

    assert Violation("I8", "SBIN", "10 is still held") in wrong
    assert Violation("I9", "SBIN", f"{E2} (3) still rests") in wrong


def test_a_round_trip_reported_twice_and_one_not_at_all() -> None:
    trip = told().trips[0]
    words = f"BUY 10 812.4 -> 811.3 ({E0}, {S1})"

    assert judged(said=replace(told(), trips=[trip, trip])) == [Violation("I2", "SBIN", f"reported, but not so: {words}")]
    assert judged(said=replace(told(), trips=[])) == [Violation("I2", "SBIN", f"round trip not reported: {words}")]


def test_round_trips_are_added_up_from_flat_to_flat() -> None:
    fills = [
        true_fill("a", "1", E0, "100", 1, qty=4),
        true_fill("b", "1", E0, "101", 2, qty=6),
        true_fill("c", "2", S1, "99", 3, qty=10),
        true_fill("d", "3", E2, "100", 4, qty=1),
    ]

    assert round_trips(fills) == [
        Trip("SBIN", "BUY", TEN, Decimal("100.6"), Decimal("99"), E0, S1),
        Trip("SBIN", "BUY", Decimal(1), Decimal("100"), None, E2, ""),
    ]


@pytest.mark.parametrize(
    ("bare", "text"),
    [
        ((1_000, 1_090), None),
        ((1_000, 1_200), "10 without a stop for 200 ms of start 1, 100 too long"),
        ((3_050, 3_140), None),  # began while it was still recovering
        ((2_350, 3_090), None),  # through the death and the recovery that may take until 3,100
        ((2_350, 3_200), "10 without a stop for 600 ms of start 2, 100 too long"),
        ((3_500, 3_590), None),
        ((3_500, 3_700), "10 without a stop for 200 ms of start 2, 100 too long"),
    ],
)
def test_quantity_without_a_stop_is_borne_for_moments_and_through_a_recovery(bare: tuple[int, int], text: str | None) -> None:
    """PRO, CRA-02: I4."""
    covered = line(point(bare[0], 10), point(bare[1], 10, stop=10))

    assert judged(covered) == ([] if text is None else [Violation("I4", "SBIN", text, slow=True)])


def test_a_recovery_that_took_too_long_or_never_came() -> None:
    late = (LIVES[0], replace(LIVES[1], recovered_ms=3_101))
    never = (LIVES[0], replace(LIVES[1], recovered_ms=None))

    assert judged(lives=late) == [Violation("I12", "", "start 2 took 501 ms to recover, 500 are allowed", slow=True)]
    assert judged(lives=never) == [Violation("I12", "", "start 2 never recovered")]


@pytest.mark.parametrize(("awake_ms", "due_ms"), [(2_650, 3_100), (2_800, 3_100), (2_900, 3_200)])
def test_a_machine_that_is_slow_to_start_a_process_takes_nothing_from_the_runners_own_time(awake_ms: int, due_ms: int) -> None:
    in_time = (LIVES[0], replace(LIVES[1], awake_ms=awake_ms, recovered_ms=due_ms))
    late = (LIVES[0], replace(LIVES[1], awake_ms=awake_ms, recovered_ms=due_ms + 1))

    assert oracle.recovered_in_time(in_time, BOUNDS) == []
    assert [wrong.rule for wrong in oracle.recovered_in_time(late, BOUNDS)] == ["I12"]


def test_a_recovery_lasts_until_what_was_found_bare_has_its_stop() -> None:
    found_bare = line(point(2_300, 10), point(3_050, 10, stop=10))

    assert oracle.recovery_ms(truth(), LIVES) == 200
    assert oracle.recovery_ms(found_bare, LIVES) == 450
    killed_again = (*LIVES[:1], Life(2_600, 2_900, 2_800, killed=True), Life(2_950, 5_000, 3_000))
    assert oracle.recovery_ms(found_bare, killed_again) == 100
