"""OBJ (Wavefront): reads vertices and faces in the file's order, writes them with nine digits."""

import contextlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facegen.serving.meshes.mesh_file import MeshFile, MeshLimits, fans
from facegen.serving.meshes.topology import Topology

__all__ = ["read_obj", "write_obj"]

# Lines of vertices and faces; all else, textures and normals among it, is passed over.
_LINE = re.compile(rb"^[ \t]*([vf])[ \t]+([^\n]*)", re.MULTILINE)
# As most programs write them: triangles whose corners count from the first vertex.
_VERTEX = re.compile(
    rb"^[ \t]*v[ \t]+([-+.eE\d]{1,32})[ \t]+([-+.eE\d]{1,32})[ \t]+([-+.eE\d]{1,32})(?=\s|$)",
    re.MULTILINE,
)
_CORNER = rb"[ \t]+(\d{1,9})(?:/[^ \t\r\n]*)?"
_TRIANGLE = re.compile(rb"^[ \t]*f" + 3 * _CORNER + rb"[ \t\r]*$", re.MULTILINE)


def read_obj(data: bytes, limits: MeshLimits) -> MeshFile:
    """Read a file.

    Textures, normals, groups and materials are passed over; no vertex is left out for want of a
    face, or made two because its texture is.

    Args:
        data: The file.
        limits: How much of it to read.

    Raises:
        ValueError: It is broken, or has no vertices and faces.
    """
    if b"\\" in data:  # at a line's end, where the next goes on with it
        data = re.sub(rb"\\\r?\n", b" ", data)
    counts = {b"v": 0, b"f": 0}
    for line in _LINE.finditer(data):
        counts[line[1]] += 1
        limits.check(vertices=counts[b"v"], faces=counts[b"f"])
    vertices, triangles = _VERTEX.findall(data), _TRIANGLE.findall(data)
    if (len(vertices), len(triangles)) == (counts[b"v"], counts[b"f"]):
        with contextlib.suppress(ValueError):  # the other way tells which line it is
            points = np.array(vertices, "S").reshape(-1, 3).astype(np.float64)
            corners = np.array(triangles, "S").reshape(-1, 3).astype(np.int32)
            return MeshFile.of(_float32(points), corners - 1)
    return _any_obj(data, limits)


def _any_obj(data: bytes, limits: MeshLimits) -> MeshFile:
    """Read line by line: whatever faces there are, and to tell what is wrong."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    for line in _LINE.finditer(data):
        words = line[2].split()
        try:
            if line[1] == b"v":
                x, y, z = words[:3]
                vertices.append([float(x), float(y), float(z)])
            else:
                polygons.append([_index(word, len(vertices)) for word in words])
        except ValueError as error:
            number = data.count(b"\n", 0, line.start()) + 1
            text = line[0][:80].decode("ascii", "replace").strip()
            raise ValueError(f'has line {number} "{text}", which is no vertex or face') from error
    points = np.array(vertices, np.float64).reshape(-1, 3)
    return MeshFile.of(_float32(points), fans(polygons, limits))


def _index(word: bytes, vertex_count: int) -> int:
    """Read the vertex of a corner, `vertex/texture/normal`; below 0 it counts from the last."""
    index = int(word.partition(b"/")[0])
    if index == 0:
        raise ValueError("vertices are numbered from 1")
    return index - 1 if index > 0 else vertex_count + index


def _float32(points: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
        return points.astype(np.float32)


def write_obj(
    vertices: NDArray[np.float32], topology: Topology, *, comments: Sequence[str] = ()
) -> bytes:
    """Write a mesh; nine digits give every float32 back.

    Args:
        vertices: (V, 3).
        topology: Its triangles.
        comments: Lines to put at the top.
    """
    head = "".join(f"# {comment}\n" for comment in comments)
    lines = ("v %.9g %.9g %.9g\n" * len(vertices)) % tuple(vertices.ravel().tolist())
    return f"{head}{lines}".encode() + _face_lines(topology)


@lru_cache(maxsize=16)
def _face_lines(topology: Topology) -> bytes:
    """Write the triangles, which are the same in every file."""
    corners = tuple((topology.faces.ravel() + 1).tolist())
    return (("f %d %d %d\n" * len(topology.faces)) % corners).encode()
