"""OANDA v20 over REST: our calls in its words, its answers in ours (venue sheet, sections 2 to 10).

Owns the request bodies, the brake, and the reading of the account's transactions into the one log that says what became of every
order (oanda_log). Must never: send anything twice, take a client id for a safeguard against doubles (posted again after a fill
it fills again), or believe an answer that is older than what has been heard already.

What differs from other venues: a 201 may be a cancel; exits and protection are REDUCE_ONLY, so that they cannot turn a position
round, and entries OPEN_ONLY, so that they close nobody else's trades; a stop-limit fills within its limit at once or is
cancelled (BOUNDS_VIOLATION), it never rests there; a change makes a new order, which the log shows under the old id.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

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
from brokers.oanda_log import Missing, Transaction, TransactionLog, id_of, time_ms
from brokers.oanda_words import TYPE_WORD, Asked, by_reason, failure, text
from brokers.rate_limit import Lane, RateLimiter
from brokers.replies import decode, number, printable, quantity
from brokers.skew import Skew, date_ms
from brokers.spelling import Spelling
from brokers.transport import Reply, Transport
from state.clock import Clock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose

log = logging.getLogger(__name__)

REQUESTS_PER_S = 100  # the venue allows 120
PAGE = 1_000  # transactions
MOST_PAGES = 20  # read back at once; an order older than these is for a person to look at
# An order left without an answer on a Friday evening is asked about on the Tuesday after a holiday at the latest.
LOOK_BACK_MS = 4 * 86_400_000
CLOCKS_MS = 60_000  # how far the venue's clock may be behind ours when an order's time is compared with a transaction's
FRESH_MS = 250  # fills that follow the orders of one look need no second question
KEPT_SENDS = 1_024
_encoder = msgspec.json.Encoder()


class Oanda:
    """A Broker over one account. Thread-safe. A call takes `timeout_s` for each request it makes, nearly always one."""

    budget = Budget(1, 1, REQUESTS_PER_S * 3_600, f"{REQUESTS_PER_S} a second")

    def __init__(
        self,
        rest_url: str,
        token: str,
        account_id: str,
        timeout_s: float,
        settle_window_s: float,
        clock: Clock,
        ids: ClientIds,
        transactions: TransactionLog,
        spelling: Spelling,
        stream_urls: tuple[str, ...] = (),
    ) -> None:
        self.capabilities = Capabilities(
            client_ids=True, replace=True, native_stops=True, order_stream=True, settle_window_s=settle_window_s
        )
        self._environments = [environment(url) for url in (rest_url, *stream_urls)]
        self._headers = headers(token)
        self._token = token
        self._account_id = account_id
        self._account = f"/accounts/{quote(account_id, safe='')}"
        self._timeout_s = timeout_s
        self._settle_ms = int(settle_window_s * 1000)
        self._clock = clock
        self._ids = ids
        self._log = transactions
        self._spelling = spelling
        self._transport = Transport(rest_url, timeout_s, clock=clock)
        self._brake = RateLimiter(REQUESTS_PER_S, 1, clock)
        self._skew = Skew(clock.threads)
        self._lock = clock.threads.lock()  # guards the three below
        self._sends: OrderedDict[str, int] = OrderedDict()  # our id -> the highest transaction known before it was sent
        self._read_ms: int | None = None  # when the question whose answer the log holds was asked, monotonic
        self._nameless = False  # the venue has dropped a client id
        self._venue_ms = 0  # the venue's time in its last answer

    # --- orders ---

    def submit(self, order: Order) -> str:
        if self._nameless and order.purpose is Purpose.ENTRY:
            raise Fatal("the venue drops client ids (an account shared with MT4?): an entry without an answer could not be found")
        body = {"order": _fields(order, order.qty, order.trigger_price, order.limit_price, self._names(order, order.client_id))}
        with self._lock:
            self._sends[order.client_id] = self._log.seen
            while len(self._sends) > KEPT_SENDS:
                self._sends.popitem(last=False)
        reply = self._ask("POST", f"{self._account}/orders", _lane(order), Asked.CREATE, body)
        try:
            return self._placed(order, reply)
        except BrokerError:
            raise
        except Exception as defect:  # it was sent: a defect of ours does not mean it was not (UNK-04)
            raise Unanswered(f"orders: the reply could not be used, {type(defect).__name__}") from defect

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        """One request cancels the old and makes the new: the position is never without a stop in between."""
        link, filled = self._link(order)
        if qty <= filled:
            raise Refused(f"{filled} of it have filled: it cannot be made {qty}")
        names = self._names(order, f"{order.client_id}>{link}")
        fields = _fields(order, qty - filled, trigger_price or order.trigger_price, limit_price or order.limit_price, names)
        reply = self._ask("PUT", f"{self._account}/orders/{link}", _lane(order), Asked.CHANGE, {"order": fields})
        body = self._good("orders", reply, Asked.CHANGE)
        gone = body.get("replacingOrderCancelTransaction")
        if isinstance(gone, dict) and "orderFillTransaction" not in body:
            raise Refused(f"the old order is gone and the new one was cancelled at once: {text(gone, 'reason')}")

    def cancel(self, order: Order) -> None:
        link, _ = self._link(order)
        reply = self._ask("PUT", f"{self._account}/orders/{link}/cancel", Lane.URGENT, Asked.CHANGE)
        self._good("cancel", reply, Asked.CHANGE)

    def resolve(self, order: Order) -> OrderRow | None:
        """By the account's transactions: all that happened since before it was sent, without a gap (sheet, section 8)."""
        over = self._clock.monotonic_ms() - order.changed_ms >= self._settle_ms
        self._sync(_lane(order))
        found = self._log.named(self._ids.uuid(order.client_id))
        stood = [row for row, stood in found if stood]
        if len(stood) > 1:
            raise Refused(f"venue orders {', '.join(row.venue_id for row in stood)} all carry its id")
        if stood:
            return stood[0]
        with self._lock:
            before = self._sends.get(order.client_id)
        if before is not None and found and int(found[-1][0].venue_id) > before:
            return found[-1][0]  # this very send was refused, or cancelled at once
        if not over:
            raise Unavailable(f"{order.client_id} is not among the transactions yet: it may still come")
        if before is None and not self._reaches(order.created_ms):
            raise Refused(f"the transactions that can be read begin after {order.client_id} was made")
        return None

    def _reaches(self, created_ms: int) -> bool:
        return self._log.begins == 1 or 0 < self._log.begins_ms < created_ms - CLOCKS_MS

    # --- reads ---

    def order(self, order: Order) -> OrderRow | None:
        root = _known_id(order)
        self._sync(_lane(order))
        self._reach_back_to(root)
        row = self._log.row(root)
        if row is None and root.isdigit() and int(root) <= self._log.forgotten:
            raise Unavailable(f"order {root} ended too long ago to be told of")
        return row

    def orders(self) -> list[OrderRow]:
        self._sync(Lane.NORMAL)
        return self._log.rows()

    def fills(self) -> list[FillRow]:
        with self._lock:
            read_ms = self._read_ms
        fresh = read_ms is not None and self._clock.monotonic_ms() - read_ms <= FRESH_MS
        if not fresh or self._log.seen > self._log.last:
            self._sync(Lane.NORMAL)
        return self._log.fills()

    def positions(self) -> list[PositionRow]:
        rows: list[PositionRow] = []
        for row in _rows(self._account_read("/openPositions"), "positions"):
            name = text(row, "instrument")
            if not name:
                raise Unreadable("schema: a position without an instrument")
            long, short = _side(row, "long", name), _side(row, "short", name)
            average = long[1] if not short[0] else short[1] if not long[0] else None
            rows.append(PositionRow(printable(self._spelling.ours(name)), long[0] + short[0], average))
        return rows

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        """The bid, as the stream has it; none of what cannot be traded just now."""
        if not symbols:
            return {}
        names = quote(",".join(symbols), safe=",")
        prices: dict[str, Decimal] = {}
        for row in _rows(self._read(f"{self._account}/pricing?instruments={names}"), "prices"):
            best = bid(row)
            if best is not None:
                prices[self._spelling.ours(text(row, "instrument"))] = best
        return {symbol: prices[symbol] for symbol in symbols if symbol in prices}

    def instrument(self, symbol: str) -> Instrument:
        rows = _rows(self._read(f"{self._account}/instruments?instruments={quote(symbol, safe='')}"), "instruments")
        row = next((row for row in rows if row.get("name") == symbol), None)
        if row is None:
            raise Refused(f"the account trades no {printable(symbol, 40)}; names are written like EUR_USD")
        prices, units = (_places(row, key) for key in ("displayPrecision", "tradeUnitsPrecision"))
        least = quantity(row.get("minimumTradeSize"), f"{symbol} minimumTradeSize")
        most = quantity(row.get("maximumOrderUnits", "0"), f"{symbol} maximumOrderUnits")
        base, _, counter = symbol.partition("_")
        self._spelling.add(symbol, text(row, "displayName"))
        return Instrument(symbol, "OANDA", prices, units, min_qty=least, freeze_qty=most or None, base=base, quote=counter)

    def session_hours(self, day: date) -> SessionHours | None:
        """The venue tells none: the calendar's hours count, and each price says whether it can be traded."""
        return None

    def check(self) -> str:
        """The token works, for this account, in one environment; the account nets and keeps client ids."""
        if len(set(self._environments)) > 1:
            raise Fatal("the addresses belong to different environments: practice and live have tokens of their own")
        accounts = _rows(self._read("/accounts"), "accounts")
        mine = next((row for row in accounts if row.get("id") == self._account_id), None)
        if mine is None:
            raise Fatal("the token does not open the configured account")
        if mine.get("mt4AccountID") is not None:
            raise Fatal("the account is shared with MT4, where client ids are lost: a lost answer could not be looked for")
        summary = self._summary()
        if summary.get("hedgingEnabled") is not False:
            raise Fatal("the account hedges: positions of both sides side by side, which nothing here keeps apart")
        return self._environments[0]

    def skew_ms(self) -> int | None:
        return self._skew.ahead_ms()

    def refused(self) -> dict[str, int]:
        return {"refused transactions": self._log.unusable}

    def close(self) -> None:
        self._transport.close()

    # --- the transactions ---

    def _sync(self, lane: Lane) -> None:
        """Every transaction up to now, in the log. An answer older than what we know is no answer."""
        asked_ms, wanted = self._clock.monotonic_ms(), self._log.seen
        if not self._log.read:
            self._load()
        for _ in range(MOST_PAGES):
            last = self._log.last
            body = self._read(f"{self._account}/transactions/sinceid?id={last}", lane)
            told = id_of(body, "lastTransactionID")
            if told < wanted:
                raise Unavailable(f"transactions: the venue answers as of {told}, {wanted} has been heard of: a stale answer")
            self._log.take(_rows(body, "transactions"))
            if self._log.last >= told:
                with self._lock:
                    self._read_ms = asked_ms
                return
            if self._log.last == last:
                raise Missing(f"transactions: {last + 1} to {told} are not shown")
        raise Unavailable(f"transactions: more than {MOST_PAGES} pages behind")

    def _load(self, root: int | None = None) -> None:
        """The pages before now, newest first, until they begin long enough ago, or with this order."""
        last = self._last_told()
        begins = last + 1
        found: list[Transaction] = []
        for _ in range(MOST_PAGES):
            if begins == 1 or (root is not None and begins <= root):
                break
            first = max(1, begins - PAGE)
            body = self._read(f"{self._account}/transactions/idrange?from={first}&to={begins - 1}")
            page = _rows(body, "transactions")
            if len(page) != begins - first:
                raise Missing(f"transactions: {first} to {begins - 1} are shown with gaps")
            begins, found = first, page + found
            if root is None and self._venue_ms - time_ms(page[0].get("time")) > LOOK_BACK_MS:
                break
        self._log.load(found, begins)

    def _reach_back_to(self, root: str) -> None:
        """An order of before what has been read: its id says from where on to read."""
        if not root.isdigit() or int(root) >= self._log.begins:
            return
        if self._log.last - int(root) > MOST_PAGES * PAGE:
            raise Unavailable(f"order {root} was made too long ago: more than {MOST_PAGES * PAGE} transactions")
        self._load(int(root))
        self._sync(Lane.NORMAL)

    def _last_told(self) -> int:
        return id_of(self._summary(), "lastTransactionID")

    def _summary(self) -> dict[str, Any]:
        account = self._account_read("/summary").get("account")
        if not isinstance(account, dict):
            raise Unreadable("schema: summary has no account")
        self._log.currency = text(account, "currency")
        return account

    def _link(self, order: Order) -> tuple[str, Decimal]:
        """Under which id the order is to be changed now, and what it has filled."""
        root = _known_id(order)
        if self._log.link(root) is None:
            self._sync(_lane(order))
            self._reach_back_to(root)
        link = self._log.link(root)
        if link is None:
            raise Refused(f"order {root} is not among the account's transactions")
        return link

    # --- requests ---

    def _placed(self, order: Order, reply: Reply) -> str:
        body = self._good("orders", reply, Asked.CREATE)
        made, filled, ended = (body.get(f"order{part}Transaction") for part in ("Create", "Fill", "Cancel"))
        if not isinstance(made, dict):
            raise Unanswered("orders: created, without saying what")
        venue_id = str(id_of(made, "id"))
        extensions = made.get("clientExtensions")
        if not isinstance(extensions, dict) or extensions.get("id") != self._ids.uuid(order.client_id):
            self._nameless = True
            log.error("order %s: the venue has dropped its client id", venue_id)
        if isinstance(ended, dict) and not isinstance(filled, dict):
            raise by_reason(ended.get("reason"), f"order {venue_id} was cancelled at once")
        if order.type is OrderType.MARKET and not isinstance(filled, dict):
            raise Unanswered(f"market order {venue_id} is neither filled nor cancelled", venue_id)
        return venue_id

    def _ask(self, method: str, path: str, lane: Lane, asked: Asked, body: dict[str, Any] | None = None) -> Reply:
        if not self._brake.acquire(lane, self._timeout_s / 2):
            raise Paced(f"{method}: nothing was sent, no turn under our own rate limit")
        content = b"" if body is None else _encoder.encode(body)
        reply = self._transport.send(method, path, content, self._headers, read=asked is Asked.READ)
        self._skew.heard(reply.date, reply.sent_ms, reply.sent_ms + reply.elapsed_ms)
        self._venue_ms = date_ms(reply.date) or reply.sent_ms
        return reply

    def _good(self, path: str, reply: Reply, asked: Asked) -> dict[str, Any]:
        """The object of a success. Whatever it says of the last transaction is kept, of a refusal too."""
        body = decode(reply.body)
        last = None if body is None else body.get("lastTransactionID")
        if isinstance(last, str) and last.isdigit():
            self._log.heard(int(last))
        if reply.status not in (200, 201) or body is None:
            failed = failure(asked, reply.status, reply.body)
            failed.args = (f"{path}: {str(failed).replace(self._token, '[token]')}",)
            if isinstance(failed, Unavailable):
                failed.retry_after_s = reply.retry_after_s
            raise failed
        return body

    def _read(self, path: str, lane: Lane = Lane.NORMAL) -> dict[str, Any]:
        reply = self._ask("GET", path, lane, Asked.READ)
        return self._good(path.partition("?")[0].rpartition("/")[2], reply, Asked.READ)

    def _account_read(self, path: str) -> dict[str, Any]:
        """A read of the account's state, not older than what is known already."""
        wanted = self._log.seen
        body = self._read(self._account + path)
        told = id_of(body, "lastTransactionID")
        if told < wanted:
            raise Unavailable(f"{path[1:]}: the venue answers as of {told}, {wanted} has been heard of: a stale answer")
        return body

    def _names(self, order: Order, of: str) -> dict[str, str]:
        """The id that finds it, and ours in clear beside it: together they prove whose an order is, after a restart too."""
        return {"id": self._ids.uuid(of), "comment": order.client_id}


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept-Datetime-Format": "RFC3339"}


