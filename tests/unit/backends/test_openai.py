"""The `openai` backend over a fake HTTP seam: whatever goes wrong, the response is closed."""

import asyncio

import pytest

from gateway.backends.http import HttpResponse
from gateway.backends.openai import OpenAIBackend
from gateway.core.errors import PosternError
from gateway.settings.models import BackendKind
from tests.builders import STREAM, call, collect, model, raised_by, request


class FakeHttp:
    """Answer every request with one status and these chunks; count what is left open."""

    def __init__(self, *chunks, status=200, hangs=False):
        self.chunks, self.status, self.hangs = chunks, status, hangs
        self.open_now = 0

    async def send(self, _):
        self.open_now += 1
        return HttpResponse(self.status, {}, self._read(), self._close)

    async def _read(self):
        for chunk in self.chunks:
            yield chunk
        if self.hangs:
            await asyncio.Event().wait()

    async def _close(self):
        self.open_now = 0  # closing twice harms nobody


def backend(http):
    return OpenAIBackend("m", "http://upstream/v1", model(backend=BackendKind.OPENAI), http)


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(
    "http",
    [
        FakeHttp(b'data: {"error":{"message":"x"}}\n\n', hangs=True),
        FakeHttp(b"<html>\n\n"),
        FakeHttp(b'{"error":{"message":"x"}}', status=500),
        FakeHttp(b'{"error":{"message":"x"}}', status=400),
        FakeHttp(),
        FakeHttp(hangs=True),
    ],
    ids=["error in stream", "page", "500", "400", "nothing", "silence"],
)
async def test_a_call_that_fails_leaves_no_response_open(http, is_streaming):
    error = await raised_by(backend(http).open(call(request(stream=is_streaming), seconds=0.05)))
    assert isinstance(error, PosternError)
    assert http.open_now == 0


async def test_a_cancelled_call_leaves_no_response_open():
    http = FakeHttp(hangs=True)
    task = asyncio.create_task(backend(http).open(call(request(stream=True))))
    await asyncio.sleep(0.01)
    assert http.open_now == 1
    task.cancel()
    assert isinstance(await raised_by(task), asyncio.CancelledError)
    assert http.open_now == 0


async def test_a_stream_read_to_its_end_is_passed_on_and_closed():
    http = FakeHttp(STREAM)
    assert await collect(await backend(http).open(call(request(stream=True)))) == STREAM
    assert http.open_now == 0
