"""OANDA's REST side over real sockets: each request as the sheet writes it, each reply as it means it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from brokers.base import BrokerError, Fatal, Refused, Reported, Unanswered, Unavailable, Unreadable
from brokers.client_ids import ClientIds
from brokers.oanda import Oanda, environment, plain
from brokers.oanda_log import TransactionLog
from brokers.oanda_words import Asked, failure
from brokers.spelling import Spelling
from state.clock import SystemClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side, Status
from state.threads import OS_THREADS
from tests.brokers.oanda_double import ACCOUNT, TOKEN, OandaDouble

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
ID = "EUR_USD-20261120-E0"
UUID = ClientIds("journal", OS_THREADS).uuid(ID)


class JumpClock(SystemClock):
    """The machine's clock, which a test can put forward."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def jump(self, ms: int) -> None:
        self._ahead_ms += ms

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self._ahead_ms


def connect(double: OandaDouble, clock: Any = None, token: str = TOKEN, account: str = ACCOUNT, **more: Any) -> Oanda:
    clock = clock or SystemClock()
    ids, spelling = ClientIds("journal", OS_THREADS), Spelling(OS_THREADS)
    transactions = TransactionLog(ids, spelling, OS_THREADS)
    return Oanda(double.rest_url, token, account, 5.0, 30.0, clock, ids, transactions, spelling, **more)


def make(type: OrderType = OrderType.MARKET, side: Side = BUY, **more: Any) -> Order:
    fields = {"client_id": ID, "symbol": "EUR_USD", "purpose": Purpose.ENTRY, "qty": D(100)} | more
    return Order(side=side, type=type, **fields)


@pytest.fixture
def double() -> Iterator[OandaDouble]:
    found = OandaDouble().start()
    found.price("EUR_USD", "1.10000")
    found.price("USD_JPY", "150.123")
    yield found
    found.stop()


@pytest.fixture
def broker(double: OandaDouble) -> Iterator[Oanda]:
    found = connect(double)
    yield found
    found.close()


def stop_order(broker: Oanda, trigger: str = "1.09000", **more: Any) -> Order:
    """A stop that rests there."""
    order = make(OrderType.STOP, SELL, trigger_price=D(trigger), purpose=Purpose.STOP, client_id="EUR_USD-20261120-S0", **more)
    return msgspec.structs.replace(order, venue_id=broker.submit(order), status=Status.WORKING)


def hold(broker: Oanda, qty: str = "100") -> str:
    return broker.submit(make(qty=D(qty)))


# Requests, as the sheet writes them


ENCODED: list[tuple[Order, str]] = [
    (make(), '"type":"MARKET","instrument":"EUR_USD","units":"100","timeInForce":"FOK","positionFill":"OPEN_ONLY"'),
    (
        make(side=SELL, purpose=Purpose.EXIT),
        '"type":"MARKET","instrument":"EUR_USD","units":"-100","timeInForce":"FOK","positionFill":"REDUCE_ONLY"',
    ),
    (
        make(OrderType.LIMIT, limit_price=D("1.09000")),
        '"type":"LIMIT","instrument":"EUR_USD","units":"100","price":"1.09","timeInForce":"GTC","positionFill":"OPEN_ONLY"',
    ),
    (
        make(OrderType.STOP, SELL, trigger_price=D("1.09123"), purpose=Purpose.STOP),
        '"type":"STOP","instrument":"EUR_USD","units":"-100","price":"1.09123","timeInForce":"GTC","positionFill":"REDUCE_ONLY"',
    ),
    (
        make(OrderType.STOP_LIMIT, trigger_price=D("1.10100"), limit_price=D("1.10110")),
        '"type":"STOP","instrument":"EUR_USD","units":"100","price":"1.101","priceBound":"1.1011","timeInForce":"GTC",'
        '"positionFill":"OPEN_ONLY"',
    ),
    (
        make(OrderType.LIMIT, SELL, symbol="USD_JPY", limit_price=D("151.250"), purpose=Purpose.TARGET),
        '"type":"LIMIT","instrument":"USD_JPY","units":"-100","price":"151.25","timeInForce":"GTC","positionFill":"REDUCE_ONLY"',
    ),
]


