"""The practice venue's faults over real sockets: each does at the wire and in the book what its name says, the truth stays."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from brokers.practice import PracticeSettings, PracticeVenue, start_venue
from brokers.practice_fault_kinds import KINDS, Fault
from brokers.practice_faults import NAMED, FaultError, load_faults
from brokers.practice_truth import Strike
from state.clock import SystemClock
from state.orders import Side
from tests.brokers.test_practice import KEY, OPEN, ROOT, WAIT_S, Desk, is_update, order, spec, tape_of, wait_for

D = Decimal
ENTRY, STOP, EXIT = (f"SBIN-20261120-{letter}" for letter in "ESX")
QUEUED = {
    "message": "Order queued for approval in Action Center",
    "mode": "semi_auto",
    "pending_order_id": 1,
    "status": "success",
}

pytestmark = pytest.mark.timeout(60)


class Venue:
    """A venue with a script, a client of it, and what the client may look at."""

    def __init__(self, faults: tuple[Fault, ...], tape: str, **changes: Any) -> None:
        settings = PracticeSettings(idle_fill_s=0.02)
        self.it: PracticeVenue = start_venue(spec(symbols=[], tape=[tape], settings=settings, faults=list(faults), **changes))
        self.desk = Desk(self.it)

    def market_is_open(self) -> Venue:
        self.it.start()
        wait_for(lambda: self.it.clock().ticks > 0)
        return self

    def rows(self) -> list[Any]:
        rows: list[Any] = self.desk.post("orderbook")[1]["data"]["orders"]
        return rows

    def words(self) -> list[str]:
        """The status of every order, oldest first, from the truth."""
        return [str(one.now.state.value) for one in self.it.truth().orders]

    def struck(self) -> list[str]:
        return [strike.kind for strike in self.it.faults()]

    def buy(self, qty: int = 5, label: str = ENTRY) -> tuple[int, Any]:
        return self.desk.place(pricetype="MARKET", price=0, trigger_price=0, quantity=qty, strategy=f"{label}1")

    def bought(self, qty: int = 5) -> str:
        """Bought, and filled."""
        order_id: str = self.buy(qty)[1]["orderid"]
        wait_for(lambda: self.filled(order_id) == qty)
        return order_id

    def stop(self, qty: int = 5, trigger: str = "700.05") -> tuple[int, Any]:
        return self.desk.place(pricetype="SL-M", price=0, action="SELL", trigger_price=trigger, quantity=qty, strategy=f"{STOP}2")

    def filled(self, order_id: str) -> Decimal:
        return next((one.now.filled for one in self.it.truth().orders if one.venue_id == order_id), D(0))

    def cancel(self, order_id: str) -> tuple[int, Any]:
        return self.desk.post("cancelorder", strategy="S1", orderid=order_id)

    def modify(self, order_id: str, trigger: str) -> tuple[int, Any]:
        body = order(orderid=order_id, pricetype="SL-M", price=0, action="SELL", trigger_price=trigger)
        return self.desk.post("modifyorder", **body, disclosed_quantity=0)

    def net(self) -> dict[str, tuple[Decimal, Decimal]]:
        return {row.symbol: (row.net, row.ours) for row in self.it.truth().positions}


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Callable[..., Venue]]:
    """A venue whose market trades once, at 731.00, and then rests: market orders fill there at once, stops never."""
    yield from _launcher(tape_of(tmp_path, ("03:45:00.050", "731.00"), ("08:00:00", "731.00")))


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Callable[..., Venue]]:
    """A venue whose market trades at 731.00 twenty times a second."""
    rows = [(f"03:{45 + at // 60_000:02}:{at % 60_000 / 1000:06.3f}", "731.00") for at in range(50, 120_000, 50)]
    yield from _launcher(tape_of(tmp_path, *rows))


def _launcher(tape: str) -> Iterator[Callable[..., Venue]]:
    venues: list[Venue] = []

    def start(*faults: Fault, **changes: Any) -> Venue:
        venues.append(Venue(faults, tape, **changes))
        return venues[-1]

    yield start
    for venue in venues:
        venue.it.stop()
        assert venue.it.complaints() == []


def fault(kind: str, **more: Any) -> Fault:
    return Fault(kind=kind, **more)


def took_ms(act: Callable[[], Any]) -> tuple[float, Any]:
    clock = SystemClock()
    start_ms = clock.monotonic_ms()
    answer = act()
    return clock.monotonic_ms() - start_ms, answer


# The way there and back


@pytest.mark.parametrize(
    ("kind", "error", "executed"),
    [
        ("lost_reply", "Remote end closed connection without response", 1),
        ("reset_before", "reset by peer|forcibly closed", 0),
        ("reset_after", "reset by peer|forcibly closed", 1),
    ],
)
def test_a_connection_that_ends_without_a_byte(quiet: Callable[..., Venue], kind: str, error: str, executed: int) -> None:
    """UNK-01: the venue's half."""
    venue = quiet(fault(kind))

    with pytest.raises(requests.ConnectionError, match=error):
        venue.desk.place(strategy=f"{ENTRY}1")

    assert len(venue.rows()) == executed
    assert [(strike.kind, strike.path, strike.symbol, strike.label) for strike in venue.it.faults()] == [
        (kind, "placeorder", "SBIN", f"{ENTRY}1")
    ]


def test_a_reply_is_late_by_real_time_at_any_speed(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("delayed_reply", delay_ms=300), speed=100.0).market_is_open()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(took_ms, venue.desk.place)
        wait_for(lambda: len(venue.it.truth().orders) == 1)
        answered_already = waiting.done()
        took, (status, _) = waiting.result()

    assert (answered_already, status) == (False, 200)
    assert 300 <= took < 3000


