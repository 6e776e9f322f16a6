"""The decision core as the model check drives it: snapshots as small numbers, events as small tuples, every decision kept.

Owns the normal form in which two snapshots that behave alike are one: monotonic times are relative to an eternal *now*, texts are
dropped, counters end where they no longer matter. It decides nothing itself and must never let the normal form hide a difference
that `decide` can see: what is dropped here is dropped because no branch of the machine reads it.
"""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

from msgspec.structs import replace

from simulation.model_rules import LEVEL_MS, SETTLE_MS, Rulebook, make_rules

NOW = 1_000_000  # monotonic time of every decision, less one
BEAT = 3_000  # how far a heartbeat moves time
OLDEST = NOW - 3 * BEAT  # older than this is simply old: every limit of ours is shorter
ELSEWHEN = 40 * BEAT  # a restarted process counts its monotonic time from somewhere else
MOST = 5  # failures are only told apart up to here (the pauses no longer grow)

Key = tuple[Any, ...]


class Cmd(NamedTuple):
    """A command without its texts: what reaches the venue."""

    kind: str  # submit, replace, cancel
    client_id: str
    purpose: str
    sign: int
    type: str
    qty: int
    trigger: int
    venue_id: str | None


class Info(NamedTuple):
    """What the runner around the machine reads from a snapshot: whom it knows, and whom it must look for."""

    known: dict[str, str]  # venue id -> client id
    lost: tuple[tuple[str, Key, bool], ...]  # unanswered: client id, how its row would look, settle window over
    position: int


class Decision(NamedTuple):
    snapshot: int
    commands: tuple[Cmd, ...]
    touched: frozenset[str]  # client ids that changed their mind, "" when a fill was learnt


