"""What a graph must hold before it is written: validity, parity with PyTorch, independent rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from facegen.export.errors import (
    BatchDependenceError,
    InvalidGraphError,
    LatentParityError,
    ParityError,
    ValueParityError,
)
from facegen.export.onnx_export import refuse_random_operators
from facegen.export.runtime import Array, Rows, run_rows

__all__ = [
    "LEVEL_LIMIT",
    "LevelError",
    "VertexError",
    "check_batch_independence",
    "check_latents",
    "check_levels",
    "check_structure",
    "check_values",
    "check_vertices",
    "compare_levels",
    "compare_vertices",
]

LEVEL_LIMIT = 1
"""The most that a pixel may differ from PyTorch's, in 8-bit levels: rounding at a half."""


@dataclass(frozen=True, slots=True)
class LevelError:
    """How pixels differ from PyTorch's.

    Attributes:
        largest: The largest difference, in 8-bit levels.
        mean: The mean of the differences, in 8-bit levels.
    """

    largest: int
    mean: float


@dataclass(frozen=True, slots=True)
class VertexError:
    """How coordinates of vertices differ from PyTorch's.

    Attributes:
        largest: The largest difference, in millimetres.
        mean: The mean of the differences, in millimetres.
    """

    largest: float
    mean: float


def check_structure(model: onnx.ModelProto) -> None:
    """Check a graph with onnx.checker, shapes included, and refuse random operators.

    Raises:
        InvalidGraphError: onnx.checker refuses it.
        RandomOperatorError: It draws random numbers.
    """
    refuse_random_operators(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (ValidationError, InferenceError) as error:
        raise InvalidGraphError(model.graph.name, f"is refused by onnx.checker: {error}") from error


def compare_levels(pixels: Array, expected: Array) -> LevelError:
    """Compare two arrays of uint8 pixels of one shape."""
    difference = np.abs(pixels.astype(np.int16) - expected.astype(np.int16))
    return LevelError(largest=int(difference.max()), mean=float(difference.mean()))


def check_levels(graph: str, error: LevelError, *, limit: int = LEVEL_LIMIT) -> LevelError:
    """Pass an error on if it is within the limit.

    Raises:
        ParityError: It is not.
    """
    if error.largest > limit:
        raise ParityError(graph, levels=error.largest, limit=limit)
    return error


def compare_vertices(vertices: Array, expected: Array) -> VertexError:
    """Compare two arrays of vertices of one shape, in millimetres."""
    difference = np.abs(vertices - expected)
    return VertexError(largest=float(difference.max()), mean=float(difference.mean()))


def check_vertices(graph: str, error: VertexError, *, limit: float) -> VertexError:
    """Pass an error on if it is within the limit.

    Args:
        graph: The graph's name.
        error: The error.
        limit: The largest difference allowed, in millimetres.

    Raises:
        ValueParityError: It is above the limit, or not a number.
    """
    if not error.largest <= limit:
        raise ValueParityError(graph, "vertices", difference=error.largest, limit=limit)
    return error


def check_latents(graph: str, latents: Rows, expected: Rows, *, limit: float) -> float:
    """Compare an encoder's outputs with PyTorch's.

    Args:
        graph: The graph's name.
        latents: The graph's outputs, (B, Z) each.
        expected: PyTorch's.
        limit: The largest difference allowed, in standard deviations of the output.

    Returns:
        The largest difference found, in the same unit.

    Raises:
        LatentParityError: It is above the limit, or not a number.
    """
    worst = 0.0
    for name, values in expected.items():
        scale = max(float(values.std()), float(np.finfo(np.float32).tiny))
        difference = float(np.abs(latents[name] - values).max()) / scale
        if not difference <= limit:
            raise LatentParityError(graph, name, difference=difference, limit=limit)
        worst = max(worst, difference)
    return worst


def check_values(graph: str, outputs: Rows, expected: Rows, *, limits: Mapping[str, float]) -> None:
    """Compare outputs that have a unit of their own with PyTorch's.

    Args:
        graph: The graph's name.
        outputs: The graph's outputs.
        expected: PyTorch's.
        limits: The largest difference allowed of each output to compare.

    Raises:
        ValueParityError: A difference is above its limit, or not a number.
    """
    for name, limit in limits.items():
        difference = float(np.abs(outputs[name] - expected[name]).max())
        if not difference <= limit:
            raise ValueParityError(graph, name, difference=difference, limit=limit)


def check_batch_independence(
    graph: str,
    session: onnxruntime.InferenceSession,
    rows: Rows,
    *,
    batch_sizes: Sequence[int],
) -> None:
    """Check that every row's answer has the same bits in every batch size as in one batch of all.

    Raises:
        BatchDependenceError: It has not, on this machine.
    """
    expected = run_rows(session, rows)
    for size in batch_sizes:
        outputs = run_rows(session, rows, batch_size=size)
        for name, values in expected.items():
            differing = int((_bits(outputs[name]) != _bits(values)).sum())
            if differing:
                raise BatchDependenceError(graph, name, batch_size=size, differing=differing)


def _bits(values: Array) -> Array:
    return values.view(np.uint32) if values.dtype == np.float32 else values
