"""Ours and the venue's: every difference has a name, and no fill is made up to explain one."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from state.events import PositionSeen
from state.ledger import Fill
from state.orders import Purpose, Side
from state.reconcile import Finding, Verdict, compare
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
