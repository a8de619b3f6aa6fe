"""`facegen generate`: draw faces.

The files come coded by the server, with their origin in them. A grid needs pixels, and nothing in
the base install can get them out of a coded file, so they are asked for apart, with the seed that
was drawn: the server draws a face in less time than Python would need to read one back.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import (
    FILE_FORMATS,
    ExpressionOption,
    FamilyOption,
    FormatOption,
    JsonOption,
    PriorOption,
    QualityOption,
    TimeoutOption,
    VersionOption,
    require_png,
)

if TYPE_CHECKING:
    from facegen.client.client import Client
    from facegen.client.types import Face

__all__ = ["generate"]

_MAX_GRID_COUNT = 4096


@calls_a_server
def generate(
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, metavar="N", help="How many faces.")
    ] = 16,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="The same seed gives the same faces.",
            show_default="random",
        ),
    ] = None,
    first_index: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="The first face's index under the seed."),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for the faces.", show_default="faces, if there is no --grid"),
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="Lay the faces out in this PNG file.")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10,
            metavar="NUMBER",
            help="Below 1: plainer; above: odder.",
            show_default="1",
        ),
    ] = None,
    prior: PriorOption = "",
    expression: ExpressionOption = "",
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: FormatOption = "png",
    quality: QualityOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Draw faces.

    A face depends on its seed and index alone, and its file is named by its index: faces 0 to 99
    can be drawn in one go or in a hundred.
    """
    require_png(grid, "--grid")
    if grid is not None and count > _MAX_GRID_COUNT:
        raise typer.BadParameter(f"a grid holds at most {_MAX_GRID_COUNT} faces, not {count}")
    out = Path("faces") if out is None and grid is None else out
    wanted: dict[str, Any] = {
        "family": family,
        "version": version,
        "seed": seed,
        "first_index": first_index,
        "temperature": temperature,
        "prior": prior,
        "expression": expression,
    }
    files: list[Path] = []
    with connection.client(timeout_s=timeout_s) as client:
        if out is not None:
            files, wanted = _save(client, count, wanted, out, file_format, quality)
        if grid is not None:
            wanted = _lay_out(client, count, wanted, grid)
    _report(count, wanted, out, files, grid, as_json=as_json)


def _save(
    client: "Client",
    count: int,
    wanted: dict[str, Any],
    out: Path,
    file_format: str,
    quality: int | None,
) -> tuple[list[Path], dict[str, Any]]:
    """Draw faces into files; give these, and `wanted` with what the server chose filled in."""
    from facegen.client.commands.output import make_folder, progress_bar

    make_folder(out)
    mime_type, suffix = FILE_FORMATS[file_format]
    files = []
    faces = client.generate_stream(count, mime_type=mime_type, quality=quality, **wanted)
    with progress_bar("images") as progress:
        for face in progress.track(faces, total=count, description="faces"):
            files.append(out / f"{face.index:08}{suffix}")
            face.image.save(files[-1])
    return files, wanted | _choice(face)


def _lay_out(client: "Client", count: int, wanted: dict[str, Any], grid: Path) -> dict[str, Any]:
    """Draw faces into a grid; give `wanted` with what the server chose filled in."""
    from facegen.client.commands.output import progress_bar, write_sheet
    from facegen.client.types import RAW_PIXELS

    faces = client.generate_stream(count, mime_type=RAW_PIXELS, **wanted)
    with progress_bar("images") as progress:
        drawn = list(progress.track(faces, total=count, description="grid"))
    write_sheet(grid, [face.image for face in drawn])
    return wanted | _choice(drawn[0])


def _choice(face: "Face") -> dict[str, Any]:
    return {
        "seed": face.seed,
        "family": face.family,
        "version": face.version,
        "prior": face.prior,
    }


def _report(
    count: int,
    drawn: dict[str, Any],
    out: Path | None,
    files: list[Path],
    grid: Path | None,
    *,
    as_json: bool,
) -> None:
    from facegen.client.commands.output import console, print_json

    if as_json:
        print_json(drawn | {"count": count, "files": files, "grid": grid and str(grid)})
        return
    places = [f"{out}/" if out else "", str(grid or "")]
    console().print(
        f"{count} faces in [bold]{' and '.join(filter(None, places))}[/]"
        f" [dim]· {drawn['family']} {drawn['version']}, prior {drawn['prior']},[/]"
        f" seed [bold]{drawn['seed']}[/]"
    )
