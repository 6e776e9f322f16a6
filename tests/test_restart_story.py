"""What a restart makes of what the venue did meanwhile, of an edited file, and of a journal that is gone or of yesterday."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from brokers.base import OrderRow
from brokers.switchboard import Switchboard
from ops.config import calendar_of, load
from ops.plan import edited_while_held, plan_day
from state.events import Restarted
from state.orders import Side, Status
from state.reports import Reported
from state.sizing import fixed
from state.snapshot import Phase, Snapshot
from strategies import STRATEGIES
from tests.brokers.doubles import done_but_lost, lost
from tests.harness import Story
from tests.state.builders import SYMBOL, D, Plan, both_sides


def dead_for(story: Story, ms: int, *prices: str) -> None:
    """Nothing of ours happens, while prices trade at the venue; then the process comes back."""
    story.clock.advance(ms)
    story.silent_tick(*prices)
    story.restart()


@both_sides
def test_a_level_that_price_gapped_through_while_dead_is_an_exit_at_once_at_the_level_of_the_journal(side: Side) -> None:
    """CRA-04: killed between the fill and the stop; back after 3 minutes, five rupees below it. A bounce is no reason to hope."""
    story = Story(side, stream=False)
    story.tick("730.65")
    story.silent_tick("731.15")
    story.venue.script("submit", lost)  # the process dies as its stop leaves
    story.poll()
    level = story.s.stop_price

    dead_for(story, 180_000, "725.00")
    restored = story.s.stop_price
    story.wait(31_000)  # the settle window: the stop may yet have arrived
    story.tick("725.00", "725.05")
    story.polls(1)

    assert level == restored is not None
    assert (story.s.phase, story.net, story.book) == (Phase.FLAT, 0, [])
    [trade] = story.trades
    assert (trade.exit_price, story.s.entries_used) == (D("725.00") if side is Side.BUY else 2 * D("731.15") - D("725.00"), 1)
    sold = [name for name in story.sent() if name[0] in "SX"]
    assert sold == [f"X {side.opposite.value} 5"] or sold == [f"S {side.opposite.value} 5"]


@both_sides
def test_a_stop_the_exchange_took_away_while_dead_is_an_exit_that_says_why(side: Side) -> None:
    """CRA-04: nothing rests, the price is beyond the level, and the venue takes no stop on the wrong side of the market."""
    story = Story(side, stream=False, venue={"refuse_crossed_stops": True})
    story.hold()
    assert story.s.stop is not None and story.s.stop.venue_id is not None
    story.venue.end(story.s.stop.venue_id, Reported.CANCELLED)

    dead_for(story, 180_000, "725.00")
    back_ms = story.clock.now_ms()
    story.polls(1)
    story.tick("725.05", "725.10")
    story.polls(1)

    closing = next(work for work in story.works if work.after.closing)
    assert (story.s.phase, story.net, story.sent("X")) == (Phase.FLAT, 0, [f"X {side.opposite.value} 5"])
    assert closing.after.closing == "stop refused 3 times" and closing.event.now_ms - back_ms <= 2_500
    assert any(text.startswith("UNPROTECTED: stop refused") for text in story.alarms)


def test_an_order_that_is_not_found_for_twenty_seconds_after_a_restart_and_then_fills_belongs_to_its_intent() -> None:
    """CRA-06: never called cancelled, no re-entry though the trigger is touched again; position, stop and count are its own."""
    story = Story(stream=False, max_entries=3)
    story.venue.script("submit", lost)
    story.tick("730.65")
    assert story.s.entry is not None
    intent = story.s.entry

    dead_for(story, 1_000)
    words = []
    for _ in range(40):
        story.wait(500)
        story.tick("730.60", "730.65")
        words.append((story.s.entry.client_id if story.s.entry else None, story.s.entries_used))
    story.venue.arrive(intent)
    story.silent_tick("731.15")
    story.polls(2)

    assert set(words) == {(intent.client_id, 1)}
    assert (story.s.position, story.s.trip, story.s.entries_used) == (5, intent.client_id, 1)
    assert (story.book, story.sent("E")) == (["SELL STOP 5 @ 730.15"], ["E BUY 5"])


# -- journals of other days, or none -----------------------------------------------------------------------------------------


def test_without_its_journal_a_position_is_somebody_elses_and_is_told_and_left_alone() -> None:
    """CRA-12: nothing is adopted on the strength of a label; entries in the symbol wait for nobody's position to be closed."""
    story = Story()
    story.hold()
    before = (story.venue.book(), story.net, len(story.venue.submitted))

    story._build({SYMBOL: Snapshot(SYMBOL)})
    for state in story.states.values():
        state.apply(Restarted(mono_ms=story.clock.monotonic_ms(), now_ms=story.clock.now_ms()))
    story.polls(5)
    story.flatten("by hand")
    story.polls(2)

    assert (story.venue.book(), story.net, len(story.venue.submitted)) == before
    assert (story.s.position, story.s.foreign_qty, story.s.live_orders()) == (0, 5, [])
    assert [text for text in story.alarms if "FOREIGN" in text] == [
        "FOREIGN: the venue holds 5 of it that is not ours: left alone"
    ]


