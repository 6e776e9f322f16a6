"""What `doctor` asks of the venue: reads only, through the few calls named here, each failure a line.

Owns the checks of connection, key, clock, instruments, hours, rate budget, and of what rests and is held there. Never sends an
order: `Reads` has no call for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from ops.config import Config
from ops.doctor import Check, Remembered, fail, ok, warn
from ops.plan import Planned, plan_day
from ops.words import clock_text, printable
from state.clock import Clock
from state.instrument import Instrument
from state.orders import ZERO, OrderType, Side
from state.reports import OrderRow, PositionRow
from state.session import Calendar, Closed, Session, hours_differ
from state.sizing import By, sized
from state.strategy import Strategy, View

T = TypeVar("T")
SKEW_LIMIT_MS = 2_000  # beyond it the runner allows no entries
LEAST_SWEEP_MS = 250
HOUR_MS = 3_600_000
SHOWN = 8  # orders named in one line
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class Abilities(Protocol):
    @property
    def client_ids(self) -> bool: ...
    @property
    def replace(self) -> bool: ...
    @property
    def native_stops(self) -> bool: ...
    @property
    def order_stream(self) -> bool: ...
    @property
    def balances(self) -> bool: ...
    @property
    def positions_every_s(self) -> float: ...
    @property
    def settle_window_s(self) -> float: ...


class Hours(Protocol):
    @property
    def open_ms(self) -> int | None: ...
    @property
    def close_ms(self) -> int | None: ...


class Budget(Protocol):
    """What a look costs and what the venue's limit affords, in calls as the venue counts them."""

    @property
    def per_look(self) -> int: ...
    @property
    def per_positions(self) -> int: ...
    @property
    def per_hour(self) -> int: ...
    @property
    def words(self) -> str: ...


class Reads(Protocol):
    """The harmless half of a broker."""

    @property
    def capabilities(self) -> Abilities: ...
    def check(self) -> str: ...
    def orders(self) -> list[OrderRow]: ...
    def positions(self) -> list[PositionRow]: ...
    def quotes(self, symbols: list[str]) -> dict[str, Decimal]: ...
    def instrument(self, symbol: str) -> Instrument: ...
    def session_hours(self, day: date) -> Hours | None: ...
    def skew_ms(self) -> int | None: ...


class Connected(msgspec.Struct, frozen=True):
    """A venue that can be asked. `failed` is what its calls raise, `fatal` the kind that no later call can mend.

    `told`: what the adapter has warned of so far. `paper`: orders never go there. `speed`: session seconds in a real one.
    """

    broker: Reads
    where: str
    clock: Clock
    failed: type[Exception]
    fatal: type[Exception]
    told: Callable[[], list[str]]
    budget: Budget | None = None
    paper: bool = False
    speed: float = 1.0


