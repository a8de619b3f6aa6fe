"""Rows that are written by each container are read back."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.rendering.output.containers import Container, open_shard
from facegen.serving.rendering.output.places import LocalPlace
from facegen.serving.rendering.output.reading import TarRows, index_of, open_rows
from facegen.serving.rendering.output.records import ShardRecord
from facegen.serving.rendering.output.shard_writer import RowSchema
from facegen.serving.rendering.rows import Row

CONTAINERS = ("folder", "webdataset", "parquet")
_COLUMNS = {"seed": "uint64", "source": "string", "psnr_db": "double"}


def _rows(count: int, *, stem: str = "") -> list[Row]:
    return [
        Row(
            f"{index:09}{stem}",
            index,
            bytes([index % 256]) * (index % 700),
            {"seed": 2**64 - 1, "source": f"a \u2028 b/{index}.é.jpg", "psnr_db": None},
            np.full(3, index, np.float32),
        )
        for index in range(5, 5 + count)
    ]


def _write(place: Path, container: Container, rows: list[Row]) -> ShardRecord:
    """Write rows to shard 7, its staged file being in its place at once."""
    place.mkdir()
    writer = open_shard(container, place, 7, schema=RowSchema(_COLUMNS, "image", ".png", 3))
    for start in range(0, len(rows), 64):
        writer.add(rows[start : start + 64])
    staged = writer.finish()
    writer.close()
    return ShardRecord(7, 0, len(rows), len(rows), 0, staged.size_bytes, staged.files, (), 0, "")


@pytest.mark.parametrize("container", CONTAINERS)
def test_rows_are_read_back_in_any_order(tmp_path: Path, container: Container) -> None:
    written = _rows(2300)
    record = _write(tmp_path / "set", container, written)
    place = LocalPlace(tmp_path / "set", work=".render")

    with open_rows(place, record, container=container) as rows:
        keys = list(rows.keys())
        read = {number: rows.row(number) for number in (0, 1, 1001, 2299, 999, 0)}
        count = rows.count

    assert (keys, count) == ([row.key for row in written], 2300)
    assert [index_of(key) for key in keys] == list(range(5, 2305))
    for number, row in read.items():
        expected = written[number]
        assert (row.key, row.index, row.data) == (expected.key, expected.index, expected.data)
        assert row.facts == expected.facts


def test_names_that_a_header_has_no_room_for_are_read_from_tars(tmp_path: Path) -> None:
    written = _rows(3, stem=f"-{'long' * 40}")
    record = _write(tmp_path / "set", "webdataset", written)
    path = tmp_path / "set" / record.files[0].name

    with TarRows(path.open("rb"), 3) as rows:
        assert list(rows.keys()) == [row.key for row in written]
        assert [rows.row(number).data for number in range(3)] == [row.data for row in written]
    with tarfile.open(path) as tar:
        assert tar.getnames()[::3] == [f"{row.key}.png" for row in written]


def test_row_that_a_tar_does_not_have_is_an_error(tmp_path: Path) -> None:
    record = _write(tmp_path / "set", "webdataset", _rows(3))
    path = tmp_path / "set" / record.files[0].name

    with TarRows(path.open("rb"), 4) as rows, pytest.raises(IndexError, match="no row 3"):
        rows.row(3)


def test_broken_header_of_a_tar_is_an_error(tmp_path: Path) -> None:
    record = _write(tmp_path / "set", "webdataset", _rows(3))
    path = tmp_path / "set" / record.files[0].name
    data = bytearray(path.read_bytes())
    data[148] ^= 1
    path.write_bytes(data)

    with TarRows(path.open("rb"), 3) as rows, pytest.raises(ValueError, match="header at byte 0"):
        list(rows.keys())
