"""The stream of a simulated session: OpenAlgo's WebSocket server, at the other end of a `Wire`.

The real feed and the real dialect read real frames; only the socket is not one. Owns the faults of the server: logins and
subscriptions that go wrong, prices and order updates that are lost, doubled, late, garbled or not sent at all. The network is
`sim_wire`, what a spoiled message looks like `sim_frames`. Never changes the book.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from brokers.base import FillRow, OrderRow
from brokers.matching import Change
from simulation import sim_frames, sim_wire
from simulation.fates import Kind
from simulation.scheduler import Scheduler
from simulation.sim_frames import EXCHANGE, QuoteFrame, UpdateFrame, encode
from simulation.sim_wire import SimWire
from simulation.world import Print, World
from state.clock import Clock

URL = "ws://127.0.0.1:1"
KEPT_TRADES = 12  # of all symbols, sent again to whoever subscribes
KEPT_WORDS = 40  # on orders, too
POLLED_MS = 2_000  # an order update that does not come at once is made up for by a look at the book
KINDS: dict[str, Kind] = {
    **sim_wire.KINDS,
    "feed.hung_up": Kind("the server closes the connection as soon as we log in", 0.05),
    "feed.login_refused": Kind("the login is refused", 0.05),
    "feed.login_slow": Kind("the login is answered up to 15 s late", 0.05),
    "feed.login_unanswered": Kind("the login is never answered; pongs come", 0.03),
    "feed.hollow": Kind("login and subscription succeed, then no price and no update until the next login", 0.04),
    "feed.ack_missing": Kind("a subscription is not answered: lost, or not even done", 0.08),
    "feed.ack_late": Kind("a subscription is answered up to 12 s late", 0.08),
    "feed.ack_error": Kind("a subscription is answered with an error", 0.05),
    "feed.ack_partial": Kind("a symbol of a subscription is refused", 0.05),
    "feed.old_trades": Kind("the last trades are sent again upon subscribing", 0.2),
    "feed.orders_unsupported": Kind("the server knows no order updates", 0.05),
    "feed.orders_unanswered": Kind("the request for order updates is not answered", 0.05),
    "feed.updates_replayed": Kind("old and present words on each order are sent upon connecting, in no order", 0.2),
    "feed.silent": Kind("no price and no update for up to 90 s; pongs come", 0.0008),
    "feed.quiet_symbol": Kind("no price of one symbol for up to 90 s", 0.001),
    "feed.mute": Kind("no order update for up to 30 s; prices come", 0.02),
    **sim_frames.KINDS,
}


class SimServer:
    """The venue's stream as one process sees it: `world.stream` while that process lives."""

    def __init__(self, world: World) -> None:
        self._world, self._fates = world, world.fates
        self._wire: SimWire | None = None
        self._recent: deque[QuoteFrame] = deque(maxlen=KEPT_TRADES)
        self._quiet: dict[str, int] = {}  # symbol -> until when
        self._silent_ms = self._mute_ms = 0  # until when
        self._forget()

    def _forget(self) -> None:
        self._symbols: dict[str, None] = {}
        self._orders = self._hollow = False

    # -- connections -----------------------------------------------------------------------------------------------------------

    def connected(self, wire: SimWire) -> None:
        self._wire = wire
        self._forget()

    def asked(self, wire: SimWire, request: dict[str, Any]) -> None:
        match request["action"]:
            case "authenticate":
                self._log_in(wire)
            case "subscribe":
                self._subscribe(wire, request["symbols"])
            case "subscribe_orders":
                self._subscribe_orders(wire)

    def _log_in(self, wire: SimWire) -> None:
        fates = self._fates
        self._hollow = fates.strikes("feed.hollow")
        if fates.strikes("feed.hung_up"):
            return wire.lose("closed by the server: 1008 policy violation")
        if fates.strikes("feed.login_refused"):
            code = fates.pick(["AUTHENTICATION_ERROR", "NOT_AUTHENTICATED"])
            return wire.carry(encode(status="error", code=code, message="Invalid API key"))
        if fates.strikes("feed.login_unanswered"):
            return None
        wait_ms = fates.amount(500, 15_000) if fates.strikes("feed.login_slow") else 0
        return self._after(wait_ms, wire, encode(type="auth", status="success"))

    def _subscribe(self, wire: SimWire, lines: list[dict[str, Any]]) -> None:
        fates = self._fates
        if fates.strikes("feed.ack_missing"):
            if fates.amount(0, 1):
                self._symbols |= dict.fromkeys(line["symbol"] for line in lines)
            return
        if fates.strikes("feed.ack_error"):
            code = fates.pick(["SUBSCRIPTION_ERROR", "BROKER_ERROR", ""])
            return wire.carry(encode(status="error", code=code, message="cannot subscribe"))
        answers = [self._line(line) for line in lines]
        answers.reverse()
        status = "success" if all(line["status"] == "success" for line in answers) else "partial"
        wait_ms = fates.amount(500, 12_000) if fates.strikes("feed.ack_late") else 0
        self._after(wait_ms, wire, encode(type="subscribe", status=status, subscriptions=answers))
        if fates.strikes("feed.old_trades"):
            for quote in [quote for quote in self._recent if quote.symbol in self._symbols]:
                wire.carry(quote.encode())

    def _line(self, line: dict[str, Any]) -> dict[str, Any]:
        if self._fates.strikes("feed.ack_partial"):
            return {**line, "status": "error", "message": f"Symbol {line['symbol']} not found"}
        self._symbols[line["symbol"]] = None
        return {**line, "status": "success"}

    def _subscribe_orders(self, wire: SimWire) -> None:
        fates = self._fates
        if fates.strikes("feed.orders_unsupported"):
            return wire.carry(encode(status="error", code="INVALID_ACTION", message="Invalid action: subscribe_orders"))
        if fates.strikes("feed.orders_unanswered"):
            return
        self._orders = True
        wire.carry(encode(type="subscribe_orders", status="success"))
        if fates.strikes("feed.updates_replayed"):
            self._replay(wire)

    def _replay(self, wire: SimWire) -> None:
        rows = [row for words in self._world.history.values() for _, row in words][-KEPT_WORDS:]
        rows.sort(key=lambda _: self._fates.amount(0, 1_000))
        for row in rows:
            wire.carry(UpdateFrame.of(row).encode())

    def _after(self, wait_ms: int, wire: SimWire, frame: bytes) -> None:
        if wait_ms:
            self._world.later(wait_ms, lambda: wire.carry(frame))
        else:
            wire.carry(frame)

    # -- what is told ----------------------------------------------------------------------------------------------------------

    def price(self, print_: Print) -> None:
        quote = QuoteFrame(print_.symbol, EXCHANGE, str(print_.price), self._world.now_ms())
        self._recent.append(quote)
        if self._wire is None or self._wire.gone or print_.symbol not in self._symbols:
            return
        now_ms, fates = self._world.mono_ms, self._fates
        if fates.strikes("feed.silent"):
            self._silent_ms = now_ms + fates.amount(2_000, 90_000)
        if fates.strikes("feed.quiet_symbol"):
            self._quiet[print_.symbol] = now_ms + fates.amount(2_000, 90_000)
        if self._says_nothing(self._silent_ms) or self._lasts(self._quiet.get(print_.symbol, 0)):
            return
        for delay_ms, frame in sim_frames.spoiled_quote(quote, fates):
            self._send(delay_ms, frame, lambda: print_.symbol in self._symbols)

    def update(self, change: Change) -> None:
        if isinstance(change, FillRow):
            return
        if not self._told_at_once(change):
            self._world.troubled(POLLED_MS, change.symbol)

    def _told_at_once(self, row: OrderRow) -> bool:
        """Tells it, as well as it goes. False when the client does not know of it now."""
        wire, fates = self._wire, self._fates
        if wire is None or wire.gone or not self._orders:
            return False
        if fates.strikes("feed.mute"):
            self._mute_ms = self._world.mono_ms + fates.amount(1_000, 30_000)
        if self._says_nothing(self._silent_ms) or self._lasts(self._mute_ms):
            return False
        words = [word for _, word in self._world.history[row.venue_id]]
        told = sim_frames.spoiled_update(row, words, fates)
        for delay_ms, frame in told:
            self._send(delay_ms, frame, lambda: self._orders)
        return wire.prompt and (0, UpdateFrame.of(row).encode()) in told

    def _says_nothing(self, until_ms: int) -> bool:
        return (self._hollow and not self._fates.over) or self._lasts(until_ms)

    def _lasts(self, until_ms: int) -> bool:
        return self._world.mono_ms < until_ms and not self._fates.over

    def _send(self, delay_ms: int, frame: bytes, wanted: Callable[[], bool]) -> None:
        """To whoever is connected by then."""

        def send() -> None:
            if self._wire is not None and wanted():
                self._wire.carry(frame)

        if delay_ms:
            self._world.later(delay_ms, send)
        else:
            send()


def wires(world: World) -> Callable[[Clock, Callable[[], bool], Callable[[], None], float], Any]:
    """What makes the connections of one process; from now on the world tells that process."""
    world.stream = server = SimServer(world)

    def make(clock: Clock, going: Callable[[], bool], heard: Callable[[], None], turn_s: float) -> SimWire:
        assert isinstance(clock, Scheduler)
        return SimWire(server, world, clock, going, heard, turn_s)

    return make


__all__ = ["EXCHANGE", "KINDS", "URL", "SimServer", "wires"]
