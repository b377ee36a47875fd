"""One turn: load on one subject, counters read before and after. Knows nothing of rounds and reports."""

import http.client
import json
import resource
import subprocess
import sys
import time
from typing import Any, NamedTuple

from loadtests import counting, wrk
from loadtests.bodies import Door, Request, compose
from loadtests.counting import Reading, Shares
from loadtests.figures import quantile
from loadtests.processes import Stage, pinned
from loadtests.scenarios import FEWER, Kind, Scenario
from loadtests.subjects import Subject, Upstreams

NUMBERS_A_TURN = 10_000_000
SETTLE_S = 0.5


class TurnError(Exception):
    """A turn that measured something else than its title says."""


class Turn(NamedTuple):
    """What one turn measured."""

    subject: str
    values: dict[str, float]
    """By their names with units; `cpu_us` is a request's or a chunk's."""
    shares: Shares | None = None


class Turns:
    """Runs turns of one scenario after the other, each with numbers of its own."""

    def __init__(self, stage: Stage, upstreams: Upstreams) -> None:
        self._stage = stage
        self._upstreams = upstreams
        self._number = 0

    def run(self, scenario: Scenario, subject: Subject, nginx: Subject, seconds: float) -> Turn:
        """Measure one subject."""
        self._number += 1
        if scenario.kind is Kind.CLOSED:
            return self._closed(scenario, subject, seconds)
        if scenario.kind is Kind.PACED:
            return self._paced(scenario, subject, nginx, seconds)
        if scenario.kind is Kind.STREAMS:
            return self._streams(scenario, subject, seconds)
        return self._idle(scenario, subject)

    @property
    def _start(self) -> int:
        return self._number * NUMBERS_A_TURN

    def check(self, scenario: Scenario, subject: Subject) -> None:
        """Ask twice and look at the second answer: is what is measured what the title says?"""
        door = subject.stream if scenario.streams or scenario.is_streaming else subject.instant
        fields = stream_fields(0, 2, unpaced=True) if door is subject.stream else None
        requests = compose(scenario.plan, door, fields)
        self._number += 1
        ask(door, requests[0], f"{self._start:012d}")
        headers = ask(door, requests[0], f"{self._start + (not scenario.plan.is_same):012d}")
        expected = dict(subject.expected)
        if door is subject.stream:
            expected.pop("x-postern-cache", None)
        for name, value in expected.items():
            if headers.get(name) != value:
                raise TurnError(f"{subject.name}: {name} is {headers.get(name)}, not {value}")

    def _closed(self, scenario: Scenario, subject: Subject, seconds: float) -> Turn:
        script = self._stage.folder / "turn.lua"
        plan = scenario.plan
        wrk.write_script(script, compose(plan, subject.instant), start=self._start, is_same=plan.is_same)
        command = wrk.command(script, subject.instant.port, seconds)
        before = self._read(subject)
        done = subprocess.run(pinned(command, self._stage.load_core), capture_output=True, text=True, check=True)
        after = self._read(subject)
        tally = wrk.read(done.stdout)
        if tally.failed or not tally.requests:
            raise TurnError(f"{subject.name}: {tally.failed} of {tally.requests} requests failed")
        values = {
            "cpu_us": (after.subject_s - before.subject_s) / tally.requests * 1e6,
            "rate_per_s": tally.requests / tally.wall_us * 1e6,
            "p50_ms": tally.p50_us / 1000,
            "p99_ms": tally.p99_us / 1000,
        }
        return Turn(subject.name, values, counting.shares_between(before, after))

    def _paced(self, scenario: Scenario, subject: Subject, nginx: Subject, seconds: float) -> Turn:
        targets = []
        for one in (nginx, subject):
            door = one.stream if scenario.is_streaming else one.instant
            fields = stream_fields(0, 4, unpaced=True) if scenario.is_streaming else None
            targets.append(target(one.name, door, compose(scenario.plan, door, fields)[0]))
        order = {
            "kind": "pace",
            "rate": scenario.rate,
            "seconds": seconds,
            "is_streaming": scenario.is_streaming,
            "start": self._start,
            "targets": targets,
        }
        client = self._client(order)
        before = self._read(subject, client.pid)
        said = self._hear(client)
        after = self._read(subject, client.pid)
        client.communicate()
        values = {"cpu_us": (after.subject_s - before.subject_s) / int(scenario.rate * seconds) * 1e6}
        for share, name in ((0.5, "p50_ms"), (0.99, "p99_ms")):
            mine, base = (quantile(said["latencies_s"][one], share) * 1000 for one in (subject.name, nginx.name))
            values |= {name: mine, f"nginx_{name}": base, f"added_{name}": mine - base}
        return Turn(subject.name, values, counting.shares_between(before, after))

    def _streams(self, scenario: Scenario, subject: Subject, seconds: float) -> Turn:
        fields = stream_fields(scenario.pace, None)
        client = self._hold(scenario, subject.stream, fields)
        try:
            time.sleep(SETTLE_S)
            before, events = self._read(subject, client.pid), self._events(client)
            time.sleep(seconds)
            after, events_after = self._read(subject, client.pid), self._events(client)
        finally:
            client.kill()
            client.communicate()
        count = events_after - events
        wall_s = after.at_s - before.at_s
        values = {
            "cpu_us": (after.subject_s - before.subject_s) / max(count, 1) * 1e6,
            "chunks_per_s": count / wall_s,
            "delivered": count / wall_s / (scenario.streams * scenario.pace),
        }
        time.sleep(SETTLE_S)
        return Turn(subject.name, values, counting.shares_between(before, after))

    def _idle(self, scenario: Scenario, subject: Subject) -> Turn:
        """The subject is fresh. A few streams first: what is made once at the first request is no stream's memory."""
        root = subject.processes[-1].pid
        scenario = scenario._replace(streams=FEWER.get(subject.name, scenario.streams))
        rest_bytes = counting.rss_bytes(counting.tree(root))
        few = self._hold(scenario._replace(streams=20), subject.stream, stream_fields(0, None))
        warm_bytes = counting.rss_bytes(counting.tree(root))
        client = self._hold(scenario, subject.stream, stream_fields(0, None))
        time.sleep(SETTLE_S)
        full_bytes = counting.rss_bytes(counting.tree(root))
        for one in (few, client):
            one.kill()
            one.communicate()
        values = {"rest_mb": rest_bytes / 1e6, "stream_kb": (full_bytes - warm_bytes) / scenario.streams / 1000}
        return Turn(subject.name, values)

    def _hold(self, scenario: Scenario, door: Door, fields: dict[str, object]) -> subprocess.Popen[str]:
        targets = [target("subject", door, compose(scenario.plan, door, fields)[0])]
        order = {"kind": "hold", "streams": scenario.streams, "start": self._start, "targets": targets}
        client = self._client(order)
        self._hear(client)
        return client

    def _client(self, order: dict[str, Any]) -> subprocess.Popen[str]:
        command = pinned([sys.executable, "-m", "loadtests.client"], self._stage.load_core)
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdin is not None
        client.stdin.write(json.dumps(order) + "\n")
        client.stdin.flush()
        return client

    def _hear(self, client: subprocess.Popen[str]) -> dict[str, Any]:
        assert client.stdout is not None
        line = client.stdout.readline()
        if not line:
            raise TurnError(f"the load generator ended with {client.wait()}")
        said: dict[str, Any] = json.loads(line)
        if "refused" in said:
            raise TurnError(f"refused: {said['refused']}")
        return said

    def _events(self, client: subprocess.Popen[str]) -> int:
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
        said = self._hear(client)
        if said["broken"]:
            raise TurnError(f"{said['broken']} streams ended before their time")
        return int(said["events"])

    def _read(self, subject: Subject, load: int | None = None) -> Reading:
        """Read all counters. The load generator is a process that lives, or one that ended and was awaited."""
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        upstreams = [*self._upstreams.processes, *subject.helpers]
        return Reading(
            time.monotonic(),
            counting.cpu_s([pid for one in subject.processes for pid in counting.tree(one.pid)]),
            counting.cpu_s([pid for one in upstreams for pid in counting.tree(one.pid)]),
            own.ru_utime + own.ru_stime if load is None else counting.cpu_s([load]),
            counting.idle_s(self._stage.subject_core),
            counting.idle_s(self._stage.load_core),
        )


def stream_fields(pace: int, count: int | None, *, unpaced: bool = False) -> dict[str, object]:
    """Return what tells the fake upstream how to stream."""
    fields: dict[str, object] = {"stream": True, "temperature": 0.2}
    if not unpaced:
        fields["seed"] = pace
    return fields if count is None else {**fields, "max_tokens": count}


def target(name: str, door: Door, request: Request) -> dict[str, object]:
    """Return what the load generator is told of one target."""
    return {"name": name, "port": door.port, "request": request.whole.decode()}


def ask(door: Door, request: Request, number: str) -> dict[str, str]:
    """Send one request and return its answer's headers, by lower-case name."""
    whole = (request.head + number.encode() + request.tail).decode()
    head, _, body = whole.partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200 or (b"usage" not in text and b"data: " not in text):
        raise TurnError(f"status {answer.status}: {text[:400].decode(errors='replace')}")
    return {name.lower(): value for name, value in answer.getheaders()}