@pytest.mark.parametrize(("order", "fields"), ENCODED, ids=[f"{order.type.value}-{order.purpose.value}" for order, _ in ENCODED])
def test_every_order_goes_out_byte_for_byte_as_the_sheet_writes_it(
    double: OandaDouble, broker: Oanda, order: Order, fields: str
) -> None:
    """PRO-19: signed units, prices without needless decimals, exits that can only reduce."""
    hold(broker) if order.purpose is not Purpose.ENTRY and order.symbol == "EUR_USD" else None
    order = msgspec.structs.replace(order, client_id="X-20261120-E7")

    broker.submit(order)

    key = ClientIds("journal", OS_THREADS).uuid("X-20261120-E7")
    sent = double.requests("POST", "/orders")[-1]
    assert sent.path == f"/v3/accounts/{ACCOUNT}/orders"
    assert sent.body.decode() == '{"order":{' + fields + f',"clientExtensions":{{"id":"{key}","comment":"X-20261120-E7"}}}}}}'
    wanted = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Accept-Datetime-Format": "RFC3339"}
    assert {name: sent.headers.get(name) for name in wanted} == wanted


def test_reads_ask_what_the_sheet_says(double: OandaDouble, broker: Oanda) -> None:
    broker.check(), broker.instrument("EUR_USD"), broker.quotes(["EUR_USD", "USD_JPY"]), broker.positions(), broker.orders()

    account = f"/v3/accounts/{ACCOUNT}"
    assert [one.path for one in double.requests("GET")] == [
        "/v3/accounts",
        f"{account}/summary",
        f"{account}/instruments?instruments=EUR_USD",
        f"{account}/pricing?instruments=EUR_USD,USD_JPY",
        f"{account}/openPositions",
        f"{account}/summary",
        f"{account}/transactions/idrange?from=1&to=1",
        f"{account}/transactions/sinceid?id=1",
    ]


def test_one_look_at_orders_and_fills_is_one_request(double: OandaDouble, broker: Oanda) -> None:
    broker.orders()
    before = len(double.requests("GET"))

    broker.orders(), broker.fills()

    assert [one.path for one in double.requests("GET")[before:]] == [f"/v3/accounts/{ACCOUNT}/transactions/sinceid?id=1"]


@pytest.mark.parametrize(("value", "text"), [("1.10000", "1.1"), ("100", "100"), ("1E+2", "100"), ("0.00001", "0.00001")])
def test_numbers_have_no_exponent_and_no_decimals_too_many(value: str, text: str) -> None:
    assert plain(D(value)) == text


@pytest.mark.parametrize("value", [None, D("NaN"), D("Infinity"), D(0)])
def test_what_is_no_number_is_not_sent(value: Decimal | None) -> None:
    with pytest.raises(Refused):
        plain(value)


# Orders and what became of them


def test_a_filled_market_order_is_known_with_its_price(double: OandaDouble, broker: Oanda) -> None:
    venue_id = hold(broker)

    row = broker.order(make(venue_id=venue_id))
    (fill,) = broker.fills()

    assert row is not None
    assert (row.state, row.qty, row.filled, row.average, row.client_id) == (Reported.FILLED, D(100), D(100), D("1.10000"), ID)
    assert (fill.venue_id, fill.side, fill.qty, fill.price, fill.fee) == (venue_id, BUY, D(100), D("1.10000"), D(0))
    assert [(row.symbol, row.qty, row.average) for row in broker.positions()] == [("EUR_USD", D(100), D("1.1"))]


def test_a_fee_is_in_the_accounts_currency() -> None:
    double = OandaDouble(commission="0.2500").start()
    double.price("EUR_USD", "1.10000")
    broker = connect(double)

    hold(broker)

    assert [(fill.fee, fill.fee_currency) for fill in broker.fills()] == [(D("0.2500"), "USD")]
    double.stop()


def test_one_fill_that_closes_several_trades_is_one_execution(double: OandaDouble, broker: Oanda) -> None:
    """The position moves by what was closed, reduced and opened."""
    for n in range(3):
        broker.submit(make(client_id=f"EUR_USD-20261120-E{n}", qty=D(10)))
    broker.submit(make(side=SELL, purpose=Purpose.EXIT, qty=D(25), client_id="EUR_USD-20261120-X0"))

    fill = double.of_type("ORDER_FILL")[-1]

    assert (len(fill["tradesClosed"]), fill["tradeReduced"]["units"]) == (2, "-5")
    assert (broker.fills()[-1].side, broker.fills()[-1].qty, double.net("EUR_USD")) == (SELL, D(25), D(5))