def test_a_stalled_symbol_holds_up_nobody_else(quiet: Callable[..., Venue]) -> None:
    """NET-07: the venue's half."""
    venue = quiet(fault("stall", symbol="SBIN", delay_ms=500))

    with ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(venue.desk.place)
        wait_for(lambda: venue.struck() == ["stall"])
        other = Desk(venue.it).place(symbol="ITC")
        first = [(one.symbol, stalled.done()) for one in venue.it.truth().orders]
        stalled_answer = stalled.result()

    assert (other[0], first, stalled_answer[0]) == (200, [("ITC", False)], 200)
    assert [one.symbol for one in venue.it.truth().orders] == ["ITC", "SBIN"]


def test_a_dribbled_body_is_whole_and_slow(quiet: Callable[..., Venue]) -> None:
    """NET-06: the venue's half: each byte is well within a time-out that is counted per read."""
    venue = quiet(fault("dribble", delay_ms=10))

    took, (status, body) = took_ms(venue.desk.place)

    assert (status, body["status"], venue.struck()) == (200, "success", ["dribble"])
    assert took >= 10 * 55


@pytest.mark.parametrize(
    ("kind", "more", "answer", "executed"),
    [
        ("error_before", {}, (500, "Failed to place order due to internal error"), 0),
        ("error_after", {}, (500, "Failed to place order due to internal error"), 1),
        ("error_after", {"status": 503, "reason": "busy"}, (503, "busy"), 1),
        ("session_expired", {}, (403, "Invalid openalgo apikey"), 0),
    ],
)
def test_an_error_before_and_after_executing(
    quiet: Callable[..., Venue], kind: str, more: dict[str, Any], answer: tuple[int, str], executed: int
) -> None:
    """UNK-02: the venue's half."""
    venue = quiet(fault(kind, **more))

    status, body = venue.desk.place()

    assert (status, body) == (answer[0], {"message": answer[1], "status": "error"})
    assert len(venue.it.truth().orders) == executed


def test_an_expired_session_refuses_everything_but_the_calendar(quiet: Callable[..., Venue]) -> None:
    """NET-04: the venue's half."""
    venue = quiet(fault("session_expired", from_ms=0, lasts_ms=0)).market_is_open()
    denied = (403, {"message": "Invalid openalgo apikey", "status": "error"})

    answers = [venue.desk.post(path) for path in ("ping", "orderbook", "positionbook", "ping")]
    calendar = venue.desk.post("market/timings", date="2026-11-20")
    stream = venue.desk.stream()

    assert answers == [denied] * 4
    assert calendar[0] == 200
    assert stream.ask(action="authenticate", api_key=KEY)["status"] == "success"


def test_a_window_is_session_time(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("session_expired", from_ms=3_600_000, until_ms=7_200_000), speed=7200.0)

    before = venue.desk.post("ping")[0]
    venue.it.start()
    heard: list[int] = []

    def past_the_window() -> bool:
        heard.append(venue.desk.post("ping")[0])
        return heard[-1] == 200 and 403 in heard

    wait_for(past_the_window)
    times = [strike.at_ms - OPEN for strike in venue.it.faults()]

    assert before == 200
    assert times and all(3_600_000 <= at < 7_200_000 for at in times)


def test_a_burst_of_429_closes_each_connection_and_then_it_is_over(quiet: Callable[..., Venue]) -> None:
    """NET-01: the venue's half."""
    venue = quiet(fault("rate_limited", path="cancelorder", times=2))

    answers = [venue.cancel("999") for _ in range(3)]

    limited = (429, {"message": "10 per 1 second"})
    assert answers[:2] == [limited, limited]
    assert answers[2][0] == 404


def test_a_fault_that_lasts_strikes_every_request_meanwhile(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("rate_limited", path="ping", times=1, lasts_ms=300))
    heard: list[int] = []

    def over() -> bool:
        heard.append(venue.desk.post("ping")[0])
        return heard[-1] == 200

    took, _ = took_ms(lambda: wait_for(over))

    assert took >= 250
    assert set(heard[:-1]) == {429} and len(heard) > 5


@pytest.mark.parametrize("answer", ["error", "drop", "hold"])
def test_a_late_accept_is_in_the_book_only_after_its_delay(quiet: Callable[..., Venue], answer: str) -> None:
    """UNK-07: the venue's half."""
    venue = quiet(fault("late_accept", delay_ms=400, answer=answer))
    url, body = f"{venue.it.rest_url}/api/v1/placeorder", {"apikey": KEY} | order(strategy=f"{ENTRY}1")

    try:
        heard: Any = requests.post(url, json=body, timeout=0.2).status_code
    except requests.RequestException as error:
        heard = type(error).__name__
    at_once = venue.rows()
    wait_for(lambda: len(venue.rows()) == 1)
    (late,) = venue.it.truth().orders
    (strike,) = venue.it.faults()

    assert heard == {"error": 500, "drop": "ConnectionError", "hold": "ReadTimeout"}[answer]
    assert at_once == []
    assert late.history[0].real_ms - strike.real_ms >= 400
    assert (late.label, strike.detail) == (f"{ENTRY}1", f"accepted as {late.venue_id} after 0.4 s")


@pytest.mark.parametrize(
    ("answer", "text", "kind"),
    [
        ("html", "<!doctype html>", "text/html; charset=utf-8"),
        ("truncated", '{"mode":"analyze","orderid', "application/json"),
        ("empty", "", "application/json"),
        ("null_data", '{"data":null,"mode":"analyze","status":"success"}', "application/json"),
    ],
)
def test_garbage_is_a_200_nobody_can_read(quiet: Callable[..., Venue], answer: str, text: str, kind: str) -> None:
    """UNK-04, REC-14: the venue's half."""
    venue = quiet(fault("garbage", answer=answer))
    url = f"{venue.it.rest_url}/api/v1/placeorder"

    heard = requests.post(url, json={"apikey": KEY} | order(), timeout=WAIT_S)

    assert (heard.status_code, heard.headers["content-type"]) == (200, kind)
    assert heard.text.startswith(text) and bool(heard.text) == bool(text)
    assert heard.text.endswith("}") == (answer == "null_data")
    assert len(venue.rows()) == 1


