"""Each fault of the simulated broker does to the book and to the answer what its words say, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from brokers.base import BrokerError, Fatal, OrderRow, PositionRow, Refused, Unanswered, Unavailable, Unreadable
from simulation import sim_shown, sim_venue
from simulation.fates import Fate, Fates
from simulation.policies import HANDS, AtRandom
from simulation.scheduler import Scheduler
from simulation.sim_broker import BACK_MS, BEYOND_MS, KINDS, LATE_MS, SETTLE_MS, SILENCE_MS, SLOW_MS, THERE_MS, SimBroker
from simulation.world import Print, World
from state.instrument import Instrument
from state.orders import ZERO, Order, OrderType, Purpose, Side
from state.reports import Reported

D = Decimal
SYMBOL = "SBIN"
GRID = {SYMBOL: Instrument(SYMBOL, "SIM", D("0.05"))}
SPEED = 120.0
CALM_MS = THERE_MS + BACK_MS
FIVE, LEVEL, HIGHER = D(5), D("730.15"), D("730.85")
ENTRY = Order("SBIN-20261120-E0", SYMBOL, Purpose.ENTRY, Side.BUY, OrderType.MARKET, FIVE)
STOP = Order("SBIN-20261120-S1", SYMBOL, Purpose.STOP, Side.SELL, OrderType.STOP, FIVE, trigger_price=LEVEL)
EXIT = Order("SBIN-20261120-X2", SYMBOL, Purpose.EXIT, Side.SELL, OrderType.MARKET, FIVE)


class Answer(NamedTuple):
    """What a call came to, and how long it took."""

    value: Any
    took_ms: int


class Bench:
    """A broker over a world in which 5 are held and the last price is 731.00."""

    def __init__(self, kinds: Iterable[str] = (), nth: int = 0, seed: str = "bench", prints: Iterable[Print] = ()) -> None:
        wanted = list(kinds)
        self.fates = Fates(seed, dict.fromkeys(wanted, 1.0), frozenset(Fate(kind, nth) for kind in wanted))
        self.fates.over = True
        market = [Print(1, SYMBOL, D("731.00")), Print(11, SYMBOL, D("731.00")), *prints]
        self.world = World(GRID, market, self.fates, origin_ms=0, speed=SPEED)
        self.world.act(5)
        self.world.submit(ENTRY)
        self.world.act(20)
        self.fates.over = False
        self.scheduler = Scheduler(
            AtRandom(seed, 0.0), HANDS.lend, origin_ms=0, speed=SPEED, outside=self.world, mono_ms=self.world.mono_ms
        )
        self.broker = SimBroker(self.world, self.scheduler, self.fates)

    def call(self, act: Callable[[SimBroker], object]) -> Answer:
        """On a thread of the simulated process. The error where it raises one."""
        out: list[object] = []

        def main() -> None:
            try:
                out.append(act(self.broker))
            except BrokerError as error:
                out.append(error)

        before_ms = self.world.mono_ms
        Scheduler.run(self.scheduler, main)
        self._next_life()
        return Answer(out[0], self.world.mono_ms - before_ms)

    def resting_stop(self) -> Order:
        return replace(STOP, venue_id=self.world.submit(STOP))

    def wait(self, ms: int) -> None:
        self.world.act(self.world.mono_ms + ms)
        self._next_life()

    def rows(self, of: Purpose) -> list[OrderRow]:
        return [self.world.row(venue_id) for venue_id, order in self.world.placed.items() if order.purpose is of]

    def _next_life(self) -> None:
        self.world.act(max(self.world.mono_ms, self.scheduler.mono_ms))
        self.scheduler = Scheduler(
            AtRandom("again", 0.0), HANDS.lend, origin_ms=0, speed=SPEED, outside=self.world, mono_ms=self.world.mono_ms
        )
        self.broker = SimBroker(self.world, self.scheduler, self.fates)


def error_of(answer: Answer) -> type[object] | None:
    return type(answer.value) if isinstance(answer.value, BrokerError) else None


# -- the way there and back ----------------------------------------------------------------------------------------------------

# what -> the error, done when the answer comes, done in the end
TRANSPORT: dict[str, tuple[type[BrokerError] | None, bool, bool]] = {
    "refused": (Refused, False, False),
    "unavailable": (Unavailable, False, False),
    "throttled": (Unavailable, False, False),
    "slow_there": (None, True, True),
    "slow_back": (None, True, True),
    "lost_there": (Unanswered, False, False),
    "lost_back": (Unanswered, True, True),
    "late": (Unanswered, False, True),
}


def asked(bench: Bench, call: str) -> tuple[Callable[[SimBroker], object], Callable[[], bool]]:
    """One order call, and whether the book shows it done."""
    if call == "orders":
        return lambda broker: broker.submit(STOP), lambda: bool(bench.rows(Purpose.STOP))
    stop = bench.resting_stop()
    if call == "replace":
        return (
            lambda broker: broker.replace(stop, FIVE, HIGHER, None),
            lambda: bench.rows(Purpose.STOP)[0].trigger_price == HIGHER,
        )
    return lambda broker: broker.cancel(stop), lambda: bench.rows(Purpose.STOP)[0].state is Reported.CANCELLED


@pytest.mark.parametrize("call", ["orders", "replace", "cancel"])
@pytest.mark.parametrize("what", TRANSPORT)
def test_what_the_network_does_to_an_order_call(call: str, what: str) -> None:
    """UNK-01, UNK-02, UNK-06, UNK-07, UNK-11, NET-01."""
    bench = Bench([f"{call}.{what}"])
    act, done = asked(bench, call)

    answer = bench.call(act)
    done_now = done()
    bench.wait(SETTLE_MS)

    assert (error_of(answer), done_now, done()) == TRANSPORT[what]
    assert bench.fates.counts() == {f"{call}.{what}": 1}


@pytest.mark.parametrize("call", ["orders", "replace", "cancel"])
def test_without_a_fault_a_call_is_done_and_answered_in_no_time(call: str) -> None:
    bench = Bench()
    act, done = asked(bench, call)

    answer = bench.call(act)

    assert (error_of(answer), answer.took_ms, done()) == (None, CALM_MS, True)
    assert bench.world.troubled_until_ms == 0


@pytest.mark.parametrize("what", ["slow_there", "slow_back"])
def test_a_slow_call_takes_its_time_and_the_oracle_knows(what: str) -> None:
    """PRO-01."""
    bench = Bench([f"orders.{what}"])
    before_ms = bench.world.mono_ms

    answer = bench.call(lambda broker: broker.submit(STOP))

    late_ms = answer.took_ms - CALM_MS
    assert SLOW_MS[0] <= late_ms <= SLOW_MS[1]
    assert bench.world.troubled_until_ms >= before_ms + late_ms
    accepted_ms = bench.world.history[answer.value][0][0]
    assert accepted_ms - before_ms == (THERE_MS + late_ms if what == "slow_there" else THERE_MS)


def test_a_slow_reply_lets_the_fill_come_first() -> None:
    """FIL-03."""
    bench = Bench(["orders.slow_back"], prints=[Print(60, SYMBOL, D("731.20"))])

    answer = bench.call(lambda broker: broker.submit(EXIT))

    assert bench.world.row(answer.value).state is Reported.FILLED


def test_a_silent_stop_is_in_doubt_for_the_whole_settle_window_and_an_entry_only_until_the_error() -> None:
    stop, entry = Bench(["orders.lost_there"]), Bench(["orders.lost_there"])

    stop_answer = stop.call(lambda broker: broker.submit(STOP))
    entry_answer = entry.call(lambda broker: broker.submit(ENTRY))

    assert stop.world.troubled_until_ms - stop.world.mono_ms == SETTLE_MS
    assert entry.world.troubled_until_ms == entry.world.mono_ms
    for answer in (stop_answer, entry_answer):
        assert SILENCE_MS[0] <= answer.took_ms - THERE_MS <= SILENCE_MS[1]


def test_what_is_on_its_way_arrives_though_the_process_is_gone() -> None:
    """CRA-01."""
    bench = Bench(["orders.late"])

    bench.call(lambda broker: broker.submit(STOP))
    bench.wait(LATE_MS[1])

    assert [row.state for row in bench.rows(Purpose.STOP)] == [Reported.WORKING]


@pytest.mark.parametrize("seed", range(25))
def test_whatever_hides_an_unanswered_order_it_is_seen_within_the_settle_window(seed: int) -> None:
    """UNK-07: the one assumption that everything rests on."""
    bench = Bench(["orders.late", "orders.hidden", "reads.stale_orders"], seed=str(seed))
    bench.call(lambda broker: broker.submit(STOP))

    bench.wait(SETTLE_MS - THERE_MS)
    answer = bench.call(lambda broker: broker.orders())

    assert len(bench.fates.struck) == 3
    assert [row.side for row in answer.value] == [Side.BUY, Side.SELL]


def test_one_fault_breaks_the_assumption_and_says_so() -> None:
    """UNK-08."""
    bench = Bench(["orders.beyond_window"])

    answer = bench.call(lambda broker: broker.submit(STOP))
    bench.wait(SETTLE_MS)
    within = bench.rows(Purpose.STOP)
    bench.wait(BEYOND_MS[1] - SETTLE_MS)

    assert (error_of(answer), within) == (Unanswered, [])
    assert [row.state for row in bench.rows(Purpose.STOP)] == [Reported.WORKING]
    assert KINDS["orders.beyond_window"].words.startswith("BREAKS THE ASSUMPTION")


# -- what the venue does to an order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "state"), [("orders.id_in_error", Reported.WORKING), ("orders.id_rejected", Reported.REJECTED)])
def test_an_error_may_name_the_orders_id(kind: str, state: Reported) -> None:
    """UNK-05."""
    bench = Bench([kind])

    answer = bench.call(lambda broker: broker.submit(STOP))

    (row,) = bench.rows(Purpose.STOP)
    assert (error_of(answer), answer.value.venue_id, row.state) == (Unanswered, row.venue_id, state)


def test_an_order_is_rejected_after_it_was_accepted_and_fills_nothing_before() -> None:
    """ENT-05."""
    bench = Bench(["orders.rejected_later"], prints=[Print(65, SYMBOL, D("700"))])

    answer = bench.call(lambda broker: broker.submit(STOP))
    bench.wait(20)
    after_the_print = bench.world.row(answer.value)
    bench.wait(2_000)

    assert (after_the_print.state, after_the_print.filled) == (Reported.WORKING, ZERO)
    assert bench.world.row(answer.value).state is Reported.REJECTED


@pytest.mark.parametrize("seed", range(6))
def test_the_venue_ends_an_order_unasked(seed: int) -> None:
    """PRO-03."""
    bench = Bench(["orders.ended_by_venue"], seed=str(seed))

    answer = bench.call(lambda broker: broker.submit(STOP))
    bench.wait(20_000)

    assert bench.world.row(answer.value).state in (Reported.CANCELLED, Reported.EXPIRED)
    assert bench.world.troubled_until_ms > 0


def test_a_stop_may_become_another_order_on_its_way() -> None:
    """PRO-13."""
    booked = {}
    for kind in ("orders.retyped", "orders.shrunk", "orders.moved"):
        bench = Bench([kind])
        venue_id = bench.call(lambda broker: broker.submit(STOP)).value
        row = bench.world.row(venue_id)
        booked[kind] = (row.type, row.qty, row.trigger_price, row.limit_price)
        assert bench.world.placed[venue_id] == STOP

    moved = booked.pop("orders.moved")
    assert booked == {
        "orders.retyped": (OrderType.LIMIT, FIVE, None, LEVEL),
        "orders.shrunk": (OrderType.STOP, D(2), LEVEL, None),
    }
    assert moved[:2] == (OrderType.STOP, FIVE)
    assert moved[2] is not None and LEVEL - D("0.50") <= moved[2] < LEVEL


def test_a_retyped_stop_fills_at_the_next_price_or_rests_for_good() -> None:
    ends = set()
    for seed in range(12):
        bench = Bench(["orders.retyped"], seed=str(seed), prints=[Print(100, SYMBOL, D("731.10"))])
        venue_id = bench.call(lambda broker: broker.submit(STOP)).value
        bench.wait(200)
        ends.add(bench.world.row(venue_id).state.value)

    assert sorted(ends) == ["FILLED", "WORKING"]


def test_an_entry_keeps_its_type_and_quantity() -> None:
    bench = Bench(["orders.retyped", "orders.shrunk", "orders.moved"])

    bench.call(lambda broker: broker.submit(ENTRY))

    assert bench.fates.struck == []


def test_an_order_in_pieces_fills_a_little_with_each_trade() -> None:
    """FIL-05."""
    bench = Bench(["orders.pieces"], prints=[Print(70 + 10 * nth, SYMBOL, D("731.00")) for nth in range(3)])
    venue_id = bench.call(lambda broker: broker.submit(EXIT)).value

    filled = []
    for _ in range(3):
        bench.wait(10)
        filled.append(bench.world.row(venue_id).filled)

    assert filled == [D(2), D(4), D(5)]


def test_a_new_order_is_in_no_book_for_a_moment() -> None:
    """REC-11."""
    bench = Bench(["orders.hidden"])
    stop = replace(STOP, venue_id=bench.call(lambda broker: broker.submit(STOP)).value)

    at_once = bench.call(lambda broker: (broker.order(stop), [row.side for row in broker.orders()]))
    bench.wait(sim_venue.HIDDEN_MS)
    later = bench.call(lambda broker: (broker.order(stop), [row.side for row in broker.orders()]))

    assert at_once.value == (None, [Side.BUY])
    assert later.value == (bench.world.row(stop.venue_id or ""), [Side.BUY, Side.SELL])


# kind -> trigger when the answer comes, trigger in the end
CHANGES = {
    "replace.ignored": (LEVEL, LEVEL),
    "replace.lags": (LEVEL, HIGHER),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_acknowledged_and_not_done_or_later(kind: str) -> None:
    """PRO-08."""
    bench = Bench([kind])
    stop = bench.resting_stop()

    answer = bench.call(lambda broker: broker.replace(stop, FIVE, HIGHER, None))
    at_once = bench.rows(Purpose.STOP)[0].trigger_price
    bench.wait(1_500)

    assert error_of(answer) is None
    assert (at_once, bench.rows(Purpose.STOP)[0].trigger_price) == CHANGES[kind]


def test_a_change_that_lags_gives_way_to_a_newer_one() -> None:
    bench = Bench(["replace.lags"])
    stop = bench.resting_stop()

    bench.call(lambda broker: broker.replace(stop, FIVE, HIGHER, None))
    bench.call(lambda broker: broker.replace(stop, FIVE, D("730.95"), None))
    bench.wait(1_500)

    assert bench.rows(Purpose.STOP)[0].trigger_price == D("730.95")


def test_a_change_falls_short_of_what_was_asked() -> None:
    bench = Bench(["replace.bent"])
    stop = bench.resting_stop()

    bench.call(lambda broker: broker.replace(stop, FIVE, HIGHER, None))

    trigger = bench.rows(Purpose.STOP)[0].trigger_price
    assert trigger is not None and HIGHER - D("0.15") <= trigger < HIGHER


@pytest.mark.parametrize(("kind", "in_the_end"), [("cancel.ignored", Reported.WORKING), ("cancel.lags", Reported.CANCELLED)])
def test_a_cancel_is_acknowledged_and_not_done_or_later(kind: str, in_the_end: Reported) -> None:
    bench = Bench([kind])
    stop = bench.resting_stop()

    answer = bench.call(lambda broker: broker.cancel(stop))
    at_once = bench.rows(Purpose.STOP)[0].state
    bench.wait(3_000)

    assert (error_of(answer), at_once, bench.rows(Purpose.STOP)[0].state) == (None, Reported.WORKING, in_the_end)


@pytest.mark.parametrize("call", ["cancel", "replace"])
def test_a_cancel_or_a_change_loses_to_a_fill(call: str) -> None:
    """ENT-09, PRO-12, EXI-07: all of it and the answer is a refusal, or a part and it is done to the rest."""
    seen = set()
    for seed in range(20):
        bench = Bench([f"{call}.loses"], seed=str(seed))
        act, _ = asked(bench, call)
        answer = bench.call(act)
        row = bench.rows(Purpose.STOP)[0]
        seen.add((error_of(answer), row.state.value, row.filled == FIVE))
        assert row.filled and bench.world.held(SYMBOL) == FIVE - row.filled

    done = "CANCELLED" if call == "cancel" else "WORKING"
    assert seen == {(Refused, "FILLED", True), (None, done, False)}


def test_a_cancelled_order_fills_all_the_same() -> None:
    """FIL-07: the other promise that a venue may break."""
    bench = Bench(["cancel.undone"])
    stop = bench.resting_stop()

    bench.call(lambda broker: broker.cancel(stop))
    confirmed = bench.rows(Purpose.STOP)[0].state
    bench.wait(4_000)

    assert confirmed is Reported.CANCELLED
    assert (bench.rows(Purpose.STOP)[0].state, bench.world.held(SYMBOL)) == (Reported.FILLED, ZERO)


# -- what the books show -------------------------------------------------------------------------------------------------------

Look = Callable[[SimBroker], object]
BOOKS: dict[str, Look] = {
    "orders": lambda broker: broker.orders(),
    "fills": lambda broker: broker.fills(),
    "positions": lambda broker: broker.positions(),
    "order": lambda broker: broker.order(replace(STOP, venue_id="260000002")),
    "quotes": lambda broker: broker.quotes([SYMBOL]),
}


def truth(bench: Bench, book: str) -> Any:
    engine = bench.world.engine
    if book == "quotes":
        return {SYMBOL: D("731.00")}
    return bench.world.row("260000002") if book == "order" else getattr(engine, book)()


def show(bench: Bench, book: str) -> Any:
    return bench.call(BOOKS[book]).value


@pytest.mark.parametrize("book", BOOKS)
def test_a_calm_book_shows_the_truth(book: str) -> None:
    bench = Bench()
    bench.resting_stop()

    assert show(bench, book) == truth(bench, book)


@pytest.mark.parametrize("book", BOOKS)
def test_a_read_fails_is_unreadable_or_slow(book: str) -> None:
    """REC-03, REC-14: never "empty"."""
    failed, garbled, slow = Bench([f"reads.{book}_fail"]), Bench(["reads.unreadable"]), Bench(["reads.slow"])
    for bench in (failed, garbled, slow):
        bench.resting_stop()

    assert (type(show(failed, book)), type(show(garbled, book))) == (Unavailable, Unreadable)
    answer = slow.call(BOOKS[book])
    assert answer.value == truth(slow, book) and answer.took_ms >= CALM_MS + SLOW_MS[0]
    assert show(failed, book) == truth(failed, book)


def blurred(rows: list[OrderRow], **values: Any) -> list[OrderRow]:
    return [replace(row, **values) for row in rows]


# kind -> which book, and what it makes of the truth
SHOWN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "reads.untold": ("orders", lambda rows: blurred(rows, filled=None, average=None)),
    "reads.complete_empty": ("orders", lambda rows: [*blurred(rows[:1], filled=ZERO, average=ZERO), *rows[1:]]),
    "reads.wrong_complete": (
        "orders",
        lambda rows: [*rows[:1], *blurred(rows[1:], state=Reported.FILLED, filled=None, average=ZERO)],
    ),
    "reads.twice": ("fills", lambda rows: rows + rows),
    "reads.reversed": ("orders", lambda rows: rows[::-1]),
    "reads.no_positions": ("positions", lambda rows: []),
    "reads.zero_positions": ("positions", lambda rows: [PositionRow(SYMBOL, ZERO)]),
    "reads.no_order": ("order", lambda row: None),
    "reads.unclear": ("order", lambda row: replace(row, state=Reported.UNCLEAR)),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_book_tells_less_more_or_something_else_once(kind: str) -> None:
    """REC-01, FIL-02, FIL-09, NET-14."""
    bench = Bench([kind])
    bench.resting_stop()
    book, as_shown = SHOWN[kind]

    assert show(bench, book) == as_shown(truth(bench, book))
    assert show(bench, book) == truth(bench, book)


def test_one_status_of_the_order_book_is_a_word_nobody_knows() -> None:
    bench = Bench(["reads.unclear"])
    bench.resting_stop()

    words = sorted(row.state.value for row in show(bench, "orders"))

    assert words in (["FILLED", "UNCLEAR"], ["UNCLEAR", "WORKING"])


def test_an_order_that_everybody_knows_by_now_is_never_denied() -> None:
    bench = Bench(["reads.no_order"])
    bench.resting_stop()
    bench.wait(sim_shown.STALE_MS + 1)

    assert show(bench, "order") == truth(bench, "order")


STALE: dict[str, tuple[str, object]] = {
    "reads.stale_orders": ("orders", ["260000001"]),
    "reads.stale_order": ("order", None),
    "reads.stale_fills": ("fills", ["260000001"]),
    "reads.stale_positions": ("positions", [FIVE]),
}


@pytest.mark.parametrize("kind", STALE)
def test_a_book_is_as_it_was_a_while_ago(kind: str) -> None:
    """PRO-03, REC-04: here before the stop was placed, and before it filled."""
    book, before = STALE[kind]
    bench = Bench([kind], prints=[Print(4_025, SYMBOL, D("700"))])
    bench.wait(4_000)
    bench.resting_stop()
    bench.wait(10)

    shown = show(bench, book)
    now = show(bench, book)

    if isinstance(shown, list):
        shown = [getattr(row, "venue_id", None) or row.qty for row in shown]
    assert shown == before
    assert now == truth(bench, book) and bench.world.held(SYMBOL) == ZERO


# -- a venue that serves nobody ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error", "most_ms"),
    [("venue.expired", Fatal, 8_000), ("venue.maintenance", Unavailable, 8_000), ("venue.limited", Unavailable, 3_000)],
)
def test_an_outage_is_everybodys_and_ends(kind: str, error: type[BrokerError], most_ms: int) -> None:
    """NET-04, NET-13."""
    bench = Bench([kind])

    began_ms = bench.world.mono_ms
    first = bench.call(lambda broker: broker.orders())
    until_ms = bench.world.outages[kind]
    second = bench.call(lambda broker: broker.submit(STOP))
    bench.wait(max(until_ms - bench.world.mono_ms, 0))
    third = bench.call(lambda broker: broker.submit(STOP))

    assert (error_of(first), error_of(second), error_of(third)) == (error, error, None)
    assert until_ms - began_ms <= most_ms + CALM_MS and bench.world.troubled_until_ms >= until_ms
    assert len(bench.rows(Purpose.STOP)) == 1


def test_a_busy_venue_answers_a_second_later() -> None:
    bench = Bench(["venue.busy"])

    assert bench.call(lambda broker: broker.orders()).took_ms == CALM_MS + 1_000


def test_who_starts_the_runner_has_logged_in() -> None:
    bench = Bench(["venue.expired"])
    bench.call(lambda broker: broker.orders())

    assert bench.call(lambda broker: broker.check()).value == "analyze"
    assert error_of(bench.call(lambda broker: broker.orders())) is None


# -- all of it -----------------------------------------------------------------------------------------------------------------


def a_long_day(seed: str) -> tuple[list[str], Fates]:
    """Every call, again and again, with every fault at once: what was answered, when, and what the book came to."""
    fates = Fates(seed, {kind: 0.006 if kind.startswith("venue.") else 0.08 for kind in KINDS})
    prints = [Print(500 * nth, SYMBOL, D("731.00") + D("0.05") * (nth * 7 % 40)) for nth in range(1, 3_000)]
    world = World(GRID, prints, fates, origin_ms=0, speed=SPEED)
    scheduler = Scheduler(AtRandom(seed, 0.0), HANDS.lend, origin_ms=0, speed=SPEED, outside=world)
    broker = SimBroker(world, scheduler, fates)
    lines: list[str] = []

    def tell(what: str, act: Callable[[], object]) -> object:
        try:
            answer = act()
        except BrokerError as error:
            answer = error
        lines.append(f"{scheduler.mono_ms} {what} {answer!r}")
        return answer

    def main() -> None:
        for _ in range(150):
            answer = tell("submit", lambda: broker.submit(STOP))
            stop = replace(STOP, venue_id=answer if isinstance(answer, str) else "260000001")
            tell("order", partial(broker.order, stop))
            tell("replace", partial(broker.replace, stop, FIVE, HIGHER, None))
            tell("orders", lambda: broker.orders()[-2:])
            tell("positions", broker.positions)
            tell("fills", lambda: broker.fills()[-2:])
            tell("quotes", lambda: broker.quotes([SYMBOL]))
            tell("cancel", partial(broker.cancel, stop))

    scheduler.run(main)
    return [*lines, *(repr(row) for row in world.engine.orders())], fates


def test_the_same_seed_makes_the_same_day_and_another_seed_another() -> None:
    once, again, other = a_long_day("7"), a_long_day("7"), a_long_day("8")

    assert (once[0], once[1].struck) == (again[0], again[1].struck)
    assert once[0] != other[0]


def test_every_kind_that_is_declared_does_strike() -> None:
    struck = {kind for seed in ("7", "8", "9") for kind in a_long_day(seed)[1].counts()}

    assert sorted(KINDS) == sorted(struck)
    assert len(KINDS) >= 60 and all(0 < kind.rate <= 0.1 for kind in KINDS.values())
