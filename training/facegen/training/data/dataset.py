"""What every reader gives: pictures, each in one split, with labels where there are any."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PICTURE_SUFFIXES", "SPLITS", "Dataset", "Picture", "Split", "hash_fraction"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PICTURE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a data set.

    Attributes:
        name: Unique within its data set.
        split: The split it belongs to.
        source: Its file, or its pixels (H, W[, C]) uint8 where the data set is not made of files.
        labels: What the data set says of it, a number a name.
    """

    name: str
    split: Split
    source: Path | NDArray[np.uint8]
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The pictures of one data set as they lie on disk, not decoded yet.

    Attributes:
        name: The data set's name.
        root: Where it lies.
        pictures: All of them, in a fixed order.
        crop: The side of the central square to keep, as a fraction of the shorter side.
        distinct: Drop exact copies and flat pictures after decoding.
        aligned: Turn, scale and move every face into one place, and drop those that are not found.
    """

    name: str
    root: Path
    pictures: tuple[Picture, ...]
    crop: float = 1.0
    distinct: bool = False
    aligned: bool = False

    def fingerprint(self) -> str:
        """Hash of every picture's name, split, size and modification time."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            state: Any
            if isinstance(picture.source, Path):
                status = picture.source.stat()
                state = (status.st_size, status.st_mtime_ns)
            else:
                state = hashlib.sha256(picture.source.tobytes()).hexdigest()
            digest.update(repr((picture.name, picture.split, state)).encode())
        return digest.hexdigest()


def hash_fraction(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, for splits that survive new files."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
