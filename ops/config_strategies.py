"""The `strategies` part of config.yaml, read by the types that each strategy declares. Owns no opinion about any strategy.

A strategy class has `Params` and `Setup`, msgspec Structs with typed fields: Decimal (above 0 unless bounded), int (0 or more
unless bounded), date, bool, str, `X | None`, and durations: `Annotated[int, msgspec.Meta(description="duration")]`, or a field
`trail_bar_ms` for the key `trail_bar`. `symbol`, `max_entries` and the size (`qty`, `notional` or `risk`) belong to the runner; a
strategy that declares one of them is given it, and then a row must say it.
A Struct may refuse a combination in `__post_init__` with a ValueError; its text is shown under the row's path.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ops.config_fields import (
    Mistakes,
    Parser,
    Section,
    Wrong,
    boolean,
    day,
    duration,
    number,
    one_of,
    quantity,
    shown,
    symbol,
    text,
    whole,
)
from ops.strategy_files import is_file, strategy_in
from state.sizing import By, Size
from state.strategy import Strategy

Lots = typing.Callable[[str], Decimal | None]
Seen = dict[str, list[tuple[date | None, str]]]  # symbol -> setup date and path of each row so far


class SymbolConfig(msgspec.Struct, frozen=True):
    """One symbol of one strategy. `setup` is an instance of the strategy's `Setup`."""

    symbol: str
    size: Size
    setup: Any


class Unknown(msgspec.Struct, frozen=True):
    """The setup of a strategy that does not exist."""


class StrategyConfig(msgspec.Struct, frozen=True):
    """One strategy and its symbols. `params` is an instance of the strategy's `Params`."""

    name: str
    params: Any
    max_entries: int
    symbols: tuple[SymbolConfig, ...]
    own: type[Strategy] | None = None  # of a file that the user has named; else `name` is one of ours


def read_strategies(
    raw: object, known: Mapping[str, type], lots: Lots, mistakes: Mistakes, folder: Path
) -> tuple[StrategyConfig, ...]:
    """Every strategy that is right. `lots` tells the lot size of a symbol, None where only the venue knows it.

    `known` are ours by name; a file of the user's own is looked for from `folder`.
    """
    if not isinstance(raw, list) or not raw:
        mistakes.add("strategies", f"must list at least one strategy ({', '.join(sorted(known))}), not {_empty(raw)}")
        return ()
    seen: Seen = {}
    read = [
        _strategy(Section(row, f"strategies[{index}]", mistakes), _named(known, folder), lots, seen, mistakes)
        for index, row in enumerate(raw)
    ]
    return tuple(strategy for strategy in read if strategy is not None)


def _named(known: Mapping[str, type], folder: Path) -> Parser:
    """From a name to itself and its class."""
    ours = one_of(sorted(known))

    def parse(value: object) -> tuple[str, type]:
        if isinstance(value, str) and is_file(value):
            cls = strategy_in(value, folder)
            _refuse_unreadable(cls)
            return value, cls
        name = ours(value)
        return name, known[name]

    return parse


def _refuse_unreadable(cls: type[Strategy]) -> None:
    """Fields that config.yaml cannot give are found before any row is read by them."""
    for part in (cls.Params, cls.Setup):
        try:
            for name, hint in typing.get_type_hints(part, include_extras=True).items():
                _rule(name, hint)
        except (NameError, TypeError) as error:
            raise Wrong(f"{cls.__name__}.{part.__name__}: {error}") from None


def _strategy(section: Section, named: Parser, lots: Lots, seen: Seen, mistakes: Mistakes) -> StrategyConfig | None:
    found: tuple[str, Any] | None = section.need("name", named)
    raw_params, raw_symbols = section.child("params"), section.raw("symbols")
    section.close()
    rows = _rows(raw_symbols, section.at("symbols"), mistakes)
    if found is None:
        for row in rows:  # what their other keys may be is not known
            _symbol(Unknown, row, lots, seen, close=False)
        return None
    name, cls = found
    max_entries = raw_params.take("max_entries", whole(1), _default_entries(cls.Params))
    params = _struct(cls.Params, raw_params, {"max_entries": max_entries})
    symbols = [_symbol(cls.Setup, row, lots, seen) for row in rows]
    if not section.ok or params is None:
        return None
    own = cls if is_file(name) else None
    return StrategyConfig(name, params, max_entries, tuple(row for row in symbols if row is not None), own)


