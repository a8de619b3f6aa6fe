"""Faces with their expressions, and the choice of those that an evaluation edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelledFaces", "Pixels", "choose_sources"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelledFaces:
    """Aligned faces and what people say they express.

    Attributes:
        pixels: (N, H, W, C) uint8.
        expressions: A name each, (N,).
    """

    pixels: Pixels
    expressions: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "LabelledFaces":
        """Some of the faces, by their rows or by a mask."""
        return LabelledFaces(self.pixels[rows], self.expressions[rows])

    def showing(self, expression: str) -> "LabelledFaces":
        """The faces with an expression."""
        return self.take(self.expressions == expression)

    def counts(self, expressions: Sequence[str]) -> Mapping[str, int]:
        """How many faces there are of each expression."""
        return {name: int((self.expressions == name).sum()) for name in expressions}


def choose_sources(
    faces: LabelledFaces, count: int, *, expressions: Sequence[str], seed: int
) -> LabelledFaces:
    """Choose faces at random, as evenly over the expressions as they allow.

    Args:
        faces: To choose from.
        count: How many; fewer where there are fewer.
        expressions: Those to take; they follow each other in turn, so that any first part of the
            result is even too.
        seed: Decides which.

    Returns:
        The chosen faces.
    """
    random = np.random.default_rng(seed)
    shuffled = [random.permutation(np.flatnonzero(faces.expressions == n)) for n in expressions]
    turns = range(max((len(rows) for rows in shuffled), default=0))
    order = [rows[turn] for turn in turns for rows in shuffled if turn < len(rows)]
    return faces.take(np.array(order[:count], dtype=np.intp))
