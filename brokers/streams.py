"""The streams of one account: where prices come from, and, where that is another connection, what becomes of our orders."""

from __future__ import annotations

from dataclasses import dataclass

from brokers.dialect import Dialect
from brokers.feed import WireMaker
from brokers.wire import Wire


@dataclass(frozen=True)
class Streams:
    """`orders` None: updates of orders come with the prices, or not at all. A wire makes the connections of its dialect.

    After `ping_ms` of silence a connection is asked whether it lives; without an answer in `pong_ms` it is given up.
    """

    prices: Dialect
    orders: Dialect | None = None
    prices_wire: WireMaker = Wire
    orders_wire: WireMaker = Wire
    ping_ms: int = 20_000
    pong_ms: int = 10_000
