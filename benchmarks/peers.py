"""Starts the servers that are raced: ours, NVIDIA Triton and MLServer, each pinned to one core.

Triton and MLServer want other versions of our dependencies: `make peers` gives each an environment
of its own beside the repository's.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.triton_server import start_triton

__all__ = [
    "Server",
    "Start",
    "facegen_server",
    "infer_body",
    "mlserver",
    "triton",
    "write_repository",
]

_MLSERVER = Path(".venv-mlserver")
_PYTHON_BACKEND = Path("export/facegen/export/python_backend.py")
_START_S = 60

_MLSERVER_RUNTIME = """
import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        latent = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        (image,) = self._session.run(None, {"latent": latent})
        output = NumpyCodec.encode_output("image", image)
        return InferenceResponse(model_name=self.name, outputs=[output])
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a server runs, and what it is asked until it answers.

    Attributes:
        core: Its CPU.
        model: A decoder that it serves.
        latent: One row for it, (1, Z) float32.
    """

    core: int
    model: str
    latent: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        address: Where it listens.
        pid: Its process; it may have children.
        first_answer_s: Seconds from its start to its first answer to an inference.
    """

    address: str
    pid: int
    first_answer_s: float

    def cpu_s(self) -> float:
        """Processor time that it and its children have used."""
        ticks = 0
        for pid in _family(self.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Resident memory of it and its children; pages that they share count once."""
        kib = 0
        for pid in _family(self.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
        return kib / 1024


def infer_body(model: str, rows: int, latent: bytes) -> bytes:
    """A ModelInferRequest for `rows` latents (rows, Z) float32."""
    size = len(latent) // rows // 4
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[latent])
    request.inputs.add(name="latent", datatype="FP32", shape=[rows, size])
    body: bytes = request.SerializeToString()
    return body


def _free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_repository(graph: Path, folder: Path, *, backend: str = "onnxruntime") -> Path:
    """A model repository that holds one graph as `decoder`."""
    version = folder / "decoder" / "1"
    version.mkdir(parents=True)
    shutil.copy(graph, version / "model.onnx")
    if backend == "python":
        shutil.copy(_PYTHON_BACKEND, version / "model.py")
    (folder / "decoder" / "config.pbtxt").write_text(
        f'backend: "{backend}"\nmax_batch_size: 64\n'
        'input { name: "latent" data_type: TYPE_FP32 dims: 128 }\n'
        'output { name: "image" data_type: TYPE_UINT8 dims: 64 dims: 64 dims: 3 }\n'
        "instance_group { count: 1 kind: KIND_CPU }\ndynamic_batching { }\n"
    )
    return folder


@contextmanager
def triton(
    graph: Path,
    folder: Path,
    start: Start,
    *,
    batching: str = "",
    flags: Sequence[str] = (),
) -> Iterator[Server]:
    """NVIDIA Triton 2.51 with its dynamic batcher; its Python backend runs ONNX Runtime.

    Args:
        graph: The decoder.
        folder: Where its repository is written.
        start: Its CPU and its first request.
        batching: What its `dynamic_batching` says.
        flags: More of tritonserver's flags.
    """
    repository = write_repository(graph, folder, backend="python")
    config = repository / "decoder" / "config.pbtxt"
    config.write_text(
        config.read_text().replace("dynamic_batching { }", f"dynamic_batching {{ {batching} }}")
    )
    started = time.perf_counter()
    with start_triton(repository, core=start.core, flags=flags) as server:
        _first_answer(server.address, start, server.process)
        yield Server(server.address, server.process.pid, time.perf_counter() - started)


@contextmanager
def _start(
    command: list[str],
    port: int,
    start: Start,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Server]:
    """Start a server pinned to a core, wait for its first answer, and stop it in the end."""
    address = f"127.0.0.1:{port}"
    started = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", str(start.core), *command],
        env=os.environ | dict(environment or {}),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _first_answer(address, start, process)
        yield Server(address, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def facegen_server(
    repository: Path, start: Start, *, flags: tuple[str, ...] = ()
) -> Iterator[Server]:
    """Our server as it comes, on a repository."""
    port = _free_port()
    facegen = str(Path(sys.executable).with_name("facegen"))
    command = [facegen, "serve", "--engine", f"onnx:{repository}"]
    command += ["--address", f"127.0.0.1:{port}", "--log-level", "warning", *flags]
    with _start(command, port, start) as server:
        yield server


@contextmanager
def mlserver(graph: Path, folder: Path, start: Start) -> Iterator[Server]:
    """MLServer 1.7 with adaptive batching, its model in its own process (no worker pool)."""
    port = _free_port()
    folder.mkdir(parents=True)
    (folder / "onnx_model.py").write_text(_MLSERVER_RUNTIME)
    (folder / "settings.json").write_text(
        json.dumps(
            {
                "parallel_workers": 0,
                "host": "127.0.0.1",
                "grpc_port": port,
                "http_port": _free_port(),
                "metrics_port": _free_port(),
                "grpc_max_message_length": 64 * 1024 * 1024,
            }
        )
    )
    shutil.copy(graph, folder / "model.onnx")
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": start.model,
                "implementation": "onnx_model.OnnxModel",
                "max_batch_size": 16,
                "max_batch_time": 0.001,
                "parameters": {"uri": str((folder / "model.onnx").resolve())},
            }
        )
    )
    binary = _MLSERVER.resolve() / "bin" / "mlserver"
    command = [str(binary), "start", "."]
    environment = {"PYTHONPATH": str(folder.resolve())}
    with _start(command, port, start, environment=environment, folder=folder) as server:
        yield server


def _first_answer(address: str, start: Start, process: "subprocess.Popen[Any]") -> None:
    request = service_pb2.ModelInferRequest.FromString(infer_body(start.model, 1, start.latent))
    end = time.perf_counter() + _START_S
    options = [("grpc.max_reconnect_backoff_ms", 50), ("grpc.initial_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while time.perf_counter() < end and process.poll() is None:
            try:
                stub.ModelInfer(request, timeout=5)
            except grpc.RpcError:
                time.sleep(0.01)
            else:
                return
    raise SystemExit(f"{process.args!r} gave no answer in {_START_S} s")


def _family(pid: int) -> list[int]:
    """A process and all that come from it."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    direct = [int(word) for file in children for word in file.read_text().split()]
    return [pid, *(below for child in direct for below in _family(child))]
