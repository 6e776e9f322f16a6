"""How one setting is read: parsers from YAML values to what the program uses, and a `Section` that names every mistake by path.

A parser returns the value or raises `Wrong` with the rest of the sentence "PATH: …". Nothing here knows which settings exist.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from state.session import CalendarError, seconds_of, zone_of

T = TypeVar("T")
Parser = Callable[[object], Any]

DAY_MS = 86_400_000
UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9&._/:+-]{0,39}")
_SECRET_WORDS = ("secret", "token", "password", "passwd", "passphrase", "apikey", "privatekey", "credential", "credentials")


class Wrong(ValueError):
    """What is wrong with one value. The text goes after its path."""


class Mistakes:
    """Every mistake found so far, in reading order."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        if (path, message) not in self.found:
            self.found.append((path, message))

    def __bool__(self) -> bool:
        return bool(self.found)


class Section:
    """One mapping of the file while it is read. Ask for each key once, then `close`, which names the keys nobody asked for."""

    def __init__(self, raw: object, path: str, mistakes: Mistakes) -> None:
        self.path, self._mistakes, self._before = path, mistakes, len(mistakes.found)
        self._raw: Mapping[str, object] = raw if isinstance(raw, dict) else {}
        self._shaped = raw is None or isinstance(raw, dict)
        self._known: list[str] = []
        if not self._shaped:
            mistakes.add(path, f"must be keys and values, not {shown(raw)}")

    @property
    def ok(self) -> bool:
        """No mistake anywhere since this section was begun."""
        return len(self._mistakes.found) == self._before

    def at(self, key: str) -> str:
        """The path of a key; of the section itself for ""."""
        return f"{self.path}.{key}" if self.path and key and key[0] != "[" else f"{self.path}{key}"

    def wrong(self, key: str, message: str) -> None:
        self._mistakes.add(self.at(key), message)

    def has(self, key: str) -> bool:
        return key in self._raw

    def names(self) -> list[str]:
        return list(self._raw)

    def raw(self, key: str) -> object:
        self._known.append(key)
        return self._raw.get(key)

    def child(self, key: str) -> Section:
        return Section(self.raw(key), self.at(key), self._mistakes)

    def take(self, key: str, parse: Parser, default: Any) -> Any:
        """The value of `key`, or `default` where it is not given or is wrong."""
        value = self.raw(key)
        if key not in self._raw:
            return default
        try:
            return parse(value)
        except Wrong as wrong:
            self.wrong(key, str(wrong))
            return default

    def need(self, key: str, parse: Parser, missing: str = "is missing") -> Any:
        """The value of a key that has no default; None where it is missing or wrong."""
        if not self.has(key) and self._shaped:
            self.wrong(key, missing)
        return self.take(key, parse, None)

    def take_list(self, key: str, parse: Parser) -> tuple[Any, ...]:
        """The items of a list that are right; () where it is not given."""
        values = self.raw(key)
        if not self.has(key):
            return ()
        if not isinstance(values, list):
            self.wrong(key, f"must be a list, not {shown(values)}")
            return ()
        items = Section({f"[{index}]": value for index, value in enumerate(values)}, self.at(key), self._mistakes)
        return tuple(items.take(f"[{index}]", parse, None) for index in range(len(values)))

    def close(self) -> None:
        for key in self._raw:
            if key not in self._known and not looks_secret(key):  # secrets are told apart, once, for the whole file
                self.wrong(key, "unknown key" + did_you_mean(key, self._known))


def read(base: T, section: Section, rules: Mapping[str, Parser], close: bool = True) -> T:
    """`base`, which holds the defaults, with what the section gives. Key `open` fills field `open`, `open_ms` or `open_s`."""
    fields = {field.name for field in msgspec.structs.fields(base)}  # type: ignore[arg-type]
    changes = {}
    for key, parse in rules.items():
        name = next(name for name in (key, f"{key}_ms", f"{key}_s") if name in fields)
        changes[name] = section.take(key, parse, getattr(base, name))
    if close:
        section.close()
    return msgspec.structs.replace(base, **changes)  # type: ignore[type-var]


