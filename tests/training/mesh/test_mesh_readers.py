from pathlib import Path

import pytest

from facegen.training.data.dataset import hash_fraction
from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.mesh.readers import MeshFiles, read_coma, read_mesh_folder, read_meshes

IDENTITIES = ("FaceTalk_1_TA", "FaceTalk_2_TA", "FaceTalk_3_TA")
EXPRESSIONS = ("bareteeth", "mouth_open")


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def write_coma(root: Path, *, frames: int, suffix: str = ".ply") -> Path:
    for identity in IDENTITIES:
        for expression in EXPRESSIONS:
            for number in range(1, frames + 1):
                touch(root / identity / expression / f"{expression}.{number:06d}{suffix}")
    return root


def names(files: MeshFiles, split: str) -> list[str]:
    return [it.name for it in files.sources if it.split == split]


def test_interpolation_tests_the_first_ten_of_every_hundred_frames(tmp_path: Path) -> None:
    write_coma(tmp_path / "COMA_data", frames=60)  # 360 frames in all

    files = read_meshes("coma", tmp_path, unit_mm=1000)

    places = {it.name: i for i, it in enumerate(files.sources)}
    assert [it.name for it in files.sources] == sorted(places)
    tested = [places[it] for it in names(files, "test")]
    assert tested == [i for i in range(360) if i % 100 < 10]
    assert files.unit_mm == 1000
    assert {it.split for it in files.sources} == {"train", "validation", "test"}


def test_validation_is_whole_blocks_of_ten_of_what_is_not_tested(tmp_path: Path) -> None:
    files = read_coma(write_coma(tmp_path, frames=60))

    remaining = [it.name for it in files.sources if it.split != "test"]
    assert names(files, "validation") == remaining[90:100] + remaining[190:200] + remaining[290:300]


def test_few_frames_validate_on_the_last_tenth(tmp_path: Path) -> None:
    files = read_coma(write_coma(tmp_path, frames=5))  # 30, of which 10 are tested

    assert len(names(files, "train")) == 18
    assert names(files, "validation") == [it.name for it in files.sources][-2:]


def test_held_out_expression_is_tested_and_never_trained_on(tmp_path: Path) -> None:
    files = read_coma(write_coma(tmp_path, frames=5), split="expression", held_out=["mouth_open"])

    assert len(names(files, "expression")) == 15
    assert all("/mouth_open/" in it for it in names(files, "expression"))
    assert not any("/mouth_open/" in it for it in names(files, "train"))
    assert not any("/mouth_open/" in it for it in names(files, "validation"))


def test_held_out_identities_are_tested_and_never_trained_on(tmp_path: Path) -> None:
    files = read_coma(
        write_coma(tmp_path, frames=5), split="identity", held_out=["FaceTalk_2_TA", IDENTITIES[0]]
    )

    assert {it.split("/")[0] for it in names(files, "identity")} == set(IDENTITIES[:2])
    assert {it.split("/")[0] for it in names(files, "train")} == {IDENTITIES[2]}
    assert {it.split("/")[0] for it in names(files, "validation")} == {IDENTITIES[2]}


def test_unknown_expression_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5)

    with pytest.raises(DatasetError, match=r"expression 'smirk' of held_out.*'bareteeth'"):
        read_coma(tmp_path, split="expression", held_out=["smirk"])


def test_split_by_expression_without_a_name_is_refused(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5)

    with pytest.raises(ConfigurationError, match=r"split 'expression' needs one or more of.*mouth"):
        read_coma(tmp_path, split="expression")


def test_interpolation_has_no_use_for_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\['bareteeth'\] has no use"):
        read_coma(write_coma(tmp_path, frames=5), held_out=["bareteeth"])


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5)

    with pytest.raises(
        DatasetError, match=r"two meshes beside \['bareteeth', 'mouth_open'\], to train on"
    ):
        read_coma(tmp_path, split="expression", held_out=EXPRESSIONS)


def test_coma_may_be_obj_and_other_depths_are_passed_over(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5, suffix=".obj")
    touch(tmp_path / "template.obj")
    touch(tmp_path / ".facegen-cache" / "a" / "b.obj")

    assert len(read_coma(tmp_path).sources) == 30


def test_frames_that_are_there_as_ply_and_obj_count_once(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5, suffix=".obj")
    write_coma(tmp_path, frames=5, suffix=".ply")

    files = read_coma(tmp_path)

    assert len(files.sources) == 30
    assert all(it.path.suffix == ".ply" for it in files.sources)


def test_folder_without_coma_is_refused_with_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"identity/expression/frame.ply.*coma.is.tue.mpg.de"):
        read_coma(tmp_path)


def test_folder_of_meshes_splits_by_a_hash_that_new_files_do_not_change(tmp_path: Path) -> None:
    for number in range(200):
        touch(tmp_path / str(number % 3) / f"{number}.{'ply' if number % 2 else 'obj'}")
    before = read_mesh_folder(tmp_path, unit_mm=1)
    touch(tmp_path / "new.ply")
    touch(tmp_path / ".hidden" / "b.ply")

    after = read_meshes("meshes", tmp_path, unit_mm=1)

    assert names(before, "validation") == [
        it.name for it in before.sources if hash_fraction(it.name) < 0.1
    ]
    assert names(before, "test") == [
        it.name for it in before.sources if 0.1 <= hash_fraction(it.name) < 0.2
    ]
    assert set(before.sources) < set(after.sources)
    assert len(after.sources) == 201


def test_three_meshes_are_one_for_each_split(tmp_path: Path) -> None:
    for name in ("a.ply", "b.ply", "c.ply"):
        touch(tmp_path / name)

    splits = [it.split for it in read_mesh_folder(tmp_path, unit_mm=1).sources]

    assert sorted(splits) == ["test", "train", "validation"]


def test_two_meshes_are_too_few(tmp_path: Path) -> None:
    touch(tmp_path / "a.ply")
    touch(tmp_path / "b.obj")

    with pytest.raises(DatasetError, match="three meshes or more"):
        read_mesh_folder(tmp_path, unit_mm=1)


def test_fingerprint_follows_unit_files_and_splits(tmp_path: Path) -> None:
    write_coma(tmp_path, frames=5)
    first = read_coma(tmp_path)
    seen = {
        first.fingerprint(),
        read_coma(tmp_path, unit_mm=1).fingerprint(),
        read_coma(tmp_path, split="identity", held_out=IDENTITIES[:1]).fingerprint(),
    }
    first.sources[3].path.write_bytes(b"longer")

    assert len(seen | {read_coma(tmp_path).fingerprint()}) == 4
    assert first.fingerprint() == read_coma(tmp_path).fingerprint()
