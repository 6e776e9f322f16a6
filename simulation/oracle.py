"""Judges a finished practice day from outside: what truly happened at the venue against what the runner did, wrote and reported.

Owns the rules (DESIGN, section 8) as pure functions over values: the venue tells the truth (brokers/practice_truth.py), journal
and report what the runner makes of it (simulation/oracle_told.py). Shares no arithmetic with the runner, and must never ask it
what is true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from brokers.practice_truth import API, Point, TrueOrder, Truth
from simulation.oracle_trips import FINEST, Trip, round_trips
from state.journal_read import OrderRecord
from state.ledger import ELSEWHERE, Fill
from state.orders import ZERO, OrderType, Side
from state.reports import Reported
from state.snapshot import Snapshot


class Told(msgspec.Struct, frozen=True):
    """What the runner says: its journal's orders, fills (each once) and snapshots, and the round trips of its report."""

    orders: Sequence[OrderRecord]
    fills: Mapping[str, Sequence[Fill]]
    snapshots: Mapping[str, Snapshot]
    trips: Sequence[Trip]
    max_entries: Mapping[str, int]


class Life(msgspec.Struct, frozen=True):
    """One process of the runner, in real ms (monotonic). `recovered_ms`: it had asked the venue about everything.

    `awake_ms`: it wrote its first line; before that lies what the system and the imports take.
    """

    started_ms: int
    ended_ms: int
    recovered_ms: int | None = None
    killed: bool = False
    awake_ms: int | None = None


class Bounds(msgspec.Struct, frozen=True):
    """How long things may take, in real ms. `recovery_ms`: from the start of a process until all is known and protected.

    `waking_ms` of that are for its first line. A crowded machine may take longer over it, which is not the runner's doing; what
    comes after gets no more time.
    """

    recovery_ms: int
    waking_ms: int
    bare_ms: int  # quantity without a stop or an exit at work, while a runner is alive and has recovered
    notice_ms: int  # until a runner that is alive and has recovered has followed a trade that the user made by hand


class Violation(msgspec.Struct, frozen=True):
    """`rule` names the invariant as DESIGN, section 8, numbers it.

    `slow`: right in the end and only too late, which on a crowded machine may be the machine's doing.
    """

    rule: str
    symbol: str
    text: str
    slow: bool = False


def judge(truth: Truth, told: Told, lives: Sequence[Life], bounds: Bounds) -> list[Violation]:
    """Everything that is wrong with a day that has ended. Empty is the only good answer."""
    return [
        *one_entry(truth),
        *entries_limited(truth, told),
        *one_order_an_id(truth),
        *every_order_known(truth, told),
        *every_word_true(truth, told),
        *fills_agree(truth, told),
        *exits_within_position(truth, lives, bounds),
        *stops_never_loosen(truth),
        *flat_at_the_end(truth),
        *trips_agree(truth, told),
        *protected(truth, lives, bounds),
        *recovered_in_time(lives, bounds),
    ]


# -- entries and orders --------------------------------------------------------------------------------------------------------


def one_entry(truth: Truth) -> list[Violation]:
    """I1: never two live entries in a symbol."""
    most = {symbol: max((point.entries for point in points), default=0) for symbol, points in truth.timeline.items()}
    return [Violation("I1", symbol, f"{count} entries at work at one time") for symbol, count in most.items() if count > 1]


def entries_limited(truth: Truth, told: Told) -> list[Violation]:
    """I7: entry orders at the venue never exceed the limit, whatever was killed in between."""
    sent = Counter(order.symbol for order in _ours(truth) if order.purpose == "E")
    limits = told.max_entries
    return [
        Violation("I7", symbol, f"{count} entry orders at the venue, {limits[symbol]} are allowed")
        for symbol, count in sent.items()
        if symbol in limits and count > limits[symbol]
    ]


