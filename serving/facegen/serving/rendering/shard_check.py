"""Checks one shard: the bytes of its files, then that their rows are those of its items."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import numpy as np

from facegen.serving.errors import OutputError
from facegen.serving.rendering.job import GenerateJob, TransferJob
from facegen.serving.rendering.output.containers import Container
from facegen.serving.rendering.output.folder import LATENTS, METADATA
from facegen.serving.rendering.output.parquet import ParquetWriter
from facegen.serving.rendering.output.places import Place
from facegen.serving.rendering.output.reading import FolderRows, TarRows, index_of, open_rows
from facegen.serving.rendering.output.records import ShardFile, ShardRecord, shard_name
from facegen.serving.rendering.output.webdataset import TarWriter
from facegen.serving.rendering.plan import Plan

__all__ = ["ENDINGS", "CheckProgress", "ShardCheck", "Told"]

ENDINGS: Mapping[Container, str] = {
    "folder": "",
    "webdataset": TarWriter.ending,
    "parquet": ParquetWriter.ending,
}
"""What the names of shards end in."""

Told = Callable[[int, int], None]
"""Told how many bytes are checked, and how many there are; from several threads, never at once."""

_BLOCK_BYTES = 2**18
_TOLD_BYTES = 2**20


class CheckProgress:
    """Counts the bytes that are checked, and tells of every mebibyte.

    Args:
        told: Is told.
        all_bytes: How many there are.
    """

    def __init__(self, told: Told, all_bytes: int) -> None:
        self._told, self._all_bytes = told, all_bytes
        self._done_bytes = self._told_bytes = 0
        self._changing = threading.Lock()

    def add(self, size_bytes: int) -> None:
        """Count some bytes more; from any thread."""
        with self._changing:
            self._done_bytes += size_bytes
            if self._done_bytes - self._told_bytes >= _TOLD_BYTES:
                self._told_bytes = self._done_bytes
                self._told(min(self._done_bytes, self._all_bytes), self._all_bytes)

    def end(self) -> None:
        """Tell that all are checked; those of wrong files may not have been read."""
        self._told(self._all_bytes, self._all_bytes)


class ShardCheck:
    """Checks a shard; use once.

    Args:
        place: Where the data set is.
        plan: What it is made of.
        record: What is told of the shard.
        progress: Told of the bytes that are read.
    """

    def __init__(
        self, place: Place, plan: Plan, *, record: ShardRecord, progress: CheckProgress
    ) -> None:
        self._place, self._plan, self._record, self._progress = place, plan, record, progress
        self._name = shard_name(record.number) + ENDINGS[plan.container]

    def problems(self) -> Iterator[str]:
        """Tell what is wrong, as it is found."""
        told, own = [file.name for file in self._record.files], self._own_files()
        if told != own:
            yield f"{self._name}: is told to have the files {told}, must have {own}"
            return
        right = True
        for file in self._record.files:
            for problem in _explained(file.name, self._file_problems(file)):
                right = False
                yield problem
        if right:
            yield from _explained(self._name, self._content_problems())

    def _own_files(self) -> list[str]:
        """Name the files that the shard must tell of."""
        if not self._record.row_count:
            return []
        if self._plan.container != "folder":
            return [self._name]
        names = [METADATA, LATENTS] if self._plan.job.latents else [METADATA]
        return [f"{self._name}/{name}" for name in names]

    def _file_problems(self, file: ShardFile) -> Iterator[str]:
        """Look at the bytes of a file that is told of, and on the way at a tar's rows."""
        size_bytes = self._place.size(file.name)
        if size_bytes != file.size_bytes:
            found = "is missing" if size_bytes is None else f"has {size_bytes} bytes"
            yield f"{file.name}: {found}, {file.size_bytes} bytes were written"
            return
        with self._place.open(file.name) as source:
            hashed = _HashedFile(source, self._progress)
            rows: Sequence[str] = ()
            if self._plan.container == "webdataset":
                # Its headers lie all over it: to read them later is to fetch it twice.
                tar = cast(BinaryIO, io.BufferedReader(hashed, _BLOCK_BYTES))
                keys = TarRows(tar, self._record.row_count).keys()
                rows = list(_explained(file.name, self._row_problems(keys)))
            sha256 = hashed.finish()
        if sha256 != file.sha256:
            yield f"{file.name}: has other bytes than were written"
        else:
            yield from rows

    def _content_problems(self) -> Iterator[str]:
        """Look at what is in files whose bytes are right."""
        if not self._record.files:
            yield from self._row_problems(())
        elif self._plan.container != "webdataset":
            with open_rows(self._place, self._record, container=self._plan.container) as rows:
                yield from self._row_problems(rows.keys())
                if isinstance(rows, FolderRows):
                    yield from self._folder_problems(rows)

    def _row_problems(self, keys: Iterable[str]) -> Iterator[str]:
        """Tell whether rows are those of the shard's items, each once, in their order."""
        record, job = self._record, self._plan.job
        first = record.first + (job.first_index if isinstance(job, GenerateJob) else 0)
        faults = {fault.index for fault in record.faults}
        count = item_count = 0
        before, of_item = -1, set[str]()
        for key in keys:
            index = index_of(key)
            if index > before:
                before, of_item = index, set()
                item_count += 1
            if index < before or not first <= index < first + record.item_count or index in faults:
                yield f"{self._name}: has the row {key}, which is out of its place"
                return
            if key in of_item:
                yield f"{self._name}: has the row {key} twice"
                return
            of_item.add(key)
            count += 1
        if count != record.row_count:
            yield f"{self._name}: has {count} rows, {record.row_count} are told of"
        without_count = record.item_count - item_count - len(faults)
        # Of a photo there may be several rows, so that others stay where some were left out.
        least = 0 if isinstance(job, TransferJob) else record.rejected_count
        if not least <= without_count <= record.rejected_count:
            yield (
                f"{self._name}: of {record.item_count} items {item_count} have rows, "
                f"{len(faults)} have errors, and {record.rejected_count} rows were left out"
            )

    def _folder_problems(self, rows: FolderRows) -> Iterator[str]:
        """Look at the files of which a folder's metadata.jsonl tells, and for others."""
        own = {METADATA, LATENTS} if self._plan.job.latents else {METADATA}
        foreign = self._place.sizes(self._name).keys() - own
        for name, sha256 in rows.files():
            path = f"{self._name}/{name}"
            if name not in foreign:
                yield f"{path}: is missing"
                continue
            foreign.remove(name)
            yield from _explained(path, self._picture_problems(path, sha256))
        for name in foreign:
            yield f"{self._name}/{name}: is no part of the data set"
        if self._plan.job.latents:
            yield from self._latent_problems(rows.count)

    def _picture_problems(self, path: str, sha256: str) -> Iterator[str]:
        with self._place.open(path) as source:
            if _HashedFile(source, self._progress).finish() != sha256:
                yield f"{path}: has other bytes than were written"

    def _latent_problems(self, count: int) -> Iterator[str]:
        path = f"{self._name}/{LATENTS}"
        with self._place.open(path) as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 2 or shape[0] != count or dtype != np.float32:
            yield f"{path}: is {dtype} {shape}, must be float32 ({count}, Z)"


