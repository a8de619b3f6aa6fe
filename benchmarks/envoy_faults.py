"""What is lost behind Envoy while three replicas are killed, restarted and given new versions.

    python -m benchmarks.envoy_faults --cycles 3

Full load by the client's own calls with its default retries; every answer is compared with that of
a server without load. The replicas have one core, Envoy and the callers the other.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.envoy import FAMILY, REPLICAS
from benchmarks.replicas import Envoy, Replica, envoy, replicas, wait_until
from benchmarks.rollout import copy_families, keep_versions, roll_out
from benchmarks.traffic import (
    Answer,
    Job,
    Record,
    drawing,
    reference,
    streaming,
    traffic,
    transferring,
)
from facegen.client import Client

EXPRESSIONS = "fer-expressions"
FLAGS = ("--model-control", "poll", "--poll-s", "1", "--drain-delay-s", "5")
PHOTO = Path(__file__).parents[1] / "docs" / "pictures" / "astronaut.jpg"
# Of all calls that reach it, and of those that it makes again.
CALLS, RETRIES = "http.grpc.downstream_rq_total", "cluster.facegen.upstream_rq_retry"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one repository behind an Envoy, and what may happen to them."""

    repository: Path
    replicas: list[Replica]
    front: Envoy

    def wait_until_healthy(self) -> None:
        """Wait until Envoy sends calls to all."""
        ports = {replica.port for replica in self.replicas}
        wait_until(lambda: self.front.healthy_ports() == ports, "all being healthy")

    def kill(self, cycles: int) -> None:
        """Kill each replica (SIGKILL) and start it again, so many times."""
        for replica in self.replicas * cycles:
            replica.kill()
            replica.restart()
            self.wait_until_healthy()

    def restart(self) -> None:
        """End each replica (SIGTERM) and start it again."""
        for replica in self.replicas:
            replica.terminate()
            replica.restart()
            self.wait_until_healthy()

    def roll_out(self, version: str) -> None:
        """Give all a new version."""
        roll_out(self.repository, FAMILY, version, make=lambda _, graph: graph)
        wait_until(lambda: self._versions() == {version}, "the new version")

    def _versions(self) -> set[str]:
        versions = set()
        for replica in self.replicas:
            with Client(replica.address) as client:
                versions.add(client.model(FAMILY).version)
        return versions


def jobs() -> list[Job]:
    """Single faces by most callers; many faces, streams and expressions by some."""
    single = [drawing(FAMILY, 1, mime_type="image/png")] * 6
    many = [drawing(FAMILY, 16, mime_type="image/png")] * 2
    return [*single, *many, streaming(FAMILY, 500), transferring(PHOTO, family=EXPRESSIONS)]


def during(happen: Callable[[], None], fleet: Fleet, callers: list[Job]) -> tuple[Record, int, int]:
    """Have full load while something happens.

    Returns:
        What came of it; calls repeated by Envoy; calls repeated by the clients.
    """
    calls, retries = fleet.front.count(CALLS), fleet.front.count(RETRIES)
    with traffic(fleet.front.address, callers) as record:
        time.sleep(1)
        happen()
        time.sleep(1)
    made = len(record.answers) + len(record.failures)
    by_envoy = fleet.front.count(RETRIES) - retries
    return record, by_envoy, fleet.front.count(CALLS) - calls - made


def run(fleet: Fleet, cycles: int) -> Table:
    """Let one thing happen after another."""
    table = Table()
    for heading in (
        "", "seconds", "calls", "failed", "wrong", "repeated by Envoy", "by clients",
        "longest without an answer, s", "longest call, s", "p50 of calls, ms",
    ):  # fmt: skip
        table.add_column(heading)
    callers = jobs()
    right: set[Answer] = reference(fleet.replicas[0].address, callers)

    def restart_and_roll_out() -> None:
        fleet.restart()
        fleet.roll_out("3")
        fleet.restart()

    for name, happen in (
        ("nothing", lambda: time.sleep(10)),
        (f"kill -9 of each replica, {cycles} times", lambda: fleet.kill(cycles)),
        ("a new version", lambda: fleet.roll_out("2")),
        ("each replica restarted, a new version, each restarted again", restart_and_roll_out),
        ("Envoy restarted", fleet.front.restart),
    ):
        record, by_envoy, by_clients = during(happen, fleet, callers)
        right |= reference(fleet.replicas[0].address, callers)
        counted = not name.startswith("Envoy")  # its counts begin anew with it
        table.add_row(
            name, f"{record.duration_s():.0f}", str(len(record.answers) + len(record.failures)),
            str(len(record.failures)), str(len(record.wrong(right))),
            str(by_envoy) if counted else "", str(by_clients) if counted else "",
            f"{record.longest_gap_s():.2f}", f"{max(record.seconds):.2f}",
            f"{1e3 * statistics.median(record.seconds):.1f}",
        )  # fmt: skip
        for failure in record.failures[:3]:
            print(failure)
    return table


def main() -> None:
    """Let it happen and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--cycles", type=int, default=3)
    arguments = parser.parse_args()
    server_core, other_core = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {other_core})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = copy_families(arguments.models, folder / "models", FAMILY, EXPRESSIONS)
        keep_versions(repository, 2)
        with (
            replicas(
                repository, REPLICAS, folder=folder, flags=FLAGS, cores=(server_core,)
            ) as started,
            envoy(
                [replica.port for replica in started], folder=folder, concurrency=1, core=other_core
            ) as front,
        ):
            fleet = Fleet(repository, started, front)
            fleet.wait_until_healthy()
            table = run(fleet, arguments.cycles)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
