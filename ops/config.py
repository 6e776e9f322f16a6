"""Reads config.yaml into one frozen value, or names every mistake in it at once by its path.

Never starts anything and never keeps a secret: keys and tokens stay in the environment (or `.env`), and one found in the file
is a mistake. The settings themselves, with units and defaults, are in `config_types`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import dotenv

from ops import config_yaml
from ops.config_describe import describe
from ops.config_fields import (
    DAY_MS,
    Mistakes,
    Parser,
    Section,
    day,
    duration,
    duration_text,
    looks_secret,
    loopback_host,
    number,
    one_of,
    read,
    symbol,
    text,
    url,
    whole,
)
from ops.config_session import calendar_of, day_after_setups, read_session
from ops.config_strategies import StrategyConfig, SymbolConfig, read_strategies
from ops.config_types import (
    BROKERS,
    CREDENTIALS,
    PRICES_NEED_KEYS,
    BrokerConfig,
    Config,
    ConfigErrors,
    ControlConfig,
    FeedConfig,
    InstrumentConfig,
    JournalConfig,
    LoggingConfig,
    Mode,
    OrdersConfig,
    PaperConfig,
    PollingConfig,
    PracticeConfig,
    RiskConfig,
    SessionConfig,
)
from state.journal_file import journal_path

__all__ = [
    "Config",
    "ConfigErrors",
    "Mode",
    "StrategyConfig",
    "SymbolConfig",
    "calendar_of",
    "describe",
    "environment",
    "load",
    "missing_credentials",
]

PORT = whole(0, 65_535)
RULES: dict[str, dict[str, Parser]] = {
    "polling": {"interval": duration(100, 60_000)},
    "orders": {"timeout": duration(), "entry_timeout": duration(), "max_retries": whole(0)},
    "risk": {
        "max_open_positions": whole(1),
        "signal_slots": whole(1),
        "max_daily_loss": number(),
        "unprotected_limit": duration(),
    },
    "control": {"host": loopback_host, "port": PORT},
    "feed": {"max_age": duration(), "max_jump": number()},
    "instrument": {"tick_size": number(), "lot_size": number()},
    "paper": {"fee_rate": number(least=Decimal(0), below=Decimal(1))},
}


def load(path: Path, environ: Mapping[str, str], strategies: Mapping[str, type], stories: Collection[str] = ()) -> Config:
    """The configuration in `path`, or ConfigErrors with every mistake.

    `strategies`: the classes that may be named. `stories`: the practice stories that exist (none given: any name passes).
    `environ` is only looked at to find secrets that were copied into the file.
    """
    mistakes = Mistakes()
    raw = config_yaml.read(path, mistakes)
    config = None
    if raw:
        _refuse_secrets(raw, environ, mistakes)
        config = _config(path, Section(raw, "", mistakes), strategies, stories, mistakes)
    if mistakes or config is None:
        raise ConfigErrors([(where, _redacted(message, environ)) for where, message in mistakes.found])
    return config


def environment(folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The real environment (or `environ`), and below it what `.env` in `folder` adds; it overrides nothing."""
    try:
        added = dotenv.dotenv_values(folder / ".env", interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors([(".env", f"cannot be read as UTF-8 text: {type(error).__name__}")]) from None
    return {name: value for name, value in added.items() if value is not None} | dict(os.environ if environ is None else environ)


def missing_credentials(config: Config, environ: Mapping[str, str]) -> list[str]:
    """The environment variables that this mode and broker need and that are not set."""
    name = config.broker.name
    needed = config.mode is Mode.LIVE or (config.mode is Mode.PAPER and name in PRICES_NEED_KEYS)
    return [key for key in CREDENTIALS[name] if needed and not environ.get(key, "").strip()]


def _config(path: Path, top: Section, classes: Mapping[str, type], stories: Collection[str], mistakes: Mistakes) -> Config:
    folder = path.resolve().parent
    mode = top.need("mode", one_of([mode.value for mode in Mode]))
    broker = _broker(top.child("broker"))
    session = read_session(top.child("session"), broker)
    polling = read(PollingConfig(), top.child("polling"), RULES["polling"])
    orders = read(OrdersConfig(), top.child("orders"), RULES["orders"])
    instruments = _instruments(top.child("instruments"))
    lots = partial(_lot_size, instruments=instruments, broker=broker)
    strategies = read_strategies(top.raw("strategies"), classes, lots, mistakes, folder)
    data_dir = folder / top.take("data_dir", text, "data")
    config = Config(
        path=path.resolve(),
        mode=Mode(mode or "practice"),
        broker=broker,
        session=session,
        polling=polling,
        orders=orders,
        strategies=strategies,
        risk=read(RiskConfig(), top.child("risk"), RULES["risk"]),
        data_dir=data_dir,
        journal=_journal(top.child("journal"), folder, data_dir, mode or "practice"),
        control=read(ControlConfig(), top.child("control"), RULES["control"]),
        logging=_logging(top.child("logging"), folder),
        practice=_practice(top.child("practice"), strategies, session, stories),
        feed=read(FeedConfig(), top.child("feed"), RULES["feed"]),
        instruments=instruments,
        paper=read(PaperConfig(), top.child("paper"), RULES["paper"]),
    )
    top.close()
    return config


def _broker(section: Section) -> BrokerConfig:
    name = section.take("name", one_of(list(BROKERS)), "openalgo")
    stream = url("http", "https") if name == "oanda" else url("ws", "wss")  # OANDA streams over HTTP
    rules: dict[str, Parser] = {
        "rest_url": url("http", "https"),
        "ws_url": stream,
        "stream_url": stream,
        "exchange": symbol,
        "product": symbol,
        "timeout": duration(100, 600_000),
        "settle_window": duration(),
    }
    if name == "coinbase":
        rules["stop_slippage"] = number(below=Decimal(1))
    broker = read(BROKERS[name], section, rules)
    if section.ok and broker.settle_window_ms <= broker.timeout_ms:
        timeout, window = duration_text(broker.timeout_ms), duration_text(broker.settle_window_ms)
        section.wrong("settle_window", f"must be longer than broker.timeout ({timeout}), not {window}")
    return broker


def _instruments(section: Section) -> dict[str, InstrumentConfig]:
    """By symbol; an entry may stay when its symbol is no longer traded."""
    read_so_far = {}
    for name in section.names():
        if _is_symbol(section, name):
            read_so_far[name] = read(InstrumentConfig(), section.child(name), RULES["instrument"])
    section.close()
    return read_so_far


def _is_symbol(section: Section, key: str) -> bool:
    try:
        return bool(symbol(key))
    except ValueError as wrong:
        section.raw(key)
        section.wrong(key, str(wrong))
        return False


def _lot_size(name: str, instruments: Mapping[str, InstrumentConfig], broker: BrokerConfig) -> Decimal | None:
    """None: the venue trades parts of a unit and will say which."""
    if name in instruments:
        return instruments[name].lot_size
    return Decimal(1) if broker.name == "openalgo" and broker.exchange != "CRYPTO" else None


def _journal(section: Section, folder: Path, data_dir: Path, mode: str) -> JournalConfig:
    """A relative file is relative to the folder of config.yaml; without a url it lies in data_dir.

    Practice, paper and live never share a journal: paper and live put their name into the file's.
    """
    address = section.take("url", text, f"sqlite:///{(data_dir / 'journal.db').as_posix()}")
    section.close()
    try:
        path = journal_path(address, folder)
    except ValueError as error:
        section.wrong("url", str(error))
        return JournalConfig(address, data_dir / "journal.db")
    return JournalConfig(address, path if mode == Mode.PRACTICE else path.with_stem(f"{path.stem}-{mode}"))


def _logging(section: Section, folder: Path) -> LoggingConfig:
    place = folder / section.take("dir", text, "logs")
    rules: dict[str, Parser] = {"level": one_of(["DEBUG", "INFO", "WARNING", "ERROR"]), "format": one_of(["text", "json"])}
    return read(LoggingConfig(place), section, rules)


def _practice(
    section: Section, strategies: tuple[StrategyConfig, ...], session: SessionConfig, stories: Collection[str]
) -> PracticeConfig:
    told = section.child("stories")
    traded = {row.symbol for strategy in strategies for row in strategy.symbols}
    chosen = {name: told.take(name, one_of(stories) if stories else text, "") for name in told.names()}
    for name in chosen:
        if strategies and name not in traded:
            told.wrong(name, "no strategy trades this symbol")
    played = section.take("day", day, None) or day_after_setups(strategies, session)
    speed = section.take("speed", number(below=Decimal(100_001)), Decimal(240))
    rules: dict[str, Parser] = {
        "seed": whole(0),
        "rest_port": PORT,
        "ws_port": PORT,
        "linger": duration(0, DAY_MS),
        "faults": text,
    }
    return read(PracticeConfig(played, float(speed), stories=chosen), section, rules)


def _refuse_secrets(raw: object, environ: Mapping[str, str], mistakes: Mistakes) -> None:
    values = set(_secrets(environ))
    for path, key, value in _leaves(raw, "", set()):
        if looks_secret(key) and path not in (f"instruments.{key}", f"practice.stories.{key}"):  # those are symbols
            mistakes.add(path, "a secret does not belong in this file: put it into the environment or .env")
        elif isinstance(value, str) and value in values:
            mistakes.add(path, "holds the value of a secret from the environment: it does not belong in this file")


def _leaves(value: Any, path: str, seen: set[int], key: str = "") -> Iterator[tuple[str, str, object]]:
    """Every mapping entry and list item with its path, parents first; what YAML aliases share is looked into once."""
    if path:
        yield path, key, value
    if isinstance(value, (dict, list)) and id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _leaves(child, f"{path}.{name}" if path else name, seen, name)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}[{index}]", seen)


def _secrets(environ: Mapping[str, str]) -> list[str]:
    names = [name for needed in CREDENTIALS.values() for name in needed]
    return [environ[name] for name in names if len(environ.get(name, "")) >= 6]


def _redacted(message: str, environ: Mapping[str, str]) -> str:
    for secret in _secrets(environ):
        message = message.replace(secret, "***")
    return message
