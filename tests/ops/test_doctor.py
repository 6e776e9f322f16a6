"""What `doctor` says of this machine and of a venue: each check by values; over sockets and processes in tests/test_doctor.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import filelock
import msgspec
import pytest

from brokers.base import BrokerError, Budget, Capabilities, Fatal, Refused, SessionHours, Unavailable
from ops import doctor
from ops.config import Config, calendar_of, load
from ops.doctor import Check, Grade, Remembered
from ops.doctor_text import doctor_text
from ops.doctor_venue import Connected, Examination
from state.clock import SystemClock, VirtualClock
from state.instrument import Instrument
from state.orders import OrderType, Side
from state.reports import OrderRow, PositionRow, Reported
from strategies import STRATEGIES
from tests import runs
from tests.ops.driven import D, at
from tests.ops.journaled import JournaledDay
from tests.state.builders import SBIN

ALL = Capabilities(client_ids=True, replace=True, native_stops=True, order_stream=True, settle_window_s=30)
OPENALGO = msgspec.structs.replace(ALL, client_ids=False)
SPOT = msgspec.structs.replace(ALL, balances=True, positions_every_s=45.0)
DAY = date(2026, 11, 20)
HOURS = SessionHours(at("09:15:00"), at("15:30:00"))
ROW = {"symbol": "SBIN", "qty": 5, "entry_price": 731.15}
NOTHING = Remembered()


@dataclass
class Venue:
    """A broker that says what the test has written; an exception in the place of an answer is raised. It cannot take an order."""

    capabilities: Capabilities = ALL
    check_says: Any = "live"
    instruments: dict[str, Any] = field(default_factory=lambda: {"SBIN": SBIN})
    prices: Any = field(default_factory=lambda: {"SBIN": D("730.00")})
    book: Any = field(default_factory=list)
    held: Any = field(default_factory=list)
    hours: Any = HOURS
    ahead_ms: int | None = 0
    asked: list[str] = field(default_factory=list)

    def _answer(self, name: str, answer: Any) -> Any:
        self.asked.append(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> str:
        return self._answer("check", self.check_says)  # type: ignore[no-any-return]

    def orders(self) -> list[OrderRow]:
        return self._answer("orders", self.book)  # type: ignore[no-any-return]

    def positions(self) -> list[PositionRow]:
        return self._answer("positions", self.held)  # type: ignore[no-any-return]

    def quotes(self, symbols: list[str]) -> dict[str, Decimal]:
        return self._answer("quotes", self.prices)  # type: ignore[no-any-return]

    def instrument(self, symbol: str) -> Instrument:
        return self._answer("instrument", self.instruments.get(symbol, Refused("no such symbol")))  # type: ignore[no-any-return]

    def session_hours(self, day: date) -> SessionHours | None:
        return self._answer("hours", self.hours)  # type: ignore[no-any-return]

    def skew_ms(self) -> int | None:
        return self.ahead_ms


def config_of(folder: Path, *rows: dict[str, Any], **more: Any) -> Config:
    found = {"strategies": [{"name": "breakout", "symbols": list(rows) or [ROW]}]}
    return load(runs.write_config(folder, found, more), {}, STRATEGIES)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


def looked_at(config: Config, venue: Venue, known: Remembered = NOTHING, day: date = DAY, **more: Any) -> list[Check]:
    connected = Connected(venue, "the venue", VirtualClock(at("09:00:00")), BrokerError, Fatal, more.pop("told", list), **more)
    return list(Examination(config, calendar_of(config.session), day, connected, STRATEGIES, known).checks())


def named(checks: list[Check], name: str) -> list[tuple[Grade, str]]:
    return [(check.grade, check.found) for check in checks if check.name == name]


def stop(symbol: str = "SBIN", qty: str = "5", side: Side = Side.SELL, **more: Any) -> OrderRow:
    row = OrderRow("V1", symbol, side, Reported.WORKING, D(qty), OrderType.STOP, trigger_price=D("730.15"), filled=D(0))
    return msgspec.structs.replace(row, **more)


# -- a venue that is well ----------------------------------------------------------------------------------------------------


def test_a_venue_in_order_fails_nothing_and_says_what_it_is(config: Config) -> None:
    checks = looked_at(config, Venue())

    assert [(check.grade, check.name, check.found) for check in checks] == [
        (Grade.OK, "session", "2026-11-20: open 09:15:00, entries from 09:16:00, cutoff 14:45:00, close 15:30:00"),
        (Grade.OK, "connection", "the venue answers and knows us (live)"),
        (Grade.OK, "prices", "of 1 symbols"),
        (Grade.OK, "instrument SBIN", "tick 0.05, lot 1, minimum 1; qty 5 fits"),
        (Grade.OK, "hours", "those of the venue are ours"),
        (Grade.OK, "open orders", "none"),
        (Grade.OK, "position", "none"),
        (Grade.OK, "clock", "with the venue's"),
    ]
    assert doctor.exit_code(checks) == 0


def test_what_a_venue_cannot_do_is_said_with_what_is_done_instead(config: Config) -> None:
    none = Capabilities(
        client_ids=False, replace=False, native_stops=False, order_stream=False, settle_window_s=30, balances=True
    )

    checks = looked_at(config, Venue(none))

    assert named(checks, "instead") == [
        (Grade.OK, "no client order ids: an unanswered order is looked for by its looks, for 30 s"),
        (Grade.OK, "orders cannot be amended: a stop is moved by cancelling it and placing a new one"),
        (Grade.WARNING, "no stop orders: the level is watched here, tick by tick, and closed at market"),
        (Grade.OK, "no stream of orders: polling takes over, about a second late"),
        (Grade.OK, "balances instead of positions: only what our own orders bought is ours; nothing is sold short"),
    ]


# -- connection and key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "name", "code"), [(Fatal("key not valid"), "key", 3), (Unavailable("nothing was sent"), "connection", 2)]
)
def test_after_a_first_call_that_fails_nothing_else_is_asked(config: Config, error: Exception, name: str, code: int) -> None:
    """NET-05: a wrong key asked about again and again is locked out by some venues."""
    venue = Venue(check_says=error)

    checks = looked_at(config, venue)

    assert [check.name for check in checks if check.grade is Grade.FAIL] == [name]
    assert (doctor.exit_code(checks), venue.asked) == (code, ["check"])


@pytest.mark.parametrize("error", [Fatal("no"), Refused("no"), Unavailable("no")])
@pytest.mark.parametrize(
    ("what", "name"),
    [("prices", "prices"), ("hours", "hours"), ("book", "open orders"), ("held", "positions")],
)
def test_every_failed_question_is_a_line_and_the_others_go_on(config: Config, what: str, name: str, error: Exception) -> None:
    venue = Venue(**{what: error})

    checks = looked_at(config, venue)

    assert named(checks, name) == [(Grade.FAIL, "no")]
    assert doctor.exit_code(checks) == (3 if isinstance(error, Fatal) else 2)
    assert venue.asked == ["check", "quotes", "instrument", "hours", "orders", "positions"]


def test_what_the_adapter_warned_of_is_shown(config: Config) -> None:
    checks = looked_at(config, Venue(), told=lambda: ["the key may transfer money out of the account"])

    assert named(checks, "told by the venue") == [(Grade.WARNING, "the key may transfer money out of the account")]


# -- instruments and sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grid", "grade", "found"),
    [
        ({"qty": 5}, {}, Grade.OK, "tick 0.05, lot 1, minimum 1; qty 5 fits"),
        (
            {"qty": 5},
            {"lot_size": "3"},
            Grade.FAIL,
            "tick 0.05, lot 3, minimum 3; qty 5 does not fit: quantity 5 is not a multiple of the lot size 3",
        ),
        (
            {"qty": 5},
            {"min_notional": "5000"},
            Grade.FAIL,
            "tick 0.05, lot 1, minimum 1, least value 5000; qty 5 does not fit: value 3655.75 is below the minimum 5000",
        ),
        ({"notional": 5000}, {}, Grade.OK, "tick 0.05, lot 1, minimum 1; notional 5000 fits, 6 now"),
        (
            {"notional": 100},
            {},
            Grade.FAIL,
            "tick 0.05, lot 1, minimum 1; notional 100 does not fit: notional 100 at 731.15 buys 0.13 of a lot",
        ),
        ({"risk": 500}, {}, Grade.OK, "tick 0.05, lot 1, minimum 1; risk 500 fits, 500 now"),
        ({"qty": 5}, {"tick_size": "0.10"}, Grade.WARNING, "tick 0.10, lot 1, minimum 1; not on the tick: entry_price"),
    ],
)
def test_each_symbol_shows_its_grid_and_whether_its_size_fits(
    tmp_path: Path, size: dict[str, int], grid: dict[str, str], grade: Grade, found: str
) -> None:
    """ENT-12 ENT-13"""
    config = config_of(tmp_path, {"symbol": "SBIN", "entry_price": 731.15} | size)
    instrument = msgspec.structs.replace(SBIN, **{name: D(value) for name, value in grid.items()})

    checks = looked_at(config, Venue(instruments={"SBIN": instrument}))

    assert named(checks, "instrument SBIN") == [(grade, found)]


def test_a_symbol_that_the_venue_does_not_know_or_price_is_named(tmp_path: Path) -> None:
    config = config_of(tmp_path, ROW, ROW | {"symbol": "NOSUCH"})

    checks = looked_at(config, Venue())

    assert named(checks, "instrument NOSUCH") == [(Grade.FAIL, "no such symbol")]
    assert named(checks, "prices") == [(Grade.WARNING, "none for NOSUCH")]


def test_symbols_of_two_currencies_share_one_daily_loss(tmp_path: Path) -> None:
    config = config_of(tmp_path, ROW, ROW | {"symbol": "ITC"})
    grids = {name: Instrument(name, "X", D("0.05"), base=name, quote=quote) for name, quote in (("SBIN", "INR"), ("ITC", "USD"))}

    checks = looked_at(config, Venue(instruments=grids))

    assert named(checks, "currencies") == [
        (Grade.WARNING, "symbols in INR, USD: the daily loss adds them up as if they were one")
    ]


# -- time --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead_ms", "grade", "found"),
    [
        (None, Grade.WARNING, "the venue tells no time to compare with"),
        (2_000, Grade.OK, "2000 ms ahead of the venue's"),
        (-2_001, Grade.FAIL, "2001 ms behind the venue's: beyond 2000 ms there are no entries"),
        (10_000, Grade.FAIL, "10000 ms ahead of the venue's: beyond 2000 ms there are no entries"),
    ],
)
def test_a_clock_that_is_off_is_told_and_fails_where_it_would_stop_entries(
    config: Config, ahead_ms: int | None, grade: Grade, found: str
) -> None:
    """NET-12"""
    assert named(looked_at(config, Venue(ahead_ms=ahead_ms)), "clock") == [(grade, found)]


def test_hours_that_differ_from_the_venues_fail(config: Config) -> None:
    late = SessionHours(at("09:30:00"), at("15:30:00"))

    ((grade, found),) = named(looked_at(config, Venue(hours=late)), "hours")

    assert grade is Grade.FAIL and found.startswith("our hours of 2026-11-20 are 2026-11-20 03:45:00")
    assert named(looked_at(config, Venue(hours=None)), "hours") == [(Grade.OK, "the venue tells none: those of the config count")]


def test_a_day_without_a_session_and_a_setup_of_another_day_are_told(tmp_path: Path) -> None:
    row = {"symbol": "SBIN", "qty": 5, "entry_price": 731.15, "trigger_price": 730.65, "setup_date": "2026-11-18"}
    found = {"strategies": [{"name": "eighty_twenty", "symbols": [row]}]}
    config = load(runs.write_config(tmp_path, found), {}, STRATEGIES)

    friday = looked_at(config, Venue())
    saturday = looked_at(config, Venue(hours=SessionHours(None, None)), day=date(2026, 11, 21))

    text = "SBIN: setup of 2026-11-18 is good for 2026-11-19 only, not for 2026-11-20"
    assert named(friday, "setup") == [(Grade.WARNING, text)]
    assert named(saturday, "session") == [(Grade.WARNING, "none on 2026-11-21: weekend: Saturday")]
    assert named(saturday, "hours") == [(Grade.OK, "those of the venue are ours")]


# -- rate budget -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "grade", "found", "to_do"),
    [
        ("5s", Grade.OK, "polling every 5 s costs 800 calls an hour of 1188 (a Starter key)", ""),
        (
            "2s",
            Grade.WARNING,
            "polling every 2 s costs 1880 calls an hour of 1188 (a Starter key): looks will be left out",
            "polling: {interval: 4s}",
        ),
    ],
)
def test_the_polling_is_reckoned_against_the_venues_limit(
    tmp_path: Path, interval: str, grade: Grade, found: str, to_do: str
) -> None:
    """A Kraken Starter key affords one call per cycle, and a balance now and then."""
    config = config_of(tmp_path, polling={"interval": interval})

    checks = looked_at(config, Venue(SPOT), budget=Budget(1, 1, 1188, "a Starter key"))

    assert [(c.grade, c.found, c.to_do) for c in checks if c.name == "rate budget"] == [(grade, found, to_do)]


# -- what rests and what is held ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "book", "grade", "found"),
    [
        ("5", [stop()], Grade.OK, "SBIN 5 (not ours by the journal): its stop rests at the venue"),
        ("-5", [stop(side=Side.BUY)], Grade.OK, "SBIN -5 (not ours by the journal): its stop rests at the venue"),
        ("5", [], Grade.FAIL, "SBIN 5 (not ours by the journal) is unprotected: NO STOP rests at the venue"),
        ("5", [stop(side=Side.BUY)], Grade.FAIL, "SBIN 5 (not ours by the journal) is unprotected: NO STOP rests at the venue"),
        (
            "5",
            [stop(type=OrderType.LIMIT)],
            Grade.FAIL,
            "SBIN 5 (not ours by the journal) is unprotected: NO STOP rests at the venue",
        ),
        (
            "5",
            [stop(state=Reported.CANCELLED)],
            Grade.FAIL,
            "SBIN 5 (not ours by the journal) is unprotected: NO STOP rests at the venue",
        ),
        (
            "5",
            [stop(filled=D(2))],
            Grade.FAIL,
            "SBIN 5 (not ours by the journal) is unprotected: only 3 of it has a stop",
        ),
        ("5", [stop(qty="2"), stop(qty="3")], Grade.OK, "SBIN 5 (not ours by the journal): its stop rests at the venue"),
    ],
)
def test_a_position_without_a_stop_for_all_of_it_fails(
    config: Config, held: str, book: list[OrderRow], grade: Grade, found: str
) -> None:
    checks = looked_at(config, Venue(held=[PositionRow("SBIN", D(held))], book=book))

    assert named(checks, "position") == [(grade, found)]


def test_what_the_journal_knows_is_ours(config: Config, tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    day.commit(sbin)
    day.journal.close()
    found = msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, path=day.path))
    checks, known = doctor.journal(found, running=False)
    ours = sbin.now.stop
    assert ours is not None and ours.venue_id is not None

    told = looked_at(config, Venue(held=[PositionRow("SBIN", D(5))], book=[stop(venue_id=ours.venue_id)]), known)

    assert named(told, "position") == [(Grade.OK, "SBIN 5 (ours): its stop rests at the venue")]
    assert named(told, "open orders") == [(Grade.OK, f"SBIN SELL STOP 5 @ 730.15 ({ours.venue_id}, ours)")]
    assert [(check.name, check.grade, check.found) for check in checks] == [
        ("journal", Grade.OK, f"1 sessions in {day.path}, each record follows the one before"),
        ("left open", Grade.WARNING, "session 2026-11-20: SBIN: position 5, stop 730.15 is working"),
    ]


def test_an_order_of_others_in_our_symbol_is_a_warning_elsewhere_it_is_none(config: Config) -> None:
    mine = looked_at(config, Venue(book=[stop()]))
    elsewhere = looked_at(config, Venue(book=[stop("ITC")], held=[PositionRow("ITC", D(3))]))

    assert named(mine, "open orders") == [(Grade.WARNING, "SBIN SELL STOP 5 @ 730.15 (V1, not ours by the journal)")]
    assert named(elsewhere, "open orders") == [(Grade.OK, "ITC SELL STOP 5 @ 730.15 (V1, not ours by the journal)")]
    assert named(elsewhere, "position") == [(Grade.OK, "of others, left alone: ITC")]


def test_coins_in_the_wallet_are_nobodys_position_until_the_journal_says_so(config: Config, tmp_path: Path) -> None:
    day = JournaledDay(tmp_path)
    sbin = day.trading("SBIN")
    sbin.go_long()
    ours = Remembered(frozenset(), {"SBIN": sbin.now})
    day.journal.close()
    pair = msgspec.structs.replace(SBIN, base="BTC", quote="USD")
    venue = Venue(SPOT, instruments={"SBIN": pair}, held=[PositionRow("BTC", D(8)), PositionRow("ETH", D(1))])

    wallet, held = looked_at(config, venue), looked_at(config, venue, ours)

    assert named(wallet, "position") == [(Grade.OK, "of others, left alone: BTC, ETH")]
    assert named(held, "position") == [
        (Grade.FAIL, "SBIN 5 (ours) is unprotected: NO STOP rests at the venue"),
        (Grade.OK, "of others, left alone: ETH"),
    ]


def test_on_paper_the_account_is_not_asked(config: Config) -> None:
    venue = Venue(OPENALGO)

    checks = looked_at(config, venue, paper=True, budget=Budget(2, 1, 10, "ten"))

    assert venue.asked == ["check", "quotes", "instrument", "hours"]
    assert named(checks, "rate budget") == []


# -- this machine ------------------------------------------------------------------------------------------------------------


def here(config: Config, **environ: str) -> dict[str, tuple[Grade, str]]:
    return {check.name: (check.grade, check.found) for check in doctor.checks_here(config, environ, SystemClock())}


def test_looking_at_this_machine_makes_nothing(config: Config) -> None:
    found = here(config)

    assert {name: grade for name, (grade, _) in found.items()} == dict.fromkeys(
        ("config", "credentials", "time zone", "disk", "data directory", "log directory"), Grade.OK
    )
    assert found["log directory"][1] == f"{config.logging.dir}, to be made at the start"
    assert not config.data_dir.exists() and not config.logging.dir.exists()


def test_a_key_that_is_missing_or_in_quotes_is_named_and_never_shown(tmp_path: Path) -> None:
    config = config_of(tmp_path, mode="live")

    assert here(config)["credentials"] == (Grade.FAIL, "not set: OPENALGO_API_KEY")
    assert here(config, OPENALGO_API_KEY="'s3cret-k3y'")["credentials"] == (
        Grade.WARNING,
        "with spaces or quotes around: OPENALGO_API_KEY",
    )
    assert here(config, OPENALGO_API_KEY="s3cret-k3y")["credentials"] == (Grade.OK, "set: OPENALGO_API_KEY")


def test_a_log_directory_that_is_a_file_fails(config: Config) -> None:
    config.logging.dir.write_text("not a directory")

    grade, found = here(config)["log directory"]

    assert grade is Grade.FAIL and found.startswith(f"{config.logging.dir} cannot be written")


def test_a_lock_that_somebody_holds_is_a_running_session_and_one_left_behind_is_not(config: Config) -> None:
    wall = SystemClock()
    nobody, running_before = doctor.other_instance(config, wall)
    assert not config.data_dir.exists()
    config.data_dir.mkdir()
    lock = filelock.FileLock(config.data_dir / "lock")

    with lock:
        somebody, running = doctor.other_instance(config, wall)
    (config.data_dir / "lock").touch()
    stale, running_after = doctor.other_instance(config, wall)

    assert (nobody.grade, running_before) == (Grade.OK, False)
    assert (somebody.grade, somebody.found, running) == (
        Grade.WARNING,
        "a session is running (it has said nothing lately)",
        True,
    )
    assert (stale.grade, stale.found, running_after) == (
        Grade.OK,
        "nobody else; a lock file is there and nobody holds it",
        False,
    )


def test_a_damaged_journal_fails_with_the_steps_and_is_left_as_it_is(config: Config) -> None:
    config.data_dir.mkdir()
    config.journal.path.write_bytes(b"this is no journal" * 100)
    before = config.journal.path.read_bytes()

    checks, known = doctor.journal(config, running=False)

    assert [(check.name, check.grade) for check in checks] == [("journal", Grade.FAIL)]
    assert (known, config.journal.path.read_bytes()) == (Remembered(), before)
    assert sorted(path.name for path in config.data_dir.iterdir()) == [config.journal.path.name]


# -- words and code ----------------------------------------------------------------------------------------------------------


def _checks(*grades: str) -> Iterator[Check]:
    for grade in grades:
        yield Check(grade, Grade(grade.split("-")[0]), "found", "do this", of_credentials=grade.endswith("key"))


@pytest.mark.parametrize(
    ("grades", "code"),
    [
        (("ok", "warning"), 0),
        (("ok", "fail"), 2),
        (("fail-key", "warning"), 3),
        (("fail-key", "fail"), 2),
    ],
)
def test_the_exit_code_says_whether_only_the_key_is_to_blame(grades: tuple[str, ...], code: int) -> None:
    assert doctor.exit_code(list(_checks(*grades))) == code


def test_the_table_shows_what_to_do_below_what_was_found(config: Config) -> None:
    found = doctor.diagnosis(config.path, config, list(_checks("ok", "warning", "fail")))

    assert doctor_text(found).splitlines() == [
        "         check    found",
        "-------  -------  --------------------",
        "ok       ok       found",
        "WARNING  warning  found",
        "                  -> do this",
        "FAIL     fail     found",
        "                  -> do this",
        "",
        "3 checks: 1 failed, 1 to look at; exit 2: configuration",
    ]
