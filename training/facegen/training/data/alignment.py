"""Brings faces into one place: the square that models of aligned faces see, from five points.

Serving cuts photos by the same rule with code of its own; a test compares the two bit by bit.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["TEMPLATE", "align", "fits_template", "square_to_picture"]

_MOST_OUTSIDE = 0.25
_LARGEST_RESIDUAL = 0.05

TEMPLATE = np.array(
    [[0.7476, 0.363], [0.6057, 0.371], [0.2524, 0.363], [0.3943, 0.371], [0.5, 0.632]]
)
"""Where the points lie in the square, (5, 2) from its top left corner: outer and inner corner of
the eye on the right of the picture, of that on its left, base of the nose. The mean of FER2013's
frames, made symmetric and moved up by 0.022 to keep the chin in the picture."""


def square_to_picture(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Find the similarity from the square to a picture: least squares, Umeyama (1991).

    Args:
        points: The template's points in the picture, (5, 2) in pixels from its top left corner.

    Returns:
        (2, 3): picture = M @ (x, y, 1) for (x, y) in the unit square.
    """
    template = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
    there = points[:, 0] + 1j * points[:, 1].astype(np.float64)
    centred = template - template.mean()
    k = (centred.conj() * there).sum() / (centred.conj() * centred).sum().real
    o = there.mean() - k * template.mean()
    return np.array([[k.real, -k.imag, o.real], [k.imag, k.real, o.imag]])


def fits_template(
    matrix: NDArray[np.float64], points: NDArray[np.floating], *, side_px: int
) -> bool:
    """Whether a face lies inside its picture and its points lie as the template's do.

    Args:
        matrix: From `square_to_picture`.
        points: What it was found from.
        side_px: Of the picture, a square.
    """
    inside = _outside(matrix, side_px) < _MOST_OUTSIDE
    return inside and _residual(matrix, points) < _LARGEST_RESIDUAL


def align(
    picture: NDArray[np.uint8], matrix: NDArray[np.float64], *, size_px: int
) -> NDArray[np.uint8]:
    """Cut a square out of a picture.

    Large faces are first reduced by whole factors, then sampled bicubically; what lies outside
    repeats the picture's edge.

    Args:
        picture: (H, W) or (H, W, C) uint8.
        matrix: From `square_to_picture`.
        size_px: Side of the result.

    Returns:
        (size, size) or (size, size, C) uint8.
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
    square = cv2.warpAffine(
        part,
        whole,
        (size_px, size_px),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return square.astype(np.uint8, copy=False)


def _outside(matrix: NDArray[np.float64], side_px: int) -> float:
    """The share of the square that lies outside the picture."""
    place = (np.arange(12) + 0.5) / 12
    square = np.stack([*np.meshgrid(place, place), np.ones((12, 12))]).reshape(3, -1)
    there = matrix @ square
    return float(((there < 0) | (there > side_px)).any(0).mean())


def _residual(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> float:
    """Mean distance of the points from the template, in the square's sides."""
    fitted = TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
    distances = np.linalg.norm(fitted - points, axis=1)
    return float(distances.mean() / np.hypot(*matrix[:, 0]))
