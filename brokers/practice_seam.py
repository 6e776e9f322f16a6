"""Where the practice venue's faults will be put in: every REST answer and every stream message passes here, now unchanged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from brokers.practice_reply import Reply


class Seam:
    """`answer`: one request; calling `carry_out` is what executes it at the venue. `send`: one message to one client."""

    async def answer(self, path: str, carry_out: Callable[[], Reply]) -> Reply:
        return carry_out()

    async def send(self, message: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
        await send(message)
