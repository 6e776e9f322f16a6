"""Every fault that the practice venue knows, against the real runner: is what the venue truly has what the invariants promise?

The runner is a process of its own and speaks HTTP and WebSocket with the venue; what is true is asked of the venue afterwards
(simulation/oracle.py judges it). A session carries several faults where they cannot mask each other: one symbol each.

What each fault guards, by the line whose breaking makes its tests fail, is told above the scripts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from brokers.practice_fault_kinds import KINDS
from brokers.practice_faults import NAMED
from brokers.practice_truth import API
from simulation.oracle import Bounds, Violation, judge
from state.orders import ZERO
from state.reports import Reported
from tests import runs
from tests.fault_runs import (
    ENTRIES,
    FILLED_S,
    LIMIT_MS,
    LIVELY,
    POLL_MS,
    QTY,
    REQUEST_MS,
    SETTLE_MS,
    SPEED,
    STEADY,
    Day,
    Played,
    Script,
    Stage,
    Turns,
)

pytestmark = pytest.mark.timeout(300)


def fault(kind: str, symbol: str = "", purpose: str = "", from_s: float | None = None, **more: Any) -> dict[str, Any]:
    """One line of a script; `from_s` in real seconds after the open."""
    row = {"kind": kind, "symbol": symbol, "purpose": purpose, **more}
    if from_s is not None:
        row["from"] = f"{round(from_s * SPEED * 1000)}ms"
    return {name: value for name, value in row.items() if value not in ("", None)}


def thrice(symbol: str, kind: str, **more: Any) -> list[dict[str, Any]]:
    """The same to the symbol's entry, its stop and its exit."""
    return [fault(kind, symbol, purpose, **more) for purpose in "ESX"]


def replies(name: str, *four: list[dict[str, Any]]) -> Script:
    return Script(name, STEADY, [row for rows in four for row in rows])


STABBED: Turns = {
    **STEADY.turns,
    "ITC": [*STEADY.turns["ITC"], (FILLED_S + 1.9, -25)],
    "TECHM": [*STEADY.turns["TECHM"], (FILLED_S + 1.9, -25)],
}

# The line that each fault guards; breaking it made the tests of the fault fail.
#
#   lost_reply, stall, dribble, reset_*   desk._submit: Unanswered is WentUnanswered, neither NotSent nor WasRefused
#   error_after, no_id, rate_limited      openalgo_replies._error: what was asked decides, not that the reply is an error
#   garbage                               openalgo_replies._classified: what is not JSON is unanswered
#   error_with_id                         openalgo_replies.failure: the id in the reply goes along with Unanswered
#   late_accept                           reports._resolve: nothing is given up before the settle window is over
#   error_before, reset_before            reports._give_up: and after it, it is
#   modify_ignored                        record._replaced: the row, not the acknowledgement, says where the stop rests
#   cancel_loses_to_fill                  record._refused: a refused cancel is asked about, it ends nothing
#   fill_after_cancel, fill_first         record._known: ended orders still take reports; reports.bind: early rows are kept
#   partial_fills, overfill               machine._resize: the stop is as large as what is held
#   tradebook_lags                        record._closed: the last word waits for the executions it implies
#   stop_type_changed                     record._adopt: a stop that rests as something else has to go
#   reject_later                          openalgo_words: rejected has ended; draft.place_later: a lost stop is placed again
#   empty_positions, stale_positions      record._position_seen: the first disagreement is only remembered
#   stale_orders                          record._orphan: what has filled in full cannot be at work
#   manual_close, manual_reduce           reports._positions: the executions of others; reconcile._share: whose they are
#   manual_add, foreign_position          reconcile._share; record._meet_the_foreign: what adds, or was there, is theirs
#   manual_reverse                        record._believe: turned round by somebody else, it is protected and not closed
#   a stop that fires after manual_*      reconcile.compare: whose a trade was depends on what we held at its time
#   updates_*                             poller.run and curious: polls tell what the stream does not
#   silent_socket, socket_drop            feed.check: stale is told; feed._logged_in: every connection subscribes
#   session_expired, mode_gone            session.end: not certain, not flat; openalgo._check_mode
#   bad_price                             gate._judge_closely, test by test

