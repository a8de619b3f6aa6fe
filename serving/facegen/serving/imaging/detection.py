"""Finds faces in photos: histograms of oriented gradients, Dalal & Triggs (2005), as dlib has them.

dlib carries its detector in its library, so that nothing is downloaded. It sees faces of 80 pixels
and more, tilted by up to about 15 degrees.
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
_TILTED_LOOK_PIXELS = 640 * 480
# Small pictures are enlarged. Past this, hair and collars turned into faces before more were found.
_FIRST_ENLARGEMENT, _SECOND_ENLARGEMENT = 2.0, 4.0
_SMALLEST_SIDE_PX = 60
# Where a face takes less than this of the picture, others may have been too small to be found.
_SMALL_FACE = 1 / 8
_SURE_SCORE, _LEAST_SCORE = 0.15, 0.0
# Turned pictures give more boxes without a face.
_LEAST_TILTED_SCORE = 0.15
_TILTS_DEGREES = (-60.0, -30.0, 30.0, 60.0)


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
                face for tilt in _TILTS_DEGREES for face in self._look_tilted(photo, tilt)
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
                left_px=left * across,
                top_px=top * down,
                right_px=right * across,
                bottom_px=bottom * down,
                score=score,
            )
            for left, top, right, bottom, score in self._boxes(copy.astype(np.uint8, copy=False))
        ]

    def _look_tilted(self, photo: NDArray[np.uint8], degrees: float) -> Iterator[DetectedFace]:
        """Find faces that are tilted clockwise by about some angle."""
        turned, to_photo = _turn_back(photo, degrees)
        for face in self._look(turned, _TILTED_LOOK_PIXELS, enlargement=_FIRST_ENLARGEMENT):
            if face.score >= _LEAST_TILTED_SCORE:
                x, y = (float(place) for place in to_photo @ (*face.center_px, 1))
                half = float(np.hypot(*to_photo[:, 0])) * face.side_px / 2
                yield DetectedFace(x - half, y - half, x + half, y + half, face.score, degrees)

    def _boxes(self, picture: NDArray[np.uint8]) -> list[tuple[float, float, float, float, float]]:
        """Run a detector that no other thread uses; left, top, right, bottom and score of boxes."""
        try:
            detector = self._idle.pop()
        except IndexError:
            detector = dlib.get_frontal_face_detector()
        boxes, scores, _ = detector.run(picture, 0, _LEAST_SCORE)
        self._idle.append(detector)
        # dlib's right and bottom are those of the last pixels.
        return [
            (box.left(), box.top(), box.right() + 1, box.bottom() + 1, score)
            for box, score in zip(boxes, scores, strict=True)
        ]


def _turn_back(
    photo: NDArray[np.uint8], degrees: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Turn a photo counterclockwise, and reduce it to what is looked at of a turned one.

    Returns:
        The turned photo, and the matrix (2, 3) from its pixels to the photo's.
    """
    height, width = photo.shape
    scale = min(1.0, (_TILTED_LOOK_PIXELS / photo.size) ** 0.5)
    small = cv2.resize(
        photo,
        (max(1, round(scale * width)), max(1, round(scale * height))),
        interpolation=cv2.INTER_AREA,
    )
    to_photo = np.array([[width / small.shape[1]], [height / small.shape[0]]])
    middle = np.array([small.shape[1], small.shape[0]]) / 2
    turn = square_at((0, 0), 1, rotation_degrees=degrees)[:, :2]
    size = np.ceil(2 * np.abs(turn) @ middle).astype(int)
    matrix = np.column_stack([turn, middle - turn @ (size / 2)])
    # OpenCV's coordinates are those of pixel centres.
    centers = np.column_stack([turn, matrix @ (0.5, 0.5, 1) - 0.5])
    turned = cv2.warpAffine(
        small,
        centers,
        (int(size[0]), int(size[1])),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return turned.astype(np.uint8, copy=False), to_photo * matrix


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
