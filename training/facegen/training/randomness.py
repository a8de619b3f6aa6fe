"""Random numbers that depend on (seed, purpose, step) alone, so that a resumed run repeats them."""

import numpy as np
import torch
from torch import Tensor

from facegen.training.processes import own_rows, process_count, process_rank

__all__ = ["generator", "integers", "normal", "uniform"]


def generator(
    seed: int,
    purpose: str,
    step: int,
    *,
    device: torch.device | str = "cpu",
    apart: bool = False,
) -> torch.Generator:
    """A generator for one purpose at one step of a run.

    Args:
        seed: The run's seed.
        purpose: What the numbers are for; different purposes get independent numbers.
        step: The step or epoch.
        device: Where the numbers are drawn; each kind of device has its own sequence.
        apart: Give every process of the training numbers of its own, for draws that `uniform` and
            `normal` do not make.

    Returns:
        A fresh generator; nothing else shares its state.
    """
    entropy = [seed, int.from_bytes(purpose.encode()), step]
    if apart and process_rank():
        entropy.append(process_rank())
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))


def uniform(*shape: int, random: torch.Generator, axis: int = 0) -> Tensor:
    """Draw from [0, 1) for every row of the whole batch, and keep this process's.

    Args:
        shape: Of what this process keeps.
        random: Decides; the same in every process.
        axis: The axis of the rows.

    Returns:
        float32 on the generator's device.
    """
    whole = torch.rand(_whole(shape, axis), generator=random, device=random.device)
    return own_rows(whole, axis=axis)


def normal(*shape: int, random: torch.Generator, axis: int = 0) -> Tensor:
    """Draw from N(0, 1); arguments and result as for `uniform`."""
    whole = torch.randn(_whole(shape, axis), generator=random, device=random.device)
    return own_rows(whole, axis=axis)


def integers(low: int, high: int, *shape: int, random: torch.Generator, axis: int = 0) -> Tensor:
    """Draw from low, low + 1 … high - 1; other arguments and result as for `uniform`, but int64."""
    whole = torch.randint(low, high, _whole(shape, axis), generator=random, device=random.device)
    return own_rows(whole, axis=axis)


def _whole(shape: tuple[int, ...], axis: int) -> list[int]:
    return [side * process_count() if i == axis else side for i, side in enumerate(shape)]
