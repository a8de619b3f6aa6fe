import pytest
import torch
from torch import Tensor, nn

from facegen.training.convolutions import Convolution


def gradients(layer: nn.Module, x: Tensor, *, bf16: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(x)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    assert isinstance(layer.weight, Tensor)
    return y.detach(), *torch.autograd.grad((y.float() * weights).sum(), [x, layer.weight])


def both(kernel: int, stride: int, padding: int) -> tuple[Convolution, nn.Conv2d]:
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "bias": False}
    own, plain = Convolution(6, 10, **settings), nn.Conv2d(6, 10, **settings)  # type: ignore[arg-type]  # by name
    plain.load_state_dict(own.state_dict())
    return own, plain


@pytest.mark.parametrize("side", [2, 3, 4, 5, 6, 7, 20])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 2), (3, 1, 1), (3, 2, 1)])
def test_results_and_gradients_are_those_of_pytorchs_layer(
    side: int, kernel: int, stride: int, padding: int
) -> None:
    own, plain = both(kernel, stride, padding)
    x = torch.randn(5, 6, side, side)

    for found, expected in zip(gradients(own, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_agree_under_autocast_and_keep_their_types() -> None:
    own, plain = both(4, 2, 2)
    x = torch.randn(5, 6, 5, 5)

    for found, expected in zip(
        gradients(own, x, bf16=True), gradients(plain, x, bf16=True), strict=True
    ):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.05, atol=0.1)


def test_input_that_needs_no_gradient_gets_none() -> None:
    own, plain = both(4, 2, 2)
    x = torch.randn(5, 6, 5, 5)

    own(x).square().sum().backward()
    plain(x).square().sum().backward()

    assert own.weight.grad is not None
    torch.testing.assert_close(own.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_layer_that_does_not_train_is_pytorchs() -> None:
    own, plain = both(4, 2, 2)
    x = torch.randn(5, 6, 5, 5)

    traced = torch.export.export(own.eval(), (x,))

    assert torch.equal(own(x), plain(x))
    assert [n.target for n in traced.graph.nodes if n.op == "call_function"] == [
        torch.ops.aten.conv2d.default
    ]
