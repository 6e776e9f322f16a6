"""Who is told what: the one listener of desk, poller and feed. Turns their words into entry blocks, log lines and sweeps.

Everything here returns at once: it may be called on the tick thread. It decides nothing about orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from brokers.base import FillRow, OrderRow
from brokers.channel import Missed
from brokers.feed import NO_TICK_YET, Feed
from brokers.poller import FAILURES_BEARABLE, Poller
from brokers.reports import Reports
from state.clock import Clock
from state.commands import Alarm
from state.events import EntriesOff, EntriesOn
from state.rules import loud
from state.symbol_state import SymbolState, Work

SKEW_LIMIT_MS = 2_000  # how far our clock may be off the venue's


class Voice(Protocol):
    """The log, as far as it is needed here; never waits."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def alarm(self, text: str) -> None: ...
    def defect(self, text: str, error: BaseException) -> None: ...


class Switchboard:
    """Thread-safe. `feed` and `poller` are connected after construction, because each needs this one first."""

    def __init__(
        self, states: Mapping[str, SymbolState], clock: Clock, voice: Voice, tell_story: Callable[[Work], None], reports: Reports
    ) -> None:
        self._states = states
        self._clock = clock
        self._voice = voice
        self._tell_story = tell_story
        self._reports = reports
        self._lock = clock.threads.lock()  # guards the faults below
        self._faults = 0
        self._journal_failures = 0  # in a row
        self._defects: list[str] = []
        self._blocked: dict[str, str] = {}  # blocks of the whole account, for telling
        self.feed: Feed | None = None
        self.poller: Poller | None = None
        self.answering = True  # polls are answered, as far as we know
        self.polls = 0  # rounds of the poller, answered or not
        self._asked_on = 0  # number of the feed's connection when the sweep under way began

    # -- entries ---------------------------------------------------------------------------------------------------------

    def block(self, source: str, reason: str) -> None:
        """No entries in any symbol until `unblock`."""
        if self._blocked.get(source) != reason:
            self._blocked[source] = reason
            self._voice.info(f"entries off: {reason}")
        for symbol in self._states:
            self._block_one(symbol, source, reason)

    def unblock(self, source: str) -> None:
        if (reason := self._blocked.pop(source, None)) is not None:
            still = "; ".join(self._blocked.values())
            self._voice.info(f"entries on again after: {reason}" + (f"; still off: {still}" if still else ""))
        for symbol, state in self._states.items():
            if any(block[0] == source for block in state.snapshot.blocks):
                self._unblock_one(symbol, source)

    def _block_one(self, symbol: str, source: str, reason: str) -> None:
        if (source, reason) not in self._states[symbol].snapshot.blocks:
            now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
            self._states[symbol].apply(EntriesOff(source=source, reason=reason, **now))

    def _unblock_one(self, symbol: str, source: str) -> None:
        now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
        self._states[symbol].apply(EntriesOn(source=source, **now))

    # -- what has gone wrong, for the report -------------------------------------------------------------------------------

    @property
    def faults(self) -> int:
        with self._lock:
            return self._faults

    @property
    def defects(self) -> int:
        with self._lock:
            return len(self._defects)

    def _fault(self) -> None:
        with self._lock:
            self._faults += 1

    def defect(self, where: str, error: BaseException) -> None:
        """A defect of ours: entries stop everywhere, protection goes on, a person is told."""
        with self._lock:
            first = not self._defects
            self._defects.append(where)
        self._voice.defect(f"defect in {where}", error)
        if first:
            self.block("defect", f"a defect in {where}")

    # -- desk ------------------------------------------------------------------------------------------------------------

    def carried_out(self, work: Work) -> None:
        if any(isinstance(command, Alarm) for command in work.commands):
            self._fault()
        self._tell_story(work)

    def alarm(self, text: str) -> None:
        self._fault()
        self._voice.alarm(text)

    def fatal(self, reason: str) -> None:
        self._fault()
        if "broker" not in self._blocked:  # one alarm for as long as it lasts
            self._voice.alarm(f"the broker will not serve us: {reason}; no entries, protection goes on")
        self.block("broker", "the broker refuses us")

    def journal(self, failed: str | None) -> None:
        if failed is None:
            self._journal_failures = 0
            self._voice.warning("journal: written again, nothing was lost")
            self.unblock("journal")
            return
        self._fault()
        self._journal_failures += 1
        if loud(self._journal_failures):
            self._voice.alarm(f"journal: {failed}; no entries, exits go on and are kept in memory")
        self.block("journal", "the journal cannot be written")

    # -- poller ----------------------------------------------------------------------------------------------------------

    def sweeping(self) -> None:
        self._asked_on = self.feed.connection if self.feed is not None else 0

    def compared(self, ahead_ms: int | None) -> None:
        """This machine's clock and the venue's. With the time wrong, no window, cutoff or age of a price can be trusted."""
        if ahead_ms is None or abs(ahead_ms) <= SKEW_LIMIT_MS:
            self.unblock("clock")
            return
        if "clock" not in self._blocked:  # one line for as long as it lasts
            self._fault()
            off = f"at least {Decimal(abs(ahead_ms)) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} the venue's"
            self._voice.alarm(f"this machine's clock is {off}: no entries until it is set; protection goes on")
        self.block("clock", "this machine's clock and the venue's differ")

    def swept(self) -> None:
        self.polls += 1
        self.answering = True
        self.unblock("poll")
        self.unblock("broker")
        if self.feed is not None:
            self.feed.release(self._asked_on)

    def poll_failed(self, failures: int, reason: str) -> None:
        self.polls += 1
        self._fault()
        self._voice.warning(f"poll failed {failures} times in a row: {reason}")
        if failures == FAILURES_BEARABLE:
            self.answering = False
            self._voice.alarm(f"the broker has not answered {failures} polls: no entries until it does")
            self.block("poll", "the broker does not answer polls")

    # -- feed ------------------------------------------------------------------------------------------------------------

    def order_update(self, row: OrderRow) -> None:
        if self._reports.order_update(row, self._clock.monotonic_ms(), "stream"):
            self.order_unclear()

    def fill(self, row: FillRow) -> None:
        self._reports.fill(row, "stream")

    def order_unclear(self) -> None:
        if self.poller is not None:
            self.poller.look_soon()

    def venue_open(self, why_not: str | None) -> None:
        """By the venue's own word. What rests there stays, and exits keep being tried."""
        if why_not is None:
            self.unblock("venue")
        else:
            self.block("venue", why_not)

    def connected(self) -> None:
        self._voice.info("feed connected; asking for orders, fills and positions before the first tick decides")
        if self.poller is not None:
            self.poller.soon()

    def disconnected(self, reason: str) -> None:
        self._fault()
        self._voice.warning(f"feed disconnected: {reason}")

    def orders_stream(self, what: str) -> None:
        """A word about the stream of orders: either way the books know what it has not told."""
        self._voice.info(f"order updates: {what}")
        self.order_unclear()

    def entries_off(self, symbol: str, reason: str) -> None:
        self._block_one(symbol, "start" if reason == NO_TICK_YET else "feed", reason)

    def entries_on(self, symbol: str) -> None:
        for source, _ in self._states[symbol].snapshot.blocks:
            if source in ("start", "feed"):
                self._unblock_one(symbol, source)

    def missed(self, symbol: str, missed: Missed) -> None:
        self._states[symbol].missed(missed.low, missed.high, missed.last_ms)


class OrderNews:
    """What the stream of orders alone tells, where it is a connection of its own: entries do not hang on it, polling goes on."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._switchboard = switchboard
        self.order_update = switchboard.order_update
        self.fill = switchboard.fill
        self.order_unclear = switchboard.order_unclear
        self.venue_open = switchboard.venue_open
        self.alarm = switchboard.alarm

    def connected(self) -> None:
        self._switchboard.orders_stream("connected; asking for what it has not told")

    def disconnected(self, reason: str) -> None:
        self._switchboard.orders_stream(f"lost, polling takes over: {reason}")

    def entries_off(self, symbol: str, reason: str) -> None:
        """It carries no prices."""

    def entries_on(self, symbol: str) -> None:
        """It carries no prices."""

    def missed(self, symbol: str, missed: Missed) -> None:
        """It carries no prices."""
