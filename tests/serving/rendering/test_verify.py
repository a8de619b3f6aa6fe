"""Data sets are rendered, damaged, and checked."""

import hashlib
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest

from facegen.serving.errors import OutputError, StoppedError
from facegen.serving.rendering.verify import Verification, verify
from tests.serving.family_graphs import EXPRESSION_FAMILY
from tests.serving.mesh_graphs import MESH_FAMILY
from tests.serving.rendering.conftest import RenderSet
from tests.serving.rendering.data_sets import hashes
from tests.serving.rendering.stopping import StopAfter

FORMATS = ("png", "webdataset", "parquet")
JOB = {"count": 10, "seed": 5, "shard_size": 4, "latents": True}
TRANSFER = {
    "kind": "transfer",
    "family": EXPRESSION_FAMILY,
    "cropped": True,
    "crops": True,
    "shard_size": 4,
}
ENDINGS = {"png": "", "webdataset": ".tar", "parquet": ".parquet"}


@pytest.fixture(scope="session")
def whole_sets(tmp_path_factory: pytest.TempPathFactory, render_set: RenderSet) -> dict[str, Path]:
    """A data set of each format, 10 faces in three shards: read them, do not change them."""
    folder = tmp_path_factory.mktemp("whole")
    for name in FORMATS:
        render_set(folder / name, format=name, **JOB)
    return {name: folder / name for name in FORMATS}


