"""What the feed and a venue's stream say to each other: the messages a frame can mean, and the protocol of a stream dialect.

Owns no socket, clock or state. A dialect is pure: it makes the frames to send and gives each received frame its meaning. It
must never raise on a received frame: what it cannot read is `Noise`, and the feed counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol, TypeAlias

import msgspec

from brokers.base import FillRow, OrderRow


class Tick(msgspec.Struct, frozen=True, gc=False):
    """One price message. `at_ms` is the venue's time as UTC epoch milliseconds; None when the message has none."""

    symbol: str
    price: Decimal
    at_ms: int | None


class Snapshot(msgspec.Struct, frozen=True):
    """A price of before we came, which some venues send on subscribing. Not a tick: nothing is decided on it (FEE-13)."""

    symbol: str
    price: Decimal


class LoggedIn(msgspec.Struct, frozen=True):
    pass


class LoginRefused(msgspec.Struct, frozen=True):
    reason: str


class Subscribed(msgspec.Struct, frozen=True):
    """The venue's answer to a subscription, symbol by symbol. What is in neither is still unanswered."""

    ok: tuple[str, ...]
    failed: dict[str, str]  # symbol -> the venue's reason


class OrdersSubscribed(msgspec.Struct, frozen=True):
    pass


class OrdersUnsupported(msgspec.Struct, frozen=True):
    reason: str


class Trouble(msgspec.Struct, frozen=True):
    """The venue says that something is wrong on its side; a person should know."""

    reason: str


class VenueOpen(msgspec.Struct, frozen=True):
    """What the venue says of itself: it takes orders (no reason), or why it does not just now. No entries until it does."""

    why_not: str | None = None


class Gap(msgspec.Struct, frozen=True):
    """Messages were lost on the way: only a new connection and the books can tell what they said."""

    reason: str


class Incomplete(msgspec.Struct, frozen=True):
    """News of an order that cannot be used, for it lacks what it must say: the venue's books have to tell."""

    reason: str


class Noise(msgspec.Struct, frozen=True):
    """Nothing we can use. `reason` is one of a few fixed texts: it is a counter's name."""

    reason: str


class Several(msgspec.Struct, frozen=True):
    """One frame that carried more than one message, in order."""

    messages: tuple[Message, ...]


Message: TypeAlias = (
    Tick
    | Snapshot
    | LoggedIn
    | LoginRefused
    | Subscribed
    | OrdersSubscribed
    | OrdersUnsupported
    | OrderRow
    | FillRow
    | VenueOpen
    | Gap
    | Incomplete
    | Trouble
    | Noise
    | Several
)


class Dialect(Protocol):
    """One venue's stream protocol. Used by one thread.

    hello             frames to send as soon as the socket is up (login, where there is one).
    subscribe         frames that ask for the ticks of these symbols; asking again is harmless.
    subscribe_orders  frames that ask for order updates; none where the venue has no such stream.
    receive           the meaning of one frame. Never raises.
    """

    url: str
    needs_login: bool  # nothing but `hello` may be sent before LoggedIn

    def hello(self) -> list[str]: ...
    def subscribe(self, symbols: Sequence[str]) -> list[str]: ...
    def subscribe_orders(self) -> list[str]: ...
    def receive(self, frame: bytes) -> Message: ...
