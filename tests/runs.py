"""A user at the keyboard: writes a config, starts `live_runner.py` as a process, reads its log and its report, asks the venue.

Nothing here imports the runner: what a test knows, a user can know too. Waits end with what they wait for, or at a deadline.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
import websocket
import yaml

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "live_runner.py"
DAY = "2026-11-20"
WAIT_S = 45.0  # a deadline, not a pause: two test processes and other people's work share a small machine
LOOK_S = 0.05
SECRETS = (
    "OPENALGO_API_KEY",
    "KRAKEN_API_KEY",
    "KRAKEN_API_SECRET",
    "COINBASE_API_KEY",
    "COINBASE_API_SECRET",
    "OANDA_API_TOKEN",
)


def shipped() -> dict[str, Any]:
    """The config.yaml that a fresh clone has."""
    return dict(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping; None takes a setting out."""
    out = dict(below)
    for name, value in above.items():
        old = out.get(name)
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def write_config(folder: Path, *changes: Mapping[str, Any], symbols: Callable[[dict[str, Any]], bool] = lambda row: True) -> Path:
    """The shipped config with these changes, for those symbols only. Data and logs lie beside it."""
    config = merged(shipped(), {"practice": {"linger": "8s"}, "control": {"port": 0}})
    for change in changes:
        config = merged(config, change)
    for strategy in config["strategies"]:
        strategy["symbols"] = [row for row in strategy["symbols"] if symbols(row)]
    traded = {row["symbol"] for strategy in config["strategies"] for row in strategy["symbols"]}
    stories = config["practice"].get("stories", {})
    config["practice"]["stories"] = {name: story for name, story in stories.items() if name in traded}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    """This machine's environment without any key of a broker in it."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS} | more


def until(condition: Callable[[], Any], what: str, deadline_s: float = WAIT_S, more: Callable[[], str] = str) -> Any:
    """The first true value of the condition."""
    waiting = threading.Event()
    for _ in range(int(deadline_s / LOOK_S)):
        found = condition()
        if found:
            return found
        waiting.wait(LOOK_S)
    raise AssertionError(f"not within {deadline_s:g} s: {what}\n{more()}")


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(folder: Path, *arguments: str, env: Mapping[str, str] | None = None, deadline_s: float = WAIT_S) -> Done:
    """One command of the runner with the folder's config, from start to end."""
    line = [sys.executable, str(RUNNER), *arguments, "--config", str(folder / "config.yaml")]
    done = subprocess.run(
        line, cwd=folder, env=env or environment(), capture_output=True, text=True, encoding="utf-8", timeout=deadline_s
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Running:
    """A session in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, program: Path = RUNNER) -> None:
        self.folder = folder
        self._output = (folder / "console.txt").open("ab")
        line = [sys.executable, str(program), "run", "--config", str(folder / "config.yaml"), *arguments]
        new_group: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {}
        self.process = subprocess.Popen(
            line, cwd=folder, env=env or environment(), stdout=self._output, stderr=subprocess.STDOUT, **new_group
        )

    def says(self, text: str, deadline_s: float = WAIT_S, after: int = 0) -> str:
        """Wait for the first log line with this text, beyond the first `after` lines."""

        def look() -> str | None:
            found = next((line for line in log_lines(self.folder)[after:] if text in line), None)
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} without saying {text!r}:\n{console(self.folder)}")
            return found

        return str(until(look, f"the log says {text!r}", deadline_s, lambda: console(self.folder)))

    def says_last(self, *texts: str) -> None:
        """The log's last lines have these texts, in this order, the very last line the last of them."""
        lines = log_lines(self.folder)
        places = [max((n for n, line in enumerate(lines) if text in line), default=-1) for text in texts]
        assert places == sorted(places) and min(places) >= 0 and places[-1] == len(lines) - 1, "\n".join(lines[-12:])

    def ends(self, deadline_s: float = WAIT_S) -> int:
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline_s:g} s:\n{console(self.folder)[-3000:]}") from None
        self._output.close()
        return code

    def interrupt(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self._output.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        stop_venue(self.folder)


def console(folder: Path) -> str:
    path = folder / "console.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def log_path(folder: Path, day: str = DAY) -> Path:
    return folder / "logs" / f"live-{day}.log"


def log_lines(folder: Path, day: str = DAY) -> list[str]:
    path = log_path(folder, day)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def report(folder: Path, day: str = DAY) -> dict[str, Any]:
    return dict(json.loads((folder / "data" / "reports" / f"{day}.json").read_text(encoding="utf-8")))


def by_symbol(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["symbol"]: row for row in found["symbols"]}


def journal_rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect((folder / "data" / "journal.db").absolute().as_uri() + "?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


# -- the venue itself ----------------------------------------------------------------------------------------------------------


class VenueBooks:
    """The practice venue as somebody else's eyes see it: its own books over its own REST, none of our adapters."""

    def __init__(self, folder: Path) -> None:
        note = json.loads((folder / "data" / "practice.json").read_text(encoding="utf-8"))
        self.rest_url, self._ws_url, self._key = str(note["rest_url"]), str(note["ws_url"]), str(note["api_key"])
        self._session = requests.Session()

    def ask(self, path: str, deadline_s: float = 5.0, **body: Any) -> Any:
        answer = self._session.post(f"{self.rest_url}{path}", json={"apikey": self._key} | body, timeout=deadline_s)
        answer.raise_for_status()
        return json.loads(answer.text, parse_float=Decimal)

    def orders(self) -> list[dict[str, Any]]:
        return list(self.ask("/api/v1/orderbook")["data"]["orders"])

    def fills(self) -> list[dict[str, Any]]:
        return list(self.ask("/api/v1/tradebook")["data"])

    def positions(self) -> dict[str, Decimal]:
        return {row["symbol"]: Decimal(row["quantity"]) for row in self.ask("/api/v1/positionbook")["data"]}

    def live(self) -> list[dict[str, Any]]:
        return [row for row in self.orders() if row["order_status"] in ("open", "trigger pending")]

    def stops(self) -> list[tuple[str, int, Decimal]]:
        """Protective stops at work: symbol, quantity, level."""
        rows = [row for row in self.live() if row["pricetype"] == "SL-M"]
        return sorted((row["symbol"], int(row["quantity"]), Decimal(row["trigger_price"])) for row in rows)

    def names(self, letter: str) -> list[str]:
        """Our names of every entry (E), stop (S) or exit (X) the venue has ever taken."""
        return sorted(row["strategy"] for row in self.orders() if row["strategy"].rpartition("-")[2].startswith(letter))

    def session_ms(self) -> int:
        """Session time, by the numbers the venue tells and this machine's clock."""
        told = self.ask("/practice/clock")
        passed_ms = datetime.now(UTC).timestamp() * 1000 - float(told["anchor_ms"])
        return int(told["session_start_ms"]) + int(passed_ms * float(told["speed"]))

    def stream(self) -> websocket.WebSocket:
        """A socket of our own on its order updates."""
        stream = websocket.create_connection(self._ws_url, timeout=WAIT_S)
        for message in ({"action": "authenticate", "api_key": self._key}, {"action": "subscribe_orders"}):
            stream.send(json.dumps(message))
        return stream

    def pid(self) -> int:
        return int(self.ask("/practice/clock")["pid"])


def stop_venue(folder: Path) -> None:
    """So that no test leaves a process behind."""
    with suppress(OSError, requests.RequestException, KeyError, ValueError):
        VenueBooks(folder).ask("/practice/stop")


class Seen:
    """What a witness remembers of a venue: its order book again and again, and its last word on each order, by venue order id."""

    def __init__(
        self, books: list[list[dict[str, Any]]] | None = None, last_words: dict[str, dict[str, Any]] | None = None
    ) -> None:
        self.books = books or []
        self.last_words = last_words or {}

    def amounts_working(self, name: str) -> list[int]:
        """The quantities with which this order of ours was seen at work, in their order."""
        return list(dict.fromkeys(int(row["quantity"]) for row in self._working(name)))

    def triggers_working(self, name: str) -> list[Decimal]:
        """The levels at which it was seen at work, in their order."""
        return list(dict.fromkeys(Decimal(row["trigger_price"]) for row in self._working(name)))

    def _working(self, name: str) -> Iterator[dict[str, Any]]:
        for book in self.books:
            yield from (row for row in book if row["strategy"] == name and row["order_status"] == "trigger pending")

    def positions(self) -> dict[str, int]:
        """What is held in the end, by all that has been filled."""
        held: dict[str, int] = {}
        for row in self.last_words.values():
            held[row["symbol"]] = held.get(row["symbol"], 0) + row["filled_quantity"] * (1 if row["action"] == "BUY" else -1)
        return held


class Witness:
    """Watches the venue while a session runs. Its order stream misses nothing; amended prices show in its book only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.seen = Seen()
        self._threads = [threading.Thread(target=body, daemon=True) for body in (self._watch, self._listen)]

    def _venue(self) -> VenueBooks | None:
        while not self._stop.is_set():
            with suppress(OSError, ValueError):
                return VenueBooks(self._folder)
            self._stop.wait(LOOK_S)
        return None

    def _watch(self) -> None:
        venue = self._venue()
        while venue is not None and not self._stop.is_set():
            try:
                self.seen.books.append(venue.orders())
            except (OSError, ValueError, requests.RequestException):
                return  # it has been stopped
            self._stop.wait(LOOK_S)

    def _listen(self) -> None:
        venue = self._venue()
        if venue is None:
            return
        with suppress(OSError, websocket.WebSocketException), closing(venue.stream()) as stream:
            while not self._stop.is_set():
                text = stream.recv()
                if not text:
                    return
                row = json.loads(text)
                if row.get("type") == "order_update":
                    self.seen.last_words[row["orderid"]] = row

    def __enter__(self) -> Witness:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads[1].join(WAIT_S)  # ends with the venue
        self._stop.set()
        self._threads[0].join(WAIT_S)


# -- tapes ---------------------------------------------------------------------------------------------------------------------

TAPE_HEADER = "ts_utc_iso_ms,symbol,exchange,price,qty"


def write_tape(
    path: Path, paths: Mapping[str, Sequence[tuple[str, str]]], end: str, broken: Sequence[str] = (), day: str = DAY
) -> Path:
    """One price a second for each symbol, from its first turn to `end`. A turn is (time in India, price from then on)."""
    midnight = datetime.fromisoformat(f"{day}T00:00:00+05:30")
    rows = []
    for symbol, turns in paths.items():
        times = [seconds(time) for time, _ in turns] + [seconds(end)]
        for (_, price), first, last in zip(turns, times, times[1:], strict=False):
            rows += [(second, symbol, price) for second in range(first, last)]
    lines = [
        f"{(midnight + timedelta(seconds=second)).astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z,{symbol},NSE,{price},100"
        for second, symbol, price in sorted(rows)
    ]
    path.write_text("\n".join([TAPE_HEADER, *lines, *broken, ""]), encoding="utf-8")
    return path


def session_ms(time: str, day: str = DAY) -> int:
    """Epoch milliseconds of a time of day in India."""
    return int(datetime.fromisoformat(f"{day}T{time}+05:30").timestamp()) * 1000


def seconds(text: str) -> int:
    """Of a time of day like 09:15:00."""
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(rest)


@contextmanager
def session(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A running session that is gone, venue and all, when the block ends."""
    with Running(folder, *arguments, env=env) as running:
        yield running


def ctrl_c(running: Running) -> None:
    running.interrupt(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT)  # type: ignore[attr-defined,unused-ignore]
