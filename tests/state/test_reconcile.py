"""Ours and the venue's: every difference has a name, and no fill is made up to explain one."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.events import PositionSeen
from state.ledger import Fill, Ledger
from state.orders import Purpose, Side
from state.reconcile import Finding, Shares, Verdict, compare, share_out
from tests.state.builders import BUY, SELL, SYMBOL, D, Play, both_sides


def theirs(side: Side, qty: str, at_ms: int = 0, price: str = "731.00", fee: str = "0", trade: str = "H1") -> Fill:
    return Fill(trade, f"{SYMBOL}-elsewhere-X9", Purpose.EXIT, side, D(qty), D(price), at_ms, D(fee), "INR", "elsewhere")


def verdict(position: int, foreign: int, venue: int, *news: Fill, own: tuple[tuple[int, Decimal], ...] = ()) -> Finding:
    return compare(D(position), D(foreign), D(venue), news, own)


def test_what_agrees_is_a_match_also_beside_what_others_hold() -> None:
    assert verdict(5, 0, 5) == Finding(Verdict.MATCH, "", D(0))
    assert verdict(5, 20, 25) == Finding(Verdict.MATCH, "", D(20))
    assert verdict(0, 0, 0, theirs(BUY, "3"), theirs(SELL, "3", trade="H2")) == Finding(Verdict.MATCH, "", D(0))


@pytest.mark.parametrize(
    ("venue", "news"),
    [(7, ()), (0, ()), (7, (theirs(BUY, "1"),)), (-5, (theirs(SELL, "5"),))],
    ids=["more", "none", "half", "too few"],
)
def test_a_difference_that_no_fill_explains_is_for_a_person(venue: int, news: tuple[Fill, ...]) -> None:
    """REC-12: never an invented fill."""
    found = verdict(5, 0, venue, *news)

    assert found == Finding(Verdict.DIVERGED, f"venue holds {venue}, our fills say 5", D(0))


def test_a_difference_beside_others_names_their_part() -> None:
    assert verdict(5, 20, 24).text == "venue holds 24, our fills say 5 and theirs 20"


@both_sides
def test_a_trade_against_our_position_closes_ours(side: Side) -> None:
    """REC-05."""
    fill = theirs(side.opposite, "5")

    found = compare(D(5) * side.sign, D(0), D(0), (fill,))

    words = f"closed elsewhere: {side.opposite.value} 5 @ 731.00; position now 0"
    assert found == Finding(Verdict.MISSING, words, D(0), (fill,))


def test_a_trade_that_adds_is_theirs() -> None:
    """REC-08."""
    assert verdict(5, 0, 15, theirs(BUY, "10")) == Finding(Verdict.FOREIGN, "others hold 10 of it in this account", D(10))


def test_what_others_hold_goes_first_and_fees_are_shared_by_quantity() -> None:
    """REC-08: they held 4 beside our 5 and sold 6: 2 of ours went, and 2 of 6 parts of the fee."""
    found = verdict(5, 4, 3, theirs(SELL, "6", fee="0.60"))

    assert (found.verdict, found.foreign_qty) == (Verdict.MISSING, D(0))
    assert [(fill.qty, fill.fee) for fill in found.ours] == [(D(2), D("0.2"))]


def test_one_of_theirs_that_turns_ours_round_is_said_to_have_done_so() -> None:
    """REC-06."""
    found = verdict(5, 0, -5, theirs(SELL, "10"))

    assert (found.verdict, found.turned, found.text) == (
        Verdict.MISSING,
        True,
        "closed elsewhere: SELL 10 @ 731.00; position now -5",
    )


@pytest.mark.parametrize("stop_at_ms", [9, 11], ids=["stop first", "theirs first"])
def test_whose_a_trade_was_depends_on_what_we_held_at_its_time(stop_at_ms: int) -> None:
    """EXI-08: their sale at 10; our stop before it makes it theirs, our stop after it opened what is ours to cover."""
    own = ((stop_at_ms, D(-5)),)
    found = compare(D(0), D(0), D(-5), (theirs(SELL, "5", at_ms=10),), own)

    if stop_at_ms < 10:
        assert (found.verdict, found.foreign_qty) == (Verdict.FOREIGN, D(-5))
    else:
        assert (found.verdict, found.ours[0].qty, found.turned) == (Verdict.MISSING, D(5), False)


@pytest.mark.parametrize("seed", range(20))
def test_ours_and_theirs_always_add_up_to_the_venue(seed: int) -> None:
    """REC-12: 1,000 random trades of others at each seed; ours never grows by them, and DIVERGED never comes."""
    rng = random.Random(seed)
    position, foreign = D(rng.randint(-9, 9)), D(rng.randint(-9, 9))
    venue = position + foreign
    for number in range(50):
        news = tuple(theirs(rng.choice((BUY, SELL)), str(rng.randint(1, 6)), n, trade=f"{number}/{n}") for n in range(20))
        venue += sum((fill.qty * fill.side.sign for fill in news), D(0))
        found = compare(position, foreign, venue, news)
        position += sum((fill.qty * fill.side.sign for fill in found.ours), D(0))
        foreign = found.foreign_qty
        assert found.verdict is not Verdict.DIVERGED
        if found.verdict is not Verdict.MATCH:
            assert position + foreign == venue
        else:
            foreign = venue - position


# -- when it is believed ------------------------------------------------------------------------------------------------


def seen(play: Play, qty: int, asked_ms: int, *strangers: Fill) -> list[Any]:
    return play.on(PositionSeen(qty=D(qty), asked_ms=asked_ms, strangers=strangers, **play.when))


@both_sides
def test_an_answer_older_than_our_last_fill_is_ignored(side: Side) -> None:
    """REC-04: 10,000 of them, 0 false closes."""
    rng = random.Random(4)
    play = Play(side)
    seen(play, 0, play.mono)
    play.hold()
    believed = play.s

    for _ in range(10_000):
        play.mono += 1
        seen(play, rng.choice((0, -5, 5, 7)), play.s.fill_ms - rng.randint(1, 5_000), theirs(side.opposite, "5"))

    assert play.s is believed


@both_sides
def test_one_answer_that_shows_nothing_is_not_believed_and_a_second_halts_but_closes_nothing(side: Side) -> None:
    """REC-01: flat needs two answers in a row, and the fills that explain it."""
    play = Play(side)
    seen(play, 0, play.mono)
    play.hold()
    play.mono += 10_000

    once = (seen(play, 0, play.mono), play.s.halted)
    play.mono += 5_000
    right = (seen(play, 5 * side.sign, play.mono), play.s.disagreements)
    for _ in range(2):
        play.mono += 5_000
        twice = seen(play, 0, play.mono)

    assert once == ([], None) and right == ([], 0)
    assert (play.s.position, play.s.stop is not None) == (5 * side.sign, True)
    assert play.s.halted == f"DIVERGED: venue holds 0, our fills say {5 * side.sign}"
    assert [type(command).__name__ for command in twice] == ["Alarm"]


# -- one balance, several symbols --------------------------------------------------------------------------------------------


def holding(qty: Decimal) -> Ledger:
    side = BUY if qty > 0 else SELL
    return Ledger().add(Fill("T", "X-20261120-E0", Purpose.ENTRY, side, abs(qty), D(100), 1)) if qty else Ledger()


AMOUNT = st.integers(0, 10_000_000).map(lambda units: Decimal(units).scaleb(-8)) | st.integers(0, 50).map(Decimal)


@given(held=st.lists(AMOUNT, min_size=1, max_size=5), balance=AMOUNT)
@settings(max_examples=300, deadline=None)
def test_the_shares_add_up_to_the_balance_and_none_is_given_anothers(held: list[Decimal], balance: Decimal) -> None:
    """REC-15: BTC-USD and BTC-EUR hold one asset; the venue tells one balance."""
    ledgers = {f"S{number}": holding(qty) for number, qty in enumerate(held)}

    shares = share_out(ledgers, balance)

    assert sum(shares.qty.values(), D(0)) + shares.foreign == balance
    assert all(0 <= shares.qty[symbol] <= ledger.position for symbol, ledger in ledgers.items())
    assert shares.foreign == max(balance - sum(held, D(0)), D(0))


@given(held=st.lists(AMOUNT.filter(bool), min_size=2, max_size=5), foreign=AMOUNT)
@settings(max_examples=150, deadline=None)
def test_with_all_of_it_there_every_symbol_matches_its_own_fills(held: list[Decimal], foreign: Decimal) -> None:
    """REC-15: so that each of them reconciles as if it were alone in the account."""
    ledgers = {f"S{number}": holding(qty) for number, qty in enumerate(held)}

    shares = share_out(ledgers, sum(held, D(0)) + foreign)

    assert shares == Shares({symbol: ledger.position for symbol, ledger in ledgers.items()}, foreign)
    for symbol, ledger in ledgers.items():
        assert compare(ledger.position, D(0), shares.qty[symbol], ()).verdict is Verdict.MATCH


@pytest.mark.parametrize(
    ("balance", "shares", "foreign"),
    [
        ("5", ("2", "3"), "0"),
        ("6.5", ("2", "3"), "1.5"),
        ("4", ("1.6", "2.4"), "0"),
        ("0", ("0", "0"), "0"),
        ("-1", ("0", "0"), "-1"),
    ],
)
def test_what_is_missing_is_missing_from_each(balance: str, shares: tuple[str, str], foreign: str) -> None:
    """REC-15: 2 and 3 of ours; with less than 5 there both diverge, and neither is told that it still has everything."""
    found = share_out({"BTC-USD": holding(D(2)), "BTC-EUR": holding(D(3))}, D(balance))

    assert found == Shares({"BTC-USD": D(shares[0]), "BTC-EUR": D(shares[1])}, D(foreign))
    verdicts = {compare(own, D(0), found.qty[symbol], ()).verdict for symbol, own in (("BTC-USD", D(2)), ("BTC-EUR", D(3)))}
    assert verdicts == {Verdict.MATCH if D(balance) >= 5 else Verdict.DIVERGED}


def test_a_short_takes_from_the_balance_that_a_long_adds_to() -> None:
    """REC-15: long 3 and short 1 on margin are a balance of 2; one more of somebody else is foreign."""
    ledgers = {"A": holding(D(3)), "B": holding(D(-1))}

    assert [share_out(ledgers, D(net)) for net in (2, 3, 1)] == [
        Shares({"A": D(3), "B": D(-1)}, D(0)),
        Shares({"A": D(3), "B": D(-1)}, D(1)),
        Shares({"A": D(2), "B": D(-1)}, D(0)),
    ]


def test_a_stranger_s_base_fee_moves_the_position_as_ours_does() -> None:
    """FIL-12: they sell 2 of our 5 with 0.01 taken on top; ours is down by 2.01, and the venue agrees."""
    sale = Fill("H1", f"{SYMBOL}-elsewhere-X9", Purpose.EXIT, SELL, D(2), D(100), 1, base_fee=D("0.01"), source="elsewhere")

    found = compare(D(5), D(0), D("2.99"), (sale,))

    assert (found.verdict, found.ours, found.foreign_qty) == (Verdict.MISSING, (sale,), 0)
    assert compare(D(1), D(0), D("-1.01"), (sale,)).ours == (sale,)
    assert [fill.moved for fill in compare(D(1), D(3), D("1.99"), (sale,)).ours] == []
