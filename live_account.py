"""From a config and its keys to an account at a venue. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from brokers.practice import PracticeVenue
from brokers.venues import Account
from ops.config import Config, Mode
from simulation.practice_day import venue_exchange


def account_of(config: Config, environ: Mapping[str, str]) -> Account:
    """The account that the config names."""
    broker = config.broker
    return Account(
        broker=broker.name,
        rest_url=broker.rest_url,
        ws_url=broker.ws_url,
        exchange=broker.exchange,
        product=broker.product,
        timezone=config.session.timezone,
        timeout_s=broker.timeout_ms / 1000,
        settle_window_s=broker.settle_window_ms / 1000,
        keys=environ,
        stream_url=broker.stream_url,
        stop_slippage=broker.stop_slippage,
        expect_mode={Mode.LIVE: "live", Mode.PRACTICE: "analyze"}.get(config.mode),  # type: ignore[arg-type]
    )


def practice_account(config: Config, environ: Mapping[str, str], venue: PracticeVenue, key: str) -> Account:
    """The one at our own venue, whatever broker the config names."""
    where = {"rest_url": venue.rest_url, "ws_url": venue.ws_url, "exchange": venue_exchange(config)}
    return msgspec.structs.replace(account_of(config, environ), broker="openalgo", keys={"OPENALGO_API_KEY": key}, **where)
