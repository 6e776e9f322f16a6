"""One symbol under several names, from the table of names to positions, executions, orders and ticks over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal as D
from typing import Any

import pytest

from brokers.base import PositionRow
from brokers.dialect import Message, Noise, Subscribed, Tick
from brokers.openalgo import OpenAlgo
from brokers.openalgo_stream import OpenAlgoStream
from brokers.reports import Reports
from brokers.spelling import Spelling
from state.clock import VirtualClock
from state.snapshot import Phase
from state.threads import OS_THREADS
from tests.brokers.http_stub import Act, HttpStub, reply
from tests.harness import Story
from tests.state.builders import SYMBOL

OTHER_NAMES = ["SBIN", "SBIN-EQ", "sbin", " SBIN ", "sbin-eq ", "3045", 3045]
NOT_OURS = ["SBIN-BE", "SBINEQ", "SBI", "", None, "304"]


@pytest.fixture
def server() -> Iterator[HttpStub]:
    with HttpStub() as stub:
        stub.on(
            "/api/v1/symbol", _data({"symbol": "SBIN", "brsymbol": "SBIN-EQ", "token": "3045", "tick_size": 0.05, "lotsize": 1})
        )
        yield stub


@pytest.fixture
def spelling() -> Spelling:
    return Spelling(OS_THREADS)


@pytest.fixture
def broker(server: HttpStub, spelling: Spelling) -> Iterator[OpenAlgo]:
    made = OpenAlgo(server.url, "key", "NSE", "MIS", 2, 30, VirtualClock(), spelling=spelling)
    made.instrument("SBIN")
    yield made
    made.close()


def _data(found: Any) -> Act:
    return reply(200, {"data": found, "status": "success"})


def _trade(symbol: object, **changes: Any) -> dict[str, Any]:
    row = {"action": "BUY", "average_price": 731.15, "exchange": "NSE", "orderid": "7", "product": "MIS", "quantity": 5}
    return {**row, "symbol": symbol, "tradeid": "T1", "timestamp": "09:16:36", **changes}


def _order(symbol: object, **changes: Any) -> dict[str, Any]:
    row = {"action": "BUY", "exchange": "NSE", "order_status": "open", "orderid": "7", "pricetype": "MARKET", "product": "MIS"}
    return {**row, "quantity": 5, "symbol": symbol, "timestamp": "09:16:36", **changes}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_rows_under_another_name_count_for_ours(server: HttpStub, broker: OpenAlgo, name: object) -> None:
    """REC-10: series suffix, contract number, case and blanks; two rows of one thing add up."""
    held = {"exchange": "nse ", "product": "mis", "average_price": 731.15}
    server.on("/api/v1/positionbook", _data([{**held, "quantity": 2, "symbol": name}, {**held, "quantity": 3, "symbol": "SBIN"}]))
    server.on("/api/v1/orderbook", _data([_order(name)]))
    server.on("/api/v1/tradebook", _data([_trade(name)]))
    server.on("/api/v1/multiquotes", reply(200, {"results": [{"symbol": name, "data": {"ltp": 731}}], "status": "success"}))

    assert broker.positions() == [PositionRow("SBIN", D(5), D("731.15"))]
    assert [row.symbol for row in (*broker.orders(), *broker.fills())] == ["SBIN", "SBIN"]
    assert broker.quotes(["SBIN"]) == {"SBIN": D(731)}


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_name_that_is_not_ours_stays_what_it_is(broker: OpenAlgo, spelling: Spelling, name: object) -> None:
    """REC-10: another series is another thing."""
    assert spelling.ours(name) == ("" if name is None else str(name).strip())


@pytest.mark.parametrize(("ours", "shown"), [("SBIN", "SBIN-EQ"), ("SBIN-EQ", "SBIN"), ("M&M", "m&m-eq")])
def test_the_ordinary_series_is_the_same_thing_with_or_without_its_suffix(spelling: Spelling, ours: str, shown: str) -> None:
    """REC-10: whichever of the two is configured, and though the venue never named the other."""
    spelling.add(ours)

    assert (spelling.ours(shown), spelling.ours(ours), spelling.ours(f"{shown}X")) == (ours, ours, f"{shown}X")


def test_a_name_that_fits_two_of_ours_counts_for_neither(spelling: Spelling) -> None:
    spelling.add("SBIN", "1")
    spelling.add("TCS", "1")
    spelling.add("SBIN-EQ")

    assert [spelling.ours(name) for name in ("1", "SBIN", "SBIN-EQ", " sbin", "sbin-eq")] == [
        "1",
        "SBIN",
        "SBIN-EQ",
        "SBIN",
        "SBIN-EQ",
    ]


@pytest.mark.parametrize("other", [{"product": "CNC"}, {"exchange": "BSE"}])
def test_orders_and_trades_of_another_product_are_another_thing(
    server: HttpStub, broker: OpenAlgo, other: dict[str, Any]
) -> None:
    """REC-09: a purchase for delivery is no trade against our intraday position, and no candidate for an unanswered order."""
    server.on("/api/v1/orderbook", _data([_order("SBIN", **other)]))
    server.on("/api/v1/tradebook", _data([_trade("SBIN", **other)]))

    names = [row.symbol for row in (*broker.orders(), *broker.fills())]

    assert names == [f"SBIN {other.get('exchange', 'NSE')} {other.get('product', 'MIS')}"] * 2


# -- the stream --------------------------------------------------------------------------------------------------------------


def _receive(spelling: Spelling, **fields: Any) -> Message:
    dialect = OpenAlgoStream("ws://127.0.0.1:1", "key", "NSE", spelling)
    dialect.subscribe(["SBIN"])
    return dialect.receive(json.dumps(fields).encode())


@pytest.mark.parametrize("name", [name for name in OTHER_NAMES if isinstance(name, str)])
def test_ticks_and_answers_under_another_name_are_not_lost(broker: OpenAlgo, spelling: Spelling, name: str) -> None:
    """REC-10: broker and stream share their names."""
    data = {"ltp": 731.5, "timestamp": 1_795_175_281_009}

    assert _receive(spelling, type="market_data", symbol=name, exchange="NSE", data=data) == Tick(
        "SBIN", D("731.5"), 1_795_175_281_009
    )
    assert _receive(
        spelling, type="subscribe", status="partial", subscriptions=[{"symbol": name, "exchange": "nse", "status": "success"}]
    ) == Subscribed(("SBIN",), {})
    update = _receive(
        spelling, type="order_update", orderid=7, symbol=name, exchange="NSE", action="BUY", quantity=5, order_status="open"
    )
    assert getattr(update, "symbol", update) == "SBIN"


def test_a_tick_of_the_other_series_or_exchange_is_none_of_ours(broker: OpenAlgo, spelling: Spelling) -> None:
    data = {"ltp": 731.5, "timestamp": 1_795_175_281_009}

    assert _receive(spelling, type="market_data", symbol="SBIN", exchange="BSE", data=data) == Noise("other exchange")
    assert _receive(spelling, type="market_data", symbol="SBIN-BE", exchange="NSE", data=data) == Tick(
        "SBIN-BE", D("731.5"), 1_795_175_281_009
    )


# -- what follows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SBIN-EQ", "sbin ", "3045"])
def test_a_position_under_another_name_stacks_no_entry_and_raises_no_alarm(server: HttpStub, broker: OpenAlgo, name: str) -> None:
    """REC-10: what the adapter reads over its socket is what our fills say: nothing is FOREIGN, DIVERGED or bought again."""
    story = Story(max_entries=3)
    story.hold()
    row = {"exchange": "NSE", "product": "MIS", "average_price": 731.15, "quantity": 5, "symbol": name}
    server.on("/api/v1/positionbook", _data([row]))
    story.venue.always("positions", lambda act: broker.positions())

    story.polls(4)
    story.tick("730.65", "731.15", "731.20")
    story.polls(2)

    assert isinstance(story.reports, Reports)
    assert (story.s.phase, story.s.position, story.s.foreign_qty, story.s.disagreements) == (Phase.LONG, 5, 0, 0)
    assert (story.sent("E"), story.alarms, story.s.symbol) == (["E BUY 5"], [], SYMBOL)
