"""The races of SCENARIOS CON: threads with a few operations each, from a given start, and what must be true afterwards.

What must hold in every model (one entry, exits within the position, a stop that only tightens, nobody's order at work, rest in
the end) is judged by the world; `expect` adds what the row says beyond that. To add a model: a start, the operations, one entry
in MODELS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from simulation.small_world import ENTRY_TIMEOUT_MS, Operation, World
from state.orders import Purpose, Status

Expect = Callable[[World], Iterable[str]]
UNLIMITED = 1 << 62

# -- what threads do -------------------------------------------------------------------------------------------------------------

hear, desk, sweep, cutoff = World.hear, World.desk, World.sweep, World.cutoff
stop, flatten, halt = World.stop, World.flatten, World.halt


def tick(price: int) -> Operation:
    return lambda world: world.tick(price)


def trade(price: int) -> Operation:
    return lambda world: world.venue.trade(price)


def beat(after_ms: int = 0) -> Operation:
    return lambda world: world.beat(after_ms)


def off(source: str) -> Operation:
    return lambda world: world.entries_off(source)


def on(source: str) -> Operation:
    return lambda world: world.entries_on(source)


def ended(purpose: Purpose) -> Operation:
    return lambda world: world.venue.end(purpose)


def land(world: World) -> None:
    world.venue.land()


def failing(verb: str, how: str) -> Operation:
    return lambda world: world.venue.faults.update({verb: how})


# -- where they set out from -----------------------------------------------------------------------------------------------------

_ENTERING = (sweep, desk, tick(100), desk, hear, sweep)
_FILLED = (*_ENTERING, trade(110), hear)
_LONG = (*_FILLED, desk, hear, sweep, beat(300), desk)

STARTS: dict[str, tuple[Operation, ...]] = {
    "flat": (sweep, desk),
    "flat, the venue will refuse": (sweep, desk, failing("submit", "refused")),
    "armed": (sweep, desk, off("feed"), tick(100)),
    "asked": (sweep, desk, tick(100)),
    "entering": _ENTERING,
    "withdrawing": (*_ENTERING, beat(ENTRY_TIMEOUT_MS)),
    "retrying": (sweep, desk, failing("submit", "unavailable"), tick(100), desk),
    "unknown": (sweep, desk, failing("submit", "lost"), tick(100), desk),
    "filled": _FILLED,
    "bare": (*_FILLED, failing("submit", "refused"), desk, hear),
    "long": _LONG,
    "trailing": (*_LONG, tick(120)),
    "trailing, the amend will be late": (*_LONG, failing("replace", "late"), tick(120)),
    "stop unknown": (*_FILLED, failing("submit", "lost"), desk),
    "closing": (*_LONG, flatten),
}

# -- what must be true afterwards ------------------------------------------------------------------------------------------------


def nothing_more(world: World) -> Iterable[str]:
    return ()


def one_entry(world: World) -> Iterator[str]:
    sent, counted = world.venue.entries, world.state.snapshot.entries_used
    if (len(sent), counted) != (1, 1):
        yield f"one entry was to be: sent {sent}, counted {counted}"


def every_entry_sent(world: World) -> Iterator[str]:
    sent, counted = world.venue.entries, world.state.snapshot.entries_used
    if len(sent) != counted:
        yield f"every entry was to be sent: sent {sent}, counted {counted}"


def flat(world: World) -> Iterator[str]:
    if world.venue.net():
        yield f"flat was to be: {world.venue.net()} held"


def no_entry_left(world: World) -> Iterator[str]:
    entry = world.state.snapshot.entry
    if entry is not None:
        yield f"no entry was to be left: {entry.client_id} is {entry.status.value}"


def stop_at(level: int) -> Expect:
    def expect(world: World) -> Iterator[str]:
        if world.venue.stop() != level:
            yield f"the stop was to be at {level}: it is at {world.venue.stop()}"

    return expect


def not_armed_for_ever(world: World) -> Iterator[str]:
    """The entry failed: nothing is left of it, and a new trigger makes a new one."""
    if world.state.snapshot.armed or world.state.snapshot.live_orders():
        yield f"left armed, with {[order.describe() for order in world.state.snapshot.live_orders()]}"
    world.tick(105)
    world.tick(100)
    entry = world.state.snapshot.entry
    if entry is None or entry.status is not Status.INTENT or world.state.snapshot.entries_used != 2:
        yield f"no entry after a new trigger: {world.state.snapshot.why}"


def one_line(world: World) -> Iterator[str]:
    told = [text for text in world.alarms if text.startswith("UNPROTECTED for")]
    if len(told) > 1:
        yield f"one line was to be told: {told}"


# -- the models ------------------------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    name: str
    race: str
    rows: str  # of SCENARIOS
    start: str
    threads: Mapping[str, tuple[Operation, ...]]
    expect: Expect = nothing_more
    max_entries: int = 3
    can_replace: bool = True
    preemptions: int = 2
    seeds: int = 0  # so many random schedules; 0: every one there is


TICKS, POLL, DESK, STOP = "tick", "poll", "desk", "stop"

MODELS: tuple[Model, ...] = (
    Model(
        "the entry fills while its cancel is in flight", "tick x desk", "CON-01", "withdrawing",
        {TICKS: (trade(110), hear), DESK: (desk, desk)},
        one_entry,
    ),
    Model(
        "another entry follows while the cancel of the first is in flight", "tick x desk", "CON-01", "withdrawing",
        {TICKS: (hear, tick(105), tick(100), hear), DESK: (desk, desk)},
        every_entry_sent,
    ),
    Model(
        "the stop fills while a trail is decided", "tick x poll", "CON-02", "long",
        {TICKS: (tick(120), desk), POLL: (trade(104), sweep, desk)},
        flat,
    ),
    Model(
        "the position is closed while a trail is decided", "tick x poll", "CON-02", "long",
        {TICKS: (tick(120), tick(125), desk), POLL: (cutoff, desk)},
        flat,
    ),
    Model(
        "two threads see the first trigger", "tick x poll", "CON-03", "flat",
        {TICKS: (tick(100), desk), POLL: (tick(100), desk)},
        one_entry,
    ),
    Model(
        "two threads see the first trigger, the venue refuses", "tick x poll", "CON-03", "flat, the venue will refuse",
        {TICKS: (tick(100), desk), POLL: (tick(100), desk)},
        not_armed_for_ever,
    ),
    Model(
        "trigger, retry and fill in one moment", "tick x poll", "CON-04", "retrying",
        {TICKS: (tick(100), trade(110), hear), POLL: (beat(300), desk, sweep)},
        one_entry,
    ),
    Model(
        "the stop fills while the cutoff cancels it", "tick x poll", "CON-05", "long",
        {TICKS: (trade(104), hear), POLL: (cutoff, desk, sweep, desk)},
        flat,
    ),
    Model(
        "the stop is placed again while price falls through it", "tick x poll", "CON-06", "bare",
        {TICKS: (trade(104), tick(104), desk, trade(103), tick(103)), POLL: (beat(300), desk, sweep)},
        flat,
    ),
    Model(
        "ticks and beats while the stop is in question", "tick x poll", "CON-06", "stop unknown",
        {TICKS: (tick(109), tick(108), tick(109)), POLL: (beat(6_000), beat(250), beat(250), sweep, desk)},
        one_line,
    ),
    Model(
        "the cutoff comes while the stop is placed", "poll x desk", "CON-06", "filled",
        {DESK: (desk, desk), POLL: (cutoff, sweep)},
        flat,
    ),
    Model(
        "three ticks ask for the entry while it is placed", "tick x desk", "CON-07", "flat",
        {TICKS: (tick(100), tick(99), tick(100)), DESK: (desk, desk)},
        one_entry,
    ),
    Model(
        "eight threads ask for the entry", "tick x desk", "CON-07", "flat",
        {**{f"{TICKS}-{n}": (tick(100), desk) for n in range(8)}},
        one_entry,
        seeds=200,
    ),
    Model(
        "a second trail while an amend is in flight", "tick x desk", "CON-08", "long",
        {TICKS: (tick(120), tick(125), hear), DESK: (desk, desk)},
        stop_at(120),
    ),
    Model(
        "a second trail while the stop is replaced by a new one", "tick x desk", "CON-08", "long",
        {TICKS: (tick(120), tick(125), hear), DESK: (desk, desk)},
        stop_at(120),
        can_replace=False,
    ),
    Model(
        "a second trail while an amend has no answer and lands late", "tick x desk", "CON-08", "trailing, the amend will be late",
        {TICKS: (beat(300), tick(125), land), DESK: (desk, desk)},
        stop_at(120),
    ),
    Model(
        "the stop fills while an amend is in flight", "tick x desk", "CON-08", "trailing",
        {TICKS: (trade(104), hear), DESK: (desk, desk)},
        flat,
    ),
    Model(
        "the entry fills while the poll looks for it", "tick x poll", "CON-09", "unknown",
        {TICKS: (trade(110), hear, tick(112)), POLL: (sweep, beat(300), desk, sweep)},
        one_entry,
        max_entries=UNLIMITED,
    ),
    Model(
        "an answer about an old entry comes when another is current", "tick x poll", "CON-10", "entering",
        {TICKS: (ended(Purpose.ENTRY), hear, tick(105), tick(100), desk), POLL: (sweep,)},
        every_entry_sent,
    ),
    Model(
        "stop, cutoff and flatten in one instant", "stop x any", "CON-11", "long",
        {TICKS: (trade(104), hear), POLL: (cutoff, desk), STOP: (flatten, desk)},
        flat,
        preemptions=1,
    ),
    Model(
        "the poll sees an order before its own answer", "poll x desk", "CON-04", "asked",
        {DESK: (desk,), POLL: (trade(110), sweep, sweep)},
        one_entry,
    ),
    Model(
        "the poll sees the stop before its own answer", "poll x desk", "CON-06", "filled",
        {DESK: (desk,), POLL: (sweep, beat(300), sweep)},
        stop_at(105),
    ),
    Model(
        "the poll looks while the exit is on its way", "poll x desk", "CON-05", "closing",
        {DESK: (desk, desk), POLL: (sweep, sweep)},
        flat,
    ),
    Model(
        "stopped while a tick enters", "stop x tick", "CON-17", "flat",
        {TICKS: (tick(100), trade(110), hear), STOP: (stop, desk)},
        no_entry_left,
    ),
    Model(
        "stopped while the poll retries the entry", "stop x poll", "CON-17", "retrying",
        {POLL: (beat(300), desk, sweep), STOP: (stop, desk)},
        no_entry_left,
    ),
    Model(
        "stopped while the desk sends the entry", "stop x desk", "CON-17", "asked",
        {DESK: (desk,), STOP: (stop, hear)},
        no_entry_left,
    ),
    Model(
        "halted while the desk sends the entry", "stop x desk", "CON-17", "asked",
        {DESK: (desk,), STOP: (halt, hear)},
        no_entry_left,
    ),
    Model(
        "flattened while a trail is decided", "stop x tick", "CON-11", "long",
        {TICKS: (tick(120), trade(114), hear), STOP: (flatten, desk)},
        flat,
    ),
    Model(
        "flattened while the poll finds the stop filled", "stop x poll", "CON-11", "long",
        {POLL: (trade(104), sweep, desk), STOP: (flatten, desk)},
        flat,
    ),
    Model(
        "flattened while the desk places the stop", "stop x desk", "CON-06", "filled",
        {DESK: (desk, desk), STOP: (flatten, hear)},
        flat,
    ),
)  # fmt: skip
