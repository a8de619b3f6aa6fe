"""Draws sheets of captioned pictures, to compare them at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["SheetPicture", "contact_sheet"]

_PAPER, _INK = (255, 255, 255), (40, 40, 40)
# In fractions of a tile's side.
_GAP, _CAPTION, _LETTER = 0.05, 0.12, 0.065


@dataclass(frozen=True, slots=True)
class SheetPicture:
    """A picture of a sheet.

    Attributes:
        pixels: (H, W) or (H, W, C), C 1 or 3.
        caption: What is written below it.
    """

    pixels: NDArray[np.uint8]
    caption: str


def contact_sheet(
    pictures: Sequence[SheetPicture], *, tile_px: int = 400, columns: int | None = None
) -> NDArray[np.uint8]:
    """Lay pictures out in rows, each with its caption below.

    Args:
        pictures: At least one, in the order of reading.
        tile_px: The longer side of the largest picture; all are scaled alike to fit.
        columns: Pictures in a row; None for as many as make the sheet about 3 : 2.

    Returns:
        (H, W, 3).
    """
    width_px, height_px = _tile_size([picture.pixels.shape for picture in pictures], tile_px)
    gap, caption_px = round(_GAP * tile_px), round(_CAPTION * tile_px)
    across, down = width_px + gap, height_px + caption_px
    columns = columns or _columns(len(pictures), across / down)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * across + gap, rows * down + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(8, round(_LETTER * tile_px)))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        left, top = gap + column * across, gap + row * down
        tile = _fit(picture.pixels, (tile_px, tile_px))
        sheet.paste(tile, (left + (width_px - tile.width) // 2, top + (height_px - tile.height)))
        caption = _shorten(picture.caption, font, width_px)
        middle = (left + width_px / 2, top + height_px + (caption_px - gap / 2) / 2)
        draw.text(middle, caption, fill=_INK, font=font, anchor="mm")
    return np.asarray(sheet)


def _tile_size(shapes: Sequence[tuple[int, ...]], tile_px: int) -> tuple[int, int]:
    """Find the width and height that hold every picture at the sheet's scale."""
    sizes = [_scaled((shape[1], shape[0]), (tile_px, tile_px)) for shape in shapes]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _scaled(size_px: tuple[int, int], box_px: tuple[int, int]) -> tuple[int, int]:
    """Scale a width and height to fill a box."""
    scale = min(box_px[0] / size_px[0], box_px[1] / size_px[1])
    return max(1, round(scale * size_px[0])), max(1, round(scale * size_px[1]))


def _columns(count: int, tile_aspect: float) -> int:
    """Find how many columns make a sheet about 3 : 2, with as few empty places as can be."""

    def oddness(columns: int) -> float:
        rows = -(-count // columns)
        aspect = columns * tile_aspect / rows
        return abs(float(np.log(aspect / 1.5))) + (columns * rows - count) / count

    return min(range(1, count + 1), key=oddness)


def _fit(pixels: NDArray[np.uint8], box_px: tuple[int, int]) -> Image.Image:
    """Scale a picture to fill a box."""
    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    picture = Image.fromarray(squeezed).convert("RGB")
    return picture.resize(_scaled(picture.size, box_px), Image.Resampling.LANCZOS)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """Cut a caption that is wider than its picture."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}…") > width_px:
        text = text[:-1]
    return f"{text}…"
