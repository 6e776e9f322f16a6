"""The practice venue's process: `python -m brokers.practice_server [SPEC.json]`, the specification else from standard input.

Owns sockets, the event loop and the end of the process; what is answered comes from practice_rest.py and practice_stream.py.
Prints one JSON line when both ports listen. Exit codes: 0 stopped or left alone for `linger_s`, 2 bad specification, tape or
port, 70 defect. Uses 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from websockets.asyncio.server import serve

from brokers.practice import HOST, PracticeSpec, Ready
from brokers.practice_bent_stream import BentStream
from brokers.practice_bent_venue import BentVenue
from brokers.practice_market import market
from brokers.practice_reply import Reply, Wire
from brokers.practice_rest import Rest
from brokers.practice_seam import BentSeam, Seam
from brokers.practice_stream import Stream
from brokers.practice_venue import Venue
from brokers.practice_wire import BentProtocol, Receive, Scope, Send, send_badly
from brokers.tape import TapeError, TapeReport, TapeTick, read_tape
from state.clock import SystemClock

_LINGER_CHECKS = 10  # looks per linger time
_BACKLOG = 128
_KEEP_ALIVE_S = 600
_DEFECT = Reply(500, b'{"message":"An unexpected error occurred in the API endpoint","status":"error"}')


class StartError(Exception):
    """The venue cannot be started; one line for people."""


class Server:
    """Both ports of one venue on one event loop."""

    def __init__(self, spec: PracticeSpec) -> None:
        self._clock = SystemClock()
        self._last_request_ms = self._clock.monotonic_ms()
        self._rest_socket = _bind(spec.rest_port, "REST")
        self._ws_socket = _bind(spec.ws_port, "WebSocket")
        self.ports = (self._rest_socket.getsockname()[1], self._ws_socket.getsockname()[1])
        ticks, reports = _open_market(spec)
        self._venue: Venue
        self._seam: Seam
        self._stream: Stream
        if spec.faults:
            bent = BentVenue(spec, ticks, reports)
            self._venue, self._seam, self._stream = bent, BentSeam(bent), BentStream(bent)
        else:
            self._venue, self._seam = Venue(spec, ticks, reports), Seam()
            self._stream = Stream(self._venue)
        self._rest = Rest(self._venue, self.ports, os.getpid())

    @property
    def bent(self) -> bool:
        return bool(self._venue.spec.faults)

    async def run(self) -> None:
        """Serve until stopped or left alone. Raises what broke, if something did."""
        http = _Http(_http_config(self))
        _stop_on_signals(self._venue.stopping, asyncio.get_running_loop())
        async with serve(self._stream.connect, sock=self._ws_socket, compression=None, close_timeout=1):
            serving = asyncio.create_task(http.serve(sockets=[self._rest_socket]))
            market_plays = asyncio.create_task(self._play())
            alone = asyncio.create_task(self._until_left_alone())
            stopped = asyncio.create_task(self._venue.stopping.wait())
            self._announce()
            try:
                await _first_of({serving, alone, stopped}, may_end=market_plays)
            finally:
                http.should_exit = True
                await asyncio.wait({serving}, timeout=2)
                for task in (market_plays, alone, stopped, serving):
                    task.cancel()
                await asyncio.gather(market_plays, alone, stopped, serving, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request (ASGI)."""
        self._last_request_ms = self._clock.monotonic_ms()
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        kind = request.headers.get("content-type", "")
        path = scope["path"]
        try:
            reply = await self._seam.answer(path, body, lambda: self._rest.answer(request.method, path, kind, body))
        except Exception:  # a defect: the real server answers 500 to anything, and so does this one, but it says so
            _complain(traceback.format_exc())
            reply = _DEFECT
        if reply.wire is not Wire.PLAIN:
            await send_badly(reply, scope, receive, send, self._venue.stopping)
            return
        headers = {"connection": "close"} if reply.close else None
        await Response(reply.body, reply.status, headers, reply.media_type)(scope, receive, send)

    async def _play(self) -> None:
        await self._venue.play()
        for report in self._venue.reports:
            if report.bad or report.late:
                _complain(f"tape {report.describe()}")

    async def _until_left_alone(self) -> None:
        """Ends when for the linger time there was no request and no socket."""
        linger_s = self._venue.spec.settings.linger_s
        last_seen_ms = self._clock.monotonic_ms()
        while self._clock.monotonic_ms() - max(last_seen_ms, self._last_request_ms) < linger_s * 1000:
            await asyncio.sleep(linger_s / _LINGER_CHECKS)
            if self._stream.clients:
                last_seen_ms = self._clock.monotonic_ms()

    def _announce(self) -> None:
        ready = Ready(*self.ports, self._venue.spec.account, os.getpid())
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()


def _http_config(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        server,
        http=BentProtocol if server.bent else "auto",
        lifespan="off",
        access_log=False,
        log_config=None,
        ws="none",
        backlog=_BACKLOG,
        # Longer than any pause between two polls: a connection closed under a waiting client looks like a lost reply.
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: the venue has its own, for both ports."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _first_of(tasks: set[asyncio.Task[Any]], may_end: asyncio.Task[None]) -> None:
    """Wait for the first of the tasks; `may_end` may end, but not with an error. Raises what broke."""
    waiting = {*tasks, may_end}
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if done & tasks:
            return


def _bind(port: int, name: str) -> socket.socket:
    """A listening socket of our own. On Windows address reuse would let a second venue steal the port."""
    # The protocol by name: asyncio turns Nagle's algorithm off only for a socket that says TCP, and accepted ones inherit it.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform == "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(f"{name} port {port} on {HOST} cannot be used: {error}") from error
    return listener


def _open_market(spec: PracticeSpec) -> tuple[Iterable[TapeTick], list[TapeReport]]:
    if spec.tape:
        tape = read_tape(spec.tape, {instrument.symbol for instrument in spec.instruments})
        return tape, tape.reports
    return market(spec.symbols, spec.open_ms, spec.close_ms), []


def _stop_on_signals(stopping: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    def stop(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(stopping.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # SIGBREAK: Windows only
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever started us may be gone
        sys.stderr.write(text.rstrip() + "\n")
        sys.stderr.flush()


def main(arguments: list[str]) -> int:
    try:
        text = Path(arguments[0]).read_bytes() if arguments else sys.stdin.buffer.read()
        server = Server(msgspec.json.decode(text, type=PracticeSpec))
    except msgspec.MsgspecError as error:
        _complain(f"the practice venue's specification is wrong: {error}")
        return 2
    except (StartError, TapeError, ValueError, OSError) as error:
        _complain(f"the practice venue cannot start: {error}")
        return 2
    try:
        asyncio.run(server.run())
    except Exception:  # the last line of defence of this process
        _complain(traceback.format_exc())
        return 70
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
