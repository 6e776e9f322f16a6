"""The ledger against the venue's own books: executions heard of as rows and as reports, in any order, late and repeated."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from state.ledger import Fill, Ledger, settled_fills, trades
from state.orders import Purpose, Side
from tests.machines import play

ORDERS = 6  # fewer than the ledger keeps apart
QUANTITIES = st.integers(1, 9).map(Decimal)
PRICES = st.integers(1, 400).map(lambda ticks: Decimal(ticks) / 4)
FEES = st.sampled_from([Decimal(0), Decimal("0.25"), Decimal("-0.10")])
BASE_FEES = st.sampled_from([Decimal(0), Decimal(0), Decimal("0.002")])


class Order(NamedTuple):
    """An order at the venue. `executions` are its rows, oldest first."""

    client_id: str
    purpose: Purpose
    side: Side
    executions: list[Fill]


class Books(RuleBasedStateMachine):
    """What the venue knows, what we were told of it, and what the ledger makes of that."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.orders: list[Order] = []
        self.rows: dict[str, Fill] = {}  # told, by trade id
        self.reports: dict[str, Fill] = {}  # told, the fullest of each order
        self.told: list[Fill] = []

    @initialize(side=st.sampled_from(Side))
    def begins(self, side: Side) -> None:
        """A long day or a short one."""
        self.side = side
        self.ordered(entry=True)

    # -- at the venue --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.orders) < ORDERS)
    @rule(entry=st.booleans())
    def ordered(self, entry: bool) -> None:
        purpose = Purpose.ENTRY if entry else Purpose.EXIT
        side = self.side if entry else self.side.opposite
        self.orders.append(Order(f"SBIN-20261120-{purpose.value}{len(self.orders)}", purpose, side, []))

    @rule(which=st.integers(0, ORDERS - 1), qty=QUANTITIES, price=PRICES, fee=FEES, base_fee=BASE_FEES)
    def executed(self, which: int, qty: Decimal, price: Decimal, fee: Decimal, base_fee: Decimal) -> None:
        order = self.orders[which % len(self.orders)]
        number = sum(len(other.executions) for other in self.orders)
        common = (f"T{number}", order.client_id, order.purpose, order.side, qty, price, number)
        order.executions.append(Fill(*common, fee=fee, base_fee=base_fee, source="poll"))

    # -- what we hear --------------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, ORDERS - 1), number=st.integers(0, 99))
    def row_heard(self, which: int, number: int) -> None:
        executions = self.orders[which % len(self.orders)].executions
        if executions:
            self.hear(executions[number % len(executions)])

    @rule(which=st.integers(0, ORDERS - 1), number=st.integers(0, 99))
    def report_heard(self, which: int, number: int) -> None:
        """Of all executions so far, or an old one of fewer."""
        order = self.orders[which % len(self.orders)]
        some = order.executions[: 1 + number % max(len(order.executions), 1)]
        qty = sum((fill.qty for fill in some), Decimal(0))
        if qty:
            value = sum((fill.qty * fill.price for fill in some), Decimal(0))
            known = (f"{order.client_id}/{qty}", order.client_id, order.purpose, order.side, qty, value / qty, 0)
            self.hear(Fill(*known, source="stream", cumulative=True))

    def hear(self, fill: Fill) -> None:
        before, told = self.ledger, self.reports if fill.cumulative else self.rows
        key = fill.client_id if fill.cumulative else fill.trade_id
        new = key not in told or (fill.cumulative and fill.qty > told[key].qty)
        self.ledger = before.add(fill)
        assert (self.ledger is before) == (not new), f"news or not: {fill}"
        if new:
            told[key] = fill
        self.told.append(fill)

    # -- what must be true ---------------------------------------------------------------------------------------------------

    def evidence(self, order: Order) -> tuple[Decimal, Decimal]:
        """Quantity and value by the fuller of the two."""
        rows = [fill for fill in self.rows.values() if fill.client_id == order.client_id]
        qty, value = sum((f.qty for f in rows), Decimal(0)), sum((f.qty * f.price for f in rows), Decimal(0))
        report = self.reports.get(order.client_id)
        return (qty, value) if report is None or report.qty <= qty else (report.qty, report.qty * report.price)

    @invariant()
    def each_order_has_filled_the_fuller_evidence(self) -> None:
        for order in self.orders:
            qty, value = self.evidence(order)
            assert self.ledger.filled(order.client_id) == qty
            assert self.ledger.average(order.client_id) == (value / qty if qty else None)

    @invariant()
    def position_and_cash_follow_from_it_alone(self) -> None:
        signed = [(self.evidence(order), order.side.sign) for order in self.orders]
        rows = self.rows.values()
        assert self.ledger.position == sum((qty * sign for (qty, _), sign in signed), Decimal(0)) - sum(f.base_fee for f in rows)
        assert self.ledger.cash == -sum((value * sign for (_, value), sign in signed), Decimal(0)) - sum(f.fee for f in rows)

    def teardown(self) -> None:
        """The poll comes round to everything: then we know what the venue knows, and the trips add up to the same profit."""
        for order in self.orders:
            for fill in reversed(order.executions):
                self.hear(fill)
        true = [fill for order in self.orders for fill in order.executions]
        assert self.ledger.position == sum((fill.moved * fill.side.sign for fill in true), Decimal(0))
        assert sorted(fill.trade_id for fill in settled_fills(self.told)) == sorted(fill.trade_id for fill in true)
        if self.ledger.position == 0 and not any(fill.base_fee for fill in true):
            net = sum((trip.net for trip in trades("SBIN", self.told)), Decimal(0))
            assert abs(net - self.ledger.cash) < Decimal("1e-15"), "an average of thirds costs the last digit"


TestBooks = Books.TestCase
TestBooks.settings = play(60, steps=40)