def test_a_200_without_an_order_id(quiet: Callable[..., Venue]) -> None:
    """UNK-03: the venue's half: parked for good, parked and approved, executed with null, executed without a word."""
    venue = quiet(
        fault("no_id"),
        fault("no_id", nth=2, delay_ms=100),
        fault("no_id", nth=3, answer="null"),
        fault("no_id", nth=4, answer="missing"),
    )

    parked = venue.desk.place(quantity=1)
    nothing_yet = venue.rows()
    approved = venue.desk.place(quantity=2)
    wait_for(lambda: len(venue.it.truth().orders) == 1)
    null, missing = venue.desk.place(quantity=3), venue.desk.place(quantity=4)

    assert [parked, approved] == [(200, QUEUED)] * 2
    assert nothing_yet == []
    assert null == (200, {"mode": "analyze", "orderid": None, "status": "success"})
    assert missing == (200, {"mode": "analyze", "status": "success"})
    assert [one.now.qty for one in venue.it.truth().orders] == [2, 3, 4]


def test_an_error_with_an_order_id_leaves_a_rejected_row(quiet: Callable[..., Venue]) -> None:
    """UNK-05: the venue's half."""
    venue = quiet(fault("error_with_id", reason="No holdings"))

    status, body = venue.desk.place()
    (row,) = venue.rows()

    assert (status, body) == (400, {"message": "No holdings", "mode": "analyze", "orderid": row["orderid"], "status": "error"})
    assert (row["order_status"], row["rejection_reason"], row["pending_quantity"]) == ("rejected", "No holdings", 0)
    assert venue.cancel(row["orderid"])[1]["message"] == "Cannot cancel order in rejected status"


def test_an_honest_refusal_is_not_spoilt_and_does_not_use_the_fault_up(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("error_with_id"))

    refused = venue.desk.place(price="731.17")
    struck_then = venue.struck()
    spoilt = venue.desk.place()

    assert (refused[0], "orderid" in refused[1], struck_then) == (400, False, [])
    assert (spoilt[0], "orderid" in spoilt[1], venue.struck()) == (400, True, ["error_with_id"])


def test_a_kept_alive_connection_that_is_closed_after_a_good_reply(quiet: Callable[..., Venue]) -> None:
    """NET-06: the venue's half."""
    venue = quiet(fault("close_after_reply", path="ping"))
    host, port = "127.0.0.1", int(venue.it.rest_url.rpartition(":")[2])
    body = json.dumps({"apikey": KEY}).encode()
    head = f"POST /api/v1/ping HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    with socket.create_connection((host, port), timeout=WAIT_S) as raw:
        raw.sendall(head.encode() + body)
        heard = b""
        while chunk := raw.recv(4096):
            heard += chunk

    assert heard.startswith(b"HTTP/1.1 200") and b'"pong"' in heard
    assert b"connection: close" not in heard.lower()


def test_a_reply_that_forgets_its_mode(quiet: Callable[..., Venue]) -> None:
    """REC-14: the venue's half."""
    venue = quiet(fault("mode_gone"))

    first, second = venue.desk.post("orderbook")[1], venue.desk.post("orderbook")[1]

    assert ("mode" in first, first["status"], second["mode"]) == (False, "success", "analyze")


# Orders that do not do as they were told


def test_an_amend_that_is_acknowledged_and_not_done(quiet: Callable[..., Venue]) -> None:
    """PRO-08: the venue's half; the second one is done late."""
    venue = quiet(fault("modify_ignored"), fault("modify_ignored", nth=2, delay_ms=200))
    order_id = venue.stop()[1]["orderid"]

    first = venue.modify(order_id, "701.00")
    still = venue.rows()[0]["trigger_price"]
    second = venue.modify(order_id, "702.00")
    at_once = venue.it.truth().orders[0].now.trigger_price
    wait_for(lambda: venue.it.truth().orders[0].now.trigger_price == D("702.00"))

    done = (200, {"message": "Order modified successfully", "mode": "analyze", "orderid": order_id, "status": "success"})
    assert (first, second) == (done, done)
    assert (still, at_once) == (D("700.05"), D("700.05"))


def test_a_cancel_that_loses_to_a_fill(quiet: Callable[..., Venue]) -> None:
    """ENT-09, CON-05, EXI-07: the venue's half: all of it, then only two."""
    venue = quiet(fault("cancel_loses_to_fill"), fault("cancel_loses_to_fill", nth=2, qty=D(2)))
    first, second = venue.stop()[1]["orderid"], venue.stop()[1]["orderid"]

    lost, won = venue.cancel(first), venue.cancel(second)

    assert lost == (400, {"message": "Cannot cancel order in complete status", "mode": "analyze", "status": "error"})
    assert won[0] == 200
    assert [(one.now.state.value, one.now.filled) for one in venue.it.truth().orders] == [("FILLED", 5), ("CANCELLED", 2)]
    assert [(row["quantity"], row["price"]) for row in venue.desk.post("tradebook")[1]["data"]] == [
        (2, D("700.05")),
        (5, D("700.05")),
    ]


def test_an_amend_that_loses_to_a_fill(quiet: Callable[..., Venue]) -> None:
    """PRO-12: the venue's half."""
    venue = quiet(fault("cancel_loses_to_fill", path="modifyorder"))

    answer = venue.modify(venue.stop()[1]["orderid"], "701.00")

    assert answer == (400, {"message": "Cannot modify order in complete status", "mode": "analyze", "status": "error"})
    assert venue.words() == ["FILLED"]


