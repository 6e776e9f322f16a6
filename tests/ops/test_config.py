"""config.yaml: what it becomes, and every mistake in it by its path. Nothing here starts a thread or opens a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from ops.config import (
    Config,
    ConfigErrors,
    Mode,
    StrategyConfig,
    SymbolConfig,
    calendar_of,
    describe,
    environment,
    load,
    missing_credentials,
)
from ops.config_types import (
    BrokerConfig,
    ControlConfig,
    FeedConfig,
    InstrumentConfig,
    JournalConfig,
    LoggingConfig,
    OrdersConfig,
    PaperConfig,
    PollingConfig,
    PracticeConfig,
    RiskConfig,
    SessionConfig,
)
from state.calendars import TABLES
from state.session import Closed, Session
from state.sizing import By, Size, fixed

ROOT = Path(__file__).parents[2]
STORIES = ["trail", "reentry", "three_losses", "partial", "cutoff", "never", "late", "jump"]


class EightyTwenty:
    class Params(msgspec.Struct, frozen=True):
        stop_ticks: Annotated[int, msgspec.Meta(ge=1)] = 20
        trail_bar_ms: int = 900_000
        trail_buffer_ticks: int = 2
        trigger_window_ms: int = 3_600_000
        max_entries: int = 3

    class Setup(msgspec.Struct, frozen=True):
        symbol: str
        qty: Decimal
        entry_price: Decimal
        trigger_price: Decimal
        setup_date: date

        def __post_init__(self) -> None:
            if self.trigger_price >= self.entry_price:
                raise ValueError(f"trigger_price {self.trigger_price} must be below entry_price {self.entry_price}")


class Everything:
    """One field of every kind that a strategy may declare."""

    class Params(msgspec.Struct, frozen=True):
        hold: Annotated[int, msgspec.Meta(description="duration")] = 60_000
        ratio: Annotated[Decimal, msgspec.Meta(ge=0)] = Decimal(0)
        legs: Annotated[int, msgspec.Meta(gt=0, le=4)] = 1
        side: Literal["long", "short"] = "long"
        again: bool = False
        label: str = "x"
        until: date | None = None
        cap: Decimal | None = None

    class Setup(msgspec.Struct, frozen=True):
        level: Decimal


KNOWN: dict[str, type] = {"eighty_twenty": EightyTwenty, "everything": Everything}

HEAD = "mode: practice\n"
ROW = "{symbol: ABSLAMC, qty: 5, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}"
STRATEGIES = f"strategies:\n  - name: eighty_twenty\n    symbols:\n      - {ROW}\n"
MINIMAL = HEAD + STRATEGIES

Load = Callable[..., Config]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def read(text: str | bytes, environ: Mapping[str, str] = {}, stories: list[str] = STORIES) -> Config:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, environ, KNOWN, stories)

    return read


@pytest.fixture
def mistakes(load_text: Load) -> Callable[..., list[str]]:
    def read(text: str | bytes, **more: Any) -> list[str]:
        with pytest.raises(ConfigErrors) as caught:
            load_text(text, **more)
        assert str(caught.value).splitlines() == [f"{path}: {message}" for path, message in caught.value.errors]
        return str(caught.value).splitlines()

    return read


def row(text: str) -> str:
    """The minimal configuration with another symbol row."""
    return MINIMAL.replace(ROW, text)


def setup(symbol: str = "ABSLAMC", qty: str = "5") -> SymbolConfig:
    prices = Decimal("731.15"), Decimal("730.65"), date(2026, 11, 19)
    return SymbolConfig(symbol, fixed(Decimal(qty)), EightyTwenty.Setup(symbol, Decimal(qty), *prices))


def test_a_minimal_configuration_gets_every_default(load_text: Load, tmp_path: Path) -> None:
    config = load_text(MINIMAL)

    assert config == Config(
        path=tmp_path / "config.yaml",
        mode=Mode.PRACTICE,
        broker=BrokerConfig("openalgo", "http://127.0.0.1:5000", "ws://127.0.0.1:8765", "NSE", "MIS", 10_000, 30_000),
        session=SessionConfig("XNSE", "Asia/Kolkata", None, None, 60_000, 2_700_000, (), False),
        polling=PollingConfig(5000),
        orders=OrdersConfig(60_000, 900_000, 3),
        strategies=(StrategyConfig("eighty_twenty", EightyTwenty.Params(20, 900_000, 2, 3_600_000, 3), 3, (setup(),)),),
        risk=RiskConfig(5, 3, Decimal(5000), 5000),
        data_dir=tmp_path / "data",
        journal=JournalConfig(f"sqlite:///{(tmp_path / 'data' / 'journal.db').as_posix()}", tmp_path / "data" / "journal.db"),
        control=ControlConfig("127.0.0.1", 8780),
        logging=LoggingConfig(tmp_path / "logs", "INFO", "text"),
        practice=PracticeConfig(date(2026, 11, 20), 240.0, 7, 0, 0, {}, 60_000),
        feed=FeedConfig(60_000, Decimal("0.2")),
        instruments={},
        paper=PaperConfig(Decimal(0)),
    )


def test_the_contract_block_is_read_as_it_stands_in_the_design(load_text: Load, tmp_path: Path) -> None:
    """DESIGN section 10, word for word, with values that are not the defaults where it has defaults."""
    config = load_text("""\
mode: practice                  # practice | paper | live
broker:
  name: openalgo
  rest_url: https://gateway.example:5000
  ws_url: wss://gateway.example:8765
  exchange: BSE
  product: CNC
  timeout: 9s
  settle_window: 31s
session:
  calendar: XNSE
  timezone: America/New_York
  open: "09:30:00"
  close: "16:00:00"
  entry_delay: 2m
  exit_before_close: 46m
  holidays: [2026-11-26]
