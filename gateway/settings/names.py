"""What may name a model, a route, a client or a team."""

MAX_NAME_CHARACTERS = 128  # as a request id's: names travel in headers and metric labels
NAME_REMEDY = f"use 1 to {MAX_NAME_CHARACTERS} printable characters without spaces"


def is_name(text: str) -> bool:
    """Say whether `text` is printable, without spaces, and neither empty nor too long."""
    return 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable() and " " not in text