@pytest.fixture
def copy(whole_sets: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy the data set of a format, to be changed."""
    return lambda name: Path(shutil.copytree(whole_sets[name], tmp_path / name))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def _only(found: Verification) -> str:
    """The one problem that there is."""
    assert (found.problem_count, found.complete) == (1, False), found.problems
    assert found.remedy
    return found.problems[0]


@pytest.mark.parametrize("name", FORMATS)
def test_untouched_data_set_is_complete_and_all_of_it_is_read(
    whole_sets: dict[str, Path], name: str
) -> None:
    told: list[tuple[int, int]] = []

    found = verify(str(whole_sets[name]), told=lambda *bytes_read: told.append(bytes_read))

    size_bytes = sum(path.stat().st_size for path in _files(whole_sets[name]))
    size_bytes -= (whole_sets[name] / "manifest.json").stat().st_size
    assert found == Verification(3, 10, size_bytes, 0, True, (), 0, "")
    assert told[-1] == (size_bytes, size_bytes)


def test_progress_rises_to_all_bytes(tmp_path: Path, render_set: RenderSet) -> None:
    render_set(tmp_path / "set", family=MESH_FAMILY, count=3000, shard_size=1000, format="obj")
    told: list[tuple[int, int]] = []

    found = verify(str(tmp_path / "set"), told=lambda *bytes_read: told.append(bytes_read))

    done = [done_bytes for done_bytes, _ in told]
    assert len(done) > 3
    assert all(before <= after for before, after in pairwise(done))
    assert {all_bytes for _, all_bytes in told} == {done[-1]} == {found.size_bytes}


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("webdataset", {"kind": "interpolate", "count": 9, "frames": 4, "shard_size": 4}),
        (
            "parquet",
            {"count": 9, "shard_size": 2, "first_index": 10**9 - 4, "where": "index % 3 == 0"},
        ),
        ("png", {"kind": "reconstruct", "where": "psnr_db > 0", "latents": True}),
        ("png", TRANSFER),
        ("webdataset", TRANSFER),
        ("parquet", TRANSFER),
        ("webdataset", {**TRANSFER, "where": "expression != 'anger' and index > 3"}),
    ],
)
def test_data_sets_of_all_jobs_are_complete(
    tmp_path: Path, render_set: RenderSet, hand_photos: Path, name: str, job: dict[str, Any]
) -> None:
    inputs = {"input": str(hand_photos)} if "count" not in job else {}
    manifest = render_set(tmp_path / "set", format=name, **job, **inputs)

    found = verify(str(tmp_path / "set"))

    assert found.complete, found.problems
    assert found.row_count == manifest["counts"]["rows"] > 0
    assert (tmp_path / "set" / "errors.jsonl").exists() == bool(inputs)


@pytest.mark.parametrize("name", FORMATS)
def test_data_set_without_any_row_is_complete(
    tmp_path: Path, render_set: RenderSet, name: str
) -> None:
    render_set(tmp_path / "set", format=name, count=5, where="index > 100")

    assert verify(str(tmp_path / "set")).complete


@pytest.mark.parametrize("name", FORMATS)
def test_one_flipped_bit_of_any_file_is_told(copy: Callable[[str], Path], name: str) -> None:
    folder = copy(name)

    for path in _files(folder):
        if path.name == "manifest.json":
            continue
        before = path.read_bytes()
        _flip(path)
        problem = _only(verify(str(folder)))
        assert problem == f"{path.relative_to(folder)}: has other bytes than were written"
        path.write_bytes(before)


@pytest.mark.parametrize("name", FORMATS)
def test_any_missing_file_is_told(copy: Callable[[str], Path], name: str) -> None:
    folder = copy(name)

    for path in _files(folder):
        if path.name == "manifest.json":
            continue
        before = path.read_bytes()
        path.unlink()
        problem = _only(verify(str(folder)))
        assert problem.startswith(f"{path.relative_to(folder)}: is missing")
        path.write_bytes(before)


@pytest.mark.parametrize("name", FORMATS)
def test_file_that_was_cut_short_is_told_with_both_sizes(
    copy: Callable[[str], Path], name: str
) -> None:
    folder = copy(name)
    path = folder / f"shard-000001{ENDINGS[name]}"
    path = path / "metadata.jsonl" if path.is_dir() else path
    data = path.read_bytes()
    path.write_bytes(data[:-100])

    found = verify(str(folder))

    problem = _only(found)
    assert problem.startswith(f"{path.relative_to(folder)}: has {len(data) - 100} bytes, ")
    assert f"{len(data)} bytes were written" in problem
    assert (found.shard_count, found.row_count, found.missing_count) == (2, 6, 0)


@pytest.mark.parametrize(
    "name", ["notes.txt", "shard-000003/000000012.png", "shard-000000/a.png", ".render/plan.json"]
)
def test_foreign_file_is_told(copy: Callable[[str], Path], name: str) -> None:
    folder = copy("png")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"?")

    problem = _only(verify(str(folder)))

    shown = name if name.startswith("shard-000000/") else name.partition("/")[0]
    assert problem == f"{shown}: is no part of the data set"


def test_hidden_files_of_others_are_passed_over(copy: Callable[[str], Path]) -> None:
    folder = copy("png")
    (folder / ".facegen-cache").mkdir()
    (folder / ".facegen-cache" / "pictures.npy").write_bytes(b"?")

    assert verify(str(folder)).complete


@pytest.mark.parametrize("name", FORMATS)
def test_swapped_shards_are_told_both(copy: Callable[[str], Path], name: str) -> None:
    folder = copy(name)
    _swap(folder, name)

    found = verify(str(folder))

    assert found.problem_count >= 2
    assert {problem[:12] for problem in found.problems} == {"shard-000000", "shard-000001"}
    assert found.shard_count == 1


@pytest.mark.parametrize("name", FORMATS)
def test_swapped_shards_are_told_by_their_rows_if_the_manifest_was_changed_too(
    copy: Callable[[str], Path], name: str
) -> None:
    folder = copy(name)
    _swap(folder, name)

    def swap_hashes(manifest: dict[str, Any]) -> None:
        one, other = (shard["files"] for shard in manifest["shards"][:2])
        for file, second in zip(one, other, strict=True):
            for fact in ("size_bytes", "sha256"):
                file[fact], second[fact] = second[fact], file[fact]

    _edit_manifest(folder, swap_hashes)

    found = verify(str(folder))

    assert len(found.problems) == 2
    assert all("out of its place" in problem for problem in found.problems)


def _swap(folder: Path, name: str) -> None:
    one, other = (folder / f"shard-00000{number}{ENDINGS[name]}" for number in (0, 1))
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)


def _drop_last(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _repeat_last(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[-1]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [(_drop_last, "has 3 rows, 4 are told of"), (_repeat_last, "has the row 000000003 twice")],
)
def test_rows_that_are_not_those_of_the_shard_are_told_even_if_the_hash_is_right(
    copy: Callable[[str], Path],
    change: Callable[[list[bytes]], list[bytes]],
    expected: str,
) -> None:
    folder = copy("png")
    path = folder / "shard-000000" / "metadata.jsonl"
    data = b"".join(change(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(data)

    def tell(manifest: dict[str, Any]) -> None:
        file = manifest["shards"][0]["files"][0]
        file |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    _edit_manifest(folder, tell)

    found = verify(str(folder))

    assert f"shard-000000: {expected}" in found.problems
    assert found.shard_count == 2


def _remove(manifest: dict[str, Any]) -> None:
    del manifest["shards"][1]


def _repeat(manifest: dict[str, Any]) -> None:
    manifest["shards"][1] = manifest["shards"][0]


def _move(manifest: dict[str, Any]) -> None:
    manifest["shards"][1] |= {"first": 3, "item_count": 5}


def _redirect(manifest: dict[str, Any]) -> None:
    manifest["shards"][1]["files"][0]["name"] = "../elsewhere"


def _miscount(manifest: dict[str, Any]) -> None:
    manifest["counts"]["rows"] += 1


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_remove, "manifest.json: does not tell of shard-000001"),
        (_repeat, "shard-000000: is told of twice, or is none of the job's 3 shards"),
        (_move, "shard-000001: is told to have 5 items from 3 on, must have 4 from 4 on"),
        (_redirect, "shard-000001.tar: is told to have the files ['../elsewhere'], "
         "must have ['shard-000001.tar']"),
        (_miscount, "manifest.json: has the counts "),
    ],
)  # fmt: skip
def test_manifest_that_contradicts_itself_is_told(
    copy: Callable[[str], Path], edit: Callable[[dict[str, Any]], None], expected: str
) -> None:
    folder = copy("webdataset")
    _edit_manifest(folder, edit)

    found = verify(str(folder))

    assert any(problem.startswith(expected) for problem in found.problems), found.problems
    assert not found.complete


def _cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def _alter(lines: list[str]) -> list[str]:
    return [lines[0].replace("InputError", "OutputError").replace("PictureError", "InputError")]


def _garble(lines: list[str]) -> list[str]:
    return ["{"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_cut, "errors.jsonl: has 0 lines, manifest.json tells of 1 errors"),
        (_alter, "errors.jsonl: has another line 1 than manifest.json tells of"),
        (_garble, "errors.jsonl: has another line 1 than manifest.json tells of"),
    ],
)
def test_errors_that_are_not_those_of_the_manifest_are_told(
    tmp_path: Path,
    render_set: RenderSet,
    hand_photos: Path,
    change: Callable[[list[str]], list[str]],
    expected: str,
) -> None:
    render_set(tmp_path / "set", kind="reconstruct", input=str(hand_photos))
    path = tmp_path / "set" / "errors.jsonl"
    path.write_text("\n".join(change(path.read_text("utf-8").splitlines())), "utf-8")

    assert _only(verify(str(tmp_path / "set"))) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_stopped_data_set_is_right_as_far_as_it_goes_and_complete_once_resumed(
    tmp_path: Path, render_set: RenderSet, name: str
) -> None:
    job = {"count": 40, "shard_size": 2, "format": name}
    with pytest.raises(StoppedError):
        render_set(tmp_path, finished=StopAfter(1), **job)

    stopped = verify(str(tmp_path))
    render_set(tmp_path, resume=True, **job)
    resumed = verify(str(tmp_path))

    assert (stopped.complete, stopped.problems) == (False, ())
    assert stopped.shard_count > 0 < stopped.missing_count
    assert stopped.shard_count + stopped.missing_count == resumed.shard_count == 20
    assert resumed.complete


def test_damage_to_a_stopped_data_set_is_told(tmp_path: Path, render_set: RenderSet) -> None:
    job = {"count": 40, "shard_size": 2, "format": "webdataset"}
    with pytest.raises(StoppedError):
        render_set(tmp_path, finished=StopAfter(1), **job)
    # Which shard is the first to be done is nobody's promise.
    name = f"{next((tmp_path / '.render' / 'journal').iterdir()).stem}.tar"
    _flip(tmp_path / name)

    assert _only(verify(str(tmp_path))).startswith(f"{name}: ")


@pytest.mark.parametrize("name", FORMATS)
def test_remedy_brings_the_same_bytes_back(
    copy: Callable[[str], Path], whole_sets: dict[str, Path], render_set: RenderSet, name: str
) -> None:
    folder = copy(name)
    broken = folder / f"shard-000001{ENDINGS[name]}"
    _flip(_files(broken)[0] if broken.is_dir() else broken)
    assert "--resume" in verify(str(folder)).remedy

    shutil.rmtree(broken) if broken.is_dir() else broken.unlink()
    render_set(folder, format=name, resume=True, **JOB)

    assert verify(str(folder)).complete
    assert hashes(folder) == hashes(whole_sets[name])


@pytest.mark.parametrize("name", FORMATS)
def test_remote_data_set_is_checked_as_a_local_one(render_set: RenderSet, name: str) -> None:
    url = f"memory://verify-{name}"
    render_set(url, format=name, **JOB)
    files = fsspec.filesystem("memory")
    path = next(it for it in files.find(f"/verify-{name}") if "shard-000001" in it)

    whole = verify(url)
    files.pipe_file(path, files.cat_file(path)[:-1] + b"?")
    files.pipe_file(f"/verify-{name}/notes.txt", b"?")
    broken = verify(url)

    assert whole.complete, whole.problems
    assert whole.row_count == 10
    shard = path.removeprefix(f"/verify-{name}/")
    assert broken.problems == (
        "notes.txt: is no part of the data set",
        f"{shard}: has other bytes than were written",
    )


def test_only_some_of_very_many_problems_are_kept(copy: Callable[[str], Path]) -> None:
    folder = copy("parquet")
    for number in range(400):
        (folder / f"{number}.txt").touch()

    found = verify(str(folder))

    assert found.problem_count == 400
    assert len(found.problems) == 300


def test_folder_without_a_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no data set"):
        verify(str(tmp_path))


@pytest.mark.parametrize("key", ['"shards": [', '"plan"', '"sha256"', '"layout"', "{"])
def test_manifest_that_cannot_be_read_is_an_error(copy: Callable[[str], Path], key: str) -> None:
    path = copy("webdataset") / "manifest.json"
    path.write_text(path.read_text("utf-8").replace(key, key[:1] + "?" + key[2:], 1), "utf-8")

    with pytest.raises(OutputError):
        verify(str(path.parent))
