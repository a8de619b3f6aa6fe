"""Finds the faces of photos and aligns them: a detector, then twice the family's aligner."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import (
    FaceTooSmallError,
    InferenceError,
    NoFaceError,
    TooManyFacesError,
)
from facegen.serving.faces.expressions import ALIGNER_SIZE_PX
from facegen.serving.faces.family import Family
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import (
    DetectedFace,
    ImagingPool,
    align,
    central_square,
    grey,
    similarity,
    square_around,
    square_of_points,
)

__all__ = ["MOST_FACES", "AlignedFace", "FaceFinder"]

MOST_FACES = 32
"""The most faces of a photo that a request may allow."""

_LEAST_FACE_PX = 24
_NO_FACE_REMEDY = "where one face fills the photo, FACE_FINDING_CROPPED"

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """A face of a photo, as the models see it.

    Attributes:
        photo: The photo's index.
        box: Where it was found; without a detector the photo's central square, score 0.
        points_px: Its five points in the photo, (5, 2).
        matrix: The square that the models see, (2, 3).
    """

    photo: int
    box: DetectedFace
    points_px: NDArray[np.float64]
    matrix: Matrix


class FaceFinder:
    """Finds and aligns the faces of one call's photos; it blocks.

    The errors are those of `Pipelines`, CallCancelledError, and those of `find`.

    Args:
        pipelines: Run the aligner.
        imaging: Looks for faces, and cuts them out.
        family: One of expressions.
        context: Whose call it is.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        imaging: ImagingPool,
        family: Family,
        *,
        context: CallContext,
    ) -> None:
        assert family.expressions is not None
        self._pipelines, self._imaging = pipelines, imaging
        self._family, self._context = family, context
        self._aligner = family.expressions.aligner
        self._template = np.array(family.expressions.template)

    def find(
        self, photos: Sequence[Pixels], *, detect: bool, max_faces: int
    ) -> list[list[AlignedFace]]:
        """Find and align faces.

        Args:
            photos: (H, W, C), at least one.
            detect: Whether a detector looks; else each photo's central square frames one face.
            max_faces: The most of a photo.

        Returns:
            Those of each photo, at least one, the surest first.

        Raises:
            NoFaceError: A photo shows none. Never right; nor are the others.
            TooManyFacesError: It shows more than allowed.
            FaceTooSmallError: One has too few pixels.
        """
        boxes = self._boxes(photos, max_faces) if detect else [[_frame(photo)] for photo in photos]
        found = [(index, box) for index, some in enumerate(boxes) for box in some]
        owners = [photos[index] for index, _ in found]
        if detect:
            squares = [square_around(box) for _, box in found]
        else:
            squares = [central_square(photo.shape[1], photo.shape[0]) for photo in owners]
        # The aligner looks twice: at what was found, then upright at the points that it saw.
        squares = [
            square_of_points(points, self._template) for points in self._points(owners, squares)
        ]
        aligned: list[list[AlignedFace]] = [[] for _ in photos]
        for (index, box), points in zip(found, self._points(owners, squares), strict=True):
            matrix = similarity(points, self._template)
            side_px = float(np.hypot(*matrix[:, 0]))
            if side_px < _LEAST_FACE_PX:
                raise FaceTooSmallError(
                    f"images[{index}]",
                    index=len(aligned[index]),
                    side_px=side_px,
                    least_px=_LEAST_FACE_PX,
                )
            aligned[index].append(AlignedFace(index, box, points, matrix))
        return aligned

    def _boxes(self, photos: Sequence[Pixels], max_faces: int) -> list[list[DetectedFace]]:
        boxes = self._imaging.find_faces(photos, context=self._context)
        for index, some in enumerate(boxes):
            if not some:
                raise NoFaceError(f"images[{index}]", remedy=_NO_FACE_REMEDY)
            if len(some) > max_faces:
                raise TooManyFacesError(
                    f"images[{index}]", count=len(some), limit=max_faces, most=MOST_FACES
                )
        return boxes

    def _points(
        self, owners: Sequence[Pixels], squares: Sequence[Matrix]
    ) -> list[NDArray[np.float64]]:
        """Let the aligner look into squares, one of each photo given; (5, 2) in its pixels."""
        views = cut_squares(
            self._imaging, owners, squares, size_px=ALIGNER_SIZE_PX, context=self._context
        )
        points = self._pipelines.locate(self._family, views, context=self._context)
        if not np.isfinite(points).all():
            raise InferenceError(self._aligner, "points that are not finite")
        return [
            five.astype(np.float64) @ square[:, :2].T + square[:, 2]
            for five, square in zip(points, squares, strict=True)
        ]


def cut_squares(
    imaging: ImagingPool,
    photos: Sequence[Pixels],
    squares: Sequence[Matrix],
    *,
    size_px: int,
    context: CallContext,
) -> Pixels:
    """Cut a grey square out of each photo.

    Returns:
        (B, size, size, 1).
    """
    # What it costs grows with the pixels of the photo that lie in the square.
    areas = [max(size_px**2, round(abs(np.linalg.det(square[:, :2])))) for square in squares]
    cuts = [
        partial(align, photo, square, size_px=size_px)
        for photo, square in zip(photos, squares, strict=True)
    ]
    return np.stack(
        imaging.each(lambda cut: grey(cut()), cuts, pixel_counts=areas, context=context)
    )[..., None]


def _frame(photo: Pixels) -> DetectedFace:
    """Give the box of a photo that frames one face."""
    height_px, width_px = photo.shape[:2]
    side_px = min(height_px, width_px)
    left_px, top_px = (width_px - side_px) / 2, (height_px - side_px) / 2
    return DetectedFace(left_px, top_px, left_px + side_px, top_px + side_px, score=0.0)
