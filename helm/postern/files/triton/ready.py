"""Exit 0 when every model named is ready: a probe of Triton that can ask for more than one.

Not /v2/health/ready, which says no as soon as any model of the repository is unloaded, whoever needs it.
"""

import sys
import urllib.request

for name in sys.argv[1:]:
    # Anything but 200 raises, and that is the answer.
    urllib.request.urlopen(f"http://127.0.0.1:8000/v2/models/{name}/ready", timeout=2).close()
