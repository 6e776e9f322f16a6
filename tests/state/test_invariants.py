"""The invariants that stay on in production: broken decisions made by hand, and a SymbolState that is given a broken `decide`."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from simulation.model import hunt
from state import invariants
from state.clock import VirtualClock
from state.commands import Alarm, Cancel, Command, Replace, Submit
from state.events import Event, Heartbeat, Tick
from state.invariants import InvariantBroken, broken, checked, contained
from state.ledger import Account
from state.machine import decide
from state.orders import Order, OrderType, Purpose, Side, Status
from state.rules import Rules
from state.snapshot import Snapshot
from state.symbol_state import Decider, SymbolState, Work
from tests.state.builders import BUY, DAY, SELL, SYMBOL, TEN, D, Plan, Play, at, both_sides, make_rules, move, order_of, sent

RULES = make_rules()


def held(side: Side = BUY) -> Snapshot:
    """In position, protected."""
    return Play(side).hold().s


def numbered(s: Snapshot, purpose: Purpose, side: Side, qty: str = "5", **changes: Any) -> Order:
    """The next order of ours, as the machine would number it."""
    return order_of(purpose, side, qty, **({"client_id": f"{SYMBOL}-{DAY}-{purpose.value}{s.sequence}"} | changes))


def entered(s: Snapshot, entry: Order | None = None, **changes: Any) -> tuple[Snapshot, Order]:
    """A decision that grants an entry, whatever is held."""
    entry = entry or numbered(s, Purpose.ENTRY, BUY)
    counted = {"entries_used": s.entries_used + 1, "sequence": s.sequence + 1, "trip": entry.client_id, "side": BUY}
    return replace(s, entry=entry, **(counted | changes)), entry


def out(s: Snapshot, side: Side, qty: str, **changes: Any) -> tuple[Snapshot, Order]:
    """A decision that sends an exit."""
    order = numbered(s, Purpose.EXIT, side, qty)
    return replace(s, exit=order, sequence=s.sequence + 1, **changes), order


# -- what is kept is not complained of -------------------------------------------------------------------------------------


@both_sides
def test_nothing_is_wrong_with_what_the_machine_decides_in_a_whole_trip(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(side, {at(side, "733.00"): move(side, "732.00")}, target=at(side, "740.00"))
    play = Play(side, plan)
    seen: list[str | None] = []
    on = play.on

    def watched(event: Event) -> list[Command]:
        before = play.s
        commands = on(event)
        seen.append(broken(before, play.s, commands, play.rules))
        return commands

    monkeypatch.setattr(play, "on", watched)
    play.hold("2")
    play.fill(play.entry, "3", "731.10")
    play.tick("733.00")
    play.on_flatten()
    play.beats(2_000)

    assert set(seen) == {None}
    assert len(seen) > 10


# -- I1, I7, I8 ------------------------------------------------------------------------------------------------------------


def test_one_entry_order_in_an_empty_symbol_is_fine() -> None:
    before = Snapshot(SYMBOL)
    after, entry = entered(before)

    assert broken(before, after, [Submit(entry)], RULES) is None


def test_an_entry_beside_another_one_is_broken() -> None:
    """I1"""
    before = Play().enter().s
    assert before.entry is not None
    after, entry = entered(before, ended=(before.entry,))

    assert broken(before, after, [Submit(entry)], RULES) == f"I1: entry {entry.client_id} beside SBIN-20261120-E0"


def test_an_entry_on_top_of_a_position_is_broken() -> None:
    """I1"""
    before = replace(held(), stop=None)
    after, entry = entered(before)

    assert broken(before, after, [Submit(entry)], RULES) == f"I1: entry {entry.client_id} beside a position of 5"


def test_two_entry_orders_in_one_decision_are_broken() -> None:
    """I1: the second one would have to take the slot of the first."""
    before = Snapshot(SYMBOL)
    after, entry = entered(before)

    assert broken(before, after, [Submit(entry), Submit(entry)], RULES) == "I1: 2 entry orders in one decision"


def test_an_entry_that_is_with_the_desk_is_not_sent_again() -> None:
    """I3"""
    before, entry = entered(Snapshot(SYMBOL))

    assert broken(before, replace(before, why="again"), [Submit(entry)], RULES) == f"I3: {entry.client_id} is sent a second time"


def test_an_entry_that_waited_for_its_next_try_is_sent_again() -> None:
    after, entry = entered(Snapshot(SYMBOL))
    before = replace(after, entry=replace(entry, retry_ms=2_000))

    assert broken(before, after, [Submit(entry)], RULES) is None


def test_an_entry_that_is_not_counted_is_broken() -> None:
    """I7"""
    before = Snapshot(SYMBOL)
    after, entry = entered(before, entries_used=0)

    assert broken(before, after, [Submit(entry)], RULES) == f"I7: entry {entry.client_id} makes 0 of 3, from 0"


def test_an_entry_beyond_the_limit_is_broken() -> None:
    """I7"""
    before = Snapshot(SYMBOL, entries_used=3)
    after, entry = entered(before)

    assert broken(before, after, [Submit(entry)], RULES) == f"I7: entry {entry.client_id} makes 4 of 3, from 3"


@pytest.mark.parametrize("now", [0, 2])
def test_entries_used_change_with_an_entry_only(now: int) -> None:
    """I7: least of all do they become fewer."""
    before = Snapshot(SYMBOL, entries_used=1)

    assert broken(before, replace(before, entries_used=now), [], RULES) == f"I7: entries used went from 1 to {now} without one"


@pytest.mark.parametrize(("state", "words"), [({"over": True}, "after the cutoff"), ({"halted": "x"}, "while halted")])
def test_no_entry_leaves_while_there_may_be_none(state: dict[str, Any], words: str) -> None:
    """I8"""
    before = Snapshot(SYMBOL, **state)
    after, entry = entered(before)

    assert broken(before, after, [Submit(entry)], RULES) == f"I8: entry {entry.client_id} {words}"


# -- I3 --------------------------------------------------------------------------------------------------------------------


def test_an_order_that_leaves_its_slot_leaves_a_trace() -> None:
    before = Play().enter().s
    assert before.entry is not None
    gone = replace(before, entry=None)

    assert broken(before, gone, [], RULES) == "I3: SBIN-20261120-E0 left its slot without a trace"
    assert broken(before, replace(gone, ended=(before.entry,)), [], RULES) is None


def test_an_order_is_in_the_slot_of_its_purpose() -> None:
    before = held()
    stop = numbered(before, Purpose.STOP, SELL)
    after = replace(before, exit=stop, sequence=before.sequence + 1)

    assert broken(before, after, [Submit(stop)], RULES) == f"I3: {stop.client_id} is not an order for the exit slot of SBIN"


@pytest.mark.parametrize("name", ["E0", "S7", "E7", "-7", "E"])
def test_a_new_order_has_a_new_number(name: str) -> None:
    """Of its own purpose, and of this decision."""
    before = Snapshot(SYMBOL, sequence=5)
    after, entry = entered(before, entry=order_of(Purpose.ENTRY, BUY, client_id=f"SBIN-20261120-{name}"))

    assert broken(before, after, [Submit(entry)], RULES) == f"I3: SBIN-20261120-{name} is not a new number (5 to 5 are)"


def test_order_numbers_never_go_back() -> None:
    assert (
        broken(Snapshot(SYMBOL, sequence=5), Snapshot(SYMBOL, sequence=4), [], RULES) == "I3: order numbers went back from 5 to 4"
    )


def test_what_is_new_in_a_slot_is_sent() -> None:
    before = Snapshot(SYMBOL)
    after, entry = entered(before, entries_used=0)

    assert broken(before, after, [], RULES) == f"I3: {entry.client_id} is in its slot and was not sent"


def test_a_command_is_about_the_order_in_its_slot() -> None:
    before = held()
    other = order_of(Purpose.STOP, SELL, client_id="SBIN-20261120-S9")

    assert broken(before, before, [Cancel(other)], RULES) == "I3: cancel of SBIN-20261120-S9, which is not in its slot"
    assert broken(before, before, [Cancel(other, orphan=True)], RULES) is None


# -- I5 --------------------------------------------------------------------------------------------------------------------


@both_sides
def test_an_exit_larger_than_the_position_is_broken(side: Side) -> None:
    before = replace(held(side), stop=None)
    after, order = out(before, side.opposite, "6", ended=(held(side).stop,))
    position = "5" if side is BUY else "-5"

    assert broken(before, after, [Submit(order)], RULES) == f"I5: exit {order.client_id} is for 6 while holding {position}"


@both_sides
def test_an_exit_that_adds_to_the_position_is_broken(side: Side) -> None:
    before = replace(held(side), stop=None)
    after, order = out(before, side, "5")

    assert str(broken(before, after, [Submit(order)], RULES)).startswith(f"I5: exit {order.client_id} is a {side.value} while")


def test_an_exit_while_flat_is_broken() -> None:
    before = Snapshot(SYMBOL)
    after, order = out(before, SELL, "5")

    assert broken(before, after, [Submit(order)], RULES) == f"I5: exit {order.client_id} is a SELL while holding 0"


def test_an_exit_does_not_go_out_while_the_stop_may_fill() -> None:
    before = held()
    after, order = out(before, SELL, "5")
    assert before.stop is not None

    assert broken(before, after, [Submit(order)], RULES) == f"I5: exit {order.client_id} on top of {before.stop.client_id}"


def test_a_stop_that_is_made_larger_than_the_position_is_broken() -> None:
    before = held()
    assert before.stop is not None

    wrong = broken(before, before, [Replace(before.stop, D(6), before.stop.trigger_price)], RULES)

    assert wrong == f"I5: stop {before.stop.client_id} is for 6 while holding 5"


# -- I6 --------------------------------------------------------------------------------------------------------------------


@both_sides
def test_a_level_that_moves_against_us_is_broken(side: Side) -> None:
    before = held(side)
    looser, tighter = at(side, "730.10"), at(side, "730.20")

    assert broken(before, replace(before, stop_price=looser), [], RULES) == (
        f"I6: the stop was loosened from {before.stop_price} to {looser}"
    )
    assert broken(before, replace(before, stop_price=tighter), [], RULES) is None


def test_a_level_is_not_forgotten_within_a_trip() -> None:
    before = held()

    assert broken(before, replace(before, stop_price=None), [], RULES) == "I6: the stop level 730.15 was forgotten"


@both_sides
def test_a_level_begins_on_the_losing_side(side: Side) -> None:
    after = replace(held(side), stop_price=at(side, "731.15"))
    before = replace(after, stop_price=None)

    assert broken(before, after, [], RULES) == "I6: stop 731.15 is not on the losing side of 731.15"


def test_a_stop_is_sent_to_its_level_and_on_the_grid() -> None:
    before = replace(held(), stop=None)
    stop = numbered(before, Purpose.STOP, SELL, type=OrderType.STOP, trigger_price=D("730.10"))
    off = replace(stop, trigger_price=D("730.16"))
    after = replace(before, stop=stop, sequence=before.sequence + 1)
    off_level = replace(after, stop=off, stop_price=D("730.16"))

    assert broken(before, after, [Submit(stop)], RULES) == f"I6: stop {stop.client_id} is sent to 730.10, the level is 730.15"
    assert broken(before, off_level, [Submit(off)], RULES) == f"I6: stop {off.client_id} at 730.16 is off the tick grid"


def test_an_entry_off_the_grid_is_broken() -> None:
    before = Snapshot(SYMBOL)
    entry = numbered(before, Purpose.ENTRY, BUY, type=OrderType.LIMIT, limit_price=D("731.16"))
    after, _ = entered(before, entry=entry)

    assert broken(before, after, [Submit(entry)], RULES) == "I6: entry buy limit 5 @ 731.16 is off the tick grid"


# -- I2 --------------------------------------------------------------------------------------------------------------------


def test_a_position_moves_with_its_fills_only() -> None:
    before = held()
    moved = replace(before, ledger=replace(before.ledger, position=D(4)))

    assert broken(before, moved, [], RULES) == "I2: the position moved by -1, its fills by 0"


def test_a_fill_is_never_taken_back() -> None:
    before = held()
    account = before.ledger.accounts[0]
    less = Account(account.client_id, account.purpose, account.side, rows_qty=D(3), rows_value=D(3) * account.average)
    after = replace(before, ledger=replace(before.ledger, accounts=(less,), position=D(3)))

    assert broken(before, after, [], RULES) == "I2: SBIN-20261120-E0 has filled less than before"


def test_dust_comes_with_a_fill_only() -> None:
    before = held()

    assert broken(before, replace(before, dust=D(1)), [], RULES) == "I2: dust went from None to 1 without a fill"


# -- what is done about it -------------------------------------------------------------------------------------------------


def contain(before: Snapshot, after: Snapshot, *commands: Command) -> tuple[Snapshot, list[Command]]:
    snapshot, kept = contained(before, after, commands, "I0: test")
    assert isinstance(kept[-1], Alarm) and kept[-1].text == "HALTED: invariant I0: test"
    assert snapshot.halted == "invariant I0: test"
    return snapshot, list(kept[:-1])


def test_an_entry_is_taken_back_and_its_number_is_not_used_again() -> None:
    before = Snapshot(SYMBOL, entries_used=3)
    after, entry = entered(before)

    snapshot, kept = contain(before, after, Submit(entry))

    assert kept == []
    assert snapshot == replace(before, entries_used=4, sequence=1, halted="invariant I0: test")


def test_the_entry_that_was_there_stays_there() -> None:
    before = Play().enter().s
    after, entry = entered(before)

    snapshot, kept = contain(before, after, Submit(entry))

    assert (snapshot.entry, snapshot.trip, kept) == (before.entry, before.trip, [])


def test_a_position_keeps_its_own_trip_and_its_stop() -> None:
    before = held()
    after, entry = entered(before)

    snapshot, kept = contain(before, after, Submit(entry))

    assert (snapshot.entry, snapshot.trip, snapshot.side, snapshot.stop) == (None, before.trip, before.side, before.stop)
    assert kept == []


def test_what_protects_goes_out_as_it_was_decided() -> None:
    """The same decision also sends the stop that is missing: nothing done here may leave the position bare."""
    before = replace(held(), stop=None)
    stop = numbered(before, Purpose.STOP, SELL, type=OrderType.STOP, trigger_price=before.stop_price)
    after, entry = entered(replace(before, sequence=before.sequence + 1))
    after = replace(after, stop=stop)

    snapshot, kept = contain(before, after, Submit(stop), Submit(entry))

    assert (snapshot.stop, snapshot.entry, kept) == (stop, None, [Submit(stop)])


@both_sides
def test_a_stop_is_not_moved_away(side: Side) -> None:
    before = held(side)
    looser = at(side, "729.00")
    assert before.stop is not None
    moving = replace(before.stop, status=Status.REPLACING, asked_qty=D(5), asked_trigger=looser, late_ms=31_000)
    after = replace(before, stop_price=looser, stop=moving)

    snapshot, kept = contain(before, after, Replace(moving, D(5), looser))

    assert (snapshot.stop_price, snapshot.stop, kept) == (before.stop_price, before.stop, [])


def test_what_was_learnt_stays_learnt() -> None:
    """A fill that comes with the broken decision is not lost with it."""
    play = Play().enter()
    before, entry = play.s, play.entry
    commands = play.fill(entry, "5")

    snapshot, kept = contain(before, play.s, *commands)

    assert (snapshot.position, snapshot.stop) == (D(5), play.s.stop)
    assert sent(kept) == ["submit S SELL 5 @ 730.15"]


def test_a_position_that_moved_without_a_fill_has_not_moved() -> None:
    before = held()
    after = replace(before, ledger=replace(before.ledger, position=D(4)), dust=D(1))

    snapshot, _ = contain(before, after)

    assert (snapshot.position, snapshot.dust) == (D(5), None)


def test_a_forgotten_level_and_a_forgotten_order_come_back() -> None:
    before = held()
    after = replace(before, stop=None, stop_price=None)

    snapshot, _ = contain(before, after)

    assert (snapshot.stop, snapshot.stop_price) == (before.stop, before.stop_price)


def test_a_check_that_fails_itself_lets_everything_through_and_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held()
    after, order = out(replace(before, stop=None), SELL, "5")
    monkeypatch.setattr(invariants, "broken", lambda *_: 1 / 0)

    (snapshot, commands), wrong = checked(before, after, [Submit(order)], RULES)

    assert (snapshot.exit, list(commands)) == (order, [Submit(order)])
    assert snapshot.halted == f"invariant {wrong}" == "invariant check: ZeroDivisionError: division by zero"


# -- through the door ------------------------------------------------------------------------------------------------------


class Box:
    def __init__(self) -> None:
        self.works: list[Work] = []

    def put(self, symbol: str, work: Work) -> None:
        self.works.append(work)


class Told:
    """A symbol with a broken machine, and what a person hears of it."""

    def __init__(self, snapshot: Snapshot, decider: Decider, rules: Rules = RULES) -> None:
        self.box, self.defects = Box(), list[str]()
        clock = VirtualClock(TEN)
        self.state = SymbolState(snapshot, rules, self.box, clock, on_defect=self.defect, decider=decider)

    def defect(self, symbol: str, error: Exception) -> None:
        self.defects.append(f"{symbol}: {type(error).__name__}: {error}")

    def tick(self, price: str, at_ms: int = TEN) -> None:
        self.state.tick(D(price), at_ms)

    @property
    def commands(self) -> list[Command]:
        return [command for work in self.box.works for command in work.commands]


def forgetful(snapshot: Snapshot, event: Event, rules: Rules) -> tuple[Snapshot, list[Command]]:
    """Forgets how often it has entered, before every tick."""
    after, commands = decide(replace(snapshot, entries_used=0), event, rules)
    return after, commands


def test_a_broken_decision_never_leaves_halts_the_symbol_and_is_a_defect() -> None:
    """CON-18: exit code 70 at the end, because a defect was told."""
    told = Told(Snapshot(SYMBOL, entries_used=3), forgetful)

    told.tick("730.65")
    told.tick("730.60", TEN + 1)

    wrong = "I7: entry SBIN-20261120-E0 makes 1 of 3, from 3"
    assert sent(told.commands) == []
    assert told.commands[0] == Alarm(f"HALTED: invariant {wrong}")
    assert told.state.snapshot.halted == f"invariant {wrong}"
    assert (told.state.snapshot.entry, told.state.snapshot.entries_used) == (None, 3)
    assert told.defects[0] == f"SBIN: InvariantBroken: {wrong}"


def test_the_same_invariant_is_told_of_once() -> None:
    told = Told(Snapshot(SYMBOL, entries_used=3), forgetful)

    told.tick("730.65")
    for number in range(1, 5):
        told.state.apply(Heartbeat(mono_ms=TEN + number, now_ms=TEN + number))

    assert (len(told.defects), told.state.snapshot.entries_used) == (1, 3)


def test_a_position_stays_protected_while_its_machine_is_broken() -> None:
    """The level is asked for ever looser: it stays, and so does the stop at the venue."""

    def loosening(snapshot: Snapshot, event: Event, rules: Rules) -> tuple[Snapshot, list[Command]]:
        after, commands = decide(snapshot, event, rules)
        level = None if snapshot.stop_price is None else snapshot.stop_price - D("0.05")
        return (replace(after, stop_price=level), commands) if isinstance(event, Tick) else (after, commands)

    before = held()
    told = Told(before, loosening)

    for price in ("731.20", "731.25", "731.20"):
        told.tick(price)

    assert (told.state.snapshot.stop_price, told.state.snapshot.stop) == (before.stop_price, before.stop)
    assert (sent(told.commands), len(told.defects)) == ([], 1)
    assert told.defects == ["SBIN: InvariantBroken: I6: the stop was loosened from 730.15 to 730.10"]


def test_where_nobody_listens_a_broken_decision_is_raised() -> None:
    """Replays and simulations end there."""
    state = SymbolState(Snapshot(SYMBOL, entries_used=3), RULES, Box(), VirtualClock(TEN), decider=forgetful)

    with pytest.raises(InvariantBroken, match="I7"):
        state.tick(D("730.65"), TEN)

    assert state.snapshot.entry is None


# -- broken machines by text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "invariant"),
    [
        ("a second entry while the first is unknown", "I1"),
        ("a retry takes a fresh id", "I1"),
        ("the exit does not wait for the stop to be gone", "I5"),
        ("the trail may loosen", "I6"),
        ("entries used are not counted", "I7"),
    ],
)
def test_a_machine_with_a_rule_taken_out_is_caught_by_its_own_decision(name: str, invariant: str) -> None:
    """The model check needs the venue's truth for the other mutants; these show in one decision."""
    assert f"broke {invariant}: " in hunt(name)["by"]