def test_a_fill_after_the_confirmed_cancel(quiet: Callable[..., Venue]) -> None:
    """FIL-07: the venue's half."""
    venue = quiet(fault("fill_after_cancel", delay_ms=200))
    stream = venue.desk.stream().ready()
    order_id = venue.stop()[1]["orderid"]

    cancelled = venue.cancel(order_id)
    at_once = venue.rows()[0]["order_status"]
    heard = [message["order_status"] for message in stream.until(is_update("complete"))]

    assert (cancelled[0], at_once) == (200, "cancelled")
    assert heard == ["trigger pending", "cancelled", "complete"]
    assert venue.net() == {"SBIN": (D(-5), D(-5))}


@pytest.mark.parametrize("delay_ms", [15, 500])
def test_the_fill_is_told_before_the_reply(quiet: Callable[..., Venue], delay_ms: int) -> None:
    """FIL-03: the venue's half."""
    venue = quiet(fault("fill_first", delay_ms=delay_ms))
    stream = venue.desk.stream().ready()

    with ThreadPoolExecutor(1) as pool:
        reply: Future[Any] = pool.submit(took_ms, venue.desk.place)
        heard = stream.until(is_update("complete"))
        replied_already = reply.done() if delay_ms > 100 else False
        took, (status, body) = reply.result()

    assert [message["order_status"] for message in heard] == ["trigger pending", "complete"]
    assert (status, body["orderid"], replied_already) == (200, heard[-1]["orderid"], False)
    assert took >= delay_ms


def test_an_order_fills_in_bounded_parts(busy: Callable[..., Venue]) -> None:
    """FIL-02, PRO-05: the venue's half."""
    venue = busy(fault("partial_fills", qty=D(2))).market_is_open()
    stream = venue.desk.stream().ready()

    venue.buy()
    heard = stream.until(is_update("complete"))

    assert [message["filled_quantity"] for message in heard] == [0, 2, 4, 5]
    assert [fill.qty for fill in venue.it.truth().fills] == [2, 2, 1]


def test_parts_of_a_market_order_need_no_ticks(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("partial_fills", qty=D(2))).market_is_open()

    venue.bought(5)

    assert [fill.qty for fill in venue.it.truth().fills] == [2, 2, 1]


def test_the_rest_of_a_partial_fill_can_wait(busy: Callable[..., Venue]) -> None:
    """FIL-05: the venue's half: 4 of 10 fill, the rest works until it is cancelled."""
    venue = busy(fault("partial_fills", qty=D(4), delay_ms=600_000)).market_is_open()
    order_id = venue.buy(10)[1]["orderid"]
    wait_for(lambda: venue.filled(order_id) == 4)
    ticks = venue.it.clock().ticks
    wait_for(lambda: venue.it.clock().ticks > ticks + 3)

    cancelled = venue.cancel(order_id)

    (truth,) = venue.it.truth().orders
    assert (cancelled[0], truth.now.state.value, truth.now.filled) == (200, "CANCELLED", 4)


@pytest.mark.parametrize(
    ("answer", "qty", "filled"), [("rejected", None, 0), ("rejected", D(2), 2), ("cancelled", None, 0), ("expired", D(4), 4)]
)
def test_an_accepted_order_ends_by_itself(busy: Callable[..., Venue], answer: str, qty: Decimal | None, filled: int) -> None:
    """ENT-05, FIL-06, PRO-03: the venue's half."""
    venue = busy(fault("reject_later", answer=answer, qty=qty, delay_ms=400, reason="price band")).market_is_open()
    stream = venue.desk.stream().ready()

    accepted = venue.buy()
    heard = stream.until(is_update(answer))

    assert (accepted[0], heard[0]["order_status"]) == (200, "open")
    assert (heard[-1]["filled_quantity"], heard[-1]["rejection_reason"]) == (filled, "price band")
    assert [(row["order_status"], row["filled_quantity"], row["rejection_reason"]) for row in venue.rows()] == [
        (answer, filled, "price band")
    ]


@pytest.mark.parametrize("answer", ["fills", "rests"])
def test_a_stop_becomes_a_limit_order_without_a_trigger(busy: Callable[..., Venue], answer: str) -> None:
    """PRO-13: the venue's half: a sell limit below the market fills at once, or rests for no reason."""
    venue = busy(fault("stop_type_changed", answer=answer)).market_is_open()

    accepted = venue.stop(trigger="730.00")
    ticks = venue.it.clock().ticks
    wait_for(lambda: venue.it.clock().ticks > ticks + 2)
    (row,) = venue.rows()
    second = venue.stop()[1]["orderid"]

    assert accepted[0] == 200
    assert (row["pricetype"], row["trigger_price"], row["price"]) == ("LIMIT", 0, 730)
    assert row["order_status"] == {"fills": "complete", "rests": "open"}[answer]
    assert [one["pricetype"] for one in venue.rows() if one["orderid"] == second] == ["SL-M"]
    covers = [(point.stop_sell, point.exit_sell) for point in venue.it.truth().timeline["SBIN"]]
    assert covers[0] == (0, 0)  # a limit order protects nothing
    assert covers[-1] == (5, 0)


def test_fills_that_add_up_to_more_than_was_ordered(quiet: Callable[..., Venue]) -> None:
    """FIL-08: the venue's half."""
    venue = quiet(fault("overfill")).market_is_open()

    venue.buy()
    wait_for(lambda: venue.net().get("SBIN") == (D(6), D(6)))

    assert [(row["order_status"], row["quantity"], row["filled_quantity"]) for row in venue.rows()] == [("complete", 5, 6)]
    assert [fill.qty for fill in venue.it.truth().fills] == [5, 1]


# Books that lag or lie


