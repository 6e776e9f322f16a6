"""Mutants of what carries: desk, reports, poller, feed, breaker, journal, recovery. By exact text, as in `sim_mutants_core`."""

from __future__ import annotations

from simulation.breakage import Edit
from simulation.sim_mutants_core import MISSING_TWICE
from simulation.sim_mutants_words import Mutant

SENT = "            venue_id = self._answered(order, lambda: self._broker.submit(order))\n"
TWICE = """            try:
                venue_id = self._answered(order, lambda: self._broker.submit(order))
            except Unanswered:
                venue_id = self._answered(order, lambda: self._broker.submit(order))
"""
COMMITTED = "            written = self._commit(works)\n"
TOLD = "            for work in works:\n                if not any(work is told for told in loud):\n"
SEEN = """            if owner is not None:
                self._see(*owner, row, asked_ms, source)
                self._look_for_orphan("""
CLAIMED = """            if owner is None and row.symbol in self._states:
                self._look_for_orphan(row.symbol, f"{row.symbol}-X-S999", row, asked_ms)
"""
BEGUN = "            return Resumed(session, mine.state if mine else None, dict(self._last), left, self.repaired, ids)\n"
LOCKED = """        order = command.order
        if (reason := self._why_not_cancel(symbol, command)) is not None:
"""
CALLING = "        with self._states[symbol]._lock:\n            self._broker.orders()\n"
REFUSED_READ = "        except (Refused, Unavailable, Unanswered):\n"
RETURNED = '        return f"the venue holds only {ours} for an exit of {qty}"\n'


def _resumed(**poorer: str) -> str:
    """`begin` as it returns snapshots of which something is missing."""
    changes = ", ".join(f"{name}={value}" for name, value in poorer.items())
    poor = "{symbol: msgspec.structs.replace(s, " + changes + ") for symbol, s in self._last.items()}"
    return BEGUN.replace("dict(self._last)", poor)


