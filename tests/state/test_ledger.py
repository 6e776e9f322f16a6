"""Executions, heard of in any order and number, add up once."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from state.ledger import KEPT_ACCOUNTS, Account, Fill, Ledger, Trade, settled_fills, trades
from state.orders import Purpose, Side
from tests.state.builders import BUY, SELL, D, both_sides


def fill(client: str = "E0", qty: str = "5", price: str = "100", side: Side = BUY, trade: str = "", **more: Any) -> Fill:
    purpose = {"E": Purpose.ENTRY, "S": Purpose.STOP, "X": Purpose.EXIT}[client[0]]
    known: dict[str, Any] = {"trade_id": trade or f"{client}/{qty}@{price}", "at_ms": 0, "source": "stream"}
    return Fill(client_id=client, purpose=purpose, side=side, qty=D(qty), price=D(price), **(known | more))


def report(client: str, qty: str, price: str, side: Side = BUY, **more: Any) -> Fill:
    return fill(client, qty, price, side, cumulative=True, **more)


def ledger(*fills: Fill) -> Ledger:
    out = Ledger()
    for one in fills:
        out = out.add(one)
    return out


def test_an_empty_ledger_holds_nothing() -> None:
    nothing = Ledger()

    assert (nothing.position, nothing.filled("E0"), nothing.average("E0"), nothing.average(None), nothing.profit(D(7))) == (
        0,
        0,
        None,
        None,
        0,
    )


@both_sides
def test_a_position_is_the_sum_of_the_fills(side: Side) -> None:
    held = ledger(fill(side=side), fill("S1", "2", "99", side.opposite))

    assert (held.position, held.filled("E0"), held.average("E0")) == (3 * side.sign, 5, 100)


def test_news_that_is_none_gives_the_very_same_ledger() -> None:
    held = ledger(fill(trade="T1"), report("E0", "5", "100"))

    for old in (
        fill(trade="T1"),
        report("E0", "5", "100"),
        report("E0", "3", "99"),
        fill(qty="0"),
        fill(price="0"),
        fill(qty="-1"),
    ):
        assert held.add(old) is held


def test_rows_and_reports_in_any_order_count_once() -> None:
    """FIL-02, FIL-10."""
    evidence = [
        fill(qty="3", price="100", trade="T1"),
        fill(qty="2", price="101", trade="T2"),
        report("E0", "3", "100"),
        report("E0", "5", "100.4"),
    ]
    for order in itertools.permutations(evidence):
        held = ledger(*order, *order)
        assert (held.position, held.average("E0"), held.profit(D("100.4"))) == (5, D("100.4"), 0)


def test_the_fuller_evidence_speaks() -> None:
    behind = ledger(fill(qty="2", price="100", trade="T1"), report("E0", "5", "101"))
    account = behind.account("E0")

    assert account == Account("E0", Purpose.ENTRY, BUY, D(2), D(200), D(5), D(505))
    assert account is not None
    assert (account.filled, account.average, account.value, account.covered) == (5, 101, 505, False)
    assert Account("E0", Purpose.ENTRY, BUY).average == 0


def test_profit_is_cash_and_what_is_held() -> None:
    held = ledger(fill(fee=D("0.50")), fill("S1", "2", "104", SELL, fee=D("0.20")))

    assert held.profit(D("103")) == 2 * 104 - 5 * 100 - D("0.70") + 3 * 103
    assert ledger(fill(), fill("S1", "5", "99", SELL)).profit(None) == -5


@both_sides
def test_without_a_price_nothing_is_gained_or_lost_on_what_is_held(side: Side) -> None:
    """RIS-06: right after a restart no symbol has a price, and that is no loss."""
    held = ledger(fill(side=side), fill("S1", "5", "99", side.opposite), fill("E2", "5", "98", side, trade="T9"))

    assert held.profit(None) == -5 * side.sign


def test_a_correction_by_trade_rows_corrects_the_cash() -> None:
    held = ledger(report("E0", "5", "100"), fill(qty="5", price="101", trade="T1"))

    assert held.profit(D("101")) == 0


@given(st.lists(st.tuples(st.sampled_from(["E0", "S1", "E2", "X3"]), st.integers(1, 9), st.integers(90, 110)), max_size=12))
def test_a_ledger_forgets_no_quantity_and_repeats_none(rows: list[tuple[str, int, int]]) -> None:
    fills = [
        fill(client, str(qty), str(price), BUY if client[0] == "E" else SELL, trade=f"T{n}")
        for n, (client, qty, price) in enumerate(rows)
    ]

    held = ledger(*fills, *reversed(fills))

    assert held.position == sum((one.qty * one.side.sign for one in fills), D(0))
    assert held.cash == -sum((one.qty * one.price * one.side.sign for one in fills), D(0))


def test_a_long_day_is_folded_and_the_position_stays() -> None:
    fills = [
        fill(f"{'E' if n % 2 == 0 else 'S'}{n}", "5", str(100 + n), BUY if n % 2 == 0 else SELL, trade=f"T{n}")
        for n in range(2 * KEPT_ACCOUNTS + 1)
    ]

    held = ledger(*fills)

    assert (len(held.accounts), held.position) == (KEPT_ACCOUNTS, 5)
    assert all(held.add(one) is held for one in fills)


def test_an_account_that_still_waits_for_its_rows_is_not_folded() -> None:
    waiting = report("E0", "5", "100")
    others = [fill(f"E{n}", "1", "100", trade=f"T{n}") for n in range(1, KEPT_ACCOUNTS + 1)]

    held = ledger(waiting, *others)

    assert held.filled("E0") == 5 and held.position == 5 + KEPT_ACCOUNTS
    assert held.add(fill(qty="5", trade="T0")).position == held.position


def test_nothing_is_folded_while_everything_waits() -> None:
    held = ledger(*(report(f"E{n}", "1", "100") for n in range(KEPT_ACCOUNTS + 3)))

    assert (len(held.accounts), held.position) == (KEPT_ACCOUNTS + 3, KEPT_ACCOUNTS + 3)


# -- trades ----------------------------------------------------------------------------------------------------------------------


@both_sides
def test_a_round_trip_is_one_trade_net_of_both_fees(side: Side) -> None:
    fills = [
        fill("E0", "3", "100", side, "T1", at_ms=1, fee=D("0.30")),
        fill("E0", "2", "101", side, "T2", at_ms=2, fee=D("0.20")),
        fill("S1", "5", "99", side.opposite, "T3", at_ms=3, fee=D("0.45"), source="poll"),
    ]

    trade = Trade("SBIN", side, D(5), D("100.4"), D(99), 1, 3, D("-7.0") * side.sign, D("0.95"), "E0", "S1", "poll")
    assert trades("SBIN", [*reversed(fills), *fills]) == [trade]
    assert trade.net == D("-7.0") * side.sign - D("0.95")


def test_an_open_trade_comes_last_without_an_exit() -> None:
    fills = [fill(trade="T1", at_ms=1), fill("S1", "5", "99", SELL, "T2", at_ms=2), fill("E2", "5", "98", trade="T3", at_ms=3)]

    done, still_open = trades("SBIN", fills)

    assert (done.exit_ms, still_open.exit_ms, still_open.exit_price) == (2, None, None)
    assert (still_open.exit_order, still_open.gross) == ("", 0)


def test_a_partly_closed_trade_counts_what_was_closed() -> None:
    (trade,) = trades("SBIN", [fill(trade="T1", at_ms=1), fill("X1", "2", "103", SELL, "T2", at_ms=2)])

    assert (trade.qty, trade.exit_price, trade.exit_ms, trade.gross) == (5, 103, None, 6)


def test_a_fill_that_turns_the_position_round_ends_one_trade_and_begins_another() -> None:
    fills = [
        fill(trade="T1", at_ms=1),
        fill("S1", "8", "99", SELL, "T2", at_ms=2, fee=D("0.80")),
        fill("X2", "3", "98", BUY, "T3", at_ms=3),
    ]

    long_trade, short_trade = trades("SBIN", fills)

    assert (long_trade.side, long_trade.gross, long_trade.fees) == (BUY, -5, D("0.50"))
    assert (short_trade.side, short_trade.qty, short_trade.gross, short_trade.fees) == (SELL, 3, 3, D("0.30"))


def test_a_report_fills_in_what_no_row_covers() -> None:
    fills = [fill(qty="2", price="100", trade="T1"), report("E0", "3", "100.1"), report("E0", "5", "100.6", source="poll")]

    row, rest = settled_fills(fills)

    assert (row.qty, rest.qty, rest.price, rest.cumulative, rest.source) == (2, 3, 101, False, "poll")


@pytest.mark.parametrize("extra", [[], [report("E0", "5", "100")]])
def test_a_report_that_the_rows_cover_adds_nothing(extra: list[Fill]) -> None:
    rows = [fill(qty="5", price="100", trade="T1"), replace(fill(qty="5", price="100", trade="T1"), source="poll"), *extra]

    assert settled_fills(rows) == rows[:1]


def test_no_fills_are_no_trades() -> None:
    assert trades("SBIN", []) == []
    assert Decimal(0) == Ledger().position
