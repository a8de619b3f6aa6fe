"""Any folder of pictures, at any depth."""

from pathlib import Path

from facegen.training.data.dataset import PICTURE_SUFFIXES, Dataset, Picture, Split, hash_fraction
from facegen.training.errors import DatasetError

__all__ = ["read_folder"]

_VALIDATION_SHARE = 0.1


def read_folder(root: Path) -> Dataset:
    """List every picture below a folder; a tenth, chosen by a hash of relative paths, validates.

    Args:
        root: The folder; hidden files and folders in it are left out.

    Returns:
        Pictures without labels, whole central squares; both splits have some.

    Raises:
        DatasetError: Fewer than two pictures.
    """
    names = sorted(
        name.as_posix()
        for name in (path.relative_to(root) for path in root.rglob("*"))
        if name.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
    )
    if len(names) < 2:
        raise DatasetError(
            "folder",
            looked_for=f"two pictures or more ({', '.join(sorted(PICTURE_SUFFIXES))})",
            where=root,
            remedy="Give a folder of faces, all cropped alike.",
        )
    ranked = sorted(names, key=hash_fraction)
    held_out = {name for name in names if hash_fraction(name) < _VALIDATION_SHARE}
    held_out = (held_out | {ranked[0]}) - {ranked[-1]}
    splits: dict[bool, Split] = {True: "validation", False: "train"}
    return Dataset(
        "folder",
        root,
        tuple(Picture(name, splits[name in held_out], root / name) for name in names),
    )
