"""What the doctor found, as values."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "GraphReport", "MachineReport", "Report", "Speed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that keeps a server from starting or serving well, or is worth knowing.

    Attributes:
        severity: `wrong` makes the exit code 1, `note` does not.
        problem: What it is.
        remedy: What to do.
    """

    severity: Literal["wrong", "note"]
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MachineReport:
    """What this process may use of the machine.

    Attributes:
        platform: Operating system and processor architecture.
        cpu: The processor's name.
        cpus_present: CPUs that run.
        cpus_allowed: Those of the affinity mask.
        cpu_quota: CPUs' time that the cgroup may use; None: no quota.
        threads: Threads that run models, from the CPUs available or as configured.
        memory_bytes: The machine's memory.
        memory_available_bytes: What of it can be had.
        memory_limit_bytes: What the cgroup may use; None: no limit.
        open_files: How many files and connections this process may open.
        gpus: NVIDIA's devices.
        providers: What the installed ONNX Runtime can run on.
        versions: Of the packages that serving uses, and Python's.
    """

    platform: str
    cpu: str
    cpus_present: int
    cpus_allowed: int
    cpu_quota: float | None
    threads: int
    memory_bytes: int
    memory_available_bytes: int
    memory_limit_bytes: int | None
    open_files: int
    gpus: tuple[str, ...]
    providers: tuple[str, ...]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a graph is.

    Attributes:
        rows: Rows of a request.
        rows_per_s: Rows a second in the graph, by one thread.
    """

    rows: int
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class GraphReport:
    """A version of a model.

    Attributes:
        name: The model's name.
        version: The version; empty if the model could not be read.
        state: As the repository's index names it; PASSED OVER if it is for another backend.
        reason: Why it does not serve, or could not be timed.
        max_batch_rows: The most rows that were executed at once; 0: none were.
        speeds: What was measured, by rows.
    """

    name: str
    version: str
    state: str
    reason: str
    max_batch_rows: int
    speeds: tuple[Speed, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        healthy: Whether nothing is wrong.
        machine: The machine.
        engine: What runs the models.
        settings: Every setting as resolved from flags and environment.
        changed: The settings that are not the defaults.
        graphs: The models.
        findings: What is wrong, or worth knowing.
    """

    healthy: bool
    machine: MachineReport
    engine: str
    settings: dict[str, object]
    changed: tuple[str, ...]
    graphs: tuple[GraphReport, ...]
    findings: tuple[Finding, ...]