class Machine:
    """`decide` with a memory. Snapshots are known by number; number 0 is the empty one."""

    def __init__(self, core: SimpleNamespace, book: Rulebook) -> None:
        self.core, self.book = core, book
        self.rules = make_rules(core, book)
        self.snapshots: list[Any] = []
        self.infos: list[Info] = []
        self._numbers: dict[Any, int] = {}
        self._decisions: dict[Key, Decision] = {}
        self._aged: dict[int, int] = {}
        self._restarted: dict[int, int] = {}
        self._whys: dict[Key, str | None] = {}
        self._quiet: set[tuple[int, int]] = set()  # looked at: a heartbeat changes nothing there
        self.faults: list[str] = []  # decisions that are wrong by themselves
        self.number(self._normal(core.snapshot.Snapshot(symbol="A")))

    def number(self, snapshot: Any) -> int:
        found = self._numbers.get(snapshot)
        if found is None:
            found = self._numbers[snapshot] = len(self.snapshots)
            self.snapshots.append(snapshot)
            self.infos.append(self._info(snapshot))
        return found

    def decide(self, snapshot: int, level: int, key: Key) -> Decision:
        question = (snapshot, level, key)
        answer = self._decisions.get(question)
        if answer is None:
            answer = self._decisions[question] = self._decide(snapshot, level, key)
        return answer

    def _decide(self, number: int, level: int, key: Key) -> Decision:
        before = self.snapshots[number]
        try:
            after, commands = self.core.machine.decide(before, self.event(level, key), self.rules)
        except Exception as error:  # whatever it is: a machine must not raise
            self.faults.append(f"{key} raised {error!r}")
            return Decision(number, (), frozenset())
        if after is before and not commands:
            return Decision(number, (), frozenset())
        wrong = self.core.invariants.broken(before, after, commands, self.rules)
        if wrong is not None:
            self.faults.append(f"{key} broke {wrong}")
        touched = {order.client_id for order in after.live_orders() if order.changed_ms > NOW}
        if after.fill_ms > NOW:
            touched.add("")
        decision = Decision(self.number(self._normal(after)), self._asks(commands), frozenset(touched))
        self._settled(decision.snapshot, level, key)
        return decision

    def _settled(self, number: int, level: int, key: Key) -> None:
        """Settling what is settled does nothing."""
        if (number, level) in self._quiet:
            return
        self._quiet.add((number, level))
        again = self.decide(number, level, ("beat",))
        if again.snapshot != number or again.commands:
            self.faults.append(f"settling twice differs after {key}: {[command[:2] for command in again.commands]}")

    def why_not(self, snapshot: int, level: int, command: Cmd) -> str | None:
        question = (snapshot, level, command)
        if question not in self._whys:
            s = self.snapshots[snapshot]
            self._whys[question] = self.core.machine.why_not_carry_out(s, self._command(command), self.rules, level * LEVEL_MS)
        return self._whys[question]

    def aged(self, snapshot: int) -> int:
        """The same snapshot one beat later."""
        found = self._aged.get(snapshot)
        if found is None:
            found = self._aged[snapshot] = self.number(self._later(self.snapshots[snapshot]))
        return found

    def restarted(self, snapshot: int) -> int:
        """As the journal gives it back: its monotonic times belong to a clock that is gone."""
        found = self._restarted.get(snapshot)
        if found is None:
            found = self._restarted[snapshot] = self.number(self._elsewhen(self.snapshots[snapshot]))
        return found

    # -- the normal form -------------------------------------------------------------------------------------------------

    def _normal(self, s: Any) -> Any:
        changes = {slot: self._order(getattr(s, slot)) for slot in self.core.snapshot.SLOTS if getattr(s, slot) is not None}
        for name in ("stop", "exit", "target"):
            changes[f"{name}_failures"] = min(getattr(s, f"{name}_failures"), MOST)
            at = _now(getattr(s, f"{name}_retry_ms"))
            changes[f"{name}_retry_ms"] = at if at > NOW else 0
        for name in ("crossed_ms", "unprotected_ms"):
            at = getattr(s, name)
            changes[name] = None if at is None else max(_now(at), OLDEST)
        return replace(
            s,
            **changes,
            version=0,
            why="",
            peak=None,
            worst_unprotected=0,
            unprotected_told=min(s.unprotected_told, MOST),
            ended=tuple(self._ended(order) for order in s.ended),
            closing="x" if s.closing else None,
            halted="x" if s.halted else None,
            blocks=tuple((source, "") for source, _ in s.blocks),
            fill_ms=max(_now(s.fill_ms), OLDEST),
            disagreed_ms=max(_now(s.disagreed_ms), OLDEST) if s.disagreements else 0,
        )

    def _order(self, order: Any) -> Any:
        return replace(
            order,
            reason="",
            attempts=min(order.attempts, MOST),
            changed_ms=max(_now(order.changed_ms), OLDEST),
            retry_ms=max(_now(order.retry_ms), NOW) if order.retry_ms else 0,
            late_ms=max(_now(order.late_ms), OLDEST) if order.late_ms else 0,
        )

    def _ended(self, order: Any) -> Any:
        """An order that is over is only asked for its name and purpose."""
        return self.core.orders.Order(
            client_id=order.client_id,
            symbol="A",
            purpose=order.purpose,
            side=order.side,
            type=order.type,
            qty=Decimal(0),
            venue_id=order.venue_id,
        )

    def _later(self, s: Any) -> Any:
        changes: dict[str, Any] = {}
        for slot in self.core.snapshot.SLOTS:
            order = getattr(s, slot)
            if order is not None:
                retry = max(order.retry_ms - BEAT, NOW) if order.retry_ms else 0
                late = max(order.late_ms - BEAT, OLDEST) if order.late_ms else 0
                changes[slot] = replace(order, changed_ms=max(order.changed_ms - BEAT, OLDEST), retry_ms=retry, late_ms=late)
        for name in ("stop_retry_ms", "exit_retry_ms", "target_retry_ms"):
            at = getattr(s, name) - BEAT
            changes[name] = at if at > NOW else 0
        for name in ("crossed_ms", "unprotected_ms"):
            at = getattr(s, name)
            changes[name] = None if at is None else max(at - BEAT, OLDEST)
        disagreed = max(s.disagreed_ms - BEAT, OLDEST) if s.disagreements else 0
        return replace(s, **changes, fill_ms=max(s.fill_ms - BEAT, OLDEST), disagreed_ms=disagreed)

    def _elsewhen(self, s: Any) -> Any:
        changes: dict[str, Any] = {}
        for slot in self.core.snapshot.SLOTS:
            order = getattr(s, slot)
            if order is not None:
                retry = order.retry_ms + ELSEWHEN if order.retry_ms else 0
                late = order.late_ms + ELSEWHEN if order.late_ms else 0
                changes[slot] = replace(order, changed_ms=order.changed_ms + ELSEWHEN, retry_ms=retry, late_ms=late)
        for name in ("stop_retry_ms", "exit_retry_ms", "target_retry_ms", "crossed_ms", "unprotected_ms", "disagreed_ms"):
            at = getattr(s, name)
            changes[name] = at + ELSEWHEN if at else at
        return replace(s, **changes, fill_ms=s.fill_ms + ELSEWHEN)

    # -- words of the model <-> words of the machine -----------------------------------------------------------------------

    def _info(self, s: Any) -> Info:
        known = {order.venue_id: order.client_id for order in (*s.ended, *s.live_orders()) if order.venue_id is not None}
        lost = tuple(
            (order.client_id, fingerprint(order), NOW - order.changed_ms >= SETTLE_MS)
            for order in s.live_orders()
            if order.status is self.core.orders.Status.UNKNOWN and order.venue_id is None
        )
        return Info(known, lost, int(s.position))

    def _asks(self, commands: list[Any]) -> tuple[Cmd, ...]:
        words = self.core.commands
        out = []
        for command in commands:
            if isinstance(command, words.Submit):
                out.append(_cmd("submit", command.order, command.order.qty, command.order.trigger_price))
            elif isinstance(command, words.Replace):
                out.append(_cmd("replace", command.order, command.qty, command.trigger_price))
            elif isinstance(command, words.Cancel):
                out.append(_cmd("cancel", command.order, command.order.qty, command.order.trigger_price))
        return tuple(out)

    def _command(self, command: Cmd) -> Any:
        orders, words = self.core.orders, self.core.commands
        order = orders.Order(
            client_id=command.client_id,
            symbol="A",
            purpose=orders.Purpose(command.purpose),
            side=orders.Side.BUY if command.sign > 0 else orders.Side.SELL,
            type=orders.OrderType(command.type),
            qty=Decimal(command.qty),
        )
        if command.kind == "submit":
            return words.Submit(order)
        if command.kind == "cancel":
            return words.Cancel(order)
        return words.Replace(order, Decimal(command.qty), Decimal(command.trigger) if command.trigger else None)

    def event(self, level: int, key: Key) -> Any:
        """The machine's event for a key of the model: (name, client id, ...)."""
        events, name = self.core.events, key[0]
        when = {"mono_ms": NOW + 1, "now_ms": level * LEVEL_MS}
        if name == "tick":
            return events.Tick(**when, price=Decimal(key[1]))
        if name == "beat":
            return events.Heartbeat(**when)
        if name == "accepted":
            return events.Accepted(**when, client_id=key[1], venue_id=key[2])
        if name == "acknowledged":
            return events.Acknowledged(**when, client_id=key[1], act=events.Act(key[2]))
        if name == "refused":
            return events.WasRefused(**when, client_id=key[1], act=events.Act(key[2]), reason="no")
        if name == "not sent":
            return events.NotSent(**when, client_id=key[1], act=events.Act(key[2]), reason="no", again=key[3])
        if name == "unanswered":
            return events.WentUnanswered(**when, client_id=key[1], act=events.Act(key[2]), reason="time-out")
        if name == "row":
            return events.OrderSeen(**when, client_id=key[1], row=self._row(key[2]), asked_ms=key[3])
        if name == "fill":
            return events.FillSeen(**when, fill=self._fill(*key[1:]))
        if name == "position":
            return events.PositionSeen(**when, qty=Decimal(key[1]), asked_ms=key[2])
        simple = {
            "absent": lambda: events.ProvedAbsent(**when, client_id=key[1]),
            "quarantined": lambda: events.WasQuarantined(**when, client_id=key[1], reason="two alike"),
            "entries off": lambda: events.EntriesOff(**when, source="recovery", reason=""),
            "entries on": lambda: events.EntriesOn(**when, source="recovery"),
            "flatten": lambda: events.FlattenAsked(**when, reason="asked"),
            "restarted": lambda: events.Restarted(**when),
        }
        return simple[name]()

    def _row(self, row: Key) -> Any:
        venue_id, sign, type, qty, trigger, state, filled, average = row
        orders, reports = self.core.orders, self.core.reports
        return reports.OrderRow(
            venue_id=venue_id,
            symbol="A",
            side=orders.Side.BUY if sign > 0 else orders.Side.SELL,
            state=reports.Reported(state),
            qty=Decimal(qty),
            type=orders.OrderType(type),
            trigger_price=Decimal(trigger) if trigger else None,
            filled=None if filled is None else Decimal(filled),
            average=None if average is None else Decimal(average),
        )

    def _fill(self, client_id: str, trade_id: str, purpose: str, sign: int, qty: int, at: int) -> Any:
        orders = self.core.orders
        side = orders.Side.BUY if sign > 0 else orders.Side.SELL
        return self.core.ledger.Fill(trade_id, client_id, orders.Purpose(purpose), side, Decimal(qty), Decimal(at), 0)


def fingerprint(order: Any) -> Key:
    """How an order of ours would look in the book: nothing there says that it is ours."""
    return order.side.sign, order.type.value, int(order.qty), int(order.trigger_price or 0)


def _cmd(kind: str, order: Any, qty: Decimal, trigger: Decimal | None) -> Cmd:
    return Cmd(
        kind, order.client_id, order.purpose.value, order.side.sign, order.type.value, int(qty), int(trigger or 0), order.venue_id
    )


def _now(at: int) -> int:
    """What was decided now (one after NOW) counts as NOW; pauses start there. All pauses are multiples of 250 ms."""
    return at - 1 if at > NOW and (at - NOW) % 250 == 1 else at
