"""Commands that a container runs every few seconds: `health` and `pause`. Imports next to nothing.

The gateway takes half a second of CPU to import, click and http.client 30 ms each: a health check every ten seconds
would cost more than the requests of a small site. Here it takes 37 ms, of which 30 are Python's own start.
"""

import argparse
import importlib
import math
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final
from urllib.parse import SplitResult, urlsplit

QUICK: Final = {
    "health": "Ask a gateway whether it takes requests: exit 0, or 1 and what is wrong.",
    "pause": "Wait, where an image has no `sleep`: as a pod's preStop hook.",
}
READY: Final = "/health/ready"
PORTS: Final = {"http": 80, "https": 443}
MAX_ANSWER_BYTES: Final = 65_536
MAX_SHOWN: Final = 200
MAX_PAUSE_S: Final = 86_400.0


class NotHealthyError(Exception):
    """Say in one line what is wrong."""


def run_quick(arguments: Sequence[str]) -> None:
    """Run `health` or `pause`, and exit."""
    asked = _parser().parse_args(arguments)
    if asked.command == "pause":
        _pause(asked.seconds)
        sys.exit(0)
    try:
        print(ask_health(asked.url, asked.timeout))  # noqa: T201 - what the command says
    except NotHealthyError as problem:
        sys.exit(str(problem))


def ask_health(url: str, timeout_s: float) -> str:
    """Return what a healthy gateway says of itself. Raises NotHealthyError.

    Asks straight, whatever proxies the environment names: a proxy's answer says nothing of this gateway.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)  # of all of it: the name's look-up, too, and an answer that drips
    where = urlsplit(url)
    try:
        status, body = _read_answer(_get(where))
    except TimeoutError:
        raise NotHealthyError(
            f"{url} did not answer within {timeout_s:g} s: it hangs, or has far too much to do"
        ) from None
    except OSError as exc:
        problem = exc.strerror or type(exc).__name__
        raise NotHealthyError(f"{url} can't be reached: {problem}; name the data port with --url") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if status != 200:
        raise NotHealthyError(f"{url} answered {status}: {body}")
    return body


def _get(where: SplitResult) -> bytes:
    host, path = where.hostname or "", where.path.rstrip("/") or READY
    query = f"?{where.query}" if where.query else ""
    request = f"GET {path}{query} HTTP/1.0\r\nhost: {where.netloc}\r\nuser-agent: postern-health\r\n\r\n"
    found = b""
    with socket.create_connection((host, where.port or PORTS[where.scheme])) as plain:
        connection = plain
        if where.scheme == "https":
            ssl = importlib.import_module("ssl")  # 12 ms that plain HTTP need not pay
            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        with connection:
            connection.sendall(request.encode())
            while len(found) < MAX_ANSWER_BYTES and (part := connection.recv(MAX_ANSWER_BYTES)):
                found += part
    return found


def _read_answer(answer: bytes) -> tuple[int, str]:
    """Return status and body, the body as one printable line."""
    head, _, body = answer.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise NotHealthyError("what answered does not speak HTTP; name the data port with --url")
    return int(rest[:3]), ascii(body[:MAX_SHOWN].decode(errors="replace"))[1:-1]


def _give_up(_: int, __: FrameType | None) -> None:
    raise TimeoutError


def _pause(seconds: float) -> None:
    # Process 1 of a container heeds only signals that it has a handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    time.sleep(seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="postern", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    health = _command(commands, "health", "postern health\n  postern health --url http://127.0.0.1:8081/health/live")
    health.add_argument(
        "--url",
        type=_url,
        default="http://127.0.0.1:8080",
        help=f"the gateway; without a path its {READY} is asked (default: %(default)s)",
    )
    health.add_argument("--timeout", type=_seconds, default=2.0, help="seconds for all of it (default: %(default)g)")
    pause = _command(commands, "pause", "postern pause 15")
    pause.add_argument("seconds", type=_seconds, help="how long; SIGTERM ends it sooner")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        description=QUICK[name],
        epilog=f"Examples:\n  {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _url(text: str) -> str:
    try:
        found = urlsplit(text)
        is_sound = found.scheme in PORTS and bool(found.hostname) and found.port != 0
    except ValueError:  # a port that is none
        is_sound = False
    if not is_sound or not text.isascii() or any(character.isspace() for character in text):
        raise argparse.ArgumentTypeError(f"{text!a} is no address such as http://127.0.0.1:8080")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_PAUSE_S:
        raise argparse.ArgumentTypeError(f"{text!a} is no number of seconds up to {MAX_PAUSE_S:g}")
    return seconds
