"""Load by the clock: 0.7, two and four times capacity, each call with a deadline of a second.

Goodput is what was answered in time, as a share of capacity; it is measured first, with calls in a
closed loop. After the flood the load falls to half of capacity, and the time until calls are
answered as fast as before counts as recovery.

    python -m benchmarks.overload --rows 16 --seconds 30
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Generator, Load, Outcome, generator, percentile
from benchmarks.peers import Server, Start, facegen_server, infer_body, triton, write_repository
from benchmarks.serving import INFER, latents

DEADLINE_S = 1.0
# In capacities; at the first nothing should be refused, and waiting be short.
LOADS = (0.7, 2, 4)
# Triton refuses when so many requests wait; without it none is refused.
TRITON_QUEUE = (
    "default_queue_policy {{ max_queue_size: {calls} default_timeout_microseconds: 1000000 "
    "timeout_action: REJECT }}"
)


@dataclass(frozen=True, slots=True)
class Flood:
    """One server under one load.

    Attributes:
        name: The server.
        factor: The load, in capacities.
        capacity: Images a second in a closed loop.
        outcome: What came of the flood.
        recovery_s: The last tenth of a second after it in which calls were slow or failed.
    """

    name: str
    factor: float
    capacity: float
    outcome: Outcome
    recovery_s: float


@contextmanager
def servers(arguments: argparse.Namespace, core: int) -> Iterator[dict[str, Server]]:
    """Our server, Triton as it comes, and Triton with a bounded queue, on the same graph."""
    graph = arguments.models / "celeba-vae-decoder" / "1" / "model.onnx"
    start = Start(core, "decoder", latents(1))
    bounded = TRITON_QUEUE.format(calls=max(1, 800 // arguments.rows))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = write_repository(graph, folder / "facegen")
        found = {"facegen": stack.enter_context(facegen_server(repository, start))}
        if not arguments.alone:
            for name, batching, where in (
                ("Triton 2.51", "", "triton"),
                ("Triton 2.51, bounded queue", bounded, "bounded"),
            ):
                found[name] = stack.enter_context(
                    triton(graph, folder / where, start, batching=batching)
                )
        yield found


def flood(clients: Generator, name: str, load: Load, *, factor: float, seconds: float) -> Flood:
    """Measure capacity, flood, and watch the recovery."""
    closed = [clients.run(replace(load, seconds=2.0, timeout_s=None)) for _ in range(4)]
    capacity = statistics.median(outcome.rate for outcome in closed[1:])
    calls_a_second = capacity / load.images
    outcome = clients.run(replace(load, seconds=seconds, rate=factor * calls_a_second))
    recovery_s = 0.0
    for tenth in range(20):
        after = clients.run(replace(load, seconds=0.1, rate=0.5 * calls_a_second))
        if set(after.codes) != {"OK"} or after.percentile_ms(99) > 250:
            recovery_s = (tenth + 1) / 10
    return Flood(name, factor, capacity, outcome, recovery_s)


def main() -> None:
    """Flood and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--alone", action="store_true", help="our server only")
    arguments = parser.parse_args()
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    body = infer_body("decoder", arguments.rows, latents(arguments.rows))
    floods = []
    with servers(arguments, server_core) as found, generator(client_core) as clients:
        for factor in LOADS:
            for name, server in found.items():
                load = Load(
                    server.address, INFER, body, arguments.rows, 1.0, arguments.connections,
                    timeout_s=DEADLINE_S,
                )  # fmt: skip
                floods.append(flood(clients, name, load, factor=factor, seconds=arguments.seconds))
    _print(floods)


def _print(floods: list[Flood]) -> None:
    table = Table()
    for heading in (
        "", "load", "capacity, images/s", "goodput", "accepted p50, p99, ms", "refused",
        "refusals p50, p99, ms", "recovery, s", "codes",
    ):  # fmt: skip
        table.add_column(heading)
    for flooded in floods:
        outcome = flooded.outcome
        refusals = [1e3 * percentile(outcome.refusals_s, share) for share in (50, 99)]
        table.add_row(
            flooded.name, f"{flooded.factor:g} ×", f"{flooded.capacity:.0f}",
            f"{outcome.rate / flooded.capacity:.2f}",
            f"{outcome.percentile_ms(50):.0f}, {outcome.percentile_ms(99):.0f}",
            f"{len(outcome.refusals_s) / max(1, outcome.codes.total()):.0%}",
            f"{refusals[0]:.1f}, {refusals[1]:.1f}", f"{flooded.recovery_s:.1f}",
            " ".join(f"{code} {count}" for code, count in sorted(outcome.codes.items())),
        )  # fmt: skip
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
