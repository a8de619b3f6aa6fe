"""The command `facegen serve`: a flag for each field of `ServerConfig`, which defines them all."""

import gc
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from facegen.serving.config import ServerConfig

__all__ = ["serve"]

# The panels of --help, by the field that each begins with.
_PANELS = {
    "engine": "Models",
    "address": "Connections",
    "max_images": "Limits",
    "tls_certificate": "Security",
    "metrics_address": "Telemetry",
    "drain_delay_s": "Life",
}


def serve(**flags: Any) -> None:
    """Serve a model repository over gRPC until SIGTERM."""
    # Importing makes objects that stay: to look for garbage among them takes a tenth of a second.
    gc.disable()
    # gRPC's core tells of each caller's nonsense, in lines that are not the log's.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from facegen.serving.process import run_server
    from facegen.serving.telemetry.logs import configure_logging

    config = _config(flags)
    configure_logging(config.log_level, config.log_format)
    run_server(config)


def _config(flags: dict[str, Any]) -> ServerConfig:
    try:
        return ServerConfig.model_validate(flags)
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"'--{str(first['loc'][0]).replace('_', '-')}'"
        raise typer.BadParameter(first["msg"], param_hint=flag) from error


def _parameters() -> Iterator[inspect.Parameter]:
    """Give each field as a keyword argument that typer makes a flag of."""
    panel = ""
    for name, field in ServerConfig.model_fields.items():
        panel = _PANELS.get(name, panel)
        annotation, default = field.annotation, field.default
        if isinstance(default, tuple):
            annotation, default = list[str], list(default)
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[annotation, _option(name, field, panel)],
        )


def _option(name: str, field: FieldInfo, panel: str) -> Any:
    # Without its name spelled out, typer would add --no-… to a flag; without a short metavar, 80
    # columns would not hold the variables' names. The limits are pydantic's.
    return typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=_metavar(name, field),
        help=_help(field),
        rich_help_panel=panel,
    )


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    if choices := _choices(field):
        return f"{text} One of {', '.join(choices)}."
    for limit in field.metadata:
        if least := getattr(limit, "ge", 0):
            return f"{text} At least {least}."
        if getattr(limit, "gt", None) is not None:
            return f"{text} More than {limit.gt}."
    return text


def _metavar(name: str, field: FieldInfo) -> str | None:
    if field.annotation in (int, float):
        return "S" if name.endswith("_s") else "N"
    if field.annotation == Path | None:
        return "FILE"
    return "NAME" if _choices(field) else None


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


serve.__signature__ = inspect.Signature(list(_parameters()))  # type: ignore[attr-defined]
