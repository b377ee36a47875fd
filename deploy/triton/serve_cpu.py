"""Serve the mocked models by a real Triton on the CPU: for tests, for the demo, for a first look without a GPU.

    make triton                                             once: Triton's wheel in an environment of its own
    python deploy/triton/serve_cpu.py                       ports 8000 (HTTP), 8001 (gRPC), 8002 (metrics)
    python deploy/triton/serve_cpu.py --http-port 0 --grpc-port 0 --metrics-port 0      free ports
    python deploy/triton/serve_cpu.py --ask                 is it ready? (exit 0, or 1)
    curl -s localhost:8000/v2/models/vllm/generate -d '{"text_input": "Hello"}'

The interfaces are those of the repositories beside this file, for a GPU: their config.pbtxt with `mock` behind it.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / ".triton"
SHARED_MEMORY = Path("/dev/shm")

SOURCES = {
    "vllm": "vllm/llama",
    "preprocessing": "tensorrt_llm/preprocessing",
    "tensorrt_llm": "tensorrt_llm/tensorrt_llm",
    "postprocessing": "tensorrt_llm/postprocessing",
    "ensemble": "tensorrt_llm/ensemble",
    "tensorrt_llm_bls": "tensorrt_llm/tensorrt_llm_bls",
    "llmapi": "llmapi/tensorrt_llm",
}
"""Each mocked model and whose config.pbtxt it has."""

DIALECTS = {"vllm": "vllm", "trtllm": "ensemble", "llmapi": "llmapi"}
"""The model that speaks each dialect."""

SERVED = (*DIALECTS.values(), "tensorrt_llm_bls")
"""What is served: those, and the other model that speaks `trtllm`; what the ensemble is made of comes with it."""

PROBE = """
import sys, sysconfig
print(*sys.version_info[:2], sep=".")
print(sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR"), sep="\\n")
"""

GUARD = """
import os, pathlib, shutil, signal, sys
group, prefix, folder = sys.argv[1:]
sys.stdin.read()
try:
    os.killpg(int(group), signal.SIGKILL)
except ProcessLookupError:
    sys.exit()
for left in pathlib.Path("/dev/shm").glob(prefix + "*"):
    left.unlink(missing_ok=True)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Waits for the end of its input, which comes with the end of whoever started it, even by SIGKILL: then no server, its
models' processes or their shared memory may be left."""


class NotInstalledError(Exception):
    """Triton is not there; the text says what to do."""


@dataclass(frozen=True)
class Options:
    """How to serve. A port of 0 is a free one; `slots`: requests that run side by side; `kv_tokens`: what they hold."""

    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    host: str = "127.0.0.1"
    models: tuple[str, ...] = SERVED
    slots: int = 256
    kv_tokens: int = 65_536


@dataclass(frozen=True)
class Installation:
    """Triton's files, and the Python that its models run in."""

    root: Path
    python: Path
    version: str
    libraries: str


def find_installation(environment: Path = ENVIRONMENT) -> Installation:
    """Return what there is. Raises NotInstalledError."""
    python = environment / "bin" / "python3"
    if not python.exists():
        raise NotInstalledError(f"{environment} is missing: make triton (needs Linux on x86_64, Python 3.10 to 3.12)")
    told = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    version, packages, libraries = told.splitlines()
    root = Path(packages) / "pytriton" / "tritonserver"
    if not (root / "python_backend_stubs" / version).exists():
        raise NotInstalledError(f"{root} has nothing for Python {version}: rm -r {environment}; make triton")
    # The stub finds what the wheel brings relative to its own place, and it is copied away from there.
    return Installation(root, python, version, f"{libraries}:{Path(packages) / 'nvidia_pytriton.libs'}")


class CpuTriton:
    """A Triton server; `start` it, then `stop` it. Its ports stay its own over restarts."""

    def __init__(self, options: Options, installation: Installation | None = None) -> None:
        self._installed = installation or find_installation()
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="postern-triton-"))
        self._log = self._folder / "log"
        self._prefix = f"{self._folder.name}-"
        wanted = (options.http_port, options.grpc_port, options.metrics_port)
        self.http_port, self.grpc_port, self.metrics_port = choose_ports(options.host, wanted)
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        lay_out(self._folder, self._installed, options)

    def start(self, patience_s: float = 60.0) -> None:
        """Start and wait until every model is ready. Raises RuntimeError with the log's end where it does not."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(), env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        told = [str(self.process.pid), self._prefix, str(self._folder)]
        guard = [sys.executable, "-c", GUARD, *told]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        deadline_s = time.monotonic() + patience_s
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"Triton did not start:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Tell whether every model is ready."""
        url = f"http://{self._options.host}:{self.http_port}/v2/models"
        return all(answers(f"{url}/{name}/ready") for name in self._options.models)

    def stop(self, patience_s: float = 10.0) -> None:
        """Ask it to end, wait, and clean up; what does not end is killed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """Kill it and its models' processes, and remove the shared memory that they leave behind."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for left in self.shared_memory():
            left.unlink(missing_ok=True)

    def shared_memory(self) -> list[Path]:
        """Return the shared memory that is its own."""
        return list(SHARED_MEMORY.glob(f"{self._prefix}*"))

    def close(self) -> None:
        """Stop, and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """Return what it has said."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def _command(self) -> list[str]:
        options = self._options
        return [
            str(self._installed.root / "bin" / "tritonserver"),
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in options.models),
            *(f"--{kind}-address={options.host}" for kind in ("http", "grpc", "metrics")),
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=5",
        ]

    def _environment(self) -> dict[str, str]:
        """Return the environment: models' processes take the first python3 on PATH and are linked to its library."""
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ}
        return {
            **kept,
            "PATH": f"{self._installed.python.parent}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": self._installed.libraries,
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def lay_out(folder: Path, installed: Installation, options: Options) -> None:
    """Make the backend and the model repository that the server reads."""
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for part in (installed.root / "backends" / "python").glob("*.*"):
        (backend / part.name).symlink_to(part)
    stub = installed.root / "python_backend_stubs" / installed.version / "triton_python_backend_stub"
    # Copied, not linked: wheels lose the right to run.
    shutil.copy(stub, backend / stub.name)
    (backend / stub.name).chmod(0o755)
    server = installed.root / "bin" / "tritonserver"
    if not os.access(server, os.X_OK):
        server.chmod(0o755)
    for name, source in SOURCES.items():
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(mocked((HERE / source / "config.pbtxt").read_text(), options))
        model = HERE / "cpu" / "models" / name / "model.py"
        if model.exists():
            (version / "model.py").symlink_to(model)
            # A model's process looks for imports beside the model; it heeds no PYTHONPATH.
            (version / "mock").symlink_to(HERE / "cpu" / "mock")


def mocked(config: str, options: Options) -> str:
    """Return a GPU model's configuration with the mock behind it: its backend, its instances, its parameters."""
    for backend in ("vllm", "tensorrtllm"):
        config = config.replace(f'\nbackend: "{backend}"\n', '\nbackend: "python"\n')
    for group in ("count: 1 kind: KIND_MODEL", "count: 4 kind: KIND_CPU", "count: 64 kind: KIND_CPU"):
        config = config.replace(group, "count: 1 kind: KIND_CPU")
    if 'platform: "ensemble"' in config:
        return config
    parameters = {"mock_slots": options.slots, "mock_kv_tokens": options.kv_tokens}
    return config + "".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n' for key, value in parameters.items()
    )


