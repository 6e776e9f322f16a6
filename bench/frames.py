"""A venue that only shouts: OpenAlgo market data over a real loopback WebSocket, as fast as the socket takes it.

A process of its own (`python bench/frames.py`): prints its port, then serves until its standard input closes. A client says in
the path how many symbols and frames it wants; it logs in and subscribes as at the real venue, and after the order subscription
has been answered comes the flood, encoded beforehand, ended by a close. Prices are recorded ones where the tapes are at hand.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

TAPES = Path(__file__).resolve().parents[2] / "shared" / "data" / "ticks" / "NSE"
TAPES_USED = 12
TICKS_PER_TAPE = 4_000
WARM_ROUNDS = 2  # ticks of each symbol before the watch starts: the first of the day opens its bar and is decided
MARKER = (
    b'{"type":"order_update","orderid":"1","symbol":"STOCK0","exchange":"NSE","action":"BUY","quantity":1,"order_status":"open"}'
)
CLOSE_FRAME = b"\x88\x02" + struct.pack("!H", 1000)


def prices() -> list[list[str]]:
    """One list of successive prices per tape: recorded, or a saw-tooth where there are no tapes."""
    found = sorted(TAPES.glob("*.csv.gz"))[:: max(1, len(list(TAPES.glob("*.csv.gz"))) // TAPES_USED)]
    if not found:
        return [[f"{1000 + step % 97 * 0.05:.2f}" for step in range(TICKS_PER_TAPE)]]
    return [list(_tape(path)) for path in found[:TAPES_USED]]


def source() -> str:
    return "recorded" if TAPES.is_dir() else "synthetic"


def symbols(count: int) -> list[str]:
    return [f"STOCK{number}" for number in range(count)]


def payload(symbol: str, price: str, at_ms: int) -> bytes:
    return (
        f'{{"type":"market_data","symbol":"{symbol}","exchange":"NSE","mode":1,'
        f'"data":{{"ltp":{price},"timestamp":{at_ms}}},"broker":"practice"}}'
    ).encode()


def flood(symbol_count: int, frame_count: int) -> bytes:
    """The frames, every symbol in turn, as they go over the wire: warm-up, marker, and those that count."""
    tapes, names, at_ms = prices(), symbols(symbol_count), time.time_ns() // 1_000_000
    parts, warm = [], WARM_ROUNDS * symbol_count
    for number in range(warm + frame_count):
        turn, which = divmod(number, symbol_count)
        parts.append(_framed(payload(names[which], _price(tapes[which % len(tapes)], turn), at_ms)))
    parts.insert(warm, _framed(MARKER))
    return b"".join(parts)


def _framed(text: bytes) -> bytes:
    header = bytes((0x81, len(text))) if len(text) < 126 else b"\x81\x7e" + struct.pack("!H", len(text))
    return header + text


def _price(tape: list[str], turn: int) -> str:
    """To the end of the tape and back again, so that it never jumps."""
    lap, step = divmod(turn, len(tape))
    return tape[step] if lap % 2 == 0 else tape[-1 - step]


def _tape(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row, _ in zip(csv.DictReader(lines), range(TICKS_PER_TAPE), strict=False):
            yield row["price"]


def _session(connection: ServerConnection) -> None:
    assert connection.request is not None
    asked = parse_qs(urlsplit(connection.request.path).query)
    shout = flood(int(asked["symbols"][0]), int(asked["frames"][0]))
    for message in connection:
        action = json.loads(message)
        match action["action"]:
            case "authenticate":
                connection.send('{"type":"auth","status":"success","message":"Authentication successful"}')
            case "subscribe":
                lines = [line | {"status": "success"} for line in action["symbols"]]
                connection.send(json.dumps({"type": "subscribe", "status": "success", "subscriptions": lines}))
            case "subscribe_orders":
                connection.send('{"type":"subscribe_orders","status":"success","message":"Subscribed to order updates"}')
                connection.socket.sendall(shout)
                connection.socket.sendall(CLOSE_FRAME)
                return


def server() -> Server:
    def session(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):  # the client has seen enough
            _session(connection)

    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    made = serve(session, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1)
    made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
    return made


def main() -> None:
    made = server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    print(made.socket.getsockname()[1], flush=True)
    sys.stdin.read()
    made.shutdown()


if __name__ == "__main__":
    main()
