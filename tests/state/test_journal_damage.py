"""A journal that is torn, flipped, cut, foreign, newer or older is used as far as good or refused: never silently empty."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from state.clock import VirtualClock
from state.journal import Journal, JournalDamaged, JournalError, JournalFailed, JournalMixed, JournalNewer, JournalReader
from state.snapshot import Snapshot
from state.symbol_state import Work
from tests.state.journal_story import OPEN_MS, Story, buy, open_journal, stopped_out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def both(journal: Journal, kept: list[Snapshot]) -> Callable[[Work], None]:
    def keep(work: Work) -> None:
        journal.commit(work)
        kept.append(work.after)

    return keep


def record_a_day(path: Path) -> list[Snapshot]:
    """The snapshots after each record, oldest first; the file is closed and whole."""
    journal, _ = open_journal(path)
    kept: list[Snapshot] = []
    story = Story("SBIN", both(journal, kept))
    for _ in range(3):
        buy(story)
        stopped_out(story)
        story.tick("731.00")
    journal.close()
    return kept


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def newest(path: Path, back: int = 0) -> int:
    connection = sqlite3.connect(path)
    (id,) = connection.execute("SELECT id FROM records ORDER BY id DESC LIMIT 1 OFFSET ?", (back,)).fetchone()
    connection.close()
    return int(id)


# -- torn tail -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "body = substr(body, 1, 20)",
        "body = CAST(x'ff00fe' AS TEXT)",
        "chain = x'00'",
        "version = 'x'",
        "now_ms = now_ms + 1",
        "body = 1",
    ],
)
def test_a_torn_last_record_is_set_aside_and_the_good_part_is_used(path: Path, damage: str) -> None:
    """CRA-07, first half."""
    kept = record_a_day(path)
    change(path, f"UPDATE records SET {damage} WHERE id = ?", newest(path))

    journal, resumed = open_journal(path)

    aside = path.with_name("journal.db.damaged-1.json")
    assert resumed.snapshots == {"SBIN": kept[-2]}
    assert resumed.repaired == "the last 1 record(s) of session 1 were damaged: set aside in journal.db.damaged-1.json"
    assert [row["symbol"] for row in json.loads(aside.read_text(encoding="utf-8"))] == ["SBIN"]
    assert journal.restore() == {"SBIN": kept[-2]}
    story = Story("SBIN", journal.commit, kept[-2])
    story.ms = 100_000
    story.tick("729.00")
    journal.close()
    again, resumed = open_journal(path)
    assert (resumed.repaired, resumed.snapshots) == (None, {"SBIN": story.kept})
    again.close()


def test_a_tail_of_several_torn_records_goes_as_one(path: Path) -> None:
    """CRA-07."""
    kept = record_a_day(path)
    change(path, "UPDATE records SET body = '{', chain = x'01' WHERE id >= ?", newest(path, 2))

    journal, resumed = open_journal(path)

    assert resumed.snapshots == {"SBIN": kept[-4]}
    assert len(json.loads(path.with_name("journal.db.damaged-1.json").read_text(encoding="utf-8"))) == 3
    journal.close()


def test_a_second_torn_tail_does_not_overwrite_the_evidence_of_the_first(path: Path) -> None:
    record_a_day(path)

    for _ in range(2):
        change(path, "UPDATE records SET body = '{' WHERE id = ?", newest(path))
        open_journal(path)[0].close()

    assert sorted(file.name for file in path.parent.glob("*.json")) == [f"journal.db.damaged-{n}.json" for n in (1, 2)]


# -- damage inside -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["body = replace(body, '731', '730')", "symbol = 'SBIM'", "chain = x'00'", "thread = 'desk'"])
def test_a_record_changed_inside_is_refused_with_the_steps_to_take(path: Path, damage: str) -> None:
    """CRA-07, second half: no trading, recovery steps in words, and the file stays as it was."""
    record_a_day(path)
    change(path, f"UPDATE records SET {damage} WHERE id = (SELECT min(id) FROM records)")
    before = path.read_bytes()

    journal = Journal.open(path, clock=VirtualClock(OPEN_MS))
    with pytest.raises(JournalDamaged, match="record 1 of session 1 has changed.*What to do: 1[.] look at your orders"):
        journal.begin("practice:A1:20261120", mode="practice", account="A1", day="20261120")
    journal.close()
    with JournalReader.open(path) as reader, pytest.raises(JournalDamaged, match="record 1 of session 1"):
        reader.snapshots()

    assert path.read_bytes() == before
    assert list(path.parent.glob("*.json")) == []


def test_a_missing_record_inside_is_refused(path: Path) -> None:
    """CRA-07."""
    record_a_day(path)
    change(path, "DELETE FROM records WHERE id = ?", newest(path, 5))

    with pytest.raises(JournalDamaged, match="has changed, later ones are sound"):
        open_journal(path)


def test_a_long_run_of_bad_records_is_no_torn_tail(path: Path) -> None:
    journal, _ = open_journal(path)
    story = Story("SBIN", journal.commit)
    for _ in range(6):
        buy(story)
        stopped_out(story)
        story.tick("731.00")
    journal.close()
    change(path, "UPDATE records SET chain = x'00'")

    with pytest.raises(JournalDamaged, match="do not follow one another"):
        open_journal(path)


def test_a_session_that_was_changed_is_refused_instead_of_begun_anew(path: Path) -> None:
    """FEATURES 121: a flipped key would look like a fresh day."""
    record_a_day(path)
    change(path, "UPDATE sessions SET key = 'practice:A1:20261128'")

    with pytest.raises(JournalDamaged, match="the entry of session 1 has changed"):
        open_journal(path)


# -- damage to the file --------------------------------------------------------------------------------------------------------


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is not a database, but it is long enough to look at " * 40, encoding="utf-8")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _one_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def _garbled_page(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-4096:] = random.Random(7).randbytes(4096)
    path.write_bytes(whole)


def _somebody_elses(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE recipes (name TEXT)")


def _only_the_wal(path: Path) -> None:
    path.rename(path.with_name("journal.db-wal"))


@pytest.mark.parametrize("spoil", [_empty, _text, _half, _one_page, _garbled_page, _somebody_elses, _only_the_wal])
def test_a_file_that_cannot_be_trusted_is_refused_with_the_steps_to_take(path: Path, spoil: Callable[[Path], None]) -> None:
    """CRA-07, FEATURES 121: never silently empty."""
    record_a_day(path)
    spoil(path)

    with pytest.raises(JournalDamaged, match="is damaged: .*What to do: 1[.]"):
        open_journal(path)


def test_an_empty_or_a_foreign_database_is_called_that(path: Path) -> None:
    """FEATURES 121: SQLite itself would take both for a journal about to begin."""
    for spoil in (_empty, _somebody_elses):
        record_a_day(path)
        spoil(path)
        with pytest.raises(JournalDamaged, match="it is empty or not a journal of this program"):
            open_journal(path)
        path.unlink()


def test_what_sqlite_finds_wrong_is_refused_before_any_session_begins(path: Path) -> None:
    """FEATURES 121: quick_check, whichever session the damage is in."""
    record_a_day(path)
    strict, loose = "thread TEXT NOT NULL", "thread TEXT"
    _rewrite_schema(path, strict, loose)
    change(path, "UPDATE records SET thread = NULL WHERE id = ?", newest(path))
    _rewrite_schema(path, loose, strict)

    with pytest.raises(JournalDamaged, match="NULL value in records.thread"):
        Journal.open(path, clock=VirtualClock(OPEN_MS))


def _rewrite_schema(path: Path, old: str, new: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", (old, new))
    connection.close()


def test_something_that_is_no_file_is_in_the_way_not_damaged(path: Path) -> None:
    path.mkdir()

    with pytest.raises(JournalFailed, match="cannot be opened"):
        open_journal(path)


def test_a_wal_cut_anywhere_gives_the_transactions_that_were_whole(path: Path) -> None:
    """CRA-07: SQLite's own torn write; what is left is a state that was committed."""
    journal, _ = open_journal(path)
    kept: list[Snapshot] = []
    story = Story("SBIN", both(journal, kept))
    buy(story)
    wal = path.with_name("journal.db-wal")
    whole, database = wal.read_bytes(), path.read_bytes()
    journal.close()
    seen = set()

    for cut in range(0, len(whole), len(whole) // 41):
        copy = path.parent / f"cut-{cut}" / "journal.db"
        copy.parent.mkdir()
        copy.write_bytes(database)
        copy.with_name("journal.db-wal").write_bytes(whole[:cut])
        again, resumed = open_journal(copy)
        seen.add(resumed.snapshots["SBIN"].version if resumed.snapshots else 0)
        assert not resumed.snapshots or resumed.snapshots["SBIN"] in kept
        again.close()

    assert {0, kept[-2].version} <= seen


def test_any_flipped_byte_is_refused_or_leaves_a_state_that_was_committed(path: Path) -> None:
    """CRA-07, FEATURES 121: whichever byte of the file it hits."""
    kept = record_a_day(path)
    whole = path.read_bytes()
    chance = random.Random(121)
    refused = repaired = 0

    for number in range(250):
        copy = path.parent / "flipped" / "journal.db"
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        flipped = bytearray(whole)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        copy.write_bytes(flipped)
        try:
            journal, resumed = open_journal(copy)
        except (JournalDamaged, JournalNewer, JournalMixed):
            refused += 1
            continue
        assert journal._connection.execute("PRAGMA quick_check").fetchall() == [("ok",)], number
        journal.close()
        if resumed.repaired:
            repaired += 1
            assert resumed.snapshots["SBIN"] in kept[-3:], number
        else:
            assert resumed.snapshots == {"SBIN": kept[-1]}, number

    assert refused > 50 and repaired > 0


# -- versions ------------------------------------------------------------------------------------------------------------------


def test_a_newer_journal_is_refused_and_left_alone(path: Path) -> None:
    """CRA-12, FEATURES 132."""
    record_a_day(path)
    change(path, "PRAGMA user_version=99")
    before = path.read_bytes()

    with pytest.raises(JournalNewer, match="version 99, this program knows up to 1"):
        open_journal(path)
    with pytest.raises(JournalNewer, match="version 99"):
        JournalReader.open(path)

    assert path.read_bytes() == before


def test_an_older_journal_is_migrated_after_a_copy_and_nothing_is_lost(path: Path) -> None:
    """CRA-12, FEATURES 132: version 1 read by a program that is two versions further."""
    kept = record_a_day(path)
    steps = (
        lambda connection: connection.execute("CREATE TABLE notes (text TEXT)"),
        lambda connection: connection.execute("INSERT INTO notes VALUES ('migrated')"),
    )

    journal, resumed = open_journal(path, migrations=steps)
    journal.close()
    again, resumed_again = open_journal(path, migrations=steps)

    assert resumed.snapshots == resumed_again.snapshots == {"SBIN": kept[-1]}
    assert again._connection.execute("SELECT text FROM notes").fetchall() == [("migrated",)]
    assert again._connection.execute("PRAGMA user_version").fetchone() == (3,)
    again.close()
    copy, from_copy = open_journal(path.with_name("journal.db.v1"))
    assert from_copy.snapshots == {"SBIN": kept[-1]}
    copy.close()


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    """FEATURES 132."""
    kept = record_a_day(path)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM records")
        connection.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(JournalError, match="nowhere"):
        open_journal(path, migrations=(half,))
    journal, resumed = open_journal(path)

    assert resumed.snapshots == {"SBIN": kept[-1]}
    journal.close()


def test_a_new_journal_of_a_later_program_starts_at_its_version_without_a_copy(path: Path) -> None:
    journal, _ = open_journal(path, migrations=(lambda connection: connection.execute("CREATE TABLE notes (text TEXT)"),))

    assert journal._connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert not path.with_name("journal.db.v1").exists()
    journal.close()


def test_a_start_killed_while_making_the_file_leaves_no_half_journal(path: Path) -> None:
    path.with_name("journal.db.new").write_bytes(b"half")

    journal, resumed = open_journal(path)

    assert (journal.created, resumed.was) == (True, None)
    assert not path.with_name("journal.db.new").exists()
    journal.close()
