"""Which adapter a broker's name means. A dictionary, no plug-in magic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Literal

import msgspec

from brokers.base import Broker
from brokers.client_ids import ClientIds
from brokers.coinbase import STOP_SLIPPAGE, Coinbase
from brokers.coinbase_sign import Signer
from brokers.coinbase_stream import CoinbaseOrders, CoinbasePrices
from brokers.kraken import Kraken
from brokers.kraken_key import Key
from brokers.kraken_names import Executions, Names
from brokers.kraken_stream import KrakenOrders, KrakenPrices
from brokers.line_stream import LineStream
from brokers.oanda import Oanda, headers
from brokers.oanda_log import TransactionLog
from brokers.oanda_stream import OandaPrices, OandaTransactions
from brokers.openalgo import OpenAlgo
from brokers.openalgo_stream import OpenAlgoStream
from brokers.skew import Skew
from brokers.spelling import Spelling
from brokers.streams import Streams
from state.clock import Clock, SystemClock


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
    stop_slippage: Decimal | None = None  # how far beyond its trigger a stop may fill, where there is none at market
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


def _coinbase(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    """Without a key, prices only: they are shown to everybody."""
    spelling, skew, wall = Spelling(clock.threads), Skew(clock.threads), SystemClock()
    ids = ClientIds(account.identity, clock.threads)
    signer = None
    if account.keys.get("COINBASE_API_KEY") or account.keys.get("COINBASE_API_SECRET"):
        signer = Signer(
            account.keys.get("COINBASE_API_KEY", ""),
            account.keys.get("COINBASE_API_SECRET", ""),
            lambda: wall.now_ms() - (skew.ahead_ms() or 0),  # the venue's time, as far as its answers prove it
            clock.threads.chance,
        )
    broker = Coinbase(
        account.rest_url,
        signer,
        ids,
        spelling,
        account.timeout_s,
        account.settle_window_s,
        clock,
        account.exchange,
        account.stop_slippage or STOP_SLIPPAGE,
        skew,
    )
    token = None if signer is None else signer.subscription
    orders = None if signer is None else CoinbaseOrders(account.stream_url, spelling, ids, token)
    # Heartbeats come every second: five without any are a dead connection.
    return broker, Streams(CoinbasePrices(account.ws_url, spelling, token), orders, ping_ms=3_000, pong_ms=2_000)


def _oanda(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    token, account_id = account.keys["OANDA_API_TOKEN"], account.keys["OANDA_ACCOUNT_ID"]
    spelling, ids = Spelling(clock.threads), ClientIds(account.identity, clock.threads)
    transactions = TransactionLog(ids, spelling, clock.threads)
    private_url = account.stream_url or account.ws_url
    broker = Oanda(
        account.rest_url,
        token,
        account_id,
        account.timeout_s,
        account.settle_window_s,
        clock,
        ids,
        transactions,
        spelling,
        stream_urls=(account.ws_url, private_url),
    )
    wire = partial(LineStream, headers=headers(token))
    prices = OandaPrices(account.ws_url, account_id, spelling)
    return broker, Streams(prices, OandaTransactions(private_url, account_id, transactions), wire, wire)


def _kraken(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    key = Key(account.keys.get("KRAKEN_API_KEY", ""), account.keys.get("KRAKEN_API_SECRET", ""), clock)  # prices need none
    names, ids, executions = Names(clock), ClientIds(account.identity, clock.threads), Executions(clock)
    broker = Kraken(
        account.rest_url,
        key,
        account.timeout_s,
        account.settle_window_s,
        clock,
        names,
        ids,
        executions,
        exchange=account.exchange,
    )
    orders = KrakenOrders(account.stream_url, broker.token, names, ids, executions)
    return broker, Streams(KrakenPrices(account.ws_url, names), orders)


ADAPTERS: dict[str, Callable[[Account, Clock], tuple[Broker, Streams]]] = {
    "coinbase": _coinbase,
    "oanda": _oanda,
    "openalgo": _openalgo,
    "kraken": _kraken,
}


def connect(account: Account, clock: Clock) -> tuple[Broker, Streams]:
    """The broker and the streams of this account; nothing is sent yet."""
    adapter = ADAPTERS.get(account.broker)
    if adapter is None:
        raise UnknownVenue(f"there is no adapter for {account.broker} yet; there is {', '.join(sorted(ADAPTERS))}")
    return adapter(account, clock)
