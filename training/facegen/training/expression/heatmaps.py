"""Pictures of where edits change faces."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facegen.training.expression.change import ChangeMaps
from facegen.training.expression.sources import Pixels

__all__ = ["draw_flow", "draw_heat"]

_SIDE_PX = 192
_ARROWS = 12
_GAIN = 3  # arrows are longer than the movement: it is of a few pixels


def draw_heat(values: NDArray[np.floating], *, most: float) -> Pixels:
    """Draw a map from black (0) to yellow.

    Args:
        values: (H, W), not negative.
        most: What is drawn as the brightest.

    Returns:
        (192, 192, 3).
    """
    share = np.clip(values / max(most, 1e-9), 0, 1).astype(np.float32)
    large = np.asarray(
        Image.fromarray(share).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
    )
    colours = colormaps["inferno"](np.clip(large, 0, 1))[..., :3]
    return np.asarray(np.rint(colours * 255), dtype=np.uint8)


def draw_flow(maps: ChangeMaps) -> Pixels:
    """Draw where the mean face's pixels go, three times as far, (192, 192, 3)."""
    grey = np.clip(maps.face * 0.6 + 20, 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
    canvas = picture.convert("RGB")
    draw = ImageDraw.Draw(canvas)
    size = maps.face.shape[0]
    scale = _SIDE_PX / size
    for y in (np.arange(_ARROWS) + 0.5) * size / _ARROWS:
        for x in (np.arange(_ARROWS) + 0.5) * size / _ARROWS:
            # The flow says where a pixel comes from; it goes the other way.
            right, down = -maps.flow_px[int(y), int(x)] * _GAIN
            start = (x * scale, y * scale)
            end = ((x + right) * scale, (y + down) * scale)
            draw.line([start, end], fill=(255, 196, 61), width=2)
            draw.ellipse([end[0] - 2, end[1] - 2, end[0] + 2, end[1] + 2], fill=(255, 120, 60))
    return np.asarray(canvas)
