"""Limits over all symbols: checked and taken in one step, given back when a symbol is free."""

from __future__ import annotations

import threading
from decimal import Decimal

from state.clock import VirtualClock
from state.events import Act, FillSeen, WasRefused, WentUnanswered
from state.instrument import Instrument
from state.ledger import Fill
from state.orders import Order, Purpose, Side
from state.risk import RiskBudget
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work
from tests.state.builders import BUY, ENTRY, TEN, D, at, both_sides, make_rules

MANY = tuple(f"S{n}" for n in range(10))


class Nowhere:
    def put(self, symbol: str, work: Work) -> None:
        """Nobody carries anything out here."""


class Account:
    """Ten symbols with their entries decided, and one budget over them."""

    def __init__(self, side: Side = BUY, positions: int = 2, slots: int = 10, loss: str = "1000") -> None:
        self.side = side
        clock = VirtualClock(TEN)
        self.states = {
            symbol: SymbolState(
                Snapshot(symbol),
                make_rules(side, instrument=Instrument(symbol, "NSE", D("0.05"))),
                Nowhere(),
                clock,
            )
            for symbol in MANY
        }
        self.budget = RiskBudget(self.states, positions, slots, D(loss))

    def decide(self, *symbols: str) -> list[Order]:
        for symbol in symbols:
            self.states[symbol].tick(at(self.side, "730.65"), TEN)
        orders = [self.states[symbol].snapshot.entry for symbol in symbols]
        return [order for order in orders if order is not None]

    def fill(self, order: Order, price: Decimal = ENTRY, purpose: Purpose = Purpose.ENTRY) -> None:
        side = order.side if purpose is Purpose.ENTRY else order.side.opposite
        client_id = order.client_id if purpose is Purpose.ENTRY else order.client_id.replace("-E", "-S")
        fill = Fill(f"T-{client_id}", client_id, purpose, side, order.qty, price, TEN)
        self.states[order.symbol].apply(FillSeen(fill=fill, mono_ms=TEN, now_ms=TEN))


@both_sides
def test_ten_entries_at_once_with_room_for_two_are_two(side: Side) -> None:
    """RIS-04, RIS-01: asked by ten threads."""
    account = Account(side)
    orders = account.decide(*MANY)
    answers: list[str | None] = []
    barrier = threading.Barrier(len(orders))

    def ask(order: Order) -> None:
        barrier.wait(10)
        answers.append(account.budget.deny(order))

    threads = [threading.Thread(target=ask, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert (answers.count(None), len(answers)) == (2, 10)


@both_sides
def test_an_unknown_entry_counts_at_its_worst(side: Side) -> None:
    """RIS-04."""
    account = Account(side)
    first, second, third = account.decide(*MANY[:3])
    allowed = [account.budget.deny(first), account.budget.deny(second)]
    lost = WentUnanswered(client_id=first.client_id, act=Act.SUBMIT, reason="", mono_ms=TEN, now_ms=TEN)
    account.states[first.symbol].apply(lost)

    assert allowed == [None, None]
    assert account.budget.deny(third) == "risk: 2 of 2 positions are open or being entered"


def test_a_place_is_given_back_when_the_entry_came_to_nothing() -> None:
    account = Account(positions=1)
    first, second = account.decide(*MANY[:2])
    taken = (account.budget.deny(first), account.budget.deny(second))
    refusal = WasRefused(client_id=first.client_id, act=Act.SUBMIT, reason="", mono_ms=TEN, now_ms=TEN)
    account.states[first.symbol].apply(refusal)

    assert taken == (None, "risk: 1 of 1 positions are open or being entered")
    assert account.budget.deny(second) is None


def test_asking_again_for_the_same_symbol_takes_no_second_place() -> None:
    account = Account(positions=1)
    (order,) = account.decide(MANY[0])

    assert [account.budget.deny(order) for _ in range(3)] == [None] * 3


def test_signal_slots_are_for_entries_and_free_once_they_have_filled() -> None:
    """RIS-01."""
    account = Account(positions=10, slots=3)
    orders = account.decide(*MANY)
    answers = [account.budget.deny(order) for order in orders]
    account.fill(orders[0])

    assert answers == [None] * 3 + ["risk: 3 of 3 signal slots are taken"] * 7
    assert [account.budget.deny(order) for order in orders[3:5]] == [None, "risk: 3 of 3 signal slots are taken"]


def test_places_held_before_a_restart_are_held_after_it() -> None:
    account = Account(positions=1)
    first, second = account.decide(*MANY[:2])
    account.fill(first)

    again = RiskBudget(account.states, 1, 10, D(1000))

    assert again.deny(second) == "risk: 1 of 1 positions are open or being entered"


@both_sides
def test_the_daily_loss_once_reached_stays_reached(side: Side) -> None:
    account = Account(side, positions=10, loss="5")
    first, second = account.decide(*MANY[:2])
    account.fill(first)
    account.fill(first, at(side, "730.15"), Purpose.STOP)
    at_the_limit = account.budget.profit()
    denied = account.budget.deny(second)
    account.fill(second)
    account.states[second.symbol].tick(at(side, "740.00"), TEN)
    (third,) = account.decide(MANY[2])

    assert at_the_limit == -5
    assert denied == "risk: daily loss 5.00 reached the limit 5"
    assert account.budget.profit() > 0
    assert account.budget.deny(third) == denied


@both_sides
def test_an_open_loss_counts_at_the_last_price(side: Side) -> None:
    account = Account(side, positions=10, loss="5")
    first, second = account.decide(*MANY[:2])
    account.fill(first)
    before = account.budget.deny(second)
    account.states[first.symbol].tick(at(side, "730.10"), TEN)

    assert (before, account.budget.deny(second)) == (None, "risk: daily loss 5.25 reached the limit 5")


def test_a_position_without_a_price_yet_is_no_loss() -> None:
    """RIS-06: after a restart no symbol has a price before its first tick."""
    account = Account(positions=10, loss="5")
    first, second = account.decide(*MANY[:2])
    account.fill(first)
    account.states[first.symbol].last = None

    assert (account.budget.profit(), account.budget.deny(second)) == (0, None)
