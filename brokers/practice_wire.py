"""How the practice venue answers badly at the TCP level: dropped, reset, dribbled, closed without a word.

Owns the tricks of the transport and nothing else. Used only with a fault script.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from brokers.practice_reply import Reply, Wire

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # close sends RST
_GONE_S = 5.0


class BentProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with the connection's transport in every request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        plain: Any = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["transport"] = transport
            await plain(scope, receive, send)

        self.app = with_transport


async def send_badly(reply: Reply, scope: Scope, receive: Receive, send: Send, stopping: asyncio.Event) -> None:
    transport: asyncio.Transport = scope["transport"]
    if reply.wire is Wire.RESET:
        reset(transport)
        await _until_gone(receive)
    elif reply.wire is Wire.DROP:
        transport.close()
        await _until_gone(receive)
    else:
        await _send_slowly(reply, send, stopping)
        if reply.wire is Wire.CLOSE_AFTER:
            transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Close it so that the other side reads "connection reset"."""
    found = transport.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):  # gone already
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Wait; not longer than the venue lives."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def _send_slowly(reply: Reply, send: Send, stopping: asyncio.Event) -> None:
    headers = [(b"content-type", reply.media_type.encode()), (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.wire is Wire.DRIBBLE:
        for at in range(len(reply.body)):
            await send({"type": "http.response.body", "body": reply.body[at : at + 1], "more_body": True})
            await pause(reply.pause_s, stopping)
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": reply.body})


async def _until_gone(receive: Receive) -> None:
    """Until the server has noticed that the connection is closed: it would answer 500 for us."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):
            while (await receive())["type"] != "http.disconnect":
                pass
