"""What may be so for a moment and must not last: unprotected quantity, orphans, open questions, entries off.

Owns the bounds, and since when each has been so. Pure but for that memory: it is told the time and what is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from simulation.watch_book import Book, Resting
from simulation.watch_runner import unsettled
from state.orders import Purpose
from state.rules import NO_TICKS
from state.snapshot import Snapshot

LOOK_MS = 500  # between two looks
SOON_MS = 100  # ... while something is bare
IN_ALL = 2  # bounds of peace, with trouble in between


class Bounds(msgspec.Struct, frozen=True):
    """How long things may last, in virtual monotonic ms; all but `recovery_ms` count from when there is peace to do them in.

    The polls come every 5 s and the settle window is 10 s: what no stream told is learnt by a poll, what was never answered is
    settled after the window. A stream that is up and silent is noticed after a minute, and between two logins lies up to another.
    """

    recovery_ms: int = 15_000  # from the start of a process
    bare_ms: int = 7_500  # I4: quantity without a stop or an exit at work ...
    calm_bare_ms: int = 500  # ... in a run where nothing has gone wrong yet
    notice_ms: int = 12_000  # I5, I6: until what was done by hand has been followed
    flat_ms: int = 10_000  # I8: from the cutoff
    settle_ms: int = 10_000
    converge_ms: int = 15_000  # I9, I12: until what is left over has been cleared away
    feed_ms: int = 90_000  # I12: until prices come again
    tick_ms: int = 200  # I10: between two probes of the tick thread


class Lasting(msgspec.Struct, frozen=True):
    """`key` tells it from all others. `calm`: it counts only after the last fault. No text: no violation by itself."""

    invariant: str
    symbol: str
    key: str
    text: str
    bound_ms: int
    calm: bool = False


class Patience:
    """Since when each is so. Two looks apart it counts as never interrupted."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}
        self._had: dict[str, int] = {}  # how much peace each has had since, in all
        self._looked_ms = 0

    def begin(self) -> None:
        self._since, self._had = {}, {}

    def bare(self, symbol: str, now_ms: int, is_bare: bool) -> int:
        """Told at each change, because moments count here. Since when."""
        if not is_bare:
            self._since.pop(f"I4/{symbol}", None)
            self._had.pop(f"I4/{symbol}", None)
            return now_ms
        return self._since.setdefault(f"I4/{symbol}", now_ms)

    def worn_out(
        self, found: Iterable[Lasting], now_ms: int, peace: Mapping[str, int], calm_ms: int
    ) -> list[tuple[Lasting, int]]:
        """What has lasted beyond its bound in a row, or twice that in all with trouble in between; and for how long.

        `peace`: since when there is, by key.
        """
        looked_ms, self._looked_ms = self._looked_ms, now_ms
        before, self._since = self._since, {}
        had_before, self._had = self._had, {}
        out = []
        for one in found:
            since_ms, peace_ms = before.get(one.key, now_ms), peace[one.key]
            had_ms = had_before.get(one.key, 0) + max(now_ms - max(looked_ms, since_ms, peace_ms), 0)
            self._since[one.key], self._had[one.key] = since_ms, had_ms
            in_a_row = now_ms - max(since_ms, calm_ms if one.calm else peace_ms) > one.bound_ms
            if in_a_row or (not one.calm and had_ms > IN_ALL * one.bound_ms):
                out.append((one, now_ms - since_ms))
        return out

    def next_look_ms(self, now_ms: int) -> int:
        return now_ms + (SOON_MS if any(key.startswith("I4/") for key in self._since) else LOOK_MS)


def in_the_book(book: Book, over: bool, bounds: Bounds, bare_ms: int) -> Iterator[Lasting]:
    """I4, I5, I6, I8, I9 of one symbol. `over`: the cutoff has passed."""
    symbol = book.symbol
    if bare := book.bare:
        text = f"{bare} of a position of {book.ours} without a stop or an exit at work"
        yield Lasting("I4", symbol, f"I4/{symbol}", text, bare_ms)
    if book.beyond:
        yield Lasting("I5", symbol, f"I5/{symbol}", exceeding(book), bounds.notice_ms)
    for order in book.loose_stops():
        text = f"{order.describe()} stands looser than the {book.level} there was"
        yield Lasting("I6", symbol, f"I6/{order.client_id}", text, bounds.notice_ms)
    if over and book.ours and not book.leaving:
        yield Lasting("I8", symbol, f"I8/{symbol}", "", bounds.flat_ms)
    for order in book.resting.values():
        if over if order.purpose is Purpose.ENTRY else not book.ours:
            yield Lasting("I9", symbol, f"I9/{order.client_id}", f"{order.describe()} rests on", bounds.converge_ms)


def in_the_runner(s: Snapshot, ticking: bool, bounds: Bounds) -> Iterator[Lasting]:
    """I12, from its own words about one symbol."""
    for key, text in unsettled(s, ticking):
        bound_ms = bounds.feed_ms if key in NO_TICKS else bounds.settle_ms + bounds.converge_ms
        yield Lasting("I12", s.symbol, f"I12/{s.symbol}/{key}", text, bound_ms, calm=True)


def exceeding(book: Book) -> str:
    orders = names(order for order in book.resting.values() if order.reduces)
    return f"orders to reduce exceed a position of {book.ours} by {book.beyond}: {orders}"


def names(orders: Iterable[Resting]) -> str:
    return ", ".join(order.describe() for order in orders)
