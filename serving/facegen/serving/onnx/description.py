"""What a complete configuration says of a model, in types of our own."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import RepositoryError
from facegen.serving.onnx.completion import graph_shape
from facegen.serving.onnx.repository import VersionFiles
from facegen.serving.onnx.tensors import Graph, GraphTensor, dtype_of

__all__ = ["ModelDescription", "TensorPlan", "WarmupSample", "describe"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """How a tensor passes between callers and the graph.

    Attributes:
        spec: As callers see it.
        graph_shape: Its axes in the graph, -1 where any length goes, if they are not those that
            callers give; else None. Its free axes stand for those of `spec`, in order.
    """

    spec: TensorSpec
    graph_shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A batch to run before a model serves.

    Attributes:
        rows: How many rows; 0: the model has no batch axis.
        count: How often.
        shapes: The shape of each input, after the batch axis.
        random_inputs: The inputs filled with random values; the others are filled with zeros.
    """

    rows: int
    count: int
    shapes: Mapping[str, tuple[int, ...]]
    random_inputs: frozenset[str]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One version of a model: all that serving it needs but its graph.

    Attributes:
        info: What the engine tells of it.
        inputs: Its inputs.
        outputs: Its outputs.
        warmup: What to run before it serves.
    """

    info: ModelInfo
    inputs: tuple[TensorPlan, ...]
    outputs: tuple[TensorPlan, ...]
    warmup: tuple[WarmupSample, ...]


def describe(files: VersionFiles, config: Any, graph: Graph) -> ModelDescription:
    """Describe one version of a model.

    Args:
        files: As it lies in the repository.
        config: Its `ModelConfig`, complete and checked against the graph.
        graph: What the graph takes and gives.

    Raises:
        RepositoryError: A reshape or a warm-up sample is wrong.
    """
    path = files.config_path
    inputs = _plans(files, config, config.input, graph.inputs)
    outputs = _plans(files, config, config.output, graph.outputs)
    info = ModelInfo(
        name=config.name,
        version=files.version,
        inputs=tuple(plan.spec for plan in inputs),
        outputs=tuple(plan.spec for plan in outputs),
        max_batch_size=config.max_batch_size,
        parameters={key: value.string_value for key, value in config.parameters.items()},
        config=config,
    )
    warmup = tuple(_warmup(path, info, sample) for sample in config.model_warmup)
    return ModelDescription(info, inputs, outputs, warmup)


def _plans(
    files: VersionFiles, config: Any, declared: Any, actual: tuple[GraphTensor, ...]
) -> tuple[TensorPlan, ...]:
    by_name = {tensor.name: tensor for tensor in actual}
    return tuple(_plan(files, config, tensor, by_name[tensor.name]) for tensor in declared)


def _plan(files: VersionFiles, config: Any, declared: Any, actual: GraphTensor) -> TensorPlan:
    path = files.config_path
    dtype = dtype_of(declared.data_type)
    assert dtype is not None, "check_tensors has found it in the graph"
    shape = tuple(declared.dims)
    optional = getattr(declared, "optional", False)
    if optional and not actual.optional:
        _LOGGER.warning("input is not optional in the graph path=%s input=%s", path, declared.name)
    inside: tuple[int, ...] | None = None
    if declared.HasField("reshape"):
        inside = graph_shape(config, declared)
        _check_reshape(path, declared.name, shape, tuple(declared.reshape.shape))
    elif not actual.shape and not config.max_batch_size and shape == (1,):
        inside = ()  # a scalar: Triton has no shape without axes
    spec = TensorSpec(
        name=declared.name,
        dtype=dtype,
        shape=shape,
        optional=optional and actual.optional,
        labels=files.labels.get(declared.name, ()),
    )
    return TensorPlan(spec, inside)


def _check_reshape(
    path: Path, name: str, outside: tuple[int, ...], inside: tuple[int, ...]
) -> None:
    if _segments(outside) != _segments(inside):
        raise RepositoryError(
            path,
            f'the reshape of "{name}" is {list(inside)}, its dims are {list(outside)}',
            "give both the same number of values between the same free axes",
        )


def _segments(shape: tuple[int, ...]) -> list[int]:
    """The products of the fixed axes before, between and after the free ones."""
    products = [1]
    for size in shape:
        if size == -1:
            products.append(1)
        else:
            products[-1] *= size
    return products


def _warmup(path: Path, info: ModelInfo, sample: Any) -> WarmupSample:
    needed = {tensor.name for tensor in info.inputs if not tensor.optional}
    known = {tensor.name for tensor in info.inputs}
    if not needed <= set(sample.inputs) <= known:
        raise RepositoryError(
            path,
            f'model_warmup "{sample.name}" gives {sorted(sample.inputs)}, '
            f"inputs are {sorted(known)}",
            "give every input",
        )
    if any(
        data.WhichOneof("input_data_type") == "input_data_file" for data in sample.inputs.values()
    ):
        _LOGGER.warning("warm-up runs zeros, not its file path=%s sample=%s", path, sample.name)
    shapes = {
        tensor.name: _concrete(tensor, tuple(sample.inputs[tensor.name].dims))
        for tensor in info.inputs
        if tensor.name in sample.inputs
    }
    return WarmupSample(
        rows=min(max(1, sample.batch_size), info.max_batch_size),
        count=max(1, sample.count),
        shapes=shapes,
        random_inputs=frozenset(name for name, data in sample.inputs.items() if data.random_data),
    )


def _concrete(tensor: TensorSpec, given: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of no free axis: the sample's for those that it gives rightly, else 1."""
    if len(given) != len(tensor.shape):
        given = (1,) * len(tensor.shape)
    return tuple(
        max(1, wanted) if size == -1 else size
        for size, wanted in zip(tensor.shape, given, strict=True)
    )
