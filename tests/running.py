"""A gateway in a process of its own, as an operator would start it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

import yaml

START_S = 20.0


class RunningGateway:
    """`postern serve` on free ports. `log` holds every event it has logged so far."""

    def __init__(self, config: dict[str, Any] | None, folder: Path, *arguments: str, **environ: str) -> None:
        self._config = config
        self._folder = folder
        self._arguments = arguments
        self._environ = environ
        self.config_file = folder / "postern.yaml"
        self.log: list[dict[str, Any]] = []
        self.url = self.admin_url = ""

    async def __aenter__(self) -> Self:
        arguments = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--admin-port", "0", *self._arguments]
        if self._config is not None:
            self.write(self._config)
            arguments += ["--config", str(self.config_file)]
        environ = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"} | self._environ
        self.process = await asyncio.create_subprocess_exec(
            *arguments, env=environ, stderr=asyncio.subprocess.PIPE, limit=2**22
        )
        self._reader = asyncio.create_task(self._read())
        try:
            started = await self.wait_for("serving", START_S)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"the gateway did not start: {self.log}") from None
        self.url, self.admin_url = started["url"], started["admin_url"]
        return self

    def write(self, config: dict[str, Any]) -> None:
        """Write the configuration file, as an operator changes it."""
        self.config_file.write_text(yaml.safe_dump(config))

    @property
    def root(self) -> str:
        """The data port without `/v1`."""
        return self.url.removesuffix("/v1")

    async def _read(self) -> None:
        async for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "unreadable", "line": line.decode(errors="replace")})

    async def wait_for(self, event: str, seconds: float = 5.0, since: int = 0, **fields: Any) -> dict[str, Any]:
        """Return the first logged event of this name with these fields."""
        async with asyncio.timeout(seconds):
            while True:
                for row in self.log[since:]:
                    if row["event"] == event and all(row.get(name) == value for name, value in fields.items()):
                        return row
                await asyncio.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._reader


def two_models(weak_url: str, strong_url: str, **sections: Any) -> dict[str, Any]:
    """A configuration of two upstreams behind the route `auto`; more sections by name."""
    strong_capabilities = ["tools", "json_schema", "vision", "logprobs", "n", "embeddings"]
    return {
        "models": {
            "small": {
                "backend": "openai",
                "urls": [weak_url],
                "price": {"input": 1.0, "cached_input": 0.5, "output": 2.0},
                "context_tokens": 1000,
                "capabilities": ["tools"],
            },
            "large": {
                "backend": "openai",
                "urls": [strong_url],
                "price": {"input": 10.0, "output": 20.0},
                "context_tokens": 100_000,
                "capabilities": strong_capabilities,
            },
        },
        "routes": {"auto": {"models": ["small", "large"], "fallback": ["large", "small"]}},
        **sections,
    }
