"""What to do, in the imperative: frozen copies made under the state lock, carried out later by a desk thread without it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from state.orders import Order


class Submit(msgspec.Struct, frozen=True):
    order: Order


class Replace(msgspec.Struct, frozen=True):
    """Amend a working order to this total quantity and these prices."""

    order: Order
    qty: Decimal
    trigger_price: Decimal | None = None
    limit_price: Decimal | None = None


class Cancel(msgspec.Struct, frozen=True):
    """`orphan`: no slot holds the order, so no slot can take the wish back."""

    order: Order
    orphan: bool = False


class Query(msgspec.Struct, frozen=True):
    """Ask the venue for its present word on this order."""

    order: Order


class Alarm(msgspec.Struct, frozen=True):
    """Tell a person."""

    text: str


Command = Submit | Replace | Cancel | Query | Alarm
