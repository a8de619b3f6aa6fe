"""Pictures of one size in rows and columns, with words above, beside and below them."""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facegen.training.mesh.colours import colour_bar

__all__ = ["beside_colour_bar", "lay_out", "png"]

_INK = (60, 56, 54)
_GAP_PX = 4

Picture = NDArray[np.uint8]


def lay_out(
    rows: Sequence[Sequence[Picture]],
    *,
    above: Sequence[str] = (),
    beside: Sequence[str] = (),
    below: Sequence[Sequence[str]] = (),
    text_px: int = 13,
) -> Picture:
    """Lay pictures out on white.

    Args:
        rows: Pictures of one size, (H, W, 3); the last row may be shorter.
        above: A title a column.
        beside: A title a row, at its left.
        below: A caption a picture.
        text_px: Size of the words.

    Returns:
        The sheet, (H, W, 3).
    """
    font = _font(text_px)
    line_px = round(1.5 * text_px)
    height, width = rows[0][0].shape[:2]
    left = max((round(font.getlength(it)) + text_px for it in beside), default=0)
    top = line_px if above else 0
    row_px = height + (line_px if below else 0) + _GAP_PX
    column_px = width + _GAP_PX
    columns = max(len(row) for row in rows)
    size = (left + columns * column_px - _GAP_PX, top + len(rows) * row_px - _GAP_PX)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, word in enumerate(above):
        x = left + column * column_px + width // 2
        pen.text((x, top // 2), word, fill=_INK, font=font, anchor="mm")
    for row, pictures in enumerate(rows):
        y = top + row * row_px
        if beside:
            place = (left - text_px // 2, y + height // 2)
            pen.text(place, beside[row], fill=_INK, font=font, anchor="rm")
        for column, picture in enumerate(pictures):
            x = left + column * column_px
            sheet.paste(Image.fromarray(picture), (x, y))
            if below:
                place = (x + width // 2, y + height + line_px // 2)
                pen.text(place, below[row][column], fill=_INK, font=font, anchor="mm")
    return np.asarray(sheet)


def beside_colour_bar(sheet: Picture, *, limit_mm: float, text_px: int = 13) -> Picture:
    """A sheet with the scale of `error_colours` at its right, from 0 to the limit.

    Args:
        sheet: (H, W, 3).
        limit_mm: The error of the last colour.
        text_px: Size of the words.
    """
    font = _font(text_px)
    height, width = sheet.shape[:2]
    words = [f"{limit_mm * it / 4:.3g}" for it in range(4)] + [f"≥ {limit_mm:.3g} mm"]
    bar_px = min(height - 2 * text_px, 20 * text_px)
    room = 3 * text_px + round(max(font.getlength(it) for it in words))
    page = Image.new("RGB", (width + room, height), "white")
    page.paste(Image.fromarray(sheet), (0, 0))
    top = (height - bar_px) // 2
    x = width + text_px
    page.paste(Image.fromarray(colour_bar(height_px=bar_px, width_px=text_px)), (x, top))
    pen = ImageDraw.Draw(page)
    for step, word in enumerate(words):
        y = top + bar_px - 1 - round(step / 4 * (bar_px - 1))
        pen.text((x + round(1.5 * text_px), y), word, fill=_INK, font=font, anchor="lm")
    return np.asarray(page)


def png(picture: Picture) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@lru_cache(maxsize=4)
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # Pillow's own has no σ.
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size_px)
