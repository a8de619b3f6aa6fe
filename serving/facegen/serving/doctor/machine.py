"""What this process may use of the machine."""

import os
import platform
import resource
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime

from facegen.serving.config import ServerConfig
from facegen.serving.doctor.report import MachineReport
from facegen.serving.onnx.cpus import available_cpu_count, cpu_quota
from facegen.serving.telemetry.machine import memory_bytes

__all__ = ["examine_machine", "memory_limit_bytes", "version_of"]

_PACKAGES = (
    "facegen", "onnxruntime", "onnxruntime-gpu", "grpcio", "protobuf", "tritonclient", "numpy",
)  # fmt: skip


def examine_machine(config: ServerConfig) -> MachineReport:
    """Look at the machine."""
    total, used = memory_bytes()
    versions = {name: found for name in _PACKAGES if (found := version_of(name))}
    return MachineReport(
        platform=platform.platform(terse=True),
        cpu=_cpu_name(),
        cpus_present=os.cpu_count() or 1,
        cpus_allowed=len(os.sched_getaffinity(0)),
        cpu_quota=cpu_quota(),
        threads=config.threads or available_cpu_count(),
        memory_bytes=total,
        memory_available_bytes=total - used,
        memory_limit_bytes=memory_limit_bytes(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        gpus=tuple(_gpus()),
        providers=tuple(onnxruntime.get_available_providers()),
        versions={"python": platform.python_version(), **versions},
    )


def version_of(package: str) -> str:
    """Give the version of an installed package; empty if it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def memory_limit_bytes(
    *,
    cgroup_root: Path = Path("/sys/fs/cgroup"),
    own_cgroup: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """Give the memory that the cgroup may use, version 2 or 1; None: no limit."""
    files = [cgroup_root / "memory.max", cgroup_root / "memory" / "memory.limit_in_bytes"]
    for line in _text(own_cgroup).splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            files.append(cgroup_root / group[1:] / "memory.max")
        elif "memory" in controllers.split(","):
            files.append(cgroup_root / "memory" / group[1:] / "memory.limit_in_bytes")
    limits = [int(text) for file in files if (text := _text(file).strip()).isdecimal()]
    # Version 1 writes a number larger than any memory for none.
    return min((limit for limit in limits if limit < 2**60), default=None)


def _cpu_name() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def _gpus(folder: Path = Path("/proc/driver/nvidia/gpus")) -> Iterator[str]:
    for file in sorted(folder.glob("*/information")):
        for line in _text(file).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                yield value.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another kernel, or not for this user
        return ""
