"""Bare models on NVIDIA Triton, over its own gRPC or HTTP: three dialects of inputs and outputs, two transports."""

import os

# Heeded by gRPC when it is loaded. Around every fork its handlers stop its threads and start them again, for children
# that go on to speak gRPC. Ours never do: a model's worker runs another program at once. Nothing is gained, and a
# gateway that starts workers was once seen to end in gRPC's own "Check failed: next_worker->state == KICKED".
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
