"""Labeled Faces in the Wild: one folder a person, Name_Surname/Name_Surname_0001.jpg."""

from pathlib import Path

from facegen.training.data.dataset import PICTURE_SUFFIXES, Dataset, Picture, Split, hash_fraction
from facegen.training.errors import DatasetError

__all__ = ["CROP", "read_lfw"]

CROP = 116 / 250
"""Side of the central square, about the face, over a frame's side."""

_VALIDATION_SHARE = 0.1


def read_lfw(root: Path) -> Dataset:
    """List LFW's pictures, split by person so that nobody is in both splits.

    A tenth of the people, chosen by a hash of their names, validates.

    Args:
        root: The folder of the people's folders.

    Returns:
        Pictures without labels; a name begins with the person's folder.

    Raises:
        DatasetError: No pictures.
    """
    pictures = []
    for person in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else ():
        held_out = hash_fraction(person.name) < _VALIDATION_SHARE
        split: Split = "validation" if held_out else "train"
        pictures += [
            Picture(f"{person.name}/{path.name}", split, path)
            for path in sorted(person.iterdir())
            if path.suffix.lower() in PICTURE_SUFFIXES and path.stem.startswith(person.name)
        ]
    if not pictures:
        raise DatasetError(
            "LFW",
            looked_for="Name_Surname/Name_Surname_0001.jpg …",
            where=root,
            remedy="Get lfw.tgz from http://vis-www.cs.umass.edu/lfw/ or a mirror and unpack it.",
        )
    return Dataset("lfw", root, tuple(pictures), crop=CROP)
