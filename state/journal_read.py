"""The journal read back: what a session's records say of its symbols, orders, fills and alarms. Never writes.

`History` folds records in the order they were committed; the runner uses it to recover, `JournalReader` gives it to the command
line and the report, from another process if need be, while the runner writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from state.journal_delta import Body, apply_body, context_of, decode_body, fills_of, spelled_out
from state.journal_file import Row, SessionInfo, damaged, last_rows, open_for_reading, rows, seal_of, sessions, trouble
from state.ledger import Fill, Ledger, Trade, trades
from state.orders import ZERO, Order, Purpose, Status
from state.snapshot import Snapshot

_WORD_OF_EVENT = {"WasRefused": "REFUSED", "ProvedAbsent": "ABSENT"}
_ANSWERS = ("Accepted", "OrderSeen", "FillSeen", "WasRefused")


class OrderRecord(msgspec.Struct, frozen=True):
    """One order of ours, from intent to end. Times are session time; None: has not happened.

    `status` is the order's status while it has a slot; ended, it is the last word: the venue's (FILLED, CANCELLED, REJECTED,
    EXPIRED), REFUSED, ABSENT (nothing of it at the venue after the settle window) or NOT SENT. `sent`: it may have left us.
    `doubted`: its outcome was not known at some time.
    """

    order: Order
    ended: bool
    status: str
    reason: str
    intended_ms: int
    answered_ms: int | None = None
    ended_ms: int | None = None
    sent: bool = False
    doubted: bool = False
    filled: Decimal = ZERO
    average: Decimal | None = None

    @property
    def client_id(self) -> str:
        return self.order.client_id

    @property
    def venue_id(self) -> str | None:
        return self.order.venue_id


class AlarmRecord(msgspec.Struct, frozen=True):
    symbol: str
    now_ms: int
    text: str


class Record(msgspec.Struct, frozen=True):
    """One record for people: which event, on which thread, and what it changed (`change` by field name, as journaled)."""

    number: int
    symbol: str
    version: int
    kind: str
    now_ms: int
    wall_ms: int
    thread: str
    client_id: str
    event: dict[str, Any]
    change: dict[str, Any]
    fills: tuple[Fill, ...]
    alarms: tuple[str, ...]


class History:
    """Everything the records of one session add up to. `add` them in their order, each once."""

    def __init__(self, seal: bytes) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.fills: dict[str, list[Fill]] = {}
        self.dusts: dict[str, set[Decimal]] = {}  # rests with which a symbol was flat
        self.orders: dict[str, OrderRecord] = {}
        self.alarms: list[AlarmRecord] = []
        self.number = 0  # of the last record
        self.chain = seal

    def add(self, row: Row) -> None:
        """A record whose place in the chain was checked."""
        body = decode_body(row.body)
        context = context_of(row.symbol, row.client_id, row.now_ms, body)
        before = self.snapshots.get(row.symbol) or Snapshot(row.symbol)
        after = apply_body(before, row.version, body, context)
        fills = fills_of(body, context)
        self.snapshots[row.symbol] = after
        self.fills.setdefault(row.symbol, []).extend(fills)
        if after.dust and not after.position:
            self.dusts.setdefault(row.symbol, set()).add(abs(after.dust))
        self.alarms += [AlarmRecord(row.symbol, row.now_ms, text) for text in body.a]
        self._orders(before, after, row, body)
        for fill in fills:
            if fill.client_id in self.orders:
                self._filled(fill.client_id, after.ledger)
        self.number, self.chain = row.number, row.chain

    def _orders(self, before: Snapshot, after: Snapshot, row: Row, body: Body) -> None:
        live = {order.client_id: order for order in after.live_orders()}
        for order in live.values():
            self._seen(order, row, body)
        old = {order.client_id: order for order in before.ended}
        for order in after.ended:
            if order.client_id not in old:
                self._over(order, row, body, after.why)
            elif order.status is Status.QUARANTINED and old[order.client_id].status is not Status.QUARANTINED:
                known = self.orders[order.client_id]  # held for never sent, and shown by the venue after all
                self.orders[order.client_id] = replace(known, order=order, status=order.status.value, reason=after.halted or "")
        for order in before.live_orders():
            if order.client_id not in live and not self.orders[order.client_id].ended:
                self._over(order, row, body, after.why)

    def _seen(self, order: Order, row: Row, body: Body) -> None:
        known = self.orders.get(order.client_id)
        if known is None:
            known = OrderRecord(order, False, order.status.value, order.reason, row.now_ms)
        elif known.order is order and row.client_id != order.client_id:
            return
        answered_ms = row.now_ms if row.client_id == order.client_id and row.kind in _ANSWERS else None
        doubted = order.status is Status.UNKNOWN and (order.venue_id is None or row.kind == "WentUnanswered")
        self.orders[order.client_id] = replace(
            known,
            order=order,
            ended=False,
            status=order.status.value,
            reason=body.e.get("reason", "") if order.status is Status.QUARANTINED else order.reason,
            answered_ms=answered_ms if known.answered_ms is None else known.answered_ms,
            sent=known.sent or order.status is not Status.INTENT,
            doubted=known.doubted or doubted,
        )

    def _over(self, order: Order, row: Row, body: Body, why: str) -> None:
        self._seen(order, row, body)
        known = self.orders[order.client_id]
        told = row.client_id == order.client_id
        word, reason = _last_word(row.kind, body) if told else ("NOT SENT", why if order.purpose is Purpose.ENTRY else "")
        self.orders[order.client_id] = replace(
            known,
            ended=True,
            status=word,
            reason=reason or known.reason,
            ended_ms=row.now_ms,
            answered_ms=row.now_ms if known.answered_ms is None and told and row.kind in _ANSWERS else known.answered_ms,
            sent=known.sent or (told and row.kind in _ANSWERS),
        )

    def _filled(self, client_id: str, ledger: Ledger) -> None:
        account = ledger.account(client_id)
        if account is not None:
            known = self.orders[client_id]
            self.orders[client_id] = replace(known, filled=account.filled, average=account.average)

    def summary(self) -> dict[str, int]:
        """What the report says of the session's orders: `unknown` and `quarantined` are what they are now."""
        refused = ("REFUSED", "REJECTED")
        return {
            "sent": sum(order.sent for order in self.orders.values()),
            "refused": sum(order.status in refused for order in self.orders.values()),
            "unknown": sum(order.status == Status.UNKNOWN.value for order in self.orders.values()),
            "quarantined": sum(order.status == Status.QUARANTINED.value for order in self.orders.values()),
        }


