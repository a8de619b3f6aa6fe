"""`facegen reconstruct`: send photos through a model and back."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import (
    FILE_FORMATS,
    CenterFractionOption,
    DatasetCropOption,
    ExpressionOption,
    FaceCropOption,
    FamilyOption,
    FormatOption,
    JsonOption,
    QualityOption,
    SquareOption,
    TimeoutOption,
    VersionOption,
    crop_from,
    require_png,
)

if TYPE_CHECKING:
    from facegen.client.client import Client
    from facegen.client.types import Image

__all__ = ["reconstruct"]


@calls_a_server
def reconstruct(
    photos: Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP files.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the pictures.",
            show_default="reconstructions, if there is no --side-by-side",
        ),
    ] = None,
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            help="Lay the photos, as the model sees them, out beside the results in this PNG."
        ),
    ] = None,
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
    """Encode photos of faces and decode them again.

    A photo that cannot be used is reported and left out; the exit code is then 1.
    """
    from facegen.client.commands.output import make_folder, write_sheet

    require_png(side_by_side, "--side-by-side")
    out = Path("reconstructions") if out is None and side_by_side is None else out
    if out is not None:
        make_folder(out)
    with connection.client(timeout_s=timeout_s) as client:
        work = _Reconstruction(
            client=client,
            wanted={
                "family": family,
                "version": version,
                "crop": crop_from(square, center_fraction, dataset_crop, face),
                "expression": expression,
            },
            files=_name_files(photos, out, FILE_FORMATS[file_format][1]),
            coding={"mime_type": FILE_FORMATS[file_format][0], "quality": quality},
            with_pairs=side_by_side is not None,
        )
        work.run(photos)
    if side_by_side is not None and work.pairs:
        column_count = 2 * math.ceil(math.sqrt(len(work.pairs) / 4))
        write_sheet(side_by_side, work.pairs, column_count=column_count, has_photos=True)
    _report(work, out, side_by_side if work.pairs else None, as_json=as_json)
    if work.errors:
        raise typer.Exit(1)


@dataclass
class _Reconstruction:
    """Reconstructs photo after photo: one that cannot be used does not stop the others."""

    client: "Client"
    wanted: dict[str, Any]
    files: dict[Path, Path]
    coding: dict[str, Any]
    with_pairs: bool
    pairs: list["Image"] = field(default_factory=list)
    done: list[Path] = field(default_factory=list)
    errors: dict[Path, str] = field(default_factory=dict)
    used: str = ""

    def run(self, photos: list[Path]) -> None:
        from facegen.client.commands.output import print_error, progress_bar
        from facegen.client.errors import FileError, InvalidRequestError, ResourceExhaustedError

        with progress_bar("photos") as progress:
            for photo in progress.track(photos, description="photos"):
                try:
                    self._reconstruct(photo)
                except (FileError, InvalidRequestError, ResourceExhaustedError) as error:
                    self.errors[photo] = str(error)
                    subject = "" if isinstance(error, FileError) else str(photo)
                    print_error(error, progress, subject=subject)

    def _reconstruct(self, photo: Path) -> None:
        from facegen.client.files import read_picture
        from facegen.client.types import RAW_PIXELS

        data = read_picture(photo)
        if photo in self.files:
            answer = self.client.reconstruct([data], **self.wanted, **self.coding)
            answer.images[0].save(self.files[photo])
        if self.with_pairs:
            answer = self.client.reconstruct(
                [data], **self.wanted, mime_type=RAW_PIXELS, include_inputs=True
            )
            self.pairs += (answer.inputs[0], answer.images[0])
        self.used = f"{answer.family} {answer.version}"
        self.done.append(photo)


def _name_files(photos: list[Path], out: Path | None, suffix: str) -> dict[Path, Path]:
    """Name the file of each photo after it; photos of one name in several folders are numbered."""
    files: dict[Path, Path] = {}
    if out is None:
        return files
    seen: Counter[str] = Counter()
    for photo in dict.fromkeys(photos):
        seen[photo.stem] += 1
        number = f"-{seen[photo.stem]}" if seen[photo.stem] > 1 else ""
        files[photo] = out / f"{photo.stem}{number}-reconstruction{suffix}"
    return files


def _report(work: _Reconstruction, out: Path | None, sheet: Path | None, *, as_json: bool) -> None:
    from facegen.client.commands.output import console, print_json

    if as_json:
        print_json(
            {
                "model": work.used,
                "files": {str(photo): work.files.get(photo) for photo in work.done},
                "side_by_side": sheet and str(sheet),
                "errors": {str(photo): message for photo, message in work.errors.items()},
            }
        )
    elif work.done:
        places = " and ".join(filter(None, [f"{out}/" if out else "", str(sheet or "")]))
        photos = "1 photo" if len(work.done) == 1 else f"{len(work.done)} photos"
        console().print(f"{photos} in [bold]{places}[/] [dim]· {work.used}[/]")
