"""Session tables that ship with the runner: regular hours, holidays and special sessions of named exchanges.

Facts only; `session.Calendar` reads them. A year that is not listed in `years` is unknown, and an unknown year is closed.
Local times of the exchange, "24:00" is the end of the day. Hours hold from `valid_from` on, so that a change of rules (the
closing auction of 2026-08-03, SCENARIOS EXI-11) becomes one more row.
"""

from __future__ import annotations

from datetime import date

import msgspec


class Hours(msgspec.Struct, frozen=True):
    """Regular hours from `valid_from` on (None: always)."""

    open: str
    close: str
    valid_from: date | None = None


class Table(msgspec.Struct, frozen=True):
    """One exchange. `special` days have their own hours and are open even on a weekend."""

    timezone: str
    hours: tuple[Hours, ...]  # oldest first
    years: frozenset[int]
    holidays: dict[date, str]
    special: dict[date, Hours]


# NSE cash market, venues/openalgo.md section 12.
XNSE = Table(
    timezone="Asia/Kolkata",
    hours=(Hours("09:15", "15:30"),),
    years=frozenset({2026}),
    holidays={
        date(2026, 1, 15): "municipal elections",
        date(2026, 1, 26): "Republic Day",
        date(2026, 3, 3): "Holi",
        date(2026, 3, 26): "Ram Navami",
        date(2026, 3, 31): "Mahavir Jayanti",
        date(2026, 4, 3): "Good Friday",
        date(2026, 4, 14): "Ambedkar Jayanti",
        date(2026, 5, 1): "Maharashtra Day",
        date(2026, 5, 28): "Bakri Id",
        date(2026, 6, 26): "Muharram",
        date(2026, 9, 14): "Ganesh Chaturthi",
        date(2026, 10, 2): "Gandhi Jayanti",
        date(2026, 10, 20): "Dussehra",
        date(2026, 11, 10): "Diwali Balipratipada",
        date(2026, 11, 24): "Guru Nanak Jayanti",
        date(2026, 12, 25): "Christmas",
    },
    special={date(2026, 11, 8): Hours("18:00", "19:15")},  # Muhurat, a Sunday
)

TABLES = {"XNSE": XNSE}
