"""The scheduler: one thread at a time, the same run for the same seed, every way there is, and the end of a process anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise, permutations
from math import comb
from pathlib import Path

import pytest

from simulation.policies import Again, AtRandom, Pct, every_way, scheduler
from simulation.scheduler import Policy, Scheduler, Stuck
from tests.simulation.trace_hash import toy, trace_hash

ROOT = Path(__file__).resolve().parents[2]
Program = Callable[[Scheduler, list[str]], dict[str, Callable[[], None]]]


def run(policy: Policy, program: Program) -> list[str]:
    """The threads of `program` begin together; main waits until the last has ended. What they wrote down."""
    s = scheduler(policy)
    said: list[str] = []

    def main() -> None:
        bodies = program(s, said)
        running = set(bodies)

        def body(name: str) -> None:
            bodies[name]()
            running.discard(name)
            if not running:
                s.wake(running)

        for name in bodies:
            s.thread(name, lambda name=name: body(name)).begin()  # type: ignore[misc]
        s.block(running, None)

    s.run(main)
    return said


def steppers(**steps: int) -> Program:
    """Each thread does one thing more than it has steps, a step between any two."""

    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        def body(name: str) -> None:
            said.append(name)
            for _ in range(steps[name]):
                s.step()
                said.append(name)

        return {name: (lambda name=name: body(name)) for name in steps}  # type: ignore[misc]

    return program


def ways(**steps: int) -> list[tuple[str, ...]]:
    """Every order of what the steppers do, counted from outside."""
    letters = [name for name, count in steps.items() for _ in range(count + 1)]
    return sorted(set(permutations(letters)))


def preemptions(order: tuple[str, ...]) -> int:
    """How often a thread is left that has more to do."""
    return sum(1 for n, (name, after) in enumerate(pairwise(order)) if name != after and name in order[n + 1 :])


# -- the same run ----------------------------------------------------------------------------------------------------------------


def hashes(python: str, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "tests.simulation.trace_hash"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def other_pythons() -> Iterator[str]:
    """Another version from 3.11 on: on the path, or installed beside the one that runs this."""
    beside = Path(sys.base_prefix).parent
    for minor in range(11, 20):
        name = f"python3.{minor}"
        if minor == sys.version_info.minor:
            continue
        found = [shutil.which(name), *(str(path) for path in sorted(beside.glob(f"*/bin/{name}")))]
        for path in filter(None, found):
            works = subprocess.run([path, "-c", "pass"], capture_output=True, timeout=30, check=False)
            if works.returncode == 0:
                yield path
                break


def test_the_same_seed_makes_the_same_run_whatever_the_hash_seed_of_the_process() -> None:
    assert hashes(sys.executable, "1") == hashes(sys.executable, "2")


def test_the_same_seed_makes_the_same_run_on_another_python() -> None:
    other = next(other_pythons(), None)
    if other is None:
        pytest.skip("no second Python from 3.11 on is installed here")

    assert hashes(other, "3") == hashes(sys.executable, "4")


def test_another_seed_makes_another_run() -> None:
    assert len({trace_hash(AtRandom(str(seed), 0.3)) for seed in range(20)}) > 15


@pytest.mark.parametrize("policy", [AtRandom("x", 0.4), Pct("x", 3, 80)], ids=["random", "priorities"])
def test_the_recorded_switches_make_the_run_again(policy: Policy) -> None:
    recorded = toy(policy)

    assert policy.switches
    assert toy(Again(policy.switches)) == recorded


def test_without_switches_each_thread_goes_on_until_it_must_wait() -> None:
    assert run(Again({}), steppers(a=2, b=1)) == ["a", "a", "a", "b", "b"]


# -- every way there is ----------------------------------------------------------------------------------------------------------


def test_without_a_bound_every_order_is_made_once() -> None:
    made = [tuple(run(policy, steppers(a=3, b=3))) for policy in every_way(99)]

    assert len(made) == comb(8, 4)
    assert sorted(made) == ways(a=3, b=3)


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_with_a_bound_exactly_the_orders_with_so_few_preemptions_are_made(bound: int) -> None:
    made = [tuple(run(policy, steppers(a=2, b=2, c=1))) for policy in every_way(bound)]

    assert sorted(made) == [order for order in ways(a=2, b=2, c=1) if preemptions(order) <= bound]


def lost_update(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
    """Both read, both write: wrong when one reads between the other's reading and writing, in the last of three rounds."""
    count = [0]

    def body() -> None:
        for _ in range(3):
            before = count[0]
            s.step()
            count[0] = before + 1
            s.step()
        said.append(str(count[0]))

    return {"a": body, "b": body}


def test_one_preemption_finds_a_lost_update_and_none_does_not() -> None:
    assert all(run(policy, lost_update)[-1] == "6" for policy in every_way(0))
    assert any(run(policy, lost_update)[-1] != "6" for policy in every_way(1))


def test_priorities_find_a_lost_update_within_fifty_seeds() -> None:
    found = [seed for seed in range(50) if run(Pct(str(seed), 2, 14), lost_update)[-1] != "6"]

    assert found


