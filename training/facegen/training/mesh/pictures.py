"""Sheets of meshes: input beside output, samples, walks along latent axes, still and moving."""

import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegen.training.mesh.colours import error_colours
from facegen.training.mesh.rendering import BACKGROUND, View, render
from facegen.training.mesh.sheets import beside_colour_bar, lay_out

__all__ = [
    "comparison_sheet",
    "error_limit_mm",
    "sample_sheet",
    "swing",
    "traversal_gif",
    "traversal_sheet",
]

_LIMIT_SHARE = 0.99
_COLOURS = 96  # of a GIF: clay has few, and each costs bytes

_T = TypeVar("_T")
_R = TypeVar("_R")

Reals = NDArray[np.float32]
Faces = NDArray[np.int32]
Picture = NDArray[np.uint8]


def comparison_sheet(
    inputs: Reals,
    outputs: Reals,
    faces: Faces,
    *,
    view: View | None = None,
    limit_mm: float | None = None,
    titles: Sequence[str] = (),
    columns: int = 1,
    height_px: int = 256,
) -> Picture:
    """Draw inputs beside outputs and beside the error on the surface, with its scale.

    Args:
        inputs: (N, V, 3) float32 in millimetres.
        outputs: Their reconstructions, (N, V, 3).
        faces: Triangles, (F, 3).
        view: The camera; without one it holds all inputs.
        limit_mm: The error of the last colour; without one `error_limit_mm`.
        titles: A name a mesh.
        columns: How many meshes stand side by side.
        height_px: Height of one picture.

    Returns:
        The sheet, (H, W, 3); each error's caption is its mean over the vertices.
    """
    view = view or View.around(inputs)
    errors = np.linalg.norm(outputs - inputs, axis=2)
    limit_mm = limit_mm or error_limit_mm(errors)
    colours = error_colours(errors, limit_mm)
    drawn = _drawn(
        lambda it: (
            render(inputs[it], faces, view=view, height_px=height_px),
            render(outputs[it], faces, view=view, height_px=height_px),
            render(outputs[it], faces, view=view, height_px=height_px, colours=colours[it]),
        ),
        range(len(inputs)),
    )
    captions = [
        (titles[i] if titles else "", "", f"{error:.2f} mm")
        for i, error in enumerate(errors.mean(axis=1))
    ]
    text_px = _text_px(height_px)
    sheet = lay_out(
        [sum(it, ()) for it in _rows(drawn, columns)],
        above=("input", "output", "error") * min(columns, len(drawn)),
        below=[sum(it, ()) for it in _rows(captions, columns)],
        text_px=text_px,
    )
    return beside_colour_bar(sheet, limit_mm=limit_mm, text_px=text_px)


def error_limit_mm(errors_mm: NDArray[np.floating]) -> float:
    """A round number, 1, 2 or 5 times a power of ten, above 99 % of errors in millimetres."""
    high = max(float(np.quantile(errors_mm, _LIMIT_SHARE)), 1e-6)
    power = 10.0 ** math.floor(math.log10(high))
    return next(it * power for it in (1, 2, 5, 10) if it * power >= high * (1 - 1e-9))


def sample_sheet(
    meshes: Reals,
    faces: Faces,
    *,
    view: View | None = None,
    captions: Sequence[str] = (),
    columns: int = 8,
    height_px: int = 192,
) -> Picture:
    """Draw meshes in a grid.

    Args:
        meshes: (N, V, 3) float32 in millimetres.
        faces: Triangles, (F, 3).
        view: The camera; without one it holds all meshes.
        captions: A caption a mesh.
        columns: Meshes in a row.
        height_px: Height of one picture.

    Returns:
        The sheet, (H, W, 3).
    """
    return lay_out(
        _rows(_renders(meshes, faces, view or View.around(meshes), height_px), columns),
        below=_rows(captions, columns) if captions else (),
        text_px=_text_px(height_px),
    )


