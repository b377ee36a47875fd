"""Every error a client can see. Knows HTTP statuses and OpenAI's error shape, not how they are sent.

PosternError
├── InvalidRequestError            400  invalid_request: a fault of the client, told to the client
│   ├── InvalidJsonError           400  invalid_json
│   ├── InvalidValueError          400  invalid_value
│   ├── UnsupportedParameterError  400  unsupported_parameter
│   ├── ContextLengthError         400  context_length_exceeded
│   ├── PersonalDataError          400  personal_data
│   ├── UpstreamRejectionError     4xx  upstream_rejected: the model's server found the fault
│   ├── BodyTimeoutError           408  request_timeout
│   └── BodyTooLargeError          413  request_too_large
├── AuthenticationError            401  invalid_api_key
├── ForbiddenError                 403  threshold_forbidden
├── NotFoundError                  404  not_found
│   ├── ModelNotFoundError         404  model_not_found
│   └── MethodError                405  method_not_allowed
├── OverloadedError                503  overloaded
├── DrainingError                  503  draining
├── FeedbackUnavailableError       503  feedback_unavailable
├── UpstreamError                       a fault of the model's server
│   ├── UpstreamUnavailableError   502  upstream_unavailable: no connection
│   ├── UpstreamFailureError       502  upstream_error: 5xx, or an answer that is none
│   ├── UpstreamInterruptedError   502  upstream_interrupted: died after its first byte
│   ├── UpstreamModelUnavailableError 502  upstream_model_unavailable: the server has it not, or not as described
│   ├── UpstreamOverloadedError    503  upstream_overloaded: the model's queue is full
│   ├── UpstreamRateLimitError     429  upstream_rate_limited
│   ├── UpstreamContextError       400  context_length_exceeded, found by the server
│   └── UpstreamTimeoutError       504  upstream_timeout
└── InternalError                  500  internal_error: ours; a fixed text, the detail is logged
"""

from typing import ClassVar


class PosternError(Exception):
    """An error with a place in OpenAI's shape. `detail` is for our log only."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail
        self.attempts = 0


class InvalidRequestError(PosternError):
    """The client asked for something that cannot be."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidJsonError(InvalidRequestError):
    """The body is not JSON."""

    code = "invalid_json"


class InvalidValueError(InvalidRequestError):
    """A field or header has the wrong type or is out of bounds."""

    code = "invalid_value"


class UnsupportedParameterError(InvalidRequestError):
    """No model of the route can serve this field."""

    code = "unsupported_parameter"


class ContextLengthError(InvalidRequestError):
    """The request is longer than any window of the route."""

    code = "context_length_exceeded"


class PersonalDataError(InvalidRequestError):
    """The request holds personal data, and no local model of the route can serve it."""

    code = "personal_data"


class UpstreamRejectionError(InvalidRequestError):
    """The model's server refused the request as the client's fault; no other server would take it."""

    code = "upstream_rejected"


class BodyTimeoutError(InvalidRequestError):
    """The body did not come in time."""

    status = 408
    code = "request_timeout"


class BodyTooLargeError(InvalidRequestError):
    """The body is larger than `limits.max_body_bytes`."""

    status = 413
    code = "request_too_large"


class AuthenticationError(PosternError):
    """The key is missing or unknown."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ForbiddenError(PosternError):
    """The key may not ask for this threshold."""

    status = 403
    type = "permission_error"
    code = "threshold_forbidden"


class NotFoundError(PosternError):
    """No such path."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """Neither a route nor a model has this name."""

    code = "model_not_found"


class MethodError(NotFoundError):
    """The path is there, the method is not."""

    status = 405
    code = "method_not_allowed"


class OverloadedError(PosternError):
    """More requests are in flight than `limits.max_in_flight`."""

    status = 503
    code = "overloaded"


class DrainingError(PosternError):
    """The gateway is shutting down."""

    status = 503
    code = "draining"


class FeedbackUnavailableError(PosternError):
    """The store that remembers what was answered is away."""

    status = 503
    code = "feedback_unavailable"


class UpstreamError(PosternError):
    """A fault of the model's server: another replica or model may do better."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamUnavailableError(UpstreamError):
    """No connection could be made."""

    code = "upstream_unavailable"


class UpstreamFailureError(UpstreamError):
    """The server failed, or sent what is no answer."""


class UpstreamModelUnavailableError(UpstreamError):
    """The server is there, the model is not: not loaded, unloaded, or not the one that the configuration describes."""

    code = "upstream_model_unavailable"


class UpstreamOverloadedError(UpstreamError):
    """The model's queue is full."""

    status = 503
    code = "upstream_overloaded"


class UpstreamInterruptedError(UpstreamError):
    """The server went away in the middle of an answer."""

    code = "upstream_interrupted"


class UpstreamRateLimitError(UpstreamError):
    """The server asked us to slow down."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"


class UpstreamContextError(UpstreamError):
    """The server says that the request is longer than its window: a model with a larger one may serve it."""

    status = 400
    type = "invalid_request_error"
    code = "context_length_exceeded"


class UpstreamTimeoutError(UpstreamError):
    """The server did not answer in time."""

    status = 504
    code = "upstream_timeout"


class InternalError(PosternError):
    """A fault of ours. The client sees a fixed text."""

    def __init__(self, detail: str) -> None:
        super().__init__("The gateway failed to handle this request. The details are in its log.", detail=detail)


def forget_frames(error: BaseException) -> None:
    """Cut an error, and what led to it, loose from the frames it came through.

    Frames hold the request, and often the error itself: a cycle, and a large body lies there until the collector comes.
    """
    error.__traceback__ = None
    link = error.__cause__ or error.__context__
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def internal_error(cause: BaseException) -> InternalError:
    """Return the error that stands for a fault of ours, with its cause for the log."""
    error = InternalError(type(cause).__name__)
    error.__cause__ = cause
    return error
