"""ICT-FaceKit as it is published: one OBJ file a shape of the whole head."""

from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from facegen.training.errors import DatasetError
from facegen.training.mesh.files import read_mesh

__all__ = ["read_ict_objs"]

_FACE_VERTEX_COUNT = 9409
"""The face comes first in ICT-FaceKit's numbering: vertices 0 to 9408."""

_NEUTRAL = "generic_neutral_mesh.obj"
_IDENTITY = "identity"
_FOLDERS = ("FaceXModel", "ICT-FaceKit/FaceXModel")


class _IctShapes(TypedDict):
    """A linear face model, under the keys of `ict_facekit.npz`.

    `neutral` (V, 3), `identity_deltas` (I, V, 3) and `expression_deltas` (E, V, 3) are float32 in
    centimetres, `faces` (F, 3) are triangles, and the names are those of the deltas.
    """

    neutral: NDArray[np.float32]
    faces: NDArray[np.int32]
    identity_deltas: NDArray[np.float32]
    expression_deltas: NDArray[np.float32]
    identity_names: tuple[str, ...]
    expression_names: tuple[str, ...]


def read_ict_objs(root: Path, *, vertex_count: int = _FACE_VERTEX_COUNT) -> _IctShapes:
    """Read ICT-FaceKit's published shapes and keep the face of each.

    Li et al. (2020), https://arxiv.org/abs/2004.00458: https://github.com/ICT-VGL/ICT-FaceKit.

    Args:
        root: The folder of generic_neutral_mesh.obj, identity000.obj … and an OBJ file an
            expression, or the repository that holds it as FaceXModel.
        vertex_count: How many vertices, from the first, are the face; faces that name others go.

    Returns:
        The neutral face and each shape's difference from it, in the files' centimetres.

    Raises:
        DatasetError: No neutral mesh, no identity or no expression, or one of another topology.
        MeshFileError: A file that cannot be read.
    """
    root = next((root / it for it in _FOLDERS if (root / it / _NEUTRAL).is_file()), root)
    paths = {it.stem: it for it in sorted(root.glob("*.obj")) if it.name != _NEUTRAL}
    identities = [it for it in paths if _is_identity(it)]
    expressions = [it for it in paths if not _is_identity(it)]
    if not ((root / _NEUTRAL).is_file() and identities and expressions):
        raise _error(root, f"{_NEUTRAL}, identity000.obj … and expressions such as jawOpen.obj")
    neutral = read_mesh(root / _NEUTRAL)
    if len(neutral.vertices) < vertex_count:
        raise _error(root, f"{vertex_count} vertices or more in {_NEUTRAL}")

    def deltas(names: list[str]) -> NDArray[np.float32]:
        found = np.empty((len(names), vertex_count, 3), np.float32)
        for row, name in zip(found, names, strict=True):
            shape = read_mesh(paths[name])
            if len(shape.vertices) != len(neutral.vertices):
                counts = f"{len(neutral.vertices)} vertices in {name}.obj"
                raise _error(root, f"{counts}, which has {len(shape.vertices)},")
            row[:] = (shape.vertices - neutral.vertices)[:vertex_count]
        return found

    return _IctShapes(
        neutral=neutral.vertices[:vertex_count],
        faces=neutral.faces[(neutral.faces < vertex_count).all(axis=1)],
        identity_deltas=deltas(identities),
        expression_deltas=deltas(expressions),
        identity_names=tuple(identities),
        expression_names=tuple(expressions),
    )


def _is_identity(stem: str) -> bool:
    return stem.startswith(_IDENTITY) and stem.removeprefix(_IDENTITY).isdecimal()


def _error(root: Path, looked_for: str) -> DatasetError:
    return DatasetError(
        "ICT-FaceKit",
        looked_for=looked_for,
        where=root,
        remedy="Get the folder FaceXModel of https://github.com/ICT-VGL/ICT-FaceKit whole.",
    )
