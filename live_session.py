"""One trading session: built from a config and an account, recovered, traded, ended. The pieces are in `brokers/`.

Used by the main thread only; every other thread belongs to the crew. Decides nothing about orders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from brokers.base import Broker, BrokerError, Fatal, FillRow, Refused, Resolver
from brokers.channel import Limits
from brokers.crew import Crew, Heart
from brokers.desk import Desk, Outbox
from brokers.feed import Feed
from brokers.paper import Paper
from brokers.poller import Poller
from brokers.reports import Reports
from brokers.streams import Streams
from brokers.switchboard import OrderNews, Switchboard, Voice
from ops import ending, story
from ops.config import Config, Mode
from ops.facts import LivePrice, LiveStatus
from ops.operator import Operator
from ops.options import Failure
from ops.plan import Planned, edited_while_held, guard_rules, make_rules, plan_day
from ops.requests import StopFlag, StopKind, StopRequest, SyncAnswer
from ops.words import Line
from state.clock import Clock
from state.events import EntriesOff, FlattenAsked, Restarted
from state.instrument import Instrument
from state.journal import Journal, JournalError, Resumed
from state.risk import RiskBudget
from state.rules import STOPPING, Able, Rules
from state.session import Calendar, Session, hours_differ
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work
from strategies import STRATEGIES

T = TypeVar("T")
WATCH_S = 0.5
START_TRIES = 6
SAY_ALIVE_MS = 60_000
STOP_PATIENCE_MS = 10_000
FLATTEN_PATIENCE_MS = 60_000
LAST_LOOKS = 3
CLOSE_PATIENCE_MS = 30_000  # after the close with something still open, in session time ...
CLOSE_PATIENCE_REAL_MS = 5_000  # ... and at least this long in life
RECOVERY_TRIES_S = (0.2, 0.5, 1, 2, 5)
DESKS = 4


class SessionLog(Voice, Protocol):
    """The log as a session needs it; never waits."""

    def story(self, work: Work, lines: Iterable[Line]) -> None: ...


class SessionRun:
    """One session of one account: built, recovered, traded, ended. Used by the main thread only."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        streams: Streams,
        clock: Clock,
        calendar: Calendar,
        session: Session,
        journal: Journal,
        resumed: Resumed,
        log: SessionLog,
        stop_flag: StopFlag,
        operator: Operator,
        wall: Clock,
    ) -> None:
        self._operator, self._wall = operator, wall
        self.config, self._broker, self._clock, self.session = config, broker, clock, session
        self._journal, self._log, self._stop_flag = journal, log, stop_flag
        self._unwatched = 0  # symbols with something open that the venue does not know any more
        self.planned = plan_day(config, calendar, session.day)
        instruments = self._instruments(resumed.snapshots)
        self._paper = Paper(instruments, clock, config.paper.fee_rate) if config.mode is Mode.PAPER else None
        self._broker = self._paper or broker
        outbox = Outbox(clock.threads)
        self._outbox = outbox
        midnight_ms = calendar.midnight_ms(session.day)
        self.states = {
            symbol: SymbolState(
                resumed.snapshots.get(symbol, Snapshot(symbol)),
                self._rules(symbol, instrument),
                outbox,
                clock,
                bar_origin_ms=midnight_ms,
                on_defect=self._defect,
            )
            for symbol, instrument in instruments.items()
        }
        window_s = self._broker.capabilities.settle_window_s
        by_id, balances = isinstance(self._broker, Resolver), self._broker.capabilities.balances
        self._reports = Reports(self.states, clock, window_s, by_id, balances, resumed.known)
        self.switchboard = Switchboard(self.states, clock, log, lambda work: log.story(work, story.lines(work)), self._reports)
        risk = config.risk
        self.risk = RiskBudget(self.states, risk.max_open_positions, risk.signal_slots, risk.max_daily_loss, clock.threads)
        desk = self._desk = Desk(
            self._broker,
            journal,
            self.states,
            outbox,
            self._reports,
            clock,
            self.switchboard,
            self.risk.deny,
            tell=self.switchboard.alarm,
        )
        limits = Limits(
            age_ms=config.feed.max_age_ms, jump=config.feed.max_jump, ping_ms=streams.ping_ms, pong_ms=streams.pong_ms
        )
        self.feed = Feed(streams.prices, self._sinks(), self.switchboard, clock, limits, wire=streams.prices_wire)
        self._order_feed = self._orders(streams, limits)
        heart = Heart(self.states, clock, session, self.switchboard, self.feed)
        interval_s = max(config.polling.interval_ms / 1000 / clock.speed, 0.25)
        self.poller = Poller(
            self._broker, self.states, self._reports, clock, self.switchboard, interval_s, lambda: self._without_ticks()
        )
        self.switchboard.feed, self.switchboard.poller = self.feed, self.poller
        desks = min(DESKS, len(self.states) + 1)
        self._crew = Crew(self.feed, self.poller, heart, desk, outbox, desks, self.switchboard, clock.threads, self._order_feed)

    # -- building --------------------------------------------------------------------------------------------------------

    def _instruments(self, left_behind: Mapping[str, Snapshot]) -> dict[str, Instrument]:
        """The grid of every symbol that may trade today or that an interrupted session holds, from the venue."""
        wanted = {row.symbol for row in self.planned if row.why_not is None}
        open_still = {symbol for symbol, snapshot in left_behind.items() if not ending.settled(snapshot)}
        wanted |= open_still
        found: dict[str, Instrument] = {}
        for symbol in sorted(wanted):
            try:
                ask = partial(self._broker.instrument, symbol)
                found[symbol] = until_answered(ask, self._clock, self._log, self._stop_flag, bool(open_still))
            except Refused as error:
                self._log.warning(f"{symbol}: the venue does not know it: {error}")
                self.planned = [_without(row, symbol, f"unknown to the venue: {error}") for row in self.planned]
                if symbol in open_still:
                    self._unwatched += 1
                    self._log.alarm(f"{symbol}: left open by an interrupted session, and nothing can be done about it from here")
        return found

    def _rules(self, symbol: str, instrument: Instrument) -> Rules:
        can = self._broker.capabilities
        able = Able(can.replace, can.native_stops, int(can.settle_window_s * 1000))
        for row in self.planned:
            if row.symbol == symbol and row.why_not is None:
                try:
                    return make_rules(self.config, row, instrument, self.session, STRATEGIES, able=able)
                except Exception as error:  # somebody's strategy: it may raise anything
                    return self._without_strategy(symbol, instrument, able, f"{type(error).__name__}: {error}")
        self._log.warning(f"{symbol}: left by an interrupted session, not for today: protected, closed at the cutoff")
        return guard_rules(self.config, symbol, instrument, self.session, able)

    def _without_strategy(self, symbol: str, instrument: Instrument, able: Able, error: str) -> Rules:
        """Not traded; what an interrupted session holds of it stays protected."""
        self._log.alarm(f"{symbol}: its strategy cannot be made: {error}")
        self.planned = [_without(row, symbol, f"its strategy cannot be made: {error}") for row in self.planned]
        return guard_rules(self.config, symbol, instrument, self.session, able)

    def _orders(self, streams: Streams, limits: Limits) -> Feed | None:
        """The second connection, of venues whose order updates do not come with the prices."""
        if streams.orders is None or self._paper is not None:
            return None
        return Feed(streams.orders, {}, OrderNews(self.switchboard), self._clock, limits, wire=streams.orders_wire)

    def _sinks(self) -> dict[str, Callable[[Decimal, int], object]]:
        if self._paper is None:
            return {symbol: state.tick for symbol, state in self.states.items()}
        return {symbol: self._paper_sink(symbol) for symbol in self.states}

    def _paper_sink(self, symbol: str) -> Callable[[Decimal, int], object]:
        """Paper: the engine sees each live price first, then the symbol, then what the engine made of it."""
        paper, state = self._paper, self.states[symbol]
        assert paper is not None

        def sink(price: Decimal, at_ms: int) -> None:
            rows = paper.tick(symbol, price, at_ms)
            state.tick(price, at_ms)
            for row in rows:
                if isinstance(row, FillRow):
                    self._reports.fill(row, "stream")
                else:
                    self._reports.order_update(row, self._clock.monotonic_ms(), "stream")

        return sink

    def _without_ticks(self) -> list[str]:
        """Symbols whose price the poller must ask for: nothing heard of them for the age limit."""
        if self._crew.no_ticks:
            return list(self.states)
        limit_ms = self.config.feed.max_age_ms
        return [symbol for symbol in self.states if (last := self.feed.last(symbol)) is None or last[2] > limit_ms]

    def _defect(self, symbol: str, error: Exception) -> None:
        self.switchboard.defect(f"a decision on {symbol}", error)

    # -- the session -----------------------------------------------------------------------------------------------------

    def something_to_do(self) -> bool:
        """Say what is not traded and why. False when no setup is good for today and nothing was left open."""
        for row in self.planned:
            if row.why_not is not None:
                self._log.warning(f"{row.symbol} is not traded today: {row.why_not}")
            elif (state := self.states.get(row.symbol)) and (edited := edited_while_held(self.config, row, state.snapshot)):
                self._log.warning(edited)
        if not self.states:
            self._log.info("nothing to trade today")
        elif self._clock.now_ms() >= self.session.cutoff_ms:
            self._log.info("the cutoff has passed: no entries today")
        return bool(self.states)

    def recover(self, resumed: Resumed) -> bool:
        """Nothing is believed until the venue has been asked; then protect, then trade. False when stopped meanwhile."""
        self.switchboard.block("recovery", "recovering")
        self._publish("recovering")  # from now on `stop` and `status` find us
        if resumed.was is not None:
            self._log.info(f"this session was begun before ({resumed.was}): asking the venue about everything it left")
            for state in self.states.values():
                state.apply(Restarted(mono_ms=self._clock.monotonic_ms(), now_ms=self._clock.now_ms()))
            self.switchboard.block("recovery", "recovering")
        self._crew.start_desks()
        tries = 0
        while not self.poller.sweep(source="recovery" if resumed.was is not None else "poll"):
            tries += 1
            self._publish("recovering")
            if (request := self._asked_to_stop(_try_s(tries))) is not None:
                self._crew.start()  # somebody must hear what becomes of what is left; entries stay off
                self._stop(request)
                return False
        self._compare_hours()
        self._refer_prices()
        if not self._broker.capabilities.order_stream:
            self._log.info("the venue tells nothing of orders by itself: polling takes them over, about a second late")
        self.switchboard.unblock("recovery")
        self._crew.start()
        return True

    def _refer_prices(self) -> None:
        """The venue's last prices, so that the first tick is judged like any other: it may be the wild one."""
        try:
            quotes = self._broker.quotes(list(self.states))
        except BrokerError as error:
            self._log.warning(f"no last prices, so the first tick of each symbol will be believed: {error}")
            return
        for symbol, price in quotes.items():
            if symbol in self.states:
                self.feed.refer(symbol, price)

    def _compare_hours(self) -> None:
        try:
            hours = self._broker.session_hours(self.session.day)
        except BrokerError as error:
            self._log.warning(f"the venue's hours could not be read: {error}")
            return
        if hours is not None and (differ := hours_differ(self.session, hours.open_ms, hours.close_ms)):
            self.switchboard.alarm(f"{differ}: no entries today")
            self.switchboard.block("hours", "our session hours and the venue's differ")

    def trade(self) -> None:
        """Watch until everything is done, the session has ended, or somebody asks to stop."""
        began_ms, said_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        while not self._over(began_ms):
            if (request := self._asked_to_stop(WATCH_S)) is not None:
                self._stop(request)
                return
            mono_ms = self._clock.monotonic_ms()
            self._crew.check(mono_ms)
            self._desk.write_the_rest()
            self._publish()
            self._operator.ask_about_orders(self.sync)
            if mono_ms - said_ms >= SAY_ALIVE_MS:
                said_ms = mono_ms
                self._log.info(self._alive())

    def _asked_to_stop(self, within_s: float) -> StopRequest | None:
        """By a signal or by `stop` in another terminal, now or before this much time has passed."""
        return _pause(self._clock, self._stop_flag, within_s) or self._operator.asks_to_stop()

    def _over(self, began_ms: int) -> bool:
        """Done after the cutoff, and the venue, asked once more, does not object; or long past the close, whatever is left.

        A start that comes after the close to something still open has as long for it as any other.
        """
        patience_ms = max(CLOSE_PATIENCE_MS, int(CLOSE_PATIENCE_REAL_MS * self._clock.speed))
        if self._clock.now_ms() >= max(self.session.close_ms, began_ms) + patience_ms:
            return True
        if not self._done():
            return False
        self._look_once_more()
        return self._done()

    def _done(self) -> bool:
        """After the cutoff flat, nothing resting, and no position that the venue has contradicted once."""
        snapshots = [state.snapshot for state in self.states.values()]
        flat = all(ending.settled(snapshot) and snapshot.disagreements != 1 for snapshot in snapshots)
        return flat and self._outbox.idle and self._clock.now_ms() >= self.session.cutoff_ms

    def _stop(self, request: StopRequest) -> None:
        """Default: entries go, stops stay. Whatever is asked for, it ends in bounded time."""
        self._log.info(f"stopping ({request.kind}), asked by {request.who}")
        self._publish("stopping")
        if request.kind is not StopKind.KEEP:
            self._settle_for(request.kind)
        self._look_once_more()

    def _look_once_more(self) -> None:
        """The exit code says what is true at the venue, not what we remember of it."""
        answered, board = self.poller.sweeps, self.switchboard
        for polls in range(board.polls + 1, board.polls + 1 + LAST_LOOKS):
            self.poller.soon()
            if not self._within(STOP_PATIENCE_MS, lambda wanted=polls: board.polls >= wanted):  # type: ignore[misc]
                break
            if self.poller.sweeps > answered:
                return
        board.answering = False

    def sync(self, order_id: str) -> SyncAnswer:
        """Ask the venue about everything now, and say what that changed about one order (client or venue order id)."""
        found = [
            (state, order.client_id)
            for state in self.states.values()
            for order in (*state.snapshot.live_orders(), *state.snapshot.ended)
            if order_id in (order.client_id, order.venue_id)
        ]
        if not found:
            return SyncAnswer(order_id, False, False, f"no order {order_id} in this session: `orders` lists them")
        state, client_id = found[0]
        before, polls = ending.describe_order(state.snapshot, client_id), self.switchboard.polls
        self.poller.soon()
        asked = self._within(STOP_PATIENCE_MS, lambda: self.switchboard.polls > polls and self._outbox.idle)
        after = ending.describe_order(state.snapshot, client_id)
        if not asked or not self.switchboard.answering:
            return SyncAnswer(order_id, True, after != before, f"the venue does not answer; as far as is known: {after}")
        text = f"was {before}; now {after}" if after != before else f"nothing to do: {after}"
        return SyncAnswer(order_id, True, after != before, text)

    def _settle_for(self, kind: StopKind) -> None:
        now = {"mono_ms": self._clock.monotonic_ms(), "now_ms": self._clock.now_ms()}
        for state in self.states.values():
            state.apply(EntriesOff(source=STOPPING, reason="stopping", **now))
            if kind is StopKind.FLATTEN:
                state.apply(FlattenAsked(reason="flatten", **now))
        enough = ending.settled if kind is StopKind.FLATTEN else ending.entries_gone
        patience_ms = FLATTEN_PATIENCE_MS if kind is StopKind.FLATTEN else STOP_PATIENCE_MS
        self._within(patience_ms, lambda: self._outbox.idle and all(enough(state.snapshot) for state in self.states.values()))

    def _within(self, patience_ms: int, come_true: Callable[[], bool]) -> bool:
        until_ms = self._clock.monotonic_ms() + patience_ms
        never = self._clock.threads.event()
        while not (done := come_true()) and self._clock.monotonic_ms() < until_ms:
            self._clock.wait(never, 0.05)
        return done

    def end(self) -> int:
        """Stop every thread, close the journal's session, and say how it ended."""
        stuck = self._crew.stop()
        if stuck:
            self._log.alarm(f"threads that did not end in time: {', '.join(stuck)}")
        snapshots = [state.snapshot for state in self.states.values()]
        certain = self.switchboard.answering and self._clock.now_ms() < self.session.close_ms
        code = ending.exit_code(snapshots, self.switchboard.defects, certain)
        if self._unwatched and code == ending.OK:
            code = ending.UNPROTECTED_OR_UNKNOWN
        for line in ending.describe_open(snapshots):
            self._log.warning(line)
        try:
            self._journal.finish(code)
        except JournalError as error:
            self._log.alarm(f"journal: {error}")
        self._broker.close()
        self._operator.gone()
        return code

    # -- for people ------------------------------------------------------------------------------------------------------

    def _alive(self) -> str:
        counts = self.feed.counts()
        phases: dict[str, int] = {}
        for state in self.states.values():
            phases[state.snapshot.phase.value] = phases.get(state.snapshot.phase.value, 0) + 1
        words = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        return f"alive: {words}; {counts.get('ticks', 0)} ticks, profit {self.risk.profit()}"

    def faults(self) -> dict[str, int]:
        """What went wrong today, by kind, for the report."""
        counted = {name: count for name, count in self.feed.counts().items() if name != "ticks" and count}
        counted |= {name: count for name, count in self._broker.refused().items() if count}
        return counted | {"alarms": self.switchboard.faults, "defects": self.switchboard.defects}

    def _publish(self, doing: str = "trading") -> None:
        """data/status.json, for `status` in another terminal."""
        prices = {symbol: LivePrice(last[0], last[2]) for symbol in self.states if (last := self.feed.last(symbol))}
        live = LiveStatus(
            pid=os.getpid(),
            session=str(self.session.day),
            mode=str(self.config.mode),
            wall_ms=self._wall.now_ms(),
            now_ms=self._clock.now_ms(),
            doing=doing,
            threads=self._crew.threads(),
            feed=self.feed.counts(),
            prices=prices,
            max_entries={symbol: state.rules.max_entries for symbol, state in self.states.items()},
        )
        self._operator.show(live)


