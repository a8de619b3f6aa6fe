from collections.abc import Callable
from typing import TYPE_CHECKING

from facegen.serving.call_context import CallContext

if TYPE_CHECKING:
    from tests.serving.scheduling.conftest import Rig

MakeRig = Callable[..., "Rig"]


class _Spans:
    """Keeps the stages of a call."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int, dict[str, str | int]]] = []

    def add(
        self, name: str, start_ns: int, end_ns: int, attributes: dict[str, str | int] | None = None
    ) -> None:
        self.stages.append((name, start_ns, end_ns, attributes or {}))


def test_requests_rows_and_executions_are_counted_apart(make_rig: MakeRig) -> None:
    rig = make_rig()
    held = rig.hold()
    answers = [rig.many(3), rig.many(2), rig.one(1)]
    rig.release()
    for answer in (held, *answers):
        answer.wait()

    counted = rig.statistics()

    assert counted.success.count == 4
    assert counted.inference_count == 7
    assert counted.execution_count == 3
    assert {rows: batch.compute_infer.count for rows, batch in counted.batches.items()} == {
        1: 1,
        4: 1,
        2: 1,
    }
    assert counted.queue.count == counted.compute_infer.count == 4
    assert counted.failures == {}
    assert counted.pending_rows == counted.pending_requests == 0
    assert counted.last_inference_ms > 0


def test_a_requests_times_are_within_the_time_until_its_answer(make_rig: MakeRig) -> None:
    rig = make_rig()
    for count in (1, 4, 9):  # the last one in several batches
        rig.many(count).wait()

    counted = rig.statistics()

    parts = (
        counted.queue,
        counted.compute_input,
        counted.compute_infer,
        counted.compute_output,
    )
    assert 0 < sum(part.total_ns for part in parts) <= counted.success.total_ns
    executed = sum(batch.compute_infer.total_ns for batch in counted.batches.values())
    assert counted.compute_infer.total_ns == executed


def test_each_request_of_a_batch_has_the_time_of_the_whole_batch(make_rig: MakeRig) -> None:
    rig = make_rig()
    answers = [rig.hold(), *(rig.one(value) for value in range(4))]
    rig.release()
    for answer in answers:
        answer.wait()

    counted = rig.statistics()

    alone, joined = counted.batches[1].compute_infer, counted.batches[4].compute_infer
    assert counted.compute_infer.total_ns == alone.total_ns + 4 * joined.total_ns


def test_a_client_that_asks_after_its_answer_finds_it_counted(make_rig: MakeRig) -> None:
    rig = make_rig()

    for count in range(1, 200):
        rig.one(1).wait()
        assert rig.statistics().success.count == count


def test_failures_are_counted_by_reason(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_rows=1)
    held = rig.hold()
    context = CallContext()
    cancelled = rig.one(1, context=context)
    context.cancel()
    late = rig.one(1, timeout_s=0.01)
    late.wait()
    poisoned = rig.one(-1)
    refused = rig.one(1)
    rig.release()
    for answer in (held, cancelled, poisoned, refused):
        answer.wait()

    counted = rig.statistics()

    assert {reason: failure.count for reason, failure in counted.failures.items()} == {
        "CANCELED": 1,
        "TIMEOUT": 1,
        "REJECTED": 1,
        "BACKEND": 1,
    }
    assert (counted.success.count, counted.execution_count) == (1, 1)


def test_what_waits_is_counted_and_what_runs_is_not(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    rig.many(5)
    rig.one(1)

    counted = rig.statistics()

    assert (counted.pending_rows, counted.pending_requests) == (6, 2)


def test_a_traced_request_shows_its_wait_its_batches_and_the_model_in_them(
    make_rig: MakeRig,
) -> None:
    rig = make_rig()
    rig.hold()
    spans = _Spans()
    traced = rig.many(5, spans=spans)
    rig.one(1)

    rig.release()
    traced.wait()

    assert [(name, facts) for name, _, _, facts in spans.stages] == [
        ("queue", {"rows": 5}),
        ("batch", {"rows": 4, "batch_rows": 4}),
        ("compute", {"rows": 4, "batch_rows": 4}),
        ("batch", {"rows": 1, "batch_rows": 2}),
        ("compute", {"rows": 1, "batch_rows": 2}),
    ]
    (_, came, begun, _), (_, joined, split, _), (_, ran, end, _) = spans.stages[:3]
    assert came <= begun <= joined <= ran <= end <= split


def test_a_request_that_never_ran_shows_how_long_it_waited(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    spans = _Spans()

    rig.one(1, spans=spans, timeout_s=0.01).wait()

    (name, start_ns, end_ns, _) = spans.stages[0]
    assert (name, len(spans.stages)) == ("queue", 1)
    assert end_ns - start_ns >= 9e6
