"""The made-up market tells the stories it promises, played with the 80-20 rules against the matching engine."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import pytest

from brokers.base import FillRow
from brokers.matching import MatchingEngine
from brokers.practice_market import STORIES, TICK_EVERY_MS, PracticeSymbol, assign_stories, market, previous_close
from brokers.tape import TapeTick
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

D = Decimal
MINUTE = 60_000
OPEN = 1795146300000  # 2026-11-20 09:15 IST
CLOSE = OPEN + 375 * MINUTE
CUTOFF = CLOSE - 45 * MINUTE
WINDOW = (OPEN + MINUTE, OPEN + 60 * MINUTE)
TICK = D("0.05")


def setup(story: str, symbol: str = "ABSLAMC", qty: str = "5") -> PracticeSymbol:
    return PracticeSymbol(symbol, D("731.15"), D("730.65"), TICK, D(qty), story=story)


class Day(NamedTuple):
    """What 80-20 did: fills as (minute of the session, signed quantity, ticks from the entry), and what is held at the cutoff."""

    fills: list[tuple[int, int, int]]
    armed: int
    held: Decimal


class EightyTwenty:
    """80-20 in the plainest words, its orders reaching the venue `lag_ms` after the tick that caused them."""

    def __init__(self, symbol: PracticeSymbol, lag_ms: int) -> None:
        self.symbol = symbol
        self.lag_ms = lag_ms
        self.book = MatchingEngine({symbol.symbol: Instrument(symbol.symbol, "NSE", TICK)})
        self.bar: list[Decimal] = []
        self.bar_end = OPEN + 15 * MINUTE
        self.trail = D(0)
        self.wanted: list[tuple[int, Decimal, Decimal]] = []  # (from when, stop, quantity)
        self.entry: tuple[int, str | None] | None = None
        self.stop: str | None = None
        self.armed = 0
        self.fills: list[tuple[int, int, int]] = []

    def play(self) -> Day:
        for tick in market([self.symbol], OPEN, CLOSE):
            if tick.at_ms >= CUTOFF:
                break
            self.act(tick.at_ms)
            self.hear(tick)
            self.decide(tick)
        return Day(self.fills, self.armed, self.held())

    def held(self) -> Decimal:
        rows = self.book.positions()
        return rows[0].qty if rows else D(0)

    def hear(self, tick: TapeTick) -> None:
        for change in self.book.tick(tick.symbol, tick.price, tick.at_ms, tick.available):
            if isinstance(change, FillRow):
                ticks = int((change.price - self.symbol.entry_price) / TICK)
                self.fills.append(((tick.at_ms - OPEN) // MINUTE, int(change.qty) * change.side.sign, ticks))
                if change.side is Side.BUY:
                    self.trail = max(self.trail, change.price - 20 * TICK)
                    self.wanted.append((tick.at_ms + self.lag_ms, self.trail, self.held()))
        if not self.held() and self.stop is not None:
            self.stop, self.trail, self.entry = None, D(0), None

    def decide(self, tick: TapeTick) -> None:
        if tick.at_ms >= self.bar_end:
            if self.bar and self.bar[-1] >= self.bar[0] and self.held():
                self.trail = max(self.trail, min(self.bar) - 2 * TICK)
                self.wanted.append((tick.at_ms + self.lag_ms, self.trail, self.held()))
            self.bar, self.bar_end = [], self.bar_end + 15 * MINUTE
        self.bar.append(tick.price)
        in_window = WINDOW[0] <= tick.at_ms < WINDOW[1]
        if self.entry is None and in_window and tick.price <= self.symbol.trigger_price:
            self.armed += 1
            if self.armed <= 3:
                self.entry = (tick.at_ms + self.lag_ms, None)

    def act(self, now_ms: int) -> None:
        if self.entry is not None and self.entry[1] is None and self.entry[0] <= now_ms:
            self.entry = (now_ms, self.book.submit(self.order(Side.BUY, OrderType.STOP_LIMIT, self.symbol.entry_price), now_ms))
        while self.wanted and self.wanted[0][0] <= now_ms:
            _, level, qty = self.wanted.pop(0)
            if self.held() and self.stop is None:
                self.stop = self.book.submit(self.order(Side.SELL, OrderType.STOP, level, qty), now_ms)
            elif self.held() and self.stop is not None:
                self.book.replace(self.stop, qty, level, None, now_ms)

    def order(self, side: Side, kind: OrderType, price: Decimal, qty: Decimal | None = None) -> Order:
        return Order("", self.symbol.symbol, Purpose.ENTRY, side, kind, qty or self.symbol.qty, price, price)


def day(story: str, lag_ms: int) -> Day:
    return EightyTwenty(setup(story), lag_ms).play()


LAGS = pytest.mark.parametrize("lag_ms", [0, 45_000, 4 * MINUTE])  # the last is 0.8 s at 300 times


@LAGS
def test_trail_is_stopped_out_hours_later_with_a_profit(lag_ms: int) -> None:
    fills, _, held = day("trail", lag_ms)

    assert [(qty, held) for _, qty, _ in fills] == [(5, D(0)), (-5, D(0))]
    assert fills[0] == (14, 5, 0)
    assert 155 <= fills[1][0] <= 170
    assert fills[1][2] >= 90


@LAGS
def test_reentry_loses_once_and_wins_the_second_time(lag_ms: int) -> None:
    fills, armed, held = day("reentry", lag_ms)

    assert [qty for _, qty, _ in fills] == [5, -5, 5, -5]
    assert (armed, held) == (2, D(0))
    assert fills[1][2] in range(-24, -19)
    assert fills[3][2] >= 60


@LAGS
def test_three_losses_use_up_the_entries_and_the_trigger_comes_a_fourth_time(lag_ms: int) -> None:
    fills, armed, held = day("three_losses", lag_ms)

    assert [qty for _, qty, _ in fills] == [5, -5, 5, -5, 5, -5]
    assert all(ticks in range(-24, -19) for _, qty, ticks in fills if qty < 0)
    assert (armed >= 4, held) == (True, D(0))


@LAGS
def test_partial_fills_in_two_parts_minutes_apart(lag_ms: int) -> None:
    fills, _, held = day("partial", lag_ms)

    assert [qty for _, qty, _ in fills] == [2, 3, -5]
    assert 4 <= fills[1][0] - fills[0][0] <= 6
    assert (fills[2][2] >= 50, held) == (True, D(0))


@LAGS
def test_cutoff_is_still_held_at_the_cutoff(lag_ms: int) -> None:
    assert day("cutoff", lag_ms) == Day([(14, 5, 0)], 1, D(5))


@pytest.mark.parametrize(("story", "armed"), [("never", 0), ("late", 0), ("jump", 1)])
@LAGS
def test_the_quiet_stories_never_fill(story: str, armed: int, lag_ms: int) -> None:
    """ENT-08: the market's half: a jump over the limit."""
    assert day(story, lag_ms) == Day([], armed, D(0))


