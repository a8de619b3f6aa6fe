"""Directions of a latent space: what changes in a latent when one property of its face changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.labels import Labels
from facegen.training.prior import save_arrays

__all__ = [
    "COMPONENT_COUNT",
    "Directions",
    "fit_directions",
    "kept_directions",
    "label_directions",
    "principal_axes",
]

COMPONENT_COUNT = 10
"""Principal axes that a run keeps."""

_HELD = ("Male", "Young")
"""CelebA's labels that are kept equal where another's change is sought. With all 39 others equal a
smile loses its cheeks and its open mouth, which have labels of their own."""

_REST = "neutral"
"""The one of labels that exclude each other that a direction starts from."""

_REACH = 2.0
"""Differences of means in a direction: moved by one, a face stands between those without the label
and those with it, and a classifier takes few for the latter."""

_PENALTY = 30.0
"""Pictures' worth of ridge. With 100 held-out latents were predicted best (0.0775 of their
variance, with none 0.0770), but rare attributes then fall short of what they stand for: baldness by
0.37 of its length, with 30 by 0.15."""
_LARGEST_SHARE = 1 / 250
"""Of all pictures that the penalty may amount to, so that small data sets keep their moves, too."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Moves in a latent space, one a name.

    Attributes:
        names: A label's as the data set writes it, or `component-1` … for principal axes.
        vectors: (D, Z): what strength 1 adds to a latent.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]

    def edit(
        self, latents: NDArray[np.float32], strengths: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Move latents.

        Args:
            latents: (B, Z).
            strengths: (B, D): how far along each direction; 0 stays.

        Returns:
            (B, Z).
        """
        edited: NDArray[np.float32] = latents + strengths @ self.vectors
        return edited

    def vector(self, name: str) -> NDArray[np.float32]:
        """One direction, (Z,)."""
        found: NDArray[np.float32] = self.vectors[self.names.index(name)]
        return found

    def only(self, names: Sequence[str]) -> "Directions":
        """Some of the directions, in the order of the names."""
        return Directions(tuple(names), np.stack([self.vector(name) for name in names]))

    def save(self, path: Path) -> None:
        """Write the directions as .npz, in one move."""
        save_arrays(path, names=np.array(self.names), directions=self.vectors)

    @classmethod
    def load(cls, path: Path) -> "Directions":
        """Read directions that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(tuple(file["names"].tolist()), file["directions"])


def fit_directions(latents: NDArray[np.float32], labels: Labels) -> Directions:
    """Find the directions of the labels and the principal axes.

    Args:
        latents: (N, Z) of pictures, or (2N, Z) with those of the mirrored pictures last.
        labels: Of the N pictures; there may be none.
    """
    axes = principal_axes(latents, COMPONENT_COUNT)
    names = tuple(f"component-{number}" for number in range(1, len(axes) + 1))
    if not labels:
        return Directions(names, axes)
    # The mean with the mirrored picture has no side, as labels have none.
    means = latents.reshape(-1, len(labels.known), latents.shape[1]).mean(0)
    kept = _informative(labels)
    found = _REACH * _label_moves(means[labels.known], labels, kept)
    return Directions((*(labels.names[k] for k in kept), *names), np.concatenate([found, axes]))


def _label_moves(
    latents: NDArray[np.float32], labels: Labels, kept: Sequence[int]
) -> NDArray[np.float32]:
    """How latents of faces with a label differ from those without it, (L, Z)."""
    values = labels.values[labels.known]
    if labels.exclusive:
        return label_directions(latents, values[:, kept])
    held = [k for k in kept if labels.names[k] in _HELD]
    moves = [
        label_directions(latents, values[:, [k, *(h for h in held if h != k)]])[0] for k in kept
    ]
    found: NDArray[np.float32] = np.stack(moves)
    return found


def kept_directions(directions: Directions, effects: Mapping[str, Any]) -> Directions:
    """The directions worth offering: of labels those that were measured to work, and all axes.

    Args:
        directions: Of a run.
        effects: What `measure_effects` said of them; without it nothing is left out.
    """
    measured: Mapping[str, Any] = effects.get("directions", {})
    return directions.only(
        [name for name in directions.names if measured.get(name, {"kept": True})["kept"]]
    )


def label_directions(
    latents: NDArray[np.float32], values: NDArray[np.bool_], *, penalty: float | None = None
) -> NDArray[np.float32]:
    """Ridge regression of latents on several labels together.

    A coefficient is how latents of faces with the label differ from those of faces without it that
    are alike in the other labels.

    Hoerl & Kennard (1970), https://doi.org/10.1080/00401706.1970.10488634.

    Args:
        latents: (N, Z).
        values: (N, L).
        penalty: Added to each label's sum of squares: draws labels of few pictures towards 0. None
            takes 30 pictures' worth, or a 250th of them.

    Returns:
        (L, Z).
    """
    if penalty is None:
        penalty = min(_PENALTY, _LARGEST_SHARE * len(latents))
    a = values.astype(np.float64)
    a -= a.mean(0)
    z = latents.astype(np.float64)
    gram = a.T @ a + penalty * np.eye(a.shape[1])
    found: NDArray[np.float32] = np.linalg.solve(gram, a.T @ (z - z.mean(0))).astype(np.float32)
    return found


def principal_axes(latents: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The axes along which latents vary most, each as long as their standard deviation along it.

    The sign makes each axis's largest value positive.

    Args:
        latents: (N, Z).
        count: At most this many.

    Returns:
        (min(count, Z), Z), the longest first.
    """
    centered = latents - latents.mean(0, dtype=np.float64)
    variances, vectors = np.linalg.eigh(centered.T @ centered / len(latents))
    largest = slice(None, -count - 1, -1)
    axes = vectors.T[largest] * np.sqrt(np.maximum(variances[largest], 0.0))[:, None]
    peaks = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    signed: NDArray[np.float32] = (axes * np.where(peaks < 0, -1.0, 1.0)).astype(np.float32)
    return signed


def _informative(labels: Labels) -> list[int]:
    """Labels that some known pictures have and some not; of exclusive ones all but one.

    Faces with that one are what the directions of the others start from: the neutral expression,
    or the commonest label where there is none.
    """
    counts = labels.values[labels.known].sum(0)
    kept = [k for k, count in enumerate(counts) if 0 < count < labels.known.sum()]
    if labels.exclusive and len(kept) > 1:
        names = [labels.names[k] for k in kept]
        rest = kept[names.index(_REST)] if _REST in names else int(counts.argmax())
        kept.remove(rest)
    return kept
