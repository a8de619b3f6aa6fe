"""Faces combined from ICT-FaceKit's identities and blend shapes, with weights drawn from a seed.

Li et al. (2020), Learning Formation of Physically-Based Face Attributes,
https://arxiv.org/abs/2004.03458; the model is published under the MIT licence. What is drawn here
is synthesised, not captured: no mesh is the scan of a person, no sequence a recording.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facegen.training.errors import DatasetError
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.ict_files import read_ict_objs
from facegen.training.mesh.recipe import CombinationConfig
from facegen.training.mesh.simplification import simplify

__all__ = ["FaceModel", "combine", "load_face_model", "simplified"]

_MM = 10.0
"""The model's unit is the centimetre."""

_MIRRORED = re.compile(r"_[LR]$")
_LEFT_OUT = ("PupilDilate",)
"""It moves no vertex of a face."""

_SPLITS = ("train", "validation", "identity", "expression", "both")


class FaceModel(NamedTuple):
    """A linear model of faces, in millimetres.

    Attributes:
        neutral: The mean face, (V, 3).
        faces: Triangles, (F, 3) int32.
        identities: Displacements of a standard deviation, (I, V, 3); the first ones are largest.
        units: Displacements of what muscles do, at its strongest, (U, V, 3).
        unit_names: Theirs; both sides of a face move together.
    """

    neutral: NDArray[np.float32]
    faces: NDArray[np.int32]
    identities: NDArray[np.float32]
    units: NDArray[np.float32]
    unit_names: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "FaceModel":
        """Take the arrays of ict_facekit.npz, or the same from its OBJ files."""
        names = [_MIRRORED.sub("", str(name)) for name in arrays["expression_names"]]
        moves = _MM * arrays["expression_deltas"].astype(np.float32)
        units = [name for name in dict.fromkeys(names) if name not in _LEFT_OUT]
        return cls(
            _MM * arrays["neutral"].astype(np.float32),
            arrays["faces"].astype(np.int32),
            _MM * arrays["identity_deltas"].astype(np.float32),
            np.stack([moves[[n == unit for n in names]].sum(0) for unit in units]),
            tuple(units),
        )


def load_face_model(root: Path) -> FaceModel:
    """Read ICT-FaceKit.

    Args:
        root: A folder that holds ict_facekit.npz, or the file, or the folder of the published OBJ
            files.

    Raises:
        DatasetError: Neither is there.
    """
    for path in (root, root / "ict_facekit.npz"):
        if path.suffix == ".npz" and path.is_file():
            with np.load(path, allow_pickle=False) as file:
                return FaceModel.of(dict(file))
    for folder in (root, root / "FaceXModel", root / "ICT-FaceKit" / "FaceXModel"):
        if (folder / "generic_neutral_mesh.obj").is_file():
            return FaceModel.of(dict(read_ict_objs(folder)))
    raise DatasetError(
        "ict",
        looked_for="ict_facekit.npz or generic_neutral_mesh.obj",
        where=root,
        remedy="Put ICT-FaceKit's FaceXModel there: "
        "https://github.com/USC-ICT/ICT-FaceKit (MIT licence).",
    )


def simplified(model: FaceModel, vertex_count: int) -> FaceModel:
    """Keep so many vertices, or all of a smaller model; see `simplify`."""
    if not 0 < vertex_count < len(model.neutral):
        return model
    kept, faces = simplify(model.neutral, model.faces, vertex_count)
    return FaceModel(
        model.neutral[kept],
        faces,
        model.identities[:, kept],
        model.units[:, kept],
        model.unit_names,
    )


def combine(
    model: FaceModel,
    config: CombinationConfig,
    *,
    seed: int,
    splits: Sequence[str] = _SPLITS,
) -> MeshArrays:
    """Draw faces: identities with expressions, from neutral to their strongest.

    An identity is a draw from N(0, I) of the first modes' weights. An expression is a direction in
    a space of few controls. Every unit has a preferred direction there, and moves as far as the
    expression's projection on it passes a threshold: a rectified response, so that units act
    together, few at a time, and the faces lie on a curved surface, not in a plane. A mesh is an
    identity with an expression at a strength drawn evenly from 0 to 1.

    Args:
        model: The face model.
        config: How many of what.
        seed: Decides everything; each split, identity and expression has its own draws.
        splits: Which to draw: `train`; `validation`, whose identities and expressions are its own;
            and the tests: `identity` (new identities, expressions of the training),
            `expression` (the other way round) and `both` (neither is of the training).

    Returns:
        Meshes with names like `identity007/expression041/0.62`.
    """
    drawn = {split: _people(config, seed, split) for split in ("train", "validation", "test")}
    sources = {
        "train": ("train", "train"),
        "validation": ("validation", "validation"),
        "identity": ("test", "train"),
        "expression": ("train", "test"),
        "both": ("test", "test"),
    }
    vertices, names = {}, {}
    for split in splits:
        faces, expressions = sources[split]
        identities, units = drawn[faces][0], _units(model, drawn[expressions][1], config, seed)
        random = _random(seed, f"meshes-{split}")
        count = config.mesh_count if split == "train" else config.test_mesh_count
        who = random.integers(len(identities), size=count)
        what = random.integers(len(units), size=count)
        strength = random.random(count, dtype=np.float32)
        weights = np.concatenate([identities[who], strength[:, None] * units[what]], axis=1)
        modes = np.concatenate([model.identities[: config.identity_modes], model.units])
        moved = weights.astype(np.float32) @ modes.reshape(len(modes), -1)
        vertices[split] = moved.reshape(count, -1, 3) + model.neutral
        names[split] = tuple(
            f"{faces}-identity{i:03d}/{expressions}-expression{e:03d}/{s:.2f}"
            for i, e, s in zip(who, what, strength, strict=True)
        )
    return MeshArrays("ict", model.faces, vertices, names)


def _people(
    config: CombinationConfig, seed: int, split: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of identities, (N, modes), and directions of expressions, (N, controls)."""
    random = _random(seed, split)
    share = 1 if split == "train" else config.test_share
    counts = [max(2, round(share * n)) for n in (config.identity_count, config.expression_count)]
    identities = random.standard_normal((counts[0], config.identity_modes), dtype=np.float32)
    directions = random.standard_normal((counts[1], config.expression_controls), dtype=np.float32)
    return identities, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _units(
    model: FaceModel, directions: NDArray[np.float32], config: CombinationConfig, seed: int
) -> NDArray[np.float32]:
    """How far each unit moves in each expression, (N, U) in [0, 1]."""
    shape = (len(model.units), config.expression_controls)
    preferred = _random(seed, "units").standard_normal(shape, dtype=np.float32)
    preferred /= np.linalg.norm(preferred, axis=1, keepdims=True)
    along = directions @ preferred.T
    rectified = np.maximum(0.0, along - config.unit_threshold) / (1 - config.unit_threshold)
    units: NDArray[np.float32] = rectified.astype(np.float32)
    return units


def _random(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(purpose.encode())])
