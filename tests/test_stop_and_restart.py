"""Stopped, killed and started again: real processes, a practice venue that lives on, and a tape short enough for each to end.

The tape: SBIN is filled at 09:17 and drifts up a little; TECHM is triggered and its entry rests for the whole day. Session time
runs 60 times as fast as life, so a second of a starting process is a minute of the day.
"""

from __future__ import annotations

import os
import signal
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests import runs

pytestmark = pytest.mark.timeout(180)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

SBIN = {"symbol": "SBIN", "qty": 10, "entry_price": 812.40, "trigger_price": 811.90, "setup_date": "2026-11-19"}
TECHM = {"symbol": "TECHM", "qty": 5, "entry_price": 1466.85, "trigger_price": 1466.35, "setup_date": "2026-11-19"}
HOLD = [("09:15:00", "813.00"), ("09:16:10", "811.80"), ("09:16:40", "812.40"), ("09:17:00", "812.60")]
REST = [("09:15:00", "1468.00"), ("09:16:10", "1466.30"), ("09:17:00", "1466.60")]
STOP = ("SBIN", 10, Decimal("811.4"))


def start(
    folder: Path,
    close: str = "09:40:00",
    cutoff: str = "8m",
    hold: list[tuple[str, str]] = HOLD,
    end: str | None = None,
    broken: tuple[str, ...] = (),
    timeout: str = "2s",
    rest: list[tuple[str, str]] = REST,
    program: Path = runs.RUNNER,
) -> runs.Running:
    """A session on the tape; the cutoff is so long before the close."""
    symbols = {"params": {"stop_ticks": 20, "trail_bar": "15m"}, "symbols": [SBIN, TECHM]}
    runs.write_config(
        folder,
        {"session": {"open": "09:15:00", "close": close, "exit_before_close": cutoff}},
        {"strategies": [{"name": "eighty_twenty"} | symbols], "orders": {"entry_timeout": "60m"}},
        {"broker": {"timeout": timeout, "settle_window": "4s"}},
    )
    runs.write_tape(folder / "day.csv", {"SBIN": hold, "TECHM": rest}, end or close, broken)
    return again(folder, program)


def again(folder: Path, program: Path = runs.RUNNER) -> runs.Running:
    return runs.Running(folder, "--tape", str(folder / "day.csv"), "--speed", "60", program=program)


def in_position(running: runs.Running) -> runs.VenueBooks:
    """SBIN held with its stop at work, TECHM's entry resting."""
    running.says("stop working")
    venue = runs.VenueBooks(running.folder)
    assert venue.stops() == [STOP]
    assert sorted(row["strategy"] for row in venue.live()) == ["SBIN-20261120-S1", "TECHM-20261120-E0"]
    return venue


def test_stop_takes_entries_back_and_leaves_the_stop_and_a_restart_adopts_it(tmp_path: Path) -> None:
    """OPS-13, CRA-03: code 5; then the same one stop, the entries counted, flat by the cutoff with code 0."""
    with start(tmp_path) as running:
        venue = in_position(running)
        asked = runs.command(tmp_path, "stop")
        assert (asked.code, "to stop: protect" in asked.out) == (0, True)
        assert running.ends() == 5

        assert venue.stops() == [STOP]
        assert [row["strategy"] for row in venue.live()] == ["SBIN-20261120-S1"]
        assert runs.log_lines(tmp_path)[-1].endswith("exit 5: stopped with a protected position open")
        assert "SBIN: position 10, stop 811.40 is working" in runs.console(tmp_path)

        first = len(runs.log_lines(tmp_path))
        with again(tmp_path) as second:
            second.says("found again", after=first)
            second.says("this session was begun before (finished)", after=first)
            second.says("LONG -> EXITING", after=first)
            assert venue.names("S") == ["SBIN-20261120-S1"]
            assert second.ends() == 0

    found = runs.report(tmp_path)
    assert [(row["entry_price"], row["reason"]) for row in found["trades"]] == [("812.40", "cutoff")]
    assert {symbol: row["entries"] for symbol, row in runs.by_symbol(found).items()} == {"SBIN": 1, "TECHM": 1}
    assert found["orders"] == {"sent": 4, "refused": 0, "unknown": 0, "quarantined": 0}


