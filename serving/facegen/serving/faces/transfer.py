"""Gives the faces of photos other expressions: encoded once, drawn with every one, put back.

Pixels are worked on in the imaging pool; models run through the pipelines, so that the faces of a
call share batches with those of others.
"""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import ResponseSizeError
from facegen.serving.faces.family import Family
from facegen.serving.faces.finding import AlignedFace, cut_squares
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import (
    FaceEdit,
    ImagingPool,
    Origin,
    PictureFormat,
    SheetPicture,
    align,
    composite,
    contact_sheet,
    encode_pictures,
)

__all__ = ["Order", "Target", "Transfer", "Transferred", "View"]

# A sheet shows twice the square that the models see, for hair and chin.
_SHEET_MARGIN = 2.0
_TILE_PX, _MOST_SHEET_PIXELS = 400, 24_000_000
# What a picture costs in a message beside its own bytes.
_PICTURE_OVERHEAD_BYTES = 64

T = TypeVar("T")
Pixels = NDArray[np.uint8]
View = Literal["photo", "crop", "sheet"]
# The edits of a face by expression.
FaceEdits = dict[str, FaceEdit]


@dataclass(frozen=True, slots=True)
class Target:
    """An expression to give to faces.

    Attributes:
        expression: One of the family's.
        strength: How much of it, 0 to 1.5.
    """

    expression: str
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a request wants of its photos.

    Attributes:
        targets: The expressions, at least one.
        view: What to make: whole photos, aligned faces, or sheets.
        picture_format: How to code it.
        max_bytes: The most that the coded pictures may have together.
    """

    targets: tuple[Target, ...]
    view: View
    picture_format: PictureFormat
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """One picture made of a photo.

    Attributes:
        file: The coded picture.
        shape: (H, W, C).
        target: What was given; None for a sheet.
        face: The index of the face shown among its photo's; 0 if all are.
    """

    file: bytes
    shape: tuple[int, ...]
    target: Target | None = None
    face: int = 0


class Transfer:
    """One call's pictures; it blocks. The errors are those of `Pipelines` and of `pictures`.

    Args:
        pipelines: Run the models.
        imaging: Works on pixels.
        family: One of expressions.
        order: What is wanted.
        context: Whose call it is.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        imaging: ImagingPool,
        family: Family,
        order: Order,
        *,
        context: CallContext,
    ) -> None:
        assert family.expressions is not None
        self._pipelines, self._imaging = pipelines, imaging
        self._family, self._experimental = family, family.expressions.experimental
        self._order, self._context = order, context
        self._bytes = 0
        self._counting = threading.Lock()

    def pictures(
        self, photos: Sequence[Pixels], faces: Sequence[Sequence[AlignedFace]]
    ) -> list[list[Transferred]]:
        """Make what the request wants of photos (H, W, C) and their faces.

        Returns:
            The pictures of each photo. Whole photos come in the order of the targets; aligned
            faces face by face, each in the order of the targets; of sheets there is one.

        Raises:
            ResponseSizeError: They have too many bytes together. Never right.
            CallCancelledError: The caller went away.
        """
        everyone = [face for some in faces for face in some]
        crops = cut_squares(
            self._imaging,
            [photos[face.photo] for face in everyone],
            [face.matrix for face in everyone],
            size_px=self._family.height_px,
            context=self._context,
        )
        edits = self._edits(crops)
        if self._order.view == "crop":
            return self._faces(crops, faces, edits)
        by_photo = _grouped(edits, [len(some) for some in faces])
        if self._order.view == "sheet":
            return self._sheets(photos, faces, by_photo)
        return self._photos(photos, faces, by_photo)

    def _edits(self, crops: Pixels) -> list[FaceEdits]:
        """Ask the models how to edit each of all faces."""
        names = list(dict.fromkeys(target.expression for target in self._order.targets))
        drawn = self._pipelines.edit(self._family, crops, names, context=self._context)
        return [
            {
                name: FaceEdit(some.content[row, ..., 0], some.mask[row, ..., 0], some.flow[row])
                for name, some in drawn.items()
            }
            for row in range(len(crops))
        ]

    def _photos(
        self,
        photos: Sequence[Pixels],
        faces: Sequence[Sequence[AlignedFace]],
        edits: Sequence[Sequence[FaceEdits]],
    ) -> list[list[Transferred]]:
        def make(job: tuple[int, Target]) -> Transferred:
            index, target = job
            edited = _edited(photos[index], faces[index], edits[index], target)
            return self._coded(edited, target)

        jobs = list(itertools.product(range(len(photos)), self._order.targets))
        counts = [_pixel_count(photos[index]) for index, _ in jobs]
        made = self._imaging.each(make, jobs, pixel_counts=counts, context=self._context)
        return _grouped(made, [len(self._order.targets)] * len(photos))

    def _faces(
        self,
        crops: Pixels,
        faces: Sequence[Sequence[AlignedFace]],
        edits: Sequence[FaceEdits],
    ) -> list[list[Transferred]]:
        size_px = self._family.height_px
        whole = np.array([[size_px, 0, 0], [0, size_px, 0]], np.float64)
        places = [place for some in faces for place in range(len(some))]

        def make(job: tuple[int, Target]) -> Transferred:
            row, target = job
            edit = edits[row][target.expression]
            edited = composite(crops[row], whole, edit, target.strength)
            return self._coded(edited, target, face=places[row])

        jobs = list(itertools.product(range(len(crops)), self._order.targets))
        counts = [size_px**2] * len(jobs)
        made = self._imaging.each(make, jobs, pixel_counts=counts, context=self._context)
        return _grouped(made, [len(some) * len(self._order.targets) for some in faces])

    def _sheets(
        self,
        photos: Sequence[Pixels],
        faces: Sequence[Sequence[AlignedFace]],
        edits: Sequence[Sequence[FaceEdits]],
    ) -> list[list[Transferred]]:
        targets = (None, *self._order.targets)

        def cut(job: tuple[int, Target | None]) -> list[SheetPicture]:
            index, target = job
            photo = photos[index]
            edited = photo if target is None else _edited(photo, faces[index], edits[index], target)
            tile_px = _tile_px(len(faces[index]) * len(targets))
            return [
                SheetPicture(
                    align(edited, _surroundings(face, photo), size_px=tile_px),
                    self._caption(target),
                )
                for face in faces[index]
            ]

        def lay(columns: Sequence[Sequence[SheetPicture]]) -> Transferred:
            rows = list(zip(*columns, strict=True))
            sheet = contact_sheet(
                [picture for row in rows for picture in row],
                tile_px=_tile_px(len(rows) * len(targets)),
                columns=len(targets) if len(rows) > 1 else None,
            )
            return self._coded(sheet, None)

        jobs = list(itertools.product(range(len(photos)), targets))
        counts = [_pixel_count(photos[index]) for index, _ in jobs]
        tiles = self._imaging.each(cut, jobs, pixel_counts=counts, context=self._context)
        columns = _grouped(tiles, [len(targets)] * len(photos))
        return [[sheet] for sheet in self._imaging.each(lay, columns, context=self._context)]

    def _caption(self, target: Target | None) -> str:
        if target is None:
            return "original"
        strength = "" if target.strength == 1 else f" {target.strength:.3g}"
        note = " (experimental)" if target.expression in self._experimental else ""
        return f"{target.expression}{strength}{note}"

    def _coded(self, pixels: Pixels, target: Target | None, *, face: int = 0) -> Transferred:
        """Code a picture, which says that it was edited where it was."""
        shape = (*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1)
        origin = Origin(
            self._family.name,
            self._family.version,
            expression=target.expression if target else "",
            strength=target.strength if target else None,
            edited=True,
        )
        unchanged = target is not None and target.strength == 0
        (file,) = encode_pictures(
            pixels.reshape(1, *shape),
            self._order.picture_format,
            origins=None if unchanged else [origin],
        )
        with self._counting:
            self._bytes += len(file) + _PICTURE_OVERHEAD_BYTES
            if self._bytes > self._order.max_bytes:
                raise ResponseSizeError("images", limit=self._order.max_bytes)
        return Transferred(file, shape, target, face)


