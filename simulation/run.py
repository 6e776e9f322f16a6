"""One simulated session, whole: a market, a venue with its moods, and the runner in as many lives as it takes.

The same recipe gives the same run. Owns how the pieces are put together and what is counted; judges nothing itself (`watch`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import msgspec

from live_session import SessionRun
from ops.config import Config, calendar_of
from ops.config_types import PollingConfig
from simulation import host, market, sim_broker, sim_stream, trouble
from simulation.fates import Fate, Fates, Kind, seeded
from simulation.host import LIVES, RESTS_MS, Host
from simulation.life import Day, Runner
from simulation.policies import HANDS
from simulation.recipe import Recipe, policy
from simulation.scheduler import Scheduler, Stuck
from simulation.sim_stream import EXCHANGE
from simulation.watch import Violation, Watch
from simulation.world import World
from state.instrument import Instrument
from state.journal_file import in_memory
from state.journal_read import JournalReader
from state.session import Calendar, Session

KINDS: Mapping[str, Kind] = {**sim_broker.KINDS, **trouble.KINDS, **sim_stream.KINDS, **host.KINDS}
LENGTH_MS = 180_000  # of a session, in virtual monotonic time
LEAD_MS = 5_000  # from the first start to the open
TAIL_MS = 60_000  # the market goes on after the close, for whoever comes late
PRINTS = 130  # of each symbol
POLL_MS = 5_000
LINES_KEPT = 500


class Setting(msgspec.Struct, frozen=True):
    """What all runs of one command share: the config as a simulated session needs it."""

    day: Day
    instruments: Mapping[str, Instrument]
    speed: float

    @property
    def symbols(self) -> list[str]:
        return list(self.instruments)


class Outcome(msgspec.Struct):
    """What came of one run. `hash` is equal for equal runs."""

    recipe: Recipe
    violations: list[Violation]
    ticks: int
    orders: int
    trips: int
    steps: int
    faults: dict[str, int]
    kills: int
    lives: int
    codes: list[int | None]
    hash: str
    lines: list[str]
    struck: tuple[Fate, ...]
    switches: tuple[dict[int, str], ...]


def setting(config: Config, session: Session | None = None, calendar: Calendar | None = None) -> Setting:
    """CalendarError where the configured day is no session."""
    calendar = calendar or calendar_of(config.session)
    found = session or calendar.on(config.practice.day)
    if not isinstance(found, Session):
        raise ValueError(f"no session on {config.practice.day}: {found.reason}")
    speed = max((found.close_ms - found.open_ms) / LENGTH_MS, 1.0)
    polling = PollingConfig(interval_ms=int(POLL_MS * speed))
    symbols = {row.symbol: config.instrument(row.symbol) for strategy in config.strategies for row in strategy.symbols}
    instruments = {name: Instrument(name, EXCHANGE, grid.tick_size, grid.lot_size) for name, grid in symbols.items()}
    return Setting(Day(msgspec.structs.replace(config, polling=polling), calendar, found), instruments, speed)


def run(of: Setting, recipe: Recipe, *, stop_at_first: bool = True) -> Outcome:
    """Never raises for what the runner does: that is a violation."""
    return _Run(of, recipe, stop_at_first).go()


class _Run:
    def __init__(self, of: Setting, recipe: Recipe, stop_at_first: bool) -> None:
        self._of, self._recipe = of, recipe
        chance = seeded(f"{recipe.seed}/symbols")
        names = sorted(of.symbols, key=lambda name: (chance(), name))[: recipe.symbols]
        self._names = [name for name in of.symbols if name in names]
        only = None if recipe.accidents is None else frozenset(recipe.accidents)
        self._fates = Fates(recipe.seed, recipe.rates, only)
        session, speed = of.day.session, of.speed
        self._day = msgspec.structs.replace(of.day, config=_only(of.day.config, self._names, recipe.most_open))
        length_ms = LEAD_MS + int((session.close_ms - session.open_ms) / speed) + TAIL_MS
        self._world = World(
            {name: of.instruments[name] for name in self._names},
            market.prints(self._market(), recipe.seed, length_ms - LEAD_MS, PRINTS, LEAD_MS),
            self._fates,
            origin_ms=session.open_ms - int(LEAD_MS * speed),
            speed=speed,
        )
        cutoff_ms = LEAD_MS + int((session.cutoff_ms - session.open_ms) / speed)
        self._world.at(max(cutoff_ms - recipe.calm_s * 1000, 0), self._calm)
        self._end_ms = length_ms
        trouble.schedule(self._world, self._fates, cutoff_ms)
        limits = {row.symbol: s.max_entries for s in self._day.config.strategies for row in s.symbols}
        most_open = self._day.config.risk.max_open_positions
        self._watch = Watch(self._world, limits, most_open=most_open, stop_at_first=stop_at_first)
        self._disk = in_memory()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._codes: list[int | None] = []
        self._switches: list[dict[int, str]] = []
        self._steps = self._alarms = 0

    def _market(self) -> dict[str, tuple[Decimal, Decimal | None, Instrument]]:
        """Where each symbol's price begins, and the level that interests its strategy."""
        out: dict[str, tuple[Decimal, Decimal | None, Instrument]] = {}
        for strategy in self._day.config.strategies:
            for row in strategy.symbols:
                entry = getattr(row.setup, "entry_price", None)
                instrument = self._of.instruments[row.symbol]
                out[row.symbol] = (Decimal(100) if entry is None else entry, entry, instrument)
        return out

    def _calm(self) -> None:
        self._fates.over = True

    def go(self) -> Outcome:
        for number in range(LIVES):
            if self._live(number) or self._watch.violations:
                break
        self._world.act(max(self._end_ms, self._world.mono_ms))
        with_reader = JournalReader(self._disk, Path("simulated"))
        self._watch.finish(with_reader)
        return self._outcome()

    def _live(self, number: int) -> bool:
        """One life. True when there is no need of another."""
        world, of = self._world, self._of
        jitter = seeded(f"{self._recipe.seed}/jitter/{number}")
        chosen = policy(self._recipe, number)
        scheduler = Scheduler(
            chosen, HANDS.lend, origin_ms=world.origin_ms, speed=of.speed, chance=jitter, outside=world, mono_ms=world.mono_ms
        )
        machine = Host(world, scheduler, last_life=number == LIVES - 1)
        runner = Runner(self._day, world, self._disk, scheduler, machine, self._lines, self._built(scheduler, machine))
        scheduler.on_step = machine.on_step
        self._lines.append(f"{world.mono_ms:>8} -- life {number + 1} --")
        try:
            runner.live()
        except Stuck as stuck:
            self._watch.broken("I12", "", str(stuck))
        except Exception as error:
            self._watch.broken("defect", "", f"{type(error).__name__}: {error}")
        for defect in runner.log.defects:
            self._watch.broken("defect", "", defect)
        self._steps += scheduler.steps
        self._codes.append(runner.code)
        self._switches.append(chosen.switches)
        if runner.code is None:
            self._watch.killed()
            rest = seeded(f"{self._recipe.seed}/rest/{number}")
            world.act(world.mono_ms + RESTS_MS[0] + int(rest() * (RESTS_MS[1] - RESTS_MS[0])))
            return False
        self._watch.ended(runner.code, runner.log.alarms)
        session = self._day.session
        return world.now_ms() >= session.cutoff_ms and runner.code == 0

    def _built(self, scheduler: Scheduler, machine: Host) -> Callable[[SessionRun], None]:
        def built(session_run: SessionRun) -> None:
            self._watch.attach(session_run.states, scheduler)
            machine.watch_seam = self._watch.at_seam
            on_step, step = machine.on_step, self._watch.step

            def both() -> None:
                step()
                on_step()

            scheduler.on_step = both

        return built

    def _outcome(self) -> Outcome:
        engine = self._world.engine
        book = [msgspec.json.encode(row) for row in (*engine.orders(), *engine.fills())]
        digest = sha256(b"\n".join([*book, *(line.encode() for line in self._lines), str(self._steps).encode()]))
        return Outcome(
            recipe=self._recipe,
            violations=list(self._watch.violations),
            ticks=self._world.ticks,
            orders=len(self._world.placed),
            trips=self._watch.trips,
            steps=self._steps,
            faults=self._fates.counts(),
            kills=self._codes.count(None),
            lives=len(self._codes),
            codes=self._codes,
            hash=digest.hexdigest()[:16],
            lines=list(self._lines),
            struck=tuple(self._fates.struck),
            switches=tuple(self._switches),
        )


def _only(config: Config, names: list[str], most_open: int | None) -> Config:
    strategies = []
    for strategy in config.strategies:
        rows = tuple(row for row in strategy.symbols if row.symbol in names)
        if rows:
            strategies.append(msgspec.structs.replace(strategy, symbols=rows))
    most = min(most_open or config.risk.max_open_positions, config.risk.max_open_positions)
    risk = msgspec.structs.replace(config.risk, max_open_positions=most)
    return msgspec.structs.replace(config, strategies=tuple(strategies), risk=risk)


def total(outcomes: list[Outcome]) -> Counter[str]:
    """Faults of many runs, by kind."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.faults)
    return counts
