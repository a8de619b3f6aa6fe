"""Labelled faces for classifiers and expression models: aligned, with votes, good or not."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.data import FaceArrays, load_faces
from facegen.training.data.alignment import align, fits_template, square_to_picture
from facegen.training.data.dataset import Picture, Split
from facegen.training.data.fer import FER_PLUS_NAMES
from facegen.training.data.points import FOUND, load_points
from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.expression.shapes import shape_in_square
from facegen.training.recipes import ExpressionDataConfig

__all__ = ["AlignedFaces", "AlignedSplit", "half_of", "load_aligned_faces"]

_SPLITS: tuple[Split, Split] = ("train", "validation")
_SIDE_PX = 48
_SOURCE_PX = {"fer": 48, "folder": 192}
_FLATTEST = 8.0
"""Least standard deviation of a face's intensities, of 255."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlignedSplit:
    """The faces of one split.

    Attributes:
        images: (N, 48, 48, 1) uint8.
        labels: (N,): index of the expression that enough of the votes name, or -1.
        votes: (N, K): the expressions' shares of the votes for them; zeros where there are none.
        shapes: (N, 68, 2): points of the faces, in the square's sides.
        good: (N,): the face was found, fits the template and lies inside its picture.
        names: The pictures' names in the data set.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.float32]
    shapes: NDArray[np.float32]
    good: NDArray[np.bool_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def where(self, chosen: NDArray[np.bool_]) -> "AlignedSplit":
        """The chosen faces, in the same order."""
        names = tuple(name for name, kept in zip(self.names, chosen, strict=True) if kept)
        return AlignedSplit(
            self.images[chosen],
            self.labels[chosen],
            self.votes[chosen],
            self.shapes[chosen],
            self.good[chosen],
            names,
        )

    def labelled(self) -> "AlignedSplit":
        """The faces that have a label."""
        return self.where(self.labels >= 0)


@dataclass(frozen=True, slots=True)
class AlignedFaces:
    """A data set's aligned faces.

    Attributes:
        train: To train on.
        validation: Never trained on.
        expressions: What labels and votes stand for.
        faces: The pictures that they were cut out of.
    """

    train: AlignedSplit
    validation: AlignedSplit
    expressions: tuple[str, ...]
    faces: FaceArrays


def load_aligned_faces(config: ExpressionDataConfig, expressions: Sequence[str]) -> AlignedFaces:
    """Read a data set of labelled faces and align it.

    Exact copies and flat pictures are left out; the points of all faces are found by dlib the first
    time, which takes minutes, and kept.

    Args:
        config: Which data set.
        expressions: The classes.

    Returns:
        Every face of its training and validation splits, labelled or not.

    Raises:
        DatasetError: Missing or broken, or an expression has no good training face; right once the
            files are in place.
        ConfigurationError: An expression that the data set does not know.
    """
    if config.reader == "fer" and (unknown := set(expressions) - set(FER_PLUS_NAMES[:8])):
        raise ConfigurationError(
            "model.expressions",
            f"FER+ has no {', '.join(sorted(unknown))}; it has {', '.join(FER_PLUS_NAMES[:8])}",
        )
    faces = load_faces(
        config.reader, Path(config.root), size_px=_SOURCE_PX[config.reader], channels=1
    )
    points = load_points(faces)
    train, validation = (
        _align_split(faces, split, points[split], expressions, config.majority) for split in _SPLITS
    )
    aligned = AlignedFaces(train, validation, tuple(expressions), faces)
    _check_labels(aligned)
    return aligned


def half_of(name: str) -> str:
    """The half that a picture belongs to, "a" or "b", whatever else the data set holds."""
    return "ab"[int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2]


def _align_split(
    faces: FaceArrays,
    split: Split,
    found: NDArray[Any],
    expressions: Sequence[str],
    majority: float,
) -> AlignedSplit:
    pixels = faces.pixels[split][..., 0]
    matrices = [square_to_picture(points.astype(np.float64)) for points in found["points"]]
    images = np.stack(
        [align(p, m, size_px=_SIDE_PX) for p, m in zip(pixels, matrices, strict=True)]
    )
    fits = [
        fits_template(m, p, side_px=pixels.shape[1])
        for m, p in zip(matrices, found["points"], strict=True)
    ]
    shapes = [shape_in_square(s, m) for s, m in zip(found["shape"], matrices, strict=True)]
    pictures = [faces.dataset.pictures[i] for i in faces.indices[split]]
    votes = np.array([_votes(picture, expressions) for picture in pictures], dtype=np.float64)
    of_all, of_them = votes.max(1), votes[:, : len(expressions)]
    largest = votes.argmax(1)
    clear = (of_all > 0) & (of_all >= majority * votes.sum(1)) & (largest < len(expressions))
    aligned = AlignedSplit(
        images[..., None],
        np.where(clear, largest, -1),
        (of_them / np.maximum(of_them.sum(1, keepdims=True), 1)).astype(np.float32),
        np.array(shapes, dtype=np.float32),
        np.array(fits) & (found["score"] > FOUND),
        tuple(picture.name for picture in pictures),
    )
    textured = images.reshape(len(images), -1).std(1) >= _FLATTEST
    _log.info(
        "aligned split=%s faces=%d good=%d labelled=%d flat=%d",
        split,
        len(aligned),
        aligned.good.sum(),
        clear.sum(),
        (~textured).sum(),
    )
    return aligned.where(textured)


def _votes(picture: Picture, expressions: Sequence[str]) -> list[float]:
    """How many chose each expression, and then each other answer."""
    folder = picture.name.partition("/")[0]
    if folder in expressions:
        return [10.0 * (folder == name) for name in expressions] + [0.0] * len(FER_PLUS_NAMES)
    others = [
        0.0 if n in expressions else picture.labels.get(f"votes.{n}", 0.0) for n in FER_PLUS_NAMES
    ]
    return [picture.labels.get(f"votes.{name}", 0.0) for name in expressions] + others


def _check_labels(aligned: AlignedFaces) -> None:
    train, dataset = aligned.train, aligned.faces.dataset
    usable = set(train.labels[train.good].tolist())
    missing = [name for i, name in enumerate(aligned.expressions) if i not in usable]
    if not missing and not (aligned.validation.labels >= 0).any():
        missing = ["any expression"]
    if missing:
        raise DatasetError(
            dataset.name,
            looked_for=f"found and labelled faces with {', '.join(missing)}",
            where=dataset.root,
            remedy="FER2013 needs FER+'s fer2013new.csv; a folder needs a subfolder of pictures "
            "named after each expression.",
        )