def environment(url: str) -> str:
    """ "practice" for the venue's practice hosts (and this machine's own), else "live"."""
    host = urlsplit(url).hostname or ""
    return "live" if "fxpractice" not in host and host.endswith("oanda.com") else "practice"


def bid(price: dict[str, Any]) -> Decimal | None:
    """The best bid of one price message; None while it cannot be traded or nobody bids.

    Why the bid: a long is sold at it, the venue fires a long's stop on it, and it lies on the price grid, where a mid price does
    so only every other time. A short's stop is the venue's, on the ask; what is watched here beside it comes a spread later.
    """
    bids = price.get("bids")
    tradeable = price.get("tradeable") is not False and price.get("status", "tradeable") == "tradeable"
    if not tradeable or not isinstance(bids, list) or not bids:
        return None
    best = quantity(bids[0].get("price") if isinstance(bids[0], dict) else None, "bid")
    return best or None


def _fields(order: Order, qty: Decimal, trigger: Decimal | None, limit: Decimal | None, names: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": TYPE_WORD[order.type], "instrument": order.symbol, "units": plain(qty * order.side.sign)}
    if order.type is OrderType.LIMIT:
        fields["price"] = plain(limit)
    elif order.type is not OrderType.MARKET:
        fields["price"] = plain(trigger)
    if order.type is OrderType.STOP_LIMIT:
        fields["priceBound"] = plain(limit)
    fields["timeInForce"] = "FOK" if order.type is OrderType.MARKET else "GTC"
    fields["positionFill"] = "OPEN_ONLY" if order.purpose is Purpose.ENTRY else "REDUCE_ONLY"
    return fields | {"clientExtensions": names}


def plain(value: Decimal | None) -> str:
    """A number as the venue takes it: no exponent, and no decimals beyond those it needs."""
    if value is None or not value.is_finite() or not value:
        raise Refused(f"an order with the price or quantity {value} was not sent")
    return format(value.normalize(), "f")


def _lane(order: Order) -> Lane:
    return Lane.NORMAL if order.purpose is Purpose.ENTRY else Lane.URGENT


def _known_id(order: Order) -> str:
    if order.venue_id is None:
        raise Unavailable(f"{order.client_id} has no venue order id yet: nothing was asked")
    return order.venue_id


def _rows(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = body.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unreadable(f"schema: {printable(repr(rows), 40)} for the list of {key}")
    return rows


def _side(row: dict[str, Any], key: str, name: str) -> tuple[Decimal, Decimal | None]:
    side = row.get(key)
    if not isinstance(side, dict):
        raise Unreadable(f"schema: position {name} has no {key} side")
    held = number(side.get("units"), f"position {name} {key} units")
    average = side.get("averagePrice")
    return held, quantity(average, f"position {name} averagePrice") if held and average else None


def _places(row: dict[str, Any], key: str) -> Decimal:
    """The step of that many decimals."""
    places = row.get(key)
    if isinstance(places, bool) or not isinstance(places, int) or not -6 <= places <= 12:
        raise Unreadable(f"schema: {key} is {printable(repr(places), 30)}")
    return Decimal(1).scaleb(-places)
