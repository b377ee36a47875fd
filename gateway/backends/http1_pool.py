"""The lean client: connections to one server or a few, kept alive, at most so many, handed out in the order of asking.

It serves what model servers speak, HTTP/1.1 with TLS or without; proxies and cold calls are httpx2's (docs/adr/0014).
A connection, or the right to make one, has exactly one owner between any two turns of the event loop, so that a
cancellation finds it (encode/httpcore#1093 is what comes of it otherwise).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Coroutine
from functools import cached_property
from typing import Any, Final

from gateway.backends.dial import Goal, dial
from gateway.backends.http import HttpError, HttpRequest
from gateway.backends.http1 import Connection
from gateway.backends.http1_exchange import Exchange
from gateway.core.deadlines import Wheel

IDLE_S: Final = 55.0
"""How long a connection may stand idle: shorter than the minute after which load balancers forget one. A server that
closes sooner, such as uvicorn after 5 s, is seen to at once."""


class Commons:
    """What all clients of a process share: the wheel of their deadlines, and whose certificates they take."""

    def __init__(self, wheel: Wheel | None = None) -> None:
        self.wheel = wheel or Wheel()

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """Return what the machine trusts: half a megabyte, so made once, and only where something is encrypted."""
        return ssl.create_default_context()


class Http1Client:
    """Pools by scheme, host and port. Time-outs between phases are the backend's; here stands only that to connect."""

    def __init__(
        self,
        *,
        connect_s: float,
        max_connections: int,
        trust: ssl.SSLContext | None = None,
        commons: Commons | None = None,
    ) -> None:
        """`max_connections`: to one server. `trust`: whose certificates are taken; None: what the machine trusts."""
        self._connect_s = connect_s
        self._max_connections = max_connections
        self._trust = trust
        self._commons = commons or Commons()
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._is_closed = False

    def send(self, request: HttpRequest) -> Coroutine[Any, Any, Exchange]:
        """Send, and return once the response's headers are there, or all of it where it is wanted whole."""
        # Not a coroutine itself: one less to go through.
        head = request.head
        pool = self._pools.get(head.place)
        return (pool or self._open_pool(*head.place)).send(request)

    def _open_pool(self, scheme: str, host: str, port: int) -> "Pool":
        if self._is_closed:
            raise HttpError("the client is closed", is_connecting=True)
        trust = (self._trust or self._commons.trust) if scheme == "https" else None
        if trust is not None:
            trust.set_alpn_protocols(["http/1.1"])
        pool = Pool(host, port, trust, self._commons.wheel)
        pool.connect_s, pool.max_connections = self._connect_s, self._max_connections
        self._pools[scheme, host, port] = pool
        return pool

    async def close(self) -> None:
        """Close every connection, those in use too."""
        self._is_closed = True
        while self._pools:
            self._pools.popitem()[1].close()


