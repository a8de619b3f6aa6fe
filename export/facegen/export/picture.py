"""The sample picture of a family: faces drawn by the graphs that are written."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

from facegen.export.runtime import Array, run_rows

__all__ = ["SAMPLE_COUNT", "SampleSheet", "draw_latents", "draw_pictures", "to_png"]

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


def draw_latents(
    prior: onnxruntime.InferenceSession,
    *,
    latent_size: int,
    count: int = SAMPLE_COUNT,
    seed: int = 0,
) -> Array:
    """Draw the latents of faces 0 to `count` of a seed, with the noise that the server gives them.

    Noise: numpy's Philox keyed by (seed, index), Z standard normals, then the uniform.

    Returns:
        (count, Z) float32.
    """
    generators = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(count)]
    noise = np.stack([g.standard_normal(latent_size, dtype=np.float32) for g in generators])
    uniform = np.array([[g.random(dtype=np.float32)] for g in generators], dtype=np.float32)
    return run_rows(prior, {"noise": noise, "uniform": uniform})["latent"]


def draw_pictures(decoder: onnxruntime.InferenceSession, latents: Array) -> Array:
    """Decode latents (N, Z), without features where the decoder takes some, to (N, H, W, C)."""
    rows = {
        tensor.name: np.zeros((len(latents), *tensor.shape[1:]), np.float32)
        for tensor in decoder.get_inputs()
    }
    return run_rows(decoder, {**rows, "latent": latents})["image"]


def to_png(
    sheets: Sequence[SampleSheet], *, columns: int = _COLUMNS, stacked: bool = False
) -> bytes:
    """Lay sheets out, each with its caption, and code them as PNG.

    Args:
        sheets: At least one.
        columns: Faces in a row of a sheet.
        stacked: Below each other, not side by side.
    """
    tiles = [_tile(sheet, columns) for sheet in sheets]
    gap_px = _GAP_PX if stacked else 8 * _GAP_PX
    lefts = [0, *itertools.accumulate(tile.width + gap_px for tile in tiles)]
    tops = [0, *itertools.accumulate(tile.height + gap_px for tile in tiles)]
    largest = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    size = (largest[0], tops[-1] - gap_px) if stacked else (lefts[-1] - gap_px, largest[1])
    page = Image.new("RGB", size, "white")
    for tile, left, top in zip(tiles, lefts, tops, strict=False):
        page.paste(tile, (0, top) if stacked else (left, 0))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(sheet: SampleSheet, columns: int) -> Image.Image:
    count, height, width, channels = sheet.faces.shape
    rows = -(-count // columns)
    tile = Image.new(
        "RGB",
        (
            columns * (width + _GAP_PX) - _GAP_PX,
            _CAPTION_PX + rows * (height + _GAP_PX) - _GAP_PX,
        ),
        "white",
    )
    ImageDraw.Draw(tile).text((0, 1), sheet.caption, fill="black")
    for index, face in enumerate(sheet.faces):
        row, column = divmod(index, columns)
        picture = Image.fromarray(face[:, :, 0] if channels == 1 else face)
        tile.paste(picture, (column * (width + _GAP_PX), _CAPTION_PX + row * (height + _GAP_PX)))
    return tile
