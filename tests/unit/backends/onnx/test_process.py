import asyncio
import os
import signal
import socket

from gateway.backends.onnx.process import WorkerProcess


async def test_how_a_worker_ended_is_told_however_soon_after():
    for _ in range(30):
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec("sleep", "60")
            worker = WorkerProcess(process, *await asyncio.open_connection(sock=ours))
            os.kill(process.pid, signal.SIGKILL)
            assert await worker.end() == "was ended by SIGKILL"
