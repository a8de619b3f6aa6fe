"""A data set as arrays a model can train on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.cache import decode_dataset
from facegen.training.data.dataset import SPLITS, Dataset, Split
from facegen.training.data.readers import read_dataset
from facegen.training.errors import DatasetError

__all__ = ["FaceArrays", "load_faces"]


@dataclass(frozen=True, slots=True)
class FaceArrays:
    """Decoded pictures of one data set by split.

    Attributes:
        dataset: The data set they come from.
        pixels: A split's pictures, (N, H, W, C) uint8, mapped from disk.
        indices: A split's rows as indices into the data set's pictures.
        corrupt: Names of the files that could not be decoded.
        dropped_count: Exact copies and flat pictures left out.
    """

    dataset: Dataset
    pixels: Mapping[Split, NDArray[np.uint8]]
    indices: Mapping[Split, tuple[int, ...]]
    corrupt: tuple[str, ...]
    dropped_count: int

    def labels(self, split: Split, name: str) -> NDArray[np.float64]:
        """One label of every picture of a split, (N,); NaN where the data set does not say."""
        pictures = self.dataset.pictures
        values = [pictures[i].labels.get(name, np.nan) for i in self.indices[split]]
        return np.array(values, dtype=np.float64)


def load_faces(
    reader: str, root: Path, *, size_px: int, channels: int, crop: float | None = None
) -> FaceArrays:
    """Read and decode a data set, from the cache where it can.

    Args:
        reader: "celeba", "lfw", "fer" or "folder".
        root: The data set's folder, or one that holds it.
        size_px: Side of the square pictures.
        channels: 3 for RGB, 1 for grey.
        crop: The side of the central square to keep, as a fraction of the shorter side; None takes
            the data set's own.

    Returns:
        The pictures of every split.

    Raises:
        DatasetError: Missing, broken, or nothing to train or to validate on.
    """
    dataset = read_dataset(reader, root)
    if crop is not None:
        dataset = replace(dataset, crop=crop)
    decoded = decode_dataset(dataset, size_px=size_px, channels=channels)
    splits = [dataset.pictures[i].split for i in decoded.kept]
    pixels: dict[Split, NDArray[np.uint8]] = {}
    indices: dict[Split, tuple[int, ...]] = {}
    start = 0
    for split in SPLITS:
        end = start + splits.count(split)
        pixels[split], indices[split] = decoded.pixels[start:end], decoded.kept[start:end]
        start = end
    for split in ("train", "validation"):
        if not indices[split]:
            raise DatasetError(
                dataset.name,
                looked_for=f"pictures to {'train on' if split == 'train' else 'validate with'}",
                where=dataset.root,
                remedy="Add pictures, or check the file that splits them.",
            )
    return FaceArrays(dataset, pixels, indices, decoded.corrupt, decoded.dropped_count)
