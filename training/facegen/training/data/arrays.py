"""A data set as arrays a model can train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.cache import decode_dataset
from facegen.training.data.dataset import SPLITS, Dataset, Split
from facegen.training.errors import DatasetError

__all__ = ["FaceArrays", "by_split", "load_frames"]


@dataclass(frozen=True, slots=True)
class FaceArrays:
    """Decoded pictures of one data set by split.

    Attributes:
        dataset: The data set they come from.
        pixels: A split's pictures, (N, H, W, C) uint8, mapped from disk.
        indices: A split's rows as indices into the data set's pictures.
        corrupt: Names of the files that could not be decoded.
        dropped_count: Exact copies, flat pictures and faces that could not be aligned, left out.
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


def load_frames(dataset: Dataset, *, size_px: int, channels: int) -> FaceArrays:
    """Decode a data set's pictures as they lie, from the cache where it can.

    Args:
        dataset: The pictures.
        size_px: Side of the square that each is reduced to.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The pictures of every split.

    Raises:
        DatasetError: Nothing to train or to validate on.
    """
    decoded = decode_dataset(dataset, size_px=size_px, channels=channels)
    return FaceArrays(
        dataset,
        *by_split(dataset, decoded.pixels, decoded.kept),
        decoded.corrupt,
        decoded.dropped_count,
    )


def by_split(
    dataset: Dataset, pixels: NDArray[np.uint8], kept: Sequence[int]
) -> tuple[Mapping[Split, NDArray[np.uint8]], Mapping[Split, tuple[int, ...]]]:
    """Part a data set's rows by split.

    Args:
        dataset: The data set.
        pixels: Its rows, split after split in the order of SPLITS.
        kept: For each row, the index of its picture in the data set.

    Returns:
        As in `FaceArrays`: the pixels and the indices of each split.

    Raises:
        DatasetError: Nothing to train or to validate on.
    """
    splits = [dataset.pictures[i].split for i in kept]
    parts: dict[Split, NDArray[np.uint8]] = {}
    indices: dict[Split, tuple[int, ...]] = {}
    start = 0
    for split in SPLITS:
        end = start + splits.count(split)
        parts[split], indices[split] = pixels[start:end], tuple(kept[start:end])
        start = end
    for split in ("train", "validation"):
        if not indices[split]:
            raise DatasetError(
                dataset.name,
                looked_for=f"pictures to {'train on' if split == 'train' else 'validate with'}",
                where=dataset.root,
                remedy="Add pictures, or check the file that splits them.",
            )
    return parts, indices