def one_order_an_id(truth: Truth) -> list[Violation]:
    """I3: nothing is sent twice."""
    seen: dict[str, list[TrueOrder]] = {}
    for order in _ours(truth):
        seen.setdefault(order.label, []).append(order)
    return [
        Violation("I3", orders[0].symbol, f"{label} is at the venue {len(orders)} times: {_ids(orders)}")
        for label, orders in seen.items()
        if len(orders) > 1
    ]


def every_order_known(truth: Truth, told: Told) -> list[Violation]:
    """I3: every order at the venue has exactly one journaled intent, which knows it by its venue id."""
    journaled = {order.client_id: order for order in told.orders}
    claims = Counter(order.venue_id for order in told.orders if order.venue_id is not None)
    wrong = [Violation("I3", "", f"venue order {id} is claimed by {count} intents") for id, count in claims.items() if count > 1]
    for order in _ours(truth):
        known = journaled.get(order.label)
        if known is None:
            wrong.append(Violation("I3", order.symbol, f"venue order {order.venue_id} ({order.label}) has no journaled intent"))
        elif known.venue_id != order.venue_id:
            text = f"{order.label} is venue order {order.venue_id}, the journal says {known.venue_id} ({known.status})"
            wrong.append(Violation("I3", order.symbol, text))
    return wrong


def every_word_true(truth: Truth, told: Told) -> list[Violation]:
    """I3: every order the journal has a venue id for exists, ended as the journal says, and nothing is left in doubt."""
    existing = {order.venue_id: order for order in truth.orders}
    wrong = []
    for known in told.orders:
        symbol, order = known.order.symbol, existing.get(known.venue_id or "")
        if not known.ended:
            wrong.append(Violation("I3", symbol, f"{known.client_id} is still {known.status} in the journal"))
        elif order is None and known.venue_id is not None:
            wrong.append(Violation("I3", symbol, f"{known.client_id}: the venue has no order {known.venue_id}"))
        elif order is not None and _last_word(order) not in (known.status, None):
            text = f"{known.client_id}: the journal says {known.status}, at the venue it ended {order.now.state.value}"
            wrong.append(Violation("I3", symbol, text))
    return wrong


def _last_word(order: TrueOrder) -> str | None:
    return order.now.state.value if order.now.state.closed else None


# -- fills and position --------------------------------------------------------------------------------------------------------


def fills_agree(truth: Truth, told: Told) -> list[Violation]:
    """I2: what each order filled, and the position, are the same at the venue and in the journal: none lost, none invented."""
    true = _filled((fill.label, fill.side, fill.qty, fill.price) for fill in truth.fills if fill.origin == API)
    known = _filled(
        (fill.client_id, fill.side, fill.qty, fill.price) for fills in told.fills.values() for fill in fills if not _by_hand(fill)
    )
    wrong = [
        Violation("I2", _symbol_of(id), f"{id} filled {_sum(true, id)} at the venue, {_sum(known, id)} in the journal")
        for id in sorted(true.keys() | known.keys())
        if true.get(id) != known.get(id)
    ]
    for position in truth.positions:
        snapshot = told.snapshots.get(position.symbol)
        held = ZERO if snapshot is None else snapshot.position
        if held != position.ours:
            wrong.append(Violation("I2", position.symbol, f"the venue holds {position.ours} of ours, the journal says {held}"))
    return wrong


def _filled(rows: Iterable[tuple[str, Side, Decimal, Decimal]]) -> dict[str, tuple[Decimal, Decimal]]:
    """Signed quantity and value per client order id."""
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    for label, side, qty, price in rows:
        before = sums.get(label, (ZERO, ZERO))
        sums[label] = (before[0] + qty * side.sign, before[1] + qty * price)
    return {label: (qty, value.quantize(FINEST).normalize()) for label, (qty, value) in sums.items()}


def _sum(sums: Mapping[str, tuple[Decimal, Decimal]], client_id: str) -> str:
    qty, value = sums.get(client_id, (ZERO, ZERO))
    return f"{qty} for {value:f}" if qty else "nothing"


def _by_hand(fill: Fill) -> bool:
    return ELSEWHERE in fill.client_id


