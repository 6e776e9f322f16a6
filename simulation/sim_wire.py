"""One connection of the simulated stream: the client's end of a `Wire`, and the network that it goes through.

Owns the faults of the network: connections that are refused, dropped, dead, slow or stalled. In between bytes keep their order,
as TCP has it. What the frames say is the server's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from brokers.wire import WireClosed
from simulation.fates import Kind
from simulation.scheduler import Scheduler
from simulation.world import World

OPEN_MS, PONG_MS = 5, 1
KINDS = {
    "feed.connect_refused": Kind("a connection cannot be made", 0.15),
    "feed.connect_slow": Kind("a connection takes up to 9 s to make", 0.1),
    "feed.dropped": Kind("the connection is closed or reset, and what was on its way is lost", 0.002),
    "feed.dead": Kind("the connection dies without a word: nothing comes any more, no pong either", 0.0008),
    "feed.lag": Kind("everything comes up to 8 s late, for a while", 0.001),
    "feed.stall": Kind("nothing comes for up to 20 s, then everything at once", 0.001),
}
CLOSED = [
    "connection lost: Connection to remote host was lost.",
    "closed by the server: 1012 service restart",
    "closed by the server: no reason given",
]


class Server(Protocol):
    """What is at the other end."""

    def connected(self, wire: SimWire) -> None: ...
    def asked(self, wire: SimWire, request: dict[str, Any]) -> None: ...


class SimWire:
    """Made by the feed, used by its thread as a `Wire` is; `carry` and `lose` are the server's."""

    def __init__(
        self,
        server: Server,
        world: World,
        scheduler: Scheduler,
        going: Callable[[], bool],
        heard: Callable[[], None],
        turn_s: float,
    ) -> None:
        self._server, self._world, self._scheduler, self._fates = server, world, scheduler, world.fates
        self._going, self._heard, self._turn_s = going, heard, turn_s
        self._there: deque[bytes | None] = deque()  # has arrived; None: a pong
        self._read: deque[bytes | None] = deque()  # of the last read from the socket
        self._lost: str | None = None
        self._dead = False
        self._lag_ms = self._lags_until_ms = 0
        self._free_ms = 0  # nothing arrives before that: it comes after what was sent earlier

    # -- the client's end ------------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        fates = self._fates
        if fates.strikes("feed.connect_refused"):
            self._wait(fates.amount(1, 3_000))
            raise WireClosed(f"cannot connect to {url}: Connection refused")
        self._wait(fates.amount(1_000, 9_000) if fates.strikes("feed.connect_slow") else OPEN_MS)
        if self._lost is not None or not self._going():
            raise WireClosed(f"cannot connect to {url}: stopping")
        self._server.connected(self)

    def receive(self) -> bytes | None:
        if not self._read:
            if not self._there and self._lost is None:
                self._scheduler.block(self, self._turn_s)
            if not self._there:
                if self._lost is not None:
                    raise WireClosed(self._lost)
                return None
            self._read, self._there = self._there, self._read
            self._heard()
        return self._read.popleft()

    def send(self, text: str) -> None:
        self._can_send()
        if not self._dead:
            self._server.asked(self, msgspec.json.decode(text))

    def ping(self) -> None:
        self._can_send()
        if not self._dead:
            self._world.later(PONG_MS, lambda: self._arrive_in_turn(None))

    def abort(self) -> None:
        self._end("connection lost: aborted")

    def close(self) -> None:
        self._end("closed")

    def _wait(self, ms: int) -> None:
        self._scheduler.block(self, ms / 1000)  # on this wire, so that `abort` ends it

    def _can_send(self) -> None:
        if self._lost is not None:
            raise WireClosed(f"cannot send: {self._lost}")

    # -- the server's end ------------------------------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Nothing that is sent gets there, whether anybody knows it or not."""
        return self._dead or self._lost is not None

    @property
    def prompt(self) -> bool:
        """Whether what is sent now is there at once."""
        return not self.gone and self._arrival_ms() <= self._world.mono_ms

    def carry(self, frame: bytes) -> None:
        """Take a frame to the client, if the network has nothing against it."""
        if not self.gone:
            self._strike()
            self._arrive_in_turn(frame)

    def lose(self, reason: str) -> None:
        """The server hangs up; what was sent before is still read."""
        self._end(reason)

    def _strike(self) -> None:
        fates, now_ms = self._fates, self._world.mono_ms
        if fates.strikes("feed.dropped"):
            self._end(fates.pick(CLOSED))
        if fates.strikes("feed.dead"):
            self._dead = True
        if fates.strikes("feed.lag"):
            self._lag_ms, self._lags_until_ms = fates.amount(100, 8_000), now_ms + fates.amount(1_000, 20_000)
        if fates.strikes("feed.stall"):
            self._free_ms = max(self._free_ms, now_ms + fates.amount(500, 20_000))

    def _arrival_ms(self) -> int:
        now_ms = self._world.mono_ms
        return max(now_ms + (self._lag_ms if now_ms < self._lags_until_ms else 0), self._free_ms)

    def _arrive_in_turn(self, frame: bytes | None) -> None:
        if self.gone:
            return
        arrives_ms = self._free_ms = self._arrival_ms()
        if arrives_ms <= self._world.mono_ms:
            self._arrive(frame)
        else:
            self._world.at(arrives_ms, lambda: self._arrive(frame))

    def _arrive(self, frame: bytes | None) -> None:
        if not self.gone:
            self._there.append(frame)
            self._scheduler.wake(self)

    def _end(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._scheduler.wake(self)
