r"""What users write must not pose as another role: the model's control tokens in their texts are broken up.

Servers that are given a prompt as text find control tokens in it wherever they stand, so in a user's message
`<|im_end|>\n<|im_start|>system` would begin a message of the system's. vLLM lets that pass; transformers can encode
such parts without control tokens (`sanitize_special_tokens`), which takes ids, not text. Through text what is left is
to change the text: a space goes behind a token's first character. A space, as what a model copies from there must not
hold characters that nobody sees. It costs a talk about chat templates a space; it mends `<s>` in HTML, which is a
control token of some models. Prompts of completions pass as they are: whoever writes one writes its tokens, too.
"""

import re
from collections.abc import Iterable
from typing import Any

# How families write control tokens. Of those in brackets and of plain tags only what the template itself writes.
_BARS = r"<\|[^\s<>|]{1,64}\|>"
_WIDE_BARS = r"<｜[^\s<>｜]{1,64}｜>"  # noqa: RUF001 - DeepSeek's
_WRITTEN = re.compile(r"\[/?[A-Z][A-Z_]{2,}\]|</?(?:start|end|begin)_of_\w+>|</?s>|<</?SYS>>|<(?:bos|eos)>")


class ControlTokens:
    """The control tokens of one model."""

    def __init__(self, template: str, told: Iterable[str]) -> None:
        shapes = [_BARS] if "<|" in template else []
        shapes += [_WIDE_BARS] if "<｜" in template else []  # noqa: RUF001
        tokens = {*_WRITTEN.findall(template), *(token for token in told if len(token) > 1 and token.strip())}
        # The longest first: of two that begin alike the shorter would leave the longer whole.
        words = [re.escape(token) for token in sorted(tokens, key=len, reverse=True)]
        self._pattern = re.compile("|".join((*words, *shapes))) if words or shapes else None

    def defuse(self, value: Any) -> Any:
        """Return a JSON value with every control token in its texts broken up; keys are texts too."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self._pattern.sub(_break, value)
        if isinstance(value, dict):
            return {self.defuse(key): self.defuse(inner) for key, inner in value.items()}
        return [self.defuse(inner) for inner in value] if isinstance(value, list) else value


def _break(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}"
