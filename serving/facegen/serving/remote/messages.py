"""Requests, answers and facts of models to and from the protocol's messages."""

from collections.abc import Iterator, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2

from facegen.serving.engine import Array, InferRequest, ModelInfo, TensorSpec, VersionState
from facegen.serving.errors import InferenceError, InputError
from facegen.serving.kserve.tensors import DATATYPES, DTYPES, read_raw, read_typed, write_raw
from facegen.serving.statistics import BatchStatistics, Duration, ModelStatistics

__all__ = [
    "check_dtypes",
    "count_rows",
    "infer_messages",
    "model_info",
    "model_statistics",
    "read_outputs",
    "version_states",
]


def count_rows(info: ModelInfo, request: InferRequest) -> int:
    """Count the rows of a request; 1 where the model has no batch axis.

    Raises:
        InputError: There are none, or its inputs differ in them.
    """
    if not info.max_batch_size:
        return 1
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in request.inputs.items()}
    if len(set(counts.values())) != 1:
        raise InputError("inputs", f"have rows {counts or 'none'}; give each as many")
    rows = next(iter(counts.values()))
    if not rows:
        raise InputError("inputs", "have no rows; give at least one")
    return rows


def check_dtypes(request: InferRequest) -> None:
    """Refuse what the protocol cannot carry.

    Raises:
        InputError: An input is of such a dtype.
    """
    for name, array in request.inputs.items():
        if array.dtype not in DATATYPES:
            raise InputError(name, f"is {array.dtype}, which the protocol cannot carry")


def infer_messages(info: ModelInfo, request: InferRequest, rows: int) -> Iterator[Any]:
    """Write a request as `ModelInferRequest`s of at most the model's rows, in order."""
    most = info.max_batch_size or 1
    for start in range(0, rows, most):
        message = service_pb2.ModelInferRequest(
            model_name=request.model,
            model_version=request.version,
            id=request.context.request_id,
            outputs=[{"name": name} for name in request.outputs],
        )
        for name, array in request.inputs.items():
            part = array[start : start + most] if info.max_batch_size else array
            message.inputs.add(name=name, datatype=DATATYPES[part.dtype], shape=part.shape)
            message.raw_input_contents.append(write_raw(part))
        if request.context.priority:
            message.parameters["priority"].uint64_param = request.context.priority
        if request.context.queue_timeout_s:
            timeout_us = round(request.context.queue_timeout_s * 1e6)
            message.parameters["timeout"].int64_param = timeout_us
        yield message


def read_outputs(info: ModelInfo, answer: Any, wanted: Sequence[str]) -> dict[str, Array]:
    """Read a `ModelInferResponse`.

    Raises:
        InferenceError: It lacks an output, or its contents are not what it says of them.
    """
    outputs: dict[str, Array] = {}
    try:
        for index, tensor in enumerate(answer.outputs):
            if answer.raw_output_contents:
                raw = answer.raw_output_contents[index]
                array = read_raw(tensor.name, tensor.datatype, tensor.shape, raw)
            else:
                array = read_typed(tensor.name, tensor.datatype, tensor.shape, tensor.contents)
            outputs[tensor.name] = array
        return {name: outputs[name] for name in wanted or (spec.name for spec in info.outputs)}
    except (InputError, KeyError, IndexError) as error:
        raise InferenceError(info.name, f"its server sent a wrong answer: {error}") from error


def model_info(config: Any, version: str) -> ModelInfo:
    """Describe a model from its `ModelConfig`."""
    return ModelInfo(
        name=config.name,
        version=version,
        inputs=_specs(config.input),
        outputs=_specs(config.output),
        max_batch_size=config.max_batch_size,
        parameters={key: value.string_value for key, value in config.parameters.items()},
        config=config,
    )


def _specs(tensors: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=tensor.name,
            dtype=DTYPES[_protocol_name(tensor.data_type)],
            shape=tuple(tensor.dims),
            optional=getattr(tensor, "optional", False),
        )
        for tensor in tensors
    )


def _protocol_name(data_type: int) -> str:
    name: str = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def version_states(index: Any) -> list[VersionState]:
    """Read a `RepositoryIndexResponse`; what was never loaded has no state."""
    return [
        VersionState(each.name, each.version, each.state or "UNAVAILABLE", each.reason)
        for each in index.models
    ]


def model_statistics(each: Any) -> ModelStatistics:
    """Read a `ModelStatistics` of the protocol, which does not tell why requests failed."""
    stats = each.inference_stats
    return ModelStatistics(
        name=each.name,
        version=each.version,
        last_inference_ms=each.last_inference,
        inference_count=each.inference_count,
        execution_count=each.execution_count,
        success=_duration(stats.success),
        failures={"OTHER": _duration(stats.fail)} if stats.fail.count else {},
        queue=_duration(stats.queue),
        compute_input=_duration(stats.compute_input),
        compute_infer=_duration(stats.compute_infer),
        compute_output=_duration(stats.compute_output),
        batches={
            batch.batch_size: BatchStatistics(
                _duration(batch.compute_input),
                _duration(batch.compute_infer),
                _duration(batch.compute_output),
            )
            for batch in each.batch_stats
        },
    )


def _duration(duration: Any) -> Duration:
    return Duration(duration.count, duration.ns)
