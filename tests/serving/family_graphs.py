"""Families of graphs written by hand, whose answers a test can tell beforehand."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

EXPRESSION_FAMILY = "hand-expressions"
PLAIN_FAMILY = "hand-vae"
LATENT_SIZE = 8
SIZE_PX = 48
FEATURES = 2
TEMPLATE = ((0.7476, 0.363), (0.6057, 0.371), (0.2524, 0.363), (0.3943, 0.371), (0.5, 0.632))


@dataclass(frozen=True)
class Drawn:
    """What a decoder draws.

    Attributes:
        level: Content, 0 to 255, to which 10 times the first latent is added.
        features: Whether the first feature, 0 to 1, is added to the content, as 255 times itself.
        mask: Of all cells.
        flow: Of all cells, to the right and down.
    """

    level: float
    features: bool = False
    mask: float = 0.0
    flow: tuple[float, float] = (0.0, 0.0)


DECODERS: Mapping[str, Drawn] = {
    "neutral": Drawn(60),
    "happiness": Drawn(200, mask=1.0),
    "surprise": Drawn(0, flow=(0.05, 0.0)),
    "sadness": Drawn(40, mask=0.5),
    "anger": Drawn(0, features=True, mask=1.0),
    "fear": Drawn(255, mask=1.0),
}
EXPERIMENTAL = ("fear",)

DIRECTIONS: Mapping[str, Sequence[float]] = {
    "Smiling": (2, 0, 0),
    "Blond_Hair": (0, 1, 0),
    "component-1": (0.5, 0, 1),
}
"""How the directions of `write_directions` move the first coordinates of a latent at strength 1."""
EFFECTS: Mapping[str, float] = {"Smiling": 0.75}

Port = tuple[str, int, Sequence[int]]
_TYPES = {
    int(TensorProto.UINT8): "TYPE_UINT8",
    int(TensorProto.INT32): "TYPE_INT32",
    int(TensorProto.FLOAT): "TYPE_FP32",
}
_LATENT: Port = ("latent", TensorProto.FLOAT, [LATENT_SIZE])
_IMAGE: Port = ("image", TensorProto.UINT8, [SIZE_PX, SIZE_PX, 1])
_FEATURES: Port = ("features", TensorProto.FLOAT, [FEATURES, 12, 12])


class Graph:
    """A graph that grows node by node; each method gives the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        array: NDArray[Any] = np.asarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def pixels(self, values: str, name: str) -> str:
        """Round and clip to pixels."""
        rounded = self.node("Round", values)
        clipped = self.node("Clip", rounded, self.constant(0), self.constant(255))
        return self.node("Cast", clipped, name=name, to=TensorProto.UINT8)


def write_expression_family(
    repository: Path, *, family: str = EXPRESSION_FAMILY, batching: str = ""
) -> Path:
    """Write a family of expressions: see `DECODERS` for what they draw; `batching` is how.

    Its encoder gives the mean of a picture as the first latent, and the means of 4 x 4 pixels as
    features. Its aligner takes a face to fill its square, but for the aligner's margin.
    """
    facts = {"kind": "expression", "template": json.dumps(TEMPLATE)}
    for role, graph, inputs, outputs, own in _models():
        write_model(
            repository,
            f"{family}-{own.get('name', role)}",
            graph,
            (inputs, outputs),
            {"family": family, "role": role, **facts, **own},
            batching,
        )
    return repository


def write_plain_family(repository: Path, *, family: str = PLAIN_FAMILY) -> Path:
    """Write a VAE of grey pictures: its decoder draws level 100, plus 10 times the first latent.

    `PLAIN_FAMILY` says how faces are framed, others do not.
    """
    facts = {"family": family, "kind": "vae"}
    if family == PLAIN_FAMILY:
        facts["face_frame"] = "[0.5, 0.6, 0.5]"
    encoder, image = _encoder(), _IMAGE
    mu: Port = ("mu", TensorProto.FLOAT, [LATENT_SIZE])
    ports: Any = ([image], [mu, ("logvar", *mu[1:])])
    write_model(repository, f"{family}-encoder", encoder, ports, {**facts, "role": "encoder"})
    graph = Graph()
    graph.pixels(_level(graph, 100), "image")
    ports = ([_LATENT], [image])
    write_model(repository, f"{family}-decoder", graph, ports, {**facts, "role": "decoder"})
    graph, inputs = _prior()
    own = {"role": "prior", "prior": "normal"}
    write_model(repository, f"{family}-prior-normal", graph, (inputs, [_LATENT]), {**facts, **own})
    return repository


def write_directions(repository: Path, *, family: str = PLAIN_FAMILY) -> Path:
    """Write the directions of a VAE: see `DIRECTIONS` for what they do, `EFFECTS` for theirs."""
    rows = [np.pad(np.array(row), (0, LATENT_SIZE - len(row))) for row in DIRECTIONS.values()]
    graph = Graph()
    step = graph.node("MatMul", "strength", graph.constant(rows))
    graph.node("Add", "latent", step, name="edited")
    strength: Port = ("strength", TensorProto.FLOAT, [len(DIRECTIONS)])
    facts = {
        "family": family,
        "kind": "vae",
        "role": "directions",
        "directions": ",".join(DIRECTIONS),
        "direction_effects": json.dumps(EFFECTS),
    }
    ports: Any = ([_LATENT, strength], [("edited", *_LATENT[1:])])
    write_model(repository, f"{family}-directions", graph, ports, facts)
    return repository


