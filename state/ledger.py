"""The fill ledger: what every order of one symbol has executed, and the position that follows. Nothing else knows a position.

Two kinds of evidence arrive, in any order, any number of times: *trade rows*, keyed by the venue's trade id, and *cumulative
reports* ("3 of 5 filled at 100.40"). An order has filled the larger of the two; rows replace a report as they come in. A fee
taken in the traded thing itself is not in our hands: the position is the sum of the executions less such fees.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Self

import msgspec

from state.orders import ZERO, Purpose, Side

ELSEWHERE = "-elsewhere-"  # in the client order id that stands for an order of somebody else
LAST = 1 << 62
KEPT_ACCOUNTS = 32  # orders whose cumulative reports are still believed; older ones only count new trade ids


class Fill(msgspec.Struct, frozen=True, omit_defaults=True):
    """One execution, or (with `cumulative`) a report of all of an order's executions so far at their average price.

    `at_ms` is the venue's time, UTC epoch ms. `source` says how it was learnt: stream, poll, reply or recovery. `fee` is in quote
    currency, `base_fee` in units of the quantity: of 1 bought with a base fee of 0.002, 0.998 came in.
    """

    trade_id: str
    client_id: str
    purpose: Purpose
    side: Side
    qty: Decimal
    price: Decimal
    at_ms: int
    fee: Decimal = ZERO
    fee_currency: str = ""
    source: str = ""
    cumulative: bool = False
    base_fee: Decimal = ZERO

    @property
    def all_fees(self) -> Decimal:
        """In quote currency, what was taken in the base valued at this execution's price."""
        return self.fee + self.base_fee * self.price

    @property
    def moved(self) -> Decimal:
        """How far this moved the position, unsigned: a base fee makes a purchase smaller and a sale larger."""
        return self.qty - self.base_fee * self.side.sign


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one order has executed, by both kinds of evidence."""

    client_id: str
    purpose: Purpose
    side: Side
    rows_qty: Decimal = ZERO
    rows_value: Decimal = ZERO
    reported_qty: Decimal = ZERO
    reported_value: Decimal = ZERO

    @property
    def filled(self) -> Decimal:
        return max(self.rows_qty, self.reported_qty)

    @property
    def average(self) -> Decimal:
        """Volume-weighted price of the fullest evidence; 0 before any."""
        if self.rows_qty >= self.reported_qty:
            return self.rows_value / self.rows_qty if self.rows_qty else ZERO
        return self.reported_value / self.reported_qty

    @property
    def value(self) -> Decimal:
        """What changed hands, in quote currency."""
        return self.rows_value if self.rows_qty >= self.reported_qty else self.reported_value

    @property
    def covered(self) -> bool:
        """Every execution is known by its trade row."""
        return self.rows_qty >= self.reported_qty

    def add(self, fill: Fill) -> Account:
        value = fill.qty * fill.price
        if not fill.cumulative:
            return msgspec.structs.replace(self, rows_qty=self.rows_qty + fill.qty, rows_value=self.rows_value + value)
        if fill.qty <= self.reported_qty:
            return self
        return msgspec.structs.replace(self, reported_qty=fill.qty, reported_value=value)


class TradeIds(msgspec.Struct, frozen=True):
    """Every trade id heard of, as a value that shares what it was made from: one more costs the same after 20,000 as after 20.

    None is ever forgotten, because the venue's whole trade book is read again at every poll. Chunks at least halve in size from
    one to the next, so there are few of them, and equal histories give equal chunks.
    """

    chunks: tuple[frozenset[str], ...] = ()

    def __contains__(self, trade_id: str) -> bool:
        return any(trade_id in chunk for chunk in self.chunks)

    def __len__(self) -> int:
        return sum(map(len, self.chunks))

    def with_one_more(self, trade_id: str) -> TradeIds:
        kept, newest = self.chunks, frozenset((trade_id,))
        while kept and len(kept[-1]) <= len(newest):
            newest |= kept[-1]
            kept = kept[:-1]
        return TradeIds((*kept, newest))


class Ledger(msgspec.Struct, frozen=True):
    """All accounts of one symbol and session. A value: `add` returns a new one, or itself when the evidence is not new."""

    accounts: tuple[Account, ...] = ()
    trade_ids: TradeIds = TradeIds()
    position: Decimal = ZERO  # signed net quantity: what we hold by our own executions
    cash: Decimal = ZERO  # received minus paid, after fees: with the value of the position it is the profit

    def profit(self, price: Decimal | None) -> Decimal:
        """Realised and open profit after fees, the position valued at `price` (at nothing gained where there is none)."""
        position = self.position
        if not position:
            return self.cash
        return self.cash + position * (self._opened_at(position) if price is None else price)

    def _opened_at(self, position: Decimal) -> Decimal:
        """What the position was last added to at."""
        added = [account.average for account in self.accounts if account.filled and account.side.sign * position > 0]
        return added[-1] if added else ZERO

    def account(self, client_id: str | None) -> Account | None:
        for account in self.accounts:
            if account.client_id == client_id:
                return account
        return None

    def filled(self, client_id: str) -> Decimal:
        account = self.account(client_id)
        return account.filled if account else ZERO

    def average(self, client_id: str | None) -> Decimal | None:
        account = self.account(client_id)
        return account.average if account and account.filled else None

    def add(self, fill: Fill) -> Self:
        if fill.qty <= 0 or fill.price <= 0 or fill.trade_id in self.trade_ids:
            return self
        before = self.account(fill.client_id)
        after = (before or Account(fill.client_id, fill.purpose, fill.side)).add(fill)
        if after == before:
            return self
        accounts = tuple(after if account is before else account for account in self.accounts)
        ids = self.trade_ids if fill.cumulative else self.trade_ids.with_one_more(fill.trade_id)
        paid = (after.value - (before.value if before else ZERO)) * fill.side.sign + (ZERO if fill.cumulative else fill.fee)
        accounts = accounts if before else (*accounts, after)
        position = self.position + (after.filled - (before.filled if before else ZERO)) * fill.side.sign
        position -= ZERO if fill.cumulative else fill.base_fee
        grown = msgspec.structs.replace(self, accounts=accounts, trade_ids=ids, cash=self.cash - paid, position=position)
        return grown._fold() if len(grown.accounts) > KEPT_ACCOUNTS else grown

    def _fold(self) -> Self:
        """Forget the oldest account that needs no more evidence; its quantity stays in the position."""
        for index, account in enumerate(self.accounts[: KEPT_ACCOUNTS // 2]):
            if account.covered:
                rest = self.accounts[:index] + self.accounts[index + 1 :]
                return msgspec.structs.replace(self, accounts=rest)
        return self


class Trade(msgspec.Struct, frozen=True):
    """One round trip, or the open rest of one (`exit_ms` None). `gross` and `net` in quote currency; `net` = gross − fees.

    `qty` is what came in. `dust`: what was left of it, too little to be sold; neither its cost nor its worth is in `gross`.
    """

    symbol: str
    side: Side
    qty: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    entry_ms: int
    exit_ms: int | None
    gross: Decimal
    fees: Decimal
    entry_order: str
    exit_order: str
    source: str
    dust: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        return self.gross - self.fees


def settled_fills(fills: list[Fill]) -> list[Fill]:
    """Executions once each: trade rows, and for what no row covers yet one row made of the cumulative report."""
    rows: dict[str, Fill] = {}
    reports: dict[str, Fill] = {}
    for fill in fills:
        if not fill.cumulative:
            rows.setdefault(fill.trade_id, fill)
        elif fill.client_id not in reports or fill.qty > reports[fill.client_id].qty:
            reports[fill.client_id] = fill
    out = list(rows.values())
    for client_id, report in reports.items():
        known = [fill for fill in out if fill.client_id == client_id]
        qty = sum((fill.qty for fill in known), ZERO)
        if report.qty > qty:
            value = report.qty * report.price - sum((fill.qty * fill.price for fill in known), ZERO)
            rest = report.qty - qty
            out.append(msgspec.structs.replace(report, qty=rest, price=value / rest, cumulative=False))
    return sorted(out, key=_when)


def _when(fill: Fill) -> tuple[int, int]:
    """By the venue's time; within one instant (some venues only tell the second) by the order in which we decided."""
    number = fill.client_id.rsplit("-", 1)[-1][1:]
    ours = number.isdigit() and ELSEWHERE not in fill.client_id
    return fill.at_ms, int(number) if ours else LAST