SCRIPTS = [
    replies(
        "replies-1",
        thrice("SBIN", "lost_reply"),
        thrice("ITC", "delayed_reply"),
        thrice("TECHM", "stall", delay="1500ms"),
        thrice("WIPRO", "dribble"),
    ),
    replies(
        "replies-2",
        thrice("SBIN", "error_before"),
        thrice("ITC", "error_after"),
        thrice("TECHM", "close_after_reply"),
        thrice("WIPRO", "reset_before"),
    ),
    replies(
        "replies-3",
        thrice("SBIN", "reset_after"),
        thrice("ITC", "rate_limited", times=1),
        thrice("TECHM", "garbage"),
        thrice("WIPRO", "garbage", answer="truncated"),
    ),
    replies(
        "replies-4",
        thrice("SBIN", "garbage", answer="empty"),
        thrice("ITC", "garbage", answer="null_data"),
        thrice("TECHM", "no_id", answer="null"),
        thrice("WIPRO", "no_id", answer="missing"),
    ),
    replies(
        "replies-5",
        thrice("SBIN", "no_id"),
        thrice("ITC", "error_with_id"),
        thrice("TECHM", "late_accept", delay="1500ms"),
        thrice("WIPRO", "late_accept", answer="drop", delay="1500ms"),
    ),
    replies(
        "replies-6",
        thrice("SBIN", "late_accept", answer="hold", delay="1500ms"),
        [fault("late_accept", "ITC", "E", delay="5600ms"), fault("late_accept", "ITC", "S", delay="3500ms")],
        [fault("lost_reply", "TECHM", "S", path="cancelorder"), fault("lost_reply", "TECHM", path="orderstatus")],
        [fault("error_before", "WIPRO", "S", path="cancelorder", times=2)],
    ),
    Script(
        "changes-1",
        LIVELY,
        [
            fault("modify_ignored", "SBIN"),
            fault("lost_reply", "ITC", path="modifyorder"),
            fault("cancel_loses_to_fill", "TECHM", "S"),
            fault("fill_after_cancel", "WIPRO"),
        ],
    ),
    Script(
        "changes-2",
        LIVELY,
        [
            fault("error_before", "SBIN", path="modifyorder", times=2),
            fault("cancel_loses_to_fill", "ITC", "S", path="modifyorder"),
            fault("error_after", "TECHM", "S", path="cancelorder"),
            fault("cancel_loses_to_fill", "WIPRO", "E"),
        ],
    ),
    Script(
        "fills-1",
        LIVELY,
        [
            fault("partial_fills", "SBIN", "E", qty=3, delay="100ms"),
            fault("overfill", "ITC", "E"),
            fault("tradebook_lags", "TECHM", "E", lasts="1500ms"),
            fault("fill_first", "WIPRO", "E"),
        ],
    ),
    Script(
        "fills-2",
        STEADY,
        [
            fault("reject_later", "SBIN", "E", qty=4, delay="5s"),
            fault("reject_later", "ITC", "S", delay="1s", answer="cancelled"),
            fault("reject_later", "TECHM", "S", delay="1s", answer="expired"),
            fault("reject_later", "WIPRO", "X", delay="300ms"),
        ],
    ),
    Script(
        "fills-3",
        STEADY,
        [
            fault("stop_type_changed", "SBIN"),
            fault("stop_type_changed", "ITC", answer="rests"),
            fault("reject_later", "TECHM", "E", delay="1s"),
            fault("partial_fills", "WIPRO", "X", qty=3, delay="200ms"),
        ],
    ),
    Script(
        "books-1",
        STEADY,
        [
            fault("stale_orders", from_s=FILLED_S),
            fault("stale_positions", from_s=FILLED_S),
            fault("empty_positions", from_s=FILLED_S + 1.2),
            fault("empty_positions", from_s=FILLED_S + 2.4, answer="zero"),
        ],
    ),
    Script(
        "books-2",
        STEADY,
        [fault("empty_positions", "SBIN", from_s=FILLED_S + 0.3, until=f"{round((FILLED_S + 3.3) * SPEED)}s", times=0)],
    ),
    Script(
        "hands-1",
        Day(STEADY.turns, 10.5, "30m", "15m"),
        [
            fault("manual_close", "SBIN"),
            fault("manual_reduce", "ITC"),
            fault("manual_add", "TECHM"),
            fault("manual_order", "WIPRO"),
        ],
    ),
    Script(
        "hands-2",
        Day(STABBED, 10.5, "30m", "15m"),
        [
            fault("manual_reverse", "SBIN"),
            fault("manual_close", "ITC", delay="1500ms"),
            fault("manual_reduce", "TECHM", delay="1500ms"),
            fault("manual_add", "WIPRO", delay="1500ms", qty=3),
        ],
    ),
    Script(
        "foreign",
        STEADY,
        [fault("foreign_order", "SBIN"), fault("foreign_position", "ITC", qty=3), fault("foreign_order", "TECHM", qty=10)],
    ),
    Script(
        "stream",
        LIVELY,
        [
            fault("updates_missing", "SBIN", times=0),
            fault("updates_duplicated", "ITC", times=0),
            fault("updates_reordered", "TECHM", times=0),
            fault("updates_delayed", "WIPRO", times=0),
        ],
    ),
    Script("silent", LIVELY, [fault("silent_socket", from_s=1.5)], changes={"feed": {"max_age": "1s"}}),
    Script("dropped", LIVELY, [fault("socket_drop", from_s=1.5, lasts="500ms")]),
    Script("reset", LIVELY, [fault("socket_drop", from_s=1.5, answer="reset")]),
    Script(
        "prices",
        LIVELY,
        [fault("bad_price", "SBIN", from_s=1.3, times=3, answer=word) for word in ("any", "nan", "zero", "negative", "null")]
        + [fault("bad_price", "ITC", from_s=1.3, times=3, answer=word) for word in ("true", "infinity", "huge", "broken_json")]
        + [fault("bad_price", "TECHM", from_s=1.3, times=3, answer=word) for word in ("spike", "old", "seconds", "no_time")]
        + [fault("bad_price", "WIPRO", from_s=1.3, times=3, answer="unknown_symbol")],
    ),
    Script("expired-for-a-while", STEADY, [fault("session_expired", from_s=FILLED_S + 1, times=1, lasts="2s")]),
    Script(
        "expired-for-good", Day(STEADY.turns, 7.4, "30m", "15m", patience_s=1.5), [fault("session_expired", from_s=FILLED_S + 1)]
    ),
    Script("mode-gone", STEADY, [fault("mode_gone", from_s=FILLED_S + 1)]),
    Script("session_expired"),
    Script("mode_gone"),
    Script("calm", LIVELY),
    Script("orderbook_500", LIVELY),
    Script("hell", LIVELY, seed=7),
    Script("hell+8", LIVELY, seed=8),
]

