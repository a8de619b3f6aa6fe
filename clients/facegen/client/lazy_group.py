"""A command group whose commands are entry points, each imported only when it is called."""

import ast
from collections.abc import Mapping
from functools import cached_property
from importlib.abc import InspectLoader
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from facegen.errors import FacegenError

__all__ = ["LazyGroup", "MissingExtraError"]


class MissingExtraError(FacegenError):
    """A command needs packages that only an extra of the distribution installs."""

    def __init__(self, *, command: str, extra: str, module: str) -> None:
        super().__init__(
            f"facegen {command} needs packages that are not installed:"
            f" pip install 'facegen[{extra}]' (no module named {module})"
        )


class LazyGroup(TyperGroup):
    """The commands of the entry-point group `facegen.commands`.

    Help and completion read a command's docstring from its source, so that listing `train` does not
    import PyTorch, nor fail without it.
    """

    @cached_property
    def _entry_points(self) -> Mapping[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="facegen.commands")}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # its own Context
        """List the names, those that need no extra first, each kind by name."""
        return sorted(self._entry_points, key=lambda name: (self._entry_points[name].extras, name))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]  # its own Context
        """Give a stand-in that knows the command's name and first line of help."""
        point = self._entry_points.get(cmd_name)
        if point is None:
            return None
        panel = rf"With pip install 'facegen\[{point.extras[0]}]'" if point.extras else "Commands"
        return TyperCommand(cmd_name, help=_summary(point), rich_help_panel=panel)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]  # its own Context
        """Find the command that the arguments name, and import it."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and self._load(str(name)), rest

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # its own Context
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            command = ctx.invoked_subcommand
            missing = command and self._missing_extra(command, error)
            if missing:
                raise missing from error
            raise

    def _load(self, name: str) -> Any:
        app = typer.Typer(add_completion=False)
        try:
            app.command(name)(self._entry_points[name].load())
        except ModuleNotFoundError as error:
            missing = self._missing_extra(name, error)
            if missing:
                raise missing from error
            raise
        return typer.main.get_command(app)

    def _missing_extra(self, command: str, error: ModuleNotFoundError) -> MissingExtraError | None:
        """Tell whether an extra would bring the module, and if so which."""
        extras = self._entry_points[command].extras
        module = (error.name or "").partition(".")[0]
        if not extras or module in ("", "facegen"):
            return None
        return MissingExtraError(command=command, extra=extras[0], module=module)


def _summary(point: EntryPoint) -> str:
    """Read the first line of a function's docstring without importing its module."""
    path, spec = None, None
    parts = point.module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), path)
        if spec is None:
            return ""
        path = spec.submodule_search_locations
    if spec is None or not isinstance(spec.loader, InspectLoader):
        return ""
    for node in ast.parse(spec.loader.get_source(point.module) or "").body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
