"""The journal as a file: where it lies, its tables, its versions, and how damage in it is told from an empty one.

Owns the schema and the chain that ties every record to the one before. Knows nothing of snapshots. A file that cannot be
trusted is refused in words a trader can follow; it is never replaced by an empty one.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

APPLICATION_ID = 0x54524A31  # "TRJ1": ours, and not somebody else's SQLite file
SESSION_BITS = 32  # record id = session << 32 | number within the session: one tree, appended at its end, no index
CHAIN_BYTES = 16
BUSY_MS = 1_000  # longest wait for another process's write

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, mode TEXT NOT NULL, account TEXT NOT NULL, day TEXT NOT NULL,
  state TEXT NOT NULL, starts INTEGER NOT NULL, begun_ms INTEGER NOT NULL, begun_wall_ms INTEGER NOT NULL,
  ended_ms INTEGER, exit_code INTEGER, seal BLOB NOT NULL);
CREATE TABLE records (
  id INTEGER PRIMARY KEY, symbol TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, now_ms INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL, thread TEXT NOT NULL, client_id TEXT NOT NULL, body TEXT NOT NULL, chain BLOB NOT NULL);
"""

Connection = sqlite3.Connection
Migration = Callable[[Connection], None]
MIGRATIONS: tuple[Migration, ...] = ()  # MIGRATIONS[n] leads from version n + 1 to n + 2


class JournalError(Exception):
    """Something about the journal; the text is for a person."""


class JournalFailed(JournalError):
    """Not written, nothing of it: disk full, locked or read-only. The same may be committed again later."""


class JournalDamaged(JournalError):
    """The file cannot be trusted: no trading before a person has looked. The text has the steps."""


class JournalNewer(JournalError):
    """Written by a newer version of this program."""


class JournalMissing(JournalError):
    """There is no such file, or it cannot be opened for reading."""


class JournalMixed(JournalError):
    """Practice, paper and live never share a journal."""


class SessionInfo(msgspec.Struct, frozen=True):
    """One session. `state` is running, finished or interrupted; `ended_ms` and `begun_ms` are session time."""

    id: int
    key: str
    mode: str
    account: str
    day: str
    state: str
    starts: int
    begun_ms: int
    begun_wall_ms: int
    ended_ms: int | None
    exit_code: int | None


class Row(msgspec.Struct, frozen=True):
    """One record as it lies in the file; text that is no text (damage) has replacement characters and does not verify."""

    id: int
    symbol: str
    version: int
    kind: str
    now_ms: int
    wall_ms: int
    thread: str
    client_id: str
    body: bytes
    chain: bytes

    @property
    def number(self) -> int:
        return self.id & ((1 << SESSION_BITS) - 1)

    def follows(self, previous: bytes) -> bool:
        return self.chain == link(previous, self)


def journal_path(url: str, folder: Path) -> Path:
    """The file behind `sqlite:///data/journal.db`, `sqlite:////var/x.db` or `sqlite:///C:/x/y.db`; relative to `folder`."""
    found = re.fullmatch(r"sqlite:///([^?*\"<>|\x00-\x1f]+)", url)
    name = found[1].replace("\\", "/") if found else ""
    if not name or name.startswith(":") or name.endswith("/"):
        raise ValueError(f"{url!r} is not a journal file: write sqlite:///data/journal.db")
    return folder / name


# -- chain -------------------------------------------------------------------------------------------------------------------


def link(previous: bytes, row: Row) -> bytes:
    """What ties this record to the one before: no byte of either can change unseen."""
    head = (row.id, row.symbol, row.version, row.kind, row.now_ms, row.wall_ms, row.thread, row.client_id)
    return blake2b(previous + msgspec.json.encode(head) + row.body, digest_size=CHAIN_BYTES).digest()


def seal(id: int, key: str, mode: str, account: str, day: str) -> bytes:
    """First link of a session's chain: who it belongs to."""
    return blake2b(msgspec.json.encode((id, key, mode, account, day)), digest_size=CHAIN_BYTES).digest()


def seal_of(session: SessionInfo) -> bytes:
    return seal(session.id, session.key, session.mode, session.account, session.day)


# -- reading -----------------------------------------------------------------------------------------------------------------

_TEXTS = "CAST(symbol AS BLOB), version, CAST(kind AS BLOB), now_ms, wall_ms, CAST(thread AS BLOB), CAST(client_id AS BLOB)"
_ROWS = f"SELECT id, {_TEXTS}, CAST(body AS BLOB), chain FROM records"


def rows(connection: sqlite3.Connection, session: int, after: int = 0) -> Iterator[Row]:
    """Records of one session in the order they were committed, from the one after number `after`."""
    first = session << SESSION_BITS
    query = f"{_ROWS} WHERE id > ? AND id < ? ORDER BY id"
    for found in connection.execute(query, (first | after, first + (1 << SESSION_BITS))):
        yield _row(found)


def last_rows(connection: sqlite3.Connection, session: int, symbol: str | None, limit: int) -> list[Row]:
    """The newest records, oldest of them first."""
    first = session << SESSION_BITS
    query = f"{_ROWS} WHERE id > ? AND id < ? AND (?3 IS NULL OR symbol = ?3) ORDER BY id DESC LIMIT ?4"
    found = connection.execute(query, (first, first + (1 << SESSION_BITS), symbol, limit)).fetchall()
    return [_row(row) for row in reversed(found)]


