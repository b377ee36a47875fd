"""The report: Markdown for people, one table a scenario, and a plot. Reads results, measures nothing.

python -m loadtests.report FOLDER    write report.md and report.png anew from results.json
"""

import sys
from pathlib import Path

from loadtests import plot
from loadtests.figures import Estimate, estimate
from loadtests.goals import Goal, judge
from loadtests.results import BASE, Result, Results, load, title
from loadtests.scenarios import Kind

FULL_IDLE = 0.10
"""A subject whose core idles more than this in a closed loop was not what bounded the turn: it is marked."""

METHOD = """## How to read this

- **CPU, not speed.** A request's cost is the CPU time of the subject's whole process tree, as the operating system
  counts it, divided by the requests that were answered. On a machine that others use too, rates swing by half;
  CPU a request by a few per cent. Rates are told beside it.
- **In turns.** A scenario's subjects take turns in an order drawn anew each round. A ratio is a turn's figure over
  nginx's *of the same round*; told are the median of the rounds and, in brackets, their range (from six rounds on, a
  95 % bootstrap interval of the median).
- **Two cores.** The subject has one, the fake upstream and the load generator share the other. The table at the end
  tells who used what. **(a)** marks a subject whose own core idled for more than a tenth of a closed loop: something
  else bounded it, and its rate could be higher. Its CPU a request is counted all the same.
- **The same for all.** One fake upstream, the same bytes, kept connections. Peers run with nothing switched on but
  finding the upstream: no keys, no cache, no log. Postern's rows say what it does; its metrics and its access log, to
  a file, are always on.
"""


