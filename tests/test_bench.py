"""The benchmarks run to their end and say what they promise to say. How fast they are is not a matter for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[1] / "bench"
SLOW = 1  # the exit code of a benchmark that ran well and missed its aim


def bench(name: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark prints as JSON. It may miss its aims here, but nothing else may go wrong."""
    command = [sys.executable, str(BENCH / name), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, SLOW), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0)
    return found


def test_the_latency_benchmark_follows_each_tick_to_its_order() -> None:
    found = bench("latency.py", "--orders", "3")

    assert list(found) == [
        "tick_to_order_ms",
        "bare_post_ms",
        "bare_post_received_ms",
        "bare_commit_ms",
        "ratio_p50",
        "ratio_p99",
        "ratio_at_most",
        "ratio_aim",
        "orders",
        "peak_rss_mb",
        "import_s",
        "start_to_first_tick_s",
        "ok",
    ]
    assert found["orders"] == 3
    for name in ("tick_to_order_ms", "bare_post_ms", "bare_post_received_ms", "bare_commit_ms"):
        assert 0 < found[name]["p50"] <= found[name]["p99"]
    assert found["bare_post_received_ms"]["p50"] < found["bare_post_ms"]["p50"]


def test_the_tick_benchmark_compares_its_three_clients_for_each_number_of_symbols() -> None:
    found = bench("ticks.py", "--symbols", "10,20", "--frames", "500", "--repeats", "1")

    assert [(row["symbols"], sorted(row)) for row in found["results"]] == [
        (count, ["cpu_ratio", "decode", "no_op", "pipeline", "ratio", "symbols"]) for count in (10, 20)
    ]
    assert {"ratio", "ratio_at_least", "ratio_aim", "many_symbols_cost", "ok"} <= set(found)


def test_the_scale_benchmark_counts_what_was_doubled_or_lost() -> None:
    found = bench("scale.py", "--trips", "100", "--orders", "40")

    assert list(found) == [
        "seed",
        "lost_replies",
        "late_accepts",
        "too_late",
        "trips_by_stream",
        "trips_by_poll",
        "pending_sweep",
        "durable_adds",
        "ok",
    ]
    assert (found["lost_replies"]["orders_at_venue"], found["trips_by_poll"]["missing"]) == (40, 0)
