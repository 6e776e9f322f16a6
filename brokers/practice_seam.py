"""Between the practice venue's sockets and its answers: where a fault script loses, delays and spoils REST replies.

Owns the faults of the way there and back. Every request passes `answer`; calling `carry_out` is what executes it at the venue.
Without a script it does nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from brokers.base import OrderRow, Reported
from brokers.practice_bent_venue import BentVenue, void
from brokers.practice_dial import Hit, Occasion
from brokers.practice_fault_kinds import Where
from brokers.practice_reply import Reply, Wire, analyzed, error, reply
from brokers.practice_rest import API
from brokers.practice_wire import pause

CarryOut = Callable[[], Reply]

_HOLD_S = 120.0  # longer than any client waits
_NOTHING = Reply(0, b"", wire=Wire.DROP)
_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
_VERBS = {"placeorder": "place", "modifyorder": "modify", "cancelorder": "cancel"}


class Seam:
    async def answer(self, path: str, body: bytes, carry_out: CarryOut) -> Reply:
        return carry_out()


class BentSeam(Seam):
    """The seam of a venue with a dial."""

    def __init__(self, venue: BentVenue) -> None:
        self._venue = venue
        self._dial = venue.dial
        self._kinds: dict[str, Callable[[Hit, Asked], Awaitable[Reply] | Reply]] = {
            "lost_reply": self._lost_reply,
            "delayed_reply": self._delayed_reply,
            "stall": self._stall,
            "dribble": lambda hit, asked: replace(asked.carry_out(), wire=Wire.DRIBBLE, pause_s=hit.fault.delay_s),
            "error_before": lambda hit, asked: _error(hit, asked),
            "error_after": lambda hit, asked: _after(asked, _error(hit, asked)),
            "rate_limited": lambda hit, asked: reply(429, {"message": "10 per 1 second"}, close=True),
            "late_accept": self._late_accept,
            "reset_before": self._reset_before,
            "reset_after": self._reset_after,
            "close_after_reply": lambda hit, asked: replace(asked.carry_out(), wire=Wire.CLOSE_AFTER),
            "garbage": lambda hit, asked: _garbage(hit.fault.word, asked.carry_out()),
            "no_id": self._no_id,
            "error_with_id": self._error_with_id,
            "session_expired": lambda hit, asked: error(403, "Invalid openalgo apikey"),
            "mode_gone": lambda hit, asked: _without_mode(asked.carry_out()),
            "modify_ignored": self._modify_ignored,
            "cancel_loses_to_fill": self._cancel_loses,
            "fill_after_cancel": self._fill_after_cancel,
            "fill_first": self._fill_first,
        }

    async def answer(self, path: str, body: bytes, carry_out: CarryOut) -> Reply:
        if not path.startswith(API) or not self._dial.has(Where.REQUEST):
            return carry_out()
        asked = self._asked(path.removeprefix(API).rstrip("/"), body, carry_out)
        hit = self._dial.strike(Where.REQUEST, asked.occasion)
        if hit is None:
            return carry_out()
        answer = self._kinds[hit.fault.kind](hit, asked)
        return answer if isinstance(answer, Reply) else await answer

    def _asked(self, path: str, body: bytes, carry_out: CarryOut) -> Asked:
        try:
            fields = msgspec.json.decode(body)
        except msgspec.DecodeError:
            fields = None
        named: dict[str, Any] = fields if isinstance(fields, dict) else {}
        row = self._venue.book.order(str(named["orderid"])) if "orderid" in named else None
        if row is not None:
            return Asked(Occasion(path, row.symbol, row.side.value, row.label), row, carry_out)
        words = [str(named.get(name, "")) for name in ("symbol", "action", "strategy")]
        return Asked(Occasion(path, words[0], words[1].upper(), words[2]), None, carry_out)

    # The way there and back

    async def _lost_reply(self, hit: Hit, asked: Asked) -> Reply:
        asked.carry_out()
        await self._pause(hit.fault.delay_s)
        return _NOTHING

    async def _delayed_reply(self, hit: Hit, asked: Asked) -> Reply:
        answer = asked.carry_out()
        await self._pause(hit.fault.delay_s)
        return answer

    async def _stall(self, hit: Hit, asked: Asked) -> Reply:
        await self._pause(hit.fault.delay_s)
        return asked.carry_out()

    async def _late_accept(self, hit: Hit, asked: Asked) -> Reply:
        asyncio.get_running_loop().call_later(hit.fault.delay_s, lambda: self._accept_late(hit, asked))
        if hit.fault.word == "error":
            return _error(hit, asked)
        if hit.fault.word == "hold":
            await self._pause(_HOLD_S)
        return _NOTHING

    def _accept_late(self, hit: Hit, asked: Asked) -> None:
        answer = asked.carry_out()
        said = f"accepted as {_order_id(answer)}" if answer.status == 200 else f"refused: {answer.body.decode()}"
        self._dial.note(hit, f"{said} after {hit.fault.delay_s:g} s")

    async def _reset_before(self, hit: Hit, asked: Asked) -> Reply:
        await self._pause(hit.fault.delay_s)
        return replace(_NOTHING, wire=Wire.RESET)

    async def _reset_after(self, hit: Hit, asked: Asked) -> Reply:
        asked.carry_out()
        await self._pause(hit.fault.delay_s)
        return replace(_NOTHING, wire=Wire.RESET)

    # Answers to a placement

    def _no_id(self, hit: Hit, asked: Asked) -> Reply:
        if hit.fault.word == "pending":
            if hit.fault.delay_s:
                asyncio.get_running_loop().call_later(hit.fault.delay_s, lambda: self._accept_late(hit, asked))
            queued = {"message": "Order queued for approval in Action Center", "mode": "semi_auto", "pending_order_id": 1}
            return reply(200, queued | {"status": "success"})
        return self._if_placed(hit, asked, lambda order_id: analyzed({"orderid": None} if hit.fault.word == "null" else {}))

    def _error_with_id(self, hit: Hit, asked: Asked) -> Reply:
        reason = hit.fault.reason or f"Cannot sell {asked.occasion.symbol}. No positions or holdings available."

        def refuse(order_id: str) -> Reply:
            self._venue.end(order_id, Reported.REJECTED, reason)
            return error(400, reason, mode="analyze", orderid=order_id)

        return self._if_placed(hit, asked, refuse)

    async def _fill_first(self, hit: Hit, asked: Asked) -> Reply:
        answer = asked.carry_out()
        order_id = _order_id(answer)
        if order_id is None or not self._venue.force_fill(order_id, hit.fault.qty):
            self._dial.withdraw(hit)
            return answer
        self._dial.note(hit, f"{order_id} filled {hit.fault.delay_s:g} s before its reply")
        await self._pause(hit.fault.delay_s)
        return answer

    def _if_placed(self, hit: Hit, asked: Asked, spoil: Callable[[str], Reply]) -> Reply:
        """An honest refusal stays one: there is no order to say anything odd about."""
        answer = asked.carry_out()
        order_id = _order_id(answer)
        if order_id is None:
            self._dial.withdraw(hit)
            return answer
        self._dial.note(hit, order_id)
        return spoil(order_id)

    # Changes that do not come about

    def _modify_ignored(self, hit: Hit, asked: Asked) -> Reply:
        row = self._working(asked)
        if row is None:
            return self._as_ever(hit, asked)
        if hit.fault.delay_s:
            self._venue.later(hit.fault.delay_s, lambda: void(asked.carry_out()))
        self._dial.note(hit, row.venue_id)
        return analyzed({"message": "Order modified successfully", "orderid": row.venue_id})

    def _cancel_loses(self, hit: Hit, asked: Asked) -> Reply:
        row = self._working(asked)
        if row is None or not self._venue.force_fill(row.venue_id, hit.fault.qty):
            return self._as_ever(hit, asked)
        self._dial.note(hit, f"{row.venue_id} filled first")
        return asked.carry_out()

    def _fill_after_cancel(self, hit: Hit, asked: Asked) -> Reply:
        row = self._working(asked)
        if row is None:
            return self._as_ever(hit, asked)
        answer = asked.carry_out()
        self._dial.note(hit, f"{row.venue_id} fills {hit.fault.delay_s:g} s after its cancel")
        self._venue.later(hit.fault.delay_s, lambda: void(self._venue.force_fill(row.venue_id, hit.fault.qty)))
        return answer

    def _as_ever(self, hit: Hit, asked: Asked) -> Reply:
        self._dial.withdraw(hit)
        return asked.carry_out()

    def _working(self, asked: Asked) -> OrderRow | None:
        return asked.row if asked.row is not None and asked.row.state is Reported.WORKING else None

    async def _pause(self, seconds: float) -> None:
        if seconds:
            await pause(seconds, self._venue.stopping)


class Asked(msgspec.Struct, frozen=True):
    """One request: what it is about, the order it names where it names one, and how to execute it."""

    occasion: Occasion
    row: OrderRow | None
    carry_out: CarryOut


def _error(hit: Hit, asked: Asked) -> Reply:
    verb = _VERBS.get(asked.occasion.path)
    usual = f"Failed to {verb} order due to internal error" if verb else "An unexpected error occurred in the API endpoint"
    return error(hit.fault.status or 500, hit.fault.reason or usual)


def _after(asked: Asked, answer: Reply) -> Reply:
    asked.carry_out()
    return answer


def _garbage(word: str, answer: Reply) -> Reply:
    if word == "html":
        return Reply(200, _HTML, media_type="text/html")
    if word == "null_data":
        return analyzed({"data": None})
    return Reply(200, answer.body[: len(answer.body) // 2] if word == "truncated" else b"")


def _without_mode(answer: Reply) -> Reply:
    return replace(answer, body=answer.body.replace(b'"mode":"analyze",', b""))


def _order_id(answer: Reply) -> str | None:
    """The id of the order that a placement has made."""
    if answer.status != 200:
        return None
    found = msgspec.json.decode(answer.body).get("orderid")
    return None if found is None else str(found)