MUTANTS: tuple[Mutant, ...] = (
    # -- desk
    Mutant("the desk repeats an order that got no answer", "NET-06", (Edit("brokers.desk", SENT, TWICE),), ("I3",)),
    Mutant(
        "orders are journaled after they were sent",
        "CRA-01",
        (
            Edit("brokers.desk", COMMITTED, "            written = True\n"),
            Edit("brokers.desk", TOLD, "            self._commit(works)\n" + TOLD),
        ),
        ("I3",),
    ),
    Mutant(
        "an entry goes out though it could not be journaled, and the desk does not look whether entries are off",
        "CRA-08",
        (
            Edit("brokers.desk", "        if not written:\n", "        if False:\n"),
            Edit(
                "state.machine", "    if s.blocks:\n        return s.blocks[0][1]\n    return s.halted\n", "    return s.halted\n"
            ),
        ),
        ("I3",),
        300,
        ("host.disk_full", "host.kill"),
    ),
    Mutant(
        "work that came while its symbol was busy is forgotten",
        "CON-17",
        (Edit("brokers.desk", "            if symbol in self._lanes:\n", "            if False:\n"),),
        ("I3", "I4", "I12"),
    ),
    Mutant(
        "two desks work for one symbol at a time",
        "CON-17",
        (Edit("brokers.desk", "if symbol in self._lanes and symbol not in self._busy:", "if symbol in self._lanes:"),),
        ("defect", "I12"),
    ),
    Mutant(
        "the broker is called under the symbol's lock",
        "CON-12",
        (
            Edit(
                "brokers.desk",
                LOCKED,
                LOCKED.replace("        if", CALLING + "        if"),
            ),
        ),
        ("I10",),
    ),
    Mutant(
        "the breaker stops exits and stops too",
        "NET-10",
        (
            Edit(
                "brokers.desk",
                "        if order.purpose is not Purpose.ENTRY:\n            return None\n        if not written:",
                "        if order.purpose is not Purpose.ENTRY:\n            return self._breaker.why_not(order.client_id)\n"
                "        if not written:",
            ),
        ),
        ("I4", "I12"),
    ),
    Mutant(
        "a failed read of one order counts as an answer that does not show it, and one such answer as its end",
        "REC-11 NET-13",
        (
            Edit("state.sightings", MISSING_TWICE, "    if True:\n"),
            Edit(
                "brokers.desk",
                REFUSED_READ + "            return None\n",
                REFUSED_READ + "            self._reports.missing(order, asked_ms)\n            return None\n",
            ),
        ),
        ("I5", "I1"),
    ),
    Mutant(
        "an entry that is let through takes no place",
        "RIS-04",
        (Edit("state.risk", "            if reason is None:\n                self._taken.add(order.symbol)\n", ""),),
        ("I7",),
    ),
    Mutant(
        "only positions count for the limit of positions, not entries under way or in doubt",
        "RIS-04",
        (
            Edit(
                "state.risk",
                "        return not snapshot.position and not snapshot.live_orders()\n",
                "        return not snapshot.position\n",
            ),
        ),
        ("I7",),
    ),
    Mutant(
        "a restart does not know which places are taken",
        "RIS-03 CRA-09",
        (
            Edit(
                "state.risk",
                "        self._taken = {symbol for symbol in states if not self._free(symbol)}\n",
                "        self._taken: set[str] = set()\n",
            ),
        ),
        ("I7",),
    ),
    # -- reports: unanswered orders
    Mutant(
        "what the books do not show at once was never sent: no settle window, and one empty answer is proof",
        "UNK-07 CRA-06",
        (
            Edit("brokers.reports", "self.settle_ms = int(settle_window_s * 1000)", "self.settle_ms = 0"),
            Edit("brokers.reports", "elif order.client_id not in self._absent:", "elif False:"),
        ),
        ("I12", "I5", "I9", "I1"),
    ),
    Mutant(
        "an amend without an answer may be followed by another at once",
        "UNK-11",
        (Edit("live_session", "int(can.settle_window_s * 1000))", "0)"),),
        ("I6", "I4", "I5"),
        300,
        ("replace.late",),
    ),
    Mutant(
        "an unanswered order is never looked for",
        "UNK-10 UNK-13",
        (Edit("brokers.reports", "            if len(alike) == 1:\n", "            if False:\n"),),
        ("I12", "I4"),
    ),
    Mutant(
        "orders of others are taken for orphans of ours",
        "REC-07",
        (Edit("brokers.reports", SEEN, CLAIMED + SEEN),),
        ("I11",),
    ),
    # -- poller
    Mutant(
        "the poller stops after three failures",
        "REC-03",
        (
            Edit(
                "brokers.poller",
                "        self._failures += 1\n",
                "        self._failures += 1\n        if self._failures >= 3:\n            self.stop()\n",
            ),
        ),
        ("I12",),
    ),
    Mutant(
        "the trade book is never read",
        "FIL-01 FIL-09",
        (
            Edit(
                "brokers.poller",
                "            fills = self._broker.fills()\n        except",
                "            fills = []\n        except",
            ),
        ),
        ("I5", "I2", "I12"),
    ),
    Mutant(
        "positions are never compared",
        "REC-05 REC-12",
        (Edit("brokers.poller", "            held = self._broker.positions() if positions else None\n", ""),),
        ("I4", "I5", "I9"),
    ),
    # -- feed and switchboard
    Mutant(
        "a lost connection is not made again",
        "FEE-02",
        (
            Edit(
                "brokers.feed",
                "            reason = self._connect_and_read()\n            if not",
                "            reason = self._connect_and_read()\n            self._stopping.set()\n            if not",
            ),
        ),
        ("I12",),
    ),
    Mutant(
        "a dead connection is waited on",
        "FEE-02",
        (
            Edit(
                "brokers.feed",
                '            raise WireClosed(f"nothing heard for {silent_ms // 1000} s, not even an answer to a ping")\n',
                "            return\n",
            ),
        ),
        ("I12",),
        300,
        ("feed.dead",),
    ),
    Mutant(
        "a stream that never brings a price is believed",
        "FEE-10",
        (Edit("brokers.feed", "            self._log_in_again(connection)\n", "            pass\n"),),
        ("I12",),
        300,
        ("feed.hollow",),
    ),
    Mutant(
        "after a reconnect nobody lets the ticks through",
        "FEE-03",
        (Edit("brokers.switchboard", "            self.feed.release(self._asked_on)\n", "            pass\n"),),
        ("I12",),
    ),
    Mutant(
        "a symbol that has its ticks again stays without entries",
        "FEE-01",
        (Edit("brokers.switchboard", '            if source in ("start", "feed"):\n', '            if source == "start":\n'),),
        ("I12",),
    ),
    Mutant(
        "the account stays without entries after the poll works again",
        "REC-03",
        (Edit("brokers.switchboard", '        self.unblock("poll")\n', ""),),
        ("I12",),
    ),
    Mutant(
        "order updates of the stream are not passed on",
        "NET-09",
        (Edit("brokers.switchboard", 'if self._reports.order_update(row, self._clock.monotonic_ms(), "stream"):', "if False:"),),
        ("I4",),
    ),
    # -- journal and recovery
    Mutant(
        "the journal does not keep the entries used",
        "CRA-03 ENT-02",
        (
            Edit(
                "state.journal_delta",
                '_DERIVED = ("symbol", "version", "ledger")',
                '_DERIVED = ("symbol", "version", "ledger", "entries_used")',
            ),
        ),
        ("I7",),
    ),
    Mutant(
        "the journal does not keep how many orders there were",
        "CRA-01 UNK-13",
        (
            Edit(
                "state.journal_delta",
                '_DERIVED = ("symbol", "version", "ledger")',
                '_DERIVED = ("symbol", "version", "ledger", "sequence")',
            ),
        ),
        ("I3",),
    ),
    Mutant(
        "the journal skips what the venue shows",
        "FIL-01 CRA-05",
        (
            Edit(
                "state.journal",
                "        for number, work in enumerate(works, self._number + 1):\n",
                "        works = [work for work in works if type(work.event).__name__ not in ('FillSeen', 'OrderSeen')]\n"
                "        for number, work in enumerate(works, self._number + 1):\n",
            ),
        ),
        ("I2", "I3"),
    ),
    Mutant(
        "a recovered journal does not know that a stop rests",
        "CRA-03",
        (Edit("state.journal", BEGUN, _resumed(stop="None")),),
        ("I3", "I5"),
    ),
    Mutant(
        "a restart counts the executions of the day once more",
        "CRA-02 CRA-05",
        (
            Edit(
                "state.journal",
                BEGUN,
                _resumed(ledger="msgspec.structs.replace(s.ledger, trade_ids=type(s.ledger.trade_ids)())"),
            ),
        ),
        ("I5", "I4", "I2"),
    ),
    Mutant(
        "a start looks at no journal",
        "CRA-03 CRA-12",
        (Edit("live_session", "resumed.snapshots.get(symbol, Snapshot(symbol)),", "Snapshot(symbol),"),),
        ("I3", "I4", "defect"),
    ),
    Mutant(
        "a restart asks the venue nothing, and nobody looks again",
        "CRA-01",
        (
            Edit(
                "live_session",
                "                state.apply(Restarted(",
                "                (lambda event: None)(Restarted(",
            ),
        ),
        ("I12", "I4"),
    ),
)
