"""From a recipe's data to arrays of meshes."""

import logging
from pathlib import Path

import numpy as np

from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.decoding import load_mesh_files
from facegen.training.mesh.ict import combine, load_face_model, simplified
from facegen.training.mesh.readers import read_meshes
from facegen.training.mesh.recipe import MeshDataConfig
from facegen.training.mesh.simplification import simplify

__all__ = ["load_meshes"]

_LIKELY_MM = (50.0, 3000.0)
"""How far across a head, or a body, may be: other sizes are in another unit than was said."""

_log = logging.getLogger(__name__)


def load_meshes(config: MeshDataConfig, root: Path, *, seed: int) -> MeshArrays:
    """Read or combine the meshes of a recipe, with at most so many vertices as it says.

    Args:
        config: Which.
        root: Where they lie now.
        seed: Decides what is combined.

    Raises:
        DatasetError: They are missing or broken.
    """
    if config.reader == "ict":
        model = simplified(load_face_model(root), config.vertex_count)
        return combine(model, config.combinations, seed=seed)
    files = read_meshes(
        config.reader,
        root,
        unit_mm=config.unit_mm,
        split=config.split,
        held_out=config.held_out,
    )
    meshes = load_mesh_files(files)
    size_mm = float(np.ptp(meshes.vertices["train"][0], axis=0).max())
    if not _LIKELY_MM[0] <= size_mm <= _LIKELY_MM[1]:
        _log.warning("meshes %.3g mm across: is data.unit_mm=%g right?", size_mm, config.unit_mm)
    return _simplified(meshes, config.vertex_count)


def _simplified(meshes: MeshArrays, vertex_count: int) -> MeshArrays:
    train = meshes.vertices["train"]
    if not 0 < vertex_count < train.shape[1]:
        return meshes
    template = train.mean(0, dtype=np.float64)
    kept, faces = simplify(template, meshes.faces, vertex_count)
    vertices = {split: array[:, kept] for split, array in meshes.vertices.items()}
    return MeshArrays(meshes.name, faces, vertices, meshes.names, meshes.refused)
