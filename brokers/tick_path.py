"""From a tick to its sink: the way of every price through its gate, and whether it may cause entries.

Owns each symbol's gate, last price, age and faults, and the counters. Touches no socket, never decides on a price, never
queues a tick: a tick is handled on the thread that reads it, or not at all.

A tick older than `late_ms` decides nothing (FEE-12): it moves the last price, and its high and low are kept and told through
`missed` before the next tick on time goes to the sink. The same is done with held ticks. A tick from the future is taken as of
now; a tick without a time is refused, unless the feed is declared untimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from brokers.channel import NEVER_MS, Cause, Channel, EntrySwitch, FeedListener, Limits, Sink, names
from brokers.dialect import Snapshot, Tick
from state.clock import Clock

STAMP_EVERY = 16  # ticks, a power of 2: a slow sink must not make the clock of the lateness check stand still


class TickPath:
    """`tick`, `stamp`, `snapshot` and `down` belong to the tick thread; the rest may be called by any and returns at once."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        listener: FeedListener,
        clock: Clock,
        limits: Limits,
        references: Mapping[str, Decimal],
        bands: Mapping[str, tuple[Decimal, Decimal]],
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._limits = limits
        self.channels = {
            symbol: Channel(symbol, sink, references.get(symbol), limits.jump, bands.get(symbol))
            for symbol, sink in sinks.items()
        }
        self.entries = EntrySwitch(listener, clock.threads)
        self.holding = True
        self._late_ms = round(limits.late_ms * max(1.0, clock.speed))
        self._ticks = 0
        self._counts: dict[str, int] = {}
        self._said: set[str] = set()
        self.stamp()

    def tick(self, tick: Tick) -> None:
        """Must cost almost nothing: one lookup, the time, the gate, the sink."""
        channel = self.channels.get(tick.symbol)
        if channel is None:
            return self.count("noise: unknown symbol")
        price, at_ms = tick.price, tick.at_ms
        if at_ms is None or not self._oldest_ms <= at_ms <= self._newest_ms:
            at_ms = self._time_instead(channel, price, at_ms)
            if at_ms is None:
                return None
        if channel.judge(price, at_ms) is not None:
            return None
        channel.heard_ms = self.now_mono_ms
        self._ticks = ticks = self._ticks + 1
        try:
            if channel.attention:
                self._deliver_with_care(channel, price, at_ms)
            else:
                channel.sink(price, at_ms)
        except Exception as error:  # whatever it is, the other symbols need this thread (FEE-11)
            self._fault(channel, error)
        if not ticks & STAMP_EVERY - 1:
            self.stamp()

    def _time_instead(self, channel: Channel, price: Decimal, at_ms: int | None) -> int | None:
        """The time to use for a tick whose own is missing or not of now; None when it is not to be delivered."""
        if at_ms is None and not self._limits.untimed:
            self.count("refused: no time")
            self.say_once("feed: ticks come without a time and the feed is not declared untimed: they are not used")
        elif at_ms is None:
            return self._now_ms
        elif at_ms > self._newest_ms:
            self.count("future")
            self.say_once(
                f"feed: {channel.symbol} has a tick {at_ms - self._now_ms} ms in the future: is this machine's clock right?"
            )
            return self._now_ms
        elif channel.judge(price, at_ms) is None:
            self.count("late")
            channel.late_ms = self.now_mono_ms
            channel.miss(price, at_ms)
        return None

    def _deliver_with_care(self, channel: Channel, price: Decimal, at_ms: int) -> None:
        """The first tick after something was not as it should be."""
        if self.holding:
            self.count("held")
            channel.miss(price, at_ms)
            return
        self.entries.cured(channel)
        missed, channel.missed = channel.missed, None
        if missed is not None:
            self._listener.missed(channel.symbol, missed)
        channel.sink(price, at_ms)
        channel.faults = 0

    def _fault(self, channel: Channel, error: Exception) -> None:
        self.count("faults")
        channel.faults += 1
        channel.attention = True
        if channel.faults > self._limits.faults:
            return
        self._listener.alarm(f"{channel.symbol}: a tick could not be handled: {type(error).__name__}: {error}")
        if channel.faults == self._limits.faults:
            self.entries.off(channel, Cause.FAULTY, f"{channel.faults} ticks in a row could not be handled")

    def stamp(self) -> None:
        """All ticks of one read have come at one time, so the clocks are asked once per read."""
        self.now_mono_ms = self._clock.monotonic_ms()
        self._now_ms = now_ms = self._clock.now_ms()
        self._oldest_ms, self._newest_ms = now_ms - self._late_ms, now_ms + self._late_ms

    def down(self, reason: str) -> None:
        """The connection has ended, or there never was one: no entries until a tick on time."""
        for channel in self.channels.values():
            channel.alarmed = False
            self.entries.off(channel, Cause.DOWN, reason)

    def snapshot(self, snapshot: Snapshot) -> None:
        self.count("snapshots")
        if snapshot.symbol in self.channels:
            self.quoted(snapshot.symbol, snapshot.price)

    def last(self, symbol: str) -> tuple[Decimal, int, int] | None:
        """Price, its session time, and how many milliseconds ago it came; None before the first one."""
        channel = self.channels[symbol]
        came_ms, price = max(channel.heard_ms, channel.late_ms), channel.price
        if price is None or came_ms == NEVER_MS:
            return None
        return price, channel.at_ms, self._clock.monotonic_ms() - came_ms

    def quoted(self, symbol: str, price: Decimal) -> None:
        """A price from another source, which confirms a jump that is near it (FEE-06)."""
        self.channels[symbol].quote = price

    def counts(self) -> dict[str, int]:
        """`ticks` are good and on time; `held` of them were not delivered, `late` and "refused: why" come on top."""
        counts = {"ticks": self._ticks, "late": 0, "held": 0, "faults": 0} | self._counts
        for channel in self.channels.values():
            for refusal, count in dict(channel.refused).items():
                key = f"refused: {refusal.value}"
                counts[key] = counts.get(key, 0) + count
        return counts

    def newly_stale(self, base_ms: int, now_ms: int) -> list[str]:
        """Turns off the entries of symbols without a tick on time for the age limit, counted from `base_ms` at the earliest."""
        stale, untold = [], []
        for channel in self.channels.values():
            age_ms = now_ms - max(channel.heard_ms, base_ms)
            if age_ms < self._limits.age_ms or Cause.STALE in channel.causes:
                continue
            self.entries.off(channel, Cause.STALE, f"no tick on time for {age_ms // 1000} s")
            stale.append(channel.symbol)
            if not channel.alarmed:
                channel.alarmed = True
                untold.append(channel.symbol)
        if untold:
            self._listener.alarm(f"feed: stale, no tick on time for {self._limits.age_ms // 1000} s: {names(untold)}")
        return stale

    def seen(self) -> int:
        """Ticks of known symbols so far, whatever became of them."""
        return self._ticks + sum(self._counts.get(name, 0) for name in ("late", "refused: no time"))

    def count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1

    def say_once(self, text: str) -> None:
        """Once until a stable connection has ended. At most a hundred different texts."""
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self._listener.alarm(text)

    def say_afresh(self) -> None:
        self._said.clear()
