"""Coinbase Advanced Trade over REST: our calls in its words, its answers in ours (venue sheet, sections 3 to 10).

Owns the requests, the brakes, and what is known of submits without an answer. Must never: read a 2xx as a yes without its
`success`, take a failed read for an empty one, list orders by status (OPEN hides PENDING and QUEUED), or cancel what is not
named.

The venue knows our order ids (as UUIDs derived of them), and posting the same body twice does not make two orders: that is how a
submit without an answer is resolved. There is no stop-market order; see coinbase_replies for what becomes of a STOP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from brokers.base import (
    BrokerError,
    Budget,
    Capabilities,
    Fatal,
    FillRow,
    OrderRow,
    Paced,
    PositionRow,
    Refused,
    SessionHours,
    Unanswered,
    Unavailable,
    Unreadable,
)
from brokers.client_ids import ClientIds
from brokers.coinbase_doubts import Doubt, Doubts
from brokers.coinbase_replies import (
    WITH_TRIGGER,
    BadToken,
    configuration,
    difference,
    executions,
    failure,
    fill_row,
    instrument,
    known,
    limit_of,
    order_id,
    order_row,
    plain,
)
from brokers.coinbase_sign import Signer
from brokers.coinbase_words import CANCEL_UNDER_WAY, EXISTS_ALREADY, UNCERTAIN_REASONS, create_reason, says_something
from brokers.rate_limit import Lane, RateLimiter
from brokers.replies import decode, number, printable
from brokers.skew import Skew
from brokers.spelling import Spelling
from brokers.transport import Reply, Transport
from state.clock import Clock
from state.instrument import Instrument
from state.orders import ZERO, Order, Purpose

log = logging.getLogger(__name__)

PER_S = 8  # of the 10 a second that its public pages allow one address; a key may do 30
PER_HOUR = 9_500  # of 10,000
KEPT_FOR_URGENT = 1_500  # of these, for exits, stops and cancels alone
PAGE, FILLS_PAGE, ACCOUNTS_PAGE = 250, 250, 250
PAGES = 20  # a book that goes on for longer is not read to the end: an error, never a part of it
UNASKED_LOOK_MS = 2_000
BOOK_HOURS = 24  # there are no days here: the book of the day is the last 24 hours
SKEW_LOOK_BACK = timedelta(minutes=5)  # the venue's clock may be behind ours
KEPT_REFUSED = 1_000
STOP_SLIPPAGE = Decimal("0.05")  # of the price: room for a stop to fill in anything but a crash
CLOSED_FOR = ("cancel_only", "limit_only", "post_only", "auction_mode")  # passes again; the venue refuses orders meanwhile
GONE_FLAGS = ("is_disabled", "trading_disabled", "view_only")


class Coinbase:
    """A Broker and Resolver over one key, which sees one portfolio. Thread-safe.

    A call takes `timeout_s` in all: up to half of it waiting for its turn under our own rate limits, the rest for the venue.
    Without a signer (paper) only prices and instruments can be asked for. `stop_slippage`: how far beyond its trigger a STOP may
    fill, as a part of the price.
    """

    budget = Budget(2, 1, PER_HOUR, "10,000 for a key, less a reserve")

    def __init__(
        self,
        rest_url: str,
        signer: Signer | None,
        ids: ClientIds,
        spelling: Spelling,
        timeout_s: float,
        settle_window_s: float,
        clock: Clock,
        exchange: str = "COINBASE",
        stop_slippage: Decimal = STOP_SLIPPAGE,
        skew: Skew | None = None,
        transport: Transport | None = None,
    ) -> None:
        if not 0 < stop_slippage < 1:
            raise ValueError(f"stop_slippage must be above 0 and below 1, not {stop_slippage}")
        self.capabilities = Capabilities(
            client_ids=True,
            replace=True,
            native_stops=True,
            order_stream=True,
            settle_window_s=settle_window_s,
            balances=True,
        )
        parts = urlsplit(rest_url)
        self._signer, self._signed_host, self._signed_path = signer, parts.netloc, parts.path.rstrip("/")
        self._ids, self._spelling, self._clock = ids, spelling, clock
        self._timeout_s, self._exchange, self._slippage = timeout_s, exchange, stop_slippage
        self._transport = transport or Transport(rest_url, timeout_s, clock=clock)
        self._brakes = (RateLimiter(PER_S, 1, clock), RateLimiter(PER_HOUR, 3600, clock, KEPT_FOR_URGENT))
        self._skew = skew or Skew(clock.threads)
        self._doubts = Doubts(clock, settle_window_s)
        self._lock = clock.threads.lock()  # guards _instruments, _refused and _bad_tokens
        self._instruments: dict[str, Instrument] = {}  # fixed for the session
        self._refused: set[tuple[str, str]] = set()  # (row, what is wrong with it)
        self._looked_ms = clock.monotonic_ms() - UNASKED_LOOK_MS  # the poll thread's
        self._bad_tokens = 0  # order calls in a row that were answered with 401

    # --- orders ---

    def submit(self, order: Order) -> str:
        body = self._body(order)
        try:
            return self._placed(body, self._post("orders", body, _lane(order)))
        except Unanswered:
            self._doubts.begin(body["client_order_id"])
            raise
        except BrokerError:
            raise
        except Exception as defect:  # it was sent: a defect of ours does not mean it was not (UNK-04)
            raise Unanswered(f"orders: the reply could not be used, {type(defect).__name__}") from defect

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        """Both price and size, always: what is left out counts as 0. The size is the total, what is filled included."""
        trigger, limit = trigger_price or order.trigger_price, limit_price or order.limit_price
        price = limit_of(order, trigger, limit, self._grid(order.symbol), self._slippage)
        fields = {"order_id": _known_id(order), "price": plain(price), "size": plain(qty)}
        if order.type in WITH_TRIGGER:
            fields["stop_price"] = plain(trigger)
        body = self._post("orders/edit", fields, _lane(order))
        if body.get("success") is True:
            return
        told = body.get("errors")
        rows = [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []
        words = [row.get(key) for row in rows for key in ("edit_failure_reason", "preview_failure_reason")]
        raise self._said_no("orders/edit", body, " ".join(word for word in words if isinstance(word, str)))

    def cancel(self, order: Order) -> None:
        # Always urgent: ending an order, an entry's too, only ever takes risk away.
        venue = _known_id(order)
        body = self._post("orders/batch_cancel", {"order_ids": [venue]}, Lane.URGENT)
        results = body.get("results")
        rows = [row for row in results if isinstance(row, dict)] if isinstance(results, list) else []
        row = next((row for row in rows if row.get("order_id") in (venue, "")), None)
        if row is None:
            raise Unanswered("orders/batch_cancel: the answer says nothing of the order")
        reason = str(row.get("failure_reason"))
        if row.get("success") is not True and reason not in CANCEL_UNDER_WAY:
            raise self._said_no("orders/batch_cancel", row, reason)

    def resolve(self, order: Order) -> OrderRow | None:
        """The byte-identical body again, a few times; its order, compared field by field. A no on the repeat proves nothing (the
        first one may hold the funds): then it is looked for. Nothing there a whole window after the last send: never sent."""
        body = self._body(order)
        uuid = body["client_order_id"]
        doubt = self._doubts.take_turn(uuid)
        if doubt.venue_id is None and self._doubts.may_send_again(doubt, self._clock.now_ms() - order.created_ms):
            self._send_again(order, body, doubt)
        row = self._found(doubt, uuid, order)
        if row is not None:
            if (wrong := difference(body, row, self._spelling)) is not None:
                raise Refused(f"venue order {order_id(row)} has the id of {order.client_id}, but {wrong}")
            self._doubts.end(uuid)
            return order_row(row, self._spelling, self._ids)
        self._doubts.absent(uuid, doubt)
        return None

    # --- reads ---

    def order(self, order: Order) -> OrderRow | None:
        self._ids.uuid(order.client_id)
        row = self._one(_known_id(order), _lane(order))
        return None if row is None else order_row(row, self._spelling, self._ids)

    def affords_a_look(self, in_question: bool) -> bool:
        """Two a second, all day, is what the hourly limit allows: two reads each two seconds leave room for questions."""
        return in_question or self._clock.monotonic_ms() - self._looked_ms >= UNASKED_LOOK_MS

    def orders(self) -> list[OrderRow]:
        self._looked_ms = self._clock.monotonic_ms()
        since = self._now() - timedelta(hours=BOOK_HOURS)
        return [row for raw in self._historical(since) if (row := self._readable(raw, "order_id", self._as_order)) is not None]

    def fills(self) -> list[FillRow]:
        since = self._now() - timedelta(hours=BOOK_HOURS)
        query = [("start_sequence_timestamp", _rfc3339(since)), ("limit", str(FILLS_PAGE))]
        kept, taken_back = executions(list(self._pages("orders/historical/fills", "fills", query)))
        for why, row_id in taken_back:
            self._refuse(row_id, why)
        return [row for raw in kept if (row := self._readable(raw, "entry_id", self._as_fill)) is not None]

    def positions(self) -> list[PositionRow]:
        """What the portfolio has of each currency, held by orders or not."""
        totals: dict[str, Decimal] = {}
        for row in self._pages("accounts", "accounts", [("limit", str(ACCOUNTS_PAGE))]):
            currency = printable(str(row.get("currency") or ""), 40)
            where = f"account of {currency or 'no currency'}"
            held = sum((_amount(row, key, where) for key in ("available_balance", "hold")), ZERO)
            if not currency and held:
                raise Unreadable(f"schema: {where} holds {held}")  # leaving it out could say flat
            totals[currency] = totals.get(currency, ZERO) + held
        return [PositionRow(currency, held) for currency, held in totals.items() if currency]

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        prices = {symbol: known(self._product(symbol), "price", symbol) for symbol in symbols}
        return {symbol: price for symbol, price in prices.items() if price}

    def instrument(self, symbol: str) -> Instrument:
        row = self._product(symbol)
        gone = [flag for flag in GONE_FLAGS if row.get(flag) is True]
        if gone or row.get("status", "online") not in ("online", ""):
            raise Refused(f"{symbol} is not traded: {', '.join(gone) or printable(str(row.get('status')), 40)}")
        closed = [flag for flag in CLOSED_FOR if row.get(flag) is True]
        if closed:
            log.warning("%s is %s for now: the venue refuses other orders until that has passed", symbol, ", ".join(closed))
        aliases = row.get("alias_to")
        names = [row.get("product_id"), row.get("alias"), *(aliases if isinstance(aliases, list) else [])]
        self._spelling.add(symbol, *(name for name in names if isinstance(name, str)))
        found = instrument(row, symbol, self._exchange)
        with self._lock:
            self._instruments[symbol] = found
        return found

    def session_hours(self, day: date) -> SessionHours | None:
        return None  # it never closes

    def check(self) -> str:
        """Before anything else: the key works and may trade."""
        if self._signer is None:
            self._read("time")
            return "prices only"
        may = self._read("key_permissions")
        for permission in ("can_view", "can_trade"):
            if may.get(permission) is not True:
                raise Fatal(f"key_permissions: the key has not the permission {permission}")
        if may.get("can_transfer") is True:
            log.warning("the key may transfer money out of the account: trading needs no such permission")
        return "live"

    def skew_ms(self) -> int | None:
        return self._skew.ahead_ms()

    def refused(self) -> dict[str, int]:
        with self._lock:
            return {"refused rows": len(self._refused)}

    def close(self) -> None:
        self._transport.close()

    # --- submits ---

    def _body(self, order: Order) -> dict[str, Any]:
        """Of the order alone, so that it is the same, byte for byte, whenever it is made."""
        return {
            "client_order_id": self._ids.uuid(order.client_id),
            "product_id": order.symbol,
            "side": order.side.value,
            "order_configuration": configuration(order, self._grid(order.symbol), self._slippage),
        }

    def _grid(self, symbol: str) -> Instrument:
        with self._lock:
            found = self._instruments.get(symbol)
        return found or self.instrument(symbol)

    def _placed(self, sent: dict[str, Any], body: dict[str, Any]) -> str:
        """The venue order id. By `success` alone: examples show it true beside an `error_response`, and beside a reason."""
        if body.get("success") is True:
            told = body.get("success_response")
            told = told if isinstance(told, dict) else body
            venue = order_id(told) or order_id(body)
            if venue is None:
                raise Unanswered("orders: a success without an order id")
            if told.get("client_order_id") not in (None, "", sent["client_order_id"]):
                raise Unanswered(f"orders: the answer is about another order, {venue}")
            return venue
        if body.get("success") is not False:
            raise Unanswered("orders: the answer does not say whether it is a success")
        reason, text = create_reason(body)
        words = f"orders: {printable(reason, 100)} {printable(text)}".strip()
        if reason in EXISTS_ALREADY:
            self._doubts.begin(sent["client_order_id"], exists=True)
            raise Unanswered(words)
        if reason in UNCERTAIN_REASONS:  # a no, to be confirmed by looking before it counts as one
            self._doubts.begin(sent["client_order_id"], look_only=True)
            raise Unanswered(f"{words or 'orders: a no without a reason'}: looking whether it is there all the same")
        raise Refused(words)

    def _send_again(self, order: Order, body: dict[str, Any], doubt: Doubt) -> None:
        """Whatever comes of it, it is looked for afterwards."""
        self._doubts.sending(doubt)
        try:
            doubt.venue_id = self._placed(body, self._post("orders", body, _lane(order)))
        except (Refused, Unanswered, Unavailable) as error:
            log.info("%s: sent again to learn what became of it: %s", order.client_id, error)

    def _found(self, doubt: Doubt, uuid: str, order: Order) -> dict[str, Any] | None:
        """The venue's row of the order with this id of ours."""
        if doubt.venue_id is not None:
            row = self._one(doubt.venue_id, _lane(order))
            if row is None:
                raise Unavailable(f"order {doubt.venue_id} was accepted and is not shown yet")
            return row
        since = datetime.fromtimestamp(order.created_ms / 1000, UTC) - SKEW_LOOK_BACK
        return next((row for row in self._historical(since) if row.get("client_order_id") == uuid), None)

    # --- rows ---

    def _one(self, venue_id: str, lane: Lane) -> dict[str, Any] | None:
        path = f"orders/historical/{quote(venue_id, safe='')}"
        reply, body = self._ask("GET", path, lane=lane)
        if reply.status == 404 and body is not None:
            return None
        row = self._good(path, reply, body).get("order")
        if not isinstance(row, dict) or row.get("order_id") != venue_id:
            raise Unreadable(f"schema: {path} is not that order")
        return row

    def _historical(self, since: datetime) -> Iterator[dict[str, Any]]:
        """Every order since then in whatever status: asked by OPEN, the venue leaves out PENDING and QUEUED."""
        return self._pages("orders/historical/batch", "orders", [("start_date", _rfc3339(since)), ("limit", str(PAGE))])

    def _pages(self, path: str, key: str, query: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """All rows or an error, in one call's time: half a book is no book."""
        until_ms, cursor = self._until_ms(), ""
        for _ in range(PAGES):
            more = [("cursor", cursor)] if cursor else []
            body = self._good(path, *self._ask("GET", path, query + more, until_ms=until_ms))
            rows = body.get(key)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Unreadable(f"schema: {path} sent {printable(repr(rows), 40)} for a list")
            yield from rows
            cursor = str(body.get("cursor") or "")
            if not cursor or body.get("has_next") is False or not rows:
                return
        raise Unavailable(f"{path}: more than {PAGES} pages")

    def _as_order(self, row: dict[str, Any]) -> OrderRow:
        return order_row(row, self._spelling, self._ids)

    def _as_fill(self, row: dict[str, Any]) -> FillRow:
        return fill_row(row, self._spelling)

    def _readable(self, row: dict[str, Any], key: str, read: Any) -> Any:
        """None for a row that cannot be used: of an order of ours, it is then asked for by its id."""
        try:
            return read(row)
        except Unreadable as wrong:
            self._refuse(str(row.get(key)), f"a row cannot be used, {wrong}")
            return None

    def _refuse(self, row: str, why: str) -> None:
        """Counted and told once, however often the venue shows it."""
        with self._lock:
            if (row, why) in self._refused or len(self._refused) >= KEPT_REFUSED:
                return
            self._refused.add((row, why))
        log.warning(why)

    def _product(self, symbol: str) -> dict[str, Any]:
        return self._read(f"{'' if self._signer else 'market/'}products/{quote(symbol, safe='')}")

    # --- requests ---

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def _until_ms(self) -> int:
        return self._clock.monotonic_ms() + int(self._timeout_s * 1000)

    def _read(self, path: str) -> dict[str, Any]:
        return self._good(path, *self._ask("GET", path))

    def _good(self, path: str, reply: Reply, body: dict[str, Any] | None) -> dict[str, Any]:
        if reply.status == 200 and body is not None:
            return body
        failed = failure(reply.status, body, read=True)
        if isinstance(failed, BadToken):
            raise Fatal(f"{path}: {failed}{self._clock_words()}")
        if reply.status == 200:
            raise Unreadable(f"{path}: {failed}")
        raise _named(path, failed, reply)

    def _post(self, path: str, fields: dict[str, Any], lane: Lane) -> dict[str, Any]:
        """An order call's answer, where it has one that can be read."""
        if self._signer is None:
            raise Fatal(f"{path}: there is no key for orders")
        reply, body = self._ask("POST", path, body=msgspec.json.encode(fields), lane=lane)
        failed = None if reply.status == 200 and body is not None else failure(reply.status, body, read=False)
        with self._lock:
            self._bad_tokens = self._bad_tokens + 1 if isinstance(failed, BadToken) else 0
            again = self._bad_tokens > 1
        if isinstance(failed, BadToken):
            words = f"{path}: {failed}{self._clock_words()}"
            raise Fatal(words) if again else Unavailable(words)
        if failed is not None:
            raise _named(path, failed, reply)
        assert body is not None
        return body

    def _ask(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        lane: Lane = Lane.NORMAL,
        until_ms: int | None = None,
    ) -> tuple[Reply, dict[str, Any] | None]:
        """One request within what is left of the call's time. A read that is answered with 401 goes out once more: a token made
        by a wrong clock is made by the venue's time the second time, for the answer says it."""
        until_ms = self._until_ms() if until_ms is None else until_ms
        read = method == "GET"
        reply = self._send(method, path, query or [], body, lane, until_ms)
        if reply.status == 401 and read and self._signer is not None:
            reply = self._send(method, path, query or [], body, lane, until_ms)
        return reply, decode(reply.body)

    def _send(self, method: str, path: str, query: list[tuple[str, str]], body: bytes, lane: Lane, until_ms: int) -> Reply:
        patience_s = max(until_ms - self._clock.monotonic_ms(), 0) / 2000
        if not all(brake.acquire(lane, patience_s) for brake in self._brakes):
            raise Paced(f"{path}: nothing was sent, no turn under our own rate limit within {patience_s:.1f} s")
        headers = {"Cache-Control": "no-cache"}
        if self._signer is not None:
            token = self._signer.request(method, self._signed_host, f"{self._signed_path}/{path}")
            headers["Authorization"] = f"Bearer {token}"
        left_s = (until_ms - self._clock.monotonic_ms()) / 1000
        target = f"{path}?{urlencode(query)}" if query else path
        reply = self._transport.send(method, target, body, headers, read=method == "GET", deadline_s=left_s)
        self._skew.heard(reply.date, reply.sent_ms, reply.sent_ms + reply.elapsed_ms)
        return reply

    def _clock_words(self) -> str:
        ahead_ms = self._skew.ahead_ms() or 0
        return f" (this machine's clock is {ahead_ms} ms ahead of the venue's)" if ahead_ms else ""

    def _said_no(self, path: str, body: dict[str, Any], reason: str) -> BrokerError:
        """A change that was answered without success."""
        if body.get("success") is not False:
            return Unanswered(f"{path}: the answer does not say whether it is a success")
        return Refused(f"{path}: {printable(reason) if says_something(reason) else printable(reason) or 'no reason given'}")


def _named(path: str, failed: BrokerError | BadToken, reply: Reply) -> BrokerError:
    assert isinstance(failed, BrokerError)
    failed.args = (f"{path}: {failed}",)
    if isinstance(failed, Unavailable):
        failed.retry_after_s = reply.retry_after_s
    return failed


def _amount(row: dict[str, Any], key: str, where: str) -> Decimal:
    told = row.get(key)
    if not isinstance(told, dict) or "value" not in told:
        raise Unreadable(f"schema: {where} has no {key}")
    return number(told["value"], f"{where} {key}")


def _rfc3339(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _lane(order: Order) -> Lane:
    return Lane.NORMAL if order.purpose is Purpose.ENTRY else Lane.URGENT


def _known_id(order: Order) -> str:
    if order.venue_id is None:
        raise Unavailable(f"{order.client_id} has no venue order id yet: nothing was asked")
    return order.venue_id
