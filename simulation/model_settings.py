"""The configurations of the model check, each with faults few enough to be tried in every order. SMALL runs with the tests;
MEDIUM adds what the broken machines need to be caught; LARGE is the whole check.
"""

from __future__ import annotations

from simulation.model_rules import Rulebook
from simulation.model_state import Setting


def _setting(name: str, book: Rulebook, *, levels: int = 1, lapse: int = 0, **rest: int | bool) -> Setting:
    """Numbers are faults and how often they may strike; the rest is what the venue is like."""
    traits = {key: value for key, value in rest.items() if isinstance(value, bool)}
    faults = {key: value for key, value in rest.items() if not isinstance(value, bool)} | {"lapse": lapse}
    return Setting(name, book, levels=levels, faults=tuple(faults.items()), **traits)


def _both(name: str, book: Rulebook, **rest: int | bool) -> tuple[Setting, Setting]:
    long, short = book._replace(short=False), book._replace(short=True)
    return _setting(f"long, {name}", long, **rest), _setting(f"short, {name}", short, **rest)


ONE = Rulebook()
SHORT = Rulebook(short=True)
TWO = Rulebook(qty=2)
CUTOFF = Rulebook(cutoff_level=1, entry_timeout_levels=9)

SMALL: tuple[Setting, ...] = (
    *_both("one time-out", ONE, timeout=1),
    _setting("short, two time-outs", SHORT, timeout=2),
    _setting("long, two refusals", ONE, refuse=2, leave=1),
    _setting("short, crash", SHORT, crash=1),
    _setting("long, unavailable", ONE, unavailable=2),
    _setting("long, silent rows", ONE, silent_rows=True, timeout=1),
    _setting("long, cutoff", CUTOFF, levels=2, refuse=1),
    _setting("short, cutoff while the desk is slow", CUTOFF._replace(short=True), levels=2, slow=1),
    _setting("long, yes without effect", ONE, idle=1, leave=1),
    _setting("short, trail", SHORT, trail=1, loosen=1),
    _setting("long, somebody cancels", ONE, withdraw=1),
)

MEDIUM: tuple[Setting, ...] = (
    _setting("long, partial fills", TWO),
    _setting("long, target", Rulebook(target=True)),
    _setting("long, two entries, time-out", Rulebook(max_entries=2), timeout=1),
    _setting("long, slow report", ONE, stale=1, leave=1),
    _setting("short, crash, leave", SHORT, crash=1, leave=1),
    _setting("long, slow position reports", ONE, positions=True, stale=2),
)

LARGE: tuple[Setting, ...] = (
    *MEDIUM,
    _setting("long, partial fills without amend", TWO._replace(can_replace=False)),
    _setting("short, partial fills, silent rows", Rulebook(short=True, qty=2), silent_rows=True),
    _setting("long, trail, time-out", ONE, trail=1, further=1, loosen=1, timeout=1),
    _setting("long, trail without amend, time-out", Rulebook(can_replace=False), trail=1, timeout=1),
    _setting("short, late amend", SHORT, trail=1, further=1, timeout=1),
    _setting("long, late amend, crash", ONE, trail=1, further=1, timeout=1, crash=1),
    _setting("short, partial fills, late amend", Rulebook(short=True, qty=2), timeout=1),
    _setting("long, two entries, crash", Rulebook(max_entries=2), crash=1),
    _setting("long, two entries, two time-outs", Rulebook(max_entries=2), timeout=2),
    *_both("crash and time-out", ONE, crash=1, timeout=1),
    _setting("short, two crashes", SHORT, crash=2),
    _setting("long, entry timeout, cutoff, crash", Rulebook(cutoff_level=2), levels=3, crash=1),
    _setting("short, entry timeout, cutoff, time-out", Rulebook(short=True, cutoff_level=2), levels=3, timeout=1),
    _setting("long, cutoff, rejected, cancelled by hand", CUTOFF, levels=2, withdraw=1, reject=1),
    _setting("short, slow report, a stop cancelled by hand", SHORT, stale=1, withdraw=1),
    _setting("long, price beyond the stop, slow desk", ONE, gap=1, slow=1, refuse=1),
    _setting("long, a stop tightened by hand", ONE, trail=1, tighten=1, timeout=1),
    _setting("short, our own ids at the venue", SHORT, client_ids=True, timeout=1, leave=1, lapse=1),
    _setting("long, positions, a slow report, time-out", ONE, positions=True, timeout=1, stale=1),
    _setting("long, unavailable, crash", ONE, unavailable=2, crash=1),
    _setting("short, flatten, denied, refused", SHORT, flatten=1, deny=1, refuse=1, lapse=1),
)

ALL = SMALL + LARGE
