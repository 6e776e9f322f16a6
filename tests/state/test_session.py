"""Session calendars: which days are sessions, and the instants of open, first entry, cutoff and close."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest

from state import session as sessions
from state.calendars import XNSE
from state.session import Calendar, CalendarError, Closed, Session, SessionPhase, hours_differ, seconds_of

MINUTE = 60_000
HOUR = 60 * MINUTE


def nse(exit_before_close_ms: int = 45 * MINUTE) -> Calendar:
    return sessions.named("XNSE", MINUTE, exit_before_close_ms)


def hours(open_text: str, close_text: str, timezone: str, exit_ms: int = 15 * MINUTE, **more: object) -> Calendar:
    return sessions.explicit(seconds_of(open_text), seconds_of(close_text), timezone, MINUTE, exit_ms, **more)  # type: ignore[arg-type]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def opened(calendar: Calendar, day: date) -> Session:
    session = calendar.on(day)
    assert isinstance(session, Session), session
    return session


def test_an_ordinary_day_has_its_four_instants_in_utc() -> None:
    session = nse().on(date(2026, 11, 20))

    assert session == Session(
        date(2026, 11, 20),
        open_ms=utc("2026-11-20T03:45"),
        entry_from_ms=utc("2026-11-20T03:46"),
        cutoff_ms=utc("2026-11-20T09:15"),
        close_ms=utc("2026-11-20T10:00"),
    )


def test_each_phase_begins_exactly_at_its_instant() -> None:
    """ENT-06 and EXI-03, their session part: 09:15:59.999 is too early, 09:16 is not, 14:45:00 is too late."""
    session = opened(nse(), date(2026, 11, 20))
    instants = [
        session.open_ms - 1,
        session.open_ms,
        session.entry_from_ms - 1,
        session.entry_from_ms,
        session.cutoff_ms - 1,
        session.cutoff_ms,
        session.close_ms - 1,
        session.close_ms,
    ]

    seen = [(session.phase(now), session.may_enter(now), session.past_cutoff(now), session.trading(now)) for now in instants]

    assert seen == [
        (SessionPhase.BEFORE, False, False, False),
        (SessionPhase.DELAYED, False, False, True),
        (SessionPhase.DELAYED, False, False, True),
        (SessionPhase.ENTRIES, True, False, True),
        (SessionPhase.ENTRIES, True, False, True),
        (SessionPhase.CUTOFF, False, True, True),
        (SessionPhase.CUTOFF, False, True, True),
        (SessionPhase.AFTER, False, True, False),
    ]


def test_holidays_weekends_and_the_special_sunday_of_the_exchange() -> None:
    """EXI-10: the holiday and the Saturday are closed with their reason, the Muhurat Sunday has its cutoff at 18:30."""
    days = [date(2026, 11, 24), date(2026, 11, 21), date(2026, 11, 22), date(2026, 11, 8)]

    answers = [nse().on(day) for day in days]

    assert answers == [
        Closed(date(2026, 11, 24), "holiday: Guru Nanak Jayanti"),
        Closed(date(2026, 11, 21), "weekend: Saturday"),
        Closed(date(2026, 11, 22), "weekend: Sunday"),
        Session(
            date(2026, 11, 8),
            open_ms=utc("2026-11-08T12:30"),
            entry_from_ms=utc("2026-11-08T12:31"),
            cutoff_ms=utc("2026-11-08T13:00"),
            close_ms=utc("2026-11-08T13:45"),
        ),
    ]


def test_the_holidays_of_2026_are_those_that_the_venue_publishes() -> None:
    """EXI-10; venues/openalgo.md section 12."""
    listed = "0115 0126 0303 0326 0331 0403 0414 0501 0528 0626 0914 1002 1020 1110 1124 1225"

    assert sorted(f"{day:%m%d}" for day in XNSE.holidays) == listed.split()
    assert all(day.year == 2026 and day.weekday() < 5 for day in XNSE.holidays)


def test_2026_has_as_many_sessions_as_weekdays_that_are_no_holidays_and_the_muhurat() -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]

    sessions_of_the_year = [day for day in days if isinstance(nse().on(day), Session)]

    assert len(sessions_of_the_year) == 261 - 16 + 1


def test_a_year_that_the_calendar_does_not_know_is_closed_and_says_so() -> None:
    """EXI-13: no 2027 in the calendar means no entries, with one clear reason."""
    closed = Closed(date(2027, 1, 4), "the XNSE calendar does not know the year 2027 (only 2026)")

    assert nse().on(date(2027, 1, 4)) == closed
    assert nse().at(utc("2027-01-04T05:00")) == closed


def test_the_search_for_a_trading_day_never_skips_over_days_nobody_knows() -> None:
    """EXI-13"""
    with pytest.raises(CalendarError, match=r"^the XNSE calendar knows no trading day after 2026-12-31$"):
        nse().next_day(date(2026, 12, 31))
    with pytest.raises(CalendarError, match=r"^the XNSE calendar knows no trading day before 2026-01-01$"):
        nse().previous_day(date(2026, 1, 1))


def test_the_search_for_a_trading_day_ends() -> None:
    every_day = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    calendar = hours("09:30", "16:00", "America/New_York", holidays=every_day)

    with pytest.raises(CalendarError, match=r"knows no trading day after 2026-01-01$"):
        calendar.next_day(date(2026, 1, 1))


@pytest.mark.parametrize("zone", ["Not/AZone", "", "/etc/localtime", "../UTC", "Asia"])
def test_a_zone_without_data_is_a_clear_error(zone: str) -> None:
    """EXI-13"""
    with pytest.raises(CalendarError, match=r"^no time zone data for '.*' on this machine .*on Windows install tzdata\)$"):
        hours("09:30", "16:00", zone)


def test_an_unknown_calendar_lists_the_known_ones() -> None:
    with pytest.raises(CalendarError, match=r"^no calendar is called 'XNYS'; there is XNSE$"):
        sessions.named("XNYS", 0, MINUTE)


def test_hours_of_the_venue_that_differ_are_told_in_words() -> None:
    """EXI-13: hours in UTC in place of Indian time, a session where we have none, none where we have one; and agreement."""
    ours, holiday = opened(nse(), date(2026, 11, 20)), nse().on(date(2026, 11, 24))

    answers = [
        hours_differ(ours, utc("2026-11-20T09:15"), utc("2026-11-20T15:30")),
        hours_differ(ours, None, None),
        hours_differ(holiday, ours.open_ms, ours.close_ms),
        hours_differ(ours, ours.open_ms, ours.close_ms),
        hours_differ(holiday, None, None),
    ]

    assert answers == [
        "our hours of 2026-11-20 are 2026-11-20 03:45:00 to 2026-11-20 10:00:00 UTC, "
        "the venue's 2026-11-20 09:15:00 to 2026-11-20 15:30:00 UTC",
        "our calendar has a session on 2026-11-20, the venue says it is closed",
        "our calendar has 2026-11-24 closed (holiday: Guru Nanak Jayanti), the venue says it is open",
        None,
        None,
    ]


def test_a_setup_is_good_for_the_next_trading_day_only() -> None:
    """ENT-11: over a weekend, over the holiday of 2026-11-24, and for the special Sunday session."""
    setups = [date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 23), date(2026, 11, 6), date(2025, 12, 31)]

    good = [nse().good_for(day) for day in setups]

    assert good == [date(2026, 11, 20), date(2026, 11, 23), date(2026, 11, 25), date(2026, 11, 8), date(2026, 1, 1)]


def test_the_previous_trading_day_is_the_way_back() -> None:
    """ENT-11"""
    days = [date(2026, 11, 25), date(2026, 11, 23), date(2026, 11, 9)]

    assert [nse().previous_day(day) for day in days] == [date(2026, 11, 23), date(2026, 11, 20), date(2026, 11, 8)]


@pytest.mark.parametrize("machine_zone", ["Asia/Kolkata", "Europe/London"])
def test_new_yorks_cutoff_follows_new_yorks_clocks(machine_zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXI-12: cutoff 15:45 New York on the days around the clock changes of both continents, wherever the machine is."""
    monkeypatch.setenv("TZ", machine_zone)
    if hasattr(time, "tzset"):  # Windows has none
        time.tzset()
    calendar = hours("09:30", "16:00", "America/New_York")
    days = [date(2026, 3, 9), date(2026, 3, 30), date(2026, 10, 26), date(2026, 11, 2)]

    cutoffs = [opened(calendar, day).cutoff_ms for day in days]
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()

    assert cutoffs == [
        utc("2026-03-09T19:45"),
        utc("2026-03-30T19:45"),
        utc("2026-10-26T19:45"),
        utc("2026-11-02T20:45"),
    ]


