"""What every venue's replies have in common: an object or nothing, text that is safe to log, numbers that are numbers.

Pure. Must never: guess. A number that is not one, or a field that is not there, is Unreadable and never a default.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from brokers.base import Unreadable

_decoder = msgspec.json.Decoder(float_hook=Decimal)


def decode(body: bytes) -> dict[str, Any] | None:
    """The reply's object with its numbers as Decimal, or None for anything else (HTML, truncated, a bare list)."""
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, ArithmeticError, RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def printable(text: str, limit: int = 300) -> str:
    """Free text made safe for a log line: a newline in it could forge one."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])


def number(value: object, where: str) -> Decimal:
    """A finite number in any spelling: 5, 5.0, "5", "-104". Anything else is a schema error, never a default."""
    if isinstance(value, (int, str, Decimal)) and not isinstance(value, bool):
        try:
            found = Decimal(value)
        except (InvalidOperation, ValueError):
            found = Decimal("NaN")
        if found.is_finite() and (found == 0 or -12 <= found.adjusted() <= 15):
            return found
    raise Unreadable(f"schema: {where} is {printable(repr(value), 60)}, not a number")


def field(row: dict[str, Any], key: str, where: str) -> Any:
    """A field that must be there. Code that defaulted a missing one to 0 has tripled a position."""
    if key not in row:
        raise Unreadable(f"schema: {where} has no {key!r}")
    return row[key]


def quantity(value: object, where: str) -> Decimal:
    found = number(value, where)
    if found < 0:
        raise Unreadable(f"schema: {where} is {found}, below 0")
    return found
