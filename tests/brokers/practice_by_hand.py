"""The practice venue in a process of its own, with a market that a test plays by hand: one price a line on its standard input.

    python -m tests.brokers.practice_by_hand SPEC.json        then: SYMBOL PRICE [AVAILABLE], or CUT for every stream

The venue is the shipped one. Each line is answered by a line when its price has been matched and told.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import msgspec

from brokers.practice import PracticeSpec, Ready
from brokers.practice_server import Server
from brokers.tape import TapeTick
from state.clock import SystemClock

ROOT = Path(__file__).resolve().parents[2]
CUT = "CUT"


class ByHand(Server):
    """Plays nothing by itself."""

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        await self._venue.stopping.wait()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(self._carried_out(line.split()), loop).result()
            sys.stdout.write("played\n")
            sys.stdout.flush()
        loop.call_soon_threadsafe(self._venue.stopping.set)

    async def _carried_out(self, words: list[str]) -> None:
        if words == [CUT]:
            for client in self._stream.clients:
                client.socket.transport.abort()
            return
        symbol, price, *available = words
        bound = Decimal(available[0]) if available else None
        self._venue.tick(TapeTick(SystemClock().now_ms(), symbol, Decimal(price), available=bound))


class Hand:
    """The process, from its start to its end. Thread-safe."""

    def __init__(self, spec: PracticeSpec, folder: Path) -> None:
        path = folder / "spec.json"
        path.write_bytes(msgspec.json.encode(spec))
        line = [sys.executable, "-m", "tests.brokers.practice_by_hand", str(path)]
        self._process = subprocess.Popen(
            line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._lock = threading.Lock()  # one price at a time
        self.ready = msgspec.json.decode(self._out.readline(), type=Ready)
        self.rest_url = f"http://127.0.0.1:{self.ready.rest_port}"
        self.ws_url = f"ws://127.0.0.1:{self.ready.ws_port}"

    def price(self, symbol: str, price: Decimal, available: Decimal | None = None) -> None:
        self._say(f"{symbol} {price} {'' if available is None else available}")

    def cut_streams(self) -> None:
        self._say(CUT)

    def _say(self, line: str) -> None:
        with self._lock:
            self._in.write(f"{line}\n")
            self._in.flush()
            assert self._out.readline() == "played\n"

    def close(self) -> None:
        self._process.kill()  # nobody waits for its last words
        self._process.wait(10)
        self._in.close()
        self._out.close()


def main() -> int:
    server = ByHand(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PracticeSpec))
    asyncio.run(server.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
