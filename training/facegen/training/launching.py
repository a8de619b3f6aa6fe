"""Starts the processes of one training, and stops them all when one of them fails."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import (
    LightningEnvironment,
    find_free_network_port,
)
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import (
    ProcessException,
    ProcessExitedException,
    start_processes,
)

from facegen.training.errors import ConfigurationError, ProcessError, TrainingError

__all__ = ["Team"]

_GRACE_S = 5.0
"""For the processes that are left, when one has failed: they wait for it in vain."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together, one a device.

    torchrun and SLURM start their processes themselves, and then every one of them calls `start`.
    Otherwise it starts this machine's; with several machines, each is told with NODE_RANK which it
    is, and with MASTER_ADDR and MASTER_PORT where the first one is.

    Attributes:
        devices: Processes on each machine.
        num_nodes: Machines.
    """

    devices: int = 1
    num_nodes: int = 1

    @property
    def count(self) -> int:
        """Processes on all machines."""
        return self.devices * self.num_nodes

    def check(self, accelerator: str) -> None:
        """Refuse what cannot be started here.

        Args:
            accelerator: "cpu" or "cuda".

        Raises:
            ConfigurationError: Too many devices or none, or machines that do not know of each
                other.
        """
        for option, count in (("--devices", self.devices), ("--num-nodes", self.num_nodes)):
            if count < 1:
                raise ConfigurationError(option, f"{count} is less than 1")
        available = torch.cuda.device_count()
        if accelerator == "cuda" and self.devices > available:
            raise ConfigurationError(
                "--devices", f"{self.devices} GPUs were asked for, but PyTorch sees {available}"
            )
        missing = [n for n in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
        external = self.environment().creates_processes_externally
        if self.num_nodes > 1 and missing and not external:
            raise ConfigurationError(
                "--num-nodes",
                f"{self.num_nodes} machines need {', '.join(missing)} in the environment of each: "
                "its number from 0, and the first one's address and a free port there",
            )

    @property
    def started(self) -> bool:
        """Whether this process is one of those that train, and has to start none."""
        return self.devices == 1 or self.environment().creates_processes_externally

    def environment(self) -> ClusterEnvironment:
        """Who says which process this is: torchrun, SLURM, or this module."""
        for kind in (TorchElasticEnvironment, SLURMEnvironment):
            if kind.detect():
                return kind()
        return LightningEnvironment()

    def start(self, work: Callable[..., None], *args: Any, threads: int) -> None:
        """Do something in every process, and wait until all are done.

        Args:
            work: A module's function.
            args: Its arguments, which are pickled.
            threads: CPU threads of each process.

        Raises:
            TrainingError: As raised by the first process that failed; the others are stopped.
            ProcessError: One ended without a word; right when the reason is gone.
        """
        if self.started:
            work(*args)
            return
        environment = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": str(threads)}
        if self.num_nodes == 1:
            environment["MASTER_PORT"] = str(find_free_network_port())
        errors = get_context("spawn").SimpleQueue()
        told = (work, args, environment, errors)
        context = start_processes(_enter, told, self.devices, join=False)  # type: ignore[no-untyped-call]  # torch's
        try:
            while not context.join(grace_period=_GRACE_S):
                pass
        except ProcessException as error:
            # One that lost another in the middle of a sum may be seen to end before the other.
            if not errors.empty():
                raise errors.get() from None
            if not isinstance(error, ProcessExitedException):
                raise
            how = error.signal_name or f"with code {error.exit_code}"
            raise ProcessError(error.error_index, self.devices, how=how) from None
        finally:
            for process in context.processes:
                process.kill()


def _enter(
    local_rank: int,
    work: Callable[..., None],
    args: tuple[Any, ...],
    environment: Mapping[str, str],
    errors: Any,
) -> None:
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    os.environ["LOCAL_RANK"] = str(local_rank)
    try:
        work(*args)
    except TrainingError as error:
        errors.put(error)
        raise SystemExit(1) from None
