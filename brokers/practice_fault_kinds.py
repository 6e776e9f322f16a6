"""The faults the practice venue knows: their kinds, what each takes, and the `Fault` that a script is a list of.

Owns names, defaults and checks; how a fault is carried out lies with the venue's process (practice_dial.py says when). Light on
purpose: the runner imports it to read a script.

Durations (`delay`, `lasts`) are real time at any speed; the window (`from`, `until`) is session time after the open.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Literal, NamedTuple

import msgspec

PLACE, MODIFY, CANCEL = "placeorder", "modifyorder", "cancelorder"
ORDER_PATHS = (PLACE, MODIFY, CANCEL)
BOOKS = ("orderbook", "tradebook", "positionbook", "holdings", "funds", "multiquotes", "search", "ping", "analyzer")
CALENDAR = ("market/holidays", "market/timings")
NAMELESS = (*BOOKS, *CALENDAR)  # requests that name no symbol
REST_PATHS = (*ORDER_PATHS, "orderstatus", "openposition", "quotes", "symbol", *NAMELESS)
UPDATES, TICKS = "stream", "ticks"
ANY = "*"


class Where(Enum):
    """The moment at which a fault may strike: one occasion is one request, order, fill, read, message …"""

    REQUEST = "a request over REST"
    RETYPE = "a stop-market order that is accepted"
    ACCEPT = "an order that is accepted"
    OVERFILL = "an order that is complete"
    LAG = "an order that is complete, too"
    HAND = "a fill of ours that leaves a position"
    ORDERS = "a read of orders"
    POSITIONS = "a read of positions"
    UPDATE = "an order update"
    SOCKET = "a message to the sockets"
    PRICE = "a tick"
    START = "the start of the venue"


class Rule(NamedTuple):
    """One kind. `paths`: where it may apply; `usual`: where it does when the fault names no path. `takes`: the parameters it
    uses. `answers`: its variants, the first one usual. Then the defaults; `times` 0 is without end."""

    where: Where
    says: str
    paths: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    delay_ms: int = 0
    lasts_ms: int = 0
    times: int = 1


_R = Where.REQUEST
_ALL = REST_PATHS
_EXPIRED = tuple(path for path in REST_PATHS if path not in CALENDAR)  # the calendar is answered without a broker session

KINDS: dict[str, Rule] = {
    # The way there and back
    "lost_reply": Rule(
        _R, "executed; `delay` later the connection is closed without a byte", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms")
    ),
    "delayed_reply": Rule(_R, "executed now, answered `delay` later", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms"), delay_ms=1200),
    "stall": Rule(
        _R, "nothing for `delay`, then executed and answered", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms"), delay_ms=30_000
    ),
    "dribble": Rule(
        _R, "executed; the body comes one byte each `delay`", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms"), delay_ms=1000
    ),
    "error_before": Rule(_R, "5xx, not executed", _ALL, ORDER_PATHS, ("status", "reason", "lasts_ms")),
    "error_after": Rule(_R, "executed, 5xx", _ALL, ORDER_PATHS, ("status", "reason", "lasts_ms")),
    "rate_limited": Rule(_R, "429, not executed", _ALL, ORDER_PATHS, ("lasts_ms",), times=5),
    "late_accept": Rule(
        _R,
        "an error, a dropped connection or silence now; the venue executes it `delay` later",
        ORDER_PATHS,
        (PLACE,),
        ("delay_ms", "status", "reason"),
        ("error", "drop", "hold"),
        delay_ms=5000,
    ),
    "reset_before": Rule(_R, "TCP reset, not executed", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms")),
    "reset_after": Rule(_R, "executed, TCP reset", _ALL, ORDER_PATHS, ("delay_ms", "lasts_ms")),
    "close_after_reply": Rule(_R, "answered well, then the kept-alive connection is closed", _ALL, ORDER_PATHS, ("lasts_ms",)),
    "garbage": Rule(
        _R, "executed; a 200 nobody can read", _ALL, ORDER_PATHS, ("lasts_ms",), ("html", "truncated", "empty", "null_data")
    ),
    "no_id": Rule(
        _R,
        "200 without an order id: parked for approval (executed `delay` later, else never), or executed and null or missing",
        (PLACE,),
        (PLACE,),
        ("delay_ms",),
        ("pending", "null", "missing"),
    ),
    "error_with_id": Rule(_R, "400 with an order id; the row reads rejected", (PLACE,), (PLACE,), ("reason",)),
    "session_expired": Rule(_R, "403 on everything", _EXPIRED, _EXPIRED, ("lasts_ms",), times=0),
    "mode_gone": Rule(_R, "the reply does not say the mode, as if the server were live", _ALL, ("orderbook",), ("lasts_ms",)),
    # Orders that do not do as they were told
    "modify_ignored": Rule(_R, "acknowledged; done `delay` later, never without one", (MODIFY,), (MODIFY,), ("delay_ms",)),
    "cancel_loses_to_fill": Rule(
        _R, "fills (`qty` of it, else all) before the cancel or modify is looked at", (CANCEL, MODIFY), (CANCEL,), ("qty",)
    ),
    "fill_after_cancel": Rule(
        _R,
        "cancelled and confirmed; `delay` later it fills all the same",
        (CANCEL,),
        (CANCEL,),
        ("delay_ms", "qty"),
        delay_ms=3000,
    ),
    "fill_first": Rule(
        _R, "fills at once; the reply comes `delay` after the fill's update", (PLACE,), (PLACE,), ("delay_ms", "qty"), delay_ms=15
    ),
    "partial_fills": Rule(
        Where.ACCEPT,
        "at most `qty` of the order in one fill, and `delay` between two",
        (PLACE,),
        (PLACE,),
        ("qty", "delay_ms"),
        times=0,
    ),
    "reject_later": Rule(
        Where.ACCEPT,
        "ends by itself `delay` after it was accepted, with at most `qty` filled",
        (PLACE,),
        (PLACE,),
        ("delay_ms", "qty", "reason"),
        ("rejected", "cancelled", "expired"),
        delay_ms=2000,
    ),
    "stop_type_changed": Rule(
        Where.RETYPE,
        "goes to the book as LIMIT without a trigger, and fills or does not",
        (PLACE,),
        (PLACE,),
        (),
        ("fills", "rests"),
    ),
    "overfill": Rule(Where.OVERFILL, "the order fills `qty` (else one lot) more than ordered", (PLACE,), (PLACE,), ("qty",)),
    # Books that lag or lie
    "empty_positions": Rule(
        Where.POSITIONS,
        "positions are missing, or read 0",
        ("positionbook", "openposition"),
        ("positionbook",),
        (),
        ("empty", "zero"),
    ),
    "stale_orders": Rule(
        Where.ORDERS,
        "orders read as they did before their last change",
        ("orderbook", "orderstatus"),
        ("orderbook", "orderstatus"),
    ),
    "stale_positions": Rule(
        Where.POSITIONS, "positions read as before the last fill", ("positionbook", "openposition"), ("positionbook",)
    ),
    "tradebook_lags": Rule(
        Where.LAG, "for `lasts`: complete with average 0, and no trade row", (PLACE,), (PLACE,), ("lasts_ms",), lasts_ms=3000
    ),
    # The user, by phone
    "manual_close": Rule(Where.HAND, "the user closes our position", takes=("delay_ms",), delay_ms=1000),
    "manual_reduce": Rule(Where.HAND, "the user sells `qty` (else half) of it", takes=("delay_ms", "qty"), delay_ms=1000),
    "manual_add": Rule(Where.HAND, "the user adds `qty` (else as much again)", takes=("delay_ms", "qty"), delay_ms=1000),
    "manual_reverse": Rule(
        Where.HAND, "the user trades `qty` (else twice the position) against it", takes=("delay_ms", "qty"), delay_ms=1000
    ),
    "manual_order": Rule(
        Where.HAND, "the user places a resting order of their own", takes=("delay_ms", "qty", "price"), delay_ms=1000
    ),
    "foreign_order": Rule(Where.START, "a resting order of the user's is there before us", takes=("qty", "price")),
    "foreign_position": Rule(Where.START, "a position of the user's is there before us", takes=("qty", "price")),
    # The stream
    "updates_missing": Rule(Where.UPDATE, "the update is never sent", (UPDATES,), (UPDATES,), ("lasts_ms",)),
    "updates_duplicated": Rule(Where.UPDATE, "the update is sent twice", (UPDATES,), (UPDATES,), ("lasts_ms",)),
    "updates_reordered": Rule(
        Where.UPDATE,
        "the update is sent after the next one, at the latest `delay` later",
        (UPDATES,),
        (UPDATES,),
        ("delay_ms",),
        delay_ms=1000,
    ),
    "updates_delayed": Rule(
        Where.UPDATE, "the update is sent `delay` later", (UPDATES,), (UPDATES,), ("delay_ms", "lasts_ms"), delay_ms=2000
    ),
    "silent_socket": Rule(
        Where.SOCKET,
        "for `lasts` (else for good) no ticks and no order updates; every question is answered",
        (UPDATES, TICKS),
        (UPDATES, TICKS),
        ("lasts_ms",),
    ),
    "socket_drop": Rule(
        Where.SOCKET,
        "every socket is closed or reset, and for `lasts` each new one at once",
        (UPDATES, TICKS),
        (TICKS,),
        ("lasts_ms",),
        ("close", "reset"),
    ),
    "bad_price": Rule(
        Where.PRICE,
        "after a tick one more message that is none (`price` for spike)",
        (TICKS,),
        (TICKS,),
        ("price", "lasts_ms"),
        (
            *("any", "nan", "zero", "negative", "null", "true", "infinity", "huge", "spike", "old", "seconds", "no_time"),
            *("unknown_symbol", "broken_json"),
        ),
    ),
}

_BOUNDS = {"delay_ms": 0, "lasts_ms": 0, "from_ms": None, "until_ms": None, "nth": 1, "times": 0, "seed": None}
_PARAMETERS = ("delay_ms", "lasts_ms", "qty", "price", "status", "reason")
FILE_NAMES = {"delay_ms": "delay", "lasts_ms": "lasts", "from_ms": "from", "until_ms": "until"}


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One line of a fault script. The filters (`path` … `purpose`) and the window say which occasions count; of those it strikes
    from the `nth` on, `times` times (0: without end), each with `probability`. While it `lasts` it strikes every one.
    """

    kind: str
    path: str = ""  # "" the kind's usual ones, "*" all it may apply to
    symbol: str = ""
    side: Literal["", "BUY", "SELL"] = ""
    purpose: Literal["", "E", "S", "T", "X"] = ""  # the letter in the client order id
    nth: int = 1
    times: int | None = None  # usual: the kind's; without end where a probability is given
    probability: float | None = None
    seed: int = 0
    from_ms: int | None = None  # session time after the open
    until_ms: int | None = None
    delay_ms: int | None = None  # real time
    lasts_ms: int | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    status: int | None = None
    answer: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        wrong = complaints(self)
        if wrong:
            raise ValueError("; ".join(f"{field}: {text}" for field, text in wrong))

    @property
    def rule(self) -> Rule:
        return KINDS[self.kind]

    @property
    def paths(self) -> tuple[str, ...]:
        if self.path == ANY:
            return self.rule.paths
        return (self.path,) if self.path else self.rule.usual

    @property
    def most(self) -> int:
        """How often it may strike; 0 is without end."""
        if self.times is not None:
            return self.times
        return 0 if self.probability is not None else self.rule.times

    @property
    def word(self) -> str:
        return self.answer or (self.rule.answers[0] if self.rule.answers else "")

    @property
    def delay_s(self) -> float:
        return (self.rule.delay_ms if self.delay_ms is None else self.delay_ms) / 1000

    @property
    def lasts_s(self) -> float:
        return (self.rule.lasts_ms if self.lasts_ms is None else self.lasts_ms) / 1000


