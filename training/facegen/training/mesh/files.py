"""Mesh files: PLY and OBJ in, PLY out, vertices in the order and number of the file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from facegen.training.errors import MeshFileError
from facegen.training.mesh.obj import read_obj
from facegen.training.mesh.ply import read_ply
from facegen.training.storage import write_atomically

__all__ = ["MESH_SUFFIXES", "MeshFile", "ply_bytes", "read_mesh", "write_mesh"]

_READERS = {".ply": read_ply, ".obj": read_obj}
MESH_SUFFIXES = frozenset(_READERS)
"""What `read_mesh` reads, in lower case."""


@dataclass(frozen=True, slots=True)
class MeshFile:
    """What a mesh file says.

    Attributes:
        vertices: (V, 3) float32 in the file's own unit, in the file's order, all of them.
        faces: Triangles, (F, 3) int32; polygons are cut as 0 1 2, 0 2 3 and so on.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


def read_mesh(path: Path) -> MeshFile:
    """Read the positions and faces of a PLY (ascii or binary) or OBJ file.

    Nothing is merged, split, sorted or dropped, so meshes of one topology stay so.

    Args:
        path: The file; its suffix says what it is.

    Returns:
        The mesh.

    Raises:
        MeshFileError: Unreadable, truncated, no mesh, without faces, or not finite.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise MeshFileError(
            path, f"{path.suffix!r} files are not read, {' and '.join(sorted(MESH_SUFFIXES))} are"
        )
    try:
        positions, faces = read(path.read_bytes())
        with np.errstate(over="ignore"):
            vertices = positions.astype(np.float32)
        _check(vertices, faces)
    except OSError as error:
        raise MeshFileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise MeshFileError(path, str(error)) from error
    return MeshFile(vertices, faces)


def write_mesh(path: Path, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    """Write a binary PLY file, whole or not at all.

    Args:
        path: The file, with suffix .ply.
        vertices: (V, 3), in the unit the file is to have.
        faces: Triangles, (F, 3).

    Raises:
        MeshFileError: Another suffix.
    """
    if path.suffix.lower() != ".ply":
        raise MeshFileError(path, f"{path.suffix!r} files are not written, .ply is")
    write_atomically(path, ply_bytes(vertices, faces))


def ply_bytes(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> bytes:
    """A mesh, vertices (V, 3) and triangles (F, 3), as a binary PLY file."""
    content = trimesh.Trimesh(vertices, faces, process=False).export(file_type="ply")
    assert isinstance(content, bytes)
    return content


def _check(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        index = int(finite.argmin())
        numbers = ", ".join(f"{it:g}" for it in vertices[index])
        raise ValueError(f"vertex {index} is ({numbers}), not finite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = int(((faces < 0) | (faces >= len(vertices))).any(axis=1).argmax())
        raise ValueError(
            f"triangle {wrong} names vertices {faces[wrong].tolist()}, there are {len(vertices)}"
        )
