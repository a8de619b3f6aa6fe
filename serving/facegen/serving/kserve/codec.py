"""Requests and answers of one version of a model, from and to messages."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from facegen.serving.engine import Array, ModelInfo, TensorSpec
from facegen.serving.errors import InputError
from facegen.serving.kserve.classification import classify
from facegen.serving.kserve.parameters import read_parameter
from facegen.serving.kserve.shared_memory import Place, Regions
from facegen.serving.kserve.tensors import DATATYPES, check_size, read_raw, read_typed, write_raw

__all__ = ["ModelCodec", "Output"]

# One more than an array can have, so that a shape of millions is wrong as soon as it is read.
_MOST_AXES = 65


@dataclass(frozen=True, slots=True)
class Output:
    """An output as a request wants it.

    Attributes:
        spec: The model's output.
        class_count: How many classes instead of the values; 0: the values.
        place: Where to put it; None: into the message.
    """

    spec: TensorSpec
    class_count: int = 0
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class _Input:
    """What is known of an input before any request.

    Attributes:
        spec: The model's input.
        datatype: Its dtype in the protocol.
        row_bytes: Bytes of a row; 0 where they vary, or where bytes are not enough to be right.
    """

    spec: TensorSpec
    datatype: str
    row_bytes: int


class ModelCodec:
    """Reads requests for one version of a model and writes its answers.

    Args:
        info: The version.
        regions: Where tensors may be, other than in messages.
    """

    def __init__(self, info: ModelInfo, regions: Regions) -> None:
        self.info = info
        self._regions = regions
        self._batched = info.max_batch_size > 0
        self._inputs = {spec.name: _described(spec, info) for spec in info.inputs}
        self._required = frozenset(spec.name for spec in info.inputs if not spec.optional)
        self._outputs = {spec.name: Output(spec) for spec in info.outputs}
        self._all_outputs = tuple(self._outputs.values())

    def read_inputs(self, request: Any) -> dict[str, Array]:
        """Read the inputs of a request.

        Raises:
            InputError: A name, datatype, shape, size or parameter is wrong.
            RegionError: A region is not registered or was cut short.
        """
        raws = request.raw_input_contents
        raw_count, used = len(raws), 0
        most_rows = self.info.max_batch_size
        arrays: dict[str, Array] = {}
        for tensor in request.inputs:
            known = self._inputs.get(tensor.name)
            if known is None or tensor.name in arrays:
                raise self._name_error(tensor.name, arrays)
            raw = raws[used] if used < raw_count else None
            shape = tuple(tensor.shape[:_MOST_AXES])
            spec = known.spec
            if (
                known.row_bytes
                and raw is not None
                and shape[1:] == spec.shape
                and shape
                and 0 < shape[0] <= most_rows
                and len(raw) == shape[0] * known.row_bytes
                and tensor.datatype == known.datatype
                and not tensor.HasField("contents")
                and not tensor.parameters
            ):
                # The usual case, which costs a few microseconds.
                arrays[spec.name] = np.ndarray(shape, spec.dtype, raw)
                used += 1
                continue
            field = f'inputs["{spec.name}"]'
            self._check(field, tensor, known, shape)
            place = self._regions.place(f"{field}.parameters", tensor.parameters)
            if place is not None:
                check_size(field, known.datatype, shape, place.byte_size)
                arrays[spec.name] = read_raw(field, known.datatype, shape, place.read())
            elif raw_count:
                arrays[spec.name] = self._read_raw(field, tensor, shape, raw, raw_count)
                used += 1
            else:
                arrays[spec.name] = read_typed(field, known.datatype, shape, tensor.contents)
        if used != raw_count:
            raise _raw_count_error(raw_count, used)
        if not self._required <= arrays.keys():
            raise self._missing_error(arrays)
        return arrays

    def read_outputs(self, request: Any) -> tuple[Output, ...]:
        """Read which outputs a request wants, and how.

        Raises:
            InputError: A name or parameter is wrong.
            RegionError: A region is not registered.
        """
        if not request.outputs:
            return self._all_outputs
        wanted: dict[str, Output] = {}
        for output in request.outputs:
            known = self._outputs.get(output.name)
            if known is None:
                raise InputError(
                    f'outputs["{output.name}"]',
                    f'is no output of model "{self.info.name}"; it has {_quoted(self._outputs)}',
                )
            wanted[output.name] = (
                self._read_output(known.spec, output.parameters) if output.parameters else known
            )
        return tuple(wanted.values())

    def names(self, outputs: tuple[Output, ...]) -> tuple[str, ...]:
        """Name wanted outputs for the engine: none if they are all, so that all share batches."""
        if outputs is self._all_outputs or len(outputs) == len(self._all_outputs):
            return ()
        return tuple(output.spec.name for output in outputs)

    def write(
        self, request_id: str, outputs: tuple[Output, ...], arrays: Mapping[str, Array]
    ) -> Any:
        """Write an answer.

        Raises:
            InputError: An output does not fit its place in shared memory.
            RegionError: A region was cut short.
        """
        response = service_pb2.ModelInferResponse(
            model_name=self.info.name, model_version=self.info.version, id=request_id
        )
        for output in outputs:
            array = arrays[output.spec.name]
            if output.class_count:
                labels = output.spec.labels
                array = classify(array, output.class_count, batched=self._batched, labels=labels)
            raw = write_raw(array)
            if output.place is not None:
                output.place.write(f'outputs["{output.spec.name}"].parameters', raw)
                raw = b""
            response.outputs.add(
                name=output.spec.name, datatype=DATATYPES[array.dtype], shape=array.shape
            )
            response.raw_output_contents.append(raw)
        return response

    def _check(self, field: str, tensor: Any, known: _Input, shape: tuple[int, ...]) -> None:
        model = f'model "{self.info.name}"'
        if tensor.datatype != known.datatype:
            raise InputError(
                f"{field}.datatype",
                f'is "{tensor.datatype}", {model} takes {known.datatype}; convert it',
            )
        if any(size < 0 for size in shape):
            raise InputError(
                f"{field}.shape", f"is {list(shape)}; give the sizes of the data, none negative"
            )
        wanted = (-1, *known.spec.shape) if self._batched else known.spec.shape
        if len(shape) != len(wanted) or any(
            limit not in (-1, size) for size, limit in zip(shape, wanted, strict=True)
        ):
            batch = ", its batch axis first" if self._batched else ""
            raise InputError(
                f"{field}.shape",
                f"is {list(shape)}, {model} takes {list(wanted)}{batch}; reshape it",
            )
        if self._batched and not 0 < shape[0] <= self.info.max_batch_size:
            raise InputError(
                f"{field}.shape",
                f"has {shape[0]} rows, {model} takes 1 to {self.info.max_batch_size}; "
                "send as many in a request",
            )

    def _read_raw(
        self, field: str, tensor: Any, shape: tuple[int, ...], raw: bytes | None, raw_count: int
    ) -> Array:
        if tensor.HasField("contents"):
            raise InputError(
                f"{field}.contents",
                "is there beside raw_input_contents; send all inputs in one of them",
            )
        if raw is None:
            raise _raw_count_error(raw_count, raw_count + 1)
        return read_raw(field, self._inputs[tensor.name].datatype, shape, raw)

    def _read_output(self, spec: TensorSpec, parameters: Any) -> Output:
        field = f'outputs["{spec.name}"].parameters'
        count = read_parameter(field, parameters, "classification", "int64_param")
        if count is not None and count < 1:
            raise InputError(f'{field}["classification"]', f"is {count}; give 1 or more")
        if count and spec.dtype.hasobject:
            raise InputError(
                f'{field}["classification"]',
                "asks for classes of BYTES; only numbers have a highest",
            )
        return Output(spec, count or 0, self._regions.place(field, parameters))

    def _name_error(self, name: str, arrays: Mapping[str, Array]) -> InputError:
        if name in arrays:
            return InputError(f'inputs["{name}"]', "is there twice; give it once")
        problem = f'is no input of model "{self.info.name}"; it has {_quoted(self._inputs)}'
        return InputError(f'inputs["{name}"]', problem)

    def _missing_error(self, arrays: Mapping[str, Array]) -> InputError:
        missing = [name for name in self._inputs if name in self._required - arrays.keys()]
        return InputError(
            "inputs", f'lacks {_quoted(missing)}, which model "{self.info.name}" needs; add it'
        )


def _described(spec: TensorSpec, info: ModelInfo) -> _Input:
    fixed = info.max_batch_size > 0 and -1 not in spec.shape
    # BYTES have no fixed size, and of BOOL bytes may be wrong that are as many as they should.
    plain = spec.dtype.kind not in "Ob"
    row_bytes = math.prod(spec.shape) * spec.dtype.itemsize if fixed and plain else 0
    return _Input(spec, DATATYPES[spec.dtype], row_bytes)


def _quoted(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _raw_count_error(given: int, needed: int) -> InputError:
    return InputError(
        "raw_input_contents",
        f"has {given} entries, the inputs outside shared memory need "
        f"{'more' if needed > given else needed}; send one for each, in their order",
    )
