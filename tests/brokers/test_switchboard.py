"""Who is told what: words of desk, poller and feed become entry blocks, log lines and sweeps. Real states, no threads but one."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from brokers.channel import Missed
from brokers.desk import Outbox
from brokers.feed import NO_TICK_YET
from brokers.poller import FAILURES_BEARABLE
from brokers.reports import Reports
from brokers.switchboard import Switchboard
from state.clock import VirtualClock
from state.commands import Alarm
from state.events import Heartbeat
from state.instrument import Instrument
from state.reports import OrderRow, Reported
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work
from tests.brokers.doubles import STALL_S
from tests.state.builders import BUY, TEN, make_rules

D = Decimal
SYMBOLS = ("ITC", "SBIN")


class Voice:
    """The log. A defect's block is set on a thread of its own: `blocked` waits for it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.said.append(("info", text))

    def warning(self, text: str) -> None:
        self.said.append(("warning", text))

    def alarm(self, text: str) -> None:
        self.said.append(("alarm", text))

    def defect(self, text: str, error: BaseException) -> None:
        self.said.append(("defect", f"{text}: {error}"))


class FeedDouble:
    connection = 3

    def __init__(self) -> None:
        self.released: list[int] = []

    def release(self, connection: int) -> None:
        self.released.append(connection)


class PollerDouble:
    def __init__(self) -> None:
        self.asked = 0

    def soon(self) -> None:
        self.asked += 1


class Desk:
    """A switchboard and everything around it."""

    def __init__(self) -> None:
        clock = VirtualClock(TEN)
        rules = {symbol: make_rules(instrument=Instrument(symbol, "NSE", D("0.05"))) for symbol in SYMBOLS}
        self.states = {symbol: SymbolState(Snapshot(symbol), rules[symbol], Outbox(), clock) for symbol in SYMBOLS}
        self.voice = Voice()
        self.told: list[Work] = []
        self.reports = Reports(self.states, clock, 30)
        self.board = Switchboard(self.states, clock, self.voice, self.told.append, self.reports)
        self.feed, self.poller = FeedDouble(), PollerDouble()
        parts: Any = (self.feed, self.poller)
        self.board.feed, self.board.poller = parts

    def blocks(self, symbol: str = "SBIN") -> dict[str, str]:
        return dict(self.states[symbol].snapshot.blocks)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_block_of_the_account_is_a_block_of_each_symbol_and_is_told_once(desk: Desk) -> None:
    for _ in range(3):
        desk.board.block("recovery", "recovering")

    assert [desk.blocks(symbol) for symbol in SYMBOLS] == [{"recovery": "recovering"}] * 2
    assert desk.voice.said == [("info", "entries off: recovering")]


def test_taking_one_block_away_leaves_the_others_and_says_which(desk: Desk) -> None:
    desk.board.block("recovery", "recovering")
    desk.board.block("hours", "the hours differ")

    desk.board.unblock("recovery")

    assert desk.blocks() == {"hours": "the hours differ"}
    assert desk.voice.said[-1] == ("info", "entries on again after: recovering; still off: the hours differ")


def test_a_block_again_changes_no_snapshot(desk: Desk) -> None:
    desk.board.block("poll", "silent")
    version = desk.states["SBIN"].snapshot.version

    desk.board.block("poll", "silent")
    desk.board.unblock("feed")

    assert desk.states["SBIN"].snapshot.version == version


def test_failed_polls_are_borne_for_a_while_then_entries_go_off_until_one_is_answered(desk: Desk) -> None:
    """REC-03"""
    for failures in range(1, FAILURES_BEARABLE + 3):
        desk.board.poll_failed(failures, "connection refused")
        assert desk.board.answering is (failures < FAILURES_BEARABLE)
        assert bool(desk.blocks()) is (failures >= FAILURES_BEARABLE)
    alarms = [text for kind, text in desk.voice.said if kind == "alarm"]
    desk.board.swept()

    assert alarms == ["the broker has not answered 3 polls: no entries until it does"]
    assert (desk.blocks(), desk.board.answering) == ({}, True)


def test_a_broker_that_refuses_us_costs_entries_until_it_serves_again(desk: Desk) -> None:
    desk.board.fatal("key expired")
    said, blocked = desk.voice.said[0], desk.blocks()
    desk.board.swept()

    assert said == ("alarm", "the broker will not serve us: key expired; no entries, protection goes on")
    assert blocked == {"broker": "the broker refuses us"}
    assert desk.blocks() == {}


