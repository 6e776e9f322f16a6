"""Limits over all symbols of the account. Only entries ask here; whatever reduces risk never does.

Checking and taking is one step under one lock, so ten entries at once with room for two get two.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from state.orders import ZERO, Order
from state.symbol_state import SymbolState
from state.threads import OS_THREADS, Threads


class RiskBudget:
    """Thread-safe. A symbol holds its place from the moment its entry is let through until it is flat with no entry working."""

    def __init__(
        self,
        states: Mapping[str, SymbolState],
        max_open_positions: int,
        signal_slots: int,
        max_daily_loss: Decimal,
        threads: Threads = OS_THREADS,
    ) -> None:
        self._states = states
        self._max_open_positions = max_open_positions
        self._signal_slots = signal_slots
        self._max_daily_loss = max_daily_loss
        self._lock = threads.lock()  # guards the two below
        self._taken = {symbol for symbol in states if not self._free(symbol)}
        self._loss_reached: Decimal | None = None

    def deny(self, order: Order) -> str | None:
        """Take a place for this entry, or say why not."""
        with self._lock:
            self._taken = {symbol for symbol in self._taken if not self._free(symbol)}
            others = self._taken - {order.symbol}
            reason = self._why_not(others)
            if reason is None:
                self._taken.add(order.symbol)
            return reason

    def profit(self) -> Decimal:
        """Realised and open profit of the session after fees, open positions at their last price."""
        return sum((state.snapshot.ledger.profit(state.last) for state in self._states.values()), ZERO)

    def _why_not(self, others: set[str]) -> str | None:
        if len(others) >= self._max_open_positions:
            return f"risk: {len(others)} of {self._max_open_positions} positions are open or being entered"
        entering = sum(1 for symbol in others if not self._states[symbol].snapshot.position)
        if entering >= self._signal_slots:
            return f"risk: {entering} of {self._signal_slots} signal slots are taken"
        if self._loss_reached is None and self.profit() <= -self._max_daily_loss:
            self._loss_reached = self.profit()
        if self._loss_reached is not None:
            return f"risk: daily loss {-self._loss_reached} reached the limit {self._max_daily_loss}"
        return None

    def _free(self, symbol: str) -> bool:
        snapshot = self._states[symbol].snapshot
        return not snapshot.position and not snapshot.live_orders()
