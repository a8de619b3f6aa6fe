"""Brings faces into one place: squares of photos, and the pixels in them.

A square is a matrix (2, 3): photo = M @ (u, v, 1) for (u, v) in the unit square, both from the top
left corner, photos in pixels. Training cuts its pictures by the same rule with code of its own;
`similarity` and `align` agree with it bit by bit, or the models would see other faces than they
learnt from.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AROUND",
    "align",
    "central_square",
    "grey",
    "similarity",
    "square_at",
    "square_of_points",
    "to_square",
]

AROUND = 1.4
"""Side of the aligner's squares over that of what they are drawn around, as in its training."""


def square_at(
    center_px: tuple[float, float], side_px: float, *, rotation_degrees: float = 0.0
) -> NDArray[np.float64]:
    """Draw a square.

    Args:
        center_px: Its middle (x, y).
        side_px: Its side.
        rotation_degrees: How far it is turned clockwise.

    Returns:
        (2, 3).
    """
    angle = np.deg2rad(rotation_degrees)
    right, down = side_px * np.cos(angle), side_px * np.sin(angle)
    turned = np.array([[right, -down], [down, right]])
    return np.column_stack([turned, np.asarray(center_px) - turned @ (0.5, 0.5)])


def central_square(width_px: int, height_px: int) -> NDArray[np.float64]:
    """Draw the largest square in the middle of a photo."""
    return square_at((width_px / 2, height_px / 2), min(width_px, height_px))


def square_of_points(
    points_px: NDArray[np.floating], template: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Draw the square in which the aligner looks again, upright on the face that it found.

    Args:
        points_px: The template's points in the photo, (5, 2).
        template: Where they lie in the models' square, (5, 2).

    Returns:
        (2, 3): about the models' square, `AROUND` times its side.
    """
    matrix = similarity(points_px, template)
    turned = AROUND * matrix[:, :2]
    return np.column_stack([turned, matrix @ (0.5, 0.5, 1) - turned @ (0.5, 0.5)])


def similarity(
    points_px: NDArray[np.floating], template: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Find the square that brings points closest to the template: least squares, Umeyama (1991).

    Args:
        points_px: The template's points in the photo, (5, 2).
        template: Where they lie in the unit square, (5, 2).

    Returns:
        (2, 3).
    """
    here = template[:, 0] + 1j * template[:, 1]
    there = points_px[:, 0] + 1j * points_px[:, 1].astype(np.float64)
    centred = here - here.mean()
    k = (centred.conj() * there).sum() / (centred.conj() * centred).sum().real
    o = there.mean() - k * here.mean()
    return np.array([[k.real, -k.imag, o.real], [k.imag, k.real, o.imag]])


def to_square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert a square: (u, v) = N @ (x, y, 1) for (x, y) in the photo.

    Returns:
        (2, 3).
    """
    turned = np.linalg.inv(matrix[:, :2])
    return np.column_stack([turned, -turned @ matrix[:, 2]])


def align(
    picture: NDArray[np.uint8], matrix: NDArray[np.float64], *, size_px: int
) -> NDArray[np.uint8]:
    """Cut a square out of a picture.

    Large faces are first reduced by whole factors, then sampled bicubically; what lies outside
    repeats the picture's edge.

    Args:
        picture: (H, W) or (H, W, C).
        matrix: The square, (2, 3).
        size_px: Side of the result.

    Returns:
        (size, size) or (size, size, C); without its axis where C is 1.
    """
    corners = matrix @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    height, width = picture.shape[:2]
    left, top = np.clip(np.floor(corners.min(1)).astype(int) - 2, 0, (width - 1, height - 1))
    right, bottom = np.clip(
        np.ceil(corners.max(1)).astype(int) + 2, (left + 1, top + 1), (width, height)
    )
    part = picture[top:bottom, left:right]
    side_px = float(np.hypot(*matrix[:, 0]))
    factor = max(1, int(side_px / size_px))
    to_part = matrix.copy()
    to_part[:, 2] -= (left, top)
    if factor > 1:
        reduced = (max(1, -(-part.shape[1] // factor)), max(1, -(-part.shape[0] // factor)))
        to_part /= np.array([[part.shape[1] / reduced[0]], [part.shape[0] / reduced[1]]])
        part = cv2.resize(part, reduced, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    # OpenCV's coordinates are those of pixel centres.
    pixels = np.array([[1 / size_px, 0, 0.5 / size_px], [0, 1 / size_px, 0.5 / size_px], [0, 0, 1]])
    whole = to_part @ pixels - np.array([[0, 0, 0.5], [0, 0, 0.5]])
    cut = cv2.warpAffine(
        part,
        whole,
        (size_px, size_px),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cut.astype(np.uint8, copy=False)


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture's luminance, 0.299 R + 0.587 G + 0.114 B.

    Args:
        picture: (H, W) or (H, W, C), C 1 or 3.

    Returns:
        (H, W).
    """
    if picture.ndim == 2:
        return picture
    if picture.shape[2] == 1:
        return picture[..., 0]
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
