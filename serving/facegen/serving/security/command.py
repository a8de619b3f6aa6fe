"""The command `facegen token`."""

import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from facegen.serving.errors import ServerError
from facegen.serving.security.tokens import NAME_PATTERN, Scope, digest_of

__all__ = ["token"]

# A prefix by which scanners of repositories and logs know a token that leaked.
_PREFIX = "facegen_"


def token(
    name: Annotated[str, typer.Argument(help="Who will use it; goes into logs and limits.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; may be repeated.", show_default="infer"),
    ] = None,
    expires_days: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Days it is valid.", show_default="for ever"),
    ] = None,
    append: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Add its entry to this file of `facegen serve --tokens`; print the token alone.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for machines.")
    ] = False,
) -> None:
    """Make a bearer token for `facegen serve --tokens`, and print it this once.

    The file holds only its SHA-256; a running server reads the file again within a second. To take
    a token back, delete its entry.
    """
    if not re.match(NAME_PATTERN, name) or name.endswith("\n"):
        raise typer.BadParameter(
            f"{name!r} is not 1 to 64 letters, digits and . _ @ / -, beginning with one of the "
            "first two",
            param_hint="NAME",
        )
    secret = _PREFIX + secrets.token_urlsafe(32)
    entry = _entry(name, secret, scope or [Scope.INFER], expires_days)
    if append is not None:
        _append(append, entry)
    if as_json:
        typer.echo(json.dumps({"token": secret, "name": name, "entry": entry}))
    elif append is not None:
        typer.echo(secret)
        typer.echo(f"its entry is in {append}; the token is shown this once", err=True)
    else:
        typer.echo(f"{secret}\n\n{entry}", nl=False)
        typer.echo(
            "\nabove: the token, shown this once, and its entry for the file of --tokens", err=True
        )


def _entry(name: str, secret: str, scopes: list[Scope], expires_days: int | None) -> str:
    lines = [
        "[[tokens]]",
        f'name = "{name}"',
        f'sha256 = "{digest_of(secret).hex()}"',
        f"scopes = {json.dumps(scopes)}",
    ]
    if expires_days is not None:
        expires = datetime.now(UTC) + timedelta(days=expires_days)
        lines.append(f"expires = {expires:%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"


def _append(path: Path, entry: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            # In one write, so that a server never reads half of it.
            file.write(f"\n{entry}" if file.tell() else entry)
    except OSError as error:
        raise ServerError(
            f"{path}: {error.strerror}", "give --append a file that you may write"
        ) from error
