"""The story of the day: what a trader reads about one decision. Owns the words of the log's lines.

Pure: a `Work` in, lines out. It compares the snapshots before and after and says what changed, why, and for which order; what
changes nothing a trader cares about gives no line. A stop is said to have moved only once the venue's own row shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from ops.words import Line, number, signed, thread_word
from state.commands import Alarm
from state.events import (
    Accepted,
    Act,
    BarClosed,
    FillSeen,
    NotSent,
    OrderSeen,
    ProvedAbsent,
    Restarted,
    Tick,
    WasRefused,
    WentUnanswered,
)
from state.ledger import Account, Ledger
from state.orders import ZERO, Order, OrderType, Purpose, Side, Status
from state.reports import OrderRow, Reported
from state.snapshot import SLOTS, Snapshot
from state.symbol_state import Work

FEED = "feed"  # the source of blocks that concern one symbol
ALARM_WORDS = ("UNPROTECTED", "QUARANTINED", "HALTED", "UNKNOWN")
_LOUD = ("UNPROTECTED", "QUARANTINED", "HALTED")  # ERROR: money may be at risk now


def lines(work: Work) -> list[Line]:
    """What this decision changed, most important first; empty when nothing a trader cares about did."""
    before, after = work.before, work.after
    if isinstance(work.event, Restarted):
        leading, following = list(_restart(work)), []
    else:
        leading = [*_fills(work), *_new_entry(work), *_closing(work), *_alarms(work), *_ends(work), *_answers(work)]
        leading += [*_reasons(work), *_resumed(work)]
        following = [*_trailing(work), *_order_changes(work), *_blocks(work)]
    if before.phase is after.phase:
        return leading + following
    change = f"{before.phase.value} -> {after.phase.value}"
    if not leading:
        return [_line(work, change, _why_phase(before, after), after.trip or before.trip or ""), *following]
    first = leading[0]
    cause = f"{first.change}: {first.cause}" if first.change in ALARM_WORDS and first.change not in first.cause else first.cause
    return [msgspec.structs.replace(first, change=change, cause=cause), *leading[1:], *following]


def _line(work: Work, change: str, cause: str, client_id: str = "", level: str = "INFO") -> Line:
    return Line(work.event.now_ms, thread_word(work.thread), work.after.symbol, change, cause, client_id, level)


# -- fills ---------------------------------------------------------------------------------------------------------------


def _fills(work: Work) -> Iterator[Line]:
    for account in work.after.ledger.accounts:
        was = work.before.ledger.account(account.client_id)
        if account.filled > (was.filled if was else ZERO):
            yield _line(work, "filled", _fill_text(work, was, account), account.client_id)


def _fill_text(work: Work, was: Account | None, account: Account) -> str:
    event, after = work.event, work.after
    qty, price = _news(was, account)
    source = event.fill.source if isinstance(event, FillSeen) else event.source if isinstance(event, OrderSeen) else ""
    done = f"{'bought' if account.side is Side.BUY else 'sold'} {number(qty)}{_of(work.before, account, qty)} @ {number(price)}"
    by = "" if account.purpose is Purpose.ENTRY else f" by the {account.purpose.name.lower()}"
    learnt = f" ({source})" if source else ""
    return f"{done}{by}{learnt}, {_then(after, account)}"


def _news(was: Account | None, account: Account) -> tuple[Decimal, Decimal]:
    """Quantity and average price of what is newly known."""
    known_qty, known_value = (was.filled, was.filled * was.average) if was else (ZERO, ZERO)
    qty = account.filled - known_qty
    return qty, (account.filled * account.average - known_value) / qty


def _of(before: Snapshot, account: Account, qty: Decimal) -> str:
    orders = (*before.live_orders(), *before.ended)
    order = next((order for order in orders if order.client_id == account.client_id), None)
    return f" of {number(order.qty)}" if order and order.qty != qty else ""


def _then(after: Snapshot, account: Account) -> str:
    if after.position:
        return held(after)
    if after.dust:
        return f"flat but for dust {number(after.dust)}, too little to be sold"
    profit = _trip_profit(after.ledger, after.trip or _last_entry(after.ledger))
    return "flat" if profit is None else f"trip {signed(profit)} gross"


def held(s: Snapshot) -> str:
    """ "LONG 5 @ 731.15"; "flat" without a position."""
    if not s.position:
        return "flat"
    at = "" if s.average is None else f" @ {number(s.average)}"
    return f"{'LONG' if s.position > 0 else 'SHORT'} {number(abs(s.position))}{at}"


def _last_entry(ledger: Ledger) -> str | None:
    return next((account.client_id for account in reversed(ledger.accounts) if account.purpose is Purpose.ENTRY), None)


def _trip_profit(ledger: Ledger, trip: str | None) -> Decimal | None:
    """What the trip made, fees apart; None where its fills do not add up to a whole one."""
    ids = [account.client_id for account in ledger.accounts]
    if trip not in ids:
        return None
    entry, *rest = ledger.accounts[ids.index(trip) :]
    exits = []
    for account in rest:
        if account.purpose is Purpose.ENTRY:
            break
        exits.append(account)
    if any(account.side is entry.side for account in exits) or sum((a.filled for a in exits), ZERO) != entry.filled:
        return None
    return (sum((a.filled * a.average for a in exits), ZERO) - entry.filled * entry.average) * entry.side.sign


# -- orders --------------------------------------------------------------------------------------------------------------


def _new_entry(work: Work) -> Iterator[Line]:
    order = work.after.entry
    if order is not None and (work.before.entry is None or work.before.entry.client_id != order.client_id):
        yield _line(work, "entry", f"{order.reason}, {order_text(order)}" if order.reason else order_text(order), order.client_id)


def order_text(order: Order) -> str:
    """ "buy stop 5 @ 731.15", "sell 5 at market"."""
    if order.type is OrderType.MARKET:
        return f"{order.side.value.lower()} {number(order.qty)} at market"
    return order.describe()


def _named(slot: str, order: Order) -> str:
    return order_text(order) if slot == "stop" else f"{slot} {order_text(order)}"


def _ends(work: Work) -> Iterator[Line]:
    """Orders that left their slot without being filled to the end."""
    for slot in SLOTS:
        order, now = getattr(work.before, slot), getattr(work.after, slot)
        if order is None or (now is not None and now.client_id == order.client_id):
            continue
        word, reason = _last_word(work, slot, order)
        if word:
            part = work.after.ledger.filled(order.client_id)
            filled = f"; {number(part)} of {number(order.qty)} had filled" if part else ""
            level = "WARNING" if word in ("refused", "rejected") else "INFO"
            yield _line(work, word, f"{_named(slot, order)}: {reason or 'no reason given'}{filled}", order.client_id, level)


def _last_word(work: Work, slot: str, order: Order) -> tuple[str, str]:
    """How an order ended and why; no word for a complete fill, which has its own line."""
    event = work.event
    if isinstance(event, WasRefused):
        return "refused", event.reason
    if isinstance(event, NotSent):
        return "not sent", event.reason
    if isinstance(event, ProvedAbsent) and order.status is Status.QUARANTINED:
        return "gone", "nothing that could be it works at the venue any more"
    if isinstance(event, ProvedAbsent):
        return "not sent", "nothing of it at the venue after the settle window"
    if isinstance(event, OrderSeen) and event.client_id == order.client_id:
        if event.row.state is Reported.FILLED:
            return "", ""
        return event.row.state.value.lower(), event.row.reason or order.reason
    return "not sent", work.after.why.removeprefix(f"{slot} not sent: ")


def _answers(work: Work) -> Iterator[Line]:
    """The venue took an order, or was found to have it."""
    for slot in SLOTS:
        was, order = _pair(work, slot)
        if was is None or order is None or order.status is not Status.WORKING:
            continue
        if was.status not in (Status.INTENT, Status.UNKNOWN):
            continue
        if isinstance(work.event, Accepted):
            yield _line(work, "accepted", f"venue order {order.venue_id}, {_latency_ms(work, was)} ms", order.client_id)
        elif isinstance(work.event, OrderSeen) and (slot == "entry" or was.venue_id is None):
            yield _line(work, "found", f"venue order {order.venue_id} is working ({work.event.source})", order.client_id)


def _latency_ms(work: Work, was: Order) -> int:
    return work.event.mono_ms - was.changed_ms


def _pair(work: Work, slot: str) -> tuple[Order | None, Order | None]:
    """The slot's order before and after where it is the same one that changed."""
    was, order = getattr(work.before, slot), getattr(work.after, slot)
    same = was is not None and order is not None and was is not order and was.client_id == order.client_id
    return (was, order) if same else (None, None)


