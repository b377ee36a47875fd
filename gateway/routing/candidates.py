"""Who can serve a request: models without the capability or the window leave the list, with the reason.

Capable is who lists every capability that the request asks for, and whose backend can carry every field of it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from gateway.core.context import Candidate, Ladder, Reason
from gateway.core.errors import ContextLengthError, PersonalDataError, UnsupportedParameterError
from gateway.core.tokens import estimate_longest_tokens
from gateway.schema.request import Operation, Request
from gateway.settings.carried import find_uncarried
from gateway.settings.models import ModelSettings

LONGEST_SHOWN = 64
"""A client may call a field anything; only so much of its name comes back in an error."""

_CHAT: Final = Operation.CHAT

GENEROSITY = 2
"""Token estimates may be off by this factor. Nobody is refused by an estimate that could be that wrong."""


def find_candidates(
    ladder: Ladder,
    models: Mapping[str, ModelSettings],
    request: Request,
    prompt_tokens: int,
    *,
    only_local: bool = False,
) -> tuple[Candidate, ...]:
    """Return every model of the ladder, each with the reason why it can't serve, if there is one.

    `prompt_tokens` counts all of the request; prompts and inputs that come as a list must fit the window one by one.
    `only_local`: the request must not leave for any other model.

    Raises:
        UnsupportedParameterError: no model has the capabilities, or carries the fields.
        PersonalDataError: some have them, but none of those is local.
        ContextLengthError: those that may serve have too small a window, even by a generous estimate.
    """
    prompt_tokens = _in_window(request, prompt_tokens)
    able = [name for name in ladder.models if _is_able(models[name], request, prompt_tokens, only_local=only_local)]
    if len(able) == len(ladder.models):
        return _all_of(ladder.models)
    return _drop(ladder, models, request, prompt_tokens, only_local=only_local)


@lru_cache(1024)  # as nearly always: the same few for every request
def _all_of(models: tuple[str, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(name) for name in models)


def _drop(
    ladder: Ladder, models: Mapping[str, ModelSettings], request: Request, prompt_tokens: int, *, only_local: bool
) -> tuple[Candidate, ...]:
    """Return the candidates where not every model of the ladder can serve."""
    lacks = {name: _find_lack(models[name], request) for name in ladder.models}
    capable = [name for name in ladder.models if lacks[name] is None]
    if not capable:
        raise _uncarried(ladder, models, request, lacks) or _unsupported(ladder, models, request)
    allowed = [name for name in capable if models[name].local or not only_local]
    if not allowed:
        raise _no_local(ladder)
    fitting = {name for name in allowed if _fits(models[name], request, prompt_tokens)}
    if not fitting:
        fitting = {_widest(allowed, models, request, prompt_tokens)}
    dropped = dict.fromkeys(ladder.models, Reason.CAPABILITY)
    dropped |= dict.fromkeys(capable, Reason.PRIVATE) | dict.fromkeys(allowed, Reason.CONTEXT)
    return tuple(Candidate(name, None if name in fitting else dropped[name], lacks[name]) for name in ladder.models)


def can_serve(model: ModelSettings, request: Request, prompt_tokens: int, *, only_local: bool = False) -> bool:
    """Tell whether one model is capable of a request, has the window for it, and may see it."""
    return _is_able(model, request, _in_window(request, prompt_tokens), only_local=only_local)


def _is_able(model: ModelSettings, request: Request, prompt_tokens: int, *, only_local: bool) -> bool:
    if only_local and not model.local:
        return False
    return _fits(model, request, prompt_tokens) and _find_lack(model, request) is None


def _in_window(request: Request, prompt_tokens: int) -> int:
    if request.operation is _CHAT:
        return prompt_tokens
    return min(prompt_tokens, estimate_longest_tokens(request.conversation))


def _find_lack(model: ModelSettings, request: Request) -> str | None:
    """Return the first field that a model is not capable of."""
    for need in request.needs:
        if need.capability not in model.capabilities:
            return need.param
    return find_uncarried(model, request)


def _has_needed(model: ModelSettings, request: Request) -> bool:
    return all(need.capability in model.capabilities for need in request.needs)


def _fits(model: ModelSettings, request: Request, prompt_tokens: int) -> bool:
    return prompt_tokens + request.max_tokens <= model.context_tokens


def _widest(capable: list[str], models: Mapping[str, ModelSettings], request: Request, prompt_tokens: int) -> str:
    widest = max(capable, key=lambda name: models[name].context_tokens)
    window = models[widest].context_tokens
    if prompt_tokens // GENEROSITY + request.max_tokens > window:
        raise ContextLengthError(
            f"About {prompt_tokens} prompt tokens and {request.max_tokens} to generate don't fit the largest window "
            f"of this route, {window} tokens ({widest}).",
            param="messages",
        )
    return widest


def _no_local(ladder: Ladder) -> PersonalDataError:
    # Not what was found: the answer may pass through logs that the prompt must not reach.
    return PersonalDataError(
        f"The request holds personal data, which {ladder.name!r} sends to local models only, and none of them can "
        "serve it. The operator marks models as `local`."
    )


def _uncarried(
    ladder: Ladder, models: Mapping[str, ModelSettings], request: Request, lacks: Mapping[str, str | None]
) -> UnsupportedParameterError | None:
    """Return the error of a field that stands in the way of the strongest model with every capability, if one has."""
    able = [name for name in ladder.models if _has_needed(models[name], request)]
    if not able:
        return None
    field = (lacks[able[-1]] or "")[:LONGEST_SHOWN]
    return UnsupportedParameterError(
        f"No model of {ladder.name!r} can serve this request: the backend of {able[-1]!r} can't carry {field!r} as it "
        "stands here. Leave it out, or name a model that takes it.",
        param=field,
    )


def _unsupported(ladder: Ladder, models: Mapping[str, ModelSettings], request: Request) -> UnsupportedParameterError:
    has_all = {capability for name in ladder.models for capability in models[name].capabilities}
    need = next((need for need in request.needs if need.capability not in has_all), request.needs[0])
    wanted = sorted({need.capability for need in request.needs})
    return UnsupportedParameterError(
        f"No model of {ladder.name!r} can serve this request: it needs {', '.join(wanted)}. "
        "The operator lists what a model can do under its `capabilities`.",
        param=need.param,
    )
