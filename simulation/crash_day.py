"""The practice days that the crash matrix is run on: short, and with one of everything that an order can go through.

calm: the venue answers at once and says what is so.

  SBIN   fills, is trailed up several times, and the trailed stop ends it
  ITC    fills in three parts, each protected; stopped out; its next entry rests untouched until the cutoff cancels it
  TECHM  is stopped out, enters again, and is closed by the cutoff

hostile: each order meets a fault of the dial (brokers/practice_fault_kinds.py), and each fault meets a kill at every seam of it.

  SBIN   the reply to its entry is lost; an amend of its stop is acknowledged and not done; updates come in the wrong order
  ITC    its entry arrives 1.2 s after the connection was dropped; the stop's reply comes too late; stopped out; the cutoff
         cancels its next entry, which fills first, and the reply to the exit is lost; every update comes twice
  TECHM  the user closes it by phone; it enters again, in parts; at the cutoff the stop fills before its cancel is looked at

Owns config, tape and fault script of those days. They last some 5 s of real time up to the cutoff; each decisive level is held
for half a second, so that a loaded machine tells the same story.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import yaml

from brokers.practice import PracticeVenue
from ops.config import Config, calendar_of, load
from simulation import practice_day
from state.session import Session
from strategies import STRATEGIES

DATE, SETUP_DATE = "2026-11-20", "2026-11-19"
SPEED = 60  # a real second is a minute
LEAD_MS = 1_000  # real time from the start of the session clock to the open
PATIENCE_S = 60.0  # real time from the cutoff to the close; a restart that comes late on a crowded machine still finds it open
SETTLE_MS = 2_000  # how long an unanswered order may still turn out accepted
REQUEST_MS = 1_000
POLL_MS = 1_000  # real time
TICK = Decimal("0.05")
TICKS_PER_S, LATER_PER_S = 20, 2  # up to the cutoff, and after it
ENTRIES = {"SBIN": "812.40", "ITC": "418.55", "TECHM": "1466.85"}
QUANTITIES = {"SBIN": 10, "ITC": 10, "TECHM": 5}

Turn = tuple[float, int, int]  # from so many real seconds after the open: a way from one offset to another


class Script(msgspec.Struct, frozen=True):
    """One day. Times are real seconds after the open; `faults` as in a user's file."""

    turns: dict[str, list[Turn]]
    cutoff_s: float
    faults: Sequence[dict[str, Any]]

    @property
    def close_s(self) -> float:
        return self.cutoff_s + PATIENCE_S


CALM = Script(
    turns={
        "SBIN": [(0, 12, 12), (0.3, -12, -12), (0.9, 0, 0), (1.5, 2, 60), (3.3, 60, 60), (3.6, 5, 5)],
        "ITC": [(0, 12, 12), (0.5, -12, -12), (1.1, 0, 0), (2.5, 1, 1), (2.9, -25, -25), (3.6, -5, -5)],
        "TECHM": [(0, 12, 12), (0.4, -12, -12), (1.0, 0, 0), (1.7, -25, -25), (2.5, 0, 0), (3.0, 3, 3)],
    },
    cutoff_s=5.2,
    faults=[{"kind": "partial_fills", "symbol": "ITC", "purpose": "E", "qty": 4, "delay": "400ms"}],
)
HOSTILE = Script(
    turns={
        "SBIN": [(0, 12, 12), (0.3, -12, -12), (1.0, 0, 0), (1.6, 2, 60), (3.4, 60, 60), (3.7, 5, 5)],
        "ITC": [(0, 12, 12), (0.4, -12, -12), (2.2, 0, 0), (2.8, 1, 1), (4.2, -25, -25), (4.8, -5, -5)],
        "TECHM": [(0, 12, 12), (0.4, -12, -12), (1.0, 0, 0), (1.6, 3, 3), (3.6, -12, -12), (4.2, 0, 0), (5.0, 3, 3)],
    },
    cutoff_s=6.0,
    faults=[
        {"kind": "lost_reply", "symbol": "SBIN", "purpose": "E", "path": "placeorder"},
        {"kind": "modify_ignored", "symbol": "SBIN", "purpose": "S", "nth": 2},
        {"kind": "updates_reordered", "symbol": "SBIN", "times": 0, "delay": "300ms"},
        {"kind": "late_accept", "symbol": "ITC", "purpose": "E", "answer": "drop", "delay": "1200ms"},
        {"kind": "delayed_reply", "symbol": "ITC", "purpose": "S", "path": "placeorder", "delay": "1200ms"},
        {"kind": "cancel_loses_to_fill", "symbol": "ITC", "purpose": "E"},
        {"kind": "lost_reply", "symbol": "ITC", "purpose": "X", "path": "placeorder"},
        {"kind": "updates_duplicated", "symbol": "ITC", "times": 0},
        {"kind": "manual_close", "symbol": "TECHM", "delay": "300ms"},
        {"kind": "partial_fills", "symbol": "TECHM", "purpose": "E", "qty": 2, "delay": "200ms", "nth": 2},
        {"kind": "cancel_loses_to_fill", "symbol": "TECHM", "purpose": "S", "from": "270s"},
    ],
)
SCRIPTS = {"calm": CALM, "hostile": HOSTILE}


