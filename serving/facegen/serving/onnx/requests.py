"""Checks requests against a model before they wait for it."""

from dataclasses import replace
from typing import Any

import numpy as np

from facegen.serving.engine import Array, InferRequest, ModelInfo, Tensors, TensorSpec
from facegen.serving.errors import InputError

__all__ = ["RequestChecker"]


class RequestChecker:
    """Knows what a model takes. Most requests are right, so that is told fast.

    Values are the edge's to check, but for the encoding of text.

    Args:
        info: The model.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._first_axis = 1 if info.max_batch_size else 0
        # Where every shape is fixed, as (name, dtype, shape); else None.
        self._fixed: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...] | None = None
        if not any(spec.optional or -1 in spec.shape for spec in info.inputs):
            self._fixed = tuple((spec.name, spec.dtype, spec.shape) for spec in info.inputs)
        self._texts = [spec.name for spec in info.inputs if spec.dtype == object]
        self._outputs = frozenset(spec.name for spec in info.outputs)

    def rows(self, inputs: Tensors) -> int:
        """Count the rows of inputs that are right: at least 1, and 1 without a batch axis.

        Raises:
            InputError: A name, dtype, shape or row count is wrong.
        """
        fixed = self._fixed
        if fixed is not None and len(fixed) == len(inputs):
            axis = self._first_axis
            rows = 0
            for name, dtype, shape in fixed:
                array = inputs.get(name)
                if array is None or array.dtype != dtype or array.shape[axis:] != shape:
                    break
                if axis:
                    count = array.shape[0]
                    if count != (rows or count) or not count:
                        break
                    rows = count
            else:
                return rows or 1
        return self._checked_rows(inputs)

    def prepared(self, request: InferRequest) -> InferRequest:
        """Give the request as the session takes it: BYTES as text.

        Raises:
            InputError: An output is unknown, or bytes are no UTF-8.
        """
        if request.outputs and not self._outputs.issuperset(request.outputs):
            unknown = sorted(set(request.outputs) - self._outputs)
            raise InputError(
                "outputs",
                f'{unknown} wanted, model "{self._info.name}" gives {sorted(self._outputs)}',
            )
        if not self._texts:
            return request
        inputs = dict(request.inputs)
        for name in self._texts:
            if name in inputs:
                inputs[name] = _decoded(name, inputs[name])
        return replace(request, inputs=inputs)

    def _checked_rows(self, inputs: Tensors) -> int:
        self._check_names(inputs)
        rows = -1
        for spec in self._info.inputs:
            array = inputs.get(spec.name)
            if array is None:
                continue
            self._check_tensor(spec, array)
            if self._first_axis:
                if rows not in (-1, array.shape[0]):
                    raise InputError(
                        spec.name,
                        f"has {array.shape[0]} rows, the other inputs {rows}; give all the same",
                    )
                rows = array.shape[0]
        if rows == 0:
            raise InputError(next(iter(inputs)), "has no rows; give at least 1")
        return max(rows, 1)

    def _check_names(self, inputs: Tensors) -> None:
        known = {spec.name for spec in self._info.inputs}
        needed = {spec.name for spec in self._info.inputs if not spec.optional}
        if not needed <= inputs.keys() <= known:
            optional = f" and optionally {sorted(known - needed)}" if needed != known else ""
            raise InputError(
                "inputs",
                f'{sorted(inputs)} given, model "{self._info.name}" takes '
                f"{sorted(needed)}{optional}",
            )

    def _check_tensor(self, spec: TensorSpec, array: Array) -> None:
        if array.dtype != spec.dtype:
            raise InputError(
                spec.name, f'is {array.dtype}, model "{self._info.name}" takes {spec.dtype}'
            )
        wanted = spec.shape
        given = array.shape[self._first_axis :]
        if array.ndim != self._first_axis + len(wanted) or any(
            size not in (-1, actual) for size, actual in zip(wanted, given, strict=True)
        ):
            shape = ("rows", *wanted) if self._first_axis else wanted
            raise InputError(
                spec.name,
                f'has shape {array.shape}, model "{self._info.name}" takes {shape}',
            )


def _decoded(name: str, array: Array) -> Array:
    """Decode BYTES: the strings of ONNX are UTF-8, and ONNX Runtime takes no others."""
    texts = np.empty(array.size, object)
    try:
        texts[:] = [element.decode() for element in array.flat]
    except (AttributeError, UnicodeDecodeError) as error:
        raise InputError(name, f"has an element that is no UTF-8: {error}") from error
    return texts.reshape(array.shape)