def test_late_does_touch_the_trigger_after_the_window() -> None:
    touches = [tick.at_ms for tick in market([setup("late")], OPEN, CLOSE) if tick.price <= D("730.65")]

    assert WINDOW[1] + 5 * MINUTE <= touches[0] <= touches[-1] <= WINDOW[1] + 20 * MINUTE


def test_every_path_is_on_the_grid_and_goes_from_open_to_close_every_four_seconds() -> None:
    symbols = [setup(story, symbol=f"S{n}") for n, story in enumerate(STORIES)]

    ticks = list(market(symbols, OPEN, CLOSE))

    assert [tick.at_ms for tick in ticks] == sorted(tick.at_ms for tick in ticks)
    for symbol in symbols:
        own = [tick for tick in ticks if tick.symbol == symbol.symbol]
        assert own[0].at_ms < OPEN + TICK_EVERY_MS and CLOSE - TICK_EVERY_MS <= own[-1].at_ms < CLOSE
        assert {after.at_ms - before.at_ms for before, after in zip(own, own[1:], strict=False)} == {TICK_EVERY_MS}
        assert all(tick.price % TICK == 0 for tick in own)


def test_equal_symbols_give_equal_days_and_other_names_other_noise() -> None:
    first, again, other = (list(market([setup("trail", symbol)], OPEN, CLOSE)) for symbol in ("A", "A", "B"))

    assert first == again
    assert [tick.price for tick in first] != [tick.price for tick in other]


def test_a_short_setup_gets_the_mirrored_path() -> None:
    long = PracticeSymbol("A", D(100), D("99.50"), TICK, D(5), story="trail")
    short = PracticeSymbol("A", D(100), D("100.50"), TICK, D(5), story="trail")

    sums = {up.price + down.price for up, down in zip(market([long], OPEN, CLOSE), market([short], OPEN, CLOSE), strict=True)}

    assert sums == {D(200)}
    assert (previous_close(long), previous_close(short)) == (D("100.60"), D("99.40"))


def test_symbols_without_a_story_get_all_different_ones_while_they_last() -> None:
    unnamed = [setup("", symbol) for symbol in ("SBIN", "INFY", "ITC", "HDFC", "MARUTI", "RELIANCE", "ABSLAMC")]

    stories = assign_stories([*unnamed, setup("jump", "KOTAKBANK")])

    assert stories[-1] == "jump"
    assert sorted(stories) == sorted(STORIES)
    assert stories == assign_stories([*unnamed, setup("jump", "KOTAKBANK")])


def test_a_story_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="^no such story: romance; there are trail, reentry, "):
        market([setup("romance")], OPEN, CLOSE)


def test_one_lot_cannot_fill_in_parts_and_still_fills() -> None:
    one = EightyTwenty(setup("partial", qty="1"), 0).play()

    assert [qty for _, qty, _ in one.fills] == [1, -1]
