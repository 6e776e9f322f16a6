"""One practice session as a user gets it: `live_runner.py run` in a process of its own, its report, log, and the venue's word."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from tests import runs
from tests.conftest import PlayedDay

pytestmark = pytest.mark.timeout(180)

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (main|ticks|poll|clock|desk-\d|log)\s+([A-Z]+|-)\s{2,}\S.*")
STORY = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (\S+)\s+(\S+)\s{2,}(\S.*?)\s{2,}(\S.*?)(?:\s{2,}(\S+-\d{8}-[ESX]\d+))?")


def trades(day: PlayedDay, symbol: str) -> list[tuple[str, str, str, str | None, str]]:
    rows = [row for row in day.report["trades"] if row["symbol"] == symbol]
    return [(row["side"], row["qty"], row["entry_price"], row["exit_price"], row["reason"]) for row in rows]


def test_the_session_ends_flat_with_code_0_and_says_so(played_day: PlayedDay) -> None:
    assert played_day.code == 0
    assert (played_day.report["exit_code"], played_day.report["exit_words"]) == (0, "exit 0: session done, flat")
    assert played_day.log[-1].endswith("exit 0: session done, flat")
    assert played_day.report["alarms"] == []


def test_every_symbol_says_why_it_did_or_did_not_trade(played_day: PlayedDay) -> None:
    why = {symbol: row["why"] for symbol, row in played_day.symbols.items()}
    never = played_day.symbols["WIPRO"]["low"]

    assert why == {
        "ABSLAMC": "1 trade, entries used 1 of 3",
        "SBIN": "2 trades, entries used 2 of 3",
        "ITC": "3 trades, entries used 3 of 3",
        "INFY": "1 trade, entries used 1 of 3",
        "HDFCBANK": "1 trade, entries used 1 of 3",
        "WIPRO": f"no price at or below trigger 248.2 (low {never})",
        "KOTAKBANK": "trigger 2087.1 was touched only after its window",
        "TECHM": "no trade, entries used 1 of 3; entry cancelled (entry timeout)",
    }


def test_a_trailed_stop_ends_the_trip_at_the_level_the_venue_had(played_day: PlayedDay) -> None:
    (row,) = [row for row in played_day.report["trades"] if row["symbol"] == "INFY"]
    levels = [Decimal(level) for _, level in row["stop_path"]]

    assert row["reason"] == "trail"
    assert levels == sorted(levels) and len(levels) > 4, "only ever upward"
    assert played_day.witness.triggers_working("INFY-20261120-S1") == levels
    assert Decimal(row["exit_price"]) == levels[-1]


def test_after_a_stop_the_symbol_enters_again(played_day: PlayedDay) -> None:
    first, second = trades(played_day, "SBIN")

    assert first == ("BUY", "10", "812.40", "811.40", "stop")
    assert (second[:3], second[4]) == (("BUY", "10", "812.40"), "trail")


def test_the_limit_of_entries_is_reached_and_a_fourth_trigger_denied(played_day: PlayedDay) -> None:
    """ENT-02"""
    assert trades(played_day, "ITC") == [("BUY", "20", "418.55", "417.55", "stop")] * 3
    assert any("ITC" in line and "denied" in line and "entries used 3 of 3" in line for line in played_day.log)


def test_a_partial_fill_is_protected_at_its_quantity_before_the_rest_comes(played_day: PlayedDay) -> None:
    """PRO-05: the venue's own book showed a stop of 4, then one of 10, never two."""
    stops = [name for name in ours(played_day, "INFY") if "-S" in name]

    assert stops == ["INFY-20261120-S1"]
    assert played_day.witness.amounts_working("INFY-20261120-S1") == [4, 10]
    assert trades(played_day, "INFY")[0][:3] == ("BUY", "10", "1512.30")


def test_at_the_cutoff_the_stop_goes_first_and_the_rest_is_sold_at_market(played_day: PlayedDay) -> None:
    """EXI-01"""
    words = {row["order_status"] for row in venue_orders(played_day, "HDFCBANK-20261120-S1")}
    (exit_row,) = venue_orders(played_day, "HDFCBANK-20261120-X2")

    assert trades(played_day, "HDFCBANK")[0][4] == "cutoff"
    assert words == {"cancelled"}
    assert (exit_row["order_status"], exit_row["pricetype"], exit_row["filled_quantity"]) == ("complete", "MARKET", 5)