def _edited(
    photo: Pixels, faces: Sequence[AlignedFace], edits: Sequence[FaceEdits], target: Target
) -> Pixels:
    """Give all faces of a photo an expression, one after the other."""
    for face, some in zip(faces, edits, strict=True):
        photo = composite(photo, face.matrix, some[target.expression], target.strength)
    return photo


def _surroundings(face: AlignedFace, photo: Pixels) -> NDArray[np.float64]:
    """Draw an upright square around a face, inside its photo."""
    height_px, width_px = photo.shape[:2]
    side_px = float(np.hypot(*face.matrix[:, 0]))
    side_px = min(_SHEET_MARGIN * side_px, height_px, width_px)
    x, y = face.matrix @ (0.5, 0.5, 1)
    left_px = float(np.clip(x - side_px / 2, 0, width_px - side_px))
    top_px = float(np.clip(y - side_px / 2, 0, height_px - side_px))
    return np.array([[side_px, 0, left_px], [0, side_px, top_px]])


def _tile_px(count: int) -> int:
    """Choose how large the pictures of a sheet are: smaller where there are many."""
    return min(_TILE_PX, int((_MOST_SHEET_PIXELS / count) ** 0.5))


def _grouped(items: Sequence[T], counts: Sequence[int]) -> list[list[T]]:
    """Part a sequence into runs of so many."""
    rest = iter(items)
    return [list(itertools.islice(rest, count)) for count in counts]


def _pixel_count(photo: Pixels) -> int:
    height_px, width_px = photo.shape[:2]
    return int(height_px * width_px)
