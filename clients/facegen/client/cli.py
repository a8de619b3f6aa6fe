"""The `facegen` command.

Exit codes: 0 done, 1 failed (the reason is on stderr), 2 misused, 130 interrupted.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from facegen.client.lazy_group import LazyGroup
from facegen.errors import FacegenError

__all__ = ["app", "main"]

app = typer.Typer(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"facegen {version('facegen')}")
        raise typer.Exit


@app.callback()
def facegen(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            show_envvar=False,
            callback=_print_version,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Train, export, serve and call models of faces.

    Every option has an environment variable too: `FACEGEN_GENERATE_SEED` is `--seed` of `generate`.
    """


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        try:
            app(prog_name="facegen", auto_envvar_prefix="FACEGEN")
        finally:
            sys.stdout.flush()
    except FacegenError as error:
        typer.echo(f"{typer.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has enough: leave Python nothing to flush to it on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
