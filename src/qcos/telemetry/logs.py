"""Logs: one JSON object a line on standard error, each with the trace and span it was written in.

What is written with ``extra={...}`` becomes members of the line. Secrets that libraries put into messages
(API tokens, passwords in URLs, bearer headers) are blanked.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider

from qcos.base.clock import rfc3339
from qcos.base.errors import QcosError

MAX_TEXT: Final = 16_384  # characters of one message or stack; a line stays under a collector's usual 64 kB

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRETS: Final = (
    (re.compile(r"qcos_[A-Za-z0-9_-]{20,}"), "qcos_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(://[^:/@\s\"]*):[^@/\s\"]+@"), r"\1:***@"),
)
_SIGNS: Final = ("qcos_", "://", "bearer", "basic")  # each pattern needs one of them
_CHATTY: Final = ("httpx", "httpcore", "pgqueuer", "botocore", "qiskit", "asyncio")
_SEVERITY: Final = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (0, SeverityNumber.DEBUG),
)


def configure_logging(service: str, level: int = logging.INFO) -> None:
    """Write all logs of this process as JSON lines to standard error, in place of what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def blank_secrets(text: str) -> str:
    """Return the text without tokens and passwords."""
    lowered = text.lower()
    if any(sign in lowered for sign in _SIGNS):  # found in a tenth of the time that the patterns take
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
    return text


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Never raises: a record that cannot be formatted says so."""
        members: dict[str, Any] = {  # Any: JSON
            "time": rfc3339(dt.datetime.fromtimestamp(record.created, dt.UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "service": self._service,
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            members["trace_id"] = format(context.trace_id, "032x")
            members["span_id"] = format(context.span_id, "016x")
        for name, value in _extras(record).items():
            members.setdefault(name, value)
        if record.exc_info and record.exc_info[1] is not None:
            members["error"] = _error(record.exc_info[1])
        return blank_secrets(json.dumps(members, ensure_ascii=False, skipkeys=True, default=_text_of))


class ExportHandler(logging.Handler):
    """Hands records to OTLP, except those of the exporters themselves, which would never end."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._logger = provider.get_logger("qcos")

    def emit(self, record: logging.LogRecord) -> None:
        """Export a record."""
        if record.name.startswith(("opentelemetry", "grpc", "urllib3", "requests")):
            return
        attributes: dict[str, Any] = {"logger": record.name}  # Any: what OTLP can carry
        for name, value in _extras(record).items():
            attributes[name] = (
                value if isinstance(value, (bool, int, float)) else blank_secrets(_text_of(value))
            )
        if record.exc_info and record.exc_info[1] is not None:
            error = _error(record.exc_info[1])
            attributes["exception.type"] = error["type"]
            attributes["exception.message"] = blank_secrets(error["message"])
            attributes["exception.stacktrace"] = blank_secrets(error["stack"])
        context = trace.get_current_span().get_span_context()
        number = next(severity for level, severity in _SEVERITY if record.levelno >= level)
        with_trace: dict[str, Any] = {}  # Any: three differently typed arguments
        if context.is_valid:
            with_trace = {
                "trace_id": context.trace_id,
                "span_id": context.span_id,
                "trace_flags": context.trace_flags,
            }
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                severity_number=number,
                severity_text=record.levelname,
                body=blank_secrets(_message(record)),
                attributes=attributes,
                **with_trace,
            )
        )


def _message(record: logging.LogRecord) -> str:
    try:
        return _cut(record.getMessage())
    except (TypeError, ValueError, KeyError) as error:
        return _cut(f"{record.msg} (its arguments do not fit: {error})")


def _extras(record: logging.LogRecord) -> dict[str, Any]:  # Any: whatever was given as extra
    found = {
        name: value for name, value in vars(record).items() if name not in _OWN and not name.startswith("_")
    }
    return {name: _cut(value) if isinstance(value, str) else value for name, value in found.items()}


def _error(error: BaseException) -> dict[str, str]:
    stack = "".join(traceback.format_exception(error))
    members = {"type": type(error).__qualname__, "message": str(error), "stack": stack}
    if isinstance(error, QcosError):
        members["code"] = error.code
    return {name: _cut(text) for name, text in members.items()}


def _text_of(value: object) -> str:
    try:
        return _cut(str(value))
    except Exception:  # a broken __str__ must not lose the line
        return f"<{type(value).__name__}>"
