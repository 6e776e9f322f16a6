"""How the practice venue's REST answers look: JSON with sorted keys, numbers printed from Decimal, times in IST."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from brokers.practice_venue import IST

BROKER = "practice"
NO_PRICE = Decimal("0.0")

Values = dict[str, Any]

_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")


class Wire(Enum):
    """How an answer travels. All but PLAIN are faults."""

    PLAIN = "as it should"
    DROP = "the connection is closed without a byte"
    RESET = "the connection is reset without a byte"
    DRIBBLE = "byte by byte"
    CLOSE_AFTER = "well, and then the connection is closed without a word"


class Reply(msgspec.Struct, frozen=True):
    """One HTTP answer."""

    status: int
    body: bytes
    close: bool = False  # and then close the connection, announced
    wire: Wire = Wire.PLAIN
    pause_s: float = 0.0  # between two bytes of a DRIBBLE
    media_type: str = "application/json"


Handler = Callable[[Values], Reply]


def ist(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, IST)


def stamp(at_ms: int) -> str:
    return f"{ist(at_ms):%Y-%m-%d %H:%M:%S}"


def reply(status: int, body: Values, close: bool = False) -> Reply:
    return Reply(status, _ENCODER.encode(body), close)


def success(body: Values) -> Reply:
    return reply(200, body | {"status": "success"})


def analyzed(body: Values) -> Reply:
    return reply(200, body | {"mode": "analyze", "status": "success"})


def error(status: int, message: str | dict[str, list[str]], **more: str) -> Reply:
    return reply(status, {"message": message, "status": "error"} | more)