class Examination:
    """One venue, one config, one day. `checks` is everything, in order; each question is asked once."""

    def __init__(
        self,
        config: Config,
        calendar: Calendar,
        day: date,
        venue: Connected,
        strategies: Mapping[str, type[Strategy]],
        known: Remembered,
    ) -> None:
        self._config, self._calendar, self._venue, self._broker = config, calendar, venue, venue.broker
        self._strategies, self._known = strategies, known
        self._session = calendar.on(day)
        self._planned = plan_day(config, calendar, day)
        self._instruments: dict[str, Instrument] = {}
        self._prices: dict[str, Decimal] = {}
        self._silent = False

    def checks(self) -> Iterator[Check]:
        yield from self._instead()
        yield from self._budget()
        yield self._session_today()
        yield from self._setups()
        connection = self._connection()
        yield connection
        if self._silent:
            yield warn("venue", "not asked any further", "put right what is above, then run doctor again")
            return
        yield from self._quotes()
        yield from self._each_instrument()
        yield from self._currencies()
        yield from self._hours()
        if not self._venue.paper:
            yield from self._account()
        yield self._skew()
        yield from (warn("told by the venue", text, "see whether it matters to you") for text in self._venue.told())

    # -- without asking --------------------------------------------------------------------------------------------------

    def _instead(self) -> Iterator[Check]:
        """What the venue cannot do, and what the runner does instead."""
        can, window_s = self._broker.capabilities, self._broker.capabilities.settle_window_s
        if not can.client_ids:
            yield ok("instead", f"no client order ids: an unanswered order is looked for by its looks, for {window_s:g} s")
        if not can.replace:
            yield ok("instead", "orders cannot be amended: a stop is moved by cancelling it and placing a new one")
        if not can.native_stops:
            text = "no stop orders: the level is watched here, tick by tick, and closed at market"
            yield warn("instead", text, "keep the runner and its connection up for as long as something is held")
        if not can.order_stream:
            yield ok("instead", "no stream of orders: polling takes over, about a second late")
        if can.balances:
            yield ok("instead", "balances instead of positions: only what our own orders bought is ours; nothing is sold short")
        if self._config.broker.stop_slippage is not None and self._config.broker.name == "coinbase":
            share = f"{self._config.broker.stop_slippage * 100:f} %"
            text = f"no stop at market: stops are stop-limits that fill up to {share} beyond their level, else they are replaced"
            yield ok("instead", text)

    def _budget(self) -> Iterator[Check]:
        budget = self._venue.budget
        if budget is None or self._venue.paper:
            return
        interval_ms = max(int(self._config.polling.interval_ms / self._venue.speed), LEAST_SWEEP_MS)
        used, least_ms = self._calls(budget, interval_ms), interval_ms
        found = f"polling every {interval_ms / 1000:g} s costs {used} calls an hour of {budget.per_hour} ({budget.words})"
        if used <= budget.per_hour:
            yield ok("rate budget", found)
            return
        while self._calls(budget, least_ms) > budget.per_hour and least_ms < HOUR_MS:
            least_ms += 1_000 - least_ms % 1_000
        yield warn("rate budget", f"{found}: looks will be left out", f"polling: {{interval: {least_ms // 1000}s}}")

    def _calls(self, budget: Budget, interval_ms: int) -> int:
        positions_ms = max(interval_ms, int(self._broker.capabilities.positions_every_s * 1000))
        return budget.per_look * HOUR_MS // interval_ms + budget.per_positions * HOUR_MS // positions_ms

    def _session_today(self) -> Check:
        session, zone = self._session, self._calendar.zone
        if isinstance(session, Closed):
            return warn("session", f"none on {session.day}: {session.reason}", "nothing: a run on this day ends at once")
        times = [clock_text(ms, zone)[:8] for ms in (session.open_ms, session.entry_from_ms, session.cutoff_ms, session.close_ms)]
        return ok("session", f"{session.day}: open {times[0]}, entries from {times[1]}, cutoff {times[2]}, close {times[3]}")

    def _setups(self) -> Iterator[Check]:
        for row in self._planned:
            if row.why_not is not None and isinstance(self._session, Session):
                yield warn("setup", f"{row.symbol}: {row.why_not}", "give it a new setup, or leave it: it is not traded")

    # -- asked -----------------------------------------------------------------------------------------------------------

    def _connection(self) -> Check:
        """The first call of all; when it fails nothing else is asked: each question would cost a time-out, or lock a key out."""
        try:
            mode = self._broker.check()
        except self._venue.fatal as error:
            self._silent = True
            return fail("key", _words(error), "look at the key and its permissions at the venue", of_credentials=True)
        except self._venue.failed as error:
            self._silent = True
            return fail("connection", f"{self._venue.where}: {_words(error)}", "see that it is up and that the address is right")
        return ok("connection", f"{self._venue.where} answers and knows us ({mode})")

    def _asked(self, name: str, to_do: str, question: Callable[[], T]) -> tuple[T | None, list[Check]]:
        try:
            return question(), []
        except self._venue.fatal as error:
            return None, [fail(name, _words(error), "look at the key and its permissions at the venue", of_credentials=True)]
        except self._venue.failed as error:
            return None, [fail(name, _words(error), to_do)]

    def _quotes(self) -> Iterator[Check]:
        symbols = [row.symbol for row in self._planned]
        prices, failed = self._asked(
            "prices", "the first tick of each symbol will be believed", lambda: self._broker.quotes(symbols)
        )
        yield from failed
        if prices is None:
            return
        self._prices = prices
        without = [symbol for symbol in symbols if symbol not in prices]
        if without:
            yield warn("prices", f"none for {', '.join(without)}", "see whether they are traded now")
        else:
            yield ok("prices", f"of {len(symbols)} symbols")

    def _each_instrument(self) -> Iterator[Check]:
        for row in self._planned:
            to_do = "correct the symbol, or take it out"
            ask = partial(self._broker.instrument, row.symbol)
            found, failed = self._asked(f"instrument {row.symbol}", to_do, ask)
            yield from failed
            if found is not None:
                self._instruments[row.symbol] = found
                yield self._fits(row, found)

    def _fits(self, row: Planned, instrument: Instrument) -> Check:
        """Does the venue's grid take what the row says?"""
        name, price = f"instrument {row.symbol}", _planned_price(row) or self._prices.get(row.symbol)
        grid = f"tick {instrument.tick_size:f}, lot {instrument.lot_size:f}, minimum {instrument.least:f}"
        if instrument.min_notional:
            grid += f", least value {instrument.min_notional:f}"
        size = self._size(row, instrument, price)
        if size is None:
            return warn(name, f"{grid}; {row.size.text} cannot be worked out without a price or a stop", "see that a price comes")
        qty, why_not = size
        why_not = why_not or instrument.why_not(qty, price)
        if why_not is not None:
            return fail(name, f"{grid}; {row.size.text} does not fit: {why_not}", "change the size")
        off = [name for name, value in _prices_of(row) if not instrument.on_grid(value)]
        if off:
            return warn(name, f"{grid}; not on the tick: {', '.join(off)}", "nothing: they are rounded, away from harm")
        return ok(name, f"{grid}; {row.size.text} fits" + (f", {qty:f} now" if row.size.by is not By.QTY else ""))

    def _size(self, row: Planned, instrument: Instrument, price: Decimal | None) -> tuple[Decimal, str | None] | None:
        loss = self._loss(row, instrument, price) if row.size.by is By.RISK else ZERO
        if row.size.by is not By.QTY and (price is None or loss is None):
            return None
        found = sized(row.size, instrument, price or ZERO, loss or ZERO)
        return found.qty, found.why_not

    def _loss(self, row: Planned, instrument: Instrument, price: Decimal | None) -> Decimal | None:
        """Between this price and the strategy's stop; None where it names none."""
        if price is None or isinstance(self._session, Closed):
            return None
        view = View(instrument.least, price, Side.BUY, None, None, 0, False, "", self._venue.clock.now_ms())
        try:
            strategy = (row.own or self._strategies[row.strategy])(row.params, row.setup, instrument, self._session)
            return abs(price - strategy.stop_price(view))
        except Exception:  # somebody's strategy: it may raise anything, and a session says so by itself
            return None

    def _currencies(self) -> Iterator[Check]:
        quoted = sorted({found.quote for found in self._instruments.values() if found.quote})
        if len(quoted) > 1:
            found = f"symbols in {', '.join(quoted)}: the daily loss adds them up as if they were one"
            yield warn("currencies", found, "trade them by configs of their own, with a data_dir each")

    def _hours(self) -> Iterator[Check]:
        hours, failed = self._asked(
            "hours", "see the venue's hours for yourself", lambda: self._broker.session_hours(self._session.day)
        )
        yield from failed
        if failed:
            return
        if hours is None:
            yield ok("hours", "the venue tells none: those of the config count")
        elif differ := hours_differ(self._session, hours.open_ms, hours.close_ms):
            yield fail("hours", differ, "correct `session`: a run would allow no entries")
        else:
            yield ok("hours", "those of the venue are ours")

    def _skew(self) -> Check:
        ahead_ms = self._broker.skew_ms()
        if ahead_ms is None:
            return warn("clock", "the venue tells no time to compare with", "keep this machine's clock set by the network")
        found = f"{abs(ahead_ms)} ms {'ahead of' if ahead_ms >= 0 else 'behind'} the venue's"
        if abs(ahead_ms) <= SKEW_LIMIT_MS:
            return ok("clock", "with the venue's" if not ahead_ms else found)
        return fail(
            "clock", f"{found}: beyond {SKEW_LIMIT_MS} ms there are no entries", "set this machine's clock by the network"
        )

    # -- what rests and what is held ---------------------------------------------------------------------------------------

    def _account(self) -> Iterator[Check]:
        rows, failed = self._asked("open orders", "look at the venue's own book", self._broker.orders)
        yield from failed
        held, also_failed = self._asked("positions", "look at the venue's own book", self._broker.positions)
        yield from also_failed
        working = [row for row in rows or [] if not row.state.closed]
        if rows is not None:
            yield self._orders(working)
        if rows is not None and held is not None:
            yield from self._positions(held, working)

    def _orders(self, working: Sequence[OrderRow]) -> Check:
        if not working:
            return ok("open orders", "none")
        traded = {row.symbol for row in self._planned}
        foreign = [row for row in working if row.venue_id not in self._known.venue_ids]
        found = "; ".join(self._order_text(row) for row in working[:SHOWN])
        if len(working) > SHOWN:
            found += f"; and {len(working) - SHOWN} more"
        if any(row.symbol in traded for row in foreign):
            return warn("open orders", found, "those that are not ours are left alone; better not to trade these symbols by hand")
        return ok("open orders", found)

    def _order_text(self, row: OrderRow) -> str:
        kind = "" if row.type is None else f" {row.type.value}"
        price = row.trigger_price or row.limit_price
        whose = "ours" if row.venue_id in self._known.venue_ids else "not ours by the journal"
        level = "" if price is None else f" @ {price:f}"
        return printable(f"{row.symbol} {row.side.value}{kind} {row.qty:f}{level} ({row.venue_id}, {whose})")

    def _positions(self, held: Sequence[PositionRow], working: Sequence[OrderRow]) -> Iterator[Check]:
        """Everything held, and whether a stop for all of it rests at the venue."""
        found = list(self._owned(held))
        for symbol, qty, ours in found:
            stop = sum((_left(row) for row in working if _stops(row, symbol, qty)), ZERO)
            whose = "ours" if ours else "not ours by the journal"
            if stop >= abs(qty):
                yield ok("position", f"{symbol} {qty:f} ({whose}): its stop rests at the venue")
            else:
                covered = f"only {stop:f} of it has a stop" if stop else "NO STOP rests at the venue"
                to_do = (
                    "start the runner: it protects first" if ours else "protect or close it by hand: the runner leaves it alone"
                )
                yield fail("position", f"{symbol} {qty:f} ({whose}) is unprotected: {covered}", to_do)
        others = [
            row for row in held if row.qty and not any(row.symbol in (symbol, self._base(symbol)) for symbol, _, _ in found)
        ]
        if others:
            names = ", ".join(printable(row.symbol) for row in others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
            yield ok("position", f"of others, left alone: {names}")
        elif not found:
            yield ok("position", "none")

    def _owned(self, held: Sequence[PositionRow]) -> Iterator[tuple[str, Decimal, bool]]:
        """Symbol, quantity, and whether the journal knows it. Of a balance only what the journal knows is a position."""
        remembered = {symbol: s.position for symbol, s in self._known.snapshots.items() if s.position}
        traded = {row.symbol for row in self._planned}
        if self._broker.capabilities.balances:
            there = {row.symbol: row.qty for row in held}
            for symbol, position in remembered.items():
                qty = min(position, there.get(self._base(symbol), ZERO))
                if qty:
                    yield symbol, qty, True
            return
        for row in held:
            if row.qty and (row.symbol in traded or row.symbol in remembered):
                yield row.symbol, row.qty, row.symbol in remembered

    def _base(self, symbol: str) -> str:
        found = self._instruments.get(symbol)
        return symbol if found is None or not self._broker.capabilities.balances else found.base


def _stops(row: OrderRow, symbol: str, qty: Decimal) -> bool:
    return row.symbol == symbol and row.type in STOPS and row.side is (Side.SELL if qty > 0 else Side.BUY)


def _left(row: OrderRow) -> Decimal:
    return row.qty - (row.filled or ZERO)


def _prices_of(row: Planned) -> list[tuple[str, Decimal]]:
    """What its setup names as prices."""
    fields: dict[str, Any] = {name: getattr(row.setup, name) for name in getattr(row.setup, "__struct_fields__", ())}
    return [(name, value) for name, value in fields.items() if name.endswith("price") and isinstance(value, Decimal)]


def _planned_price(row: Planned) -> Decimal | None:
    return dict(_prices_of(row)).get("entry_price")


def _words(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__
