"""What tests of several folders share: the one real Triton of a session."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.triton_server import TritonServer

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("postern", deadline=None)
settings.load_profile("postern")


@pytest.fixture(scope="session")
def one_triton() -> Iterator[TritonServer]:
    """Start a Triton for all tests that need one. They run on one worker: `pytest.mark.xdist_group("triton")`."""
    with TritonServer() as server:
        yield server


@pytest.fixture
def triton(one_triton: TritonServer) -> TritonServer:
    """Give the session's Triton, started anew where the test before has broken it."""
    if not one_triton.is_ready():
        one_triton.restart()
    return one_triton


@pytest.fixture
def untouched_logs() -> Iterator[None]:
    """Put back whatever setting up the logs changes in a process."""
    names = ("postern", "uvicorn", "uvicorn.error", "uvicorn.access")
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in names]
    kept = [(one, one.handlers[:], one.level, one.propagate) for one in (root, *loggers)]
    hooks, show = (sys.excepthook, threading.excepthook), warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    for one, handlers, level, propagate in kept:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)
    (sys.excepthook, threading.excepthook), warnings.showwarning = hooks, show
