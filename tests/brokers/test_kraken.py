"""The Kraken adapter over real sockets: each request byte for byte, each trap of the venue sheet, each unknown outcome."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

from brokers.base import Fatal, FillRow, Frugal, Paced, PositionRow, Refused, Reported, Resolver, Unanswered, Unavailable
from brokers.client_ids import ClientIds
from brokers.kraken import AMEND_GAP_MS, DEADLINE_MS, PROOF_MS, Kraken
from brokers.kraken_key import LOCKED_OUT_MS, Key
from brokers.kraken_names import Executions, Names
from brokers.transport import Reply, Transport
from brokers.venues import Account, connect
from state.clock import SystemClock, VirtualClock
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side
from tests.brokers.kraken_double import KEY, LOST, SECRET, KrakenDouble, counted, order_id
from tests.state.builders import D

NOW_MS = 1_795_176_000_000  # 2026-11-20T12:00:00Z
BTC = "BTC/USD"


class Mono(VirtualClock):
    """Session time beside monotonic time, both moved by hand; a wait of ours never takes real time."""

    def __init__(self) -> None:
        super().__init__(NOW_MS)


class InProcess(Transport):
    """A transport without a socket, to the double's own front door: thousands of calls on a virtual clock."""

    def __init__(self, double: KrakenDouble, clock: VirtualClock) -> None:
        super().__init__("http://127.0.0.1:1", 10.0, clock=clock, wall=clock)
        self._double = double
        self.dated = True

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Any = None, *, read: bool = False, deadline_s: Any = None
    ) -> Reply:
        told = self._double.answer(method, path, {name.lower(): value for name, value in (headers or {}).items()}, body)
        if told is LOST:
            raise (Unavailable if read else Unanswered)(f"{path}: no answer")
        status, content = told  # type: ignore[misc]
        return Reply(status, content, 0, _date(self._double.now_ms()) if self.dated else None, None, self._wall.now_ms())


