"""Load your own installation, streamed and whole answers mixed, in stages.

    pip install locust
    POSTERN_KEYS=pk-one,pk-two locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8080

What it sends and expects comes from the environment:

POSTERN_KEYS          client keys, with commas between; users take them in turn (default: none are sent)
POSTERN_MODEL         route or model to ask for (default auto)
POSTERN_STREAM_SHARE  share of the requests that are streamed (default 0.5)
POSTERN_REPEAT_SHARE  share of the requests that repeat an earlier prompt, so a cache may answer (default 0.1)
POSTERN_STAGES        USERSxSECONDS after each other (default 10x30,50x60,10x30)
POSTERN_P95_MS        the run fails over this time to the first token, 95th percentile, upstream included (default none)
POSTERN_FAIL_SHARE    the run fails over this share of failed requests (default 0.01)

Beside the usual table it tells what the gateway said in its `x-postern-*` headers: models, tiers, reasons, cache,
attempts, cost; and of `Server-Timing` the gateway's own share of the time. Exit status 1 when a threshold is passed.
Nothing here imports Postern: the file runs wherever Locust does.
"""

import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from locust import HttpUser, LoadTestShape, constant_pacing, events, task

T = TypeVar("T")


def setting(name: str, default: str, read: Callable[[str], T], right: str) -> T:
    """Return what the environment says; end the run where that makes no sense."""
    text = os.environ.get(name, default)
    try:
        return read(text)
    except ValueError:
        print(f"{name}={text!r} makes no sense: write {right}", file=sys.stderr)
        sys.exit(2)


def read_stages(text: str) -> list[tuple[int, int]]:
    """Return users and seconds of each stage."""
    stages = []
    for stage in text.split(","):
        users, seconds = map(int, stage.split("x"))
        if users < 1 or seconds < 1:
            raise ValueError
        stages.append((users, seconds))
    return stages


def read_share(text: str) -> float:
    """Return a number from 0 to 1."""
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


KEYS = [key for key in os.environ.get("POSTERN_KEYS", "").split(",") if key]
MODEL = os.environ.get("POSTERN_MODEL", "auto")
STREAM_SHARE = setting("POSTERN_STREAM_SHARE", "0.5", read_share, "a share from 0 to 1, as 0.5")
REPEAT_SHARE = setting("POSTERN_REPEAT_SHARE", "0.1", read_share, "a share from 0 to 1, as 0.1")
STAGES = setting("POSTERN_STAGES", "10x30,50x60,10x30", read_stages, "USERSxSECONDS after each other, as 10x30,50x60")
P95_MS = setting("POSTERN_P95_MS", "0", float, "milliseconds, as 1500")
FAIL_SHARE = setting("POSTERN_FAIL_SHARE", "0.01", read_share, "a share from 0 to 1, as 0.01")

PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about a lighthouse.",
    "Prove that the square root of 2 is irrational.",
    "Design a rate limiter for three regions that share one quota, and say how it fails.",
    "Translate to German: the meeting has been moved to Thursday.",
    "Find the bug: def mean(xs): return sum(xs) / len(xs) if xs else None",
)
COUNTED = ("x-postern-model", "x-postern-tier", "x-postern-reason", "x-postern-cache", "x-postern-attempts")

_numbers = itertools.count(1)
_seen: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
_cost_usd: list[float] = []
_own_ms: list[float] = []


