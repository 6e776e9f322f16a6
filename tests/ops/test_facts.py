"""What `status`, `orders`, `positions`, `trades` and `report` say, from a real journal that somebody else is writing."""

from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ops.facts import LivePrice, LiveStatus, Urgency, orders, positions, read_live, report, status, trades, urgency, write_live
from ops.facts_text import age_text, orders_text, positions_text, report_text, status_text, to_json, trades_text
from ops.report import build, write
from state.clock import VirtualClock
from state.events import Act, EntriesOff, HaltAsked, WasRefused, WentUnanswered
from state.journal_read import JournalReader
from state.orders import Order, OrderType, Purpose, Side, Status
from tests.ops.driven import DAY, IST, D, at
from tests.ops.journaled import JournaledDay, stop_out


def live(**fields: Any) -> LiveStatus:
    chosen: dict[str, Any] = {
        "pid": 4711,
        "session": "2026-11-20",
        "mode": "practice",
        "wall_ms": 1000,
        "now_ms": at("09:32:00"),
    } | fields
    return LiveStatus(**chosen)


def order(purpose: Purpose = Purpose.ENTRY, status: Status = Status.WORKING, verified: bool = False) -> Order:
    return Order("X-1-E0", "X", purpose, Side.BUY, OrderType.LIMIT, D(1), status=status, verified=verified)


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(0, "fresh"), (1, "fresh"), (1.99, "fresh"), (2, "normal"), (3, "normal"), (5, "normal"), (6, "warning"), (10, "warning")]
    + [(10.1, "critical"), (11, "critical")],
)
def test_an_order_that_waits_grows_urgent(minutes: float, told: str) -> None:
    """OPS-14"""
    assert urgency(order(), int(minutes * 60_000)) == told


def test_a_stop_that_rests_as_asked_waits_for_nothing_but_an_unverified_one_does() -> None:
    """OPS-14"""
    hours = 3 * 3_600_000
    assert urgency(order(Purpose.STOP, verified=True), hours) is Urgency.RESTING
    assert urgency(order(Purpose.TARGET, verified=True), hours) is Urgency.RESTING
    assert urgency(order(Purpose.STOP, verified=False), hours) is Urgency.CRITICAL
    assert urgency(order(Purpose.STOP, Status.UNKNOWN, verified=True), hours) is Urgency.CRITICAL
    assert urgency(order(Purpose.ENTRY, verified=True), hours) is Urgency.CRITICAL


