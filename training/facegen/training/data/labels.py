"""Yes-or-no labels of the pictures that a model sees: CelebA's attributes, FER+'s expressions."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.arrays import FaceArrays
from facegen.training.data.dataset import Picture, Split
from facegen.training.data.fer import FER_PLUS_NAMES
from facegen.training.errors import ConfigurationError

__all__ = ["Labels", "label_slug", "load_labels"]

_MAJORITY = 0.6
"""The least share of the votes that makes an expression a picture's label, as in fer-guide-a."""

_EXPRESSIONS = FER_PLUS_NAMES[:8]
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""FER+'s names of FER2013's own seven labels."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a data set says of the pictures of one split.

    Attributes:
        dataset: The data set's name.
        names: The labels' names, as the data set writes them; none where it has no labels.
        values: (N, L): which pictures have which label; False where that is not known.
        known: (N,): whether the data set says anything of the picture.
        exclusive: Every known picture has exactly one of the labels.
    """

    dataset: str
    names: tuple[str, ...]
    values: NDArray[np.bool_]
    known: NDArray[np.bool_]
    exclusive: bool = False

    def __bool__(self) -> bool:
        return bool(self.names) and bool(self.known.any())

    def having(self, label: str) -> NDArray[np.bool_]:
        """The pictures that are known to have a label, or with a leading `-` not to have it, (N,).

        Raises:
            ConfigurationError: No such label; names the near ones.
        """
        name = label.removeprefix("-")
        if name not in self.names:
            raise ConfigurationError("prior.labels", self._unknown(name))
        has = self.values[:, self.names.index(name)]
        return self.known & (~has if label.startswith("-") else has)

    def _unknown(self, name: str) -> str:
        if not self.names:
            return f'"{name}": the data set {self.dataset} has no labels; leave this empty'
        by_lower = {known.lower(): known for known in self.names}
        near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
        words = ", ".join(by_lower[it] for it in near) or ", ".join(self.names)
        return f'"{name}" is no label of the data set {self.dataset}; near: {words}'


def load_labels(faces: FaceArrays) -> Mapping[Split, Labels]:
    """Read the labels of decoded pictures, row by row as they are in `faces.pixels`.

    Args:
        faces: The data set; the pictures that it left out have no row.

    Returns:
        The labels of each split: CelebA's attributes, FER+'s expressions where at least 0.6 of the
        votes agree (else FER2013's own), or none.
    """
    pictures = faces.dataset.pictures
    splits: Mapping[Split, Sequence[Picture]] = {
        split: [pictures[i] for i in rows] for split, rows in faces.indices.items()
    }
    names = next((tuple(p.labels) for p in pictures if p.labels), ())
    if faces.dataset.name.startswith("fer") and names:
        return {split: _expressions(rows) for split, rows in splits.items()}
    return {s: _attributes(faces.dataset.name, names, rows) for s, rows in splits.items()}


def label_slug(label: str) -> str:
    """A label as part of a model's name: `-Blond_Hair` gives `not-blond-hair`."""
    words = label.removeprefix("-").lower().replace("_", "-").replace(" ", "-")
    return f"not-{words}" if label.startswith("-") else words


def _attributes(dataset: str, names: tuple[str, ...], pictures: Sequence[Picture]) -> Labels:
    values = np.zeros((len(pictures), len(names)), np.bool_)
    known = np.array([bool(picture.labels) for picture in pictures], np.bool_)
    for row, picture in enumerate(pictures):
        if picture.labels:
            values[row] = [picture.labels.get(name, -1.0) > 0 for name in names]
    return Labels(dataset, names, values, known)


def _expressions(pictures: Sequence[Picture]) -> Labels:
    values = np.zeros((len(pictures), len(_EXPRESSIONS)), np.bool_)
    for row, picture in enumerate(pictures):
        expression = _expression(picture.labels)
        if expression in _EXPRESSIONS:
            values[row, _EXPRESSIONS.index(expression)] = True
    known: NDArray[np.bool_] = values.sum(1) > 0
    return Labels("fer", _EXPRESSIONS, values, known, exclusive=True)


def _expression(labels: Mapping[str, float]) -> str:
    """The expression that most of a picture's votes name; empty where too few agree."""
    votes = {name: labels.get(f"votes.{name}", 0.0) for name in FER_PLUS_NAMES}
    if total := sum(votes.values()):
        name = max(votes, key=lambda name: votes[name])
        return name if votes[name] >= _MAJORITY * total else ""
    return _EMOTIONS[int(labels["emotion"])] if "emotion" in labels else ""
