"""Ask a gateway one question through its service, as `helm test` does. Needs nothing but Python."""

import json
import os
import sys
import time
import urllib.error
import urllib.request


def main() -> str:
    """Return what to tell; raise SystemExit where the gateway does not do what it should."""
    body = {"model": os.environ["MODEL"], "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}
    headers = {"content-type": "application/json"}
    if key := os.environ.get("API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    url = os.environ["URL"] + "/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=float(os.environ["TIMEOUT_S"])) as answer:
            found = json.load(answer)
            text = found["choices"][0]["message"]["content"]
            return f"{answer.headers['x-postern-model']} ({answer.headers['x-postern-reason']}) answers: {text!r}"
    except urllib.error.HTTPError as refused:
        problem = refused.read().decode(errors="replace")
        if refused.code == 401 and os.environ["KEYS_REQUIRED"] == "true" and not key:
            return "no key, and refused, as it should be; with test.apiKeySecret a question is asked"
        sys.exit(f"{url} answered {refused.code}: {problem}")


def ask_until(deadline_s: float) -> str:
    """Ask again while nothing listens: a service takes a moment to know its pods."""
    while True:
        try:
            return main()
        except urllib.error.URLError as exc:
            if time.monotonic() > deadline_s:
                sys.exit(f"{os.environ['URL']} can't be reached: {exc.reason}")
            time.sleep(1)


if __name__ == "__main__":
    print(ask_until(time.monotonic() + float(os.environ["TIMEOUT_S"])))
