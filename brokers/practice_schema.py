"""Field checks of the OpenAlgo dialect, with the dialect's own words for what is wrong (venues/openalgo.md, section 4.1).

Owns which fields each path takes. Reads bodies exactly: a number becomes Decimal from its text.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

EXCHANGES = (
    *("NSE", "NFO", "CDS", "BSE", "BFO", "BCD", "MCX", "NCDEX", "NCO"),
    *("NSE_INDEX", "BSE_INDEX", "MCX_INDEX", "GLOBAL_INDEX", "CRYPTO"),
)
_NUMBER_MAX = Decimal(10) ** 15
_BODY = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_ANYTHING = msgspec.json.Decoder(float_hook=Decimal)


class SchemaError(Exception):
    """The body is not what the path takes. `problems`: field name to the dialect's complaints."""

    def __init__(self, problems: dict[str, list[str]]) -> None:
        super().__init__(str(problems))
        self.problems = problems


class BadValue(Exception):
    """This value is wrong; the text is the dialect's complaint."""


class BadJson(Exception):
    """The body is not JSON."""


class Field(NamedTuple):
    read: Callable[[Any], Any]
    required: bool = True
    default: Any = None


Schema = dict[str, Field]


def read_body(body: bytes) -> dict[str, Any]:
    try:
        return _BODY.decode(body)
    except msgspec.ValidationError:
        raise SchemaError({"_schema": ["Invalid input type."]}) from None
    except msgspec.DecodeError:
        raise BadJson from None


def read_message(text: str | bytes) -> Any:
    """Any JSON value of a socket message."""
    try:
        return _ANYTHING.decode(text)
    except msgspec.DecodeError:
        raise BadJson from None


def check(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    """The body's values, checked and with defaults filled in. Raises SchemaError with every complaint."""
    problems: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for name, field in schema.items():
        if body.get(name) is None:
            values[name] = field.default
            if name in body:
                problems[name] = ["Field may not be null."]
            elif field.required:
                problems[name] = ["Missing data for required field."]
            continue
        try:
            values[name] = field.read(body[name])
        except BadValue as complaint:
            problems[name] = [str(complaint)]
    problems |= {name: ["Unknown field."] for name in body if name not in schema}
    if problems:
        raise SchemaError(problems)
    return values


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue("Not a valid string.")
    if not 1 <= len(value) <= 256:
        raise BadValue("Length must be between 1 and 256.")
    return value


def number(value: Any) -> Decimal:
    """A number of 0 or more, as a JSON number or as a numeric string."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise BadValue("Not a valid number.")
    try:
        parsed = Decimal(value)
    except InvalidOperation:
        raise BadValue("Not a valid number.") from None
    if not parsed.is_finite():
        raise BadValue("Special numeric values (nan or infinity) are not permitted.")
    if not 0 <= parsed < _NUMBER_MAX:
        raise BadValue("Must be a non-negative number.")
    return parsed


def quantity(value: Any) -> Decimal:
    parsed = number(value)
    if parsed == 0:
        raise BadValue("Quantity must be a positive number.")
    return Decimal(int(parsed)) if parsed == int(parsed) else parsed


def year(value: Any) -> int:
    parsed = number(value)
    if parsed != int(parsed) or not 2020 <= parsed <= 2050:
        raise BadValue("Must be greater than or equal to 2020 and less than or equal to 2050.")
    return int(parsed)


def day(value: Any) -> date:
    try:
        return date.fromisoformat(text(value))
    except ValueError:
        raise BadValue("Not a valid date.") from None


def order_id(value: Any) -> str:
    """Some servers number their orders: a number is read as its text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def one_of(*choices: str, any_case: bool = False) -> Callable[[Any], str]:
    allowed = (*choices, *(choice.lower() for choice in choices)) if any_case else choices

    def read(value: Any) -> str:
        if value not in allowed:
            raise BadValue(f"Must be one of: {', '.join(allowed)}.")
        return str(value).upper()

    return read


def symbol_list(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadValue("Not a valid list.")
    try:
        return [check(INSTRUMENT, item) for item in value if isinstance(item, dict)]
    except SchemaError as error:
        raise BadValue(str(error.problems)) from None


_ZERO = Decimal(0)
_KEY = {"apikey": Field(text)}
INSTRUMENT = {"symbol": Field(text), "exchange": Field(one_of(*EXCHANGES))}
_KINDS = one_of("MARKET", "LIMIT", "SL", "SL-M")
_PRODUCTS = one_of("MIS", "NRML", "CNC")
_SIDES = one_of("BUY", "SELL", any_case=True)

SCHEMAS: dict[str, Schema] = {
    "placeorder": _KEY
    | INSTRUMENT
    | {
        "strategy": Field(text),
        "action": Field(_SIDES),
        "quantity": Field(quantity),
        "pricetype": Field(_KINDS, False, "MARKET"),
        "product": Field(_PRODUCTS, False, "MIS"),
        "price": Field(number, False, _ZERO),
        "trigger_price": Field(number, False, _ZERO),
        "disclosed_quantity": Field(number, False, _ZERO),
        "underlying_ltp": Field(number, False, None),
    },
    "modifyorder": _KEY
    | INSTRUMENT
    | {
        "strategy": Field(text),
        "orderid": Field(order_id),
        "action": Field(_SIDES),
        "product": Field(_PRODUCTS),
        "pricetype": Field(_KINDS),
        "price": Field(number),
        "quantity": Field(quantity),
        "trigger_price": Field(number),
        "disclosed_quantity": Field(number),
    },
    "cancelorder": _KEY | {"strategy": Field(text), "orderid": Field(order_id)},
    "orderstatus": _KEY | {"strategy": Field(text), "orderid": Field(order_id)},
    "openposition": _KEY | INSTRUMENT | {"strategy": Field(text), "product": Field(_PRODUCTS)},
    "quotes": _KEY | INSTRUMENT,
    "symbol": _KEY | INSTRUMENT,
    "multiquotes": _KEY | {"symbols": Field(symbol_list)},
    "search": _KEY | {"query": Field(text), "exchange": Field(one_of(*EXCHANGES), False)},
    "market/holidays": _KEY | {"year": Field(year)},
    "market/timings": _KEY | {"date": Field(day)},
    **dict.fromkeys(("orderbook", "tradebook", "positionbook", "holdings", "funds", "ping", "analyzer"), _KEY),
}
