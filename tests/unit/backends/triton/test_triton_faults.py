"""Each fault of a Triton server becomes an error of its own."""

import pytest

from gateway.backends.triton.faults import error_of, is_absence
from gateway.backends.triton.wire import Fault, WireError
from gateway.core.errors import (
    UpstreamContextError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamModelUnavailableError,
    UpstreamOverloadedError,
    UpstreamRejectionError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

TOLD = {
    "Error generating stream: The decoder prompt (length 9001) is longer than the maximum model length of 8192. Make "
    "sure that `max_model_len` is no smaller than the number of text tokens.": UpstreamContextError,
    "This model's maximum context length is 8192 tokens. However, you requested 9001": UpstreamContextError,
    "Executor failed process requestId 3 due to the following error: Prompt length (9001) exceeds maximum input length "
    "(8192).": UpstreamContextError,
    "The sum of prompt length (72417), query length (0) should not exceed max_num_tokens (69632)": UpstreamContextError,
    "`default_max_tokens` (-152) must be greater than 0, `default_max_tokens` (-152) = max_seq_len (8192)": (
        UpstreamContextError
    ),
    "Request for unknown model: 'm' is not found": UpstreamModelUnavailableError,
    "Request for unknown model: 'm' has no available versions": UpstreamModelUnavailableError,
    "Model is unavailable due to unhealthy vLLM engine": UpstreamModelUnavailableError,
    "[request id: 7] unexpected inference input 'seed', allowed inputs are: text_input": UpstreamModelUnavailableError,
    "[request id: 7] Exceeds maximum queue size": UpstreamOverloadedError,
    "Maximum queue size of 8 has been reached, please try again later": UpstreamOverloadedError,
    "Error generating stream: 'NoneType' object has no attribute 'lora_name'": UpstreamRejectionError,
    "Error generating stream: Failed to convert the grammar from JSON schema: unsupported": UpstreamRejectionError,
    "Error generating stream: CUDA error: device-side assert triggered": UpstreamFailureError,
}


@pytest.mark.parametrize(("text", "kind"), TOLD.items(), ids=lambda told: str(told)[:40])
def test_what_the_server_told_is_known_by_its_text(text, kind):
    assert type(error_of("m", WireError(Fault.TOLD, text), has_begun=False)) is kind


@pytest.mark.parametrize("text", TOLD)
def test_whatever_goes_wrong_after_the_first_piece_is_an_interruption(text):
    assert type(error_of("m", WireError(Fault.TOLD, text), has_begun=True)) is UpstreamInterruptedError


@pytest.mark.parametrize(
    ("fault", "before", "after"),
    [
        (Fault.CONNECTING, UpstreamUnavailableError, UpstreamInterruptedError),
        (Fault.BROKEN, UpstreamFailureError, UpstreamInterruptedError),
        (Fault.DEADLINE, UpstreamTimeoutError, UpstreamTimeoutError),
    ],
)
def test_deadline_and_death_are_told_apart(fault, before, after):
    failure = WireError(fault, "whatever")
    assert type(error_of("m", failure, has_begun=False)) is before
    assert type(error_of("m", failure, has_begun=True)) is after


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", UpstreamModelUnavailableError),
        ("RESOURCE_EXHAUSTED", UpstreamOverloadedError),
        ("INVALID_ARGUMENT", UpstreamRejectionError),
        ("INTERNAL", UpstreamFailureError),
    ],
)
def test_what_has_a_code_needs_no_text(code, kind):
    assert type(error_of("m", WireError(Fault.TOLD, "", code), has_begun=False)) is kind


def test_a_failure_that_is_the_servers_shows_nothing_of_what_it_told():
    error = error_of("m", WireError(Fault.TOLD, "at prompt 'my secret'", "INTERNAL"), has_begun=False)
    assert "secret" not in f"{error.message} {error.detail}"


def test_a_server_that_was_away_may_come_back_with_another_model():
    assert is_absence(WireError(Fault.CONNECTING, ""))
    assert is_absence(WireError(Fault.BROKEN, ""))
    assert is_absence(WireError(Fault.TOLD, "Request for unknown model: 'm' has no available versions"))
    assert not is_absence(WireError(Fault.TOLD, "CUDA error"))
    assert not is_absence(WireError(Fault.DEADLINE, ""))
