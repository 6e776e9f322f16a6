"""When a session is over, what its exit code says, and how another process asks it to stop."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ops.ending import describe_open, entries_gone, exit_code, settled
from state.ledger import Fill, Ledger
from state.orders import Order, OrderType, Purpose, Side, Status
from state.snapshot import Snapshot

D = Decimal


def order(purpose: Purpose = Purpose.STOP, **more: Any) -> Order:
    known: dict[str, Any] = {"status": Status.WORKING, "venue_id": "1", "verified": True, "trigger_price": D("730.15")}
    side = Side.BUY if purpose is Purpose.ENTRY else Side.SELL
    name = f"SBIN-20261120-{purpose.value}1"
    return Order(name, "SBIN", purpose, side, OrderType.STOP, D(5), **(known | more))


def holding(**more: Any) -> Snapshot:
    """Long 5."""
    fill = Fill("1", "SBIN-20261120-E0", Purpose.ENTRY, Side.BUY, D(5), D("731.15"), 0)
    return Snapshot("SBIN", ledger=Ledger().add(fill), side=Side.BUY, trip="SBIN-20261120-E0", **more)


FLAT = Snapshot("ITC")
PROTECTED = holding(stop=order())
ENTRY_RESTS = Snapshot("SBIN", entry=order(Purpose.ENTRY))


@pytest.mark.parametrize(
    ("snapshot", "code"),
    [
        (FLAT, 0),
        (PROTECTED, 5),
        (holding(), 7),
        (holding(stop=order(), unprotected_ms=1), 7),
        (holding(exit=order(Purpose.EXIT)), 7),
        (ENTRY_RESTS, 7),
        (Snapshot("SBIN", entry=order(Purpose.ENTRY, status=Status.UNKNOWN, venue_id=None)), 7),
        (holding(stop=order(status=Status.QUARANTINED)), 7),
        (Snapshot("SBIN", halted="venue holds 7", disagreements=2), 6),
        (Snapshot("SBIN", halted="a person asked"), 0),
    ],
    ids=[
        "flat",
        "protected",
        "no stop",
        "stop not yet seen to work",
        "exit under way",
        "entry rests",
        "entry unknown",
        "stop quarantined",
        "disagreement",
        "halted by hand",
    ],
)
def test_the_code_says_the_worst_that_is_true(snapshot: Snapshot, code: int) -> None:
    """OPS-13"""
    assert exit_code([snapshot], 0) == code
    assert exit_code([FLAT, snapshot], 0) == code


def test_nothing_traded_is_0_and_a_defect_outranks_everything() -> None:
    assert (exit_code([], 0), exit_code([FLAT], 1), exit_code([holding()], 2)) == (0, 70, 70)


@pytest.mark.parametrize(("snapshot", "code"), [(FLAT, 0), (PROTECTED, 7), (ENTRY_RESTS, 7)])
def test_what_a_silent_or_closed_venue_may_hold_is_not_called_protected(snapshot: Snapshot, code: int) -> None:
    """EXI-04: unsold at the close is 7."""
    assert exit_code([snapshot], 0, certain=False) == code


def test_settled_is_nothing_held_and_nothing_resting() -> None:
    assert [settled(s) for s in (FLAT, PROTECTED, ENTRY_RESTS, Snapshot("SBIN", stop=order()))] == [True, False, False, False]


def test_a_protecting_stop_waits_for_entries_to_be_gone_and_stops_to_be_certain() -> None:
    waiting = [
        ENTRY_RESTS,
        holding(unprotected_ms=1),
        holding(stop=order(status=Status.CANCELLING)),
        holding(stop=order(verified=False)),
    ]

    assert [entries_gone(s) for s in (FLAT, PROTECTED, *waiting)] == [True, True, False, False, False, False]


def test_what_is_left_open_is_said_in_words() -> None:
    assert describe_open([FLAT, PROTECTED, holding(), ENTRY_RESTS]) == [
        "SBIN: position 5, stop 730.15 is working",
        "SBIN: position 5, NO STOP is working",
        "SBIN: buy stop 5 @ 730.15 is WORKING",
    ]
