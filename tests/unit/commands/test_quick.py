"""`postern health` and `postern pause`: what a container runs every few seconds."""

import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands import main
from gateway.quick import NotHealthyError, ask_health
from tests.upstream import refused_url

READY = b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"status":"ready"}'
DRAINING = b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"status":"draining"}\n\x1b[2J'
HEAVY = {"litestar", "onnxruntime", "numpy", "click", "asyncio", "ssl", "http", "msgspec", "uvloop"}


@contextmanager
def answering(answer, family=socket.AF_INET, hold_s=0.0):
    """Serve one fixed answer; give the address and the requests that came."""
    heard = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            heard.append(self.request.recv(65_536))
            if hold_s:
                time.sleep(hold_s)
            self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        daemon_threads = True

    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        shown = host if family == socket.AF_INET else f"[{host}]"
        yield f"http://{shown}:{server.server_address[1]}", heard
        server.shutdown()
        thread.join()


def run(*arguments, **environ):
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=20, check=False
    )


def test_a_gateway_that_is_ready_is_healthy_whatever_proxies_the_environment_names():
    with answering(READY) as (url, heard):
        ended = run("health", "--url", url, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, '{"status":"ready"}\n', "")
    assert heard[0].startswith(b"GET /health/ready HTTP/1.0\r\n")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_address_may_be_ipv6():
    with answering(READY, socket.AF_INET6) as (url, _):
        assert ask_health(url, 5.0) == '{"status":"ready"}'


def test_a_path_is_asked_as_it_stands():
    with answering(READY) as (url, heard):
        ask_health(f"{url}/health/live?a=b", 5.0)
    assert heard[0].startswith(b"GET /health/live?a=b ")


def test_one_that_drains_is_not_and_its_words_are_one_printable_line():
    with answering(DRAINING) as (url, _):
        ended = run("health", "--url", url)
    assert ended.returncode == 1
    assert ended.stderr == f'{url} answered 503: {{"status":"draining"}}\\n\\x1b[2J\n'


def test_nobody_there_is_told_with_what_to_do():
    with pytest.raises(NotHealthyError, match=r"can't be reached: Connection refused; name the data port with --url"):
        ask_health(refused_url(), 5.0)


def test_one_that_hangs_is_given_up_at_its_time():
    began_s = time.monotonic()
    with answering(READY, hold_s=1.0) as (url, _), pytest.raises(NotHealthyError, match=r"within 0.2 s"):
        ask_health(url, 0.2)
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 \xff\r\n\r\n"])
def test_what_speaks_something_else_is_told(answer):
    with answering(answer) as (url, _), pytest.raises(NotHealthyError, match="HTTP"):
        ask_health(url, 5.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["health", "--url", "127.0.0.1:8080"],
        ["health", "--url", "http://127.0.0.1:port"],
        ["health", "--url", "ftp://127.0.0.1"],
        ["health", "--url", "http://a b"],
        ["health", "--timeout", "0"],
        ["pause"],
        ["pause", "nan"],
        ["pause", "-1"],
    ],
)
def test_a_wrong_use_is_told_with_exit_2(arguments):
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "usage: postern" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_pause_lasts_its_time():
    began_s = time.monotonic()
    assert run("pause", "0.3").returncode == 0
    assert time.monotonic() - began_s >= 0.3


def heeds_sigterm(pid):
    """Tell whether a process has a handler for it yet."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_pause_ends_at_sigterm_as_if_it_were_over():
    with subprocess.Popen([sys.executable, "-m", "gateway", "pause", "60"]) as process:
        while not heeds_sigterm(process.pid):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.parametrize("name", ["health", "pause"])
def test_they_stand_among_the_commands_with_examples(name):
    assert name in CliRunner().invoke(main, ["--help"]).output
    told = run(name, "--help")
    assert told.returncode == 0
    assert f"Examples:\n  postern {name}" in told.stdout


def test_neither_imports_anything_heavy():
    """It took 540 ms with all of the gateway's, every ten seconds."""
    code = "import gateway.__main__, json, sys; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("gateway")} == {"gateway", "gateway.__main__", "gateway.quick"}