@pytest.mark.parametrize(("answer", "rows"), [("empty", []), ("zero", [0])])
def test_positions_are_empty_once(quiet: Callable[..., Venue], answer: str, rows: list[int]) -> None:
    """REC-01: the venue's half; a read while there is nothing to hide does not count."""
    venue = quiet(fault("empty_positions", answer=answer)).market_is_open()
    venue.desk.post("positionbook")
    venue.bought()

    lied = [row["quantity"] for row in venue.desk.post("positionbook")[1]["data"]]
    after = [row["quantity"] for row in venue.desk.post("positionbook")[1]["data"]]

    assert (lied, after, venue.net()) == (rows, [5], {"SBIN": (D(5), D(5))})


def test_a_lie_left_to_chance_is_not_told_twice_running(quiet: Callable[..., Venue]) -> None:
    """REC-01: two empty answers in a row may be believed."""
    venue = quiet(
        fault("empty_positions", probability=1.0), fault("empty_positions", probability=1.0, answer="zero")
    ).market_is_open()
    venue.bought()

    told = [[row["quantity"] for row in venue.desk.post("positionbook")[1]["data"]] for _ in range(4)]

    assert told == [[], [5], [], [5]]


def test_one_position_is_read_as_before_its_last_fill(quiet: Callable[..., Venue]) -> None:
    """REC-04: the venue's half."""
    venue = quiet(fault("stale_positions", nth=2)).market_is_open()
    venue.bought(5)
    first = venue.desk.post("positionbook")[1]["data"][0]["quantity"]
    venue.bought(3)

    lied, after = (venue.desk.post("positionbook")[1]["data"][0]["quantity"] for _ in range(2))

    assert (first, lied, after) == (5, 5, 8)


@pytest.mark.parametrize("path", ["orderbook", "orderstatus"])
def test_an_order_is_read_once_as_it_was(quiet: Callable[..., Venue], path: str) -> None:
    """PRO-03: the venue's half: a stale word."""
    venue = quiet(fault("stale_orders", path=path))
    order_id = venue.stop()[1]["orderid"]

    def word() -> str:
        answer = venue.desk.post(path, **({} if path == "orderbook" else {"strategy": "S1", "orderid": order_id}))
        rows = answer[1]["data"]
        return str((rows["orders"][0] if path == "orderbook" else rows)["order_status"])

    first = word()
    venue.cancel(order_id)
    lied, after = word(), word()

    assert (first, lied, after) == ("trigger pending", "trigger pending", "cancelled")


def test_complete_with_average_0_and_no_trade_row_for_some_time(quiet: Callable[..., Venue]) -> None:
    """FIL-09: the venue's half; the position is honest."""
    venue = quiet(fault("tradebook_lags", lasts_ms=1000)).market_is_open()
    venue.bought()

    (row,) = venue.rows()
    trades = venue.desk.post("tradebook")[1]["data"]
    held = venue.desk.post("positionbook")[1]["data"][0]["quantity"]
    wait_for(lambda: len(venue.desk.post("tradebook")[1]["data"]) == 1)

    assert (row["order_status"], row["average_price"], row["filled_quantity"], trades, held) == ("complete", 0, 0, [], 5)
    assert [(one["average_price"], one["filled_quantity"]) for one in venue.rows()] == [(731, 5)]


# The user


@pytest.mark.parametrize(
    ("kind", "more", "net"),
    [
        ("manual_close", {}, (D(0), D(0))),
        ("manual_reduce", {}, (D(3), D(3))),
        ("manual_reduce", {"qty": D(1)}, (D(4), D(4))),
        ("manual_add", {}, (D(10), D(5))),
        ("manual_reverse", {}, (D(-5), D(-5))),
        ("manual_reverse", {"qty": D(7)}, (D(-2), D(-2))),
    ],
)
def test_the_user_trades_by_phone(
    quiet: Callable[..., Venue], kind: str, more: dict[str, Any], net: tuple[Decimal, Decimal]
) -> None:
    """REC-05, REC-06, REC-08: the venue's half: (net of the account, ours)."""
    venue = quiet(fault(kind, delay_ms=100, **more)).market_is_open()
    venue.bought()

    wait_for(lambda: len(venue.it.truth().fills) == 2)

    by_hand = venue.it.truth().fills[1]
    assert (by_hand.label, by_hand.origin, by_hand.price) == ("phone", "hand", 731)
    assert venue.net() == {"SBIN": net}
    assert venue.rows()[0]["strategy"] == "phone"
    assert venue.struck() == [kind]


def test_the_user_acts_at_a_time_of_the_session(busy: Callable[..., Venue]) -> None:
    venue = busy(fault("manual_close", from_ms=1500, delay_ms=0)).market_is_open()
    venue.bought()

    wait_for(lambda: venue.net() == {"SBIN": (D(0), D(0))})

    assert venue.it.faults()[0].at_ms >= OPEN + 1500


def test_nothing_is_left_to_close_for_the_user(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("manual_close", delay_ms=300)).market_is_open()
    venue.bought()
    planned = venue.struck()
    venue.desk.place(pricetype="MARKET", price=0, trigger_price=0, action="SELL", strategy=f"{EXIT}2")

    wait_for(lambda: venue.struck() == [])

    assert planned == ["manual_close"]
    assert (venue.net(), len(venue.it.truth().fills)) == ({"SBIN": (D(0), D(0))}, 2)


def test_the_user_places_a_resting_order(quiet: Callable[..., Venue]) -> None:
    """REC-07: the venue's half."""
    venue = quiet(fault("manual_order", delay_ms=0, qty=D(3))).market_is_open()
    venue.bought()

    (row,) = [row for row in venue.rows() if row["strategy"] == "phone"]

    assert (row["action"], row["pricetype"], row["quantity"], row["price"]) == ("BUY", "LIMIT", 3, D("694.45"))
    assert row["order_status"] == "open"