def complaints(fault: Fault) -> list[tuple[str, str]]:
    """Everything wrong with it, as (field, what is wrong)."""
    rule = KINDS.get(fault.kind)
    if rule is None:
        return [("kind", f"no such fault {fault.kind!r}; there are {', '.join(KINDS)}")]
    wrong = [*_wrong_numbers(fault), *_wrong_parameters(fault, rule)]
    if fault.path and fault.path != ANY and fault.path not in rule.paths:
        takes = f"takes {', '.join(rule.paths)}" if rule.paths else "takes no path"
        wrong.append(("path", f"{fault.kind} {takes}, not {fault.path!r}"))
    if fault.path in NAMELESS and rule.where is Where.REQUEST:
        filters = [name for name in ("symbol", "side", "purpose") if getattr(fault, name)]
        wrong += [(name, f"a request to {fault.path} names none") for name in filters]
    if rule.where in (Where.PRICE, Where.POSITIONS, Where.START):
        wrong += [(name, f"{fault.kind} does not look at it") for name in ("side", "purpose") if getattr(fault, name)]
    return wrong


def _wrong_numbers(fault: Fault) -> list[tuple[str, str]]:
    wrong = []
    for name, least in _BOUNDS.items():
        value = getattr(fault, name)
        if value is not None and least is not None and value < least:
            wrong.append((name, f"must be {least} or more, not {value}"))
    for name in ("qty", "price"):
        amount: Decimal | None = getattr(fault, name)
        if amount is not None and not (amount.is_finite() and amount > 0):
            wrong.append((name, f"must be above 0, not {amount}"))
    if fault.probability is not None and not 0 < fault.probability <= 1:
        wrong.append(("probability", f"must be above 0 and at most 1, not {fault.probability}"))
    if fault.status is not None and not 500 <= fault.status <= 599:
        wrong.append(("status", f"must be 500 to 599, not {fault.status}"))
    if fault.from_ms is not None and fault.until_ms is not None and fault.until_ms <= fault.from_ms:
        wrong.append(("until_ms", "must be after from"))
    return wrong


def _wrong_parameters(fault: Fault, rule: Rule) -> list[tuple[str, str]]:
    given = [name for name in _PARAMETERS if getattr(fault, name) not in (None, "")]
    wrong = [(name, f"{fault.kind} has no use for it") for name in given if name not in rule.takes]
    if fault.answer and fault.answer not in rule.answers:
        wrong.append(("answer", f"{fault.kind} has {', '.join(rule.answers) or 'no variants'}, not {fault.answer!r}"))
    if fault.kind == "partial_fills" and fault.qty is None:
        wrong.append(("qty", "partial_fills needs it"))
    return wrong
