"""What a developer runs: `python tasks.py check|test|cover|model|races|mutants|cases|crash|conformance|bench`.

Windows has no make.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BENCHMARKS = ("ticks", "latency", "scale")


def call(*command: str) -> int:
    print("+", *command, flush=True)
    return subprocess.call([sys.executable, "-m", *command], cwd=ROOT)


def check(arguments: Sequence[str]) -> int:
    """Format, lint, types and import arrows."""
    steps = (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",), ("pytest", "tests/test_layers.py"))
    return max(call(*step) for step in steps)


def test(arguments: Sequence[str]) -> int:
    """All tests, on all cores; further arguments go to pytest."""
    return call("pytest", "-n", "auto", *arguments)


def cover(arguments: Sequence[str]) -> int:
    """Line and branch coverage of state/, which must be at least 95 %."""
    return call(
        "pytest", "-n", "auto", "--cov=state", "--cov-branch", "--cov-report=term-missing", "--cov-fail-under=95", *arguments
    )


def model(arguments: Sequence[str]) -> int:
    """Breadth-first check of the decision core; --json, --size small|large|all."""
    from simulation.model import main

    return main(list(arguments))


def races(arguments: Sequence[str]) -> int:
    """Every schedule of two threads with at most two preemptions, over the real symbol, desk and poller; --json, --no-mutants."""
    from simulation.small import main

    return main(list(arguments))


def mutants(arguments: Sequence[str]) -> int:
    """Runners broken on purpose, which the simulated sessions must catch; --json, --jobs N, --only WORDS, --sessions N."""
    from simulation.sim_mutants import main

    return main(list(arguments))


def cases(arguments: Sequence[str]) -> int:
    """The recorded 80-20 days of ../shared/data, by replay and (with --sockets) over real sockets."""
    from simulation.cases import main

    return main(list(arguments))


def crash(arguments: Sequence[str]) -> int:
    """SIGKILL before and after every journal commit and broker call of a calm and a hostile day; --points N for a sample."""
    from simulation.crash import main

    return main(list(arguments))


def conformance(arguments: Sequence[str]) -> int:
    """What every broker does, adapter by adapter, as a table; written to docs/conformance.md too."""
    from tests.brokers.conformance_table import main

    return main(list(arguments))


def bench(arguments: Sequence[str]) -> int:
    """Ticks, latency and scale, as JSON."""
    return max(subprocess.call([sys.executable, str(ROOT / "bench" / f"{name}.py"), "--json"]) for name in BENCHMARKS)


TASKS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check,
    "test": test,
    "cover": cover,
    "model": model,
    "races": races,
    "mutants": mutants,
    "cases": cases,
    "crash": crash,
    "conformance": conformance,
    "bench": bench,
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS:
        print(__doc__)
        for name, task in TASKS.items():
            print(f"  {name:11} {task.__doc__}")
        return 2
    sys.path.insert(0, str(ROOT))
    return TASKS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
