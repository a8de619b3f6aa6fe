"""Squares around faces to train the aligner on, from whole frames of several data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facegen.training.data import FaceArrays, load_faces
from facegen.training.data.cache import cached_array
from facegen.training.data.dataset import Split
from facegen.training.data.points import FOUND, SEARCHED_PX, load_points
from facegen.training.expression.aligner_training import WIDE_PX, wide_squares

__all__ = ["FaceSquares", "load_face_squares"]

_FRAME_PX = {"fer": 48, "lfw": 250, "celeba": 96, "folder": 192}
_SEARCHED_PX = {"lfw": 500}
"""Where a face fills less of its frame than elsewhere."""
_VERSION = 1


class FaceSquares(NamedTuple):
    """Faces as `train_aligner` takes them.

    Attributes:
        squares: Wide squares, (N, 128, 128) uint8.
        points: The teacher's in [0, 1]² of them, (N, 5, 2).
    """

    squares: NDArray[np.uint8]
    points: NDArray[np.float32]


def load_face_squares(readers: Sequence[str], root: Path) -> tuple[FaceSquares, FaceSquares]:
    """Cut the faces that dlib finds out of data sets, or map what was cut before.

    Args:
        readers: Data sets' readers.
        root: The folder that holds them.

    Returns:
        Training and validation faces.

    Raises:
        DatasetError: A data set is missing or broken.
    """
    train, validation = [], []
    for reader in readers:
        faces = load_faces(reader, root, size_px=_FRAME_PX[reader], channels=1, crop=1.0)
        points = load_points(faces, searched_px=_SEARCHED_PX.get(reader, SEARCHED_PX))
        train.append(_cut(faces, "train", points["train"]))
        validation.append(_cut(faces, "validation", points["validation"]))
    return _joined(train), _joined(validation)


def _cut(faces: FaceArrays, split: Split, found: NDArray[Any]) -> FaceSquares:
    pixels = faces.pixels[split]
    kept = np.flatnonzero(found["score"] > FOUND)
    layout = np.dtype([("square", np.uint8, (WIDE_PX, WIDE_PX)), ("points", np.float32, (5, 2))])

    def compute() -> NDArray[Any]:
        rows = np.empty(len(kept), layout)
        if len(kept):
            rows["square"], rows["points"] = wide_squares(
                (pixels[i, ..., 0] for i in kept), found["box"][kept], found["points"][kept]
            )
        return rows

    facts = (_VERSION, split, pixels.shape, len(kept))
    rows = cached_array(faces.dataset, f"squares-{split}", facts, compute=compute)
    return FaceSquares(rows["square"], rows["points"])


def _joined(parts: Sequence[FaceSquares]) -> FaceSquares:
    squares, points = zip(*parts, strict=True)
    return FaceSquares(np.concatenate(squares), np.concatenate(points))
