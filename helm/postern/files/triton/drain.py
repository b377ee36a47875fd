"""Take a Triton out of service before it is told to end: unload the models named. What is under way goes on.

After SIGTERM alone Triton takes new requests and says that it is ready until it ends, and the gateway, which has its
connections open, would go on asking it. A model that is unloaded is not ready, which the gateway sees within seconds;
requests that come meanwhile fail before their first byte, and it asks another replica.
"""

import json
import os
import sys
import urllib.request

for name in sys.argv[1:]:
    request = urllib.request.Request(
        f"http://127.0.0.1:8000/v2/repository/models/{name}/unload",
        data=json.dumps({}).encode(),
        headers={"postern-pod": os.environ["POD_UID"]},
        method="POST",
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except OSError as problem:
        # Not ready yet, or gone already: nothing that should keep the pod.
        print(f"{name} could not be unloaded: {problem}", file=sys.stderr)
