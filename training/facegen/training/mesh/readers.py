"""Which meshes belong to a data set and to which of its splits, listed without reading them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facegen.training.data.dataset import hash_fraction
from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.mesh.files import MESH_SUFFIXES

__all__ = [
    "MeshFiles",
    "MeshSource",
    "read_coma",
    "read_mesh_folder",
    "read_meshes",
]

_ComaSplit = Literal["interpolation", "expression", "identity"]

_COMA_UNIT_MM = 1000.0
"""COMA's files are in metres."""

_COMA_FOLDERS = ("coma", "COMA_data", "CoMA", "COMA")
_COMA_REMEDY = (
    "Get the registered meshes of COMA from https://coma.is.tue.mpg.de and unpack them, or give "
    "another folder of the same layout."
)
_PERIOD, _BLOCK = 100, 10
_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class MeshSource:
    """One mesh file of a data set.

    Attributes:
        name: Its path below the data set's folder, with slashes.
        split: "train", "validation", or a test split's name.
        path: The file.
    """

    name: str
    split: str
    path: Path


@dataclass(frozen=True, slots=True)
class MeshFiles:
    """The meshes of one data set as they lie on disk, not read yet.

    Attributes:
        name: The reader's name.
        root: Where they lie.
        unit_mm: Millimetres in one unit of the files.
        sources: All of them, in the order of their names.
    """

    name: str
    root: Path
    unit_mm: float
    sources: tuple[MeshSource, ...]

    def fingerprint(self) -> str:
        """Hash of the unit and of every file's name, split, size and modification time."""
        digest = hashlib.sha256(repr(self.unit_mm).encode())
        for source in self.sources:
            status = source.path.stat()
            state = (source.name, source.split, status.st_size, status.st_mtime_ns)
            digest.update(repr(state).encode())
        return digest.hexdigest()


def read_meshes(
    reader: Literal["coma", "meshes"],
    root: Path,
    *,
    unit_mm: float,
    split: _ComaSplit = "interpolation",
    held_out: Sequence[str] = (),
) -> MeshFiles:
    """List the meshes of a data set.

    Args:
        reader: "coma", or "meshes" for any folder of meshes in one topology.
        root: The data set's folder; COMA's may lie in it under its usual name.
        unit_mm: Millimetres in one unit of the files; COMA's are metres, so 1000.
        split: COMA's protocol; other folders have one split only.
        held_out: COMA's expressions or identities to test on.

    Returns:
        The files, not read.

    Raises:
        DatasetError: Missing or too few; right once the files are in place.
        ConfigurationError: Names to hold out that are missing, or of no use.
    """
    if reader == "meshes":
        return read_mesh_folder(root, unit_mm=unit_mm)
    return read_coma(root, unit_mm=unit_mm, split=split, held_out=held_out)


def read_coma(
    root: Path,
    *,
    unit_mm: float = _COMA_UNIT_MM,
    split: _ComaSplit = "interpolation",
    held_out: Sequence[str] = (),
) -> MeshFiles:
    """List COMA's meshes, identity/expression/frame.ply or .obj, with its published splits.

    Ranjan et al. (2018), https://arxiv.org/abs/1807.10267, as facemesh.py of
    https://github.com/anuragranj/coma does it:

    - "interpolation": frames of all sequences are counted on; of every hundred the first ten are
      the split "test". There the order is the file system's, here it is that of the names.
    - "expression", "identity": all frames of what is held out are the split of that name.

    What remains is cut in blocks of ten frames, of which every tenth validates. There some of the
    training meshes do, which says nothing of meshes that training has not seen.

    Args:
        root: The folder of the identities' folders, or one that holds it under its usual name.
        unit_mm: Millimetres in one unit of the files.
        split: Which of the three.
        held_out: Names of expressions or identities, one or more, for the latter two.

    Returns:
        The files, not read.

    Raises:
        DatasetError: No meshes, or no such expression or identity.
        ConfigurationError: Names to hold out that are missing, or of no use.
    """
    places = (root / name for name in _COMA_FOLDERS if (root / name).is_dir())
    root = next(places, root)
    names = [it for it in _mesh_names(root) if it.count("/") == 2]
    # Where both are there, the OBJ files are copies.
    names = [it for it in names if it.lower().endswith(".ply")] or names
    if not names:
        raise _coma_error(root, "identity/expression/frame.ply …")
    tested = _held_out(root, names, split, held_out)
    remaining = [name for name, test in zip(names, tested, strict=True) if not test]
    if len(remaining) < 2:
        raise _coma_error(root, f"two meshes beside {sorted(held_out)}, to train on,")
    splits = dict.fromkeys(names, "test" if split == "interpolation" else split)
    splits |= dict.fromkeys(remaining, "train")
    splits |= dict.fromkeys(_every_tenth_block(remaining), "validation")
    return MeshFiles(
        "coma", root, unit_mm, tuple(MeshSource(it, splits[it], root / it) for it in names)
    )


