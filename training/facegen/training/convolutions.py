"""A convolution whose weights' gradient is quick where pictures have become tiny."""

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input

__all__ = ["Convolution"]

_TINY_PX = 16
"""Of an output. PyTorch's CPU kernel goes through the weights' gradient, megabytes of a wide layer,
once a picture; with so few positions in each, that is most of its time."""


class Convolution(nn.Conv2d):
    """nn.Conv2d without bias, groups and dilation, of square kernel, stride and padding.

    While it trains on a CPU, and its outputs are tiny, it makes its weights' gradient as one
    convolution over the batch: of inputs with gradients, where pictures are what channels are
    elsewhere. The gradient is the same up to the order of float sums.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        assert isinstance(padding, int)
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
        if not self.training or x.device.type != "cpu" or height * width > _TINY_PX:
            return super().forward(x)
        y: Tensor = _Convolve.apply(x, self.weight, stride, padding)
        return y


class _Convolve(Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        y = conv2d(x, weight, stride=stride, padding=padding)
        context.save_for_backward(x.to(y.dtype), weight)  # autocast may have made it bfloat16
        context.stride, context.padding, context.dtype = stride, padding, x.dtype
        return y

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        (gradient,) = gradients
        x, weight = context.saved_tensors
        stride, padding = context.stride, context.padding
        of_x = None
        if context.needs_input_grad[0]:
            narrow = weight.to(gradient.dtype)
            of_x = conv2d_input(x.shape, narrow, gradient, stride, padding)  # type: ignore[no-untyped-call]  # torch's
            of_x = of_x.to(context.dtype)
        side = weight.shape[-1]
        of_weight = conv2d(
            x.transpose(0, 1), gradient.transpose(0, 1), padding=padding, dilation=stride
        )  # (C_in, C_out, K or more, K or more)
        of_weight = of_weight[..., :side, :side].transpose(0, 1)
        return of_x, of_weight.to(weight.dtype), None, None
