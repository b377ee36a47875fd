"""A tokenizer without a vocabulary: a token is up to three bytes of UTF-8, packed into its id.

A character of two or three bytes is whole; one of four (an emoji) is two tokens, as byte-level tokenizers have it: so
whoever decodes tokens one by one cuts it, and whoever waits for whole characters does not.
"""

from collections.abc import Iterable

END_ID = 2
MAX_BYTES = 3


def encode(text: str) -> list[int]:
    """Return the ids; `decode` gives the text back. A token begins at each space."""
    ids, piece = [], b""
    for character in text:
        told = character.encode()
        if piece and (character == " " or len(piece) + len(told) > MAX_BYTES):
            ids.append(pack(piece))
            piece = b""
        if len(told) > MAX_BYTES:
            ids += [pack(told[:2]), pack(told[2:])]
        else:
            piece += told
    return [*ids, pack(piece)] if piece else ids


def pack(piece: bytes) -> int:
    """Return the id of a token; its length is above its bytes, as a token may begin with a zero byte."""
    return len(piece) << 24 | int.from_bytes(piece, "big")


def bytes_of(ids: Iterable[int]) -> bytes:
    """Return what the tokens spell; the end token and padding spell nothing."""
    return b"".join((one & 0xFFFFFF).to_bytes(one >> 24, "big") for one in ids if one > END_ID)


def decode(ids: Iterable[int]) -> str:
    """Return the text; what is cut inside a character becomes U+FFFD, as `batch_decode` of transformers does."""
    return bytes_of(ids).decode("utf-8", "replace")
