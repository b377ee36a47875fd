"""How families of models write their tool calls, and how to tell a model's family from its chat template.

Sources: Llama 3's model card (bare JSON; `<|python_tag|>` before it with built-in tools; vLLM saw them parted by `;`);
`mistral-common` (a list after `[TOOL_CALLS]`, since tokenizer v11 `[TOOL_CALLS]name[ARGS]{...}`); the Hermes format of
function calling, which Qwen took over (`<tool_call>` around each).
"""

from collections.abc import Mapping
from typing import Final

from gateway.backends.chat.tool_calls import Grammar
from gateway.settings.engines import ToolFormat

GRAMMARS: Final[Mapping[ToolFormat, Grammar]] = {
    ToolFormat.LLAMA3: Grammar("<|python_tag|>"),
    ToolFormat.MISTRAL: Grammar("[TOOL_CALLS]", headed=True),
    ToolFormat.HERMES: Grammar("<tool_call>", close="</tool_call>"),
}
BARE: Final = GRAMMARS[ToolFormat.LLAMA3]
"""An answer that was held to a call's JSON schema is one bare object, whatever the family."""


def guess_format(template: str) -> ToolFormat | None:
    """Return the family whose calls a chat template writes or explains; None where it shows none that is known."""
    if "<tool_call>" in template:
        # Qwen3-Coder writes another language within the same mark.
        return None if "<function=" in template else ToolFormat.HERMES
    if "[TOOL_CALLS]" in template:
        return ToolFormat.MISTRAL
    is_llama = "<|python_tag|>" in template or ("<|start_header_id|>" in template and "ipython" in template)
    # Phi-4-mini writes bare JSON, too, between marks that servers drop.
    return ToolFormat.LLAMA3 if is_llama or "<|tool|>" in template else None
