"""The `session` part of config.yaml and the calendar it describes. Days and hours themselves are `state.session`'s."""

from __future__ import annotations

from datetime import date

import msgspec

from ops.config_fields import Parser, Section, boolean, day, duration, duration_text, one_of, read, time_of_day, timezone
from ops.config_strategies import StrategyConfig
from ops.config_types import BrokerConfig, SessionConfig
from state import session as sessions
from state.calendars import TABLES
from state.session import Calendar, CalendarError

RULES: dict[str, Parser] = {
    "calendar": one_of(sorted(TABLES)),
    "timezone": timezone,
    "open": time_of_day("23:59:59"),
    "close": time_of_day("24:00"),
    "entry_delay": duration(0),
    "exit_before_close": duration(),
    "weekends": boolean,
}


def calendar_of(session: SessionConfig) -> Calendar:
    """The session calendar that these settings describe. Explicit hours win over the calendar's; its holidays still count."""
    if session.open_s is None or session.close_s is None:
        return sessions.named(session.calendar or "XNSE", session.entry_delay_ms, session.exit_before_close_ms, session.holidays)
    return sessions.explicit(
        session.open_s,
        session.close_s,
        session.timezone,
        session.entry_delay_ms,
        session.exit_before_close_ms,
        session.holidays,
        session.weekends,
        session.calendar,
    )


def read_session(section: Section, broker: BrokerConfig) -> SessionConfig:
    session = read(SessionConfig(), section, RULES, close=False)
    holidays = section.take_list("holidays", day)
    section.close()
    session = msgspec.structs.replace(session, holidays=holidays)
    if session.open_s is None and session.close_s is None and session.calendar is None:
        session = msgspec.structs.replace(session, calendar="XNSE")
    if section.ok:
        _check_session(section, session, broker)
    return session


def _check_session(section: Section, session: SessionConfig, broker: BrokerConfig) -> None:
    """What each setting allows but they do not allow together."""
    if (session.open_s is None) != (session.close_s is None):
        given, other = ("close", "open") if session.open_s is None else ("open", "close")
        return section.wrong(other, f"is missing, and session.{given} is given: explicit hours need both")
    if session.open_s is None or session.close_s is None:
        _check_named(section, session)
    elif session.open_s == session.close_s:
        return section.wrong("close", 'is the same as session.open: a whole day is open "00:00" and close "24:00"')
    elif session.close_s < session.open_s and not _around_the_clock(session, broker):
        return section.wrong("close", "must be after session.open: only a market that trades at night passes midnight")
    if section.ok:
        _check_room(section, session)


def _check_named(section: Section, session: SessionConfig) -> None:
    zone = TABLES[session.calendar or "XNSE"].timezone
    if section.has("timezone") and session.timezone != zone:
        section.wrong("timezone", f"must be {zone} with this calendar; for other hours give open and close too")
    if session.weekends:
        section.wrong("weekends", "needs explicit hours: give open and close too")


def _check_room(section: Section, session: SessionConfig) -> None:
    try:
        length_ms = calendar_of(session).windows[-1].length_s * 1000
    except CalendarError as error:  # the zone data of a named calendar may be missing on this machine
        return section.wrong("calendar", str(error))
    if session.exit_before_close_ms >= length_ms:
        section.wrong("exit_before_close", f"must be shorter than the session ({duration_text(length_ms)})")
    elif session.entry_delay_ms >= length_ms - session.exit_before_close_ms:
        section.wrong("entry_delay", "leaves no time for entries: the cutoff comes first")


def _around_the_clock(session: SessionConfig, broker: BrokerConfig) -> bool:
    return session.weekends or broker.name != "openalgo" or broker.exchange == "CRYPTO"


def day_after_setups(strategies: tuple[StrategyConfig, ...], session: SessionConfig) -> date:
    """Without a day of its own the practice session is the one for which the newest setups are good."""
    setups = [getattr(row.setup, "setup_date", None) for strategy in strategies for row in strategy.symbols]
    newest = max((found for found in setups if found is not None), default=date(2026, 11, 19))
    try:
        return calendar_of(session).good_for(newest)
    except CalendarError:
        return date(2026, 11, 20)
