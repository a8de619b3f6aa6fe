"""A shard as a folder: a file for each row, and what is known of them all."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facegen.serving.rendering.output.records import ShardFile
from facegen.serving.rendering.output.shard_writer import RowSchema, ShardWriter, npy
from facegen.serving.rendering.rows import Row

__all__ = ["LATENTS", "METADATA", "FolderWriter"]

METADATA, LATENTS = "metadata.jsonl", "latents.npy"


class FolderWriter(ShardWriter):
    """A file for each row, and metadata.jsonl as Hugging Face's imagefolder reads it."""

    def __init__(self, folder: Path, number: int, schema: RowSchema) -> None:
        super().__init__(folder, number, schema)
        self._path.mkdir()
        self._folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        self._lines: list[str] = []
        self._latents: list[Any] = []
        self._size_bytes = 0

    def _add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            name = row.key + self._schema.suffix
            self._write(name, row.data)
            facts = {
                "file_name": name,
                "index": row.index,
                **row.facts,
                "sha256": hashlib.sha256(row.data).hexdigest(),
            }
            self._lines.append(json.dumps(facts, ensure_ascii=False))
            if self._schema.latent_size:
                self._latents.append(row.latent)

    def _write_told(self, name: str, data: bytes) -> ShardFile:
        self._write(name, data)
        return ShardFile(f"{self._name}/{name}", len(data), hashlib.sha256(data).hexdigest())

    def _write(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        file = os.open(name, flags, 0o666, dir_fd=self._folder)
        try:
            written = os.write(file, data)
            while written < len(data):
                written += os.write(file, data[written:])
        finally:
            os.close(file)
        self._size_bytes += len(data)

    def _finish(self) -> tuple[tuple[ShardFile, ...], int]:
        metadata = "".join(f"{line}\n" for line in self._lines).encode()
        files = [self._write_told(METADATA, metadata)]
        if self._latents:
            files.append(self._write_told(LATENTS, npy(np.stack(self._latents))))
        return tuple(files), self._size_bytes

    def close(self) -> None:
        """Leave the files, whether finished or not."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
