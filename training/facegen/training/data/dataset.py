"""What every reader gives: pictures, each in one split, with labels where there are any."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.parquet import ParquetRow
from facegen.training.data.tars import TarMember

__all__ = [
    "PICTURE_SUFFIXES",
    "SPLITS",
    "Dataset",
    "Picture",
    "Source",
    "Split",
    "hash_fraction",
]

Source = Path | TarMember | ParquetRow | bytes | NDArray[np.uint8]
"""Where a picture is: its file, a place in a file of many, its encoded bytes, or its pixels
(H, W[, C]) uint8."""

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
        source: Where it is.
        labels: What the data set says of it, a number a name.
    """

    name: str
    split: Split
    source: Source
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
        """Hash of every picture's name and split, and its file's size and modification time."""
        digest = hashlib.sha256()
        state_of = cache(_file_state)
        for picture in self.pictures:
            source = picture.source
            state: Any
            if isinstance(source, bytes | np.ndarray):
                state = hashlib.sha256(bytes(source)).hexdigest()
            else:
                state = state_of(source if isinstance(source, Path) else source.path)
            digest.update(repr((picture.name, picture.split, state)).encode())
        return digest.hexdigest()


def _file_state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def hash_fraction(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, for splits that survive new files."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
