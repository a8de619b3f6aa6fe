from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from facegen.training.errors import MeshFileError
from facegen.training.mesh.files import read_mesh, write_mesh

# A square with a corner that is there twice and one that no face names, wound like PLY and OBJ do.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [9, 9, 9]], np.float32)
TRIANGLES = np.array([[0, 1, 2], [4, 2, 3]], np.int32)

OBJ = """# texture coordinates and normals differ from corner to corner
mtllib none.mtl
o square
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 0
v 9 9 9
vt 0 0
vt 1 0
vt 0.5 0.5
vn 0 0 1
vn 0 1 0
usemtl skin
s 1
f 1/1/1 2/2/1 3/3/1
f 5/2/2 3/1/2 4/3/1
"""

QUADS = """ply
format ascii 1.0
comment two sizes of faces
element vertex 5
property double x
property double y
property double z
property uchar red
element face 3
property list uchar int vertex_index
end_header
0 0 0 255
1 0 0 0
1 1 0 0
0 1 0 0
2 2 0 0
3 0 1 4
4 0 1 2 3
5 0 1 4 2 3
"""
FANNED = [[0, 1, 4], [0, 1, 2], [0, 2, 3], [0, 1, 4], [0, 4, 2], [0, 2, 3]]


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sphere() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def test_obj_keeps_every_vertex_whatever_its_corners_say(tmp_path: Path) -> None:
    mesh = read_mesh(save(tmp_path / "a.obj", OBJ))

    np.testing.assert_array_equal(mesh.vertices, CORNERS)
    np.testing.assert_array_equal(mesh.faces, TRIANGLES)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.dtype == np.int32


@pytest.mark.parametrize(
    "faces",
    ["f 1 2 3 4", "f 1/1 2/1 3/1 4/1", "f 1//1 2//1 3//1 4//1", "f -4 -3 -2 -1", "f 1 2 \\\n3 4"],
)
def test_quads_of_obj_become_a_fan_however_they_are_written(tmp_path: Path, faces: str) -> None:
    vertices = "".join(f"v {x:g} {y:g} {z:g} 0.5 0.5 0.5\r\n" for x, y, z in CORNERS[:4])

    mesh = read_mesh(save(tmp_path / "a.OBJ", vertices + faces + "\r\n"))

    np.testing.assert_array_equal(mesh.vertices, CORNERS[:4])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])


def test_faces_of_obj_are_not_confused_between_files(tmp_path: Path) -> None:
    first = read_mesh(save(tmp_path / "a.obj", OBJ))
    first.faces[:] = 0  # the caller's own

    second = read_mesh(save(tmp_path / "b.obj", OBJ))

    np.testing.assert_array_equal(second.faces, TRIANGLES)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_ply_of_another_library_reads_as_it_was_written(tmp_path: Path, encoding: str) -> None:
    vertices, faces = sphere()
    colours = np.random.default_rng(0).integers(0, 255, (len(vertices), 4), np.uint8)
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)
    content = mesh.export(file_type="ply", encoding=encoding, vertex_normal=True)
    assert isinstance(content, str | bytes)

    read = read_mesh(save(tmp_path / "a.ply", content))

    np.testing.assert_allclose(read.vertices, vertices, atol=1e-7)
    np.testing.assert_array_equal(read.faces, faces)


def test_ply_of_mixed_polygons_is_cut_into_fans_in_its_order(tmp_path: Path) -> None:
    mesh = read_mesh(save(tmp_path / "a.ply", QUADS))

    np.testing.assert_array_equal(mesh.faces, FANNED)
    np.testing.assert_array_equal(mesh.vertices[4], [2, 2, 0])


@pytest.mark.parametrize(("name", "order"), [("little", "<"), ("big", ">")])
def test_binary_ply_of_mixed_polygons_reads_in_both_byte_orders(
    tmp_path: Path, name: str, order: str
) -> None:
    header, body = QUADS.split("end_header\n")
    rows = [line.split() for line in body.splitlines()]
    content = (header + "end_header\n").replace("ascii", f"binary_{name}_endian").encode()
    for *position, red in rows[:5]:
        content += np.array(position, f"{order}f8").tobytes() + bytes([int(red)])
    for count, *corners in rows[5:]:
        content += bytes([int(count)]) + np.array(corners, f"{order}i4").tobytes()

    mesh = read_mesh(save(tmp_path / "a.ply", content))

    np.testing.assert_array_equal(mesh.faces, FANNED)
    np.testing.assert_array_equal(mesh.vertices[1], [1, 0, 0])


