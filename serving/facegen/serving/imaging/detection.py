"""Finds faces in photos: histograms of oriented gradients, Dalal & Triggs (2005), as dlib has them.

dlib carries its detector in its library, so that nothing is downloaded. It sees faces of 80 pixels
and more, tilted by up to about 40 degrees.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import dlib
import numpy as np
from numpy.typing import NDArray

from facegen.serving.imaging.alignment import AROUND, grey, square_at

__all__ = ["DetectedFace", "FaceDetector", "square_around"]

# Time goes with the pixels looked at. Faces of 80 pixels are found, a twelfth of the longer side.
_FIRST_LOOK_PIXELS = 960 * 720
_SECOND_LOOK_PIXELS = 4 * _FIRST_LOOK_PIXELS
# Small pictures are enlarged. Past this, hair and collars turned into faces before more were found.
_FIRST_ENLARGEMENT, _SECOND_ENLARGEMENT = 2.0, 4.0
_SMALLEST_SIDE_PX = 60
# Where a face takes less than this of the picture, others may have been too small to be found.
_SMALL_FACE = 1 / 8
_SURE_SCORE, _LEAST_SCORE = 0.15, 0.0
# Turned pictures give more boxes without a face.
_LEAST_TURNED_SCORE = 0.15
_TURNS_DEGREES = (-60.0, 60.0)
# dlib's detector is five: of faces upright, half in profile left and right, and tilted to either
# side, which answer alone from about 12 to 40 degrees.
_TILTS_DEGREES = (0.0, 0.0, 0.0, -20.0, 20.0)


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face in a photo.

    Attributes:
        left_px: Left edge of the box around brows and chin, in pixels from the photo's left edge.
        top_px: Its top edge.
        right_px: Its right edge.
        bottom_px: Its bottom edge.
        score: How sure the detector is; above 0, rarely above 3.
        rotation_degrees: How far the face is tilted clockwise. The box is that of the face turned
            upright about its own middle.
    """

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float
    score: float
    rotation_degrees: float = 0.0

    @property
    def center_px(self) -> tuple[float, float]:
        """The box's middle (x, y)."""
        return (self.left_px + self.right_px) / 2, (self.top_px + self.bottom_px) / 2

    @property
    def side_px(self) -> float:
        """The box's mean side."""
        return (self.right_px - self.left_px + self.bottom_px - self.top_px) / 2


def square_around(face: DetectedFace) -> NDArray[np.float64]:
    """Draw the square in which the aligner looks first, (2, 3)."""
    return square_at(face.center_px, AROUND * face.side_px, rotation_degrees=face.rotation_degrees)