def test_a_change_keeps_the_order_id_though_the_venue_gives_a_new_one(double: OandaDouble, broker: Oanda) -> None:
    """The position is never without a stop: one request cancels and makes."""
    hold(broker)
    stop = stop_order(broker)

    for trigger in ("1.09100", "1.09200"):
        broker.replace(stop, D(100), D(trigger), None)
        row = broker.order(stop)
        assert row is not None
        assert (row.venue_id, row.state, row.trigger_price) == (stop.venue_id, Reported.WORKING, D(trigger))

    asked = double.requests("PUT")
    key = ClientIds("journal", OS_THREADS).uuid(f"{stop.client_id}>{stop.venue_id}")
    assert asked[0].path == f"/v3/accounts/{ACCOUNT}/orders/{stop.venue_id}"
    assert asked[0].body.decode() == (
        '{"order":{"type":"STOP","instrument":"EUR_USD","units":"-100","price":"1.091","timeInForce":"GTC",'
        f'"positionFill":"REDUCE_ONLY","clientExtensions":{{"id":"{key}","comment":"EUR_USD-20261120-S0"}}}}}}'
    )
    assert double.pending() == ["STOP -100 @ 1.092"]
    assert [row.venue_id for row in broker.orders() if row.state is Reported.WORKING] == [stop.venue_id]


def test_a_changed_order_is_cancelled_by_the_id_it_has_now(double: OandaDouble, broker: Oanda) -> None:
    hold(broker)
    stop = stop_order(broker)
    broker.replace(stop, D(100), D("1.09100"), None)

    broker.order(stop)
    broker.cancel(stop)

    row = broker.order(stop)
    assert row is not None
    assert (double.pending(), row.state, row.filled) == ([], Reported.CANCELLED, D(0))
    assert double.requests("PUT")[-1].body == b""


def test_after_a_restart_a_changed_order_is_found_by_its_first_id(double: OandaDouble, broker: Oanda) -> None:
    hold(broker)
    stop = stop_order(broker)
    broker.replace(stop, D(100), D("1.09100"), None)
    double.price("EUR_USD", "1.09090")

    row = connect(double).order(stop)

    assert row is not None
    assert (row.venue_id, row.state, row.filled, row.average) == (stop.venue_id, Reported.FILLED, D(100), D("1.09090"))
    assert row.client_id == stop.client_id


@pytest.mark.parametrize("named", [True, False], ids=["named", "by-its-batch"])
def test_what_a_partial_fill_leaves_goes_on_as_the_same_order(double: OandaDouble, broker: Oanda, named: bool) -> None:
    """FIL-04: the venue gives the rest a new id."""
    double.names_replaced = named
    order = make(OrderType.LIMIT, limit_price=D("1.09000"))
    order = msgspec.structs.replace(order, venue_id=broker.submit(order))

    double.price("EUR_USD", "1.09000", available="40")
    part = broker.order(order)
    double.price("EUR_USD", "1.08990")
    whole = broker.order(order)

    assert part is not None and whole is not None
    assert (part.venue_id, part.state, part.qty, part.filled) == (order.venue_id, Reported.WORKING, D(100), D(40))
    assert (whole.venue_id, whole.state, whole.qty, whole.filled) == (order.venue_id, Reported.FILLED, D(100), D(100))
    assert [(fill.venue_id, fill.qty) for fill in broker.fills()] == [(order.venue_id, D(40)), (order.venue_id, D(60))]


def test_a_partly_filled_order_is_changed_in_what_is_left(double: OandaDouble, broker: Oanda) -> None:
    order = make(OrderType.LIMIT, limit_price=D("1.09000"))
    order = msgspec.structs.replace(order, venue_id=broker.submit(order))
    double.price("EUR_USD", "1.09000", available="40")
    broker.order(order)

    broker.replace(order, D(100), None, D("1.08500"))

    row = broker.order(order)
    assert row is not None
    assert (row.qty, row.filled, row.limit_price) == (D(100), D(40), D("1.085"))
    assert double.pending() == ["LIMIT 60 @ 1.085"]
    with pytest.raises(Refused):
        broker.replace(order, D(40), None, D("1.08500"))


