"""The clock seam."""

from __future__ import annotations

import threading
import time

import pytest

from state.clock import ScaledClock, SystemClock, VirtualClock


def test_the_machines_clocks_are_the_machines() -> None:
    clock = SystemClock()
    before = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000

    now = clock.now_ms(), clock.monotonic_ms()

    assert before <= now <= (time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
    assert clock.speed == 1


def test_waiting_ends_with_the_event_or_the_time() -> None:
    clock, event = SystemClock(), threading.Event()

    assert clock.wait(event, 0.001) is False
    event.set()
    assert clock.wait(event, 60.0) is True


def test_a_scaled_clock_runs_session_time_faster_and_leaves_monotonic_time_alone() -> None:
    anchor_ms = time.time_ns() // 1_000_000 - 1_000  # the session began a real second ago
    clock = ScaledClock(1_000_000, anchor_ms, 60.0)
    mono_before = time.monotonic_ns() // 1_000_000

    session_ms, mono_ms = clock.now_ms(), clock.monotonic_ms()

    elapsed_ms = time.time_ns() // 1_000_000 - anchor_ms
    assert 1_000_000 + 60_000 <= session_ms <= 1_000_000 + 60 * (elapsed_ms + 1)
    assert mono_before <= mono_ms <= time.monotonic_ns() // 1_000_000
    assert clock.speed == 60


def test_two_scaled_clocks_of_the_same_three_numbers_agree() -> None:
    anchor_ms = time.time_ns() // 1_000_000
    venue, runner = ScaledClock(0, anchor_ms, 60.0), ScaledClock(0, anchor_ms, 60.0)

    assert abs(venue.now_ms() - runner.now_ms()) < 60 * 250


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_a_session_does_not_run_backwards(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        ScaledClock(0, 0, speed)


def test_a_virtual_clock_moves_only_when_told_to() -> None:
    clock = VirtualClock(5_000)
    clock.advance(250)
    clock.advance_to(6_000)
    clock.advance_to(5_500)

    assert (clock.now_ms(), clock.monotonic_ms()) == (6_000, 6_000)


def test_waiting_on_a_virtual_clock_moves_it_and_never_blocks() -> None:
    clock, event = VirtualClock(), threading.Event()

    first = clock.wait(event, 0.5)
    event.set()
    second = clock.wait(event, 60.0)

    assert (first, second, clock.now_ms()) == (False, True, 500)