polling: {interval: 500ms}
orders: {timeout: 61s, entry_timeout: 1h, max_retries: 0}
strategies:
  - name: eighty_twenty
    params: {stop_ticks: 21, trail_bar: 5m, trail_buffer_ticks: 0, trigger_window: 2h, max_entries: 1}
    symbols:
      - {symbol: ABSLAMC, qty: 5, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}
risk: {max_open_positions: 6, signal_slots: 4, max_daily_loss: 5000.50, unprotected_limit: 4s}
data_dir: run
journal: {url: "sqlite:///data/journal.db"}
control: {host: 127.0.0.1, port: 0}
logging: {dir: story, level: DEBUG, format: json}
""")

    session = SessionConfig("XNSE", "America/New_York", 34_200, 57_600, 120_000, 2_760_000, (date(2026, 11, 26),), False)
    gateway = "https://gateway.example:5000", "wss://gateway.example:8765"
    assert config == Config(
        path=tmp_path / "config.yaml",
        mode=Mode.PRACTICE,
        broker=BrokerConfig("openalgo", *gateway, "BSE", "CNC", 9000, 31_000),
        session=session,
        polling=PollingConfig(500),
        orders=OrdersConfig(61_000, 3_600_000, 0),
        strategies=(StrategyConfig("eighty_twenty", EightyTwenty.Params(21, 300_000, 0, 7_200_000, 1), 1, (setup(),)),),
        risk=RiskConfig(6, 4, Decimal("5000.50"), 4000),
        data_dir=tmp_path / "run",
        journal=JournalConfig("sqlite:///data/journal.db", tmp_path / "data" / "journal.db"),
        control=ControlConfig("127.0.0.1", 0),
        logging=LoggingConfig(tmp_path / "story", "DEBUG", "json"),
        practice=PracticeConfig(date(2026, 11, 20)),
        feed=FeedConfig(),
        instruments={},
        paper=PaperConfig(),
    )


def test_five_mistakes_are_five_messages_and_no_thread_starts(mistakes: Callable[..., list[str]]) -> None:
    """OPS-01: an unknown key, quantity 0, -5, "5.5", and a bad time."""
    before = threading.active_count()

    found = mistakes("""\
mode: practice
sesion: {timezone: Asia/Kolkata}
session: {open: "25:00", close: "15:30"}
strategies:
  - name: eighty_twenty
    symbols:
      - {symbol: SBIN, qty: 0, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}
      - {symbol: INFY, qty: 5, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}
      - {symbol: ITC, qty: -5, entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}
      - {symbol: WIPRO, qty: "5.5", entry_price: 731.15, trigger_price: 730.65, setup_date: 2026-11-19}
