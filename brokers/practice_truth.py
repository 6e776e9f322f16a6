"""The practice venue's truth: what really happened at the venue, whatever its answers said. The source of an outside oracle.

Owns the record and its shape (POST /practice/truth). Faults bend answers, never this. Every change of an order is one version
with both times: session ms and real ms (monotonic, comparable between processes of one machine).
"""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

import msgspec

from state.clock import SystemClock
from state.orders import ZERO, OrderType, Side
from state.reports import FillRow, OrderRow, Reported

API, HAND = "api", "hand"
_PURPOSE = re.compile(r"-\d{8}-([ESTX])\d+$")
_STRIKES_MAX = 100_000
_REQUESTS_MAX = 500_000
_AT_MARKET = (OrderType.MARKET, OrderType.STOP)
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class Strike(msgspec.Struct):
    """One fault that struck. `at_ms` session time, `real_ms` monotonic. `detail` says what it did; empty until it has done it."""

    kind: str
    at_ms: int
    path: str
    symbol: str
    detail: str
    real_ms: int = 0
    label: str = ""


class Version(msgspec.Struct, frozen=True):
    """An order as it stood from this moment on. `waits`: it has a trigger that no tick has reached."""

    at_ms: int
    real_ms: int
    state: Reported
    type: OrderType
    qty: Decimal
    filled: Decimal
    limit_price: Decimal | None
    trigger_price: Decimal | None
    waits: bool


class TrueOrder(msgspec.Struct):
    """`origin` is "api" (a request) or "hand" (the user, by phone). `purpose`: the letter of the client id in `label`, or ""."""

    venue_id: str
    symbol: str
    side: Side
    label: str
    purpose: str
    origin: str
    history: list[Version]
    reason: str = ""

    @property
    def now(self) -> Version:
        return self.history[-1]


class TrueFill(msgspec.Struct, frozen=True):
    trade_id: str
    venue_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    at_ms: int
    real_ms: int
    label: str
    purpose: str
    origin: str


class TruePosition(msgspec.Struct, frozen=True):
    """`net` is the account's; `ours` as in Point."""

    symbol: str
    net: Decimal
    ours: Decimal
    average: Decimal | None
    realized: Decimal


class Point(msgspec.Struct, frozen=True):
    """One symbol from this moment on. `net`: all fills. `ours`: fills of requests; a trade by hand against it takes first from
    what the user added, then counts for ours (also when it goes through zero); one that adds is theirs.

    Unfilled quantities of working orders that came as requests and are no entries: `stop_*` stops whose trigger waits, `exit_*`
    what trades at any price or says it is an exit. A resting limit (a target, a retyped stop, a stop-limit that was jumped over)
    is neither: it protects nothing. `entries`: working orders whose label says E.
    """

    at_ms: int
    real_ms: int
    net: Decimal
    ours: Decimal
    stop_buy: Decimal
    stop_sell: Decimal
    exit_buy: Decimal
    exit_sell: Decimal
    entries: int

    @property
    def bare(self) -> Decimal:
        """How much of ours neither a stop nor an exit covers."""
        covered = self.stop_sell + self.exit_sell if self.ours > 0 else self.stop_buy + self.exit_buy
        return max(abs(self.ours) - covered, ZERO)


class OrderRequest(msgspec.Struct, frozen=True):
    """One placeorder that reached the venue's book or its refusal. `venue_id` is None when it was refused."""

    at_ms: int
    real_ms: int
    label: str
    symbol: str
    side: Side
    venue_id: str | None


class Truth(msgspec.Struct):
    """The whole record. Lists are in the order of the venue's events."""

    account: str
    at_ms: int
    real_ms: int
    open_ms: int
    speed: float
    orders: list[TrueOrder]
    fills: list[TrueFill]
    positions: list[TruePosition]
    timeline: dict[str, list[Point]]
    requests: list[OrderRequest]
    strikes: list[Strike]

    def bare_spans(self, symbol: str) -> list[tuple[int, int, Decimal]]:
        """(from, until, most quantity) in real ms of every stretch with unprotected quantity; an open one lasts until now."""
        moments = [(point.real_ms, point.bare) for point in self.timeline.get(symbol, [])]
        spans: list[tuple[int, int, Decimal]] = []
        for (from_ms, bare), (until_ms, _) in pairwise([*moments, (self.real_ms, ZERO)]):
            if not bare:
                continue
            if spans and spans[-1][1] == from_ms:
                start_ms, _, most = spans.pop()
                spans.append((start_ms, until_ms, max(most, bare)))
            else:
                spans.append((from_ms, until_ms, bare))
        return [span for span in spans if span[1] > span[0]]


