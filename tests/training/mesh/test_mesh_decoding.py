import logging
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from facegen.training.errors import DatasetError
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.decoding import load_mesh_files
from facegen.training.mesh.files import write_mesh
from facegen.training.mesh.ict_files import read_ict_objs
from facegen.training.mesh.readers import read_mesh_folder

SPHERE = trimesh.creation.icosphere(subdivisions=1)
FACES = SPHERE.faces.astype(np.int32)


def sphere(index: int) -> NDArray[np.float32]:
    return np.asarray(SPHERE.vertices * (1 + index), np.float32)


def write_folder(root: Path, count: int = 30) -> Path:
    for index in range(count):
        write_mesh(root / f"{index:02d}.ply", sphere(index), FACES)
    return root


def load(root: Path) -> MeshArrays:
    return load_mesh_files(read_mesh_folder(root, unit_mm=10))


def test_meshes_come_in_millimetres_by_split_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = read_mesh_folder(write_folder(tmp_path), unit_mm=10)

    arrays = load_mesh_files(files)

    assert {len(it) for it in arrays.vertices.values()} != {0}
    for split, vertices in arrays.vertices.items():
        assert vertices.dtype == np.float32
        assert arrays.names[split] == tuple(it.name for it in files.sources if it.split == split)
        for name, mesh in zip(arrays.names[split], vertices, strict=True):
            np.testing.assert_allclose(mesh, 10 * sphere(int(name[:2])), rtol=1e-6)
    np.testing.assert_array_equal(arrays.faces, FACES)
    assert sum(len(it) for it in arrays.names.values()) == 30
    assert arrays.refused == ()


def test_meshes_are_read_once(tmp_path: Path) -> None:
    first = load(write_folder(tmp_path))
    kept = next(it for it in (tmp_path / ".facegen-cache").glob("*.npy") if "faces" not in it.name)
    written = kept.stat().st_mtime_ns

    second = load(tmp_path)

    assert kept.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.vertices["train"], second.vertices["train"])
    assert first.names == second.names


def test_changed_file_is_read_anew(tmp_path: Path) -> None:
    name = load(write_folder(tmp_path)).names["train"][0]
    write_mesh(tmp_path / name, sphere(100), FACES)

    arrays = load(tmp_path)

    np.testing.assert_allclose(arrays.vertices["train"][0], 10 * sphere(100), rtol=1e-6)


def test_bad_files_are_left_out_counted_and_named_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path)
    whole = (tmp_path / "05.ply").read_bytes()
    (tmp_path / "05.ply").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "06.ply").write_text("not a mesh", "utf-8")
    broken = sphere(7)
    broken[3, 1] = np.nan
    write_mesh(tmp_path / "07.ply", broken, FACES)
    write_mesh(tmp_path / "08.ply", sphere(8), FACES[:, [1, 2, 0]])
    write_mesh(tmp_path / "09.ply", sphere(9)[:-1], FACES[(FACES < 41).all(axis=1)])

    for _ in ("read", "from the cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            arrays = load(tmp_path)

        reasons = dict(it.split(": ", 1) for it in arrays.refused)
        assert list(reasons) == ["05.ply", "06.ply", "07.ply", "08.ply", "09.ply"]
        assert reasons["05.ply"].startswith("truncated")
        assert "whole header" in reasons["06.ply"]
        assert reasons["07.ply"].startswith("vertex 3 is (")
        assert reasons["08.ply"].endswith("42 vertices and 80 triangles, but other triangles")
        assert reasons["09.ply"].endswith("74 triangles, not 42 vertices and 80 triangles")
        assert sum(len(it) for it in arrays.vertices.values()) == 25
        assert "meshes refused count=5 files=05.ply: truncated" in caplog.text


def test_topology_of_the_most_files_wins_over_the_first(tmp_path: Path) -> None:
    write_folder(tmp_path, 12)
    write_mesh(tmp_path / "00.ply", sphere(0), FACES[::-1])

    arrays = load(tmp_path)

    np.testing.assert_array_equal(arrays.faces, FACES)
    assert [it.split(":")[0] for it in arrays.refused] == ["00.ply"]


def test_files_of_many_topologies_are_an_error(tmp_path: Path) -> None:
    for index in range(9):
        faces = FACES if index < 4 else FACES[index:]
        write_mesh(tmp_path / f"{index}.ply", sphere(index), faces)

    with pytest.raises(DatasetError, match=r"one topology in half of 9 meshes \(it is in 4 at mo"):
        load(tmp_path)


def test_broken_files_only_are_an_error_that_names_the_first(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.obj").write_text("not a mesh", "utf-8")

    with pytest.raises(DatasetError, match=r"half of 3 .* first of 3 refused is 0.obj: no vertic"):
        load(tmp_path)


def test_split_whose_files_are_all_broken_is_an_error(tmp_path: Path) -> None:
    files = read_mesh_folder(write_folder(tmp_path), unit_mm=1)
    for source in files.sources:
        if source.split == "test":
            source.path.write_bytes(b"")

    with pytest.raises(DatasetError, match=r"a good mesh for the split 'test' among 30"):
        load_mesh_files(files)


def obj(vertices: NDArray[np.float32]) -> str:
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    # The last face is of the neck, the one before joins face and neck.
    return "\n".join([*lines, "vt 0 0", "f 1/1 2/1 3/1 4/1", "f 3/1 4/1 5/1", "f 5/1 6/1 7/1"])


def write_ict(folder: Path) -> NDArray[np.float32]:
    folder.mkdir(parents=True)
    neutral = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32).round(3)
    names = ("generic_neutral_mesh", "identity000", "identity001", "jawOpen", "PupilDilate_L")
    for step, name in enumerate(names):
        (folder / f"{name}.obj").write_text(obj(neutral + np.float32(step)), "utf-8")
    return neutral


def test_published_shapes_of_ict_become_deltas_of_the_face_alone(tmp_path: Path) -> None:
    neutral = write_ict(tmp_path / "FaceXModel")

    shapes = read_ict_objs(tmp_path, vertex_count=4)

    np.testing.assert_allclose(shapes["neutral"], neutral[:4], atol=1e-6)
    np.testing.assert_array_equal(shapes["faces"], [[0, 1, 2], [0, 2, 3]])
    assert shapes["identity_names"] == ("identity000", "identity001")
    assert shapes["expression_names"] == ("PupilDilate_L", "jawOpen")
    np.testing.assert_allclose(shapes["identity_deltas"][1], np.full((4, 3), 2), atol=1e-5)
    np.testing.assert_allclose(shapes["expression_deltas"][0], np.full((4, 3), 4), atol=1e-5)


def test_ict_shape_of_another_topology_is_an_error_that_names_it(tmp_path: Path) -> None:
    neutral = write_ict(tmp_path / "shapes")
    (tmp_path / "shapes" / "jawOpen.obj").write_text(
        obj(np.concatenate([neutral, neutral])), "utf-8"
    )

    with pytest.raises(DatasetError, match=r"7 vertices in jawOpen.obj, which has 14"):
        read_ict_objs(tmp_path / "shapes", vertex_count=4)


def test_folder_without_ict_shapes_is_an_error_that_says_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"generic_neutral_mesh.obj.*ICT-VGL/ICT-FaceKit"):
        read_ict_objs(tmp_path)
