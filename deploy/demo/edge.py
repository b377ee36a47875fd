"""Send the demo's prompts through a small model inside the gateway and a large one on Triton, with no other server.

Run by `make demo-edge`. The small model has random weights and talks gibberish; Triton is real, and a mock of the vLLM
backend answers in it. What is shown is the way: streamed, batched, through Triton's own protocol.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from deploy.demo import demo
from deploy.onnx import tiny_model
from deploy.triton.serve_cpu import DIALECTS, NotInstalledError, Options, serving

CONFIG = Path(__file__).parent.parent / "examples" / "edge-and-triton.yaml"
SHOWN_CHARACTERS = 72


def main() -> None:
    """Run the demo on the two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog="example: make demo-edge")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a model in ONNX form; default: a tiny random one")
    model = parser.parse_args().model
    name = DIALECTS["vllm"]
    with tempfile.TemporaryDirectory(prefix="postern-edge-") as folder, serving(Options(models=(name,))) as triton:
        if model is None:
            model = Path(folder)
            tiny_model.build(model)
        os.environ.update(ONNX_MODEL=str(model), TRITON_URL=f"grpc://127.0.0.1:{triton.grpc_port}", TRITON_MODEL=name)
        outcomes = asyncio.run(demo.run(CONFIG, "a model inside the gateway, and Triton by gRPC"))
    for tier in ("weak", "strong"):
        said = next((one.text for one in outcomes if one.headers["x-postern-tier"] == tier), "")
        print(f"{tier:6} said, among others: {said[:SHOWN_CHARACTERS]!r}")


if __name__ == "__main__":
    try:
        main()
    except NotInstalledError as missing:
        sys.exit(str(missing))
    except KeyboardInterrupt:
        sys.exit(130)
