"""Time to code one face as PNG, JPEG and WebP: the server's coders beside Pillow's defaults.

    python -m benchmarks.image_coding faces/*.png

Coders take turns on one core; the medians of their turns are shown. Without arguments the portrait
in docs/pictures is cut into faces' size.
"""

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from facegen.serving.imaging import JPEG, PNG, WEBP, PictureFormat, encode_pictures

ROUNDS, TURN = 15, 200
PORTRAIT = Path(__file__).parent.parent / "docs" / "pictures" / "astronaut.jpg"


def read_faces(paths: list[Path]) -> NDArray[np.uint8]:
    """Pictures of 64 × 64, (N, 64, 64, 3)."""
    if paths:
        return np.stack([np.asarray(Image.open(p).convert("RGB").resize((64, 64))) for p in paths])
    portrait = Image.open(PORTRAIT).resize((256, 256))
    corners = [(x, y) for y in range(0, 256, 64) for x in range(0, 256, 64)]
    return np.stack([np.asarray(portrait.crop((x, y, x + 64, y + 64))) for x, y in corners])


def pillow(kind: str, **options: int) -> Callable[[NDArray[np.uint8]], int]:
    """Code with Pillow; gives the bytes written."""

    def code(face: NDArray[np.uint8]) -> int:
        file = io.BytesIO()
        Image.fromarray(face).save(file, kind, **options)
        return file.tell()

    return code


def ours(mime_type: str) -> Callable[[NDArray[np.uint8]], int]:
    """Code as the server does, without metadata; gives the bytes written."""
    return lambda face: len(encode_pictures(face[None], PictureFormat(mime_type))[0])


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    faces = read_faces([Path(argument) for argument in sys.argv[1:]])
    coders = {
        "PNG, Pillow": pillow("PNG"),
        "PNG, Pillow at level 1": pillow("PNG", compress_level=1),
        "PNG, server": ours(PNG),
        "JPEG 90, Pillow": pillow("JPEG", quality=90, subsampling=0),
        "JPEG 90, server": ours(JPEG),
        "WebP 90, Pillow": pillow("WEBP", quality=90),
        "WebP 90, server": ours(WEBP),
    }
    turns: dict[str, list[float]] = {name: [] for name in coders}
    for _ in range(ROUNDS):
        for name, code in coders.items():
            start = time.perf_counter()
            for number in range(TURN):
                code(faces[number % len(faces)])
            turns[name].append((time.perf_counter() - start) / TURN)
    table = Table("coder", "µs a face", "ratio to Pillow's default", "bytes a face")
    base = 0.0
    for name, code in coders.items():
        seconds = statistics.median(turns[name])
        base = seconds if name.endswith("Pillow") else base
        size = statistics.mean(code(face) for face in faces)
        table.add_row(name, f"{seconds * 1e6:.0f}", f"{seconds / base:.2f}", f"{size:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
