"""A server of small graphs written by hand, and requests for it in the KServe v2 protocol."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from facegen.serving.config import ServerConfig
from facegen.serving.server import Server

ROW = np.arange(4, dtype="<f4").tobytes()
# Of each datatype, ONNX's name and Triton's.
_DTYPES = {
    "BOOL": ("BOOL", "BOOL"),
    "UINT8": ("UINT8", "UINT8"),
    "UINT16": ("UINT16", "UINT16"),
    "UINT32": ("UINT32", "UINT32"),
    "UINT64": ("UINT64", "UINT64"),
    "INT8": ("INT8", "INT8"),
    "INT16": ("INT16", "INT16"),
    "INT32": ("INT32", "INT32"),
    "INT64": ("INT64", "INT64"),
    "FP16": ("FLOAT16", "FP16"),
    "BF16": ("BFLOAT16", "BF16"),
    "FP32": ("FLOAT", "FP32"),
    "FP64": ("DOUBLE", "FP64"),
    "BYTES": ("STRING", "STRING"),
}

Port = tuple[str, str, str, Sequence[int | str]]


def _write(
    repository: Path, name: str, ports: Sequence[Port], *, batch: int, extra: str = ""
) -> None:
    """Write a graph that gives back what it takes.

    Args:
        repository: Where.
        name: The model.
        ports: Of each input its name, its output's name, the datatype and the axes that callers
            give.
        batch: Its max_batch_size; 0 for no batch axis.
        extra: More of its configuration.
    """
    from onnx import TensorProto, helper

    rows: list[int | str] = ["rows"] if batch else []
    nodes, inputs, outputs = [], [], []
    config = [f'backend: "onnxruntime" max_batch_size: {batch}']
    for source, target, datatype, shape in ports:
        onnx_name, triton_name = _DTYPES[datatype]
        element = getattr(TensorProto, onnx_name)
        nodes.append(helper.make_node("Identity", [source], [target]))
        inputs.append(helper.make_tensor_value_info(source, element, [*rows, *shape]))
        outputs.append(helper.make_tensor_value_info(target, element, [*rows, *shape]))
        dims = [size if isinstance(size, int) else -1 for size in shape]
        tensor = f"data_type: TYPE_{triton_name} dims: {dims}"
        config.append(f'input {{ name: "{source}" {tensor} }}')
        labels = 'label_filename: "labels.txt"' if name == "labelled" else ""
        config.append(f'output {{ name: "{target}" {tensor} {labels} }}')
    graph = helper.make_graph(nodes, "same", inputs, outputs)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    for version in ("1", "2") if name == "versions" else ("1",):
        folder = repository / name / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    (repository / name / "config.pbtxt").write_text("\n".join([*config, extra]), encoding="utf-8")


@pytest.fixture(scope="session")
def same_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that give back what they take: read it, do not change it."""
    repository = tmp_path_factory.mktemp("same")
    for datatype in _DTYPES:
        _write(repository, f"same-{datatype}", [("x", "y", datatype, ["n"])], batch=8)
    _write(repository, "row", [("x", "y", "FP32", [4])], batch=16)
    _write(repository, "counted", [("x", "y", "FP32", [4])], batch=16)
    _write(repository, "controlled", [("x", "y", "FP32", [4])], batch=16)
    _write(
        repository, "versions", [("x", "y", "FP32", [4])], batch=16,
        extra="version_policy { all {} }",
    )  # fmt: skip
    _write(repository, "pair", [("a", "c", "INT32", [2, 2]), ("b", "d", "BYTES", ["n"])], batch=0)
    _write(repository, "labelled", [("x", "y", "FP32", [3])], batch=4)
    (repository / "labelled" / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    # Rows wait a minute for a batch of 100: whoever sends the rest decides when it runs.
    _write(
        repository, "waiting", [("x", "y", "FP32", [4])], batch=100,
        extra="dynamic_batching { preferred_batch_size: 100 "
        "max_queue_delay_microseconds: 60000000 }",
    )  # fmt: skip
    return repository


StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def start_same(same_repository: Path) -> Iterator[StartServer]:
    """Start a server of `same_repository`, with some settings of its own."""
    with ExitStack() as stack:

        def start(*, loaded: bool = True, **settings: Any) -> Server:
            config = {
                "engine": f"onnx:{same_repository}",
                "address": "127.0.0.1:0",
                "threads": 1,
                "max_batch_rows": 100,
                **settings,
            }
            server = Server(ServerConfig.model_validate(config))
            stack.enter_context(closing(server))
            server.listen()
            if loaded:
                server.load()
            return server

        yield start


@pytest.fixture(scope="session")
def same_address(start_same: StartServer) -> str:
    """The address of a server that allows everything, and that all tests share."""
    server = start_same(
        model_control="explicit", load_models=("*",), allow_admin=True, shared_memory=True
    )
    return server.address


@pytest.fixture(scope="session")
def stub(same_address: str) -> Iterator[Any]:
    """The generated stub, which has no types, of that server."""
    with grpc.insecure_channel(same_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(
    name: str = "x", shape: tuple[int, ...] = (1, 4), datatype: str = "FP32", **contents: Any
) -> Any:
    """Describe an input, with its typed contents by their field."""
    typed = pb.InferTensorContents(**contents) if contents else None
    return pb.ModelInferRequest.InferInputTensor(
        name=name, shape=shape, datatype=datatype, contents=typed
    )


def infer(
    model: str = "row",
    *inputs: Any,
    raw: tuple[bytes, ...] | None = None,
    outputs: tuple[str, ...] = (),
    parameters: dict[str, tuple[str, Any]] | None = None,
    **fields: Any,
) -> Any:
    """Build a request; without inputs, of one right row of four."""
    if not inputs:
        inputs, raw = (tensor(),), (ROW,) if raw is None else raw
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=inputs,
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=raw or (),
        **fields,
    )
    set_parameters(request, parameters or {})
    return request


def set_parameters(message: Any, parameters: dict[str, tuple[str, Any]]) -> None:
    """Set parameters, each by its field and value."""
    for key, (field, value) in parameters.items():
        setattr(message.parameters[key], field, value)
