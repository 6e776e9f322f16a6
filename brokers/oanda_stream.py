"""OANDA's two streams, one JSON object per line: prices, and the account's transactions (venue sheet, section 11).

Owns no socket; the transactions go into the log they share with the REST side (oanda_log), whatever brings them first. A line
that cannot be read is `Noise` or `Incomplete`, never an exception. What is sent is the target of the one request that a stream
is: asking again within a connection is not possible there, and not needed.

Prices have no sequence and are thinned out to four a second; of each the bid counts (`oanda.bid` says why). One that cannot be
traded is no tick, so entries go off with the ticks. Transactions have ids without a gap: one that is missing, or a heartbeat that
names a later one than we know, sends the poller to the books.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec

from brokers.base import Unreadable
from brokers.dialect import Incomplete, LoginRefused, Message, Noise, OrdersSubscribed, Several, Subscribed, Tick, Trouble
from brokers.oanda_log import TransactionLog, id_of, time_ms
from brokers.oanda_words import text
from brokers.replies import decode, printable
from brokers.spelling import Spelling

NOTHING = Several(())
_UNREADABLE = (ValueError, RecursionError, ArithmeticError)  # every msgspec error is a ValueError


class _Level(msgspec.Struct, gc=False):
    price: Decimal


class _Price(msgspec.Struct, gc=False):
    """Some lines have no type, some no `tradeable`: what has bids is a price."""

    instrument: str
    bids: list[_Level]
    time: str = ""
    status: str = "tradeable"
    tradeable: bool = True


_read_price = msgspec.json.Decoder(_Price).decode


class OandaPrices:
    """The prices of one account's instruments."""

    needs_login = False

    def __init__(self, url: str, account_id: str, spelling: Spelling) -> None:
        self.url = url
        self._path = f"/accounts/{quote(account_id, safe='')}/pricing/stream"
        self._spelling = spelling
        self._asked = False

    def hello(self) -> list[str]:
        self._asked = False
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        if self._asked or not symbols:
            return []
        self._asked = True
        return [f"{self._path}?instruments={quote(','.join(symbols), safe=',')}&snapshot=true"]

    def subscribe_orders(self) -> list[str]:
        return []

    def receive(self, frame: bytes) -> Message:
        try:
            price = _read_price(frame)
        except _UNREADABLE:
            return _other(frame)
        symbol = self._spelling.ours(price.instrument)
        if not price.tradeable or price.status != "tradeable" or not price.bids:
            return Several((Subscribed((symbol,), {}), Noise("not tradeable")))
        best = price.bids[0].price
        if not best.is_finite() or best <= 0:
            return Noise("no price")
        return Tick(symbol, best, time_ms(price.time) or None)


class OandaTransactions:
    """What happens to one account."""

    needs_login = False

    def __init__(self, url: str, account_id: str, transactions: TransactionLog) -> None:
        self.url = url
        self._target = f"/accounts/{quote(account_id, safe='')}/transactions/stream"
        self._log = transactions

    def hello(self) -> list[str]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        return []

    def subscribe_orders(self) -> list[str]:
        return [self._target]

    def receive(self, frame: bytes) -> Message:
        found = decode(frame)
        if found is None or "type" not in found:
            return _other(frame)
        try:
            if found["type"] == "HEARTBEAT":
                return self._heartbeat(id_of(found, "lastTransactionID"))
            return self._transaction(found)
        except Unreadable as wrong:
            return Incomplete(str(wrong))

    def _heartbeat(self, last: int) -> Message:
        self._log.heard(last)
        if self._log.read and last > self._log.last:
            return Several((OrdersSubscribed(), Incomplete("transactions were missed: the books will tell them")))
        return OrdersSubscribed()

    def _transaction(self, found: dict[str, Any]) -> Message:
        """Before the books have been read for the first time there is nothing to add it to, and they will tell it anyway."""
        self._log.heard(id_of(found, "id"))
        if not self._log.read:
            return OrdersSubscribed()
        self._log.take([found])
        return Several((OrdersSubscribed(), *self._log.news(found)))


def _other(frame: bytes) -> Message:
    found = decode(frame)
    if found is None:
        return Noise("not JSON")
    if "errorMessage" in found or "errorCode" in found:
        words = f"{text(found, 'errorCode')} {text(found, 'errorMessage')}".strip()
        return LoginRefused(words) if "uthoriz" in words else Trouble(printable(words))
    return NOTHING if found.get("type") == "HEARTBEAT" else Noise("of no use")
