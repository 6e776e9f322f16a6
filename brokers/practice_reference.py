"""The REST paths of the practice venue that no order changes: quotes, instruments, calendar, health (openalgo.md, 5, 11, 12)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

from brokers.practice_reply import BROKER, Handler, Reply, Values, error, ist, success
from brokers.practice_venue import IST, Venue
from state.instrument import Instrument


class Reference:
    """`paths`: path to the function that answers it, for Rest to serve."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.paths: dict[str, Handler] = {
            "quotes": self._quotes,
            "multiquotes": self._multiquotes,
            "symbol": self._symbol,
            "search": self._search,
            "market/holidays": self._market_holidays,
            "market/timings": self._market_timings,
            "ping": self._ping,
            "analyzer": self._analyzer,
        }

    # Market data and instruments

    def _quotes(self, values: Values) -> Reply:
        if self._venue.instrument(values["symbol"], values["exchange"]) is None:
            where = f"Symbol '{values['symbol']}' not found for exchange '{values['exchange']}'."
            return error(400, f"{where} Please verify the symbol name and ensure master contracts are downloaded.")
        return success({"data": self._quote(values["symbol"])})

    def _multiquotes(self, values: Values) -> Reply:
        results = []
        for wanted in values["symbols"]:
            known = self._venue.instrument(wanted["symbol"], wanted["exchange"]) is not None
            answer = {"data": self._quote(wanted["symbol"])} if known else {"error": "Symbol not found"}
            results.append(wanted | answer)
        return success({"results": results})

    def _quote(self, symbol: str) -> Values:
        """Before the first tick the last price is the previous close, where the venue knows one; else 0."""
        prices = self._venue.prices[symbol]
        last = prices.last or prices.previous_close
        ends = {"open": prices.open, "high": prices.high, "low": prices.low}
        return ends | {
            "ask": last,
            "bid": last,
            "ltp": last,
            "oi": 0,
            "prev_close": prices.previous_close,
            "volume": prices.volume,
        }

    def _symbol(self, values: Values) -> Reply:
        instrument = self._venue.instrument(values["symbol"], values["exchange"])
        if instrument is None:
            return error(404, f"Symbol {values['symbol']} not found in exchange {values['exchange']}")
        return success({"data": self._instrument_row(instrument)})

    def _search(self, values: Values) -> Reply:
        found = [
            self._instrument_row(instrument)
            for instrument in self._venue.instruments.values()
            if values["query"].upper() in instrument.symbol.upper() and values["exchange"] in (None, instrument.exchange)
        ]
        message = f"Found {len(found)} matching symbols" if found else "No matching symbols found"
        return success({"data": found, "message": message})

    def _instrument_row(self, instrument: Instrument) -> Values:
        number_of = list(self._venue.instruments).index(instrument.symbol) + 1
        return {
            "brexchange": instrument.exchange,
            "brsymbol": f"{instrument.symbol}-EQ",
            "exchange": instrument.exchange,
            "expiry": "",
            "freeze_qty": instrument.freeze_qty or 1,
            "id": number_of,
            "instrumenttype": "EQ",
            "lotsize": instrument.lot_size,
            "name": instrument.symbol,
            "strike": Decimal("-1.0"),
            "symbol": instrument.symbol,
            "tick_size": instrument.tick_size,
            "token": str(number_of),
        }

    # Calendar, health

    def _market_holidays(self, values: Values) -> Reply:
        exchanges = self._exchanges()
        rows = [
            {
                "closed_exchanges": exchanges,
                "date": day,
                "description": "Holiday",
                "holiday_type": "TRADING_HOLIDAY",
                "open_exchanges": [],
            }
            for day in self._venue.spec.settings.holidays
            if day.startswith(str(values["year"]))
        ]
        return success({"data": rows, "timezone": "Asia/Kolkata", "year": values["year"]})

    def _market_timings(self, values: Values) -> Reply:
        """The session's own hours on its day, the same hours on other weekdays; a Saturday has crypto only."""
        day: date = values["date"]
        spec = self._venue.spec
        shift = day - ist(spec.open_ms).date()
        if day.isoformat() in spec.settings.holidays or (shift and day.weekday() == 6):
            return success({"data": []})
        exchanges, start_ms, end_ms = self._exchanges(), spec.open_ms, spec.close_ms
        if shift and day.weekday() == 5:
            midnight_ms = int(datetime(day.year, day.month, day.day, tzinfo=IST).timestamp()) * 1000
            return success({"data": [{"exchange": "CRYPTO", "start_time": midnight_ms, "end_time": midnight_ms + 86_399_000}]})
        shift_ms = shift // timedelta(milliseconds=1)
        times = {"start_time": start_ms + shift_ms, "end_time": end_ms + shift_ms}
        return success({"data": [{"exchange": exchange} | times for exchange in exchanges]})

    def _exchanges(self) -> list[str]:
        return sorted({instrument.exchange for instrument in self._venue.instruments.values()})

    def _ping(self, values: Values) -> Reply:
        return success({"data": {"broker": BROKER, "message": "pong"}})

    def _analyzer(self, values: Values) -> Reply:
        return success({"data": {"analyze_mode": True, "mode": "analyze", "total_logs": 0}})