def _date(ms: int) -> str:
    return formatdate(ms // 1000, usegmt=True)


class Desk:
    """One account on a virtual clock, without sockets."""

    def __init__(self, **double: Any) -> None:
        self.clock = Mono()
        self.venue = KrakenDouble(self.clock, **double)
        self.kraken = self.restarted()
        self.venue.engine.tick("XBTUSD", D("50000"), NOW_MS)

    def restarted(self) -> Kraken:
        names, ids, self.executions = Names(self.clock), ClientIds("journal", self.clock.threads), Executions(self.clock)
        transport = InProcess(self.venue, self.clock)
        kraken = Kraken(
            "http://127.0.0.1:1",
            Key(KEY, SECRET, self.clock),
            10,
            30,
            self.clock,
            names,
            ids,
            self.executions,
            transport=transport,
        )
        for symbol in (BTC, "ETH/USD", "SOL/USD", "DOGE/USD"):
            kraken.instrument(symbol)
        return kraken

    def hear_by_stream(self, told: int) -> int:
        """Executions from the `told`-th on, as the private stream would tell them."""
        fills = self.venue.engine.fills()
        for fill in fills[told:]:
            self.executions.add(msgspec.structs.replace(fill, venue_id=order_id(fill.venue_id), trade_id=f"S{fill.trade_id}"))
        return len(fills)

    def sent(self, name: str) -> list[str]:
        """The bodies of this call, less nonce, deadline and derived ids."""
        told = (call.body.decode() for call in self.venue.named(name))
        told = (re.sub(r"^nonce=\d+&?", "", text) for text in told)
        return [re.sub(r"cl_ord_id=[0-9a-f]{32}", "cl_ord_id=<32 hex>", text) for text in told]


def order(number: int = 0, **changes: Any) -> Order:
    known: dict[str, Any] = {
        "client_id": f"{BTC}-20261120-E{number}",
        "symbol": BTC,
        "purpose": Purpose.ENTRY,
        "side": Side.BUY,
        "type": OrderType.MARKET,
        "qty": D("0.01"),
        "created_ms": NOW_MS,
    }
    return Order(**(known | changes))


def stop(number: int = 1, price: str = "49000", **changes: Any) -> Order:
    known = {"purpose": Purpose.STOP, "side": Side.SELL, "type": OrderType.STOP, "trigger_price": D(price)}
    return order(number, **({"client_id": f"{BTC}-20261120-S{number}"} | known | changes))


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- requests, byte for byte --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (order(), "pair=XBTUSD&type=buy&ordertype=market&volume=0.01&"),
        (
            order(type=OrderType.LIMIT, limit_price=D("37500.0"), qty=D("1.25")),
            "pair=XBTUSD&type=buy&ordertype=limit&price=37500&volume=1.25&",
        ),
        (stop(price="36000", qty=D("1.25")), "pair=XBTUSD&type=sell&ordertype=stop-loss&price=36000&volume=1.25&"),
        (
            stop(price="36000", type=OrderType.STOP_LIMIT, limit_price=D("35900"), qty=D("1.25")),
            "pair=XBTUSD&type=sell&ordertype=stop-loss-limit&price=36000&price2=35900&volume=1.25&",
        ),
        (
            order(type=OrderType.STOP, trigger_price=D("51000"), symbol="DOGE/USD", qty=D("30")),
            "pair=XDGUSD&type=buy&ordertype=stop-loss&price=51000&volume=30&",
        ),
        (order(purpose=Purpose.EXIT, side=Side.SELL, qty=D("1E-4")), "pair=XBTUSD&type=sell&ordertype=market&volume=0.0001&"),
    ],
    ids=["market", "limit", "stop", "stop-limit", "buy-stop", "exit"],
)
def test_each_kind_of_order_as_the_sheet_writes_it(desk: Desk, asked: Order, expected: str) -> None:
    """PRO-19: the trigger in `price`, the limit of a stop-limit in `price2`."""
    desk.venue.balances["XXBT"] = D(5)

    desk.kraken.submit(asked)

    assert desk.sent("AddOrder") == [expected + "oflags=fciq&cl_ord_id=<32 hex>&deadline=2026-11-20T12:00:05Z"]


def test_amend_and_cancel_as_the_sheet_writes_them(desk: Desk) -> None:
    first, second = stop(1), stop(2, type=OrderType.STOP_LIMIT, limit_price=D("48900"))
    working = [_as_placed(desk.kraken.submit(asked), asked) for asked in (first, second)]

    desk.kraken.replace(working[0], D("0.02"), D("49100.5"), None)
    desk.clock.advance(AMEND_GAP_MS)
    desk.kraken.replace(working[1], D("0.01"), D("49200"), D("49100"))
    desk.kraken.cancel(working[0])

    assert desk.sent("AmendOrder") == [
        "txid=O00001-DOUBL-EKRAKN&order_qty=0.02&trigger_price=49100.5&deadline=2026-11-20T12:00:05Z",
        "txid=O00002-DOUBL-EKRAKN&limit_price=49100&trigger_price=49200&deadline=2026-11-20T12:00:20Z",
    ]
    assert desk.sent("CancelOrder") == ["txid=O00001-DOUBL-EKRAKN"]
    assert desk.venue.book() == ["sell stop-loss-limit 0.01 @ 49200"]


def test_reads_as_the_sheet_writes_them(desk: Desk) -> None:
    placed = _as_placed(desk.kraken.submit(stop()), stop())
    desk.kraken.orders()
    desk.kraken.fills()
    desk.kraken.positions()
    desk.kraken.order(amended(placed, venue_id="O00099-DOUBL-EKRAKN"))

    told = {name: desk.sent(name) for name in ("QueryOrders", "TradesHistory", "Balance", "OpenOrders", "ClosedOrders")}

    assert told == {
        "QueryOrders": ["txid=O00001-DOUBL-EKRAKN", "txid=O00099-DOUBL-EKRAKN"],
        "TradesHistory": ["start=1795089600&ofs=0&consolidate_taker=false"],
        "Balance": [""],
        "OpenOrders": ["cl_ord_id=<32 hex>"],
        "ClosedOrders": ["cl_ord_id=<32 hex>&start=1795175940"],
    }


