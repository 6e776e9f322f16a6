"""What another process asks of a running session."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import requests
from ops.requests import StopFlag, StopKind, StopRequest, SyncAnswer, SyncRequest


def test_a_stop_request_is_taken_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    asked = StopRequest(StopKind.FLATTEN, "the command line")

    requests.ask_to_stop(data, asked)

    assert (requests.take_stop_request(data), requests.take_stop_request(data)) == (asked, None)
    assert list(data.iterdir()) == []


def test_of_two_requests_the_later_counts(tmp_path: Path) -> None:
    requests.ask_to_stop(tmp_path, StopRequest(StopKind.KEEP, "a"))
    requests.ask_to_stop(tmp_path, StopRequest(StopKind.PROTECT, "b"))

    assert requests.take_stop_request(tmp_path) == StopRequest(StopKind.PROTECT, "b")


@pytest.mark.parametrize("text", [b"", b"{", b'{"kind":"sell everything","who":"x"}', b"\xff"])
def test_a_request_that_cannot_be_read_stops_with_care(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "stop.request").write_bytes(text)

    assert requests.take_stop_request(tmp_path) == StopRequest(StopKind.PROTECT, "unreadable request")
    assert requests.take_stop_request(tmp_path) is None


def test_the_flag_of_a_signal_is_one_attribute() -> None:
    flag = StopFlag()
    before = flag.request

    flag.ask(StopRequest(StopKind.PROTECT, "SIGTERM"))

    assert (before, flag.request) == (None, StopRequest(StopKind.PROTECT, "SIGTERM"))


def test_a_question_about_an_order_is_taken_once_and_answered_where_it_was_asked(tmp_path: Path) -> None:
    """OPS-08."""
    place = requests.ask_to_sync(tmp_path, SyncRequest("SBIN-20261120-E0"))

    taken = list(requests.take_sync_requests(tmp_path))
    answer = SyncAnswer("SBIN-20261120-E0", True, True, "was WORKING; now ended, 5 filled")
    requests.answer_sync(taken[0][1], answer)

    assert [request.order_id for request, _ in taken] == ["SBIN-20261120-E0"]
    assert list(requests.take_sync_requests(tmp_path)) == []
    assert (requests.take_answer(place), requests.take_answer(place)) == (answer, None)


def test_a_question_that_cannot_be_read_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "sync-7.request").write_bytes(b"{torn")

    assert list(requests.take_sync_requests(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
