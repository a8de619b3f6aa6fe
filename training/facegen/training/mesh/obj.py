"""Wavefront OBJ: positions and faces, vertex for vertex as they stand in the file.

trimesh's reader drops vertices that no face names and merges or splits those whose texture
coordinates differ, which would take a mesh out of its topology.
"""

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facegen.training.mesh.polygons import fan

__all__ = ["read_obj"]

_VERTEX = (b"v ", b"v\t")
_FACE = (b"f ", b"f\t")


def read_obj(content: bytes) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Read the `v` and `f` lines of an OBJ file; texture coordinates and normals are passed over.

    Args:
        content: The file.

    Returns:
        Vertices (V, 3) in the file's unit, and triangles (F, 3).

    Raises:
        ValueError: It is no OBJ file, or a broken one.
    """
    lines = content.replace(b"\\\n", b" ").split(b"\n")
    vertex_lines = [line for line in lines if line.startswith(_VERTEX)]
    if not vertex_lines:
        raise ValueError("no vertices: a line of them begins with v")
    face_lines = [line for line in lines if line.startswith(_FACE)]
    if not face_lines:
        raise ValueError("no faces: a line of them begins with f")
    text = b"\n".join(face_lines)
    if b" -" in text and content.rfind(b"\nv ") > content.find(b"\nf "):
        raise ValueError("faces count from the end, but vertices come after the first face")
    return _positions(vertex_lines), _faces(text, len(vertex_lines)).copy()


def _positions(lines: list[bytes]) -> NDArray[np.float64]:
    width = len(lines[0].split())  # the letter, x y z, then perhaps a weight or a colour
    tokens = b" ".join(lines).split()
    if width < 4 or len(tokens) != width * len(lines) or set(tokens[::width]) != {b"v"}:
        lengths = [len(line.split()) for line in lines]
        wrong = next(i for i, it in enumerate(lengths) if it < 4 or it != width)
        raise ValueError(f"vertex {wrong} has {lengths[wrong] - 1} numbers: {lines[wrong][:60]!r}")
    del tokens[::width]
    numbers = np.fromiter(map(float, tokens), np.float64, len(tokens))
    return numbers.reshape(len(lines), width - 1)[:, :3]


@lru_cache(maxsize=2)  # the meshes of a data set have one topology, and most of the text is that
def _faces(text: bytes, vertex_count: int) -> NDArray[np.int32]:
    text = re.sub(rb"/\S*", b"", text)
    counts = np.array([len(line.split()) - 1 for line in text.split(b"\n")], np.int64)
    corners = np.array([int(it) for it in text.split() if it != b"f"], np.int64)
    if not corners.all():
        raise ValueError("a face names vertex 0, an OBJ file counts from 1")
    corners = np.where(corners < 0, corners + vertex_count, corners - 1)
    return fan(corners, counts)
