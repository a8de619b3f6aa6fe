"""Places that data sets go to: this machine, memory, and a store that speaks S3."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from facegen.serving.errors import OutputError, StoppedError
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.places import LocalPlace, Place, open_output

RenderSet = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server that speaks S3, on this machine."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("faces")
    yield "s3://faces"
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    server.stop()


@pytest.fixture(params=["local", "file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that is not there yet."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"file://{tmp_path}/out" if request.param == "file" else f"{tmp_path}/out"


@pytest.fixture
def place(url: str) -> Place:
    return open_output(url, work=".render")


def test_a_file_is_written_and_read(place: Place) -> None:
    assert place.names() == []
    assert place.read("deep/er/a.json") is None
    assert place.size("deep/er/a.json") is None
    assert place.read_all("deep/er") == {}

    place.write("deep/er/a.json", b"one")
    place.write("deep/er/a.json", b"two!")

    assert place.read("deep/er/a.json") == b"two!"
    assert place.size("deep/er/a.json") == 4
    assert place.read_all("deep/er") == {"a.json": b"two!"}
    assert [name for name in place.names() if not name.startswith(".")] == ["deep"]
    with place.open("deep/er/a.json") as file:
        file.seek(1)
        assert file.read(2) == b"wo"


def test_a_staged_file_or_folder_takes_its_place(place: Place) -> None:
    for _ in range(2):
        with place.staging() as staging:
            (staging / "shard-1").mkdir()
            (staging / "shard-1" / "a [1].png").write_bytes(b"a")
            (staging / "shard-2.tar").write_bytes(b"tar")
            place.put(staging / "shard-1", "shard-1")
            place.put(staging / "shard-2.tar", "shard-2.tar")
        assert not staging.exists()

    assert place.read("shard-1/a [1].png") == b"a"
    assert place.read("shard-2.tar") == b"tar"


def test_what_is_removed_is_gone(place: Place) -> None:
    place.write("a/one", b"1")
    place.write("a/two", b"2")

    place.remove("a")
    place.remove("nothing")

    assert place.read("a/one") is None
    assert place.read("a/two") is None


@pytest.mark.parametrize("file_format", ["png", "parquet"])
def test_a_data_set_is_the_same_wherever_it_is(
    render_set: RenderSet, tmp_path: Path, url: str, file_format: str
) -> None:
    fields = {"count": 30, "shard_size": 10, "format": file_format, "seed": 4}
    here = render_set(tmp_path / "here", **fields)

    class Stop:
        count = 0

        def __call__(self) -> None:
            self.count += 1
            if self.count == 1:
                raise StoppedError

    with pytest.raises(StoppedError):
        render_set(url, **fields, finished=Stop())
    there = render_set(url, **fields, resume=True)

    assert [shard["files"] for shard in there["shards"]] == [
        shard["files"] for shard in here["shards"]
    ]
    place = open_output(url, work=".render")
    for path in (tmp_path / "here").rglob("shard-*/*"):
        assert place.read(path.relative_to(tmp_path / "here").as_posix()) == path.read_bytes()
    assert Journal(url).manifest() == Journal(url).manifest() is not None
    assert [name for name in place.names() if name.startswith(".")] == []


def test_photos_are_read_from_a_store(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path, bucket: str
) -> None:
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.put(f"{hand_photos}/", "faces/photos/", recursive=True)
    job = {"kind": "reconstruct", "format": "webdataset"}

    render_set(tmp_path / "there", input=f"{bucket}/photos", **job)
    render_set(tmp_path / "here", input=str(hand_photos), **job)

    there, here = (
        (tmp_path / name / "shard-000000.tar").read_bytes() for name in ("there", "here")
    )
    assert there == here


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = LocalPlace(tmp_path / "file" / "out", work=".render")

    with pytest.raises(OutputError, match="cannot be used: Not a directory; mend that, and go on"):
        place.write("a", b"a")
