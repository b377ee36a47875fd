"""Run an image's root as a container engine would: no network, all of it read-only, a plain user, no new privileges.

Run by test_image.py through tests/namespaces.py. Reads where the root is and how the image wants to be run; answers
with what was seen.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.namespaces import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, bind, bring_up_loopback, libc, mount

PR_SET_NO_NEW_PRIVS = 38
DATA, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
START_S = 30.0

TWO_MODELS = """
models:
  mounted-small: {backend: simulated}
  mounted-large: {backend: simulated}
routes:
  auto: {models: [mounted-small, mounted-large]}
"""
TWO_WORKERS = 'redis: {url: "redis://127.0.0.1:6379/0"}\nserver: {workers: 2}\n'

IMPORTS = "import onnxruntime, gateway.telemetry.otlp, redis, tokenizers, tritonclient.grpc.aio, httpx2"
AUTHORITIES = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
WRITES = """
for path in ("/x", "/tmp/x", "/var/x", "/opt/postern/x"):
    try:
        open(path, "w")
    except OSError as exc:
        print(path, exc.strerror)
"""


class Container:
    """An image's root, and the user and environment it wants."""

    def __init__(self, root: Path, wanted: dict[str, Any], folder: Path) -> None:
        self.root = root
        self._folder = folder
        self.user, self.group = (int(number) for number in wanted["User"].split(":"))
        self.environ = dict(pair.split("=", 1) for pair in wanted["Env"])
        self.command = [*wanted["Entrypoint"], *wanted["Cmd"]]

    def make(self, mounted: dict[str, str], writable: tuple[str, ...] = ()) -> None:
        """Mount it all: the root and these files read-only, memory where it may write."""
        places = {}
        for number, (path, text) in enumerate(mounted.items()):
            place = self.root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
            places[place] = self._folder / f"mounted-{number}"
            places[place].write_text(text)
        mount(self.root, self.root, flags=MS_BIND | MS_REC)
        mount("none", self.root, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
        mount("proc", self.root / "proc", "proc")
        mount("/dev", self.root / "dev", flags=MS_BIND | MS_REC)
        for place, source in places.items():
            bind(source, place)
        for path in writable:
            mount("tmpfs", self.root / path.lstrip("/"), "tmpfs")

    def unmount(self) -> None:
        """Undo it."""
        subprocess.run(["umount", "-R", str(self.root)], check=True)

    def start(self, *command: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command inside: found on the image's own PATH, as engines do."""
        return subprocess.Popen(
            [self.find(command[0]), *command[1:]],
            env=self.environ,
            preexec_fn=self._enter,  # noqa: PLW1509 - this process has no thread
            text=True,
            stdout=subprocess.PIPE,
            **more,
        )

    def run(self, *command: str) -> dict[str, Any]:
        """Run a command inside to its end."""
        try:
            process = self.start(*command, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            return {"rc": 127, "said": ""}
        said = process.communicate(timeout=START_S)[0]
        return {"rc": process.returncode, "said": said}

    def find(self, name: str) -> str:
        """Return where the image has a command. Raises FileNotFoundError."""
        for folder in self.environ["PATH"].split(":"):
            if os.path.lexists(self.root / folder.lstrip("/") / name):
                return f"{folder}/{name}"
        raise FileNotFoundError(name)

    def _enter(self) -> None:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.chroot(self.root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(self.group)
        os.setuid(self.user)


def get(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask; a refusal is an answer, too."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return {"status": answer.status, "headers": headers, "body": answer.read().decode()}
    except urllib.error.HTTPError as refused:
        return {"status": refused.code, "headers": {}, "body": refused.read().decode()}
    except OSError:
        return {"status": 0, "headers": {}, "body": ""}


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait until it takes requests."""
    until_s = time.monotonic() + START_S
    while get(f"{DATA}/health/ready")["status"] != 200:
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            raise SystemExit(f"not ready within {START_S:g} s: {process.communicate()[1]}")
        time.sleep(0.01)


def stop(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Ask it to end; return how it did, and its log."""
    began_s = time.monotonic()
    process.terminate()
    log = process.communicate(timeout=START_S)[1]
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {"rc": process.returncode, "took_s": time.monotonic() - began_s, "log": events}


def read_status(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def try_bare(container: Container) -> dict[str, Any]:
    """Run it as `docker run --read-only --network none` does, nothing mounted, nothing writable."""
    container.make({})
    process = container.start(*container.command, stderr=subprocess.PIPE)
    wait_ready(process)
    asked = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    seen = {
        "status": read_status(process.pid),
        "health": container.run("postern", "health"),
        "chat": get(f"{DATA}/v1/chat/completions", asked),
        "metrics": get(f"{ADMIN}/metrics"),
        "shell": container.run("sh", "-c", "true"),
        "imports": container.run("python", "-c", IMPORTS),
        "authorities": container.run("python", "-c", AUTHORITIES),
        "writes": container.run("python", "-c", WRITES),
        "missing_config": container.run("postern", "serve", "--config", "/nowhere.yaml"),
        "stopped": stop(process),
        "health_after": container.run("postern", "health"),
    }
    container.unmount()
    return seen


def try_mounted(container: Container) -> dict[str, Any]:
    """Mount a configuration, and nothing else: it must be read."""
    container.make({"/etc/postern/postern.yaml": TWO_MODELS})
    process = container.start(*container.command, stderr=subprocess.PIPE)
    wait_ready(process)
    seen = {"models": get(f"{DATA}/v1/models"), "explain": container.run("postern", "explain", "--json", "Hello")}
    seen["stopped"] = stop(process)
    container.unmount()
    return seen


def try_workers(container: Container) -> dict[str, Any]:
    """Let two workers serve, which add their metrics up in files: where only memory can be written, and in a /tmp."""
    seen = {}
    redis = ["redis-server", "--save", "", "--daemonize", "no", "--logfile", "/dev/null"]
    with subprocess.Popen(redis) as store:
        for name, writable in (("memory", ()), ("folder", ("/tmp",))):
            container.make({"/etc/postern/postern.yaml": TWO_MODELS + TWO_WORKERS}, writable=writable)
            process = container.start(*container.command, stderr=subprocess.PIPE)
            wait_ready(process)
            seen[name] = {"metrics": get(f"{ADMIN}/metrics"), "stopped": stop(process)}
            container.unmount()
        store.kill()
    return seen


def main() -> None:
    """Try it three ways."""
    told = json.load(sys.stdin)
    bring_up_loopback()
    container = Container(Path(told["root"]), told["config"], Path(told["folder"]))
    tried = {"bare": try_bare(container), "mounted": try_mounted(container), "workers": try_workers(container)}
    json.dump(tried, sys.stdout)


if __name__ == "__main__":
    main()
