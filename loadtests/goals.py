"""The goals that the figures are held against, as data."""

from typing import NamedTuple

from loadtests.results import BASE, Results


class Goal(NamedTuple):
    """One figure's bound. `base` names what it is a multiple of; empty: the figure itself."""

    text: str
    scenario: str
    subject: str
    what: str
    bound: float
    base: str = ""
    unit: str = ""


GOALS = (
    Goal("the walk but for classifying, CPU a request", "saturation", "postern-walk", "cpu_us", 7, BASE),
    Goal("the whole walk, CPU a request", "saturation", "postern-whole", "cpu_us", 12, BASE),
    Goal("the whole walk, CPU a request", "saturation", "postern-whole", "cpu_us", 1 / 60, "litellm"),
    Goal("moonshot: the whole walk, CPU a request", "saturation", "postern-whole", "cpu_us", 6, BASE),
    Goal("moonshot: level with a plain balancer in Rust", "saturation", "postern-whole", "cpu_us", 1, "vllm-router"),
    Goal("a cache hit, CPU a request", "hits", "postern-hit", "cpu_us", 4, BASE),
    Goal("600 streams, CPU a chunk", "streams", "postern-whole", "cpu_us", 2, BASE),
    Goal("added time to the first token, p50", "ttft", "postern-whole", "added_p50_ms", 0.5, unit="ms"),
    Goal("memory at rest", "idle", "postern-whole", "rest_mb", 75, unit="MB"),
    Goal("memory an open stream", "idle", "postern-whole", "stream_kb", 64, unit="KB"),
)


class Verdict(NamedTuple):
    """A goal with what was measured; None where it wasn't."""

    goal: Goal
    reached: float | None

    @property
    def is_met(self) -> bool:
        """Say whether the median keeps the bound."""
        return self.reached is not None and self.reached <= self.goal.bound


def judge(results: Results) -> list[Verdict]:
    """Hold a run against every goal."""
    return [Verdict(goal, _reached(goal, results)) for goal in GOALS]


def _reached(goal: Goal, results: Results) -> float | None:
    result = results.scenarios.get(goal.scenario)
    if result is None or goal.subject not in result.subjects():
        return None
    if not goal.base:
        return result.median(goal.subject, goal.what).median
    times = result.against(goal.subject, goal.base, goal.what)
    return None if times is None else times.median
