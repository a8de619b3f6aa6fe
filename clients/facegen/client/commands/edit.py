"""`facegen edit`: move faces along directions, more of this attribute and less of that."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import (
    FILE_FORMATS,
    AnimationOption,
    CenterFractionOption,
    DatasetCropOption,
    FaceCropOption,
    FamilyOption,
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
)

if TYPE_CHECKING:
    from facegen.client.types import Traversal

__all__ = ["edit"]

_FOLDER = Path("edited")
_MOST = 20.0
_MOVE = "NAME[:STRENGTH]"


@calls_a_server
def edit(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="JPEG, PNG or WebP files, and folders of them.", metavar="PHOTO_OR_FOLDER"
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", min=0, metavar="N", help="Edit face 0 of this seed; once for each."),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--more",
            metavar=_MOVE,
            help="What there is to be more of, one of the family's directions; once for each.",
        ),
    ] = None,
    less: Annotated[
        list[str] | None,
        typer.Option("--less", metavar=_MOVE, help="What there is to be less of, likewise."),
    ] = None,
    traverse: Annotated[
        str, typer.Option(metavar="NAME", help="Make a row of pictures along this direction.")
    ] = "",
    start: Annotated[
        float | None,
        typer.Option(
            "--from",
            min=-_MOST,
            max=_MOST,
            metavar="STRENGTH",
            help="Where the row begins.",
            show_default="-1",
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            "--to",
            min=-_MOST,
            max=_MOST,
            metavar="STRENGTH",
            help="Where it ends.",
            show_default="1",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            min=2,
            metavar="N",
            help="How many pictures a row has.",
            show_default="9",
        ),
    ] = None,
    view: Annotated[
        Literal["photo", "crop", "decoded"] | None,
        typer.Option(
            help="Of photos: the whole photo with what changes added to it; the square that the"
            " model sees, likewise; or what the model itself draws.",
            show_default="photo",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="The folder for the results; of one face without --traverse also a file"
            " (.jpg, .png, .webp).",
            show_default=f"{_FOLDER}, if there is neither --strip nor --animation",
        ),
    ] = None,
    strip: Annotated[
        Path | None,
        typer.Option(
            help="Lay faces out in this PNG file, as the model sees them: before and after, or the"
            " row of --traverse."
        ),
    ] = None,
    animation: AnimationOption = None,
    frame_ms: FrameOption = 100,
    there_and_back: ThereAndBackOption = True,
    prior: PriorOption = "",
    square: SquareOption = None,
    center_fraction: CenterFractionOption = None,
    dataset_crop: DatasetCropOption = False,
    face: FaceCropOption = False,
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: Annotated[
        Literal["png", "jpeg", "webp"] | None,
        typer.Option(
            "--format",
            help="The format of the files in the folder.",
            show_default="each photo's own; png of seeds",
        ),
    ] = None,
    quality: QualityOption = None,
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 60.0,
    *,
    connection: Connection,
) -> None:
    """Give faces more of this attribute and less of that, and leave the rest.

    A strength of 1 goes from a face without the attribute to one with it; `facegen models FAMILY`
    lists the directions. A photo that cannot be used is reported, and the exit code is then 1.
    """
    from facegen.client.commands.editing import Editing, Results, faces_of
    from facegen.client.commands.photos import result_file
    from facegen.client.types import Animation

    photos, seeds = photos or [], seeds or []
    if not photos and not seeds:
        raise typer.BadParameter("give photos, or a --seed")
    require_png(strip, "--strip")
    moves = _moves(more or [], less or [])
    traversal = _traversal(traverse, start, end, count)
    if not moves and traversal is None:
        raise typer.BadParameter("say what to change: --more, --less or --traverse")
    single = len(photos) + len(seeds) == 1 and not any(photo.is_dir() for photo in photos)
    if animation is not None:
        animation_mime_type(animation)
        if traversal is None or not single:
            raise typer.BadParameter("is of one face and a --traverse", param_hint="--animation")
    if out is None and strip is None and animation is None:
        out = _FOLDER
    file = result_file(out, photos, one_each=single and traversal is None)
    suffix = FILE_FORMATS[file_format][1] if file_format else ""
    faces, errors = faces_of(
        photos, seeds, prior=prior, out=out or _FOLDER, suffix=file.suffix if file else suffix
    )
    work = Editing(
        moves=moves,
        traversal=traversal,
        wanted={
            "family": family,
            "version": version,
            "crop": crop_from(square, center_fraction, dataset_crop, face),
            "quality": quality,
        },
        view=view,
        results=Results(file, None if file else out, strip, animation),
        animation=Animation(frame_ms, there_and_back),
    )
    with connection.client(timeout_s=timeout_s) as client:
        work.run(client, faces, errors)
    work.report(as_json=as_json)
    if work.errors:
        raise typer.Exit(1)


def _moves(more: list[str], less: list[str]) -> dict[str, float]:
    """Read how far to move along which directions; those along one add up."""
    moves: dict[str, float] = {}
    for option, sign, wishes in (("--more", 1, more), ("--less", -1, less)):
        for wish in wishes:
            name, colon, own = wish.partition(":")
            try:
                strength = float(own) if colon else 1.0
            except ValueError:
                strength = math.nan
            if not name or not 0 <= strength <= _MOST:
                raise typer.BadParameter(
                    f"{wish!r} is not NAME or NAME:STRENGTH with a strength of 0 to {_MOST:g},"
                    " for example Smiling:1.5",
                    param_hint=option,
                )
            moves[name] = moves.get(name, 0.0) + sign * strength
    return moves


def _traversal(
    direction: str, start: float | None, end: float | None, count: int | None
) -> "Traversal | None":
    from facegen.client.types import Traversal

    given = {
        name: value
        for name, value in (("start", start), ("end", end), ("count", count))
        if value is not None
    }
    if not direction:
        if given:
            raise typer.BadParameter("--from, --to and --count are of --traverse; give it too")
        return None
    return Traversal(direction, **given)  # type: ignore[arg-type]  # of two kinds