@posix
def test_sigterm_and_ctrl_c_protect_and_stop_flatten_closes(tmp_path: Path) -> None:
    """OPS-13: three starts on one position, one stop order in all."""
    with start(tmp_path, close="10:15:00") as running:
        venue = in_position(running)
        running.interrupt(signal.SIGTERM)
        assert running.ends() == 5
        running.says_last("stopping (protect), asked by SIGTERM", "exit 5: stopped with a protected position open")

        first = len(runs.log_lines(tmp_path))
        with again(tmp_path) as second:
            second.says("feed connected", after=first)
            runs.ctrl_c(second)
            assert second.ends() == 5
            second.says_last("stopping (protect), asked by SIGINT", "exit 5: stopped with a protected position open")
            assert venue.stops() == [STOP]
            assert venue.names("S") == ["SBIN-20261120-S1"]

            first = len(runs.log_lines(tmp_path))
            with again(tmp_path) as third, runs.Witness(tmp_path) as witness:
                third.says("feed connected", after=first)
                assert runs.command(tmp_path, "stop", "--flatten").code == 0
                assert third.ends() == 0

    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["qty"], trade["reason"]) == ("10", "flatten")
    sold = {row["filled_quantity"] for row in witness.seen.last_words.values() if row["pricetype"] == "MARKET"}
    assert sold == {10}


def test_stop_keep_leaves_everything_and_says_that_an_entry_is_unattended(tmp_path: Path) -> None:
    """OPS-13: code 7, because the resting entry may fill with nobody there."""
    with start(tmp_path) as running:
        venue = in_position(running)
        assert runs.command(tmp_path, "stop", "--keep").code == 0
        assert running.ends() == 7

        assert sorted(row["strategy"] for row in venue.live()) == ["SBIN-20261120-S1", "TECHM-20261120-E0"]
        running.says_last("stopping (keep), asked by the command line", "exit 7: stopped with something unprotected or unknown")


def test_killed_in_position_it_comes_back_to_the_same_orders(tmp_path: Path) -> None:
    """CRA-03: never a second entry or stop; entries used restored; the trade is recorded once."""
    with start(tmp_path) as running:
        venue = in_position(running)
        running.kill()
        first = len(runs.log_lines(tmp_path))
        with again(tmp_path) as second:
            second.says("this session was begun before (running)", after=first)
            second.says("feed connected", after=first)
            assert venue.stops() == [STOP]
            assert runs.command(tmp_path, "status", "--json").json["symbols"][0]["entries_used"] == 1
            assert second.says("LONG -> EXITING", after=first)
            assert (venue.names("E"), venue.names("S")) == (["SBIN-20261120-E0", "TECHM-20261120-E0"], ["SBIN-20261120-S1"])
            assert second.ends() == 0

    found = runs.report(tmp_path)
    assert [(row["qty"], row["entry_order"], row["reason"]) for row in found["trades"]] == [("10", "SBIN-20261120-E0", "cutoff")]
    assert runs.by_symbol(found)["TECHM"]["why"] == "no trade, entries used 1 of 3; entry cancelled (cutoff)"


def test_a_stop_that_filled_while_the_process_was_dead_is_found_and_booked(tmp_path: Path) -> None:
    """CRA-05: flat by the venue's fills, learnt in recovery; no exit of ours, its entry still counted."""
    hold = [*HOLD, ("09:20:00", "811.30"), ("09:20:05", "813.00")]
    with start(tmp_path, hold=hold) as running:
        venue = in_position(running)
        running.kill()
        runs.until(lambda: not venue.stops(), "the stop fills at the venue")
        with again(tmp_path) as second:
            second.says("LONG -> FLAT")
            assert venue.names("X") == []
            runs.ctrl_c(second)
            assert second.ends() == 0

    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["exit_price"], trade["reason"], trade["source"]) == ("811.30", "stop", "recovery")
    assert runs.by_symbol(runs.report(tmp_path))["SBIN"]["entries"] == 1


