"""Kraken spot over REST: our calls in its words, its answers in ours (venue sheet). Orders go out here, never over the socket.

Owns the request fields, the deadline of each order, and what a look may cost. Must never: send anything twice, take a failed read
for an empty one, keep a state of an order and report it as fresh, or touch the whole account (cancel-all, dead-man switch).

What the venue does that one would not expect. A Starter key affords one private call in 5 s: each look is one call, for the
orders that we know of, and now and then for all that rest. Balances come every 45 s, executions from the stream
(kraken_stream.py), and from the trade query only where the book tells of one that nobody has heard of. A trail is sent every
15 s at most.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import quote

import msgspec

from brokers.base import (
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
from brokers.kraken_key import LESS_PER_MS, POINT, Engine, Key
from brokers.kraken_names import Executions, Names
from brokers.kraken_replies import (
    Asked,
    ExistsAlready,
    Failure,
    differs,
    fill_row,
    instrument_of,
    order_row,
    plain,
    result,
    rows_of,
)
from brokers.kraken_words import KINDS, Outcome
from brokers.rate_limit import Lane
from brokers.replies import number, printable, quantity
from brokers.skew import Skew, date_ms
from brokers.transport import Reply, Transport
from state.clock import Clock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose

log = logging.getLogger(__name__)

DEADLINE_MS = 5_000  # the engine refuses an order that reaches it later
PROOF_MS = 2_000  # after the deadline, until absence counts
ASK_AGAIN_MS = 3_000
READ_S = 5.0  # a read may keep the key for so long: an exit may be waiting for it
ONE_ORDER_S = 0.5  # a question about one order waits for its turn no longer: behind it, on the same desk, the exit may wait
BALANCES_EVERY_S = 45.0
AMEND_GAP_MS = 15_000
IDS_IN_A_QUERY = 50
WHOLE_BOOK_EVERY = 12  # looks: orders of others, and orphans
PAGE, PAGES = 50, 6
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
KEPT_SENT = 512


class _Sent(msgspec.Struct):
    """An order that went out, or that an earlier process may have sent: when silence proves that it never arrived."""

    deadline_ms: int  # the venue's clock
    proof_ms: int  # monotonic
    next_ms: int = 0  # monotonic: before this it is not asked for again
    looked: bool = False


class Kraken:
    """A Broker, a Resolver and Frugal. Thread-safe; `names`, `ids` and `executions` are shared with the streams."""

    budget = Budget(1, 1, LESS_PER_MS * HOUR_MS // POINT, "a Starter key affords one call in each cycle of 5 s")

    def __init__(
        self,
        rest_url: str,
        key: Key,
        timeout_s: float,
        settle_window_s: float,
        clock: Clock,
        names: Names,
        ids: ClientIds,
        executions: Executions,
        exchange: str = "KRAKEN",
        transport: Transport | None = None,
    ) -> None:
        self.capabilities = Capabilities(
            client_ids=True,
            replace=True,
            native_stops=True,
            order_stream=True,
            settle_window_s=settle_window_s,
            balances=True,
            positions_every_s=BALANCES_EVERY_S,
        )
        self._key, self._names, self._ids, self._executions = key, names, ids, executions
        self._timeout_s, self._clock, self._exchange = timeout_s, clock, exchange
        self._transport = transport or Transport(rest_url, timeout_s, clock=clock)
        self._skew = Skew(clock.threads)
        self._engine = Engine(clock)
        self._quotes: dict[str, str] = {}  # our symbol -> its quote currency
        self._lock = clock.threads.lock()  # guards everything below
        self._known: OrderedDict[str, bool] = OrderedDict()  # venue order ids to ask for -> whether the last row was its end
        self._sent: OrderedDict[str, _Sent] = OrderedDict()  # by our id
        self._looks = 0
        self._refused_rows: set[str] = set()

    # --- orders ---

    def submit(self, order: Order) -> str:
        pair = self._names.rest(order.symbol)
        if order.purpose is Purpose.ENTRY and self._engine.full(pair):
            raise Paced(f"{pair}: nothing was sent, the engine's counter of this pair is nearly full")
        fields = self._place_fields(order, pair)
        self._engine.count(pair, 1)
        try:
            found, _ = self._private("AddOrder", fields, Asked.ORDER, _lane(order), 0, order)
        except ExistsAlready as proof:
            raise Unanswered(f"an order with this id is there already: {proof}") from proof
        ids = found.get("txid") if isinstance(found, dict) else None
        if not isinstance(ids, list) or len(ids) != 1 or not isinstance(ids[0], str) or not ids[0]:
            raise Unanswered("AddOrder: accepted, but without the one order id that was due")
        self._remember(ids[0], False)
        return ids[0]

    def replace(self, order: Order, qty: Decimal, trigger_price: Decimal | None, limit_price: Decimal | None) -> None:
        """What differs from the order as it stands. A new quantity goes at once, a new level every 15 s at most."""
        fields = {"txid": _known_id(order)}
        if qty != order.qty:
            fields["order_qty"] = plain(qty)
        if order.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and limit_price is not None:
            fields["limit_price"] = plain(limit_price)
        if order.type in (OrderType.STOP, OrderType.STOP_LIMIT):
            fields["trigger_price"] = plain(trigger_price)
        pair = self._names.rest(order.symbol)
        wait_ms = self._engine.may_amend(pair, 0 if qty != order.qty else AMEND_GAP_MS)
        if wait_ms:
            raise Paced(f"{pair}: nothing was sent, the next amend is due in {wait_ms} ms", wait_ms / 1000)
        self._engine.count(pair, 3)
        fields["deadline"] = _rfc3339(self._deadline_ms())
        self._private("AmendOrder", fields, Asked.ORDER, _lane(order), 0)

    def cancel(self, order: Order) -> None:
        """Always urgent. `pending` and "unknown order" do not say how it ended: only what the book then shows is the end."""
        self._engine.count(self._names.rest(order.symbol), 8)
        found, _ = self._private("CancelOrder", {"txid": _known_id(order)}, Asked.ORDER, Lane.URGENT, 0)
        count = found.get("count") if isinstance(found, dict) else None
        if count is None:
            raise Unanswered("CancelOrder: an answer without a count")
        if count == 0:
            raise Refused("CancelOrder: nothing was there to cancel")

    # --- reads ---

    def order(self, order: Order) -> OrderRow | None:
        """By its venue id. An empty answer is no proof: it is then looked for by our own id, in both lists."""
        venue_id, lane = _known_id(order), _lane(order)
        found = self._query([venue_id], lane, ONE_ORDER_S)
        if not found:
            found = [row for row in self._by_our_id(order, lane, ONE_ORDER_S)[0] if row.venue_id == venue_id]
        if not found:
            return None
        self._remember(venue_id, found[0].state.closed)
        return found[0]

    def orders(self) -> list[OrderRow]:
        """One call: the orders of ours that we know of; now and then, and while there are none, all that rest in the account."""
        with self._lock:
            self._looks += 1
            whole = self._looks % WHOLE_BOOK_EVERY == 0 or all(self._known.values())
            wanted = [] if whole else list(self._known)
        if wanted:
            found = self._query(wanted, Lane.NORMAL)
        else:
            told, _ = self._private("OpenOrders", {}, Asked.READ, Lane.NORMAL)
            found = self._rows(told, "open", "OpenOrders")
        for row in found:
            self._remember(row.venue_id, row.state.closed, only_known=not wanted and row.client_id is None)
            self._executions.compare(row.venue_id, row.filled)
        return found

    def fills(self) -> list[FillRow]:
        """Every execution heard of; asked for where one is missing, or the stream may have lost some."""
        if self._executions.due():
            try:
                self._read_trades()
            except Paced as later:
                log.info("the trade history is asked for later: %s", later)
        return self._executions.rows()

    def positions(self) -> list[PositionRow]:
        """Balances of the trading wallet. Names with a dot (.F, .S, ...) are other wallets: not ours to sell."""
        told, _ = self._private("Balance", {}, Asked.READ, Lane.NORMAL)
        if not isinstance(told, dict):
            raise Unreadable(f"schema: Balance is {printable(repr(told), 40)}")
        held = {code: number(value, f"balance of {printable(code, 20)}") for code, value in told.items() if "." not in code}
        return [PositionRow(printable(self._names.asset(code)), qty) for code, qty in held.items()]

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        if not symbols:
            return {}
        told = self._public("Ticker", {"pair": ",".join(self._names.rest(symbol) for symbol in symbols)})
        prices: dict[str, Decimal] = {}
        for pair, row in rows_of(told, "Ticker").items():
            last = row.get("c")
            if isinstance(last, list) and last:
                prices[self._names.ours(pair)] = quantity(last[0], f"{pair} last price")
        return {symbol: prices[symbol] for symbol in symbols if prices.get(symbol)}

    def instrument(self, symbol: str) -> Instrument:
        told = self._public("AssetPairs", {"pair": self._names.rest(symbol)})
        found = instrument_of(symbol, self._exchange, told, self._names)
        self._quotes[symbol] = found.quote
        return found

    def session_hours(self, day: date) -> SessionHours | None:
        return None  # it never closes

    def check(self) -> str:
        """Time, system status, and a read that needs the key. Maintenance keeps nobody out: the stream tells when it is over."""
        self._public("Time", {})
        status = self._public("SystemStatus", {})
        word = status.get("status") if isinstance(status, dict) else None
        if word != "online":
            log.warning("the venue says that it is in %s", printable(repr(word), 30))
        if not self._key.there:
            return "prices only"
        self.positions()
        return "live"

    def token(self) -> str:
        """For one connection of the private stream; to be used within 15 minutes."""
        told, _ = self._private("GetWebSocketsToken", {}, Asked.READ, Lane.URGENT)
        found = told.get("token") if isinstance(told, dict) else None
        if not isinstance(found, str) or not found:
            raise Unreadable("schema: GetWebSocketsToken brought no token")
        return found

    def affords_a_look(self, in_question: bool) -> bool:
        return in_question and self._key.affords(1)

    def skew_ms(self) -> int | None:
        return self._skew.ahead_ms()

    def refused(self) -> dict[str, int]:
        with self._lock:
            return {"refused rows": len(self._refused_rows)}

    def close(self) -> None:
        self._transport.close()

    # --- unanswered submits (section 8) ---

    def resolve(self, order: Order) -> OrderRow | None:
        """One early look, then by the deadline's proof: both lists asked after it, by the venue's own clock, name nothing."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            sent = self._sent.get(order.client_id)
            if sent is None:  # of an earlier process, which sent nothing after we came
                sent = self._sent[order.client_id] = _Sent(self._deadline_ms(), now_ms + DEADLINE_MS + PROOF_MS)
            if now_ms < sent.next_ms or (sent.looked and now_ms < sent.proof_ms):
                raise Unavailable(f"{order.client_id}: whether it arrived cannot be said yet")
            sent.next_ms, sent.looked = now_ms + ASK_AGAIN_MS, True
        found, venue_ms = self._by_our_id(order, Lane.URGENT)
        if len(found) > 1:
            raise Refused(f"{order.client_id} is there {len(found)} times: {', '.join(row.venue_id for row in found)}")
        if found:
            if difference := differs(order, found[0]):
                raise Refused(f"{found[0].venue_id} has our id and is not what was asked for: {difference}")
            self._remember(found[0].venue_id, found[0].state.closed)
            return found[0]
        late = venue_ms is None or venue_ms >= sent.deadline_ms + PROOF_MS
        if now_ms < sent.proof_ms or not late:
            raise Unavailable(f"{order.client_id}: not there, and its deadline has not passed")
        return None

    def _by_our_id(self, order: Order, lane: Lane, patience_s: float | None = None) -> tuple[list[OrderRow], int | None]:
        """What rests first, then what is over: an order on its way from one to the other is in one of them."""
        mine = self._venue_id(order)
        since_s = (order.created_ms - (self._skew.ahead_ms() or 0)) // 1000 - 60
        told, _ = self._private("OpenOrders", {"cl_ord_id": mine}, Asked.READ, lane, patience_s=patience_s)
        found = {row.venue_id: row for row in self._rows(told, "open", "OpenOrders")}
        fields = {"cl_ord_id": mine, "start": str(since_s)}
        told, reply = self._private("ClosedOrders", fields, Asked.READ, lane, patience_s=patience_s)
        found |= {row.venue_id: row for row in self._rows(told, "closed", "ClosedOrders")}
        return [row for row in found.values() if row.client_id == order.client_id], date_ms(reply.date)

    # --- requests ---

    def _place_fields(self, order: Order, pair: str) -> dict[str, str]:
        fields = {"pair": pair, "type": order.side.value.lower(), "ordertype": KINDS[order.type]}
        if order.type in (OrderType.STOP, OrderType.STOP_LIMIT):
            fields["price"] = plain(order.trigger_price)  # of every stop the first price is the trigger
        if order.type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
            fields["price" if order.type is OrderType.LIMIT else "price2"] = plain(order.limit_price)
        # The fee in the quote currency: else a fee would take from what a sell order is to sell.
        return fields | {"volume": plain(order.qty), "oflags": "fciq", "cl_ord_id": self._venue_id(order)}

    def _private(
        self,
        name: str,
        fields: dict[str, str],
        asked: Asked,
        lane: Lane,
        cost: int = 1,
        order: Order | None = None,
        patience_s: float | None = None,
    ) -> tuple[Any, Reply]:
        """One signed call. From the making of its nonce to its answer nobody else uses the key. `order`: one to be placed."""
        path, until_ms = f"/0/private/{name}", self._clock.monotonic_ms() + int(self._timeout_s * 1000)
        with self._key.turn(lane, cost, min(patience_s or self._timeout_s, self._timeout_s / 2)):
            if order is not None:
                fields = fields | {"deadline": _rfc3339(self._about_to_send(order))}
            body, headers = self._key.signed(path, fields)
            left_s = (until_ms - self._clock.monotonic_ms()) / 1000
            limit_s = min(left_s, READ_S) if asked is Asked.READ else left_s
            reply = self._transport.send("POST", path, body, headers, read=asked is Asked.READ, deadline_s=limit_s)
            self._skew.heard(reply.date, reply.sent_ms, reply.sent_ms + reply.elapsed_ms)
            return self._judged(asked, name, reply), reply

    def _judged(self, asked: Asked, name: str, reply: Reply) -> Any:
        found = result(reply)
        if found is not None:
            self._key.nonce_accepted()
            return found
        failure = Failure(asked, name, reply)
        failure.error.args = (self._key.safe(str(failure.error)),)
        if failure.outcome is Outcome.NONCE:
            self._nonce_refused(failure)
        self._key.nonce_accepted()
        if failure.outcome is Outcome.LOCKED_OUT:
            self._key.locked_out()
        elif failure.outcome is Outcome.TOO_FAST:
            self._key.too_fast(self._quiet_until_ms(failure.text))
        raise failure.error

    def _nonce_refused(self, failure: Failure) -> NoReturn:
        if self._key.nonce_refused():
            raise Fatal(f"{failure.error}, twice in a row: another process uses this key")
        raise failure.error

    def _quiet_until_ms(self, text: str) -> int | None:
        """Of "EService: Throttled: <unix time>": until then, on our monotonic clock."""
        told = text.rpartition(":")[2].strip()
        if not told.isdigit():
            return None
        return self._clock.monotonic_ms() + max(int(told) * 1000 - self._venue_now_ms(), 0)

    def _public(self, name: str, fields: dict[str, str]) -> Any:
        query = "&".join(f"{key}={quote(value, safe=',')}" for key, value in fields.items())
        reply = self._transport.send("GET", f"/0/public/{name}" + (f"?{query}" if query else ""), read=True)
        self._skew.heard(reply.date, reply.sent_ms, reply.sent_ms + reply.elapsed_ms)
        found = result(reply)
        if found is None:
            raise Failure(Asked.READ, name, reply).error
        return found

    def _query(self, venue_ids: list[str], lane: Lane, patience_s: float | None = None) -> list[OrderRow]:
        told, _ = self._private("QueryOrders", {"txid": ",".join(venue_ids)}, Asked.READ, lane, patience_s=patience_s)
        return self._rows({"orders": told}, "orders", "QueryOrders")

    def _rows(self, told: Any, key: str, where: str) -> list[OrderRow]:
        """A row of a stranger that cannot be read is counted; one of ours is an error."""
        found: list[OrderRow] = []
        for venue_id, row in rows_of(told.get(key) if isinstance(told, dict) else None, where).items():
            try:
                found.append(order_row(venue_id, row, self._names, self._ids))
            except Unreadable as wrong:
                if venue_id in self._known or where == "QueryOrders":
                    raise
                self._refuse(venue_id, f"{wrong}: left alone, it is not ours")
        return found

    def _read_trades(self) -> None:
        since_ms = self._executions.since_ms(self._venue_now_ms() - DAY_MS)
        for page in range(PAGES):
            fields = {"start": str(since_ms // 1000), "ofs": str(page * PAGE), "consolidate_taker": "false"}
            told, _ = self._private("TradesHistory", fields, Asked.READ, Lane.NORMAL, 2)
            rows = rows_of(told.get("trades") if isinstance(told, dict) else None, "TradesHistory")
            for trade_id, row in rows.items():
                symbol = self._names.ours(row.get("pair"))
                try:
                    self._executions.add(fill_row(trade_id, row, self._names, self._quotes.get(symbol, "")))
                except Unreadable as wrong:
                    self._refuse(trade_id, f"{wrong}: its order's own row tells what it filled")
            if len(rows) < PAGE:
                break
        else:
            log.warning("more than %d executions since %s: the oldest were not read", PAGES * PAGE, _rfc3339(since_ms))
        self._executions.asked()

    # --- what is remembered ---

    def _about_to_send(self, order: Order) -> int:
        deadline_ms = self._deadline_ms()
        with self._lock:
            self._sent[order.client_id] = _Sent(deadline_ms, self._clock.monotonic_ms() + DEADLINE_MS + PROOF_MS)
            while len(self._sent) > KEPT_SENT:
                self._sent.popitem(last=False)
        return deadline_ms

    def _deadline_ms(self) -> int:
        """By the venue's clock, in whole seconds."""
        return (self._venue_now_ms() + DEADLINE_MS) // 1000 * 1000

    def _venue_now_ms(self) -> int:
        return self._clock.now_ms() - (self._skew.ahead_ms() or 0)

    def _venue_id(self, order: Order) -> str:
        return self._ids.uuid(order.client_id).replace("-", "")

    def _remember(self, venue_id: str, over: bool, only_known: bool = False) -> None:
        """To be asked for in each look; when there are too many, those go first that are over."""
        with self._lock:
            if only_known and venue_id not in self._known:
                return
            self._known[venue_id] = over
            if len(self._known) > IDS_IN_A_QUERY:
                ended = next((known for known, is_over in self._known.items() if is_over), None)
                self._known.pop(ended or next(iter(self._known)))

    def _refuse(self, row_id: str, why: str) -> None:
        with self._lock:
            if row_id in self._refused_rows or len(self._refused_rows) >= KEPT_SENT:
                return
            self._refused_rows.add(row_id)
        log.warning(why)


def _lane(order: Order) -> Lane:
    return Lane.NORMAL if order.purpose is Purpose.ENTRY else Lane.URGENT


def _known_id(order: Order) -> str:
    if order.venue_id is None:
        raise Unavailable(f"{order.client_id} has no venue order id yet: nothing was asked")
    return order.venue_id


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
