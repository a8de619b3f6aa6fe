"""Random numbers that depend on (seed, purpose, step) alone, so that a resumed run repeats them."""

import numpy as np
import torch

__all__ = ["generator"]


def generator(
    seed: int, purpose: str, step: int, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose at one step of a run.

    Args:
        seed: The run's seed.
        purpose: What the numbers are for; different purposes get independent numbers.
        step: The step or epoch.
        device: Where the numbers are drawn; each kind of device has its own sequence.

    Returns:
        A fresh generator; nothing else shares its state.
    """
    entropy = [seed, int.from_bytes(purpose.encode()), step]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))