def _without(row: Planned, symbol: str, why_not: str) -> Planned:
    return msgspec.structs.replace(row, why_not=why_not) if row.symbol == symbol and row.why_not is None else row


def until_answered(call: Callable[[], T], clock: Clock, log: SessionLog, stop_flag: StopFlag, left_open: bool) -> T:
    """Ask until the venue answers. With nothing left open there is an end to the patience; else only a person ends it."""
    tries = 0
    while True:
        try:
            return call()
        except Fatal as error:
            raise Failure(ending.CREDENTIALS, f"the broker refuses us: {error}") from None
        except Refused:
            raise
        except BrokerError as error:
            tries += 1
            log.warning(f"the broker does not answer ({tries}): {error}")
            if tries >= START_TRIES and not left_open:
                raise Failure(ending.CONFIGURATION, f"the broker does not answer: {error}") from None
        if (request := _pause(clock, stop_flag, _try_s(tries))) is not None:
            code = ending.UNPROTECTED_OR_UNKNOWN if left_open else ending.OK
            raise Failure(code, f"stopped by {request.who} before the broker had answered")


def _try_s(tries: int) -> float:
    return RECOVERY_TRIES_S[min(tries, len(RECOVERY_TRIES_S)) - 1]


def _pause(clock: Clock, stop_flag: StopFlag, seconds: float) -> StopRequest | None:
    """Let time pass on the main thread, in pieces, for a signal handler can only set a flag."""
    never = clock.threads.event()
    until_ms = clock.monotonic_ms() + int(seconds * 1000)
    while stop_flag.request is None and (left_ms := until_ms - clock.monotonic_ms()) > 0:
        clock.wait(never, min(left_ms / 1000, WATCH_S))
    return stop_flag.request
