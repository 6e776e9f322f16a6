"""The stream of a simulated session: OpenAlgo's WebSocket server and the network before it, as one end of a `Wire`.

The real feed and the real dialect read real frames; only the socket is not one. Owns the faults of the feed: what is lost,
doubled, late, garbled or silent on the way. Never changes the book.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from brokers.base import FillRow, Reported
from brokers.matching import Change
from brokers.wire import WireClosed
from simulation.scheduler import Scheduler
from simulation.world import Print, World
from state.clock import Clock
from state.orders import OrderType

URL = "ws://127.0.0.1:1"
EXCHANGE = "SIM"
KINDS = {OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT", OrderType.STOP_LIMIT: "SL", OrderType.STOP: "SL-M"}
WORDS = {
    Reported.WORKING: "open",
    Reported.FILLED: "complete",
    Reported.CANCELLED: "cancelled",
    Reported.REJECTED: "rejected",
    Reported.EXPIRED: "cancelled",
}


class SimWire:
    """One connection. Made by the feed, used by the tick thread; `deliver` is called by the world."""

    def __init__(
        self, world: World, scheduler: Scheduler, going: Callable[[], bool], heard: Callable[[], None], turn_s: float
    ) -> None:
        self._world, self._scheduler = world, scheduler
        self._going, self._heard, self._turn_s = going, heard, turn_s
        self._frames: deque[bytes | None] = deque()  # None: a pong
        self._lost: str | None = None
        self._symbols: set[str] = set()
        self._orders = False

    # -- the client's end ------------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        self._scheduler.sleep(5)
        self._world.stream = self

    def receive(self) -> bytes | None:
        if not self._frames and self._lost is None:
            self._scheduler.block(self, self._turn_s)
        if self._frames:
            self._heard()
            return self._frames.popleft()
        if self._lost is not None:
            raise WireClosed(self._lost)
        return None

    def send(self, text: str) -> None:
        if self._lost is not None:
            raise WireClosed(self._lost)
        self._asked(msgspec.json.decode(text))

    def ping(self) -> None:
        self._world.later(1, self._pong)

    def abort(self) -> None:
        self._lose("aborted")

    def close(self) -> None:
        if self._world.stream is self:
            self._world.stream = None

    # -- the server's end ------------------------------------------------------------------------------------------------------

    def _asked(self, request: dict[str, Any]) -> None:
        match request["action"]:
            case "authenticate":
                self._answer(type="auth", status="success")
            case "subscribe":
                lines = request["symbols"]
                self._symbols |= {line["symbol"] for line in lines}
                done = [{**line, "status": "success"} for line in lines]
                self._answer(type="subscribe", status="success", subscriptions=done)
            case "subscribe_orders":
                self._orders = True
                self._answer(type="subscribe_orders", status="success")

    def price(self, print_: Print) -> None:
        if print_.symbol not in self._symbols:
            return
        at_ms, symbol, price = self._world.now_ms(), print_.symbol, print_.price
        frame = (
            f'{{"type":"market_data","symbol":"{symbol}","exchange":"{EXCHANGE}","mode":1,"data":{{"ltp":{price},'
            f'"timestamp":{at_ms}}}}}'
        )
        self._deliver(frame.encode())

    def update(self, change: Change) -> None:
        if not self._orders or isinstance(change, FillRow):
            return
        row = change
        self._answer(
            type="order_update",
            orderid=row.venue_id,
            symbol=row.symbol,
            exchange=EXCHANGE,
            action=row.side.value,
            quantity=row.qty,
            order_status=WORDS[row.state],
            pricetype=KINDS[row.type] if row.type is not None else "",
            price=row.limit_price or 0,
            trigger_price=row.trigger_price or 0,
            filled_quantity=row.filled,
            average_price=row.average,
        )

    def _answer(self, **fields: object) -> None:
        self._deliver(msgspec.json.Encoder(decimal_format="number").encode(fields))

    def _deliver(self, frame: bytes | None) -> None:
        self._frames.append(frame)
        self._scheduler.wake(self)

    def _pong(self) -> None:
        self._deliver(None)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._scheduler.wake(self)


def wires(world: World) -> Callable[[Clock, Callable[[], bool], Callable[[], None], float], Any]:
    """What makes the connections of one process."""

    def make(clock: Clock, going: Callable[[], bool], heard: Callable[[], None], turn_s: float) -> SimWire:
        assert isinstance(clock, Scheduler)
        return SimWire(world, clock, going, heard, turn_s)

    return make