def swing(count: int, reach: float = 1.0) -> NDArray[np.float64]:
    """Steps (count,) from -reach to reach, slower at the ends: a walk that looks smooth to and fro.

    Args:
        count: How many, 2 or more; `traversal_gif` shows 2 `count` - 2 frames of them.
        reach: Standard deviations to either side.
    """
    return reach * np.sin(np.linspace(-np.pi / 2, np.pi / 2, count))


def traversal_gif(
    frames: Reals,
    faces: Faces,
    *,
    view: View | None = None,
    captions: Sequence[str] = (),
    columns: int | None = None,
    height_px: int = 160,
    frame_ms: int = 70,
) -> bytes:
    """Draw walks along latent axes side by side, there and back for ever, as an animated GIF.

    Args:
        frames: The way there, (T, K, V, 3) float32 in millimetres, T steps of K axes; the 2 T - 2
            frames of the GIF come back the same way.
        faces: Triangles, (F, 3).
        view: The camera; without one it holds all meshes.
        captions: A caption an axis.
        columns: Axes in a row; without it all of them.
        height_px: Height of one picture.
        frame_ms: How long a frame stays.

    Returns:
        The file.
    """
    steps, axes = frames.shape[:2]
    view = view or View.around(frames.reshape(steps * axes, -1, 3))
    pictures = _renders(frames.reshape(steps * axes, -1, 3), faces, view, height_px)
    columns = columns or axes
    sheets = [
        Image.fromarray(
            lay_out(
                _rows(pictures[start : start + axes], columns),
                below=_rows(captions, columns) if captions else (),
                text_px=_text_px(height_px),
            )
        )
        for start in range(0, steps * axes, axes)
    ]
    return _gif([*sheets, *sheets[-2:0:-1]], frame_ms)


def traversal_sheet(
    meshes: Reals,
    faces: Faces,
    *,
    view: View | None = None,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    height_px: int = 160,
) -> Picture:
    """Draw walks along latent axes, a row each.

    Args:
        meshes: (K, S, V, 3) float32 in millimetres, K axes in S steps.
        faces: Triangles, (F, 3).
        view: The camera; without one it holds all meshes.
        rows: A name an axis.
        columns: A name a step, such as "−2σ".
        height_px: Height of one picture.

    Returns:
        The sheet, (H, W, 3).
    """
    axes, steps = meshes.shape[:2]
    flat = meshes.reshape(axes * steps, -1, 3)
    pictures = _renders(flat, faces, view or View.around(flat), height_px)
    return lay_out(_rows(pictures, steps), above=columns, beside=rows, text_px=_text_px(height_px))


def _renders(meshes: Reals, faces: Faces, view: View, height_px: int) -> list[Picture]:
    return _drawn(lambda it: render(it, faces, view=view, height_px=height_px), meshes)


def _drawn(draw: Callable[[_T], _R], of: Iterable[_T]) -> list[_R]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(draw, of))


def _rows(items: Sequence[_T], columns: int) -> list[Sequence[_T]]:
    return [items[i : i + columns] for i in range(0, len(items), columns)]


def _text_px(height_px: int) -> int:
    return max(10, height_px // 15)


def _gif(frames: Sequence[Image.Image], frame_ms: int) -> bytes:
    # One palette for all frames, or colours would flicker from frame to frame.
    montage = Image.new("RGB", (frames[0].width, 3 * frames[0].height))
    for place, index in enumerate((0, len(frames) // 4, len(frames) // 2)):
        montage.paste(frames[index], (0, place * frames[0].height))
    palette = montage.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    white = int(colours.sum(axis=1, dtype=int).argmax())
    colours[white] = BACKGROUND
    palette.putpalette(colours.tobytes())
    coded = []
    for frame in frames:
        it = frame.quantize(palette=palette, dither=Image.Dither.NONE)
        # Pillow takes a near colour, not always the nearest: the ground would be grey.
        ground = (np.asarray(frame) == BACKGROUND).all(axis=2)
        it.paste(white, mask=Image.fromarray(ground))
        coded.append(it)
    buffer = io.BytesIO()
    coded[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=coded[1:],
        duration=frame_ms,
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()
