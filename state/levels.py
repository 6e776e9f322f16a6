"""Where the protective stop belongs, and whether that leaves it room: asked before an entry is granted and when it has filled.

Pure. It places nothing and closes nothing: `wishes` denies an entry without room, `machine` closes a position without it.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from state.draft import Draft
from state.orders import Side
from state.sizing import By
from state.strategy import View


def stop_level(draft: Draft, view: View, mirrored: bool = False) -> Decimal:
    """The strategy's level for this view, on the grid. `mirrored`: the same distance on the side that it never meant."""
    assert view.side is not None
    level = draft.price(draft.ask(lambda strategy, view: strategy.stop_price(view), view))
    if mirrored and (view.average - level) * view.side.sign < 0:
        level = view.average + (view.average - level)
    return draft.rules.instrument.stop_trigger(view.side.opposite, level)


def why_no_room(draft: Draft, view: View, level: Decimal) -> str | None:
    """A stop needs a price of its own, at least one tick on the losing side."""
    assert view.side is not None
    if level > 0 and (view.average - level) * view.side.sign >= draft.rules.instrument.tick_size:
        return None
    return f"stop {level} is not on the losing side of {view.average}"


def why_not_enter_at(draft: Draft, side: Side, price: Decimal) -> str | None:
    """Would a fill at this price leave room for its stop?"""
    view = _as_if_held(draft, side, price)
    return why_no_room(draft, view, stop_level(draft, view))


def loss_of_a_unit(draft: Draft, side: Side, price: Decimal) -> Decimal:
    """Between a fill at this price and its stop; not above 0 where the stop has no room."""
    view = _as_if_held(draft, side, price)
    return (price - stop_level(draft, view)) * side.sign


def _as_if_held(draft: Draft, side: Side, price: Decimal) -> View:
    """What the strategy would see if it had been entered already; of a size in money, the smallest there is."""
    size = draft.rules.size
    qty = size.amount if size.by is By.QTY else draft.rules.instrument.least
    return replace(draft.view(), position=qty * side.sign, average=price, side=side, stop_price=None, peak=None)
