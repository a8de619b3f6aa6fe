"""What a unary call costs a gRPC server in Python: asyncio, threads, and methods that hold neither.

Each server parses a ModelInferRequest of one latent and answers 12,288 bytes, one image, at once:
no model runs. Server and load generator have a core each.

    python -m benchmarks.call_cost
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
from concurrent import futures
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2 as pb

from benchmarks.load import Load, generator
from benchmarks.peers import infer_body
from benchmarks.serving import INFER, latents
from facegen.serving.rpc.call_server import CallServer
from facegen.serving.rpc.deferred import Metadata, Rpc, wait_for

IMAGE = bytes(64 * 64 * 3)
CLIENTS = (1, 8, 32)


def answer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Answer one image."""
    response = pb.ModelInferResponse(
        model_name="decoder", id=request.id, raw_output_contents=[IMAGE]
    )
    response.outputs.add(name="image", datatype="UINT8", shape=[1, 64, 64, 3])
    return response


class Deferred:
    """A method that is begun and answered in the thread that received its message."""

    blocking = False

    def refusal(self, metadata: Metadata) -> None:
        """Refuse no call."""

    def enter(self, metadata: Metadata) -> None:
        """Take every call."""

    def leave(self) -> None:
        """Count no calls."""

    def start(self, request: pb.ModelInferRequest, rpc: Rpc) -> None:
        """Answer at once."""
        rpc.answer(answer(request))

    def __call__(self, request: Any, context: Any) -> Any:
        """Answer where gRPC does not know `start`."""
        return wait_for(self, request, context)


def serve_threads(pipe: Connection) -> None:
    """Serve with the threaded server as it comes."""
    server = grpc.server(futures.ThreadPoolExecutor(32))
    _serve(server, lambda request, _context: answer(request), pipe)


def serve_deferred(pipe: Connection) -> None:
    """Serve with our loop on the threaded server's core."""
    _serve(CallServer(futures.ThreadPoolExecutor(32)), Deferred(), pipe)


def serve_asyncio(pipe: Connection) -> None:
    """Serve with grpc.aio."""

    async def method(request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        return answer(request)

    async def serve() -> None:
        server = grpc.aio.server()
        service, name = INFER.strip("/").split("/")
        handlers = grpc.method_handlers_generic_handler(service, {name: _handler(method)})
        server.add_generic_rpc_handlers((handlers,))
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await asyncio.to_thread(pipe.recv)
        await server.stop(0)

    asyncio.run(serve())


def _serve(server: Any, method: Any, pipe: Connection) -> None:
    service, name = INFER.strip("/").split("/")
    handlers = {name: _handler(method)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()
    server.stop(0).wait()


def _handler(method: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )


def _pinned(serve: Any, core: int, pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})
    serve(pipe)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.0)
    arguments = parser.parse_args()
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    context = multiprocessing.get_context("spawn")
    servers = {}
    for name, serve in {
        "grpc.aio": serve_asyncio,
        "threads": serve_threads,
        "deferred": serve_deferred,
    }.items():
        pipe, child = context.Pipe()
        process = context.Process(target=_pinned, args=(serve, server_core, child), daemon=True)
        process.start()
        servers[name] = (process, pipe, f"127.0.0.1:{pipe.recv()}")
    body = infer_body("decoder", 1, latents(1))
    table = Table("calls/s with so many clients", *map(str, CLIENTS))
    rates: dict[tuple[str, int], list[float]] = {}
    with generator(client_core) as clients:
        for window in range(arguments.windows + 1):  # the first warms up
            for count in CLIENTS:
                for name, (_, _, address) in servers.items():
                    load = Load(address, INFER, body, 1, arguments.window_s, count)
                    rate = clients.run(load).rate
                    if window:
                        rates.setdefault((name, count), []).append(rate)
    for name, (process, pipe, _) in servers.items():
        pipe.send(None)
        process.join()
        medians = [statistics.median(rates[name, count]) for count in CLIENTS]
        table.add_row(name, *(f"{rate:.0f}" for rate in medians))
    Console().print(table)


if __name__ == "__main__":
    main()
