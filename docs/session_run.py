"""A practice session as the picture shows it: what happened, read from its report and log, and the prices it happened at.

Reads files and draws nothing; picture.py does that.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from brokers.practice_market import STORIES, market  # noqa: E402
from ops.config import Config, calendar_of, load  # noqa: E402
from simulation.practice_day import practice_symbol  # noqa: E402
from state.session import Session  # noqa: E402
from strategies import STRATEGIES  # noqa: E402

LOG = re.compile(r"^(\S+) (\S+) +(\S+) {2,}(?:(\S.*?) {2,})?(.*?)(?: {2,}(\S+-\d{8}-\w\d+))?$")
BOUGHT = re.compile(r"bought (\S+?)(?: of (\S+))? @ ([0-9.]+)")


@dataclass(frozen=True)
class LogLine:
    time: str
    thread: str
    symbol: str
    change: str
    cause: str
    client_id: str


@dataclass(frozen=True)
class Run:
    config: Config
    session: Session
    zone: tzinfo
    report: dict[str, Any]
    log: list[LogLine]
    prices: dict[str, list[tuple[int, Decimal]]]

    def trades(self, symbol: str) -> list[dict[str, Any]]:
        return [trade for trade in self.report["trades"] if trade["symbol"] == symbol]

    def lines(self, symbol: str) -> list[LogLine]:
        return [line for line in self.log if line.symbol == symbol]

    def setup(self, symbol: str) -> Any:
        return next(row.setup for strategy in self.config.strategies for row in strategy.symbols if row.symbol == symbol)

    def at(self, clock: str) -> datetime:
        """A time of the session day, as the log writes it."""
        return datetime.combine(self.session.day, time.fromisoformat(clock), self.zone)

    def bought(self, symbol: str) -> list[tuple[int, Decimal, str]]:
        """Each purchase: when, at what price, and its quantity where it was a part."""
        found = [(line.time, BOUGHT.search(line.cause)) for line in self.lines(symbol)]
        return [(epoch_ms(self.at(at)), Decimal(hit[3]), hit[1] if hit[2] else "") for at, hit in found if hit]


def epoch_ms(at: datetime | str) -> int:
    return round((datetime.fromisoformat(at) if isinstance(at, str) else at).timestamp() * 1000)


# -- reading a run -----------------------------------------------------------------------------------------------------------


def read_run(folder: Path) -> Run:
    config = load(folder / "config.yaml", {}, STRATEGIES, STORIES)
    reports = sorted((config.data_dir / "reports").glob("*.json"))
    if not reports:
        raise SystemExit(f"no report in {config.data_dir}: run a practice session there first")
    report = json.loads(reports[-1].read_text(encoding="utf-8"))
    calendar = calendar_of(config.session)
    session = calendar.on(date.fromisoformat(report["session"]))
    if not isinstance(session, Session):
        raise SystemExit(f"no session on {report['session']}")
    text = (config.logging.dir / f"live-{report['session']}.log").read_text(encoding="utf-8")
    return Run(config, session, calendar.zone, report, [*_log_lines(text)], _prices(config, session))


def _log_lines(text: str) -> Iterator[LogLine]:
    for line in text.splitlines():
        found = LOG.match(line)
        if found:
            yield LogLine(*(part or "" for part in found.groups()))


def _prices(config: Config, session: Session) -> dict[str, list[tuple[int, Decimal]]]:
    """The made-up market of this config, played once more."""
    symbols = [practice_symbol(config, strategy.params, row) for strategy in config.strategies for row in strategy.symbols]
    prices: dict[str, list[tuple[int, Decimal]]] = {symbol.symbol: [] for symbol in symbols}
    for tick in market(symbols, session.open_ms, session.close_ms):
        prices[tick.symbol].append((tick.at_ms, tick.price))
    return prices


# -- what to show ------------------------------------------------------------------------------------------------------------


def roles(run: Run) -> dict[str, str]:
    """The symbol that shows each thing worth seeing, where there is one."""
    found: dict[str, str] = {}
    for row in run.report["symbols"]:
        symbol = row["symbol"]
        reasons = [trade["reason"] for trade in run.trades(symbol)]
        texts = [f"{line.change} {line.cause}" for line in run.lines(symbol)]
        tests = {
            "partial": any(re.search(r"bought \S+ of", text) for text in texts),
            "limit": any(text.startswith("denied entries used") for text in texts),
            "reentry": reasons[:1] == ["stop"] and reasons[-1:] == ["trail"],
            "trail": reasons == ["trail"],
            "cutoff": reasons[-1:] == ["cutoff"],
        }
        name = next((name for name, true in tests.items() if true and name not in found), None)
        if name:
            found[name] = symbol
    return found


def excerpt(run: Run, role: dict[str, str]) -> list[LogLine]:
    """A few lines of the log, in its order: the day as it went."""
    partial, again, limit, trail, cutoff = (role.get(name, "") for name in ("partial", "reentry", "limit", "trail", "cutoff"))
    wanted: list[tuple[str, str, int]] = [  # symbol, pattern, and which match: 0 the first, -1 the last
        ("-", "practice venue", 0),
        ("-", "feed connected", 0),
        (partial, "FLAT -> ENTERING", 0),
        (partial, "accepted", 0),
        (partial, "bought", 0),
        (partial, "stop working", 0),
        (partial, "filled bought", 0),
        (partial, "stop resized", 0),
        (again, "LONG -> FLAT", 0),
        (again, "FLAT -> ENTERING", 1),
        (limit, "denied", 0),
        (trail, "trailing", -1),
        (trail, "stop moved", -1),
        (trail, "LONG -> FLAT", 0),
        (cutoff, "LONG -> EXITING", 0),
        (cutoff, "EXITING -> FLAT", 0),
        ("-", "exit 0", 0),
    ]
    numbers = {number for want in wanted if (number := _find(run.log, *want)) is not None}
    return [run.log[number] for number in sorted(numbers)]


def _find(log: Sequence[LogLine], symbol: str, pattern: str, which: int) -> int | None:
    hits = [n for n, line in enumerate(log) if line.symbol == symbol and pattern in f"{line.change} {line.cause}"]
    return hits[which] if hits and which < len(hits) else None