@pytest.mark.parametrize(
    ("day", "opens", "closes", "length"),
    [
        (date(2026, 3, 7), "2026-03-08T03:00", "2026-03-08T08:00", 5 * HOUR),
        (date(2026, 10, 31), "2026-11-01T02:00", "2026-11-01T09:00", 7 * HOUR),
        (date(2026, 7, 1), "2026-07-02T02:00", "2026-07-02T08:00", 6 * HOUR),
    ],
)
def test_a_window_over_midnight_has_one_date_and_its_true_length(day: date, opens: str, closes: str, length: int) -> None:
    """EXI-14: 22:00-04:00 in New York, on the nights on which the clocks change and on an ordinary one."""
    calendar = hours("22:00", "04:00", "America/New_York", exit_ms=30 * MINUTE, weekends=True)

    session = opened(calendar, day)

    assert session == Session(day, utc(opens), utc(opens) + MINUTE, utc(closes) - 30 * MINUTE, utc(closes))
    assert session.close_ms - session.open_ms == length
    assert {calendar.at(now) for now in range(session.open_ms, session.close_ms, 10 * MINUTE)} == {session}


def test_the_next_date_begins_when_the_window_over_midnight_has_closed() -> None:
    """EXI-14: up for days, each instant belongs to one session and the date changes once a day."""
    calendar = hours("22:00", "04:00", "America/New_York", weekends=True)
    close_ms = opened(calendar, date(2026, 10, 31)).close_ms

    dates = [calendar.at(now).day for now in (close_ms - 1, close_ms, close_ms + 18 * HOUR, close_ms + 24 * HOUR)]

    assert dates == [date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 2)]