def _order_changes(work: Work) -> Iterator[Line]:
    for slot in SLOTS:
        was, order = _pair(work, slot)
        if order is not None and not work.after.remaining(order):
            continue  # filled to the end: the venue's last word on it is a formality
        if was is not None and order is not None:
            yield from _shown(work, slot, was, order)
            yield from _not_done(work, slot, was, order)
            yield from _asked(work, slot, was, order)
        else:
            yield from _placing(work, slot)


def _placing(work: Work, slot: str) -> Iterator[Line]:
    was, order = getattr(work.before, slot), getattr(work.after, slot)
    if slot != "entry" and order is not None and order is not was:
        reason = f": {order.reason}" if order.reason else ""
        yield _line(work, f"placing {slot}", order_text(order) + reason, order.client_id)


def _asked(work: Work, slot: str, was: Order, order: Order) -> Iterator[Line]:
    """What we have just decided to ask for."""
    if order.status is Status.INTENT and was.retry_ms and not order.retry_ms:
        yield _line(work, "asking again", f"try {order.attempts + 1}: {order_text(order)}", order.client_id)
    if order.status is Status.CANCELLING and was.status is not Status.CANCELLING:
        yield _line(work, "cancelling", f"{_named(slot, order)}: {order.reason}", order.client_id)
    if order.status is not Status.REPLACING or (was.asked_qty, was.asked_trigger) == (order.asked_qty, order.asked_trigger):
        return
    if order.asked_qty != order.qty:
        yield _line(work, f"resizing {slot}", f"{number(order.qty)} -> {_or_dash(order.asked_qty)}", order.client_id)
    elif work.before.stop_price == work.after.stop_price:
        levels = f"{_or_dash(order.trigger_price)} -> {_or_dash(order.asked_trigger)}"
        yield _line(work, f"moving {slot}", levels, order.client_id)


