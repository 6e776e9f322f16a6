"""Every fault that the practice venue knows, against the real runner: is what the venue truly has what the invariants promise?"""

from __future__ import annotations

from typing import Any

from tests.fault_runs import FILLED_S, LIVELY, SPEED, STEADY, Day, Script, Turns


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
            fault("partial_fills", "SBIN", "E", qty=3, delay="200ms"),
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
