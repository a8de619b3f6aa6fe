"""Reconstruction of meshes: our server against ONNX Runtime alone in a loop, on the same core.

The loop runs the encoder and then the decoder, on batches of one mesh and as large as the server's;
the faster is the limit. The server gets vertices alone and answers with them and their errors. It
has the same core to itself in turn, the load generator another. Windows are interleaved, so that a
noisy machine is noisy to both; medians over the windows are shown.

    python -m benchmarks.meshes_serving                            # ict-mesh of models/
    python -m benchmarks.meshes_serving --models out --family mine
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.load import Generator, Load, generator
from benchmarks.peers import Server, Start, facegen_server
from facegen.v1 import mesh_service_pb2

CELLS = ((1, 1), (8, 1), (32, 1), (8, 16))
METHOD = "/facegen.v1.MeshService/ReconstructMeshes"
BATCH = 16


@dataclass(frozen=True, slots=True)
class Cell:
    """So many clients with so many meshes a call: medians over the windows.

    Attributes:
        clients: Connections, each with one call under way.
        rows: Meshes a call.
        meshes: Meshes a second.
        limit: Those of ONNX Runtime in a loop, in the same round of windows.
        ratio: The one of the other.
        p50_ms: Median latency of a call.
        p99_ms: 99 of 100 calls are faster.
        cpu_ms: Processor milliseconds of the server for a mesh.
    """

    clients: int
    rows: int
    meshes: float
    limit: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


class Graphs:
    """The graphs of a family, each with one thread.

    Args:
        models: The model repository.
        family: The family's name.
    """

    def __init__(self, models: Path, family: str) -> None:
        self._models, self._family = models, family

    def open(self, role: str) -> Any:
        """Open the newest version of a graph."""
        versions = (self._models / f"{self._family}-{role}").glob("*/model.onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = max(versions, key=lambda path: int(path.parent.name))
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def meshes(self, count: int) -> NDArray[np.float32]:
        """Templates with a millimetre of noise: (count, V, 3)."""
        (template,) = self.open("topology").run(["template"], {"row": np.zeros((1, 1), np.uint8)})
        random = np.random.default_rng(count)
        noise = random.standard_normal((count, *template.shape[1:]), dtype=np.float32)
        meshes: NDArray[np.float32] = template + noise
        return meshes


def reconstruct_body(family: str, meshes: NDArray[np.float32]) -> bytes:
    """A ReconstructMeshesRequest of vertices alone."""
    request = mesh_service_pb2.ReconstructMeshesRequest(
        family=family,
        meshes=[
            mesh_service_pb2.Mesh(data=mesh.tobytes(), mime_type="application/octet-stream")
            for mesh in meshes
        ],
    )
    return request.SerializeToString()


def _reference_process(models: Path, family: str, core: int, pipe: Connection) -> None:
    """Answer (rows, seconds) with the meshes a second of a plain loop over both graphs."""
    os.sched_setaffinity(0, {core})
    graphs = Graphs(models, family)
    encoder, decoder = graphs.open("encoder"), graphs.open("decoder")
    while (order := pipe.recv()) is not None:
        rows, seconds = order
        vertices = graphs.meshes(rows)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            (latent,) = encoder.run(["mu"], {"vertices": vertices})
            decoder.run(["vertices"], {"latent": latent})
            count += rows
        pipe.send(count / (time.perf_counter() - start))


@contextmanager
def reference(models: Path, family: str, core: int) -> Iterator[Connection]:
    """ONNX Runtime in a loop, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, child = context.Pipe()
    arguments = (models, family, core, child)
    process = context.Process(target=_reference_process, args=arguments, daemon=True)
    process.start()
    try:
        yield pipe
    finally:
        pipe.send(None)
        process.join()


def race(arguments: argparse.Namespace, cores: tuple[int, int]) -> list[Cell]:
    """Run every cell: windows of the loop and of the server in turn."""
    server_core, client_core = cores
    models, family = arguments.models, arguments.family
    graphs = Graphs(models, family)
    latent_size = graphs.open("decoder").get_inputs()[0].shape[1]
    start = Start(server_core, f"{family}-decoder", bytes(4 * latent_size))
    cells = []
    with (
        facegen_server(models, start) as server,
        reference(models, family, server_core) as loop,
        generator(client_core) as clients,
    ):
        for count, rows in CELLS:
            body = reconstruct_body(family, graphs.meshes(rows))
            windows = []
            for window in range(arguments.windows + 1):  # the first warms up
                seconds = arguments.window_s if window else 0.3
                limit = max(_limit(loop, size, seconds) for size in (1, BATCH))
                load = Load(server.address, METHOD, body, rows, seconds, count)
                measured = _window(server, clients, load)
                if window:
                    windows.append((measured[0], limit, measured[0] / limit, *measured[1:]))
            medians = [statistics.median(column) for column in zip(*windows, strict=True)]
            cells.append(Cell(count, rows, *medians))
    return cells


def _limit(loop: Connection, rows: int, seconds: float) -> float:
    loop.send((rows, seconds))
    meshes: float = loop.recv()
    return meshes


def _window(server: Server, clients: Generator, load: Load) -> tuple[float, ...]:
    """One window of the server: meshes a second, both latencies, CPU milliseconds a mesh."""
    before_s = server.cpu_s()
    outcome = clients.run(load)
    if set(outcome.codes) != {"OK"}:
        raise SystemExit(f"calls ended {dict(outcome.codes)}; is {load.method} served there?")
    cpu_ms = 1e3 * (server.cpu_s() - before_s) / outcome.images
    return outcome.rate, outcome.percentile_ms(50), outcome.percentile_ms(99), cpu_ms


def main() -> None:
    """Race and print; `--json` for machines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--family", default="ict-mesh")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    first, second = sorted(os.sched_getaffinity(0))[:2]
    cells = race(arguments, (first, second))
    if arguments.json:
        print(json.dumps([asdict(cell) for cell in cells], indent=2))
        return
    table = Table(title=f"{arguments.family}, reconstruction", title_justify="left")
    headings = (
        "clients",
        "meshes a call",
        "meshes/s",
        "ONNX Runtime",
        "ratio",
        "p50, ms",
        "p99, ms",
    )
    for heading in (*headings, "CPU-ms a mesh"):
        table.add_column(heading, justify="right")
    for cell in cells:
        table.add_row(
            str(cell.clients), str(cell.rows), f"{cell.meshes:.0f}", f"{cell.limit:.0f}",
            f"{cell.ratio:.2f}", f"{cell.p50_ms:.1f}", f"{cell.p99_ms:.1f}", f"{cell.cpu_ms:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
