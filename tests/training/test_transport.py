"""Optimal transport between Gaussians: one expression's values become another's, and no more."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facegen.training.expression.transport import GaussianTransport


def _groups(random: np.random.Generator, count: int) -> list[NDArray[np.float64]]:
    """Two groups (N, 10): alike in eight values, in two of another mean and spread."""
    groups = random.normal(0, 1, (2, count, 10)) @ np.diag([3.0] * 8 + [1, 1])
    groups[1, :, 8:] = 4 + groups[1, :, 8:] / 2
    return list(groups)


def _moved(
    transport: GaussianTransport, values: NDArray[np.float64], pair: tuple[int, int]
) -> NDArray[np.float64]:
    labels = torch.tensor(pair)[:, None].expand(2, len(values))
    moved: NDArray[np.float64] = (
        transport(torch.from_numpy(values).float(), *labels).double().numpy()
    )
    return moved


def test_values_get_the_mean_and_spread_of_the_others_and_keep_what_is_alike() -> None:
    groups = _groups(np.random.default_rng(0), 4000)

    moved = _moved(GaussianTransport(groups, groups, components=10), groups[0], (0, 1))

    assert moved[:, 8:].mean(0) == pytest.approx(4, abs=0.1)
    assert moved[:, 8:].std(0) == pytest.approx(0.5, rel=0.3)  # a fifth is what both have in common
    assert np.abs(moved[:, :8] - groups[0][:, :8]).mean() < 0.15


def test_goals_may_be_other_than_those_who_set_out() -> None:
    groups = _groups(np.random.default_rng(1), 1000)
    clearest = [group[group[:, 8] > group[:, 8].mean()] for group in groups]

    moved = _moved(GaussianTransport(groups, clearest, components=10), groups[0], (0, 1))

    assert moved[:, 8].mean() == pytest.approx(clearest[1][:, 8].mean(), abs=1e-3)


def test_to_where_it_came_from_changes_nothing() -> None:
    groups = _groups(np.random.default_rng(2), 50)

    moved = _moved(GaussianTransport(groups, groups, components=4), groups[1], (1, 1))

    assert np.allclose(moved, groups[1], atol=1e-4)


def test_what_components_do_not_hold_is_told_and_stays() -> None:
    groups = _groups(np.random.default_rng(3), 500)
    transport = GaussianTransport(groups, groups, components=3)

    before, after = (
        transport.beyond(torch.from_numpy(values).float())
        for values in (groups[0], _moved(transport, groups[0], (0, 1)))
    )

    means = torch.from_numpy(groups[1].mean(0) - groups[0].mean(0)).float()
    expected = before + transport.beyond(transport.centre + means)
    assert before.abs().max() > 1
    assert torch.allclose(after, expected, atol=1e-3)
