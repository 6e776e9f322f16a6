"""A toy program on the scheduler, and the hash of what became of it: to be the same in every process and on every Python.

Run as a program it prints one hash for each policy. Standard library only, so that any Python at hand can run it.
"""

from __future__ import annotations

import hashlib
import sys
from collections import deque

from simulation.policies import AtRandom, Pct, scheduler
from simulation.scheduler import Policy

Trace = list[tuple[int, str, int]]  # step, who went on from there, monotonic ms


def toy(policy: Policy) -> tuple[Trace, list[str]]:
    """Three threads, a lock, a queue behind a condition, an event, waits that end by themselves. What each step and item was."""
    s = scheduler(policy)
    trace: Trace = []
    said: list[str] = []
    s.on_step = lambda: trace.append((s.steps, s.present.name, s.mono_ms))
    queue: deque[str] = deque()
    lock, ready, stop = s.lock(), s.condition(), s.event()

    def make() -> None:
        for n in range(4):
            s.sleep(7 * n)
            with ready:
                queue.append(f"{s.current()}{n}")
                ready.notify()

    def take() -> None:
        while not stop.is_set() or queue:
            with ready:
                if not queue:
                    ready.wait(0.01)
                item = queue.popleft() if queue else "nothing"
            with lock:
                said.append(f"{s.mono_ms} {s.current()} {item}")

    def main() -> None:
        threads = [s.thread("maker", make), s.thread("a", take), s.thread("b", take)]
        for thread in threads:
            thread.start()
        threads[0].join()
        s.wait(stop, 0.05)
        stop.set()
        for thread in threads:
            thread.join()

    s.run(main)
    return trace, said


def trace_hash(policy: Policy) -> str:
    return hashlib.sha256(repr((*toy(policy), policy.switches)).encode()).hexdigest()


def main() -> None:
    for seed in ("7", "eight"):
        print(trace_hash(AtRandom(seed, 0.3)), trace_hash(Pct(seed, 3, 60)))


if __name__ == "__main__":
    sys.exit(main())