def markdown(results: Results) -> str:
    """Return the report: what was measured, how, and on what."""
    machine = results.machine
    parts = [
        "# Load tests",
        f"Measured on {machine['date']}, code {machine['code']}, by `{machine['command']}`.",
        f"{machine['processor']}, {machine['memory']}, {machine['system']}; {machine['programs']}. {busy(results)}",
        machine.get("pythons", ""),
        "![CPU a request, as multiples of nginx's](report.png)" if "saturation" in results.scenarios else "",
        figures(results),
        METHOD,
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def figures(results: Results) -> str:
    """Return the tables alone."""
    parts = [
        goals(results),
        *(section(result) for result in results.scenarios.values()),
        missing(results),
        limits(results),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def busy(results: Results) -> str:
    """Say how much of the machine others used meanwhile."""
    used = [
        turn.shares.others
        for result in results.scenarios.values()
        for turns in result.rounds
        for turn in turns.values()
        if turn.shares is not None
    ]
    if not used:
        return ""
    return (
        f"Processes that have no part in this used {sum(used) / len(used):.0%} of a core in the mean "
        f"(up to {max(used):.0%}) of the two."
    )


def goals(results: Results) -> str:
    """Return the table of goals, those that were measured."""
    found = [verdict for verdict in judge(results) if verdict.reached is not None]
    if not found:
        return ""
    rows = [
        [one.goal.text, _bound(one.goal), _told(one.goal, one.reached or 0), "yes" if one.is_met else "**no**"]
        for one in found
    ]
    return "## Goals\n\n" + table(["", "at most", "measured", "met"], rows)


def _bound(goal: Goal) -> str:
    return _told(goal, goal.bound)


def _told(goal: Goal, value: float) -> str:
    if not goal.base:
        return f"{number(value)} {goal.unit}"
    if goal.bound < 0.5:
        return f"1/{1 / value:.0f} of {title(goal.base)}'s"
    return f"{number(value)} times {title(goal.base).partition(',')[0]}'s"


def section(result: Result) -> str:
    """Return one scenario's part."""
    scenario = result.scenario
    if not result.subjects():
        return ""
    head = f"## {scenario.title}\n\nShows {scenario.shows}. {scenario.rounds} rounds of {scenario.seconds:g} s."
    build = {Kind.CLOSED: closed, Kind.PACED: paced, Kind.STREAMS: streams, Kind.IDLE: idle}[scenario.kind]
    if scenario.kind is Kind.IDLE:
        head = f"## {scenario.title}\n\nShows {scenario.shows}."
    return f"{head}\n\n{build(result)}"


def closed(result: Result) -> str:
    """Return the table of a closed loop."""
    rows = []
    for name in result.subjects():
        times = result.against(name)
        rows.append(
            [
                title(name) + (" (a)" if result.shares(name).subject_idle > FULL_IDLE else ""),
                number(result.median(name, "cpu_us").median),
                spread(times),
                number(result.median(name, "rate_per_s").median),
                number(result.median(name, "p50_ms").median),
                number(result.median(name, "p99_ms").median),
            ]
        )
    return table(["", "CPU a request, µs", "times nginx's", "requests/s", "p50, ms", "p99, ms"], rows)


def paced(result: Result) -> str:
    """Return the table of a fixed rate."""
    shares = ("p50_ms", "p99_ms")
    bases = [[value for name in result.subjects() for value in result.values(name, f"nginx_{one}")] for one in shares]
    rows = [[title(BASE), *(number(estimate(values).median) for values in bases), "", ""]]
    for name in result.subjects():
        medians = [number(result.median(name, one).median) for one in shares]
        rows.append([title(name), *medians, *(spread(result.median(name, f"added_{one}")) for one in shares)])
    return table(["", "p50, ms", "p99, ms", "added to p50, ms", "added to p99, ms"], rows)


def streams(result: Result) -> str:
    """Return the table of open streams."""
    rows = []
    for name in result.subjects():
        delivered = result.median(name, "delivered").median
        rows.append(
            [
                title(name),
                number(result.median(name, "cpu_us").median),
                spread(result.against(name)),
                number(result.median(name, "chunks_per_s").median),
                f"{delivered:.0%}",
            ]
        )
    return table(["", "CPU a chunk, µs", "times nginx's", "chunks/s", "of those sent"], rows)


def idle(result: Result) -> str:
    """Return the table of memory."""
    rows = [
        [title(name), number(result.median(name, "rest_mb").median), number(result.median(name, "stream_kb").median)]
        for name in result.subjects()
    ]
    return table(["", "at rest, MB", "an open stream, KB"], rows)


def missing(results: Results) -> str:
    """Say what could not be measured, and why."""
    lines = [
        f"- {title(name)}, {result.scenario.title}: {reason[:300]}"
        for result in results.scenarios.values()
        for name, reason in result.missing.items()
    ]
    return "## Missing\n\n" + "\n".join(lines) if lines else ""


def limits(results: Results) -> str:
    """Show that neither upstream nor load generator was the limit: who used the two cores."""
    rows = []
    for result in results.scenarios.values():
        if result.scenario.kind is Kind.IDLE:
            continue
        for name in result.subjects():
            one = result.shares(name)
            used = [one.subject, one.subject_idle, one.upstream, one.load, one.load_idle, one.others]
            rows.append([result.scenario.name, title(name), *(f"{share:.0%}" for share in used)])
    if not rows:
        return ""
    head = ["", "", "subject", "its core idle", "upstream", "load generator", "their core idle", "others"]
    return (
        "## Who used the cores\n\nShares of one core, in the mean. While the second core has idle time left, neither "
        "upstream nor load generator was the limit.\n\n" + table(head, rows)
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, its columns aligned for those who read the source."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = [_row(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_row(row, widths) for row in rows)])


def _row(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def spread(one: Estimate | None) -> str:
    """Return a median with its interval."""
    return "" if one is None else f"{number(one.median)} [{number(one.low)}, {number(one.high)}]"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write(results: Results, folder: Path) -> None:
    """Write the report and its plot."""
    (folder / "report.md").write_text(markdown(results), encoding="utf-8")
    if "saturation" in results.scenarios:
        plot.draw(results.scenarios["saturation"], results.scenarios.get("streams"), folder / "report.png")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write(load(place), place)
