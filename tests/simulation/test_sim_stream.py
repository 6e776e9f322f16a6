"""The simulated stream: each fault does what its name says, and the real feed above it holds its promises through all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from brokers.base import FillRow, OrderRow
from brokers.channel import Limits, Missed
from brokers.feed import Feed
from brokers.openalgo_stream import OpenAlgoStream
from brokers.wire import WireClosed
from simulation.fates import Fates
from simulation.market import prints
from simulation.policies import HANDS, AtRandom
from simulation.scheduler import Scheduler
from simulation.sim_stream import EXCHANGE, KINDS, POLLED_MS, URL, SimServer, wires
from simulation.world import Print, World
from state.instrument import Instrument
from state.orders import Order, OrderType, Purpose, Side

D = Decimal
OPEN_MS = 1_795_146_300_000
SPEED = 120.0
SYMBOLS = ("SBIN", "INFY", "ITC")
GRID = {symbol: Instrument(symbol, EXCHANGE, D("0.05")) for symbol in SYMBOLS}
TEN = D(10)


def scheduler_for(world: World, seed: str) -> Scheduler:
    chance = Random(seed).random
    return Scheduler(
        AtRandom(seed, 0.05),
        HANDS.lend,
        origin_ms=OPEN_MS,
        speed=SPEED,
        chance=chance,
        outside=world,
        mono_ms=world.mono_ms,
    )


def trade_a_little(world: World) -> None:
    """Orders that are placed, moved, filled and cancelled, so that there is something to tell."""
    for nth in range(40):
        symbol = SYMBOLS[nth % len(SYMBOLS)]
        ids: list[str] = []
        stop = Order(f"E{nth}", symbol, Purpose.STOP, Side.SELL, OrderType.STOP, TEN, trigger_price=D("600.00"))
        market = Order(f"X{nth}", symbol, Purpose.ENTRY, Side.BUY, OrderType.MARKET, TEN)
        start_ms = 1_500 + nth * 2_000
        world.at(start_ms, lambda stop=stop, ids=ids: ids.append(world.submit(stop)))
        world.at(start_ms + 10, lambda market=market: world.submit(market))
        world.at(start_ms + 700, lambda ids=ids: world.replace(ids[0], TEN, D("601.00"), None))
        world.at(start_ms + 1_400, lambda ids=ids: world.cancel(ids[0]))


# -- the real feed above it ----------------------------------------------------------------------------------------------------

CALM_MS, END_MS = 90_000, 400_000  # of monotonic time: faults until the first, the feed is stopped at the second
AGE_MS, LATE_MS, CHECK_S = 20_000, 5_000, 0.25


class Heard(NamedTuple):
    at_ms: int
    what: str
    symbol: str = ""
    of_what: object = None


class Recorder:
    """Listener and sinks in one; what it was told, in order."""

    def __init__(self, clock: Scheduler) -> None:
        self.heard: list[Heard] = []
        self._clock = clock
        self.wanted = clock.event()

    def tell(self, what: str, symbol: str = "", of_what: object = None) -> None:
        self.heard.append(Heard(self._clock.mono_ms, what, symbol, of_what))

    def order_update(self, row: OrderRow) -> None:
        self.tell("order", row.symbol, row)

    def fill(self, row: FillRow) -> None:
        self.tell("fill", row.symbol, row)

    def venue_open(self, why_not: str | None) -> None:
        self.tell("open", "", why_not)

    def order_unclear(self) -> None:
        self.tell("unclear")

    def connected(self) -> None:
        self.tell("connected")
        self.wanted.set()

    def disconnected(self, reason: str) -> None:
        self.tell("disconnected", "", reason)

    def entries_off(self, symbol: str, reason: str) -> None:
        self.tell("off", symbol, reason)

    def entries_on(self, symbol: str) -> None:
        self.tell("on", symbol)

    def missed(self, symbol: str, missed: Missed) -> None:
        self.tell("missed", symbol, msgspec.structs.astuple(missed))

    def alarm(self, text: str) -> None:
        self.tell("alarm", "", text)

    def of(self, *what: str) -> list[Heard]:
        return [heard for heard in self.heard if heard.what in what]


class Watched:
    """A whole run of the feed: what it told, what it counted, what had struck."""

    def __init__(self, seed: str, rates: Mapping[str, float]) -> None:
        self.trades = prints({s: (D("812.70"), D("812.40"), GRID[s]) for s in SYMBOLS}, seed, END_MS, 300)
        self.fates = Fates(seed, rates)
        self.world = World(GRID, self.trades, self.fates, origin_ms=OPEN_MS, speed=SPEED)
        trade_a_little(self.world)
        self.world.at(CALM_MS, self._calm)
        self.scheduler = scheduler_for(self.world, seed)
        self.told = Recorder(self.scheduler)
        self.scheduler.run(self._main)

    def _calm(self) -> None:
        self.fates.over = True

    def _main(self) -> None:
        clock, told = self.scheduler, self.told
        sinks = {s: lambda price, at_ms, s=s: told.tell("tick", s, (price, at_ms)) for s in SYMBOLS}
        self.feed = Feed(
            OpenAlgoStream(URL, "key", EXCHANGE),
            sinks,
            told,
            clock,
            Limits(age_ms=AGE_MS, late_ms=LATE_MS),
            wire=wires(self.world),
        )
        ticks, poll = clock.thread("ticks", self.feed.run), clock.thread("poll", self._poll)
        ticks.start()
        poll.start()
        never = clock.event()
        while clock.monotonic_ms() < END_MS:
            clock.wait(never, CHECK_S)
            self.feed.check(clock.monotonic_ms(), True)
            assert ticks.is_alive(), ticks.error
        self.feed.stop()
        ticks.join(5)
        assert (ticks.is_alive(), ticks.error, poll.error) == (False, None, None)

    def _poll(self) -> None:
        """Asks for the books after each connect, as the poller does, and lets the ticks go."""
        clock = self.scheduler
        while True:
            self.told.wanted.wait()
            self.told.wanted.clear()
            number = self.feed.connection
            clock.sleep(120)
            if number == self.feed.connection:
                self.told.tell("released")
            self.feed.release(number)


def some_rates(seed: int) -> dict[str, float]:
    """A handful of kinds, or for every fourth seed all of them; stronger than usual."""
    chance = Random(f"rates/{seed}").random
    share = 1.0 if seed % 4 == 0 else 0.25
    return {kind: min(KINDS[kind].rate * 3, 0.5) for kind in KINDS if chance() < share}


RATES = [some_rates(seed) for seed in range(24)]


@pytest.fixture(scope="module")
def runs() -> list[Watched]:
    """The feed under 24 mixtures of faults. That each comes to its end says: it never raises, never hangs, and can be stopped."""
    return [Watched(f"run {seed}", rates) for seed, rates in enumerate(RATES)]


def test_a_calm_stream_tells_every_print_and_every_word_on_an_order() -> None:
    run = Watched("calm", {})

    ticks = [(heard.symbol, *heard.of_what) for heard in run.told.of("tick")]  # type: ignore[misc]
    held_back = run.feed.counts().get("refused: jump, held until confirmed", 0)
    true = [(print_.symbol, print_.price, OPEN_MS + int(print_.at_ms * SPEED)) for print_ in run.trades]
    assert len(true) - len(ticks) == held_back
    assert Counter(ticks) <= Counter(true)
    orders = [heard.of_what for heard in run.told.of("order")]
    told = [row.state for row in orders if isinstance(row, OrderRow)]
    assert len(told) == sum(len(words) for words in run.world.history.values())


CONNECTION_FAULTS = {
    "feed.connect_refused": 0.9,
    "feed.connect_slow": 0.9,
    "feed.hung_up": 0.9,
    "feed.login_refused": 0.9,
    "feed.login_slow": 0.9,
    "feed.login_unanswered": 0.9,
    "feed.hollow": 0.9,
    "feed.dropped": 0.02,
    "feed.dead": 0.02,
    "feed.silent": 0.01,
}


@pytest.mark.parametrize("kind", CONNECTION_FAULTS)
def test_after_many_of_one_fault_every_symbol_may_enter_again(kind: str) -> None:
    """FEE-02, FEE-10, FEE-14: whatever was, the feed comes back alone."""
    run = Watched(f"alone {kind}", {kind: CONNECTION_FAULTS[kind]})

    assert run.fates.counts().keys() == {kind}
    assert [_last(run, symbol).what for symbol in SYMBOLS] == ["on", "on", "on"]


def test_after_a_mixture_of_faults_every_symbol_may_enter_that_the_server_has_not_refused_to_the_end(runs: list[Watched]) -> None:
    """FEE-02, FEE-09, FEE-14."""
    for run in runs:
        given_up = [str(heard.of_what) for heard in run.told.of("alarm") if "given up on" in str(heard.of_what)]
        for symbol in SYMBOLS:
            last = _last(run, symbol)
            assert last.what == "on" or any(symbol in text for text in given_up), (run.fates.counts(), last)
        assert run.told.of("connected", "disconnected")[-1].what == "connected"


def _last(run: Watched, symbol: str) -> Heard:
    return [heard for heard in run.told.of("on", "off") if heard.symbol == symbol][-1]


def test_entries_go_off_and_on_in_turn_and_no_tick_is_delivered_while_they_are_off(runs: list[Watched]) -> None:
    for run in runs:
        for symbol in SYMBOLS:
            on: bool | None = None
            for heard in (h for h in run.told.of("on", "off", "tick", "disconnected") if h.symbol in (symbol, "")):
                if heard.what in ("on", "off"):
                    assert on is not (heard.what == "on")
                    on = heard.what == "on"
                else:
                    assert on is (heard.what == "tick"), heard


def test_no_tick_is_delivered_before_the_books_have_been_read(runs: list[Watched]) -> None:
    """FEE-03."""
    for run in runs:
        released = False
        for heard in run.told.of("connected", "disconnected", "released", "tick"):
            if heard.what == "tick":
                assert released
            else:
                released = heard.what == "released"


def test_entries_are_never_on_for_longer_than_the_age_limit_without_a_tick(runs: list[Watched]) -> None:
    """FEE-01, FEE-10."""
    for run in runs:
        for symbol in SYMBOLS:
            mine = [heard for heard in run.told.of("on", "off", "tick") if heard.symbol == symbol]
            for before, after in pairwise(mine):
                if before.what != "off":
                    assert after.at_ms - before.at_ms <= AGE_MS + 2 * CHECK_S * 1000


def test_every_delivered_price_is_a_true_one_on_time_and_in_order(runs: list[Watched]) -> None:
    """FEE-05, FEE-07, FEE-12, FEE-13: nothing made up, nothing from before, nothing late."""
    for run in runs:
        counts = run.fates.counts()
        for symbol in SYMBOLS:
            ticks = [heard for heard in run.told.of("tick") if heard.symbol == symbol]
            stamps = [heard.of_what[1] for heard in ticks]  # type: ignore[index]
            assert stamps == sorted(stamps)
            if "feed.tick_tenfold" in counts or "feed.tick_of_future" in counts:
                continue  # two that agree are the market; a time to come is taken for now
            true = {(p.price, OPEN_MS + int(p.at_ms * SPEED)) for p in run.trades if p.symbol == symbol}
            true |= {(price, at_ms // 1000 * 1000) for price, at_ms in true}
            assert {heard.of_what for heard in ticks} <= true
            for heard in ticks:
                assert OPEN_MS + heard.at_ms * SPEED - heard.of_what[1] <= LATE_MS * SPEED + 1000  # type: ignore[index]


def test_frames_that_mean_nothing_are_counted_and_every_good_message_beside_them_is_used() -> None:
    """FEE-08."""
    calm = Watched("garbage", {})
    rates = {"feed.frame_strange": 0.1, "feed.frame_shared": 0.1, "feed.complaint": 0.02}
    run = Watched("garbage", rates)

    struck = run.fates.counts()
    counted = sum(count for name, count in run.feed.counts().items() if name.startswith("noise") or name == "trouble")
    assert [heard.of_what for heard in run.told.of("tick")] == [heard.of_what for heard in calm.told.of("tick")]
    assert counted == struck["feed.frame_strange"] + 2 * struck["feed.frame_shared"] + struck["feed.complaint"]
    assert run.feed.counts()["reconnects"] == 0


def test_one_tenfold_print_alone_reaches_nobody() -> None:
    """FEE-06."""
    run = Watched("tenfold", {"feed.tick_tenfold": 0.004})

    assert run.fates.counts()["feed.tick_tenfold"] >= 2
    believed = [heard.of_what[0] for heard in run.told.of("tick")]  # type: ignore[index]
    assert D(400) < min(believed) and max(believed) < D(1200)


def test_every_order_update_that_is_heard_was_true_once(runs: list[Watched]) -> None:
    """FEE-04: doubled, late and replayed words are old ones, never others."""
    for run in runs:
        history = run.world.history
        for heard in run.told.of("order"):
            row = heard.of_what
            assert isinstance(row, OrderRow)
            if row.symbol not in SYMBOLS:
                assert row.venue_id.startswith("99")
                continue
            known = [(word.state, word.qty, word.trigger_price) for _, word in history[row.venue_id]]
            assert (row.state, row.qty, row.trigger_price) in known


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = Watched("twice", RATES[0]), Watched("twice", RATES[0])

    assert first.told.heard == second.told.heard
    assert (first.scheduler.steps, first.fates.struck) == (second.scheduler.steps, second.fates.struck)


# -- each fault alone, as a client sees it -------------------------------------------------------------------------------------

LATE_START_MS, TALK_MS = 4_000, 30_000
Seen = tuple[int, str]  # when, and a frame, "pong", or why it ended


class Client:
    """Comes a little late, logs in, subscribes, listens and pings every three seconds, on one connection."""

    def __init__(self, rates: Mapping[str, float], trades: list[Print] | None = None, seed: str = "client") -> None:
        self.fates = Fates(seed, rates)
        self.world = World(GRID, steady(300) if trades is None else trades, self.fates, origin_ms=OPEN_MS, speed=SPEED)
        trade_a_little(self.world)
        self.seen: list[Seen] = []
        self.scheduler = scheduler_for(self.world, seed)
        self.scheduler.run(self._main)

    def _main(self) -> None:
        clock = self.scheduler
        wire = wires(self.world)(clock, lambda: True, lambda: None, 0.5)
        pinged_ms = 0
        clock.sleep(LATE_START_MS)
        try:
            wire.open(URL)
            for frame in OpenAlgoStream(URL, "key", EXCHANGE).hello():
                wire.send(frame)
            while clock.mono_ms < TALK_MS:
                frame = wire.receive()
                if frame is not None:
                    self._saw(frame.decode())
                    self._answer(wire, frame)
                if clock.mono_ms - pinged_ms >= 3_000:
                    pinged_ms = clock.mono_ms
                    wire.ping()
        except WireClosed as closed:
            self._saw(str(closed))

    def _answer(self, wire: object, frame: bytes) -> None:
        dialect = OpenAlgoStream(URL, "key", EXCHANGE)
        if frame == b'{"type":"auth","status":"success"}':
            for text in (*dialect.subscribe(list(SYMBOLS)), *dialect.subscribe_orders()):
                wire.send(text)  # type: ignore[attr-defined]

    def _saw(self, text: str) -> None:
        self.seen.append((self.scheduler.mono_ms, text))

    def texts(self, part: str = "") -> list[str]:
        return [text for _, text in self.seen if part in text]


def steady(count: int) -> list[Print]:
    """A price of each symbol every tenth of a second."""
    return [Print(500 + nth * 100, symbol, D(800) + nth * D("0.05")) for nth in range(count) for symbol in SYMBOLS]


@pytest.fixture(scope="module")
def calm() -> list[Seen]:
    return Client({}).seen


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_fault_alone_changes_what_a_client_sees(kind: str, calm: list[Seen]) -> None:
    client = Client({kind: 0.5}, seed=f"alone/{kind}/1")
    client = client if client.fates.struck else Client({kind: 1.0})

    assert client.fates.counts().keys() == {kind}
    assert client.seen != calm


def test_a_lagging_stream_keeps_its_order() -> None:
    """FEE-12."""
    client = Client({"feed.lag": 0.02, "feed.stall": 0.01})

    prices = [(msgspec.json.decode(text)["data"]["timestamp"]) for text in client.texts('"symbol":"SBIN"') if "ltp" in text]
    late = [at_ms - (stamp - OPEN_MS) / SPEED for (at_ms, _), stamp in zip(client.seen, prices, strict=False)]
    assert prices == sorted(prices) and len(prices) > 10
    assert max(late) > 1_000


def test_a_stalled_stream_comes_all_at_once() -> None:
    client = Client({"feed.stall": 0.01})

    times = Counter(at_ms for at_ms, _ in client.seen)
    assert max(times.values()) > 20


def test_a_dead_connection_answers_no_ping() -> None:
    """FEE-02."""
    client = Client({"feed.dead": 0.01})

    last_ms = client.seen[-1][0]
    assert client.fates.counts() == {"feed.dead": 1}
    assert last_ms < TALK_MS - 5_000


def test_a_silent_server_still_answers_pings() -> None:
    """FEE-01: the wire says that it lives, and no price comes."""
    world = World(GRID, steady(300), Fates("silent", {"feed.silent": 1.0}), origin_ms=OPEN_MS, speed=SPEED)
    scheduler, heard = scheduler_for(world, "silent"), []

    def body() -> None:
        wire = wires(world)(scheduler, lambda: True, lambda: heard.append(scheduler.mono_ms), 0.5)
        wire.open(URL)
        wire.send('{"action":"subscribe","symbols":[{"symbol":"SBIN","exchange":"SIM"}]}')
        wire.receive()
        heard.clear()
        while scheduler.mono_ms < 4_000:
            wire.ping()
            assert wire.receive() is None

    scheduler.run(body)

    assert len(heard) > 3


def test_a_stale_word_on_an_order_is_one_that_was_true() -> None:
    """FEE-04."""
    client = Client({"feed.update_stale": 1.0})

    words = [msgspec.json.decode(text) for text in client.texts("order_update")]
    moved = [word["trigger_price"] for word in words if word["orderid"] == words[0]["orderid"] and word["order_status"] == "open"]
    assert set(moved) == {600, 601}
    assert any(after < before for before, after in pairwise(moved))


def test_replayed_words_come_in_no_order_on_the_next_connection() -> None:
    """FEE-04: what was told before we came is told again."""
    world = World(GRID, steady(1), Fates("replay", {"feed.updates_replayed": 1.0}), origin_ms=OPEN_MS, speed=SPEED)
    trade_a_little(world)
    world.act(9_000)
    scheduler, frames = scheduler_for(world, "replay"), []

    def body() -> None:
        wire = wires(world)(scheduler, lambda: True, lambda: None, 0.5)
        wire.open(URL)
        wire.send('{"action":"subscribe_orders"}')
        while (frame := wire.receive()) is not None:
            frames.append(msgspec.json.decode(frame))

    scheduler.run(body)

    words = [(word["orderid"], word["order_status"]) for word in frames if word["type"] == "order_update"]
    true = [(id, row.state) for id, rows in world.history.items() for _, row in rows]
    assert len(words) == len(true)
    assert words != sorted(words)


def test_the_oracle_is_patient_exactly_when_a_word_does_not_come_at_once() -> None:
    lost, heard = Client({"feed.update_lost": 1.0}), Client({"feed.update_doubled": 1.0})

    times = [at_ms for words in lost.world.history.values() for at_ms, _ in words]
    assert lost.world.troubled_until_ms == max(times) + POLLED_MS
    assert heard.world.troubled_until_ms == max(at_ms for at_ms in times if at_ms < LATE_START_MS) + POLLED_MS


def test_a_new_process_gets_a_server_of_its_own_and_nothing_that_was_meant_for_the_old_one() -> None:
    """A kill: what was on its way to the dead process reaches nobody."""
    world = World(GRID, steady(300), Fates("lives", {"feed.tick_late": 1.0}), origin_ms=OPEN_MS, speed=SPEED)
    frames: list[list[str]] = []

    def life(until_ms: int) -> None:
        scheduler = scheduler_for(world, f"life {len(frames)}")
        mine: list[str] = []
        frames.append(mine)

        def body() -> None:
            wire = wires(world)(scheduler, lambda: True, lambda: None, 0.5)
            wire.open(URL)
            wire.send('{"action":"subscribe","symbols":[{"symbol":"SBIN","exchange":"SIM"}]}')
            while scheduler.mono_ms < until_ms:
                mine.append((wire.receive() or b"").decode())
            scheduler.crash()

        scheduler.run(body)
        world.stream = None

    life(8_000)
    first_server = world.stream
    world.act(9_000)
    life(20_000)

    stamps = [msgspec.json.decode(text)["data"]["timestamp"] for text in frames[1] if "ltp" in text]
    assert first_server is None
    assert stamps
    assert min(stamps) >= OPEN_MS + 9_000 * SPEED


def test_a_late_price_reaches_no_connection_that_has_not_asked_for_it() -> None:
    world = World(GRID, steady(20), Fates("late", {"feed.tick_late": 1.0}), origin_ms=OPEN_MS, speed=SPEED)
    scheduler, seen = scheduler_for(world, "late"), list[bytes | None]()

    def body() -> None:
        make = wires(world)
        first = make(scheduler, lambda: True, lambda: None, 0.5)
        first.open(URL)
        first.send('{"action":"subscribe","symbols":[{"symbol":"SBIN","exchange":"SIM"}]}')
        scheduler.sleep(3_000)
        first.close()
        second = make(scheduler, lambda: True, lambda: None, 0.5)
        second.open(URL)
        while scheduler.mono_ms < 25_000:
            seen.append(second.receive())

    scheduler.run(body)

    assert set(seen) == {None}


def test_a_connection_that_is_being_made_can_be_broken_off() -> None:
    world = World(GRID, [], Fates("slow", {"feed.connect_slow": 1.0}), origin_ms=OPEN_MS, speed=SPEED)
    scheduler = scheduler_for(world, "slow")

    def body() -> None:
        wire = wires(world)(scheduler, lambda: True, lambda: None, 0.5)
        world.later(300, wire.abort)
        with pytest.raises(WireClosed, match="stopping"):
            wire.open(URL)
        assert scheduler.mono_ms == 300
        with pytest.raises(WireClosed, match="cannot send"):
            wire.send("{}")

    scheduler.run(body)

    assert isinstance(world.stream, SimServer)
