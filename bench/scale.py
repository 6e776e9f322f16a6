"""Nothing doubled, nothing lost, at scale: lost replies, late accepts, fast round trips under faults, pending orders.

    python bench/scale.py [--json] [--trips 10000] [--orders 1000] [--seed 1]

The whole pipeline of a session (SymbolState, Outbox, Desk, Reports, Poller) trades against the matching engine in virtual time,
with seeded faults; what was recorded is compared with a ledger that is made from the venue's own fills and shares no code with
ours. Lags are virtual: from the moment at which the venue first tells of a fill until it was applied, and until it was journaled.
Only the wall times and the durable commits are this machine's.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.market import Market, as_trip, lives, reference  # noqa: E402
from bench.rough import ROUGH, Dial, lose  # noqa: E402
from brokers.breaker import Breaker  # noqa: E402
from state.clock import SystemClock, VirtualClock  # noqa: E402
from state.journal import Journal  # noqa: E402
from state.orders import Order  # noqa: E402
from state.symbol_state import SymbolState, Work  # noqa: E402
from tests.harness import POLL_MS, Story  # noqa: E402
from tests.state.builders import BUY, SELL, TEN, make_rules  # noqa: E402

D = Decimal
STREAM_AIM_MS = 250
POLL_AIM_MS = 2_000
SWEEP_AIM_MS = 1_000
ADD_AIM_MS = 5
TRIPS_OF_A_SYMBOL = 20
SETTLE_MS = 30_000


def round_trips(trips: int, seed: int, *, stream: bool, dial: Dial = ROUGH) -> dict[str, Any]:
    """Fast trades under faults: each recorded once, to the last digit, and how soon."""
    started = time.perf_counter()
    market = Market(max(trips // TRIPS_OF_A_SYMBOL, 2), min(trips, TRIPS_OF_A_SYMBOL), dial, seed, stream=stream)
    market.play()
    truth = Counter(reference(market.venue.engine.fills()))
    ours = Counter(as_trip(trade) for trade in market.recorded())
    unlearnt = sum(len(waiting) for waiting in market.rough.unlearnt.values())
    by_stream, others = market.lags("stream"), [lag for lag, told in market.applied.values() if told != "stream"]
    return {
        "trips": sum(truth.values()),
        "missing": sum((truth - ours).values()),
        "extra": sum((ours - truth).values()),
        "fills": len(market.venue.engine.fills()),
        "fills_not_learnt": unlearnt,
        "orders": len(market.venue.submitted),
        "orders_doubled": market.doubled(),
        "orders_unowned": market.unowned(),
        "symbols_not_finished": len(market._open),
        "lock_violations": len(market.guard.violations),
        "applied_lag_ms_by_stream": quantiles(by_stream),
        "applied_lag_ms_by_poll": quantiles(others),
        "journaled_lag_ms": quantiles(list(market.journaled.values())),
        "life_ms": quantiles(lives(market.venue.engine.fills())),
        "virtual_s": (market.clock.now_ms() - TEN) // 1000,
        "wall_s": round(time.perf_counter() - started, 1),
    }


def lost_replies(orders: int, seed: int, dial: Dial | None = None) -> dict[str, Any]:
    """Every reply to a new order is lost: as many orders at the venue as were decided, all of them found by their looks."""
    started = time.perf_counter()
    symbols = max(orders // 20, 1)
    dial = dial or Dial(reply_lost=1.0)
    market = Market(symbols, orders // symbols // 2, dial, seed, stream=False, breaker=Breaker(VirtualClock(), failures=1 << 30))
    market.play()
    intents = {work_order(work).client_id for work in market.works if work_order(work) is not None}  # type: ignore[union-attr]
    return {
        "orders_decided": len(intents),
        "orders_at_venue": len(market.venue.submitted),
        "doubled": market.doubled(),
        "unowned": market.unowned(),
        "symbols_not_finished": len(market._open),
        "halted": sum(state.snapshot.halted is not None for state in market.states.values()),
        "virtual_s": (market.clock.now_ms() - TEN) // 1000,
        "wall_s": round(time.perf_counter() - started, 1),
    }


def work_order(work: Work) -> Order | None:
    """The order that this decision asked for anew."""
    known = {order.client_id for order in work.before.live_orders()}
    return next((order for order in work.after.live_orders() if order.client_id not in known), None)


def too_late(orders: int, seed: int) -> dict[str, Any]:
    """Orders that arrive after the settle window: each symbol halts, and nothing is sent again."""
    rng = random.Random(seed)
    doubled = halted = sent_after = told = 0
    for number in range(orders):
        story = Story((BUY, SELL)[number % 2], stream=False, venue={"client_ids": bool(number % 4 < 2)})
        story.venue.script("submit", lose)
        story.tick("730.65")
        order = story.s.entry
        assert order is not None
        story.wait(SETTLE_MS + rng.randint(5_000, 90_000))
        story.venue.arrive(order)
        story.polls(2)
        sent = story.calls("submit")
        story.tick("731.00", "730.65", "731.00", "730.65")
        sent_after += story.calls("submit") - sent
        doubled += len(story.venue.submitted) - 1
        halted += (story.s.halted or "").startswith("QUARANTINED")
        told += any("QUARANTINED" in text for text in story.alarms)
    return {"orders": orders, "halted": halted, "told": told, "doubled": doubled, "sent_again": sent_after}


def pending_sweep(orders: int, call_ms: int = 20) -> dict[str, Any]:
    """One look at so many resting orders: calls, and time with each call answered in `call_ms`."""
    story = Story(symbols=tuple(f"S{number}" for number in range(orders)))
    for symbol in story.states:
        story.tick("730.65", symbol=symbol, every_ms=0)
    story.poll()
    story.clock.advance(POLL_MS)
    before = len(story.venue.calls)
    started = time.perf_counter()
    answered = story.poller.sweep()
    ours_ms = (time.perf_counter() - started) * 1000
    calls = len(story.venue.calls) - before
    return {
        "pending": len(story.venue.working()),
        "answered": answered,
        "calls": calls,
        "ours_ms": round(ours_ms, 1),
        "sweep_ms": round(ours_ms + calls * call_ms, 1),
    }


def durable_adds(pending: int, sample: int = 300) -> dict[str, Any]:
    """What it costs to write one more entry down, early and with `pending` of them: bytes, and ms on this machine's disk."""
    works: list[Work] = []

    class Pile:
        def put(self, symbol: str, work: Work) -> None:
            works.append(work)

    clock = VirtualClock(TEN)
    story = Story()
    for number in range(pending + sample):
        symbol = f"S{number}"
        rules = make_rules(instrument=msgspec.structs.replace(story.instruments["SBIN"], symbol=symbol))
        state = SymbolState(msgspec.structs.replace(story.s, symbol=symbol), rules, Pile(), clock)
        state.tick(D("730.65"), TEN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with Journal.open(path, clock=SystemClock()) as journal:
            journal.begin("20261120", mode="practice", account="A", day="2026-11-20")
            early = _timed(journal, works[:sample])
            journal.commit_many(works[sample:pending])
            size = _bytes(journal)
            late = _timed(journal, works[pending:])
            grown = (_bytes(journal) - size) / sample
    return {
        "pending": pending,
        "bytes_each": round(grown),
        "first_ms": quantiles(early),
        "at_pending_ms": quantiles(late),
        "growth": round(sorted(late)[sample // 2] / sorted(early)[sample // 2], 2),
    }


def _timed(journal: Journal, works: list[Work]) -> list[float]:
    times = []
    for work in works:
        started = time.perf_counter()
        journal.commit(work)
        times.append(round((time.perf_counter() - started) * 1000, 3))
    return times


def _bytes(journal: Journal) -> int:
    """Of all records' bodies."""
    found: int = journal._connection.execute("select coalesce(sum(length(body)), 0) from records").fetchone()[0]
    return found


def quantiles(values: list[Any]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)],
        "max": ordered[-1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trips", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    found = {
        "seed": args.seed,
        "lost_replies": lost_replies(args.orders, args.seed),
        "late_accepts": lost_replies(args.orders, args.seed, Dial(arrives_late=1.0)),
        "too_late": too_late(max(args.orders // 10, 4), args.seed),
        "trips_by_stream": round_trips(args.trips, args.seed, stream=True),
        "trips_by_poll": round_trips(args.trips, args.seed, stream=False),
        "pending_sweep": pending_sweep(args.orders),
        "durable_adds": durable_adds(args.orders * 10),
    }
    found["ok"] = ok(found)
    print(json.dumps(found, indent=None if args.json else 2))
    return 0 if found["ok"] else 1


def ok(found: dict[str, Any]) -> bool:
    lost, late, beyond = found["lost_replies"], found["late_accepts"], found["too_late"]
    trips = (found["trips_by_stream"], found["trips_by_poll"])
    exact = all(
        not any(run[name] for name in ("missing", "extra", "fills_not_learnt", "orders_doubled", "symbols_not_finished"))
        for run in trips
    )
    return (
        all(run["orders_decided"] == run["orders_at_venue"] and not run["doubled"] and not run["unowned"] for run in (lost, late))
        and beyond["halted"] == beyond["orders"]
        and not beyond["doubled"]
        and not beyond["sent_again"]
        and exact
        and trips[0]["applied_lag_ms_by_stream"]["p99"] <= STREAM_AIM_MS
        and all(run["applied_lag_ms_by_poll"]["p99"] <= POLL_AIM_MS for run in trips)
        and found["pending_sweep"]["sweep_ms"] <= SWEEP_AIM_MS
        and found["durable_adds"]["at_pending_ms"]["p99"] <= ADD_AIM_MS
    )


if __name__ == "__main__":
    sys.exit(main())
