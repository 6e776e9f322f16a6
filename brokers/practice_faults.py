"""Fault scripts for the practice venue: the ones that come with it, by name, and the reader of a user's own.

A script file (YAML or JSON) is a list of faults, or a mapping with that list under `faults`; an entry may be the name of a
shipped script. Durations are written `45m`, `5s`, `500ms`:

    faults:
      - {kind: lost_reply, path: placeorder, purpose: E}                     # the first entry's reply
      - {kind: late_accept, symbol: SBIN, delay: 12s, answer: drop}
      - {kind: stall, path: cancelorder, probability: 0.05, seed: 3, delay: 2s}
      - {kind: manual_close, from: 45m, until: 2h}                           # session time after the open
      - tradebook_lags

Nothing here runs a fault. Light on purpose: the runner imports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import yaml

from brokers.practice_fault_kinds import FILE_NAMES, KINDS, Fault, complaints

__all__ = ["NAMED", "Fault", "FaultError", "load_faults"]

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(-?\d{1,9})(ms|s|m|h)")
_DURATIONS = {name: field for field, name in FILE_NAMES.items()}
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Fault)}


class FaultError(Exception):
    """A script is wrong. `mistakes`: every (path, what is wrong); the text lists them, one per line."""

    def __init__(self, source: str, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{source}: {path}: {text}" if path else f"{source}: {text}" for path, text in mistakes))
        self.mistakes = mistakes


def load_faults(name_or_path: str | Path) -> tuple[Fault, ...]:
    """The shipped script of that name, else the one in that file. Raises FaultError with every mistake."""
    if str(name_or_path) in NAMED:
        return NAMED[str(name_or_path)]
    path = Path(name_or_path)
    rows = _rows(path)
    mistakes: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for index, row in enumerate(rows):
        where = f"faults[{index}]"
        if isinstance(row, str) and row in NAMED:
            faults += NAMED[row]
        elif isinstance(row, dict):
            wrong = [(f"{where}.{name}", text) for name, text in _read(row, faults)]
            mistakes += wrong
        else:
            mistakes.append((where, f"must be a fault like {{kind: lost_reply}} or the name of a script, not {str(row)[:40]!r}"))
    if mistakes:
        raise FaultError(path.name, mistakes)
    return tuple(faults)


def _rows(path: Path) -> list[Any]:
    try:
        # Every scalar as its text: a price must not pass through a float. JSON is read by the same loader.
        tree = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise FaultError(str(path), [("", f"no such script or file; shipped: {', '.join(NAMED)}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FaultError(path.name, [("", f"cannot be read: {error}")]) from None
    except yaml.YAMLError as error:
        raise FaultError(path.name, [("", f"is not YAML or JSON: {' '.join(str(error).split())}")]) from None
    if isinstance(tree, dict):
        unknown = [(str(name), "unknown setting") for name in tree if name != "faults"]
        if unknown:
            raise FaultError(path.name, unknown)
        tree = tree.get("faults")
    if not isinstance(tree, list):
        raise FaultError(path.name, [("faults", "must be a list of faults")])
    return tree


def _read(row: dict[Any, Any], faults: list[Fault]) -> list[tuple[str, str]]:
    """Append the row's fault, or return what is wrong with it, in the words of the file."""
    values: dict[str, Any] = {}
    wrong: list[tuple[str, str]] = []
    for name, text in row.items():
        try:
            field = _DURATIONS.get(name, name)
            values[field] = _value(str(name), field, text)
        except ValueError as error:
            wrong.append((str(name), str(error)))
    if "kind" not in row:
        wrong.append(("kind", f"is missing; there are {', '.join(KINDS)}"))
    if wrong:
        return wrong
    try:
        faults.append(Fault(**values))
    except ValueError:
        return [(FILE_NAMES.get(field, field), text) for field, text in complaints(_unchecked(values))]
    return []


def _value(name: str, field: str, text: object) -> Any:
    if name in FILE_NAMES or field not in _TYPES:
        raise ValueError(f"unknown; a fault has {', '.join(FILE_NAMES.get(known, known) for known in _TYPES)}")
    if name in _DURATIONS:
        match = _DURATION.fullmatch(str(text))
        if match is None:
            raise ValueError(f"must be a duration like 45m, 5s or 500ms, not {text!r}")
        return int(match[1]) * _UNITS[match[2]]
    if not isinstance(text, str):
        raise ValueError(f"must be one value, not {str(text)[:40]!r}")
    try:
        return msgspec.convert(text, _TYPES[field], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}, not {text!r}") from None


