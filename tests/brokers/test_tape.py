"""Recorded files: read exactly, merged by time, and never a broken line that nobody hears of."""

from __future__ import annotations

import gzip
import os
from decimal import Decimal
from pathlib import Path

import pytest

from brokers.tape import TapeError, TapeReport, TapeTick, read_tape

D = Decimal
TICKS = "ts_utc_iso_ms,symbol,exchange,price,qty\n"
BARS = "ts_utc_iso,symbol,exchange,open,high,low,close,volume,interval\n"
GOOD = "2021-04-07T03:46:31.250Z,SBIN,NSE,350.70,1143308\n"
GOOD_MS = 1617767191250
SHARED = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded files (../shared/data) are not here")


def write(folder: Path, text: str, name: str = "tape.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_tick_file_is_read_to_the_digit(tmp_path: Path) -> None:
    packed = tmp_path / "tape.csv.gz"
    packed.write_bytes(gzip.compress((TICKS + GOOD + "2021-04-07T03:46:32Z,SBIN,NSE,350.8,0\r\n").encode()))

    tape = read_tape([packed])
    ticks = list(tape)

    assert ticks == [TapeTick(GOOD_MS, "SBIN", D("350.70"), D(1143308)), TapeTick(1617767192000, "SBIN", D("350.8"), D(0))]
    assert str(ticks[0].price) == "350.70"
    assert tape.reports == [TapeReport("tape.csv.gz", rows=2)]


def test_columns_beyond_the_five_are_left_alone(tmp_path: Path) -> None:
    text = TICKS.strip() + ",bid,ask\n2014-05-01T00:00:00.292Z,EURUSD,OANDA,1.38676,0,1.38676,1.38686\n"

    ticks = list(read_tape([write(tmp_path, text)]))

    assert ticks == [TapeTick(1398902400292, "EURUSD", D("1.38676"), D(0))]


def test_a_rising_bar_goes_low_first_and_a_falling_one_high_first(tmp_path: Path) -> None:
    rows = "2019-07-09T03:45:00Z,UP,NSE,95,97,94,95,10,1m\n2019-07-09T03:46:00Z,DOWN,NSE,95,97,94,94.5,10,1m\n"

    ticks = list(read_tape([write(tmp_path, BARS + rows)]))

    start = 1562643900000
    up = [TapeTick(start + 15_000 * k, "UP", D(price)) for k, price in enumerate(("95", "94", "97", "95"))]
    down = [TapeTick(start + 60_000 + 15_000 * k, "DOWN", D(price)) for k, price in enumerate(("95", "97", "94", "94.5"))]
    assert ticks == up + down


def test_files_are_merged_by_time_and_ties_keep_the_order_of_files_then_rows(tmp_path: Path) -> None:
    def row(second: int, symbol: str, price: int) -> str:
        return f"2021-04-07T03:46:{second:02}Z,{symbol},NSE,{price},1\n"

    first = write(tmp_path, TICKS + row(1, "A", 1) + row(3, "A", 2) + row(3, "A", 3), "a.csv")
    second = write(tmp_path, TICKS + row(0, "B", 4) + row(3, "B", 5), "b.csv")

    together = [(tick.symbol, int(tick.price)) for tick in read_tape([first, second])]
    only_b = [(tick.symbol, int(tick.price)) for tick in read_tape([first, second], {"B"})]

    assert together == [("B", 4), ("A", 1), ("A", 2), ("A", 3), ("B", 5)]
    assert only_b == [("B", 4), ("B", 5)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2021-04-07T03:46:32Z,SBIN,NSE,abc,1", "price 'abc' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,NaN,1", "price 'NaN' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,Infinity,1", "price 'Infinity' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,-1,1", "price '-1' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,1_0,1", "price '1_0' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,0.00,1", "price is 0"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,350,-555", "quantity '-555' is not a plain number"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,350", "4 fields instead of 5"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,350,1,2", "6 fields instead of 5"),
        ("", "1 fields instead of 5"),
        ("2021-04-07T03:46:32Z,,NSE,350,1", "no symbol"),
        ("2021-04-07T03:46:32Z,SBIN,NSE,३५०,1", "not plain text"),
        (",SBIN,NSE,350,1", "time '' is not UTC in ISO form"),
        ("2021-04-07 03:46:32Z,SBIN,NSE,350,1", "time '2021-04-07 03:46:32Z' is not UTC in ISO form"),
        ("2021-04-07T03:46:32+,SBIN,NSE,350,1", "time '2021-04-07T03:46:32+' is not UTC in ISO form"),
        ("2021-04-07T03:46:61Z,SBIN,NSE,350,1", "time '2021-04-07T03:46:61Z' is not UTC in ISO form"),
        ("2021-02-30T03:46:31Z,SBIN,NSE,350,1", "time '2021-02-30T03:46:31Z' is not UTC in ISO form"),
        ("2021-04-07T03:46:31.2x0Z,SBIN,NSE,350,1", "time '2021-04-07T03:46:31.2x0Z' is not UTC in ISO form"),
        ("2021-04-07T03:46:31,250Z,SBIN,NSE,350", "time '2021-04-07T03:46:31' is not UTC in ISO form"),
    ],
)
def test_a_broken_line_is_counted_with_its_number_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    tape = read_tape([write(tmp_path, TICKS + GOOD + line + "\n" + GOOD)])

    ticks = list(tape)

    assert [tick.at_ms for tick in ticks] == [GOOD_MS, GOOD_MS]
    assert tape.reports == [TapeReport("tape.csv", rows=2, bad=1, examples=[(3, reason)])]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2019-07-09T03:46:00Z,X,NSE,95,94,93,94,1,1m", "open and close are not between low and high"),
        ("2019-07-09T03:46:00Z,X,NSE,95,97,94,96,1,1d", "interval '1d' is not 1m"),
        ("2019-07-09T03:46:00Z,X,NSE,95,97,94,0,1,1m", "price is 0"),
    ],
)
def test_a_broken_bar_is_counted_too(tmp_path: Path, line: str, reason: str) -> None:
    good = "2019-07-09T03:45:00Z,X,NSE,95,97,94,96,1,1m\n"
    tape = read_tape([write(tmp_path, BARS + good + line + "\n")])

    ticks = list(tape)

    assert len(ticks) == 4
    assert tape.reports == [TapeReport("tape.csv", rows=1, bad=1, examples=[(3, reason)])]


