"""The scenarios as data: who takes part, what is sent, how long. What they mean is told in the report."""

from enum import StrEnum
from typing import NamedTuple

from loadtests.bodies import MIXED_BYTES, Plan

PEERS = ("vllm-router", "portkey", "litellm")


class Kind(StrEnum):
    """How load is made, and with that what is counted."""

    CLOSED = "closed"
    """32 connections, each sends as soon as it has its answer: CPU a request."""
    PACED = "paced"
    """A fixed rate, by turns to nginx and to the subject: what the subject adds to the latency."""
    STREAMS = "streams"
    """Open streams at a fixed pace of chunks: CPU a chunk."""
    IDLE = "idle"
    """A fresh process, then open streams that say nothing: memory."""


class Scenario(NamedTuple):
    """One table of the report."""

    name: str
    title: str
    kind: Kind
    subjects: tuple[str, ...]
    """nginx comes first: it is what the others are held against."""
    shows: str
    """What a reader learns from it."""
    seconds: float = 3.0
    rounds: int = 5
    plan: Plan = Plan()
    rate: int = 0
    """Requests a second to each of the two, where the rate is fixed."""
    is_streaming: bool = False
    streams: int = 0
    pace: int = 0
    """Chunks a second on each stream."""


SCENARIOS = {
    one.name: one
    for one in (
        Scenario(
            "saturation",
            "Saturation",
            Kind.CLOSED,
            ("nginx", "postern-pinned", "postern-classified", "postern-walk", "postern-whole", *PEERS),
            "what a request costs when a core is full: 32 connections in a closed loop, 2 KB in, 1.5 KB out, "
            "no two requests alike",
        ),
        Scenario(
            "hits",
            "Cache hits",
            Kind.CLOSED,
            ("nginx", "postern-hit", "postern-redis-hit"),
            "what an answer from the cache costs, in the process and in a Redis (whose own CPU is not counted)",
            plan=Plan(is_same=True, variants=1),
        ),
        Scenario(
            "redis",
            "Redis and workers",
            Kind.CLOSED,
            ("nginx", "postern-walk", "postern-redis", "postern-workers"),
            "what a shared cache adds to a miss, and what a second worker costs (both on one core here: the work is "
            "counted, not the speed)",
            rounds=4,
        ),
        Scenario(
            "sizes",
            "Mixed sizes",
            Kind.CLOSED,
            ("nginx", "postern-walk", "postern-whole", "vllm-router"),
            "requests of 0.5 to 32 KB, 5 KB in the mean",
            plan=Plan(sizes_bytes=MIXED_BYTES),
            rounds=4,
        ),
        Scenario(
            "models",
            "Many models",
            Kind.CLOSED,
            ("nginx", "postern-model", "postern-models"),
            "whether a hundred models, asked for by their names in turn, cost more than one",
            plan=Plan(variants=100),
            rounds=4,
        ),
        Scenario(
            "keys",
            "Many keys",
            Kind.CLOSED,
            ("nginx", "postern-walk", "postern-keys"),
            "whether 10,000 client keys, a thousand of them in use, cost more than one",
            plan=Plan(variants=1000),
            rounds=4,
        ),
        Scenario(
            "paced-10",
            "Latency at 10 requests a second",
            Kind.PACED,
            ("nginx", "postern-walk", "postern-whole", *PEERS),
            "what a user waits on a gateway that has little to do",
            seconds=6,
            rate=10,
            rounds=3,
        ),
        Scenario(
            "paced-200",
            "Latency at 200 requests a second",
            Kind.PACED,
            ("nginx", "postern-walk", "postern-whole", "vllm-router", "portkey"),
            "the same on a gateway with some work (more than LiteLLM's one core can take)",
            seconds=4,
            rate=200,
            rounds=3,
        ),
        Scenario(
            "ttft",
            "Time to the first token",
            Kind.PACED,
            ("nginx", "postern-walk", "postern-whole", *PEERS),
            "what a gateway adds to the first chunk of a stream, at 10 streams a second",
            seconds=6,
            rate=10,
            is_streaming=True,
            rounds=3,
        ),
        Scenario(
            "streams",
            "600 streams",
            Kind.STREAMS,
            ("nginx", "postern-whole", "vllm-router"),
            "what a chunk costs: 600 open streams, 10 chunks a second on each",
            rounds=3,
            streams=600,
            pace=10,
        ),
        Scenario(
            "streams-60",
            "60 streams",
            Kind.STREAMS,
            ("nginx", "postern-whole", *PEERS),
            "the same with a load that every peer can take",
            seconds=8,  # the operating system counts in hundredths of a second: nginx takes two of them a second here
            rounds=3,
            streams=60,
            pace=10,
        ),
        Scenario(
            "idle",
            "Memory: at rest and with 1,000 silent streams",
            Kind.IDLE,
            ("nginx", "postern-walk", "postern-whole", *PEERS),
            "what a process holds, and what each open stream adds to it",
            rounds=1,
            streams=1000,
        ),
    )
}

SLOW = {"litellm": 3, "portkey": 2}
"""How many times longer a slow peer's turn is: the 32 requests that are cut off at its end must not count for much."""

FEWER = {"litellm": 100}
"""How many silent streams a peer holds that doesn't begin 1,000: its bytes a stream are told all the same."""

QUICK = ("saturation", "hits", "streams")
"""`make bench QUICK=1`: no peers, two rounds."""

CHECK = ("saturation", "hits", "redis", "streams", "idle")
"""`make bench-check` and `make bench-baseline`: no peers, whose worsening is not ours."""


def without_peers(scenario: Scenario) -> Scenario:
    """Return a scenario of nginx and Postern alone."""
    return scenario._replace(subjects=tuple(name for name in scenario.subjects if name not in PEERS))
