"""A real Prometheus, started by a test on a free port."""

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.grafana.ask import ask
from tests.integration.redis_server import free_port

is_missing = shutil.which("prometheus") is None
if is_missing and os.environ.get("CI") == "true":
    raise RuntimeError("prometheus is missing: apt-get install prometheus")
need_prometheus = pytest.mark.skipif(is_missing, reason="apt-get install prometheus")

START_S = 20.0
OUTER = re.compile(r'(?P<inner>"[^"]*"|[(\[{]|[)\]}])|\s(?:(?P<set>and|or|unless)|(?P<compare>[<>]=?|[!=]=))\s')
PREFIX = re.compile(r"^(?:bool\s+|(?:on|ignoring|group_left|group_right)\s*\([^)]*\)\s*)+")
NUMBER = re.compile(r"^[-\d.e* /]+$")


class Prometheus:
    """`prometheus` with a folder of its own. `jobs`: pages to scrape, by job; `rules`: files of rules.

    `labels`: what every target is labelled with, as a ServiceMonitor would.

    Rules are evaluated every `scrape_s` as well, whatever their groups say, and look back seconds where they say
    `offset` so many days: a test has no week to wait.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Mapping[str, Sequence[str]],
        rules: Sequence[Path] = (),
        *,
        scrape_s: int = 1,
        port: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scrape_s = scrape_s
        self._folder = folder / f"prometheus-{self.port}"
        self._jobs = jobs
        self._rules = rules
        self._labels = dict(labels or {})

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        self._log = self._folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # nothing of its data is wanted any more
        self.process.wait()
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def get(self, path: str, **parameters: str) -> Any:
        """Ask the API. Raises AskError."""
        return ask(self.url, path, **parameters)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression as they are now; a plain number as one without labels."""
        found = self.get("query", query=expression)
        if found["resultType"] == "scalar":
            return [{"metric": {}, "value": found["result"]}]
        return found["result"]

    def numbers(self, expression: str) -> list[float]:
        """Return the values of an expression that are numbers."""
        values = [float(row["value"][1]) for row in self.query(expression)]
        return [value for value in values if value == value]

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its state."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def unhealthy_targets(self) -> dict[str, str]:
        """Return what is not scraped, and why."""
        active = self.get("targets")["activeTargets"]
        return {one["scrapeUrl"]: one["lastError"] or one["health"] for one in active if one["health"] != "up"}

    def wait_until(self, holds: Any, seconds: float = 30.0) -> None:
        """Wait for a fact about it."""
        end_s = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end_s, f"did not come true within {seconds} s"
            time.sleep(0.1)

    def _wait_ready(self) -> None:
        end_s = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self._log.read_text()
                assert time.monotonic() < end_s, self._log.read_text()
                time.sleep(0.05)

    def _config(self) -> dict[str, Any]:
        pace = {"scrape_interval": f"{self.scrape_s}s", "evaluation_interval": f"{self.scrape_s}s"}
        return {
            "global": {**pace, "scrape_timeout": f"{self.scrape_s}s"},
            "rule_files": [str(self._quickened(path)) for path in self._rules],
            "scrape_configs": [job_of(name, pages, self._labels) for name, pages in self._jobs.items()],
        }

    def _quickened(self, path: Path) -> Path:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                rule["expr"] = re.sub(r"\boffset (\d+)d\b", r"offset \1s", rule["expr"])
        copy = self._folder / path.name
        copy.write_text(yaml.safe_dump(rules))
        return copy


def job_of(name: str, pages: Sequence[str], labels: dict[str, str]) -> dict[str, Any]:
    """Return how to scrape these pages."""
    parts = [urlsplit(page) for page in pages]
    (path,) = {part.path for part in parts}
    targets = {"targets": [part.netloc for part in parts], "labels": labels}
    return {"job_name": name, "metrics_path": path, "static_configs": [targets]}


def sides_of(query: str) -> list[str]:
    """Split an expression at its outermost set operators and comparisons; what is only a number is left out."""
    text, depth, cuts, at = " ".join(query.split()), 0, [0], 0
    while found := OUTER.search(text, at):
        at = found.end()
        if found["inner"]:
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(found["inner"], 0)
        elif depth == 0:
            cuts += [found.start(), found.end()]
            at = found.end() - 1  # the blank may begin the next one
    cuts.append(len(text))
    parts = [PREFIX.sub("", text[start:end].strip()) for start, end in zip(cuts[::2], cuts[1::2], strict=True)]
    return [part for part in parts if part and not NUMBER.match(part)]
