"""The shipped config, edited at random: it loads to the same values each time, or says what is wrong by path; it never raises."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ops.config import ConfigErrors, load
from strategies import STRATEGIES
from tests import runs
from tests.machines import play

WORDS = st.sampled_from(
    ["45m", "5s", "0s", "09:15:00", "25:00", "Asia/Kolkata", "my.py:Mine", "XNSE", "SBIN", "", "\u0000", "1e9", "x" * 50]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(), st.dates(), WORDS, st.text(max_size=6), st.binary(max_size=3)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(WORDS, inner, max_size=2)), max_leaves=4
)
NUMBERS = st.decimals(Decimal("0.0001"), Decimal("99999.99"), places=4).map(str)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be changed."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def loaded(path: Path) -> Any:
    """The Config, or its mistakes."""
    try:
        return load(path, {}, STRATEGIES)
    except ConfigErrors as errors:
        return errors.errors


class Edited(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / "config.yaml"
        self.raw = copy.deepcopy(runs.shipped())

    @initialize()
    def shorter(self) -> None:
        self.raw["strategies"][0]["symbols"] = self.raw["strategies"][0]["symbols"][:2]

    def _at(self, which: int) -> tuple[Any, Any]:
        """A container and the key in it."""
        found = list(places(self.raw))
        if not found:
            return None, None
        *above, key = found[which % len(found)]
        inside = self.raw
        for step in above:
            inside = inside[step]
        return inside, key

    @rule(which=st.integers(0, 10_000), value=VALUES)
    def changed(self, which: int, value: Any) -> None:
        inside, key = self._at(which)
        if inside is not None:
            inside[key] = value

    @rule(which=st.integers(0, 10_000))
    def removed(self, which: int) -> None:
        inside, key = self._at(which)
        if inside is not None:
            del inside[key]

    @rule(which=st.integers(0, 10_000), name=WORDS, value=VALUES)
    def added(self, which: int, name: str, value: Any) -> None:
        inside, _ = self._at(which)
        if isinstance(inside, dict):
            inside[name] = value
        elif isinstance(inside, list):
            inside.append(value)

    @rule(at=st.integers(0, 10_000), cut=st.integers(1, 9), text=st.text(max_size=3))
    def typed_over(self, at: int, cut: int, text: str) -> None:
        """A slip in the text itself: nothing that YAML would write."""
        written = yaml.safe_dump(self.raw, allow_unicode=True)
        at %= max(len(written), 1)
        self.path.write_text(written[:at] + text + written[at + cut :], encoding="utf-8", errors="replace")
        self._look()

    @invariant()
    def it_loads_or_says_why_not(self) -> None:
        self.path.write_text(yaml.safe_dump(self.raw, allow_unicode=True), encoding="utf-8", errors="replace")
        self._look()

    def _look(self) -> None:
        self.seen = loaded(self.path)
        if isinstance(self.seen, list):
            assert self.seen
            assert all(isinstance(where, str) and isinstance(what, str) and what for where, what in self.seen)

    def teardown(self) -> None:
        if self.path.exists():
            assert loaded(self.path) == self.seen
        self._folder.cleanup()


TestEdited = Edited.TestCase
TestEdited.settings = play(10, steps=8)


@play(40)
@given(loss=NUMBERS, price=NUMBERS, quoted=st.booleans())
def test_a_number_means_exactly_what_is_written(loss: str, price: str, quoted: bool) -> None:
    """Never by way of a float: 731.15 has no more digits than that."""
    written = f'"{price}"' if quoted else price
    row = f"{{symbol: SBIN, qty: 3, entry_price: {written}}}"
    text = f"mode: practice\nrisk: {{max_daily_loss: {loss}}}\nstrategies:\n  - name: breakout\n    symbols: [{row}]\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        config = load(path, {}, STRATEGIES)

    assert str(config.risk.max_daily_loss) == loss
    assert str(config.strategies[0].symbols[0].setup.entry_price) == price