def test_a_journal_that_cannot_be_written_costs_entries_until_it_can(desk: Desk) -> None:
    """CRA-08"""
    desk.board.journal("disk full")
    blocked = desk.blocks()
    desk.board.journal(None)

    assert blocked == {"journal": "the journal cannot be written"}
    assert desk.blocks() == {}
    assert ("alarm", "journal: disk full; no entries, exits go on and are kept in memory") in desk.voice.said
    assert ("warning", "journal: written again, nothing was lost") in desk.voice.said


def test_a_full_disk_is_told_again_and_again_but_not_with_every_try(desk: Desk) -> None:
    """CRA-08, OPS-04: it is tried twice a second; a minute of it is eight lines, and the next failure is told at once again."""
    for _ in range(120):
        desk.board.journal("disk full")
    minute = sum(1 for kind, text in desk.voice.said if kind == "alarm" and "disk full" in text)
    desk.board.journal(None)
    desk.board.journal("disk full")

    assert minute == 8  # 1, 2, 3, 4, 8, 16, 32, 64
    assert sum(1 for kind, text in desk.voice.said if kind == "alarm" and "disk full" in text) == minute + 1


def test_a_defect_takes_entries_off_everywhere_even_when_told_under_a_symbols_lock(desk: Desk) -> None:
    """FEE-11: the block is set by a thread of its own, for the caller may hold the lock it needs."""
    with desk.states["SBIN"]._lock:
        desk.board.defect("the strategy", ValueError("no"))
        desk.board.defect("the strategy", ValueError("no"))
    for thread in [thread for thread in threading.enumerate() if thread.name == "defect"]:
        thread.join(STALL_S)

    assert [desk.blocks(symbol) for symbol in SYMBOLS] == [{"defect": "a defect in the strategy"}] * 2
    assert desk.board.defects == 2
    assert [kind for kind, _ in desk.voice.said].count("defect") == 2


def test_after_a_connection_the_venue_is_asked_before_ticks_are_let_go(desk: Desk) -> None:
    """FEE-03: ticks of the connection that the sweep began on are released, never those of a later one."""
    desk.board.connected()
    desk.board.sweeping()
    desk.feed.connection = 4
    desk.board.swept()

    assert desk.poller.asked == 1
    assert desk.feed.released == [3]


def test_the_feeds_blocks_come_and_go_by_symbol(desk: Desk) -> None:
    desk.board.entries_off("SBIN", NO_TICK_YET)
    desk.board.entries_off("SBIN", "stale for 60 s")
    both = desk.blocks()
    desk.board.entries_on("SBIN")

    assert both == {"start": NO_TICK_YET, "feed": "stale for 60 s"}
    assert (desk.blocks("ITC"), desk.blocks("SBIN")) == ({}, {})


def test_an_order_update_goes_to_the_reports(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(desk.reports, "order_update", lambda *what: seen.append(what))
    row = OrderRow("1", "SBIN", BUY, Reported.WORKING, D(5))

    desk.board.order_update(row)

    assert seen == [(row, TEN, "stream")]


def test_prices_that_were_not_delivered_count_for_the_bar(desk: Desk) -> None:
    """FEE-12"""
    desk.states["SBIN"].tick(D("731.50"), TEN)

    desk.board.missed("SBIN", Missed(D("731.00"), D("735.00"), D("732.00"), TEN + 1_000))

    assert desk.states["SBIN"].range() == (D("731.00"), D("735.00"))


def test_alarms_disconnections_and_failed_polls_are_the_faults_of_the_day(desk: Desk) -> None:
    work = work_of(desk)
    desk.board.carried_out(work)
    desk.board.carried_out(msgspec.structs.replace(work, commands=(Alarm("UNPROTECTED"),)))
    desk.board.alarm("look")
    desk.board.disconnected("reset")
    desk.board.poll_failed(1, "reset")

    assert len(desk.told) == 2
    assert desk.board.faults == 4


def work_of(desk: Desk) -> Work:
    snapshot = desk.states["SBIN"].snapshot
    return Work(thread="ticks", event=Heartbeat(mono_ms=0, now_ms=TEN), before=snapshot, after=snapshot, commands=())
