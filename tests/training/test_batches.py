import numpy as np
import pytest
import torch

from facegen.training.batches import (
    BalancedOrder,
    BatchOrder,
    WeightedOrder,
    augment,
    batch_loader,
    column_loader,
)
from facegen.training.randomness import generator


def test_an_epoch_has_every_picture_once_and_no_short_batch() -> None:
    order = BatchOrder(20, 6, seed=1)

    batches = list(order)

    assert len(order) == 3
    assert [len(b) for b in batches] == [6, 6, 6]
    assert len({i for b in batches for i in b}) == 18


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order, other = BatchOrder(20, 5, seed=1), BatchOrder(20, 5, seed=1)
    first = list(order)
    order.set_epoch(1)
    second = list(order)

    torch.rand(100)
    other.set_epoch(1)

    assert list(other) == second
    assert first != second
    assert list(BatchOrder(20, 5, seed=2)) != first


def test_loader_without_seed_gives_all_in_order() -> None:
    pixels = np.arange(7 * 4 * 4 * 3, dtype=np.uint8).reshape(7, 4, 4, 3)

    batches = list(batch_loader(pixels, 3))

    assert [len(b) for b in batches] == [3, 3, 1]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), pixels)


def test_batch_larger_than_the_data_set_is_cut_to_it() -> None:
    assert len(next(iter(batch_loader(np.zeros((5, 4, 4, 3), np.uint8), 64, seed=0)))) == 5


def test_half_of_the_pictures_are_mirrored() -> None:
    pictures = torch.randint(0, 256, (400, 4, 4, 3), dtype=torch.uint8)

    moved = augment(pictures, flip=True, shift_px=0, random=torch.Generator().manual_seed(0))

    mirrored = (moved == pictures.flip(2)).flatten(1).all(1)
    kept = (moved == pictures).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 160 < int(mirrored.sum()) < 240


def test_shifts_move_whole_pictures_and_repeat_edges() -> None:
    ramp = torch.arange(8, dtype=torch.uint8)
    pictures = (ramp[:, None] * 8 + ramp).reshape(1, 8, 8, 1).repeat(50, 1, 1, 1)

    moved = augment(pictures, flip=False, shift_px=2, random=torch.Generator().manual_seed(0))

    shifts = {(int(p[4, 4, 0]) // 8 - 4, int(p[4, 4, 0]) % 8 - 4) for p in moved}
    assert len(shifts) > 10
    assert all(abs(rows) <= 2 and abs(columns) <= 2 for rows, columns in shifts)
    for picture in moved:
        rows, columns = int(picture[4, 4, 0]) // 8 - 4, int(picture[4, 4, 0]) % 8 - 4
        expected = ((ramp.int() + rows).clamp(0, 7)[:, None] * 8) + (ramp.int() + columns).clamp(
            0, 7
        )
        torch.testing.assert_close(picture[..., 0].int(), expected)


@pytest.mark.parametrize("change", [{"seed": 1}, {"purpose": "b"}, {"step": 1}])
def test_random_numbers_change_with_seed_purpose_and_step(change: dict[str, object]) -> None:
    def draw(seed: int = 0, purpose: str = "a", step: int = 0) -> torch.Tensor:
        return torch.rand(4, generator=generator(seed, purpose, step))

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(**change))  # type: ignore[arg-type]  # one key of the three


def test_balanced_batches_hold_equal_runs_of_every_class() -> None:
    classes = [np.arange(0, 20), np.arange(20, 23), np.arange(23, 30)]
    order = BalancedOrder(classes, 8, steps=5, seed=1)

    batches = list(order)

    assert len(batches) == len(order) == 5
    for batch in batches:
        runs = np.array(batch).reshape(3, 2)
        for members, run in zip(classes, runs, strict=True):
            assert set(run) <= set(members.tolist())


def test_balanced_batches_see_every_picture_of_a_class_equally_often() -> None:
    classes = [np.arange(0, 20), np.arange(20, 23)]
    order = BalancedOrder(classes, 4, steps=15, seed=1)
    seen: list[int] = []
    for epoch in range(2):
        order.set_epoch(epoch)
        seen += [index for batch in order for index in batch]

    counts = np.bincount(seen)

    assert counts[:20].tolist() == [3] * 20
    assert counts[20:].tolist() == [20] * 3


def test_balanced_batches_depend_on_seed_and_epoch_alone() -> None:
    def batches(epoch: int, seed: int = 1) -> list[list[int]]:
        order = BalancedOrder([np.arange(9), np.arange(9, 14)], 6, steps=4, seed=seed)
        order.set_epoch(epoch)
        return list(order)

    assert batches(3) == batches(3)
    assert batches(3) != batches(4)
    assert batches(3) != batches(3, seed=2)


def test_weighted_order_draws_by_weight_and_repeats_an_epoch() -> None:
    weights = torch.tensor([3.0] * 500 + [1.0] * 500)
    order, again = WeightedOrder(weights, 10, seed=4), WeightedOrder(weights, 10, seed=4)

    drawn = np.concatenate(list(order))

    assert len(order) == 100
    assert (drawn < 500).mean() == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(drawn, np.concatenate(list(again)))
    again.set_epoch(1)
    assert not np.array_equal(drawn, np.concatenate(list(again)))


def test_columns_keep_together_in_a_batch() -> None:
    columns = {"images": np.arange(12).reshape(6, 2), "labels": np.arange(6)}

    batches = list(column_loader(columns, BatchOrder(6, 4, seed=3)))

    (batch,) = batches
    assert batch["images"].shape == (4, 2)
    torch.testing.assert_close(batch["images"][:, 0], 2 * batch["labels"])
