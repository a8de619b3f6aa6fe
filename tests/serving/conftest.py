"""Small graphs written by hand, in a model repository of their own; servers as processes."""

import hashlib
import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

WriteModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def _log_restored() -> Iterator[None]:
    """Leave the log's levels and handlers as they were: servers in this process set them."""
    root, ours = logging.getLogger(), logging.getLogger("facegen")
    before = root.level, ours.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = before[2]


_DOUBLE = """
backend: "onnxruntime"
max_batch_size: 16
input {{ name: "x" data_type: TYPE_FP32 dims: 4 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 4 }}
parameters {{ key: "facegen.sha256.1" value {{ string_value: "{sha256}" }} }}
model_warmup {{
  name: "zeros" batch_size: 2
  inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: 4 zero_data: true }} }}
}}
"""


def _linear_graph(weight: NDArray[np.float32]) -> bytes:
    """A graph `y = x W` with x and y (B, 4) and W (4, 4), as bytes."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "W")],
    )
    opsets = [helper.make_opsetid("", 20)]
    graph_bytes: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return graph_bytes


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Write a model that multiplies by `factor` or `weight` (4, 4), its config plus `extra`."""

    def write(
        name: str = "double",
        *,
        factor: float = 2.0,
        weight: NDArray[np.float32] | None = None,
        versions: tuple[str, ...] = ("1",),
        config: str | None = None,
        extra: str = "",
    ) -> Path:
        scaling = np.eye(4, dtype=np.float32) * np.float32(factor)
        graph = _linear_graph(scaling if weight is None else weight)
        for version in versions:
            folder = tmp_path / name / version
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.onnx").write_bytes(graph)
        text = config or _DOUBLE.format(sha256=hashlib.sha256(graph).hexdigest())
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.pbtxt").write_text(text + extra, encoding="utf-8")
        return tmp_path

    return write


WriteGraph = Callable[..., Path]


@pytest.fixture
def write_graph(tmp_path: Path) -> WriteGraph:
    """Write any graph as a model, with a config.pbtxt only if one is given."""

    def write(
        graph: bytes,
        name: str = "any",
        *,
        version: str = "1",
        file: str = "model.onnx",
        config: str | None = None,
    ) -> Path:
        folder = tmp_path / name / version
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(graph)
        if config is not None:
            (tmp_path / name / "config.pbtxt").write_text(config, encoding="utf-8")
        return tmp_path

    return write


@dataclass
class ServerProcess:
    """A `facegen serve` of its own; use as a context manager.

    Attributes:
        process: The process.
        log: The lines it has written to stderr.
        address: Where it listens; empty if it ended before it served.
    """

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    address: str = ""

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"\bserving \d.* on ([^\s\"]+)\W*$", line):
                self.address = found[1]
                break
        # The pipe must not fill up, or the server would wait for ever.
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr or ()))
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(timeout=60)


StartServer = Callable[..., ServerProcess]


@pytest.fixture(scope="session")
def double_graph() -> bytes:
    """A graph that doubles `x` (B, 4) to `y`."""
    return _linear_graph(np.eye(4, dtype=np.float32) * np.float32(2))


@pytest.fixture(scope="session")
def serve() -> Callable[..., ServerProcess]:
    """What makes a server of a repository, with flags, to be used as a context manager."""
    return _serve


@pytest.fixture
def start_server(tiny_repository: Path) -> Iterator[StartServer]:
    """Start `facegen serve` with flags on a free port of loopback, serving the tiny repository."""
    with ExitStack() as stack:

        def start(*flags: str) -> ServerProcess:
            return stack.enter_context(_serve(tiny_repository, *flags))

        yield start


@pytest.fixture(scope="session")
def server_address(tiny_repository: Path) -> Iterator[str]:
    """The address of a server of the tiny repository that all tests share."""
    with _serve(tiny_repository) as server:
        assert server.address, "".join(server.log)
        yield server.address
        server.terminate()
        assert server.wait() == 0, "".join(server.log)


def _serve(repository: Path, *flags: str) -> ServerProcess:
    command = Path(sys.executable).with_name("facegen")
    defaults = ("--engine", f"onnx:{repository}", "--address", "127.0.0.1:0", "--threads", "1")
    process = subprocess.Popen(
        [command, "serve", *defaults, *flags], stderr=subprocess.PIPE, text=True
    )
    return ServerProcess(process)


StartHand = Callable[..., str]


@pytest.fixture(scope="session")
def start_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartHand]:
    """Serve families of graphs written by hand, with settings; gives the address.

    `batching` says how the models of the expression family batch.
    """
    from facegen.serving.config import ServerConfig
    from facegen.serving.server import Server
    from tests.serving.family_graphs import write_expression_family, write_plain_family

    with ExitStack() as stack:

        def start(*, batching: str = "", **settings: Any) -> str:
            repository = tmp_path_factory.mktemp("hand")
            write_plain_family(write_expression_family(repository, batching=batching))
            config = {
                "engine": f"onnx:{repository}",
                "address": "127.0.0.1:0",
                "threads": 2,
                "max_batch_rows": 16,
                **settings,
            }
            server = Server(ServerConfig.model_validate(config))
            stack.enter_context(closing(server))
            server.listen()
            server.load()
            return server.address

        yield start


@pytest.fixture(scope="session")
def hand_address(start_hand: StartHand) -> str:
    """The address of a server of the families written by hand, that all tests share."""
    return start_hand()
