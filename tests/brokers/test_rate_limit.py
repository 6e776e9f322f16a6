"""The brake: never more than the limit in any window, urgent first, in the order of asking. Virtual time, but for one test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from brokers.rate_limit import Lane, RateLimiter
from state.clock import SystemClock, VirtualClock


def test_a_burst_of_41_at_20_per_second_takes_two_seconds_and_no_window_holds_more_than_20() -> None:
    """NET-03: a refilling bucket with its burst lets 40 through around the first second."""
    clock = VirtualClock(5_000)
    limiter = RateLimiter(20, 1, clock)

    times = [_taken(limiter, clock, Lane.URGENT) for _ in range(41)]

    assert times == [5_000] * 20 + [6_001] * 20 + [7_002]


def test_the_window_slides_also_under_uneven_asking() -> None:
    """NET-03: one early, nineteen late in the first second; the second's first must still respect the late ones."""
    clock = VirtualClock(0)
    limiter = RateLimiter(20, 1, clock)
    times = [_taken(limiter, clock, Lane.URGENT)]
    clock.advance_to(900)
    times += [_taken(limiter, clock, Lane.URGENT) for _ in range(40)]

    most = max(sum(1 for time in times if start <= time <= start + 1000) for start in range(times[-1] + 1))

    assert most == 20


def test_exits_find_room_at_once_after_polls_and_entries_have_used_up_theirs() -> None:
    """NET-02: the normal lane stops short of the limit."""
    clock = VirtualClock(0)
    limiter = RateLimiter(8, 1, clock)

    normal = [limiter.acquire(Lane.NORMAL, 0) for _ in range(8)]
    urgent = [limiter.acquire(Lane.URGENT, 0) for _ in range(3)]

    assert normal == [True] * 6 + [False] * 2
    assert urgent == [True, True, False]


def test_an_urgent_caller_waits_for_one_window_at_most() -> None:
    """NET-02: at most one second."""
    clock = VirtualClock(0)
    limiter = RateLimiter(4, 1, clock, reserve=0)
    for _ in range(4):
        limiter.acquire(Lane.NORMAL, 0)

    assert limiter.acquire(Lane.URGENT, 5)
    assert clock.monotonic_ms() == 1_001


def test_no_turn_in_time_is_false_and_takes_nothing() -> None:
    clock = VirtualClock(0)
    limiter = RateLimiter(1, 1, clock)

    answers = [limiter.acquire(Lane.URGENT, 0), limiter.acquire(Lane.URGENT, 0.4)]
    gave_up_ms = clock.monotonic_ms()
    clock.advance_to(1_001)

    assert (answers, gave_up_ms) == ([True, False], 400)
    assert limiter.acquire(Lane.URGENT, 0)


def test_who_waits_is_served_urgent_first_and_in_the_order_of_asking() -> None:
    """NET-02"""
    clock = _HandClock()
    limiter = RateLimiter(1, 1, clock, reserve=0)
    assert limiter.acquire(Lane.NORMAL, 0)
    served: list[str] = []
    lock = threading.Lock()

    def ask(name: str, lane: Lane) -> None:
        assert limiter.acquire(lane, 60)
        with lock:
            served.append(name)

    asking = [("poll 1", Lane.NORMAL), ("poll 2", Lane.NORMAL), ("exit 1", Lane.URGENT), ("exit 2", Lane.URGENT)]
    threads = []
    for name, lane in asking:
        threads.append(threading.Thread(target=ask, args=(name, lane), daemon=True))
        threads[-1].start()
        clock.until(lambda: clock.waiting == len(threads))  # asked before the next one is
    for count in range(1, 5):
        clock.advance(1_001)
        clock.until(partial(_holds, served, count))
    for thread in threads:
        thread.join(5)

    assert served == ["exit 1", "exit 2", "poll 1", "poll 2"]


def test_a_newcomer_does_not_pass_who_waits_in_the_same_lane() -> None:
    clock = _HandClock()
    limiter = RateLimiter(1, 1, clock, reserve=0)
    assert limiter.acquire(Lane.NORMAL, 0)
    waiting = threading.Thread(target=limiter.acquire, args=(Lane.NORMAL, 60), daemon=True)
    waiting.start()
    clock.until(lambda: clock.waiting == 1)

    VirtualClock.advance(clock, 1_001)  # there is room now, and the one who waits has not woken up yet
    passed = limiter.acquire(Lane.NORMAL, 0)
    clock.advance(0)
    waiting.join(5)

    assert (passed, waiting.is_alive()) == (False, False)


def test_four_real_threads_share_one_limit() -> None:
    """NET-03 with real threads, in small: 21 at 10 per 100 ms take 200 ms at least."""
    clock = SystemClock()
    limiter = RateLimiter(10, 0.1, clock, reserve=0)
    times: list[int] = []
    lock = threading.Lock()
    left = iter(range(21))

    def ask() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            assert limiter.acquire(Lane.NORMAL, 5)
            with lock:
                times.append(clock.monotonic_ms())

    started_ms = clock.monotonic_ms()
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert len(times) == 21
    assert 200 <= max(times) - started_ms < 2_000


@pytest.mark.parametrize(("limit", "per_s", "reserve"), [(0, 1, None), (5, 0, None), (5, 1, 5), (5, 1, -1)])
def test_a_rate_that_lets_nothing_through_is_refused(limit: int, per_s: float, reserve: int | None) -> None:
    with pytest.raises(ValueError):
        RateLimiter(limit, per_s, VirtualClock(), reserve)


def _holds(served: list[str], count: int) -> bool:
    return len(served) == count


def _taken(limiter: RateLimiter, clock: VirtualClock, lane: Lane) -> int:
    assert limiter.acquire(lane, 60)
    return clock.monotonic_ms()


class _HandClock(VirtualClock):
    """Virtual time moved by the test alone; `wait` blocks the calling thread until it has moved far enough."""

    def __init__(self) -> None:
        super().__init__(0)
        self._moved = threading.Condition()
        self.waiting = 0

    def advance(self, ms: int) -> None:
        with self._moved:
            super().advance(ms)
            self._moved.notify_all()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        with self._moved:
            until_ms = self.monotonic_ms() + int(timeout_s * 1000)
            self.waiting += 1
            self._moved.wait_for(lambda: event.is_set() or self.monotonic_ms() >= until_ms, timeout=5)
            self.waiting -= 1
        return event.is_set()

    def until(self, true: Callable[[], bool]) -> None:
        real, pause = SystemClock(), threading.Event()
        deadline_ms = real.monotonic_ms() + 5_000
        while not true():
            assert real.monotonic_ms() < deadline_ms, "it did not happen"
            real.wait(pause, 0.002)
            with self._moved:
                self._moved.notify_all()  # an event may have been set