def test_an_order_that_is_gone_can_be_neither_changed_nor_cancelled(double: OandaDouble, broker: Oanda) -> None:
    hold(broker)
    stop = stop_order(broker)
    double.price("EUR_USD", "1.08990")

    for act in (lambda: broker.cancel(stop), lambda: broker.replace(stop, D(100), D("1.09100"), None)):
        with pytest.raises(Refused):
            act()


def test_a_change_that_ends_both_orders_is_refused_and_the_row_says_so(double: OandaDouble, broker: Oanda) -> None:
    hold(broker)
    stop = stop_order(broker)
    double.fail("replace", "cancelled", reason="INSUFFICIENT_MARGIN")

    with pytest.raises(Refused, match="INSUFFICIENT_MARGIN"):
        broker.replace(stop, D(100), D("1.09100"), None)

    row = broker.order(stop)
    assert row is not None and (row.state, row.reason) == (Reported.CANCELLED, "INSUFFICIENT_MARGIN")


def test_a_stop_limit_beyond_its_bound_is_cancelled_not_left_resting(double: OandaDouble, broker: Oanda) -> None:
    order = make(OrderType.STOP_LIMIT, trigger_price=D("1.10100"), limit_price=D("1.10110"))
    order = msgspec.structs.replace(order, venue_id=broker.submit(order))

    double.price("EUR_USD", "1.10200")

    row = broker.order(order)
    assert row is not None
    assert (row.type, row.state, row.reason, row.filled) == (
        OrderType.STOP_LIMIT,
        Reported.CANCELLED,
        "BOUNDS_VIOLATION",
        D(0),
    )


def test_an_exit_larger_than_the_position_cannot_turn_it_round(double: OandaDouble, broker: Oanda) -> None:
    """UNK-12: nor can an exit that was carried out twice."""
    hold(broker)
    for n in range(2):
        exit = make(side=SELL, purpose=Purpose.EXIT, client_id=f"EUR_USD-20261120-X{n}")
        with suppress(Refused):
            broker.submit(exit)

    assert double.net("EUR_USD") == 0


def test_an_entry_closes_nobody_elses_trades(double: OandaDouble, broker: Oanda) -> None:
    double.stranger("EUR_USD", "-50")

    with pytest.raises(Refused):
        hold(broker)

    assert double.net("EUR_USD") == -50


# What a 201 can mean, and the errors


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("MARKET_HALTED", Unavailable),
        ("INSTRUMENT_BID_HALTED", Unavailable),
        ("INSTRUMENT_ASK_HALTED", Unavailable),
        ("INSUFFICIENT_LIQUIDITY", Unavailable),
        ("BOUNDS_VIOLATION", Refused),
        ("INSUFFICIENT_MARGIN", Refused),
        ("STOP_LOSS_ON_FILL_LOSS", Refused),
        ("A_WORD_OF_TOMORROW", Refused),
        ("ACCOUNT_LOCKED", Fatal),
        ("ACCOUNT_NEW_POSITIONS_LOCKED", Fatal),
        ("ACCOUNT_ORDER_CREATION_LOCKED", Fatal),
        ("ACCOUNT_ORDER_FILL_LOCKED", Fatal),
        ("SOMETHING_LOCKED_TOMORROW", Fatal),
        ("MIGRATION", Fatal),
        ("INTERNAL_SERVER_ERROR", Unanswered),
    ],
)
def test_a_201_that_is_a_cancel_is_no_success(double: OandaDouble, broker: Oanda, reason: str, error: type[BrokerError]) -> None:
    """NET-13."""
    double.fail("create", "cancelled", reason=reason)

    with pytest.raises(error, match=reason) as raised:
        hold(broker)

    assert type(raised.value) is error
    assert (double.net("EUR_USD"), broker.orders()) == (0, [])


