"""What the machine of the model check is told: limits, and a strategy that wants whatever the price says."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

SETTLE_MS = 9_000  # three heartbeats; nothing unanswered arrives later than two
LEVEL_MS = 1_000_000  # session time moves in levels: an entry of one level has timed out on the next


class Rulebook(NamedTuple):
    """The part of a configuration that the machine is told."""

    short: bool = False
    qty: int = 1
    can_replace: bool = True
    target: bool = False
    max_entries: int = 1
    cutoff_level: int | None = None
    max_retries: int = 1
    entry_timeout_levels: int = 1


def price(book: Rulebook, long_price: int) -> int:
    """Prices are written for the long side; the short side is their mirror image in 100."""
    return 200 - long_price if book.short else long_price


ENTER, LAPSE, TRAIL, FURTHER, LEAVE, GAP, LOOSEN = 101, 102, 103, 104, 105, 95, 106  # ticks that mean something, long side
STOP_AT, TRAIL_TO, FURTHER_TO, LOOSEN_TO, TARGET_AT = 96, 98, 99, 94, 108


def make_rules(core: SimpleNamespace, book: Rulebook) -> Any:
    def at(long_price: int) -> Decimal:
        return Decimal(price(book, long_price))

    side = core.orders.Side.SELL if book.short else core.orders.Side.BUY
    words = core.strategy
    enter = words.Enter(side=side, type=core.orders.OrderType.STOP_LIMIT, why="", limit_price=at(ENTER), trigger_price=at(ENTER))
    wishes = {
        at(ENTER): enter,
        at(TRAIL): words.MoveStop(price=at(TRAIL_TO), why=""),
        at(FURTHER): words.MoveStop(price=at(FURTHER_TO), why=""),
        at(LOOSEN): words.MoveStop(price=at(LOOSEN_TO), why=""),
        at(LEAVE): words.Leave(why="leave"),
    }

    class Scripted(core.strategy.Strategy):  # type: ignore[misc, name-defined]
        """Wants whatever the price says, always: only the machine holds it back."""

        name = "scripted"

        def __init__(self) -> None:
            pass

        def on_tick(self, view: Any, price: Decimal) -> Any:
            return wishes.get(price)

        def stop_price(self, view: Any) -> Decimal:
            return at(STOP_AT)

        def target_price(self, view: Any) -> Decimal | None:
            return at(TARGET_AT) if book.target else None

    return core.rules.Rules(
        instrument=core.instrument.Instrument(symbol="A", exchange="X", tick_size=Decimal(1)),
        strategy=Scripted(),
        size=core.sizing.fixed(Decimal(book.qty)),
        day="d",
        entry_from_ms=0,
        cutoff_ms=10**12 if book.cutoff_level is None else book.cutoff_level * LEVEL_MS,
        max_entries=book.max_entries,
        max_retries=book.max_retries,
        entry_timeout_ms=LEVEL_MS * book.entry_timeout_levels,
        can_replace=book.can_replace,
        settle_ms=SETTLE_MS,
    )
