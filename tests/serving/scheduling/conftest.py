"""A batcher of a tiny model that can be held, and answers that can be waited for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, InferRequest
from facegen.serving.scheduling import Batcher, BatcherSettings, Timers, Workers
from facegen.serving.statistics import ModelStatistics

_PATIENCE_S = 60.0


class Answer:
    """What comes of a request; it is what the batcher calls."""

    def __init__(self, order: "list[Answer]") -> None:
        self.calls: list[dict[str, Array] | FacegenError] = []
        self._order = order
        self._came = threading.Event()

    def __call__(self, answer: dict[str, Array] | FacegenError) -> None:
        self.calls.append(answer)
        self._order.append(self)
        self._came.set()

    @property
    def there(self) -> bool:
        """Whether it came."""
        return self._came.is_set()

    @property
    def succeeded(self) -> bool:
        """Whether it came and is no error."""
        return bool(self.calls) and not isinstance(self.calls[0], FacegenError)

    def wait(self) -> dict[str, Array] | FacegenError:
        """Wait for the answer, be it an error."""
        assert self._came.wait(_PATIENCE_S), "no answer"
        return self.calls[0]

    def rows(self) -> list[float]:
        """Wait for rows, the first value of each."""
        answer = self.wait()
        if isinstance(answer, FacegenError):
            raise answer
        return [float(value) for value in answer["y"][:, 0]]


class Rig:
    """A batcher of a model that doubles its rows, fails on a negative one, waits while it is held.

    Attributes:
        settings: How it batches.
        batches: The rows of the batches that began, in order.
        answered: The answers, in the order they came.
    """

    def __init__(
        self,
        *,
        run: Callable[..., dict[str, Array]] | None = None,
        worker_count: int = 2,
        **settings: Any,
    ) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[float]] = []
        self.answered: list[Answer] = []
        self._begun = threading.Semaphore(0)
        self._workers = Workers(worker_count, "test")
        self._timers = Timers("test")
        self.settings = BatcherSettings(**{"max_batch_rows": 4, **settings})
        self._statistics = ModelStatistics("double", "1")
        self._model = run or self._run
        self._before: list[Batcher] = []
        self.batcher = self._new_batcher()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._timers.close()
        self._workers.close()

    def close(self) -> None:
        """Let everything end that was begun."""
        self.gate.set()
        for batcher in (*self._before, self.batcher):
            batcher.close()

    def reload(self) -> None:
        """Go on with a new batcher, while the one before finishes."""
        self._before.append(self.batcher)
        self.batcher = self._new_batcher()

    def submit(
        self,
        rows: NDArray[Any],
        *,
        context: CallContext | None = None,
        outputs: tuple[str, ...] = (),
        row_count: int | None = None,
        **facts: Any,
    ) -> Answer:
        """Submit rows; facts are those of a call's context."""
        answer = Answer(self.answered)
        request = InferRequest(
            "double", {"x": rows}, outputs=outputs, context=context or CallContext(**facts)
        )
        self.batcher.submit(request, len(rows) if row_count is None else row_count, answer)
        return answer

    def one(self, value: float, **facts: Any) -> Answer:
        """Submit one row."""
        return self.submit(np.full((1, 1), value, np.float32), **facts)

    def many(self, count: int, first: float = 0, **facts: Any) -> Answer:
        """Submit rows that count up."""
        return self.submit(np.arange(first, first + count, dtype=np.float32)[:, None], **facts)

    def hold(self) -> Answer:
        """Keep one worker busy with a batch of one row, 1000, until `release`."""
        self.gate.clear()
        answer = self.one(1000)
        self.begins()
        return answer

    def begins(self) -> None:
        """Wait until one more batch has begun."""
        assert self._begun.acquire(timeout=_PATIENCE_S), "no batch began"

    def release(self) -> None:
        """Let the batches go on."""
        self.gate.set()

    def statistics(self) -> ModelStatistics:
        """What the batcher counted."""
        return self.batcher.statistics()

    def _new_batcher(self) -> Batcher:
        return Batcher(
            "double",
            self._model,
            workers=self._workers,
            timers=self._timers,
            settings=self.settings,
            statistics=self._statistics,
        )

    def _run(self, inputs: dict[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        x = inputs["x"]
        self.batches.append(x.reshape(len(x), -1)[:, 0].tolist())
        self._begun.release()
        assert self.gate.wait(_PATIENCE_S)
        if (x < 0).any():
            raise ValueError("poisoned")
        return dict.fromkeys(outputs or ("y",), 2 * x)


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Make rigs with settings by name; they end with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Rig(**settings))


@pytest.fixture(scope="session")
def rig_type() -> type[Rig]:
    """The rig's class, for tests that make many."""
    return Rig
