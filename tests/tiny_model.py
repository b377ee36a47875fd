"""The tiny model of random weights, as `deploy/onnx/tiny_model.py` builds it, and small things to ask it with."""

import asyncio
import atexit
import importlib.util
import shutil
import tempfile
from contextlib import aclosing
from functools import cache
from pathlib import Path

from gateway.backends.engine import Sampling, Task

SCRIPT = Path(__file__).parents[1] / "deploy" / "onnx" / "tiny_model.py"
SLOW = 1024
"""Of `work`: some 20 ms a token."""
FOR_EVER = {"temperature": 0.0, "min_tokens": 2000}
"""Sampling that does not end by itself before the window does."""


def build_tiny_model(folder, **options):
    """Build it; return its folder."""
    found = importlib.util.spec_from_file_location("tiny_model", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.build(folder, **options)
    return folder


@cache
def tiny_folder(**options):
    """The folder of a model like that, built once a test process."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_tiny_model(folder, **options)


def task(prompt="hello", *, max_tokens=20, is_streaming=True, **sampling):
    """One text to generate."""
    return Task("task-1", prompt, Sampling(max_tokens, **sampling), is_streaming, deadline_s=0.0)


async def pieces_of(engine, asked=None, count=None):
    """The pieces of one answer; `count` of them, then it is given up."""
    found = []
    async with aclosing(engine.generate(asked or task())) as pieces:
        async for piece in pieces:
            found.append(piece)
            if len(found) == count:
                break
    return found


async def text_of(engine, asked=None):
    """The text of one answer."""
    return "".join(piece.text for piece in await pieces_of(engine, asked))


async def until(is_so, seconds=10.0):
    """Wait for a fact that comes to hold."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - processes and files tell nobody
            await asyncio.sleep(0.002)


async def ready(engine):
    """Wait until the worker has loaded its model; return its process id."""
    await engine.look()
    await until(lambda: engine._supervisor.ready)
    return engine._supervisor.ready.pid


def is_gone(pid):
    """Whether a process has ended, and was waited for."""
    return not Path(f"/proc/{pid}").exists()


def state_of(pid):
    """A process's state as the kernel writes it: T where it was stopped, Z where nobody waited for its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def has_ended(pid):
    """Whether a process has ended; whoever inherited it may not have waited for it yet."""
    return state_of(pid) in (None, "Z")
