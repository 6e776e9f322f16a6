"""What there is to do on one day: the configured symbols whose setups are good for it, and the rules each must obey.

Pure: reads a Config and a Calendar, opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from ops.config import Config
from ops.report import SymbolFacts
from state.instrument import Instrument
from state.rules import Able, Rules
from state.session import Calendar, CalendarError, Session
from state.sizing import By, Size, fixed
from state.snapshot import Snapshot
from state.strategy import Strategy, View
from state.symbol_state import SymbolState


class Planned(msgspec.Struct, frozen=True):
    """One symbol of one strategy. `why_not` says why its setup may not trade on the day; None when it may."""

    symbol: str
    strategy: str
    params: Any
    setup: Any
    size: Size
    max_entries: int
    why_not: str | None = None
    own: type[Strategy] | None = None  # the class where the config names a file; else `strategy` is one of ours


def plan_day(config: Config, calendar: Calendar, day: date) -> list[Planned]:
    """Every configured symbol, in the order of the file. A setup is good for the next trading day of its calendar only."""
    out: list[Planned] = []
    for strategy in config.strategies:
        for row in strategy.symbols:
            why_not = _why_not_today(calendar, getattr(row.setup, "setup_date", None), day)
            name, params, limit = strategy.name, strategy.params, strategy.max_entries
            out.append(Planned(row.symbol, name, params, row.setup, row.size, limit, why_not, strategy.own))
    return out


def _why_not_today(calendar: Calendar, setup_date: date | None, day: date) -> str | None:
    if setup_date is None:
        return None
    try:
        good_for = calendar.good_for(setup_date)
    except CalendarError as error:
        return str(error)
    return None if good_for == day else f"setup of {setup_date} is good for {good_for} only, not for {day}"


def make_rules(
    config: Config,
    planned: Planned,
    instrument: Instrument,
    session: Session,
    strategies: Mapping[str, type[Strategy]],
    *,
    able: Able,
    entry_timeout_ms: int | None = None,
) -> Rules:
    """The rules of one symbol for one session. `entry_timeout_ms` None: as configured."""
    strategy = (planned.own or strategies[planned.strategy])(planned.params, planned.setup, instrument, session)
    return Rules(
        instrument=instrument,
        strategy=strategy,
        size=planned.size,
        day=f"{session.day:%Y%m%d}",
        entry_from_ms=session.entry_from_ms,
        cutoff_ms=session.cutoff_ms,
        max_entries=planned.max_entries,
        max_retries=config.orders.max_retries,
        entry_timeout_ms=config.orders.entry_timeout_ms if entry_timeout_ms is None else entry_timeout_ms,
        order_timeout_ms=config.orders.timeout_ms,
        unprotected_limit_ms=config.risk.unprotected_limit_ms,
        **msgspec.structs.asdict(able),
    )


def edited_while_held(config: Config, planned: Planned, snapshot: Snapshot) -> str | None:
    """What the file says otherwise than a position was entered with, by its path. The position keeps what the journal says."""
    orders = (*snapshot.live_orders(), *snapshot.ended)
    entry = next((order for order in orders if order.client_id == snapshot.trip), None)
    size = planned.size
    if not snapshot.position or entry is None or size.by is not By.QTY or entry.qty == size.amount:
        return None  # what money comes to is another quantity each time
    for i, strategy in enumerate(config.strategies):
        for j, row in enumerate(strategy.symbols):
            if row.symbol == planned.symbol:
                path = f"strategies[{i}].symbols[{j}].qty"
                return f"{path} is {size.amount}, the position was entered with {entry.qty}: the file counts from the next entry"
    return None


def symbol_facts(planned: Sequence[Planned], states: Mapping[str, SymbolState]) -> list[SymbolFacts]:
    """What the report needs to know beside the journal, in the order of the config."""
    facts = []
    for row in planned:
        state = None if row.why_not else states.get(row.symbol)
        low, high = (state.range() if state else None) or (None, None)
        trigger = getattr(row.setup, "trigger_price", None)
        facts.append(SymbolFacts(row.symbol, row.strategy, row.max_entries, row.why_not, trigger, low, high))
    return facts


class Guard(Strategy):
    """For what an interrupted session left behind in a symbol that the config no longer names: protect it, exit at the cutoff."""

    name = "guard"

    def stop_price(self, view: View) -> Decimal:
        raise LookupError("the symbol is no longer configured, and no stop level was recorded")


def guard_rules(config: Config, symbol: str, instrument: Instrument, session: Session, able: Able) -> Rules:
    """Rules under which nothing is entered and what is held stays protected at its recorded level."""
    return Rules(
        instrument=instrument,
        strategy=Guard(Guard.Params(), Guard.Setup(symbol), instrument, session),
        size=fixed(instrument.least),
        day=f"{session.day:%Y%m%d}",
        entry_from_ms=session.entry_from_ms,
        cutoff_ms=session.cutoff_ms,
        max_entries=0,
        unprotected_limit_ms=config.risk.unprotected_limit_ms,
        **msgspec.structs.asdict(able),
    )