class _HashedFile(io.RawIOBase):
    """A file that hashes whatever of it is read or passed over; it goes forward only.

    Args:
        source: The file.
        progress: Told of the bytes.
    """

    def __init__(self, source: BinaryIO, progress: CheckProgress) -> None:
        self._source, self._progress = source, progress
        self._digest = hashlib.sha256()
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._place if whence == io.SEEK_CUR else 0)
        if target < self._place:
            raise io.UnsupportedOperation(f"byte {target} is passed already")
        while self._place < target and self._next(min(_BLOCK_BYTES, target - self._place)):
            pass
        return self._place

    def finish(self) -> str:
        """Read the rest, and give the SHA-256 of all."""
        while self._next(_BLOCK_BYTES):
            pass
        return self._digest.hexdigest()

    def _next(self, size_bytes: int) -> bytes:
        data = self._source.read(size_bytes)
        self._digest.update(data)
        self._place += len(data)
        self._progress.add(len(data))
        return data


def _explained(name: str, problems: Iterator[str]) -> Iterator[str]:
    """Tell as a problem too what keeps a check from its end."""
    try:
        yield from problems
    except (OSError, OutputError) as error:
        yield f"{name}: cannot be read: {error}"
    except (LookupError, TypeError, ValueError) as error:
        yield f"{name}: is no shard of facegen's: {error!r}"
