"""Photos in files and folders, and the files that are made of them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from facegen.client.errors import FileError

__all__ = ["MIME_TYPES", "Photo", "find_photos", "result_file"]

MIME_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""The format that each suffix stands for."""

_OTHER_PICTURES = {".avif", ".bmp", ".gif", ".heic", ".jfif", ".jpe", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo, and where what is made of it goes.

    Attributes:
        path: Its file.
        place: The folder of what is made of it, and what the names there begin with.
        suffix: What they end in, one of `MIME_TYPES` whatever its case.
    """

    path: Path
    place: Path
    suffix: str

    @property
    def mime_type(self) -> str:
        """The format of what is made of it."""
        return MIME_TYPES[self.suffix.lower()]

    def file(self, label: str) -> Path:
        """Name one of the files that are made of it."""
        return self.place.with_name(f"{self.place.name}-{label}{self.suffix}")


def find_photos(
    paths: Sequence[Path], *, out: Path, suffix: str = ""
) -> tuple[list[Photo], list[FileError]]:
    """Find photos, those in folders by their suffix, at any depth.

    Hidden files and folders and the folder of the results are left out. The folders within a folder
    are found again in that of the results; photos whose results would have one name are numbered.

    Args:
        paths: Files, which are taken as they are, and folders.
        out: The folder of the results.
        suffix: What the results end in; empty: what their photo does, or `.png`.

    Returns:
        The photos, each once, in the order of `paths` and by name within a folder; and why some of
        the folders have none.
    """
    photos: dict[str, Photo] = {}
    errors: list[FileError] = []
    seen: Counter[Path] = Counter()
    for path in paths:
        found = list(_walk(path, out, errors)) if path.is_dir() else [(path, Path(path.name))]
        for file, relative in found:
            key = os.path.abspath(file)  # noqa: PTH100  # resolve() would follow links
            if key in photos:
                continue
            ending = suffix or (file.suffix if file.suffix.lower() in MIME_TYPES else ".png")
            place = out / relative.with_name(relative.stem)
            seen[place.with_name(place.name + ending)] += 1
            number = seen[place.with_name(place.name + ending)]
            if number > 1:
                place = place.with_name(f"{place.name}-{number}")
            photos[key] = Photo(file, place, ending)
    return list(photos.values()), errors


def result_file(out: Path | None, photos: Sequence[Path], *, one_each: bool) -> Path | None:
    """Tell whether `--out` is a file, by its suffix.

    Args:
        out: What was given.
        photos: The photos; none if results are made of something else.
        one_each: Whether each photo gives one result.

    Raises:
        BadParameter: It is a file, and cannot hold the results.
    """
    if out is None or out.is_dir():
        return None
    suffix = out.suffix.lower()
    if suffix in _OTHER_PICTURES:
        raise typer.BadParameter(f"{out} does not end in .jpg, .png or .webp", param_hint="--out")
    if suffix not in MIME_TYPES:
        return None
    if not one_each or len(photos) > 1 or any(photo.is_dir() for photo in photos):
        raise typer.BadParameter(
            f"{out} is one file; several photos or pictures need a folder", param_hint="--out"
        )
    if any(out.resolve() == photo.resolve() for photo in photos):
        raise typer.BadParameter(f"{out} is the photo itself", param_hint="--out")
    return out


def _walk(root: Path, out: Path, errors: list[FileError]) -> Iterator[tuple[Path, Path]]:
    """Give the photos of a folder, each with its path within it."""
    results, empty = out.resolve(), True

    def fail(error: OSError) -> None:
        nonlocal empty
        empty = False
        errors.append(FileError(error.filename, problem=error.strerror or str(error)))

    for name, folders, files in os.walk(root, onerror=fail):
        folder = Path(name)
        folders[:] = sorted(
            it for it in folders if not it.startswith(".") and (folder / it).resolve() != results
        )
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in MIME_TYPES:
                empty = False
                yield folder / file, (folder / file).relative_to(root)
    if empty:
        errors.append(FileError(root, problem=f"no {', '.join(MIME_TYPES)} files in the folder"))
