"""How many ticks per second the tick thread takes, and how much of that is ours.

    python bench/ticks.py [--json] [--symbols 10,100,1000,5000] [--frames 40000] [--repeats 7]

Three clients read the same frames from a real loopback WebSocket whose server runs in another process: one whose handler does
nothing, one that decodes, and the whole pipeline (decode, price gate, SymbolState with its lock). They take turns in one run, and
the first ticks of each symbol are not counted. Speeds are medians; ratios compare the fastest run of each client, the one that
the rest of the machine disturbed least. All three are the Feed, with its login, its liveness checks and its
reading loop; they differ in what is done with a frame once it is read. CPU time of the reading thread is given too: on a busy
machine it is the steadier number.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import frames  # noqa: E402

from brokers.base import FillRow, OrderRow  # noqa: E402
from brokers.channel import Limits, Missed, Sink  # noqa: E402
from brokers.feed import Feed  # noqa: E402
from brokers.openalgo_stream import OpenAlgoStream  # noqa: E402
from state.clock import SystemClock  # noqa: E402
from state.instrument import Instrument  # noqa: E402
from state.rules import Rules  # noqa: E402
from state.session import Session  # noqa: E402
from state.sizing import fixed  # noqa: E402
from state.snapshot import Snapshot  # noqa: E402
from state.symbol_state import SymbolState, Work  # noqa: E402
from strategies.eighty_twenty import EightyTwenty  # noqa: E402

RATIO_AT_LEAST = 0.67
RATIO_AIM = 0.8
COST_AT_MOST = 1.7  # many symbols against few
SWITCH_INTERVAL_S = 0.0005
Stopwatch = tuple[float, float]  # wall and thread CPU seconds


def now() -> Stopwatch:
    return time.perf_counter(), time.thread_time()


class Silence:
    """Outbox and listener in one: starts the watch at the marker, stops it when the connection ends.

    `handler` takes the place of all that the Feed does with a frame, from the marker on; None leaves the Feed as it trades.
    """

    def __init__(self, handler: Callable[[bytes], object] | None) -> None:
        self._handler = handler
        self.feed: Feed | None = None
        self.began: Stopwatch = (0.0, 0.0)
        self.ended: Stopwatch = (0.0, 0.0)
        self.alarms: list[str] = []

    def put(self, symbol: str, work: Work) -> None:
        pass

    def order_update(self, row: OrderRow) -> None:
        if self._handler is not None:
            setattr(self.feed, "frame", self._handler)  # noqa: B010
        self.began = now()

    def fill(self, row: FillRow) -> None:
        raise AssertionError(row)

    def venue_open(self, why_not: str | None) -> None:
        raise AssertionError(why_not)

    def order_unclear(self) -> None:
        pass

    def connected(self) -> None:
        assert self.feed is not None
        self.feed.release()

    def disconnected(self, reason: str) -> None:
        assert self.feed is not None
        self.ended = now()
        self.feed.stop()

    def entries_off(self, symbol: str, reason: str) -> None:
        pass

    def entries_on(self, symbol: str) -> None:
        pass

    def missed(self, symbol: str, missed: Missed) -> None:
        pass

    def alarm(self, text: str) -> None:
        self.alarms.append(text)


def run(url: str, symbols: list[str], frame_count: int, handler: Callable[[bytes], object] | None) -> Stopwatch:
    """One client from login to close; the time that the counted frames took."""
    silence, clock = Silence(handler), SystemClock()
    sinks: dict[str, Sink] = {symbol: symbol_state(symbol, silence, clock).tick for symbol in symbols}
    stream = OpenAlgoStream(url, "bench", "NSE")
    feed = silence.feed = Feed(stream, sinks, silence, clock, Limits(late_ms=600_000))
    feed.run()
    expected = frames.WARM_ROUNDS * len(symbols) + (frame_count if handler is None else 0)
    counts = feed.counts()
    if counts["ticks"] != expected or counts["held"] or silence.alarms:
        raise SystemExit(f"{expected} ticks expected, but {counts}, alarms {silence.alarms}")
    return silence.ended[0] - silence.began[0], silence.ended[1] - silence.began[1]


def symbol_state(symbol: str, outbox: Silence, clock: SystemClock) -> SymbolState:
    """A symbol that waits for its trigger, far below."""
    instrument = Instrument(symbol, "NSE", Decimal("0.05"))
    at_ms = clock.now_ms()
    session = Session(
        day=date(2026, 11, 20),
        open_ms=at_ms - 60_000,
        entry_from_ms=at_ms,
        cutoff_ms=at_ms + 3_600_000,
        close_ms=at_ms + 7_200_000,
    )
    setup = EightyTwenty.Setup(symbol, Decimal("2.00"), Decimal("1.50"), date(2026, 11, 19))
    strategy = EightyTwenty(EightyTwenty.Params(), setup, instrument, session)
    rules = Rules(instrument, strategy, fixed(Decimal(5)), "20261120", session.entry_from_ms, session.cutoff_ms)
    return SymbolState(Snapshot(symbol), rules, outbox, clock)


def in_a_thread(act: Callable[[], Stopwatch]) -> Stopwatch:
    """As in the runner: not on the main thread."""
    results: list[Stopwatch] = []
    thread = threading.Thread(target=lambda: results.append(act()), name="ticks")
    thread.start()
    thread.join()
    if not results:
        raise SystemExit("the client failed")
    return results[0]


@contextmanager
def venue() -> Iterator[int]:
    """The shouting server, in another process; yields its port."""
    command = [sys.executable, str(ROOT / "bench" / "frames.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def measure(port: int, symbol_count: int, frame_count: int, repeats: int) -> dict[str, list[Stopwatch]]:
    """The times of each client with one symbol count. The clients take turns."""
    url = f"ws://127.0.0.1:{port}/?symbols={symbol_count}&frames={frame_count}"
    symbols = frames.symbols(symbol_count)
    decode = OpenAlgoStream(url, "bench", "NSE").receive
    handlers: dict[str, Callable[[bytes], object] | None] = {"no_op": lambda frame: None, "decode": decode, "pipeline": None}
    times: dict[str, list[Stopwatch]] = {name: [] for name in handlers}
    for _ in range(repeats):
        for name, handler in handlers.items():
            times[name].append(in_a_thread(partial(run, url, symbols, frame_count, handler)))
    return times


def row(symbol_count: int, frame_count: int, times: dict[str, list[Stopwatch]]) -> dict[str, object]:
    return {
        "symbols": symbol_count,
        **{name: figures(frame_count, took) for name, took in times.items()},
        "ratio": round(fastest(times["no_op"]) / fastest(times["pipeline"]), 3),
        "cpu_ratio": round(min(cpu for _, cpu in times["no_op"]) / min(cpu for _, cpu in times["pipeline"]), 3),
    }


def figures(frame_count: int, took: list[Stopwatch]) -> dict[str, float]:
    wall_s, cpu_s = statistics.median(wall for wall, _ in took), statistics.median(cpu for _, cpu in took)
    return {
        "ticks_per_s": round(frame_count / wall_s),
        "fastest_ticks_per_s": round(frame_count / fastest(took)),
        "cpu_us_per_tick": round(cpu_s / frame_count * 1e6, 3),
    }


def fastest(took: list[Stopwatch]) -> float:
    return min(wall for wall, _ in took)


def report(times: dict[int, dict[str, list[Stopwatch]]], arguments: argparse.Namespace) -> dict[str, object]:
    """`ratio` is over all symbol counts: time of the no-op runs against the pipeline runs. The cost of many symbols is CPU per
    tick, most against fewest."""
    rows = [row(count, arguments.frames, took) for count, took in times.items()]
    bare, whole = (sum(fastest(took[name]) for took in times.values()) for name in ("no_op", "pipeline"))
    ratio = round(bare / whole, 3)
    few, many = (min(cpu for _, cpu in times[count]["pipeline"]) for count in (min(times), max(times)))
    return {
        "frames": arguments.frames,
        "repeats": arguments.repeats,
        "frame_bytes": len(frames.payload("STOCK10", "1301.05", 1_795_175_281_009)),
        "prices": frames.source(),
        "results": rows,
        "ratio": ratio,
        "ratio_at_least": RATIO_AT_LEAST,
        "ratio_aim": RATIO_AIM,
        "many_symbols_cost": round(many / few, 3),
        "many_symbols_cost_at_most": COST_AT_MOST,
        "ok": ratio >= RATIO_AT_LEAST and many <= COST_AT_MOST * few,
    }


def table(found: dict[str, object]) -> str:
    lines = [f"{'symbols':>8} {'no-op/s':>10} {'decode/s':>10} {'pipeline/s':>10} {'ratio':>6}   CPU us per tick"]
    for row in found["results"]:  # type: ignore[attr-defined]
        cpu = " / ".join(f"{row[name]['cpu_us_per_tick']:.2f}" for name in ("no_op", "decode", "pipeline"))
        speeds = " ".join(f"{row[name]['ticks_per_s']:>10,.0f}" for name in ("no_op", "decode", "pipeline"))
        lines.append(f"{row['symbols']:>8} {speeds} {row['ratio']:>6.2f}   {cpu}")
    lines.append(f"ratio over all {found['ratio']} (at least {RATIO_AT_LEAST}, aim {RATIO_AIM})")
    lines.append(f"most symbols cost {found['many_symbols_cost']} x the fewest (at most {COST_AT_MOST})")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="ticks per second over a real loopback WebSocket")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--symbols", default="10,100,1000,5000")
    parser.add_argument("--frames", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with venue() as port:
        counts = [int(count) for count in arguments.symbols.split(",")]
        results = {count: measure(port, count, arguments.frames, arguments.repeats) for count in counts}
    found = report(results, arguments)
    print(json.dumps(found) if arguments.json else table(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