""")

    assert found == [
        "session.open: must be a time from 00:00 to 23:59:59 like 09:15:00, not '25:00'",
        "strategies[0].symbols[0].qty: must be a whole number above 0, not 0",
        "strategies[0].symbols[2].qty: must be a whole number above 0, not -5",
        "strategies[0].symbols[3].qty: must be a whole number above 0, not the text '5.5': write it without quotes",
        "sesion: unknown key (did you mean 'session'?)",
    ]
    assert threading.active_count() == before


def test_prices_are_the_same_decimals_quoted_or_not(load_text: Load) -> None:
    """OPS-01: 731.15 and "731.15" and 0.1 never pass through a float."""
    text = '{symbol: A, qty: 5, entry_price: 731.15, trigger_price: "731.10", setup_date: 2026-11-19}'
    tiny = '{symbol: B, qty: 5, entry_price: "0.3", trigger_price: 0.1, setup_date: "2026-11-19"}'

    first, second = load_text(row(f"{text}\n      - {tiny}")).strategies[0].symbols

    assert first.setup == EightyTwenty.Setup("A", Decimal(5), Decimal("731.15"), Decimal("731.10"), date(2026, 11, 19))
    assert second.setup == EightyTwenty.Setup("B", Decimal(5), Decimal("0.3"), Decimal("0.1"), date(2026, 11, 19))
    assert load_text(row(ROW.replace("731.15", '"731.15"'))) == load_text(MINIMAL)


def test_words_and_digits_that_yaml_1_1_would_change_stay_symbols(load_text: Load) -> None:
    names = ["NO", "ON", "YES", "OFF", "0123", "500325", "1E5", "M&M", "BAJAJ-AUTO", "NULL", "TRUE", "0x1F", "1_000", "12:30"]
    rows = "\n      - ".join(ROW.replace("ABSLAMC", name) for name in names)

    config = load_text(row(rows) + "instruments: {NO: {tick_size: 0.01}, 0123: {lot_size: 5}, 500325: {}}\n")

    assert [symbol.symbol for symbol in config.strategies[0].symbols] == names
    assert config.instruments == {
        "NO": InstrumentConfig(Decimal("0.01"), Decimal(1)),
        "0123": InstrumentConfig(Decimal("0.05"), Decimal(5)),
        "500325": InstrumentConfig(),
    }
    assert config.instrument("NO") == InstrumentConfig(Decimal("0.01"))
    assert config.instrument("SBIN") == InstrumentConfig(Decimal("0.05"), Decimal(1))


def test_times_need_no_quotes(load_text: Load) -> None:
    config = load_text(MINIMAL + "session: {open: 09:15:00, close: 15:30, calendar: XNSE}\n")

    assert config.session == SessionConfig("XNSE", "Asia/Kolkata", 33_300, 55_800)


def test_everything_a_strategy_may_declare_is_read_by_its_type(load_text: Load) -> None:
    config = load_text(
        HEAD
        + "strategies:\n  - name: everything\n"
        + "    params: {hold: 90s, ratio: 0, legs: 4, side: short, again: true, label: a b, until: 2026-12-24,\n"
        + "             cap: 1.5, max_entries: 7}\n"
        + "    symbols: [{symbol: SBIN, qty: 5.0, level: 1}]\n"
    )

    params = Everything.Params(90_000, Decimal(0), 4, "short", True, "a b", date(2026, 12, 24), Decimal("1.5"))
    symbols = (SymbolConfig("SBIN", fixed(Decimal(5)), Everything.Setup(Decimal(1))),)
    assert config.strategies == (StrategyConfig("everything", params, 7, symbols),)
    assert config.strategies[0].symbols[0].size.text == "qty 5"


def test_a_type_that_no_file_can_give_is_a_defect_of_the_strategy(tmp_path: Path) -> None:
    class Odd:
        class Params(msgspec.Struct, frozen=True):
            price: float = 1.5

        class Setup(msgspec.Struct, frozen=True):
            pass

    path = tmp_path / "config.yaml"
    path.write_text(HEAD + "strategies: [{name: odd, symbols: [{symbol: SBIN, qty: 1}]}]\n")

    with pytest.raises(TypeError, match=r"^config.yaml cannot give the field price: <class 'float'>$"):
        load(path, {}, {"odd": Odd})


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("qty: 5", Size(By.QTY, Decimal(5))),
        ("notional: 100", Size(By.NOTIONAL, Decimal(100))),
        ("notional: 99.50", Size(By.NOTIONAL, Decimal("99.50"))),
        ("risk: 500", Size(By.RISK, Decimal(500))),
    ],
)
def test_how_much_is_said_in_one_of_three_ways(load_text: Load, written: str, size: Size) -> None:
    """ENT-12"""
    config = load_text(HEAD + f"strategies: [{{name: everything, symbols: [{{symbol: SBIN, {written}, level: 1}}]}}]\n")

    assert config.strategies[0].symbols == (SymbolConfig("SBIN", size, Everything.Setup(Decimal(1))),)
    assert describe(config)[-1] == f"  SBIN: {written.replace(':', '')}, level 1"


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("level: 1", ["qty: is missing (or else notional, or risk)"]),
        ("qty: 5, risk: 500, level: 1", ["risk: qty says how much already: give one of qty, notional and risk"]),
        (
            "risk: 500, notional: 5, qty: x, level: 1",
            [
                "qty: must be a whole number above 0, not 'x'",
                "notional: qty says how much already: give one of qty, notional and risk",
                "risk: qty says how much already: give one of qty, notional and risk",
            ],
        ),
        ("notional: 0, level: 1", ["notional: must be a number above 0, not 0"]),
        ("risk: -5, level: 1", ["risk: must be a number above 0, not -5"]),
        ("risk: much, level: 1", ["risk: must be a number above 0, not 'much'"]),
        (
            "notionl: 5, level: 1",
            ["qty: is missing (or else notional, or risk)", "notionl: unknown key (did you mean 'notional'?)"],
        ),
    ],
)
def test_how_much_is_said_exactly_once(mistakes: Callable[..., list[str]], written: str, wrong: list[str]) -> None:
    found = mistakes(HEAD + f"strategies: [{{name: everything, symbols: [{{symbol: SBIN, {written}}}]}}]\n")

    assert found == [f"strategies[0].symbols[0].{line}" for line in wrong]


def test_a_strategy_that_declares_a_quantity_must_be_given_one(mistakes: Callable[..., list[str]]) -> None:
    assert mistakes(row(ROW.replace("qty: 5", "notional: 5000"))) == ["strategies[0].symbols[0].qty: is missing"]


def test_parts_of_a_unit_need_a_lot_size_that_allows_them(load_text: Load, mistakes: Callable[..., list[str]]) -> None:
    """ENT-13"""
    part, half = row(ROW.replace("qty: 5", "qty: 0.5")), "instruments: {ABSLAMC: {lot_size: 0.5}}\n"

    assert mistakes(part) == ["strategies[0].symbols[0].qty: must be a whole number above 0, not 0.5"]
    assert load_text(part + half).strategies[0].symbols[0].size == fixed(Decimal("0.5"))
    assert mistakes(row(ROW.replace("qty: 5", "qty: 0.7")) + half) == [
        "strategies[0].symbols[0].qty: must be a multiple of the lot size 0.5 above 0, not 0.7"
    ]
    assert load_text(part + "broker: {name: kraken}\n").strategies[0].symbols[0].size == fixed(Decimal("0.5"))


def test_each_broker_has_its_own_addresses(load_text: Load) -> None:
    brokers = [load_text(MINIMAL + f"broker: {{name: {name}}}\n").broker for name in ("kraken", "coinbase", "oanda")]

    assert [(broker.name, broker.rest_url, broker.ws_url, broker.exchange) for broker in brokers] == [
        ("kraken", "https://api.kraken.com", "wss://ws.kraken.com/v2", "KRAKEN"),
        ("coinbase", "https://api.coinbase.com/api/v3/brokerage", "wss://advanced-trade-ws.coinbase.com", "COINBASE"),
        ("oanda", "https://api-fxtrade.oanda.com/v3", "https://stream-fxtrade.oanda.com/v3", "OANDA"),
    ]


def test_how_far_a_stop_may_slip_is_said_for_the_venue_without_stops_at_market_alone(
    load_text: Load, mistakes: Callable[..., list[str]]
) -> None:
    """Coinbase turns a stop into a stop-limit: 5 % of room unless the file says otherwise."""
    on = MINIMAL + "broker: {name: coinbase%s}\n"

    said = [load_text(on % more).broker.stop_slippage for more in ("", ", stop_slippage: 0.02")]

    assert said == [Decimal("0.05"), Decimal("0.02")]
    assert load_text(MINIMAL).broker.stop_slippage is None
    assert mistakes(on % ", stop_slippage: 1") == ["broker.stop_slippage: must be a number above 0 and below 1, not 1"]


BAD_ROWS = [
    ("{symbol: A, qty: 5, entry_price: 1, setup_date: 2026-11-19}", ["trigger_price: is missing"]),
    ("{qty: 5, entry_price: 2, trigger_price: 1, setup_date: 2026-11-19}", ["symbol: is missing"]),
    ("{symbol: A, entry_price: 2, trigger_price: 1, setup_date: 2026-11-19}", ["qty: is missing (or else notional, or risk)"]),
    (
        "{symbol: A B, qty: , entry_price: 0, trigger_price: -1, setup_date: 2026-02-30}",
        [
            "symbol: must be a symbol like SBIN or M&M, not 'A B'",
            "qty: must be a whole number above 0, not nothing",
            "entry_price: must be a number above 0, not 0",
            "trigger_price: must be a number above 0, not -1",
            "setup_date: must be a date like 2026-11-19, not '2026-02-30'",
        ],
    ),
    (
        "{symbol: [], qty: true, entry_price: .inf, trigger_price: .nan, setup_date: 20}",
        [
            "symbol: must be a symbol like SBIN or M&M, not a list",
            "qty: must be a whole number above 0, not true",
            "entry_price: must be a number above 0, not '.inf'",
            "trigger_price: must be a number above 0, not '.nan'",
            "setup_date: must be a date like 2026-11-19, not 20",
        ],
    ),
    (
        "{symbol: A, qty: five, entry_price: 1.0e40, trigger_price: 1e999, setup_date: 2026-11-19}",
        [
            "qty: must be a whole number above 0, not 'five'",
            "entry_price: must be a number above 0, not 1.0E+40",
            "trigger_price: must be a number above 0, not '1e999'",
        ],
    ),
    (
        "{symbol: A, qty: 5, entry_price: 1, trigger_price: 2, setup_date: 2026-11-19}",
        ["trigger_price 2 must be below entry_price 1"],
    ),
    (
        "{symbol: A, qty: 5, entry_prise: 2, entry_price: 2, trigger_price: 1, setup_date: 2026-11-19}",
        ["entry_prise: unknown key (did you mean 'entry_price'?)"],
    ),
    ("SBIN", ["must be keys and values, not 'SBIN'"]),
    ("", ["is empty"]),
]


@pytest.mark.parametrize(("text", "messages"), BAD_ROWS, ids=[text or "empty" for text, _ in BAD_ROWS])
def test_each_mistake_in_a_symbol_row_has_its_path(text: str, messages: list[str], mistakes: Callable[..., list[str]]) -> None:
    """OPS-01"""
    path = "strategies[0].symbols[0]"

    expected = [f"{path}{'.' if ':' in message else ': '}{message}" for message in messages]

    assert mistakes(row(text)) == expected


BAD_STRATEGIES = [
    ("strategies: []", ["strategies: must list at least one strategy (eighty_twenty, everything), not an empty list"]),
    ("{}", ["strategies: must list at least one strategy (eighty_twenty, everything), not nothing"]),
    ("strategies: {name: x}", ["strategies: must list at least one strategy (eighty_twenty, everything), not keys and values"]),
    (
        "strategies: [{name: eighty_twenti, params: {a: 1}, symbols: [{symbol: A, qty: -1, price: 5}]}, {symbols: []}]",
        [
            "strategies[0].name: must be eighty_twenty or everything, not 'eighty_twenti' (did you mean 'eighty_twenty'?)",
            "strategies[0].symbols[0].qty: must be a whole number above 0, not -1",
            "strategies[1].name: is missing",
            "strategies[1].symbols: must list at least one symbol, not an empty list",
        ],
    ),
    (
        "strategies: [{name: everything, parms: {}, symbols: [{symbol: A, qty: 1, level: 1}], "
        "params: {hold: 10, ratio: -1, legs: 5, side: shrt, again: yes, label: '', until: 1, cap: 0, max_entries: 0}}]",
        [
            "strategies[0].parms: unknown key (did you mean 'params'?)",
            "strategies[0].params.max_entries: must be a whole number of at least 1, not 0",
            "strategies[0].params.hold: must be a duration like 45m, 5s or 500ms, not 10",
            "strategies[0].params.ratio: must be a number of at least 0, not -1",
            "strategies[0].params.legs: must be a whole number from 1 to 4, not 5",
            "strategies[0].params.side: must be long or short, not 'shrt' (did you mean 'short'?)",
            "strategies[0].params.again: must be true or false, not 'yes'",
            "strategies[0].params.label: must be a line of text, not ''",
            "strategies[0].params.until: must be a date like 2026-11-19, not 1",
            "strategies[0].params.cap: must be a number above 0, not 0",
        ],
    ),
    (
        f"strategies: [{{name: eighty_twenty, params: {{stop_ticks: 0, trail_bar: 1.5m}}, symbols: [{ROW}, {ROW}]}}, "
        "{name: everything, symbols: [{symbol: ABSLAMC, qty: 1, level: 1}]}]",
        [
            "strategies[0].params.stop_ticks: must be a whole number of at least 1, not 0",
            "strategies[0].params.trail_bar: must be a duration like 45m, 5s or 500ms, not '1.5m'",
            "strategies[0].symbols[1].symbol: ABSLAMC is already at strategies[0].symbols[0]: one strategy per symbol",
            "strategies[1].symbols[0].symbol: ABSLAMC is already at strategies[0].symbols[0]: one strategy per symbol",
        ],
    ),
]


@pytest.mark.parametrize(("text", "messages"), BAD_STRATEGIES)
def test_each_mistake_in_a_strategy_has_its_path(text: str, messages: list[str], mistakes: Callable[..., list[str]]) -> None:
    """OPS-01"""
    assert mistakes(HEAD + ("" if text == "{}" else text)) == messages


BAD_SECTIONS = [
    ("mode: practise", ["mode: must be practice, paper or live, not 'practise' (did you mean 'practice'?)"]),
    ("", ["mode: is missing"]),
    ("mode: yes", ["mode: must be practice, paper or live, not 'yes'"]),
    ("mode: paper\nbroker: openalgo", ["broker: must be keys and values, not 'openalgo'"]),
    (
        "mode: live\nbroker: {name: zerodha, rest_url: http://10.0.0.5:5000, ws_url: ws://gateway.example,\n"
        "  timeout: 0s, exchange: ''}",
        [
            "broker.name: must be openalgo, kraken, coinbase or oanda, not 'zerodha'",
            "broker.rest_url: must begin with https:// because 10.0.0.5 is not this machine",
            "broker.ws_url: must begin with wss:// because gateway.example is not this machine",
            "broker.exchange: must be a symbol like SBIN or M&M, not ''",
            "broker.timeout: must be from 100ms to 10m, not 0s",
        ],
    ),
    (
        "mode: live\nbroker: {rest_url: 'https://me:hunter2@h', ws_url: 'https://h', timeout: 30s}",
        [
            "broker.rest_url: must be only scheme, host, port and path: no user name, password or query",
            "broker.ws_url: must be an address like wss://host:port, not 'https://h'",
        ],
    ),
    (
        "mode: live\nbroker: {rest_url: 'https://h:99999', ws_url: 5}",
        [
            "broker.rest_url: must be an address like https://host:port, not 'https://h:99999'",
            "broker.ws_url: must be an address like wss://host:port, not 5",
        ],
    ),
    ("mode: live\nbroker: {timeout: 30s}", ["broker.settle_window: must be longer than broker.timeout (30s), not 30s"]),
    (
        "mode: live\nsession: {open: 9, close: '24:01', timezone: Asia/Bombai, holidays: [2026-11-24, soon, 5], weekends: 'on'}",
        [
            "session.timezone: no time zone data for 'Asia/Bombai' on this machine "
            "(names are like Asia/Kolkata; on Windows install tzdata)",
            "session.open: must be a time from 00:00 to 23:59:59 like 09:15:00, not 9",
            "session.close: must be a time from 00:00 to 24:00 like 09:15:00, not '24:01'",
            "session.weekends: must be true or false, not 'on'",
            "session.holidays[1]: must be a date like 2026-11-19, not 'soon'",
            "session.holidays[2]: must be a date like 2026-11-19, not 5",
        ],
    ),
    ("mode: live\nsession: {holidays: 2026-11-24}", ["session.holidays: must be a list, not 2026-11-24"]),
    (
        "mode: live\nsession: {calendar: XNYS, timezone: 5}",
        [
            "session.calendar: must be XNSE, not 'XNYS' (did you mean 'XNSE'?)",
            "session.timezone: must be a time zone like Asia/Kolkata, not 5",
        ],
    ),
    ("mode: live\nsession: {open: 09:15}", ["session.close: is missing, and session.open is given: explicit hours need both"]),
    ("mode: live\nsession: {close: 15:30}", ["session.open: is missing, and session.close is given: explicit hours need both"]),
    (
        "mode: live\nsession: {open: 15:30, close: 09:15}",
        ["session.close: must be after session.open: only a market that trades at night passes midnight"],
    ),
    (
        "mode: live\nsession: {open: 00:00, close: 00:00}",
        ['session.close: is the same as session.open: a whole day is open "00:00" and close "24:00"'],
    ),
    (
        "mode: live\nsession: {timezone: UTC, weekends: true}",
        [
            "session.timezone: must be Asia/Kolkata with this calendar; for other hours give open and close too",
            "session.weekends: needs explicit hours: give open and close too",
        ],
    ),
    ("mode: live\nsession: {exit_before_close: 375m}", ["session.exit_before_close: must be shorter than the session (375m)"]),
    (
        "mode: live\nsession: {entry_delay: 30m, exit_before_close: 345m}",
        ["session.entry_delay: leaves no time for entries: the cutoff comes first"],
    ),
    ("mode: live\nsession: {exit_before_close: 0s}", ["session.exit_before_close: must be from 1ms to 24h, not 0s"]),
    ("mode: live\npolling: {interval: 99ms}", ["polling.interval: must be from 100ms to 1m, not 99ms"]),
    (
        'mode: live\norders: {timeout: "60", entry_timeout: , max_retries: "3", max_retrys: 3}',
        [
            "orders.timeout: must be a duration like 45m, 5s or 500ms, not '60'",
            "orders.entry_timeout: must be a duration like 45m, 5s or 500ms, not nothing",
            "orders.max_retries: must be a whole number of at least 0, not the text '3': write it without quotes",
            "orders.max_retrys: unknown key (did you mean 'max_retries'?)",
        ],
    ),
    (
        "mode: live\nrisk: {max_open_positions: 0, signal_slots: 2.5, max_daily_loss: -1, unprotected_limit: 2d}",
        [
            "risk.max_open_positions: must be a whole number of at least 1, not 0",
            "risk.signal_slots: must be a whole number of at least 1, not 2.5",
            "risk.max_daily_loss: must be a number above 0, not -1",
            "risk.unprotected_limit: must be a duration like 45m, 5s or 500ms, not '2d'",
        ],
    ),
    (
        'mode: live\ndata_dir: 5\njournal: {url: "mysql://db"}\nlogging: {dir: [], level: info, format: xml}',
        [
            "data_dir: must be a line of text, not 5",
            "journal.url: 'mysql://db' is not a journal file: write sqlite:///data/journal.db",
            "logging.dir: must be a line of text, not a list",
            "logging.level: must be DEBUG, INFO, WARNING or ERROR, not 'info'",
            "logging.format: must be text or json, not 'xml'",
        ],
    ),
    (
        "mode: live\ncontrol: {host: 0.0.0.0, port: 65536}",
        [
            "control.host: must be an address of this machine like 127.0.0.1, not '0.0.0.0'",
            "control.port: must be a whole number from 0 to 65535, not 65536",
        ],
    ),
    (
        "mode: live\nfeed: {max_age: 25h, max_jump: 0}\npaper: {fee_rate: 1}\n"
        "instruments: {A B: {}, SBIN: {tick_size: 0, lotsize: 1}}",
        [
            "instruments.A B: must be a symbol like SBIN or M&M, not 'A B'",
            "instruments.SBIN.tick_size: must be a number above 0, not 0",
            "instruments.SBIN.lotsize: unknown key (did you mean 'lot_size'?)",
            "feed.max_age: must be from 1ms to 24h, not 25h",
            "feed.max_jump: must be a number above 0, not 0",
            "paper.fee_rate: must be a number of at least 0 and below 1, not 1",
        ],
    ),
    (
        "mode: practice\npractice: {day: friday, speed: 0, seed: x, rest_port: -1, linger: soon,\n"
        "  stories: {ABSLAMC: trial, SBIN: trail}}",
        [
            "practice.stories.ABSLAMC: must be trail, reentry, three_losses, partial, cutoff, never, late or jump, "
            "not 'trial' (did you mean 'trail'?)",
            "practice.stories.SBIN: no strategy trades this symbol",
            "practice.day: must be a date like 2026-11-19, not 'friday'",
            "practice.speed: must be a number above 0 and below 100001, not 0",
            "practice.seed: must be a whole number of at least 0, not 'x'",
            "practice.rest_port: must be a whole number from 0 to 65535, not -1",
            "practice.linger: must be a duration like 45m, 5s or 500ms, not 'soon'",
        ],
    ),
]


@pytest.mark.parametrize(("text", "messages"), BAD_SECTIONS, ids=[text or "no mode" for text, _ in BAD_SECTIONS])
def test_each_mistake_in_a_section_has_its_path(text: str, messages: list[str], mistakes: Callable[..., list[str]]) -> None:
    """OPS-01"""
    assert mistakes(text + "\n" + STRATEGIES) == messages


BAD_FILES: list[tuple[bytes, list[str]]] = [
    (b"", ["config.yaml: is empty: begin with the config.yaml that came with the program"]),
    (b"\xef\xbb\xbf\n", ["config.yaml: is empty: begin with the config.yaml that came with the program"]),
    (b" \n\n", ["config.yaml: is empty: begin with the config.yaml that came with the program"]),
    (b"# mode: live\n", ["config.yaml: has only comments: begin with the config.yaml that came with the program"]),
    (b"mode: practice\nbroker:\n\tname: kraken\n", ["config.yaml: line 3, column 1: a tab; indent with spaces"]),
    (b"mode: [practice\n", ["config.yaml: line 2, column 1: expected ',' or ']', but got '<stream end>'"]),
    (b"mode: practice: live\n", ["config.yaml: line 1, column 15: mapping values are not allowed here"]),
    (b"- mode\n", ["config.yaml: is not a list of settings like `mode: practice`, one per line"]),
    (b"practice\n", ["config.yaml: is not a list of settings like `mode: practice`, one per line"]),
    (b"mode: live\n---\nmode: live\n", ["config.yaml: line 2, column 1: but found another document"]),
    (b"mode: practice\n# caf\xe9\n", ["config.yaml: line 2 is not UTF-8 text: save the file as UTF-8"]),
    (b"\xff\xfem\x00o\x00", ["config.yaml: line 1 is not UTF-8 text: save the file as UTF-8"]),
    (b"mode: live\nx: \x00\n", ["config.yaml: line 2: a character that YAML does not allow (U+0000)"]),
    (b"a: &x\n  b: *x\n", ["a.b: refers to itself"]),
    (b"a: {{b}}: 1\n", ["config.yaml: line 1, column 9: mapping values are not allowed here"]),
    (b"a: {{b: 1}: 2}\n", ["a: line 1: a key must be plain text"]),
    (
        b"a: !!python/name:os.system x\n",
        [
            "config.yaml: line 1, column 4: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'"
        ],
    ),
    (b"[" * 5000, ["config.yaml: is nested too deeply"]),
]


@pytest.mark.parametrize(("text", "messages"), BAD_FILES, ids=[repr(text[:30]) for text, _ in BAD_FILES])
def test_a_file_that_cannot_be_read_says_why_and_where(
    text: bytes, messages: list[str], mistakes: Callable[..., list[str]]
) -> None:
    assert mistakes(text) == messages


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()

    errors = []
    for name in ("gone.yaml", "folder.yaml"):
        with pytest.raises(ConfigErrors) as caught:
            load(tmp_path / name, {}, KNOWN)
        errors.append(str(caught.value))

    assert errors[0] == f"gone.yaml: there is no such file in {tmp_path}"
    assert errors[1].startswith("folder.yaml: cannot be read: ")


def test_a_key_given_twice_is_named_with_both_lines_beside_the_other_mistakes(mistakes: Callable[..., list[str]]) -> None:
    text = MINIMAL + "risk: {signal_slots: 0, max_open_positions: 2}\nmode: live\npolling:\n  interval: 5s\n  interval: 6s\n"

    assert mistakes(text) == [
        "mode: is given twice, in lines 1 and 7",
        "polling.interval: is given twice, in lines 9 and 10",
        "risk.signal_slots: must be a whole number of at least 1, not 0",
    ]


def test_a_row_may_build_on_another_by_a_merge_key(load_text: Load) -> None:
    merged = f"&first {ROW}\n      - {{<<: *first, symbol: SBIN, qty: 6}}"

    assert load_text(row(merged)).strategies[0].symbols == (setup(), setup("SBIN", "6"))


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(load_text: Load) -> None:
    assert load_text(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()) == load_text(MINIMAL)


def test_explicit_tags_never_make_a_float(load_text: Load, mistakes: Callable[..., list[str]]) -> None:
    tagged = load_text(row(ROW.replace("731.15", '!!float "731.15"')))

    assert tagged == load_text(MINIMAL)
    assert mistakes(MINIMAL + "orders: {max_retries: !!int x}\nsession: {weekends: !!bool x}\n") == [
        "session.weekends: must be true or false, not 'x'",
        "orders.max_retries: must be a whole number of at least 0, not 'x'",
    ]


def test_a_secret_in_the_file_is_a_mistake_wherever_it_stands(mistakes: Callable[..., list[str]]) -> None:
    """OPS-02, OPS-09: secrets come from the environment only, and no message quotes one."""
    environ = {"OPENALGO_API_KEY": "k3y-0f-the-house", "KRAKEN_API_SECRET": "abc"}
    text = MINIMAL + (
        "api_key: one\nbroker: {apiKey: two, product: k3y-0f-the-house}\ncontrol: {access_token: three}\n"
        "whatever: [{KRAKEN_API_SECRET: x}]\n"
        "instruments: {TOKEN: {token: y}}\nlogging: {level: k3y-0f-the-house}\n"
    )

    found = mistakes(text, environ=environ)

    told = "a secret does not belong in this file: put it into the environment or .env"
    copied = "holds the value of a secret from the environment: it does not belong in this file"
    assert found == [
        f"api_key: {told}",
        f"broker.apiKey: {told}",
        f"broker.product: {copied}",
        f"control.access_token: {told}",
        f"whatever[0].KRAKEN_API_SECRET: {told}",
        f"instruments.TOKEN.token: {told}",
        f"logging.level: {copied}",
        "logging.level: must be DEBUG, INFO, WARNING or ERROR, not '***'",
        "whatever: unknown key",
    ]


def test_live_needs_the_keys_of_its_broker_and_paper_those_that_show_prices(load_text: Load) -> None:
    """OPS-02"""
    files = {
        (mode, name): load_text(MINIMAL.replace("practice", mode) + f"broker: {{name: {name}}}\n")
        for mode in ("practice", "paper", "live")
        for name in ("openalgo", "kraken", "coinbase", "oanda")
    }

    missing = {
        case: missing_credentials(config, {"KRAKEN_API_KEY": "k", "OANDA_API_TOKEN": " "}) for case, config in files.items()
    }

    assert {case: names for case, names in missing.items() if names} == {
        ("paper", "openalgo"): ["OPENALGO_API_KEY"],
        ("paper", "oanda"): ["OANDA_API_TOKEN", "OANDA_ACCOUNT_ID"],
        ("live", "openalgo"): ["OPENALGO_API_KEY"],
        ("live", "kraken"): ["KRAKEN_API_SECRET"],
        ("live", "coinbase"): ["COINBASE_API_KEY", "COINBASE_API_SECRET"],
        ("live", "oanda"): ["OANDA_API_TOKEN", "OANDA_ACCOUNT_ID"],
    }


def test_the_env_file_adds_to_the_environment_and_overrides_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "OPENALGO_API_KEY=from-file\nKRAKEN_API_KEY=a${PATH}b\nEMPTY\nCOINBASE_API_SECRET='line 1\nline 2'\n",
        encoding="utf-8-sig",
    )

    merged = environment(tmp_path, {"OPENALGO_API_KEY": "real", "PATH": "/bin"})

    assert merged == {
        "OPENALGO_API_KEY": "real",
        "KRAKEN_API_KEY": "a${PATH}b",
        "COINBASE_API_SECRET": "line 1\nline 2",
        "PATH": "/bin",
    }


def test_without_an_env_file_the_environment_is_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OANDA_ACCOUNT_ID", "real")

    assert environment(tmp_path, {}) == {}
    assert environment(tmp_path)["OANDA_ACCOUNT_ID"] == "real"


def test_an_env_file_that_is_not_text_is_a_clear_mistake(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"OPENALGO_API_KEY=\xff\xff\n")

    with pytest.raises(ConfigErrors, match=r"^\.env: cannot be read as UTF-8 text: UnicodeDecodeError$"):
        environment(tmp_path, {})


def test_the_calendar_of_the_settings(load_text: Load) -> None:
    """EXI-10, EXI-14: the named calendar, explicit hours beside it, and a crypto window over midnight."""
    named = calendar_of(load_text(MINIMAL).session)
    both = calendar_of(load_text(MINIMAL + "session: {calendar: XNSE, open: 09:30, close: 15:00}\n").session)
    night = (
        "broker: {name: kraken}\nsession: {open: 22:00, close: 04:00, timezone: UTC, weekends: true, holidays: [2026-12-25]}\n"
    )
    crypto = calendar_of(load_text(MINIMAL + night).session)

    days = [date(2026, 11, 8), date(2026, 11, 20), date(2026, 11, 24), date(2026, 12, 25)]
    opened = {
        name: [isinstance(calendar.on(day), Session) for day in days]
        for name, calendar in zip("nbc", (named, both, crypto), strict=True)
    }

    assert opened == {"n": [True, True, False, False], "b": [False, True, False, False], "c": [True, True, True, False]}
    saturday = crypto.on(date(2026, 11, 21))
    assert isinstance(saturday, Session) and saturday.close_ms - saturday.open_ms == 6 * 3_600_000


def test_the_practice_day_is_the_one_for_which_the_newest_setups_are_good(load_text: Load) -> None:
    days = {}
    for setup_date in ("2026-11-20", "2026-11-23", "2027-05-05"):
        days[setup_date] = load_text(MINIMAL.replace("2026-11-19", setup_date)).practice.day

    assert days == {"2026-11-20": date(2026, 11, 23), "2026-11-23": date(2026, 11, 25), "2027-05-05": date(2026, 11, 20)}


def test_a_machine_without_zone_data_says_so_for_a_named_calendar_too(
    mistakes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXI-13"""
    monkeypatch.setitem(TABLES, "XNSE", msgspec.structs.replace(TABLES["XNSE"], timezone="Asia/Atlantis"))

    assert mistakes(MINIMAL) == [
        "session.calendar: no time zone data for 'Asia/Atlantis' on this machine "
        "(names are like Asia/Kolkata; on Windows install tzdata)"
    ]


