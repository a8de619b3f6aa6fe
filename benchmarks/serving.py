"""The serving race: ONNX Runtime in a loop, our server, NVIDIA Triton and MLServer, same graph.

Every server has the same core to itself in turn, the load generator another. Windows are
interleaved, so that a noisy machine is noisy to all; medians over the windows are shown.

    make peers                                      # Triton and MLServer, once
    python -m benchmarks.serving                    # the rewritten graph
    python -m benchmarks.serving --graph plain      # the graph as exported without rewrites
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from benchmarks.load import Generator, Load, generator
from benchmarks.peers import (
    Server,
    Start,
    facegen_server,
    infer_body,
    mlserver,
    triton,
    write_repository,
)
from benchmarks.plain_decoder import write_plain_decoder
from facegen.v1 import face_service_pb2, image_pb2, latent_pb2

CELLS = ((1, 1), (8, 1), (32, 1), (1, 16), (8, 16), (32, 16))
INFER = "/inference.GRPCInferenceService/ModelInfer"
DECODE = "/facegen.v1.FaceService/Decode"
FORMATS = {"raw": "application/octet-stream", "jpeg": "image/jpeg", "png": "image/png"}
LATENT_SIZE = 128


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server with the requests that it gets.

    Attributes:
        name: As the table shows it.
        server: Where it runs.
        method: What is called.
        bodies: The requests by rows.
    """

    name: str
    server: Server
    method: str
    bodies: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Cell:
    """One contestant with so many clients and rows: medians over the windows.

    Attributes:
        images: Images a second.
        ratio: Of the images a second of ONNX Runtime in a loop, in the same round of windows.
        p50_ms: Median latency of a call.
        p99_ms: 99 of 100 calls are faster.
        cpu_s: Processor seconds for 1,000 images.
    """

    name: str
    clients: int
    rows: int
    images: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a contestant's server takes.

    Attributes:
        first_answer_s: Seconds from its start to its first answer.
        memory_mib: Resident memory after the race.
    """

    name: str
    first_answer_s: float
    memory_mib: float

    @classmethod
    def of(cls, contestant: Contestant) -> "Footprint":
        """Look at a server that runs."""
        server = contestant.server
        return cls(contestant.name, server.first_answer_s, server.memory_mib())


def latents(rows: int) -> bytes:
    """Random latents, (rows, Z) float32."""
    generator = np.random.default_rng(rows)
    return generator.standard_normal((rows, LATENT_SIZE), dtype=np.float32).tobytes()


def decode_body(family: str, rows: int, mime_type: str) -> bytes:
    """A DecodeRequest for `rows` latents."""
    values = np.frombuffer(latents(rows), np.float32).reshape(rows, LATENT_SIZE)
    request = face_service_pb2.DecodeRequest(
        family=family,
        latents=[latent_pb2.Latent(family=family, values=row) for row in values.tolist()],
        format=image_pb2.ImageFormat(mime_type=mime_type),
    )
    return request.SerializeToString()


def _reference_process(graph: Path, core: int, pipe: Connection) -> None:
    """Answer (rows, seconds) with the images a second of a plain loop over `session.run`."""
    os.sched_setaffinity(0, {core})
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    while (order := pipe.recv()) is not None:
        rows, seconds = order
        values = np.frombuffer(latents(rows), np.float32).reshape(rows, LATENT_SIZE)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            session.run(None, {"latent": values})
            count += rows
        pipe.send(count / (time.perf_counter() - start))


@contextmanager
def reference(graph: Path, core: int) -> Iterator[Connection]:
    """ONNX Runtime in a loop, in a process of its own, as one contestant."""
    context = multiprocessing.get_context("spawn")
    pipe, child = context.Pipe()
    process = context.Process(target=_reference_process, args=(graph, core, child), daemon=True)
    process.start()
    try:
        yield pipe
    finally:
        pipe.send(None)
        process.join()


@contextmanager
def contestants(
    arguments: argparse.Namespace, core: int
) -> Iterator[tuple[Path, list[Contestant]]]:
    """Start everything; gives the graph and who races."""
    decoder = f"{arguments.family}-decoder"
    infer = {rows: infer_body("decoder", rows, latents(rows)) for rows in (1, 16)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        graph = folder / "decoder.onnx"
        if arguments.graph == "plain":
            write_plain_decoder(graph)
        else:
            graph.write_bytes((arguments.models / decoder / "1" / "model.onnx").read_bytes())
        repository = write_repository(graph, folder / "repository")
        start = Start(core, "decoder", latents(1))
        ours = stack.enter_context(facegen_server(repository, start))
        field = [Contestant("facegen, KServe v2", ours, INFER, infer)]
        if arguments.graph != "plain":
            faces = stack.enter_context(
                facegen_server(arguments.models, replace(start, model=decoder))
            )
            for name, mime_type in FORMATS.items():
                bodies = {rows: decode_body(arguments.family, rows, mime_type) for rows in (1, 16)}
                field.append(Contestant(f"facegen.v1, {name}", faces, DECODE, bodies))
        if "triton" in arguments.peers:
            peer = stack.enter_context(triton(graph, folder / "triton", start))
            field.append(Contestant("Triton 2.51", peer, INFER, infer))
            if arguments.graph != "plain":
                write_plain_decoder(folder / "plain.onnx")
                peer = stack.enter_context(triton(folder / "plain.onnx", folder / "plain", start))
                field.append(Contestant("Triton 2.51, graph as exported", peer, INFER, infer))
        if "mlserver" in arguments.peers:
            peer = stack.enter_context(mlserver(graph, folder / "mlserver", start))
            field.append(Contestant("MLServer 1.7.1", peer, INFER, infer))
        yield graph, field


def race(
    arguments: argparse.Namespace, cores: tuple[int, int]
) -> tuple[list[Cell], list[Footprint]]:
    """Run every cell: windows of all contestants in turn."""
    server_core, client_core = cores
    cells = []
    with (
        contestants(arguments, server_core) as (graph, field),
        reference(graph, server_core) as loop,
        generator(client_core) as clients,
    ):
        for count, rows in CELLS:
            windows: dict[str, list[tuple[float, ...]]] = {}
            for window in range(arguments.windows + 1):  # the first warms up
                seconds = arguments.window_s if window else 0.3
                loop.send((rows, seconds))
                limit = loop.recv()
                call_ms = 1e3 * rows / limit
                measured: dict[str, tuple[float, ...]] = {
                    "ONNX Runtime in a loop": (limit, 1.0, call_ms, call_ms, 1e3 / limit)
                }
                for one in field:
                    measured[one.name] = _window(one, clients, count, rows, seconds, limit)
                if window:
                    for name, values in measured.items():
                        windows.setdefault(name, []).append(values)
            for name, columns in windows.items():
                medians = [statistics.median(column) for column in zip(*columns, strict=True)]
                cells.append(Cell(name, count, rows, *medians))
        return cells, [Footprint.of(one) for one in field]


def _window(
    contestant: Contestant,
    clients: Generator,
    count: int,
    rows: int,
    seconds: float,
    limit: float,
) -> tuple[float, ...]:
    """One window of one contestant: what a `Cell` has."""
    server = contestant.server
    body = contestant.bodies[rows]
    before_s = server.cpu_s()
    load = Load(server.address, contestant.method, body, rows, seconds, count)
    outcome = clients.run(load)
    cpu_s = 1e3 * (server.cpu_s() - before_s) / max(1, outcome.images)
    latencies_ms = outcome.percentile_ms(50), outcome.percentile_ms(99)
    return outcome.rate, outcome.rate / limit, *latencies_ms, cpu_s


def main() -> None:
    """Race and print; `--json` for machines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--family", default="celeba-vae")
    parser.add_argument("--graph", choices=("rewritten", "plain"), default="rewritten")
    parser.add_argument("--peers", nargs="*", default=["triton", "mlserver"])
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    first, second = sorted(os.sched_getaffinity(0))[:2]
    cells, footprints = race(arguments, (first, second))
    if arguments.json:
        results = {
            "cells": [asdict(cell) for cell in cells],
            "servers": [asdict(footprint) for footprint in footprints],
        }
        print(json.dumps(results, indent=2))
        return
    _print(cells, footprints)


def _print(cells: list[Cell], footprints: list[Footprint]) -> None:
    console = Console()
    for count, rows in CELLS:
        table = Table(title=f"{count} clients × {rows} images a call", title_justify="left")
        for heading in ("", "images/s", "of the limit", "p50, ms", "p99, ms", "CPU-s per 1,000"):
            table.add_column(heading, justify="left" if not heading else "right")
        for cell in cells:
            if (cell.clients, cell.rows) == (count, rows):
                table.add_row(
                    cell.name, f"{cell.images:.0f}", f"{cell.ratio:.2f}", f"{cell.p50_ms:.1f}",
                    f"{cell.p99_ms:.1f}", f"{cell.cpu_s:.2f}",
                )  # fmt: skip
        console.print(table)
    for server in footprints:
        console.print(
            f"{server.name}: first answer after {server.first_answer_s:.1f} s, "
            f"{server.memory_mib:.0f} MiB resident"
        )


if __name__ == "__main__":
    main()
