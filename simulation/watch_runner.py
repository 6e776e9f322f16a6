"""What the oracle asks the runner about itself: where it wanted its stops (I6), and what it has not settled yet (I12).

Reads snapshots, and only these. What is true is in `watch_book`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from simulation.watch_book import looser
from state.instrument import Instrument
from state.orders import Order, Side, Status
from state.rules import NO_TICKS, STOPPING
from state.snapshot import Snapshot

DEFECT = "defect"  # the source of the block after one; it stays, and the defect itself is what is told
_UNSETTLED = (Status.INTENT, Status.UNKNOWN, Status.REPLACING, Status.CANCELLING)


class Wishes:
    """The levels at which one symbol's stop was asked for in this trip."""

    def __init__(self) -> None:
        self.levels: set[Decimal] = set()
        self._tightest: Decimal | None = None
        self._trip: tuple[str | None, Side] | None = None
        self._order: Order | None = None

    def begin(self) -> None:
        """A new process: what the last one had decided and not committed was never asked for."""
        self._tightest = self._order = None

    def look(self, s: Snapshot, instrument: Instrument) -> list[str]:
        """What is wrong with what is asked for now."""
        order, before = s.stop, self._order
        if order is before or order is None:
            return []
        self._order = order
        if self._trip != (s.trip, order.side):
            self._trip, self.levels, self._tightest = (s.trip, order.side), set(), None
        new = order.status is Status.INTENT and (before is None or before.client_id != order.client_id)
        asked = order.trigger_price if new else order.asked_trigger  # once it is sent its trigger is what the venue says
        if asked is None:
            return []
        self.levels.add(asked)
        wrong = (
            [] if instrument.on_grid(asked) else [f"{order.client_id}: a stop was asked for at {asked}, which is off the grid"]
        )
        if self._tightest is not None and looser(order.side, asked, self._tightest):
            wrong.append(f"{order.client_id}: a stop was asked for at {asked}, after {self._tightest} in the same trip")
        else:
            self._tightest = asked
        if new and s.position * order.side.sign > 0:
            wrong.append(f"{order.client_id}: a {order.side.value} stop for a position of {s.position}")
        return wrong


def unsettled(s: Snapshot, ticking: bool) -> Iterator[tuple[str, str]]:
    """(key, text) of what has to end by itself once nothing goes wrong any more; of a block the key is its source.

    A position that the venue contradicts is a person's to look at, a market without prices gets no entries, and who is asked to
    stop takes none.
    """
    if not s.disagreements:
        for order in s.live_orders():
            if order.status in _UNSETTLED:
                yield order.client_id, f"{order.client_id} is {order.status.value}"
    if s.over or any(source == STOPPING for source, _ in s.blocks):
        return
    for source, reason in s.blocks:
        if source != DEFECT and (ticking or source not in NO_TICKS):
            yield source, f"no entries: {reason}"
