"""Errors as colours: clay where there is none, through orange and red to a dark violet."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["colour_bar", "error_colours"]

# sRGB at equal steps; ever darker, so that the order shows without colour vision too.
_RAMP = np.array(
    [(238, 230, 222), (250, 196, 120), (236, 110, 70), (176, 36, 90), (74, 12, 92)], np.float32
)

Picture = NDArray[np.uint8]


def error_colours(errors_mm: NDArray[np.floating], limit_mm: float) -> Picture:
    """The colour of each error.

    Args:
        errors_mm: Any shape, in millimetres, 0 or more.
        limit_mm: What has the last colour; larger errors have it too.

    Returns:
        sRGB, with a last axis of 3.
    """
    places = np.clip(np.asarray(errors_mm, np.float64) / limit_mm, 0, 1)
    steps = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(places, steps, _RAMP[:, it]) for it in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def colour_bar(*, height_px: int, width_px: int) -> Picture:
    """The colours from the limit, at the top, to no error: (height_px, width_px, 3)."""
    column = error_colours(np.linspace(1, 0, height_px), 1)
    return np.repeat(column[:, None], width_px, axis=1)
