"""One life of the worker process, from the gateway's side: started, spoken to, killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from gateway.backends.onnx.wire import LENGTH, FromWorker, Options, ToWorker, frame_of, length_of, read_report

MODULE: Final = "gateway.backends.onnx.worker"
ROOT: Final = Path(__file__).parents[3]
"""Where the package lies, so that the worker finds it wherever the gateway found it."""
GRACE_S: Final = 0.5
"""For a worker to end by itself, as it does when its socket closes, unless it hangs."""


class WorkerProcess:
    """A worker under way. Its socket's end is the worker's end, and the other way round: none outlives its gateway."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, options: Options) -> Self:
        """Start a worker. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), msgspec.json.encode(options).decode()),
                    env=_environment(),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def reports(self) -> AsyncIterator[FromWorker]:
        """Yield what the worker says until it ends."""
        try:
            while True:
                head = await self._reader.readexactly(LENGTH.size)
                yield read_report(await self._reader.readexactly(length_of(head)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    def send(self, order: ToWorker) -> None:
        """Send an order. What the worker has not read yet is no more than the prompts of tasks in flight."""
        if not self._writer.is_closing():
            self._writer.write(frame_of(order))

    def kill(self) -> None:
        """Kill the process, whatever it is at; its reports end with it."""
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> str:
        """Have the process ended, kill it where it does not heed that, and tell how it ended."""
        self._writer.close()
        # Killing one that has just died would reap it in asyncio's stead, and how it ended would be lost.
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._process.wait()
        self.kill()
        code = await self._process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _environment() -> dict[str, str]:
    found = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(ROOT), *([found] if found else [])])
    # One thread reads prompts; the tokenizer's own pool would only take cores from the model.
    return {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