def exits_within_position(truth: Truth, lives: Sequence[Life], bounds: Bounds) -> list[Violation]:
    """I5: what would reduce the position never exceeds it, and no exit turns it round.

    Except for as long as it takes to hear that the user has traded by hand: our stop still covers what they have sold.
    """
    wrong = []
    for symbol, points in truth.timeline.items():
        unheard = _unheard(truth, symbol, lives, bounds)
        for before, after in pairwise(points):
            if before.ours * after.ours < 0 and not _during(unheard, after.real_ms, after.real_ms):
                wrong.append(Violation("I5", symbol, f"the position went from {before.ours} to {after.ours}", slow=bool(unheard)))
        ends = [after.real_ms for after in points[1:]] + [truth.real_ms]
        heard = [point for point, end_ms in zip(points, ends, strict=True) if not _during(unheard, point.real_ms, end_ms)]
        worst = max(heard, key=_beyond, default=None)
        if worst is not None and _beyond(worst) > 0:
            text = f"orders to reduce exceeded a position of {worst.ours} by {_beyond(worst)} at {worst.at_ms}"
            wrong.append(Violation("I5", symbol, text, slow=bool(unheard)))
    return wrong


def _unheard(truth: Truth, symbol: str, lives: Sequence[Life], bounds: Bounds) -> list[tuple[int, int]]:
    """(from, until) after each trade by hand: a runner has lived and recovered for long enough to have heard of it."""
    spans = []
    for at_ms in (fill.real_ms for fill in truth.fills if fill.symbol == symbol and fill.origin != API):
        owed_ms, until_ms = bounds.notice_ms, truth.real_ms
        for number, life in enumerate(lives):
            from_ms = max(at_ms, _due_ms(life, bounds) if number else life.started_ms)
            alive_ms = max(life.ended_ms - from_ms, 0)
            if alive_ms >= owed_ms:
                until_ms = from_ms + owed_ms
                break
            owed_ms -= alive_ms
        spans.append((at_ms, until_ms))
    return spans


def _during(spans: Sequence[tuple[int, int]], start_ms: int, end_ms: int) -> bool:
    return any(from_ms <= start_ms and end_ms <= until_ms for from_ms, until_ms in spans)


def _beyond(point: Point) -> Decimal:
    selling, buying = point.stop_sell + point.exit_sell, point.stop_buy + point.exit_buy
    return max(selling - max(point.ours, ZERO), buying - max(-point.ours, ZERO))


def stops_never_loosen(truth: Truth) -> list[Violation]:
    """I6: within one trip the working stop only moves our way, whoever sent it and however often the runner was started."""
    wrong = []
    for symbol, points in truth.timeline.items():
        flat = [point.real_ms for point in points if not point.ours]
        for before, after in pairwise(_stop_levels(truth, symbol)):
            looser = (after[1] - before[1]) * before[2].sign > 0
            if looser and not any(before[0] <= at_ms <= after[0] for at_ms in flat):
                wrong.append(Violation("I6", symbol, f"the stop was loosened from {before[1]} to {after[1]}"))
    return wrong


def _stop_levels(truth: Truth, symbol: str) -> list[tuple[int, Decimal, Side]]:
    """(since, trigger, side) of every stop order at work, in time order."""
    levels = [
        (version.real_ms, version.trigger_price, order.side)
        for order in _ours(truth)
        if order.symbol == symbol and order.purpose == "S"
        for version in order.history
        if version.state is Reported.WORKING and version.type is OrderType.STOP and version.trigger_price is not None
    ]
    return sorted(levels, key=lambda level: level[0])


# -- the end -------------------------------------------------------------------------------------------------------------------


def flat_at_the_end(truth: Truth) -> list[Violation]:
    """I8, I9: nothing held, nothing resting."""
    held = [Violation("I8", row.symbol, f"{row.ours} is still held") for row in truth.positions if row.ours]
    resting = [order for order in _ours(truth) if order.now.state is Reported.WORKING]
    orphans = [Violation("I9", order.symbol, f"{order.label} ({order.venue_id}) still rests") for order in resting]
    return held + orphans


