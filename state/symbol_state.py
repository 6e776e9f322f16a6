"""The one locked door to a symbol: `SymbolState` keeps its snapshot, runs `decide`, and hands the commands to the outbox.

Under the RLock happen `decide` and `put`, nothing else: no broker call, no commit, no log line. Coming in again while inside is
refused (an RLock would hide it). Prices between which nothing can happen never get as far as `decide`.

A strategy that does not come back keeps its thread and the lock with it. Nobody waits for that: the decision is abandoned, the
lock left to the thread that has it, and the symbol goes on under a new one, halted and without its strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from state.clock import Clock
from state.commands import Command
from state.draft import Draft, StrategyFailed
from state.events import BarClosed, Event, HaltAsked, Heartbeat, Tick
from state.invariants import InvariantBroken, checked
from state.machine import decide
from state.rules import Rules
from state.snapshot import Snapshot
from state.strategy import Bar, Silenced
from state.threads import Lock

NEVER_MS = 1 << 62
BAR_MS = 900_000  # for people's highs and lows when the strategy wants no bars
BAR_GRACE_MS = 2_000  # a heartbeat waits this long for the last ticks of a bar that has ended
NOISY = (Decimal(1), Decimal(0))  # no price is strictly between: every tick is decided
QUIET = (Decimal(0), Decimal("Infinity"))
WAIT_S = 0.1  # for the lock, before a look at who has it
PATIENCE_MS = 2_000  # a strategy that has not come back for so long is left behind


Decider = Callable[[Snapshot, Event, Rules], tuple[Snapshot, Sequence[Command]]]
Asking = list[tuple[Event | None, str]]  # what was asked and the thread that asks


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


class LeftBehind(Exception):
    """The strategy has come back, but somebody else has gone on without it: nothing of this visit counts."""


class Reentered(RuntimeError):
    """A caller came back into a SymbolState it was still inside of: a defect of ours."""


class SymbolState:
    """Thread-safe. `apply` and `tick` may be called from any thread; `snapshot` is a plain read of the latest value."""

    __slots__ = (
        "_asking",
        "_bar_end_ms",
        "_bar_grace_ms",
        "_bar_high",
        "_bar_low",
        "_bar_ms",
        "_bar_open",
        "_bar_origin_ms",
        "_bar_start_ms",
        "_broken",
        "_clock",
        "_defects",
        "_high",
        "_inside",
        "_listening_ms",
        "_lock",
        "_low",
        "_machine",
        "_on_defect",
        "_outbox",
        "_restless",
        "_session_high",
        "_session_low",
        "_until_ms",
        "_wake_ms",
        "_watched",
        "_watched_ms",
        "_watching",
        "kept",
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
        decider: Decider = decide,
    ) -> None:
        self._lock = clock.threads.rlock()  # guards everything below
        self._asking: Asking = []  # empty, or what the strategy may be deciding now: whoever takes it out has the symbol
        self._watching = clock.threads.lock()  # guards the next three and the change of `_lock`; never waited for inside of it
        self._watched: Asking = []
        self._watched_ms = 0
        self.kept: str | None = None  # name of the thread that was left behind in the strategy, until it comes back
        self._inside: tuple[Event] | None = None
        self.snapshot = snapshot
        self.rules = rules
        self._outbox = outbox
        self._clock = clock
        self._on_defect = on_defect
        self._machine = decider
        self._broken: set[str] = set()  # invariants that a person has been told of
        self._defects: tuple[Exception, ...] = ()  # of this visit; told when the lock has been left
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
        lock = self._enter()
        try:
            if self._low < price < self._high and at_ms < self._until_ms:
                if price < self._bar_low:
                    self._bar_low = price
                elif price > self._bar_high:
                    self._bar_high = price
                self.last = price
                self.last_ms = at_ms
                return
            self._decide_tick(price, at_ms)
            defects = self._leave()
        except LeftBehind:
            return self._back_late()
        finally:
            lock.release()
        self._tell(defects)

    # -- the door --------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Record one event and put its consequences on the outbox."""
        self._visit(self._enter(), lambda: self._step(event))

    def heartbeat(self, now_ms: int, mono_ms: int) -> None:
        """Time has passed: closes bars by the clock and wakes whatever waits. Cheap while nothing can happen.

        A symbol that somebody stays inside of is passed over: the others must hear the time, and the next beat comes soon.
        """
        lock = self._try()
        if lock is not None:
            self._visit(lock, lambda: self._beat(now_ms, mono_ms))

    def missed(self, low: Decimal, high: Decimal, at_ms: int) -> None:
        """Prices that were seen but not decided on (a held or lagging feed): they belong to the bar all the same."""
        self._visit(self._enter(), lambda: self._miss(low, high, at_ms))

    def range(self) -> tuple[Decimal, Decimal] | None:
        """Lowest and highest price seen in this session; None before the first tick."""
        lock = self._enter()
        try:
            lows = [x for x in (self._session_low, self._bar_low if self._bar_open is not None else None) if x is not None]
            highs = [x for x in (self._session_high, self._bar_high if self._bar_open is not None else None) if x is not None]
            return (min(lows), max(highs)) if lows and highs else None
        finally:
            lock.release()

    def watch(self) -> None:
        """From outside, by any thread: a strategy that two looks some time apart find deciding the same thing is left behind."""
        with self._watching:
            asking, mono_ms = self._asking, self._clock.monotonic_ms()
            if not asking or asking is not self._watched:
                self._watched, self._watched_ms = asking, mono_ms
                return
            if mono_ms - self._watched_ms < PATIENCE_MS:
                return
            old, lock = self._lock, self._clock.threads.rlock()
            lock.acquire()
            self._lock = lock
            try:
                event, self.kept = asking.pop()
            except IndexError:  # it has come back this moment
                self._lock = old
                lock.release()
                return
        self._visit(lock, lambda: self._go_on(event))

    def _try(self) -> Lock | None:
        """Take the lock, if it can be had soon."""
        lock = self._lock
        if not lock.acquire(True, WAIT_S):
            self.watch()
        elif lock is self._lock:
            return lock
        else:
            lock.release()  # of a visit that was left behind
        return None

    def _enter(self) -> Lock:
        while (lock := self._try()) is None:
            pass  # it was waited for, and whoever has it was looked at
        return lock

    def _visit(self, lock: Lock, act: Callable[[], None]) -> None:
        """With the lock just taken."""
        try:
            act()
            defects = self._leave()
        except LeftBehind:
            return self._back_late()
        finally:
            lock.release()
        self._tell(defects)

    def _back_late(self) -> None:
        with self._watching:
            self.kept = None

    def _tell(self, defects: tuple[Exception, ...]) -> None:
        """Defects of ours: the snapshot stays as it was, a person is told. Without the lock: telling may take its time."""
        for error in defects:
            assert self._on_defect is not None
            self._on_defect(self.snapshot.symbol, error)

    # -- below: only with the lock held ------------------------------------------------------------------------------------

    def _beat(self, now_ms: int, mono_ms: int) -> None:
        if self._bar_open is not None and now_ms >= self._bar_end_ms + self._bar_grace_ms:
            self._close_bar(now_ms, mono_ms)
        if self._restless or now_ms >= self._wake_ms:
            self._step(Heartbeat(now_ms=now_ms, mono_ms=mono_ms))

    def _miss(self, low: Decimal, high: Decimal, at_ms: int) -> None:
        if self._bar_open is not None and self._bar_start_ms <= at_ms < self._bar_end_ms:
            self._bar_low = min(self._bar_low, low)
            self._bar_high = max(self._bar_high, high)

    def _go_on(self, event: Event | None) -> None:
        """Without the strategy: halted first, then the event that it was asked about, whose fact must not be lost."""
        name = self.rules.strategy.name
        self.rules = msgspec.structs.replace(self.rules, strategy=Silenced(self.rules.strategy))
        self._inside = None
        reason = f"strategy {name} has not come back for {PATIENCE_MS // 1000} s: it is not asked again in this session"
        self._step(HaltAsked(reason=reason, mono_ms=self._clock.monotonic_ms(), now_ms=self._clock.now_ms()))
        if event is not None:
            self._step(event)

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
        self._inside = inside = (event,)
        try:
            self._decide(event)
        except LeftBehind:
            raise
        except Exception as error:
            if self._on_defect is None:
                raise
            self._defects = (*self._defects, error)
        finally:
            if self._inside is inside:  # else it is another thread's by now
                self._inside = None

    def _leave(self) -> tuple[Exception, ...]:
        """What to tell after this visit."""
        defects = self._defects
        if defects:
            self._defects = ()
        return defects

    def _decide(self, event: Event) -> None:
        before, wrong = self.snapshot, None
        after, commands = self._decider(before, event, self.rules)
        if commands or _worth_recording(before, after):
            (after, commands), wrong = checked(before, after, commands, self.rules)
            self.snapshot = after
            self._outbox.put(after.symbol, Work(self._clock.threads.current(), event, before, after, tuple(commands)))
        else:
            self.snapshot = after
        if after is not before or event.now_ms >= self._wake_ms:
            self._look_ahead()
        if wrong is not None and wrong[:2] not in self._broken:  # each of them is told once
            self._broken.add(wrong[:2])
            raise InvariantBroken(wrong)

    def _decider(self, before: Snapshot, event: Event, rules: Rules) -> tuple[Snapshot, Sequence[Command]]:
        asking = self._ask(event)
        try:
            return self._machine(before, event, rules)
        finally:
            _come_back(asking)

    def _ask(self, event: Event | None) -> Asking:
        """The strategy is about to be asked; `event` is decided anew should it not come back."""
        asking = self._asking = [(event, self._clock.threads.current())]
        return asking

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
        draft, asking = Draft(self.snapshot, self.rules, self.last_ms, 0), self._ask(None)
        try:
            low, high = draft.ask(lambda strategy, view: tuple(strategy.quiet(view)))
            return (low, high) if low < high else NOISY
        except (StrategyFailed, TypeError, ValueError, ArithmeticError):
            return NOISY  # it will be asked on the next tick, and halted there if it raises again
        finally:
            _come_back(asking)

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


def _come_back(asking: Asking) -> None:
    """Whoever takes it out first goes on: this thread, or one that has waited too long for it."""
    try:
        asking.pop()
    except IndexError:
        raise LeftBehind from None


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