BY_NAME = {script.name: script for script in SCRIPTS}


def shipped(row: dict[str, Any]) -> str:
    """Under which name this fault is shipped."""
    answers, answer = KINDS[row["kind"]].answers, row.get("answer", "")
    return row["kind"] if answer in ("", *answers[:1]) else f"{row['kind']}_{answer}"


def placed(name: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Where the shipped script is played: by its own name, or its fault as lines of ours."""
    rows = {script.name: [row for row in script.faults if shipped(row) == name] for script in SCRIPTS}
    own = {script.name: [] for script in SCRIPTS if not script.faults and script.argument == name}
    return [*own.items(), *((script, found) for script, found in rows.items() if found)]


PLACED = [pytest.param(name, script, rows, id=f"{name}-{script}") for name in NAMED for script, rows in placed(name)]


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Plays what the chosen tests look at, several sessions at a time, each once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    stage = Stage((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "faults")
    own = [item for item in request.session.items if item.path.name == "test_faults.py" and hasattr(item, "callspec")]
    wanted = {item.callspec.params["script"] for item in own if "script" in item.callspec.params}
    stage.begin(script for script in SCRIPTS if script.name in wanted)
    yield stage
    stage.close()


@pytest.fixture
def played(stage: Stage, script: str) -> Played:
    return stage.played(BY_NAME[script])


# -- every fault ---------------------------------------------------------------------------------------------------------------

ABSENT = ("error_before", "reset_before", "no_id")  # never at the venue: known only when the settle window is over
BY_HAND = ("manual_close", "manual_reduce", "manual_add", "manual_reverse", "foreign_position")
CODES = {"session_expired": 3, "expired-for-good": 7}
OVERFILLED = {("fills-1", "ITC"): 1}
EXCUSED = {  # a broken promise of the venue's: the journal's last word of that order stays what it was at the time
    ("changes-1", "WIPRO"): ("I3",),  # cancelled and confirmed, and filled all the same
    ("replies-6", "ITC"): ("I3", "I5"),  # accepted after the settle window: two stops rest until the late one is cancelled
    **{("expired-for-good", symbol): ("I3", "I8", "I9") for symbol in ENTRIES},  # nobody could be asked any more
}


def test_every_shipped_script_is_played() -> None:
    assert [name for name in NAMED if not placed(name)] == []


@pytest.mark.parametrize(("name", "script", "rows"), PLACED)
def test_the_fault_strikes_and_every_invariant_holds(name: str, script: str, rows: list[dict[str, Any]], played: Played) -> None:
    """I1 to I9: one live entry, entries counted, each intent sent once, fills exact, position and report the venue's, flat.

    And never more held than one entry buys: a second one on top of a fill that nobody believed would pass the rest.
    """
    symbols = {row.get("symbol", "") for row in rows} - {""} or set(ENTRIES)

    assert [row for row in rows if not struck(played, row)] == []
    assert [violation for violation in wrong(played) if violation.symbol in {*symbols, ""}] == []
    assert {
        symbol: most for symbol in symbols if (most := most_held(played, symbol)) > QTY + OVERFILLED.get((script, symbol), 0)
    } == {}
    assert played.code == CODES.get(script, 0), "\n".join(played.log[-5:])
    assert played.log[-1].rpartition("exit ")[2].startswith(str(played.code))


@pytest.mark.parametrize(("name", "script", "rows"), PLACED)
def test_nothing_is_bare_longer_than_the_limit_and_the_fault(
    name: str, script: str, rows: list[dict[str, Any]], played: Played
) -> None:
    """PRO-02, PRO-04, I4: by the venue's own clock."""
    longest = {symbol: longest_bare(played, symbol) for symbol in played.truth.timeline}

    assert {symbol: ms for symbol, ms in longest.items() if ms > allowed_bare(BY_NAME[script], symbol)} == {}


def struck(played: Played, row: dict[str, Any]) -> bool:
    purpose, word = row.get("purpose", ""), row.get("answer", "") if row["kind"] == "bad_price" else ""
    return any(
        strike.kind == row["kind"]
        and row.get("symbol", "") in ("", strike.symbol)
        and (not purpose or re.search(rf"-{purpose}\d+$", strike.label) is not None)
        and word in ("", "any", strike.detail)
        for strike in played.truth.strikes
    )


def wrong(played: Played) -> list[Violation]:
    """What the oracle says, but for how long things were bare, and for what is excused."""
    if not played.truth.orders:
        return []
    return [
        violation
        for violation in judge(played.truth, played.told, [played.life], Bounds(0, 0, 1_000_000, 1_000_000))
        if violation.rule not in EXCUSED.get((played.script, violation.symbol), ())
        and not (played.script.startswith("hell") and violation.rule == "I3" and "at the venue it ended" in violation.text)
    ]


def most_held(played: Played, symbol: str) -> Decimal:
    return max((abs(point.ours) for point in played.truth.timeline.get(symbol, ())), default=ZERO)


def longest_bare(played: Played, symbol: str) -> int:
    return max((end_ms - start_ms for start_ms, end_ms, _ in played.truth.bare_spans(symbol)), default=0)


def allowed_bare(script: Script, symbol: str) -> int:
    rows = [row for row in script.faults if row.get("symbol", symbol) == symbol] or [fault(script.argument)]
    return LIMIT_MS + max((lasting_ms(row) for row in rows), default=0)


def lasting_ms(row: dict[str, Any]) -> int:
    kind = row["kind"]
    if kind in (*ABSENT, "hell", "late_accept", "session_expired"):
        return REQUEST_MS + SETTLE_MS
    if kind in (*BY_HAND, "updates_missing", "updates_delayed", "updates_reordered", "silent_socket", "socket_drop"):
        return 2 * POLL_MS
    told = re.fullmatch(r"(\d+)(ms|s)", str(row.get("delay", row.get("lasts", "0s"))))
    assert told is not None
    return int(told[1]) * (1000 if told[2] == "s" else 1)


# -- what the venue has in the end ---------------------------------------------------------------------------------------------

FULL = ["E0 FILLED 10", "S1 CANCELLED 0", "X2 FILLED 10"]  # entered, protected, closed by the cutoff
SECOND_TRY = ["E1 FILLED 10", "S3 CANCELLED 0", "X5 FILLED 10"]  # E0, S2 and X4 never were there
BOOKS = {
    ("replies-2", "SBIN"): SECOND_TRY,
    ("replies-2", "WIPRO"): SECOND_TRY,
    ("replies-3", "ITC"): ["E0 FILLED 10", "S2 CANCELLED 0", "X4 FILLED 10"],  # E0 again under its own id; S and X anew
    ("replies-5", "SBIN"): SECOND_TRY,
    ("replies-5", "ITC"): [
        "E0 REJECTED 0",
        "E1 FILLED 10",
        "S2 REJECTED 0",
        "S3 CANCELLED 0",
        "X4 REJECTED 0",
        "X5 FILLED 10",
    ],
    ("replies-6", "ITC"): ["E0 CANCELLED 0", "E1 FILLED 10", "S2 CANCELLED 0", "S3 CANCELLED 0", "X4 FILLED 10"],
    ("fills-2", "SBIN"): ["E0 REJECTED 4", "S1 CANCELLED 0", "X2 FILLED 4"],
    ("fills-2", "ITC"): ["E0 FILLED 10", "S1 CANCELLED 0", "S2 CANCELLED 0", "X3 FILLED 10"],
    ("fills-2", "TECHM"): ["E0 FILLED 10", "S1 EXPIRED 0", "S2 CANCELLED 0", "X3 FILLED 10"],
    ("fills-2", "WIPRO"): ["E0 FILLED 10", "S1 CANCELLED 0", "X2 REJECTED 0", "X3 FILLED 10"],
    ("fills-3", "ITC"): ["E0 FILLED 10", "S1 CANCELLED 0", "S2 CANCELLED 0", "X3 FILLED 10"],
    ("fills-3", "TECHM"): ["E0 REJECTED 0", "E1 FILLED 10", "S2 CANCELLED 0", "X3 FILLED 10"],
    ("hands-1", "SBIN"): ["E0 FILLED 10", "S1 CANCELLED 0"],
    ("hands-1", "ITC"): ["E0 FILLED 10", "S1 CANCELLED 0", "X2 FILLED 5"],
    ("hands-2", "SBIN"): ["E0 FILLED 10", "S1 CANCELLED 0", "S2 CANCELLED 0", "X3 FILLED 10"],
    ("hands-2", "ITC"): ["E0 FILLED 10", "S1 FILLED 10", "E2 CANCELLED 0", "X3 FILLED 10"],
    ("hands-2", "TECHM"): ["E0 FILLED 10", "S1 FILLED 10", "E2 CANCELLED 0", "X3 FILLED 5"],
    ("foreign", "ITC"): ["E0 CANCELLED 0"],
    ("changes-1", "TECHM"): ["E0 FILLED 10", "S1 FILLED 10", "E2 FILLED 10", "S3 FILLED 10"],
    ("changes-1", "WIPRO"): FULL,
    ("changes-2", "ITC"): ["E0 FILLED 10", "S1 FILLED 10", "E2 CANCELLED 0"],
    ("changes-2", "WIPRO"): FULL,
    ("fills-1", "SBIN"): ["E0 FILLED 10", "S1 FILLED 10"],
    ("fills-1", "ITC"): ["E0 FILLED 11", "S1 FILLED 11", "E2 CANCELLED 0"],
    ("fills-1", "WIPRO"): FULL,
}
EITHER = {("fills-3", "SBIN")}  # the stop that became a limit fills, or is cancelled just before
STEADY_ONES = [script.name for script in SCRIPTS if script.day is not LIVELY and not script.name.startswith("session_expired")]
LIVELY_ONES = sorted({script for script, _ in BOOKS} - {*STEADY_ONES})


@pytest.mark.parametrize("script", [name for name in STEADY_ONES if name not in CODES] + LIVELY_ONES)
def test_the_venue_has_exactly_these_orders_of_ours(script: str, played: Played) -> None:
    """UNK-01, UNK-02, UNK-03, UNK-04, UNK-05, UNK-07, UNK-12, FIL-06, FIL-08, EXI-04: nothing sent twice, nothing missing."""
    usual = FULL if script in STEADY_ONES else None
    expected = {symbol: BOOKS.get((script, symbol), usual) for symbol in ENTRIES if (script, symbol) not in EITHER}

    assert {symbol: orders(played, symbol) for symbol, lines in expected.items() if lines is not None} == {
        symbol: sorted(lines) for symbol, lines in expected.items() if lines is not None
    }


def orders(played: Played, symbol: str) -> list[str]:
    """Ours at the venue: what they are for, how they ended, what they filled."""
    own = [order for order in played.truth.orders if order.symbol == symbol and order.origin == API]
    return sorted(f"{order.label.rpartition('-')[2]} {order.now.state.value} {order.now.filled}" for order in own)


# -- what the runner says of it ------------------------------------------------------------------------------------------------

UNANSWERED = "unanswered"
WORDS: list[tuple[str, str, Sequence[str]]] = [
    (
        "replies-1",
        "SBIN",
        # an exit whose reply is lost is usually told of by the stream first: then there is nothing unknown about it
        ["UNKNOWN: entry order unanswered", "UNKNOWN: stop order unanswered"],
    ),
    ("replies-1", "TECHM", ["ENTERING -> UNKNOWN", "UNKNOWN -> ENTERING", "UNKNOWN -> LONG"]),
    ("replies-2", "SBIN", ["HTTP 500", "nothing of it at the venue after the settle window", "UNPROTECTED"]),
    ("replies-2", "ITC", ["HTTP 500", "UNKNOWN -> ENTERING"]),
    ("replies-2", "WIPRO", ["nothing of it at the venue after the settle window", "UNPROTECTED"]),
    ("replies-3", "ITC", ["not sent", "rate limit; again in 250 ms", "UNPROTECTED", "exit not sent"]),
    ("replies-3", "TECHM", ["ENTERING -> UNKNOWN", "LONG -> UNKNOWN", "EXITING -> UNKNOWN"]),
    ("replies-4", "SBIN", ["ENTERING -> UNKNOWN", "LONG -> UNKNOWN", "EXITING -> UNKNOWN"]),
    ("replies-4", "TECHM", ["ENTERING -> UNKNOWN", "LONG -> UNKNOWN", "EXITING -> UNKNOWN"]),
    ("replies-5", "SBIN", ["it may be waiting for a person's approval", "nothing of it at the venue"]),
    ("replies-5", "ITC", ["yet with order id", "UNPROTECTED", "exit rejected"]),
    ("replies-6", "ITC", ["QUARANTINED", "held for never sent", "ORPHAN", "nothing here wants it: cancelling"]),
    ("changes-1", "SBIN", ["stop was not moved: the venue still shows 10 @ 811.40"]),
    ("changes-1", "TECHM", ["sold 10 @ 1466.90 by the stop"]),
    ("changes-1", "WIPRO", ["late fill BUY 10 @ 248.70", "position 10", "bought 10 @ 248.70 (stream)"]),
    ("changes-2", "ITC", ["sold 10 @ 417.55 by the stop"]),
    ("changes-2", "WIPRO", ["entry timeout", "ENTERING -> LONG"]),
    ("fills-1", "SBIN", ["bought 3 of 10", "resizing stop"]),
    ("fills-1", "WIPRO", ["bought 10 @ 248.70 (stream)"]),  # although the update came before the reply with its id
    ("fills-1", "ITC", ["overfill of ITC-20261120-E0: position 11"]),
    ("fills-2", "SBIN", ["Rejected by the exchange; 4 of 10 had filled"]),
    ("fills-2", "ITC", ["the venue shows the stop cancelled, not by us", "UNPROTECTED"]),
    ("fills-2", "TECHM", ["UNPROTECTED"]),
    ("fills-2", "WIPRO", ["exit rejected", "trying again until flat"]),
    ("fills-3", "ITC", ["stop rests as SELL LIMIT, not as asked"]),
    ("books-2", "SBIN", ["HALTED", "DIVERGED: venue holds 0, our fills say 10"]),
    ("hands-1", "SBIN", ["MISSING: closed elsewhere: SELL 10 @ 812.55; position now 0"]),
    ("hands-1", "ITC", ["MISSING: closed elsewhere: SELL 5 @ 418.70; position now 5"]),
    ("hands-1", "TECHM", ["FOREIGN: others hold 10 of it in this account"]),
    ("hands-2", "SBIN", ["position now -10", "HALTED", "position was turned round elsewhere: now -10"]),
    ("hands-2", "ITC", ["MISSING: closed elsewhere: SELL 10 @ 418.70; position now -10", "position on the wrong side"]),
    ("hands-2", "TECHM", ["MISSING: closed elsewhere: SELL 5 @ 1467.00; position now -5", "position on the wrong side"]),
    ("foreign", "ITC", ["FOREIGN"]),
    ("silent", "-", ["feed: stale, no tick on time for 1 s"]),
    ("dropped", "-", ["feed disconnected: closed by the server: 1012 service restart"]),
    ("reset", "-", ["feed disconnected: connection lost"]),
    ("session_expired", "-", ["the broker refuses us: ping: HTTP 403", "exit 3: credentials"]),
    ("expired-for-a-while", "-", ["the broker session has expired", "entries on again after: the broker refuses us"]),
    (
        "expired-for-good",
        "-",
        ["SBIN: position 10, stop 811.40 is working", "exit 7: stopped with something unprotected or unknown"],
    ),
    ("mode-gone", "-", ["orderbook answered in live mode, analyze was configured"]),
    ("orderbook_500", "-", ["poll failed 1 times in a row"]),
]


@pytest.mark.parametrize(("script", "symbol", "words"), WORDS, ids=[f"{script}-{symbol}" for script, symbol, _ in WORDS])
def test_the_log_tells_it_in_words(script: str, symbol: str, words: Sequence[str], played: Played) -> None:
    """UNK-03, UNK-08, PRO-04, PRO-08, PRO-13, FIL-07, FIL-08, REC-05, REC-06, REC-12, NET-04"""
    told = [line for line in played.log if re.search(rf" {symbol} ", line)]

    assert [text for text in words if not any(text in line for line in told)] == []


@pytest.mark.parametrize("script", ["calm"])
def test_without_a_fault_nothing_is_told_as_one(script: str, played: Played) -> None:
    loud = re.compile("UNKNOWN|ALARM|UNPROTECTED|QUARANTINED|HALTED|FOREIGN|MISSING|ORPHAN|unanswered|failed")

    assert [line for line in played.log if loud.search(line)] == []
    assert report(played)["alarms"] == []


# -- one by one ----------------------------------------------------------------------------------------------------------------


def report(played: Played) -> dict[str, Any]:
    return runs.report(played.path)


def trades(played: Played, symbol: str) -> list[tuple[str, str, str, str | None]]:
    rows = [row for row in report(played)["trades"] if row["symbol"] == symbol]
    return [(row["side"], row["qty"], row["entry_price"], row["exit_price"]) for row in rows]


def levels(played: Played, label: str) -> list[tuple[Decimal, Decimal]]:
    """(quantity, trigger) with which this order worked at the venue, in their order, before it began to fill."""
    order = next(order for order in played.truth.orders if order.label == label)
    rows = [version for version in order.history if version.state is Reported.WORKING and not version.filled]
    return list(dict.fromkeys((row.qty, row.trigger_price or ZERO) for row in rows))


@pytest.mark.parametrize("script", ["changes-1"])
def test_an_amend_that_was_only_acknowledged_is_asked_again(script: str, played: Played) -> None:
    """PRO-06, PRO-08: what trails is the venue's own level; the report shows no other."""
    rested = [level for _, level in levels(played, "SBIN-20261120-S1")]
    (row,) = [row for row in report(played)["trades"] if row["symbol"] == "SBIN"]

    assert rested == sorted(rested) and rested[:2] == [Decimal("811.40"), Decimal("812.30")]
    assert [Decimal(level) for _, level in row["stop_path"]] == rested


@pytest.mark.parametrize("script", ["changes-1"])
def test_an_unanswered_amend_is_read_back_and_not_sent_again(script: str, played: Played) -> None:
    """UNK-11"""
    moves = [level for _, level in levels(played, "ITC-20261120-S1")]

    assert moves == sorted(set(moves)) and len(moves) > 1


@pytest.mark.parametrize("script", ["fills-1"])
def test_the_stop_grows_with_the_fills(script: str, played: Played) -> None:
    """FIL-04, PRO-05: one stop, never two."""
    quantities = list(dict.fromkeys(qty for qty, _ in levels(played, "SBIN-20261120-S1")))

    assert quantities == sorted(quantities) and quantities[0] == 3 and quantities[-1] == 10


@pytest.mark.parametrize("script", ["fills-1"])
def test_complete_without_an_execution_is_no_fill_until_one_is_shown(script: str, played: Played) -> None:
    """FIL-09"""
    shown, *_ = [line for line in played.log if "TECHM" in line and "ENTERING -> LONG" in line]

    assert "bought 10 @ 1466.85 (poll)" in shown
    assert trades(played, "TECHM")[0][:3] == ("BUY", "10", "1466.85")


@pytest.mark.parametrize("script", ["fills-3"])
def test_a_stop_that_the_gateway_turned_into_a_limit_is_no_protection(script: str, played: Played) -> None:
    """PRO-13: the fills decide the position; the one that rests is replaced by a stop."""
    assert [row[:3] for row in trades(played, "SBIN")] == [("BUY", "10", "812.40")]
    assert levels(played, "ITC-20261120-S2") == [(Decimal(10), Decimal("417.55"))]


@pytest.mark.parametrize("script", ["books-1"])
def test_one_wrong_answer_of_a_book_changes_nothing(script: str, played: Played) -> None:
    """REC-01, REC-04: no order was sent because of it, and nothing was cancelled; nobody is told."""
    loud = [line for line in played.log if re.search("ALARM|HALTED|DIVERGED|MISSING", line)]

    assert (loud, report(played)["alarms"]) == ([], [])


@pytest.mark.parametrize("script", ["books-2"])
def test_a_position_that_only_the_position_book_denies_stays_protected(script: str, played: Played) -> None:
    """REC-01, REC-12: no fill explains it: a person is told, the stop rests until the cutoff."""
    stop = next(order for order in played.truth.orders if order.label == "SBIN-20261120-S1")
    exits = next(order for order in played.truth.orders if order.label == "SBIN-20261120-X2")

    assert [version.state for version in stop.history] == [Reported.WORKING, Reported.CANCELLED]
    assert 0 <= exits.history[0].real_ms - stop.now.real_ms < LIMIT_MS


@pytest.mark.parametrize("script", ["hands-1"])
def test_what_the_user_trades_against_us_counts_for_ours_and_what_adds_is_theirs(script: str, played: Played) -> None:
    """REC-05, REC-08, FIL-11"""
    ends = {row.symbol: (row.net, row.ours) for row in played.truth.positions}

    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.55")]
    assert trades(played, "ITC") == [("BUY", "10", "418.55", "418.70")]
    assert trades(played, "TECHM") == [("BUY", "10", "1466.85", "1467.00")]
    assert ends == {"SBIN": (0, 0), "ITC": (0, 0), "TECHM": (10, 0), "WIPRO": (0, 0)}
    assert [level[0] for level in levels(played, "ITC-20261120-S1")] == [10, 5]


@pytest.mark.parametrize("script", ["hands-2"])
def test_a_position_turned_round_by_hand_is_protected_and_closed_at_the_cutoff(script: str, played: Played) -> None:
    """REC-06"""
    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.55"), ("SELL", "10", "812.55", "812.55")]
    assert levels(played, "SBIN-20261120-S2") == [(Decimal(10), Decimal("813.55"))]


@pytest.mark.parametrize("script", ["hands-2"])
def test_a_stop_that_fires_after_the_user_has_closed_opens_nothing_that_stays(script: str, played: Played) -> None:
    """EXI-06, REC-05: the user sold first, our stop sold again before we could know: the short is ours, and is closed."""
    assert trades(played, "ITC") == [("BUY", "10", "418.55", "418.70"), ("SELL", "10", "417.30", "417.30")]
    assert trades(played, "TECHM") == [("BUY", "10", "1466.85", "1466.30"), ("SELL", "5", "1465.60", "1465.60")]


@pytest.mark.parametrize("script", ["hands-1", "hands-2", "foreign"])
def test_what_others_hold_and_order_is_left_alone(script: str, played: Played) -> None:
    """REC-07, REC-08, I11"""
    resting = [order for order in played.truth.orders if order.origin != API and not order.now.filled]
    theirs = {row.symbol: row.net - row.ours for row in played.truth.positions if row.net != row.ours}

    assert {order.now.state for order in resting} <= {Reported.WORKING}
    assert [len(order.history) for order in resting] == [1] * len(resting)
    assert theirs == {"hands-1": {"TECHM": 10}, "hands-2": {"WIPRO": 3}, "foreign": {"ITC": 3}}[script]


@pytest.mark.parametrize("script", ["stream"])
def test_without_updates_the_polls_tell_the_fills(script: str, played: Played) -> None:
    """NET-09, FEE-04, FIL-02: missing, doubled, out of order and late ones give the same trades."""
    first, *_ = [line for line in played.log if " SBIN " in line and "ENTERING -> LONG" in line]
    strikes = {strike.kind for strike in played.truth.strikes}

    assert "(poll)" in first
    assert strikes == {"updates_missing", "updates_duplicated", "updates_reordered", "updates_delayed"}
    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.65")]
    assert trades(played, "ITC") == [("BUY", "10", "418.55", "417.30")]


@pytest.mark.parametrize("script", ["silent"])
def test_a_silent_socket_costs_entries_and_nothing_else(script: str, played: Played) -> None:
    """FEE-01: stops at the venue go on, prices are asked for, and the polls tell what filled."""
    at_silence = min(strike.real_ms for strike in played.truth.strikes)
    later = [
        order for order in played.truth.orders if order.purpose == "E" and order.history[0].real_ms > at_silence + 2 * LIMIT_MS
    ]

    assert later == []
    assert played.says("LONG -> FLAT", "(poll)")
    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.65")]


@pytest.mark.parametrize("script", ["dropped", "reset"])
def test_after_a_lost_socket_the_feed_comes_back_and_asks_first(script: str, played: Played) -> None:
    """FEE-02, FEE-03"""
    connected = [line for line in played.log if "feed connected; asking for orders, fills and positions" in line]
    lines = [line for line in played.log if " SBIN " in line]

    assert len(connected) == 2
    assert any("entries off" in line for line in lines) and any("entries on" in line for line in lines)
    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.65")]


@pytest.mark.parametrize("script", ["prices"])
def test_no_price_that_is_none_gets_past_the_door(script: str, played: Played) -> None:
    """FEE-05, FEE-06, FEE-07, FEE-08: each counted under its name; trades, stops and bars as without them."""
    counted = {name for name in report(played)["faults"] if name.startswith(("refused: ", "noise: "))}

    assert counted == {
        "noise: malformed",
        "noise: malformed tick",
        "noise: unknown symbol",
        "refused: absurd size",
        "refused: jump, held until confirmed",
        "refused: no time",
        "refused: not a number",
        "refused: older than the last",
        "refused: zero or negative",
    }
    assert trades(played, "SBIN") == [("BUY", "10", "812.40", "812.65")]
    assert trades(played, "ITC") == [("BUY", "10", "418.55", "417.30")]
    assert [row[:3] for row in trades(played, "TECHM")] == [("BUY", "10", "1466.85")] * 2


@pytest.mark.parametrize("script", ["session_expired"])
def test_a_session_that_has_expired_at_the_start_sends_nothing(script: str, played: Played) -> None:
    """NET-05"""
    assert (played.code, played.truth.requests, played.truth.orders) == (3, [], [])


@pytest.mark.parametrize("script", ["expired-for-good"])
def test_a_session_that_expires_for_good_leaves_every_stop_where_it_is(script: str, played: Played) -> None:
    """NET-04: nothing is doubled by asking again; the exit code does not call it flat."""
    assert {symbol: orders(played, symbol) for symbol in ENTRIES} == dict.fromkeys(ENTRIES, ["E0 FILLED 10", "S1 WORKING 0"])
    assert [order.real_ms for order in played.truth.requests if order.label.rpartition("-")[2].startswith("X")] == []