@pytest.mark.parametrize("ids", [True, False], ids=["labels", "no labels"])
def test_yesterdays_orders_match_nothing_of_today(ids: bool) -> None:
    """CRA-10: a DAY order of yesterday is still shown, with its id; today's first entry is its own order, and one."""
    story = Story(venue={"client_ids": ids}, max_entries=3)
    story.tick("730.65")
    [yesterday] = story.venue.working()
    old = msgspec.structs.replace(yesterday, client_id="SBIN-20261119-E0" if ids else None)
    story._build({SYMBOL: Snapshot(SYMBOL)})
    real = story.venue.orders

    def shown() -> list[OrderRow]:
        return [old if row.venue_id == old.venue_id else row for row in real()]

    setattr(story.venue, "orders", shown)  # noqa: B010
    story.polls(2)
    story.venue.script("submit", done_but_lost)
    story.tick("730.65")
    story.polls(1)

    assert story.s.entry is not None and story.s.entry.venue_id not in (None, old.venue_id)
    assert (story.s.entries_used, len(story.venue.working()), story.calls("cancel")) == (1, 2, 0)


# -- an edited file ------------------------------------------------------------------------------------------------------------


@both_sides
def test_a_position_keeps_its_stop_and_size_when_the_file_was_edited(side: Side) -> None:
    """CRA-11: quantity and stop distance of the file count from the next entry."""
    story = Story(side, max_entries=3)
    story.hold()
    level = story.s.stop_price
    edited = msgspec.structs.replace(
        story.rules[SYMBOL], size=fixed(D(7)), strategy=Plan(side, stop=D("700.00") if side is Side.BUY else D("760.00"))
    )
    story.rules[SYMBOL] = edited

    story.restart()
    story.polls(2)
    kept = (story.s.stop_price, story.book)
    story.tick("730.15")
    story.polls(1)
    story.tick("731.00", "730.65", "731.15")
    story.polls(1)

    assert kept == (level, [f"{side.opposite.value} STOP 5 @ {level}"])
    assert story.sent("E") == [f"E {side.value} 5", f"E {side.value} 7"]
    assert story.s.stop_price == (D("700.00") if side is Side.BUY else D("760.00"))


@pytest.mark.parametrize(
    ("qty", "told"),
    [
        (5, None),
        (7, "strategies[0].symbols[1].qty is 7, the position was entered with 5: the file counts from the next entry"),
    ],
)
def test_an_edited_quantity_is_named_by_its_path(tmp_path: Path, qty: int, told: str | None) -> None:
    """CRA-11"""
    story = Story()
    story.hold()
    row = "{symbol: %s, qty: %s, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}"
    rows = "".join(f"\n      - {row % (name, size)}" for name, size in (("ITC", 3), (SYMBOL, qty)))
    (tmp_path / "config.yaml").write_text(f"mode: practice\nstrategies:\n  - name: eighty_twenty\n    symbols:{rows}\n")
    config = load(tmp_path / "config.yaml", {}, STRATEGIES)
    calendar = calendar_of(config.session)
    planned = plan_day(config, calendar, calendar.at(story.clock.now_ms()).day)[1]

    assert edited_while_held(config, planned, story.s) == told
    assert edited_while_held(config, planned, Snapshot(SYMBOL)) is None


# -- an unanswered order that the stream knows first ---------------------------------------------------------------------------


class _Voice:
    def info(self, text: str) -> None:
        """Nobody listens."""

    warning = alarm = info

    def defect(self, text: str, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("age_ms", [1_000, 12_000])
def test_an_unknown_order_is_resolved_within_a_second_of_the_streams_word_without_ids_too(age_ms: int) -> None:
    """UNK-10: a row of an id nobody knows, while one of ours is looked for, has the book asked at the next pulse."""
    story = Story()
    board = Switchboard(story.states, story.clock, _Voice(), lambda work: None, story.reports)
    board.poller = story.poller
    story.venue.script("submit", lost)
    story.tick("730.65")
    assert story.s.entry is not None
    intent = story.s.entry
    story.wait(age_ms)
    doubtful = story.s.entry.status
    story.clock.advance(500)
    story.poll(positions=False)  # just looked, and found nothing
    story.venue.arrive(intent)
    [row] = story.venue.working()

    board.order_update(msgspec.structs.replace(row, client_id=None))
    story.wait(750)
    found = story.s.entry
    story.tick("731.15")

    assert doubtful is Status.UNKNOWN and found is not None
    assert (found.status, found.venue_id, story.sent("E")) == (Status.WORKING, row.venue_id, ["E BUY 5"])
    assert (story.s.position, story.book) == (Decimal(5), ["SELL STOP 5 @ 730.15"])
