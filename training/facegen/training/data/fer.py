"""FER2013, as Kaggle's table of pixels or as FER+'s folders of PNG."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from facegen.training.data.dataset import Dataset, Picture, Split
from facegen.training.errors import DatasetError

__all__ = ["FER_PLUS_NAMES", "read_fer"]

FER_PLUS_NAMES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
"""The FER+ taggers' choices; a label `votes.NAME` is how many of ten chose it."""

_SIDE_PX = 48
_TABLES = ("fer2013.csv", "icml_face_data.csv")
_USAGES: dict[str, Split] = {
    "Training": "train",
    "PublicTest": "validation",
    "PrivateTest": "test",
}
_FOLDERS: dict[str, Split] = {
    "FER2013Train": "train",
    "FER2013Valid": "validation",
    "FER2013Test": "test",
}
_REMEDY = (
    "Get fer2013.csv from https://www.kaggle.com/c/challenges-in-representation-learning-facial-"
    "expression-recognition-challenge/data, or make FER+'s folders with "
    "https://github.com/microsoft/FERPlus."
)


def read_fer(root: Path) -> Dataset:
    """List FER2013's pictures; exact copies and flat ones fall out when they are decoded.

    Args:
        root: The folder of fer2013.csv or icml_face_data.csv, or of FER2013Train and FER2013Valid.

    Returns:
        Grey pictures of 48 x 48 with label `emotion` (0 to 6: angry, disgust, fear, happy, sad,
        surprise, neutral) and FER+'s `votes.NAME`, where the tables are there.

    Raises:
        DatasetError: Neither layout, or a table that does not parse.
    """
    votes = _read_votes(root / "fer2013new.csv")
    for table in _TABLES:
        if (root / table).is_file():
            pictures = tuple(_read_pixels(root / table, votes))
            break
    else:
        pictures = tuple(_read_folders(root, votes))
    if not pictures:
        raise DatasetError(
            "FER2013",
            looked_for="fer2013.csv, icml_face_data.csv or FER2013Train/fer0000000.png …",
            where=root,
            remedy=_REMEDY,
        )
    return Dataset("fer", root, pictures, distinct=True)


def _read_pixels(path: Path, votes: Mapping[str, dict[str, float]]) -> Iterable[Picture]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        for number, row in enumerate(rows):
            name = f"fer{number:07d}.png"
            try:
                pixels = np.array(row["pixels"].split(), dtype=np.uint8).reshape(_SIDE_PX, _SIDE_PX)
                split = _USAGES[row["Usage"].strip()]
                labels = {"emotion": float(row["emotion"])} | votes.get(name, {})
            except (AttributeError, KeyError, ValueError, OverflowError) as error:
                raise DatasetError(
                    "FER2013",
                    looked_for=f"emotion, 48 x 48 pixels, Usage in row {number} of {path.name}",
                    where=path.parent,
                    remedy=_REMEDY,
                ) from error
            yield Picture(name, split, pixels, labels)


def _read_folders(root: Path, votes: Mapping[str, dict[str, float]]) -> Iterable[Picture]:
    emotions = _read_emotions(root / "fer2013_labels.csv")
    for folder, split in _FOLDERS.items():
        for path in sorted((root / folder).glob("*.png")):
            labels = emotions.get(path.name, {}) | votes.get(path.name, {})
            yield Picture(path.name, split, path, labels)


def _read_emotions(path: Path) -> Mapping[str, dict[str, float]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"]: {"emotion": float(row["emotion"])} for row in csv.DictReader(file)}


def _read_votes(path: Path) -> Mapping[str, dict[str, float]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["Image name"]: {f"votes.{n}": float(row[n]) for n in FER_PLUS_NAMES}
            for row in csv.DictReader(file)
            if row["Image name"]
        }
