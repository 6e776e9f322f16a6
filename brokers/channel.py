"""The feed's parts that touch no socket: its limits, what it tells and to whom, one symbol's channel, and the entry switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum
from typing import Protocol, TypeAlias

import msgspec

from brokers.base import FillRow, OrderRow
from brokers.dialect import Subscribed
from brokers.gate import PriceGate
from state.threads import Threads

Sink: TypeAlias = Callable[[Decimal, int], object]
NAMES_IN_A_LINE = 20
NEVER_MS = -(1 << 62)


class Limits(msgspec.Struct, frozen=True):
    """Every number of the feed. Milliseconds are monotonic, except `late_ms`: session time, at the clock's speed 1."""

    age_ms: int = 60_000  # no tick on time for this long in an open market: stale
    late_ms: int = 5_000  # a tick this much older (or newer) than now is not believed to be of now
    untimed: bool = False  # the venue's ticks have no time: age is by arrival
    ping_ms: int = 20_000  # silence before we ask whether the path is alive
    pong_ms: int = 10_000  # and how long it may take to show that it is
    turn_ms: int = 500  # the longest that the thread waits for a frame
    login_ms: int = 10_000
    ack_ms: int = 10_000
    ack_tries: int = 3
    first_tick_ms: int = 60_000  # no tick at all for this long after connect or open: log in again
    silent_logins: int = 3  # how often in a row
    stable_ms: int = 30_000  # a connection that lasted this long, with ticks, resets the back-off
    faults: int = 3  # exceptions of a sink in a row until its symbol's entries are off
    jump: Decimal = Decimal("0.2")


class Missed(msgspec.Struct):
    """What was seen of one symbol but not delivered: for bars, never for decisions. Times are session milliseconds."""

    low: Decimal
    high: Decimal
    last: Decimal
    last_ms: int
    count: int = 1

    def add(self, price: Decimal, at_ms: int) -> None:
        self.low, self.high, self.last = min(self.low, price), max(self.high, price), price
        self.last_ms = at_ms
        self.count += 1


class FeedListener(Protocol):
    """Who is told. Called on the tick thread, and from `check` on its caller's. Must return at once.

    order_unclear  something has happened to an order, and the message does not say what: ask soon.
    connected      logged in and subscribed; ticks are held until `Feed.release`.
    disconnected   the connection ended, or an attempt failed. `entries_off` of each symbol has come before it.
    venue_open     the venue takes orders (None), or why it does not.
    entries_off    once per symbol, when the first cause comes up; `entries_on` once, when the last one has gone.
    missed         prices that were not delivered, told right before the next delivered tick of the symbol.
    """

    def order_update(self, row: OrderRow) -> None: ...
    def fill(self, row: FillRow) -> None: ...
    def order_unclear(self) -> None: ...
    def venue_open(self, why_not: str | None) -> None: ...
    def connected(self) -> None: ...
    def disconnected(self, reason: str) -> None: ...
    def entries_off(self, symbol: str, reason: str) -> None: ...
    def entries_on(self, symbol: str) -> None: ...
    def missed(self, symbol: str, missed: Missed) -> None: ...
    def alarm(self, text: str) -> None: ...


class Cause(Enum):
    """Why the entries of a symbol are off. A tick on time cures all but the last."""

    DOWN = "down"
    STALE = "stale"
    UNSUBSCRIBED = "not subscribed"
    FAULTY = "faulty"


CURED_BY_A_TICK = frozenset({Cause.DOWN, Cause.STALE, Cause.UNSUBSCRIBED})


class Channel(PriceGate):
    """One symbol's way through the feed. A gate itself, so that a tick has one object less to fetch from memory.

    `causes` belongs to the switch, which also sets `attention`; all the rest is written by the tick thread alone."""

    __slots__ = ("alarmed", "attention", "causes", "faults", "heard_ms", "late_ms", "missed", "sink", "symbol")

    def __init__(
        self,
        symbol: str,
        sink: Sink,
        reference: Decimal | None = None,
        jump: Decimal = Decimal("0.2"),
        band: tuple[Decimal, Decimal] | None = None,
    ) -> None:
        super().__init__(reference, jump, band)
        self.symbol = symbol
        self.sink = sink
        self.heard_ms = NEVER_MS  # when the last tick on time came, monotonic
        self.late_ms = NEVER_MS  # when the last one came that was late
        self.attention = True  # the next tick has to do more than go to the sink
        self.missed: Missed | None = None
        self.faults = 0  # exceptions of the sink in a row
        self.alarmed = False  # staleness was told once in this connection
        self.causes: set[Cause] = set()

    def miss(self, price: Decimal, at_ms: int) -> None:
        if self.missed is None:
            self.missed = Missed(price, price, price, at_ms)
        else:
            self.missed.add(price, at_ms)
        self.attention = True


class EntrySwitch:
    """Whether each symbol may enter, as far as the feed knows. Thread-safe: the tick thread and the checking thread turn it.

    The lock guards `causes` and `attention` for a few instructions and is never held around a call to the listener.
    """

    def __init__(self, listener: FeedListener, threads: Threads) -> None:
        self._listener = listener
        self._lock = threads.lock()

    def off(self, channel: Channel, cause: Cause, reason: str) -> None:
        with self._lock:
            first = not channel.causes
            channel.causes.add(cause)
            channel.attention = True
        if first:
            self._listener.entries_off(channel.symbol, reason)

    def cured(self, channel: Channel) -> None:
        """A tick on time has come."""
        with self._lock:
            was_off = bool(channel.causes)
            channel.causes -= CURED_BY_A_TICK
            channel.attention = False
            on = was_off and not channel.causes
        if on:
            self._listener.entries_on(channel.symbol)


class Subscriptions:
    """Which symbols the venue has not confirmed, and when to ask again (FEE-09). Pure: told the time."""

    def __init__(self, symbols: Iterable[str], ack_ms: int, tries: int) -> None:
        self.waiting = dict.fromkeys(symbols, "no answer")  # symbol -> what the venue said of it
        self._ack_ms = ack_ms
        self._tries = tries
        self._tried = 0
        self._due_ms = 0

    def asked(self, now_ms: int) -> None:
        self._tried += 1
        self._due_ms = now_ms + self._ack_ms

    def answered(self, answer: Subscribed) -> None:
        for symbol in answer.ok:
            self.waiting.pop(symbol, None)
        for symbol, reason in answer.failed.items():
            if symbol in self.waiting:
                self.waiting[symbol] = reason

    def give_up(self) -> None:
        self._tried = self._tries + 1

    def overdue(self, now_ms: int) -> bool:
        return bool(self.waiting) and 0 < self._tried <= self._tries and now_ms >= self._due_ms

    @property
    def first_time(self) -> bool:
        return self._tried == 1

    @property
    def last_time(self) -> bool:
        return self._tried == self._tries


def names(symbols: Iterable[str]) -> str:
    """Symbols for one log line."""
    listed = list(symbols)
    more = len(listed) - NAMES_IN_A_LINE
    return ", ".join(listed[:NAMES_IN_A_LINE]) + (f" and {more} more" if more > 0 else "")
