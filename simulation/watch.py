"""The oracle of simulated runs: I1 to I12 of DESIGN, section 8, judged from the venue's truth while it happens.

Owns what counts as a violation, and who is excused. What must never be is judged at the change itself; what must not last, at
the first step after its bound, and that counts only while a process lives, has had its recovery, and no fault is at work.
Must never ask the runner what is true: what it wants and believes is read for I6 and I12 alone. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from brokers.base import FillRow, OrderRow
from brokers.matching import Change
from ops.ending import OK, PROTECTED_OPEN
from simulation.primitives import SimLock
from simulation.scheduler import Scheduler
from simulation.watch_book import Book, Moved
from simulation.watch_end import Ended, broken_promises, judge_the_end
from simulation.watch_excuses import ASSUMPTIONS, LYING, MOVERS, RESEMBLING, groundless, quarantined
from simulation.watch_lasting import Bounds, Lasting, Patience, exceeding, in_the_book, in_the_runner, names
from simulation.watch_runner import Wishes
from simulation.world import World
from state.journal_read import JournalReader
from state.orders import Order, Purpose, Side
from state.reports import Reported
from state.symbol_state import NEVER_MS, SymbolState

__all__ = ["Bounds", "Violation", "Watch"]


class Violation(msgspec.Struct, frozen=True):
    invariant: str
    symbol: str
    step: int
    mono_ms: int
    text: str


class Watch:
    """One of each run, for all its lives. `placed` and `changed` come from the world, everything else from who drives the run."""

    def __init__(
        self,
        world: World,
        max_entries: Mapping[str, int],
        bounds: Bounds | None = None,
        *,
        most_open: int | None = None,
        stop_at_first: bool = True,
    ) -> None:
        self._world, self._limits, self._most_open, self._stop_at_first = world, max_entries, most_open, stop_at_first
        self.bounds = bounds = bounds or Bounds()
        self.violations: list[Violation] = []
        self._said: set[str] = set()
        self._beyond_us: set[str] = set()  # symbols in which no runner could know what is true any more
        self._books = {symbol: Book(symbol) for symbol in world.instruments}
        self._wishes = {symbol: Wishes() for symbol in world.instruments}
        self._labels: dict[str, str] = {}  # client order id -> venue order id
        self._foreign: dict[str, OrderRow] = {}
        self._unheard: dict[str, int] = {}  # symbol -> since when a trade by hand may not have been noticed
        self._by_hand: dict[str, Side] = {}  # symbol -> which side that was
        self._prices: dict[str, tuple[Decimal | None, int]] = {}  # symbol -> last price, since when
        self._patience, self._due_ms = Patience(), 0
        self._scheduler: Scheduler | None = None  # of the process that lives
        self._states: Mapping[str, SymbolState] = {}
        self._locks: list[SimLock] = []
        self._recovered_ms, self._cutoff_ms = 0, NEVER_MS
        self._struck = self._struck_ms = self._steps_before = 0
        self._late: set[str] = set()  # held past the cutoff and its bound, in this life
        self._ended: Ended | None = None
        world.watchers.append(self)
        world.later(bounds.tick_ms, self._probe)

    @property
    def trips(self) -> int:
        """Round trips that have ended."""
        return sum(book.trips for book in self._books.values())

    # -- lives -----------------------------------------------------------------------------------------------------------------

    def attach(self, states: Mapping[str, SymbolState], scheduler: Scheduler) -> None:
        """A process has begun, with what its journal gave back."""
        self._states, self._scheduler, self._late, self._due_ms = states, scheduler, set(), 0
        self._locks = [state._lock for state in states.values() if isinstance(state._lock, SimLock)]
        self._recovered_ms = self._world.mono_ms + self.bounds.recovery_ms
        self._cutoff_ms = min((state.rules.cutoff_ms for state in states.values()), default=NEVER_MS)
        self._patience.begin()
        for wishes in self._wishes.values():
            wishes.begin()
        for order in self._world.placed.values():
            if order.symbol in states and _number(order) >= states[order.symbol].snapshot.sequence:
                self._judge_lost(order)

    def killed(self) -> None:
        """The process is gone, in the middle of what it did."""
        self._gone()

    def ended(self, code: int, alarms: Sequence[str] = ()) -> None:
        """A process has ended by itself, with this exit code, after these alarms."""
        self._judge_the_code(code)
        for symbol in sorted(self._late):
            if code == OK and not any(symbol in alarm for alarm in alarms):
                self.broken("I8", symbol, "held past the cutoff and its bound, and neither an alarm nor the exit code says so")
        quiet_ms = self._world.mono_ms - (self._calm_ms() if code == OK else max(self._calm_ms(), self._recovered_ms))
        over = self._world.now_ms() >= self._cutoff_ms
        self._gone()
        self._ended = Ended.of(self._world, self._books.values(), code, quiet_ms, over, bool(self._foreign))

    def _judge_the_code(self, code: int) -> None:
        """What happened in the last moments, or under a fault, may not have been heard of."""
        if code not in (OK, PROTECTED_OPEN):
            return
        for symbol, book in self._books.items():
            quiet_ms = self._world.mono_ms - max(book.changed_ms, self._world.troubled_until_ms)
            if quiet_ms >= self.bounds.notice_ms and symbol not in self._unheard:
                for found in broken_promises(book, code):
                    self.broken(found.rule, symbol, found.text)

    def _gone(self) -> None:
        if self._scheduler is not None:
            self._steps_before += self._scheduler.steps
        self._scheduler, self._locks, self._ended = None, [], None

    def finish(self, reader: JournalReader) -> list[Violation]:
        """After the last life: the runner's own words against what was true when it ended. All violations of the run."""
        if self._ended is not None and not (self.violations and self._stop_at_first):
            for found in judge_the_end(self._ended, reader, self._limits, self.bounds.settle_ms, self.bounds.converge_ms):
                self.broken(found.rule, found.symbol, found.text)
        return self.violations

    def broken(self, invariant: str, symbol: str, text: str, key: str | None = None) -> None:
        """A violation. With `key` the same one is told once."""
        if symbol in self._beyond_us or key in self._said:
            return
        if key is not None:
            self._said.add(key)
        steps = self._steps_before + (0 if self._scheduler is None else self._scheduler.steps)
        self.violations.append(Violation(invariant, symbol, steps, self._world.mono_ms, text))
        self._due_ms = 0

    # -- the seams of the process ----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """At every step of the scheduler: one comparison, unless something is due."""
        if self._world.mono_ms >= self._due_ms:
            self._look()
            if self._stop_at_first and self.violations and self._scheduler is not None and not self._scheduler.crashed:
                self._scheduler.crash()

    def at_seam(self) -> None:
        """Before and after every broker call and commit, on the thread that makes it: it must hold no symbol's lock (I10)."""
        if self._scheduler is None:
            return
        me = self._scheduler.present
        for lock in self._locks:
            if lock.holder is me:
                self.broken("I10", "", f"{me.name} calls the broker or commits while it holds a symbol's lock", f"I10/{me.name}")
        for symbol, state in self._states.items():
            for text in self._wishes[symbol].look(state.snapshot, self._world.instruments[symbol]):
                self.broken("I6", symbol, text)

    def _probe(self) -> None:
        """I10, as time moves on: nobody can go on now, so who holds the lock that the tick thread waits for, waits himself."""
        self._world.later(self.bounds.tick_ms, self._probe)
        if self._scheduler is None or self._world.mono_ms <= self._world.troubled_until_ms:
            return  # a fault may hold up a thread wherever it is
        for task in self._scheduler.tasks:
            lock = task.waits_for
            if task.name == "ticks" and isinstance(lock, SimLock) and lock.holder is not None:
                self.broken("I10", "", f"ticks wait for a lock while {lock.holder.name}, who holds it, waits too", "I10/ticks")

    # -- the truth -------------------------------------------------------------------------------------------------------------

    def placed(self, order: Order, row: OrderRow) -> None:
        """An order of ours has reached the book."""
        symbol, book = order.symbol, self._books[order.symbol]
        first = self._labels.setdefault(order.client_id, row.venue_id)
        if first != row.venue_id:
            self.broken("I3", symbol, f"{order.client_id} was sent twice: {first} and {row.venue_id}")
        if order.purpose is Purpose.ENTRY:
            self._judge_entry(book, order)
        elif order.purpose is Purpose.STOP and book.ours and order.side is not book.reducing_side:
            self._never("I6", symbol, f"{order.client_id}: a {order.side.value} stop for a position of {book.ours}")
        self._stands(book, order, row)

    def changed(self, change: Change) -> None:
        book, ours = self._books[change.symbol], self._world.placed.get(change.venue_id)
        if isinstance(change, FillRow):
            if ours is None:
                if change.symbol in self._unheard and change.side is not self._by_hand.get(change.symbol):
                    self._beyond_us.add(change.symbol)  # they undid before anybody looked what they had done: it leaves no trace
                self._unheard[change.symbol], self._by_hand[change.symbol] = self._world.mono_ms, change.side
            elif change.venue_id not in book.resting:
                self._beyond_us.add(change.symbol)  # it had ended: the venue's last word was none
            self._judge_move(book, book.filled(change, None if ours is None else ours.purpose, self._world.mono_ms))
            return  # the order's own row follows, and only then does it all fit together
        if ours is None:
            self._judge_foreign(change)
            self._judge(book)
        else:
            self._stands(book, ours, change)

    def _stands(self, book: Book, order: Order, row: OrderRow) -> None:
        waits = row.trigger_price is not None and not self._world.engine.triggered(row.venue_id)
        book.rests(order.client_id, order.purpose, row, waits, self._world.mono_ms)
        if order.purpose is Purpose.STOP and row.state is Reported.WORKING and row.trigger_price is not None:
            self._judge_level(book, order, row)
        self._judge(book)

    def _judge(self, book: Book) -> None:
        """What follows from the book as it now is."""
        if len(entries := book.entry_orders) > 1:
            self._never("I1", book.symbol, f"two entries at work at one time: {names(entries)}")
        if book.beyond:
            self._never("I5", book.symbol, exceeding(book))
        since_ms = self._patience.bare(book.symbol, self._world.mono_ms, bool(book.bare))
        if book.bare:
            self._due_ms = min(self._due_ms, since_ms + self._bare_ms() + 1)

    # -- what must never be ----------------------------------------------------------------------------------------------------

    def _never(self, invariant: str, symbol: str, text: str) -> None:
        """But where it had to come so: then it must not last."""
        if not self._excused(symbol):
            self.broken(invariant, symbol, text, f"{invariant}/{symbol}/{text}")

    def _excused(self, symbol: str) -> bool:
        """A trade by hand was not heard of yet (our stop still covers what was sold), or a venue broke the assumption.

        With a target beside the stop both can fill before the one has gone: no venue of ours links them.
        """
        if symbol in self._unheard or self._has_struck(ASSUMPTIONS):
            return True
        return any(order.purpose is Purpose.TARGET and order.symbol == symbol for order in self._world.placed.values())

    def _has_struck(self, kinds: frozenset[str]) -> bool:
        return any(fate.kind in kinds for fate in self._world.fates.struck)

    def _lied_to(self) -> bool:
        return sum(fate.kind in LYING for fate in self._world.fates.struck) > 1

    def _judge_lost(self, order: Order) -> None:
        """I3: no committed intent names this order. With a full disk exits go on, and a kill leaves no trace; entries wait."""
        if order.purpose is not Purpose.ENTRY and self._has_struck(frozenset({"host.disk_full"})):
            self._beyond_us.add(order.symbol)
        else:
            text = f"{order.client_id} is at the venue, and the journal that the new process read has no such intent"
            self.broken("I3", order.symbol, text, f"lost/{order.client_id}")

    def _judge_entry(self, book: Book, order: Order) -> None:
        book.entries += 1
        limit = self._limits.get(order.symbol)
        if limit is not None and book.entries > limit:
            self.broken("I7", order.symbol, f"{order.client_id} is entry number {book.entries}, {limit} are allowed")
        others = sum(1 for other in self._books.values() if other is not book and (other.ours or other.entry_orders))
        if self._most_open is not None and others >= self._most_open and not self._unheard:
            self._never(
                "I7", order.symbol, f"{order.client_id} is an entry beside {others} others, {self._most_open} are allowed"
            )
        if book.ours and self._world.mono_ms - book.opened_ms > self.bounds.notice_ms:
            self._never("I1", order.symbol, f"{order.client_id}: an entry while {book.ours} are held")

    def _judge_move(self, book: Book, moved: Moved) -> None:
        if book.tied:
            self._beyond_us.add(book.symbol)
        if moved.turned and moved.by not in (None, Purpose.ENTRY) and not self._excused(book.symbol):
            self.broken("I5", book.symbol, f"an exit took the position from {moved.before} to {moved.after}")

    def _judge_level(self, book: Book, order: Order, row: OrderRow) -> None:
        """Of what stands, levels that the runner asked for. What somebody else has set is to be repaired in time, either way; in
        a run where that happens it may be a level of before by chance."""
        if self._world.fates.struck and row.trigger_price not in self._wishes[book.symbol].levels:
            return
        if not book.tightened(row) and not self._has_struck(MOVERS):
            text = f"the stop was loosened from {book.level} to {row.trigger_price} ({order.client_id})"
            self.broken("I6", book.symbol, text, f"I6/{text}")

    def _judge_foreign(self, row: OrderRow) -> None:
        """I11. What others do with their orders, they do while time moves on."""
        before = self._foreign.get(row.venue_id)
        self._foreign[row.venue_id] = row
        if before is None:
            return
        changed = (row.qty, row.trigger_price, row.limit_price) != (before.qty, before.trigger_price, before.limit_price)
        if changed or (row.state is Reported.CANCELLED and self._by_the_process()):
            self.broken("I11", row.symbol, f"order {row.venue_id} of somebody else was {'changed' if changed else 'cancelled'}")

    def _by_the_process(self) -> bool:
        """It acts only between two waits; when the world acts, everybody waits."""
        return self._scheduler is not None and self._scheduler.present.waits_for is None and not self._scheduler.present.over

    # -- what must not last ----------------------------------------------------------------------------------------------------

    def _bare_ms(self) -> int:
        return self.bounds.bare_ms if self._world.fates.struck else self.bounds.calm_bare_ms

    def _look(self) -> None:
        now_ms, calm_ms = self._world.mono_ms, self._calm_ms()
        lasting = list(self._lasting(now_ms))
        peace = {one.key: max(self._recovered_ms, self._world.troubled_for(one.symbol)) for one in lasting}
        for found, for_ms in self._patience.worn_out(lasting, now_ms, peace, max(self._recovered_ms, calm_ms)):
            if found.invariant == "heard":
                self._unheard.pop(found.symbol, None)
            elif found.invariant == "I8":
                self._late.add(found.symbol)
            else:
                self.broken(found.invariant, found.symbol, f"{found.text}, for {for_ms} ms", found.key)
        self._due_ms = self._patience.next_look_ms(now_ms)

    def _calm_ms(self) -> int:
        """Since when no fault of any kind has struck or been at work."""
        if (struck := len(self._world.fates.struck)) != self._struck:
            self._struck, self._struck_ms = struck, self._world.mono_ms
        return max(self._struck_ms, self._world.troubled_until_ms)

    def _lasting(self, now_ms: int) -> Iterator[Lasting]:
        bounds, over = self.bounds, self._world.now_ms() >= self._cutoff_ms
        if self._world.stream is None:
            yield Lasting("I12", "", "I12/feed", "the feed is not connected", bounds.feed_ms, calm=True)
        for symbol, at_ms in self._unheard.items():
            yield Lasting("heard", symbol, f"heard/{symbol}/{at_ms}", "", bounds.notice_ms)
        for symbol, state in self._states.items():
            s = state.snapshot
            if s.halted and self._has_struck(ASSUMPTIONS | RESEMBLING if quarantined(s) else ASSUMPTIONS):
                self._beyond_us.add(symbol)  # told, and left to a person
            elif groundless(s) and not self._has_struck(ASSUMPTIONS | RESEMBLING) and not self._lied_to():
                self.broken("I12", symbol, f"halted without a reason: {s.halted}", f"halted/{symbol}")
            yield from in_the_book(self._books[symbol], over, bounds, self._bare_ms())
            yield from in_the_runner(s, self._ticking(symbol, now_ms), bounds)

    def _ticking(self, symbol: str, now_ms: int) -> bool:
        """Does its price move? A market that stands still is a reason for entries to be off."""
        price = self._world.engine.last(symbol)
        before = self._prices.get(symbol)
        if before is None or before[0] != price:
            self._prices[symbol] = (price, now_ms)
        return price is not None and now_ms - self._prices[symbol][1] < self.bounds.converge_ms


def _number(order: Order) -> int:
    """Which of its symbol's it is: "SBIN-20261120-E0" was the first."""
    return int(order.client_id.rsplit("-", 1)[-1][1:])
