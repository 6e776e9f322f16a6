"""The matching engine behind a connection that does what its dial says: replies lost, orders late, reads that fail.

Owns the faults of bench/scale.py and the virtual time in which they strike. Knows nothing of the runner but the broker's face.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from brokers.base import FillRow, OrderRow, Refused, Unanswered, Unavailable
from state.clock import VirtualClock
from state.reports import Reported
from tests.brokers.doubles import Venue

D = Decimal
SLOW_READ_MS = 800


@dataclass(frozen=True)
class Dial:
    """How often what goes wrong, of 1. `late` is what an unanswered order call may take to arrive, ms."""

    reply_lost: float = 0.0  # carried out, no answer
    arrives_late: float = 0.0  # no answer, carried out later
    never_arrives: float = 0.0
    reply_slow: float = 0.0
    refused: float = 0.0
    unreachable: float = 0.0
    read_fails: float = 0.0
    read_slow: float = 0.0
    update_missing: float = 0.0
    update_twice: float = 0.0
    update_late: float = 0.0
    partial: float = 0.0
    row_lag_ms: int = 0  # how much the trade book may be behind
    late_ms: tuple[int, int] = (0, 29_000)


ROUGH = Dial(
    reply_lost=0.02,
    arrives_late=0.002,
    never_arrives=0.002,
    reply_slow=0.01,
    refused=0.005,
    unreachable=0.01,
    read_fails=0.03,
    read_slow=0.03,
    update_missing=0.05,
    update_twice=0.05,
    update_late=0.10,
    partial=0.3,
    row_lag_ms=1_500,
)


class World:
    """Virtual time: things that happen at their moment, also while somebody waits for an answer."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._coming: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, ms: int, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._coming, (self._clock.now_ms() + ms, self._number, act))

    def pass_time(self, ms: int) -> None:
        end_ms = self._clock.now_ms() + ms
        while self._coming and self._coming[0][0] <= end_ms:
            self.step()
        self._clock.advance_to(end_ms)

    def step(self) -> bool:
        if not self._coming:
            return False
        at_ms, _, act = heapq.heappop(self._coming)
        self._clock.advance_to(at_ms)
        act()
        return True


def tells_fills(symbol: str) -> bool:
    """Every other symbol is listed as some brokers do: what has filled is only in the trade book."""
    return bool(int(symbol[1:]) % 4 < 2)


class RoughVenue(Venue):
    """The matching engine behind a connection that does what its dial says."""

    dial = Dial()
    world: World
    rng: random.Random

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, fee_rate=D("0.0003"), fee_currency="INR", **options)
        self.seen_from_ms: dict[str, int] = {}
        self._held_up = False
        self._kept_orders: dict[str, OrderRow] = {}
        self.unlearnt: defaultdict[str, deque[tuple[Decimal, int, str]]] = defaultdict(deque)
        self._filled: defaultdict[str, Decimal] = defaultdict(Decimal)

    def traded(self, rows: list[OrderRow | FillRow]) -> None:
        """Note when each fill happened and when the trade book will show it."""
        for row in rows:
            if isinstance(row, FillRow):
                client_id = self.engine._entries[row.venue_id].order.client_id
                self._filled[client_id] += row.qty
                self.seen_from_ms[row.trade_id] = row.at_ms + self.rng.randint(0, self.dial.row_lag_ms)
                by_poll_only = not self.capabilities.client_ids and not tells_fills(row.symbol)
                told_ms = self.seen_from_ms[row.trade_id] if by_poll_only else row.at_ms
                self.unlearnt[client_id].append((self._filled[client_id], told_ms, row.trade_id))

    def orders(self) -> list[OrderRow]:
        return self._call("orders", "", self._all_orders)  # type: ignore[no-any-return]

    def _all_orders(self) -> list[OrderRow]:
        found = []
        for venue_id, entry in self.engine._entries.items():
            row = self._kept_orders.get(venue_id)
            if row is None:
                row = self._as_listed(entry.row())
                if row.state.closed:
                    self._kept_orders[venue_id] = row
            found.append(row)
        return found

    def _as_listed(self, row: OrderRow) -> OrderRow:
        shown = self._as_shown(row)
        told = shown.state is Reported.CANCELLED or tells_fills(row.symbol)
        return shown if told else msgspec.structs.replace(shown, filled=None, average=None)

    def fills(self) -> list[FillRow]:
        return self._call("fills", "", self._all_fills)  # type: ignore[no-any-return]

    def _all_fills(self) -> list[FillRow]:
        """Late, and with times that only tell the second."""
        now_ms = self._clock.now_ms()
        shown = (fill for fill in self.engine._fills if self.seen_from_ms[fill.trade_id] <= now_ms)
        return [msgspec.structs.replace(fill, at_ms=fill.at_ms - fill.at_ms % 1_000) for fill in shown]

    def _call(self, verb: str, client_id: str, act: Callable[[], Any]) -> Any:
        self._guard.check(f"broker.{verb}")
        self.calls.append((verb, client_id))
        if verb in ("submit", "replace", "cancel"):
            return self._order_call(verb, act)
        lot = self.rng.random()
        if lot < self.dial.read_fails:
            raise Unavailable("the venue is busy")
        rows = act()
        if lot < self.dial.read_fails + self.dial.read_slow:
            self._hold_up(SLOW_READ_MS)  # what was asked is old when it comes
        return rows

    def _hold_up(self, ms: int) -> None:
        """Time passes while this thread waits. One wait at a time: on this one stack a second would make the first longer."""
        if not self._held_up:
            self._held_up = True
            self.world.pass_time(ms)
            self._held_up = False

    def _order_call(self, verb: str, act: Callable[[], Any]) -> Any:
        dial, lot = self.dial, self.rng.random()
        for chance, fault in (
            (dial.reply_lost, self._lose_reply),
            (dial.arrives_late if verb == "submit" else 0, self._arrive_late),
            (dial.never_arrives, lose),
            (dial.reply_slow, self._reply_slowly),
            (dial.refused, _refuse),
            (dial.unreachable, _turn_away),
        ):
            if lot < chance:
                return fault(act)
            lot -= chance
        return act()

    def _lose_reply(self, act: Callable[[], Any]) -> Any:
        act()
        raise Unanswered("read timed out")

    def _arrive_late(self, act: Callable[[], Any]) -> Any:
        self.world.after(self.rng.randint(*self.dial.late_ms), lambda: _ignore(act()))
        raise Unanswered("read timed out")

    def _reply_slowly(self, act: Callable[[], Any]) -> Any:
        answer = act()
        self._hold_up(self.rng.randint(100, 1_500))
        return answer


def _ignore(answer: Any) -> None:
    """Nobody hears it."""


def lose(act: Callable[[], Any]) -> Any:
    raise Unanswered("connection reset")


def _refuse(act: Callable[[], Any]) -> Any:
    raise Refused("no")


def _turn_away(act: Callable[[], Any]) -> Any:
    raise Unavailable("429")
