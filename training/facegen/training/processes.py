"""What the processes of one training share out: the rows of a batch, sums, and what they log.

With one process everything here is the identity, so that a model's code reads the same for any
number. Every process takes each n-th row of the whole batch and of its random numbers; n processes
then do together what one does alone.
"""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.autograd import Function
from torch.distributed import all_reduce, get_rank, get_world_size, is_available, is_initialized
from torch.utils.data import Sampler

from facegen.training.errors import ConfigurationError

__all__ = [
    "OwnRows",
    "SharedModule",
    "mean_over_processes",
    "own_rows",
    "process_count",
    "process_rank",
    "sum_over_processes",
]


def process_rank() -> int:
    """This process's number among those that train together, from 0."""
    return get_rank() if is_available() and is_initialized() else 0


def process_count() -> int:
    """How many processes train together."""
    return get_world_size() if is_available() and is_initialized() else 1


def own_rows(whole: Tensor, *, axis: int = 0) -> Tensor:
    """This process's share of something drawn for the whole batch.

    Args:
        whole: As many rows as all processes have together.
        axis: The axis of the rows.

    Returns:
        Rows r, r + n, r + 2 n … of process r among n.
    """
    count = process_count()
    if count == 1:
        return whole
    index = torch.arange(process_rank(), whole.shape[axis], count, device=whole.device)
    return whole.index_select(axis, index)


class _Sum(Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # Every process's result depends on every process's value alike.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        all_reduce(total)
        return total


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, which gradients go through."""
    if process_count() == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total


def mean_over_processes(mean: Tensor, *, rows: int) -> Tensor:
    """The mean over the whole batch, from every process's mean over its own rows.

    Args:
        mean: Of this process's rows.
        rows: How many those are.
    """
    if process_count() == 1:
        return mean
    counted = torch.stack([mean * rows, mean.new_tensor(float(rows))])
    total, count = sum_over_processes(counted).unbind()
    return total / count


class OwnRows(Sampler[list[int]]):
    """Every batch's rows of one process: r, r + n, r + 2 n … of its indices.

    Args:
        order: The whole batches, the same in every process.
        rank: The process's number, r.
        count: How many processes there are, n.

    Raises:
        ConfigurationError: A training batch cannot be shared evenly.
    """

    def __init__(self, order: Sampler[list[int]], *, rank: int, count: int) -> None:
        self.order = order
        self.rank = rank
        self.count = count
        run = getattr(order, "even_rows", None)
        if run is not None and run % count:
            raise ConfigurationError(
                "--devices",
                f"{count} processes cannot share a batch's {run} rows evenly; "
                f"change batch_size to a multiple of {count}, or the number of processes",
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)  # type: ignore[arg-type]  # ours have one

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.order:
            # A last batch to validate on may have fewer rows than there are processes: none of them
            # may be left without one.
            yield batch[self.rank :: self.count] or batch[-1:]


class SharedModule(LightningModule):
    """A LightningModule whose logged values are means over all processes."""

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Log as Lightning does; what an epoch's end shows is every process's."""
        if process_count() > 1:
            options["sync_dist"] = True
            if options.get("batch_size") is not None:
                options["batch_size"] = float(options["batch_size"])  # a mean of integers is cut
        super().log(name, value, *args, **options)
