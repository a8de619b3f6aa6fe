"""Writes a page for every `facegen` command of what its `--help` shows."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from facegen.client.cli import app

_INDEX = """# Commands

What `facegen COMMAND --help` shows, to be read and searched. {help}

| command | what it does |
| --- | --- |
{rows}
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each command, and one that lists them."""
    group: Any = typer.main.get_command(app)
    context = type(group).context_class(group, info_name="facegen", auto_envvar_prefix="FACEGEN")
    extras = {point.name: point.extras for point in entry_points(group="facegen.commands")}
    rows = []
    for name in sorted(group.list_commands(context)):
        _, command, _ = group.resolve_command(context, [name])
        text = "".join(_section(command, context, name, depth=1))
        if extras[name]:
            text += f"\nIt comes with `pip install 'facegen[{extras[name][0]}]'`.\n"
        files.append(File.generated(config, f"reference/commands/{name}.md", content=text))
        rows.append(f"| [`facegen {name}`]({name}.md) | {_summary(command)} |")
    index = _INDEX.format(help=group.help, rows="\n".join(rows))
    files.append(File.generated(config, "reference/commands/index.md", content=index))
    return files


def _section(command: Any, parent: Any, name: str, *, depth: int) -> Iterator[str]:
    """Write a command, and below it its subcommands."""
    context = type(command).context_class(command, info_name=name, parent=parent)
    yield f"\n{'#' * depth} {context.command_path}\n\n{command.help or ''}\n"
    yield f"\n```text\n{command.get_usage(context)}\n```\n"
    panels: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and "--help" not in record[0]:
            kind = f"{parameter.param_type_name.capitalize()}s"
            panel = getattr(parameter, "rich_help_panel", None) or kind
            panels.setdefault(panel, []).append(_row(*record))
    for panel, rows in panels.items():
        yield "\n".join(["", f"| {panel} | |", "| --- | --- |", *rows, ""])
    for subcommand in getattr(command, "commands", {}).values():
        yield from _section(subcommand, context, subcommand.name, depth=depth + 1)


def _row(names: str, meaning: str) -> str:
    """Write a row of a table; paragraphs of the meaning become lines."""
    meaning = meaning.replace("<", "&lt;").replace("|", "\\|")
    return f"| `{names}` | {'<br>'.join(it for it in meaning.splitlines() if it)} |"


def _summary(command: Any) -> str:
    return str(command.help or "").partition("\n")[0]
