"""The practice venue's stream with a fault script: updates lost, doubled, late; sockets silent or gone; prices that are none.

Owns the faults of the sockets. The venue itself is not touched: what is bad here is only what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from websockets.asyncio.server import ServerConnection

from brokers.base import OrderRow
from brokers.practice_bent_venue import BentVenue
from brokers.practice_dial import Hit, Occasion
from brokers.practice_fault_kinds import KINDS, TICKS, UPDATES, Where
from brokers.practice_rest import status_word
from brokers.practice_stream import ENCODER, MODES, Stream
from brokers.practice_wire import reset
from brokers.tape import TapeTick

_RESTART_CODE = 1012
_SPIKE = Decimal(10)
_HOUR_MS = 3_600_000
_NO_SYMBOL = "NO-SUCH-SYMBOL"
_WORDS = KINDS["bad_price"].answers[1:]

Message = dict[str, Any]


class BentStream(Stream):
    def __init__(self, venue: BentVenue) -> None:
        super().__init__(venue)
        self._dial = venue.dial
        self._choice = Random(venue.spec.fault_seed)
        self._silences: list[tuple[tuple[str, ...], str, float]] = []  # (paths, symbol, until: loop time)
        self._closed_until = 0.0
        self._held: list[bytes] = []  # updates that wait for the next one

    async def connect(self, socket: ServerConnection) -> None:
        if _now() < self._closed_until:
            await socket.close(_RESTART_CODE, "service restart")
            return
        await super().connect(socket)

    def tell_tick(self, tick: TapeTick) -> None:
        if self._socket_faults(Occasion(TICKS, tick.symbol)):
            return
        super().tell_tick(tick)
        if self._dial.has(Where.PRICE) and any((tick.symbol, mode) in self.subscribers for mode in MODES):
            hit = self._dial.strike(Where.PRICE, Occasion(TICKS, tick.symbol))
            if hit is not None:
                self._tell_bad_price(hit, tick)

    def tell_order(self, row: OrderRow) -> None:
        word = status_word(self.venue, row)
        occasion = Occasion(UPDATES, row.symbol, row.side.value, row.label, f"{row.venue_id} {word} {row.filled}")
        if self._socket_faults(occasion) or not self.order_subscribers:
            return
        message = ENCODER.encode(self.order_update(row))
        hit = self._dial.strike(Where.UPDATE, occasion)
        kind = "" if hit is None else hit.fault.kind
        if hit is not None and kind in ("updates_delayed", "updates_reordered"):
            if kind == "updates_delayed":
                _later(hit.fault.delay_s, lambda: self.put_update(message))
            else:
                self._held.append(message)
                _later(hit.fault.delay_s, self._let_go)
            return
        for _ in range({"updates_missing": 0, "updates_duplicated": 2}.get(kind, 1)):
            self.put_update(message)
        self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self.put_update(message)

    def _socket_faults(self, occasion: Occasion) -> bool:
        """Whether this message is not to be sent at all."""
        if self._dial.has(Where.SOCKET) and self.clients:
            hit = self._dial.strike(Where.SOCKET, occasion)
            if hit is not None and hit.fault.kind == "silent_socket":
                until = _now() + hit.fault.lasts_s if hit.fault.lasts_s else float("inf")
                self._silences.append((hit.fault.paths, hit.fault.symbol, until))
            elif hit is not None:
                self._drop(hit)
        if not self._silences:
            return False
        self._silences = [silence for silence in self._silences if silence[2] > _now()]
        return any(occasion.path in paths and symbol in ("", occasion.symbol) for paths, symbol, _ in self._silences)

    def _drop(self, hit: Hit) -> None:
        self._closed_until = _now() + hit.fault.lasts_s
        self._dial.note(hit, f"{len(self.clients)} sockets, {hit.fault.word}")
        for client in list(self.clients):
            if hit.fault.word == "reset":
                reset(client.socket.transport)
            else:
                client.close(_RESTART_CODE, "service restart")

    def _tell_bad_price(self, hit: Hit, tick: TapeTick) -> None:
        word = hit.fault.word
        word = self._choice.choice(_WORDS) if word == "any" else word
        self._dial.note(hit, word)
        for mode in MODES:
            clients = self.subscribers.get((tick.symbol, mode), ())
            message = _spoiled(word, self.market_data(tick, mode), hit.fault.price)
            for client in clients:
                client.put(message)


_PRICES: dict[str, object] = {"nan": "NaN", "zero": 0, "negative": -1, "null": None, "true": True, "infinity": "Infinity"}
_TIMES: dict[str, Callable[[int], int]] = {"old": lambda at_ms: at_ms - _HOUR_MS, "seconds": lambda at_ms: at_ms // 1000}


def _spoiled(word: str, message: Message, price: Decimal | None) -> bytes:
    quote: Message = message["data"]
    if word in _PRICES:
        quote["ltp"] = _PRICES[word]
    elif word == "spike":
        quote["ltp"] = price or quote["ltp"] * _SPIKE
    elif word in _TIMES:
        quote |= {name: _TIMES[word](quote[name]) for name in ("timestamp", "ltt")}
    elif word == "no_time":
        del quote["timestamp"], quote["ltt"]
    elif word == "unknown_symbol":
        message["symbol"] = quote["symbol"] = _NO_SYMBOL
    elif word == "huge":
        quote["ltp"] = "HUGE"
        return ENCODER.encode(message).replace(b'"HUGE"', b"1e400")  # a number that JSON allows and nothing can hold
    text = ENCODER.encode(message)
    return text[: len(text) // 2] if word == "broken_json" else text


def _now() -> float:
    return asyncio.get_running_loop().time()


def _later(delay_s: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, act)