def test_a_friday_window_over_midnight_stays_open_on_saturday() -> None:
    calendar = hours("22:00", "04:00", "UTC")
    friday = opened(calendar, date(2026, 11, 20))

    assert calendar.at(utc("2026-11-21T03:59")) == friday
    assert calendar.at(utc("2026-11-21T04:00")) == Closed(date(2026, 11, 21), "weekend: Saturday")


def test_a_whole_day_ends_at_midnight() -> None:
    calendar = hours("00:00", "24:00", "UTC", weekends=True)

    assert calendar.on(date(2026, 11, 22)) == Session(
        date(2026, 11, 22), utc("2026-11-22T00:00"), utc("2026-11-22T00:01"), utc("2026-11-22T23:45"), utc("2026-11-23T00:00")
    )
    assert calendar.at(utc("2026-11-23T00:00")).day == date(2026, 11, 23)


def test_the_session_of_an_instant_is_that_of_the_exchanges_date() -> None:
    """00:30 in Kolkata is still yesterday in London."""
    assert nse().at(utc("2026-11-19T19:00")) == nse().on(date(2026, 11, 20))
    assert nse().at(utc("2026-11-20T18:29")).day == date(2026, 11, 20)
    assert nse().at(utc("2026-11-20T18:30")) == Closed(date(2026, 11, 21), "weekend: Saturday")


