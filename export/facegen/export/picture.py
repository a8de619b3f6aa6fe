"""The sample picture of a family: faces drawn by the graphs that are written."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

from facegen.export.runtime import Array, run_rows

__all__ = ["SAMPLE_COUNT", "SampleSheet", "draw_samples", "to_png"]

SAMPLE_COUNT = 32
"""Faces of each prior on the picture."""

_COLUMNS = 8
_GAP_PX = 2
_CAPTION_PX = 16


@dataclass(frozen=True, slots=True)
class SampleSheet:
    """Faces under a caption.

    Attributes:
        caption: What they are.
        faces: (N, H, W, C) uint8.
    """

    caption: str
    faces: Array


def draw_samples(
    prior: onnxruntime.InferenceSession,
    decoder: onnxruntime.InferenceSession,
    *,
    latent_size: int,
    count: int = SAMPLE_COUNT,
    seed: int = 0,
) -> Array:
    """Draw faces 0 to `count` of a seed, with the noise that the server gives them.

    Noise: numpy's Philox keyed by (seed, index), Z standard normals, then the uniform.

    Returns:
        (count, H, W, C) uint8.
    """
    generators = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(count)]
    noise = np.stack([g.standard_normal(latent_size, dtype=np.float32) for g in generators])
    uniform = np.array([[g.random(dtype=np.float32)] for g in generators], dtype=np.float32)
    latents = run_rows(prior, {"noise": noise, "uniform": uniform})["latent"]
    return run_rows(decoder, {"latent": latents})["image"]


def to_png(sheets: Sequence[SampleSheet]) -> bytes:
    """Lay sheets out beside each other, each with its caption, and code them as PNG."""
    tiles = [_tile(sheet) for sheet in sheets]
    height = max(tile.height for tile in tiles)
    width = sum(tile.width for tile in tiles) + 8 * _GAP_PX * (len(tiles) - 1)
    page = Image.new("RGB", (width, height), "white")
    left = 0
    for tile in tiles:
        page.paste(tile, (left, 0))
        left += tile.width + 8 * _GAP_PX
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(sheet: SampleSheet) -> Image.Image:
    count, height, width, channels = sheet.faces.shape
    rows = -(-count // _COLUMNS)
    tile = Image.new(
        "RGB",
        (
            _COLUMNS * (width + _GAP_PX) - _GAP_PX,
            _CAPTION_PX + rows * (height + _GAP_PX) - _GAP_PX,
        ),
        "white",
    )
    ImageDraw.Draw(tile).text((0, 1), sheet.caption, fill="black")
    for index, face in enumerate(sheet.faces):
        row, column = divmod(index, _COLUMNS)
        picture = Image.fromarray(face[:, :, 0] if channels == 1 else face)
        tile.paste(picture, (column * (width + _GAP_PX), _CAPTION_PX + row * (height + _GAP_PX)))
    return tile
