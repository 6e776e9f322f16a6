"""What the command line asked for, and how it fails: one exception that carries the exit code and what to tell the person."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ops.config import Config
from ops.config_types import CREDENTIALS


class Failure(Exception):
    """Ends a command before anything was started. Code 0 is an end too: a holiday, nothing to do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.logged = False  # its words are the last ones of the log already


class RunOptions(msgspec.Struct, frozen=True):
    """`run` as it was called. `speed` None: as configured. `environ` holds secrets: never printed."""

    config: Config
    environ: Mapping[str, str]
    live: bool = False
    tape: tuple[Path, ...] = ()
    speed: float | None = None
    faults: str = ""


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """The values that no output may show."""
    return [environ[name] for names in CREDENTIALS.values() for name in names if name in environ]


def say(text: str, error: bool = False) -> None:
    """To the terminal, whatever its code page can show."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
