"""Remembers what a router said of the turns before the last: every request of a conversation sends them all again.

Owns what is kept of a text, which is a digest and figures. The digest is keyed with a secret of this process, so it
tells nothing to whoever reads the memory later, and covers the tenant: how long a judgement took must not tell one
tenant what another has sent. 16 bytes of BLAKE2b: different texts don't meet.
"""

import hashlib
import os
import threading
from typing import Final, Generic, TypeVar

from gateway.classify.features import cut_text

T = TypeVar("T")

MAX_BYTES: Final = 2**20
ENTRY_BYTES: Final = 640
"""What an entry takes: its key, its place in the dict, and figures; measured, and rounded up."""


class TextMemo(Generic[T]):
    """Figures by text and tenant, the oldest dropped first. Safe to share between threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries: Final = max_bytes // ENTRY_BYTES
        self._secret: Final = os.urandom(32)
        self._known: Final[dict[bytes, T]] = {}
        self._lock: Final = threading.Lock()

    def key(self, tenant: str, text: str) -> bytes:
        """Return the key of a text as it is measured: its length, and what of it is read."""
        digest = hashlib.blake2b(key=self._secret, digest_size=16)
        owner = tenant.encode("utf-8", "surrogatepass")
        digest.update(b"%d %d " % (len(owner), len(text)))
        digest.update(owner)
        digest.update(cut_text(text).encode("utf-8", "surrogatepass"))
        return digest.digest()

    def find(self, key: bytes) -> T | None:
        """Return what is known, or None."""
        return self._known.get(key)

    def keep(self, key: bytes, found: T) -> None:
        """Remember, and forget what has been known longest where there is no room."""
        with self._lock:
            while len(self._known) >= self._max_entries and self._known:
                del self._known[next(iter(self._known))]
            if self._max_entries:
                self._known[key] = found
