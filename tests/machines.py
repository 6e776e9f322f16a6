"""How long hypothesis plays: the same few hundred plays with every test run, thousands of fresh ones with LONG_TESTS=1."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

LONG = bool(os.environ.get("LONG_TESTS"))
TIMES = 50


def play(examples: int, steps: int = 50) -> settings:
    return settings(
        max_examples=examples * TIMES if LONG else examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not LONG,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
