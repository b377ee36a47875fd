"""Ask a gateway one question through its service, as `helm test` does. Needs nothing but Python."""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL, MODEL, KEY = os.environ["URL"], os.environ["MODEL"], os.environ.get("API_KEY")
IS_KEY_OPTIONAL = os.environ["KEYS_REQUIRED"] != "true"
TIMEOUT_S = float(os.environ["TIMEOUT_S"])


def ask() -> str:
    """Return what to tell; raise SystemExit where the gateway does not do what it should."""
    try:
        model = MODEL or find_model()
        messages = [{"role": "user", "content": "Say hello."}]
        with send("/v1/chat/completions", {"model": model, "max_tokens": 16, "messages": messages}) as answer:
            text = json.load(answer)["choices"][0]["message"]["content"]
            return f"{answer.headers['x-postern-model']} ({answer.headers['x-postern-reason']}) answers: {text!r}"
    except urllib.error.HTTPError as refused:
        if refused.code == 401 and not (KEY or IS_KEY_OPTIONAL):
            return "no key, and refused, as it should be; with test.apiKeySecret a question is asked"
        sys.exit(f"{refused.url} answered {refused.code}: {refused.read().decode(errors='replace')}")


def find_model() -> str:
    """Return what the gateway lists first: routes come before models."""
    with send("/v1/models") as answer:
        return json.load(answer)["data"][0]["id"]


def send(path: str, body: object = None) -> http.client.HTTPResponse:
    """Send a request and return its answer; POST where there is a body."""
    headers = {"content-type": "application/json"}
    if KEY:
        headers["authorization"] = f"Bearer {KEY}"
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=TIMEOUT_S)


def ask_until(deadline_s: float) -> str:
    """Ask again while nothing listens: a service takes a moment to know its pods."""
    while True:
        try:
            return ask()
        except urllib.error.URLError as exc:
            if time.monotonic() > deadline_s:
                sys.exit(f"{URL} can't be reached: {exc.reason}")
            time.sleep(1)


if __name__ == "__main__":
    print(ask_until(time.monotonic() + TIMEOUT_S))