REFUSALS: list[tuple[Asked, int, Any, type[BrokerError]]] = [
    (Asked.CREATE, 400, {"errorCode": "UNITS_PRECISION_EXCEEDED", "orderRejectTransaction": {}}, Refused),
    (Asked.CREATE, 400, {"errorCode": "UNITS_MIMIMUM_NOT_MET"}, Refused),
    (Asked.CREATE, 400, {"errorCode": "INSUFFICIENT_MARGIN"}, Refused),
    (Asked.CREATE, 400, {"errorCode": "ACCOUNT_NOT_ACTIVE"}, Fatal),
    (Asked.CREATE, 400, {"errorCode": "ACCOUNT_LOCKED"}, Fatal),
    (Asked.CREATE, 400, {"errorCode": "CLIENT_ORDER_ID_ALREADY_EXISTS"}, Unanswered),
    (Asked.CREATE, 400, {"errorCode": "oanda::rest::core::InvalidParameterException"}, Refused),
    (Asked.CREATE, 400, None, Unanswered),
    (Asked.CREATE, 401, {"errorMessage": "Insufficient authorization to perform request."}, Fatal),
    (Asked.READ, 401, {"errorMessage": "Insufficient authorization to perform request."}, Fatal),
    (Asked.CREATE, 403, {"errorMessage": "Forbidden"}, Fatal),
    (Asked.CREATE, 404, {"errorMessage": "no account"}, Fatal),
    (Asked.CHANGE, 404, {"errorCode": "ORDER_DOESNT_EXIST"}, Refused),
    (Asked.CREATE, 405, {"errorMessage": "Method not allowed"}, Refused),
    (Asked.READ, 416, {"errorMessage": "not satisfiable"}, Fatal),
    (Asked.CREATE, 429, {"errorMessage": "slow down"}, Unavailable),
    (Asked.CREATE, 429, None, Unavailable),
    (Asked.CREATE, 500, {"errorMessage": "internal"}, Unanswered),
    (Asked.CREATE, 502, None, Unanswered),
    (Asked.CREATE, 503, None, Unanswered),
    (Asked.CHANGE, 504, None, Unanswered),
    (Asked.READ, 503, None, Unavailable),
    (Asked.CREATE, 201, None, Unanswered),
    (Asked.CREATE, 302, None, Unanswered),
    (Asked.CREATE, 418, {"errorMessage": "teapot"}, Unanswered),
]


@pytest.mark.parametrize(("asked", "status", "body", "error"), REFUSALS)
def test_every_row_of_the_error_table(asked: Asked, status: int, body: Any, error: type[BrokerError]) -> None:
    """UNK-02, NET-13."""
    content = b"<html>maintenance</html>" if body is None else json.dumps(body).encode()
    assert type(failure(asked, status, content)) is error


def test_a_maintenance_page_on_a_read_is_never_empty_or_flat(double: OandaDouble, broker: Oanda) -> None:
    """NET-13, REC-03."""
    for call, read in (
        ("sinceid", broker.orders),
        ("openPositions", broker.positions),
        ("pricing", lambda: broker.quotes(["EUR_USD"])),
    ):
        double.fail(call, "answer", status=503, body="<html>maintenance</html>")
        with pytest.raises(Unavailable):
            read()


def test_too_many_requests_say_when_to_come_again(double: OandaDouble, broker: Oanda) -> None:
    double.fail("create", "answer", status=429, body="{}", headers={"Retry-After": "3"})

    with pytest.raises(Unavailable) as raised:
        hold(broker)

    assert raised.value.retry_after_s == 3.0


def test_an_answer_older_than_what_has_been_heard_is_no_answer(double: OandaDouble, broker: Oanda) -> None:
    broker.orders()
    hold(broker)

    for call, read in (("sinceid", broker.orders), ("openPositions", broker.positions)):
        double.fail(call, "stale")
        with pytest.raises(Unavailable, match="stale"):
            read()

    assert len(broker.orders()) == 1


def test_no_error_text_holds_the_token(double: OandaDouble, broker: Oanda) -> None:
    double.fail("create", "answer", status=400, body=json.dumps({"errorCode": "X", "errorMessage": f"token {TOKEN} is odd"}))

    with pytest.raises(Refused) as raised:
        hold(broker)

    assert TOKEN not in str(raised.value) and "[token]" in str(raised.value)


# Unanswered submits