def shown(value: object) -> str:
    """A value as an error message quotes it: one short line."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return "a list"
    return "keys and values" if isinstance(value, dict) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def looks_secret(key: str) -> bool:
    words = [word for word in re.split(r"[^a-z]+", key.lower()) if word]
    pairs = {first + second for first, second in pairwise(words)}
    return any(word.endswith(_SECRET_WORDS) for word in words) or bool(pairs & {"apikey", "privatekey"})


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Wrong(f"must be a line of text, not {shown(value)}")
    return value


def symbol(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # exchange codes like 500325
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise Wrong(f"must be a symbol like SBIN or M&M, not {shown(value)}")
    return value


def one_of(names: Collection[str]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise Wrong(f"must be {_or(names)}, not {shown(value)}{hint}")

    return parse


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {shown(value)}")
    return value


def whole(least: int, most: int | None = None) -> Callable[[object], int]:
    limits = f"from {least} to {most}" if most is not None else f"of at least {least}"

    def parse(value: object) -> int:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            raise Wrong(f"must be a whole number {limits}, not the text {shown(value)}: write it without quotes")
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
            raise Wrong(f"must be a whole number {limits}, not {shown(value)}")
        return value

    return parse


def number(
    *, above: Decimal | None = Decimal(0), least: Decimal | None = None, below: Decimal | None = None
) -> Callable[[object], Decimal]:
    """A Decimal; 731.15 and "731.15" are the same. Above 0 unless told otherwise."""
    bounds = [f"above {above}"] if above is not None and least is None else [] if least is None else [f"of at least {least}"]
    kind = " ".join(["a number", " and ".join(bounds + ([f"below {below}"] if below is not None else []))]).strip()

    def parse(value: object) -> Decimal:
        result = _decimal(value)
        low = result is not None and (result < least if least is not None else above is not None and result <= above)
        if result is None or low or (below is not None and result >= below):
            raise Wrong(f"must be {kind}, not {shown(value)}")
        return result

    return parse


def quantity(lot_size: Decimal | None) -> Callable[[object], Decimal]:
    """A quantity: not text, above 0 and in whole lots (lot size None: the venue will tell)."""
    lots = "number" if lot_size is None else "whole number" if lot_size == 1 else f"multiple of the lot size {lot_size}"

    def parse(value: object) -> Decimal:
        result = _decimal(value)
        if isinstance(value, str) and result is not None:
            raise Wrong(f"must be a {lots} above 0, not the text {shown(value)}: write it without quotes")
        if result is None or result <= 0 or (lot_size is not None and result % lot_size):
            raise Wrong(f"must be a {lots} above 0, not {shown(value)}")
        return Decimal(int(result)) if result == result.to_integral_value() else result

    return parse


def duration(least_ms: int = 1, most_ms: int = DAY_MS) -> Callable[[object], int]:
    """Whole milliseconds of "45m", "5s", "500ms" or "1h"."""

    def parse(value: object) -> int:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Wrong(f"must be a duration like 45m, 5s or 500ms, not {shown(value)}")
        result = int(match[1]) * UNITS[match[2]]
        if not least_ms <= result <= most_ms:
            raise Wrong(f"must be from {duration_text(least_ms)} to {duration_text(most_ms)}, not {value}")
        return result

    return parse


def duration_text(ms: int) -> str:
    unit = next((unit for unit, size in UNITS.items() if ms and ms % size == 0), "s")
    return f"{ms // UNITS[unit]}{unit}"


def day(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise Wrong(f"must be a date like 2026-11-19, not {shown(value)}") from None


def time_of_day(last: str) -> Callable[[object], int]:
    """Seconds after midnight, up to `last` ("23:59:59" or "24:00")."""

    def parse(value: object) -> int:
        try:
            seconds = seconds_of(value) if isinstance(value, str) else None
        except CalendarError:
            seconds = None
        if seconds is None or seconds > seconds_of(last):
            raise Wrong(f"must be a time from 00:00 to {last} like 09:15:00, not {shown(value)}")
        return seconds

    return parse


def timezone(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a time zone like Asia/Kolkata, not {shown(value)}")
    try:
        zone_of(value)
    except CalendarError as error:
        raise Wrong(f"{error}") from None
    return value


def url(plain: str, encrypted: str) -> Callable[[object], str]:
    """An address without credentials; unencrypted only on this machine, because keys travel in it."""

    def parse(value: object) -> str:
        try:
            parts = urlsplit(value if isinstance(value, str) else "")
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise Wrong("must be only scheme, host, port and path: no user name, password or query")
        if not host or parts.scheme not in (plain, encrypted) or any(c.isspace() for c in str(value)):
            raise Wrong(f"must be an address like {encrypted}://host:port, not {shown(value)}")
        if parts.scheme == plain and not loopback(host):
            raise Wrong(f"must begin with {encrypted}:// because {host} is not this machine")
        return str(value).rstrip("/")

    return parse


def loopback_host(value: object) -> str:
    if not isinstance(value, str) or not loopback(value):
        raise Wrong(f"must be an address of this machine like 127.0.0.1, not {shown(value)}")
    return value


def loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _decimal(value: object) -> Decimal | None:
    """Exact, finite and of a size that prices and quantities have; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    result = Decimal(value)
    return result if -18 <= result.adjusted() <= 15 and len(result.as_tuple().digits) <= 28 else None


def _or(names: Collection[str]) -> str:
    listed_names = [str(name) for name in names]
    return listed_names[0] if len(listed_names) == 1 else f"{', '.join(listed_names[:-1])} or {listed_names[-1]}"
