"""The contract of what writes a shard's rows.

The same rows give the same bytes: no times, users or random names get into a file.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facegen.serving.rendering.output.records import ShardFile, shard_name
from facegen.serving.rendering.rows import Column, Row

__all__ = ["HashedFile", "RowSchema", "ShardWriter", "StagedShard", "npy"]


@dataclass(frozen=True, slots=True)
class RowSchema:
    """What the rows of a data set have.

    Attributes:
        columns: The types of their facts, by name.
        content: What their data is.
        suffix: What their files end in.
        latent_size: Coordinates of their latents; 0: they have none.
    """

    columns: Mapping[str, Column]
    content: Literal["image", "mesh"]
    suffix: str
    latent_size: int


@dataclass(frozen=True, slots=True)
class StagedShard:
    """A shard that is written, but not in its place.

    Attributes:
        path: Its file or folder; None: it has no rows.
        name: Where it goes in the data set.
        files: What is told of it.
        size_bytes: Of all its files.
    """

    path: Path | None
    name: str
    files: tuple[ShardFile, ...]
    size_bytes: int


class ShardWriter(ABC):
    """Writes the rows of a shard; use by one thread, then `close`.

    Args:
        folder: An empty folder to write in.
        number: The shard's.
        schema: Of its rows.
    """

    ending = ""

    def __init__(self, folder: Path, number: int, schema: RowSchema) -> None:
        self._schema = schema
        self._name = shard_name(number) + self.ending
        self._path = folder / self._name
        self.row_count = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows behind those that are there."""
        self._add(rows)
        self.row_count += len(rows)

    def finish(self) -> StagedShard:
        """Write what is left."""
        if not self.row_count:
            return StagedShard(None, self._name, (), 0)
        files, size_bytes = self._finish()
        return StagedShard(self._path, self._name, files, size_bytes)

    @abstractmethod
    def _add(self, rows: Sequence[Row]) -> None:
        """Write rows behind those that are there."""

    @abstractmethod
    def _finish(self) -> tuple[tuple[ShardFile, ...], int]:
        """Write what is left; tell of the files, and how many bytes there are in all."""

    @abstractmethod
    def close(self) -> None:
        """Leave the files, whether finished or not."""


class HashedFile(FileIO):
    """A file that is written once from its beginning to its end, and hashed on the way."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        """Write all of some bytes."""
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.size_bytes += len(view)
        while view:
            view = view[super().write(view) :]
        return len(data)

    def told(self, name: str) -> tuple[tuple[ShardFile, ...], int]:
        """Tell what was written."""
        return (ShardFile(name, self.size_bytes, self.digest.hexdigest()),), self.size_bytes


def npy(array: Any) -> bytes:
    """Code an array as NumPy's own files."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()
