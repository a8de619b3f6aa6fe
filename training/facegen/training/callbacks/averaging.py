"""An exponential moving average of the weights, used to validate, to draw and in the end."""

from collections.abc import Callable

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["MovingAverage"]


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging with a decay that grows to its final value.

    The decay at step n is min(decay, (1 + n) / (10 + n)), so that the first epochs' averages are
    of use.

    Args:
        decay: The final decay, in [0, 1); 0 keeps the plain weights.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_warmed_up(decay))


def _warmed_up(
    decay: float,
) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # all of one call have one type
            for mean, value in zip(averaged, current, strict=True):
                mean.copy_(value)  # counts and indices have no average
            return
        grown = (1 + int(count)) / (10 + int(count))
        average = get_ema_multi_avg_fn(min(decay, grown))  # type: ignore[no-untyped-call]  # torch's
        average(averaged, current, count)

    return update