def _rows(raw: object, path: str, mistakes: Mistakes) -> Iterator[Section]:
    """One after the other, so that each section knows its own mistakes only."""
    if not isinstance(raw, list) or not raw:
        mistakes.add(path, f"must list at least one symbol, not {_empty(raw)}")
        return
    for index, row in enumerate(raw):
        if row is None:
            mistakes.add(f"{path}[{index}]", "is empty")
        else:
            yield Section(row, f"{path}[{index}]", mistakes)


def _symbol(setup: type, row: Section, lots: Lots, seen: Seen, close: bool = True) -> SymbolConfig | None:
    name = row.need("symbol", symbol) or ""
    size = _size(row, lots(name))
    amounts = dict.fromkeys(by.value for by in By) if size is None else {size.by.value: size.amount}  # None: told of already
    read = _struct(setup, row, {"symbol": name} | amounts, close)
    day = getattr(read, "setup_date", None)
    for other_day, path in seen.get(name, []):
        if name and (day is None or other_day in (None, day)):  # setups of different days never meet in one session
            row.wrong("symbol", f"{name} is already at {path}: one strategy per symbol")
            break
    seen.setdefault(name, []).append((day, row.path))
    if read is None or size is None or not row.ok:
        return None
    return SymbolConfig(name, size, read)


def _size(row: Section, lot: Decimal | None) -> Size | None:
    """How much, said in one of three ways. `lot` decides what a quantity may be."""
    given = [by for by in By if row.has(by.value)] or [By.QTY]
    by = given[0]
    amount = row.need(by.value, quantity(lot) if by is By.QTY else number(), "is missing (or else notional, or risk)")
    for other in By:
        row.raw(other.value)  # known, whether given or not
    for other in given[1:]:
        row.wrong(other.value, f"{by.value} says how much already: give one of qty, notional and risk")
    return None if amount is None or len(given) > 1 else Size(by, amount)


def _struct(cls: type, section: Section, given: Mapping[str, Any], close: bool = True) -> Any:
    """An instance of `cls`, None when anything in the section is wrong. `given`: the runner's own keys, already read."""
    own: dict[str, Any] = {}
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in msgspec.structs.fields(cls):
        if field.name in given:
            own[field.name] = given[field.name]
            continue
        key, parse = _rule(field.name, hints[field.name])
        if field.required:
            own[field.name] = section.need(key, parse)
        elif section.has(key):
            own[field.name] = section.take(key, parse, None)
        else:
            section.raw(key)  # known, and left to its default
    if close:
        section.close()
    return _build(cls, section, own)


def _build(cls: type, section: Section, own: dict[str, Any]) -> Any:
    if not section.ok:
        return None
    try:
        return cls(**own)
    except Exception as error:  # a strategy's own check, of which only ValueError is foreseen
        section.wrong("", str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        return None


def _default_entries(params: type) -> int:
    """What the strategy itself takes as its limit of entries, else 3."""
    return next(
        (int(field.default) for field in msgspec.structs.fields(params) if field.name == "max_entries" and not field.required), 3
    )


def _rule(name: str, hint: Any) -> tuple[str, Parser]:
    """The key of a field and how its value is read."""
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    plain = typing.get_args(hint)[0] if metas else hint
    key = name.removesuffix("_ms")
    if key != name or any(meta.description == "duration" for meta in metas):
        return key, duration(_bound(metas, "ge", 1))
    if isinstance(plain, types.UnionType) or typing.get_origin(plain) is typing.Union:
        return name, _optional(name, plain)
    if typing.get_origin(plain) is typing.Literal:
        return name, one_of(typing.get_args(plain))
    if plain is int:
        return name, whole(_bound(metas, "ge", _bound(metas, "gt", -1) + 1), _bound(metas, "le", None))
    if plain is Decimal:
        least = _bound(metas, "ge", None)
        return name, number(least=None if least is None else Decimal(str(least)))
    simple: dict[Any, Parser] = {date: day, bool: boolean, str: text}
    if plain not in simple:
        raise TypeError(f"config.yaml cannot give the field {name}: {hint}")
    return name, simple[plain]


def _optional(name: str, union: Any) -> Parser:
    inner = [arg for arg in typing.get_args(union) if arg is not types.NoneType]
    parse = _rule(name, inner[0])[1]
    return lambda value: None if value is None else parse(value)


def _bound(metas: list[msgspec.Meta], name: str, default: Any) -> Any:
    return next((getattr(meta, name) for meta in metas if getattr(meta, name) is not None), default)


def _empty(raw: object) -> str:
    return "an empty list" if raw == [] else shown(raw)
