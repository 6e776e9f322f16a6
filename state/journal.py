"""The journal: the durable record of every intent and outcome, in one SQLite file, and what a new start recovers from it.

One connection behind one lock; a commit is one transaction on disk before it returns. What a symbol was last committed as is
kept in memory, nothing else: cost does not grow with history. Never called under a symbol's lock (`guard`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from state.clock import Clock, SystemClock
from state.journal_delta import encode_work, state_hash
from state.journal_file import (
    MIGRATIONS,
    SESSION_BITS,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalMissing,
    JournalMixed,
    JournalNewer,
    Migration,
    Row,
    SessionInfo,
    create,
    damaged,
    journal_path,
    link,
    open_for_writing,
    rows,
    seal,
    seal_of,
    sessions,
    transaction,
)
from state.journal_read import History, JournalReader, fold
from state.snapshot import Snapshot
from state.symbol_state import Work

__all__ = [
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalFailed",
    "JournalMissing",
    "JournalMixed",
    "JournalNewer",
    "JournalReader",
    "Resumed",
    "SessionInfo",
    "journal_path",
    "state_hash",
]

KEPT_TAIL = 64  # more damaged records than this at the end are no torn tail


class Resumed(msgspec.Struct, frozen=True):
    """What `begin` found. `was`: how an earlier start of this session ended (running: it was killed), None for a new one.

    `interrupted`: sessions of another key that a killed process had left running; their orders are in JournalReader.orders.
    `repaired`: what was wrong with the end of the journal, in words; then the venue must be asked about everything.
    `known`: venue order id -> symbol and client order id of every order this session ever had; a snapshot keeps the last few.
    """

    session: SessionInfo
    was: str | None
    snapshots: dict[str, Snapshot]
    interrupted: tuple[SessionInfo, ...] = ()
    repaired: str | None = None
    known: dict[str, tuple[str, str]] = {}


class Journal:
    """Thread-safe. Everything that writes raises JournalFailed with nothing half-written; the same may be tried again later."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock, wall: Clock, *, created: bool) -> None:
        self._lock = clock.threads.lock()  # guards the connection and everything below
        self._connection = connection
        self._clock = clock
        self._wall = wall
        self._session: SessionInfo | None = None
        self._last: dict[str, Snapshot] = {}  # per symbol, as committed
        self._number = 0
        self._chain = b""
        self.path = path
        self.created = created  # there was no journal before
        self.repaired: str | None = None
        self.guard: Callable[[], None] = _nothing

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        wall: Clock | None = None,
        guard: Callable[[], None] | None = None,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> Self:
        """Raises JournalDamaged, JournalNewer or JournalFailed. `wall` dates records in the machine's own time."""
        created = not path.exists()
        if created:
            create(path, migrations)
        journal = cls(open_for_writing(path, migrations), path, clock, wall or SystemClock(), created=created)
        journal.guard = guard or _nothing
        return journal

    # -- records -------------------------------------------------------------------------------------------------------------

    def commit(self, work: Work) -> None:
        """On disk when it returns. Raises JournalFailed."""
        self.commit_many((work,))

    def commit_many(self, works: Sequence[Work]) -> None:
        """All of them in one transaction, or none."""
        self.guard()
        with self._lock:
            found, last, chain = self._rows(works)
            self._write(found)
            self._last.update(last)
            self._number += len(found)
            self._chain = chain

    def _rows(self, works: Sequence[Work]) -> tuple[list[Row], dict[str, Snapshot], bytes]:
        session, chain, last = self._running().id, self._chain, dict[str, Snapshot]()
        out = []
        for number, work in enumerate(works, self._number + 1):
            symbol = work.after.symbol
            before = last.get(symbol) or self._last.get(symbol) or Snapshot(symbol)
            if work.after.version < before.version:
                raise ValueError(f"{symbol}: version {work.after.version} after {before.version}: commits out of order")
            row = self._row(session << SESSION_BITS | number, before, work)
            chain = link(chain, row)
            out.append(msgspec.structs.replace(row, chain=chain))
            last[symbol] = work.after
        return out, last, chain

    def _row(self, id: int, before: Snapshot, work: Work) -> Row:
        client_id, body = encode_work(before, work)
        after, event = work.after, work.event
        wall_ms = self._wall.now_ms()
        kind = type(event).__name__
        return Row(id, after.symbol, after.version, kind, event.now_ms, wall_ms, work.thread, client_id, body, b"")

    def _write(self, found: list[Row]) -> None:
        values = [(*msgspec.structs.astuple(row)[:8], row.body.decode(), row.chain) for row in found]
        with transaction(self._connection):
            self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    # -- sessions ------------------------------------------------------------------------------------------------------------

    def begin(self, key: str, *, mode: str, account: str, day: str) -> Resumed:
        """Go on with the session of this key, or begin it. Recorded as running before this returns.

        JournalMixed when the file belongs to another mode, JournalDamaged when its records cannot be trusted.
        """
        with self._lock:
            known = self._known_sessions()
            mine = next((session for session in known if session.key == key), None)
            self._refuse_to_mix(mine, key, mode, account, day)
            left = tuple(session for session in known if session.state == "running" and session.key != key)
            history = self._replay(mine) if mine is not None else None
            session = self._enter(mine, key, mode, account, day, left)
            self._adopt(history or History(seal_of(session)))
            ids = {} if history is None else _by_venue_id(history)
            return Resumed(session, mine.state if mine else None, dict(self._last), left, self.repaired, ids)

    def _known_sessions(self) -> list[SessionInfo]:
        try:
            return sessions(self._connection)
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise damaged(self.path, str(error)) from error

    def _refuse_to_mix(self, mine: SessionInfo | None, key: str, mode: str, account: str, day: str) -> None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'mode'").fetchone()
        if row is not None and row[0] != mode:
            raise JournalMixed(
                f"journal {self.path} belongs to {row[0]} sessions and this one is {mode}: "
                f"they never share a file; set journal.url to another one for {mode}"
            )
        if mine is not None and (mine.mode, mine.account, mine.day) != (mode, account, day):
            raise JournalMixed(f"session {key} is {mine.mode} {mine.account} {mine.day}, not {mode} {account} {day}")

    def _enter(
        self, mine: SessionInfo | None, key: str, mode: str, account: str, day: str, left: tuple[SessionInfo, ...]
    ) -> SessionInfo:
        """Once it has been recovered: a session that cannot be is not touched."""
        now = (self._clock.now_ms(), self._wall.now_ms())
        with transaction(self._connection):
            for other in left:
                self._end(other.id, "interrupted", None)
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('mode', ?)", (mode,))
            session = self._again(mine, now) if mine is not None else self._first(key, mode, account, day, now)
        self._session = session
        return session

    def _first(self, key: str, mode: str, account: str, day: str, now: tuple[int, int]) -> SessionInfo:
        (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM sessions").fetchone()
        session = SessionInfo(last + 1, key, mode, account, day, "running", 1, *now, None, None)
        values = (*msgspec.structs.astuple(session), seal(session.id, key, mode, account, day))
        self._connection.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * len(values))})", values)
        return session

    def _again(self, mine: SessionInfo, now: tuple[int, int]) -> SessionInfo:
        again = "state = 'running', starts = starts + 1, begun_wall_ms = ?, ended_ms = NULL, exit_code = NULL"
        self._connection.execute(f"UPDATE sessions SET {again} WHERE id = ?", (now[1], mine.id))
        changed = {"state": "running", "starts": mine.starts + 1, "begun_wall_ms": now[1], "ended_ms": None, "exit_code": None}
        return msgspec.structs.replace(mine, **changed)

    def finish(self, exit_code: int) -> None:
        """The session has ended in order; nothing more is committed."""
        with self._lock:
            session = self._running()
            with transaction(self._connection):
                self._end(session.id, "finished", exit_code)
            self._session = None

    def _end(self, id: int, state: str, exit_code: int | None) -> None:
        change = "UPDATE sessions SET state = ?, ended_ms = ?, exit_code = ? WHERE id = ?"
        self._connection.execute(change, (state, self._clock.now_ms(), exit_code, id))

    def _running(self) -> SessionInfo:
        if self._session is None:
            raise RuntimeError("the journal has no running session: begin one first")
        return self._session

    # -- recovery ------------------------------------------------------------------------------------------------------------

    def restore(self) -> dict[str, Snapshot]:
        """Every symbol of the running session as it was last committed, rebuilt from the file."""
        with self._lock:
            self._adopt(self._replay(self._running()))
            return dict(self._last)

    def _adopt(self, history: History) -> None:
        self._last, self._number, self._chain = dict(history.snapshots), history.number, history.chain

    def _replay(self, session: SessionInfo) -> History:
        history = History(seal_of(session))
        try:
            left = fold(history, rows(self._connection, session.id))
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, str(error)) from error
        except (msgspec.MsgspecError, ArithmeticError, LookupError, ValueError, TypeError, AssertionError) as error:
            raise damaged(self.path, f"record {history.number + 1} of session {session.id} makes no sense: {error}") from error
        if left:
            self._cut_off(session, left)
        return history

    def _cut_off(self, session: SessionInfo, tail: list[Row]) -> None:
        """A torn tail is set beside the journal and removed; damage with sound records behind it is for a person."""
        previous = tail[0].chain
        for row in tail[1:]:
            if row.follows(previous):
                raise damaged(self.path, f"record {tail[0].number} of session {session.id} has changed, later ones are sound")
            previous = row.chain
        if len(tail) > KEPT_TAIL:
            raise damaged(self.path, f"the last {len(tail)} records of session {session.id} do not follow one another")
        aside = _set_aside(self.path, tail)
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM records WHERE id = ?", [(row.id,) for row in tail])
        self.repaired = f"the last {len(tail)} record(s) of session {session.id} were damaged: set aside in {aside.name}"

    # -- questions -----------------------------------------------------------------------------------------------------------

    def reader(self) -> JournalReader:
        """A connection of its own: its questions never hold up a commit."""
        return JournalReader.open(self.path)

    def identity(self) -> str:
        """A random name of this journal, kept in it: our ids at a venue differ from those of any other, a deleted one too."""
        with self._lock, transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (os.urandom(8).hex(),))
            (name,) = self._connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
            return str(name)

    def orders_summary(self) -> dict[str, int]:
        """sent, refused, unknown and quarantined orders of the running session."""
        session = self._running().id
        with self.reader() as reader:
            return reader.orders_summary(session)

    def state_hash(self) -> str:
        """Of everything committed in this session: equal before a kill and after the restart."""
        with self._lock:
            return state_hash(self._last)

    def close(self) -> None:
        with self._lock:
            self._session = None
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _by_venue_id(history: History) -> dict[str, tuple[str, str]]:
    orders = history.orders.items()
    return {record.venue_id: (record.order.symbol, client_id) for client_id, record in orders if record.venue_id is not None}


def _nothing() -> None:
    """No guard."""


def _set_aside(path: Path, tail: list[Row]) -> Path:
    taken = 1
    while (aside := path.with_name(f"{path.name}.damaged-{taken}.json")).exists():
        taken += 1
    readable = [{"body": row.body.decode("utf-8", "replace"), "chain": row.chain.hex()} for row in tail]
    plain = [msgspec.structs.asdict(row) | words for row, words in zip(tail, readable, strict=True)]
    try:
        with aside.open("x", encoding="utf-8") as file:
            json.dump(plain, file, indent=1, default=repr)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise JournalFailed(f"damaged records cannot be set aside in {aside}: {error}") from error
    return aside
