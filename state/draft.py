"""A snapshot while one event is being decided: the small vocabulary that `record` and `settle` write with.

Lives for one call of `decide` and is never shared; outside that call everything is a frozen value again.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from msgspec.structs import replace

from state.commands import Alarm, Cancel, Command, Query, Replace, Submit
from state.ledger import Ledger
from state.orders import ZERO, Order, OrderType, Purpose, Side, Status
from state.rules import Rules, backoff_ms
from state.snapshot import SLOT_OF, Snapshot
from state.strategy import Strategy, View

KEPT_ENDED = 8
T = TypeVar("T")


class StrategyFailed(Exception):
    """A strategy raised or returned nonsense: its symbol halts, protection goes on."""


class Draft:
    __slots__ = ("commands", "mono_ms", "now_ms", "rules", "s")

    def __init__(self, snapshot: Snapshot, rules: Rules, now_ms: int, mono_ms: int) -> None:
        self.s = snapshot
        self.rules = rules
        self.now_ms = now_ms
        self.mono_ms = mono_ms
        self.commands: list[Command] = []

    def set(self, **changes: Any) -> None:
        self.s = replace(self.s, **changes)

    def book(self, ledger: Ledger) -> None:
        """These are our executions now; what of them no order can sell is set aside."""
        self.set(ledger=ledger, dust=self.rules.instrument.dust(ledger.position) or None)

    # -- orders ----------------------------------------------------------------------------------------------------------

    def submit_new(
        self,
        purpose: Purpose,
        type: OrderType,
        qty: Decimal,
        trigger: Decimal | None = None,
        limit: Decimal | None = None,
        reason: str = "",
        side: Side | None = None,
    ) -> None:
        """Take the slot with a new intent and ask the desk to send it. Exits take the side that reduces the position."""
        s = self.s
        order = Order(
            client_id=f"{s.symbol}-{self.rules.day}-{purpose.value}{s.sequence}",
            symbol=s.symbol,
            purpose=purpose,
            side=side or (Side.SELL if s.position > 0 else Side.BUY),
            type=type,
            qty=qty,
            limit_price=limit,
            trigger_price=trigger,
            created_ms=self.now_ms,
            changed_ms=self.mono_ms,
            reason=reason,
            baseline=s.foreign,
        )
        self.set(sequence=s.sequence + 1)
        self.submit(order)

    def submit(self, order: Order) -> None:
        self.set(**{SLOT_OF[order.purpose]: order})
        self.commands.append(Submit(order))

    def replace(self, slot: str, qty: Decimal, trigger: Decimal | None) -> None:
        open_still = {"late_ms": self.mono_ms + self.rules.settle_ms, "repeats": getattr(self.s, slot).attempts > 0}
        order = self.change(slot, status=Status.REPLACING, asked_qty=qty, asked_trigger=trigger, strikes=0, **open_still)
        self.commands.append(Replace(order, qty, trigger, order.limit_price))

    def cancel(self, slot: str, reason: str) -> None:
        self.commands.append(Cancel(self.change(slot, status=Status.CANCELLING, cancel_asked=True, reason=reason, strikes=0)))

    def query(self, slot: str) -> None:
        order = getattr(self.s, slot)
        if order.venue_id is not None:
            self.commands.append(Query(order))

    def change(self, slot: str, **changes: Any) -> Order:
        """Write into a slot's order; its time of change is now."""
        changes.setdefault("changed_ms", self.mono_ms)
        order: Order = replace(getattr(self.s, slot), **changes)
        self.set(**{slot: order})
        return order

    def empty(self, slot: str) -> None:
        """The order of this slot is over."""
        self.change(slot)
        ended = (*self.s.ended, getattr(self.s, slot))[-KEPT_ENDED:]
        self.set(**{slot: None, "ended": ended})

    def try_later(self, slot: str) -> None:
        """Not before a pause that grows with the failures in a row."""
        attempts = getattr(self.s, slot).attempts + 1
        self.change(slot, attempts=attempts, retry_ms=self.mono_ms + backoff_ms(attempts))

    def place_later(self, slot: str) -> None:
        """The order that should fill this slot failed: a new one after a pause."""
        failures = getattr(self.s, f"{slot}_failures") + 1
        self.set(**{f"{slot}_failures": failures, f"{slot}_retry_ms": self.mono_ms + backoff_ms(failures)})

    # -- words -----------------------------------------------------------------------------------------------------------

    def alarm(self, text: str) -> None:
        self.commands.append(Alarm(text))

    def close(self, reason: str) -> None:
        if not self.s.closing:
            self.set(closing=reason)

    def halt(self, reason: str) -> None:
        if self.s.halted is None:
            self.set(halted=reason)
            self.alarm(f"HALTED: {reason}")

    # -- the strategy ------------------------------------------------------------------------------------------------------

    def ask(self, question: Callable[[Strategy, View], T], view: View | None = None) -> T:
        """The strategy's answer, by default to things as they are. Whatever it raises becomes StrategyFailed: its defects are
        contained, ours are not."""
        try:
            return question(self.rules.strategy, self.view() if view is None else view)
        except Exception as error:
            raise StrategyFailed(f"strategy {self.rules.strategy.name} raised {type(error).__name__}: {error}") from error

    def price(self, value: object) -> Decimal:
        """A price a strategy named; StrategyFailed when it is none."""
        if not isinstance(value, Decimal) or not value.is_finite():
            raise StrategyFailed(f"strategy {self.rules.strategy.name} named {value!r:.80} as a price")
        return value

    def view(self) -> View:
        s = self.s
        return View(
            position=s.position,
            average=s.average or ZERO,
            side=s.side,
            stop_price=s.stop_price,
            peak=s.peak,
            entries_used=s.entries_used,
            entering=s.entry is not None,
            why=s.why,
            now_ms=self.now_ms,
        )
