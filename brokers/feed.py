"""The tick thread: one stream connection kept alive, its ticks handed to the tick path, its order updates to the listener.

Owns the connection: when to make it, whether it is alive, what has been subscribed. Never calls a broker and never decides on a
price. A tick is handled on the thread that reads it; there is no queue.

Entries of a symbol are off from the start and after each lost connection until a tick on time arrives; while it is stale or
not subscribed; and for good once its sink has raised several times in a row. After each connect ticks are held: remembered,
not delivered, until `release` says that orders, fills and positions have been read, because nothing missed is replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NoReturn

from brokers.backoff import Backoff
from brokers.base import FillRow, OrderRow
from brokers.channel import NEVER_MS, Cause, FeedListener, Limits, Sink, Subscriptions, names
from brokers.dialect import (
    Dialect,
    Gap,
    Incomplete,
    LoggedIn,
    LoginRefused,
    Message,
    Noise,
    OrdersSubscribed,
    OrdersUnsupported,
    Several,
    Snapshot,
    Subscribed,
    Tick,
    Trouble,
    VenueOpen,
)
from brokers.tick_path import TickPath
from brokers.wire import Wire, WireClosed
from state.clock import Clock

WireMaker = Callable[[Clock, Callable[[], bool], Callable[[], None], float], Wire]
NO_TICK_YET = "no tick yet"  # why entries are off before the first one


class _Connection:
    """What is known of one connection. Only the tick thread writes here, except that the checking thread sets `login_again`."""

    def __init__(self, wire: Wire, subscriptions: Subscriptions, seen: int, now_ms: int) -> None:
        self.wire = wire
        self.subscriptions = subscriptions
        self.up_ms = now_ms
        self.heard_ms = now_ms  # when the last bytes came
        self.pinged_ms = -1
        self.turn_due_ms = now_ms
        self.logged_in = False
        self.orders_due_ms = 0
        self.ready_ms: int | None = None  # when the listener was told
        self.first_seen = seen
        self.login_again: str | None = None


class Feed:
    """`run` is the body of the thread "ticks". Every other public method may be called by any thread and returns at once.

    `sinks` get (price, session ms) of each tick that is good, on time and not held. `references` are the last known prices of
    before, `bands` the day's price bands, both for the price gates. `wire` makes each connection.
    """

    def __init__(
        self,
        dialect: Dialect,
        sinks: Mapping[str, Sink],
        listener: FeedListener,
        clock: Clock,
        limits: Limits | None = None,
        references: Mapping[str, Decimal] | None = None,
        bands: Mapping[str, tuple[Decimal, Decimal]] | None = None,
        wire: WireMaker = Wire,
    ) -> None:
        self._dialect = dialect
        self._listener = listener
        self._clock = clock
        self._limits = limits or Limits()
        self._new_wire = wire
        self._path = TickPath(sinks, listener, clock, self._limits, references or {}, bands or {})
        self._meaning, self._tick = dialect.receive, self._path.tick
        self._backoff = Backoff(clock.threads.chance)
        self._stopping = clock.threads.event()
        self._hold_lock = clock.threads.lock()  # guards the number of the connection together with the path's `holding`
        self._number = 0
        self._connection: _Connection | None = None
        self._readied = 0
        self._silent_logins = 0  # this and the next three are the checking thread's
        self._open = True  # for all we know, since before we came
        self._opened_ms = NEVER_MS
        self._opened_seen = 0  # ticks before the open say nothing about the session's
        self._meanings: dict[type, Callable[[Any], object]] = {
            Tick: self._path.tick,
            Several: self._several,
            Snapshot: self._path.snapshot,
            OrderRow: listener.order_update,
            FillRow: listener.fill,
            Incomplete: self._incomplete,
            Noise: lambda noise: self._path.count(f"noise: {noise.reason}"),
            LoggedIn: self._logged_in,
            LoginRefused: self._login_refused,
            Subscribed: lambda answer: self._present().subscriptions.answered(answer),
            OrdersSubscribed: self._ready,
            OrdersUnsupported: self._orders_unsupported,
            Trouble: self._trouble,
            VenueOpen: lambda venue: listener.venue_open(venue.why_not),
            Gap: self._gap,
        }

    # For other threads

    @property
    def alive_ms(self) -> int:
        """Monotonic time of the thread's last sign of life, at most 5 s old unless a sink or a name lookup blocks (CON-13)."""
        return self._path.now_mono_ms

    @property
    def connection(self) -> int:
        """Number of the present connection: read it before asking the broker, and give it to `release` afterwards."""
        with self._hold_lock:
            return self._number

    def release(self, connection: int | None = None) -> None:
        """Orders, fills and positions have been read since `connection` was made: ticks may be delivered (FEE-03)."""
        with self._hold_lock:
            if connection is None or connection == self._number:
                self._path.holding = False

    def stop(self) -> None:
        """Ends `run` within about a second, whatever it is doing."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.wire.abort()

    def last(self, symbol: str) -> tuple[Decimal, int, int] | None:
        """Price, its session time, and how many milliseconds ago it came; None before the first one."""
        return self._path.last(symbol)

    def refer(self, symbol: str, price: Decimal) -> None:
        """A last known price to judge the first tick by (FEE-06); before `run`."""
        self._path.channels[symbol].refer(price)

    def quoted(self, symbol: str, price: Decimal) -> None:
        """A price from another source, which confirms a jump that is near it (FEE-06)."""
        self._path.quoted(symbol, price)

    def counts(self) -> dict[str, int]:
        """`ticks` are good and on time; `held` of them were not delivered; `late` and "refused: why" come on top, as do
        "noise: why" (not a tick we can use), `faults` and `reconnects`."""
        return self._path.counts() | {"reconnects": max(0, self._readied - 1)}

    def check(self, now_mono_ms: int, market_open: bool) -> list[str]:
        """Looks for silence; to be called every few seconds by one other thread. Returns the symbols that have just gone stale.

        A stale symbol has its entries off until its next tick; the alarm is given once per symbol and connection. Nothing
        happens in a closed market. A connection without any tick since the open is made anew, a few times (FEE-10)."""
        if market_open and not self._open:
            self._opened_ms, self._opened_seen = now_mono_ms, self._path.seen()
        self._open = market_open
        connection = self._connection
        if not market_open or connection is None or connection.ready_ms is None:
            return []
        base_ms = max(self._opened_ms, connection.ready_ms)
        if self._path.seen() > max(self._opened_seen, connection.first_seen):
            self._silent_logins = 0
        elif now_mono_ms - base_ms >= self._limits.first_tick_ms:
            self._log_in_again(connection)
        return self._path.newly_stale(base_ms, now_mono_ms)

    def _log_in_again(self, connection: _Connection) -> None:
        if connection.login_again is None and self._silent_logins < self._limits.silent_logins:
            self._silent_logins += 1
            reason = f"connected and subscribed, but no tick in {self._limits.first_tick_ms // 1000} s of open market"
            self._listener.alarm(f"feed: {reason}; logging in again (has the broker's own session expired?)")
            connection.login_again = reason

    # The thread

    def run(self) -> None:
        """Connects, reads, and connects again until `stop`."""
        self._path.down(NO_TICK_YET)
        while not self._stopping.is_set():
            self._backoff.attempted(self._clock.monotonic_ms())
            reason = self._connect_and_read()
            if not self._stopping.is_set():
                self._down(reason)
                self._pause(self._backoff.next_wait_ms(self._clock.monotonic_ms()))

    def _connect_and_read(self) -> str:
        """One connection from beginning to end; returns why it ended."""
        connection = self._next_connection()
        try:
            connection.wire.open(self._dialect.url)
            connection.up_ms = connection.heard_ms = self._clock.monotonic_ms()
            for frame in self._dialect.hello():
                connection.wire.send(frame)
            if not self._dialect.needs_login:
                self._logged_in()
            self._read(connection)
        except WireClosed as closed:
            return str(closed)
        finally:
            connection.wire.close()

    def _next_connection(self) -> _Connection:
        with self._hold_lock:
            self._number += 1
            self._path.holding = True
        limits = self._limits
        wire = self._new_wire(self._clock, self._going, self._bytes_came, limits.turn_ms / 1000)
        subscriptions = Subscriptions(self._path.channels, limits.ack_ms, limits.ack_tries)
        self._connection = _Connection(wire, subscriptions, self._path.seen(), self._clock.monotonic_ms())
        return self._connection

    def _read(self, connection: _Connection) -> NoReturn:
        """The hot loop. `stop` ends it through `receive`, which then finds the connection closed."""
        receive, path = connection.wire.receive, self._path
        while True:
            frame = receive()
            if frame is not None:
                self.frame(frame)
            if frame is None or path.now_mono_ms >= connection.turn_due_ms:
                self._turn(connection)

    def frame(self, frame: bytes) -> None:
        """One received frame. Nearly all are ticks."""
        message = self._meaning(frame)
        if type(message) is Tick:
            self._tick(message)
        else:
            self._take(message)

    # Everything that is not a tick

    def _take(self, message: Message) -> None:
        try:
            self._meanings[type(message)](message)
        except WireClosed:
            raise
        except Exception as error:  # a defect behind one message must not end the thread; polling repairs what was lost
            self._path.count("faults")
            self._listener.alarm(f"feed: {type(message).__name__} could not be handled: {type(error).__name__}: {error}")

    def _several(self, several: Several) -> None:
        for message in several.messages:
            self._take(message)

    def _incomplete(self, news: Incomplete) -> None:
        """Refused and counted; the books tell what it was about."""
        self._path.count("refused order updates")
        self._path.say_once(f"feed: {news.reason}")
        self._listener.order_unclear()

    def _gap(self, gap: Gap) -> NoReturn:
        self._path.count("gaps")
        raise WireClosed(gap.reason)

    def _trouble(self, trouble: Trouble) -> None:
        self._path.count("trouble")
        self._path.say_once(f"feed: {trouble.reason}")

    def _login_refused(self, refused: LoginRefused) -> None:
        self._path.say_once(f"feed: login refused: {refused.reason}")
        raise WireClosed(f"login refused: {refused.reason}")

    def _logged_in(self, _: LoggedIn | None = None) -> None:
        connection = self._present()
        if connection.logged_in:
            return
        connection.logged_in = True
        self._subscribe(connection, list(self._path.channels))
        orders = self._dialect.subscribe_orders()
        for frame in orders:
            connection.wire.send(frame)
        connection.orders_due_ms = self._clock.monotonic_ms() + self._limits.ack_ms
        if not orders:
            self._ready()

    def _subscribe(self, connection: _Connection, symbols: list[str]) -> None:
        for frame in self._dialect.subscribe(symbols):
            connection.wire.send(frame)
        connection.subscriptions.asked(self._clock.monotonic_ms())

    def _orders_unsupported(self, unsupported: OrdersUnsupported) -> None:
        if self._present().ready_ms is None:
            self._path.say_once(f"feed: no order updates ({unsupported.reason}): orders are known from polling only")
        self._ready()

    def _ready(self, _: OrdersSubscribed | None = None) -> None:
        connection = self._present()
        if connection.ready_ms is None:
            self._readied += 1
            connection.ready_ms = self._clock.monotonic_ms()
            self._listener.connected()

    # Every half second

    def _turn(self, connection: _Connection) -> None:
        self._path.stamp()
        now_ms, limits = self._path.now_mono_ms, self._limits
        connection.turn_due_ms = now_ms + limits.turn_ms
        if self._stopping.is_set():
            raise WireClosed("stopped")
        if connection.login_again is not None:
            raise WireClosed(connection.login_again)
        if not connection.logged_in:
            if now_ms - connection.up_ms >= limits.login_ms:
                raise WireClosed(f"no answer to the login in {limits.login_ms} ms")
        elif connection.ready_ms is None and now_ms >= connection.orders_due_ms:
            self._take(OrdersUnsupported("no answer"))
        if connection.subscriptions.overdue(now_ms):
            self._subscribe_again(connection)
        self._keep_alive(connection, now_ms)

    def _subscribe_again(self, connection: _Connection) -> None:
        """Names what the venue has not confirmed and asks again. A tick proves a subscription as well as an answer does."""
        subscriptions, channels = connection.subscriptions, self._path.channels
        heard = tuple(symbol for symbol in subscriptions.waiting if channels[symbol].heard_ms >= connection.up_ms)
        subscriptions.answered(Subscribed(heard, {}))
        missing = dict(subscriptions.waiting)
        for symbol, reason in missing.items():
            self._path.entries.off(channels[symbol], Cause.UNSUBSCRIBED, f"not subscribed: {reason}")
        if missing and (subscriptions.first_time or subscriptions.last_time):
            words = "given up on" if subscriptions.last_time else "asking again for"
            self._listener.alarm(f"feed: not subscribed, {words}: {names(f'{s} ({why})' for s, why in missing.items())}")
        if subscriptions.last_time:
            subscriptions.give_up()
        elif missing:
            self._subscribe(connection, list(missing))

    def _keep_alive(self, connection: _Connection, now_ms: int) -> None:
        """A path that died without a close is found within ping_ms + pong_ms, less than two ping intervals (FEE-02)."""
        silent_ms = now_ms - connection.heard_ms
        if silent_ms >= self._limits.ping_ms + self._limits.pong_ms:
            raise WireClosed(f"nothing heard for {silent_ms // 1000} s, not even an answer to a ping")
        if silent_ms >= self._limits.ping_ms and connection.pinged_ms <= connection.heard_ms:
            connection.pinged_ms = now_ms
            connection.wire.ping()

    # Between connections

    def _down(self, reason: str) -> None:
        connection = self._present()
        self._connection = None
        had_ticks = not self._path.channels or self._path.seen() > connection.first_seen  # a stream of orders has none
        ready_ms, now_ms = connection.ready_ms, self._clock.monotonic_ms()
        if had_ticks and ready_ms is not None and now_ms - ready_ms >= self._limits.stable_ms:
            self._backoff.reset()
            self._path.say_afresh()
        self._path.down(f"feed down: {reason}")
        self._listener.disconnected(reason)

    def _pause(self, wait_ms: int) -> None:
        until_ms = self._clock.monotonic_ms() + wait_ms
        while self._going() and (left_ms := until_ms - self._path.now_mono_ms) > 0:
            self._clock.wait(self._stopping, min(left_ms, 1000) / 1000)

    def _going(self) -> bool:
        self._path.stamp()
        return not self._stopping.is_set()

    def _bytes_came(self) -> None:
        self._path.stamp()
        connection = self._connection
        if connection is not None:
            connection.heard_ms = self._path.now_mono_ms

    def _present(self) -> _Connection:
        assert self._connection is not None, "only called on the tick thread, during a connection"
        return self._connection
