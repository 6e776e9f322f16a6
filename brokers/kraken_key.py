"""One API key: its signature, its nonce, and whose turn it is to use it (venue sheet, sections 3 and 10).

Owns the rule that at most one private call is under way: from the making of its nonce to its answer nobody else uses the key, so
nonces arrive in order. Exits go before polls. Owns the venue's two counters as we reckon them; stays below both. Nothing of
the key is in any text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode

from brokers.base import Fatal, Paced, Unavailable
from brokers.rate_limit import Lane
from state.clock import Clock
from state.threads import Event

# The counter of a Starter key, the smallest there is: at most 15, less by 0.33 in a second. In millionths of a point.
POINT = 1_000_000
LESS_PER_MS = 330
MOST = {Lane.URGENT: 14 * POINT, Lane.NORMAL: 11 * POINT}
LOOKS_UP_TO = 9 * POINT  # looks beside the regular ones: what is left is for exits and proofs
LOCKED_OUT_MS = 120_000  # every attempt before makes it longer
NONCES_REFUSED = 2  # in a row: another process uses the key
LONGEST_THROTTLE_MS = 60_000
# The engine's counter of one pair: at most 60, less by 1 in a second. Entries leave room for the exit that they may need.
ENGINE_ROOM = 40


def sign(secret: bytes, path: str, nonce: str, body: bytes) -> str:
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(hmac.new(secret, path.encode() + digest, hashlib.sha512).digest()).decode()


class Key:
    """Thread-safe."""

    def __init__(self, public: str, secret: str, clock: Clock) -> None:
        try:
            self._secret = base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the secret of the Kraken key is not base64: copy it once more") from None
        self._public = public
        self._clock = clock
        self._lock = clock.threads.lock()  # guards everything below; never held while anything waits or is sent
        self._queues: dict[Lane, deque[Event]] = {lane: deque() for lane in Lane}
        self._busy = False
        self._level, self._level_ms = 0, clock.monotonic_ms()
        self._nonce = 0
        self._nonces_refused = 0
        self._quiet_until_ms = 0
        self._locked_until_ms = 0

    @property
    def there(self) -> bool:
        return bool(self._public)

    @contextmanager
    def turn(self, lane: Lane, cost: int, patience_s: float) -> Iterator[None]:
        """The key is ours until the end of the block. `cost`: what the venue's counter takes for it."""
        if not self._wait(lane, cost * POINT, patience_s):
            raise Paced(f"nothing was sent, no turn within {patience_s:.1f} s under the venue's limits")
        try:
            self._why_silent()
            yield
        finally:
            with self._lock:
                self._busy = False
                self._wake()

    def signed(self, path: str, fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the next request; only within a turn."""
        with self._lock:
            self._nonce = max(self._clock.now_ms() * 1_000_000, self._nonce + 1)
            nonce = str(self._nonce)
        body = urlencode({"nonce": nonce, **fields}, safe=":,").encode()
        headers = {
            "API-Key": self._public,
            "API-Sign": sign(self._secret, path, nonce, body),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return body, headers

    def safe(self, text: str) -> str:
        """What the venue says, without the key it may have sent back."""
        return text.replace(self._public, "[key]") if self._public else text

    def affords(self, cost: int, up_to: int = LOOKS_UP_TO) -> bool:
        with self._lock:
            return self._level_now() + cost * POINT <= up_to

    def nonce_accepted(self) -> None:
        with self._lock:
            self._nonces_refused = 0

    def nonce_refused(self) -> bool:
        """True when it was not the first time in a row."""
        with self._lock:
            self._nonces_refused += 1
            return self._nonces_refused >= NONCES_REFUSED

    def too_fast(self, until_ms: int | None = None) -> None:
        """The venue counts otherwise: its counter is full. `until_ms`: monotonic, how long it wants to hear nothing."""
        with self._lock:
            self._level, self._level_ms = MOST[Lane.URGENT], self._clock.monotonic_ms()
            if until_ms is not None:
                self._quiet_until_ms = min(until_ms, self._level_ms + LONGEST_THROTTLE_MS)

    def locked_out(self) -> None:
        with self._lock:
            self._locked_until_ms = self._clock.monotonic_ms() + LOCKED_OUT_MS

    def _why_silent(self) -> None:
        with self._lock:
            now_ms, quiet_ms, locked_ms = self._clock.monotonic_ms(), self._quiet_until_ms, self._locked_until_ms
        if now_ms < locked_ms:
            raise Fatal(f"nothing was sent: the venue has locked the key out, next try in {(locked_ms - now_ms) // 1000} s")
        if now_ms < quiet_ms:
            left_s = (quiet_ms - now_ms) / 1000
            raise Unavailable(f"nothing was sent: the venue asked for quiet, {left_s:.0f} s more", left_s)

    def _wait(self, lane: Lane, cost: int, patience_s: float) -> bool:
        turn = self._clock.threads.event()
        with self._lock:
            self._queues[lane].append(turn)
        until_ms = self._clock.monotonic_ms() + int(patience_s * 1000)
        try:
            while (wait_ms := self._try(lane, turn, cost, until_ms)) > 0:
                self._clock.wait(turn, (wait_ms + 0.5) / 1000)
            return wait_ms == 0
        finally:
            with self._lock:
                self._queues[lane].remove(turn)
                self._wake()

    def _try(self, lane: Lane, turn: Event, cost: int, until_ms: int) -> int:
        """0: ours. Above 0: milliseconds to wait before asking again. Below 0: out of time."""
        with self._lock:
            turn.clear()
            left_ms = until_ms - self._clock.monotonic_ms()
            first = self._queues[lane][0] is turn and not (lane is Lane.NORMAL and self._queues[Lane.URGENT])
            excess = self._level_now() + cost - MOST[lane] if cost else 0
            if first and not self._busy and excess <= 0:
                self._busy = True
                self._level += cost
                return 0
            if left_ms <= 0:
                return -1
            return min(left_ms, -(-excess // LESS_PER_MS)) if first and not self._busy else left_ms

    def _level_now(self) -> int:
        now_ms = self._clock.monotonic_ms()
        self._level = max(0, self._level - (now_ms - self._level_ms) * LESS_PER_MS)
        self._level_ms = now_ms
        return self._level

    def _wake(self) -> None:
        for queue in self._queues.values():
            if queue:
                queue[0].set()


class Engine:
    """The engine's counter of each pair as we reckon it. Holds back entries only: what ends risk always goes. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = clock.threads.lock()  # guards the two below
        self._levels: dict[str, tuple[int, int]] = {}  # pair -> level in thousandths, when
        self._amended: dict[str, int] = {}

    def count(self, pair: str, points: int) -> None:
        with self._lock:
            self._levels[pair] = (self._level(pair) + points * 1000, self._clock.monotonic_ms())

    def full(self, pair: str) -> bool:
        with self._lock:
            return self._level(pair) >= ENGINE_ROOM * 1000

    def may_amend(self, pair: str, gap_ms: int) -> int:
        """0, and this one counts; else the milliseconds until one may be sent."""
        with self._lock:
            now_ms, last_ms = self._clock.monotonic_ms(), self._amended.get(pair)
            if last_ms is not None and now_ms - last_ms < gap_ms:
                return last_ms + gap_ms - now_ms
            self._amended[pair] = now_ms
            return 0

    def _level(self, pair: str) -> int:
        level, since_ms = self._levels.get(pair, (0, 0))
        return max(0, level - (self._clock.monotonic_ms() - since_ms))
