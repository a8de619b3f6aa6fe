"""What passes by itself is waited for; what fails on one row fails it alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.call_context import CallContext
from facegen.serving.engine import Engine
from facegen.serving.errors import InferenceError, QueueFullError
from facegen.serving.onnx.engine import OnnxEngine
from facegen.serving.rendering.engines import PatientEngine
from facegen.serving.rendering.rows import Chunk, Rendered, Row
from facegen.serving.rendering.work import Work
from tests.serving.family_graphs import LATENT_SIZE

DECODER = "hand-vae-decoder"
LATENTS = {"latent": np.zeros((64, LATENT_SIZE), np.float32)}


def busy_engine(repository: Path) -> OnnxEngine:
    """An engine with room for one such request, so that others are refused meanwhile."""
    return OnnxEngine(repository, threads=1, max_batch_rows=1, max_queue_rows=64).start()


def test_calls_that_a_full_queue_refuses_are_tried_again(hand_repository: Path) -> None:
    with busy_engine(hand_repository) as engine, ThreadPoolExecutor(16) as pool:
        refused = pool.map(lambda _: _tried(engine), range(64))
        assert QueueFullError in set(refused), "the queue was never full: the test shows nothing"

        patient = PatientEngine(engine, 60)
        answers = list(pool.map(lambda _: patient.infer(DECODER, LATENTS)["image"], range(64)))

    assert {answer.shape[0] for answer in answers} == {64}


def test_without_patience_the_error_is_passed_on(hand_repository: Path) -> None:
    with busy_engine(hand_repository) as engine, ThreadPoolExecutor(16) as pool:
        patient = PatientEngine(engine, 0)

        assert QueueFullError in set(pool.map(lambda _: _tried(patient), range(64)))


class Fragile(Work):
    """Work that the runtime fails on at some items."""

    columns, chunk_size, latent_size = {}, 8, 0

    def __init__(self, broken: set[int]) -> None:
        self._broken = broken

    def _index(self, place: int) -> int:
        return 100 + place

    def _render(self, chunk: Chunk, context: CallContext) -> Rendered:
        places = range(chunk.first, chunk.first + chunk.count)
        if self._broken & set(places):
            raise InferenceError("decoder", "not finite")
        return Rendered(tuple(Row(str(it), self._index(it), b"", {}) for it in places))


def test_an_item_that_the_runtime_fails_on_is_recorded_alone() -> None:
    rendered = Fragile({3}).render(Chunk(1, 4, ("a", "b", "c", "d")), context=CallContext())

    assert [row.index for row in rendered.rows] == [101, 102, 104]
    (fault,) = rendered.faults
    assert (fault.index, fault.source, fault.reason) == (103, "c", "InferenceError")


def test_a_runtime_that_fails_on_everything_ends_the_run() -> None:
    with pytest.raises(InferenceError):
        Fragile(set(range(8))).render(Chunk(0, 8), context=CallContext())


def _tried(engine: Engine) -> type | None:
    try:
        engine.infer(DECODER, LATENTS)
    except QueueFullError as error:
        return type(error)
    return None
