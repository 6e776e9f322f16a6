"""Which adapter a broker's name means. A dictionary, no plug-in magic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from brokers.base import Broker
from brokers.openalgo import OpenAlgo
from brokers.openalgo_stream import OpenAlgoStream
from brokers.spelling import Spelling
from brokers.streams import Streams
from state.clock import Clock


class Account(msgspec.Struct, frozen=True):
    """One account at one venue and how to reach it. `keys` are secrets by the names of their environment variables."""

    broker: str
    rest_url: str
    ws_url: str
    exchange: str
    product: str
    timezone: str
    timeout_s: float
    settle_window_s: float
    keys: Mapping[str, str]
    stream_url: str = ""  # private order stream, where it has an address of its own
    identity: str = ""  # of the journal: part of every id that a venue remembers
    expect_mode: Literal["live", "analyze"] | None = None


class UnknownVenue(ValueError):
    """No adapter for this broker (yet)."""


def _openalgo(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    key = account.keys["OPENALGO_API_KEY"]
    spelling = Spelling(clock.threads)
    broker = OpenAlgo(
        account.rest_url,
        key,
        account.exchange,
        account.product,
        account.timeout_s,
        account.settle_window_s,
        clock,
        expect_mode=account.expect_mode,
        timezone=account.timezone,
        spelling=spelling,
    )
    return broker, Streams(OpenAlgoStream(account.ws_url, key, account.exchange, spelling))


ADAPTERS: dict[str, Callable[[Account, Clock], tuple[Broker, Streams]]] = {
    "openalgo": _openalgo,
}


def connect(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    """The broker and the streams of this account; nothing is sent yet."""
    adapter = ADAPTERS.get(account.broker)
    if adapter is None:
        raise UnknownVenue(f"there is no adapter for {account.broker} yet; there is {', '.join(sorted(ADAPTERS))}")
    return adapter(account, clock)
