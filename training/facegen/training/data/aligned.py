"""Aligned pictures of a data set: every face turned, scaled and moved into one place."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.alignment import align, fits_template, square_to_picture
from facegen.training.data.arrays import FaceArrays, by_split, load_frames
from facegen.training.data.cache import cached_array
from facegen.training.data.dataset import SPLITS, Dataset
from facegen.training.data.points import FOUND, POINTS, load_points

__all__ = ["load_aligned"]

_FRAME_PX = {"fer-aligned": 48}
_OTHER_FRAME_PX = 256
_VERSION = 1

_log = logging.getLogger(__name__)


def load_aligned(dataset: Dataset, *, size_px: int, channels: int) -> FaceArrays:
    """Find the faces of a data set by dlib, and cut them out by five points.

    Both are done once and kept; finding takes minutes.

    Args:
        dataset: The pictures, one face near the middle of each.
        size_px: Side of the squares.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The faces of every split. Left out, and counted as dropped, are those that the detector does
        not find, that do not fit the template, or of which a quarter lies outside the picture.

    Raises:
        DatasetError: Nothing to train or to validate on.
        ConfigurationError: The points' predictor is missing.
    """
    side_px = _FRAME_PX.get(dataset.name, _OTHER_FRAME_PX)
    # The frames and their points are those of the data set as it lies, for whoever else wants them.
    plain = replace(dataset, name=dataset.name.removesuffix("-aligned"), aligned=False)
    frames = load_frames(plain, size_px=side_px, channels=channels)
    points = load_points(frames)
    pixels = np.concatenate([frames.pixels[split] for split in SPLITS if len(frames.pixels[split])])
    found = np.concatenate([np.empty(0, POINTS), *(points[split] for split in SPLITS)])
    indices = [i for split in SPLITS for i in frames.indices[split]]
    matrices = [square_to_picture(it.astype(np.float64)) for it in found["points"]]
    good = [
        bool(row["score"] > FOUND) and fits_template(matrix, row["points"], side_px=side_px)
        for matrix, row in zip(matrices, found, strict=True)
    ]
    kept = np.flatnonzero(good)

    def compute() -> NDArray[np.uint8]:
        cut = [align(pixels[i].squeeze(), matrices[i], size_px=size_px) for i in kept]
        return np.array(cut, np.uint8).reshape(-1, size_px, size_px, channels)

    facts = (_VERSION, side_px, size_px, channels, len(kept))
    squares = cached_array(dataset, "faces", facts, compute=compute)
    parts = by_split(dataset, squares, [indices[i] for i in kept])
    _log.info("aligned dataset=%s pictures=%d faces=%d", dataset.name, len(indices), len(kept))
    dropped_count = frames.dropped_count + len(indices) - len(kept)
    return FaceArrays(dataset, *parts, frames.corrupt, dropped_count)