def test_status_shows_each_pending_order_with_age_and_urgency(tmp_path: Path) -> None:
    """OPS-14: 1, 3, 6 and 11 minutes old."""
    day = JournaledDay(tmp_path)
    symbols = [day.trading(name) for name in ("A", "B", "C", "D")]
    for symbol, time in zip(symbols, ("09:30:00", "09:35:00", "09:38:00", "09:40:00"), strict=True):
        symbol.tick(time, "730.60")
        symbol.accept(symbol.now.entry, f"v{symbol.symbol}")
    day.commit(*symbols)

    with day.reader() as reader:
        told = status(reader, IST, at("09:41:00"))

    assert [(fact.symbol, fact.age_ms // 60_000, fact.urgency) for fact in told.orders] == [
        ("A", 11, "critical"),
        ("B", 6, "warning"),
        ("C", 3, "normal"),
        ("D", 1, "fresh"),
    ]
    assert told.pending == {"resting": 0, "fresh": 1, "normal": 1, "warning": 1, "critical": 1}
    line = next(line for line in status_text(told).splitlines() if line.startswith("A-20261120-E0"))
    assert line.split() == (
        ["A-20261120-E0", "buy", "entry", "5", "0", "731.15", "WORKING", "11m", "00s", "critical", "vA"]
        + ["trigger", "730.65", "touched", "at", "730.60"]
    )


def test_status_tells_position_stop_and_why_entries_are_off(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    sbin.apply(EntriesOff, source="feed", reason="no price for 60 s")
    sbin.apply(HaltAsked, reason="asked by a person")
    day.commit(sbin)
    alive = live(
        prices={"SBIN": LivePrice(D("732.10"), 400)}, max_entries={"SBIN": 3}, threads={"ticks": "alive"}, feed={"ticks": 12}
    )

    with day.reader() as reader:
        told = status(reader, IST, 0, alive)

    assert json.loads(to_json(told))["symbols"] == [
        {
            "symbol": "SBIN",
            "phase": "LONG",
            "position": "5",
            "average": "731.15",
            "stop_price": "730.15",
            "stop_working": True,
            "entries_used": 1,
            "max_entries": 3,
            "live_orders": ["SBIN-20261120-S1"],
            "why": "trigger 730.65 touched at 730.60",
            "blocked": ["HALTED: asked by a person", "feed: no price for 60 s"],
            "last": "732.10",
            "last_age_ms": 400,
        }
    ]
    assert told.alarms == [("2026-11-20T09:31:03.631+05:30", "SBIN", "HALTED: asked by a person")]
    text = status_text(told)
    assert text.splitlines()[0] == "Session 2026-11-20 (practice) is running (process 4711, trading)."
    assert "threads  ticks alive" in text and "feed     ticks 12" in text and text.isascii()


def test_a_position_whose_stop_nobody_has_seen_is_shown_as_not_protected(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.enter()
    sbin.fill(sbin.now.entry, "5", "731.15")
    sbin.accept(sbin.now.stop, "13")
    day.commit(sbin)

    with day.reader() as reader:
        (held,) = positions(reader, live(prices={"SBIN": LivePrice(D("731.00"), 0)}))

    assert (held.position, held.average, held.stop_price, held.stop_working) == (D(5), D("731.15"), D("730.15"), False)
    assert held.open_profit == D("-0.75")
    assert positions_text([held]).splitlines()[-1].split() == ["SBIN", "5", "731.15", "731.00", "-0.75", "730.15", "NO"]


def test_orders_of_the_day_are_listed_with_their_end_and_reason(tmp_path: Path) -> None:
    """OPS-11: refused and unanswered orders are there too, each with its reason in words."""
    day = JournaledDay(tmp_path)
    good, refused, lost = day.trading("GOOD"), day.trading("NO"), day.trading("LOST")
    good.go_long()
    stop_out(good, "730.15")
    refused.tick("09:35:00", "730.60")
    refused.apply(WasRefused, client_id=refused.id("entry"), act=Act.SUBMIT, reason="no\nfunds")
    lost.tick("09:36:00", "730.60")
    lost.apply(WentUnanswered, client_id=lost.id("entry"), act=Act.SUBMIT, reason="timed out")
    day.commit(good, refused, lost)

    with day.reader() as reader:
        found = orders(reader, IST, at("09:40:00"))
        told = status(reader, IST, at("09:40:00"))

    assert [(o.client_id, o.status, o.ended, o.urgency, o.filled) for o in found] == [
        ("GOOD-20261120-E0", "FILLED", True, "", D(5)),
        ("GOOD-20261120-S1", "FILLED", True, "", D(5)),
        ("NO-20261120-E0", "REFUSED", True, "", D(0)),
        ("LOST-20261120-E0", "UNKNOWN", False, "normal", D(0)),
    ]
    assert found[2].reason == "no\\nfunds"
    assert told.counts == {"sent": 4, "refused": 1, "unknown": 1, "quarantined": 0}
    assert len(orders_text(found).splitlines()) >= 6


def test_trades_say_how_they_were_learnt(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    stop_out(sbin, "730.15")
    day.commit(sbin)

    with day.reader() as reader:
        (trade,) = trades(reader, IST)

    assert (trade.entry_order, trade.exit_order, trade.source) == ("SBIN-20261120-E0", "SBIN-20261120-S1", "stream")
    assert trades_text([trade]).splitlines()[-1].split() == (
        ["SBIN", "BUY", "5", "09:31:03", "731.15", "09:32:03", "730.15", "-5.00", "stop"]
    )


@pytest.mark.parametrize("begun", [False, True])
def test_without_a_session_everything_answers_in_a_sentence(tmp_path: Path, begun: bool) -> None:
    reader: JournalReader | None = None
    if begun:
        day = JournaledDay(tmp_path)
        day.journal._connection.execute("DELETE FROM sessions")
        reader = day.reader()

    texts = [
        status_text(status(reader, IST, 0)),
        orders_text(orders(reader, IST, 0)),
        positions_text(positions(reader)),
        trades_text(trades(reader, IST)),
        report_text(report(tmp_path), tmp_path),
        report_text(report(tmp_path, DAY), tmp_path, DAY),
    ]

    assert texts == [
        "No session has been recorded yet: start one with `run`.",
        "No orders.",
        "No positions: everything is flat.",
        "No trades.",
        f"There is no report in {tmp_path / 'reports'}.",
        f"There is no report of 2026-11-20 in {tmp_path / 'reports'}.",
    ]


def test_status_knows_whether_the_session_runs_has_ended_or_went_silent(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    with day.reader() as reader:
        running = status(reader, IST, 0, live(doing="waiting for the open")).told
        silent = status(reader, IST, 0).told
        of_another_day = status(reader, IST, 0, live(session="2026-11-19")).told
        day.journal.finish(5)
        ended = status(reader, IST, 0, live())

    assert running == "Session 2026-11-20 (practice) is running (process 4711, waiting for the open)."
    assert silent == of_another_day
    assert silent == "Session 2026-11-20 (practice) was running, but nothing has been heard of it for 10 s: is its process alive?"
    assert ended.told == "Session 2026-11-20 (practice) has ended, exit 5: stopped with a protected position open."
    assert (ended.state, ended.exit_code, ended.live) == ("finished", 5, None)


def test_an_order_left_behind_is_as_old_as_the_session_made_it(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.enter()
    day.commit(sbin)
    day.clock.advance_to(at("09:34:02.114"))
    day.journal.finish(7)

    with day.reader() as reader:
        (fact,) = orders(reader, IST, at("15:00:00"))

    assert fact.age_ms == 180_000


def test_the_running_session_knows_the_session_time_better(tmp_path: Path) -> None:
    """A practice day runs faster than the machine's clock."""
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.enter()
    day.commit(sbin)

    with day.reader() as reader:
        (fact,) = orders(reader, IST, 0, live(now_ms=at("09:41:02.114")))

    assert (fact.age_ms, fact.urgency) == (600_000, "warning")


def test_questions_and_commits_do_not_disturb_each_other(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    symbols = [day.trading(f"S{number}") for number in range(20)]
    stop, counts = threading.Event(), []

    def ask() -> None:
        with day.reader() as reader:
            while not stop.is_set():
                counts.append(len(status(reader, IST, at("09:40:00")).orders))

    asker = threading.Thread(target=ask)
    asker.start()
    for symbol in symbols:
        symbol.tick("09:31:00", "730.60")
        day.commit(symbol)
    stop.set()
    asker.join()

    with day.reader() as reader:
        assert len(status(reader, IST, 0).orders) == 20
    assert counts == sorted(counts)


def test_the_newest_report_or_the_one_asked_for_is_shown(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    with day.reader() as reader:
        for number in (18, 20, 19):
            made = build(
                reader=reader,
                day=date(2026, 11, number),
                zone=IST,
                mode="practice",
                exit_code=0,
                facts=[],
                ticks=number,
                faults={},
            )
            write(tmp_path, made, VirtualClock())

    newest, asked = report(tmp_path), report(tmp_path, date(2026, 11, 18))

    assert newest is not None and asked is not None
    assert (newest.ticks, asked.ticks) == (20, 18)
    assert report_text(newest, tmp_path).startswith("Session 2026-11-20, practice: exit 0: session done, flat\n")


def test_the_status_file_is_read_back_while_fresh_and_forgotten_when_old(tmp_path: Path) -> None:
    path, said = tmp_path / "data" / "status.json", live(prices={"SBIN": LivePrice(D("731.15"), 5)})

    assert write_live(path, said, VirtualClock())

    assert read_live(path, 1000) == said
    assert read_live(path, 11_000) == said
    assert read_live(path, 11_001) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}', b"\xff\xfe", b'{"pid": "x"}'])
def test_a_status_file_that_makes_no_sense_is_no_status(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)

    assert read_live(path, 0) is None
    assert read_live(tmp_path / "absent.json", 0) is None


def test_a_status_file_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    clock = VirtualClock()

    assert not write_live(tmp_path / "status.json", live(), clock)

    assert clock.now_ms() == 0
    assert [found.name for found in tmp_path.iterdir()] == ["status.json"]


def test_ages_are_short() -> None:
    assert [age_text(ms) for ms in (0, 45_900, 365_000, 7_380_000)] == ["0s", "45s", "6m 05s", "2h 03m"]