def write(folder: Path, script: Script) -> Path:
    """Config, tape and fault script; the path of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "day.csv").write_text("\n".join(["ts_utc_iso_ms,symbol,exchange,price,qty", *_tape(script), ""]), encoding="utf-8")
    (folder / "faults.yaml").write_text(yaml.safe_dump(list(script.faults)), encoding="utf-8")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(_config(script), sort_keys=False), encoding="utf-8")
    return path


def arguments(config: Path) -> list[str]:
    """Of live_runner.py, for each start of this day."""
    return ["run", "--config", str(config), "--tape", str(config.parent / "day.csv"), "--speed", str(SPEED)]


def read(config: Path) -> tuple[Config, Session]:
    found = load(config, {}, STRATEGIES)
    session = calendar_of(found.session).on(found.practice.day)
    assert isinstance(session, Session)
    return found, session


def start_venue(config: Path) -> PracticeVenue:
    """The day's venue, where the runner will find it; its clock begins with the runner's first start."""
    found, session = read(config)
    practice_day.LEAD_MS = LEAD_MS
    tape = (config.parent / "day.csv",)
    venue, _, _ = practice_day.practice_venue(found, session, tape, float(SPEED), found.practice.faults)
    return venue


def _config(script: Script) -> dict[str, Any]:
    close = _clock(script.close_s)
    params = {"stop_ticks": 20, "trail_bar": "30s", "trail_buffer_ticks": 2, "trigger_window": "60m", "max_entries": 3}
    return {
        "mode": "practice",
        "broker": {"exchange": "NSE", "product": "MIS", "timeout": f"{REQUEST_MS}ms", "settle_window": f"{SETTLE_MS}ms"},
        "session": {
            "timezone": "Asia/Kolkata",
            "open": "09:15:00",
            "close": f"{close:%H:%M:%S}",
            "entry_delay": "1s",
            "exit_before_close": f"{int(PATIENCE_S * SPEED)}s",
        },
        "polling": {"interval": f"{POLL_MS * SPEED}ms"},
        "orders": {"timeout": "60s", "entry_timeout": "300m"},
        "strategies": [{"name": "eighty_twenty", "params": params, "symbols": [_setup(symbol) for symbol in ENTRIES]}],
        "risk": {"max_open_positions": 3, "signal_slots": 3, "max_daily_loss": 100_000},
        "control": {"port": 0},
        "practice": {"day": DATE, "speed": SPEED, "linger": "5m", "faults": "faults.yaml"},
    }


def _setup(symbol: str) -> dict[str, Any]:
    entry = Decimal(ENTRIES[symbol])
    trigger = entry - 10 * TICK
    prices = {"entry_price": float(entry), "trigger_price": float(trigger)}  # as a person types them: the reader keeps their text
    return {"symbol": symbol, "qty": QUANTITIES[symbol], "setup_date": SETUP_DATE, **prices}


def _tape(script: Script) -> list[str]:
    rows = []
    for symbol, turns in script.turns.items():
        for second in _seconds(script):
            at = _clock(second).astimezone(UTC)
            price = Decimal(ENTRIES[symbol]) + _offset(turns, second, script.close_s) * TICK
            rows.append(f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z,{symbol},NSE,{price},100")
    return sorted(rows)


def _seconds(script: Script) -> list[float]:
    busy = [number / TICKS_PER_S for number in range(int(script.cutoff_s * TICKS_PER_S))]
    return busy + [script.cutoff_s + number / LATER_PER_S for number in range(int(PATIENCE_S * LATER_PER_S))]


def _offset(turns: list[Turn], second: float, close_s: float) -> int:
    """Ticks from the entry at that moment: along its turn, from start to end."""
    ends = [*(turn[0] for turn in turns[1:]), close_s]
    begin, start, end, until = next((*turn, end) for turn, end in zip(turns, ends, strict=True) if second < end)
    return start + round((end - start) * (second - begin) / (until - begin))


def _clock(second: float) -> datetime:
    """The exchange's time, so many real seconds after the open."""
    return datetime.fromisoformat(f"{DATE}T09:15:00+05:30") + timedelta(seconds=round(second * SPEED))
