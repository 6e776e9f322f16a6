"""What every broker does, in sentences. Each is asked of all six, over real sockets; docs/conformance.md is the table.

A venue that cannot do a thing is skipped by name with its reason (conformance.NOT_HERE), never in silence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from brokers.base import BrokerError, Fatal, FillRow, OrderRow, Refused, Reported, Unanswered, Unavailable
from brokers.channel import Limits
from brokers.feed import Feed
from state.orders import ZERO, Order, OrderType, Purpose, Side, Status
from tests.brokers.conformance import BROKERS, NOT_HERE, TIMEOUT_S, Rig, Trader, make_rig, practice_hand, until
from tests.brokers.conformance_table import FAILED, PAGE, names, words
from tests.brokers.fault_line import KEPT, LOST_AFTER, LOST_BEFORE, Fault, answer
from tests.brokers.practice_by_hand import Hand
from tests.brokers.test_feed import Recorder

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT
HTML = "<!doctype html><html><body><h1>Down for maintenance</h1></body></html>"


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Hand]]:
    """The practice venue's process, started by whoever needs it first."""
    made: list[Hand] = []

    def get() -> Hand:
        if not made:
            made.append(practice_hand(tmp_path_factory.mktemp("practice")))
        return made[0]

    yield get
    for one in made:
        one.close()


@pytest.fixture(params=BROKERS)
def rig(request: pytest.FixtureRequest, hand: Callable[[], Hand]) -> Iterator[Rig]:
    name = str(request.param)
    if (why := NOT_HERE[name].get(request.function.__name__)) is not None:
        pytest.skip(f"n/a: {why}")
    made = make_rig(name, hand)
    yield made
    made.close()


def outcome(call: Callable[[], Any]) -> type[BaseException] | None:
    """Which of the four errors it was; None: it went well."""
    try:
        call()
    except BrokerError as error:
        return next(kind for kind in (Refused, Unavailable, Unanswered, Fatal) if isinstance(error, kind))
    return None


def at_last(rig: Rig, order: Order) -> Order:
    """Submitted as soon as it may go: nothing was sent before."""
    for _ in range(20):
        try:
            return rig.submit(order)
        except Unavailable:
            rig.wait(1)
    raise AssertionError("it never had its turn")


READS: tuple[tuple[str, Callable[[Rig], Any]], ...] = (
    ("orders", lambda rig: rig.broker.orders()),
    ("fills", lambda rig: rig.broker.fills()),
    ("positions", lambda rig: rig.broker.positions()),
    ("quotes", lambda rig: rig.broker.quotes([rig.symbol])),
)


def reads(rig: Rig) -> dict[str, Any]:
    """How each read ends. Fills may be known without asking, where the stream and the orders told of all."""
    found = {}
    for name, read in READS:
        rig.wait(rig.breath_s)
        found[name] = outcome(lambda read=read: read(rig))  # type: ignore[misc]
    return found


def filled(rig: Rig, order: Order) -> Decimal:
    """By its row where that says it, else by its executions."""
    row = rig.look(order)
    return sum((fill.qty for fill in rig.fills_of(order)), ZERO) if row.filled is None else row.filled


