"""What is written opens with the libraries that people read data sets with."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facegen.serving.rendering.output.containers import Container, open_shard
from facegen.serving.rendering.output.shard_writer import RowSchema, StagedShard
from facegen.serving.rendering.rows import Row

RenderSet = Callable[..., dict[str, Any]]
SCHEMA = RowSchema({"source": "string", "psnr_db": "double"}, "image", ".png", 3)
CONTAINERS: tuple[Container, ...] = ("folder", "webdataset", "parquet")

# The libraries' own: webdataset leaves the files open that it has read.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def rows(count: int, *, name: str = "a") -> list[Row]:
    return [
        Row(
            f"{index:09}-{name}",
            index,
            bytes([index % 256]) * (1000 + index),
            {"source": f"ä/{index}.jpg", "psnr_db": 20 + index / 3 if index % 2 else None},
            np.full(3, index, np.float32),
        )
        for index in range(count)
    ]


def write(container: Container, folder: Path, some: list[Row], *, parts: int = 1) -> StagedShard:
    folder.mkdir()
    writer = open_shard(container, folder, 7, schema=SCHEMA)
    for part in range(parts):
        writer.add(some[part::parts] if parts > 1 else some)
    staged = writer.finish()
    writer.close()
    return staged


@pytest.fixture(scope="module")
def rendered(render_set: RenderSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 25 pictures in every container, with their latents."""
    folder = tmp_path_factory.mktemp("rendered")
    for name in ("png", "webdataset", "parquet"):
        render_set(folder / name, count=25, shard_size=10, seed=2, format=name, latents=True)
    return {path.name: path for path in folder.iterdir()}


def pictures(rendered: dict[str, Path]) -> list[bytes]:
    return [path.read_bytes() for path in sorted(rendered["png"].rglob("*.png"))]


def test_a_tar_opens_with_webdataset(rendered: dict[str, Path]) -> None:
    import webdataset

    files = [str(path) for path in sorted(rendered["webdataset"].glob("*.tar"))]

    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("rgb8"))

    assert [sample["__key__"] for sample in samples] == [f"{index:09}" for index in range(25)]
    assert [sample["json"] for sample in samples] == [
        {"index": index, "seed": 2} for index in range(25)
    ]
    for sample, picture in zip(samples, pictures(rendered), strict=True):
        with Image.open(BytesIO(picture)) as image:
            np.testing.assert_array_equal(sample["png"], np.asarray(image.convert("RGB")))
        assert sample["latent.npy"].shape == (8,)


def test_parquet_opens_with_pandas(rendered: dict[str, Path]) -> None:
    import pandas

    table = pandas.read_parquet(rendered["parquet"] / "shard-000001.parquet")

    assert list(table.columns) == ["key", "index", "image", "seed", "latent"]
    assert table["index"].tolist() == list(range(10, 20))
    assert [image["bytes"] for image in table["image"]] == pictures(rendered)[10:20]
    assert table["latent"][0].shape == (8,)


def test_parquet_opens_with_polars(rendered: dict[str, Path]) -> None:
    import polars

    table = polars.read_parquet(rendered["parquet"] / "*.parquet")

    assert table["index"].to_list() == list(range(25))
    assert [image["bytes"] for image in table["image"].to_list()] == pictures(rendered)
    assert table.schema["latent"] == polars.Array(polars.Float32, 8)
    assert table.schema["seed"] == polars.UInt64


@pytest.mark.parametrize("container", ["parquet", "png", "webdataset"])
def test_every_container_opens_with_datasets(
    rendered: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    container: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder = rendered[container]
    asked: dict[str, Any] = {
        "png": {"path": "imagefolder", "data_dir": str(folder)},
        "parquet": {"path": "parquet", "data_files": f"{folder}/*.parquet"},
        "webdataset": {"path": "webdataset", "data_files": f"{folder}/*.tar"},
    }[container]

    table = datasets.load_dataset(**asked, split="train", cache_dir=str(tmp_path))

    assert table.num_rows == 25
    column = "png" if container == "webdataset" else "image"
    facts = table["json"] if container == "webdataset" else table
    # A folder's files come in an order of their reader's own.
    places = {row["index"]: place for place, row in enumerate(facts)}
    assert sorted(places) == list(range(25))
    for index in (3, 17):
        with Image.open(BytesIO(pictures(rendered)[index])) as wanted:
            picture = table[places[index]][column]
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(wanted))


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_rows_are_the_same_bytes(tmp_path: Path, container: Container) -> None:
    one = write(container, tmp_path / "one", rows(2100))
    other = write(container, tmp_path / "other", rows(2100))

    assert one.files == other.files
    assert one.size_bytes == other.size_bytes
    assert write(container, tmp_path / "third", rows(2100, name="b")).files != one.files


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_told_of_a_shard_is_so(tmp_path: Path, container: Container) -> None:
    staged = write(container, tmp_path / "shard", rows(50))

    assert staged.path is not None
    for file in staged.files:
        path = tmp_path / "shard" / file.name
        assert path.stat().st_size == file.size_bytes
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    files = [path for path in (tmp_path / "shard").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == staged.size_bytes


def test_a_folder_tells_the_hash_of_every_picture(tmp_path: Path) -> None:
    staged = write("folder", tmp_path / "shard", rows(5))

    assert staged.path is not None
    lines = (staged.path / "metadata.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[2]) == {
        "file_name": "000000002-a.png",
        "index": 2,
        "source": "ä/2.jpg",
        "psnr_db": None,
        "sha256": hashlib.sha256(rows(3)[2].data).hexdigest(),
    }
    np.testing.assert_array_equal(np.load(staged.path / "latents.npy")[4], [4, 4, 4])


def test_a_tar_is_read_back_whatever_its_names_and_sizes(tmp_path: Path) -> None:
    some = [
        Row("x" * 120, 1, b"", {"source": "", "psnr_db": None}),
        Row("y" * 95, 2, b"z" * 512, {"source": "", "psnr_db": None}),
        Row("z", 3, b"z" * 513, {"source": "", "psnr_db": None}),
    ]

    staged = write("webdataset", tmp_path / "shard", some)

    assert staged.path is not None
    assert staged.size_bytes % 10240 == 0
    with tarfile.open(staged.path) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [
            f"{row.key}.{it}" for row in some for it in ("png", "json")
        ]
        assert {(member.mtime, member.uid, member.mode) for member in members} == {(0, 0, 0o644)}
        for row in some:
            member = tar.extractfile(f"{row.key}.png")
            assert member is not None
            assert member.read() == row.data


def test_a_row_group_of_photos_stays_small(tmp_path: Path) -> None:
    from pyarrow import parquet

    latent = np.zeros(3, np.float32)
    some = [
        Row(
            str(number),
            number,
            bytes(30_000_000),
            {"source": "", "psnr_db": 1.0},
            latent,
        )
        for number in range(5)
    ]

    staged = write("parquet", tmp_path / "shard", some)

    assert parquet.ParquetFile(staged.path).num_row_groups == 2
