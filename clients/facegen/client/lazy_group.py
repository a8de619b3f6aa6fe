"""A command group whose commands are entry points, each imported only when it is called."""

import ast
from collections.abc import Iterable
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

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        points = entry_points(group="facegen.commands")
        self._entry_points = {
            point.name: point for point in sorted(points, key=lambda it: (it.extras, it.name))
        }
        self.commands.update({name: _stand_in(it) for name, it in self._entry_points.items()})

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
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        try:
            loaded = self._entry_points[name].load()
        except ModuleNotFoundError as error:
            missing = self._missing_extra(name, error)
            if missing:
                raise missing from error
            raise
        if isinstance(loaded, typer.Typer):
            app = loaded  # it has subcommands
        else:
            app.command(name)(loaded)
        command = typer.main.get_command(app)
        if not self._entry_points[name].extras:
            # Services are set up by variables; for people they would fill half of the help.
            for one in (command, *getattr(command, "commands", {}).values()):
                _hide_automatic_variables(one.params)
        return command

    def _missing_extra(self, command: str, error: ModuleNotFoundError) -> MissingExtraError | None:
        """Tell whether an extra would bring the module, and if so which."""
        extras = self._entry_points[command].extras
        module = (error.name or "").partition(".")[0]
        if not extras or module in ("", "facegen"):
            return None
        return MissingExtraError(command=command, extra=extras[0], module=module)


def _stand_in(point: EntryPoint) -> TyperCommand:
    """Make a command that knows its name and the first line of its help."""
    panel = rf"With pip install 'facegen\[{point.extras[0]}]'" if point.extras else "Commands"
    return TyperCommand(point.name, help=_summary(point), rich_help_panel=panel)


def _hide_automatic_variables(parameters: Iterable[Any]) -> None:
    for parameter in parameters:
        if parameter.envvar is None:
            parameter.show_envvar = False


def _summary(point: EntryPoint) -> str:
    """Read the first line of a command's docstring without importing its module.

    A command with subcommands is a `typer.Typer`, and has the docstring of its callback.
    """
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
        if isinstance(node, ast.FunctionDef) and (
            node.name == point.attr
            or f"{point.attr}.callback()" in map(ast.unparse, node.decorator_list)
        ):
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