def _row(found: tuple[object, ...]) -> Row:
    id, symbol, version, kind, now_ms, wall_ms, thread, client_id, body, chain = found
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else "" for text in (symbol, kind, thread, client_id)]
    body = body if isinstance(body, bytes) else b""
    chain = chain if isinstance(chain, bytes) else b""
    return Row(id, texts[0], version, texts[1], now_ms, wall_ms, texts[2], texts[3], body, chain)  # type: ignore[arg-type]


def sessions(connection: sqlite3.Connection) -> list[SessionInfo]:
    """All sessions, oldest first, each checked against its seal."""
    names = ", ".join(SessionInfo.__struct_fields__)
    out = []
    for *values, stored in connection.execute(f"SELECT {names}, seal FROM sessions ORDER BY id"):
        session = SessionInfo(*values)
        if seal_of(session) != stored:
            raise ValueError(f"the entry of session {session.id} has changed")
        out.append(session)
    return out


# -- opening -----------------------------------------------------------------------------------------------------------------


def create(path: Path, migrations: Sequence[Migration]) -> None:
    """A new journal, there in whole or not at all: an empty file is always damage, never a beginning."""
    orphan = path.with_name(path.name + "-wal")
    if orphan.exists():
        raise damaged(path, f"the file itself is gone, but {orphan.name} with its last records is still there")
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        _fill_new(new, migrations)
        os.replace(new, path)
    except (OSError, sqlite3.Error) as error:
        raise JournalFailed(f"journal {path} cannot be created: {error}") from error


def _fill_new(new: Path, migrations: Sequence[Migration]) -> None:
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        _fill(connection, migrations)
    finally:
        connection.close()


def _fill(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    connection.executescript(f"BEGIN; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; COMMIT;")
    with transaction(connection):
        _step(connection, 1, migrations)


def in_memory() -> sqlite3.Connection:
    """A journal that dies with its connection: for simulated sessions, whose disk is the harness."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _fill(connection, MIGRATIONS)
    return connection


def open_for_writing(path: Path, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """The one connection of the runner: durable, bounded in its waits, checked, and at the present version."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    except sqlite3.Error as error:
        raise trouble(path, error) from error
    try:
        check(connection, path, 1 + len(migrations))
        for setting in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
            connection.execute(f"PRAGMA {setting}")
        migrate(connection, path, migrations)
        return connection
    except sqlite3.Error as error:
        connection.close()
        raise trouble(path, error) from error
    except BaseException:
        connection.close()
        raise


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A second look at the same file, from any process, while the runner writes."""
    if not path.is_file():
        raise JournalMissing(f"no journal at {path}: nothing has been run with this configuration yet")
    connection = None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
        check_version(connection, path, 1 + len(MIGRATIONS))
        return connection
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise trouble(path, error) from error
    except JournalError:
        if connection is not None:
            connection.close()
        raise


def check(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    """Is it ours, can this program read it, and does it hang together?"""
    check_version(connection, path, newest)
    problems = [text for (text,) in connection.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise damaged(path, "; ".join(problems))
    try:
        sessions(connection)
    except (ValueError, TypeError) as error:
        raise damaged(path, str(error)) from error


def check_version(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (ours,) = connection.execute("PRAGMA application_id").fetchone()
    if ours != APPLICATION_ID or version < 1:
        raise damaged(path, "it is empty or not a journal of this program")
    if version > newest:
        raise JournalNewer(
            f"journal {path} has version {version}, this program knows up to {newest}: "
            "it was written by a newer version of this program; use that one, or another journal.url"
        )


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """One step after the other, all or nothing, after a copy was made beside it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 1 + len(migrations):
        return
    copy = sqlite3.connect(path.with_name(f"{path.name}.v{version}"))
    try:
        connection.backup(copy)
    finally:
        copy.close()
    with transaction(connection):
        _step(connection, version, migrations)


def _step(connection: sqlite3.Connection, version: int, migrations: Sequence[Migration]) -> None:
    for step in migrations[version - 1 :]:
        step(connection)
    connection.execute(f"PRAGMA user_version={1 + len(migrations)}")


class transaction:
    """All or nothing; whatever SQLite has to say against it is JournalFailed, and then nothing was written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        try:
            if self._connection.in_transaction:  # an earlier ROLLBACK failed as well
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise JournalFailed(f"journal not written: {error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            error = failure
        if error is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as failure:
            error = failure
        if isinstance(error, sqlite3.Error):
            raise JournalFailed(f"journal not written: {error}") from error


# -- words -------------------------------------------------------------------------------------------------------------------

_IN_THE_WAY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_FULL"}


def trouble(path: Path, error: sqlite3.Error) -> JournalError:
    """Something in the way, or damage?"""
    name = str(getattr(error, "sqlite_errorname", ""))
    if any(name.startswith(word) for word in _IN_THE_WAY):
        return JournalFailed(f"journal {path} cannot be opened: {error}")
    return damaged(path, str(error))


def damaged(path: Path, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"journal {path} is damaged: {what}. Nothing was changed and nothing is traded. What to do: "
        "1. look at your orders and positions at the broker; close or protect them there yourself. "
        f"2. Keep the evidence: move {path.name} and the files beside it that begin with its name to another folder. "
        "3. Put back a sound copy if you have one; without one the next start begins a new journal, "
        "and what is still open at the broker counts as not ours. 4. Start again."
    )
