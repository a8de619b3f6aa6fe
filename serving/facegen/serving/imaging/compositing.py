"""Puts an edited face back into its photo, at the photo's own size.

The models draw 48 x 48 pixels and move cells of a 24 x 24 grid. What they draw is sampled as the
smooth function that it stands for, so that large photos show no blocks; the photo keeps its own
pixels wherever an edit leaves them alone.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facegen.serving.imaging.alignment import align, grey, to_square
from facegen.serving.imaging.splines import border_fade, interpolation_matrix, spline_matrix

__all__ = ["FaceEdit", "composite"]

# The raster has nodes at all pixel centres of 48 and in between; past 768 nodes none shows.
_NODES, _MOST_NODES = 96, 768
# A band of rows fits the CPU's cache, and what it costs does not grow with the face.
_BAND_PIXELS = 128 * 1024
# Content that is so many levels brighter than what it is laid on has lost that one's colour.
_OTHER_THING = 64
# How much of the colour of a face is the light's: faces are redder than it.
_LIGHT = 0.6
# OpenCV's remap takes no longer side than this, less the margin around the band.
_LONGEST_PX = 32_000


@dataclass(frozen=True, slots=True)
class FaceEdit:
    """How a decoder changes an aligned face; Pumarola et al. (2018), with a flow beside.

    Attributes:
        content: (N, N): the face with its new expression, grey.
        mask: (C, C) in [0, 1]: how much of the content shows.
        flow: (C, C, 2): where each pixel comes from, to the right and down of its own place, as
            fractions of the square's side.
    """

    content: NDArray[np.uint8]
    mask: NDArray[np.float32]
    flow: NDArray[np.float32]


def composite(
    photo: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    edit: FaceEdit,
    strength: float = 1.0,
) -> NDArray[np.uint8]:
    """Edit a face where it stands in a photo.

    y = (1 - A) · warp(x) + A · content, https://arxiv.org/abs/1807.09251, equation 1, of the
    luminance; colours are moved along, but for what content makes much brighter: that is teeth, not
    skin, and takes the colour of the light on the face. Pixels outside of the square, and those
    where mask and flow are 0, stay bit for bit; so do all at strength 0.

    Args:
        photo: (H, W) or (H, W, C), C 1 or 3.
        matrix: The square that the model saw, (2, 3).
        edit: What the model drew of it.
        strength: Scales mask and flow; masks stop at 1.

    Returns:
        A new photo of the same shape.
    """
    edited = photo.copy()
    height, width = photo.shape[:2]
    corners = matrix @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    left, top = np.clip(np.floor(corners.min(1)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(1)), 0, (width, height)).astype(int)
    if strength == 0 or left >= right or top >= bottom:
        return edited
    side_px = float(np.hypot(*matrix[:, 0]))
    raster = _raster(edit, strength, side_px)
    light = _light(photo, matrix)
    columns = min(int(right - left), _LONGEST_PX)
    rows = max(1, _BAND_PIXELS // columns)
    for y in range(top, bottom, rows):
        for x in range(left, right, columns):
            _edit_band(
                photo,
                edited,
                matrix,
                raster,
                light,
                (x, y, min(x + columns, right), min(y + rows, bottom)),
            )
    return edited


def _edit_band(
    photo: NDArray[np.uint8],
    edited: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    raster: NDArray[np.float32],
    light: NDArray[np.float32],
    band: tuple[int, int, int, int],
) -> None:
    """Edit the pixels of one rectangle (left, top, right, bottom)."""
    left, top, right, bottom = band
    content, mask, *flow = cv2.split(_sample(raster, matrix, band))
    if not any(plane.any() for plane in (mask, *flow)):
        return
    to_photo = matrix[:, :2].astype(np.float32)
    across = to_photo[0, 0] * flow[0] + to_photo[0, 1] * flow[1]
    down = to_photo[1, 0] * flow[0] + to_photo[1, 1] * flow[1]
    warped = _warp(photo, across, down, band)
    luminance = grey(warped)
    change = mask * (content - luminance)
    changes = change if warped.ndim == 2 else cv2.merge([change] * 3)
    if warped.ndim == 3 and change.max() > 0:
        other = np.clip(change / _OTHER_THING, 0, 1)[..., None]
        lit = (luminance + change)[..., None] * light
        changes += other * (lit - warped - changes)
    result = cv2.add(warped, np.rint(changes).astype(np.int16), dtype=cv2.CV_8U)
    edited[top:bottom, left:right] = result.reshape(edited[top:bottom, left:right].shape)


def _light(photo: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The colour of the light on a face, (3,) about 1: what skin has of it; ones for grey."""
    if photo.ndim == 2 or photo.shape[2] == 1:
        return np.ones(3, np.float32)
    skin = align(photo, matrix, size_px=16)[4:12, 4:12]
    brightness = max(1.0, float(grey(skin).mean()))
    light: NDArray[np.float32] = 1 + _LIGHT * (skin.mean((0, 1), np.float32) / brightness - 1)
    return light


