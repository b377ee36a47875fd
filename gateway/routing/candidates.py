"""Who can serve a request: models without the capability or the window leave the list, with the reason."""

from collections.abc import Mapping

from gateway.core.context import Candidate, Ladder, Reason
from gateway.core.errors import ContextLengthError, PersonalDataError, UnsupportedParameterError
from gateway.core.tokens import estimate_longest_tokens
from gateway.schema.request import Operation, Request
from gateway.settings.models import ModelSettings

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
        UnsupportedParameterError: no model has the capabilities.
        PersonalDataError: some have them, but none of those is local.
        ContextLengthError: those that may serve have too small a window, even by a generous estimate.
    """
    prompt_tokens = _in_window(request, prompt_tokens)
    capable = [name for name in ladder.models if not _missing(models[name], request)]
    if not capable:
        raise _unsupported(ladder, models, request)
    allowed = [name for name in capable if models[name].local or not only_local]
    if not allowed:
        raise _no_local(ladder)
    fitting = {name for name in allowed if _fits(models[name], request, prompt_tokens)}
    if not fitting:
        fitting = {_widest(allowed, models, request, prompt_tokens)}
    dropped = dict.fromkeys(ladder.models, Reason.CAPABILITY)
    dropped |= dict.fromkeys(capable, Reason.PRIVATE) | dict.fromkeys(allowed, Reason.CONTEXT)
    return tuple(Candidate(name, None if name in fitting else dropped[name]) for name in ladder.models)


def can_serve(model: ModelSettings, request: Request, prompt_tokens: int, *, only_local: bool = False) -> bool:
    """Tell whether one model has the capabilities and the window for a request, and may see it."""
    if only_local and not model.local:
        return False
    return not _missing(model, request) and _fits(model, request, _in_window(request, prompt_tokens))


def _in_window(request: Request, prompt_tokens: int) -> int:
    if request.operation is Operation.CHAT:
        return prompt_tokens
    return min(prompt_tokens, estimate_longest_tokens(request.conversation))


def _missing(model: ModelSettings, request: Request) -> bool:
    return any(need.capability not in model.capabilities for need in request.needs)


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


def _unsupported(ladder: Ladder, models: Mapping[str, ModelSettings], request: Request) -> UnsupportedParameterError:
    has_all = {capability for name in ladder.models for capability in models[name].capabilities}
    need = next((need for need in request.needs if need.capability not in has_all), request.needs[0])
    wanted = sorted({need.capability for need in request.needs})
    return UnsupportedParameterError(
        f"No model of {ladder.name!r} can serve this request: it needs {', '.join(wanted)}. "
        "The operator lists what a model can do under its `capabilities`.",
        param=need.param,
    )