def _models() -> list[tuple[str, Graph, list[Port], list[Port], dict[str, str]]]:
    """Role, graph, inputs, outputs and facts of each model of the expression family."""
    mu: Port = ("mu", TensorProto.FLOAT, [LATENT_SIZE])
    prior, noise = _prior()
    named = {"name": "prior-normal", "prior": "normal"}
    return [
        ("encoder", _encoder(), [_IMAGE], [mu, ("logvar", *mu[1:]), _FEATURES], {}),
        (
            "aligner",
            _aligner(),
            [("image", TensorProto.UINT8, [64, 64, 1])],
            [("points", TensorProto.FLOAT, [5, 2])],
            {},
        ),
        ("prior", prior, noise, [_LATENT], named),
        *(
            (
                "decoder",
                _decoder(drawn),
                [_LATENT, _FEATURES],
                [
                    _IMAGE,
                    ("mask", TensorProto.FLOAT, [12, 12, 1]),
                    ("flow", TensorProto.FLOAT, [12, 12, 2]),
                ],
                {
                    "name": f"decoder-{name}",
                    "expression": name,
                    **({"experimental": "true"} if name in EXPERIMENTAL else {}),
                },
            )
            for name, drawn in DECODERS.items()
        ),
    ]


def _encoder() -> Graph:
    graph = Graph()
    levels = graph.node("Cast", "image", to=TensorProto.FLOAT)
    unit = graph.node("Div", levels, graph.constant(255))
    planes = graph.node("Transpose", unit, perm=[0, 3, 1, 2])
    cells = graph.node("AveragePool", planes, kernel_shape=[4, 4], strides=[4, 4])
    graph.node("Concat", *[cells] * FEATURES, name="features", axis=1)
    mean = graph.node("Flatten", graph.node("GlobalAveragePool", planes))
    graph.node("MatMul", mean, graph.constant(np.eye(1, LATENT_SIZE)), name="mu")
    graph.node("Mul", "mu", graph.constant(0), name="logvar")
    return graph


def _prior() -> tuple[Graph, list[Port]]:
    graph = Graph()
    nothing = graph.node("Mul", "uniform", graph.constant(0))
    graph.node("Add", "noise", nothing, name="latent")
    return graph, [("noise", *_LATENT[1:]), ("uniform", TensorProto.FLOAT, [1])]


def _level(graph: Graph, level: float) -> str:
    """Content of one level: (B, 48, 48, 1)."""
    first = graph.node("MatMul", "latent", graph.constant(10 * np.eye(LATENT_SIZE, 1)))
    square = graph.node("Reshape", first, graph.constant([-1, 1, 1, 1], np.int64))
    return graph.node("Add", square, graph.constant(np.full((1, SIZE_PX, SIZE_PX, 1), level)))


def _decoder(drawn: Drawn) -> Graph:
    graph = Graph()
    axes, start = graph.constant([1], np.int64), graph.constant([0], np.int64)
    cells = graph.node("Slice", "features", start, axes, axes)  # (B, 1, 12, 12)
    scales = graph.constant([1, 1, 4, 4])
    large = graph.node("Resize", cells, "", scales, mode="nearest")  # (B, 1, 48, 48)
    seen = graph.node("Transpose", large, perm=[0, 2, 3, 1])
    gain = graph.constant(255 if drawn.features else 0)
    content = graph.node("Add", _level(graph, drawn.level), graph.node("Mul", seen, gain))
    graph.pixels(content, "image")
    planes = graph.node("Transpose", cells, perm=[0, 2, 3, 1])
    zeros = graph.node("Mul", planes, graph.constant(0))  # (B, 12, 12, 1)
    graph.node("Add", zeros, graph.constant(drawn.mask), name="mask")
    graph.node("Add", zeros, graph.constant(drawn.flow), name="flow")
    return graph


def _aligner() -> Graph:
    graph = Graph()
    levels = graph.node("Cast", "image", to=TensorProto.FLOAT)
    mean = graph.node("ReduceMean", levels, graph.constant([1, 2], np.int64), keepdims=1)
    flat = graph.node("Squeeze", mean, graph.constant([3], np.int64))  # (B, 1, 1)
    zeros = graph.node("Mul", flat, graph.constant(0))
    points = 0.5 + (np.array(TEMPLATE) - 0.5) / 1.4
    graph.node("Add", zeros, graph.constant(points[None]), name="points")
    return graph


def write_model(
    repository: Path,
    name: str,
    graph: Graph,
    ports: tuple[Sequence[Port], Sequence[Port]],
    facts: Mapping[str, str],
    batching: str = "",
) -> None:
    """Write a model and its configuration; one of meshes tells their size in `facts`."""
    values = [
        [helper.make_tensor_value_info(key, kind, ["rows", *shape]) for key, kind, shape in some]
        for some in ports
    ]
    made = helper.make_graph(graph.nodes, "hand", values[0], values[1], graph.constants)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    size = {} if "mesh_size" in facts else {"image_size": f"{SIZE_PX}x{SIZE_PX}x1"}
    said = {
        "latent_size": str(LATENT_SIZE),
        **size,
        "metrics": '{"images": 7}',
        **facts,
        "sha256.1": hashlib.sha256(model).hexdigest(),
    }
    lines = [f'backend: "onnxruntime" max_batch_size: 16 dynamic_batching {{ {batching} }}']
    lines += [
        f'{side} {{ name: "{key}" data_type: {_TYPES[kind]} dims: {list(shape)} }}'
        for side, some in zip(("input", "output"), ports, strict=True)
        for key, kind, shape in some
    ]
    lines += [
        f'parameters {{ key: "facegen.{key}" value {{ string_value: {json.dumps(value)} }} }}'
        for key, value in said.items()
        if key != "name"
    ]
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (repository / name / "config.pbtxt").write_text("\n".join(lines), encoding="utf-8")
