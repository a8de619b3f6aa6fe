"""A shard as a tar of WebDataset (https://github.com/webdataset/webdataset)."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from facegen.serving.rendering.output.records import ShardFile
from facegen.serving.rendering.output.shard_writer import HashedFile, RowSchema, ShardWriter, npy
from facegen.serving.rendering.rows import Row

__all__ = ["TarWriter"]

_BLOCK, _RECORD = 512, 20 * 512


class TarWriter(ShardWriter):
    """A tar of WebDataset: of each row its picture, its facts as JSON, and its latent."""

    ending = ".tar"

    def __init__(self, folder: Path, number: int, schema: RowSchema) -> None:
        super().__init__(folder, number, schema)
        self._file = HashedFile(self._path)

    def _add(self, rows: Sequence[Row]) -> None:
        parts: list[bytes] = []
        for row in rows:
            facts = json.dumps({"index": row.index, **row.facts}, ensure_ascii=False).encode()
            parts += _member(row.key + self._schema.suffix, row.data)
            parts += _member(f"{row.key}.json", facts)
            if row.latent is not None:
                parts += _member(f"{row.key}.latent.npy", npy(row.latent))
        self._file.write(b"".join(parts))

    def _finish(self) -> tuple[tuple[ShardFile, ...], int]:
        # Two empty blocks end a tar, and whole records make it up.
        size = self._file.size_bytes + 2 * _BLOCK
        self._file.write(bytes(2 * _BLOCK + -size % _RECORD))
        return self._file.told(self._name)

    def close(self) -> None:
        """Leave the files, whether finished or not."""
        self._file.close()


def _template() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


# All members have this header but for their names and sizes, and tarfile takes 25 µs to write one.
_TEMPLATE = _template()
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_FIRST_CHECKSUM = sum(_TEMPLATE) - sum(_TEMPLATE[_CHECKSUM]) - sum(_TEMPLATE[_SIZE]) + 8 * 32


def _member(name: str, data: bytes) -> list[bytes]:
    """Give the blocks of a tar's member: header, data and what fills the last block."""
    encoded = name.encode()
    if len(encoded) > _NAME.stop or len(data) >= 8**11:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        return [info.tobuf(tarfile.GNU_FORMAT), data, bytes(-len(data) % _BLOCK)]
    size = b"%011o\0" % len(data)
    checksum = b"%06o\0 " % (_FIRST_CHECKSUM + sum(encoded) + sum(size))
    header = b"".join(
        (
            encoded.ljust(100, b"\0"),
            _TEMPLATE[_NAME.stop : _SIZE.start],
            size,
            _TEMPLATE[_SIZE.stop : _CHECKSUM.start],
            checksum,
            _TEMPLATE[_CHECKSUM.stop :],
        )
    )
    return [header, data, bytes(-len(data) % _BLOCK)]
