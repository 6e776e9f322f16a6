"""The one locked door to a symbol: `SymbolState` keeps its snapshot, runs `decide`, and hands the commands to the outbox.

Under the RLock happen `decide` and `put`, nothing else: no broker call, no commit, no log line. Coming in again while inside is
refused (an RLock would hide it). Prices between which nothing can happen never get as far as `decide`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

import msgspec

from state.clock import Clock
from state.commands import Command
from state.draft import Draft, StrategyFailed
from state.events import BarClosed, Event, Heartbeat, Tick
from state.machine import decide
from state.rules import Rules
from state.snapshot import Snapshot
from state.strategy import Bar

NEVER_MS = 1 << 62
BAR_MS = 900_000  # for people's highs and lows when the strategy wants no bars
BAR_GRACE_MS = 2_000  # a heartbeat waits this long for the last ticks of a bar that has ended
NOISY = (Decimal(1), Decimal(0))  # no price is strictly between: every tick is decided
QUIET = (Decimal(0), Decimal("Infinity"))


class Work(msgspec.Struct, frozen=True):
    """One decision, for the desk: what changed, why, on which thread, and what is to be done."""

    thread: str
    event: Event
    before: Snapshot
    after: Snapshot
    commands: tuple[Command, ...]


class Outbox(Protocol):
    """Takes work of one symbol in order; must neither block nor call back."""

    def put(self, symbol: str, work: Work) -> None: ...


class Reentered(RuntimeError):
    """A caller came back into a SymbolState it was still inside of: a defect of ours."""


class SymbolState:
    """Thread-safe. `apply` and `tick` may be called from any thread; `snapshot` is a plain read of the latest value."""

    __slots__ = (
        "_bar_end_ms",
        "_bar_grace_ms",
        "_bar_high",
        "_bar_low",
        "_bar_ms",
        "_bar_open",
        "_bar_origin_ms",
        "_bar_start_ms",
        "_clock",
        "_high",
        "_inside",
        "_listening_ms",
        "_lock",
        "_low",
        "_on_defect",
        "_outbox",
        "_restless",
        "_session_high",
        "_session_low",
        "_until_ms",
        "_wake_ms",
        "last",
        "last_ms",
        "rules",
        "snapshot",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        rules: Rules,
        outbox: Outbox,
        clock: Clock,
        *,
        bar_origin_ms: int = 0,
        bar_grace_ms: int = BAR_GRACE_MS,
        on_defect: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._lock = clock.threads.rlock()  # guards everything below
        self._inside = False
        self.snapshot = snapshot
        self.rules = rules
        self._outbox = outbox
        self._clock = clock
        self._on_defect = on_defect
        self._bar_ms = rules.strategy.bar_ms or BAR_MS
        self._bar_origin_ms = bar_origin_ms
        self._bar_grace_ms = bar_grace_ms
        self._listening_ms = clock.now_ms()
        self._bar_start_ms = self._bar_end_ms = 0
        self._bar_open: Decimal | None = None
        self._bar_high = self._bar_low = Decimal(0)
        self.last: Decimal | None = None
        self.last_ms = 0  # session time of the last tick
        self._session_low: Decimal | None = None
        self._session_high: Decimal | None = None
        self._low, self._high = NOISY  # nothing can happen strictly between these two prices ...
        self._until_ms = 0  # ... before this session time
        self._wake_ms = 0  # the clock alone changes nothing before this session time ...
        self._restless = True  # ... unless something waits for its next try
        self._look_ahead()

    # -- hot path --------------------------------------------------------------------------------------------------------

    def tick(self, price: Decimal, at_ms: int) -> None:
        """A checked price on its way in; `at_ms` is the venue's time, UTC epoch ms."""
        with self._lock:
            if self._low < price < self._high and at_ms < self._until_ms:
                if price < self._bar_low:
                    self._bar_low = price
                elif price > self._bar_high:
                    self._bar_high = price
                self.last = price
                self.last_ms = at_ms
                return
            self._decide_tick(price, at_ms)

    # -- the door --------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Record one event and put its consequences on the outbox."""
        with self._lock:
            self._step(event)

    def heartbeat(self, now_ms: int, mono_ms: int) -> None:
        """Time has passed: closes bars by the clock and wakes whatever waits. Cheap while nothing can happen."""
        with self._lock:
            if self._bar_open is not None and now_ms >= self._bar_end_ms + self._bar_grace_ms:
                self._close_bar(now_ms, mono_ms)
            if self._restless or now_ms >= self._wake_ms:
                self._step(Heartbeat(now_ms=now_ms, mono_ms=mono_ms))

    def missed(self, low: Decimal, high: Decimal, at_ms: int) -> None:
        """Prices that were seen but not decided on (a held or lagging feed): they belong to the bar all the same."""
        with self._lock:
            if self._bar_open is not None and self._bar_start_ms <= at_ms < self._bar_end_ms:
                self._bar_low = min(self._bar_low, low)
                self._bar_high = max(self._bar_high, high)

    def range(self) -> tuple[Decimal, Decimal] | None:
        """Lowest and highest price seen in this session; None before the first tick."""
        with self._lock:
            lows = [x for x in (self._session_low, self._bar_low if self._bar_open is not None else None) if x is not None]
            highs = [x for x in (self._session_high, self._bar_high if self._bar_open is not None else None) if x is not None]
            return (min(lows), max(highs)) if lows and highs else None

    # -- below: only with the lock held ------------------------------------------------------------------------------------

    def _decide_tick(self, price: Decimal, at_ms: int) -> None:
        mono_ms = self._clock.monotonic_ms()
        if self._bar_open is not None and at_ms >= self._bar_end_ms:
            self._close_bar(at_ms, mono_ms)
        if self._bar_open is None:
            if at_ms >= self._bar_end_ms:  # a straggler of a bar that the clock has closed makes no bar of its own
                self._open_bar(price, at_ms)
        elif at_ms >= self._bar_start_ms:
            self._bar_low = min(self._bar_low, price)
            self._bar_high = max(self._bar_high, price)
        self.last = price
        self.last_ms = at_ms
        self._step(Tick(price=price, now_ms=at_ms, mono_ms=mono_ms))

    def _step(self, event: Event) -> None:
        if self._inside:
            raise Reentered(f"{self.snapshot.symbol}: {type(event).__name__} inside another event")
        self._inside = True
        try:
            self._decide(event)
        except Exception as error:
            if self._on_defect is None:
                raise
            self._on_defect(self.snapshot.symbol, error)  # a defect of ours: the snapshot stays, a person is told
        finally:
            self._inside = False

    def _decide(self, event: Event) -> None:
        before = self.snapshot
        after, commands = decide(before, event, self.rules)
        self.snapshot = after
        if commands or _worth_recording(before, after):
            self._outbox.put(after.symbol, Work(self._clock.threads.current(), event, before, after, tuple(commands)))
        if after is not before or event.now_ms >= self._wake_ms:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Between which prices, and until when, can nothing happen?"""
        s, rules = self.snapshot, self.rules
        self._low, self._high = self._quiet_prices()
        self._restless = _restless(s)
        wake_ms = NEVER_MS if s.over else rules.cutoff_ms
        if s.entry is not None and not s.over:
            wake_ms = min(wake_ms, s.entry.created_ms + rules.entry_timeout_ms)
        self._wake_ms = wake_ms
        self._until_ms = min(wake_ms, self._bar_end_ms) if self._bar_open is not None else 0

    def _quiet_prices(self) -> tuple[Decimal, Decimal]:
        s = self.snapshot
        if s.spent or s.armed or s.crossed_ms is not None:
            return NOISY
        low, high = QUIET if s.halted else self._strategy_quiet()
        if not s.position or s.stop_price is None:
            return low, high
        return (max(low, s.stop_price), high) if s.position > 0 else (low, min(high, s.stop_price))

    def _strategy_quiet(self) -> tuple[Decimal, Decimal]:
        draft = Draft(self.snapshot, self.rules, self.last_ms, 0)
        try:
            low, high = draft.ask(lambda strategy, view: tuple(strategy.quiet(view)))
            return (low, high) if low < high else NOISY
        except (StrategyFailed, TypeError, ValueError, ArithmeticError):
            return NOISY  # it will be asked on the next tick, and halted there if it raises again

    # -- bars --------------------------------------------------------------------------------------------------------------

    def _open_bar(self, price: Decimal, at_ms: int) -> None:
        self._bar_start_ms = at_ms - (at_ms - self._bar_origin_ms) % self._bar_ms
        self._bar_end_ms = self._bar_start_ms + self._bar_ms
        self._bar_open = self._bar_low = self._bar_high = price
        self._look_ahead()

    def _close_bar(self, now_ms: int, mono_ms: int) -> None:
        assert self._bar_open is not None and self.last is not None
        bar = Bar(
            start_ms=self._bar_start_ms,
            end_ms=self._bar_end_ms,
            open=self._bar_open,
            high=self._bar_high,
            low=self._bar_low,
            close=self.last,
            whole=self._bar_start_ms >= self._listening_ms,
        )
        self._bar_open = None
        self._session_low = bar.low if self._session_low is None else min(self._session_low, bar.low)
        self._session_high = bar.high if self._session_high is None else max(self._session_high, bar.high)
        self._until_ms = 0
        self._step(BarClosed(bar=bar, now_ms=now_ms, mono_ms=mono_ms))


def _restless(s: Snapshot) -> bool:
    """Something waits for time to pass."""
    return (
        s.in_question
        or s.closing is not None
        or s.crossed_ms is not None
        or s.unprotected_ms is not None
        or any(order.retry_ms for order in s.live_orders())
        or (s.target_price is not None and s.target is None and bool(s.position))
    )


def _worth_recording(before: Snapshot, after: Snapshot) -> bool:
    """More than the price has changed."""
    if after is before:
        return False
    same = {"version": before.version, "peak": before.peak, "crossed_ms": before.crossed_ms}
    return msgspec.structs.replace(after, **same) != before
