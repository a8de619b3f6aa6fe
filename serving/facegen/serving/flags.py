"""Makes command-line flags of the fields of a configuration, which defines them all."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

__all__ = ["flags_of", "read_flags"]

Configuration = TypeVar("Configuration", bound=BaseModel)


def flags_of(
    configuration: type[BaseModel],
    *,
    panels: Mapping[str, str],
    show_variables: bool = True,
) -> Iterator[inspect.Parameter]:
    """Give each field as a keyword argument that typer makes a flag of.

    Args:
        configuration: Its fields have defaults or not, limits, and docstrings for the help.
        panels: The panels of the help, by the field that each begins with.
        show_variables: Whether the help tells the environment's variables.
    """
    panel = ""
    for name, field in configuration.model_fields.items():
        panel = panels.get(name, panel)
        annotation, default = field.annotation, field.default
        if get_origin(annotation) is tuple:
            annotation = list[str]
            default = [] if field.is_required() else list(default)
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else default,
            annotation=Annotated[annotation, _option(name, field, panel, show_variables)],
        )


def read_flags(configuration: type[Configuration], flags: Mapping[str, Any]) -> Configuration:
    """Make a configuration of flags.

    Raises:
        BadParameter: One is out of its limits.
    """
    try:
        return configuration.model_validate(flags)
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"'--{str(first['loc'][0]).replace('_', '-')}'" if first["loc"] else None
        raise typer.BadParameter(first["msg"], param_hint=flag) from error


def _option(name: str, field: FieldInfo, panel: str, show_variables: bool) -> Any:
    # Without its name spelled out, typer would add --no-… to a flag; without a short metavar, 80
    # columns would not hold the variables' names. The limits are pydantic's.
    return typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=_metavar(name, field),
        help=_help(field),
        show_envvar=show_variables,
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
    """Give the words that a field takes; one that may be None takes those of the rest."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (it for it in get_args(annotation) if it is not NoneType)
    return get_args(annotation) if get_origin(annotation) is Literal else ()
