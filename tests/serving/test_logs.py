import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from _pytest.logging import LogCaptureHandler

from facegen.serving.telemetry import configure_logging, log_settings, set_level
from facegen.serving.telemetry.logs import JsonFormatter, TextFormatter

_NASTY = [
    "a\n2026-01-31T12:00:00.000Z INFO facegen forged",
    "a\r\nb",
    "\x1b[2J\x1b]0;owned\x07",
    "a\u2028b\u2029c\u0085d\x0be\x0cf",
    "a\x9b31mb",
    "\u202egnp.exe",
    "lone \ud800 surrogate",
    'quo"te level=ERROR',
    "back\\nslash",
    "",
]
_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ facegen\.test .*")


@contextmanager
def unreported() -> Iterator[None]:
    """Keep what is logged out of pytest's report, which xdist cannot send with a lone surrogate."""
    root = logging.getLogger()
    kept = [handler for handler in root.handlers if isinstance(handler, LogCaptureHandler)]
    for handler in kept:
        root.removeHandler(handler)
    yield
    for handler in kept:
        root.addHandler(handler)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Give what is logged."""
    return lambda: capsys.readouterr().err


@pytest.mark.parametrize("text", _NASTY, ids=ascii)
def test_text_line_cannot_be_forged(logged: Callable[[], str], text: str) -> None:
    configure_logging("info", "text")

    with unreported():
        logging.getLogger("facegen.test").info("took %s field=%s request=%s", text, text, "r1")

    lines = logged().splitlines()
    assert len(lines) == 1
    assert _LINE.fullmatch(lines[0])
    assert lines[0].endswith(" request=r1")
    assert lines[0].isprintable()
    lines[0].encode()


@pytest.mark.parametrize("text", _NASTY, ids=ascii)
def test_json_line_holds_every_value_as_it_was(logged: Callable[[], str], text: str) -> None:
    configure_logging("info", "json")

    with unreported():
        logging.getLogger("facegen.test").warning("took %s field=%s request=%s", text, text, "r1")

    lines = logged().splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "facegen.test",
        "message": f"took {text}",
        "request_id": "r1",
        "fields": {"field": text},
    }


def test_message_without_arguments_is_escaped_too(logged: Callable[[], str]) -> None:
    configure_logging("info", "text")

    logging.getLogger("facegen.test").info("100 % of\nit")

    assert logged().endswith(" facegen.test 100 % of\\nit\n")


def test_fields_keep_their_format_and_are_quoted_where_needed(logged: Callable[[], str]) -> None:
    configure_logging("info", "text")

    logging.getLogger("facegen.test").info(
        "batch done size=%d queue_ms=%.1f (%d %%) model=%s", 8, 3.14159, 50, "a b"
    )

    assert logged().endswith(' batch done (50 %) size=8 queue_ms=3.1 model="a b"\n')


@pytest.mark.parametrize("format", ["text", "json"])
def test_exception_is_told_and_forges_nothing(logged: Callable[[], str], format: str) -> None:  # noqa: A002 - the flag's name
    configure_logging("info", "json" if format == "json" else "text")

    try:
        raise ZeroDivisionError("told\n2026-01-31T12:00:00.000Z INFO facegen.test forged\x1b[0m")
    except ZeroDivisionError:
        logging.getLogger("facegen.test").exception("call failed request=%s", "r1")

    lines = logged().splitlines()
    if format == "json":
        assert len(lines) == 1
        assert "ZeroDivisionError: told\n" in json.loads(lines[0])["exception"]
    else:
        assert [bool(_LINE.fullmatch(line)) for line in lines] == [True] + [False] * (
            len(lines) - 1
        )
        assert all(line.startswith(" | ") and line.isprintable() for line in lines[1:])
        assert " | ZeroDivisionError: told" in lines


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_value_as_long_as_a_message_is_shortened(formatter: logging.Formatter) -> None:
    record = logging.LogRecord(
        "facegen.test", logging.INFO, "", 0, "took model=%s", ("m" * 10_000_000,), None
    )

    line = formatter.format(record)

    assert len(line) < 3000
    assert "(10000000 characters)" in line


def test_level_changes_while_running(logged: Callable[[], str]) -> None:
    configure_logging("warning", "json")
    logger = logging.getLogger("facegen.test")

    logger.info("before")
    set_level("debug")
    logger.debug("after")
    logging.getLogger("grpc").info("others' details")

    assert [json.loads(line)["message"] for line in logged().splitlines()] == ["after"]
    assert (log_settings().level, log_settings().format) == ("debug", "json")


def test_format_changes_while_running_and_no_line_comes_twice(logged: Callable[[], str]) -> None:
    configure_logging("info", "json")
    configure_logging("info", "text")

    logging.getLogger("facegen.test").info("once")

    assert len(logged().splitlines()) == 1
    assert log_settings().format == "text"
