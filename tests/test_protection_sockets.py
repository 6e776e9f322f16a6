"""A price band over real sockets: from the first fill on neither stop nor exit is accepted, and nobody gives up or gives in."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.practice_truth import API
from ops.ending import UNPROTECTED_OR_UNKNOWN
from tests.fault_runs import QTY, STEADY, Script, play

pytestmark = pytest.mark.timeout(300)
BAND = [{"kind": "error_with_id", "symbol": "SBIN", "purpose": letter, "times": 0, "reason": "price band"} for letter in "SX"]


def test_stop_and_exit_refused_for_ever_over_real_sockets(tmp_path: Path) -> None:
    """PRO-18: still long at the close, every try refused, told again and again, exit code 7; the others end flat."""
    played = play(tmp_path, Script("price-band", STEADY, BAND))

    ours = [order for order in played.truth.orders if order.symbol == "SBIN" and order.origin == API]
    words = {purpose: [o.now.state.value for o in ours if f"-{purpose}" in o.label] for purpose in "ESX"}
    told = [line for line in played.log if "SBIN" in line and "UNPROTECTED for" in line]
    assert played.code == UNPROTECTED_OR_UNKNOWN
    assert (words["E"], words["S"], set(words["X"])) == (["FILLED"], ["REJECTED"] * 3, {"REJECTED"})
    assert len(words["X"]) >= 4 and len(told) >= 3
    assert played.truth.timeline["SBIN"][-1].ours == QTY
    assert played.says(f"SBIN: position {QTY}", "NO STOP is working")
    assert {symbol for symbol, points in played.truth.timeline.items() if points[-1].ours} == {"SBIN"}