def _not_done(work: Work, slot: str, was: Order, order: Order) -> Iterator[Line]:
    """What did not happen, and what we make of it."""
    event = work.event
    if isinstance(event, NotSent):
        pause = f"; again in {order.retry_ms - event.mono_ms} ms" if order.retry_ms > event.mono_ms else ""
        yield _line(work, "not sent", f"{event.act.value} {slot}: {event.reason}{pause}", order.client_id, "WARNING")
    elif isinstance(event, WasRefused):
        yield _line(work, "refused", f"{event.act.value} {slot}: {event.reason}; asking the venue", order.client_id, "WARNING")
    elif isinstance(event, WentUnanswered) and event.act is not Act.SUBMIT and order.status is Status.UNKNOWN:
        yield _line(work, "unanswered", f"{event.act.value} {slot}: {event.reason}; looking for it", order.client_id, "WARNING")
    elif isinstance(event, OrderSeen) and event.row.state.closed and order.strikes > was.strikes:
        cause = f"the venue shows the {slot} {event.row.state.value.lower()}, not by us; looking again"
        yield _line(work, f"{slot} gone?", cause, order.client_id, "WARNING")


def _shown(work: Work, slot: str, was: Order, order: Order) -> Iterator[Line]:
    """What the venue's own row now shows of a stop or target."""
    if not isinstance(work.event, OrderSeen) or slot not in ("stop", "target"):
        return
    if was.status is Status.REPLACING and was.trigger_price != order.trigger_price:
        yield _line(work, f"{slot} moved", f"{_or_dash(was.trigger_price)} -> {_or_dash(order.trigger_price)}", order.client_id)
    elif was.status is Status.REPLACING and was.qty != order.qty:
        yield _line(work, f"{slot} resized", f"{number(was.qty)} -> {number(order.qty)}, {order_text(order)}", order.client_id)
    elif order.verified and not was.verified:
        yield _line(work, f"{slot} working", f"{order_text(order)}, at the venue{_gap(work)}", order.client_id)
    elif (was.qty, was.trigger_price) != (order.qty, order.trigger_price):
        yield _line(work, f"{slot} changed", _changed_text(work.event.row, was), order.client_id, "WARNING")


