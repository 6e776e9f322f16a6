"""Runners that are broken on purpose: a crash matrix that finds nothing wrong with these proves nothing.

Each mutant breaks what recovery rests on, in the process that is killed and in the one that recovers. Wrapped from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from brokers.reports import Reports
from state import record
from state.clock import Clock
from state.commands import Submit
from state.events import Restarted
from state.journal import Journal, Resumed
from state.ledger import TradeIds
from state.snapshot import Snapshot
from state.symbol_state import SymbolState, Work


def _act_before_saying() -> None:
    """An intent is not journaled before its order is sent."""
    commit_many = Journal.commit_many

    def forgetful(journal: Journal, works: Sequence[Work]) -> None:
        commit_many(journal, [work for work in works if not any(isinstance(command, Submit) for command in work.commands)])

    setattr(Journal, "commit_many", forgetful)  # noqa: B010


def _believe_the_journal() -> None:
    """A restart takes every order for what it was when the process died."""
    record._RECORDERS[Restarted] = lambda draft, event: None


def _forget_the_stop() -> None:
    """A restart does not know that a stop rests."""
    _resume_with(lambda snapshot: replace(snapshot, stop=None))


def _count_again() -> None:
    """A restart counts the executions of the day once more."""
    _resume_with(lambda snapshot: replace(snapshot, ledger=replace(snapshot.ledger, trade_ids=TradeIds())))


def _forget_the_user() -> None:
    """A restart takes what the user has traded by hand for news."""
    _resume_with(lambda snapshot: replace(snapshot, foreign_trades=()))


def _give_up_at_once() -> None:
    """What the book does not show yet is held for never sent: no settle window."""
    make = Reports.__init__

    def impatient(reports: Reports, states: Mapping[str, SymbolState], clock: Clock, settle_window_s: float) -> None:
        make(reports, states, clock, 0)

    setattr(Reports, "__init__", impatient)  # noqa: B010


def _resume_with(broken: Callable[[Snapshot], Snapshot]) -> None:
    begin = Journal.begin

    def poorer(journal: Journal, key: str, **facts: str) -> Resumed:
        resumed = begin(journal, key, **facts)
        return replace(resumed, snapshots={symbol: broken(snapshot) for symbol, snapshot in resumed.snapshots.items()})

    setattr(Journal, "begin", poorer)  # noqa: B010


class Mutant(NamedTuple):
    """A defect, and the seam after which it must show."""

    break_it: Callable[[], None]
    kill_at: str
    script: str = "calm"  # of crash_day.SCRIPTS


MUTANTS = {
    "act-before-saying": Mutant(_act_before_saying, "submit:after:1"),
    "believe-the-journal": Mutant(_believe_the_journal, "submit:before:1"),
    "count-again": Mutant(_count_again, "replace:after:6"),
    "forget-the-stop": Mutant(_forget_the_stop, "replace:after:6"),
    "forget-the-user": Mutant(_forget_the_user, "submit:after:7", "hostile"),
    "give-up-at-once": Mutant(_give_up_at_once, "submit:after:3", "hostile"),
}