class FaceDetector:
    """Finds faces, in as many threads at a time as ask.

    dlib releases the GIL while it looks, but one of its detectors crashes when two threads use it;
    so each call takes an idle one, or makes another.
    """

    def __init__(self) -> None:
        self._idle: list[dlib.fhog_object_detector] = []

    def detect(self, picture: NDArray[np.uint8]) -> list[DetectedFace]:
        """Find the faces of a photo.

        The photo is looked at reduced to 0.7 megapixels; once more, and four times as closely, if
        that shows no face or a small one; and turned, if that shows none. Nothing found is an
        empty list.

        Args:
            picture: (H, W) or (H, W, C), C 1 or 3, upright.

        Returns:
            The faces, the surest first; none overlaps another.
        """
        photo = grey(picture)
        faces = _apart(self._look(photo, _FIRST_LOOK_PIXELS, enlargement=_FIRST_ENLARGEMENT))
        small_px = _SMALL_FACE * max(photo.shape)
        if not faces or min(face.side_px for face in faces) < small_px:
            closer = self._look(photo, _SECOND_LOOK_PIXELS, enlargement=_SECOND_ENLARGEMENT)
            faces = _apart([*faces, *closer])
        if not faces:
            faces = _apart(
                face for degrees in _TURNS_DEGREES for face in self._look_turned(photo, degrees)
            )
        sure = [face for face in faces if face.score >= _SURE_SCORE]
        return sure or faces[:1]

    def _look(
        self, photo: NDArray[np.uint8], pixels: int, *, enlargement: float
    ) -> list[DetectedFace]:
        """Find upright faces in a copy of a photo that has so many pixels."""
        height, width = photo.shape
        scale = min(enlargement, (pixels / photo.size) ** 0.5)
        size_px = (max(1, round(scale * width)), max(1, round(scale * height)))
        if min(size_px) < _SMALLEST_SIDE_PX:
            return []
        copy = cv2.resize(
            photo, size_px, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        across, down = width / size_px[0], height / size_px[1]
        return [
            DetectedFace(
                left_px=box.left() * across,
                top_px=box.top() * down,
                # dlib's right and bottom are those of the last pixels.
                right_px=(box.right() + 1) * across,
                bottom_px=(box.bottom() + 1) * down,
                score=score,
                rotation_degrees=_TILTS_DEGREES[which],
            )
            for box, score, which in self._run(copy.astype(np.uint8, copy=False))
        ]

    def _look_turned(self, photo: NDArray[np.uint8], degrees: float) -> Iterator[DetectedFace]:
        """Find faces that are tilted clockwise by about some angle."""
        turned, to_photo = _turn_back(photo, degrees)
        for face in self._look(turned, _FIRST_LOOK_PIXELS, enlargement=_FIRST_ENLARGEMENT):
            if face.score >= _LEAST_TURNED_SCORE:
                x, y = (float(place) for place in to_photo @ (*face.center_px, 1))
                half = float(np.hypot(*to_photo[:, 0])) * face.side_px / 2
                tilt = degrees + face.rotation_degrees
                yield DetectedFace(x - half, y - half, x + half, y + half, face.score, tilt)

    def _run(self, picture: NDArray[np.uint8]) -> Iterator[tuple[dlib.rectangle, float, int]]:
        """Run a detector that no other thread uses; boxes, scores and which of the five it was."""
        try:
            detector = self._idle.pop()
        except IndexError:
            detector = dlib.get_frontal_face_detector()
        found = detector.run(picture, 0, _LEAST_SCORE)
        self._idle.append(detector)
        return zip(*found, strict=True)


def _turn_back(
    photo: NDArray[np.uint8], degrees: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Turn a photo counterclockwise, and reduce it to what is looked at.

    Returns:
        The turned photo, and the matrix (2, 3) from its pixels to the photo's.
    """
    turn = square_at((0, 0), 1, rotation_degrees=degrees)[:, :2]
    whole = np.array(photo.shape[::-1])
    scale = min(1.0, (_FIRST_LOOK_PIXELS / np.prod(np.abs(turn) @ whole)) ** 0.5)
    reduced = np.maximum(1, np.rint(scale * whole)).astype(int)
    small = cv2.resize(photo, reduced.tolist(), interpolation=cv2.INTER_AREA)
    size = np.ceil(np.abs(turn) @ reduced).astype(int)
    matrix = np.column_stack([turn, reduced / 2 - turn @ (size / 2)])
    # OpenCV's coordinates are those of pixel centres.
    centers = np.column_stack([turn, matrix @ (0.5, 0.5, 1) - 0.5])
    turned = cv2.warpAffine(
        small,
        centers,
        size.tolist(),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return turned.astype(np.uint8, copy=False), (whole / reduced)[:, None] * matrix


def _apart(faces: Iterable[DetectedFace]) -> list[DetectedFace]:
    """Keep the surest of boxes that cover each other's middle, the surest first."""
    kept: list[DetectedFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(_covers(face, other) or _covers(other, face) for other in kept):
            kept.append(face)
    return kept


def _covers(face: DetectedFace, other: DetectedFace) -> bool:
    x, y = other.center_px
    return face.left_px <= x <= face.right_px and face.top_px <= y <= face.bottom_px
