"""Trading days: when a session opens, when entries may start, where the cutoff is, when it closes, and why a day is none.

Owns every question about days and hours. Pure: it is told the time and never reads a clock, a file or the machine's zone; only
the zone data of the exchange itself are looked up. What is not known for certain is closed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from state.calendars import TABLES

DAY_S = 86_400
SEARCH_DAYS = 40  # the longest search for a trading day; too short to skip over a year that nobody knows
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")


class CalendarError(ValueError):
    """A calendar that cannot be built or cannot answer. The text is for people."""


class SessionPhase(Enum):
    BEFORE = "before the open"
    DELAYED = "open, entries not yet"
    ENTRIES = "entries allowed"
    CUTOFF = "past the cutoff"
    AFTER = "after the close"


class Session(msgspec.Struct, frozen=True):
    """One trading day. Times are UTC epoch milliseconds; each phase begins exactly at its time."""

    day: date
    open_ms: int
    entry_from_ms: int
    cutoff_ms: int
    close_ms: int

    def phase(self, now_ms: int) -> SessionPhase:
        if now_ms >= self.close_ms:
            return SessionPhase.AFTER
        if now_ms >= self.cutoff_ms:
            return SessionPhase.CUTOFF
        if now_ms >= self.entry_from_ms:
            return SessionPhase.ENTRIES
        return SessionPhase.DELAYED if now_ms >= self.open_ms else SessionPhase.BEFORE

    def may_enter(self, now_ms: int) -> bool:
        return self.phase(now_ms) is SessionPhase.ENTRIES

    def past_cutoff(self, now_ms: int) -> bool:
        return now_ms >= self.cutoff_ms

    def trading(self, now_ms: int) -> bool:
        """Between open and close: prices of this moment belong to this session."""
        return self.open_ms <= now_ms < self.close_ms


class Closed(msgspec.Struct, frozen=True):
    """No session on this day, and why."""

    day: date
    reason: str


class Window(msgspec.Struct, frozen=True):
    """Local hours in seconds after midnight. A close at or before the open lies on the next day."""

    open_s: int
    close_s: int
    valid_from: date = date.min

    @property
    def overnight(self) -> bool:
        return self.close_s <= self.open_s

    @property
    def length_s(self) -> int:
        """On a day without a change of the clocks."""
        return self.close_s - self.open_s + (DAY_S if self.overnight else 0)


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """Says for any day of one exchange whether it is a session, and from when to when. A value: any thread may ask.

    Build it with `explicit` or `named`. `years` None means that every year is known.
    """

    name: str
    zone: ZoneInfo
    windows: tuple[Window, ...]  # oldest first; the last one that is valid counts
    entry_delay_ms: int
    exit_before_close_ms: int
    holidays: Mapping[date, str]
    special: Mapping[date, Window]
    years: frozenset[int] | None
    weekends: bool

    def on(self, day: date) -> Session | Closed:
        """The session that opens on this day."""
        if self.years is not None and day.year not in self.years:
            return Closed(day, f"the {self.name} calendar does not know the year {day.year} (only {_listed(self.years)})")
        if day in self.holidays:
            return Closed(day, f"holiday: {self.holidays[day]}")
        if day in self.special:
            return self._session(day, self.special[day])
        if day.weekday() >= 5 and not self.weekends:
            return Closed(day, "weekend: Saturday" if day.weekday() == 5 else "weekend: Sunday")
        return self._session(day, self._regular(day))

    def at(self, now_ms: int) -> Session | Closed:
        """The session whose day it is at this instant at the exchange; a window over midnight belongs to the day it opened."""
        day = self.local_day(now_ms)
        before = self.on(day - timedelta(days=1))
        if isinstance(before, Session) and now_ms < before.close_ms:
            return before
        return self.on(day)

    def next_day(self, day: date) -> date:
        """The first trading day after `day`; CalendarError where the calendar does not know."""
        return self._search(day, 1)

    def previous_day(self, day: date) -> date:
        """The last trading day before `day`; CalendarError where the calendar does not know."""
        return self._search(day, -1)

    def good_for(self, setup_date: date) -> date:
        """The one day on which a setup of `setup_date` may trade: the next trading day, special sessions included."""
        return self.next_day(setup_date)

    def local_day(self, now_ms: int) -> date:
        return datetime.fromtimestamp(now_ms / 1000, self.zone).date()

    def midnight_ms(self, day: date) -> int:
        """Where the exchange's day begins: what bars are aligned to."""
        return self._instant_ms(day, 0)

    def _regular(self, day: date) -> Window | None:
        valid = [window for window in self.windows if window.valid_from <= day]
        return valid[-1] if valid else None

    def _session(self, day: date, window: Window | None) -> Session | Closed:
        if window is None:
            return Closed(day, f"the {self.name} calendar does not know the hours of {day}")
        open_ms = self._instant_ms(day, window.open_s)
        close_ms = self._instant_ms(day + timedelta(days=1) if window.overnight else day, window.close_s)
        if close_ms <= open_ms:
            return Closed(day, f"the clocks change in {self.zone.key} and leave no session")
        # A session shorter than exit_before_close is all cutoff: no entries, and what is open is closed at once.
        cutoff_ms = max(open_ms, close_ms - self.exit_before_close_ms)
        return Session(day, open_ms, open_ms + self.entry_delay_ms, cutoff_ms, close_ms)

    def _instant_ms(self, day: date, second: int) -> int:
        """UTC of a local time. One that happens twice is taken the first time, one that is skipped with the offset before."""
        if second == DAY_S:
            day, second = day + timedelta(days=1), 0
        local = datetime.combine(day, time(second // 3600, second // 60 % 60, second % 60), self.zone)
        return int(local.timestamp()) * 1000

    def _search(self, day: date, step: int) -> date:
        for distance in range(1, SEARCH_DAYS + 1):
            candidate = day + timedelta(days=step * distance)
            if isinstance(self.on(candidate), Session):
                return candidate
        raise CalendarError(f"the {self.name} calendar knows no trading day {'after' if step > 0 else 'before'} {day}")


def explicit(
    open_s: int,
    close_s: int,
    timezone: str,
    entry_delay_ms: int,
    exit_before_close_ms: int,
    holidays: Collection[date] = (),
    weekends: bool = False,
    table: str | None = None,
) -> Calendar:
    """From explicit hours, every year known. The holidays of `table` count too where one is named that keeps the same zone."""
    known = TABLES.get(table) if table else None
    shared = dict(known.holidays) if known is not None and known.timezone == timezone else {}
    return Calendar(
        name="configured",
        zone=zone_of(timezone),
        windows=(Window(open_s, close_s),),
        entry_delay_ms=entry_delay_ms,
        exit_before_close_ms=exit_before_close_ms,
        holidays=shared | _configured(holidays),
        special={},
        years=None,
        weekends=weekends,
    )


def named(name: str, entry_delay_ms: int, exit_before_close_ms: int, holidays: Collection[date] = ()) -> Calendar:
    """From a table that ships with the runner; `holidays` are further days that the trader takes off."""
    if name not in TABLES:
        raise CalendarError(f"no calendar is called {name!r}; there is {', '.join(sorted(TABLES))}")
    table = TABLES[name]
    return Calendar(
        name=name,
        zone=zone_of(table.timezone),
        windows=tuple(_window(hours.open, hours.close, hours.valid_from) for hours in table.hours),
        entry_delay_ms=entry_delay_ms,
        exit_before_close_ms=exit_before_close_ms,
        holidays=table.holidays | _configured(holidays),
        special={day: _window(hours.open, hours.close) for day, hours in table.special.items()},
        years=table.years,
        weekends=False,
    )


def zone_of(timezone: str) -> ZoneInfo:
    """The zone's rules; CalendarError when this machine has none by that name."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CalendarError(
            f"no time zone data for {timezone!r} on this machine (names are like Asia/Kolkata; on Windows install tzdata)"
        ) from error


def seconds_of(text: str) -> int:
    """Seconds after midnight of "09:15", "09:15:00" or "24:00", the end of the day."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise CalendarError(f"not a time like 09:15:00: {text!r}")
    hour, minute, second = (int(part or 0) for part in match.groups())
    total = hour * 3600 + minute * 60 + second
    if minute > 59 or second > 59 or total > DAY_S:
        raise CalendarError(f"not a time like 09:15:00: {text!r}")
    return total


def hours_differ(ours: Session | Closed, open_ms: int | None, close_ms: int | None) -> str | None:
    """How the venue's own hours of a day (None: it says closed) disagree with ours, in words; None when they agree."""
    if isinstance(ours, Closed):
        return None if open_ms is None else f"our calendar has {ours.day} closed ({ours.reason}), the venue says it is open"
    if open_ms is None or close_ms is None:
        return f"our calendar has a session on {ours.day}, the venue says it is closed"
    if (open_ms, close_ms) == (ours.open_ms, ours.close_ms):
        return None
    return f"our hours of {ours.day} are {_span(ours.open_ms, ours.close_ms)}, the venue's {_span(open_ms, close_ms)}"


def _window(open_text: str, close_text: str, valid_from: date | None = None) -> Window:
    return Window(seconds_of(open_text), seconds_of(close_text), valid_from or date.min)


def _configured(holidays: Collection[date]) -> dict[date, str]:
    return dict.fromkeys(holidays, "listed under session.holidays")


def _listed(years: Collection[int]) -> str:
    return ", ".join(str(year) for year in sorted(years))


def _span(open_ms: int, close_ms: int) -> str:
    texts = [f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" for ms in (open_ms, close_ms)]
    return f"{texts[0]} to {texts[1]} UTC"
