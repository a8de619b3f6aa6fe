"""Vertices out of mesh files, in one topology, kept on disk so that every file is read once."""

import hashlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from facegen.training.errors import DatasetError, MeshFileError
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.files import MeshFile, read_mesh
from facegen.training.mesh.readers import MeshFiles, MeshSource
from facegen.training.storage import cache_folder, write_atomically

__all__ = ["load_mesh_files"]

_VERSION = 1
_NAMED_COUNT = 10
_REMEDY = (
    "All meshes must have the same vertices, in the same order, and the same faces: mend those "
    "that have not, or take them away."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    splits: Mapping[str, Sequence[str]]  # names, in the order of the rows
    refused: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Row:
    source: MeshSource
    vertices: NDArray[np.float32]
    topology: str


def load_mesh_files(files: MeshFiles) -> MeshArrays:
    """Read the meshes of a data set, or map what was read before.

    The topology is the one that most files share. Files of another one, broken files and vertices
    that are not finite are left out, counted, and named with the reason in a warning. The cache
    lies in `.facegen-cache` in the data set's folder, or in $XDG_CACHE_HOME/facegen where that
    cannot be written.

    Args:
        files: The files.

    Returns:
        Their vertices in millimetres by split, mapped from disk, and their triangles.

    Raises:
        DatasetError: A split without a readable mesh, or no topology that half of the files share.
    """
    key = hashlib.sha256(repr((_VERSION, files.fingerprint())).encode()).hexdigest()[:16]
    stem = cache_folder(files.root) / f"{files.name}-vertices-{key}"
    rows_path, faces_path, entry_path = (
        Path(f"{stem}{suffix}") for suffix in (".npy", "-faces.npy", ".json")
    )
    if not entry_path.is_file():
        rows, faces, refused = _read(files)
        write_atomically(rows_path, _npy_pieces([row.vertices for row in rows]))
        write_atomically(faces_path, faces)
        write_atomically(entry_path, json.dumps(asdict(_entry(rows, refused))).encode())
    entry = _Entry(**json.loads(entry_path.read_text("utf-8")))
    _warn(entry.refused)
    # Copy-on-write, because torch wants a writable array; the file itself never changes.
    mapped = np.load(rows_path, mmap_mode="c")
    vertices, start = {}, 0
    names = {split: tuple(it) for split, it in entry.splits.items()}
    for split, those in names.items():
        vertices[split] = mapped[start : start + len(those)]
        start += len(those)
    return MeshArrays(files.name, np.load(faces_path), vertices, names, tuple(entry.refused))


def _read(files: MeshFiles) -> tuple[list[_Row], NDArray[np.int32], list[str]]:
    order = list(dict.fromkeys(["train", "validation", *(it.split for it in files.sources)]))
    # Split after split, so that each is one piece of the array.
    sources = sorted(files.sources, key=lambda it: (order.index(it.split), it.name))
    faces: dict[str, NDArray[np.int32]] = {}

    def read(source: MeshSource) -> _Row | str:
        try:
            mesh = read_mesh(source.path)
        except MeshFileError as error:
            return f"{source.name}: {error.problem}"
        topology = _topology(mesh)
        faces.setdefault(topology, mesh.faces)
        return _Row(source, mesh.vertices * np.float32(files.unit_mm), topology)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(
            track(
                pool.map(read, sources),
                description=f"Reading {files.name}",
                total=len(sources),
                console=Console(stderr=True),
                transient=True,
            )
        )
    good = [it for it in results if isinstance(it, _Row)]
    refused = [it for it in results if isinstance(it, str)]
    common = _common(good)
    rows = [it for it in good if it.topology == common]
    refused += _reasons([it for it in good if it.topology != common], rows, faces)
    _check(files, rows, order, refused)
    return rows, faces[common], sorted(refused)


def _topology(mesh: MeshFile) -> str:
    return hashlib.sha256(mesh.faces.tobytes() + repr(mesh.vertices.shape).encode()).hexdigest()


def _common(good: Iterable[_Row]) -> str:
    """The topology of the most files; of several, the one whose name comes first."""
    by_name = sorted(good, key=lambda it: it.source.name)
    counted = Counter(it.topology for it in by_name).most_common(1)
    return counted[0][0] if counted else ""


def _reasons(
    others: Sequence[_Row], rows: Sequence[_Row], faces: Mapping[str, NDArray[np.int32]]
) -> Iterator[str]:
    for it in others:
        counts, common = (
            f"{len(row.vertices)} vertices and {len(faces[row.topology])} triangles"
            for row in (it, rows[0])
        )
        what = f"{counts}, not {common}" if counts != common else f"{counts}, but other triangles"
        yield f"{it.source.name}: another topology, {what}"


def _check(
    files: MeshFiles, rows: Sequence[_Row], splits: Sequence[str], refused: Sequence[str]
) -> None:
    count = len(files.sources)
    told = f" The first of {len(refused)} refused is {min(refused)}." if refused else ""
    if not rows or 2 * len(rows) < count:
        raise DatasetError(
            files.name,
            looked_for=f"one topology in half of {count} meshes (it is in {len(rows)} at most)",
            where=files.root,
            remedy=_REMEDY + told,
        )
    for split in splits:
        if not any(row.source.split == split for row in rows):
            raise DatasetError(
                files.name,
                looked_for=f"a good mesh for the split {split!r} among {count}",
                where=files.root,
                remedy=_REMEDY + told,
            )


def _entry(rows: Sequence[_Row], refused: Sequence[str]) -> _Entry:
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(row.source.split, []).append(row.source.name)
    return _Entry(splits, refused)


def _npy_pieces(rows: Sequence[NDArray[np.float32]]) -> Iterator[bytes]:
    """An .npy file of all rows, without a second copy of them in memory."""
    header = io.BytesIO()
    shape = (len(rows), *rows[0].shape)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    yield header.getvalue()
    for row in rows:
        yield row.astype("<f4", copy=False).tobytes()


def _warn(refused: Sequence[str]) -> None:
    if refused:
        named = "; ".join(refused[:_NAMED_COUNT])
        more = "" if len(refused) <= _NAMED_COUNT else " …"
        _log.warning("meshes refused count=%d files=%s%s", len(refused), named, more)