class TestEveryBroker:
    """Test names are the specification."""

    # -- the account ---------------------------------------------------------------------------------------------------------

    def test_it_answers_a_check_with_its_mode_and_orders_nothing(self, rig: Rig) -> None:
        word = rig.broker.check()

        assert word in ("live", "analyze", "practice", "paper")
        assert rig.books() == []

    def test_a_wrong_key_is_fatal(self, rig: Rig) -> None:
        broker, _ = rig.connect(keys=rig.wrong_keys)

        assert (outcome(broker.check), outcome(broker.positions)) == (Fatal, Fatal)

    def test_a_key_without_the_permission_to_trade_is_fatal_and_places_nothing(self, rig: Rig) -> None:
        """E.g. a read-only key."""
        for name in ("place", "cancel"):
            rig.line.always(name, rig.no_permission)

        ended = outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10)))

        assert (ended, rig.books()) == (Fatal, [])

    def test_credentials_that_stop_working_are_fatal_for_reads_and_orders(self, rig: Rig) -> None:
        """NET-05. One odd answer to an order may be a token of the wrong moment: the second is Fatal at the latest."""
        rig.broker.check()
        rig.wait(rig.breath_s)
        rig.line.always("*", rig.expired)

        orders = [outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10))) for _ in range(2)]

        assert outcome(rig.broker.positions) is Fatal
        assert orders[-1] is Fatal and orders[0] in (Fatal, Unavailable)
        assert rig.books() == []

    def test_no_key_is_in_any_error_text(self, rig: Rig) -> None:
        """NET-08: not even where the venue sends it back."""
        texts = []
        bodies = [
            '{"status":"error","message":"%s"}',
            '{"error":["EGeneral:%s"]}',
            '{"errorMessage":"%s"}',
            '{"error":"%s"}',
            "%s",
        ]
        order = rig.order(BUY, LIMIT, -10)
        for body in bodies:
            for status in (200, 400, 403, 500):
                rig.wait(4)
                for name in ("*", "place", "read"):
                    rig.line.always(name, replace(answer(status, body), echoes=True))
                for call in (lambda: rig.broker.submit(order), rig.broker.positions):
                    try:
                        call()
                    except BrokerError as error:
                        texts.append(repr(error) + str(error.__context__))
                rig.line.well()
        with suppress(BrokerError):
            rig.connect(keys=rig.wrong_keys)[0].check()

        assert len(texts) >= 30
        assert [text for text in texts if any(secret in text for secret in rig.secrets)] == []

    def test_it_says_what_it_can_do(self, rig: Rig) -> None:
        can = rig.broker.capabilities

        assert can.native_stops and can.replace and can.order_stream
        assert can.settle_window_s == (0 if rig.name == "paper" else 10)

    def test_the_clock_of_the_venue_is_measured(self, rig: Rig) -> None:
        """NET-12: 10 s behind, by answers that came anyway; never more than is proven."""
        rig.line.behind_s = 10
        rig.broker.quotes([rig.symbol])

        ahead_ms = rig.broker.skew_ms()

        assert ahead_ms is not None and 5_000 <= ahead_ms <= 10_000

    # -- instruments and prices ----------------------------------------------------------------------------------------------

    def test_an_instrument_has_its_tick_lot_minimum_and_currencies(self, rig: Rig) -> None:
        found = rig.broker.instrument(rig.symbol)

        expected = rig.grid
        if rig.name in ("practice", "openalgo"):  # the dialect has one number for lot and minimum
            expected = msgspec.structs.replace(expected, min_qty=expected.lot_size)
        assert found == expected

    def test_an_unknown_symbol_is_refused(self, rig: Rig) -> None:
        assert outcome(lambda: rig.broker.instrument(rig.unknown_symbol)) is Refused

    def test_quotes_tell_the_last_price(self, rig: Rig) -> None:
        rig.price(3)

        assert rig.broker.quotes([rig.symbol]) == {rig.symbol: rig.at(3)}

    def test_the_hours_of_the_venue_are_told_or_left_to_the_calendar(self, rig: Rig) -> None:
        hours = rig.broker.session_hours(date(2026, 11, 20))

        assert hours is None or hours.open_ms is None or hours.close_ms is None or hours.open_ms < hours.close_ms

    # -- orders ----------------------------------------------------------------------------------------------------------------

    def test_a_market_order_fills_and_shows_as_asked(self, rig: Rig) -> None:
        order = rig.buy()

        row = rig.look(order)
        assert (row.symbol, row.side, row.type, row.qty, row.state) == (rig.symbol, BUY, MARKET, rig.qty, Reported.FILLED)
        assert (row.filled, row.average) == (rig.qty, rig.at(0))

    def test_a_limit_order_rests_as_asked(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))

        row = rig.look(order)
        assert (row.side, row.type, row.qty, row.limit_price) == (BUY, LIMIT, rig.qty, rig.at(-10))
        assert row.state is Reported.WORKING and not row.filled
        assert rig.working() == [rig.works(BUY, rig.qty, -10)]

    def test_a_limit_order_fills_at_its_price_or_better(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))

        rig.price(-4)
        rig.price(-12)

        row = rig.look(order)
        assert row.state is Reported.FILLED and row.average is not None and row.average <= rig.at(-10)

    def test_a_stop_rests_as_asked(self, rig: Rig) -> None:
        """Where there is none at market, as a stop-limit with room."""
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))

        row = rig.look(order)
        assert (row.side, row.type, row.qty, row.trigger_price) == (SELL, rig.stop_shown_as, rig.qty, rig.at(-20))
        assert (row.state, rig.working()) == (Reported.WORKING, [rig.works(SELL, rig.qty, -20)])

    def test_a_stop_fires_at_its_trigger_and_not_before(self, rig: Rig) -> None:
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))

        rig.price(-19)
        before = rig.look(order).state
        rig.price(-20)

        row = rig.look(order)
        assert (before, row.state, row.average) == (Reported.WORKING, Reported.FILLED, rig.at(-20))
        assert rig.net() == 0

    def test_a_stop_that_gaps_fills_beyond_its_trigger(self, rig: Rig) -> None:
        """PRO-10: at the price there is, not at the one there was."""
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))

        rig.price(-60)

        row = rig.look(order)
        assert (row.state, row.average, rig.net()) == (Reported.FILLED, rig.at(-60), ZERO)

    def test_a_stop_limit_rests_as_asked(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, STOP_LIMIT, 12, 10))

        row = rig.look(order)
        assert (row.side, row.type, row.qty, row.trigger_price) == (BUY, STOP_LIMIT, rig.qty, rig.at(10))
        assert (row.limit_price, row.state) == (rig.at(12), Reported.WORKING)

    def test_a_stop_limit_fires_within_its_limit(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, STOP_LIMIT, 12, 10))

        rig.price(9)
        rig.price(11)

        row = rig.look(order)
        assert (row.state, row.average) == (Reported.FILLED, rig.at(11))

    def test_a_stop_limit_that_is_jumped_over_does_not_fill(self, rig: Rig) -> None:
        """It rests at its limit, or the venue ends it; in neither case is more paid."""
        order = rig.submit(rig.order(BUY, STOP_LIMIT, 12, 10))

        rig.price(40)

        assert (filled(rig, order), rig.net()) == (ZERO, ZERO)

    def test_the_venue_order_id_never_changes(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        resting = rig.look(order).venue_id
        rig.wait(20)
        rig.broker.replace(order, rig.qty, None, rig.at(-9))
        amended = rig.look(order).venue_id
        rig.price(-15)

        orders, fills = rig.poll()
        shown = [row.venue_id for row in orders if row.state is Reported.FILLED]
        assert (resting, amended, shown, {fill.venue_id for fill in fills}) == (
            order.venue_id,
            order.venue_id,
            [order.venue_id],
            {order.venue_id},
        )

    def test_our_own_id_comes_back_on_its_row(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))

        assert [row.client_id for row in rig.poll()[0]] == [order.client_id]

    def test_the_book_and_the_order_itself_say_the_same(self, rig: Rig) -> None:
        orders = [rig.submit(rig.order(BUY, LIMIT, ticks)) for ticks in (-10, -11)]
        rig.price(-10)

        shown, _ = rig.poll()

        assert sorted(shown, key=lambda row: row.venue_id) == sorted(
            (rig.look(order) for order in orders), key=lambda row: row.venue_id
        )

    # -- fills -----------------------------------------------------------------------------------------------------------------

    def test_partial_fills_add_up(self, rig: Rig) -> None:
        """FIL-04."""
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        half = rig.qty / 2

        rig.price(-10, available=half)
        first = filled(rig, order), rig.look(order).state, rig.net()
        rig.price(-10)

        assert first == (half, Reported.WORKING, half)
        assert (filled(rig, order), rig.look(order).state, rig.net()) == (rig.qty, Reported.FILLED, rig.qty)
        assert [fill.qty for fill in rig.fills_of(order)] == [half, half]

    def test_a_partly_filled_order_keeps_the_quantity_that_was_asked_for(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))

        rig.price(-10, available=rig.qty / 2)

        assert rig.look(order).qty == rig.qty

    def test_the_average_is_that_of_the_fills(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, 30))
        rig.price(10, available=rig.qty / 2)
        rig.price(20)

        row, fills = rig.look(order), rig.fills_of(order)

        value = sum((fill.qty * fill.price for fill in fills), ZERO)
        assert len(fills) == 2 and row.average == value / rig.qty

    def test_each_fill_has_an_id_of_its_own_a_time_and_a_price(self, rig: Rig) -> None:
        orders = [rig.buy() for _ in range(3)]

        fills = rig.poll()[1]

        assert len({fill.trade_id for fill in fills}) == len(fills) == 3
        assert sorted(fill.venue_id for fill in fills) == sorted(str(order.venue_id) for order in orders)
        assert {(fill.side, fill.qty, fill.price) for fill in fills} == {(BUY, rig.qty, rig.at(0))}
        assert all(abs(fill.at_ms - rig.clock.now_ms()) < 120_000 for fill in fills)

    def test_a_fill_that_is_read_twice_is_the_same_fill(self, rig: Rig) -> None:
        """FIL-01."""
        rig.buy()

        assert rig.poll()[1] == rig.poll()[1] != []

    def test_a_fill_has_its_fee_and_the_currency_of_it(self, rig: Rig) -> None:
        """FIL-12."""
        order = rig.buy()

        fill = rig.fills_of(order)[0]

        assert fill.fee > 0 and fill.fee_currency == rig.fee_currency

    def test_positions_or_balances_add_up_with_the_fills(self, rig: Rig) -> None:
        name = rig.broker.instrument(rig.symbol).base if rig.broker.capabilities.balances else rig.symbol

        def held() -> Decimal:
            rig.wait(4)
            return sum((row.qty for row in rig.broker.positions() if row.symbol == name), ZERO)

        before = held()
        rig.buy()
        rig.buy(rig.qty / 2)
        bought = held()
        rig.submit(rig.order(SELL, MARKET, purpose=Purpose.EXIT))
        rig.price(0)

        signed = sum((fill.qty * fill.side.sign for fill in rig.poll()[1]), ZERO)
        assert (bought - before, held() - before, signed) == (rig.qty * 3 / 2, rig.qty / 2, rig.qty / 2)

    # -- cancel ------------------------------------------------------------------------------------------------------------------

    def test_a_cancel_of_a_working_order_ends_it(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))

        rig.broker.cancel(order)

        row = rig.look(order)
        assert (row.state, row.filled, rig.working()) == (Reported.CANCELLED, ZERO, [])

    def test_a_cancel_keeps_what_has_filled(self, rig: Rig) -> None:
        """FIL-05."""
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        rig.price(-10, available=rig.qty / 2)

        rig.look(order)
        rig.broker.cancel(order)

        row = rig.look(order)
        assert (row.state, row.filled, rig.working()) == (Reported.CANCELLED, rig.qty / 2, [])

    def test_a_cancel_of_a_filled_order_is_refused_and_the_order_shows_filled(self, rig: Rig) -> None:
        order = rig.buy()
        rig.look(order)

        assert outcome(lambda: rig.broker.cancel(order)) is Refused
        assert rig.look(order).state is Reported.FILLED

    def test_a_second_cancel_changes_nothing(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        rig.broker.cancel(order)
        rig.look(order)

        assert outcome(lambda: rig.broker.cancel(order)) in (Refused, None)
        assert (rig.look(order).state, rig.working()) == (Reported.CANCELLED, [])

    def test_a_cancel_of_an_unknown_order_is_refused(self, rig: Rig) -> None:
        order = msgspec.structs.replace(rig.order(BUY, LIMIT, -10), venue_id="99999999")

        assert outcome(lambda: rig.broker.cancel(order)) is Refused

    def test_an_unknown_order_is_none_and_no_error(self, rig: Rig) -> None:
        order = msgspec.structs.replace(rig.order(BUY, LIMIT, -10), venue_id="99999999")

        assert rig.broker.order(order) is None

    # -- amend -------------------------------------------------------------------------------------------------------------------

    def test_an_amend_moves_the_trigger_and_the_order_is_found_under_its_id(self, rig: Rig) -> None:
        """PRO-01."""
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))

        rig.broker.replace(order, rig.qty, rig.at(-15), None)

        row = rig.look(order)
        assert (row.venue_id, row.trigger_price, row.qty, row.state) == (order.venue_id, rig.at(-15), rig.qty, Reported.WORKING)
        assert rig.working() == [rig.works(SELL, rig.qty, -15)]

    def test_an_amend_changes_the_quantity_and_nothing_else(self, rig: Rig) -> None:
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))

        rig.broker.replace(order, rig.qty / 2, rig.at(-20), None)

        row = rig.look(order)
        assert (row.venue_id, row.trigger_price, row.qty) == (order.venue_id, rig.at(-20), rig.qty / 2)
        assert rig.working() == [rig.works(SELL, rig.qty / 2, -20)]

    def test_an_amended_stop_fires_at_its_new_trigger(self, rig: Rig) -> None:
        rig.buy()
        order = rig.submit(rig.order(SELL, STOP, trigger=-20, purpose=Purpose.STOP))
        rig.broker.replace(order, rig.qty, rig.at(-15), None)

        rig.price(-15)

        assert (rig.look(order).state, rig.net()) == (Reported.FILLED, ZERO)

    def test_an_amend_of_a_filled_order_is_refused(self, rig: Rig) -> None:
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        rig.price(-10)
        rig.look(order)

        assert outcome(lambda: rig.broker.replace(order, rig.qty * 2, None, rig.at(-9))) is Refused
        assert (rig.look(order).qty, rig.net()) == (rig.qty, rig.qty)

    # -- what the venue refuses ----------------------------------------------------------------------------------------------

    def test_a_quantity_below_the_smallest_is_refused(self, rig: Rig) -> None:
        assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10, qty=rig.too_small))) is Refused
        assert rig.working() == []

    def test_a_price_off_the_grid_is_refused(self, rig: Rig) -> None:
        price = rig.at(-10) + rig.grid.tick_size / 4

        assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, limit_price=price))) is Refused
        assert rig.working() == []

    def test_an_order_in_an_unknown_symbol_is_refused(self, rig: Rig) -> None:
        assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10, symbol=rig.unknown_symbol))) is Refused
        assert rig.working() == []

    def test_an_order_without_the_funds_for_it_is_refused_with_the_reason(self, rig: Rig) -> None:
        with pytest.raises(Refused, match="(?i)insufficient"):
            rig.submit(rig.without_funds())

        assert rig.working() == []

    def test_an_exit_never_turns_the_position_round(self, rig: Rig) -> None:
        """PRO-21: more than there is is refused, or filled as far as there is."""
        rig.buy()
        exit_order = rig.order(SELL, MARKET, qty=rig.qty * 10, purpose=Purpose.EXIT)

        ended = outcome(lambda: rig.submit(exit_order))
        rig.price(0)

        assert (ended, rig.net()) in ((Refused, rig.qty), (None, ZERO))

    # -- answers that do not come ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=["before accepting", "after accepting"])
    def test_a_lost_answer_to_an_order_is_unanswered(self, rig: Rig, fault: Fault) -> None:
        """UNK-01."""
        rig.broker.instrument(rig.symbol)
        rig.line.fault("place", fault)

        assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10))) is Unanswered
        assert (len(rig.sent()), len(rig.books())) == (1, int(fault.arrives))

    def test_a_lost_answer_to_a_cancel_or_an_amend_is_unanswered(self, rig: Rig) -> None:
        """UNK-11."""
        order = rig.submit(rig.order(BUY, LIMIT, -10))
        rig.look(order)
        rig.line.fault("amend", LOST_BEFORE)
        rig.line.fault("cancel", LOST_BEFORE)

        ended = [outcome(lambda: rig.broker.replace(order, rig.qty, None, rig.at(-9))), outcome(lambda: rig.broker.cancel(order))]

        assert ended == [Unanswered, Unanswered]
        assert (len(rig.sent("amend")), len(rig.sent("cancel"))) == (1, 1)

    def test_a_lost_answer_to_a_question_is_unavailable(self, rig: Rig) -> None:
        """NET-01: a read never "may have happened"."""
        rig.line.always("read", LOST_BEFORE)

        assert set(reads(rig).values()) <= {Unavailable, None}
        assert outcome(rig.broker.positions) is Unavailable

    @pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER, KEPT], ids=["before", "after", "long after"])
    def test_an_entry_without_an_answer_is_resolved_by_evidence_and_never_doubled(self, rig: Rig, fault: Fault) -> None:
        """UNK-01, UNK-07, UNK-14, UNK-15, UNK-16: what the venue has in the end is what the machine believes in the end."""
        trader = Trader(rig)
        rig.line.fault("place", fault)

        trader.tick(0)
        at_once = None if trader.s.entry is None else trader.s.entry.status
        if fault.kept:  # after a look that found nothing: absence is not proved so soon
            rig.wait(2)
            trader.poller.sweep()
            rig.deliver()
        trader.wait(8)

        there = rig.working()
        believed = [] if trader.s.entry is None else [rig.works(BUY, trader.s.entry.qty, -10)]
        assert (at_once, there) == (Status.UNKNOWN, believed)
        assert len(rig.books()) == len(there) <= 1
        assert (trader.s.halted, trader.listener.defects) == (None, [])

    def test_an_entry_that_filled_without_an_answer_is_protected(self, rig: Rig) -> None:
        """UNK-01."""
        trader = Trader(rig)
        rig.line.fault("place", LOST_AFTER)

        trader.tick(0)
        rig.price(-10)
        trader.until(lambda: trader.s.stop is not None and trader.s.stop.verified)

        assert (trader.s.position, rig.net()) == (rig.qty, rig.qty)
        assert rig.working() == [rig.works(SELL, rig.qty, -30)]

    def test_a_stop_without_an_answer_is_one_stop(self, rig: Rig) -> None:
        """UNK-02."""
        trader = Trader(rig)
        trader.tick(0)
        trader.until(lambda: trader.s.entry is not None and trader.s.entry.venue_id is not None)
        rig.line.fault("place", LOST_AFTER)

        rig.price(-10)
        trader.until(lambda: trader.s.stop is not None and trader.s.stop.verified)

        assert rig.working() == [rig.works(SELL, rig.qty, -30)]

    def test_a_trail_without_an_answer_is_read_back(self, rig: Rig) -> None:
        """UNK-11."""
        trader = Trader(rig)
        trader.hold()
        trader.plan.trail = {rig.at(10): rig.at(-5)}
        rig.line.fault("amend", LOST_AFTER)

        trader.wait(4)
        trader.tick(10)
        trader.until(lambda: trader.s.stop is not None and trader.s.stop.trigger_price == rig.at(-5) and trader.s.stop.verified)

        assert rig.working() == [rig.works(SELL, rig.qty, -5)]

    @pytest.mark.parametrize("fault", [LOST_BEFORE, LOST_AFTER], ids=["before", "after"])
    def test_an_exit_without_an_answer_sells_once(self, rig: Rig, fault: Fault) -> None:
        """UNK-12."""
        trader = Trader(rig)
        trader.hold()
        rig.line.fault("place", fault)

        trader.flatten()
        for _ in range(20):
            trader.wait(1)
            rig.price(0)

        assert (rig.net(), trader.s.position, rig.working()) == (ZERO, ZERO, [])

    def test_an_order_is_sent_once_whatever_becomes_of_it(self, rig: Rig) -> None:
        """NET-09: no retry below the desk."""
        rig.broker.instrument(rig.symbol)
        answers = (
            LOST_BEFORE,
            LOST_AFTER,
            answer(500, "{}"),
            answer(503, HTML),
            answer(429, "slow"),
            answer(302, "", Location="/x"),
        )
        for fault in answers:
            before = len(rig.sent())
            rig.wait(30)
            rig.line.fault("place", fault)
            outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10)))
            assert len(rig.sent()) == before + 1, fault

    def test_a_venue_that_cannot_be_reached_is_unavailable(self, rig: Rig) -> None:
        """NET-01: provably nothing was sent."""
        order = rig.order(BUY, LIMIT, -10)
        rig.line.close()
        broker, _ = rig.connect()

        assert [outcome(call) for call in (broker.check, broker.orders, lambda: broker.submit(order))] == [Unavailable] * 3
        assert rig.sent() == []

    @pytest.mark.parametrize("wait_s", [7.0, None], ids=["with Retry-After", "without"])
    def test_too_many_requests_is_unavailable_for_as_long_as_the_venue_says(self, rig: Rig, wait_s: float | None) -> None:
        """NET-04."""
        headers = {} if wait_s is None else {"Retry_After": "7"}
        rig.broker.instrument(rig.symbol)
        for name in ("place", "read"):
            rig.line.always(name, answer(429, '{"message":"10 per 1 second"}', **headers))

        with pytest.raises(Unavailable) as order:
            rig.submit(rig.order(BUY, LIMIT, -10))
        rig.wait(60)
        with pytest.raises(Unavailable) as question:
            rig.broker.positions()

        assert (order.value.retry_after_s, question.value.retry_after_s, rig.books()) == (wait_s, wait_s, [])

    def test_a_server_error_is_unanswered_for_an_order_and_unavailable_for_a_question(self, rig: Rig) -> None:
        """UNK-03."""
        rig.broker.instrument(rig.symbol)

        ended = {}
        for status in (500, 502, 503, 504):
            for name in ("place", "read"):
                rig.line.always(name, answer(status, '{"status":"error","message":"x"}'))
            rig.wait(4)
            ended[status] = outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10))), outcome(rig.broker.positions)

        assert ended == dict.fromkeys((500, 502, 503, 504), (Unanswered, Unavailable))

    def test_an_answer_that_cannot_be_read_is_never_empty_books(self, rig: Rig) -> None:
        """REC-14, NET-06: a maintenance page with status 200 says nothing of orders."""
        rig.broker.instrument(rig.symbol)
        rig.submit(rig.order(BUY, LIMIT, -10))
        rig.poll()

        for body in (HTML, "", "{}", "[]", "null", '{"data":', '{"status":"success"}'):
            for name in ("place", "read"):
                rig.line.always(name, answer(200, body))
            rig.wait(8)
            books = {outcome(rig.broker.orders), outcome(rig.broker.positions)}
            assert books <= {Unavailable, Fatal}, body
            assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10))) is Unanswered, body

    # -- other people --------------------------------------------------------------------------------------------------------

    def test_the_order_of_somebody_else_is_shown_as_not_ours(self, rig: Rig) -> None:
        rig.by_hand(BUY, rig.qty, rig.at(-15))

        rows = rig.poll()[0]

        assert [(row.client_id, row.side, row.qty, row.limit_price, row.state) for row in rows] == [
            (None, BUY, rig.qty, rig.at(-15), Reported.WORKING)
        ]

    def test_the_order_of_somebody_else_is_untouched_by_a_whole_trade(self, rig: Rig) -> None:
        """REC-09."""
        rig.by_hand(BUY, rig.qty, rig.at(-200))
        trader = Trader(rig)

        trader.hold()
        trader.flatten()
        trader.until(lambda: not trader.s.position and not trader.s.live_orders() or bool(rig.price(-10)))

        assert (rig.working(), rig.net(), trader.s.halted) == ([rig.works(BUY, rig.qty, -200)], ZERO, None)

    # -- streams ---------------------------------------------------------------------------------------------------------------

    def test_prices_come_in_order_and_with_the_venues_time(self, rig: Rig) -> None:
        """FEE-01."""
        with listening(rig) as told:
            until(lambda: rig.price(0) or told.of("tick"), "the first tick")
            for ticks in range(1, 21):
                rig.price(ticks)
            until(lambda: told.of("tick")[-1][2] == rig.at(20), "20 ticks")

            heard = told.of("tick")
        assert [price for _, _, price, _ in heard][-20:] == [rig.at(ticks) for ticks in range(1, 21)]
        times = [at_ms for *_, at_ms in heard]
        assert times == sorted(times) and all(abs(at_ms - rig.clock.now_ms()) < 5_000 for at_ms in times)

    def test_a_price_stream_that_is_cut_comes_back_by_itself(self, rig: Rig) -> None:
        """FEE-03."""
        with listening(rig) as told:
            until(lambda: rig.price(1) or told.of("tick"), "a tick")
            rig.cut_streams()
            until(lambda: told.of("disconnected"), "the cut is noticed")
            again = len(told.of("tick"))

            until(lambda: rig.price(2) or len(told.of("tick")) > again, "ticks again")

    def test_a_login_that_is_refused_is_told(self, rig: Rig) -> None:
        """FEE-09."""
        with listening(rig, private=True, keys=rig.wrong_keys) as told:
            until(lambda: told.of("alarm", "disconnected"), "it is told")

            assert told.of("tick", "order", "fill") == []

    def test_the_order_stream_tells_of_fills_and_cancels(self, rig: Rig) -> None:
        """FEE-14: by itself, without a question."""
        with listening(rig, private=True) as told:
            first, second = (rig.submit(rig.order(BUY, LIMIT, ticks)) for ticks in (-10, -30))
            rig.price(-10)
            until(lambda: first.venue_id in executed(told), "the fill")
            rig.broker.cancel(second)
            until(lambda: second.venue_id in ended(told, Reported.CANCELLED), "the cancel")

            assert ended(told, Reported.FILLED) == {first.venue_id}

    def test_what_the_stream_missed_the_books_tell(self, rig: Rig) -> None:
        """FEE-03: after a reconnect whoever listens is told that there was a gap, and nothing is lost or doubled."""
        with listening(rig, private=True) as told:
            order = rig.submit(rig.order(BUY, LIMIT, -10))
            before = len(told.of("connected"))
            rig.cut_streams()
            rig.price(-10)
            until(lambda: len(told.of("connected")) > before, "connected again")

            assert [fill.qty for fill in rig.fills_of(order)] == [rig.qty]
            assert rig.look(order).state is Reported.FILLED

    # -- threads and the end ---------------------------------------------------------------------------------------------------

    def test_eight_threads_may_read_while_orders_go(self, rig: Rig) -> None:
        """Each call answers or raises one of the four errors; each order is placed once."""
        rig.broker.instrument(rig.symbol)
        odd: list[BaseException] = []

        def read() -> None:
            for _, call in READS:
                try:
                    call(rig)
                except Unavailable:
                    pass  # our own brake, where the venue affords few reads
                except BaseException as error:
                    odd.append(error)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        orders = [at_last(rig, rig.order(BUY, LIMIT, -10 - number)) for number in range(4)]
        for thread in threads:
            thread.join(30)

        assert (odd, any(thread.is_alive() for thread in threads)) == ([], False)
        assert len({order.venue_id for order in orders}) == 4 == len(rig.working())

    def test_a_call_ends_within_its_time(self, rig: Rig) -> None:
        """NET-07: a server that says nothing."""
        broker, _ = rig.connect(timeout_s=1.0)
        broker.instrument(rig.symbol)
        rig.line.silence = silent = threading.Event()
        began_ms = rig.clock.monotonic_ms()

        ended = outcome(lambda: broker.submit(rig.order(BUY, LIMIT, -10)))
        took_ms = rig.clock.monotonic_ms() - began_ms
        silent.set()

        assert ended is Unanswered and 900 <= took_ms < TIMEOUT_S * 1000

    def test_after_close_nothing_is_sent(self, rig: Rig) -> None:
        rig.broker.instrument(rig.symbol)
        rig.broker.close()

        assert outcome(lambda: rig.submit(rig.order(BUY, LIMIT, -10))) is Unavailable
        assert (rig.sent(), rig.books()) == ([], [])


