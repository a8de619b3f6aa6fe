"""Files of meshes; trimesh, which knows nothing of ours, writes some and reads others."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facegen.serving.imaging import Origin
from facegen.serving.meshes.coding import FORMATS, encode_mesh
from facegen.serving.meshes.mesh_file import MeshFile, MeshLimits, TooManyError
from facegen.serving.meshes.obj import read_obj, write_obj
from facegen.serving.meshes.ply import read_ply, write_ply
from facegen.serving.meshes.topology import Topology
from tests.serving.mesh_graphs import linear_meshes

_MESHES = linear_meshes()
_TOPOLOGY = Topology(_MESHES.faces, _MESHES.template)
_LIMITS = MeshLimits(len(_MESHES.template), len(_MESHES.faces))
_ORIGIN = Origin("hand-mesh", "1", seed=2**64 - 1, index=3)
_SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
_FEW = MeshLimits(10, 10)
_FANNED = [[0, 1, 2], [0, 2, 3]]


def _mesh(seed: int = 0) -> NDArray[np.float32]:
    vertices: NDArray[np.float32] = _MESHES.some(1, seed=seed)[0]
    return vertices


def _told(data: bytes, kind: str) -> Any:
    """What trimesh reads."""
    return trimesh.load(io.BytesIO(data), file_type=kind, process=False, force="mesh")


def _same(file: MeshFile, vertices: NDArray[np.float32], faces: Any) -> bool:
    return np.array_equal(file.vertices, vertices) and np.array_equal(file.faces, faces)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_ply_of_trimesh_is_read_bit_for_bit(encoding: str) -> None:
    vertices = _mesh()
    colours = np.full((len(vertices), 4), 7, np.uint8)
    mesh: Any = trimesh.Trimesh(vertices, _MESHES.faces, process=False, vertex_colors=colours)

    data = mesh.export(file_type="ply", encoding=encoding, vertex_normal=True)

    file = read_ply(data, _LIMITS)
    assert np.array_equal(file.faces, _MESHES.faces)
    assert np.abs(file.vertices - vertices).max() < (1e-5 if encoding == "ascii" else 1e-9)


def test_obj_of_trimesh_is_read_in_its_order() -> None:
    vertices = _mesh()
    mesh: Any = trimesh.Trimesh(vertices, _MESHES.faces, process=False)

    file = read_obj(mesh.export(file_type="obj", include_normals=True).encode(), _LIMITS)

    assert np.array_equal(file.faces, _MESHES.faces)
    assert np.abs(file.vertices - vertices).max() < 1e-5


@pytest.mark.parametrize("kind", ["ply", "obj", "glb"])
def test_written_file_is_read_by_trimesh_with_the_same_vertices_and_faces(kind: str) -> None:
    mime_type = {"glb": "model/gltf-binary"}.get(kind, f"model/{kind}")
    vertices = _mesh()

    read = _told(encode_mesh(vertices, mime_type, _TOPOLOGY, origin=_ORIGIN), kind)

    assert np.array_equal(read.faces, _MESHES.faces)
    scale = 0.001 if kind == "glb" else 1  # trimesh applies the node's scale to metres
    assert np.allclose(read.vertices, vertices * scale, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("write", [write_ply, write_obj])
def test_what_is_written_is_read_again_bit_for_bit(write: Any) -> None:
    odd = np.array([0.1, 1e-30, 3.4028235e38, -1e-45, 16777217, -0.0], np.float32)
    vertices = _mesh()
    vertices[:2] = odd.reshape(2, 3)

    read = read_ply if write is write_ply else read_obj

    assert _same(read(write(vertices, _TOPOLOGY), _LIMITS), vertices, _MESHES.faces)


def test_normals_of_gltf_are_those_of_trimesh_and_of_length_1() -> None:
    vertices = _mesh()
    mesh = trimesh.Trimesh(vertices, _MESHES.faces, process=False)
    wanted = np.zeros_like(vertices, np.float64)
    for corner in range(3):
        np.add.at(wanted, _MESHES.faces[:, corner], mesh.face_normals * mesh.area_faces[:, None])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)

    data = encode_mesh(vertices, "model/gltf-binary", _TOPOLOGY)

    document, binary = _glb(data)
    normals = _accessor(document, binary, "NORMAL")
    assert np.abs(normals - wanted).max() < 1e-5
    assert np.array_equal(_accessor(document, binary, "POSITION"), vertices)
    assert document["accessors"][0]["min"] == vertices.min(axis=0).tolist()
    assert (normals[:, 2] > 0).all()  # the sheet is seen from the front


def test_vertex_without_an_area_has_a_normal_all_the_same() -> None:
    faces = np.array([[0, 1, 2], [0, 1, 2]], np.int32)
    point = np.zeros((4, 3), np.float32)

    normals = Topology(faces, point).normals(point)

    assert (normals == (0, 0, 1)).all()


@pytest.mark.parametrize("mime_type", FORMATS)
def test_files_say_what_made_them(mime_type: str) -> None:
    data = encode_mesh(_mesh(), mime_type, _TOPOLOGY, origin=_ORIGIN)

    if mime_type == "application/octet-stream":
        assert data == _mesh().tobytes()
    elif mime_type == "model/gltf-binary":
        extras = _glb(data)[0]["asset"]["extras"]
        assert extras["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
        assert (extras["family"], extras["seed"], extras["index"]) == (
            "hand-mesh",
            f"{2**64 - 1}",
            "3",
        )
    else:
        head = data[:600].decode("ascii", "replace")
        assert "digitalsourcetype/trainedAlgorithmicMedia" in head
        assert f'"seed": "{2**64 - 1}", "index": "3"' in head
        assert "millimetres" in head


def _glb(data: bytes) -> tuple[Any, bytes]:
    magic, version, size, json_size, kind = struct.unpack_from("<4s3I4s", data)
    assert (magic, version, size, kind) == (b"glTF", 2, len(data), b"JSON")
    assert json_size % 4 == 0
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + json_size)
    assert kind == b"BIN\0"
    assert 28 + json_size + binary_size == len(data)
    return json.loads(data[20 : 20 + json_size]), data[28 + json_size :]


def _accessor(document: Any, binary: bytes, name: str) -> NDArray[np.float32]:
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    view = document["bufferViews"][accessor["bufferView"]]
    part = binary[view["byteOffset"] :][: view["byteLength"]]
    return np.frombuffer(part, "<f4").reshape(accessor["count"], 3)


def test_obj_keeps_vertices_whatever_textures_and_normals_its_corners_have() -> None:
    # trimesh would leave out the fifth vertex, which no face has, and put the others in the order
    # in which faces name them.
    text = (
        f"# a comment\nmtllib a.mtl\n{_SQUARE}v 5 5 5\nvt 0 0\nvt 1 0\nvt 1 1\nvn 0 0 1\nvn 0 1 0\n"
        "g face\nusemtl skin\ns off\nf 3/1/1 4/2/1 1/3/2\nf 3/3/2 1/2/1 2/1/1\n"
    )

    file = read_obj(text.encode(), _FEW)

    assert file.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 5, 5]]
    assert file.faces.tolist() == [[2, 3, 0], [2, 0, 1]]


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3 4",
        "f 1/1 2/2 3/3 4/4",
        "f 1//1 2//2 3//3 4//4",
        "f -4 -3 -2 -1",
        "f 1 2 3\nf 1 3 4",
        "  f\t1  2 3 \\\n 4 ",
        "f 1 2 3 4\r\n",
    ],
)
def test_quads_of_obj_are_fans_however_they_are_written(faces: str) -> None:
    assert read_obj(f"{_SQUARE}{faces}".encode(), _FEW).faces.tolist() == _FANNED


def test_colours_and_weights_of_obj_are_passed_over() -> None:
    text = "v 0 0 0 0.5 0.5 0.5\nv 1 0 0 1.0\nv 0 1e0 -0\nf 1 2 3\n"

    assert read_obj(text.encode(), _FEW).vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def _ply(order: str, *, lists: list[list[int]], first: str = "vertex") -> bytes:
    """A PLY with numbers beside the coordinates and the lists, in one order or the other."""
    name = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}[order]
    vertex = (
        "element vertex 4\nproperty uchar red\nproperty double z\nproperty float x\n"
        "property float y\n"
    )
    face = (
        f"element face {len(lists)}\nproperty float quality\n"
        "property list uchar short vertex_index\nproperty int flags\n"
    )
    elements = vertex + face if first == "vertex" else face + vertex
    points = [(9, 0.0, 0.0, 0.0), (9, 0.0, 1.0, 0.0), (9, 0.5, 1.0, 1.0), (9, 0.0, 0.0, 1.0)]
    head = f"ply\nformat {name} 1.0\nobj_info ours\ncomment\n{elements}end_header\n".encode()
    if order:
        vertices = b"".join(struct.pack(f"{order}Bdff", *point) for point in points)
        faces = b"".join(
            struct.pack(f"{order}fB{len(row)}hi", 0.5, len(row), *row, -1) for row in lists
        )
    else:
        vertices = "".join(" ".join(map(str, point)) + "\n" for point in points).encode()
        faces = "".join(f"0.5 {len(row)} {' '.join(map(str, row))} -1\n" for row in lists).encode()
    return head + (vertices + faces if first == "vertex" else faces + vertices)


@pytest.mark.parametrize("order", ["<", ">", ""])
@pytest.mark.parametrize("first", ["vertex", "face"])
@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        ([[0, 1, 2], [0, 2, 3]], _FANNED),
        ([[0, 1, 2, 3]], _FANNED),
        ([[0, 1, 2], [0, 1, 2, 3]], [[0, 1, 2], *_FANNED]),
    ],
)
def test_ply_of_any_byte_order_and_properties_is_read(
    order: str, first: str, lists: list[list[int]], wanted: list[list[int]]
) -> None:
    file = read_ply(_ply(order, lists=lists, first=first), _FEW)

    assert file.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [0, 1, 0]]
    assert file.faces.tolist() == wanted


_PLY = _ply("<", lists=[[0, 1, 2]])
_HEAD = b"ply\nformat binary_little_endian 1.0\n"
_XYZ = b"property float x\nproperty float y\nproperty float z\n"
_LIST = b"property list uchar int vertex_indices\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"ply\n", "header without end_header"),
        (b"ply\nend_header", "header without end_header"),
        (b"ply\nend_header\n", "says no format"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "binary_middle_endian"),
        (_HEAD + b"element vertex many\nend_header\n", "element vertex many"),
        (_HEAD + b"property float x\nend_header\n", "property float x"),
        (_HEAD + b"element vertex 1\nproperty half x\nend_header\n", 'type "half"'),
        (_HEAD + b"element vertex 1\n" + _XYZ + b"end_header\n", "not one element of vertices"),
        (_PLY.replace(b"float x", b"float u"), "without the numbers x, y and z"),
        (_PLY.replace(b"vertex_index", b"material_ids"), "without lists"),
        (_PLY.replace(b"property float y", b"property float x"), 'two properties "x"'),
        (_PLY.replace(b"short vertex", b"float vertex"), "lists of whole numbers|ends within"),
        (_PLY[:-1], 'ends within its element "face"'),
        (_PLY[:-20], 'ends within its element "vertex"'),
        (_ply("", lists=[[0, 1, 2]])[:-12], "line|ends within"),
        (_ply("", lists=[[0, 1, 2]]).replace(b"0.5 1.0", b"abc 1.0"), "could not convert"),
        (_ply("<", lists=[[0, 1, 4]]), "vertices 0, 1, 4, there are 0 to 3"),
        (_ply("<", lists=[[0, 1, -1]]), "vertices 0, 1, -1"),
        (_ply("<", lists=[[0, 1]]), "face of 2 corners"),
        (_ply("<", lists=[]), "no faces"),
        (_HEAD + b"element vertex 0\n" + _XYZ + b"element face 0\n" + _LIST + b"end_header\n",
         "no vertices"),
        (_HEAD + b"element vertex 1\nelement face 1\n" + _LIST + b"end_header\n", "0 properties"),
        (
            _HEAD + b"element odd 9\n" + _LIST + b"element vertex 1\n" + _XYZ + b"element face 1\n"
            + _LIST + b"end_header\n",
            'lists in "odd"',
        ),
    ],
)  # fmt: skip
def test_broken_ply_is_told_by_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_ply(data, _FEW)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no vertices"),
        ("hello", "no vertices"),
        (_SQUARE, "no faces"),
        ("v 1 2\n", 'line 1 "v 1 2"'),
        ("v 1 2 x\n", 'line 1 "v 1 2 x"'),
        (f"{_SQUARE}\nf 1 2 0\n", 'line 6 "f 1 2 0"'),
        (f"{_SQUARE}f 1 b 3\n", 'line 5 "f 1 b 3"'),
        (f"{_SQUARE}f 1 2\n", "face of 2 corners"),
        (f"{_SQUARE}f 1 2 5\n", "vertices 0, 1, 4"),
        (f"{_SQUARE}f -5 1 2\n", "vertices -1, 0, 1"),
        (f"{_SQUARE}f 1 2 99999999999\n", "beyond 32 bits"),
    ],
)
def test_broken_obj_is_told_by_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_obj(text.encode(), _FEW)


@pytest.mark.parametrize(
    "data",
    [
        _HEAD + b"element vertex 4000000000\n" + _XYZ + b"element face 1\n" + _LIST
        + b"end_header\n",
        _HEAD + b"element vertex 1\n" + _XYZ + b"element face 999999999999999999999\n" + _LIST
        + b"end_header\n",
        _ply("<", lists=[[0, 1, 2, 3] * 4]),
    ],
)  # fmt: skip
def test_ply_that_claims_too_much_is_refused_before_it_is_read(data: bytes) -> None:
    with pytest.raises(TooManyError):
        read_ply(data, _FEW)


@pytest.mark.parametrize(
    "text", ["v 0 0 0\n" * 11, f"{_SQUARE}" + "f 1 2 3\n" * 11, f"{_SQUARE}f {'1 2 3 ' * 5}"]
)
def test_obj_with_too_much_is_refused(text: str) -> None:
    with pytest.raises(TooManyError):
        read_obj(text.encode(), _FEW)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    files = [_PLY, _ply("", lists=[[0, 1, 2], [0, 1, 2, 3]]), f"{_SQUARE}f 1 2 3 4\n".encode()]
    file = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(file) - 1))
        file[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read = read_ply if file.startswith(b"ply") else read_obj

    try:
        mesh = read(bytes(file), _FEW)
    except ValueError:
        return

    assert len(mesh.vertices) <= 10
    assert mesh.faces.min() >= 0
    assert mesh.faces.max() < len(mesh.vertices)


def test_topology_is_the_same_whatever_the_order_and_first_corners_of_its_triangles() -> None:
    faces = _MESHES.faces
    shuffled = np.roll(faces, 1, axis=1)[np.random.default_rng(0).permutation(len(faces))]

    assert _TOPOLOGY.has(faces)
    assert _TOPOLOGY.has(shuffled)
    assert not _TOPOLOGY.has(faces[:, ::-1])
    assert not _TOPOLOGY.has(faces[1:])
    assert not _TOPOLOGY.has(np.vstack([faces[:-1], faces[:1]]))
