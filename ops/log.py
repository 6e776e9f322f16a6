"""The log: one file per session day, and the console. Owns how a line gets there; the words are `ops.story`'s.

No thread that trades ever waits for a disk or a console: lines go into a queue, the thread "log" writes the file, the thread
"console" the screen. When they cannot keep up, or the disk is full, ordinary lines are lost, counted, and told of later. The
file is opened for append and never renamed. Secrets are taken out and control characters escaped here, in one place.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import sys
from collections.abc import Callable, Iterable
from datetime import date, tzinfo
from io import FileIO
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, quote_plus

import msgspec

from ops.words import Line, iso_text, printable, render, thread_word
from state.clock import Clock
from state.symbol_state import Work
from state.threads import OS_THREADS

QUEUE_LINES = 10_000  # ordinary lines beyond this are dropped ...
RESERVED_LINES = 2_000  # ... warnings and errors only beyond this many more
CONSOLE_LINES = 2_000
CLOSE_S = 3.0
HIDDEN = "***"
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
SHORTEST_SECRET = 4  # anything shorter would black out ordinary words
EXIT_WORDS = {
    0: "session done, flat",
    2: "configuration",
    3: "credentials",
    4: "another instance holds the account",
    5: "stopped with a protected position open",
    6: "halted on disagreement",
    7: "stopped with something unprotected or unknown",
    70: "defect",
}


def exit_words(code: int) -> str:
    """What an exit code means (DESIGN, section 10)."""
    return f"exit {code}: {EXIT_WORDS.get(code, 'unlisted code')}"


def start_log(
    dir: Path,
    day: date,
    level: str,
    format: str,
    console: bool | TextIO,
    clock: Clock,
    zone: tzinfo,
    secrets: Iterable[str],
    symbols: Iterable[str] = (),
    queue_lines: int = QUEUE_LINES,
) -> Log:
    """Start the log of one session day. Never fails: an unwritable file is said on the console and counted."""
    stream = sys.stdout if console is True else console or None  # a scheduled task may have no stdout at all
    screen = _Console(stream) if stream is not None else None
    width = min(max([6, *map(len, symbols)]), 20)
    writer = _Writer(DayFile(Path(dir) / f"live-{day}.log"), screen, zone, format == "json", redactor(secrets), width)
    return Log(writer, clock, level, queue_lines)


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that hides each secret in a text, in the spellings it takes in addresses and in JSON too."""
    spellings: set[str] = set()
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            spellings |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
            spellings |= {msgspec.json.encode(secret).decode()[1:-1], repr(secret)[1:-1]}
    if not spellings:
        return str
    pattern = re.compile("|".join(re.escape(text) for text in sorted(spellings, key=len, reverse=True)))
    return lambda text: pattern.sub(HIDDEN, text)


class Log:
    """Thread-safe; no method waits, except `close`. `lost` counts lines that were dropped or could not be written."""

    def __init__(self, writer: _Writer, clock: Clock, level: str, queue_lines: int) -> None:
        self.path = writer.file.path
        self._writer = writer
        self._clock = clock
        self._least = LEVELS[level]
        self._limit = queue_lines
        self._lines: queue.SimpleQueue[Line | _End] = queue.SimpleQueue()
        self._closed = False
        self._thread = OS_THREADS.thread("log", self._work)
        self._thread.start()
        self._libraries = _Libraries(self._take, clock, max(self._least, logging.WARNING))
        logging.getLogger().addHandler(self._libraries)

    @property
    def lost(self) -> int:
        return self._writer.dropped + self._writer.file.unwritten

    def story(self, work: Work, lines: Iterable[Line]) -> None:
        """The lines of one decision, as `ops.story.lines(work)` tells them."""
        for line in lines:
            self._take(line)

    def debug(self, text: str, thread: str | None = None) -> None:
        self._say(text, thread, "DEBUG")

    def info(self, text: str, thread: str | None = None) -> None:
        self._say(text, thread, "INFO")

    def warning(self, text: str, thread: str | None = None) -> None:
        self._say(text, thread, "WARNING")

    def alarm(self, text: str, thread: str | None = None) -> None:
        """Something a person must see now."""
        self._say(text, thread, "ERROR", "ALARM")

    def defect(self, text: str, error: BaseException) -> None:
        """A defect of ours, with its traceback on the same line."""
        trace = logging.Formatter().formatException((type(error), error, error.__traceback__))
        self._say(f"{text}: {trace}", None, "ERROR", "DEFECT")

    def redact(self, text: str) -> str:
        """The text without secrets, for whatever else people read."""
        return self._writer.redact(text)

    def close(self, code: int | None = None, timeout_s: float = CLOSE_S) -> bool:
        """Write what is waiting, last of all the exit code in words; false when that took longer than the time-out."""
        if not self._closed:
            self._closed = True
            logging.getLogger().removeHandler(self._libraries)
            level = "ERROR" if code else "INFO"
            self._lines.put(_End(None if code is None else self._line(exit_words(code), None, level)))
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and self._writer.finish(timeout_s)

    def _say(self, text: str, thread: str | None, level: str, change: str = "") -> None:
        self._take(self._line(text, thread, level, change))

    def _line(self, text: str, thread: str | None, level: str, change: str = "") -> Line:
        return Line(self._clock.now_ms(), thread or thread_word(self._clock.threads.current()), "-", change, text, level=level)

    def _take(self, line: Line) -> None:
        """On any thread: into the queue, or dropped and counted."""
        if LEVELS[line.level] < self._least:
            return
        limit = self._limit + (0 if LEVELS[line.level] < logging.WARNING else RESERVED_LINES)
        if self._closed or self._lines.qsize() >= limit:
            self._writer.count_drop()
        else:
            self._lines.put(line)

    def _work(self) -> None:
        while isinstance(item := self._lines.get(), Line):
            self._writer.write(item)
        if item.line is not None:
            self._writer.write(item.line)
        self._writer.file.close()