def amended(asked: Order, **changes: Any) -> Order:
    return msgspec.structs.replace(asked, **changes)


def _as_placed(venue_id: str, asked: Order) -> Order:
    return amended(asked, venue_id=venue_id)


def test_signature_key_and_form(desk: Desk) -> None:
    """The double checks the signature by itself; a wrong secret is Fatal."""
    desk.kraken.positions()
    headers = desk.venue.calls[-1].headers
    wrong = Desk()
    wrong.kraken._key = Key(KEY, "d3Jvbmc=", wrong.clock)

    with pytest.raises(Fatal, match="Invalid signature"):
        wrong.kraken.positions()
    assert (headers["api-key"], headers["content-type"]) == (KEY, "application/x-www-form-urlencoded")


def test_a_secret_that_is_none_is_said_without_showing_it() -> None:
    with pytest.raises(ValueError, match="is not base64") as error:
        Key(KEY, "my precious secret!", VirtualClock())
    assert "precious" not in str(error.value)


# -- orders -------------------------------------------------------------------------------------------------------------


def test_an_id_is_the_same_after_a_restart_and_another_for_another_order(desk: Desk) -> None:
    desk.kraken.submit(stop(1))
    desk.kraken.submit(stop(2))
    desk.clock.advance(1)
    again = desk.restarted()

    found = [row.client_id for row in again.orders()]
    again.resolve(stop(1))

    assert found == [None, None]
    assert [row.client_id for row in again.orders()] == [stop(1).client_id]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("EOrder:Insufficient funds", Refused),
        ("EOrder:Rate limit exceeded", Unavailable),
        ("EService:Deadline elapsed", Unavailable),
        ("EService:Busy", Unanswered),
        ("EGeneral:Internal error", Unanswered),
        ("EGeneral:Permission denied", Fatal),
        ("ETeapot:unheard of", Unanswered),
    ],
)
def test_a_200_with_an_error_is_what_the_table_says(desk: Desk, text: str, error: type[Exception]) -> None:
    """NET-13, NET-14."""
    desk.venue.faults["AddOrder"].append(("error", text))

    with pytest.raises(error, match=re.escape(text)):
        desk.kraken.submit(order())
    assert desk.venue.placed() == 0


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"", b'{"error":[]}', b'{"error":[],"result":{"txid":[]}}', b"[]"])
def test_an_answer_that_cannot_be_used_is_no_answer(desk: Desk, body: bytes) -> None:
    """UNK-04."""
    desk.venue.faults["AddOrder"].append(("reply", 200, body))

    with pytest.raises(Unanswered):
        desk.kraken.submit(order())


def test_an_id_that_is_not_unique_proves_that_the_order_is_there(desk: Desk) -> None:
    """UNK-14: adopted, not sent anew."""
    desk.kraken.submit(stop())

    with pytest.raises(Unanswered, match="there already"):
        desk.kraken.submit(stop())
    row = desk.kraken.resolve(stop())

    assert row is not None
    assert (row.venue_id, row.client_id, row.state) == ("O00001-DOUBL-EKRAKN", stop().client_id, Reported.WORKING)


def test_a_cancel_of_what_is_over_is_refused_and_the_book_tells_how_it_ended(desk: Desk) -> None:
    placed = _as_placed(desk.kraken.submit(order()), order())
    never = _as_placed("O00077-DOUBL-EKRAKN", stop())

    for gone, words in ((placed, "Unknown order"), (never, "Invalid order")):
        with pytest.raises(Refused, match=words):
            desk.kraken.cancel(gone)
    row = desk.kraken.order(placed)

    assert row is not None
    assert (row.state, row.filled, row.average) == (Reported.FILLED, D("0.01"), D("50000"))


