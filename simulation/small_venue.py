"""The venue of the small models: the matching engine behind the Broker protocol, on one scheduler, judging what it is asked.

Every call is a step before it is done and one before its answer arrives: there another thread may go on. Rows carry no ids of
ours, as with OpenAlgo. What must never be asked of a venue is written into `wrong`, when it is asked. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import msgspec

from brokers.base import Capabilities, FillRow, OrderRow, PositionRow, Refused, Reported, SessionHours, Unanswered, Unavailable
from brokers.matching import MatchingEngine
from simulation.scheduler import Scheduler
from state.instrument import Instrument
from state.orders import ZERO, Order, Purpose
from state.symbol_state import SymbolState

T = TypeVar("T")
SYMBOL, DAY = "A", "d"
INSTRUMENT = Instrument(symbol=SYMBOL, exchange="X", tick_size=Decimal(1))
CAPABILITIES = Capabilities(client_ids=False, replace=True, native_stops=True, order_stream=True, settle_window_s=2.0)
EXITS = (Purpose.EXIT, Purpose.STOP)


class Book(NamedTuple):
    """A venue as it stands: the calls that made it so, what nobody has heard yet, and which intents were journaled."""

    calls: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    news: tuple[OrderRow, ...] = ()
    journaled: frozenset[str] = frozenset()
    faults: tuple[tuple[str, str], ...] = ()


class SmallVenue:
    """A Broker. `faults`: verb -> what becomes of its next call: refused, unavailable, lost (done, unanswered), late (`land`)."""

    capabilities = CAPABILITIES

    def __init__(self, clock: Scheduler, state: SymbolState, wrong: list[str], book: Book) -> None:
        self._clock, self._state, self._wrong = clock, state, wrong
        self.faults = dict(book.faults)
        self._engine = MatchingEngine({SYMBOL: INSTRUMENT})
        self._calls: list[tuple[str, tuple[Any, ...]]] = []
        self._orders: dict[str, Order] = {}  # by venue id
        self._tightest: Decimal | None = None  # stop of the position held
        self.news: list[OrderRow] = []  # not heard yet
        self.journaled = set(book.journaled)
        self._late: list[Callable[[], Any]] = []
        self._unwanted: set[str] = set()  # entries that nobody wanted any more when their turn came
        self.entries: list[str] = []  # client ids, as they came
        self.replaced: list[Decimal | None] = []  # triggers, as they came
        for name, args in book.calls:
            self._do(name, *args)
        self.news[:] = book.news

    def book(self) -> Book:
        return Book(tuple(self._calls), tuple(self.news), frozenset(self.journaled), tuple(self.faults.items()))

    # -- the market ----------------------------------------------------------------------------------------------------------

    def trade(self, price: int) -> None:
        """Somebody trades here at this price."""
        self._tell(self._do("tick", SYMBOL, Decimal(price), self._clock.now_ms()))

    def match_idle(self) -> None:
        self._tell(self._do("match_idle", SYMBOL, self._clock.now_ms()))

    def end(self, purpose: Purpose) -> None:
        """The exchange ends an order by itself."""
        for row in self.working():
            if self._orders[row.venue_id].purpose is purpose:
                self._tell([self._do("cancel", row.venue_id, self._clock.now_ms())])

    def land(self) -> None:
        """What got no answer is done after all."""
        while self._late:
            with suppress(Refused):
                self._late.pop(0)()

    def working(self) -> list[OrderRow]:
        return [row for row in self._engine.orders() if row.state is Reported.WORKING]

    def net(self) -> Decimal:
        return next((row.qty for row in self._engine.positions()), ZERO)

    def stop(self) -> Decimal | None:
        """Trigger of the one stop at work."""
        return next((row.trigger_price for row in self.working() if self._orders[row.venue_id].purpose is Purpose.STOP), None)

    # -- Broker --------------------------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> str:
        if order.client_id not in self.journaled:
            self._wrong.append(f"I3 {order.client_id} was sent before it was journaled")
        if order.client_id in self._unwanted:
            self._wrong.append(f"I1 {order.client_id} was sent, which nobody wanted any more when its turn came")
        venue_id: str = self._ask("submit", order, lambda: self._do("submit", order, self._clock.now_ms()))
        return venue_id

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        values = (order.venue_id, qty, trigger_price, limit_price)
        self._ask("replace", order, lambda: self._do("replace", *values, self._clock.now_ms()))

    def cancel(self, order: Order) -> None:
        self._ask("cancel", order, lambda: self._do("cancel", order.venue_id, self._clock.now_ms()))

    def order(self, order: Order) -> OrderRow | None:
        row = self._engine.order(order.venue_id or "")
        return self._read(None if row is None else _nameless(row))

    def orders(self) -> list[OrderRow]:
        return self._read([_nameless(row) for row in self._engine.orders()])

    def fills(self) -> list[FillRow]:
        return self._read(self._engine.fills())

    def positions(self) -> list[PositionRow]:
        return self._read(self._engine.positions())

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        return self._read({})

    def check(self) -> str:
        return "small"

    def instrument(self, symbol: str) -> Instrument:
        return INSTRUMENT

    def session_hours(self, day: date) -> SessionHours | None:
        return None

    def skew_ms(self) -> int | None:
        return None

    def refused(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        """Nothing is open."""

    # -- one call ------------------------------------------------------------------------------------------------------------

    def _ask(self, verb: str, order: Order, act: Callable[[], Any]) -> Any:
        """The request leaves, is carried out, and its answer comes back: other threads may go on between."""
        self.refuse_under_a_lock(verb)
        if verb != "cancel" and self._state.snapshot.slot_of(order.client_id) is None:
            self._wrong.append(f"I9 {verb} of {order.client_id}, which no slot holds")
        fault = self.faults.pop(verb, None)
        self._clock.step()
        if fault == "refused":
            raise Refused("no")
        if fault == "unavailable":
            raise Unavailable("nothing sent")
        if fault == "late":
            self._late.append(act)
            raise Unanswered("no answer")
        answer = act()
        self._clock.step()
        if fault == "lost":
            raise Unanswered("no answer")
        return answer

    def _read(self, answer: T) -> T:
        self.refuse_under_a_lock("a read")
        self._clock.step()
        return answer

    def refuse_under_a_lock(self, what: str) -> None:
        if self._state._lock.holder is self._clock.present:  # type: ignore[attr-defined]
            self._wrong.append(f"I10 {what} under the symbol's lock")

    def _do(self, name: str, *args: Any) -> Any:
        """One call of the engine, kept so that the book can be made again."""
        answer = getattr(self._engine, name)(*args)
        self._calls.append((name, args))
        if name == "submit":
            self._sent(args[0], answer)
            self._tell([self._engine.order(answer)])
        elif name in ("replace", "cancel"):
            self._tell([answer])
        if name == "replace":
            self.replaced.append(args[2])
        self._look()
        return answer

    def _tell(self, changes: list[Any]) -> None:
        self.news += [_nameless(row) for row in changes if isinstance(row, OrderRow)]

    # -- what a venue can see of our mistakes ----------------------------------------------------------------------------------

    def turn_has_come(self, order: Order) -> None:
        """A desk has taken this intent and journaled it; now it may be sent, if it is still wanted."""
        self.journaled.add(order.client_id)
        s = self._state.snapshot
        if order.purpose is Purpose.ENTRY and (s.over or s.halted or s.blocks):
            self._unwanted.add(order.client_id)
        else:
            self._unwanted.discard(order.client_id)

    def _sent(self, order: Order, venue_id: str) -> None:
        if any(sent.client_id == order.client_id for sent in self._orders.values()):
            self._wrong.append(f"I3 {order.client_id} was sent twice")
        self._orders[venue_id] = order
        if order.purpose is Purpose.ENTRY:
            self.entries.append(order.client_id)

    def _look(self) -> None:
        rows = [(self._orders[row.venue_id].purpose, row) for row in self.working()]
        net = self.net()
        if sum(1 for purpose, _ in rows if purpose is Purpose.ENTRY) > 1:
            self._wrong.append("I1 two entries at work")
        if net < 0:
            self._wrong.append(f"I5 sold more than was held: {net}")
        exits = sum((row.qty - (row.filled or ZERO) for purpose, row in rows if purpose in EXITS), ZERO)
        if exits > max(net, ZERO):
            self._wrong.append(f"I5 {exits} to be sold, {net} held")
        stops = [row.trigger_price for purpose, row in rows if purpose is Purpose.STOP and row.trigger_price is not None]
        if not net:
            self._tightest = None
        elif stops and self._tightest is not None and min(stops) < self._tightest:
            self._wrong.append(f"I6 the stop was loosened from {self._tightest} to {min(stops)}")
        if net and stops:
            self._tightest = max(stops)


def _nameless(row: OrderRow) -> OrderRow:
    return msgspec.structs.replace(row, client_id=None, label="")
