"""`facegen transfer`: give the faces of photos other expressions."""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.options import (
    FILE_FORMATS,
    FamilyOption,
    QualityOption,
    TimeoutOption,
    VersionOption,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from facegen.client.client import Client
    from facegen.client.commands.photos import Photo
    from facegen.client.commands.transferring import Outcome, Transfer
    from facegen.client.errors import FileError
    from facegen.client.types import ExpressionTarget, TransferView

__all__ = ["transfer"]

_FOLDER = Path("transferred")
_MOST = 1.5


@calls_a_server
def transfer(
    photos: Annotated[
        list[Path],
        typer.Argument(
            help="JPEG, PNG or WebP files, and folders of them.", metavar="PHOTO_OR_FOLDER"
        ),
    ],
    expressions: Annotated[
        list[str] | None,
        typer.Option(
            "--expression",
            "-e",
            metavar="NAME[:STRENGTH]",
            help="An expression to give, one of the family's; once for each.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=_MOST,
            metavar="NUMBER",
            help="How much of it: 0 leaves the photo as it is, above 1 is more than natural.",
            show_default="1",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Make one labelled sheet of every expression instead.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="The folder for the results; of one photo and one expression also a file"
            " (.jpg, .png, .webp).",
            show_default=str(_FOLDER),
        ),
    ] = None,
    crops: Annotated[
        bool,
        typer.Option("--crops", help="Make the aligned faces alone, grey, as the model sees them."),
    ] = False,
    cropped: Annotated[
        bool,
        typer.Option("--cropped", help="Look for no face: one fills the middle of each photo."),
    ] = False,
    max_faces: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=32,
            metavar="N",
            help="The most faces in a photo; one with more is refused.",
            show_default="8",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make files again that are in the folder already.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=64, metavar="N", help="Photos under way.")
    ] = 4,
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: Annotated[
        Literal["png", "jpeg", "webp"] | None,
        typer.Option(
            "--format",
            help="The format of the files in the folder.",
            show_default="each photo's own; png with --crops",
        ),
    ] = None,
    quality: QualityOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each photo, for machines.")
    ] = False,
    timeout_s: TimeoutOption = 60.0,
    *,
    connection: Connection,
) -> None:
    """Give the faces of photos other expressions.

    All else in a photo stays as it is. One that cannot be used is reported, and the exit code is
    then 1. Photos whose results are in the folder already are left out: run a command that was cut
    off again, and it goes on.
    """
    from facegen.client.commands.output import make_folder
    from facegen.client.commands.photos import find_photos, result_file
    from facegen.client.commands.transferring import Transfer

    view = _view(expressions or [], every=every, crops=crops)
    targets = _targets(expressions or [], 1.0 if strength is None else strength)
    file = result_file(out, photos, one_each=every or (len(targets) == 1 and not crops))
    suffix = _suffix(file, file_format or ("png" if crops else None), explicit=bool(file_format))
    out = out or _FOLDER
    for photo in photos:
        if photo.is_dir() and photo.resolve() == out.resolve():
            raise typer.BadParameter(
                f"{photo}/ is the folder of the results too, which would be taken for photos the"
                " next time; give another",
                param_hint="--out",
            )
    found, errors = find_photos(photos, out=out, suffix=suffix)
    if errors and not found:
        raise errors[0]
    make_folder(file.parent if file else out)
    with connection.client(timeout_s=timeout_s) as client:
        if every and strength is not None:
            targets = _every(client, family, version, strength)
        arguments = {
            "family": family,
            "version": version,
            "finding": "cropped" if cropped else "detect",
            "max_faces": max_faces,
            "quality": quality,
        }
        wish = Transfer(targets, view, arguments, file=file, overwrite=overwrite)
        work = _Work(wish, place=str(file) if file else f"{out}/", as_json=as_json)
        work.run(client, found, errors, jobs=jobs)
    if work.failed_count:
        raise typer.Exit(1)


def _view(expressions: list[str], *, every: bool, crops: bool) -> "TransferView":
    if every and (expressions or crops):
        raise typer.BadParameter("--all goes with neither --expression nor --crops")
    if not every and not expressions:
        raise typer.BadParameter(
            "give the expressions wanted with --expression, or --all for a sheet of every one"
            " (facegen models lists them)"
        )
    return "sheet" if every else "crop" if crops else "photo"


