"""The error tree: each class has its place, its status, its type and its code, and the drawing shows it."""

import inspect
import re
from http import HTTPStatus

import pytest

from gateway.core import errors
from gateway.core.errors import InternalError, PosternError, UpstreamRejectionError, forget_frames, internal_error

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, PosternError)]
TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "upstream_error",
    "server_error",
}
LINE = re.compile(r"^[│├└─ ]*(?P<name>\w+Error) *(?P<status>\d{3}|4xx)? *(?P<told>.*)$", re.MULTILINE)
DRAWN = {line["name"]: line for line in LINE.finditer(errors.__doc__)}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_has_a_status_a_type_and_a_code(error):
    assert HTTPStatus(error.status) >= 400
    assert error.type in TYPES
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


@pytest.mark.parametrize("error", [one for one in CLASSES if one is not PosternError], ids=lambda error: error.__name__)
def test_every_error_is_in_the_drawing_with_its_status_and_its_own_code(error):
    line = DRAWN[error.__name__]
    if line["status"] and line["status"] != "4xx":
        assert int(line["status"]) == error.status
    told = errors.__doc__ if error.__subclasses__() else line["told"]
    assert re.search(rf"\b{error.code}\b", told)


def test_the_drawing_names_no_error_that_is_not_there_and_nests_as_the_classes_do():
    assert set(DRAWN) == {error.__name__ for error in CLASSES}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        if found := LINE.match(line):
            depth = line.index(found["name"]) // 4
            path[depth:] = [found["name"]]
            bases = [base.__name__ for base in getattr(errors, found["name"]).__mro__]
            assert set(path) <= set(bases)


def test_a_fault_of_ours_shows_a_fixed_text_and_keeps_its_cause_for_the_log():
    cause = ValueError("the prompt was: hunter2")
    error = internal_error(cause)
    assert isinstance(error, InternalError)
    assert (error.status, error.code, error.detail, error.__cause__) == (500, "internal_error", "ValueError", cause)
    assert error.message == InternalError("another").message
    assert "hunter2" not in str(error)


def test_an_error_carries_what_the_client_is_told_and_what_it_is_not():
    error = UpstreamRejectionError("no", param="tools", retry_after_s=3, detail="secret")
    assert (str(error), error.message, error.param, error.retry_after_s) == ("no", "no", "tools", 3)
    assert (error.detail, error.attempts) == ("secret", 0)


@pytest.mark.parametrize("wrap", [internal_error, lambda _: UpstreamRejectionError("no")])
def test_an_error_and_what_led_to_it_are_cut_loose_from_their_frames(wrap):
    try:
        try:
            {}["key"]
        except KeyError as exc:
            raise wrap(exc) from exc
    except PosternError as exc:
        error = exc
    cause = error.__cause__
    assert None not in {error.__traceback__, cause.__traceback__}
    forget_frames(error)
    assert (error.__traceback__, cause.__traceback__) == (None, None)
