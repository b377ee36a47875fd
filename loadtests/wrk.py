"""The closed loop: wrk with requests made beforehand, so that it has little to do but send them."""

import json
from pathlib import Path
from string import Template
from typing import NamedTuple

from loadtests.bodies import Request

CONNECTIONS = 32

SCRIPT = Template("""-- Written by loadtests/wrk.py.
local heads, tails = {$heads}, {$tails}
local place, number = 0, $start
local size, format = #heads, string.format
function request()
  place = place % size + 1
  number = number + $step
  return heads[place] .. format("%012d", number) .. tails[place]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(format('\\nRESULT {"requests": %d, "wall_us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}\\n',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
""")


class Tally(NamedTuple):
    """What wrk counted."""

    requests: int
    wall_us: int
    failed: int
    p50_us: int
    p99_us: int


def write_script(path: Path, requests: list[Request], *, start: int, is_same: bool) -> None:
    """Write the script of one turn. `start` must differ from turn to turn, or the second one would hit the cache."""
    text = SCRIPT.substitute(
        heads=",\n".join(lua_text(one.head) for one in requests),
        tails=",\n".join(lua_text(one.tail) for one in requests),
        start=start,
        step=0 if is_same else 1,
    )
    path.write_text(text, encoding="utf-8")


def lua_text(text: bytes) -> str:
    """Return a Lua string; JSON's own escapes travel as backslashes."""
    plain = text.decode().replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
    return f'"{plain}"'


def command(script: Path, port: int, seconds: float, connections: int = CONNECTIONS) -> list[str]:
    """Return the command line of one turn. wrk counts whole seconds."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "-s",
        str(script),
        url,
    ]


def read(output: str) -> Tally:
    """Return what a turn's output tells."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return Tally(**json.loads(line.removeprefix("RESULT ")))
    raise ValueError(f"wrk told no result: {output}")
