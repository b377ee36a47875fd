"""The section `logs`: how the gateway tells what it does. What each event means is told in `docs/logs.md`."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class LogFormat(StrEnum):
    """How a line looks."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least of what is told."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How lines look on standard error, and which are written. A reload takes changes over."""

    format: Annotated[
        LogFormat | None,
        Meta(description="`json` or `text`. Default null: text for people on a terminal, JSON lines elsewhere."),
    ] = None
    level: Annotated[
        LogLevel,
        Meta(
            description="The least that is written: debug, info, warning or error. Default info. debug: each request's "
            "candidates, too. The access log is at info."
        ),
    ] = LogLevel.INFO
    access: Annotated[
        bool,
        Meta(description="Write a line a request. Default true. false: a request's faults are still told, by its id."),
    ] = True
