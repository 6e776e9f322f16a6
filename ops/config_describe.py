"""The settings in force, as the short lines that are printed and logged at the start. Nothing in a `Config` is secret."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from ops.config_fields import duration_text
from ops.config_types import Config, SessionConfig

NOT_OF_THE_SETUP = ("symbol", "qty", "notional", "risk")  # the runner's, shown before it


def describe(config: Config) -> list[str]:
    """One line for each section and one for each symbol."""
    lines = [f"config {config.path}", f"mode {config.mode}", f"data_dir {config.data_dir}"]
    for section in ("broker", "session", "polling", "orders", "risk", "journal", "control", "logging", "feed"):
        lines.append(f"{section}: {_settings(getattr(config, section))}")
    if config.mode == "practice":
        lines.append(f"practice: {_settings(config.practice)}")
    if config.mode == "paper":
        lines.append(f"paper: {_settings(config.paper)}")
    for strategy in config.strategies:
        lines.append(
            f"strategy {strategy.name}: max_entries {strategy.max_entries}, {_settings(strategy.params, ('max_entries',))}"
        )
        for row in strategy.symbols:
            lines.append(f"  {row.symbol}: {row.size.text}, {_settings(row.setup, NOT_OF_THE_SETUP)}")
    return [line.rstrip(", ") for line in lines]


def _settings(struct: Any, without: tuple[str, ...] = ()) -> str:
    """`timeout 10s, max_retries 3`: durations and times as they are written in config.yaml."""
    if isinstance(struct, SessionConfig) and struct.open_s is None:
        without += ("open_s", "close_s", "timezone", "weekends")
    values = {field.name: getattr(struct, field.name) for field in msgspec.structs.fields(struct) if field.name not in without}
    return ", ".join(_setting(name, value) for name, value in values.items() if value not in (None, (), "", {}))


def _setting(name: str, value: object) -> str:
    if isinstance(value, int) and name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} {duration_text(value)}"
    if isinstance(value, int) and name.endswith("_s"):
        return f"{name.removesuffix('_s')} {value // 3600:02}:{value // 60 % 60:02}:{value % 60:02}"
    if isinstance(value, tuple):
        return f"{name} {' '.join(str(item) for item in value)}"
    if isinstance(value, dict):
        return f"{name} {' '.join(f'{key}={item}' for key, item in value.items())}"
    return f"{name} {_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value.isoformat() if isinstance(value, date) else str(value)
