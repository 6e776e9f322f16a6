"""From tick to order: how long the runner takes from a price to its order at the venue, journal commit included.

    python bench/latency.py [--json] [--orders 300]

Four processes. The venue (bench/venue.py) sends ticks over a real loopback WebSocket and stamps each order when its last byte has
come in over HTTP. The runner is the real command, `live_runner.py run`, with all its threads: feed, poll, clock, desks, log,
console, main. The yardstick (bench/bare.py) is one warm `requests` session which posts the same body to the same server. They
take turns, order, post, order, post, so that both see the same load of the machine. This process only says whose turn it is. The
journal is written below data/, on the disk that it is on in earnest; a disk that others keep busy shows in `bare_commit_ms`.

tick_to_order_ms        the venue sends the frame -> the venue has the whole order
bare_post_ms            the yardstick calls post -> its answer is there, as `requests` is usually timed
bare_post_received_ms   the yardstick calls post -> the venue has the whole body: the part that the two have in common
bare_commit_ms          the yardstick writes as much durably to the same disk: what no journal can be faster than
start_to_first_tick_s   the runner is started -> the order that its first decided tick caused is at the venue

Times of two processes are compared, so the clock must be one for the whole machine: `perf_counter` is CLOCK_MONOTONIC on Linux,
mach_absolute_time on macOS and QueryPerformanceCounter on Windows, all three counted from the start of the machine. Orders keep
to the adapter's own rate limit of 6 entries per second, so a run of 300 takes a minute. `peak_rss_mb` is null on Windows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import venue

ROOT = Path(__file__).resolve().parents[1]
RATIO_AT_MOST = 1.6
RATIO_AIM = 1.25
SYMBOLS = [f"STOCK{number}" for number in range(20)]
TURN_S = 0.185  # one order and one post: the adapter lets 6 entries through in a second
IMPORTS = 3
STOP_S = 30.0
CONFIG = """
mode: live
broker: {{name: openalgo, rest_url: "http://127.0.0.1:{rest}", ws_url: "ws://127.0.0.1:{ws}", exchange: NSE, product: MIS}}
session: {{timezone: {zone}, open: "00:00", close: "24:00", entry_delay: 0s, exit_before_close: 1h, weekends: true}}
strategies:
  - name: eighty_twenty
    params: {{trigger_window: 23h, max_entries: 100000}}
    symbols:
{rows}
risk: {{max_open_positions: {count}, signal_slots: {count}}}
"""
ROW = "      - {{symbol: {symbol}, qty: 5, entry_price: {entry}, trigger_price: {trigger}, setup_date: {day}}}"


class Turn(NamedTuple):
    """What one order and one post took, in ms. The names are those of the report."""

    tick_to_order_ms: float
    bare_post_ms: float
    bare_post_received_ms: float
    bare_commit_ms: float


class Child:
    """A process that answers lines with lines."""

    def __init__(self, *command: str) -> None:
        self.started_ns = time.perf_counter_ns()
        self._process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark has ended early; its last words are above")
        return line

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.hear())
        if found.get("unwanted"):
            raise SystemExit(f"{found['unwanted']} orders that no tick had asked for")
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def write_config(folder: Path, ports: dict[str, Any]) -> Path:
    """A session that is open all day long, with noon near now, whatever the time is."""
    now = datetime.now(UTC)
    ahead = 12 - now.hour
    day = now.astimezone(timezone(timedelta(hours=ahead))).date() - timedelta(days=1)
    rows = "\n".join(ROW.format(symbol=symbol, entry=venue.ENTRY, trigger=venue.TRIGGER, day=day) for symbol in SYMBOLS)
    path = folder / "config.yaml"
    zone = f"Etc/GMT{-ahead:+d}"  # their signs are the other way round
    path.write_text(CONFIG.format(rest=ports["rest"], ws=ports["ws"], zone=zone, rows=rows, count=len(SYMBOLS)), encoding="utf-8")
    return path


@contextmanager
def runner(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The real command, though its venue is not and its key is none. Yields the process and when it was started."""
    command = [sys.executable, str(ROOT / "live_runner.py")]
    environ = os.environ | {"OPENALGO_API_KEY": "benchmark"}
    with (config.parent / "console.txt").open("wb") as console:
        started_ns = time.perf_counter_ns()
        process = subprocess.Popen(
            [*command, "run", "--live", "--config", str(config)], stdout=console, stderr=console, env=environ
        )
        try:
            yield process, started_ns
            subprocess.run([*command, "stop", "--config", str(config)], check=True, stdout=subprocess.DEVNULL, env=environ)
            code = process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()
    if code != 0:
        raise SystemExit(
            f"the runner ended with code {code}:\n{(config.parent / 'console.txt').read_text(errors='replace')[-2000:]}"
        )


