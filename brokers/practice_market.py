"""A made-up market for the default practice session: one deterministic price path per symbol, each telling one story.

Owns the paths and nothing else; the strategy it is made for is 80-20 (DESIGN, section 10). Equal symbols give equal ticks on
every machine: the noise comes from a checksum, not from a random generator.

The session is played up to 300 times as fast as life, over sockets, on loaded machines. So every decisive level is held for
at least five session minutes (a second of real time) before the next decisive move.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple
from zlib import crc32

import msgspec

from brokers.tape import TapeTick
from state.instrument import Instrument

TICK_EVERY_MS = 4_000
_MINUTE_MS = 60_000
_TO_THE_CLOSE = 100_000.0  # minutes: longer than any session
_START = 12  # ticks above the entry at the open


class PracticeSymbol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the market must know of one setup. No story: one is given by its place in the list, all different while they last.

    A trigger above the entry is a short setup and gets the mirrored path.
    """

    symbol: str
    entry_price: Decimal
    trigger_price: Decimal
    tick_size: Decimal
    qty: Decimal
    lot_size: Decimal = Decimal(1)
    stop_ticks: int = 20
    story: str = ""


class Leg(NamedTuple):
    """A stretch of the path, in ticks above the entry: from `start` to `end`, give or take `noise`; the first tick is exact.

    `available` bounds what the first tick can fill.
    """

    minutes: float
    start: int
    end: int
    noise: int = 1
    available: Decimal | None = None


class Plan(NamedTuple):
    """The levels of one setup, in ticks above the entry; and the two parts of a fill that comes in parts."""

    trigger: int  # at or below 0
    stop: int  # below 0
    parts: tuple[Decimal, Decimal | None]


def market(symbols: Sequence[PracticeSymbol], open_ms: int, close_ms: int) -> Iterator[TapeTick]:
    """The ticks of all symbols from open to close, merged by time. Raises ValueError for a story nobody knows."""
    stories = assign_stories(symbols)
    paths = [_path(symbol, STORIES[story], open_ms, close_ms) for symbol, story in zip(symbols, stories, strict=True)]
    return heapq.merge(*paths, key=attrgetter("at_ms"))


def assign_stories(symbols: Sequence[PracticeSymbol]) -> list[str]:
    """The story of each symbol: the one it names, else the first that is not told yet; the lively ones come first."""
    unknown = sorted({symbol.story for symbol in symbols} - STORIES.keys() - {""})
    if unknown:
        raise ValueError(f"no such story: {', '.join(unknown)}; there are {', '.join(STORIES)}")
    untold = [story for story in STORIES if story not in {symbol.story for symbol in symbols}]
    chosen = []
    for number, symbol in enumerate(symbols):
        story = symbol.story or (untold[0] if untold else list(STORIES)[number % len(STORIES)])
        if story in untold:
            untold.remove(story)
        chosen.append(story)
    return chosen


def previous_close(symbol: PracticeSymbol) -> Decimal:
    """Where the setup day closed: a little away from the entry, where the path starts."""
    return _price(symbol, _START)


def _trail(plan: Plan) -> list[Leg]:
    """Arms, fills, trends for two hours, is stopped out by the trailed stop."""
    return [*_arm(plan, 14), Leg(7, 0, 0), Leg(9, 0, 10), *_trend(10, 120), Leg(_TO_THE_CLOSE, 90, 60, 2)]


def _reentry(plan: Plan) -> list[Leg]:
    """Stopped out once, which arms it again; the second trip is trailed out."""
    loss = plan.stop - 3
    first = [*_arm(plan, 11), Leg(6, 0, 0), Leg(1, 0, loss, 0), Leg(6, loss, loss)]
    second = [Leg(7, 0, 0), Leg(14, 0, 12), *_trend(12, 90), Leg(_TO_THE_CLOSE, 65, 80, 2)]
    return first + second


def _three_losses(plan: Plan) -> list[Leg]:
    """Three entries, three losses, then the trigger a fourth time inside the window."""
    loss = plan.stop - 3
    trip = [Leg(6, 0, 0), Leg(1, 0, loss, 0), Leg(5, loss, loss)]
    after = [Leg(6, 3, 3), Leg(5, plan.trigger - 3, plan.trigger - 3), Leg(12, 2, 15), Leg(_TO_THE_CLOSE, 15, 25, 3)]
    return [*_arm(plan, 10), *trip, *trip, *trip, *after]


