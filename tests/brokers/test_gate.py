"""The price gate: which prices get through, which are refused, and what a jump needs to be believed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokers.gate import PriceGate, Refusal

D = Decimal


def judged(gate: PriceGate, *prints: tuple[str, int]) -> list[Refusal | None]:
    return [gate.judge(D(price), at_ms) for price, at_ms in prints]


@pytest.mark.parametrize(
    ("price", "refusal"),
    [
        (D("NaN"), Refusal.NOT_FINITE),
        (D("sNaN"), Refusal.NOT_FINITE),
        (D("Infinity"), Refusal.NOT_FINITE),
        (D("-Infinity"), Refusal.NOT_FINITE),
        (D("0"), Refusal.NOT_POSITIVE),
        (D("-0"), Refusal.NOT_POSITIVE),
        (D("-1"), Refusal.NOT_POSITIVE),
        (D("1e400"), Refusal.ABSURD),
        (D("1e-400"), Refusal.ABSURD),
        (100.5, Refusal.OFF_TYPE),
        (100, Refusal.OFF_TYPE),
        (True, Refusal.OFF_TYPE),
        (None, Refusal.OFF_TYPE),
        ("100.5", Refusal.OFF_TYPE),
    ],
)
@pytest.mark.parametrize("reference", [None, D(100)])
def test_what_is_no_price_is_refused_and_counted(price: Decimal, refusal: Refusal, reference: Decimal | None) -> None:
    """FEE-05, also as the very first price."""
    gate = PriceGate(reference)

    answer = gate.judge(price, 1000)

    assert (answer, gate.refused, gate.price, gate.at_ms) == (refusal, {refusal: 1}, reference, 0)


def test_small_and_large_prices_that_exist_are_fine() -> None:
    """FEE-05: 5.1e-05 is a price."""
    assert [PriceGate().judge(D(price), 1) for price in ("5.1e-05", "7.3115e2", "1e8")] == [None, None, None]


def test_an_older_tick_is_refused_and_an_equal_time_is_not() -> None:
    """FEE-07, FEE-04"""
    gate = PriceGate()

    answers = judged(gate, ("100", 2000), ("101", 1999), ("100", 2000), ("102", 2000), ("103", 2001))

    assert answers == [None, Refusal.OLD, None, None, None]
    assert (gate.price, gate.at_ms, gate.refused) == (D(103), 2001, {Refusal.OLD: 1})


def test_one_wild_print_causes_nothing() -> None:
    """FEE-06"""
    gate = PriceGate()

    answers = judged(gate, ("100", 1), ("1000", 2), ("100.05", 3), ("1000", 4), ("100.10", 5))

    assert answers == [None, Refusal.HELD, None, Refusal.HELD, None]
    assert (gate.price, gate.held, gate.refused) == (D("100.10"), None, {Refusal.HELD: 2})


def test_a_second_print_near_it_confirms_a_jump() -> None:
    """FEE-06"""
    gate = PriceGate()

    answers = judged(gate, ("100", 1), ("75", 2), ("75.5", 3), ("76", 4), ("100", 5))

    assert answers == [None, Refusal.HELD, None, None, Refusal.HELD]
    assert gate.price == D(76)


def test_two_wild_prints_that_disagree_confirm_nothing() -> None:
    """FEE-06"""
    gate = PriceGate(D(100))

    assert judged(gate, ("1000", 1), ("10", 2), ("1000", 3)) == [Refusal.HELD] * 3
    assert gate.price == D(100)


def test_the_same_print_heard_twice_confirms_nothing() -> None:
    """FEE-04, FEE-06: a replayed message is not a second print; the same price a moment later is."""
    gate = PriceGate(D(100))

    assert judged(gate, ("1000", 1), ("1000", 1), ("1000", 2)) == [Refusal.HELD, Refusal.HELD, None]


def test_a_quote_confirms_a_jump() -> None:
    """FEE-06"""
    gate = PriceGate(D(100))
    gate.quote = D(131)

    assert judged(gate, ("1000", 1), ("130", 2)) == [Refusal.HELD, None]


def test_exactly_the_jump_is_believed_and_more_is_not() -> None:
    assert judged(PriceGate(D(100)), ("120", 1)) == [None]
    assert judged(PriceGate(D(100)), ("80", 1)) == [None]
    assert judged(PriceGate(D(100)), ("120.01", 1)) == [Refusal.HELD]
    assert judged(PriceGate(D(100)), ("79.99", 1)) == [Refusal.HELD]


def test_the_jump_is_measured_from_the_last_price_however_far_it_has_crept() -> None:
    gate = PriceGate(D(100))
    creep = [(str(100 + step), step) for step in range(1, 200)]

    assert judged(gate, *creep, ("239.19", 200), ("359", 201)) == [None] * 199 + [Refusal.HELD, Refusal.HELD]
    assert judged(gate, ("299", 202), ("250", 203)) == [None, None]


def test_beyond_the_days_band_needs_a_second_print() -> None:
    """FEE-06: 110 is no jump from 105, but the band ends at 108."""
    gate = PriceGate(D(100), band=(D(92), D(108)))

    answers = judged(gate, ("105", 1), ("110", 2), ("106", 3), ("110", 4), ("110.5", 5), ("111", 6), ("107", 7), ("110", 8))

    assert answers == [None, Refusal.HELD, None, Refusal.HELD, None, None, None, Refusal.HELD]


def test_the_first_price_without_a_reference_is_believed_and_with_one_it_must_be_near() -> None:
    assert judged(PriceGate(), ("1000", 1)) == [None]
    assert judged(PriceGate(D(100)), ("1000", 1)) == [Refusal.HELD]
    assert judged(PriceGate(None, band=(D(92), D(108))), ("1000", 1)) == [Refusal.HELD]


def test_a_reference_that_comes_late_judges_the_first_price_and_never_a_later_one() -> None:
    """FEE-06: the first tick after a start may be the wild one."""
    gate = PriceGate()
    gate.refer(D("248.20"))
    assert judged(gate, ("24.82", 1), ("248.30", 2)) == [Refusal.HELD, None]
    gate.refer(D(1))
    assert judged(gate, ("248.35", 3)) == [None]


def test_a_jump_of_nothing_or_of_everything_is_no_setting() -> None:
    for jump in (D(0), D(1), D(-1)):
        with pytest.raises(ValueError, match="jump must be between 0 and 1"):
            PriceGate(jump=jump)
