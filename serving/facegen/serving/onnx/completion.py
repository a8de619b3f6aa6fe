"""Completes a model's configuration from its graph, as Triton does by default."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from facegen.serving.errors import RepositoryError
from facegen.serving.onnx.tensors import Graph, GraphTensor, type_name

__all__ = ["check_tensors", "complete", "graph_shape"]

# Triton's --backend-config=default-max-batch-size.
_DEFAULT_MAX_BATCH_SIZE = 4


def complete(path: Path, config: Any, graph: Graph) -> None:
    """Fill in what a configuration leaves out.

    Inputs and outputs come from the graph where none are declared. Where either is missing, where
    no max_batch_size is set and where every tensor of the graph begins with an axis of any length,
    the model batches up to 4 rows, dynamically. A model that declares both its inputs and its
    outputs and no max_batch_size has no batch axis.

    Args:
        path: The graph, for messages.
        config: The `ModelConfig` from `settle_backend`, changed in place.
        graph: What the graph takes and gives.

    Raises:
        RepositoryError: It sets a max_batch_size, and the graph has no batch axis.
    """
    if not (config.input and config.output):
        required = [tensor for tensor in graph.inputs if not tensor.optional]
        _complete_batching(path, config, (*required, *graph.outputs))
        if not config.input:
            config.input.extend(_declare(config, tensor, pb.ModelInput()) for tensor in required)
        if not config.output:
            config.output.extend(
                _declare(config, tensor, pb.ModelOutput()) for tensor in graph.outputs
            )
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    dynamic = config.dynamic_batching if config.HasField("dynamic_batching") else None
    if dynamic is not None and config.max_batch_size and not dynamic.preferred_batch_size:
        dynamic.preferred_batch_size.append(config.max_batch_size)
    for pinned in ("input_pinned_memory", "output_pinned_memory"):
        if not config.optimization.HasField(pinned):
            getattr(config.optimization, pinned).enable = True


def _complete_batching(path: Path, config: Any, tensors: Sequence[GraphTensor]) -> None:
    if all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors):
        config.max_batch_size = config.max_batch_size or _DEFAULT_MAX_BATCH_SIZE
        if config.max_batch_size > 1:
            config.dynamic_batching.SetInParent()
    elif config.max_batch_size:
        raise RepositoryError(
            path,
            f"not every tensor has a free batch axis, max_batch_size is {config.max_batch_size}",
            "export it with a dynamic first axis, or set max_batch_size to 0",
        )


def _declare(config: Any, tensor: GraphTensor, declared: Any) -> Any:
    declared.name = tensor.name
    declared.data_type = tensor.data_type
    dims = tensor.shape[1:] if config.max_batch_size else tensor.shape
    declared.dims.extend(dims or (1,))
    if not dims and config.max_batch_size:
        declared.reshape.SetInParent()  # to nothing: a number a row
    return declared


def check_tensors(path: Path, config: Any, graph: Graph) -> None:
    """Compare a complete configuration with the graph.

    Every input that the graph needs must be declared; outputs may be left out.

    Raises:
        RepositoryError: Names, types or shapes contradict each other.
    """
    for role, actual, declared in (
        ("input", graph.inputs, config.input),
        ("output", graph.outputs, config.output),
    ):
        by_name = {tensor.name: tensor for tensor in actual}
        names = [tensor.name for tensor in declared]
        needed = {t.name for t in actual if role == "input" and not t.optional}
        if not needed <= set(names) <= by_name.keys() or len(set(names)) < len(names):
            raise RepositoryError(
                path,
                f"its {role}s are {sorted(by_name)}, config.pbtxt says {sorted(names)}",
                "make them equal, or declare none",
            )
        for tensor in declared:
            _check_tensor(path, config, role, by_name[tensor.name], tensor)


def _check_tensor(path: Path, config: Any, role: str, actual: GraphTensor, declared: Any) -> None:
    if actual.data_type == pb.TYPE_INVALID:
        raise RepositoryError(
            path, f'{role} "{actual.name}" is {actual.onnx_type}', "no protocol has this type"
        )
    wanted = graph_shape(config, declared)
    if any(size < 1 and size != -1 for size in declared.dims) or not declared.dims:
        raise RepositoryError(
            path,
            f'the dims of {role} "{actual.name}" are {list(declared.dims)}',
            "use -1 or 1 and more",
        )
    if actual.data_type != declared.data_type or not _shape_fits(actual.shape, wanted):
        raise RepositoryError(
            path,
            f'{role} "{actual.name}" is {type_name(actual.data_type)} {actual.shape}, '
            f"config.pbtxt says {type_name(declared.data_type)} {wanted}",
            "make them equal, or declare no input and no output",
        )


def graph_shape(config: Any, declared: Any) -> tuple[int, ...]:
    """Give the shape that a declaration promises the graph, its batch axis as -1."""
    dims = declared.reshape.shape if declared.HasField("reshape") else declared.dims
    return (*((-1,) if config.max_batch_size else ()), *dims)


def _shape_fits(actual: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether the batch axis is free and no other axis contradicts the graph."""
    if not actual:  # a scalar, or of unknown rank
        return True
    return len(actual) == len(wanted) and all(
        size in (-1, promised) for size, promised in zip(actual, wanted, strict=True)
    )
