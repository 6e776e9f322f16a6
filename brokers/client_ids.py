"""Our order ids as a venue can take them: derived, so that nothing has to be stored, and found back when the venue shows them.

Owns a bounded memory of the ids it has derived. An id depends on the journal's identity and our own id alone: after a restart the
same order gets the same one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from state.threads import Threads

KEPT = 8_192


class ClientIds:
    """Thread-safe."""

    def __init__(self, identity: str, threads: Threads) -> None:
        self._identity = identity
        self._lock = threads.lock()  # guards the row below
        self._ours: OrderedDict[str, str] = OrderedDict()

    def uuid(self, client_id: str) -> str:
        """For ever the same for this order, in the form of a random UUID (version 4)."""
        digest = hashlib.sha256(f"{self._identity}\n{client_id}".encode()).hexdigest()
        variant = "89ab"[int(digest[16], 16) % 4]
        text = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
        with self._lock:
            self._ours[text] = client_id
            self._ours.move_to_end(text)
            while len(self._ours) > KEPT:
                self._ours.popitem(last=False)
        return text

    def ours(self, venue_client_id: object) -> str | None:
        """Our id behind the venue's, of those that were derived lately."""
        with self._lock:
            return self._ours.get(str(venue_client_id))
