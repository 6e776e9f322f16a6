"""What the adapter and the streams of one Kraken account share: names of pairs and assets, and the executions heard of so far.

A pair has four names at the venue (XBTUSD, XXBTZUSD, XBT/USD, and BTC/USD on the socket), an asset up to three. Executions are
facts that never change, so keeping them hides no news; the record is bounded. Thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal

from brokers.base import FillRow
from brokers.spelling import Spelling
from state.clock import Clock
from state.orders import ZERO

OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_REST_NAMES = {new: old for old, new in OLD_NAMES.items()}
KEPT_FILLS = 2_000
REPAIR_GAP_MS = 10_000  # an execution is in the trade query about 2 s after it happened; asking costs two points


class Names:
    """Pairs that we trade, under all their names."""

    def __init__(self, clock: Clock) -> None:
        self._spelling = Spelling(clock.threads)
        self._lock = clock.threads.lock()  # guards the assets
        self._assets: dict[str, str] = {}  # the venue's code -> the name that people use
        self.symbols: dict[str, str] = {}  # socket name -> ours. Written before a stream may see the name
        self._rest: dict[str, str] = {}

    def add(self, symbol: str, pair_id: str, altname: str, wsname: str, base: str, quote: str) -> tuple[str, str]:
        """From now on all of these are `symbol`. Returns the names of its two currencies."""
        streamed = "/".join(OLD_NAMES.get(part, part) for part in wsname.split("/"))
        self._spelling.add(symbol, pair_id, altname, wsname, streamed)
        names = tuple(streamed.split("/"))
        with self._lock:
            self._assets |= {base: names[0], quote: names[-1]}
        self._rest[symbol] = altname
        self.symbols[streamed] = symbol
        return names[0], names[-1]

    def ours(self, name: object) -> str:
        return self._spelling.ours(name)

    def rest(self, symbol: str) -> str:
        """As REST calls take it: XBTUSD."""
        known = self._rest.get(symbol)
        if known is not None:
            return known
        parts = symbol.upper().replace("-", "/").replace("_", "/").split("/")
        return "".join(_REST_NAMES.get(part, part) for part in parts)

    def socket(self, symbol: str) -> str:
        """As the socket takes it: BTC/USD."""
        known = next((name for name, ours in self.symbols.items() if ours == symbol), None)
        parts = symbol.upper().replace("-", "/").replace("_", "/").split("/")
        return known or "/".join(OLD_NAMES.get(part, part) for part in parts)

    def asset(self, code: str) -> str:
        """XXBT -> BTC; a code of none of our pairs as it came."""
        with self._lock:
            return self._assets.get(code, OLD_NAMES.get(code, code))


class Executions:
    """Every execution that the stream or a query has told of, and whether the trade query has to be asked for more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = clock.threads.lock()  # guards everything below
        self._rows: OrderedDict[str, FillRow] = OrderedDict()
        self._executed: dict[str, Decimal] = {}  # venue order id -> quantity
        self._wanted = True  # from the start on: what happened before we came
        self._asked_ms: int | None = None
        self._latest_ms: int | None = None

    def add(self, fill: FillRow) -> None:
        with self._lock:
            if fill.trade_id in self._rows:
                return
            self._rows[fill.trade_id] = fill
            self._executed[fill.venue_id] = self._executed.get(fill.venue_id, ZERO) + fill.qty
            self._latest_ms = max(fill.at_ms, self._latest_ms or 0)
            while len(self._rows) > KEPT_FILLS:
                _, old = self._rows.popitem(last=False)
                self._executed.pop(old.venue_id, None)

    def rows(self) -> list[FillRow]:
        with self._lock:
            return list(self._rows.values())

    def want_all(self) -> None:
        """The stream is new or has lost something: ask, at once."""
        with self._lock:
            self._wanted, self._asked_ms = True, None

    def compare(self, venue_id: str, filled: Decimal | None) -> None:
        """What the order book says an order has filled: is each execution of it known?"""
        with self._lock:
            if filled and self._executed.get(venue_id, ZERO) < filled:
                self._wanted = True

    def due(self) -> bool:
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            if not self._wanted or (self._asked_ms is not None and now_ms - self._asked_ms < REPAIR_GAP_MS):
                return False
            self._asked_ms = now_ms
            return True

    def since_ms(self, before_ms: int) -> int:
        """Session time from which on to ask: a minute before the last one known, else `before_ms`."""
        with self._lock:
            return before_ms if self._latest_ms is None else self._latest_ms - 60_000

    def asked(self) -> None:
        """All that the venue has was read. Who still misses one says so again."""
        with self._lock:
            self._wanted = False
