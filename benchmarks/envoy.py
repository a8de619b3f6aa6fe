"""What Envoy costs in front of three replicas: as many callers through it, and to them directly.

    python -m benchmarks.envoy --rounds 8

Windows of both ways take turns. Twice: with the replicas on one core, Envoy and the load on the
other; and with everything on both. What is lost when replicas come and go: `envoy_faults`.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Generator, Load, Outcome, generator
from benchmarks.replicas import Envoy, Replica, envoy, replicas, wait_until
from benchmarks.rollout import copy_families
from facegen.v1 import face_service_pb2, image_pb2

REPLICAS = 3
FAMILY = "celeba-vae"
GENERATE = "/facegen.v1.FaceService/Generate"
# Calls under way, and faces of each.
SHAPES = ((6, 1), (24, 1), (24, 16))


@dataclass(frozen=True, slots=True)
class Window:
    """A moment of one way to the replicas.

    Attributes:
        rate: Calls a second.
        p50_ms: The median latency.
        p99_ms: The 99th percentile.
        cpu_ms: Processor time for a call, of the replicas, of Envoy, and of the load.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured with.

    Attributes:
        replicas: The replicas.
        front: The Envoy before them.
        loads: As many load generators as replicas.
    """

    replicas: list[Replica]
    front: Envoy
    loads: list[Generator]

    def window(self, addresses: Sequence[str], clients: int, faces: int, seconds: float) -> Window:
        """Send calls to some addresses for so many seconds, a third of the clients to each."""
        png = image_pb2.ImageFormat(mime_type="image/png")
        request = face_service_pb2.GenerateRequest(
            count=faces, seed=7, family=FAMILY, format=png
        ).SerializeToString()
        parts = [
            Load(address, GENERATE, request, faces, seconds, clients // len(addresses))
            for address in addresses
        ]
        before = self._cpu_s()
        with ThreadPoolExecutor(len(parts)) as threads:
            outcomes = list(threads.map(_run, self.loads, parts))
        used = [after - earlier for after, earlier in zip(self._cpu_s(), before, strict=True)]
        whole = _joined(outcomes)
        calls = len(whole.latencies_s)
        assert set(whole.codes) == {"OK"}, whole.codes
        replicas_ms, envoy_ms, load_ms = (1e3 * seconds / calls for seconds in used)
        return Window(
            sum(len(outcome.latencies_s) / outcome.seconds for outcome in outcomes),
            whole.percentile_ms(50),
            whole.percentile_ms(99),
            (replicas_ms, envoy_ms, load_ms),
        )

    def _cpu_s(self) -> list[float]:
        groups = (
            [replica.process.pid for replica in self.replicas],
            [self.front.process.pid],
            [process.pid for process in multiprocessing.active_children() if process.pid],
        )
        return [sum(map(_cpu_s, pids)) for pids in groups]


def _run(clients: Generator, load: Load) -> Outcome:
    return clients.run(load)


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    whole = Outcome()
    for outcome in outcomes:
        whole.latencies_s += outcome.latencies_s
        whole.codes += outcome.codes
    return whole


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def bench(repository: Path, folder: Path, *, apart: bool) -> Iterator[Bench]:
    """Start everything: the replicas on one core and the rest on the other, or all on both."""
    server_core, other_core = sorted(os.sched_getaffinity(0))[:2]
    quiet = ("--log-level", "warning")
    cores = (server_core,) if apart else (None,)
    with ExitStack() as stack:
        started = stack.enter_context(
            replicas(repository, REPLICAS, folder=folder, flags=quiet, cores=cores)
        )
        front = stack.enter_context(
            envoy(
                [replica.port for replica in started],
                folder=folder,
                concurrency=1 if apart else 2,
                core=other_core if apart else None,
            )
        )
        wait_until(lambda: len(front.healthy_ports()) == REPLICAS, "all being healthy")
        loads = [
            stack.enter_context(generator(other_core if apart or number % 2 else server_core))
            for number in range(REPLICAS)
        ]
        yield Bench(started, front, loads)


def race(repository: Path, folder: Path, arguments: argparse.Namespace, *, apart: bool) -> None:
    """Measure both ways in turns, and print."""
    title = "replicas on one core, Envoy and load on the other" if apart else "all on two cores"
    table = Table(title=title)
    for heading in (
        "clients × faces", "direct, calls/s", "Envoy, calls/s", "ratio", "of each round",
        "p50, p99 direct, ms", "p50, p99 Envoy, ms",
        "CPU of a call, ms: replicas, Envoy, load", "the same, direct",
    ):  # fmt: skip
        table.add_column(heading)
    with bench(repository, folder, apart=apart) as running:
        direct = [replica.address for replica in running.replicas]
        ways = {"direct": direct, "envoy": [running.front.address] * REPLICAS}
        for clients, faces in SHAPES:
            found: dict[str, list[Window]] = {name: [] for name in ways}
            for number in range(arguments.rounds + 1):
                for name, addresses in ways.items():
                    window = running.window(addresses, clients, faces, arguments.window_s)
                    if number:  # the first opens connections
                        found[name].append(window)
            _add_row(table, f"{clients} × {faces}", found["direct"], found["envoy"])
    Console(width=200).print(table)


def _add_row(table: Table, shape: str, direct: list[Window], fronted: list[Window]) -> None:
    ratios = [there.rate / here.rate for here, there in zip(direct, fronted, strict=True)]
    rates, latencies, costs = [], [], []
    for windows in (direct, fronted):
        rates.append(f"{statistics.median(window.rate for window in windows):.0f}")
        p50_ms = statistics.median(window.p50_ms for window in windows)
        p99_ms = statistics.median(window.p99_ms for window in windows)
        latencies.append(f"{p50_ms:.1f}, {p99_ms:.1f}")
        parts = zip(*(window.cpu_ms for window in windows), strict=True)
        costs.append(", ".join(f"{statistics.median(part):.2f}" for part in parts))
    table.add_row(
        shape, *rates, f"{statistics.median(ratios):.2f}",
        " ".join(f"{ratio:.2f}" for ratio in ratios), *latencies, costs[1], costs[0],
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--window-s", type=float, default=2.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = copy_families(arguments.models, folder / "models", FAMILY)
        for apart in (True, False):
            race(repository, folder, arguments, apart=apart)


if __name__ == "__main__":
    main()