def test_priorities_find_what_takes_two_changes_in_order() -> None:
    """Depth 2: b must see the first flag and not yet the second, and only the middle of a's six steps allows that."""

    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        place = [0]

        def a() -> None:
            for _ in range(6):
                place[0] += 1
                s.step()

        def b() -> None:
            before = place[0]
            s.step()
            said.append("found" if (before, place[0]) == (0, 3) else "not")

        return {"a": a, "b": b}

    odds = 2 * 9**2  # one in threads * steps ^ changes, or better

    assert any(run(Pct(str(seed), 2, 9), program) == ["found"] for seed in range(4 * odds))


# -- locks and waits -------------------------------------------------------------------------------------------------------------


def test_two_locks_taken_crosswise_are_a_deadlock_that_names_who_waits_for_whom() -> None:
    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        left, right = s.lock(), s.lock()

        def body(first: object, second: object) -> None:
            with first, second:  # type: ignore[attr-defined]
                said.append(s.current())

        return {"a": lambda: body(left, right), "b": lambda: body(right, left)}

    stuck = []
    for policy in every_way(1):
        try:
            run(policy, program)
        except Stuck as error:
            stuck.append(str(error))

    assert "deadlock: main waits for set; a waits for SimLock held by b; b waits for SimLock held by a" in stuck
    assert run(Again({}), program) == ["a", "b"]


def test_threads_that_only_turn_in_circles_are_a_livelock() -> None:
    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        def body() -> None:
            while True:
                s.step()

        return {"a": body, "b": body}

    with pytest.raises(Stuck, match="^livelock: main waits for set; a waits for its turn; b waits for its turn$"):
        run(Again({}), program)


def test_time_moves_only_when_everybody_waits_and_then_to_the_next_end() -> None:
    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        def body(pause_ms: int) -> None:
            for _ in range(3):
                s.sleep(pause_ms)
                said.append(f"{s.current()} {s.monotonic_ms()}")

        return {"a": lambda: body(100), "b": lambda: body(150)}

    for policy in every_way(99):
        said = run(policy, program)

        assert sorted(said) == ["a 100", "a 200", "a 300", "b 150", "b 300", "b 450"]
        assert [int(line[2:]) for line in said] == [100, 150, 200, 300, 300, 450]


def test_a_lock_lets_one_in_and_its_holder_again_where_it_is_an_rlock() -> None:
    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        lock = s.rlock()

        def body() -> None:
            with lock:
                said.append(f"{s.current()} in")
                with lock:
                    s.step()
                said.append(f"{s.current()} out")

        return {"a": body, "b": body}

    one_by_one = (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])
    assert all(run(policy, program) in one_by_one for policy in every_way(99))


def test_a_waiter_is_woken_once_or_its_time_runs_out() -> None:
    def program(s: Scheduler, said: list[str]) -> dict[str, Callable[[], None]]:
        ready = s.condition()

        def wait() -> None:
            with ready:
                said.append(f"{ready.wait(1.0)} at {s.monotonic_ms()}")

        def tell() -> None:
            s.sleep(10)
            with ready:
                ready.notify()

        return {"a": wait, "b": wait, "teller": tell}

    assert all(sorted(run(policy, program)) == ["False at 1000", "True at 10"] for policy in every_way(2))


# -- the end of a process --------------------------------------------------------------------------------------------------------


def dying(at: int) -> tuple[list[str], int]:
    """Three threads with effects, `finally` and `except` among them, killed at the k-th step; how much was done by then."""
    s = scheduler(AtRandom("7", 0.5))
    said: list[str] = []
    lock = s.lock()
    done_by_then = -1

    def watch() -> None:
        nonlocal done_by_then
        if s.steps == at:
            done_by_then = len(said)
            s.crash()

    def body() -> None:
        try:
            for n in range(4):
                s.step()
                said.append(f"{s.current()} {n}")
        except Exception:
            said.append("caught")
        finally:
            with lock:
                said.append(f"{s.current()} left")

    def main() -> None:
        threads = [s.thread(name, body) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        said.append("all ended")

    s.on_step = watch
    s.run(main)
    return said, done_by_then


def test_after_a_crash_at_any_step_nothing_more_is_done() -> None:
    whole, never = dying(at=0)
    assert (len(whole), whole[-1], never) == (16, "all ended", -1)

    step, died = 1, []
    while True:
        said, done_by_then = dying(at=step)
        if done_by_then < 0:
            break
        assert said == whole[:done_by_then]
        died.append(done_by_then)
        step += 1

    assert len(died) > 16
    assert (died[0], died[-1]) == (0, 14)  # before anything, and before the last of the three had left


def test_the_end_of_main_ends_all_threads_as_in_a_process() -> None:
    s = scheduler(Again({}))
    said: list[str] = []

    def forever() -> None:
        while True:
            s.sleep(10)
            said.append(f"at {s.monotonic_ms()}")

    def main() -> None:
        s.thread("a", forever).start()
        s.sleep(35)

    s.run(main)

    assert said == ["at 10", "at 20", "at 30"]
    assert s.tasks == []


def test_what_main_raises_comes_out() -> None:
    s = scheduler(Again({}))

    def main() -> None:
        raise LookupError("of main")

    with pytest.raises(LookupError, match="of main"):
        s.run(main)


def test_a_thousand_runs_borrow_the_same_few_threads() -> None:
    before = threading.active_count()

    for _ in range(1_000):
        run(Again({}), steppers(a=1, b=1))

    assert threading.active_count() - before <= 6
