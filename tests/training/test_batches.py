import numpy as np
import pytest
import torch

from facegen.training.batches import BatchOrder, augment, batch_loader
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
