"""Turns what the venue shows into events of the right symbol and order, whichever thread brings it.

Owns two maps: venue order id -> order of ours, and rows of ids nobody knows yet (the stream is often faster than the reply to
our own submit). Resolves unanswered submits by evidence (venues/openalgo.md, section 9). Decides nothing about positions.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from brokers.base import FillRow, OrderRow, PositionRow
from state.clock import Clock
from state.events import (
    Event,
    FillSeen,
    ForeignSeen,
    OrderMissing,
    OrderSeen,
    OrphanSeen,
    PositionSeen,
    ProvedAbsent,
    WasQuarantined,
)
from state.ledger import ELSEWHERE, Fill, Ledger
from state.orders import ZERO, Order, OrderType, Purpose, Status
from state.reconcile import share_out
from state.reports import Reported
from state.snapshot import Snapshot
from state.symbol_state import SymbolState

log = logging.getLogger(__name__)

KEPT_EARLY_ROWS = 512  # orders
KEPT_PER_ORDER = 8  # cumulative reports: the last ones tell it all
CLOCK_SKEW_MS = 5_000  # how far the venue's clock may be behind ours when a row's time is compared with a send


class Reports:
    """Thread-safe. Never calls a SymbolState while it holds its own lock."""

    def __init__(
        self,
        states: Mapping[str, SymbolState],
        clock: Clock,
        settle_window_s: float,
        by_id: bool = False,
        balances: bool = False,
        known: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """`known`: venue order id -> symbol, client order id of orders that ended too long ago for their snapshots to know."""
        self._states = states
        self._balances = balances
        self._by_id = by_id  # unanswered submits are asked for by our own id: nothing is claimed for its looks
        self._clock = clock
        self.settle_ms = int(settle_window_s * 1000)  # how long an unanswered order may still turn out accepted
        self.ahead_ms = 0  # how far our clock is known to be ahead of the venue's. Poll thread only
        self._lock = clock.threads.lock()  # guards the two maps
        ours = (known or {}).items()
        self._ours = {venue_id: owner for venue_id, owner in ours if owner[0] in states}  # id -> symbol, client order id
        self._early: OrderedDict[str, list[OrderRow]] = OrderedDict()
        self._over: dict[str, OrderRow] = {}  # last rows of ended orders of ours: shown all day, and no news. Poll thread only
        self._absent: set[str] = set()  # not in the book after the whole window, at the last look. Poll thread only
        for symbol, state in states.items():
            for order in (*state.snapshot.live_orders(), *state.snapshot.ended):
                if order.venue_id:
                    self._ours[order.venue_id] = (symbol, order.client_id)

    def bind(self, symbol: str, client_id: str, venue_id: str) -> list[OrderRow]:
        """From now on this venue order id is ours. Returns the rows that came before we knew; apply them after the acceptance."""
        with self._lock:
            self._ours[venue_id] = (symbol, client_id)
            return self._early.pop(venue_id, [])

    def order_update(self, row: OrderRow, asked_ms: int, source: str) -> bool:
        """One row from the stream or a query. True when it may be of an order that is looked for: the books will tell."""
        owner = self._owner(row)
        if owner is not None:
            self._see(*owner, row, asked_ms, source)
        elif row.symbol in self._states:
            with self._lock:
                rows = self._early.setdefault(row.venue_id, [])
                rows.append(row)
                del rows[:-KEPT_PER_ORDER]
                while len(self._early) > KEPT_EARLY_ROWS:
                    self._early.popitem(last=False)
            live = self._states[row.symbol].snapshot.live_orders()
            return any(_nameless(order) and order.status is Status.UNKNOWN for order in live)
        return False

    def sweep(
        self,
        orders: list[OrderRow],
        fills: list[FillRow],
        positions: list[PositionRow] | None,
        asked_ms: int,
        source: str = "poll",
    ) -> list[Order]:
        """The whole account as asked at `asked_ms` (monotonic). Fills first: a row that says complete finds them known.

        Returns the live orders of ours that the book did not show: each is to be asked for by its id.
        """
        orders = list({row.venue_id: row for row in orders}.values())  # a page that was read twice shows no second order
        strangers: dict[str, list[OrderRow]] = {}
        for row in orders:
            owner = self._owner(row)
            if owner is None and row.symbol in self._states:
                strangers.setdefault(row.symbol, []).append(row)
        shown = {row.venue_id for row in orders}
        for symbol, state in self._states.items():
            if any(_nameless(order) for order in state.snapshot.live_orders()) or symbol in strangers:
                unshown = [fill for fill in fills if fill.symbol == symbol and fill.venue_id not in shown]
                self._resolve(symbol, state, strangers.get(symbol, []), unshown, asked_ms)
        for fill in fills:
            self.fill(fill, source)
        for row in orders:
            if self._over.get(row.venue_id) == row:
                continue
            owner = self._owner(row)
            if owner is not None:
                self._see(*owner, row, asked_ms, source)
                self._look_for_orphan(*owner, row, asked_ms)
                self._remember_over(*owner, row)
        if positions is not None:
            self._positions(positions, fills, asked_ms)
        live = (order for state in self._states.values() for order in state.snapshot.live_orders())
        return [order for order in live if order.venue_id is not None and order.venue_id not in shown]

    def missing(self, order: Order, asked_ms: int) -> None:
        """Asked for by its id, the venue knows no such order."""
        self._apply(order.symbol, OrderMissing, client_id=order.client_id, asked_ms=asked_ms)

    def unresolved(self) -> list[Order]:
        """Submits without an answer, for a venue that can be asked for them by our own id."""
        live = (order for state in self._states.values() for order in state.snapshot.live_orders()) if self._by_id else ()
        return [order for order in live if _nameless(order) and order.status is Status.UNKNOWN]

    def resolved(self, order: Order, row: OrderRow | None, asked_ms: int) -> None:
        """The venue's own procedure has found it, or proved that it is not there."""
        if row is None:
            self._apply(order.symbol, ProvedAbsent, client_id=order.client_id)
            return
        early = self.bind(order.symbol, order.client_id, row.venue_id)
        for told in (*early, row):
            self._see(order.symbol, order.client_id, told, asked_ms, "poll")

    def doubtful(self, order: Order, reason: str) -> None:
        """What the venue has under our id is not what we asked for."""
        self._apply(order.symbol, WasQuarantined, client_id=order.client_id, reason=reason)

    # -- who owns a row --------------------------------------------------------------------------------------------------

    def _owner(self, row: OrderRow) -> tuple[str, str] | None:
        """By venue order id; else by our own id where the venue carries it."""
        with self._lock:
            owner = self._ours.get(row.venue_id)
            if owner is None and row.client_id is not None:
                state = self._states.get(row.symbol)
                if state is not None and _has(state.snapshot, row.client_id):
                    owner = self._ours[row.venue_id] = (row.symbol, row.client_id)
            return owner

    def _see(self, symbol: str, client_id: str, row: OrderRow, asked_ms: int, source: str) -> None:
        state = self._states[symbol]
        spelled = state.rules.instrument.spelled
        row = msgspec.structs.replace(
            row, trigger_price=spelled(row.trigger_price), limit_price=spelled(row.limit_price), average=spelled(row.average)
        )
        self._apply(symbol, OrderSeen, client_id=client_id, row=row, asked_ms=asked_ms, source=source)

    def _remember_over(self, symbol: str, client_id: str, row: OrderRow) -> None:
        """A last word that has been heard and whose order has left its slot says nothing more, however often it is shown."""
        if row.state.closed and self._states[symbol].snapshot.slot_of(client_id) is None:
            self._over[row.venue_id] = row

    def _look_for_orphan(self, symbol: str, client_id: str, row: OrderRow, asked_ms: int) -> None:
        if row.state is Reported.WORKING and self._states[symbol].snapshot.slot_of(client_id) is None:
            order = Order(
                client_id=client_id,
                symbol=symbol,
                purpose=_purpose(client_id),
                side=row.side,
                type=row.type or OrderType.LIMIT,
                qty=row.qty,
                limit_price=row.limit_price,
                trigger_price=row.trigger_price,
                status=Status.WORKING,
                venue_id=row.venue_id,
            )
            self._apply(symbol, OrphanSeen, order=order, asked_ms=asked_ms)

    def _apply(self, symbol: str, event: Callable[..., Event], **fields: Any) -> None:
        now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
        self._states[symbol].apply(event(**fields, **now))

    def fill(self, row: FillRow, source: str) -> None:
        """One execution; of an order of ours or it is nobody's business."""
        with self._lock:
            owner = self._ours.get(row.venue_id)
        if owner is None:
            return
        symbol, client_id = owner
        state = self._states[symbol]
        if row.trade_id in state.snapshot.ledger.trade_ids:
            return
        if state.rules.instrument.charged(row.fee, row.fee_currency) is None:
            log.warning("trade %s: its fee of %s %s is not in the profit", row.trade_id, row.fee, row.fee_currency)
        fill = self._made(row, state, client_id, _purpose(client_id), source)
        self._apply(symbol, FillSeen, fill=fill)

    def _made(self, row: FillRow, state: SymbolState, client_id: str, purpose: Purpose, source: str) -> Fill:
        fee, base_fee = state.rules.instrument.charged(row.fee, row.fee_currency) or (ZERO, ZERO)
        return Fill(
            trade_id=row.trade_id,
            client_id=client_id,
            purpose=purpose,
            side=row.side,
            qty=row.qty,
            price=state.rules.instrument.spelled(row.price) or row.price,
            at_ms=row.at_ms,
            fee=fee,
            fee_currency=row.fee_currency,
            source=source,
            base_fee=base_fee,
        )

    def _positions(self, rows: list[PositionRow], fills: list[FillRow], asked_ms: int) -> None:
        theirs: dict[str, list[Fill]] = {}
        with self._lock:
            unknown = [row for row in fills if row.venue_id not in self._ours and row.symbol in self._states]
        for row in sorted(unknown, key=lambda row: row.at_ms):
            fill = self._made(row, self._states[row.symbol], f"{row.symbol}{ELSEWHERE}X{row.venue_id}", Purpose.EXIT, "elsewhere")
            theirs.setdefault(row.symbol, []).append(fill)
        held = {row.symbol: row.qty for row in rows}
        held = self._shares(held) if self._balances else held
        for symbol, state in self._states.items():
            snapshot = state.snapshot
            strangers, qty = tuple(theirs.get(symbol, ())), held.get(symbol, ZERO)
            expected = None if snapshot.foreign_qty is None else snapshot.ledger.position + snapshot.foreign_qty
            if qty != expected or snapshot.disagreements or len(strangers) > len(snapshot.foreign_trades):
                own = self._own_since(
                    symbol, next((fill for fill in strangers if fill.trade_id not in snapshot.foreign_trades), None), fills
                )
                self._apply(symbol, PositionSeen, qty=qty, asked_ms=asked_ms, strangers=strangers, own=own)

    def _shares(self, balances: dict[str, Decimal]) -> dict[str, Decimal]:
        """Of an account that only tells its balances, what each symbol may call its own (REC-15)."""
        of_asset: dict[str, dict[str, Ledger]] = {}
        for symbol, state in self._states.items():
            of_asset.setdefault(state.rules.instrument.base, {})[symbol] = state.snapshot.ledger
        shares: dict[str, Decimal] = {}
        for asset, ledgers in of_asset.items():
            shares |= share_out(ledgers, balances.get(asset, ZERO)).qty
        return shares

    def _own_since(self, symbol: str, first: Fill | None, fills: list[FillRow]) -> tuple[tuple[int, Decimal], ...]:
        """Our executions after this one of somebody else, by the trade book: its times, and its order within one time."""
        if first is None:
            return ()
        rows = sorted((row for row in fills if row.symbol == symbol), key=lambda row: row.at_ms)
        after = rows[next(place for place, row in enumerate(rows) if row.trade_id == first.trade_id) :]
        with self._lock:
            ours = [row for row in after if row.venue_id in self._ours]
        made = (self._made(row, self._states[symbol], "", Purpose.EXIT, "") for row in ours)
        return tuple((fill.at_ms, fill.moved * fill.side.sign) for fill in made)

    # -- unanswered submits ------------------------------------------------------------------------------------------------

    def _resolve(self, symbol: str, state: SymbolState, strangers: list[OrderRow], unshown: list[FillRow], asked_ms: int) -> None:
        """One look-alike is ours, several are nobody's to choose, none after the whole settle window was never sent.

        `unshown`: executions in this symbol whose order the book does not show. With one of those, absence is not proved.
        """
        snapshot = state.snapshot
        if self._by_id:
            return self._remember_foreign(symbol, snapshot, strangers)
        nameless = [order for order in snapshot.live_orders() if _nameless(order)]
        for order in [order for order in nameless if order.status is Status.QUARANTINED and order.purpose is not Purpose.ENTRY]:
            if any(looks_like(order, row) and not row.state.closed for row in strangers):
                self._absent.discard(order.client_id)
            elif self._is_over(order, asked_ms):  # whatever it became, it works no longer: what it sold, the position tells
                self._give_up(symbol, order, strangers, unshown)
        for order in [order for order in nameless if order.status is Status.UNKNOWN]:
            alike = [row for row in strangers if looks_like(order, row, self.ahead_ms)]
            if len(alike) == 1:
                early = self.bind(symbol, order.client_id, alike[0].venue_id)
                for row in early:
                    self._see(symbol, order.client_id, row, asked_ms, "stream")
            elif alike:
                ids = ", ".join(row.venue_id for row in alike)
                self._apply(symbol, WasQuarantined, client_id=order.client_id, reason=f"venue orders {ids} all look like it")
            elif self._is_over(order, asked_ms):
                self._give_up(symbol, order, strangers, unshown)
        return self._remember_foreign(symbol, snapshot, strangers)

    def _is_over(self, order: Order, asked_ms: int) -> bool:
        return asked_ms - order.changed_ms >= self.settle_ms

    def _give_up(self, symbol: str, order: Order, strangers: list[OrderRow], unshown: list[FillRow]) -> None:
        """The window is over and the book shows nothing of it; do the executions agree, and can it have become another?"""
        with self._lock:
            nobodys = [fill for fill in unshown if fill.venue_id not in self._ours and fill.venue_id not in order.baseline]
        since_ms = order.created_ms - CLOCK_SKEW_MS - self.ahead_ms
        maybe = {fill.venue_id for fill in nobodys if fill.side is order.side and fill.at_ms >= since_ms}
        if maybe:
            reason = f"no order like it, but executions of {', '.join(sorted(maybe))}, which the book does not show"
            self._apply(symbol, WasQuarantined, client_id=order.client_id, reason=reason)
        elif changed := [row.venue_id for row in strangers if self._may_have_become(order, row)]:
            reason = f"no order like it, but venue order {', '.join(changed)} came since: ours, changed on its way?"
            self._apply(symbol, WasQuarantined, client_id=order.client_id, reason=reason)
        elif order.client_id not in self._absent:
            self._absent.add(order.client_id)  # one empty answer proves nothing
        else:
            self._absent.discard(order.client_id)
            self._apply(symbol, ProvedAbsent, client_id=order.client_id)

    def _may_have_become(self, order: Order, row: OrderRow) -> bool:
        """Gateways change an order that would trade at any price. What is over already is only of interest at first."""
        over = row.state is Reported.REJECTED or (row.state.closed and order.status is Status.QUARANTINED)
        if over or order.limit_price is not None:
            return False
        same_size: dict[str, Any] = {"type": None, "trigger_price": None, "limit_price": None}
        forgiven = same_size if row.qty == order.qty else {"qty": order.qty}
        return looks_like(order, msgspec.structs.replace(row, **forgiven), self.ahead_ms)

    def _came_late(self, order: Order, row: OrderRow) -> bool:
        return row.client_id == order.client_id if self._by_id else looks_like(order, row, self.ahead_ms)

    def _remember_foreign(self, symbol: str, snapshot: Snapshot, strangers: Iterable[OrderRow]) -> None:
        """Orders of others are left alone; one that looks like what we held for never sent came late, and a person must look."""
        if any(order.venue_id is None for order in snapshot.live_orders()):
            return  # one of these may be the one whose answer we wait for
        new = [row for row in strangers if row.venue_id not in snapshot.foreign]
        shown = [row for row in new if row.state is not Reported.REJECTED]
        for order in snapshot.ended:
            late = [row.venue_id for row in shown if order.venue_id is None and self._came_late(order, row)]
            if late:
                reason = f"venue order {', '.join(late)} looks like {order.client_id}"
                self._apply(symbol, WasQuarantined, client_id=order.client_id, reason=reason)
        if new:
            self._apply(symbol, ForeignSeen, venue_ids=tuple(row.venue_id for row in new))


def _nameless(order: Order) -> bool:
    return order.venue_id is None


def looks_like(order: Order, row: OrderRow, ahead_ms: int = 0) -> bool:
    """Could this row be that unanswered order? Everything the row says must agree; what it does not say cannot contradict.

    `ahead_ms`: how far our clock is ahead of the venue's, whose row then seems older than it is.
    """
    return (
        row.venue_id not in order.baseline
        and row.side is order.side
        and row.qty == order.qty
        and row.type in (None, order.type)
        and (row.trigger_price is None or row.trigger_price == order.trigger_price)
        and (row.limit_price is None or order.limit_price is None or row.limit_price == order.limit_price)
        and (row.at_ms is None or row.at_ms >= order.created_ms - CLOCK_SKEW_MS - ahead_ms)
        and row.client_id in (None, order.client_id)
    )


def _has(snapshot: Snapshot, client_id: str) -> bool:
    return any(order.client_id == client_id for order in (*snapshot.live_orders(), *snapshot.ended))


def _purpose(client_id: str) -> Purpose:
    """The letter before the sequence number: "SBIN-20261120-E0" is an entry."""
    return Purpose(client_id.rsplit("-", 1)[1][0])
