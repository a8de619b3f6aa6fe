from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.training.data import Labels
from facegen.training.directions import (
    Directions,
    fit_directions,
    label_directions,
    principal_axes,
)

SIZE = 6


def labelled_latents(
    count: int = 4000,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Latents that two labels move, which often go together: latents, labels, true moves."""
    random = np.random.default_rng(0)
    first = random.random(count) < 0.3
    second = np.where(random.random(count) < 0.8, first, random.random(count) < 0.5)
    moves = np.zeros((2, SIZE))
    moves[0, :2], moves[1, 2] = (2, -1), 3
    values = np.stack([first, second], 1)
    latents = random.standard_normal((count, SIZE)) * 0.5 + values @ moves + 7
    return latents.astype(np.float32), values, moves


def labels_of(
    values: NDArray[np.bool_], names: tuple[str, ...] = (), *, exclusive: bool = False
) -> Labels:
    names = names or tuple("ABCDEFGH"[: values.shape[1]])
    return Labels("drawn", names, values, np.ones(len(values), np.bool_), exclusive=exclusive)


def test_direction_is_the_labels_own_change_not_that_of_labels_beside_it() -> None:
    latents, values, moves = labelled_latents()

    found = label_directions(latents, values)

    assert np.mean(values[:, 0] == values[:, 1]) > 0.85
    np.testing.assert_allclose(found, moves, atol=0.3)


def test_penalty_draws_labels_of_few_pictures_towards_nothing() -> None:
    latents, values, _ = labelled_latents(300)
    rare = np.zeros((300, 1), np.bool_)
    rare[:3] = True
    latents[:3] += 5

    lengths = [
        np.linalg.norm(label_directions(latents, np.hstack([values, rare]), penalty=p)[2])
        for p in (0, 30)
    ]

    assert lengths[1] < 0.2 * lengths[0]


def test_axes_are_the_latents_deviations_longest_first() -> None:
    random = np.random.default_rng(1)
    rotation = np.linalg.qr(random.standard_normal((SIZE, SIZE)))[0]
    deviations = np.array([5, 3, 2, 1, 0.5, 0.1])
    latents = (random.standard_normal((20_000, SIZE)) * deviations @ rotation).astype(np.float32)

    axes = principal_axes(latents, 4)

    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), deviations[:4], rtol=0.03)
    cosines = np.abs(axes / np.linalg.norm(axes, axis=1, keepdims=True) @ rotation.T)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=0.01)
    assert (axes.max(1) == np.abs(axes).max(1)).all()


def test_fewer_values_than_components_give_fewer_axes() -> None:
    latents = np.random.default_rng(2).standard_normal((50, 3)).astype(np.float32)

    directions = fit_directions(latents, labels_of(np.zeros((50, 0), np.bool_)))

    assert directions.names == ("component-1", "component-2", "component-3")
    assert directions.vectors.shape == (3, 3)


def test_mirrored_pictures_change_no_direction_of_a_label() -> None:
    latents, values, _ = labelled_latents()
    side = np.zeros(SIZE, np.float32)
    side[5] = 4

    both = fit_directions(np.concatenate([latents + side, latents - side]), labels_of(values))

    alone = fit_directions(latents, labels_of(values))
    np.testing.assert_allclose(both.vectors[:2], alone.vectors[:2], atol=1e-4)
    assert abs(both.vector("component-1")[5]) > 3.9


def test_labels_that_all_or_no_pictures_have_get_no_direction() -> None:
    latents, values, _ = labelled_latents(400)
    constant = np.stack([np.ones(400, np.bool_), np.zeros(400, np.bool_)], 1)

    names = fit_directions(latents, labels_of(np.hstack([values, constant]))).names

    assert names[:3] == ("A", "B", "component-1")


def test_exclusive_labels_start_from_the_commonest() -> None:
    random = np.random.default_rng(3)
    kinds = random.choice(3, 5000, p=[0.2, 0.7, 0.1])
    values = np.eye(3, dtype=np.bool_)[kinds]
    places = np.eye(3, SIZE, dtype=np.float32) * 4
    latents = places[kinds] + random.standard_normal((5000, SIZE)).astype(np.float32) * 0.1

    directions = fit_directions(latents, labels_of(values, exclusive=True))

    assert directions.names[:2] == ("A", "C")
    np.testing.assert_allclose(directions.vector("A"), 2 * (places[0] - places[1]), atol=0.4)


def test_expressions_start_from_neutral_however_rare() -> None:
    random = np.random.default_rng(3)
    values = np.eye(3, dtype=np.bool_)[random.choice(3, 500, p=[0.2, 0.7, 0.1])]
    latents = random.standard_normal((500, SIZE)).astype(np.float32)

    names = ("surprise", "happiness", "neutral")
    directions = fit_directions(latents, labels_of(values, names, exclusive=True))

    assert directions.names[:2] == ("surprise", "happiness")


def test_pictures_of_unknown_labels_are_left_out() -> None:
    latents, values, _ = labelled_latents()
    known = np.arange(len(latents)) % 4 > 0
    latents[~known, :3] = -50
    labels = Labels("drawn", ("A", "B"), values & known[:, None], known)

    found = fit_directions(latents, labels)

    expected = fit_directions(latents[known], labels_of(values[known]))
    np.testing.assert_allclose(found.vectors[:2], expected.vectors[:2], atol=1e-5)


def test_sex_and_age_stay_and_what_belongs_to_a_label_moves_along() -> None:
    latents, values, moves = labelled_latents()

    held = fit_directions(latents, labels_of(values, ("Smiling", "Male")))
    free = fit_directions(latents, labels_of(values, ("Smiling", "High_Cheekbones")))

    np.testing.assert_allclose(held.vector("Smiling"), 2 * moves[0], atol=0.4)
    assert free.vector("Smiling")[2] > moves[1, 2]


def test_editing_adds_each_direction_by_its_strength() -> None:
    vectors = np.array([[1, 0, 2], [0, 3, 0]], np.float32)
    directions = Directions(("A", "B"), vectors)

    edited = directions.edit(np.ones((2, 3), np.float32), np.array([[1, 0], [-2, 0.5]], np.float32))

    assert edited.tolist() == [[2, 1, 3], [-1, 2.5, -3]]


def test_saved_directions_read_back_equal(tmp_path: Path) -> None:
    directions = Directions(("5_o_Clock_Shadow", "component-1"), np.eye(2, 3, dtype=np.float32))

    directions.save(tmp_path / "directions.npz")

    again = Directions.load(tmp_path / "directions.npz")
    assert again.names == directions.names
    np.testing.assert_array_equal(again.vectors, directions.vectors)
    with np.load(tmp_path / "directions.npz", allow_pickle=False) as file:
        assert set(file) == {"names", "directions"}


def test_some_directions_keep_the_order_they_are_asked_for() -> None:
    directions = Directions(("A", "B", "C"), np.eye(3, dtype=np.float32))

    assert directions.only(["C", "A"]).vectors.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="not in"):
        directions.vector("D")
