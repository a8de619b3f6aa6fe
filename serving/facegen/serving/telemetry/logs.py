"""The log: one line an event, with fields, as text or JSON, that no input can forge.

Modules log through `logging` alone, fields as `key=%s` in the message:

    _LOGGER.info("model ready model=%s versions=%d", name, count)

The formatters take the fields from the message's pattern and arguments, so that a value that looks
like other fields, or like another line, stays one value.
"""

import json
import logging
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = [
    "JsonFormatter",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "TextFormatter",
    "configure_logging",
    "log_settings",
    "set_level",
]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_PLACEHOLDER = re.compile(r"(?:(?:^|\s)(?P<key>\w+)=)?(?P<code>%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z%])")
_LEVELS: dict[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# What ends a line somewhere, drives a terminal, turns the direction of text, or is no character.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_NEEDS_QUOTES = re.compile(rf'[\s"=\\]|^$|{_UNSAFE.pattern}')
_MAX_CHARACTERS = 2000
_MAX_TRACEBACK_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How the log is set now.

    Attributes:
        level: The least severe events of ours that are logged; of others', WARNING at least.
        format: How lines look.
    """

    level: LogLevel
    format: LogFormat


class TextFormatter(logging.Formatter):
    """Formats for people: `2026-01-31T12:00:00.000Z INFO logger event key=value`.

    A traceback follows on lines of its own that begin with ` | `, as no event does.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        message, fields = _event(record)
        words = [_time(record), record.levelname, record.name, _escaped(message)]
        words += [f"{key}={_quoted(value)}" for key, value in fields.items()]
        traceback = _traceback(self, record).splitlines()
        return "\n".join([" ".join(words), *(f" | {_escaped(line)}" for line in traceback)])


class JsonFormatter(logging.Formatter):
    """Formats for machines: an object a line, in ASCII.

    Its keys: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and where there are any
    `request_id`, `fields` (strings) and `exception` (the traceback).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        message, fields = _event(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if "request" in fields:
            line["request_id"] = fields.pop("request")
        if fields:
            line["fields"] = fields
        if traceback := _traceback(self, record):
            line["exception"] = traceback
        return json.dumps(line)


class _Handler(logging.StreamHandler[Any]):
    """The handler that this module owns, apart from any that tests or others add."""


_FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def configure_logging(level: LogLevel = "info", format: LogFormat = "text") -> None:  # noqa: A002 - the flag's name
    """Log to standard error from now on; again, to change how."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    handler = _Handler(sys.stderr)
    handler.setFormatter(_FORMATTERS[format]())
    root.addHandler(handler)
    # Tracebacks of messages that do not parse and of metadata that are no text, tokens among them:
    # any caller could fill the log with them.
    for name in ("grpc._common", "grpc._cython.cygrpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Set the least severe events that are logged, from now on."""
    logging.getLogger("facegen").setLevel(_LEVELS[level])
    # Others' INFO and DEBUG speak of every call.
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


def log_settings() -> LogSettings:
    """Tell how the log is set now."""
    number = logging.getLogger("facegen").getEffectiveLevel()
    level: LogLevel = next((name for name in _LEVELS if _LEVELS[name] >= number), "error")
    json_lines = any(
        isinstance(handler, _Handler) and isinstance(handler.formatter, JsonFormatter)
        for handler in logging.getLogger().handlers
    )
    return LogSettings(level=level, format="json" if json_lines else "text")


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03}Z"


def _event(record: logging.LogRecord) -> tuple[str, dict[str, str]]:
    """Take a record apart: `key=%s` of its pattern are fields, the rest is the message."""
    fields: dict[str, str] = {}
    if not isinstance(record.args, tuple) or not record.args:
        return _shortened(record.getMessage()), fields
    arguments = iter(record.args)

    def fill(found: re.Match[str]) -> str:
        key, code = found["key"], found["code"]
        text = "%" if code.endswith("%") else code % (next(arguments),)
        if key is None:
            return text
        fields[key] = _shortened(text)
        return ""

    return _shortened(_PLACEHOLDER.sub(fill, str(record.msg))), fields


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return _shortened(formatter.formatException(record.exc_info), _MAX_TRACEBACK_CHARACTERS)


def _shortened(text: str, limit: int = _MAX_CHARACTERS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _escaped(text: str) -> str:
    """Make text one line without control characters."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _quoted(value: str) -> str:
    """Quote a field's value where it would not read as one."""
    if not _NEEDS_QUOTES.search(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_escaped(escaped)}"'