def test_a_session_too_short_for_its_exit_is_all_cutoff() -> None:
    """Nobody enters, and what is open is closed at once: never a cutoff before the open."""
    session = opened(nse(exit_before_close_ms=2 * HOUR), date(2026, 11, 8))

    assert session.cutoff_ms == session.open_ms
    assert not any(session.may_enter(now) for now in range(session.open_ms, session.close_ms, MINUTE))


def test_hours_that_the_clock_change_leaves_out_are_closed() -> None:
    """02:30-03:00 does not exist in New York on 2026-03-08."""
    calendar = hours("02:30", "03:00", "America/New_York", exit_ms=MINUTE, weekends=True)

    assert calendar.on(date(2026, 3, 8)) == Closed(date(2026, 3, 8), "the clocks change in America/New_York and leave no session")


def test_explicit_hours_know_every_year_and_their_own_holidays() -> None:
    calendar = hours("09:15", "15:30", "Asia/Kolkata", holidays=[date(2021, 4, 21)])

    assert calendar.on(date(2021, 4, 21)) == Closed(date(2021, 4, 21), "holiday: listed under session.holidays")
    assert calendar.good_for(date(2021, 4, 20)) == date(2021, 4, 22)


def test_explicit_hours_keep_the_holidays_of_the_calendar_named_beside_them() -> None:
    """EXI-10: only where both keep the same zone; the explicit hours win, so the Muhurat Sunday is none."""
    both = hours("09:30", "15:00", "Asia/Kolkata", table="XNSE")
    abroad = hours("09:30", "16:00", "America/New_York", table="XNSE")

    assert both.on(date(2026, 11, 24)) == Closed(date(2026, 11, 24), "holiday: Guru Nanak Jayanti")
    assert both.on(date(2026, 11, 8)) == Closed(date(2026, 11, 8), "weekend: Sunday")
    assert opened(both, date(2026, 11, 20)).open_ms == utc("2026-11-20T04:00")
    assert isinstance(abroad.on(date(2026, 11, 24)), Session)


def test_further_days_off_can_be_added_to_a_named_calendar() -> None:
    calendar = sessions.named("XNSE", 0, MINUTE, [date(2026, 11, 20)])

    assert calendar.on(date(2026, 11, 20)) == Closed(date(2026, 11, 20), "holiday: listed under session.holidays")


def test_bars_are_aligned_to_the_exchanges_midnight() -> None:
    assert nse().midnight_ms(date(2026, 11, 20)) == utc("2026-11-19T18:30")


def test_hours_hold_from_their_date_on() -> None:
    """Room for EXI-11: a later row of hours replaces the earlier one from its date, and before the first nothing is known."""
    first = sessions.Window(seconds_of("09:15"), seconds_of("15:30"), date(2026, 1, 5))
    later = sessions.Window(seconds_of("09:15"), seconds_of("15:15"), date(2026, 8, 3))
    fields = {name: getattr(nse(), name) for name in Calendar.__struct_fields__}
    calendar = Calendar(**(fields | {"windows": (first, later)}))

    closes = [opened(calendar, day).close_ms for day in (date(2026, 7, 31), date(2026, 8, 3))]

    assert closes == [utc("2026-07-31T10:00"), utc("2026-08-03T09:45")]
    assert calendar.on(date(2026, 1, 2)) == Closed(date(2026, 1, 2), "the XNSE calendar does not know the hours of 2026-01-02")


@pytest.mark.parametrize("text", ["", "9", "09:60", "24:01", "25:00", "09:15:60", "-1:00", "09:15:00 ", "\u0660\u0669:15"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(CalendarError, match=r"^not a time like 09:15:00: "):
        seconds_of(text)


def test_times_of_day_are_read_with_and_without_seconds() -> None:
    assert [seconds_of(text) for text in ("9:15", "09:15:30", "00:00", "24:00")] == [33_300, 33_330, 0, 86_400]