def test_orders_and_positions_of_others_are_there_before_us(quiet: Callable[..., Venue]) -> None:
    """REC-07: the venue's half."""
    venue = quiet(
        fault("foreign_order", symbol="SBIN", price=D(700)), fault("foreign_position", symbol="ITC", qty=D(10), price=D(400))
    )

    rows = [(row["symbol"], row["order_status"], row["quantity"], row["strategy"]) for row in venue.rows()]
    held = [(row["symbol"], row["quantity"], row["average_price"]) for row in venue.desk.post("positionbook")[1]["data"]]

    assert sorted(rows) == [("ITC", "complete", 10, "phone"), ("SBIN", "open", 1, "phone")]
    assert held == [("ITC", 10, 400)]
    assert venue.net() == {"ITC": (D(10), D(0)), "SBIN": (D(0), D(0))}


def test_a_foreign_order_waits_for_the_first_price(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("foreign_order", symbol="SBIN"))

    before = venue.rows()
    venue.market_is_open()

    assert before == []
    assert [(row["price"], row["strategy"]) for row in venue.rows()] == [(D("694.45"), "phone")]


# The stream


def heard_of_two_orders(venue: Venue) -> list[tuple[str, str]]:
    """Two stops are placed and the second is cancelled; then the updates that came, as (which, word), up to a ping."""
    stream = venue.desk.stream().ready()
    first, second = venue.stop()[1]["orderid"], venue.stop()[1]["orderid"]
    venue.cancel(second)
    stream.socket.send(json.dumps({"action": "ping"}))
    heard = stream.until(lambda message: message.get("type") == "pong")[:-1]
    return [({first: "first", second: "second"}[message["orderid"]], message["order_status"]) for message in heard]


PENDING = "trigger pending"


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        ("updates_missing", [("first", PENDING), ("second", "cancelled")]),
        ("updates_duplicated", [("first", PENDING), ("second", PENDING), ("second", PENDING), ("second", "cancelled")]),
        ("updates_reordered", [("first", PENDING), ("second", "cancelled"), ("second", PENDING)]),
    ],
)
def test_order_updates_go_astray(quiet: Callable[..., Venue], kind: str, heard: list[tuple[str, str]]) -> None:
    """FEE-04: the venue's half; the second update of three is the one."""
    venue = quiet(fault(kind, nth=2))

    assert heard_of_two_orders(venue) == heard
    assert [(strike.kind, strike.path, strike.detail.split(" ", 1)[1]) for strike in venue.it.faults()] == [
        (kind, "stream", "trigger pending 0")
    ]


def test_an_update_comes_late_and_a_reordered_one_at_the_latest_after_its_delay(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("updates_delayed", delay_ms=300), fault("updates_reordered", nth=2, delay_ms=300))
    stream = venue.desk.stream().ready()

    waits = []
    for _ in range(2):
        waits.append(took_ms(lambda: (venue.stop(), stream.until(is_update(PENDING))))[0])

    assert [wait >= 295 for wait in waits] == [True, True]


def test_a_silent_socket_answers_and_tells_nothing(busy: Callable[..., Venue]) -> None:
    """FEE-01, FEE-10: the venue's half."""
    venue = busy(fault("silent_socket", nth=3, lasts_ms=700)).market_is_open()
    stream = venue.desk.stream().ready("SBIN")
    wait_for(lambda: venue.struck() == ["silent_socket"])
    stream.socket.send(json.dumps({"action": "ping"}))
    stream.until(lambda message: message.get("type") == "pong")

    venue.stop()
    ticks = venue.it.clock().ticks
    wait_for(lambda: venue.it.clock().ticks >= ticks + 4)
    stream.socket.send(json.dumps({"action": "ping"}))
    meanwhile = stream.until(lambda message: message.get("type") == "pong")
    again = stream.until(lambda message: message.get("type") == "market_data")

    assert [message["type"] for message in meanwhile] == ["pong"]
    assert again[-1]["symbol"] == "SBIN"


def test_one_symbol_may_fall_silent_alone(busy: Callable[..., Venue]) -> None:
    venue = busy(fault("silent_socket", path="ticks", symbol="SBIN")).market_is_open()
    stream = venue.desk.stream().ready("SBIN")
    wait_for(lambda: venue.struck() == ["silent_socket"])
    stream.socket.send(json.dumps({"action": "ping"}))
    stream.until(lambda message: message.get("type") == "pong")

    venue.stop()

    assert stream.next()["type"] == "order_update"


@pytest.mark.parametrize("answer", ["close", "reset"])
def test_a_socket_is_dropped_and_new_ones_for_a_while(busy: Callable[..., Venue], answer: str) -> None:
    """FEE-14: the venue's half."""
    venue = busy(fault("socket_drop", answer=answer, lasts_ms=400)).market_is_open()
    stream = venue.desk.stream()

    if answer == "close":
        assert stream.close_code() == (1012, "service restart")
    else:
        with pytest.raises(ConnectionResetError):
            stream.until(lambda message: False)
    codes = []

    def connects() -> bool:
        try:
            venue.desk.stream().ready()
        except (websocket.WebSocketException, OSError, ValueError) as error:
            codes.append(type(error).__name__)
            return False
        return True

    wait_for(connects)
    assert codes


PRICES = {"nan": "NaN", "zero": 0, "negative": -1, "null": None, "true": True, "infinity": "Infinity", "spike": 7310}


