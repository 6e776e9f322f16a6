"""What people do behind the runner's back is done in the venue's book, and everybody can tell their orders from ours."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import pytest

from brokers.base import OrderRow
from simulation.fates import Fate, Fates
from simulation.trouble import KINDS, LEARNT_MS, LOOKS_MS, schedule
from simulation.world import Print, World
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from state.reports import Reported

D = Decimal
SYMBOL = "SBIN"
TICK = D("0.05")
GRID = {SYMBOL: Instrument(SYMBOL, "SIM", TICK)}
FIVE, LAST, LEVEL = D(5), D("731.00"), D("730.15")
UNTIL_MS = 60_000
BOUGHT = Order("SBIN-20261120-E0", SYMBOL, Purpose.ENTRY, Side.BUY, OrderType.MARKET, FIVE)
STOP = Order("SBIN-20261120-S1", SYMBOL, Purpose.STOP, Side.SELL, OrderType.STOP, FIVE, trigger_price=LEVEL)
ENTRY = Order("SBIN-20261120-E2", SYMBOL, Purpose.ENTRY, Side.BUY, OrderType.STOP_LIMIT, FIVE, D("740"), D("740"))


def world_of(
    kinds: Iterable[str], seed: str = "people", prints: Iterable[Print] = (), orders: Iterable[Order] = (BOUGHT, STOP, ENTRY)
) -> World:
    """One in which 5 are held behind a stop, an entry rests, and each of these kinds strikes at its first occasion."""
    wanted = list(kinds)
    fates = Fates(seed, dict.fromkeys(wanted, 1.0), frozenset(Fate(kind, 0) for kind in wanted))
    world = World(GRID, [Print(1, SYMBOL, LAST), Print(11, SYMBOL, LAST), *prints], fates, origin_ms=0, speed=120.0)
    schedule(world, fates, UNTIL_MS)
    world.act(5)
    for order in orders:
        world.submit(order)
    world.act(20)
    return world


def ours(world: World, client_id: str) -> OrderRow:
    return next(world.row(venue_id) for venue_id, order in world.placed.items() if order.client_id == client_id)


def theirs(world: World) -> list[OrderRow]:
    return [world.row(venue_id) for venue_id in world.foreign]


@pytest.mark.parametrize(
    ("kind", "side", "qty", "held"),
    [
        ("people.close", Side.SELL, D(5), D(0)),
        ("people.halve", Side.SELL, D(2), D(3)),
        ("people.reverse", Side.SELL, D(10), D(-5)),
        ("people.add", Side.BUY, D(6), D(11)),
    ],
)
def test_a_trade_by_hand_is_done_at_once_at_the_last_price(kind: str, side: Side, qty: Decimal, held: Decimal) -> None:
    """REC-05, REC-06, REC-08."""
    world = world_of([kind])

    world.act(LOOKS_MS)

    (row,) = theirs(world)
    assert (row.side, row.type, row.qty, row.state, row.average) == (side, OrderType.MARKET, qty, Reported.FILLED, LAST)
    assert world.held(SYMBOL) == held
    assert [fill.venue_id in world.foreign for fill in world.engine.fills()] == [False, True]


def test_a_trade_by_hand_is_learnt_late_and_the_oracle_knows() -> None:
    world = world_of(["people.close"])

    world.act(LOOKS_MS)

    assert world.troubled_until_ms == LOOKS_MS + LEARNT_MS


def test_nobody_trades_where_nothing_is_held() -> None:
    world = world_of(KINDS, orders=[])
    world.fates.over = False

    world.act(UNTIL_MS)

    assert sorted(world.fates.counts()) == ["people.order"]


def test_an_order_of_somebody_else_rests_below_the_market_near_or_far() -> None:
    """REC-07."""
    limits = []
    for seed in range(10):
        world = world_of(["people.order"], seed=str(seed))
        world.act(LOOKS_MS)
        (row,) = theirs(world)
        assert (row.side, row.type, row.state, row.venue_id in world.placed) == (
            Side.BUY,
            OrderType.LIMIT,
            Reported.WORKING,
            False,
        )
        assert row.limit_price is not None and GRID[SYMBOL].on_grid(row.limit_price)
        limits.append(LAST - row.limit_price)

    near = [away for away in limits if away <= 20 * TICK]
    assert 0 < len(near) < 10 and min(limits) >= TICK
    assert {away for away in limits if away not in near} == {D("36.55")}


def test_a_resting_order_of_somebody_else_that_fills_is_learnt_late_too() -> None:
    world = world_of(["people.order"], prints=[Print(5_000, SYMBOL, D("600"))])

    world.act(5_000)

    assert theirs(world)[0].state is Reported.FILLED
    assert world.troubled_until_ms == 5_000 + LEARNT_MS


def test_somebody_protects_our_position_with_a_stop_of_their_own() -> None:
    world = world_of(["people.own_stop"])

    world.act(LOOKS_MS)

    (row,) = theirs(world)
    assert (row.side, row.type, row.qty, row.state) == (Side.SELL, OrderType.STOP_LIMIT, FIVE, Reported.WORKING)
    assert row.trigger_price is not None and row.limit_price == row.trigger_price - 5 * TICK
    assert 2 * TICK <= LAST - row.trigger_price <= 40 * TICK


@pytest.mark.parametrize(
    ("kind", "cancelled", "left"),
    [("people.cancel_stop", STOP, ENTRY), ("people.cancel_entry", ENTRY, STOP)],
)
def test_somebody_cancels_an_order_of_ours(kind: str, cancelled: Order, left: Order) -> None:
    """PRO-03."""
    world = world_of([kind])

    world.act(LOOKS_MS)

    assert ours(world, cancelled.client_id).state is Reported.CANCELLED
    assert ours(world, left.client_id).state is Reported.WORKING
    assert world.troubled_until_ms == LOOKS_MS


@pytest.mark.parametrize(("kind", "sign"), [("people.tighten_stop", 1), ("people.loosen_stop", -1)])
def test_somebody_moves_our_stop_and_never_across_the_market(kind: str, sign: int) -> None:
    """PRO-07."""
    moves = set()
    for seed in range(12):
        world = world_of([kind], seed=str(seed))
        world.act(LOOKS_MS)
        row = ours(world, STOP.client_id)
        assert (row.state, row.qty) == (Reported.WORKING, FIVE) and row.trigger_price is not None
        moves.add(sign * (row.trigger_price - LEVEL) / TICK)

    assert len(moves) > 3 and all(1 <= ticks <= 10 for ticks in moves)


def test_a_stop_right_below_the_market_is_not_tightened() -> None:
    close = Order("SBIN-20261120-S1", SYMBOL, Purpose.STOP, Side.SELL, OrderType.STOP, FIVE, trigger_price=LAST - TICK)
    world = world_of(["people.tighten_stop"], orders=[BOUGHT, close])

    world.act(LOOKS_MS)

    assert ours(world, STOP.client_id).trigger_price == LAST - TICK


def test_people_go_home_and_nothing_happens_after_the_last_fault() -> None:
    world = world_of(KINDS)
    world.fates.over = True

    world.act(10 * UNTIL_MS)

    assert (theirs(world), world.fates.struck, world.next_ms()) == ([], [], None)


def test_the_same_seed_makes_the_same_people() -> None:
    def day(seed: str) -> list[str]:
        fates = Fates(seed, dict.fromkeys(KINDS, 0.1))
        prints = [Print(100 * nth, SYMBOL, LAST + TICK * (nth * 7 % 40)) for nth in range(1, 600)]
        world = World(GRID, prints, fates, origin_ms=0, speed=120.0)
        schedule(world, fates, UNTIL_MS)
        world.act(150)
        for order in (BOUGHT, STOP, ENTRY):
            world.submit(order)
        world.act(UNTIL_MS)
        return [*map(repr, fates.struck), *map(repr, world.engine.orders()), *map(repr, world.engine.fills())]

    assert day("1") == day("1") != day("2")
