"""OANDA on 127.0.0.1: a real HTTP server with the venue's REST calls and its two chunked streams around the one matching engine.

Written from the venue's sheet alone; nothing of the adapter is used. The account nets. One price per instrument drives the book;
the stream shows it as the bid, and the ask `spread` above it. What the sheet leaves open is decided here and marked (open).

    double = OandaDouble({"EUR_USD": EUR_USD}); double.start()
    double.price("EUR_USD", "1.09177")
    double.fail("create", "lost_after")     # the next create is carried out and its answer lost
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from brokers.matching import MatchingEngine
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from state.reports import FillRow, Reported

Json = dict[str, Any]
TOKEN, ACCOUNT = "double-token-0123456789", "101-004-1435156-001"
EUR_USD = Instrument("EUR_USD", "OANDA", Decimal("0.00001"), Decimal(1), min_qty=Decimal(1))
USD_JPY = Instrument("USD_JPY", "OANDA", Decimal("0.001"), Decimal(1), min_qty=Decimal(1))
ENGINE_TYPES = {"MARKET": OrderType.MARKET, "LIMIT": OrderType.LIMIT, "STOP": OrderType.STOP}


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Fault:
    """lost_before, lost_after, late, garbage, answer (status and body), cancelled (reason), stale (as of an earlier id)."""

    kind: str
    status: int = 500
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = "MARKET_HALTED"
    behind: int = 1


@dataclass
class Resting:
    """One pending order of the book."""

    fields: Json
    units: Decimal
    engine_id: str


class Answer(Exception):
    """A reply other than the ordinary one."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class OandaDouble:
    """Thread-safe."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument] | None = None,
        *,
        heartbeat_s: float = 5.0,
        spread: str = "0",
        page: int = 1_000,
        history: int = 0,
        commission: str = "0.0000",
    ) -> None:
        self.instruments = dict(instruments or {"EUR_USD": EUR_USD, "USD_JPY": USD_JPY})
        self.lock = threading.RLock()  # guards everything below
        self.transactions: list[Json] = []
        self.seen: list[Seen] = []
        self.accounts: list[Json] = [{"id": ACCOUNT, "tags": []}]
        self.hedging = False
        self.keeps_client_ids = True
        self.names_replaced = True  # whether a reissued order says which one it goes on from (open)
        self.halted: set[str] = set()
        self.swallow = 0  # transactions that the stream will leave out
        self.late: list[Callable[[], None]] = []
        self._engine = MatchingEngine(self.instruments, check_grid=False)
        self._spread, self._commission = Decimal(spread), commission
        self._heartbeat_s, self._page = heartbeat_s, page
        self._resting: dict[str, Resting] = {}
        self._trades: dict[str, list[list[Any]]] = defaultdict(list)  # id, signed units, price; oldest first
        self._prices: dict[str, Decimal] = {}
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._streams: dict[str, list[queue.Queue[str | None]]] = {"pricing": [], "transactions": []}
        self._batch = ""
        self._stopping = threading.Event()
        self._first = 1
        for _ in range(history):
            self._write("DAILY_FINANCING", financing="0.0000")
        self._write("CREATE", accountUserID=1)

    # -- for the test ------------------------------------------------------------------------------------------------------

    def start(self) -> OandaDouble:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.double = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self.drop_streams()
        self._server.shutdown()
        self._server.server_close()

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v3"

    ws_url = stream_url = rest_url

    @property
    def last_id(self) -> int:
        return self._first + len(self.transactions) - 1

    def price(self, symbol: str, price: str, available: str | None = None) -> None:
        """The market is here now: orders match, the streams tell."""
        with self.lock:
            at = self._prices[symbol] = Decimal(price)
            if symbol not in self.halted:
                bound = None if available is None else Decimal(available)
                changes = self._engine.tick(symbol, at, int(time.time() * 1000), bound)
                self._book(changes)
                self._cancel_out_of_bounds(symbol)
            self._tell("pricing", self._price_line(symbol))

    def halt(self, symbol: str, halted: bool = True) -> None:
        with self.lock:
            (self.halted.add if halted else self.halted.discard)(symbol)
            self._tell("pricing", self._price_line(symbol))

    def fail(self, call: str, *kinds: str, **more: Any) -> None:
        """What happens to the next calls of "create", "replace", "cancel", "sinceid", "openPositions", ..."""
        with self.lock:
            self._faults[call].extend(Fault(kind, **more) for kind in kinds)

    def arrive(self) -> None:
        """Requests that were held up reach the venue now."""
        with self.lock:
            for act in self.late:
                with suppress(Answer):
                    act()
            self.late.clear()

    def net(self, symbol: str) -> Decimal:
        with self.lock:
            return sum((trade[1] for trade in self._trades[symbol]), Decimal(0))

    def pending(self) -> list[str]:
        """What rests, in the venue's words: "STOP -100 @ 1.09100"."""
        with self.lock:
            return [f"{one.fields['type']} {one.units} @ {one.fields.get('price')}" for one in self._resting.values()]

    def of_type(self, kind: str) -> list[Json]:
        with self.lock:
            return [row for row in self.transactions if row["type"] == kind]

    def requests(self, method: str, tail: str = "") -> list[Seen]:
        with self.lock:
            return [one for one in self.seen if one.method == method and urlsplit(one.path).path.endswith(tail)]

    def streaming(self, name: str) -> int:
        with self.lock:
            return len(self._streams[name])

    def drop_streams(self, name: str | None = None) -> None:
        """Without a word, in the middle of whatever it was."""
        with self.lock:
            for key, lines in self._streams.items():
                for line in lines if name in (None, key) else ():
                    line.put(None)

    def say(self, stream: str, line: str) -> None:
        with self.lock:
            self._tell(stream, line)

    def stranger(self, symbol: str, units: str) -> None:
        """Somebody trades on the platform, by hand."""
        with self.lock:
            self._create({"order": {"type": "MARKET", "instrument": symbol, "units": units, "positionFill": "DEFAULT"}})

    # -- transactions --------------------------------------------------------------------------------------------------------

    def _write(self, kind: str, **fields: Any) -> Json:
        id = str(self._first + len(self.transactions))
        row = {"id": id, "time": now(), "userID": 1, "accountID": ACCOUNT, "batchID": self._batch or id, "type": kind, **fields}
        self.transactions.append(row)
        if self.swallow:
            self.swallow -= 1
        else:
            self._tell("transactions", json.dumps(row))
        return row

    def _tell(self, stream: str, line: str) -> None:
        for lines in self._streams[stream]:
            lines.put(line)

    def _in_batch(self, act: Callable[[], Json]) -> Json:
        self._batch = str(self._first + len(self.transactions))
        first = len(self.transactions)
        try:
            body = act()
        finally:
            self._batch = ""
        related = [row["id"] for row in self.transactions[first:]]
        return body | {"relatedTransactionIDs": related, "lastTransactionID": str(self.last_id)}

    # -- orders ----------------------------------------------------------------------------------------------------------------

    def _create(self, body: Json) -> Json:
        return self._in_batch(lambda: self._made(body["order"], "CLIENT_ORDER", {}))

    def _made(self, fields: Json, reason: str, more: Json) -> Json:
        why = self._why_not(fields)
        if why is not None:
            shown = {key: value for key, value in fields.items() if key != "type"}
            row = self._write(f"{fields['type']}_ORDER_REJECT", **shown, rejectReason=why)
            raise Answer(400, {"orderRejectTransaction": row, "errorCode": why, "errorMessage": f"rejected: {why}"})
        cancelled = self._next_fault("cancelled")
        made = self._write(f"{fields['type']}_ORDER", **self._shown(fields), reason=reason, **more)
        answer: Json = {"orderCreateTransaction": made}
        symbol = fields["instrument"]
        if cancelled is not None or (fields["type"] == "MARKET" and (symbol in self.halted or symbol not in self._prices)):
            reason = "MARKET_HALTED" if cancelled is None else cancelled.reason
            return answer | {"orderCancelTransaction": self._write("ORDER_CANCEL", **named(made), reason=reason)}
        self._resting[made["id"]] = Resting(fields, Decimal(fields["units"]), self._submit(fields, Decimal(fields["units"])))
        if fields["type"] == "MARKET":
            before = len(self.transactions)
            self._book(self._engine.match_idle(symbol, int(time.time() * 1000)))
            for row in self.transactions[before:]:
                answer["orderFillTransaction" if row["type"] == "ORDER_FILL" else "orderCancelTransaction"] = row
        return answer

    def _shown(self, fields: Json) -> Json:
        shown = {key: value for key, value in fields.items() if key != "type"}
        if not self.keeps_client_ids:
            shown.pop("clientExtensions", None)
        return shown

    def _submit(self, fields: Json, units: Decimal) -> str:
        kind = ENGINE_TYPES[fields["type"]]
        if kind is OrderType.STOP and "priceBound" in fields:
            kind = OrderType.STOP_LIMIT
        price = Decimal(fields["price"]) if "price" in fields else None
        order = Order(
            client_id="",
            symbol=fields["instrument"],
            purpose=Purpose.ENTRY,
            side=Side.BUY if units > 0 else Side.SELL,
            type=kind,
            qty=abs(units),
            limit_price=Decimal(fields["priceBound"]) if "priceBound" in fields else price,
            trigger_price=price,
        )
        return self._engine.submit(order, int(time.time() * 1000))

    def _why_not(self, fields: Json) -> str | None:
        instrument = self.instruments.get(fields["instrument"])
        if instrument is None:
            message = "Invalid value specified for 'order.instrument'"
            raise Answer(400, {"errorCode": "oanda::rest::core::InvalidParameterException", "errorMessage": message})
        units = Decimal(fields["units"])
        if not units:
            return "UNITS_INVALID"
        if "." in fields["units"] and instrument.lot_size == 1:
            return "UNITS_PRECISION_EXCEEDED"
        for key in ("price", "priceBound"):
            places = -int(Decimal(fields.get(key, "0")).as_tuple().exponent)
            if places > -int(instrument.tick_size.as_tuple().exponent):
                return "PRICE_PRECISION_EXCEEDED"
        if fields["type"] == "MARKET" and fields.get("timeInForce", "FOK") not in ("FOK", "IOC"):
            return "TIME_IN_FORCE_INVALID"
        key = fields.get("clientExtensions", {}).get("id")
        if len(key or "") > 128:
            return "CLIENT_ORDER_ID_INVALID"
        pending = {one.fields.get("clientExtensions", {}).get("id") for one in self._resting.values()}
        return "CLIENT_ORDER_ID_ALREADY_EXISTS" if key is not None and key in pending else None

    def _replace(self, id: str, body: Json) -> Json:
        def act() -> Json:
            old = self._resting.get(id) or self._gone(id)
            if (why := self._why_not(body["order"])) is not None:
                shown = self._shown(body["order"]) | {"rejectReason": why, "intendedReplacesOrderID": id}
                row = self._write(f"{body['order']['type']}_ORDER_REJECT", **shown)
                raise Answer(400, {"orderRejectTransaction": row, "errorCode": why, "errorMessage": f"rejected: {why}"})
            self._engine.cancel(old.engine_id, 0)
            del self._resting[id]
            successor = str(self.last_id + 2)
            cancel = self._write("ORDER_CANCEL", orderID=id, reason="CLIENT_REQUEST_REPLACED", replacedByOrderID=successor)
            answer = self._made(body["order"], "REPLACEMENT", {"replacesOrderID": id})
            if "orderCancelTransaction" in answer:
                answer["replacingOrderCancelTransaction"] = answer.pop("orderCancelTransaction")
            return {"orderCancelTransaction": cancel} | answer

        return self._in_batch(act)

    def _cancel(self, id: str) -> Json:
        def act() -> Json:
            old = self._resting.get(id) or self._gone(id)
            self._engine.cancel(old.engine_id, 0)
            del self._resting[id]
            return {"orderCancelTransaction": self._ended(id, old.fields, "CLIENT_REQUEST")}

        return self._in_batch(act)

    def _gone(self, id: str) -> Any:
        word = "ORDER_DOESNT_EXIST"
        row = self._write("ORDER_CANCEL_REJECT", orderID=id, rejectReason=word)
        raise Answer(404, {"orderCancelRejectTransaction": row, "errorCode": word, "errorMessage": "no such order"})

    def _ended(self, id: str, fields: Json, reason: str) -> Json:
        return self._write("ORDER_CANCEL", **named({"id": id, **self._shown(fields)}), reason=reason)

    # -- fills -----------------------------------------------------------------------------------------------------------------

    def _book(self, changes: list[Any]) -> None:
        for change in changes:
            if isinstance(change, FillRow):
                self._fill(next(id for id, one in self._resting.items() if one.engine_id == change.venue_id), change)

    def _fill(self, id: str, fill: FillRow) -> None:
        """REDUCE_ONLY fills what there is to reduce, OPEN_ONLY nothing that reduces; the rest is cancelled (open)."""
        one = self._resting.pop(id)
        standalone = not self._batch
        self._batch = self._batch or str(self.last_id + 1)
        sign = 1 if one.units > 0 else -1
        held, rule = self.net(fill.symbol), one.fields.get("positionFill", "DEFAULT")
        opposite = -held * sign if held * sign < 0 else Decimal(0)
        qty = min(fill.qty, opposite) if rule == "REDUCE_ONLY" else fill.qty
        if not qty or (rule == "OPEN_ONLY" and opposite):
            self._ended(id, one.fields, f"{rule}_VIOLATION")
        else:
            self._write_fill(id, one, qty * sign, fill.price)
            left = abs(one.units) - fill.qty
            if left and qty == fill.qty:
                self._reissue(id, one, left * sign)
        if standalone:
            self._batch = ""

    def _write_fill(self, id: str, one: Resting, units: Decimal, price: Decimal) -> None:
        symbol = one.fields["instrument"]
        self._write(
            "ORDER_FILL",
            **named({"id": id, **self._shown(one.fields)}),
            instrument=symbol,
            units=str(units),
            price=str(price),
            fullVWAP=str(price),
            pl="0.0000",
            financing="0.0000",
            commission=self._commission,
            guaranteedExecutionFee="0.0000",
            reason=f"{one.fields['type']}_ORDER",
            **self._net_off(symbol, units, price, str(self.last_id + 1)),
        )

    def _net_off(self, symbol: str, units: Decimal, price: Decimal, id: str) -> Json:
        """The oldest trades go first."""
        parts: Json = {}
        trades, left = self._trades[symbol], units
        while left and trades and trades[0][1] * left < 0:
            closed = min(abs(left), abs(trades[0][1])) * (1 if left > 0 else -1)
            part = {
                "tradeID": trades[0][0],
                "units": str(closed),
                "price": str(price),
                "realizedPL": "0.0000",
                "financing": "0.0000",
            }
            trades[0][1] += closed
            left -= closed
            if trades[0][1]:
                parts["tradeReduced"] = part
            else:
                del trades[0]
                parts.setdefault("tradesClosed", []).append(part)
        if left:
            trades.append([id, left, price])
            parts["tradeOpened"] = {"tradeID": id, "units": str(left), "price": str(price), "halfSpreadCost": "0.0065"}
        return parts

    def _reissue(self, id: str, one: Resting, left: Decimal) -> None:
        more = {"replacesOrderID": id} if self.names_replaced else {}
        fields = one.fields | {"units": str(left)}
        made = self._write(f"{fields['type']}_ORDER", **self._shown(fields), reason="REPLACEMENT", **more)
        self._resting[made["id"]] = Resting(fields, left, one.engine_id)

    def _cancel_out_of_bounds(self, symbol: str) -> None:
        for id, one in list(self._resting.items()):
            row = self._engine.order(one.engine_id)
            assert row is not None
            fired = one.fields["instrument"] == symbol and "priceBound" in one.fields and self._engine.triggered(one.engine_id)
            if fired and row.state is Reported.WORKING:
                self._engine.cancel(one.engine_id, 0)
                del self._resting[id]
                self._ended(id, one.fields, "BOUNDS_VIOLATION")

    # -- HTTP ------------------------------------------------------------------------------------------------------------------

    def _next_fault(self, call: str, *kinds: str) -> Fault | None:
        waiting = self._faults[call]
        return waiting.popleft() if waiting and (not kinds or waiting[0].kind in kinds) else None

    def carry_out(self, method: str, path: str, body: bytes) -> tuple[str, Callable[[], Json]]:
        """The name of the call, for its faults, and what it does."""
        parts, asked = urlsplit(path), parse_qs(urlsplit(path).query)
        words = [unquote(word) for word in parts.path.removeprefix("/v3/").split("/")]
        if words == ["accounts"]:
            return "accounts", lambda: {"accounts": self.accounts}
        if len(words) < 3 or words[:2] != ["accounts", ACCOUNT]:
            raise Answer(404, {"errorMessage": "The account does not exist", "errorCode": "NO_SUCH_ACCOUNT"})
        rest = words[2:]
        if (method, rest) == ("POST", ["orders"]):
            return "create", lambda: self._create(json.loads(body))
        if method == "PUT" and rest[0] == "orders" and len(rest) == 3:
            return "cancel", lambda: self._cancel(rest[1])
        if method == "PUT" and rest[0] == "orders":
            return "replace", lambda: self._replace(rest[1], json.loads(body))
        reads: dict[str, Callable[[], Json]] = {
            "summary": self._summary,
            "openPositions": lambda: {"positions": self._positions(), "lastTransactionID": str(self.last_id)},
            "instruments": lambda: {"instruments": [self._instrument(name) for name in self._named(asked)]},
            "pricing": lambda: {"prices": [json.loads(self._price_line(name)) for name in self._named(asked)], "time": now()},
            "sinceid": lambda: self._between(int(asked["id"][0]) + 1, self.last_id),
            "idrange": lambda: self._between(int(asked["from"][0]), int(asked["to"][0])),
        }
        if method != "GET" or rest[-1] not in reads:
            raise Answer(405, {"errorMessage": "Method not allowed"})
        return rest[-1], reads[rest[-1]]

    def _summary(self) -> Json:
        account = {"id": ACCOUNT, "currency": "USD", "hedgingEnabled": self.hedging, "lastTransactionID": str(self.last_id)}
        return {"account": account, "lastTransactionID": str(self.last_id)}

    def _between(self, first: int, last: int) -> Json:
        if first > self.last_id + 1:
            raise Answer(416, {"errorMessage": "The requested range is not satisfiable"})
        rows = self.transactions[max(first - self._first, 0) : last - self._first + 1][: self._page]
        return {"transactions": rows, "lastTransactionID": str(self.last_id)}

    def _positions(self) -> list[Json]:
        found = []
        for symbol, trades in self._trades.items():
            held = sum((trade[1] for trade in trades), Decimal(0))
            sides: Json = {"long": {"units": "0"}, "short": {"units": "0"}}
            if held:
                average = sum((trade[1] * trade[2] for trade in trades), Decimal(0)) / held
                sides["long" if held > 0 else "short"] = {"units": str(held), "averagePrice": str(average)}
                found.append({"instrument": symbol, **sides})
        return found

    def _named(self, asked: dict[str, list[str]]) -> list[str]:
        names = asked["instruments"][0].split(",")
        if any(name not in self.instruments for name in names):
            message = "Invalid value specified for 'instruments'"
            raise Answer(400, {"errorCode": "oanda::rest::core::InvalidParameterException", "errorMessage": message})
        return names

    def _instrument(self, name: str) -> Json:
        found = self.instruments[name]
        return {
            "name": name,
            "type": "CURRENCY",
            "displayName": name.replace("_", "/"),
            "pipLocation": -4,
            "displayPrecision": -int(found.tick_size.as_tuple().exponent),
            "tradeUnitsPrecision": -int(found.lot_size.as_tuple().exponent),
            "minimumTradeSize": str(found.min_qty),
            "maximumOrderUnits": "100000000",
            "maximumPositionSize": "0",
        }

    def _price_line(self, symbol: str) -> str:
        at, halted = self._prices.get(symbol), symbol in self.halted
        sides: Json = {"bids": [], "asks": []}
        if at is not None:
            sides = {
                "bids": [{"price": str(at), "liquidity": 10_000_000}],
                "asks": [{"price": str(at + self._spread), "liquidity": 10_000_000}],
                "closeoutBid": str(at - Decimal("0.5")),
                "closeoutAsk": str(at + Decimal("0.5")),
            }
        status = {"status": "non-tradeable" if halted else "tradeable", "tradeable": not halted}
        return json.dumps({"type": "PRICE", "time": now(), "instrument": symbol, **status, **sides})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    double: OandaDouble

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up has hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _answer(self) -> None:
        double = self.server.double
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with double.lock:
            double.seen.append(Seen(self.command, self.path, dict(self.headers), body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, json.dumps({"errorMessage": "Insufficient authorization to perform request."}))
        if stream := re.search(r"/(pricing|transactions)/stream", self.path):
            return self._stream(stream[1])
        with double.lock:
            reply = self._carried_out(double, body)
        if reply is None:
            self.close_connection = True
        else:
            self._send(*reply)

    def _carried_out(self, double: OandaDouble, body: bytes) -> tuple[int, str, dict[str, str]] | None:
        """None: the answer is lost."""
        try:
            call, act = double.carry_out(self.command, self.path, body)
            fault = double._next_fault(call)
            if fault is not None and fault.kind == "answer":
                return fault.status, fault.body, fault.headers
            if fault is not None and fault.kind in ("lost_before", "late"):
                double.late += [act] if fault.kind == "late" else []  # type: ignore[list-item]
                return None
            if fault is not None and fault.kind == "cancelled":
                double._faults["cancelled"].append(fault)
            if fault is not None and fault.kind == "lost_after":
                with suppress(Answer):
                    act()
                return None
            answer = json.dumps(act() if fault is None or fault.kind != "stale" else _stale(act(), fault.behind))
            return (201 if call in ("create", "replace") else 200), "<html>" if fault and fault.kind == "garbage" else answer, {}
        except Answer as other:
            return other.status, json.dumps(other.body | {"lastTransactionID": str(double.last_id)}), {}

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, name: str) -> None:
        """Until dropped. A heartbeat whenever there has been nothing to say for a while, and one at the beginning."""
        double = self.server.double
        self.close_connection = True
        lines: queue.Queue[str | None] = queue.Queue()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with double.lock:
            if name == "pricing":
                asked = parse_qs(urlsplit(self.path).query)
                for symbol in double._named(asked):
                    lines.put(double._price_line(symbol))
            else:
                lines.put(self._heartbeat(name))
            double._streams[name].append(lines)
        try:
            while not double._stopping.is_set():
                try:
                    line = lines.get(timeout=double._heartbeat_s)
                except queue.Empty:
                    line = self._heartbeat(name)
                if line is None:
                    return
                self._chunk(line.encode() + b"\n")
        except OSError:
            pass
        finally:
            with double.lock:
                double._streams[name].remove(lines)

    def _heartbeat(self, name: str) -> str:
        last = {"lastTransactionID": str(self.server.double.last_id)} if name == "transactions" else {}
        return json.dumps({"type": "HEARTBEAT", **last, "time": now()})

    def _chunk(self, content: bytes) -> None:
        """Cut in the middle: a line is not a chunk."""
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            if part:
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")


def _stale(answer: Json, behind: int) -> Json:
    """The same as of some transactions ago."""
    last = int(answer["lastTransactionID"]) - behind
    rows = [row for row in answer.get("transactions", []) if int(row["id"]) <= last]
    return answer | {"lastTransactionID": str(last)} | ({"transactions": rows} if "transactions" in answer else {})


def named(made: Json) -> Json:
    """How fills and cancels say which order they are about."""
    key = made.get("clientExtensions", {}).get("id")
    return {"orderID": made["id"]} | ({"clientOrderID": key} if key else {})


def now() -> str:
    """RFC 3339 with nine decimals."""
    ns = time.time_ns()
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09d}Z"
