"""What may name a model, a route or a client."""

MAX_NAME_CHARACTERS = 128  # as a request id's: names travel in headers and metric labels


def is_name(text: str) -> bool:
    """Say whether `text` is printable, without spaces, and neither empty nor too long."""
    return 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable() and " " not in text
