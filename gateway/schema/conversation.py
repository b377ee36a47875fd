"""What a classifier reads: the conversation as plain text turns. Knows nothing of HTTP, models or routes."""

import msgspec


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One message: its role (`system`, `user`, `assistant`, `tool`, ...) and its text, parts joined by newlines."""

    role: str
    text: str


class Conversation(msgspec.Struct, frozen=True):
    """The turns of one request, oldest first, with counts of what is not text.

    `token_counts`: of each prompt that came as token ids. `json_bytes`: of tools, calls of them and schemas, which are
    part of the prompt too.
    """

    turns: tuple[Turn, ...]
    tool_count: int = 0
    attachment_count: int = 0
    token_counts: tuple[int, ...] = ()
    json_bytes: int = 0