@contextmanager
def child(*command: str) -> Iterator[Child]:
    started = Child(*command)
    try:
        yield started
    finally:
        started.end()


@contextmanager
def scratch() -> Iterator[Path]:
    (ROOT / "data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "data", prefix="latency-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def measure(orders: int) -> dict[str, object]:
    with scratch() as folder, child(str(ROOT / "bench" / "venue.py"), *SYMBOLS) as shop:
        ports = shop.facts()
        with runner(write_config(folder, ports)) as (process, started_ns):
            shop.tell(f"first {SYMBOLS[0]}")
            first = shop.facts()
            url = f"http://127.0.0.1:{ports['rest']}/api/v1/placeorder"
            with child(str(ROOT / "bench" / "bare.py"), url, str(folder / "bare.db")) as bare:
                bare.tell(first["body"])
                turns = [turn(shop, bare, SYMBOLS[number % len(SYMBOLS)]) for number in range(1, orders + WARM + 1)][WARM:]
            peak = peak_rss_mb(process.pid)
    return report(turns, (first["arrived_ns"] - started_ns) / 1e9, peak)


WARM = 8  # turns that do not count: every desk has made its connection


def turn(shop: Child, bare: Child, symbol: str) -> Turn:
    """One order and one post."""
    until_ns = time.perf_counter_ns() + int(TURN_S * 1e9)
    shop.tell(f"tick {symbol}")
    order = shop.facts()
    rest(until_ns - int(TURN_S / 2 * 1e9))
    shop.tell("post")
    shop.facts()
    bare.tell("")
    before_ns, after_ns, commit_ns = map(int, bare.hear().split())
    arrived_ns = shop.facts()["arrived_ns"]
    rest(until_ns)
    took_ns = (order["arrived_ns"] - order["sent_ns"], after_ns - before_ns, arrived_ns - before_ns, commit_ns)
    return Turn(*(ns / 1e6 for ns in took_ns))


def rest(until_ns: int) -> None:
    time.sleep(max(0, until_ns - time.perf_counter_ns()) / 1e9)


def peak_rss_mb(pid: int) -> float | None:
    """Of the runner, at the end of the run. On macOS: the largest child of this process, which is the runner."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)
    except OSError:
        return None


def import_s() -> float:
    """Importing live_runner in a new interpreter, median of a few."""
    code = "import time; at = time.perf_counter(); import live_runner; print(time.perf_counter() - at)"
    runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True) for _ in range(IMPORTS)]
    return round(statistics.median(float(run.stdout) for run in runs), 3)


def report(turns: Sequence[Turn], first_tick_s: float, peak_mb: float | None) -> dict[str, object]:
    times = {name: percentiles([getattr(turn, name) for turn in turns]) for name in Turn._fields}
    order, post = times["tick_to_order_ms"], times["bare_post_ms"]
    ratio = round(order["p50"] / post["p50"], 3)
    return {
        **times,
        "ratio_p50": ratio,
        "ratio_p99": round(order["p99"] / post["p99"], 3),
        "ratio_at_most": RATIO_AT_MOST,
        "ratio_aim": RATIO_AIM,
        "orders": len(turns),
        "peak_rss_mb": peak_mb,
        "import_s": import_s(),
        "start_to_first_tick_s": round(first_tick_s, 3),
        "ok": ratio <= RATIO_AT_MOST,
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        name: round(ordered[min(int(part * len(ordered)), len(ordered) - 1)], 3) for name, part in (("p50", 0.5), ("p99", 0.99))
    }


def table(found: dict[str, Any]) -> str:
    lines = [f"{name:22} p50 {found[name]['p50']:7.3f}   p99 {found[name]['p99']:7.3f}" for name in Turn._fields]
    lines.append(f"ratio p50 {found['ratio_p50']} (at most {RATIO_AT_MOST}, aim {RATIO_AIM}), p99 {found['ratio_p99']}")
    lines.append(
        f"{found['orders']} orders; import {found['import_s']} s, start to first tick {found['start_to_first_tick_s']} s"
    )
    lines.append(f"peak memory {found['peak_rss_mb']} MB")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="from tick to order at the venue, against a bare requests post")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--orders", type=int, default=300)
    arguments = parser.parse_args()
    found = measure(arguments.orders)
    print(json.dumps(found, indent=1) if arguments.json else table(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