@pytest.mark.parametrize("answer", KINDS["bad_price"].answers[1:])
def test_bad_prices_come_beside_the_good_ones(busy: Callable[..., Venue], answer: str) -> None:
    """FEE-05, FEE-06, FEE-07, FEE-08: the venue's half."""
    venue = busy(fault("bad_price", answer=answer)).market_is_open()
    stream = venue.desk.stream().ready("SBIN")

    good, bad = stream.socket.recv(), stream.socket.recv()

    quote = json.loads(good, parse_float=D)["data"]
    assert quote["ltp"] == 731
    if answer == "broken_json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(bad)
        return
    if answer == "huge":
        assert '"ltp":1e400' in str(bad)
        return
    message = json.loads(bad, parse_float=D)
    expected = dict(quote)
    if answer in PRICES:
        expected["ltp"] = PRICES[answer]
    elif answer == "unknown_symbol":
        expected["symbol"] = "NO-SUCH-SYMBOL"
    elif answer == "no_time":
        del expected["timestamp"], expected["ltt"]
    else:
        old = answer == "old"
        expected |= {name: quote[name] - 3_600_000 if old else quote[name] // 1000 for name in ("timestamp", "ltt")}
    assert (message["data"], message["symbol"]) == (expected, expected["symbol"])
    assert venue.desk.post("quotes", symbol="SBIN", exchange="NSE")[1]["data"]["high"] == 731


# The dial


def test_filters_say_which_order_a_fault_waits_for(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("error_after", purpose="S", side="SELL", symbol="SBIN", path="placeorder", nth=2))

    answers = [
        venue.desk.place(strategy=f"{ENTRY}1"),
        venue.stop(),
        venue.desk.place(strategy=f"{STOP}1"),
        venue.stop(),
        venue.stop(),
    ]

    assert [status for status, _ in answers] == [200, 200, 200, 500, 200]


def test_a_cancel_is_filtered_by_the_order_it_names(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("lost_reply", path="cancelorder", purpose="S"))
    entry, stop = venue.desk.place(strategy=f"{ENTRY}1")[1]["orderid"], venue.stop()[1]["orderid"]

    first = venue.cancel(entry)[0]
    with pytest.raises(requests.ConnectionError):
        venue.cancel(stop)

    assert (first, venue.words()) == (200, ["CANCELLED", "CANCELLED"])


def test_a_probability_strikes_alike_for_the_same_seed_and_otherwise_for_another(quiet: Callable[..., Venue]) -> None:
    def statuses(seed: int) -> list[int]:
        venue = quiet(fault("error_before", path="ping", probability=0.3, seed=seed))
        return [venue.desk.post("ping")[0] for _ in range(40)]

    first, again, other = statuses(1), statuses(1), statuses(2)

    assert first == again != other
    assert 3 <= first.count(500) <= 24


def test_the_strikes_are_told_by_clock_and_by_faults(quiet: Callable[..., Venue]) -> None:
    venue = quiet(fault("error_before", path="ping", times=2), fault("modify_ignored"))

    for _ in range(3):
        venue.desk.post("ping")
    clock, strikes = venue.it.clock(), venue.it.faults()

    def said(strike: Strike) -> tuple[str, int, str, str, str]:
        return strike.kind, strike.at_ms, strike.path, strike.symbol, strike.detail

    assert [said(strike) for strike in strikes] == [("error_before", OPEN, "ping", "", "")] * 2
    assert (clock.faults, clock.strikes) == ({"error_before": 2}, strikes)


# The truth


def test_the_truth_tells_the_time_line_of_a_trade(quiet: Callable[..., Venue]) -> None:
    """I1, I4, I5: what an oracle outside needs, while every answer about it was lost."""
    venue = quiet(fault("tradebook_lags", lasts_ms=60_000), fault("lost_reply", purpose="S")).market_is_open()
    entry = venue.bought()
    with pytest.raises(requests.ConnectionError):
        venue.stop()
    stop = venue.it.truth().orders[1].venue_id
    venue.modify(stop, "701.00")
    venue.cancel(stop)
    venue.desk.place(pricetype="MARKET", price=0, trigger_price=0, action="SELL", strategy=f"{EXIT}3")
    wait_for(lambda: venue.net() == {"SBIN": (D(0), D(0))})

    truth = venue.it.truth()

    story = [
        (int(point.net), int(point.ours), int(point.stop_sell), int(point.exit_sell), point.entries, int(point.bare))
        for point in truth.timeline["SBIN"]
    ]
    assert story == [
        (0, 0, 0, 0, 1, 0),  # the entry works
        (5, 5, 0, 0, 0, 5),  # filled, and bare
        (5, 5, 5, 0, 0, 0),  # the stop works
        (5, 5, 5, 0, 0, 0),  # moved
        (5, 5, 0, 0, 0, 5),  # cancelled
        (5, 5, 0, 5, 0, 0),  # the exit works
        (0, 0, 0, 0, 0, 0),
    ]
    assert [(one.venue_id, one.purpose, one.origin) for one in truth.orders[:2]] == [(entry, "E", "api"), (stop, "S", "api")]
    assert [version.trigger_price for version in truth.orders[1].history] == [D("700.05"), D("701.00"), D("701.00")]
    assert [(fill.purpose, fill.side, fill.qty) for fill in truth.fills] == [("E", Side.BUY, 5), ("X", Side.SELL, 5)]
    assert [(row.label, row.venue_id is None) for row in truth.requests] == [
        (f"{ENTRY}1", False),
        (f"{STOP}2", False),
        (f"{EXIT}3", False),
    ]
    points = truth.timeline["SBIN"]
    spans = [(points[1].real_ms, points[2].real_ms, D(5)), (points[4].real_ms, points[5].real_ms, D(5))]
    assert truth.bare_spans("SBIN") == [span for span in spans if span[1] > span[0]]


def test_a_calm_venue_tells_its_truth_too_and_a_refused_request_is_in_it(quiet: Callable[..., Venue]) -> None:
    venue = quiet()

    venue.desk.place(price="731.17")
    truth = venue.it.truth()

    assert [(row.label, row.symbol, row.side, row.venue_id) for row in truth.requests] == [("S1", "SBIN", Side.BUY, None)]
    assert (truth.orders, truth.fills, truth.strikes, truth.timeline) == ([], [], [], {})
    assert truth.bare_spans("SBIN") == []


# Scripts


def test_there_is_a_script_for_every_kind_and_variant_and_hell_has_them_all() -> None:
    kinds = {named.kind for script in NAMED.values() for named in script}
    variants = {(named.kind, named.word) for script in NAMED.values() for named in script}

    assert kinds == set(KINDS)
    assert variants >= {(kind, answer) for kind, rule in KINDS.items() for answer in rule.answers}
    assert {named.kind for named in NAMED["hell"]} == set(KINDS) - {"mode_gone", "foreign_position"}
    assert NAMED["calm"] == load_faults("calm") == ()
    assert load_faults("lost_reply") == (Fault(kind="lost_reply"),)


@pytest.mark.parametrize("name", ["script.yaml", "script.json"])
def test_a_script_file_is_read_to_the_last_digit(tmp_path: Path, name: str) -> None:
    rows = [
        {"kind": "late_accept", "symbol": "SBIN", "delay": "12s", "answer": "drop", "nth": 3},
        {"kind": "bad_price", "answer": "spike", "price": "0.12345678901234567890", "from": "45m", "until": "2h"},
        "calm",
        "tradebook_lags",
        {"kind": "stall", "path": "quotes", "probability": 0.25, "times": 0, "lasts": "500ms"},
    ]
    path = tmp_path / name
    path.write_text(json.dumps({"faults": rows}).replace('"0.1234', "0.1234").replace('67890"', "67890"), encoding="utf-8")

    assert load_faults(path) == (
        Fault(kind="late_accept", symbol="SBIN", delay_ms=12_000, answer="drop", nth=3),
        Fault(kind="bad_price", answer="spike", price=D("0.12345678901234567890"), from_ms=2_700_000, until_ms=7_200_000),
        Fault(kind="tradebook_lags"),
        Fault(kind="stall", path="quotes", probability=0.25, times=0, lasts_ms=500),
    )


def test_every_mistake_of_a_script_is_told_by_path(tmp_path: Path) -> None:
    """OPS-01: of a fault script."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        """
faults:
- {kind: lost_repl}
- {kind: stall, delay: 5, nth: 0}
- {kind: stall, nth: 0, probability: 2, path: nowhere, qty: 5}
- {kind: error_before, status: 404, color: red}
- {kind: error_before, status: 404, path: orderbook, symbol: SBIN}
- {path: placeorder}
- hel
- {kind: partial_fills, from: 2h, until: 1h}
- {kind: bad_price, side: BUY, price: -1, answer: sweet}
""",
        encoding="utf-8",
    )

    with pytest.raises(FaultError) as error:
        load_faults(path)

    told = [where for where, _ in error.value.mistakes]
    assert told == [
        "faults[0].kind",
        "faults[1].delay",
        *(f"faults[2].{name}" for name in ("nth", "probability", "qty", "path")),
        "faults[3].color",
        *(f"faults[4].{name}" for name in ("status", "symbol")),
        "faults[5].kind",
        "faults[6]",
        *(f"faults[7].{name}" for name in ("until", "qty")),
        *(f"faults[8].{name}" for name in ("price", "answer", "side")),
    ]
    assert "bad.yaml: faults[1].delay: must be a duration like 45m, 5s or 500ms, not '5'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"), [("{a", "is not YAML"), ("x: 1", "unknown setting"), ("faults: 3", "must be a list")]
)
def test_a_file_that_is_no_script(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "no.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(FaultError, match=reason):
        load_faults(path)
    with pytest.raises(FaultError, match="no such script or file; shipped: calm"):
        load_faults("heaven")


def test_a_script_is_light_to_read_and_a_calm_venue_loads_the_old_seam() -> None:
    code = "import sys, brokers.practice_faults; print({'uvicorn', 'websockets', 'asyncio'} & set(sys.modules))"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=30, check=True).stdout

    assert said.strip() == b"set()"


def test_a_busy_hour_of_hell_leaves_the_venue_standing_and_its_truth_whole(busy: Callable[..., Venue]) -> None:
    """Everything at once: no defect of the venue's own, and its fills add up to its positions."""
    venue = busy(*NAMED["hell"], fault_seed=3, session_start_ms=OPEN).market_is_open()
    never = threading.Event()
    for turn in range(150):
        kind = [("MARKET", "BUY"), ("SL-M", "SELL"), ("MARKET", "SELL")][turn % 3]
        body = order(pricetype=kind[0], action=kind[1], price=0, trigger_price="700.05" if kind[0] == "SL-M" else 0)
        url = f"{venue.it.rest_url}/api/v1/placeorder"
        try:
            answer = requests.post(url, json={"apikey": KEY} | body | {"strategy": f"{ENTRY}{turn}"}, timeout=0.3)
            order_id = answer.json().get("orderid") if answer.status_code == 200 else None
            if order_id and turn % 2:
                cancel = {"apikey": KEY, "strategy": "S1", "orderid": order_id}
                requests.post(f"{venue.it.rest_url}/api/v1/cancelorder", json=cancel, timeout=0.3)
        except (requests.RequestException, ValueError):
            SystemClock().wait(never, 0.001)

    truth = venue.it.truth()
    signed = sum((fill.qty * fill.side.sign for fill in truth.fills), D(0))
    by_order = {
        one.venue_id: sum((fill.qty for fill in truth.fills if fill.venue_id == one.venue_id), D(0)) for one in truth.orders
    }

    assert len({strike.kind for strike in truth.strikes}) > 10
    assert (signed, truth.positions[0].net) == (truth.positions[0].net, truth.timeline["SBIN"][-1].net)
    assert by_order == {one.venue_id: one.now.filled for one in truth.orders}
