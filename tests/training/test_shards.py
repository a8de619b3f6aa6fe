"""The reader `folder` on what `facegen render` writes: folders, tar shards, Parquet shards."""

import io
import logging
import os
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from facegen.training.data import Dataset, load_faces, read_dataset
from facegen.training.data.cache import decode_dataset
from facegen.training.data.decoding import decode_picture, in_memory
from facegen.training.errors import ConfigurationError, DatasetError
from tests.conftest import draw_expression
from tests.training.rendered_files import (
    CONTAINERS,
    PICTURE_TYPE,
    as_folders,
    as_parquet,
    as_tars,
    png,
    write_parquet,
    write_tar,
)


def noise(index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 255, (20, 20, 3), np.uint8)


PICTURES = {f"{index:09d}": png(noise(index)) for index in range(40)}


def decoded(dataset: Dataset) -> np.ndarray:
    """Pixels in the data set's order, whatever the split."""
    pictures = tuple(replace(it, split="train") for it in dataset.pictures)
    return decode_dataset(replace(dataset, pictures=pictures), size_px=20, channels=3).pixels


def names(dataset: Dataset, split: str) -> list[str]:
    return [it.name for it in dataset.pictures if it.split == split]


@pytest.mark.parametrize(
    ("container", "first", "last"),
    [
        ("folders", "shard-000000/000000000.png", "shard-000001/000000039.png"),
        ("tars", "shard-000000.tar/000000000.png", "shard-000001.tar/000000039.png"),
        ("parquet", "shard-000000.parquet/0", "shard-000001.parquet/19"),
    ],
)
def test_every_container_gives_the_same_pixels_under_stable_names(
    container: str, first: str, last: str, tmp_path: Path
) -> None:
    root = CONTAINERS[container](tmp_path / "rendered", PICTURES)

    dataset = read_dataset("folder", root)

    assert len({it.name for it in dataset.pictures}) == len(PICTURES)
    assert (dataset.pictures[0].name, dataset.pictures[-1].name) == (first, last)
    expected = [noise(index) for index in range(len(PICTURES))]
    np.testing.assert_array_equal(decoded(dataset), expected)


@pytest.mark.parametrize("container", ["tars", "parquet"])
def test_split_by_hash_survives_new_shards(container: str, tmp_path: Path) -> None:
    root = CONTAINERS[container](tmp_path / "rendered", PICTURES)
    before = read_dataset("folder", root)

    CONTAINERS[container](
        root / "more", {f"{index:09d}": png(noise(index)) for index in range(50, 60)}
    )
    after = read_dataset("folder", root)

    assert len(after.pictures) == len(PICTURES) + 10
    assert names(before, "validation")
    assert set(names(before, "validation")) <= set(names(after, "validation"))
    assert set(names(before, "train")) <= set(names(after, "train"))


@pytest.mark.parametrize("container", ["tars", "parquet"])
def test_fingerprint_changes_with_a_shard(container: str, tmp_path: Path) -> None:
    root = CONTAINERS[container](tmp_path / "rendered", PICTURES)
    before = read_dataset("folder", root).fingerprint()

    assert read_dataset("folder", root).fingerprint() == before
    os.utime(next(root.glob("shard-000001.*")), (1, 1))

    assert read_dataset("folder", root).fingerprint() != before


@pytest.mark.parametrize(
    ("container", "named"),
    [("tars", "shard-000000.tar/000000005.png"), ("parquet", "shard-000000.parquet/5")],
)
def test_broken_picture_of_a_shard_is_skipped_and_named(
    container: str, named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = PICTURES | {"000000005": PICTURES["000000005"][:60]}
    root = CONTAINERS[container](tmp_path / "rendered", pictures)

    with caplog.at_level(logging.WARNING):
        faces = load_faces("folder", root, size_px=16, channels=3)

    assert faces.corrupt == (named,)
    assert len(faces.pixels["train"]) + len(faces.pixels["validation"]) == len(PICTURES) - 1
    assert f"count=1 files={named}" in caplog.text


def test_row_without_a_picture_is_skipped_and_named(tmp_path: Path) -> None:
    images: list[Any] = [{"bytes": it, "path": None} for it in list(PICTURES.values())[:5]]
    images[1:3] = [None, {"bytes": None, "path": "elsewhere.png"}]
    write_parquet(tmp_path / "part.parquet", {"image": pa.array(images, PICTURE_TYPE)})

    faces = load_faces("folder", tmp_path, size_px=16, channels=3)

    assert faces.corrupt == ("part.parquet/1", "part.parquet/2")


@pytest.mark.parametrize("kept_bytes", [0, 700, 1024, 2048])
def test_tar_that_is_cut_short_is_refused_by_name(kept_bytes: int, tmp_path: Path) -> None:
    root = as_tars(tmp_path / "rendered", PICTURES)
    shard = root / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:kept_bytes])

    with pytest.raises(DatasetError, match=r"shard-000001\.tar .*Write it again") as caught:
        read_dataset("folder", root)

    assert caught.value.where == shard