class _End(msgspec.Struct, frozen=True):
    """Behind the last line of the session; `line` itself is the very last."""

    line: Line | None


class _Libraries(logging.Handler):
    """What libraries say through `logging`, from warnings up, becomes lines of ours."""

    def __init__(self, take: Callable[[Line], None], clock: Clock, level: int) -> None:
        super().__init__(level)
        self._take, self._clock = take, clock

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # their arguments do not fit their text; printing them raw could show a secret
            text = f"a log record that cannot be put into words ({type(error).__name__})"
        level = "WARNING" if record.levelno < logging.ERROR else "ERROR"
        self._take(
            Line(self._clock.now_ms(), thread_word(record.threadName or "-"), "-", "", f"{record.name}: {text}", level=level)
        )


class _Writer:
    """On the thread "log": lines become text, without secrets and control characters, and go to file and console."""

    def __init__(
        self, file: DayFile, console: _Console | None, zone: tzinfo, as_json: bool, redact: Callable[[str], str], width: int
    ) -> None:
        self.file, self.dropped = file, 0
        self._console, self._zone, self._as_json, self.redact, self._width = console, zone, as_json, redact, width
        self._told_dropped = self._told_unwritten = 0
        self._count = OS_THREADS.lock()  # guards `dropped`; held for one addition

    def write(self, line: Line) -> None:
        clean = msgspec.structs.replace(
            line, change=self.redact(line.change), cause=self.redact(line.cause), client_id=self.redact(line.client_id)
        )
        self._tell_of_drops(line.at_ms)
        self._out(clean)

    def count_drop(self) -> None:
        """On any thread."""
        with self._count:
            self.dropped += 1

    def finish(self, timeout_s: float) -> bool:
        return self._console is None or self._console.finish(timeout_s)

    def _out(self, line: Line) -> None:
        text = self._text(line)
        self.file.write(self._json(line) if self._as_json else text)
        if self._console is not None:
            self._console.write(text)
        if self.file.failed and not self._told_unwritten:
            self._warn_on_console(line.at_ms)
        elif not self.file.failed and self._told_unwritten:
            lost, self._told_unwritten = self.file.unwritten, 0
            self._out(_notice(line.at_ms, f"the log file can be written again, {lost} lines are missing so far"))

    def _text(self, line: Line) -> str:
        return render(line, self._zone, self._width)

    def _json(self, line: Line) -> str:
        fields = {"time": iso_text(line.at_ms, self._zone)} | msgspec.structs.asdict(line)
        del fields["at_ms"]
        return msgspec.json.encode({k: printable(str(v)) for k, v in fields.items()}).decode()

    def _tell_of_drops(self, at_ms: int) -> None:
        dropped = self.dropped - self._told_dropped
        if dropped:
            self._told_dropped += dropped
            self._out(_notice(at_ms, f"{dropped} lines were dropped here: the log could not keep up"))

    def _warn_on_console(self, at_ms: int) -> None:
        self._told_unwritten = self.file.unwritten
        if self._console is not None:
            text = f"the log file {self.file.path} cannot be written ({self.file.failed}); trading goes on, lines are lost"
            self._console.write(self._text(_notice(at_ms, self.redact(text))))


def _notice(at_ms: int, text: str) -> Line:
    return Line(at_ms, "log", "-", "", text, level="WARNING")


class DayFile:
    """One file, appended to line by line without a buffer, so that a full disk can tear one line at most. Raises nothing.

    `failed` says why the last write did not succeed, empty when it did; `unwritten` counts lines that are missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed = ""
        self.unwritten = 0
        self._file: FileIO | None = None
        self._torn = False

    def write(self, text: str) -> None:
        try:
            self._append((("\n" if self._torn else "") + text + "\n").encode("utf-8", "backslashreplace"))
            self.failed = ""
        except OSError as error:
            self.failed = error.strerror or type(error).__name__
            self.unwritten += 1

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:  # some file systems say "disk full" only now
                self.failed = error.strerror or type(error).__name__
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - it stays open all day
        written = self._file.write(line)
        self._torn = written != len(line)
        if self._torn:
            raise OSError(0, "the disk took only a part of a line")


class _Console:
    """The screen, on a thread of its own: a console that is being selected in, or scrolled, may stand still for hours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._skipped = 0
        self._thread = OS_THREADS.thread("console", self._work)
        self._thread.start()

    def write(self, text: str) -> None:
        if self._lines.qsize() < CONSOLE_LINES:
            self._lines.put(text)
        else:
            self._skipped += 1

    def finish(self, timeout_s: float) -> bool:
        self._lines.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while (text := self._lines.get()) is not None:
                if self._skipped:
                    skipped, self._skipped = self._skipped, 0
                    text = f"({skipped} lines not shown here, they are in the log file){os.linesep}{text}"
                self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
                self._stream.flush()
        except (OSError, ValueError):  # the window or pipe is gone: the file has everything
            self._drain()

    def _drain(self) -> None:
        while self._lines.get() is not None:
            pass
