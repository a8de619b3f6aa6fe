"""The options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from facegen.client.types import Crop

__all__ = [
    "FILE_FORMATS",
    "AnimationOption",
    "CenterFractionOption",
    "DatasetCropOption",
    "ExpressionOption",
    "FaceCropOption",
    "FamilyOption",
    "FormatOption",
    "FrameOption",
    "JsonOption",
    "PriorOption",
    "QualityOption",
    "SquareOption",
    "ThereAndBackOption",
    "TimeoutOption",
    "VersionOption",
    "animation_mime_type",
    "crop_from",
    "require_png",
    "seed_pair",
]

FILE_FORMATS = {
    "png": ("image/png", ".png"),
    "jpeg": ("image/jpeg", ".jpg"),
    "webp": ("image/webp", ".webp"),
}
"""The MIME type and the suffix of each choice of `--format`."""

TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout-s",
        envvar="FACEGEN_TIMEOUT_S",
        min=0,
        metavar="SECONDS",
        help="How long to wait for an answer, retries included.",
    ),
]
FamilyOption = Annotated[
    str, typer.Option("--family", help="The family to use.", show_default="the server's default")
]
VersionOption = Annotated[
    str, typer.Option("--version", help="The family's version.", show_default="the newest")
]
ExpressionOption = Annotated[
    str,
    typer.Option(
        "--expression",
        metavar="NAME",
        help="The expression to draw, of a family that has some.",
        show_default="the family's first",
    ),
]
FormatOption = Annotated[
    Literal["png", "jpeg", "webp"], typer.Option("--format", help="The format of the files.")
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        metavar="N",
        help="The quality of JPEG and WebP.",
        show_default="90",
    ),
]
PriorOption = Annotated[
    str,
    typer.Option(
        "--prior",
        metavar="NAME",
        help="The prior that faces of seeds are drawn from, for example smiling.",
        show_default="the family's first",
    ),
]
AnimationOption = Annotated[
    Path | None,
    typer.Option("--animation", metavar="FILE", help="Make an animated picture (.gif or .webp)."),
]
FrameOption = Annotated[
    int,
    typer.Option(
        "--frame-ms",
        min=20,
        max=10_000,
        metavar="N",
        help="How long the animation shows each picture, in milliseconds.",
    ),
]
ThereAndBackOption = Annotated[
    bool,
    typer.Option("--there-and-back/--one-way", help="Whether the animation goes back as it came."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
SquareOption = Annotated[
    str | None,
    typer.Option(
        "--square",
        metavar="LEFT,TOP,SIDE",
        help="The square of each picture that the model sees, in pixels.",
        show_default="the central one",
    ),
]
CenterFractionOption = Annotated[
    float | None,
    typer.Option(
        "--center-fraction",
        min=0,
        max=1,
        metavar="NUMBER",
        help="Take the central square, this fraction of the shorter side.",
    ),
]
DatasetCropOption = Annotated[
    bool,
    typer.Option(
        "--dataset-crop", help="Take the square that the family was trained on (aligned pictures)."
    ),
]
FaceCropOption = Annotated[
    bool,
    typer.Option("--face", help="Find the face and frame it as the family was trained on faces."),
]


def crop_from(
    square: str | None, center_fraction: float | None, dataset_crop: bool, face: bool
) -> "Crop | None":
    """Make a crop of the four options, of which at most one may be given."""
    from facegen.client.types import CenterCrop, DatasetCrop, FaceCrop, SquareCrop

    if (square is not None) + (center_fraction is not None) + dataset_crop + face > 1:
        raise typer.BadParameter(
            "give one of --face, --square, --center-fraction and --dataset-crop, not several"
        )
    if face:
        return FaceCrop()
    if square is not None:
        try:
            left_px, top_px, side_px = map(int, square.split(","))
        except ValueError:
            raise typer.BadParameter(
                f"{square!r} is not LEFT,TOP,SIDE, for example 10,20,200", param_hint="--square"
            ) from None
        return SquareCrop(left_px=left_px, top_px=top_px, side_px=side_px)
    if center_fraction is not None:
        return CenterCrop(center_fraction)
    return DatasetCrop() if dataset_crop else None


def animation_mime_type(path: Path) -> str:
    """Tell the format of an animation by its file's suffix."""
    formats = {".gif": "image/gif", ".webp": "image/webp"}
    if path.suffix.lower() not in formats:
        raise typer.BadParameter(f"{path} does not end in .gif or .webp", param_hint="--animation")
    return formats[path.suffix.lower()]


def require_png(path: Path | None, option: str) -> None:
    """Refuse the path of a sheet that does not end in `.png`: sheets are written by this client."""
    if path is not None and path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} does not end in .png", param_hint=option)


def seed_pair(seeds: str | None, files: list[Path], *, what: str) -> tuple[int, int] | None:
    """Read two seeds; None: two files were given in their place.

    Args:
        seeds: Two numbers with a comma between; None: not given.
        files: The files given.
        what: What they are.
    """
    if (seeds is not None) == bool(files) or len(files) not in (0, 2):
        raise typer.BadParameter(f"give two {what}, or --seeds A,B; got {len(files)} {what}")
    if seeds is None:
        return None
    try:
        first, second = map(int, seeds.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{seeds!r} is not A,B, for example 1,2", param_hint="--seeds"
        ) from None
    return first, second