# -- listening -------------------------------------------------------------------------------------------------------------------


@contextmanager
def listening(rig: Rig, private: bool = False, **account: Any) -> Iterator[Recorder]:
    """A feed on a thread of its own, connected; `private`: the stream that tells of orders."""
    broker, streams = (rig.broker, rig.streams) if not account else rig.connect(**account)
    told = Recorder()
    own = private and streams.orders is not None
    dialect, wire = (streams.orders, streams.orders_wire) if own else (streams.prices, streams.prices_wire)
    assert dialect is not None
    sinks = {} if own else {rig.symbol: told.sink(rig.symbol)}
    if not account:
        broker.instrument(rig.symbol)
        with suppress(BrokerError):
            broker.orders()
    feed = Feed(dialect, sinks, told, rig.clock, Limits(turn_ms=20), wire=wire)
    thread = threading.Thread(target=feed.run, daemon=True)
    thread.start()
    try:
        if not account:
            until(lambda: told.of("connected"), "connected")
            feed.release()
        yield Released(told, feed)  # type: ignore[misc]
    finally:
        feed.stop()
        thread.join(10)


class Released:
    """A recorder whose feed delivers after each connect, as after a sweep of the books."""

    def __init__(self, told: Recorder, feed: Feed) -> None:
        self._told, self._feed = told, feed

    def of(self, *kinds: str) -> list[Any]:
        self._feed.release(self._feed.connection)
        return self._told.of(*kinds)


