"""Any folder of pictures: files at any depth, or tar and Parquet files of them."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PurePosixPath

from facegen.training.data.dataset import (
    PICTURE_SUFFIXES,
    Dataset,
    Picture,
    Source,
    Split,
    hash_fraction,
)
from facegen.training.data.parquet import parquet_rows
from facegen.training.data.tars import tar_members
from facegen.training.errors import DatasetError

__all__ = ["read_folder"]

_VALIDATION_SHARE = 0.1

_log = logging.getLogger(__name__)


def read_folder(root: Path) -> Dataset:
    """List every picture below a folder; a tenth, chosen by a hash of relative paths, validates.

    Where no picture is a file of its own, those in tar archives (WebDataset) and in rows of Parquet
    files (Hugging Face) are listed, as `shard-000042.tar/000000042.png` and `part.parquet/42`.

    Args:
        root: The folder; hidden files and folders in it are left out.

    Returns:
        Pictures without labels, whole central squares; both splits have some.

    Raises:
        DatasetError: Fewer than two pictures, or a broken archive or Parquet file.
        ConfigurationError: Parquet files need a package that is missing.
    """
    sources = _sources(root)
    if len(sources) < 2:
        raise DatasetError(
            "folder",
            looked_for=f"two pictures or more ({', '.join(sorted(PICTURE_SUFFIXES))}, or in "
            f"{', '.join(_SHARDS)}), not {len(sources)},",
            where=root,
            remedy="Give a folder of faces, all cropped alike.",
        )
    ranked = sorted(sources, key=hash_fraction)
    held_out = {name for name in ranked if hash_fraction(name) < _VALIDATION_SHARE}
    held_out = (held_out | {ranked[0]}) - {ranked[-1]}
    splits: dict[bool, Split] = {True: "validation", False: "train"}
    return Dataset(
        "folder",
        root,
        tuple(Picture(name, splits[name in held_out], it) for name, it in sources.items()),
    )


def _tar_pictures(path: Path) -> Mapping[str, Source]:
    members = tar_members(path)
    return {name: it for name, it in members.items() if _is_picture(PurePosixPath(name))}


_SHARDS: Mapping[str, Callable[[Path], Mapping[str, Source]]] = {
    ".parquet": parquet_rows,
    ".tar": _tar_pictures,
}


def _sources(root: Path) -> dict[str, Source]:
    """Pictures by name, in a fixed order; those of a shard as they lie in it."""
    paths = [it.relative_to(root) for it in root.rglob("*")]
    pictures = sorted(it.as_posix() for it in paths if _is_picture(it))
    shards = sorted(it.as_posix() for it in paths if _is_shown(it) and it.suffix.lower() in _SHARDS)
    if pictures:
        # Most likely the archive that they came from, or a table of what is known of them.
        if shards:
            _log.warning(
                "shards beside pictures left out count=%d first=%s", len(shards), shards[0]
            )
        return {name: root / name for name in pictures}
    return {
        f"{shard}/{name}": source
        for shard in shards
        for name, source in _SHARDS[PurePath(shard).suffix.lower()](root / shard).items()
    }


def _is_picture(path: PurePath) -> bool:
    return _is_shown(path) and path.suffix.lower() in PICTURE_SUFFIXES


def _is_shown(path: PurePath) -> bool:
    return not any(part.startswith(".") for part in path.parts)
