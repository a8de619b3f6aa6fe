"""From a torch module to a portable ONNX graph with a free batch axis."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from facegen.export.errors import InvalidGraphError, RandomOperatorError

__all__ = ["BATCH_AXIS", "RANDOM_OPERATORS", "refuse_random_operators", "to_onnx"]

BATCH_AXIS = "batch"

RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Dropout",  # random in training mode only, but no graph of ours needs one
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], *, outputs: Sequence[str], name: str
) -> onnx.ModelProto:
    """Export a module in evaluation mode, without traces of the machine that did it.

    Args:
        module: Its `forward` takes the inputs by position and returns the outputs in order.
        inputs: Example tensors by input name, two rows each: the first axis becomes the batch axis.
        outputs: The names of the outputs.
        name: The graph's name, used in error messages and written into the file.

    Raises:
        RandomOperatorError: The graph draws random numbers.
        InvalidGraphError: An input or output is not the one that was asked for.
    """
    dynamic_shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    with _quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise InvalidGraphError(name, "was not exported by torch.onnx")
    model = program.model_proto
    model.graph.name = name
    _strip_traces(model)
    _name_batch_axis(model)
    _require_interface(model, inputs=list(inputs), outputs=outputs)
    refuse_random_operators(model)
    return model


def refuse_random_operators(model: onnx.ModelProto) -> None:
    """Refuse a graph, or a function in it, that draws random numbers.

    Raises:
        RandomOperatorError: It does. Pass the noise as an input instead.
    """
    nodes = [*_walk(model.graph.node)]
    for function in model.functions:
        nodes.extend(_walk(function.node))
    found = sorted({node.op_type for node in nodes if node.op_type in RANDOM_OPERATORS})
    if found:
        raise RandomOperatorError(model.graph.name, found)


def _walk(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _walk(graph.node)


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove stack traces: they hold the exporter's paths and change the hash of equal graphs."""
    graph = model.graph
    holders: list[Any] = [model, graph, *graph.node, *graph.initializer]
    holders += [*graph.input, *graph.output, *graph.value_info]
    for holder in holders:
        holder.doc_string = ""
        del holder.metadata_props[:]


def _name_batch_axis(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_AXIS
    # Shapes in between carry the exporter's own axis names; ONNX Runtime infers them.
    del model.graph.value_info[:]


def _require_interface(
    model: onnx.ModelProto, *, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    found = [value.name for value in model.graph.input], [v.name for v in model.graph.output]
    if found != (list(inputs), list(outputs)):
        raise InvalidGraphError(
            model.graph.name,
            f"has inputs {found[0]} and outputs {found[1]}, expected {inputs} and {outputs}",
        )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about its own internals, and nothing else."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch.export and onnxscript use APIs that their own next versions deprecate.
            for module in (r"torch\..*", r"onnxscript\..*", r"onnx_ir\..*", r"copyreg"):
                warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
                warnings.filterwarnings("ignore", category=FutureWarning, module=module)
            yield
    finally:
        logger.setLevel(level)
