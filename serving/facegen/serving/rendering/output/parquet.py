"""A shard as a Parquet file, its pictures marked as Hugging Face's `datasets` wants them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facegen.serving.rendering.output.records import ShardFile
from facegen.serving.rendering.output.shard_writer import HashedFile, RowSchema, ShardWriter
from facegen.serving.rendering.rows import Row

__all__ = ["ParquetWriter"]

# So many pictures of a few kilobytes are some megabytes: enough for a reader, and little to hold.
_ROW_GROUP_ROWS = 1000
# Photos are larger: a row group is closed at so many bytes too.
_ROW_GROUP_BYTES = 64 * 2**20


class ParquetWriter(ShardWriter):
    """A Parquet file; a row group holds about a thousand rows."""

    ending = ".parquet"

    def __init__(self, folder: Path, number: int, schema: RowSchema) -> None:
        super().__init__(folder, number, schema)
        import pyarrow as pa
        from pyarrow import parquet

        self._pa = pa
        self._arrow = self._arrow_schema()
        self._file = HashedFile(self._path)
        coded = ["image.bytes"] if schema.content == "image" else ["mesh"]
        plain = [name for name in self._leaves() if name not in coded]
        self._writer = parquet.ParquetWriter(
            self._file,
            self._arrow,
            # Pictures are compressed already, and nobody looks for one by its bytes.
            compression=dict.fromkeys(plain, "zstd") | dict.fromkeys(coded, "none"),
            use_dictionary=[name for name in plain if "latent" not in name],
            write_statistics=plain,
        )
        self._rows: list[Row] = []
        self._held_bytes = 0

    def _arrow_schema(self) -> Any:
        pa, schema = self._pa, self._schema
        bytes_and_path = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        content = bytes_and_path if schema.content == "image" else pa.binary()
        types = {"uint64": pa.uint64(), "int32": pa.int32(), "double": pa.float64()}
        fields = [
            ("key", pa.string()),
            ("index", pa.uint64()),
            (schema.content, content),
            *((name, types.get(kind, pa.string())) for name, kind in schema.columns.items()),
        ]
        if schema.latent_size:
            fields.append(("latent", pa.list_(pa.float32(), schema.latent_size)))
        return pa.schema(fields, metadata={"huggingface": json.dumps(self._features())})

    def _features(self) -> dict[str, Any]:
        """Say what the columns are as Hugging Face's `datasets` does."""
        names = {"double": "float64"}
        features: dict[str, Any] = {
            "key": {"dtype": "string", "_type": "Value"},
            "index": {"dtype": "uint64", "_type": "Value"},
            self._schema.content: {"_type": "Image"}
            if self._schema.content == "image"
            else {"dtype": "binary", "_type": "Value"},
        }
        for name, kind in self._schema.columns.items():
            features[name] = {"dtype": names.get(kind, kind), "_type": "Value"}
        if self._schema.latent_size:
            features["latent"] = {
                "feature": {"dtype": "float32", "_type": "Value"},
                "length": self._schema.latent_size,
                "_type": "List",
            }
        return {"info": {"features": features}}

    def _leaves(self) -> list[str]:
        names = []
        for field in self._arrow:
            if field.name == "image":
                names += ["image.bytes", "image.path"]
            else:
                names.append("latent.list.element" if field.name == "latent" else field.name)
        return names

    def _add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._rows.append(row)
            self._held_bytes += len(row.data)
            if len(self._rows) == _ROW_GROUP_ROWS or self._held_bytes >= _ROW_GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        pa, schema, rows = self._pa, self._schema, self._rows
        content = pa.array([row.data for row in rows], pa.binary())
        if schema.content == "image":
            paths = pa.array([row.key + schema.suffix for row in rows])
            content = pa.StructArray.from_arrays([content, paths], ["bytes", "path"])
        arrays = [
            pa.array([row.key for row in rows]),
            pa.array([row.index for row in rows], pa.uint64()),
            content,
        ]
        arrays += [
            pa.array([row.facts[name] for row in rows], self._arrow.field(name).type)
            for name in schema.columns
        ]
        if schema.latent_size:
            latents = np.concatenate([row.latent for row in rows if row.latent is not None])
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(latents), schema.latent_size))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._arrow))
        self._rows, self._held_bytes = [], 0

    def _finish(self) -> tuple[tuple[ShardFile, ...], int]:
        if self._rows:
            self._flush()
        self._writer.close()
        return self._file.told(self._name)

    def close(self) -> None:
        """Leave the files, whether finished or not."""
        # Or it would write the end of a file that is closed, when it is collected.
        self._writer.is_open = False
        self._file.close()
