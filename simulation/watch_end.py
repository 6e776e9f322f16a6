"""The end of a simulated run: what the runner has written down against what was true when its last process ended (I2, I3, I12).

Pure but for reading the journal. The comparison itself is that of `simulation.oracle`, which judges real processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from brokers.practice_truth import API, HAND, TrueFill, TrueOrder, TruePosition, Truth, Version
from ops.ending import OK, PROTECTED_OPEN
from simulation import oracle
from simulation.oracle import Told, Violation
from simulation.watch_book import Book
from simulation.world import World
from state.journal_read import JournalReader, OrderRecord
from state.ledger import settled_fills
from state.orders import ZERO, OrderType, Purpose, Status
from state.reports import FillRow, OrderRow, Reported

ABSENT = "ABSENT"  # the journal's word for an order of which nothing was found


class Ended(msgspec.Struct, frozen=True):
    """The truth as the last process left it. `quiet_ms`: for how long it had been left alone; `fresh_ms`: symbol -> since when
    nothing of ours has changed there; `over`: the cutoff had passed; `by_hand`: others traded in the account."""

    code: int
    quiet_ms: int
    over: bool
    by_hand: bool
    truth: Truth
    fresh_ms: Mapping[str, int]
    altered: frozenset[str]  # venue orders that never traded and are not what was sent
    leaving: bool  # an exit is at work, and the market has not yet taken all of it

    @classmethod
    def of(cls, world: World, books: Iterable[Book], code: int, quiet_ms: int, over: bool, by_hand: bool) -> Ended:
        found = list(books)
        fresh_ms = {book.symbol: world.mono_ms - book.changed_ms for book in found}
        altered = frozenset(row.venue_id for row in world.engine.orders() if _altered(world, row))
        return cls(
            code,
            quiet_ms,
            over,
            by_hand,
            truth_of(world, found),
            fresh_ms,
            altered,
            any(book.ours and book.leaving for book in found),
        )


def _altered(world: World, row: OrderRow) -> bool:
    sent = world.placed.get(row.venue_id)
    if sent is None or row.filled or not row.state.closed:
        return False
    return (row.type, row.qty, row.trigger_price) != (sent.type, sent.qty, sent.trigger_price)


def truth_of(world: World, books: Iterable[Book]) -> Truth:
    """In the oracle's words. Only what it compares with the journal: time lines are judged as they happen."""
    orders = [_order(world, row) for row in world.engine.orders()]
    by_id = {order.venue_id: order for order in orders}
    positions = [TruePosition(book.symbol, book.ours + book.theirs, book.ours, None, ZERO) for book in books]
    return Truth(
        account="simulated",
        at_ms=world.now_ms(),
        real_ms=world.mono_ms,
        open_ms=0,
        speed=world.speed,
        orders=orders,
        fills=[_fill(fill, by_id[fill.venue_id]) for fill in world.engine.fills()],
        positions=positions,
        timeline={},
        requests=[],
        strikes=[],
    )


def _order(world: World, row: OrderRow) -> TrueOrder:
    ours = world.placed.get(row.venue_id)
    label, purpose, origin = ("", "", HAND) if ours is None else (ours.client_id, ours.purpose.value, API)
    type, filled = row.type or OrderType.MARKET, row.filled or ZERO
    state = Reported.CANCELLED if row.state is Reported.EXPIRED else row.state  # OpenAlgo's stream has one word for both
    now = Version(world.now_ms(), world.mono_ms, state, type, row.qty, filled, row.limit_price, row.trigger_price, False)
    return TrueOrder(row.venue_id, row.symbol, row.side, label, purpose, origin, [now])


def _fill(fill: FillRow, order: TrueOrder) -> TrueFill:
    what = (fill.trade_id, fill.venue_id, fill.symbol, fill.side, fill.qty, fill.price)
    return TrueFill(*what, fill.at_ms, 0, order.label, order.purpose, order.origin)


def broken_promises(book: Book, code: int) -> Iterator[Violation]:
    """Exit code 0 says flat with nothing resting, 5 says protected with no entry resting."""
    if code == OK and book.ours:
        yield Violation("I8", book.symbol, f"exit code {code}, and {book.ours} are held")
    for order in book.resting.values():
        if code == OK or order.purpose is Purpose.ENTRY:
            yield Violation("I9", book.symbol, f"exit code {code}, and {order.describe()} still rests")
    if code == PROTECTED_OPEN and book.bare:
        yield Violation("I4", book.symbol, f"exit code {code}, and {book.bare} of {book.ours} are not protected")


def judge_the_end(
    ended: Ended, reader: JournalReader, limits: Mapping[str, int], settle_ms: int, converge_ms: int
) -> list[Violation]:
    """Exit code 0 says that all is settled. Any other is held to it only after so long a peace that all must be."""
    records = reader.orders()
    doubtful = {record.order.symbol for record in records if record.status == Status.QUARANTINED.value}
    needed_ms = converge_ms if ended.code == OK else settle_ms + converge_ms
    if ended.quiet_ms < needed_ms:
        return []
    sure = [symbol for symbol, fresh_ms in ended.fresh_ms.items() if symbol not in doubtful and fresh_ms >= settle_ms]
    absent = {record.client_id for record in records if record.status == ABSENT}
    truth, told = _only(ended, sure, absent), _told(reader, records, sure, limits)
    working = {order.venue_id for order in truth.orders if order.now.state is Reported.WORKING}
    over = [order for order in told.orders if not (order.status == Status.WORKING.value and order.venue_id in working)]
    found = [
        *oracle.every_order_known(truth, told),
        *oracle.every_word_true(truth, msgspec.structs.replace(told, orders=over)),  # what truly rests, the exit code tells of
        *oracle.fills_agree(truth, told),
    ]
    return [*found, *_judge_the_code(ended, doubtful)]


def _only(ended: Ended, symbols: list[str], absent: set[str]) -> Truth:
    """Without what the venue made something else of and ended unfilled: held for never arrived, it is as good as that."""
    truth = ended.truth
    orders = [order for order in truth.orders if not (order.label in absent and order.venue_id in ended.altered)]
    return msgspec.structs.replace(
        truth,
        orders=[order for order in orders if order.symbol in symbols],
        fills=[fill for fill in truth.fills if fill.symbol in symbols],
        positions=[position for position in truth.positions if position.symbol in symbols],
    )


def _told(reader: JournalReader, records: list[OrderRecord], symbols: list[str], limits: Mapping[str, int]) -> Told:
    return Told(
        orders=[_worded(record) for record in records if record.order.symbol in symbols],
        fills={symbol: settled_fills(reader.fills(symbol)) for symbol in reader.symbols() if symbol in symbols},
        snapshots=reader.snapshots(),
        trips=[],
        max_entries=limits,
    )


def _worded(record: OrderRecord) -> OrderRecord:
    expired = record.status == Reported.EXPIRED.value
    return msgspec.structs.replace(record, status=Reported.CANCELLED.value) if expired else record


def _judge_the_code(ended: Ended, doubtful: set[str]) -> Iterator[Violation]:
    """I12: after a peace with nothing in doubt and nobody else in the account, a session ends flat once its cutoff has passed."""
    good = (OK,) if ended.over else (OK, PROTECTED_OPEN)
    if not doubtful and not ended.by_hand and not ended.leaving and ended.code not in good:
        yield Violation("I12", "", f"exit code {ended.code} after {ended.quiet_ms} ms in which nothing went wrong")
