"""The REST side of the practice venue, in the dialect of an OpenAlgo server in analyze mode (venues/openalgo.md, sections 2-12).

Owns paths, bodies, words and status codes; what is true comes from the venue. Answers are computed without waiting, so one
request is one step of the venue. Numbers go out as JSON numbers printed from Decimal.

Different on purpose: orders may fill in parts, prices must be on the tick grid (a setting), one product only.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable

import msgspec

from brokers.base import FillRow, OrderRow, Refused, Reported
from brokers.matching import NotFound
from brokers.practice import VenueClock
from brokers.practice_reference import Reference
from brokers.practice_reply import NO_PRICE, Handler, Reply, Values, analyzed, error, ist, reply, stamp
from brokers.practice_schema import SCHEMAS, BadJson, Schema, SchemaError, check, number, read_body, text
from brokers.practice_schema import Field as F
from brokers.practice_venue import Venue
from state.clock import SystemClock
from state.orders import ZERO, Order, OrderType, Purpose, Side

API = "/api/v1/"
CONTROL = "/practice/"
LATEST_STRIKES = 100  # in the reply of `clock`; `faults` has them all

_ORDER_PATHS = ("placeorder", "modifyorder", "cancelorder", "orderstatus", "openposition")
_LIMITED_AS_ORDERS = ("placeorder", "modifyorder", "cancelorder")
_KINDS = {"MARKET": OrderType.MARKET, "LIMIT": OrderType.LIMIT, "SL": OrderType.STOP_LIMIT, "SL-M": OrderType.STOP}
_KIND_WORDS = {kind: word for word, kind in _KINDS.items()}
_CONTROL_SCHEMAS: dict[str, Schema] = {
    "start": {"apikey": F(text), "delay_ms": F(number, False, ZERO)},
    "clock": {"apikey": F(text)},
    "stop": {"apikey": F(text)},
    "faults": {"apikey": F(text)},
    "truth": {"apikey": F(text)},
}


class Rest:
    """`answer` is the whole REST side: path and body in, reply out."""

    def __init__(self, venue: Venue, ports: tuple[int, int], pid: int) -> None:
        self._venue = venue
        self._ports = ports
        self._pid = pid
        self._clock = SystemClock()
        self._recent: dict[str, deque[int]] = {}
        self._paths: dict[str, Handler] = {
            "placeorder": self._place,
            "modifyorder": self._modify,
            "cancelorder": self._cancel,
            "orderstatus": self._order_status,
            "orderbook": self._orderbook,
            "tradebook": self._tradebook,
            "positionbook": self._positionbook,
            "openposition": self._open_position,
            "holdings": self._holdings,
            "funds": self._funds,
            **Reference(venue).paths,
        }
        self._control: dict[str, Handler] = {
            "start": self._start,
            "clock": self._tell_clock,
            "stop": self._stop,
            "faults": self._tell_faults,
            "truth": self._tell_truth,
        }

    def answer(self, method: str, path: str, content_type: str, body: bytes) -> Reply:
        clean = path.rstrip("/")
        name, handlers, schemas = clean.removeprefix(API), self._paths, SCHEMAS
        if clean.startswith(CONTROL):
            name, handlers, schemas = clean.removeprefix(CONTROL), self._control, _CONTROL_SCHEMAS
        if name == clean or name not in handlers:
            return reply(404, {"message": "Not found", "path": path, "status": "error"})
        if method != "POST":
            return reply(405, {"message": "The method is not allowed for the requested URL."})
        limit = self._over_limit(name) if handlers is self._paths else None
        if limit is not None:
            return reply(429, {"message": f"{limit} per 1 second"}, close=True)
        if content_type.partition(";")[0].strip().lower() != "application/json":
            return error(500, "An unexpected error occurred in the API endpoint")
        try:
            values = check(schemas[name], read_body(body))
        except BadJson:
            return reply(400, {"message": "The browser (or proxy) sent a request that this server could not understand."})
        except SchemaError as wrong:
            return error(400, str(wrong.problems) if name in _ORDER_PATHS else wrong.problems)
        if not secrets.compare_digest(values["apikey"].encode(), self._venue.spec.api_key.encode()):
            return error(403, "Invalid openalgo apikey")
        return handlers[name](values)

    def _over_limit(self, name: str) -> int | None:
        settings = self._venue.spec.settings
        limit = settings.orders_per_s if name in _LIMITED_AS_ORDERS else settings.reads_per_s
        if limit is None:
            return None
        now_ms, recent = self._clock.monotonic_ms(), self._recent.setdefault(name, deque())
        while recent and recent[0] <= now_ms - 1000:
            recent.popleft()
        if len(recent) >= limit:
            return limit
        recent.append(now_ms)
        return None

    # Orders

    def _place(self, values: Values) -> Reply:
        why_not = self._why_not(values)
        if why_not is not None:
            return why_not
        kind = _KINDS[values["pricetype"]]
        order = Order(
            client_id="",
            symbol=values["symbol"],
            purpose=Purpose.ENTRY,  # the dialect knows no purpose
            side=Side(values["action"]),
            type=kind,
            qty=values["quantity"],
            limit_price=values["price"] or None,
            trigger_price=values["trigger_price"] or None,
        )
        try:
            venue_id = self._venue.submit(order, values["strategy"])
        except Refused as refusal:
            return error(400, str(refusal), mode="analyze")
        return analyzed({"orderid": venue_id})

    def _why_not(self, values: Values) -> Reply | None:
        """What a sandbox server finds wrong before it looks at the market."""
        symbol, exchange, kind, qty = values["symbol"], values["exchange"], values["pricetype"], values["quantity"]
        if qty != int(qty) and exchange != "CRYPTO":
            problem = f"Fractional quantity ({qty}) is not allowed for non-crypto exchanges."
            return error(400, str({"quantity": [problem]}))
        instrument = self._venue.instrument(symbol, exchange)
        product = self._venue.spec.settings.product
        reason = None
        if instrument is None:
            reason = f"Symbol {symbol} not found on {exchange}"
        elif values["product"] == "NRML" and product != "NRML" and exchange in ("NSE", "BSE"):
            reason = f"NRML product not allowed for {exchange} equity segment. Use CNC for delivery or MIS for intraday."
        elif values["product"] != product:
            reason = f"{values['product']} orders are not simulated here. Use {product}."
        elif kind in ("SL", "SL-M") and not values["trigger_price"]:
            reason = f"{kind} orders require trigger_price"
        elif kind in ("LIMIT", "SL") and not values["price"]:
            reason = f"{kind} orders require price"
        elif qty % instrument.lot_size:
            reason = f"Quantity must be in multiples of lot size {instrument.lot_size}"
        return None if reason is None else error(400, reason, mode="analyze")

    def _modify(self, values: Values) -> Reply:
        row = self._venue.engine.order(values["orderid"])
        price, trigger = values["price"] or None, values["trigger_price"] or None
        if row is not None and not row.state.closed:
            word = _KIND_WORDS[row.type or OrderType.MARKET]
            for given, name, takers in ((price, "price", ("LIMIT", "SL")), (trigger, "trigger_price", ("SL", "SL-M"))):
                if given is not None and word not in takers:
                    return error(400, f"{word} orders do not accept a {name}", mode="analyze")
        return self._change(
            values["orderid"],
            "Order modified successfully",
            lambda: self._venue.replace(values["orderid"], values["quantity"], trigger, price),
        )

    def _cancel(self, values: Values) -> Reply:
        return self._change(values["orderid"], "Order cancelled successfully", lambda: self._venue.cancel(values["orderid"]))

    def _change(self, order_id: str, done: str, carry_out: Callable[[], None]) -> Reply:
        try:
            carry_out()
        except NotFound as refusal:
            return error(404, str(refusal), mode="analyze")
        except Refused as refusal:
            return error(400, str(refusal), mode="analyze")
        return analyzed({"message": done, "orderid": order_id})

    # Books

    def _order_status(self, values: Values) -> Reply:
        row = self._venue.shown_order(values["orderid"])
        if row is None:
            return error(404, f"Order {values['orderid']} not found", mode="analyze")
        shown = self._order_row(row)
        shown["price_type"] = shown.pop("pricetype")
        del shown["rejection_reason"]
        if row.type is OrderType.MARKET and row.filled:
            shown["price"] = row.average
        return analyzed({"data": shown})

    def _orderbook(self, values: Values) -> Reply:
        rows = [self._order_row(row) for row in reversed(self._venue.shown_orders())]
        words = [row["order_status"] for row in rows]
        statistics = {
            "total_buy_orders": sum(row["action"] == "BUY" for row in rows),
            "total_completed_orders": words.count("complete"),
            "total_open_orders": words.count("open"),
            "total_rejected_orders": words.count("rejected"),
            "total_sell_orders": sum(row["action"] == "SELL" for row in rows),
            "total_trigger_pending_orders": words.count("trigger pending"),
        }
        return analyzed({"data": {"orders": rows, "statistics": statistics}})

    def _order_row(self, row: OrderRow) -> Values:
        filled = row.filled or ZERO
        return {
            "action": row.side.value,
            "average_price": row.average or NO_PRICE,
            "exchange": self._venue.instruments[row.symbol].exchange,
            "filled_quantity": filled,
            "order_status": status_word(self._venue, row),
            "orderid": row.venue_id,
            "pending_quantity": ZERO if row.state.closed else row.qty - filled,
            "price": row.limit_price or NO_PRICE,
            "pricetype": kind_word(row),
            "product": self._venue.spec.settings.product,
            "quantity": row.qty,
            "rejection_reason": row.reason,
            "strategy": row.label,
            "symbol": row.symbol,
            "timestamp": stamp(row.at_ms or 0),
            "trigger_price": row.trigger_price or NO_PRICE,
        }

    def _tradebook(self, values: Values) -> Reply:
        return analyzed({"data": [self._trade_row(fill) for fill in reversed(self._venue.shown_fills())]})

    def _trade_row(self, fill: FillRow) -> Values:
        order = self._venue.engine.order(fill.venue_id)
        return {
            "action": fill.side.value,
            "average_price": fill.price,
            "exchange": self._venue.instruments[fill.symbol].exchange,
            "orderid": fill.venue_id,
            "price": fill.price,
            "product": self._venue.spec.settings.product,
            "quantity": fill.qty,
            "strategy": "" if order is None else order.label,
            "symbol": fill.symbol,
            "timestamp": stamp(fill.at_ms),
            "trade_value": fill.qty * fill.price,
            "tradeid": f"TRADE-{ist(fill.at_ms):%Y%m%d-%H%M%S}-{fill.trade_id}",
        }

    def _positionbook(self, values: Values) -> Reply:
        rows, total = [], ZERO
        for position in self._venue.shown_positions("positionbook"):
            average, last = position.average or NO_PRICE, self._venue.prices[position.symbol].last
            realized = self._venue.engine.realized(position.symbol)
            unrealized = (last - average) * position.qty if position.qty else NO_PRICE
            total += realized + unrealized
            rows.append(
                {
                    "average_price": average,
                    "exchange": self._venue.instruments[position.symbol].exchange,
                    "lot_size": self._venue.instruments[position.symbol].lot_size,
                    "ltp": last,
                    "pnl": realized + unrealized,
                    "pnlpercent": round(unrealized / (average * abs(position.qty)) * 100, 2) if position.qty else NO_PRICE,
                    "product": self._venue.spec.settings.product,
                    "quantity": position.qty,
                    "symbol": position.symbol,
                    "today_realized_pnl": realized,
                    "total_pnl_today": realized + unrealized,
                    "unrealized_pnl": unrealized,
                }
            )
        return analyzed({"data": rows, "total_pnl": total})

    def _open_position(self, values: Values) -> Reply:
        ours = values["product"] == self._venue.spec.settings.product and self._venue.instrument(
            values["symbol"], values["exchange"]
        )
        rows = self._venue.shown_positions("openposition") if ours else []
        return analyzed({"quantity": next((row.qty for row in rows if row.symbol == values["symbol"]), 0)})

    def _holdings(self, values: Values) -> Reply:
        return analyzed({"data": {"holdings": [], "statistics": {}}})

    def _funds(self, values: Values) -> Reply:
        free, margin = self._venue.available_funds()
        realized = sum((self._venue.engine.realized(symbol) for symbol in self._venue.instruments), ZERO)
        unrealized = sum(
            (
                (self._venue.prices[row.symbol].last - row.average) * row.qty
                for row in self._venue.engine.positions()
                if row.average
            ),
            ZERO,
        )
        values = {"availablecash": free, "collateral": NO_PRICE, "utiliseddebits": margin}
        return analyzed({"data": values | {"m2mrealized": realized, "m2munrealized": unrealized}})

    # The venue itself

    def _start(self, values: Values) -> Reply:
        self._venue.start(int(values["delay_ms"]))
        return self._tell_clock(values)

    def _stop(self, values: Values) -> Reply:
        self._venue.stopping.set()
        return self._tell_clock(values)

    def _tell_clock(self, values: Values) -> Reply:
        venue = self._venue
        clock = VenueClock(
            account=venue.spec.account,
            session_start_ms=venue.spec.session_start_ms,
            anchor_ms=venue.anchor_ms,
            speed=venue.spec.speed,
            finished=venue.finished,
            rest_port=self._ports[0],
            ws_port=self._ports[1],
            pid=self._pid,
            ticks=venue.played,
            skipped=venue.skipped,
            tape=venue.reports,
            faults=venue.record.counts,
            strikes=venue.record.strikes[-LATEST_STRIKES:],
        )
        return Reply(200, msgspec.json.encode(clock))

    def _tell_faults(self, values: Values) -> Reply:
        return Reply(200, msgspec.json.encode(self._venue.record.strikes))

    def _tell_truth(self, values: Values) -> Reply:
        return Reply(200, msgspec.json.encode(self._venue.truth()))


def kind_word(row: OrderRow) -> str:
    return _KIND_WORDS[row.type or OrderType.MARKET]


def status_word(venue: Venue, row: OrderRow) -> str:
    """The dialect's word. A stop-limit that was activated and has not filled reads `open`."""
    if row.state is not Reported.WORKING:
        return "complete" if row.state is Reported.FILLED else str(row.state.value).lower()
    return "trigger pending" if venue.waits(row) else "open"
