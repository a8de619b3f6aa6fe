"""Where and how much an edit changes the pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.training.expression.sources import Pixels
from facegen.training.expression.transferring import Transferred

__all__ = ["ChangeMaps", "change_maps", "measure_change"]

_SUPPORT = 0.1


@dataclass(frozen=True, slots=True)
class ChangeMaps:
    """Means over many edits of one expression.

    Attributes:
        face: The sources' mean, (H, W) in levels.
        change: The absolute change, (H, W) in levels.
        mask: (H, W) in [0, 1].
        flow_px: (H, W, 2), right and down in pixels: where the pixel comes from.
    """

    face: NDArray[np.float64]
    change: NDArray[np.float64]
    mask: NDArray[np.float64]
    flow_px: NDArray[np.float64]


def change_maps(sources: Pixels, edited: Transferred) -> ChangeMaps:
    """Average over edits.

    Args:
        sources: (N, H, W, C).
        edited: Made from them.
    """
    return ChangeMaps(
        sources.mean(axis=(0, 3)),
        _difference(sources, edited).mean(axis=0),
        edited.mask.mean(axis=0, dtype=np.float64),
        edited.flow.mean(axis=0, dtype=np.float64) * sources.shape[1],
    )


def measure_change(sources: Pixels, edited: Transferred) -> dict[str, float]:
    """Measure how far edits reach.

    Args:
        sources: (N, H, W, C).
        edited: Made from them.

    Returns:
        Mean absolute changes in levels of 255: `inside` the mask's support (where it is at least
        0.1), `outside` of it, `border` of the outermost pixels; `mask_area`, the mask's mean;
        `support_area`, the support's share; `flow_px`, the mean distance that pixels move over,
        and `flow_p95_px` its 95th percentile.
    """
    difference = _difference(sources, edited)
    support = edited.mask >= _SUPPORT
    border = np.ones(difference.shape[1:], dtype=bool)
    border[1:-1, 1:-1] = False
    moved = np.linalg.norm(edited.flow, axis=-1) * sources.shape[1]
    return {
        "inside": _mean(difference[support]),
        "outside": _mean(difference[~support]),
        "border": _mean(difference[:, border]),
        "mask_area": float(edited.mask.mean(dtype=np.float64)),
        "support_area": float(support.mean()),
        "flow_px": float(moved.mean(dtype=np.float64)),
        "flow_p95_px": float(np.percentile(moved, 95)),
    }


def _difference(sources: Pixels, edited: Transferred) -> NDArray[np.float32]:
    difference = np.abs(sources.astype(np.float32) - edited.images)
    return np.asarray(difference.mean(axis=-1))


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
