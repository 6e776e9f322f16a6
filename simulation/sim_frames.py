"""The frames of a simulated stream as OpenAlgo writes them, and how they are spoiled on the server.

Owns spelling and its faults. Pure, but for the fates: no time passes here and nothing is sent; a message becomes none, one or
several frames, each with how long after the others it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from brokers.base import OrderRow, Reported
from simulation.fates import Fates, Kind
from state.orders import ZERO, OrderType

EXCHANGE = "SIM"
HOUR_MS = 3_600_000
KINDS = {
    "feed.tick_lost": Kind("a price is lost", 0.02),
    "feed.tick_doubled": Kind("a price comes twice", 0.02),
    "feed.tick_swapped": Kind("a price comes after later ones", 0.01),
    "feed.tick_late": Kind("a price comes 5 to 20 s late", 0.01),
    "feed.tick_of_old": Kind("a price comes with a time of before the open, or of an hour ago", 0.005),
    "feed.tick_of_future": Kind("a price comes with a time that is still to come", 0.005),
    "feed.tick_untimed": Kind("a price comes without a time, or with nonsense for one", 0.01),
    "feed.tick_in_seconds": Kind("a price comes with its time in seconds", 0.02),
    "feed.tick_respelled": Kind("a price comes as a text, or with an exponent", 0.02),
    "feed.tick_no_price": Kind("NaN, zero, a negative or an absurd number instead of a price", 0.01),
    "feed.tick_tenfold": Kind("a price of ten times, or a tenth, of the true one, beside it", 0.005),
    "feed.tick_stranger": Kind("a price of another symbol, exchange or spelling, beside the true one", 0.005),
    "feed.frame_broken": Kind("a frame is cut off", 0.005),
    "feed.frame_strange": Kind("a frame that means nothing, beside the true one", 0.01),
    "feed.frame_shared": Kind("several messages in one frame", 0.02),
    "feed.complaint": Kind("the server complains of its broker, without a type", 0.002),
    "feed.update_lost": Kind("an order update is lost", 0.06),
    "feed.update_doubled": Kind("an order update comes twice", 0.06),
    "feed.update_late": Kind("an order update comes up to 6 s late, after later ones", 0.06),
    "feed.update_stale": Kind("an order is told of once more as it was before", 0.04),
    "feed.update_garbled": Kind("an order update cannot be read", 0.03),
    "feed.update_bare": Kind("an order update does not tell what was filled", 0.03),
    "feed.update_stranger": Kind("an update of somebody else's order", 0.03),
}
NO_PRICES = [
    "NaN",
    '"NaN"',
    "Infinity",
    '"-Infinity"',
    "0",
    "-1",
    "null",
    "true",
    "1e400",
    "1e-400",
    '""',
    '"n/a"',
    "[]",
    "1E+15",
]
NO_TIMES = ["", "null", '"yesterday"', "0", "-1", "true", "1e300"]
STRANGE = [
    '{"type":"heartbeat"}',
    '{"type":"market_data","mode":2}',
    '{"type":7}',
    "null",
    "17",
    '"hello"',
    "",
    "\x00\x01",
    "[" * 2_000,
    '{"type":"market_data","symbol":"","exchange":"SIM","mode":1,"data":{"ltp":1}}',
]
ORDER_TYPES = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT", OrderType.STOP_LIMIT: "SL", OrderType.STOP: "SL-M"}
WORDS = {
    Reported.WORKING: "open",
    Reported.FILLED: "complete",
    Reported.CANCELLED: "cancelled",
    Reported.REJECTED: "rejected",
    Reported.EXPIRED: "expired",
}
_encoder = msgspec.json.Encoder(decimal_format="number")
Sent = tuple[int, bytes]  # how many ms later, and what


def encode(**fields: object) -> bytes:
    return _encoder.encode(fields)


class QuoteFrame(msgspec.Struct, frozen=True):
    """One price. `price` and `at` are spelled as they stand in the frame; `at` None: the frame has no time."""

    symbol: str
    exchange: str
    price: str
    at: int | str | None
    delay_ms: int = 0

    def encode(self) -> bytes:
        time = "" if self.at is None else f',"timestamp":{self.at}'
        return (
            f'{{"type":"market_data","symbol":"{self.symbol}","exchange":"{self.exchange}","mode":1,'
            f'"data":{{"ltp":{self.price}{time}}}}}'
        ).encode()


class UpdateFrame(msgspec.Struct, frozen=True):
    """An order as the stream tells of it."""

    orderid: str
    symbol: str
    exchange: str
    action: str
    quantity: Decimal | str
    order_status: str
    pricetype: str
    price: Decimal
    trigger_price: Decimal
    filled_quantity: Decimal | None
    average_price: Decimal | None
    rejection_reason: str
    type: str = "order_update"

    @classmethod
    def of(cls, row: OrderRow) -> UpdateFrame:
        return cls(
            orderid=row.venue_id,
            symbol=row.symbol,
            exchange=EXCHANGE,
            action=row.side.value,
            quantity=row.qty,
            order_status=WORDS[row.state],
            pricetype=ORDER_TYPES[row.type] if row.type is not None else "",
            price=row.limit_price or ZERO,
            trigger_price=row.trigger_price or ZERO,
            filled_quantity=row.filled,
            average_price=row.average,
            rejection_reason=row.reason,
        )

    def encode(self) -> bytes:
        return _encoder.encode(self)


# -- prices --------------------------------------------------------------------------------------------------------------------

Quotes = list[QuoteFrame]


def spoiled_quote(quote: QuoteFrame, fates: Fates) -> list[Sent]:
    """What is sent of a price. Every kind is asked each time, so that leaving one out of a trace moves no other."""
    quotes = [quote]
    for kind, spoil in _QUOTE_FAULTS.items():
        if fates.strikes(kind):
            quotes = spoil(quotes, fates)
    return _framed([(quote.delay_ms, quote.encode()) for quote in quotes], fates)


def _framed(sent: list[Sent], fates: Fates) -> list[Sent]:
    if fates.strikes("feed.frame_broken"):
        sent = [(delay_ms, frame[: fates.amount(1, len(frame) - 1)]) for delay_ms, frame in sent]
    if fates.strikes("feed.frame_shared"):
        shared = [frame for delay_ms, frame in sent if not delay_ms]
        noise = encode(type="heartbeat")
        sent = [(0, b"[" + b",".join([noise, *shared, noise]) + b"]"), *(late for late in sent if late[0])]
    if fates.strikes("feed.frame_strange"):
        sent = [(0, fates.pick(STRANGE).encode()), *sent]
    if fates.strikes("feed.complaint"):
        sent = [(0, encode(status="error", code="BROKER_ERROR", message="broker feed is unstable")), *sent]
    return sent


def _each(**change: Callable[[QuoteFrame, Fates], object]) -> Callable[[Quotes, Fates], Quotes]:
    return lambda quotes, fates: [
        replace(quote, **{field: make(quote, fates) for field, make in change.items()}) for quote in quotes
    ]


def _beside(**change: Callable[[QuoteFrame, Fates], object]) -> Callable[[Quotes, Fates], Quotes]:
    return lambda quotes, fates: [*_each(**change)(quotes[:1], fates), *quotes]


def _respelled(quote: QuoteFrame, fates: Fates) -> str:
    return fates.pick(
        [f'"{quote.price}"', f"{Decimal(quote.price):E}", f"{quote.price}00" if "." in quote.price else quote.price]
    )


def _stranger(quotes: Quotes, fates: Fates) -> Quotes:
    quote = quotes[0] if quotes else None
    if quote is None:
        return []
    kind = fates.pick(["case", "unknown", "exchange", "blank"])
    symbol = {"case": quote.symbol.swapcase(), "unknown": "NO-SUCH-SYMBOL", "blank": f" {quote.symbol}"}.get(kind, quote.symbol)
    return [replace(quote, symbol=symbol, exchange="OTHER" if kind == "exchange" else EXCHANGE), *quotes]


def _tenfold(quote: QuoteFrame, fates: Fates) -> str:
    return str(Decimal(quote.price) * (10 if fates.amount(0, 1) else Decimal("0.1")))


def _time(quote: QuoteFrame) -> int:
    return quote.at if isinstance(quote.at, int) else 0


_QUOTE_FAULTS: dict[str, Callable[[Quotes, Fates], Quotes]] = {
    "feed.tick_stranger": _stranger,
    "feed.tick_tenfold": _beside(price=_tenfold),
    "feed.tick_respelled": _each(price=_respelled),
    "feed.tick_no_price": _each(price=lambda _, fates: fates.pick(NO_PRICES)),
    "feed.tick_of_old": _each(at=lambda quote, fates: _time(quote) - HOUR_MS * fates.amount(1, 30)),
    "feed.tick_of_future": _each(at=lambda quote, fates: _time(quote) + fates.amount(1_000, HOUR_MS)),
    "feed.tick_in_seconds": _each(at=lambda quote, _: _time(quote) // 1000),
    "feed.tick_untimed": _each(at=lambda _, fates: fates.pick(NO_TIMES) or None),
    "feed.tick_doubled": lambda quotes, _: quotes * 2,
    "feed.tick_swapped": _each(delay_ms=lambda _, fates: fates.amount(100, 4_000)),
    "feed.tick_late": _each(delay_ms=lambda _, fates: fates.amount(5_000, 20_000)),
    "feed.tick_lost": lambda *_: [],
}


# -- order updates -------------------------------------------------------------------------------------------------------------


def spoiled_update(row: OrderRow, words: Sequence[OrderRow], fates: Fates) -> list[Sent]:
    """What is sent of an order's change. `words`: what was true of the order before, and is now."""
    update = UpdateFrame.of(row)
    delay_ms = fates.amount(100, 6_000) if fates.strikes("feed.update_late") else 0
    if fates.strikes("feed.update_bare"):
        update = replace(update, filled_quantity=None, average_price=None)
    if fates.strikes("feed.update_garbled"):
        update = replace(update, quantity=fates.pick(["many", "NaN", "-1", "0"]))
    times = 2 if fates.strikes("feed.update_doubled") else 1
    sent = [(delay_ms, update.encode())] * (0 if fates.strikes("feed.update_lost") else times)
    if fates.strikes("feed.update_stale"):
        sent.append((fates.amount(0, 5_000), UpdateFrame.of(words[fates.amount(0, len(words) - 1)]).encode()))
    if fates.strikes("feed.update_stranger"):
        whose = fates.pick(["OTHER", EXCHANGE])
        stranger = replace(update, orderid=f"99{fates.amount(1, 9_999_999)}", exchange=whose, symbol="NO-SUCH-SYMBOL")
        sent.insert(0, (0, stranger.encode()))
    return sent