def test_a_row_that_goes_back_in_time_is_late_and_dropped(tmp_path: Path) -> None:
    late = GOOD.replace("03:46:31.250", "03:46:31.249")
    tape = read_tape([write(tmp_path, TICKS + GOOD + late + GOOD)])

    ticks = list(tape)

    assert len(ticks) == 2
    assert tape.reports == [TapeReport("tape.csv", rows=2, late=1)]
    assert tape.reports[0].describe() == "tape.csv: 2 rows, 0 bad, 1 late"


def test_a_bar_said_twice_plays_once(tmp_path: Path) -> None:
    bar = "2019-07-09T03:45:00Z,X,NSE,95,97,94,96,1,1m\n"
    tape = read_tape([write(tmp_path, BARS + bar + bar)])

    assert len(list(tape)) == 4
    assert tape.reports == [TapeReport("tape.csv", rows=1, late=1)]


def test_only_the_first_five_broken_lines_are_told_in_full(tmp_path: Path) -> None:
    tape = read_tape([write(tmp_path, TICKS + GOOD + "x\n" * 9)])

    list(tape)

    reason = "1 fields instead of 5"
    assert tape.reports == [TapeReport("tape.csv", rows=1, bad=9, examples=[(line, reason) for line in range(3, 8)])]


def test_a_torn_gzip_plays_up_to_the_tear_and_says_so(tmp_path: Path) -> None:
    rows = "".join(f"2021-04-07T03:{k // 60:02}:{k % 60:02}Z,SBIN,NSE,{k + 1},{k * 7919 % 1013}\n" for k in range(3000))
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress((TICKS + rows).encode())[:-2000])
    tape = read_tape([torn])

    ticks = list(tape)

    report = tape.reports[0]
    assert 0 < len(ticks) < 3000
    assert (report.rows, report.bad, len(report.examples)) == (len(ticks), 1, 1)
    assert report.examples[0][0] >= len(ticks) + 2
    assert report.examples[0][1].startswith("the file is torn: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no tape"),
        (b"time,price\n1,2\n", "is no tape"),
        (b"\x1f\x8b garbage", "cannot be read"),
        (TICKS.encode(), "no good row"),
        (TICKS.encode() + b"x\ny\n", "no good row (tape.csv: 0 rows, 2 bad, 0 late; line 2: 1 fields"),
        (BARS.encode() + b"2019-07-09T03:45:00Z,X,NSE,95,97,94,96,1,1d\n", "line 2: interval '1d' is not 1m"),
    ],
)
def test_a_file_that_is_no_tape_is_refused_before_the_first_tick(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "tape.csv"
    path.write_bytes(content)

    with pytest.raises(TapeError) as error:
        read_tape([path])

    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="nowhere.csv: cannot be read"):
        read_tape([tmp_path / "nowhere.csv"])
    with pytest.raises(TapeError, match="no tape file was named"):
        read_tape([])


@needs_shared
@pytest.mark.parametrize(
    ("name", "report", "ticks"),
    [
        ("ticks/NSE/SBIN_2021-04-07.csv.gz", TapeReport("SBIN_2021-04-07.csv.gz", rows=4465), 4465),
        ("ticks/KRAKEN/BCHEUR_2023-01-01_all.csv.gz", TapeReport("BCHEUR_2023-01-01_all.csv.gz", rows=148), 148),
        ("ticks/COINBASE/MIXED_2021-04-17_all.csv.gz", TapeReport("MIXED_2021-04-17_all.csv.gz", rows=99, late=8), 99),
        ("ticks/TRUEFX/USDJPY_2013-01-01.csv.gz", TapeReport("USDJPY_2013-01-01.csv.gz", rows=1000), 1000),
        ("bars/1m/NSE/YESBANK_2019-07-09.csv.gz", TapeReport("YESBANK_2019-07-09.csv.gz", rows=377), 377 * 4),
    ],
)
def test_the_recorded_files_are_read_whole(name: str, report: TapeReport, ticks: int) -> None:
    tape = read_tape([SHARED / name])

    played = [tick.at_ms for tick in tape]

    assert tape.reports == [report]
    assert (len(played), played) == (ticks, sorted(played))


@needs_shared
def test_a_feed_kept_raw_shows_what_is_wrong_with_it() -> None:
    tape = read_tape([SHARED / "ticks_raw/NSE/INFY_2021-04-16.csv.gz"])

    played = [tick.at_ms for tick in tape]

    report = tape.reports[0]
    assert (report.rows, report.bad, report.late) == (22386, 397, 3337)
    assert report.examples[0] == (17, "quantity '-555' is not a plain number")
    assert played == sorted(played)
