"""Connecting to a host that may have several addresses, some of which may not answer. Knows nothing of HTTP.

uvloop tries addresses one after another, each until the kernel gives up: one that swallows packets, such as an IPv6
address behind a broken tunnel, would use up the whole time-out. Source: RFC 8305, "Happy Eyeballs Version 2".
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Generic, NamedTuple, TypeVar

STAGGER_S: Final = 0.25
"""How long an address is tried alone before the next is tried too: RFC 8305's recommended value."""

P = TypeVar("P", bound=asyncio.Protocol)

_Info = tuple[int, int, int, str, tuple[Any, ...]]
"""What `getaddrinfo` tells of one address."""


class Goal(NamedTuple, Generic[P]):
    """Where to connect, what speaks there, and, encrypted, whose certificates are taken."""

    host: str
    port: int
    make: Callable[[], P]
    trust: ssl.SSLContext | None = None


async def dial(goal: Goal[P]) -> P:
    """Return what has connected; nothing else stays open, whatever ends the wait. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(goal.host, goal.port, type=socket.SOCK_STREAM)
    addresses = in_turns(found)
    _, made = await (_connect(goal, addresses[0]) if len(addresses) == 1 else _race(goal, addresses))
    return made


def in_turns(found: Sequence[_Info]) -> list[str]:
    """Return addresses with their families taking turns, the resolver's first choice first."""
    first = [_address(info) for info in found if info[0] == found[0][0]]
    others = [_address(info) for info in found if info[0] != found[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


def _address(info: _Info) -> str:
    """Return an address as text, a link's own with its interface, which `getaddrinfo` takes out."""
    where = info[4]
    return f"{where[0]}%{where[3]}" if info[0] == socket.AF_INET6 and where[3] else str(where[0])


async def _connect(goal: Goal[P], address: str) -> tuple[asyncio.Transport, P]:
    name = None if goal.trust is None else goal.host
    return await asyncio.get_running_loop().create_connection(
        goal.make, address, goal.port, ssl=goal.trust, server_hostname=name
    )


async def _race(goal: Goal[P], addresses: list[str]) -> tuple[asyncio.Transport, P]:
    """Return the first that connects; begin with the next address when one has failed or is slow."""
    running: set[asyncio.Task[tuple[asyncio.Transport, P]]] = set()
    failure: BaseException = OSError("the host has no address")
    waiting = iter(addresses)
    try:
        while (address := next(waiting, None)) is not None or running:
            if address is not None:
                running.add(asyncio.create_task(_connect(goal, address)))
            timeout_s = None if address is None else STAGGER_S
            done, _ = await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if (told := task.exception()) is None:
                    return task.result()
                failure = told
    finally:
        for task in running:
            task.add_done_callback(_hang_up)
            task.cancel()
    raise failure


def _hang_up(task: "asyncio.Task[Any]") -> None:
    """Close what connected too late."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()
