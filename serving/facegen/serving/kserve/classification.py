"""The classification extension: the highest values of an output, as strings."""

import numpy as np

from facegen.serving.engine import Array

__all__ = ["classify"]


def classify(array: Array, count: int, *, batched: bool, labels: tuple[str, ...] = ()) -> Array:
    """Give the highest values as `value:index` or `value:index:label`, the highest first.

    Args:
        array: The output, of numbers.
        count: How many of each row; fewer if it has no more.
        batched: Whether its first axis is rows; else it is one row.
        labels: What the indices mean, the first ones.

    Returns:
        (rows, count) or (count,) bytes. Of equal values the lower index is first; NaN is last.
    """
    rows = array.reshape(array.shape[0] if batched else 1, -1)
    strings = np.empty((rows.shape[0], min(count, rows.shape[1])), np.object_)
    for row, values in enumerate(rows):
        for place, index in enumerate(_highest(values, count)):
            value = values[index]
            number = f"{int(value)}" if value.dtype.kind in "biu" else f"{float(value):f}"
            label = f":{labels[index]}" if index < len(labels) else ""
            strings[row, place] = f"{number}:{index}{label}".encode()
    return strings if batched else strings[0]


def _highest(values: Array, count: int) -> list[int]:
    if values.dtype.kind in "biu":
        # Backwards, for unsigned numbers and the lowest have no negative, and turned round again,
        # so that equal values keep their order.
        order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
    else:
        order = np.argsort(-values.astype(np.float64), kind="stable")  # NaN is last
    return [int(index) for index in order[:count]]
