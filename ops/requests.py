"""What another process may ask of a running session: small files in the data directory, taken twice a second by its main thread.

`stop.request` asks to stop; `sync-N.request` asks about one order and is answered in `sync-N.answer`. Files, because they need
no port, work alike on Windows, and belong to whoever owns the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


class StopKind(StrEnum):
    PROTECT = "protect"  # entries are taken back, stops stay
    FLATTEN = "flatten"  # and positions are closed first
    KEEP = "keep"  # everything stays as it is


class StopRequest(msgspec.Struct, frozen=True):
    kind: StopKind
    who: str


class StopFlag:
    """What a signal handler may do: set one attribute. Not an Event, whose lock the interrupted main thread may hold."""

    def __init__(self) -> None:
        self.request: StopRequest | None = None

    def ask(self, request: StopRequest) -> None:
        self.request = request


class SyncRequest(msgspec.Struct, frozen=True):
    """`order_id`: client or venue order id."""

    order_id: str


class SyncAnswer(msgspec.Struct, frozen=True):
    """`known` is false for an order that is not of this session; `changed` when asking the venue changed what we believe."""

    order_id: str
    known: bool
    changed: bool
    text: str


def ask_to_stop(data_dir: Path, request: StopRequest) -> None:
    _put(data_dir / "stop.request", request)


def take_stop_request(data_dir: Path) -> StopRequest | None:
    """The request, once; None when there is none. What cannot be read is taken for the careful kind."""
    path = data_dir / "stop.request"
    raw = _take(path)
    if raw is None:
        return None
    return _decoded(raw, StopRequest) or StopRequest(StopKind.PROTECT, "unreadable request")


def ask_to_sync(data_dir: Path, request: SyncRequest) -> Path:
    """Where the answer will be."""
    path = data_dir / f"sync-{os.getpid()}.request"
    _put(path, request)
    return path.with_suffix(".answer")


def take_sync_requests(data_dir: Path) -> Iterator[tuple[SyncRequest, Path]]:
    """Each request once, with the place for its answer."""
    for path in sorted(data_dir.glob("sync-*.request")):
        raw = _take(path)
        request = None if raw is None else _decoded(raw, SyncRequest)
        if request is not None:
            yield request, path.with_suffix(".answer")


def answer_sync(path: Path, answer: SyncAnswer) -> None:
    _put(path, answer)


def take_answer(path: Path) -> SyncAnswer | None:
    raw = _take(path)
    return None if raw is None else _decoded(raw, SyncAnswer)


def _put(path: Path, what: msgspec.Struct) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_suffix(f".{os.getpid()}.new")
    waiting.write_bytes(msgspec.json.encode(what))
    os.replace(waiting, path)


def _take(path: Path) -> bytes | None:
    try:
        raw = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    return raw


def _decoded(raw: bytes, type: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=type)
    except msgspec.MsgspecError:
        return None