def _last_word(kind: str, body: Body) -> tuple[str, str]:
    if kind == "OrderSeen":
        row = body.e["row"]
        return str(row["state"]), str(row.get("reason", ""))
    return _WORD_OF_EVENT.get(kind, "NOT SENT"), str(body.e.get("reason", ""))


def fold(history: History, found: Iterable[Row]) -> list[Row]:
    """Add rows as long as each follows the one before; what comes from the first that does not, is returned."""
    left: list[Row] = []
    for row in found:
        if left or not row.follows(history.chain):
            left.append(row)
        else:
            history.add(row)
    return left


class JournalReader:
    """Read-only, for one thread at a time. Every answer has all that was committed before the question.

    `session` is a SessionInfo's id; without it the newest session is meant. No session at all answers empty.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._histories: dict[int, History] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """JournalMissing, JournalNewer or JournalDamaged, each with words for a person."""
        return cls(open_for_reading(path), path)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sessions(self) -> list[SessionInfo]:
        try:
            return sessions(self._connection)
        except (ValueError, TypeError) as error:
            raise damaged(self._path, str(error)) from error
        except sqlite3.Error as error:
            raise trouble(self._path, error) from error

    def latest(self) -> SessionInfo | None:
        """The session that was begun, or begun again, last."""
        return max(self.sessions(), key=lambda session: (session.begun_wall_ms, session.id), default=None)

    def symbols(self, session: int | None = None) -> list[str]:
        return list(self.snapshots(session))

    def snapshots(self, session: int | None = None) -> dict[str, Snapshot]:
        """The last committed snapshot of every symbol, in the order they first appear."""
        return dict(self._history(session).snapshots)

    def fills(self, symbol: str, session: int | None = None) -> list[Fill]:
        """The evidence of executions as it came in, reports and trade rows; `ledger.settled_fills` makes executions of it."""
        return list(self._history(session).fills.get(symbol, ()))

    def trades(self, symbol: str, session: int | None = None) -> list[Trade]:
        history = self._history(session)
        return trades(symbol, history.fills.get(symbol, []), history.dusts.get(symbol, ()))

    def orders(self, session: int | None = None) -> list[OrderRecord]:
        """One per client order id, in the order they were decided."""
        return list(self._history(session).orders.values())

    def alarms(self, session: int | None = None) -> list[AlarmRecord]:
        return list(self._history(session).alarms)

    def orders_summary(self, session: int | None = None) -> dict[str, int]:
        return self._history(session).summary()

    def records(self, symbol: str | None = None, limit: int = 100, session: int | None = None) -> list[Record]:
        """The newest `limit` records, oldest of them first."""
        found = self._find(session)
        if found is None:
            return []
        try:
            return [_record(row) for row in last_rows(self._connection, found.id, symbol, limit)]
        except sqlite3.Error as error:
            raise trouble(self._path, error) from error
        except (msgspec.MsgspecError, ValueError) as error:
            raise damaged(self._path, f"a record of session {found.id} cannot be read: {error}") from error

    def _find(self, session: int | None) -> SessionInfo | None:
        if session is None:
            return self.latest()
        return next((found for found in self.sessions() if found.id == session), None)

    def _history(self, session: int | None) -> History:
        """What was known at the last question, and what has been committed since."""
        found = self._find(session)
        if found is None:
            return History(b"")
        history = self._histories.get(found.id) or History(seal_of(found))
        try:
            left = fold(history, rows(self._connection, found.id, history.number))
            if left and history.number:  # the tail was repaired since: from the beginning
                history = History(seal_of(found))
                left = fold(history, rows(self._connection, found.id))
        except sqlite3.Error as error:
            raise trouble(self._path, error) from error
        if left:
            raise damaged(self._path, f"record {left[0].number} of session {found.id} does not follow the one before")
        self._histories[found.id] = history
        return history


def _record(row: Row) -> Record:
    body = decode_body(row.body)
    context = context_of(row.symbol, row.client_id, row.now_ms, body)
    return Record(
        number=row.number,
        symbol=row.symbol,
        version=row.version,
        kind=row.kind,
        now_ms=row.now_ms,
        wall_ms=row.wall_ms,
        thread=row.thread,
        client_id=row.client_id,
        event={name: value for name, value in body.e.items() if name != "m"},
        change=spelled_out(body),
        fills=fills_of(body, context),
        alarms=body.a,
    )
