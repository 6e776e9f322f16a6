"""Round trips as the venue's own fills make them, for the oracle: ours, flat to flat. Shares no arithmetic with the runner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from brokers.practice_truth import API, TrueFill
from state.ledger import ELSEWHERE
from state.orders import ZERO

FINEST = Decimal("0.00000001")


class Trip(msgspec.Struct, frozen=True, order=True):
    """One round trip. `exit_price` None: still open."""

    symbol: str
    side: str
    qty: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    entry_order: str
    exit_order: str


def round_trips(fills: Sequence[TrueFill]) -> list[Trip]:
    """Ours, flat to flat, per symbol, in the venue's own order."""
    trips = []
    for symbol in dict.fromkeys(fill.symbol for fill in fills):
        trip: list[TrueFill] = []
        for part in _ours_of(fill for fill in fills if fill.symbol == symbol):
            trip.append(part)
            if not sum((part.qty * part.side.sign for part in trip), ZERO):
                trips.append(_trip(trip))
                trip = []
        trips += [_trip(trip)] if trip else []
    return trips


def _ours_of(fills: Iterable[TrueFill]) -> Iterator[TrueFill]:
    """What of one symbol's fills counts for ours, as Point has it; cut where the position goes through zero.

    A trade by hand takes from what the user holds beside us first; of the rest what is against ours is ours, what adds is theirs.
    """
    ours = theirs = ZERO
    for fill in fills:
        sign, left = fill.side.sign, fill.qty
        if fill.origin != API:
            beside = min(left, abs(theirs)) if theirs * sign < 0 else ZERO
            theirs, left = theirs + beside * sign, left - beside
            if ours * sign >= 0:
                theirs += left * sign
                continue
        closing = min(left, abs(ours)) if ours * sign < 0 else ZERO
        yield from (msgspec.structs.replace(fill, qty=qty) for qty in (closing, left - closing) if qty)
        ours += left * sign


def _trip(fills: Sequence[TrueFill]) -> Trip:
    side = fills[0].side
    came = [fill for fill in fills if fill.side is side]
    went = [fill for fill in fills if fill.side is not side]
    qty = sum((fill.qty for fill in came), ZERO)
    exit_price = _average(went) if went else None
    return Trip(
        fills[0].symbol, side.value, qty, _average(came), exit_price, _order_of(came[0]), _order_of(went[-1]) if went else ""
    )


def _order_of(fill: TrueFill) -> str:
    """Its client order id; for an order of the user's, the one that stands for it in the journal."""
    return fill.label if fill.origin == API else f"{fill.symbol}{ELSEWHERE}X{fill.venue_id}"


def _average(fills: Sequence[TrueFill]) -> Decimal:
    qty = sum((fill.qty for fill in fills), ZERO)
    return (sum((fill.qty * fill.price for fill in fills), ZERO) / qty).quantize(FINEST).normalize()
