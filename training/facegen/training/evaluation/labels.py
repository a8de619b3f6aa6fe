"""Which pictures a label's prior answers for."""

import numpy as np
from numpy.typing import NDArray

from facegen.training.data.labels import Labels, label_slug

__all__ = ["rows_with"]


def rows_with(labels: Labels, prior: str) -> NDArray[np.intp]:
    """Rows of the pictures that a prior's name describes; none where it names no label.

    Args:
        labels: Of the pictures of a split.
        prior: The prior's name as it is exported: `smiling`, `not-male`, `happiness`.
    """
    for label in (*labels.names, *(f"-{it}" for it in labels.names)):
        if label_slug(label) == prior:
            return np.flatnonzero(labels.having(label))
    return np.empty(0, np.intp)
