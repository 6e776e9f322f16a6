"""One day, traded on every venue: the whole session as the runner builds it, each adapter over its venue's dialect and sockets.

The market goes one way for all, in ticks from the entry: down through the trigger, up through the entry, flat until the stop is
trailed, down through the trailed stop, up again, and held until the cutoff. Each step waits for what the venue then shows.
Paper trades the prices of Kraken.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import live_runner
from live_session import SessionRun
from ops.config import calendar_of, load
from ops.operator import AtTheFiles
from ops.requests import StopFlag
from ops.words import Line
from state.clock import SystemClock
from state.journal import Journal
from state.orders import Side
from state.session import Session
from state.symbol_state import SymbolState, Work
from strategies import STRATEGIES
from tests.brokers.conformance import BROKERS, KrakenRig, Rig, make_rig, plain, practice_hand, until

BUY, SELL = Side.BUY, Side.SELL
CUTOFF_S, CLOSE_S = 14, 60  # after the open
DIP = -25  # below the first stop: the bar with the dip in it trails nothing
PULSE_S = 0.05
PATIENCE_S = 12.0


class Told:
    """The log of one session."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.alarms: list[str] = []
        self.defects: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = info

    def alarm(self, text: str) -> None:
        self.alarms.append(text)
        self.lines.append(f"!! {text}")

    def defect(self, text: str, error: BaseException) -> None:
        self.defects.append(f"{text}: {error!r}")

    def story(self, work: Work, lines: Iterable[Line]) -> None:
        self.lines += [f"{line.change} {line.cause}" for line in lines]


class Market:
    """Says the present price again and again, as a market does."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self.ticks = rig, 12
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(PULSE_S):
            self._rig.price(self.ticks)

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)


class Day:
    """One session on one venue, from its first price to its report."""

    def __init__(self, name: str, rig: Rig, folder: Path) -> None:
        self.name, self.rig, self.folder, self.told = name, rig, folder, Told()
        folder.mkdir()

    def play(self) -> dict[str, Any]:
        market = Market(self.rig)
        try:
            return self._played(market)
        except AssertionError as failed:
            raise AssertionError(f"{self.name}: {failed}\n" + "\n".join(self.told.lines[-40:])) from failed
        finally:
            market.stop()

    def _played(self, market: Market) -> dict[str, Any]:
        rig, clock, wall = self.rig, self.rig.clock, SystemClock()
        (self.folder / "config.yaml").write_text(self._config(), encoding="utf-8")
        config = load(self.folder / "config.yaml", {}, STRATEGIES)
        config.data_dir.mkdir()
        calendar = calendar_of(config.session)
        session = calendar.at(clock.now_ms())
        assert isinstance(session, Session)
        with Journal.open(self.folder / "journal.db", clock=clock) as journal:
            resumed = journal.begin("day", mode=str(config.mode), account="a", day=str(session.day))
            operator = AtTheFiles(config.data_dir, wall)
            broker, streams = rig.connect(timeout_s=10.0)
            run = SessionRun(
                config, broker, streams, clock, calendar, session, journal, resumed, self.told, StopFlag(), operator, wall
            )
            assert run.something_to_do() and run.recover(resumed), "it starts"
            driver = ThreadPoolExecutor(1)
            driven = driver.submit(self._drive, market, run)
            run.trade()
            code = run.end()
            driven.result()
            path = live_runner._report(run, journal, calendar, code, lambda text: text)
        report = json.loads(path.read_text(encoding="utf-8"))
        return {
            "code": code,
            "defects": self.told.defects,
            "trades": [self._trade(row) for row in report["trades"]],
            "left": (rig.working(), plain(rig.net())),
        }

    def _drive(self, market: Market, run: SessionRun) -> None:
        """The market's way. Whoever wants to see what rests looks at the venue's own books."""
        (state,) = run.states.values()
        books = self._books(run)

        def see(what: str, come_true: Callable[[], bool]) -> None:
            until(come_true, f"{what}: {books()}, {state.snapshot.phase}, {state.snapshot.blocks}", PATIENCE_S)

        def levels(side: str) -> list[str]:
            return [line for line in books() if line.startswith(side)]

        rig = self.rig
        see("prices come", lambda: not state.snapshot.blocks and run.feed.counts().get("ticks", 0) > 2)
        market.ticks = DIP
        see("the entry rests", lambda: levels("BUY") == [rig.works(BUY, rig.qty, 0)])
        market.ticks = 0
        see("the stop is trailed", lambda: levels("SELL") == [rig.works(SELL, rig.qty, -2)] and self._protected(state, -2))
        market.ticks = DIP
        see("stopped out, and in again", lambda: levels("BUY") == [rig.works(BUY, rig.qty, 0)] and not levels("SELL"))
        market.ticks = 0
        see("protected again", lambda: bool(levels("SELL")) and self._protected(state))
        market.ticks = 3

    def _protected(self, state: SymbolState, ticks: int | None = None) -> bool:
        """As far as the runner has read it back."""
        stop = state.snapshot.stop
        return (
            stop is not None and stop.verified and ticks in (None, (stop.trigger_price - self.rig.base) / self.rig.grid.tick_size)
        )

    def _books(self, run: SessionRun) -> Callable[[], list[str]]:
        if run._paper is None:
            return self.rig.working
        engine = run._paper._engine
        rig = self.rig

        def books() -> list[str]:
            rows = [row for row in engine.orders() if not row.state.closed]
            return [f"{row.side.value} {plain(row.qty)} @ {plain(row.trigger_price)}" for row in rows]

        assert rig.working() == []
        return books

    def _trade(self, row: dict[str, Any]) -> tuple[str, Decimal, int, int, str]:
        """Quantity in parts of what was asked for, prices in ticks from the entry: what is left is the same everywhere."""
        ticks = [(Decimal(row[key]) - self.rig.base) / self.rig.grid.tick_size for key in ("entry_price", "exit_price")]
        assert all(tick == int(tick) for tick in ticks), row
        return row["side"], Decimal(row["qty"]) / self.rig.qty, int(ticks[0]), int(ticks[1]), row["reason"].partition(" ")[0]

    def _config(self) -> str:
        """A session that has just begun, in a time zone where it is about noon: it must not cross midnight."""
        now = datetime.now(UTC)
        ahead = 12 - now.hour
        local = now + timedelta(hours=ahead)
        zone = "Etc/GMT" + (f"{-ahead:+d}" if ahead else "")
        opens, closes = local - timedelta(seconds=1), local + timedelta(seconds=CLOSE_S - 1)
        account, rig = self.rig.account, self.rig
        mode = "paper" if self.name == "paper" else "live"
        return f"""
