"""Adds to a photo what moving its latent changes, at the photo's own size.

Models draw small pictures, and blurred ones. What they change is smooth: laid over the photo it
leaves skin, hair and all that no model draws as they were.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from facegen.serving.imaging.splines import border_fade, interpolation_matrix

__all__ = ["add_change", "reduced"]

# The raster has nodes at all pixel centres of the models' pictures and in between, as many as the
# border needs; more show nothing new.
_NODES_A_PIXEL, _LEAST_NODES, _MOST_NODES = 4, 96, 768
# A band of rows fits the CPU's cache, and what it costs does not grow with the face.
_BAND_PIXELS = 128 * 1024
_LUMINANCE = (0.299, 0.587, 0.114)


def add_change(
    photo: NDArray[np.uint8],
    change: NDArray[np.int16],
    square: tuple[float, float, float, float],
) -> NDArray[np.uint8]:
    """Add a change of the model's picture to the square of the photo that the model saw.

    It fades out towards those edges of the square that lie inside of the photo. Outside of the
    square pixels stay bit for bit; all do where nothing changes. A grey photo stays grey: it gets
    the change's luminance.

    Args:
        photo: (H, W, C), C 1 or 3.
        change: (h, w, c), levels, c 1 or 3.
        square: Its left, top, right and bottom edge in the photo, in pixels.

    Returns:
        A new photo of the same shape.
    """
    edited = photo.copy()
    if not change.any():
        return edited
    left, top, right, bottom = (round(edge) for edge in square)
    raster = _raster(photo, change, square)
    step_x, step_y = (
        (raster.shape[1] - 1) / (square[2] - square[0]),
        (raster.shape[0] - 1) / (square[3] - square[1]),
    )
    rows = max(1, _BAND_PIXELS // max(1, right - left))
    for y in range(top, bottom, rows):
        band = edited[y : min(y + rows, bottom), left:right]
        # OpenCV's coordinates are those of pixel centres; the raster's nodes lie on the edges too.
        to_nodes = np.array(
            [
                [step_x, 0, (left + 0.5 - square[0]) * step_x],
                [0, step_y, (y + 0.5 - square[1]) * step_y],
            ]
        )
        levels = cv2.warpAffine(
            raster,
            to_nodes,
            (band.shape[1], band.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(*band.shape[:2], -1)
        band[...] = np.clip(np.rint(band + levels), 0, 255).astype(np.uint8)
    return edited


def reduced(
    photo: NDArray[np.uint8], square: tuple[float, float, float, float], *, most_px: int
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """Reduce a photo whose longer side is above a limit, and a square in it likewise.

    Args:
        photo: (H, W, C).
        square: Its left, top, right and bottom edge.
        most_px: The limit.

    Returns:
        (H', W', C), and the square in it.
    """
    height_px, width_px, channels = photo.shape
    factor = most_px / max(height_px, width_px)
    if factor >= 1:
        return photo, square
    size = max(1, round(width_px * factor)), max(1, round(height_px * factor))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    x, y = size[0] / width_px, size[1] / height_px
    left, top, right, bottom = square
    return small.reshape(size[1], size[0], channels), (left * x, top * y, right * x, bottom * y)


def _raster(
    photo: NDArray[np.uint8],
    change: NDArray[np.int16],
    square: tuple[float, float, float, float],
) -> NDArray[np.float32]:
    """Evaluate a change on a fine raster of its square, edges included: (R + 1, S + 1[, C])."""
    height_px, width_px, channels = photo.shape
    left, top, right, bottom = square
    levels = change.astype(np.float32)
    if channels == 1 and levels.shape[2] == 3:
        levels = levels @ np.array(_LUMINANCE, np.float32)[:, None]
    # Of a square that is smaller than the model's picture, some pixels would be left out.
    size = tuple(
        max(1, min(pixels, round(end - start)))
        for pixels, start, end in ((levels.shape[0], top, bottom), (levels.shape[1], left, right))
    )
    cells = cv2.resize(levels, size[::-1], interpolation=cv2.INTER_AREA).reshape(*size, -1)
    down = _basis(size[0], first=top > 0, last=bottom < height_px)
    across = _basis(size[1], first=left > 0, last=right < width_px)
    raster = np.einsum("ih,hwc,jw->ijc", down, cells, across, optimize=True)
    return np.ascontiguousarray(np.broadcast_to(raster, (*raster.shape[:2], channels)), np.float32)


def _basis(size: int, *, first: bool, last: bool) -> NDArray[np.float64]:
    """What a row of pixels is multiplied by: (nodes, size), faded at the edges that are asked."""
    nodes = max(size, min(_MOST_NODES, max(_LEAST_NODES, _NODES_A_PIXEL * size)))
    places = np.arange(nodes + 1) / nodes
    fade = border_fade(places)
    kept = np.where(places < 0.5, not first, not last)
    return np.where(kept, 1.0, fade)[:, None] * interpolation_matrix(places, size)
