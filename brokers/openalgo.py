"""OpenAlgo over REST: our calls in its words, its answers in ours (venue sheet, sections 3 to 12).

Owns the request bodies, the per-endpoint brakes and the composition of order rows with the tradebook. Must never: send anything
twice, remember orders, take a failed read for an empty one, or touch the whole account (cancel-all, close-position, smart order).

OpenAlgo knows no client order id. Ours goes out as the `strategy` label, which analyze mode shows again and live mode loses.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from brokers.base import (
    BrokerError,
    Budget,
    Capabilities,
    Fatal,
    FillRow,
    OrderRow,
    PositionRow,
    Refused,
    SessionHours,
    Unanswered,
    Unavailable,
    Unreadable,
)
from brokers.openalgo_replies import (
    PRICE_TYPE,
    Asked,
    failure,
    fill_row,
    filled_from,
    message,
    needs_trades,
    order_id,
    order_row,
    plain,
    price,
    venue_id,
)
from brokers.rate_limit import Lane, RateLimiter
from brokers.replies import decode, field, number, printable
from brokers.skew import Skew
from brokers.spelling import Spelling
from brokers.transport import Reply, Transport
from state.clock import Clock
from state.instrument import Instrument
from state.orders import ZERO, Order, OrderType, Purpose

log = logging.getLogger(__name__)

READS_PER_S = 40  # the server allows 50 per endpoint; ours are counted together
LABEL_LIMIT = 64
KEPT_REFUSED = 1_000
NO_SUCH_ORDER = re.compile(r"^order .* not found", re.IGNORECASE)
# Usual open of a day in UTC. A server whose own clock is not on Indian time reports every ordinary day shifted (section 12).
USUAL_OPEN_UTC = dict.fromkeys(("NSE", "BSE", "NFO", "BFO"), (3, 45)) | dict.fromkeys(("CDS", "BCD", "MCX", "NCO"), (3, 30))
_encoder = msgspec.json.Encoder(decimal_format="number")


class OpenAlgo:
    """A Broker over one OpenAlgo server, for one exchange and product. Thread-safe.

    A call takes `timeout_s` in all: up to half of it waiting for its turn under our own rate limits, the rest for the server.
    `expect_mode` is checked on every reply that says its mode, and on those that must: "live" replies carry none.
    """

    budget = Budget(2, 1, READS_PER_S * 3_600, f"{READS_PER_S} a second")

    def __init__(
        self,
        rest_url: str,
        api_key: str,
        exchange: str,
        product: str,
        timeout_s: float,
        settle_window_s: float,
        clock: Clock,
        strategy_label: str = "live_runner",
        expect_mode: Literal["live", "analyze"] | None = None,
        timezone: str = "Asia/Kolkata",
        orders_per_s: int = 8,
        transport: Transport | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        self.capabilities = Capabilities(
            client_ids=False, replace=True, native_stops=True, order_stream=True, settle_window_s=settle_window_s
        )
        self._key = api_key
        self._exchange = exchange
        self._product = product
        self._timeout_s = timeout_s
        self._clock = clock
        self._label = strategy_label
        self._expect_mode = expect_mode
        self._zone = ZoneInfo(timezone)
        self._transport = transport or Transport(rest_url, timeout_s, clock=clock)
        self._brakes = {name: RateLimiter(orders_per_s, 1, clock) for name in ("placeorder", "modifyorder", "cancelorder")}
        self._read_brake = RateLimiter(READS_PER_S, 1, clock)
        self._spelling = spelling or Spelling(clock.threads)
        self._skew = Skew(clock.threads)
        self._lock = clock.threads.lock()  # guards the row below
        self._refused: set[tuple[str, str]] = set()  # (order, what is wrong): rows of it that cannot be used

    # --- orders ---

    def submit(self, order: Order) -> str:
        fields = self._place_fields(order)
        reply, body = self._ask("placeorder", fields, Asked.PLACE, _lane(order))
        try:
            return self._placed(reply, body)
        except BrokerError:
            raise
        except Exception as defect:  # it was sent: a defect of ours does not mean it was not (UNK-04)
            raise Unanswered(f"placeorder: the reply could not be used, {type(defect).__name__}") from defect

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        typed = order.type
        fields = {
            "strategy": self._strategy(order),
            "orderid": _known_id(order),
            "symbol": order.symbol,
            "exchange": self._exchange,
            "action": order.side.value,
            "product": self._product,
            "pricetype": PRICE_TYPE[typed],
            "price": plain(limit_price or order.limit_price) if typed in (OrderType.LIMIT, OrderType.STOP_LIMIT) else 0,
            "quantity": plain(qty),
            "trigger_price": plain(trigger_price or order.trigger_price)
            if typed in (OrderType.STOP, OrderType.STOP_LIMIT)
            else 0,
            "disclosed_quantity": 0,
        }
        self._change("modifyorder", fields, _lane(order))

    def cancel(self, order: Order) -> None:
        # Always urgent: ending an order, an entry's too, only ever takes risk away.
        self._change("cancelorder", {"strategy": self._strategy(order), "orderid": _known_id(order)}, Lane.URGENT)

    # --- reads ---

    def order(self, order: Order) -> OrderRow | None:
        until_ms = self._until_ms()
        fields = {"strategy": self._strategy(order), "orderid": _known_id(order)}
        reply, body = self._ask("orderstatus", fields, Asked.READ, _lane(order), until_ms)
        if reply.status == 404 and NO_SUCH_ORDER.match(message(body)):
            return None
        row = self._good("orderstatus", reply, body).get("data")
        if not isinstance(row, dict):
            raise Unreadable("schema: orderstatus data is not an object")
        return self._with_trades([self._row(row)], _lane(order), until_ms)[0]

    def orders(self) -> list[OrderRow]:
        until_ms = self._until_ms()
        found = [self._row(row) for row in self._rows("orderbook", "orders", Lane.NORMAL, until_ms)]
        return self._with_trades(found, Lane.NORMAL, until_ms)

    def fills(self) -> list[FillRow]:
        return self._trades(Lane.NORMAL, self._until_ms())[0]

    def positions(self) -> list[PositionRow]:
        """Ours alone: a CNC row of the same symbol is not our MIS position (REC-09). Rows of one key add up."""
        totals: dict[str, Decimal] = {}
        averages: dict[str, Decimal | None] = {}
        for row in self._rows("positionbook", "positions", Lane.NORMAL, self._until_ms()):
            symbol = printable(self._spelling.ours(row.get("symbol")))
            where = f"position {symbol or 'without a symbol'}"
            if (_word(field(row, "exchange", where)), _word(field(row, "product", where))) != (self._exchange, self._product):
                continue
            held = number(field(row, "quantity", where), f"{where} quantity")
            if not symbol and held:
                raise Unreadable(f"schema: {where} holds {held}")  # it may be ours: leaving it out would say flat
            if symbol:
                totals[symbol] = totals.get(symbol, ZERO) + held
                averages[symbol] = price(row, "average_price", where) if held else averages.get(symbol)
        return [PositionRow(symbol, held, averages[symbol] if held else None) for symbol, held in totals.items()]

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        if not symbols:
            return {}
        wanted = [{"symbol": symbol, "exchange": self._exchange} for symbol in symbols]
        results = self._read("multiquotes", {"symbols": wanted}).get("results")
        if not isinstance(results, list):
            raise Unreadable("schema: multiquotes has no list of results")
        prices: dict[str, Decimal] = {}
        for row in results:
            quote = row.get("data") if isinstance(row, dict) else None
            last = price(quote, "ltp", f"quote of {row.get('symbol')}") if isinstance(quote, dict) else None
            if last is not None and _word(row.get("exchange")) in ("", self._exchange):
                prices[self._spelling.ours(row.get("symbol"))] = last
        return {symbol: prices[symbol] for symbol in symbols if symbol in prices}

    def instrument(self, symbol: str) -> Instrument:
        found = self._read("symbol", {"symbol": symbol, "exchange": self._exchange}).get("data")
        if not isinstance(found, dict):
            raise Unreadable(f"schema: symbol {symbol} has no data")
        tick, lot = price(found, "tick_size", symbol), price(found, "lotsize", symbol)
        if tick is None or lot is None:  # a default here would round every stop wrongly
            raise Refused(f"{symbol} has no {'lot' if tick else 'tick'} size on {self._exchange}: it cannot be traded")
        freeze = price(found, "freeze_qty", symbol)
        self._spelling.add(symbol, *(str(found[key]) for key in ("symbol", "brsymbol", "token") if found.get(key)))
        return Instrument(symbol, self._exchange, tick, lot, min_qty=lot, freeze_qty=None if freeze == 1 else freeze)

    def session_hours(self, day: date) -> SessionHours | None:
        """The server's hours, or None (no opinion) where they show a clock that is not Indian or a day that is not usual."""
        rows = self._rows("market/timings", "timings", Lane.NORMAL, self._until_ms(), {"date": day.isoformat()})
        ours = next((row for row in rows if row.get("exchange") == self._exchange), None)
        if ours is None:
            return SessionHours(None, None)
        start_ms, end_ms = (int(number(field(ours, key, "timings"), f"timings {key}")) for key in ("start_time", "end_time"))
        usual = USUAL_OPEN_UTC.get(self._exchange)
        opens = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms)
        if usual is None or opens != datetime(day.year, day.month, day.day, *usual, tzinfo=UTC) or end_ms <= start_ms:
            return None
        return SessionHours(start_ms, end_ms)

    def check(self) -> str:
        """Before anything else: the key works, the broker session lives, the mode is the expected one. Returns the mode."""
        for path in ("ping", "analyzer"):
            reply, body = self._ask(path, {}, Asked.READ, Lane.NORMAL)
            if reply.status in (401, 403):
                raise Fatal(f"{path}: HTTP {reply.status} {self._safe(message(body))!r}, key or broker session is not valid")
            found = self._good(path, reply, body)
        about = found.get("data")
        mode = about.get("mode") if isinstance(about, dict) else None
        if mode not in ("live", "analyze"):
            raise Unreadable(f"schema: analyzer says mode {printable(repr(mode), 30)}")
        if self._expect_mode not in (None, mode):
            raise Fatal(f"the server is in {mode} mode, {self._expect_mode} was configured")
        return str(mode)

    def skew_ms(self) -> int | None:
        return self._skew.ahead_ms()

    def refused(self) -> dict[str, int]:
        with self._lock:
            return {"refused rows": len(self._refused)}

    def close(self) -> None:
        self._transport.close()

    # --- requests ---

    def _place_fields(self, order: Order) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "strategy": self._strategy(order),
            "exchange": self._exchange,
            "symbol": order.symbol,
            "product": self._product,
            "action": order.side.value,
            "pricetype": PRICE_TYPE[order.type],
            "quantity": plain(order.qty),
        }
        if order.type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
            fields["price"] = plain(order.limit_price)
        if order.type in (OrderType.STOP, OrderType.STOP_LIMIT):
            fields["trigger_price"] = plain(order.trigger_price)
        return fields

    def _strategy(self, order: Order) -> str:
        return order.client_id if len(order.client_id) <= LABEL_LIMIT else self._label

    def _until_ms(self) -> int:
        return self._clock.monotonic_ms() + int(self._timeout_s * 1000)

    def _ask(
        self, path: str, fields: dict[str, Any], asked: Asked, lane: Lane, until_ms: int | None = None
    ) -> tuple[Reply, dict[str, Any] | None]:
        """One request within what is left of the call's time; the reply and its object, where it is one."""
        until_ms = self._until_ms() if until_ms is None else until_ms
        patience_s = (until_ms - self._clock.monotonic_ms()) / 2000
        if not self._brakes.get(path, self._read_brake).acquire(lane, max(patience_s, 0)):
            raise Unavailable(f"{path}: nothing was sent, no turn under our own rate limit within {patience_s:.1f} s")
        left_s = (until_ms - self._clock.monotonic_ms()) / 1000
        body = _encoder.encode({"apikey": self._key, **fields})
        reply = self._transport.post(f"/api/v1/{path}", body, read=asked is Asked.READ, deadline_s=left_s)
        self._skew.heard(reply.date, reply.sent_ms, reply.sent_ms + reply.elapsed_ms)
        return reply, decode(reply.body)

    def _change(self, path: str, fields: dict[str, Any], lane: Lane) -> None:
        reply, body = self._ask(path, fields, Asked.CHANGE, lane)
        if not _success(reply, body) or body is None or order_id(body.get("orderid")) != fields["orderid"]:
            raise self._failure(path, Asked.CHANGE, reply)
        self._check_mode(path, body)

    def _placed(self, reply: Reply, body: dict[str, Any] | None) -> str:
        venue = order_id(body.get("orderid")) if _success(reply, body) and body is not None else None
        if venue is None or body is None or "pending_order_id" in body:
            failed = self._failure("placeorder", Asked.PLACE, reply)
            if not isinstance(failed, Unanswered) and body is not None:
                self._check_mode("placeorder", body, must_say=False)
            raise failed
        try:
            self._check_mode("placeorder", body)
        except Fatal as wrong:  # it was accepted all the same: Fatal would say it never happened
            raise Unanswered(f"accepted as {venue}, but {wrong}", venue) from wrong
        return venue

    def _read(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        reply, body = self._ask(path, fields, Asked.READ, Lane.NORMAL)
        return self._good(path, reply, body)

    def _good(self, path: str, reply: Reply, body: dict[str, Any] | None) -> dict[str, Any]:
        if body is None or not _success(reply, body):
            raise self._failure(path, Asked.READ, reply)
        self._check_mode(path, body, must_say=path in ("orderstatus", "orderbook", "tradebook", "positionbook"))
        return body

    def _rows(self, path: str, key: str, lane: Lane, until_ms: int, fields: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """A list as [...] or {key: [...]}; "", null and everything else is refused loudly: it is not "none" (REC-14)."""
        reply, body = self._ask(path, fields or {}, Asked.READ, lane, until_ms)
        found = self._good(path, reply, body).get("data")
        rows = found.get(key) if isinstance(found, dict) else found
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Unreadable(f"schema: {path} sent {printable(repr(found), 40)} for a list")
        return rows

    def _failure(self, path: str, asked: Asked, reply: Reply) -> BrokerError:
        failed = failure(asked, reply.status, decode(reply.body))
        failed.args = (f"{path}: {self._safe(str(failed))}",)
        if isinstance(failed, Unavailable):
            failed.retry_after_s = reply.retry_after_s
        return failed

    def _safe(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _check_mode(self, path: str, body: dict[str, Any], must_say: bool = True) -> None:
        """Analyze replies say so, live ones say nothing; the two are never mixed (REC-14)."""
        if self._expect_mode is None or ("mode" not in body and not must_say):
            return
        mode = body.get("mode", "live")
        if mode != self._expect_mode:
            raise Fatal(f"{path} answered in {printable(str(mode), 30)} mode, {self._expect_mode} was configured")

    # --- rows ---

    def _row(self, row: dict[str, Any]) -> OrderRow:
        return msgspec.structs.replace(order_row(row, self._zone, self._clock.now_ms()), symbol=self._symbol(row))

    def _symbol(self, row: dict[str, Any]) -> str:
        """Ours, however it is spelled. Of another exchange or product it is another thing, and named so (REC-09, REC-10)."""
        symbol = printable(self._spelling.ours(row.get("symbol")))  # null while the server's master contract lacks it
        exchange, product = _word(row.get("exchange")), _word(row.get("product"))
        if exchange in ("", self._exchange) and product in ("", self._product):
            return symbol
        return printable(f"{symbol} {exchange} {product}")

    def _with_trades(self, rows: list[OrderRow], lane: Lane, until_ms: int) -> list[OrderRow]:
        """What closed orders filled, summed from the tradebook where the row cannot say; asked for only then."""
        if not any(map(needs_trades, rows)):
            return rows
        trades, incomplete = self._trades(lane, until_ms)
        return [filled_from(row, trades, incomplete) if needs_trades(row) else row for row in rows]

    def _trades(self, lane: Lane, until_ms: int) -> tuple[list[FillRow], set[str]]:
        """Every execution that can be used, and the orders of which one cannot: what those have filled is not known."""
        now_ms = self._clock.now_ms()
        seen: Counter[tuple[object, ...]] = Counter()
        fills: list[FillRow] = []
        incomplete: set[str] = set()
        for row in self._rows("tradebook", "trades", lane, until_ms):
            venue = venue_id(row, "a tradebook row")
            try:
                fill = fill_row(venue, self._symbol(row), row, self._zone, now_ms, seen)
            except Unreadable as wrong:
                incomplete.add(venue)
                self._refuse(venue, f"tradebook row refused, {wrong}: asking for its order")
                continue
            if fill is None:
                self._refuse(venue, f"tradebook row of order {venue} has quantity 0: not a fill")
            else:
                fills.append(fill)
        return fills, incomplete

    def _refuse(self, venue: str, why: str) -> None:
        """Counted and told once, however often the venue shows it."""
        with self._lock:
            if (venue, why) in self._refused or len(self._refused) >= KEPT_REFUSED:
                return
            self._refused.add((venue, why))
        log.warning(why)


def _word(value: object) -> str:
    """An exchange or product in one spelling; "" where none is said."""
    return "" if value is None else str(value).strip().upper()


def _lane(order: Order) -> Lane:
    return Lane.NORMAL if order.purpose is Purpose.ENTRY else Lane.URGENT


def _known_id(order: Order) -> str:
    if order.venue_id is None:
        raise Unavailable(f"{order.client_id} has no venue order id yet: nothing was asked")
    return order.venue_id


def _success(reply: Reply, body: dict[str, Any] | None) -> bool:
    return reply.status == 200 and body is not None and body.get("status") == "success"
