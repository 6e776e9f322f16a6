"""The locked door: what goes through `decide`, what need not, and how bars are made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from state.clock import VirtualClock
from state.events import BarClosed, EntriesOff, Event, FillSeen, HaltAsked, Heartbeat, ResumeAsked, Tick
from state.ledger import Fill
from state.orders import OrderType, Purpose, Side
from state.snapshot import Snapshot
from state.strategy import Bar, Enter, View, Wish
from state.symbol_state import Reentered, SymbolState, Work
from tests.state.builders import BAR_MS, BUY, ENTRY, SELL, TEN, TRIGGER, D, Plan, at, both_sides, ist, make_rules, sent


class Box:
    def __init__(self) -> None:
        self.works: list[Work] = []

    def put(self, symbol: str, work: Work) -> None:
        self.works.append(work)


class Full:
    def put(self, symbol: str, work: Work) -> None:
        raise MemoryError


class Asked(Plan):
    """Notes what it was asked; quiet above its trigger."""

    def __init__(self, side: Side = BUY, quiet: Any = None, **more: Any) -> None:
        super().__init__(side, **more)
        self.ticks: list[Decimal] = []
        self.bars: list[Bar] = []
        self._quiet = quiet

    def on_tick(self, view: View, price: Decimal) -> Wish:
        self.ticks.append(price)
        return super().on_tick(view, price)

    def on_bar(self, view: View, bar: Bar) -> Wish:
        self.bars.append(bar)
        return super().on_bar(view, bar)

    def quiet(self, view: View) -> tuple[Decimal, Decimal]:
        if self._quiet is not None:
            if isinstance(self._quiet, Exception):
                raise self._quiet
            return self._quiet  # type: ignore[no-any-return]
        nothing, ever = D(0), D("Infinity")
        if not view.flat:
            return nothing, ever
        return (TRIGGER, ever) if self.side is BUY else (nothing, at(SELL, TRIGGER))


def make(strategy: Plan | None = None, start_ms: int = TEN, **more: Any) -> tuple[SymbolState, Box, VirtualClock]:
    box, clock = Box(), VirtualClock(start_ms)
    strategy = strategy or Asked()
    rules = make_rules(strategy.side, strategy, **more.pop("rules", {}))
    return SymbolState(Snapshot("SBIN"), rules, box, clock, bar_origin_ms=TEN, **more), box, clock


def filled(state: SymbolState, price: Decimal = ENTRY) -> None:
    entry = state.snapshot.entry
    assert entry is not None
    fill = Fill("T1", entry.client_id, Purpose.ENTRY, entry.side, entry.qty, price, TEN)
    state.apply(FillSeen(fill=fill, mono_ms=TEN, now_ms=TEN))


# -- prices that need no decision ------------------------------------------------------------------------------------------------


@both_sides
def test_prices_between_which_nothing_can_happen_are_not_decided(side: Side) -> None:
    strategy = Asked(side)
    state, box, _ = make(strategy)

    for price in ("731.00", "731.05", "730.70", "730.65"):
        state.tick(at(side, price), TEN)

    assert strategy.ticks == [at(side, "731.00"), at(side, "730.65")]
    assert (state.last, len(box.works)) == (at(side, "730.65"), 1)


@both_sides
def test_in_position_a_price_at_the_stop_is_always_decided(side: Side) -> None:
    state, box, _ = make(Asked(side))
    state.tick(at(side, "730.65"), TEN)
    filled(state)
    before = state.snapshot

    state.tick(at(side, "730.20"), TEN)
    quiet = state.snapshot is before
    state.tick(at(side, "730.15"), TEN)

    assert (quiet, state.snapshot.crossed_ms) == (True, TEN)


def test_a_strategy_without_an_opinion_about_quiet_sees_every_tick() -> None:
    strategy = Plan()
    seen: list[Decimal] = []
    strategy.on_tick = lambda view, price: seen.append(price)  # type: ignore[method-assign]
    state, _, _ = make(strategy)

    for price in ("731.00", "731.05", "731.00"):
        state.tick(D(price), TEN)

    assert seen == [D("731.00"), D("731.05"), D("731.00")]


@pytest.mark.parametrize(
    "quiet",
    [
        RuntimeError("boom"),
        None,
        (D(5),),
        ("low", "high"),
        (D("NaN"), D(1)),
        (1, 2, 3),
        7,
    ],
)
def test_nonsense_about_quiet_makes_every_tick_count_and_loses_no_command(quiet: Any) -> None:
    """CON-14, CON-18."""
    strategy = Asked(quiet=quiet if quiet is not None else (D(9), D(1)))
    state, box, _ = make(strategy)

    state.tick(D("731.00"), TEN)
    state.tick(D("730.65"), TEN)

    assert strategy.ticks == [D("731.00"), D("730.65")]
    assert [sent(list(work.commands)) for work in box.works] == [["submit E BUY 5 @ 731.15"]]


def test_a_halted_symbol_is_quiet_except_at_its_stop() -> None:
    strategy = Asked()
    state, _, _ = make(strategy)
    state.tick(D("731.00"), TEN)
    state.apply(HaltAsked(reason="by hand", mono_ms=TEN, now_ms=TEN))
    before = len(strategy.ticks)

    state.tick(D("730.60"), TEN)
    state.apply(ResumeAsked(mono_ms=TEN, now_ms=TEN))
    state.tick(D("730.60"), TEN)

    assert strategy.ticks[before:] == [D("730.60")]


def test_while_a_trigger_is_spent_or_blocked_every_tick_counts() -> None:
    strategy = Asked()
    state, _, _ = make(strategy)
    state.apply(EntriesOff(source="feed", reason="stale", mono_ms=TEN, now_ms=TEN))
    for price in ("730.65", "730.90", "731.00"):
        state.tick(D(price), TEN)

    assert strategy.ticks == [D("730.65"), D("730.90")]
    assert state.snapshot.armed is False


def test_the_cutoff_and_the_end_of_a_bar_end_the_quiet() -> None:
    strategy = Asked()
    state, _, _ = make(strategy, start_ms=ist("14:29:00"))
    state.tick(D("731.00"), ist("14:29:00"))
    state.tick(D("731.00"), ist("14:29:59"))
    state.tick(D("731.05"), ist("14:30:00"))
    state.tick(D("731.05"), ist("14:45:00"))

    assert (len(strategy.ticks), state.snapshot.over) == (3, True)


# -- events and the outbox -----------------------------------------------------------------------------------


def test_work_says_what_changed_why_and_on_which_thread() -> None:
    state, box, _ = make()

    state.tick(D("730.65"), TEN)

    (work,) = box.works
    assert work == Work(
        "MainThread", Tick(price=D("730.65"), now_ms=TEN, mono_ms=TEN), Snapshot("SBIN"), state.snapshot, work.commands
    )
    assert sent(list(work.commands)) == ["submit E BUY 5 @ 731.15"]


def test_a_new_best_price_alone_is_not_worth_a_record() -> None:
    state, box, _ = make(Plan())
    state.tick(D("730.65"), TEN)
    filled(state)
    before = len(box.works)

    state.tick(D("731.50"), TEN)
    state.tick(D("731.60"), TEN)

    assert (len(box.works), state.snapshot.peak) == (before, D("731.60"))


def test_a_heartbeat_when_nothing_can_happen_decides_nothing() -> None:
    state, box, clock = make()
    state.tick(D("731.00"), TEN)
    before = state.snapshot

    for _ in range(4):
        clock.advance(5_000)
        state.heartbeat(clock.now_ms(), clock.monotonic_ms())

    assert (state.snapshot is before, box.works) == (True, [])


def test_a_heartbeat_passes_the_cutoff_and_the_entry_timeout() -> None:
    state, box, clock = make()
    state.tick(D("730.65"), TEN)
    clock.advance_to(ist("14:45:00"))

    state.heartbeat(clock.now_ms(), clock.monotonic_ms())

    assert state.snapshot.over and isinstance(box.works[-1].event, Heartbeat | BarClosed)


def test_a_defect_leaves_the_snapshot_and_is_told() -> None:
    """CON-18."""
    told: list[tuple[str, str]] = []
    state, box, _ = make(on_defect=lambda symbol, error: told.append((symbol, type(error).__name__)))
    state.tick(D("731.00"), TEN)
    before = state.snapshot

    class Unheard(Event, frozen=True, kw_only=True):
        """No recorder knows it."""

    state.apply(Unheard(mono_ms=TEN, now_ms=TEN))
    unchanged = state.snapshot is before
    state.tick(D("730.65"), TEN)

    assert (told, unchanged, len(box.works)) == ([("SBIN", "KeyError")], True, 1)


@pytest.mark.parametrize("door", ["apply", "tick", "heartbeat"])
def test_a_defect_is_told_when_the_lock_has_been_left(door: str) -> None:
    """CON-12, CON-18: whoever is told may take his time, and may look at the symbol from another thread."""
    told: list[str] = []

    def free_for_others(symbol: str, error: Exception) -> None:
        asking = ThreadPoolExecutor(1)
        try:
            asking.submit(state.range).result(5)  # with the lock still held this would not come back
            told.append(type(error).__name__)
        finally:
            asking.shutdown(wait=False)

    state, _, _ = make(on_defect=free_for_others)
    state._outbox = Full()

    doors: dict[str, Callable[[], None]] = {
        "apply": lambda: state.apply(HaltAsked(mono_ms=TEN, now_ms=TEN, reason="by hand")),
        "tick": lambda: state.tick(D("730.65"), TEN),
        "heartbeat": lambda: state.heartbeat(ist("14:46:00"), TEN),
    }
    doors[door]()

    assert told == ["MemoryError"]


def test_a_defect_nobody_listens_for_is_raised() -> None:
    """CON-18."""
    state, _, _ = make()

    class Unheard(Event, frozen=True, kw_only=True):
        """No recorder knows it."""

    with pytest.raises(KeyError):
        state.apply(Unheard(mono_ms=TEN, now_ms=TEN))
    state.tick(D("730.65"), TEN)
    assert state.snapshot.entry is not None


def test_coming_in_again_while_inside_is_refused() -> None:
    """CON-12."""
    state, _, _ = make()

    class Nosy:
        def put(self, symbol: str, work: Work) -> None:
            state.apply(Heartbeat(mono_ms=TEN, now_ms=TEN))

    state._outbox = Nosy()

    with pytest.raises(Reentered, match="SBIN: Heartbeat inside another event"):
        state.tick(D("730.65"), TEN)


# -- bars ----------------------------------------------------------------------------------------------------


def _bar(start: str, prices: str, whole: bool = True) -> Bar:
    open_, high, low, close = (D(price) for price in prices.split())
    return Bar(ist(start), ist(start) + BAR_MS, open_, high, low, close, whole)


def test_a_bar_is_made_of_all_its_ticks_and_closed_by_the_next_bars_first() -> None:
    strategy = Asked()
    state, _, _ = make(strategy)
    for seconds, price in ((0, "731.00"), (10, "732.00"), (20, "730.90"), (899, "731.50")):
        state.tick(D(price), TEN + seconds * 1000)
    state.tick(D("740.00"), TEN + BAR_MS)

    assert strategy.bars == [_bar("10:00:00", "731.00 732.00 730.90 731.50")]


def test_a_bar_is_closed_by_the_clock_after_a_grace_for_its_last_ticks() -> None:
    """PRO-17."""
    strategy = Asked()
    state, _, clock = make(strategy)
    state.tick(D("731.00"), TEN)
    for at_ms in (TEN + BAR_MS, TEN + BAR_MS + 1_999):
        state.heartbeat(at_ms, at_ms)
    early = list(strategy.bars)
    state.tick(D("730.80"), TEN + BAR_MS - 1)

    state.heartbeat(TEN + BAR_MS + 2_000, TEN + BAR_MS + 2_000)

    assert (early, strategy.bars) == ([], [_bar("10:00:00", "731.00 731.00 730.80 730.80")])


def test_a_tick_that_comes_after_its_bar_was_closed_opens_no_second_one() -> None:
    """PRO-17."""
    strategy = Asked()
    state, _, _ = make(strategy)
    state.tick(D("731.00"), TEN)
    state.heartbeat(TEN + BAR_MS + 2_000, TEN + BAR_MS + 2_000)

    state.tick(D("735.00"), TEN + BAR_MS - 1)
    state.tick(D("731.20"), TEN + BAR_MS + 2_500)
    state.heartbeat(TEN + 2 * BAR_MS + 2_000, TEN + 2 * BAR_MS + 2_000)

    assert strategy.bars == [_bar("10:00:00", "731.00 731.00 731.00 731.00"), _bar("10:15:00", "731.20 731.20 731.20 731.20")]


def test_an_older_tick_does_not_reach_into_the_bar_that_is_forming() -> None:
    strategy = Asked(bar_ms=BAR_MS)
    state, _, _ = make(strategy)
    state.tick(D("731.00"), TEN)
    state.tick(D("731.10"), TEN + BAR_MS)
    state.tick(D("730.60"), TEN + BAR_MS - 1)
    state.tick(D("731.20"), TEN + 2 * BAR_MS)

    assert strategy.bars[1] == _bar("10:15:00", "731.10 731.10 731.10 730.60")


def test_a_bar_joined_in_the_middle_says_so() -> None:
    strategy = Asked()
    state, _, _ = make(strategy, start_ms=TEN + 1_000)
    state.tick(D("731.00"), TEN + 1_000)
    state.tick(D("731.00"), TEN + BAR_MS)

    assert strategy.bars == [_bar("10:00:00", "731.00 731.00 731.00 731.00", whole=False)]


def test_quarters_without_a_tick_make_no_bar() -> None:
    strategy = Asked()
    state, _, _ = make(strategy)
    state.tick(D("731.00"), TEN)
    state.tick(D("732.00"), TEN + 5 * BAR_MS)
    state.tick(D("732.00"), TEN + 6 * BAR_MS)

    assert [bar.start_ms for bar in strategy.bars] == [TEN, TEN + 5 * BAR_MS]


def test_prices_of_a_held_feed_belong_to_the_bar_all_the_same() -> None:
    strategy = Asked()
    state, _, _ = make(strategy)
    state.missed(D("1"), D("2"), TEN)  # no bar yet: nothing to add to
    state.tick(D("731.00"), TEN)
    state.missed(D("730.70"), D("732.00"), TEN + 5_000)
    state.missed(D("700.00"), D("800.00"), TEN + BAR_MS)
    state.tick(D("731.00"), TEN + BAR_MS)

    assert strategy.bars == [_bar("10:00:00", "731.00 732.00 730.70 731.00")]


def test_the_range_of_the_session_is_that_of_all_prices_seen() -> None:
    state, _, _ = make()
    before = state.range()
    state.tick(D("731.00"), TEN)
    first = state.range()
    state.tick(D("732.00"), TEN + 10)
    state.tick(D("730.70"), TEN + BAR_MS)
    state.heartbeat(TEN + 3 * BAR_MS, TEN + 3 * BAR_MS)

    assert (before, first) == (None, (D("731.00"), D("731.00")))
    assert state.range() == (D("730.70"), D("732.00"))


def test_a_strategy_that_wants_no_bars_still_has_a_range() -> None:
    state, _, _ = make(Asked(bar_ms=0))
    state.tick(D("731.00"), TEN)

    assert state.range() == (D("731.00"), D("731.00"))


def test_an_entry_asked_for_by_a_closed_bar_is_an_entry() -> None:
    state, box, _ = make(Asked(bar_wish=Enter(BUY, OrderType.MARKET, "the bar says so")))
    state.tick(D("731.00"), TEN)
    state.heartbeat(TEN + BAR_MS + 2_000, TEN + BAR_MS + 2_000)

    assert [sent(list(work.commands)) for work in box.works] == [["submit E BUY 5 @ market"]]
