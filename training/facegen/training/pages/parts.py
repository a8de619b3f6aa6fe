"""What pages are made of: tables, numbers, tiles and pictures as HTML."""

import base64
import io
import math
import re
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "animation",
    "lighter",
    "number",
    "picture",
    "shaded",
    "share",
    "strip",
    "table",
    "terms",
    "tile",
]

Pixels = NDArray[np.uint8]


def picture(image: Pixels, text: str) -> str:
    """A picture (H, W, 1, 3 or 4) uint8 as an element that holds its file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG", optimize=True
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def animation(gif: bytes, text: str) -> str:
    """An animated GIF as an element that holds its file."""
    data = base64.b64encode(gif).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/gif;base64,{data}">'


def lighter(html: str) -> str:
    """A page with its pictures as WebP of quality 90: a sixth of the size, for passing on."""

    def compressed(found: re.Match[str]) -> str:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(found[1]))).save(buffer, "WEBP", quality=90)
        return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"

    return re.sub("data:image/png;base64,([A-Za-z0-9+/=]+)", compressed, html)


def strip(images: Pixels, text: str, *, gap_px: int = 1) -> str:
    """Pictures (N, H, W, C) uint8 side by side in one element."""
    count, height, width, _ = images.shape
    joined = np.zeros((height, count * (width + gap_px) - gap_px, 4), np.uint8)  # clear
    for index, image in enumerate(images):
        left = index * (width + gap_px)
        joined[:, left : left + width, :3] = image
        joined[:, left : left + width, 3] = 255
    return picture(joined, text)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_mean: bool = False
) -> str:
    """A table of finished cells (`<td>…`), the first of each row its heading as plain text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = []
    for index, (label, *cells) in enumerate(rows):
        kind = " class=mean" if last_is_mean and index == len(rows) - 1 else ""
        lines.append(f"<tr{kind}><th>{escape(label)}</th>{''.join(cells)}</tr>")
    return f"<div class=wide><table class=numbers><tr>{head}</tr>{''.join(lines)}</table></div>"


def terms(rows: Sequence[tuple[str, str, str]]) -> str:
    """Names with a value and its meaning, all of them plain text; on a phone in two lines."""
    lines = "".join(
        f"<code>{escape(name)}</code><b>{escape(value).replace('-', '−')}</b>"
        f"<span>{escape(meaning)}</span>"
        for name, value, meaning in rows
    )
    return f"<div class=terms>{lines}</div>"


def share(value: float) -> str:
    """A share with two digits; a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def shaded(value: float) -> str:
    """A share as a cell, the darker the more."""
    if math.isnan(value):
        return "<td>–</td>"
    return f'<td style="--share:{100 * value:.0f}%" class=shaded>{value:.2f}</td>'


def number(value: float, digits: int = 2) -> str:
    """A number as a cell."""
    return "<td>–</td>" if math.isnan(value) else f"<td>{value:,.{digits}f}</td>"


def tile(value: str, name: str, note: str, *, filled: float | None = None) -> str:
    """A headline number, what it is, and what to hold it against.

    Args:
        value: The number as text.
        name: What it is.
        note: Plain words below it.
        filled: Length of a bar, 0 to 1; None: no bar.
    """
    width = 0.0 if filled is None else 100 * min(max(filled, 0.0), 1.0)
    bar = "" if filled is None else f'<i class=bar><i style="width:{width:.1f}%"></i></i>'
    return (
        f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span>{bar}"
        f"<small>{escape(note)}</small></div>"
    )
