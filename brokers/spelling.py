"""One symbol under several names: the venue's own, with a series suffix, as a contract number, in another case, with blanks.

Owns the names of the symbols we trade at one venue. Rows and ticks of any of them count for ours (REC-10); a name that fits two
of ours counts for neither, and a name of nobody's passes through as it came. Thread-safe.
"""

from __future__ import annotations

from state.threads import Threads

SAME_SERIES = ("-EQ",)  # the ordinary series of a share; -BE and others are traded apart and stay apart


class Spelling:
    """`add` what is traded; `ours` gives our name for the venue's."""

    def __init__(self, threads: Threads) -> None:
        self._lock = threads.lock()  # guards the names below; a look into `known` takes none
        self._names: dict[str, set[str]] = {}  # bare name -> ours that it may mean
        self.known: dict[str, str] = {}  # each of ours as it is, for the tick path

    def add(self, symbol: str, *aliases: str) -> None:
        """From now on all of these mean `symbol`."""
        with self._lock:
            for name in (symbol, *aliases):
                if bare(name):
                    self._names.setdefault(bare(name), set()).add(symbol)
            self.known[symbol] = symbol

    def ours(self, name: object) -> str:
        """Our symbol of that name; else the name, cleaned of blanks. Empty for none."""
        text = "" if name is None else str(name)
        exact = self.known.get(text)
        if exact is not None:
            return exact
        with self._lock:
            meant = tuple(self._names.get(bare(text), ()))
        if text.strip().upper() in meant:
            return text.strip().upper()
        return meant[0] if len(meant) == 1 else text.strip()

    def meant(self, name: str) -> tuple[str, ...]:
        """All of ours that the name fits: one book's price is the price of each of its names."""
        with self._lock:
            return tuple(sorted(self._names.get(bare(name), ())))


def bare(name: str) -> str:
    """What two spellings of one thing have in common."""
    text = name.strip().upper()
    for suffix in SAME_SERIES:
        text = text.removesuffix(suffix)
    return text.strip()