def trips_agree(truth: Truth, told: Told) -> list[Violation]:
    """Each round trip at the venue is reported exactly once, and nothing else is."""
    true, reported = Counter(round_trips(truth.fills)), Counter(told.trips)
    lost = [Violation("I2", trip.symbol, f"round trip not reported: {_words(trip)}") for trip in (true - reported).elements()]
    made_up = [Violation("I2", trip.symbol, f"reported, but not so: {_words(trip)}") for trip in (reported - true).elements()]
    return lost + made_up


def _words(trip: Trip) -> str:
    return f"{trip.side} {trip.qty} {trip.entry_price} -> {trip.exit_price} ({trip.entry_order}, {trip.exit_order})"


# -- time ----------------------------------------------------------------------------------------------------------------------


def protected(truth: Truth, lives: Sequence[Life], bounds: Bounds) -> list[Violation]:
    """I4: what is filled has a stop or an exit at work, but for moments while a runner is alive, and for the recovery.

    And for as long as it takes to hear of a trade by hand: it may have turned what we take for a position into none.
    """
    wrong = []
    for symbol in truth.timeline:
        unheard = _unheard(truth, symbol, lives, bounds)
        for start_ms, end_ms, qty in truth.bare_spans(symbol):
            heard_ms = max((until_ms for from_ms, until_ms in unheard if from_ms <= start_ms <= until_ms), default=0)
            for number, life in enumerate(lives):
                from_ms, to_ms = max(start_ms, life.started_ms), min(end_ms, life.ended_ms)
                owed_ms = _due_ms(life, bounds) if number else life.started_ms
                over_ms = to_ms - max(owed_ms, from_ms + bounds.bare_ms, heard_ms)
                if over_ms > 0:
                    text = f"{qty} without a stop for {to_ms - from_ms} ms of start {number + 1}, {over_ms} too long"
                    wrong.append(Violation("I4", symbol, text, slow=True))
    return wrong


def recovered_in_time(lives: Sequence[Life], bounds: Bounds) -> list[Violation]:
    """I12: a start after a kill has asked about everything within the bound."""
    wrong = []
    for number, life in enumerate(lives[1:], 2):
        if life.recovered_ms is None:
            if not life.killed:
                wrong.append(Violation("I12", "", f"start {number} never recovered"))
        elif life.recovered_ms > _due_ms(life, bounds):
            took_ms, allowed_ms = life.recovered_ms - life.started_ms, _due_ms(life, bounds) - life.started_ms
            wrong.append(Violation("I12", "", f"start {number} took {took_ms} ms to recover, {allowed_ms} are allowed", True))
    return wrong


def _due_ms(life: Life, bounds: Bounds) -> int:
    """When a start after a kill has to have recovered."""
    awake_ms = life.started_ms if life.awake_ms is None else life.awake_ms
    return max(life.started_ms + bounds.waking_ms, awake_ms) + bounds.recovery_ms - bounds.waking_ms


def recovery_ms(truth: Truth, lives: Sequence[Life]) -> int:
    """The longest that a start after a kill took until all was asked and what was found bare had its stop; 0 without one.

    A start that was killed before that has not recovered: the next one has it to do.
    """
    spans = [span for symbol in truth.timeline for span in truth.bare_spans(symbol)]
    longest = 0
    for life in lives[1:]:
        if life.recovered_ms is None:
            continue
        found_bare = [end_ms for start_ms, end_ms, _ in spans if start_ms <= life.recovered_ms and life.started_ms < end_ms]
        done_ms = max([life.recovered_ms, *found_bare])
        if done_ms <= life.ended_ms:
            longest = max(longest, done_ms - life.started_ms)
    return longest


def _ours(truth: Truth) -> list[TrueOrder]:
    return [order for order in truth.orders if order.origin == API]


def _ids(orders: Sequence[TrueOrder]) -> str:
    return ", ".join(order.venue_id for order in orders)


def _symbol_of(client_id: str) -> str:
    return client_id.rsplit("-", 2)[0]