def _targets(expressions: list[str], strength: float) -> tuple["ExpressionTarget", ...]:
    from facegen.client.types import ExpressionTarget

    targets = []
    for expression in expressions:
        name, colon, own = expression.partition(":")
        try:
            wanted = float(own) if colon else strength
        except ValueError:
            wanted = math.nan
        # A name that is none would be none of a file either.
        if not name.replace("-", "_").isidentifier() or not 0 <= wanted <= _MOST:
            raise typer.BadParameter(
                f"{expression!r} is not NAME or NAME:STRENGTH with a strength of 0 to {_MOST},"
                " for example happiness:0.8",
                param_hint="--expression",
            )
        targets.append(ExpressionTarget(name, wanted))
    return tuple(dict.fromkeys(targets))


def _suffix(file: Path | None, file_format: str | None, *, explicit: bool) -> str:
    """Give what the files made end in; empty: what their photos do."""
    from facegen.client.commands.photos import MIME_TYPES

    if file is None:
        return FILE_FORMATS[file_format][1] if file_format else ""
    if explicit and FILE_FORMATS[str(file_format)][0] != MIME_TYPES[file.suffix.lower()]:
        raise typer.BadParameter(f"{file} is none", param_hint="--format")
    return file.suffix


def _every(
    client: "Client", family: str, version: str, strength: float
) -> tuple["ExpressionTarget", ...]:
    """Give every expression of a family at one strength."""
    from facegen.client.types import ExpressionTarget

    models = [client.model(family, version=version)] if family else client.models()
    able = [model for model in models if model.expressions]
    if len(able) > 1:
        names = ", ".join(model.family for model in able)
        raise typer.BadParameter(f"name one of {names}", param_hint="--family")
    return tuple(ExpressionTarget(name, strength) for model in able for name in model.expressions)


@dataclass
class _Work:
    """Transfers photo after photo, and tells how it goes."""

    wish: "Transfer"
    place: str
    as_json: bool
    done_count: int = 0
    face_count: int = 0
    skipped_count: int = 0
    failed_count: int = 0
    left_count: int = 0
    used: str = ""

    def run(
        self, client: "Client", photos: list["Photo"], errors: list["FileError"], *, jobs: int
    ) -> None:
        from facegen.client.commands.output import progress_bar
        from facegen.client.commands.transferring import Outcome

        progress = progress_bar("photos")
        try:
            for error in errors:
                self._take(Outcome(Path(error.path), error=str(error)), progress)
            outcomes = [(photo, self.wish.skip(photo)) for photo in photos]
            for outcome in filter(None, (outcome for _, outcome in outcomes)):
                self._take(outcome, progress)
            left = [photo for photo, outcome in outcomes if outcome is None]
            self.left_count = len(left)
            if left:
                self._run(client, left, progress, jobs=jobs)
        finally:
            if not self.as_json:
                self._report()

    def _run(
        self, client: "Client", photos: list["Photo"], progress: "Progress", *, jobs: int
    ) -> None:
        with progress, closing(self.wish.run(client, photos, jobs=jobs)) as outcomes:
            task = progress.add_task("photos", total=len(photos))
            for outcome in outcomes:
                self.left_count -= 1
                self._take(outcome, progress)
                failed = f"photos [red]· {self.failed_count} failed[/]"
                progress.update(
                    task, advance=1, description=failed if self.failed_count else "photos"
                )

    def _take(self, outcome: "Outcome", progress: "Progress") -> None:
        from facegen.client.commands.output import print_error, print_json

        if outcome.error:
            self.failed_count += 1
            print_error(outcome.error, progress)
        elif outcome.skipped:
            self.skipped_count += 1
        else:
            self.done_count += 1
            self.face_count += len(outcome.faces)
            self.used = outcome.model
        if self.as_json:
            print_json(outcome, indent=None)

    def _report(self) -> None:
        from rich.markup import escape

        from facegen.client.commands.output import console

        rest = {
            "there already": self.skipped_count,
            "failed": self.failed_count,
            "left (the same command goes on)": self.left_count,
        }
        notes = [f"{count} {name}" for name, count in rest.items() if count]
        if not self.done_count and not self.skipped_count:
            return
        photos = "1 photo" if self.done_count == 1 else f"{self.done_count} photos"
        faces = "1 face" if self.face_count == 1 else f"{self.face_count} faces"
        made = f" [dim]· {faces}, {escape(self.used)}[/]" if self.done_count else ""
        tail = f" · {', '.join(notes)}" if notes else ""
        console().print(f"{photos} in [bold]{escape(self.place)}[/]{made}{tail}")
