import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facegen.serving.scheduling.batcher import Batcher, BatcherSettings
from facegen.serving.engine import Array
from facegen.serving.errors import (
    DeadlineError,
    EngineClosedError,
    InferenceError,
    QueueFullError,
)
from facegen.serving.scheduling.workers import Workers

_POISON = -1.0
_FOREVER_S = 1000.0


class _Doubler:
    """A tiny model: doubles its rows, fails on a poisoned one, waits while it is held."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Semaphore(0)
        self.batches: list[list[float]] = []

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        x = inputs["x"]
        self.batches.append(x[:, 0].tolist())
        self.begun.release()
        self.open.wait()
        if (x == _POISON).any():
            raise ValueError("poisoned")
        return {"y": 2 * x}

    async def begins(self) -> None:
        """Wait until one more batch has begun."""
        await asyncio.to_thread(self.begun.acquire)


@pytest.fixture
def doubler() -> _Doubler:
    return _Doubler()


@pytest.fixture
def workers(doubler: _Doubler) -> Iterator[Workers]:
    workers = Workers(2, "test")
    yield workers
    doubler.open.set()
    workers.close()


def _rows(count: int, *, first: float = 0) -> NDArray[np.float32]:
    return np.arange(first, first + count, dtype=np.float32)[:, None]


def _batcher(doubler: _Doubler, workers: Workers, **changes: float) -> Batcher:
    knobs = BatcherSettings(**{"max_batch_rows": 4, **changes})  # type: ignore[arg-type]  # by name
    return Batcher("double", doubler.run, workers=workers, settings=knobs)


def _submit(
    batcher: Batcher, rows: NDArray[np.float32], timeout_s: float | None = None
) -> "asyncio.Task[dict[str, Array]]":
    return asyncio.ensure_future(batcher.submit({"x": rows}, len(rows), timeout_s=timeout_s))


async def _hold_a_batch(doubler: _Doubler, batcher: Batcher) -> "asyncio.Task[dict[str, Array]]":
    """Keep the one worker busy, so that what follows waits in the queue."""
    doubler.open.clear()
    task = _submit(batcher, _rows(1, first=1000))
    await doubler.begins()
    return task


async def _settle() -> None:
    """Let every task that can go on run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_waiting_rows_are_joined_in_one_batch_as_soon_as_a_worker_is_free(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)
    held = await _hold_a_batch(doubler, batcher)
    tasks = [_submit(batcher, _rows(1, first=index)) for index in range(4)]
    await _settle()

    doubler.open.set()
    answers = await asyncio.gather(held, *tasks)

    assert doubler.batches == [[1000], [0, 1, 2, 3]]
    assert [answer["y"].item() for answer in answers] == [2000, 0, 2, 4, 6]
    assert batcher.batch_sizes() == {1: 1, 4: 1}


async def test_a_large_request_is_split_and_joined_again(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, concurrency=2)

    answer = await batcher.submit({"x": _rows(10)}, 10)

    np.testing.assert_array_equal(answer["y"], 2 * _rows(10))
    assert max(len(batch) for batch in doubler.batches) <= 4


async def test_rows_do_not_wait_for_a_batch_to_fill_unless_configured(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_batch_rows=1000)

    await batcher.submit({"x": _rows(1)}, 1)

    assert doubler.batches == [[0]]


async def test_with_a_delay_a_batch_waits_until_it_is_full(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_queue_delay_s=_FOREVER_S)
    tasks = [_submit(batcher, _rows(1, first=index)) for index in range(3)]
    await _settle()
    before = list(doubler.batches)

    tasks.append(_submit(batcher, _rows(1, first=3)))
    await asyncio.gather(*tasks)

    assert before == []
    assert doubler.batches == [[0, 1, 2, 3]]
    await batcher.close()


async def test_after_the_delay_a_batch_runs_as_it_is(doubler: _Doubler, workers: Workers) -> None:
    batcher = _batcher(doubler, workers, max_queue_delay_s=0.01)

    answers = await asyncio.gather(*(_submit(batcher, _rows(3, first=4 * i)) for i in range(3)))

    assert sorted(value for batch in doubler.batches for value in batch) == [
        0,
        1,
        2,
        4,
        5,
        6,
        8,
        9,
        10,
    ]
    assert [answer["y"][0, 0] for answer in answers] == [0, 8, 16]


async def test_a_large_request_does_not_starve_a_small_one(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, turn_rows=8)
    held = await _hold_a_batch(doubler, batcher)
    large = _submit(batcher, _rows(100))
    small = _submit(batcher, _rows(1, first=500))
    await _settle()

    doubler.open.set()
    await asyncio.gather(held, large, small)

    assert [500.0 in batch for batch in doubler.batches].index(True) == 3  # after one turn


async def test_a_full_queue_refuses_rows_and_says_when_to_retry(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_queue_rows=5)
    held = await _hold_a_batch(doubler, batcher)
    waiting = _submit(batcher, _rows(5))
    await _settle()

    with pytest.raises(QueueFullError, match="5 of 5") as caught:
        await batcher.submit({"x": _rows(1)}, 1)

    assert caught.value.retry_after_s > 0
    doubler.open.set()
    await asyncio.gather(held, waiting)
    assert batcher.queued_rows == 0


async def test_more_rows_than_the_queue_holds_are_taken_when_none_wait(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_queue_rows=5)

    answer = await batcher.submit({"x": _rows(50)}, 50)

    np.testing.assert_array_equal(answer["y"], 2 * _rows(50))


