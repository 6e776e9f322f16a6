"""The account's transactions as they follow each other: what became of every order, link by link.

OANDA writes down everything that happens to an account under ids without a gap. This reads them in order, each once, whoever
brings them (the poll, the stream, a look for a lost answer), and owns what follows from them. It never asks anybody, and it
takes no transaction of which the one before is missing: what it says is complete up to `last`.

A replaced order, and what is left of a partly filled one, goes on under a new id there. Here both are links of one chain, known
by the id of its first: the venue order id that everybody else sees never changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from brokers.base import FillRow, OrderRow, Reported, Unreadable
from brokers.client_ids import ClientIds
from brokers.dialect import Incomplete, Trouble
from brokers.oanda_words import CREATES, EXPIRED, MARGIN_CLOSEOUT, REPLACED, text
from brokers.replies import number, printable, quantity
from brokers.spelling import Spelling
from state.orders import ZERO, OrderType, Side
from state.threads import Threads

KEPT_CHAINS = 2_000  # at 1.3 KB
KEPT_FILLS = 4_000
KEPT_LINKS = 64  # of one chain: those before can fill no more
DAY_MS = 86_400_000
News: TypeAlias = OrderRow | FillRow | Incomplete | Trouble
Transaction: TypeAlias = dict[str, Any]


class Missing(Unreadable):
    """The transaction before this one has not been read yet."""


class Chain(msgspec.Struct):
    """One order of the account under all the ids that it has had. Guarded by the lock of its log."""

    root: int
    symbol: str  # ours; "" for an order that belongs to a trade and names no instrument
    side: Side
    key: str  # the client id that the venue shows
    client_id: str | None
    batch: str  # in which it was made
    at_ms: int
    links: list[str]
    type: OrderType | None = None
    units: Decimal = ZERO  # of the last link
    before: Decimal = ZERO  # filled by the links before it
    trigger: Decimal | None = None
    limit: Decimal | None = None
    fills: dict[int, tuple[Decimal, Decimal]] = msgspec.field(default_factory=dict)  # quantity and price by transaction
    state: Reported = Reported.WORKING
    stood: bool = True  # false: refused, or made and cancelled in one go without a fill; as good as never sent
    reason: str = ""
    changed_ms: int = 0
    unreadable: bool = False

    @property
    def filled(self) -> Decimal:
        return sum((qty for qty, _ in self.fills.values()), ZERO)

    def row(self) -> OrderRow:
        filled = self.filled
        value = sum((qty * price for qty, price in self.fills.values()), ZERO)
        return OrderRow(
            venue_id=str(self.root),
            symbol=self.symbol,
            side=self.side,
            state=Reported.UNCLEAR if self.unreadable else self.state,
            qty=self.before + self.units,
            type=self.type,
            limit_price=self.limit,
            trigger_price=self.trigger,
            filled=None if self.unreadable else filled,
            average=value / filled if filled and not self.unreadable else None,
            client_id=self.client_id,
            at_ms=self.at_ms,
            label=self.client_id or self.key,
            reason=self.reason,
        )


class TransactionLog:
    """Thread-safe. `last` is the highest id read, `begins` the lowest; nothing is known of what was before it."""

    def __init__(self, ids: ClientIds, spelling: Spelling, threads: Threads) -> None:
        self._ids = ids
        self._spelling = spelling
        self._lock = threads.lock()  # guards everything below
        self.seen = 0  # the highest id that any answer has named
        self.unusable = 0  # transactions that lack what they must say
        self.currency = ""  # of the account, in which fees are taken
        self._start(1, 0)
        self.read = False

    def _start(self, begins: int, begins_ms: int) -> None:
        self.read = True
        self.begins, self.begins_ms = begins, begins_ms
        self.last = begins - 1
        self.forgotten = 0  # the highest first id of a chain that was let go for want of room
        self._newest_ms = begins_ms
        self._chains: dict[int, Chain] = {}
        self._of: dict[str, Chain] = {}  # by the id of each link
        self._fills: deque[FillRow] = deque(maxlen=KEPT_FILLS)
        self._part: tuple[str, Chain] | None = None  # batch and order of a partial fill: the rest may go on under a new id

    # -- reading ---------------------------------------------------------------------------------------------------------

    def load(self, transactions: list[Transaction], begins: int) -> None:
        """From the beginning again: these and nothing before them."""
        with self._lock:
            self._start(begins, time_ms(transactions[0].get("time")) if transactions else 0)
            for transaction in transactions:
                self._take(transaction)

    def take(self, transactions: Iterable[Transaction]) -> None:
        """The next ones; those that are known change nothing. Raises Missing at a gap."""
        with self._lock:
            for transaction in transactions:
                self._take(transaction)

    def heard(self, last: int) -> None:
        with self._lock:
            self.seen = max(self.seen, last)

    def _take(self, transaction: Transaction) -> None:
        id = id_of(transaction, "id")
        if id <= self.last:
            return
        if id != self.last + 1:
            raise Missing(f"transaction {self.last + 1} is missing before {id}")
        self.last, self.seen = id, max(self.seen, id)
        self._newest_ms = max(self._newest_ms, time_ms(transaction.get("time")))
        kind = text(transaction, "type")
        if kind in CREATES:
            self._created(id, transaction, kind)
        elif kind.endswith("_ORDER_REJECT") and kind.removesuffix("_REJECT") in CREATES:
            self._rejected(id, transaction, kind.removesuffix("_REJECT"))
        elif kind == "ORDER_FILL":
            self._filled(id, transaction)
        elif kind == "ORDER_CANCEL":
            self._cancelled(transaction)

    def _created(self, id: int, made: Transaction, kind: str) -> Chain:
        chain = self._predecessor(made)
        if chain is None:
            chain = self._new_chain(id, made)
        else:
            chain.before = chain.filled
            chain.state, chain.reason = Reported.WORKING, ""
            chain.links.append(str(id))
            for old in chain.links[:-KEPT_LINKS]:
                self._of.pop(old, None)
            del chain.links[:-KEPT_LINKS]
        self._of[str(id)] = chain
        self._set_values(chain, made, kind)
        return chain

    def _predecessor(self, made: Transaction) -> Chain | None:
        """The order that goes on as this one: replaced by it, or what a partial fill of the same batch has left of it."""
        chain = self._of.get(text(made, "replacesOrderID"))
        if chain is not None or self._part is None or self._part[0] != text(made, "batchID"):
            return chain
        part = self._part[1]
        left = (part.before + part.units - part.filled) * part.side.sign
        try:
            return part if self._symbol(made) == part.symbol and _units(made) == left else None
        except Unreadable:
            return None

    def _new_chain(self, id: int, made: Transaction) -> Chain:
        extensions = made.get("clientExtensions")
        extensions = extensions if isinstance(extensions, dict) else {}
        key, comment = text(extensions, "id"), text(extensions, "comment")
        ours = comment if key and comment and self._ids.uuid(comment) == key else self._ids.ours(key) if key else None
        at_ms = time_ms(made.get("time"))
        chain = Chain(id, self._symbol(made), _side(made), key, ours, text(made, "batchID"), at_ms, [str(id)], changed_ms=at_ms)
        self._chains[id] = chain
        self._make_room()
        return chain

    def _set_values(self, chain: Chain, made: Transaction, kind: str) -> None:
        chain.changed_ms = time_ms(made.get("time"))
        try:
            price = _price(made, "price")
            bound = _price(made, "priceBound")
            chain.units = abs(_units(made)) if chain.symbol else ZERO
            chain.type = CREATES[kind]
        except Unreadable:
            self._doubt(chain)
            return
        if chain.type is OrderType.STOP:
            chain.trigger, chain.limit = price, bound
            chain.type = OrderType.STOP if bound is None else OrderType.STOP_LIMIT
        elif chain.type is OrderType.LIMIT:
            chain.limit = price

    def _rejected(self, id: int, refused: Transaction, kind: str) -> None:
        """An order that the venue refused has used up an id all the same. A refused change leaves its order as it was."""
        if text(refused, "replacesOrderID") or text(refused, "intendedReplacesOrderID"):
            return
        chain = self._new_chain(id, refused)
        self._of[str(id)] = chain
        self._set_values(chain, refused, kind)
        chain.state, chain.stood, chain.reason = Reported.REJECTED, False, text(refused, "rejectReason")
        chain.unreadable = False  # whatever it lacked is the reason

    def _filled(self, id: int, fill: Transaction) -> None:
        chain = self._of.get(text(fill, "orderID"))
        try:
            row = self._fill_row(fill, chain)
        except Unreadable:
            if chain is not None:
                self._doubt(chain)
            return
        self._fills.append(row)
        if chain is None:
            return
        chain.fills[id] = (row.qty, row.price)
        chain.changed_ms = row.at_ms
        if chain.filled >= chain.before + chain.units:
            chain.state = Reported.FILLED
        else:  # an order fills once: what is left is a new link, or is no more
            chain.state, chain.reason = Reported.CANCELLED, "filled in part"
            self._part = (text(fill, "batchID"), chain)

    def _cancelled(self, cancel: Transaction) -> None:
        chain = self._of.get(text(cancel, "orderID"))
        if chain is None:
            return
        reason = text(cancel, "reason")
        if chain.state is Reported.FILLED or (reason == REPLACED and text(cancel, "replacedByOrderID")):
            return  # the order that goes on says so itself
        chain.changed_ms, chain.reason = time_ms(cancel.get("time")), reason
        if not chain.fills and len(chain.links) == 1 and text(cancel, "batchID") == chain.batch:
            chain.state, chain.stood = Reported.REJECTED, False
        else:
            chain.state = Reported.EXPIRED if reason == EXPIRED else Reported.CANCELLED

    def _fill_row(self, fill: Transaction, chain: Chain | None) -> FillRow:
        order = text(fill, "orderID")
        units = _units(fill)
        closed = fill.get("tradesClosed")
        parts = [fill.get("tradeOpened"), fill.get("tradeReduced"), *(closed if isinstance(closed, list) else [])]
        moved = sum((abs(_units(part)) for part in parts if isinstance(part, dict)), ZERO)
        qty = moved or abs(units)
        opened = fill.get("tradeOpened")
        paid = _price(fill, "fullVWAP") or (_price(opened, "price") if isinstance(opened, dict) else None)
        paid = paid or _price(fill, "price")
        if not qty or paid is None:
            raise Unreadable(f"schema: fill {text(fill, 'id')} has no {'price' if qty else 'quantity'}")
        fee = sum((number(fill[key], key) for key in ("commission", "guaranteedExecutionFee") if fill.get(key)), ZERO)
        return FillRow(
            trade_id=text(fill, "id"),
            venue_id=order if chain is None else str(chain.root),
            symbol=self._symbol(fill),
            side=Side.BUY if units > 0 else Side.SELL,
            qty=qty,
            price=paid,
            at_ms=time_ms(fill.get("time")),
            fee=fee,
            fee_currency=self.currency if fee else "",
        )

    def _doubt(self, chain: Chain) -> None:
        self.unusable += 1
        chain.unreadable = True

    def _symbol(self, transaction: Transaction) -> str:
        name = text(transaction, "instrument")
        return printable(self._spelling.ours(name)) if name else ""

    def _make_room(self) -> None:
        """Of what has ended, the oldest goes."""
        while len(self._chains) > KEPT_CHAINS:
            over = next((chain for chain in self._chains.values() if chain.state.closed), None)
            if over is None:
                return
            self.forgotten = max(self.forgotten, over.root)
            del self._chains[over.root]
            for link in over.links:
                self._of.pop(link, None)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def rows(self) -> list[OrderRow]:
        """Every order that stands, or that ended less than a day before the newest transaction."""
        with self._lock:
            chains = [chain for chain in self._chains.values() if chain.symbol and chain.stood]
            return [chain.row() for chain in chains if not chain.state.closed or self._today(chain.changed_ms)]

    def fills(self) -> list[FillRow]:
        with self._lock:
            return [fill for fill in self._fills if self._today(fill.at_ms)]

    def _today(self, at_ms: int) -> bool:
        """Less than a day before the newest transaction, by the venue's own times; what has none is shown."""
        return not at_ms or self._newest_ms - at_ms <= DAY_MS

    def row(self, venue_id: str) -> OrderRow | None:
        with self._lock:
            chain = self._chains.get(int(venue_id)) if venue_id.isdigit() else None
            return None if chain is None else chain.row()

    def link(self, venue_id: str) -> tuple[str, Decimal] | None:
        """The id under which this order is to be spoken of now, and what it has filled."""
        with self._lock:
            chain = self._chains.get(int(venue_id)) if venue_id.isdigit() else None
            return None if chain is None else (chain.links[-1], chain.filled)

    def named(self, key: str) -> list[tuple[OrderRow, bool]]:
        """The orders under this client id, oldest first, and whether each ever stood."""
        with self._lock:
            return [(chain.row(), chain.stood) for chain in self._chains.values() if chain.key == key]

    def news(self, transaction: Transaction) -> list[News]:
        """What a transaction that has been read says to those who follow the orders."""
        kind = text(transaction, "type")
        with self._lock:
            if kind == "ORDER_FILL":
                return self._news_of_fill(transaction)
            chain = self._of.get(text(transaction, "orderID" if kind == "ORDER_CANCEL" else "id"))
            if chain is None or not chain.symbol or not chain.stood:
                return []
            if kind == "ORDER_CANCEL" and text(transaction, "reason") != REPLACED:
                return [chain.row()]
            # That an order was made its answer tells, or the search for it; that it goes on as another one nobody else does.
            return [chain.row()] if kind in CREATES and str(chain.root) != text(transaction, "id") else []

    def _news_of_fill(self, fill: Transaction) -> list[News]:
        chain = self._of.get(text(fill, "orderID"))
        try:
            news: list[News] = [self._fill_row(fill, chain)]
        except Unreadable as wrong:
            return [Incomplete(str(wrong))]
        if text(fill, "reason") == MARGIN_CLOSEOUT:
            news.append(Trouble(f"margin closeout: the venue has closed {text(fill, 'units')} {text(fill, 'instrument')}"))
        if chain is not None and chain.symbol:
            part = chain.state is Reported.CANCELLED and chain.filled < chain.before + chain.units
            news.append(Incomplete(f"order {chain.root} filled in part") if part else chain.row())
        return news


def id_of(found: Transaction, key: str) -> int:
    """Transaction ids are whole numbers in texts: "9" comes before "10"."""
    value = found.get(key)
    if isinstance(value, str) and value.isdigit() and len(value) <= 18:
        return int(value)
    raise Unreadable(f"schema: {key} is {printable(repr(value), 40)}, not a transaction id")


def time_ms(value: object) -> int:
    """RFC 3339 with up to nine decimals, cut to milliseconds; 0 for anything else."""
    if not isinstance(value, str) or len(value) < 20 or value[-1] != "Z":
        return 0
    try:
        whole = datetime.fromisoformat(value[:19]).replace(tzinfo=UTC)
        return int(whole.timestamp()) * 1000 + int(value[20:-1].ljust(3, "0")[:3] or 0)
    except ValueError:
        return 0


def _units(found: Transaction) -> Decimal:
    return number(found.get("units"), "units")


def _side(found: Transaction) -> Side:
    return Side.SELL if str(found.get("units", "")).startswith("-") else Side.BUY


def _price(found: Transaction, key: str) -> Decimal | None:
    value = found.get(key)
    return None if value in (None, "") else quantity(value, key) or None
