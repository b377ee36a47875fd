"""A server that speaks Redis's protocol and keeps to none of its promises."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

import hiredis

Command = list[bytes]
Answer = Callable[[Command, asyncio.StreamWriter], Awaitable[None]]
OK = b"+OK\r\n"


def bulk(value: bytes) -> bytes:
    """A value as Redis sends it."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


async def echo(command: Command, writer: asyncio.StreamWriter) -> None:
    """The value of every key is its name."""
    writer.write(bulk(command[1]))


class LyingRedis:
    """Greets well; then `answer` writes what it likes to each command. Counts connections and what came in one read."""

    def __init__(self, answer: Answer = echo, greet: Answer | None = None) -> None:
        self.answer = answer
        self.connections = 0
        self.commands: list[Command] = []
        self.reads: list[int] = []
        self._greet = greet

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        parser = hiredis.Reader()
        try:
            while data := await reader.read(1 << 20):
                parser.feed(data)
                count = 0
                while command := parser.gets():
                    count += 1
                    await self._take(command, writer)
                self.reads.append(count)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _take(self, command: Command, writer: asyncio.StreamWriter) -> None:
        if command[0] in (b"HELLO", b"AUTH", b"SELECT", b"CLIENT"):
            if self._greet:
                await self._greet(command, writer)
            else:
                writer.write(OK)
            return
        self.commands.append(command)
        await self.answer(command, writer)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
