"""Images a second of the served decoder, as a ratio to ONNX Runtime called in a loop beside it.

The reference and the server take turns on one core, each with one compute thread; the client has
another core. Windows are interleaved, and the median of their ratios is shown.

    python benchmarks/serving.py --family celeba-vae --windows 5 --window-s 2
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from facegen.client import Client
from facegen.v1 import face_service_pb2, face_service_pb2_grpc, image_pb2, latent_pb2

CELLS = ((1, 1), (8, 1), (32, 1), (1, 16), (8, 16), (32, 16))
FORMATS = {"raw": "application/octet-stream", "jpeg": "image/jpeg", "png": "image/png"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the result: medians over the windows, images a second."""

    clients: int
    rows: int
    format: str
    reference: float
    served: float
    ratio: float
    server_cpu_ms_per_image: float


def reference_process(graph: str, core: int, pipe: Connection) -> None:
    """Answer (rows, seconds) with the images a second of a plain loop over `session.run`."""
    os.sched_setaffinity(0, {core})
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    latent_size = session.get_inputs()[0].shape[1]
    while (order := pipe.recv()) is not None:
        rows, seconds = order
        latents = np.random.default_rng(0).standard_normal((rows, latent_size), dtype=np.float32)
        session.run(None, {"latent": latents})
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            session.run(None, {"latent": latents})
            count += rows
        pipe.send(count / (time.perf_counter() - start))


@contextlib.contextmanager
def served(models: Path, core: int) -> Iterator[tuple[str, int]]:
    """A real server on a free port, pinned to one core; gives its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    facegen = Path(sys.executable).with_name("facegen")
    process = subprocess.Popen(
        [facegen, "serve", "--engine", f"onnx:{models}", "--address", address],
        env=os.environ | {"FACEGEN_SERVE_LOG_LEVEL": "warning"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        with Client(address, timeout_s=60) as client:
            client.wait_until_serving()
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def drive(
    stub: "face_service_pb2_grpc.FaceServiceAsyncStub",  # only its types know this name
    request: face_service_pb2.DecodeRequest,
    *,
    clients: int,
    seconds: float,
) -> float:
    """Images a second that `clients` callers get, each with one call in flight."""
    end = time.perf_counter() + seconds

    async def caller() -> int:
        count = 0
        while time.perf_counter() < end:
            count += len((await stub.Decode(request)).images)
        return count

    start = time.perf_counter()
    counts = await asyncio.gather(*(caller() for _ in range(clients)))
    return sum(counts) / (time.perf_counter() - start)


def decode_request(
    family: str, rows: int, latent_size: int, mime_type: str
) -> face_service_pb2.DecodeRequest:
    """A call that decodes `rows` random latents."""
    values = np.random.default_rng(1).standard_normal((rows, latent_size))
    return face_service_pb2.DecodeRequest(
        family=family,
        latents=[latent_pb2.Latent(family=family, values=row) for row in values.tolist()],
        format=image_pb2.ImageFormat(mime_type=mime_type),
    )


async def measure(
    arguments: argparse.Namespace, address: str, *, pid: int, core: int
) -> list[Cell]:
    """Run every cell, windows of the reference and of the server in turn."""
    graph = arguments.models / f"{arguments.family}-decoder" / "1" / "model.onnx"
    pipe, child = multiprocessing.get_context("spawn").Pipe()
    reference = multiprocessing.get_context("spawn").Process(
        target=reference_process, args=(str(graph), core, child), daemon=True
    )
    reference.start()
    cells = [(c, r, "raw") for c, r in CELLS] + [(8, 16, "jpeg"), (8, 16, "png")]
    results = []
    with Client(address) as client:
        latent_size = client.model(arguments.family).latent_size
    async with grpc.aio.insecure_channel(address) as channel:
        stub = face_service_pb2_grpc.FaceServiceStub(channel)
        for clients, rows, image_format in cells:
            request = decode_request(arguments.family, rows, latent_size, FORMATS[image_format])
            await drive(stub, request, clients=clients, seconds=0.5)
            windows = []
            for _ in range(arguments.windows):
                pipe.send((rows, arguments.window_s))
                raw = await asyncio.to_thread(pipe.recv)
                before = cpu_seconds(pid)
                rate = await drive(stub, request, clients=clients, seconds=arguments.window_s)
                cpu = (cpu_seconds(pid) - before) / (rate * arguments.window_s)
                windows.append((raw, rate, rate / raw, cpu * 1_000))
            medians = [statistics.median(column) for column in zip(*windows, strict=True)]
            results.append(Cell(clients, rows, image_format, *medians))
    pipe.send(None)
    return results


def main() -> None:
    """Measure and print; `--json` for machines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--family", default="celeba-vae")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {client_core})
    with served(arguments.models, server_core) as (address, pid):
        cells = asyncio.run(measure(arguments, address, pid=pid, core=server_core))
    if arguments.json:
        print(json.dumps([asdict(cell) for cell in cells], indent=2))
        return
    table = Table(
        "clients", "images a call", "format", "ONNX Runtime, images/s", "served, images/s"
    )
    table.add_column("ratio")
    table.add_column("server CPU, ms an image")
    for cell in cells:
        table.add_row(
            str(cell.clients), str(cell.rows), cell.format, f"{cell.reference:.0f}",
            f"{cell.served:.0f}", f"{cell.ratio:.2f}", f"{cell.server_cpu_ms_per_image:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