def unanswered(double: OandaDouble, broker: Oanda, *kinds: str, **more: Any) -> Order:
    double.fail("create", *kinds)
    order = make(changed_ms=broker._clock.monotonic_ms(), created_ms=broker._clock.now_ms(), status=Status.UNKNOWN, **more)
    with pytest.raises(Unanswered):
        broker.submit(order)
    return order


@pytest.mark.parametrize("kind", ["lost_after", "garbage"])
def test_an_order_whose_answer_was_lost_is_found_by_the_transactions(double: OandaDouble, broker: Oanda, kind: str) -> None:
    """UNK-16, UNK-04: it filled, and nothing is posted again."""
    order = unanswered(double, broker, kind)

    row = broker.resolve(order)

    assert row is not None
    assert (row.client_id, row.state, row.filled) == (ID, Reported.FILLED, D(100))
    assert len(double.requests("POST")) == 1


def test_absence_is_proved_by_a_complete_log_at_the_end_of_the_window(double: OandaDouble) -> None:
    """UNK-07, UNK-16."""
    clock = JumpClock()
    broker = connect(double, clock)
    order = unanswered(double, broker, "lost_before")

    with pytest.raises(Unavailable):
        broker.resolve(order)
    clock.jump(30_000)
    double.fail("sinceid", "answer", status=503)
    with pytest.raises(Unavailable):
        broker.resolve(order)

    assert broker.resolve(order) is None


def test_an_order_that_arrives_late_is_found_when_it_does(double: OandaDouble) -> None:
    """UNK-07."""
    clock = JumpClock()
    broker = connect(double, clock)
    order = unanswered(double, broker, "late")
    with pytest.raises(Unavailable):
        broker.resolve(order)

    clock.jump(29_000)
    double.arrive()

    row = broker.resolve(order)
    assert row is not None and row.state is Reported.FILLED


def test_a_lost_refusal_is_found_at_once(double: OandaDouble, broker: Oanda) -> None:
    double.fail("cancelled", "cancelled", reason="INSUFFICIENT_MARGIN")
    order = unanswered(double, broker, "lost_after")

    row = broker.resolve(order)

    assert row is not None and (row.state, row.reason, row.filled) == (Reported.REJECTED, "INSUFFICIENT_MARGIN", D(0))


def test_a_reject_is_found_as_well(double: OandaDouble, broker: Oanda) -> None:
    order = unanswered(double, broker, "lost_after", qty=D("100.5"))

    row = broker.resolve(order)

    assert row is not None and (row.state, row.reason) == (Reported.REJECTED, "UNITS_PRECISION_EXCEEDED")


def test_an_attempt_that_was_turned_away_before_does_not_answer_for_the_next(double: OandaDouble, broker: Oanda) -> None:
    """The same id goes out again after a halt: what became of the first says nothing about the second."""
    double.fail("create", "cancelled")
    with pytest.raises(Unavailable):
        hold(broker)
    order = unanswered(double, broker, "late")

    with pytest.raises(Unavailable):
        broker.resolve(order)
    double.arrive()

    row = broker.resolve(order)
    assert row is not None and row.state is Reported.FILLED


def test_two_orders_under_one_id_are_for_a_person(double: OandaDouble, broker: Oanda) -> None:
    hold(broker)
    hold(broker)

    with pytest.raises(Refused, match="all carry its id"):
        broker.resolve(make())


def test_after_a_restart_the_whole_log_is_read_back_page_by_page() -> None:
    """UNK-16: nothing has to be stored."""
    double = OandaDouble(history=2_500).start()
    double.price("EUR_USD", "1.10000")
    order = unanswered(double, connect(double), "lost_after")

    row = connect(double).resolve(order)

    assert row is not None and (row.client_id, row.filled) == (ID, D(100))
    assert [one.path.partition("?")[2] for one in double.requests("GET", "idrange")] == [
        "from=1504&to=2503",
        "from=504&to=1503",
        "from=1&to=503",
    ]
    double.stop()


def test_a_log_with_a_hole_is_not_read_over(double: OandaDouble, broker: Oanda) -> None:
    broker.orders()
    hold(broker)
    hold(broker)
    hole = double.transactions.pop(2)
    double._first += 1

    with pytest.raises(Unreadable, match="missing"):
        broker.orders()

    double.transactions.insert(2, hole)
    double._first -= 1
    assert len(broker.orders()) == 2


