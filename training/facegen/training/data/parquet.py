"""Pictures in rows of Parquet files, as Hugging Face's data sets keep them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.training.errors import ConfigurationError, DatasetError

__all__ = ["ParquetRow", "RowGroup", "parquet_rows"]

_COLUMN = "image"


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows of a Parquet file that can only be read together.

    Attributes:
        path: The file.
        column: Path of the values that are pictures, such as `image.bytes`.
        index: Number of the row group in the file.
    """

    path: Path
    column: str
    index: int

    def read(self) -> list[bytes]:
        """Every row's picture; empty bytes where a row has none.

        Raises:
            DatasetError: The rows do not decode; right once the file is written again.
        """
        arrow = _arrow()
        try:
            with arrow.parquet.ParquetFile(self.path) as file:
                table = file.read_row_group(self.index, columns=[self.column])
        except (arrow.ArrowException, OSError) as error:
            raise _broken(self.path, error) from error
        return [it or b"" for it in table.flatten().column(0).to_pylist()]


@dataclass(frozen=True, slots=True)
class ParquetRow:
    """One picture of a row group.

    Attributes:
        group: The rows that it is read with.
        row: Its number among them.
    """

    group: RowGroup
    row: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.group.path

    def read(self) -> bytes:
        """The picture, by reading the whole row group: `in_memory` does that once for all rows."""
        return self.group.read()[self.row]


def parquet_rows(path: Path) -> Mapping[str, ParquetRow]:
    """List the pictures of a file: one a row, named by the row's number.

    They are the column `image`, or else the only one that can be pictures: binary, or a structure
    with binary `bytes`.

    Args:
        path: The file.

    Returns:
        The pictures by name, in their order.

    Raises:
        DatasetError: It is cut short or no Parquet file, or has no such column, or several.
        ConfigurationError: pyarrow is missing.
    """
    arrow = _arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (arrow.ArrowException, OSError) as error:
        raise _broken(path, error) from error
    column = _picture_column(arrow.types, schema, path)
    rows = [
        ParquetRow(group, row)
        for group in (RowGroup(path, column, index) for index in range(metadata.num_row_groups))
        for row in range(metadata.row_group(group.index).num_rows)
    ]
    return {str(number): row for number, row in enumerate(rows)}


def _picture_column(types: Any, schema: Any, path: Path) -> str:
    """The path of the values of the column that holds pictures."""

    def is_binary(kind: Any) -> bool:
        return bool(
            types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        )

    found: dict[str, str] = {}
    for field in schema:
        inner = {it.name: it.type for it in field.type} if types.is_struct(field.type) else {}
        if is_binary(field.type):
            found[field.name] = field.name
        elif "bytes" in inner and is_binary(inner["bytes"]):
            found[field.name] = f"{field.name}.bytes"
    if len(found) != 1 and _COLUMN not in found:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise DatasetError(
            "Parquet file",
            looked_for=f"a column of pictures among {columns or 'none'}",
            where=path,
            remedy=f'Name the column of encoded pictures "{_COLUMN}"; it is binary, or a structure '
            "with binary bytes.",
        )
    return found.get(_COLUMN) or next(iter(found.values()))


def _broken(path: Path, error: Exception) -> DatasetError:
    return DatasetError(
        "Parquet file",
        looked_for="whole rows of pictures",
        where=path,
        remedy=f"It cannot be read: {error}. Write it again, or take it away.",
    )


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Parquet files", "pyarrow is missing; pip install 'facegen[train]'"
        ) from error
    return pyarrow