def test_started_after_the_cutoff_and_flat_it_ends_at_once(tmp_path: Path) -> None:
    """EXI-09: no entry, code 0, and the log says why."""
    quiet = [("09:15:00", "813.00")]
    with start(tmp_path, close="09:24:00", cutoff="7m", hold=quiet) as running:
        running.says("feed connected")
        running.kill()
        venue = runs.VenueBooks(tmp_path)
        runs.until(lambda: venue.session_ms() >= runs.session_ms("09:17:30"), "the cutoff passes")
        with again(tmp_path) as second:
            assert second.ends() == 0
            assert any("the cutoff has passed: no entries today" in line for line in runs.log_lines(tmp_path))
    assert runs.report(tmp_path)["trades"] == []


def test_started_after_the_cutoff_and_long_it_sells_at_once(tmp_path: Path) -> None:
    """EXI-09"""
    with start(tmp_path, close="09:30:00", cutoff="10m") as running:
        venue = in_position(running)
        running.kill()
        runs.until(lambda: venue.session_ms() >= runs.session_ms("09:20:10"), "the cutoff passes")
        with again(tmp_path) as second:
            assert second.ends() == 0
    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["qty"], trade["reason"]) == ("10", "cutoff")


def test_a_second_instance_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    """OPS-03: code 4 before any order; a stop asked for before the start does not end the new session."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stop.request").write_text('{"kind":"protect","who":"yesterday"}', encoding="utf-8")
    broken = ("2026-11-20T03:50:00.000Z,SBIN,NSE,minus,1", "what is this")
    with start(tmp_path, hold=[("09:15:00", "813.00")], broken=broken) as running:
        running.says("feed connected")
        second = runs.command(tmp_path, "run")
        assert second.code == 4
        assert second.err.startswith("another runner is using ")
        running.says("exit 4: another instance holds the account")

        assert running.process.poll() is None
        assert runs.command(tmp_path, "status").out.startswith("Session 2026-11-20 (practice) is running")
        runs.ctrl_c(running)
        assert running.ends() == 0

    said = "\n".join(runs.log_lines(tmp_path))
    assert "2 bad, 0 late; line " in said, "broken lines of a tape are counted and shown"
    assert runs.log_lines(tmp_path)[-1].endswith("exit 0: session done, flat")
    late = runs.command(tmp_path, "stop")
    assert (late.code, late.err.strip()) == (2, "no running session answers: nothing to stop")


MORTAL = """
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
import live_runner
from brokers.feed import Feed

read = Feed.frame


def frame(feed, message):
    if Path("die").exists():
        raise RuntimeError("told to die")
    read(feed, message)


Feed.frame = frame
sys.exit(live_runner.main())
"""


def test_a_tick_thread_that_dies_costs_entries_and_the_polls_go_on_protecting(tmp_path: Path) -> None:
    """OPS-05, FEE-11: a loud line, no entries, the stop's fill learnt from a poll; the code says that there was a defect."""
    program = tmp_path / "mortal.py"
    program.write_text(MORTAL.format(root=str(runs.ROOT)), encoding="utf-8")
    hold = [*HOLD, ("09:26:00", "811.30"), ("09:26:05", "813.00")]
    with start(tmp_path, close="10:15:00", hold=hold, program=program) as running:
        in_position(running)
        (tmp_path / "die").touch()
        running.says("the ticks thread died: no entries; the other threads go on protecting")
        blocked = runs.command(tmp_path, "status", "--json").json["symbols"][0]["blocked"]
        running.says("LONG -> FLAT")
        runs.ctrl_c(running)
        assert running.ends() == 70

    assert any("watchdog: the ticks thread is not working" in reason for reason in blocked)
    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["exit_price"], trade["reason"], trade["source"]) == ("811.30", "stop", "poll")
    assert "told to die" in "\n".join(runs.log_lines(tmp_path))
    running.says_last("stopping (protect)", "exit 70: defect")


