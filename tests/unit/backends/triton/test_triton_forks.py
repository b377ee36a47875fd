"""What gRPC does where the gateway starts a process: nothing."""

import os
import subprocess
import sys

FORKS = """
import os, time
from gateway.backends.triton import grpc_transport
channel = grpc_transport.grpc.insecure_channel("127.0.0.1:1")
channel.subscribe(lambda _: None, try_to_connect=True)
time.sleep(0.2)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""


def test_grpc_takes_no_notice_of_forks():
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    told = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**environment, "GRPC_VERBOSITY": "info"},
    )
    assert told.returncode == 0
    assert "fork" not in told.stderr
