import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import Array, InferRequest
from facegen.serving.errors import (
    CallCancelledError,
    DeadlineError,
    EngineClosedError,
    InferenceError,
    QueueFullError,
    QueueTooLongError,
)

if TYPE_CHECKING:
    from tests.serving.scheduling.conftest import Answer, Rig

MakeRig = Callable[..., "Rig"]

_POISON = -1.0
_FOREVER_S = 1000.0


def _request() -> InferRequest:
    return InferRequest("double", {"x": np.zeros((1, 1), np.float32)})


def test_waiting_rows_are_joined_in_one_batch_as_soon_as_a_worker_is_free(
    make_rig: MakeRig,
) -> None:
    rig = make_rig()
    held = rig.hold()
    answers = [rig.one(value) for value in range(4)]

    rig.release()

    assert held.rows() == [2000]
    assert [answer.rows() for answer in answers] == [[0], [2], [4], [6]]
    assert rig.batches == [[1000], [0, 1, 2, 3]]


def test_a_large_request_is_split_and_joined_again(make_rig: MakeRig) -> None:
    rig = make_rig(concurrency=2)

    answer = rig.many(10)

    assert answer.rows() == [2 * value for value in range(10)]
    assert max(len(batch) for batch in rig.batches) <= 4


def test_rows_do_not_wait_for_a_batch_to_fill_unless_configured(make_rig: MakeRig) -> None:
    rig = make_rig(max_batch_rows=1000)

    rig.one(0).wait()

    assert rig.batches == [[0]]


def test_with_a_delay_a_batch_waits_until_it_is_full(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_delay_s=_FOREVER_S)
    answers = [rig.one(value) for value in range(3)]
    waiting = rig.statistics().pending_rows

    answers.append(rig.one(3))

    assert [answer.rows() for answer in answers] == [[0], [2], [4], [6]]
    assert waiting == 3
    assert rig.batches == [[0, 1, 2, 3]]


def test_after_the_delay_a_batch_runs_as_it_is(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_delay_s=0.01)

    answers = [rig.many(3, first=4 * index) for index in range(3)]

    assert [answer.rows()[0] for answer in answers] == [0, 8, 16]
    ran = sorted(value for batch in rig.batches for value in batch)
    assert ran == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_a_batch_of_a_preferred_size_does_not_wait(make_rig: MakeRig) -> None:
    rig = make_rig(max_batch_rows=16, max_queue_delay_s=_FOREVER_S, preferred_batch_rows=(2, 5))
    alone = rig.one(0)
    waiting = rig.statistics().pending_rows

    pair = rig.one(1)

    assert (alone.rows(), pair.rows()) == ([0], [2])
    assert waiting == 1
    assert rig.batches == [[0, 1]]


def test_no_batch_is_larger_than_the_largest_preferred_size(make_rig: MakeRig) -> None:
    rig = make_rig(max_batch_rows=16, preferred_batch_rows=(2, 5))
    rig.hold()
    answer = rig.many(9)

    rig.release()
    answer.wait()

    assert [len(batch) for batch in rig.batches] == [1, 5, 2, 2]