def test_written_mesh_reads_the_same_and_leaves_no_other_file(tmp_path: Path) -> None:
    vertices, faces = sphere()
    vertices = np.concatenate([vertices, [[7, 7, 7]]]).astype(np.float32)  # of no face

    write_mesh(tmp_path / "a.ply", vertices, faces)

    mesh = read_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.faces, faces)
    assert [it.name for it in tmp_path.iterdir()] == ["a.ply"]


def test_mesh_is_not_written_under_another_suffix(tmp_path: Path) -> None:
    with pytest.raises(MeshFileError, match=r"'.stl' files are not written, .ply is"):
        write_mesh(tmp_path / "a.stl", *sphere())


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.stl", "solid", "'.stl' files are not read, .obj and .ply are"),
        ("a.ply", "not a mesh", "it does not begin with a whole header"),
        ("a.ply", QUADS.replace("ascii", "utf-8"), "format 'utf-8' is none of ascii"),
        ("a.ply", QUADS.replace("uchar red", "colour red"), "'property colour red' is none of"),
        ("a.ply", QUADS.replace("element vertex 5", "element vertex five"), "vertex five"),
        ("a.ply", QUADS.replace("double z", "double w"), "vertices have x, y, w, red, they need"),
        ("a.ply", QUADS.replace("vertex_index", "corners"), "no faces"),
        ("a.ply", QUADS.replace("5 0 1 4 2 3", "5 0 1 4 2"), "truncated"),
        ("a.ply", QUADS.replace("3 0 1 4", "2 0 1"), "face 0 has 2 corners"),
        ("a.ply", QUADS.replace("3 0 1 4", "3 0 1 5"), "triangle 0 names vertices .0, 1, 5"),
        ("a.ply", QUADS.replace("2 2 0 0", "2 two 0 0"), "two"),
        ("a.ply", QUADS.replace("1 1 0 0", "1 nan 0 0"), r"vertex 2 is \(1, nan, 0\), not finite"),
        ("a.ply", QUADS.replace("1 1 0 0", "1 1e39 0 0"), r"vertex 2 is \(1, inf, 0\)"),
        ("a.obj", "", "no vertices"),
        ("a.obj", "v 0 0 0\nv 1 0 0\n", "no faces"),
        ("a.obj", OBJ[:-7], "face 1 has 2 corners"),
        ("a.obj", OBJ.replace("v 1 1 0", "v 1 1"), "vertex 2 has 2 numbers: b'v 1 1'"),
        ("a.obj", OBJ.replace("5/2/2", "0/2/2"), "names vertex 0, an OBJ file counts from 1"),
        ("a.obj", OBJ.replace("5/2/2", "7/2/2"), "triangle 1 names vertices .6, 2, 3"),
        ("a.obj", OBJ.replace("9 9 9", "9 inf 9"), r"vertex 5 is \(9, inf, 9\), not finite"),
        ("a.obj", OBJ + "f -1 -2 -3\nv 0 0 1\n", "vertices come after the first face"),
    ],
)  # fmt: skip
def test_broken_file_is_refused_with_its_name_and_what_is_wrong(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    path = save(tmp_path / name, content)

    with pytest.raises(MeshFileError, match=problem) as caught:
        read_mesh(path)

    assert str(path) in str(caught.value)
    assert caught.value.path == path


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeshFileError, match="No such file"):
        read_mesh(tmp_path / "a.ply")


def test_binary_ply_cut_anywhere_is_refused(tmp_path: Path) -> None:
    vertices, faces = sphere()
    write_mesh(tmp_path / "whole.ply", vertices, faces)
    whole = (tmp_path / "whole.ply").read_bytes()

    for end in (*range(0, len(whole), 101), len(whole) - 1):
        with pytest.raises(MeshFileError, match=r"truncated|whole header"):
            read_mesh(save(tmp_path / "cut.ply", whole[:end]))
