"""Batch normalisation over the rows of all processes, where PyTorch has none: on the CPU."""

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn

from facegen.training.processes import process_count, sum_over_processes

__all__ = ["SharedNorms"]


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """Normalises with the statistics of the whole batch, as one process would."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W); gradients reach the other processes' rows."""
        if not self.training or process_count() == 1:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None, "no cumulative averages here"
        count = sum_over_processes(x.new_tensor(float(x.numel() // x.shape[1])))
        mean = sum_over_processes(x.sum((0, 2, 3))) / count
        away = x - mean[:, None, None]
        variance = sum_over_processes(away.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return away * scale[:, None, None] + self.bias[:, None, None]


class SharedNorms(LayerSync):
    """Lightning's plugin that lets every BatchNorm2d of a model see the rows of all processes."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the layers in place; weights and their names stay."""
        for layer in model.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = _SharedBatchNorm2d
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Change them back."""
        for layer in model.modules():
            if type(layer) is _SharedBatchNorm2d:
                layer.__class__ = nn.BatchNorm2d  # type: ignore[assignment]  # as it was
        return model
