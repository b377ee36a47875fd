"""A gateway's data port in the test's own process, on a real socket: hot endpoints are served on nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.api.front import Front
from gateway.api.live import Live
from gateway.api.server import bind, make_server
from gateway.app import make_data_app


@asynccontextmanager
async def served(live: Live) -> AsyncIterator[str]:
    """Serve until the context is left; give the port's address."""
    listener = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = make_server(make_data_app(live), live.settings.server, Front(live).open)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    try:
        yield address
    finally:
        server.should_exit = True
        await task
