"""The journal, a real SQLite file, against a plain list of what was committed: kills, torn ends, restarts, ends in order."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from state.journal import state_hash
from state.snapshot import Snapshot
from state.symbol_state import Work
from tests.machines import play
from tests.state.journal_story import Story, open_journal

SYMBOLS = ("SBIN", "ABSLAMC")


class Recorded(RuleBasedStateMachine):
    """`committed` is the reference: every work whose commit has returned, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / "journal.db"
        self.committed: list[Work] = []
        self.waiting: list[Work] = []
        self.stories: dict[str, Story] = {}

    @initialize()
    def begins(self) -> None:
        self.journal, resumed = open_journal(self.path)
        assert (resumed.was, resumed.snapshots) == (None, {})
        self._go_on()

    # -- a session -----------------------------------------------------------------------------------------------------------

    @rule(chances=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=8))
    def things_happen(self, chances: list[tuple[int, int, int]]) -> None:
        for what, which, how in chances:
            self.stories[SYMBOLS[which % 2]].chance(what, which, how)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 9))
    def some_are_committed(self, count: int) -> None:
        works, self.waiting = self.waiting[:count], self.waiting[count:]
        self.journal.commit_many(works)
        self.committed += works

    # -- and its ends --------------------------------------------------------------------------------------------------------

    @rule()
    def killed(self) -> None:
        """What was not committed never happened."""
        self.journal.close()
        self._begin_again("running", torn=0)

    @precondition(lambda self: self.committed)
    @rule(count=st.integers(1, 3))
    def killed_and_the_last_records_torn(self, count: int) -> None:
        """A disk that lied: the end is cut off, everything before it stands."""
        torn = min(count, len(self.committed))
        self.journal.close()
        with closing(sqlite3.connect(self.path)) as file, file:
            last = "SELECT id FROM records ORDER BY id DESC LIMIT ?"
            file.execute(f"UPDATE records SET chain = zeroblob(16) WHERE id IN ({last})", (torn,))
        del self.committed[-torn:]
        self._begin_again("running", torn)

    @rule(code=st.sampled_from([0, 5, 7]))
    def ended_in_order(self, code: int) -> None:
        self.journal.finish(code)
        self.journal.close()
        self._begin_again("finished", torn=0)

    def _begin_again(self, was: str, torn: int) -> None:
        self.journal, resumed = open_journal(self.path)
        assert resumed.was == was
        assert (resumed.repaired is not None) == bool(torn)
        assert resumed.snapshots == self.expected
        self._go_on()

    def _go_on(self) -> None:
        """The runner goes on from what the journal gave back."""
        self.waiting = []
        self.stories = {name: Story(name, self.keep, self.expected.get(name)) for name in SYMBOLS}

    def keep(self, work: Work) -> None:
        self.waiting.append(work)

    # -- what must be true ---------------------------------------------------------------------------------------------------

    @property
    def expected(self) -> dict[str, Snapshot]:
        return {work.after.symbol: work.after for work in self.committed}

    @invariant()
    def it_holds_what_was_committed_and_nothing_else(self) -> None:
        assert self.journal.state_hash() == state_hash(self.expected)

    @rule()
    def read_back(self) -> None:
        assert self.journal.restore() == self.expected

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
        self._folder.cleanup()


TestRecorded = Recorded.TestCase
TestRecorded.settings = play(8, steps=25)