def test_the_venue_sees_a_deadline_by_its_own_clock() -> None:
    """Pitfall 15, NET-12: our clock is 10 s fast, the deadline is not."""
    desk = Desk()
    desk.venue.skew_ms = -10_000
    desk.kraken.check()

    desk.kraken.submit(stop())

    assert desk.venue.calls[-1].fields["deadline"] == "2026-11-20T11:59:55Z"
    assert desk.kraken.skew_ms() == 9001


# -- looks and their price ----------------------------------------------------------------------------------------------


def test_a_look_is_one_call_for_all_our_orders_and_now_and_then_one_for_everybodys(desk: Desk) -> None:
    """NET-11: at most one private call in a poll."""
    for number in range(3):
        desk.kraken.submit(stop(number))
    desk.kraken.fills()
    desk.venue.calls.clear()

    shown = []
    for _ in range(12):
        shown.append([row.venue_id for row in desk.kraken.orders()])
        desk.kraken.fills()
        desk.clock.advance(5_000)

    assert [call.name for call in desk.venue.calls] == ["QueryOrders"] * 11 + ["OpenOrders"]
    assert shown == [[f"O0000{n}-DOUBL-EKRAKN" for n in (1, 2, 3)]] * 12


def test_an_order_of_somebody_else_is_shown_and_not_asked_for_again(desk: Desk) -> None:
    desk.venue._AddOrder({"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "40000", "volume": "1"})

    first = desk.kraken.orders()
    desk.kraken.submit(stop())
    desk.kraken.orders()

    assert [(row.venue_id, row.client_id) for row in first] == [("O00001-DOUBL-EKRAKN", None)]
    assert desk.sent("QueryOrders") == ["txid=O00002-DOUBL-EKRAKN"]


def test_of_more_than_fifty_orders_those_that_are_over_are_asked_for_no_more(desk: Desk) -> None:
    for number in range(60):
        desk.kraken.submit(order(number, type=OrderType.LIMIT, limit_price=D("40000")) if number % 2 else order(number))
        desk.clock.advance(2_000)
        desk.kraken.orders()
    desk.kraken.orders()

    asked = desk.sent("QueryOrders")[-1].removeprefix("txid=").split(",")

    assert len(asked) <= 50
    assert {f"O{number + 1:05d}-DOUBL-EKRAKN" for number in range(1, 60, 2)} <= set(asked)


def test_an_empty_answer_is_no_proof_until_both_lists_agree(desk: Desk) -> None:
    """Pitfall 5."""
    lost = _as_placed(desk.kraken.submit(stop()), stop())
    desk.venue.faults["QueryOrders"].extend([("reply", 200, b'{"error":[],"result":{}}')] * 2)

    row = desk.kraken.order(lost)
    desk.venue.faults["ClosedOrders"].append(("error", "EService:Busy"))
    with pytest.raises(Unavailable):
        desk.kraken.order(lost)
    never = desk.kraken.order(_as_placed("O00077-DOUBL-EKRAKN", stop(9)))

    assert row is not None and row.venue_id == lost.venue_id
    assert never is None


def test_the_trade_history_is_asked_at_the_start_and_where_an_execution_is_missing(desk: Desk) -> None:
    """Two points each: not in every look."""
    desk.kraken.fills()
    placed = desk.kraken.submit(order())
    before = desk.kraken.fills()
    desk.clock.advance(11_000)
    desk.kraken.orders()
    after = desk.kraken.fills()
    desk.clock.advance(60_000)
    desk.kraken.orders()

    assert before == []
    assert (
        after
        == desk.kraken.fills()
        == [FillRow("T00001-DOUBL-EKRAKN", placed, BTC, Side.BUY, D("0.01"), D("50000"), NOW_MS, D("2"), "USD")]
    )
    assert len(desk.sent("TradesHistory")) == 2


def test_a_long_history_is_read_page_by_page(desk: Desk) -> None:
    for number in range(120):
        desk.venue._engine_levels.clear()
        desk.venue._AddOrder({"pair": "XBTUSD", "type": "buy", "ordertype": "market", "volume": "0.001"})
        desk.venue.engine.match_idle("XBTUSD", NOW_MS + number)

    assert len({fill.trade_id for fill in desk.kraken.fills()}) == 120
    assert [text.split("&")[1] for text in desk.sent("TradesHistory")] == ["ofs=0", "ofs=50", "ofs=100"]


def test_balances_by_their_usual_names_without_other_wallets(desk: Desk) -> None:
    """Pitfall 13."""
    desk.venue.balances["XXBT"] = D("0.5")

    assert desk.kraken.positions() == [PositionRow("USD", D(1_000_000)), PositionRow("BTC", D("0.5"))]


def test_a_read_that_fails_is_never_empty(desk: Desk) -> None:
    """NET-13: maintenance pages, lost answers and texts of any kind."""
    for name, read in (
        ("OpenOrders", desk.kraken.orders),
        ("Balance", desk.kraken.positions),
        ("TradesHistory", desk.kraken.fills),
    ):
        for fault in (("reply", 503, b"<html>"), ("reply", 200, b"<html>"), ("error", "EService:Unavailable"), "lose_after"):
            desk.venue.faults[name].append(fault)
            desk.executions.want_all()
            desk.clock.advance(10_000)
            with pytest.raises(Unavailable):
                read()


def test_quotes_and_instruments(desk: Desk) -> None:
    assert desk.kraken.quotes([BTC, "ETH/USD"]) == {BTC: D("50000")}
    assert desk.kraken.instrument(BTC) == Instrument(
        BTC, "KRAKEN", D("0.1"), D("1E-8"), min_qty=D("0.0001"), min_notional=D("0.5"), base="BTC", quote="USD"
    )
    with pytest.raises(Refused, match="Unknown asset pair"):
        desk.kraken.instrument("FOO/USD")


# -- the key ------------------------------------------------------------------------------------------------------------


def test_a_nonce_refused_once_is_unavailable_and_twice_in_a_row_fatal(desk: Desk) -> None:
    """NET-11."""
    desk.venue.faults["Balance"].extend([("error", "EAPI:Invalid nonce")] * 3)

    with pytest.raises(Unavailable):
        desk.kraken.positions()
    with pytest.raises(Fatal, match="another process uses this key"):
        desk.kraken.positions()
    with pytest.raises(Fatal):
        desk.kraken.positions()
    desk.kraken.positions()
    desk.venue.faults["Balance"].append(("error", "EAPI:Invalid nonce"))
    with pytest.raises(Unavailable):
        desk.kraken.positions()


def test_a_lockout_is_waited_out_in_silence(desk: Desk) -> None:
    desk.venue.faults["Balance"].append(("error", "EGeneral:Temporary lockout"))

    for _ in range(5):
        with pytest.raises(Fatal):
            desk.kraken.positions()
    calls = len(desk.venue.calls)
    desk.clock.advance(LOCKED_OUT_MS)

    assert (calls, len(desk.kraken.positions())) == (1, 1)


def test_a_throttled_key_is_silent_until_the_time_that_it_was_told(desk: Desk) -> None:
    desk.venue.faults["AddOrder"].append(("error", f"EService: Throttled: {NOW_MS // 1000 + 20}"))

    for _ in range(3):
        with pytest.raises(Unavailable):
            desk.kraken.submit(order())
    calls = len(desk.venue.calls)
    desk.clock.advance(20_000)
    desk.kraken.submit(order())

    assert (calls, len(desk.venue.calls)) == (1, 2)


def test_a_trail_goes_out_every_fifteen_seconds_and_a_new_quantity_at_once(desk: Desk) -> None:
    """NET-11."""
    placed = _as_placed(desk.kraken.submit(stop()), stop())
    desk.kraken.replace(placed, D("0.01"), D("49100"), None)

    with pytest.raises(Paced, match="due in 15000 ms"):
        desk.kraken.replace(placed, D("0.01"), D("49200"), None)
    desk.kraken.replace(placed, D("0.02"), D("49200"), None)
    desk.clock.advance(AMEND_GAP_MS)
    desk.kraken.replace(amended(placed, qty=D("0.02")), D("0.02"), D("49300"), None)

    assert desk.venue.book() == ["sell stop-loss 0.02 @ 49300"]


def test_looks_beside_the_regular_ones_end_before_the_venue_counts_them_out(desk: Desk) -> None:
    desk.kraken.submit(stop())
    looks = 0
    while desk.kraken.affords_a_look(True):
        desk.kraken.orders()
        looks += 1
    later = [desk.kraken.affords_a_look(True) for _ in range(2) if desk.clock.advance(3_100) is None]

    assert (looks, later, desk.kraken.affords_a_look(False), desk.venue.lockouts) == (9, [True, True], False, 0)
    assert isinstance(desk.kraken, Frugal) and isinstance(desk.kraken, Resolver)


def test_reads_wait_until_the_venue_can_count_them(desk: Desk) -> None:
    """NET-11: thirty at once take the time that the counter needs; none is refused."""
    for _ in range(30):
        desk.kraken.positions()

    assert (len(desk.venue.calls), desk.venue.lockouts) == (30, 0)
    assert desk.clock.now_ms() - NOW_MS >= 55_000


def test_an_exit_does_not_wait_for_the_counter(desk: Desk) -> None:
    """NET-02: orders are not counted there, and proofs of orders have room of their own."""
    for _ in range(11):
        desk.kraken.positions()
    began_ms = desk.clock.now_ms()

    desk.venue.balances["XXBT"] = D(1)
    desk.kraken.submit(order(purpose=Purpose.EXIT, side=Side.SELL))
    desk.kraken.order(amended(stop(), venue_id="O00001-DOUBL-EKRAKN"))

    assert desk.clock.now_ms() == began_ms


def test_a_question_about_one_order_keeps_nobody_waiting(desk: Desk) -> None:
    """NET-02: on its desk an exit may be next."""
    held = _as_placed(desk.kraken.submit(stop()), stop())
    for _ in range(11):
        desk.kraken.positions()
    for _ in range(3):
        desk.kraken.order(held)
    began_ms = desk.clock.now_ms()

    with pytest.raises(Paced):
        desk.kraken.order(held)

    assert desk.clock.now_ms() - began_ms <= 500


def test_an_hour_of_polls_trails_and_orders_is_never_locked_out() -> None:
    """NET-11: 10,000 signed calls; the double counts as the venue does, on the same clock."""
    desk = Desk()
    for pair, price in (("ETHUSD", "2000"), ("SOLUSD", "100"), ("XDGUSD", "0.1")):
        desk.venue.engine.tick(pair, D(price), NOW_MS)
    held = [_as_placed(desk.kraken.submit(stop()), stop())]
    desk.kraken.fills()
    paced = looks = told = 0
    least = {BTC: "0.001", "ETH/USD": "0.01", "SOL/USD": "0.1", "DOGE/USD": "20"}
    number = 10
    for second in range(3_600):
        if second % 5 == 0:
            before = len(desk.venue.calls)
            desk.kraken.orders()
            desk.kraken.fills()
            looks += 1
            assert len(desk.venue.calls) - before == 1
        if second % 45 == 0:
            desk.kraken.positions()
        try:
            desk.kraken.replace(held[0], D("0.01"), D("40000") + second, None)
        except Paced:
            paced += 1
        for symbol in list(least) if second % 4 else list(least)[1:]:
            if second % 3 or symbol != BTC:
                number += 1
                desk.kraken.submit(order(number, symbol=symbol, qty=D(least[symbol])))
        told = desk.hear_by_stream(told)
        desk.clock.advance(1_000)

    calls = counted(desk.venue.calls)
    nonces = [int(call.fields["nonce"]) for call in desk.venue.calls]

    assert len(desk.venue.calls) >= 10_000
    assert nonces == sorted(set(nonces))
    assert (desk.venue.lockouts, calls["AmendOrder"], paced) == (0, 240, 3_600 - 240)
    assert calls["QueryOrders"] + calls["OpenOrders"] == looks == 720


# -- unanswered submits -------------------------------------------------------------------------------------------------


def test_absence_counts_only_after_the_deadline_and_its_margin(desk: Desk) -> None:
    """UNK-14."""
    desk.venue.faults["AddOrder"].append("lose_before")
    with pytest.raises(Unanswered):
        desk.kraken.submit(order())

    for _ in range((DEADLINE_MS + PROOF_MS) // 500):
        with pytest.raises(Unavailable):
            desk.kraken.resolve(order())
        desk.clock.advance(500)
    looks = len(desk.sent("OpenOrders"))
    proved = desk.kraken.resolve(order())

    assert (looks, proved) == (1, None)


def test_where_the_venue_tells_no_time_ours_says_when_the_deadline_has_passed(desk: Desk) -> None:
    desk.kraken._transport.dated = False  # type: ignore[attr-defined]
    desk.venue.faults["AddOrder"].append("lose_before")
    with pytest.raises(Unanswered):
        desk.kraken.submit(order())

    with pytest.raises(Unavailable, match="its deadline has not passed"):
        desk.kraken.resolve(order())
    desk.clock.advance(DEADLINE_MS + PROOF_MS)

    assert desk.kraken.resolve(order()) is None


def test_a_query_that_failed_is_no_evidence(desk: Desk) -> None:
    """UNK-07."""
    desk.venue.faults["AddOrder"].append("lose_before")
    with pytest.raises(Unanswered):
        desk.kraken.submit(order())
    desk.clock.advance(DEADLINE_MS + PROOF_MS)
    desk.venue.faults["ClosedOrders"].append(("error", "EService:Unavailable"))

    with pytest.raises(Unavailable):
        desk.kraken.resolve(order())
    desk.clock.advance(4_000)

    assert desk.kraken.resolve(order()) is None


def test_the_venues_clock_says_when_the_deadline_has_passed(desk: Desk) -> None:
    """Ours ran 10 s ahead meanwhile: seven seconds by our clock, none by the venue's."""
    desk.venue.faults["AddOrder"].append("keep")
    with pytest.raises(Unanswered):
        desk.kraken.submit(stop())
    desk.clock.advance(DEADLINE_MS + PROOF_MS)
    desk.venue.skew_ms = -5_000

    with pytest.raises(Unavailable, match="its deadline has not passed"):
        desk.kraken.resolve(stop())
    placed = desk.venue.deliver()
    desk.clock.advance(4_000)
    row = desk.kraken.resolve(stop())

    assert placed[0]["result"]["txid"] == ["O00001-DOUBL-EKRAKN"]
    assert row is not None and row.venue_id == "O00001-DOUBL-EKRAKN"


def test_a_request_that_comes_after_its_deadline_is_not_carried_out(desk: Desk) -> None:
    desk.venue.faults["AddOrder"].append("keep")
    with pytest.raises(Unanswered):
        desk.kraken.submit(stop())
    desk.clock.advance(DEADLINE_MS + PROOF_MS)

    proved = desk.kraken.resolve(stop())

    assert (proved, desk.venue.deliver(), desk.venue.placed()) == (None, [{"error": ["EService:Deadline elapsed"]}], 0)


@pytest.mark.parametrize("closed", [False, True], ids=["rests", "has filled"])
def test_what_was_accepted_is_found_at_once(desk: Desk, closed: bool) -> None:
    asked = order() if closed else stop()
    desk.venue.faults["AddOrder"].append("lose_after")
    with pytest.raises(Unanswered):
        desk.kraken.submit(asked)

    row = desk.kraken.resolve(asked)

    assert row is not None
    assert (row.client_id, row.state) == (asked.client_id, Reported.FILLED if closed else Reported.WORKING)


def test_after_a_restart_the_window_begins_again(desk: Desk) -> None:
    """The process before sent it, nobody knows when: no later than we came."""
    again = desk.restarted()
    with pytest.raises(Unavailable):
        again.resolve(stop())
    desk.clock.advance(DEADLINE_MS)
    with pytest.raises(Unavailable):
        again.resolve(stop())
    desk.clock.advance(PROOF_MS)

    assert again.resolve(stop()) is None


def test_what_is_there_twice_or_is_not_what_was_asked_is_for_a_person(desk: Desk) -> None:
    """An id of the venue's is unique among open orders only."""
    desk.kraken.submit(order())
    desk.kraken.submit(order())
    with pytest.raises(Refused, match="is there 2 times"):
        desk.kraken.resolve(order())
    desk.kraken.submit(stop())
    desk.clock.advance(10_000)

    with pytest.raises(Refused, match="is not what was asked for: quantity 0.01000000 for 0.05"):
        desk.kraken.resolve(stop(qty=D("0.05")))


# -- over real sockets --------------------------------------------------------------------------------------------------


@pytest.fixture
def venue() -> Iterator[KrakenDouble]:
    with KrakenDouble(enforce_limits=False) as double:
        double.price("XBTUSD", "50000")
        yield double


def account(venue: KrakenDouble, **changes: Any) -> Account:
    keys = {"KRAKEN_API_KEY": KEY, "KRAKEN_API_SECRET": SECRET}
    known: dict[str, Any] = {
        "broker": "kraken",
        "rest_url": venue.rest_url,
        "ws_url": venue.ws_url,
        "exchange": "KRAKEN",
        "product": "",
        "timezone": "UTC",
        "timeout_s": 5.0,
        "settle_window_s": 10.0,
        "keys": keys,
        "stream_url": venue.stream_url,
        "identity": "journal",
    }
    return Account(**(known | changes))


def test_the_adapter_of_the_table_asks_the_venue(venue: KrakenDouble) -> None:
    broker, streams = connect(account(venue), SystemClock())

    assert (broker.check(), broker.instrument(BTC).base, streams.prices.url) == ("live", "BTC", venue.ws_url)
    assert broker.capabilities.balances and broker.session_hours(None) is None  # type: ignore[arg-type]
    broker.close()


def test_a_wrong_key_is_fatal_and_is_in_no_text(venue: KrakenDouble) -> None:
    """NET-05."""
    broker, _ = connect(account(venue, keys={"KRAKEN_API_KEY": "nobody", "KRAKEN_API_SECRET": SECRET}), SystemClock())

    with pytest.raises(Fatal, match="EAPI:Invalid key") as error:
        broker.check()
    assert SECRET not in str(error.value) and "nobody" not in str(error.value)


def test_a_venue_that_is_not_there_was_sent_nothing(venue: KrakenDouble) -> None:
    """UNK-06."""
    broker, _ = connect(account(venue, rest_url="http://127.0.0.1:9"), SystemClock())

    with pytest.raises(Unavailable, match="nothing was sent"):
        broker.submit(order())


@pytest.mark.parametrize("fault", ["lose_before", "lose_after"])
def test_a_lost_answer_on_a_real_connection_is_unanswered(venue: KrakenDouble, fault: str) -> None:
    """UNK-01."""
    broker, _ = connect(account(venue), SystemClock())
    broker.instrument(BTC)
    venue.faults["AddOrder"].append(fault)

    with pytest.raises(Unanswered):
        broker.submit(order())
    assert (len(venue.named("AddOrder")), venue.placed()) == (1, int(fault == "lose_after"))


def test_calls_of_many_threads_reach_the_venue_in_the_order_of_their_nonces(venue: KrakenDouble) -> None:
    """NET-11: one lock from the nonce to the answer. The double counts a nonce that is not above the last as an offence."""
    broker, _ = connect(account(venue), SystemClock())
    broker.instrument(BTC)
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        for number in range(60):
            try:
                broker.submit(order(thread * 1_000 + number, type=OrderType.LIMIT, limit_price=D("40000"), purpose=Purpose.EXIT))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (failures, venue.lockouts, venue.placed()) == ([], 0, 240)
