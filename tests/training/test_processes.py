from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from facegen.training.batches import BalancedOrder, BatchOrder
from facegen.training.errors import ConfigurationError
from facegen.training.processes import (
    OwnRows,
    mean_over_processes,
    own_rows,
    process_count,
    process_rank,
    sum_over_processes,
)
from facegen.training.randomness import generator, integers, normal, uniform

COUNT = 2


def drawn() -> dict[str, Tensor]:
    rows = 6 // process_count()
    random = generator(3, "test", 0)
    return {
        "uniform": uniform(rows, 2, random=random),
        "normal": normal(2, rows, random=random, axis=1).T,
        "integers": integers(0, 100, rows, random=random),
    }


def work(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=COUNT)
    value = torch.tensor([1.0 + rank], requires_grad=True)
    weighed = (sum_over_processes(value) * torch.tensor([3.0 + rank])).sum()
    means = mean_over_processes(torch.tensor(float(rank)), rows=3 if rank else 1)
    apart = generator(3, "test", 0, apart=True).initial_seed()
    found = {
        "rank": process_rank(),
        "sum": sum_over_processes(value.detach()),
        "gradient": torch.autograd.grad(weighed, value)[0],
        "mean": means,
        "apart": apart,
        **drawn(),
    }
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes made of the same calls."""
    folder = tmp_path_factory.mktemp("processes")
    start_processes(work, args=(folder,), nprocs=COUNT)  # type: ignore[no-untyped-call]  # torch's
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(COUNT)]


def test_processes_together_draw_what_one_draws_alone(found: list[dict[str, Tensor]]) -> None:
    for name, whole in drawn().items():
        for rank in range(COUNT):
            torch.testing.assert_close(found[rank][name], whole[rank::COUNT], rtol=0, atol=0)


def test_numbers_drawn_apart_differ_from_process_to_process(
    found: list[dict[str, Tensor]],
) -> None:
    alone = generator(3, "test", 0, apart=True).initial_seed()

    assert found[0]["apart"] == alone
    assert found[1]["apart"] != alone


def test_gradients_go_through_sums_over_processes(found: list[dict[str, Tensor]]) -> None:
    assert [process["sum"].item() for process in found] == [3.0, 3.0]
    assert [process["gradient"].item() for process in found] == [7.0, 7.0]


def test_means_are_weighed_by_rows(found: list[dict[str, Tensor]]) -> None:
    assert [process["mean"].item() for process in found] == [0.75, 0.75]


def test_one_process_shares_nothing() -> None:
    value = torch.arange(4.0)

    assert (process_rank(), process_count()) == (0, 1)
    assert own_rows(value) is value
    assert sum_over_processes(value) is value
    assert mean_over_processes(value, rows=4) is value


def test_processes_rows_make_up_the_whole_batches() -> None:
    whole = BatchOrder(20, 6, seed=1)
    shares = [OwnRows(BatchOrder(20, 6, seed=1), rank=rank, count=3) for rank in range(3)]
    whole.set_epoch(4)
    for share in shares:
        share.set_epoch(4)

    batches = zip(*shares, strict=True)

    for expected, parts in zip(whole, batches, strict=True):
        assert [len(part) for part in parts] == [2, 2, 2]
        assert [row for rows in zip(*parts, strict=True) for row in rows] == expected


def test_a_process_has_equal_runs_of_every_class() -> None:
    classes = [range(10), range(10, 20), range(20, 30)]
    order = BalancedOrder([torch.tensor(c).numpy() for c in classes], 12, steps=2, seed=0)

    for batch in OwnRows(order, rank=1, count=2):
        assert [index // 10 for index in batch] == [0, 0, 1, 1, 2, 2]


def test_no_process_is_left_without_a_row_to_validate() -> None:
    batches = [list(OwnRows(BatchOrder(5, 4, seed=None), rank=r, count=2)) for r in range(2)]

    assert batches == [[[0, 2], [4]], [[1, 3], [4]]]


def test_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"3 processes cannot share a batch's 8 rows"):
        OwnRows(BatchOrder(20, 8, seed=1), rank=0, count=3)
