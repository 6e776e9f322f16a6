"""The story of a trade as the log tells it: real SymbolState and machine, a fake outbox, whole lines compared."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import pytest

from ops.story import lines
from ops.words import Line, clock_text, money, number, printable, render, signed
from state.events import (
    Acknowledged,
    Act,
    EntriesOff,
    EntriesOn,
    FillSeen,
    FlattenAsked,
    HaltAsked,
    NotSent,
    PositionSeen,
    ProvedAbsent,
    Restarted,
    ResumeAsked,
    WasQuarantined,
    WasRefused,
    WentUnanswered,
)
from state.ledger import Fill
from state.orders import Purpose, Side
from state.reports import Reported
from state.symbol_state import Work
from tests.ops.driven import IST, D, Trading, at


def test_a_whole_trade_reads_like_a_story() -> None:
    day = Trading()

    day.tick("09:20:00", "740.00")
    day.enter()
    day.fill(day.now.entry, "5", "731.15", 1000)
    entry = day.now.entry
    day.accept(day.now.stop, "250611000013", 200)
    day.seen(day.now.stop, after_ms=40)
    day.seen(entry, Reported.FILLED, filled=D(5), average=D("731.15"))
    day.tick("09:44:00", "733.00")
    day.tick("09:45:00", "734.00")
    day.apply(Acknowledged, 90, client_id=day.id("stop"), act=Act.REPLACE)
    day.seen(day.now.stop, after_ms=30, trigger_price=D("730.50"))
    day.fill(day.now.stop, "5", "730.45", 5000)

    told = day.told()

    assert [line[:46].rstrip() for line in told] == [
        "09:31:02.114 ticks   SBIN  FLAT -> ENTERING",
        "09:31:02.391 ticks   SBIN  accepted",
        "09:31:03.391 ticks   SBIN  ENTERING -> LONG",
        "09:31:03.391 ticks   SBIN  placing stop",
        "09:31:03.591 ticks   SBIN  accepted",
        "09:31:03.631 ticks   SBIN  stop working",
        "09:45:00.000 ticks   SBIN  trailing",
        "09:45:00.120 ticks   SBIN  stop moved",
        "09:45:05.120 ticks   SBIN  LONG -> FLAT",
    ]
    assert [line[48:].split("  ", 1)[0] for line in told] == [
        "trigger 730.65 touched at 730.60, buy stop 5 @ 731.15",
        "venue order 250611000012, 277 ms",
        "bought 5 @ 731.15 (stream), LONG 5 @ 731.15",
        "sell stop 5 @ 730.15: protect the position",
        "venue order 250611000013, 200 ms",
        "sell stop 5 @ 730.15, at the venue, unprotected 240 ms",
        "730.15 -> 730.50 wanted: bar closed at 733.00, low 730.60",
        "730.15 -> 730.50",
        "sold 5 @ 730.45 by the stop (stream), trip -3.50 gross",
    ]
    ids = ["E0"] * 3 + ["S1"] * 6
    assert [line.rsplit("  ", 1)[1] for line in told] == [f"SBIN-20261120-{id}" for id in ids]
    start = "09:31:02.114 ticks   SBIN  FLAT -> ENTERING     trigger 730.65 touched at 730.60, buy stop 5 @ 731.15"
    assert told[0] == f"{start}       SBIN-20261120-E0"


def test_what_changes_nothing_gives_no_line() -> None:
    day = Trading()
    day.go_long()

    day.tick("09:40:00", "730.50")
    day.tick("09:45:00", "731.00")  # the bar that ended was red: it moves nothing
    day.beat("09:45:05")
    day.seen(day.now.stop)

    assert day.told() == []


def test_a_partial_fill_says_how_much_is_held_and_the_stop_grows_in_the_story() -> None:
    day = Trading()
    day.enter()
    day.fill(day.now.entry, "2", "731.15", 100)
    day.accept(day.now.stop, "13", 20)
    day.seen(day.now.stop)
    day.changes()

    day.fill(day.now.entry, "3", "731.10", 100)
    day.seen(day.now.stop, qty=D(5))

    assert day.changes() == [
        ("filled", "bought 3 of 5 @ 731.10 (stream), LONG 5 @ 731.12"),
        ("resizing stop", "2 -> 5"),
        ("stop resized", "2 -> 5, sell stop 5 @ 730.15"),
    ]


def test_a_stop_is_not_said_to_have_moved_until_the_venue_shows_it() -> None:
    day = Trading()
    day.go_long()
    day.tick("09:45:00", "733.00")
    day.apply(Acknowledged, client_id=day.id("stop"), act=Act.REPLACE)
    day.seen(day.now.stop, trigger_price=D("730.15"))
    assert [change for change, _ in day.changes()] == ["trailing"]

    day.seen(day.now.stop, trigger_price=D("730.15"))

    assert day.changes() == [("ALARM", "stop was not moved: the venue still shows 5 @ 730.15")]


def test_the_cutoff_tells_each_step_until_flat() -> None:
    day = Trading()
    day.go_long()
    day.tick("09:32:00", "730.55")

    day.beat("14:45:00")
    stop = day.now.stop
    day.apply(Acknowledged, 10, client_id=day.id("stop"), act=Act.CANCEL)
    day.seen(stop, Reported.CANCELLED, 10, filled=D(0))
    day.accept(day.now.exit, "15", 10)
    day.fill(day.now.exit, "5", "730.95", 10)

    assert day.changes() == [
        ("LONG -> EXITING", "cutoff"),
        ("cancelling", "sell stop 5 @ 730.15: closing: cutoff"),
        ("cancelled", "sell stop 5 @ 730.15: closing: cutoff"),
        ("placing exit", "sell 5 at market: cutoff"),
        ("accepted", "venue order 15, 10 ms"),
        ("EXITING -> FLAT", "sold 5 @ 730.95 by the exit (stream), trip -1.00 gross"),
    ]


def test_a_denial_is_told_once_and_names_its_rule() -> None:
    """ENT-02: the fourth trigger is denied with the count; told once however often it is touched."""
    day = Trading(max_entries=1)
    day.go_long()
    day.fill(day.now.stop, "5", "730.15", 1000)
    day.seen(day.now.stop, Reported.FILLED, filled=D(5))
    day.tick("09:40:00", "732.00")
    day.changes()

    for second in range(3):
        day.tick(f"09:41:0{second}", "730.50")

    assert day.changes() == [("denied", "entries used 1 of 1")]


def test_the_entry_window_is_named() -> None:
    """ENT-06: too early and too late are told, each once."""
    day = Trading()

    day.tick("09:15:30", "730.60")
    day.tick("09:15:40", "735.00")
    day.tick("10:15:01", "730.60")
    day.tick("10:15:02", "730.60")

    assert day.changes() == [
        ("denied", "before the entry window"),
        ("no entry", "trigger 730.65 was touched only after its window"),
    ]


def test_an_entry_that_times_out_is_cancelled_in_two_lines() -> None:
    day = Trading()
    day.enter()
    day.changes()

    day.beat("09:46:03")
    day.seen(day.now.entry, Reported.CANCELLED, filled=D(0))

    assert day.changes() == [
        ("cancelling", "entry buy stop 5 @ 731.15: entry timeout"),
        ("ENTERING -> FLAT", "entry buy stop 5 @ 731.15: entry timeout"),
    ]


def test_a_refused_entry_gives_the_venues_reason_as_a_warning() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.told()

    day.apply(WasRefused, client_id=day.id("entry"), act=Act.SUBMIT, reason="insufficient funds")

    told = lines(day.outbox.works[-1])
    cause = "entry buy stop 5 @ 731.15: insufficient funds"
    assert told == [Line(at("09:31:00"), "ticks", "SBIN", "ENTERING -> FLAT", cause, "SBIN-20261120-E0", "WARNING")]


def test_a_refused_stop_is_an_error_that_says_unprotected() -> None:
    day = Trading()
    day.enter()
    day.fill(day.now.entry, "5", "731.15")

    day.apply(WasRefused, client_id=day.id("stop"), act=Act.SUBMIT, reason="margin")

    assert [(line.change, line.cause, line.level) for line in lines(day.outbox.works[-1])] == [
        ("UNPROTECTED", "stop refused: margin", "ERROR"),
        ("refused", "sell stop 5 @ 730.15: margin", "WARNING"),
    ]


def test_an_unanswered_entry_goes_unknown_and_is_found() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.changes()

    day.apply(WentUnanswered, 10_000, client_id=day.id("entry"), act=Act.SUBMIT, reason="read timed out")
    day.seen(day.now.entry, after_ms=500)

    assert day.changes() == [
        (
            "ENTERING -> UNKNOWN",
            "UNKNOWN: entry order unanswered (read timed out): it may be at the venue, looking for it",
        ),
        ("UNKNOWN -> ENTERING", "venue order 77 is working (poll)"),
    ]


def test_an_unanswered_entry_that_never_arrived_says_so() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.apply(WentUnanswered, client_id=day.id("entry"), act=Act.SUBMIT, reason="reset")
    day.changes()

    day.apply(ProvedAbsent, client_id=day.id("entry"))

    cause = "entry buy stop 5 @ 731.15: nothing of it at the venue after the settle window"
    assert day.changes() == [("UNKNOWN -> FLAT", cause)]


def test_a_quarantined_order_is_an_error_with_that_word() -> None:
    day = Trading()
    day.enter()

    day.apply(WasQuarantined, client_id=day.id("entry"), reason="two rows match")

    cause = "QUARANTINED: HALTED: entry order quarantined: two rows match"
    told = lines(day.outbox.works[-1])
    now = at("09:31:02.391")
    assert told == [Line(now, "ticks", "SBIN", "ENTERING -> UNKNOWN", cause, "SBIN-20261120-E0", "ERROR")]


def test_a_halt_and_a_resume_are_told() -> None:
    day = Trading()

    day.apply(HaltAsked, reason="asked by a person")
    day.apply(ResumeAsked)

    assert day.changes() == [
        ("FLAT -> HALTED", "HALTED: asked by a person"),
        ("HALTED -> FLAT", "a person has looked; it was halted: asked by a person"),
    ]


def test_a_disagreement_about_the_position_halts_with_both_numbers() -> None:
    day = Trading()
    for qty in (0, 3, 3):
        day.apply(PositionSeen, 5000, qty=D(qty), asked_ms=day.clock.monotonic_ms() + 4000)

    assert day.changes() == [("FLAT -> HALTED", "HALTED: DIVERGED: venue holds 3, our fills say 0")]


def test_entries_off_and_on_name_their_source() -> None:
    day = Trading()

    day.apply(EntriesOff, source="feed", reason="no price for 60 s")
    day.tick("09:20:00", "730.60")
    day.apply(EntriesOn, source="feed")

    assert day.changes() == [
        ("entries off", "no price for 60 s"),
        ("FLAT -> ARMED", "no price for 60 s"),
        ("entries on", "over: no price for 60 s"),
    ]


def test_a_flatten_is_told_as_the_reason_of_the_exit() -> None:
    day = Trading()
    day.go_long()

    day.apply(FlattenAsked, reason="flatten")

    assert day.changes() == [("LONG -> EXITING", "flatten"), ("cancelling", "sell stop 5 @ 730.15: closing: flatten")]


def test_an_entry_that_could_not_be_sent_tells_when_it_goes_again() -> None:
    """ENT-04: the same client order id is asked again, and the log says so each time."""
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.changes()

    day.apply(NotSent, client_id=day.id("entry"), act=Act.SUBMIT, reason="connection refused")
    day.beat("09:31:05")

    assert day.changes() == [
        ("not sent", "submit entry: connection refused; again in 250 ms"),
        ("asking again", "try 2: buy stop 5 @ 731.15"),
    ]


def test_a_cancel_that_was_refused_is_looked_up() -> None:
    day = Trading()
    day.enter()
    day.beat("09:46:03")
    day.changes()

    day.apply(WasRefused, client_id=day.id("entry"), act=Act.CANCEL, reason="already complete")

    assert day.changes() == [("refused", "cancel entry: already complete; asking the venue")]


def test_a_move_without_an_answer_is_looked_for() -> None:
    day = Trading()
    day.go_long()
    day.tick("09:45:00", "733.00")
    day.changes()

    day.apply(WentUnanswered, client_id=day.id("stop"), act=Act.REPLACE, reason="read timed out")

    assert day.changes() == [("unanswered", "replace stop: read timed out; looking for it")]


def test_a_stop_that_vanished_is_told_before_anything_is_done() -> None:
    day = Trading()
    day.go_long()

    day.seen(day.now.stop, Reported.CANCELLED, 1000, filled=D(0))
    day.seen(day.now.stop, Reported.CANCELLED, 1000, filled=D(0))

    assert day.changes()[:2] == [
        ("stop gone?", "the venue shows the stop cancelled, not by us; looking again"),
        ("UNPROTECTED", "stop cancelled"),
    ]


def test_a_stop_that_somebody_changed_is_a_warning() -> None:
    day = Trading()
    day.go_long()

    day.seen(day.now.stop, after_ms=1000, trigger_price=D("730.80"))

    assert day.changes() == [("stop changed", "the venue shows 5 @ 730.80, not by us (was sell stop 5 @ 730.15)")]


def test_a_cutoff_while_waiting_or_armed_says_so() -> None:
    day = Trading()
    day.apply(EntriesOff, source="feed", reason="stale")
    day.tick("09:20:00", "730.60")
    day.changes()

    day.beat("14:45:00")

    assert day.changes() == [("ARMED -> FLAT", "cutoff")]


def test_a_trigger_that_lapsed_while_armed_is_told() -> None:
    day = Trading()
    day.apply(EntriesOff, source="feed", reason="stale")
    day.tick("09:20:00", "730.60")
    day.changes()

    day.tick("09:20:01", "732.00")

    assert day.changes() == [("ARMED -> FLAT", "the trigger has lapsed")]


def test_an_entry_we_denied_ourselves_gives_the_rule() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.changes()

    reason = "risk: 5 of 5 positions are open or being entered"
    day.apply(NotSent, client_id=day.id("entry"), act=Act.SUBMIT, reason=reason, again=False)

    assert day.changes() == [("ENTERING -> FLAT", f"entry buy stop 5 @ 731.15: {reason}")]


def test_an_entry_withdrawn_while_it_waited_for_its_next_try_is_told() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    day.apply(NotSent, client_id=day.id("entry"), act=Act.SUBMIT, reason="connection refused")
    day.changes()

    day.apply(HaltAsked, reason="asked by a person")

    assert day.changes() == [
        ("ENTERING -> HALTED", "HALTED: asked by a person"),
        ("not sent", "entry buy stop 5 @ 731.15: halted: asked by a person"),
    ]


def test_a_trail_that_had_to_wait_says_when_it_is_asked_for() -> None:
    day = Trading()
    day.enter()
    day.fill(day.now.entry, "5", "731.15")
    day.tick("09:45:00", "733.00")  # the stop is not yet accepted: nothing can be moved
    day.accept(day.now.stop, "13")
    day.changes()

    day.seen(day.now.stop)
    day.seen(day.now.stop, trigger_price=day.now.stop_price)

    assert day.changes() == [
        ("stop working", "sell stop 5 @ 730.15, at the venue, unprotected 837609 ms"),
        ("moving stop", "730.15 -> 730.50"),
        ("stop moved", "730.15 -> 730.50"),
    ]


def test_an_exit_in_parts_says_what_is_left() -> None:
    day = Trading()
    day.go_long()

    day.fill(day.now.stop, "2", "730.15")

    assert day.changes()[0] == ("filled", "sold 2 of 5 @ 730.15 by the stop (stream), LONG 3 @ 731.15")


def test_the_main_thread_is_called_main() -> None:
    work = Trading()
    work.apply(HaltAsked, reason="x")

    assert lines(msgspec.structs.replace(work.outbox.works[0], thread="MainThread"))[0].thread == "main"


def test_a_restart_says_what_it_found_in_the_journal() -> None:
    day = Trading()
    day.go_long()

    day.apply(Restarted)

    told = [change for change in day.changes() if change[0] == "recovered"]
    assert told == [("recovered", "LONG 5 @ 731.15, asking the venue about SBIN-20261120-S1")]


def test_a_restart_of_an_idle_symbol_says_nothing() -> None:
    day = Trading()

    day.apply(Restarted)

    assert day.changes() == []


def test_the_sample_of_the_design_is_how_a_line_looks() -> None:
    line = Line(at("09:31:02.114"), "ticks", "SBIN", "FLAT -> ENTERING", "trigger 730.65 touched", "SBIN-20261120-E0")

    columns = [part.strip() for part in render(line, IST, 4).split("  ") if part.strip()]
    assert columns == ["09:31:02.114 ticks", "SBIN", "FLAT -> ENTERING", "trigger 730.65 touched", "SBIN-20261120-E0"]
    assert render(msgspec.structs.replace(line, client_id=""), IST, 4).endswith("trigger 730.65 touched")


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("no\n09:31:02.114 ticks SBIN", "no\\n09:31:02.114 ticks SBIN"),
        ("\r\x1b[2J\x07\x00\t", "\\r\\x1b[2J\\x07\\x00\\t"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\u202egnol\u200b", "\\u202egnol\\u200b"),
        ("\ud800 half a character", "\\ud800 half a character"),
        ("₹ 731.15 über", "₹ 731.15 über"),
    ],
)
def test_no_text_can_end_its_line_or_turn_it_round(raw: str, escaped: str) -> None:
    """OPS-09"""
    assert printable(raw) == escaped


def test_time_is_that_of_the_session_zone() -> None:
    assert clock_text(at("09:31:02.007"), IST) == "09:31:02.007"
    assert clock_text(at("09:31:02.007"), ZoneInfo("UTC")) == "04:01:02.007"


def test_numbers_are_plain_and_money_has_cents() -> None:
    numbers = [number(D(text)) for text in ("731.10", "1E+2", "0.00000001", "33.33333333333333333")]
    assert numbers == ["731.10", "100", "0.00000001", "33.33333333"]
    assert [money(D(text)) for text in ("5", "-0", "12.5", "0.00222222", "1E+3")] == [
        "5.00",
        "0.00",
        "12.50",
        "0.00222222",
        "1000.00",
    ]
    assert [signed(D(text)) for text in ("5", "-5.25", "0")] == ["+5.00", "-5.25", "+0.00"]


def test_a_short_trip_is_told_the_other_way_round() -> None:
    day = Trading()
    day.tick("09:31:00", "730.60")
    assert day.now.entry is not None
    short = msgspec.structs.replace(day.now.entry, side=Side.SELL)
    before = msgspec.structs.replace(day.now, entry=short, side=Side.SELL)
    fill = Fill("T1", short.client_id, Purpose.ENTRY, Side.SELL, D(5), D("730.60"), 0, source="poll")
    event = FillSeen(now_ms=0, mono_ms=0, fill=fill)
    after = msgspec.structs.replace(before, ledger=before.ledger.add(fill))

    told = lines(Work("poll", event, before, after, ()))

    cause = "sold 5 @ 730.60 (poll), SHORT 5 @ 730.60"
    assert told == [Line(0, "poll", "SBIN", "ENTERING -> SHORT", cause, "SBIN-20261120-E0")]
