"""Recorded market data as ticks: reads the files of ../shared/data (README there) in time order.

Owns the file format and nothing else. Never crashes on a broken line and never skips one silently: each is counted, the first
few are kept with line number and reason. A file that is no tape at all raises TapeError before the first tick.

ticks  `ts_utc_iso_ms,symbol,exchange,price,qty[,more]`
bars   `ts_utc_iso,symbol,exchange,open,high,low,close,volume,interval`, 1m only, stamped with the bar's start. A bar becomes four
       ticks at +0, +15, +30 and +45 s: O, L, H, C if it closed at or above its open, else O, H, L, C; nothing in between.
"""

from __future__ import annotations

import gzip
import heapq
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

import msgspec

EXAMPLES = 5
_CACHE_SIZE = 50_000
_GZIP_MAGIC = b"\x1f\x8b"
_TICK_COLUMNS = ["ts_utc_iso_ms", "symbol", "exchange", "price", "qty"]
_BAR_COLUMNS = ["ts_utc_iso", "symbol", "exchange", "open", "high", "low", "close", "volume", "interval"]
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_QUARTER_MS = 15_000


class TapeError(Exception):
    """This file cannot be played. The text names the file and says why."""


class TapeTick(msgspec.Struct, frozen=True):
    """One price. `qty` is the traded quantity where the tape has one; `available` bounds what an order of ours can fill on it."""

    at_ms: int
    symbol: str
    price: Decimal
    qty: Decimal | None = None
    available: Decimal | None = None


class TapeReport(msgspec.Struct):
    """What was read of one file so far: good rows, bad lines, rows dropped because time went back."""

    file: str
    rows: int = 0
    bad: int = 0
    late: int = 0
    examples: list[tuple[int, str]] = []

    def describe(self) -> str:
        """The report in one line, for a log."""
        text = f"{self.file}: {self.rows} rows, {self.bad} bad, {self.late} late"
        return text + "".join(f"; line {line}: {reason}" for line, reason in self.examples)


class _BadLine(Exception):
    """This line is not a row; the text says why."""


class Tape:
    """Ticks of several files, merged by time; at equal times in the order of files, then of rows. To be iterated once.

    `reports` has one entry per file and is complete when the iteration has ended.
    """

    def __init__(self, paths: Sequence[str | Path], symbols: Collection[str] | None = None) -> None:
        if not paths:
            raise TapeError("no tape file was named")
        self._symbols = None if symbols is None else frozenset(symbols)
        files = [_TapeFile(Path(path)) for path in paths]
        self.reports = [file.report for file in files]
        self._ticks = heapq.merge(*(file.ticks() for file in files), key=attrgetter("at_ms"))

    def __iter__(self) -> Iterator[TapeTick]:
        if self._symbols is None:
            return self._ticks
        symbols = self._symbols
        return (tick for tick in self._ticks if tick.symbol in symbols)


def read_tape(paths: Sequence[str | Path], symbols: Collection[str] | None = None) -> Tape:
    """The tape of these files, for these symbols only if any are named. Raises TapeError for a file that is none."""
    return Tape(paths, symbols)


