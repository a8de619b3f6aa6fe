"""A load generator for gRPC servers, in a process and on a core of its own.

Requests are sent as bytes that were made before, and answers are not parsed: it takes about 0.1 ms
of its core a call.
"""

import asyncio
import multiprocessing
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio

# The stubs have no type for it that exists at run time.
_Method = Any

__all__ = ["Load", "Outcome", "generator"]


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        address: The server.
        method: The method's full name.
        body: The request's bytes.
        images: Images an answer holds.
        seconds: For how long to send.
        clients: How many connections.
        rate: Calls a second, evenly spaced over all connections (open loop); 0: every client sends
            its next call when it has its answer (closed loop).
        timeout_s: Each call's deadline; None: without.
    """

    address: str
    method: str
    body: bytes
    images: int
    seconds: float
    clients: int
    rate: float = 0.0
    timeout_s: float | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: How long it took, the last answers included.
        images: Images answered.
        latencies_s: Of the calls that were answered.
        refusals_s: The latencies of those that got RESOURCE_EXHAUSTED or UNAVAILABLE.
        codes: Calls by status.
    """

    seconds: float = 0.0
    images: int = 0
    latencies_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the answered calls' latencies, milliseconds."""
        return percentile(self.latencies_s, percent) * 1_000


def percentile(values: list[float], percent: int) -> float:
    """A percentile, 1 to 99; NaN of nothing."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@contextmanager
def generator(core: int) -> Iterator["Generator"]:
    """A load generator in a process of its own, pinned to a core."""
    context = multiprocessing.get_context("spawn")
    pipe, child = context.Pipe()
    process = context.Process(target=_serve_orders, args=(core, child), daemon=True)
    process.start()
    try:
        yield Generator(pipe)
    finally:
        pipe.send(None)
        process.join()


class Generator:
    """The load generator, seen from the process that orders."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def run(self, load: Load) -> Outcome:
        """Send a load and wait for what comes of it."""
        self._pipe.send(load)
        outcome: Outcome = self._pipe.recv()
        return outcome


def _serve_orders(core: int, pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})
    asyncio.run(_serve_loads(pipe))


async def _serve_loads(pipe: Connection) -> None:
    channels: dict[tuple[str, int], grpc.aio.Channel] = {}
    while (load := await asyncio.to_thread(pipe.recv)) is not None:
        for client in range(load.clients):
            key = (load.address, client)
            if key not in channels:
                channels[key] = grpc.aio.insecure_channel(load.address, options=_OPTIONS)
        chosen = [channels[load.address, client] for client in range(load.clients)]
        pipe.send(await (_open_loop if load.rate else _closed_loop)(load, chosen))
    for channel in channels.values():
        await channel.close()


_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection each, as separate clients have
    ("grpc.max_receive_message_length", -1),
]


async def _closed_loop(load: Load, channels: list[grpc.aio.Channel]) -> Outcome:
    outcome = Outcome()
    start = time.perf_counter()
    end = start + load.seconds

    async def client(channel: grpc.aio.Channel) -> None:
        method: _Method = channel.unary_unary(load.method)
        while time.perf_counter() < end:
            await _call(load, method, outcome)

    await asyncio.gather(*(client(channel) for channel in channels))
    outcome.seconds = time.perf_counter() - start
    return outcome


async def _open_loop(load: Load, channels: list[grpc.aio.Channel]) -> Outcome:
    outcome = Outcome()
    methods: list[_Method] = [channel.unary_unary(load.method) for channel in channels]
    start = time.perf_counter()
    calls: set[asyncio.Task[None]] = set()
    for number in range(round(load.rate * load.seconds)):
        # A generator that falls behind sends at once: the calls come late, none is left out.
        delay = start + number / load.rate - time.perf_counter()
        await asyncio.sleep(max(0.0, delay))
        task = asyncio.create_task(_call(load, methods[number % len(methods)], outcome))
        calls.add(task)
        task.add_done_callback(calls.discard)
    outcome.seconds = time.perf_counter() - start
    if calls:
        await asyncio.wait(calls)
    return outcome


async def _call(load: Load, method: _Method, outcome: Outcome) -> None:
    start = time.perf_counter()
    try:
        await method(load.body, timeout=load.timeout_s)
    except grpc.aio.AioRpcError as error:
        code = error.code()
        outcome.codes[code.name] += 1
        if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
            outcome.refusals_s.append(time.perf_counter() - start)
        return
    outcome.latencies_s.append(time.perf_counter() - start)
    outcome.codes["OK"] += 1
    outcome.images += load.images