mode: {mode}
broker:
  name: {account.broker}
  rest_url: "{account.rest_url}"
  ws_url: "{account.ws_url}"
  exchange: {account.exchange}
  timeout: 2s
  settle_window: 10s
session:
  timezone: {zone}
  open: "{opens:%H:%M:%S}"
  close: "{closes:%H:%M:%S}"
  entry_delay: 0s
  exit_before_close: {CLOSE_S - CUTOFF_S}s
  weekends: true
polling: {{interval: 5s}}
strategies:
  - name: eighty_twenty
    params: {{stop_ticks: 20, trail_bar: 1s, trail_buffer_ticks: 2, max_entries: 3}}
    symbols:
      - symbol: {rig.symbol}
        qty: {plain(rig.qty)}
        entry_price: {plain(rig.at(0))}
        trigger_price: {plain(rig.at(-10))}
        setup_date: {(local - timedelta(days=1)):%Y-%m-%d}
"""


@pytest.mark.timeout(90)
def test_the_same_day_is_traded_alike_on_every_venue_and_ends_flat(tmp_path: Path) -> None:
    """The same sides, quantities and reasons, each price on the venue's own grid; nothing rests and nothing is held."""
    hand = practice_hand(tmp_path)
    rigs: dict[str, Rig] = {name: KrakenRig() if name == "paper" else make_rig(name, lambda: hand) for name in BROKERS}
    try:
        with ThreadPoolExecutor(len(rigs)) as pool:
            played = {name: pool.submit(Day(name, rig, tmp_path / name).play) for name, rig in rigs.items()}
            days = {name: done.result() for name, done in played.items()}
    finally:
        for rig in rigs.values():
            rig.close()
        hand.close()

    trades = [("BUY", Decimal(1), 0, DIP, "trail"), ("BUY", Decimal(1), 0, 3, "cutoff")]
    assert days == dict.fromkeys(BROKERS, {"code": 0, "defects": [], "trades": trades, "left": ([], "0")})
