"""The journal read back for people: orders, fills, trades, alarms and records, by another process while the runner writes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from state.clock import VirtualClock
from state.events import Act, Heartbeat, NotSent, ProvedAbsent, Restarted, WasQuarantined, WasRefused, WentUnanswered
from state.journal import Journal, JournalMissing, JournalReader
from state.journal_read import AlarmRecord
from state.reports import Reported
from tests.state.journal_story import OPEN_MS, Story, buy, open_journal, stopped_out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened, _ = open_journal(path)
    with opened:
        yield opened


@pytest.fixture
def reader(journal: Journal, path: Path) -> Iterator[JournalReader]:
    with JournalReader.open(path) as opened:
        yield opened


def facts(reader: JournalReader) -> list[tuple[str, str, bool, bool, str]]:
    return [(order.client_id[-2:], order.status, order.ended, order.sent, order.reason) for order in reader.orders()]


def test_no_journal_is_said_in_words_and_none_is_made(path: Path) -> None:
    with pytest.raises(JournalMissing, match="no journal at .*nothing has been run"):
        JournalReader.open(path)

    assert not path.exists()


def test_an_empty_journal_answers_empty(path: Path) -> None:
    Journal.open(path, clock=VirtualClock(OPEN_MS)).close()

    with JournalReader.open(path) as reader:
        assert (reader.latest(), reader.sessions(), reader.symbols(), reader.orders(), reader.records()) == (None, [], [], [], [])
        assert reader.orders_summary() == {"sent": 0, "refused": 0, "unknown": 0, "quarantined": 0}


def test_every_order_is_told_from_intent_to_end(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit)
    buy(story)
    stopped_out(story)

    entry, stop, target = reader.orders()

    assert [fact[:4] for fact in facts(reader)] == [
        ("E0", "FILLED", True, True),
        ("S1", "FILLED", True, True),
        ("T2", "CANCELLED", True, True),
    ]
    assert (entry.intended_ms, entry.answered_ms, entry.ended_ms) == (OPEN_MS + 10, OPEN_MS + 20, OPEN_MS + 50)
    assert (entry.venue_id, entry.filled, entry.average) == ("250611000012", Decimal(5), Decimal("731.18"))
    assert (stop.order.qty, stop.order.trigger_price, stop.filled) == (Decimal(5), Decimal("730.15"), Decimal(5))
    assert (target.filled, target.average) == (Decimal(0), None)


def test_fills_and_trades_come_from_the_evidence(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit)
    buy(story)
    stopped_out(story)
    buy(story)

    first, second = reader.trades("SBIN")

    assert [fill.trade_id for fill in reader.fills("SBIN")][:3] == ["B20", "B30", "S110"]
    assert (first.qty, first.entry_price, first.fees) == (Decimal(5), Decimal("731.18"), Decimal("3.75"))
    assert first.exit_price == Decimal("730.15")
    assert (first.entry_order, first.exit_order, first.exit_ms) == ("SBIN-20261120-E0", "SBIN-20261120-S1", OPEN_MS + 120)
    assert (second.entry_order, second.exit_ms) == ("SBIN-20261120-E3", None)
    assert reader.fills("ABSLAMC") == [] == reader.trades("ABSLAMC")


def test_a_refused_an_unsent_and_an_absent_order_have_their_own_words(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit)
    kinds: tuple[type[Any], ...] = (WasRefused, NotSent, WentUnanswered)
    for event in kinds:
        story.tick("730.60")
        answer: dict[str, Any] = {"client_id": story.order("entry").client_id, "act": Act.SUBMIT, "reason": "because"}
        story.happen(event(**answer, **({"again": False} if event is NotSent else {}), **story.times()))
        story.tick("731.00")
    doubted = reader.orders()[-1]

    story.happen(ProvedAbsent(client_id=story.order("entry").client_id, **story.times()))

    assert (doubted.status, doubted.ended, doubted.doubted) == ("UNKNOWN", False, True)
    assert facts(reader) == [
        ("E0", "REFUSED", True, True, "because"),
        ("E1", "NOT SENT", True, False, "because"),
        ("E2", "ABSENT", True, True, "trigger 730.65 touched at 730.60"),
    ]
    assert [order.doubted for order in reader.orders()] == [False, False, True]
    assert reader.orders_summary() == {"sent": 2, "refused": 1, "unknown": 0, "quarantined": 0}


def test_an_entry_that_waited_past_the_cutoff_was_not_sent(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit, cutoff_ms=OPEN_MS + 1_000)
    story.tick("730.60")
    story.happen(NotSent(client_id=story.order("entry").client_id, act=Act.SUBMIT, reason="link down", **story.times()))

    story.ms = 2_000
    story.happen(Heartbeat(**story.times()))

    assert facts(reader) == [("E0", "NOT SENT", True, False, "entry not sent: cutoff")]
    assert reader.orders_summary()["sent"] == 0


def test_the_summary_counts_what_was_refused_and_what_is_in_doubt(journal: Journal, reader: JournalReader) -> None:
    stories = [Story(symbol, journal.commit) for symbol in ("A", "B", "C", "D")]
    for story in stories:
        story.tick("730.60")
    rejected, lost, stuck, _waiting = stories
    rejected.accepted("entry", "v1")
    rejected.seen("entry", Reported.REJECTED, reason="margin")
    for story in (lost, stuck):
        answer: dict[str, Any] = {"client_id": story.order("entry").client_id, "act": Act.SUBMIT, "reason": "time-out"}
        story.happen(WentUnanswered(**answer, **story.times()))
    stuck.happen(WasQuarantined(client_id=stuck.order("entry").client_id, reason="two candidates", **stuck.times()))

    assert facts(reader) == [
        ("E0", "REJECTED", True, True, "margin"),
        ("E0", "UNKNOWN", False, True, "trigger 730.65 touched at 730.60"),
        ("E0", "QUARANTINED", False, True, "two candidates"),
        ("E0", "INTENT", False, False, "trigger 730.65 touched at 730.60"),
    ]
    assert journal.orders_summary() == {"sent": 3, "refused": 1, "unknown": 1, "quarantined": 1}


def test_after_a_restart_an_unanswered_intent_counts_as_sent_and_stays_marked_as_doubted(
    journal: Journal, reader: JournalReader
) -> None:
    """CRA-06."""
    story = Story("SBIN", journal.commit)
    story.tick("730.60")

    story.happen(Restarted(**story.times()))
    in_doubt = reader.orders()[0]
    story.seen("entry", Reported.WORKING)
    found = reader.orders()[0]

    assert (in_doubt.status, in_doubt.sent, in_doubt.doubted) == ("UNKNOWN", True, True)
    assert (found.status, found.sent, found.doubted) == ("WORKING", True, True)


def test_records_tell_who_did_what_on_which_thread(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit)
    other = Story("ABSLAMC", journal.commit)
    buy(story)
    other.tick("730.60")

    first, second = reader.records("SBIN")[:2]
    last = reader.records(limit=1)

    assert (first.number, first.kind, first.thread, first.client_id) == (1, "Tick", "ticks", "SBIN-20261120-E0")
    assert (first.event, first.now_ms, first.wall_ms) == ({"price": "730.60"}, OPEN_MS + 10, OPEN_MS)
    assert first.change["entries_used"] == 1 and first.change["entry"]["trigger_price"] == "731.15"
    assert second.change == {"entry": {"status": "WORKING", "venue_id": "250611000012", "changed_ms": 0}}
    assert [(record.symbol, record.kind) for record in last] == [("ABSLAMC", "Tick")]
    assert reader.symbols() == ["SBIN", "ABSLAMC"]
    assert reader.snapshots() == {"SBIN": story.kept, "ABSLAMC": other.kept}


def test_alarms_are_kept_with_their_time(journal: Journal, reader: JournalReader) -> None:
    story = Story("SBIN", journal.commit)
    story.tick("730.60")
    client_id = story.order("entry").client_id

    story.happen(WentUnanswered(client_id=client_id, act=Act.SUBMIT, reason="time-out", **story.times()))

    text = "entry order unanswered (time-out): it may be at the venue, looking for it"
    assert reader.alarms() == [AlarmRecord("SBIN", OPEN_MS + 20, text)]


def test_an_acknowledged_write_is_in_the_very_next_read(journal: Journal, reader: JournalReader) -> None:
    """FEATURES 127: also by a connection that has read before."""
    story = Story("SBIN", journal.commit)
    read = []

    for _ in range(3):
        buy(story)
        read.append(reader.snapshots() == {"SBIN": story.kept})
        stopped_out(story)
        read.append(reader.snapshots() == {"SBIN": story.kept})
        story.tick("731.00")

    assert read == [True] * 6
    assert len(reader.orders()) == 9


def test_another_process_reads_while_the_runner_writes(journal: Journal, path: Path) -> None:
    """FEATURES 127: from any process."""
    story = Story("SBIN", journal.commit)
    buy(story)
    program = (
        "import sys; from pathlib import Path; from state.journal import JournalReader; "
        "r = JournalReader.open(Path(sys.argv[1])); print(r.snapshots()['SBIN'].version, r.latest().state, len(r.fills('SBIN')))"
    )

    answer = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)

    assert (answer.stdout.split(), answer.stderr) == ([str(story.kept.version), "running", "2"], "")


def test_a_closed_journal_can_be_read_and_stays_as_it_is(path: Path) -> None:
    journal, _ = open_journal(path)
    buy(Story("SBIN", journal.commit))
    journal.finish(0)
    journal.close()
    before = path.read_bytes()

    with JournalReader.open(path) as reader:
        latest = reader.latest()
        assert latest is not None
        assert (latest.state, latest.exit_code, len(reader.fills("SBIN", latest.id))) == ("finished", 0, 2)

    assert path.read_bytes() == before


def test_a_reader_that_stayed_open_follows_a_repaired_tail(path: Path) -> None:
    """CRA-07."""
    journal, _ = open_journal(path)
    story = Story("SBIN", journal.commit)
    buy(story)
    with JournalReader.open(path) as reader:
        reader.snapshots()
        journal.close()
        damage = sqlite3.connect(path, isolation_level=None)
        damage.execute("UPDATE records SET body = '{' WHERE id = (SELECT max(id) FROM records)")
        damage.close()
        again, resumed = open_journal(path)
        story = Story("SBIN", again.commit, resumed.snapshots["SBIN"])
        story.ms = 100_000
        for _ in range(2):
            stopped_out(story) if story.snapshot.position else buy(story)

        assert reader.snapshots() == {"SBIN": story.kept}
        again.close()