def test_tar_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    root = as_tars(tmp_path / "rendered", PICTURES)
    shard = root / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    second = 2 * tarfile.BLOCKSIZE  # after the header and the two bytes of the first
    content[second] ^= 1
    shard.write_bytes(content)

    with pytest.raises(DatasetError, match=f"no file and no end at byte {second}"):
        read_dataset("folder", root)


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty.png"))

    with pytest.raises(DatasetError, match=r"files without compression .*shard\.tar"):
        read_dataset("folder", tmp_path)


def test_of_members_of_one_name_the_last_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name, index in (("./a.png", 0), ("b.png", 1), ("a.png", 2), ("._a.png", 3)):
            member = tarfile.TarInfo(name)
            member.size = len(png(noise(index)))
            archive.addfile(member, io.BytesIO(png(noise(index))))

    dataset = read_dataset("folder", tmp_path)

    found = {it.name: decode_picture(it, size_px=20, channels=3, crop=1) for it in dataset.pictures}
    assert set(found) == {"shard.tar/a.png", "shard.tar/b.png"}
    np.testing.assert_array_equal(found["shard.tar/a.png"], noise(2))


def test_parquet_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    root = as_parquet(tmp_path / "rendered", PICTURES)
    shard = root / "shard-000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])

    with pytest.raises(DatasetError, match=r"shard-000001\.parquet .*Write it again"):
        read_dataset("folder", root)


def test_parquet_with_broken_rows_is_refused_when_they_are_read(tmp_path: Path) -> None:
    root = as_parquet(tmp_path / "rendered", PICTURES)
    shard = root / "shard-000000.parquet"
    content = bytearray(shard.read_bytes())
    content[4:3000] = bytes(2996)  # pages, not the footer
    shard.write_bytes(content)

    with pytest.raises(DatasetError, match=r"whole rows of pictures in .*shard-000000\.parquet"):
        load_faces("folder", root, size_px=16, channels=3)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.large_binary())])], ids=str
)
def test_the_only_column_of_pictures_needs_no_name(kind: pa.DataType, tmp_path: Path) -> None:
    contents: Sequence[Any] = list(PICTURES.values())[:5]
    if pa.types.is_struct(kind):
        contents = [{"bytes": it} for it in contents]
    columns = {"label": pa.array(range(5)), "a photo.jpg": pa.array(contents, kind)}
    write_parquet(tmp_path / "part.parquet", columns)

    dataset = read_dataset("folder", tmp_path)

    expected = [noise(index) for index in range(5)]
    np.testing.assert_array_equal(decoded(dataset), expected)


@pytest.mark.parametrize("kinds", [{}, {"left": pa.binary(), "right": pa.binary()}])
def test_columns_that_cannot_be_told_apart_are_listed(
    kinds: Mapping[str, pa.DataType], tmp_path: Path
) -> None:
    columns = {"label": pa.array([1])} | {it: pa.array([b""], kind) for it, kind in kinds.items()}
    write_parquet(tmp_path / "part.parquet", columns)

    listed = ", ".join(["label (int64)", *(f"{it} (binary)" for it in kinds)])
    with pytest.raises(DatasetError, match=re.escape(f"a column of pictures among {listed} in")):
        read_dataset("folder", tmp_path)


def test_a_row_group_is_read_once_and_alone(tmp_path: Path) -> None:
    root = as_parquet(tmp_path / "rendered", PICTURES)
    pictures = in_memory(read_dataset("folder", root).pictures)

    first = next(pictures)
    (root / "shard-000000.parquet").unlink()
    rest = [next(pictures), next(pictures)]

    assert [it.source for it in (first, *rest)] == list(PICTURES.values())[:3]
    with pytest.raises(DatasetError, match=r"shard-000000\.parquet"):
        next(pictures)


def test_missing_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = as_parquet(tmp_path / "rendered", PICTURES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(
        ConfigurationError, match=r"pyarrow is missing; pip install 'facegen\[train\]'"
    ):
        read_dataset("folder", root)


def test_shards_beside_pictures_are_left_out_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = as_folders(tmp_path / "rendered", PICTURES)
    write_tar(root / "backup.tar", {"a.png": png(noise(0))})
    write_parquet(root / "metadata.parquet", {"label": pa.array([1])})

    with caplog.at_level(logging.WARNING):
        dataset = read_dataset("folder", root)

    assert len(dataset.pictures) == len(PICTURES)
    assert "shards beside pictures left out count=2 first=backup.tar" in caplog.text


def test_faces_of_shards_are_aligned_as_those_of_files(tmp_path: Path) -> None:
    pictures = {}
    for index in range(12):
        face = np.asarray(draw_expression("neutral", seed=index, size_px=128))
        pictures[f"{index:09d}"] = png(face)

    found = {
        name: load_faces("folder-aligned", write(tmp_path / name, pictures), size_px=32, channels=1)
        for name, write in CONTAINERS.items()
    }

    pixels = {
        name: np.concatenate([it.pixels["train"], it.pixels["validation"]])
        for name, it in found.items()
    }
    assert len(pixels["folders"]) > 6
    for name in ("tars", "parquet"):
        assert sorted(map(bytes, pixels[name])) == sorted(map(bytes, pixels["folders"]))
