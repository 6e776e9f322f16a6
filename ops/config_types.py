"""What config.yaml says, as frozen values: every setting, its unit and its default. Reads nothing; `ops.config` does.

Fields ending in `_ms` are milliseconds, in `_s` seconds after local midnight; money and quantities are Decimal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from ops.config_strategies import StrategyConfig


class Mode(StrEnum):
    PRACTICE = "practice"
    PAPER = "paper"
    LIVE = "live"


class BrokerConfig(msgspec.Struct, frozen=True):
    """Where orders go. `ws_url`: prices; `stream_url`: updates of our orders, of venues that have another address for them.

    `timeout_ms` is one request in all; `settle_window_ms` how long an unanswered one may still turn out accepted.
    `stop_slippage`: how far beyond its trigger a stop may fill, of venues that have no stop at market (0.05 = 5 %).
    """

    name: str = "openalgo"
    rest_url: str = "http://127.0.0.1:5000"
    ws_url: str = "ws://127.0.0.1:8765"
    exchange: str = "NSE"
    product: str = "MIS"
    timeout_ms: int = 10_000
    settle_window_ms: int = 30_000
    stream_url: str = ""
    stop_slippage: Decimal | None = None


class SessionConfig(msgspec.Struct, frozen=True):
    """Either a named calendar, or explicit hours, which win. `calendar` is None when the file names none and gives hours."""

    calendar: str | None = None
    timezone: str = "Asia/Kolkata"
    open_s: int | None = None
    close_s: int | None = None
    entry_delay_ms: int = 60_000
    exit_before_close_ms: int = 2_700_000
    holidays: tuple[date, ...] = ()
    weekends: bool = False


class PollingConfig(msgspec.Struct, frozen=True):
    interval_ms: int = 5000


class OrdersConfig(msgspec.Struct, frozen=True):
    """`timeout_ms`: not accepted or closed after that, ask and cancel. `entry_timeout_ms`: how long a resting entry may wait."""

    timeout_ms: int = 60_000
    entry_timeout_ms: int = 900_000
    max_retries: int = 3


class RiskConfig(msgspec.Struct, frozen=True):
    """`max_daily_loss` in account currency. `unprotected_limit_ms`: how long filled quantity may be without a working stop."""

    max_open_positions: int = 5
    signal_slots: int = 3
    max_daily_loss: Decimal = Decimal(5000)
    unprotected_limit_ms: int = 5000


class JournalConfig(msgspec.Struct, frozen=True):
    """`path` is the file behind `url`."""

    url: str
    path: Path


class ControlConfig(msgspec.Struct, frozen=True):
    """Port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 8780


class LoggingConfig(msgspec.Struct, frozen=True):
    dir: Path
    level: str = "INFO"
    format: str = "text"


class PracticeConfig(msgspec.Struct, frozen=True):
    """The session our own venue plays: `speed` times as fast as life, the same for the same `seed`. Ports 0 take any free ones.

    `linger_ms`: how long (machine time) the venue stays up after the runner has gone. `faults`: a script's name or file.
    """

    day: date
    speed: float = 240.0
    seed: int = 7
    rest_port: int = 0
    ws_port: int = 0
    stories: Mapping[str, str] = {}
    linger_ms: int = 60_000
    faults: str = "calm"


class FeedConfig(msgspec.Struct, frozen=True):
    """`max_age_ms`: a symbol silent for longer is stale. `max_jump`: a larger move (0.2 = 20 %) must be confirmed."""

    max_age_ms: int = 60_000
    max_jump: Decimal = Decimal("0.2")


class InstrumentConfig(msgspec.Struct, frozen=True):
    """Grid of a symbol where no venue tells: practice, paper, replay."""

    tick_size: Decimal = Decimal("0.05")
    lot_size: Decimal = Decimal(1)


class PaperConfig(msgspec.Struct, frozen=True):
    """`fee_rate`: part of the traded value (0.0003 = 0.03 %)."""

    fee_rate: Decimal = Decimal(0)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything config.yaml says, with defaults filled in and paths made absolute."""

    path: Path
    mode: Mode
    broker: BrokerConfig
    session: SessionConfig
    polling: PollingConfig
    orders: OrdersConfig
    strategies: tuple[StrategyConfig, ...]
    risk: RiskConfig
    data_dir: Path
    journal: JournalConfig
    control: ControlConfig
    logging: LoggingConfig
    practice: PracticeConfig
    feed: FeedConfig
    instruments: Mapping[str, InstrumentConfig]
    paper: PaperConfig

    def instrument(self, name: str) -> InstrumentConfig:
        """The configured grid of a symbol, or the default one (0.05, lots of 1)."""
        return self.instruments.get(name, InstrumentConfig())


class ConfigErrors(Exception):
    """Every mistake of a configuration, as (path, message) in reading order. No secret is quoted."""

    def __init__(self, errors: Collection[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(f"{path}: {message}" for path, message in self.errors))


# What each broker means when the file does not say (venues/*.md).
BROKERS = {
    "openalgo": BrokerConfig(),
    "kraken": BrokerConfig(
        "kraken", "https://api.kraken.com", "wss://ws.kraken.com/v2", "KRAKEN", "", stream_url="wss://ws-auth.kraken.com/v2"
    ),
    "coinbase": BrokerConfig(
        "coinbase",
        "https://api.coinbase.com/api/v3/brokerage",
        "wss://advanced-trade-ws.coinbase.com",
        "COINBASE",
        "",
        stream_url="wss://advanced-trade-ws-user.coinbase.com",
        stop_slippage=Decimal("0.05"),
    ),
    "oanda": BrokerConfig(
        "oanda",
        "https://api-fxtrade.oanda.com/v3",
        "https://stream-fxtrade.oanda.com/v3",
        "OANDA",
        "",
        stream_url="https://stream-fxtrade.oanda.com/v3",
    ),
}
CREDENTIALS = {
    "openalgo": ("OPENALGO_API_KEY",),
    "kraken": ("KRAKEN_API_KEY", "KRAKEN_API_SECRET"),
    "coinbase": ("COINBASE_API_KEY", "COINBASE_API_SECRET"),
    "oanda": ("OANDA_API_TOKEN", "OANDA_ACCOUNT_ID"),
}
PRICES_NEED_KEYS = ("openalgo", "oanda")  # the others show their prices to everybody
