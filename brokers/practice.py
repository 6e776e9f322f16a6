"""Starts, finds and stops the practice venue: a real HTTP and WebSocket server on 127.0.0.1 in a process of its own.

Owns the venue's specification and its process. Light on purpose: the runner imports this, the server's libraries stay in the
server's process (practice_server.py). Trading goes through the OpenAlgo adapter, never through here.

Both sides tell the same session time: POST /practice/start fixes the anchor once and returns the numbers that the venue's own
ScaledClock is built from, so the runner has its clock before it subscribes to anything.
"""

from __future__ import annotations

import http.client
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from brokers.practice_fault_kinds import Fault
from brokers.practice_market import PracticeSymbol
from brokers.practice_truth import Strike, Truth
from brokers.tape import TapeReport
from state.clock import ScaledClock
from state.instrument import Instrument

HOST = "127.0.0.1"
_ROOT = Path(__file__).resolve().parents[1]
_ASK_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
_COMPLAINTS = 100
_Answer = TypeVar("_Answer")


class VenueError(Exception):
    """The practice venue could not be started or asked. The text is one line for people."""


class PracticeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the venue behaves. Seconds are real seconds. No rate limit where none is given."""

    product: str = "MIS"
    idle_fill_s: float = 0.5  # a market order without a tick for so long fills at the last price
    auth_timeout_s: float = 15.0
    linger_s: float = 60.0  # without a request and without a socket for so long the venue ends
    stream_queue: int = 4096  # messages a slow client may be behind before it is cut off
    orders_per_s: int | None = None  # place, modify, cancel: each
    reads_per_s: int | None = None  # every other path: each
    check_grid: bool = True
    refuse_crossed_stops: bool = False
    capital: Decimal = Decimal(10_000_000)
    leverage: Decimal = Decimal(5)
    holidays: tuple[str, ...] = ()  # YYYY-MM-DD, for market/holidays and market/timings


class PracticeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One venue. Either `symbols` (the made-up market, from open to close) or `tape` (recorded files).

    Session time is `session_start_ms` when the venue is started and then runs `speed` times as fast as life; what a tape has
    before that is left out. `anchor_ms` starts the venue by itself at that wall-clock time. `account` is new for every venue.
    """

    account: str
    api_key: str
    instruments: list[Instrument]
    session_start_ms: int
    open_ms: int
    close_ms: int
    speed: float = 1.0
    anchor_ms: int | None = None
    rest_port: int = 5000
    ws_port: int = 8765
    symbols: list[PracticeSymbol] = []
    tape: list[str] = []
    settings: PracticeSettings = PracticeSettings()
    faults: list[Fault] = []
    fault_seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.symbols) == bool(self.tape):
            raise ValueError("a practice venue needs either symbols or a tape")
        if not self.api_key or not self.account:
            raise ValueError("a practice venue needs an account and an api key")
        if self.speed <= 0:
            raise ValueError(f"speed must be above 0, not {self.speed}")
        missing = {symbol.symbol for symbol in self.symbols} - {instrument.symbol for instrument in self.instruments}
        if missing:
            raise ValueError(f"no instrument for {', '.join(sorted(missing))}")


class VenueClock(msgspec.Struct, frozen=True):
    """What the venue says of itself. `anchor_ms` None: not started yet. `finished`: every tick has been sent."""

    account: str
    session_start_ms: int
    anchor_ms: int | None
    speed: float
    finished: bool
    rest_port: int
    ws_port: int
    pid: int
    ticks: int
    skipped: int  # ticks before the start of the session, or of symbols the venue does not have
    tape: list[TapeReport] = []
    faults: dict[str, int] = {}  # how often each kind has struck
    strikes: list[Strike] = []  # the latest of them

    def scaled(self) -> ScaledClock:
        """The venue's session clock, for this process."""
        if self.anchor_ms is None:
            raise VenueError("the practice venue has not been started")
        return ScaledClock(self.session_start_ms, self.anchor_ms, self.speed)


class Ready(msgspec.Struct, frozen=True):
    """The line the server prints when both of its ports listen."""

    rest_port: int
    ws_port: int
    account: str
    pid: int