def _sample(
    raster: NDArray[np.float32], matrix: NDArray[np.float64], band: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Sample a raster of the unit square at a band's pixels: (rows, columns, 4), 0 outside."""
    left, top, right, bottom = band
    to_nodes = to_square(matrix) * (len(raster) - 1)
    # OpenCV's coordinates are those of pixel centres; the raster's nodes lie on the edges too.
    to_nodes[:, 2] += to_nodes[:, :2] @ (left + 0.5, top + 0.5)
    sampled = cv2.warpAffine(
        raster,
        to_nodes,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return sampled.astype(np.float32, copy=False)


def _warp(
    photo: NDArray[np.uint8],
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    band: tuple[int, int, int, int],
) -> NDArray[np.uint8]:
    """Take each of a band's pixels from so many pixels to its right and down.

    Returns:
        (rows, columns) or (rows, columns, 3).
    """
    left, top, right, bottom = band
    height, width = photo.shape[:2]
    near_left = max(0, left - 2 + int(np.floor(across.min())))
    near_top = max(0, top - 2 + int(np.floor(down.min())))
    part = photo[
        near_top : min(height, bottom + 3 + int(np.ceil(down.max()))),
        near_left : min(width, right + 3 + int(np.ceil(across.max()))),
    ]
    columns = np.arange(left - near_left, right - near_left, dtype=np.float32)
    rows = np.arange(top - near_top, bottom - near_top, dtype=np.float32)
    warped = cv2.remap(
        part,
        across + columns,
        down + rows[:, None],
        interpolation=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return warped.astype(np.uint8, copy=False)


def _raster(edit: FaceEdit, strength: float, side_px: float) -> NDArray[np.float32]:
    """Evaluate an edit on a fine raster of its square, edges included.

    Returns:
        (R + 1, R + 1, 4): content, mask, and flow to the right and down; on the edges 0.
    """
    nodes = min(_MOST_NODES, _NODES * max(1, round(side_px / _NODES)))
    # Of a face that is smaller than the content, some pixels would be left out.
    size = min(edit.content.shape[0], max(len(edit.mask), round(side_px)))
    content = cv2.resize(
        edit.content.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA
    )
    interpolation, spline, fade = _bases(nodes, size, len(edit.mask))
    fade = strength * fade
    planes = [
        interpolation @ content @ interpolation.T,
        np.minimum(fade * (spline @ edit.mask @ spline.T), 1),
        fade * (spline @ edit.flow[..., 0] @ spline.T),
        fade * (spline @ edit.flow[..., 1] @ spline.T),
    ]
    return np.stack(planes, -1).astype(np.float32)


@lru_cache(maxsize=32)
def _bases(
    nodes: int, size: int, cells: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What a raster's contents, cells and borders are multiplied by; half of a small face's cost.

    Returns:
        (R + 1, size), (R + 1, cells) and (R + 1, R + 1).
    """
    places = np.arange(nodes + 1) / nodes
    fade = border_fade(places)
    bases = (
        interpolation_matrix(places, size),
        spline_matrix(places, cells),
        fade[:, None] * fade,
    )
    for basis in bases:
        basis.flags.writeable = False
    return bases
