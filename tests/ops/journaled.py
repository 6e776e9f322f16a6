"""A journaled session day for the tests of report and facts: real journal file, real machine, several symbols."""

from __future__ import annotations

from pathlib import Path

from state.clock import VirtualClock
from state.events import Acknowledged, Act, FlattenAsked
from state.journal import Journal
from state.journal_read import JournalReader
from state.reports import Reported
from tests.ops.driven import D, Trading, at


class JournaledDay:
    """Commits what its symbols decided. Symbols share one clock, so drive them in the order of time."""

    def __init__(self, dir: Path, max_entries: int = 3, can_replace: bool = True) -> None:
        self.dir = dir
        self.clock = VirtualClock(at("09:15:00"))
        self.path = dir / "journal.db"
        self.journal = Journal.open(self.path, clock=self.clock, wall=self.clock)
        self.journal.begin("practice-2026-11-20", mode="practice", account="practice", day="2026-11-20")
        self._max_entries, self._can_replace = max_entries, can_replace

    def trading(self, symbol: str) -> Trading:
        return Trading(self._max_entries, self._can_replace, symbol, self.clock)

    def commit(self, *symbols: Trading) -> None:
        works = sorted((work for symbol in symbols for work in symbol.outbox.works), key=lambda work: work.event.now_ms)
        self.journal.commit_many(works)
        for symbol in symbols:
            symbol.outbox.works.clear()

    def reader(self) -> JournalReader:
        return self.journal.reader()


def stop_out(day: Trading, price: str, after_ms: int = 60_000, fee: str = "0") -> None:
    stop = day.now.stop
    day.fill(stop, "5", price, after_ms, fee)
    day.seen(stop, Reported.FILLED, filled=D(5))


def trail(day: Trading, time: str, price: str, can_replace: bool = True) -> None:
    """A tick that ends a green bar; the venue moves the stop and shows it."""
    day.tick(time, price)
    old = day.now.stop
    assert old is not None
    if can_replace:
        day.apply(Acknowledged, 90, client_id=old.client_id, act=Act.REPLACE)
        day.seen(day.now.stop, after_ms=30, trigger_price=day.now.stop_price)
        return
    day.seen(old, Reported.CANCELLED, 50, filled=D(0))
    day.accept(day.now.stop, "moved", 20)
    day.seen(day.now.stop, after_ms=10)


def close_out(day: Trading, price: str, reason: str | None = None) -> None:
    """At the cutoff, or flattened by a person with this reason."""
    if reason is None:
        day.beat("14:45:00")
    else:
        day.apply(FlattenAsked, 1000, reason=reason)
    stop = day.now.stop
    day.seen(stop, Reported.CANCELLED, 10, filled=D(0))
    exit = day.now.exit
    day.accept(exit, "exit", 10)
    day.fill(exit, "5", price, 10)
    day.seen(exit, Reported.FILLED, filled=D(5))