def test_any_story_passes_where_nobody_says_which_there_are(load_text: Load) -> None:
    config = load_text(MINIMAL + "practice: {stories: {ABSLAMC: anything}}\n", stories=[])

    assert config.practice.stories == {"ABSLAMC": "anything"}


def test_the_shipped_file_is_a_practice_day_of_eight_symbols(tmp_path: Path) -> None:
    config = load(ROOT / "config.yaml", {}, KNOWN, STORIES)
    symbols = config.strategies[0].symbols
    day = calendar_of(config.session).on(config.practice.day)

    assert (config.mode, config.practice.day, isinstance(day, Session)) == (Mode.PRACTICE, date(2026, 11, 20), True)
    assert list(config.practice.stories.values()) == STORIES
    assert [row.symbol for row in symbols] == list(config.practice.stories)
    assert symbols[0] == setup()
    assert {row.setup.entry_price - row.setup.trigger_price for row in symbols} == {Decimal("0.50")}
    assert {row.setup.entry_price % Decimal("0.05") for row in symbols} == {Decimal(0)}
    assert {calendar_of(config.session).good_for(row.setup.setup_date) for row in symbols} == {config.practice.day}
    assert isinstance(calendar_of(config.session).on(date(2026, 11, 24)), Closed)


def test_the_shipped_file_shows_every_setting_there_is() -> None:
    """A reader of config.yaml sees each knob: for every field of every section there is its key."""
    shipped = (ROOT / "config.yaml").read_text(encoding="utf-8")
    types: list[Any] = [
        BrokerConfig,
        SessionConfig,
        PollingConfig,
        OrdersConfig,
        RiskConfig,
        ControlConfig,
        LoggingConfig,
        PracticeConfig,
    ]
    types += [FeedConfig, InstrumentConfig, PaperConfig, Config, EightyTwenty.Params, EightyTwenty.Setup]

    fields = [field.name for kind in types for field in msgspec.structs.fields(kind) if field.name != "path"]
    keys = {name.removesuffix("_ms").removesuffix("_s") for name in fields}

    assert sorted(key for key in keys if f"{key}:" not in shipped) == []