class _TapeFile:
    """One file. Opened, checked and read up to its first good row at construction."""

    def __init__(self, path: Path) -> None:
        self.report = TapeReport(path.name)
        self._path = path
        self._number = _NumberReader()
        self._time = _TimeReader()
        self._lines = _read_lines(path)
        self._line = 0
        self._columns, self._parse = self._read_header()
        rows = self._read_rows()
        first = next(rows, None)
        if first is None:
            raise TapeError(f"{path}: no good row ({self.report.describe()})")
        self._first, self._rest = first, rows

    def ticks(self) -> Iterator[TapeTick]:
        yield from self._first
        for row in self._rest:
            yield from row

    def _read_header(self) -> tuple[int, Callable[[list[str]], Sequence[TapeTick]]]:
        try:
            header = next(self._lines, "").rstrip("\r\n").split(",")
        except (OSError, EOFError, zlib.error) as error:
            raise TapeError(f"{self._path}: cannot be read: {error}") from error
        self._line = 1
        if header == _BAR_COLUMNS:
            return len(header), self._bar
        if header[: len(_TICK_COLUMNS)] == _TICK_COLUMNS:
            return len(header), self._tick
        raise TapeError(f"{self._path}: is no tape: its first line must be {','.join(_TICK_COLUMNS)} or {','.join(_BAR_COLUMNS)}")

    def _read_rows(self) -> Iterator[Sequence[TapeTick]]:
        report = self.report
        latest_ms = 0
        for line in self._good_lines():
            try:
                fields = line.rstrip("\r\n").split(",")
                if len(fields) != self._columns:
                    raise _BadLine(f"{len(fields)} fields instead of {self._columns}")
                ticks = self._parse(fields)
            except _BadLine as reason:
                self._count_bad(str(reason))
                continue
            if ticks[0].at_ms < latest_ms:
                report.late += 1
                continue
            latest_ms = ticks[-1].at_ms  # a bar said twice would go back to its start
            report.rows += 1
            yield ticks

    def _good_lines(self) -> Iterator[str]:
        """Lines until the end of the file, or until it turns out to be torn."""
        try:
            for line in self._lines:
                self._line += 1
                if line.isascii():
                    yield line
                else:
                    self._count_bad("not plain text")
        except (OSError, EOFError, zlib.error) as error:
            self._line += 1
            self._count_bad(f"the file is torn: {error}")

    def _count_bad(self, reason: str) -> None:
        self.report.bad += 1
        if len(self.report.examples) < EXAMPLES:
            self.report.examples.append((self._line, reason))

    def _tick(self, fields: list[str]) -> Sequence[TapeTick]:
        symbol = fields[1]
        if not symbol:
            raise _BadLine("no symbol")
        return (TapeTick(self._time(fields[0]), symbol, self._number.price(fields[3]), self._number(fields[4], "quantity")),)

    def _bar(self, fields: list[str]) -> Sequence[TapeTick]:
        start_ms, symbol = self._time(fields[0]), fields[1]
        if not symbol:
            raise _BadLine("no symbol")
        if fields[8] != "1m":
            raise _BadLine(f"interval {fields[8][:10]!r} is not 1m")
        opened, high, low, closed = (self._number.price(text) for text in fields[3:7])
        self._number(fields[7], "volume")
        if low > min(opened, closed) or high < max(opened, closed):
            raise _BadLine("open and close are not between low and high")
        path = (opened, low, high, closed) if closed >= opened else (opened, high, low, closed)
        return [TapeTick(start_ms + quarter * _QUARTER_MS, symbol, price) for quarter, price in enumerate(path)]


class _NumberReader:
    """Texts to Decimal. Prices repeat: each spelling is checked once."""

    def __init__(self) -> None:
        self._known: dict[str, Decimal] = {}

    def __call__(self, text: str, name: str) -> Decimal:
        value = self._known.get(text)
        if value is None:
            if not _NUMBER.fullmatch(text):
                raise _BadLine(f"{name} {text[:20]!r} is not a plain number")
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            value = self._known[text] = Decimal(text)
        return value

    def price(self, text: str) -> Decimal:
        value = self(text, "price")
        if not value:
            raise _BadLine("price is 0")
        return value


class _TimeReader:
    """`2021-04-07T03:46:31.000Z` (milliseconds optional) to epoch ms. Minutes repeat: each is checked once."""

    def __init__(self) -> None:
        self._minute = ""
        self._minute_ms = 0

    def __call__(self, text: str) -> int:
        if len(text) == 20:
            seconds, millis, frame = text[17:19], "000", text[16] + text[19]
        elif len(text) == 24:
            seconds, millis, frame = text[17:19], text[20:23], text[16] + text[23] if text[19] == "." else ""
        else:
            raise _BadLine(f"time {text[:30]!r} is not UTC in ISO form")
        if frame != ":Z" or not seconds.isdigit() or not millis.isdigit() or seconds > "59":
            raise _BadLine(f"time {text[:30]!r} is not UTC in ISO form")
        if text[:16] != self._minute:
            self._minute_ms = self._read_minute(text)
            self._minute = text[:16]
        return self._minute_ms + int(seconds) * 1000 + int(millis)

    @staticmethod
    def _read_minute(text: str) -> int:
        try:
            minute = datetime.strptime(text[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
        except ValueError:
            raise _BadLine(f"time {text[:30]!r} is not UTC in ISO form") from None
        return int(minute.timestamp()) * 1000


def _read_lines(path: Path) -> Iterator[str]:
    """The file's lines, unpacked if it is packed, whatever its name says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        plain = gzip.GzipFile(fileobj=raw) if packed else raw
        yield from io.TextIOWrapper(plain, encoding="utf-8-sig", errors="replace", newline="\n")
