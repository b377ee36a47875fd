"""Logs: one event a line, JSON for machines or readable on a terminal. Never a prompt, an answer or a key."""

import logging
import os
import sys
import time
from typing import Any

import msgspec

from gateway.core.errors import InternalError, PosternError
from gateway.telemetry.log_writer import FIELDS, LogWriter

LOGGER = logging.getLogger("postern")


def log(event: str, *, level: int = logging.INFO, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Log an event by its snake_case name, with fields."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={FIELDS: fields}, exc_info=exc_info)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        row = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        row |= getattr(record, FIELDS, {})
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(row, enc_hook=str).decode()


class TerminalFormatter(logging.Formatter):
    """A line for people: time, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, FIELDS, {}).items())
        line = f"{_time(record)[11:19]} {record.levelname.lower():7} {record.getMessage()} {fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line.rstrip()


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


def set_up_logs(*, is_json: bool | None = None) -> None:
    """Log to standard error; as JSON unless that is a terminal."""
    # gRPC's core writes lines of its own, read from its environment when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for old in LOGGER.handlers:
        old.flush()
    handler = LogWriter(sys.stderr)
    as_json = not sys.stderr.isatty() if is_json is None else is_json
    handler.setFormatter(JsonFormatter() if as_json else TerminalFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def log_failure(error: PosternError, request_id: str | None = None) -> None:
    """Log what a client was not told of a fault of ours or of an upstream."""
    where = {} if request_id is None else {"request_id": request_id}
    if isinstance(error, InternalError):
        log("internal_error", level=logging.ERROR, exc_info=error.__cause__, detail=error.detail, **where)
    elif error.detail is not None:
        log("upstream_fault", level=logging.WARNING, exc_info=None, code=error.code, detail=error.detail, **where)