class Pool:
    """Connections to one server. A place is never waited for longer than a connection may take."""

    def __init__(self, host: str, port: int, trust: ssl.SSLContext | None, wheel: Wheel) -> None:
        self.connect_s = 2.0
        self.max_connections = 1
        self._host = host
        self._port = port
        self._trust = trust
        self._wheel = wheel
        self._places_taken = 0
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._is_sweeping = False
        self._is_closed = False

    # What requests ask for.

    async def send(self, request: HttpRequest) -> Exchange:
        """Send on a connection that is idle, or on a new one. Raises HttpError.

        Once, a request is sent anew: where a connection that had served before turns out to have been closed by the
        server before its kernel took any of the request, as happens when an idle one is closed while a request is on
        its way. RFC 9110 (9.2.2) allows to repeat a POST where it is known that "the original request was never
        applied"; where it is not, it is an error here, as with nginx (`proxy_next_upstream non_idempotent`), and
        whoever called decides: what a server has begun to work on may cost a minute of a GPU.
        """
        connection = self._find_idle() or await self._obtain()
        may_repeat = connection.exchange_count > 0
        while True:
            exchange = self._ask(connection, request)
            waiter = exchange.waiter
            try:
                if waiter is not None:
                    await waiter
            except BaseException:
                exchange.abandon()
                raise
            if exchange.failure is None or exchange.status:
                return exchange
            if not (may_repeat and exchange.was_never_taken):
                raise exchange.failure
            may_repeat = False
            connection = await self._obtain_fresh()

    def _ask(self, connection: Connection, request: HttpRequest) -> Exchange:
        try:
            return connection.ask(request)
        except BaseException:
            # Nothing was sent.
            self.release(connection)
            raise

    def _find_idle(self) -> Connection | None:
        # The last one used first: those beyond what is needed grow old and are closed.
        while self._idle:
            connection = self._idle.popitem()[0]
            if connection.is_usable():
                return connection
            self.forget(connection)
        return None

    async def _obtain(self) -> Connection:
        """Return a connection: a new one where there is a place, else the next that comes free."""
        while True:
            if self._is_closed:
                raise HttpError("the client is closed", is_connecting=True)
            if self._places_taken < self.max_connections:
                self._places_taken += 1
                return await self._connect()
            connection = await self._wait()
            if connection is None:
                return await self._connect()
            if connection.is_usable():
                return connection
            self.forget(connection)

    async def _obtain_fresh(self) -> Connection:
        """Return a new connection: a server that has closed one idle connection may have closed all of them."""
        if self._places_taken >= self.max_connections and self._idle:
            next(iter(self._idle)).close()
        return await self._obtain()

    async def _wait(self) -> Connection | None:
        """Return what comes free: a connection, or, as None, the place for one."""
        waiter: asyncio.Future[Connection | None] = self._wheel.loop.create_future()
        self._waiting.append(waiter)
        try:
            with self._wheel.within(self.connect_s):
                try:
                    return await waiter
                except BaseException:
                    self._stop_waiting(waiter)
                    raise
        except TimeoutError as exc:
            raise HttpError("no connection came free in time", is_connecting=True, is_timeout=True) from exc

    def _stop_waiting(self, waiter: "asyncio.Future[Connection | None]") -> None:
        """Leave the queue; what came in the very turn of leaving is another's."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            connection = waiter.result()
            if connection is None:
                self._free_place()
            else:
                self.release(connection)

    async def _connect(self) -> Connection:
        """Connect; the place was taken by whoever calls."""
        connection = None
        try:
            with self._wheel.within(self.connect_s):
                goal = Goal(self._host, self._port, lambda: Connection(self, self._wheel), self._trust)
                connection = await dial(goal)
        except TimeoutError as exc:
            raise HttpError("it did not connect in time", is_connecting=True, is_timeout=True) from exc
        except (OSError, UnicodeError) as exc:
            # Why nothing was sent may be told: a certificate, a name.
            raise HttpError(f"{type(exc).__name__}: {exc}", is_connecting=True) from exc
        finally:
            if connection is None:
                self._free_place()
        self._connections.add(connection)
        connection.has_place = True
        if self._is_closed:
            failure = HttpError("the client is closed", is_connecting=True)
            connection.hang_up(failure)
            raise failure
        return connection

    # What connections tell.

    def release(self, connection: Connection) -> None:
        """Take back a connection that is free: for whoever waits longest, or for later."""
        if not connection.is_usable() or self._is_closed:
            connection.close()
            return
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
            return
        connection.idle_since_s = connection.now_s()
        self._idle[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            self._wheel.after(IDLE_S, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Strike off a connection that is gone, or as good as gone."""
        self._idle.pop(connection, None)
        self._connections.discard(connection)
        if connection.has_place:
            connection.has_place = False
            self._free_place()

    def _free_place(self) -> None:
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)
        else:
            self._places_taken -= 1

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _sweep(self) -> None:
        """Close what has been idle for too long; they lie in the order in which they came free."""
        self._is_sweeping = False
        for connection in list(self._idle):
            left_s = connection.idle_since_s + IDLE_S - connection.now_s()
            if left_s > 0:
                self._is_sweeping = True
                self._wheel.after(left_s, self._sweep)
                return
            connection.close()

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(HttpError("the client is closed", is_connecting=True))
        for connection in list(self._connections):
            if connection in self._idle:
                connection.close()
            else:
                connection.hang_up(HttpError("the client is closed"))