class Record:
    """Writes the truth down as it happens. One thread: the venue's event loop."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._orders: dict[str, TrueOrder] = {}
        self._log: list[tuple[TrueOrder, Version]] = []
        self._fills: list[TrueFill] = []
        self._requests: list[OrderRequest] = []
        self.strikes: list[Strike] = []
        self.counts: dict[str, int] = {}

    def order(self, row: OrderRow, at_ms: int, waits: bool, origin: str = API) -> None:
        """A new order, or a new version of one we have."""
        found = self._orders.get(row.venue_id)
        if found is None:
            found = TrueOrder(row.venue_id, row.symbol, row.side, row.label, purpose_of(row.label), origin, [])
            self._orders[row.venue_id] = found
        found.reason = row.reason
        type, filled = row.type or OrderType.MARKET, row.filled or ZERO
        real_ms = self._clock.monotonic_ms()
        version = Version(at_ms, real_ms, row.state, type, row.qty, filled, row.limit_price, row.trigger_price, waits)
        found.history.append(version)
        self._log.append((found, version))

    def fill(self, fill: FillRow) -> None:
        order = self._orders[fill.venue_id]
        words = (fill.trade_id, fill.venue_id, fill.symbol, fill.side, fill.qty, fill.price, fill.at_ms)
        self._fills.append(TrueFill(*words, self._clock.monotonic_ms(), order.label, order.purpose, order.origin))

    def request(self, at_ms: int, label: str, symbol: str, side: Side, venue_id: str | None) -> None:
        if len(self._requests) < _REQUESTS_MAX:
            self._requests.append(OrderRequest(at_ms, self._clock.monotonic_ms(), label, symbol, side, venue_id))

    def strike(self, strike: Strike) -> None:
        strike.real_ms = self._clock.monotonic_ms()
        self.counts[strike.kind] = self.counts.get(strike.kind, 0) + 1
        if len(self.strikes) < _STRIKES_MAX:
            self.strikes.append(strike)

    def withdraw(self, strike: Strike) -> None:
        """It turned out to have nothing to strike."""
        self.counts[strike.kind] -= 1
        if not self.counts[strike.kind]:
            del self.counts[strike.kind]
        self.strikes = [other for other in self.strikes if other is not strike]

    def known(self, venue_id: str) -> TrueOrder:
        return self._orders[venue_id]

    @property
    def marks(self) -> tuple[int, int]:
        """(changes of orders, fills) so far."""
        return len(self._log), len(self._fills)

    def changed_since(self, mark: int) -> set[str]:
        return {order.venue_id for order, _ in self._log[mark:]}

    def filled_since(self, mark: int) -> dict[str, TrueFill]:
        """The last fill of each symbol that has filled."""
        return {fill.symbol: fill for fill in self._fills[mark:]}

    def truth(
        self, account: str, at_ms: int, open_ms: int, speed: float, money: dict[str, tuple[Decimal | None, Decimal]]
    ) -> Truth:
        """`money`: symbol to (average price, realized) of the account."""
        timeline = self._timeline()
        positions = [
            TruePosition(symbol, points[-1].net, points[-1].ours, *money.get(symbol, (None, ZERO)))
            for symbol, points in timeline.items()
        ]
        now_ms = self._clock.monotonic_ms()
        orders = list(self._orders.values())
        return Truth(
            account, at_ms, now_ms, open_ms, speed, orders, self._fills, positions, timeline, self._requests, self.strikes
        )

    def _timeline(self) -> dict[str, list[Point]]:
        symbols: dict[str, _Symbol] = defaultdict(_Symbol)
        for order, version in self._log:
            symbols[order.symbol].take(order, version)
        return {symbol: story.points for symbol, story in symbols.items()}


class _Symbol:
    """The time line of one symbol, built version by version."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._filled: dict[str, Decimal] = {}
        self._live: dict[str, tuple[TrueOrder, Version]] = {}
        self._net = self._ours = self._theirs = ZERO

    def take(self, order: TrueOrder, version: Version) -> None:
        traded = (version.filled - self._filled.get(order.venue_id, ZERO)) * order.side.sign
        self._filled[order.venue_id] = version.filled
        self._trade(traded, order.origin)
        if version.state is Reported.WORKING:
            self._live[order.venue_id] = (order, version)
        else:
            self._live.pop(order.venue_id, None)
        self.points.append(self._point(version))

    def _trade(self, traded: Decimal, origin: str) -> None:
        self._net += traded
        if origin == API:
            self._ours += traded
            return
        if self._theirs * traded < 0:
            own = min(abs(self._theirs), abs(traded)).copy_sign(traded)
            self._theirs += own
            traded -= own
        if self._ours * traded < 0:
            self._ours += traded
        else:
            self._theirs += traded

    def _point(self, version: Version) -> Point:
        stops, exits = {Side.BUY: ZERO, Side.SELL: ZERO}, {Side.BUY: ZERO, Side.SELL: ZERO}
        entries = 0
        for order, live in self._live.values():
            if order.origin != API:
                continue
            if order.purpose == "E":
                entries += 1
                continue
            if live.type in _STOPS and live.waits:
                stops[order.side] += live.qty - live.filled
            elif live.type in _AT_MARKET or order.purpose == "X":
                exits[order.side] += live.qty - live.filled
        quantities = (stops[Side.BUY], stops[Side.SELL], exits[Side.BUY], exits[Side.SELL])
        return Point(version.at_ms, version.real_ms, self._net, self._ours, *quantities, entries)


def purpose_of(label: str) -> str:
    """The purpose letter of a client order id, "" where the label is none."""
    match = _PURPOSE.search(label)
    return match[1] if match else ""
