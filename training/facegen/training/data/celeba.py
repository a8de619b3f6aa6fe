"""CelebA in its standard layout, full or half size: img_align_celeba and list_attr_celeba.txt."""

import logging
from collections.abc import Mapping
from pathlib import Path

from facegen.training.data.dataset import Dataset, Picture, Split
from facegen.training.errors import DatasetError

__all__ = ["CROP", "read_celeba"]

CROP = 150 / 178
"""Side of the central square of an aligned picture (178 x 218) over its width."""

_REMEDY = (
    "Get img_align_celeba.zip, list_attr_celeba.txt and list_eval_partition.txt from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack them into one folder."
)
_PARTITIONS: dict[str, Split] = {"0": "train", "1": "validation", "2": "test"}

_log = logging.getLogger(__name__)


def read_celeba(root: Path) -> Dataset:
    """List CelebA's aligned pictures.

    The split is list_eval_partition.txt's; without that file the last ninth by number validates.

    Args:
        root: The folder of img_align_celeba.

    Returns:
        Pictures with their 40 attributes, 1 or -1 each, where list_attr_celeba.txt is there.

    Raises:
        DatasetError: No pictures, or a table that does not parse.
    """
    folder = root / "img_align_celeba"
    paths = sorted(folder.glob("*.jpg")) or sorted(folder.glob("*.png"))
    if not paths:
        raise DatasetError(
            "CelebA", looked_for="img_align_celeba/000001.jpg …", where=root, remedy=_REMEDY
        )
    attributes = _read_attributes(root / "list_attr_celeba.txt")
    partition = _read_partition(root / "list_eval_partition.txt")
    first_validation = len(paths) - len(paths) // 9
    pictures = []
    for index, path in enumerate(paths):
        split: Split = "train" if index < first_validation else "validation"
        if partition is not None:
            if path.name not in partition:
                continue
            split = partition[path.name]
        pictures.append(Picture(path.name, split, path, attributes.get(path.name, {})))
    return Dataset("celeba", root, tuple(pictures), crop=CROP)


def _read_attributes(path: Path) -> Mapping[str, Mapping[str, float]]:
    if not path.is_file():
        _log.warning("CelebA attributes missing file=%s", path)
        return {}
    lines = path.read_text("utf-8").split("\n")
    if lines[0].strip().isdigit():  # the original file begins with the number of rows
        lines = lines[1:]
    names = lines[0].split()
    table = {}
    for number, line in enumerate(lines[1:], start=2):
        file, *values = line.split() or [""]
        if not file:
            continue
        if len(values) != len(names):
            raise DatasetError(
                "CelebA",
                looked_for=f"{len(names)} attributes in row {number} of {path.name}, "
                f"which has {len(values)},",
                where=path.parent,
                remedy=_REMEDY,
            )
        table[file] = dict(zip(names, map(float, values), strict=True))
    return table


def _read_partition(path: Path) -> Mapping[str, Split] | None:
    if not path.is_file():
        return None
    rows = (line.split() for line in path.read_text("utf-8").splitlines())
    try:
        return {row[0]: _PARTITIONS[row[1]] for row in rows if row}
    except (IndexError, KeyError) as error:
        raise DatasetError(
            "CelebA",
            looked_for=f'rows like "000001.jpg 0" in {path.name}',
            where=path.parent,
            remedy=_REMEDY,
        ) from error
