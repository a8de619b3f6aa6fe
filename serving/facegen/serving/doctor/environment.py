"""The settings that `facegen serve` would take from the environment."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from pydantic import ValidationError

from facegen.serving.config import ServerConfig
from facegen.serving.doctor.report import Finding

__all__ = ["config_from_environment"]

_PREFIX = "FACEGEN_SERVE_"


def config_from_environment(
    environment: Mapping[str, str], overrides: Mapping[str, str]
) -> tuple[ServerConfig, list[Finding]]:
    """Resolve the server's configuration.

    Args:
        environment: The process's.
        overrides: Settings that flags gave.

    Returns:
        The configuration, without the variables that are wrong, and what is wrong with those.
    """
    given: dict[str, Any] = {
        key.removeprefix(_PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(_PREFIX) and value
    }
    findings = list(_unknown(given))
    fields = ServerConfig.model_fields
    values = {name: value for name, value in given.items() if name in fields} | dict(overrides)
    for name, value in values.items():
        if get_origin(fields[name].annotation) is tuple:
            values[name] = tuple(value.split())
    try:
        return ServerConfig(**values), findings
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0])
            values.pop(name)
            findings.append(
                Finding(
                    "wrong",
                    f'{_PREFIX}{name.upper()} is "{problem["input"]}": {problem["msg"]}',
                    "`facegen serve --help` tells what it takes",
                )
            )
        return ServerConfig(**values), findings


def _unknown(given: Mapping[str, Any]) -> Iterator[Finding]:
    fields = list(ServerConfig.model_fields)
    for name in sorted(given.keys() - set(fields)):
        near = difflib.get_close_matches(name, fields, n=1)
        remedy = f"did you mean {_PREFIX}{near[0].upper()}?" if near else "remove it"
        yield Finding("wrong", f"{_PREFIX}{name.upper()} sets nothing", remedy)
