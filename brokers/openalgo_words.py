"""The one table of OpenAlgo's order status words (venues reference, section 6). REST adapter and stream both read it here.

A word that is not in the table is UNCLEAR: it is looked at, never taken for an open order.
"""

from __future__ import annotations

from brokers.base import Reported

STATUS_WORDS: dict[str, Reported] = {
    "open": Reported.WORKING,  # also a triggered stop-limit that did not fill, and a partly filled order
    "trigger pending": Reported.WORKING,
    "complete": Reported.FILLED,  # a fill only with evidence: filled quantity, tradebook row, or position
    "rejected": Reported.REJECTED,
    "cancelled": Reported.CANCELLED,  # may carry fills
    "canceled": Reported.CANCELLED,
    "expired": Reported.EXPIRED,  # may carry fills
    # Raw broker words that the server passes through: all still working.
    "pending": Reported.WORKING,
    "transit": Reported.WORKING,
    "open pending": Reported.WORKING,
    "validation pending": Reported.WORKING,
    "put order req received": Reported.WORKING,
    "modify pending": Reported.WORKING,
    "cancel pending": Reported.WORKING,
    "amo req received": Reported.WORKING,
    "modified": Reported.WORKING,
    "unknown": Reported.UNCLEAR,
}


def reported(word: object) -> Reported:
    """The meaning of a status word, whatever its case and underscores; UNCLEAR for any other value."""
    return STATUS_WORDS.get(str(word).strip().lower().replace("_", " "), Reported.UNCLEAR)
