"""What the commands write: sheets of pictures, progress for people, results for both."""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from facegen.client.errors import ClientError, FileError
from facegen.client.files import write_atomically
from facegen.client.png import encode_png, tile
from facegen.client.types import Image

__all__ = ["console", "make_folder", "print_error", "print_json", "progress_bar", "write_sheet"]

# cv.iptc.org/newscodes/digitalsourcetype: what a model made; what mixes that with photos.
_SOURCE_TYPES = {False: "trainedAlgorithmicMedia", True: "compositeWithTrainedAlgorithmicMedia"}
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def console() -> Console:
    """Give the console for results, on standard output; lines are as long as they are."""
    return Console(highlight=False, soft_wrap=True)


def print_json(result: Any, *, indent: int | None = 2) -> None:
    """Print a result for machines: dataclasses as objects, paths as strings.

    Args:
        result: What to print.
        indent: Spaces a level; None: all on one line, which a reader gets at once.
    """
    json.dump(result, sys.stdout, default=_plain, indent=indent)
    sys.stdout.write("\n")
    if indent is None:
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        FileError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(path, problem=f"cannot make the folder: {error.strerror}") from error


def print_error(error: ClientError | str, progress: Progress, *, subject: str = "") -> None:
    """Report an error that is not the end of the command, above its progress bar."""
    message = f" {subject}: {error}" if subject else f" {error}"
    progress.console.print(Text.assemble(("error:", "bold red"), message), soft_wrap=True)


def write_sheet(
    path: Path, images: Sequence[Image], *, column_count: int = 0, has_photos: bool = False
) -> None:
    """Write raw pictures of one size into one PNG, marked as made by a model.

    Args:
        path: The file; its folder is made.
        images: At least one.
        column_count: Pictures in a row; 0: as many as make it about square.
        has_photos: Whether photos are among them.

    Raises:
        FileError: It cannot be written.
    """
    make_folder(path.parent)
    sheet = tile(images, column_count=column_count or math.ceil(math.sqrt(len(images))))
    origin = {"XML:com.adobe.xmp": _XMP.format(_SOURCE_TYPES[has_photos]), "Software": "facegen"}
    write_atomically(path, encode_png(sheet, text=origin))


class _SpeedColumn(ProgressColumn):
    """How many are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        decimals = 0 if not speed or speed >= 10 else 1
        return Text(
            f"{speed:.{decimals}f} {self._unit}/s" if speed else "", style="progress.data.speed"
        )


def progress_bar(unit: str) -> Progress:
    """Make a progress bar on standard error, shown only to people, that counts `unit` a second."""
    stderr = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _SpeedColumn(unit),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
        transient=True,
    )
