"""Which kinds of faults excuse what: the oracle is lenient for these and no others."""

from __future__ import annotations

from simulation import trouble
from state.orders import Status
from state.snapshot import Snapshot

# Faults that break what every venue is assumed to keep: what they lead to must end or be told, it cannot be prevented.
ASSUMPTIONS = frozenset({"orders.beyond_window", "cancel.undone"})
# Faults that leave something in the book which may or may not be what became of an unanswered order of ours.
RESEMBLING = frozenset({"orders.retyped", "orders.shrunk", "orders.moved", *trouble.KINDS})
# Faults after which our stop may stand where no record of ours says that it was asked to.
MOVERS = frozenset(
    {"orders.moved", "orders.beyond_window", "replace.bent", "people.tighten_stop", "people.loosen_stop", "host.disk_full"}
)
# Answers about positions that are not true: two of them that agree are believed, and the symbol halts.
LYING = frozenset({"reads.no_positions", "reads.zero_positions", "reads.stale_positions"})


def quarantined(s: Snapshot) -> bool:
    return any(order.status is Status.QUARANTINED for order in s.live_orders())


def groundless(s: Snapshot) -> bool:
    """Halted by what the venue showed. The caller knows whether anything of what it showed was a reason to."""
    return s.halted is not None and not s.halted.startswith("strategy ")
