"""`facegen interpolate`: draw the path from one face to another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import (
    FILE_FORMATS,
    AnimationOption,
    CenterFractionOption,
    DatasetCropOption,
    ExpressionOption,
    FaceCropOption,
    FamilyOption,
    FormatOption,
    FrameOption,
    JsonOption,
    PriorOption,
    QualityOption,
    SquareOption,
    ThereAndBackOption,
    TimeoutOption,
    VersionOption,
    animation_mime_type,
    crop_from,
    require_png,
    seed_pair,
)

if TYPE_CHECKING:
    from facegen.client.client import Client
    from facegen.client.types import Endpoint, Image, Interpolated

__all__ = ["interpolate"]


@calls_a_server
def interpolate(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Two photos: where the path begins and ends.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Go between face 0 of two seeds instead of two photos."),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=2, metavar="N", help="How many pictures, both ends included."
        ),
    ] = 9,
    linear: Annotated[
        bool,
        typer.Option(
            "--linear/--spherical", help="A straight line, or a great circle between latents."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the pictures.",
            show_default="path, if there is neither --strip nor --animation",
        ),
    ] = None,
    strip: Annotated[
        Path | None, typer.Option(help="Lay the path out in a row in this PNG file.")
    ] = None,
    animation: AnimationOption = None,
    frame_ms: FrameOption = 100,
    there_and_back: ThereAndBackOption = True,
    prior: PriorOption = "",
    square: SquareOption = None,
    center_fraction: CenterFractionOption = None,
    dataset_crop: DatasetCropOption = False,
    face: FaceCropOption = False,
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
    """Draw the path from one face to another, between two photos or two seeds."""
    from facegen.client.types import Animation

    require_png(strip, "--strip")
    animated = animation and animation_mime_type(animation)
    pair = seed_pair(seeds, photos or [], what="photos")
    if out is None and strip is None and animation is None:
        out = Path("path")
    wanted: dict[str, Any] = {
        "count": count,
        "interpolation": "linear" if linear else "spherical",
        "family": family,
        "version": version,
        "crop": crop_from(square, center_fraction, dataset_crop, face),
        "expression": expression,
    }
    files: list[Path] = []
    with connection.client(timeout_s=timeout_s) as client:
        start, end = _ends(pair, photos or [], prior)
        if out is not None:
            mime_type, suffix = FILE_FORMATS[file_format]
            coded = client.interpolate(start, end, mime_type=mime_type, quality=quality, **wanted)
            files = _save(coded.images, out, suffix)
        if strip is not None:
            _lay_out(client, start, end, wanted, strip)
        if animation is not None:
            wanted |= {"mime_type": animated, "quality": quality}
            frames = Animation(frame_ms, there_and_back)
            _animate(client.interpolate(start, end, animation=frames, **wanted), animation)
    _report(wanted, out, files, [strip, animation], as_json=as_json)


def _ends(
    pair: tuple[int, int] | None, photos: list[Path], prior: str
) -> tuple["Endpoint", "Endpoint"]:
    from facegen.client.files import read_picture
    from facegen.client.types import DrawnFace

    if pair is None:
        return read_picture(photos[0]), read_picture(photos[1])
    return DrawnFace(pair[0], prior=prior), DrawnFace(pair[1], prior=prior)


def _save(images: tuple["Image", ...], out: Path, suffix: str) -> list[Path]:
    from facegen.client.commands.output import make_folder

    make_folder(out)
    files = [out / f"{step:04}{suffix}" for step in range(len(images))]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    return files


def _lay_out(
    client: "Client", start: "Endpoint", end: "Endpoint", wanted: dict[str, Any], strip: Path
) -> None:
    from facegen.client.commands.output import write_sheet
    from facegen.client.types import RAW_PIXELS

    raw = client.interpolate(start, end, mime_type=RAW_PIXELS, **wanted)
    write_sheet(strip, raw.images, column_count=len(raw.images))


def _animate(path: "Interpolated", file: Path) -> None:
    from facegen.client.commands.output import make_folder

    assert path.animation is not None, "asked for"
    make_folder(file.parent)
    path.animation.save(file)


def _report(
    wanted: dict[str, Any],
    out: Path | None,
    files: list[Path],
    sheets: list[Path | None],
    *,
    as_json: bool,
) -> None:
    from facegen.client.commands.output import console, print_json

    strip, animation = sheets
    count, interpolation = wanted["count"], wanted["interpolation"]
    if as_json:
        print_json(
            {
                "count": count,
                "interpolation": interpolation,
                "files": files,
                "strip": strip and str(strip),
                "animation": animation and str(animation),
            }
        )
        return
    places = " and ".join(str(it) for it in (out and f"{out}/", strip, animation) if it)
    console().print(f"{count} pictures in [bold]{places}[/] [dim]· {interpolation}[/]")
