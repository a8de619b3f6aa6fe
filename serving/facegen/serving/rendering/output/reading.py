"""Reads the rows of a shard that is done, whichever container keeps them."""

import json
import tarfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import BinaryIO, Self

from facegen.serving.rendering.output.containers import Container
from facegen.serving.rendering.output.folder import METADATA
from facegen.serving.rendering.output.places import Place
from facegen.serving.rendering.output.records import ShardRecord, shard_name
from facegen.serving.rendering.rows import Row

__all__ = [
    "FolderRows",
    "ParquetRows",
    "ShardRows",
    "TarRows",
    "index_of",
    "open_rows",
]

_BATCH_ROWS = 10_000
# Of a tar.
_BLOCK = 512


class ShardRows(ABC):
    """The rows of a shard, in their order; use by one thread, then `close`.

    What cannot be read raises OSError or OutputError; of files that facegen has not written so
    comes LookupError or ValueError.

    Attributes:
        count: How many there are; of a tar, how many are said to be.
    """

    count: int

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Name them, as they are in the files."""

    @abstractmethod
    def row(self, place: int) -> Row:
        """Read one, without its latent; those in their order are read the fastest."""

    @abstractmethod
    def close(self) -> None:
        """Leave the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class FolderRows(ShardRows):
    """The rows of a folder.

    Args:
        place: Where the data set is.
        name: The folder.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._place, self._name = place, name
        metadata = place.read(f"{name}/{METADATA}")
        if metadata is None:
            raise FileNotFoundError(f"there is no {METADATA}")
        self._lines = metadata.splitlines()
        self.count = len(self._lines)

    def files(self) -> Iterator[tuple[str, str]]:
        """Name the rows' files in the folder, each with its SHA-256."""
        for line in self._lines:
            facts = json.loads(line)
            yield facts["file_name"], facts["sha256"]

    def keys(self) -> Iterator[str]:
        """Name them."""
        return (_key_of(name) for name, _ in self.files())

    def row(self, place: int) -> Row:
        """Read one."""
        facts = json.loads(self._lines[place])
        file_name = facts.pop("file_name")
        data = self._place.read(f"{self._name}/{file_name}")
        if data is None:
            raise FileNotFoundError(f"there is no {file_name}")
        del facts["sha256"]
        return Row(_key_of(file_name), facts.pop("index"), data, facts)

    def close(self) -> None:
        """Leave nothing: files are read at once."""


class TarRows(ShardRows):
    """The rows of a WebDataset tar; where they lie is found out as far as it is needed.

    Args:
        file: The tar; read and sought forward only, but by `row`. It is closed with this.
        count: How many rows there are said to be.
    """

    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self.count = file, count
        self._found: list[int] = []
        self._finding = (next(members).start for _, members in self._rows(0))

    def keys(self) -> Iterator[str]:
        """Name them."""
        return (key for key, _ in self._rows(0))

    def row(self, place: int) -> Row:
        """Read one."""
        while len(self._found) <= place:
            self._found.append(next(self._finding, -1))
        if self._found[place] < 0:
            raise IndexError(f"there is no row {place}")
        key, members = next(self._rows(self._found[place]))
        parts = {member.ending: member for member in members}
        facts = json.loads(self._read(parts.pop("json")))
        parts.pop("latent.npy", None)
        (content,) = parts.values()
        return Row(key, facts.pop("index"), self._read(content), facts)

    def _rows(self, start: int) -> Iterator[tuple[str, Iterator["_Member"]]]:
        return groupby(_members(self._file, start), lambda member: member.key)

    def _read(self, member: "_Member") -> bytes:
        self._file.seek(member.offset)
        return self._file.read(member.size_bytes)

    def close(self) -> None:
        """Close the tar."""
        self._file.close()


class ParquetRows(ShardRows):
    """The rows of a Parquet file, of which one row group is held.

    Args:
        file: The file; it is closed with this.
    """

    def __init__(self, file: BinaryIO) -> None:
        from pyarrow import parquet

        self._file = file
        self._parquet = parquet.ParquetFile(file)
        metadata = self._parquet.metadata
        self.count = metadata.num_rows
        groups = range(metadata.num_row_groups)
        # The rows before each group.
        self._firsts = [0, *accumulate(metadata.row_group(it).num_rows for it in groups)]
        self._columns = [it for it in self._parquet.schema_arrow.names if it != "latent"]
        self._group, self._table = -1, None

    def keys(self) -> Iterator[str]:
        """Name them."""
        for batch in self._parquet.iter_batches(_BATCH_ROWS, columns=["key"]):
            yield from batch.column(0).to_pylist()

    def row(self, place: int) -> Row:
        """Read one."""
        group = bisect_right(self._firsts, place) - 1
        if group != self._group:
            self._table = None  # so that two are never held
            self._table = self._parquet.read_row_group(group, columns=self._columns)
            self._group = group
        assert self._table is not None
        (facts,) = self._table.slice(place - self._firsts[group], 1).to_pylist()
        data = facts.pop("mesh") if "mesh" in facts else facts.pop("image")["bytes"]
        return Row(facts.pop("key"), facts.pop("index"), data, facts)

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._file.close()


def open_rows(place: Place, record: ShardRecord, *, container: Container) -> ShardRows:
    """Open the rows of a shard that has some.

    Args:
        place: Where the data set is.
        record: What is told of the shard.
        container: How its rows are kept.

    Raises:
        OSError, OutputError: It cannot be read.
        LookupError, ValueError: It is no such shard.
    """
    if container == "folder":
        return FolderRows(place, shard_name(record.number))
    file = place.open(record.files[0].name)
    try:
        if container == "webdataset":
            return TarRows(file, record.row_count)
        return ParquetRows(file)
    except BaseException:
        file.close()
        raise


def index_of(key: str) -> int:
    """Read the index that a row's key begins with.

    Raises:
        ValueError: It begins with none.
    """
    return int(key.partition("-")[0])


def _key_of(file_name: str) -> str:
    return file_name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar.

    Attributes:
        key: Its row's.
        ending: What its name has behind the key and a dot.
        start: Where its header begins.
        offset: Where it begins itself.
        size_bytes: Its length.
    """

    key: str
    ending: str
    start: int
    offset: int
    size_bytes: int


def _members(file: BinaryIO, start: int) -> Iterator[_Member]:
    """Walk the members of a tar, from a header on; `tarfile` would hold them all."""
    place, long_name = start, ""
    while True:
        file.seek(place)
        header = file.read(_BLOCK)
        if not header.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"no header at byte {place}: {error}") from error
        offset = place + _BLOCK
        place = offset + -(-info.size // _BLOCK) * _BLOCK
        if info.type == tarfile.GNUTYPE_LONGNAME:
            # The header of the member itself follows, and has no room for its name.
            long_name = file.read(info.size).rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        key, _, ending = (long_name or info.name).partition(".")
        yield _Member(key, ending, start, offset, info.size)
        start, long_name = place, ""