class _Trip:
    """One round trip while its fills are being read, in order. `carried`: dust of the trip before, at what it was bought for."""

    def __init__(self, side: Side, carried: Fill | None = None) -> None:
        self.side = side
        self.entries: list[Fill] = [] if carried is None else [carried]
        self.exits: list[Fill] = []
        self.open = ZERO if carried is None else carried.qty
        self._carried = carried

    def rest(self) -> Fill | None:
        """What is still open, as the last that came in."""
        return msgspec.structs.replace(self.entries[-1], qty=self.open, fee=ZERO) if self.open else None

    def trade(self, symbol: str, dust: Decimal = ZERO) -> Trade:
        entry_qty, entry_value = _sums(self.entries)
        exit_qty, exit_value = _sums(self.exits)
        entry_price = entry_value / entry_qty
        closed = self.open == dust
        # What was sold again cost the whole less what is left: an average of thirds would cost the last digit.
        paid = entry_value - dust * self.entries[-1].price if closed else entry_price * exit_qty
        gross = (exit_value - paid) * self.side.sign
        first = next((fill for fill in self.entries if fill is not self._carried), self.entries[0])
        return Trade(
            symbol=symbol,
            side=self.side,
            qty=entry_qty,
            entry_price=entry_price,
            exit_price=exit_value / exit_qty if exit_qty else None,
            entry_ms=first.at_ms,
            exit_ms=self.exits[-1].at_ms if closed else None,
            gross=gross,
            fees=sum((fill.fee for fill in self.entries + self.exits), ZERO),
            entry_order=first.client_id,
            exit_order=self.exits[-1].client_id if self.exits else "",
            source=(self.exits or self.entries)[-1].source,
            dust=dust,
        )


