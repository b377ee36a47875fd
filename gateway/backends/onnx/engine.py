"""A model in a worker process, as an engine: who may come in, and what a look tells."""

from collections.abc import AsyncGenerator

from gateway.backends.backend import Health
from gateway.backends.engine import Piece, Task
from gateway.backends.onnx.supervisor import Supervisor
from gateway.backends.onnx.wire import Options
from gateway.core.cpus import cpu_limit
from gateway.core.errors import UpstreamOverloadedError
from gateway.settings.engines import OnnxSettings

RETRY_AFTER_S = 1
"""A place is free again when an answer ends, which nobody can foretell; a second is about the least that helps."""

LEAST_PATIENCE_S = 3.0
"""Three beats of a worker: fewer may be missed on a busy machine."""


class OnnxEngine:
    """One model in one worker process."""

    url = "onnx:"

    def __init__(self, name: str, settings: OnnxSettings, total_s: float = 600.0) -> None:
        """`total_s` bounds every answer: a worker silent for longer holds none that anybody waits for."""
        self._name = name
        self._max_batch = settings.max_batch
        self._places = settings.max_batch + settings.max_waiting
        self._in_flight = 0
        patience_s = max(total_s, LEAST_PATIENCE_S)
        self._supervisor = Supervisor(
            name, Options(settings.path, settings.threads or cpu_limit(), settings.max_batch), patience_s
        )

    async def generate(self, task: Task) -> AsyncGenerator[Piece, None]:
        """Yield pieces as the worker makes them, a slow reader's joined; not streamed, one piece at the end.

        Raises UpstreamOverloadedError at once where as many wait as may.
        """
        if self._in_flight >= self._places:
            raise UpstreamOverloadedError(f"{self._name} has its queue full.", retry_after_s=RETRY_AFTER_S)
        self._in_flight += 1
        try:
            link = await self._supervisor.link()
            number, mailbox = link.begin(task.prompt, task.sampling, is_streaming=task.is_streaming)
            try:
                while True:
                    piece = await mailbox.take()
                    yield piece
                    if piece.finish_reason is not None:
                        return
            finally:
                link.end(number)
        finally:
            self._in_flight -= 1

    async def look(self) -> Health | None:
        """Tell how the worker is; the first look has it started, so that the first request need not wait for it."""
        self._supervisor.start()
        self._supervisor.check()
        running = min(self._in_flight, self._max_batch)
        return Health(
            is_ready=self._supervisor.ready is not None,
            waiting=self._in_flight - running,
            running=running,
            problem=self._supervisor.problem,
        )

    async def close(self) -> None:
        """End the worker."""
        await self._supervisor.close()
