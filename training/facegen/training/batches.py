"""Batches of uint8 pictures: a seeded order, whole batches at once, no worker processes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facegen.training.randomness import generator, integers, uniform

__all__ = [
    "BalancedOrder",
    "BatchOrder",
    "WeightedOrder",
    "augment",
    "batch_loader",
    "column_loader",
]


class BatchOrder(Sampler[list[int]]):
    """Indices of each batch of an epoch, in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch` before every epoch, after a resume too.

    Args:
        count: Pictures in the data set.
        batch_size: Pictures in a batch, cut to the data set's size.
        seed: The run's seed; None keeps the data set's order and the last incomplete batch.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int | None) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.epoch = 0

    @property
    def even_rows(self) -> int | None:
        """Rows that processes have to share evenly; None where they need not."""
        return None if self.seed is None else self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.seed is None:
            return -(-self.count // self.batch_size)
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = torch.arange(self.count)
        else:
            order = torch.randperm(self.count, generator=generator(self.seed, "order", self.epoch))
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


class WeightedOrder(Sampler[list[int]]):
    """Indices of each batch of an epoch, drawn anew with weights; depends on (seed, epoch) alone.

    Args:
        weights: (N,): how often each picture is drawn, up to a factor; with replacement.
        batch_size: Pictures in a batch, cut to N.
        seed: The run's seed.
    """

    def __init__(self, weights: Tensor, batch_size: int, *, seed: int) -> None:
        self.weights = weights
        self.batch_size = min(batch_size, len(weights))
        self.seed = seed
        self.epoch = 0

    @property
    def even_rows(self) -> int | None:
        """Rows that processes have to share evenly."""
        return self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.weights) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        random = generator(self.seed, "order", self.epoch)
        count = len(self) * self.batch_size
        drawn = torch.multinomial(self.weights, count, replacement=True, generator=random)
        for start in range(0, count, self.batch_size):
            yield drawn[start : start + self.batch_size].tolist()


class BalancedOrder(Sampler[list[int]]):
    """Batches with as many pictures of every class, in equal runs in the classes' order.

    Each class goes round in its own shuffled order, so that all its pictures are seen equally
    often. A batch depends on (seed, epoch, its place in the epoch) alone.

    Args:
        classes: The indices of each class's pictures, at least one.
        batch_size: Pictures in a batch, cut to a multiple of the number of classes.
        steps: Batches in an epoch.
        seed: The run's seed.
    """

    def __init__(
        self, classes: Sequence[NDArray[np.int64]], batch_size: int, *, steps: int, seed: int
    ) -> None:
        self.classes = classes
        self.per_class = batch_size // len(classes)
        self.steps = steps
        self.seed = seed
        self.epoch = 0

    @property
    def even_rows(self) -> int | None:
        """Rows that processes have to share evenly: a class's, so that runs stay equal."""
        return self.per_class

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        first = self.epoch * self.steps * self.per_class
        rounds = [_Rounds(members, self.seed, str(k)) for k, members in enumerate(self.classes)]
        for start in range(first, first + self.steps * self.per_class, self.per_class):
            places = range(start, start + self.per_class)
            yield [members[place] for members in rounds for place in places]


class _Rounds:
    """An endless row of one class's pictures: all in one order, then all in another, and so on."""

    def __init__(self, members: NDArray[np.int64], seed: int, name: str) -> None:
        self.members = members
        self.seed = seed
        self.name = name
        self.number = -1
        self.order: list[int] = []

    def __getitem__(self, place: int) -> int:
        number, within = divmod(place, len(self.members))
        if number != self.number:
            random = generator(self.seed, f"round-{self.name}", number)
            shuffled = torch.randperm(len(self.members), generator=random).numpy()
            self.number, self.order = number, self.members[shuffled].tolist()
        return self.order[within]


class _Columns(Dataset[dict[str, Tensor]]):
    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self.columns = {name: torch.from_numpy(column) for name, column in columns.items()}

    def __getitem__(self, indices: list[int]) -> dict[str, Tensor]:
        return {name: column[indices] for name, column in self.columns.items()}


def column_loader(
    columns: Mapping[str, NDArray[Any]], order: Sampler[list[int]]
) -> DataLoader[dict[str, Tensor]]:
    """Load batches of several arrays by name, in this process.

    Args:
        columns: Arrays of equal length.
        order: Which rows make each batch.
    """
    return DataLoader(_Columns(columns), sampler=order, batch_size=None)


class _Pictures(Dataset[Tensor]):
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = torch.from_numpy(pixels)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self.pixels[indices]


def batch_loader(
    pixels: NDArray[np.uint8], batch_size: int, *, seed: int | None = None
) -> DataLoader[Tensor]:
    """Load batches (B, H, W, C) uint8 from an array.

    Args:
        pixels: (N, H, W, C) uint8, in memory or mapped from disk.
        batch_size: Pictures in a batch.
        seed: Shuffles and drops the last incomplete batch; None does neither.

    Returns:
        A loader in this process: indexing an array is far cheaper than a training step.
    """
    order = BatchOrder(len(pixels), batch_size, seed=seed)
    return DataLoader(_Pictures(pixels), sampler=order, batch_size=None)


def augment(pictures: Tensor, *, flip: bool, shift_px: int, random: torch.Generator) -> Tensor:
    """Mirror half of a batch and move each picture a little.

    Args:
        pictures: (B, H, W, C) uint8.
        flip: Mirror each picture with probability one half.
        shift_px: Most pixels to move along each axis; edges are repeated.
        random: Decides; on the pictures' device.

    Returns:
        (B, H, W, C) uint8.
    """
    count, height, width, _ = pictures.shape
    device = pictures.device
    if flip:
        mirrored = uniform(count, random=random) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(2), pictures)
    if shift_px:
        shifts = integers(-shift_px, shift_px + 1, 2, count, 1, random=random, axis=1)
        rows = (torch.arange(height, device=device) + shifts[0]).clamp(0, height - 1)  # (B, H)
        columns = (torch.arange(width, device=device) + shifts[1]).clamp(0, width - 1)  # (B, W)
        which = torch.arange(count, device=device)[:, None, None]
        pictures = pictures[which, rows[:, :, None], columns[:, None, :]]
    return pictures