async def test_a_deadline_is_answered_at_its_time_while_the_worker_is_busy(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)
    held = await _hold_a_batch(doubler, batcher)

    with pytest.raises(DeadlineError, match=r"within 0\.010 s"):
        await batcher.submit({"x": _rows(3)}, 3, timeout_s=0.01)

    assert not held.done()
    assert batcher.queued_rows == 0
    doubler.open.set()
    await held
    assert doubler.batches == [[1000]]  # the expired rows never ran


async def test_a_deadline_is_answered_at_its_time_while_its_own_rows_run(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)
    doubler.open.clear()

    with pytest.raises(DeadlineError):
        await batcher.submit({"x": _rows(9)}, 9, timeout_s=0.01)

    doubler.open.set()
    await batcher.close()
    assert doubler.batches == [[0, 1, 2, 3]]


async def test_cancelled_rows_never_run_and_neighbours_do(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)
    held = await _hold_a_batch(doubler, batcher)
    doomed = _submit(batcher, _rows(2))
    neighbour = _submit(batcher, _rows(2, first=10))
    await _settle()

    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    doubler.open.set()
    await asyncio.gather(held, neighbour)

    assert doomed.cancelled()
    assert doubler.batches == [[1000], [10, 11]]


async def test_a_cancelled_neighbour_in_a_running_batch_harms_nobody(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)
    held = await _hold_a_batch(doubler, batcher)
    doomed = _submit(batcher, _rows(2))
    neighbour = _submit(batcher, _rows(2, first=10))
    await _settle()
    doubler.open.set()
    await doubler.begins()

    doomed.cancel()
    answer = await neighbour
    await held

    np.testing.assert_array_equal(answer["y"], 2 * _rows(2, first=10))


async def test_one_bad_request_fails_alone(doubler: _Doubler, workers: Workers) -> None:
    batcher = _batcher(doubler, workers)
    held = await _hold_a_batch(doubler, batcher)
    good = _submit(batcher, _rows(1, first=1))
    bad = _submit(batcher, np.full((2, 1), _POISON, np.float32))
    other = _submit(batcher, _rows(1, first=2))
    await _settle()

    doubler.open.set()
    results = await asyncio.gather(held, good, bad, other, return_exceptions=True)

    assert isinstance(results[2], InferenceError)
    assert 'model "double" failed: poisoned' in str(results[2])
    assert (await good)["y"].item() == 2
    assert (await other)["y"].item() == 4


async def test_the_rest_of_a_large_request_that_failed_does_not_run(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers)

    with pytest.raises(InferenceError):
        await batcher.submit({"x": np.full((40, 1), _POISON, np.float32)}, 40)

    await batcher.close()
    assert len(doubler.batches) == 1


async def test_close_runs_what_waits_and_refuses_what_comes(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_queue_delay_s=_FOREVER_S)
    waiting = _submit(batcher, _rows(3))
    await _settle()

    await batcher.close()

    np.testing.assert_array_equal((await waiting)["y"], 2 * _rows(3))
    with pytest.raises(EngineClosedError):
        await batcher.submit({"x": _rows(1)}, 1)


async def test_buckets_fill_batches_to_powers_of_two_and_answers_have_no_filling(
    doubler: _Doubler, workers: Workers
) -> None:
    batcher = _batcher(doubler, workers, max_batch_rows=6, bucketed=True)

    answers = [await batcher.submit({"x": _rows(count)}, count) for count in (1, 3, 5, 6)]

    assert [len(batch) for batch in doubler.batches] == [1, 4, 6, 6]
    assert [len(answer["y"]) for answer in answers] == [1, 3, 5, 6]
    assert batcher.batch_sizes() == {1: 1, 3: 1, 5: 1, 6: 1}


async def test_free_workers_share_what_waits(doubler: _Doubler, workers: Workers) -> None:
    batcher = _batcher(doubler, workers, max_batch_rows=16, concurrency=2)
    doubler.open.clear()
    task = _submit(batcher, _rows(16))
    await doubler.begins()
    await doubler.begins()

    doubler.open.set()
    await task

    assert sorted(len(batch) for batch in doubler.batches) == [8, 8]


async def test_a_model_that_loses_rows_is_told_and_nobody_gets_anothers_row(
    workers: Workers,
) -> None:
    batcher = Batcher(
        "lossy",
        lambda inputs: {"y": inputs["x"][1:]},
        workers=workers,
        settings=BatcherSettings(max_batch_rows=4),
    )

    with pytest.raises(InferenceError, match='output "y" has 2 rows for 3 rows of input'):
        await batcher.submit({"x": _rows(3)}, 3)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    max_batch_rows=st.integers(1, 9),
    concurrency=st.integers(1, 2),
    turn_rows=st.integers(1, 20),
    bucketed=st.booleans(),
    cancelled=st.sets(st.integers(0, 24)),
)
def test_any_mix_of_sizes_gives_each_caller_its_own_rows(
    sizes: list[int],
    max_batch_rows: int,
    concurrency: int,
    turn_rows: int,
    bucketed: bool,
    cancelled: set[int],
) -> None:
    workers = Workers(2, "test")
    doubler = _Doubler()

    async def drive() -> None:
        batcher = _batcher(
            doubler,
            workers,
            max_batch_rows=max_batch_rows,
            concurrency=concurrency,
            turn_rows=turn_rows,
            bucketed=bucketed,
        )
        tasks = [
            _submit(batcher, _rows(size, first=100 * index)) for index, size in enumerate(sizes)
        ]
        await asyncio.sleep(0)
        for index in cancelled & set(range(len(sizes))):
            tasks[index].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()
        for index, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
            if isinstance(answer, BaseException):
                assert index in cancelled
                assert isinstance(answer, asyncio.CancelledError)
            else:
                np.testing.assert_array_equal(answer["y"], 2 * _rows(size, first=100 * index))
        assert batcher.queued_rows == 0

    asyncio.run(drive())
    workers.close()