class Client(HttpUser):
    """One client: a request a second, some of them streamed."""

    wait_time = constant_pacing(1)

    def on_start(self) -> None:
        """Take a key."""
        number = next(_numbers)
        self.headers = {"Authorization": f"Bearer {KEYS[number % len(KEYS)]}"} if KEYS else {}

    @task
    def chat(self) -> None:
        """Ask once."""
        prompt = random.choice(PROMPTS)
        if random.random() >= REPEAT_SHARE:
            prompt = f"{prompt} ({next(_numbers)})"
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 200}
        if random.random() < STREAM_SHARE:
            self._stream({**body, "stream": True})
        else:
            self._whole(body)

    def _whole(self, body: dict[str, Any]) -> None:
        name = "chat"
        with self.client.post(
            "/v1/chat/completions", json=body, headers=self.headers, name=name, catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(problem_of(answer.status_code, answer.text))
                return
            if not answer.json()["choices"]:
                answer.failure("an answer without choices")
                return
            note(answer.headers)

    def _stream(self, body: dict[str, Any]) -> None:
        """Read a stream to its end. Locust's own row ends at the headers; ours tell the first token and the whole."""
        started_s = time.perf_counter()
        chunks, is_done = 0, False
        with self.client.post(
            "/v1/chat/completions",
            json=body,
            headers=self.headers,
            name="chat, streamed",
            stream=True,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(problem_of(answer.status_code, answer.text))
                return
            for line in answer.iter_lines():
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]":
                    is_done = True
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    answer.failure(f"an error in the stream: {event['error'].get('code')}")
                    return
                if not chunks:
                    tell("first token", (time.perf_counter() - started_s) * 1000)
                chunks += 1
            if not is_done:
                answer.failure("the stream ended without [DONE]")
                return
            tell("whole stream", (time.perf_counter() - started_s) * 1000)
            note(answer.headers)


def problem_of(status: int, text: str) -> str:
    """Return the status with OpenAI's error code, which groups failures well."""
    try:
        return f"{status} {json.loads(text)['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return str(status)


def note(headers: Any) -> None:
    """Keep what the gateway said of its decision."""
    for name in COUNTED:
        if name in headers:
            _seen[name][headers[name]] += 1
    if "x-postern-cost-usd" in headers:
        _cost_usd.append(float(headers["x-postern-cost-usd"]))
    for part in headers.get("Server-Timing", "").split(","):
        what, _, duration = part.strip().partition(";dur=")
        if what == "gateway" and duration:
            _own_ms.append(float(duration))  # not told to Locust, which rounds to whole milliseconds


def tell(name: str, milliseconds: float) -> None:
    """Put a figure of ours into Locust's tables."""
    events.request.fire(
        request_type="-", name=name, response_time=milliseconds, response_length=0, exception=None, context={}
    )


class Stages(LoadTestShape):
    """Go through the stages, then stop."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are now, and how fast they come."""
        left_s = self.get_run_time()
        for users, seconds in STAGES:
            if left_s < seconds:
                return users, max(1.0, users / 5)
            left_s -= seconds
        return None


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Tell what the headers said, and fail the run when a threshold is passed."""
    print("\nWhat the gateway said:")
    for name, counts in _seen.items():
        whole = sum(counts.values()) or 1
        print(f"  {name:18} " + ", ".join(f"{value} {count / whole:.0%}" for value, count in counts.most_common(8)))
    if _cost_usd:
        print(f"  x-postern-cost-usd {sum(_cost_usd):.6f} for {len(_cost_usd)} answers that were not streamed")
    if _own_ms:
        middle, high = (sorted(_own_ms)[int(share * (len(_own_ms) - 1))] for share in (0.5, 0.99))
        print(f"  its own time       p50 {middle:.3f} ms, p99 {high:.3f} ms")
    problems = []
    sent = [entry for (_, method), entry in environment.stats.entries.items() if method == "POST"]
    failed = sum(entry.num_failures for entry in sent) / max(1, sum(entry.num_requests for entry in sent))
    if failed > FAIL_SHARE:
        problems.append(f"{failed:.1%} of the requests failed, over {FAIL_SHARE:.1%}")
    first = environment.stats.get("first token", "-")
    if P95_MS and first.num_requests and first.get_response_time_percentile(0.95) > P95_MS:
        told_ms = first.get_response_time_percentile(0.95)
        problems.append(f"time to the first token, p95: {told_ms:.0f} ms, over {P95_MS:.0f} ms")
    print("  thresholds: " + ("; ".join(problems) if problems else "kept"))
    environment.process_exit_code = 1 if problems else 0