def _partial(plan: Plan) -> list[Leg]:
    """The entry fills in two parts, five minutes apart; a shorter trend follows."""
    first, rest = plan.parts
    one_tick = TICK_EVERY_MS / _MINUTE_MS
    fills = [Leg(one_tick, 0, 0, 0, first), Leg(5, 2, 2), Leg(one_tick, 0, 0, 0, rest), Leg(6, 0, 0)]
    return [*_arm(plan, 13), *fills, Leg(6, 0, 8), *_trend(8, 90), Leg(_TO_THE_CLOSE, 60, 75, 2)]


def _cutoff(plan: Plan) -> list[Leg]:
    """Fills and drifts up so slowly and steadily that no stop is hit: held until the cutoff."""
    return [*_arm(plan, 14), Leg(7, 0, 0), Leg(309, 0, 60), Leg(_TO_THE_CLOSE, 60, 60)]


def _never(plan: Plan) -> list[Leg]:
    """Comes near, and never to the trigger."""
    near = plan.trigger + 3
    return [Leg(20, _START, near), Leg(40, near, 15), Leg(60, 15, near), Leg(90, near, 30, 2), Leg(_TO_THE_CLOSE, 30, 20, 2)]


def _late(plan: Plan) -> list[Leg]:
    """At the trigger only when the window (60 minutes) is over, and well above the entry after that."""
    dip = plan.trigger - 3
    return [Leg(66, _START, 6, 2), Leg(8, dip, dip), Leg(10, 0, 0), Leg(60, 0, 30), Leg(_TO_THE_CLOSE, 30, 40, 2)]


def _jump(plan: Plan) -> list[Leg]:
    """Armed; then the price jumps over the limit and never comes back."""
    return [*_arm(plan, 14), Leg(30, 6, 9, 2), Leg(90, 9, 45, 2), Leg(_TO_THE_CLOSE, 45, 50, 2)]


STORIES: dict[str, Callable[[Plan], list[Leg]]] = {
    "trail": _trail,
    "reentry": _reentry,
    "three_losses": _three_losses,
    "partial": _partial,
    "cutoff": _cutoff,
    "never": _never,
    "late": _late,
    "jump": _jump,
}


def _arm(plan: Plan, until_minute: int) -> list[Leg]:
    """From the open to six minutes at the trigger, which end at `until_minute`."""
    approach = until_minute - 6
    near = plan.trigger + 3
    return [Leg(approach / 2, _START, _START), Leg(approach / 2, _START, near), Leg(6, plan.trigger - 2, plan.trigger - 2)]


def _trend(start: int, minutes: int) -> list[Leg]:
    """Up by 15 ticks a bar, so that every bar is green and no later low reaches its trail; a top; down through the stop."""
    top = start + minutes
    return [Leg(minutes, start, top, 2), Leg(8, top, top, 2), Leg(10, top, top - 45), Leg(5, top - 45, top - 45)]


def _plan(symbol: PracticeSymbol) -> Plan:
    gap = abs(symbol.entry_price - symbol.trigger_price) / symbol.tick_size
    instrument = Instrument(symbol.symbol, "", symbol.tick_size, symbol.lot_size)
    first = max(instrument.quantity_down(symbol.qty * 2 / 5), symbol.lot_size)
    rest = symbol.qty - first
    return Plan(-int(gap), -symbol.stop_ticks, (first, rest if rest > 0 else None))


def _path(symbol: PracticeSymbol, story: Callable[[Plan], list[Leg]], open_ms: int, close_ms: int) -> Iterator[TapeTick]:
    seed = symbol.symbol.encode()
    at_ms = open_ms + crc32(seed) % TICK_EVERY_MS
    begin_ms = open_ms
    for leg in story(_plan(symbol)):
        end_ms = begin_ms + round(leg.minutes * _MINUTE_MS)
        span_ms = min(end_ms, max(close_ms, begin_ms + 1)) - begin_ms
        first = True
        while at_ms < min(end_ms, close_ms):
            offset = leg.start + (leg.end - leg.start) * (at_ms - begin_ms) // span_ms
            if not first:
                offset += crc32(seed + str(at_ms - open_ms).encode()) % (2 * leg.noise + 1) - leg.noise
            yield TapeTick(at_ms, symbol.symbol, _price(symbol, offset), available=leg.available if first else None)
            at_ms += TICK_EVERY_MS
            first = False
        begin_ms = end_ms


def _price(symbol: PracticeSymbol, offset: int) -> Decimal:
    sign = 1 if symbol.trigger_price <= symbol.entry_price else -1
    grid = Instrument(symbol.symbol, "", symbol.tick_size).floor(symbol.entry_price)
    return max(grid + symbol.tick_size * offset * sign, symbol.tick_size)