class _Unchecked(Fault, frozen=True, forbid_unknown_fields=True, kw_only=True):
    def __post_init__(self) -> None:
        """To be asked for its complaints."""


def _unchecked(values: dict[str, Any]) -> Fault:
    return _Unchecked(**values)


def _one_per_kind() -> Iterator[tuple[str, tuple[Fault, ...]]]:
    """A script for every kind, at its defaults, and one more for each further variant."""
    for kind, rule in KINDS.items():
        qty = Decimal(2) if kind == "partial_fills" else None
        for answer in rule.answers or ("",):
            name = kind if answer in ("", *rule.answers[:1]) else f"{kind}_{answer}"
            yield name, (Fault(kind=kind, qty=qty, answer="" if name == kind else answer),)


def _f(kind: str, probability: float, **more: Any) -> Fault:
    return Fault(kind=kind, probability=probability, seed=len(kind), **more)


_HELL = (
    _f("lost_reply", 0.03),
    _f("lost_reply", 0.005, path="orderbook"),
    _f("delayed_reply", 0.03, delay_ms=700),
    _f("delayed_reply", 0.01, path="positionbook", delay_ms=800),
    _f("stall", 0.005, delay_ms=4000),
    _f("dribble", 0.005, delay_ms=150),
    _f("error_before", 0.02),
    _f("error_before", 0.01, path="orderbook"),
    _f("error_before", 0.01, path="tradebook", status=503),
    _f("error_after", 0.02),
    _f("rate_limited", 0.01, lasts_ms=500),
    _f("late_accept", 0.02, delay_ms=2000),
    _f("late_accept", 0.01, delay_ms=1000, answer="drop"),
    _f("reset_before", 0.01),
    _f("reset_after", 0.02),
    _f("close_after_reply", 0.02),
    _f("garbage", 0.01),
    _f("garbage", 0.01, answer="truncated"),
    _f("garbage", 0.01, answer="empty"),
    _f("garbage", 0.005, path="positionbook", answer="null_data"),
    _f("no_id", 0.005),
    _f("no_id", 0.01, answer="null"),
    _f("error_with_id", 0.01),
    _f("modify_ignored", 0.05),
    _f("cancel_loses_to_fill", 0.05),
    _f("fill_after_cancel", 0.01),
    _f("fill_first", 0.05, purpose="X"),
    _f("partial_fills", 0.1, qty=Decimal(2)),
    _f("reject_later", 0.02, delay_ms=1000),
    _f("reject_later", 0.01, delay_ms=2000, purpose="S", answer="cancelled"),
    _f("stop_type_changed", 0.01, purpose="S"),
    _f("stop_type_changed", 0.01, purpose="S", answer="rests"),
    _f("overfill", 0.005),
    _f("empty_positions", 0.02),
    _f("empty_positions", 0.02, answer="zero"),
    _f("stale_orders", 0.03),
    _f("stale_positions", 0.03),
    _f("tradebook_lags", 0.05, lasts_ms=1500),
    _f("manual_close", 0.03),
    _f("manual_reduce", 0.03),
    _f("manual_add", 0.02),
    _f("manual_reverse", 0.01),
    _f("manual_order", 0.05),
    Fault(kind="foreign_order"),
    _f("updates_missing", 0.05),
    _f("updates_duplicated", 0.05),
    _f("updates_reordered", 0.05),
    _f("updates_delayed", 0.05),
    _f("silent_socket", 0.0005, lasts_ms=2000),
    _f("socket_drop", 0.0005),
    _f("socket_drop", 0.0005, answer="reset", lasts_ms=500),
    _f("bad_price", 0.01),
    Fault(kind="session_expired", from_ms=14_400_000, times=1, lasts_ms=1000),
)

NAMED: dict[str, tuple[Fault, ...]] = {
    "calm": (),
    **dict(_one_per_kind()),
    "orderbook_500": (Fault(kind="error_before", path="orderbook"),),
    "hell": _HELL,
}
