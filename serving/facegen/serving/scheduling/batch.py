"""One batch: the inputs of several requests' rows joined, its outputs split again."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facegen.serving.engine import Array
from facegen.serving.scheduling.request import Piece, Request

__all__ = ["Execution", "Run", "execute", "joined_parts", "row_count"]

Run = Callable[[dict[str, Array], tuple[str, ...]], dict[str, Array]]


class Execution(NamedTuple):
    """What an execution gave to each piece, and when, by `time.monotonic_ns()`."""

    parts: list[dict[str, Array]]
    began_ns: int
    joined_ns: int
    ran_ns: int
    split_ns: int


def execute(run: Run, pieces: Sequence[Piece], rows: int, *, batched: bool) -> Execution:
    """Run a batch.

    Args:
        run: The model.
        pieces: What to run; their requests share a key.
        rows: How many rows to execute, at least those of the pieces.
        batched: Whether there is a batch axis; if not, there is one piece, a whole request.

    Raises:
        ValueError: An output has another number of rows: the graph does not keep rows apart.
    """
    began_ns = time.monotonic_ns()
    inputs = _join_inputs(pieces, rows) if batched else dict(pieces[0].request.inputs)
    joined_ns = time.monotonic_ns()
    outputs = run(inputs, pieces[0].request.outputs)
    ran_ns = time.monotonic_ns()
    parts = _split_outputs(pieces, outputs, rows) if batched else [outputs]
    return Execution(parts, began_ns, joined_ns, ran_ns, time.monotonic_ns())


def row_count(pieces: Sequence[Piece]) -> int:
    """Count the rows of a batch."""
    return sum([stop - start for _, start, stop in pieces])


def joined_parts(request: Request) -> dict[str, Array]:
    """Join the outputs of a request that ran, without a copy if one batch had all its rows."""
    if len(request.parts) == 1:
        return request.parts[0]
    parts = [request.parts[start] for start in sorted(request.parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join_inputs(pieces: Sequence[Piece], rows: int) -> dict[str, Array]:
    """Join the inputs of a batch, without a copy where one request fills it.

    Filling is copies of the last row, which the model can take, as it might not zeros.
    """
    padding = rows - row_count(pieces)
    joined = {}
    for name in pieces[0].request.inputs:
        arrays = [
            array if stop - start == len(array) else array[start:stop]
            for array, start, stop in ((r.inputs[name], start, stop) for r, start, stop in pieces)
        ]
        if padding:
            arrays.append(np.repeat(arrays[-1][-1:], padding, axis=0))
        joined[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return joined


def _split_outputs(
    pieces: Sequence[Piece], outputs: dict[str, Array], rows: int
) -> list[dict[str, Array]]:
    """Give each piece its rows of a batch's outputs, as views; filling is left out."""
    for name, array in outputs.items():
        if len(array) != rows:
            raise ValueError(f'output "{name}" has {len(array)} rows for {rows} rows of input')
    if len(pieces) == 1 and pieces[0].stop - pieces[0].start == rows:
        return [outputs]
    parts = []
    first = 0
    for _, start, stop in pieces:
        last = first + stop - start
        parts.append({name: array[first:last] for name, array in outputs.items()})
        first = last
    return parts