class PracticeVenue:
    """A running venue. Thread-safe but for `stop`. Methods raise VenueError when the venue does not answer."""

    def __init__(self, ready: Ready, api_key: str, child: _Child | None) -> None:
        self.rest_url = f"http://{HOST}:{ready.rest_port}"
        self.ws_url = f"ws://{HOST}:{ready.ws_port}"
        self.account = ready.account
        self.pid = ready.pid
        self._port = ready.rest_port
        self._api_key = api_key
        self._child = child

    def start(self, delay_ms: int = 0) -> VenueClock:
        """Start the market `delay_ms` real milliseconds from now; a venue already started keeps its time."""
        return self._ask("start", delay_ms=delay_ms)

    def clock(self) -> VenueClock:
        return self._ask("clock")

    def stop(self) -> None:
        """End the venue and wait until it is gone. One that is gone already is fine."""
        with suppress(VenueError):  # gone already, or too stuck to answer: ended below where it is our child
            self._ask("stop")
        if self._child is not None:
            self._child.end(_STOP_TIMEOUT_S)

    def faults(self) -> list[Strike]:
        """Every fault that has struck, oldest first."""
        return _post(self._port, self._api_key, "faults", {}, list[Strike])

    def truth(self) -> Truth:
        """What really happened at the venue, whatever it answered."""
        return _post(self._port, self._api_key, "truth", {}, Truth)

    def complaints(self) -> list[str]:
        """The last lines the venue has written to its error output; none for a venue we did not start."""
        return [] if self._child is None else list(self._child.complaints)

    def _ask(self, what: str, **fields: int) -> VenueClock:
        return _post(self._port, self._api_key, what, fields, VenueClock)


def start_venue(spec: PracticeSpec, ready_timeout_s: float = 15.0) -> PracticeVenue:
    """Start a venue process and wait until both its ports listen. VenueError carries the venue's own words if it cannot."""
    spec = msgspec.structs.replace(spec, tape=[str(Path(path).resolve()) for path in spec.tape])
    child = _Child(msgspec.json.encode(spec))
    try:
        ready = msgspec.json.decode(child.lines.get(timeout=ready_timeout_s), type=Ready)
    except queue.Empty:
        child.end(0)
        raise VenueError(f"the practice venue was not ready within {ready_timeout_s:g} s") from None
    except msgspec.DecodeError:
        code = child.end(_STOP_TIMEOUT_S)
        raise VenueError("; ".join(child.complaints) or f"the practice venue ended with code {code}") from None
    return PracticeVenue(ready, spec.api_key, child)


def attach_venue(rest_url: str, api_key: str) -> PracticeVenue | None:
    """The venue that already listens there and knows this key, left by a runner that was killed; None if there is none."""
    port = urlsplit(rest_url).port
    if port is None:
        return None
    try:
        clock = _post(port, api_key, "clock", {}, VenueClock)
    except VenueError:
        return None
    return PracticeVenue(Ready(clock.rest_port, clock.ws_port, clock.account, clock.pid), api_key, None)


class _Child:
    """The server's process. `lines` gets its first line, empty if it ended without one; `complaints` its last error lines."""

    def __init__(self, spec: bytes) -> None:
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.complaints: deque[str] = deque(maxlen=_COMPLAINTS)
        self._process = _spawn()
        threading.Thread(target=self._hand_over, args=(spec,), name="venue-start", daemon=True).start()
        self._listener = threading.Thread(target=self._listen, name="venue-errors", daemon=True)
        self._listener.start()

    def end(self, patience_s: float) -> int:
        """Wait so long for it to end by itself, then make it; its exit code."""
        for insist in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                insist()
                patience_s = _STOP_TIMEOUT_S
        self._listener.join(_STOP_TIMEOUT_S)
        return self._process.wait(_STOP_TIMEOUT_S)

    def _hand_over(self, spec: bytes) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            with self._process.stdin as stdin:
                stdin.write(spec)
        except OSError:
            pass  # it ended before it had read its specification: the empty line below says so
        with self._process.stdout as stdout:
            self.lines.put(stdout.readline())

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self.complaints.append(line.decode("utf-8", "replace").rstrip())


def _spawn() -> subprocess.Popen[bytes]:
    """The server in a session of its own: a Ctrl+C in the terminal must not end it before the runner is flat."""
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH")) if part)
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        [sys.executable, "-m", "brokers.practice_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def _post(port: int, api_key: str, what: str, fields: dict[str, int], type: type[_Answer]) -> _Answer:
    """One POST to /practice/… . Not through a session, a proxy or a redirect: it is this machine's own venue."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_ASK_TIMEOUT_S)
    try:
        body = msgspec.json.encode({"apikey": api_key, **fields})
        connection.request("POST", f"/practice/{what}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise VenueError(f"the practice venue answered {answer.status}")
        return msgspec.json.decode(text, type=type)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise VenueError(f"the practice venue on port {port} gave no answer: {error}") from error
    finally:
        connection.close()