def _sums(fills: list[Fill]) -> tuple[Decimal, Decimal]:
    return sum((fill.qty for fill in fills), ZERO), sum((fill.qty * fill.price for fill in fills), ZERO)


def trades(symbol: str, fills: list[Fill], dusts: Collection[Decimal] = ()) -> list[Trade]:
    """Round trips of one symbol, flat to flat; a fill that turns the position round is split between two trips.

    Pure. `fills` in any order, with repeats and reports; a trip still open comes last with `exit_ms` None. `dusts`: the rests
    with which the position counted as flat; such a rest is carried into the trip that follows.
    """
    done: list[Trade] = []
    trip: _Trip | None = None
    for fill in map(_as_moved, settled_fills(fills)):
        rest = fill
        while rest.qty > 0:
            if trip is not None and rest.side is trip.side and _left_as_dust(trip, dusts):
                done.append(trip.trade(symbol, trip.open))
                trip = _Trip(trip.side, trip.rest())
            if trip is None:
                trip = _Trip(rest.side)
            if rest.side is trip.side:
                trip.entries.append(rest)
                trip.open += rest.qty
                break
            part = min(rest.qty, trip.open)
            trip.exits.append(_part(rest, part))
            trip.open -= part
            rest = _part(rest, rest.qty - part)
            if trip.open == 0:
                done.append(trip.trade(symbol))
                trip = None
    if trip is not None:
        done.append(trip.trade(symbol, trip.open if _left_as_dust(trip, dusts) else ZERO))
    return done


def _left_as_dust(trip: _Trip, dusts: Collection[Decimal]) -> bool:
    return bool(trip.exits) and trip.open in dusts


def _as_moved(fill: Fill) -> Fill:
    """In quantities that moved the position, with all its fees in quote currency."""
    return msgspec.structs.replace(fill, qty=fill.moved, fee=fill.all_fees, base_fee=ZERO) if fill.base_fee else fill


def _part(fill: Fill, qty: Decimal) -> Fill:
    if qty == fill.qty:
        return fill
    return msgspec.structs.replace(fill, qty=qty, fee=fill.fee * qty / fill.qty)
