"""The person behind a running session, as its main thread meets them: what they ask for, and where they look.

`AtTheFiles` is the one of `live_runner.py`: requests of other terminals and a status file, all in the data directory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ops import requests
from ops.facts import LiveStatus, live_path, write_live
from ops.requests import StopRequest, SyncAnswer
from state.clock import Clock


class Operator(Protocol):
    """Used by the main thread only; nothing here waits."""

    def asks_to_stop(self) -> StopRequest | None:
        """Once for each request."""

    def ask_about_orders(self, answer: Callable[[str], SyncAnswer]) -> None:
        """Answer whatever was asked since."""

    def show(self, live: LiveStatus) -> None: ...
    def gone(self) -> None:
        """The session has ended: nothing is shown any more."""


class AtTheFiles:
    """`wall` paces the retries of a status file that a reader holds open."""

    def __init__(self, data_dir: Path, wall: Clock) -> None:
        self._data_dir = data_dir
        self._wall = wall

    def asks_to_stop(self) -> StopRequest | None:
        return requests.take_stop_request(self._data_dir)

    def ask_about_orders(self, answer: Callable[[str], SyncAnswer]) -> None:
        for wanted, place in requests.take_sync_requests(self._data_dir):
            requests.answer_sync(place, answer(wanted.order_id))

    def show(self, live: LiveStatus) -> None:
        write_live(live_path(self._data_dir), live, self._wall)

    def gone(self) -> None:
        with suppress(OSError):  # held open by a reader: it is history in a few seconds anyway
            live_path(self._data_dir).unlink(missing_ok=True)