def test_the_shipped_env_file_names_every_secret_and_holds_none() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == [
        "OPENALGO_API_KEY=",
        "KRAKEN_API_KEY=",
        "KRAKEN_API_SECRET=",
        "COINBASE_API_KEY=",
        "COINBASE_API_SECRET=",
        "OANDA_API_TOKEN=",
        "OANDA_ACCOUNT_ID=",
    ]


def test_the_settings_in_force_are_printed_as_they_are_written(load_text: Load, tmp_path: Path) -> None:
    config = load_text(
        MINIMAL + "session: {open: 09:15, close: 24:00, holidays: [2026-11-24, 2026-12-25], weekends: true}\n"
        "practice: {speed: 0.5, stories: {ABSLAMC: trail}}\n"
    )

    assert describe(config) == [
        f"config {tmp_path / 'config.yaml'}",
        "mode practice",
        f"data_dir {tmp_path / 'data'}",
        "broker: name openalgo, rest_url http://127.0.0.1:5000, ws_url ws://127.0.0.1:8765, exchange NSE, product MIS, "
        "timeout 10s, settle_window 30s",
        "session: timezone Asia/Kolkata, open 09:15:00, close 24:00:00, entry_delay 1m, exit_before_close 45m, "
        "holidays 2026-11-24 2026-12-25, weekends true",
        "polling: interval 5s",
        "orders: timeout 1m, entry_timeout 15m, max_retries 3",
        "risk: max_open_positions 5, signal_slots 3, max_daily_loss 5000, unprotected_limit 5s",
        f"journal: url sqlite:///{(tmp_path / 'data' / 'journal.db').as_posix()}, path {tmp_path / 'data' / 'journal.db'}",
        "control: host 127.0.0.1, port 8780",
        f"logging: dir {tmp_path / 'logs'}, level INFO, format text",
        "feed: max_age 1m, max_jump 0.2",
        "practice: day 2026-11-20, speed 0.5, seed 7, rest_port 0, ws_port 0, stories ABSLAMC=trail, linger 1m, faults calm",
        "strategy eighty_twenty: max_entries 3, stop_ticks 20, trail_bar 15m, trail_buffer_ticks 2, trigger_window 1h",
        "  ABSLAMC: qty 5, entry_price 731.15, trigger_price 730.65, setup_date 2026-11-19",
    ]


def test_paper_settings_are_printed_in_paper_mode_and_a_named_calendar_by_its_name(load_text: Load) -> None:
    lines = describe(load_text(MINIMAL.replace("practice", "paper") + "paper: {fee_rate: 0.0003}\n"))

    assert [line for line in lines if line.startswith(("paper", "practice", "session"))] == [
        "session: calendar XNSE, entry_delay 1m, exit_before_close 45m",
        "paper: fee_rate 0.0003",
    ]


@pytest.mark.parametrize(
    ("mode", "name"), [("practice", "journal.db"), ("paper", "journal-paper.db"), ("live", "journal-live.db")]
)
def test_practice_paper_and_live_never_share_a_journal(load_text: Load, tmp_path: Path, mode: str, name: str) -> None:
    """OPS-12"""
    config = load_text(f"mode: {mode}\n{STRATEGIES}")

    assert config.journal.path == tmp_path / "data" / name
