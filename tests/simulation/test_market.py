"""The made-up market: on the grid, in order, the same for everybody, and worth trading."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise

import pytest

from simulation.market import LARGEST_STEP, prints
from simulation.world import Print
from state.instrument import Instrument

D = Decimal
LENGTH_MS = 180_000
LEVEL = D("812.40")
SBIN = Instrument("SBIN", "SIM", D("0.05"))
MAX_JUMP = D("0.2")  # of the feed
GRIDS = {
    "usual": (D("812.70"), LEVEL, SBIN),
    "no level": (D("812.70"), None, SBIN),
    "off the grid": (D("812.713"), D("812.401"), SBIN),
    "cheap": (D("0.20"), D("0.15"), Instrument("PENNY", "SIM", D("0.05"))),
    "tiny": (D("0.000012"), D("0.0000121"), Instrument("TINY", "SIM", D("0.0000001"), D("1000"))),
    "dear": (D("65000.1"), D("65010.0"), Instrument("BTC", "SIM", D("0.1"), D("0.0001"))),
}


def day(name: str, seed: str) -> list[Print]:
    return prints({name: GRIDS[name]}, seed, LENGTH_MS, 130)


def days(name: str, count: int = 40) -> Iterator[list[Print]]:
    return (day(name, f"seed {number}") for number in range(count))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_every_price_is_above_0_on_the_grid_and_of_a_size_that_can_be_had(name: str) -> None:
    grid = GRIDS[name][2]
    for made in days(name):
        assert all(print_.price > 0 and grid.on_grid(print_.price) for print_ in made)
        assert all(print_.available is None or print_.available % grid.lot_size == 0 for print_ in made)


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_so_many_prints_in_the_order_of_time_and_on_to_the_close(name: str) -> None:
    for made in days(name):
        times = [print_.at_ms for print_ in made]
        assert len(made) == 130
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] == LENGTH_MS


def test_several_symbols_are_merged_by_time_from_where_the_session_starts() -> None:
    both = prints({"A": GRIDS["usual"], "B": GRIDS["dear"]}, "two", LENGTH_MS, 50, start_ms=5_000)

    assert [(print_.at_ms, print_.symbol) for print_ in both] == sorted((print_.at_ms, print_.symbol) for print_ in both)
    assert {print_.symbol for print_ in both} == {"A", "B"}
    assert both[0].at_ms >= 5_000
    assert both[-1].at_ms == 5_000 + LENGTH_MS


def test_one_symbol_moves_as_it_does_alone() -> None:
    alone = prints({"A": GRIDS["usual"]}, "one", LENGTH_MS, 50)
    beside = prints({"B": GRIDS["dear"], "A": GRIDS["usual"]}, "one", LENGTH_MS, 50)

    assert [print_ for print_ in beside if print_.symbol == "A"] == alone


def test_the_same_seed_gives_the_same_market_on_every_python() -> None:
    made = prints({"A": GRIDS["usual"], "B": GRIDS["no level"]}, "fixed", LENGTH_MS, 130)
    text = "\n".join(f"{print_.at_ms} {print_.symbol} {print_.price} {print_.available}" for print_ in made)

    assert sha256(text.encode()).hexdigest()[:16] == "5ca711530b4cf4ce"
    assert made != prints({"A": GRIDS["usual"], "B": GRIDS["no level"]}, "other", LENGTH_MS, 130)


def test_most_days_reach_a_trigger_and_then_an_entry_within_the_first_hour() -> None:
    """80-20: at or below entry - 10 ticks, then back at the entry before the entry's time is over."""
    hour_ms, patience_ms, minute_ms = LENGTH_MS * 60 // 375, LENGTH_MS * 15 // 375, LENGTH_MS // 375
    reached = 0
    for made in days("usual", 100):
        armed = [p.at_ms for p in made if p.price <= LEVEL - SBIN.ticks(10) and minute_ms < p.at_ms < hour_ms]
        crossed = [p.at_ms for p in made if p.price >= LEVEL]
        reached += any(at_ms < back_ms < at_ms + patience_ms for at_ms in armed for back_ms in crossed)

    assert reached >= 85


def test_steps_stay_below_what_the_feed_takes_for_an_error_but_for_the_wild_ones() -> None:
    jumps = [abs(b.price - a.price) / a.price for made in days("usual", 100) for a, b in pairwise(made)]

    believed = [jump for jump in jumps if jump <= MAX_JUMP]
    wild = len(jumps) - len(believed)
    assert max(believed) <= LARGEST_STEP * D("1.5")
    assert 0 < wild < len(jumps) // 500


def test_there_are_gaps_halts_ties_thin_prints_and_days_that_rise_to_the_close() -> None:
    gaps = halts = ties = thin = none_to_have = rising = 0
    for made in days("usual", 60):
        for before, after in pairwise(made):
            gaps += before.price - after.price >= SBIN.ticks(22)
            halts += after.at_ms - before.at_ms > 8_000
            ties += before.price == after.price
            thin += after.available is not None
            none_to_have += after.available == 0
        rising += made[-1].price >= LEVEL + SBIN.ticks(40) and made[-40].price > LEVEL + SBIN.ticks(20)

    assert min(gaps, halts, ties, thin, none_to_have, rising) >= 10, (gaps, halts, ties, thin, none_to_have, rising)


def test_nothing_halts_in_the_last_quarter_so_that_exits_fill() -> None:
    for made in days("usual", 100):
        late = [print_.at_ms for print_ in made if print_.at_ms > LENGTH_MS * 3 // 4]
        assert max(after - before for before, after in pairwise(late)) < 8_000
