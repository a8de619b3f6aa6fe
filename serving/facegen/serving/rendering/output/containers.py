"""How a data set keeps its rows."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal

from facegen.serving.rendering.output.folder import FolderWriter
from facegen.serving.rendering.output.parquet import ParquetWriter
from facegen.serving.rendering.output.shard_writer import RowSchema, ShardWriter
from facegen.serving.rendering.output.webdataset import TarWriter

__all__ = ["Container", "load_container", "open_shard"]

Container = Literal["folder", "webdataset", "parquet"]

_WRITERS: Mapping[Container, type[ShardWriter]] = {
    "folder": FolderWriter,
    "webdataset": TarWriter,
    "parquet": ParquetWriter,
}


def load_container(container: Container) -> None:
    """Import what a container needs, so that no shard waits for it."""
    if container == "parquet":
        import_module("pyarrow.parquet")


def open_shard(
    container: Container, folder: Path, number: int, *, schema: RowSchema
) -> ShardWriter:
    """Begin a shard in an empty folder."""
    return _WRITERS[container](folder, number, schema)
