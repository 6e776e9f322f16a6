"""The entry: one door, granted once, asked for once, taken back in time."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from ops.config_strategies import StrategyConfig, SymbolConfig
from ops.plan import plan_day
from state.commands import Submit
from state.events import Act, EntriesOff, EntriesOn, HaltAsked, ResumeAsked, Tick
from state.instrument import Instrument
from state.machine import why_not_carry_out
from state.orders import Order, OrderType, Purpose, Side, Status
from state.reports import Reported
from state.rules import STOPPING
from state.session import Session, named
from state.sizing import fixed
from state.snapshot import Phase, Snapshot
from state.strategy import Enter, Pass
from strategies import EightyTwenty
from tests.brokers.doubles import refused, unreachable
from tests.harness import Story
from tests.state.builders import (
    BUY,
    ENTRY,
    SELL,
    TEN,
    TRIGGER,
    D,
    Plan,
    Play,
    alarms,
    at,
    both_sides,
    ist,
    sent,
    told,
)

ALWAYS = {  # wants in at every price near the trigger, in position or not
    side: {
        at(side, p): Enter(side, OrderType.STOP_LIMIT, "again", ENTRY, ENTRY) for p in ("730.60", "730.65", "731.15", "731.20")
    }
    for side in Side
}


@both_sides
def test_the_trigger_takes_the_slot_before_anybody_is_asked(side: Side) -> None:
    play = Play(side)

    commands = play.tick("730.65")

    why = f"trigger touched at {at(side, '730.65')}"
    order = Order(
        client_id="SBIN-20261120-E0",
        symbol="SBIN",
        purpose=Purpose.ENTRY,
        side=side,
        type=OrderType.STOP_LIMIT,
        qty=D(5),
        limit_price=ENTRY,
        trigger_price=ENTRY,
        created_ms=TEN + 1_000,
        changed_ms=1_000,
        reason=why,
    )
    assert commands == [Submit(order)]
    assert play.s == Snapshot(
        "SBIN", version=1, entry=order, side=side, trip=order.client_id, entries_used=1, sequence=1, why=why
    )


@both_sides
def test_a_thousand_ticks_and_twenty_polls_at_the_trigger_make_one_entry(side: Side) -> None:
    """ENT-01."""
    story = Story(side, Plan(side, ALWAYS[side]))

    story.tick(*["730.65", "730.60"] * 500)
    story.polls(10)
    before = (story.sent(), story.s.entries_used, story.book)
    story.tick("731.15", *["730.65", "730.60"] * 500)
    story.polls(10)

    name = side.value
    assert before == ([f"E {name} 5"], 1, [f"{name} STOP_LIMIT 5 @ 731.15"])
    assert (story.sent("E"), story.s.entries_used, abs(story.s.position)) == ([f"E {name} 5"], 1, 5)
    assert story.net == 5 * side.sign


@both_sides
def test_the_fourth_entry_of_three_is_denied_even_after_a_restart(side: Side) -> None:
    """ENT-02."""
    story = Story(side)
    for _ in range(3):
        story.tick("730.65", "731.15", "731.20", "730.15", "731.00")
    assert (story.s.entries_used, story.s.phase) == (3, Phase.FLAT)

    story.tick("730.65")
    first = story.s.why
    story.tick("731.00")
    story.restart()
    story.tick("730.65")

    denied = "denied: entries used 3 of 3"
    assert (first, story.s.why, len(story.sent("E")), story.book) == (denied, denied, 3, [])


@both_sides
def test_five_partial_fills_are_one_entry(side: Side) -> None:
    """ENT-02."""
    story = Story(side)

    story.tick("730.65")
    for _ in range(5):
        story.tick("731.15", available=D(1))

    assert (story.s.position, story.s.entries_used, story.sent("E")) == (5 * side.sign, 1, [f"E {side.value} 5"])


@both_sides
def test_a_refused_entry_is_not_repeated_until_the_trigger_happens_anew(side: Side) -> None:
    """ENT-03."""
    story = Story(side)
    story.venue.script("submit", refused("insufficient funds"))

    story.tick(*["730.65"] * 100)
    story.polls(20)
    after_refusal = (story.calls("submit"), story.s.entry, story.s.why)
    story.tick("730.70", "730.65")

    assert after_refusal == (1, None, "entry refused: insufficient funds")
    assert (story.calls("submit"), story.book) == (2, [f"{side.value} STOP_LIMIT 5 @ 731.15"])


def test_a_halt_and_a_resume_do_not_stand_in_for_a_new_trigger() -> None:
    """ENT-03: nobody looked at the trigger while the symbol was halted."""
    play = Play()
    play.tick("730.65")
    play.refused(play.entry)
    play.on(HaltAsked(reason="a person", **play.when))
    play.tick("730.65")
    play.on(ResumeAsked(**play.when))

    at_once = play.tick("730.65")
    play.tick("730.70")
    anew = play.tick("730.65")

    assert (sent(at_once), sent(anew)) == ([], ["submit E BUY 5 @ 731.15"])


@both_sides
def test_an_unreachable_broker_hears_the_same_id_again_and_at_most_three_times(side: Side) -> None:
    """ENT-04."""
    story = Story(side)
    story.venue.always("submit", unreachable)

    story.tick(*["730.65"] * 12)
    story.wait(30_000)
    gave_up = (story.s.entry, story.s.why)
    story.tick(*["730.60"] * 12)
    story.polls(5)

    ids = [client_id for verb, client_id in story.venue.calls if verb == "submit"]
    assert ids == ["SBIN-20261120-E0"] * 4
    assert gave_up == (None, "entry not sent: connection refused")
    assert {o.client_id for w in story.works for o in w.after.live_orders()} == {"SBIN-20261120-E0"}
    assert (story.s.entries_used, story.venue.submitted) == (1, [])


def test_an_entry_that_reaches_the_broker_at_the_third_try_is_one_order() -> None:
    story = Story()
    story.venue.script("submit", unreachable, unreachable)

    story.tick("730.65")
    story.wait(2_000)

    assert (story.calls("submit"), story.book, story.s.entries_used) == (3, ["BUY STOP_LIMIT 5 @ 731.15"], 1)


@pytest.mark.parametrize("source", ["stream", "poll"])
@both_sides
def test_an_entry_rejected_by_the_exchange_frees_the_symbol_for_a_new_trigger(side: Side, source: str) -> None:
    """ENT-05."""
    story = Story(side, stream=source == "stream")
    story.tick("730.65")
    story.wait(2_000)
    asked = story.calls("orders") + story.calls("order")

    row = story.venue.end("1", Reported.REJECTED)
    if source == "stream":
        story.report(replace(row, reason="margin"), replace(row, reason="margin"))
    story.polls(2)
    told = [order.client_id for order in story.s.ended]
    story.tick("730.65")
    not_yet = story.sent("E")
    story.tick("731.00", "730.65")

    assert (told, not_yet) == (["SBIN-20261120-E0"], [f"E {side.value} 5"])
    assert story.calls("orders") + story.calls("order") - asked <= 3  # a look at a young order, then one for each poll
    assert story.sent("E") == [f"E {side.value} 5"] * 2


def _eighty_twenty(**params: Any) -> EightyTwenty:
    session = Session(date(2026, 11, 20), ist("09:15:00"), ist("09:16:00"), cutoff_ms=ist("14:45:00"), close_ms=ist("15:30:00"))
    setup = EightyTwenty.Setup("SBIN", ENTRY, TRIGGER, date(2026, 11, 19))
    return EightyTwenty(EightyTwenty.Params(**params), setup, Instrument("SBIN", "NSE", D("0.05")), session)


@pytest.mark.parametrize(
    ("touched", "orders", "why"),
    [
        ("09:15:30", 0, "denied: before the entry window"),
        ("09:16:00", 1, "trigger 730.65 touched at 730.65"),
        ("10:14:59", 1, "trigger 730.65 touched at 730.65"),
        ("10:15:01", 0, "trigger 730.65 was touched only after its window"),
    ],
)
def test_only_a_trigger_inside_its_window_enters(touched: str, orders: int, why: str) -> None:
    """ENT-06."""
    story = Story(strategy=_eighty_twenty(), start_ms=ist("09:15:00"))
    story.until(ist(touched))

    story.tick("730.65", every_ms=0)

    assert (len(story.sent()), story.s.why, story.s.armed) == (orders, why, False)


def test_a_trigger_of_the_first_minute_that_still_holds_enters_when_the_minute_is_over() -> None:
    """ENT-06."""
    story = Story(strategy=_eighty_twenty(), start_ms=ist("09:15:00"))
    story.until(ist("09:15:30"))
    story.tick("730.65", "730.60")
    story.clock.advance_to(ist("09:15:59"))
    story.tick("730.60", every_ms=999)
    before = story.sent()

    story.tick("730.60", every_ms=1)

    assert (before, story.sent()) == ([], ["E BUY 5"])


@both_sides
def test_a_second_entry_needs_an_empty_position_and_a_new_trigger(side: Side) -> None:
    """ENT-07."""
    story = Story(side, max_entries=2)
    story.hold()
    story.silent_tick("730.15")  # stopped out, and we have not heard of it
    story.states["SBIN"].tick(at(side, "730.20"), story.clock.now_ms())
    story.desk.drain()
    while_held = story.sent("E")
    story.poll()
    story.tick("731.00")
    story.tick("730.65")
    second = story.sent("E")
    story.tick("731.15", "731.20", "730.15", "731.00", "730.65")

    name = side.value
    assert (while_held, second, story.sent("E")) == ([f"E {name} 5"], [f"E {name} 5"] * 2, [f"E {name} 5"] * 2)
    assert (story.net, story.s.why) == (0, "denied: entries used 2 of 2")


@both_sides
def test_an_entry_that_price_jumps_over_is_not_chased(side: Side) -> None:
    """ENT-08."""
    story = Story(side)
    story.tick("730.65", "730.60", "735.00")
    story.wait(899_000)
    before = story.book

    story.wait(5_000)

    assert before == [f"{side.value} STOP_LIMIT 5 @ 731.15"]
    assert (story.sent(), story.book, story.s.entries_used, story.net) == ([f"E {side.value} 5"], [], 1, 0)
    assert (story.s.phase, story.s.why) == (Phase.FLAT, "entry cancelled (entry timeout)")


@both_sides
def test_cannot_cancel_complete_is_a_fill_to_look_up(side: Side) -> None:
    """ENT-09."""
    story = Story(side, stream=False)
    story.tick("730.65")

    def filled_first(act: Any) -> Any:
        story.silent_tick("731.15")
        return act()

    story.venue.script("cancel", filled_first)
    story.wait(900_000)
    known = story.s.position
    story.wait(1_000)

    assert known == 5 * side.sign
    assert story.book == [f"{side.opposite.value} STOP 5 @ {at(side, '730.15')}"]
    assert (story.calls("cancel"), story.sent("E")) == (1, [f"E {side.value} 5"])


@pytest.mark.parametrize(
    ("side", "planned", "sent_at"),
    [
        (BUY, "731.17", "731.20"),
        (SELL, "731.17", "731.15"),
        (BUY, "1200.03", "1200.05"),
        (SELL, "1200.03", "1200.00"),
    ],
)
def test_planned_prices_off_the_grid_leave_on_it(side: Side, planned: str, sent_at: str) -> None:
    """ENT-10: a stop entry away from the market, its limit with it."""
    wish = Enter(side, OrderType.STOP_LIMIT, "", D(planned), D(planned))
    play = Play(side, Plan(side, {at(side, "740.00"): wish}))

    play.tick("740.00")

    assert (play.entry.trigger_price, play.entry.limit_price) == (D(sent_at), D(sent_at))


@pytest.mark.parametrize(("side", "planned", "sent_at"), [(BUY, "731.17", "731.15"), (SELL, "731.17", "731.20")])
def test_a_limit_entry_never_pays_more_than_was_asked(side: Side, planned: str, sent_at: str) -> None:
    """ENT-10."""
    play = Play(side, Plan(side, {at(side, "740.00"): Enter(side, OrderType.LIMIT, "", D(planned))}))

    play.tick("740.00")

    assert (play.entry.trigger_price, play.entry.limit_price) == (None, D(sent_at))


def test_a_setup_is_good_for_the_next_trading_day_only() -> None:
    """ENT-11."""
    setups = [
        EightyTwenty.Setup(symbol, ENTRY, TRIGGER, day)
        for symbol, day in (("THU", date(2026, 11, 19)), ("FRI", date(2026, 11, 20)), ("MON", date(2026, 11, 23)))
    ]
    symbols = tuple(SymbolConfig(setup.symbol, fixed(D(5)), setup) for setup in setups)
    config: Any = SimpleNamespace(strategies=(StrategyConfig("eighty_twenty", EightyTwenty.Params(), 3, symbols),))
    calendar = named("XNSE", 60_000, 2_700_000)

    monday = {row.symbol: row.why_not for row in plan_day(config, calendar, date(2026, 11, 23))}
    wednesday = {row.symbol: row.why_not for row in plan_day(config, calendar, date(2026, 11, 25))}

    assert monday == {
        "THU": "setup of 2026-11-19 is good for 2026-11-20 only, not for 2026-11-23",
        "FRI": None,
        "MON": "setup of 2026-11-23 is good for 2026-11-25 only, not for 2026-11-23",
    }
    assert wednesday == {
        "THU": "setup of 2026-11-19 is good for 2026-11-20 only, not for 2026-11-25",
        "FRI": "setup of 2026-11-20 is good for 2026-11-23 only, not for 2026-11-25",
        "MON": None,
    }


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        ({"min_qty": D(6)}, "denied: quantity 5 is below the minimum 6"),
        ({"min_notional": D(4000)}, "denied: value 3655.75 is below the minimum 4000"),
        ({"lot_size": D(2)}, "denied: quantity 5 is not a multiple of the lot size 2"),
        ({"freeze_qty": D(4)}, "denied: quantity 5 is above the freeze quantity 4"),
    ],
)
@both_sides
def test_a_quantity_the_venue_would_not_take_is_denied_with_its_rule(side: Side, grid: dict[str, Decimal], why: str) -> None:
    """ENT-13."""
    play = Play(side, instrument=Instrument("SBIN", "NSE", D("0.05"), **grid))

    commands = [*play.tick("730.65"), *play.tick("730.65")]

    assert (commands, play.s.why, play.s.entries_used) == ([], why, 0)


def test_an_unknown_freeze_quantity_forbids_nothing() -> None:
    """ENT-13."""
    play = Play(instrument=Instrument("SBIN", "NSE", D("0.05"), freeze_qty=None))

    assert sent(play.tick("730.65")) == ["submit E BUY 5 @ 731.15"]


@both_sides
def test_a_stop_entry_that_price_has_passed_is_refused_and_nothing_takes_its_place(side: Side) -> None:
    """ENT-14."""
    story = Story(side, venue={"refuse_crossed_stops": True})

    def bounced(act: Any) -> Any:
        story.silent_tick("731.40")
        return act()

    story.venue.script("submit", bounced)
    story.tick("730.65")
    why = story.s.why
    story.tick("730.60")
    story.polls(3)
    held_back = story.calls("submit")
    story.tick("731.00", "730.65")

    beyond = "above" if side is BUY else "below"
    assert why == f"entry refused: trigger price 731.15 is not {beyond} the last price {at(side, '731.40')}"
    assert (held_back, story.sent()) == (1, [f"E {side.value} 5"])


# -- who may not enter ---------------------------------------------------------------------------------------------------------


def test_nothing_enters_from_the_cutoff_on() -> None:
    play = Play(cutoff_ms=TEN + 2_000)
    play.mono = 2_000

    commands = play.tick("730.65")

    assert (commands, play.s.entries_used, play.s.over) == ([], 0, True)
    assert play.s.why == "denied: after the cutoff"


def test_a_blocked_symbol_stays_armed_and_enters_when_it_is_free_again() -> None:
    play = Play()
    play.on(EntriesOff(source="feed", reason="ticks are stale", **play.when))
    blocked = play.tick("730.65")
    armed = (play.s.phase, play.s.why)
    play.on(EntriesOn(source="feed", **play.when))

    entered = play.tick("730.65")

    assert (blocked, armed) == ([], (Phase.ARMED, "waiting: ticks are stale"))
    assert (sent(entered), play.s.phase) == (["submit E BUY 5 @ 731.15"], Phase.ENTERING)


def test_a_trigger_that_lapses_while_the_symbol_is_blocked_is_forgotten() -> None:
    play = Play()
    play.on(EntriesOff(source="feed", reason="ticks are stale", **play.when))
    play.tick("730.65")

    play.tick("731.00")

    assert play.s.phase is Phase.FLAT


def test_two_blocks_are_lifted_one_by_one() -> None:
    play = Play()
    for source in ("poll", "feed", "feed"):
        play.on(EntriesOff(source=source, reason=f"{source} is down", **play.when))
    both = play.s.blocks
    play.on(EntriesOn(source="feed", **play.when))

    assert both == (("feed", "feed is down"), ("poll", "poll is down"))
    assert play.s.blocks == (("poll", "poll is down"),)


def test_stopping_takes_a_resting_entry_back_and_a_stale_feed_does_not() -> None:
    play = Play().enter()
    stale = play.on(EntriesOff(source="feed", reason="ticks are stale", **play.when))

    stopping = play.on(EntriesOff(source=STOPPING, reason="stopping", **play.when))

    assert (sent(stale), sent(stopping)) == ([], ["cancel E"])


@both_sides
def test_a_halt_takes_the_entry_back_and_nothing_enters_until_a_person_has_looked(side: Side) -> None:
    play = Play(side).enter()

    halted = play.on(HaltAsked(reason="by hand", **play.when))
    play.seen(play.entry, Reported.CANCELLED)
    at_trigger = [*play.tick("731.00"), *play.tick("730.65")]
    play.on(ResumeAsked(**play.when))
    play.tick("731.00")
    resumed = play.tick("730.65")

    assert told(halted) == ["alarm: HALTED: by hand", "cancel E"]
    assert (at_trigger, play.s.halted) == ([], None)
    assert sent(resumed) == [f"submit E {side.value} 5 @ 731.15"]


def test_a_strategy_that_passes_says_why() -> None:
    play = Play(strategy=Plan(wishes={D("730.65"): Pass("too wide a spread")}))

    assert (play.tick("730.65"), play.s.why) == ([], "too wide a spread")


@pytest.mark.parametrize(
    "wish",
    [
        "buy!",
        Enter("BUY", OrderType.MARKET, ""),  # type: ignore[arg-type]
        Enter(BUY, OrderType.LIMIT, "", limit_price=731.15),  # type: ignore[arg-type]
        Enter(BUY, OrderType.LIMIT, "", limit_price=D("NaN")),
        Enter(BUY, OrderType.STOP, "", trigger_price=D("Infinity")),
        RuntimeError("division of the spoils"),
    ],
)
def test_a_strategy_that_raises_or_talks_nonsense_halts_its_symbol(wish: Any) -> None:
    """CON-14: while flat."""
    play = Play(strategy=Plan(wishes={D("730.65"): wish}))

    commands = [*play.tick("730.65"), *play.tick("730.65"), *play.tick("730.60")]

    assert play.s.phase is Phase.HALTED
    assert (len(alarms(commands)), sent(commands)) == (1, [])


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Enter(BUY, OrderType.STOP, ""), "denied: STOP order without a trigger price"),
        (Enter(BUY, OrderType.LIMIT, ""), "denied: LIMIT order without a limit price"),
        (Enter(BUY, OrderType.STOP_LIMIT, "", None, D("731.15")), "denied: STOP_LIMIT order without a limit price"),
        (Enter(BUY, OrderType.LIMIT, "", D(0)), "denied: LIMIT order without a limit price"),
    ],
)
def test_an_entry_without_the_prices_its_type_needs_is_denied(wish: Enter, why: str) -> None:
    play = Play(strategy=Plan(wishes={D("730.65"): wish}))

    assert (play.tick("730.65"), play.s.why, play.s.entries_used) == ([], why, 0)


# -- between the decision and the desk -------------------------------------------------------------------------------------------


def _decided() -> tuple[Play, Submit]:
    play = Play()
    play.tick("730.65")
    return play, Submit(play.entry)


def test_an_entry_nobody_has_second_thoughts_about_goes_out() -> None:
    play, command = _decided()

    assert why_not_carry_out(play.s, command, play.rules, TEN) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"over": True}, "cutoff"),
        ({"halted": "by hand"}, "by hand"),
        ({"closing": "flatten"}, "closing: flatten"),
        ({"blocks": (("feed", "ticks are stale"),)}, "ticks are stale"),
        ({"entry": None}, "its slot has moved on"),
    ],
)
def test_an_entry_that_is_no_longer_wanted_does_not_leave(change: dict[str, Any], why: str) -> None:
    """CON-17."""
    play, command = _decided()

    assert why_not_carry_out(replace(play.s, **change), command, play.rules, TEN) == why


def test_an_entry_is_not_sent_at_the_cutoff_even_when_no_heartbeat_has_come() -> None:
    """EXI-03."""
    play, command = _decided()

    assert why_not_carry_out(play.s, command, play.rules, play.rules.cutoff_ms) == "cutoff"


def test_an_entry_is_not_sent_into_a_position() -> None:
    play, command = _decided()
    other = replace(play.entry, client_id="SBIN-20261120-E9")
    play.fill(other, "5")

    assert why_not_carry_out(play.s, command, play.rules, TEN) == "a position is held"


def test_an_entry_that_was_answered_meanwhile_is_not_sent_again() -> None:
    play, command = _decided()
    play.accepted(play.entry)

    assert why_not_carry_out(play.s, command, play.rules, TEN) == "already answered"


def test_an_entry_denied_by_the_desk_is_over_and_counts() -> None:
    play, command = _decided()

    play.not_sent(command.order, "risk: no room", again=False)

    assert (play.s.entry, play.s.entries_used, play.s.why) == (None, 1, "entry not sent: risk: no room")
    assert sent(play.tick("730.65")) == []


def test_an_entry_waiting_for_its_next_try_is_dropped_at_the_cutoff() -> None:
    """EXI-03."""
    play, command = _decided()
    play.not_sent(command.order)
    waiting = play.entry.status
    play.mono = play.rules.cutoff_ms - TEN

    assert (waiting, sent(play.beat())) == (Status.INTENT, [])
    assert (play.s.entry, play.s.why) == (None, "entry not sent: cutoff")


def test_a_cancel_that_never_left_is_asked_again_after_a_pause() -> None:
    play = Play().enter()
    play.on(HaltAsked(reason="by hand", **play.when))
    play.not_sent(play.entry, act=Act.CANCEL)

    at_once, later = sent(play.beat(100)), sent(play.beat(150))

    assert (at_once, later) == ([], ["cancel E"])


def test_flatten_takes_back_a_resting_entry() -> None:
    """RIS-08: zero entries after a flatten, whatever is held."""
    story = Story()
    story.tick("730.65")

    story.flatten("by hand")
    story.wait(5_000)

    assert (story.book, story.s.phase, story.net) == ([], Phase.FLAT, 0)


def test_the_same_tick_with_no_wish_leaves_the_very_same_snapshot() -> None:
    play = Play()
    play.tick("731.00")
    before = play.s

    play.on(Tick(price=D("731.05"), **play.when))

    assert play.s is before
