"""What every venue adapter is: its calls, its answers, its four errors and what it can do.

The runner's only question about a failed call is *may it have happened?* Each call answers, or raises exactly one of the four
errors below, chosen by that question. Adapters decide nothing and remember nothing about orders: they translate.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Protocol, runtime_checkable

import msgspec

from state.instrument import Instrument
from state.orders import Order
from state.reports import FillRow, OrderRow, PositionRow, Reported

__all__ = [
    "Broker",
    "BrokerError",
    "Budget",
    "Budgeted",
    "Capabilities",
    "Fatal",
    "FillRow",
    "Frugal",
    "OrderRow",
    "Paced",
    "PositionRow",
    "Refused",
    "Reported",
    "Resolver",
    "SessionHours",
    "Unanswered",
    "Unavailable",
    "Unreadable",
]


class BrokerError(Exception):
    """Base of the four. The text is for people: no keys, no control characters."""


class Refused(BrokerError):
    """The venue said no. It did not happen and the same request will not do better."""


class Unavailable(BrokerError):
    """Provably nothing was sent or carried out: the same request, with the same client order id, may go later."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Paced(Unavailable):
    """Our own brake held it back for the venue's limits: nothing was sent, and nobody counts it against the venue."""


class Unreadable(Unavailable):
    """The venue answered, in words that we do not know: nothing is concluded, and something narrower may be asked."""


class Unanswered(BrokerError):
    """It was sent and no usable answer came: it may have happened. `venue_id` where the answer named one all the same."""

    def __init__(self, reason: str, venue_id: str | None = None) -> None:
        super().__init__(reason)
        self.venue_id = venue_id


class Fatal(BrokerError):
    """Credentials, permission, wrong account or mode: nothing after it will work. Entries stop, protection goes on."""


class SessionHours(msgspec.Struct, frozen=True):
    """The venue's own hours of one day in UTC epoch ms; both None when it says closed."""

    open_ms: int | None
    close_ms: int | None


class Capabilities(msgspec.Struct, frozen=True):
    """What the venue can do, so that nobody asks by name."""

    client_ids: bool  # an order can be asked for by our own id
    replace: bool  # a working order can be amended in place
    native_stops: bool
    order_stream: bool  # it tells of changes to orders by itself
    settle_window_s: float  # how long an unanswered order may still turn out accepted
    balances: bool = False  # `positions` are the account's balances: a row for each base asset, others' coins among them
    positions_every_s: float = 0.0  # how often the venue's limits let them be read when nothing is in doubt


class Budget(msgspec.Struct, frozen=True):
    """What polling costs and what the venue's limit affords in the long run, in calls as the venue counts them."""

    per_look: int  # orders and fills, as a rule
    per_positions: int
    per_hour: int
    words: str  # whose limit that is, for people


class Broker(Protocol):
    """One account at one venue. Every method is thread-safe, blocks for at most the configured time-out in all, and answers or
    raises one of the four errors; reads never raise Unanswered (a failed read is Unavailable, never "empty").

    check    the first call of all: the venue answers and knows us, in the mode we expect; the mode in a word.
    submit   sends `order` once and returns the venue order id. Never retried below this line.
    replace  asks to change quantity and prices of a working order to those given; an answer is not yet a fact.
    cancel   asks to end a working order; an answer is not yet a fact. Refused covers "already complete" and "not found".
    order    the venue's present word on one order (by venue_id), or None when the venue says it knows none such.
    orders   every order of the day in this account, ours or not.
    fills    every execution of the day in this account.
    positions  net quantity of each symbol in our product; with `balances` of each base asset, by its own name.
    quotes   last prices by symbol; symbols without one are missing.
    skew_ms  how far this machine's clock is ahead of the venue's, the least that is proven; None where the venue tells no time.
    refused  rows that could not be used since the start, by kind.
    """

    capabilities: Capabilities

    def check(self) -> str: ...
    def submit(self, order: Order) -> str: ...
    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None: ...
    def cancel(self, order: Order) -> None: ...
    def order(self, order: Order) -> OrderRow | None: ...
    def orders(self) -> list[OrderRow]: ...
    def fills(self) -> list[FillRow]: ...
    def positions(self) -> list[PositionRow]: ...
    def quotes(self, symbols: list[str]) -> dict[str, Decimal]: ...
    def instrument(self, symbol: str) -> Instrument: ...
    def session_hours(self, day: date) -> SessionHours | None: ...
    def skew_ms(self) -> int | None: ...
    def refused(self) -> dict[str, int]: ...
    def close(self) -> None: ...


@runtime_checkable
class Resolver(Protocol):
    """A broker whose venue can be asked for an unanswered submit by our own id; it is then never looked for by its looks."""

    def resolve(self, order: Order) -> OrderRow | None:
        """By the venue's own procedure: its row; None when it is not there and never will be.

        Unavailable while that cannot be said yet; Refused when what is there is not what was asked for: a person must look.
        """


@runtime_checkable
class Frugal(Protocol):
    """A broker whose venue affords few reads: asked before each look that is not the regular one."""

    def affords_a_look(self, in_question: bool) -> bool:
        """`in_question`: something is to be found out, not only looked after."""


@runtime_checkable
class Budgeted(Protocol):
    """A broker that knows its venue's rate limit: `doctor` reckons with it."""

    @property
    def budget(self) -> Budget: ...