def executed(told: Recorder) -> set[str]:
    """Orders of which the stream has told a fill, as an execution or as a sum."""
    found = {fill.venue_id for _, fill in told.of("fill") if isinstance(fill, FillRow)}
    return found | {row.venue_id for _, row in told.of("order") if isinstance(row, OrderRow) and row.filled}


def ended(told: Recorder, state: Reported) -> set[str]:
    return {row.venue_id for _, row in told.of("order") if isinstance(row, OrderRow) and row.state is state}


# -- the table -------------------------------------------------------------------------------------------------------------------


def behaviours() -> set[str]:
    return {name for name in vars(TestEveryBroker) if name.startswith("test_")}


def test_there_are_as_many_behaviours_as_were_asked_for() -> None:
    assert len(behaviours()) >= 30


def test_what_does_not_apply_names_a_behaviour_and_a_reason() -> None:
    told = [(name, why) for known in NOT_HERE.values() for name, why in known.items()]

    assert tuple(NOT_HERE) == BROKERS
    assert [name for name, why in told if name not in behaviours() or not why] == []


def test_the_committed_table_is_of_these_behaviours_and_all_of_them_hold() -> None:
    """Else: python tasks.py conformance."""
    document = PAGE.read_text(encoding="utf-8")

    assert sorted(names(document)) == sorted(words(name) for name in behaviours())
    assert FAILED not in document and "not run" not in document
    for broker, known in NOT_HERE.items():
        place = BROKERS.index(broker) + 1
        rows = [line.strip("| ").split(" | ") for line in document.splitlines() if line.startswith("| ")]
        shown = {row[0] for row in rows if row[place].startswith("n/a")}
        assert shown == {words(name) for name in known}, broker
