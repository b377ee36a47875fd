"""One gateway and its two upstreams for a whole module of tests; every test begins with a fresh script."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest
import pytest_asyncio

from tests.running import RunningGateway, two_models
from tests.upstream import Upstream


@dataclass
class House:
    """A running gateway, its upstreams and a bare HTTP client."""

    gateway: RunningGateway
    weak: Upstream
    strong: Upstream
    http: httpx2.AsyncClient

    async def post(self, path: str = "/v1/chat/completions", **arguments: object) -> httpx2.Response:
        return await self.http.post(self.gateway.root + path, **arguments)

    async def get(self, path: str, **arguments: object) -> httpx2.Response:
        return await self.http.get(self.gateway.root + path, **arguments)

    async def metrics(self) -> str:
        return (await self.http.get(self.gateway.admin_url + "/metrics")).text

    async def samples(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels as they stand there."""
        lines = [line.rpartition(" ") for line in (await self.metrics()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def client(self, **options: object) -> openai.AsyncOpenAI:
        """The official client, which by default does not try again."""
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        given = {"base_url": self.gateway.url, "api_key": "sk-test", "max_retries": 0, "http_client": http} | options
        return openai.AsyncOpenAI(**given)

    def reset(self) -> None:
        for upstream in (self.weak, self.strong):
            upstream.script()
            upstream.requests.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The gateway of a module; the module's `SECTIONS` are added to its configuration."""
    folder: Path = tmp_path_factory.mktemp("postern")
    async with Upstream() as weak, Upstream() as strong, httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        config = two_models(weak.url, strong.url, **getattr(request.module, "SECTIONS", {}))
        async with RunningGateway(config, folder) as gateway:
            yield House(gateway, weak, strong, http)


@pytest.fixture(autouse=True)
def fresh_script(request: pytest.FixtureRequest) -> None:
    """Begin every test with upstreams that answer and remember nothing."""
    if "house" in request.fixturenames:
        request.getfixturevalue("house").reset()


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client."""
    async with house.client() as client:
        yield client