def test_a_large_request_does_not_starve_a_small_one_of_the_same_client(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(turn_rows=8)
    rig.hold()
    large, small = rig.many(100), rig.one(500)

    rig.release()
    large.wait()
    small.wait()

    assert [500.0 in batch for batch in rig.batches].index(True) == 3  # after one turn


def test_a_client_of_large_requests_cannot_starve_one_of_single_rows(make_rig: MakeRig) -> None:
    rig = make_rig(turn_rows=8, max_queue_rows=100_000)
    rig.hold()
    large = [rig.many(1000, first=10_000, client="greedy") for _ in range(5)]
    small = [rig.one(value, client="modest") for value in range(10)]

    rig.release()
    for answer in (*large, *small):
        answer.wait()

    turns = [index for index, batch in enumerate(rig.batches) if min(batch) < 10]
    assert turns == [3, 4, 7]  # eight rows after the other's eight, then the last two
    assert rig.answered[1:11] == small


def test_a_client_of_many_requests_cannot_starve_another(make_rig: MakeRig) -> None:
    rig = make_rig(turn_rows=4)
    rig.hold()
    for value in range(100, 400):
        rig.one(value, client="many")

    late = rig.one(1, client="late")
    rig.release()

    assert late.rows() == [2]
    assert [1.0 in batch for batch in rig.batches].index(True) == 2  # after one turn


def test_a_full_queue_refuses_rows_at_once_and_says_when_to_retry(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_rows=5)
    rig.hold()
    waiting = rig.many(5)

    refused = rig.one(0)

    assert refused.there
    with pytest.raises(QueueFullError, match="5 of 5") as caught:
        refused.rows()
    assert caught.value.retry_after_s > 0
    rig.release()
    assert len(waiting.rows()) == 5
    assert rig.statistics().pending_rows == 0


def test_what_cannot_be_in_time_is_refused_at_once(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    waiting = rig.many(1000)  # at a millisecond each, as long as nothing was measured

    hasty = rig.one(0, timeout_s=0.5)
    patient = rig.one(1, timeout_s=_FOREVER_S)

    assert hasty.there
    with pytest.raises(QueueTooLongError, match=r"about 1\.00 s") as caught:
        hasty.rows()
    assert caught.value.retry_after_s == pytest.approx(1.0)
    rig.release()
    assert patient.rows() == [2]
    assert len(waiting.rows()) == 1000
    assert rig.statistics().failures["REJECTED"].count == 1


def test_more_rows_than_the_queue_holds_are_taken_when_none_wait(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_rows=5)

    assert rig.many(50).rows() == [2 * value for value in range(50)]


def test_a_deadline_is_answered_at_its_time_while_the_worker_is_busy(make_rig: MakeRig) -> None:
    rig = make_rig()
    held = rig.hold()
    context = CallContext(timeout_s=0.1)

    late = rig.many(3, context=context)

    with pytest.raises(DeadlineError, match=r"within 0\.(100|09\d) s"):
        late.rows()
    assert context.left_s() == 0
    waited_ns = rig.statistics().failures["TIMEOUT"].total_ns
    assert 90e6 < waited_ns < 150e6
    assert not held.there
    rig.release()
    rig.batcher.close()
    assert rig.batches == [[1000]]  # the expired rows never ran


def test_a_deadline_is_answered_at_its_time_while_its_own_rows_run(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.gate.clear()

    late = rig.many(9, timeout_s=0.02)

    assert isinstance(late.wait(), DeadlineError)
    rig.release()
    rig.batcher.close()
    assert rig.batches == [[0, 1, 2, 3]]
    assert len(late.calls) == 1


def test_a_deadline_that_has_passed_is_answered_at_once(make_rig: MakeRig) -> None:
    rig = make_rig()

    late = rig.one(0, timeout_s=0)

    assert late.there
    assert isinstance(late.wait(), DeadlineError)
    assert rig.batches == []


def test_cancelled_rows_are_answered_at_once_and_never_run_and_neighbours_do(
    make_rig: MakeRig,
) -> None:
    rig = make_rig()
    rig.hold()
    context = CallContext()
    doomed, neighbour = rig.many(2, context=context), rig.many(2, first=10)

    context.cancel()

    assert doomed.there
    assert isinstance(doomed.wait(), CallCancelledError)
    rig.release()
    assert neighbour.rows() == [20, 22]
    assert rig.batches == [[1000], [10, 11]]


def test_a_neighbour_cancelled_while_its_batch_runs_harms_nobody(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    context = CallContext()
    doomed, neighbour = rig.many(2, context=context), rig.many(2, first=10)
    rig.release()
    rig.begins()

    context.cancel()

    assert neighbour.rows() == [20, 22]
    doomed.wait()
    rig.batcher.close()
    assert len(doomed.calls) == 1


def test_a_call_cancelled_before_it_comes_does_not_run(make_rig: MakeRig) -> None:
    rig = make_rig()
    context = CallContext()
    context.cancel()

    answer = rig.one(0, context=context)

    assert isinstance(answer.wait(), CallCancelledError)
    assert rig.batches == []


def test_one_bad_request_fails_alone(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    good, bad, other = rig.one(1), rig.many(2, first=_POISON), rig.one(2)

    rig.release()

    assert (good.rows(), other.rows()) == ([2], [4])
    with pytest.raises(InferenceError, match='model "double" failed: poisoned'):
        bad.rows()


def test_a_request_cancelled_while_its_batch_failed_is_not_run_again(make_rig: MakeRig) -> None:
    context = CallContext()
    batches: list[list[float]] = []

    def run(inputs: dict[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        batches.append(inputs["x"][:, 0].tolist())
        if len(inputs["x"]) > 1:
            context.cancel()
            raise ValueError("too much")
        return {"y": inputs["x"]}

    rig = make_rig(run=run, max_queue_delay_s=_FOREVER_S, max_batch_rows=2)

    doomed, good = rig.one(1, context=context), rig.one(2)

    assert isinstance(doomed.wait(), CallCancelledError)
    rig.batcher.close()
    assert good.rows() == [2]
    assert batches == [[1, 2], [2]]


def test_a_request_cancelled_while_its_rows_fail_is_answered_once(make_rig: MakeRig) -> None:
    context = CallContext()

    def run(inputs: dict[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        context.cancel()
        raise ValueError("too late")

    rig = make_rig(run=run)

    answer = rig.one(1, context=context)

    rig.batcher.close()
    assert [type(call) for call in answer.calls] == [CallCancelledError]
    assert set(rig.statistics().failures) == {"CANCELED"}


def test_the_rest_of_a_large_request_that_failed_does_not_run(make_rig: MakeRig) -> None:
    rig = make_rig()

    answer = rig.submit(np.full((40, 1), _POISON, np.float32))

    assert isinstance(answer.wait(), InferenceError)
    rig.batcher.close()
    assert len(rig.batches) == 1


def test_close_runs_and_answers_what_waits_and_refuses_what_comes(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_delay_s=_FOREVER_S)
    waiting = rig.many(3)

    rig.batcher.close()

    assert waiting.there
    assert waiting.rows() == [0, 2, 4]
    assert isinstance(rig.one(1).wait(), EngineClosedError)
    assert rig.statistics().failures == {}  # the model's next batcher answers, and counts, it


def test_buckets_fill_batches_to_powers_of_two_and_answers_have_no_filling(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(max_batch_rows=6, bucketed=True)

    answers = [rig.many(count).rows() for count in (1, 3, 5, 6)]

    assert [len(batch) for batch in rig.batches] == [1, 4, 6, 6]
    assert [len(answer) for answer in answers] == [1, 3, 5, 6]
    assert sorted(rig.statistics().batches) == [1, 3, 5, 6]


def test_free_workers_share_what_waits(make_rig: MakeRig) -> None:
    rig = make_rig(max_batch_rows=16, concurrency=2)
    rig.gate.clear()

    answer = rig.many(16)
    rig.begins()
    rig.begins()
    rig.release()

    answer.wait()
    assert sorted(len(batch) for batch in rig.batches) == [8, 8]


def test_no_more_executions_run_at_a_time_than_allowed(make_rig: MakeRig) -> None:
    busy = threading.Semaphore(2)

    def run(inputs: dict[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        assert busy.acquire(blocking=False), "one execution too many"
        busy.release()
        return {"y": inputs["x"]}

    rig = make_rig(run=run, worker_count=4, concurrency=2, max_batch_rows=1)

    assert len(rig.many(200).rows()) == 200


def test_a_model_that_loses_rows_is_told_and_nobody_gets_anothers_row(make_rig: MakeRig) -> None:
    rig = make_rig(run=lambda inputs, outputs: {"y": inputs["x"][1:]})

    with pytest.raises(InferenceError, match='output "y" has 2 rows for 3 rows of input'):
        rig.many(3).rows()


@pytest.mark.parametrize(
    "other",
    [np.ones((1, 2), np.float32), np.ones((1, 1), np.float64)],
    ids=["shape", "dtype"],
)
def test_rows_of_another_shape_or_dtype_share_no_batch_and_do_not_starve(
    make_rig: MakeRig, other: Array
) -> None:
    rig = make_rig(turn_rows=1000)
    rig.hold()
    first = [rig.one(value, client=str(value)) for value in range(5, 8)]
    odd = rig.submit(other, client="odd")
    more = [rig.one(value, client=str(value)) for value in range(8, 20)]

    rig.release()
    for answer in (*first, odd, *more):
        answer.wait()

    assert rig.batches[1:3] == [[5, 6, 7, 8], [1]]


def test_requests_for_other_outputs_share_no_batch(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.hold()
    both, one = rig.one(1, outputs=("y", "z")), rig.one(2, outputs=("y",))

    rig.release()

    assert both.rows() == [2]
    assert one.rows() == [4]
    assert set(both.wait()) == {"y", "z"}  # type: ignore[arg-type]  # rows() raises on errors
    assert rig.batches == [[1000], [1], [2]]


def test_without_a_batch_axis_each_request_runs_alone_as_it_is(make_rig: MakeRig) -> None:
    rig = make_rig(max_batch_rows=0, min_share_rows=2)
    rig.hold()
    answers = [rig.submit(np.full((3, 2), value), row_count=1) for value in range(2)]

    rig.release()

    assert [answer.rows() for answer in answers] == [[0] * 3, [2] * 3]
    assert rig.batches == [[1000], [0] * 3, [1] * 3]
    assert rig.statistics().inference_count == 3


def test_an_answer_that_its_caller_cannot_take_harms_nobody(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig()
    rig.hold()

    def broken(_: dict[str, Array] | FacegenError) -> None:
        raise RuntimeError("gone")

    rig.batcher.submit(_request(), 1, broken)
    good = rig.one(3)
    rig.release()

    assert good.rows() == [6]
    rig.batcher.close()
    assert "answering failed" in caplog.text


def test_an_error_of_our_own_costs_its_requests_but_no_worker(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenSpans:
        def add(self, *_: Any) -> None:
            raise RuntimeError("no trace")

    rig = make_rig(concurrency=1)

    answers = [rig.one(value, spans=BrokenSpans()) for value in range(3)]

    for answer in answers:
        assert isinstance(answer.wait(), InferenceError)
    assert rig.one(4).rows() == [8]
    assert "batch broke" in caplog.text


def test_a_long_call_does_not_keep_what_was_answered(make_rig: MakeRig) -> None:
    rig = make_rig(max_queue_delay_s=_FOREVER_S, max_batch_rows=1)
    context = CallContext(timeout_s=_FOREVER_S)
    rows = np.zeros((1, 1), np.float32)
    rows_alive = weakref.ref(rows)

    rig.submit(rows, context=context).wait()
    del rows
    rig.batches.clear()
    rig.one(1).wait()  # the worker lets go of its last batch
    rig.batcher.close()

    assert rows_alive() is None


def test_a_call_that_learns_late_whom_to_tell_of_its_end_keeps_nothing(make_rig: MakeRig) -> None:
    answered = threading.Event()

    class SlowContext(CallContext):
        def on_cancel(self, callback: Callable[[], None]) -> None:
            assert answered.wait(60)
            super().on_cancel(callback)

    rig = make_rig()
    context = SlowContext()
    rows = np.zeros((1, 1), np.float32)
    rows_alive = weakref.ref(rows)
    request = InferRequest("double", {"x": rows}, context=context)

    rig.batcher.submit(request, 1, lambda answer: answered.set())
    del rows, request
    rig.batcher.close()

    assert rows_alive() is None


def test_an_answer_may_submit_the_next_request(make_rig: MakeRig) -> None:
    rig = make_rig(concurrency=1)
    last: list[Answer] = []
    ended = threading.Event()

    def again(count: int) -> Callable[[dict[str, Array] | FacegenError], None]:
        def done(_: dict[str, Array] | FacegenError) -> None:
            if count:
                submit(count - 1)
            else:
                last.append(rig.one(7))
                ended.set()

        return done

    def submit(count: int) -> None:
        rig.batcher.submit(_request(), 1, again(count))

    submit(50)

    assert ended.wait(60)
    assert last[0].rows() == [14]
