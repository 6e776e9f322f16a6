"""Words and figures for people: one line of the log, times, prices, money, and text that cannot misbehave. Pure."""

from __future__ import annotations

import unicodedata
from datetime import datetime, tzinfo
from decimal import Decimal

import msgspec

from state.orders import ZERO

_CENT, _FINEST = Decimal("0.01"), Decimal("0.00000001")
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # could end a line, forge one, or turn its direction


class Line(msgspec.Struct, frozen=True):
    """One line of the log. `at_ms` is session time; `change` a phase change or one or two words; `client_id` empty for none."""

    at_ms: int
    thread: str
    symbol: str
    change: str
    cause: str
    client_id: str = ""
    level: str = "INFO"


def render(line: Line, zone: tzinfo, symbol_width: int = 10) -> str:
    """The line as it stands in the log: time first, client order id last, columns aligned, never more than one line."""
    start = f"{clock_text(line.at_ms, zone)} {printable(line.thread):<7} {printable(line.symbol):<{symbol_width}}  "
    change = f"{printable(line.change):<19}  " if line.change else ""
    cause = printable(line.cause)
    return f"{start}{change}{cause:<58}  {printable(line.client_id)}".rstrip()


def thread_word(name: str) -> str:
    """A thread's name as the log has it."""
    return "main" if name == "MainThread" else name


def clock_text(at_ms: int, zone: tzinfo) -> str:
    """HH:MM:SS.mmm in this zone."""
    return f"{datetime.fromtimestamp(at_ms // 1000, zone):%H:%M:%S}.{at_ms % 1000:03}"


def iso_text(at_ms: int, zone: tzinfo) -> str:
    """ISO 8601 with milliseconds and this zone's offset."""
    moment = datetime.fromtimestamp(at_ms // 1000, zone).replace(microsecond=at_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")


def printable(text: str) -> str:
    """The text with everything escaped that could end its line, forge another or steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in _UNPRINTABLE else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def number(value: Decimal) -> str:
    """A price or quantity in plain digits as it came, at most eight of them after the point."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -8:
        value = value.quantize(_FINEST).normalize()
    return f"{value:f}"


def money(value: Decimal) -> str:
    """An amount with at least two and at most eight digits after the point."""
    exact = value.quantize(_FINEST).normalize()
    exponent = exact.as_tuple().exponent
    short = exact.quantize(_CENT) if isinstance(exponent, int) and exponent > -2 else exact
    return f"{short or ZERO.quantize(_CENT):f}"


def signed(value: Decimal) -> str:
    return money(value) if value < 0 else f"+{money(value)}"
