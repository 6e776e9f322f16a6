"""The threads of a session: named, started together, watched by the main thread, stopped in order.

  ticks  the feed          poll   orders, fills and positions every 5 s
  clock  heartbeats        desk-n carry out what was decided

A thread that died or hangs costs entries, never protection: the others go on, and the cutoff needs none of them but the clock.
A strategy that does not come back keeps the thread that asked it. Each symbol can keep one, once (state/symbol_state.py), and
another thread takes its place; in the place of the ticks, quotes are polled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.poller import Poller
from brokers.switchboard import Switchboard
from state.clock import Clock
from state.session import Session
from state.symbol_state import SymbolState
from state.threads import OS_THREADS, Thread, Threads

PULSE_S = 0.25
STUCK_MS = 15_000  # without a sign of life
JOIN_S = 10.0
DIED = "died"


class Heart:
    """The clock thread: every quarter of a second each symbol hears that time has passed. No I/O, so nothing holds it up."""

    def __init__(
        self, states: Mapping[str, SymbolState], clock: Clock, session: Session, switchboard: Switchboard, feed: Feed | None
    ) -> None:
        self._states = states
        self._clock = clock
        self._session = session
        self._switchboard = switchboard
        self._feed = feed
        self._stop = clock.threads.event()
        self._turn: object = None  # of the thread that beats: another one may have to take its place
        self.alive_ms = clock.monotonic_ms()
        self.stale: frozenset[str] = frozenset()

    def run(self) -> None:
        mine = self._turn = object()
        while not self._stop.is_set() and self._turn is mine:
            self.beat()
            self._clock.wait(self._stop, PULSE_S)

    def watch(self) -> dict[str, str]:
        """Look after every symbol from outside. Which thread each strategy keeps that does not come back, by symbol."""
        for state in self._states.values():
            state.watch()
        return {symbol: name for symbol, state in self._states.items() if (name := state.kept) is not None}

    def beat(self) -> None:
        """One pulse."""
        self.alive_ms = mono_ms = self._clock.monotonic_ms()
        now_ms = self._clock.now_ms()
        for symbol, state in self._states.items():
            try:
                state.heartbeat(now_ms, mono_ms)
            except Exception as error:  # a defect in one symbol must not stop the clock of the others
                self._switchboard.defect(f"the heartbeat of {symbol}", error)
        if self._feed is not None:
            self._feed.check(mono_ms, self._session.trading(now_ms))

    def stop(self) -> None:
        self._stop.set()


class Crew:
    """Not thread-safe: the main thread starts, checks and stops it."""

    def __init__(
        self,
        feed: Feed | None,
        poller: Poller,
        heart: Heart,
        desk: Desk,
        outbox: Outbox,
        desks: int,
        switchboard: Switchboard,
        threads: Threads = OS_THREADS,
        orders: Feed | None = None,
    ) -> None:
        self._threads = threads
        self._bodies = {f"desk-{n}": desk.run for n in range(desks)} | {"clock": heart.run, "poll": poller.run}
        self._feed = feed
        self._poller = poller
        self._outbox = outbox
        self._switchboard = switchboard
        self._desks = [self._thread(f"desk-{n}", desk.run) for n in range(desks)]
        self._others = [self._thread("clock", heart.run), self._thread("poll", poller.run)]
        self._left: list[Thread] = []  # behind, in strategies that do not come back
        self._relieved: set[str] = set()  # symbols
        if feed is not None:
            self._others.append(self._thread("ticks", feed.run))
        self._orders = orders
        if orders is not None:
            self._others.append(self._thread("orders", orders.run))
        self._alive: dict[str, Callable[[], int]] = {"clock": lambda: heart.alive_ms, "poll": lambda: poller.alive_ms}
        if feed is not None:
            self._alive["ticks"] = lambda: feed.alive_ms
        if orders is not None:
            self._alive["orders"] = lambda: orders.alive_ms
        self._heart = heart
        self._told: set[str] = set()

    @property
    def no_ticks(self) -> bool:
        """The tick thread does not work: prices must come from elsewhere."""
        return "ticks" in self._told

    def start_desks(self) -> None:
        """First of all: recovery needs somebody to carry out what it finds."""
        for thread in self._desks:
            thread.start()

    def start(self) -> None:
        for thread in self._others:
            thread.start()

    def check(self, mono_ms: int) -> None:
        """Speak once of each thread that died or hangs, and take entries off while one does."""
        kept = self._heart.watch()
        for symbol in kept.keys() - self._relieved:
            self._relieve(kept[symbol], symbol)
        lost = {thread.name: DIED for thread in (*self._desks, *self._others) if not thread.is_alive()}
        for name, alive_ms in self._alive.items():
            if name not in lost and mono_ms - alive_ms() > STUCK_MS:
                lost[name] = f"has not moved for {(mono_ms - alive_ms()) // 1000} s"
        lost |= {name: f"is kept by the strategy of {symbol}" for symbol, name in kept.items() if name not in self._bodies}
        for name, what in lost.items():
            if name not in self._told:
                self._switchboard.alarm(f"the {name} thread {what}: no entries; the other threads go on protecting")
        if lost:
            self._switchboard.block("watchdog", f"the {', '.join(sorted(lost))} thread is not working")
        elif self._told:
            self._switchboard.unblock("watchdog")
        if lost.get("clock") == DIED:
            self._heart.beat()  # the cutoff must come: whoever looks after the threads beats in its place
        self._told = set(lost)

    def _relieve(self, name: str, symbol: str) -> None:
        """Another thread in the place of one that a strategy keeps. The ticks have none: prices are asked for instead."""
        self._relieved.add(symbol)
        if name not in self._bodies:
            self._poller.soon()
            return
        self._switchboard.alarm(f"the {name} thread is kept by the strategy of {symbol}: another one has taken its place")
        for team in (self._desks, self._others):
            for place, thread in enumerate(team):
                if thread.name == name:
                    self._left.append(thread)
                    team[place] = self._thread(name, self._bodies[name])
                    team[place].start()
        if name.startswith("desk"):
            self._outbox.done(symbol)  # what is still to be done there is for the other desks

    def threads(self) -> dict[str, str]:
        """For people: each thread and whether it lives."""
        return {thread.name: "alive" if thread.is_alive() else "dead" for thread in (*self._desks, *self._others)}

    def stop(self) -> list[str]:
        """Stop in order: no more news, then the desks finish what is decided. Returns the threads that did not end in time."""
        for feed in (self._feed, self._orders):
            if feed is not None:
                feed.stop()
        self._poller.stop()
        self._heart.stop()
        for thread in self._others:
            if thread.is_alive():
                thread.join(JOIN_S)
        self._outbox.close()
        for thread in self._desks:
            if thread.is_alive():
                thread.join(JOIN_S)
        return [thread.name for thread in (*self._others, *self._desks, *self._left) if thread.is_alive()]

    def _thread(self, name: str, body: Callable[[], None]) -> Thread:
        def run() -> None:
            try:
                body()
            except Exception as error:
                self._switchboard.defect(f"the {name} thread", error)

        return self._threads.thread(name, run)
