"""Exact rewrites of an expression model: those of the autoencoders, in its encoder and decoders."""

import copy
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from facegen.export.rewrites import HEADS, AffineMap, fold_affine, join_outputs
from facegen.training.expression.model import Edit, ExpressionDecoder, ExpressionEncoder

__all__ = ["expression_decoder_forms", "expression_encoder_forms"]


def expression_encoder_forms(encoder: ExpressionEncoder) -> Mapping[str, Callable[[], nn.Module]]:
    """The forms of an encoder by name, the usual winner first and the plain one last.

    Args:
        encoder: In evaluation mode; not changed.

    Returns:
        Builders of modules (B, 1, H, W) to an `Encoding` that compute the same function.
    """

    def joined() -> nn.Module:
        copied = copy.deepcopy(encoder)
        both, mu, logvar = join_outputs(copied.mu, copied.logvar)
        copied.stages[-1] = nn.Sequential(copied.stages[-1], nn.Flatten(), both)
        copied.mu, copied.logvar = mu, logvar  # type: ignore[assignment]  # (B, 2Z) to (B, Z)
        return copied

    return {"mu and logvar in one Gemm": joined, "plain": lambda: encoder}


def expression_decoder_forms(decoder: ExpressionDecoder) -> Mapping[str, Callable[[], nn.Module]]:
    """The forms of a decoder by name, the usual winner first and the plain one last.

    Args:
        decoder: In evaluation mode; not changed.

    Returns:
        Builders of modules (B, Z), (B, F, 12, 12) to an `Edit` that compute the same function.
    """
    affine, count = fold_affine(decoder.linear, decoder.trunk, shape=(decoder.high, 3, 3))

    def folded(head: Callable[[AffineMap], nn.Module]) -> Callable[[], nn.Module]:
        return lambda: _FoldedDecoder(decoder, head(affine), shape=affine.shape, count=count)

    return {**{name: folded(head) for name, head in HEADS.items()}, "plain": lambda: decoder}


class _FoldedDecoder(nn.Module):
    """A decoder whose first layers are one affine map."""

    def __init__(
        self,
        decoder: ExpressionDecoder,
        head: nn.Module,
        *,
        shape: tuple[int, int, int],
        count: int,
    ) -> None:
        super().__init__()
        rest = list(copy.deepcopy(decoder.trunk))[count:]
        self.begin = nn.Sequential(head, nn.Unflatten(1, shape), *rest)
        self.decoder = decoder

    def forward(self, z: Tensor, features: Tensor) -> Edit:
        return self.decoder.finish(self.begin(z), features)
