"""The oracle's rules on halts, on how many may be open, and on who is late after the cutoff: broken, and only nearly so."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulation.fates import Fates
from simulation.policies import AtRandom, scheduler
from simulation.sim_mutants import busy
from simulation.watch import Watch
from simulation.world import Print, World
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from tests.simulation.test_simulate import CONFIG
from tests.simulation.test_watch import BOUNDS, CUTOFF_MS, Day

SYMBOLS = ("SBIN", "ITC", "INFY")
TEN = Decimal(10)


@pytest.mark.parametrize(
    ("reason", "kind", "broken"),
    [
        ("DIVERGED: venue holds 0, our fills say 10", None, ["I12"]),
        ("entry order quarantined: 1 and 2 look like it", None, ["I12"]),
        ("DIVERGED: venue holds 0, our fills say 10", "people.close", []),
        ("entry order quarantined: 1 and 2 look like it", "people.order", []),
        ("QUARANTINED: held for never sent", "orders.beyond_window", []),
        ("strategy mine raised ZeroDivisionError: by zero", None, []),
    ],
)
def test_a_halt_needs_a_reason_that_the_venue_or_the_strategy_has_given(reason: str, kind: str | None, broken: list[str]) -> None:
    """REC-01, REC-04: a symbol that is lost for the day because of an answer that came late is a violation, not a precaution."""
    day = Day()
    if kind is not None:
        day.strikes(kind)
    day.believes(halted=reason)

    day.wait(3_000)

    assert day.broken == broken


@pytest.mark.parametrize(("lies", "broken"), [(1, ["I12"]), (2, [])])
def test_two_answers_that_agree_are_a_reason_to_halt_and_one_is_not(lies: int, broken: list[str]) -> None:
    """REC-12 and REC-01."""
    day = Day()
    for _ in range(lies):
        day.strikes("reads.no_positions")
    day.believes(halted="DIVERGED: venue holds 0, our fills say 10")

    day.wait(3_000)

    assert day.broken == broken


def _entry(symbol: str) -> Order:
    side, kind, price = Side.BUY, OrderType.STOP_LIMIT, Decimal("100.50")
    return Order(f"{symbol}-20261120-E0", symbol, Purpose.ENTRY, side, kind, TEN, price, price)


@pytest.mark.parametrize(
    ("most", "broken"),
    [(None, []), (3, []), (2, ["INFY-20261120-E0 is an entry beside 2 others, 2 are allowed"])],
)
def test_no_more_may_be_open_or_under_way_at_one_time_than_allowed(most: int | None, broken: list[str]) -> None:
    """RIS-04: a position counts, and an entry that rests."""
    grids = {symbol: Instrument(symbol, "SIM", Decimal("0.05")) for symbol in SYMBOLS}
    world = World(grids, [], Fates("x", {}), origin_ms=0, speed=1.0)
    watch = Watch(world, {}, BOUNDS, most_open=most, stop_at_first=False)
    watch.attach({}, scheduler(AtRandom("x", 0)))
    for symbol in SYMBOLS:
        world._trade(Print(0, symbol, Decimal(100)))

    world.submit(_entry("SBIN"))
    world._trade(Print(0, "SBIN", Decimal("100.50")))
    world.submit(_entry("ITC"))
    world.submit(_entry("INFY"))

    assert [(found.invariant, found.text) for found in watch.violations] == [("I7", text) for text in broken]


@pytest.mark.parametrize(("exits", "late"), [(10, set()), (9, {"SBIN"}), (0, {"SBIN"})])
def test_who_has_an_exit_for_all_of_it_at_work_is_not_late(exits: int, late: set[str]) -> None:
    """EXI-01, EXI-07: how fast a market order fills is the market's business; that there is one is the runner's."""
    day = Day()
    day.hold(stop=None)
    if exits:
        day.world.engine.caps[day.place("X1", qty=exits)] = Decimal(0)  # nobody buys

    day.wait(CUTOFF_MS + BOUNDS.flat_ms + 1_000)

    assert day.watch._late == late


def test_on_the_busy_days_of_the_mutants_triggers_count_and_entries_wait_until_the_cutoff() -> None:
    config = busy(CONFIG)

    assert {strategy.params.trigger_window_ms for strategy in config.strategies} == {24 * 3_600_000}
    assert config.orders.entry_timeout_ms == 24 * 3_600_000


def test_trouble_of_another_symbol_is_no_excuse() -> None:
    day = Day()
    day.hold(stop=None)
    day.world.troubled(60_000, "ITC")

    day.wait(BOUNDS.bare_ms + 200)

    assert day.broken == ["I4"]


def test_trouble_of_the_symbol_or_of_all_is_one_until_it_is_over() -> None:
    day = Day()
    day.hold(stop=None)
    day.world.troubled(2_000, "SBIN")
    day.world.troubled(2_500)

    day.wait(2_500 + BOUNDS.bare_ms - 100)
    before = day.broken
    day.wait(400)

    assert (before, day.broken) == ([], ["I4"])


def test_trouble_that_comes_again_and_again_is_no_excuse_for_ever() -> None:
    """Each time it is over half of the bound passes; twice the bound in all is enough."""
    day = Day()
    day.hold(stop=None)
    quiet_ms, rounds = BOUNDS.bare_ms // 2, 0
    while not day.broken and rounds < 20:
        day.world.troubled(1_000)
        day.wait(1_000 + quiet_ms)
        rounds += 1

    assert (day.broken, 4 <= rounds <= 6) == (["I4"], True)
