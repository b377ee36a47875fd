"""Logs: one event a line, JSON for machines or readable on a terminal. Never a prompt, an answer or a key.

What libraries log, warnings and crashes come in the same form. An event that repeats is told a bounded number of times.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import msgspec

from gateway.core.errors import InternalError, PosternError
from gateway.settings.logs import LogFormat, LogLevel, LogsSettings
from gateway.telemetry.log_writer import FIELDS, LogWriter
from gateway.telemetry.repeats import Repeats

LOGGER = logging.getLogger("postern")
LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

_FOREIGN: Final = "library_message"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What ends a line somewhere, commands a terminal or turns text around: no value may."""
_BARE: Final = re.compile(r"[^\s\"=]*")
_COLORS: Final = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"


def log(event: str, *, level: int = logging.INFO, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Log an event by its snake_case name, with fields."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={FIELDS: fields}, exc_info=exc_info)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event, fields = _told(record)
        row = {"time": _time(record), "level": record.levelname.lower(), "event": event, **fields}
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        try:
            line = msgspec.json.encode(row, enc_hook=str).decode()
        except ValueError:  # a lone surrogate, as in a name of a file
            return json.dumps(row, default=str)
        # In JSON such a character can stand in a text alone, where an escape means the same.
        return line if line.isprintable() else _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class TerminalFormatter(logging.Formatter):
    """A line for people: time, level, event, fields."""

    def __init__(self, *, has_colors: bool = False) -> None:
        super().__init__()
        self._has_colors = has_colors

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback where there is one."""
        event, fields = _told(record)
        line = self.line(_time(record), record.levelname.lower(), event, fields)
        if not record.exc_info:
            return line
        told = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *map(_printable, told)])

    def line(self, stamp: str, level: str, event: str, fields: Mapping[str, Any]) -> str:
        """Return a line of these facts."""
        shown = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
        told = f"{stamp[11:19]} {level:7} {_printable(event)} {shown}".rstrip()
        color = _COLORS.get(level) if self._has_colors else None
        return told if color is None else f"{color}{told}{_PLAIN}"


def _told(record: logging.LogRecord) -> tuple[str, Mapping[str, Any]]:
    """Return event and fields. A library's message is a field: it is no name of an event."""
    fields: Mapping[str, Any] | None = getattr(record, FIELDS, None)
    if fields is not None:
        return record.getMessage(), fields
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # its arguments do not fit its text
        message = str(record.msg)
    return _FOREIGN, {"logger": record.name, "message": message}


def _shown(value: Any) -> str:
    """Return a value as people read it: in quotes where it would run into the next one."""
    text = str(value)
    return _printable(text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


def set_up_logs(settings: LogsSettings | None = None) -> None:
    """Log to standard error as wished, whatever is logged: by us, by libraries, as warnings, at a crash."""
    settings = settings or LogsSettings()
    # gRPC's core writes lines of its own, read from its environment when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    root = logging.getLogger()
    for old in LOGGER.handlers:
        old.flush()
        root.removeHandler(old)
    handler = LogWriter(sys.stderr)
    handler.setFormatter(_formatter(settings.format))
    handler.addFilter(Repeats(_tell_suppressed))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(LEVELS[settings.level])
    LOGGER.propagate = False
    # Below a warning libraries tell what passes through them: headers with keys, bodies with prompts.
    root.addHandler(handler)
    root.setLevel(max(LEVELS[settings.level], logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    logging.captureWarnings(capture=True)
    sys.excepthook = _tell_crash
    threading.excepthook = _tell_thread_crash


def _tell_suppressed(event: str, count: int) -> None:
    log("events_suppressed", level=logging.WARNING, of=event, count=count)


def _formatter(wished: LogFormat | None) -> logging.Formatter:
    is_terminal = sys.stderr.isatty()
    if wished is LogFormat.JSON or (wished is None and not is_terminal):
        return JsonFormatter()
    # https://no-color.org: any value but an empty one.
    return TerminalFormatter(
        has_colors=is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _tell_crash(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process, unless somebody asked for that."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, trace)
        return
    log("crashed", level=logging.ERROR, exc_info=exc.with_traceback(trace), problem=kind.__name__)


def _tell_thread_crash(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and not issubclass(told.exc_type, SystemExit):
        name = None if told.thread is None else told.thread.name
        log("thread_crashed", level=logging.ERROR, exc_info=told.exc_value, thread=name)


def log_failure(error: PosternError, request_id: str | None = None, model: str | None = None) -> None:
    """Log what a client was not told of a fault of ours or of an upstream."""
    known = {"request_id": request_id, "model": model}
    where: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    if isinstance(error, InternalError):
        log("internal_error", level=logging.ERROR, exc_info=error.__cause__, detail=error.detail, **where)
    elif error.detail is not None:
        log("upstream_fault", level=logging.WARNING, code=error.code, detail=error.detail, **where)
