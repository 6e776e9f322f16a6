"""Ours and the venue's: whether the venue's position is what our fills say, and whose trades explain a difference.

Pure. What others hold in a symbol (*foreign*) is known from the first look of the session and followed by their trades; it is
never touched. A trade of theirs against what we hold takes from their own part first, and from ours only when theirs is gone:
so what we call ours is never more than the venue holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum

import msgspec

from state.ledger import Fill, Ledger
from state.orders import ZERO


class Verdict(Enum):
    MATCH = "MATCH"
    FOREIGN = "FOREIGN"  # others trade this symbol in this account
    MISSING = "MISSING"  # ours was reduced or closed elsewhere, and their fills show it
    DIVERGED = "DIVERGED"  # a difference that no fill explains: a person must look


class Finding(msgspec.Struct, frozen=True):
    """What a difference comes to. `ours`: their fills, or parts of them, that closed what we held. `foreign_qty`: theirs now.

    `turned`: one of theirs turned our position round; where an order of ours did that, it only has to be closed.
    """

    verdict: Verdict
    text: str
    foreign_qty: Decimal
    ours: tuple[Fill, ...] = ()
    turned: bool = False


def compare(
    position: Decimal,
    foreign_qty: Decimal,
    venue_qty: Decimal,
    news: tuple[Fill, ...],
    own: tuple[tuple[int, Decimal], ...] = (),
) -> Finding:
    """`news`: executions in this symbol that are nobody's of ours and were not counted before, oldest first.

    `own`: (time, signed quantity) of ours since the first of them. Whose a trade was depends on what we held at its time: a
    position that somebody closed before our stop fired was ours, and what the stop then opened is ours too.
    """
    expected = position + foreign_qty
    total = sum((fill.moved * fill.side.sign for fill in news), ZERO)
    if venue_qty == expected and not total:
        return Finding(Verdict.MATCH, "", foreign_qty)
    if not news or expected + total != venue_qty:
        text = f"venue holds {venue_qty}, our fills say {position}" + (f" and theirs {foreign_qty}" if foreign_qty else "")
        return Finding(Verdict.DIVERGED, text, foreign_qty)
    ours: list[Fill] = []
    position -= sum((qty for _, qty in own), ZERO)
    later, turned = list(own), False
    for fill in news:
        while later and later[0][0] < fill.at_ms:
            position += later.pop(0)[1]
        theirs, mine = _share(fill, position, foreign_qty)
        foreign_qty += theirs * fill.side.sign
        turned = turned or (position + mine * fill.side.sign) * position < 0
        position += mine * fill.side.sign
        if mine:
            ours.append(_part(fill, mine))
    position += sum((qty for _, qty in later), ZERO)
    if not ours:
        return Finding(Verdict.FOREIGN, f"others hold {foreign_qty} of it in this account", foreign_qty)
    words = ", ".join(f"{fill.side.value} {fill.qty} @ {fill.price}" for fill in ours)
    return Finding(Verdict.MISSING, f"closed elsewhere: {words}; position now {position}", foreign_qty, tuple(ours), turned)


def _share(fill: Fill, position: Decimal, foreign_qty: Decimal) -> tuple[Decimal, Decimal]:
    """Theirs and ours of one execution that we did not order."""
    against = position and (position > 0) != (fill.side.sign > 0)
    if not against:
        return fill.moved, ZERO
    beside = abs(foreign_qty) if foreign_qty and (foreign_qty > 0) == (position > 0) else ZERO
    theirs = min(fill.moved, beside)
    return theirs, fill.moved - theirs


def _part(fill: Fill, moved: Decimal) -> Fill:
    """As much of it as moved the position so far."""
    if moved == fill.moved:
        return fill
    if not fill.base_fee:
        return msgspec.structs.replace(fill, qty=moved, fee=fill.fee * moved / fill.qty)
    share = moved / fill.moved
    return msgspec.structs.replace(fill, qty=fill.qty * share, fee=fill.fee * share, base_fee=fill.base_fee * share)


# -- one balance, several symbols ------------------------------------------------------------------------------------------------


FINER_DIGITS = 8


class Shares(msgspec.Struct, frozen=True):
    """An account's balance of one asset, symbol by symbol. Together with `foreign` it is the balance, to the last digit."""

    qty: dict[str, Decimal]
    foreign: Decimal


def share_out(ledgers: Mapping[str, Ledger], balance: Decimal) -> Shares:
    """What each symbol may call the venue's quantity, where several hold one asset and the venue only tells the balance.

    Each gets what its own fills say, and the rest is foreign. Where there is less than all of them say, the foreign part went
    first and then, for all we know, something of each: the long ones are cut in proportion, so that every one of them sees a
    difference, and none is given what another holds. A person looks then; nothing here guesses whose it was.
    """
    said = {symbol: ledger.position for symbol, ledger in sorted(ledgers.items())}
    lacking = sum(said.values(), ZERO) - balance
    if lacking > 0:
        longs = {symbol: qty for symbol, qty in said.items() if qty > 0}
        cut = _in_proportion(min(lacking, sum(longs.values(), ZERO)), longs)
        said = {symbol: qty - cut.get(symbol, ZERO) for symbol, qty in said.items()}
    return Shares(said, balance - sum(said.values(), ZERO))


def _in_proportion(amount: Decimal, weights: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """`amount`, at most the sum of the weights, split by weight and none above its own. In whole units a few digits finer than
    the last one in use: the parts add up exactly, and the smallest amount takes from each."""
    digits = max(-exponent for value in (amount, *weights.values()) if isinstance(exponent := value.as_tuple().exponent, int))
    digits += FINER_DIGITS
    units = {symbol: int(weight.scaleb(digits)) for symbol, weight in weights.items()}
    whole, total = int(amount.scaleb(digits)), sum(units.values())
    parts: dict[str, Decimal] = {}
    before = given = 0
    for symbol, weight in units.items():
        before += weight
        parts[symbol] = Decimal(whole * before // total - given).scaleb(-digits)
        given = whole * before // total
    return parts