def read_mesh_folder(root: Path, *, unit_mm: float) -> MeshFiles:
    """List every mesh below a folder; a tenth, by a hash of relative paths, validates, one tests.

    Args:
        root: The folder; hidden files and folders in it are left out.
        unit_mm: Millimetres in one unit of the files.

    Returns:
        The files, not read, in splits "train", "validation" and "test", all of which have some.

    Raises:
        DatasetError: Fewer than three meshes.
    """
    names = _mesh_names(root)
    if len(names) < 3:
        raise DatasetError(
            "meshes",
            looked_for=f"three meshes or more ({', '.join(sorted(MESH_SUFFIXES))})",
            where=root,
            remedy="Give a folder of meshes that all have the same vertices and faces.",
        )
    ranked = sorted(names, key=hash_fraction)
    splits = {
        name: "validation" if fraction < _SHARE else "test" if fraction < 2 * _SHARE else "train"
        for name, fraction in ((it, hash_fraction(it)) for it in ranked)
    }
    splits |= {ranked[0]: "validation", ranked[-1]: "train"}
    if "test" not in splits.values():
        splits[ranked[-2]] = "test"
    sources = (MeshSource(name, splits[name], root / name) for name in names)
    return MeshFiles("meshes", root, unit_mm, tuple(sources))


def _held_out(
    root: Path, names: Sequence[str], split: _ComaSplit, held_out: Sequence[str]
) -> list[bool]:
    if split == "interpolation":
        if held_out:
            raise ConfigurationError(
                "held_out",
                f"{list(held_out)} has no use with split 'interpolation': leave it out, or choose "
                "'expression' or 'identity'",
            )
        return [i % _PERIOD < _BLOCK for i in range(len(names))]
    parts = [name.split("/")[{"identity": 0, "expression": 1}[split]] for name in names]
    there = sorted(set(parts))
    if not held_out:
        raise ConfigurationError("held_out", f"split {split!r} needs one or more of {there}")
    for name in held_out:
        if name not in there:
            raise _coma_error(root, f"{split} {name!r} of held_out, there are {there},")
    return [part in held_out for part in parts]


def _mesh_names(root: Path) -> list[str]:
    return sorted(
        name.as_posix()
        for name in (path.relative_to(root) for path in root.rglob("*"))
        if name.suffix.lower() in MESH_SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
    )


def _every_tenth_block(names: Sequence[str]) -> frozenset[str]:
    blocks = [names[i : i + _BLOCK] for i in range(0, len(names), _BLOCK)]
    chosen = [name for block in blocks[_BLOCK - 1 :: _BLOCK] for name in block]
    # A small set has no tenth block: its last frames.
    return frozenset(chosen or names[-max(1, len(names) // _BLOCK) :])


def _coma_error(root: Path, looked_for: str) -> DatasetError:
    return DatasetError("COMA", looked_for=looked_for, where=root, remedy=_COMA_REMEDY)
