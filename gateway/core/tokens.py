"""Estimates of token counts, for when nobody has counted. Pure."""

from gateway.schema.conversation import Conversation

CHARACTERS_PER_TOKEN = 4
"""English text and code under the common BPE vocabularies; other scripts take about a token a character."""
TOKENS_PER_TURN = 4
TOKENS_PER_ATTACHMENT = 800
"""A 1024 x 1024 image is 765 tokens at OpenAI; others charge about as much."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text takes: a quarter of its ASCII characters and each of the others."""
    if text.isascii():
        return -(-len(text) // CHARACTERS_PER_TOKEN)
    ascii_count = len(text.encode("ascii", "ignore"))
    return -(-ascii_count // CHARACTERS_PER_TOKEN) + (len(text) - ascii_count)


def estimate_prompt_tokens(conversation: Conversation) -> int:
    """Return about how many tokens a whole conversation takes as a prompt."""
    tokens = conversation.attachment_count * TOKENS_PER_ATTACHMENT + len(conversation.turns) * TOKENS_PER_TURN
    for turn in conversation.turns:
        tokens += estimate_tokens(turn.text)
    return tokens + sum(conversation.token_counts) + -(-conversation.json_bytes // CHARACTERS_PER_TOKEN)


def estimate_longest_tokens(conversation: Conversation) -> int:
    """Return about how many tokens the longest turn takes: where each is a prompt of its own, it must fit alone."""
    texts = (estimate_tokens(turn.text) + TOKENS_PER_TURN for turn in conversation.turns)
    return max((*texts, *conversation.token_counts), default=0)
