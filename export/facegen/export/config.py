"""The config.pbtxt of a graph: Triton's ModelConfig with facegen's parameters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from facegen.export.errors import InvalidGraphError

__all__ = ["BatchingOptions", "FamilyFacts", "GraphRole", "model_config", "parse_config", "to_text"]

_DATA_TYPES: Mapping[int, int] = {
    onnx.TensorProto.UINT8: model_config_pb2.TYPE_UINT8,
    onnx.TensorProto.INT32: model_config_pb2.TYPE_INT32,
    onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32,
}


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """What all graphs of a family say of themselves.

    Attributes:
        family: The family's name.
        kind: `autoencoder`, `vae`, `expression` or `mesh`.
        latent_size: Values in a latent.
        dataset: The data set's name.
        data_license: The terms of that data.
        metrics: Measured qualities by name.
        protocol: How they were measured, one sentence.
        commit: The commit that trained it.
        image_size: For a family of pictures: height and width in pixels, channels.
        crop: For a family of pictures: the central square that the model sees, as a fraction of the
            shorter side of a picture of the data set.
        mesh_size: For a family of meshes: vertices and triangles.
        template: For a family of expressions: where the aligner's points lie in an aligned picture,
            (x, y) in [0, 1]².
        face_frame: Where dlib's box of a face lies in the pictures that the model sees: x and y of
            its middle and its side, in their sides. None: its faces are aligned or not found.
    """

    family: str
    kind: Literal["autoencoder", "vae", "expression", "mesh"]
    latent_size: int
    dataset: str
    data_license: str
    metrics: Mapping[str, float]
    protocol: str
    commit: str
    image_size: tuple[int, int, int] | None = None
    crop: float | None = None
    mesh_size: tuple[int, int] | None = None
    template: tuple[tuple[float, float], ...] = ()
    face_frame: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class GraphRole:
    """What a graph does in its family.

    Attributes:
        role: `encoder`, `decoder`, `aligner`, `prior`, `directions` or `topology`.
        prior: `mixture`, `normal`, or the label whose pictures it is of; empty for what is none.
        default: For a prior: it is used where a request names none.
        expression: For a decoder of a family of expressions: the one that it gives.
        experimental: That expression is of poor quality.
        directions: The names of what it moves latents along, in the order of its strengths.
        effects: What those were measured to change, by name; not of all.
    """

    role: Literal["encoder", "decoder", "aligner", "prior", "directions", "topology"]
    prior: str = ""
    default: bool = False
    expression: str = ""
    experimental: bool = False
    directions: tuple[str, ...] = ()
    effects: Mapping[str, float] = field(default_factory=dict)

    def model_name(self, family: str) -> str:
        """The graph's name in the model repository, for example `celeba-vae-prior-mixture`."""
        return "-".join(part for part in (family, self.role, self.prior, self.expression) if part)


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """How a server may batch.

    Attributes:
        max_batch_size: The most rows of one execution.
        max_queue_delay_us: Microseconds to wait for rows that fill a batch; 0 joins only the rows
            that wait anyway.
    """

    max_batch_size: int = 64
    max_queue_delay_us: int = 0


def model_config(
    model: onnx.ModelProto,
    facts: FamilyFacts,
    *,
    role: GraphRole,
    hashes: Mapping[str, str],
    batching: BatchingOptions,
) -> Any:
    """Describe a graph to Triton and to facegen's server.

    Args:
        model: The graph; its inputs and outputs give names, types and shapes.
        facts: What its family says.
        role: What it does there.
        hashes: The sha256 of model.onnx by version, in hexadecimal.
        batching: How a server may batch.

    Returns:
        A `tritonclient.grpc.model_config_pb2.ModelConfig`.

    Raises:
        InvalidGraphError: An input or output has a type or shape that the repository cannot say.
    """
    # A topology is asked for once: a batch of it would be copies.
    max_batch_size = 1 if role.role == "topology" else batching.max_batch_size
    config = model_config_pb2.ModelConfig(
        name=role.model_name(facts.family), backend="onnxruntime", max_batch_size=max_batch_size
    )
    for values, tensors in ((model.graph.input, config.input), (model.graph.output, config.output)):
        for value in values:
            data_type, dims = _tensor(model, value)
            tensors.add(name=value.name, data_type=data_type, dims=dims)
    config.version_policy.latest.num_versions = 1
    config.dynamic_batching.SetInParent()  # switches it on
    config.dynamic_batching.max_queue_delay_microseconds = batching.max_queue_delay_us
    for size in sorted({1, max_batch_size}):
        warmup = config.model_warmup.add(name=f"batch of {size}", batch_size=size)
        for tensor in config.input:
            sample = warmup.inputs[tensor.name]
            sample.data_type, sample.zero_data = tensor.data_type, True
            sample.dims.extend(tensor.dims)
    for key, text in _parameters(facts, role, hashes).items():
        config.parameters[key].string_value = text
    return config


def _tensor(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> tuple[int, list[int]]:
    tensor = value.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim[1:]]
    if tensor.elem_type not in _DATA_TYPES or not dims or min(dims) < 1:
        raise InvalidGraphError(
            model.graph.name,
            f"has {value.name} of type {onnx.TensorProto.DataType.Name(tensor.elem_type)} and "
            f"shape {dims} after the batch axis, expected uint8, int32 or float32 of fixed shape",
        )
    return _DATA_TYPES[tensor.elem_type], dims


def _parameters(facts: FamilyFacts, role: GraphRole, hashes: Mapping[str, str]) -> dict[str, str]:
    parameters = {
        "facegen.family": facts.family,
        "facegen.kind": facts.kind,
        "facegen.role": role.role,
        "facegen.prior": role.prior,
        "facegen.default_prior": "true" if role.default else "",
        "facegen.expression": role.expression,
        "facegen.experimental": "true" if role.experimental else "",
        "facegen.directions": ",".join(role.directions),
        "facegen.direction_effects": json.dumps(dict(role.effects)) if role.directions else "",
        "facegen.template": json.dumps(facts.template) if facts.template else "",
        "facegen.face_frame": _rounded(facts.face_frame) if facts.face_frame else "",
        "facegen.latent_size": str(facts.latent_size),
        "facegen.image_size": "x".join(map(str, facts.image_size or ())),
        "facegen.crop": "" if facts.crop is None else f"{facts.crop:.4f}",
        "facegen.mesh_size": "x".join(map(str, facts.mesh_size or ())),
        "facegen.dataset": facts.dataset,
        "facegen.data_license": facts.data_license,
        "facegen.metrics": json.dumps(dict(facts.metrics), sort_keys=True),
        "facegen.protocol": facts.protocol,
        "facegen.commit": facts.commit,
    }
    parameters |= {f"facegen.sha256.{version}": digest for version, digest in hashes.items()}
    return {key: text for key, text in parameters.items() if text}


def _rounded(numbers: Sequence[float]) -> str:
    return json.dumps([round(number, 4) for number in numbers])


def to_text(config: Any) -> str:
    """Write a ModelConfig as config.pbtxt."""
    return str(text_format.MessageToString(config, as_utf8=True))


def parse_config(text: str) -> Any:
    """Read a config.pbtxt; raises `text_format.ParseError` on what is none."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())