def test_the_venue_agrees_flat_nothing_resting_and_no_entry_more_than_counted(played_day: PlayedDay) -> None:
    """ENT-01, I7, I9: by the venue's own order stream."""
    last = played_day.witness.last_words.values()
    sent = {symbol: len([name for name in ours(played_day, symbol) if "-E" in name]) for symbol in played_day.symbols}

    assert {row["order_status"] for row in last} == {"complete", "cancelled"}
    assert set(played_day.witness.positions().values()) == {0}
    assert sent == {symbol: row["entries"] for symbol, row in played_day.symbols.items()}
    assert played_day.report["orders"] == {"sent": len(last), "refused": 0, "unknown": 0, "quarantined": 0}


def test_no_fill_was_ever_without_a_working_stop_for_long(played_day: PlayedDay) -> None:
    """PRO-02, I4: within the limit of 5 s, on a loaded machine too."""
    assert max(row["max_unprotected_ms"] for row in played_day.symbols.values()) < 5_000


def test_profit_is_what_the_venues_fills_say(played_day: PlayedDay) -> None:
    cash = Decimal(0)
    for row in played_day.witness.last_words.values():
        value = Decimal(str(row["average_price"])) * row["filled_quantity"]
        cash += value if row["action"] == "SELL" else -value

    assert Decimal(played_day.report["realized_pnl"]) == cash


def test_each_line_of_the_log_has_its_time_thread_and_symbol(played_day: PlayedDay) -> None:
    strange = [line for line in played_day.log if not LINE.fullmatch(line)]

    assert strange == []
    assert (runs.log_path(played_day.folder)).read_bytes().endswith(b"\n")


def test_the_story_of_an_entry_reads_as_the_contract_has_it(played_day: PlayedDay) -> None:
    lines = [match.groups() for line in played_day.log if (match := STORY.fullmatch(line)) and match[2] == "HDFCBANK"]
    told = [(thread.rstrip("0123456789"), change, cause, name) for thread, _, change, cause, name in lines]

    entry, bought = (next(row for row in told if row[1] == change) for change in ("FLAT -> ENTERING", "ENTERING -> LONG"))
    assert entry == ("ticks", "FLAT -> ENTERING", "trigger 987.75 touched at 987.65, buy stop 5 @ 988.25", "HDFCBANK-20261120-E0")
    assert bought[2:] == ("bought 5 @ 988.25 (stream), LONG 5 @ 988.25", "HDFCBANK-20261120-E0")
    assert any(row[0] == "desk-" and row[1] == "accepted" and re.fullmatch(r"venue order \d+, \d+ ms", row[2]) for row in told)


def test_the_config_stands_at_the_beginning_and_no_key_anywhere(played_day: PlayedDay) -> None:
    text = "\n".join(played_day.log) + played_day.console

    assert "mode practice" in played_day.log[1]
    assert not re.search(r"\b[0-9a-f]{32}\b", text), "the practice venue's key is 32 hexadecimal digits"


def test_afterwards_nothing_is_left_running(played_day: PlayedDay) -> None:
    assert not (played_day.folder / "data" / "practice.json").exists()
    assert not (played_day.folder / "data" / "status.json").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("status", "Session 2026-11-20 (practice) has ended, exit 0: session done, flat."),
        ("orders", "INFY-20261120-S1"),
        ("positions", "o position"),
        ("trades", "HDFCBANK"),
        ("report", "KOTAKBANK"),
    ],
)
def test_the_commands_tell_of_it_afterwards_in_words_and_in_json(played_day: PlayedDay, command: str, words: str) -> None:
    told, facts = runs.command(played_day.folder, command), runs.command(played_day.folder, command, "--json")

    assert (told.code, facts.code) == (0, 0)
    assert words in told.out
    assert facts.json is not None


def test_the_facts_agree_with_the_report(played_day: PlayedDay) -> None:
    assert runs.command(played_day.folder, "trades", "--json").json == played_day.report["trades"]
    assert runs.command(played_day.folder, "report", "--json", "--date", runs.DAY).json == played_day.report
    assert runs.command(played_day.folder, "positions", "--json").json == []


def ours(day: PlayedDay, symbol: str) -> list[str]:
    """Names of every order of this symbol that the venue took, as it shows them."""
    names = {row["strategy"] for book in day.witness.books for row in book if row["symbol"] == symbol}
    return sorted(names)


def venue_orders(day: PlayedDay, name: str) -> list[dict[str, object]]:
    """The venue's last words on the order of this name."""
    ids = {row["orderid"] for book in day.witness.books for row in book if row["strategy"] == name}
    return [row for number, row in day.witness.last_words.items() if number in ids]
