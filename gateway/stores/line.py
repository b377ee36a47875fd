"""One connection to Redis and the places of the commands that went out on it. Knows no commands' meaning.

Redis answers in the order it was asked. Every command takes a place in a queue, and every reply goes to the first
place, whether somebody waits there still or not. So a caller who has gone can't leave its reply to another
(CVE-2023-28858, CVE-2023-28859), and need not cost the connection either.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import hiredis
import msgspec

from gateway.core.clock import monotonic_s

Part = str | bytes | int
pack: Callable[[tuple[Part, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # it says: of one part
"""Return a command as it is sent."""

NOTHING_YET: Final = object()
MAX_UNSENT_BYTES: Final = 1_048_576
"""What may wait in one socket's buffer before commands wait in the queue, where their callers' leaving is seen."""


class Place(msgspec.Struct, gc=False):
    """A command's place in the queue: who waits, until when, for an answer to what."""

    answer: "asyncio.Future[Any]"
    due_s: float
    command: bytes
    may_repeat: bool
    """It may be sent again where nobody knows whether it was done: doing it twice is doing it once."""


class Owner(Protocol):
    """Who holds a line."""

    def see(self, reply: Any) -> None:
        """Hear of a reply before its caller does."""
        ...

    def find_room(self) -> None:
        """Hear that more may be sent."""
        ...

    def lose(self, line: "Line") -> None:
        """Hear of the end, once."""
        ...


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, owner: Owner) -> None:
        self.places: deque[Place] = deque()
        self.heard_s = monotonic_s()
        self.is_lost = False
        self.is_full = False
        self._owner = owner
        self._reader = hiredis.Reader(notEnoughData=NOTHING_YET)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = transport  # type: ignore[assignment]  # a stream's is no other
        self._transport.set_write_buffer_limits(MAX_UNSENT_BYTES)

    def send(self, places: "list[Place]") -> None:
        """Send commands, in this order, in one write."""
        self.places.extend(places)
        self._transport.write(b"".join([place.command for place in places]))

    def data_received(self, data: bytes) -> None:
        """Give each reply to the first place."""
        if self.is_lost:
            return
        self.heard_s = monotonic_s()
        places, read = self.places, self._reader.gets
        self._reader.feed(data)
        try:
            while (reply := read()) is not NOTHING_YET:
                if type(reply) is hiredis.PushNotification:
                    continue
                # IndexError: a reply that nobody asked for. What follows can't be told apart either.
                place = places.popleft()
                self._owner.see(reply)
                if not place.answer.done():
                    place.answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.drop()

    def pause_writing(self) -> None:
        """Let commands wait: the server reads slower than it is asked."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self.is_full = False
        self._owner.find_room()

    def drop(self) -> None:
        """Give the connection up at once; what comes on it any more is not heard."""
        self._transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a Protocol's
        """Tell of the end."""
        if not self.is_lost:
            self.is_lost = True
            self._owner.lose(self)