def _changed_text(row: OrderRow, was: Order) -> str:
    level = "" if row.trigger_price is None else f" @ {number(row.trigger_price)}"
    return f"the venue shows {number(row.qty)}{level}, not by us (was {order_text(was)})"


def _gap(work: Work) -> str:
    """How long the position had been without a working stop."""
    since = work.before.unprotected_ms
    return "" if since is None or work.after.unprotected_ms is not None else f", unprotected {work.event.mono_ms - since} ms"


def _or_dash(value: Decimal | None) -> str:
    return "-" if value is None else number(value)


# -- levels, reasons, people ---------------------------------------------------------------------------------------------


def _trailing(work: Work) -> Iterator[Line]:
    """A new level is wanted; that the stop is there is said when the venue shows it."""
    before, after = work.before, work.after
    if None in (before.stop_price, after.stop_price) or before.stop_price == after.stop_price or before.trip != after.trip:
        return
    if not isinstance(work.event, OrderSeen):
        levels = f"{_or_dash(before.stop_price)} -> {_or_dash(after.stop_price)} wanted"
        yield _line(work, "trailing", f"{levels}: {after.why}", after.stop.client_id if after.stop else "")


def _closing(work: Work) -> Iterator[Line]:
    if work.after.closing and work.after.closing != work.before.closing:
        yield _line(work, "closing", work.after.closing, work.after.trip or "")


def _alarms(work: Work) -> Iterator[Line]:
    for command in work.commands:
        if isinstance(command, Alarm):
            word = _alarm_word(command.text)
            level = "ERROR" if word in _LOUD else "WARNING"
            yield _line(work, word, command.text.removeprefix(f"{word}: "), getattr(work.event, "client_id", ""), level)


def _alarm_word(text: str) -> str:
    """The word people grep for. "quarantined" outweighs the halt that comes with it."""
    if "quarantined" in text:
        return "QUARANTINED"
    if "unanswered" in text:
        return "UNKNOWN"
    return next((word for word in ALARM_WORDS if word in text), "ALARM")


def _reasons(work: Work) -> Iterator[Line]:
    """Why there was no entry: once for each new reason."""
    before, after = work.before, work.after
    if after.why == before.why or not after.why:
        return
    word, colon, reason = after.why.partition(": ")
    if colon and word in ("denied", "waiting"):
        yield _line(work, word, reason)
    elif isinstance(work.event, Tick | BarClosed) and after.entry is before.entry and after.stop_price == before.stop_price:
        yield _line(work, "no entry", after.why)


def _resumed(work: Work) -> Iterator[Line]:
    if work.before.halted and not work.after.halted:
        yield _line(work, "resumed", f"a person has looked; it was halted: {work.before.halted}")


def _blocks(work: Work) -> Iterator[Line]:
    """Entry blocks of one symbol; those of the whole account are told once, by whoever makes them."""
    before, after = dict(work.before.blocks), dict(work.after.blocks)
    was, now = before.get(FEED), after.get(FEED)
    if now is not None and now != was:
        yield _line(work, "entries off", now)
    elif was is not None and now is None:
        others = f"; still off: {'; '.join(after.values())}" if after else ""
        yield _line(work, "entries on", f"over: {was}{others}")


def _restart(work: Work) -> Iterator[Line]:
    orders = work.before.live_orders()
    if orders or work.before.position:
        names = ", ".join(order.client_id for order in orders)
        asking = f"asking the venue about {names}" if names else "no order was live"
        yield _line(work, "recovered", f"{held(work.before)}, {asking}", work.before.trip or "")
    yield from _alarms(work)


def _why_phase(before: Snapshot, after: Snapshot) -> str:
    if after.over and not before.over:
        return "cutoff"
    if before.armed and not after.armed:
        return "the trigger has lapsed"
    return after.halted or after.closing or after.why