@posix
def test_a_venue_that_dies_is_spoken_of_and_the_session_ends_with_7(tmp_path: Path) -> None:
    """OPS-05, EXI-04: no crash, bounded time, never code 0 or 5 on hearsay."""
    with start(tmp_path, close="09:20:00", cutoff="1m") as running:
        os.kill(in_position(running).pid(), signal.SIGKILL)
        running.says("feed disconnected")
        running.says("the broker has not answered 3 polls: no entries until it does")
        assert running.ends() == 7

    running.says_last("SBIN: position 10", "exit 7: stopped with something unprotected or unknown")
    assert runs.report(tmp_path)["exit_code"] == 7
    assert [row["reason"] for row in runs.report(tmp_path)["trades"]] == ["open"]


@posix
def test_stopped_while_the_venue_does_not_answer_nothing_is_called_protected(tmp_path: Path) -> None:
    """OPS-13: what our books remember of a stop is no proof that it works: 7, not 5."""
    with start(tmp_path, rest=[("09:15:00", "1468.00")]) as running:
        running.says("stop working")
        os.kill(runs.VenueBooks(tmp_path).pid(), signal.SIGKILL)
        running.says("feed disconnected")
        running.interrupt(signal.SIGTERM)
        assert running.ends() == 7
    running.says_last("stopping (protect), asked by SIGTERM", "exit 7: stopped with something unprotected or unknown")


@posix
def test_a_venue_that_stands_still_costs_entries_and_nothing_else(tmp_path: Path) -> None:
    """FEE-02, PRO-01: frozen in position, entries go off with a loud line; thawed, all is as it was."""
    with start(tmp_path, close="10:15:00", timeout="1s") as running:
        venue = in_position(running)
        number = venue.pid()
        os.kill(number, signal.SIGSTOP)
        try:
            running.says("the broker has not answered 3 polls: no entries until it does")
            status = runs.command(tmp_path, "status", "--json").json["symbols"][0]
            assert any("poll" in reason for reason in status["blocked"])
        finally:
            os.kill(number, signal.SIGCONT)
        first = len(runs.log_lines(tmp_path))
        running.says("entries on", after=first)
        assert venue.names("S") == ["SBIN-20261120-S1"]
        assert runs.command(tmp_path, "stop", "--flatten").code == 0
        assert running.ends() == 0
    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["qty"], trade["reason"]) == ("10", "flatten")


def test_sync_says_what_asking_the_venue_changed_about_one_order(tmp_path: Path) -> None:
    """OPS-08: one at work, one that a phone call ended, one that nobody knows."""
    with start(tmp_path) as running:
        venue = in_position(running)
        same = runs.command(tmp_path, "sync", "TECHM-20261120-E0")
        entry = next(row for row in venue.live() if row["strategy"] == "TECHM-20261120-E0")
        venue.ask("/api/v1/cancelorder", strategy="phone", orderid=entry["orderid"])
        running.says("ENTERING -> FLAT")
        gone = runs.command(tmp_path, "sync", entry["orderid"], "--json")
        unknown = runs.command(tmp_path, "sync", "SBIN-20261120-E7")
        runs.command(tmp_path, "stop", "--flatten")

        assert running.ends() == 0
        assert (same.code, same.out.strip()) == (0, "nothing to do: WORKING, buy stop 5 @ 1466.85, 0 filled")
        assert (gone.code, gone.json["known"], gone.json["text"]) == (0, True, "nothing to do: ended, 0 filled")
        assert (unknown.code, "no order SBIN-20261120-E7" in unknown.out) == (2, True)
