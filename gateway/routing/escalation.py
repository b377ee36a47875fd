"""Whose answer is judged before it goes on, and who is asked where it is unsure. Pure; calls nobody."""

from collections.abc import Mapping, Sequence

from gateway.core.context import Candidate, Reason, RequestContext
from gateway.routing.policies import Choice
from gateway.schema.request import Operation, Request
from gateway.settings.models import Capability, ModelSettings
from gateway.settings.routes import CascadeSettings

BINDING = frozenset({Reason.PINNED, Reason.FORCED})
"""The reasons of a choice that nobody may question."""

# A model that may say only what a grammar allows is sure of every bracket: its tokens' probabilities are those of the
# form, not of the matter. The last are how vLLM, SGLang and llama.cpp are told of one.
CONSTRAINTS = frozenset({
    "tools", "functions", "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "structured_outputs", "regex", "ebnf", "grammar", "json_schema",
})  # fmt: skip
_FREE = frozenset({b"null", b"[]", b'{"type":"text"}'})
_LONGEST_FREE = 256
"""Characters, blanks included. Longer ones are not looked at: to take 10 MB apart holds the event loop for 0.3 s."""


def find_escalation(
    settings: CascadeSettings | None,
    choice: Choice,
    candidates: Sequence[Candidate],
    ctx: RequestContext,
    models: Mapping[str, ModelSettings],
) -> str | None:
    """Return the model to ask where the chosen one is unsure: the next stronger candidate that can serve.

    None where the chosen one's answer goes on unjudged: without a cascade, where the choice is binding or the score
    far below the threshold, where no log probabilities are to be had or they would tell nothing.
    """
    if settings is None or choice.reason in BINDING or not is_judgeable(ctx.asked):
        return None
    if Capability.LOGPROBS not in models[choice.model].capabilities or not _is_in_band(settings, choice, ctx.score):
        return None
    rank = ctx.asked_ladder.rank(choice.model)
    return next((candidate.model for candidate in candidates[rank + 1 :] if candidate.dropped is None), None)


def is_judgeable(request: Request) -> bool:
    """Tell whether the first tokens' probabilities speak for the answer: one choice, in free text."""
    if request.operation is not Operation.CHAT or any(need.param in {"n", "modalities"} for need in request.needs):
        return False
    return all(_is_free(bytes(request.fields[name])) for name in CONSTRAINTS if name in request.fields)


def _is_free(constraint: bytes) -> bool:
    return len(constraint) <= _LONGEST_FREE and b"".join(constraint.split()) in _FREE


def _is_in_band(settings: CascadeSettings, choice: Choice, score: float | None) -> bool:
    if score is None or choice.threshold is None:
        return True
    return score >= choice.threshold * (1 - settings.band)