def test_more_transactions_than_a_page_holds_are_read_on() -> None:
    double = OandaDouble(page=3).start()
    double.price("EUR_USD", "1.10000")
    broker = connect(double)
    broker.orders()

    for n in range(4):
        broker.submit(make(client_id=f"EUR_USD-20261120-E{n}"))

    assert [row.client_id for row in broker.orders()] == [f"EUR_USD-20261120-E{n}" for n in range(4)]
    double.stop()


# The rest of the contract


def test_an_account_that_cannot_be_used_is_refused_at_the_start(double: OandaDouble, broker: Oanda) -> None:
    assert broker.check() == "practice"
    for act in (
        lambda: connect(double, token="wrong").check(),
        lambda: connect(double, account="101-004-1-001").check(),
        lambda: connect(double, stream_urls=("https://stream-fxtrade.oanda.com/v3",)).check(),
        lambda: _with(double.accounts[0], "mt4AccountID", 7, broker.check),
        lambda: _hedging(double, broker),
    ):
        with pytest.raises(Fatal):
            act()


def _with(row: dict[str, Any], key: str, value: object, act: Callable[[], object]) -> None:
    row[key] = value
    try:
        act()
    finally:
        del row[key]


def _hedging(double: OandaDouble, broker: Oanda) -> None:
    double.hedging = True
    broker.check()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://api-fxtrade.oanda.com/v3", "live"),
        ("https://stream-fxpractice.oanda.com/v3", "practice"),
        ("http://127.0.0.1:8080/v3", "practice"),
    ],
)
def test_the_address_says_whose_money_it_is(url: str, word: str) -> None:
    assert environment(url) == word


def test_an_account_that_drops_client_ids_gets_no_second_entry(double: OandaDouble, broker: Oanda) -> None:
    double.keeps_client_ids = False
    hold(broker)

    with pytest.raises(Fatal, match="client ids"):
        hold(broker)
    broker.submit(make(side=SELL, purpose=Purpose.EXIT, client_id="EUR_USD-20261120-X0"))

    assert double.net("EUR_USD") == 0


def test_instruments_come_with_their_own_grid(broker: Oanda) -> None:
    assert broker.instrument("EUR_USD") == Instrument(
        "EUR_USD", "OANDA", D("0.00001"), D(1), min_qty=D(1), freeze_qty=D(100000000), base="EUR", quote="USD"
    )
    assert broker.instrument("USD_JPY").tick_size == D("0.001")
    with pytest.raises(Refused):
        broker.instrument("GBP_XXX")


def test_quotes_are_bids_and_halted_ones_are_missing(double: OandaDouble, broker: Oanda) -> None:
    double.halt("USD_JPY")

    assert broker.quotes(["EUR_USD", "USD_JPY"]) == {"EUR_USD": D("1.10000")}


def test_a_halted_market_is_a_reason_to_come_again(double: OandaDouble, broker: Oanda) -> None:
    double.halt("EUR_USD")

    with pytest.raises(Unavailable, match="MARKET_HALTED"):
        hold(broker)

    assert broker.orders() == []


def test_the_venues_clock_is_read_from_its_answers(broker: Oanda) -> None:
    broker.check()

    assert broker.skew_ms() == 0
    assert broker.session_hours(date(2026, 11, 20)) is None


def test_strangers_orders_are_shown_without_an_id_of_ours(double: OandaDouble, broker: Oanda) -> None:
    double.stranger("EUR_USD", "7")

    assert [(row.client_id, row.symbol, row.side, row.filled) for row in broker.orders()] == [(None, "EUR_USD", BUY, D(7))]


def test_a_fill_that_lacks_its_price_makes_its_order_unclear(double: OandaDouble, broker: Oanda) -> None:
    """Every number is gated: none is made up."""
    venue_id = hold(broker)
    fill = double.of_type("ORDER_FILL")[0]
    for key in ("price", "fullVWAP", "tradeOpened"):
        del fill[key]

    row = broker.order(make(venue_id=venue_id))

    assert row is not None and (row.state, row.filled) == (Reported.UNCLEAR, None)
    assert (broker.fills(), broker.refused()) == ([], {"refused transactions": 1})
