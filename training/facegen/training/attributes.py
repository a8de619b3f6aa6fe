"""A classifier of labels by the features of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch.nn import functional

__all__ = [
    "AttributeClassifier",
    "balanced_accuracy",
    "fit_classifier",
]

Features = NDArray[np.float32]

_PENALTY = 0.03
"""Of the squared weights of standardised features. On 1,000 faces of CelebA, having learned from
8,000 others, the mean balanced accuracy of 40 attributes was 0.743 with 0.001, 0.776 with 0.01,
0.787 with this, and 0.796 with 0.1, whose probabilities stay nearer to a half."""
_ITERATIONS = 100
_LEAST_DEVIATION = 0.1
"""Of the features' mean deviation."""


@dataclass(frozen=True, slots=True)
class AttributeClassifier:
    """Logistic regressions of labels on features, each as if half of the faces had the label.

    Attributes:
        names: The labels.
        center: The features' means, (F,).
        scale: Their deviations, (F,).
        weights: (F, L).
        bias: (L,).
    """

    names: tuple[str, ...]
    center: Features
    scale: Features
    weights: Features
    bias: Features

    def probabilities(self, features: NDArray[np.floating]) -> Features:
        """How probable each label is, (N, L), for features (N, F)."""
        logits = (features - self.center) / self.scale @ self.weights + self.bias
        found: Features = expit(logits).astype(np.float32)
        return found


def fit_classifier(
    features: NDArray[np.floating], values: NDArray[np.bool_], *, names: Sequence[str]
) -> AttributeClassifier:
    """Fit a logistic regression for each label.

    Pictures with the label weigh as much together as those without: a probability says how much
    more the picture looks like those with it, however rare they are, and 0.5 is the fair threshold.

    Args:
        features: (N, F).
        values: (N, L); some pictures have each label and some have it not.
        names: The labels.
    """
    features = features.astype(np.float32)
    center, deviations = features.mean(0), features.std(0)
    # A feature that hardly ever fires would be blown up beyond all others where it does.
    scale = np.maximum(deviations, _LEAST_DEVIATION * deviations.mean())
    x = torch.from_numpy((features - center) / scale)
    y = torch.from_numpy(values.astype(np.float32))
    share = y.mean(0)
    importance = y / (2 * share) + (1 - y) / (2 * (1 - share))
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        entropy = functional.binary_cross_entropy_with_logits(
            x @ weights + bias, y, weight=importance, reduction="none"
        )
        total = entropy.mean(0).sum() + _PENALTY * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch's
        return float(total.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch's
    return AttributeClassifier(
        tuple(names), center, scale, weights.detach().numpy(), bias.detach().numpy()
    )


def balanced_accuracy(probabilities: Features, values: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of the shares recognised of pictures with and without each label.

    Args:
        probabilities: (N, L).
        values: (N, L).

    Returns:
        (L,): 0.5 is chance; not a number where all pictures or none have the label.
    """
    right = (probabilities > 0.5) == values
    found = np.full(values.shape[1], np.nan)
    for k, has in enumerate(values.T):
        if 0 < has.sum() < len(has):
            found[k] = (right[has, k].mean() + right[~has, k].mean()) / 2
    return found
