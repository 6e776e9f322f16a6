"""A selection of the crash matrix (`python -m simulation.crash` is all of it): the real runner, kill -9, the real venue.

Each point is a process killed at a seam, started again until the day has ended, and judged by what the venue truly did. Time
that a crowded machine takes is borne here; the matrix itself holds the recovery to its bound.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from simulation.crash import chosen, once_more, said, tabled
from simulation.crash_day import SCRIPTS
from simulation.crash_mutants import MUTANTS
from simulation.crash_one import Gate, Outcome, Point, run_point
from simulation.crash_run import Seam, parse
from simulation.oracle import Violation
from state.snapshot import Phase
from tests import runs
from tests.brokers.doubles import lost, ok
from tests.harness import Story
from tests.test_stop_and_restart import again, in_position, start

pytestmark = pytest.mark.timeout(400)
JOBS = 5  # each mostly waits
CALM = (
    Point("submit:before:1"),  # an entry that was journaled and not sent
    Point("submit:after:2", dead_s=0.4),  # sent, answered, and not journaled
    Point("submit:before:4"),  # a stop, of a position that is bare until the settle window is over
    Point("replace:after:3", dead_s=1.5),  # trailed, and stopped out while nobody was there
    Point("commit:after:70", dead_s=0.4),
    Point("cancel:after:1"),  # the cutoff
    Point("orders:before:1"),  # nothing recovered yet
    Point("submit:after:4", "submit:before:1"),  # killed again while it protects
)
HOSTILE = (
    Point("submit:after:1", script="hostile"),  # an entry whose reply was lost
    Point("submit:after:3", dead_s=0.4, script="hostile"),  # an entry that arrives 1.2 s later
    Point("submit:after:6", script="hostile"),  # a stop whose reply comes too late
    Point("replace:after:2", dead_s=0.4, script="hostile"),  # an amend that was acknowledged and not done
    Point("positions:after:4", dead_s=1.5, script="hostile"),  # the user has sold, and it was seen once
    Point("cancel:before:2", script="hostile"),  # an entry that fills at its cancel
    Point("cancel:after:3", dead_s=0.4, script="hostile"),  # a stop that fills at its cancel
    Point("submit:after:8", script="hostile"),  # an exit whose reply was lost
    Point("submit:after:6", "commit:after:2", 0.4, "hostile"),  # killed again while it asks about it
)


def killed(points: list[Point], folder: Path) -> list[Outcome]:
    gate = Gate(2)
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(lambda point: run_point(point, folder, gate), points))


def test_killed_at_any_line_and_started_again_nothing_is_doubled_lost_or_left_bare(tmp_path: Path) -> None:
    """CRA-01, CRA-02, CRA-05, and the state of CRA-03, CRA-09: what the last start knows is what the venue did.

    On the hostile day too, where each order meets a fault: UNK-01, UNK-07, PRO-08, REC-05, EXI-04.
    """
    at_random = random.randrange(1, 300)
    points = [*CALM, *HOSTILE, *(Point(str(at_random), dead_s=0.4, script=script) for script in SCRIPTS)]

    outcomes = killed(points, tmp_path)

    told = "\n".join([*map(said, outcomes), tabled(outcomes), f"at random: seam {at_random}"])
    wrong = [[violation for violation in outcome.violations if not violation.slow] for outcome in outcomes]
    assert wrong == [[]] * len(points), told
    twice = [len(outcome.killed_at) for outcome in outcomes if outcome.point.second is not None]
    assert twice == [2, 2], told
    missed = [outcome for outcome in outcomes if not outcome.killed_at]
    assert len(missed) <= len(points) // 4, told  # a late seam may not be there when the market was missed


def test_started_after_the_close_it_still_waits_for_the_exit_that_it_sends(tmp_path: Path) -> None:
    """CRA-02: the crash matrix found it gone with code 7 while its exit was on the way."""
    with start(tmp_path, close="09:19:00", cutoff="1m") as running:
        venue = in_position(running)
        running.kill()
        runs.until(lambda: venue.session_ms() >= runs.session_ms("09:24:10"), "the patience of the killed start is over")
        with again(tmp_path) as second:
            assert second.ends() == 0
    (trade,) = runs.report(tmp_path)["trades"]
    assert (trade["qty"], trade["exit_order"]) == ("10", "SBIN-20261120-X2")


def test_killed_while_flat_and_started_after_the_close_it_still_writes_its_report(tmp_path: Path) -> None:
    """CRA-02: the crash matrix found a day without a report: killed after its last trip, started again when all was over."""
    quiet = [("09:15:00", "1500.00")]
    with start(tmp_path, close="09:19:00", cutoff="1m", hold=quiet, rest=quiet) as running:
        running.says("entries on again")
        venue = runs.VenueBooks(tmp_path)
        running.kill()
        runs.until(lambda: venue.session_ms() >= runs.session_ms("09:19:00"), "the market has closed")
        with again(tmp_path) as second:
            assert second.ends() == 0
    assert [(row["symbol"], row["exits"]) for row in runs.report(tmp_path)["symbols"]] == [("SBIN", 0), ("TECHM", 0)]


def test_a_runner_that_acts_before_it_says_so_is_caught(tmp_path: Path) -> None:
    """CRA-01: the same seam, with the intent left out of the journal. `python -m simulation.crash` has more of these."""
    name = "act-before-saying"

    (outcome,) = killed([Point(MUTANTS[name].kill_at, mutant=name)], tmp_path)

    assert "I3" in {wrong.rule for wrong in outcome.violations}, said(outcome)


def test_a_selection_takes_first_and_last_of_every_kind_and_one_at_random() -> None:
    seams = [Seam(number, "submit", "before", number, "desk-0") for number in (1, 2, 3)]
    seams += [Seam(4, "commit", "after", 1, "desk-0")]

    firsts = [point.first for point in chosen("calm", seams, 5, random.Random(1))]

    assert firsts[:4] == ["commit:after:1", "submit:before:1", "submit:before:3", "submit:before:2"]
    assert firsts[4] in ("1", "2", "3", "4")
    assert len(firsts) == 5


def test_what_was_only_too_slow_is_run_again_alone_and_nothing_else_is() -> None:
    late, lost = Violation("I4", "SBIN", "10 without a stop", slow=True), Violation("I2", "SBIN", "not reported")

    def outcome(point: Point, *wrong: Violation) -> Outcome:
        return Outcome(point, [], 2, 9_000 if wrong else 400, 300, 8_000, [*wrong])

    one = outcome(Point("1"), late)
    others = [outcome(Point("2"), lost), outcome(Point("3"), late, lost), outcome(Point("4", mutant="forget-the-stop"), late)]

    assert list(once_more([one, *others], outcome)) == [*others, replace(outcome(Point("1")), slow_before=9_000)]


def test_a_seam_is_named_by_its_number_or_by_its_kind() -> None:
    assert (parse("17"), parse("submit:after:2")) == (17, ("submit", "after", 2))
    for wrong in ("submit", "submit:during:1", "quotes:after:1", "submit:after:x"):
        with pytest.raises(ValueError):
            parse(wrong)


def test_a_stop_that_was_never_sent_is_sent_anew_as_soon_as_that_is_proved() -> None:
    """CRA-02: recovery takes the settle window and no more than two seconds. The second look that proves it comes at once."""
    story = Story()
    story.venue.script("submit", ok, lost)
    story.tick("730.65", "731.15")
    unsure, since_ms = story.s, story.clock.now_ms()

    while story.s.unprotected_ms is not None and story.clock.now_ms() - since_ms < 60_000:
        story.wait(50)
    bare_ms = story.clock.now_ms() - since_ms

    assert (unsure.phase, story.s.phase) == (Phase.UNKNOWN, Phase.LONG)
    assert 30_000 <= bare_ms <= 31_000
