"""The end-of-day report: built from a real journal, written to a real file."""

from __future__ import annotations

import json
import os
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops.log import redactor
from ops.report import Report, SymbolFacts, build, read, report_path, write
from ops.report_text import summary
from state.clock import VirtualClock
from state.events import Act, HaltAsked, WasRefused
from tests.ops.driven import DAY, IST, D
from tests.ops.journaled import JournaledDay, close_out, stop_out, trail


def report_of(day: JournaledDay, *facts: SymbolFacts, exit_code: int = 0, **other: Any) -> Report:
    fields: dict[str, Any] = {"ticks": 1234, "faults": {"bad price": 2, "reconnects": 0}} | other
    with day.reader() as reader:
        return build(reader=reader, day=DAY, zone=IST, mode="practice", exit_code=exit_code, facts=list(facts), **fields)


def eighty(symbol: str, low: str | None = "735.20", high: str | None = "740.00", why_not: str | None = None) -> SymbolFacts:
    seen = [None if text is None else D(text) for text in (low, high)]
    return SymbolFacts(symbol, "eighty_twenty", 3, why_not, D("730.65"), *seen)


def test_the_report_of_a_trade_has_every_key_of_the_contract(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.enter()
    sbin.fill(sbin.now.entry, "5", "731.15", 1000, fee="1.25")
    sbin.accept(sbin.now.stop, "13", 200)
    sbin.seen(sbin.now.stop, after_ms=40)
    stop_out(sbin, "730.10", fee="1.30")
    day.commit(sbin)

    path = write(tmp_path, report_of(day, eighty("SBIN")), VirtualClock())

    assert path == tmp_path / "reports" / "2026-11-20.json"
    assert json.loads(path.read_text()) == {
        "session": "2026-11-20",
        "mode": "practice",
        "exit_code": 0,
        "symbols": [
            {
                "symbol": "SBIN",
                "strategy": "eighty_twenty",
                "entries": 1,
                "exits": 1,
                "realized_pnl": "-7.80",
                "fees": "2.55",
                "max_unprotected_ms": 240,
                "why": "1 trade, entries used 1 of 3",
                "max_entries": 3,
                "gross": "-5.25",
                "position": "0",
                "stop_path": [["2026-11-20T09:31:03.631+05:30", "730.15"]],
                "low": "735.20",
                "high": "740.00",
                "dust": "0",
            }
        ],
        "trades": [
            {
                "symbol": "SBIN",
                "side": "BUY",
                "qty": "5",
                "entry_price": "731.15",
                "exit_price": "730.10",
                "entry_time": "2026-11-20T09:31:03.391+05:30",
                "exit_time": "2026-11-20T09:32:03.631+05:30",
                "gross": "-5.25",
                "fees": "2.55",
                "net": "-7.80",
                "reason": "stop",
                "entry_order": "SBIN-20261120-E0",
                "exit_order": "SBIN-20261120-S1",
                "source": "stream",
                "stop_path": [["2026-11-20T09:31:03.631+05:30", "730.15"]],
                "dust": "0",
            }
        ],
        "orders": {"sent": 2, "refused": 0, "unknown": 0, "quarantined": 0},
        "ticks": 1234,
        "faults": {"bad price": 2, "reconnects": 0},
        "exit_words": "exit 0: session done, flat",
        "realized_pnl": "-7.80",
        "fees": "2.55",
        "alarms": [],
    }


@pytest.mark.parametrize("can_replace", [True, False])
def test_a_stop_that_had_been_moved_is_a_trail_and_its_path_is_what_the_venue_showed(tmp_path: Path, can_replace: bool) -> None:
    day = JournaledDay(tmp_path, can_replace=can_replace)
    sbin = day.trading("SBIN")
    sbin.go_long()
    trail(sbin, "09:45:00", "733.00", can_replace)
    sbin.tick("09:50:00", "736.00")
    stop_out(sbin, "730.50")
    day.commit(sbin)

    (trade,) = report_of(day, eighty("SBIN")).trades

    assert trade.reason == "trail"
    assert [price for _, price in trade.stop_path] == ["730.15", "730.50"]
    assert trade.stop_path[1][0] == ("2026-11-20T09:45:00.120+05:30" if can_replace else "2026-11-20T09:45:00.080+05:30")


def test_a_move_the_venue_never_showed_is_not_in_the_path(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    sbin.tick("09:45:00", "733.00")
    stop_out(sbin, "730.15", 10)
    day.commit(sbin)

    (trade,) = report_of(day, eighty("SBIN")).trades

    assert (trade.reason, [price for _, price in trade.stop_path]) == ("stop", ["730.15"])


def test_each_trip_is_judged_by_its_own_first_stop(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    trail(sbin, "09:45:00", "733.00")
    stop_out(sbin, "730.50")
    sbin.tick("09:47:00", "730.60")
    sbin.accept(sbin.now.entry, "21")
    sbin.fill(sbin.now.entry, "5", "731.15", 1000)
    sbin.accept(sbin.now.stop, "22")
    sbin.seen(sbin.now.stop)
    stop_out(sbin, "730.15")
    day.commit(sbin)

    report = report_of(day, eighty("SBIN"))

    assert [trade.reason for trade in report.trades] == ["trail", "stop"]
    assert report.symbols[0].why == "2 trades, entries used 2 of 3"


@pytest.mark.parametrize(("reason", "told"), [(None, "cutoff"), ("flatten", "flatten")])
def test_an_exit_order_gives_the_reason_it_was_made_for(tmp_path: Path, reason: str | None, told: str) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    sbin.tick("09:32:00", "730.55")
    close_out(sbin, "732.00", reason)
    day.commit(sbin)

    (trade,) = report_of(day, eighty("SBIN")).trades

    assert (trade.reason, trade.exit_price, trade.net) == (told, "732.00", "4.25")


def test_a_limit_of_entries_is_told_with_its_count(tmp_path: Path) -> None:
    """ENT-02: a trigger after the last allowed entry is denied, and the report says how many were used."""
    day = JournaledDay(tmp_path, max_entries=1)
    sbin = day.trading("SBIN")
    sbin.go_long()
    stop_out(sbin, "730.15")
    sbin.tick("09:40:00", "732.00")
    sbin.tick("09:41:00", "730.60")
    day.commit(sbin)

    fact = msgspec.structs.replace(eighty("SBIN"), max_entries=1)
    assert sbin.now.why == "denied: entries used 1 of 1"
    assert report_of(day, fact).symbols[0].why == "1 trade, entries used 1 of 1"


def test_every_symbol_says_why_it_did_not_trade(tmp_path: Path) -> None:
    """ENT-06: the window is named."""
    day = JournaledDay(tmp_path)
    late = day.trading("KOTAKBANK")
    late.tick("10:15:01", "730.60")
    unfilled = day.trading("TECHM")
    unfilled.state.tick(D("735.00"), day.clock.now_ms())
    day.commit(late, unfilled)

    report = report_of(
        day,
        eighty("WIPRO"),
        eighty("QUIET", None, None),
        eighty("OLD", why_not="setup of 2026-11-18 is good for 2026-11-19 only, not for 2026-11-20"),
        eighty("KOTAKBANK", "730.60"),
        SymbolFacts("BREAK", "breakout", 1, None, None, D("10"), D("12")),
    )

    assert {symbol.symbol: symbol.why for symbol in report.symbols} == {
        "WIPRO": "no price at or below trigger 730.65 (low 735.20)",
        "QUIET": "no price was received",
        "OLD": "setup of 2026-11-18 is good for 2026-11-19 only, not for 2026-11-20",
        "KOTAKBANK": "trigger 730.65 was touched only after its window",
        "BREAK": "no entry was wanted (low 10, high 12)",
    }


def test_an_entry_that_came_to_nothing_gives_its_reason_and_count(tmp_path: Path) -> None:
    """OPS-11: refused orders are in the report with their reason in words."""
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.tick("09:31:00", "730.60")
    assert sbin.now.entry is not None
    sbin.apply(WasRefused, client_id=sbin.now.entry.client_id, act=Act.SUBMIT, reason="no\nfunds")
    day.commit(sbin)

    report = report_of(day, eighty("SBIN"))

    assert report.symbols[0].why == "no trade, entries used 1 of 3; entry refused: no\\nfunds"
    assert report.orders == {"sent": 1, "refused": 1, "unknown": 0, "quarantined": 0}


def test_an_open_position_is_told_as_open_with_its_halt(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    sbin.apply(HaltAsked, reason="asked by a person")
    day.commit(sbin)

    report = report_of(day, eighty("SBIN"), exit_code=5)

    (trade,) = report.trades
    assert (trade.reason, trade.exit_price, trade.exit_time, trade.exit_order) == ("open", None, None, "")
    assert report.symbols[0].why == "1 trade, entries used 1 of 3; still LONG 5 @ 731.15; HALTED: asked by a person"
    assert (report.symbols[0].entries, report.symbols[0].exits) == (1, 0)
    assert report.alarms == [("2026-11-20T09:31:03.631+05:30", "SBIN", "HALTED: asked by a person")]


def test_a_symbol_that_left_the_configuration_stays_in_the_report(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    stop_out(sbin, "730.15")
    day.commit(sbin)

    report = report_of(day)

    assert [(symbol.symbol, symbol.why) for symbol in report.symbols] == [("SBIN", "1 trade, entries used 1")]


def test_net_is_gross_less_fees_to_the_last_of_eight_digits(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.enter()
    sbin.fill(sbin.now.entry, "2", "731.1333333333", fee="0.333333333333")
    sbin.fill(sbin.now.entry, "3", "731.15", fee="0.1")
    stop_out(sbin, "730.10", fee="0.777777777777")
    day.commit(sbin)

    (trade,) = report_of(day, eighty("SBIN")).trades

    assert trade.fees == "1.21111111"
    assert Decimal(trade.net) == Decimal(trade.gross) - Decimal(trade.fees)


def test_no_planted_key_is_in_the_report(tmp_path: Path) -> None:
    """OPS-09"""
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.tick("09:31:00", "730.60")
    assert sbin.now.entry is not None
    sbin.apply(WasRefused, client_id=sbin.now.entry.client_id, act=Act.SUBMIT, reason='bad apikey pl"anted-key')
    day.commit(sbin)

    path = write(tmp_path, report_of(day, eighty("SBIN")), VirtualClock(), redactor(['pl"anted-key']))

    assert json.loads(path.read_text())["symbols"][0]["why"].endswith("entry refused: bad apikey ***")


def test_a_reader_never_sees_half_a_report(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    report = report_of(day, *(eighty(f"S{number}") for number in range(50)))
    path = write(tmp_path, report, VirtualClock())
    done = threading.Event()
    seen: list[Report | None] = []

    def look() -> None:
        while not done.is_set():
            seen.append(read(path))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        write(tmp_path, report, VirtualClock())
    done.set()
    reader.join()

    assert seen and all(found == report for found in seen)
    assert [found.name for found in path.parent.iterdir()] == ["2026-11-20.json"]


def test_a_report_that_cannot_be_put_in_place_leaves_the_old_one_and_no_rubbish(tmp_path: Path) -> None:
    path = report_path(tmp_path, DAY)
    path.mkdir(parents=True)

    with pytest.raises(OSError, match=r"2026-11-20"):
        write(tmp_path, report_of(JournaledDay(tmp_path)), VirtualClock())

    assert list(path.parent.iterdir()) == [path]


def test_a_report_somebody_is_looking_at_on_windows_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a file that is open cannot be replaced; no POSIX system can be made to do that."""
    report = report_of(JournaledDay(tmp_path))
    refusals, real = [PermissionError(13, "in use")] * 3, os.replace

    def replace(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    clock = VirtualClock()

    path = write(tmp_path, report, clock)

    assert path.exists() and clock.now_ms() == 150


def test_a_report_that_stays_in_use_is_an_error_after_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(JournaledDay(tmp_path))

    def replace(source: Path, target: Path) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(os, "replace", replace)
    clock = VirtualClock()

    with pytest.raises(PermissionError):
        write(tmp_path, report, clock)

    assert clock.now_ms() == 950
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_report_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "2026-11-20.json") is None


def test_the_summary_is_plain_ascii_that_fits_a_terminal(tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    trail(sbin, "09:45:00", "733.00")
    stop_out(sbin, "732.40", fee="1.5")
    day.commit(sbin)

    odd = eighty("ODD", why_not="₹\nx" + " and a reason that goes on for longer than any terminal is wide" * 2)
    text = summary(report_of(day, eighty("SBIN"), eighty("WIPRO"), odd), "data/reports/x.json", "logs/x.log", width=100)

    assert text.isascii()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.splitlines()[:9] == [
        "Session 2026-11-20, practice: exit 0: session done, flat",
        "",
        "symbol  side  qty  in         entry  out         exit   net  reason",
        "------  ----  ---  --------  ------  --------  ------  ----  --------------------",
        "SBIN    BUY     5  09:31:03  731.15  09:46:00  732.40  4.75  trail",
        "",
        "symbol  strategy       trades  profit  fees  why",
        "------  -------------  ------  ------  ----  --------------------",
        "SBIN    eighty_twenty       1   +4.75  1.50  1 trade, entries used 1 of 3",
    ]
    assert text.splitlines()[-7:] == [
        "",
        "total   1 trades, +4.75 after fees of 1.50",
        "orders  2 sent, 0 refused, 0 unknown, 0 quarantined; longest without a working stop 240 ms",
        "feed    1234 ticks; faults: bad price 2; alarms: 0",
        "",
        "report  data/reports/x.json",
        "log     logs/x.log",
    ]
