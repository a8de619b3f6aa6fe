"""One batch: the inputs of several requests' rows joined, its outputs split again."""

from collections.abc import Sequence

import numpy as np

from facegen.serving.engine import Array
from facegen.serving.scheduling.row_queue import Piece, Request

__all__ = ["join_inputs", "joined_parts", "row_count", "split_outputs"]


def row_count(pieces: Sequence[Piece]) -> int:
    """Count the rows of a batch."""
    return sum(piece.stop - piece.start for piece in pieces)


def join_inputs(pieces: Sequence[Piece], *, rows: int) -> dict[str, Array]:
    """Join the inputs of a batch, without a copy where one request fills it.

    Args:
        pieces: What to run.
        rows: How many rows to make, at least those of the pieces: the rest is filled with copies of
            the last one, which the model can take, as it might not zeros.
    """
    padding = rows - row_count(pieces)
    joined = {}
    for name in pieces[0].request.inputs:
        arrays = [piece.request.inputs[name][piece.start : piece.stop] for piece in pieces]
        if padding:
            arrays.append(np.repeat(arrays[-1][-1:], padding, axis=0))
        joined[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return joined


def split_outputs(
    pieces: Sequence[Piece], outputs: dict[str, Array], *, rows: int
) -> list[dict[str, Array]]:
    """Give each piece its rows of a batch's outputs, as views; filling is left out.

    Args:
        pieces: What ran.
        outputs: What came of it.
        rows: How many rows ran.

    Raises:
        ValueError: An output has another number of rows: the graph does not keep rows apart.
    """
    for name, array in outputs.items():
        if len(array) != rows:
            raise ValueError(f'output "{name}" has {len(array)} rows for {rows} rows of input')
    parts = []
    first = 0
    for piece in pieces:
        stop = first + piece.stop - piece.start
        parts.append({name: array[first:stop] for name, array in outputs.items()})
        first = stop
    return parts


def joined_parts(request: Request) -> dict[str, Array]:
    """Join the outputs of a request that ran, without a copy if one batch had all its rows."""
    if len(request.parts) == 1:
        return request.parts[0]
    parts = [request.parts[start] for start in sorted(request.parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
