"""Facts of price and time, and what a strategy wishes because of them. First half of a decision, with `answers` and `sightings`.

Here and only here an entry is granted (`_enter`): one door, and the slot is taken before anybody is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from state.draft import Draft, StrategyFailed
from state.events import (
    BarClosed,
    Event,
    Heartbeat,
    Tick,
)
from state.levels import loss_of_a_unit, why_not_enter_at
from state.orders import ZERO, OrderType, Purpose, Side
from state.sizing import By, Sized, dearest, sized
from state.strategy import Enter, Leave, MoveStop, Pass, Wish

NOTHING = Sized(ZERO)


def _tick(draft: Draft, event: Tick) -> None:
    _watch_the_stop(draft, event.price)
    wish = _consult(draft, event.price, lambda strategy, view: strategy.on_tick(view, event.price))
    if draft.s.halted:
        return  # nobody was asked: whether the trigger still holds is not known
    if not isinstance(wish, Enter) and (draft.s.spent or draft.s.armed) and not draft.s.live_orders():
        draft.set(spent=False, armed=False)  # the trigger has lapsed


def _bar(draft: Draft, event: BarClosed) -> None:
    _consult(draft, event.bar.close, lambda strategy, view: strategy.on_bar(view, event.bar))


def _heartbeat(draft: Draft, event: Heartbeat) -> None:
    since = draft.s.crossed_ms
    if since is not None and draft.mono_ms - since >= draft.rules.unprotected_limit_ms:
        draft.close(f"stop {draft.s.stop_price} passed {draft.mono_ms - since} ms ago and not filled")


def _watch_the_stop(draft: Draft, price: Decimal) -> None:
    """Is price beyond our stop? With nothing resting there we close at once; else the venue gets a moment to do it."""
    s = draft.s
    if not s.position or s.side is None:
        return
    if s.peak is None or (price - s.peak) * s.side.sign > 0:
        draft.set(peak=price)
    if s.stop_price is None or s.closing:
        return
    if (s.stop_price - price) * s.side.sign < 0:
        if s.crossed_ms is not None:
            draft.set(crossed_ms=None)
    elif s.stop is None:
        draft.close(f"price {price} is beyond the stop {s.stop_price} and none rests at the venue")
    elif s.crossed_ms is None:
        draft.set(crossed_ms=draft.mono_ms)


def _consult(draft: Draft, price: Decimal, question: Callable[..., Wish]) -> Wish:
    """Ask the strategy, with `price` the latest it knows of."""
    if draft.s.halted:
        return None
    try:
        wish = draft.ask(question)
        _grant(draft, wish, price)
        return wish
    except StrategyFailed as failure:
        draft.halt(str(failure))
        return None


def _grant(draft: Draft, wish: Wish, price: Decimal) -> None:
    if wish is None:
        return
    if isinstance(wish, Enter):
        _enter(draft, wish, price)
    elif isinstance(wish, MoveStop):
        _trail(draft, wish, price)
    elif isinstance(wish, Leave):
        if draft.s.position:
            draft.close(wish.why)
    elif isinstance(wish, Pass):
        draft.set(why=wish.why)
    else:
        raise StrategyFailed(f"strategy {draft.rules.strategy.name} returned {wish!r:.80}")


def _enter(draft: Draft, wish: Enter, price: Decimal) -> None:
    """The one door: an entry is granted here or nowhere. `price` is the latest: where a market order would fill."""
    s, rules = draft.s, draft.rules
    if s.position or s.live_orders() or s.spent:
        return
    for_now = _why_not_now(draft)
    if for_now is not None:
        draft.set(why=for_now, armed=bool(s.blocks) and not s.over)
        return
    instrument = rules.instrument
    if not isinstance(wish.side, Side) or not isinstance(wish.type, OrderType):
        raise StrategyFailed(f"strategy {rules.strategy.name} returned {wish!r:.80}")
    for named in (wish.trigger_price, wish.limit_price):
        if named is not None:
            draft.price(named)
    trigger = None if wish.trigger_price is None else instrument.stop_trigger(wish.side, wish.trigger_price)
    limit = trigger if wish.limit_price == wish.trigger_price else _limit(draft, wish)
    denied = _why_not_priced(wish.type, trigger, limit) or why_not_enter_at(draft, wish.side, trigger or limit or price)
    size = _sized(draft, wish.side, trigger, limit, price) if denied is None else NOTHING
    denied = denied or size.why_not or instrument.why_not(size.qty, limit or trigger or price)
    if denied is not None:
        draft.set(spent=True, why=f"denied: {denied}")
        return
    why = f"{wish.why}, {size.how}" if size.how else wish.why
    draft.set(entries_used=s.entries_used + 1, side=wish.side, armed=False, why=why)
    draft.submit_new(Purpose.ENTRY, wish.type, size.qty, trigger, limit, why, side=wish.side)
    assert draft.s.entry is not None
    draft.set(trip=draft.s.entry.client_id)


def _sized(draft: Draft, side: Side, trigger: Decimal | None, limit: Decimal | None, price: Decimal) -> Sized:
    """What this entry is for, by the prices of this moment; a re-entry is sized anew."""
    size = draft.rules.size
    loss = loss_of_a_unit(draft, side, limit or trigger or price) if size.by is By.RISK else ZERO
    return sized(size, draft.rules.instrument, dearest(side, price, trigger, limit), loss)


def _limit(draft: Draft, wish: Enter) -> Decimal | None:
    return None if wish.limit_price is None else draft.rules.instrument.limit(wish.side, wish.limit_price)


def _why_not_now(draft: Draft) -> str | None:
    s, rules = draft.s, draft.rules
    if s.over or draft.now_ms >= rules.cutoff_ms:
        return "denied: after the cutoff"
    if draft.now_ms < rules.entry_from_ms:
        return "denied: before the entry window"
    if s.entries_used >= rules.max_entries:
        return f"denied: entries used {s.entries_used} of {rules.max_entries}"
    if s.blocks:
        return f"waiting: {s.blocks[0][1]}"
    return None


def _why_not_priced(type: OrderType, trigger: Decimal | None, limit: Decimal | None) -> str | None:
    if type in (OrderType.STOP, OrderType.STOP_LIMIT) and (trigger is None or trigger <= 0):
        return f"{type.value} order without a trigger price"
    if type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and (limit is None or limit <= 0):
        return f"{type.value} order without a limit price"
    return None


def _trail(draft: Draft, wish: MoveStop, price: Decimal) -> None:
    s, wanted = draft.s, draft.price(wish.price)
    if s.stop_price is None or s.side is None or not s.position or s.closing:
        return
    level = draft.rules.instrument.stop_trigger(s.side.opposite, wanted)
    if (level - s.stop_price) * s.side.sign <= 0:
        return
    if (price - level) * s.side.sign <= 0:
        draft.set(why=f"stop not moved to {level}: price is at {price} already")
        return
    draft.set(stop_price=level, why=wish.why)


RECORDERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    Tick: _tick,
    BarClosed: _bar,
    Heartbeat: _heartbeat,
}
