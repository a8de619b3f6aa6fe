"""What can be wrong with a machine and with the settings, and what to do about it."""

import os
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from facegen.errors import FacegenError
from facegen.serving.config import ServerConfig
from facegen.serving.doctor.machine import version_of
from facegen.serving.doctor.report import Finding, GraphReport, MachineReport
from facegen.serving.onnx.sessions import check_device

__all__ = ["as_finding", "check_graphs", "check_machine", "check_packages"]

_EXTRAS = ("", "serving-base", "serve", "serve-gpu")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
# The interpreter, the libraries and a small model take about 200 MB.
_MIN_MEMORY_BYTES = 500 * 1024 * 1024
# Beside connections: libraries, models, logs.
_OWN_FILES = 100


def as_finding(error: FacegenError) -> Finding:
    """Take an error of ours apart, whose message is `problem; remedy`."""
    problem, _, remedy = str(error).partition("; ")
    return Finding("wrong", problem, remedy)


def check_packages(requirements: Iterable[str] | None = None) -> Iterator[Finding]:
    """Check the versions of what serving needs.

    Args:
        requirements: Lines as in `pyproject.toml`; None: the distribution's own.
    """
    if all(version_of(name) for name in _RUNTIMES):
        yield Finding(
            "wrong",
            "onnxruntime and onnxruntime-gpu are both installed, and hide each other's providers",
            "pip uninstall both, then install facegen[serve] or facegen[serve-gpu]",
        )
    lines = requires("facegen") if requirements is None else requirements
    for line in sorted(lines or ()):
        requirement = Requirement(line)
        if not _is_for_serving(requirement) or requirement.name == "facegen":
            continue
        found = version_of(requirement.name)
        if found and not requirement.specifier.contains(found, prereleases=True):
            yield Finding(
                "wrong",
                f"{requirement.name} {found} is installed, facegen needs {requirement.specifier}",
                f'pip install "{requirement.name}{requirement.specifier}"',
            )


def _is_for_serving(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS)


def check_machine(config: ServerConfig, machine: MachineReport) -> Iterator[Finding]:
    """Check the machine against the settings."""
    yield from _check_device(config, machine)
    yield from _check_cpus(machine)
    yield from _check_memory(machine)
    if machine.open_files < config.max_concurrent_calls + _OWN_FILES:
        yield Finding(
            "wrong",
            f"{machine.open_files} files may be open, fewer than {config.max_concurrent_calls} "
            f"calls at a time and {_OWN_FILES} of the server's own",
            f"ulimit -n {2 * (config.max_concurrent_calls + _OWN_FILES)}, or a lower "
            "--max-concurrent-calls",
        )
    if config.shared_memory and not os.access("/dev/shm", os.R_OK | os.W_OK):
        yield Finding(
            "wrong", "/dev/shm cannot be written", "mount it, or leave --shared-memory out"
        )
    yield from _check_clock(time.time())


def check_graphs(graphs: Iterable[GraphReport], *, probed: bool) -> Iterator[Finding]:
    """Check that every model serves, and that it ran where it was to be timed."""
    for graph in graphs:
        name = f'model "{graph.name}"' + (f" version {graph.version}" if graph.version else "")
        problem, _, remedy = graph.reason.partition("; ")
        if graph.state == "PASSED OVER":
            yield Finding("note", f"{name} is passed over: {problem}", remedy)
        elif graph.state != "READY":
            yield Finding("wrong", f"{name} does not serve: {problem}", remedy or "export it again")
        elif probed and not graph.speeds:
            yield Finding("note", f"{name} was not timed: {problem}", remedy or "no harm")


def _check_device(config: ServerConfig, machine: MachineReport) -> Iterator[Finding]:
    if config.engine.startswith("onnx:"):
        try:
            check_device(config.device)
        except FacegenError as error:
            yield as_finding(error)
            return
    if machine.gpus and config.device == "cpu":
        yield Finding(
            "note",
            f"{machine.gpus[0]} is here, and models run on the CPU",
            "pip install 'facegen[serve-gpu]' in place of facegen[serve], then --device cuda",
        )


def _check_cpus(machine: MachineReport) -> Iterator[Finding]:
    quota = machine.cpu_quota
    if quota is not None and quota < 1:
        yield Finding(
            "wrong",
            f"the cgroup's quota is {quota:g} CPUs: every call stops and waits for the next period",
            "give the container at least 1 CPU",
        )
    elif quota is not None and quota != int(quota) and quota < machine.cpus_allowed:
        yield Finding(
            "note",
            f"the cgroup's quota is {quota:g} CPUs, and the last of {machine.threads} threads "
            "is throttled",
            "give the container whole CPUs for an even latency",
        )
    usable = machine.cpus_allowed if quota is None else min(quota, machine.cpus_allowed)
    if machine.threads > max(1, -(-usable // 1)):
        yield Finding(
            "wrong",
            f"{machine.threads} threads run models on {usable:g} CPUs and wait for each other",
            "leave --threads out",
        )


def _check_memory(machine: MachineReport) -> Iterator[Finding]:
    available = machine.memory_available_bytes
    if machine.memory_limit_bytes is not None:
        available = min(available, machine.memory_limit_bytes)
    if available < _MIN_MEMORY_BYTES:
        yield Finding(
            "wrong",
            f"{available / 2**20:.0f} MiB of memory can be had, a server needs "
            f"{_MIN_MEMORY_BYTES / 2**20:.0f} and its models",
            "free some, or raise the container's limit",
        )


def _check_clock(now_s: float) -> Iterator[Finding]:
    # No file of the package was written in the future.
    if now_s < Path(__file__).stat().st_mtime:
        yield Finding(
            "wrong",
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now_s))}, a time before this "
            "package was installed: certificates and tokens will be refused",
            "set it, by NTP best",
        )
