"""Editing face by face: what `facegen edit` does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facegen.client.client import Client
from facegen.client.commands.options import animation_mime_type
from facegen.client.commands.output import (
    console,
    make_folder,
    print_error,
    print_json,
    progress_bar,
    write_sheet,
)
from facegen.client.commands.photos import Photo, find_photos
from facegen.client.errors import FileError, InvalidRequestError, ResourceExhaustedError
from facegen.client.files import read_picture
from facegen.client.types import (
    RAW_PIXELS,
    Animation,
    DrawnFace,
    Edited,
    EditView,
    Image,
    Traversal,
)

__all__ = ["Editing", "Face", "Results", "faces_of"]


@dataclass(frozen=True, slots=True)
class Face:
    """A face to edit.

    Attributes:
        photo: Its photo, or what stands for one in the names of files.
        drawn: The face of a seed; None: it is a photo's.
    """

    photo: Photo
    drawn: DrawnFace | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """Where the results go.

    Attributes:
        file: The one picture; None: there is a folder, or neither.
        folder: The folder; None likewise.
        strip: The sheet of all faces, if it is wanted.
        animation: The animated picture, likewise.
    """

    file: Path | None
    folder: Path | None
    strip: Path | None
    animation: Path | None


def faces_of(
    photos: Sequence[Path], seeds: Sequence[int], *, prior: str, out: Path, suffix: str
) -> tuple[list[Face], list[FileError]]:
    """Find the faces to edit, and why some folders have none; see `find_photos`."""
    found, errors = find_photos(photos, out=out, suffix=suffix)
    drawn = [
        Face(Photo(Path(name), out / name, suffix or ".png"), DrawnFace(seed, prior=prior))
        for seed in dict.fromkeys(seeds)
        for name in [f"seed-{seed}"]
    ]
    return [*map(Face, found), *drawn], errors


@dataclass
class Editing:
    """Edits face after face: a photo that cannot be used does not stop the others.

    Attributes:
        moves: How far along which directions.
        traversal: The row of pictures, if one is wanted.
        wanted: The arguments of `Client.edit` that are the same for all.
        view: What to make of photos.
        results: Where it goes.
        animation: How an animated picture is made.
    """

    moves: dict[str, float]
    traversal: Traversal | None
    wanted: dict[str, Any]
    view: EditView | None
    results: Results
    animation: Animation
    tiles: list[Image] = field(default_factory=list)
    columns: int = 0
    has_photos: bool = False
    files: dict[str, list[Path]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    used: str = ""

    def run(self, client: Client, faces: Sequence[Face], errors: Sequence[FileError]) -> None:
        """Edit faces; errors of photos are printed as they come."""
        with progress_bar("faces") as progress:
            for error in errors:
                self.errors[error.path] = str(error)
                print_error(error, progress)
            for face in progress.track(faces, description="faces"):
                name = str(face.photo.path)
                try:
                    self._edit(client, face)
                except (FileError, InvalidRequestError, ResourceExhaustedError) as error:
                    if isinstance(error, InvalidRequestError) and not _concerns_the_face(error):
                        raise
                    self.errors[name] = str(error)
                    print_error(
                        error, progress, subject="" if isinstance(error, FileError) else name
                    )
        if self.results.strip is not None and self.tiles:
            write_sheet(
                self.results.strip,
                self.tiles,
                column_count=self.columns,
                has_photos=self.has_photos,
            )

    def report(self, *, as_json: bool) -> None:
        """Print what became of them."""
        strip = self.results.strip if self.tiles else None
        if as_json:
            print_json(
                {
                    "model": self.used,
                    "moves": self.moves,
                    "traversal": self.traversal,
                    "files": self.files,
                    "strip": strip and str(strip),
                    "errors": self.errors,
                }
            )
        elif self.files:
            results = self.results
            folder = f"{results.folder}/" if results.folder else results.file
            places = [str(it) for it in (folder, strip, results.animation) if it]
            moves = [f"{name} {strength:+g}" for name, strength in self.moves.items()]
            if self.traversal is not None:
                it = self.traversal
                moves.append(f"{it.direction} {it.start:+g} to {it.end:+g}")
            count = "1 face" if len(self.files) == 1 else f"{len(self.files)} faces"
            console().print(
                f"{count} in [bold]{' and '.join(places)}[/]"
                f" [dim]· {self.used} · {', '.join(moves)}[/]"
            )

    def _edit(self, client: Client, face: Face) -> None:
        source = face.drawn or read_picture(face.photo.path)
        view = None if face.drawn else self.view
        files: list[Path] = []

        def ask(moves: dict[str, float], **arguments: Any) -> Edited:
            merged = {"view": view, "traversal": self.traversal, **self.wanted, **arguments}
            answer = client.edit([source], moves, **merged)
            self.used = f"{answer.family} {answer.version}"
            return answer

        if self.results.file is not None or self.results.folder is not None:
            (edited,) = ask(self.moves, mime_type=face.photo.mime_type).faces
            files += self._save(face.photo, edited.images)
        if self.results.animation is not None:
            mime_type = animation_mime_type(self.results.animation)
            (edited,) = ask(self.moves, animation=self.animation, mime_type=mime_type).faces
            assert edited.animation is not None, "asked for"
            make_folder(self.results.animation.parent)
            edited.animation.save(self.results.animation)
            files.append(self.results.animation)
        if self.results.strip is not None:
            raw = {"mime_type": RAW_PIXELS, "quality": None}
            if not face.drawn:
                raw["view"] = "decoded" if view == "decoded" else "crop"
            row = ask(self.moves, **raw).faces[0].images
            if self.traversal is None:
                before = ask(dict.fromkeys(self.moves, 0.0), **raw).faces[0].images
                row = (*before, *row)
            self.tiles += row
            self.columns = len(row)
            self.has_photos = self.has_photos or not face.drawn
        self.files[str(face.photo.path)] = files

    def _save(self, photo: Photo, images: Sequence[Image]) -> list[Path]:
        if self.results.file is not None:
            files = [self.results.file]
        elif self.traversal is None:
            files = [photo.file("edited")]
        else:
            files = [photo.file(f"edited-{step:04}") for step in range(len(images))]
        make_folder(files[0].parent)
        for file, image in zip(files, images, strict=True):
            image.save(file)
        return files


def _concerns_the_face(error: InvalidRequestError) -> bool:
    """Tell whether other faces may do better."""
    return error.field.startswith(("faces", "crop"))