def choose_ports(host: str, wanted: tuple[int, ...]) -> list[int]:
    """Return the ports, free ones for zeros: all held open at once, so that they differ."""
    with contextlib.ExitStack() as open_sockets:
        return [port or free_port(host, open_sockets) for port in wanted]


def free_port(host: str, open_sockets: contextlib.ExitStack) -> int:
    """Find a port and hold it until the stack closes.

    One that the kernel would choose, it may give to a connection before Triton listens: those are 32768 and above.
    """
    probe = open_sockets.enter_context(socket.socket())
    while True:
        port = random.randrange(10_000, 32_768)
        with contextlib.suppress(OSError):
            probe.bind((host, port))
            return port


def answers(url: str) -> bool:
    """Tell whether a page is served."""
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            return bool(page.status == 200)
    except urllib.error.HTTPError as refused:
        refused.close()
        return False
    except OSError:
        return False


@contextlib.contextmanager
def serving(options: Options) -> Iterator[CpuTriton]:
    """Serve while the block runs."""
    server = CpuTriton(options)
    try:
        server.start()
        yield server
    finally:
        server.close()


def read_options(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(
            f"--{name}-port", type=int, default=port, metavar="PORT", help=f"default {port}; 0: a free one"
        )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--ask", action="store_true", help="ask the one that runs on --http-port: exit 0 when it is ready"
    )
    parser.add_argument("--models", nargs="+", choices=SERVED, default=SERVED)
    parser.add_argument("--slots", type=int, default=256, help="requests that run side by side (default 256)")
    parser.add_argument("--kv-tokens", type=int, default=65_536, help="tokens that they may hold (default 65536)")
    told = vars(parser.parse_args(arguments))
    if told.pop("ask"):
        sys.exit(0 if answers(f"http://127.0.0.1:{told['http_port']}/v2/health/ready") else 1)
    return Options(**{**told, "models": tuple(told["models"])})


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit status."""
    options = read_options()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first by default
        signal.signal(number, signal.default_int_handler)
    try:
        with serving(options) as server:
            for kind, port in (
                ("http", server.http_port),
                ("grpc", server.grpc_port),
                ("metrics", server.metrics_port),
            ):
                path = "/metrics" if kind == "metrics" else ""
                scheme = "grpc" if kind == "grpc" else "http"
                print(f"{kind:8} {scheme}://{options.host}:{port}{path}")
            print(f"models   {', '.join(options.models)}; Ctrl-C ends", flush=True)
            if server.process is not None:
                server.process.wait()
    except NotInstalledError as exc:
        print(exc, file=sys.stderr)
        return 2
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
